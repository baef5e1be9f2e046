use super::super::read::{At, Mapping};
use crate::{ConnectionPool, H2UpgradePolicy, TcpKeepalive};

const HTTP_NOT_YET: &[&str] = &["http2KeepAlive"];
const UPGRADES: &[(&str, H2UpgradePolicy)] = &[
    ("DEFAULT", H2UpgradePolicy::Default),
    ("DO_NOT_UPGRADE", H2UpgradePolicy::DoNotUpgrade),
    ("UPGRADE", H2UpgradePolicy::Upgrade),
];

pub(super) fn connection_pool(at: &At<'_>) -> Option<ConnectionPool> {
    at.mapping(&[], |fields| {
        let mut pool = ConnectionPool::default();
        if let Some(at) = fields.field("tcp") {
            at.mapping(&[], |fields| {
                tcp(fields, &mut pool);
                Some(())
            });
        }
        if let Some(at) = fields.field("http") {
            at.mapping(HTTP_NOT_YET, |fields| {
                http(fields, &mut pool);
                Some(())
            });
        }
        // Istio: "connection pool must have at least one field".
        if !fields.has("tcp") && !fields.has("http") {
            fields.at.error("expected `tcp`, `http` or both");
        }
        Some(pool)
    })
}

fn tcp(fields: &mut Mapping<'_>, pool: &mut ConnectionPool) {
    pool.max_connections = fields.count_above_0("maxConnections");
    pool.connect_timeout = fields.whole_milliseconds("connectTimeout");
    pool.max_connection_duration = fields.whole_milliseconds("maxConnectionDuration");
    pool.tcp_keepalive = fields.field("tcpKeepalive").and_then(|at| keepalive(&at));
    pool.tcp_idle_timeout = fields.field("idleTimeout").and_then(|at| {
        // Istio: "if the value is 0s … the timeout is disabled entirely".
        if at.is_zero() { at.duration() } else { at.whole_milliseconds() }
    });
}

fn keepalive(at: &At<'_>) -> Option<TcpKeepalive> {
    at.mapping(&[], |fields| {
        Some(TcpKeepalive {
            probes: fields.count_above_0("probes"),
            time: fields.whole_milliseconds("time"),
            interval: fields.whole_milliseconds("interval"),
        })
    })
}

fn http(fields: &mut Mapping<'_>, pool: &mut ConnectionPool) {
    pool.max_pending_requests = fields.count_above_0("http1MaxPendingRequests");
    pool.max_requests = fields.count_above_0("http2MaxRequests");
    pool.max_requests_per_connection = fields.count_above_0("maxRequestsPerConnection");
    pool.max_retries = fields.count_above_0("maxRetries");
    pool.idle_timeout = fields.whole_milliseconds("idleTimeout");
    pool.h2_upgrade_policy = fields.field("h2UpgradePolicy").and_then(|at| at.word(UPGRADES, &[]));
    pool.use_client_protocol = fields.boolean("useClientProtocol");
    pool.max_concurrent_streams = fields.count_above_0("maxConcurrentStreams");
    // Istio: "use client protocol must not be true when H2UpgradePolicy is UPGRADE".
    if pool.use_client_protocol && pool.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) {
        fields.at.error("`useClientProtocol` and `h2UpgradePolicy: UPGRADE` exclude each other; keep one");
    }
}
