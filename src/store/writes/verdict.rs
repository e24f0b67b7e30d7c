//! The outcome of a bid once the ledger has judged it.

use serde::{Deserialize, Serialize};

use crate::domain::{Bid, BidId, BidSeq, Price, Refusal, Timestamp};

/// Outcome of one bid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BidVerdict {
    Accepted(StoredBid),
    /// Refused by [`judge`](crate::domain::judge).
    Refused(Refusal),
    UnknownGoods,
    /// An earlier bid used the same idempotency key; this is its verdict.
    Replayed(Box<BidVerdict>),
    /// An earlier bid used the same idempotency key for other goods or another price.
    KeyReused,
}

/// A bid that was accepted and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBid {
    pub id: BidId,
    pub bid: Bid,
    pub seq: BidSeq,
    /// The highest price after this bid, which is its own price.
    pub high_price: Price,
    /// The auction's end after this bid; a bid in the soft close moves it.
    pub ends_at: Timestamp,
}
