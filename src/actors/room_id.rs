//! Which room: what its sockets, its events and its channel are found by.

use crate::{domain::GoodsId, store::RoomEvent};

/// Which room: each goods item can have two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomId {
    /// The auction room, for everybody.
    Auction(GoodsId),
    /// The trade chat, for seller and buyer.
    Trade(GoodsId),
}

impl RoomId {
    /// Of which goods.
    pub(crate) fn goods(self) -> GoodsId {
        let (Self::Auction(goods) | Self::Trade(goods)) = self;
        goods
    }

    /// Where this is heard.
    pub(crate) fn of(news: &RoomEvent) -> Self {
        match news {
            RoomEvent::TradeMessage { goods, .. } => Self::Trade(*goods),
            news => Self::Auction(news.goods()),
        }
    }
}
