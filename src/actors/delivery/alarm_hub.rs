//! The `AlarmHub` actor and its messages. Every session of a user is registered here, and the hub sends committed
//! alarms to the sessions of their receivers. The `registry` holds who is connected and sends; an `outbox` holds what
//! waits for a session.
//!
//! The database holds every alarm, and the hub only makes delivery fast: sessions read from the store what the hub
//! loses.
//!
//! The hub also limits how many sockets a user has, and writes to the ledger how far users have received alarms
//! (`received`). With other nodes, `cluster` is its link to them.

use std::{sync::Arc, time::Instant};

use actix::prelude::*;
use bytes::Bytes;

use super::{
    cluster::{FromBus, HubCluster},
    encode::{encode, encode_json, payload},
    mailbox_overflow::OverflowFlag,
    received::{ReceivedCursors, WRITE_DELAY},
    registry::{RegisteredSession, Registry, SessionLocation},
    shard::{CloseSessions, ShardLink},
    shard_stats::ShardStats,
};
use crate::actors::poller::Poller;
use crate::{
    bus::{BusEvent, BusMessage, Channel, ConnectionId, IfFull, SocketClaim, Topology},
    domain::{Alarm, AlarmId, Locale, Receiver, Timestamp, UserId},
    protocol::{Close, ServerFrame},
    store::{InboxEnd, Ledger, Store},
};

/// Messages that may wait for the hub. When its mailbox is full, the sessions read the store instead.
const MAILBOX_LIMIT: usize = 4096;
/// Users whose sockets are counted again at once.
const RECOUNT_BATCH_LIMIT: usize = 100;

/// Returns the language of texts for users who have chosen none, which may change while the service runs.
pub(crate) type LocaleSource = Box<dyn Fn() -> Locale + Send>;

/// The actor; one per node.
pub(crate) struct AlarmHub {
    registry: Registry,
    received: ReceivedCursors,
    /// `None` with one node.
    cluster: Option<HubCluster>,
    ledger: Ledger,
    locale: LocaleSource,
    max_per_user: usize,
    overflow: Arc<OverflowFlag<()>>,
    stats: Arc<ShardStats>,
}

impl AlarmHub {
    /// Starts a hub without sessions, for up to `max_per_user` (`session.max_per_user`) sessions a user. A sender that
    /// finds the mailbox full notes it in `overflow`; the hub then makes all sessions read the store.
    pub(crate) fn open(
        locale: LocaleSource,
        max_per_user: usize,
        stats: Arc<ShardStats>,
        overflow: Arc<OverflowFlag<()>>,
        ledger: Ledger,
        (store, topology): (Store, &Topology),
    ) -> Addr<Self> {
        let cluster = topology.bus().cloned().map(HubCluster);
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            if cluster.is_some() {
                let ends = move |users| {
                    let store = store.clone();
                    async move { store.inbox_ends(users).await }
                };
                let check = |hub: &mut Self, _: Vec<UserId>, ends: Vec<InboxEnd>| hub.registry.check_inboxes(&ends);
                Poller::start(ctx, "inboxes", |hub: &mut Self| hub.registry.begin_check(), ends, check);
            }
            Self {
                registry: Registry::default(),
                received: ReceivedCursors::default(),
                cluster,
                ledger,
                locale,
                max_per_user,
                overflow,
                stats,
            }
        })
    }

    /// Sends another node's sessions of this user a message.
    fn send_elsewhere(&self, user: UserId, message: impl FnOnce() -> BusMessage) {
        if let Some(HubCluster(bus)) = &self.cluster {
            bus.send(Channel::User(user), message());
        }
    }

    /// Removes a session, and its traces on the bus. `None` if it was removed before.
    fn unregister(
        &mut self,
        user: UserId,
        connection: ConnectionId,
        ctx: &mut Context<Self>,
    ) -> Option<SessionLocation> {
        let session = self.registry.unregister(user, connection)?;
        self.count_users();
        if let Some(cluster) = &self.cluster {
            if let Some(released) = cluster.leave(user, &session) {
                ctx.spawn(released.into_actor(self));
            }
            // The user may reconnect on another node, which knows only stored cursors.
            if self.received.of(user).is_some() {
                self.write_received(ctx);
            }
        }
        Some(session.location)
    }

    fn count_users(&self) {
        let (_, users) = self.registry.counts();
        self.stats.users.set(i64::try_from(users).unwrap_or(i64::MAX));
    }

    /// Closes a session because its user has opened newer ones, on this or another node. It stops counting at once,
    /// however long its client takes to close.
    fn evict(&mut self, user: UserId, connection: ConnectionId, ctx: &mut Context<Self>) {
        if let Some(location) = self.unregister(user, connection, ctx) {
            self.stats.evicted.inc();
            self.registry.close(std::iter::once(location), Close::TooManySockets);
        }
    }

    /// Handles the bus's answer to a session's claim: evicts the sockets that it names, here or on their nodes.
    fn finish_claim(&mut self, user: UserId, connection: ConnectionId, claim: &SocketClaim, ctx: &mut Context<Self>) {
        let is_open = self.registry.set_counted(user, connection);
        let Some(cluster) = &self.cluster else { return };
        if !is_open {
            ctx.spawn(cluster.0.release_socket(user, connection).into_actor(self));
        }
        if let SocketClaim::Granted(evicted) = claim {
            for connection in cluster.evict(user, evicted) {
                self.evict(user, connection, ctx);
            }
        }
    }

    /// Counts these users' sockets again, one batch of users after another. Each batch takes the sessions open by then.
    fn recount_sockets(&mut self, mut users: Vec<UserId>, ctx: &mut Context<Self>) {
        let batch = users.split_off(users.len().saturating_sub(RECOUNT_BATCH_LIMIT));
        if let Some(cluster) = self.cluster.as_ref().filter(|_| !batch.is_empty()) {
            let counted = cluster.recount(&self.registry, &batch);
            ctx.spawn(counted.into_actor(self).map(move |(), hub, ctx| hub.recount_sockets(users, ctx)));
        }
    }

    /// Schedules a write of received cursors, if there are any.
    fn schedule_write(&mut self, ctx: &mut Context<Self>) {
        if self.received.wants_timer() {
            self.received.is_write_scheduled = true;
            ctx.run_later(WRITE_DELAY, |hub, ctx| {
                hub.received.is_write_scheduled = false;
                hub.write_received(ctx);
            });
        }
    }

    /// Writes one batch of received cursors, unless a write is running.
    fn write_received(&mut self, ctx: &mut Context<Self>) {
        if let Some(stored) = self.received.start_write(&self.ledger) {
            ctx.spawn(stored.into_actor(self).map(|stored, hub, ctx| {
                hub.received.written(&stored);
                hub.schedule_write(ctx);
            }));
        }
    }
}

impl Actor for AlarmHub {
    type Context = Context<Self>;
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
        self.registry.attach_shard(index, link);
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
    /// The language that the user has chosen.
    pub locale: Option<Locale>,
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
        let Register { user, location, receives_alarms, if_full, locale, at } = register;
        let limit = self.max_per_user;
        if if_full == IfFull::RefuseNewest && self.registry.sessions(user).count() >= limit {
            return ActorResponse::reply(Err(TooManySockets));
        }
        let session = RegisteredSession::new(location, receives_alarms, locale, at);
        self.registry.register(user, session);
        self.count_users();
        // If this node alone exceeds the limit, the user's oldest socket is on this node.
        while let Some(oldest) = self.registry.oldest_over_limit(user, limit) {
            self.evict(user, oldest, ctx);
        }
        let admitted = Admitted { received: self.received.of(user) };
        let Some(cluster) = &self.cluster else { return ActorResponse::reply(Ok(admitted)) };
        let joined = cluster.join(user, &session, (limit, if_full));
        ActorResponse::r#async(joined.into_actor(self).map(move |claim, hub, ctx| {
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
            self.received.advance(user, up_to);
        }
        self.schedule_write(ctx);
    }
}

/// Sends the alarms of one commit to the sessions of their receivers. An empty list only makes the hub look for an
/// overflow.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct Deliver {
    pub alarms: Vec<(Alarm, Vec<Receiver>)>,
    /// When this node committed them, or received them over the bus.
    pub committed_at: Option<Instant>,
}

impl Handler<Deliver> for AlarmHub {
    type Result = ();

    fn handle(&mut self, Deliver { alarms, committed_at }: Deliver, _: &mut Self::Context) {
        if !self.overflow.take().is_empty() {
            self.stats.resyncs.inc();
            self.registry.shards.iter().for_each(ShardLink::resync);
        }
        self.registry.deliver(&alarms, committed_at.unwrap_or_else(Instant::now), &self.locale);
    }
}

/// A user has chosen a language, or none: from now on their sessions on this node get texts in it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SetLocale {
    pub user: UserId,
    pub locale: Option<Locale>,
}

impl Handler<SetLocale> for AlarmHub {
    type Result = ();

    fn handle(&mut self, SetLocale { user, locale }: SetLocale, _: &mut Self::Context) {
        self.registry.set_locale(user, locale);
    }
}

/// Sends the number of unread alarms to all alarm sessions of a user, on every node.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct NotifyUnread {
    pub user: UserId,
    pub unread: i64,
    /// The newest alarm in the inbox, 0 if it is empty.
    pub last_id: i64,
}

impl Handler<NotifyUnread> for AlarmHub {
    type Result = ();

    fn handle(&mut self, NotifyUnread { user, unread, last_id }: NotifyUnread, _: &mut Self::Context) {
        self.registry.send_to_user(user, &encode(&ServerFrame::Unread { unread, last_id }));
        self.send_elsewhere(user, || BusMessage::Unread { user, unread, last_id });
    }
}

/// Sends a refusal of something that a user sent to all their alarm sessions, on every node.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AlertUser {
    pub user: UserId,
    pub frame: Bytes,
}

impl Handler<AlertUser> for AlarmHub {
    type Result = ();

    fn handle(&mut self, AlertUser { user, frame }: AlertUser, _: &mut Self::Context) {
        self.registry.send_to_user(user, &frame);
        self.send_elsewhere(user, || BusMessage::Alert(user, String::from_utf8_lossy(&payload(&frame)).into_owned()));
    }
}

impl Handler<FromBus> for AlarmHub {
    type Result = ();

    fn handle(&mut self, FromBus(event): FromBus, ctx: &mut Self::Context) {
        match event {
            BusEvent::Message(_, BusMessage::Unread { user, unread, last_id }) => {
                self.registry.send_to_user(user, &encode(&ServerFrame::Unread { unread, last_id }));
            }
            BusEvent::Message(_, BusMessage::Alert(user, json)) => {
                self.registry.send_to_user(user, &encode_json(json));
            }
            BusEvent::Message(_, BusMessage::EvictSocket { node, user, connection })
                if self.cluster.as_ref().is_some_and(|HubCluster(bus)| bus.node_id() == node) =>
            {
                self.evict(user, connection, ctx);
            }
            BusEvent::RecountSockets => self.recount_sockets(self.registry.users(), ctx),
            _ => {}
        }
    }
}

/// Closes all sessions of a user who is no longer active.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseUserSessions(pub UserId);

impl Handler<CloseUserSessions> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CloseUserSessions(user): CloseUserSessions, _: &mut Self::Context) {
        self.registry.close_user(user);
    }
}

/// Counts the open sockets of a user, on all nodes as far as they are known.
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct CountSockets(pub UserId);

impl Handler<CountSockets> for AlarmHub {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, CountSockets(user): CountSockets, _: &mut Self::Context) -> Self::Result {
        let here = self.registry.sessions(user).count();
        let everywhere = self.cluster.as_ref().map(|HubCluster(bus)| bus.count_sockets(user));
        Box::pin(async move {
            match everywhere {
                // Without Redis only this node's are known.
                Some(count) => count.await.unwrap_or(here),
                None => here,
            }
        })
    }
}

/// Closes all sessions because the node restarts, each with its own random time after which to reconnect.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct CloseAll {
    /// The shortest time, in ms.
    pub from_ms: u64,
    /// By how much the longest time exceeds it, in ms.
    pub spread_ms: u64,
}

impl Handler<CloseAll> for AlarmHub {
    type Result = ();

    fn handle(&mut self, CloseAll { from_ms, spread_ms }: CloseAll, _: &mut Self::Context) {
        for shard in &self.registry.shards {
            shard.close(CloseSessions::Restarting { from_ms, spread_ms });
        }
    }
}

/// Writes a batch of received cursors now, without waiting for the timer. Answers true if all cursors are stored. A
/// shutdown repeats this until it is true.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct FlushReceived;

impl Handler<FlushReceived> for AlarmHub {
    type Result = bool;

    fn handle(&mut self, _: FlushReceived, ctx: &mut Self::Context) -> bool {
        self.write_received(ctx);
        self.received.is_empty()
    }
}

/// Requests the [`HubFigures`].
#[derive(Message)]
#[rtype(result = "HubFigures")]
pub(crate) struct GetHubFigures;

/// The hub's figures for the health endpoint. Those that are not of the present count from the start.
#[derive(Debug, Clone, Copy, Default, MessageResponse, serde::Serialize)]
pub(crate) struct HubFigures {
    #[serde(skip)]
    pub sessions: usize,
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
            undelivered: self.stats.waiting(),
            delivered: self.stats.queued.get(),
            slow_clients: self.stats.slow.get(),
            outbox_overflows: self.stats.overflows.get(),
            untold: self.stats.untold.get(),
            behind: self.stats.behind.get(),
            evicted: self.stats.evicted.get(),
            resyncs: self.stats.resyncs.get(),
        }
    }
}
