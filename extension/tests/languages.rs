//! Real clients under the wrapper script, as a function's code would have them: none of them knows of the extension.
//!
//! Each calls a service of the mesh by `http://` and, with `CAUSEWAY_HTTPS=intercept`, by `https://`, sends a body,
//! follows a redirect, and leaves the runtime's API alone. A client that this machine does not have is left out, with a
//! word about it; where `CAUSEWAY_REQUIRE_TIERS=1` is set, Python with its packages, Node.js and curl must be there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod common;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::*;
use extension::config::Https;
use extension::{BundleSource, Egress};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use identity::{tls, verify};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_rustls::TlsAcceptor;

const LAYER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/layer");
const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin");

/// What is left to clients of this process' own environment.
const KEPT: [&str; 4] = ["PATH", "HOME", "TMPDIR", "LANG"];

/// A program that is given a method and an address, sends `hello` with a POST, follows redirects, and prints the body of
/// the answer.
struct Client {
    name: &'static str,
    command: Vec<String>,
    /// What stands before the method; curl and wget have options in its place.
    by_option: Option<fn(&str) -> Vec<&'static str>>,
    /// Whether it makes a tunnel for plain HTTP.
    tunnels: bool,
    /// Whether it finds out by itself what to trust.
    https: bool,
    /// Which requests it can make.
    methods: &'static [&'static str],
    /// Neither a redirect nor the runtime's API, which speaks HTTP/1.1.
    calls_only: bool,
}

impl Client {
    fn new(name: &'static str, command: &[&str]) -> Client {
        let command = command.iter().map(ToString::to_string).collect();
        let methods = &["GET", "POST"];
        Client { name, command, by_option: None, tunnels: false, https: true, methods, calls_only: false }
    }

    async fn run(&self, place: &Place, method: &str, url: &str) -> Output {
        let mut command = Command::new(format!("{LAYER}/causeway-wrapper"));
        command.args(&self.command);
        match self.by_option {
            Some(options) => command.args(options(method)),
            None => command.arg(method),
        };
        command.arg(url);
        place.furnish(&mut command);
        command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap()
    }
}

/// Where a client runs.
struct Place {
    proxy: SocketAddr,
    runtime_api: SocketAddr,
    /// With `CAUSEWAY_HTTPS=intercept`.
    ca_file: Option<PathBuf>,
}

impl Place {
    fn furnish(&self, command: &mut Command) {
        command.env_clear();
        command.envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.env("CAUSEWAY_PROXY_PORT", self.proxy.port().to_string());
        command.env("AWS_LAMBDA_RUNTIME_API", self.runtime_api.to_string());
        if let Some(file) = &self.ca_file {
            command.env("CAUSEWAY_HTTPS", "intercept").env("CAUSEWAY_CA_FILE", file);
        }
    }
}

fn python() -> String {
    let pinned = format!("{TOOLS}/python3");
    if Path::new(&pinned).exists() { pinned } else { "python3".to_owned() }
}

fn script(name: &str) -> String {
    format!("{CLIENTS}/{name}")
}

/// Whether a command succeeds.
async fn works(command: &[&str]) -> bool {
    let [program, arguments @ ..] = command else { return false };
    let status = Command::new(program).args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status().await;
    status.is_ok_and(|status| status.success())
}

/// The same; says so if it does not, and fails where it must.
async fn is_there(what: &str, command: &[&str], required: bool) -> bool {
    let there = works(command).await;
    let strict = std::env::var_os("CAUSEWAY_REQUIRE_TIERS").is_some_and(|value| value == "1");
    assert!(there || !(required && strict), "{what} is not there");
    if !there {
        eprintln!("left out: {what} is not there");
    }
    there
}

/// An extension that ends TLS, with a mesh behind it and a runtime API that nobody may reach through it.
struct Scene {
    mesh: Arc<Mesh>,
    server: MeshServer,
    runtime_api: PlainServer,
    folder: TempDir,
}

impl Scene {
    async fn start() -> Scene {
        let mesh = Arc::new(Mesh::new());
        let server = MeshServer::start(&mesh, RATINGS).await;
        // No client excepts this address by itself as it may 127.0.0.1.
        let runtime_api = PlainServer::at("127.0.0.3:0").await;
        Scene { mesh, server, runtime_api, folder: tempfile::tempdir().unwrap() }
    }

    async fn stage(&self, intercept: bool) -> (Stage, Place) {
        let ca_file = intercept.then(|| self.folder.path().join("ca.pem"));
        let https = |egress: &mut Egress| {
            if let Some(ca_file) = ca_file.clone() {
                egress.https = Https::Intercept { ca_file };
            }
        };
        let stage = Stage::with(&self.mesh, self.server.address, Mood::Good, https).await;
        let place = Place { proxy: stage.address, runtime_api: self.runtime_api.address, ca_file: ca_file.clone() };
        (stage, place)
    }

    /// Everything that each client must be able to do.
    async fn check(&self, client: &Client) {
        let Client { name, .. } = client;
        let (stage, place) = self.stage(false).await;
        let first = client.methods[0];
        self.call(client, &place, first, URL).await;
        let connects = || stage.lines.all().iter().filter(|line| line.contains(r#""method":"CONNECT""#)).count();
        if client.tunnels {
            until(name, || connects() > 0).await;
        }

        let (stage, place) = self.stage(true).await;
        let secure = URL.replacen("http:", "https:", 1);
        for origin in [URL, &secure] {
            if origin == secure && !client.https {
                continue;
            }
            for method in client.methods {
                self.call(client, &place, method, origin).await;
            }
            if client.methods.contains(&"GET") && !client.calls_only {
                let before = self.server.count();
                let output = client.run(&place, "GET", &format!("{origin}/moved")).await;
                assert_eq!(printed(&output), "ratings", "{name}: {output:?}");
                let paths: Vec<String> = self.server.seen()[before..].iter().map(|seen| seen.uri.clone()).collect();
                assert_eq!(paths, ["/moved", "/ratings/1"], "{name}, {origin}");
            }
        }
        assert!(stage.lines.all().iter().all(|line| !line.contains("https_unsupported")), "{name}");

        if client.calls_only {
            return;
        }
        // The runtime's API is called as if there were no proxy.
        let before = self.runtime_api.seen().len();
        let url = format!("http://{}/2018-06-01/runtime/invocation/next", self.runtime_api.address);
        let output = client.run(&place, first, &url).await;
        assert!(output.status.success(), "{name}: {output:?}");
        let seen = &self.runtime_api.seen()[before..];
        assert!(seen.len() == 1 && seen[0].uri.starts_with("/"), "{name}: {seen:?}");
        let address = self.runtime_api.address.to_string();
        assert!(stage.lines.all().iter().all(|line| !line.contains(&address)), "{name}: the runtime's API was proxied");
    }

    async fn call(&self, client: &Client, place: &Place, method: &str, origin: &str) {
        let name = client.name;
        let before = self.server.count();
        let (path, expected) = if method == "POST" { ("/echo", "hello") } else { ("/ratings/1", "ratings") };
        let output = client.run(place, method, &format!("{origin}{path}")).await;
        assert!(output.status.success(), "{name}, {method} {origin}: {output:?}");
        assert_eq!(printed(&output), expected, "{name}, {method} {origin}: {output:?}");
        let seen = &self.server.seen()[before..];
        assert_eq!(seen.len(), 1, "{name}: {seen:?}");
        assert!(seen[0].method == method && seen[0].uri.starts_with(path), "{name}: {seen:?}");
        assert_eq!(seen[0].peer.as_deref(), Some(REVIEWS), "{name}");
        assert_eq!(seen[0].headers["authorization"], "Bearer token-1", "{name}");
        assert_eq!(seen[0].headers["host"], URL[7..], "{name}");
    }
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn command_lines() {
    let scene = Scene::start().await;
    let curl = |method: &str| if method == "POST" { vec!["-sSLd", "hello"] } else { vec!["-sSL"] };
    if is_there("curl", &["curl", "--version"], true).await {
        scene.check(&Client { by_option: Some(curl), ..Client::new("curl", &["curl"]) }).await;
        let client = Client::new("curl, tunnel", &["curl", "-p"]);
        scene.check(&Client { by_option: Some(curl), tunnels: true, ..client }).await;
    }
    // HTTP/2 by prior knowledge, in a tunnel: the way of gRPC's clients. (curl 7.88 uses no such connection twice.)
    if is_there("curl with HTTP/2", &["sh", "-c", "curl --version | grep -q HTTP2"], false).await {
        let client = Client::new("curl, HTTP/2 in a tunnel", &["curl", "-p", "--http2-prior-knowledge"]);
        scene.check(&Client { by_option: Some(curl), tunnels: true, calls_only: true, ..client }).await;
    }
    if is_there("wget", &["wget", "--version"], false).await {
        let options = |method: &str| if method == "POST" { vec!["-qO-", "--post-data=hello"] } else { vec!["-qO-"] };
        // Built with GnuTLS it reads the system's own list alone.
        scene.check(&Client { by_option: Some(options), https: false, ..Client::new("wget", &["wget"]) }).await;
    }
}

#[tokio::test]
async fn python_and_its_libraries() {
    let scene = Scene::start().await;
    let python = python();
    if !is_there("Python", &[&python, "--version"], true).await {
        return;
    }
    let client = |name, way| Client::new(name, &[&python, &script("client.py"), way]);
    scene.check(&client("Python, urllib", "urllib")).await;
    // Tunnels for everything, as some libraries make them.
    scene.check(&Client { tunnels: true, https: false, ..client("Python, tunnel", "tunnel") }).await;
    if is_there("Python's requests", &[&python, "-c", "import requests"], true).await {
        scene.check(&client("Python, requests", "requests")).await;
    }
    if is_there("Python's boto3", &[&python, "-c", "import boto3"], true).await {
        scene.check(&Client { methods: &["POST"], ..client("Python, boto3", "boto3") }).await;
    }
}

#[tokio::test]
async fn node_in_all_its_ways() {
    let scene = Scene::start().await;
    if !is_there("Node.js", &["node", "--version"], true).await {
        return;
    }
    let client = |name, file: &str, way| Client::new(name, &["node", &script(file), way]);
    scene.check(&client("Node.js, http and https", "client.cjs", "request")).await;
    scene.check(&client("Node.js, with an agent", "client.cjs", "agent")).await;
    scene.check(&client("Node.js, ES module", "client.mjs", "request")).await;
    if is_there("Node.js' fetch", &["node", "-e", "fetch"], true).await {
        scene.check(&Client { tunnels: true, ..client("Node.js, fetch", "client.cjs", "fetch") }).await;
    }
}

#[tokio::test]
async fn node_stays_as_it_is_where_the_function_says_so() {
    let scene = Scene::start().await;
    if !is_there("Node.js", &["node", "--version"], true).await {
        return;
    }
    let (stage, place) = scene.stage(true).await;
    let mut command = Command::new(format!("{LAYER}/causeway-wrapper"));
    command.args(["node", &script("client.cjs"), "request", "GET", &format!("http://{}/", scene.server.address)]);
    place.furnish(&mut command);
    command.env("NODE_USE_ENV_PROXY", "0").env("no_proxy", "");
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    // A server of TLS does not understand it, and the proxy has not seen it.
    assert!(!output.status.success(), "{output:?}");
    assert!(stage.lines.all().iter().all(|line| !line.contains(r#""event":"egress""#)));
}

/// Says of each address where a request to it goes. What the script of the layer finds is the end of the way here.
const WHERE: &str = "
const http = require('http');
http.request = (options) => {
  console.log(options.host === '127.0.0.1' ? options.path : 'direct');
  return { end() {} };
};
const [script, ...addresses] = process.argv.slice(1);
require(script);
for (const address of addresses) {
  const { hostname: host, port, pathname: path } = new URL(address);
  http.get({ host, port, path });
}
";

#[tokio::test]
async fn node_excepts_what_no_proxy_says() {
    if !is_there("Node.js", &["node", "--version"], true).await {
        return;
    }
    for (no_proxy, address, proxied) in [
        ("", "http://a.example/x", true),
        ("a.example", "http://a.example/x", false),
        ("A.example", "http://a.EXAMPLE/x", false),
        ("a.example", "http://b.a.example/x", false),
        ("a.example", "http://ba.example/x", true),
        (".a.example", "http://b.a.example/x", false),
        ("*.a.example", "http://b.a.example/x", false),
        ("a.example:81", "http://a.example:81/x", false),
        ("a.example:81", "http://a.example/x", true),
        (" b, a.example ", "http://a.example/x", false),
        ("10.0.0.0/8", "http://10.1.2.3/x", false),
        ("10.0.0.0/8", "http://11.1.2.3/x", true),
        ("10.1.2.128/25", "http://10.1.2.3/x", true),
        ("0.0.1", "http://10.0.0.1/x", true),
        ("::1", "http://[::1]:80/x", false),
        ("[::1]", "http://[::1]/x", false),
        ("[::1]:81", "http://[::1]/x", true),
        ("[::1]:81", "http://[::1]:81/x", false),
        ("::1", "http://[::2]/x", true),
        ("*", "http://a.example/x", false),
        ("[*]", "http://a.example/x", true),
        ("[a.example]", "http://a.example/x", true),
        ("10.0.0.0/", "http://11.1.2.3/x", true),
        ("10.0.0.0/x", "http://10.1.2.3/x", true),
    ] {
        let mut command = Command::new("node");
        command.args(["-e", WHERE, &format!("{LAYER}/causeway-preload.cjs"), address]);
        command.env("NODE_USE_ENV_PROXY", "1").env("http_proxy", "http://127.0.0.1:1").env("no_proxy", no_proxy);
        for name in ["HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "NO_PROXY", "NODE_OPTIONS"] {
            command.env_remove(name);
        }
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        let expected = if proxied { address.to_ascii_lowercase() } else { "direct".to_owned() };
        assert_eq!(printed(&output).replace(":80/", "/"), expected, "{no_proxy}, {address}: {output:?}");
    }
}

#[tokio::test]
async fn java_by_its_options() {
    if !is_there("Java", &["javac", "-version"], false).await {
        return;
    }
    let scene = Scene::start().await;
    let classes = scene.folder.path().join("classes").display().to_string();
    assert!(works(&["javac", "--release", "11", "-d", &classes, &script("Client.java")]).await, "javac failed");
    let client = |name, way| Client::new(name, &["java", "-cp", &classes, "Client", way]);
    scene.check(&client("Java, HttpURLConnection", "connection")).await;
    scene.check(&client("Java, java.net.http", "client")).await;
}

#[tokio::test]
async fn go_without_a_library() {
    let go = ["go", "/usr/local/go/bin/go"]
        .into_iter()
        .find(|go| std::process::Command::new(go).arg("version").output().is_ok());
    let Some(go) = go else {
        eprintln!("left out: Go is not there");
        return;
    };
    let scene = Scene::start().await;
    let program = scene.folder.path().join("client").display().to_string();
    let mut build = Command::new(go);
    build.args(["build", "-o", &program, &script("client.go")]);
    build.env("GO111MODULE", "off").env("GOPROXY", "off").env("CGO_ENABLED", "0").env_remove("GOFLAGS");
    let built = build.output().await.unwrap();
    assert!(built.status.success(), "{built:?}");
    scene.check(&Client::new("Go, net/http", &[&program])).await;
}

const GRPC: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: echo, namespace: bookinfo }
spec:
  hosts: [echo.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 9090, name: grpc, protocol: GRPC }]
  endpoints: [{ address: eastwest.mesh.example, ports: { grpc: 15443 } }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
";

/// What a service of gRPC saw: path, who called, and its token.
type Calls = Arc<Mutex<Vec<(String, Option<String>, HeaderMap)>>>;

/// A service of gRPC in the mesh, which answers with what it is given.
async fn grpc_service(mesh: &Mesh) -> (SocketAddr, Calls, Task) {
    let config = tls::server_config(&mesh.svid(RATINGS), &mesh.bundle(), &["istio-h2"]).unwrap();
    let (acceptor, listener) = (TlsAcceptor::from(config), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let (address, calls) = (listener.local_addr().unwrap(), Calls::default());
    let noted = Arc::clone(&calls);
    let task = Task::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, calls) = (acceptor.clone(), Arc::clone(&noted));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let peer = verify::peer_id(stream.get_ref().1.peer_certificates()).map(|id| id.to_string());
                let service = service_fn(move |request: Request<Incoming>| {
                    let seen = (request.uri().path().to_owned(), peer.clone(), request.headers().clone());
                    calls.lock().unwrap().push(seen);
                    async move {
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        let done = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from(0))]);
                        let body = Full::<Bytes>::new(body).with_trailers(async { Some(Ok(done)) });
                        Ok::<_, Infallible>(
                            Response::builder().header("content-type", "application/grpc").body(body).unwrap(),
                        )
                    }
                });
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, calls, task)
}

#[tokio::test]
async fn grpc_in_a_tunnel_and_in_tls() {
    let python = python();
    if !is_there("Python's grpcio", &[&python, "-c", "import grpc"], true).await {
        return;
    }
    let mesh = Arc::new(Mesh::new());
    let (address, calls, _task) = grpc_service(&mesh).await;
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    for way in ["plain", "tls"] {
        let stage = Stage::with(&mesh, address, Mood::Good, |egress| {
            egress.bundle = BundleSource::Bytes(bundle_of(GRPC));
            egress.https = Https::Intercept { ca_file: ca_file.clone() };
        })
        .await;
        let mut command = Command::new(format!("{LAYER}/causeway-wrapper"));
        command.args([&python, &script("grpc_client.py"), way, "echo.bookinfo.svc.cluster.local:9090"]);
        let ca_file = (way == "tls").then(|| ca_file.clone());
        Place { proxy: stage.address, runtime_api: address, ca_file }.furnish(&mut command);
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        assert_eq!(printed(&output), "hello", "{way}: {output:?}");
        let (path, peer, headers) = calls.lock().unwrap().pop().unwrap();
        assert_eq!((path.as_str(), peer.as_deref()), ("/echo.Echo/Say", Some(REVIEWS)), "{way}");
        assert_eq!(
            (&headers["authorization"], &headers["te"]),
            (&"Bearer token-1".parse().unwrap(), &"trailers".parse().unwrap())
        );
    }
}
