//! Medians, and tables in Markdown.

use std::time::{Duration, Instant};

/// Measured values, in ascending order.
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub(crate) fn min(&self) -> f64 {
        self.quantile(0.0)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// The smallest value that this share of the values does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((share * last as f64).ceil() as usize).min(last)]
    }
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub(crate) fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Microseconds of each of so many things that `batch` does.
pub(crate) fn each(count: usize, batch: impl Fn()) -> f64 {
    let started = Instant::now();
    batch();
    microseconds(started.elapsed()) / count as f64
}

/// A row of minimum, median and maximum.
pub(crate) fn spread(name: &str, figures: &Figures) -> Vec<String> {
    let mut row = vec![name.to_owned()];
    row.extend([figures.min(), figures.median(), figures.max()].map(|value| format!("{value:.2}")));
    row
}

/// `1.23 ×`, and whether that meets a goal.
pub(crate) fn ratio(value: f64, goal: f64) -> String {
    let verdict = if value <= goal { "met" } else { "missed" };
    format!("{value:.2} × (goal ≤ {goal:.2}: {verdict})")
}

pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let line = |cells: &[String]| println!("| {} |", cells.join(" | "));
    println!();
    line(&header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    println!("|---|{}", "---:|".repeat(header.len() - 1));
    rows.iter().for_each(|row| line(row));
}

/// What the numbers were measured on.
pub(crate) fn machine() {
    let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (processors, load) = (text("/proc/cpuinfo"), text("/proc/loadavg"));
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("\t: unknown processor");
    let count = processors.lines().filter(|line| line.starts_with("processor")).count();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    println!(
        "\nmachine: {count} processors,{}; load before the start {load:.2}",
        model.trim_start_matches(['\t', ':'])
    );
    if load > 0.5 {
        println!("other work is running: compare the ratios, and measure again on a quiet machine");
    }
}
