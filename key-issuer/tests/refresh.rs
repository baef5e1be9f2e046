//! Refresh tokens: each is used once, and a second use ends its family.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use common::grants::*;
use common::*;
use key_issuer::ClientState;
use proptest::prelude::*;
use serde_json::{Value, json};

fn refresh(id: &str, token: &str, more: &[(&str, &str)]) -> Value {
    let mut parameters = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
    parameters.extend_from_slice(more);
    as_client(id, "/oauth2/token", &parameters)
}

fn next_in(answer: &Answer) -> String {
    answer.json()["refresh_token"].as_str().unwrap_or_else(|| panic!("no refresh token: {answer:?}")).to_owned()
}

/// `b` with a refresh token for `a`, and the token that it comes from.
async fn world() -> (World, String, String) {
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned()];
    let world = World::of(&[a, full_client("b"), full_client("c"), watcher()]).await;
    let subject = world.token("a", &[]).await;
    let more = [("requested_token_type", REFRESH_TOKEN)];
    let answer = world.send(exchange("b", &subject, &more)).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let body = answer.json();
    assert_eq!((&body["token_type"], &body["issued_token_type"]), (&json!("N_A"), &json!(REFRESH_TOKEN)));
    assert_eq!((&body["expires_in"], &body["scope"]), (&json!(86_400), &json!("reviews.read reviews.write")));
    assert!(body.get("refresh_token").is_none());
    world.lines.drain();
    (world, token_in(&answer), subject)
}

#[tokio::test]
async fn each_use_gives_a_token_and_the_next_refresh_token() {
    let (world, mut token, _) = world().await;
    let mut seen = BTreeSet::new();
    for round in 0..4 {
        world.clock.set(NOW + round * 1_000);
        let answer = world.send(refresh("b", &token, &[])).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let body = answer.json();
        let members: BTreeSet<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, BTreeSet::from(["access_token", "token_type", "expires_in", "refresh_token", "scope"]));
        let claims = answer.claims();
        assert_eq!((&claims["sub"], &claims["client_id"]), (&json!("client:a"), &json!("b")));
        assert_eq!((&claims["act"], &claims["may_act"]), (&json!({"sub": "client:b"}), &json!({"sub": "client:b"})));
        assert_eq!(claims["exp"], NOW + round * 1_000 + 600);
        let audit = world.audit();
        assert_eq!((&audit["grant"], &audit["subject"]), (&json!("refresh_token"), &json!("client:a")));
        assert!(!audit.to_string().contains("cwr_"));
        assert!(seen.insert(token));
        token = next_in(&answer);
    }
    // No record has a token in it.
    for (id, record) in world.directory.store.table("state").page(None, 10).await.unwrap().records {
        for token in seen.iter().chain([&token]) {
            assert!(!record.json.contains(&token[36..]) && !id.contains(&token[36..]));
        }
        assert_eq!(record.expires_at, Some(NOW + 86_400), "the family's end does not move");
    }
}

#[tokio::test]
async fn nothing_outlives_the_family() {
    let (world, token, _) = world().await;
    world.clock.set(NOW + 86_400 - 10);
    let answer = world.send(refresh("b", &token, &[])).await;
    assert_eq!((&answer.json()["expires_in"], &answer.claims()["exp"]), (&json!(10), &json!(NOW + 86_400)));
    world.clock.set(NOW + 86_400);
    assert_eq!(world.send(refresh("b", &next_in(&answer), &[])).await.error(), "invalid_grant");
}

#[tokio::test]
async fn a_second_use_ends_the_family_and_its_access_tokens() {
    let (world, first, subject) = world().await;
    let second = world.send(refresh("b", &first, &[])).await;
    let third = world.send(refresh("b", &next_in(&second), &[])).await;
    let tokens = [token_in(&second), token_in(&third)];
    for token in &tokens {
        assert!(world.is_active(token).await);
    }
    world.lines.drain();
    let again = world.send(refresh("b", &first, &[])).await;
    assert_eq!((again.status(), again.error().as_str()), (400, "invalid_grant"));
    assert!(world.audit()["detail"].as_str().unwrap().contains("its family is revoked"));
    for token in &tokens {
        assert!(!world.is_active(token).await);
    }
    assert_eq!(world.send(refresh("b", &next_in(&third), &[])).await.error(), "invalid_grant");
    assert!(!world.is_active(&next_in(&third)).await && world.is_active(&subject).await);
}

/// Many at once use one token: one gets an answer, and what it gets is worth nothing, because the others show that the
/// token is in several hands. On one thread, with tables that give way at each call, all have read the family before the
/// first one writes it; on several, they meet as they meet.
#[test]
fn of_many_at_once_exactly_one_wins() {
    let mut threads = tokio::runtime::Builder::new_multi_thread();
    threads.worker_threads(4);
    for mut runtime in [tokio::runtime::Builder::new_current_thread(), threads] {
        runtime.build().unwrap().block_on(eight_at_once());
    }
}

async fn eight_at_once() {
    for _ in 0..4 {
        let (world, token, _) = world().await;
        let world = std::sync::Arc::new(world);
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (world, token) = (world.clone(), token.clone());
            tasks.spawn(async move { Answer(world.issuer.handle(refresh("b", &token, &[])).await.unwrap()) });
        }
        let answers = tasks.join_all().await;
        let won: Vec<&Answer> = answers.iter().filter(|answer| answer.status() == 200).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert!(
            answers.iter().all(|answer| answer.status() == 200 || answer.error() == "invalid_grant"),
            "{answers:?}"
        );
        assert!(!world.is_active(&token_in(won[0])).await && !world.is_active(&next_in(won[0])).await);
    }
}

#[tokio::test]
async fn every_error() {
    let (world, token, _) = world().await;
    let mut bare = full_client("bare");
    bare.grants = vec![TOKEN_EXCHANGE.to_owned()];
    world.directory.put(&bare).await;
    let mut mistyped = token.clone();
    mistyped.replace_range(50..51, if &token[50..51] == "0" { "1" } else { "0" });
    let mut nobody = refresh("b", &token, &[]);
    nobody["headers"].as_object_mut().unwrap().remove("Authorization");
    for (name, event, status, error) in [
        ("none", as_client("b", "/oauth2/token", &[("grant_type", "refresh_token")]), 400, "invalid_request"),
        ("no client", nobody, 401, "invalid_client"),
        ("another client", refresh("c", &token, &[]), 400, "invalid_grant"),
        ("the subject", refresh("a", &token, &[]), 400, "invalid_grant"),
        ("no grant", refresh("bare", &token, &[]), 400, "unauthorized_client"),
        ("mistyped", refresh("b", &mistyped, &[]), 400, "invalid_grant"),
        ("no form", refresh("b", "x", &[]), 400, "invalid_grant"),
        ("scope", refresh("b", &token, &[("scope", "ratings.write")]), 400, "invalid_scope"),
        ("audience", refresh("b", &token, &[("audience", "https://api.bookinfo.example")]), 400, "invalid_target"),
        ("resource", refresh("b", &token, &[("resource", "x")]), 400, "invalid_target"),
    ] {
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{name}: {answer:?}");
    }
    // None of them has used it up.
    let narrow = world.send(refresh("b", &token, &[("scope", "reviews.read")])).await;
    assert_eq!(narrow.json()["scope"], "reviews.read");
    let whole = world.send(refresh("b", &next_in(&narrow), &[])).await;
    assert_eq!(
        whole.json()["scope"],
        "reviews.read reviews.write",
        "RFC 6749 section 6: the refresh token keeps its scope"
    );
}

#[tokio::test]
async fn an_outage_uses_nothing_up() {
    let (world, token, _) = world().await;
    world.directory.out.store(true, Ordering::Relaxed);
    let answer = world.send(refresh("b", &token, &[])).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")));
    world.directory.out.store(false, Ordering::Relaxed);
    assert_eq!(world.send(refresh("b", &token, &[])).await.status(), 200);
}

#[tokio::test]
async fn revocation_ends_the_family() {
    let (world, first, _) = world().await;
    let answer = world.send(refresh("b", &first, &[])).await;
    let revoke = |id: &str, token: &str| as_client(id, "/oauth2/revoke", &[("token", token)]);
    assert_eq!(world.send(revoke("c", &next_in(&answer))).await.error(), "unauthorized_client");
    assert!(world.is_active(&next_in(&answer)).await);
    // Any token of the family will do.
    assert_eq!(world.send(revoke("b", &first)).await.status(), 200);
    assert!(!world.is_active(&next_in(&answer)).await && !world.is_active(&token_in(&answer)).await);
    assert_eq!(world.send(refresh("b", &next_in(&answer), &[])).await.error(), "invalid_grant");
    assert_eq!(world.send(revoke("b", &first)).await.status(), 200, "again");
}

#[tokio::test]
async fn what_is_taken_back_ends_it() {
    for (kind, id) in [("client", "a"), ("client", "b"), ("before", "a"), ("before", "b"), ("token", "")] {
        let (world, token, subject) = world().await;
        assert!(world.is_active(&token).await);
        if kind == "token" {
            assert_eq!(world.send(as_client("a", "/oauth2/revoke", &[("token", &subject)])).await.status(), 200);
        } else {
            world.list(kind, id, json!({"until": NOW + 100_000, "before": NOW + 1})).await;
        }
        assert!(!world.is_active(&token).await, "{kind} {id}");
        assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant", "{kind} {id}");
    }
    let (world, token, _) = self::world().await;
    let mut disabled = full_client("a");
    disabled.state = ClientState::Disabled;
    world.directory.put(&disabled).await;
    world.clock.set(NOW + 60);
    assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant", "a is disabled");
    let (world, token, _) = self::world().await;
    world.directory.put(&full_client("a")).await;
    assert!(world.is_active(&token).await, "what is remembered counts for a minute");
    world.clock.set(NOW + 60);
    assert!(!world.is_active(&token).await);
    assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant", "a lets b act no more");
}

#[tokio::test]
async fn what_the_client_has_lost_is_not_granted() {
    let (world, token, _) = world().await;
    let mut less = full_client("b");
    less.scopes = vec!["reviews.write".to_owned()];
    world.directory.put(&less).await;
    world.clock.set(NOW + 60);
    let answer = world.send(refresh("b", &token, &[])).await;
    assert_eq!(answer.json()["scope"], "reviews.write");
    less.audiences = vec!["elsewhere".to_owned()];
    world.directory.put(&less).await;
    world.clock.set(NOW + 120);
    assert_eq!(world.send(refresh("b", &next_in(&answer), &[])).await.error(), "invalid_target");
}

/// The list is everybody's: a family is one entry of it, whatever came out of it.
#[tokio::test]
async fn the_end_of_a_family_ends_all_that_came_out_of_it() {
    let (world, first, _) = world().await;
    let mut tokens = Vec::new();
    let mut token = first.clone();
    for _ in 0..40 {
        let answer = world.send(refresh("b", &token, &[])).await;
        tokens.push(token_in(&answer));
        token = next_in(&answer);
    }
    tokens.push(token_in(&world.send(exchange("b", &tokens[7], &[])).await));
    assert_eq!(world.send(refresh("b", &first, &[])).await.error(), "invalid_grant", "used twice");
    for token in &tokens {
        assert!(!world.is_active(token).await);
        assert_eq!(world.send(exchange("b", token, &[])).await.error(), "invalid_request");
    }
    let entries = world.directory.store.table("revocations").page(None, 10).await.unwrap().records;
    assert_eq!(entries.iter().filter(|(id, _)| id.starts_with("token#")).count(), 1, "{entries:?}");
}

/// What is revoked ends what came out of it, also what a verifier does not see the way of.
#[tokio::test]
async fn a_revoked_token_ends_the_access_tokens_of_its_families() {
    let (world, token, subject) = world().await;
    // The subject token has ended when its last descendant has not.
    world.clock.set(NOW + 590);
    let access = token_in(&world.send(refresh("b", &token, &[])).await);
    assert!(world.is_active(&access).await);
    assert_eq!(world.send(as_client("a", "/oauth2/revoke", &[("token", &subject)])).await.status(), 200);
    for later in [590, 1_189] {
        world.clock.set(NOW + later);
        assert!(!world.is_active(&access).await, "{later}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    /// In whatever order the tokens of a family are used: only the newest works, and once another was used, none does.
    #[test]
    fn only_the_newest_and_only_until_another_is_used(uses in proptest::collection::vec(0..6_usize, 1..8)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (world, token, _) = world().await;
            let (mut tokens, mut access, mut alive) = (vec![token], Vec::new(), true);
            for back in uses {
                let place = tokens.len().saturating_sub(1 + back % 3);
                let answer = world.send(refresh("b", &tokens[place], &[])).await;
                alive &= place + 1 == tokens.len();
                prop_assert_eq!(answer.status() == 200, alive, "{:?}", answer);
                if alive {
                    tokens.push(next_in(&answer));
                    access.push(token_in(&answer));
                }
                for token in &access {
                    prop_assert_eq!(world.is_active(token).await, alive);
                }
            }
            Ok(())
        })?;
    }
}

/// What ended a family does not come back when its own entry is forgotten, whether the family was used meanwhile or not.
#[tokio::test]
async fn a_revoked_subject_token_ends_it_for_good() {
    for used_meanwhile in [true, false] {
        let (world, token, subject) = world().await;
        let access = world.send(refresh("b", &token, &[])).await;
        let token = next_in(&access);
        assert_eq!(world.send(as_client("a", "/oauth2/revoke", &[("token", &subject)])).await.status(), 200);
        if used_meanwhile {
            assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant");
            assert!(!world.is_active(&token_in(&access)).await, "what came out of it ends, too");
        }
        for later in [3_700, 80_000] {
            world.clock.set(NOW + later);
            assert_eq!(
                world.send(refresh("b", &token, &[])).await.error(),
                "invalid_grant",
                "{used_meanwhile} {later}"
            );
        }
    }
    // A consent that is taken back and given again does not bring it back either.
    let (world, token, _) = world().await;
    let mut a = full_client("a");
    world.directory.put(&a).await;
    world.clock.set(NOW + 60);
    assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant");
    a.may_act = vec!["b".to_owned()];
    world.directory.put(&a).await;
    world.clock.set(NOW + 120);
    assert_eq!(world.send(refresh("b", &token, &[])).await.error(), "invalid_grant");
}

/// What is remembered of a client may be older than its consent: that ends no family.
#[tokio::test]
async fn a_new_consent_counts_before_a_family_is_ended() {
    let (world, token, _) = world().await;
    world.directory.put(&full_client("a")).await;
    world.clock.set(NOW + 60);
    assert!(!world.is_active(&token).await, "remembered now: a lets nobody act");
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned()];
    world.directory.put(&a).await;
    assert_eq!(world.send(refresh("b", &token, &[])).await.status(), 200);
}

/// Otherwise each exchange would begin a family with an end of its own, and the first one's end would mean nothing.
#[tokio::test]
async fn no_family_comes_out_of_a_family_or_an_api_key() {
    let (world, token, _) = world().await;
    let wanted = [("requested_token_type", REFRESH_TOKEN)];
    let refreshed = token_in(&world.send(refresh("b", &token, &[])).await);
    let exchanged = token_in(&world.send(exchange("b", &refreshed, &[])).await);
    let key = world.key("b", 1, |record| record.expires_at = Some(NOW + 1_000)).await;
    let of_key = token_in(&world.send(exchange_key(&key, &[])).await);
    let of_that = token_in(&world.send(exchange("b", &of_key, &[])).await);
    for (name, subject) in
        [("refreshed", refreshed), ("exchanged", exchanged), ("of a key", of_key), ("of that", of_that)]
    {
        let answer = world.send(exchange("b", &subject, &wanted)).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{name}: {answer:?}");
        assert_eq!(world.send(exchange("b", &subject, &[])).await.status(), 200, "{name}: an access token does");
    }
}

/// Verifiers accept a token for a minute after its end, because clocks differ.
#[tokio::test]
async fn what_ended_just_now_is_revoked_with_the_family() {
    let (world, first, _) = world().await;
    assert_eq!(world.send(refresh("b", &first, &[])).await.status(), 200);
    world.clock.set(NOW + 630);
    let second = world.send(refresh("b", &first, &[])).await;
    assert_eq!(second.error(), "invalid_grant", "used twice");
    let entries = world.directory.store.table("revocations").page(None, 10).await.unwrap().records;
    let tokens: Vec<_> = entries.iter().filter(|(id, _)| id.starts_with("token#")).collect();
    assert_eq!(tokens.len(), 1, "{entries:?}");
    assert!(tokens[0].1.expires_at > Some(NOW + 660), "{entries:?}");
}

#[tokio::test]
async fn may_act_is_what_the_record_says_now() {
    let (world, token, _) = world().await;
    let first = world.send(refresh("b", &token, &[])).await;
    assert_eq!(first.claims()["may_act"], json!({"sub": "client:b"}));
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned(), "c".to_owned()];
    world.directory.put(&a).await;
    world.clock.set(NOW + 60);
    let second = world.send(refresh("b", &next_in(&first), &[])).await;
    assert_eq!(second.claims()["may_act"], json!({"subs": ["client:b", "client:c"]}));
    assert_eq!(world.send(exchange("c", &token_in(&second), &[])).await.status(), 200);
    a.may_act = vec!["b".to_owned()];
    world.directory.put(&a).await;
    world.clock.set(NOW + 120);
    let third = world.send(refresh("b", &next_in(&second), &[])).await;
    assert_eq!(world.send(exchange("c", &token_in(&third), &[])).await.error(), "invalid_request");
}

#[tokio::test]
async fn what_the_api_key_has_lost_is_not_granted() {
    let world = World::of(&[full_client("b"), watcher()]).await;
    let change = |record: &mut authz::ApiKeyRecord| {
        record.scope = "reviews.read reviews.write".to_owned();
        record.audiences.push("https://api.bookinfo.example".to_owned());
    };
    let key = world.key("b", 1, change).await;
    let begin = as_client(
        "b",
        "/oauth2/token",
        &[
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", &key),
            ("subject_token_type", API_KEY),
            ("requested_token_type", REFRESH_TOKEN),
        ],
    );
    let token = token_in(&world.send(begin).await);
    let first = world.send(refresh("b", &token, &[])).await;
    assert_eq!(first.claims()["aud"], json!(["bookinfo", "https://api.bookinfo.example"]));
    let id = key[8..20].to_owned();
    let table = world.directory.store.table(platform::store::API_KEYS);
    let mut record: authz::ApiKeyRecord = serde_json::from_str(&table.get(&id).await.unwrap().unwrap().json).unwrap();
    record.scope = "reviews.read".to_owned();
    record.audiences = vec!["bookinfo".to_owned()];
    record.expires_at = Some(NOW + 100);
    world.put_key(&id, &record).await;
    let second = world.send(refresh("b", &next_in(&first), &[])).await;
    let claims = second.claims();
    assert_eq!((&claims["scope"], &claims["aud"]), (&json!("reviews.read"), &json!("bookinfo")));
    assert_eq!(claims["exp"], NOW + 100);
}
