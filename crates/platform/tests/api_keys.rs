//! API keys over time: what is kept, for how long, and what an outage does.
#![cfg(feature = "jwks")]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use authz::{ApiKeyRecord, KeyRecordLookup, KeyState, PresentedKey};
use identity::Secret;
use platform::BoxFuture;
use platform::api_keys::{
    ApiKeySource, ApiKeyStore, FRESH_FOR, KeyAnswer, MAX_NEGATIVES, MAX_STALE, NEGATIVE_FOR, PEPPER_REREAD_AFTER,
    PEPPER_TRUSTED_FOR, RETRY_AFTER,
};
use platform::clock::FixedClock;
use platform::log::{Lines, Log};
use platform::secrets::{SecretError, Secrets};
use platform::store::{ApiKeys, StoreError};
use serde_json::Value;

const START: u64 = 1_000_000;
const SECOND: Duration = Duration::from_secs(1);

/// A table and a secret that count their visitors and can be made to fail.
#[derive(Default)]
struct Fake {
    records: Mutex<BTreeMap<String, ApiKeyRecord>>,
    pepper: Mutex<String>,
    table_down: Mutex<Option<StoreError>>,
    secret_down: Mutex<bool>,
    visits: AtomicUsize,
    pepper_visits: AtomicUsize,
}

impl ApiKeys for Fake {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move {
            self.visits.fetch_add(1, Ordering::SeqCst);
            // Others get their turn to come while this one is asking.
            tokio::task::yield_now().await;
            match self.table_down.lock().unwrap().clone() {
                Some(error) => Err(error),
                None => Ok(self.records.lock().unwrap().get(id).cloned()),
            }
        })
    }

    fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        self.records.lock().unwrap().insert(record.id.clone(), record.clone());
        Box::pin(async { Ok(()) })
    }
}

impl Secrets for Fake {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        Box::pin(async move {
            self.pepper_visits.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            if *self.secret_down.lock().unwrap() {
                return Err(SecretError::Unavailable { id: id.to_owned(), why: "no answer in time".to_owned() });
            }
            Ok(Secret::new(self.pepper.lock().unwrap().clone()))
        })
    }
}

struct World {
    fake: Arc<Fake>,
    clock: Arc<FixedClock>,
    source: Arc<ApiKeySource>,
    lines: Lines,
}

impl World {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        *fake.pepper.lock().unwrap() = "a pepper of the tests".to_owned();
        fake.records.lock().unwrap().insert("live".to_owned(), record("live"));
        let clock = Arc::new(FixedClock::at(START));
        let (log, lines) = Log::memory();
        let store = ApiKeyStore { records: fake.clone(), secrets: fake.clone(), pepper_id: "pepper".to_owned() };
        let source = Arc::new(ApiKeySource::new(Some(store), clock.clone(), log));
        Self { fake, clock, source, lines }
    }

    async fn ask(&self, id: &str) -> KeyRecordLookup {
        self.source.look_up(&presented(id)).await.lookup
    }

    fn break_table(&self) {
        let error = StoreError::Unavailable { store: "api-keys".to_owned(), why: "no answer in time".to_owned() };
        *self.fake.table_down.lock().unwrap() = Some(error);
    }

    fn mend_table(&self) {
        *self.fake.table_down.lock().unwrap() = None;
    }

    fn revoke(&self) {
        self.fake.records.lock().unwrap().get_mut("live").unwrap().state = KeyState::Revoked;
    }

    fn visits(&self) -> usize {
        self.fake.visits.load(Ordering::SeqCst)
    }

    fn events(&self) -> Vec<String> {
        let lines = self.lines.drain().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        lines.map(|line| line["event"].as_str().unwrap().to_owned()).collect()
    }

    /// Hits, misses, stale hits and unavailable.
    fn counts(&self) -> [u64; 4] {
        let counters = self.source.counters();
        [counters.hits(), counters.misses(), counters.stale_hits(), counters.unavailable()]
    }
}

fn presented(id: &str) -> PresentedKey {
    PresentedKey { id: id.to_owned(), environment: "dev".to_owned(), fingerprint: String::new() }
}

fn record(id: &str) -> ApiKeyRecord {
    ApiKeyRecord {
        id: id.to_owned(),
        client_id: "reader".to_owned(),
        environment: "dev".to_owned(),
        hashes: vec!["00".repeat(32)],
        scope: String::new(),
        audiences: Vec::new(),
        state: KeyState::Active,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

fn state(lookup: &KeyRecordLookup) -> KeyState {
    match lookup {
        KeyRecordLookup::Found(record) => record.state,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_revoked_key_is_noticed_after_a_minute_at_the_latest() {
    let world = World::new();
    assert_eq!(state(&world.ask("live").await), KeyState::Active);
    world.revoke();
    world.clock.advance(FRESH_FOR - SECOND);
    assert_eq!(state(&world.ask("live").await), KeyState::Active);
    assert_eq!((world.visits(), world.counts()), (1, [1, 1, 0, 0]));
    world.clock.advance(SECOND);
    assert_eq!(state(&world.ask("live").await), KeyState::Revoked);
    assert_eq!((world.visits(), world.counts()), (2, [1, 2, 0, 0]));
    assert_eq!(world.fake.pepper_visits.load(Ordering::SeqCst), 1, "the pepper is kept");
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_a_record_too_old() {
    let world = World::new();
    world.ask("live").await;
    world.revoke();
    world.clock.set(START - 3_600);
    assert_eq!(state(&world.ask("live").await), KeyState::Revoked);
    world.clock.set(START - 7_200);
    world.break_table();
    assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable);
}

#[tokio::test]
async fn a_deleted_key_is_gone_and_a_new_one_is_seen_soon() {
    let world = World::new();
    assert_eq!(world.ask("new").await, KeyRecordLookup::NotFound);
    world.fake.put(&record("new")).await.unwrap();
    world.clock.advance(NEGATIVE_FOR - SECOND);
    assert_eq!(world.ask("new").await, KeyRecordLookup::NotFound);
    assert_eq!(world.visits(), 1);
    world.clock.advance(SECOND);
    assert_eq!(world.ask("new").await, KeyRecordLookup::Found(record("new")));

    world.fake.records.lock().unwrap().clear();
    world.clock.advance(FRESH_FOR);
    assert_eq!(world.ask("new").await, KeyRecordLookup::NotFound);
    // What was deleted does not come back in an outage.
    world.break_table();
    world.clock.advance(NEGATIVE_FOR);
    assert_eq!(world.ask("new").await, KeyRecordLookup::Unavailable);
}

#[tokio::test]
async fn an_outage_is_survived_by_the_keys_that_are_known_for_five_minutes() {
    let world = World::new();
    world.ask("live").await;
    world.revoke();
    world.break_table();
    world.clock.advance(FRESH_FOR);
    for _ in 0..5 {
        assert_eq!(state(&world.ask("live").await), KeyState::Active);
    }
    assert_eq!(world.visits(), 2, "the table is left alone between attempts");
    assert_eq!(world.ask("other").await, KeyRecordLookup::Unavailable);
    world.clock.set(START + MAX_STALE.as_secs() - 1);
    assert_eq!(state(&world.ask("live").await), KeyState::Active);
    world.clock.advance(SECOND);
    assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable);
    assert_eq!(world.counts(), [0, 1, 6, 2]);

    world.mend_table();
    world.clock.advance(RETRY_AFTER);
    assert_eq!(state(&world.ask("live").await), KeyState::Revoked);
}

#[tokio::test]
async fn an_outage_is_told_once_a_minute_and_its_end_once() {
    let world = World::new();
    world.break_table();
    for n in 0..50 {
        world.ask(&n.to_string()).await;
    }
    assert_eq!(world.events(), ["api_keys_unavailable"]);
    world.clock.advance(Duration::from_secs(60));
    world.ask("live").await;
    let line: Value = serde_json::from_str(&world.lines.drain()[0]).unwrap();
    assert_eq!((line["event"].as_str(), line["suppressed"].as_u64()), (Some("api_keys_unavailable"), Some(49)));
    assert!(line["error"].as_str().unwrap().contains("no answer in time"), "{line}");
    world.mend_table();
    world.clock.advance(RETRY_AFTER);
    world.ask("live").await;
    world.ask("live").await;
    assert_eq!(world.events(), ["api_keys_available"]);
}

#[tokio::test]
async fn a_damaged_record_denies_its_key_alone_even_if_a_good_one_was_held() {
    let world = World::new();
    world.ask("live").await;
    world.clock.advance(FRESH_FOR);
    *world.fake.table_down.lock().unwrap() = Some(StoreError::Malformed {
        store: "api-keys".to_owned(),
        id: "live".to_owned(),
        why: "it is no JSON".to_owned(),
    });
    for _ in 0..3 {
        assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable);
    }
    assert_eq!((world.visits(), world.events()), (2, vec!["api_key_damaged".to_owned()]));
    world.break_table();
    world.clock.advance(NEGATIVE_FOR);
    assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable, "the good one does not come back");
}

#[tokio::test]
async fn many_requests_wait_for_one_answer() {
    for (down, id) in [(false, "live"), (false, "absent"), (true, "live")] {
        let world = World::new();
        if down {
            world.break_table();
        }
        let asked: Vec<_> = (0..20)
            .map(|_| {
                let source = world.source.clone();
                tokio::spawn(async move { source.look_up(&presented(id)).await.lookup })
            })
            .collect();
        for answer in asked {
            let answer = answer.await.unwrap();
            assert_eq!(answer == KeyRecordLookup::Unavailable, down, "{id}: {answer:?}");
        }
        assert_eq!(world.visits(), 1, "{id}, down: {down}");
        assert_eq!(world.fake.pepper_visits.load(Ordering::SeqCst), 1);
    }
}

#[tokio::test]
async fn a_flood_of_made_up_ids_leaves_the_live_keys_alone() {
    let world = World::new();
    world.ask("live").await;
    for n in 0..=MAX_NEGATIVES {
        assert_eq!(world.ask(&format!("made up {n}")).await, KeyRecordLookup::NotFound);
    }
    let visits = world.visits();
    world.ask("live").await;
    assert_eq!(world.visits(), visits);
}

#[tokio::test]
async fn without_a_pepper_or_a_store_nothing_is_found() {
    let world = World::new();
    *world.fake.secret_down.lock().unwrap() = true;
    for _ in 0..3 {
        assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable);
    }
    assert_eq!(world.fake.pepper_visits.load(Ordering::SeqCst), 1, "the secret is left alone for a moment");
    assert_eq!(world.events(), ["api_keys_unavailable"]);
    *world.fake.secret_down.lock().unwrap() = false;
    *world.fake.pepper.lock().unwrap() = "fifteen bytes..".to_owned();
    world.clock.advance(RETRY_AFTER);
    assert_eq!(world.ask("live").await, KeyRecordLookup::Unavailable);
    *world.fake.pepper.lock().unwrap() = "sixteen bytes...".to_owned();
    world.clock.advance(RETRY_AFTER);
    assert_eq!(world.ask("live").await, KeyRecordLookup::Found(record("live")));

    let (log, lines) = Log::memory();
    let none = ApiKeySource::new(None, world.clock.clone(), log);
    for _ in 0..3 {
        assert_eq!(none.look_up(&presented("live")).await.lookup, KeyRecordLookup::Unavailable);
    }
    assert_eq!((lines.all().len(), none.counters().unavailable()), (1, 3));
}

fn pepper_of(answer: &KeyAnswer) -> Vec<u8> {
    answer.pepper.as_ref().unwrap().expose().clone()
}

#[tokio::test]
async fn a_new_pepper_is_read_when_a_key_does_not_fit_and_not_more_often_than_once_a_minute() {
    let world = World::new();
    let key = presented("live");
    let before = world.source.look_up(&key).await;
    let asked = || world.fake.pepper_visits.load(Ordering::SeqCst);
    *world.fake.pepper.lock().unwrap() = "another pepper of the tests".to_owned();
    world.clock.advance(PEPPER_TRUSTED_FOR - SECOND);
    let answer = world.source.look_up(&key).await;
    assert!(world.source.look_again(&key, &answer).await.is_none());
    assert_eq!(asked(), 1, "it is too young to have been changed");

    world.clock.advance(SECOND);
    let answer = world.source.look_up(&key).await;
    let again = world.source.look_again(&key, &answer).await.unwrap();
    assert_eq!((pepper_of(&again), asked()), (b"another pepper of the tests".to_vec(), 2));
    // Who was decided with the old one meanwhile gets the new one, without another question.
    assert_eq!(pepper_of(&world.source.look_again(&key, &before).await.unwrap()), pepper_of(&again));
    assert!(world.source.look_again(&key, &again).await.is_none());
    assert_eq!(asked(), 2);

    // While it cannot be read nobody knows whether the key is unknown.
    world.clock.advance(PEPPER_TRUSTED_FOR);
    *world.fake.secret_down.lock().unwrap() = true;
    let answer = world.source.look_up(&key).await;
    for _ in 0..5 {
        let again = world.source.look_again(&key, &answer).await.unwrap();
        assert_eq!((again.lookup, again.pepper.is_none()), (KeyRecordLookup::Unavailable, true));
    }
    assert_eq!(asked(), 3);
    // Keys that fit go on.
    assert_eq!(world.ask("live").await, KeyRecordLookup::Found(record("live")));
    *world.fake.secret_down.lock().unwrap() = false;
    world.clock.advance(PEPPER_REREAD_AFTER);
    let answer = world.source.look_up(&key).await;
    assert!(world.source.look_again(&key, &answer).await.is_none(), "read, and still the same");
    assert_eq!(asked(), 4);
}

#[tokio::test]
async fn a_second_secret_of_a_key_works_soon_and_a_wrong_one_does_not_hammer_the_table() {
    let world = World::new();
    let key = presented("live");
    let answer = world.source.look_up(&key).await;
    let rotated = ApiKeyRecord { hashes: vec!["00".repeat(32), "11".repeat(32)], ..record("live") };
    world.fake.put(&rotated).await.unwrap();
    for _ in 0..5 {
        assert!(world.source.look_again(&key, &answer).await.is_none());
    }
    assert_eq!(world.visits(), 1);
    world.clock.advance(NEGATIVE_FOR);
    let again = world.source.look_again(&key, &answer).await.unwrap();
    assert_eq!((again.lookup, world.visits()), (KeyRecordLookup::Found(rotated), 2));
    // An id without a record fits no pepper, and nothing is asked.
    let absent = world.source.look_up(&presented("absent")).await;
    assert!(world.source.look_again(&presented("absent"), &absent).await.is_none());
    assert_eq!(world.visits(), 3);
}
