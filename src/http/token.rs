//! Access tokens: JSON Web Tokens. Verifies them by the settings' algorithm, and mints those signed with HS256; the time
//! is always an argument.

use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode};
use serde_json::{Map, Value, json};

use super::{PublicKey, TokenAlgorithm};
use crate::domain::{Timestamp, UserId};

/// What tokens must be like, apart from their signature.
#[derive(Debug, Clone)]
pub(crate) struct TokenRules {
    /// The one that tokens must have, whatever their header says.
    pub algorithm: TokenAlgorithm,
    /// The `iss` that tokens must have; `None`: any or none.
    pub issuer: Option<String>,
    /// What the `aud` of tokens must be or hold; `None`: any or none.
    pub audience: Option<String>,
    /// The names of the claims that say who the user is.
    pub user_id_claim: String,
    pub username_claim: String,
    pub admin_claim: String,
}

/// The keys that verify tokens, and the one that signs them.
pub struct Keys {
    rules: TokenRules,
    validation: Validation,
    accepted: Vec<DecodingKey>,
    /// `None`: somebody else signs the tokens.
    signing: Option<EncodingKey>,
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// The user's id, which may be a number or a text of digits.
    pub user: UserId,
    /// The user's name; `None` if the token has none.
    pub username: Option<String>,
    /// The `iat`, in seconds, at most the time of verification; `None` if it has none.
    pub issued_at: Option<i64>,
    /// From this moment on it is refused.
    pub expires_at: Timestamp,
    /// Whether it is an admin's: the claim is `true`.
    pub admin: bool,
}

/// What a minted token says.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Becomes `auth.user_id_claim`.
    pub user: UserId,
    /// Becomes `auth.username_claim`; `None` leaves it out.
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

impl Default for TokenRules {
    fn default() -> Self {
        let [user_id_claim, username_claim, admin_claim] = ["user_id", "username", "admin"].map(str::to_owned);
        let algorithm = TokenAlgorithm::Hs256;
        Self { algorithm, issuer: None, audience: None, user_id_claim, username_claim, admin_claim }
    }
}

impl TokenRules {
    fn validation(&self) -> Validation {
        // The algorithm is fixed: the `alg` of a token's header must not choose it.
        let mut validation = Validation::new(self.algorithm.into());
        // `verify` checks `exp` against its argument, without leeway.
        validation.validate_exp = false;
        validation.validate_aud = self.audience.is_some();
        // Without being required, `iss` and `aud` could be left out of a token.
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// What the claims of a token with a valid signature say; `None` if that is not allowed.
    fn read(&self, claims: &Map<String, Value>, now: Timestamp) -> Option<Claims> {
        let is_access = claims.get("token_type").is_none_or(|kind| kind.is_null() || kind == "access");
        let exp = claims.get("exp")?.as_f64().filter(|exp| exp.is_finite())?;
        // The cast saturates, and `Timestamp` clamps to its range.
        #[allow(clippy::cast_possible_truncation)]
        let expires_at = Timestamp::from_micros((exp * 1e6) as i64);
        if !is_access || expires_at <= now {
            return None;
        }
        // Newer versions of the issuer write the id as a text.
        let user = match claims.get(&self.user_id_claim)? {
            Value::Number(id) => id.as_i64().and_then(UserId::new),
            Value::String(digits) => UserId::parse(digits),
            _ => None,
        }?;
        let iat = claims.get("iat").and_then(Value::as_f64).filter(|iat| iat.is_finite());
        #[allow(clippy::cast_possible_truncation)]
        let issued_at = iat.map(|iat| (iat as i64).min(now.secs()));
        let username = claims.get(&self.username_claim).and_then(Value::as_str).map(str::to_owned);
        let admin = claims.get(&self.admin_claim) == Some(&Value::Bool(true));
        Some(Claims { user, username, issued_at, expires_at, admin })
    }
}

impl Keys {
    /// Bytes of a token; longer ones are refused unread.
    const MAX_LENGTH: usize = 4096;

    /// The same, by the rules that the settings have by default.
    #[cfg(any(test, feature = "test-support"))]
    pub fn new(secret: &str, previous: Option<&str>) -> Self {
        Self::of_secrets(TokenRules::default(), secret, previous)
    }

    /// For HS256: `secret` signs and verifies; `previous`, while keys rotate, only verifies.
    pub(crate) fn of_secrets(rules: TokenRules, secret: &str, previous: Option<&str>) -> Self {
        let accepted = [Some(secret), previous].into_iter().flatten();
        let accepted = accepted.map(|key| DecodingKey::from_secret(key.as_bytes())).collect();
        let signing = Some(EncodingKey::from_secret(secret.as_bytes()));
        Self { validation: rules.validation(), rules, accepted, signing }
    }

    /// For the other algorithms: only their issuer has the key that signs.
    pub(crate) fn of_public_key(rules: TokenRules, key: PublicKey) -> Self {
        Self { validation: rules.validation(), rules, accepted: vec![key.into_decoding_key()], signing: None }
    }

    /// The claims of a token; `None` if it is invalid in any way. The reason stays unknown, since clients must not
    /// learn it.
    pub fn verify(&self, token: &str, now: Timestamp) -> Option<Claims> {
        if token.len() > Self::MAX_LENGTH {
            return None;
        }
        // An extension that the token calls critical, none of which is known here (RFC 7515, 4.1.11).
        if decode_header(token).ok()?.crit.is_some() {
            return None;
        }
        let mut keys = self.accepted.iter();
        let verified = keys.find_map(|key| decode::<Map<String, Value>>(token, key, &self.validation).ok())?;
        self.rules.read(&verified.claims, now)
    }

    /// Whether both accept the signatures of the same keys.
    pub(crate) fn accepts_same_keys(&self, other: &Self) -> bool {
        let bytes = |key: &DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec).ok();
        self.accepted.iter().map(bytes).eq(other.accepted.iter().map(bytes))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`MintError`] if the claims can't be signed, or only their issuer can.
    pub fn mint(&self, token: &NewToken, now: Timestamp) -> Result<String, MintError> {
        let signing = self.signing.as_ref().ok_or(MintError)?;
        let rules = &self.rules;
        let mut claims = Map::new();
        let mut set = |name: &str, value: Value| claims.insert(name.to_owned(), value);
        set("token_type", json!("access"));
        set("exp", json!(now.secs().saturating_add(token.ttl_s)));
        set("iat", json!(now.secs()));
        set("jti", json!(format!("{:032x}", rand::random::<u128>())));
        set(&rules.user_id_claim, json!(token.user.get()));
        if let Some(username) = &token.username {
            set(&rules.username_claim, json!(username));
        }
        if token.admin {
            set(&rules.admin_claim, json!(true));
        }
        if let Some(issuer) = &rules.issuer {
            set("iss", json!(issuer));
        }
        if let Some(audience) = &rules.audience {
            set("aud", json!(audience));
        }
        encode(&Header::new(rules.algorithm.into()), &claims, signing).map_err(|_| MintError)
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use proptest::prelude::*;

    use super::*;

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
        let critical =
            format!("{}.{}", encoder.encode(r#"{"alg":"HS256","crit":["b64"]}"#), encoder.encode(claims.to_string()));
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let signature = jsonwebtoken::crypto::sign(critical.as_bytes(), &key, Algorithm::HS256).unwrap();
        assert!(keys.verify(&format!("{critical}.{signature}"), now()).is_none(), "a critical extension");
        for garbage in ["", ".", "..", "a.b.c", &"x".repeat(100_000)] {
            assert!(keys.verify(garbage, now()).is_none());
        }
    }

    #[test]
    fn issuer_and_audience_must_match_if_they_are_set() {
        let rules = || TokenRules {
            issuer: Some("https://market.example".into()),
            audience: Some("handsup".into()),
            ..TokenRules::default()
        };
        let keys = Keys::of_secrets(rules(), SECRET, None);
        let claims = |own: Value| {
            let mut claims = json!({
                "user_id": 1, "exp": now().secs() + 60, "iss": "https://market.example", "aud": "handsup",
            });
            claims.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            claims
        };
        let is_valid = |own: Value| keys.verify(&signed(&claims(own), SECRET), now()).is_some();
        for good in [json!({}), json!({"aud": ["other", "handsup"]})] {
            assert!(is_valid(good.clone()), "{good}");
        }
        for bad in [
            json!({"iss": "https://market.example/"}),
            json!({"iss": "https://evil.example"}),
            json!({"iss": null}),
            json!({"iss": ""}),
            json!({"iss": 7}),
            json!({"iss": {"https://market.example": true}}),
            json!({"aud": "other"}),
            json!({"aud": "Handsup"}),
            json!({"aud": ["other"]}),
            json!({"aud": []}),
            json!({"aud": null}),
            json!({"aud": 7}),
            json!({"aud": [7, "handsup"]}),
        ] {
            assert!(!is_valid(bad.clone()), "{bad}");
        }
        let without = json!({"user_id": 1, "exp": now().secs() + 60});
        assert!(keys.verify(&signed(&without, SECRET), now()).is_none());
        let minted = NewToken { user: UserId::new(7).unwrap(), username: None, ttl_s: 60, admin: false };
        assert!(keys.verify(&keys.mint(&minted, now()).unwrap(), now()).is_some(), "minted ones have both");
        // Where neither is set, both may say anything.
        assert!(verify(&claims(json!({"aud": ["x"], "iss": 7}))).is_some());
    }

    #[test]
    fn the_claims_names_are_settings() {
        let rules = TokenRules {
            user_id_claim: "sub".into(),
            username_claim: "https://market.example/name".into(),
            admin_claim: "operator".into(),
            ..TokenRules::default()
        };
        let keys = Keys::of_secrets(rules, SECRET, None);
        let exp = now().secs() + 60;
        let claims = json!({
            "sub": "42", "https://market.example/name": "kim", "operator": true, "exp": exp,
            "user_id": 1, "username": "lee", "admin": false,
        });
        let read = keys.verify(&signed(&claims, SECRET), now()).unwrap();
        assert_eq!((read.user.get(), read.username.as_deref(), read.admin), (42, Some("kim"), true));
        // The usual names count no more.
        assert!(keys.verify(&signed(&json!({"user_id": 1, "exp": exp}), SECRET), now()).is_none());
        let usual = json!({"sub": 1, "exp": exp, "username": "lee", "admin": true});
        let read = keys.verify(&signed(&usual, SECRET), now()).unwrap();
        assert_eq!((read.username, read.admin), (None, false));
        let minted = NewToken { user: UserId::new(7).unwrap(), username: Some("choi".into()), ttl_s: 60, admin: true };
        let read = keys.verify(&keys.mint(&minted, now()).unwrap(), now()).unwrap();
        assert_eq!((read.user.get(), read.username.as_deref(), read.admin), (7, Some("choi"), true));
    }

    proptest! {
        #[test]
        fn no_text_and_no_claims_make_the_verifier_panic(
            text in ".{0,200}|[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}\\.[A-Za-z0-9_-]{0,60}",
            user in any::<i64>(), exp in any::<f64>(), iat in any::<f64>(), name in any::<String>(),
        ) {
            prop_assert_eq!(Keys::new(SECRET, None).verify(&text, now()), None);
            let claims = verify(&json!({"user_id": user, "exp": exp, "iat": iat, "username": name}));
            prop_assert!(claims.is_none_or(|claims| claims.user.get() == user && claims.expires_at > now()));
        }

        #[test]
        fn a_token_says_what_it_was_made_of_until_a_byte_of_it_changes(
            user in 1..=i64::MAX, name in ".{0,50}", admin in any::<bool>(), at in any::<prop::sample::Index>(),
        ) {
            let keys = Keys::new(SECRET, None);
            let new = NewToken { user: UserId::from_stored(user), username: Some(name.clone()), ttl_s: 60, admin };
            let mut token = keys.mint(&new, now()).unwrap();
            let claims = keys.verify(&token, now()).unwrap();
            prop_assert_eq!((claims.user.get(), claims.username, claims.admin), (user, Some(name), admin));
            let at = at.index(token.len());
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            token.replace_range(at..=at, other);
            prop_assert_eq!(keys.verify(&token, now()), None);
        }
    }
}
