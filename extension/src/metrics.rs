//! Metrics: in the log for CloudWatch (embedded metric format), or as Prometheus' text on a loopback port.
//!
//! Dimensions are the destination's host, the class of the answer and the reason word. The number of series is bounded;
//! what is beyond it counts for the service `other`.
//!
//! In Lambda nothing says that an invocation has ended, and a timer would not run: what an invocation has counted is
//! written when the next one begins, and at SHUTDOWN.

pub(crate) use platform::metrics::scrape;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use platform::log::Log;
use platform::metrics::{NAMESPACE, NO_ENVIRONMENT};
use serde_json::{Map, Value, json};

use crate::config::{Life, Metrics as Format};

/// How often metrics are written where time goes on.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// The most combinations of service, class and reason.
const MAX_SERIES: usize = 512;

/// The most durations in one line: CloudWatch takes 100 values of a metric.
const MAX_SAMPLES: usize = 100;

/// The upper bounds of the histogram's buckets, in milliseconds: those of Istio's proxies that matter here.
const BOUNDS: [u64; 14] = [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000];

/// The service of requests that came to no destination.
const NO_SERVICE: &str = "-";

/// The service of what is beyond [`MAX_SERIES`].
const OTHER: &str = "other";

/// One request that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    /// The destination's host.
    pub(crate) service: Option<&'a str>,
    /// 0 when the application went away.
    pub(crate) status: u16,
    pub(crate) reason: Option<&'static str>,
    pub(crate) attempts: u32,
    pub(crate) duration: Duration,
    /// A limit of a pool refused it, or a retry of it.
    pub(crate) overflow: bool,
}

/// One call to the application of a sidecar that has ended.
#[cfg_attr(not(feature = "inbound"), allow(dead_code, reason = "that side alone is called"))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    /// The application's port.
    pub(crate) port: u16,
    /// 0 when the caller went away.
    pub(crate) status: u16,
    pub(crate) reason: Option<&'static str>,
    pub(crate) duration: Duration,
}

/// What others have counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) ejections: u64,
    pub(crate) identities_renewed: u64,
    pub(crate) identities_failed: u64,
    pub(crate) tokens_renewed: u64,
    pub(crate) tokens_failed: u64,
    pub(crate) thaws: u64,
    pub(crate) stale_connections: u64,
}

impl Totals {
    /// CloudWatch's name, Prometheus' name and labels, and the count.
    fn named(self) -> [(&'static str, &'static str, &'static str, u64); 7] {
        const RENEWALS: &str = "causeway_renewals_total";
        [
            ("Ejections", "causeway_ejections_total", "", self.ejections),
            ("IdentitiesRenewed", RENEWALS, r#"{kind="identity",outcome="renewed"}"#, self.identities_renewed),
            ("IdentitiesFailed", RENEWALS, r#"{kind="identity",outcome="failed"}"#, self.identities_failed),
            ("TokensRenewed", RENEWALS, r#"{kind="token",outcome="renewed"}"#, self.tokens_renewed),
            ("TokensFailed", RENEWALS, r#"{kind="token",outcome="failed"}"#, self.tokens_failed),
            ("Thaws", "causeway_thaw_total", "", self.thaws),
            ("StaleConnections", "causeway_stale_connections_dropped_total", "", self.stale_connections),
        ]
    }
}

/// Which way requests go: the application's own, or those to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Out,
    In,
}

impl Way {
    /// What its dimension is called that is not on the other way.
    fn label(self) -> &'static str {
        match self {
            Way::Out => "destination",
            Way::In => "port",
        }
    }
}

/// The dimensions of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    way: Way,
    /// The destination's host, or the application's port.
    service: Arc<str>,
    class: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, Default)]
struct Series {
    requests: u64,
    retries: u64,
    overflows: u64,
    /// One for each of [`BOUNDS`], and one for what is above.
    buckets: [u64; BOUNDS.len() + 1],
    millis: u64,
    /// Durations since the last line.
    samples: Vec<u64>,
}

#[derive(Default)]
struct State {
    series: BTreeMap<Key, Series>,
    /// What has been written of `Totals`.
    written: Totals,
}

/// Counts requests.
pub(crate) struct Metrics {
    format: Format,
    environment: String,
    state: Mutex<State>,
}

impl Metrics {
    /// `None` when no metrics are wanted.
    pub(crate) fn new(life: &Life) -> Option<Arc<Metrics>> {
        let environment = life.environment.clone().unwrap_or_else(|| NO_ENVIRONMENT.to_owned());
        let metrics = Metrics { format: life.metrics, environment, state: Mutex::default() };
        (life.metrics != Format::Off).then(|| Arc::new(metrics))
    }

    /// The port that Prometheus asks at.
    pub(crate) fn port(&self) -> Option<u16> {
        match self.format {
            Format::Prometheus(port) => Some(port),
            Format::Emf | Format::Off => None,
        }
    }

    /// Counts a request.
    pub(crate) fn ended(&self, ended: &Ended<'_>) {
        let (class, reason) = (class(ended.status), ended.reason.unwrap_or("-"));
        let key = Key { way: Way::Out, service: ended.service.unwrap_or(NO_SERVICE).into(), class, reason };
        self.count(key, ended);
    }

    /// Counts a call to the application.
    #[cfg_attr(not(feature = "inbound"), allow(dead_code, reason = "that side alone is called"))]
    pub(crate) fn answered(&self, answered: &Answered) {
        let Answered { port, status, reason, duration } = *answered;
        let port: Arc<str> = port.to_string().into();
        let key = Key { way: Way::In, service: port, class: class(status), reason: reason.unwrap_or("-") };
        self.count(key, &Ended { service: None, status, reason, attempts: 1, duration, overflow: false });
    }

    fn count(&self, mut key: Key, ended: &Ended<'_>) {
        let millis = u64::try_from(ended.duration.as_millis()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        if state.series.len() >= MAX_SERIES && !state.series.contains_key(&key) {
            key.service = OTHER.into();
        }
        let series = state.series.entry(key).or_default();
        series.requests += 1;
        series.retries += u64::from(ended.attempts.saturating_sub(1));
        series.overflows += u64::from(ended.overflow);
        let bucket = BOUNDS.iter().position(|bound| millis <= *bound).unwrap_or(BOUNDS.len());
        series.buckets[bucket] += 1;
        series.millis = series.millis.saturating_add(millis);
        if self.format == Format::Emf {
            // The youngest ones, where there are more than a line can hold.
            match series.samples.len() < MAX_SAMPLES {
                true => series.samples.push(millis),
                false => {
                    let index = usize::try_from(series.requests).unwrap_or_default() % MAX_SAMPLES;
                    series.samples[index] = millis;
                }
            }
        }
    }

    /// Writes what has come since the last time, if the log takes it: a line for each series and one for `totals`,
    /// and none where nothing has changed.
    pub(crate) fn write(&self, totals: Totals, log: &Log, now: SystemTime) {
        if self.format != Format::Emf {
            return;
        }
        let mut lines = Vec::new();
        {
            let mut state = self.lock();
            // Taken out: a series that nobody uses any more makes room.
            for (key, series) in std::mem::take(&mut state.series) {
                let (requests, duration) = match key.way {
                    Way::Out => ("Requests", "Duration"),
                    Way::In => ("InboundRequests", "InboundDuration"),
                };
                let mut values = vec![
                    (requests, "Count", Value::from(series.requests)),
                    (duration, "Milliseconds", Value::from(series.samples)),
                ];
                values.extend((series.retries > 0).then(|| ("Retries", "Count", series.retries.into())));
                values.extend((series.overflows > 0).then(|| ("PoolOverflows", "Count", series.overflows.into())));
                let dimensions = [(key.way.label(), &*key.service), ("class", key.class), ("reason", key.reason)];
                lines.push(self.line(&dimensions, values, now));
            }
            let before = std::mem::replace(&mut state.written, totals).named();
            let since = totals.named().into_iter().zip(before).map(|(now, then)| (now.0, now.3.saturating_sub(then.3)));
            let since = since.filter(|(_, count)| *count > 0);
            let values: Vec<_> = since.map(|(name, count)| (name, "Count", Value::from(count))).collect();
            if !values.is_empty() {
                lines.push(self.line(&[], values, now));
            }
        }
        lines.iter().for_each(|line| log.write(line));
    }

    fn line(
        &self,
        dimensions: &[(&'static str, &str)],
        values: Vec<(&'static str, &'static str, Value)>,
        now: SystemTime,
    ) -> Map<String, Value> {
        let metrics: Vec<Value> = values.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
        let keys: Vec<&str> =
            ["service", "environment"].into_iter().chain(dimensions.iter().map(|(k, _)| *k)).collect();
        let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut line = Map::new();
        line.insert("event".to_owned(), "metrics".into());
        line.insert("service".to_owned(), "extension".into());
        line.insert("environment".to_owned(), self.environment.as_str().into());
        line.extend(dimensions.iter().map(|(key, value)| ((*key).to_owned(), Value::from(*value))));
        line.extend(values.into_iter().map(|(name, _, value)| (name.to_owned(), value)));
        let directive = json!([{ "Namespace": NAMESPACE, "Dimensions": [keys], "Metrics": metrics }]);
        let timestamp = u64::try_from(millis).unwrap_or(u64::MAX);
        line.insert("_aws".to_owned(), json!({ "Timestamp": timestamp, "CloudWatchMetrics": directive }));
        line
    }

    /// Everything since the start, in Prometheus' text format 0.0.4.
    pub(crate) fn text(&self, totals: Totals) -> String {
        let mut out = String::new();
        let state = self.lock();
        let counter = |out: &mut String, way: Way, name: &str, help: &str, of: fn(&Series) -> u64| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
            for (key, series) in state.series.iter().filter(|(key, _)| key.way == way) {
                let _ = writeln!(out, "{name}{{{}}} {}", key.labels(), of(series));
            }
        };
        counter(&mut out, Way::Out, "causeway_requests_total", "Requests of the application.", |series| {
            series.requests
        });
        counter(&mut out, Way::Out, "causeway_retries_total", "Second and later tries.", |series| series.retries);
        let help = "Requests or retries that a limit of a pool refused.";
        counter(&mut out, Way::Out, "causeway_pool_overflow_total", help, |series| series.overflows);
        durations(&mut out, &state, Way::Out, "causeway_request_duration_milliseconds");
        if state.series.keys().any(|key| key.way == Way::In) {
            let help = "Calls to the application, with those that were refused.";
            counter(&mut out, Way::In, "causeway_inbound_requests_total", help, |series| series.requests);
            durations(&mut out, &state, Way::In, "causeway_inbound_request_duration_milliseconds");
        }
        let mut last = "";
        for (_, name, labels, count) in totals.named() {
            if name != last {
                let _ = writeln!(out, "# TYPE {name} counter");
            }
            let _ = writeln!(out, "{name}{labels} {count}");
            last = name;
        }
        out
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The histogram of how long requests took.
fn durations(out: &mut String, state: &State, way: Way, name: &str) {
    let _ = write!(out, "# HELP {name} Until the end of the answer.\n# TYPE {name} histogram\n");
    for (key, series) in state.series.iter().filter(|(key, _)| key.way == way) {
        let (labels, mut below) = (key.labels(), 0);
        for (bound, count) in BOUNDS.iter().zip(series.buckets) {
            below += count;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", series.requests);
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", series.millis);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", series.requests);
    }
}

impl Key {
    fn labels(&self) -> String {
        let service = self.service.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{}=\"{service}\",class=\"{}\",reason=\"{}\"", self.way.label(), self.class, self.reason)
    }
}

fn class(status: u16) -> &'static str {
    match status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(format: Format) -> Arc<Metrics> {
        Metrics::new(&Life { metrics: format, ..Life::default() }).unwrap()
    }

    fn ended(service: &str, status: u16, millis: u64) -> Ended<'_> {
        Ended {
            service: Some(service),
            status,
            reason: None,
            attempts: 1,
            duration: Duration::from_millis(millis),
            overflow: false,
        }
    }

    fn lines(metrics: &Metrics, totals: Totals) -> Vec<Value> {
        let (log, lines) = Log::memory();
        metrics.write(totals, &log, SystemTime::UNIX_EPOCH + Duration::from_millis(1_234));
        lines.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_has_what_came_since_the_last_one() {
        let metrics = metrics(Format::Emf);
        assert!(lines(&metrics, Totals::default()).is_empty());
        metrics.ended(&ended("ratings", 200, 7));
        metrics.ended(&Ended { attempts: 3, ..ended("ratings", 200, 9) });
        let refused = Some("upstream_overflow");
        metrics.ended(&Ended { service: None, reason: refused, overflow: true, ..ended("", 503, 1) });
        let totals = Totals { thaws: 2, ..Totals::default() };
        let found = lines(&metrics, totals);
        assert_eq!(found.len(), 3);
        let by = |service: &str| found.iter().find(|line| line["destination"] == service).unwrap();
        let ratings = by("ratings");
        assert_eq!((&ratings["Requests"], &ratings["Retries"]), (&2.into(), &2.into()));
        assert_eq!(ratings["Duration"], json!([7, 9]));
        assert_eq!((&ratings["class"], &ratings["reason"]), (&"2xx".into(), &"-".into()));
        let refused = by(NO_SERVICE);
        assert_eq!((&refused["PoolOverflows"], &refused["reason"]), (&1.into(), &"upstream_overflow".into()));
        assert!(found.iter().any(|line| line["Thaws"] == 2));
        assert!(lines(&metrics, totals).is_empty(), "nothing new");
        let later = lines(&metrics, Totals { thaws: 5, ..totals });
        assert_eq!((later.len(), &later[0]["Thaws"]), (1, &3.into()));
    }

    #[test]
    fn each_line_is_what_cloudwatch_reads() {
        let metrics = metrics(Format::Emf);
        (0..MAX_SAMPLES as u64 * 3).for_each(|n| metrics.ended(&ended("ratings", 200, n)));
        for line in lines(&metrics, Totals { ejections: 1, ..Totals::default() }) {
            let aws = &line["_aws"];
            assert_eq!(aws["Timestamp"], 1_234);
            let directive = &aws["CloudWatchMetrics"][0];
            assert_eq!(directive["Namespace"], "Causeway");
            for key in directive["Dimensions"][0].as_array().unwrap() {
                let value = line[key.as_str().unwrap()].as_str().unwrap();
                assert!((1..=1024).contains(&value.len()), "{key}: {value}");
            }
            for metric in directive["Metrics"].as_array().unwrap() {
                let value = &line[metric["Name"].as_str().unwrap()];
                let values = value.as_array().map_or(1, Vec::len);
                assert!((1..=MAX_SAMPLES).contains(&values), "{value}");
            }
        }
    }

    #[test]
    fn calls_to_the_application_have_names_of_their_own() {
        let metrics = metrics(Format::Emf);
        metrics.ended(&ended("9080", 200, 7));
        let refused = Some("denied_no_match");
        let (port, duration) = (9_080, Duration::from_millis(9));
        metrics.answered(&Answered { port, status: 403, reason: refused, duration });
        let found = lines(&metrics, Totals::default());
        let inbound = found.iter().find(|line| line["port"] == "9080").unwrap();
        assert_eq!((&inbound["InboundRequests"], &inbound["InboundDuration"]), (&1.into(), &json!([9])));
        assert_eq!((&inbound["class"], &inbound["reason"]), (&"4xx".into(), &"denied_no_match".into()));
        assert!(inbound["Requests"].is_null() && inbound["destination"].is_null(), "{inbound}");
        let dimensions = json!(["service", "environment", "port", "class", "reason"]);
        assert_eq!(inbound["_aws"]["CloudWatchMetrics"][0]["Dimensions"][0], dimensions);
        assert!(found.iter().any(|line| line["destination"] == "9080" && line["Requests"] == 1));
    }

    #[test]
    fn series_are_bounded() {
        let metrics = metrics(Format::Prometheus(0));
        (0..MAX_SERIES * 2).for_each(|n| metrics.ended(&ended(&format!("host-{n}"), 200, 1)));
        let state = metrics.lock();
        assert_eq!(state.series.len(), MAX_SERIES + 1);
        let other = state.series.iter().find(|(key, _)| &*key.service == OTHER).unwrap();
        assert_eq!(other.1.requests, MAX_SERIES as u64);
        assert_eq!(state.series.values().map(|series| series.samples.len()).sum::<usize>(), 0);
    }

    #[test]
    fn prometheus_reads_counters_and_a_histogram() {
        let metrics = metrics(Format::Prometheus(0));
        for millis in [0, 1, 2, 60_000, 60_001] {
            metrics.ended(&ended("a\"b", 200, millis));
        }
        let text = metrics.text(Totals { identities_failed: 4, thaws: 1, ..Totals::default() });
        let labels = r#"destination="a\"b",class="2xx",reason="-""#;
        for expected in [
            format!("causeway_requests_total{{{labels}}} 5"),
            format!("causeway_retries_total{{{labels}}} 0"),
            format!("causeway_request_duration_milliseconds_bucket{{{labels},le=\"1\"}} 2"),
            format!("causeway_request_duration_milliseconds_bucket{{{labels},le=\"5\"}} 3"),
            format!("causeway_request_duration_milliseconds_bucket{{{labels},le=\"60000\"}} 4"),
            format!("causeway_request_duration_milliseconds_bucket{{{labels},le=\"+Inf\"}} 5"),
            format!("causeway_request_duration_milliseconds_sum{{{labels}}} 120004"),
            r#"causeway_renewals_total{kind="identity",outcome="failed"} 4"#.to_owned(),
            "causeway_thaw_total 1".to_owned(),
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
        assert_eq!(text.lines().filter(|line| *line == "# TYPE causeway_renewals_total counter").count(), 1);
    }

    #[test]
    fn off_is_nothing() {
        assert!(Metrics::new(&Life::default()).is_none());
        assert_eq!(metrics(Format::Prometheus(7)).port(), Some(7));
        assert_eq!(metrics(Format::Emf).port(), None);
    }
}
