//! The settings of section `auth`: which tokens are accepted, and the keys that verify them.

use std::{io::Read, path::Path};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use super::settings_error::{SettingsError, invalid};
use crate::{
    http::{Keys, PublicKey, TokenAlgorithm, TokenRules},
    store::MASK,
};

/// The key in force when `auth.insecure_dev_secret` is set and no other is. It is public, so it is for development
/// only.
pub const DEV_SECRET: &str = "handsup-development-key-that-everybody-knows";
/// Bytes of `auth.public_key_file`: many times those of the longest key.
const PUBLIC_KEY_FILE_LIMIT: u64 = 64 * 1024;
/// Claims that say something else than who the user is.
const OTHER_CLAIMS: [&str; 7] = ["aud", "exp", "iat", "iss", "jti", "nbf", "token_type"];

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    #[serde(serialize_with = "masked")]
    pub jwt_secret: Option<SecretString>,
    #[serde(serialize_with = "masked")]
    pub jwt_secret_previous: Option<SecretString>,
    pub algorithm: TokenAlgorithm,
    pub public_key_file: Option<String>,
    pub issuer: Option<String>,
    pub audience: Option<String>,
    pub user_id_claim: String,
    pub username_claim: String,
    pub admin_claim: String,
    pub insecure_dev_secret: bool,
    pub dev_login: bool,
    #[serde(serialize_with = "masked")]
    pub metrics_token: Option<SecretString>,
}

fn masked<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| MASK).serialize(serializer)
}

impl Auth {
    /// Checks values that contradict each other.
    pub(super) fn check(&self) -> Result<(), SettingsError> {
        self.check_claim_names()?;
        let algorithm = self.algorithm;
        let has_public_key = self.public_key_file.is_some();
        if algorithm == TokenAlgorithm::Hs256 && has_public_key {
            let problem = "is not for HS256, which is auth.algorithm: set that to RS256, ES256 or EdDSA";
            return Err(invalid("auth.public_key_file", problem));
        }
        if algorithm != TokenAlgorithm::Hs256 && self.dev_login {
            let problem = format!("makes HS256 tokens, but auth.algorithm is {algorithm}");
            return Err(invalid("auth.dev_login", problem));
        }
        for (key, secret) in self.secrets() {
            let is_known = secret.is_some_and(|secret| secret.expose_secret() == DEV_SECRET);
            if is_known && !self.insecure_dev_secret {
                return Err(invalid(key, "is the public development key, which only auth.insecure_dev_secret allows"));
            }
        }
        Ok(())
    }

    fn check_claim_names(&self) -> Result<(), SettingsError> {
        let names = [
            ("auth.user_id_claim", &self.user_id_claim),
            ("auth.username_claim", &self.username_claim),
            ("auth.admin_claim", &self.admin_claim),
        ];
        for (at, (key, name)) in names.iter().enumerate() {
            if let Some((other, _)) = names[..at].iter().find(|(_, other)| other == name) {
                return Err(invalid(key, format!("names the same claim as {other}: {name:?}")));
            }
            if OTHER_CLAIMS.contains(&name.as_str()) {
                return Err(invalid(key, format!("{name:?} is a claim with another meaning")));
            }
        }
        Ok(())
    }

    /// Checks that there is a safe key: a secret (fault 17), or for the other algorithms a public key.
    pub(super) fn check_secrets(&self) -> Result<(), SettingsError> {
        if self.algorithm != TokenAlgorithm::Hs256 {
            return match self.public_key_file {
                Some(_) => Ok(()),
                None => {
                    Err(invalid("auth.public_key_file", format!("is required: auth.algorithm is {}", self.algorithm)))
                }
            };
        }
        self.jwt_secret()?;
        let weak = |secret: &SecretString| secret.expose_secret().len() < 32 && !self.insecure_dev_secret;
        if self.jwt_secret_previous.as_ref().is_some_and(weak) {
            return Err(invalid("auth.jwt_secret_previous", "needs at least 32 bytes"));
        }
        Ok(())
    }

    /// The keys of HS256, by their settings.
    pub(crate) fn secrets(&self) -> [(&'static str, Option<&SecretString>); 2] {
        [("auth.jwt_secret", self.jwt_secret.as_ref()), ("auth.jwt_secret_previous", self.jwt_secret_previous.as_ref())]
    }

    /// The keys that verify tokens. Reads a file, so not for a thread that must not wait.
    pub(crate) fn read_keys(&self) -> Result<Keys, SettingsError> {
        match &self.public_key_file {
            Some(path) if self.algorithm != TokenAlgorithm::Hs256 => {
                let key = read_public_key(Path::new(path))?;
                let key = PublicKey::from_pem(self.algorithm, &key);
                let key = key.map_err(|error| invalid("auth.public_key_file", format!("{path:?} {error}")))?;
                Ok(Keys::of_public_key(self.rules(), key))
            }
            _ => {
                let previous = self.jwt_secret_previous.as_ref().map(SecretString::expose_secret);
                Ok(Keys::of_secrets(self.rules(), self.jwt_secret()?, previous))
            }
        }
    }

    /// The keys with which `handsup token` signs.
    ///
    /// # Errors
    /// There is no safe secret, or only the issuer of tokens can sign them.
    pub(crate) fn signing_keys(&self) -> Result<Keys, SettingsError> {
        if self.algorithm != TokenAlgorithm::Hs256 {
            let problem = format!("{} tokens are made by their issuer, which alone has the key", self.algorithm);
            return Err(invalid("auth.algorithm", problem));
        }
        Ok(Keys::of_secrets(self.rules(), self.jwt_secret()?, None))
    }

    fn rules(&self) -> TokenRules {
        TokenRules {
            algorithm: self.algorithm,
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            user_id_claim: self.user_id_claim.clone(),
            username_claim: self.username_claim.clone(),
            admin_claim: self.admin_claim.clone(),
        }
    }

    /// The secret that signs tokens.
    fn jwt_secret(&self) -> Result<&str, SettingsError> {
        match &self.jwt_secret {
            Some(secret) if secret.expose_secret().len() >= 32 || self.insecure_dev_secret => {
                Ok(secret.expose_secret())
            }
            Some(_) => Err(invalid("auth.jwt_secret", "needs at least 32 bytes")),
            None if self.insecure_dev_secret => Ok(DEV_SECRET),
            None => Err(invalid(
                "auth.jwt_secret",
                "is required: at least 32 bytes, known only to this service and the issuer of tokens",
            )),
        }
    }
}

/// The text of the file, of which no more is read than a key may be long.
fn read_public_key(path: &Path) -> Result<String, SettingsError> {
    let read = std::fs::File::open(path).and_then(|file| {
        let mut text = String::new();
        file.take(PUBLIC_KEY_FILE_LIMIT).read_to_string(&mut text).map(|_| text)
    });
    read.map_err(|error| invalid("auth.public_key_file", format!("{path:?} can't be read: {error}")))
}
