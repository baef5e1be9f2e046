//! The environment of the extension, read once and checked whole.

mod https;
#[cfg_attr(not(feature = "inbound"), path = "config/no_inbound.rs")]
mod inbound;
// What the layer's build says is tested with the others.
mod life;
#[cfg(all(test, feature = "inbound"))]
#[allow(dead_code, unreachable_pub)]
mod no_inbound;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use identity::TrustDomain;
use platform::aws::AwsConfig;
use platform::bundle;
use platform::env::{Env, EnvError, Reader};
use platform::https::checked_url;
use traffic::table::Locality;

pub use https::{DEFAULT_CA_FILE, Https};
pub use inbound::{HEALTH_PORT, Inbound};
#[cfg(feature = "inbound")]
pub use inbound::{InboundPort, MAX_INBOUND_PORTS};
pub use life::{Grant, Life, MAX_TOKEN_RULES, METRICS_PORT, Metrics, TokenMode, TokenRule};

/// Where the wrapper script points `HTTP_PROXY` when nothing else is configured.
pub const DEFAULT_PORT: u16 = 15001;

/// The name to register under; Lambda demands that it is the file's name in `/opt/extensions`.
pub const DEFAULT_NAME: &str = "causeway";

/// What the extension is told by its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// The loopback port to listen on; 0 takes a free one (for the local stack, not from the environment).
    pub port: u16,
    /// The Extensions API, when there is one; without it this is a plain process, which ends with SIGTERM.
    pub lambda: Option<LambdaApi>,
    /// What is needed to proxy, or why that is not there. In Lambda the function must live on: each proxied request
    /// is then answered 503 with the reason.
    pub egress: Result<Egress, EnvError>,
}

/// The Extensions API of the Lambda environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LambdaApi {
    /// `host:port`, from `AWS_LAMBDA_RUNTIME_API`.
    pub address: String,
    /// The extension's name.
    pub name: String,
    /// A managed instance (`AWS_LAMBDA_INITIALIZATION_TYPE`), where extensions register for SHUTDOWN only.
    pub managed: bool,
    /// SnapStart: what there is before the first invocation becomes a snapshot, of which many environments are made.
    pub snap_start: bool,
}

/// What is needed to proxy.
#[derive(Clone, Debug)]
pub struct Egress {
    /// Where the routes are.
    pub bundle: BundleSource,
    /// Who this workload is to the rules of the mesh.
    pub workload: Workload,
    /// The trust domain of this workload, if it is to be checked against the bundle's.
    pub trust_domain: Option<TrustDomain>,
    /// Base URL of the issuer's IAM door, without a slash at the end.
    pub issuer_url: String,
    /// The service name in SigV4 signatures: `lambda` for a Function URL, `execute-api` for an API.
    pub issuer_service: String,
    /// Region and credentials to sign with.
    pub aws: AwsConfig,
    /// The audience of the access token; without one no token is fetched or added.
    pub audience: Option<String>,
    /// The scope of the access token; without one the issuer's default.
    pub scope: Option<String>,
    /// Tokens of single destinations; others have that of `audience` and `scope`.
    pub tokens: Vec<TokenRule>,
    /// How long a request waits for identity and token.
    pub identity_wait: Duration,
    /// How long an upstream may take to start its answer.
    pub response_timeout: Duration,
    /// Endpoints that are reached elsewhere, for local stacks: loopback only.
    pub connect_to: Vec<ConnectTo>,
    /// Ports of their own for services.
    pub listeners: Vec<ServiceListener>,
    /// Deadlines and metrics.
    pub life: Life,
    /// `https://` calls of the application.
    pub https: Https,
    /// The application's own ports, where this process guards them: never in Lambda.
    pub inbound: Option<Inbound>,
}

/// A loopback port that leads to one service, for clients that know no proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceListener {
    /// The loopback port; 0 takes a free one (for tests, not from the environment).
    pub port: u16,
    /// The service's host, in lower case.
    pub host: String,
    /// The service's port.
    pub service_port: u16,
}

/// Who this workload is to the rules of the mesh: what a sidecar knows from its pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace: it decides what `exportTo` and `Sidecar` let it see.
    pub namespace: Option<String>,
    /// Its labels: `sourceLabels` of routes, the selector of a `Sidecar`, and `failoverPriority` look at them.
    pub labels: Vec<(String, String)>,
    /// Where it runs, for preferring near endpoints.
    pub locality: Locality,
}

/// A bundle on disk or in memory.
#[derive(Clone, Debug)]
pub enum BundleSource {
    /// A file, read when the extension is bound.
    File(PathBuf),
    /// The bundle's bytes, for a local stack that has just made it.
    Bytes(Vec<u8>),
}

/// Connections to `host:port` go to `address` instead. What is checked of the server stays the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectTo {
    /// The endpoint's host, in lower case.
    pub host: String,
    /// The endpoint's port.
    pub port: u16,
    /// A loopback address.
    pub address: SocketAddr,
}

impl Config {
    /// Reads the environment. This never fails as a whole: a problem is kept in [`Config::egress`], since in Lambda
    /// an extension that exits takes its function with it.
    pub fn from_env(env: &dyn Env) -> Config {
        let reader = Reader::new(env);
        let lambda = LambdaApi::read(&reader);
        let port = reader.number("CAUSEWAY_PROXY_PORT", u64::from(DEFAULT_PORT), 1, u64::from(u16::MAX));
        let port = port.map(|port| u16::try_from(port).unwrap_or(DEFAULT_PORT));
        let egress = Egress::read(&reader, !matches!(lambda, Ok(None)));
        // The wrapper script reads this one; it is named here so that it is not taken for a misspelt variable.
        reader.known("CAUSEWAY_NEXT_WRAPPER");
        let known = reader.finish();
        Config {
            port: port.clone().unwrap_or(DEFAULT_PORT),
            lambda: lambda.clone().unwrap_or(None),
            egress: lambda.map(|_| ()).and(port.map(|_| ())).and(known).and(egress),
        }
    }

    /// The same with the name of the program's file, which is what Lambda expects it to register as.
    #[must_use]
    pub fn named(mut self, name: &str) -> Config {
        if let Some(lambda) = &mut self.lambda {
            name.clone_into(&mut lambda.name);
        }
        self
    }
}

impl LambdaApi {
    fn read(reader: &Reader<'_>) -> Result<Option<LambdaApi>, EnvError> {
        let managed = reader.optional("AWS_LAMBDA_INITIALIZATION_TYPE")?;
        let address = reader.optional("AWS_LAMBDA_RUNTIME_API")?;
        Ok(address.map(|address| LambdaApi {
            address,
            name: DEFAULT_NAME.to_owned(),
            managed: managed.as_deref() == Some("lambda-managed-instances"),
            snap_start: managed.as_deref() == Some("snap-start"),
        }))
    }
}

impl Egress {
    fn read(reader: &Reader<'_>, in_lambda: bool) -> Result<Egress, EnvError> {
        // Every name is asked for before the first error leaves, or `finish` would call the rest unknown.
        let bundle = reader.optional("CAUSEWAY_BUNDLE");
        let trust_domain = reader.parsed("CAUSEWAY_TRUST_DOMAIN");
        let issuer_url = issuer_url(reader);
        let issuer_service = reader.checked("CAUSEWAY_SERVICE_NAME", service_name);
        let audience = reader.checked("CAUSEWAY_TOKEN_AUDIENCE", printable);
        let scope = reader.checked("CAUSEWAY_TOKEN_SCOPE", printable);
        let tokens = life::tokens(reader);
        let life = Life::read(reader);
        let https = Https::read(reader);
        let inbound = Inbound::read(reader, in_lambda);
        let wait = reader.number("CAUSEWAY_IDENTITY_WAIT_MS", 3_000, 0, 10_000);
        let response = reader.number("CAUSEWAY_RESPONSE_TIMEOUT_MS", 15_000, 100, 900_000);
        let connect_to = reader.checked("CAUSEWAY_CONNECT_TO", connect_to);
        let listeners = reader.checked("CAUSEWAY_LISTENERS", listeners);
        let workload = Workload::read(reader);
        let aws = AwsConfig::from_env(reader);
        let (audience, scope) = (audience?, scope?);
        if let (None, Some(_)) = (&audience, &scope) {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_TOKEN_SCOPE".to_owned(),
                missing: "CAUSEWAY_TOKEN_AUDIENCE".to_owned(),
            });
        }
        let mut egress = Egress {
            bundle: BundleSource::File(bundle?.unwrap_or_else(|| bundle::DEFAULT_PATH.to_owned()).into()),
            trust_domain: trust_domain?,
            workload: workload?,
            issuer_url: issuer_url?,
            issuer_service: issuer_service?.unwrap_or_else(|| "lambda".to_owned()),
            aws: aws?,
            audience,
            scope,
            tokens: tokens?,
            identity_wait: Duration::from_millis(wait?),
            response_timeout: Duration::from_millis(response?),
            connect_to: connect_to?.unwrap_or_default(),
            listeners: listeners?.unwrap_or_default(),
            life: life?,
            https: https?,
            inbound: inbound?,
        };
        if egress.workload.locality == Locality::default() {
            egress.workload.locality.region.clone_from(&egress.aws.region);
        }
        Ok(egress)
    }
}

impl Workload {
    fn read(reader: &Reader<'_>) -> Result<Workload, EnvError> {
        let namespace = reader.checked("CAUSEWAY_NAMESPACE", namespace);
        let labels = reader.checked("CAUSEWAY_LABELS", labels);
        let locality = reader.checked("CAUSEWAY_LOCALITY", locality);
        Ok(Workload {
            namespace: namespace?,
            labels: labels?.unwrap_or_default(),
            locality: locality?.unwrap_or_default(),
        })
    }
}

/// A Kubernetes namespace: a DNS label (RFC 1123).
fn namespace(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edges = !text.starts_with('-') && !text.ends_with('-');
    match (1..=63).contains(&text.len()) && edges && text.bytes().all(inner) {
        true => Ok(text.to_owned()),
        false => Err("expected a namespace: at most 63 of a-z, 0-9 and -".to_owned()),
    }
}

/// `key=value,…`
fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let one = |item: &str| {
        let (key, value) = item.trim().split_once('=').filter(|(key, _)| !key.is_empty() && key.is_ascii())?;
        value.is_ascii().then(|| (key.to_owned(), value.to_owned()))
    };
    let found: Option<Vec<_>> = text.split(',').map(one).collect();
    let mut found = found.ok_or("expected labels as key=value,…")?;
    found.sort();
    match found.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        true => Err("found one label twice".to_owned()),
        false => Ok(found),
    }
}

/// `region[/zone[/subzone]]`, as Istio writes a locality.
fn locality(text: &str) -> Result<Locality, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let good = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
    if parts.len() > 3 || !parts.iter().all(good) {
        return Err("expected region, region/zone or region/zone/subzone".to_owned());
    }
    let part = |index: usize| parts.get(index).map_or_else(String::new, ToString::to_string);
    Ok(Locality { region: part(0), zone: part(1), subzone: part(2) })
}

fn issuer_url(reader: &Reader<'_>) -> Result<String, EnvError> {
    const NAME: &str = "CAUSEWAY_SVID_URL";
    let text =
        reader.required(NAME, "base URL of the issuer's IAM door, such as https://ID.lambda-url.REGION.on.aws")?;
    let invalid = |why: String| EnvError::Invalid {
        name: NAME.to_owned(),
        // What stands before an @ may be a password.
        value: if text.contains('@') { "***".to_owned() } else { text.clone() },
        why,
    };
    let url = checked_url(&text).map_err(|error| match error {
        platform::https::UrlError::Credentials => invalid(error.to_string()),
        _ => invalid("expected an https URL (http for loopback hosts only)".to_owned()),
    })?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("expected a base URL without query and fragment".to_owned()));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn service_name(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
        true => Ok(text.to_owned()),
        false => Err("expected an AWS service name such as lambda or execute-api".to_owned()),
    }
}

fn printable(text: &str) -> Result<String, String> {
    match text.len() <= 1_024 && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        true => Ok(text.to_owned()),
        false => Err("expected at most 1024 printable ASCII characters".to_owned()),
    }
}

/// The most ports of their own.
const MAX_LISTENERS: usize = 64;

/// `port=host:port,…`
fn listeners(text: &str) -> Result<Vec<ServiceListener>, String> {
    let one = |item: &str| {
        let wrong =
            || format!("found {item:?}, expected port=host:port,…, such as 15011=ratings.default.svc.cluster.local:80");
        let (port, service) = item.split_once('=').ok_or_else(wrong)?;
        let (host, service_port) = service.rsplit_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().ok().filter(|port| *port != 0).ok_or_else(wrong);
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
            return Err(wrong());
        }
        Ok(ServiceListener {
            port: number(port)?,
            host: host.to_ascii_lowercase(),
            service_port: number(service_port)?,
        })
    };
    let found: Vec<ServiceListener> = text.split(',').map(|item| one(item.trim())).collect::<Result<_, String>>()?;
    let mut ports: Vec<u16> = found.iter().map(|listener| listener.port).collect();
    ports.sort_unstable();
    if ports.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err("found one port twice".to_owned());
    }
    match found.len() > MAX_LISTENERS {
        true => Err(format!("found {} ports, expected at most {MAX_LISTENERS}", found.len())),
        false => Ok(found),
    }
}

/// `host:port=ip:port,…`
fn connect_to(text: &str) -> Result<Vec<ConnectTo>, String> {
    text.split(',').map(|item| one_connect_to(item.trim())).collect()
}

fn one_connect_to(item: &str) -> Result<ConnectTo, String> {
    let wrong = || format!("found {item:?}, expected host:port=ip:port,… with loopback addresses");
    let (from, to) = item.split_once('=').ok_or_else(wrong)?;
    let (host, port) = from.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let address: SocketAddr = to.parse().map_err(|_| wrong())?;
    // Only this machine: a variable must not be able to send mesh traffic somewhere else.
    if host.is_empty() || !address.ip().is_loopback() {
        return Err(wrong());
    }
    Ok(ConnectTo { host: host.to_ascii_lowercase(), port, address })
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    fn good() -> MapEnv {
        MapEnv::from([
            ("CAUSEWAY_SVID_URL", "https://issuer.example/"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ])
    }

    #[test]
    fn the_defaults_need_only_the_issuer() {
        let config = Config::from_env(&good());
        assert_eq!((config.port, config.lambda), (15001, None));
        let egress = config.egress.unwrap();
        assert_eq!(egress.issuer_url, "https://issuer.example");
        assert_eq!(egress.issuer_service, "lambda");
        assert_eq!(egress.identity_wait, Duration::from_secs(3));
        assert_eq!(egress.response_timeout, Duration::from_secs(15));
        assert!(matches!(egress.bundle, BundleSource::File(path) if path.as_os_str() == "/opt/causeway/mesh.bundle"));
        assert!(egress.audience.is_none() && egress.connect_to.is_empty() && egress.trust_domain.is_none());
    }

    #[test]
    fn every_bad_value_is_named() {
        for (name, value, expected) in [
            ("CAUSEWAY_PROXY_PORT", "0", "1 to 65535"),
            ("CAUSEWAY_PROXY_PORT", "http", "1 to 65535"),
            ("CAUSEWAY_SVID_URL", "issuer.example", "https"),
            ("CAUSEWAY_SVID_URL", "http://issuer.example", "https"),
            ("CAUSEWAY_SVID_URL", "https://me:hunter2@issuer.example", "password"),
            ("CAUSEWAY_SVID_URL", "https://issuer.example/?a=b", "without query"),
            ("CAUSEWAY_TRUST_DOMAIN", "Cluster.Local", "trust domain"),
            ("CAUSEWAY_SERVICE_NAME", "Lambda!", "service name"),
            ("CAUSEWAY_TOKEN_AUDIENCE", "a\nb", "printable"),
            ("CAUSEWAY_TOKENS", "{}", "JSON list"),
            ("CAUSEWAY_TOKEN_SCOPE", "ratings.read", "set both or neither"),
            ("CAUSEWAY_IDENTITY_WAIT_MS", "10001", "0 to 10000"),
            ("CAUSEWAY_RESPONSE_TIMEOUT_MS", "99", "100 to 900000"),
            ("CAUSEWAY_CONNECT_TO", "a:1=10.0.0.1:2", "loopback"),
            ("CAUSEWAY_CONNECT_TO", "a=127.0.0.1:2", "loopback"),
            ("CAUSEWAY_CONNECT_TO", ":1=127.0.0.1:2", "loopback"),
            ("CAUSEWAY_LISTENERS", "15011", "port=host:port"),
            ("CAUSEWAY_LISTENERS", "0=ratings:80", "port=host:port"),
            ("CAUSEWAY_LISTENERS", "15011=ratings", "port=host:port"),
            ("CAUSEWAY_LISTENERS", "15011=:80", "port=host:port"),
            ("CAUSEWAY_LISTENERS", "15011=a:1,15011=b:1", "twice"),
            ("CAUSEWAY_NAMESPACE", "Bookinfo", "namespace"),
            ("CAUSEWAY_NAMESPACE", "-a", "namespace"),
            ("CAUSEWAY_LABELS", "app", "key=value"),
            ("CAUSEWAY_LABELS", "=x", "key=value"),
            ("CAUSEWAY_LABELS", "app=a,app=b", "twice"),
            ("CAUSEWAY_LOCALITY", "a/b/c/d", "region/zone"),
            ("CAUSEWAY_LOCALITY", "a//c", "region/zone"),
            ("CAUSEWAY_LOCALITY", "a/*", "region/zone"),
            ("CAUSEWAY_PROXYPORT", "1", "did you mean CAUSEWAY_PROXY_PORT"),
        ] {
            let problem = Config::from_env(&good().with(name, value)).egress.unwrap_err().to_string();
            assert!(problem.contains(name) && problem.contains(expected), "{name}={value}: {problem}");
            assert!(!problem.contains("hunter2"), "{problem}");
        }
        let problem = Config::from_env(&MapEnv::default()).egress.unwrap_err().to_string();
        assert!(problem.contains("CAUSEWAY_SVID_URL"), "{problem}");
    }

    #[test]
    fn a_bad_value_leaves_port_and_lambda_api_usable() {
        let env = good().with("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001").with("CAUSEWAY_PROXY_PORT", "15002");
        let config = Config::from_env(&env.clone().with("CAUSEWAY_TRUST_DOMAIN", "A B")).named("other");
        assert!(config.egress.is_err());
        assert_eq!(config.port, 15002);
        let api = config.lambda.unwrap();
        assert_eq!((api.address.as_str(), api.name.as_str(), api.managed), ("127.0.0.1:9001", "other", false));

        let config = Config::from_env(&env.with("CAUSEWAY_PROXY_PORT", "no"));
        assert!(config.egress.is_err());
        assert_eq!(config.port, DEFAULT_PORT);
    }

    #[test]
    fn local_stacks_can_lead_endpoints_elsewhere() {
        let env = good().with("CAUSEWAY_CONNECT_TO", "EastWest.mesh.example:15443=127.0.0.1:4000, b:1=[::1]:2");
        let found = Config::from_env(&env).egress.unwrap().connect_to;
        assert_eq!(found[0].host, "eastwest.mesh.example");
        assert_eq!((found[0].port, found[0].address), (15443, "127.0.0.1:4000".parse().unwrap()));
        assert_eq!((found[1].port, found[1].address), (1, "[::1]:2".parse().unwrap()));
    }

    #[test]
    fn services_can_have_ports_of_their_own() {
        let env = good().with("CAUSEWAY_LISTENERS", "15011=Ratings.bookinfo.svc.cluster.local:9080, 15012=db:5432");
        let found = Config::from_env(&env).egress.unwrap().listeners;
        assert_eq!((found[0].port, found[0].service_port), (15011, 9080));
        assert_eq!((found[0].host.as_str(), found[1].host.as_str()), ("ratings.bookinfo.svc.cluster.local", "db"));
    }

    #[cfg(feature = "inbound")]
    #[test]
    fn only_a_plain_process_guards_the_application_s_ports() {
        let env = good().with("CAUSEWAY_NAMESPACE", "bookinfo").with("CAUSEWAY_LABELS", "app=reviews");
        let guarded =
            env.clone().with("CAUSEWAY_INBOUND", "15006=127.0.0.1:9080").with("CAUSEWAY_HEALTH_PORT", "15020");
        let inbound = Config::from_env(&guarded).egress.unwrap().inbound.unwrap();
        assert_eq!((inbound.ports[0].port, inbound.health_port), (15006, 15020));
        assert!(Config::from_env(&env).egress.unwrap().inbound.is_none());
        let in_lambda = Config::from_env(&guarded.with("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"));
        assert!(in_lambda.egress.unwrap_err().to_string().contains("CAUSEWAY_INBOUND"));
        // Without a port to guard they would say that there is one.
        let alone = Config::from_env(&env.with("CAUSEWAY_HEALTH_PORT", "15020")).egress.unwrap_err().to_string();
        assert!(alone.contains("CAUSEWAY_HEALTH_PORT is not a variable"), "{alone}");
    }

    #[test]
    fn a_workload_has_namespace_labels_and_locality() {
        let locality = |region: &str, zone: &str| Locality {
            region: region.to_owned(),
            zone: zone.to_owned(),
            subzone: String::new(),
        };
        let found = Config::from_env(&good()).egress.unwrap().workload;
        assert_eq!(found, Workload { locality: locality("eu-central-1", ""), ..Workload::default() });
        let env = good()
            .with("CAUSEWAY_NAMESPACE", "bookinfo")
            .with("CAUSEWAY_LABELS", "version=v1, app=reviews")
            .with("CAUSEWAY_LOCALITY", "eu-west-1/eu-west-1a");
        let labels = [("app", "reviews"), ("version", "v1")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(
            Config::from_env(&env).egress.unwrap().workload,
            Workload {
                namespace: Some("bookinfo".to_owned()),
                labels: labels.to_vec(),
                locality: locality("eu-west-1", "eu-west-1a"),
            }
        );
    }

    #[test]
    fn the_wrappers_variable_is_known_and_managed_instances_are_seen() {
        let env = good()
            .with("CAUSEWAY_NEXT_WRAPPER", "/opt/other")
            .with("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001")
            .with("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances");
        let config = Config::from_env(&env);
        assert!(config.egress.is_ok());
        assert!(config.lambda.unwrap().managed);
        let config = Config::from_env(&env.with("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start"));
        let lambda = config.lambda.unwrap();
        assert!(lambda.snap_start && !lambda.managed);
    }
}
