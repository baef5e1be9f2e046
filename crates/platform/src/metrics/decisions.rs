//! The metrics of a decision, as members of its line.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use authz::Decision;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::directives::{Aws, BY_SERVICE, Directive, Metric, milliseconds};
use super::{Emf, NAMESPACE};

const DIMENSIONS: &[&[&str]] = &[BY_SERVICE, &["service", "environment", "reason"]];
const METRICS: [Metric; 4] = [
    Metric { name: "Decisions", unit: "Count" },
    Metric { name: "Denied", unit: "Count" },
    Metric { name: "Latency", unit: "Microseconds" },
    // The last one, which stands in the lines of shadow mode alone: a metric costs where it has data.
    Metric { name: "Shadowed", unit: "Count" },
];
/// How many of them every line has.
const ALWAYS: usize = 3;

impl Emf {
    /// The members that make metrics of a decision line. The line itself has `reason`.
    pub(crate) fn decision(&self, decision: &Decision, latency: Duration, now: SystemTime) -> DecisionMetrics<'_> {
        let shadowed = decision.would_deny().is_some();
        DecisionMetrics {
            aws: Aws { timestamp: milliseconds(now), cloud_watch_metrics: DecisionDirectives { shadowed } },
            service: self.service,
            environment: &self.environment,
            decisions: 1,
            // Zero counts too: the average of `Denied` is the share of denials.
            denied: u8::from(!decision.is_allowed()),
            latency: micros(latency),
            shadowed: shadowed.then_some(1),
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
    #[serde(rename = "Shadowed", skip_serializing_if = "Option::is_none")]
    shadowed: Option<u8>,
}

/// The directives of a decision line. They are always the same, and twenty texts: written once, they are copied.
struct DecisionDirectives {
    shadowed: bool,
}

impl Serialize for DecisionDirectives {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static WRITTEN: LazyLock<Option<Box<RawValue>>> =
            LazyLock::new(|| serde_json::value::to_raw_value(&directives(false)).ok());
        match WRITTEN.as_deref() {
            Some(written) if !self.shadowed => written.serialize(serializer),
            _ => directives(self.shadowed).serialize(serializer),
        }
    }
}

fn directives(shadowed: bool) -> [Directive<'static>; 1] {
    let metrics = if shadowed { &METRICS[..] } else { METRICS.split_at(ALWAYS).0 };
    [Directive { namespace: NAMESPACE, dimensions: DIMENSIONS, metrics }]
}

/// Microseconds, as far as they can be counted.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
