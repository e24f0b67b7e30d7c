//! Where the time comes from: the machine's clock, or a clock that a test moves.
//!
//! Rules get `now` as an argument. Only the code around them, such as actors and handlers, asks a [`TimeSource`].

use std::{future::Future, pin::Pin, time::Duration};

use crate::domain::Timestamp;

/// A clock, with a timer that follows it.
pub trait TimeSource: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Resolves when it is `until`, if nobody sets the clock meanwhile. If somebody does, it resolves early or late:
    /// the caller checks [`now`](Self::now) afterwards, and waits in short steps if being late matters.
    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// The machine's clock, which NTP should keep right.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemTime;

impl TimeSource for SystemTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_chrono(chrono::Utc::now())
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        let micros = until.micros().saturating_sub(self.now().micros()).max(0);
        Box::pin(tokio::time::sleep(Duration::from_micros(micros.unsigned_abs())))
    }
}
