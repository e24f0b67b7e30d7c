//! Ids, each kind with its own type, so that a user's id can't be passed where a goods id is meant.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The largest id that a browser reads exactly from a JSON number: 2^53 − 1
/// (`docs/protocol.md#what-holds-for-all-calls`).
pub(crate) const MAX_ID: i64 = (1 << 53) - 1;

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $max:tt) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = i64, minimum = 1, maximum = $max)]
        pub struct $name(i64);

        // Not every kind of id comes from outside.
        #[cfg_attr(not(feature = "test-support"), allow(dead_code))]
        impl $name {
            /// The id, if it is in the range that the contract allows, from 1; `None` otherwise.
            pub fn new(raw: i64) -> Option<Self> {
                (1..=$max).contains(&raw).then_some(Self(raw))
            }

            /// Parses decimal digits without sign, space or leading zero; `None` for any other text.
            pub fn parse(text: &str) -> Option<Self> {
                let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
                if plain { text.parse().ok().and_then(Self::new) } else { None }
            }

            /// An id from a row or a counter of this service, unchecked.
            pub const fn from_stored(raw: i64) -> Self {
                Self(raw)
            }

            /// The number, for a row or a JSON field.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id_type!(
    /// A user of the marketplace. Tokens may carry any positive 64-bit number (`docs/protocol.md#tokens`).
    UserId,
    9_223_372_036_854_775_807_i64
);
id_type!(
    /// One goods item, which has one auction.
    GoodsId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// One accepted bid.
    BidId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// One stored alarm. Ids rise in commit order, so a cursor never skips one.
    AlarmId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// One event that raised alarms. All chunks of one fan-out share it.
    EventId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// The trade room that seller and buyer get when an auction ends with a buyer.
    TradeRoomId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// One line said in an auction room.
    LineId,
    9_007_199_254_740_991_i64
);
id_type!(
    /// One message between seller and buyer.
    TradeMessageId,
    9_007_199_254_740_991_i64
);

/// The number of a bid among the accepted bids of its goods: 1, 2, 3 …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = i64, minimum = 0)]
pub struct BidSeq(i64);

impl BidSeq {
    /// Before the first bid.
    pub const NONE: Self = Self(0);

    /// A number from a row, unchecked.
    pub const fn from_stored(raw: i64) -> Self {
        Self(raw)
    }

    /// The number, for a row or a JSON field.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number of the next bid.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The number of the bid before.
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl std::fmt::Display for BidSeq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in an inbox: right after an alarm, or at the start. A user's cursor has passed every alarm before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AlarmCursor(i64);

impl AlarmCursor {
    /// Before the first alarm.
    pub const START: Self = Self(0);

    /// Right after this alarm.
    pub const fn after(alarm: AlarmId) -> Self {
        Self(alarm.0)
    }

    /// The position after the alarm with this number, as a row or a client names it; 0 is the start.
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number of the alarm before this position, 0 at the start.
    pub const fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_digits_in_range_are_ids() {
        assert_eq!(GoodsId::parse("12"), GoodsId::new(12));
        assert_eq!(GoodsId::parse("9007199254740991").map(GoodsId::get), Some(MAX_ID));
        for bad in
            ["", "0", "-1", "+1", " 1", "1 ", "1.0", "1e3", "01", "٣", "9007199254740992", "99999999999999999999"]
        {
            assert_eq!(GoodsId::parse(bad), None, "{bad:?}");
        }
        assert_eq!(UserId::parse("9223372036854775807").map(UserId::get), Some(i64::MAX));
    }

    proptest! {
        #[test]
        fn an_id_is_its_digits_and_no_other_text(id in 1..=MAX_ID, text in ".{0,20}|[0-9+ ]{0,20}") {
            prop_assert_eq!(GoodsId::parse(&id.to_string()).map(GoodsId::get), Some(id));
            prop_assert!(GoodsId::parse(&text).is_none_or(|id| id.to_string() == text));
        }
    }
}
