//! Prometheus' text format 0.0.4: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a metric is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows, until the program starts again.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// The text of one scrape.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// One metric with its samples, each with its labels.
    pub fn metric<'a, V: Display>(
        &mut self,
        name: &str,
        kind: Kind,
        help: &str,
        samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], V)>,
    ) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        for (labels, value) in samples {
            self.sample(name, labels, value);
        }
    }

    /// A metric without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.metric(name, kind, help, [(&[][..], value)]);
    }

    /// A histogram for each set of labels.
    pub fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], &'a Histogram)>,
    ) {
        self.head(name, "histogram", help);
        for (labels, histogram) in samples {
            let mut below = 0;
            let with = |bound: &'a str| labels.iter().copied().chain([("le", bound)]).collect::<Vec<_>>();
            for (count, bound) in histogram.buckets.iter().zip(BOUNDS.map(|(_, text)| text)) {
                below += count.load(Ordering::Relaxed);
                self.sample(&format!("{name}_bucket"), &with(bound), below);
            }
            let all = below + histogram.above.load(Ordering::Relaxed);
            self.sample(&format!("{name}_bucket"), &with("+Inf"), all);
            let micros = Duration::from_micros(histogram.micros.load(Ordering::Relaxed));
            self.sample(&format!("{name}_sum"), labels, micros.as_secs_f64());
            self.sample(&format!("{name}_count"), labels, all);
        }
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if index == 0 { '{' } else { ',' });
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }
}

/// The upper bounds of a histogram's buckets: in microseconds, and in seconds as Prometheus has them.
const BOUNDS: [(u64, &str); 12] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (5_000_000, "5"),
];

/// Counts durations, from 0.1 ms to 5 s.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    above: AtomicU64,
    micros: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.iter().position(|(bound, _)| micros <= *bound);
        bucket.and_then(|index| self.buckets.get(index)).unwrap_or(&self.above).fetch_add(1, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_each_kind() {
        let mut text = Text::default();
        text.metric("a_total", Kind::Counter, "As.", [(&[("kind", "x\"\\\ny"), ("b", "c")][..], 7), (&[][..], 0)]);
        text.single("g", Kind::Gauge, "A gauge.", 1.5);
        let histogram = Histogram::default();
        for micros in [100, 101, 5_000_000, 5_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        text.histogram("d_seconds", "Durations.", [(&[("v", "w")][..], &histogram)]);
        let text = text.finish();
        let (counters, durations) = text.split_once("# HELP d_seconds").unwrap_or_default();
        let expected = "# HELP a_total As.\n# TYPE a_total counter\na_total{kind=\"x\\\"\\\\\\ny\",b=\"c\"} 7\na_total 0\n\
                        # HELP g A gauge.\n# TYPE g gauge\ng 1.5\n";
        assert_eq!(counters, expected);
        for line in [
            "# TYPE d_seconds histogram",
            "d_seconds_bucket{v=\"w\",le=\"0.0001\"} 1",
            "d_seconds_bucket{v=\"w\",le=\"0.00025\"} 2",
            "d_seconds_bucket{v=\"w\",le=\"1\"} 2",
            "d_seconds_bucket{v=\"w\",le=\"5\"} 3",
            "d_seconds_bucket{v=\"w\",le=\"+Inf\"} 4",
            "d_seconds_sum{v=\"w\"} 10.000202",
            "d_seconds_count{v=\"w\"} 4",
        ] {
            assert!(durations.lines().any(|found| found == line), "{line}\n{durations}");
        }
    }
}
