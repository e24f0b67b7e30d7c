//! What a session learns from what its client sends: that the client is alive, and which alarms it has received.
//!
//! The server sends a ping with an alarm's number right behind that alarm. The pong repeats the number, and so proves
//! that the client has every frame before the ping.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::{
    actors::delivery::{outbox::Outbox, receipts::Receipts},
    domain::{AlarmCursor, AlarmId, UserId},
};

/// The liveness of one session. Its actor and its `FrameReader`, which handles pongs, share it.
pub(crate) struct Liveness {
    /// When the client last sent something.
    received_at: Cell<Instant>,
    outbox: Rc<RefCell<Outbox>>,
    /// The user, and where confirmed alarms are reported; `None` in a room, where nothing is confirmed.
    receipts: Option<(UserId, Receipts)>,
    /// The last alarm that was reported as received.
    confirmed: Cell<AlarmCursor>,
}

impl Liveness {
    pub(crate) fn new(outbox: Rc<RefCell<Outbox>>, receipts: Option<(UserId, Receipts)>) -> Rc<Self> {
        Rc::new(Self {
            received_at: Cell::new(Instant::now()),
            outbox,
            receipts,
            confirmed: Cell::new(AlarmCursor::START),
        })
    }

    /// Notes that the client has just sent something.
    pub(crate) fn touch(&self) {
        self.received_at.set(Instant::now());
    }

    /// How long the client has sent nothing.
    pub(crate) fn silent_for(&self) -> Duration {
        self.received_at.get().elapsed()
    }

    /// Handles a pong, whose payload is the number of the last alarm before its ping. A client can send any number, so
    /// one beyond the last alarm sent counts as that alarm.
    pub(crate) fn pong(&self, payload: &[u8]) {
        self.touch();
        let claimed = std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
        let last = self.outbox.borrow().taken();
        self.confirm(AlarmCursor::from_number(claimed.unwrap_or(0)).min(last));
    }

    /// Handles an `ack` frame: the client says that it has every alarm up to this one.
    pub(crate) fn acknowledge(&self, up_to: i64) {
        let last = self.outbox.borrow().acknowledgeable();
        self.confirm(AlarmCursor::from_number(up_to).min(last));
    }

    fn confirm(&self, up_to: AlarmCursor) {
        if let Some((user, receipts)) = &self.receipts
            && up_to > self.confirmed.get()
            && !self.outbox.borrow().is_closed()
            && let Some(id) = AlarmId::new(up_to.get())
        {
            self.confirmed.set(up_to);
            self.outbox.borrow_mut().prove(id);
            receipts.add(*user, id);
        }
    }
}
