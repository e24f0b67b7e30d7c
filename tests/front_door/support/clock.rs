//! A clock that stands still until a test moves it.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
};

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
        let begun = *now.borrow();
        Box::pin(async move {
            // Who sleeps while a real clock is set back wakes when he has slept long enough.
            let _ = now.wait_for(|now| *now >= until || *now < begun).await;
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

/// Time that a test moves, and that can hold up a worker of the node in the moment in which it looks at it.
#[derive(Debug)]
pub struct HoldingTime {
    time: Arc<ManualTime>,
    hold: Mutex<Hold>,
    released: Condvar,
}

#[derive(Debug, PartialEq, Eq)]
enum Hold {
    Nobody,
    /// Whoever looks after so many more looks.
    After(u32),
    Holding,
}

impl HoldingTime {
    pub fn at(start: Timestamp) -> Arc<Self> {
        Arc::new(Self { time: ManualTime::at(start), hold: Mutex::new(Hold::Nobody), released: Condvar::new() })
    }

    pub fn set(&self, now: Timestamp) {
        self.time.set(now);
    }

    /// Holds up the next worker but so many, with what it saw.
    pub fn hold_a_worker_after(&self, looks: u32) {
        *self.hold.lock().unwrap() = Hold::After(looks);
    }

    pub fn holds(&self) -> bool {
        *self.hold.lock().unwrap() == Hold::Holding
    }

    pub fn release(&self) {
        *self.hold.lock().unwrap() = Hold::Nobody;
        self.released.notify_all();
    }

    fn hold_up(&self) {
        let mut hold = self.hold.lock().unwrap();
        *hold = match *hold {
            Hold::After(0) => Hold::Holding,
            Hold::After(looks) => return *hold = Hold::After(looks - 1),
            Hold::Nobody | Hold::Holding => return,
        };
        drop(self.released.wait_while(hold, |hold| *hold == Hold::Holding).unwrap());
    }
}

impl TimeSource for HoldingTime {
    fn now(&self) -> Timestamp {
        let now = self.time.now();
        // Workers have names, and so has the ledger's thread; the node's own thread, with the clock, has none.
        if std::thread::current().name().is_some_and(|name| name != "ledger") {
            self.hold_up();
        }
        now
    }

    fn wait_until(&self, until: Timestamp) -> Pin<Box<dyn Future<Output = ()>>> {
        self.time.wait_until(until)
    }
}
