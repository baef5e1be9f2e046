//! What credentials are proven with, on real sockets: the stores of API keys as AWS has them, and documents that an issuer
//! publishes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use authz::{ApiKey, ApiKeyRecord, KeyState};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use identity::Secret;
use platform::api_keys::ApiKeysConfig;
use platform::aws::{AwsConfig, Credentials};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::common::*;

const PEPPER: &str = "a pepper of the tests";

/// DynamoDB and Secrets Manager.
pub struct Stores {
    address: SocketAddr,
    /// Records by id; `None` is an outage.
    records: Arc<Mutex<Option<HashMap<String, String>>>>,
    _task: Task,
}

impl Stores {
    pub async fn start() -> Stores {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let records: Arc<Mutex<Option<HashMap<String, String>>>> = Arc::new(Mutex::new(Some(HashMap::new())));
        let asked = Arc::clone(&records);
        let task = Task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let records = Arc::clone(&asked);
                let service = service_fn(move |request| answer(Arc::clone(&records), request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Stores { address, records, _task: task }
    }

    /// A key that is in the store.
    pub fn key(&self, environment: &str, random: u8, state: KeyState) -> String {
        let key = ApiKey::generate(environment, &[random; 48]).unwrap();
        let record = ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: "reader".to_owned(),
            environment: environment.to_owned(),
            hashes: vec![authz::api_key::hex(&key.hash(&Secret::new(PEPPER.as_bytes().to_vec())))],
            state,
            ..ApiKeyRecord::default()
        };
        let text = serde_json::to_string(&record).unwrap();
        self.records.lock().unwrap().as_mut().unwrap().insert(record.id, text);
        key.text().expose().clone()
    }

    pub fn fail(&self) {
        *self.records.lock().unwrap() = None;
    }

    pub fn config(&self) -> ApiKeysConfig {
        let endpoint = Some(format!("http://{}", self.address));
        let credentials = Credentials {
            access_key_id: "AKIDREVIEWS".to_owned(),
            secret_access_key: "reviews-secret".to_owned().into(),
            session_token: None,
        };
        let aws = AwsConfig {
            region: "eu-central-1".to_owned(),
            credentials: credentials.into(),
            dynamodb_endpoint: endpoint.clone(),
            secretsmanager_endpoint: endpoint,
        };
        ApiKeysConfig { table: "api-keys".to_owned(), pepper_secret: "pepper".to_owned(), aws }
    }
}

async fn answer(
    records: Arc<Mutex<Option<HashMap<String, String>>>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let target = request.headers()["x-amz-target"].to_str().unwrap().to_owned();
    let asked = request.into_body().collect().await.unwrap().to_bytes();
    let asked: serde_json::Value = serde_json::from_slice(&asked).unwrap();
    let Some(records) = records.lock().unwrap().clone() else { return Ok(status(500)) };
    let answer = match target.as_str() {
        "secretsmanager.GetSecretValue" => serde_json::json!({ "SecretString": PEPPER }),
        "DynamoDB_20120810.GetItem" => match records.get(asked["Key"]["id"]["S"].as_str().unwrap()) {
            Some(record) => serde_json::json!({"Item": {"record": {"S": record}}}),
            None => serde_json::json!({}),
        },
        other => panic!("{other}"),
    };
    Ok(Response::new(text(answer.to_string())))
}

/// A document over HTTPS.
pub struct Published {
    address: SocketAddr,
    pub root: CertificateDer<'static>,
    document: Arc<Mutex<Option<String>>>,
    _task: Task,
}

impl Published {
    /// Nothing but an outage, for now.
    pub async fn start() -> Published {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key: PrivateKeyDer<'static> = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
        let root = made.cert.der().clone();
        let tls = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (acceptor, document) = (TlsAcceptor::from(Arc::new(tls)), Arc::new(Mutex::new(None::<String>)));
        let published = Arc::clone(&document);
        let task = Task::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, document) = (acceptor.clone(), Arc::clone(&published));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let service = service_fn(move |_: Request<Incoming>| {
                        let answer = match document.lock().unwrap().clone() {
                            Some(document) => Response::new(text(document)),
                            None => status(503),
                        };
                        std::future::ready(Ok::<_, Infallible>(answer))
                    });
                    let builder = hyper::server::conn::http1::Builder::new();
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Published { address, root, document, _task: task }
    }

    pub fn publish(&self, document: String) {
        *self.document.lock().unwrap() = Some(document);
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}/document", self.address.port())
    }
}
