//! How a request that finds no idle connection gets one.

use std::pin::pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::dial::{Dialed, dial};
use super::limits::{Open, most_pending};
use super::pool::{Join, Landed};
use super::tls::Spoken;
use super::{FailedKind, Hop, Line, Upstream, Want, Why, http1, http2, overflow};
use crate::reason::{Reason, Refusal};

impl Upstream {
    /// A new connection; at the limit of the cluster, the next one that becomes free.
    pub(super) async fn fresh(self: &Arc<Self>, want: &Want<'_>) -> Result<Line, Why> {
        let (hop, pool) = (want.hop, &want.hop.cluster.pool);
        let Some(_queued) = want.service.queue(pool.max_pending) else {
            let most = most_pending(pool.max_pending);
            return Err(overflow(hop, "requests that wait for a connection (http1MaxPendingRequests)", most));
        };
        let deadline = Instant::now() + self.silence(hop);
        let mut waited = false;
        loop {
            let mut freed = pin!(want.service.freed());
            freed.as_mut().enable();
            if waited && let Some(line) = self.pooled(want) {
                return Ok(line);
            }
            let now = self.clock.now();
            if want.key.http2 {
                match self.pools.join(&want.key, pool, &want.service, now) {
                    Join::Wait(landed) => landing(hop, landed).await?,
                    Join::Lead(tell, landed, open) => {
                        self.spawn_http2(want, tell, open);
                        landing(hop, landed).await?;
                    }
                    Join::Full => self.free(hop, freed, deadline).await?,
                }
            } else {
                match self.pools.open(&want.key, pool, &want.service, now) {
                    Some(open) => {
                        let dialed = self.dial(hop, Spoken::Http1, open).await?;
                        return http1::open(hop, dialed).await.map(Line::Http1);
                    }
                    None => {
                        // One may have come back since it was looked for.
                        if let Some(line) = self.pooled(want) {
                            return Ok(line);
                        }
                        if !self.pools.make_way(&want.key, now, want.max_idle) {
                            self.free(hop, freed, deadline).await?;
                        }
                    }
                }
            }
            waited = true;
        }
    }

    async fn free(&self, hop: &Hop, freed: impl Future<Output = ()>, deadline: Instant) -> Result<(), Why> {
        timeout_at(deadline, freed).await.map_err(|_| {
            let most = hop.cluster.pool.max_connections;
            let limit = self.silence(hop).as_millis();
            let host = &hop.cluster.host;
            let detail = format!("none of the {most} connections to {host} became free within {limit} ms");
            (FailedKind::Local, Refusal::new(Reason::UpstreamTimeout, detail))
        })
    }

    /// In a task of its own: whoever began it may go away while others wait for it.
    fn spawn_http2(self: &Arc<Self>, want: &Want<'_>, tell: watch::Sender<Landed>, open: Open) {
        let (this, hop, key) = (Arc::clone(self), want.hop.clone(), want.key.clone());
        tokio::spawn(async move {
            let made = match this.dial(&hop, Spoken::Http2, open).await {
                Ok(dialed) => http2::open(&hop, dialed).await,
                Err(why) => Err(why),
            };
            this.pools.land(&key, made.as_ref().ok().cloned());
            tell.send_replace(Some(made.map(|_| ())));
        });
    }

    pub(super) async fn dial(&self, hop: &Hop, spoken: Spoken, open: Open) -> Result<Dialed, Why> {
        let protection = self.configs.protection(hop, spoken).map_err(|refusal| (FailedKind::Local, refusal))?;
        dial(hop, protection, open, self.clock.now()).await
    }
}

/// Waits for the HTTP/2 connection that somebody makes.
async fn landing(hop: &Hop, mut landed: watch::Receiver<Landed>) -> Result<(), Why> {
    match landed.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone()) {
        Some(outcome) => outcome,
        None => {
            let detail = format!("{}: the connection was given up", hop.cluster.host);
            Err((FailedKind::Connect, Refusal::new(Reason::UpstreamConnectFailed, detail)))
        }
    }
}
