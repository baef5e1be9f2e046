//! From Istio's resources to the compiled form: once, when a bundle is made.
//!
//! Everything that this crate cannot represent exactly is an error here. Nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use istio::{
    Action, ConditionKey, Gateway, Meta, Resources, ServerTlsMode, ServiceEntry, TargetPort, VirtualService,
    WorkloadSelector, full_host,
};
use rkyv::rancor;

use crate::api_key::fingerprint;
use crate::compiled::{
    ApiGateway, ApiKeyAuthentication, AuthorizationPolicy, ClaimCondition, ClaimToHeader, Condition, Destination,
    HeaderCondition, JwtRule, KeySource, Label, Mode, Namespace, Namespaces, Operation, Patterns, PolicySet, Ports,
    RequestAuthentication, RequestPrincipals, Route, Rule, Source, TokenHeader, UriMatch, VERSION, VirtualHost,
};
use crate::hops::covers;
use crate::jwk::{Jwks, KeyOrigin};
use crate::jwt::normal_audience;
use crate::matchers::{NamespaceGlob, Pattern, RequestPrincipal};

/// `AuthorizationPolicy` documents in one bundle, at most.
pub const MAX_POLICIES: usize = 10_000;

/// Rules in one bundle, at most.
pub const MAX_RULES: usize = 100_000;

/// Values of rules in one bundle, at most.
pub const MAX_VALUES: usize = 1_000_000;

/// What is compiled beside the resources.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Key sets that were fetched for the bundle: issuer → JWKS document. They serve the rules of that
    /// issuer that name a `jwksUri`, or neither keys nor a place for them.
    pub jwks: BTreeMap<String, String>,
    /// How strictly tokens are read.
    pub mode: Mode,
}

/// One thing that keeps the resources from being compiled, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct CompileError {
    /// File of the document.
    pub file: String,
    /// Line of the document's first field, counted from 1; 0 when no document is to blame.
    pub line: u32,
    /// What was found, what was expected and what to do.
    pub message: String,
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.file, self.line)?;
        }
        f.write_str(&self.message)
    }
}

/// Compiles `resources` into what [`Policies::open`](crate::Policies::open) opens: the section of a bundle
/// that is about access.
///
/// # Errors
/// Every reason why it cannot be done, at once.
pub fn compile(resources: &Resources, options: &CompileOptions) -> Result<Vec<u8>, Vec<CompileError>> {
    let mut compiler =
        Compiler { resources, options, errors: Vec::new(), key_sources: Vec::new(), selected: BTreeSet::new() };
    let set = compiler.policy_set();
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    match rkyv::to_bytes::<rancor::Error>(&set) {
        Ok(bytes) => Ok(bytes.into_vec()),
        Err(error) => Err(vec![CompileError {
            file: String::new(),
            line: 0,
            message: format!("policies cannot be written: {error}"),
        }]),
    }
}

struct Compiler<'a> {
    resources: &'a Resources,
    options: &'a CompileOptions,
    errors: Vec<CompileError>,
    key_sources: Vec<KeySource>,
    /// Destinations that were compared with the selectors already.
    selected: BTreeSet<String>,
}

impl<'a> Compiler<'a> {
    fn error(&mut self, meta: &Meta, message: impl fmt::Display) {
        self.errors.push(CompileError {
            file: meta.origin.file.clone(),
            line: meta.origin.line,
            message: format!("{}/{}: {message}", meta.namespace, meta.name),
        });
    }

    fn policy_set(&mut self) -> PolicySet {
        self.check_sizes();
        let resources = self.resources;
        let mut namespaces: BTreeMap<String, Namespace> = BTreeMap::new();
        for policy in &resources.authorization_policies {
            let compiled = self.authorization_policy(policy);
            let namespace = namespaces.entry(policy.meta.namespace.clone()).or_default();
            match policy.action {
                Action::Allow => namespace.allow.push(compiled),
                Action::Deny => namespace.deny.push(compiled),
            }
        }
        for authentication in &resources.request_authentications {
            let compiled = self.request_authentication(authentication);
            let namespace = namespaces.entry(authentication.meta.namespace.clone()).or_default();
            namespace.request_authentications.push(compiled);
        }
        for authentication in &resources.api_key_authentications {
            let compiled = self.api_key_authentication(authentication);
            let namespace = namespaces.entry(authentication.meta.namespace.clone()).or_default();
            namespace.api_key_authentications.push(compiled);
        }
        // Sorted by name, as the lookup needs it.
        let namespaces = namespaces
            .into_iter()
            .map(|(name, mut namespace)| {
                // Istio orders by creation time, then by name; a file has no creation time.
                namespace.request_authentications.sort_by(|a, b| a.name.cmp(&b.name));
                namespace.name = name;
                namespace
            })
            .collect();
        self.check_api_gateways();
        let api_gateways = resources.api_gateways.iter().map(|gateway| self.api_gateway(gateway)).collect();
        PolicySet {
            version: VERSION,
            mode: self.options.mode,
            root_namespace: resources.mesh.root_namespace.clone(),
            trust_domain: resources.mesh.trust_domain.clone(),
            namespaces,
            key_sources: std::mem::take(&mut self.key_sources),
            api_gateways,
        }
    }

    fn check_sizes(&mut self) {
        let policies = &self.resources.authorization_policies;
        let rules = || policies.iter().flat_map(|policy| policy.rules.iter().flatten());
        let values: usize = rules().map(values_of).sum();
        let sizes = [
            ("policies", policies.len(), MAX_POLICIES),
            ("rules", rules().count(), MAX_RULES),
            ("values", values, MAX_VALUES),
        ];
        for (what, found, most) in sizes {
            if found > most {
                self.errors.push(CompileError {
                    file: String::new(),
                    line: 0,
                    message: format!("found {found} {what}, expected at most {most}"),
                });
            }
        }
    }

    // ---- access

    fn authorization_policy(&mut self, policy: &istio::AuthorizationPolicy) -> AuthorizationPolicy {
        if !policy.target_refs.is_empty() {
            self.error(&policy.meta, "targetRefs are not supported yet; use a selector");
        }
        let rules = policy.rules.as_deref().unwrap_or_default();
        if rules.is_empty() && policy.action == Action::Deny {
            // Istio: "a DENY policy without rules is rejected by validation".
            self.error(&policy.meta, "a DENY policy needs rules: without them it never matches");
        }
        let rules = rules.iter().map(|rule| self.rule(&policy.meta, rule)).collect();
        let selector = labels(policy.selector.as_ref());
        AuthorizationPolicy { name: policy.meta.name.clone(), selector, rules }
    }

    fn rule(&mut self, meta: &Meta, rule: &istio::Rule) -> Rule {
        let istio::Rule { from, to, when } = rule;
        for (name, empty) in
            [("from", from.as_ref().is_some_and(Vec::is_empty)), ("to", to.as_ref().is_some_and(Vec::is_empty))]
        {
            if empty {
                // An empty list would restrict nothing once compiled.
                self.error(meta, format!("{name} is an empty list; leave it out or fill it"));
            }
        }
        let mut needs_port = false;
        let from = from.iter().flatten().map(|source| self.source(meta, source)).collect();
        let to = to
            .iter()
            .flatten()
            .map(|operation| {
                needs_port |= !operation.ports.is_empty() || !operation.not_ports.is_empty();
                self.operation(meta, operation)
            })
            .collect();
        let when = when
            .iter()
            .flatten()
            .filter_map(|condition| {
                needs_port |= condition.key == ConditionKey::DestinationPort;
                self.condition(meta, condition)
            })
            .collect();
        Rule { from, to, when, needs_port }
    }

    fn source(&mut self, meta: &Meta, source: &istio::Source) -> Source {
        let istio::Source {
            principals,
            not_principals,
            request_principals,
            not_request_principals,
            namespaces,
            not_namespaces,
        } = source;
        let lists =
            [principals, not_principals, request_principals, not_request_principals, namespaces, not_namespaces];
        self.check_fields(meta, "source", &lists, 0);
        Source {
            principals: self.principals(principals, not_principals),
            request_principals: request_principals_of(request_principals, not_request_principals),
            namespaces: self.namespaces(meta, namespaces, not_namespaces),
        }
    }

    fn operation(&mut self, meta: &Meta, operation: &istio::Operation) -> Operation {
        let istio::Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
        let lists = [hosts, not_hosts, methods, not_methods, paths, not_paths];
        self.check_fields(meta, "operation", &lists, ports.len() + not_ports.len());
        for path in paths.iter().chain(not_paths) {
            // Istio reads braces as a path template, which is another matcher.
            if path.contains("{*}") || path.contains("{**}") {
                self.error(meta, format!("the path template {path:?} is not supported yet"));
            }
        }
        Operation {
            hosts: patterns(hosts, not_hosts),
            ports: Ports { values: ports.clone(), not_values: not_ports.clone() },
            methods: patterns(methods, not_methods),
            paths: patterns(paths, not_paths),
        }
    }

    /// "At least one field"; and no empty value, which Istio refuses as well.
    fn check_fields(&mut self, meta: &Meta, what: &str, lists: &[&Vec<String>], others: usize) {
        if others == 0 && lists.iter().all(|list| list.is_empty()) {
            self.error(meta, format!("{what} has no field; fill it or leave out its list"));
        }
        if lists.iter().any(|list| list.iter().any(String::is_empty)) {
            self.error(meta, format!("{what} has an empty value"));
        }
    }

    fn condition(&mut self, meta: &Meta, condition: &istio::Condition) -> Option<Condition> {
        let istio::Condition { key, values, not_values } = condition;
        self.check_fields(meta, "condition", &[values, not_values], 0);
        Some(match key {
            ConditionKey::DestinationPort => {
                Condition::Port(Ports { values: self.ports(meta, values)?, not_values: self.ports(meta, not_values)? })
            }
            ConditionKey::RequestAuthAudiences => claim(&["aud".to_owned()], values, not_values),
            ConditionKey::RequestAuthPresenter => claim(&["azp".to_owned()], values, not_values),
            ConditionKey::RequestAuthClaims(path) => {
                if path.is_empty() {
                    self.error(meta, "request.auth.claims names no claim");
                }
                claim(path, values, not_values)
            }
            ConditionKey::RequestAuthPrincipal => {
                Condition::RequestPrincipal(request_principals_of(values, not_values))
            }
            ConditionKey::RequestHeader(name) => Condition::Header(HeaderCondition {
                name: name.to_ascii_lowercase(),
                patterns: patterns(values, not_values),
            }),
            ConditionKey::SourceNamespace => Condition::Namespace(self.namespaces(meta, values, not_values)),
            ConditionKey::SourcePrincipal => Condition::Principal(self.principals(values, not_values)),
        })
    }

    fn ports(&mut self, meta: &Meta, values: &[String]) -> Option<Vec<u16>> {
        let ports: Result<Vec<u16>, _> = values.iter().map(|value| value.parse()).collect();
        if ports.is_err() {
            self.error(meta, "destination.port has a value that is not a port number");
        }
        ports.ok()
    }

    fn namespaces(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> Namespaces {
        let mut globs = |values: &[String]| {
            let globs: Option<Vec<_>> = values.iter().map(|value| NamespaceGlob::parse(value)).collect();
            globs.unwrap_or_else(|| {
                self.error(meta, "a namespace has a line feed");
                Vec::new()
            })
        };
        Namespaces { values: globs(values), not_values: globs(not_values) }
    }

    fn principals(&self, values: &[String], not_values: &[String]) -> Patterns {
        let migrated = |values: &[String]| values.iter().map(|value| Pattern::parse(&self.migrated(value))).collect();
        Patterns { values: migrated(values), not_values: migrated(not_values) }
    }

    /// Istio: `cluster.local` in a principal "is a pointer to the local trust domain", whatever that is
    /// called; a value that is not five segments long, or whose first is `*`, enforces no trust domain.
    fn migrated(&self, principal: &str) -> String {
        let own = &self.resources.mesh.trust_domain;
        match principal.split_once('/') {
            Some(("cluster.local", rest)) if principal.split('/').count() == 5 => {
                format!("{own}/{rest}")
            }
            _ => principal.to_owned(),
        }
    }

    // ---- authentication

    fn request_authentication(&mut self, authentication: &istio::RequestAuthentication) -> RequestAuthentication {
        let meta = &authentication.meta;
        if !authentication.target_refs.is_empty() {
            self.error(meta, "targetRefs are not supported yet; use a selector");
        }
        RequestAuthentication {
            name: meta.name.clone(),
            selector: labels(authentication.selector.as_ref()),
            rules: authentication.jwt_rules.iter().map(|rule| self.jwt_rule(meta, rule)).collect(),
        }
    }

    fn jwt_rule(&mut self, meta: &Meta, rule: &istio::JwtRule) -> JwtRule {
        // "Default locations when none set: header Authorization with prefix "Bearer " and query
        // access_token. Any explicit location replaces both."
        let (headers, parameters) = if rule.from_headers.is_empty() {
            let bearer = TokenHeader { name: "authorization".to_owned(), prefix: "Bearer ".to_owned() };
            (vec![bearer], vec!["access_token".to_owned()])
        } else {
            let headers = rule
                .from_headers
                .iter()
                .map(|header| TokenHeader { name: header.name.to_ascii_lowercase(), prefix: header.prefix.clone() });
            (headers.collect(), Vec::new())
        };
        let outputs = rule.output_claim_to_headers.iter().map(|output| ClaimToHeader {
            header: output.header.to_ascii_lowercase(),
            path: output.claim.split('.').map(str::to_owned).collect(),
        });
        JwtRule {
            issuer: rule.issuer.clone(),
            audiences: rule.audiences.iter().map(|audience| normal_audience(audience).to_owned()).collect(),
            keys: self.key_source(meta, rule),
            forward_original_token: rule.forward_original_token,
            headers,
            parameters,
            outputs: outputs.collect(),
        }
    }

    fn key_source(&mut self, meta: &Meta, rule: &istio::JwtRule) -> u32 {
        let given = self.options.jwks.get(&rule.issuer).filter(|_| !rule.issuer.is_empty());
        let (jwks_uri, document, origin) = match (&rule.jwks, &rule.jwks_uri) {
            (Some(_), Some(_)) => {
                self.error(meta, format!("issuer {} has both jwks and jwksUri", rule.issuer));
                return 0;
            }
            (Some(inline), None) => (None, Some(inline), KeyOrigin::Inline),
            (None, Some(uri)) => (Some(uri), given, KeyOrigin::Fetched),
            (None, None) => {
                if given.is_none() {
                    self.error(
                        meta,
                        format!(
                            "issuer {:?} has neither jwks nor jwksUri, and finding its keys by \
                             discovery is not supported yet; name its jwksUri",
                            rule.issuer
                        ),
                    );
                }
                (None, given, KeyOrigin::Fetched)
            }
        };
        if let Some(document) = document {
            match Jwks::parse(document, origin) {
                Ok(jwks) if jwks.is_empty() => {
                    let why: BTreeSet<&str> = jwks.skipped().iter().map(|key| key.why).collect();
                    let why: Vec<&str> = why.into_iter().collect();
                    let issuer = &rule.issuer;
                    let why = why.join(", ");
                    self.error(meta, format!("key set of {issuer} has no usable key: {why}"));
                }
                Ok(_) => {}
                Err(error) => {
                    self.error(meta, format!("key set of {}: {error}", rule.issuer));
                }
            }
        }
        let source = KeySource {
            issuer: rule.issuer.clone(),
            jwks_uri: jwks_uri.cloned(),
            document: document.cloned(),
            fingerprint: document.map(|document| fingerprint(document)),
        };
        // Fetched keys go by their URL alone.
        let other = self.key_sources.iter().any(|known| {
            known.jwks_uri.is_some()
                && known.jwks_uri == source.jwks_uri
                && known.document != source.document
                && known.document.is_some()
                && source.document.is_some()
        });
        if other {
            let uri = source.jwks_uri.as_deref().unwrap_or_default();
            self.error(meta, format!("two different key sets were given for {uri}"));
        }
        let index = self.key_sources.iter().position(|known| *known == source);
        let index = index.unwrap_or_else(|| {
            self.key_sources.push(source);
            self.key_sources.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    fn api_key_authentication(&mut self, authentication: &istio::ApiKeyAuthentication) -> ApiKeyAuthentication {
        let meta = &authentication.meta;
        if authentication.issuer.is_empty() || authentication.header_name.is_empty() {
            self.error(meta, "issuer and headerName must not be empty");
        }
        ApiKeyAuthentication {
            name: meta.name.clone(),
            selector: labels(authentication.selector.as_ref()),
            issuer: authentication.issuer.clone(),
            header_name: authentication.header_name.to_ascii_lowercase(),
            forward_original_key: authentication.forward_original_key,
        }
    }

    // ---- API Gateway

    fn check_api_gateways(&mut self) {
        let gateways = &self.resources.api_gateways;
        for (index, gateway) in gateways.iter().enumerate() {
            for other in gateways.iter().take(index) {
                if (&gateway.api_id, &gateway.stage) == (&other.api_id, &other.stage) {
                    let origin = &other.meta.origin;
                    self.error(&gateway.meta, format!("the same apiId and stage as the ApiGateway at {origin}"));
                }
            }
        }
    }

    fn api_gateway(&mut self, gateway: &istio::ApiGateway) -> ApiGateway {
        let meta = &gateway.meta;
        let (port, virtual_hosts) = match self.find_gateway(&gateway.gateway) {
            Some(played) => {
                if !played.selector.selects(&gateway.workload.labels) {
                    self.error(
                        meta,
                        format!(
                            "the Gateway {} at {} does not select a workload with these labels",
                            gateway.gateway, played.meta.origin
                        ),
                    );
                }
                if http_servers(played)
                    .any(|server| server.tls.as_ref().is_some_and(|tls| tls.mode == ServerTlsMode::Mutual))
                {
                    // Nobody here would ask for the certificate that the Gateway demands.
                    self.error(
                        meta,
                        format!(
                            "the Gateway {} at {} asks clients for certificates (tls.mode MUTUAL), which is not \
                             supported yet for an API; use SIMPLE",
                            gateway.gateway, played.meta.origin
                        ),
                    );
                }
                let ports: BTreeSet<u16> = http_servers(played).map(|server| server.port.number).collect();
                let port = if ports.len() == 1 { ports.first().copied() } else { None };
                (port, self.virtual_hosts(&gateway.gateway, played))
            }
            None => {
                let name = &gateway.gateway;
                self.error(meta, format!("there is no Gateway {name}; add it or name another"));
                (None, Vec::new())
            }
        };
        ApiGateway {
            name: format!("{}/{}", meta.namespace, meta.name),
            api_id: gateway.api_id.clone(),
            stage: gateway.stage.clone(),
            domains: gateway.domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            base_path: gateway.base_path.clone(),
            environment: gateway.environment.clone(),
            namespace: gateway.workload.namespace.clone(),
            labels: label_list(&gateway.workload.labels),
            principal: gateway.workload.principal(&self.resources.mesh.trust_domain),
            port,
            virtual_hosts,
        }
    }

    fn find_gateway(&self, name: &str) -> Option<&'a Gateway> {
        let (namespace, name) = name.split_once('/')?;
        let gateways = &self.resources.gateways;
        gateways.iter().find(|g| g.meta.namespace == namespace && g.meta.name == name)
    }

    fn virtual_hosts(&mut self, name: &str, gateway: &Gateway) -> Vec<VirtualHost> {
        let resources = self.resources;
        let mut hosts: Vec<(String, &VirtualService)> = Vec::new();
        for service in &resources.virtual_services {
            if !service.gateways.iter().any(|gateway| gateway == name) {
                continue;
            }
            for host in hosts_in_common(gateway, service) {
                match hosts.iter().find(|(known, _)| *known == host) {
                    Some((_, other)) if other.meta != service.meta => {
                        let origin = &other.meta.origin;
                        self.error(
                            &service.meta,
                            format!(
                                "the host {host} of the gateway {name} is also routed by the \
                                 VirtualService at {origin}, and merging them is not supported \
                                 yet; write one VirtualService"
                            ),
                        );
                    }
                    Some(_) => {}
                    None => hosts.push((host, service)),
                }
            }
        }
        hosts.into_iter().map(|(host, service)| VirtualHost { host, routes: self.routes(service) }).collect()
    }

    fn routes(&mut self, service: &VirtualService) -> Vec<Route> {
        let mut routes = Vec::new();
        for route in &service.http {
            let matches = route
                .matches
                .iter()
                .map(|one| match &one.uri {
                    None => UriMatch::Any,
                    Some(istio::StringMatch::Exact(text)) => UriMatch::Exact(text.clone()),
                    Some(istio::StringMatch::Prefix(text)) => UriMatch::Prefix(text.clone()),
                })
                .collect();
            match self.destination(service, &route.destination) {
                Ok(destination) => {
                    self.check_selectors(&destination);
                    routes.push(Route { matches, destination });
                }
                Err(message) => self.error(&service.meta, message),
            }
        }
        routes
    }

    /// A destination's document says some of the labels of its workloads, not all of them. A policy that
    /// shares one and needs another would be passed over here, and could be enforced in the mesh.
    fn check_selectors(&mut self, destination: &Destination) {
        if !self.selected.insert(destination.host.clone()) {
            return;
        }
        let resources = self.resources;
        let policies = resources.authorization_policies.iter().map(|p| (&p.meta, p.selector.as_ref()));
        let tokens = resources.request_authentications.iter().map(|a| (&a.meta, a.selector.as_ref()));
        let keys = resources.api_key_authentications.iter().map(|a| (&a.meta, a.selector.as_ref()));
        for (meta, selector) in policies.chain(tokens).chain(keys) {
            let near = meta.namespace == destination.namespace || meta.namespace == resources.mesh.root_namespace;
            let Some(selector) = selector.filter(|_| near) else { continue };
            let known = |name: &str| destination.labels.iter().find(|label| label.name == name);
            let (shared, unknown): (Vec<_>, Vec<_>) =
                selector.match_labels.iter().partition(|(name, _)| known(name.as_str()).is_some());
            let agree = shared.iter().all(|(name, value)| known(name.as_str()).is_some_and(|own| own.value == **value));
            if shared.is_empty() || !agree || unknown.is_empty() {
                continue;
            }
            let unknown: Vec<&str> = unknown.iter().map(|(name, _)| name.as_str()).collect();
            let message = format!(
                "it may select workloads of the destination {}, whose document does not say their label {}; add it \
                 there, or leave it out here",
                destination.host,
                unknown.join(" and ")
            );
            self.error(meta, message);
        }
    }

    fn destination(&self, from: &VirtualService, destination: &istio::Destination) -> Result<Destination, String> {
        let host = full_host(&destination.host, &from.meta.namespace);
        let service = self
            .resources
            .services
            .iter()
            .find(|service| full_host(&service.meta.name, &service.meta.namespace).eq_ignore_ascii_case(&host));
        let entries: Vec<&ServiceEntry> = self
            .resources
            .service_entries
            .iter()
            .filter(|entry| entry.hosts.iter().any(|own| own.eq_ignore_ascii_case(&host)))
            .collect();
        match (service, entries.as_slice()) {
            (None, []) => {
                Err(format!("the destination {host} is neither a Service nor a host of a ServiceEntry; add it"))
            }
            (Some(service), []) => {
                let wanted = |port: &&istio::ServicePort| destination.port.is_none_or(|number| port.port == number);
                let port =
                    one(service.ports.iter().filter(wanted)).ok_or_else(|| port_message(&host, destination.port))?;
                Ok(Destination {
                    host,
                    namespace: service.meta.namespace.clone(),
                    labels: label_list(&service.selector),
                    // What the workload sees is the port that it listens on.
                    port: match &port.target_port {
                        None => Some(port.port),
                        Some(TargetPort::Number(number)) => Some(*number),
                        Some(TargetPort::Name(_)) => None,
                    },
                })
            }
            // Policies with a selector would be passed over, as for a Service without one.
            (None, [entry]) if entry.meta.labels.is_empty() => Err(format!(
                "the destination {host} is a ServiceEntry without labels, so that no policy could select it; \
                 add the labels of its workloads to its metadata"
            )),
            (None, [entry]) => {
                let wanted = |port: &&istio::Port| destination.port.is_none_or(|number| port.number == number);
                let port =
                    one(entry.ports.iter().filter(wanted)).ok_or_else(|| port_message(&host, destination.port))?;
                let seen: BTreeSet<u16> = entry
                    .endpoints
                    .iter()
                    .map(|endpoint| endpoint.ports.get(&port.name).copied().unwrap_or(port.number))
                    .collect();
                let seen_port = match (seen.len(), seen.first()) {
                    (0, _) => Some(port.number),
                    (1, first) => first.copied(),
                    _ => None,
                };
                Ok(Destination {
                    host,
                    namespace: entry.meta.namespace.clone(),
                    // Endpoints have no labels of their own yet: the entry's stand for them.
                    labels: label_list(&entry.meta.labels),
                    port: seen_port,
                })
            }
            _ => Err(format!(
                "the destination {host} is described by several Service and ServiceEntry documents; \
                 leave one"
            )),
        }
    }
}

fn port_message(host: &str, port: Option<u16>) -> String {
    match port {
        Some(port) => format!("the destination {host} has no port {port}"),
        None => format!("the destination {host} has several ports; name one"),
    }
}

fn one<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Servers that end HTTP at the gateway. What passes through encrypted has no HTTP routes.
fn http_servers(gateway: &Gateway) -> impl Iterator<Item = &istio::Server> {
    gateway.servers.iter().filter(|server| {
        let http = ["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB"]
            .iter()
            .any(|protocol| server.port.protocol.eq_ignore_ascii_case(protocol));
        let ended =
            server.tls.as_ref().is_none_or(|tls| matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual));
        http && ended
    })
}

/// The hosts that both the gateway's servers and the `VirtualService` have, in lower case. "VirtualService
/// hosts must match one or more hosts of the Gateway's servers"; the narrower of two wildcards counts.
fn hosts_in_common(gateway: &Gateway, service: &VirtualService) -> Vec<String> {
    let mut common = Vec::new();
    for host in &service.hosts {
        let host = full_host(host, &service.meta.namespace).to_ascii_lowercase();
        for server in http_servers(gateway).flat_map(|server| &server.hosts) {
            let (namespace, served) = server.split_once('/').unwrap_or(("*", server));
            let visible = match namespace {
                "*" => true,
                "." => service.meta.namespace == gateway.meta.namespace,
                named => service.meta.namespace == named,
            };
            let served = served.to_ascii_lowercase();
            let narrower = if includes(&served, &host) {
                host.clone()
            } else if includes(&host, &served) {
                served
            } else {
                continue;
            };
            if visible && !common.contains(&narrower) {
                common.push(narrower);
            }
        }
    }
    common
}

/// Whether every host of `inner` is one of `outer`; both may be wildcards.
fn includes(outer: &str, inner: &str) -> bool {
    match (outer.strip_prefix('*'), inner.strip_prefix('*')) {
        (Some(outer), Some(inner)) => inner.ends_with(outer),
        (None, Some(_)) => false,
        (_, None) => covers(outer, inner),
    }
}

fn labels(selector: Option<&WorkloadSelector>) -> Vec<Label> {
    selector.map_or_else(Vec::new, |selector| label_list(&selector.match_labels))
}

fn label_list(labels: &BTreeMap<String, String>) -> Vec<Label> {
    let label = |(name, value): (&String, &String)| Label { name: name.clone(), value: value.clone() };
    labels.iter().map(label).collect()
}

fn patterns(values: &[String], not_values: &[String]) -> Patterns {
    let parse = |values: &[String]| values.iter().map(|value| Pattern::parse(value)).collect();
    Patterns { values: parse(values), not_values: parse(not_values) }
}

fn request_principals_of(values: &[String], not_values: &[String]) -> RequestPrincipals {
    let parse = |values: &[String]| values.iter().map(|value| RequestPrincipal::parse(value)).collect();
    RequestPrincipals { values: parse(values), not_values: parse(not_values) }
}

fn claim(path: &[String], values: &[String], not_values: &[String]) -> Condition {
    Condition::Claim(ClaimCondition { path: path.to_vec(), patterns: patterns(values, not_values) })
}

fn values_of(rule: &istio::Rule) -> usize {
    let source = |s: &istio::Source| {
        s.principals.len()
            + s.not_principals.len()
            + s.request_principals.len()
            + s.not_request_principals.len()
            + s.namespaces.len()
            + s.not_namespaces.len()
    };
    let operation = |o: &istio::Operation| {
        o.hosts.len()
            + o.not_hosts.len()
            + o.ports.len()
            + o.not_ports.len()
            + o.methods.len()
            + o.not_methods.len()
            + o.paths.len()
            + o.not_paths.len()
    };
    let condition = |c: &istio::Condition| c.values.len() + c.not_values.len();
    rule.from.iter().flatten().map(source).sum::<usize>()
        + rule.to.iter().flatten().map(operation).sum::<usize>()
        + rule.when.iter().flatten().map(condition).sum::<usize>()
}
