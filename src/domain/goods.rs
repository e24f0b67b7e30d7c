//! Goods under auction: their phases, the legal moves between phases, and the state that the bid rule and the clock
//! need.

use super::{BidSeq, GoodsId, Price, Timestamp, UserId};

/// How long before the end the `ending_soon` alarms are raised (`docs/protocol.md#alarms`).
pub(crate) const ENDING_SOON_LEAD_MS: i64 = 60_000;
/// Shorter auctions raise no `ending_soon` alarms.
pub(crate) const MIN_LENGTH_FOR_ENDING_SOON_MS: i64 = 300_000;

/// The phase of an auction. It only moves forward: scheduled → live → ended, or scheduled → ended when the whole time
/// of the auction passed while the service was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not started; bids are refused.
    Scheduled,
    /// Bids are judged.
    Live,
    /// Over for good; bids are refused.
    Ended,
}

impl Phase {
    /// The origin's `status` field: null while scheduled, true while live, false once ended.
    pub const fn status(self) -> Option<bool> {
        match self {
            Phase::Scheduled => None,
            Phase::Live => Some(true),
            Phase::Ended => Some(false),
        }
    }

    /// Whether the move from this phase to `next` is legal.
    pub const fn may_become(self, next: Phase) -> bool {
        matches!((self, next), (Phase::Scheduled, Phase::Live | Phase::Ended) | (Phase::Live, Phase::Ended))
    }
}

/// The highest accepted bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    pub user: UserId,
    pub price: Price,
}

/// The committed state of one goods item, as far as the rules need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodsState {
    pub id: GoodsId,
    /// The seller, who may not bid.
    pub seller: UserId,
    /// The title, for the alarms.
    pub title: String,
    pub phase: Phase,
    /// Bids that arrive before this, and before the start is recorded, are too early.
    pub starts_at: Timestamp,
    /// Bids that arrive at or after this are too late.
    pub ends_at: Timestamp,
    /// The least price of the first bid.
    pub start_price: Price,
    /// The least step from the highest bid to the next.
    pub min_increment: Price,
    /// The highest bid; `None` before the first one.
    pub lead: Option<Lead>,
    /// The newest accepted bid.
    pub bid_seq: BidSeq,
    /// Whether the `ending_soon` alarms have been raised: only once, even if the end moves.
    pub ending_soon_done: bool,
}

impl GoodsState {
    /// Whether the start is due at `at`: the auction is scheduled, and `at` lies between its start and its end.
    pub fn start_due(&self, at: Timestamp) -> bool {
        self.phase == Phase::Scheduled && self.starts_at <= at && at < self.ends_at
    }

    /// Whether the end is due at `at`, also of an auction that never started because its whole time passed meanwhile.
    pub fn end_due(&self, at: Timestamp) -> bool {
        self.phase != Phase::Ended && self.ends_at <= at
    }

    /// When to raise the `ending_soon` alarms; `None` for a short or ended auction and after they have been raised.
    pub fn ending_soon_at(&self) -> Option<Timestamp> {
        let long_enough = self.ends_at.ms_since(self.starts_at) >= MIN_LENGTH_FOR_ENDING_SOON_MS;
        (long_enough && !self.ending_soon_done && self.phase != Phase::Ended)
            .then(|| self.ends_at.plus_ms(-ENDING_SOON_LEAD_MS))
    }

    /// Moves to the next phase. Returns false and changes nothing if the move is not legal.
    #[must_use]
    pub fn advance(&mut self, next: Phase) -> bool {
        let legal = self.phase.may_become(next);
        if legal {
            self.phase = next;
        }
        legal
    }
}

#[cfg(test)]
impl GoodsState {
    /// A live auction from second 0 to 200, without a bid.
    pub(crate) fn live() -> Self {
        Self {
            id: GoodsId::from_stored(1),
            seller: UserId::from_stored(1),
            title: String::new(),
            phase: Phase::Live,
            starts_at: Timestamp::from_secs(0),
            ends_at: Timestamp::from_secs(200),
            start_price: Price::from_stored(1),
            min_increment: Price::from_stored(1),
            lead: None,
            bid_seq: BidSeq::NONE,
            ending_soon_done: false,
        }
    }

    /// A live auction after this many bids, the highest of which offers as much.
    pub(crate) fn live_at(high: i64) -> Self {
        let lead = Lead { user: UserId::from_stored(3), price: Price::from_stored(high) };
        Self { lead: Some(lead), bid_seq: BidSeq::from_stored(high), ..Self::live() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_only_move_forward() {
        use Phase::*;
        let all = [Scheduled, Live, Ended];
        let legal: Vec<_> =
            all.iter().flat_map(|a| all.iter().map(move |b| (*a, *b))).filter(|(a, b)| a.may_become(*b)).collect();
        assert_eq!(legal, [(Scheduled, Live), (Scheduled, Ended), (Live, Ended)]);
    }
}
