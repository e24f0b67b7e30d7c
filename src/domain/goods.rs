//! Goods under auction: their phases, the legal moves between them, and what the bid rule needs to know of them.

use super::{GoodsId, Price, Timestamp, UserId};

/// How long before the end `ending_soon` is raised (`docs/protocol.md#alarms`).
pub const ENDING_SOON_LEAD_MS: i64 = 60_000;
/// Shorter auctions raise no `ending_soon`.
pub const MIN_LENGTH_FOR_ENDING_SOON_MS: i64 = 300_000;

/// Where an auction stands. Only forward: scheduled → live → ended, or scheduled → ended when its whole
/// time passed while the service was down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not begun; bids are refused.
    Scheduled,
    /// Bids are judged.
    Live,
    /// Over for good; an end stays an end.
    Ended,
}

impl Phase {
    /// The origin's `status`: null scheduled, true live, false ended.
    pub const fn status(self) -> Option<bool> {
        match self {
            Phase::Scheduled => None,
            Phase::Live => Some(true),
            Phase::Ended => Some(false),
        }
    }

    /// Whether the move from here to `next` is legal.
    pub const fn may_become(self, next: Phase) -> bool {
        matches!((self, next), (Phase::Scheduled, Phase::Live | Phase::Ended) | (Phase::Live, Phase::Ended))
    }
}

/// The high bidder and his price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// Who leads.
    pub user: UserId,
    /// The highest accepted price.
    pub price: Price,
}

/// What the rules need to know of one goods item: a row, as committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodsState {
    /// Which goods.
    pub id: GoodsId,
    /// Who sells, and so may not bid.
    pub seller: UserId,
    /// The title, for the alarms.
    pub title: String,
    /// The stored phase.
    pub phase: Phase,
    /// Bids that arrive at or after this are in time.
    pub starts_at: Timestamp,
    /// Bids that arrive at or after this are too late.
    pub ends_at: Timestamp,
    /// The least first bid.
    pub start_price: Price,
    /// The least step above the highest bid.
    pub min_increment: Price,
    /// None before the first bid.
    pub lead: Option<Lead>,
    /// Number of accepted bids; the next one gets `bid_seq + 1`.
    pub bid_seq: i64,
    /// Whether `ending_soon` has been raised (once, also when the end moves).
    pub ending_soon_done: bool,
}

impl GoodsState {
    /// The least price that the next bid needs.
    pub fn minimum(&self) -> Price {
        match self.lead {
            Some(lead) => lead.price.plus(self.min_increment),
            None => self.start_price,
        }
    }

    /// Whether the start is due: scheduled, its time come, its end not.
    pub fn start_due(&self, at: Timestamp) -> bool {
        self.phase == Phase::Scheduled && self.starts_at <= at && at < self.ends_at
    }

    /// Whether the end is due. Also for one that never started because its whole time passed meanwhile.
    pub fn end_due(&self, at: Timestamp) -> bool {
        self.phase != Phase::Ended && self.ends_at <= at
    }

    /// When `ending_soon` is to be raised; `None` for short auctions and when it has been.
    pub fn ending_soon_at(&self) -> Option<Timestamp> {
        let long_enough = self.ends_at.ms_since(self.starts_at) >= MIN_LENGTH_FOR_ENDING_SOON_MS;
        (long_enough && !self.ending_soon_done && self.phase != Phase::Ended)
            .then(|| self.ends_at.plus_ms(-ENDING_SOON_LEAD_MS))
    }

    /// Moves to the next phase; false (and nothing changed) if the move is not legal.
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
