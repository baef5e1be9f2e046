//! The issuer and everything that the other programs stand on, on real parts: moto for tables and secrets, the issuer
//! under the emulator, its two doors, and a bundle whose `jwksUri` leads to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use authz::api_key::{ApiKey, KeyState};
use causeway::dev::gateway::{Caller, FunctionUrl, FunctionUrlConfig, Gateway, Rie, UrlAuth};
use causeway::dev::http::{Answer, send};
use causeway::dev::{seeds, stack};
use identity::Secret;
use key_issuer::{Authentication, ClientRecord};
use platform::aws::Credentials;
use platform::clock::SystemClock;
use platform::dynamo_table::DynamoTable;
use platform::sigv4;
use platform::store::{ApiKeys, DynamoDb};
use platform::table::TableOf;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::credentials::Credentials as Noted;
use crate::function::Function;
use crate::moto::Moto;
use crate::process::Process;
use crate::{ports, program};

pub use crate::stores::{REGION, TABLES, aws, create_secret, create_table, issuer_tables, texts};

const ACCOUNT: &str = "123456789012";
const DOOR_ID: &str = "testdoor";

/// The programs of ours that [`World`] needs, and the real parts.
pub fn parts() -> Vec<PathBuf> {
    let programs = ["authorizer", "key-issuer", "extension", "adapter"].map(program);
    let tools = ["aws-lambda-rie", "moto_server", "envoy", "python3"].map(crate::tool);
    programs.into_iter().chain(tools).collect()
}

/// True if the end-to-end tier can run; see [`crate::tier::available`].
pub fn available() -> bool {
    let parts = parts();
    crate::tier::available(&parts.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}

/// A role that may knock at the IAM door.
#[derive(Clone, Debug)]
pub struct Role {
    /// The role's name.
    pub name: &'static str,
    /// Its access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret<String>,
}

/// The issuer, its stores and a bundle.
pub struct World {
    /// The issuer's public door.
    pub issuer: SocketAddr,
    /// The issuer's IAM door.
    pub door: SocketAddr,
    /// The compiled examples.
    pub bundle: PathBuf,
    /// The mesh's root certificates.
    pub roots: String,
    /// The secrets of the clients `reader` and `auditor`.
    pub client_secrets: BTreeMap<&'static str, Secret<String>>,
    /// A key of `partner`.
    pub partner_key: ApiKey,
    /// A revoked key of `partner`.
    pub revoked_key: ApiKey,
    /// A place for files, gone with the test.
    pub folder: TempDir,
    /// The issuer under the emulator.
    pub issuer_function: Function,
    /// The tables and secrets.
    pub moto: Moto,
    /// Every credential that a test has used.
    credentials: std::sync::Mutex<Noted>,
    roles: Vec<Role>,
}

impl World {
    /// Starts all of it.
    pub async fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let moto = Moto::start().await?;
        let seeds = seed(&moto).await?;
        let roles: Vec<Role> = ["bookinfo-reviews", "bookinfo-ratings", "bookinfo-details"]
            .map(role)
            .into_iter()
            .collect::<Result<_, _>>()?;

        let command = program("key-issuer");
        let environment = issuer_environment(&moto, &roles);
        let command = command.to_str().ok_or("the path of the program is not text")?;
        let issuer_function = Function::start("key-issuer", &[command], folder.path(), None, &environment).await?;
        let rie = Arc::new(Rie::new(&issuer_function.url()).map_err(|error| error.to_string())?);

        let bound = Gateway::bind(stack::issuer_api(rie.clone()), ports::loopback(0))
            .await
            .map_err(|error| error.to_string())?;
        let issuer = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        let callers = roles.iter().map(|role| (role.access_key_id.clone(), caller(role))).collect();
        let url = FunctionUrlConfig::new(DOOR_ID, UrlAuth::AwsIam(callers), rie);
        let bound = FunctionUrl::bind(url, ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let door = bound.address();
        tokio::spawn(bound.run(std::future::pending()));

        let mut resources = stack::resources().map_err(|errors| errors.join("; "))?;
        for rule in
            resources.request_authentications.iter_mut().flat_map(|authentication| &mut authentication.jwt_rules)
        {
            rule.jwks_uri = Some(format!("http://{issuer}/jwks.json"));
        }
        let bytes = causeway::bundle::build(&resources, BTreeMap::new()).map_err(|errors| errors.join("; "))?;
        let bundle = folder.path().join("mesh.bundle");
        std::fs::write(&bundle, bytes).map_err(|error| error.to_string())?;

        let mut credentials = Noted::default();
        roles.iter().for_each(|role| credentials.note(role.secret_access_key.expose()));
        seeds.client_secrets.values().for_each(|secret| credentials.note(secret.expose()));
        [&seeds.partner_key, &seeds.revoked_key].into_iter().for_each(|key| credentials.note(key.text().expose()));
        credentials.note(seeds.pepper.expose());
        Ok(Self {
            issuer,
            door,
            bundle,
            roots: seeds.roots,
            client_secrets: seeds.client_secrets,
            partner_key: seeds.partner_key,
            revoked_key: seeds.revoked_key,
            folder,
            issuer_function,
            moto,
            credentials: credentials.into(),
            roles,
        })
    }

    /// What a front of ours needs to look up API keys.
    pub fn front_environment(&self) -> Vec<(String, String)> {
        let mut environment = self.moto.environment();
        environment.extend(texts([
            ("CAUSEWAY_BUNDLE", &self.bundle.display().to_string()),
            ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            // The issuer of these tests is on this host.
            ("CAUSEWAY_ALLOW_PRIVATE_ISSUERS", "true"),
        ]));
        environment
    }

    /// What the extension of `role` needs; `eastwest` is where the mesh's gateway listens.
    pub fn extension_environment(
        &self,
        role: &str,
        proxy_port: u16,
        eastwest: SocketAddr,
    ) -> Result<Vec<(String, String)>, String> {
        let role = self.role(role)?;
        Ok(texts([
            ("AWS_REGION", REGION),
            ("AWS_ACCESS_KEY_ID", &role.access_key_id),
            ("AWS_SECRET_ACCESS_KEY", role.secret_access_key.expose()),
            ("CAUSEWAY_BUNDLE", &self.bundle.display().to_string()),
            ("CAUSEWAY_PROXY_PORT", &proxy_port.to_string()),
            ("CAUSEWAY_SVID_URL", &format!("http://{}", self.door)),
            ("CAUSEWAY_TOKEN_AUDIENCE", "bookinfo"),
            ("CAUSEWAY_IDENTITY_WAIT_MS", "10000"),
            ("CAUSEWAY_CONNECT_TO", &format!("eastwest.mesh.example:15443={eastwest}")),
        ]))
    }

    /// An access token for a client, and the issuer's whole answer.
    pub async fn token(&self, client: &str, more: &str) -> Result<String, String> {
        let secret = self.client_secrets.get(client).ok_or("no such client")?;
        let basic = causeway::dev::basic_credentials(client, secret.expose());
        let headers = [
            ("host", "issuer.bookinfo.example"),
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let answer =
            send(self.issuer, "POST", "/oauth2/token", &headers, format!("grant_type=client_credentials{more}"))
                .await?;
        let body: Value = serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        let token =
            body["access_token"].as_str().ok_or_else(|| format!("no token: {} {}", answer.status, answer.body))?;
        self.note(token);
        Ok(token.to_owned())
    }

    /// Registers one more client, with a secret unless its role proves it. The issuer must not have been asked about it
    /// before: it remembers for a while that there was none.
    ///
    /// # Errors
    /// When the table does not take it.
    pub async fn register(&mut self, name: &'static str, mut client: ClientRecord) -> Result<(), String> {
        if client.authentication != Authentication::Iam {
            let secret = seeds::random_text().map_err(|error| error.to_string())?;
            client.secret_hashes.push(key_issuer::secret_hash(&secret));
            self.note(secret.expose());
            self.client_secrets.insert(name, secret);
        }
        let table = Arc::new(DynamoTable::new("clients", aws(&self.moto)));
        let clients = TableOf::new("clients", table, Arc::new(SystemClock));
        clients.create(name, &client, None).await.map(|_| ()).map_err(|error| error.to_string())
    }

    /// A request to the IAM door, signed by `role`.
    pub async fn knock(&self, role: &str, target: &str, content_type: &str, body: &str) -> Result<Answer, String> {
        let role = self.role(role)?;
        let url = format!("http://{}{target}", self.door);
        let mut headers = texts([("host", &self.door.to_string()), ("content-type", content_type)]);
        let credentials = Credentials {
            access_key_id: role.access_key_id.clone(),
            secret_access_key: role.secret_access_key.clone(),
            session_token: None,
        };
        let request = sigv4::Request { method: "POST", url: &url, headers: &headers, body: body.as_bytes() };
        let signed = sigv4::sign(request, &credentials, REGION, "lambda", SystemTime::now())
            .map_err(|error| error.to_string())?;
        headers.extend(signed);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        send(self.door, "POST", target, &headers, body.to_owned()).await
    }

    /// Certificate chain (without the root) and key of `role`, as PEM files in the folder.
    pub async fn svid(&self, role: &str) -> Result<(PathBuf, PathBuf), String> {
        let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
        let request = rcgen::CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let body = json!({ "csr": request.map_err(|error| error.to_string())? }).to_string();
        let answer = self.knock(role, "/v1/svid", "application/json", &body).await?;
        let body: Value = serde_json::from_str(&answer.body).map_err(|error| format!("{error}: {}", answer.body))?;
        let chain: Vec<&str> = body["chain"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (_, shown) = chain.split_last().ok_or_else(|| format!("no chain: {} {body}", answer.status))?;
        let (certificate, secret) =
            (self.folder.path().join(format!("{role}.pem")), self.folder.path().join(format!("{role}.key")));
        std::fs::write(&certificate, shown.concat()).map_err(|error| error.to_string())?;
        std::fs::write(&secret, key.serialize_pem()).map_err(|error| error.to_string())?;
        Ok((certificate, secret))
    }

    /// Remembers a credential, to look for it in the logs.
    pub fn note(&self, credential: &str) {
        self.credentials.lock().unwrap_or_else(std::sync::PoisonError::into_inner).note(credential);
    }

    /// The first line of a part's log that holds a credential, or anything that looks like one.
    pub fn credential_in_logs(&self, parts: &[&Process]) -> Option<String> {
        let credentials = self.credentials.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let all = parts.iter().copied().chain([self.issuer_function.process()]);
        let lines: Vec<String> = all.flat_map(Process::lines).collect();
        assert!(!lines.is_empty(), "there is no log to search");
        credentials.line_with_one(&lines).cloned()
    }

    fn role(&self, name: &str) -> Result<&Role, String> {
        self.roles.iter().find(|role| role.name == name).ok_or_else(|| format!("no role {name}"))
    }
}

struct Seeds {
    roots: String,
    pepper: Secret<String>,
    client_secrets: BTreeMap<&'static str, Secret<String>>,
    partner_key: ApiKey,
    revoked_key: ApiKey,
}

async fn seed(moto: &Moto) -> Result<Seeds, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
    let trust_domain = "cluster.local".parse().map_err(|error| format!("{error}"))?;
    let signing = key_issuer::bootstrap::new_signing_secret().map_err(|error| error.to_string())?;
    let authority = key_issuer::bootstrap::new_ca_secret(&trust_domain, now).map_err(|error| error.to_string())?;
    let roots: Value = serde_json::from_str(authority.expose()).map_err(|error| error.to_string())?;
    let roots = roots["root-cert.pem"].as_str().ok_or("the authority has no root")?.to_owned();
    let pepper = seeds::random_text().map_err(|error| error.to_string())?;
    for (id, secret) in [("signing", &signing), ("ca", &authority), ("pepper", &pepper)] {
        create_secret(moto, id, secret).await?;
    }
    for table in TABLES {
        create_table(moto, table).await?;
    }
    let table = Arc::new(DynamoTable::new("clients", aws(moto)));
    let clients = TableOf::new("clients", table, Arc::new(SystemClock));
    let mut client_secrets = BTreeMap::new();
    for (client_id, scope) in [("reader", "reviews.read"), ("auditor", "orders.read")] {
        let secret = seeds::random_text().map_err(|error| error.to_string())?;
        let client = ClientRecord {
            secret_hashes: vec![key_issuer::secret_hash(&secret)],
            scopes: vec![scope.to_owned()],
            audiences: vec!["bookinfo".to_owned(), "orders".to_owned()],
            grants: vec!["client_credentials".to_owned()],
            ..ClientRecord::new(client_id)
        };
        clients.create(client_id, &client, None).await.map_err(|error| error.to_string())?;
        client_secrets.insert(client_id, secret);
    }
    let keys = DynamoDb::new("api-keys", aws(moto));
    let hashed_with = Secret::new(pepper.expose().clone().into_bytes());
    let mut made = Vec::new();
    for state in [KeyState::Active, KeyState::Revoked] {
        let key = seeds::new_key().map_err(|error| error.to_string())?;
        let record = seeds::key_record(&key, "partner", state, &hashed_with);
        ApiKeys::put(&keys, &record).await.map_err(|error| error.to_string())?;
        made.push(key);
    }
    let (Some(revoked_key), Some(partner_key)) = (made.pop(), made.pop()) else { return Err("no keys".to_owned()) };
    Ok(Seeds { roots, pepper, client_secrets, partner_key, revoked_key })
}

fn issuer_environment(moto: &Moto, roles: &[Role]) -> Vec<(String, String)> {
    let registry: Vec<Value> = roles
        .iter()
        .map(|role| {
            json!({"role_arn": format!("arn:aws:iam::{ACCOUNT}:role/{}", role.name), "namespace": "bookinfo",
                "service_account": role.name, "client_id": role.name, "scopes": ["ratings.read"], "audiences": ["bookinfo"]})
        })
        .collect();
    let mut environment = moto.environment();
    environment.extend(issuer_tables());
    environment.extend(texts([
        ("CAUSEWAY_ISSUER", stack::ISSUER),
        ("CAUSEWAY_SIGNING_SECRET", "signing"),
        ("CAUSEWAY_CA_SECRET", "ca"),
        ("CAUSEWAY_IAM_DOOR_IDS", DOOR_ID),
        ("CAUSEWAY_REGISTRY", &json!(registry).to_string()),
    ]));
    environment
}

fn role(name: &'static str) -> Result<Role, String> {
    let secret_access_key = seeds::random_text().map_err(|error| error.to_string())?;
    Ok(Role { name, access_key_id: format!("AKID{}", name.replace('-', "").to_uppercase()), secret_access_key })
}

fn caller(role: &Role) -> Caller {
    Caller {
        secret_access_key: role.secret_access_key.clone(),
        session_token: None,
        account_id: ACCOUNT.to_owned(),
        user_arn: format!("arn:aws:sts::{ACCOUNT}:assumed-role/{}/session", role.name),
        caller_id: format!("AROA{}:session", role.name.to_uppercase()),
        principal_org_id: None,
    }
}
