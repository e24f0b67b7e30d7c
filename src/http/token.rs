//! Access tokens: JSON Web Tokens signed with HS256. Verifies and mints them; the time is always an argument.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::domain::{Timestamp, UserId};

/// The keys that sign and verify tokens: `auth.jwt_secret` and `auth.jwt_secret_previous`.
pub struct Keys {
    signing: EncodingKey,
    accepted: Vec<DecodingKey>,
    validation: Validation,
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The `user_id`, which may be a number or a text of digits.
    pub user: UserId,
    /// The `username`; `None` if it has none.
    pub username: Option<String>,
    /// The `iat`, in seconds, at most the time of verification; `None` if it has none.
    pub issued_at: Option<i64>,
    /// From this moment on it is refused.
    pub expires_at: Timestamp,
    /// Whether it is an admin's: `admin` is `true`.
    pub admin: bool,
}

/// What a minted token says.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Becomes `user_id`.
    pub user: UserId,
    /// Becomes `username`; `None` leaves it out.
    pub username: Option<String>,
    /// Seconds until it expires.
    pub ttl_s: i64,
    /// Whether it is an admin's.
    pub admin: bool,
}

/// The token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed")]
pub struct MintError;

/// Claims as a token has them, before they are checked.
#[derive(Deserialize)]
struct RawClaims {
    user_id: RawUserId,
    exp: f64,
    #[serde(default)]
    iat: serde_json::Value,
    #[serde(default)]
    token_type: serde_json::Value,
    #[serde(default)]
    username: serde_json::Value,
    #[serde(default)]
    admin: serde_json::Value,
}

/// Newer versions of the issuer write the id as a string.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawUserId {
    Number(i64),
    Text(String),
}

/// Claims as they are written into a minted token.
#[derive(Serialize)]
struct MintedClaims<'a> {
    token_type: &'static str,
    exp: i64,
    iat: i64,
    jti: String,
    user_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
}

impl Keys {
    /// Bytes of a token; longer ones are refused unread.
    const MAX_LENGTH: usize = 4096;

    /// `secret` signs and verifies; `previous`, while keys rotate, only verifies.
    pub fn new(secret: &str, previous: Option<&str>) -> Self {
        // The algorithm is fixed: the `alg` of a token's header must not choose it.
        let mut validation = Validation::new(Algorithm::HS256);
        // `verify` checks `exp` against its argument, without leeway.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let accepted = [Some(secret), previous].into_iter().flatten();
        Self {
            signing: EncodingKey::from_secret(secret.as_bytes()),
            accepted: accepted.map(|key| DecodingKey::from_secret(key.as_bytes())).collect(),
            validation,
        }
    }

    /// The claims of a token; `None` if it is invalid in any way. The reason stays unknown, since clients must not
    /// learn it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        if token.len() > Self::MAX_LENGTH {
            return None;
        }
        let raw = self.accepted.iter().find_map(|key| decode::<RawClaims>(token, key, &self.validation).ok())?.claims;
        let is_access = match &raw.token_type {
            serde_json::Value::Null => true,
            kind => kind == "access",
        };
        if !is_access || !raw.exp.is_finite() {
            return None;
        }
        // The cast saturates, and `Timestamp` clamps to its range.
        #[allow(clippy::cast_possible_truncation)]
        let expires_at = Timestamp::from_micros((raw.exp * 1e6) as i64);
        if expires_at <= now {
            return None;
        }
        let user = match raw.user_id {
            RawUserId::Number(id) => UserId::new(id),
            RawUserId::Text(digits) => UserId::parse(&digits),
        }?;
        #[allow(clippy::cast_possible_truncation)]
        let issued_at = raw.iat.as_f64().filter(|iat| iat.is_finite()).map(|iat| (iat as i64).min(now.secs()));
        Some(Claims {
            user,
            username: raw.username.as_str().map(str::to_owned),
            issued_at,
            expires_at,
            admin: raw.admin == serde_json::Value::Bool(true),
        })
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`MintError`] if the claims can't be signed.
    pub fn mint(&self, token: &NewToken, now: Timestamp) -> Result<String, MintError> {
        let claims = MintedClaims {
            token_type: "access",
            exp: now.secs().saturating_add(token.ttl_s),
            iat: now.secs(),
            jti: format!("{:032x}", rand::random::<u128>()),
            user_id: token.user.get(),
            username: token.username.as_deref(),
            admin: token.admin,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing).map_err(|_| MintError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn signed(claims: &Value, secret: &str) -> String {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn verify(claims: &Value) -> Option<Claims> {
        Keys::new(SECRET, None).verify(&signed(claims, SECRET), now())
    }

    #[test]
    fn a_minted_token_is_valid_until_it_expires() {
        let keys = Keys::new(SECRET, None);
        let new = NewToken { user: UserId::new(7).unwrap(), username: Some("bidA".into()), ttl_s: 60, admin: true };
        let token = keys.mint(&new, now()).unwrap();
        let claims = keys.verify(&token, now()).unwrap();
        assert_eq!((claims.user.get(), claims.username.as_deref(), claims.admin), (7, Some("bidA"), true));
        assert!(keys.verify(&token, now().plus_ms(59_999)).is_some());
        assert!(keys.verify(&token, now().plus_ms(60_000)).is_none(), "no leeway");
    }

    #[test]
    fn user_ids_are_positive_numbers_or_their_digits() {
        let exp = now().secs() + 60;
        for good in [json!(1), json!("1"), json!(i64::MAX)] {
            assert!(verify(&json!({"user_id": good, "exp": exp})).is_some(), "{good}");
        }
        for bad in [
            json!(0),
            json!(-1),
            json!("0"),
            json!("-1"),
            json!("1 "),
            json!("x"),
            json!(1.5),
            json!(null),
            json!([1]),
            json!(u64::MAX),
            json!(true),
        ] {
            assert!(verify(&json!({"user_id": bad, "exp": exp})).is_none(), "{bad}");
        }
        assert!(verify(&json!({"exp": exp})).is_none());
    }

    #[test]
    fn fault_14_expired_tokens_and_refresh_tokens_are_refused() {
        let exp = now().secs() + 60;
        for bad in [
            json!({"user_id": 1}),
            json!({"user_id": 1, "exp": now().secs()}),
            json!({"user_id": 1, "exp": "soon"}),
            json!({"user_id": 1, "exp": null}),
        ] {
            assert!(verify(&bad).is_none(), "{bad}");
        }
        assert!(verify(&json!({"user_id": 1, "exp": exp, "token_type": "access"})).is_some());
        for kind in [json!("refresh"), json!(""), json!(1), json!(["access"])] {
            assert!(verify(&json!({"user_id": 1, "exp": exp, "token_type": kind})).is_none(), "{kind}");
        }
    }

    #[test]
    fn only_json_true_makes_an_admin() {
        let exp = now().secs() + 60;
        for (admin, is) in [(json!(true), true), (json!("true"), false), (json!(1), false), (json!(null), false)] {
            assert_eq!(verify(&json!({"user_id": 1, "exp": exp, "admin": admin})).unwrap().admin, is);
        }
    }

    #[test]
    fn other_algorithms_and_other_keys_are_refused() {
        use base64::Engine as _;
        let claims = json!({"user_id": 1, "exp": now().secs() + 60});
        let keys = Keys::new(SECRET, None);
        assert!(keys.verify(&signed(&claims, OTHER), now()).is_none());
        assert!(Keys::new(SECRET, Some(OTHER)).verify(&signed(&claims, OTHER), now()).is_some(), "keys rotate");
        let hs512 = encode(&Header::new(Algorithm::HS512), &claims, &EncodingKey::from_secret(SECRET.as_bytes()));
        assert!(keys.verify(&hs512.unwrap(), now()).is_none());
        let encoder = base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let none = format!("{}.{}.", encoder.encode(r#"{"alg":"none"}"#), encoder.encode(claims.to_string()));
        assert!(keys.verify(&none, now()).is_none());
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
            assert!(keys.verify(garbage, now()).is_none());
        }
    }
}
