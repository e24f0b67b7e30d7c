//! An issuer of tokens with a key pair of its own, as marketplaces have whose tokens are not signed with HS256.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use handsup::test_support::domain::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};

use super::claims;

/// What stands before the secret bytes of a key in PKCS#8, and before the public ones in a `SubjectPublicKeyInfo`.
const ED25519: (&[u8], &[u8]) = (
    &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20],
    &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0],
);
const P256: (&[u8], &[u8]) = (
    &[
        0x30, 0x41, 2, 1, 0, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d,
        3, 1, 7, 4, 0x27, 0x30, 0x25, 2, 1, 1, 4, 0x20,
    ],
    &[
        0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7,
        3, 0x42, 0, 4,
    ],
);

pub struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    kid: String,
}

impl Issuer {
    /// With a new key for `EdDSA`.
    pub fn eddsa(kid: &str) -> Self {
        let key = EncodingKey::from_ed_der(&[ED25519.0, &rand::random::<[u8; 32]>()].concat());
        Self { algorithm: Algorithm::EdDSA, key, kid: kid.to_owned() }
    }

    /// With a new key for `ES256`.
    pub fn es256(kid: &str) -> Self {
        let key = EncodingKey::from_ec_der(&[P256.0, &rand::random::<[u8; 32]>()].concat());
        Self { algorithm: Algorithm::ES256, key, kid: kid.to_owned() }
    }

    /// A token with these claims, whose header names the key.
    pub fn signed(&self, claims: &Value) -> String {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(self.algorithm) };
        self.signed_with(&header, claims)
    }

    /// A token with another header.
    pub fn signed_with(&self, header: &Header, claims: &Value) -> String {
        encode(header, claims, &self.key).unwrap()
    }

    /// A token of this user for an hour.
    pub fn token(&self, user: i64, now: Timestamp) -> String {
        self.signed(&claims(&json!(user), now, &json!({})))
    }

    /// The public key, as a key set has it.
    pub fn jwk(&self) -> Value {
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key, as a file has it.
    pub fn pem(&self) -> String {
        let jwk = self.jwk();
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap_or_default()).unwrap();
        let prefix = if self.algorithm == Algorithm::EdDSA { ED25519.1 } else { P256.1 };
        let text = STANDARD.encode([prefix, &part("x"), &part("y")].concat());
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}
