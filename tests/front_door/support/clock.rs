//! A clock that stands still until a test moves it.

use std::{future::Future, pin::Pin, sync::Arc};

use handsup::{domain::Timestamp, time_source::TimeSource};
use tokio::sync::watch;

/// Time that a test moves.
#[derive(Debug)]
pub struct ManualTime(watch::Sender<Timestamp>);

impl ManualTime {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(start)))
    }

    pub fn advance_ms(&self, ms: i64) {
        self.0.send_modify(|now| *now = now.plus_ms(ms));
    }

    pub fn set(&self, now: Timestamp) {
        self.0.send_replace(now);
    }
}

impl TimeSource for ManualTime {
    fn now(&self) -> Timestamp {
        *self.0.borrow()
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            let _ = now.wait_for(|now| *now >= until).await;
        })
    }
}
