//! The issuer in the test's own process, on stores in memory and the machine's clock: for what needs neither Lambda
//! nor AWS.

use std::sync::Arc;

use identity::{Secret, SpiffeId, Svid, TrustBundle};
use key_issuer::{CallerIdentity, Config, Deps, KeyIssuer, Tables, bootstrap};
use platform::clock::{Clock, SystemClock};
use platform::env::MapEnv;
use platform::log::{Lines, Log};
use platform::random::SystemRandom;
use platform::secrets::Embedded;
use platform::store::Embedded as Store;
use serde_json::{Value, json};

/// The issuer's identifier.
pub const ISSUER: &str = "https://issuer.bookinfo.example";
const IAM_DOOR: &str = "iamdoor";
const PUBLIC_DOOR: &str = "publicdoor";
const ACCOUNT: &str = "123456789012";

/// An answer of the issuer.
pub struct Answer {
    /// The HTTP status.
    pub status: u64,
    /// The body.
    pub body: Value,
}

/// The issuer.
pub struct LocalIssuer {
    issuer: KeyIssuer,
    /// What it has logged.
    pub lines: Lines,
}

/// A new authority of the trust domain `cluster.local`, as the JSON of its secret.
pub fn new_authority() -> Result<Value, String> {
    let trust_domain = "cluster.local".parse().map_err(|error| format!("{error}"))?;
    let secret = bootstrap::new_ca_secret(&trust_domain, SystemClock.unix()).map_err(|error| error.to_string())?;
    serde_json::from_str(secret.expose()).map_err(|error| error.to_string())
}

/// What a workload has: chain (without the root) and key in PEM, and the roots.
pub struct Workload {
    /// The chain, the leaf first.
    pub chain: String,
    /// The key.
    pub key: Secret<String>,
    /// The roots.
    pub roots: String,
}

impl Workload {
    /// For our own TLS.
    pub fn svid(&self) -> Result<Svid, String> {
        Svid::from_pem(self.chain.as_bytes(), self.key.expose().as_bytes()).map_err(|error| error.to_string())
    }

    /// For our own verifiers.
    pub fn bundle(&self) -> Result<TrustBundle, String> {
        let trust_domain = "cluster.local".parse().map_err(|error| format!("{error}"))?;
        TrustBundle::from_pem(trust_domain, self.roots.as_bytes()).map_err(|error| error.to_string())
    }
}

/// The SPIFFE ID of a role.
pub fn spiffe_id(role: &str) -> Result<SpiffeId, String> {
    format!("spiffe://cluster.local/ns/bookinfo/sa/{role}").parse().map_err(|error| format!("{error}"))
}

impl LocalIssuer {
    /// An issuer for the roles `reviews` and `ratings`; `authority` is the JSON of its secret, `members` go into the
    /// roles' registrations, `variables` into the configuration.
    pub fn new(
        authority: &Value,
        members: &Value,
        variables: &[(&str, &str)],
        caller_identity: Option<Arc<dyn CallerIdentity>>,
    ) -> Result<Self, String> {
        let secrets = Embedded::default();
        let signing = bootstrap::new_signing_secret().map_err(|error| error.to_string())?;
        secrets.put("signing", signing.expose().clone());
        secrets.put("ca", authority.to_string());
        let registry = ["reviews", "ratings"].map(|role| {
            let mut entry = json!({"role_arn": format!("arn:aws:iam::{ACCOUNT}:role/{role}"), "namespace": "bookinfo",
                "service_account": role, "client_id": role, "audiences": ["bookinfo"]});
            for (name, value) in members.as_object().into_iter().flatten() {
                entry[name] = value.clone();
            }
            entry
        });
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_CA_SECRET", "ca"),
            ("CAUSEWAY_STATE_TABLE", "state"),
            ("CAUSEWAY_IAM_DOOR_IDS", IAM_DOOR),
        ])
        .with("CAUSEWAY_REGISTRY", json!(registry).to_string());
        let env = variables.iter().fold(env, |env, (name, value)| env.with(name, *value));
        let (log, lines) = Log::memory();
        let deps = Deps {
            tables: Tables::embedded(&Store::in_memory()),
            secret_versions: None,
            secrets: Arc::new(secrets),
            caller_identity,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            log,
        };
        let config = Config::from_env(&env).map_err(|error| error.to_string())?;
        Ok(Self { issuer: KeyIssuer::new(config, deps), lines })
    }

    /// A request at the public door.
    pub async fn public(&self, method: &str, path: &str, body: &Value) -> Result<Answer, String> {
        self.send(PUBLIC_DOOR, method, path, body, Value::Null).await
    }

    /// A request of `role` at the IAM door.
    pub async fn knock(&self, role: &str, path: &str, body: &Value) -> Result<Answer, String> {
        let iam = json!({"iam": {"accountId": ACCOUNT, "userId": "AROAEXAMPLE:s",
            "userArn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/s")}});
        self.send(IAM_DOOR, "POST", path, body, iam).await
    }

    /// A new SVID for a key of this type.
    pub async fn workload(&self, role: &str, of: &'static rcgen::SignatureAlgorithm) -> Result<Workload, String> {
        self.workload_with(role, rcgen::KeyPair::generate_for(of).map_err(|error| error.to_string())?).await
    }

    /// A new SVID for this key.
    pub async fn workload_with(&self, role: &str, key: rcgen::KeyPair) -> Result<Workload, String> {
        let csr = rcgen::CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let csr = csr.map_err(|error| error.to_string())?;
        let answer = self.knock(role, "/v1/svid", &json!({ "csr": csr })).await?;
        let chain: Vec<&str> =
            answer.body["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (roots, chain) = chain.split_last().ok_or_else(|| format!("no chain: {}", answer.body))?;
        Ok(Workload { chain: chain.concat(), key: Secret::new(key.serialize_pem()), roots: (*roots).to_owned() })
    }

    async fn send(
        &self,
        door: &str,
        method: &str,
        path: &str,
        body: &Value,
        authorizer: Value,
    ) -> Result<Answer, String> {
        let event = json!({
            "version": "2.0", "rawPath": path, "rawQueryString": "", "isBase64Encoded": false,
            "headers": {"content-type": "application/json"}, "body": body.to_string(),
            "requestContext": {"apiId": door, "stage": "$default", "authorizer": authorizer,
                "http": {"method": method, "path": path, "sourceIp": "203.0.113.7"}},
        });
        let answer = self.issuer.handle(event).await.map_err(|error| error.to_string())?;
        let body = answer["body"].as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        Ok(Answer { status: answer["statusCode"].as_u64().unwrap_or_default(), body })
    }
}
