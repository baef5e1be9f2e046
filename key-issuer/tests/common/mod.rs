//! An issuer on embedded stores, and the events that reach it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod grants;
pub mod keys;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::secret::Secret;
use key_issuer::{CallerIdentity, ClientRecord, Config, Deps, KeyIssuer, Tables, bootstrap, secret_hash};
use platform::BoxFuture;
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::log::{Lines, Log};
use platform::random::SystemRandom;
use platform::secrets::{Embedded as EmbeddedSecrets, SecretError, Secrets};
use platform::store::{Embedded, StoreError};
use platform::table::{Only, Page, Record, Table, Written};
use serde_json::{Value, json};

/// 2030-01-01T00:00:00Z.
pub const NOW: u64 = 1_893_456_000;
pub const ISSUER: &str = "https://issuer.bookinfo.example";
pub const PUBLIC_API: &str = "publicapi1";
pub const IAM_URL: &str = "iamurl1";
pub const MTLS_API: &str = "mtlsapi1";
pub const MTLS_HOST: &str = "mtls.bookinfo.example";
pub const MTLS_ISSUER: &str = "https://mtls.bookinfo.example";
pub const CLIENT: &str = "reader";
/// Everything that form encoding has to carry.
pub const SECRET: &str = "s3cret +%:&=é€";
pub const PEPPER: &str = "a pepper of the tests";
pub const SECOND_SECRET: &str = "the-next-one";
pub const ROLE_SESSION: &str = "arn:aws:sts::123456789012:assumed-role/reviews/reviews-fn";

pub const REGISTRY: &str = r#"[{"role_arn":"arn:aws:iam::123456789012:role/reviews","namespace":"bookinfo",
"service_account":"bookinfo-reviews","client_id":"bookinfo-reviews","scopes":["ratings.read"],"audiences":["bookinfo"]}]"#;

/// Secrets that can be out.
#[derive(Default)]
pub struct Vault {
    pub inner: EmbeddedSecrets,
    pub out: AtomicBool,
}

impl Secrets for Vault {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        if self.out.load(Ordering::Relaxed) {
            return Box::pin(async move {
                Err(SecretError::Unavailable { id: id.to_owned(), why: "ThrottlingException: slow down".to_owned() })
            });
        }
        self.inner.get(id)
    }

    fn get_dated<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(Secret<String>, u64), SecretError>> {
        Box::pin(async move {
            self.get(id).await?;
            self.inner.get_dated(id).await
        })
    }
}

/// A table that can be out.
pub struct Fragile {
    inner: Arc<dyn Table>,
    out: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    /// How often a write gives way before it is done.
    slow: Arc<AtomicUsize>,
}

impl Fragile {
    async fn check(&self) -> Result<(), StoreError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        // As a table over a network does: what else there is to do comes first.
        tokio::task::yield_now().await;
        if self.out.load(Ordering::Relaxed) {
            return Err(StoreError::Unavailable { store: "clients".to_owned(), why: "no answer in time".to_owned() });
        }
        Ok(())
    }
}

impl Table for Fragile {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Record>, StoreError>> {
        Box::pin(async move {
            self.check().await?;
            self.inner.get(id).await
        })
    }

    fn put<'a>(
        &'a self,
        id: &'a str,
        json: &'a str,
        expires_at: Option<u64>,
        only: Only,
    ) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            self.check().await?;
            for _ in 0..self.slow.load(Ordering::Relaxed) {
                tokio::task::yield_now().await;
            }
            self.inner.put(id, json, expires_at, only).await
        })
    }

    fn delete<'a>(&'a self, id: &'a str, version: u64) -> BoxFuture<'a, Result<Written, StoreError>> {
        Box::pin(async move {
            self.check().await?;
            self.inner.delete(id, version).await
        })
    }

    fn page<'a>(&'a self, after: Option<&'a str>, limit: usize) -> BoxFuture<'a, Result<Page, StoreError>> {
        Box::pin(async move {
            self.check().await?;
            self.inner.page(after, limit).await
        })
    }
}

/// The issuer's tables, each of which can be out.
pub struct Directory {
    pub store: Embedded,
    pub out: Arc<AtomicBool>,
    /// How often any table was asked.
    pub calls: Arc<AtomicUsize>,
    /// How often a write of an API key gives way before it is done.
    pub slow_keys: Arc<AtomicUsize>,
}

impl Directory {
    fn new() -> Self {
        Self { store: Embedded::in_memory(), out: Arc::default(), calls: Arc::default(), slow_keys: Arc::default() }
    }

    pub fn tables(&self) -> Tables {
        let fast = || Arc::new(AtomicUsize::new(0));
        let fragile = |inner: Arc<dyn Table>, slow: Arc<AtomicUsize>| -> Arc<dyn Table> {
            Arc::new(Fragile { inner, out: self.out.clone(), calls: self.calls.clone(), slow })
        };
        let Tables { clients, api_keys, state, revocations } = Tables::embedded(&self.store);
        Tables {
            clients: fragile(clients, fast()),
            api_keys: fragile(api_keys, self.slow_keys.clone()),
            state: fragile(state, fast()),
            revocations: fragile(revocations, fast()),
        }
    }

    /// Writes a client over whatever there is.
    pub async fn put(&self, client: &ClientRecord) {
        let table = self.store.table("clients");
        let json = serde_json::to_string(client).unwrap();
        let only = match table.get(&client.client_id).await.unwrap() {
            Some(found) => Only::Version(found.version),
            None => Only::Absent { now: 0 },
        };
        assert_ne!(table.put(&client.client_id, &json, None, only).await.unwrap(), Written::Conflict);
    }
}

pub struct World {
    pub issuer: KeyIssuer,
    pub vault: Arc<Vault>,
    pub directory: Arc<Directory>,
    pub clock: Arc<FixedClock>,
    pub lines: Lines,
}

pub fn client(id: &str, secrets: &[&str]) -> ClientRecord {
    ClientRecord {
        secret_hashes: secrets.iter().map(|s| secret_hash(&Secret::new((*s).to_owned()))).collect(),
        scopes: vec!["reviews.read".to_owned(), "reviews.write".to_owned()],
        audiences: vec!["bookinfo".to_owned(), "https://api.bookinfo.example".to_owned()],
        grants: vec!["client_credentials".to_owned()],
        ..ClientRecord::new(id)
    }
}

impl World {
    pub async fn new() -> Self {
        let signing = bootstrap::new_signing_secret().unwrap();
        let ca = bootstrap::new_ca_secret(&"cluster.local".parse().unwrap(), NOW).unwrap();
        Self::with(signing.expose(), ca.expose()).await
    }

    pub async fn with(signing: &str, ca: &str) -> Self {
        Self::built(signing, ca, &[], None).await
    }

    /// A world with more variables, and with somebody who carries proofs to STS.
    pub async fn built(
        signing: &str,
        ca: &str,
        variables: &[(&str, &str)],
        caller_identity: Option<Arc<dyn CallerIdentity>>,
    ) -> Self {
        let vault = Arc::new(Vault::default());
        vault.inner.put("signing", signing);
        vault.inner.put("ca", ca);
        vault.inner.put("pepper", PEPPER);
        let directory = Arc::new(Directory::new());
        directory.put(&client(CLIENT, &[SECRET, SECOND_SECRET])).await;
        let clock = Arc::new(FixedClock::at(NOW));
        let (log, lines) = Log::memory();
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_CA_SECRET", "ca"),
            ("CAUSEWAY_IAM_DOOR_IDS", IAM_URL),
            ("CAUSEWAY_REGISTRY", REGISTRY),
            ("CAUSEWAY_MTLS_DOOR_IDS", MTLS_API),
            ("CAUSEWAY_MTLS_ISSUER", MTLS_ISSUER),
            ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_ENVIRONMENT", "dev"),
        ]);
        let env = variables.iter().fold(env, |env, (name, value)| env.with(name, *value));
        let deps = Deps {
            tables: directory.tables(),
            secret_versions: None,
            secrets: vault.clone(),
            caller_identity,
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            log,
        };
        let issuer = KeyIssuer::new(Config::from_env(&env).unwrap(), deps);
        Self { issuer, vault, directory, clock, lines }
    }

    pub async fn send(&self, event: Value) -> Answer {
        let headers = event["headers"].as_object().unwrap().values().filter_map(Value::as_str);
        let sent: Vec<String> = headers.filter_map(|value| value.strip_prefix("Basic ")).map(str::to_owned).collect();
        let payload = self.issuer.handle(event).await.unwrap();
        let answer = Answer(payload);
        for secret in [SECRET, SECOND_SECRET, "PRIVATE KEY"] {
            assert!(!answer.0.to_string().contains(secret), "an answer holds a secret");
        }
        for line in self.lines.all() {
            let credentials = sent.iter().map(String::as_str).filter(|sent| sent.len() > 8);
            for secret in credentials.chain([SECRET, SECOND_SECRET, "PRIVATE KEY"]) {
                assert!(!line.contains(secret), "a log line holds a secret");
            }
            let token = answer.json()["access_token"].as_str().map(str::to_owned);
            assert!(!token.is_some_and(|token| line.contains(&token)), "a log line holds a token");
        }
        answer
    }

    /// The one audit line since the last call.
    pub fn audit(&self) -> Value {
        let lines = self.lines.drain();
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str(&lines[0]).unwrap()
    }
}

#[derive(Debug)]
pub struct Answer(pub Value);

impl Answer {
    pub fn status(&self) -> u64 {
        self.0["statusCode"].as_u64().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.0["headers"].get(name).and_then(Value::as_str)
    }

    pub fn body(&self) -> &str {
        self.0["body"].as_str().unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_default()
    }

    /// The claims of the access token, unverified.
    pub fn claims(&self) -> Value {
        let body = self.json();
        let token = body["access_token"].as_str().unwrap_or_else(|| panic!("no token: {self:?}"));
        let payload = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    pub fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_default().to_owned()
    }
}

pub fn event(api_id: &str, method: &str, path: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": "",
        "headers": {"host": "issuer.bookinfo.example"}, "isBase64Encoded": false,
        "requestContext": {"apiId": api_id, "stage": "$default", "requestId": "r1", "timeEpoch": 0,
            "http": {"method": method, "path": path, "sourceIp": "203.0.113.7"}},
    })
}

/// The encoder of the definition of `application/x-www-form-urlencoded`.
pub fn form_encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b' ' => "+".to_owned(),
            b if b.is_ascii_alphanumeric() || b"*-._".contains(&b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        })
        .collect()
}

pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{}:{}", form_encode(id), form_encode(secret))))
}

/// A good token request of [`CLIENT`] with this body.
pub fn token_event(body: &str) -> Value {
    let mut event = event(PUBLIC_API, "POST", "/oauth2/token");
    event["headers"]["Authorization"] = json!(basic(CLIENT, SECRET));
    event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    event["body"] = json!(body);
    event
}

/// A token request with this body and no credential outside of it.
pub fn bare_event(api_id: &str, body: &str) -> Value {
    let mut event = event(api_id, "POST", "/oauth2/token");
    event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
    event["body"] = json!(body);
    event
}

/// A token request through the mTLS door with this certificate, in PEM, as API Gateway hands it over.
pub fn mtls_event(pem: &str, body: &str) -> Value {
    let mut event = bare_event(MTLS_API, body);
    event["requestContext"]["domainName"] = json!(MTLS_HOST);
    event["requestContext"]["authentication"] = json!({"clientCert": {"clientCertPem": pem,
        "subjectDN": "CN=not,read", "issuerDN": "CN=not,read", "serialNumber": "1",
        "validity": {"notBefore": "Jan  1 00:00:00 2020 GMT", "notAfter": "Jan  1 00:00:00 2040 GMT"}}});
    event
}

/// A request through the IAM door as Lambda hands it over.
pub fn iam_event(api_id: &str, path: &str, caller: &str) -> Value {
    let mut event = event(api_id, "POST", path);
    event["headers"]["authorization"] = json!(
        "AWS4-HMAC-SHA256 Credential=AKIA/20300101/eu-central-1/lambda/aws4_request, SignedHeaders=host, Signature=00"
    );
    event["requestContext"]["authorizer"] = json!({"iam": {
        "accessKey": "ASIAEXAMPLE", "accountId": "123456789012", "callerId": "AROAEXAMPLE:reviews-fn",
        "userArn": caller, "userId": "AROAEXAMPLE:reviews-fn"}});
    event
}
