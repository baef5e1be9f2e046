//! What the store says about a presented API key, and the pepper that keys are hashed with.

use std::sync::Arc;

use authz::{KeyRecordLookup, PresentedKey};
use identity::Secret;
use serde_json::json;

use crate::clock::{Clock, rfc3339};
use crate::log::Log;
use crate::secrets::Secrets;
use crate::store::ApiKeys;

/// The shortest pepper, in bytes: HMAC-SHA-256 with a shorter key could be searched for.
pub const MIN_PEPPER_BYTES: usize = 16;

/// Where API keys are looked up, and what they are hashed with.
#[derive(Clone)]
pub struct ApiKeyStore {
    /// The records.
    pub records: Arc<dyn ApiKeys>,
    /// Where the pepper is.
    pub secrets: Arc<dyn Secrets>,
    /// The id of the secret whose text is the pepper.
    pub pepper_id: String,
}

#[cfg(all(feature = "dynamodb", feature = "secrets"))]
impl ApiKeyStore {
    /// The store in AWS. Connects to nobody yet.
    pub fn in_aws(config: &ApiKeysConfig) -> Self {
        Self {
            records: Arc::new(crate::store::DynamoDb::new(&config.table, config.aws.clone())),
            secrets: Arc::new(crate::secrets::SecretsManager::new(config.aws.clone())),
            pepper_id: config.pepper_secret.clone(),
        }
    }
}

/// How API keys are configured in AWS.
#[cfg(all(feature = "dynamodb", feature = "secrets"))]
#[derive(Clone, Debug)]
pub struct ApiKeysConfig {
    /// `CAUSEWAY_API_KEYS_TABLE`: the DynamoDB table.
    pub table: String,
    /// `CAUSEWAY_PEPPER_SECRET`: the id of the secret whose text is the pepper.
    pub pepper_secret: String,
    /// Region, credentials and endpoints.
    pub aws: crate::aws::AwsConfig,
}

#[cfg(all(feature = "dynamodb", feature = "secrets"))]
impl ApiKeysConfig {
    /// Reads the two variables, and AWS' own when they are there.
    ///
    /// # Errors
    /// One of the two without the other, or a variable of AWS is missing.
    pub fn from_env(env: &crate::env::Reader<'_>) -> Result<Option<Self>, crate::env::EnvError> {
        let Some((table, pepper_secret)) = env.pair("CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET")? else {
            return Ok(None);
        };
        Ok(Some(Self { table, pepper_secret, aws: crate::aws::AwsConfig::from_env(env)? }))
    }
}

/// Looks API keys up.
pub struct ApiKeySource {
    clock: Arc<dyn Clock>,
    log: Log,
    pepper: tokio::sync::OnceCell<Secret<Vec<u8>>>,
    store: Option<ApiKeyStore>,
}

impl ApiKeySource {
    /// A source that has asked nobody yet. Without a store every key is unavailable.
    pub fn new(store: Option<ApiKeyStore>, clock: Arc<dyn Clock>, log: Log) -> Self {
        Self { clock, log, pepper: tokio::sync::OnceCell::new(), store }
    }

    /// The pepper, once a key has been looked up.
    pub fn pepper(&self) -> Option<&Secret<Vec<u8>>> {
        self.pepper.get()
    }

    /// What is known of a key. What cannot be had is unavailable, which denies.
    pub async fn look_up(&self, presented: &PresentedKey) -> KeyRecordLookup {
        let Some(store) = &self.store else {
            self.unavailable("no store is configured: set CAUSEWAY_API_KEYS_TABLE and CAUSEWAY_PEPPER_SECRET");
            return KeyRecordLookup::Unavailable;
        };
        let (record, pepper) =
            tokio::join!(store.records.get(&presented.id), self.pepper.get_or_try_init(|| pepper(store)));
        match (record, pepper) {
            (Ok(Some(record)), Ok(_)) => KeyRecordLookup::Found(record),
            (Ok(None), Ok(_)) => KeyRecordLookup::NotFound,
            (Err(error), _) => {
                self.unavailable(&error.to_string());
                KeyRecordLookup::Unavailable
            }
            (_, Err(error)) => {
                self.unavailable(&error);
                KeyRecordLookup::Unavailable
            }
        }
    }

    fn unavailable(&self, error: &str) {
        let ts = rfc3339(self.clock.now());
        self.log.write(&json!({"ts": ts, "event": "api_keys_unavailable", "error": error}));
    }
}

async fn pepper(store: &ApiKeyStore) -> Result<Secret<Vec<u8>>, String> {
    let secret = store.secrets.get(&store.pepper_id).await.map_err(|error| error.to_string())?;
    let bytes = secret.expose().as_bytes();
    if bytes.len() < MIN_PEPPER_BYTES {
        let (id, found) = (&store.pepper_id, bytes.len());
        return Err(format!("the pepper {id} has {found} bytes, expected at least {MIN_PEPPER_BYTES}"));
    }
    Ok(Secret::new(bytes.to_vec()))
}
