//! A legacy service with its sidecar, and a service of the mesh behind a real Envoy, in whatever trust they have.

use std::path::Path;

use causeway::dev::http::{Answer, send};
use e2e::application::Application;
use e2e::doors::Doors;
use e2e::envoy::Envoy;
use e2e::local_issuer::Workload;
use e2e::ports;
use e2e::sidecar::{Sidecar, Task};
use serde_json::Value;

use crate::sidecars::{self, Inbound, expecting, filters, outbound, text, write};

/// What both sides are told, but for the mesh configuration. A policy names the domain that it was written in.
const POLICIES: &str = "
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
  - from: [{source: {principals: [CALLERS/ns/shop/sa/billing]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: billing, namespace: shop}
spec:
  selector: {matchLabels: {app: billing}}
  rules:
  - from: [{source: {principals: [CALLERS/ns/shop/sa/orders]}}]
";

/// Where `billing` is, for the legacy side.
const BILLING: &str = "
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: billing, namespace: shop}
spec:
  hosts: [billing.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1, ports: {http: PORT}}]
  subjectAltNames: ['EXPECTED']
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: billing, namespace: shop}
spec: {host: billing.shop.svc.cluster.local, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
";

/// A side's mesh configuration, and the policies with principals of the domain `callers`.
pub(crate) fn documents(domain: &str, aliases: &[&str], callers: &str) -> String {
    let aliases = if aliases.is_empty() { String::new() } else { format!(", trustDomainAliases: {aliases:?}") };
    let mesh = format!("{{trustDomain: {domain}{aliases}}}");
    let map = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
        "data": {"mesh": mesh},
    });
    format!("{map}{}", POLICIES.replace("CALLERS", callers))
}

/// What the legacy side is told besides: where `billing` is, and whom it has to find there.
pub(crate) fn billing_at(port: u16, expected: &str) -> String {
    BILLING.replace("PORT", &port.to_string()).replace("EXPECTED", expected)
}

/// The mesh's half: `billing` behind an Envoy, and the way out of it.
pub(crate) struct Mesh {
    pub(crate) billing: Envoy,
    pub(crate) application: Application,
    files: sidecars::Files,
}

impl Mesh {
    /// `yaml` is what istiod has read, `validation` what it says about trust in clients; of the files for that, the one
    /// with the roots of `workload` is handed in.
    pub(crate) async fn start(
        folder: &Path,
        workload: &Workload,
        yaml: &str,
        validation: impl Fn(&str) -> Value,
    ) -> Result<Self, String> {
        let files = write(folder, "mesh", workload)?;
        let application = Application::start().await?;
        let inbound = Inbound {
            files: &files,
            validation: validation(&files.roots),
            filters: filters(yaml, "shop", "billing")?,
            application: application.address,
            adapter: 9,
        };
        let billing = inbound.start(folder, "billing-in").await?;
        Ok(Self { billing, application, files })
    }

    /// A call of `billing`, out through its Envoy, to what must be `expected`.
    pub(crate) async fn calls(&self, folder: &Path, to: &Legacy, expected: &str) -> Result<Answer, String> {
        self.calls_by(&expecting(&self.files.roots, expected), folder, to).await
    }

    /// The same to what its Envoy believes.
    pub(crate) async fn calls_by(&self, validation: &Value, folder: &Path, to: &Legacy) -> Result<Answer, String> {
        let folder = folder.join(format!("out-{}", ports::free().map_err(text)?));
        let envoy = outbound(&folder, "billing-out", &self.files, to.sidecar.inbound, validation).await?;
        let host = [("host", "orders.shop.svc.cluster.local:9080")];
        send(envoy.address, "GET", "/orders/1", &host, "").await
    }

    /// Whom the application has been told of by its sidecar, in an answer of it.
    pub(crate) fn caller(answer: &Answer) -> String {
        let seen: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let proof = seen["headers"]["x-forwarded-client-cert"].as_str().unwrap_or_default();
        proof.split(";URI=").nth(1).unwrap_or_default().to_owned()
    }
}

/// The legacy half: `orders` with its sidecar.
pub(crate) struct Legacy {
    pub(crate) sidecar: Sidecar,
    pub(crate) application: Application,
}

impl Legacy {
    pub(crate) async fn start(folder: &Path, doors: &Doors, yaml: &str) -> Result<Self, String> {
        let legacy = Self::begin(folder, doors, yaml).await?;
        legacy.sidecar.until_health(200).await?;
        Ok(legacy)
    }

    /// The same, whether it gets an identity or not.
    pub(crate) async fn begin(folder: &Path, doors: &Doors, yaml: &str) -> Result<Self, String> {
        let bundle = sidecars::bundle(folder, "legacy.bundle", yaml)?;
        let application = Application::start().await?;
        let task = Task {
            role: "orders",
            namespace: "shop",
            bundle: &bundle,
            inbound: ports::free().map_err(text)?,
            application: application.address,
            more: &[],
        };
        let sidecar = Sidecar::begin(doors, task).await?;
        Ok(Self { sidecar, application })
    }

    /// A call of `orders` to `billing`.
    pub(crate) async fn calls(&self) -> Result<Answer, String> {
        self.sidecar.call("http://billing.shop.svc.cluster.local:9080/bills/1", &[]).await
    }

    /// The status of such a call, and why the sidecar answered itself, if it did.
    pub(crate) async fn outcome(&self) -> Result<(u16, Option<String>), String> {
        let answer = self.calls().await?;
        Ok((answer.status, answer.header("x-causeway-reason").map(str::to_owned)))
    }
}
