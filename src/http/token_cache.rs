//! A cache of verified tokens, so that a token that comes with every request is verified once.

use std::sync::Arc;

use quick_cache::sync::Cache;

use super::{Keys, token::Claims};
use crate::domain::Timestamp;

/// Tokens in the cache, some hundred bytes each.
const TOKEN_LIMIT: usize = 10_000;

/// Verified tokens and their claims. Their expiry is checked at each use. Tokens of sockets are not cached: a socket
/// sends its token once.
pub struct TokenCache(Cache<Box<str>, Arc<Claims>>);

impl Default for TokenCache {
    fn default() -> Self {
        Self(Cache::new(TOKEN_LIMIT))
    }
}

impl TokenCache {
    /// The claims of a token; `None` if it is invalid or expired.
    pub(super) fn verify(&self, token: &str, keys: &Keys, now: Timestamp) -> Option<Claims> {
        if let Some(claims) = self.0.get(token) {
            return (claims.expires_at > now).then(|| Claims::clone(&claims));
        }
        let claims = keys.verify(token, now)?;
        self.0.insert(token.into(), Arc::new(claims.clone()));
        Some(claims)
    }
}
