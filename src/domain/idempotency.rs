//! Idempotency keys: a client sends one with a bid, so that the bid counts once even if it is sent twice.

/// The `Idempotency-Key` of a user's bid (`docs/protocol.md#bids`): 1 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// How long the answer to a key is stored.
    pub const RETENTION_MS: i64 = 24 * 3_600_000;

    /// Parses a header's value and removes quotes around it. `None` unless it has 1 to 64 characters, none of them
    /// control characters.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        let key = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
        let fits = (1..=64).contains(&key.chars().count()) && !key.chars().any(char::is_control);
        fits.then(|| Self(key.to_owned()))
    }

    /// The key without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_optional_and_lengths_count_characters() {
        assert_eq!(IdempotencyKey::parse("\"a-1\""), IdempotencyKey::parse(" a-1 "));
        assert!(IdempotencyKey::parse(&"가".repeat(64)).is_some());
        for bad in ["", "\"\"", "  ", &"x".repeat(65), "a\u{7}b"] {
            assert_eq!(IdempotencyKey::parse(bad), None, "{bad:?}");
        }
    }
}
