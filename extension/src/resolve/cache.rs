//! Names that have been looked up, bounded in number and age.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use platform::clock::Clock;
use platform::https::canonical_address;
use tokio::sync::watch;
use tokio::time::timeout;

use super::earlier::Earlier;
use super::{Belongs, Lookup, MAX_ADDRESSES};

/// The most names. Those of the mesh go last.
const MAX_NAMES: usize = 1_024;

/// The age from which on a look-up is due: the default of Istio's `dnsRefreshRate`.
const DUE: Duration = Duration::from_secs(5);

/// The age up to which the old addresses serve while the look-up runs.
const SERVES: Duration = Duration::from_secs(60);

/// The age up to which they serve when the look-up fails.
const SERVES_ON_ERROR: Duration = Duration::from_secs(600);

/// How long a failed look-up is not repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// How long requests wait for a look-up.
const WAIT: Duration = Duration::from_secs(2);

/// The same when there are addresses to go on with: older ones of this name, or those of other names.
pub(super) const GRACE: Duration = Duration::from_millis(250);

/// How long a look-up may take, after which it has failed. One that began before that has been asleep.
const MOST: Duration = Duration::from_secs(10);

/// The longest name: RFC 1035 2.3.4 allows 255 octets with the lengths of its labels, which is 253 in text.
const MAX_NAME: usize = 253;

type Found = Arc<[IpAddr]>;

/// The names.
pub(super) struct Cache {
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn Lookup>,
    mesh: Belongs,
    names: Mutex<HashMap<String, Entry>>,
    /// Counts the look-ups that have ended.
    version: AtomicU64,
}

#[derive(Default)]
struct Entry {
    found: Option<(Found, SystemTime)>,
    /// What was found before that, of a name of the mesh.
    earlier: Earlier,
    /// The last look-up failed, then and for this reason.
    failed: Option<(String, SystemTime)>,
    /// One is running.
    running: Option<Running>,
    /// When it was last asked for.
    asked: Option<SystemTime>,
    /// Whether the name is one of the mesh, once that was asked.
    of_mesh: Option<bool>,
}

#[derive(Clone)]
struct Running {
    /// It ends when the sender is dropped.
    end: watch::Receiver<()>,
    since: SystemTime,
}

enum Look {
    Serves(Found),
    Fails(String),
    Wait(Running, Duration),
}

impl Cache {
    pub(super) fn new(clock: Arc<dyn Clock>, lookup: Arc<dyn Lookup>, mesh: Belongs) -> Arc<Cache> {
        Arc::new(Cache { clock, lookup, mesh, names: Mutex::default(), version: AtomicU64::new(0) })
    }

    /// Another number when something may have changed.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// The addresses of a name; never empty.
    pub(super) async fn get(self: &Arc<Self>, name: &str) -> Result<Found, String> {
        if name.len() > MAX_NAME {
            return Err(format!("found a name of {} bytes, expected at most {MAX_NAME}", name.len()));
        }
        let (mut running, limit) = match self.look(name) {
            Look::Serves(found) => return Ok(found),
            Look::Fails(why) => return Err(why),
            Look::Wait(running, limit) => (running, limit),
        };
        // An error either way: it has ended, or it takes too long.
        let ended = timeout(limit, running.end.changed()).await.is_ok();
        let now = self.clock.now();
        let names = self.lock();
        let entry = names.get(name);
        if let Some((found, since)) = entry.and_then(|entry| entry.found.as_ref())
            && is_within(*since, now, SERVES_ON_ERROR)
        {
            return Ok(Arc::clone(found));
        }
        match entry.and_then(|entry| entry.failed.as_ref()) {
            Some((why, _)) if ended => Err(why.clone()),
            _ => Err(no_answer(WAIT)),
        }
    }

    /// Whether an address is one of the mesh: an endpoint's, or one that the name of an endpoint, which this process has
    /// called, has now or had a while ago.
    pub(super) fn is_of_mesh(&self, address: IpAddr) -> bool {
        let (address, now) = (canonical_address(address), self.clock.now());
        let has = |entry: &Entry| {
            let mut found = entry.found.iter().flat_map(|(found, _)| found.iter());
            found.any(|other| canonical_address(*other) == address) || entry.earlier.has(address, now)
        };
        self.mesh.has_address(address) || self.lock().iter().any(|(name, entry)| has(entry) && self.mesh.has_name(name))
    }

    /// How many earlier addresses of a name are kept.
    #[cfg(test)]
    pub(super) fn kept(&self, name: &str) -> usize {
        self.lock().get(name).map_or(0, |entry| entry.earlier.len())
    }

    fn look(self: &Arc<Self>, name: &str) -> Look {
        let now = self.clock.now();
        let mut names = self.lock();
        if !names.contains_key(name) {
            make_room(&mut names, &self.mesh);
            names.insert(name.to_owned(), Entry::default());
        }
        let Some(entry) = names.get_mut(name) else { return Look::Fails("found no entry".to_owned()) };
        entry.asked = Some(now);
        // Neither is true on a clock that was set back: then it is looked up.
        let fresh = entry.found.as_ref().is_some_and(|(_, since)| is_within(*since, now, DUE));
        let pausing = entry.failed.as_ref().is_some_and(|(_, since)| is_within(*since, now, PAUSE));
        let mut running = entry.running.clone().filter(|running| running.end.has_changed().is_ok());
        if let Some(asleep) = running.take_if(|running| !is_within(running.since, now, MOST)) {
            entry.failed.get_or_insert((no_answer(MOST), asleep.since));
        }
        let running = match running {
            None if !fresh && !pausing => {
                let (tell, end) = watch::channel(());
                let running = Running { end, since: now };
                entry.running = Some(running.clone());
                tokio::spawn(Arc::clone(self).refresh(name.to_owned(), tell));
                Some(running)
            }
            running => running,
        };
        let old = entry.found.as_ref().filter(|(_, since)| is_within(*since, now, SERVES_ON_ERROR));
        let waits = |limit: Duration| running.as_ref().filter(|running| is_within(running.since, now, limit)).cloned();
        match (old, &entry.failed) {
            // Nobody waits for a name service that has just not answered, as long as there is something to go on with.
            (Some((found, since)), failed) => match waits(GRACE).filter(|_| failed.is_none()) {
                Some(running) if !is_within(*since, now, SERVES) => Look::Wait(running, GRACE),
                _ => Look::Serves(Arc::clone(found)),
            },
            (None, failed) => match (waits(WAIT), &running, failed) {
                (Some(running), ..) => Look::Wait(running, WAIT),
                (None, Some(_), _) => Look::Fails(no_answer(WAIT)),
                (None, None, Some((why, _))) => Look::Fails(why.clone()),
                (None, None, None) => Look::Fails("found no address".to_owned()),
            },
        }
    }

    /// Looks `name` up. The end of `tell` wakes those who wait.
    async fn refresh(self: Arc<Self>, name: String, tell: watch::Sender<()>) {
        let outcome = timeout(MOST, self.lookup.lookup(name.clone())).await;
        let outcome = outcome.unwrap_or_else(|_| Err(std::io::Error::other(no_answer(MOST))));
        let now = self.clock.now();
        if let Some(entry) = self.lock().get_mut(&name) {
            match outcome {
                Ok(found) if !found.is_empty() => {
                    // Rather too many are kept than too few: what is not of the mesh counts for nothing.
                    match self.mesh.has_name_if_known(&name) {
                        Some(false) => entry.earlier.clear(),
                        Some(true) | None => {
                            let last = entry.found.iter().flat_map(|(found, _)| found.iter());
                            entry.earlier.note(last.chain(&found).map(|address| canonical_address(*address)), now);
                        }
                    }
                    entry.found = Some((distinct(found), now));
                    entry.failed = None;
                }
                Ok(_) => entry.failed = Some(("the name has no address".to_owned(), now)),
                Err(error) => entry.failed = Some((error.to_string(), now)),
            }
            entry.running = None;
        }
        self.version.fetch_add(1, Ordering::AcqRel);
        drop(tell);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Each address once, in a stable order: name servers turn theirs round with each answer. For [`LogicalDns`], which
/// takes the first one, that keeps a connection where it is.
///
/// [`LogicalDns`]: traffic::table::Resolution::LogicalDns
fn distinct(mut found: Vec<IpAddr>) -> Found {
    // IPv4 first: a function's network seldom has IPv6.
    found.sort_unstable();
    found.dedup();
    found.truncate(MAX_ADDRESSES);
    found.into()
}

fn no_answer(limit: Duration) -> String {
    format!("no answer from the name service within {} ms", limit.as_millis())
}

fn is_within(since: SystemTime, now: SystemTime, limit: Duration) -> bool {
    now.duration_since(since).is_ok_and(|age| age <= limit)
}

/// The name that nobody has asked for the longest goes: of those outside of the mesh, as long as there are any, since an
/// answer for one of the mesh also says which addresses no other name may lead to. One that never had an answer says
/// nothing.
fn make_room(names: &mut HashMap<String, Entry>, mesh: &Belongs) {
    if names.len() < MAX_NAMES {
        return;
    }
    // Each name is compared with those of the mesh once: this is done again for every new name.
    for (name, entry) in names.iter_mut() {
        entry.of_mesh.get_or_insert_with(|| mesh.has_name(name));
    }
    let oldest = names.iter().filter(|(_, entry)| entry.running.is_none());
    let oldest = oldest.min_by_key(|(_, entry)| (entry.of_mesh == Some(true) && entry.found.is_some(), entry.asked));
    if let Some(name) = oldest.map(|(name, _)| name.clone()) {
        names.remove(&name);
    } else if let Some(name) = names.keys().next().cloned() {
        names.remove(&name);
    }
}
