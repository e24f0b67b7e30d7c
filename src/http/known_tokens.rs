//! The tokens that were good lately.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::{Keys, token::Claims};
use crate::domain::Timestamp;

/// Tokens that are remembered: some hundred bytes each.
const KNOWN_TOKENS: usize = 10_000;

/// Tokens that were good lately, so that who bids again and again has his looked at once. When they expire is looked at
/// each time. Not those of sockets, which show theirs once.
pub struct KnownTokens(Cache<Box<str>, Arc<Claims>>);

impl Default for KnownTokens {
    fn default() -> Self {
        Self(Cache::new(KNOWN_TOKENS))
    }
}

impl KnownTokens {
    /// What a token says, if it is good.
    pub(super) fn verify(&self, token: &str, keys: &Keys, now: Timestamp) -> Option<Claims> {
        if let Some(known) = self.0.get(token) {
            return (known.expires_at > now).then(|| Claims::clone(&known));
        }
        let claims = keys.verify(token, now)?;
        self.0.insert(token.into(), Arc::new(claims.clone()));
        Some(claims)
    }
}
