//! Money: whole units of the currency (won). No fractions, no negative amounts.

use serde::{Deserialize, Serialize};

/// An amount in won, at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Price(i64);

impl Price {
    /// The amount, if it is 1 to `max` (`limits.max_price`); `None` otherwise.
    pub fn new(won: i64, max: Price) -> Option<Self> {
        (1..=max.0).contains(&won).then_some(Self(won))
    }

    /// Takes an amount that this service stored or configured itself.
    pub const fn from_stored(won: i64) -> Self {
        Self(won)
    }

    /// The amount in won.
    pub const fn won(self) -> i64 {
        self.0
    }

    /// The sum, which can't wrap: both sides are far below 2^62 (`limits.max_price` is at most 2^53 − 1).
    pub const fn plus(self, other: Price) -> Price {
        Self(self.0.saturating_add(other.0))
    }
}
