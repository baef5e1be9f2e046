//! Names that have been looked up, bounded in number and age.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use platform::clock::Clock;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Lookup, MAX_ADDRESSES};

/// The most names.
const MAX_NAMES: usize = 1_024;

/// The age from which on a look-up is due: the default of Istio's `dnsRefreshRate`.
const DUE: Duration = Duration::from_secs(5);

/// The age up to which the old addresses serve while the look-up runs.
const SERVES: Duration = Duration::from_secs(60);

/// The age up to which they serve when the look-up fails.
const SERVES_ON_ERROR: Duration = Duration::from_secs(600);

/// How long a failed look-up is not repeated.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a request waits for a look-up.
const WAIT: Duration = Duration::from_secs(2);

type Found = Arc<[IpAddr]>;

/// The names.
pub(super) struct Cache {
    clock: Arc<dyn Clock>,
    lookup: Arc<dyn Lookup>,
    names: Mutex<HashMap<String, Entry>>,
    /// Counts the look-ups that have ended.
    version: AtomicU64,
}

#[derive(Default)]
struct Entry {
    found: Option<(Found, SystemTime)>,
    /// The last look-up failed, then and for this reason.
    failed: Option<(String, SystemTime)>,
    /// One is running; it ends when the sender is dropped.
    running: Option<watch::Receiver<()>>,
    /// When it was last asked for.
    asked: Option<SystemTime>,
}

enum Look {
    Serves(Found),
    Fails(String),
    Wait(watch::Receiver<()>),
}

impl Cache {
    pub(super) fn new(clock: Arc<dyn Clock>, lookup: Arc<dyn Lookup>) -> Arc<Cache> {
        Arc::new(Cache { clock, lookup, names: Mutex::default(), version: AtomicU64::new(0) })
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
        let mut running = match self.look(name) {
            Look::Serves(found) => return Ok(found),
            Look::Fails(why) => return Err(why),
            Look::Wait(running) => running,
        };
        // An error either way: it has ended, or it takes too long.
        let ended = timeout(WAIT, running.changed()).await.is_ok();
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
            _ => Err(format!("no answer from the name service within {} ms", WAIT.as_millis())),
        }
    }

    fn look(self: &Arc<Self>, name: &str) -> Look {
        let now = self.clock.now();
        let mut names = self.lock();
        if !names.contains_key(name) {
            make_room(&mut names);
            names.insert(name.to_owned(), Entry::default());
        }
        let Some(entry) = names.get_mut(name) else { return Look::Fails("found no entry".to_owned()) };
        entry.asked = Some(now);
        // Neither is true on a clock that was set back: then it is looked up.
        let fresh = entry.found.as_ref().is_some_and(|(_, since)| is_within(*since, now, DUE));
        let pausing = entry.failed.as_ref().is_some_and(|(_, since)| is_within(*since, now, PAUSE));
        let running = entry.running.as_ref().filter(|running| running.has_changed().is_ok()).cloned();
        let running = match running {
            None if !fresh && !pausing => {
                let (tell, running) = watch::channel(());
                entry.running = Some(running.clone());
                tokio::spawn(Arc::clone(self).refresh(name.to_owned(), tell));
                Some(running)
            }
            running => running,
        };
        let serves = if running.is_some() { SERVES } else { SERVES_ON_ERROR };
        match (&entry.found, running, &entry.failed) {
            (Some((found, since)), _, _) if fresh || is_within(*since, now, serves) => Look::Serves(Arc::clone(found)),
            (_, Some(running), _) => Look::Wait(running),
            (_, None, Some((why, _))) => Look::Fails(why.clone()),
            (_, None, None) => Look::Fails("found no address".to_owned()),
        }
    }

    /// Looks `name` up. The end of `tell` wakes those who wait.
    async fn refresh(self: Arc<Self>, name: String, tell: watch::Sender<()>) {
        let outcome = self.lookup.lookup(name.clone()).await;
        let now = self.clock.now();
        if let Some(entry) = self.lock().get_mut(&name) {
            match outcome {
                Ok(found) if !found.is_empty() => {
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

fn is_within(since: SystemTime, now: SystemTime, limit: Duration) -> bool {
    now.duration_since(since).is_ok_and(|age| age <= limit)
}

/// The name that nobody has asked for the longest goes.
fn make_room(names: &mut HashMap<String, Entry>) {
    if names.len() < MAX_NAMES {
        return;
    }
    let oldest = names.iter().filter(|(_, entry)| entry.running.is_none());
    if let Some(name) = oldest.min_by_key(|(_, entry)| entry.asked).map(|(name, _)| name.clone()) {
        names.remove(&name);
    } else if let Some(name) = names.keys().next().cloned() {
        names.remove(&name);
    }
}
