//! The issuer in the test's own process, behind the gateway of `causeway dev`, with a clock that the test sets: for
//! what takes hours, such as a rotation of its keys under the caches of verifiers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use causeway::dev::gateway::{FunctionError, Gateway, GatewayConfig, InProcess, Integration, Route};
use causeway::dev::http::send;
use identity::Secret;
use key_issuer::{Algorithm, ClientRecord, Config, Deps, KeyIssuer, Tables, bootstrap};
use platform::clock::{Clock, FixedClock};
use platform::env::MapEnv;
use platform::log::Log;
use platform::random::SystemRandom;
use platform::secrets::Embedded;
use platform::table::TableOf;
use serde_json::{Value, json};

use crate::ports;

const SECRET: &str = "a-long-enough-secret";
const SIGNING: &str = "signing";
/// The header by which a verifier says which one it is.
pub const VERIFIER: &str = "x-verifier";
/// The clients, each named after the algorithm of its tokens.
pub const CLIENTS: [(&str, Algorithm); 3] =
    [("ES256", Algorithm::Es256), ("RS256", Algorithm::Rs256), ("EdDSA", Algorithm::EdDsa)];

/// The issuer.
pub struct RotatingIssuer {
    /// Where it listens.
    pub address: SocketAddr,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Its clock.
    pub clock: Arc<FixedClock>,
    issuer: KeyIssuer,
    secrets: Arc<Embedded>,
    fetches: Fetches,
}

/// Who has asked for the keys, and when.
type Fetches = Arc<Mutex<Vec<(String, u64)>>>;

impl RotatingIssuer {
    /// An issuer with a key of each algorithm and tokens that live for an hour, the longest life, at this time. It
    /// counts on verifiers that keep its keys for two hours.
    pub async fn start(now: u64) -> Result<Self, String> {
        Self::start_for(now, 7200).await
    }

    /// The same for verifiers that keep its keys for so many seconds.
    pub async fn start_for(now: u64, verifier_cache: u64) -> Result<Self, String> {
        // It has to know its own address, so the port is taken before there is anything to listen there.
        let port = ports::free().map_err(|error| error.to_string())?;
        let url = format!("http://127.0.0.1:{port}");
        let clock = Arc::new(FixedClock::at(now));
        let secrets = Arc::new(Embedded::default());
        let signing = bootstrap::new_signing_secret_of(&CLIENTS.map(|(_, algorithm)| algorithm));
        secrets.put(SIGNING, signing.map_err(|error| error.to_string())?.expose().clone());
        let tables = Tables::embedded(&platform::store::Embedded::in_memory());
        let clients = TableOf::new("clients", tables.clients.clone(), clock.clone() as Arc<dyn Clock>);
        for (id, algorithm) in CLIENTS {
            let record = ClientRecord {
                secret_hashes: vec![key_issuer::secret_hash(&Secret::new(SECRET.to_owned()))],
                audiences: vec!["bookinfo".to_owned()],
                grants: vec!["client_credentials".to_owned()],
                token_algorithm: Some(algorithm),
                ..ClientRecord::new(id)
            };
            clients.create(id, &record, None).await.map_err(|error| error.to_string())?;
        }
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", url.as_str()),
            ("CAUSEWAY_SIGNING_SECRET", SIGNING),
            ("CAUSEWAY_TOKEN_TTL_SECONDS", "3600"),
            ("CAUSEWAY_VERIFIER_CACHE_SECONDS", &verifier_cache.to_string()),
        ]);
        let deps = Deps {
            tables,
            secret_versions: Some(secrets.clone()),
            secrets: secrets.clone(),
            caller_identity: None,
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            log: Log::memory().0,
        };
        let issuer = KeyIssuer::new(Config::from_env(&env).map_err(|error| error.to_string())?, deps);

        let fetches = Fetches::default();
        let (noted, answering, time) = (fetches.clone(), issuer.clone(), clock.clone());
        let function = InProcess::function(move |event: Value| {
            if event["rawPath"] == "/jwks.json" {
                let verifier = event["headers"][VERIFIER].as_str().unwrap_or_default().to_owned();
                noted.lock().unwrap_or_else(PoisonError::into_inner).push((verifier, time.unix()));
            }
            let issuer = answering.clone();
            async move {
                issuer.handle(event).await.map_err(|error| FunctionError {
                    error_type: "InvocationError".to_owned(),
                    error_message: error.to_string(),
                })
            }
        });
        let api = GatewayConfig {
            domains: vec!["issuer.bookinfo.example".to_owned()],
            routes: vec![Route::new("$default", "key-issuer")],
            integrations: vec![Integration::new("key-issuer", function)],
            ..GatewayConfig::new("issuer", "$default")
        };
        let bound = Gateway::bind(api, ports::loopback(port)).await.map_err(|error| error.to_string())?;
        let address = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        Ok(Self { address, url, clock, issuer, secrets, fetches })
    }

    /// A token of one of [`CLIENTS`].
    pub async fn token(&self, client: &str) -> Result<String, String> {
        let basic = causeway::dev::basic_credentials(client, SECRET);
        let headers = [
            ("host", "issuer.bookinfo.example"),
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer = send(self.address, "POST", "/oauth2/token", &headers, "grant_type=client_credentials").await?;
        let body: Value = serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        body["access_token"].as_str().map(str::to_owned).ok_or_else(|| format!("no token: {}", answer.body))
    }

    /// Rotates the signing keys: the four events of Secrets Manager, at the time that it is.
    pub async fn rotate(&self, version: &str) -> Result<(), String> {
        self.secrets.start_rotation(SIGNING, version).map_err(|error| error.to_string())?;
        for (step, expected) in [
            ("createSecret", "created"),
            ("setSecret", "nothing_to_do"),
            ("testSecret", "tested"),
            ("finishSecret", "finished"),
        ] {
            let event = json!({"Step": step, "SecretId": SIGNING, "ClientRequestToken": version});
            let answer = self.issuer.handle(event).await.map_err(|error| error.to_string())?;
            if answer["outcome"] != expected {
                return Err(format!("{step}: {answer}, expected {expected}"));
            }
        }
        Ok(())
    }

    /// When a verifier has asked for the keys.
    pub fn fetches(&self, verifier: &str) -> Vec<u64> {
        let fetches = self.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        fetches.iter().filter(|(name, _)| name == verifier).map(|(_, at)| *at).collect()
    }
}
