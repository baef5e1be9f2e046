use std::time::Duration;

use super::check::{distinct, is_label, kubernetes_name};
use super::locality::locality_lb;
use super::meta::{annotation, origin};
use super::nearest::{one_of, quoted};
use super::node::{Place, Position, Value, documents};
use super::provider::extension_provider;
use super::read::{At, Mapping};
use super::retry::http_retry;
use super::sidecar::mesh_traffic_policy;
use crate::{ExtensionProvider, MeshConfig, Meta, PathNormalization};

/// Settings that change neither a verdict nor a route of ours: access logs, traces and counters, addresses of Istio's
/// control plane, and ports and names inside of the proxy process.
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
    "inboundClusterStatName",
    "outboundClusterStatName",
    "proxyInboundListenPort",
    "proxyListenPort",
    "proxyMetadata",
];
const MAX_CONNECT_TIMEOUT: Duration = Duration::from_secs(3600);
const AS_DEFAULT: &str = "leave it out, for Istio's default";
const IN_RULES: &str = "leave it out, and set it in each DestinationRule";
const IN_ROUTES: &str = "leave it out, and set it in each VirtualService";
const VISIBLE: &str = "leave it out; every resource is visible in the whole mesh";
/// Settings that could change a verdict or a route, and what to do instead.
const NOT_YET: &[(&str, &str)] = &[
    ("ca", AS_DEFAULT),
    ("caCertificates", "leave it out, and give the certificates to the programs that verify them"),
    ("defaultDestinationRuleExportTo", VISIBLE),
    ("defaultInboundHttpRetryPolicy", IN_ROUTES),
    ("defaultServiceExportTo", VISIBLE),
    ("defaultTrafficPolicy", IN_RULES),
    ("defaultVirtualServiceExportTo", VISIBLE),
    ("discoverySelectors", "leave it out, and give only the resources of the namespaces that it selects"),
    ("enableAutoMtls", IN_RULES),
    ("h2UpgradePolicy", IN_RULES),
    ("hboneIdleTimeout", AS_DEFAULT),
    ("inboundTrafficPolicy", AS_DEFAULT),
    ("ingressClass", "leave it out; an Ingress is not read, write a Gateway and a VirtualService"),
    ("ingressControllerMode", "leave it out; an Ingress is not read, write a Gateway and a VirtualService"),
    ("ingressSelector", "leave it out; an Ingress is not read, write a Gateway and a VirtualService"),
    ("ingressService", "leave it out; an Ingress is not read, write a Gateway and a VirtualService"),
    ("meshMTLS", AS_DEFAULT),
    ("protocolDetectionTimeout", AS_DEFAULT),
    ("proxyHttpPort", AS_DEFAULT),
    ("serviceEntryVisibility", VISIBLE),
    ("serviceScopeConfigs", VISIBLE),
    ("serviceSettings", AS_DEFAULT),
    ("tcpKeepalive", IN_RULES),
    ("tlsDefaults", AS_DEFAULT),
    ("verifyCertificateAtClient", AS_DEFAULT),
    ("zoneAwareLbSetting", AS_DEFAULT),
];
const NORMALIZATIONS: &[(&str, PathNormalization)] = &[
    ("BASE", PathNormalization::Base),
    ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
    ("DEFAULT", PathNormalization::Base),
    ("MERGE_SLASHES", PathNormalization::MergeSlashes),
    ("NONE", PathNormalization::None),
];
/// Annotation of the ConfigMap: names of the providers that are our own adapter, with commas between them.
const ADAPTER_PROVIDERS: &str = "causeway.dev/adapter-providers";

/// `data` of the ConfigMap `istio`; `document` is the ConfigMap, `meta` its `metadata` unless that is wrong.
pub(super) fn mesh(document: &At<'_>, meta: Option<&Meta>, data: &At<'_>) -> Option<MeshConfig> {
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
        if let Some(meta) = meta {
            mark_adapters(document, meta, &mut mesh.extension_providers);
        }
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
        [root] => At::root(root, &at.path, at.report).mapping(&[], |fields| {
            let defaults = MeshConfig::default();
            let root_namespace = match fields.field("rootNamespace") {
                Some(namespace) => kubernetes_name(&namespace, 63, false),
                None => Some(defaults.root_namespace),
            };
            let trust_domain = match fields.field("trustDomain") {
                Some(domain) => self::trust_domain(&domain),
                None => Some(defaults.trust_domain),
            };
            let path_normalization = fields.field("pathNormalization").and_then(|at| {
                at.mapping(&[], |fields| {
                    let normalization = fields.field("normalization");
                    Some(normalization.and_then(|at| at.word(NORMALIZATIONS, &[])).unwrap_or_default())
                })
            });
            let trust_domain_aliases = fields.list("trustDomainAliases", self::trust_domain).unwrap_or_default();
            let extension_providers = extension_providers(fields);
            let outbound_traffic_policy = fields.field("outboundTrafficPolicy").and_then(|at| mesh_traffic_policy(&at));
            let locality_lb = fields.field("localityLbSetting").and_then(|at| locality_lb(&at));
            let default_http_retry_policy = fields.field("defaultHttpRetryPolicy").and_then(|at| http_retry(&at));
            let connect_timeout = fields.field("connectTimeout").and_then(|at| connect_timeout(&at));
            fields.ignore(IGNORED);
            refuse(fields);
            Some(MeshConfig {
                root_namespace: root_namespace?,
                trust_domain: trust_domain?,
                trust_domain_aliases,
                path_normalization: path_normalization.unwrap_or_default(),
                extension_providers,
                outbound_traffic_policy,
                locality_lb,
                default_http_retry_policy,
                connect_timeout,
                origin: None,
            })
        }),
        _ => {
            at.error("expected one YAML document, found several");
            None
        }
    }
}

fn extension_providers(fields: &mut Mapping<'_>) -> Vec<ExtensionProvider> {
    let Some(at) = fields.field("extensionProviders") else {
        return Vec::new();
    };
    let items = at.list().unwrap_or_default();
    let read: Vec<_> = items.iter().filter_map(|item| Some((item, extension_provider(item)?))).collect();
    // Istio: "extension provider name must be unique, found duplicate".
    for (index, (item, provider)) in read.iter().enumerate() {
        if let Some((first, _)) = read.iter().take(index).find(|(_, earlier)| earlier.name == provider.name) {
            item.error(format!(
                "the provider {} is already given in line {}",
                quoted(&provider.name),
                first.position().line
            ));
        }
    }
    read.into_iter().map(|(_, provider)| provider).collect()
}

fn mark_adapters(document: &At<'_>, meta: &Meta, providers: &mut [ExtensionProvider]) {
    let (Some(text), Some(at)) = (meta.annotations.get(ADAPTER_PROVIDERS), annotation(document, ADAPTER_PROVIDERS))
    else {
        return;
    };
    let names: Vec<_> = text.split(',').map(str::trim).collect();
    distinct(names.iter(), |name| at.error(format!("the provider {} is named twice", quoted(name))));
    for name in names {
        match providers.iter_mut().find(|provider| provider.name == name && provider.authorizer.is_some()) {
            Some(provider) => provider.is_adapter = true,
            None => {
                let known = providers.iter().filter(|provider| provider.authorizer.is_some());
                let known = one_of(known.map(|provider| provider.name.as_str()));
                at.error(format!("expected names of external authorizers ({known}), found {}", quoted(name)));
            }
        }
    }
}

/// Istio (`ValidateConnectTimeout`): from 1 ms to 1 h.
fn connect_timeout(at: &At<'_>) -> Option<Duration> {
    let timeout = at.whole_milliseconds()?;
    if timeout > MAX_CONNECT_TIMEOUT {
        at.error("expected at most `1h`");
        return None;
    }
    Some(timeout)
}

fn refuse(fields: &mut Mapping<'_>) {
    for (name, instead) in NOT_YET {
        if let Some(at) = fields.name_of(name) {
            at.error(format!(
                "the field `{name}` is not supported yet and could change a verdict or a route; {instead}"
            ));
        }
    }
}

/// Istio (`ValidateTrustDomain`): labels of DNS, in lower case; "allow the last part to be empty, for unambiguous names
/// like `istio.io.`". SPIFFE-ID section 2.1: at most 255.
fn trust_domain(at: &At<'_>) -> Option<String> {
    let text = at.non_empty_string()?;
    let label = |label: &str| label.len() <= 63 && is_label(label);
    let fits = text.len() <= 255 && text.strip_suffix('.').unwrap_or(&text).split('.').all(label);
    if !fits {
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
