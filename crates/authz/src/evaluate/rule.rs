//! The walk over one rule.

use std::borrow::Cow;
use std::fmt::Display;
use std::net::IpAddr;

use rkyv::Archive;

use super::Attributes;
use super::probe::{Name, Probe, Side};
use crate::claims::{Claims, Json};
use crate::compiled::{
    ArchivedCondition, ArchivedField, ArchivedHeaderCondition, ArchivedOperation, ArchivedRule, ArchivedSource,
    ArchivedValues, needs,
};
use crate::grants::Reach;
use crate::index::Action;
use crate::matchers::{
    ArchivedPathPattern, ArchivedPattern, IpRange, NamespaceGlob, Pattern, RequestPrincipal, ServiceAccount,
    TrustDomain,
};
use crate::request::{lines, path_only};
use crate::trace::Found;

/// The attributes as one action looks at them.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) attributes: &'a Attributes<'a>,
    pub(super) action: Action,
}

impl View<'_> {
    /// Whether the rule matches: `from` and `to` and `when`.
    pub(super) fn rule<P: Probe>(self, rule: &ArchivedRule, probe: &mut P) -> bool {
        // "ALLOW: any generator error drops the whole rule", even when another branch of it would match.
        let needs = rule.needs.to_native();
        let missing = if self.action == Action::Allow { needs & self.unavailable() } else { 0 };
        probe.unavailable(missing);
        let mut matched = missing == 0;
        if matched || P::WHOLE {
            matched &= any(&rule.from, Side::From, probe, |source, probe| self.source(source, probe));
        }
        if matched || P::WHOLE {
            matched &= any(&rule.to, Side::To, probe, |operation, probe| self.operation(operation, probe));
        }
        for condition in rule.when.iter() {
            if matched || P::WHOLE {
                matched &= self.condition(condition, probe);
            }
        }
        matched
    }

    /// The attributes that are unavailable.
    fn unavailable(self) -> u16 {
        let Attributes { source_ip, remote_ip, destination_ip, port, sni, dynamic_metadata, unknown, .. } =
            *self.attributes;
        let bits = [
            (source_ip.is_none(), needs::SOURCE_IP),
            (remote_ip.is_none(), needs::REMOTE_IP),
            (destination_ip.is_none(), needs::DESTINATION_IP),
            (port.is_none(), needs::PORT),
            (sni.is_none(), needs::SNI),
            (dynamic_metadata.is_none(), needs::DYNAMIC_METADATA),
            (unknown.host, needs::HOST),
            (unknown.headers, needs::HEADERS),
            (unknown.principal, needs::PRINCIPAL),
        ];
        bits.into_iter().filter(|(missing, _)| *missing).fold(0, |all, (_, bit)| all | bit)
    }

    /// An ALLOW rule that asks for an unknown caller does not match, as one that asks for a caller where there is none.
    fn is_caller_unknown(self) -> bool {
        self.attributes.caller_unknown && self.action != Action::Allow
    }

    fn source<P: Probe>(self, source: &ArchivedSource, probe: &mut P) -> bool {
        let Attributes { source_ip, remote_ip, .. } = *self.attributes;
        let pair = Name::Pair;
        all(
            &mut [
                &mut field(&source.principals, |values, probe| {
                    self.principals(pair("principals", "notPrincipals"), values, probe)
                }),
                &mut field(&source.request_principals, |values, probe| {
                    self.request_principals(pair("requestPrincipals", "notRequestPrincipals"), values, probe)
                }),
                &mut field(&source.namespaces, |values, probe| {
                    self.namespaces(pair("namespaces", "notNamespaces"), values, probe)
                }),
                &mut field(&source.service_accounts, |values, probe| {
                    self.service_accounts(pair("serviceAccounts", "notServiceAccounts"), values, probe)
                }),
                &mut field(&source.trust_domains, |values, probe| {
                    self.trust_domains(pair("trustDomains", "notTrustDomains"), values, probe)
                }),
                &mut field(&source.ip_blocks, |values, probe| {
                    addresses(pair("ipBlocks", "notIpBlocks"), values, source_ip, probe)
                }),
                &mut field(&source.remote_ip_blocks, |values, probe| {
                    addresses(pair("remoteIpBlocks", "notRemoteIpBlocks"), values, remote_ip, probe)
                }),
            ],
            probe,
        )
    }

    fn operation<P: Probe>(self, operation: &ArchivedOperation, probe: &mut P) -> bool {
        let Attributes { method, path, area, .. } = *self.attributes;
        let path = path_only(path);
        let pair = Name::Pair;
        all(
            &mut [
                &mut field(&operation.ports, |values, probe| self.ports(pair("ports", "notPorts"), values, probe)),
                &mut field(&operation.methods, |values, probe| {
                    let matches = |pattern: &ArchivedPattern, _| pattern.matches_header(method);
                    leaf(pair("methods", "notMethods"), values, probe, || text(method), matches)
                }),
                &mut field(&operation.hosts, |values, probe| self.hosts(pair("hosts", "notHosts"), values, probe)),
                &mut field(&operation.paths, |values, probe| {
                    let matches = |pattern: &ArchivedPathPattern, negated| match area {
                        None => pattern.matches(path),
                        Some(area) => area.path(pattern, self.reach(negated)),
                    };
                    leaf(pair("paths", "notPaths"), values, probe, || text(path), matches)
                }),
            ],
            probe,
        )
    }

    fn condition<P: Probe>(self, condition: &ArchivedCondition, probe: &mut P) -> bool {
        let Attributes { source_ip, remote_ip, destination_ip, sni, .. } = *self.attributes;
        match condition {
            ArchivedCondition::Header(header) => self.header(header, probe),
            ArchivedCondition::Claim(claim) if self.is_caller_unknown() => {
                unavailable(Name::Claim(&claim.path), &claim.patterns, probe)
            }
            ArchivedCondition::Claim(claim) => {
                let found = self.claim(claim.path.iter().map(|name| name.as_str()));
                let split = match claim.path.as_slice() {
                    [name] => self.attributes.claims.is_some_and(|claims| claims.is_space_delimited(name.as_str())),
                    _ => false,
                };
                let shown = || found.map_or(Found::Missing, |claim| claim_found(claim, split));
                leaf(Name::Claim(&claim.path), &claim.patterns, probe, shown, |pattern, _| {
                    found.is_some_and(|claim| claim_matches(claim, split, pattern))
                })
            }
            ArchivedCondition::RequestPrincipal(principals) => {
                self.request_principals(Name::Key("request.auth.principal"), principals, probe)
            }
            ArchivedCondition::Principal(patterns) => self.principals(Name::Key("source.principal"), patterns, probe),
            ArchivedCondition::Namespace(namespaces) => {
                self.namespaces(Name::Key("source.namespace"), namespaces, probe)
            }
            ArchivedCondition::Port(ports) => self.ports(Name::Key("destination.port"), ports, probe),
            ArchivedCondition::ServiceAccount(accounts) => {
                self.service_accounts(Name::Key("source.serviceAccount"), accounts, probe)
            }
            ArchivedCondition::TrustDomain(domains) => {
                self.trust_domains(Name::Key("source.trustDomain"), domains, probe)
            }
            ArchivedCondition::SourceIp(ranges) => addresses(Name::Key("source.ip"), ranges, source_ip, probe),
            ArchivedCondition::RemoteIp(ranges) => addresses(Name::Key("remote.ip"), ranges, remote_ip, probe),
            ArchivedCondition::DestinationIp(ranges) => {
                addresses(Name::Key("destination.ip"), ranges, destination_ip, probe)
            }
            ArchivedCondition::Sni(patterns) => {
                let name = Name::Key("connection.sni");
                let Some(sni) = sni else { return unavailable(name, patterns, probe) };
                // Envoy: "always keep the server name as lower case".
                let sni = match sni.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    true => Cow::Owned(sni.to_ascii_lowercase()),
                    false => Cow::Borrowed(sni),
                };
                let shown = || if sni.is_empty() { Found::Missing } else { text(&sni) };
                leaf(name, patterns, probe, shown, |pattern, _| pattern.matches_string(&sni))
            }
            ArchivedCondition::Metadata(condition) => {
                let name = Name::Metadata(condition.filter.as_str(), &condition.path);
                let Some(filters) = self.attributes.dynamic_metadata else {
                    return unavailable(name, &condition.patterns, probe);
                };
                let filter = filters.iter().find(|(name, _)| *name == *condition.filter);
                let found = filter.and_then(|(_, object)| member(object, condition.path.iter().map(|n| n.as_str())));
                let shown = || found.map_or(Found::Missing, |value| claim_found(value, false));
                leaf(name, &condition.patterns, probe, shown, |pattern, _| {
                    found.is_some_and(|value| pattern.matches(value))
                })
            }
        }
    }

    /// "Plaintext → positive never matches, `not*` always matches."
    fn peer<T, P: Probe>(
        self,
        name: Name<'_>,
        values: &ArchivedValues<T>,
        probe: &mut P,
        matches: impl Fn(&T::Archived, &str) -> bool,
    ) -> bool
    where
        T: Archive<Archived: Display>,
    {
        let Attributes { principal, unknown, .. } = *self.attributes;
        if unknown.principal {
            return unavailable(name, values, probe);
        }
        leaf(
            name,
            values,
            probe,
            || principal.map_or(Found::Missing, text),
            |value, _| principal.is_some_and(|principal| matches(value, principal)),
        )
    }

    fn principals<P: Probe>(self, name: Name<'_>, values: &ArchivedValues<Pattern>, probe: &mut P) -> bool {
        self.peer(name, values, probe, |pattern, principal| pattern.matches_principal(principal))
    }

    fn namespaces<P: Probe>(self, name: Name<'_>, values: &ArchivedValues<NamespaceGlob>, probe: &mut P) -> bool {
        self.peer(name, values, probe, |glob, principal| glob.matches(principal))
    }

    fn service_accounts<P: Probe>(
        self,
        name: Name<'_>,
        values: &ArchivedValues<ServiceAccount>,
        probe: &mut P,
    ) -> bool {
        self.peer(name, values, probe, |account, principal| account.matches(principal))
    }

    fn trust_domains<P: Probe>(self, name: Name<'_>, values: &ArchivedValues<TrustDomain>, probe: &mut P) -> bool {
        self.peer(name, values, probe, |domain, principal| domain.matches(principal))
    }

    fn request_principals<P: Probe>(
        self,
        name: Name<'_>,
        values: &ArchivedValues<RequestPrincipal>,
        probe: &mut P,
    ) -> bool {
        if self.is_caller_unknown() {
            return unavailable(name, values, probe);
        }
        let issuer = self.attributes.claims.and_then(Claims::issuer);
        let subject = self.attributes.claims.and_then(Claims::subject);
        let shown = || match (issuer, subject) {
            (Some(issuer), Some(subject)) => text(&format!("{issuer}/{subject}")),
            _ => Found::Missing,
        };
        leaf(name, values, probe, shown, |principal, _| principal.matches(issuer, subject))
    }

    fn hosts<P: Probe>(self, name: Name<'_>, hosts: &ArchivedValues<Pattern>, probe: &mut P) -> bool {
        let Attributes { host, unknown, .. } = *self.attributes;
        if unknown.host {
            return unavailable(name, hosts, probe);
        }
        leaf(name, hosts, probe, || text(host), |pattern, _| pattern.matches_host(host))
    }

    fn ports<P: Probe>(self, name: Name<'_>, ports: &ArchivedValues<u16>, probe: &mut P) -> bool {
        let Some(port) = self.attributes.port else { return unavailable(name, ports, probe) };
        leaf(name, ports, probe, || text(&port.to_string()), |value, _| value.to_native() == port)
    }

    fn claim<'n>(&self, path: impl Iterator<Item = &'n str>) -> Option<&Json> {
        member(self.attributes.claims?.as_json(), path)
    }

    /// "Missing header → values false, notValues true." Lines are tested one by one.
    fn header<P: Probe>(self, header: &ArchivedHeaderCondition, probe: &mut P) -> bool {
        // Where only the joined form is known it cannot be said whether `a,b` is one line or two. Each
        // test is made in the way that allows less: a match that would deny may also be one of a part, a
        // match that would allow must be one of the whole.
        let name = header.name.as_str();
        if needs::of_header(name) & self.unavailable() != 0 {
            return unavailable(Name::Header(name), &header.patterns, probe);
        }
        if name == ":path" && self.attributes.area.is_some() {
            let matches = |_: &ArchivedPattern, negated| self.reach(negated) == Reach::Some;
            return leaf(Name::Header(name), &header.patterns, probe, || Found::Unavailable, matches);
        }
        let matches = |pattern: &ArchivedPattern, negated: bool| {
            let wide = self.attributes.joined && self.reach(negated) == Reach::Some;
            self.header_values(name)
                .any(|value| pattern.matches_header(value) || (wide && matches_some_line(pattern, value)))
        };
        let shown = || {
            let values: Vec<String> = self.header_values(name).map(str::to_owned).collect();
            if values.is_empty() { Found::Missing } else { Found::Values(values) }
        };
        leaf(Name::Header(name), &header.patterns, probe, shown, matches)
    }

    /// What a test must come to where it stands for more than one: the way that allows less.
    fn reach(self, negated: bool) -> Reach {
        if (self.action == Action::Allow) == negated { Reach::Some } else { Reach::Every }
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

/// Whether `pattern` matches some header line that may be a part of `joined`. Commas stand between lines and within them
/// alike, so a line may be any run of the parts: the value `a,b` is in `a,b,c` the first of two lines, or no line at all.
fn matches_some_line(pattern: &ArchivedPattern, joined: &str) -> bool {
    // The lines themselves have no white space at their ends; who joins them may put some behind the comma.
    let trimmed = |text: &'_ str| text.len() - text.trim_start().len();
    let mut starts = std::iter::once(0).chain(joined.match_indices(',').map(|(at, _)| at + 1));
    match pattern {
        ArchivedPattern::Any => true,
        ArchivedPattern::Exact(text) => starts.any(|start| {
            let rest = joined.get(start..).unwrap_or_default();
            [0, trimmed(rest)].into_iter().any(|skipped| {
                let behind = rest.get(skipped..).and_then(|rest| rest.strip_prefix(text.as_str()));
                behind.map(str::trim_start).is_some_and(|behind| behind.is_empty() || behind.starts_with(','))
            })
        }),
        ArchivedPattern::Prefix(text) => starts.any(|start| {
            let rest = joined.get(start..).unwrap_or_default();
            rest.starts_with(text.as_str()) || rest.trim_start().starts_with(text.as_str())
        }),
        ArchivedPattern::Suffix(text) => {
            let mut ends = joined.match_indices(',').map(|(at, _)| at).chain(std::iter::once(joined.len()));
            ends.any(|end| {
                let line = joined.get(..end).unwrap_or_default();
                line.ends_with(text.as_str()) || line.trim_end().ends_with(text.as_str())
            })
        }
    }
}

/// Whether one of the branches matches, or there is none.
fn any<T, P: Probe>(branches: &[T], side: Side, probe: &mut P, matches: impl Fn(&T, &mut P) -> bool) -> bool {
    let mut matched = branches.is_empty();
    for branch in branches {
        if matched && !P::WHOLE {
            break;
        }
        let this = matches(branch, probe);
        probe.end_branch(side, this);
        matched |= this;
    }
    matched
}

/// Whether all parts match.
fn all<P: Probe>(parts: &mut [&mut dyn FnMut(&mut P) -> bool], probe: &mut P) -> bool {
    let mut matched = true;
    for part in parts {
        if matched || P::WHOLE {
            matched &= part(probe);
        }
    }
    matched
}

/// One part of a source or an operation; one that is absent restricts nothing.
fn field<T: Archive, P: Probe>(
    field: &ArchivedField<T>,
    matches: impl Fn(&ArchivedValues<T>, &mut P) -> bool,
) -> impl FnMut(&mut P) -> bool {
    move |probe| field.as_deref().is_none_or(|values| matches(values, probe))
}

/// "Field X = OR(X values); notX = NOT(OR(notX values)); both present → AND." `matches` is told whether the value is
/// one of the second kind.
fn leaf<T, P: Probe>(
    name: Name<'_>,
    values: &ArchivedValues<T>,
    probe: &mut P,
    found: impl Fn() -> Found,
    matches: impl Fn(&T::Archived, bool) -> bool,
) -> bool
where
    T: Archive<Archived: Display>,
{
    let mut matched = true;
    for (negated, list) in [(false, &values.values), (true, &values.not_values)] {
        if list.is_empty() || !(matched || P::WHOLE) {
            continue;
        }
        let this = list.iter().any(|value| matches(value, negated)) != negated;
        probe.leaf(name, negated, list, &found, this);
        matched &= this;
    }
    matched
}

/// "DENY/AUDIT/CUSTOM: the failing condition is dropped, the rest of the rule stays (wider deny)." An ALLOW rule is
/// dropped as a whole, whatever this says.
fn unavailable<T, P: Probe>(name: Name<'_>, values: &ArchivedValues<T>, probe: &mut P) -> bool
where
    T: Archive<Archived: Display>,
{
    for (negated, list) in [(false, &values.values), (true, &values.not_values)] {
        if !list.is_empty() {
            probe.leaf(name, negated, list, &|| Found::Unavailable, true);
        }
    }
    true
}

fn addresses<P: Probe>(
    name: Name<'_>,
    ranges: &ArchivedValues<IpRange>,
    address: Option<IpAddr>,
    probe: &mut P,
) -> bool {
    let Some(address) = address else { return unavailable(name, ranges, probe) };
    leaf(name, ranges, probe, || text(&address.to_string()), |range, _| range.contains(address))
}

fn member<'j, 'n>(object: &'j Json, path: impl Iterator<Item = &'n str>) -> Option<&'j Json> {
    let mut value = object;
    for name in path {
        value = value.get(name)?;
    }
    Some(value)
}

fn text(text: &str) -> Found {
    Found::Values(vec![text.to_owned()])
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

fn claim_found(claim: &Json, split: bool) -> Found {
    match claim {
        Json::String(text) if split => Found::Values(text.split(' ').map(str::to_owned).collect()),
        Json::String(whole) => text(whole),
        Json::List(list) => Found::Values(list.iter().filter_map(Json::as_str).map(str::to_owned).collect()),
        Json::Null => Found::WrongType("null".to_owned()),
        Json::Bool(_) => Found::WrongType("boolean".to_owned()),
        Json::Unsigned(_) | Json::Float(_) => Found::WrongType("number".to_owned()),
        Json::Object(_) => Found::WrongType("object".to_owned()),
    }
}
