//! No credential is ever in a log: every kind of credential, good and bad, through both fronts, with everything behind
//! them failing in turn.
//!
//! Needs none of the real parts. The tests with those search the parts' output, see [`e2e::world::World`].

#[path = "../fixtures/issuer.rs"]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
mod issuer;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use adapter::{Adapter, Place};
use authorizer::{ApiKeyStore, Authorizer, Config, Deps};
use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use e2e::credentials::Credentials;
use envoy_types::ext_authz::v3::pb::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::AttributeContext;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{self, HttpRequest};
use identity::Secret;
use issuer::{Issuer, NOW, reader, with};
use platform::BoxFuture;
use platform::aws::AwsConfig;
use platform::clock::FixedClock;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use platform::metrics::Emf;
use platform::secrets::{self, SecretError, Secrets};
use platform::store::{self, ApiKeys, DynamoDb, StoreError};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PEPPER: &str = "pepper-that-nobody-may-see";
const AWS_SECRET: &str = "aws-secret-that-nobody-may-see";
/// What a server of somebody else puts into its error.
const THEIR_SECRET: &str = "their-secret-that-nobody-may-see";

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
struct Run {
    address: SocketAddr,
    clock: Arc<FixedClock>,
    credentials: Credentials,
    issuer: Issuer,
    log: Log,
    lines: Lines,
}

type Result<T = ()> = std::result::Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Run {
    async fn new() -> Result<Self> {
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
        let text = format!("{}\n---\n{POLICIES}", include_str!("../fixtures/events/policies.yaml"));
        let text = text.replace("JWKS", &self.issuer.jwks()).replace("ADDRESS", &self.address.to_string());
        let file = istio::SourceFile { name: "policies.yaml".to_owned(), text };
        let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
        let compiled =
            authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
        Policies::open(&compiled.section).map_err(text_of)
    }

    fn deps(&self, keys: Option<ApiKeyStore>) -> Deps {
        let settings = JwksSettings { wait: std::time::Duration::from_secs(30), ..JwksSettings::private() };
        let jwks = Arc::new(JwksSource::with_settings(settings, self.clock.clone()));
        Deps { api_keys: keys, jwks, clock: self.clock.clone(), log: self.log.clone() }
    }

    fn authorizer(&self, keys: Option<ApiKeyStore>) -> Result<Authorizer> {
        let env = platform::env::MapEnv::from([("CAUSEWAY_ENVIRONMENT", "dev")]);
        let config = Config::from_env(&env).map_err(text)?;
        Authorizer::new(config, self.policies()?, self.deps(keys)).map_err(text)
    }

    fn adapter(&self, keys: Option<ApiKeyStore>) -> Result<Adapter> {
        let labels = vec![("app".to_owned(), "ratings".to_owned())];
        let workload = Some(adapter::config::Workload { namespace: "mesh".to_owned(), labels });
        let place = Place { workload, environment: Some("dev".to_owned()) };
        Adapter::new(place, self.policies()?, self.deps(keys)).map_err(text)
    }

    /// Every token, with what the log should call it.
    fn tokens(&self) -> Vec<(&'static str, String)> {
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
    fn keys(&self) -> Result<Vec<(&'static str, String)>> {
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
    async fn send(&mut self, to: &Authorizer, event: &Value, credential: &str, reason: &str) -> Result {
        self.credentials.note(credential);
        let before = self.decisions().len();
        let _ = to.authorize(&event.to_string()).await;
        self.expect(before, reason)
    }

    /// Asks as Envoy does.
    async fn ask(&mut self, adapter: &Adapter, header: (&str, &str), credential: &str, reason: &str) -> Result {
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

fn text_of(error: authz::OpenError) -> String {
    error.to_string()
}

fn key(environment: &str, seed: u8) -> Result<ApiKey> {
    ApiKey::generate(environment, &[seed; 48]).map_err(text)
}

fn shown(key: &ApiKey) -> String {
    key.text().expose().clone()
}

async fn records() -> Result<Arc<dyn ApiKeys>> {
    let store = store::Embedded::in_memory();
    for (environment, seed, state, expires_at) in [
        ("dev", 1, KeyState::Active, None),
        ("dev", 2, KeyState::Revoked, None),
        ("dev", 3, KeyState::Active, Some(NOW - 1)),
        ("prod", 5, KeyState::Active, None),
    ] {
        let key = key(environment, seed)?;
        let record = ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: "reader".to_owned(),
            environment: environment.to_owned(),
            hashes: vec![authz::api_key::hex(&key.hash(&Secret::new(PEPPER.as_bytes().to_vec())))],
            scope: "reviews.read".to_owned(),
            audiences: vec!["bookinfo".to_owned()],
            state,
            not_before: None,
            expires_at,
        };
        ApiKeys::put(&store, &record).await.map_err(text)?;
    }
    Ok(Arc::new(store))
}

fn with_pepper(records: Arc<dyn ApiKeys>, pepper: &str) -> ApiKeyStore {
    let secrets = secrets::Embedded::default();
    secrets.put("pepper", pepper);
    ApiKeyStore { records, secrets: Arc::new(secrets), pepper_id: "pepper".to_owned() }
}

/// A server that fails, and says in its answer what it should not.
async fn rude_server() -> Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 16 * 1024];
                let read = stream.read(&mut request).await.unwrap_or_default();
                let poisoned = request.get(..read).unwrap_or_default().starts_with(b"GET /poisoned");
                let status = if poisoned { "200 OK" } else { "500 Internal Server Error" };
                let body = format!(r#"{{"keys":"{THEIR_SECRET}","message":"{THEIR_SECRET}"}}"#);
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    Ok(address)
}

/// A store, and a vault, with a bug whose message quotes what it works on.
struct Broken(String);

impl ApiKeys for Broken {
    #[allow(clippy::panic, reason = "the bug")]
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, std::result::Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move { panic!("byte index 5 is not a char boundary of {} with {id}", self.0) })
    }

    fn put<'a>(&'a self, _: &'a ApiKeyRecord) -> BoxFuture<'a, std::result::Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

impl Secrets for Broken {
    #[allow(clippy::panic, reason = "the bug")]
    fn get<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::result::Result<Secret<String>, SecretError>> {
        Box::pin(async move { panic!("a bug with {} and {PEPPER}", self.0) })
    }
}

fn event() -> Result<Value> {
    serde_json::from_str(include_str!("../../examples/events/http-2.0.json")).map_err(text)
}

fn with_header(mut event: Value, name: &str, value: &str) -> Value {
    event["headers"][name] = value.into();
    event
}

fn with_query(mut event: Value, query: String) -> Value {
    event["rawQueryString"] = query.into();
    event
}

fn question((name, value): (&str, &str)) -> CheckRequest {
    let headers = [(":method", "GET"), (":path", "/"), (":authority", "ratings"), (name, value)];
    let http = HttpRequest {
        id: "17".to_owned(),
        method: "GET".to_owned(),
        path: if name == ":path" { value.to_owned() } else { "/ratings/0".to_owned() },
        host: "ratings".to_owned(),
        scheme: "http".to_owned(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(attribute_context::Request { http: Some(http), ..Default::default() }),
            ..AttributeContext::default()
        }),
    }
}

async fn send_everything(run: &mut Run) -> Result {
    let (authorizer, adapter) = {
        let keys = with_pepper(records().await?, PEPPER);
        (run.authorizer(Some(keys.clone()))?, run.adapter(Some(keys))?)
    };
    for (reason, token) in run.tokens() {
        let bearer = format!("Bearer {token}");
        run.send(&authorizer, &with_header(event()?, "authorization", &bearer), &token, reason).await?;
        run.send(&authorizer, &with_query(event()?, format!("access_token={token}")), &token, "").await?;
        // Twice as good is no better.
        let twice = with_query(with_header(event()?, "authorization", &bearer), format!("access_token={token}"));
        run.send(&authorizer, &twice, &token, "").await?;
        // In places where tokens of another issuer are looked for, and where none is.
        run.send(&authorizer, &with_header(event()?, "x-token", &format!("Token {token}")), &token, "").await?;
        run.send(&authorizer, &with_query(event()?, format!("t={token}&t={token}")), &token, "").await?;
        let mut cookie = event()?;
        cookie["cookies"] = json!([format!("session={token}"), format!("other={token}")]);
        run.send(&authorizer, &cookie, &token, "").await?;
        run.send(&authorizer, &with_header(event()?, "authorization", &format!("Basic {token}")), &token, "").await?;
        run.send(&authorizer, &with_header(event()?, "x-api-key", &token), &token, "api_key_malformed").await?;
        run.ask(&adapter, ("authorization", &bearer), &token, "").await?;
        run.ask(&adapter, (":path", &format!("/ratings?access_token={token}#{token}")), &token, "").await?;
        run.ask(&adapter, ("x-api-key", &token), &token, "api_key_malformed").await?;
        for name in ["http-1.0", "rest-request", "rest-token", "websocket-connect"] {
            let path = e2e::root().join(format!("examples/events/{name}.json"));
            let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).map_err(text)?).map_err(text)?;
            if name == "rest-token" {
                event["authorizationToken"] = bearer.as_str().into();
            } else {
                event["headers"]["authorization"] = bearer.as_str().into();
            }
            run.send(&authorizer, &event, &token, "").await?;
        }
    }
    for (location, issuer) in [("x-token", "https://elsewhere.example"), ("t", "https://elsewhere.example")] {
        let token = run.issuer.token(&with(reader(), "iss", json!(issuer)));
        let event = match location {
            "t" => with_query(event()?, format!("t={token}")),
            name => with_header(event()?, name, &format!("Token {token}")),
        };
        run.send(&authorizer, &event, &token, "denied_no_match").await?;
    }
    let (mut cookie, token) = (event()?, run.issuer.token(&with(reader(), "iss", json!("https://elsewhere.example"))));
    cookie["cookies"] = json!([format!("session={token}")]);
    run.send(&authorizer, &cookie, &token, "denied_no_match").await?;

    for (reason, key) in run.keys()? {
        run.send(&authorizer, &with_header(event()?, "x-api-key", &key), &key, reason).await?;
        run.send(&authorizer, &with_header(event()?, "authorization", &format!("Bearer {key}")), &key, "").await?;
        run.send(&authorizer, &with_query(event()?, format!("access_token={key}&api_key={key}")), &key, "").await?;
        run.ask(&adapter, ("x-api-key", &key), &key, reason).await?;
    }
    certificates_and_wrecks(run, &authorizer).await
}

async fn certificates_and_wrecks(run: &mut Run, authorizer: &Authorizer) -> Result {
    for certificate in ["-----BEGIN CERTIFICATE-----\nMIIBcertificate-of-nobody\n-----END CERTIFICATE-----\n", ""] {
        let file = include_str!("../../examples/events/http-2.0-mtls.json");
        let mut event: Value = serde_json::from_str(file).map_err(text)?;
        let pem = &mut event["requestContext"]["authentication"]["clientCert"]["clientCertPem"];
        if !certificate.is_empty() {
            *pem = certificate.into();
        }
        let lines = pem.as_str().unwrap_or_default().lines().filter(|line| !line.starts_with('-'));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        for line in lines {
            run.credentials.note(&line);
        }
        run.send(authorizer, &event, "", "").await?;
        let bound = run.issuer.token(&with(
            reader(),
            "cnf",
            json!({"x5t#S256": "dGh1bWJwcmludC1vZi1hbm90aGVyLW9uZS1lbnRpcmVs"}),
        ));
        run.send(authorizer, &with_header(event, "authorization", &format!("Bearer {bound}")), &bound, "").await?;
    }
    // What is no event at all, with a token where it should not be.
    let token = run.issuer.token(&reader());
    for wreck in [
        json!(token),
        json!([token]),
        json!({"type": token, "headers": {"authorization": token}}),
        json!({"type": "TOKEN", "authorizationToken": token, "methodArn": token}),
        json!({"version": "2.0", "type": "REQUEST", "headers": token, "requestContext": {"requestId": 1}}),
    ] {
        run.send(authorizer, &wreck, &token, "").await?;
    }
    Ok(())
}

/// Everything that a request may need fails.
async fn with_failures(run: &mut Run) -> Result {
    let good = shown(&key("dev", 1)?);
    let credentials = sigv4_credentials();
    let endpoint = Some(format!("http://{}", run.address));
    let aws = AwsConfig {
        region: "eu-central-1".to_owned(),
        credentials,
        dynamodb_endpoint: endpoint.clone(),
        secretsmanager_endpoint: endpoint,
    };
    let broken = || Broken(good.clone());
    let vault: Arc<dyn Secrets> = Arc::new(secrets::SecretsManager::new(aws.clone()));
    let pepper_id = "pepper".to_owned();
    for (keys, reason) in [
        (None, "api_key_unavailable"),
        (Some(with_pepper(records().await?, "short")), "api_key_unavailable"),
        (Some(with_pepper(Arc::new(DynamoDb::new("keys", aws)), PEPPER)), "api_key_unavailable"),
        (
            Some(ApiKeyStore { records: records().await?, secrets: vault, pepper_id: pepper_id.clone() }),
            "api_key_unavailable",
        ),
        (Some(with_pepper(Arc::new(broken()), PEPPER)), "internal"),
        (Some(ApiKeyStore { records: records().await?, secrets: Arc::new(broken()), pepper_id }), "internal"),
    ] {
        let (authorizer, adapter) = (run.authorizer(keys.clone())?, run.adapter(keys)?);
        run.send(&authorizer, &with_header(event()?, "x-api-key", &good), &good, reason).await?;
        run.ask(&adapter, ("x-api-key", &good), &good, reason).await?;
    }
    Ok(())
}

fn sigv4_credentials() -> platform::aws::Credentials {
    platform::aws::Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(AWS_SECRET.to_owned()),
        session_token: Some(Secret::new(AWS_SECRET.to_owned())),
    }
}

#[tokio::test]
async fn no_log_line_holds_a_credential() -> Result {
    let mut run = Run::new().await?;
    platform::panics::quiet_panics(&run.log);
    let sent = match send_everything(&mut run).await {
        Ok(()) => with_failures(&mut run).await,
        error => error,
    };
    // The tests' own failures are to be read.
    drop(std::panic::take_hook());
    sent?;
    let lines = run.lines.all();
    let events: BTreeSet<String> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line["event"].as_str().map(str::to_owned))
        .collect();
    let expected = ["api_keys_unavailable", "decision", "jwks", "metrics", "panic"].map(str::to_owned);
    assert!(expected.iter().all(|event| events.contains(event)), "not everything has spoken: {events:?}");
    assert_eq!(run.credentials.line_with_one(&lines), None);
    // And it would have been found.
    run.log.write(&json!({"detail": format!("the key {}", shown(&key("dev", 4)?))}));
    assert!(run.credentials.line_with_one(&run.lines.all()).is_some());
    Ok(())
}
