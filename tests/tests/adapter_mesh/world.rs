//! The issuer with keys in a store, the adapter, the authorizer over the same policies, Envoys, and an application.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use adapter::config::Workload as AdapterWorkload;
use adapter::{Adapter, ApiKeyStore, Deps, Exchange, ExchangeConfig, Place};
use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use bytes::Bytes;
use causeway::dev::gateway::{Gateway, InProcess};
use causeway::dev::http::{Answer, send};
use causeway::dev::{seeds, stack};
use e2e::envoy::Envoy;
use e2e::ports;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::Secret;
use istio::Resources;
use key_issuer::{KeyIssuer, Tables};
use platform::clock::{Clock, FixedClock, SystemClock};
use platform::env::MapEnv;
use platform::https::Reach;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::{Lines, Log};
use platform::random::SystemRandom;
use platform::store::{ApiKeys, Embedded};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::translate::{Setup, Workload, http_filters};

pub type Result<T = ()> = std::result::Result<T, String>;

pub fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The issuer, the stores, and a clock that authorizer and adapter have.
pub struct World {
    pub clock: Arc<FixedClock>,
    pub folder: tempfile::TempDir,
    pub issuer: SocketAddr,
    pub jwks: String,
    door: JoinHandle<()>,
    pepper: Secret<Vec<u8>>,
    secrets: Arc<platform::secrets::Embedded>,
    store: Arc<Embedded>,
}

impl World {
    pub async fn start() -> Result<Self> {
        let (secrets, store) = (platform::secrets::Embedded::default(), Embedded::in_memory());
        let signing = key_issuer::bootstrap::new_signing_secret().map_err(text)?;
        let pepper = seeds::random_text().map_err(text)?;
        secrets.put("signing", signing.expose().clone());
        secrets.put("pepper", pepper.expose().clone());
        let (secrets, store) = (Arc::new(secrets), Arc::new(store));
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", stack::ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_STATE_TABLE", "state"),
            ("CAUSEWAY_REVOCATIONS_TABLE", "revocations"),
            ("CAUSEWAY_API_KEYS_TABLE", platform::store::API_KEYS),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_ENVIRONMENT", "dev"),
        ]);
        let deps = key_issuer::Deps {
            tables: Tables::embedded(&store),
            secret_versions: None,
            secrets: secrets.clone(),
            caller_identity: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            log: Log::memory().0,
        };
        let issuer = KeyIssuer::new(key_issuer::Config::from_env(&env).map_err(text)?, deps);
        let api = stack::issuer_api(InProcess::service(issuer));
        let bound = Gateway::bind(api, ports::loopback(0)).await.map_err(text)?;
        let behind = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        let (issuer, door) = door(behind).await?;
        let jwks = send(issuer, "GET", "/jwks.json", &[("host", "issuer.bookinfo.example")], "").await?.body;
        let folder = tempfile::tempdir().map_err(text)?;
        let clock = Arc::new(FixedClock::at(SystemClock.unix()));
        let pepper = Secret::new(pepper.expose().clone().into_bytes());
        Ok(Self { clock, folder, issuer, jwks, door, pepper, secrets, store })
    }

    /// The issuer is gone, with all its connections.
    pub async fn issuer_down(&mut self) {
        self.door.abort();
        let _ = (&mut self.door).await;
    }

    pub async fn key(&self, client: &str, environment: &str, state: KeyState, scope: &str) -> Result<ApiKey> {
        let mut random = [0; 48];
        platform::random::Random::fill(&SystemRandom, &mut random).map_err(text)?;
        let key = ApiKey::generate(environment, &random).map_err(text)?;
        self.put(&key, client, state, scope).await?;
        Ok(key)
    }

    pub async fn put(&self, key: &ApiKey, client: &str, state: KeyState, scope: &str) -> Result {
        let record = seeds::key_record(key, client, state, &self.pepper);
        let record = ApiKeyRecord { scope: scope.to_owned(), ..record };
        ApiKeys::put(&*self.store, &record).await.map_err(text)
    }

    /// A token that the issuer gives for a key.
    pub async fn token(&self, key: &ApiKey) -> Result<String> {
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token_type=urn%3Acauseway%3Atoken-type%3Aapi-key&subject_token={}",
            key.text().expose()
        );
        let headers = [("host", "issuer.bookinfo.example"), ("content-type", "application/x-www-form-urlencoded")];
        let answer = send(self.issuer, "POST", "/oauth2/token", &headers, form).await?;
        let body: Value = serde_json::from_str(&answer.body).map_err(text)?;
        body["access_token"].as_str().map(str::to_owned).ok_or_else(|| format!("no token: {}", answer.body))
    }

    pub fn resources(&self, yaml: &str) -> Result<Resources> {
        let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml.replace("JWKS", &self.jwks) };
        istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))
    }

    pub fn policies(&self, yaml: &str) -> Result<Policies> {
        let compiled = authz::compile(&self.resources(yaml)?, &CompileOptions::default());
        Policies::open(&compiled.map_err(|errors| format!("{errors:?}"))?.section).map_err(text)
    }

    /// What a front stands on, and its log.
    pub fn deps(&self) -> (Deps, Lines) {
        let (log, lines) = Log::memory();
        let pepper_id = "pepper".to_owned();
        let api_keys = ApiKeyStore { records: self.store.clone(), secrets: self.secrets.clone(), pepper_id };
        let jwks = Arc::new(JwksSource::with_settings(JwksSettings::private(), self.clock.clone()));
        let (api_keys, clock) = (Some(api_keys), self.clock.clone());
        (Deps { api_keys, jwks, revocations: Default::default(), rate_limits: None, clock, log }, lines)
    }

    /// An adapter for the workload `reviews`.
    pub async fn adapter(&self, yaml: &str, exchanges: bool) -> Result<RunningAdapter> {
        let labels = vec![("app".to_owned(), "reviews".to_owned())];
        let workload = Some(AdapterWorkload { namespace: "bookinfo".to_owned(), labels });
        let place = Place { workload, environment: Some("dev".to_owned()) };
        let config = ExchangeConfig { url: format!("http://{}", self.issuer), audience: None };
        let patience = Duration::from_secs(20);
        let exchange = Exchange::with(&config, Reach::Private, Vec::new(), self.clock.clone(), patience);
        let exchange = if exchanges { Some(exchange.map_err(text)?) } else { None };
        let (deps, lines) = self.deps();
        let adapter = Adapter::with_exchange(place, self.policies(yaml)?, deps, exchange).map_err(text)?;
        let bound = adapter.listen(ports::loopback(0)).map_err(text)?;
        let address = bound.address();
        let task = tokio::spawn(async move { drop(bound.run(std::future::pending()).await) });
        Ok(RunningAdapter { address, lines, task })
    }

    /// A sidecar with these filters in Istio's order: ours, where there is an adapter, then those that istiod makes of
    /// the policies.
    pub async fn sidecar(&self, name: &str, adapter: Option<SocketAddr>, yaml: Option<&str>) -> Result<Envoy> {
        let mut filters = Vec::new();
        if adapter.is_some() {
            filters.push(json!({
                "name": "envoy.filters.http.ext_authz",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
                    "transport_api_version": "V3",
                    "failure_mode_allow": false,
                    "status_on_error": {"code": "ServiceUnavailable"},
                    "grpc_service": {
                        "envoy_grpc": {"cluster_name": "adapter", "authority": "adapter"}, "timeout": "25s",
                    },
                },
            }));
        }
        if let Some(yaml) = yaml {
            let resources = self.resources(yaml)?;
            let setup = Setup {
                mesh: resources.mesh.clone(),
                policies: resources.authorization_policies.clone(),
                authentications: resources.request_authentications.clone(),
            };
            let labels = BTreeMap::from([("app".to_owned(), "reviews".to_owned())]);
            filters.extend(http_filters(&setup, &Workload { namespace: "bookinfo".to_owned(), labels }));
        }
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }));
        let app = app().await?;
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).map_err(text)?;
        let port = adapter.map_or(9, |address| address.port()).to_string();
        let (app, filters) = (app.port().to_string(), Value::Array(filters).to_string());
        let values = [("FILTERS", filters.as_str()), ("ADAPTER_PORT", &port), ("APP_PORT", &app)];
        Envoy::start("adapter_mesh", &values, &folder).await
    }
}

pub struct RunningAdapter {
    pub address: SocketAddr,
    pub lines: Lines,
    task: JoinHandle<()>,
}

impl RunningAdapter {
    /// The reason of the last decision.
    pub fn reason(&self) -> String {
        reason(&self.lines)
    }

    /// Ends it; its connections end soon after.
    pub async fn stop(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// The reason of the last decision in a log.
pub fn reason(lines: &Lines) -> String {
    let lines = lines.all();
    let all = lines.iter().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let line = all.into_iter().find(|line| line["event"] == "decision").unwrap_or_default();
    line["reason"].as_str().unwrap_or_default().to_owned()
}

/// One request to a sidecar.
pub async fn ask(envoy: &Envoy, method: &str, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    let headers: Vec<_> = [("host", "api.bookinfo.example")].iter().chain(headers).copied().collect();
    send(envoy.address, method, path, &headers, "").await
}

/// The header lines with this name that the application has got.
pub fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let lines = body.as_array().into_iter().flatten().filter(|line| line[0] == name);
    lines.filter_map(|line| line[1].as_str().map(str::to_owned)).collect()
}

/// The application: it answers with the headers that it has got.
async fn app() -> Result<SocketAddr> {
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = service_fn(|request: hyper::Request<hyper::body::Incoming>| async move {
                let line = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
                    json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())])
                };
                let lines: Vec<Value> = request.headers().iter().map(line).collect();
                Ok::<_, Infallible>(hyper::Response::new(Full::new(Bytes::from(json!(lines).to_string()))))
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    Ok(address)
}

/// A way to `behind` that ends, with all its connections, when its task does.
async fn door(behind: SocketAddr) -> Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut other) = TcpStream::connect(behind).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut other).await;
                }
            });
        }
    });
    Ok((address, task))
}
