//! The configuration: read once from the environment, checked whole.

use identity::TrustDomain;
use platform::env::{Env, EnvError, Reader, environment_from_env};

use crate::client::Authentication;
use crate::registry::Registry;
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;

/// The largest registry document, in bytes.
const MAX_REGISTRY_BYTES: u64 = 4 * 1024 * 1024;
/// Token lifetimes, in seconds.
const DEFAULT_TTL: u64 = 600;
/// How long the family of a refresh token lives, in seconds: a day, at most 30.
const DEFAULT_REFRESH_TTL: u64 = 86_400;
const REFRESH_TTL: std::ops::RangeInclusive<u64> = 600..=2_592_000;
const TTL: std::ops::RangeInclusive<u64> = 60..=MAX_TOKEN_LIFE_SECONDS;
/// How long verifiers keep the keys, in seconds. API Gateway's HTTP APIs keep them for two hours, its REST APIs for
/// one, istiod for 20 minutes; none for less than the document itself says.
const DEFAULT_VERIFIER_CACHE: u64 = 7200;
const VERIFIER_CACHE: std::ops::RangeInclusive<u64> = crate::jwks::MAX_AGE_SECONDS..=86_400;

/// SVIDs of one role, each second and in each execution environment.
const DEFAULT_SVID_RATE: u64 = 20;
const SVID_RATE: std::ops::RangeInclusive<u64> = 1..=1_000_000;
/// The most STS endpoints.
const MAX_STS_ENDPOINTS: usize = 40;

/// What the issuer is told by its environment. It holds ids of secrets and no secret.
#[derive(Clone, Debug)]
pub struct Config {
    /// `CAUSEWAY_ISSUER`: the issuer identifier, an https URL without path, query, fragment and trailing slash.
    pub issuer: String,
    /// `CAUSEWAY_SIGNING_SECRET`: the id of the secret with the signing keys.
    pub signing_secret: String,
    /// `CAUSEWAY_CA_SECRET`: the id of the secret with the certificate authority. Without it there are no SVIDs.
    pub ca_secret: Option<String>,
    /// `CAUSEWAY_CLIENTS_TABLE`: the DynamoDB table of OAuth clients.
    pub clients_table: Option<String>,
    /// `CAUSEWAY_API_KEYS_TABLE`: the DynamoDB table of API keys.
    pub api_keys_table: Option<String>,
    /// `CAUSEWAY_PEPPER_SECRET`: the id of the secret that API keys are hashed with; given with their table.
    pub pepper_secret: Option<String>,
    /// `CAUSEWAY_ENVIRONMENT`: the environment whose API keys are exchanged for tokens. Without it, none is.
    pub environment: Option<String>,
    /// `CAUSEWAY_STATE_TABLE`: the DynamoDB table of refresh tokens and used ids. Without it there are no refresh
    /// tokens, no `private_key_jwt` and no DPoP.
    pub state_table: Option<String>,
    /// `CAUSEWAY_REVOCATIONS_TABLE`: the DynamoDB table of revoked credentials. Without it there is no token exchange,
    /// no introspection and no revocation.
    pub revocations_table: Option<String>,
    /// `CAUSEWAY_TRUST_DOMAIN`.
    pub trust_domain: TrustDomain,
    /// `CAUSEWAY_IAM_DOOR_IDS`: APIs and Function URLs at which an IAM identity counts.
    pub iam_door_ids: Vec<String>,
    /// `CAUSEWAY_MTLS_DOOR_IDS`: the APIs behind the custom domain with mutual TLS. Their default endpoints must be
    /// disabled.
    pub mtls_door_ids: Vec<String>,
    /// `CAUSEWAY_MTLS_ISSUER`: the base URL of that domain, of the form of an issuer identifier.
    pub mtls_issuer: Option<String>,
    /// `CAUSEWAY_MTLS_CLIENT_AUTH`, `tls_client_auth` or `self_signed_tls_client_auth`: the one method by which
    /// certificates authenticate at that door. The truststore holds authorities for the first and the clients' own
    /// certificates for the second. With both in it, whoever has a certificate of its own there could sign another one
    /// with the name of a client of the first kind.
    pub mtls_client_auth: Authentication,
    /// `CAUSEWAY_REGISTRY`: who the IAM roles are.
    pub registry: Registry,
    /// `CAUSEWAY_TOKEN_TTL_SECONDS`.
    pub token_ttl_seconds: u64,
    /// `CAUSEWAY_REFRESH_TTL_SECONDS`: how long a refresh token and all that come out of it live together.
    pub refresh_ttl_seconds: u64,
    /// `CAUSEWAY_VERIFIER_CACHE_SECONDS`: how long the slowest verifier keeps the issuer's keys, from the issuer's
    /// answer on. It counts for rotations that end later; a slower verifier comes after the last new key has become
    /// active.
    pub verifier_cache_seconds: u64,
    /// `CAUSEWAY_STS_ENDPOINTS`: where callers' signed requests may go, as origins (`https://HOST`), or `off`. Without
    /// the variable it is the Region's own endpoint. Empty when it is off and without registry or state table: then the
    /// IAM door is the only way to an SVID.
    pub sts_endpoints: Vec<String>,
    /// `CAUSEWAY_SVID_RATE`: how many SVIDs a role may have each second in one execution environment, and ten times as
    /// many at once.
    pub svid_rate: u64,
    /// `CAUSEWAY_SVID_ED25519`: whether Ed25519 keys get certificates. Mesh proxies do not take them.
    pub svid_ed25519: bool,
    /// `CAUSEWAY_BUNDLE`: the file with the policies that say who may administrate. Without it nobody may.
    pub bundle: Option<String>,
    /// `CAUSEWAY_ADMIN_WORKLOAD`, `NAMESPACE/LABEL=VALUE[,LABEL=VALUE]`: which workload the issuer is to those policies.
    pub admin_workload: (String, Vec<(String, String)>),
    /// `CAUSEWAY_USAGE_PLANS`, `on`, `off` or `only`: whether API keys may belong to usage plans of API Gateway.
    pub usage_plans: bool,
    /// `only`: this function is not the issuer. Whatever it is invoked with, it brings usage plans up to date.
    pub usage_plans_only: bool,
    /// `AWS_ENDPOINT_URL_API_GATEWAY`, else `AWS_ENDPOINT_URL`: for a local stand-in of the service.
    pub apigateway_endpoint: Option<String>,
}

impl Config {
    /// Reads and checks all variables.
    ///
    /// # Errors
    /// Names the first variable that is wrong, unknown or half given.
    pub fn from_env(env: &dyn Env) -> Result<Self, EnvError> {
        let env = Reader::new(env);
        env.required("CAUSEWAY_ISSUER", "the issuer identifier, an https URL")?;
        let issuer_url = env.checked("CAUSEWAY_ISSUER", issuer)?.unwrap_or_default();
        let signing_secret = env.required("CAUSEWAY_SIGNING_SECRET", "the id of the secret with the signing keys")?;
        let ca_secret = env.optional("CAUSEWAY_CA_SECRET")?;
        let clients_table = env.optional("CAUSEWAY_CLIENTS_TABLE")?;
        let keys = env.pair("CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET")?;
        let (api_keys_table, pepper_secret) = keys.unzip();
        let environment = environment_from_env(&env)?;
        if api_keys_table.is_some() && environment.is_none() {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_API_KEYS_TABLE".to_owned(),
                missing: "CAUSEWAY_ENVIRONMENT".to_owned(),
            });
        }
        let state_table = env.optional("CAUSEWAY_STATE_TABLE")?;
        let revocations_table = env.optional("CAUSEWAY_REVOCATIONS_TABLE")?;
        let trust_domain = match env.parsed("CAUSEWAY_TRUST_DOMAIN")? {
            Some(trust_domain) => trust_domain,
            None => default_trust_domain()?,
        };
        let door = env.pair("CAUSEWAY_IAM_DOOR_IDS", "CAUSEWAY_REGISTRY")?;
        if ca_secret.is_some() && door.is_none() {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_CA_SECRET".to_owned(),
                missing: "CAUSEWAY_IAM_DOOR_IDS".to_owned(),
            });
        }
        let iam_door_ids = env.checked("CAUSEWAY_IAM_DOOR_IDS", door_ids)?.unwrap_or_default();
        env.pair("CAUSEWAY_MTLS_DOOR_IDS", "CAUSEWAY_MTLS_ISSUER")?;
        let mtls_door_ids = env.checked("CAUSEWAY_MTLS_DOOR_IDS", |text| mtls_door_ids(text, &iam_door_ids))?;
        let mtls_door_ids = mtls_door_ids.unwrap_or_default();
        let mtls_issuer = env.checked("CAUSEWAY_MTLS_ISSUER", |text| mtls_issuer(text, &issuer_url))?;
        let mtls_client_auth = env.checked("CAUSEWAY_MTLS_CLIENT_AUTH", mtls_client_auth)?;
        if mtls_client_auth.is_some() && mtls_issuer.is_none() {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_MTLS_CLIENT_AUTH".to_owned(),
                missing: "CAUSEWAY_MTLS_ISSUER".to_owned(),
            });
        }
        let registry = match door {
            Some((_, text)) => registry(&text, &trust_domain)?,
            None => Registry::default(),
        };
        let token_ttl_seconds = env.number("CAUSEWAY_TOKEN_TTL_SECONDS", DEFAULT_TTL, *TTL.start(), *TTL.end())?;
        let (shortest, longest) = (*REFRESH_TTL.start(), *REFRESH_TTL.end());
        let refresh_ttl_seconds = env.number("CAUSEWAY_REFRESH_TTL_SECONDS", DEFAULT_REFRESH_TTL, shortest, longest)?;
        let verifier_cache_seconds = env.number(
            "CAUSEWAY_VERIFIER_CACHE_SECONDS",
            DEFAULT_VERIFIER_CACHE,
            *VERIFIER_CACHE.start(),
            *VERIFIER_CACHE.end(),
        )?;
        let attests = state_table.is_some() && !registry.is_empty();
        let sts_endpoints = sts_endpoints(&env, attests)?;
        let (slowest, fastest) = (*SVID_RATE.start(), *SVID_RATE.end());
        let svid_rate = env.number("CAUSEWAY_SVID_RATE", DEFAULT_SVID_RATE, slowest, fastest)?;
        let svid_ed25519 = env.parsed("CAUSEWAY_SVID_ED25519")?.unwrap_or(false);
        let bundle = env.optional("CAUSEWAY_BUNDLE")?;
        let admin_workload = env.checked("CAUSEWAY_ADMIN_WORKLOAD", workload)?;
        let admin_workload = match admin_workload {
            Some(workload) => workload,
            None => ("causeway-system".to_owned(), vec![("app".to_owned(), "key-issuer".to_owned())]),
        };
        let usage_plans = env.checked("CAUSEWAY_USAGE_PLANS", |word| match word {
            "on" => Ok((true, false)),
            "off" => Ok((false, false)),
            "only" => Ok((true, true)),
            _ => Err("expected on, off or only".to_owned()),
        })?;
        let (usage_plans, usage_plans_only) = usage_plans.unwrap_or_default();
        let apigateway_endpoint = match env.optional("AWS_ENDPOINT_URL_API_GATEWAY")? {
            None => env.optional("AWS_ENDPOINT_URL")?,
            endpoint => endpoint,
        };
        env.finish()?;
        Ok(Self {
            issuer: issuer_url,
            signing_secret,
            ca_secret,
            clients_table,
            api_keys_table,
            pepper_secret,
            environment,
            state_table,
            revocations_table,
            trust_domain,
            iam_door_ids,
            mtls_door_ids,
            mtls_issuer,
            mtls_client_auth: mtls_client_auth.unwrap_or(Authentication::TlsClientAuth),
            registry,
            token_ttl_seconds,
            refresh_ttl_seconds,
            verifier_cache_seconds,
            sts_endpoints,
            svid_rate,
            svid_ed25519,
            bundle,
            admin_workload,
            usage_plans,
            usage_plans_only,
            apigateway_endpoint,
        })
    }

    /// The host of the mTLS door, without a port: as `requestContext.domainName` has it.
    pub(crate) fn mtls_host(&self) -> Option<&str> {
        let (_, authority) = self.mtls_issuer.as_deref()?.split_once("://")?;
        Some(authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(authority, |(host, _)| host))
    }
}

/// RFC 8414 §2: "a URL that uses the 'https' scheme and has no query or fragment components". Readers compare it byte
/// for byte, so there is one spelling: no path, no trailing slash. An issuer with a path has its two discovery
/// documents at two different places and is not supported yet. http is for this machine only.
fn issuer(text: &str) -> Result<String, String> {
    let (host, secure) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
        (Some(host), _) => (host, true),
        (None, Some(host)) => (host, false),
        (None, None) => return Err("expected https://HOST".to_owned()),
    };
    let authority: http::uri::Authority = host
        .parse()
        .map_err(|_| "expected https://HOST without path, query, fragment and trailing slash".to_owned())?;
    if host.contains('@') || authority.host().is_empty() {
        return Err("expected a host and no user information".to_owned());
    }
    if !secure && !["localhost", "127.0.0.1", "[::1]"].contains(&authority.host()) {
        return Err("expected https; http is for loopback addresses only".to_owned());
    }
    Ok(text.to_owned())
}

fn door_ids(text: &str) -> Result<Vec<String>, String> {
    let is_id =
        |id: &&str| (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let ids: Vec<&str> = text.split(',').map(str::trim).collect();
    if ids.iter().all(is_id) {
        Ok(ids.into_iter().map(str::to_owned).collect())
    } else {
        Err("expected API or Function URL ids (lower-case letters and digits), separated by commas".to_owned())
    }
}

/// One API behind two doors would leave open which proof a caller has to show.
fn mtls_door_ids(text: &str, iam_door_ids: &[String]) -> Result<Vec<String>, String> {
    let ids = door_ids(text)?;
    match ids.iter().find(|id| iam_door_ids.contains(id)) {
        Some(id) => Err(format!("{id} is in CAUSEWAY_IAM_DOOR_IDS as well, expected a door of its own")),
        None => Ok(ids),
    }
}

/// RFC 8705 §5 has aliases because clients without a certificate must not be asked for one, so it is another host.
fn mtls_issuer(text: &str, issuer_url: &str) -> Result<String, String> {
    if text == issuer_url {
        return Err("expected another host than that of CAUSEWAY_ISSUER".to_owned());
    }
    issuer(text)
}

fn mtls_client_auth(text: &str) -> Result<Authentication, String> {
    match text {
        "tls_client_auth" => Ok(Authentication::TlsClientAuth),
        "self_signed_tls_client_auth" => Ok(Authentication::SelfSignedTlsClientAuth),
        _ => Err("expected tls_client_auth or self_signed_tls_client_auth".to_owned()),
    }
}

/// Where signed requests go: what is configured, else the stand-in of the service that all AWS clients use, else the
/// endpoint of this Region. Nonces and signatures are used up in the state table, so without it there is no
/// attestation.
fn sts_endpoints(env: &Reader<'_>, attests: bool) -> Result<Vec<String>, EnvError> {
    let configured = env.checked("CAUSEWAY_STS_ENDPOINTS", |text| {
        if text == "off" {
            return Ok(Vec::new());
        }
        let origins: Vec<String> = text.split(',').map(|text| sts_endpoint(text.trim())).collect::<Result<_, _>>()?;
        match origins.len() {
            1..=MAX_STS_ENDPOINTS => Ok(origins),
            found => Err(format!("found {found} endpoints, expected at most {MAX_STS_ENDPOINTS}")),
        }
    })?;
    if let Some(configured) = configured {
        return match attests || configured.is_empty() {
            true => Ok(configured),
            false => Err(EnvError::HalfGroup {
                present: "CAUSEWAY_STS_ENDPOINTS".to_owned(),
                missing: "CAUSEWAY_STATE_TABLE or CAUSEWAY_REGISTRY".to_owned(),
            }),
        };
    }
    if !attests {
        return Ok(Vec::new());
    }
    for name in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL"] {
        if let Some(endpoint) = env.checked(name, sts_endpoint)? {
            return Ok(vec![endpoint]);
        }
    }
    let region = env.checked("AWS_REGION", |region| {
        let is_region = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let endpoint = format!("https://sts.{region}.amazonaws.com{suffix}");
        if is_region { Ok(endpoint) } else { Err("expected a Region's name".to_owned()) }
    })?;
    Ok(region.into_iter().collect())
}

/// An origin: a caller's URL is compared with it byte for byte, so there is one spelling.
fn sts_endpoint(text: &str) -> Result<String, String> {
    let url = platform::https::checked_url(text).map_err(|error| error.to_string())?;
    let origin = url.origin().ascii_serialization();
    match text.strip_suffix('/').unwrap_or(text) == origin {
        true => Ok(origin),
        false => Err(format!("expected an origin, {origin}")),
    }
}

/// `NAMESPACE/LABEL=VALUE[,LABEL=VALUE]`.
fn workload(text: &str) -> Result<(String, Vec<(String, String)>), String> {
    let expected = || "expected NAMESPACE/LABEL=VALUE[,LABEL=VALUE]".to_owned();
    let is_word = |word: &str| {
        (1..=253).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
    };
    let (namespace, labels) = text.split_once('/').ok_or_else(expected)?;
    let labels: Option<Vec<(String, String)>> = labels
        .split(',')
        .map(|label| label.split_once('=').filter(|(name, value)| is_word(name) && is_word(value)))
        .map(|label| label.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect();
    match labels {
        Some(labels) if is_word(namespace) => Ok((namespace.to_owned(), labels)),
        _ => Err(expected()),
    }
}

/// JSON text, or `@` and the path of a file with it.
fn registry(value: &str, trust_domain: &TrustDomain) -> Result<Registry, EnvError> {
    let wrong = |why: String| EnvError::Invalid { name: "CAUSEWAY_REGISTRY".to_owned(), value: shortened(value), why };
    let text = match value.strip_prefix('@') {
        None => value.to_owned(),
        Some(path) => {
            let size = std::fs::metadata(path).map_err(|error| wrong(format!("cannot read the file: {error}")))?.len();
            if size > MAX_REGISTRY_BYTES {
                return Err(wrong(format!("the file has {size} bytes, expected at most {MAX_REGISTRY_BYTES}")));
            }
            std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot read the file: {error}")))?
        }
    };
    Registry::parse(&text, trust_domain).map_err(wrong)
}

/// One line of an error must stay one line.
fn shortened(value: &str) -> String {
    let mut characters = value.chars();
    let start: String = characters.by_ref().take(40).collect();
    if characters.next().is_some() { format!("{start}…") } else { start }
}

fn default_trust_domain() -> Result<TrustDomain, EnvError> {
    "cluster.local".parse().map_err(|error: identity::SpiffeIdError| EnvError::Invalid {
        name: "CAUSEWAY_TRUST_DOMAIN".to_owned(),
        value: "cluster.local".to_owned(),
        why: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use platform::env::MapEnv;

    use super::*;

    const REGISTRY: &str = r#"[{"role_arn":"arn:aws:iam::123456789012:role/reviews","namespace":"bookinfo","service_account":"bookinfo-reviews","client_id":"bookinfo-reviews"}]"#;

    fn minimal() -> MapEnv {
        MapEnv::from([
            ("CAUSEWAY_ISSUER", "https://issuer.bookinfo.example"),
            ("CAUSEWAY_SIGNING_SECRET", "causeway/signing"),
        ])
    }

    #[test]
    fn defaults() {
        let config = Config::from_env(&minimal()).unwrap();
        assert_eq!(config.issuer, "https://issuer.bookinfo.example");
        assert_eq!(config.trust_domain.as_str(), "cluster.local");
        assert_eq!(config.token_ttl_seconds, 600);
        assert_eq!(config.verifier_cache_seconds, 7200);
        assert!(config.iam_door_ids.is_empty());
        assert_eq!((config.mtls_host(), config.mtls_door_ids.len()), (None, 0));
        assert_eq!(config.mtls_client_auth, Authentication::TlsClientAuth);
        assert_eq!((config.ca_secret, config.clients_table), (None, None));
        assert_eq!((config.bundle, config.usage_plans, config.apigateway_endpoint), (None, false, None));
        for (word, expected) in [("off", (false, false)), ("on", (true, false)), ("only", (true, true))] {
            let config = Config::from_env(&minimal().with("CAUSEWAY_USAGE_PLANS", word)).unwrap();
            assert_eq!((config.usage_plans, config.usage_plans_only), expected);
        }
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(config.admin_workload, ("causeway-system".to_owned(), vec![label("app", "key-issuer")]));
        let config = Config::from_env(&minimal().with("CAUSEWAY_ADMIN_WORKLOAD", "ns/app=a,x.io/tier=b")).unwrap();
        assert_eq!(config.admin_workload, ("ns".to_owned(), vec![label("app", "a"), label("x.io/tier", "b")]));
    }

    #[test]
    fn a_full_configuration() {
        let env = minimal()
            .with("CAUSEWAY_CA_SECRET", "causeway/ca")
            .with("CAUSEWAY_CLIENTS_TABLE", "clients")
            .with("CAUSEWAY_IAM_DOOR_IDS", "url1, api2")
            .with("CAUSEWAY_REGISTRY", REGISTRY)
            .with("CAUSEWAY_TRUST_DOMAIN", "prod.example")
            .with("CAUSEWAY_TOKEN_TTL_SECONDS", "900")
            .with("CAUSEWAY_REFRESH_TTL_SECONDS", "3600")
            .with("CAUSEWAY_API_KEYS_TABLE", "keys")
            .with("CAUSEWAY_PEPPER_SECRET", "pepper")
            .with("CAUSEWAY_ENVIRONMENT", "dev")
            .with("CAUSEWAY_STATE_TABLE", "state")
            .with("CAUSEWAY_REVOCATIONS_TABLE", "revocations");
        let config = Config::from_env(&env).unwrap();
        assert_eq!(config.iam_door_ids, ["url1", "api2"]);
        let role = "arn:aws:iam::123456789012:role/reviews".parse().unwrap();
        let id = &config.registry.get(&role).unwrap().spiffe_id;
        assert_eq!(id.as_str(), "spiffe://prod.example/ns/bookinfo/sa/bookinfo-reviews");
        assert_eq!((config.token_ttl_seconds, config.refresh_ttl_seconds), (900, 3600));
        for (value, expected) in [
            (&config.api_keys_table, "keys"),
            (&config.pepper_secret, "pepper"),
            (&config.environment, "dev"),
            (&config.state_table, "state"),
            (&config.revocations_table, "revocations"),
        ] {
            assert_eq!(value.as_deref(), Some(expected));
        }
        let mtls = |url: &str| env.clone().with("CAUSEWAY_MTLS_DOOR_IDS", "mtls1").with("CAUSEWAY_MTLS_ISSUER", url);
        for (url, host) in [
            ("https://mtls.bookinfo.example", "mtls.bookinfo.example"),
            ("https://mtls.bookinfo.example:8443", "mtls.bookinfo.example"),
            ("http://[::1]", "[::1]"),
            ("http://[::1]:8443", "[::1]"),
        ] {
            let config = Config::from_env(&mtls(url)).unwrap();
            assert_eq!((config.mtls_door_ids, config.mtls_issuer.as_deref()), (vec!["mtls1".to_owned()], Some(url)));
            assert_eq!(Config::from_env(&mtls(url)).unwrap().mtls_host(), Some(host));
        }
    }

    #[test]
    fn the_mtls_door_has_one_method() {
        let door = minimal().with("CAUSEWAY_MTLS_DOOR_IDS", "m1").with("CAUSEWAY_MTLS_ISSUER", "https://m.example");
        for (word, expected) in [
            ("tls_client_auth", Authentication::TlsClientAuth),
            ("self_signed_tls_client_auth", Authentication::SelfSignedTlsClientAuth),
        ] {
            let config = Config::from_env(&door.clone().with("CAUSEWAY_MTLS_CLIENT_AUTH", word)).unwrap();
            assert_eq!(config.mtls_client_auth, expected);
        }
        for word in ["tls_client_auth,self_signed_tls_client_auth", "client_secret", "both"] {
            let error = Config::from_env(&door.clone().with("CAUSEWAY_MTLS_CLIENT_AUTH", word)).unwrap_err();
            assert!(error.to_string().contains("CAUSEWAY_MTLS_CLIENT_AUTH"), "{error}");
        }
    }

    #[test]
    fn a_registry_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.json");
        std::fs::write(&path, REGISTRY).unwrap();
        let env = |path: &std::path::Path| {
            minimal().with("CAUSEWAY_IAM_DOOR_IDS", "url1").with("CAUSEWAY_REGISTRY", format!("@{}", path.display()))
        };
        assert!(Config::from_env(&env(&path)).is_ok());
        let error = Config::from_env(&env(&folder.path().join("gone"))).unwrap_err().to_string();
        assert!(error.contains("CAUSEWAY_REGISTRY") && error.contains("cannot read the file"), "{error}");
    }

    #[test]
    fn where_signed_requests_go() {
        let attests = || {
            let door = minimal().with("CAUSEWAY_IAM_DOOR_IDS", "url1").with("CAUSEWAY_REGISTRY", REGISTRY);
            door.with("CAUSEWAY_STATE_TABLE", "state")
        };
        let region = |region: &str| attests().with("AWS_REGION", region);
        let none: [&str; 0] = [];
        for (env, expected) in [
            (region("eu-central-1"), &["https://sts.eu-central-1.amazonaws.com"][..]),
            (region("cn-north-1"), &["https://sts.cn-north-1.amazonaws.com.cn"]),
            (region("eu-central-1").with("AWS_ENDPOINT_URL", "http://127.0.0.1:5000/"), &["http://127.0.0.1:5000"]),
            (
                region("eu-central-1")
                    .with("AWS_ENDPOINT_URL", "http://127.0.0.1:5000")
                    .with("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:5001"),
                &["http://127.0.0.1:5001"],
            ),
            (
                region("eu-central-1").with("CAUSEWAY_STS_ENDPOINTS", "https://a.example, https://b.example:8443/"),
                &["https://a.example", "https://b.example:8443"],
            ),
            (minimal().with("AWS_REGION", "eu-central-1"), &none),
            (minimal().with("AWS_REGION", "eu-central-1").with("CAUSEWAY_STATE_TABLE", "state"), &none),
            (attests(), &none),
            (region("eu-central-1").with("CAUSEWAY_STS_ENDPOINTS", "off"), &none),
            (minimal().with("CAUSEWAY_STS_ENDPOINTS", "off"), &none),
        ] {
            assert_eq!(Config::from_env(&env).unwrap().sts_endpoints, expected);
        }
        let many = vec!["https://a.example"; MAX_STS_ENDPOINTS + 1].join(",");
        for endpoints in [
            "http://sts.example",
            "https://sts.example/path",
            "https://sts.example/?a",
            "https://sts.example:443",
            "https://STS.example",
            "https://user@sts.example",
            "sts.example",
            "https://a.example,",
            &many,
        ] {
            let error = Config::from_env(&attests().with("CAUSEWAY_STS_ENDPOINTS", endpoints)).unwrap_err();
            assert!(error.to_string().contains("CAUSEWAY_STS_ENDPOINTS"), "{error}");
        }
        let error = Config::from_env(&minimal().with("CAUSEWAY_STS_ENDPOINTS", "https://a.example")).unwrap_err();
        assert!(error.to_string().contains("CAUSEWAY_STATE_TABLE"), "{error}");
        let error = Config::from_env(&region("evil.example/")).unwrap_err();
        assert!(error.to_string().contains("AWS_REGION"), "{error}");
    }

    #[test]
    fn each_wrong_value_is_named_in_one_line() {
        let none = MapEnv::default();
        let door = || minimal().with("CAUSEWAY_IAM_DOOR_IDS", "url1").with("CAUSEWAY_REGISTRY", REGISTRY);
        for (env, named) in [
            (none, "CAUSEWAY_ISSUER is not set"),
            (minimal().with("CAUSEWAY_SIGNING_SECRET", ""), "CAUSEWAY_SIGNING_SECRET is not set"),
            (minimal().with("CAUSEWAY_TOKEN_TTL_SECONDS", "59"), "CAUSEWAY_TOKEN_TTL_SECONDS"),
            (minimal().with("CAUSEWAY_TOKEN_TTL_SECONDS", "3601"), "CAUSEWAY_TOKEN_TTL_SECONDS"),
            (minimal().with("CAUSEWAY_VERIFIER_CACHE_SECONDS", "299"), "CAUSEWAY_VERIFIER_CACHE_SECONDS"),
            (minimal().with("CAUSEWAY_VERIFIER_CACHE_SECONDS", "86401"), "CAUSEWAY_VERIFIER_CACHE_SECONDS"),
            (minimal().with("CAUSEWAY_SVID_RATE", "0"), "CAUSEWAY_SVID_RATE"),
            (minimal().with("CAUSEWAY_SVID_RATE", "1000001"), "CAUSEWAY_SVID_RATE"),
            (minimal().with("CAUSEWAY_SVID_ED25519", "yes"), "CAUSEWAY_SVID_ED25519"),
            (minimal().with("CAUSEWAY_TRUST_DOMAIN", "Cluster.Local"), "CAUSEWAY_TRUST_DOMAIN"),
            (minimal().with("CAUSEWAY_USAGE_PLANS", "yes"), "CAUSEWAY_USAGE_PLANS"),
            (minimal().with("CAUSEWAY_ADMIN_WORKLOAD", "app=issuer"), "CAUSEWAY_ADMIN_WORKLOAD"),
            (minimal().with("CAUSEWAY_ADMIN_WORKLOAD", "ns/app"), "CAUSEWAY_ADMIN_WORKLOAD"),
            (minimal().with("CAUSEWAY_ADMIN_WORKLOAD", "ns/app=a,"), "CAUSEWAY_ADMIN_WORKLOAD"),
            (minimal().with("CAUSEWAY_IAM_DOOR_IDS", "url1"), "CAUSEWAY_REGISTRY is not set"),
            (minimal().with("CAUSEWAY_REGISTRY", REGISTRY), "CAUSEWAY_IAM_DOOR_IDS is not set"),
            (minimal().with("CAUSEWAY_CA_SECRET", "ca"), "CAUSEWAY_IAM_DOOR_IDS is not set, but CAUSEWAY_CA_SECRET is"),
            (door().with("CAUSEWAY_IAM_DOOR_IDS", "url1,"), "CAUSEWAY_IAM_DOOR_IDS"),
            (door().with("CAUSEWAY_IAM_DOOR_IDS", "*"), "CAUSEWAY_IAM_DOOR_IDS"),
            (minimal().with("CAUSEWAY_MTLS_DOOR_IDS", "a"), "CAUSEWAY_MTLS_ISSUER is not set"),
            (minimal().with("CAUSEWAY_MTLS_ISSUER", "https://m.example"), "CAUSEWAY_MTLS_DOOR_IDS is not set"),
            (minimal().with("CAUSEWAY_MTLS_CLIENT_AUTH", "tls_client_auth"), "CAUSEWAY_MTLS_ISSUER is not set"),
            (
                door().with("CAUSEWAY_MTLS_DOOR_IDS", "m1,url1").with("CAUSEWAY_MTLS_ISSUER", "https://m.example"),
                "CAUSEWAY_MTLS_DOOR_IDS",
            ),
            (
                minimal()
                    .with("CAUSEWAY_MTLS_DOOR_IDS", "m1")
                    .with("CAUSEWAY_MTLS_ISSUER", "https://issuer.bookinfo.example"),
                "CAUSEWAY_MTLS_ISSUER",
            ),
            (door().with("CAUSEWAY_REGISTRY", "[\n1]"), "CAUSEWAY_REGISTRY"),
            (door().with("CAUSEWAY_REGISTRY", "[".repeat(5000)), "CAUSEWAY_REGISTRY"),
            (minimal().with("CAUSEWAY_CLIENT_TABLE", "x"), "did you mean CAUSEWAY_CLIENTS_TABLE?"),
        ] {
            let error = Config::from_env(&env).unwrap_err().to_string();
            assert!(error.contains(named), "{named}: {error}");
            assert!(!error.contains('\n') && error.len() < 400, "{error}");
        }
    }

    #[test]
    fn issuers() {
        for (text, good) in [
            ("https://issuer.bookinfo.example", true),
            ("https://issuer.bookinfo.example:8443", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://issuer.bookinfo.example", false),
            ("https://issuer.bookinfo.example/", false),
            ("https://issuer.bookinfo.example/a", false),
            ("https://issuer.bookinfo.example?a", false),
            ("https://issuer.bookinfo.example#a", false),
            ("https://user@issuer.bookinfo.example", false),
            ("https://", false),
            ("https://:443", false),
            ("HTTPS://issuer.bookinfo.example", false),
            ("issuer.bookinfo.example", false),
        ] {
            assert_eq!(issuer(text).is_ok(), good, "{text}");
        }
    }
}
