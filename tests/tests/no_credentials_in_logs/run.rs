//! One run: both fronts, what is sent to them, and the log that they write to.

use std::net::SocketAddr;
use std::sync::Arc;

use adapter::{Adapter, Exchange, ExchangeConfig, Place};
use authorizer::{ApiKeyStore, Authorizer, Config, Deps};
use authz::{CompileOptions, Policies};
use e2e::credentials::Credentials;
use platform::clock::FixedClock;
use platform::https::Reach;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use platform::metrics::Emf;
use serde_json::{Value, json};

use crate::issuer::{Issuer, NOW, reader, with};
use crate::parts::{AWS_SECRET, PEPPER, THEIR_SECRET, key, question, rude_server, shown};
use crate::{Result, text};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: elsewhere, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://elsewhere.example
      jwks: 'JWKS'
      fromHeaders: [{ name: x-token, prefix: 'Token ' }]
      fromParams: [t]
      fromCookies: [session]
    - issuer: https://down.example
      jwksUri: http://ADDRESS/down
    - issuer: https://poisoned.example
      jwksUri: http://ADDRESS/poisoned
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: workload, namespace: mesh }
spec:
  selector: { matchLabels: { app: ratings } }
  rules:
    - from: [{ source: { requestPrincipals: ['*'] } }]
";

/// One run: both fronts write to one log.
pub(crate) struct Run {
    pub(crate) address: SocketAddr,
    clock: Arc<FixedClock>,
    pub(crate) credentials: Credentials,
    pub(crate) issuer: Issuer,
    pub(crate) log: Log,
    pub(crate) lines: Lines,
}

impl Run {
    pub(crate) async fn new() -> Result<Self> {
        let (log, lines) = Log::memory();
        let mut credentials = Credentials::default();
        [PEPPER, AWS_SECRET, THEIR_SECRET].into_iter().for_each(|secret| credentials.note(secret));
        Ok(Self {
            address: rude_server().await?,
            clock: Arc::new(FixedClock::at(NOW)),
            credentials,
            issuer: Issuer::new(),
            log: log.with_metrics(Some(Emf::new("authorizer", Some("dev")))),
            lines,
        })
    }

    fn policies(&self) -> Result<Policies> {
        let yaml = format!("{}\n---\n{POLICIES}", include_str!("../../fixtures/events/policies.yaml"));
        let yaml = yaml.replace("JWKS", &self.issuer.jwks()).replace("ADDRESS", &self.address.to_string());
        let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml };
        let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
        let compiled =
            authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
        Policies::open(&compiled.section).map_err(text)
    }

    fn deps(&self, keys: Option<ApiKeyStore>) -> Deps {
        let settings = JwksSettings { wait: std::time::Duration::from_secs(30), ..JwksSettings::private() };
        let jwks = Arc::new(JwksSource::with_settings(settings, self.clock.clone()));
        Deps {
            api_keys: keys,
            jwks,
            revocations: Default::default(),
            rate_limits: None,
            clock: self.clock.clone(),
            log: self.log.clone(),
        }
    }

    pub(crate) fn authorizer(&self, keys: Option<ApiKeyStore>) -> Result<Authorizer> {
        let env = platform::env::MapEnv::from([("CAUSEWAY_ENVIRONMENT", "dev")]);
        let config = Config::from_env(&env).map_err(text)?;
        Authorizer::new(config, self.policies()?, self.deps(keys)).map_err(text)
    }

    pub(crate) fn adapter(&self, keys: Option<ApiKeyStore>) -> Result<Adapter> {
        let labels = vec![("app".to_owned(), "ratings".to_owned())];
        let workload = Some(adapter::config::Workload { namespace: "mesh".to_owned(), labels });
        let place = Place { workload, environment: Some("dev".to_owned()) };
        Adapter::new(place, self.policies()?, self.deps(keys)).map_err(text)
    }

    /// An adapter that exchanges API keys at `url`.
    pub(crate) fn exchanging_adapter(&self, keys: ApiKeyStore, url: String) -> Result<Adapter> {
        let labels = vec![("app".to_owned(), "ratings".to_owned())];
        let workload = Some(adapter::config::Workload { namespace: "mesh".to_owned(), labels });
        let place = Place { workload, environment: Some("dev".to_owned()) };
        let config = ExchangeConfig { url, audience: Some("bookinfo".to_owned()) };
        let patience = std::time::Duration::from_secs(30);
        let exchange = Exchange::with(&config, Reach::Private, Vec::new(), self.clock.clone(), patience);
        Adapter::with_exchange(place, self.policies()?, self.deps(Some(keys)), Some(exchange.map_err(text)?))
            .map_err(text)
    }

    /// Every token, with what the log should call it.
    pub(crate) fn tokens(&self) -> Vec<(&'static str, String)> {
        let other = Issuer::new();
        let token = |name: &str, value: Value| self.issuer.token(&with(reader(), name, value));
        let good = self.issuer.token(&reader());
        let (head, signature) = good.rsplit_once('.').unwrap_or_default();
        vec![
            ("allowed_by_policy", good.clone()),
            ("token_expired", token("exp", json!(NOW - 3_600))),
            ("token_not_yet_valid", token("nbf", json!(NOW + 3_600))),
            ("token_issuer_unknown", token("iss", json!("https://nobody.example"))),
            ("token_audience", token("aud", json!(["somebody-else"]))),
            ("token_signature", other.token(&reader())),
            ("token_key_unknown", self.issuer.token_with_kid("k2-unknown", &reader())),
            ("jwks_unavailable", token("iss", json!("https://down.example"))),
            ("jwks_unavailable", token("iss", json!("https://poisoned.example"))),
            ("token_malformed", format!("{good}.{signature}")),
            ("token_malformed", format!("{head}.{signature}!!!!")),
            ("token_malformed", "not-a-token-but-a-password".to_owned()),
            ("token_malformed", token("exp", json!("password-in-a-claim"))),
            ("token_too_large", token("sub", json!("long".repeat(4_000)))),
        ]
    }

    /// Every API key, with what the log should call it.
    pub(crate) fn keys(&self) -> Result<Vec<(&'static str, String)>> {
        let mut mistyped = shown(&key("dev", 1)?);
        mistyped.truncate(mistyped.len() - 1);
        mistyped.push('!');
        Ok(vec![
            ("allowed_by_policy", shown(&key("dev", 1)?)),
            ("api_key_revoked", shown(&key("dev", 2)?)),
            ("api_key_expired", shown(&key("dev", 3)?)),
            ("api_key_unknown", shown(&key("dev", 4)?)),
            ("api_key_environment", shown(&key("prod", 5)?)),
            ("api_key_malformed", mistyped),
            ("api_key_malformed", "cwk_dev_my-own-password".to_owned()),
            ("api_key_malformed", "x".repeat(200)),
        ])
    }

    /// Sends an event, and holds the word in the log against the expected one; `""` expects none in particular.
    pub(crate) async fn send(&mut self, to: &Authorizer, event: &Value, credential: &str, reason: &str) -> Result {
        self.credentials.note(credential);
        let before = self.decisions().len();
        let _ = to.authorize(&event.to_string()).await;
        self.expect(before, reason)
    }

    /// Asks as Envoy does.
    pub(crate) async fn ask(
        &mut self,
        adapter: &Adapter,
        header: (&str, &str),
        credential: &str,
        reason: &str,
    ) -> Result {
        self.credentials.note(credential);
        let before = self.decisions().len();
        let _ = adapter.check(question(header)).await;
        self.expect(before, reason)
    }

    fn decisions(&self) -> Vec<Value> {
        let lines = self.lines.all().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["event"] == "decision").collect()
    }

    fn expect(&self, before: usize, reason: &str) -> Result {
        match self.decisions().get(before..) {
            Some([line]) if reason.is_empty() || line["reason"] == reason => Ok(()),
            found => Err(format!("expected one decision with {reason:?}, found {found:?}")),
        }
    }
}
