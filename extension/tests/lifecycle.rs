//! The extension in Lambda, with a fake Extensions API on a real socket, and as a plain process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use common::*;
use extension::{BundleSource, Config, Deps, Error, Extension, LambdaApi, run};
use http::Request;
use platform::clock::SystemClock;
use platform::env::{EnvError, MapEnv};
use platform::log::{Lines, Log};
use tokio::net::{TcpListener, TcpStream};

fn deps() -> (Deps, Lines) {
    let (log, lines) = Log::memory();
    (Deps { clock: Arc::new(SystemClock), log }, lines)
}

fn api(lambda: &FakeLambda) -> Option<LambdaApi> {
    Some(LambdaApi { address: lambda.address.clone(), name: "causeway".to_owned(), managed: false, snap_start: false })
}

fn broken(port: u16, lambda: Option<LambdaApi>) -> Config {
    let problem = EnvError::Missing { name: "CAUSEWAY_SVID_URL".to_owned(), hint: "the issuer".to_owned() };
    Config { port, lambda, egress: Err(problem) }
}

async fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn it_listens_before_it_registers_and_ends_with_shutdown() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let issuer = FakeIssuer::start(Arc::clone(&mesh), Arc::new(SystemClock)).await;
    // While the registration waits for its answer, a connection must already be possible.
    let address: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let (known, early) = (Arc::clone(&address), Arc::new(Mutex::new(None)));
    let noted = Arc::clone(&early);
    let lambda = FakeLambda::start(200, move || {
        let (known, noted) = (Arc::clone(&known), Arc::clone(&noted));
        async move {
            let address = known.lock().unwrap().unwrap();
            *noted.lock().unwrap() = Some(TcpStream::connect(address).await.is_ok());
        }
    })
    .await;
    let config = Config { port: 0, lambda: api(&lambda), egress: Ok(egress(&issuer.url, server.address)) };
    let (deps, _lines) = deps();
    let bound = Extension::bind(config, deps).await.unwrap();
    *address.lock().unwrap() = Some(bound.address());
    let (request, proxy) = (Request::get(format!("{URL}/")).body(text("")).unwrap(), bound.address());
    // Sent before anybody listens to the queue: it waits there.
    let early_request = tokio::spawn(call(proxy, request));
    let running = tokio::spawn(bound.run(std::future::pending()));
    assert_eq!(early_request.await.unwrap().status, 200);
    lambda.polled().await;
    assert_eq!(*early.lock().unwrap(), Some(true));
    assert_eq!(lambda.calls()[0], r#"register causeway {"events":["INVOKE","SHUTDOWN"]}"#);

    for event in
        [serde_json::json!({"eventType": "INVOKE", "deadlineMs": 1}), serde_json::json!({"eventType": "SOMETHING_NEW"})]
    {
        lambda.send(event);
        lambda.polled().await;
    }
    lambda.shut_down();
    running.await.unwrap().unwrap();
    assert_eq!(lambda.calls()[1..], ["next the-id", "next the-id", "next the-id"]);
    assert!(TcpStream::connect(proxy).await.is_err(), "the port is closed");
}

#[tokio::test]
async fn a_managed_instance_registers_for_shutdown_only() {
    let lambda = FakeLambda::plain().await;
    let managed = api(&lambda).map(|api| LambdaApi { managed: true, ..api });
    lambda.shut_down();
    run(broken(0, managed), deps().0, std::future::pending()).await.unwrap();
    assert_eq!(lambda.calls()[0], r#"register causeway {"events":["SHUTDOWN"]}"#);
}

#[tokio::test]
async fn a_failing_next_is_tried_again_and_given_up_in_the_end() {
    let lambda = FakeLambda::plain().await;
    for answer in [serde_json::json!(500), serde_json::json!([]), serde_json::json!({"eventType": "INVOKE"})] {
        lambda.send(answer);
    }
    for _ in 0..5 {
        lambda.send(serde_json::json!(403));
    }
    let (deps, lines) = deps();
    let error = run(broken(0, api(&lambda)), deps, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, Error::Lifecycle(_)) && error.exit_status() == 1, "{error}");
    assert!(error.to_string().contains("403"), "{error}");
    assert_eq!(lambda.calls().len(), 1 + 8);
    assert_eq!(lines.all().iter().filter(|line| line.contains(r#""event":"lifecycle""#)).count(), 7);
}

#[tokio::test]
async fn a_refused_registration_ends_it() {
    let lambda = FakeLambda::start(403, || async {}).await;
    let error = run(broken(0, api(&lambda)), deps().0, std::future::pending()).await.unwrap_err();
    assert!(error.to_string().contains("register") && error.to_string().contains("403"), "{error}");
}

#[tokio::test]
async fn a_bad_configuration_leaves_the_function_running_and_answers_503_with_the_reason() {
    let unreadable = || {
        let mut egress = egress("http://127.0.0.1:1", "127.0.0.1:1".parse().unwrap());
        egress.bundle = BundleSource::File("/does/not/exist.bundle".into());
        egress
    };
    let damaged = || {
        let mut egress = unreadable();
        let mut bytes = bundle_bytes();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        egress.bundle = BundleSource::Bytes(bytes);
        egress
    };
    let no_section = || {
        let mut egress = unreadable();
        egress.bundle = BundleSource::Bytes(platform::bundle::write(&[]).unwrap());
        egress
    };
    let other_domain = || {
        let mut egress = egress("http://127.0.0.1:1", "127.0.0.1:1".parse().unwrap());
        egress.trust_domain = Some("other.example".parse().unwrap());
        egress
    };
    let missing = EnvError::Missing { name: "CAUSEWAY_SVID_URL".to_owned(), hint: "the issuer".to_owned() };
    for (egress, expected) in [
        (Err(missing), "CAUSEWAY_SVID_URL"),
        (Ok(unreadable()), "/does/not/exist.bundle"),
        (Ok(damaged()), "checksum"),
        (Ok(no_section()), "no egress section"),
        (Ok(other_domain()), "CAUSEWAY_TRUST_DOMAIN"),
    ] {
        // In Lambda the function lives on …
        let lambda = FakeLambda::plain().await;
        let config = Config { port: 0, lambda: api(&lambda), egress };
        let bound = Extension::bind(config.clone(), deps().0).await.unwrap();
        let address = bound.address();
        let running = tokio::spawn(bound.run(std::future::pending()));
        lambda.polled().await;
        lambda.send(serde_json::json!({"eventType": "INVOKE"}));
        lambda.polled().await;
        let answer = call(address, Request::get(format!("{URL}/")).body(text("")).unwrap()).await;
        assert!(answer.is(503, "configuration_invalid"), "{answer:?}");
        assert!(answer.body.contains(expected) && answer.body.lines().count() == 1, "{expected}: {}", answer.body);
        lambda.shut_down();
        running.await.unwrap().unwrap();

        // … and a plain process does not start.
        let error = run(Config { lambda: None, ..config }, deps().0, std::future::pending()).await.unwrap_err();
        assert_eq!(error.exit_status(), 64);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_bad_environment_value_keeps_the_port_that_it_names() {
    let env = MapEnv::from([("CAUSEWAY_PROXY_PORT", "15999"), ("CAUSEWAY_IDENTITY_WAIT_MS", "soon")]);
    let config = Config::from_env(&env);
    assert_eq!(config.port, 15_999);
    let error = Extension::bind(Config { port: 0, ..config }, deps().0).await.err().unwrap();
    assert!(matches!(error, Error::Configuration(_)), "{error}");
}

#[tokio::test]
async fn a_busy_port_is_said_and_the_function_lives_on() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let lambda = FakeLambda::plain().await;
    let (deps, lines) = deps();
    let running = tokio::spawn(run(broken(port, api(&lambda)), deps.clone(), std::future::pending()));
    lambda.polled().await;
    lambda.send(serde_json::json!({"eventType": "INVOKE"}));
    lambda.polled().await;
    let said = lines.all().join("\n");
    assert!(said.contains("not_listening") && said.contains(&port.to_string()), "{said}");
    assert!(said.contains("CAUSEWAY_PROXY_PORT"), "{said}");
    lambda.shut_down();
    running.await.unwrap().unwrap();

    let config = Config { port, lambda: None, egress: Ok(egress("http://127.0.0.1:1", nowhere().await)) };
    let error = run(config, deps, std::future::pending()).await.unwrap_err();
    assert!(matches!(error, Error::Port { .. }) && error.exit_status() == 64, "{error}");
}

#[tokio::test]
async fn a_plain_process_finishes_the_request_in_hand_and_ends() {
    let mesh = Arc::new(Mesh::new());
    let server = MeshServer::start(&mesh, RATINGS).await;
    let stage = Stage::start(&mesh, server.address).await;
    // An idle keep-alive connection must not hold the end up.
    let _idle = TcpStream::connect(stage.address).await.unwrap();
    assert_eq!(stage.get("/").await.status, 200);
    stage.stop().await.unwrap();
}
