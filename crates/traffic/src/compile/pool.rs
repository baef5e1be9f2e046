//! Limits of connections, and when an endpoint is left out, with Istio's defaults.

use std::time::Duration;

use istio::{MeshConfig, OutlierDetection};

use super::policy::Policy;
use crate::table::{Outlier, Pool};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Envoy's `max_ejection_time`, which no field of Istio changes.
const MAX_EJECTION: Duration = Duration::from_secs(300);
const MIN_RETRY_CONCURRENCY: u32 = 3;

/// Milliseconds, at least 1 where it is not 0: 0 means none.
pub(super) fn ms(duration: Duration) -> u64 {
    let whole = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if duration.is_zero() { 0 } else { whole.max(1) }
}

/// `connectionPool` and `retryBudget`.
pub(super) fn pool(policy: &Policy<'_>, mesh: &MeshConfig) -> Pool {
    let settings = policy.connection_pool.cloned().unwrap_or_default();
    let keepalive = settings.tcp_keepalive.as_ref().map(|keepalive| {
        let seconds = |time: Option<Duration>| time.map_or(0, whole_seconds);
        (keepalive.probes.unwrap_or(0), seconds(keepalive.time), seconds(keepalive.interval))
    });
    let retry_budget = policy.retry_budget.map(|budget| {
        let least = budget.min_retry_concurrency;
        (budget.percent.millionths(), if least == 0 { MIN_RETRY_CONCURRENCY } else { least })
    });
    Pool {
        max_connections: settings.max_connections.unwrap_or(0),
        max_pending: settings.max_pending_requests.unwrap_or(0),
        max_requests: settings.max_requests.unwrap_or(0),
        max_retries: settings.max_retries.unwrap_or(0),
        retry_budget,
        max_requests_per_connection: settings.max_requests_per_connection.unwrap_or(0),
        max_concurrent_streams: settings.max_concurrent_streams.unwrap_or(0),
        connect_timeout_ms: ms(settings.connect_timeout.or(mesh.connect_timeout).unwrap_or(CONNECT_TIMEOUT)),
        idle_timeout_ms: ms(settings.idle_timeout.or(settings.tcp_idle_timeout).unwrap_or(IDLE_TIMEOUT)),
        max_connection_ms: ms(settings.max_connection_duration.unwrap_or_default()),
        keepalive,
    }
}

/// `outlierDetection`, as Istio's `applyOutlierDetection`: what is absent there has Envoy's default.
pub(super) fn outlier(detection: &OutlierDetection) -> Outlier {
    let base = detection.base_ejection_time.unwrap_or(Duration::from_secs(30));
    // "if outlier.ConsecutiveLocalOriginFailures.GetValue() > 0", and otherwise it is Envoy's 5.
    let local = detection.consecutive_local_origin_failures.filter(|failures| *failures > 0).unwrap_or(5);
    Outlier {
        consecutive_5xx: detection.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway: detection.consecutive_gateway_errors.unwrap_or(0),
        consecutive_local: if detection.split_local_origin { local } else { 0 },
        split: detection.split_local_origin,
        interval_ms: ms(detection.interval.unwrap_or(Duration::from_secs(10))),
        base_ejection_ms: ms(base),
        max_ejection_ms: ms(base.max(MAX_EJECTION)),
        max_ejection_percent: detection.max_ejection_percent.filter(|percent| *percent > 0).unwrap_or(10).min(100),
        min_health_percent: detection.min_health_percent.unwrap_or(0).min(100),
    }
}

fn whole_seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
