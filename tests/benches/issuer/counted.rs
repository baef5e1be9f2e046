//! Tables and secrets that count how often they are asked: each question would be a call of AWS.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use identity::Secret;
use key_issuer::Tables;
use platform::BoxFuture;
use platform::secrets::{SecretError, Secrets};
use platform::store::StoreError;
use platform::table::{Only, Page, Record, Table, Written};

/// How often one was asked.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<AtomicUsize>);

impl Calls {
    pub(crate) fn so_far(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The same tables, counted.
    pub(crate) fn of_tables(&self, tables: Tables) -> Tables {
        let counted = |inner| -> Arc<dyn Table> { Arc::new(Counted { inner, calls: self.clone() }) };
        Tables {
            clients: counted(tables.clients),
            api_keys: counted(tables.api_keys),
            state: counted(tables.state),
            revocations: counted(tables.revocations),
        }
    }

    /// The same secrets, counted.
    pub(crate) fn of_secrets(&self, inner: impl Secrets + 'static) -> Arc<dyn Secrets> {
        Arc::new(Counted { inner, calls: self.clone() })
    }
}

struct Counted<T> {
    inner: T,
    calls: Calls,
}

impl Table for Counted<Arc<dyn Table>> {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        self.calls.one();
        self.inner.get(id)
    }

    fn put<'a>(
        &'a self,
        id: &'a str,
        json: &'a str,
        expires_at: Option<u64>,
        only: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.calls.one();
        self.inner.put(id, json, expires_at, only)
    }

    fn delete<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<Written, StoreError>> {
        self.calls.one();
        self.inner.delete(id, version)
    }

    fn page<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.calls.one();
        self.inner.page(after, limit)
    }
}

impl<S: Secrets> Secrets for Counted<S> {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        self.calls.one();
        self.inner.get(id)
    }

    fn get_dated<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(Secret<String>, u64), SecretError>> {
        self.calls.one();
        self.inner.get_dated(id)
    }
}
