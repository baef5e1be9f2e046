//! Many sandboxes and one table, in virtual time.

#![allow(clippy::unwrap_used)]

mod outages;

use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::BoxFuture;
use crate::clock::FixedClock;
use crate::log::Lines;

const START: u64 = 1_800_000_000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A clock that is wrong by a little.
struct Skewed {
    clock: Arc<FixedClock>,
    ahead: Duration,
}

impl Clock for Skewed {
    fn now(&self) -> SystemTime {
        self.clock.now() + self.ahead
    }
}

/// A table that can be made to fail, and lets others go first.
#[derive(Default)]
struct Table {
    buckets: InMemory,
    /// How often others go first, for each update in turn.
    yields: Mutex<Vec<u8>>,
    is_down: AtomicBool,
    is_silent: AtomicBool,
    asked: AtomicU64,
    malformed: Mutex<Option<String>>,
}

impl RateTable for Table {
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let yields = self.yields.lock().unwrap().pop().unwrap_or_default();
            for _ in 0..yields {
                tokio::task::yield_now().await;
            }
            if self.is_silent.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.is_down.load(Ordering::Relaxed) {
                return Err(RateTableError::Table { table: "limits".to_owned(), why: "down".to_owned() });
            }
            if self.malformed.lock().unwrap().as_deref() == Some(update.id) {
                let (table, id) = ("limits".to_owned(), update.id.to_owned());
                return Err(RateTableError::Record { table, id, why: "it is no number".to_owned() });
            }
            self.buckets.update(update).await
        })
    }
}

struct World {
    table: Arc<Table>,
    clock: Arc<FixedClock>,
    sandboxes: Vec<Arc<RateLimiter>>,
    lines: Lines,
}

impl World {
    fn new(limit: &str, outage: Outage, sandboxes: usize) -> Self {
        Self::skewed(limit, outage, &vec![Duration::ZERO; sandboxes])
    }

    /// One sandbox for each clock.
    fn skewed(limit: &str, outage: Outage, ahead: &[Duration]) -> Self {
        let (table, clock) = (Arc::new(Table::default()), Arc::new(FixedClock::at(START)));
        let (log, lines) = Log::memory();
        let limits = RateLimits { table: table.clone(), limit: limit.parse().unwrap(), outage };
        let sandbox = |ahead: &Duration| {
            let clock = Arc::new(Skewed { clock: clock.clone(), ahead: *ahead });
            Arc::new(RateLimiter::new(limits.clone(), clock, log.clone()))
        };
        Self { sandboxes: ahead.iter().map(sandbox).collect(), table, clock, lines }
    }

    /// How many of `requests` get a token, one after the other in one sandbox.
    async fn ask(&self, sandbox: usize, client: &str, requests: usize) -> usize {
        let mut allowed = 0;
        for _ in 0..requests {
            allowed += usize::from(self.sandboxes[sandbox].take(client).await.is_ok());
        }
        allowed
    }

    fn asked(&self) -> u64 {
        self.table.asked.swap(0, Ordering::Relaxed)
    }

    fn events(&self) -> Vec<String> {
        let lines = self.lines.drain();
        lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"].as_str().unwrap().to_owned())
            .collect()
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(future)
}

/// Requests that come at once: after how many milliseconds, and which sandbox and client each is of.
type Wave = (u64, Vec<(usize, usize)>);

const LIMITS: [&str; 7] = ["50/s,100", "1/s,1", "500/s,3", "7/s,40", "1000/s,1000", "60/m,5", "3/s,11"];

fn waves() -> impl Strategy<Value = Vec<Wave>> {
    let gap = prop_oneof![3 => 0_u64..20, 2 => 20_u64..400, 1 => 400_u64..5_000];
    prop::collection::vec((gap, prop::collection::vec((0_usize..6, 0_usize..2), 1..40)), 1..40)
}

proptest! {
    /// The promise: from its first request on, and from any other moment on, a client gets at most its burst and what
    /// its rate has brought since, over all sandboxes, whatever they do at the same time.
    #[test]
    fn nobody_gets_more(
        limit in prop::sample::select(&LIMITS[..]),
        skews in prop::collection::vec(0_u64..5_000, 6),
        are_skewed in any::<bool>(),
        waves in waves(),
        yields in prop::collection::vec(0_u8..4, 0..400),
    ) {
        let skews: Vec<Duration> = skews.iter().map(|ms| if are_skewed { *ms as u32 * MS } else { Duration::ZERO }).collect();
        let skew = skews.iter().max().unwrap().saturating_sub(*skews.iter().min().unwrap());
        let world = World::skewed(limit, Outage::Deny, &skews);
        *world.table.yields.lock().unwrap() = yields;
        let limit: Limit = limit.parse().unwrap();
        let most = |time: Duration| limit.burst() + nanos(time) / limit.period();
        block_on(async {
            // When, and how many, of each client.
            let mut allowed: [Vec<(Duration, u64)>; 2] = Default::default();
            let mut time = Duration::ZERO;
            for (gap, requests) in waves {
                let gap = Duration::from_millis(gap);
                world.clock.advance(gap);
                time += gap;
                let mut running = tokio::task::JoinSet::new();
                for (sandbox, client) in requests {
                    let limiter = world.sandboxes[sandbox].clone();
                    running.spawn(async move { (client, limiter.take(&client.to_string()).await.is_ok()) });
                }
                let mut now = [0; 2];
                while let Some(done) = running.join_next().await {
                    let (client, is_allowed) = done.unwrap();
                    now[client] += u64::from(is_allowed);
                }
                for (all, now) in allowed.iter_mut().zip(now) {
                    all.push((time, now));
                }
            }
            for all in &allowed {
                for (first, (since, _)) in all.iter().enumerate() {
                    let mut sum = 0;
                    for (time, count) in &all[first..] {
                        sum += count;
                        // What was leased before this moment may be used after it, for a second.
                        let leased_before = if first == 0 { Duration::ZERO } else { SECOND };
                        let time = *time - *since + skew + leased_before;
                        prop_assert!(sum <= most(time), "{sum} in {time:?} of {limit}");
                    }
                }
            }
            Ok(())
        })?;
    }

    /// The other side: leases that are not used take away half of what is used at most, so that whoever asks less than
    /// two thirds of its rate is never denied, from however many sandboxes, a part of its burst at a time.
    #[test]
    fn who_asks_less_is_never_denied(
        sandboxes in 1_usize..25,
        share in 1_u64..=60,
        together in 1_usize..=25,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 300),
    ) {
        let world = World::new("50/s,100", Outage::Deny, sandboxes);
        block_on(async {
            let gap = Duration::from_millis(2_000 * together as u64 / share);
            for wave in picks.chunks(together) {
                for pick in wave {
                    let allowed = world.ask(pick.index(sandboxes), "a", 1).await;
                    prop_assert_eq!(allowed, 1, "{} % of the rate, {} at a time", share, together);
                }
                world.clock.advance(gap);
            }
            Ok(())
        })?;
    }
}

#[test]
fn a_burst_and_then_the_rate() {
    let world = World::new("50/s,100", Outage::Deny, 2);
    block_on(async {
        assert_eq!(world.ask(0, "a", 60).await, 60);
        assert_eq!(world.ask(1, "a", 60).await, 40);
        assert_eq!(
            world.sandboxes[0].take("a").await.unwrap_err().to_string(),
            "the client's limit of 50/s,100 is used up"
        );
        assert_eq!(world.ask(0, "b", 10).await, 10, "another client has a bucket of its own");
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 30).await + world.ask(1, "a", 70).await, 50);
        world.clock.advance(60 * SECOND);
        assert_eq!(world.ask(0, "a", 200).await, 100, "never more than the burst");
        assert!(world.events().is_empty());
    });
}

#[test]
fn what_it_costs() {
    block_on(async {
        // Three in a second, in one sandbox, and less: a write each.
        let world = World::new("50/s,100", Outage::Deny, 1);
        for _ in 0..40 {
            assert_eq!(world.ask(0, "a", 1).await, 1);
            world.clock.advance(400 * MS);
        }
        assert_eq!(world.asked(), 40);

        // Two hundred in a second: after the first second, ten at a time.
        let world = World::new("1000/s,100", Outage::Deny, 1);
        for second in 0..5 {
            for _ in 0..200 {
                assert_eq!(world.ask(0, "a", 1).await, 1);
                world.clock.advance(5 * MS);
            }
            let asked = world.asked();
            let expected = if second == 0 { 200..=400 } else { 20..=41 };
            assert!(expected.contains(&asked), "{asked} writes in second {second}");
        }

        // A flood beyond the limit: ten writes a second for what is denied, and what the leases take.
        let world = World::new("50/s,100", Outage::Deny, 1);
        world.ask(0, "a", 100).await;
        world.asked();
        let mut allowed = 0;
        for _ in 0..1_000 {
            allowed += world.ask(0, "a", 1).await;
            world.clock.advance(MS);
        }
        let asked = world.asked();
        assert!((45..=50).contains(&allowed) && asked <= 70, "{allowed} allowed with {asked} writes");
        // A slow limit: a second is the longest that a refusal is believed.
        let world = World::new("1/m,1", Outage::Deny, 1);
        assert_eq!(world.ask(0, "a", 5).await, 1);
        assert_eq!(world.asked(), 2);
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 5).await, 0);
        assert_eq!(world.asked(), 1);
        world.table.buckets.put("a", Bucket::default());
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 5).await, 1, "the record was deleted");
    });
}

#[test]
fn requests_that_wait_together_are_served_by_one_write() {
    let world = World::new("50/s,100", Outage::Deny, 1);
    block_on(async {
        *world.table.yields.lock().unwrap() = vec![3; 10];
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let limiter = world.sandboxes[0].clone();
            running.spawn(async move { limiter.take("a").await });
        }
        let results = running.join_all().await;
        assert!(results.iter().all(Result::is_ok));
        assert!(world.asked() <= 4);
        let waiting = world.sandboxes[0].with("a", |client| client.waiting);
        assert_eq!(waiting, 0);
    });
}

#[test]
fn a_client_can_have_a_limit_of_its_own() {
    let own = |limit: &str| Bucket { full_at: None, own_limit: Some(limit.to_owned()) };
    let world = World::new("50/s,100", Outage::Deny, 2);
    block_on(async {
        world.table.buckets.put("a", own("1/s,5"));
        assert_eq!(world.ask(0, "a", 20).await, 5);
        assert_eq!(world.asked(), 7, "one to learn of it, one each, and one that is denied");
        assert_eq!(world.ask(1, "a", 20).await, 0);
        assert_eq!(world.ask(0, "b", 200).await, 100);
        // Raised: noticed by the next question.
        world.table.buckets.put("a", own("1/s,50"));
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 90).await, 50);
        // Lowered from a bucket that would take minutes to be full: it is empty, and fills at its new rate.
        world.table.buckets.put("c", Bucket { full_at: None, ..own("1/m,100") });
        assert_eq!(world.ask(0, "c", 200).await, 100);
        let busy = Bucket { full_at: Some(nanos(Duration::from_secs(START + 6_000))), own_limit: None };
        world.table.buckets.put("c", busy);
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "c", 200).await, 0);
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "c", 200).await, 50);
        assert!(world.events().is_empty());
    });
}

#[test]
fn a_clock_that_is_wrong_closes_nobody_out_for_long() {
    let hours = 3_600 * SECOND;
    let world = World::skewed("50/s,100", Outage::Deny, &[Duration::ZERO, hours]);
    block_on(async {
        assert_eq!(world.ask(1, "a", 200).await, 100, "an hour ahead");
        assert_eq!(world.ask(0, "a", 200).await, 0);
        world.clock.advance(SECOND);
        assert_eq!(world.ask(0, "a", 200).await, 50);
    });
}
