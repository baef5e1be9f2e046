//! Token exchange (RFC 8693): every error, and that nothing is ever widened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::grants::*;
use common::keys::TestKey;
use common::*;
use key_issuer::{ClientRecord, ClientState};
use proptest::prelude::*;
use serde_json::{Value, json};

const TOKEN: &str = "/oauth2/token";

/// `a`, in whose name `b` and `c` may act; `d`, who may not.
async fn world() -> World {
    let mut a = full_client("a");
    a.may_act = vec!["b".to_owned(), "c".to_owned()];
    let mut b = full_client("b");
    b.may_act = vec!["c".to_owned()];
    (b.scopes, b.audiences) = (vec!["reviews.read".to_owned()], vec!["reviews".to_owned(), "ratings".to_owned()]);
    World::of(&[a, b, full_client("c"), full_client("d"), watcher()]).await
}

fn proof(key: &TestKey, jti: &str) -> Value {
    json!(key.proof(&json!({"jti": jti, "htm": "POST", "htu": format!("{ISSUER}{TOKEN}"), "iat": NOW})))
}

fn jti_of(token: &str) -> String {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice::<Value>(&payload).unwrap()["jti"].as_str().unwrap().to_owned()
}

/// Revoking a token ends all that came out of it, through however many exchanges; what it came from goes on.
#[tokio::test]
async fn what_came_out_of_a_revoked_token_ends() {
    let world = world().await;
    let mut tokens = vec![world.token("a", &[]).await];
    for client in ["a", "b", "b", "c", "c", "c", "c", "c"] {
        tokens.push(token_in(&world.send(exchange(client, tokens.last().unwrap(), &[])).await));
    }
    let ninth = world.send(exchange("c", &tokens[8], &[])).await;
    assert_eq!((ninth.status(), ninth.error().as_str()), (400, "invalid_request"), "each is looked up: {ninth:?}");
    assert_eq!(world.send(as_client("b", "/oauth2/revoke", &[("token", &tokens[3])])).await.status(), 200);
    for (place, token) in tokens.iter().enumerate() {
        assert_eq!(world.is_active(token).await, place < 3, "{place}");
    }
    assert_eq!(world.send(exchange("c", &tokens[4], &[])).await.error(), "invalid_request");
    // A client through whose hands it came.
    let other = token_in(&world.send(exchange("b", &tokens[0], &[])).await);
    let through = token_in(&world.send(exchange("c", &other, &[])).await);
    assert!(world.is_active(&through).await);
    world.list("client", "b", json!({"until": NOW + 3_600})).await;
    assert!(!world.is_active(&through).await && world.is_active(&tokens[0]).await);
}

#[tokio::test]
async fn a_client_makes_its_own_token_narrower() {
    let world = world().await;
    let subject = world.token("a", &[("audience", "bookinfo")]).await;
    world.lines.drain();
    let answer = world.send(exchange("a", &subject, &[("scope", "reviews.read")])).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let body = answer.json();
    let members: BTreeSet<&str> = body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(members, BTreeSet::from(["access_token", "issued_token_type", "token_type", "expires_in", "scope"]));
    assert_eq!((&body["issued_token_type"], &body["token_type"]), (&json!(ACCESS_TOKEN), &json!("Bearer")));
    assert_eq!((&body["scope"], &body["expires_in"]), (&json!("reviews.read"), &json!(600)));
    let audit = world.audit();
    assert_eq!((&audit["event"], &audit["grant"]), (&json!("token_issued"), &json!("token_exchange")));
    assert_eq!((&audit["client_id"], &audit["subject"]), (&json!("a"), &json!("client:a")));
    let mut claims = answer.claims();
    assert_ne!(claims["jti"].take(), Value::Null);
    assert_eq!(
        claims,
        json!({"iss": ISSUER, "sub": "client:a", "aud": "bookinfo", "exp": NOW + 600, "iat": NOW, "nbf": NOW - 5,
            "jti": null, "client_id": "a", "azp": "a", "scope": "reviews.read", "ancestors": [jti_of(&subject)],
            "may_act": {"subs": ["client:b", "client:c"]}})
    );
    // What was given up is gone.
    let narrow = token_in(&answer);
    let wider = world.send(exchange("a", &narrow, &[("scope", "reviews.write")])).await;
    assert_eq!(wider.error(), "invalid_scope");
}

/// The four cases in which Keycloak was found to let others through (issue 50690): an actor that is not named, no actor
/// at all, a token without `may_act`, and an exchange that does not say who acts.
#[tokio::test]
async fn may_act_is_enforced() {
    let world = world().await;
    let named = world.token("a", &[]).await;
    let silent = world.token("d", &[]).await;
    for (name, requester, subject, with_actor) in [
        ("an actor that is not named", "d", &named, true),
        ("no actor, not named", "d", &named, false),
        ("no may_act, an actor", "b", &silent, true),
        ("no may_act, no actor", "b", &silent, false),
    ] {
        let actor = world.token(requester, &[]).await;
        let more = [("actor_token", actor.as_str()), ("actor_token_type", ACCESS_TOKEN)];
        let answer = world.send(exchange(requester, subject, if with_actor { &more } else { &[] })).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{name}");
        assert!(answer.body().contains("does not name the client in may_act"), "{name}: {answer:?}");
    }
    for with_actor in [false, true] {
        let actor = world.token("b", &[]).await;
        let more = [("actor_token", actor.as_str()), ("actor_token_type", JWT)];
        let answer = world.send(exchange("b", &named, if with_actor { &more } else { &[] })).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let claims = answer.claims();
        assert_eq!(
            (&claims["sub"], &claims["client_id"], &claims["azp"]),
            (&json!("client:a"), &json!("b"), &json!("b"))
        );
        assert_eq!(claims["act"], json!({"sub": "client:b"}));
        assert_eq!((&claims["scope"], &claims["aud"]), (&json!("reviews.read"), &json!("reviews")));
    }
}

#[tokio::test]
async fn chains_of_actors_are_nested_and_bounded() {
    let world = world().await;
    let mut token = world.token("a", &[]).await;
    let mut expected = Value::Null;
    for actor in ["b", "c", "b", "c"] {
        let answer = world.send(exchange(actor, &token, &[])).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        expected = if expected.is_null() {
            json!({"sub": format!("client:{actor}")})
        } else {
            json!({"sub": format!("client:{actor}"), "act": expected})
        };
        assert_eq!((&answer.claims()["act"], &answer.claims()["sub"]), (&expected, &json!("client:a")));
        token = token_in(&answer);
    }
    // The last one may make it narrower still, and nobody may be the fifth.
    let narrower = world.send(exchange("c", &token, &[("scope", "reviews.read")])).await;
    assert_eq!(narrower.claims()["act"], expected);
    let fifth = world.send(exchange("b", &token, &[])).await;
    assert_eq!((fifth.status(), fifth.error().as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn targets_come_from_the_record_of_the_requester() {
    let world = world().await;
    let subject = world.token("a", &[("audience", "bookinfo")]).await;
    for (requester, more, expected) in [
        ("b", vec![], json!("reviews")),
        ("b", vec![("audience", "ratings")], json!("ratings")),
        ("b", vec![("audience", "ratings"), ("audience", "reviews")], json!(["ratings", "reviews"])),
        ("c", vec![], json!("bookinfo")),
        ("a", vec![("resource", "https://api.bookinfo.example")], json!("https://api.bookinfo.example")),
    ] {
        let answer = world.send(exchange(requester, &subject, &more)).await;
        assert_eq!(answer.status(), 200, "{requester} {more:?}: {answer:?}");
        assert_eq!(answer.claims()["aud"], expected, "{requester} {more:?}");
    }
    let answer = world.send(exchange("b", &subject, &[("audience", "bookinfo")])).await;
    assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_target"), "b is not for bookinfo");
}

#[tokio::test]
async fn nothing_outlives_its_subject() {
    let world = world().await;
    let subject = world.token("a", &[]).await;
    world.clock.set(NOW + 500);
    let answer = world.send(exchange("b", &subject, &[])).await;
    assert_eq!((&answer.json()["expires_in"], &answer.claims()["exp"]), (&json!(100), &json!(NOW + 600)));
    let second = token_in(&answer);
    world.clock.set(NOW + 600);
    for token in [subject, second] {
        assert_eq!(world.send(exchange("b", &token, &[])).await.error(), "invalid_request");
    }
}

#[tokio::test]
async fn requested_types() {
    let world = world().await;
    let subject = world.token("a", &[]).await;
    for (requested, status, issued) in [
        (ACCESS_TOKEN, 200, json!(ACCESS_TOKEN)),
        (JWT, 200, json!(JWT)),
        ("", 200, json!(ACCESS_TOKEN)),
        (REFRESH_TOKEN, 200, json!(REFRESH_TOKEN)),
        ("urn:ietf:params:oauth:token-type:id_token", 400, Value::Null),
        ("urn:ietf:params:oauth:token-type:saml2", 400, Value::Null),
        ("access_token", 400, Value::Null),
    ] {
        let answer = world.send(exchange("a", &subject, &[("requested_token_type", requested)])).await;
        assert_eq!((answer.status(), &answer.json()["issued_token_type"]), (status, &issued), "{requested}");
        if status == 400 {
            assert_eq!(answer.error(), "invalid_request", "{requested}");
        }
    }
    let as_jwt = as_client(
        "a",
        TOKEN,
        &[("grant_type", TOKEN_EXCHANGE), ("subject_token", &subject), ("subject_token_type", JWT)],
    );
    assert_eq!(world.send(as_jwt).await.status(), 200);
}

#[tokio::test]
async fn a_bound_token_is_bound_again_or_refused() {
    let world = world().await;
    let (first, second) = (TestKey::new("ES256"), TestKey::new("EdDSA"));
    let mut event = as_client("a", TOKEN, &[("grant_type", "client_credentials")]);
    event["headers"]["dpop"] = proof(&first, "1");
    let subject = world.send(event).await;
    let bound = token_in(&subject);
    for requester in ["a", "b"] {
        let answer = world.send(exchange(requester, &bound, &[])).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{requester}");
        let mut event = exchange(requester, &bound, &[]);
        event["headers"]["dpop"] = proof(&second, requester);
        let answer = world.send(event).await;
        assert_eq!((answer.status(), &answer.json()["token_type"]), (200, &json!("DPoP")), "{answer:?}");
        let cnf = answer.claims()["cnf"].clone();
        assert!(cnf["jkt"].is_string() && cnf != subject.claims()["cnf"], "{requester}");
    }
    // A refresh token does not take the binding off.
    let more = [("requested_token_type", REFRESH_TOKEN)];
    assert_eq!(world.send(exchange("b", &bound, &more)).await.status(), 400);
    let mut event = exchange("b", &bound, &more);
    event["headers"]["dpop"] = proof(&second, "refresh");
    let refresh = token_in(&world.send(event).await);
    let event = || as_client("b", TOKEN, &[("grant_type", "refresh_token"), ("refresh_token", &refresh)]);
    assert_eq!(world.send(event()).await.error(), "invalid_request");
    let mut with_proof = event();
    with_proof["headers"]["dpop"] = proof(&second, "refreshed");
    assert_eq!(world.send(with_proof).await.json()["token_type"], "DPoP", "and it was not used up");
}

#[tokio::test]
async fn what_was_taken_back_is_no_subject_and_no_actor() {
    for (kind, id, entry) in [
        ("token", "", json!({"until": NOW + 600})),
        ("client", "a", json!({"until": NOW + 600})),
        ("before", "a", json!({"until": NOW + 600, "before": NOW + 1})),
    ] {
        let world = world().await;
        let subject = world.send(as_client("a", TOKEN, &[("grant_type", "client_credentials")])).await;
        let exchanged = world.send(exchange("b", &token_in(&subject), &[])).await;
        let id = if id.is_empty() { subject.claims()["jti"].as_str().unwrap().to_owned() } else { id.to_owned() };
        world.list(kind, &id, entry).await;
        let answer = world.send(exchange("b", &token_in(&subject), &[])).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, "invalid_request"), "{kind}");
        // What b has of it is gone with it.
        let second = world.send(exchange("c", &token_in(&exchanged), &[])).await.status();
        assert_eq!(second, 400, "{kind}");
    }
    let world = world().await;
    let (subject, actor) = (world.token("a", &[]).await, world.token("b", &[]).await);
    let revoked = world.send(as_client("b", "/oauth2/revoke", &[("token", &actor)])).await;
    assert_eq!(revoked.status(), 200);
    let more = [("actor_token", actor.as_str()), ("actor_token_type", ACCESS_TOKEN)];
    assert_eq!(world.send(exchange("b", &subject, &more)).await.error(), "invalid_request");

    let mut disabled = full_client("a");
    disabled.state = ClientState::Disabled;
    world.directory.put(&disabled).await;
    world.clock.set(NOW + 60);
    assert_eq!(world.send(exchange("b", &subject, &[])).await.error(), "invalid_request", "a is disabled");
}

#[tokio::test]
async fn every_error() {
    let world = world().await;
    let mut no_grant = full_client("no-grant");
    no_grant.grants = vec!["client_credentials".to_owned()];
    let mut no_refresh = full_client("no-refresh");
    no_refresh.grants = vec![TOKEN_EXCHANGE.to_owned(), "client_credentials".to_owned()];
    world.directory.put(&no_grant).await;
    world.directory.put(&no_refresh).await;
    let subject = world.token("a", &[]).await;
    let own = |id: &'static str| world.token(id, &[]);
    let (b, c, of_no_grant, of_no_refresh) =
        (own("b").await, own("c").await, own("no-grant").await, own("no-refresh").await);
    let delegated = token_in(&world.send(exchange("c", &subject, &[])).await);
    let of_b = token_in(&world.send(exchange("c", &b, &[])).await);
    let foreign = World::of(&[full_client("a")]).await.token("a", &[]).await;
    let refresh = token_in(&world.send(exchange("a", &subject, &[("requested_token_type", REFRESH_TOKEN)])).await);
    let request = |parameters: &[(&str, &str)]| {
        let mut all = vec![("grant_type", TOKEN_EXCHANGE)];
        all.extend_from_slice(parameters);
        as_client("b", TOKEN, &all)
    };
    let more = |more: &[(&str, &str)]| exchange("b", &subject, more);
    let actor = |token: &str| exchange("b", &subject, &[("actor_token", token), ("actor_token_type", ACCESS_TOKEN)]);
    let typed = |token: &str, kind: &str| request(&[("subject_token", token), ("subject_token_type", kind)]);
    for (name, event, error) in [
        ("nothing", request(&[]), "invalid_request"),
        ("no type", request(&[("subject_token", &subject)]), "invalid_request"),
        ("no token", request(&[("subject_token_type", ACCESS_TOKEN)]), "invalid_request"),
        ("a type of its own", typed(&subject, "jwt"), "invalid_request"),
        ("an id token", typed(&subject, "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"),
        ("a token as an API key", typed(&subject, API_KEY), "invalid_request"),
        ("a refresh token", typed(&refresh, REFRESH_TOKEN), "invalid_request"),
        ("a refresh token as an access token", typed(&refresh, ACCESS_TOKEN), "invalid_request"),
        ("of another issuer", typed(&foreign, ACCESS_TOKEN), "invalid_request"),
        ("no token at all", typed("x", JWT), "invalid_request"),
        ("longer than any", typed(&"x".repeat(9_000), JWT), "invalid_request"),
        ("actor without type", more(&[("actor_token", &b)]), "invalid_request"),
        ("type without actor", more(&[("actor_token_type", ACCESS_TOKEN)]), "invalid_request"),
        ("unknown actor type", more(&[("actor_token", &b), ("actor_token_type", API_KEY)]), "invalid_request"),
        ("another's actor token", actor(&c), "invalid_request"),
        ("an actor token that another has", actor(&of_b), "invalid_request"),
        ("an actor token of another issuer", actor(&foreign), "invalid_request"),
        (
            "an actor that acts itself",
            exchange("c", &subject, &[("actor_token", &delegated), ("actor_token_type", JWT)]),
            "invalid_request",
        ),
        ("nobody to act for", exchange("b", &b, &[("actor_token", &b), ("actor_token_type", JWT)]), "invalid_request"),
        ("scope of the subject alone", more(&[("scope", "reviews.write")]), "invalid_scope"),
        ("scope of nobody", more(&[("scope", "x")]), "invalid_scope"),
        ("scope without form", more(&[("scope", "a  b")]), "invalid_scope"),
        ("audience of nobody", more(&[("audience", "x")]), "invalid_target"),
        ("resource without form", more(&[("resource", "reviews")]), "invalid_request"),
        ("resource of nobody", more(&[("resource", "https://x.example")]), "invalid_target"),
        ("no grant", exchange("no-grant", &of_no_grant, &[]), "unauthorized_client"),
        (
            "no refresh",
            exchange("no-refresh", &of_no_refresh, &[("requested_token_type", REFRESH_TOKEN)]),
            "unauthorized_client",
        ),
        ("twice", more(&[("subject_token", &subject)]), "invalid_request"),
    ] {
        world.lines.drain();
        let answer = world.send(event).await;
        assert_eq!((answer.status(), answer.error().as_str()), (400, error), "{name}: {answer:?}");
        for credential in [&subject, &b, &c, &foreign, &refresh] {
            assert!(!world.lines.all().concat().contains(credential.as_str()), "{name}");
        }
    }
    let mut wrong = more(&[]);
    wrong["headers"]["Authorization"] = json!(basic("b", "wrong"));
    assert_eq!(world.send(wrong).await.status(), 401);
    assert_eq!(world.send(exchange("b", &subject, &[])).await.status(), 200);
    world.directory.out.store(true, Ordering::Relaxed);
    let answer = world.send(exchange("b", &subject, &[])).await;
    assert_eq!((answer.status(), answer.header("Retry-After")), (503, Some("5")), "revocations that cannot be read");
}

#[derive(Clone, Debug)]
struct Step {
    requester: usize,
    scope: Option<Vec<&'static str>>,
    audience: Vec<&'static str>,
    wait: u64,
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 0..=of.len())
}

fn any_client(id: &'static str) -> impl Strategy<Value = ClientRecord> {
    let ttl = proptest::option::of(60_u64..900);
    (some(&["r", "w", "x"]), some(&["one", "two"]), some(&NAMES), ttl).prop_map(
        move |(scopes, audiences, may_act, ttl)| {
            let own = |list: Vec<&str>| list.into_iter().map(str::to_owned).collect::<Vec<_>>();
            let mut record = full_client(id);
            (record.scopes, record.audiences, record.may_act) = (own(scopes), own(audiences), own(may_act));
            record.token_ttl_seconds = ttl;
            record
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    let scope = proptest::option::of(some(&["r", "w", "x"]));
    (0..NAMES.len(), scope, some(&["one", "two"]), 0_u64..200).prop_map(|(requester, scope, audience, wait)| Step {
        requester,
        scope,
        audience,
        wait,
    })
}

fn words(claim: &Value) -> BTreeSet<String> {
    match claim {
        Value::String(text) => text.split(' ').map(str::to_owned).collect(),
        Value::Array(list) => list.iter().map(|item| item.as_str().unwrap().to_owned()).collect(),
        _ => BTreeSet::new(),
    }
}

fn within(inner: &BTreeSet<String>, outer: &[String]) -> bool {
    inner.iter().all(|word| outer.contains(word))
}

fn actors(act: &Value) -> usize {
    std::iter::successors(act.as_object().map(|_| act), |act| act.get("act")).count()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Random clients pass a token on in a random way. Whatever is answered: the subject stays, nothing gets wider or
    /// longer, and whoever has a token of somebody else was named and stands in it.
    #[test]
    fn no_chain_of_exchanges_widens_anything(
        a in any_client("a"), b in any_client("b"), c in any_client("c"), d in any_client("d"),
        steps in proptest::collection::vec(any_step(), 1..8),
    ) {
        let clients = [a, b, c, d];
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = World::of(&clients).await;
            let first = world.send(as_client("a", TOKEN, &[("grant_type", "client_credentials")])).await;
            if clients[0].audiences.is_empty() {
                prop_assert_eq!(first.error(), "invalid_target");
                return Ok(());
            }
            let (mut token, mut claims, mut now) = (token_in(&first), first.claims(), NOW);
            for step in steps {
                now += step.wait;
                world.clock.set(now);
                let requester = &clients[step.requester];
                let scope = step.scope.as_ref().map(|scope| scope.join(" "));
                let mut more: Vec<(&str, &str)> = step.audience.iter().map(|audience| ("audience", *audience)).collect();
                more.extend(scope.as_deref().map(|scope| ("scope", scope)));
                let answer = world.send(exchange(&requester.client_id, &token, &more)).await;
                if answer.status() != 200 {
                    prop_assert_eq!(answer.status(), 400, "{:?}", answer);
                    let error = answer.error();
                    prop_assert!(["invalid_request", "invalid_scope", "invalid_target"].contains(&error.as_str()));
                    continue;
                }
                let new = answer.claims();
                prop_assert_eq!(&new["sub"], &claims["sub"]);
                prop_assert_eq!(&new["client_id"], &json!(requester.client_id));
                prop_assert!(new["exp"].as_u64() <= claims["exp"].as_u64() && new["exp"].as_u64().unwrap() > now);
                prop_assert!(words(&new["scope"]).is_subset(&words(&claims["scope"])));
                prop_assert!(within(&words(&new["scope"]), &requester.scopes));
                prop_assert!(within(&words(&new["aud"]), &requester.audiences) && !words(&new["aud"]).is_empty());
                prop_assert_eq!(&new["may_act"], &claims["may_act"]);
                if new["client_id"] == claims["client_id"] {
                    prop_assert_eq!(&new["act"], &claims["act"]);
                } else {
                    prop_assert!(clients[0].may_act.contains(&requester.client_id));
                    prop_assert_eq!(&new["act"]["sub"], &json!(format!("client:{}", requester.client_id)));
                    prop_assert_eq!(&new["act"]["act"], &claims["act"]);
                    prop_assert!(actors(&new["act"]) <= 4);
                }
                (token, claims) = (token_in(&answer), new);
            }
            Ok(())
        })?;
    }
}
