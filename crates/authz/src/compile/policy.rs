//! `AuthorizationPolicy`, compiled.

mod principal;
mod value;

use istio::{Action, ConditionKey, Meta};

use super::{Compiler, labels, target_refs};
use crate::compiled::{
    AuthorizationPolicy, ClaimCondition, Condition, HeaderCondition, MetadataCondition, Operation, Paths, Ports, Rule,
    Source, Values, needs,
};
use crate::matchers::{IpRange, MetadataPattern, PathPattern};

impl Compiler<'_> {
    pub(super) fn authorization_policy(&mut self, policy: &istio::AuthorizationPolicy) -> AuthorizationPolicy {
        let meta = &policy.meta;
        self.check_attachment(meta, policy.selector.as_ref(), &policy.target_refs);
        let rules = policy.rules.as_deref().unwrap_or_default();
        if rules.is_empty() && matches!(policy.action, Action::Custom | Action::Deny) {
            // Istio: "a DENY policy without rules is rejected by validation", and so is a CUSTOM one.
            let action = policy.action.as_str();
            self.error(meta, format!("a {action} policy needs rules: without them it never matches"));
        }
        match (policy.action, &policy.provider) {
            (Action::Custom, Some(_)) => rules.iter().for_each(|rule| self.check_before_authentication(meta, rule)),
            (Action::Custom, None) => self.error(meta, "a CUSTOM policy must name its provider"),
            (_, Some(_)) => self.error(meta, "only a CUSTOM policy has a provider"),
            (_, None) => {}
        }
        AuthorizationPolicy {
            name: meta.name.clone(),
            selector: labels(policy.selector.as_ref()),
            target_refs: target_refs(&policy.target_refs),
            dry_run: policy.dry_run,
            provider: self.provider(policy),
            rules: rules.iter().map(|rule| self.rule(meta, rule)).collect(),
        }
    }

    /// "CUSTOM runs before JWT validation", and Istio knows the peer only afterwards.
    fn check_before_authentication(&mut self, meta: &Meta, rule: &istio::Rule) {
        let source = |source: &istio::Source| {
            let lists = [
                &source.principals,
                &source.not_principals,
                &source.request_principals,
                &source.not_request_principals,
                &source.namespaces,
                &source.not_namespaces,
                &source.service_accounts,
                &source.not_service_accounts,
                &source.trust_domains,
                &source.not_trust_domains,
            ];
            lists.iter().any(|list| !list.is_empty())
        };
        let condition = |condition: &istio::Condition| {
            matches!(
                condition.key,
                ConditionKey::RequestAuthAudiences
                    | ConditionKey::RequestAuthClaims(_)
                    | ConditionKey::RequestAuthPresenter
                    | ConditionKey::RequestAuthPrincipal
                    | ConditionKey::SourceNamespace
                    | ConditionKey::SourcePrincipal
                    | ConditionKey::SourceServiceAccount
                    | ConditionKey::SourceTrustDomain
            )
        };
        if rule.from.iter().flatten().any(source) || rule.when.iter().flatten().any(condition) {
            self.error(meta, "a CUSTOM policy is asked before authentication; it may look at no identity and no claim");
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
        Rule {
            from: from.iter().flatten().map(|source| self.source(meta, source)).collect(),
            to: to.iter().flatten().map(|operation| self.operation(meta, operation)).collect(),
            when: when.iter().flatten().filter_map(|condition| self.condition(meta, condition)).collect(),
            needs: needs_of(rule),
        }
    }

    fn source(&mut self, meta: &Meta, source: &istio::Source) -> Source {
        let istio::Source {
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
        let lists = [
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
        ];
        let blocks = [ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks];
        self.check_fields(meta, "source", &lists, blocks.iter().map(|list| list.len()).sum());
        // Istio: "cannot be combined with principals/namespaces".
        let identities = [principals, not_principals, namespaces, not_namespaces];
        if !(service_accounts.is_empty() && not_service_accounts.is_empty())
            && identities.iter().any(|list| !list.is_empty())
        {
            self.error(meta, "serviceAccounts cannot stand beside principals or namespaces; use two sources");
        }
        let list = |list: &[istio::IpBlock]| list.iter().map(IpRange::from).collect();
        let ranges = |values, not_values| Values { values: list(values), not_values: list(not_values) };
        Source {
            principals: self.principals(meta, principals, not_principals).into_field(),
            request_principals: value::request_principals(request_principals, not_request_principals).into_field(),
            namespaces: self.namespaces(meta, namespaces, not_namespaces).into_field(),
            service_accounts: self.service_accounts(meta, service_accounts, not_service_accounts).into_field(),
            trust_domains: self.trust_domains(meta, trust_domains, not_trust_domains).into_field(),
            ip_blocks: ranges(ip_blocks, not_ip_blocks).into_field(),
            remote_ip_blocks: ranges(remote_ip_blocks, not_remote_ip_blocks).into_field(),
        }
    }

    fn operation(&mut self, meta: &Meta, operation: &istio::Operation) -> Operation {
        let istio::Operation { hosts, not_hosts, ports, not_ports, methods, not_methods, paths, not_paths } = operation;
        let lists = [hosts, not_hosts, methods, not_methods, paths, not_paths];
        self.check_fields(meta, "operation", &lists, ports.len() + not_ports.len());
        Operation {
            hosts: value::patterns(hosts, not_hosts).into_field(),
            ports: Ports { values: ports.clone(), not_values: not_ports.clone() }.into_field(),
            methods: value::patterns(methods, not_methods).into_field(),
            paths: self.paths(meta, paths, not_paths).into_field(),
        }
    }

    fn paths(&mut self, meta: &Meta, values: &[String], not_values: &[String]) -> Paths {
        let mut parse = |values: &[String]| {
            let mut parsed = Vec::with_capacity(values.len());
            for value in values {
                match PathPattern::parse(value) {
                    Ok(pattern) => parsed.push(pattern),
                    Err(why) => self.error(meta, format!("the path template {value:?} is invalid: {why}")),
                }
            }
            parsed
        };
        Paths { values: parse(values), not_values: parse(not_values) }
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
            ConditionKey::ConnectionSni => Condition::Sni(value::patterns(values, not_values)),
            ConditionKey::DestinationIp => Condition::DestinationIp(self.addresses(meta, values, not_values)),
            ConditionKey::DestinationPort => {
                Condition::Port(Ports { values: self.ports(meta, values)?, not_values: self.ports(meta, not_values)? })
            }
            ConditionKey::EnvoyFilter { filter, path } => {
                if path.is_empty() {
                    self.error(meta, "experimental.envoy.filters names no key");
                }
                let parse = |values: &[String]| values.iter().map(|value| MetadataPattern::parse(value)).collect();
                Condition::Metadata(Box::new(MetadataCondition {
                    filter: filter.clone(),
                    path: path.clone(),
                    patterns: Values { values: parse(values), not_values: parse(not_values) },
                }))
            }
            ConditionKey::RemoteIp => Condition::RemoteIp(self.addresses(meta, values, not_values)),
            ConditionKey::RequestAuthAudiences => claim(&["aud".to_owned()], values, not_values),
            ConditionKey::RequestAuthPresenter => claim(&["azp".to_owned()], values, not_values),
            ConditionKey::RequestAuthClaims(path) => {
                if path.is_empty() {
                    self.error(meta, "request.auth.claims names no claim");
                }
                claim(path, values, not_values)
            }
            ConditionKey::RequestAuthPrincipal => {
                Condition::RequestPrincipal(value::request_principals(values, not_values))
            }
            ConditionKey::RequestHeader(name) => Condition::Header(HeaderCondition {
                name: name.to_ascii_lowercase(),
                patterns: value::patterns(values, not_values),
            }),
            ConditionKey::SourceIp => Condition::SourceIp(self.addresses(meta, values, not_values)),
            ConditionKey::SourceNamespace => Condition::Namespace(self.namespaces(meta, values, not_values)),
            ConditionKey::SourcePrincipal => Condition::Principal(self.principals(meta, values, not_values)),
            ConditionKey::SourceServiceAccount => {
                Condition::ServiceAccount(self.service_accounts(meta, values, not_values))
            }
            ConditionKey::SourceTrustDomain => Condition::TrustDomain(self.trust_domains(meta, values, not_values)),
        })
    }
}

/// The attributes that may be unavailable and that a rule looks at anywhere.
fn needs_of(rule: &istio::Rule) -> u16 {
    let when = |present: bool, bit: u16| if present { bit } else { 0 };
    let sources = rule.from.iter().flatten().map(|source| {
        when(!source.ip_blocks.is_empty() || !source.not_ip_blocks.is_empty(), needs::SOURCE_IP)
            | when(!source.remote_ip_blocks.is_empty() || !source.not_remote_ip_blocks.is_empty(), needs::REMOTE_IP)
            | when(looks_at_peer(source), needs::PRINCIPAL)
    });
    let operations = rule.to.iter().flatten().map(|operation| {
        when(!operation.ports.is_empty() || !operation.not_ports.is_empty(), needs::PORT)
            | when(!operation.hosts.is_empty() || !operation.not_hosts.is_empty(), needs::HOST)
    });
    let conditions = rule.when.iter().flatten().map(|condition| match &condition.key {
        ConditionKey::ConnectionSni => needs::SNI,
        ConditionKey::DestinationIp => needs::DESTINATION_IP,
        ConditionKey::DestinationPort => needs::PORT,
        ConditionKey::EnvoyFilter { .. } => needs::DYNAMIC_METADATA,
        ConditionKey::RemoteIp => needs::REMOTE_IP,
        ConditionKey::RequestHeader(name) => needs::of_header(&name.to_ascii_lowercase()),
        ConditionKey::SourceIp => needs::SOURCE_IP,
        ConditionKey::SourceNamespace
        | ConditionKey::SourcePrincipal
        | ConditionKey::SourceServiceAccount
        | ConditionKey::SourceTrustDomain => needs::PRINCIPAL,
        ConditionKey::RequestAuthAudiences
        | ConditionKey::RequestAuthClaims(_)
        | ConditionKey::RequestAuthPresenter
        | ConditionKey::RequestAuthPrincipal => 0,
    });
    sources.chain(operations).chain(conditions).fold(0, |all, one| all | one)
}

fn looks_at_peer(source: &istio::Source) -> bool {
    let lists = [
        &source.principals,
        &source.not_principals,
        &source.namespaces,
        &source.not_namespaces,
        &source.service_accounts,
        &source.not_service_accounts,
        &source.trust_domains,
        &source.not_trust_domains,
    ];
    lists.iter().any(|list| !list.is_empty())
}

fn claim(path: &[String], values: &[String], not_values: &[String]) -> Condition {
    Condition::Claim(ClaimCondition { path: path.to_vec(), patterns: value::patterns(values, not_values) })
}
