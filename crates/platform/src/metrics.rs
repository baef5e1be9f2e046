//! Metrics, written as a part of the log: CloudWatch's embedded metric format (EMF).
//!
//! CloudWatch reads the member `_aws` of a log line and makes metrics of what it names, so that a function publishes
//! nothing itself and needs no permission to. Dimensions cost money by the number of their values: they are the
//! service, the environment and the closed set of reason words, and never a path, a client or a principal.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

// What is counted is what the fronts with policies do; the others write no metrics.
#[cfg(feature = "jwks")]
mod decisions;
#[cfg(feature = "jwks")]
mod directives;
pub mod prometheus;
pub mod scrape;
#[cfg(feature = "jwks")]
mod states;

use std::sync::Arc;

use crate::env::{EnvError, Reader};

#[cfg(feature = "jwks")]
pub(crate) use decisions::{DecisionMetrics, micros};
#[cfg(feature = "jwks")]
pub(crate) use states::StateMetrics;
#[cfg(feature = "jwks")]
pub use states::{SECONDS_PER_LINE, Totals};

/// The namespace of all metrics.
pub const NAMESPACE: &str = "Causeway";

/// The dimension `environment` of a program that was not told its own. No environment can have this name.
pub const NO_ENVIRONMENT: &str = "-";

/// That metrics are written, and whose they are. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emf {
    service: &'static str,
    environment: Arc<str>,
}

impl Emf {
    /// Metrics of `service` in `environment`.
    pub fn new(service: &'static str, environment: Option<&str>) -> Self {
        Self { service, environment: environment.unwrap_or(NO_ENVIRONMENT).into() }
    }

    /// `CAUSEWAY_METRICS`: `emf` or `off`, and `default` where it is not set.
    ///
    /// # Errors
    /// Another word.
    pub fn from_env(
        env: &Reader<'_>,
        default: Metrics,
        service: &'static str,
        environment: Option<&str>,
    ) -> Result<Option<Self>, EnvError> {
        let metrics = env.checked("CAUSEWAY_METRICS", |word| match word {
            "emf" => Ok(Metrics::Emf),
            "off" => Ok(Metrics::Off),
            _ => Err("expected emf (CloudWatch's embedded metric format, in the log) or off".to_owned()),
        })?;
        Ok(match metrics.unwrap_or(default) {
            Metrics::Emf => Some(Self::new(service, environment)),
            Metrics::Off => None,
        })
    }
}

/// The metrics of a program that stays up.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Output {
    /// None.
    #[default]
    Off,
    /// In the log.
    Emf(Emf),
    /// At this port, in Prometheus' text format.
    Prometheus(u16),
}

impl Output {
    /// `CAUSEWAY_METRICS`: `off` (the default), `emf` or `prometheus`; `CAUSEWAY_METRICS_PORT` is the port for the last.
    ///
    /// # Errors
    /// Another word, or no port.
    pub fn from_env(
        env: &Reader<'_>,
        service: &'static str,
        environment: Option<&str>,
        port: u16,
    ) -> Result<Self, EnvError> {
        let output = env.checked("CAUSEWAY_METRICS", |word| match word {
            "off" => Ok(Self::Off),
            "emf" => Ok(Self::Emf(Emf::new(service, environment))),
            "prometheus" => Ok(Self::Prometheus(port)),
            _ => Err("expected prometheus (a port of its own), emf (CloudWatch's, in the log) or off".to_owned()),
        })?;
        let port = env.number("CAUSEWAY_METRICS_PORT", u64::from(port), 1, u64::from(u16::MAX))?;
        Ok(match output.unwrap_or_default() {
            Self::Prometheus(default) => Self::Prometheus(u16::try_from(port).unwrap_or(default)),
            other => other,
        })
    }
}

/// What `CAUSEWAY_METRICS` says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Metrics {
    /// Metrics in the log.
    Emf,
    /// None.
    Off,
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;
    use crate::env::MapEnv;

    /// The units that CloudWatch knows.
    const UNITS: &str = "Seconds|Microseconds|Milliseconds|Bytes|Kilobytes|Megabytes|Gigabytes|Terabytes|Bits|Kilobits\
                         |Megabits|Gigabits|Terabits|Percent|Count|Bytes/Second|Kilobytes/Second|Megabytes/Second\
                         |Gigabytes/Second|Terabytes/Second|Bits/Second|Kilobits/Second|Megabits/Second\
                         |Gigabits/Second|Terabits/Second|Count/Second|None";

    /// The rules of the specification's JSON schema and text, for one log line. The names of its metrics.
    pub(crate) fn check_emf(line: &str) -> Result<Vec<String>, String> {
        let rule = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(format!("{rule}: {line}")) };
        let members = |value: &Value, wanted: &[&str], what: &str| {
            let found: BTreeSet<&str> =
                value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            rule(found == wanted.iter().copied().collect(), what)
        };
        rule(line.len() <= 256 * 1024 && !line.contains('\n'), "one event of at most 256 KiB")?;
        let root: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let aws = &root["_aws"];
        members(aws, &["Timestamp", "CloudWatchMetrics"], "_aws has both members and no other")?;
        rule(aws["Timestamp"].is_u64(), "Timestamp is an integer")?;
        let directives = aws["CloudWatchMetrics"].as_array().ok_or("CloudWatchMetrics is an array")?;
        rule(directives.len() == 1, "one directive")?;
        let mut names = Vec::new();
        for directive in directives {
            members(directive, &["Namespace", "Dimensions", "Metrics"], "a directive has three members")?;
            let namespace = directive["Namespace"].as_str().unwrap_or_default();
            rule((1..=1024).contains(&namespace.len()), "Namespace has 1 to 1024 characters")?;
            let sets = directive["Dimensions"].as_array().ok_or("Dimensions is an array")?;
            rule(!sets.is_empty(), "there is a dimension set")?;
            for set in sets {
                let set = set.as_array().ok_or("a dimension set is an array")?;
                rule((1..=30).contains(&set.len()), "a dimension set has at most 30 keys")?;
                for key in set {
                    let key = key.as_str().ok_or("a dimension key is a string")?;
                    rule((1..=250).contains(&key.len()), "a dimension key has 1 to 250 characters")?;
                    rule(["service", "environment", "reason"].contains(&key), "no dimension of many values")?;
                    let value = root[key].as_str().ok_or("a dimension value is a string at the root")?;
                    rule((1..=1024).contains(&value.len()) && value.is_ascii(), "a dimension value has 1 to 1024")?;
                }
            }
            let metrics = directive["Metrics"].as_array().ok_or("Metrics is an array")?;
            rule((1..=100).contains(&metrics.len()), "at most 100 metrics")?;
            for metric in metrics {
                members(metric, &["Name", "Unit"], "a metric has a name and a unit")?;
                let name = metric["Name"].as_str().unwrap_or_default();
                rule((1..=1024).contains(&name.len()), "a metric name has 1 to 1024 characters")?;
                let unit = metric["Unit"].as_str().unwrap_or_default();
                rule(UNITS.split('|').any(|known| known == unit), "a unit that CloudWatch knows")?;
                rule(root[name].is_number(), "a metric value is a number at the root")?;
                names.push(name.to_owned());
            }
        }
        rule(names.iter().collect::<BTreeSet<_>>().len() == names.len(), "no metric twice")?;
        Ok(names)
    }

    #[test]
    fn the_check_finds_what_cloudwatch_would_drop() {
        let good = r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"Causeway","Dimensions":[["service"]],"Metrics":[{"Name":"Decisions","Unit":"Count"}]}]},"service":"a","Decisions":1}"#;
        assert_eq!(check_emf(good), Ok(vec!["Decisions".to_owned()]));
        for (text, replacement) in [
            (r#""Timestamp":1"#, r#""Timestamp":"1""#),
            (r#""Timestamp":1"#, r#""Timestamp":1.5"#),
            (r#""Timestamp":1,"#, ""),
            (r#"[["service"]]"#, r#"["service"]"#),
            (r#"[["service"]]"#, "[]"),
            (r#"[["service"]]"#, r#"[["path"]]"#),
            (r#""Namespace":"Causeway""#, r#""Namespace":"""#),
            (r#""Unit":"Count""#, r#""Unit":"Counts""#),
            (r#","Decisions":1"#, ""),
            (r#""Decisions":1"#, r#""Decisions":"1""#),
            (r#""service":"a""#, r#""service":"""#),
            (r#""service":"a""#, r#""service":1"#),
            (r#""Name":"Decisions""#, r#""name":"Decisions""#),
        ] {
            let bad = good.replace(text, replacement);
            assert!(check_emf(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_variable_is_checked() {
        let read = |env: &MapEnv, default| {
            Emf::from_env(&Reader::new(env), default, "authorizer", Some("dev")).map_err(|error| error.to_string())
        };
        let emf = Some(Emf::new("authorizer", Some("dev")));
        assert_eq!(read(&MapEnv::default(), Metrics::Emf), Ok(emf.clone()));
        assert_eq!(read(&MapEnv::default(), Metrics::Off), Ok(None));
        assert_eq!(read(&MapEnv::from([("CAUSEWAY_METRICS", "emf")]), Metrics::Off), Ok(emf));
        assert_eq!(read(&MapEnv::from([("CAUSEWAY_METRICS", "off")]), Metrics::Emf), Ok(None));
        let output =
            |env: &MapEnv| Output::from_env(&Reader::new(env), "adapter", None, 9_192).map_err(|e| e.to_string());
        assert_eq!(output(&MapEnv::default()), Ok(Output::Off));
        let prometheus = MapEnv::from([("CAUSEWAY_METRICS", "prometheus")]);
        assert_eq!(output(&prometheus), Ok(Output::Prometheus(9_192)));
        assert_eq!(output(&prometheus.clone().with("CAUSEWAY_METRICS_PORT", "1")), Ok(Output::Prometheus(1)));
        assert!(output(&prometheus.with("CAUSEWAY_METRICS_PORT", "0")).unwrap_err().contains("CAUSEWAY_METRICS_PORT"));
        let error = read(&MapEnv::from([("CAUSEWAY_METRICS", "on")]), Metrics::Emf).unwrap_err();
        assert!(error.starts_with("CAUSEWAY_METRICS=\"on\" is not valid: expected emf"), "{error}");
    }
}
