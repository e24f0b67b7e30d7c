//! What every session needs to open: [`SessionContext`] with its settings and the actors it talks to, [`SocketAuth`]
//! for tokens and rates, and [`Registration`] with its hub, shard and room.

use std::{cell::RefCell, pin::Pin, rc::Rc, sync::Arc, time::Duration};

use actix::Addr;
use bytes::Bytes;
use tokio::time::timeout;

use crate::{
    actors::{
        delivery::{
            alarm_hub::{AlarmHub, Register, Unregister},
            outbox::{Outbox, OutboxLimits},
            registry::SessionLocation,
            worker_outboxes::WorkerOutboxes,
        },
        room_id::RoomId,
        rooms::rooms::{EnterRoom, LeaveRoom, Rooms},
    },
    bus::{ConnectionId, IfFull},
    domain::{Locale, Timestamp, User, UserId},
    protocol::Close,
    time_source::TimeSource,
};

/// How long a session that opens waits for the hub, and for its room.
pub(crate) const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(2);

/// The settings of every session.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    pub heartbeat: Duration,
    pub timeout: Duration,
    pub max_pending: usize,
    pub max_pending_bytes: usize,
    pub frame_bytes: usize,
}

/// The user that a valid token names, and how long the token is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub user: UserId,
    pub expires_at: Timestamp,
}

/// The result of checking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthOutcome {
    Valid(Authenticated),
    /// The token is invalid or expired, or its user is inactive.
    Invalid,
    /// The token could not be checked, for example because the database is down.
    Unavailable,
}

/// A token check under way.
pub(crate) type AuthFuture = Pin<Box<dyn Future<Output = AuthOutcome>>>;

/// Whether somebody sends too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateVerdict {
    /// Within the rate.
    Fine,
    /// Over the rate: the frame is refused.
    TooFast,
    /// So far over the rate that the socket is closed.
    Flood,
}

/// Answers a session's questions about its user: tokens, current state, rates. HTTP implements it.
pub(crate) trait SocketAuth {
    /// Checks a token that arrived over the socket.
    fn authenticate(&self, token: String) -> AuthFuture;

    /// The user as last known, whose name and state may have changed since the socket opened; `None` for a visitor.
    fn user(&self) -> Option<Arc<User>>;

    /// Whether the user's row is stored, which their bids and lines need. If not, this starts to store it: the next try
    /// may succeed.
    fn may_write(&self) -> bool;

    /// Counts a bid towards the user's rate of bids.
    fn count_bid(&self) -> RateVerdict;

    /// Counts any other frame of a room towards the rate of lines.
    fn count_line(&self) -> RateVerdict;

    /// The language of texts for users who have chosen none.
    fn default_locale(&self) -> Locale;

    /// The language of the user's texts, as last known.
    fn locale(&self) -> Locale {
        self.user().and_then(|user| user.locale).unwrap_or_else(|| self.default_locale())
    }
}

/// What every session needs to open.
pub(crate) struct SessionContext {
    /// The user that the token names; `None`: a visitor.
    pub authenticated: Option<Authenticated>,
    /// The shard of the worker that the session runs on.
    pub shard: WorkerOutboxes,
    /// Where sessions with a user register.
    pub hub: Addr<AlarmHub>,
    /// The time by which tokens expire.
    pub time: Arc<dyn TimeSource>,
    pub limits: SessionLimits,
    /// Answers questions about the user.
    pub auth: Rc<dyn SocketAuth>,
}

impl SessionContext {
    /// Whether the token has expired.
    pub(crate) fn has_expired(&self) -> bool {
        self.authenticated.is_some_and(|token| self.time.now() >= token.expires_at)
    }
}

/// A session's entries in the shard, the hub and its room. Dropping it removes them all, however the session ends.
pub(crate) struct Registration {
    pub(crate) location: SessionLocation,
    pub(crate) outbox: Rc<RefCell<Outbox>>,
    user: Option<UserId>,
    room: Option<(Addr<Rooms>, RoomId)>,
    hub: Addr<AlarmHub>,
    shard: WorkerOutboxes,
}

impl Registration {
    /// Adds a session that receives alarms to the shard. `Backlog` registers it with the hub.
    pub(crate) fn for_alarms(context: &SessionContext, user: UserId) -> Rc<Self> {
        let outbox = Outbox::of_alarms(outbox_limits(context), context.shard.worker());
        Rc::new(Self::new(context, outbox, Some(user), None))
    }

    /// Adds a session to the shard, the hub and a room, whose auction may be over. `first` is a frame for this socket
    /// alone. The socket receives every event of the room that is committed after this returns. If a step fails, the
    /// outbox holds the close to send.
    pub(crate) async fn in_room(
        context: &SessionContext,
        rooms: &Addr<Rooms>,
        (room, is_over): (RoomId, bool),
        first: Option<Bytes>,
    ) -> Rc<Self> {
        let mut outbox = Outbox::of_room(outbox_limits(context), context.shard.worker());
        if let Some(first) = first {
            outbox.control(first);
        }
        let user = context.authenticated.map(|token| token.user);
        let registration = Self::new(context, outbox, user, Some((rooms.clone(), room)));
        let close = |close| registration.outbox.borrow_mut().close(close);
        if let Some(user) = user {
            let (location, if_full, at) = (registration.location, IfFull::EvictOldest, context.time.now());
            // It gets no alarms, so its language is of no use to the hub.
            let register = Register { user, location, receives_alarms: false, if_full, locale: None, at };
            if !matches!(timeout(REGISTRATION_TIMEOUT, context.hub.send(register)).await, Ok(Ok(Ok(_)))) {
                close(Close::TryAgainLater);
            }
            // An admin may have made the user inactive since the handshake. From here on the hub knows the
            // session and would close it.
            if context.auth.user().is_some_and(|user| !user.is_active) {
                close(Close::TokenRefused);
            }
        }
        let is_open = !registration.outbox.borrow().is_closed();
        if is_open {
            let (user, connection) = (context.auth.user(), registration.location.connection);
            let enter = EnterRoom { room, user, connection, is_over };
            if !matches!(timeout(REGISTRATION_TIMEOUT, rooms.send(enter)).await, Ok(Ok(true))) {
                registration.outbox.borrow_mut().close(Close::TryAgainLater);
            }
        }
        Rc::new(registration)
    }

    /// Adds a session to the shard.
    fn new(
        context: &SessionContext,
        outbox: Outbox,
        user: Option<UserId>,
        room: Option<(Addr<Rooms>, RoomId)>,
    ) -> Self {
        let connection = ConnectionId::next();
        let outbox = Rc::new(RefCell::new(outbox));
        let slot = context.shard.add_session(connection, Rc::clone(&outbox), room.as_ref().map(|(_, room)| *room));
        let location = SessionLocation { shard: context.shard.index(), slot, connection };
        Self { location, outbox, user, room, hub: context.hub.clone(), shard: context.shard.clone() }
    }
}

fn outbox_limits(context: &SessionContext) -> OutboxLimits {
    let SessionLimits { max_pending, max_pending_bytes, .. } = context.limits;
    OutboxLimits { frames: max_pending, bytes: max_pending_bytes }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.outbox.borrow_mut().finish();
        self.shard.remove_session(self.location.slot, self.location.connection);
        if let Some(user) = self.user {
            self.shard.receipts.flush();
            self.hub.do_send(Unregister { user, connection: self.location.connection });
        }
        if let Some((rooms, room)) = &self.room {
            rooms.do_send(LeaveRoom { room: *room, connection: self.location.connection });
        }
    }
}
