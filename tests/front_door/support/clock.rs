//! Clocks that stand still until a test moves them.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
};

use handsup::test_support::{domain::Timestamp, time_source::TimeSource};
use tokio::sync::watch;

/// 12:00 in Seoul, where the service is used.
pub fn noon_in_seoul() -> Timestamp {
    Timestamp::parse_rfc3339("2026-11-22T03:00:00Z").unwrap()
}

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
        let begun = *now.borrow();
        Box::pin(async move {
            // A sleeper wakes when a real clock is set back, after its interval.
            let _ = now.wait_for(|now| *now >= until || *now < begun).await;
        })
    }
}

/// Time that a test moves, with no timer firing before [`wake`](Self::wake): until then nothing happens through the
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

    /// From now on timers fire.
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

/// Time that a test moves, and that can hold up a worker of the node while it reads the time.
#[derive(Debug)]
pub struct HoldingTime {
    time: Arc<ManualTime>,
    hold: Mutex<Hold>,
    released: Condvar,
}

#[derive(Debug, PartialEq, Eq)]
enum Hold {
    Off,
    /// The next reader after this many more reads.
    After(u32),
    Holding,
}

impl HoldingTime {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { time: ManualTime::at(start), hold: Mutex::new(Hold::Off), released: Condvar::new() })
    }

    pub fn set(&self, now: Timestamp) {
        self.time.set(now);
    }

    /// Holds up a worker after `reads` more reads. It goes on with the time that it has read.
    pub fn hold_worker_after(&self, reads: u32) {
        *self.hold.lock().unwrap() = Hold::After(reads);
    }

    pub fn holds(&self) -> bool {
        *self.hold.lock().unwrap() == Hold::Holding
    }

    pub fn release(&self) {
        *self.hold.lock().unwrap() = Hold::Off;
        self.released.notify_all();
    }

    fn hold_up(&self) {
        let mut hold = self.hold.lock().unwrap();
        *hold = match *hold {
            Hold::After(0) => Hold::Holding,
            Hold::After(reads) => return *hold = Hold::After(reads - 1),
            Hold::Off | Hold::Holding => return,
        };
        drop(self.released.wait_while(hold, |hold| *hold == Hold::Holding).unwrap());
    }
}

impl TimeSource for HoldingTime {
    fn now(&self) -> Timestamp {
        let now = self.time.now();
        // Worker threads and the ledger's thread have names; the node's own thread, which runs the clock, has none.
        if std::thread::current().name().is_some_and(|name| name != "ledger") {
            self.hold_up();
        }
        now
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        self.time.wait_until(until)
    }
}
