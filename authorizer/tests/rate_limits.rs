//! Rate limits at the authorizer: whose tokens are taken when, and what API Gateway is told when there is none.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use authorizer::event::ResponseKind;
use authorizer::{ApiKeyStore, Authorizer, Config, Deps};
use authz::api::{Access, Api, ApiKind, ApiSet, Route, Text, VERSION};
use platform::BoxFuture;
use platform::clock::FixedClock;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use platform::metrics::Emf;
use platform::rate_limit::{InMemory, Outage, RateLimits, RateTable, RateTableError, Update, Updated};
use platform::secrets;
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};
use support::issuer::{ISSUER, Issuer, NOW, reader, with};
use support::{KINDS, api_key, fixture, record, with_header, with_token};

/// Three requests at once, and one a minute.
const LIMIT: &str = "1/m,3";

struct World {
    authorizer: Authorizer,
    issuer: Issuer,
    clock: Arc<FixedClock>,
    lines: Lines,
}

impl World {
    async fn new(response: ResponseKind) -> Self {
        Self::over(response, Arc::new(InMemory::default()), Outage::Allow).await
    }

    async fn over(response: ResponseKind, table: Arc<dyn RateTable>, outage: Outage) -> Self {
        let issuer = Issuer::new();
        let (log, lines) = Log::memory();
        let clock = Arc::new(FixedClock::at(NOW));
        let records = store::Embedded::in_memory();
        ApiKeys::put(&records, &record(&api_key("dev", 1))).await.unwrap();
        let secrets = secrets::Embedded::default();
        secrets.put("pepper", support::PEPPER);
        let (records, secrets) = (Arc::new(records), Arc::new(secrets));
        let deps = Deps {
            api_keys: Some(ApiKeyStore { records, secrets, pepper_id: "pepper".to_owned() }),
            jwks: Arc::new(JwksSource::new(clock.clone())),
            revocations: Default::default(),
            rate_limits: Some(RateLimits { table, limit: LIMIT.parse().unwrap(), outage }),
            clock: clock.clone(),
            log: log.with_metrics(Some(Emf::new("authorizer", Some("dev")))),
        };
        let config = Config {
            bundle: "unused".into(),
            response,
            environment: None,
            token_header: "authorization".to_owned(),
            api_keys: None,
            jwks: JwksSettings::default(),
            metrics: None,
            revocations: None,
            rate_limits: None,
            shadow: None,
        };
        let authorizer =
            Authorizer::with_apis(config, support::policies(&issuer), Some(Arc::new(routes())), deps).unwrap();
        Self { authorizer, issuer, clock, lines }
    }

    /// The answer and the decision's line.
    async fn ask(&self, event: &Value) -> (Option<Value>, Value) {
        self.lines.drain();
        let answer = self.authorizer.handle(event).await.ok();
        let lines = self.lines.drain();
        let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
        (answer, lines.into_iter().find(|line| line["event"] == "decision").unwrap())
    }

    /// The reasons of so many requests.
    async fn reasons(&self, event: &Value, requests: usize) -> Vec<String> {
        let mut reasons = Vec::new();
        for _ in 0..requests {
            reasons.push(self.ask(event).await.1["reason"].as_str().unwrap().to_owned());
        }
        reasons
    }

    fn event(&self, name: &str, claims: &Value) -> Value {
        with_token(fixture(name), &self.issuer.token(claims))
    }
}

/// The routes of the API, of which an IAM answer names those that the caller is allowed on.
fn routes() -> Vec<u8> {
    let route = |path: &str| Route {
        method: "GET".to_owned(),
        path: path.to_owned(),
        access: Access::Elsewhere("ImportValue central".to_owned()),
        file: String::new(),
        line: 1,
    };
    let api = Api {
        reference: Text::Opaque("ImportValue Api".to_owned()),
        file: String::new(),
        line: 1,
        kind: Some(ApiKind::Http),
        stages: vec![Text::Known("$default".to_owned())],
        authorizers: Vec::new(),
        routes: vec![route("/reviews/{id}"), route("/public")],
    };
    ApiSet { version: VERSION, apis: vec![api] }.write().unwrap()
}

fn words(reasons: &[(&str, usize)]) -> Vec<String> {
    reasons.iter().flat_map(|(word, times)| vec![(*word).to_owned(); *times]).collect()
}

#[tokio::test]
async fn every_kind_of_event_is_limited_and_answered_403() {
    for name in KINDS {
        let world = World::new(ResponseKind::Simple).await;
        let event = world.event(name, &reader());
        assert_eq!(world.reasons(&event, 3).await, words(&[("allowed_by_policy", 3)]), "{name}");
        let (answer, line) = world.ask(&event).await;
        let answer = answer.unwrap();
        if name.starts_with("http-2.0") {
            assert_eq!(answer["isAuthorized"], false, "{name}");
        } else {
            assert_eq!(answer["policyDocument"]["Statement"][0]["Effect"], "Deny", "{name}");
        }
        assert_eq!(answer["context"]["reason"], "rate_limited", "{name}");
        assert_eq!(answer["context"]["principal"], "", "{name}: nothing of the caller is handed on");
        assert_eq!(
            (&line["allowed"], &line["status"], &line["reason"]),
            (&json!(false), &json!(403), &json!("rate_limited"))
        );
        assert_eq!(
            (&line["client_id"], &line["principal"]),
            (&json!("reader"), &json!(format!("{ISSUER}/client:reader")))
        );
        assert_eq!(line["detail"], "the client's limit of 1/m,3 is used up");
        assert_eq!((&line["Decisions"], &line["Denied"]), (&json!(1), &json!(1)));
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.reasons(&event, 2).await, ["allowed_by_policy", "rate_limited"], "{name}");
    }
}

#[tokio::test]
async fn what_is_denied_or_public_takes_no_token() {
    let world = World::new(ResponseKind::Simple).await;
    let event = world.event("http-2.0", &reader());
    let mut other_method = event.clone();
    other_method["requestContext"]["http"]["method"] = "PUT".into();
    assert_eq!(world.reasons(&other_method, 10).await, words(&[("denied_no_match", 10)]));
    let expired = world.event("http-2.0", &with(reader(), "exp", (NOW - 1_000).into()));
    assert_eq!(world.reasons(&expired, 10).await, words(&[("token_expired", 10)]));

    let mut public = fixture("http-2.0");
    public["rawPath"] = "/public".into();
    public["requestContext"]["http"]["path"] = "/public".into();
    let reasons = world.reasons(&public, 10).await;
    assert_eq!(reasons, words(&[("allowed_by_policy", 10)]), "nobody is proven, so nobody is limited");

    assert_eq!(world.reasons(&event, 4).await, words(&[("allowed_by_policy", 3), ("rate_limited", 1)]));
}

#[tokio::test]
async fn a_clients_tokens_and_keys_have_one_bucket() {
    let world = World::new(ResponseKind::Simple).await;
    let token = world.event("http-2.0", &reader());
    let other_token = world.event("http-2.0", &with(reader(), "sub", "somebody else".into()));
    let key = with_header(fixture("http-2.0"), "x-api-key", api_key("dev", 1).text().expose());
    let mut reasons = Vec::new();
    for event in [&token, &key, &other_token, &key, &token] {
        reasons.extend(world.reasons(event, 1).await);
    }
    assert_eq!(reasons, words(&[("allowed_by_policy", 3), ("rate_limited", 2)]));

    // Another client, a caller that is no client, and each of them once more.
    let mut person = with(reader(), "sub", "ann".into());
    for claim in ["client_id", "azp"] {
        person.as_object_mut().unwrap().remove(claim);
    }
    for claims in [with(reader(), "client_id", "writer".into()), person.clone(), with(person, "sub", "bob".into())] {
        let event = world.event("http-2.0", &claims);
        assert_eq!(world.reasons(&event, 4).await, words(&[("allowed_by_policy", 3), ("rate_limited", 1)]), "{claims}");
    }
}

#[tokio::test]
async fn another_environment_has_another_bucket() {
    let world = World::new(ResponseKind::Simple).await;
    let dev = world.event("http-2.0", &reader());
    let prod = world.event("http-2.0-stage", &reader());
    assert_eq!(world.reasons(&dev, 4).await, words(&[("allowed_by_policy", 3), ("rate_limited", 1)]));
    assert_eq!(world.reasons(&prod, 4).await, words(&[("allowed_by_policy", 3), ("rate_limited", 1)]));
}

#[tokio::test]
async fn an_iam_answer_is_for_its_request_alone() {
    let world = World::new(ResponseKind::Iam).await;
    let (answer, _) = world.ask(&world.event("http-2.0", &reader())).await;
    let statements = answer.unwrap()["policyDocument"]["Statement"].clone();
    assert_eq!(statements.as_array().unwrap().len(), 1, "{statements}");
    assert_eq!(statements[0]["Effect"], "Allow");
    assert!(statements[0]["Resource"].as_str().unwrap().ends_with("/GET/reviews/0"), "{statements}");
}

/// A table that nobody can reach, or with a bug.
struct Out {
    is_broken: bool,
}

impl RateTable for Out {
    fn update<'a>(&'a self, update: &'a Update<'a>) -> BoxFuture<'a, Result<Updated, RateTableError>> {
        Box::pin(async move {
            assert!(!self.is_broken, "a bug, met with {}", update.id);
            Err(RateTableError::Table { table: "limits".to_owned(), why: "cannot connect".to_owned() })
        })
    }
}

#[tokio::test]
async fn an_outage_limits_here_or_denies_as_it_was_told() {
    for (outage, expected) in [
        (Outage::Allow, words(&[("allowed_by_policy", 3), ("rate_limited", 1)])),
        (Outage::Deny, words(&[("rate_limited", 4)])),
    ] {
        let world = World::over(ResponseKind::Simple, Arc::new(Out { is_broken: false }), outage).await;
        let event = world.event("http-2.0", &reader());
        let answer = world.authorizer.handle(&event).await.unwrap();
        assert_eq!(answer["isAuthorized"], outage == Outage::Allow);
        let lines = world.lines.drain();
        assert!(lines[0].contains("rate_limits_unavailable") && lines[0].contains("cannot connect"), "{lines:?}");
        let metrics: Value = serde_json::from_str(&lines[2]).unwrap();
        assert_eq!((&metrics["RateLimitUpdates"], &metrics["RateLimitUnavailable"]), (&json!(1), &json!(1)));
        assert_eq!(world.reasons(&event, 3).await, expected[1..]);
    }
}

#[tokio::test]
async fn a_fault_of_the_limiter_denies() {
    let world = World::over(ResponseKind::Simple, Arc::new(Out { is_broken: true }), Outage::Allow).await;
    let (answer, line) = world.ask(&world.event("http-2.0", &reader())).await;
    assert_eq!((&answer.unwrap()["isAuthorized"], &line["reason"]), (&json!(false), &json!("internal")));
}
