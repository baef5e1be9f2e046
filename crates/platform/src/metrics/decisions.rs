//! The metrics of a decision, as members of its line.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::directives::{Aws, BY_SERVICE, Directive, Metric, milliseconds};
use super::{Emf, NAMESPACE};

const DIMENSIONS: &[&[&str]] = &[BY_SERVICE, &["service", "environment", "reason"]];
const METRICS: [Metric; 3] = [
    Metric { name: "Decisions", unit: "Count" },
    Metric { name: "Denied", unit: "Count" },
    Metric { name: "Latency", unit: "Microseconds" },
];

impl Emf {
    /// The members that make metrics of a decision line. The line itself has `reason`.
    pub(crate) fn decision(&self, allowed: bool, latency: Duration, now: SystemTime) -> DecisionMetrics<'_> {
        DecisionMetrics {
            aws: Aws { timestamp: milliseconds(now), cloud_watch_metrics: DecisionDirectives },
            service: self.service,
            environment: &self.environment,
            decisions: 1,
            // Zero counts too: the average of `Denied` is the share of denials.
            denied: u8::from(!allowed),
            latency: micros(latency),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct DecisionMetrics<'a> {
    #[serde(rename = "_aws")]
    aws: Aws<DecisionDirectives>,
    service: &'static str,
    environment: &'a str,
    #[serde(rename = "Decisions")]
    decisions: u8,
    #[serde(rename = "Denied")]
    denied: u8,
    #[serde(rename = "Latency")]
    latency: u64,
}

/// The directives of every decision line. They are always the same, and twenty texts: written once, they are copied.
struct DecisionDirectives;

impl Serialize for DecisionDirectives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static WRITTEN: LazyLock<Option<Box<RawValue>>> =
            LazyLock::new(|| serde_json::value::to_raw_value(&directives()).ok());
        match WRITTEN.as_deref() {
            Some(written) => written.serialize(serializer),
            None => directives().serialize(serializer),
        }
    }
}

fn directives() -> [Directive<'static>; 1] {
    [Directive { namespace: NAMESPACE, dimensions: DIMENSIONS, metrics: &METRICS }]
}

/// Microseconds, as far as they can be counted.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
