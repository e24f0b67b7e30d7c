//! What the `AlarmHub` does when other nodes share the service:
//!
//! - Every few seconds it reads the newest alarm of each connected user's inbox. So sessions find alarms that the bus
//!   lost.
//! - It forwards to a user's sessions what other nodes send for them, and evicts sockets that other nodes name.
//! - It counts its sockets again when Redis is back.

use std::time::Duration;

use actix::prelude::*;

use super::{
    alarm_hub::AlarmHub,
    encode::{encode, encode_json},
    shard::InboxEnds,
    shard_handle::SessionTarget,
};
use crate::{
    bus::{Bus, ConnectionId, NodeId},
    domain::UserId,
    protocol::ServerFrame,
    store::{InboxEnd, Store},
};

/// The pause between inbox checks. A check and the reads that follow it end well within the 5 s that the protocol
/// allows.
const INBOX_CHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The pause before a check is repeated because a read failed.
const INBOX_RETRY_DELAY: Duration = Duration::from_millis(500);
/// Users whose inboxes one read covers.
const INBOX_BATCH_LIMIT: usize = 500;
/// Users whose sockets are counted again at once.
const RECOUNT_BATCH_LIMIT: usize = 100;

/// Connects the hub to the bus and starts the inbox checks.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinHub {
    /// The bus that connects the nodes.
    pub bus: Bus,
    /// The store that the inbox checks read.
    pub store: Store,
}

impl Handler<JoinHub> for AlarmHub {
    type Result = ();

    fn handle(&mut self, JoinHub { bus, store }: JoinHub, ctx: &mut Self::Context) {
        self.bus = bus;
        ctx.run_interval(INBOX_CHECK_INTERVAL, move |hub, ctx| hub.check_inboxes(&store, ctx));
    }
}

impl AlarmHub {
    /// Starts a check of the inboxes of all connected users, unless one is running.
    fn check_inboxes(&mut self, store: &Store, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.is_checking_inboxes, true) {
            self.check_batches(store.clone(), self.registry.users(), false, ctx);
        }
    }

    /// Checks these users' inboxes, one batch after another. If a read has `failed`, a new check starts soon after the
    /// last.
    fn check_batches(&mut self, store: Store, mut users: Vec<UserId>, failed: bool, ctx: &mut Context<Self>) {
        let batch = users.split_off(users.len().saturating_sub(INBOX_BATCH_LIMIT));
        if batch.is_empty() {
            self.is_checking_inboxes = false;
            if failed {
                ctx.run_later(INBOX_RETRY_DELAY, move |hub, ctx| hub.check_inboxes(&store, ctx));
            }
            return;
        }
        let reading = store.clone();
        let ends = async move { reading.inbox_ends(batch).await };
        ctx.spawn(ends.into_actor(self).map(move |ends, hub, ctx| {
            let has_failed = ends.is_err();
            match ends {
                Ok(ends) => hub.apply_inbox_ends(&ends),
                Err(error) => log::debug!("inbox check failed: {error}"),
            }
            hub.check_batches(store, users, failed || has_failed, ctx);
        }));
    }

    /// Sends the newest alarm ids to the users' sessions, and closes the sessions of users who are no longer active.
    fn apply_inbox_ends(&self, ends: &[InboxEnd]) {
        ends.iter().filter(|end| !end.is_active).for_each(|end| self.close_user_sessions(end.user));
        let sessions = |end: &InboxEnd| {
            let position = end.end;
            self.registry.alarm_sessions(end.user).map(move |location| (location, position))
        };
        let by_shard: Vec<Vec<SessionTarget>> = self.by_shard(ends.iter().flat_map(sessions));
        for (shard, targets) in self.shards.iter().zip(by_shard) {
            if !targets.is_empty() {
                shard.check_inboxes(InboxEnds(targets));
            }
        }
    }
}

/// What another node sends for a user; none of it is an alarm.
#[derive(Message)]
#[rtype(result = "()")]
pub enum RemoteUserEvent {
    /// The user has read alarms: the number of unread ones, and the newest alarm in the inbox.
    Unread(UserId, i64, i64),
    /// Something that the user sent was refused: the alert as JSON.
    Alert(UserId, String),
    /// The user has more sockets than allowed: this connection of this node must close.
    EvictSocket(NodeId, UserId, ConnectionId),
}

impl Handler<RemoteUserEvent> for AlarmHub {
    type Result = ();

    fn handle(&mut self, event: RemoteUserEvent, ctx: &mut Self::Context) {
        match event {
            RemoteUserEvent::Unread(user, unread, last_id) => {
                self.send_to_user(user, &encode(&ServerFrame::Unread { unread, last_id }));
            }
            RemoteUserEvent::Alert(user, json) => self.send_to_user(user, &encode_json(json)),
            RemoteUserEvent::EvictSocket(node, user, connection) => {
                if self.bus.node_id() == Some(node) {
                    self.evict(user, connection, ctx);
                }
            }
        }
    }
}

/// Counts all sockets of this node again, because Redis is back and may have lost them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RecountSockets;

impl Handler<RecountSockets> for AlarmHub {
    type Result = ();

    fn handle(&mut self, _: RecountSockets, ctx: &mut Self::Context) {
        self.recount_sockets(self.registry.users(), ctx);
    }
}

impl AlarmHub {
    /// Counts these users' sockets again, one batch of users after another. Each batch takes the sessions open by then.
    fn recount_sockets(&mut self, mut users: Vec<UserId>, ctx: &mut Context<Self>) {
        let batch = users.split_off(users.len().saturating_sub(RECOUNT_BATCH_LIMIT));
        if batch.is_empty() {
            return;
        }
        let (registry, bus) = (&self.registry, &self.bus);
        let sessions = batch.iter().flat_map(|user| registry.sessions(*user).map(move |session| (*user, session)));
        let reclaimed =
            sessions.map(|(user, session)| bus.reclaim_socket(user, session.location.connection, session.at));
        let reclaimed = futures_util::future::join_all(reclaimed);
        ctx.spawn(reclaimed.into_actor(self).map(move |_, hub, ctx| hub.recount_sockets(users, ctx)));
    }
}
