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

/// Time that a test moves and that wakes nobody before it is told to: what happens until then, happens without the
/// auction clock.
#[derive(Debug)]
pub struct SilentTime {
    time: Arc<ManualTime>,
    wakes: watch::Sender<bool>,
}

impl SilentTime {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { time: ManualTime::at(start), wakes: watch::Sender::new(false) })
    }

    pub fn set(&self, now: Timestamp) {
        self.time.set(now);
    }

    /// From now on it wakes whoever waits.
    pub fn wake(&self) {
        self.wakes.send_replace(true);
    }
}

impl TimeSource for SilentTime {
    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        let (time, mut wakes) = (self.time.wait_until(until), self.wakes.subscribe());
        Box::pin(async move {
            let _ = wakes.wait_for(|wakes| *wakes).await;
            time.await;
        })
    }
}
