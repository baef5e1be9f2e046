//! What a gateway denies by rules of its own, one service in shadow mode does not lift: whatever a client presents.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use authorizer::{ApiKeyStore, Config};
use authz::{CompileOptions, KeyState, Mode, ShadowMode};
use platform::secrets;
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};
use support::issuer::{Issuer, NOW, reader, with};
use support::{Down, PEPPER, World, api_key, compiled, fixture, record, with_header, with_token};

/// A blocklist at the gateway. The address of all fixtures is 203.0.113.7.
const BLOCKED: &str = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: blocked, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: ingressgateway } }
  action: DENY
  rules: [{ from: [{ source: { remoteIpBlocks: ['BLOCK'] } }] }]
";

/// The policies of the events, and the world over them with shadow mode at `workloads`.
struct Setting<'a> {
    /// What is blocked.
    block: &'a str,
    workloads: &'a str,
    /// How `jwks: 'JWKS'` reads.
    rule: &'a str,
    store_is_down: bool,
}

async fn world(issuer: Issuer, setting: &Setting<'_>) -> World {
    let text = include_str!("../../tests/fixtures/events/policies.yaml").to_owned() + BLOCKED;
    let rule = setting.rule.replace("JWKS", &issuer.jwks());
    let text = text.replace("jwks: 'JWKS'", &rule).replace("BLOCK'", &format!("{}'", setting.block));
    let policies = compiled(&text, &CompileOptions { mode: Mode::Strict, ..CompileOptions::default() });
    let records: Arc<dyn ApiKeys> = if setting.store_is_down {
        Arc::new(Down)
    } else {
        let store = store::Embedded::in_memory();
        for (seed, state) in [(1, KeyState::Active), (2, KeyState::Revoked)] {
            let record = authz::ApiKeyRecord { state, ..record(&api_key("dev", seed)) };
            ApiKeys::put(&store, &record).await.unwrap();
        }
        Arc::new(store)
    };
    let secrets = secrets::Embedded::default();
    secrets.put("pepper", PEPPER);
    let keys = ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() };
    let mode = ShadowMode::new(setting.workloads, NOW + 60).unwrap();
    World::over(policies, issuer, Some(keys), |config| Config { shadow: Some(mode), ..config })
}

fn is_let_in(answer: Option<&Value>) -> bool {
    answer.is_some_and(|answer| match answer.get("isAuthorized") {
        Some(authorized) => authorized == &Value::Bool(true),
        None => answer["policyDocument"]["Statement"][0]["Effect"] == "Allow",
    })
}

fn at(mut event: Value, path: &str) -> Value {
    event["rawPath"] = path.into();
    event["requestContext"]["http"]["path"] = path.into();
    event["routeArn"] = format!("arn:aws:execute-api:eu-central-1:1:bookinfo1/$default/GET{path}").into();
    event
}

#[tokio::test]
async fn a_blocklist_of_the_gateway_holds_for_every_caller() {
    const INLINE: &str = "jwks: 'JWKS'";
    const REQUIRED: &str = "presence: REQUIRED\n      jwks: 'JWKS'";
    // Nobody listens there.
    const GONE: &str = "jwksUri: https://127.0.0.1:1/jwks.json";
    let none = |_: &Issuer| None;
    let bearer = |token: String| Some(("authorization", format!("Bearer {token}")));
    let key = |seed| Some(("x-api-key", api_key("dev", seed).text().expose().clone()));
    type Credential<'a> = &'a dyn Fn(&Issuer) -> Option<(&'static str, String)>;
    let good_token = |issuer: &Issuer| bearer(issuer.token(&reader()));
    let good_key = |_: &Issuer| key(1);
    let rows: [(&str, Credential<'_>, &str, bool); 12] = [
        ("no_credential", &none, INLINE, false),
        ("no_credential", &|_| Some(("authorization", "Basic YTpi".to_owned())), INLINE, false),
        ("token_malformed", &|_| bearer("x".to_owned()), INLINE, false),
        ("token_expired", &|issuer| bearer(issuer.token(&with(reader(), "exp", json!(NOW - 61)))), INLINE, false),
        ("token_audience", &|issuer| bearer(issuer.token(&with(reader(), "aud", json!("x")))), INLINE, false),
        ("token_required", &none, REQUIRED, false),
        ("jwks_unavailable", &good_token, GONE, false),
        ("api_key_malformed", &|_| Some(("x-api-key", "x".to_owned())), INLINE, false),
        ("api_key_unknown", &|_| key(3), INLINE, false),
        ("api_key_revoked", &|_| key(2), INLINE, false),
        ("api_key_unavailable", &good_key, INLINE, true),
        // Of these the gateway learns who they are, and its rule is asked.
        ("denied_by_policy", &good_token, INLINE, false),
    ];
    for (reason, credential, rule, store_is_down) in rows {
        for kind in ["http-2.0", "rest-request"] {
            for (block, workloads, let_in) in [
                ("203.0.113.0/24", "bookinfo", false),
                ("203.0.113.0/24", "bookinfo/app=reviews", false),
                ("203.0.113.0/24", "bookinfo,istio-system/istio=ingressgateway", true),
                ("203.0.113.0/24", "*", true),
                ("198.51.100.0/24", "bookinfo", true),
            ] {
                let issuer = Issuer::new();
                let credential = credential(&issuer);
                let world = world(issuer, &Setting { block, workloads, rule, store_is_down }).await;
                let mut event = fixture(kind);
                event["headers"].as_object_mut().unwrap().retain(|name, _| !name.eq_ignore_ascii_case("authorization"));
                if let Some(lists) = event.get_mut("multiValueHeaders").and_then(Value::as_object_mut) {
                    lists.retain(|name, _| !name.eq_ignore_ascii_case("authorization"));
                }
                if let Some((name, value)) = credential {
                    event = with_header(event, name, &value);
                }
                let (answer, line) = world.ask(&event).await;
                assert_eq!(is_let_in(answer.as_ref()), let_in, "{reason} {kind} {block} {workloads}: {line}");
                let is_blocked = block.starts_with("203");
                if is_blocked || reason != "denied_by_policy" {
                    assert_eq!(line["reason"], reason, "{kind} {block} {workloads}: {line}");
                }
                if !let_in {
                    let detail = line["detail"].as_str().unwrap();
                    let rule = "ns[istio-system]-policy[blocked]-rule[0]";
                    assert!(detail.contains(rule) && detail.contains("not in shadow mode"), "{line}");
                    assert!(line.get("shadow").is_none(), "{line}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_path_that_the_gateway_closes_stays_closed() {
    let setting =
        |workloads| Setting { block: "198.51.100.0/24", workloads, rule: "jwks: 'JWKS'", store_is_down: false };
    for (workloads, path, let_in) in [
        ("bookinfo", "/reviews/admin", false),
        ("bookinfo", "/reviews/admins", false),
        ("bookinfo", "/reviews/0", true),
        ("bookinfo,istio-system", "/reviews/admin", true),
        ("istio-system", "/reviews/admin", false),
    ] {
        let world = world(Issuer::new(), &setting(workloads)).await;
        let bare = at(fixture("http-2.0"), path);
        let wrong_scope = world.issuer.token(&with(reader(), "scope", json!("")));
        let good = world.issuer.token(&reader());
        for event in [
            bare.clone(),
            with_token(bare.clone(), "x"),
            with_token(bare.clone(), &wrong_scope),
            with_header(bare.clone(), "x-api-key", "x"),
            with_header(bare.clone(), "x-api-key", api_key("dev", 2).text().expose()),
            with_header(bare.clone(), "x-api-key", api_key("dev", 3).text().expose()),
        ] {
            let (answer, line) = world.ask(&event).await;
            assert_eq!(is_let_in(answer.as_ref()), let_in, "{workloads} {path}: {line}");
        }
        // Who is allowed everywhere needs no shadow mode, and who has a good credential is closed out as well.
        let (answer, line) = world.ask(&with_token(bare, &good)).await;
        assert_eq!(is_let_in(answer.as_ref()), let_in, "{workloads} {path}: {line}");
    }
}
