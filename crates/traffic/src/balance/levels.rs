//! The priorities of a cluster, and the localities in each.

use super::edf::{Chooser, Edf};
use super::group::Group;
use super::load::{self, Count, Loads};
use super::table::Table;
use crate::table::BalancePolicy;

/// All priorities, as they are with the present health.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// Their numbers, ascending; an endpoint without weight is in none.
    priorities: Vec<u32>,
    levels: Vec<Level>,
    loads: Loads,
    /// The shares that the request at hand has.
    percent: Vec<u32>,
    /// Health without the priorities of earlier tries.
    remaining: Vec<u32>,
    excluded: Vec<bool>,
}

#[derive(Debug, Default)]
struct Level {
    all: Group,
    healthy: Group,
    /// Healthy endpoints by locality, and whose turn it is; none where localities have no weights.
    localities: Vec<Group>,
    turns: Option<Edf>,
    /// For a policy that hashes.
    table: Option<Table>,
}

impl Levels {
    pub(super) fn new(
        chooser: &Chooser<'_>,
        healthy: &[bool],
        panic_percent: u32,
        random: &mut dyn FnMut() -> u64,
    ) -> Levels {
        let used = |member: &&super::Member| member.place.weight > 0;
        let mut priorities: Vec<u32> = chooser.members.iter().filter(used).map(|m| m.place.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let mut all = vec![Vec::new(); priorities.len()];
        for (index, member) in chooser.members.iter().enumerate().filter(|(_, member)| used(member)) {
            let level = priorities.binary_search(&member.place.priority).ok();
            if let Some(level) = level.and_then(|level| all.get_mut(level)) {
                level.push(index as u32);
            }
        }
        let is_healthy = |member: &u32| healthy.get(*member as usize).copied().unwrap_or(false);
        let count = |all: &Vec<u32>| Count { healthy: all.iter().filter(|m| is_healthy(m)).count(), all: all.len() };
        let counts: Vec<Count> = all.iter().map(count).collect();
        let loads = Loads::new(&counts, panic_percent);
        let mut levels = Vec::with_capacity(all.len());
        for (all, panics) in all.into_iter().zip(&loads.panics) {
            levels.push(Level::new(chooser, all, &is_healthy, *panics, random));
        }
        Levels {
            percent: loads.percent.clone(),
            remaining: vec![0; levels.len()],
            excluded: vec![false; levels.len()],
            priorities,
            levels,
            loads,
        }
    }

    /// Sets the shares for a request whose earlier tries went to these members: Envoy's `previous_priorities` with
    /// Istio's update frequency of 2, so that each second retry leaves out the priorities tried so far.
    pub(super) fn load_without(&mut self, tried: &[usize], priority: impl Fn(usize) -> Option<u32>) {
        self.percent.clone_from_slice(&self.loads.percent);
        if tried.len() < 2 || self.levels.len() < 2 {
            return;
        }
        self.excluded.fill(false);
        // Since the last time that no priority was left.
        let mut begin = 0;
        for end in 1..=tried.len() {
            let since = tried.get(begin..end).unwrap_or_default();
            if since.len() < 2 {
                // "If we've not seen enough retries to modify the priority load, just return the original."
                self.percent.clone_from_slice(&self.loads.percent);
                continue;
            }
            if since.len() % 2 != 0 {
                continue;
            }
            for member in since {
                let level = priority(*member).and_then(|priority| self.priorities.binary_search(&priority).ok());
                if let Some(excluded) = level.and_then(|level| self.excluded.get_mut(level)) {
                    *excluded = true;
                }
            }
            let mut total = self.remain();
            if total == 0 {
                // "If there are no available priorities left, we reset the attempted priorities and recompute the
                // adjusted availability."
                self.excluded.fill(false);
                begin = end;
                total = self.remain();
            }
            if total == 0 {
                self.percent.clone_from_slice(&self.loads.percent);
            } else {
                load::distribute(&mut self.percent, &self.remaining, total);
            }
        }
    }

    fn remain(&mut self) -> u32 {
        for ((remaining, health), excluded) in self.remaining.iter_mut().zip(&self.loads.health).zip(&self.excluded) {
            *remaining = if *excluded { 0 } else { *health };
        }
        load::total(self.remaining.iter().copied())
    }

    /// A level by the shares that [`Levels::load_without`] set.
    pub(super) fn draw(&self, number: u64) -> usize {
        load::draw(&self.percent, number)
    }

    /// A level by the shares that every request has.
    pub(super) fn draw_regular(&self, number: u64) -> usize {
        load::draw(&self.loads.percent, number)
    }

    /// An endpoint of a level: Envoy's `hostSourceToUse` and `chooseHostOnce`.
    pub(super) fn pick(&mut self, level: usize, chooser: &Chooser<'_>, random: &mut dyn FnMut() -> u64) -> Option<u32> {
        let panics = self.loads.panics.get(level).copied().unwrap_or(false);
        let level = self.levels.get_mut(level)?;
        if panics {
            return level.all.pick(chooser, random);
        }
        if let Some(turns) = &mut level.turns {
            let localities = &level.localities;
            let locality = turns.pick(|locality| localities.get(locality as usize).map_or(1.0, Group::share))?;
            return level.localities.get_mut(locality as usize)?.pick(chooser, random);
        }
        level.healthy.pick(chooser, random)
    }

    /// Any endpoint of a level that [`Levels::pick`] could give and that is `wanted`, looked for from a random one on.
    pub(super) fn other(&self, level: usize, number: u64, wanted: impl Fn(u32) -> bool) -> Option<u32> {
        let panics = self.loads.panics.get(level).copied().unwrap_or(false);
        let level = self.levels.get(level)?;
        let members = if panics { level.all.members() } else { level.healthy.members() };
        let begin = number.checked_rem(members.len() as u64)? as usize;
        members.iter().cycle().skip(begin).take(members.len()).copied().find(|member| wanted(*member))
    }

    /// The hash table of a level.
    pub(super) fn table(&self, level: usize) -> Option<&Table> {
        self.levels.get(level)?.table.as_ref()
    }
}

impl Level {
    fn new(
        chooser: &Chooser<'_>,
        all: Vec<u32>,
        is_healthy: &impl Fn(&u32) -> bool,
        panics: bool,
        random: &mut dyn FnMut() -> u64,
    ) -> Level {
        let healthy: Vec<u32> = all.iter().copied().filter(|member| is_healthy(member)).collect();
        if let BalancePolicy::Hash(_, kind) = chooser.policy {
            let used = if panics { all } else { healthy };
            return Level { table: Some(Table::new(*kind, chooser.members, &used)), ..Level::default() };
        }
        let localities = localities(chooser, &all, is_healthy, random);
        let turns = (!localities.is_empty()).then(|| {
            let items: Vec<u32> = (0..localities.len() as u32).collect();
            Edf::new(&items, |item| localities.get(item as usize).map_or(1.0, Group::share), random())
        });
        Level {
            healthy: Group::new(healthy, chooser, random()),
            all: Group::new(all, chooser, random()),
            localities,
            turns,
            table: None,
        }
    }
}

/// The localities of a level that have weights and healthy endpoints: Envoy's `LocalityWrr`.
fn localities(
    chooser: &Chooser<'_>,
    all: &[u32],
    is_healthy: &impl Fn(&u32) -> bool,
    random: &mut dyn FnMut() -> u64,
) -> Vec<Group> {
    let mut found: Vec<(u32, u32, Count, Vec<u32>)> = Vec::new();
    for member in all {
        let Some(place) = chooser.members.get(*member as usize).map(|member| &member.place) else { continue };
        let Some((locality, weight)) = place.locality else { continue };
        let index = found.iter().position(|(known, ..)| *known == locality).unwrap_or_else(|| {
            found.push((locality, weight, Count::default(), Vec::new()));
            found.len() - 1
        });
        if let Some((_, _, count, healthy)) = found.get_mut(index) {
            count.all += 1;
            if is_healthy(member) {
                count.healthy += 1;
                healthy.push(*member);
            }
        }
    }
    let mut groups = Vec::new();
    for (_, weight, count, healthy) in found {
        let share = f64::from(weight) * load::availability(count);
        if share > 0.0 {
            groups.push(Group::new(healthy, chooser, random()).with_share(share));
        }
    }
    groups
}
