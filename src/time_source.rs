//! Where time comes from: the machine's clock, or one that a test moves. Rules take `now` as an argument;
//! only the shells ask here.

use std::{future::Future, pin::Pin, time::Duration};

use crate::domain::Timestamp;

/// A clock that can also wake somebody.
pub trait TimeSource: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Resolves when `until` has come by this clock as it runs now. A clock that is set meanwhile makes it early or
    /// late: who waits looks at [`now`](Self::now) again, and now and then meanwhile if it matters.
    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// The machine's clock (kept by NTP).
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
