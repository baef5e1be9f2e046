//! Endpoints of which one is chosen: Envoy's `EdfLoadBalancerBase` for one host source.

use super::edf::{Chooser, Edf};
use crate::table::BalancePolicy;

/// Some endpoints, with what the policy remembers of them.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: Vec<u32>,
    /// There when weights differ or an endpoint is in its slow start.
    edf: Option<Edf>,
    /// Whose turn it is.
    next: u64,
    /// Of a locality among others.
    share: f64,
}

impl Group {
    pub(super) fn new(members: Vec<u32>, chooser: &Chooser<'_>, seed: u64) -> Group {
        let weight = |member: &u32| chooser.members.get(*member as usize).map(|member| member.place.weight);
        let are_equal = members.windows(2).all(|pair| pair.first().map(weight) == pair.last().map(weight));
        // RANDOM does not look at weights.
        let is_weighted = matches!(chooser.policy, BalancePolicy::LeastRequest | BalancePolicy::RoundRobin)
            && members.len() > 1
            && (!are_equal || chooser.warming.is_on(chooser.now));
        let edf = is_weighted.then(|| Edf::new(&members, |member| chooser.weight(member), seed));
        Group { members, edf, next: seed, share: 1.0 }
    }

    /// As a locality among others.
    pub(super) fn with_share(mut self, share: f64) -> Group {
        self.share = share;
        self
    }

    pub(super) fn share(&self) -> f64 {
        self.share
    }

    pub(super) fn members(&self) -> &[u32] {
        &self.members
    }

    pub(super) fn pick(&mut self, chooser: &Chooser<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        if let Some(edf) = &mut self.edf {
            return edf.pick(|member| chooser.weight(member));
        }
        match chooser.policy {
            BalancePolicy::RoundRobin => {
                self.next = self.next.wrapping_add(1);
                at(&self.members, self.next.wrapping_sub(1))
            }
            BalancePolicy::LeastRequest => {
                // "N_CHOICES" with its default of 2: the same one may be drawn twice, and the first stays at a tie.
                let first = at(&self.members, random())?;
                let second = at(&self.members, random())?;
                let active = |member: u32| chooser.state.active(member as usize);
                Some(if active(second) < active(first) { second } else { first })
            }
            BalancePolicy::Random | BalancePolicy::Hash(..) => at(&self.members, random()),
        }
    }
}

fn at(members: &[u32], number: u64) -> Option<u32> {
    let index = number.checked_rem(members.len() as u64)?;
    members.get(index as usize).copied()
}
