//! Which endpoint a request goes to: Envoy's load balancers (`source/extensions/load_balancing_policies`), with its
//! priority levels, its panic mode and its weighted localities.

mod edf;
mod group;
pub mod hash_key;
mod levels;
mod load;
mod maglev;
mod ring;
mod table;
#[cfg(test)]
mod tests;
mod warmup;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::locality::Place;
use crate::route::Head;
use crate::table::{Balance, BalancePolicy};
use hash_key::Hashed;
use levels::Levels;
use warmup::Warming;

/// How often an endpoint is drawn again that an earlier try went to: Istio's `HostSelectionRetryMaxAttempts`. With the
/// first draw there are one more, as in Envoy's `chooseHost`.
const DRAWS_AGAIN: u32 = 5;

/// An endpoint as a balancer sees it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    /// What hash tables place it by: `address:port`, and `[address]:port` of IPv6, as Envoy writes addresses.
    pub key: String,
    /// From [`crate::locality::assign`]: that of the endpoint whose address this is.
    pub place: Place,
    /// When it came, for the slow start.
    pub since: Duration,
}

/// What changes between two choices.
pub trait Now {
    /// Whether the endpoint may be used.
    fn is_healthy(&self, member: usize) -> bool;
    /// Its requests in hand.
    fn active(&self, member: usize) -> u32;
    /// A number that is another one when [`Now::is_healthy`] may answer otherwise than before; with `None` every
    /// member's health is asked for at each choice.
    fn version(&self) -> Option<u64> {
        None
    }
}

/// What a choice depends on besides.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Of what [`crate::table::BalancePolicy::Hash`] names: from [`Balancer::hash`].
    pub hash: Option<u64>,
    /// Endpoints that earlier tries went to; they are taken only when there is no other one of the priority that was
    /// drawn. Empty without `avoids_previous_hosts`.
    pub previous: &'a [usize],
    /// Endpoints of all earlier tries, the first one first, whose priorities are left out (`retryRemoteLocalities`).
    /// Empty without `remote_localities`.
    pub previous_priorities: &'a [usize],
}

/// The endpoints of one cluster and a load balancer.
#[derive(Debug)]
pub struct Balancer {
    policy: BalancePolicy,
    warming: Warming,
    panic_percent: u32,
    members: Vec<Member>,
    /// For the health of the last choice.
    built: Option<Built>,
    /// For the health before that: an endpoint that one request alone leaves out changes it there and back.
    spare: Option<Built>,
    version: Option<u64>,
    /// The health at this choice; kept for its memory.
    healthy: Vec<bool>,
}

#[derive(Debug)]
struct Built {
    healthy: Vec<bool>,
    levels: Levels,
}

impl Balancer {
    /// For these endpoints; `min_health_percent` is Istio's `minHealthPercent` (Envoy's panic threshold).
    pub fn new(settings: &Balance, members: Vec<Member>, min_health_percent: u32) -> Balancer {
        Balancer {
            policy: settings.policy.clone(),
            warming: Warming::new(settings, &members),
            panic_percent: min_health_percent.min(100),
            healthy: Vec::with_capacity(members.len()),
            members,
            built: None,
            spare: None,
            version: None,
        }
    }

    /// The endpoints.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// What the policy hashes of a request that came from `client` to `listener`; nothing when it does not hash.
    pub fn hash(&self, head: &Head<'_>, client: SocketAddr, listener: SocketAddr) -> Hashed {
        match &self.policy {
            BalancePolicy::Hash(key, _) => hash_key::hash(key, head, client, listener),
            _ => Hashed::default(),
        }
    }

    /// Other endpoints (DNS). One whose key was there before keeps its [`Member::since`]. Gives the old index of each
    /// new one, for [`crate::outlier::Detector::replace`].
    pub fn replace(&mut self, mut members: Vec<Member>) -> Vec<Option<usize>> {
        let old: HashMap<&str, usize> =
            self.members.iter().enumerate().map(|(index, member)| (member.key.as_str(), index)).collect();
        let kept: Vec<Option<usize>> = members.iter().map(|member| old.get(member.key.as_str()).copied()).collect();
        for (member, kept) in members.iter_mut().zip(&kept) {
            if let Some(before) = kept.and_then(|index| self.members.get(index)) {
                member.since = before.since;
            }
        }
        self.warming.replace(&members);
        self.members = members;
        self.built = None;
        self.spare = None;
        kept
    }

    /// The endpoint for a request; `None` when there is no healthy one. `random` gives any numbers.
    pub fn pick(
        &mut self,
        request: &Request<'_>,
        state: &dyn Now,
        now: Duration,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<usize> {
        self.refresh(state, now, random);
        let chosen = match &self.policy {
            BalancePolicy::Hash(..) => self.pick_by_hash(request, random),
            _ => self.pick_by_draw(request, state, now, random),
        };
        chosen.map(|member| member as usize)
    }

    /// Envoy's `chooseHost`: draws until it is none that was tried before.
    fn pick_by_draw(
        &mut self,
        request: &Request<'_>,
        state: &dyn Now,
        now: Duration,
        random: &mut dyn FnMut() -> u64,
    ) -> Option<u32> {
        let members = &self.members;
        let levels = &mut self.built.as_mut()?.levels;
        levels.load_without(request.previous_priorities, |member| members.get(member).map(|m| m.place.priority));
        let chooser = edf::Chooser { policy: &self.policy, members, warming: &self.warming, state, now };
        let mut level = 0;
        let mut last = None;
        for _ in 0..=DRAWS_AGAIN {
            level = levels.draw(random());
            last = Some(levels.pick(level, &chooser, random)?);
            if !last.is_some_and(|member| is_previous(request, member)) {
                return last;
            }
        }
        // Envoy gives up here and takes the last one. Bad luck must not send a request to a dead endpoint again while
        // there is another one, so we look through those it could have drawn.
        levels.other(level, random(), |member| !is_previous(request, member)).or(last)
    }

    /// Envoy's `ThreadAwareLoadBalancerBase`: the hash chooses the priority too, and `retryRemoteLocalities` has no
    /// effect.
    fn pick_by_hash(&self, request: &Request<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        // "If there is no hash in the context, just choose a random value".
        let hash = request.hash.unwrap_or_else(random);
        let levels = &self.built.as_ref()?.levels;
        let table = levels.table(levels.draw_regular(hash))?;
        let mut last = None;
        for attempt in 0..=DRAWS_AGAIN {
            last = Some(table.get(hash, attempt)?);
            if !last.is_some_and(|member| is_previous(request, member)) {
                break;
            }
        }
        last
    }

    /// Sees to it that the levels are those of the present health.
    fn refresh(&mut self, state: &dyn Now, now: Duration, random: &mut dyn FnMut() -> u64) {
        let version = state.version();
        if self.built.is_some() && version.is_some() && version == self.version {
            return;
        }
        self.version = version;
        self.healthy.clear();
        self.healthy.extend((0..self.members.len()).map(|member| state.is_healthy(member)));
        if self.built.as_ref().is_some_and(|built| built.healthy == self.healthy) {
            return;
        }
        std::mem::swap(&mut self.built, &mut self.spare);
        if self.built.as_ref().is_some_and(|built| built.healthy == self.healthy) {
            return;
        }
        let chooser = edf::Chooser { policy: &self.policy, members: &self.members, warming: &self.warming, state, now };
        let levels = Levels::new(&chooser, &self.healthy, self.panic_percent, random);
        self.built = Some(Built { healthy: self.healthy.clone(), levels });
    }
}

fn is_previous(request: &Request<'_>, member: u32) -> bool {
    request.previous.contains(&(member as usize))
}
