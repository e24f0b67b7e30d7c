//! What becomes of a bid.

use serde::{Deserialize, Serialize};

use crate::domain::{Bid, BidId, Price, Refusal, Timestamp};

/// What became of one bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidVerdict {
    /// On disk.
    Accepted(StoredBid),
    /// Refused by the rule.
    Refused(Refusal),
    /// No such goods.
    UnknownGoods,
    /// The first answer under the same key, again.
    Replayed(Box<BidVerdict>),
    /// The key belongs to a bid on other goods or at another price.
    KeyReused,
}

/// An accepted bid, on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBid {
    /// Its id.
    pub id: BidId,
    /// The bid itself.
    pub bid: Bid,
    /// Its number among the accepted bids of the goods.
    pub seq: i64,
    /// The highest price after it: its own.
    pub high_price: Price,
    /// The end after it.
    pub ends_at: Timestamp,
}
