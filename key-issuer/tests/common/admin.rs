//! An issuer with administrators: the client `admin` with the scope `issuer.admin`, and the role `reviews`, who may read.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use authz::{CompileOptions, Policies};
use key_issuer::{Administration, ClientRecord, Config, Deps, KeyIssuer, PlanKey, Tables, UsagePlanError, UsagePlans};
use platform::BoxFuture;
use platform::env::MapEnv;
use platform::log::{Lines, Log};
use platform::random::SystemRandom;
use platform::table::{Table, Unconfigured};
use serde_json::{Value, json};

use super::common::*;

pub const ADMIN: &str = "admin";
pub const ADMIN_SECRET: &str = "an-administrator's";

pub const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: causeway-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      jwksUri: https://issuer.bookinfo.example/jwks.json
      audiences: [causeway-admin]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: administrators, namespace: causeway-system }
spec:
  selector: { matchLabels: { app: key-issuer } }
  rules:
    - from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/*'] } }]
      when: [{ key: 'request.auth.claims[scope]', values: [issuer.admin] }]
    - from: [{ source: { principals: [cluster.local/ns/bookinfo/sa/bookinfo-reviews] } }]
      to: [{ operation: { methods: [GET], hosts: [issuer.bookinfo.example] } }]
";

pub fn policies(yaml: &str) -> Arc<Policies> {
    policies_of(yaml, authz::Mode::Strict)
}

pub fn policies_of(yaml: &str, mode: authz::Mode) -> Arc<Policies> {
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml.to_owned() };
    let resources = istio::parse(&[file]).unwrap();
    let compiled = authz::compile(&resources, &CompileOptions { mode, ..CompileOptions::default() }).unwrap();
    Arc::new(Policies::open(&compiled.section).unwrap())
}

/// API Gateway's keys, by name: value, whether enabled, plan.
#[derive(Default)]
pub struct FakePlans {
    pub keys: Mutex<BTreeMap<String, (String, bool, String)>>,
    /// What the next calls answer instead.
    pub failures: Mutex<Vec<UsagePlanError>>,
    pub calls: Mutex<usize>,
}

impl FakePlans {
    fn outcome(&self) -> Result<(), UsagePlanError> {
        *self.calls.lock().unwrap() += 1;
        self.failures.lock().unwrap().pop().map_or(Ok(()), Err)
    }

    pub fn fail(&self, times: usize, error: &UsagePlanError) {
        self.failures.lock().unwrap().extend(std::iter::repeat_n(error.clone(), times));
    }

    pub fn get(&self, name: &str) -> Option<(String, bool, String)> {
        self.keys.lock().unwrap().get(name).cloned()
    }
}

impl UsagePlans for FakePlans {
    fn ensure<'a>(&'a self, key: PlanKey<'a>) -> BoxFuture<'a, Result<(), UsagePlanError>> {
        Box::pin(async move {
            self.outcome()?;
            let value = (key.value.expose().clone(), key.enabled, key.plan.to_owned());
            self.keys.lock().unwrap().insert(key.name.to_owned(), value);
            Ok(())
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), UsagePlanError>> {
        Box::pin(async move {
            self.outcome()?;
            self.keys.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

pub struct AdminWorld {
    pub world: World,
    pub plans: Arc<FakePlans>,
    pub token: String,
    /// What must be in no log line.
    secrets: Mutex<Vec<String>>,
}

impl AdminWorld {
    pub async fn new() -> Self {
        Self::with(Some(POLICIES)).await
    }

    pub async fn with(yaml: Option<&str>) -> Self {
        let mut world = World::new().await;
        let admin = ClientRecord {
            scopes: vec!["issuer.admin".to_owned(), "other".to_owned()],
            audiences: vec!["causeway-admin".to_owned(), "bookinfo".to_owned()],
            ..client(ADMIN, &[ADMIN_SECRET])
        };
        world.directory.put(&admin).await;
        let plans = Arc::new(FakePlans::default());
        (world.issuer, world.lines) = issuer(&world, yaml, Some(&plans), world.directory.tables(), &[]);
        let token = token(&world, "grant_type=client_credentials&scope=issuer.admin").await;
        world.lines.drain();
        let secrets = Mutex::new(vec![token.clone(), ADMIN_SECRET.to_owned()]);
        Self { world, plans, token, secrets }
    }

    /// Another execution environment of the same issuer.
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// The same with more variables.
    pub fn restart_with(&mut self, variables: &[(&str, &str)]) {
        (self.world.issuer, self.world.lines) =
            issuer(&self.world, Some(POLICIES), Some(&self.plans), self.world.directory.tables(), variables);
    }

    /// The same with policies of the mode `istio`.
    pub fn restart_in_mode_istio(&mut self) {
        let tables = self.world.directory.tables();
        let policies = policies_of(POLICIES, authz::Mode::Istio);
        (self.world.issuer, self.world.lines) = issuer_of(&self.world, Some(policies), None, tables, &[]);
    }

    /// The same with clients, and nothing else.
    pub fn restart_without_tables(&mut self) {
        let none = |name| -> Arc<dyn Table> { Arc::new(Unconfigured(name)) };
        let clients = self.world.directory.tables().clients;
        let tables = Tables { clients, api_keys: none("A"), state: none("B"), revocations: none("C") };
        (self.world.issuer, self.world.lines) = issuer(&self.world, Some(POLICIES), None, tables, &[]);
    }

    pub fn note(&self, secret: &str) {
        self.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// A request of the administrator.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.send(self.event(method, path, body)).await
    }

    pub fn event(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut event = event(PUBLIC_API, method, path);
        event["rawQueryString"] = json!(query);
        event["headers"]["authorization"] = json!(format!("Bearer {}", self.token));
        if let Some(body) = body {
            event["headers"]["content-type"] = json!("application/json");
            event["body"] = json!(body.to_string());
        }
        event
    }

    /// Sends an event, and looks for secrets in the log.
    pub async fn send(&self, event: Value) -> Answer {
        let answer = self.world.send(event).await;
        let shown = answer.json();
        for name in ["api_key", "client_secret"] {
            if let Some(secret) = shown[name].as_str() {
                self.note(secret);
            }
        }
        for line in self.world.lines.all() {
            for secret in self.secrets.lock().unwrap().iter() {
                assert!(!line.contains(secret.as_str()), "a log line holds a secret: {line}");
            }
            assert!(!line.contains("hashes\":"), "a log line holds hashes: {line}");
        }
        assert!(!answer.body().contains("hashes\":"), "an answer holds hashes");
        answer
    }

    /// A new API key of [`CLIENT`], and its value.
    pub async fn new_key(&self, more: Value) -> (String, String) {
        let mut body = json!({"environment": "dev", "client_id": CLIENT, "scopes": ["reviews.read"],
            "audiences": ["bookinfo"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.call("POST", "/v1/api-keys", Some(body)).await;
        assert_eq!(answer.status(), 201, "{answer:?}");
        let shown = answer.json();
        (shown["id"].as_str().unwrap().to_owned(), shown["api_key"].as_str().unwrap().to_owned())
    }

    /// The audit lines of changes since the last call.
    pub fn changes(&self) -> Vec<Value> {
        let lines = self.world.lines.drain().into_iter().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        lines.filter(|line| !line["change"].is_null()).collect()
    }
}

fn issuer(
    world: &World,
    yaml: Option<&str>,
    plans: Option<&Arc<FakePlans>>,
    tables: Tables,
    variables: &[(&str, &str)],
) -> (KeyIssuer, Lines) {
    issuer_of(world, yaml.map(policies), plans, tables, variables)
}

fn issuer_of(
    world: &World,
    policies: Option<Arc<Policies>>,
    plans: Option<&Arc<FakePlans>>,
    tables: Tables,
    variables: &[(&str, &str)],
) -> (KeyIssuer, Lines) {
    let env = MapEnv::from([
        ("CAUSEWAY_ISSUER", ISSUER),
        ("CAUSEWAY_SIGNING_SECRET", "signing"),
        ("CAUSEWAY_IAM_DOOR_IDS", IAM_URL),
        ("CAUSEWAY_REGISTRY", REGISTRY),
        ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
        ("CAUSEWAY_PEPPER_SECRET", "pepper"),
        ("CAUSEWAY_ENVIRONMENT", "dev"),
    ]);
    let env = variables.iter().fold(env, |env, (name, value)| env.with(name, *value));
    let (log, lines) = Log::memory();
    let deps = Deps {
        tables,
        secret_versions: None,
        caller_identity: None,
        secrets: world.vault.clone(),
        clock: world.clock.clone(),
        random: Arc::new(SystemRandom),
        log,
    };
    let usage_plans = plans.cloned().map(|plans| -> Arc<dyn UsagePlans> { plans });
    let administration = Administration { policies, usage_plans };
    (KeyIssuer::with_administration(Config::from_env(&env).unwrap(), deps, administration), lines)
}

/// An access token of the administrator.
pub async fn token(world: &World, form: &str) -> String {
    let mut event = token_event(form);
    event["headers"]["Authorization"] = json!(basic(ADMIN, ADMIN_SECRET));
    let answer = world.send(event).await;
    answer.json()["access_token"].as_str().unwrap_or_else(|| panic!("{answer:?}")).to_owned()
}
