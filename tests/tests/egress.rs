//! Out of a legacy Lambda: unchanged Python under the Lambda emulator, the extension from its layer, and the mesh on real
//! Envoys.

use std::path::{Path, PathBuf};

use causeway::dev::gateway::{Gateway, GatewayConfig, Integration, Rie, Route};
use causeway::dev::http::{Answer, send};
use e2e::function::Function;
use e2e::mesh::Mesh;
use e2e::process::Process;
use e2e::world::{self, World};
use e2e::{ports, program, root, tool};
use serde_json::Value;
use tokio::process::Command;

type Outcome = Result<(), String>;

/// A layer as `sam build` makes it: the wrapper, and the extension under its name.
fn layer(folder: &Path) -> Result<PathBuf, String> {
    let layer = folder.join("layer");
    std::fs::create_dir_all(layer.join("extensions")).map_err(|error| error.to_string())?;
    for (from, to) in [
        (program("extension"), "extensions/causeway"),
        (root().join("extension/layer/causeway-wrapper"), "causeway-wrapper"),
        (root().join("extension/layer/causeway-preload.cjs"), "causeway-preload.cjs"),
    ] {
        std::fs::copy(&from, layer.join(to)).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(layer)
}

/// `reviews` behind a gateway of its own: who may call it is another test's business.
struct Reviews {
    function: Function,
    address: std::net::SocketAddr,
}

impl Reviews {
    async fn start(folder: &Path, environment: &[(String, String)]) -> Result<Self, String> {
        let python = tool("python3").display().to_string();
        let command = ["/opt/causeway-wrapper", &python, "-m", "awslambdaric", "app.handler"];
        let app = root().join("tests/fixtures/reviews");
        let function = Function::start("reviews", &command, &app, Some(&layer(folder)?), environment).await?;
        let rie = Rie::new(&function.url()).map_err(|error| error.to_string())?;
        let config = GatewayConfig {
            routes: vec![Route::new("ANY /reviews/{proxy+}", "reviews")],
            integrations: vec![Integration::new("reviews", std::sync::Arc::new(rie))],
            ..GatewayConfig::new("reviews", "$default")
        };
        let bound = Gateway::bind(config, ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let address = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        Ok(Self { function, address })
    }

    async fn page(&self, client: &str) -> Result<(Answer, Value), String> {
        let answer =
            send(self.address, "GET", &format!("/reviews/0?client={client}"), &[("host", "127.0.0.1")], "").await?;
        let page = serde_json::from_str(&answer.body)
            .map_err(|error| format!("{error}: {} {}", answer.status, answer.body))?;
        Ok((answer, page))
    }
}

fn free() -> Result<u16, String> {
    ports::free().map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn unchanged_python_reaches_ratings_through_the_mesh() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let mesh = Mesh::start(&world).await?;
    let environment = world.extension_environment("bookinfo-reviews", free()?, mesh.eastwest.address)?;
    let reviews = Reviews::start(world.folder.path(), &environment).await?;
    for client in ["urllib", "requests"] {
        let (answer, page) = reviews.page(client).await?;
        assert_eq!(answer.status, 200, "{client}: {page}\n{}", reviews.function.process().lines().join("\n"));
        assert_eq!(
            page["reviews"][0]["rating"]["stars"],
            5,
            "{client}: {page}\n{}",
            reviews.function.process().lines().join("\n")
        );
    }

    // What the sidecar saw: the function's own SPIFFE ID, over TLS 1.3 passed through by its SNI.
    let seen = mesh.sidecar.process().line(|line| line.contains("/ratings/0") && line.contains("200")).await?;
    assert!(seen.contains("spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews"), "{seen}");
    assert!(seen.contains("TLSv1.3"), "{seen}");
    // The issuer's audit log names the certificate that it gave out.
    world
        .issuer_function
        .process()
        .line(|line| line.contains("svid_issued") && line.contains("bookinfo-reviews"))
        .await?;

    let parts = [reviews.function.process(), mesh.sidecar.process(), mesh.eastwest.process()];
    assert_eq!(world.credential_in_logs(&parts), None);
    reviews.function.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_configuration_leaves_the_function_running() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    // No issuer, no bundle, and a variable that nobody knows.
    let environment =
        [("AWS_REGION", "eu-central-1"), ("CAUSEWAY_PROXY_PORT", &free()?.to_string()), ("CAUSEWAY_TRUSTDOMAIN", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let reviews = Reviews::start(folder.path(), &environment).await?;
    let (answer, page) = reviews.page("urllib").await?;
    assert_eq!(
        (answer.status, &page["ratings"]["status"]),
        (200, &Value::from(503)),
        "{page}\n{}",
        reviews.function.process().lines().join("\n")
    );
    let said = reviews.function.process().line(|line| line.contains("CAUSEWAY_TRUSTDOMAIN")).await?;
    assert!(said.contains("did you mean CAUSEWAY_TRUST_DOMAIN"), "{said}");
    // And again: it goes on living.
    let (answer, _) = reviews.page("requests").await?;
    assert_eq!(answer.status, 200);
    reviews.function.stop().await
}

/// The extension as a plain process, for what needs no function.
async fn proxy(
    world: &World,
    role: &str,
    eastwest: std::net::SocketAddr,
) -> Result<(Process, std::net::SocketAddr), String> {
    let port = free()?;
    let mut command = Command::new(program("extension"));
    command.env_clear().envs(world.extension_environment(role, port, eastwest)?);
    let mut process = Process::start("extension", &mut command)?;
    process.listening(ports::loopback(port)).await?;
    Ok((process, ports::loopback(port)))
}

const HOST: &str = "ratings.bookinfo.svc.cluster.local:9080";
const URL: &str = "http://ratings.bookinfo.svc.cluster.local:9080/ratings/0";

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_takes_the_right_identity_only() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let mesh = Mesh::start(&world).await?;
    // A workload of the mesh, but not the one that the principal rule names.
    let (_other, address) = proxy(&world, "bookinfo-details", mesh.eastwest.address).await?;
    let answer = send(address, "GET", URL, &[("host", HOST)], "").await?;
    assert_eq!((answer.status, answer.body.as_str()), (403, "RBAC: access denied"));

    // The right identity, with an application token that is none: Envoy's jwt_authn refuses it.
    let (_reviews, address) = proxy(&world, "bookinfo-reviews", mesh.eastwest.address).await?;
    let answer = send(address, "GET", URL, &[("host", HOST), ("authorization", "Bearer x.y.z")], "").await?;
    assert_eq!(answer.status, 401, "{}", answer.body);
    // A method that the policy does not allow.
    let answer = send(address, "POST", URL, &[("host", HOST)], "").await?;
    assert_eq!(answer.status, 403, "{}", answer.body);
    // And what is allowed.
    let answer = send(address, "GET", URL, &[("host", HOST)], "").await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_identity_gets_nothing() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    // A certificate of the same mesh, for another workload, where ratings should be.
    let mesh = Mesh::with_identity(&world, "bookinfo-details").await?;
    let (_process, address) = proxy(&world, "bookinfo-reviews", mesh.eastwest.address).await?;
    let answer = send(address, "GET", URL, &[("host", HOST)], "").await?;
    assert_eq!(
        (answer.status, answer.header("x-causeway-reason")),
        (503, Some("peer_identity_mismatch")),
        "{}",
        answer.body
    );
    let requests = mesh.sidecar.process().lines();
    assert!(!requests.iter().any(|line| line.contains("/ratings/0")), "the impostor saw the request: {requests:?}");
    Ok(())
}
