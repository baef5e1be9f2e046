//! What has a connection of its own: tunnels, and requests to switch protocols.
//!
//! Nothing is repeated by the route's policy: whatever the service has said or heard may matter. Where nothing of it can
//! have been processed, as there was no connection or no TLS, it goes to another endpoint.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::time::Instant;
use traffic::outlier::Observed;

use super::{ATTEMPT_COUNT, Free, Job, Tried, Won, refusal};
use crate::body::Upload;
use crate::cluster::{Chosen, Held};
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::upstream::{FailedKind, Tunnel, Upgrade};

/// What became of a request to switch protocols.
pub(crate) enum Sent {
    /// Another answer.
    Answer(Won),
    /// 101, the connection, and the places under limits, for as long as it takes.
    Switched(Response<()>, Tunnel, Held),
}

impl Job<'_> {
    /// A connection for bytes. Of the head nothing is sent.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn tunnel(&self, draws: &mut Draws) -> Result<(Tunnel, Held), Refusal> {
        match self.alone(false, draws).await? {
            (Upgrade::Switched(_, tunnel), held) => Ok((tunnel, held)),
            (Upgrade::Refused(_), _) => {
                Err(Refusal::new(Reason::UpstreamProtocolError, "found an answer of HTTP, expected bytes"))
            }
        }
    }

    /// Sends the head, which asks for another protocol. The timeout counts until the head of the answer.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn upgrade(&self, draws: &mut Draws) -> Result<Sent, Refusal> {
        let alone = self.alone(true, draws);
        let sent = match self.timeout {
            None => alone.await,
            Some(limit) => match tokio::time::timeout(limit, alone).await {
                Ok(sent) => sent,
                Err(_) => {
                    let (host, limit) = (&self.cluster.table.host, limit.as_millis());
                    let detail = format!("{host} did not answer within the route's {limit} ms");
                    Err(Refusal::new(Reason::UpstreamTimeout, detail))
                }
            },
        };
        Ok(match sent? {
            (Upgrade::Switched(response, tunnel), held) => Sent::Switched(response, tunnel, held),
            (Upgrade::Refused(exchange), held) => {
                Sent::Answer(Won { response: exchange.response, peer: exchange.peer, held })
            }
        })
    }

    /// Until there is a connection, this is a part of the function's invocation; what it carries may outlive that.
    async fn alone(&self, upgrades: bool, draws: &mut Draws) -> Result<(Upgrade, Held), Refusal> {
        tokio::select! {
            biased;
            opened = self.tries_alone(upgrades, draws) => opened,
            () = Arc::clone(self.invocation).over() => Err(self.invocation_over()),
        }
    }

    async fn tries_alone(&self, upgrades: bool, draws: &mut Draws) -> Result<(Upgrade, Held), Refusal> {
        let Some(place) = self.cluster.enter() else { return Err(self.full()) };
        let mut held = Held::default();
        held.hold(place);
        let (mut dead, mut free) = (Vec::new(), Free::default());
        let mut next = self.choose(&dead, &dead, draws).await?.ok_or_else(|| self.none_healthy())?;
        loop {
            let chosen = next;
            let hop = self.hop(&chosen);
            let (attempt, begun) = (self.begin(&chosen), Instant::now());
            let opened = match upgrades {
                true => self.upstream.upgrade(&hop, self.request(attempt)).await,
                false => {
                    let tunnel = self.upstream.tunnel(&hop).await;
                    tunnel.map(|tunnel| Upgrade::Switched(Response::new(()), tunnel))
                }
            };
            self.trail.lock().under_way = None;
            let failed = match opened {
                Ok(opened) => {
                    self.observe_opened(&chosen, &opened);
                    held.hold(chosen.active);
                    return Ok((opened, held));
                }
                Err(failed) => failed,
            };
            let Chosen { address, .. } = chosen;
            let (kind, why) = (failed.kind, failed.refusal.clone());
            self.observe(address, &Tried::Failed(failed));
            dead.push(address);
            let unheard = matches!(kind, FailedKind::Connect | FailedKind::Tls | FailedKind::Reset { sent: false });
            let why = refusal(kind, why);
            if !unheard || !free.allows(begun.elapsed()) {
                return Err(why);
            }
            match self.choose(&dead, &dead, draws).await? {
                Some(chosen) => next = chosen,
                None => return Err(why),
            }
        }
    }

    fn request(&self, attempt: u32) -> Request<Upload> {
        let mut request = Request::new(Upload::Empty);
        self.head.method.clone_into(request.method_mut());
        self.head.uri.clone_into(request.uri_mut());
        self.head.headers.clone_into(request.headers_mut());
        request.headers_mut().insert(ATTEMPT_COUNT, HeaderValue::from(attempt));
        request
    }

    fn observe_opened(&self, chosen: &Chosen, opened: &Upgrade) {
        let (status, headers) = match opened {
            // Where nothing of the protocol above is seen, a connection is a success (Envoy's tcp_proxy).
            Upgrade::Switched(..) => (200, &HeaderMap::new()),
            Upgrade::Refused(exchange) => (exchange.response.status().as_u16(), exchange.response.headers()),
        };
        let observed = Observed::answer(&self.head.headers, status, headers);
        self.clusters.answered(self.cluster, chosen.address, observed);
    }
}
