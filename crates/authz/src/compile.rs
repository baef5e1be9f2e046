//! From Istio's resources to the compiled form: once, when a bundle is made.
//!
//! Everything that this crate cannot represent exactly is an error here. Nothing is left out.

mod authentication;
mod client_rules;
mod context_keys;
mod destination;
mod environments;
mod gateway;
mod index;
mod key_source;
mod lookup;
mod peers;
mod plaintext;
mod policy;
mod protocol;
mod provider;
mod route;
mod routed;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use istio::{Action, Meta, Resources, WorkloadSelector};
use rkyv::rancor;

pub use environments::{SharedTokens, shared_tokens};
pub use routed::{routed_hosts, routes_for};

use crate::compiled::{Label, Mode, Namespace, PathNormalization, PolicySet, Provider, TargetRef, VERSION};

/// `AuthorizationPolicy` documents in one bundle, at most.
pub const MAX_POLICIES: usize = 10_000;

/// Rules in one bundle, at most.
pub const MAX_RULES: usize = 100_000;

/// Values of rules in one bundle, at most.
pub const MAX_VALUES: usize = 1_000_000;

/// Labels in one selector, at most.
pub const MAX_SELECTOR_LABELS: usize = 64;

/// Targets of one policy, at most. Kubernetes' own limit is 16.
pub const MAX_TARGET_REFS: usize = 16;

/// Bytes of a label's name or value, or of a target's name, at most: a prefix of 253, a slash and a name of 63.
pub const MAX_LABEL_BYTES: usize = 317;

/// The word that allows, by name, policies that only a waypoint enforces.
pub const WAYPOINT_POLICIES: &str = "WaypointPolicy";

/// What is compiled beside the resources.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// Key sets that were fetched for the bundle: `jwksUri` or issuer → JWKS document. They serve the rules that name
    /// this `jwksUri`, and the other rules of that issuer that have no keys of their own.
    pub jwks: BTreeMap<String, String>,
    /// How strictly tokens are read.
    pub mode: Mode,
    /// Whether the strict mode takes policies that only a waypoint enforces, with a warning: those with a `targetRef` to
    /// a Service or a ServiceEntry.
    pub allow_waypoint_policies: bool,
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

/// What came of compiling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compiled {
    /// What [`Policies::open`](crate::Policies::open) opens: the section of a bundle that is about access.
    pub section: Vec<u8>,
    /// What was accepted, and is likely not what was meant.
    pub warnings: Vec<CompileError>,
}

/// Compiles `resources` into what [`Policies::open`](crate::Policies::open) opens: the section of a bundle
/// that is about access.
///
/// # Errors
/// Every reason why it cannot be done, at once.
pub fn compile(resources: &Resources, options: &CompileOptions) -> Result<Compiled, Vec<CompileError>> {
    let mut compiler = Compiler {
        resources,
        options,
        errors: Vec::new(),
        warnings: Vec::new(),
        key_sources: key_source::KeySources::default(),
        destinations: lookup::Destinations::new(resources),
        selectors: lookup::Selectors::new(resources),
        providers: Vec::new(),
        selected: BTreeSet::new(),
        without_mutual_tls: BTreeMap::new(),
        doubted: BTreeSet::new(),
        expanded: 0,
    };
    let set = compiler.policy_set();
    if !compiler.errors.is_empty() {
        return Err(compiler.errors);
    }
    match rkyv::to_bytes::<rancor::Error>(&set) {
        Ok(bytes) => {
            compiler.check_tokens_of_environments(&bytes);
            if !compiler.errors.is_empty() {
                return Err(compiler.errors);
            }
            Ok(Compiled { section: bytes.into_vec(), warnings: compiler.warnings })
        }
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
    warnings: Vec<CompileError>,
    key_sources: key_source::KeySources<'a>,
    destinations: lookup::Destinations<'a>,
    selectors: lookup::Selectors<'a>,
    providers: Vec<Provider>,
    /// Destinations and gateway workloads that were compared with the selectors already.
    selected: BTreeSet<String>,
    /// Whether gateways may speak plaintext to destinations, as far as they were asked about already.
    without_mutual_tls: BTreeMap<String, bool>,
    /// Documents whose selectors fit no workload that is known.
    doubted: BTreeSet<&'a istio::Origin>,
    /// Values that depend on the trust domain, with the aliases.
    expanded: usize,
}

impl<'a> Compiler<'a> {
    fn error(&mut self, meta: &Meta, message: impl fmt::Display) {
        self.errors.push(at(meta, message));
    }

    /// What Istio loads, and what is likely not what was meant: an error in the strict mode alone.
    fn complain(&mut self, meta: &Meta, message: impl fmt::Display) {
        match self.options.mode {
            Mode::Strict => self.errors.push(at(meta, message)),
            Mode::Istio => self.warnings.push(at(meta, message)),
        }
    }

    fn warn(&mut self, meta: &Meta, message: impl fmt::Display) {
        self.warnings.push(at(meta, message));
    }

    fn policy_set(&mut self) -> PolicySet {
        self.check_sizes();
        if !self.errors.is_empty() {
            // Not worth the time, and the memory, of compiling it.
            return PolicySet::default();
        }
        let resources = self.resources;
        let mut namespaces: BTreeMap<String, Namespace> = BTreeMap::new();
        for policy in &resources.authorization_policies {
            let compiled = self.authorization_policy(policy);
            let namespace = namespaces.entry(policy.meta.namespace.clone()).or_default();
            match policy.action {
                Action::Allow => namespace.allow.push(compiled),
                Action::Deny => namespace.deny.push(compiled),
                Action::Audit => namespace.audit.push(compiled),
                Action::Custom => namespace.custom.push(compiled),
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
        for authentication in &resources.peer_authentications {
            self.check_attachment(&authentication.meta, authentication.selector.as_ref(), &[]);
            let namespace = namespaces.entry(authentication.meta.namespace.clone()).or_default();
            namespace.peer_authentications.push(peers::compiled(authentication));
        }
        // Sorted by name, as the lookup needs it.
        let namespaces = namespaces
            .into_iter()
            .map(|(name, mut namespace)| {
                // Istio orders by creation time, then by name; a file has no creation time.
                namespace.request_authentications.sort_by(|a, b| a.name.cmp(&b.name));
                namespace.name = name;
                namespace.index = index::namespace(&namespace);
                namespace
            })
            .collect();
        self.check_providers();
        self.check_context_keys();
        self.check_api_gateways();
        let api_gateways = resources.api_gateways.iter().map(|gateway| self.api_gateway(gateway)).collect();
        PolicySet {
            version: VERSION,
            mode: self.options.mode,
            root_namespace: resources.mesh.root_namespace.clone(),
            trust_domain: resources.mesh.trust_domain.clone(),
            trust_domain_aliases: resources.mesh.trust_domain_aliases.clone(),
            path_normalization: match resources.mesh.path_normalization {
                istio::PathNormalization::None => PathNormalization::None,
                istio::PathNormalization::Base => PathNormalization::Base,
                istio::PathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
                istio::PathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
            },
            providers: std::mem::take(&mut self.providers),
            namespaces,
            key_sources: std::mem::take(&mut self.key_sources).finish(),
            api_gateways,
        }
    }

    /// The bounds of what a policy is attached to, and what Istio's validation says of it.
    fn check_attachment(&mut self, meta: &Meta, selector: Option<&WorkloadSelector>, targets: &[istio::TargetRef]) {
        let labels = || selector.into_iter().flat_map(|selector| &selector.match_labels);
        if labels().count() > MAX_SELECTOR_LABELS {
            self.error(meta, format!("the selector has {} labels, expected at most 64", labels().count()));
        }
        let long = |text: &String| text.len() > MAX_LABEL_BYTES;
        if labels().any(|(name, value)| long(name) || long(value)) || targets.iter().any(|target| long(&target.name)) {
            self.error(meta, "a label or the name of a target has more than 317 bytes");
        }
        if targets.len() > MAX_TARGET_REFS {
            self.error(meta, format!("found {} targetRefs, expected at most 16", targets.len()));
        }
        if selector.is_some() && !targets.is_empty() {
            self.error(meta, "selector and targetRefs cannot stand together");
        }
        for target in targets {
            let group = if target.group.is_empty() { "core" } else { target.group.as_str() };
            match (group, target.kind.as_str()) {
                ("gateway.networking.k8s.io", "Gateway" | "GatewayClass") => {}
                ("core", "Service") | ("networking.istio.io", "ServiceEntry") => {
                    let (kind, name) = (&target.kind, &target.name);
                    // Istio: "if targetRef is specified, ignore the policy altogether", at whatever is no gateway. A
                    // DENY would go unenforced without a word.
                    let message = format!(
                        "it is attached to the {kind} {name}, so only a waypoint enforces it, and no other workload \
                         nor an API of API Gateway does; select the workloads with a selector, or leave such policies \
                         to the waypoints with `--allow-ignored {WAYPOINT_POLICIES}`"
                    );
                    if self.options.allow_waypoint_policies {
                        self.warn(meta, message);
                    } else {
                        self.complain(meta, message);
                    }
                }
                (group, kind) => self.error(meta, format!("a policy cannot be attached to {group}/{kind}")),
            }
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
}

/// What a policy is attached to, compiled.
fn target_refs(targets: &[istio::TargetRef]) -> Vec<TargetRef> {
    let compiled = |target: &istio::TargetRef| TargetRef {
        // Istio's `CanonicalGroup`.
        group: if target.group == "core" { String::new() } else { target.group.clone() },
        kind: target.kind.clone(),
        name: target.name.clone(),
        namespace: target.namespace.clone().filter(|namespace| !namespace.is_empty()),
    };
    targets.iter().map(compiled).collect()
}

fn at(meta: &Meta, message: impl fmt::Display) -> CompileError {
    CompileError {
        file: meta.origin.file.clone(),
        line: meta.origin.line,
        message: format!("{}/{}: {message}", meta.namespace, meta.name),
    }
}

fn labels(selector: Option<&WorkloadSelector>) -> Vec<Label> {
    selector.map_or_else(Vec::new, |selector| label_list(&selector.match_labels))
}

fn label_list(labels: &BTreeMap<String, String>) -> Vec<Label> {
    let label = |(name, value): (&String, &String)| Label { name: name.clone(), value: value.clone() };
    labels.iter().map(label).collect()
}

fn values_of(rule: &istio::Rule) -> usize {
    let source = |s: &istio::Source| {
        s.principals.len()
            + s.not_principals.len()
            + s.request_principals.len()
            + s.not_request_principals.len()
            + s.namespaces.len()
            + s.not_namespaces.len()
            + s.service_accounts.len()
            + s.not_service_accounts.len()
            + s.trust_domains.len()
            + s.not_trust_domains.len()
            + s.ip_blocks.len()
            + s.not_ip_blocks.len()
            + s.remote_ip_blocks.len()
            + s.not_remote_ip_blocks.len()
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
