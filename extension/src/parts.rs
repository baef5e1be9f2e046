//! What requests share: the rules, the ways out, who we are, and what is counted.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use traffic::table::{Cluster, Tls};

use crate::cluster::Clusters;
use crate::deadline::Invocation;
use crate::intercept::Intercept;
use crate::metrics::{Metrics, Totals};
use crate::mirror::Mirrors;
use crate::reason::{Reason, Refusal};
use crate::refresh::Refresh;
use crate::renewal::SvidSource;
use crate::resolve::Resolver;
use crate::routes::Hosts;
use crate::thaw::{Between, Moment, Watch};
use crate::tokens::{Bearer, Tokens};
use crate::upstream::Upstream;

/// What a request needs.
pub(crate) struct Parts {
    pub(crate) hosts: Hosts,
    pub(crate) clusters: Clusters,
    pub(crate) identity: Arc<Refresh<SvidSource>>,
    pub(crate) tokens: Tokens,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) mirrors: Mirrors,
    /// How long a request waits for identity and token.
    pub(crate) wait: Duration,
    pub(crate) invocation: Arc<Invocation>,
    pub(crate) watch: Watch,
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// Ends the application's TLS, where it is to.
    pub(crate) intercept: Option<Intercept>,
}

/// Who we are to a cluster, and what we may do: both only for clusters of the mesh.
pub(crate) type Proof = (Option<Arc<identity::Credentials>>, Bearer);

impl Parts {
    /// Identity and, unless the application brings its own, token; both are waited for at the same time. A cluster
    /// that is not of the mesh gets neither. A `bare` request gets no token.
    pub(crate) async fn credentials(
        &self,
        headers: &HeaderMap,
        bare: bool,
        cluster: &Cluster,
    ) -> Result<Proof, Refusal> {
        if !matches!(cluster.tls, Tls::IstioMutual(_)) {
            return Ok((None, Bearer::Keep));
        }
        if bare {
            return Ok((Some(self.identity().await?), Bearer::Keep));
        }
        // As nearly always.
        if let (Some(identity), Some(token)) = (self.identity.at_hand(), self.tokens.at_hand(&cluster.host, headers)) {
            return Ok((Some(identity), token));
        }
        let wait = self.invocation.within(self.wait);
        let token = self.tokens.bearer(&cluster.host, headers, wait);
        let (identity, token) = tokio::join!(self.identity(), token);
        Ok((Some(identity?), token?))
    }

    /// Who we are; waited for, within bounds.
    ///
    /// # Errors
    /// When there is no valid SVID, and none came in time.
    pub(crate) async fn identity(&self) -> Result<Arc<identity::Credentials>, Refusal> {
        self.identity.get(self.invocation.within(self.wait)).await.map_err(|why| {
            Refusal::new(
                Reason::IdentityUnavailable,
                format!("there is no valid SVID and without one nothing is sent to the mesh: {why}"),
            )
        })
    }

    /// Starts the fetches that are due, unless a snapshot is to be made.
    pub(crate) fn start_if_due(&self) {
        if !self.invocation.is_before_snapshot() {
            self.identity.start_if_due();
            self.tokens.start_if_due();
        }
    }

    /// Something happens: after a freeze, idle connections that are too old go before somebody uses them, and
    /// credentials are renewed.
    pub(crate) fn wake(&self, now: Moment) {
        let found = self.watch.look(now);
        if found != Between::Awake {
            self.watch.dropped(self.upstream.thawed(found == Between::SetBack));
            self.start_if_due();
        }
    }

    /// What was counted outside of requests.
    pub(crate) fn totals(&self) -> Totals {
        let (identities_renewed, identities_failed) = self.identity.counts();
        let (tokens_renewed, tokens_failed) = self.tokens.counts();
        let (thaws, stale_connections) = self.watch.counts();
        let ejections = self.clusters.ejections();
        Totals {
            ejections,
            identities_renewed,
            identities_failed,
            tokens_renewed,
            tokens_failed,
            thaws,
            stale_connections,
        }
    }
}
