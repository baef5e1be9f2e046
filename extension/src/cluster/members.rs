//! The endpoints of a cluster, how they did, and the choice among them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use traffic::balance::{Balancer, Member, Now, Request};
use traffic::outlier::{Detector, Observed};
use traffic::table::{Cluster, Endpoint, Locality, Outlier};

use super::Count;
use crate::random::Draws;
use crate::resolve::Addresses;

/// The endpoints of a cluster.
#[derive(Default)]
pub(super) struct Members {
    /// What they were made from.
    addresses: Arc<Addresses>,
    known: Vec<Known>,
    balancer: Option<Balancer>,
    detector: Option<Detector>,
}

#[derive(Clone)]
struct Known {
    address: SocketAddr,
    /// `host:port` for people.
    name: Arc<str>,
    active: Arc<AtomicU32>,
}

/// Where a try goes.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) address: SocketAddr,
    pub(crate) name: Arc<str>,
    /// The endpoint's request in hand.
    pub(crate) active: Count,
}

impl Chosen {
    /// An endpoint of no list.
    pub(crate) fn at(address: SocketAddr, name: Arc<str>) -> Chosen {
        Chosen { address, name, active: Count::one(&Arc::default()) }
    }
}

/// What a choice depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) hash: Option<u64>,
    /// Where earlier tries went.
    pub(crate) tried: &'a [SocketAddr],
    /// Rather none of these (`retryIgnorePreviousHosts`).
    pub(crate) avoid: bool,
    /// None of these at all: this request could not be sent there.
    pub(crate) dead: &'a [SocketAddr],
    /// Rather none of their priorities (`retryRemoteLocalities`).
    pub(crate) other_priorities: bool,
}

impl Members {
    /// None yet.
    pub(super) fn new(outlier: Option<&Outlier>) -> Members {
        Members { detector: outlier.map(|settings| Detector::new(settings.clone(), 0)), ..Members::default() }
    }

    /// What these were made from.
    pub(super) fn are_of(&self, addresses: &Arc<Addresses>) -> bool {
        Arc::ptr_eq(&self.addresses, addresses) || self.addresses == *addresses
    }

    /// Whether any of them can be left out.
    pub(super) fn are_watched(&self) -> bool {
        self.detector.is_some()
    }

    /// Takes other endpoints, keeping what is known of those that stay. Gives the addresses that are new.
    pub(super) fn replace(
        &mut self,
        table: &Cluster,
        addresses: &Arc<Addresses>,
        here: &Locality,
        labels: &[(String, String)],
        now: Duration,
    ) -> Vec<SocketAddr> {
        let endpoints: Vec<Endpoint> = addresses
            .0
            .iter()
            .filter_map(|place| {
                let endpoint = table.endpoints.get(place.endpoint)?;
                Some(Endpoint {
                    address: place.address.ip().to_string(),
                    port: place.address.port(),
                    ..endpoint.clone()
                })
            })
            .collect();
        let assigned = traffic::locality::assign(&table.balance.locality, here, labels, &endpoints);
        let mut members = Vec::with_capacity(endpoints.len());
        for (found, place) in addresses.0.iter().zip(assigned) {
            members.push(Member { key: found.address.to_string(), place, since: now });
        }
        let kept = match &mut self.balancer {
            Some(balancer) => balancer.replace(members),
            None => {
                let kept = vec![None; members.len()];
                let least = table.outlier.as_ref().map_or(0, |outlier| outlier.min_health_percent);
                self.balancer = Some(Balancer::new(&table.balance, members, least));
                kept
            }
        };
        if let Some(detector) = &mut self.detector {
            detector.replace(&kept);
        }
        let old = std::mem::take(&mut self.known);
        let mut came = Vec::new();
        for (found, kept) in addresses.0.iter().zip(kept) {
            let known = kept.and_then(|index| old.get(index)).cloned();
            self.known.push(known.unwrap_or_else(|| {
                came.push(found.address);
                let name = table.endpoints.get(found.endpoint).map_or("", |endpoint| &endpoint.address);
                let name = format!("{name}:{}", found.address.port()).into();
                Known { address: found.address, name, active: Arc::default() }
            }));
        }
        self.addresses = Arc::clone(addresses);
        came
    }

    pub(super) fn choose(&mut self, wanted: &Wanted<'_>, now: Duration, draws: &mut Draws) -> Option<Chosen> {
        if let Some(detector) = &mut self.detector {
            detector.tick(now);
        }
        let indices = |addresses: &[SocketAddr]| -> Vec<usize> {
            let of = |address: &SocketAddr| self.known.iter().position(|known| known.address == *address);
            addresses.iter().filter_map(of).collect()
        };
        let (tried, dead) = (indices(wanted.tried), indices(wanted.dead));
        let previous = if wanted.avoid { tried.clone() } else { Vec::new() };
        let state = Seen { members: &self.known, detector: self.detector.as_ref(), dead: &dead };
        let previous_priorities = if wanted.other_priorities { tried.as_slice() } else { &[] };
        let request = Request { hash: wanted.hash, previous: &previous, previous_priorities };
        let picked = self.balancer.as_mut()?.pick(&request, &state, now, &mut || draws.next())?;
        // Where all endpoints are used because too few are healthy, a dead one can come out.
        let picked = match dead.contains(&picked) {
            true => (0..self.known.len()).find(|other| !dead.contains(other))?,
            false => picked,
        };
        let known = self.known.get(picked)?;
        Some(Chosen { address: known.address, name: Arc::clone(&known.name), active: Count::one(&known.active) })
    }

    /// The endpoint's name, if this ejected it.
    pub(super) fn observe(&mut self, address: SocketAddr, observed: Observed, now: Duration) -> Option<Arc<str>> {
        let detector = self.detector.as_mut()?;
        let index = self.known.iter().position(|known| known.address == address)?;
        let ejected = detector.observe(index, observed, now);
        ejected.then(|| Arc::clone(&self.known[index].name))
    }
}

/// What a balancer asks for.
struct Seen<'a> {
    members: &'a [Known],
    detector: Option<&'a Detector>,
    dead: &'a [usize],
}

impl Now for Seen<'_> {
    fn is_healthy(&self, member: usize) -> bool {
        !self.dead.contains(&member) && !self.detector.is_some_and(|detector| detector.is_ejected(member))
    }

    fn version(&self) -> Option<u64> {
        // Who is dead is another matter for each request.
        self.dead.is_empty().then(|| self.detector.map_or(0, Detector::version))
    }

    fn active(&self, member: usize) -> u32 {
        self.members.get(member).map_or(0, |known| known.active.load(Ordering::Relaxed))
    }
}
