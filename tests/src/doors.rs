//! The issuer in the test's own process behind both of its doors, for programs that run as processes: they sign what
//! they ask with credentials that they get as a task in ECS gets them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use causeway::dev::gateway::{Caller, FunctionUrl, FunctionUrlConfig, Gateway, InProcess, UrlAuth};
use causeway::dev::http::send;
use causeway::dev::{seeds, stack};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use identity::Secret;
use key_issuer::{Config, Deps, KeyIssuer, Tables, bootstrap};
use platform::aws::Credentials;
use platform::clock::{Clock, SystemClock};
use platform::env::MapEnv;
use platform::log::Log;
use platform::random::SystemRandom;
use platform::secrets::Embedded;
use platform::sigv4;
use platform::store::Embedded as Store;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::local_issuer::Workload;
use crate::ports;
use crate::stores::{REGION, texts};

const DOOR_ID: &str = "testdoor";
const ACCOUNT: &str = "123456789012";

/// An issuer of one trust domain.
pub struct Doors {
    /// The public one.
    pub public: SocketAddr,
    iam: SocketAddr,
    /// Where tasks get the credentials of their roles.
    tasks: SocketAddr,
    roles: BTreeMap<&'static str, Role>,
}

struct Role {
    access_key_id: String,
    secret_access_key: Secret<String>,
    session_token: Secret<String>,
}

impl Doors {
    /// Opens the doors of an issuer with this authority, the JSON of its secret. Each role is a service account of the
    /// same name in `namespace`.
    ///
    /// # Errors
    /// When the configuration is refused or a port cannot be had.
    pub async fn open(
        trust_domain: &str,
        authority: &Value,
        namespace: &str,
        roles: &[&'static str],
    ) -> Result<Self, String> {
        let secrets = Embedded::default();
        let signing = bootstrap::new_signing_secret().map_err(text)?;
        secrets.put("signing", signing.expose().clone());
        secrets.put("ca", authority.to_string());
        let registry = roles.iter().map(|role| {
            json!({"role_arn": format!("arn:aws:iam::{ACCOUNT}:role/{role}"), "namespace": namespace,
                "service_account": role, "client_id": role, "audiences": [namespace]})
        });
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", stack::ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_CA_SECRET", "ca"),
            ("CAUSEWAY_STATE_TABLE", "state"),
            ("CAUSEWAY_IAM_DOOR_IDS", DOOR_ID),
            ("CAUSEWAY_TRUST_DOMAIN", trust_domain),
        ])
        .with("CAUSEWAY_REGISTRY", Value::from_iter(registry).to_string());
        let deps = Deps {
            tables: Tables::embedded(&Store::in_memory()),
            secret_versions: None,
            secrets: Arc::new(secrets),
            caller_identity: None,
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            log: Log::memory().0,
        };
        let issuer = InProcess::service(KeyIssuer::new(Config::from_env(&env).map_err(text)?, deps));

        let bound = Gateway::bind(stack::issuer_api(issuer.clone()), ports::loopback(0)).await.map_err(text)?;
        let public = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        let roles: BTreeMap<_, _> =
            roles.iter().map(|name| Ok((*name, Role::new(name)?))).collect::<Result<_, String>>()?;
        let callers = roles.iter().map(|(name, role)| (role.access_key_id.clone(), role.caller(name))).collect();
        let url = FunctionUrlConfig::new(DOOR_ID, UrlAuth::AwsIam(callers), issuer);
        let bound = FunctionUrl::bind(url, ports::loopback(0)).await.map_err(text)?;
        let iam = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        let tasks = tasks(&roles).await?;
        Ok(Self { public, iam, tasks, roles })
    }

    /// What ECS and the task definition give the sidecar of a task with this role.
    pub fn variables(&self, role: &str) -> Vec<(String, String)> {
        texts([
            ("AWS_REGION", REGION),
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("http://{}/v2/credentials/{role}", self.tasks)),
            ("CAUSEWAY_SVID_URL", &format!("http://{}", self.iam)),
        ])
    }

    /// A new SVID of a role, for a part that is not ours.
    ///
    /// # Errors
    /// When the issuer gives none.
    pub async fn workload(&self, role: &str) -> Result<Workload, String> {
        let key = rcgen::KeyPair::generate().map_err(text)?;
        let csr = rcgen::CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let body = json!({ "csr": csr.map_err(text)? }).to_string();
        let answer = self.knock(role, "/v1/svid", &body).await?;
        let body: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        let chain: Vec<&str> = body["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (roots, chain) = chain.split_last().ok_or_else(|| format!("no chain: {body}"))?;
        Ok(Workload { chain: chain.concat(), key: Secret::new(key.serialize_pem()), roots: (*roots).to_owned() })
    }

    /// What the issuer publishes at its bundle endpoint.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn spiffe_bundle(&self) -> Result<String, String> {
        let host = [("host", "issuer.bookinfo.example")];
        let answer = send(self.public, "GET", "/spiffe-bundle.json", &host, "").await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(format!("{}: {}", answer.status, answer.body)) }
    }

    async fn knock(&self, role: &str, target: &str, body: &str) -> Result<String, String> {
        let role = self.roles.get(role).ok_or_else(|| format!("no role {role}"))?;
        let url = format!("http://{}{target}", self.iam);
        let mut headers = texts([("host", &self.iam.to_string()), ("content-type", "application/json")]);
        let credentials = Credentials {
            access_key_id: role.access_key_id.clone(),
            secret_access_key: role.secret_access_key.clone(),
            session_token: Some(role.session_token.clone()),
        };
        let request = sigv4::Request { method: "POST", url: &url, headers: &headers, body: body.as_bytes() };
        headers.extend(sigv4::sign(request, &credentials, REGION, "lambda", SystemClock.now()).map_err(text)?);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        send(self.iam, "POST", target, &headers, body.to_owned()).await.map(|answer| answer.body)
    }
}

impl Role {
    fn new(name: &str) -> Result<Self, String> {
        Ok(Self {
            access_key_id: format!("ASIA{}", name.replace('-', "").to_uppercase()),
            secret_access_key: seeds::random_text().map_err(text)?,
            session_token: seeds::random_text().map_err(text)?,
        })
    }

    fn caller(&self, name: &str) -> Caller {
        Caller {
            secret_access_key: self.secret_access_key.clone(),
            session_token: Some(self.session_token.clone()),
            account_id: ACCOUNT.to_owned(),
            user_arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{name}/task"),
            caller_id: format!("AROA{}:task", name.to_uppercase()),
            principal_org_id: None,
        }
    }
}

/// The endpoint at which ECS gives a task the credentials of its role.
async fn tasks(roles: &BTreeMap<&'static str, Role>) -> Result<SocketAddr, String> {
    let answers: BTreeMap<String, String> = roles
        .iter()
        .map(|(name, role)| {
            let answer = json!({
                "RoleArn": format!("arn:aws:iam::{ACCOUNT}:role/{name}"),
                "AccessKeyId": role.access_key_id,
                "SecretAccessKey": role.secret_access_key.expose(),
                "Token": role.session_token.expose(),
                "Expiration": "2999-01-01T00:00:00Z",
            });
            (format!("/v2/credentials/{name}"), answer.to_string())
        })
        .collect();
    let answers = Arc::new(answers);
    let listener = TcpListener::bind(ports::loopback(0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answers = Arc::clone(&answers);
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let found = answers.get(request.uri().path()).cloned();
                async move {
                    let mut response = Response::new(Full::new(Bytes::from(found.clone().unwrap_or_default())));
                    if found.is_none() {
                        *response.status_mut() = StatusCode::NOT_FOUND;
                    }
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
