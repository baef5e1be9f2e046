//! Where the buckets of all sandboxes are: one conditional write takes tokens, or says why it cannot.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::BoxFuture;

/// A change of one bucket, which happens wholly or not at all.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Update<'a> {
    /// The client, with its environment.
    pub id: &'a str,
    /// The limit of its own that the client's record is taken to have. The change does not happen if it has another.
    pub own_limit: Option<&'a str>,
    /// What is to happen, and when.
    pub change: Change,
    /// The record says nothing any more after this moment, in seconds since 1970. One with a limit of its own stays.
    pub expires: u64,
}

/// What can happen to the moment at which a bucket is full. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// `to`, if there is none or it is before `now`.
    Start {
        /// The time.
        now: u64,
        /// The new moment.
        to: u64,
    },
    /// `cost` later, if it lies from `not_before` to `not_after`, both included.
    Add {
        /// How much later.
        cost: u64,
        /// The time.
        not_before: u64,
        /// The latest moment at which there are enough tokens.
        not_after: u64,
    },
    /// `to`, if it is `seen`.
    Replace {
        /// What it is.
        seen: u64,
        /// The new moment.
        to: u64,
    },
}

/// How an update went.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Updated {
    /// It has happened.
    Done {
        /// The moment at which the bucket is full now.
        full_at: u64,
    },
    /// It has not, and this is what the record says.
    Refused(Bucket),
}

/// A client's record.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    /// The moment at which it is full, in nanoseconds since 1970; none for a client that was never there.
    pub full_at: Option<u64>,
    /// The client's own limit, if it has one.
    pub own_limit: Option<String>,
}

/// Why the table does not say how a bucket is.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RateTableError {
    /// It does not answer, or refuses.
    #[error("the table {table} cannot be used: {why}")]
    Table {
        /// Its name.
        table: String,
        /// What it said.
        why: String,
    },
    /// One record cannot be used, whatever becomes of the others: it cannot be read, or is asked for too often.
    #[error("the record {id:?} in {table} cannot be used: {why}")]
    Record {
        /// The table's name.
        table: String,
        /// The record.
        id: String,
        /// What is wrong.
        why: String,
    },
}

/// The table of buckets.
pub trait RateTable: Send + Sync {
    /// Changes a bucket if it is as `update` says.
    ///
    /// An update whose answer is lost may have happened: its tokens are lost, and nobody gets more.
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>>;
}

/// A table inside the process: for the local stack, and for tests.
#[derive(Debug, Default)]
pub struct InMemory(Mutex<HashMap<String, Bucket>>);

impl InMemory {
    /// Writes a client's record, as an operator does.
    pub fn put(&self, id: &str, bucket: Bucket) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), bucket);
    }

    fn change(&self, update: &Update<'_>) -> Updated {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = buckets.get(update.id).cloned().unwrap_or_default();
        let full_at = match (update.change, held.full_at) {
            _ if held.own_limit.as_deref() != update.own_limit => None,
            (Change::Start { to, .. }, None) => Some(to),
            (Change::Start { now, to }, Some(at)) => (at < now).then_some(to),
            (Change::Add { cost, not_before, not_after }, Some(at)) => {
                (not_before..=not_after).contains(&at).then_some(at + cost)
            }
            (Change::Replace { seen, to }, Some(at)) => (at == seen).then_some(to),
            (Change::Add { .. } | Change::Replace { .. }, None) => None,
        };
        let Some(full_at) = full_at else { return Updated::Refused(held) };
        buckets.insert(update.id.to_owned(), Bucket { full_at: Some(full_at), ..held });
        Updated::Done { full_at }
    }
}

impl RateTable for InMemory {
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>> {
        Box::pin(async { Ok(self.change(update)) })
    }
}

/// What every table must do; run by the tests of each.
#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A change, whether it happens to a bucket that is full at 100, and to what then.
    pub(crate) const CHANGES: [(Change, Option<u64>); 9] = [
        (Change::Start { now: 100, to: 150 }, None),
        (Change::Start { now: 101, to: 150 }, Some(150)),
        (Change::Add { cost: 20, not_before: 100, not_after: 100 }, Some(120)),
        (Change::Add { cost: 20, not_before: 0, not_after: 200 }, Some(120)),
        (Change::Add { cost: 20, not_before: 101, not_after: 200 }, None),
        (Change::Add { cost: 20, not_before: 0, not_after: 99 }, None),
        (Change::Replace { seen: 100, to: 50 }, Some(50)),
        (Change::Replace { seen: 99, to: 50 }, None),
        (Change::Replace { seen: 101, to: 50 }, None),
    ];

    #[tokio::test]
    async fn a_change_happens_only_to_what_it_is_for() {
        let limits = [None, Some("1/s,1"), Some("2/s,1")];
        for (change, expected) in CHANGES {
            for (own, taken) in limits.iter().flat_map(|own| limits.map(|taken| (*own, taken))) {
                let table = InMemory::default();
                let held = Bucket { full_at: Some(100), own_limit: own.map(str::to_owned) };
                table.put("a", held.clone());
                let update = Update { id: "a", own_limit: taken, change, expires: 0 };
                let expected = match expected {
                    Some(full_at) if own == taken => Updated::Done { full_at },
                    _ => Updated::Refused(held),
                };
                assert_eq!(table.update(&update).await.unwrap(), expected, "{change:?} {own:?} {taken:?}");
            }
        }
        let table = InMemory::default();
        for (change, happens) in [
            (Change::Add { cost: 1, not_before: 0, not_after: 9 }, false),
            (Change::Replace { seen: 0, to: 1 }, false),
            (Change::Start { now: 5, to: 6 }, true),
        ] {
            let update = Update { id: "new", own_limit: None, change, expires: 0 };
            let expected = if happens { Updated::Done { full_at: 6 } } else { Updated::Refused(Bucket::default()) };
            assert_eq!(table.update(&update).await.unwrap(), expected, "{change:?}");
        }
    }
}
