//! What a check of the adapter costs: asked by a load generator, and by real Envoy beside Envoy that asks nobody.
//!
//! `make bench` builds what it needs and runs it. It fails on no number; what it cannot run it skips, and says so.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::indexing_slicing, clippy::disallowed_types)]

#[allow(dead_code, reason = "each bench uses its part")]
#[path = "common/mod.rs"]
mod common;
#[path = "../fixtures/issuer.rs"]
mod issuer;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use causeway::dev::http::send;
use common::figures::{self, Figures, table};
use e2e::process::Process;
use e2e::{ports, program, tool};
use issuer::{Issuer, reader, with};
use platform::clock::{Clock, SystemClock};
use serde_json::json;
use tokio::process::Command;

/// Rounds of each table; the two Envoys are measured in turns.
const ROUNDS: usize = 5;
/// Checks of one measurement, and before it.
const CHECKS: u32 = 60_000;
const WARM_UP: u32 = 5_000;
/// The processor of what is measured, and that of the load and of everything else.
const MEASURED: &str = "0";
const LOAD: &str = "1";
const PATH: &str = "/reviews/0";
const HOST: &str = "reviews.bookinfo.svc.cluster.local";

fn main() {
    if common::is_asked_for_tests() {
        return;
    }
    figures::machine();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    if let Err(why) = runtime.block_on(all()) {
        println!("\nskipped: adapter: {why}");
    }
}

async fn all() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let issuer = Issuer::new();
    let bundle = folder.path().join("mesh.bundle");
    std::fs::write(&bundle, common::policies::bundle(&issuer.jwks())).map_err(text)?;
    let now = SystemClock.unix();
    let token = issuer.token(&with(with(reader(), "nbf", json!(now - 5)), "exp", json!(now + 3_600)));
    let rounds = if std::env::args().any(|argument| argument == "quick") { 1 } else { ROUNDS };
    for name in ["adapter", "envoy"] {
        let path = if name == "envoy" { tool(name) } else { program(name) };
        if !path.exists() {
            return Err(format!("{} is not there; `make bench` builds or installs it", path.display()));
        }
    }
    checks(folder.path(), &bundle, &token, rounds).await?;
    beside_envoy(folder.path(), &bundle, &token, rounds).await
}

/// Checks over gRPC, as many as one processor can.
async fn checks(folder: &Path, bundle: &Path, token: &str, rounds: usize) -> Result<(), String> {
    let adapter = Adapter::start(bundle, MEASURED).await?;
    let body = folder.join("check");
    std::fs::write(&body, grpc(&check_request(token))).map_err(text)?;
    let load = |count: u32| {
        let mut command = peer("h2load");
        command.args(["-t1", "-c4", "-m32", &format!("-n{count}")]);
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(&body);
        command.arg(format!("http://{}/envoy.service.auth.v3.Authorization/Check", adapter.address));
        command
    };
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        output(load(WARM_UP)).await?;
        let (before, allowed) = (processor(&adapter.process), adapter.allowed().await?);
        let started = Instant::now();
        output(load(CHECKS)).await?;
        let seconds = started.elapsed().as_secs_f64();
        let found = adapter.allowed().await? - allowed;
        if found != u64::from(CHECKS) {
            return Err(format!("{found} of {CHECKS} checks were allowed"));
        }
        rates.push(f64::from(CHECKS) / seconds);
        costs.push((processor(&adapter.process) - before).as_secs_f64() * 1e6 / f64::from(CHECKS));
    }
    println!(
        "\nChecks over gRPC (h2load, 4 connections), one processor, token cached, 1,000 policies; {rounds} rounds"
    );
    // What else the machine does takes the processor away; its time for a check is what stays.
    let whole = costs.iter().map(|cost| 1e6 / cost).collect();
    table(
        &["the adapter", "min", "median", "max"],
        &[
            figures::spread("checks/s", &Figures::new(rates)),
            figures::spread("checks/s of a whole processor, by its time", &Figures::new(whole)),
            figures::spread("processor time, µs a check", &Figures::new(costs)),
        ],
    );
    Ok(())
}

/// The same request to an Envoy that answers it by itself, and to one that asks the adapter first.
async fn beside_envoy(folder: &Path, bundle: &Path, token: &str, rounds: usize) -> Result<(), String> {
    let adapter = Adapter::start(bundle, LOAD).await?;
    let with = Envoy::start(folder, "with", Some(adapter.address)).await?;
    let without = Envoy::start(folder, "without", None).await?;
    let mut measured: [Vec<[f64; 3]>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (envoy, measured) in [&without, &with].into_iter().zip(&mut measured) {
            envoy.load(token, "1").await?;
            let before = [&envoy.process, &adapter.process].map(processor);
            let (count, seconds) = envoy.load(token, "3").await?;
            let after = [&envoy.process, &adapter.process].map(processor);
            let cost = |i: usize| (after[i] - before[i]).as_secs_f64() * 1e6 / count;
            measured.push([count / seconds, cost(0), cost(1)]);
        }
    }
    println!(
        "\nThe same request to Envoy on one processor (wrk, 32 connections), the adapter on the other with the load"
    );
    let median = |rows: &[[f64; 3]], at: usize| Figures::new(rows.iter().map(|row| row[at]).collect()).median();
    let row = |name: &str, rows: &[[f64; 3]]| {
        let mut row = vec![name.to_owned(), format!("{:.0}", median(rows, 0))];
        row.extend([1, 2].map(|at| format!("{:.1}", median(rows, at))));
        row
    };
    table(
        &["medians", "requests/s", "Envoy, µs a request", "adapter, µs a request"],
        &[row("Envoy alone", &measured[0]), row("Envoy asks the adapter", &measured[1])],
    );
    Ok(())
}

struct Adapter {
    address: SocketAddr,
    metrics: SocketAddr,
    process: Process,
}

impl Adapter {
    async fn start(bundle: &Path, its_processor: &str) -> Result<Self, String> {
        let [address, metrics] = [ports::free().map_err(text)?, ports::free().map_err(text)?].map(ports::loopback);
        let mut command = Command::new("taskset");
        command.args(["-c", its_processor]).arg(program("adapter")).env_clear();
        command.env("CAUSEWAY_ADAPTER_ADDRESS", address.to_string()).env("CAUSEWAY_BUNDLE", bundle);
        command.env("CAUSEWAY_METRICS", "prometheus").env("CAUSEWAY_METRICS_PORT", metrics.port().to_string());
        command.env("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfo").env("CAUSEWAY_WORKLOAD_LABELS", "app=reviews");
        // The decision lines go where nobody reads: a reader would take the processor's time.
        command.stdout(std::process::Stdio::null());
        let mut process = Process::start_silent("adapter", &mut command)?;
        process.listening(address).await?;
        process.listening(metrics).await?;
        Ok(Self { address, metrics, process })
    }

    /// Checks that it has allowed by a policy so far.
    async fn allowed(&self) -> Result<u64, String> {
        let text = send(self.metrics, "GET", "/metrics", &[("host", "metrics")], "").await?.body;
        let start = "causeway_decisions_total{verdict=\"allow\",reason=\"allowed_by_policy\"} ";
        let number = text.lines().find_map(|line| line.strip_prefix(start)?.parse().ok());
        number.ok_or_else(|| format!("no {start}in the metrics"))
    }
}

struct Envoy {
    address: SocketAddr,
    process: Process,
}

impl Envoy {
    async fn start(folder: &Path, name: &str, adapter: Option<SocketAddr>) -> Result<Self, String> {
        let address = ports::loopback(ports::free().map_err(text)?);
        let path = folder.join(format!("{name}.json"));
        std::fs::write(&path, configuration(address, adapter)).map_err(text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", MEASURED]).arg(tool("envoy")).arg("-c").arg(path);
        command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        let mut process = Process::start_silent(name, &mut command)?;
        process.listening(address).await?;
        Ok(Self { address, process })
    }

    /// Requests, and the seconds that they took.
    async fn load(&self, token: &str, seconds: &str) -> Result<(f64, f64), String> {
        let mut command = peer("wrk");
        command.args(["-t1", "-c32", &format!("-d{seconds}s"), "-H", &format!("Host: {HOST}")]);
        command.args(["-H", &format!("Authorization: Bearer {token}")]).arg(format!("http://{}{PATH}", self.address));
        let printed = output(command).await?;
        if printed.contains("Non-2xx") || printed.contains("Socket errors") {
            return Err(format!("wrk says:\n{printed}"));
        }
        let line = printed.lines().find_map(|line| line.trim().split_once(" requests in ")).ok_or(&printed)?;
        let count: f64 = line.0.parse().map_err(text)?;
        let seconds = line.1.split("s,").next().and_then(|seconds| seconds.parse().ok()).ok_or(&printed)?;
        Ok((count, seconds))
    }
}

/// An Envoy that answers everything by itself, as JSON; with the adapter as Istio's CUSTOM policies configure it.
fn configuration(address: SocketAddr, adapter: Option<SocketAddr>) -> String {
    let socket = |address: SocketAddr| {
        let (address, port_value) = (address.ip().to_string(), address.port());
        json!({"socket_address": {"address": address, "port_value": port_value}})
    };
    let kind = |name: &str| format!("type.googleapis.com/envoy.extensions.{name}");
    let router =
        json!({"name": "envoy.filters.http.router", "typed_config": {"@type": kind("filters.http.router.v3.Router")}});
    let asks = adapter.map(|_| {
        json!({"name": "envoy.filters.http.ext_authz", "typed_config": {
            "@type": kind("filters.http.ext_authz.v3.ExtAuthz"), "transport_api_version": "V3",
            "failure_mode_allow": false, "include_peer_certificate": true,
            "grpc_service": {"envoy_grpc": {"cluster_name": "adapter", "authority": "adapter"}, "timeout": "1s"},
        }})
    });
    let filters: Vec<_> = asks.into_iter().chain([router]).collect();
    let clusters: Vec<_> = adapter
        .map(|adapter| {
            let options = kind("upstreams.http.v3.HttpProtocolOptions");
            json!({"name": "adapter", "type": "STATIC", "connect_timeout": "1s",
                "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": options, "explicit_http_config": {"http2_protocol_options": {}}}},
                "load_assignment": {"cluster_name": "adapter", "endpoints": [{"lb_endpoints": [
                    {"endpoint": {"address": socket(adapter)}}]}]}})
        })
        .into_iter()
        .collect();
    let routes = json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}]}]});
    let manager = json!({"@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in", "route_config": routes, "http_filters": filters});
    let chain =
        json!({"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]});
    let listener = json!({"name": "in", "address": socket(address), "filter_chains": [chain]});
    json!({"static_resources": {"listeners": [listener], "clusters": clusters}}).to_string()
}

/// What Envoy asks about the request, in protobuf (`attribute_context.proto`): every field here has a length in front.
fn check_request(token: &str) -> Vec<u8> {
    let header = |name: &str, value: &str| field(3, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat());
    let http = [
        field(1, b"17"),
        field(2, b"GET"),
        header("authorization", &format!("Bearer {token}")),
        header(":authority", HOST),
        header(":path", PATH),
        header("user-agent", "h2load"),
        header("x-request-id", "6f8a4d0e-2f5b-4c1c-9f39-0d7c6a3f3b1e"),
        field(4, PATH.as_bytes()),
        field(5, HOST.as_bytes()),
        field(6, b"http"),
        field(10, b"HTTP/1.1"),
    ];
    // CheckRequest.attributes.request.http
    field(1, &field(4, &field(2, &http.concat())))
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

/// A message of gRPC: not compressed, its length, and itself.
fn grpc(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// A load generator on its processor.
fn peer(name: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", LOAD]).arg(e2e::root().join("tests/tools/peer")).arg(name);
    command
}

async fn output(mut command: Command) -> Result<String, String> {
    let ran = command.output().await.map_err(text)?;
    let printed = String::from_utf8_lossy(&ran.stdout).into_owned();
    if ran.status.success() { Ok(printed) } else { Err(format!("{printed}{}", String::from_utf8_lossy(&ran.stderr))) }
}

/// Processor time of a process so far.
fn processor(process: &Process) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.id().unwrap_or_default())).into_iter().flatten();
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .map(Duration::from_nanos)
        .sum()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
