//! Real clients under the wrapper script, as a function's code would have them: none of them knows of the extension.
//!
//! A client that this machine does not have is left out, with a word about it; `CAUSEWAY_REQUIRE_CLIENTS=1` makes that
//! a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::sync::Arc;

use common::*;
use tokio::process::Command;

const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/layer/causeway-wrapper");

const URLLIB: &str = "
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
";

/// A tunnel, as libraries make one for https and, some, for everything.
const TUNNEL: &str = "
import http.client, os, sys, urllib.parse
to, proxy = urllib.parse.urlsplit(sys.argv[1]), urllib.parse.urlsplit(os.environ['http_proxy'])
connection = http.client.HTTPConnection(proxy.hostname, proxy.port, timeout=20)
connection.set_tunnel(to.hostname, to.port)
connection.request('GET', to.path)
print(connection.getresponse().read().decode())
";

const NODE_HTTP: &str = "
require('http').get(process.argv[1], answer => answer.pipe(process.stdout));
";

const NODE_FETCH: &str = "
fetch(process.argv[1]).then(answer => answer.text()).then(text => console.log(text));
";

struct Client {
    name: &'static str,
    command: &'static [&'static str],
    /// Succeeds where the client is there and new enough.
    there: &'static [&'static str],
    /// Whether it surely makes a tunnel.
    tunnels: bool,
}

const CLIENTS: [Client; 8] = [
    Client { name: "curl", command: &["curl", "-sS"], there: &["curl", "--version"], tunnels: false },
    Client { name: "curl, tunnel", command: &["curl", "-sSp"], there: &["curl", "--version"], tunnels: true },
    // HTTP/2 by prior knowledge, in a tunnel: the way of gRPC's clients.
    Client {
        name: "curl, HTTP/2 in a tunnel",
        command: &["curl", "-sSp", "--http2-prior-knowledge"],
        there: &["sh", "-c", "curl --version | grep -q HTTP2"],
        tunnels: true,
    },
    Client { name: "wget", command: &["wget", "-qO-"], there: &["wget", "--version"], tunnels: false },
    Client {
        name: "Python, urllib",
        command: &["python3", "-c", URLLIB],
        there: &["python3", "--version"],
        tunnels: false,
    },
    Client {
        name: "Python, tunnel",
        command: &["python3", "-c", TUNNEL],
        there: &["python3", "--version"],
        tunnels: true,
    },
    Client {
        name: "Node.js, http",
        command: &["node", "-e", NODE_HTTP],
        there: &["node", "--use-env-proxy", "-e", "0"],
        tunnels: false,
    },
    Client {
        name: "Node.js, fetch",
        command: &["node", "-e", NODE_FETCH],
        there: &["node", "--use-env-proxy", "-e", "0"],
        tunnels: false,
    },
];

async fn is_there(client: &Client) -> bool {
    let [program, arguments @ ..] = client.there else { return false };
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

async fn run(client: &Client, proxy: SocketAddr, url: &str) -> Output {
    let mut command = Command::new(WRAPPER);
    command.args(client.command).arg(url).env("CAUSEWAY_PROXY_PORT", proxy.port().to_string());
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    for name in ["no_proxy", "NO_PROXY", "NODE_USE_ENV_PROXY", "CAUSEWAY_NEXT_WRAPPER"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
}

#[tokio::test]
async fn clients_reach_the_mesh_without_a_change() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::start(&mesh, server.address).await;
    let strict = std::env::var_os("CAUSEWAY_REQUIRE_CLIENTS").is_some();
    let (mut ran, mut tunnels) = (0, 0);
    for client in &CLIENTS {
        if !is_there(client).await {
            assert!(!strict, "{} is not there, or too old", client.name);
            eprintln!("left out: {} is not there, or too old", client.name);
            continue;
        }
        let before = server.count();
        let output = run(client, stage.address, &format!("{URL}/ratings/1")).await;
        assert!(output.status.success(), "{}: {output:?}", client.name);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "ratings", "{}: {output:?}", client.name);
        let seen = &server.seen()[before..];
        assert_eq!(seen.len(), 1, "{}: {seen:?}", client.name);
        assert_eq!(seen[0].peer.as_deref(), Some(REVIEWS), "{}", client.name);
        assert_eq!(seen[0].headers["authorization"], "Bearer token-1", "{}", client.name);
        assert_eq!(seen[0].headers["host"], URL[7..], "{}", client.name);
        if client.tunnels {
            tunnels += 1;
            let lines = || stage.lines.all().iter().filter(|line| line.contains(r#""method":"CONNECT""#)).count();
            until(client.name, || lines() >= tunnels).await;
        }
        ran += 1;
    }
    assert!(ran > 0, "found no client");
}
