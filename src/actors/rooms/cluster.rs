//! What [`Rooms`] does when the service has several nodes:
//!
//! - It starts the [`EventSequencer`] of each room from the store, before the room's sockets are admitted.
//! - It compares every room with the store every few seconds, and reads the events that a room has missed.
//! - It tells the other nodes who enters and leaves rooms here, and records who is in rooms there.

use std::{collections::HashSet, sync::Arc, time::Duration};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{cluster_sync::channel, presence::RoomState, rooms::Rooms, sequencer::EventSequencer};
use crate::actors::delivery::shard::RoomOrder;
use crate::actors::room_id::RoomId;
use crate::{
    bus::{Bus, BusMessage, NodeId, PresenceChange},
    domain::{GoodsId, Phase, User, UserId},
    store::{ROOM_EVENTS_LIMIT, RoomCursor, RoomEvent, Store, StoreError},
};

/// How often all rooms are compared with the store.
const POLL_INTERVAL: Duration = Duration::from_secs(3);
/// When they are compared again after a read has failed.
const POLL_RETRY_DELAY: Duration = Duration::from_millis(500);
/// How long a bid waits for the bids before it, until those are read from the store.
const BID_GAP_TIMEOUT: Duration = Duration::from_millis(250);
/// Rooms that one read of cursors covers.
const CURSORS_PER_READ: usize = 500;
/// Users in one part of a presence snapshot.
const USERS_PER_PART: usize = 500;
/// Rooms that may read missed events at the same time.
const CATCH_UP_READS_LIMIT: usize = 4;
/// Events of one room that may wait until its sequencer starts. The room reads the rest from the store.
const EARLY_EVENTS_LIMIT: usize = 1000;

/// Connects the rooms to the other nodes. Sent once, and only when the service has a bus.
#[derive(Message)]
#[rtype(result = "()")]
pub struct JoinRooms {
    /// Carries presence and room events between the nodes.
    pub bus: Bus,
    /// Where rooms read the events that they have missed.
    pub store: Store,
}

impl Handler<JoinRooms> for Rooms {
    type Result = ();

    fn handle(&mut self, JoinRooms { bus, store }: JoinRooms, ctx: &mut Self::Context) {
        self.cluster.link = Some((bus, store));
        ctx.run_interval(POLL_INTERVAL, Self::poll_store);
    }
}

// Room events, in order and complete.

impl Rooms {
    /// Makes sure that the room's sequencer runs. Resolves with true when the room receives all its events, with false
    /// if the store can't be read.
    pub(crate) fn start_sync(&mut self, id: RoomId, ctx: &mut Context<Self>) -> ActorResponse<Self, bool> {
        let (Some(room), Some((bus, store))) = (self.rooms.get_mut(&id), self.cluster.link.clone()) else {
            return ActorResponse::reply(false);
        };
        let sync = &mut room.sync;
        if sync.sequencer.is_some() {
            return ActorResponse::reply(true);
        }
        let (ready, is_ready) = oneshot::channel();
        sync.waiting.push(ready);
        if !sync.is_starting {
            sync.is_starting = true;
            self.cluster.last_generation += 1;
            sync.generation = self.cluster.last_generation;
            let generation = sync.generation;
            let subscribed = (!std::mem::replace(&mut sync.is_subscribed, true)).then(|| bus.subscribe(channel(id)));
            // Subscribe first, then read: what is committed from here on comes over the bus or is in what is read.
            let read = async move {
                if let Some(subscribed) = subscribed {
                    subscribed.await;
                }
                store.room_cursors(vec![id.goods()]).await
            };
            ctx.spawn(
                read.into_actor(self).map(move |cursors, actor, ctx| actor.sync_started(id, generation, cursors, ctx)),
            );
        }
        ActorResponse::r#async(async move { is_ready.await.unwrap_or(false) }.into_actor(self))
    }

    fn sync_started(
        &mut self,
        id: RoomId,
        generation: u64,
        cursors: Result<Vec<RoomCursor>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.sync.generation == generation) else { return };
        let sync = &mut room.sync;
        sync.is_starting = false;
        let waiting = std::mem::take(&mut sync.waiting);
        let early = std::mem::take(&mut sync.early_events);
        let is_ready = match cursors {
            Ok(cursors) => {
                // No cursor: the goods were deleted meanwhile. The session that opens the socket checks that itself.
                sync.sequencer = cursors.into_iter().next().map(|cursor| EventSequencer::start(id, cursor, &early));
                true
            }
            Err(error) => {
                log::debug!("refusing a socket: cannot read the room of goods {}: {error}", id.goods());
                false
            }
        };
        let mut orders = Vec::new();
        for event in early {
            self.sequence_event(event, &mut orders, ctx);
        }
        self.push(orders);
        for ready in waiting {
            let _ = ready.send(is_ready);
        }
    }

    /// Takes an event of any node. Adds orders for what the room's sockets may now be sent: each event once, bids in
    /// the order of their numbers.
    pub(crate) fn sequence_event(
        &mut self,
        event: RoomEvent,
        orders: &mut Vec<(RoomId, RoomOrder)>,
        ctx: &mut Context<Self>,
    ) {
        let id = RoomId::of(&event);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if let RoomEvent::Ended { .. } = event {
            room.is_over = true;
        }
        if room.members.sockets() == 0 {
            return;
        }
        let is_up = self.cluster.link.as_ref().is_some_and(|(bus, _)| bus.is_receiving());
        let ready = match (&mut room.sync.sequencer, event) {
            (_, event @ RoomEvent::Deleted(_)) => vec![event],
            (Some(sequencer), event) => {
                let ready = sequencer.take(event);
                if sequencer.is_waiting() && !room.sync.is_catching_up {
                    if is_up {
                        ctx.run_later(BID_GAP_TIMEOUT, move |actor, ctx| actor.catch_up_if_waiting(id, ctx));
                    } else {
                        self.catch_up(id, ctx);
                    }
                }
                ready
            }
            (None, event) => {
                if room.sync.early_events.len() < EARLY_EVENTS_LIMIT {
                    room.sync.early_events.push(event);
                }
                return;
            }
        };
        for event in &ready {
            self.broadcast_event(event, orders);
        }
    }

    fn catch_up_if_waiting(&mut self, id: RoomId, ctx: &mut Context<Self>) {
        let is_waiting = |room: &RoomState| room.sync.sequencer.as_ref().is_some_and(EventSequencer::is_waiting);
        if self.rooms.get(&id).is_some_and(is_waiting) {
            self.catch_up(id, ctx);
        }
    }

    /// Queues a read of the events that the room has missed. Rooms with a gap in their bids go first.
    pub(crate) fn catch_up(&mut self, id: RoomId, ctx: &mut Context<Self>) {
        if let Some(room) = self.rooms.get_mut(&id)
            && let Some(sequencer) = &room.sync.sequencer
            && !std::mem::replace(&mut room.sync.is_catching_up, true)
        {
            if sequencer.is_waiting() {
                self.cluster.catch_up_queue.push_front(id);
            } else {
                self.cluster.catch_up_queue.push_back(id);
            }
            self.start_reads(ctx);
        }
    }

    fn start_reads(&mut self, ctx: &mut Context<Self>) {
        while self.cluster.active_reads < CATCH_UP_READS_LIMIT {
            let (Some(id), Some((_, store))) = (self.cluster.catch_up_queue.pop_front(), &self.cluster.link) else {
                return;
            };
            let Some(room) = self.rooms.get(&id) else { continue };
            let Some(sequencer) = &room.sync.sequencer else { continue };
            let (store, cursor, generation) = (store.clone(), sequencer.cursor(), room.sync.generation);
            self.cluster.active_reads += 1;
            let read = async move { store.events_since(cursor).await };
            ctx.spawn(read.into_actor(self).map(move |events, actor, ctx| {
                actor.cluster.active_reads -= 1;
                actor.caught_up(id, generation, events, ctx);
                actor.start_reads(ctx);
            }));
        }
    }

    fn caught_up(
        &mut self,
        id: RoomId,
        generation: u64,
        events: Result<Vec<RoomEvent>, StoreError>,
        ctx: &mut Context<Self>,
    ) {
        let Some(room) = self.rooms.get_mut(&id).filter(|room| room.sync.generation == generation) else { return };
        room.sync.is_catching_up = false;
        match (events, &mut room.sync.sequencer) {
            (Ok(events), Some(sequencer)) => {
                let may_be_more = events.len() >= ROOM_EVENTS_LIMIT;
                let mut orders = Vec::new();
                for event in sequencer.catch_up(events) {
                    self.broadcast_event(&event, &mut orders);
                }
                self.push(orders);
                if may_be_more {
                    self.catch_up(id, ctx);
                }
            }
            // The next poll tries again.
            (Err(error), _) => log::debug!("cannot read the missed events of goods {}: {error}", id.goods()),
            (Ok(_), None) => {}
        }
    }

    /// Compares all rooms with the store, unless that is under way; those that are behind catch up.
    fn poll_store(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.cluster.is_polling, true) {
            let goods: HashSet<GoodsId> = self.rooms.keys().map(|id| id.goods()).collect();
            self.poll_next(goods.into_iter().collect(), false, ctx);
        }
    }

    /// Compares the rooms of some of these goods, then those of the rest. Polls again soon if any read has failed.
    fn poll_next(&mut self, mut goods: Vec<GoodsId>, failed: bool, ctx: &mut Context<Self>) {
        let chunk = goods.split_off(goods.len().saturating_sub(CURSORS_PER_READ));
        let Some((_, store)) = self.cluster.link.clone().filter(|_| !chunk.is_empty()) else {
            self.cluster.is_polling = false;
            if failed {
                ctx.run_later(POLL_RETRY_DELAY, Self::poll_store);
            }
            return;
        };
        let asked = chunk.clone();
        let cursors = async move { store.room_cursors(asked).await };
        ctx.spawn(cursors.into_actor(self).map(move |cursors, actor, ctx| {
            let has_failed = cursors.is_err();
            match cursors {
                Ok(cursors) => {
                    cursors.iter().for_each(|cursor| actor.compare(cursor, ctx));
                    let existing: HashSet<GoodsId> = cursors.iter().map(|cursor| cursor.goods).collect();
                    let mut orders = Vec::new();
                    for deleted in chunk.into_iter().filter(|goods| !existing.contains(goods)) {
                        actor.sequence_event(RoomEvent::Deleted(deleted), &mut orders, ctx);
                    }
                    actor.push(orders);
                }
                Err(error) => log::debug!("cannot compare rooms with the store: {error}"),
            }
            actor.poll_next(goods, failed || has_failed, ctx);
        }));
    }

    fn compare(&mut self, now: &RoomCursor, ctx: &mut Context<Self>) {
        for id in [RoomId::Auction(now.goods), RoomId::Trade(now.goods)] {
            let Some(room) = self.rooms.get_mut(&id) else { continue };
            room.is_over |= now.phase == Phase::Ended;
            let sequencer = room.sync.sequencer.as_ref();
            if sequencer.is_some_and(|sequencer| sequencer.is_waiting() || sequencer.is_behind(now)) {
                self.catch_up(id, ctx);
            }
        }
    }
}

// Presence.

impl Rooms {
    /// Tells the other nodes that a user has opened their first socket in a room here, or closed their last. Sent at
    /// once, so that it reaches them before anything that the user does.
    pub(crate) fn notify_nodes(&self, goods: GoodsId, user: &Arc<User>, is_here: bool) {
        if let Some((bus, _)) = &self.cluster.link {
            bus.broadcast(BusMessage::PresenceChanges(vec![PresenceChange {
                goods,
                user: User::clone(user),
                is_here,
            }]));
        }
    }

    fn user_entered_on(&mut self, node: NodeId, goods: GoodsId, user: User) {
        let (id, user) = (RoomId::Auction(goods), Arc::new(user));
        let room = self.rooms.entry(id).or_insert_with(|| RoomState::new(false));
        if room.members.enter_on(node, Arc::clone(&user)) {
            room.presence_changed(user.id);
            self.cluster.changed_rooms.insert(id);
        }
    }

    fn user_left_on(&mut self, node: NodeId, goods: GoodsId, user: UserId) {
        let id = RoomId::Auction(goods);
        if let Some(room) = self.rooms.get_mut(&id)
            && room.members.leave_on(node, user)
        {
            room.presence_changed(user);
            self.cluster.changed_rooms.insert(id);
        }
    }

    /// Broadcasts presence in all changed rooms: one message for each worker, however many rooms these are.
    fn broadcast_changed_rooms(&mut self, ctx: &mut Context<Self>) {
        let mut orders = Vec::new();
        for id in std::mem::take(&mut self.cluster.changed_rooms) {
            self.broadcast_presence(id, &mut orders, ctx);
            self.close_empty(id);
        }
        self.push(orders);
    }

    /// Removes from the rooms all users of that node who are not among `present`.
    fn retain_on(&mut self, node: NodeId, present: &HashSet<(GoodsId, UserId)>) {
        let mut gone = Vec::new();
        for (id, room) in &self.rooms {
            let goods = id.goods();
            gone.extend(
                room.members
                    .users_on(node)
                    .into_iter()
                    .map(|user| (goods, user))
                    .filter(|member| !present.contains(member)),
            );
        }
        for (goods, user) in gone {
            self.user_left_on(node, goods, user);
        }
    }
}

/// Who is in the rooms of another node, as that node has sent it.
#[derive(Message)]
#[rtype(result = "()")]
pub enum RemotePresence {
    /// Users who entered or left.
    Changes(NodeId, Vec<PresenceChange>),
    /// One part of a list of everybody who is in a room on that node.
    Snapshot {
        /// The node that sent it.
        node: NodeId,
        /// The users of this part, each with the goods whose auction room they are in.
        part: Vec<(GoodsId, User)>,
        /// The number of this part, from 0.
        index: u32,
        /// How many parts the snapshot has, at least 1.
        total: u32,
    },
    /// The node has stopped: none of its users is in a room there.
    Gone(NodeId),
}

impl Handler<RemotePresence> for Rooms {
    type Result = ();

    fn handle(&mut self, presence: RemotePresence, ctx: &mut Self::Context) {
        match presence {
            RemotePresence::Changes(node, changes) => {
                for PresenceChange { goods, user, is_here } in changes {
                    if is_here {
                        self.user_entered_on(node, goods, user);
                    } else {
                        self.user_left_on(node, goods, user.id);
                    }
                }
            }
            RemotePresence::Snapshot { node, part, index, total } => {
                let (mut parts, mut present) =
                    self.cluster.snapshots.remove(&node).filter(|_| index > 0).unwrap_or_default();
                parts += 1;
                present.extend(part.iter().map(|(goods, user)| (*goods, user.id)));
                for (goods, user) in part {
                    self.user_entered_on(node, goods, user);
                }
                if index + 1 < total {
                    self.cluster.snapshots.insert(node, (parts, present));
                } else if parts == total {
                    // Every part has come. With a part missing, its users would be removed by mistake.
                    self.retain_on(node, &present);
                }
            }
            RemotePresence::Gone(node) => {
                self.cluster.snapshots.remove(&node);
                self.retain_on(node, &HashSet::new());
            }
        }
        self.broadcast_changed_rooms(ctx);
    }
}

/// Sends the other nodes a snapshot of who is in the rooms here: one of them asks for it, or may have missed a change.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AnnouncePresence;

impl Handler<AnnouncePresence> for Rooms {
    type Result = ();

    fn handle(&mut self, _: AnnouncePresence, _: &mut Self::Context) {
        let Some((bus, _)) = &self.cluster.link else { return };
        let here = |(id, room): (&RoomId, &RoomState)| match id {
            RoomId::Auction(goods) => room.members.users_here().map(|user| (*goods, User::clone(user))).collect(),
            RoomId::Trade(_) => Vec::new(),
        };
        let all: Vec<(GoodsId, User)> = self.rooms.iter().flat_map(here).collect();
        let mut parts: Vec<Vec<(GoodsId, User)>> = all.chunks(USERS_PER_PART).map(<[_]>::to_vec).collect();
        if parts.is_empty() {
            parts.push(Vec::new());
        }
        let total = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (index, part) in (0..).zip(parts) {
            bus.broadcast(BusMessage::PresenceSnapshot { part, index, total });
        }
    }
}
