//! Tokens that no proper issuer makes.

use handsup::test_support::domain::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::SECRET;

/// A token with these claims, signed with the test nodes' key.
pub fn signed(claims: &Value) -> String {
    signed_with(claims, SECRET, Algorithm::HS256)
}

/// A token with these claims, signed with another key or algorithm.
pub fn signed_with(claims: &Value, key: &str, algorithm: Algorithm) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
}

/// Claims of this user for an hour from `now`, with some replaced or added.
pub fn claims(user: &Value, now: Timestamp, own: &Value) -> Value {
    let mut claims = json!({"token_type": "access", "user_id": user, "iat": now.secs(), "exp": now.secs() + 3600});
    for (key, value) in own.as_object().unwrap() {
        claims[key] = value.clone();
    }
    claims
}
