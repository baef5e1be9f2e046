//! The kinds of access as YAML.

use std::collections::BTreeMap;

use istio::*;

use crate::policy_printer;
use crate::traffic_printer::{self, duration, http_retry, outbound};
use crate::yaml::{Yaml, fields, list, plain, text, texts};

/// One YAML document for each resource, and one for the mesh.
pub(crate) fn documents(resources: &Resources) -> Vec<Yaml> {
    let mut all = vec![mesh(&resources.mesh)];
    all.extend(resources.authorization_policies.iter().map(authorization_policy));
    all.extend(resources.request_authentications.iter().map(request_authentication));
    all.extend(resources.peer_authentications.iter().map(peer_authentication));
    all.extend(resources.api_key_authentications.iter().map(api_key_authentication));
    all.extend(traffic_printer::documents(resources));
    all
}

pub(crate) fn print(documents: &[Yaml]) -> String {
    documents.iter().map(|document| format!("---{}", document.print())).collect()
}

pub(crate) fn document(api_version: &str, kind: &str, meta: &Meta, spec: Yaml) -> Yaml {
    fields([
        ("apiVersion", Some(text(api_version))),
        ("kind", Some(text(kind))),
        (
            "metadata",
            Some(fields([
                ("name", Some(text(&meta.name))),
                ("namespace", Some(text(&meta.namespace))),
                ("labels", data(&meta.labels)),
                ("annotations", data(&meta.annotations)),
            ])),
        ),
        (if kind == "ConfigMap" { "data" } else { "spec" }, Some(spec)),
    ])
}

pub(crate) fn data(map: &BTreeMap<String, String>) -> Option<Yaml> {
    (!map.is_empty()).then(|| Yaml::Data(map.iter().map(|(name, value)| (name.clone(), text(value))).collect()))
}

pub(crate) fn flag(value: bool) -> Option<Yaml> {
    value.then(|| plain(true))
}

fn selector(selector: Option<&WorkloadSelector>) -> Option<Yaml> {
    selector.map(|selector| fields([("matchLabels", data(&selector.match_labels))]))
}

fn targets(targets: &[TargetRef]) -> Option<Yaml> {
    list(targets, |target| {
        fields([
            ("group", Some(text(&target.group))),
            ("kind", Some(text(&target.kind))),
            ("name", Some(text(&target.name))),
            ("namespace", target.namespace.as_deref().map(text)),
        ])
    })
}

fn authorization_policy(policy: &AuthorizationPolicy) -> Yaml {
    let AuthorizationPolicy { meta, selector, target_refs, action, provider, dry_run: _, rules } = policy;
    let spec = fields([
        ("selector", self::selector(selector.as_ref())),
        ("targetRefs", targets(target_refs)),
        ("action", Some(text(action.as_str()))),
        ("provider", provider.as_deref().map(|name| fields([("name", Some(text(name)))]))),
        ("rules", rules.as_ref().map(|rules| Yaml::List(rules.iter().map(rule).collect()))),
    ]);
    document("security.istio.io/v1", "AuthorizationPolicy", meta, spec)
}

fn rule(rule: &Rule) -> Yaml {
    let Rule { from, to, when } = rule;
    fields([
        ("from", from.as_ref().map(|from| Yaml::List(from.iter().map(source).collect()))),
        ("to", to.as_ref().map(|to| Yaml::List(to.iter().map(operation).collect()))),
        ("when", when.as_ref().map(|when| Yaml::List(when.iter().map(condition).collect()))),
    ])
}

fn source(source: &Source) -> Yaml {
    let Source {
        principals,
        not_principals,
        request_principals,
        not_request_principals,
        namespaces,
        not_namespaces,
        service_accounts,
        not_service_accounts,
        trust_domains,
        not_trust_domains,
        ip_blocks,
        not_ip_blocks,
        remote_ip_blocks,
        not_remote_ip_blocks,
    } = source;
    let source = fields([
        ("principals", texts(principals)),
        ("notPrincipals", texts(not_principals)),
        ("requestPrincipals", texts(request_principals)),
        ("notRequestPrincipals", texts(not_request_principals)),
        ("namespaces", texts(namespaces)),
        ("notNamespaces", texts(not_namespaces)),
        ("serviceAccounts", texts(service_accounts)),
        ("notServiceAccounts", texts(not_service_accounts)),
        ("trustDomains", texts(trust_domains)),
        ("notTrustDomains", texts(not_trust_domains)),
        ("ipBlocks", texts(ip_blocks)),
        ("notIpBlocks", texts(not_ip_blocks)),
        ("remoteIpBlocks", texts(remote_ip_blocks)),
        ("notRemoteIpBlocks", texts(not_remote_ip_blocks)),
    ]);
    fields([("source", Some(source))])
}

fn operation(operation: &Operation) -> Yaml {
    let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    let operation = fields([
        ("hosts", texts(hosts)),
        ("notHosts", texts(not_hosts)),
        ("ports", texts(ports)),
        ("notPorts", texts(not_ports)),
        ("methods", texts(methods)),
        ("notMethods", texts(not_methods)),
        ("paths", texts(paths)),
        ("notPaths", texts(not_paths)),
    ]);
    fields([("operation", Some(operation))])
}

fn condition(condition: &Condition) -> Yaml {
    let Condition { key, values, not_values } = condition;
    fields([("key", Some(text(&key.to_string()))), ("values", texts(values)), ("notValues", texts(not_values))])
}

fn request_authentication(policy: &RequestAuthentication) -> Yaml {
    let RequestAuthentication { meta, selector, target_refs, jwt_rules } = policy;
    let spec = fields([
        ("selector", self::selector(selector.as_ref())),
        ("targetRefs", targets(target_refs)),
        ("jwtRules", list(jwt_rules, jwt_rule)),
    ]);
    document("security.istio.io/v1", "RequestAuthentication", meta, spec)
}

fn jwt_rule(rule: &JwtRule) -> Yaml {
    let JwtRule {
        issuer,
        audiences,
        jwks,
        jwks_uri,
        forward_original_token,
        from_headers,
        from_params,
        from_cookies,
        output_payload_to_header,
        output_claim_to_headers,
        timeout,
        space_delimited_claims,
        presence,
    } = rule;
    let header = |header: &JwtHeader| {
        let prefix = (!header.prefix.is_empty()).then(|| text(&header.prefix));
        fields([("name", Some(text(&header.name))), ("prefix", prefix)])
    };
    let output =
        |output: &ClaimToHeader| fields([("header", Some(text(&output.header))), ("claim", Some(text(&output.claim)))]);
    fields([
        ("issuer", (!issuer.is_empty()).then(|| text(issuer))),
        ("audiences", texts(audiences)),
        ("jwks", jwks.as_deref().map(text)),
        ("jwksUri", jwks_uri.as_deref().map(text)),
        ("forwardOriginalToken", flag(*forward_original_token)),
        ("fromHeaders", list(from_headers, header)),
        ("fromParams", texts(from_params)),
        ("fromCookies", texts(from_cookies)),
        ("outputPayloadToHeader", output_payload_to_header.as_deref().map(text)),
        ("outputClaimToHeaders", list(output_claim_to_headers, output)),
        ("timeout", timeout.map(|timeout| text(&format!("{}ms", timeout.as_millis())))),
        ("spaceDelimitedClaims", texts(space_delimited_claims)),
        (
            "presence",
            match presence {
                Presence::Unspecified => None,
                Presence::Optional => Some(text("OPTIONAL")),
                Presence::Required => Some(text("REQUIRED")),
            },
        ),
    ])
}

fn peer_authentication(policy: &PeerAuthentication) -> Yaml {
    let PeerAuthentication { meta, selector, mode, port_level } = policy;
    let ports = port_level.iter().map(|(port, mode)| (port.to_string(), self::mode(*mode)));
    let spec = fields([
        ("selector", self::selector(selector.as_ref())),
        ("mtls", Some(self::mode(*mode))),
        ("portLevelMtls", (!port_level.is_empty()).then(|| Yaml::Data(ports.collect()))),
    ]);
    document("security.istio.io/v1", "PeerAuthentication", meta, spec)
}

fn mode(mode: MtlsMode) -> Yaml {
    let word = match mode {
        MtlsMode::Unset => "UNSET",
        MtlsMode::Disable => "DISABLE",
        MtlsMode::Permissive => "PERMISSIVE",
        MtlsMode::Strict => "STRICT",
    };
    fields([("mode", Some(text(word)))])
}

fn api_key_authentication(policy: &ApiKeyAuthentication) -> Yaml {
    let ApiKeyAuthentication { meta, selector, issuer, header_name, forward_original_key } = policy;
    let spec = fields([
        ("selector", self::selector(selector.as_ref())),
        ("issuer", Some(text(issuer))),
        ("headerName", Some(text(header_name))),
        ("forwardOriginalKey", flag(*forward_original_key)),
    ]);
    document("causeway.dev/v1alpha1", "ApiKeyAuthentication", meta, spec)
}

fn mesh(mesh: &MeshConfig) -> Yaml {
    let MeshConfig {
        root_namespace,
        trust_domain,
        trust_domain_aliases,
        path_normalization,
        extension_providers,
        outbound_traffic_policy,
        locality_lb,
        default_http_retry_policy,
        connect_timeout,
        origin: _,
    } = mesh;
    let normalization = match path_normalization {
        PathNormalization::None => "NONE",
        PathNormalization::Base => "BASE",
        PathNormalization::MergeSlashes => "MERGE_SLASHES",
        PathNormalization::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
    };
    let config = fields([
        ("rootNamespace", Some(text(root_namespace))),
        ("trustDomain", Some(text(trust_domain))),
        ("trustDomainAliases", texts(trust_domain_aliases)),
        ("pathNormalization", Some(fields([("normalization", Some(text(normalization)))]))),
        ("extensionProviders", list(extension_providers, provider)),
        ("outboundTrafficPolicy", outbound_traffic_policy.map(outbound)),
        ("localityLbSetting", locality_lb.as_ref().map(policy_printer::locality_lb)),
        ("defaultHttpRetryPolicy", default_http_retry_policy.as_ref().map(http_retry)),
        ("connectTimeout", duration(*connect_timeout)),
    ]);
    let adapters: Vec<_> = extension_providers
        .iter()
        .filter(|provider| provider.is_adapter)
        .map(|provider| provider.name.as_str())
        .collect();
    let mut annotations = BTreeMap::new();
    if !adapters.is_empty() {
        annotations.insert("causeway.dev/adapter-providers".to_owned(), adapters.join(", "));
    }
    let meta = Meta {
        name: "istio".to_owned(),
        namespace: root_namespace.clone(),
        namespace_given: true,
        labels: BTreeMap::new(),
        annotations,
        origin: Origin::default(),
    };
    document("v1", "ConfigMap", &meta, fields([("mesh", Some(Yaml::Embedded(Box::new(config))))]))
}

/// Authorizers with an even status are printed as of HTTP, with everything that is read and not kept.
fn provider(provider: &ExtensionProvider) -> Yaml {
    let Some(authorizer) = &provider.authorizer else {
        let anything = Yaml::Data(vec![("port".to_owned(), plain(80))]);
        return fields([("name", Some(text(&provider.name))), ("zipkin", Some(anything))]);
    };
    let body = fields([
        ("maxRequestBytes", Some(plain(8))),
        ("allowPartialMessage", Some(plain(true))),
        ("packAsBytes", Some(plain(false))),
    ]);
    let headers = || Some(Yaml::List(vec![text("x-a*"), text("*-b")]));
    let http = authorizer.status_on_error % 2 == 0;
    let only_http = |value: Option<Yaml>| value.filter(|_| http);
    let settings = fields([
        ("service", Some(text("ns/authz.example"))),
        ("port", Some(plain(9000))),
        ("timeout", Some(text("1.5s"))),
        ("failOpen", Some(plain(authorizer.fail_open))),
        ("statusOnError", Some(text(&authorizer.status_on_error.to_string()))),
        ("clearRouteCache", Some(plain(false))),
        ("includeRequestBodyInCheck", Some(body)),
        ("pathPrefix", only_http(Some(text("/check")))),
        ("includeHeadersInCheck", only_http(headers())),
        ("includeRequestHeadersInCheck", only_http(headers())),
        ("includeAdditionalHeadersInCheck", only_http(Some(Yaml::Data(vec![("a".to_owned(), text("b"))])))),
        ("headersToUpstreamOnAllow", only_http(headers())),
        ("headersToDownstreamOnDeny", only_http(headers())),
        ("headersToDownstreamOnAllow", only_http(headers())),
    ]);
    let kind = if http { "envoyExtAuthzHttp" } else { "envoyExtAuthzGrpc" };
    fields([("name", Some(text(&provider.name))), (kind, Some(settings))])
}
