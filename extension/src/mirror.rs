//! Copies of requests to other services, whose answers nobody reads.

use std::sync::Arc;
use std::time::Duration;

use http::header::HOST;
use http::request;
use http_body_util::BodyExt;
use platform::log::Log;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use traffic::table::RetryPolicy;

use crate::cluster::ClusterState;
use crate::outgoing::{BodyCopy, Outgoing};
use crate::parts::Parts;
use crate::random::Draws;
use crate::reason::Refusal;
use crate::retry::{Job, Trail};

/// The most copies at a time; more are left out, each with a line in the log.
pub(crate) const MAX_COPIES: usize = 32;

/// How long a copy may take.
const LIMIT: Duration = Duration::from_secs(15);

/// Sends copies aside.
pub(crate) struct Mirrors {
    places: Arc<Semaphore>,
    log: Log,
}

/// A copy and where it goes.
pub(crate) struct Shadow {
    pub(crate) cluster: Arc<ClusterState>,
    /// The request as it goes out, without a token of ours.
    pub(crate) head: request::Parts,
    pub(crate) body: BodyCopy,
    /// Host and port that the application named.
    pub(crate) named: (String, u16),
    pub(crate) http2: bool,
    /// Without a token of ours.
    pub(crate) bare: bool,
}

impl Mirrors {
    pub(crate) fn new(log: Log) -> Mirrors {
        Mirrors { places: Arc::new(Semaphore::new(MAX_COPIES)), log }
    }

    /// Sends the copy in the background; nothing of it touches the request itself.
    pub(crate) fn send(&self, parts: &Arc<Parts>, shadow: Shadow) {
        let name = shadow.cluster.table.name.clone();
        let log = self.log.clone();
        let skipped = move |why: &str| {
            log.write(&serde_json::json!({ "event": "mirror_failed", "upstream_cluster": name, "why": why }));
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            skipped("too many copies are under way");
            return;
        };
        let parts = Arc::clone(parts);
        tokio::spawn(async move {
            match timeout(LIMIT, copy(&parts, shadow)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => skipped(&format!("{}: {}", refusal.reason.as_str(), refusal.detail)),
                Err(_) => skipped("it took too long"),
            }
            drop(place);
        });
    }
}

async fn copy(parts: &Parts, mut shadow: Shadow) -> Result<(), Refusal> {
    // A body that is too long to keep, or broke off, is not copied.
    let Some(body) = shadow.body.whole().await else { return Ok(()) };
    let (credentials, bearer) = parts.credentials(&shadow.head.headers, shadow.bare, &shadow.cluster.table).await?;
    bearer.apply(&mut shadow.head.headers);
    // The host stays as it is: istiod sets `disable_shadow_host_suffix_append` since 1.28, where
    // `DISABLE_SHADOW_HOST_SUFFIX` is true by default.
    let host = shadow.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let server_name = without_port(host).to_owned();
    let (policy, trail) = (RetryPolicy::default(), Trail::default());
    let job = Job {
        clusters: &parts.clusters,
        resolver: &parts.resolver,
        upstream: &parts.upstream,
        cluster: &shadow.cluster,
        named: (&shadow.named.0, shadow.named.1),
        head: &shadow.head,
        server_name: &server_name,
        credentials,
        http2: shadow.http2,
        policy: &policy,
        timeout: None,
        patience: None,
        invocation: &parts.invocation,
        hash: None,
        trail: &trail,
    };
    let won = job.run(Outgoing::once(body), &mut Draws::new()).await?;
    let mut body = won.response.into_body();
    // Read to its end, so that the connection can be used again.
    while let Some(Ok(_)) = body.frame().await {}
    Ok(())
}

/// The host without its port.
pub(crate) fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_its_port() {
        for (host, expected) in [
            ("ratings", "ratings"),
            ("ratings.bookinfo:9080", "ratings.bookinfo"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), expected);
        }
    }
}
