//! One trace from a client to the last service: API Gateway and its authorizer, a function under the Lambda emulator,
//! the extension beside it, a sidecar of the mesh that asks the adapter, and the service. Its id is in the log of each.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

#[allow(dead_code, reason = "other suites use the rest")]
mod sidecars;

use std::sync::Arc;

use causeway::dev::gateway::{Gateway, InProcess, Rie};
use causeway::dev::http::send;
use causeway::dev::stack::{API_DOMAIN, central_api_with};
use e2e::application::Application;
use e2e::function::Function;
use e2e::local_issuer::Workload;
use e2e::process::Process;
use e2e::world::{self, World};
use e2e::{layer, ports, program, root, tool};
use identity::Secret;
use serde_json::{Value, json};
use sidecars::{Inbound, text, trusting, write};
use tokio::process::Command;

const CLIENTS: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const GATEWAYS: &str = "5759e988bd862e3fe1be46a994272793";
/// What API Gateway puts into every request.
const X_RAY: (&str, &str) =
    ("x-amzn-trace-id", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1");

/// The filter that istiod makes of a CUSTOM policy whose provider is the adapter.
fn ask_the_adapter() -> Value {
    json!({
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "failure_mode_allow": false,
            "grpc_service": {
                "envoy_grpc": {"cluster_name": "adapter", "authority": "adapter"}, "timeout": "25s",
            },
        },
    })
}

/// The first line of a part with these members, of which it waits for one.
async fn line(process: &Process, members: &[(&str, &str)]) -> Result<Value, String> {
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        members.iter().all(|(name, value)| line[*name] == *value).then_some(line)
    };
    let found = process.line(|line| read(line).is_some()).await?;
    read(&found).ok_or_else(|| "no line".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_id_leads_from_the_client_to_the_last_service() -> Result<(), String> {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let folder = world.folder.path();

    // In the mesh: the service, its sidecar, and the adapter that this one asks.
    let service = Application::start().await?;
    let (chain, key) = world.svid("bookinfo-ratings").await?;
    let ratings = Workload {
        chain: std::fs::read_to_string(chain).map_err(text)?,
        key: Secret::new(std::fs::read_to_string(key).map_err(text)?),
        roots: world.roots.clone(),
    };
    let files = write(folder, "ratings", &ratings)?;
    let port = ports::free().map_err(text)?;
    let mut adapter = Command::new(program("adapter"));
    adapter.env_clear().envs(world.front_environment()).envs([
        ("CAUSEWAY_ADAPTER_ADDRESS", format!("127.0.0.1:{port}").as_str()),
        ("CAUSEWAY_ENVIRONMENT", "dev"),
        ("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfo"),
        ("CAUSEWAY_WORKLOAD_LABELS", "app=ratings"),
    ]);
    let mut adapter = Process::start("adapter", &mut adapter)?;
    adapter.listening(ports::loopback(port)).await?;
    let sidecar = Inbound {
        files: &files,
        validation: trusting(&files.roots, &["cluster.local"]),
        filters: vec![ask_the_adapter()],
        application: service.address,
        adapter: port,
    };
    let sidecar = sidecar.start(folder, "ratings-in").await?;

    // In Lambda: the function with the extension in its layer, and the authorizer.
    let mut environment =
        world.extension_environment("bookinfo-reviews", ports::free().map_err(text)?, sidecar.address)?;
    environment.push(("CAUSEWAY_NAMESPACE".to_owned(), "bookinfo".to_owned()));
    let python = tool("python3").display().to_string();
    let command = ["/opt/causeway-wrapper", &python, "-m", "awslambdaric", "app.handler"];
    let app = root().join("tests/fixtures/reviews");
    let reviews = Function::start("reviews", &command, &app, Some(&layer::extension(folder)?), &environment).await?;
    let mut environment = world.front_environment();
    environment.push(("CAUSEWAY_ENVIRONMENT".to_owned(), "dev".to_owned()));
    let command = program("authorizer").display().to_string();
    let authorizer = Function::start("authorizer", &[&command], folder, None, &environment).await?;

    let rie = |function: &Function| Rie::new(&function.url()).map(Arc::new).map_err(text);
    let nothing = InProcess::function(|_| async { Ok(json!({"statusCode": 200})) });
    let api = central_api_with(rie(&authorizer)?, nothing, rie(&reviews)?);
    let bound = Gateway::bind(api, ports::loopback(0)).await.map_err(text)?;
    let address = bound.address();
    tokio::spawn(bound.run(std::future::pending()));

    let bearer = format!("Bearer {}", world.token("reader", "").await?);
    let traceparent = format!("00-{CLIENTS}-00f067aa0ba902b7-01");
    let call = |path: String, traced: bool| {
        let (bearer, traceparent) = (bearer.clone(), traceparent.clone());
        async move {
            let mut headers = vec![("host", API_DOMAIN), ("authorization", bearer.as_str()), X_RAY];
            headers.extend(traced.then_some(("traceparent", traceparent.as_str())));
            send(address, "GET", &path, &headers, "").await
        }
    };
    // The extension hears of an invocation by itself, and a call may be faster: after this one it knows this trace.
    assert_eq!(call("/reviews/1".to_owned(), false).await?.status, 200);
    // A client with a trace of its own, which the function passes on; and one without, whose function passes nothing on.
    for (number, traced, trace, x_ray) in [(2, true, CLIENTS, Some(GATEWAYS)), (3, false, GATEWAYS, None)] {
        let answer = call(format!("/reviews/{number}"), traced).await?;
        let said = || [reviews.process(), &adapter, sidecar.process()].map(|part| part.lines().join("\n")).join("\n");
        assert_eq!(answer.status, 200, "{}\n{}", answer.body, said());
        assert!(!answer.body.contains("unavailable"), "{}\n{}", answer.body, said());
        let (outside, inside) = (format!("/reviews/{number}"), format!("/ratings/{number}"));
        let decided = line(authorizer.process(), &[("event", "decision"), ("path", &outside)]).await?;
        let called = line(reviews.process(), &[("event", "egress"), ("path", &inside)]).await?;
        let passed = line(sidecar.process(), &[("gateway", "sidecar"), ("path", &inside)]).await?;
        let asked = line(&adapter, &[("event", "decision"), ("path", &inside)]).await?;
        assert_eq!([&decided["trace_id"], &called["trace_id"], &asked["trace_id"]], [trace; 3], "{outside}");
        assert_eq!(decided["xray_trace_id"].as_str(), x_ray, "{decided}");
        // What left the extension is what Envoy, the adapter and the service have got: its own span in the trace.
        let span = called["span_id"].as_str().ok_or("no span")?;
        let expected = format!("00-{trace}-{span}-01");
        let seen = service.seen(&inside).ok_or_else(|| format!("{inside} did not come"))?;
        assert_eq!([&passed["traceparent"], &seen["headers"]["traceparent"]], [expected.as_str(); 2], "{inside}");
        // And the id of the call joins its last three lines.
        let id = called["request_id"].as_str().ok_or("no id")?;
        assert_eq!(
            [&passed["request_id"], &asked["request_id"], &seen["headers"]["x-request-id"]].map(Value::as_str),
            [Some(id); 3]
        );
    }
    assert_eq!(world.credential_in_logs(&[reviews.process(), authorizer.process(), &adapter, sidecar.process()]), None);
    Ok(())
}
