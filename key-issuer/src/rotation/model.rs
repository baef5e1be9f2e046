//! A model of the whole: rotators that crash and race, environments that keep the secret for as long as they may,
//! verifiers that keep the JWKS document for as long as they declare, clocks that differ, and time that passes without
//! a sleep.
//!
//! The code under it is the program's own: the steps, the cache of the secret, the choice of the key, the document. The
//! property: at no moment of a token's life is there a document, no older than a verifier may hold it, that lacks its
//! key. After every operation every environment signs a token and answers with its document, so each moment that the
//! model visits is a moment of every environment and of every verifier.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use platform::BoxFuture;
use platform::log::Log;
use platform::secrets::{Embedded, SecretError, Secrets};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::gated::{Running, SECRET, event, poll, running};
use super::*;
use crate::Algorithm;
use crate::bootstrap::new_signing_secret_of;
use crate::secret_cache::{HARD_AGE_SECONDS, SecretCache};

const START: u64 = 1_893_456_000;
/// A step that has not ended by then has been ended by Lambda.
const LONGEST_STEP: u64 = 60;
/// How far a clock is off, and how late a verifier may still take a token.
const SKEW: i64 = 60;
const LEEWAY: u64 = 60;

/// What verifiers and caches really do. The code is told the same, or, to show that the model notices, less.
const DECLARED: Timing = Timing {
    verifier_cache: 7200,
    secret_age: HARD_AGE_SECONDS,
    token_life: crate::signing_key::MAX_TOKEN_LIFE_SECONDS,
    margin: 300,
    finish_within: 1800,
};

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Time passes.
    Advance(u64),
    /// Secrets Manager begins a rotation, if none is under way.
    Begin,
    /// A rotator begins a step (0 to 3), of the newest rotation or of the one before.
    Start { rotator: usize, step: usize, stale: bool },
    /// It makes this many calls.
    Run { rotator: usize, calls: usize },
    /// It is gone, between any two calls.
    Crash { rotator: usize },
    /// One step from beginning to end.
    Step(usize),
    /// A rotation from beginning to end.
    Rotation,
    /// An environment cannot read the secret any more, or can again.
    Outage { environment: usize, on: bool },
}

const STEPS: [&str; 4] = ["createSecret", "setSecret", "test_secret", "finishSecret"];
const ROTATION: [Op; 5] = [Op::Begin, Op::Step(0), Op::Step(1), Op::Step(2), Op::Step(3)];

/// True time, and a clock that is off.
#[derive(Clone)]
struct Skewed {
    time: Arc<AtomicU64>,
    by: i64,
}

impl Clock for Skewed {
    fn now(&self) -> SystemTime {
        let unix = self.time.load(Ordering::Relaxed).saturating_add_signed(self.by);
        UNIX_EPOCH + Duration::from_secs(unix)
    }
}

/// The store, as one environment reads it.
struct Reader {
    store: Arc<Embedded>,
    out: AtomicBool,
}

impl Secrets for Reader {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        if self.out.load(Ordering::Relaxed) {
            return Box::pin(async move { Err(SecretError::Unavailable { id: id.to_owned(), why: "out".to_owned() }) });
        }
        self.store.get(id)
    }
}

struct Environment {
    cache: SecretCache<Arc<SigningKeys>>,
    reader: Reader,
    clock: Skewed,
}

struct Model {
    timing: Timing,
    time: Arc<AtomicU64>,
    store: Arc<Embedded>,
    environments: Vec<Environment>,
    rotators: Vec<(Skewed, Option<(u64, Running)>)>,
    begun: u32,
    version: String,
    version_before: String,
    log: Log,
    /// The documents that environments have answered with, with the time; equal ones in a row count as one.
    documents: Vec<(u64, u64, Vec<String>)>,
    /// The lives of tokens by their key; lives that overlap count as one.
    lives: BTreeMap<String, Vec<(u64, u64)>>,
    finished: u32,
}

impl Model {
    /// `skews` are those of two rotators and then of three environments.
    fn new(timing: Timing, skews: [i64; 5]) -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let store = Arc::new(Embedded::default());
        store.put(SECRET, new_signing_secret_of(&[Algorithm::Es256]).unwrap().expose().clone());
        let clock = |by: i64| Skewed { time: Arc::clone(&time), by };
        // One value is parsed once for all environments, which is all that this takes from the real thing.
        let parsed: Arc<Mutex<BTreeMap<String, Arc<SigningKeys>>>> = Arc::default();
        let environment = |by: i64| {
            let parsed = Arc::clone(&parsed);
            let parse = move |text: &str, _| {
                let mut parsed = parsed.lock().unwrap();
                if let Some(keys) = parsed.get(text) {
                    return Ok(Arc::clone(keys));
                }
                let keys = Arc::new(SigningKeys::from_secret(text)?);
                parsed.insert(text.to_owned(), Arc::clone(&keys));
                Ok(keys)
            };
            let reader = Reader { store: Arc::clone(&store), out: AtomicBool::new(false) };
            Environment { cache: SecretCache::new(SECRET, parse), reader, clock: clock(by) }
        };
        let environments = skews[2..].iter().map(|by| environment(*by)).collect();
        let rotators = skews[..2].iter().map(|by| (clock(*by), None)).collect();
        Self {
            timing,
            environments,
            rotators,
            store,
            begun: 0,
            version: String::new(),
            version_before: String::new(),
            log: Log::memory().0,
            documents: Vec::new(),
            lives: BTreeMap::new(),
            finished: 0,
            time,
        }
    }

    fn run(mut self, ops: &[Op]) -> Result<u32, String> {
        self.observe()?;
        for op in ops {
            self.apply(*op);
            self.observe()?;
        }
        self.check()?;
        Ok(self.finished)
    }

    fn now(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Advance(seconds) => {
                let now = self.time.fetch_add(seconds, Ordering::Relaxed) + seconds;
                for (_, running) in &mut self.rotators {
                    if running.as_ref().is_some_and(|(since, _)| now - since > LONGEST_STEP) {
                        *running = None;
                    }
                }
            }
            Op::Begin => {
                let version = format!("rotation-{}", self.begun);
                if self.store.start_rotation(SECRET, &version).is_ok() {
                    self.begun += 1;
                    self.version_before = std::mem::replace(&mut self.version, version);
                }
            }
            Op::Start { rotator, step, stale } => {
                let version = if stale { &self.version_before } else { &self.version };
                let step = event(STEPS[step], version);
                let now = self.now();
                let (clock, running_step) = &mut self.rotators[rotator];
                *running_step = Some((now, running(&self.store, self.timing, clock.clone(), step)));
            }
            Op::Run { rotator, calls } => {
                for _ in 0..calls {
                    let Some((_, running)) = &mut self.rotators[rotator].1 else { return };
                    if let Some(done) = poll(running) {
                        self.finished += u32::from(done.is_ok_and(|done| done.outcome == FINISHED));
                        self.rotators[rotator].1 = None;
                    }
                }
            }
            Op::Crash { rotator } => self.rotators[rotator].1 = None,
            Op::Step(step) => {
                self.apply(Op::Start { rotator: 0, step, stale: false });
                self.apply(Op::Run { rotator: 0, calls: 20 });
            }
            Op::Rotation => ROTATION.into_iter().for_each(|op| self.apply(op)),
            Op::Outage { environment, on } => self.environments[environment].reader.out.store(on, Ordering::Relaxed),
        }
    }

    /// Every environment that can signs a token and answers with its document.
    fn observe(&mut self) -> Result<(), String> {
        let now = self.now();
        for environment in &self.environments {
            let own = environment.clock.unix();
            let mut get: Pin<Box<dyn Future<Output = _>>> =
                Box::pin(environment.cache.get(&environment.reader, &self.log, own));
            let Ok(keys) = poll(&mut get).unwrap() else { continue };
            let key = keys.signer(None, own).ok_or("an environment has keys, and none that signs")?;
            // A verifier with a slow clock takes it for longer than it lives, and leniently.
            let end = own + DECLARED.token_life + LEEWAY + SKEW.unsigned_abs();
            let lives = self.lives.entry(key.jwk.kid.clone()).or_default();
            match lives.iter_mut().find(|(from, to)| *from <= now && now <= *to) {
                Some((_, to)) => *to = end.max(*to),
                None => lives.push((now, end)),
            }
            let kids: Vec<String> = keys.public(own).into_iter().map(|jwk| jwk.kid).collect();
            match self.documents.iter_mut().find(|(_, last, listed)| *last == now && *listed == kids) {
                Some(_) => {}
                None => self.documents.push((now, now, kids)),
            }
        }
        Ok(())
    }

    /// The property.
    fn check(&self) -> Result<(), String> {
        for (kid, lives) in &self.lives {
            for (from, to) in lives {
                for (_, answered, kids) in &self.documents {
                    let in_use = *answered <= *to && answered + DECLARED.verifier_cache >= *from;
                    if in_use && !kids.contains(kid) {
                        return Err(format!(
                            "tokens of {kid} live from {} to {}, and the document of {} is used until {} and lacks it",
                            from - START,
                            to - START,
                            answered - START,
                            answered + DECLARED.verifier_cache - START
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

fn op() -> impl Strategy<Value = Op> {
    let time = prop_oneof![1..=LONGEST_STEP, 1..=600_u64, 1..=3600_u64, 1..=15_000_u64];
    prop_oneof![
        8 => time.prop_map(Op::Advance),
        2 => Just(Op::Begin),
        4 => (0..2_usize, 0..4_usize, prop::bool::weighted(0.1))
            .prop_map(|(rotator, step, stale)| Op::Start { rotator, step, stale }),
        8 => (0..2_usize, 1..8_usize).prop_map(|(rotator, calls)| Op::Run { rotator, calls }),
        1 => (0..2_usize).prop_map(|rotator| Op::Crash { rotator }),
        4 => (0..4_usize).prop_map(Op::Step),
        2 => Just(Op::Rotation),
        3 => (0..3_usize, any::<bool>()).prop_map(|(environment, on)| Op::Outage { environment, on }),
    ]
}

fn skews() -> impl Strategy<Value = [i64; 5]> {
    prop::array::uniform5(prop_oneof![Just(0), Just(SKEW), Just(-SKEW), -SKEW..=SKEW])
}

fn runner(cases: u32, max_shrink_iters: u32) -> TestRunner {
    let config = Config { cases, max_shrink_iters, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

#[test]
fn no_token_is_ever_unverifiable() {
    let finished = AtomicU64::new(0);
    let run = runner(300, 2000).run(&(vec(op(), 1..150), skews()), |(ops, skews)| {
        let more = Model::new(DECLARED, skews).run(&ops).map_err(TestCaseError::fail)?;
        finished.fetch_add(u64::from(more), Ordering::Relaxed);
        Ok(())
    });
    assert!(run.is_ok(), "{}", run.unwrap_err());
    // A model in which nothing ever happens would prove nothing.
    let finished = finished.into_inner();
    assert!(finished > 500, "only {finished} rotations came to their end");
}

#[test]
fn the_model_finds_a_key_that_signs_at_once() {
    let at_once = Timing { verifier_cache: 0, secret_age: 0, margin: 0, finish_within: 0, ..DECLARED };
    let found = runner(200, 0).run(&(vec(op(), 1..150), skews()), |(ops, skews)| {
        Model::new(at_once, skews).run(&ops).map(|_| ()).map_err(TestCaseError::fail)
    });
    assert!(matches!(found, Err(TestError::Fail(..))), "{found:?}");
}

/// Each term of the inequalities is needed: without it there is a history in which a token is unverifiable, or nobody
/// signs, and with it that history is a good one.
#[test]
fn the_model_finds_each_missing_term() {
    let out = |on| Op::Outage { environment: 0, on };
    let activate_at = 1800 + 3600 + 7200 + 300;
    for (missing, told, skews, ops) in [
        (
            "the verifiers' caches",
            Timing { verifier_cache: 0, ..DECLARED },
            [0; 5],
            vec![Op::Rotation, Op::Advance(activate_at - 7200), Op::Advance(7200)],
        ),
        (
            "the age of the secret",
            Timing { secret_age: 0, ..DECLARED },
            [0; 5],
            vec![out(true), Op::Rotation, Op::Advance(3500), Op::Advance(5900), out(false), Op::Advance(9000)],
        ),
        (
            "the life of a token",
            Timing { token_life: 0, ..DECLARED },
            [0; 5],
            vec![Op::Rotation, Op::Advance(activate_at - 10), Op::Advance(400)],
        ),
        (
            "the margin",
            Timing { margin: 0, ..DECLARED },
            [0, 0, 0, SKEW, 0],
            vec![
                Op::Begin,
                Op::Step(0),
                Op::Advance(1800),
                out(true),
                Op::Step(3),
                Op::Advance(3599),
                Op::Advance(7150),
                out(false),
                Op::Advance(9000),
            ],
        ),
    ] {
        assert_eq!(Model::new(DECLARED, skews).run(&ops), Ok(1), "{missing}");
        let found = Model::new(told, skews).run(&ops);
        assert!(found.is_err(), "without {missing} the model finds nothing");
    }
}

/// As the steps come when all goes well, for days.
#[test]
fn rotations_every_four_hours_are_possible() {
    let mut ops = Vec::new();
    for _ in 0..12 {
        ops.push(Op::Rotation);
        ops.extend([Op::Advance(1200); 12]);
    }
    assert_eq!(Model::new(DECLARED, [0; 5]).run(&ops), Ok(12));
}
