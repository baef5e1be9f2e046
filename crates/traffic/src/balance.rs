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

use std::time::Duration;

use crate::locality::Place;
use crate::table::{Balance, BalancePolicy};
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
    /// Of what [`crate::table::BalancePolicy::Hash`] names: from [`hash_key::hash`].
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
    levels: Levels,
    /// The health that the levels were built for.
    healthy: Vec<bool>,
    version: Option<u64>,
    is_built: bool,
}

impl Balancer {
    /// For these endpoints; `min_health_percent` is Istio's `minHealthPercent` (Envoy's panic threshold).
    pub fn new(settings: &Balance, members: Vec<Member>, min_health_percent: u32) -> Balancer {
        Balancer {
            policy: settings.policy.clone(),
            warming: Warming::new(settings, &members),
            panic_percent: min_health_percent.min(100),
            healthy: vec![false; members.len()],
            members,
            levels: Levels::default(),
            version: None,
            is_built: false,
        }
    }

    /// The endpoints.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Other endpoints (DNS). One whose key was there before keeps its [`Member::since`]. Gives the old index of each
    /// new one, for [`crate::outlier::Detector::replace`].
    pub fn replace(&mut self, mut members: Vec<Member>) -> Vec<Option<usize>> {
        let old: std::collections::HashMap<&str, usize> =
            self.members.iter().enumerate().map(|(index, member)| (member.key.as_str(), index)).collect();
        let kept: Vec<Option<usize>> = members.iter().map(|member| old.get(member.key.as_str()).copied()).collect();
        for (member, kept) in members.iter_mut().zip(&kept) {
            if let Some(before) = kept.and_then(|index| self.members.get(index)) {
                member.since = before.since;
            }
        }
        self.warming.replace(&members);
        self.healthy = vec![false; members.len()];
        self.members = members;
        self.is_built = false;
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
        self.levels.load_without(request.previous_priorities, |member| members.get(member).map(|m| m.place.priority));
        let chooser = edf::Chooser { policy: &self.policy, members, warming: &self.warming, state, now };
        let mut level = 0;
        let mut last = None;
        for _ in 0..=DRAWS_AGAIN {
            level = self.levels.draw(random());
            last = Some(self.levels.pick(level, &chooser, random)?);
            if !last.is_some_and(|member| is_previous(request, member)) {
                return last;
            }
        }
        // Envoy gives up here and takes the last one. Bad luck must not send a request to a dead endpoint again while
        // there is another one, so we look through those it could have drawn.
        self.levels.other(level, random(), |member| !is_previous(request, member)).or(last)
    }

    /// Envoy's `ThreadAwareLoadBalancerBase`: the hash chooses the priority too, and `retryRemoteLocalities` has no
    /// effect.
    fn pick_by_hash(&self, request: &Request<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        // "If there is no hash in the context, just choose a random value".
        let hash = request.hash.unwrap_or_else(random);
        let table = self.levels.table(self.levels.draw_regular(hash))?;
        let mut last = None;
        for attempt in 0..=DRAWS_AGAIN {
            last = Some(table.get(hash, attempt)?);
            if !last.is_some_and(|member| is_previous(request, member)) {
                break;
            }
        }
        last
    }

    /// Builds the levels anew when an endpoint's health has changed.
    fn refresh(&mut self, state: &dyn Now, now: Duration, random: &mut dyn FnMut() -> u64) {
        let version = state.version();
        if self.is_built && version.is_some() && version == self.version {
            return;
        }
        let mut changed = !self.is_built;
        for (index, healthy) in self.healthy.iter_mut().enumerate() {
            let is_healthy = state.is_healthy(index);
            changed |= *healthy != is_healthy;
            *healthy = is_healthy;
        }
        self.version = version;
        if !changed {
            return;
        }
        let chooser = edf::Chooser { policy: &self.policy, members: &self.members, warming: &self.warming, state, now };
        self.levels = Levels::new(&chooser, &self.healthy, self.panic_percent, random);
        self.is_built = true;
    }
}

fn is_previous(request: &Request<'_>, member: u32) -> bool {
    request.previous.contains(&(member as usize))
}
