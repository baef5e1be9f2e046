//! The records of clients and API keys: DynamoDB, or an embedded store for `demo`, `dev` and tests.
//!
//! Neither holds a secret: a client's secret and a key's secret are kept as hashes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use authz::api_key::ApiKeyRecord;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::BoxFuture;
use crate::table::{Only, Page, Record, Table, Written, malformed_json};

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

/// A store inside the process, kept in a file if it is given one. Holds any number of tables; cheap to clone, and clones
/// share what they hold.
#[derive(Clone, Default)]
pub struct Embedded(Arc<Shared>);

#[derive(Default)]
struct Shared {
    file: Option<PathBuf>,
    tables: Mutex<Tables>,
}

type Tables = BTreeMap<String, BTreeMap<String, Entry>>;

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    record: Box<RawValue>,
}

impl Entry {
    fn to_record(&self) -> Record {
        Record { json: self.record.get().to_owned(), version: self.version, expires_at: self.expires_at }
    }
}

/// The table of API keys in an [`Embedded`] store.
pub const API_KEYS: &str = "api_keys";

impl Embedded {
    /// A store that lives as long as the process.
    pub fn in_memory() -> Self {
        Self::default()
    }

    /// A store in the file at `path`, which is made at the first write.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged; then it is left alone.
    pub fn at(path: &Path) -> Result<Self, StoreError> {
        let tables = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| StoreError::Malformed {
                store: path.display().to_string(),
                id: "(the whole file)".to_owned(),
                why: malformed_json(&error),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Tables::default(),
            Err(error) => return Err(unavailable(path, &error)),
        };
        Ok(Self(Arc::new(Shared { file: Some(path.to_owned()), tables: Mutex::new(tables) })))
    }

    /// The table `name`, which is empty if nothing was ever written to it.
    pub fn table(&self, name: &str) -> Arc<dyn Table> {
        Arc::new(EmbeddedTable { store: self.clone(), name: name.to_owned() })
    }

    fn read<T>(&self, table: &str, f: impl FnOnce(&BTreeMap<String, Entry>) -> T) -> T {
        let tables = self.0.tables.lock().unwrap_or_else(PoisonError::into_inner);
        f(tables.get(table).unwrap_or(&BTreeMap::new()))
    }

    /// Changes one table; what `f` leaves alone (it returns [`Written::Conflict`]) is not written.
    fn change(
        &self,
        table: &str,
        f: impl FnOnce(&mut BTreeMap<String, Entry>) -> Written,
    ) -> Result<Written, StoreError> {
        let mut tables = self.0.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = &self.0.file else {
            return Ok(f(tables.entry(table.to_owned()).or_default()));
        };
        let mut changed = tables.clone();
        let written = f(changed.entry(table.to_owned()).or_default());
        if written != Written::Conflict {
            save(path, &changed)?;
            *tables = changed;
        }
        Ok(written)
    }
}

/// One table of an [`Embedded`] store.
struct EmbeddedTable {
    store: Embedded,
    name: String,
}

impl Table for EmbeddedTable {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move { Ok(self.store.read(&self.name, |entries| entries.get(id).map(Entry::to_record))) })
    }

    fn put<'a>(
        &'a self,
        id: &'a str,
        json: &'a str,
        expires_at: Option<u64>,
        only: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            let record = RawValue::from_string(json.to_owned()).map_err(|error| StoreError::Malformed {
                store: self.name.clone(),
                id: id.to_owned(),
                why: malformed_json(&error),
            })?;
            self.store.change(&self.name, |entries| {
                let found = entries.get(id);
                let holds = match only {
                    Only::Absent { now } => found.is_none_or(|e| e.expires_at.is_some_and(|at| at <= now)),
                    Only::Version(version) => found.is_some_and(|e| e.version == version),
                };
                if !holds {
                    return Written::Conflict;
                }
                // Counting goes on over an expired record, so that who read that one cannot write over this one.
                let version = found.map_or(1, |e| e.version.saturating_add(1));
                entries.insert(id.to_owned(), Entry { version, expires_at, record });
                Written::Version(version)
            })
        })
    }

    fn delete<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            self.store.change(&self.name, |entries| match entries.get(id) {
                Some(entry) if entry.version == version => {
                    entries.remove(id);
                    Written::Version(version)
                }
                _ => Written::Conflict,
            })
        })
    }

    fn page<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Page, StoreError>> {
        use std::ops::Bound;
        Box::pin(async move {
            Ok(self.store.read(&self.name, |entries| {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let mut rest = entries.range::<str, _>((from, Bound::Unbounded));
                let records: Vec<(String, Record)> =
                    rest.by_ref().take(limit.max(1)).map(|(id, entry)| (id.clone(), entry.to_record())).collect();
                let next = rest.next().and_then(|_| records.last().map(|(id, _)| id.clone()));
                Page { records, next }
            }))
        })
    }
}

/// Writes a new file beside the old one and moves it into place, so that a crash leaves one of the two, whole.
fn save(path: &Path, tables: &Tables) -> Result<(), StoreError> {
    let text = serde_json::to_vec_pretty(tables)
        .map_err(|error| StoreError::Unavailable { store: path.display().to_string(), why: error.to_string() })?;
    let new = path.with_extension("new");
    write_private(&new, &text).and_then(|()| std::fs::rename(&new, path)).map_err(|error| unavailable(path, &error))
}

/// Writes a file that nobody but its owner reads: it holds hashes of secrets, and who may do what.
fn write_private(path: &Path, text: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    // One that is left over from a crash would keep its mode.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text)
}

fn unavailable(path: &Path, error: &std::io::Error) -> StoreError {
    StoreError::Unavailable { store: path.display().to_string(), why: error.to_string() }
}

impl ApiKeys for Embedded {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move {
            let Some(json) = self.read(API_KEYS, |entries| entries.get(id).map(|e| e.record.get().to_owned())) else {
                return Ok(None);
            };
            serde_json::from_str(&json).map(Some).map_err(|error| StoreError::Malformed {
                store: API_KEYS.to_owned(),
                id: id.to_owned(),
                why: malformed_json(&error),
            })
        })
    }

    fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let unavailable = |why: String| StoreError::Unavailable { store: API_KEYS.to_owned(), why };
            let json = serde_json::to_string(record).map_err(|error| unavailable(error.to_string()))?;
            let record_json = RawValue::from_string(json).map_err(|error| unavailable(error.to_string()))?;
            self.change(API_KEYS, |entries| {
                let version = entries.get(&record.id).map_or(1, |e| e.version.saturating_add(1));
                entries.insert(record.id.clone(), Entry { version, expires_at: None, record: record_json });
                Written::Version(version)
            })?;
            Ok(())
        })
    }
}

/// The record `id` of `store`, from the text of its attribute `record`.
#[cfg(any(all(feature = "aws", feature = "jwks"), feature = "dynamodb"))]
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

    use super::{ApiKeyRecord, ApiKeys, BoxFuture, StoreError, parse_record};
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
                    .credentials_provider(self.aws.credentials.clone())
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_file_store_keeps_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.json");
        let table = Embedded::at(&path).unwrap().table("things");
        assert_eq!(table.get("a").await.unwrap(), None);
        let written = table.put("a", r#"{"x":1}"#, Some(9), Only::Absent { now: 1 }).await.unwrap();
        assert_eq!(written, Written::Version(1));

        let again = Embedded::at(&path).unwrap().table("things");
        let record = Record { json: r#"{"x":1}"#.to_owned(), version: 1, expires_at: Some(9) };
        assert_eq!(again.get("a").await.unwrap(), Some(record));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.json");
        // Left over from a crash, and open to all.
        std::fs::write(path.with_extension("new"), "x").unwrap();
        let table = Embedded::at(&path).unwrap().table("things");
        for id in ["a", "b"] {
            table.put(id, "{}", None, Only::Absent { now: 1 }).await.unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.json");
        std::fs::write(&path, "{\"things\":").unwrap();
        let error = Embedded::at(&path).err().unwrap().to_string();
        assert!(error.contains("store.json") && error.contains("malformed"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"things\":");
    }

    #[tokio::test]
    async fn a_write_that_fails_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let table = Embedded::at(&folder.path().join("gone").join("store.json")).unwrap().table("things");
        assert!(table.put("a", "{}", None, Only::Absent { now: 1 }).await.is_err());
        assert_eq!(table.get("a").await.unwrap(), None);
    }
}
