//! The rooms of this node, and what room events send to their sockets.
//!
//! An event costs one encoding and one message to each shard, however many sockets receive it; in a room without
//! sockets it costs nothing.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use chrono_tz::Tz;

use super::presence::RoomState;
use crate::actors::delivery::{
    encode::encode,
    frame::FrameKind,
    shard::{RoomOrder, RoomPush, ShardLink},
};
use crate::actors::room_id::RoomId;
use crate::{
    domain::{GoodsId, LineId, Timestamp, User},
    protocol::{Close, EndReason, RoomFrame},
    store::RoomEvent,
    time_source::TimeSource,
};

/// What the sockets of rooms get, in order.
pub(crate) type Orders = Vec<(RoomId, RoomOrder)>;

/// The rooms by their ids.
pub(crate) struct RoomTable {
    /// Rooms with sockets here, or with users on other nodes.
    pub rooms: HashMap<RoomId, RoomState>,
    pub shards: Vec<ShardLink>,
    time_zone: Tz,
    time: Arc<dyn TimeSource>,
    /// Bytes of joins and leaves that are sent ahead of room events in one gather interval. A slow socket may have
    /// twice this waiting, plus those at the end of the interval.
    ahead_bytes: usize,
}

impl RoomTable {
    pub(crate) fn new(time_zone: Tz, time: Arc<dyn TimeSource>, ahead_bytes: usize) -> Self {
        Self { rooms: HashMap::new(), shards: Vec::new(), time_zone, time, ahead_bytes }
    }

    /// Hands the orders to all shards.
    pub(crate) fn push(&self, orders: Orders) {
        if let Some((last, others)) = self.shards.split_last().filter(|_| !orders.is_empty()) {
            for shard in others {
                shard.push_to_rooms(RoomPush(orders.clone()));
            }
            last.push_to_rooms(RoomPush(orders));
        }
    }

    /// Adds the orders that an event means for its room, with pending joins and leaves ahead of them.
    pub(crate) fn add_orders(&mut self, event: &RoomEvent, orders: &mut Orders) {
        let id = RoomId::of(event);
        let Some(room) = self.rooms.get_mut(&id) else { return };
        room.is_over |= matches!(event, RoomEvent::Ended { .. } | RoomEvent::Cancelled { .. });
        orders.extend(room.take_pending_ahead(self.ahead_bytes).map(|ahead| (id, ahead)));
        orders.push((id, self.order_for(event)));
    }

    /// The order that sends the number of watchers.
    pub(crate) fn watchers_order(&self, watchers: usize) -> RoomOrder {
        let bytes = encode(&RoomFrame::Watchers { watchers, server_time: self.time.now() });
        RoomOrder::Frame { bytes, kind: FrameKind::Other }
    }

    fn order_for(&self, event: &RoomEvent) -> RoomOrder {
        let server_time = self.time.now();
        let frame = match event {
            RoomEvent::Started(_) => RoomFrame::Started { server_time },
            RoomEvent::Bid { bid, bidder } => RoomFrame::Bid {
                sender: bidder.id,
                sender_name: &bidder.username,
                sender_image: &bidder.picture_path(),
                goods_id: bid.bid.goods,
                high_price: bid.high_price,
                seq: bid.seq,
                bid_id: bid.id,
                ends_at: bid.ends_at,
                server_time,
            },
            RoomEvent::Extended { ends_at, .. } => RoomFrame::Extended { ends_at: *ends_at, server_time },
            RoomEvent::Ended { buyer, high_price, .. } => RoomFrame::Ended {
                buyer_id: buyer.as_ref().map(|buyer| buyer.id),
                buyer_name: buyer.as_ref().map(|buyer| buyer.name.as_str()),
                high_price: high_price.map_or(0, |price| price.won()),
                reason: if buyer.is_some() { EndReason::Sold } else { EndReason::NoBids },
                server_time,
            },
            RoomEvent::Cancelled { .. } => {
                let (buyer_id, buyer_name, reason) = (None, None, EndReason::Cancelled);
                RoomFrame::Ended { buyer_id, buyer_name, high_price: 0, reason, server_time }
            }
            RoomEvent::LineRemoved { line, .. } => RoomFrame::Removed { id: *line, server_time },
            RoomEvent::Line { goods, id, author, text, at } => {
                let bytes = self.message_frame(*goods, (author, None), Some(*id), text.as_str(), *at);
                return RoomOrder::Frame { bytes, kind: FrameKind::Other };
            }
            RoomEvent::TradeMessage { goods, id, author, text, at } => {
                let image = author.picture_path();
                let author = (&**author, Some(&*image));
                let bytes = self.message_frame(*goods, author, None, text.as_str(), *at);
                return RoomOrder::Frame { bytes, kind: FrameKind::Trade(*id) };
            }
            RoomEvent::Deleted(_) => return RoomOrder::Close(Close::GoodsDeleted),
        };
        RoomOrder::Frame { bytes: encode(&frame), kind: FrameKind::Other }
    }

    fn message_frame(
        &self,
        goods: GoodsId,
        (author, image): (&User, Option<&str>),
        id: Option<LineId>,
        text: &str,
        at: Timestamp,
    ) -> Bytes {
        encode(&RoomFrame::Message {
            id,
            message: text,
            sender: author.id,
            sender_image: image,
            sender_name: &author.username,
            goods_id: goods,
            time: at.local(self.time_zone).twelve_hour(),
        })
    }
}
