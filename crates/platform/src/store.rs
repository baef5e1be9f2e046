//! The records of clients and API keys: DynamoDB, or an embedded store for `demo`, `dev` and tests.
//!
//! Neither holds a secret: a client's secret and a key's secret are kept as hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use authz::api_key::ApiKeyRecord;
use serde::{Deserialize, Serialize};

use crate::BoxFuture;

/// Why a record cannot be had. "Not found" is not among these: it is an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store does not answer, or refuses.
    #[error("the store {store} cannot be used: {why}")]
    Unavailable {
        /// Table or file.
        store: String,
        /// What it said.
        why: String,
    },
    /// The record is there but cannot be read: a fault of whoever wrote it.
    #[error("the record {id} in {store} is malformed: {why}")]
    Malformed {
        /// Table or file.
        store: String,
        /// The record.
        id: String,
        /// What is wrong.
        why: String,
    },
}

/// An OAuth client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// The `client_id`.
    pub client_id: String,
    /// SHA-256 of its secrets, in hex: one, or two while a secret is being changed.
    pub secret_hashes: Vec<String>,
    /// The scopes that it may have.
    pub scopes: Vec<String>,
    /// The audiences that it may ask tokens for; the first one is the default.
    pub audiences: Vec<String>,
    /// The grants that it may use, by their OAuth names.
    pub grants: Vec<String>,
    /// Whether it may be used.
    pub state: ClientState,
}

/// Whether a client may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientState {
    /// It may.
    Active,
    /// It may not.
    Disabled,
}

/// Where API keys are kept.
pub trait ApiKeys: Send + Sync {
    /// The record of the key with this public id.
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>>;
    /// Writes a record, new or changed. Fronts have a store that they can only read.
    fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        let store = format!("of the key {}", record.id);
        Box::pin(async { Err(StoreError::Unavailable { store, why: "it can only be read".to_owned() }) })
    }
}

/// Where OAuth clients are kept.
pub trait Clients: Send + Sync {
    /// The record of a client.
    fn get<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<ClientRecord>, StoreError>>;
    /// Writes a record, new or changed.
    fn put<'a>(&'a self, record: &'a ClientRecord) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// A store inside the process, kept in a file if it is given one.
#[derive(Default)]
pub struct Embedded {
    file: Option<PathBuf>,
    records: Mutex<Records>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    api_keys: BTreeMap<String, ApiKeyRecord>,
    clients: BTreeMap<String, ClientRecord>,
}

impl Embedded {
    /// A store that lives as long as the process.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// A store in the file at `path`, which is made at the first write.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let records = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| StoreError::Malformed {
                store: path.display().to_string(),
                id: "(the whole file)".to_owned(),
                why: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Records::default(),
            Err(error) => return Err(unavailable(path, &error)),
        };
        Ok(Self { file: Some(path.to_owned()), records: Mutex::new(records) })
    }

    fn read<T>(&self, f: impl FnOnce(&Records) -> Option<T>) -> Result<Option<T>, StoreError> {
        Ok(f(&self.records.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn change(&self, f: impl FnOnce(&mut Records)) -> Result<(), StoreError> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = records.clone();
        f(&mut changed);
        if let Some(path) = &self.file {
            save(path, &changed)?;
        }
        *records = changed;
        Ok(())
    }
}

/// Writes a new file beside the old one and moves it into place, so that a crash leaves one of the two, whole.
fn save(path: &Path, records: &Records) -> Result<(), StoreError> {
    let text = serde_json::to_vec_pretty(records)
        .map_err(|error| StoreError::Unavailable { store: path.display().to_string(), why: error.to_string() })?;
    let new = path.with_extension("new");
    std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, path)).map_err(|error| unavailable(path, &error))
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { store: path.display().to_string(), why: error.to_string() }
}

impl ApiKeys for Embedded {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move { self.read(|records| records.api_keys.get(id).cloned()) })
    }

    fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.change(|records| {
                records.api_keys.insert(record.id.clone(), record.clone());
            })
        })
    }
}

impl Clients for Embedded {
    fn get<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<ClientRecord>, StoreError>> {
        Box::pin(async move { self.read(|records| records.clients.get(client_id).cloned()) })
    }

    fn put<'a>(&'a self, record: &'a ClientRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.change(|records| {
                records.clients.insert(record.client_id.clone(), record.clone());
            })
        })
    }
}

/// The record `id` of `store`, from the text of its attribute `record`.
#[cfg(any(feature = "aws", feature = "dynamodb"))]
pub(crate) fn parse_record<T: serde::de::DeserializeOwned>(
    store: &str,
    id: &str,
    record: Option<&str>,
) -> Result<T, StoreError> {
    let malformed = |why: String| StoreError::Malformed { store: store.to_owned(), id: id.to_owned(), why };
    let Some(record) = record else {
        return Err(malformed("expected a string attribute named record".to_owned()));
    };
    // Without what is there: whoever wrote the record wrongly may have put a secret into it.
    serde_json::from_str(record).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "a member is missing, unknown or of another type",
            _ => "it is no JSON",
        };
        malformed(format!("line {} column {}: {what}", error.line(), error.column()))
    })
}

#[cfg(feature = "dynamodb")]
pub use dynamodb::DynamoDb;

#[cfg(feature = "dynamodb")]
mod dynamodb {
    use std::sync::{Arc, OnceLock};

    use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
    use aws_sdk_dynamodb::types::AttributeValue;
    use aws_sdk_dynamodb::{Client, Config};
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{ApiKeyRecord, ApiKeys, BoxFuture, ClientRecord, Clients, StoreError, parse_record};
    use crate::aws::AwsConfig;

    /// One DynamoDB table. Its partition key is the string `id`; the record is JSON in the string `record`.
    #[derive(Clone)]
    pub struct DynamoDb {
        table: String,
        aws: AwsConfig,
        // Built at the first call, not at the start.
        client: Arc<OnceLock<Client>>,
    }

    impl DynamoDb {
        /// The table `table` in the account and Region of `aws`.
        pub fn new(table: impl Into<String>, aws: AwsConfig) -> Self {
            Self { table: table.into(), aws, client: Arc::default() }
        }

        fn client(&self) -> &Client {
            self.client.get_or_init(|| {
                let mut config = Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new(self.aws.region.clone()))
                    .credentials_provider(self.aws.sdk_credentials())
                    .timeout_config(crate::aws::timeouts())
                    .retry_config(crate::aws::retries());
                if let Some(endpoint) = &self.aws.dynamodb_endpoint {
                    config = config.endpoint_url(endpoint);
                }
                Client::from_conf(config.build())
            })
        }

        async fn read<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>, StoreError> {
            let output = self
                .client()
                .get_item()
                .table_name(&self.table)
                .key("id", AttributeValue::S(id.to_owned()))
                // A revoked key must not be read from a replica that has not heard of it.
                .consistent_read(true)
                .send()
                .await
                .map_err(|error| self.unavailable(crate::aws::describe(&error)))?;
            let Some(item) = output.item else { return Ok(None) };
            let record = item.get("record").and_then(|record| record.as_s().ok());
            parse_record(&self.table, id, record.map(String::as_str)).map(Some)
        }

        async fn write(&self, id: &str, record: &impl Serialize) -> Result<(), StoreError> {
            let record = serde_json::to_string(record).map_err(|error| self.unavailable(error.to_string()))?;
            self.client()
                .put_item()
                .table_name(&self.table)
                .item("id", AttributeValue::S(id.to_owned()))
                .item("record", AttributeValue::S(record))
                .send()
                .await
                .map_err(|error| self.unavailable(crate::aws::describe(&error)))?;
            Ok(())
        }

        fn unavailable(&self, why: String) -> StoreError {
            StoreError::Unavailable { store: self.table.clone(), why }
        }
    }

    impl ApiKeys for DynamoDb {
        fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
            Box::pin(self.read(id))
        }

        fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
            Box::pin(self.write(&record.id, record))
        }
    }

    impl Clients for DynamoDb {
        fn get<'a>(&'a self, client_id: &'a str) -> BoxFuture<'a, Result<Option<ClientRecord>, StoreError>> {
            Box::pin(self.read(client_id))
        }

        fn put<'a>(&'a self, record: &'a ClientRecord) -> BoxFuture<'a, Result<(), StoreError>> {
            Box::pin(self.write(&record.client_id, record))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(id: &str) -> ClientRecord {
        ClientRecord {
            client_id: id.to_owned(),
            secret_hashes: vec!["00".repeat(32)],
            scopes: vec!["reviews.read".to_owned()],
            audiences: vec!["bookinfo".to_owned()],
            grants: vec!["client_credentials".to_owned()],
            state: ClientState::Active,
        }
    }

    #[tokio::test]
    async fn a_file_store_keeps_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.json");
        let clients: &dyn Clients = &Embedded::at(&path).unwrap();
        assert_eq!(clients.get("reader").await.unwrap(), None);
        clients.put(&client("reader")).await.unwrap();

        let again: &dyn Clients = &Embedded::at(&path).unwrap();
        assert_eq!(again.get("reader").await.unwrap(), Some(client("reader")));
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.json");
        std::fs::write(&path, "{\"clients\":").unwrap();
        let error = Embedded::at(&path).err().unwrap().to_string();
        assert!(error.contains("store.json") && error.contains("malformed"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"clients\":");
    }

    #[tokio::test]
    async fn a_write_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::at(&folder.path().join("gone").join("store.json")).unwrap();
        assert!(Clients::put(&store, &client("reader")).await.is_err());
        assert_eq!(Clients::get(&store, "reader").await.unwrap(), None);
    }
}
