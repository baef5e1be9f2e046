//! What the authorizer is told at its start. See the table in the crate's documentation.

use std::path::PathBuf;

use authz::ShadowMode;
use platform::api_keys::ApiKeysConfig;
use platform::bundle;
use platform::env::{Env, EnvError, Reader, environment_from_env};
use platform::jwks::JwksSettings;
use platform::metrics::{Emf, Metrics};
use platform::rate_limit::RateLimitConfig;
use platform::revocations::RevocationsConfig;
use platform::shadow_mode;

use crate::event::{ResponseKind, TOKEN_HEADER};

/// The authorizer's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `CAUSEWAY_BUNDLE`: the bundle file.
    pub bundle: PathBuf,
    /// `CAUSEWAY_RESPONSE`: what the authorizer answers to events of payload format 2.0.
    pub response: ResponseKind,
    /// `CAUSEWAY_TOKEN_HEADER`: the header, in lower case, that TOKEN authorizers of REST APIs read.
    pub token_header: String,
    /// `CAUSEWAY_ENVIRONMENT`: the environment that this function serves; without it, every one in the bundle.
    pub environment: Option<String>,
    /// Where API keys are kept; without it, every API key is refused as `api_key_unavailable`.
    pub api_keys: Option<ApiKeysConfig>,
    /// `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` and `CAUSEWAY_ISSUER_ROOTS`: how key sets are fetched.
    pub jwks: JwksSettings,
    /// `CAUSEWAY_METRICS`: the metrics in the log; `None` for none.
    pub metrics: Option<Emf>,
    /// Where the list of revoked credentials is fetched from; without it, there is none but the bundle's.
    pub revocations: Option<RevocationsConfig>,
    /// How clients are limited; without it, they are not.
    pub rate_limits: Option<RateLimitConfig>,
    /// `CAUSEWAY_SHADOW_WORKLOADS` and `CAUSEWAY_SHADOW_UNTIL`: where nothing is enforced yet. It ends [`LONGEST_TTL`]
    /// before the second that the variable names.
    pub shadow: Option<ShadowMode>,
}

/// The longest time, in seconds, for which API Gateway keeps an answer (`AuthorizerResultTtlInSeconds`). Shadow mode ends
/// this much earlier here, so that no answer that it gave lets anything pass after its end.
pub const LONGEST_TTL: u64 = 3_600;

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names the variable that is missing, malformed, half given or unknown.
    pub fn from_env(env: &dyn Env) -> Result<Self, EnvError> {
        let env = Reader::new(env);
        let bundle = env.optional("CAUSEWAY_BUNDLE")?;
        let response = env.checked("CAUSEWAY_RESPONSE", |word| match word {
            "simple" => Ok(ResponseKind::Simple),
            "iam" => Ok(ResponseKind::Iam),
            _ => Err("expected simple (the authorizer has EnableSimpleResponses) or iam".to_owned()),
        })?;
        let token_header = env.checked("CAUSEWAY_TOKEN_HEADER", |name| {
            let name = name.to_ascii_lowercase();
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            if is_name { Ok(name) } else { Err("expected the name of a header, such as x-api-key".to_owned()) }
        })?;
        let environment = environment_from_env(&env)?;
        let api_keys = ApiKeysConfig::from_env(&env)?;
        let jwks = JwksSettings::from_env(&env)?;
        let metrics = Emf::from_env(&env, Metrics::Emf, "authorizer", environment.as_deref())?;
        let revocations = RevocationsConfig::from_env(&env)?;
        let rate_limits = RateLimitConfig::from_env(&env)?;
        let shadow = shadow_mode::from_env(&env)?.map(|mode| mode.ending_earlier(LONGEST_TTL));
        env.finish()?;
        Ok(Self {
            bundle: bundle.map_or_else(|| PathBuf::from(bundle::DEFAULT_PATH), PathBuf::from),
            response: response.unwrap_or_default(),
            token_header: token_header.unwrap_or_else(|| TOKEN_HEADER.to_owned()),
            environment,
            api_keys,
            jwks,
            metrics,
            revocations,
            rate_limits,
            shadow,
        })
    }
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    #[test]
    fn the_empty_environment_is_a_configuration() {
        let config = Config::from_env(&MapEnv::default()).unwrap();
        assert_eq!(config.bundle, PathBuf::from("/opt/causeway/mesh.bundle"));
        assert_eq!(config.response, ResponseKind::Simple);
        assert_eq!(config.token_header, "authorization");
        assert!(config.api_keys.is_none() && config.rate_limits.is_none() && config.shadow.is_none());
        assert_eq!(config.metrics, Some(Emf::new("authorizer", None)));
    }

    #[test]
    fn a_whole_configuration() {
        let config = Config::from_env(&MapEnv::from([
            ("CAUSEWAY_BUNDLE", "/var/task/mesh.bundle"),
            ("CAUSEWAY_RESPONSE", "iam"),
            ("CAUSEWAY_TOKEN_HEADER", "X-Api-Key"),
            ("CAUSEWAY_ENVIRONMENT", "dev"),
            ("CAUSEWAY_METRICS", "off"),
            ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_REVOCATIONS_URL", "https://issuer.example/revocations"),
            ("CAUSEWAY_REVOCATIONS_ISSUER", "https://issuer.example"),
            ("CAUSEWAY_RATE_LIMITS_TABLE", "rate-limits"),
            ("CAUSEWAY_RATE_LIMIT", "50/s,100"),
            ("CAUSEWAY_RATE_LIMIT_OUTAGE", "deny"),
            ("CAUSEWAY_SHADOW_WORKLOADS", "shop,bookinfo/app=reviews"),
            ("CAUSEWAY_SHADOW_UNTIL", "2026-01-01T12:00:00Z"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
        ]))
        .unwrap();
        assert_eq!(config.bundle, PathBuf::from("/var/task/mesh.bundle"));
        assert_eq!(config.response, ResponseKind::Iam);
        assert_eq!(config.token_header, "x-api-key");
        assert_eq!(config.environment.as_deref(), Some("dev"));
        assert_eq!(config.metrics, None);
        let store = config.api_keys.as_ref().unwrap();
        assert_eq!((store.table.as_str(), store.pepper_secret.as_str()), ("api-keys", "pepper"));
        assert_eq!(config.revocations.as_ref().unwrap().issuer, "https://issuer.example");
        let limits = config.rate_limits.as_ref().unwrap();
        assert_eq!((limits.table.as_str(), limits.outage), ("rate-limits", platform::rate_limit::Outage::Deny));
        assert_eq!(limits.limit.to_string(), "50/s,100");
        let shadow = config.shadow.as_ref().unwrap();
        assert_eq!(shadow.workloads(), "shop,bookinfo/app=reviews");
        assert_eq!(Some(shadow.until()), platform::clock::parse_utc("2026-01-01T11:00:00Z"));
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn each_wrong_value_is_named() {
        for (env, expected) in [
            (MapEnv::from([("CAUSEWAY_RESPONSE", "json")]), "CAUSEWAY_RESPONSE=\"json\" is not valid: expected simple"),
            (MapEnv::from([("CAUSEWAY_TOKEN_HEADER", "a b")]), "CAUSEWAY_TOKEN_HEADER=\"a b\" is not valid"),
            (MapEnv::from([("CAUSEWAY_ENVIRONMENT", "Dev ")]), "CAUSEWAY_ENVIRONMENT=\"Dev \" is not valid"),
            (MapEnv::from([("CAUSEWAY_METRICS", "statsd")]), "CAUSEWAY_METRICS=\"statsd\" is not valid"),
            (MapEnv::from([("CAUSEWAY_PEPPER_SECRET", "p")]), "CAUSEWAY_API_KEYS_TABLE is not set"),
            (
                MapEnv::from([("CAUSEWAY_API_KEYS_TABLE", "t"), ("CAUSEWAY_PEPPER_SECRET", "p")]),
                "AWS_REGION is not set",
            ),
            (
                MapEnv::from([("CAUSEWAY_REVOCATIONS_URL", "https://a.example/")]),
                "CAUSEWAY_REVOCATIONS_ISSUER is not set",
            ),
            (MapEnv::from([("CAUSEWAY_RATE_LIMITS_TABLE", "t")]), "CAUSEWAY_RATE_LIMIT is not set"),
            (MapEnv::from([("CAUSEWAY_SHADOW_WORKLOADS", "*")]), "CAUSEWAY_SHADOW_UNTIL is not set"),
            (MapEnv::from([("CAUSEWAY_RATE_LIMIT", "fast")]), "CAUSEWAY_RATE_LIMIT=\"fast\" is not valid"),
            (MapEnv::from([("CAUSEWAY_BUNDEL", "x")]), "did you mean CAUSEWAY_BUNDLE?"),
        ] {
            let error = Config::from_env(&env).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
