//! The outcome of a bid once the ledger has judged it.

use serde::{Deserialize, Serialize};

use crate::domain::{Bid, BidId, BidSeq, Price, Refusal, Timestamp};

/// Outcome of one bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidVerdict {
    /// Accepted and stored.
    Accepted(StoredBid),
    /// Refused by [`judge`](crate::domain::judge).
    Refused(Refusal),
    /// The goods do not exist.
    UnknownGoods,
    /// An earlier bid used the same idempotency key; this is its verdict.
    Replayed(Box<BidVerdict>),
    /// An earlier bid used the same idempotency key for other goods or another price.
    KeyReused,
}

/// A bid that was accepted and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBid {
    /// Id of the bid, unique over all goods.
    pub id: BidId,
    /// The bid as it arrived.
    pub bid: Bid,
    /// Its number.
    pub seq: BidSeq,
    /// The highest price after this bid, which is its own price.
    pub high_price: Price,
    /// The auction's end after this bid; a bid in the soft close moves it.
    pub ends_at: Timestamp,
}
