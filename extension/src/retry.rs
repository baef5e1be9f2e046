//! One request, sent until it has an answer: tries, the pauses between them, and their limits.
//!
//! A request is repeated for three reasons. The route's policy says so (Envoy's conditions). It is idempotent and the
//! connection ended without an answer: "A client SHOULD NOT automatically retry a request with a non-idempotent method"
//! (RFC 9110 9.2.2), and may any other; this is one more condition of the policy, with its number of tries, its budget
//! and its pauses. Nothing of it can have been processed, as there was no connection, no TLS, or the service said so:
//! then it goes to another endpoint whatever the policy, within bounds of number and time.

mod alone;
mod choose;
mod trail;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, Response, request};
use identity::{Credentials, SpiffeId};
use tokio::time::Instant;
use traffic::outlier::Observed;
use traffic::retry::{NotSent, Outcome, back_off, is_retriable};
use traffic::table::RetryPolicy;

use crate::body::{Download, Upload};
use crate::cluster::{Chosen, ClusterState, Clusters, Count, Held};
use crate::deadline::Invocation;
use crate::outgoing::Outgoing;
use crate::random::Draws;
use crate::reason::{Flags, Reason, Refusal};
use crate::resolve::Resolver;
use crate::upstream::{Exchange, Failed, FailedKind, Hop, Upstream};

pub(crate) use alone::Sent;
pub(crate) use trail::Trail;

use choose::{Failures, Free};

const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// A request and all that its tries need.
pub(crate) struct Job<'a> {
    pub(crate) clusters: &'a Clusters,
    pub(crate) resolver: &'a Arc<Resolver>,
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) cluster: &'a Arc<ClusterState>,
    /// Host and port that the application named, for [`Resolution::Original`].
    pub(crate) named: (&'a str, u16),
    /// The request without its body; its path is in origin form.
    pub(crate) head: &'a request::Parts,
    /// The Host that it goes out with, without port.
    pub(crate) server_name: &'a str,
    pub(crate) credentials: Option<Arc<Credentials>>,
    /// Whether the application speaks HTTP/2.
    pub(crate) http2: bool,
    pub(crate) policy: &'a RetryPolicy,
    /// For everything.
    pub(crate) timeout: Option<Duration>,
    /// How long a try may be silent before its answer, where that is longer than what the others give it.
    pub(crate) patience: Option<Duration>,
    /// Whose time bounds all of it.
    pub(crate) invocation: &'a Arc<Invocation>,
    /// What the endpoint is chosen by, where that is a hash.
    pub(crate) hash: Option<u64>,
    pub(crate) trail: &'a Trail,
}

/// The head of an answer.
pub(crate) struct Won {
    pub(crate) response: Response<Download>,
    pub(crate) peer: Option<SpiffeId>,
    /// The request's places under limits, for as long as the answer takes.
    pub(crate) held: Held,
}

/// Where the policy repeats a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Nowhere,
    /// At an endpoint that has not failed it: the policy does not name what happened.
    Another,
    /// There rather than at one that has.
    Any,
}

impl At {
    fn any(retriable: bool) -> At {
        if retriable { At::Any } else { At::Nowhere }
    }
}

/// How one try ended.
enum Tried {
    Answer(Exchange),
    Failed(Failed),
    PerTryTimeout,
}

impl Job<'_> {
    /// Sends the request until there is an answer or no more to try.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn run(&self, body: Outgoing, draws: &mut Draws) -> Result<Won, Refusal> {
        let end = Arc::clone(body.end());
        let over = async {
            match self.timeout {
                Some(limit) => end.since(limit).await,
                None => std::future::pending().await,
            }
            self.timeout.unwrap_or_default()
        };
        let limit = tokio::select! {
            biased;
            won = self.tries(body, draws) => return won,
            limit = over => limit,
            // It says nothing about the endpoint.
            () = Arc::clone(self.invocation).over() => return Err(self.invocation_over()),
        };
        let under_way = self.trail.lock().under_way.take();
        if let Some(address) = under_way {
            self.clusters.failed(address, "no answer in time");
        }
        let limit = limit.as_millis();
        let host = &self.cluster.table.host;
        Err(Refusal::new(Reason::UpstreamTimeout, format!("{host} did not answer within the route's {limit} ms")))
    }

    fn invocation_over(&self) -> Refusal {
        let host = &self.cluster.table.host;
        let detail = format!("{host} did not answer within what is left of the function's invocation");
        Refusal::new(Reason::UpstreamTimeout, detail)
    }

    async fn tries(&self, mut body: Outgoing, draws: &mut Draws) -> Result<Won, Refusal> {
        let Some(place) = self.cluster.enter() else { return Err(self.full()) };
        let mut held = Held::default();
        held.hold(place);
        let (mut tried_at, mut failed_at) = (Vec::new(), Failures::default());
        let (mut retries, mut free) = (0, Free::default());
        // Envoy: one place for a request that is repeated, however often.
        let mut slot = None;
        let mut next = match self.choose(&tried_at, &[], draws).await? {
            Some(chosen) => chosen,
            None => return Err(self.none_healthy()),
        };
        let mut upload = body.next();
        loop {
            let Some(sent) = upload.take() else { return Err(self.none_healthy()) };
            let chosen = next;
            let (address, begun) = (chosen.address, Instant::now());
            let tried = self.one(&chosen, sent, &body).await;
            tried_at.push(address);
            if matches!(tried, Tried::Failed(_)) && body.end().is_broken() {
                // Neither the endpoint's fault nor the service's, and there is nothing left to send.
                let detail = "the request's body broke off before its end";
                return Err(Refusal::new(Reason::RequestInvalid, detail));
            }
            self.observe(address, &tried);
            // Whether the policy repeats it, and whether it may be sent again in any case.
            let (again_at, unprocessed) = match &tried {
                Tried::Answer(exchange) => {
                    let (status, headers) = (exchange.response.status().as_u16(), exchange.response.headers());
                    (At::any(is_retriable(self.policy, &Outcome::Answer { status, headers })), false)
                }
                Tried::PerTryTimeout => (At::any(is_retriable(self.policy, &Outcome::PerTryTimeout)), false),
                Tried::Failed(failed) => self.judge(failed.kind),
            };
            let mut unsent = None;
            let lost = match tried {
                Tried::Answer(exchange) => {
                    let pause = self.back_off(retries + 1, draws);
                    let may = self.may_retry(again_at, retries, pause, &mut slot);
                    let Some(again) = may.then(|| body.next()).flatten() else {
                        held.hold(chosen.active);
                        slot.into_iter().for_each(|place| held.hold(place));
                        return Ok(Won { response: exchange.response, peer: exchange.peer, held });
                    };
                    // Its body is not wanted any more; dropped, it ends its connection.
                    drop(exchange);
                    retries += 1;
                    tokio::time::sleep(pause).await;
                    let Some(chosen) = self.choose_again(&tried_at, &failed_at, draws).await? else {
                        return Err(self.none_healthy());
                    };
                    (next, upload) = (chosen, Some(again));
                    continue;
                }
                Tried::PerTryTimeout => {
                    let limit = self.policy.per_try_timeout_ms;
                    let host = &self.cluster.table.host;
                    let detail = format!("{host} did not begin to answer within the {limit} ms of perTryTimeout");
                    Refusal::new(Reason::UpstreamTimeout, detail)
                }
                Tried::Failed(failed) => {
                    failed_at.note(address, failed.kind);
                    unsent = failed.unsent.map(|request| request.into_body());
                    refusal(failed.kind, failed.refusal)
                }
            };
            drop(chosen.active);
            let Some(again) = unsent.or_else(|| body.next()) else { return Err(lost) };
            if unprocessed
                && free.allows(begun.elapsed())
                && let Some(chosen) = self.choose_free(&tried_at, &failed_at, draws).await?
            {
                (next, upload) = (chosen, Some(again));
                continue;
            }
            let pause = self.back_off(retries + 1, draws);
            if !self.may_retry(again_at, retries, pause, &mut slot) {
                return Err(lost);
            }
            retries += 1;
            tokio::time::sleep(pause).await;
            let chosen = match again_at {
                At::Another => self.choose(&tried_at, &failed_at.all, draws).await?,
                At::Nowhere | At::Any => self.choose_again(&tried_at, &failed_at, draws).await?,
            };
            let Some(chosen) = chosen else { return Err(lost) };
            (next, upload) = (chosen, Some(again));
        }
    }

    /// Whether the policy repeats after a failure of this kind, and whether nothing can have been processed.
    fn judge(&self, kind: FailedKind) -> (At, bool) {
        let idempotent = self.head.method.is_idempotent();
        let (outcome, idempotent, unprocessed) = match kind {
            FailedKind::Connect | FailedKind::Tls => (Outcome::NotSent(NotSent::Connect), false, true),
            FailedKind::RefusedStream => (Outcome::NotSent(NotSent::RefusedStream), false, true),
            FailedKind::Reset { sent } => (Outcome::Reset { sent }, idempotent, !sent),
            FailedKind::Protocol => (Outcome::Reset { sent: true }, idempotent, false),
            FailedKind::Timeout => (Outcome::PerTryTimeout, false, false),
            FailedKind::Overflow | FailedKind::Local => return (At::Nowhere, false),
        };
        match At::any(is_retriable(self.policy, &outcome)) {
            At::Nowhere if idempotent => (At::Another, unprocessed),
            at => (at, unprocessed),
        }
    }

    /// Takes a place for a retry that the policy wants, if it has one left and the cluster has. Notes Envoy's flag if
    /// not. Where a deadline leaves no time beyond the pause, what there is now is the better answer.
    fn may_retry(&self, at: At, retries: u32, pause: Duration, slot: &mut Option<Count>) -> bool {
        if at == At::Nowhere || !self.invocation.allows(pause) {
            return false;
        }
        let flag = if retries < self.policy.attempts {
            *slot = None;
            *slot = self.cluster.retry();
            if slot.is_some() {
                return true;
            }
            Flags::UO
        } else if self.policy.attempts > 0 {
            Flags::URX
        } else {
            Flags::NONE
        };
        let mut steps = self.trail.lock();
        steps.flags = steps.flags.with(flag);
        false
    }

    fn back_off(&self, retry: u32, draws: &mut Draws) -> Duration {
        back_off(self.policy, retry, draws.next())
    }

    /// Notes that a try begins; gives its number, from 1.
    fn begin(&self, chosen: &Chosen) -> u32 {
        let mut steps = self.trail.lock();
        steps.attempts += 1;
        steps.endpoint = Some(Arc::clone(&chosen.name));
        steps.under_way = Some(chosen.address);
        steps.begun.get_or_insert_with(Instant::now);
        steps.attempts
    }

    fn hop(&self, chosen: &Chosen) -> Hop {
        let is_named = Hop::is_named_by_request(&self.cluster.table);
        Hop {
            cluster: Arc::clone(&self.cluster.table),
            index: self.cluster.index,
            address: chosen.address,
            endpoint: Arc::clone(&chosen.name),
            credentials: self.credentials.clone(),
            server_name: if is_named { self.server_name.to_owned() } else { String::new() },
            http2: self.http2,
            patience: self.per_try().max(self.timeout).max(self.patience),
        }
    }

    async fn one(&self, chosen: &Chosen, body: Upload, outgoing: &Outgoing) -> Tried {
        let (attempt, hop) = (self.begin(chosen), self.hop(chosen));
        let per_try = self.per_try();
        // Envoy: the time for this try, but no more than is left of that for all of them, nor of the invocation.
        let left = if attempt == 1 { self.timeout } else { self.left() };
        let expected = [per_try, left, self.invocation.left()].into_iter().flatten().min();
        let build = |body: Upload| {
            let mut request = Request::new(body);
            self.head.method.clone_into(request.method_mut());
            self.head.uri.clone_into(request.uri_mut());
            self.head.headers.clone_into(request.headers_mut());
            let headers = request.headers_mut();
            headers.insert(ATTEMPT_COUNT, if attempt == 1 { HeaderValue::from_static("1") } else { attempt.into() });
            if let Some(expected) = expected {
                let expected = u64::try_from(expected.as_millis()).unwrap_or(u64::MAX);
                headers.insert(EXPECTED_TIMEOUT, HeaderValue::from(expected));
            }
            request
        };
        let again = || build(Upload::Empty);
        let sending = self.upstream.send(&hop, build(body), &again);
        let sent = match per_try {
            None => Some(sending.await),
            Some(limit) => {
                let over = Arc::clone(outgoing.end()).and_then(limit);
                tokio::select! {
                    biased;
                    sent = sending => Some(sent),
                    () = over => None,
                }
            }
        };
        self.trail.lock().under_way = None;
        match sent {
            Some(Ok(exchange)) => Tried::Answer(exchange),
            Some(Err(failed)) => Tried::Failed(failed),
            None => Tried::PerTryTimeout,
        }
    }

    /// What is left of the time for all tries.
    fn left(&self) -> Option<Duration> {
        let begun = self.trail.steps().begun;
        Some(self.timeout?.saturating_sub(begun.map_or(Duration::ZERO, |begun| begun.elapsed())))
    }

    /// Envoy: a per-try timeout that is not shorter than the whole is ignored.
    fn per_try(&self) -> Option<Duration> {
        let limit = Duration::from_millis(self.policy.per_try_timeout_ms);
        let shorter = self.timeout.is_none_or(|whole| limit < whole);
        (limit > Duration::ZERO && shorter).then_some(limit)
    }

    /// Two levels of health: answers are the service's, everything before one the endpoint's.
    fn observe(&self, address: SocketAddr, tried: &Tried) {
        match tried {
            Tried::Answer(exchange) => {
                let (status, headers) = (exchange.response.status().as_u16(), exchange.response.headers());
                let answer = Observed::answer(&self.head.headers, status, headers);
                self.clusters.answered(self.cluster, address, answer);
            }
            Tried::PerTryTimeout => self.clusters.failed(address, "no answer in time"),
            Tried::Failed(failed) => match (failed.kind, failed.refusal.reason) {
                // Neither says anything about the endpoint.
                (FailedKind::Local | FailedKind::Overflow | FailedKind::RefusedStream, _) => {}
                // Somebody else behind the gateway: the gateway did its work.
                (_, Reason::PeerIdentityMismatch) => self.clusters.failed_behind(self.cluster, address),
                (_, reason) => self.clusters.failed(address, reason.as_str()),
            },
        }
    }

    fn full(&self) -> Refusal {
        let limit = self.cluster.table.pool.max_requests;
        let name = &self.cluster.table.name;
        let detail = format!("{limit} requests to {name} are in hand, and its connectionPool allows no more");
        Refusal::new(Reason::UpstreamOverflow, detail)
    }

    fn none_healthy(&self) -> Refusal {
        let name = &self.cluster.table.name;
        let detail = format!("{name} has no healthy endpoint: outlier detection has left them out, or all were tried");
        Refusal::new(Reason::NoHealthyUpstream, detail)
    }
}

/// The reason for the application, as Envoy tells the two apart: no connection and a cut one are 503, what is no HTTP
/// is 502.
fn refusal(kind: FailedKind, refusal: Refusal) -> Refusal {
    let reason = match (kind, refusal.reason) {
        (FailedKind::Reset { .. } | FailedKind::RefusedStream, Reason::UpstreamProtocolError) => Reason::UpstreamReset,
        (FailedKind::Connect, Reason::UpstreamTimeout) => Reason::UpstreamConnectFailed,
        (FailedKind::Overflow, _) => Reason::UpstreamOverflow,
        (_, reason) => reason,
    };
    Refusal { reason, ..refusal }
}
