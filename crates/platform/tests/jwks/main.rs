//! Key sets over time, against a real HTTPS server on a real socket. The clock stands still unless a test moves it.
#![cfg(feature = "jwks")]
#![allow(clippy::panic, clippy::unwrap_used, unreachable_pub)]

mod issuer;

use std::time::Duration;

use issuer::{Behaviour, Issuer, NOW, Setup, World, keys};
use platform::https::Reach;
use platform::jwks::{
    BURST, EMBEDDED_HARD_AGE, HARD_AGE, JwksSettings, JwksState, LONGEST_SOFT_AGE, MAX_BACKOFF, SECONDS_PER_FETCH,
    SHORTEST_SOFT_AGE, SOFT_AGE,
};

fn start() -> (Issuer, World) {
    let issuer = Issuer::start();
    let world = Setup::of(&issuer).world();
    (issuer, world)
}

/// A world that does not wait for what never comes.
fn impatient(issuer: &Issuer) -> World {
    let mut setup = Setup::of(issuer);
    setup.settings.wait = Duration::from_millis(20);
    setup.world()
}

#[tokio::test]
async fn a_set_is_fetched_when_it_is_needed_and_again_when_it_is_old() {
    let (issuer, world) = start();
    world.sets.for_request(&[]).await;
    assert_eq!(issuer.visits(), 0);
    assert_eq!(world.has("a").await, Some(true));
    world.pass(SOFT_AGE.as_secs() - 1);
    assert_eq!(world.has("a").await, Some(true));
    assert_eq!(issuer.visits(), 1);
    issuer.publish(keys(&["b"]));
    world.pass(1);
    // Nobody waits for it, and the removed key stops working with it.
    assert_eq!(world.has("a").await, Some(true));
    world.until("a", Some(false)).await;
    assert_eq!(world.has("b").await, Some(true));
    assert_eq!(world.states(), ["fetched", "refreshed"]);
}

#[tokio::test]
async fn the_issuer_says_how_long_its_keys_are_fresh_within_bounds() {
    for (header, soft_age) in [
        ("", SOFT_AGE),
        ("cache-control: max-age=600\r\n", Duration::from_secs(600)),
        ("cache-control: max-age=600\r\nage: 500\r\n", Duration::from_secs(100)),
        ("cache-control: no-store\r\n", SHORTEST_SOFT_AGE),
        ("cache-control: max-age=1\r\n", SHORTEST_SOFT_AGE),
        ("cache-control: max-age=31536000\r\n", LONGEST_SOFT_AGE),
    ] {
        let (issuer, world) = start();
        issuer.behave(Behaviour::Answer(200, header.to_owned(), keys(&["a"])));
        world.has("a").await;
        world.pass(soft_age.as_secs() - 1);
        world.has("a").await;
        assert_eq!(issuer.visits(), 1, "{header}");
        world.pass(1);
        world.until_said("a", "unchanged").await;
        assert_eq!(issuer.visits(), 2, "{header}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_requests_wait_for_one_fetch() {
    let (issuer, world) = start();
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let (sets, needed, uri) = (world.sets.clone(), world.needed("a"), world.uri.clone());
            tokio::spawn(async move { sets.for_request(&[needed]).await.fetched(&uri).is_some() })
        })
        .collect();
    for answer in asked {
        assert!(answer.await.unwrap());
    }
    assert_eq!(issuer.visits(), 1);
}

#[tokio::test]
async fn random_kids_cause_few_fetches_and_do_not_delay_a_rotation() {
    let (issuer, world) = start();
    for number in 0..10_000 {
        assert_eq!(world.has(&format!("random-{number}")).await, Some(false));
    }
    assert_eq!(issuer.visits() as u64, 1 + BURST);
    assert_eq!(world.jwks.counters().get(JwksState::Penalised), 10_000 - 1 - BURST);
    assert_eq!(world.states().iter().filter(|state| *state == "penalised").count(), 1);
    // Now the issuer rotates, while the bucket is empty.
    issuer.publish(keys(&["b"]));
    world.pass(SECONDS_PER_FETCH - 1);
    assert_eq!(world.has("b").await, Some(false));
    world.pass(1);
    // It is a random kid that brings the new key.
    world.has("random").await;
    assert_eq!(issuer.visits() as u64, 2 + BURST);
    assert_eq!(world.has("b").await, Some(true));
    // The change was worth it: the next rotation need not wait.
    issuer.publish(keys(&["c"]));
    assert_eq!(world.has("c").await, Some(true));
}

#[tokio::test]
async fn an_outage_is_survived_for_a_bounded_time_and_said_once_a_minute() {
    let (issuer, world) = start();
    let first = world.ask("a").await.generation();
    issuer.behave(Behaviour::Answer(503, String::new(), String::new()));
    world.pass(SOFT_AGE.as_secs());
    world.until_said("a", "failed").await;
    for _ in 0..(HARD_AGE - SOFT_AGE).as_secs() - 1 {
        world.pass(1);
        assert_eq!(world.has("a").await, Some(true));
    }
    assert_eq!(world.ask("a").await.generation(), first);
    world.pass(1);
    world.until("a", None).await;
    assert_ne!(world.ask("a").await.generation(), first);
    let minutes = (HARD_AGE - SOFT_AGE).as_secs() / 60;
    assert!(world.lines.all().len() as u64 <= minutes + 5, "{}", world.lines.all().len());
    let states = world.states();
    assert_eq!(states[..3], ["fetched", "failed", "stale"]);
    assert_eq!(states.iter().filter(|state| *state == "expired").count(), 1);
    assert_eq!(world.said()[1]["error"], "127.0.0.1 answered with status 503");
    // It comes back within the longest pause.
    issuer.publish(keys(&["a"]));
    world.pass(MAX_BACKOFF.as_secs());
    assert_eq!(world.has("a").await, Some(true));
    assert_eq!(world.ask("a").await.generation(), first, "the same keys are the same generation");
}

#[tokio::test]
async fn an_issuer_that_fails_is_asked_ever_more_rarely() {
    let (issuer, world) = start();
    issuer.behave(Behaviour::Answer(500, String::new(), String::new()));
    let mut visits = Vec::new();
    for second in 0..120 {
        for _ in 0..10 {
            let before = issuer.visits();
            assert_eq!(world.has("a").await, None);
            if issuer.visits() > before {
                visits.push(second);
            }
        }
        world.pass(1);
    }
    assert_eq!(visits, [0, 2, 6, 14, 30, 60, 90]);
}

#[tokio::test]
async fn a_slow_issuer_costs_a_request_the_wait_and_no_more() {
    for slow in [Behaviour::Silence, Behaviour::Drip] {
        let issuer = Issuer::start();
        issuer.behave(slow);
        let world = impatient(&issuer);
        assert_eq!(world.has("a").await, None);
        assert_eq!(world.states(), ["expired"]);
        world.until_visited(&issuer).await;
        // It is not asked again meanwhile.
        assert_eq!((world.has("a").await, issuer.visits()), (None, 1));
    }
}

#[tokio::test]
async fn a_poisoned_document_does_not_replace_a_good_one() {
    let (issuer, world) = start();
    world.has("a").await;
    let good = keys(&["a"]);
    let private = good.replace("\"kid\"", "\"d\":\"AAAA\",\"kid\"");
    let symmetric = r#"{"keys":[{"kty":"oct","kid":"s","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}"#;
    let mixed = good.replace("}]}", &format!("}},{}", &symmetric[9..]));
    let kids: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many = keys(&kids.iter().map(String::as_str).collect::<Vec<_>>());
    let large = format!("{good}{}", " ".repeat(150_001 - good.len()));
    for (poison, why) in [
        (String::new(), "not valid JSON"),
        ("<html>".to_owned(), "not valid JSON"),
        ("{}".to_owned(), "a list \"keys\""),
        ("[]".to_owned(), "a list \"keys\""),
        (private, "private key"),
        (symmetric.to_owned(), "symmetric key"),
        (mixed, "symmetric key"),
        (many, "101 keys"),
        (large, "150000 bytes"),
        (keys(&["a", "a"]), "twice"),
    ] {
        world.lines.drain();
        let visits = issuer.visits();
        issuer.publish(poison);
        world.pass(SOFT_AGE.as_secs());
        world.until_said("a", "poisoned").await;
        let said = world.said().into_iter().find(|line| line["state"] == "poisoned").unwrap();
        assert!(said["error"].as_str().unwrap().contains(why), "{said}");
        assert_eq!((world.has("a").await, issuer.visits()), (Some(true), visits + 1));
        issuer.publish(good.clone());
        world.pass(MAX_BACKOFF.as_secs());
        world.until_said("a", "unchanged").await;
    }
    // An empty set is a good one: it revokes every key. So is one of exactly 150,000 bytes.
    let empty = r#"{"keys":[]}"#;
    issuer.publish(format!("{empty}{}", " ".repeat(150_000 - empty.len())));
    world.pass(SOFT_AGE.as_secs());
    world.until("a", Some(false)).await;
}

#[tokio::test]
async fn redirects_and_wrong_certificates_are_failures() {
    let (issuer, world) = start();
    let elsewhere = Issuer::start();
    let location = format!("location: {}\r\n", elsewhere.url("/jwks.json"));
    issuer.behave(Behaviour::Answer(302, location, keys(&["a"])));
    assert_eq!(world.has("a").await, None);
    assert_eq!(world.said()[0]["error"], "127.0.0.1 answered with status 302");
    assert_eq!(elsewhere.visits(), 0);

    let mut setup = Setup::of(&elsewhere);
    setup.settings.roots = vec![issuer.root.clone()];
    let stranger = setup.world();
    assert_eq!(stranger.has("a").await, None);
    let error = stranger.said()[0]["error"].to_string();
    assert!(error.contains("certificate"), "{error}");
    assert_eq!(elsewhere.visits(), 0);
}

#[tokio::test]
async fn private_addresses_are_not_dialled_unless_allowed() {
    let issuer = Issuer::start();
    for host in ["127.0.0.1", "localhost"] {
        let mut setup = Setup::of(&issuer);
        setup.uri = format!("https://{host}:{}/jwks.json", issuer.port);
        setup.settings.reach = Reach::Public;
        let world = setup.world();
        assert_eq!(world.has("a").await, None);
        let error = world.said()[0]["error"].to_string();
        assert!(error.contains("is a loopback address, which is not dialled"), "{error}");
        let mut setup = Setup::of(&issuer);
        setup.uri = format!("https://{host}:{}/jwks.json", issuer.port);
        assert_eq!(setup.world().has("a").await, Some(true));
    }
    assert_eq!(issuer.visits(), 2);
    assert_eq!(JwksSettings::default().reach, Reach::Public);
}

fn discovered(issuer: &Issuer, named: &str, embedded: Option<(String, Option<u64>)>) -> World {
    let (jwks_uri, name) = (false, issuer.url(""));
    issuer.behave(Behaviour::Paths(vec![
        ("/.well-known/openid-configuration", named.replace("URL", &name)),
        ("/keys", keys(&["a"])),
        ("/.well-known/jwks.json", keys(&["a"])),
        ("/jwks.json", keys(&["a"])),
    ]));
    Setup { jwks_uri, issuer: name, embedded, ..Setup::of(issuer) }.world()
}

#[tokio::test]
async fn keys_are_found_by_discovery() {
    let issuer = Issuer::start();
    let world = discovered(&issuer, r#"{"issuer":"URL","jwks_uri":"URL/keys"}"#, None);
    assert_eq!((world.has("a").await, issuer.visits()), (Some(true), 2));
    // What was embedded for such a rule is refreshed the same way.
    let issuer = Issuer::start();
    let old = Some((keys(&["old"]), Some(NOW - SOFT_AGE.as_secs())));
    let world = discovered(&issuer, r#"{"issuer":"URL","jwks_uri":"URL/keys"}"#, old);
    assert_eq!(world.has("old").await, Some(true));
    world.until("old", Some(false)).await;
    assert_eq!((world.has("a").await, issuer.visits()), (Some(true), 2));
}

#[tokio::test]
async fn a_discovery_document_must_be_the_issuer_s_own_and_nothing_is_guessed() {
    for (document, state, why) in [
        (r#"{"issuer":"https://other.example","jwks_uri":"URL/keys"}"#, "poisoned", "that of another issuer"),
        (r#"{"issuer":"URL/","jwks_uri":"URL/keys"}"#, "poisoned", "that of another issuer"),
        (r#"{"jwks_uri":"URL/keys"}"#, "poisoned", "expected JSON"),
        (r#"{"issuer":"URL"}"#, "poisoned", "expected JSON"),
        (r#"{"issuer":"URL","issuer":"URL","jwks_uri":"URL/keys"}"#, "poisoned", "expected JSON"),
        ("<html>", "poisoned", "expected JSON"),
        (r#"{"issuer":"URL","jwks_uri":"http://issuer.example/keys"}"#, "failed", "is not https"),
        (r#"{"issuer":"URL","jwks_uri":"https://169.254.169.254/keys"}"#, "failed", "link-local"),
        (r#"{"issuer":"URL","jwks_uri":"file:///etc/passwd"}"#, "failed", "URL"),
        (r#"{"issuer":"URL","jwks_uri":"URL/gone"}"#, "failed", "status 404"),
    ] {
        let issuer = Issuer::start();
        let world = discovered(&issuer, document, None);
        assert_eq!(world.has("a").await, None, "{document}");
        let said = &world.said()[0];
        assert_eq!(said["state"], state, "{said}");
        assert!(said["error"].as_str().unwrap().contains(why), "{said}");
        assert_eq!(issuer.visits(), 1 + usize::from(document.contains("/gone")), "{document}");
    }
}

#[tokio::test]
async fn embedded_keys_serve_by_their_age() {
    let embed = |at: Option<u64>| Some((keys(&["old"]), at));
    let issuer = Issuer::start();
    let world = |at| Setup { embedded: embed(at), ..Setup::of(&issuer) }.world();
    let hard = EMBEDDED_HARD_AGE.as_secs();
    // A moment old: nobody is asked.
    assert_eq!((world(Some(NOW - 1)).has("old").await, issuer.visits()), (Some(true), 0));
    // Older: used, and asked for without waiting.
    let aged = world(Some(NOW - hard + 1));
    assert_eq!(aged.has("old").await, Some(true));
    aged.until("old", Some(false)).await;
    assert_eq!((aged.has("a").await, issuer.visits()), (Some(true), 1));
    // What the issuer has withdrawn does not come back with the same policies.
    let again = aged.reloaded().for_request(&[aged.needed("a")]).await;
    assert!(again.fetched(&aged.uri).unwrap().has_kid("a"));
    assert_eq!(issuer.visits(), 1);
    // Too old, of unknown age, or from the future: not used before it is fetched.
    for at in [Some(NOW - hard), None, Some(NOW + 3_600)] {
        assert_eq!(world(at).has("old").await, Some(false), "{at:?}");
        issuer.behave(Behaviour::Answer(500, String::new(), String::new()));
        assert_eq!(world(at).has("old").await, None, "{at:?}");
        issuer.publish(keys(&["a"]));
    }
}

/// In a Lambda nothing runs between two invocations.
#[test]
fn a_refresh_that_was_not_done_when_the_answer_went_out_is_finished_by_a_later_request() {
    let (issuer, world) = start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let has = |kid: &str| runtime.block_on(world.has(kid));
    assert_eq!(has("a"), Some(true));
    issuer.publish(keys(&["a", "b"]));
    world.pass(SOFT_AGE.as_secs());
    let before = runtime.block_on(world.ask("a")).generation();
    // This request started it, and was answered before it was done.
    assert!(!world.states().contains(&"refreshed".to_owned()));
    let mut requests = 0;
    while runtime.block_on(world.ask("a")).generation() == before {
        requests += 1;
        assert!(requests < 1_000_000, "{:?}", world.lines.all());
        std::thread::yield_now();
    }
    assert_eq!((has("b"), issuer.visits()), (Some(true), 2));
}

#[tokio::test]
async fn a_fetch_that_was_frozen_is_given_up_and_another_one_begun() {
    let issuer = Issuer::start();
    issuer.behave(Behaviour::Silence);
    let world = impatient(&issuer);
    assert_eq!(world.has("a").await, None);
    world.until_visited(&issuer).await;
    // Frozen for a day in the middle of it; the old connection looks alive and never says anything.
    world.pass(86_400);
    issuer.publish(keys(&["a"]));
    world.until("a", Some(true)).await;
    assert_eq!(issuer.visits(), 2);
    assert_eq!(world.jwks.counters().get(JwksState::Failed), 0);
}

/// A runtime that ends takes its tasks along.
#[test]
fn a_fetch_whose_runtime_is_gone_is_begun_again() {
    let (issuer, world) = start();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime().block_on(world.has("a"));
    issuer.publish(keys(&["b"]));
    world.pass(SOFT_AGE.as_secs());
    assert_eq!(runtime().block_on(world.has("a")), Some(true));
    runtime().block_on(world.until("a", Some(false)));
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_a_set_too_old() {
    let (issuer, world) = start();
    world.has("a").await;
    world.clock.set(NOW - 60);
    assert_eq!((world.has("a").await, issuer.visits()), (Some(true), 1));
    world.clock.set(NOW - 61);
    issuer.publish(keys(&["b"]));
    assert_eq!((world.has("a").await, issuer.visits()), (Some(false), 2));
}

#[tokio::test]
async fn what_must_not_be_fetched_is_not() {
    for uri in ["http://issuer.example/jwks.json", "http://169.254.169.254/latest"] {
        let setup = Setup { uri: uri.to_owned(), ..Setup::of(&Issuer::start()) };
        let world = setup.world();
        assert_eq!(world.has("a").await, None);
        let error = world.said()[0]["error"].to_string();
        assert!(error.contains("is not https"), "{error}");
    }
}
