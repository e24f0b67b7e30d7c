//! What a committed transaction has to tell the rooms: facts, from which whoever has listeners makes frames.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::writes::StoredBid;
use crate::domain::{
    Alarm, GoodsId, GoodsState, LineId, LineText, Price, Receiver, Sender, Timestamp, TradeMessageId, TradeText, User,
};

/// What a committed transaction changed, told to the rest of the house in commit order.
#[derive(Debug, Clone)]
pub enum Committed {
    /// An alarm and the users whose inbox has it.
    Alarm {
        /// The payload.
        alarm: Alarm,
        /// Each of them once.
        receivers: Vec<Receiver>,
    },
    /// New goods: the clock must know their times.
    GoodsMade(GoodsState),
    /// A user is new, renamed, or no longer (or again) active.
    UserChanged(User),
    /// Something happened in the rooms of goods.
    Room(RoomEvent),
}

/// One fact about one goods item, told in commit order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomEvent {
    /// The auction is live.
    Started(GoodsId),
    /// A bid was accepted.
    Bid {
        /// The bid.
        bid: StoredBid,
        /// Who bid, as he was known when the bid came in.
        bidder: Arc<User>,
    },
    /// A bid in the soft close has moved the end.
    Extended {
        /// Of which goods.
        goods: GoodsId,
        /// The number of that bid.
        seq: i64,
        /// The end now.
        ends_at: Timestamp,
    },
    /// The auction is over.
    Ended {
        /// Which.
        goods: GoodsId,
        /// The number of its last bid, 0 without one.
        seq: i64,
        /// Who bought; `None` if nobody.
        buyer: Option<Sender>,
        /// The price reached; `None` without a bid.
        high_price: Option<Price>,
    },
    /// A line was said in the auction room.
    Line {
        /// In whose room.
        goods: GoodsId,
        /// Its id.
        id: LineId,
        /// Who said it.
        author: Arc<User>,
        /// What.
        text: LineText,
        /// When it was stored.
        at: Timestamp,
    },
    /// Seller or buyer wrote to the other.
    TradeMessage {
        /// About which goods.
        goods: GoodsId,
        /// Its id.
        id: TradeMessageId,
        /// Who wrote.
        author: Arc<User>,
        /// What.
        text: TradeText,
        /// When it was stored.
        at: Timestamp,
    },
    /// The goods are gone.
    Deleted(GoodsId),
}

impl RoomEvent {
    /// In whose rooms it is heard.
    pub fn goods(&self) -> GoodsId {
        match self {
            Self::Bid { bid, .. } => bid.bid.goods,
            Self::Started(goods)
            | Self::Extended { goods, .. }
            | Self::Ended { goods, .. }
            | Self::Line { goods, .. }
            | Self::TradeMessage { goods, .. }
            | Self::Deleted(goods) => *goods,
        }
    }
}
