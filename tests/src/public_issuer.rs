//! The issuer as its clients see it: https at its own name, a door with mutual TLS beside it, clients of every kind.
//! Behind the doors are the gateway of `causeway dev`, the program under the emulator, and moto.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authz::api_key::KeyState;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use causeway::bundle;
use causeway::dev::gateway::{Gateway, GatewayConfig, Integration, Invoker, Rie, Route};
use causeway::dev::seeds;
use identity::Secret;
use key_issuer::{Algorithm, AssertionAudience, Authentication, CertificateName, ClientRecord, bootstrap};
use platform::clock::SystemClock;
use platform::dynamo_table::DynamoTable;
use platform::store::{ApiKeys, DynamoDb};
use platform::table::TableOf;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::credentials::Credentials;
use crate::function::Function;
use crate::moto::Moto;
use crate::pki::{AssertionKey, Authority, Identity};
use crate::tls_door::{TlsDoor, WithCertificate};
use crate::{path, ports, program, root, stores, tool};

const MTLS_DOOR_ID: &str = "mtlsdoor";
/// Every character that a form has to encode, in one secret.
const AWKWARD_SECRET: &str = "se+cr%et: w\u{e9}ith a space & more=/";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// The scope `issuer.admin` administrates.
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: causeway-system }
spec:
  jwtRules:
    - { issuer: '{{ISSUER}}', jwksUri: '{{ISSUER}}/jwks.json', audiences: [causeway-admin] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: administrators, namespace: causeway-system }
spec:
  selector: { matchLabels: { app: key-issuer } }
  rules:
    - from: [{ source: { requestPrincipals: ['{{ISSUER}}/*'] } }]
      when: [{ key: 'request.auth.claims[scope]', values: [issuer.admin] }]
";

/// True if what the issuer needs is there, and the tools of the test, see [`crate::tier::available`].
pub fn available(tools: &[&str]) -> bool {
    let parts = ["aws-lambda-rie", "moto_server"].iter().chain(tools).map(|name| tool(name));
    let parts: Vec<PathBuf> = parts.chain([program("key-issuer")]).collect();
    crate::tier::available(&parts.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}

/// The issuer with its doors and clients.
pub struct PublicIssuer {
    /// `https://localhost:PORT`.
    pub url: String,
    /// The base URL of the door with mutual TLS.
    pub mtls_url: String,
    /// What the scripts are told, as JSON: `issuer`, `mtls`, `authority` (a file), `clients`, `api_key`.
    pub settings: Value,
    /// A place for files, gone with the test.
    pub folder: TempDir,
    /// The issuer under the emulator.
    pub function: Function,
    /// The tables and secrets.
    pub moto: Moto,
    credentials: Credentials,
}

impl PublicIssuer {
    /// Starts it.
    pub async fn start() -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let moto = Moto::start().await?;
        let authority = Authority::new("The authority of the test")?;
        let own = Identity::self_signed("self-signed.bookinfo.example")?;
        let server = authority.server(&["localhost", "127.0.0.1"])?;
        let door = TlsDoor::bind(&server, None).await?;
        let mtls_door = TlsDoor::bind(&server, Some(&[authority.certificate(), &own.certificate])).await?;
        let url = format!("https://localhost:{}", door.port()?);
        let mtls_url = format!("https://localhost:{}", mtls_door.port()?);

        let signing = bootstrap::new_signing_secret_of(&[Algorithm::Es256, Algorithm::Rs256, Algorithm::EdDsa]);
        let pepper = seeds::random_text().map_err(|error| error.to_string())?;
        for (id, secret) in [("signing", &signing.map_err(|error| error.to_string())?), ("pepper", &pepper)] {
            stores::create_secret(&moto, id, secret).await?;
        }
        for table in stores::TABLES {
            stores::create_table(&moto, table).await?;
        }
        let mut clients = Clients::new(&moto, folder.path());
        clients.add_all(&authority, own).await?;
        let api_key = api_key(&moto, &pepper).await?;

        let file = folder.path().join("policies.bundle");
        std::fs::write(&file, policies(&url)?).map_err(|error| error.to_string())?;
        let mut environment = moto.environment();
        environment.extend(stores::issuer_tables());
        environment.extend(stores::texts([
            ("CAUSEWAY_ISSUER", &url),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_MTLS_DOOR_IDS", MTLS_DOOR_ID),
            ("CAUSEWAY_MTLS_ISSUER", &mtls_url),
            ("CAUSEWAY_BUNDLE", &file.display().to_string()),
        ]));
        let command = program("key-issuer");
        let command = command.to_str().ok_or("the path of the program is not text")?;
        let function = Function::start("key-issuer", &[command], folder.path(), None, &environment).await?;
        let rie = Arc::new(Rie::new(&function.url()).map_err(|error| error.to_string())?);
        for (id, invoker, door) in [
            ("publicdoor", rie.clone() as Arc<dyn Invoker>, door),
            (MTLS_DOOR_ID, Arc::new(WithCertificate(rie)), mtls_door),
        ] {
            let api = GatewayConfig {
                domains: vec!["localhost".to_owned()],
                routes: vec![Route::new("$default", "key-issuer")],
                integrations: vec![Integration::new("key-issuer", invoker)],
                ..GatewayConfig::new(id, "$default")
            };
            let bound = Gateway::bind(api, ports::loopback(0)).await.map_err(|error| error.to_string())?;
            door.open(bound.address());
            tokio::spawn(bound.run(std::future::pending()));
        }

        let file = folder.path().join("authority.pem");
        std::fs::write(&file, authority.certificate().pem()).map_err(|error| error.to_string())?;
        let mut credentials = clients.credentials;
        [&api_key, pepper.expose()].into_iter().for_each(|text| credentials.note(text));
        let settings = json!({"issuer": url, "mtls": mtls_url, "authority": file, "clients": clients.settings,
            "api_key": api_key});
        Ok(Self { url, mtls_url, settings, folder, function, moto, credentials })
    }

    /// The secret of a client.
    pub fn secret(&self, client: &str) -> Result<&str, String> {
        self.settings["clients"][client]["secret"].as_str().ok_or_else(|| format!("{client} has no secret"))
    }

    /// Runs a script of `tests/fixtures/clients/` to its end. It is told where to find the settings.
    pub async fn run(&self, script: &str) -> Result<(), String> {
        let settings = self.folder.path().join("settings.json");
        std::fs::write(&settings, self.settings.to_string()).map_err(|error| error.to_string())?;
        let mut command = script_command(script, self.folder.path())?;
        command.arg(settings).env("NODE_EXTRA_CA_CERTS", self.folder.path().join("authority.pem"));
        let output = command.output().await.map_err(|error| format!("cannot start {script}: {error}"))?;
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        // A script that ends without a word has not come to its end.
        if output.status.success() && stdout.trim_end().ends_with("all passed") {
            Ok(())
        } else {
            Err(format!("{script}: {}\n{stdout}{stderr}", output.status))
        }
    }

    /// The first line of a log that holds a credential, or anything that looks like one.
    pub fn credential_in_logs(&self) -> Option<String> {
        let mut lines = self.function.process().lines();
        assert!(lines.iter().any(|line| line.contains("\"token_issued\"")), "the issuer has logged no token");
        lines.extend(self.moto.process().lines());
        self.credentials.line_with_one(&lines).cloned()
    }
}

/// The command for a script of `tests/fixtures/clients/`: Python with the packages of `requirements.txt`, or Node.js with
/// those of `package.json`. Node.js looks for them beside the script, so it runs from a copy in `folder`.
pub fn script_command(script: &str, folder: &Path) -> Result<Command, String> {
    let fixtures = root().join("tests/fixtures/clients");
    let mut command = if script.ends_with(".mjs") {
        let modules = folder.join("node_modules");
        if !modules.exists() {
            std::os::unix::fs::symlink(root().join(".tools/node/node_modules"), modules)
                .map_err(|error| error.to_string())?;
        }
        for entry in std::fs::read_dir(&fixtures).map_err(|error| error.to_string())? {
            let from = entry.map_err(|error| error.to_string())?.path();
            if let Some(name) = from.file_name().filter(|_| from.extension().is_some_and(|kind| kind == "mjs")) {
                std::fs::copy(&from, folder.join(name)).map_err(|error| error.to_string())?;
            }
        }
        let mut command = Command::new(tool("node"));
        command.arg(folder.join(script));
        command
    } else {
        let mut command = Command::new(tool("python3"));
        command.arg(fixtures.join(script));
        command
    };
    // The machine's proxies are not for loopback.
    command.env_clear().env("PATH", path()).env("PYTHONDONTWRITEBYTECODE", "1").kill_on_drop(true);
    Ok(command)
}

/// The compiled policies.
fn policies(issuer: &str) -> Result<Vec<u8>, String> {
    let text = POLICIES.replace("{{ISSUER}}", issuer);
    let source = istio::SourceFile { name: "policies.yaml".to_owned(), text };
    let resources = istio::parse(&[source]).map_err(|errors| format!("{errors:?}"))?;
    bundle::build(&resources, BTreeMap::new()).map_err(|errors| errors.join("; "))
}

async fn api_key(moto: &Moto, pepper: &Secret<String>) -> Result<String, String> {
    let key = seeds::new_key().map_err(|error| error.to_string())?;
    let pepper = Secret::new(pepper.expose().clone().into_bytes());
    let record = seeds::key_record(&key, "partner", KeyState::Active, &pepper);
    let keys = DynamoDb::new("api-keys", stores::aws(moto));
    ApiKeys::put(&keys, &record).await.map_err(|error| error.to_string())?;
    Ok(key.text().expose().clone())
}

/// The clients, in the issuer's table and in the settings.
struct Clients<'a> {
    table: TableOf<ClientRecord>,
    folder: &'a Path,
    settings: Map<String, Value>,
    credentials: Credentials,
}

impl<'a> Clients<'a> {
    fn new(moto: &Moto, folder: &'a Path) -> Self {
        let table = Arc::new(DynamoTable::new("clients", stores::aws(moto)));
        let table = TableOf::new("clients", table, Arc::new(SystemClock));
        Self { table, folder, settings: Map::new(), credentials: Credentials::default() }
    }

    async fn add_all(&mut self, authority: &Authority, own: Identity) -> Result<(), String> {
        self.with_secret("awkward", AWKWARD_SECRET, |record| record).await?;
        self.with_random_secret("plain", |record| record).await?;
        self.with_random_secret("rs256", |record| with_algorithm(record, Algorithm::Rs256)).await?;
        self.with_random_secret("eddsa", |record| with_algorithm(record, Algorithm::EdDsa)).await?;
        self.with_random_secret("dpop", |record| ClientRecord { dpop_bound_access_tokens: true, ..record }).await?;
        self.with_random_secret("front", |record| ClientRecord { may_act: vec!["gateway".to_owned()], ..record })
            .await?;
        self.with_random_secret("gateway", |record| ClientRecord {
            audiences: vec!["orders".to_owned()],
            grants: ["client_credentials", EXCHANGE, "refresh_token"].map(str::to_owned).to_vec(),
            introspects_all: true,
            ..record
        })
        .await?;
        self.with_random_secret("admin", |record| ClientRecord {
            scopes: vec!["issuer.admin".to_owned()],
            audiences: vec!["causeway-admin".to_owned()],
            ..record
        })
        .await?;
        // Without an audience there is no token for it.
        self.with_random_secret("nobody", |record| ClientRecord { audiences: Vec::new(), ..record }).await?;
        let broken = vec!["no hash".to_owned()];
        self.with_random_secret("broken", |record| ClientRecord { secret_hashes: broken, ..record }).await?;

        self.with_key("assertion", AssertionKey::es256()?, AssertionAudience::IssuerOnly).await?;
        self.with_key("older-assertion", AssertionKey::rs256()?, AssertionAudience::IssuerOrTokenEndpoint).await?;

        let name = "certificate.bookinfo.example";
        let record = ClientRecord {
            authentication: Authentication::TlsClientAuth,
            certificate: Some(CertificateName::SanDns(name.to_owned())),
            tls_client_certificate_bound_access_tokens: true,
            ..client("certificate")
        };
        self.with_certificate(record, authority.client(name)?).await?;
        let x5c = STANDARD.encode(own.certificate.der());
        let record = ClientRecord {
            authentication: Authentication::SelfSignedTlsClientAuth,
            jwks: Some(json!({"keys": [{"kty": "EC", "x5c": [x5c]}]})),
            ..client("self-signed")
        };
        self.with_certificate(record, own).await
    }

    async fn with_random_secret(
        &mut self,
        id: &str,
        change: impl FnOnce(ClientRecord) -> ClientRecord,
    ) -> Result<(), String> {
        let secret = seeds::random_text().map_err(|error| error.to_string())?;
        self.with_secret(id, secret.expose(), change).await
    }

    async fn with_secret(
        &mut self,
        id: &str,
        secret: &str,
        change: impl FnOnce(ClientRecord) -> ClientRecord,
    ) -> Result<(), String> {
        let hash = key_issuer::secret_hash(&Secret::new(secret.to_owned()));
        self.credentials.note(secret);
        let record = change(ClientRecord { secret_hashes: vec![hash], ..client(id) });
        self.add(record, json!({"secret": secret})).await
    }

    async fn with_key(&mut self, id: &str, key: AssertionKey, audience: AssertionAudience) -> Result<(), String> {
        let record = ClientRecord {
            authentication: Authentication::PrivateKeyJwt,
            jwks: Some(json!({"keys": [key.jwk]})),
            assertion_algorithms: vec![key.algorithm.to_owned()],
            assertion_audience: audience,
            ..client(id)
        };
        self.add(record, json!({"key": key.pem, "algorithm": key.algorithm})).await
    }

    async fn with_certificate(&mut self, record: ClientRecord, shown: Identity) -> Result<(), String> {
        let file = |kind: &str| self.folder.join(format!("{}.{kind}", record.client_id));
        let (certificate, key) = (file("pem"), file("key"));
        std::fs::write(&certificate, shown.certificate.pem()).map_err(|error| error.to_string())?;
        std::fs::write(&key, shown.key.serialize_pem()).map_err(|error| error.to_string())?;
        let settings = json!({"certificate": certificate, "key": key, "thumbprint": shown.thumbprint()});
        self.add(record, settings).await
    }

    async fn add(&mut self, record: ClientRecord, settings: Value) -> Result<(), String> {
        self.table.create(&record.client_id, &record, None).await.map_err(|error| error.to_string())?;
        self.settings.insert(record.client_id, settings);
        Ok(())
    }
}

fn client(id: &str) -> ClientRecord {
    ClientRecord {
        scopes: ["reviews.read", "reviews.write"].map(str::to_owned).to_vec(),
        audiences: ["bookinfo", "https://orders.bookinfo.example"].map(str::to_owned).to_vec(),
        grants: vec!["client_credentials".to_owned()],
        ..ClientRecord::new(id)
    }
}

fn with_algorithm(record: ClientRecord, algorithm: Algorithm) -> ClientRecord {
    ClientRecord { token_algorithm: Some(algorithm), ..record }
}
