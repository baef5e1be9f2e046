//! Sidecars of a mesh: real Envoys that believe and enforce what istiod would tell them, of the same documents that our
//! programs get as their bundle.

#[path = "../differential/translate.rs"]
#[allow(dead_code, clippy::unwrap_used, unreachable_pub, reason = "another suite uses the rest")]
mod translate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use e2e::envoy::Envoy;
use e2e::local_issuer::Workload;
use istio::{Resources, SourceFile};
use serde_json::{Value, json};

/// A workload's certificate with its chain, its key and the roots, as PEM files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) roots: String,
}

pub(crate) fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Writes what a workload has into a folder of its own.
pub(crate) fn write(folder: &Path, name: &str, workload: &Workload) -> Result<Files, String> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).map_err(text)?;
    let file = |name: &str, content: &str| {
        let path = folder.join(name);
        std::fs::write(&path, content).map(|()| path.display().to_string()).map_err(text)
    };
    Ok(Files {
        certificate: file("chain.pem", &workload.chain)?,
        key: file("key.pem", workload.key.expose())?,
        roots: file("roots.pem", &workload.roots)?,
    })
}

/// The documents.
pub(crate) fn read(yaml: &str) -> Result<Resources, String> {
    let file = SourceFile { name: "mesh.yaml".to_owned(), text: yaml.to_owned() };
    istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))
}

/// The bundle of the documents, as `causeway bundle` makes it, in a file.
pub(crate) fn bundle(folder: &Path, name: &str, yaml: &str) -> Result<PathBuf, String> {
    let bytes = causeway::bundle::build(&read(yaml)?, BTreeMap::new()).map_err(|errors| errors.join("\n"))?;
    let path = folder.join(name);
    std::fs::write(&path, bytes).map(|()| path).map_err(text)
}

/// The filters that istiod makes of the documents for the workload with the label `app`.
pub(crate) fn filters(yaml: &str, namespace: &str, app: &str) -> Result<Vec<Value>, String> {
    let resources = read(yaml)?;
    let setup = translate::Setup {
        mesh: resources.mesh.clone(),
        policies: resources.authorization_policies.clone(),
        authentications: resources.request_authentications.clone(),
    };
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    Ok(translate::http_filters(&setup, &translate::Workload { namespace: namespace.to_owned(), labels }))
}

/// Which clients istiod lets a sidecar believe: those of its trust domain and of the aliases, by the mesh's roots.
pub(crate) fn trusting(roots: &str, domains: &[&str]) -> Value {
    let names =
        domains.iter().map(|domain| json!({"san_type": "URI", "matcher": {"prefix": format!("spiffe://{domain}/")}}));
    json!({"trusted_ca": {"filename": roots}, "match_typed_subject_alt_names": Value::from_iter(names)})
}

/// Which server istiod lets a sidecar believe: the one workload that must be there, by the mesh's roots.
pub(crate) fn expecting(roots: &str, id: &str) -> Value {
    let mut validation = exactly(id);
    validation["trusted_ca"] = json!({"filename": roots});
    validation
}

/// The part of it that is about the name.
pub(crate) fn exactly(id: &str) -> Value {
    json!({"match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": id}}]})
}

/// A sidecar in front of an application.
pub(crate) struct Inbound<'a> {
    pub(crate) files: &'a Files,
    pub(crate) validation: Value,
    pub(crate) filters: Vec<Value>,
    pub(crate) application: SocketAddr,
    /// The adapter, for a filter that asks one.
    pub(crate) adapter: u16,
}

impl Inbound<'_> {
    /// Starts it, with its files in a folder of its own.
    pub(crate) async fn start(self, folder: &Path, name: &str) -> Result<Envoy, String> {
        let mut filters = self.filters;
        filters.push(json!({
            "name": "envoy.filters.http.router",
            "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
        }));
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).map_err(text)?;
        let values = [
            ("APP_PORT", self.application.port().to_string()),
            ("CERTIFICATE", self.files.certificate.clone()),
            ("KEY", self.files.key.clone()),
            ("VALIDATION", self.validation.to_string()),
            ("FILTERS", Value::Array(filters).to_string()),
            ("ADAPTER_PORT", self.adapter.to_string()),
        ];
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Envoy::start("inbound", &values, &folder).await
    }
}

/// The way out of a sidecar: plain HTTP in, and mutual TLS to the server that `validation` lets it believe.
#[allow(dead_code, reason = "not every suite goes this way")]
pub(crate) async fn outbound(
    folder: &Path,
    name: &str,
    files: &Files,
    to: SocketAddr,
    validation: &Value,
) -> Result<Envoy, String> {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).map_err(text)?;
    let (port, validation) = (to.port().to_string(), validation.to_string());
    let values = [
        ("CERTIFICATE", files.certificate.as_str()),
        ("KEY", &files.key),
        ("VALIDATION", &validation),
        ("UPSTREAM_PORT", &port),
        ("SNI", "outbound_.9080_._.service.shop.svc.cluster.local"),
        ("PROTOCOL", "http_protocol_options"),
        ("ALPN", "istio-http/1.1, istio, http/1.1"),
    ];
    Envoy::start("outbound", &values, &folder).await
}
