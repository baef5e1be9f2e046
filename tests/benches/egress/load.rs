//! The load, and what it cost.

use std::process::Command;
use std::time::Duration;

use crate::common::figures::{Figures, ratio, table};
use crate::peers::Peer;
use crate::service::ITS_PROCESSOR;

/// How long one measurement takes.
const SECONDS: &str = "3";

/// How long a proxy warms up before it.
const WARM_UP: &str = "1";

/// What the design asks for: beside the best of HAProxy and nginx, and beside Envoy.
const GOALS: [(&str, f64); 2] = [("the best of HAProxy and nginx", 1.0), ("Envoy", 0.4)];

pub(crate) struct Load {
    requests: f64,
    seconds: f64,
    /// Microseconds of processor time a request.
    processor: f64,
    median: f64,
    p99: f64,
    /// Megabytes.
    resident: f64,
}

pub(crate) fn run(peer: &Peer, path: &str, connections: u32) -> Result<Load, String> {
    wrk(peer, path, connections, WARM_UP)?;
    let before = processor(peer);
    let text = wrk(peer, path, connections, SECONDS)?;
    let used = processor(peer) - before;
    let line = |start: &str| text.lines().map(str::trim).find_map(|line| line.strip_prefix(start)).map(str::trim);
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in ")).ok_or_else(|| text.clone())?;
    let count: f64 = requests.0.parse().map_err(|_| text.clone())?;
    let seconds = requests.1.split(',').next().and_then(time).ok_or_else(|| text.clone())? / 1e6;
    if let Some(problem) = line("Non-2xx or 3xx responses:").or_else(|| line("Socket errors:")) {
        return Err(format!("{}: wrk says {problem}:\n{text}", peer.name));
    }
    let quantile = |name: &str| line(name).and_then(time).ok_or_else(|| text.clone());
    Ok(Load {
        requests: count,
        seconds,
        processor: used.as_secs_f64() * 1e6 / count,
        median: quantile("50%")?,
        p99: quantile("99%")?,
        resident: resident(peer),
    })
}

fn wrk(peer: &Peer, path: &str, connections: u32, seconds: &str) -> Result<String, String> {
    let program = e2e::root().join("tests/tools/peer");
    let url = format!("http://{}{path}", peer.address);
    let ran = Command::new("taskset")
        .args(["-c", ITS_PROCESSOR])
        .arg(program)
        .args(["wrk", "-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), "--latency"])
        .args(["-H", "Host: ratings.bookinfo.svc.cluster.local:9080"])
        .arg(&url)
        .output()
        .map_err(|error| format!("wrk: {error}"))?;
    if !ran.status.success() {
        return Err(format!("wrk: {}", String::from_utf8_lossy(&ran.stderr)));
    }
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// `1.23ms` in microseconds.
fn time(text: &str) -> Option<f64> {
    let text = text.trim();
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let number: f64 = text[..unit].parse().ok()?;
    Some(match &text[unit..] {
        "us" => number,
        "ms" => number * 1e3,
        "s" => number * 1e6,
        "m" => number * 6e7,
        _ => return None,
    })
}

fn processor(peer: &Peer) -> Duration {
    peer.processes
        .iter()
        .flat_map(|process| std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten())
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map(Duration::from_nanos)
        .sum()
}

/// What no other process shares with it would be less for nginx, whose processes share the program: what they share is
/// counted once (`Pss`).
fn resident(peer: &Peer) -> f64 {
    let of = |process: &u32| -> Option<f64> {
        let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse().ok()
    };
    peer.processes.iter().filter_map(of).sum::<f64>() / 1e3
}

pub(crate) fn report(peers: &[Peer], measured: &[Vec<Load>]) {
    let median = |loads: &[Load], of: &dyn Fn(&Load) -> f64| Figures::new(loads.iter().map(of).collect()).median();
    let processors: Vec<f64> = measured.iter().map(|loads| median(loads, &|load| load.processor)).collect();
    let rows: Vec<Vec<String>> = peers
        .iter()
        .zip(measured)
        .zip(&processors)
        .map(|((peer, loads), processor)| {
            vec![
                peer.name.to_owned(),
                format!("{processor:.1}"),
                format!("{:.0}", median(loads, &|load| load.requests / load.seconds)),
                format!("{:.0}", median(loads, &|load| load.median)),
                format!("{:.0}", median(loads, &|load| load.p99)),
                format!("{:.1}", median(loads, &|load| load.resident)),
            ]
        })
        .collect();
    table(&["proxy", "processor time, µs a request", "requests/s", "median, µs", "p99, µs", "memory, MB"], &rows);
    let of = |name: &str| peers.iter().position(|peer| peer.name == name).map(|index| processors[index]);
    let Some(ours) = of("extension") else { return };
    let best = [of("haproxy"), of("nginx")].into_iter().flatten().reduce(f64::min);
    println!();
    for ((name, goal), other) in GOALS.into_iter().zip([best, of("envoy")]) {
        if let Some(other) = other {
            println!("processor time of the extension beside {name}: {}", ratio(ours / other, goal));
        }
    }
}
