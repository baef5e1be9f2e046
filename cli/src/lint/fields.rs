//! The rules of a policy as a flat list: each list of values with what it is compared with, and its path.

use std::borrow::Cow;

use istio::{Action, AuthorizationPolicy, Condition, ConditionKey, IpBlock, Operation, Source};

/// What values are compared with. A field of a source or an operation and the key of a condition that mean the same are
/// the same here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attribute<'a> {
    Audience,
    Claim(&'a [String]),
    DestinationIp,
    EnvoyFilter,
    Header(&'a str),
    Host,
    IpBlock,
    Method,
    Namespace,
    Path,
    Port,
    Presenter,
    Principal,
    RemoteIpBlock,
    RequestPrincipal,
    ServiceAccount,
    Sni,
    TrustDomain,
}

impl Attribute<'_> {
    /// Whether it is read from a verified token or API key.
    pub(super) fn is_of_token(self) -> bool {
        matches!(self, Self::Audience | Self::Claim(_) | Self::Presenter | Self::RequestPrincipal)
    }

    /// Whether it is read from the peer's certificate.
    pub(super) fn is_of_peer(self) -> bool {
        matches!(self, Self::Namespace | Self::Principal | Self::ServiceAccount | Self::TrustDomain)
    }

    /// Whether it tells one caller from another.
    pub(super) fn is_of_caller(self) -> bool {
        self.is_of_token() || self.is_of_peer() || matches!(self, Self::Header(_) | Self::IpBlock | Self::RemoteIpBlock)
    }

    /// The gate's word for it, where it is one that a front may not know.
    pub(super) fn in_the_gate(self) -> Option<authz::Attribute> {
        match self {
            Self::IpBlock => Some(authz::Attribute::SourceIp),
            Self::RemoteIpBlock => Some(authz::Attribute::RemoteIp),
            Self::DestinationIp => Some(authz::Attribute::DestinationIp),
            Self::Port => Some(authz::Attribute::DestinationPort),
            Self::Sni => Some(authz::Attribute::Sni),
            Self::EnvoyFilter => Some(authz::Attribute::DynamicMetadata),
            _ => None,
        }
    }
}

/// Which list of a rule a field belongs to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Source(usize),
    Operation(usize),
    Condition,
}

/// One list of values.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    /// Index in `rules`.
    pub(super) rule: usize,
    pub(super) part: Part,
    pub(super) attribute: Attribute<'a>,
    /// Whether it is a `not…` field.
    pub(super) negative: bool,
    /// Such as `spec.rules[0].from[0].source.principals`.
    pub(super) path: String,
    pub(super) values: Vec<Cow<'a, str>>,
}

impl<'a> Field<'a> {
    /// The values, each with its path.
    pub(super) fn each(&self) -> impl Iterator<Item = (String, &str)> {
        self.values.iter().enumerate().map(|(index, value)| (format!("{}[{index}]", self.path), value.as_ref()))
    }

    /// Whether a request that this field misses gets in because of it: a DENY that does not match, or an exception of
    /// an ALLOW that does not apply.
    pub(super) fn opens_when_missed(&self, action: Action) -> bool {
        match action {
            Action::Allow | Action::Audit => self.negative && action == Action::Allow,
            // What CUSTOM does not match is not asked about.
            Action::Deny | Action::Custom => !self.negative,
        }
    }

    /// The last word of the path, or the key of the condition.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or_default()
    }

    fn new(
        rule: usize,
        part: Part,
        attribute: Attribute<'a>,
        negative: bool,
        path: String,
        values: Vec<Cow<'a, str>>,
    ) -> Self {
        Self { rule, part, attribute, negative, path, values }
    }
}

/// An address alone without the prefix that it did not have.
pub(super) fn ip_text(block: &IpBlock) -> String {
    let whole = if block.address.is_ipv4() { 32 } else { 128 };
    if block.prefix == whole { block.address.to_string() } else { block.to_string() }
}

/// Every list of values of `policy` that is not empty.
pub(super) fn fields(policy: &AuthorizationPolicy) -> Vec<Field<'_>> {
    let mut fields = Vec::new();
    for (index, rule) in policy.rules.iter().flatten().enumerate() {
        for (i, source) in rule.from.iter().flatten().enumerate() {
            source_fields(index, i, source, &mut fields);
        }
        for (i, operation) in rule.to.iter().flatten().enumerate() {
            operation_fields(index, i, operation, &mut fields);
        }
        for (i, condition) in rule.when.iter().flatten().enumerate() {
            condition_fields(index, i, condition, &mut fields);
        }
    }
    fields.retain(|field: &Field<'_>| !field.values.is_empty());
    fields
}

fn borrowed(values: &[String]) -> Vec<Cow<'_, str>> {
    values.iter().map(|value| Cow::Borrowed(value.as_str())).collect()
}

fn source_fields<'a>(rule: usize, index: usize, source: &'a Source, fields: &mut Vec<Field<'a>>) {
    let mut add = |name: &str, attribute, negative, values| {
        let path = format!("spec.rules[{rule}].from[{index}].source.{name}");
        fields.push(Field::new(rule, Part::Source(index), attribute, negative, path, values));
    };
    let blocks = |blocks: &[IpBlock]| blocks.iter().map(|block| Cow::Owned(ip_text(block))).collect();
    add("principals", Attribute::Principal, false, borrowed(&source.principals));
    add("notPrincipals", Attribute::Principal, true, borrowed(&source.not_principals));
    add("requestPrincipals", Attribute::RequestPrincipal, false, borrowed(&source.request_principals));
    add("notRequestPrincipals", Attribute::RequestPrincipal, true, borrowed(&source.not_request_principals));
    add("namespaces", Attribute::Namespace, false, borrowed(&source.namespaces));
    add("notNamespaces", Attribute::Namespace, true, borrowed(&source.not_namespaces));
    add("serviceAccounts", Attribute::ServiceAccount, false, borrowed(&source.service_accounts));
    add("notServiceAccounts", Attribute::ServiceAccount, true, borrowed(&source.not_service_accounts));
    add("trustDomains", Attribute::TrustDomain, false, borrowed(&source.trust_domains));
    add("notTrustDomains", Attribute::TrustDomain, true, borrowed(&source.not_trust_domains));
    add("ipBlocks", Attribute::IpBlock, false, blocks(&source.ip_blocks));
    add("notIpBlocks", Attribute::IpBlock, true, blocks(&source.not_ip_blocks));
    add("remoteIpBlocks", Attribute::RemoteIpBlock, false, blocks(&source.remote_ip_blocks));
    add("notRemoteIpBlocks", Attribute::RemoteIpBlock, true, blocks(&source.not_remote_ip_blocks));
}

fn operation_fields<'a>(rule: usize, index: usize, operation: &'a Operation, fields: &mut Vec<Field<'a>>) {
    let mut add = |name: &str, attribute, negative, values| {
        let path = format!("spec.rules[{rule}].to[{index}].operation.{name}");
        fields.push(Field::new(rule, Part::Operation(index), attribute, negative, path, values));
    };
    let ports = |ports: &[u16]| ports.iter().map(|port| Cow::Owned(port.to_string())).collect();
    add("hosts", Attribute::Host, false, borrowed(&operation.hosts));
    add("notHosts", Attribute::Host, true, borrowed(&operation.not_hosts));
    add("ports", Attribute::Port, false, ports(&operation.ports));
    add("notPorts", Attribute::Port, true, ports(&operation.not_ports));
    add("methods", Attribute::Method, false, borrowed(&operation.methods));
    add("notMethods", Attribute::Method, true, borrowed(&operation.not_methods));
    add("paths", Attribute::Path, false, borrowed(&operation.paths));
    add("notPaths", Attribute::Path, true, borrowed(&operation.not_paths));
}

fn condition_fields<'a>(rule: usize, index: usize, condition: &'a Condition, fields: &mut Vec<Field<'a>>) {
    let attribute = match &condition.key {
        ConditionKey::ConnectionSni => Attribute::Sni,
        ConditionKey::DestinationIp => Attribute::DestinationIp,
        ConditionKey::DestinationPort => Attribute::Port,
        ConditionKey::EnvoyFilter { .. } => Attribute::EnvoyFilter,
        ConditionKey::RemoteIp => Attribute::RemoteIpBlock,
        ConditionKey::RequestAuthAudiences => Attribute::Audience,
        ConditionKey::RequestAuthClaims(names) => Attribute::Claim(names),
        ConditionKey::RequestAuthPresenter => Attribute::Presenter,
        ConditionKey::RequestAuthPrincipal => Attribute::RequestPrincipal,
        ConditionKey::RequestHeader(name) => Attribute::Header(name),
        ConditionKey::SourceIp => Attribute::IpBlock,
        ConditionKey::SourceNamespace => Attribute::Namespace,
        ConditionKey::SourcePrincipal => Attribute::Principal,
        ConditionKey::SourceServiceAccount => Attribute::ServiceAccount,
        ConditionKey::SourceTrustDomain => Attribute::TrustDomain,
    };
    let mut add = |name: &str, negative, values| {
        let path = format!("spec.rules[{rule}].when[{index}].{name}");
        fields.push(Field::new(rule, Part::Condition, attribute, negative, path, values));
    };
    add("values", false, borrowed(&condition.values));
    add("notValues", true, borrowed(&condition.not_values));
}
