//! Rate limits: how much one client may ask, over all sandboxes of a program.
//!
//! A request that the policies allow takes one token of its client's bucket. The buckets are in a table that all
//! sandboxes share; a sandbox leases a few tokens at a time where a client asks a lot, and asks the table for each
//! request otherwise. docs/rate-limits.md says what that costs, and what is exact about it.
//!
//! It protects what lies behind, and proves nothing about the caller: it never makes an allow, and a table that cannot be
//! used does not have to stop the service. Until it can be used again each sandbox keeps buckets of its own, or denies
//! ([`Outage`]).

mod bucket;
mod clients;
#[cfg(feature = "aws")]
mod dynamodb;
mod id;
mod limit;
mod settings;
mod table;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::clock::Clock;
use crate::log::Log;
use crate::outage_log::OutageLog;
use crate::single_flight::SingleFlight;
use bucket::Plan;
use clients::{Client, Clients};
#[cfg(feature = "aws")]
pub use dynamodb::DynamoDbTable;
pub(crate) use id::client_id;
pub use limit::Limit;
pub use settings::Outage;
#[cfg(feature = "aws")]
pub use settings::RateLimitConfig;
pub use table::{Bucket, Change, InMemory, RateTable, RateTableError, Update, Updated};

/// Clients that a sandbox remembers; the least recently seen goes, and with it what it had leased.
pub const MAX_CLIENTS: usize = 10_000;

/// Leased tokens that are not used after this time are lost, in nanoseconds.
pub const LEASE_LIFE: u64 = 1_000_000_000;

/// A request waits so long for the table. Then it is decided without.
pub const WAIT: Duration = Duration::from_millis(500);

/// After a failure the table is not asked for this time, for any client; after one of a single record, for that one.
pub const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Writes that are tried for one request, when others are faster.
pub const MAX_ATTEMPTS: u32 = 3;

/// A refusal is believed without asking again until there can be a token, and at least for this long or a tenth of the
/// time in which the bucket fills, whichever is less; for twice that after the next refusal, and so on. What is denied
/// costs a write, too.
const REFUSED_FOR: u64 = 100_000_000;

/// A refusal is not believed for longer, since an operator may have raised the limit.
const REFUSED_FOR_AT_MOST: u64 = 1_000_000_000;

/// A record is deleted so many seconds after it has nothing to say.
const KEPT: u64 = 3_600;

const NANOS: u64 = 1_000_000_000;

/// How clients are limited.
#[derive(Clone)]
pub struct RateLimits {
    /// Where the buckets are.
    pub table: Arc<dyn RateTable>,
    /// The limit of each client that has none of its own.
    pub limit: Limit,
    /// What happens while the table cannot be used.
    pub outage: Outage,
}

#[cfg(feature = "aws")]
impl RateLimits {
    /// Limits with their buckets in AWS. Connects to nobody yet.
    pub fn in_aws(config: &RateLimitConfig) -> Self {
        let table = Arc::new(DynamoDbTable::new(&config.table, config.aws.clone()));
        Self { table, limit: config.limit, outage: config.outage }
    }
}

/// Why a client gets no token; the text is for the operator's log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("the client's limit of {0} is used up")]
    UsedUp(Limit),
    #[error("the client's limit of {0} is used up in this sandbox, which cannot use the table of rate limits")]
    UsedUpHere(Limit),
    #[error("the table of rate limits cannot be used, and CAUSEWAY_RATE_LIMIT_OUTAGE is deny")]
    Outage,
}

/// Takes tokens for requests.
pub(crate) struct RateLimiter {
    limits: RateLimits,
    clients: Mutex<Clients>,
    clock: Arc<dyn Clock>,
    flights: SingleFlight,
    /// The table cannot be used.
    outage: OutageLog,
    /// A record cannot be used.
    damage: OutageLog,
    /// When the table failed; it is not asked for a while.
    failed_at: Mutex<Option<u64>>,
    updates: AtomicU64,
    unavailable: AtomicU64,
}

/// What came of asking the table.
enum Asked {
    Leased { tokens: u64 },
    Empty { until: u64 },
}

/// Why the table cannot be asked.
enum Failed {
    /// It does not answer, or refuses.
    Table(String),
    /// It answers, but nothing that helps with this client.
    Record(String),
}

impl RateLimiter {
    pub(crate) fn new(limits: RateLimits, clock: Arc<dyn Clock>, log: Log) -> Self {
        let lines = |event| OutageLog::new(event, clock.clone(), log.clone());
        Self {
            outage: lines("rate_limits_unavailable"),
            damage: lines("rate_limit_unavailable"),
            limits,
            clients: Mutex::new(Clients::new()),
            clock,
            flights: SingleFlight::default(),
            failed_at: Mutex::default(),
            updates: AtomicU64::default(),
            unavailable: AtomicU64::default(),
        }
    }

    /// Writes to the table, whether they took something or not.
    pub(crate) fn updates(&self) -> u64 {
        self.updates.load(Ordering::Relaxed)
    }

    /// Requests that were decided without the table.
    pub(crate) fn unavailable(&self) -> u64 {
        self.unavailable.load(Ordering::Relaxed)
    }

    /// Takes one token of the client `id`.
    pub(crate) async fn take(&self, id: &str) -> Result<(), Refused> {
        if let Some(known) = self.at_hand(id) {
            return known;
        }
        let _waiting = Waiting::of(self, id);
        let _turn = self.flights.turn(id).await;
        // Who had the turn before may have leased for all that wait.
        if let Some(known) = self.at_hand(id) {
            return known;
        }
        let asked_at = self.now();
        let asked = tokio::time::timeout(WAIT, self.ask(id)).await;
        match asked.unwrap_or_else(|_| Err(Failed::Table("no answer in time".to_owned()))) {
            Ok(Asked::Leased { tokens }) => {
                self.works();
                self.with(id, |client| client.leased(tokens, asked_at));
                Ok(())
            }
            Ok(Asked::Empty { until }) => {
                self.works();
                self.with(id, |client| {
                    let now = self.now();
                    let least = REFUSED_FOR.min(client.limit.capacity() / 10) << client.refusals().min(4);
                    client.refuse(now, until.max(now + least).min(now + REFUSED_FOR_AT_MOST));
                    Err(Refused::UsedUp(client.limit))
                })
            }
            Err(Failed::Table(why)) => {
                self.outage.failed(&why);
                *self.failed_at() = Some(self.now());
                self.with(id, |client| self.alone(client))
            }
            Err(Failed::Record(why)) => {
                self.damage.failed(&why);
                self.with(id, |client| {
                    let now = self.now();
                    client.leave_alone(now, now + nanos(RETRY_AFTER));
                    self.alone(client)
                })
            }
        }
    }

    /// The answer, where nobody has to be asked.
    fn at_hand(&self, id: &str) -> Option<Result<(), Refused>> {
        let now = self.now();
        let rests = self.failed_at().is_some_and(|at| {
            // A clock that was set back says nothing about an age.
            now.checked_sub(at).is_some_and(|age| age < nanos(RETRY_AFTER))
        });
        self.with(id, |client| {
            if client.take_leased(now) {
                return Some(Ok(()));
            }
            if client.is_refused(now) {
                return Some(Err(Refused::UsedUp(client.limit)));
            }
            (rests || client.is_alone(now)).then(|| self.alone(client))
        })
    }

    /// Takes tokens in the table.
    async fn ask(&self, id: &str) -> Result<Asked, Failed> {
        let (mut own_limit, mut full_at, wanted) = self.with(id, |client| {
            let wanted = client.wanted(self.now());
            (client.own_limit.clone(), client.full_at, wanted)
        });
        let mut attempts = 0;
        loop {
            let limit = self.limit(id, own_limit.as_deref())?;
            let now = self.now();
            let (change, tokens) = match bucket::plan(limit, full_at, wanted, now) {
                Plan::Take { tokens, change } => (change, tokens),
                Plan::Repair { change } => (change, 0),
                // What is remembered may be out of date: the record may have been deleted, or have another limit now.
                Plan::Empty { .. } if attempts == 0 => (bucket::attempt(limit, now), 1),
                Plan::Empty { until } => {
                    self.learn(id, own_limit, limit, full_at);
                    return Ok(Asked::Empty { until });
                }
            };
            if attempts == MAX_ATTEMPTS {
                return Err(Failed::Record(format!(
                    "the record {id} was changed by others {attempts} times in between"
                )));
            }
            attempts += 1;
            let expires = (now + limit.capacity()) / NANOS + KEPT;
            let update = Update { id, own_limit: own_limit.as_deref(), change, expires };
            self.updates.fetch_add(1, Ordering::Relaxed);
            match self.limits.table.update(&update).await {
                Ok(Updated::Done { full_at: at }) => {
                    full_at = Some(at);
                    if tokens > 0 {
                        self.learn(id, own_limit, limit, full_at);
                        return Ok(Asked::Leased { tokens });
                    }
                }
                Ok(Updated::Refused(bucket)) => Bucket { full_at, own_limit } = bucket,
                Err(error @ RateTableError::Table { .. }) => return Err(Failed::Table(error.to_string())),
                Err(error @ RateTableError::Record { .. }) => return Err(Failed::Record(error.to_string())),
            }
        }
    }

    /// The limit of a client whose record says `own`.
    fn limit(&self, id: &str, own: Option<&str>) -> Result<Limit, Failed> {
        let Some(own) = own else { return Ok(self.limits.limit) };
        own.parse().map_err(|why| Failed::Record(format!("the record {id} has a limit that is none: {why}")))
    }

    fn learn(&self, id: &str, own_limit: Option<String>, limit: Limit, full_at: Option<u64>) {
        self.with(id, |client| (client.own_limit, client.limit, client.full_at) = (own_limit, limit, full_at));
    }

    /// Decides without the table.
    fn alone(&self, client: &mut Client) -> Result<(), Refused> {
        self.unavailable.fetch_add(1, Ordering::Relaxed);
        match self.limits.outage {
            Outage::Deny => Err(Refused::Outage),
            Outage::Allow if client.own_bucket.take(client.limit, self.now()) => Ok(()),
            Outage::Allow => Err(Refused::UsedUpHere(client.limit)),
        }
    }

    fn works(&self) {
        *self.failed_at() = None;
        self.outage.works("rate_limits_available");
    }

    fn with<T>(&self, id: &str, f: impl FnOnce(&mut Client) -> T) -> T {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        f(clients.get(id, self.limits.limit))
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<u64>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nanoseconds since 1970. Half of the range is the future's.
    fn now(&self) -> u64 {
        nanos(self.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default()).min(u64::MAX / 2)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A request that waits for the table, until it is dropped.
struct Waiting<'a> {
    limiter: &'a RateLimiter,
    id: &'a str,
}

impl<'a> Waiting<'a> {
    fn of(limiter: &'a RateLimiter, id: &'a str) -> Self {
        limiter.with(id, |client| client.waiting += 1);
        Self { limiter, id }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.limiter.with(self.id, |client| client.waiting = client.waiting.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests;
