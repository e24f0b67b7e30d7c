//! The id of a room. Its sockets, its events and its bus channel are found by it.

use crate::{domain::GoodsId, store::RoomEvent};

/// The id of a room; each goods item can have two rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RoomId {
    /// The auction room, for everybody.
    Auction(GoodsId),
    /// The trade chat, for seller and buyer.
    Trade(GoodsId),
}

impl RoomId {
    /// The goods that the room belongs to.
    pub(crate) fn goods(self) -> GoodsId {
        let (Self::Auction(goods) | Self::Trade(goods)) = self;
        goods
    }

    /// The room that gets this event.
    pub(crate) fn of(event: &RoomEvent) -> Self {
        match event {
            RoomEvent::TradeMessage { goods, .. } => Self::Trade(*goods),
            event => Self::Auction(event.goods()),
        }
    }
}
