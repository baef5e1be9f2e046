//! Connections that wait for requests: by cluster, address, SVID and protocol.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use platform::clock::Clock;
use tokio::sync::watch;
use traffic::table::Pool;

use super::limits::{Open, Service};
use super::quick::Quick;
use super::{Hop, Why, http1, http2};

/// How long a connection may lie idle, on the wall clock: a network's memory of it is not much longer.
pub(super) const MAX_IDLE: Duration = Duration::from_secs(60);

/// The same for a request that cannot be replayed. A connection that died in a freeze would fail it.
pub(super) const MAX_IDLE_UNREPLAYABLE: Duration = Duration::from_secs(2);

/// The most idle connections to one address.
const MAX_IDLE_PER_ADDRESS: usize = 32;

/// The most idle connections in all. (An execution environment has 1,024 file descriptors.)
const MAX_IDLE_IN_ALL: usize = 128;

/// How often the pools are looked through for what is too old.
const SWEEP: Duration = Duration::from_secs(10);

/// What belongs together: connections of one key can stand for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    cluster: u32,
    address: SocketAddr,
    generation: u64,
    pub(super) http2: bool,
    /// The server name where the request brings it.
    name: Option<Arc<str>>,
}

impl Key {
    pub(super) fn cluster(&self) -> u32 {
        self.cluster
    }

    pub(super) fn of(hop: &Hop) -> Key {
        Key {
            cluster: hop.index,
            address: hop.address,
            generation: hop.generation(),
            http2: hop.speaks_http2(),
            name: Hop::is_named_by_request(&hop.cluster).then(|| hop.server_name.as_str().into()),
        }
    }
}

/// How a connection that is being made turned out.
pub(super) type Landed = Option<Result<(), Why>>;

/// All connections.
#[derive(Default)]
pub(super) struct Pools(Mutex<State>);

#[derive(Default)]
struct State {
    services: HashMap<u32, Arc<Service>, Quick>,
    slots: HashMap<Key, Slot, Quick>,
    /// The HTTP/1.1 connections in `slots`.
    idle: usize,
    /// The youngest SVID that has been seen.
    newest: u64,
    swept: Option<SystemTime>,
}

#[derive(Default)]
struct Slot {
    /// Connections to here, idle or not.
    open: Arc<AtomicU32>,
    /// HTTP/1.1; the youngest is the last.
    idle: Vec<Idle>,
    /// HTTP/2.
    shared: Vec<Arc<http2::Connection>>,
    /// An HTTP/2 connection that is being made.
    dialing: Option<watch::Receiver<Landed>>,
    pool: Pool,
}

struct Idle {
    connection: http1::Connection,
    since: SystemTime,
}

/// Who makes an HTTP/2 connection.
pub(super) enum Join {
    /// Somebody does already.
    Wait(watch::Receiver<Landed>),
    /// The caller.
    Lead(watch::Sender<Landed>, watch::Receiver<Landed>, Open),
    /// Nobody may: the cluster has as many as it may have.
    Full,
}

impl Pools {
    /// What of a cluster is in use.
    pub(super) fn service(&self, cluster: u32) -> Arc<Service> {
        Arc::clone(self.lock().services.entry(cluster).or_default())
    }

    /// An idle HTTP/1.1 connection. The youngest one: it is the most likely to be alive, and the others can age out.
    pub(super) fn take(
        &self,
        key: &Key,
        pool: &Pool,
        now: SystemTime,
        max_idle: Duration,
    ) -> Option<http1::Connection> {
        let mut state = self.lock();
        state.see(key.generation, now);
        let state = &mut *state;
        let slot = state.slots.get_mut(key)?;
        let longest = longest_idle(pool);
        while let Some(idle) = slot.idle.pop() {
            if idle.connection.is_usable(now, idle.since, longest.min(max_idle), pool) {
                state.idle -= 1;
                return Some(idle.connection);
            }
            if idle.connection.is_usable(now, idle.since, longest, pool) {
                // Too old for this request, good for others.
                slot.idle.push(idle);
                return None;
            }
            state.idle -= 1;
        }
        None
    }

    /// Puts an HTTP/1.1 connection back when its answer has been read to the end.
    pub(super) fn put_back(&self, key: &Key, connection: http1::Connection, now: SystemTime) {
        let mut state = self.lock();
        // A request that began before a renewal must not bring the older identity back.
        if key.generation != 0 && key.generation < state.newest {
            return;
        }
        if state.idle >= MAX_IDLE_IN_ALL {
            state.sweep(now);
        }
        let state = &mut *state;
        if state.idle < MAX_IDLE_IN_ALL
            && let Some(slot) = state.slots.get_mut(key)
            && slot.idle.len() < MAX_IDLE_PER_ADDRESS
        {
            slot.idle.push(Idle { connection, since: now });
            state.idle += 1;
        }
    }

    /// After a sleep: looks through all idle connections at once, of which those that are too old go, or all of them when
    /// ages on the wall clock say nothing. Those with requests in hand take no more, as nobody knows whether the other
    /// side is still there. How many idle ones went.
    pub(super) fn age_out(&self, now: SystemTime, all: bool) -> usize {
        let mut state = self.lock();
        let before = state.kept();
        for connection in state.slots.values().flat_map(|slot| &slot.shared).filter(|connection| !connection.is_idle())
        {
            connection.retire();
        }
        if all {
            for slot in state.slots.values_mut() {
                slot.idle.clear();
                slot.shared.retain(|connection| !connection.is_idle());
            }
        }
        state.sweep(now);
        before.saturating_sub(state.kept())
    }

    /// The right to make a connection, if the cluster may have one more.
    pub(super) fn open(&self, key: &Key, pool: &Pool, service: &Arc<Service>, now: SystemTime) -> Option<Open> {
        self.lock().open(key, pool, service, now)
    }

    /// At the limit: closes the oldest idle HTTP/1.1 connection if it is older than `max_idle` and so of no use to this
    /// request, which then can have another. False when none is idle; true also when one is that can be taken.
    pub(super) fn make_way(&self, key: &Key, now: SystemTime, max_idle: Duration) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(slot) = state.slots.get_mut(key) else { return false };
        let Some(oldest) = slot.idle.first() else { return false };
        let is_old = now.duration_since(oldest.since).map_or(true, |age| age >= max_idle);
        if is_old {
            slot.idle.remove(0);
            state.idle -= 1;
        }
        true
    }

    /// A place on an HTTP/2 connection.
    pub(super) fn begin(
        &self,
        key: &Key,
        pool: &Pool,
        service: &Arc<Service>,
        clock: &Arc<dyn Clock>,
        max_idle: Duration,
    ) -> Option<http2::Stream> {
        let now = clock.now();
        let mut state = self.lock();
        state.see(key.generation, now);
        let slot = state.slots.get_mut(key)?;
        let max_idle = longest_idle(pool).min(max_idle);
        // One that is too old for this request is replaced: a single connection serves all of them.
        slot.shared.retain(|connection| connection.is_open(now, pool) && connection.is_fresh(now, max_idle));
        slot.shared.iter().find_map(|connection| connection.begin(pool, service, clock))
    }

    /// Who makes the next HTTP/2 connection. One at a time is made, and all who wait for it share what comes of it.
    pub(super) fn join(&self, key: &Key, pool: &Pool, service: &Arc<Service>, now: SystemTime) -> Join {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get(key)
            && let Some(dialing) = &slot.dialing
            // An error: whoever made it is gone without a word.
            && dialing.has_changed().is_ok()
        {
            return Join::Wait(dialing.clone());
        }
        let Some(open) = state.open(key, pool, service, now) else { return Join::Full };
        let (tell, landed) = watch::channel(None);
        if let Some(slot) = state.slots.get_mut(key) {
            slot.dialing = Some(landed.clone());
        }
        Join::Lead(tell, landed, open)
    }

    /// An HTTP/2 connection has been made, or has not.
    pub(super) fn land(&self, key: &Key, connection: Option<Arc<http2::Connection>>) {
        let mut state = self.lock();
        if let Some(slot) = state.slots.get_mut(key) {
            slot.dialing = None;
            slot.shared.extend(connection);
        }
    }

    /// No more requests for this HTTP/2 connection, and none for those beside it that are as old: after a freeze they
    /// have died together.
    pub(super) fn retire(&self, key: &Key, connection: &http2::Connection) {
        connection.retire();
        if let Some(slot) = self.lock().slots.get_mut(key) {
            slot.shared.retain(|other| !other.is_idle());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The configuration's limit or ours, whichever is shorter.
fn longest_idle(pool: &Pool) -> Duration {
    match pool.idle_timeout_ms {
        0 => MAX_IDLE,
        limit => MAX_IDLE.min(Duration::from_millis(limit)),
    }
}

impl State {
    /// As [`Pools::open`].
    fn open(&mut self, key: &Key, pool: &Pool, service: &Arc<Service>, now: SystemTime) -> Option<Open> {
        self.see(key.generation, now);
        self.make_room();
        let slot = self.slots.entry(key.clone()).or_insert_with(|| Slot { pool: pool.clone(), ..Slot::default() });
        service.open(&slot.open, pool.max_connections)
    }

    /// With a new SVID all that was made with an older one is dropped: idle connections end now, others with their
    /// last request.
    fn see(&mut self, generation: u64, now: SystemTime) {
        if generation > self.newest {
            self.newest = generation;
            self.slots.retain(|key, _| key.generation == 0 || key.generation >= generation);
            self.count();
        }
        // A clock that was set back: at once.
        let due = self.swept.is_none_or(|swept| now.duration_since(swept).map_or(true, |since| since >= SWEEP));
        if due {
            self.sweep(now);
        }
    }

    /// Drops what is too old for anybody.
    fn sweep(&mut self, now: SystemTime) {
        self.swept = Some(now);
        for slot in self.slots.values_mut() {
            let (pool, longest) = (&slot.pool, longest_idle(&slot.pool));
            slot.idle.retain(|idle| idle.connection.is_usable(now, idle.since, longest, pool));
            slot.shared.retain(|connection| connection.is_open(now, pool) && connection.is_fresh(now, longest));
        }
        self.slots.retain(|_, slot| !slot.is_unused());
        self.count();
    }

    /// Before a new connection: the oldest idle ones make room for it.
    fn make_room(&mut self) {
        let shared = self.slots.values().flat_map(|slot| &slot.shared).filter(|connection| connection.is_idle());
        if self.idle + shared.count() < MAX_IDLE_IN_ALL {
            return;
        }
        let oldest = self.slots.iter().filter_map(|(key, slot)| {
            let shared = slot.shared.iter().filter(|connection| connection.is_idle()).map(|c| c.idle_since());
            shared.chain(slot.idle.iter().map(|idle| idle.since)).min().map(|since| (since, key))
        });
        let oldest = oldest.min_by_key(|(since, _)| *since).map(|(since, key)| (since, key.clone()));
        if let Some((since, key)) = oldest
            && let Some(slot) = self.slots.get_mut(&key)
        {
            slot.idle.retain(|idle| idle.since > since);
            slot.shared.retain(|connection| !connection.is_idle() || connection.idle_since() > since);
            self.count();
        }
    }

    /// The connections that are at hand: idle ones, and all of HTTP/2.
    fn kept(&self) -> usize {
        self.slots.values().map(|slot| slot.idle.len() + slot.shared.len()).sum()
    }

    fn count(&mut self) {
        self.idle = self.slots.values().map(|slot| slot.idle.len()).sum();
    }
}

impl Slot {
    fn is_unused(&self) -> bool {
        let unused = self.idle.is_empty() && self.shared.is_empty() && self.dialing.is_none();
        unused && self.open.load(Ordering::Acquire) == 0
    }
}
