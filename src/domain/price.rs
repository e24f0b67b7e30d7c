//! Prices: whole won, without fractions or negative amounts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A price in whole won: at least 1, or 0 on the wire where there is no bid yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = i64, minimum = 0, example = 12000)]
pub struct Price(i64);

impl Price {
    /// The price, if it is 1 to `max` (`limits.max_price`); `None` otherwise.
    pub fn new(won: i64, max: Price) -> Option<Self> {
        (1..=max.0).contains(&won).then_some(Self(won))
    }

    /// A price that this service has stored or configured itself, unchecked.
    pub const fn from_stored(won: i64) -> Self {
        Self(won)
    }

    /// The price in won.
    pub const fn won(self) -> i64 {
        self.0
    }

    /// The sum. It never saturates in practice, because `limits.max_price` is at most 2^53 − 1.
    pub const fn plus(self, other: Price) -> Price {
        Self(self.0.saturating_add(other.0))
    }
}
