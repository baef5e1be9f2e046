//! The load that the extension's profile is recorded under (`make profile`): what a function does all day, over both
//! protocols, and starts. The program says itself where it records; it does when it ends in order.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use e2e::process::Process;
use e2e::world::World;
use e2e::{ports, root};

use crate::service::Service;

/// What stays of a start beside requests: each is one of many, but all that a cold start waits for.
const STARTS: usize = 20;

/// Connections, requests, streams at a time (HTTP/2 from the application; none is HTTP/1.1), path and body.
const LOADS: [(u32, u32, Option<u32>, &str, usize); 6] = [
    (32, 60_000, None, "1k", 0),
    (1, 6_000, None, "1k", 0),
    (32, 6_000, None, "64k", 0),
    (16, 6_000, None, "1k", 1_024),
    (16, 1_000, None, "1k", 64 * 1_024),
    (4, 6_000, Some(8), "1k", 0),
];

pub(crate) async fn run(world: &World, service: &Service, program: &Path) -> Result<(), String> {
    for protocol in ["HTTP", "HTTP2"] {
        let bundle = bundle(world, protocol)?;
        for _ in 0..STARTS {
            start(world, service, program, &bundle).await?.0.stop().await?;
        }
        let (process, address) = start(world, service, program, &bundle).await?;
        for (connections, requests, streams, path, body) in LOADS {
            let file = world.folder.path().join("body");
            std::fs::write(&file, vec![b'x'; body]).map_err(|error| error.to_string())?;
            let mut command = Command::new(root().join("tests/tools/peer"));
            command.args(["h2load", "-n", &requests.to_string(), "-c", &connections.to_string()]);
            match streams {
                Some(streams) => command.args(["-m", &streams.to_string()]),
                None => command.arg("--h1"),
            };
            if body > 0 {
                command.arg("-d").arg(&file);
            }
            command.arg(format!("--connect-to={address}"));
            command.arg(format!("http://ratings.bookinfo.svc.cluster.local:9080/ratings/{path}"));
            let ran = command.output().map_err(|error| format!("h2load: {error}"))?;
            let text = String::from_utf8_lossy(&ran.stdout);
            // The service answers a POST with 405: its body is on its way all the same.
            if !text.contains("0 failed, 0 errored, 0 timeout") || !text.contains(" 0 5xx") {
                return Err(format!("h2load: {text}"));
            }
            println!("{protocol}, {connections} connections, {path}, body {body}: {}", status(&text));
        }
        // Not until its end does it write what it has counted.
        process.stop().await?;
    }
    Ok(())
}

/// The line of the statuses.
fn status(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("status codes:")).unwrap_or_default()
}

async fn start(
    world: &World,
    service: &Service,
    program: &Path,
    bundle: &Path,
) -> Result<(Process, std::net::SocketAddr), String> {
    let port = ports::free().map_err(|error| error.to_string())?;
    let mut command = tokio::process::Command::new(program);
    command.env_clear().envs(world.extension_environment("bookinfo-reviews", port, service.address)?);
    command.env("CAUSEWAY_BUNDLE", bundle).stdout(std::process::Stdio::null());
    let mut process = Process::start_silent("extension", &mut command)?;
    let address = ports::loopback(port);
    process.listening(address).await?;
    Ok((process, address))
}

/// The bundle of the examples with a service that speaks `protocol`.
fn bundle(world: &World, protocol: &str) -> Result<std::path::PathBuf, String> {
    let mut resources = causeway::dev::stack::resources().map_err(|errors| errors.join("; "))?;
    resources
        .service_entries
        .iter_mut()
        .flat_map(|entry| &mut entry.ports)
        .for_each(|port| port.protocol = protocol.to_owned());
    let bytes = causeway::bundle::build(&resources, BTreeMap::new()).map_err(|errors| errors.join("; "))?;
    let path = world.folder.path().join(format!("{protocol}.bundle"));
    std::fs::write(&path, bytes).map_err(|error| error.to_string())?;
    Ok(path)
}
