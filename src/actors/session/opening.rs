//! What a session opens with: settings, the way to the rest of the house, and its seat.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Addr;

use super::outbox::{Outbox, OutboxLimits};
use crate::{
    actors::{
        hub::{AlarmHub, Leave},
        registry::Seat,
        shard::ShardHandle,
    },
    domain::{Locale, Timestamp, UserId},
    store::{Ledger, Store},
    time_source::TimeSource,
};

/// Settings of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// `session.heartbeat_s`
    pub heartbeat: Duration,
    /// `session.timeout_s`
    pub timeout: Duration,
    /// `session.max_pending`
    pub max_pending: usize,
    /// `session.max_pending_bytes`
    pub max_pending_bytes: usize,
    /// `limits.frame_bytes`
    pub frame_bytes: usize,
}

/// What became of a token that a client sent on a live socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Whose it is, and until when.
    Good(UserId, Timestamp),
    /// It is bad in some way.
    Refused,
    /// Its user can't be looked up now.
    Unknown,
}

/// A judgement on its way.
pub type Judged = Pin<Box<dyn Future<Output = Judgement>>>;

/// Judges a token that a client sends on a live socket.
pub trait Authenticate {
    /// Looks at the token.
    fn authenticate(&self, token: String) -> Judged;
}

/// What a session needs to open.
pub struct SessionOpening {
    /// The token's user.
    pub user: UserId,
    /// When the token expires.
    pub expires_at: Timestamp,
    /// `?since=`: send what comes after this alarm; without it, what was never received.
    pub since: Option<i64>,
    /// Whether the client wants the `hello` frame.
    pub modern: bool,
    /// This worker's shard.
    pub shard: ShardHandle,
    /// Where the session registers.
    pub hub: Addr<AlarmHub>,
    /// Where the backlog is.
    pub store: Store,
    /// Where what is read is written down.
    pub ledger: Ledger,
    /// The clock.
    pub time: Arc<dyn TimeSource>,
    /// Language of texts.
    pub locale: Locale,
    /// Settings.
    pub limits: SessionLimits,
    /// Judges fresh tokens.
    pub authenticate: Rc<dyn Authenticate>,
}

/// A session's seat, given back when the session goes, however it goes.
pub(super) struct Place {
    pub(super) user: UserId,
    pub(super) seat: Seat,
    pub(super) hub: Addr<AlarmHub>,
    pub(super) outbox: Rc<RefCell<Outbox>>,
    shard: ShardHandle,
}

impl Place {
    /// Takes a seat, with an empty outbox, on this worker's shard.
    pub(super) fn take(opening: &SessionOpening) -> Rc<Self> {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let SessionLimits { max_pending, max_pending_bytes, .. } = opening.limits;
        let limits = OutboxLimits { frames: max_pending, bytes: max_pending_bytes };
        let outbox = Rc::new(RefCell::new(Outbox::new(limits, opening.shard.waiting())));
        let slot = opening.shard.seat(connection, Rc::clone(&outbox));
        Rc::new(Self {
            user: opening.user,
            seat: Seat { shard: opening.shard.index(), slot, connection },
            hub: opening.hub.clone(),
            outbox,
            shard: opening.shard.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.outbox.borrow_mut().finish();
        self.shard.unseat(self.seat.slot, self.seat.connection);
        self.hub.do_send(Leave { user: self.user, connection: self.seat.connection });
    }
}
