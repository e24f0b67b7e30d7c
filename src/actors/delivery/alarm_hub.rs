//! The `AlarmHub` actor and its messages. Every session of a user is registered here, and the hub sends committed
//! alarms to the sessions of their receivers. The `registry` holds who is connected; an `outbox` holds what waits for a
//! session.
//!
//! The database holds every alarm, and the hub only makes delivery fast: sessions read from the store what the hub
//! loses.
//!
//! The hub also limits how many sockets a user has, and writes to the ledger how far users have received alarms.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;

use super::{
    encode::{encode, encode_alarm, payload},
    registry::{RegisteredSession, Registry, SessionLocation},
    shard::{CloseSessions, Delivery, Push},
    shard_handle::{SessionTarget, ShardStats},
    shard_link::ShardLink,
};
use crate::{
    bus::{Bus, BusMessage, Channel, ConnectionId, IfFull, SocketClaim, UserSocket},
    domain::{Alarm, AlarmCursor, AlarmId, Locale, Receiver, Timestamp, UserId},
    protocol::{Close, ServerFrame},
    store::{Ledger, writes::MarkReceived},
};

/// Messages that may wait for the hub. When its mailbox is full, the sessions read the store instead.
const MAILBOX_LIMIT: usize = 4096;
/// The pause before received cursors are written.
const CURSOR_WRITE_INTERVAL: Duration = Duration::from_millis(250);
/// Received cursors in one write.
const CURSOR_BATCH_LIMIT: usize = 2000;
/// Time limit for one write of received cursors.
const CURSOR_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the configured language of texts, which may change while the service runs.
pub type LocaleSource = Box<dyn Fn() -> Locale + Send>;

/// The actor; one per node.
pub struct AlarmHub {
    pub(crate) registry: Registry,
    pub(crate) shards: Vec<ShardLink>,
    pub(crate) bus: Bus,
    /// An inbox check is running.
    pub(crate) is_checking_inboxes: bool,
    stats: Arc<ShardStats>,
    locale: LocaleSource,
    max_per_user: usize,
    /// A sender sets this when it finds the hub's mailbox full.
    overflowed: Arc<AtomicBool>,
    /// Times that `overflowed` was set.
    resyncs: u64,
    /// Sessions closed because their user opened newer ones.
    evicted: u64,
    /// `None` until [`UseLedger`].
    ledger: Option<Ledger>,
    is_writing_cursors: bool,
    /// A timer for the next write of cursors is set.
    is_write_scheduled: bool,
}

impl AlarmHub {
    /// Starts a hub without sessions, for up to `max_per_user` (`session.max_per_user`) sessions a user. A sender that
    /// finds the mailbox full sets `overflowed`; with its next commit the hub then makes all sessions read the store.
    pub fn open(
        locale: LocaleSource,
        max_per_user: usize,
        stats: Arc<ShardStats>,
        overflowed: Arc<AtomicBool>,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            Self {
                registry: Registry::default(),
                shards: Vec::new(),
                bus: Bus::off(),
                is_checking_inboxes: false,
                stats,
                locale,
                max_per_user,
                overflowed,
                resyncs: 0,
                evicted: 0,
                ledger: None,
                is_writing_cursors: false,
                is_write_scheduled: false,
            }
        })
    }

    /// Groups sessions by shard, each with its [`SessionTarget::after`].
    pub(crate) fn by_shard(
        &self,
        sessions: impl Iterator<Item = (SessionLocation, AlarmCursor)>,
    ) -> Vec<Vec<SessionTarget>> {
        let mut by_shard: Vec<Vec<SessionTarget>> = vec![Vec::new(); self.shards.len()];
        for (SessionLocation { shard, slot, connection }, after) in sessions {
            if let Some(targets) = by_shard.get_mut(shard) {
                targets.push(SessionTarget { slot, connection, after });
            }
        }
        by_shard
    }

    /// Sends a frame that is not an alarm to the user's alarm sessions on this node.
    pub(crate) fn send_to_user(&self, user: UserId, frame: &Bytes) {
        let sessions = self.registry.alarm_sessions(user).map(|location| (location, AlarmCursor::START));
        for (shard, targets) in self.shards.iter().zip(self.by_shard(sessions)) {
            if !targets.is_empty() {
                shard.push_or_drop(Push(vec![Delivery { alarm: None, frame: frame.clone(), targets }]));
            }
        }
    }

    /// Sends each shard its deliveries in one message, if it has any.
    fn push(&self, pushes: Vec<Vec<Delivery>>) {
        for (shard, push) in self.shards.iter().zip(pushes) {
            if !push.is_empty() {
                shard.push(Push(push));
            }
        }
    }

    fn close(&self, sessions: impl Iterator<Item = SessionLocation>, close: Close) {
        for (shard, targets) in
            self.shards.iter().zip(self.by_shard(sessions.map(|location| (location, AlarmCursor::START))))
        {
            if !targets.is_empty() {
                shard.close(CloseSessions::These(targets, close));
            }
        }
    }

    /// Closes all sessions of the user on this node, because the user is no longer active.
    pub(crate) fn close_user_sessions(&self, user: UserId) {
        self.close(self.registry.sessions(user).map(|session| session.location), Close::TokenRefused);
    }

    /// Removes a session, and its traces on the bus. `None` if it was removed before.
    fn unregister(
        &mut self,
        user: UserId,
        connection: ConnectionId,
        ctx: &mut Context<Self>,
    ) -> Option<SessionLocation> {
        let RegisteredSession { location, receives_alarms, is_counted, .. } =
            self.registry.unregister(user, connection)?;
        if self.bus.is_on() {
            if receives_alarms {
                self.bus.unsubscribe(Channel::User(user));
            }
            // If it is not counted yet, `finish_claim` releases it: a release must not overtake its claim.
            if is_counted {
                ctx.spawn(self.bus.release_socket(user, connection).into_actor(self));
            }
            // The user may reconnect on another node, which knows only stored cursors.
            if self.registry.received_cursor(user).is_some() {
                self.write_cursors(ctx);
            }
        }
        Some(location)
    }

    /// Closes a session because its user has opened newer ones, on this or another node. It stops counting at once,
    /// however long its client takes to close.
    pub(crate) fn evict(&mut self, user: UserId, connection: ConnectionId, ctx: &mut Context<Self>) {
        if let Some(location) = self.unregister(user, connection, ctx) {
            self.evicted += 1;
            self.close(std::iter::once(location), Close::TooManySockets);
        }
    }

    /// Handles the bus's answer to a session's claim: evicts the sockets that it names, here or on their nodes.
    fn finish_claim(&mut self, user: UserId, connection: ConnectionId, claim: &SocketClaim, ctx: &mut Context<Self>) {
        if !self.registry.set_counted(user, connection) {
            ctx.spawn(self.bus.release_socket(user, connection).into_actor(self));
        }
        let SocketClaim::Granted(evicted) = claim else { return };
        for UserSocket { node, connection } in evicted {
            if self.bus.node_id() == Some(*node) {
                self.evict(user, *connection, ctx);
            } else {
                self.bus.broadcast(BusMessage::EvictSocket { node: *node, user, connection: *connection });
            }
        }
    }

    /// Schedules a write of received cursors, if there are any. Mostly there are none, and then no timer runs.
    fn schedule_write(&mut self, ctx: &mut Context<Self>) {
        if self.is_write_scheduled || self.is_writing_cursors || !self.registry.has_unwritten_cursors() {
            return;
        }
        self.is_write_scheduled = true;
        ctx.run_later(CURSOR_WRITE_INTERVAL, |hub, ctx| {
            hub.is_write_scheduled = false;
            hub.write_cursors(ctx);
            hub.schedule_write(ctx);
        });
    }

    /// Writes one batch of received cursors, unless a write is running.
    fn write_cursors(&mut self, ctx: &mut Context<Self>) {
        let Some(ledger) = self.ledger.as_ref().filter(|_| !self.is_writing_cursors) else { return };
        let cursors = self.registry.cursors_to_write(CURSOR_BATCH_LIMIT);
        if cursors.is_empty() {
            return;
        }
        self.is_writing_cursors = true;
        let hub = ctx.address();
        ledger.submit(MarkReceived(cursors.clone()), Instant::now() + CURSOR_WRITE_TIMEOUT, move |result| {
            hub.do_send(CursorsWritten(result.map(|()| cursors).unwrap_or_default()));
        });
    }
}

impl Actor for AlarmHub {
    type Context = Context<Self>;
}

/// A write of received cursors has ended. Holds the stored cursors: none if the write failed, and then it is repeated.
#[derive(Message)]
#[rtype(result = "()")]
struct CursorsWritten(Vec<(UserId, AlarmId)>);

impl Handler<CursorsWritten> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CursorsWritten(cursors): CursorsWritten, ctx: &mut Self::Context) {
        self.is_writing_cursors = false;
        self.registry.cursors_written(&cursors);
        self.schedule_write(ctx);
    }
}

/// Gives the hub the ledger, to which it writes received cursors.
#[derive(Message)]
#[rtype(result = "()")]
pub struct UseLedger(pub Ledger);

impl Handler<UseLedger> for AlarmHub {
    type Result = ();

    fn handle(&mut self, UseLedger(ledger): UseLedger, _: &mut Self::Context) {
        self.ledger = Some(ledger);
    }
}

/// Connects a worker's shard to the hub. `index` is the worker's.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AttachShard {
    pub index: usize,
    pub link: ShardLink,
}

impl Handler<AttachShard> for AlarmHub {
    type Result = ();

    fn handle(&mut self, AttachShard { index, link }: AttachShard, _: &mut Self::Context) {
        // Workers start in any order. No session is on a shard that is not attached yet, so its place may hold any
        // link.
        while self.shards.len() <= index {
            self.shards.push(link.clone());
        }
        self.shards[index] = link;
    }
}

/// Registers a session of a user.
#[derive(Message)]
#[rtype(result = "Result<Admitted, TooManySockets>")]
pub(crate) struct Register {
    pub user: UserId,
    pub location: SessionLocation,
    /// Whether it receives its user's alarms; if not, it is in a room.
    pub receives_alarms: bool,
    /// What happens if the user already has `session.max_per_user` sockets.
    pub if_full: IfFull,
    /// The current time.
    pub at: Timestamp,
}

/// The session is registered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admitted {
    /// The user's received cursor, if it is not stored yet.
    pub received: Option<AlarmId>,
}

/// The session is refused: the user already has `session.max_per_user` sockets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TooManySockets;

impl Handler<Register> for AlarmHub {
    type Result = ActorResponse<Self, Result<Admitted, TooManySockets>>;

    fn handle(&mut self, register: Register, ctx: &mut Self::Context) -> Self::Result {
        let Register { user, location, receives_alarms, if_full, at } = register;
        let limit = self.max_per_user;
        if if_full == IfFull::RefuseNewest && self.registry.sessions(user).count() >= limit {
            return ActorResponse::reply(Err(TooManySockets));
        }
        self.registry.register(user, RegisteredSession { location, receives_alarms, at, is_counted: false });
        // If this node alone exceeds the limit, the user's oldest socket is on this node.
        while let Some(oldest) = self.registry.oldest_over_limit(user, limit) {
            self.evict(user, oldest, ctx);
        }
        let admitted = Admitted { received: self.registry.received_cursor(user) };
        if !self.bus.is_on() {
            return ActorResponse::reply(Ok(admitted));
        }
        // The answer waits for both: from then on this node receives, or knows that it lost, what other nodes commit.
        let subscribed = receives_alarms.then(|| self.bus.subscribe(Channel::User(user)));
        let claimed = self.bus.claim_socket(user, (location.connection, at), (limit, if_full));
        let both = async move {
            let subscribed = async {
                if let Some(subscribed) = subscribed {
                    subscribed.await;
                }
            };
            futures_util::join!(subscribed, claimed).1
        };
        ActorResponse::r#async(both.into_actor(self).map(move |claim, hub, ctx| {
            hub.finish_claim(user, location.connection, &claim, ctx);
            if claim == SocketClaim::Full {
                hub.unregister(user, location.connection, ctx);
                return Err(TooManySockets);
            }
            Ok(admitted)
        }))
    }
}

/// Removes a session that has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Unregister {
    pub user: UserId,
    pub connection: ConnectionId,
}

impl Handler<Unregister> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Unregister { user, connection }: Unregister, ctx: &mut Self::Context) {
        self.unregister(user, connection, ctx);
    }
}

/// Sessions have proved that their users received every alarm up to these.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Received(pub Vec<(UserId, AlarmId)>);

impl Handler<Received> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Received(cursors): Received, ctx: &mut Self::Context) {
        for (user, up_to) in cursors {
            self.registry.received(user, up_to);
        }
        self.schedule_write(ctx);
    }
}

/// Sends the alarms of one commit to the sessions of their receivers.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Deliver(pub Vec<(Alarm, Vec<Receiver>)>);

impl Handler<Deliver> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Deliver(alarms): Deliver, _: &mut Self::Context) {
        if self.overflowed.swap(false, Ordering::AcqRel) {
            self.resyncs += 1;
            for shard in &self.shards {
                shard.resync();
            }
        }
        let mut pushes: Vec<Vec<Delivery>> = self.shards.iter().map(|_| Vec::new()).collect();
        for (alarm, receivers) in &alarms {
            let sessions = |to: &Receiver| {
                let after = to.after;
                self.registry.alarm_sessions(to.user).map(move |location| (location, after))
            };
            let targets = self.by_shard(receivers.iter().flat_map(sessions));
            if targets.iter().all(Vec::is_empty) {
                continue;
            }
            let frame = encode_alarm(alarm, false, (self.locale)());
            for (push, targets) in pushes.iter_mut().zip(targets) {
                if !targets.is_empty() {
                    push.push(Delivery { alarm: Some(alarm.id), frame: frame.clone(), targets });
                }
            }
        }
        self.push(pushes);
    }
}

/// Sends the number of unread alarms to all alarm sessions of a user, on every node.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NotifyUnread {
    /// The user who has read alarms.
    pub user: UserId,
    /// How many alarms are unread now.
    pub unread: i64,
    /// The newest alarm in the inbox, 0 if it is empty.
    pub last_id: i64,
}

impl Handler<NotifyUnread> for AlarmHub {
    type Result = ();

    fn handle(&mut self, NotifyUnread { user, unread, last_id }: NotifyUnread, _: &mut Self::Context) {
        self.send_to_user(user, &encode(&ServerFrame::Unread { unread, last_id }));
        self.bus.send(Channel::User(user), BusMessage::Unread { user, unread, last_id });
    }
}

/// Sends a refusal of something that a user sent to all their alarm sessions, on every node.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AlertUser {
    pub user: UserId,
    /// The encoded alert.
    pub frame: Bytes,
}

impl Handler<AlertUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, AlertUser { user, frame }: AlertUser, _: &mut Self::Context) {
        self.send_to_user(user, &frame);
        if self.bus.is_on() {
            let json = String::from_utf8_lossy(&payload(&frame)).into_owned();
            self.bus.send(Channel::User(user), BusMessage::Alert(user, json));
        }
    }
}

/// Closes all sessions of a user who is no longer active.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseUserSessions(pub UserId);

impl Handler<CloseUserSessions> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CloseUserSessions(user): CloseUserSessions, _: &mut Self::Context) {
        self.close_user_sessions(user);
    }
}

/// Closes all sessions because the node restarts, each with its own random time after which to reconnect.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CloseAll {
    /// The shortest time, in ms.
    pub from_ms: u64,
    /// By how much the longest time exceeds it, in ms.
    pub spread_ms: u64,
}

impl Handler<CloseAll> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CloseAll { from_ms, spread_ms }: CloseAll, _: &mut Self::Context) {
        for shard in &self.shards {
            shard.close(CloseSessions::Restarting { from_ms, spread_ms });
        }
    }
}

/// Writes a batch of received cursors now, without waiting for the timer. Answers true if all cursors are stored. A
/// shutdown repeats this until it is true.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct FlushReceived;

impl Handler<FlushReceived> for AlarmHub {
    type Result = bool;

    fn handle(&mut self, _: FlushReceived, ctx: &mut Self::Context) -> bool {
        self.write_cursors(ctx);
        !self.registry.has_unwritten_cursors()
    }
}

/// Requests the [`HubFigures`].
#[derive(Message)]
#[rtype(result = "HubFigures")]
pub struct GetHubFigures;

/// The hub's figures for the health endpoint. Those that are not of the present count from the start.
#[derive(Debug, Clone, Copy, Default, MessageResponse, serde::Serialize)]
pub struct HubFigures {
    /// Registered sessions.
    #[serde(skip)]
    pub sessions: usize,
    /// Users with at least one session.
    #[serde(skip)]
    pub users: usize,
    /// Frames in outboxes now.
    pub undelivered: usize,
    /// Alarm frames put into outboxes.
    pub delivered: u64,
    /// Sessions closed because their outbox was full.
    pub outbox_overflows: u64,
    /// Sessions closed because their client read nothing for too long.
    pub slow_clients: u64,
    /// Unread counts and alerts lost to a full mailbox.
    pub untold: u64,
    /// Times that a full mailbox made sessions read the store.
    pub resyncs: u64,
    /// Times that an inbox check found a session without an alarm of another node, and made it read the store.
    #[serde(skip)]
    pub behind: u64,
    /// Sessions closed because their user opened more than `session.max_per_user`.
    pub evicted: u64,
}

impl Handler<GetHubFigures> for AlarmHub {
    type Result = HubFigures;

    fn handle(&mut self, _: GetHubFigures, _: &mut Self::Context) -> HubFigures {
        let (sessions, users) = self.registry.counts();
        HubFigures {
            sessions,
            users,
            undelivered: self.shards.iter().map(ShardLink::waiting).sum(),
            delivered: self.stats.queued.load(Ordering::Relaxed),
            slow_clients: self.stats.slow.load(Ordering::Relaxed),
            outbox_overflows: self.stats.overflows.load(Ordering::Relaxed),
            untold: self.stats.untold.load(Ordering::Relaxed),
            behind: self.stats.behind.load(Ordering::Relaxed),
            evicted: self.evicted,
            resyncs: self.resyncs + self.stats.resyncs.load(Ordering::Relaxed),
        }
    }
}
