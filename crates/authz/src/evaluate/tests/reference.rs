//! A plain evaluator over Istio's own resources, as the oracle: rules become Istio's lists of keys and values, these
//! become the matchers that Istio generates, and its regular expressions are run by a regular expression engine.
//! Nothing is compiled, nothing is found by an index, and nothing is shared with what is tested.

use std::collections::BTreeMap;
use std::net::IpAddr;

use istio::{Action, AuthorizationPolicy, ConditionKey, Resources, Rule, TargetRef, WorkloadSelector};
use regex::Regex;

use super::super::{Attributes, Verdict};
use crate::claims::Json;
use crate::decision::{DryRunAllow, Shadow};

pub(super) struct Reference<'a> {
    pub(super) resources: &'a Resources,
    pub(super) namespace: &'a str,
    pub(super) labels: &'a [(String, String)],
    pub(super) attributes: &'a Attributes<'a>,
}

/// The attribute cannot be known: Istio's generator has an error.
struct Unavailable;

/// One rule of Istio's model: a key, and values in Istio's own texts.
struct Leaf {
    key: String,
    values: Vec<String>,
    not_values: Vec<String>,
}

impl Reference<'_> {
    pub(super) fn evaluate(&self) -> (Verdict, Shadow) {
        let first = |action, dry_run| self.matches(action, dry_run).into_iter().next();
        let any = |dry_run| self.selected(Action::Allow, dry_run).next().is_some();
        let verdict = match (first(Action::Deny, false), first(Action::Allow, false)) {
            (Some(rule), _) => Verdict::DeniedBy(rule),
            (None, Some(rule)) => Verdict::AllowedBy(rule),
            (None, None) if any(false) => Verdict::DeniedNoMatch,
            (None, None) => Verdict::AllowedNoPolicy,
        };
        let allow = first(Action::Allow, true).map(DryRunAllow::AllowedBy);
        let shadow = Shadow {
            audit: first(Action::Audit, false),
            dry_run_deny: first(Action::Deny, true),
            dry_run_allow: allow.or(any(true).then_some(DryRunAllow::Denied)),
        };
        (verdict, shadow)
    }

    /// The first matching rule of each policy.
    pub(super) fn matches(&self, action: Action, dry_run: bool) -> Vec<String> {
        let matching = |policy: &AuthorizationPolicy| {
            let rules = policy.rules.iter().flatten();
            let index = rules.enumerate().find(|(_, rule)| self.rule(policy, rule)).map(|(index, _)| index)?;
            Some(format!("ns[{}]-policy[{}]-rule[{index}]", policy.meta.namespace, policy.meta.name))
        };
        self.selected(action, dry_run).filter_map(matching).collect()
    }

    /// The root namespace first.
    fn selected(&self, action: Action, dry_run: bool) -> impl Iterator<Item = &AuthorizationPolicy> {
        let root = self.resources.mesh.root_namespace.as_str();
        let own = (self.namespace != root).then_some(self.namespace);
        std::iter::once(root).chain(own).flat_map(move |namespace| {
            self.resources.authorization_policies.iter().filter(move |policy| {
                policy.meta.namespace == namespace
                    && policy.action == action
                    && policy.dry_run == dry_run
                    && self.should_attach(namespace, policy.selector.as_ref(), &policy.target_refs)
            })
        })
    }

    /// `ShouldAttachPolicy`.
    fn should_attach(&self, namespace: &str, selector: Option<&WorkloadSelector>, targets: &[TargetRef]) -> bool {
        let labels: BTreeMap<String, String> = self.labels.iter().cloned().collect();
        let selected = || selector.is_none_or(|selector| selector.selects(&labels));
        let Some(gateway) = labels.get("gateway.networking.k8s.io/gateway-name") else {
            return targets.is_empty() && selected();
        };
        let is_waypoint = labels.get("gateway.istio.io/managed").is_some_and(|by| by == "istio.io-mesh-controller");
        if targets.is_empty() {
            return !is_waypoint && selected();
        }
        targets.iter().any(|target| {
            if is_waypoint
                && namespace == self.resources.mesh.root_namespace
                && target.kind == "GatewayClass"
                && target.name == "istio-waypoint"
            {
                return true;
            }
            namespace == self.namespace && target.kind == "Gateway" && target.name == *gateway
        })
    }

    fn rule(&self, policy: &AuthorizationPolicy, rule: &Rule) -> bool {
        let mut base_permission = Vec::new();
        let mut base_principal = Vec::new();
        for when in rule.when.iter().flatten() {
            let (permission, key) = key_of(&when.key);
            let leaf = Leaf { key, values: when.values.clone(), not_values: when.not_values.clone() };
            if permission { base_permission.push(leaf) } else { base_principal.push(leaf) }
        }
        let texts = |blocks: &[istio::IpBlock]| blocks.iter().map(ToString::to_string).collect();
        let leaf = |key: &str, values: &[String], not_values: &[String]| Leaf {
            key: key.to_owned(),
            values: values.to_vec(),
            not_values: not_values.to_vec(),
        };
        let mut principals: Vec<Vec<Leaf>> = Vec::new();
        for s in rule.from.iter().flatten() {
            principals.push(vec![
                Leaf { key: "source.ip".to_owned(), values: texts(&s.ip_blocks), not_values: texts(&s.not_ip_blocks) },
                Leaf {
                    key: "remote.ip".to_owned(),
                    values: texts(&s.remote_ip_blocks),
                    not_values: texts(&s.not_remote_ip_blocks),
                },
                leaf("source.namespace", &s.namespaces, &s.not_namespaces),
                leaf("source.trustDomain", &s.trust_domains, &s.not_trust_domains),
                leaf("source.serviceAccount", &s.service_accounts, &s.not_service_accounts),
                leaf("request.auth.principal", &s.request_principals, &s.not_request_principals),
                leaf("source.principal", &s.principals, &s.not_principals),
            ]);
        }
        let mut permissions: Vec<Vec<Leaf>> = Vec::new();
        for o in rule.to.iter().flatten() {
            let ports = |ports: &[u16]| ports.iter().map(ToString::to_string).collect();
            permissions.push(vec![
                Leaf { key: "destination.port".to_owned(), values: ports(&o.ports), not_values: ports(&o.not_ports) },
                leaf("path", &o.paths, &o.not_paths),
                leaf(":method", &o.methods, &o.not_methods),
                leaf("host", &o.hosts, &o.not_hosts),
            ]);
        }
        if principals.is_empty() {
            principals.push(Vec::new());
        }
        if permissions.is_empty() {
            permissions.push(Vec::new());
        }
        let allow = policy.action == Action::Allow;
        let any = |branches: &[Vec<Leaf>], base: &[Leaf]| -> Result<bool, Unavailable> {
            let mut matched = false;
            for branch in branches {
                let mut all = true;
                for leaf in branch.iter().chain(base) {
                    match self.leaf(policy, leaf) {
                        Ok(holds) => all &= holds,
                        Err(Unavailable) if allow => return Err(Unavailable),
                        Err(Unavailable) => {}
                    }
                }
                matched |= all;
            }
            Ok(matched)
        };
        match (any(&permissions, &base_permission), any(&principals, &base_principal)) {
            (Ok(permissions), Ok(principals)) => permissions && principals,
            _ => false,
        }
    }

    fn leaf(&self, policy: &AuthorizationPolicy, leaf: &Leaf) -> Result<bool, Unavailable> {
        let one_of = |values: &[String]| -> Result<bool, Unavailable> {
            let mut matched = false;
            for value in self.migrate(&leaf.key, values) {
                matched |= self.value(policy, &leaf.key, &value)?;
            }
            Ok(matched)
        };
        Ok((leaf.values.is_empty() || one_of(&leaf.values)?)
            && (leaf.not_values.is_empty() || !one_of(&leaf.not_values)?))
    }

    /// `MigrateTrustDomain`.
    fn migrate(&self, key: &str, values: &[String]) -> Vec<String> {
        let mesh = &self.resources.mesh;
        let domains: Vec<String> =
            std::iter::once(&mesh.trust_domain).chain(&mesh.trust_domain_aliases).cloned().collect();
        let mut all = Vec::new();
        for value in values {
            let parts: Vec<&str> = value.split('/').collect();
            if key == "source.trustDomain" && domains.contains(value) {
                all.extend(domains.iter().cloned());
            } else if key == "source.principal"
                && parts.len() == 5
                && parts[0] != "*"
                && (parts[0] == "cluster.local" || domains.iter().any(|domain| string_match(parts[0], domain)))
            {
                for domain in &domains {
                    let kept = parts[0].strip_prefix('*').is_some_and(|suffix| domain.ends_with(suffix));
                    all.push(if kept { value.clone() } else { format!("{domain}/{}", parts[1..].join("/")) });
                }
            } else {
                all.push(value.clone());
            }
        }
        all
    }

    fn value(&self, policy: &AuthorizationPolicy, key: &str, value: &str) -> Result<bool, Unavailable> {
        let Attributes { method, host, path, claims, .. } = *self.attributes;
        let Attributes { source_ip, remote_ip, destination_ip, port, sni, .. } = *self.attributes;
        let claims = claims.map(crate::claims::Claims::as_json);
        let claim = |name: &str| claims.and_then(|claims| claims.get(name)).and_then(Json::as_str);
        Ok(match key {
            "source.ip" => cidr(value, source_ip.ok_or(Unavailable)?),
            "remote.ip" => cidr(value, remote_ip.ok_or(Unavailable)?),
            "destination.ip" => cidr(value, destination_ip.ok_or(Unavailable)?),
            "destination.port" => value == port.ok_or(Unavailable)?.to_string(),
            "connection.sni" => string(value, "", &sni.ok_or(Unavailable)?.to_ascii_lowercase()),
            "source.namespace" => {
                let parts: Vec<String> = value.split('*').map(regex::escape).collect();
                self.peer(|uri| full(&format!(".*/ns/{}/.*", parts.join(".*")), uri))
            }
            "source.serviceAccount" => {
                let own = policy.meta.namespace.as_str();
                let (namespace, name) = value.split_once('/').unwrap_or((own, value));
                let (namespace, name) = (regex::escape(namespace), regex::escape(name));
                self.peer(|uri| full(&format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{name}(/.+)?"), uri))
            }
            "source.trustDomain" => self.peer(|uri| match value.split_once('*') {
                _ if value == "*" => uri.starts_with("spiffe://"),
                None => uri.starts_with(&format!("spiffe://{value}/")),
                Some((head, tail)) => {
                    full(&format!("spiffe://{}[^/]*{}/.*", regex::escape(head), regex::escape(tail)), uri)
                }
            }),
            "source.principal" => self.peer(|uri| string(value, "spiffe://", uri)),
            "request.auth.principal" => {
                let (iss, sub) = (claim("iss"), claim("sub"));
                request_principal(value, iss, sub)
            }
            "path" => {
                let path = path.split(['?', '#']).next().unwrap_or_default();
                if value.contains("{*}") || value.contains("{**}") {
                    template(value, path)
                } else {
                    string(value, "", path)
                }
            }
            ":method" => header(value, &[method]),
            "host" => header(&value.to_ascii_lowercase(), &[&host.to_ascii_lowercase()]),
            _ => return self.bracketed(key, value),
        })
    }

    /// Keys with names in brackets: separated by U+0000 here.
    fn bracketed(&self, key: &str, value: &str) -> Result<bool, Unavailable> {
        let mut names = key.split('\0');
        let kind = names.next().unwrap_or_default();
        let names: Vec<&str> = names.collect();
        let attributes = self.attributes;
        match kind {
            "header" => {
                let name = names[0].to_ascii_lowercase();
                let values: Vec<&str> = match name.as_str() {
                    ":method" => vec![attributes.method],
                    ":path" => vec![attributes.path],
                    ":scheme" => vec![attributes.scheme],
                    ":authority" | "host" => vec![attributes.host],
                    _ => attributes.headers.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.as_str()).collect(),
                };
                Ok(header(value, &values))
            }
            "claim" => {
                let mut found = attributes.claims.map(crate::claims::Claims::as_json);
                for name in &names {
                    found = found.and_then(|found| found.get(name));
                }
                let split = names == ["scope"] || names == ["permission"];
                Ok(match found {
                    Some(Json::String(text)) if split => text.split(' ').any(|word| string(value, "", word)),
                    Some(Json::String(text)) => string(value, "", text),
                    Some(Json::List(list)) => list.iter().any(|one| one.as_str().is_some_and(|t| string(value, "", t))),
                    _ => false,
                })
            }
            "filter" => {
                let metadata = attributes.dynamic_metadata.ok_or(Unavailable)?;
                let mut found = metadata.iter().find(|(name, _)| name == names[0]).map(|(_, object)| object);
                for name in &names[1..] {
                    found = found.and_then(|found| found.get(name));
                }
                let list = value.starts_with('[') && value.ends_with(']');
                Ok(match found {
                    Some(Json::String(text)) if !list => string(value, "", text),
                    Some(Json::List(elements)) if list => {
                        let value = value.trim_matches(|c| c == '[' || c == ']');
                        elements.iter().any(|one| one.as_str().is_some_and(|text| string(value, "", text)))
                    }
                    _ => false,
                })
            }
            _ => panic!("{key}"),
        }
    }

    fn peer(&self, matches: impl Fn(&str) -> bool) -> bool {
        self.attributes.principal.is_some_and(|principal| matches(&format!("spiffe://{principal}")))
    }
}

/// Whether Istio makes a permission of it, and its key.
fn key_of(key: &ConditionKey) -> (bool, String) {
    match key {
        ConditionKey::ConnectionSni => (true, "connection.sni".to_owned()),
        ConditionKey::DestinationIp => (true, "destination.ip".to_owned()),
        ConditionKey::DestinationPort => (true, "destination.port".to_owned()),
        ConditionKey::EnvoyFilter { filter, path } => (true, format!("filter\0{filter}\0{}", path.join("\0"))),
        ConditionKey::RemoteIp => (false, "remote.ip".to_owned()),
        ConditionKey::RequestAuthAudiences => (false, "claim\0aud".to_owned()),
        ConditionKey::RequestAuthClaims(path) => (false, format!("claim\0{}", path.join("\0"))),
        ConditionKey::RequestAuthPresenter => (false, "claim\0azp".to_owned()),
        ConditionKey::RequestAuthPrincipal => (false, "request.auth.principal".to_owned()),
        ConditionKey::RequestHeader(name) => (false, format!("header\0{name}")),
        ConditionKey::SourceIp => (false, "source.ip".to_owned()),
        ConditionKey::SourceNamespace => (false, "source.namespace".to_owned()),
        ConditionKey::SourcePrincipal => (false, "source.principal".to_owned()),
        ConditionKey::SourceServiceAccount => (false, "source.serviceAccount".to_owned()),
        ConditionKey::SourceTrustDomain => (false, "source.trustDomain".to_owned()),
    }
}

/// RE2's full match.
fn full(expression: &str, text: &str) -> bool {
    thread_local! {
        static KNOWN: std::cell::RefCell<BTreeMap<String, Regex>> = const { std::cell::RefCell::new(BTreeMap::new()) };
    }
    KNOWN.with_borrow_mut(|known| {
        let regex = known
            .entry(expression.to_owned())
            .or_insert_with(|| Regex::new(&format!(r"\A(?:{expression})\z")).unwrap());
        regex.is_match(text)
    })
}

/// `StringMatcherWithPrefix`.
fn string(value: &str, prefix: &str, text: &str) -> bool {
    if value == "*" {
        full(".+", text)
    } else if let Some(suffix) = value.strip_prefix('*') {
        if prefix.is_empty() {
            text.ends_with(suffix)
        } else {
            full(&format!("{prefix}.*{}", regex::escape(suffix)), text)
        }
    } else if let Some(start) = value.strip_suffix('*') {
        text.starts_with(&format!("{prefix}{start}"))
    } else {
        text == format!("{prefix}{value}")
    }
}

/// `HeaderMatcher`, each line for itself.
fn header(value: &str, lines: &[&str]) -> bool {
    if value == "*" { !lines.is_empty() } else { lines.iter().any(|line| string(value, "", line)) }
}

/// Istio's table, and the two claims.
fn request_principal(value: &str, iss: Option<&str>, sub: Option<&str>) -> bool {
    let (Some(iss), Some(sub)) = (iss, sub) else { return false };
    let (own_iss, own_sub) = match value.rfind('/') {
        Some(at) => (&value[..at], Some(&value[at + 1..])),
        None => (value, None),
    };
    let any = |text: &str| full(".+", text);
    if value == "*" {
        any(iss) && any(sub)
    } else if value.starts_with('*') {
        match own_sub {
            Some(own_sub) => (if own_iss == "*" { any(iss) } else { iss.ends_with(&own_iss[1..]) }) && sub == own_sub,
            None => any(iss) && sub.ends_with(&value[1..]),
        }
    } else if value.ends_with('*') {
        match own_sub {
            Some("*") => iss == own_iss && any(sub),
            Some(own_sub) => iss == own_iss && sub.starts_with(&own_sub[..own_sub.len() - 1]),
            None => iss.starts_with(&value[..value.len() - 1]) && any(sub),
        }
    } else {
        iss == own_iss && sub == own_sub.unwrap_or_default()
    }
}

/// Envoy's regular expression of a template.
fn template(value: &str, path: &str) -> bool {
    const L: &str = r"a-zA-Z0-9\-._~%!$&'()+,;:@=*";
    let segments = value.split('/').map(|segment| match segment {
        "{*}" => format!("[{L}]+"),
        "{**}" => format!("[{L}/]*"),
        literal => regex::escape(literal),
    });
    full(&segments.collect::<Vec<_>>().join("/"), path)
}

/// Bit by bit.
fn cidr(value: &str, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().iter().map(|byte| format!("{byte:08b}")).collect::<String>(),
        IpAddr::V6(v6) => v6.octets().iter().map(|byte| format!("{byte:08b}")).collect::<String>(),
    };
    let (network, prefix) = value.split_once('/').unwrap_or((value, "999"));
    let (network, address) = (bits(network.parse().unwrap()), bits(address));
    let prefix = prefix.parse::<usize>().unwrap().min(network.len());
    network.len() == address.len() && network[..prefix] == address[..prefix]
}

/// Istio's `stringMatch` of trust domains.
fn string_match(a: &str, s: &str) -> bool {
    let prefix = |a: &str, pattern: &str| pattern.strip_suffix('*').is_some_and(|prefix| a.starts_with(prefix));
    let suffix = |a: &str, pattern: &str| pattern.strip_prefix('*').is_some_and(|suffix| a.ends_with(suffix));
    a == s || s == "*" || prefix(a, s) || prefix(s, a) || suffix(a, s) || suffix(s, a)
}
