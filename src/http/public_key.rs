//! Public keys that verify tokens of RS256, ES256 and EdDSA, checked when they are read. A key that could never verify
//! anything must not wait for its first token to say so.

use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, Jwk},
};
use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Document, asn1::BitStringRef},
};

use super::TokenAlgorithm;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Bytes of an RSA modulus: RFC 7518 (3.3) forbids shorter ones, and the library takes no longer ones.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// A key that fits the algorithm it was read for.
#[derive(Debug, Clone)]
pub(crate) struct PublicKey(DecodingKey);

/// Why something is no key for the algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublicKeyError {
    #[error("holds no PEM of a public key (`-----BEGIN PUBLIC KEY-----`)")]
    NoPem,
    #[error("holds a {0}; the service needs the public key, and nothing else")]
    OtherPem(String),
    #[error("holds no key for {0}")]
    OtherKey(TokenAlgorithm),
    #[error("holds an RSA key that is not of 2048 to 4096 bits")]
    RsaSize,
}

impl PublicKey {
    /// Reads a PEM.
    pub(crate) fn from_pem(algorithm: TokenAlgorithm, pem: &str) -> Result<Self, PublicKeyError> {
        let (label, document) = Document::from_pem(pem.trim()).map_err(|_| PublicKeyError::NoPem)?;
        let other = || PublicKeyError::OtherKey(algorithm);
        let key = match (label, algorithm) {
            // PKCS#1, which only RSA has.
            ("RSA PUBLIC KEY", TokenAlgorithm::Rs256) => DecodingKey::from_rsa_der(document.as_bytes()),
            ("RSA PUBLIC KEY", _) => return Err(other()),
            ("PUBLIC KEY", _) => {
                let info: SubjectPublicKeyInfoRef<'_> = document.decode_msg().map_err(|_| other())?;
                of_spki(algorithm, &info).ok_or_else(other)?
            }
            _ => return Err(PublicKeyError::OtherPem(label.to_lowercase())),
        };
        Self::checked(algorithm, key)
    }

    /// Refuses a key with which no signature could be verified.
    fn checked(algorithm: TokenAlgorithm, key: DecodingKey) -> Result<Self, PublicKeyError> {
        let other = |_| PublicKeyError::OtherKey(algorithm);
        // Whether this signature is valid does not matter. A point that is not on its curve is an error.
        jsonwebtoken::crypto::verify("", b"", &key, algorithm.into()).map_err(other)?;
        if algorithm == TokenAlgorithm::Rs256
            && let AlgorithmParameters::RSA(rsa) = Jwk::from_decoding_key(&key, None).map_err(other)?.algorithm
        {
            // In base64url, and without leading zeros: the library has read it as a number.
            let bytes = rsa.n.len() * 3 / 4;
            if !RSA_MODULUS_BYTES.contains(&bytes) {
                return Err(PublicKeyError::RsaSize);
            }
        }
        Ok(Self(key))
    }

    pub(crate) fn into_decoding_key(self) -> DecodingKey {
        self.0
    }
}

/// The key of a `SubjectPublicKeyInfo`; `None` if it is for another algorithm.
fn of_spki(algorithm: TokenAlgorithm, info: &SubjectPublicKeyInfoRef<'_>) -> Option<DecodingKey> {
    let (kind, key): (_, &BitStringRef<'_>) = (info.algorithm.oid, &info.subject_public_key);
    let bytes = key.as_bytes()?;
    match algorithm {
        TokenAlgorithm::Rs256 if kind == RSA => Some(DecodingKey::from_rsa_der(bytes)),
        TokenAlgorithm::Es256 if kind == EC && info.algorithm.parameters_oid() == Ok(P256) => {
            Some(DecodingKey::from_ec_der(bytes))
        }
        TokenAlgorithm::EdDsa if kind == ED25519 && bytes.len() == 32 => Some(DecodingKey::from_ed_der(bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA_PEM: &str = include_str!("../../tests/pyjwt/fixtures/rs256.pem");
    const EC_PEM: &str = include_str!("../../tests/pyjwt/fixtures/es256.pem");
    const ED_PEM: &str = include_str!("../../tests/pyjwt/fixtures/eddsa.pem");
    const OTHERS: &str = include_str!("../../tests/pyjwt/fixtures/others.pem");
    const ALGORITHMS: [TokenAlgorithm; 3] = [TokenAlgorithm::Rs256, TokenAlgorithm::Es256, TokenAlgorithm::EdDsa];

    #[test]
    fn each_algorithm_takes_its_own_keys_and_no_other() {
        for (of, pem) in ALGORITHMS.iter().zip([RSA_PEM, EC_PEM, ED_PEM]) {
            for algorithm in ALGORITHMS {
                let read = PublicKey::from_pem(algorithm, pem);
                assert_eq!(read.is_ok(), algorithm == *of, "{algorithm} reads a key of {of}: {read:?}");
            }
        }
    }

    /// RSA keys that are too short or too long, other curves.
    #[test]
    fn keys_of_other_kinds_and_sizes_are_refused() {
        let end = "-----END PUBLIC KEY-----\n";
        let others: Vec<&str> = OTHERS.split_inclusive(end).collect();
        assert_eq!(others.len(), 8);
        for pem in others {
            for algorithm in ALGORITHMS {
                assert!(PublicKey::from_pem(algorithm, pem).is_err(), "{algorithm}: {pem}");
            }
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_by_its_name() {
        for label in ["PRIVATE KEY", "CERTIFICATE", "EC PRIVATE KEY"] {
            let error = PublicKey::from_pem(TokenAlgorithm::Es256, &EC_PEM.replace("PUBLIC KEY", label)).unwrap_err();
            assert_eq!(error, PublicKeyError::OtherPem(label.to_lowercase()));
        }
    }

    #[test]
    fn damaged_pems_are_refused() {
        let cut = &EC_PEM[..EC_PEM.len() / 2];
        let body = EC_PEM.lines().nth(1).unwrap();
        for bad in ["", "garbage", cut, body, &EC_PEM.replace(&body[40..44], "AAAA"), &format!("{EC_PEM}{EC_PEM}")] {
            assert!(PublicKey::from_pem(TokenAlgorithm::Es256, bad).is_err(), "{bad}");
        }
        assert!(PublicKey::from_pem(TokenAlgorithm::Es256, &format!("\n{EC_PEM}\n\n")).is_ok());
        assert!(PublicKey::from_pem(TokenAlgorithm::Es256, &EC_PEM.replace('\n', "\r\n")).is_ok());
    }
}
