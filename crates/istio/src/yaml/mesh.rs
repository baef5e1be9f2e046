use super::check::{is_host, kubernetes_name};
use super::meta::origin;
use super::nearest::quoted;
use super::node::{Place, Position, Value, documents};
use super::read::At;
use crate::MeshConfig;

/// Settings that change neither a verdict nor a route of ours. Extension providers count only with
/// CUSTOM policies, which are refused, and with `Telemetry`.
const IGNORED: &[&str] = &[
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "certificates",
    "configSources",
    "defaultConfig",
    "defaultProviders",
    "disableEnvoyListenerLog",
    "dnsRefreshRate",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "inboundClusterStatName",
    "outboundClusterStatName",
    "proxyInboundListenPort",
    "proxyListenPort",
    "proxyMetadata",
];
const NOT_YET: &[&str] = &[
    "caCertificates",
    "connectTimeout",
    "defaultDestinationRuleExportTo",
    "defaultHttpRetryPolicy",
    "defaultServiceExportTo",
    "defaultVirtualServiceExportTo",
    "discoverySelectors",
    "enableAutoMtls",
    "h2UpgradePolicy",
    "hboneIdleTimeout",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "localityLbSetting",
    "meshMTLS",
    "outboundTrafficPolicy",
    "pathNormalization",
    "protocolDetectionTimeout",
    "proxyHttpPort",
    "serviceScopeConfigs",
    "serviceSettings",
    "tcpKeepalive",
    "tlsDefaults",
    "trustDomainAliases",
    "verifyCertificateAtClient",
];

/// `data` of the ConfigMap `istio`; `document` is the ConfigMap.
pub(super) fn mesh(document: &At<'_>, data: &At<'_>) -> Option<MeshConfig> {
    data.mapping(&[], |fields| {
        let text = fields.required("mesh");
        // Istio's own installation carries it with this value.
        if let Some(networks) = fields.field("meshNetworks")
            && let Some(text) = networks.string()
            && text.trim() != "networks: {}"
        {
            networks.error("mesh networks are not supported yet; only `networks: {}` is");
        }
        let mut mesh = mesh_text(&text?)?;
        mesh.origin = Some(origin(document));
        Some(mesh)
    })
}

/// The YAML inside `data.mesh`, with errors at their place in the file.
fn mesh_text(at: &At<'_>) -> Option<MeshConfig> {
    let text = at.string()?;
    let roots = documents(&text, place(at), at.report);
    match roots.as_slice() {
        [] => Some(MeshConfig::default()),
        [root] => At::root(root, &at.path, at.report).mapping(NOT_YET, |fields| {
            let defaults = MeshConfig::default();
            let root_namespace = match fields.field("rootNamespace") {
                Some(namespace) => kubernetes_name(&namespace, 63, false),
                None => Some(defaults.root_namespace),
            };
            let trust_domain = match fields.field("trustDomain") {
                Some(domain) => trust_domain(&domain),
                None => Some(defaults.trust_domain),
            };
            fields.ignore(IGNORED);
            Some(MeshConfig { root_namespace: root_namespace?, trust_domain: trust_domain?, ..MeshConfig::default() })
        }),
        _ => {
            at.error("expected one YAML document, found several");
            None
        }
    }
}

/// SPIFFE-ID section 2.1: lower-case letters, digits, `.`, `-` and `_`, at most 255.
fn trust_domain(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !lower || !is_host(&text, false) {
        at.error(format!("expected a trust domain in lower case, found {}", quoted(&text)));
        return None;
    }
    Some(text)
}

/// Where the text of a scalar stands in its file.
fn place(at: &At<'_>) -> Place {
    match &at.node.value {
        Value::Scalar(scalar) if scalar.literal => {
            // The position is that of the first line with text; the empty lines in front of it
            // belong to the text.
            let Position { line, column } = at.node.position;
            let empty = scalar.text.bytes().take_while(|byte| *byte == b'\n').count();
            let empty = u32::try_from(empty).unwrap_or(u32::MAX);
            Place::Block { lines: line.saturating_sub(1).saturating_sub(empty), columns: column.saturating_sub(1) }
        }
        _ => Place::Scalar(at.node.position),
    }
}
