//! An authorizer over the policies of `tests/fixtures/events/policies.yaml`, with stores that can be made to fail.

#![allow(dead_code, unreachable_pub, reason = "each test suite uses a part of it")]

#[path = "../../../tests/fixtures/issuer.rs"]
pub mod issuer;

use std::sync::Arc;

use authorizer::{ApiKeyStore, Authorizer, Config, Deps};
use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use identity::Secret;
use platform::BoxFuture;
use platform::clock::FixedClock;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use platform::secrets;
use platform::store::{self, ApiKeys, StoreError};
use serde_json::Value;

use issuer::{Issuer, NOW};

pub const PEPPER: &str = "a pepper of the tests";

/// The authorizer, and what a test needs of its surroundings.
pub struct World {
    pub authorizer: Authorizer,
    pub issuer: Issuer,
    pub lines: Lines,
}

impl World {
    /// With one good key of the client `reader` in the store.
    pub async fn new() -> Self {
        let store = store::Embedded::in_memory();
        ApiKeys::put(&store, &record(&api_key("dev", 1))).await.unwrap();
        Self::with(Arc::new(store), |config| config)
    }

    pub fn with(records: Arc<dyn ApiKeys>, configure: impl FnOnce(Config) -> Config) -> Self {
        let issuer = Issuer::new();
        let secrets = secrets::Embedded::default();
        secrets.put("pepper", PEPPER);
        let keys = ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() };
        Self::over(policies(&issuer), issuer, Some(keys), configure)
    }

    pub fn over(
        policies: Policies,
        issuer: Issuer,
        api_keys: Option<ApiKeyStore>,
        configure: impl FnOnce(Config) -> Config,
    ) -> Self {
        let (log, lines) = Log::memory();
        let clock = Arc::new(FixedClock::at(NOW));
        // Generous: no test here is about what happens when it is over.
        let settings = JwksSettings { wait: std::time::Duration::from_secs(30), ..JwksSettings::private() };
        let jwks = Arc::new(JwksSource::with_settings(settings, clock.clone()));
        let deps = Deps { api_keys, jwks, revocations: Default::default(), rate_limits: None, clock, log };
        let config = Config {
            bundle: "unused".into(),
            response: authorizer::event::ResponseKind::Simple,
            token_header: authorizer::event::TOKEN_HEADER.to_owned(),
            environment: None,
            api_keys: None,
            jwks: JwksSettings::default(),
            metrics: None,
            revocations: None,
            rate_limits: None,
            shadow: None,
        };
        let authorizer = Authorizer::new(configure(config), policies, deps).unwrap();
        Self { authorizer, issuer, lines }
    }

    /// The answer to `event` and the line of its decision; `None` is the error `Unauthorized`.
    pub async fn ask(&self, event: &Value) -> (Option<Value>, Value) {
        self.lines.drain();
        let answer = self.authorizer.handle(event).await.ok();
        (answer, self.decision())
    }

    /// The decision lines so far, of which there is exactly one.
    pub fn decision(&self) -> Value {
        let lines: Vec<Value> = self.lines.drain().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut decisions = lines.into_iter().filter(|line| line["event"] == "decision");
        let line = decisions.next().unwrap();
        assert_eq!(decisions.next(), None, "one line a decision");
        line
    }
}

/// The policies, with the issuer's keys where the file says so.
pub fn policies(issuer: &Issuer) -> Policies {
    let text = include_str!("../../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    compiled(&text, &CompileOptions::default())
}

pub fn compiled(yaml: &str, options: &CompileOptions) -> Policies {
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml.to_owned() };
    let resources = istio::parse(&[file]).unwrap();
    Policies::open(&authz::compile(&resources, options).unwrap().section).unwrap()
}

/// A key that is always the same for the same seed.
pub fn api_key(environment: &str, seed: u8) -> ApiKey {
    ApiKey::generate(environment, &[seed; 48]).unwrap()
}

pub fn record(key: &ApiKey) -> ApiKeyRecord {
    let hash = key.hash(&Secret::new(PEPPER.as_bytes().to_vec()));
    ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: "reader".to_owned(),
        environment: key.environment().to_owned(),
        hashes: vec![authz::api_key::hex(&hash)],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state: KeyState::Active,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

/// An event of `examples/events`.
pub fn fixture(name: &str) -> Value {
    let path = format!("{}/../examples/events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// `event` with the token `token`, wherever its kind has it.
pub fn with_token(mut event: Value, token: &str) -> Value {
    let value = format!("Bearer {token}");
    if event["type"] == "TOKEN" {
        event["authorizationToken"] = value.into();
        return event;
    }
    with_header(event, "authorization", &value)
}

/// All events of `examples/events`, by their names.
pub const KINDS: [&str; 8] = [
    "http-1.0",
    "http-2.0",
    "http-2.0-mtls",
    "http-2.0-stage",
    "rest-request",
    "rest-request-mtls",
    "rest-token",
    "websocket-connect",
];

/// `event` with a header.
pub fn with_header(mut event: Value, name: &str, value: &str) -> Value {
    event["headers"][name] = value.into();
    if let Some(lists) = event.get_mut("multiValueHeaders").and_then(Value::as_object_mut) {
        lists.retain(|listed, _| !listed.eq_ignore_ascii_case(name));
        lists.insert(name.to_owned(), [value].as_slice().into());
    }
    event
}

/// A store that does not answer.
pub struct Down;

impl ApiKeys for Down {
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable { store: "keys".to_owned(), why: "down".to_owned() }) })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable { store: "keys".to_owned(), why: "down".to_owned() }) })
    }
}

/// A store with a bug.
pub struct Broken;

impl ApiKeys for Broken {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move { panic!("a bug, met with the key {id}") })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}
