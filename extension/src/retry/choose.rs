//! Where the next try of a request goes.

use std::net::SocketAddr;
use std::time::Duration;

use traffic::table::{Resolution, RetryPolicy};

use super::Job;
use crate::cluster::{Chosen, Wanted};
use crate::random::Draws;
use crate::reason::{Reason, Refusal};
use crate::upstream::FailedKind;

/// The most tries that no policy counts: each follows one of which nothing was processed.
const MAX_FREE: u32 = 32;

/// How long the tries before them may have taken together. A gateway that is a black hole costs a second each.
const MAX_FREE_TIME: Duration = Duration::from_secs(10);

/// The tries of a request that no policy counts.
#[derive(Default)]
pub(super) struct Free {
    tries: u32,
    spent: Duration,
}

impl Free {
    /// Whether there may be one more, after one that took this long.
    pub(super) fn allows(&mut self, took: Duration) -> bool {
        self.spent = self.spent.saturating_add(took);
        self.tries += 1;
        self.tries <= MAX_FREE && self.spent < MAX_FREE_TIME
    }
}

/// The endpoints that failed a request.
#[derive(Default)]
pub(super) struct Failures {
    pub(super) all: Vec<SocketAddr>,
    /// Those that no free try goes to any more.
    for_good: Vec<SocketAddr>,
}

impl Failures {
    pub(super) fn note(&mut self, address: SocketAddr, kind: FailedKind) {
        // An endpoint that refuses a stream is well, and may take it on another connection. Once: it may also be that
        // it has enough to do.
        if kind != FailedKind::RefusedStream || self.all.contains(&address) {
            self.for_good.push(address);
        }
        self.all.push(address);
    }
}

impl Job<'_> {
    /// An endpoint for a try that the policy counts: one that has not failed this request, or any when there is none.
    pub(super) async fn choose_again(
        &self,
        tried: &[SocketAddr],
        failed: &Failures,
        draws: &mut Draws,
    ) -> Result<Option<Chosen>, Refusal> {
        match self.choose(tried, &failed.all, draws).await? {
            None if !failed.all.is_empty() => self.choose(tried, &[], draws).await,
            chosen => Ok(chosen),
        }
    }

    /// One for a try that no policy counts: that has not failed this request, or that has refused it once.
    pub(super) async fn choose_free(
        &self,
        tried: &[SocketAddr],
        failed: &Failures,
        draws: &mut Draws,
    ) -> Result<Option<Chosen>, Refusal> {
        match self.choose(tried, &failed.all, draws).await? {
            None if failed.for_good.len() < failed.all.len() => self.choose(tried, &failed.for_good, draws).await,
            chosen => Ok(chosen),
        }
    }

    pub(super) async fn choose(
        &self,
        tried: &[SocketAddr],
        dead: &[SocketAddr],
        draws: &mut Draws,
    ) -> Result<Option<Chosen>, Refusal> {
        let table = &self.cluster.table;
        let addresses = match table.resolution {
            Resolution::Original => {
                let (host, port) = self.original()?;
                self.resolver.original(host, port, !self.cluster.is_passthrough()).await
            }
            _ => self.resolver.endpoints(self.cluster.index, table).await,
        };
        let addresses = addresses.map_err(|refusal| match refusal.reason {
            // Envoy: a name without an address is a cluster without a host.
            Reason::UpstreamConnectFailed => Refusal::new(Reason::NoHealthyUpstream, refusal.detail),
            _ => refusal,
        })?;
        if table.resolution == Resolution::Original {
            // Each host that a client names is an endpoint of its own: nothing is balanced.
            let (host, port) = self.original()?;
            let name = || format!("{host}:{port}").into();
            let free = addresses.0.iter().find(|found| !dead.contains(&found.address));
            return Ok(free.map(|found| Chosen::at(found.address, name())));
        }
        let RetryPolicy { avoids_previous_hosts: avoid, remote_localities: other_priorities, .. } = *self.policy;
        let wanted = Wanted { hash: self.hash, tried, avoid, dead, other_priorities };
        Ok(self.clusters.choose(self.cluster, &addresses, &wanted, draws))
    }

    /// Where a destination without endpoints is: at the host that was named if that is its own, and never at the one of
    /// another service whose routes lead here, which may be of the mesh.
    fn original(&self) -> Result<(&str, u16), Refusal> {
        let (named, port) = self.named;
        let named = named.strip_suffix('.').unwrap_or(named);
        let table = &self.cluster.table;
        if port == table.port && traffic::covers(&table.host, named) {
            return Ok((named, port));
        }
        if !table.host.starts_with('*') {
            return Ok((&table.host, table.port));
        }
        let detail =
            format!("the destination {} has no address of its own, and {named}:{port} is not of it", table.host);
        Err(Refusal::new(Reason::DestinationForbidden, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_tries_have_a_most_and_a_time() {
        for (took, expected) in [(0, 32), (100, 32), (311, 32), (313, 31), (1_000, 9), (9_999, 1), (10_000, 0)] {
            let mut free = Free::default();
            let tries = (0..100).filter(|_| free.allows(Duration::from_millis(took))).count();
            assert_eq!(tries, expected, "{took} ms each");
        }
    }

    #[test]
    fn an_endpoint_that_refuses_a_stream_is_given_up_the_second_time() {
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|address| address.parse().unwrap());
        let mut failed = Failures::default();
        failed.note(a, FailedKind::RefusedStream);
        failed.note(b, FailedKind::Connect);
        assert_eq!((failed.all.as_slice(), failed.for_good.as_slice()), (&[a, b][..], &[b][..]));
        failed.note(a, FailedKind::RefusedStream);
        assert_eq!(failed.for_good, [b, a]);
    }
}
