//! Requests and policies with one thing changed, to try what is claimed.

use std::net::IpAddr;

use authz::trace::{Found, LeafTrace};
use authz::{Hop, Request};
use istio::{AuthorizationPolicy, Condition, Operation, Resources, Rule, Source};

use super::ranking::{Candidate, Part};
use super::text;

/// Values of one leaf that are tried.
const MAX_WANTED: usize = 6;

/// Requests in which `leaf` matches, the likeliest first. `None`: no request of this caller can make it match, or it is
/// not ours to make up.
pub(super) fn requests(request: &Request, leaf: &LeafTrace, hop: Hop) -> Option<Vec<Request>> {
    if leaf.wanted.iter().any(|wanted| wanted.contains(text::VEIL)) {
        return None;
    }
    let with = |change: &dyn Fn(&mut Request, String), values: Vec<String>| {
        let made = values.into_iter().map(|value| {
            let mut altered = request.clone();
            change(&mut altered, value);
            altered
        });
        Some(made.collect::<Vec<_>>())
    };
    // The gateway is the peer of a destination, whatever the client does.
    let peer_is_ours = hop != Hop::Destination;
    match leaf.field.as_str() {
        "methods" | "notMethods" => {
            let common = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
            with(&|request, value| request.method = value, concrete(leaf, "GET", &common))
        }
        "paths" | "notPaths" => with(
            &|request, value| {
                let query = request.path.split_once('?').map(|(_, query)| query.to_owned());
                let value = if value.starts_with('/') { value } else { format!("/{value}") };
                request.path = query.map_or(value.clone(), |query| format!("{value}?{query}"));
            },
            if leaf.negated { return None } else { concrete(leaf, "x", &[]) },
        ),
        "hosts" | "notHosts" if !leaf.negated => with(&|request, value| request.host = value, concrete(leaf, "x", &[])),
        "principals" | "source.principal" if peer_is_ours && !leaf.negated => {
            with(&|request, value| request.source.principal = Some(value), concrete(leaf, "x", &[]))
        }
        "remoteIpBlocks" | "remote.ip" | "ipBlocks" | "source.ip" if !leaf.negated => {
            let is_remote = leaf.field.starts_with("remote");
            if !is_remote && !peer_is_ours {
                return None;
            }
            // The first address of a block is in it.
            let first = |block: &String| block.split('/').next().and_then(|address| address.parse::<IpAddr>().ok());
            let made = leaf.wanted.iter().take(MAX_WANTED).filter_map(first).map(|address| {
                let mut altered = request.clone();
                if is_remote {
                    altered.source.remote_ip = Some(address);
                } else {
                    altered.source.ip = Some(address);
                }
                altered
            });
            Some(made.collect())
        }
        field => {
            let name = field.strip_prefix("request.headers[")?.strip_suffix(']')?.to_ascii_lowercase();
            if name.starts_with(':') || name == "host" || text::is_credential_header(&name) {
                return None;
            }
            if leaf.negated {
                let mut altered = request.clone();
                altered.headers.retain(|(other, _)| *other != name);
                return Some(vec![altered]);
            }
            let set = |request: &mut Request, value: String| {
                request.headers.retain(|(other, _)| *other != name);
                request.headers.push((name.clone(), value));
            };
            with(&set, concrete(leaf, "x", &[]))
        }
    }
}

/// Values that the patterns of `leaf` take, those like what was found first. For a negated leaf those of `common` that
/// they do not take.
fn concrete(leaf: &LeafTrace, filler: &str, common: &[&str]) -> Vec<String> {
    if leaf.negated {
        let allowed = common.iter().filter(|value| !leaf.wanted.iter().any(|pattern| fits(pattern, value)));
        return allowed.map(|value| (*value).to_owned()).collect();
    }
    let found = match &leaf.found {
        Found::Values(values) => values.first().map(String::as_str).unwrap_or_default(),
        _ => "",
    };
    let mut wanted: Vec<&String> = leaf.wanted.iter().collect();
    wanted.sort_by_key(|pattern| std::cmp::Reverse(common_prefix(pattern, found)));
    wanted.into_iter().take(MAX_WANTED).map(|pattern| sample(pattern, filler)).collect()
}

/// A value that `pattern` takes.
pub(super) fn sample(pattern: &str, filler: &str) -> String {
    if pattern.contains("{*}") || pattern.contains("{**}") {
        return pattern.replace("{**}", filler).replace("{*}", filler);
    }
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => filler.to_owned(),
        (Some(suffix), _) => format!("{filler}{suffix}"),
        (None, Some(prefix)) => format!("{prefix}{filler}"),
        (None, None) => pattern.to_owned(),
    }
}

/// Whether a value of a policy takes `value`, as far as `*` at its ends goes.
pub(super) fn fits(pattern: &str, value: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => true,
        (Some(suffix), _) => value.ends_with(suffix),
        (None, Some(prefix)) => value.starts_with(prefix),
        (None, None) => value == pattern,
    }
}

fn common_prefix(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count()
}

/// A change of one list in one rule.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Edit {
    namespace: String,
    name: String,
    rule: usize,
    part: Part,
    field: String,
    /// The field as it is told: with its place where the rule has several sources or operations.
    told: String,
    negated: bool,
    /// What is put in, or, of a negated field, the values that are taken out.
    values: Vec<String>,
}

impl Edit {
    /// What makes `leaf` match what the request has. `None`: nothing in the policy can.
    pub(super) fn of(candidate: &Candidate<'_>, part: Part, leaf: &LeafTrace) -> Option<Self> {
        let Found::Values(found) = &leaf.found else { return None };
        let values = if leaf.negated {
            leaf.wanted.iter().filter(|pattern| found.iter().any(|value| fits(pattern, value))).cloned().collect()
        } else {
            // A `*` would say more than was asked for, and may be a veil; an empty value is refused by Istio.
            let usable = |value: &&String| !value.is_empty() && !value.contains('*') && !value.ends_with('…');
            found.first().filter(usable).cloned().into_iter().collect()
        };
        let values: Vec<String> = values;
        let told = match part {
            Part::From(at) if candidate.rule.from.len() > 1 => format!("from[{at}].source.{}", leaf.field),
            Part::To(at) if candidate.rule.to.len() > 1 => format!("to[{at}].operation.{}", leaf.field),
            _ => leaf.field.clone(),
        };
        (!values.is_empty()).then(|| Self {
            namespace: candidate.policy.namespace.clone(),
            name: candidate.policy.name.clone(),
            rule: candidate.rule.index,
            part,
            field: leaf.field.clone(),
            told,
            negated: leaf.negated,
            values,
        })
    }

    /// `add /admin to paths`.
    pub(super) fn words(&self) -> String {
        let values = text::values(&self.values, 3);
        let field = text::plain(&self.told);
        let list = match (self.part, self.negated) {
            (Part::When, true) => format!("notValues of {field}"),
            (Part::When, false) => format!("values of {field}"),
            _ => field,
        };
        if self.negated { format!("take {values} out of {list}") } else { format!("add {values} to {list}") }
    }

    /// Makes the change. False when the rule is not there.
    pub(super) fn apply(&self, resources: &mut Resources) -> bool {
        let is_it = |p: &&mut AuthorizationPolicy| p.meta.namespace == self.namespace && p.meta.name == self.name;
        let policy = resources.authorization_policies.iter_mut().find(is_it);
        let rule = policy.and_then(|policy| policy.rules.as_mut()?.get_mut(self.rule));
        rule.and_then(|rule| self.apply_to(rule)).is_some()
    }

    fn apply_to(&self, rule: &mut Rule) -> Option<()> {
        match self.part {
            Part::From(at) => {
                let source = rule.from.as_mut()?.get_mut(at)?;
                self.change(source_list(source, &self.field)?)?;
                // An empty list is no condition; a source without any is refused.
                if *source == Source::default() {
                    rule.from = None;
                }
            }
            Part::To(at) => {
                let operation = rule.to.as_mut()?.get_mut(at)?;
                match self.field.as_str() {
                    "ports" => operation.ports.push(self.values.first()?.parse().ok()?),
                    "notPorts" => {
                        operation.not_ports.retain(|port| !self.values.contains(&port.to_string()));
                    }
                    field => self.change(operation_list(operation, field)?)?,
                }
                if *operation == Operation::default() {
                    rule.to = None;
                }
            }
            Part::When => {
                let conditions = rule.when.as_mut()?;
                let at = conditions.iter().position(|condition| {
                    let has = if self.negated { &condition.not_values } else { &condition.values };
                    condition.key.to_string() == self.field && !has.is_empty()
                })?;
                let Condition { values, not_values, .. } = conditions.get_mut(at)?;
                self.change(if self.negated { not_values } else { values })?;
                if values.is_empty() && not_values.is_empty() {
                    conditions.remove(at);
                }
                if conditions.is_empty() {
                    rule.when = None;
                }
            }
        }
        Some(())
    }

    fn change(&self, list: &mut Vec<String>) -> Option<()> {
        if self.negated {
            let before = list.len();
            list.retain(|value| !self.values.contains(value));
            (list.len() < before).then_some(())
        } else {
            list.extend(self.values.first().cloned());
            Some(())
        }
    }
}

fn source_list<'a>(source: &'a mut Source, field: &str) -> Option<&'a mut Vec<String>> {
    Some(match field {
        "principals" => &mut source.principals,
        "notPrincipals" => &mut source.not_principals,
        "requestPrincipals" => &mut source.request_principals,
        "notRequestPrincipals" => &mut source.not_request_principals,
        "namespaces" => &mut source.namespaces,
        "notNamespaces" => &mut source.not_namespaces,
        "serviceAccounts" => &mut source.service_accounts,
        "notServiceAccounts" => &mut source.not_service_accounts,
        "trustDomains" => &mut source.trust_domains,
        "notTrustDomains" => &mut source.not_trust_domains,
        _ => return None,
    })
}

fn operation_list<'a>(operation: &'a mut Operation, field: &str) -> Option<&'a mut Vec<String>> {
    Some(match field {
        "hosts" => &mut operation.hosts,
        "notHosts" => &mut operation.not_hosts,
        "methods" => &mut operation.methods,
        "notMethods" => &mut operation.not_methods,
        "paths" => &mut operation.paths,
        "notPaths" => &mut operation.not_paths,
        _ => return None,
    })
}
