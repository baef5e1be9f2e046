//! An issuer with everything that it can have, its clients, and events.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use identity::Secret;
use key_issuer::{Algorithm, ClientRecord, Config, Deps, KeyIssuer, Tables, bootstrap, secret_hash};
use platform::clock::{Clock, SystemClock};
use platform::env::MapEnv;
use platform::log::Log;
use platform::random::SystemRandom;
use platform::secrets::Embedded as Secrets;
use platform::store::Embedded as Store;
use platform::table::TableOf;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{self, Environment, Functions, policies};
use crate::counted::Calls;

const SECRET: &str = "Zm9yIHRoZSBiZW5jaG1hcmssIGFuZCBmb3Igbm90aGluZyBlbHNl";
const REGISTRY: &str = r#"[{"role_arn":"arn:aws:iam::123456789012:role/reviews","namespace":"bookinfo","service_account":"bookinfo-reviews","client_id":"bookinfo-reviews","audiences":["bookinfo"]}]"#;

/// The variables of the template, with everything switched on.
const VARIABLES: [(&str, &str); 12] = [
    ("CAUSEWAY_ISSUER", "https://issuer.bookinfo.example"),
    ("CAUSEWAY_ENVIRONMENT", "dev"),
    ("CAUSEWAY_SIGNING_SECRET", "signing"),
    ("CAUSEWAY_CA_SECRET", "ca"),
    ("CAUSEWAY_PEPPER_SECRET", "pepper"),
    ("CAUSEWAY_CLIENTS_TABLE", "clients"),
    ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
    ("CAUSEWAY_STATE_TABLE", "state"),
    ("CAUSEWAY_REVOCATIONS_TABLE", "revocations"),
    ("CAUSEWAY_IAM_DOOR_IDS", "iamdoor"),
    ("CAUSEWAY_REGISTRY", REGISTRY),
    // A role asks for more of them here than it ever may.
    ("CAUSEWAY_SVID_RATE", "1000000"),
];

/// What Lambda sets, in the program's environment alone.
const OF_LAMBDA: [(&str, &str); 3] =
    [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "x"), ("AWS_SECRET_ACCESS_KEY", "y")];

pub(crate) struct World {
    pub(crate) calls: Calls,
    issuer: KeyIssuer,
    runtime: tokio::runtime::Runtime,
    key_issuer: PathBuf,
    bare: PathBuf,
    bundle: PathBuf,
    _folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let secrets = Secrets::default();
        secrets.put("signing", bootstrap::new_signing_secret().unwrap().expose().clone());
        let trust_domain = "cluster.local".parse().unwrap();
        secrets.put("ca", bootstrap::new_ca_secret(&trust_domain, SystemClock.unix()).unwrap().expose().clone());
        let tables = Tables::embedded(&Store::in_memory());
        let clients = TableOf::new("clients", tables.clients.clone(), Arc::new(SystemClock));
        for (client_id, algorithm) in [("es256", None), ("rs256", Some(Algorithm::Rs256))] {
            let record = ClientRecord {
                secret_hashes: vec![secret_hash(&Secret::new(SECRET.to_owned()))],
                scopes: vec!["reviews.read".to_owned()],
                audiences: vec!["bookinfo".to_owned()],
                grants: vec!["client_credentials".to_owned()],
                token_algorithm: algorithm,
                ..ClientRecord::new(client_id)
            };
            assert!(runtime.block_on(clients.create(client_id, &record, None)).unwrap());
        }
        let calls = Calls::default();
        let deps = Deps {
            tables: calls.of_tables(tables),
            secrets: calls.of_secrets(secrets),
            secret_versions: None,
            caller_identity: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            // Lines are made and dropped.
            log: Log::to(|_| ()),
        };
        let issuer = || KeyIssuer::new(Config::from_env(&MapEnv::from(VARIABLES)).unwrap(), deps.clone());
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("mesh.bundle");
        let mut made = Self {
            calls,
            issuer: issuer(),
            runtime,
            key_issuer: e2e::program("key-issuer"),
            bare: common::bare(),
            bundle,
            _folder: folder,
        };
        let jwks = made.answer(&event("GET", "/jwks.json", json!({}), None));
        std::fs::write(&made.bundle, policies::bundle(jwks["body"].as_str().unwrap())).unwrap();
        // One that has not been asked for anything.
        made.issuer = issuer();
        made
    }

    /// The two programs that are compared. The tables and secrets that ours is told of are not there.
    pub(crate) fn functions(&self) -> Result<Functions<'_>, String> {
        let text = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let mut environment: Environment = VARIABLES.into_iter().chain(OF_LAMBDA).map(text).collect();
        environment.push(text(("CAUSEWAY_BUNDLE", &self.bundle.display().to_string())));
        common::functions(&self.bare, &self.key_issuer, environment)
    }

    /// The event of the public door that asks for a token, `client_credentials` with `client_secret_basic`.
    pub(crate) fn token_request(&self, client_id: &str) -> String {
        let basic = STANDARD.encode(format!("{client_id}:{SECRET}"));
        let headers = json!({
            "authorization": format!("Basic {basic}"), "content-type": "application/x-www-form-urlencoded",
        });
        event("POST", "/oauth2/token", headers, Some("grant_type=client_credentials&scope=reviews.read")).to_string()
    }

    /// The event of the IAM door that asks for an X.509-SVID of a P-256 key.
    pub(crate) fn svid_request(&self) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let body = json!({ "csr": csr }).to_string();
        let mut event = event("POST", "/v1/svid", json!({"content-type": "application/json"}), Some(&body));
        event["requestContext"]["apiId"] = "iamdoor".into();
        event["requestContext"]["authorizer"] = json!({"iam": {
            "accountId": "123456789012", "userId": "AROAEXAMPLE:session",
            "userArn": "arn:aws:sts::123456789012:assumed-role/reviews/session",
        }});
        event.to_string()
    }

    /// The event of the public door that asks for the discovery document.
    pub(crate) fn discovery(&self) -> String {
        event("GET", "/.well-known/openid-configuration", json!({}), None).to_string()
    }

    /// A token's text, once it was asked for.
    pub(crate) fn token(&self, request: &str) -> String {
        let answer = self.answer(&serde_json::from_str(request).unwrap());
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        body["access_token"].as_str().unwrap().to_owned()
    }

    /// Gives the issuer the same event so many times, from its text to the answer's text.
    pub(crate) fn ask(&self, event: &str, times: usize) {
        self.runtime.block_on(async {
            for _ in 0..times {
                let event = serde_json::from_str(event).unwrap();
                let answer = self.issuer.handle(event).await.unwrap();
                assert_eq!(answer["statusCode"], 200, "{answer}");
                std::hint::black_box(answer.to_string());
            }
        });
    }

    fn answer(&self, event: &Value) -> Value {
        let answer = self.runtime.block_on(self.issuer.handle(event.clone())).unwrap();
        assert_eq!(answer["statusCode"], 200, "{answer}");
        answer
    }
}

/// An event with payload format 2.0, as API Gateway and Function URLs send it.
fn event(method: &str, path: &str, headers: Value, body: Option<&str>) -> Value {
    let mut event: Value = serde_json::from_str(include_str!("../../../examples/events/http-2.0.json")).unwrap();
    for name in ["type", "routeArn", "identitySource", "queryStringParameters"] {
        event.as_object_mut().unwrap().remove(name);
    }
    event["rawPath"] = path.into();
    event["rawQueryString"] = "".into();
    event["headers"].as_object_mut().unwrap().extend(headers.as_object().unwrap().clone());
    event["requestContext"]["apiId"] = "public".into();
    event["requestContext"]["http"]["method"] = method.into();
    event["requestContext"]["http"]["path"] = path.into();
    event["isBase64Encoded"] = body.is_some().into();
    if let Some(body) = body {
        event["body"] = STANDARD.encode(body).into();
    }
    event
}
