//! What a committed transaction changed. The ledger passes it to its `CommitListener`, which notifies the hub, the
//! rooms, the clock and the other nodes. These are facts; each receiver encodes its own frames from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::writes::StoredBid;
use crate::domain::{
    Alarm, BidSeq, GoodsId, GoodsState, LineId, LineText, Price, Receiver, Sender, Timestamp, TradeMessageId,
    TradeText, User,
};

/// One change of a committed transaction. The listener gets these in commit order.
#[derive(Debug, Clone)]
pub enum Committed {
    /// An alarm and the users whose inbox has it.
    Alarm {
        alarm: Alarm,
        /// Each user at most once; users who have muted its kind are left out.
        receivers: Vec<Receiver>,
    },
    /// New goods, or goods that are changed before their start, so that the clock schedules their start and end.
    GoodsMade(GoodsState),
    /// A user is new or changed: name, picture, rating, or whether they are active.
    UserChanged(User),
    /// A user has chosen another language.
    LocaleChanged(User),
    /// An event for the auction room or the trade room of one goods item.
    Room(RoomEvent),
}

/// One event about one goods item. The bus encodes a variant by its index: add new ones at the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomEvent {
    Started(GoodsId),
    Bid {
        bid: StoredBid,
        /// The bidder, as known when the bid arrived.
        bidder: Arc<User>,
    },
    /// A bid in the soft close has moved the end.
    Extended {
        goods: GoodsId,
        /// That bid.
        seq: BidSeq,
        ends_at: Timestamp,
    },
    Ended {
        goods: GoodsId,
        /// Its last bid.
        seq: BidSeq,
        /// The highest bidder; `None` if nobody bid.
        buyer: Option<Sender>,
        /// The highest bid; `None` if nobody bid.
        high_price: Option<Price>,
    },
    Line {
        goods: GoodsId,
        id: LineId,
        /// The author, as known when the line arrived.
        author: Arc<User>,
        text: LineText,
        at: Timestamp,
    },
    /// The seller or the buyer sent the other a message.
    TradeMessage {
        goods: GoodsId,
        id: TradeMessageId,
        /// The author, as known when the message arrived.
        author: Arc<User>,
        text: TradeText,
        at: Timestamp,
    },
    /// The seller has deleted the goods before their start.
    Deleted(GoodsId),
    /// An admin has ended the auction, without a buyer.
    Cancelled {
        goods: GoodsId,
        /// Its last bid.
        seq: BidSeq,
    },
    /// A line of the auction room is gone for everybody.
    LineRemoved {
        goods: GoodsId,
        /// The id of the removal itself, in the series of the lines' ids.
        id: LineId,
        line: LineId,
    },
}

impl RoomEvent {
    /// The goods whose rooms receive this event.
    pub fn goods(&self) -> GoodsId {
        match self {
            Self::Bid { bid, .. } => bid.bid.goods,
            Self::Started(goods)
            | Self::Extended { goods, .. }
            | Self::Ended { goods, .. }
            | Self::Line { goods, .. }
            | Self::TradeMessage { goods, .. }
            | Self::Deleted(goods)
            | Self::Cancelled { goods, .. }
            | Self::LineRemoved { goods, .. } => *goods,
        }
    }
}
