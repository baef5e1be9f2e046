//! `AuthorizationPolicy`, compiled.

use istio::{Action, ConditionKey, Meta};

use super::{Compiler, labels};
use crate::compiled::{
    AuthorizationPolicy, ClaimCondition, Condition, HeaderCondition, Namespaces, Operation, Patterns, Ports,
    RequestPrincipals, Rule, Source,
};
use crate::matchers::{NamespaceGlob, Pattern, RequestPrincipal};

impl Compiler<'_> {
    pub(super) fn authorization_policy(&mut self, policy: &istio::AuthorizationPolicy) -> AuthorizationPolicy {
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
        AuthorizationPolicy {
            name: policy.meta.name.clone(),
            selector,
            target_refs: Vec::new(),
            dry_run: policy.dry_run,
            provider: self.provider(policy),
            rules,
        }
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
            ..
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
            ConditionKey::ConnectionSni
            | ConditionKey::DestinationIp
            | ConditionKey::EnvoyFilter { .. }
            | ConditionKey::RemoteIp
            | ConditionKey::SourceIp
            | ConditionKey::SourceServiceAccount
            | ConditionKey::SourceTrustDomain => {
                self.error(meta, "the key of a condition is not supported yet");
                return None;
            }
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
