//! [`Rooms`], the actor of all auction rooms and trade chats of a node: who is in them, and what their sockets are
//! sent.
//!
//! It receives room events after their commit, in commit order. An event costs one encoding and one message to each
//! shard, however many sockets receive it; in a room without sockets it costs nothing.
//!
//! `membership` has who is in a room, `presence` the joins and leaves to be broadcast, `cluster` what several nodes
//! need. A worker's `shard` knows which of its sockets are in a room, and their outboxes hold the frames.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, atomic::Ordering},
};

use actix::prelude::*;
use bytes::Bytes;
use chrono_tz::Tz;

use super::{cluster_sync::ClusterLink, presence::RoomState};
use crate::actors::delivery::{
    encode::encode,
    frame::FrameKind,
    overflow::OverflowFlag,
    shard::{RoomOrder, RoomPush},
    shard_handle::ShardStats,
    shard_link::ShardLink,
};
use crate::actors::room_id::RoomId;
use crate::{
    bus::ConnectionId,
    domain::{GoodsId, Timestamp, User, UserId},
    protocol::{Close, RoomFrame},
    store::RoomEvent,
    time_source::TimeSource,
};

/// Messages that may wait. With more, rooms overflow: they catch up from the store, or their sockets close.
const MAILBOX_CAPACITY: usize = 4096;
/// Up to this size a room broadcasts joins and leaves at once; a larger one gathers them (see `presence`), so that many
/// users who come at once delay no bid.
const SMALL_ROOM_LIMIT: usize = 64;
/// Bytes of joins and leaves that are broadcast at the end of a gather interval, if a quarter of `max_pending_bytes` is
/// not less.
const GATHER_BYTES: usize = 64 * 1024;
/// Rooms in the list of the busiest.
const BUSIEST_ROOMS_LIMIT: usize = 200;

/// The rooms of this node. There is one such actor per node.
pub struct Rooms {
    /// Rooms with sockets here, or with users on other nodes.
    pub(crate) rooms: HashMap<RoomId, RoomState>,
    pub(crate) cluster: ClusterLink,
    shards: Vec<ShardLink>,
    time_zone: Tz,
    time: Arc<dyn TimeSource>,
    overflow: Arc<OverflowFlag<GoodsId>>,
    stats: Arc<ShardStats>,
    /// Bytes of joins and leaves that are broadcast at the end of a gather interval.
    gather_bytes: usize,
    /// Bytes of joins and leaves that are sent ahead of room events in one gather interval. A slow socket may have
    /// twice this waiting, plus `gather_bytes`.
    ahead_bytes: usize,
}

impl Rooms {
    /// Starts the actor. Senders note in `overflow` the goods whose events found its mailbox full; `max_pending_bytes`
    /// is what may wait for one socket.
    pub fn open(
        time_zone: Tz,
        time: Arc<dyn TimeSource>,
        stats: Arc<ShardStats>,
        overflow: Arc<OverflowFlag<GoodsId>>,
        max_pending_bytes: usize,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX_CAPACITY);
            Self {
                rooms: HashMap::new(),
                cluster: ClusterLink::default(),
                shards: Vec::new(),
                time_zone,
                time,
                overflow,
                stats,
                gather_bytes: GATHER_BYTES.min(max_pending_bytes / 4),
                ahead_bytes: max_pending_bytes / 4,
            }
        })
    }

    /// Hands the orders to all shards.
    pub(crate) fn push(&self, orders: Vec<(RoomId, RoomOrder)>) {
        if let Some((last, others)) = self.shards.split_last().filter(|_| !orders.is_empty()) {
            for shard in others {
                shard.push_to_rooms(RoomPush(orders.clone()));
            }
            last.push_to_rooms(RoomPush(orders));
        }
    }

    fn presence_changed(&mut self, id: RoomId, user: UserId, ctx: &mut Context<Self>) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.presence_changed(user);
        let mut orders = Vec::new();
        self.broadcast_presence(id, &mut orders, ctx);
        self.push(orders);
    }

    /// Broadcasts pending joins and leaves: at once in a small room, at the end of a gather interval in a large one or
    /// when more is pending than is sent at a time. So no client that reads is too slow, however many join at once.
    pub(crate) fn broadcast_presence(
        &mut self,
        id: RoomId,
        orders: &mut Vec<(RoomId, RoomOrder)>,
        ctx: &mut Context<Self>,
    ) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        if room.size() <= SMALL_ROOM_LIMIT && !room.is_gathering {
            orders.extend(room.take_pending(self.gather_bytes).map(|order| (id, order)));
        }
        if !room.has_pending() || std::mem::replace(&mut room.is_gathering, true) {
            return;
        }
        ctx.run_later(room.gather_interval(), move |actor, ctx| {
            let Some(room) = actor.rooms.get_mut(&id) else { return };
            room.is_gathering = false;
            room.bytes_ahead = 0;
            let mut orders: Vec<_> =
                room.take_pending(actor.gather_bytes).map(|order| (id, order)).into_iter().collect();
            actor.broadcast_presence(id, &mut orders, ctx);
            actor.push(orders);
        });
    }

    /// Adds an order for a room, with pending joins and leaves ahead of it.
    fn add_order(&mut self, id: RoomId, order: impl FnOnce(&Self) -> RoomOrder, orders: &mut Vec<(RoomId, RoomOrder)>) {
        let Some(room) = self.rooms.get_mut(&id) else { return };
        orders.extend(room.take_pending_ahead(self.ahead_bytes).map(|ahead| (id, ahead)));
        orders.push((id, order(self)));
    }

    /// Adds the orders that an event means for its room.
    pub(crate) fn broadcast_event(&mut self, event: &RoomEvent, orders: &mut Vec<(RoomId, RoomOrder)>) {
        if let RoomEvent::Ended { goods, .. } = event
            && let Some(room) = self.rooms.get_mut(&RoomId::Auction(*goods))
        {
            room.is_over = true;
        }
        let frame = |frame: &RoomFrame<'_>| RoomOrder::Frame { bytes: encode(frame), kind: FrameKind::Other };
        match event {
            RoomEvent::Started(goods) => {
                self.add_order(RoomId::Auction(*goods), |_| frame(&RoomFrame::Started), orders);
            }
            RoomEvent::Bid { bid, bidder } => self.add_order(
                RoomId::Auction(bid.bid.goods),
                |actor| {
                    frame(&RoomFrame::Bid {
                        sender: bidder.id,
                        sender_name: &bidder.username,
                        sender_image: &bidder.profile_image,
                        goods_id: bid.bid.goods,
                        high_price: bid.high_price,
                        seq: bid.seq,
                        bid_id: bid.id,
                        ends_at: bid.ends_at,
                        server_time: actor.time.now(),
                    })
                },
                orders,
            ),
            RoomEvent::Extended { goods, ends_at, .. } => {
                let ends_at = *ends_at;
                self.add_order(RoomId::Auction(*goods), |_| frame(&RoomFrame::Extended { ends_at }), orders);
            }
            RoomEvent::Ended { goods, buyer, high_price, .. } => self.add_order(
                RoomId::Auction(*goods),
                |_| {
                    frame(&RoomFrame::Ended {
                        buyer_id: buyer.as_ref().map(|buyer| buyer.id),
                        buyer_name: buyer.as_ref().map(|buyer| buyer.name.as_str()),
                        high_price: high_price.map_or(0, |price| price.won()),
                    })
                },
                orders,
            ),
            RoomEvent::Line { goods, author, text, at, .. } => self.add_order(
                RoomId::Auction(*goods),
                |actor| RoomOrder::Frame {
                    bytes: actor.message_frame(*goods, author, None, text.as_str(), *at),
                    kind: FrameKind::Other,
                },
                orders,
            ),
            RoomEvent::TradeMessage { goods, id, author, text, at } => self.add_order(
                RoomId::Trade(*goods),
                |actor| RoomOrder::Frame {
                    bytes: actor.message_frame(*goods, author, Some(&author.profile_image), text.as_str(), *at),
                    kind: FrameKind::Trade(*id),
                },
                orders,
            ),
            RoomEvent::Deleted(goods) => {
                self.add_order(RoomId::Auction(*goods), |_| RoomOrder::Close(Close::GoodsDeleted), orders);
            }
        }
    }

    fn message_frame(&self, goods: GoodsId, author: &User, image: Option<&str>, text: &str, at: Timestamp) -> Bytes {
        encode(&RoomFrame::Message {
            message: text,
            sender: author.id,
            sender_image: image,
            sender_name: &author.username,
            goods_id: goods,
            time: at.local(self.time_zone).twelve_hour(),
        })
    }

    /// Recovers rooms whose events found the mailbox full. With several nodes they read these from the store. With one
    /// node their sockets close, so that clients reconnect and load the page again: a page that is silently wrong would
    /// be worse.
    fn recover_overflow(&mut self, orders: &mut Vec<(RoomId, RoomOrder)>, ctx: &mut Context<Self>) {
        for goods in self.overflow.take() {
            for id in [RoomId::Auction(goods), RoomId::Trade(goods)] {
                if self.cluster.is_on() {
                    self.catch_up(id, ctx);
                } else if self.rooms.contains_key(&id) {
                    orders.push((id, RoomOrder::CloseForOverflow));
                }
            }
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
        self.shards.push(shard);
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
        let room = self.rooms.entry(id).or_insert_with(|| RoomState::new(is_over));
        room.is_over |= is_over;
        let change = room.members.enter(user.clone(), connection);
        if let (Some(change), Some(user), RoomId::Auction(goods)) = (change, user, id) {
            if change.anywhere {
                self.presence_changed(id, user.id, ctx);
            }
            if change.here {
                self.notify_nodes(goods, &user, true);
            }
        }
        if self.cluster.is_on() { self.start_sync(id, ctx) } else { ActorResponse::reply(true) }
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
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let user = room.members.user_of(connection);
        let change = room.members.leave(connection);
        if let (Some(change), RoomId::Auction(goods)) = (change, id) {
            if change.anywhere {
                self.presence_changed(id, change.user, ctx);
            }
            if let (true, Some(user)) = (change.here, user) {
                self.notify_nodes(goods, &user, false);
            }
        }
        self.close_empty(id);
    }
}

impl Rooms {
    /// Stops following the events of a room without sockets here, and removes it if no user is in it on other nodes.
    pub(crate) fn close_empty(&mut self, id: RoomId) {
        let Entry::Occupied(mut entry) = self.rooms.entry(id) else { return };
        let room = entry.get_mut();
        if room.members.sockets() > 0 {
            return;
        }
        if room.sync.is_subscribed {
            self.cluster.unsubscribe(id);
        }
        room.stop_sync();
        if room.members.participants() == 0 {
            entry.remove();
        }
    }
}

/// Broadcasts the events of one transaction to the sockets of their rooms, in order. An empty list only makes the actor
/// look for an overflow.
#[derive(Message)]
#[rtype(result = "()")]
pub struct BroadcastRoomEvents(pub Vec<RoomEvent>);

impl Handler<BroadcastRoomEvents> for Rooms {
    type Result = ();

    fn handle(&mut self, BroadcastRoomEvents(events): BroadcastRoomEvents, ctx: &mut Self::Context) {
        let mut orders = Vec::new();
        self.recover_overflow(&mut orders, ctx);
        for event in events {
            if self.cluster.is_on() {
                self.sequence_event(event, &mut orders, ctx);
            } else {
                self.broadcast_event(&event, &mut orders);
            }
        }
        self.push(orders);
    }
}

/// Counts the users in the auction rooms of these goods. Answered in the same order.
#[derive(Message)]
#[rtype(result = "Vec<usize>")]
pub struct CountParticipants(pub Vec<GoodsId>);

impl Handler<CountParticipants> for Rooms {
    type Result = Vec<usize>;

    fn handle(&mut self, CountParticipants(goods): CountParticipants, _: &mut Self::Context) -> Vec<usize> {
        let count = |goods| self.rooms.get(&RoomId::Auction(goods)).map_or(0, RoomState::count);
        goods.into_iter().map(count).collect()
    }
}

/// Lists the users in an auction room.
#[derive(Message)]
#[rtype(result = "Participants")]
pub struct GetParticipants(pub GoodsId);

/// Users ordered by id. The list is shared, because a room can have ten thousand.
#[derive(Debug, Clone, MessageResponse)]
pub struct Participants(pub Arc<[Arc<User>]>);

impl Handler<GetParticipants> for Rooms {
    type Result = Participants;

    fn handle(&mut self, GetParticipants(goods): GetParticipants, _: &mut Self::Context) -> Participants {
        let room = self.rooms.get_mut(&RoomId::Auction(goods));
        Participants(room.map_or_else(|| Arc::from([]), RoomState::list))
    }
}

/// Lists the auction rooms with most users, at most 200 of them, most users first. Ended auctions are left out.
#[derive(Message)]
#[rtype(result = "Vec<(GoodsId, usize)>")]
pub struct GetBusiestRooms;

impl Handler<GetBusiestRooms> for Rooms {
    type Result = Vec<(GoodsId, usize)>;

    fn handle(&mut self, _: GetBusiestRooms, _: &mut Self::Context) -> Vec<(GoodsId, usize)> {
        let mut rooms: Vec<_> = self
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
pub struct GetRoomFigures;

/// The rooms of this node in figures.
#[derive(Debug, Clone, Copy, Default, MessageResponse, serde::Serialize)]
pub struct RoomFigures {
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
            rooms: self.rooms.values().filter(|room| room.members.sockets() > 0).count(),
            sockets: self.rooms.values().map(|room| room.members.sockets()).sum(),
            visitors: self.rooms.values().map(|room| room.members.visitors()).sum(),
            frames: self.stats.room_frames.load(Ordering::Relaxed),
            closed_for_missing: self.stats.closed_for_missing.load(Ordering::Relaxed),
        }
    }
}
