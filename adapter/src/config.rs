//! What the adapter is told at its start. See the table in the crate's documentation.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use authz::ShadowMode;
use platform::api_keys::ApiKeysConfig;
use platform::bundle;
use platform::env::{Env, EnvError, Reader, environment_from_env};
use platform::jwks::JwksSettings;
use platform::metrics::Output;
use platform::revocations::RevocationsConfig;
use platform::shadow_mode;

use crate::exchange::ExchangeConfig;
use crate::reload;

/// Where the adapter listens unless it is told otherwise: this host only, next to Envoy in one pod.
const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9191);
/// Where Prometheus asks unless the adapter is told otherwise: next to the port of the checks.
const METRICS_PORT: u16 = 9192;
/// The most labels of a workload, and the most bytes of each part of one (Kubernetes allows 63 and a DNS prefix).
const MAX_LABELS: usize = 64;
const MAX_LABEL: usize = 317;

/// The adapter's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `CAUSEWAY_ADAPTER_ADDRESS`: address and port to listen on; loopback unless it says otherwise.
    pub address: SocketAddr,
    /// `CAUSEWAY_BUNDLE`: the bundle file.
    pub bundle: PathBuf,
    /// `CAUSEWAY_WORKLOAD_NAMESPACE` and `CAUSEWAY_WORKLOAD_LABELS`: the workload whose policies are asked for when
    /// Envoy names none.
    pub workload: Option<Workload>,
    /// `CAUSEWAY_ENVIRONMENT`: the environment that the mesh belongs to; API keys of another one are refused.
    pub environment: Option<String>,
    /// Where API keys are kept; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeysConfig>,
    /// `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` and `CAUSEWAY_ISSUER_ROOTS`: how key sets are fetched.
    pub jwks: JwksSettings,
    /// `CAUSEWAY_ISSUER_URL` and `CAUSEWAY_TOKEN_AUDIENCE`: where API keys are exchanged for tokens; without it, the
    /// mesh sees none.
    pub exchange: Option<ExchangeConfig>,
    /// `CAUSEWAY_METRICS` and `CAUSEWAY_METRICS_PORT`: the metrics. Prometheus' port is at the IP address of `address`.
    pub metrics: Output,
    /// `CAUSEWAY_RELOAD_SECONDS`: how often the bundle file is looked at; `None` for never.
    pub reload: Option<Duration>,
    /// Where the list of revoked credentials is fetched from; without it, there is none but the bundle's.
    pub revocations: Option<RevocationsConfig>,
    /// `CAUSEWAY_SHADOW_WORKLOADS` and `CAUSEWAY_SHADOW_UNTIL`: where nothing is enforced yet.
    pub shadow: Option<ShadowMode>,
}

/// A workload of the mesh, as policies select it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: Vec<(String, String)>,
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names the variable that is missing, malformed, half given or unknown.
    pub fn from_env(env: &dyn Env) -> Result<Self, EnvError> {
        let env = Reader::new(env);
        let address = env.checked("CAUSEWAY_ADAPTER_ADDRESS", |text| {
            text.parse().map_err(|_| "expected an IP address and a port, such as 127.0.0.1:9191".to_owned())
        })?;
        let bundle = env.optional("CAUSEWAY_BUNDLE")?;
        let workload = env.pair("CAUSEWAY_WORKLOAD_NAMESPACE", "CAUSEWAY_WORKLOAD_LABELS")?;
        let workload = match workload {
            None => None,
            Some((namespace, _)) => {
                let labels = env.checked("CAUSEWAY_WORKLOAD_LABELS", labels)?.unwrap_or_default();
                Some(Workload { namespace, labels })
            }
        };
        let environment = environment_from_env(&env)?;
        let api_keys = ApiKeysConfig::from_env(&env)?;
        let jwks = JwksSettings::from_env(&env)?;
        if api_keys.is_some() && environment.is_none() {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_API_KEYS_TABLE".to_owned(),
                missing: "CAUSEWAY_ENVIRONMENT".to_owned(),
            });
        }
        let exchange = ExchangeConfig::from_env(&env)?;
        if exchange.is_some() && api_keys.is_none() {
            return Err(EnvError::HalfGroup {
                present: "CAUSEWAY_ISSUER_URL".to_owned(),
                missing: "CAUSEWAY_API_KEYS_TABLE".to_owned(),
            });
        }
        let metrics = Output::from_env(&env, "adapter", environment.as_deref(), METRICS_PORT)?;
        let reload = env.number("CAUSEWAY_RELOAD_SECONDS", reload::EVERY, 0, 3_600)?;
        let revocations = RevocationsConfig::from_env(&env)?;
        let shadow = shadow_mode::from_env(&env)?;
        env.finish()?;
        Ok(Self {
            address: address.unwrap_or(DEFAULT_ADDRESS),
            bundle: bundle.map_or_else(|| PathBuf::from(bundle::DEFAULT_PATH), PathBuf::from),
            workload,
            environment,
            api_keys,
            jwks,
            exchange,
            metrics,
            reload: (reload > 0).then(|| Duration::from_secs(reload)),
            revocations,
            shadow,
        })
    }
}

/// `app=ratings,version=v1`
pub(crate) fn labels(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut labels: Vec<(String, String)> = Vec::new();
    for label in text.split(',') {
        let (name, value) = label
            .split_once('=')
            .ok_or_else(|| format!("expected NAME=VALUE pairs with commas between, found {label:?}"))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || name.len() > MAX_LABEL || value.len() > MAX_LABEL {
            return Err(format!("the label {label:?} has an empty or overlong name or value"));
        }
        if labels.iter().any(|(seen, _)| seen == name) {
            return Err(format!("the label {name:?} is given twice"));
        }
        if labels.len() == MAX_LABELS {
            return Err(format!("more than {MAX_LABELS} labels"));
        }
        labels.push((name.to_owned(), value.to_owned()));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;
    use platform::metrics::Emf;

    use super::*;

    #[test]
    fn defaults_are_loopback_and_the_layer_s_bundle() {
        let config = Config::from_env(&MapEnv::default()).unwrap();
        assert_eq!(config.address.to_string(), "127.0.0.1:9191");
        assert_eq!(config.bundle, PathBuf::from("/opt/causeway/mesh.bundle"));
        assert!(config.workload.is_none() && config.api_keys.is_none() && config.metrics == Output::Off);
        assert!(config.exchange.is_none() && config.reload == Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_whole_configuration() {
        let config = Config::from_env(&MapEnv::from([
            ("CAUSEWAY_ADAPTER_ADDRESS", "[::]:9000"),
            ("CAUSEWAY_BUNDLE", "/etc/causeway/mesh.bundle"),
            ("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfo"),
            ("CAUSEWAY_WORKLOAD_LABELS", "app=ratings, version=v1"),
            ("CAUSEWAY_ENVIRONMENT", "dev"),
            ("CAUSEWAY_METRICS", "emf"),
            ("CAUSEWAY_ISSUER_URL", "https://issuer.example"),
            ("CAUSEWAY_RELOAD_SECONDS", "0"),
            ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_REVOCATIONS_URL", "https://issuer.example/revocations"),
            ("CAUSEWAY_REVOCATIONS_ISSUER", "https://issuer.example"),
            ("CAUSEWAY_SHADOW_WORKLOADS", "bookinfo/app=ratings"),
            ("CAUSEWAY_SHADOW_UNTIL", "2026-01-01T12:00:00Z"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ]))
        .unwrap();
        let workload = config.workload.clone().unwrap();
        assert_eq!(workload.namespace, "bookinfo");
        assert_eq!(workload.labels, [("app", "ratings"), ("version", "v1")].map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!(config.api_keys.as_ref().unwrap().table, "api-keys");
        assert_eq!(config.metrics, Output::Emf(Emf::new("adapter", Some("dev"))));
        assert_eq!(config.exchange.as_ref().unwrap().url, "https://issuer.example");
        assert_eq!(config.reload, None);
        assert_eq!(config.revocations.as_ref().unwrap().issuer, "https://issuer.example");
        let shadow = config.shadow.as_ref().unwrap();
        assert_eq!(shadow.workloads(), "bookinfo/app=ratings");
        assert_eq!(Some(shadow.until()), platform::clock::parse_utc("2026-01-01T12:00:00Z"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn each_wrong_value_is_named() {
        let labels = |value| MapEnv::from([("CAUSEWAY_WORKLOAD_NAMESPACE", "n"), ("CAUSEWAY_WORKLOAD_LABELS", value)]);
        for (env, expected) in [
            (MapEnv::from([("CAUSEWAY_ADAPTER_ADDRESS", "9191")]), "CAUSEWAY_ADAPTER_ADDRESS"),
            (MapEnv::from([("CAUSEWAY_ADAPTER_ADDRESS", "localhost:9191")]), "expected an IP address and a port"),
            (MapEnv::from([("CAUSEWAY_WORKLOAD_NAMESPACE", "n")]), "CAUSEWAY_WORKLOAD_LABELS is not set"),
            (labels("app"), "expected NAME=VALUE"),
            (labels("=x"), "empty or overlong"),
            (labels("app=a,app=b"), "given twice"),
            (labels("app=a,"), "expected NAME=VALUE"),
            (MapEnv::from([("CAUSEWAY_API_KEYS_TABLE", "t")]), "CAUSEWAY_PEPPER_SECRET is not set"),
            (
                MapEnv::from([("CAUSEWAY_API_KEYS_TABLE", "t"), ("CAUSEWAY_PEPPER_SECRET", "p")]),
                "AWS_REGION is not set",
            ),
            (
                MapEnv::from([
                    ("CAUSEWAY_API_KEYS_TABLE", "t"),
                    ("CAUSEWAY_PEPPER_SECRET", "p"),
                    ("AWS_REGION", "eu-central-1"),
                    ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
                    ("AWS_SECRET_ACCESS_KEY", "hunter2"),
                ]),
                "CAUSEWAY_ENVIRONMENT is not set, but CAUSEWAY_API_KEYS_TABLE is",
            ),
            (MapEnv::from([("CAUSEWAY_ISSUER_URL", "https://i.example")]), "CAUSEWAY_API_KEYS_TABLE is not set"),
            (MapEnv::from([("CAUSEWAY_TOKEN_AUDIENCE", "a")]), "CAUSEWAY_ISSUER_URL is not set"),
            (MapEnv::from([("CAUSEWAY_SHADOW_WORKLOADS", "*")]), "CAUSEWAY_SHADOW_UNTIL is not set"),
            (MapEnv::from([("CAUSEWAY_RELOAD_SECONDS", "5s")]), "a whole number from 0 to 3600"),
            (MapEnv::from([("CAUSEWAY_METRICS_PORT", "0")]), "a whole number from 1 to 65535"),
            (MapEnv::from([("CAUSEWAY_METRICS", "EMF")]), "CAUSEWAY_METRICS=\"EMF\" is not valid"),
            (MapEnv::from([("CAUSEWAY_ENVIRONMENT", "Dev")]), "CAUSEWAY_ENVIRONMENT=\"Dev\" is not valid"),
            (MapEnv::from([("CAUSEWAY_REVOCATIONS_MAX_AGE", "300")]), "CAUSEWAY_REVOCATIONS_URL is not set"),
            (MapEnv::from([("CAUSEWAY_ADAPTER_ADRESS", "127.0.0.1:1")]), "did you mean CAUSEWAY_ADAPTER_ADDRESS?"),
        ] {
            let error = Config::from_env(&env).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
