//! The `Rooms`: who is in which auction room or trade chat, and what everybody there hears. Who is present is in `room`,
//! what waits for a socket in its `outbox`, which sockets of a worker are in a room its `shard` knows.
//!
//! News come after their commit, in commit order. One costs one encoding and one message to each shard, however many
//! listen; a room without listeners costs nothing.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use actix::prelude::*;
use bytes::{Bytes, BytesMut};
use chrono_tz::Tz;

use super::{
    missed::Missed,
    room::{Room, RoomId},
    shard::{RoomOrder, RoomPush, ShardLink, ShardStats},
    wire::encode,
};
use crate::{
    domain::{GoodsId, Timestamp, User},
    protocol::{Close, RoomFrame},
    store::RoomNews,
    time_source::TimeSource,
};

/// Commits with news, comings and goings that may wait; beyond, the rooms that miss something are closed.
const MAILBOX: usize = 4096;
/// In rooms up to so many sockets comings and goings are told at once.
const SMALL: usize = 64;
/// In larger ones they are gathered for so long per thousand sockets, at most a second: ten thousand who come in one
/// after another are fifty million frames, which must not keep anybody's bid waiting.
const GATHER_MS_PER_THOUSAND: usize = 100;
const GATHER_AT_MOST: Duration = Duration::from_secs(1);
/// … or until they are so many bytes, or half of what may wait for a socket.
const GATHER_BYTES: usize = 64 * 1024;
/// Rooms that are worth a recommendation.
const BUSIEST: usize = 200;

/// A room with what is gathered for it.
struct Hall {
    room: Room,
    /// Who is in the room as far as it has been told: what a page shows must go with the frames that follow it.
    told: Arc<[Arc<User>]>,
    /// The auction is over: nothing here to recommend.
    is_over: bool,
    /// Comings and goings that have not been told.
    gathered: BytesMut,
    gathering: bool,
}

impl Hall {
    fn gather_for(&self) -> Duration {
        let ms = self.room.sockets() * GATHER_MS_PER_THOUSAND / 1000;
        Duration::from_millis(ms as u64).min(GATHER_AT_MOST)
    }

    fn new(is_over: bool) -> Self {
        let (room, told) = (Room::default(), Arc::from([]));
        Self { room, told, is_over, gathered: BytesMut::new(), gathering: false }
    }

    /// What has been gathered, which is told with this.
    fn take_gathered(&mut self) -> Option<RoomOrder> {
        if !self.gathered.is_empty() {
            self.told = self.room.users().map(Arc::clone).collect();
        }
        let bytes = std::mem::take(&mut self.gathered).freeze();
        (!bytes.is_empty()).then_some(RoomOrder::Frame { bytes, id: 0 })
    }
}

/// One for the whole node.
pub struct Rooms {
    halls: HashMap<RoomId, Hall>,
    shards: Vec<ShardLink>,
    time_zone: Tz,
    time: Arc<dyn TimeSource>,
    missed: Arc<Missed<GoodsId>>,
    stats: Arc<ShardStats>,
    gather_bytes: usize,
}

impl Rooms {
    /// Starts without rooms. `missed` is noted by whoever can't hand news over because the mailbox is full;
    /// `max_pending_bytes` is what may wait for a socket.
    pub fn open(
        time_zone: Tz,
        time: Arc<dyn TimeSource>,
        stats: Arc<ShardStats>,
        missed: Arc<Missed<GoodsId>>,
        max_pending_bytes: usize,
    ) -> Addr<Self> {
        Self::create(|ctx| {
            ctx.set_mailbox_capacity(MAILBOX);
            let (halls, shards) = (HashMap::new(), Vec::new());
            Self {
                halls,
                shards,
                time_zone,
                time,
                missed,
                stats,
                gather_bytes: GATHER_BYTES.min(max_pending_bytes / 2),
            }
        })
    }

    fn push(&self, orders: Vec<(RoomId, RoomOrder)>) {
        if let Some((last, others)) = self.shards.split_last().filter(|_| !orders.is_empty()) {
            for shard in others {
                shard.push_to_rooms(RoomPush(orders.clone()));
            }
            last.push_to_rooms(RoomPush(orders));
        }
    }

    /// Tells a room who has come or gone: at once, or in a large room with others.
    fn tell_presence(&mut self, id: RoomId, frame: &Bytes, ctx: &mut Context<Self>) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        hall.gathered.extend_from_slice(frame);
        if hall.room.sockets() <= SMALL || hall.gathered.len() >= self.gather_bytes {
            let order = hall.take_gathered();
            self.push(order.map(|order| (id, order)).into_iter().collect());
        } else if !hall.gathering {
            hall.gathering = true;
            ctx.run_later(hall.gather_for(), move |rooms, _| {
                let Some(hall) = rooms.halls.get_mut(&id) else { return };
                hall.gathering = false;
                let order = hall.take_gathered();
                rooms.push(order.map(|order| (id, order)).into_iter().collect());
            });
        }
    }

    /// Puts what a room hears behind what has been gathered for it.
    fn tell(&mut self, id: RoomId, order: impl FnOnce(&Self) -> RoomOrder, orders: &mut Vec<(RoomId, RoomOrder)>) {
        let Some(hall) = self.halls.get_mut(&id) else { return };
        let gathered = hall.take_gathered();
        orders.extend(gathered.map(|gathered| (id, gathered)));
        orders.push((id, order(self)));
    }

    fn tell_news(&mut self, news: &RoomNews, orders: &mut Vec<(RoomId, RoomOrder)>) {
        if let RoomNews::Ended { goods, .. } = news
            && let Some(hall) = self.halls.get_mut(&RoomId::Auction(*goods))
        {
            hall.is_over = true;
        }
        let frame = |frame: &RoomFrame<'_>| RoomOrder::Frame { bytes: encode(frame), id: 0 };
        match news {
            RoomNews::Started(goods) => {
                self.tell(RoomId::Auction(*goods), |_| frame(&RoomFrame::Started), orders);
            }
            RoomNews::Bid { bid, bidder } => self.tell(
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
            RoomNews::Extended { goods, ends_at } => {
                let ends_at = *ends_at;
                self.tell(RoomId::Auction(*goods), |_| frame(&RoomFrame::Extended { ends_at }), orders);
            }
            RoomNews::Ended { goods, buyer, high_price } => self.tell(
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
            RoomNews::Line { goods, author, text, at } => self.tell(
                RoomId::Auction(*goods),
                |rooms| RoomOrder::Frame { bytes: rooms.message(*goods, author, None, text.as_str(), *at), id: 0 },
                orders,
            ),
            RoomNews::TradeMessage { goods, id, author, text, at } => self.tell(
                RoomId::Trade(*goods),
                |rooms| RoomOrder::Frame {
                    bytes: rooms.message(*goods, author, Some(&author.profile_image), text.as_str(), *at),
                    id: id.get(),
                },
                orders,
            ),
            RoomNews::Deleted(goods) => {
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
    /// is silently wrong would be worse.
    fn close_missed(&self, orders: &mut Vec<(RoomId, RoomOrder)>) {
        for goods in self.missed.take() {
            for id in [RoomId::Auction(goods), RoomId::Trade(goods)] {
                if let Some(hall) = self.halls.get(&id) {
                    self.stats.closed_for_missing.fetch_add(hall.room.sockets() as u64, Ordering::Relaxed);
                    orders.push((id, RoomOrder::Close(Close::TryAgainLater)));
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
pub(super) struct OpenToShard(pub ShardLink);

impl Handler<OpenToShard> for Rooms {
    type Result = ();

    fn handle(&mut self, OpenToShard(shard): OpenToShard, _: &mut Self::Context) {
        self.shards.push(shard);
    }
}

/// A socket comes into a room. Answered when it hears everything that happens there.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Enter {
    pub room: RoomId,
    /// `None`: a visitor.
    pub user: Option<Arc<User>>,
    pub connection: u64,
    /// The auction was over when the socket was opened.
    pub is_over: bool,
}

impl Handler<Enter> for Rooms {
    type Result = ();

    fn handle(&mut self, enter: Enter, ctx: &mut Self::Context) {
        let Enter { room: id, user, connection, is_over } = enter;
        let hall = self.halls.entry(id).or_insert_with(|| Hall::new(is_over));
        let is_first = hall.room.enter(user.clone(), connection);
        if let (true, Some(user), RoomId::Auction(_)) = (is_first, user, id) {
            let frame = encode(&RoomFrame::Enter {
                sender: user.id,
                sender_name: &user.username,
                participants_count: hall.room.participants(),
                user_id: user.id,
            });
            self.tell_presence(id, &frame, ctx);
        }
    }
}

/// A socket leaves its room, or never came in.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct GoOut {
    pub room: RoomId,
    pub connection: u64,
}

impl Handler<GoOut> for Rooms {
    type Result = ();

    fn handle(&mut self, GoOut { room: id, connection }: GoOut, ctx: &mut Self::Context) {
        let Entry::Occupied(mut entry) = self.halls.entry(id) else { return };
        let room = &mut entry.get_mut().room;
        let gone = room.leave(connection);
        let participants_count = room.participants();
        if room.sockets() == 0 {
            entry.remove();
        } else if let (Some(user_id), RoomId::Auction(_)) = (gone, id) {
            let frame = encode(&RoomFrame::Out { participants_count, user_id });
            self.tell_presence(id, &frame, ctx);
        }
    }
}

/// What the commits of one transaction mean for the rooms, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TellRooms(pub Vec<RoomNews>);

impl Handler<TellRooms> for Rooms {
    type Result = ();

    fn handle(&mut self, TellRooms(all): TellRooms, _: &mut Self::Context) {
        let mut orders = Vec::new();
        self.close_missed(&mut orders);
        for news in &all {
            self.tell_news(news, &mut orders);
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
        let count = |goods| self.halls.get(&RoomId::Auction(goods)).map_or(0, |hall| hall.told.len());
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
        let hall = self.halls.get(&RoomId::Auction(goods));
        Participants(hall.map_or_else(|| Arc::from([]), |hall| Arc::clone(&hall.told)))
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
            .filter_map(|(id, hall)| match id {
                RoomId::Auction(goods) if !hall.is_over && !hall.told.is_empty() => Some((*goods, hall.told.len())),
                _ => None,
            })
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
            rooms: self.halls.len(),
            sockets: self.halls.values().map(|hall| hall.room.sockets()).sum(),
            visitors: self.halls.values().map(|hall| hall.room.visitors()).sum(),
            heard: self.stats.heard.load(Ordering::Relaxed),
            closed_for_missing: self.stats.closed_for_missing.load(Ordering::Relaxed),
        }
    }
}
