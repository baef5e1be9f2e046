//! Istio's policies as the Envoy filters that istiod generates for a sidecar.
//!
//! This mirrors the structure of istio/istio (`pilot/pkg/security/authz/{builder,model,matcher}`, `trustdomain` and
//! `authn/policy_applier.go`, read at 86c9f01f), and shares no code with `authz`: it is the other half of the comparison.
//! Two deprecated fields are left behind: `metadata` of a principal or permission is `sourced_metadata` here.

use std::collections::BTreeMap;

use istio::{
    Action, AuthorizationPolicy, Condition, ConditionKey, ExtensionProvider, IpBlock, JwtRule, MeshConfig, Operation,
    PathNormalization, RequestAuthentication, Rule, Source, WorkloadSelector,
};
use serde_json::{Map, Value, json};

/// Everything that one listener enforces.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub mesh: MeshConfig,
    pub policies: Vec<AuthorizationPolicy>,
    pub authentications: Vec<RequestAuthentication>,
}

/// The workload behind the listener.
#[derive(Clone, Debug)]
pub struct Workload {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
}

const JWT_FILTER: &str = "envoy.filters.http.jwt_authn";
const RBAC_FILTER: &str = "envoy.filters.http.rbac";

/// The HTTP filters in front of the router, in Istio's order.
pub fn http_filters(setup: &Setup, workload: &Workload) -> Vec<Value> {
    let root = &setup.mesh.root_namespace;
    let applies = |namespace: &str, selector: Option<&WorkloadSelector>, targets: bool| {
        !targets
            && (namespace == root || namespace == workload.namespace)
            && selector.is_none_or(|selector| selector.selects(&workload.labels))
    };
    // The root namespace's come first.
    let mut policies: Vec<&AuthorizationPolicy> = setup
        .policies
        .iter()
        .filter(|policy| applies(&policy.meta.namespace, policy.selector.as_ref(), !policy.target_refs.is_empty()))
        .collect();
    policies.sort_by_key(|policy| policy.meta.namespace != *root);
    let mut authentications: Vec<&RequestAuthentication> = setup
        .authentications
        .iter()
        .filter(|authentication| {
            let targets = !authentication.target_refs.is_empty();
            applies(&authentication.meta.namespace, authentication.selector.as_ref(), targets)
        })
        .collect();
    authentications
        .sort_by_key(|authentication| (authentication.meta.namespace != *root, authentication.meta.name.clone()));
    let of = |action: Action| -> Vec<&AuthorizationPolicy> {
        policies.iter().copied().filter(|policy| policy.action == action).collect()
    };

    let mut filters = custom_filters(&of(Action::Custom), &setup.mesh);
    filters.extend(jwt_filter(&authentications));
    for (action, word) in [(Action::Audit, "LOG"), (Action::Deny, "DENY"), (Action::Allow, "ALLOW")] {
        filters.extend(rbac_filter(&of(action), word, &setup.mesh));
    }
    filters
}

/// `buildHTTPConnectionManager`, "Setup normalization".
pub fn normalization(setting: PathNormalization) -> Vec<(&'static str, Value)> {
    let action = match setting {
        PathNormalization::DecodeAndMergeSlashes => "UNESCAPE_AND_FORWARD",
        _ => "KEEP_UNCHANGED",
    };
    vec![
        ("normalize_path", json!(setting != PathNormalization::None)),
        (
            "merge_slashes",
            json!(matches!(setting, PathNormalization::MergeSlashes | PathNormalization::DecodeAndMergeSlashes)),
        ),
        ("path_with_escaped_slashes_action", json!(action)),
    ]
}

fn filter(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = json!(format!("type.googleapis.com/{kind}"));
    json!({"name": name, "typed_config": config})
}

fn rbac(config: Value) -> Value {
    filter(RBAC_FILTER, "envoy.extensions.filters.http.rbac.v3.RBAC", config)
}

// ---- builder

/// `build` and `buildHTTP` for ALLOW, DENY and AUDIT.
fn rbac_filter(policies: &[&AuthorizationPolicy], action: &str, mesh: &MeshConfig) -> Option<Value> {
    if policies.is_empty() {
        return None;
    }
    let mut config = json!({});
    for (dry_run, field) in [(false, "rules"), (true, "shadow_rules")] {
        let chosen: Vec<_> = policies.iter().copied().filter(|policy| policy.dry_run == dry_run).collect();
        if !chosen.is_empty() {
            config[field] = json!({"action": action, "policies": rbac_policies(&chosen, action, mesh, "")});
        }
    }
    match action {
        "ALLOW" => config["shadow_rules_stat_prefix"] = json!("istio_dry_run_allow_"),
        "DENY" => config["shadow_rules_stat_prefix"] = json!("istio_dry_run_deny_"),
        _ => {}
    }
    Some(rbac(config))
}

fn rbac_policies(policies: &[&AuthorizationPolicy], action: &str, mesh: &MeshConfig, prefix: &str) -> Value {
    let mut built = Map::new();
    for policy in policies {
        let name =
            |index: usize| format!("{prefix}ns[{}]-policy[{}]-rule[{index}]", policy.meta.namespace, policy.meta.name);
        let rules = policy.rules.as_deref().unwrap_or_default();
        for (index, rule) in rules.iter().enumerate() {
            let model = Model::new(&policy.meta.namespace, rule, mesh);
            if let Some(generated) = model.generate(action) {
                built.insert(name(index), generated);
            }
        }
        if rules.is_empty() {
            let never = |field: &str| json!([{field: {"any": true}}]);
            built.insert(name(0), json!({"permissions": never("not_rule"), "principals": never("not_id")}));
        }
    }
    Value::Object(built)
}

/// `build` and `buildHTTP` for CUSTOM.
fn custom_filters(policies: &[&AuthorizationPolicy], mesh: &MeshConfig) -> Vec<Value> {
    let mut providers: Vec<&str> = policies.iter().filter_map(|policy| policy.provider.as_deref()).collect();
    providers.sort_unstable();
    providers.dedup();
    let several = providers.len() > 1;
    let mut filters = Vec::new();
    for provider in providers {
        let own: Vec<_> =
            policies.iter().copied().filter(|policy| policy.provider.as_deref() == Some(provider)).collect();
        let enforced: Vec<_> = own.iter().copied().filter(|policy| !policy.dry_run).collect();
        let prefix = format!("istio-ext-authz-{provider}-");
        let rules = json!({"action": "DENY", "policies": rbac_policies(&enforced, "DENY", mesh, &prefix)});
        let known = mesh.extension_providers.iter().find(|known| known.name == provider);
        match known.filter(|known| known.authorizer.is_some() && !several) {
            // "Generate deny rules for all policies since we can't safely pick one provider", or there is none.
            None => filters.push(rbac(json!({"rules": rules}))),
            Some(known) => {
                filters.push(rbac(json!({"shadow_rules": rules, "shadow_rules_stat_prefix": "istio_ext_authz_"})));
                filters.push(ext_authz(known, &prefix));
            }
        }
    }
    filters
}

/// `buildExtAuthzHTTP` for a provider that runs on the cluster `upstream` and is told by its path which one it plays.
fn ext_authz(provider: &ExtensionProvider, prefix: &str) -> Value {
    let Some(authorizer) = &provider.authorizer else { return Value::Null };
    filter(
        "envoy.filters.http.ext_authz",
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        json!({
            "transport_api_version": "V3",
            "failure_mode_allow": authorizer.fail_open,
            "status_on_error": {"code": authorizer.status_on_error},
            "http_service": {
                "path_prefix": format!("/provider/{}", provider.name),
                "server_uri": {"uri": "http://provider", "cluster": "upstream", "timeout": "600s"},
            },
            "allowed_headers": {"patterns": [{"prefix": "x-custom-", "ignore_case": true}]},
            "filter_enabled_metadata": {
                "filter": RBAC_FILTER,
                "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}],
                "value": {"string_match": {"prefix": prefix.strip_suffix('-').unwrap_or(prefix)}},
            },
        }),
    )
}

// ---- model

/// One rule: permissions are its operations, principals its sources; the conditions are in each of them.
struct Model {
    permissions: Vec<Vec<Leaf>>,
    principals: Vec<Vec<Leaf>>,
}

/// A field or a condition: each side an OR.
struct Leaf {
    generator: Generator,
    values: Vec<String>,
    not_values: Vec<String>,
}

#[derive(Clone)]
enum Generator {
    DestinationIp,
    DestinationPort,
    Sni,
    EnvoyFilter(String, Vec<String>),
    Host,
    Path,
    Method,
    SourceIp,
    RemoteIp,
    Namespace,
    /// With the namespace of the policy.
    ServiceAccount(String),
    TrustDomain,
    Principal,
    RequestPrincipal,
    Claim(Vec<String>),
    Header(String),
}

impl Model {
    fn new(namespace: &str, rule: &Rule, mesh: &MeshConfig) -> Self {
        let (mut base_permission, mut base_principal) = (Vec::new(), Vec::new());
        for Condition { key, values, not_values } in rule.when.iter().flatten() {
            let generator = match key {
                ConditionKey::ConnectionSni => Generator::Sni,
                ConditionKey::DestinationIp => Generator::DestinationIp,
                ConditionKey::DestinationPort => Generator::DestinationPort,
                ConditionKey::EnvoyFilter { filter, path } => Generator::EnvoyFilter(filter.clone(), path.clone()),
                ConditionKey::RemoteIp => Generator::RemoteIp,
                ConditionKey::RequestAuthAudiences => Generator::Claim(vec!["aud".to_owned()]),
                ConditionKey::RequestAuthClaims(path) => Generator::Claim(path.clone()),
                ConditionKey::RequestAuthPresenter => Generator::Claim(vec!["azp".to_owned()]),
                ConditionKey::RequestAuthPrincipal => Generator::RequestPrincipal,
                ConditionKey::RequestHeader(name) => Generator::Header(name.clone()),
                ConditionKey::SourceIp => Generator::SourceIp,
                ConditionKey::SourceNamespace => Generator::Namespace,
                ConditionKey::SourcePrincipal => Generator::Principal,
                ConditionKey::SourceServiceAccount => Generator::ServiceAccount(namespace.to_owned()),
                ConditionKey::SourceTrustDomain => Generator::TrustDomain,
            };
            let permission = matches!(
                generator,
                Generator::Sni | Generator::DestinationIp | Generator::DestinationPort | Generator::EnvoyFilter(..)
            );
            let leaf = Leaf::new(generator, values, not_values, mesh);
            if permission { &mut base_permission } else { &mut base_principal }.extend(leaf);
        }
        Self {
            permissions: each(rule.to.as_deref(), base_permission, |operation| of_operation(operation, mesh)),
            principals: each(rule.from.as_deref(), base_principal, |source| of_source(namespace, source, mesh)),
        }
    }

    /// `Generate`: `None` leaves the rule out. No generator of HTTP filters fails for what the reader lets through.
    fn generate(&self, _action: &str) -> Option<Value> {
        let permissions: Vec<Value> = self.permissions.iter().map(|leaves| and("and_rules", "rules", leaves)).collect();
        let principals: Vec<Value> = self.principals.iter().map(|leaves| and("and_ids", "ids", leaves)).collect();
        Some(json!({"permissions": permissions, "principals": principals}))
    }
}

fn each<T>(parts: Option<&[T]>, base: Vec<Leaf>, leaves: impl Fn(&T) -> Vec<Leaf>) -> Vec<Vec<Leaf>> {
    let parts = parts.unwrap_or_default();
    if parts.is_empty() {
        return vec![base];
    }
    let copy = |leaf: &Leaf| Leaf {
        generator: leaf.generator.clone(),
        values: leaf.values.clone(),
        not_values: leaf.not_values.clone(),
    };
    parts.iter().map(|part| leaves(part).into_iter().chain(base.iter().map(copy)).collect()).collect()
}

fn of_source(namespace: &str, source: &Source, mesh: &MeshConfig) -> Vec<Leaf> {
    let blocks = |blocks: &[IpBlock]| -> Vec<String> { blocks.iter().map(IpBlock::to_string).collect() };
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
    [
        Leaf::new(Generator::Principal, principals, not_principals, mesh),
        Leaf::new(Generator::RequestPrincipal, request_principals, not_request_principals, mesh),
        Leaf::new(Generator::ServiceAccount(namespace.to_owned()), service_accounts, not_service_accounts, mesh),
        Leaf::new(Generator::TrustDomain, trust_domains, not_trust_domains, mesh),
        Leaf::new(Generator::Namespace, namespaces, not_namespaces, mesh),
        Leaf::new(Generator::RemoteIp, &blocks(remote_ip_blocks), &blocks(not_remote_ip_blocks), mesh),
        Leaf::new(Generator::SourceIp, &blocks(ip_blocks), &blocks(not_ip_blocks), mesh),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of_operation(operation: &Operation, mesh: &MeshConfig) -> Vec<Leaf> {
    let Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
    let text = |ports: &[u16]| -> Vec<String> { ports.iter().map(u16::to_string).collect() };
    [
        Leaf::new(Generator::Host, hosts, not_hosts, mesh),
        Leaf::new(Generator::Method, methods, not_methods, mesh),
        Leaf::new(Generator::Path, paths, not_paths, mesh),
        Leaf::new(Generator::DestinationPort, &text(ports), &text(not_ports), mesh),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Leaf {
    fn new(generator: Generator, values: &[String], not_values: &[String], mesh: &MeshConfig) -> Option<Self> {
        if values.is_empty() && not_values.is_empty() {
            return None;
        }
        // `MigrateTrustDomain`
        let migrated = |values: &[String]| match &generator {
            Generator::Principal => replace_trust_domain_aliases(values, mesh),
            Generator::TrustDomain => expand_trust_domain_aliases(values, mesh),
            _ => values.to_vec(),
        };
        let (values, not_values) = (migrated(values), migrated(not_values));
        Some(Self { generator, values, not_values })
    }

    /// `rule.permission` and `rule.principal`: up to two elements of the AND.
    fn matchers(&self) -> Vec<Value> {
        let (or, not) = if self.generator.is_permission() {
            (("or_rules", "rules"), "not_rule")
        } else {
            (("or_ids", "ids"), "not_id")
        };
        let mut both = Vec::new();
        for (values, negated) in [(&self.values, false), (&self.not_values, true)] {
            if values.is_empty() {
                continue;
            }
            let any = match self.generator.extended(values) {
                Some(extended) => extended,
                None => {
                    let list: Vec<Value> = values.iter().map(|value| self.generator.matcher(value)).collect();
                    json!({or.0: {or.1: list}})
                }
            };
            both.push(if negated { json!({not: any}) } else { any });
        }
        both
    }
}

fn and(field: &str, inner: &str, leaves: &[Leaf]) -> Value {
    let mut all: Vec<Value> = leaves.iter().flat_map(Leaf::matchers).collect();
    if all.is_empty() {
        all.push(json!({"any": true}));
    }
    json!({field: {inner: all}})
}

// ---- generator

impl Generator {
    fn is_permission(&self) -> bool {
        matches!(
            self,
            Self::DestinationIp
                | Self::DestinationPort
                | Self::Sni
                | Self::EnvoyFilter(..)
                | Self::Host
                | Self::Path
                | Self::Method
        )
    }

    /// The generators that take all their values at once.
    fn extended(&self, values: &[String]) -> Option<Value> {
        match self {
            Self::EnvoyFilter(name, path) => {
                let matchers = values.iter().map(|value| match value.strip_prefix('[') {
                    Some(inner) if value.ends_with(']') => {
                        let inner = inner.trim_start_matches('[').trim_end_matches(']');
                        json!({"list_match": {"one_of": {"string_match": string_matcher(inner)}}})
                    }
                    _ => json!({"string_match": string_matcher(value)}),
                });
                let value = or_matcher(matchers.collect());
                // The whole text behind the first bracket is one key, as istiod takes it.
                let key = path.join("][");
                Some(sourced(&json!({"filter": name, "path": [{"key": key}], "value": value})))
            }
            Self::RequestPrincipal => {
                let mut list: Vec<Value> = values.iter().map(|value| request_principal(value)).collect();
                if list.len() == 1 { list.pop() } else { Some(json!({"or_ids": {"ids": list}})) }
            }
            Self::Claim(path) => {
                let matchers = values.iter().map(|value| json!({"string_match": string_matcher(value)}));
                let value = or_matcher(matchers.collect());
                let path: Vec<Value> = std::iter::once("payload")
                    .chain(path.iter().map(String::as_str))
                    .map(|k| json!({"key": k}))
                    .collect();
                // `MetadataListValueMatcher` with `useExtendedJwt`.
                let either = json!({"or_match": {"value_matchers": [{"list_match": {"one_of": value}}, value]}});
                Some(sourced(&json!({"filter": JWT_FILTER, "path": path, "value": either})))
            }
            _ => None,
        }
    }

    fn matcher(&self, value: &str) -> Value {
        let authenticated = |matcher: Value| json!({"authenticated": {"principal_name": matcher}});
        let regex = |regex: String| json!({"safe_regex": {"regex": regex}});
        match self {
            Self::DestinationIp => json!({"destination_ip": cidr(value)}),
            Self::DestinationPort => json!({"destination_port": value.parse::<u16>().unwrap_or_default()}),
            Self::Sni => json!({"requested_server_name": string_matcher(value)}),
            Self::Host => json!({"header": header_matcher(":authority", value, true)}),
            Self::Method => json!({"header": header_matcher(":method", value, false)}),
            Self::Path if value.contains("{*}") || value.contains("{**}") => json!({"uri_template": {
                "name": "uri-template",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                    "path_template": value.replace("{**}", "**").replace("{*}", "*"),
                },
            }}),
            Self::Path => json!({"url_path": {"path": string_matcher(value)}}),
            Self::SourceIp => json!({"direct_remote_ip": cidr(value)}),
            Self::RemoteIp => json!({"remote_ip": cidr(value)}),
            Self::Namespace => {
                let parts: Vec<String> = value.split('*').map(quote_meta).collect();
                authenticated(regex(format!(".*/ns/{}/.*", parts.join(".*"))))
            }
            Self::ServiceAccount(own) => {
                let (namespace, name) = value.split_once('/').unwrap_or((own, value));
                let (namespace, name) = (quote_meta(namespace), quote_meta(name));
                authenticated(regex(format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?")))
            }
            Self::TrustDomain => authenticated(match value.split_once('*') {
                _ if value == "*" => json!({"prefix": "spiffe://"}),
                None => json!({"prefix": format!("spiffe://{value}/")}),
                Some((front, back)) => regex(format!("spiffe://{}[^/]*{}/.*", quote_meta(front), quote_meta(back))),
            }),
            Self::Principal => authenticated(string_matcher_with_prefix(value, "spiffe://")),
            Self::Header(name) => json!({"header": header_matcher(name, value, false)}),
            Self::EnvoyFilter(..) | Self::RequestPrincipal | Self::Claim(_) => Value::Null,
        }
    }
}

fn sourced(matcher: &Value) -> Value {
    json!({"sourced_metadata": {"metadata_matcher": matcher}})
}

/// `requestPrincipalGenerator.extendedPrincipal` for one value.
fn request_principal(value: &str) -> Value {
    let any = || json!({"safe_regex": {"regex": ".+"}});
    let exact = |text: &str| json!({"exact": text});
    let suffix = |text: &str| json!({"suffix": text});
    let prefix = |text: &str| json!({"prefix": text});
    // "Use the last index of "/" since issuer may be an URL"
    let split = value.rfind('/').map(|at| (&value[..at], &value[at + 1..]));
    let (iss, sub) = if value == "*" {
        (any(), any())
    } else if value.starts_with('*') {
        match split {
            Some(("*", sub)) => (any(), exact(sub)),
            Some((iss, sub)) => (suffix(iss.strip_prefix('*').unwrap_or(iss)), exact(sub)),
            None => (any(), suffix(value.strip_prefix('*').unwrap_or(value))),
        }
    } else if value.ends_with('*') {
        match split {
            Some((iss, "*")) => (exact(iss), any()),
            Some((iss, sub)) => (exact(iss), prefix(sub.strip_suffix('*').unwrap_or(sub))),
            None => (prefix(value.strip_suffix('*').unwrap_or(value)), any()),
        }
    } else {
        let (iss, sub) = split.unwrap_or((value, ""));
        (exact(iss), exact(sub))
    };
    let claim = |name: &str, matcher: Value| {
        sourced(&json!({
            "filter": JWT_FILTER,
            "path": [{"key": "payload"}, {"key": name}],
            "value": {"string_match": matcher},
        }))
    };
    json!({"and_ids": {"ids": [claim("iss", iss), claim("sub", sub)]}})
}

// ---- matcher

fn string_matcher(value: &str) -> Value {
    string_matcher_with_prefix(value, "")
}

/// `StringMatcherWithPrefix`
fn string_matcher_with_prefix(value: &str, prefix: &str) -> Value {
    if value == "*" {
        json!({"safe_regex": {"regex": ".+"}})
    } else if let Some(suffix) = value.strip_prefix('*') {
        if prefix.is_empty() {
            json!({"suffix": suffix})
        } else {
            json!({"safe_regex": {"regex": format!("{prefix}.*{}", quote_meta(suffix))}})
        }
    } else if let Some(front) = value.strip_suffix('*') {
        json!({"prefix": format!("{prefix}{front}")})
    } else {
        json!({"exact": format!("{prefix}{value}")})
    }
}

/// `HeaderMatcher` and `HostMatcher`
fn header_matcher(name: &str, value: &str, ignore_case: bool) -> Value {
    let matcher = if value == "*" {
        return json!({"name": name, "present_match": true});
    } else if let Some(suffix) = value.strip_prefix('*') {
        json!({"suffix": suffix, "ignore_case": ignore_case})
    } else if let Some(front) = value.strip_suffix('*') {
        json!({"prefix": front, "ignore_case": ignore_case})
    } else {
        json!({"exact": value, "ignore_case": ignore_case})
    };
    json!({"name": name, "string_match": matcher})
}

/// `OrMatcher`: Envoy refuses an OR of one.
fn or_matcher(mut matchers: Vec<Value>) -> Value {
    match matchers.pop() {
        Some(only) if matchers.is_empty() => only,
        last => {
            matchers.extend(last);
            json!({"or_match": {"value_matchers": matchers}})
        }
    }
}

fn cidr(value: &str) -> Value {
    match value.parse::<IpBlock>() {
        Ok(block) => json!({"address_prefix": block.address.to_string(), "prefix_len": block.prefix}),
        Err(_) => Value::Null,
    }
}

/// Go's `regexp.QuoteMeta`
fn quote_meta(text: &str) -> String {
    let mut quoted = String::new();
    for character in text.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            quoted.push('\\');
        }
        quoted.push(character);
    }
    quoted
}

// ---- trustdomain

fn trust_domains(mesh: &MeshConfig) -> Vec<String> {
    std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).cloned().collect()
}

fn replace_trust_domain_aliases(principals: &[String], mesh: &MeshConfig) -> Vec<String> {
    let known = trust_domains(mesh);
    let mut replaced = Vec::new();
    for principal in principals {
        let parts: Vec<&str> = principal.split('/').collect();
        let [own, rest @ ..] = parts.as_slice() else { continue };
        let enforced = parts.len() == 5 && *own != "*";
        if !enforced || !(string_match(own, &known) || *own == "cluster.local") {
            replaced.push(principal.clone());
            continue;
        }
        let mut aliases: Vec<String> = Vec::new();
        for domain in &known {
            let new =
                if suffix_match(domain, own) { principal.clone() } else { format!("{domain}/{}", rest.join("/")) };
            if !aliases.contains(&new) {
                aliases.push(new);
            }
        }
        replaced.extend(aliases);
    }
    replaced
}

fn expand_trust_domain_aliases(values: &[String], mesh: &MeshConfig) -> Vec<String> {
    let known = trust_domains(mesh);
    let mut expanded: Vec<String> = Vec::new();
    for value in values {
        let all = if known.contains(value) { known.clone() } else { vec![value.clone()] };
        for one in all {
            if !expanded.contains(&one) {
                expanded.push(one);
            }
        }
    }
    expanded
}

/// "The pattern can be in the string or the list."
fn string_match(text: &str, list: &[String]) -> bool {
    list.iter().any(|other| {
        text == other
            || other == "*"
            || prefix_match(text, other)
            || prefix_match(other, text)
            || suffix_match(text, other)
            || suffix_match(other, text)
    })
}

fn prefix_match(text: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|front| text.starts_with(front))
}

fn suffix_match(text: &str, pattern: &str) -> bool {
    pattern.strip_prefix('*').is_some_and(|back| text.ends_with(back))
}

// ---- authn

/// `convertToEnvoyJwtConfig`
fn jwt_filter(authentications: &[&RequestAuthentication]) -> Option<Value> {
    let mut rules: Vec<&JwtRule> = authentications.iter().flat_map(|a| a.jwt_rules.iter()).collect();
    rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    if rules.is_empty() {
        return None;
    }
    let mut providers = Map::new();
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        let name = format!("origins-{index}");
        inner.push(json!({"requires_any": {"requirements": [{"provider_name": name}, {"allow_missing": {}}]}}));
        outer.push(json!({"provider_name": name}));
        providers.insert(name, provider(rule));
    }
    let requires = if inner.len() == 1 {
        inner.remove(0)
    } else {
        outer.push(json!({"requires_all": {"requirements": inner}}));
        json!({"requires_any": {"requirements": outer}})
    };
    Some(filter(
        JWT_FILTER,
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        json!({
            "providers": providers,
            "rules": [{"match": {"prefix": "/"}, "requires": requires}],
            "bypass_cors_preflight": true,
        }),
    ))
}

fn provider(rule: &JwtRule) -> Value {
    let mut space_delimited = rule.space_delimited_claims.clone();
    space_delimited.extend(["permission".to_owned(), "scope".to_owned()]);
    space_delimited.sort();
    space_delimited.dedup();
    let headers = rule.from_headers.iter().map(|h| json!({"name": h.name, "value_prefix": h.prefix}));
    let outputs = rule.output_claim_to_headers.iter();
    let mut provider = json!({
        "issuer": rule.issuer,
        "audiences": rule.audiences,
        "forward": rule.forward_original_token,
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": {"space_delimited_claims": space_delimited},
        "from_headers": headers.collect::<Vec<_>>(),
        "from_params": rule.from_params,
        "from_cookies": rule.from_cookies,
        "claim_to_headers":
            outputs.map(|o| json!({"header_name": o.header, "claim_name": o.claim})).collect::<Vec<_>>(),
        "local_jwks": {"inline_string": rule.jwks},
    });
    if let Some(header) = &rule.output_payload_to_header {
        provider["forward_payload_header"] = json!(header);
    }
    provider
}
