//! What the local stack starts with, made anew each time: secrets, keys, clients, certificates; and the programs'
//! configurations that go with them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use authz::api_key::{ApiKey, ApiKeyRecord, KeyState};
use authz::{KeySets, Policies, Target};
use identity::{Secret, Svid, TrustBundle, TrustDomain};
use key_issuer::{ClientRecord, KeyIssuer};
use platform::aws::{AwsConfig, Credentials};
use platform::clock::{Clock, SystemClock};
use platform::env::MapEnv;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::Log;
use platform::random::{Random, SystemRandom};
use platform::store::{ApiKeys, Embedded};
use platform::table::TableOf;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::gateway::{Caller, FunctionUrlConfig, Invoker, UrlAuth};
use super::mesh::Sidecar;
use super::stack::{ISSUER, PATIENCE, StackError, loopback};

const TRUST_DOMAIN: &str = "cluster.local";
pub(super) const ENVIRONMENT: &str = "dev";
const DOOR_ID: &str = "localdoor";
const REGION: &str = "eu-central-1";
pub(super) const ACCOUNT: &str = "123456789012";
const ACCESS_KEY: &str = "AKIDREVIEWS";
const ROLE: &str = "bookinfo-reviews";

/// Every secret, key and record that the stack starts with, made anew each time.
pub(super) struct Seeds {
    pub(super) secrets: Arc<platform::secrets::Embedded>,
    pub(super) store: Arc<Embedded>,
    pub(super) roots: String,
    pub(super) access_key: Secret<String>,
    pub(super) reader_secret: Secret<String>,
    pub(super) auditor_secret: Secret<String>,
    pub(super) admin_secret: Secret<String>,
    pub(super) partner_key: ApiKey,
    pub(super) revoked_key: ApiKey,
}

impl Seeds {
    pub(super) async fn new(now: u64) -> Result<Self, StackError> {
        let part = |part: &'static str| move |why: String| StackError::Part { part, why };
        let trust_domain = trust_domain()?;
        let signing =
            key_issuer::bootstrap::new_signing_secret().map_err(|error| part("key-issuer")(error.to_string()))?;
        let authority = key_issuer::bootstrap::new_ca_secret(&trust_domain, now)
            .map_err(|error| part("key-issuer")(error.to_string()))?;
        let roots = serde_json::from_str::<Value>(authority.expose()).ok();
        let roots = roots.and_then(|ca| ca["root-cert.pem"].as_str().map(str::to_owned));
        let roots = roots.ok_or_else(|| part("key-issuer")("the new authority has no root".to_owned()))?;
        let pepper = random_text()?;
        let secrets = platform::secrets::Embedded::default();
        secrets.put("signing", signing.expose().clone());
        secrets.put("ca", authority.expose().clone());
        secrets.put("pepper", pepper.expose().clone());

        let (reader_secret, auditor_secret, admin_secret) = (random_text()?, random_text()?, random_text()?);
        let store = Embedded::in_memory();
        let clients = TableOf::new("clients", store.table("clients"), Arc::new(SystemClock));
        for (client_id, secret, scope) in [
            ("reader", &reader_secret, "reviews.read"),
            ("auditor", &auditor_secret, "orders.read"),
            ("admin", &admin_secret, "issuer.admin"),
        ] {
            let client = ClientRecord {
                secret_hashes: vec![key_issuer::secret_hash(secret)],
                scopes: vec![scope.to_owned()],
                audiences: vec!["bookinfo".to_owned(), "orders".to_owned()],
                grants: vec!["client_credentials".to_owned()],
                ..ClientRecord::new(client_id)
            };
            clients.create(client_id, &client, None).await.map_err(|error| part("store")(error.to_string()))?;
        }
        let pepper = Secret::new(pepper.expose().clone().into_bytes());
        let (partner_key, revoked_key) = (new_key()?, new_key()?);
        for (key, state) in [(&partner_key, KeyState::Active), (&revoked_key, KeyState::Revoked)] {
            let record = key_record(key, "partner", state, &pepper);
            ApiKeys::put(&store, &record).await.map_err(|error| part("store")(error.to_string()))?;
        }
        let access_key = random_text()?;
        Ok(Self {
            secrets: Arc::new(secrets),
            store: Arc::new(store),
            roots,
            access_key,
            reader_secret,
            auditor_secret,
            admin_secret,
            partner_key,
            revoked_key,
        })
    }

    pub(super) fn issuer_config(&self) -> Result<key_issuer::Config, StackError> {
        let role = |name: &str| format!("arn:aws:iam::{ACCOUNT}:role/{name}");
        let entry = |name: &str, account: &str| {
            json!({"role_arn": role(name), "namespace": "bookinfo", "service_account": account, "client_id": account,
                "scopes": ["ratings.read"], "audiences": ["bookinfo"]})
        };
        let registry = json!([
            entry(ROLE, "bookinfo-reviews"),
            entry("ratings", "bookinfo-ratings"),
            entry("intruder", "bookinfo-intruder")
        ]);
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_CA_SECRET", "ca"),
            ("CAUSEWAY_TRUST_DOMAIN", TRUST_DOMAIN),
            ("CAUSEWAY_IAM_DOOR_IDS", DOOR_ID),
            ("CAUSEWAY_API_KEYS_TABLE", platform::store::API_KEYS),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_ENVIRONMENT", ENVIRONMENT),
        ])
        .with("CAUSEWAY_REGISTRY", registry.to_string());
        key_issuer::Config::from_env(&env).map_err(|error| StackError::Configuration(error.to_string()))
    }

    pub(super) fn issuer_deps(&self, clock: Arc<dyn Clock>, log: Log) -> key_issuer::Deps {
        key_issuer::Deps {
            tables: key_issuer::Tables::embedded(&self.store),
            secret_versions: None,
            secrets: self.secrets.clone(),
            caller_identity: None,
            clock,
            random: Arc::new(SystemRandom),
            log,
        }
    }

    pub(super) fn door(&self, issuer: Arc<dyn Invoker>) -> FunctionUrlConfig {
        let caller = Caller {
            secret_access_key: self.access_key.clone(),
            session_token: None,
            account_id: ACCOUNT.to_owned(),
            user_arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/reviews"),
            caller_id: "AROAREVIEWS:reviews".to_owned(),
            principal_org_id: None,
        };
        FunctionUrlConfig::new(DOOR_ID, UrlAuth::AwsIam(BTreeMap::from([(ACCESS_KEY.to_owned(), caller)])), issuer)
    }

    /// A sidecar with an SVID of the issuer, got as any workload gets one, but without the way over the network.
    pub(super) async fn sidecar(
        &self,
        issuer: &KeyIssuer,
        role: &'static str,
        policies: Policies,
        clock: Arc<dyn Clock>,
        log: Log,
    ) -> Result<Sidecar, StackError> {
        let part = |why: String| StackError::Part { part: role, why };
        let roots =
            TrustBundle::from_pem(trust_domain()?, self.roots.as_bytes()).map_err(|error| part(error.to_string()))?;
        let tls = RenewedTls::new(issuer.clone(), role, roots, clock.clone()).await.map_err(part)?;
        Ok(Sidecar {
            name: role,
            tls,
            keys: KeySets::embedded(&policies).map_err(|error| part(error.to_string()))?,
            policies,
            workload: ratings_workload(),
            clock,
            log,
        })
    }

    /// The extension as a process outside Lambda, whose mesh endpoints are at `connect_to`, by their ports.
    pub(super) async fn extension(
        &self,
        bundle: Vec<u8>,
        door: SocketAddr,
        connect_to: [(u16, SocketAddr); 2],
        port: u16,
        log: Log,
    ) -> Result<extension::Bound, StackError> {
        let aws = AwsConfig {
            region: REGION.to_owned(),
            credentials: Credentials {
                access_key_id: ACCESS_KEY.to_owned(),
                secret_access_key: self.access_key.clone(),
                session_token: None,
            }
            .into(),
            dynamodb_endpoint: None,
            secretsmanager_endpoint: None,
        };
        let egress = extension::Egress {
            bundle: extension::BundleSource::Bytes(bundle),
            trust_domain: Some(trust_domain()?),
            workload: extension::Workload { namespace: Some("bookinfo".to_owned()), ..extension::Workload::default() },
            issuer_url: format!("http://{door}"),
            issuer_service: "lambda".to_owned(),
            aws,
            audience: Some("bookinfo".to_owned()),
            scope: None,
            tokens: Vec::new(),
            identity_wait: PATIENCE,
            response_timeout: PATIENCE,
            connect_to: connect_to
                .map(|(port, address)| extension::ConnectTo { host: "eastwest.mesh.example".to_owned(), port, address })
                .to_vec(),
            listeners: Vec::new(),
            life: extension::config::Life::default(),
            https: extension::config::Https::default(),
            inbound: None,
        };
        let config = extension::Config { port, lambda: None, egress: Ok(egress) };
        let deps = extension::Deps { clock: Arc::new(SystemClock), log };
        extension::Extension::bind(config, deps).await.map_err(|error| match error {
            extension::Error::Port { source, .. } => {
                StackError::Bind { part: "extension", address: loopback(port), why: source.to_string() }
            }
            other => StackError::Part { part: "extension", why: other.to_string() },
        })
    }

    /// What authorizer and adapter look API keys up in.
    pub(super) fn front_deps(&self, clock: Arc<dyn Clock>, log: Log) -> platform::front::Deps {
        let api_keys = platform::api_keys::ApiKeyStore {
            records: self.store.clone(),
            secrets: self.secrets.clone(),
            pepper_id: "pepper".to_owned(),
        };
        let jwks = Arc::new(JwksSource::with_settings(JwksSettings::private(), clock.clone()));
        platform::front::Deps {
            api_keys: Some(api_keys),
            jwks,
            revocations: Default::default(),
            rate_limits: None,
            clock,
            log,
        }
    }
}

/// How the policies know ratings.
fn ratings_workload() -> Target {
    Target::Workload {
        namespace: "bookinfo".to_owned(),
        labels: vec![("app".to_owned(), "ratings".to_owned())],
        environment: Some(ENVIRONMENT.to_owned()),
    }
}

fn trust_domain() -> Result<TrustDomain, StackError> {
    TRUST_DOMAIN.parse().map_err(|error| StackError::Configuration(format!("{error}")))
}

/// A record for a new key of `client_id`.
pub fn key_record(key: &ApiKey, client_id: &str, state: KeyState, pepper: &Secret<Vec<u8>>) -> ApiKeyRecord {
    ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: client_id.to_owned(),
        environment: key.environment().to_owned(),
        hashes: vec![authz::api_key::hex(&key.hash(pepper))],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    }
}

/// A new API key of the stack's environment.
pub fn new_key() -> Result<ApiKey, StackError> {
    let mut bytes = [0; 48];
    fill(&mut bytes)?;
    ApiKey::generate(ENVIRONMENT, &bytes).map_err(|error| StackError::Part { part: "API key", why: error.to_string() })
}

/// 256 random bits as text, for client secrets and peppers.
pub fn random_text() -> Result<Secret<String>, StackError> {
    let mut bytes = [0; 32];
    fill(&mut bytes)?;
    Ok(Secret::new(authz::api_key::hex(&bytes)))
}

fn fill(bytes: &mut [u8]) -> Result<(), StackError> {
    SystemRandom.fill(bytes).map_err(|error| StackError::Part { part: "random numbers", why: error.to_string() })
}

/// The TLS side of a workload of the mesh, with a new SVID at half of the life of the last one: the stack is kept up for
/// longer than an SVID lives.
pub(super) struct RenewedTls {
    issuer: KeyIssuer,
    role: &'static str,
    roots: TrustBundle,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

struct Held {
    config: Arc<rustls::ServerConfig>,
    /// Unix seconds.
    renew_at: u64,
}

impl RenewedTls {
    async fn new(
        issuer: KeyIssuer,
        role: &'static str,
        roots: TrustBundle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let held = Mutex::new(Held::fetch(&issuer, role, &roots).await?);
        Ok(Self { issuer, role, roots, clock, held })
    }

    /// The configuration for a new connection.
    pub(super) async fn current(&self) -> Arc<rustls::ServerConfig> {
        let mut held = self.held.lock().await;
        // A renewal that fails is in the issuer's log, and the next connection tries again.
        if self.clock.unix() >= held.renew_at
            && let Ok(new) = Held::fetch(&self.issuer, self.role, &self.roots).await
        {
            *held = new;
        }
        Arc::clone(&held.config)
    }
}

impl Held {
    async fn fetch(issuer: &KeyIssuer, role: &str, roots: &TrustBundle) -> Result<Self, String> {
        let svid = svid(issuer, role).await?;
        let config = identity::tls::server_config(&svid, roots, &["istio-http/1.1", "istio", "http/1.1"])
            .map_err(|error| error.to_string())?;
        Ok(Self { config, renew_at: svid.not_before().midpoint(svid.not_after()) })
    }
}

/// A new SVID for `role`: a key made here, a request signed with it, and the issuer's answer to the role.
async fn svid(issuer: &KeyIssuer, role: &str) -> Result<Svid, String> {
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let request = rcgen::CertificateParams::default().serialize_request(&key).map_err(|error| error.to_string())?;
    let request = request.pem().map_err(|error| error.to_string())?;
    let event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/v1/svid", "rawQueryString": "",
        "headers": {"content-type": "application/json"},
        "requestContext": {"accountId": ACCOUNT, "apiId": DOOR_ID, "domainName": format!("{DOOR_ID}.lambda-url.{REGION}.on.aws"),
            "stage": "$default", "requestId": role, "routeKey": "$default",
            "authorizer": {"iam": {"accessKey": "AKIDMESH", "accountId": ACCOUNT, "callerId": "AROAMESH:mesh", "userId": "AROAMESH:mesh",
                "userArn": format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/mesh")}},
            "http": {"method": "POST", "path": "/v1/svid", "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1", "userAgent": "mesh"}},
        "body": json!({"csr": request}).to_string(), "isBase64Encoded": false,
    });
    let answer = issuer.handle(event).await.map_err(|error| error.to_string())?;
    let body: Value = answer["body"].as_str().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let chain: Vec<&str> = body["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    // The last one is the root, which a peer has already.
    let shown = chain.split_last().map(|(_, shown)| shown.concat()).unwrap_or_default();
    Svid::from_pem(shown.as_bytes(), key.serialize_pem().as_bytes())
        .map_err(|error| format!("{error} (the issuer answered {answer})"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use platform::clock::FixedClock;

    use super::*;

    #[tokio::test]
    async fn a_sidecar_outlives_its_first_svid() {
        let clock = Arc::new(FixedClock::at(SystemClock.unix()));
        let seeds = Seeds::new(clock.unix()).await.unwrap();
        let deps = seeds.issuer_deps(clock.clone(), Log::memory().0);
        let issuer = KeyIssuer::new(seeds.issuer_config().unwrap(), deps);
        let roots = TrustBundle::from_pem(trust_domain().unwrap(), seeds.roots.as_bytes()).unwrap();
        let tls = RenewedTls::new(issuer, "ratings", roots, clock.clone()).await.unwrap();
        let first = tls.current().await;
        assert!(Arc::ptr_eq(&first, &tls.current().await));
        clock.advance(Duration::from_secs(key_issuer::SVID_LIFE_SECONDS / 2));
        let second = tls.current().await;
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &tls.current().await));
    }
}
