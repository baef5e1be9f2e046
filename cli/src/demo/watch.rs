//! Listens to what the parts log, so that the demo can say who decided and why.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Notify;

use crate::dev::stack::Lines;

/// A part may write its line just after its answer has gone out.
const PATIENCE: Duration = Duration::from_secs(5);

/// The lines of one request.
#[derive(Clone, Default)]
pub(crate) struct Watch {
    entries: Arc<Mutex<Vec<(&'static str, Value)>>>,
    grown: Arc<Notify>,
}

impl Watch {
    /// Where the parts write to.
    pub(crate) fn lines(&self) -> Lines {
        let watch = self.clone();
        Arc::new(move |part, line| {
            if let Ok(entry) = serde_json::from_str(line) {
                watch.entries.lock().unwrap_or_else(PoisonError::into_inner).push((part, entry));
                watch.grown.notify_waiters();
            }
        })
    }

    /// Forgets the lines of the request before.
    pub(crate) fn clear(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The last entry of `part` that `wanted` accepts: some parts have business of their own meanwhile.
    pub(crate) async fn entry(&self, part: &str, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let search = async {
            loop {
                let grown = self.grown.notified();
                let found = {
                    let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
                    let is_it = |by: &str, entry: &Value| by == part && !word(entry).is_empty() && wanted(entry);
                    entries.iter().rev().find(|(by, entry)| is_it(by, entry)).map(|(_, entry)| entry.clone())
                };
                if let Some(entry) = found {
                    return entry;
                }
                grown.await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.ok()
    }
}

/// The reason word of an entry; what went well without a decision has none, and says what happened.
pub(crate) fn word(entry: &Value) -> &str {
    entry["reason"].as_str().or_else(|| entry["event"].as_str()).unwrap_or_default()
}

/// An entry in one line: the reason word, and what belongs to it.
pub(crate) fn why(entry: &Value) -> String {
    let mut text = word(entry).to_owned();
    for field in ["hop", "policy", "principal", "peer", "upstream_identity", "subject", "client_id", "detail"] {
        if let Some(value) = entry[field].as_str().filter(|value| !value.is_empty()) {
            text.push_str(&format!("  {field}={value}"));
        }
    }
    text
}
