//! What every session opens with: settings, the way to the rest of the house, and its place.

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
use bytes::Bytes;
use tokio::time::timeout;

use crate::actors::delivery::outbox::{Outbox, OutboxLimits};
use crate::{
    actors::{
        delivery::{
            alarm_hub::{AlarmHub, Leave, Register},
            registry::Seat,
            shard::ShardHandle,
        },
        room_id::RoomId,
        rooms::rooms::{Enter, GoOut, Rooms},
    },
    bus::IfFull,
    domain::{Locale, Timestamp, User, UserId},
    protocol::Close,
    time_source::TimeSource,
};

/// How long a handshake waits for its place.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

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

/// Whose token opened a socket, and until when it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signed {
    /// The token's user.
    pub user: UserId,
    /// When the token expires.
    pub expires_at: Timestamp,
}

/// What became of a token that a client sent on a live socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthOutcome {
    /// Whose it is, and until when.
    Good(Signed),
    /// It is bad in some way.
    Refused,
    /// Its user can't be looked up now.
    Unknown,
}

/// A judgement on its way.
pub type AuthFuture = Pin<Box<dyn Future<Output = AuthOutcome>>>;

/// How fast somebody sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateVerdict {
    /// Within the rate.
    Fine,
    /// Over it: the frame is refused.
    TooFast,
    /// So far over it that the socket ends.
    Flood,
}

/// Knows who is on the other end of a socket, as requests know it.
pub trait SocketAuth {
    /// Looks at a token that came over the socket.
    fn authenticate(&self, token: String) -> AuthFuture;

    /// The user as he is known now (his name may have changed since the socket opened); `None` for a visitor.
    fn user(&self) -> Option<Arc<User>>;

    /// Whether the user has a row that what they write can point to. If not, one is being written: it may be there when
    /// they try again.
    fn may_write(&self) -> bool;

    /// Counts a bid.
    fn bid_pace(&self) -> RateVerdict;

    /// Counts any other frame of a room.
    fn line_pace(&self) -> RateVerdict;

    /// Language of texts.
    fn locale(&self) -> Locale;
}

/// What every session needs to open.
pub struct SessionContext {
    /// Whose token; `None`: a visitor.
    pub signed: Option<Signed>,
    /// This worker's shard.
    pub shard: ShardHandle,
    /// Where the sessions of users register.
    pub hub: Addr<AlarmHub>,
    /// The clock.
    pub time: Arc<dyn TimeSource>,
    /// Settings.
    pub limits: SessionLimits,
    /// Who is at the other end.
    pub doorkeeper: Rc<dyn SocketAuth>,
}

/// A session's seat, and its place in a room, given back when the session goes, however it goes.
pub(crate) struct Registration {
    pub(crate) seat: Seat,
    pub(crate) outbox: Rc<RefCell<Outbox>>,
    user: Option<UserId>,
    room: Option<(Addr<Rooms>, RoomId)>,
    hub: Addr<AlarmHub>,
    shard: ShardHandle,
}

impl Registration {
    /// Takes a seat that hears alarms; it has yet to register.
    pub(crate) fn for_alarms(opening: &SessionContext, user: UserId) -> Rc<Self> {
        let outbox = Outbox::of_alarms(outbox_limits(opening), opening.shard.waiting());
        Rc::new(Self::take(opening, outbox, Some(user), None))
    }

    /// Takes a seat in a room (whose auction may be over), with a first frame for this socket alone. The socket hears
    /// everything that is committed after this returns.
    pub(crate) async fn in_room(
        opening: &SessionContext,
        rooms: &Addr<Rooms>,
        (room, is_over): (RoomId, bool),
        first: Option<Bytes>,
    ) -> Rc<Self> {
        let mut outbox = Outbox::of_room(outbox_limits(opening), opening.shard.waiting());
        if let Some(first) = first {
            outbox.control(first);
        }
        let user = opening.signed.map(|signed| signed.user);
        let place = Self::take(opening, outbox, user, Some((rooms.clone(), room)));
        let close = |close| place.outbox.borrow_mut().close(close);
        if let Some(user) = user {
            let (seat, if_full, at) = (place.seat, IfFull::OldestGoes, opening.time.now());
            let register = Register { user, seat, hears_alarms: false, if_full, at };
            if !matches!(timeout(PATIENCE, opening.hub.send(register)).await, Ok(Ok(Ok(_)))) {
                close(Close::TryAgainLater);
            }
            // He may have been made inactive since the handshake was looked at; from here on the hub finds this seat.
            if opening.doorkeeper.user().is_some_and(|user| !user.is_active) {
                close(Close::TokenRefused);
            }
        }
        let is_open = !place.outbox.borrow().is_closed();
        if is_open {
            let (user, connection) = (opening.doorkeeper.user(), place.seat.connection);
            let enter = Enter { room, user, connection, is_over };
            if !matches!(timeout(PATIENCE, rooms.send(enter)).await, Ok(Ok(true))) {
                place.outbox.borrow_mut().close(Close::TryAgainLater);
            }
        }
        Rc::new(place)
    }

    fn take(
        opening: &SessionContext,
        outbox: Outbox,
        user: Option<UserId>,
        room: Option<(Addr<Rooms>, RoomId)>,
    ) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        let outbox = Rc::new(RefCell::new(outbox));
        let slot = opening.shard.seat(connection, Rc::clone(&outbox), room.as_ref().map(|(_, room)| *room));
        let seat = Seat { shard: opening.shard.index(), slot, connection };
        Self { seat, outbox, user, room, hub: opening.hub.clone(), shard: opening.shard.clone() }
    }
}

fn outbox_limits(opening: &SessionContext) -> OutboxLimits {
    let SessionLimits { max_pending, max_pending_bytes, .. } = opening.limits;
    OutboxLimits { frames: max_pending, bytes: max_pending_bytes }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.outbox.borrow_mut().finish();
        self.shard.unseat(self.seat.slot, self.seat.connection);
        if let Some(user) = self.user {
            self.shard.receipts.tell();
            self.hub.do_send(Leave { user, connection: self.seat.connection });
        }
        if let Some((rooms, room)) = &self.room {
            rooms.do_send(GoOut { room: *room, connection: self.seat.connection });
        }
    }
}
