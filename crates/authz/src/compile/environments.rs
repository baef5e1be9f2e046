//! Environments: which `ApiGateway` document a request is for must never be in doubt, and a token of one environment must
//! not open another.
//!
//! Istio knows a token's environment by issuer and audience alone. So each token that the workloads behind one
//! environment accept must be one that those behind another refuse.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use istio::{ApiGateway, Meta, Resources};

use super::Compiler;
use crate::compiled::{ArchivedApiGateway, ArchivedJwtRule, ArchivedVirtualHost};
use crate::hops;
use crate::policies::{Labels, Policies, Workload, is_generated};

/// A rule that accepts tokens which open two environments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SharedTokens<'r> {
    /// The `RequestAuthentication`.
    pub meta: &'r Meta,
    /// Path of the rule in its document.
    pub path: String,
    /// Whose tokens, and which environments.
    pub message: String,
    /// What to write.
    pub instead: String,
}

impl Compiler<'_> {
    /// Documents that could be for one request: id and stage of the API decide, and the host where these are the same.
    pub(super) fn check_api_gateways(&mut self) {
        let gateways = &self.resources.api_gateways;
        for (index, gateway) in gateways.iter().enumerate() {
            for other in gateways.iter().take(index) {
                let common = || gateway.domains.iter().filter(|domain| other.domains.contains(domain));
                let Some(domain) = common().find(|domain| !is_generated(domain)).or_else(|| common().next()) else {
                    continue;
                };
                let origin = &other.meta.origin;
                if (&gateway.api_id, &gateway.stage) == (&other.api_id, &other.stage) {
                    let message = format!(
                        "the same apiId and stage as the ApiGateway at {origin}, and both have the domain {domain}; leave \
                         one, or give each domains of its own"
                    );
                    self.error(&gateway.meta, message);
                } else if !is_generated(domain)
                    && gateway.environment != other.environment
                    && gateway.base_path == other.base_path
                {
                    // "An API mapping": one host and base path lead to one stage of one API.
                    let message = format!(
                        "the domain {domain} is of the environment {} here and of {} at {origin}, with the same basePath; \
                         give each environment a domain or a basePath of its own",
                        gateway.environment, other.environment
                    );
                    self.error(&gateway.meta, message);
                }
            }
        }
    }

    /// `section` is what the resources were compiled to, without an error.
    pub(super) fn check_tokens_of_environments(&mut self, section: &[u8]) {
        let resources = self.resources;
        if !has_several(resources) {
            return;
        }
        match Policies::open(section) {
            Ok(policies) => {
                for SharedTokens { meta, path, message, instead } in shared_tokens(&policies, resources) {
                    self.complain(meta, format!("{path}: {message}; {instead}"));
                }
            }
            Err(error) => {
                self.errors.push(super::CompileError { file: String::new(), line: 0, message: error.to_string() })
            }
        }
    }
}

fn has_several(resources: &Resources) -> bool {
    let mut environments = resources.api_gateways.iter().map(|gateway| &gateway.environment);
    environments.next().is_some_and(|first| environments.any(|other| other != first))
}

/// The rules of `resources` by which one token opens two environments that do not share theirs (`sharesTokensWith`), once
/// for each rule and pair of environments. `policies` is what they were compiled to.
pub fn shared_tokens<'r>(policies: &Policies, resources: &'r Resources) -> Vec<SharedTokens<'r>> {
    if !has_several(resources) {
        return Vec::new();
    }
    let documents = resources.request_authentications.iter().map(|one| &one.meta);
    let documents: HashMap<(&str, &str), &Meta> =
        documents.map(|meta| ((meta.namespace.as_str(), meta.name.as_str()), meta)).collect();
    let mut seen = Seen::default();
    let mut shared = Vec::new();
    for accepting in accepting(policies, resources) {
        let mut said: BTreeSet<&str> = BTreeSet::new();
        for other in seen.overlapping(accepting.rule) {
            let (one, two) = (accepting.api.environment.as_str(), other.api.environment.as_str());
            if one == two || said.contains(two) || may_share(&resources.api_gateways, one, two) {
                continue;
            }
            said.insert(two);
            let Some(meta) = documents.get(&(accepting.namespace, accepting.name)) else { continue };
            let elsewhere = if accepting.is_rule(&other) {
                String::new()
            } else {
                let place = documents.get(&(other.namespace, other.name)).map(|meta| meta.origin.to_string());
                format!(" by spec.jwtRules[{}] at {}", other.index, place.unwrap_or_default())
            };
            shared.push(SharedTokens {
                meta,
                path: format!("spec.jwtRules[{}]", accepting.index),
                message: format!(
                    "{} open the environment {one} at {} and {two} at {}{elsewhere}",
                    Tokens(accepting.rule, other.rule),
                    accepting.place(),
                    other.place(),
                ),
                instead: instead(&accepting, &other, one, two),
            });
        }
        seen.insert(accepting);
    }
    shared
}

/// What to do about it.
fn instead(accepting: &Accepting<'_>, other: &Accepting<'_>, one: &str, two: &str) -> String {
    let (a, b) = (&accepting.api.workload, &other.api.workload);
    let same_gateway = accepting.destination.is_none()
        && other.destination.is_none()
        && (&a.namespace, &a.labels) == (&b.namespace, &b.labels);
    let apart = if same_gateway {
        "both play one gateway workload, and one RequestAuthentication cannot tell them apart: give each environment a \
         gateway workload with labels of its own, and a RequestAuthentication for these with audiences of its own"
    } else if accepting.is_rule(other) {
        "give each environment a RequestAuthentication with audiences of its own, and select its workloads alone"
    } else {
        "give each of the two rules audiences that the other does not have"
    };
    format!("{apart}; where {one} and {two} are to share tokens, write sharesTokensWith in every ApiGateway of both")
}

/// Whether every document of each of the two environments names the other.
fn may_share(gateways: &[ApiGateway], one: &str, two: &str) -> bool {
    let says = |own: &str, other: &str| {
        let mut of_own = gateways.iter().filter(|gateway| gateway.environment == own);
        of_own.all(|gateway| gateway.shares_tokens_with.iter().any(|named| named == other))
    };
    says(one, two) && says(two, one)
}

/// A rule that decides about the tokens of one environment.
#[derive(Clone, Copy)]
struct Accepting<'a> {
    /// The first document of its environment whose requests come to the rule.
    api: &'a ApiGateway,
    /// The host of the workload behind the route; absent for the gateway workload.
    destination: Option<&'a str>,
    namespace: &'a str,
    name: &'a str,
    index: usize,
    rule: &'a ArchivedJwtRule,
}

impl Accepting<'_> {
    fn is_rule(&self, other: &Self) -> bool {
        (self.namespace, self.name, self.index) == (other.namespace, other.name, other.index)
    }

    fn place(&self) -> String {
        let Meta { namespace, name, .. } = &self.api.meta;
        match self.destination {
            None => format!("the gateway workload of ApiGateway {namespace}/{name}"),
            Some(host) => format!("{host} behind ApiGateway {namespace}/{name}"),
        }
    }
}

/// Every rule that an environment's tokens are accepted by, once for each environment.
///
/// The gateway workload comes first. A rule of the destination behind it counts too, unless the gateway has judged every
/// token that the rule can find: then it is the gateway's rules that decide.
fn accepting<'a>(policies: &'a Policies, resources: &'a Resources) -> Vec<Accepting<'a>> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    // Compiled in the order of the documents.
    for (gateway, api) in policies.archived_api_gateways().zip(&resources.api_gateways) {
        let own: Vec<Accepting<'a>> = rules(policies, hops::gateway_workload(gateway), api, None).collect();
        let mut add = |one: Accepting<'a>| {
            if seen.insert((api.environment.as_str(), one.namespace, one.name, one.index)) {
                found.push(one);
            }
        };
        own.iter().copied().for_each(&mut add);
        let mut hosts = BTreeSet::new();
        let reachable = gateway.virtual_hosts.iter().filter(|host| can_reach(host, gateway, policies));
        for destination in reachable.flat_map(|host| host.routes.iter()).map(|route| &route.destination) {
            if !hosts.insert(destination.host.as_str()) {
                continue;
            }
            let namespace = destination.namespace.as_str();
            let workload = Workload { namespace, labels: Labels::Compiled(&destination.labels) };
            let behind = rules(policies, workload, api, Some(destination.host.as_str()));
            behind.filter(|one| !is_judged_before(one.rule, &own)).for_each(&mut add);
        }
    }
    found
}

fn rules<'a>(
    policies: &'a Policies,
    workload: Workload<'a>,
    api: &'a ApiGateway,
    destination: Option<&'a str>,
) -> impl Iterator<Item = Accepting<'a>> {
    let documents = policies.of_workload(workload).named_request_authentications();
    documents.flat_map(move |(namespace, document)| {
        let name = document.name.as_str();
        let rules = document.rules.iter().enumerate();
        rules.map(move |(index, rule)| Accepting { api, destination, namespace, name, index, rule })
    })
}

/// Whether a request of this API can come by a host of these routes: not by one that is another environment's alone.
fn can_reach(host: &ArchivedVirtualHost, gateway: &ArchivedApiGateway, policies: &Policies) -> bool {
    let name = host.host.as_str();
    let is_of = |one: &ArchivedApiGateway| one.domains.iter().any(|domain| domain.as_str() == name);
    let mut others = policies.archived_api_gateways().filter(|other| other.environment != gateway.environment);
    is_of(gateway) || is_generated(name) || !others.any(is_of)
}

/// Whether every token that `rule` can find at a destination was verified by a rule of the gateway: where all of them look
/// at its places, the one that accepts the request has, whichever it is.
fn is_judged_before(rule: &ArchivedJwtRule, gateway: &[Accepting<'_>]) -> bool {
    let looks = |before: &ArchivedJwtRule| {
        let header = |wanted: &(&str, &str)| {
            before.headers.iter().any(|header| (header.name.as_str(), header.prefix.as_str()) == *wanted)
        };
        rule.headers.iter().map(|header| (header.name.as_str(), header.prefix.as_str())).all(|wanted| header(&wanted))
            && rule.parameters.iter().all(|name| before.parameters.iter().any(|other| other == name))
            && rule.cookies.iter().all(|name| before.cookies.iter().any(|other| other == name))
    };
    !gateway.is_empty() && gateway.iter().all(|one| looks(one.rule))
}

/// The rules so far, by issuer and audience (none where any is accepted): the first of each environment.
#[derive(Default)]
struct Seen<'a> {
    rules: BTreeMap<(&'a str, Option<&'a str>), BTreeMap<&'a str, Accepting<'a>>>,
}

impl<'a> Seen<'a> {
    fn insert(&mut self, accepting: Accepting<'a>) {
        let rule = accepting.rule;
        let mut add = |audience: Option<&'a str>| {
            let first = self.rules.entry((rule.issuer.as_str(), audience)).or_default();
            first.entry(accepting.api.environment.as_str()).or_insert(accepting);
        };
        if rule.audiences.is_empty() {
            add(None);
        }
        rule.audiences.iter().for_each(|audience| add(Some(audience.as_str())));
    }

    /// Rules that accept a token which `rule` accepts too: one whose issuer both take (an empty one is any), for an
    /// audience that both take.
    fn overlapping(&self, rule: &'a ArchivedJwtRule) -> Vec<Accepting<'a>> {
        let is_of =
            |wanted: &'a str| self.rules.range((wanted, None)..).take_while(move |((issuer, _), _)| *issuer == wanted);
        let fits = |audience: Option<&str>| {
            let wanted = &rule.audiences;
            wanted.is_empty() || audience.is_none_or(|audience| wanted.iter().any(|one| one.as_str() == audience))
        };
        let of_issuers: Vec<_> = match rule.issuer.as_str() {
            "" => self.rules.iter().collect(),
            issuer => is_of(issuer).chain(is_of("")).collect(),
        };
        let fitting = of_issuers.into_iter().filter(|((_, audience), _)| fits(*audience));
        fitting.flat_map(|(_, environments)| environments.values().copied()).collect()
    }
}

/// The tokens that two rules accept, in words.
struct Tokens<'a>(&'a ArchivedJwtRule, &'a ArchivedJwtRule);

impl fmt::Display for Tokens<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(one, two) = self;
        match [one, two].map(|rule| rule.issuer.as_str()).into_iter().find(|issuer| !issuer.is_empty()) {
            Some(issuer) => write!(f, "tokens of the issuer {issuer} ")?,
            None => write!(f, "tokens of any issuer ")?,
        }
        let audiences = |rule: &ArchivedJwtRule| -> BTreeSet<String> {
            rule.audiences.iter().map(|audience| audience.as_str().to_owned()).collect()
        };
        let (a, b) = (audiences(one), audiences(two));
        let common: Vec<String> = match (a.is_empty(), b.is_empty()) {
            (true, _) => b.into_iter().collect(),
            (_, true) => a.into_iter().collect(),
            _ => a.intersection(&b).cloned().collect(),
        };
        match common.as_slice() {
            [] => f.write_str("for any audience"),
            [one] => write!(f, "for the audience {one}"),
            [one, more @ ..] => write!(f, "for the audience {one} and {} more", more.len()),
        }
    }
}
