//! Services in ECS that call each other, and services of the mesh, in both directions: each with the extension as its
//! sidecar, which is the program with nothing but its environment, and an identity of its own from the real issuer.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod sidecars;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use causeway::dev::http::{Answer, send};
use e2e::application::Application;
use e2e::doors::Doors;
use e2e::envoy::Envoy;
use e2e::local_issuer::new_authority;
use e2e::process::Process;
use e2e::sidecar::{Sidecar, Task};
use e2e::{ports, program, tier, tool};
use serde_json::Value;
use sidecars::{Inbound, expecting, filters, outbound, text, trusting, write};

type Outcome = Result<(), String>;

const NAMESPACE: &str = "shop";

/// What all of them are told. `PROTOCOL` is what the services say that they speak.
const MESH: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'trustDomain: cluster.local'}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: all, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/stock]}}]
    to: [{operation: {methods: [GET], paths: [/for-stock*]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/orders, cluster.local/ns/shop/sa/billing]}}]
    to: [{operation: {methods: [GET], paths: [/for-orders*]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: billing, namespace: shop}
spec:
  selector: {matchLabels: {app: billing}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/shop/sa/orders]}}]
    to: [{operation: {methods: [GET], paths: [/bills*]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: guest, namespace: shop}
spec: {selector: {matchLabels: {app: guest}}}
";

/// Where a service is, and that nobody tries twice.
const SERVICE: &str = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, namespace: shop}
spec:
  hosts: [NAME.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: PROTOCOL, protocol: PROTOCOL}]
  endpoints: [{address: 127.0.0.1, ports: {PROTOCOL: PORT}, serviceAccount: NAME}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: shop}
spec: {host: NAME.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME, namespace: shop}
spec:
  hosts: [NAME.shop.svc.cluster.local]
  http:
  - route: [{destination: {host: NAME.shop.svc.cluster.local}}]
    retries: {attempts: 0}
";

fn service(name: &str, protocol: &str, port: u16) -> String {
    SERVICE.replace("NAME", name).replace("PROTOCOL", protocol).replace("PORT", &port.to_string())
}

fn id(name: &str) -> String {
    format!("spiffe://cluster.local/ns/shop/sa/{name}")
}

fn url(name: &str, path: &str) -> String {
    format!("http://{name}.shop.svc.cluster.local:9080{path}")
}

/// Two services in ECS, a third one that nobody admits, and a service of the mesh behind an Envoy.
struct World {
    orders: Sidecar,
    stock: Sidecar,
    guest: Sidecar,
    applications: [Application; 3],
    /// The mesh's sidecar in front of `billing`.
    billing: Envoy,
    billing_application: Application,
    /// The same for the calls of `billing` to `stock`.
    billing_out: Envoy,
    /// Kept for as long as they run.
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(protocol: &str, more: &[(&str, &str)]) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(text)?;
        let names = ["orders", "stock", "guest", "billing"];
        let doors = Doors::open("cluster.local", &new_authority()?, NAMESPACE, &names).await?;
        let billing_files = write(folder.path(), "billing", &doors.workload("billing").await?)?;
        let billing_application = Application::start().await?;
        let billing = Inbound {
            files: &billing_files,
            validation: trusting(&billing_files.roots, &["cluster.local"]),
            filters: filters(MESH, NAMESPACE, "billing")?,
            application: billing_application.address,
            adapter: 9,
        };
        let billing = billing.start(folder.path(), "billing-in").await?;

        let free = || ports::free().map_err(text);
        let [orders, stock, guest] = [free()?, free()?, free()?];
        let mut yaml = MESH.to_owned();
        yaml += &service("orders", protocol, orders);
        yaml += &service("stock", protocol, stock);
        yaml += &service("billing", "http", billing.address.port());
        let bundle = sidecars::bundle(folder.path(), "mesh.bundle", &yaml)?;
        let applications = [Application::start().await?, Application::start().await?, Application::start().await?];
        let task = |role, inbound, application: &Application| Task {
            role,
            namespace: NAMESPACE,
            bundle: &bundle,
            inbound,
            application: application.address,
            more,
        };
        let [of_orders, of_stock, of_guest] = &applications;
        let orders = Sidecar::start(&doors, task("orders", orders, of_orders)).await?;
        let stock = Sidecar::start(&doors, task("stock", stock, of_stock)).await?;
        let guest = Sidecar::start(&doors, task("guest", guest, of_guest)).await?;
        let expected = expecting(&billing_files.roots, &id("stock"));
        let billing_out = outbound(folder.path(), "billing-out", &billing_files, stock.inbound, &expected).await?;
        Ok(Self { orders, stock, guest, applications, billing, billing_application, billing_out, _folder: folder })
    }
}

/// What the application saw, of an answer that it gave.
fn seen(answer: &Answer) -> (String, String) {
    let seen: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&seen["path"]), text(&seen["headers"]["x-forwarded-client-cert"]))
}

fn available() -> bool {
    tier::available(&[&tool("envoy"), &program("extension")])
}

#[tokio::test(flavor = "multi_thread")]
async fn services_in_ecs_call_each_other_and_the_mesh_in_both_directions() -> Outcome {
    if !available() {
        return Ok(());
    }
    for protocol in ["http", "http2"] {
        let world = World::start(protocol, &[]).await?;
        let World { orders, stock, guest, .. } = &world;
        // The proof is the sidecar's, whatever the application claims.
        let forged = [("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/admin")];
        let all = [
            (orders, "stock", "/for-orders/7", "orders"),
            (stock, "orders", "/for-stock/7", "stock"),
            (orders, "billing", "/bills/7", "orders"),
        ];
        for (from, to, path, caller) in all {
            let answer = from.call(&url(to, path), &forged).await?;
            let log = || [&orders.process, &stock.process].map(|process| process.lines().join("\n")).join("\n");
            assert_eq!(answer.status, 200, "{protocol} {caller} to {to}: {} {}", answer.body, log());
            let (got, proof) = seen(&answer);
            assert_eq!(got, path, "{protocol} {caller} to {to}");
            assert!(proof.starts_with(&format!("By={};Hash=", id(to))), "{protocol}: {proof}");
            assert!(proof.ends_with(&format!("URI={}", id(caller))), "{protocol}: {proof}");
        }
        let host = [("host", "stock.shop.svc.cluster.local:9080")];
        let answer = send(world.billing_out.address, "GET", "/for-orders/8", &host, "").await?;
        assert_eq!((answer.status, seen(&answer).0.as_str()), (200, "/for-orders/8"), "{}", answer.body);

        // Nobody else gets in, and nobody anywhere else.
        let before: Vec<usize> = world.applications.iter().map(Application::requests).collect();
        let others = [
            (guest, "stock", "/for-orders/7"),
            (guest, "orders", "/for-stock/7"),
            (guest, "billing", "/bills/7"),
            (orders, "stock", "/for-stock/7"),
            (stock, "orders", "/for-stock/../for-orders"),
            (stock, "billing", "/bills/7"),
            (orders, "billing", "/else"),
        ];
        for (from, to, path) in others {
            assert_eq!(from.call(&url(to, path), &forged).await?.status, 403, "{protocol} to {to} {path}");
        }
        let answer = send(world.billing_out.address, "GET", "/for-stock/8", &host, "").await?;
        assert_eq!(answer.status, 403, "{}", answer.body);
        // STRICT, and loopback is no proof.
        assert!(send(stock.inbound, "GET", "/for-orders/7", &host, "").await.is_err());
        let after: Vec<usize> = world.applications.iter().map(Application::requests).collect();
        assert_eq!((before, world.billing_application.requests()), (after, 1));

        // Both ends of a call have lines with its id, know each other, and name the trace that it is in.
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
        let headers = [("x-request-id", "call-nine"), ("traceparent", traceparent.as_str())];
        assert_eq!(orders.call(&url("stock", "/for-orders/9"), &headers).await?.status, 200);
        let line = async |process: &Process, event: &str| {
            let is_it = |line: &Value| line["event"] == event && line["request_id"] == "call-nine";
            let line = process.line(|line| serde_json::from_str(line).is_ok_and(|line| is_it(&line))).await?;
            serde_json::from_str::<Value>(&line).map_err(text)
        };
        let [out, inside] = [line(&orders.process, "egress").await?, line(&stock.process, "inbound").await?];
        assert_eq!(
            [&out["peer"], &inside["peer"]],
            [id("stock").as_str(), &id("orders")],
            "{protocol}: {out} {inside}"
        );
        let decided = line(&stock.process, "decision").await?;
        assert_eq!([&out["trace_id"], &decided["trace_id"]], [trace; 2], "{protocol}: {out} {decided}");
        let passed =
            world.billing.process().lines().into_iter().filter(|line| line.contains(r#""status":200"#)).count();
        assert_eq!(passed, 1, "{:?}", world.billing.process().lines());
    }
    Ok(())
}

/// The end of a task under load: what its callers have sent is answered, without one of them trying twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_in_ecs_that_ends_loses_no_call() -> Outcome {
    /// Calls at a time, and how many each of them makes after the end has begun.
    const CALLERS: usize = 6;
    const LATER: usize = 10;
    if !available() {
        return Ok(());
    }
    for protocol in ["http", "http2"] {
        // Long enough for all that comes below; the end does not wait for it longer than it must.
        let slow = [
            ("CAUSEWAY_DRAIN_ACCEPT_SECONDS", "10"),
            ("CAUSEWAY_DRAIN_SECONDS", "120"),
            ("CAUSEWAY_RESPONSE_TIMEOUT_MS", "60000"),
        ];
        let World { orders, stock, applications, _folder, guest: _guest, .. } = World::start(protocol, &slow).await?;
        let (orders, [_, application, _]) = (Arc::new(orders), applications);
        let (ending, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let calls = move |path: &'static str| {
            let orders = Arc::clone(&orders);
            async move {
                let answer = orders.call(&url("stock", path), &[]).await?;
                match answer.status {
                    200 => Ok(()),
                    status => Err(format!("{path}: {status} {} {:?}", answer.body, orders.process.lines().last())),
                }
            }
        };
        let held: Vec<_> = (0..CALLERS).map(|_| tokio::spawn(calls("/for-orders/held"))).collect();
        application.holds(CALLERS).await?;
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let (ending, answered, calls) = (Arc::clone(&ending), Arc::clone(&answered), calls.clone());
                tokio::spawn(async move {
                    let mut left = LATER;
                    while left > 0 {
                        if ending.load(Ordering::SeqCst) {
                            left -= 1;
                        }
                        calls("/for-orders/quick").await?;
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    Ok::<_, String>(())
                })
            })
            .collect();
        while answered.load(Ordering::SeqCst) < 5 * CALLERS && !callers.iter().all(|caller| caller.is_finished()) {
            tokio::task::yield_now().await;
        }
        let pid = stock.process.id().ok_or("stock has ended")?.to_string();
        let signalled = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await.map_err(text)?;
        assert!(signalled.success());
        // Whoever distributes calls sees this, and sends the next ones elsewhere: here, none.
        stock.until_health(503).await?;
        ending.store(true, Ordering::SeqCst);
        for caller in callers {
            caller.await.map_err(text)??;
        }
        // The door closes behind the last one, and who is inside is served to the end.
        let closing = async {
            while tokio::net::TcpStream::connect(stock.inbound).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(e2e::process::PATIENCE, closing).await.map_err(|_| "the port stays open")?;
        application.release();
        for call in held {
            call.await.map_err(text)?.map_err(|error| format!("{protocol}: {error}"))?;
        }
        let mut process = stock.process;
        assert_eq!(process.ended().await?.code(), Some(0), "{protocol}");
        assert!(application.requests() >= CALLERS + answered.load(Ordering::SeqCst));
    }
    Ok(())
}
