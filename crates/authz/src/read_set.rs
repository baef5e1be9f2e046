//! What a verdict at an API can depend on: all that a cache of verdicts must know.
//!
//! It is read out of the compiled policies of both hops, so it holds for every request and every caller. It is never too
//! small; it is too large where a rule that reads something never decides.

use std::collections::BTreeMap;

use crate::compiled::{
    ArchivedApiGateway, ArchivedAuthorizationPolicy, ArchivedCondition, ArchivedJwtRule, ArchivedOperation,
    ArchivedRule, ArchivedSource, ArchivedUriMatch, Mode,
};
use crate::decision::Hop;
use crate::hops;
use crate::index::Action;
use crate::policies::{Labels, Policies, Workload};

/// Something of a request that a verdict can depend on.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Read {
    /// A header, by its name in lower case.
    Header(String),
    /// A query parameter.
    Parameter(String),
    /// A cookie.
    Cookie(String),
    /// The path. It is always read: one that can be read in two ways is denied.
    Path,
    /// The method.
    Method,
    /// The host, which is the domain that the API was called by.
    Host,
    /// The stage of the API.
    Stage,
    /// The whole query.
    Query,
    /// The client's address.
    ClientAddress,
    /// The client's certificate.
    ClientCertificate,
    /// Whether an `OPTIONS` request is a CORS preflight, which `origin` and `access-control-request-method` say: its tokens
    /// are not looked at.
    Preflight,
    /// What an extension provider says, which nobody knows beforehand.
    Provider(String),
    /// The time, and what is revoked: a token that is valid now is not valid for ever.
    Time,
}

/// What reads it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reader {
    /// `KIND NAMESPACE/NAME`; empty for what every API does.
    pub resource: String,
    /// The field in words of its kind, such as `rules[0]: paths`.
    pub field: String,
    /// Where.
    pub hop: Hop,
}

/// Everything that verdicts at one or more APIs can depend on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadSet {
    reads: BTreeMap<Read, Vec<Reader>>,
    credentials: Vec<Read>,
}

impl ReadSet {
    /// What is read, and what reads it, each reader once.
    pub fn iter(&self) -> impl Iterator<Item = (&Read, &[Reader])> {
        self.reads.iter().map(|(read, readers)| (read, readers.as_slice()))
    }

    /// What reads `read`; nothing when it is not read.
    pub fn readers(&self, read: &Read) -> &[Reader] {
        self.reads.get(read).map_or(&[], Vec::as_slice)
    }

    /// Where credentials stand, each place once.
    pub fn credentials(&self) -> &[Read] {
        &self.credentials
    }

    /// Both together.
    pub fn merge(&mut self, other: &Self) {
        for (read, readers) in other.iter() {
            readers.iter().for_each(|reader| self.add(read.clone(), reader.clone()));
        }
        other.credentials.iter().for_each(|place| self.add_credential(place.clone()));
    }

    fn add(&mut self, read: Read, reader: Reader) {
        let readers = self.reads.entry(read).or_default();
        if !readers.contains(&reader) {
            readers.push(reader);
        }
    }

    fn add_credential(&mut self, place: Read) {
        if !self.credentials.contains(&place) {
            self.credentials.push(place);
        }
    }
}

/// What verdicts at the API of the `ApiGateway` document `gateway`, `NAMESPACE/NAME`, can depend on; `None` when there is
/// no such document.
pub fn read_set(policies: &Policies, gateway: &str) -> Option<ReadSet> {
    let found = policies.archived_api_gateways().find(|one| one.name == *gateway)?;
    let mut collector = Collector { policies, set: ReadSet::default(), at: String::new(), hop: Hop::Request };
    collector.add(Read::Path, "a path that can be read in two ways is denied");
    let same_api = policies.archived_api_gateways().filter(|other| other.api_id == found.api_id).count();
    if same_api > 1 {
        collector.at = format!("ApiGateway {gateway}");
        collector.add(Read::Stage, "spec.stage");
    }
    // A request that is another document's by its host is not this one's.
    let told_apart_by_host = |other: &ArchivedApiGateway| {
        other.name != found.name
            && (other.environment != found.environment
                || (&other.api_id, &other.stage) == (&found.api_id, &found.stage))
    };
    if policies.archived_api_gateways().any(told_apart_by_host) {
        collector.at = format!("ApiGateway {gateway}");
        collector.add(Read::Host, "spec.domains");
    }
    collector.routes(found);
    if found.mutual_tls {
        collector.add(Read::ClientCertificate, "tls.mode MUTUAL of its Gateway");
    }
    collector.hop = Hop::Gateway;
    collector.workload(hops::gateway_workload(found));
    collector.hop = Hop::Destination;
    for route in found.virtual_hosts.iter().flat_map(|host| host.routes.iter()) {
        let namespace = route.destination.namespace.as_str();
        collector.workload(Workload { namespace, labels: Labels::Compiled(&route.destination.labels) });
    }
    Some(collector.set)
}

struct Collector<'a> {
    policies: &'a Policies,
    set: ReadSet,
    /// The document that is being read.
    at: String,
    hop: Hop,
}

impl Collector<'_> {
    fn add(&mut self, read: Read, field: impl Into<String>) {
        self.set.add(read, Reader { resource: self.at.clone(), field: field.into(), hop: self.hop });
    }

    fn credential(&mut self, place: Read, field: &str) {
        self.set.add_credential(place.clone());
        self.add(place, field);
    }

    /// The table of hosts and paths that leads to a destination.
    fn routes(&mut self, gateway: &ArchivedApiGateway) {
        self.at = format!("ApiGateway {}", gateway.name);
        let any_host = gateway.virtual_hosts.iter().all(|host| host.host == *"*");
        if !any_host {
            self.add(Read::Host, "hosts of its VirtualServices");
        }
        // It is taken off at a custom domain, and not at the domain that API Gateway gives the API.
        if gateway.base_path.as_ref().is_some_and(|base_path| !base_path.is_empty()) {
            self.add(Read::Host, "spec.basePath");
        }
        let mut matches =
            gateway.virtual_hosts.iter().flat_map(|host| host.routes.iter()).flat_map(|r| r.matches.iter());
        if matches.any(|uri| !matches!(uri, ArchivedUriMatch::Any)) {
            self.add(Read::Path, "uri matches of its VirtualServices");
        }
    }

    fn workload(&mut self, workload: Workload<'_>) {
        let policies = self.policies;
        let applicable = policies.of_workload(workload);
        for (namespace, authentication) in applicable.named_request_authentications() {
            self.at = format!("RequestAuthentication {namespace}/{}", authentication.name);
            authentication.rules.iter().for_each(|rule| self.tokens(rule));
        }
        for (namespace, authentication) in applicable.named_api_key_authentications() {
            self.at = format!("ApiKeyAuthentication {namespace}/{}", authentication.name);
            self.credential(Read::Header(authentication.header_name.as_str().to_owned()), "headerName");
            self.add(Read::Time, "keys expire and are revoked");
        }
        for action in [Action::Custom, Action::Deny, Action::Allow] {
            for namespace in applicable.namespaces() {
                let name = namespace.name.as_str();
                let enforced = action.policies(namespace).iter().filter(|policy| !policy.dry_run);
                for policy in enforced.filter(|policy| applicable.applies(name, policy)) {
                    self.at = format!("AuthorizationPolicy {name}/{}", policy.name);
                    self.policy(policy);
                }
            }
        }
    }

    fn tokens(&mut self, rule: &ArchivedJwtRule) {
        for header in rule.headers.iter() {
            self.credential(Read::Header(header.name.as_str().to_owned()), "fromHeaders");
        }
        for parameter in rule.parameters.iter() {
            self.credential(Read::Parameter(parameter.as_str().to_owned()), "fromParams");
        }
        for cookie in rule.cookies.iter() {
            self.credential(Read::Cookie(cookie.as_str().to_owned()), "fromCookies");
        }
        self.add(Read::Preflight, "tokens of a CORS preflight are not looked at");
        self.add(Read::Time, "tokens expire and are revoked");
        // Any token may have `cnf`, and only `strict` looks at it.
        if self.policies.mode() == Mode::Strict {
            self.add(Read::ClientCertificate, "tokens may be bound to a certificate (`cnf`)");
        }
    }

    fn policy(&mut self, policy: &ArchivedAuthorizationPolicy) {
        if let Some(provider) = policy.provider.as_ref() {
            let provider = self.policies.provider(provider.to_native());
            if let Some(provider) = provider.filter(|provider| provider.usable && !provider.is_adapter) {
                self.add(Read::Provider(provider.name.as_str().to_owned()), "provider");
            }
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            self.rule(index, rule);
        }
    }

    fn rule(&mut self, index: usize, rule: &ArchivedRule) {
        let at = |field: &str| format!("rules[{index}]: {field}");
        for source in rule.from.iter() {
            self.source(source, &at);
        }
        for operation in rule.to.iter() {
            self.operation(operation, &at);
        }
        for condition in rule.when.iter() {
            self.condition(condition, &at);
        }
    }

    /// The peer of the second hop is the gateway, always.
    fn peer(&mut self, field: String) {
        if self.hop == Hop::Gateway {
            self.add(Read::ClientCertificate, field);
        }
    }

    fn source(&mut self, source: &ArchivedSource, at: &dyn Fn(&str) -> String) {
        if source.principals.is_some()
            || source.namespaces.is_some()
            || source.service_accounts.is_some()
            || source.trust_domains.is_some()
        {
            self.peer(at("principals, namespaces, serviceAccounts or trustDomains"));
        }
        // The direct peer of the second hop cannot be known.
        if source.ip_blocks.is_some() && self.hop == Hop::Gateway {
            self.add(Read::ClientAddress, at("ipBlocks"));
        }
        if source.remote_ip_blocks.is_some() {
            self.add(Read::ClientAddress, at("remoteIpBlocks"));
        }
    }

    fn operation(&mut self, operation: &ArchivedOperation, at: &dyn Fn(&str) -> String) {
        if operation.hosts.is_some() {
            self.add(Read::Host, at("hosts"));
        }
        if operation.methods.is_some() {
            self.add(Read::Method, at("methods"));
        }
        if operation.paths.is_some() {
            self.add(Read::Path, at("paths"));
        }
    }

    fn condition(&mut self, condition: &ArchivedCondition, at: &dyn Fn(&str) -> String) {
        match condition {
            ArchivedCondition::Header(header) => {
                let name = header.name.as_str();
                let field = at(&format!("request.headers[{name}]"));
                match name {
                    ":method" => self.add(Read::Method, field),
                    ":path" => {
                        self.add(Read::Path, field.clone());
                        self.add(Read::Query, field);
                    }
                    ":authority" | "host" => self.add(Read::Host, field),
                    // Always https.
                    ":scheme" => {}
                    _ => self.add(Read::Header(name.to_owned()), field),
                }
            }
            ArchivedCondition::Principal(_)
            | ArchivedCondition::Namespace(_)
            | ArchivedCondition::ServiceAccount(_)
            | ArchivedCondition::TrustDomain(_) => self.peer(at("source.principal, namespace and the like")),
            ArchivedCondition::SourceIp(_) => {
                if self.hop == Hop::Gateway {
                    self.add(Read::ClientAddress, at("source.ip"));
                }
            }
            ArchivedCondition::RemoteIp(_) => self.add(Read::ClientAddress, at("remote.ip")),
            // What the credentials say, and they are read anyway.
            ArchivedCondition::Claim(_) | ArchivedCondition::RequestPrincipal(_) => {}
            // The same for every request of an API, or never known.
            ArchivedCondition::Port(_)
            | ArchivedCondition::DestinationIp(_)
            | ArchivedCondition::Sni(_)
            | ArchivedCondition::Metadata(_) => {}
        }
    }
}
