//! One workload's `AuthorizationPolicy`s: DENY before ALLOW, and the id of the rule that decided.

use std::net::IpAddr;

use crate::claims::{Claims, Json};
use crate::compiled::{
    ArchivedAuthorizationPolicy, ArchivedClaimCondition, ArchivedCondition, ArchivedNamespaces, ArchivedOperation,
    ArchivedPatterns, ArchivedPorts, ArchivedRequestPrincipals, ArchivedRule, ArchivedSource,
};
use crate::decision::Shadow;
use crate::matchers::ArchivedPattern;
use crate::policies::Applicable;
use crate::request::{lines, path_only};
use crate::trace::PolicyTrace;

/// What the policies of one workload look at.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) method: &'a str,
    pub(crate) scheme: &'a str,
    pub(crate) host: &'a str,
    /// With query.
    pub(crate) path: &'a str,
    pub(crate) headers: &'a [(String, String)],
    /// Whether repeated headers are comma-joined in `headers`.
    pub(crate) joined: bool,
    /// Peer identity without `spiffe://`; `None` is plaintext.
    pub(crate) principal: Option<&'a str>,
    // What follows up to the claims may be unavailable, and is `None` then.
    pub(crate) source_ip: Option<IpAddr>,
    pub(crate) remote_ip: Option<IpAddr>,
    pub(crate) destination_ip: Option<IpAddr>,
    pub(crate) port: Option<u16>,
    pub(crate) sni: Option<&'a str>,
    pub(crate) dynamic_metadata: Option<&'a [(String, Json)]>,
    /// `None` is a caller without a token or key.
    pub(crate) claims: Option<&'a Claims>,
}

/// What the policies say.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// This ALLOW rule matched.
    AllowedBy(String),
    /// No ALLOW policy applies.
    AllowedNoPolicy,
    /// This DENY rule matched.
    DeniedBy(String),
    /// ALLOW policies apply and none matched.
    DeniedNoMatch,
}

/// "(2) any matching DENY → deny 403; (3) no ALLOW policy selected for the workload → allow; (4) any ALLOW
/// match → allow; (5) deny 403."
pub(crate) fn evaluate(applicable: Applicable<'_>, attributes: &Attributes<'_>) -> Outcome {
    Outcome { verdict: verdict(applicable, attributes), shadow: Shadow::default() }
}

/// What one workload's policies say.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) shadow: Shadow,
}

/// A CUSTOM rule that matches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CustomMatch {
    /// Index of the provider that it asks.
    pub(crate) provider: u32,
    /// Whether the policy is not enforced.
    pub(crate) dry_run: bool,
    /// Istio's id of the rule.
    pub(crate) rule: String,
}

/// The CUSTOM rules that match, the first of each policy. They are asked before authentication, so `attributes` has no
/// claims and the headers that the client sent.
pub(crate) fn custom(applicable: Applicable<'_>, attributes: &Attributes<'_>) -> Vec<CustomMatch> {
    // What cannot be known widens a CUSTOM rule, as it widens a DENY rule.
    let view = View { attributes, action: Action::Deny };
    let matched = applicable.custom().filter_map(|(namespace, policy)| {
        view.matching_rule(policy).map(|index| CustomMatch {
            provider: policy.provider.as_ref().map_or(u32::MAX, |index| index.to_native()),
            dry_run: policy.dry_run,
            rule: rule_id(namespace, policy, index),
        })
    });
    matched.collect()
}

/// Every policy of the root namespace and of the workload's own, leaf by leaf. CUSTOM policies see the attributes
/// `before` authentication, all others those `after` it.
pub(crate) fn trace(
    _applicable: Applicable<'_>,
    _before: &Attributes<'_>,
    _after: &Attributes<'_>,
) -> Vec<PolicyTrace> {
    Vec::new()
}

fn verdict(applicable: Applicable<'_>, attributes: &Attributes<'_>) -> Verdict {
    let deny = View { attributes, action: Action::Deny };
    for (namespace, policy) in applicable.deny() {
        if let Some(index) = deny.matching_rule(policy) {
            return Verdict::DeniedBy(rule_id(namespace, policy, index));
        }
    }
    let allow = View { attributes, action: Action::Allow };
    let mut any = false;
    for (namespace, policy) in applicable.allow() {
        any = true;
        if let Some(index) = allow.matching_rule(policy) {
            return Verdict::AllowedBy(rule_id(namespace, policy, index));
        }
    }
    if any { Verdict::DeniedNoMatch } else { Verdict::AllowedNoPolicy }
}

/// Istio's own id of a rule.
fn rule_id(namespace: &str, policy: &ArchivedAuthorizationPolicy, index: usize) -> String {
    format!("ns[{namespace}]-policy[{}]-rule[{index}]", policy.name)
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Action {
    Allow,
    Deny,
}

/// The attributes as one action looks at them.
struct View<'a> {
    attributes: &'a Attributes<'a>,
    action: Action,
}

impl View<'_> {
    /// The first rule that matches. A policy without rules has none: an ALLOW policy without rules denies
    /// everything.
    fn matching_rule(&self, policy: &ArchivedAuthorizationPolicy) -> Option<usize> {
        policy.rules.iter().position(|rule| self.rule(rule))
    }

    fn rule(&self, rule: &ArchivedRule) -> bool {
        // "ALLOW: any generator error drops the whole rule", even when another branch of it would match.
        if self.action == Action::Allow && rule.needs_port && self.attributes.port.is_none() {
            return false;
        }
        (rule.from.is_empty() || rule.from.iter().any(|source| self.source(source)))
            && (rule.to.is_empty() || rule.to.iter().any(|operation| self.operation(operation)))
            && rule.when.iter().all(|condition| self.condition(condition))
    }

    fn source(&self, source: &ArchivedSource) -> bool {
        self.principals(&source.principals)
            && self.request_principals(&source.request_principals)
            && self.namespaces(&source.namespaces)
    }

    fn operation(&self, operation: &ArchivedOperation) -> bool {
        let Attributes { method, host, path, .. } = *self.attributes;
        let path = path_only(path);
        self.ports(&operation.ports)
            && both(&operation.methods, |pattern| pattern.matches_header(method))
            && both(&operation.hosts, |pattern| pattern.matches_host(host))
            && both(&operation.paths, |pattern| pattern.matches_string(path))
    }

    fn condition(&self, condition: &ArchivedCondition) -> bool {
        match condition {
            ArchivedCondition::Header(header) => self.header(header.name.as_str(), &header.patterns),
            ArchivedCondition::Claim(ArchivedClaimCondition { path, patterns }) => {
                let claim = self.claim(path.iter().map(|name| name.as_str()));
                let split = match path.as_slice() {
                    [name] => self.attributes.claims.is_some_and(|claims| claims.is_space_delimited(name.as_str())),
                    _ => false,
                };
                both(patterns, |pattern| claim.is_some_and(|c| claim_matches(c, split, pattern)))
            }
            ArchivedCondition::RequestPrincipal(principals) => self.request_principals(principals),
            ArchivedCondition::Principal(patterns) => self.principals(patterns),
            ArchivedCondition::Namespace(namespaces) => self.namespaces(namespaces),
            ArchivedCondition::Port(ports) => self.ports(ports),
        }
    }

    /// "Plaintext → positive never matches, `not*` always matches."
    fn principals(&self, patterns: &ArchivedPatterns) -> bool {
        let principal = self.attributes.principal;
        both(patterns, |pattern| principal.is_some_and(|p| pattern.matches_principal(p)))
    }

    fn namespaces(&self, namespaces: &ArchivedNamespaces) -> bool {
        let principal = self.attributes.principal;
        let matches =
            |glob: &crate::matchers::ArchivedNamespaceGlob| principal.is_some_and(|principal| glob.matches(principal));
        (namespaces.values.is_empty() || namespaces.values.iter().any(matches))
            && !namespaces.not_values.iter().any(matches)
    }

    fn request_principals(&self, principals: &ArchivedRequestPrincipals) -> bool {
        let issuer = self.attributes.claims.and_then(Claims::issuer);
        let subject = self.attributes.claims.and_then(Claims::subject);
        let matches = |principal: &crate::matchers::ArchivedRequestPrincipal| principal.matches(issuer, subject);
        (principals.values.is_empty() || principals.values.iter().any(matches))
            && !principals.not_values.iter().any(matches)
    }

    /// "DENY: the failing condition is dropped, the rest of the rule stays (wider deny)." ALLOW rules do
    /// not come here without a port.
    fn ports(&self, ports: &ArchivedPorts) -> bool {
        let Some(port) = self.attributes.port else { return true };
        (ports.values.is_empty() || ports.values.iter().any(|value| value.to_native() == port))
            && !ports.not_values.iter().any(|value| value.to_native() == port)
    }

    fn claim<'n>(&self, path: impl Iterator<Item = &'n str>) -> Option<&Json> {
        let mut value = self.attributes.claims?.as_json();
        for name in path {
            value = value.get(name)?;
        }
        Some(value)
    }

    /// "Missing header → values false, notValues true." Lines are tested one by one.
    fn header(&self, name: &str, patterns: &ArchivedPatterns) -> bool {
        // Where only the joined form is known it cannot be said whether `a,b` is one line or two. Each
        // test is made in the way that allows less: a match that would deny may also be one of a part, a
        // match that would allow must be one of the whole.
        let deny = self.action == Action::Deny;
        let matches = |pattern: &ArchivedPattern, wide: bool| {
            self.header_values(name).any(|value| {
                pattern.matches_header(value)
                    || (wide
                        && self.attributes.joined
                        && value
                            .split(',')
                            .any(|part| pattern.matches_header(part) || pattern.matches_header(part.trim())))
            })
        };
        (patterns.values.is_empty() || patterns.values.iter().any(|p| matches(p, deny)))
            && !patterns.not_values.iter().any(|p| matches(p, !deny))
    }

    fn header_values<'n>(&'n self, name: &'n str) -> Box<dyn Iterator<Item = &'n str> + 'n> {
        let Attributes { method, scheme, host, path, headers, .. } = *self.attributes;
        match name {
            ":method" => Box::new(std::iter::once(method)),
            ":path" => Box::new(std::iter::once(path)),
            ":scheme" => Box::new(std::iter::once(scheme)),
            // Envoy keeps `Host` as `:authority`.
            ":authority" | "host" => Box::new(std::iter::once(host)),
            _ => Box::new(lines(headers, name)),
        }
    }
}

/// "Field X = OR(X values); notX = NOT(OR(notX values)); both present → AND."
fn both(patterns: &ArchivedPatterns, matches: impl Fn(&ArchivedPattern) -> bool) -> bool {
    (patterns.values.is_empty() || patterns.values.iter().any(&matches)) && !patterns.not_values.iter().any(&matches)
}

/// "Value matches if it is a string that matches, or a list with any string element that matches. Numbers,
/// booleans, null, objects never match."
fn claim_matches(claim: &Json, split: bool, pattern: &ArchivedPattern) -> bool {
    match claim {
        Json::String(text) if split => text.split(' ').any(|word| pattern.matches_string(word)),
        Json::String(text) => pattern.matches_string(text),
        Json::List(list) => list.iter().filter_map(Json::as_str).any(|text| pattern.matches_string(text)),
        _ => false,
    }
}
