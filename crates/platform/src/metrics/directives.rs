//! The members of a log line that say which of its other members are metrics.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The dimensions that every metric has.
pub(super) const BY_SERVICE: &[&str] = &["service", "environment"];

/// The metadata object of the specification.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Aws<D> {
    /// "The number of milliseconds after Jan 1, 1970 00:00:00 UTC."
    pub(super) timestamp: u64,
    pub(super) cloud_watch_metrics: D,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Directive<'a> {
    pub(super) namespace: &'static str,
    pub(super) dimensions: &'static [&'static [&'static str]],
    pub(super) metrics: &'a [Metric],
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Metric {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
}

/// Milliseconds since 1970.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
