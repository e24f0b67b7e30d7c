//! What a client proves by what it sends: that it lives, and by the pong to a ping behind the frames that it has these.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::actors::delivery::outbox::Outbox;
use crate::{
    actors::delivery::received::Receipts,
    domain::{AlarmId, UserId},
};

/// Of one session, shared between its actor and who hears its pongs.
pub(crate) struct Liveness {
    /// The last sign of life.
    heard_at: Cell<Instant>,
    outbox: Rc<RefCell<Outbox>>,
    /// Whose receipt of alarms is told, and to whom; nobody's in a room.
    receipts: Option<(UserId, Receipts)>,
    /// The last alarm whose receipt has been told.
    received: Cell<i64>,
}

impl Liveness {
    pub(crate) fn new(outbox: Rc<RefCell<Outbox>>, receipts: Option<(UserId, Receipts)>) -> Rc<Self> {
        Rc::new(Self { heard_at: Cell::new(Instant::now()), outbox, receipts, received: Cell::new(0) })
    }

    /// Something has come.
    pub(crate) fn lives(&self) {
        self.heard_at.set(Instant::now());
    }

    /// For how long nothing has come.
    pub(crate) fn silent_for(&self) -> Duration {
        self.heard_at.get().elapsed()
    }

    /// A pong has come. It has the number of the last alarm before its ping, unless somebody has made it up: nobody can
    /// have what was not sent.
    pub(crate) fn pong(&self, payload: &[u8]) {
        self.lives();
        let asked: Option<i64> = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        let last = self.outbox.borrow().taken();
        self.received(asked.unwrap_or(0).min(last));
    }

    /// The client says that it has everything up to this alarm.
    pub(crate) fn acknowledged(&self, up_to: i64) {
        let last = self.outbox.borrow().acknowledgeable();
        self.received(up_to.min(last));
    }

    fn received(&self, up_to: i64) {
        if let Some((user, receipts)) = &self.receipts
            && up_to > self.received.get()
            && !self.outbox.borrow().is_closed()
            && let Some(id) = AlarmId::new(up_to)
        {
            self.received.set(up_to);
            receipts.add(*user, id);
        }
    }
}
