//! The secret that holds the signing keys, as it is written: `{"keys":[{"kid","alg","private_key","activate_at"?,
//! "retire_at"?}, …]}`, the private key as PKCS#8 PEM, times in Unix seconds.

use identity::secret::Secret;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::MAX_KEYS;
use super::pair::Pair;
use crate::Algorithm;
use crate::secret_cache::malformed_json;

/// All of the secret. A field that is not known here could change which key signs: it is refused.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretFile {
    pub(crate) keys: Vec<SecretKey>,
}

/// One key of the secret.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretKey {
    pub(crate) kid: String,
    pub(crate) alg: String,
    #[serde(deserialize_with = "secret")]
    pub(crate) private_key: Secret<String>,
    /// From when on it signs; without it, at once.
    #[serde(default)]
    pub(crate) activate_at: Option<u64>,
    /// From when on it is published no more; without it, never.
    #[serde(default)]
    pub(crate) retire_at: Option<u64>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

impl SecretFile {
    /// Reads the secret; the keys in it are not proven yet.
    ///
    /// # Errors
    /// The text holds nothing of the secret.
    pub(crate) fn parse(secret: &str) -> Result<Self, String> {
        let file: Self = serde_json::from_str(secret).map_err(|error| malformed_json(&error))?;
        if file.keys.is_empty() || file.keys.len() > MAX_KEYS {
            return Err(format!("found {} keys, expected 1 to {MAX_KEYS}", file.keys.len()));
        }
        Ok(file)
    }

    /// Whether a secret is meant to be one of signing keys, be it a good one or not.
    pub(crate) fn is_one(secret: &str) -> bool {
        serde_json::from_str::<Value>(secret).is_ok_and(|value| value.get("keys").is_some_and(Value::is_array))
    }

    /// The secret's text.
    pub(crate) fn to_secret(&self) -> Secret<String> {
        let keys: Vec<Value> = self.keys.iter().map(SecretKey::to_json).collect();
        Secret::new(json!({ "keys": keys }).to_string())
    }
}

impl SecretKey {
    /// A new key that signs from `activate_at` on.
    ///
    /// # Errors
    /// When the random number generator fails.
    pub(crate) fn generate(algorithm: Algorithm, activate_at: Option<u64>) -> Result<Self, String> {
        let (pair, private_key) = Pair::generate(algorithm)?;
        let kid = pair.jwk()?.kid;
        Ok(Self { kid, alg: algorithm.name().to_owned(), private_key, activate_at, retire_at: None })
    }

    /// Its algorithm, if it is one of ours.
    pub(crate) fn algorithm(&self) -> Result<Algorithm, String> {
        Algorithm::from_name(&self.alg).ok_or_else(|| "found another alg than ES256, RS256 and EdDSA".to_owned())
    }

    /// Whether it is published no more at `now`.
    pub(crate) fn is_retired(&self, now: u64) -> bool {
        self.retire_at.is_some_and(|retire_at| retire_at <= now)
    }

    fn to_json(&self) -> Value {
        let mut key = json!({"kid": self.kid, "alg": self.alg, "private_key": self.private_key.expose()});
        for (name, time) in [("activate_at", self.activate_at), ("retire_at", self.retire_at)] {
            if let Some(time) = time {
                key[name] = json!(time);
            }
        }
        key
    }
}
