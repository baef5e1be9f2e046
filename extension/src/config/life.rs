//! What the environment says about deadlines, tokens and metrics.

use std::time::Duration;

use http::uri::Authority;
use platform::env::{EnvError, Reader, environment_from_env};
use serde::Deserialize;

/// The port of the metrics in Prometheus' format where none is configured: that of Istio's sidecars.
pub const METRICS_PORT: u16 = 15090;

/// The most rules of `CAUSEWAY_TOKENS`: each may keep a token of its own.
pub const MAX_TOKEN_RULES: usize = 64;

/// How the extension lives with its function, and what it shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Kept free at the end of an invocation, for the application to answer in.
    pub deadline_margin: Duration,
    /// How metrics are given.
    pub metrics: Metrics,
    /// The dimension `environment` of metrics.
    pub environment: Option<String>,
    /// What the function calls directly: its own `no_proxy` and `NO_PROXY`, which in Lambda are in this environment, too.
    pub no_proxy: String,
    /// Whether Lambda starts the function by the wrapper script, which takes what stands for everything out of it.
    pub wrapped: bool,
}

/// `CAUSEWAY_METRICS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// None.
    #[default]
    Off,
    /// CloudWatch's embedded metric format, in the log.
    Emf,
    /// Prometheus' text on this loopback port; 0 takes a free one (not from the environment).
    Prometheus(u16),
}

/// Which token requests to a service get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRule {
    /// The service's host, or `*.` and the end of it, in lower case.
    pub host: String,
    /// The token.
    pub mode: TokenMode,
}

/// A token for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenMode {
    /// The workload's own, unless the application sends an `Authorization` itself.
    Own(Grant),
    /// What the application sends as `Authorization`, and nothing where it sends none.
    Forward,
    /// What the application sends, exchanged for a token in which the workload acts for the caller (RFC 8693).
    Exchange(Grant),
    /// No `Authorization` at all: one that the application sends stays here.
    None,
}

/// What a token is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The audience.
    pub audience: String,
    /// The scope; without one the issuer's default.
    pub scope: Option<String>,
}

impl Default for Life {
    fn default() -> Life {
        Life {
            deadline_margin: Duration::from_millis(100),
            metrics: Metrics::Off,
            environment: None,
            no_proxy: String::new(),
            wrapped: false,
        }
    }
}

impl Life {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Life, EnvError> {
        let margin = reader.number("CAUSEWAY_DEADLINE_MARGIN_MS", 100, 0, 10_000);
        let metrics = reader.checked("CAUSEWAY_METRICS", |word| match word {
            "off" => Ok(Metrics::Off),
            "emf" => Ok(Metrics::Emf),
            "prometheus" => Ok(Metrics::Prometheus(METRICS_PORT)),
            _ => Err("expected emf, prometheus or off".to_owned()),
        });
        let port = reader.number("CAUSEWAY_METRICS_PORT", u64::from(METRICS_PORT), 1, u64::from(u16::MAX));
        let environment = environment_from_env(reader);
        let port = u16::try_from(port?).unwrap_or(METRICS_PORT);
        let metrics = match metrics?.unwrap_or_default() {
            Metrics::Prometheus(_) => Metrics::Prometheus(port),
            other => other,
        };
        // Nothing that is wrong with them is an error: they are the function's.
        let own = ["no_proxy", "NO_PROXY"].map(|name| reader.optional(name).ok().flatten().unwrap_or_default());
        let no_proxy = own.join(",").trim_matches(',').to_owned();
        let wrapper = reader.optional("AWS_LAMBDA_EXEC_WRAPPER").ok().flatten().unwrap_or_default();
        let wrapped = wrapper.rsplit('/').next() == Some("causeway-wrapper");
        let deadline_margin = Duration::from_millis(margin?);
        Ok(Life { deadline_margin, metrics, environment: environment?, no_proxy, wrapped })
    }
}

/// `CAUSEWAY_TOKENS`.
pub(super) fn tokens(reader: &Reader<'_>) -> Result<Vec<TokenRule>, EnvError> {
    Ok(reader.checked("CAUSEWAY_TOKENS", read_tokens)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    host: String,
    mode: Word,
    audience: Option<String>,
    scope: Option<String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Word {
    Own,
    Forward,
    Exchange,
    None,
}

fn read_tokens(text: &str) -> Result<Vec<TokenRule>, String> {
    let written: Vec<Written> = serde_json::from_str(text)
        .map_err(|error| format!("expected a JSON list of {{host, mode, audience, scope}}: {error}"))?;
    if written.len() > MAX_TOKEN_RULES {
        return Err(format!("found {} rules, expected at most {MAX_TOKEN_RULES}", written.len()));
    }
    let mut rules: Vec<TokenRule> = Vec::with_capacity(written.len());
    for rule in written {
        let rule = one(rule)?;
        if rules.iter().any(|other| other.host == rule.host) {
            return Err(format!("found the host {} twice", rule.host));
        }
        rules.push(rule);
    }
    Ok(rules)
}

fn one(Written { host, mode, audience, scope }: Written) -> Result<TokenRule, String> {
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let named = name.parse::<Authority>().is_ok_and(|parsed| parsed.host() == name);
    if !named || name.contains(['*', ':']) {
        return Err(format!("found the host {host:?}, expected a name, or *. and the end of one"));
    }
    let host = host.to_ascii_lowercase();
    for text in [&audience, &scope].into_iter().flatten() {
        super::printable(text).map_err(|why| format!("{host}: {why}"))?;
    }
    let grant = |mode: fn(Grant) -> TokenMode| match audience.clone().filter(|audience| !audience.is_empty()) {
        Some(audience) => Ok(mode(Grant { audience, scope: scope.clone() })),
        None => Err(format!("{host}: found no audience, expected one for the modes own and exchange")),
    };
    let mode = match mode {
        Word::Own => grant(TokenMode::Own)?,
        Word::Exchange => grant(TokenMode::Exchange)?,
        Word::Forward | Word::None if audience.is_some() || scope.is_some() => {
            return Err(format!("{host}: found audience or scope, expected them for the modes own and exchange only"));
        }
        Word::Forward => TokenMode::Forward,
        Word::None => TokenMode::None,
    };
    Ok(TokenRule { host, mode })
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    #[test]
    fn rules_of_tokens_are_read() {
        let text = r#"[{"host":"Ratings.bookinfo","mode":"own","audience":"bookinfo","scope":"ratings.read"},
            {"host":"*.shop.svc.cluster.local","mode":"exchange","audience":"shop"},
            {"host":"a.example","mode":"forward"},{"host":"b.example","mode":"none"}]"#;
        let rule = |host: &str, mode| TokenRule { host: host.to_owned(), mode };
        let grant = |audience: &str, scope: Option<&str>| Grant {
            audience: audience.to_owned(),
            scope: scope.map(str::to_owned),
        };
        assert_eq!(
            read_tokens(text).unwrap(),
            [
                rule("ratings.bookinfo", TokenMode::Own(grant("bookinfo", Some("ratings.read")))),
                rule("*.shop.svc.cluster.local", TokenMode::Exchange(grant("shop", None))),
                rule("a.example", TokenMode::Forward),
                rule("b.example", TokenMode::None),
            ]
        );
    }

    #[test]
    fn wrong_rules_are_named() {
        let many: Vec<String> =
            (0..=MAX_TOKEN_RULES).map(|n| format!(r#"{{"host":"h{n}.example","mode":"none"}}"#)).collect();
        let many = format!("[{}]", many.join(","));
        for (text, expected) in [
            ("{}", "JSON list"),
            (r#"[{"host":"a","mode":"own"}]"#, "no audience"),
            (r#"[{"host":"a","mode":"own","audience":""}]"#, "no audience"),
            (r#"[{"host":"a","mode":"exchange"}]"#, "no audience"),
            (r#"[{"host":"a","mode":"forward","audience":"b"}]"#, "own and exchange only"),
            (r#"[{"host":"a","mode":"none","scope":"b"}]"#, "own and exchange only"),
            (r#"[{"host":"a","mode":"mine"}]"#, "mine"),
            (r#"[{"host":"a","mode":"none","aud":"b"}]"#, "aud"),
            (r#"[{"host":"a*","mode":"none"}]"#, "the end of one"),
            (r#"[{"host":"*.","mode":"none"}]"#, "the end of one"),
            (r#"[{"host":"a:80","mode":"none"}]"#, "the end of one"),
            (r#"[{"host":"u@a","mode":"none"}]"#, "the end of one"),
            (r#"[{"host":"a","mode":"none"},{"host":"A","mode":"none"}]"#, "twice"),
            (r#"[{"host":"a","mode":"own","audience":"b\n"}]"#, "printable"),
            (&many, "at most 64"),
        ] {
            let error = read_tokens(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn life_has_defaults_and_bounds() {
        let read = |env: &MapEnv| Life::read(&Reader::new(env)).map_err(|error| error.to_string());
        assert_eq!(read(&MapEnv::default()), Ok(Life::default()));
        let env = MapEnv::from([
            ("CAUSEWAY_METRICS", "prometheus"),
            ("CAUSEWAY_METRICS_PORT", "9100"),
            ("CAUSEWAY_DEADLINE_MARGIN_MS", "0"),
            ("NO_PROXY", "db.internal"),
            ("AWS_LAMBDA_EXEC_WRAPPER", "/opt/causeway-wrapper"),
            ("no_proxy", "a,b"),
        ]);
        let life = read(&env).unwrap();
        assert_eq!((life.metrics, life.deadline_margin), (Metrics::Prometheus(9_100), Duration::ZERO));
        assert_eq!((life.no_proxy.as_str(), life.wrapped), ("a,b,db.internal", true));
        for (name, value) in [
            ("CAUSEWAY_METRICS", "on"),
            ("CAUSEWAY_METRICS_PORT", "0"),
            ("CAUSEWAY_METRICS_PORT", "65536"),
            ("CAUSEWAY_DEADLINE_MARGIN_MS", "10001"),
        ] {
            let error = read(&MapEnv::from([(name, value)])).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
