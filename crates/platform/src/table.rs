//! Tables of JSON records whose every write is conditional, so that no change is lost and nothing is half done.
//!
//! DynamoDB keeps them in AWS; [`Embedded`](crate::store::Embedded) keeps them in memory or in a file for `demo`, `dev` and
//! tests. Both pass the same tests.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::BoxFuture;
use crate::clock::Clock;
use crate::store::StoreError;

/// A record as a table keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The record, JSON text.
    pub json: String,
    /// Counts the writes. A record that was written by other means than a [`Table`] has 0.
    pub version: u64,
    /// From when on it counts as absent, in seconds since 1970. A table may keep it for longer.
    pub expires_at: Option<u64>,
}

/// What must be true for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// There is no record, or it expired before `now` (seconds since 1970).
    Absent {
        /// The time.
        now: u64,
    },
    /// The record is this version still.
    Version(u64),
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done; this is the record's version now.
    Version(u64),
    /// The condition did not hold, and nothing has changed.
    Conflict,
}

/// Some records of a table, in an order of the table's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Ids and records. May be empty although there are more.
    pub records: Vec<(String, Record)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// A table of JSON records.
pub trait Table: Send + Sync {
    /// The record `id`, read consistently; it may have expired.
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>>;

    /// Writes the record `id` if the condition holds.
    fn put<'a>(
        &'a self,
        id: &'a str,
        json: &'a str,
        expires_at: Option<u64>,
        only: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>>;

    /// Deletes the record `id` if it is this version still. What is not there is [`Written::Conflict`].
    fn delete<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<Written, StoreError>>;

    /// At most `limit` records from `after` on (a [`Page::next`]), expired ones too.
    fn page<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// Whether there is a table at all: what needs one is not offered without.
    fn is_configured(&self) -> bool {
        true
    }
}

/// A table that is not configured: every use of it is refused with the variable that would name it.
pub struct Unconfigured(pub &'static str);

impl Unconfigured {
    fn error<T: Send + 'static>(&self) -> BoxFuture<'static, Result<T, StoreError>> {
        let why = format!("{} is not set", self.0);
        Box::pin(async move { Err(StoreError::Unavailable { store: "(none)".to_owned(), why }) })
    }
}

impl Table for Unconfigured {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        self.error()
    }

    fn put<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: Option<u64>,
        _: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.error()
    }

    fn delete<'a>(&'a self, _: &'a str, _: u64) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.error()
    }

    fn page<'a>(&'a self, _: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.error()
    }

    fn is_configured(&self) -> bool {
        false
    }
}

/// A record, read, with the version that a change of it must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// The record.
    pub value: T,
    /// Its version.
    pub version: u64,
}

/// Some records, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Records<T> {
    /// Ids and records; expired ones are left out.
    pub records: Vec<(String, Held<T>)>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<String>,
}

/// A table of records of one type. What has expired is absent.
#[derive(Clone)]
pub struct TableOf<T> {
    name: &'static str,
    table: Arc<dyn Table>,
    clock: Arc<dyn Clock>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> TableOf<T> {
    /// The records of `table`; `name` is what errors call it.
    pub fn new(name: &'static str, table: Arc<dyn Table>, clock: Arc<dyn Clock>) -> Self {
        Self { name, table, clock, of: PhantomData }
    }

    /// The record `id`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn get(&self, id: &str) -> Result<Option<Held<T>>, StoreError> {
        match self.table.get(id).await? {
            Some(record) if !self.is_expired(&record) => self.read(id, record).map(Some),
            _ => Ok(None),
        }
    }

    /// Writes a new record; `false` if there is one already.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not known whether it was written.
    pub async fn create(&self, id: &str, value: &T, expires_at: Option<u64>) -> Result<bool, StoreError> {
        let only = Only::Absent { now: self.clock.unix() };
        self.write(id, value, expires_at, only).await
    }

    /// Writes a record over the version that was read; `false` if somebody else was faster.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not known whether it was written.
    pub async fn replace(
        &self,
        id: &str,
        value: &T,
        expires_at: Option<u64>,
        version: u64,
    ) -> Result<bool, StoreError> {
        self.write(id, value, expires_at, Only::Version(version)).await
    }

    /// Deletes the version that was read; `false` if somebody else was faster.
    ///
    /// # Errors
    /// [`StoreError`]; then it is not known whether it is gone.
    pub async fn delete(&self, id: &str, version: u64) -> Result<bool, StoreError> {
        Ok(self.table.delete(id, version).await? != Written::Conflict)
    }

    /// At most `limit` records from `after` on.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<Records<T>, StoreError> {
        let Page { records, next } = self.table.page(after, limit).await?;
        let live = records.into_iter().filter(|(_, record)| !self.is_expired(record));
        let records = live.map(|(id, record)| self.read(&id, record).map(|held| (id, held))).collect::<Result<_, _>>();
        Ok(Records { records: records?, next })
    }

    async fn write(&self, id: &str, value: &T, expires_at: Option<u64>, only: Only) -> Result<bool, StoreError> {
        let json = serde_json::to_string(value)
            .map_err(|error| StoreError::Unavailable { store: self.name.to_owned(), why: error.to_string() })?;
        Ok(self.table.put(id, &json, expires_at, only).await? != Written::Conflict)
    }

    fn is_expired(&self, record: &Record) -> bool {
        record.expires_at.is_some_and(|expires_at| expires_at <= self.clock.unix())
    }

    fn read(&self, id: &str, record: Record) -> Result<Held<T>, StoreError> {
        match serde_json::from_str(&record.json) {
            Ok(value) => Ok(Held { value, version: record.version }),
            // Without what is there: whoever wrote the record wrongly may have put a secret into it.
            Err(error) => Err(StoreError::Malformed {
                store: self.name.to_owned(),
                id: id.to_owned(),
                why: malformed_json(&error),
            }),
        }
    }
}

/// Where JSON breaks, without what is there: serde quotes the offending value, which may be a secret.
pub(crate) fn malformed_json(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => "a member is missing, unknown or of another type",
        _ => "it is no JSON",
    };
    format!("line {} column {}: {what}", error.line(), error.column())
}
