//! Which alarms a session has been given, and which it has to read from the store. So it gets its alarms without a gap,
//! a duplicate or disorder.
//!
//! The cursor is the last alarm put into the outbox. While a session catches up, it reads the store from there. Alarms
//! that arrive live meanwhile are not queued; only the newest one is noted, and the session reads on until its cursor
//! has reached it. Ids rise in commit order, so no alarm is skipped.

use crate::domain::{AlarmCursor, AlarmId};

/// What the outbox did with a live frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offered {
    /// Put it in.
    Queued,
    /// Noted its id: the session will read it from the store.
    Noted,
    /// Nothing: the alarm was put in before.
    Stale,
    /// Dropped it and everything that waits, and began to close the session: the outbox is full.
    Overflow,
    /// Nothing: the session is closing or closed.
    Closed,
}

/// The alarms of one session.
pub(super) struct Alarms {
    /// The last alarm put in; the session's start before the first.
    cursor: AlarmCursor,
    /// The store has been read up to here. Alarms between `cursor` and this one are not for this session (muted,
    /// superseded).
    covered: AlarmCursor,
    /// Where the session started.
    began_after: AlarmCursor,
    /// The newest alarm that the socket has taken.
    pub taken: AlarmCursor,
    state: CatchUp,
}

/// Whether live alarms are queued.
enum CatchUp {
    /// They are.
    Live,
    /// They are noted, and the session reads the store.
    Behind {
        noted: Noted,
        /// What was noted before the running read began, which will therefore find it.
        noted_before_read: Noted,
    },
}

/// How far the session has to read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Noted {
    UpTo(AlarmCursor),
    /// Alarms may have been lost, and it is not known which.
    Unknown,
}

/// Only the end of the inbox has to be found.
const NOTHING: Noted = Noted::UpTo(AlarmCursor::START);

impl Alarms {
    /// A new session has to read its inbox.
    pub(super) fn new() -> Self {
        let state = CatchUp::Behind { noted: NOTHING, noted_before_read: NOTHING };
        let start = AlarmCursor::START;
        Self { cursor: start, covered: start, began_after: start, taken: start, state }
    }

    pub(super) fn begin_after(&mut self, cursor: AlarmCursor) {
        (self.cursor, self.began_after) = (cursor, cursor);
    }

    /// Whether a live alarm may be queued now; `previous` is the end of the user's inbox before it. If alarms may be
    /// missing, notes it.
    pub(super) fn offer(&mut self, id: AlarmId, previous: AlarmCursor) -> Offered {
        let id = AlarmCursor::after(id);
        match self.state {
            CatchUp::Live if id <= self.cursor => Offered::Stale,
            CatchUp::Live if previous <= self.complete_up_to() => Offered::Queued,
            _ => {
                self.read_up_to(Noted::UpTo(id));
                Offered::Noted
            }
        }
    }

    /// Advances the cursor to an alarm; false if that was put in before.
    pub(super) fn advance(&mut self, id: AlarmId) -> bool {
        let is_new = AlarmCursor::after(id) > self.cursor;
        if is_new {
            self.cursor = AlarmCursor::after(id);
        }
        is_new
    }

    /// Up to where the session has all alarms.
    pub(super) fn complete_up_to(&self) -> AlarmCursor {
        self.cursor.max(self.covered)
    }

    /// Makes the session read the store.
    pub(super) fn read_up_to(&mut self, upto: Noted) {
        match &mut self.state {
            CatchUp::Live => self.state = CatchUp::Behind { noted: upto, noted_before_read: NOTHING },
            CatchUp::Behind { noted, .. } => *noted = upto.max(*noted),
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, CatchUp::Live)
    }

    /// Begins a read of the store after the cursor. It will find every alarm noted so far.
    pub(super) fn begin_reading(&mut self) -> AlarmCursor {
        if let CatchUp::Behind { noted, noted_before_read } = &mut self.state {
            *noted_before_read = (*noted_before_read).max(std::mem::replace(noted, NOTHING));
        }
        self.cursor
    }

    /// A read has reached the end of the inbox. The session is live from now on, unless a newer alarm was noted
    /// meanwhile.
    pub(super) fn reached_inbox_end(&mut self) {
        let CatchUp::Behind { noted, noted_before_read } = self.state else { return };
        // An alarm noted before the read was stored by then; if the read did not bring it, it is not for this session.
        if let Noted::UpTo(found) = noted_before_read {
            self.covered = self.covered.max(found);
        }
        self.state = if noted <= Noted::UpTo(self.cursor) {
            CatchUp::Live
        } else {
            CatchUp::Behind { noted, noted_before_read: NOTHING }
        };
    }

    /// The newest alarm that the client can acknowledge: the newest one sent, or the one after which its session
    /// started.
    pub(super) fn acknowledgeable(&self) -> AlarmCursor {
        self.taken.max(self.began_after)
    }
}
