//! The `Rooms`: who is in which auction room or trade chat, and what everybody there hears. Who is present is in `membership`,
//! what waits for a socket in its `outbox`, which sockets of a worker are in a room its `shard` knows.
//!
//! News come after their commit, in commit order. One costs one encoding and one message to each shard, however many
//! listen; a room without listeners costs nothing.

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
    overflow::OverflowFlag,
    shard::{RoomOrder, RoomPush, ShardLink, ShardStats},
};
use crate::actors::room_id::RoomId;
use crate::{
    domain::{GoodsId, Timestamp, User, UserId},
    protocol::{Close, RoomFrame},
    store::RoomEvent,
    time_source::TimeSource,
};

/// Commits with news, comings and goings that may wait; beyond, the rooms that miss something are closed.
const MAILBOX: usize = 4096;
/// In rooms of up to so many comings and goings are told at once; in larger ones they are gathered for a while (`presence`), so
/// that many who come at once keep nobody's bid waiting.
const SMALL: usize = 64;
/// Of what was gathered so many bytes are told at a time, or a quarter of what may wait for a socket.
const GATHER_BYTES: usize = 64 * 1024;
/// Rooms that are worth a recommendation.
const BUSIEST: usize = 200;

/// One for the whole node.
pub struct Rooms {
    pub(crate) halls: HashMap<RoomId, RoomState>,
    /// What other nodes need to know and are told, and what is needed of them.
    pub(crate) several: ClusterLink,
    shards: Vec<ShardLink>,
    time_zone: Tz,
    time: Arc<dyn TimeSource>,
    missed: Arc<OverflowFlag<GoodsId>>,
    stats: Arc<ShardStats>,
    gather_bytes: usize,
    /// Of who has come and gone so much is told ahead of news: twice that, and what is gathered, may wait for a socket.
    ahead_bytes: usize,
}

impl Rooms {
    /// Starts without rooms. `missed` is noted by whoever can't hand news over because the mailbox is full;
    /// `max_pending_bytes` is what may wait for a socket.
    pub fn open(
        time_zone: Tz,
        time: Arc<dyn TimeSource>,
        stats: Arc<ShardStats>,
        missed: Arc<OverflowFlag<GoodsId>>,
        max_pending_bytes: usize,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            Self {
                halls: HashMap::new(),
                several: ClusterLink::default(),
                shards: Vec::new(),
                time_zone,
                time,
                missed,
                stats,
                gather_bytes: GATHER_BYTES.min(max_pending_bytes / 4),
                ahead_bytes: max_pending_bytes / 4,
            }
        })
    }

    pub(crate) fn push(&self, orders: Vec<(RoomId, RoomOrder)>) {
        if let Some((last, others)) = self.shards.split_last().filter(|_| !orders.is_empty()) {
            for shard in others {
                shard.push_to_rooms(RoomPush(orders.clone()));
            }
            last.push_to_rooms(RoomPush(orders));
        }
    }

    /// Tells a room who has come or gone: at once, or in a large room with others.
    fn tell_presence(&mut self, id: RoomId, user: UserId, ctx: &mut Context<Self>) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        hall.moved(user);
        let mut orders = Vec::new();
        self.tell_untold(id, &mut orders, ctx);
        self.push(orders);
    }

    /// Tells a small room who has come or gone. In a large one, and of a crowd, it is told soon, a bounded part at a time:
    /// however many come or go at once, nobody who reads is too slow for it.
    pub(crate) fn tell_untold(&mut self, id: RoomId, orders: &mut Vec<(RoomId, RoomOrder)>, ctx: &mut Context<Self>) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        if hall.size() <= SMALL && !hall.gathering {
            orders.extend(hall.take_untold(self.gather_bytes).map(|order| (id, order)));
        }
        if !hall.has_untold() || std::mem::replace(&mut hall.gathering, true) {
            return;
        }
        ctx.run_later(hall.gather_for(), move |rooms, ctx| {
            let Some(hall) = rooms.halls.get_mut(&id) else { return };
            hall.gathering = false;
            hall.told_ahead = 0;
            let mut orders: Vec<_> =
                hall.take_untold(rooms.gather_bytes).map(|order| (id, order)).into_iter().collect();
            rooms.tell_untold(id, &mut orders, ctx);
            rooms.push(orders);
        });
    }

    /// Puts what a room hears behind who has come and gone before it.
    fn tell(&mut self, id: RoomId, order: impl FnOnce(&Self) -> RoomOrder, orders: &mut Vec<(RoomId, RoomOrder)>) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        orders.extend(hall.take_ahead(self.ahead_bytes).map(|ahead| (id, ahead)));
        orders.push((id, order(self)));
    }

    pub(crate) fn tell_news(&mut self, news: &RoomEvent, orders: &mut Vec<(RoomId, RoomOrder)>) {
        if let RoomEvent::Ended { goods, .. } = news
            && let Some(hall) = self.halls.get_mut(&RoomId::Auction(*goods))
        {
            hall.is_over = true;
        }
        let frame = |frame: &RoomFrame<'_>| RoomOrder::Frame { bytes: encode(frame), id: 0 };
        match news {
            RoomEvent::Started(goods) => {
                self.tell(RoomId::Auction(*goods), |_| frame(&RoomFrame::Started), orders);
            }
            RoomEvent::Bid { bid, bidder } => self.tell(
                RoomId::Auction(bid.bid.goods),
                |rooms| {
                    frame(&RoomFrame::Bid {
                        sender: bidder.id,
                        sender_name: &bidder.username,
                        sender_image: &bidder.profile_image,
                        goods_id: bid.bid.goods,
                        high_price: bid.high_price,
                        seq: bid.seq,
                        bid_id: bid.id,
                        ends_at: bid.ends_at,
                        server_time: rooms.time.now(),
                    })
                },
                orders,
            ),
            RoomEvent::Extended { goods, ends_at, .. } => {
                let ends_at = *ends_at;
                self.tell(RoomId::Auction(*goods), |_| frame(&RoomFrame::Extended { ends_at }), orders);
            }
            RoomEvent::Ended { goods, buyer, high_price, .. } => self.tell(
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
            RoomEvent::Line { goods, author, text, at, .. } => self.tell(
                RoomId::Auction(*goods),
                |rooms| RoomOrder::Frame { bytes: rooms.message(*goods, author, None, text.as_str(), *at), id: 0 },
                orders,
            ),
            RoomEvent::TradeMessage { goods, id, author, text, at } => self.tell(
                RoomId::Trade(*goods),
                |rooms| RoomOrder::Frame {
                    bytes: rooms.message(*goods, author, Some(&author.profile_image), text.as_str(), *at),
                    id: id.get(),
                },
                orders,
            ),
            RoomEvent::Deleted(goods) => {
                self.tell(RoomId::Auction(*goods), |_| RoomOrder::Close(Close::GoodsDeleted), orders);
            }
        }
    }

    fn message(&self, goods: GoodsId, author: &User, image: Option<&str>, text: &str, at: Timestamp) -> Bytes {
        encode(&RoomFrame::Message {
            message: text,
            sender: author.id,
            sender_image: image,
            sender_name: &author.username,
            goods_id: goods,
            time: at.local(self.time_zone).half_day(),
        })
    }

    /// The sockets of rooms that have missed something end, so that their clients look how things stand: a room that
    /// is silently wrong would be worse. With several nodes rooms can read what they have missed.
    fn make_good_missed(&mut self, orders: &mut Vec<(RoomId, RoomOrder)>, ctx: &mut Context<Self>) {
        for goods in self.missed.take() {
            for id in [RoomId::Auction(goods), RoomId::Trade(goods)] {
                if self.several.is_on() {
                    self.catch_up(id, ctx);
                } else if self.halls.contains_key(&id) {
                    orders.push((id, RoomOrder::CloseForMissing));
                }
            }
        }
    }
}

impl Actor for Rooms {
    type Context = Context<Self>;
}

/// A worker brings its shard.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct OpenToShard(pub ShardLink);

impl Handler<OpenToShard> for Rooms {
    type Result = ();

    fn handle(&mut self, OpenToShard(shard): OpenToShard, _: &mut Self::Context) {
        self.shards.push(shard);
    }
}

/// A socket comes into a room. Answered when it hears everything that happens there, or (false) can't.
#[derive(Message)]
#[rtype(result = "bool")]
pub(crate) struct Enter {
    pub room: RoomId,
    /// `None`: a visitor.
    pub user: Option<Arc<User>>,
    pub connection: u64,
    /// The auction was over when the socket was opened.
    pub is_over: bool,
}

impl Handler<Enter> for Rooms {
    type Result = ActorResponse<Self, bool>;

    fn handle(&mut self, enter: Enter, ctx: &mut Self::Context) -> Self::Result {
        let Enter { room: id, user, connection, is_over } = enter;
        let hall = self.halls.entry(id).or_insert_with(|| RoomState::new(is_over));
        hall.is_over |= is_over;
        let change = hall.room.enter(user.clone(), connection);
        if let (Some(change), Some(user), RoomId::Auction(goods)) = (change, user, id) {
            if change.anywhere {
                self.tell_presence(id, user.id, ctx);
            }
            if change.here {
                self.tell_others(goods, &user, true);
            }
        }
        if self.several.is_on() { self.begin_course(id, ctx) } else { ActorResponse::reply(true) }
    }
}

/// A socket leaves its room, or never came in.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GoOut {
    pub room: RoomId,
    pub connection: u64,
}

impl Handler<GoOut> for Rooms {
    type Result = ();

    fn handle(&mut self, GoOut { room: id, connection }: GoOut, ctx: &mut Self::Context) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        let user = hall.room.user_of(connection);
        let change = hall.room.leave(connection);
        if let (Some(change), RoomId::Auction(goods)) = (change, id) {
            if change.anywhere {
                self.tell_presence(id, change.user, ctx);
            }
            if let (true, Some(user)) = (change.here, user) {
                self.tell_others(goods, &user, false);
            }
        }
        self.close_empty(id);
    }
}

impl Rooms {
    /// A room without anybody leaves nothing behind, one without sockets here hears nothing.
    pub(crate) fn close_empty(&mut self, id: RoomId) {
        let Entry::Occupied(mut entry) = self.halls.entry(id) else { return };
        let hall = entry.get_mut();
        if hall.room.sockets() > 0 {
            return;
        }
        if hall.hearing.is_held {
            self.several.release(id);
        }
        hall.stop_hearing();
        if hall.room.participants() == 0 {
            entry.remove();
        }
    }
}

/// What the commits of one transaction mean for the rooms, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TellRooms(pub Vec<RoomEvent>);

impl Handler<TellRooms> for Rooms {
    type Result = ();

    fn handle(&mut self, TellRooms(all): TellRooms, ctx: &mut Self::Context) {
        let mut orders = Vec::new();
        self.make_good_missed(&mut orders, ctx);
        for news in all {
            if self.several.is_on() {
                self.tell_in_course(news, &mut orders, ctx);
            } else {
                self.tell_news(&news, &mut orders);
            }
        }
        self.push(orders);
    }
}

/// Asks how many users are in the auction rooms of these goods, in the same order.
#[derive(Message)]
#[rtype(result = "Vec<usize>")]
pub struct CountParticipants(pub Vec<GoodsId>);

impl Handler<CountParticipants> for Rooms {
    type Result = Vec<usize>;

    fn handle(&mut self, CountParticipants(goods): CountParticipants, _: &mut Self::Context) -> Vec<usize> {
        let count = |goods| self.halls.get(&RoomId::Auction(goods)).map_or(0, RoomState::count);
        goods.into_iter().map(count).collect()
    }
}

/// Asks who is in an auction room.
#[derive(Message)]
#[rtype(result = "Participants")]
pub struct GetParticipants(pub GoodsId);

/// Users, by id, shared: a room can have ten thousand.
#[derive(Debug, Clone, MessageResponse)]
pub struct Participants(pub Arc<[Arc<User>]>);

impl Handler<GetParticipants> for Rooms {
    type Result = Participants;

    fn handle(&mut self, GetParticipants(goods): GetParticipants, _: &mut Self::Context) -> Participants {
        let hall = self.halls.get_mut(&RoomId::Auction(goods));
        Participants(hall.map_or_else(|| Arc::from([]), RoomState::list))
    }
}

/// Asks for the fullest auction rooms that are not over, at most 200, the fullest first.
#[derive(Message)]
#[rtype(result = "Vec<(GoodsId, usize)>")]
pub struct GetBusiest;

impl Handler<GetBusiest> for Rooms {
    type Result = Vec<(GoodsId, usize)>;

    fn handle(&mut self, _: GetBusiest, _: &mut Self::Context) -> Vec<(GoodsId, usize)> {
        let mut rooms: Vec<_> = self
            .halls
            .iter()
            .filter(|(_, hall)| !hall.is_over)
            .filter_map(|(id, hall)| match id {
                RoomId::Auction(goods) => Some((*goods, hall.count())),
                RoomId::Trade(_) => None,
            })
            .filter(|(_, count)| *count > 0)
            .collect();
        let fullest = |(goods, count): &(GoodsId, usize)| std::cmp::Reverse((*count, *goods));
        if rooms.len() > BUSIEST {
            rooms.select_nth_unstable_by_key(BUSIEST, fullest);
            rooms.truncate(BUSIEST);
        }
        rooms.sort_unstable_by_key(fullest);
        rooms
    }
}

/// Asks for [`RoomFigures`].
#[derive(Message)]
#[rtype(result = "RoomFigures")]
pub struct GetRoomFigures;

/// Figures for the health endpoint.
#[derive(Debug, Clone, Copy, MessageResponse)]
pub struct RoomFigures {
    /// Rooms that somebody is in.
    pub rooms: usize,
    /// Sockets in them, visitors' among them.
    pub sockets: usize,
    /// Sockets of nobody.
    pub visitors: usize,
    /// Frames handed to them since the start.
    pub heard: u64,
    /// Sockets closed because their room missed something when a mailbox was full.
    pub closed_for_missing: u64,
}

impl Handler<GetRoomFigures> for Rooms {
    type Result = RoomFigures;

    fn handle(&mut self, _: GetRoomFigures, _: &mut Self::Context) -> RoomFigures {
        RoomFigures {
            rooms: self.halls.values().filter(|hall| hall.room.sockets() > 0).count(),
            sockets: self.halls.values().map(|hall| hall.room.sockets()).sum(),
            visitors: self.halls.values().map(|hall| hall.room.visitors()).sum(),
            heard: self.stats.heard.load(Ordering::Relaxed),
            closed_for_missing: self.stats.closed_for_missing.load(Ordering::Relaxed),
        }
    }
}
