//! [`Rooms`], the actor of all auction rooms and trade chats of a node: who is in them, and what their sockets are
//! sent.
//!
//! It receives room events after their commit, in commit order. The `table` has the rooms and encodes events;
//! `membership` has who is in a room, `presence` the joins and leaves to be broadcast, `cluster` what several nodes
//! need. A worker's `shard` knows which of its sockets are in a room, and their outboxes hold the frames.

use std::{
    collections::{HashSet, hash_map::Entry},
    sync::Arc,
};

use actix::prelude::*;
use chrono_tz::Tz;

use super::{
    cluster::{Awaited, RoomsCluster},
    presence::RoomState,
    table::{Orders, RoomTable},
};
use crate::actors::delivery::{
    cluster::FromBus,
    mailbox_overflow::OverflowFlag,
    shard::{RoomOrder, ShardLink},
    shard_stats::ShardStats,
};
use crate::actors::{poller::Poller, room_id::RoomId};
use crate::{
    bus::{ConnectionId, Topology},
    domain::{GoodsId, User, UserId},
    store::{RoomEvent, Store},
    time_source::TimeSource,
};

/// Messages that may wait. With more, rooms overflow: they catch up from the store, or their sockets close.
const MAILBOX_LIMIT: usize = 4096;
/// Up to this size a room broadcasts joins and leaves at once; a larger one gathers them (see `presence`), so that many
/// users who come at once delay no bid.
const SMALL_ROOM_LIMIT: usize = 64;
/// Bytes of joins and leaves that are broadcast at the end of a gather interval; a quarter of `max_pending_bytes` if that
/// is less.
const GATHER_BYTES: usize = 64 * 1024;
/// Rooms in the list of the busiest.
const BUSIEST_ROOMS_LIMIT: usize = 200;

/// The rooms of this node. There is one such actor per node.
pub(crate) struct Rooms {
    table: RoomTable,
    /// `None` with one node.
    cluster: Option<RoomsCluster>,
    overflow: Arc<OverflowFlag<GoodsId>>,
    stats: Arc<ShardStats>,
    /// Bytes of joins and leaves that are broadcast at the end of a gather interval.
    gather_bytes: usize,
}

impl Rooms {
    /// Starts the actor. Senders note in `overflow` the goods whose events found its mailbox full; `max_pending_bytes`
    /// is what may wait for one socket.
    pub(crate) fn open(
        time_zone: Tz,
        time: Arc<dyn TimeSource>,
        stats: Arc<ShardStats>,
        overflow: Arc<OverflowFlag<GoodsId>>,
        max_pending_bytes: usize,
        (store, topology): (Store, &Topology),
    ) -> Addr<Self> {
        let bus = topology.bus().cloned();
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_LIMIT);
            let cluster = bus.map(|bus| {
                Self::poll_store(store.clone(), ctx);
                RoomsCluster::new(bus, store, ctx.address().recipient(), stats.room_gaps.clone())
            });
            let table = RoomTable::new(time_zone, time, max_pending_bytes / 4);
            Self { table, cluster, overflow, stats, gather_bytes: GATHER_BYTES.min(max_pending_bytes / 4) }
        })
    }

    /// Compares all rooms with the store, again and again.
    fn poll_store(store: Store, ctx: &mut Context<Self>) {
        let goods = |actor: &mut Self| {
            let goods: HashSet<GoodsId> = actor.table.rooms.keys().map(|id| id.goods()).collect();
            goods.into_iter().collect()
        };
        let cursors = move |goods| {
            let store = store.clone();
            async move { store.room_cursors(goods).await }
        };
        Poller::start(ctx, "rooms", goods, cursors, |actor, goods, cursors| {
            if let Some(cluster) = &mut actor.cluster {
                cluster.compare(&goods, &cursors, &mut actor.table);
            }
        });
    }

    fn presence_changed(&mut self, id: RoomId, user: UserId, ctx: &mut Context<Self>) {
        let Some(room) = self.table.rooms.get_mut(&id) else { return };
        room.presence_changed(user);
        let mut orders = Orders::new();
        self.broadcast_presence(id, &mut orders, ctx);
        self.table.push(orders);
    }

    /// Broadcasts pending joins and leaves: at once in a small room, at the end of a gather interval in a large one or
    /// when more is pending than is sent at a time. So no client that reads is too slow, however many join at once.
    fn broadcast_presence(&mut self, id: RoomId, orders: &mut Orders, ctx: &mut Context<Self>) {
        let Some(room) = self.table.rooms.get_mut(&id) else { return };
        if room.size() <= SMALL_ROOM_LIMIT && !room.is_gathering {
            orders.extend(room.take_pending(self.gather_bytes).map(|order| (id, order)));
        }
        if !room.has_pending() || std::mem::replace(&mut room.is_gathering, true) {
            return;
        }
        ctx.run_later(room.gather_interval(), move |actor, ctx| {
            let Some(room) = actor.table.rooms.get_mut(&id) else { return };
            room.is_gathering = false;
            room.bytes_ahead = 0;
            let mut orders: Orders =
                room.take_pending(actor.gather_bytes).map(|order| (id, order)).into_iter().collect();
            actor.broadcast_presence(id, &mut orders, ctx);
            actor.table.push(orders);
        });
    }

    /// Recovers rooms whose events found the mailbox full. With several nodes they read these from the store. With one
    /// node their sockets close, so that clients reconnect and load the page again: a page that is silently wrong would
    /// be worse.
    fn recover_overflow(&mut self, orders: &mut Orders) {
        for goods in self.overflow.take() {
            for id in [RoomId::Auction(goods), RoomId::Trade(goods)] {
                match &mut self.cluster {
                    Some(cluster) => cluster.catch_up(id),
                    None if self.table.rooms.contains_key(&id) => orders.push((id, RoomOrder::CloseForOverflow)),
                    None => {}
                }
            }
        }
    }

    fn count(&self, goods: GoodsId) -> Present {
        let elsewhere = self.cluster.as_ref().map_or(0, |cluster| cluster.presence.visitors_elsewhere(goods));
        let room = self.table.rooms.get(&RoomId::Auction(goods));
        Present {
            participants: room.map_or(0, RoomState::count),
            watchers: room.map_or(elsewhere, |room| room.watchers(elsewhere)),
        }
    }

    /// Stops following the events of a room without sockets here, and removes it if no user is in it on other nodes.
    fn close_empty(&mut self, id: RoomId) {
        let Entry::Occupied(mut entry) = self.table.rooms.entry(id) else { return };
        if entry.get().members.sockets() > 0 {
            return;
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.stop_sync(id);
        }
        entry.get_mut().apply_without_frames(None);
        if entry.get().members.participants() == 0 {
            entry.remove();
        }
    }
}

impl Actor for Rooms {
    type Context = Context<Self>;
}

/// Attaches the shard of a worker. Sent once by each worker when it starts.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct AttachShardToRooms(pub ShardLink);

impl Handler<AttachShardToRooms> for Rooms {
    type Result = ();

    fn handle(&mut self, AttachShardToRooms(shard): AttachShardToRooms, _: &mut Self::Context) {
        self.table.shards.push(shard);
    }
}

/// A socket enters a room. Answered with true when it receives everything that happens there, with false if it can't.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct EnterRoom {
    pub room: RoomId,
    /// `None` for a visitor.
    pub user: Option<Arc<User>>,
    pub connection: ConnectionId,
    /// Whether the auction was over when the socket opened.
    pub is_over: bool,
}

impl Handler<EnterRoom> for Rooms {
    type Result = ActorResponse<Self, bool>;

    fn handle(&mut self, enter: EnterRoom, ctx: &mut Self::Context) -> Self::Result {
        let EnterRoom { room: id, user, connection, is_over } = enter;
        let room = self.table.rooms.entry(id).or_insert_with(|| RoomState::new(is_over));
        room.is_over |= is_over;
        let change = room.members.enter(user.clone(), connection);
        if let (Some(change), Some(user), RoomId::Auction(goods)) = (change, user, id) {
            if change.anywhere {
                self.presence_changed(id, user.id, ctx);
            }
            if let Some(cluster) = self.cluster.as_ref().filter(|_| change.here) {
                cluster.presence.notify(goods, &user, true);
            }
        }
        match self.cluster.as_mut().and_then(|cluster| cluster.start_sync(id)) {
            Some(is_ready) => ActorResponse::r#async(async move { is_ready.await.unwrap_or(false) }.into_actor(self)),
            None => ActorResponse::reply(true),
        }
    }
}

/// A socket leaves its room. It may not have entered: then nothing changes.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeaveRoom {
    pub room: RoomId,
    pub connection: ConnectionId,
}

impl Handler<LeaveRoom> for Rooms {
    type Result = ();

    fn handle(&mut self, LeaveRoom { room: id, connection }: LeaveRoom, ctx: &mut Self::Context) {
        let Some(room) = self.table.rooms.get_mut(&id) else { return };
        let user = room.members.user_of(connection);
        let change = room.members.leave(connection);
        if let (Some(change), RoomId::Auction(goods)) = (change, id) {
            if change.anywhere {
                self.presence_changed(id, change.user, ctx);
            }
            if let (true, Some(user), Some(cluster)) = (change.here, user, &self.cluster) {
                cluster.presence.notify(goods, &user, false);
            }
        }
        self.close_empty(id);
    }
}

/// Broadcasts the events of one transaction to the sockets of their rooms, in order. An empty list only makes the actor
/// look for an overflow.
#[derive(Message, Default)]
#[rtype(result = "()")]
pub(crate) struct BroadcastRoomEvents(pub Vec<RoomEvent>);

impl Handler<BroadcastRoomEvents> for Rooms {
    type Result = ();

    fn handle(&mut self, BroadcastRoomEvents(events): BroadcastRoomEvents, _: &mut Self::Context) {
        let mut orders = Orders::new();
        self.recover_overflow(&mut orders);
        for event in events {
            match &mut self.cluster {
                Some(cluster) => cluster.sequence_event(event, &mut self.table, &mut orders),
                None => self.table.add_orders(&event, &mut orders),
            }
        }
        self.table.push(orders);
    }
}

impl Handler<Awaited> for Rooms {
    type Result = ();

    fn handle(&mut self, awaited: Awaited, _: &mut Self::Context) {
        if let Some(cluster) = &mut self.cluster {
            cluster.resume(awaited, &mut self.table);
        }
    }
}

impl Handler<FromBus> for Rooms {
    type Result = ();

    fn handle(&mut self, FromBus(event): FromBus, ctx: &mut Self::Context) {
        let Some(cluster) = &mut self.cluster else { return };
        // One message for each worker, however many rooms have changed.
        let mut orders = Orders::new();
        for id in cluster.presence.apply(event, &mut self.table.rooms) {
            self.broadcast_presence(id, &mut orders, ctx);
            self.close_empty(id);
        }
        self.table.push(orders);
    }
}

/// Sends each auction room the number of its watchers, if that has changed enough, and the other nodes how many visitors
/// are here. Sent every 5 s.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct BroadcastWatchers;

impl Handler<BroadcastWatchers> for Rooms {
    type Result = ();

    fn handle(&mut self, _: BroadcastWatchers, _: &mut Self::Context) {
        if let Some(cluster) = &mut self.cluster {
            cluster.presence.send_visitors(&self.table.rooms);
        }
        let mut changed = Vec::new();
        for (id, room) in &mut self.table.rooms {
            let RoomId::Auction(goods) = *id else { continue };
            let elsewhere = self.cluster.as_ref().map_or(0, |cluster| cluster.presence.visitors_elsewhere(goods));
            changed.extend(room.take_watchers(elsewhere).map(|watchers| (*id, watchers)));
        }
        let order = |(id, watchers)| (id, self.table.watchers_order(watchers));
        self.table.push(changed.into_iter().map(order).collect());
    }
}

/// Counts who is in the auction rooms of these goods. Answered in the same order.
#[derive(Message)]
#[rtype(result = "Vec<Present>")]
pub(crate) struct CountPresent(pub Vec<GoodsId>);

/// How many are in an auction room.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Present {
    /// Users, according to the frames sent so far.
    pub participants: usize,
    /// Users and visitors.
    pub watchers: usize,
}

impl Handler<CountPresent> for Rooms {
    type Result = Vec<Present>;

    fn handle(&mut self, CountPresent(goods): CountPresent, _: &mut Self::Context) -> Vec<Present> {
        goods.into_iter().map(|goods| self.count(goods)).collect()
    }
}

/// Asks who is in an auction room.
#[derive(Message)]
#[rtype(result = "Participants")]
pub(crate) struct GetParticipants(pub GoodsId);

/// Who is in an auction room.
#[derive(Debug, Clone, MessageResponse)]
pub(crate) struct Participants {
    /// Users ordered by id. The list is shared, because a room can have ten thousand.
    pub users: Arc<[Arc<User>]>,
    /// How many users and visitors there are.
    pub watchers: usize,
}

impl Handler<GetParticipants> for Rooms {
    type Result = Participants;

    fn handle(&mut self, GetParticipants(goods): GetParticipants, _: &mut Self::Context) -> Participants {
        let Present { watchers, .. } = self.count(goods);
        let room = self.table.rooms.get_mut(&RoomId::Auction(goods));
        Participants { users: room.map_or_else(|| Arc::from([]), RoomState::list), watchers }
    }
}

/// Lists the auction rooms with most users, at most 200 of them, most users first. Ended auctions are left out.
#[derive(Message)]
#[rtype(result = "Vec<(GoodsId, usize)>")]
pub(crate) struct GetBusiestRooms;

impl Handler<GetBusiestRooms> for Rooms {
    type Result = Vec<(GoodsId, usize)>;

    fn handle(&mut self, _: GetBusiestRooms, _: &mut Self::Context) -> Vec<(GoodsId, usize)> {
        let mut rooms: Vec<_> = self
            .table
            .rooms
            .iter()
            .filter(|(_, room)| !room.is_over)
            .filter_map(|(id, room)| match id {
                RoomId::Auction(goods) => Some((*goods, room.count())),
                RoomId::Trade(_) => None,
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let most_users = |(goods, count): &(GoodsId, usize)| std::cmp::Reverse((*count, *goods));
        if rooms.len() > BUSIEST_ROOMS_LIMIT {
            rooms.select_nth_unstable_by_key(BUSIEST_ROOMS_LIMIT, most_users);
            rooms.truncate(BUSIEST_ROOMS_LIMIT);
        }
        rooms.sort_unstable_by_key(most_users);
        rooms
    }
}

/// Asks for [`RoomFigures`], for the health endpoint.
#[derive(Message)]
#[rtype(result = "RoomFigures")]
pub(crate) struct GetRoomFigures;

/// The rooms of this node in figures.
#[derive(Debug, Clone, Copy, Default, MessageResponse, serde::Serialize)]
pub(crate) struct RoomFigures {
    /// Rooms with open sockets.
    pub rooms: usize,
    /// Open sockets in them, visitors' included.
    #[serde(rename = "in_rooms")]
    pub sockets: usize,
    /// How many of these are visitors'.
    #[serde(skip)]
    pub visitors: usize,
    /// Frames put into the outboxes of these sockets since the start.
    #[serde(rename = "room_frames")]
    pub frames: u64,
    /// Sockets closed since the start because a full mailbox made their room miss something.
    pub closed_for_missing: u64,
}

impl Handler<GetRoomFigures> for Rooms {
    type Result = RoomFigures;

    fn handle(&mut self, _: GetRoomFigures, _: &mut Self::Context) -> RoomFigures {
        RoomFigures {
            rooms: self.table.rooms.values().filter(|room| room.members.sockets() > 0).count(),
            sockets: self.table.rooms.values().map(|room| room.members.sockets()).sum(),
            visitors: self.table.rooms.values().map(|room| room.members.visitors()).sum(),
            frames: self.stats.room_frames.get(),
            closed_for_missing: self.stats.closed_for_missing.get(),
        }
    }
}
