//! What users write to each other: lines in an auction room, messages between seller and buyer. Their length is counted
//! in characters. They are stored unchanged, without escaping: a client must display them as plain text.

use serde::{Deserialize, Serialize};

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text).ok_or(concat!("expected 1 to ", $max, " characters without NUL"))
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl $name {
            /// Longest text, in characters.
            pub const MAX_CHARS: usize = $max;

            /// The text, if it has 1 to [`MAX_CHARS`](Self::MAX_CHARS) characters and no NUL, which PostgreSQL can't
            /// store; `None` otherwise.
            pub fn parse(text: &str) -> Option<Self> {
                let fits = (1..=Self::MAX_CHARS).contains(&text.chars().take(Self::MAX_CHARS + 1).count());
                (fits && !text.contains('\0')).then(|| Self(text.to_owned()))
            }

            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}
pub(super) use text_type;

text_type!(
    /// A line that somebody says in an auction room (`docs/protocol.md#the-auction-room`).
    LineText,
    100
);
text_type!(
    /// A message between seller and buyer (`docs/protocol.md#the-trade-chat`).
    TradeText,
    500
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(LineText::parse(&"가".repeat(100)).is_some());
        assert!(LineText::parse(&"가".repeat(101)).is_none());
        assert!(LineText::parse("").is_none());
        assert!(TradeText::parse(&"👍".repeat(500)).is_some());
        assert!(TradeText::parse(&"y".repeat(501)).is_none());
        assert!(TradeText::parse("a\0b").is_none());
        let odd = "<b>\"q\"</b>\n&amp;";
        assert_eq!(LineText::parse(odd).unwrap().as_str(), odd, "stored unchanged");
    }
}
