//! Which workloads a policy reaches, and which ones nothing reaches.

use std::collections::BTreeSet;

use istio::{Action, Meta, TargetRef, WorkloadSelector};

use super::codes::policy;
use super::context::Context;
use super::finding::{Code, Findings, Place, Severity};
use super::words;

pub(super) const CODES: &[&Code] =
    &[&WORKLOAD_OPEN, &SELECTS_NOTHING, &UNDECIDABLE, &NAMESPACE_UNKNOWN, &TARGET_REFS, &ROUTE_CLOSED];

static WORKLOAD_OPEN: Code = Code {
    name: "workload-open",
    severity: Severity::Error,
    what: "a gateway workload or a destination of its routes that no ALLOW policy selects",
    why: "Istio: a workload without any ALLOW policy allows every request that no DENY policy matches. (A warning where a \
          DENY or CUSTOM policy is enforced, an error where no policy is.)",
    instead: "write an ALLOW policy for it, or one without rules in its namespace as a default that denies",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  selector: {matchLabels: {app: other}}
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec: {}
",
};

static SELECTS_NOTHING: Code = Code {
    name: "selector-matches-nothing",
    severity: Severity::Error,
    what: "a selector that selects no workload that the documents tell of",
    why: "A typo in a label switches a policy off without a word: a DENY no longer denies, and a workload without its \
          ALLOW policy is open.",
    instead: "write the labels as the Service's `selector`, the ServiceEntry's labels or the ApiGateway's workload has them",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  selector: {matchLabels: {app: wep}}
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
",
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static UNDECIDABLE: Code = Code {
    name: "selector-undecidable",
    severity: Severity::Warning,
    what: "a selector of labels that no document tells of",
    why: "Documents name some of a workload's labels, not all. A selector that shares none with them (only `version: v2`) \
          cannot be decided: at API Gateway the policy is passed over, and in the mesh it may be enforced.",
    instead: "select by a label that the Service's `selector` has as well, or add this label there",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  selector: {matchLabels: {version: v2}}
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
",
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static NAMESPACE_UNKNOWN: Code = Code {
    name: "namespace-unknown",
    severity: Severity::Warning,
    what: "a policy in a namespace without any workload that the documents tell of",
    why: "Outside of the root namespace a policy reaches its own namespace only. A typo there, or a forgotten \
          `metadata.namespace` (it is `default` then), switches it off.",
    instead: "move it to the namespace of its workloads, or give lint the documents of that namespace as well",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shpo}
spec: {}
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec: {}
",
};

static TARGET_REFS: Code = Code {
    name: "target-refs-not-enforced",
    severity: Severity::Warning,
    what: "a policy with targetRefs, which API Gateway never enforces",
    why: "targetRefs attach a policy to gateways and waypoints of the Gateway API. An ApiGateway plays a classic gateway, \
          and other workloads ignore such policies: here it is never asked.",
    instead: "write a `selector` for what API Gateway is to enforce",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: front}]
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
",
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static ROUTE_CLOSED: Code = Code {
    name: "gateway-principal-not-allowed",
    severity: Severity::Error,
    what: "a destination whose ALLOW policies never allow the gateway that routes to it",
    why: "The second hop sees the gateway's SPIFFE ID as its peer. If every ALLOW rule demands another one, each request \
          that comes by the gateway is denied.",
    instead: "name the gateway's principal as well, or take the route away",
    wrong: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/sa/gatewya"]}}]"#),
    right: policy!("ALLOW", r#"  - from: [{source: {principals: ["cluster.local/ns/istio-system/sa/gateway"]}}]"#),
};

type Selecting<'a> = (&'static str, &'a Meta, Option<&'a WorkloadSelector>, &'a [TargetRef]);

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let resources = context.resources;
    let mut documents: Vec<Selecting<'_>> = Vec::new();
    for policy in &resources.authorization_policies {
        documents.push(("AuthorizationPolicy", &policy.meta, policy.selector.as_ref(), &policy.target_refs));
    }
    for tokens in &resources.request_authentications {
        documents.push(("RequestAuthentication", &tokens.meta, tokens.selector.as_ref(), &tokens.target_refs));
    }
    for keys in &resources.api_key_authentications {
        documents.push(("ApiKeyAuthentication", &keys.meta, keys.selector.as_ref(), &[]));
    }
    for peers in &resources.peer_authentications {
        documents.push(("PeerAuthentication", &peers.meta, peers.selector.as_ref(), &[]));
    }
    for (kind, meta, selector, target_refs) in documents {
        check_reach(context, (kind, meta, selector, target_refs), findings);
    }
    open(context, findings);
    closed_routes(context, findings);
}

fn check_reach<'a>(context: &Context<'a>, (kind, meta, selector, target_refs): Selecting<'a>, findings: &mut Findings) {
    if !target_refs.is_empty() {
        let message = "targetRefs reach the Gateway API only: API Gateway never enforces this";
        let instead = "write a `selector` for what API Gateway is to enforce";
        findings.add(&TARGET_REFS, Place::new(kind, meta, "spec.targetRefs"), message, instead);
        return;
    }
    if let Some(selector) = selector
        && !context.scope(meta, Some(selector)).workloads.is_empty()
    {
        return;
    }
    let near = context.near(meta);
    if near.is_empty() {
        // Without any workload nothing can be said.
        if !context.workloads.is_empty() && !context.is_root(meta) {
            let known = context.namespaces();
            let instead = match words::nearest(&meta.namespace, known.iter().copied()) {
                Some(near) => format!("write the namespace `{near}`"),
                None => format!("the documents tell of workloads in {}", words::list(&known)),
            };
            let message = format!("no document tells of a workload in the namespace `{}`", meta.namespace);
            findings.add(&NAMESPACE_UNKNOWN, Place::new(kind, meta, "metadata.namespace"), message, instead);
        }
        return;
    }
    let Some(selector) = selector else { return };
    let place = Place::new(kind, meta, "spec.selector.matchLabels");
    let shown = labels(selector.match_labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let known: BTreeSet<(&str, &str)> = near
        .iter()
        .flat_map(|workload| workload.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .collect();
    let shares_name = selector.match_labels.keys().any(|name| known.iter().any(|(known, _)| known == name));
    let nearest = || {
        selector.match_labels.iter().find_map(|(name, value)| {
            let wrong = format!("{name}: {value}");
            let all: Vec<String> = known.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            if all.contains(&wrong) {
                return None;
            }
            words::nearest(&wrong, all.iter().map(String::as_str)).map(str::to_owned)
        })
    };
    match nearest() {
        Some(near) => {
            let message = format!("no workload that the documents tell of has the labels {shown}");
            findings.add(&SELECTS_NOTHING, place, message, format!("write `{near}`"));
        }
        None if shares_name => {
            let message = format!("no workload that the documents tell of has the labels {shown}");
            findings.add(&SELECTS_NOTHING, place, message, format!("they have: {}", labels(known.iter().copied())));
        }
        None => {
            let message = format!("no document tells which workloads have the labels {shown}");
            let instead = format!("select by a label that they tell of: {}", labels(known.iter().copied()));
            findings.add(&UNDECIDABLE, place, message, instead);
        }
    }
}

fn labels<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    const MOST: usize = 8;
    let shown: Vec<String> = labels.take(MOST).map(|(name, value)| format!("`{name}: {value}`")).collect();
    shown.join(", ")
}

fn open(context: &Context<'_>, findings: &mut Findings) {
    for (index, workload) in context.workloads.iter().enumerate() {
        if !workload.is_gateway && !context.is_destination(index) {
            continue;
        }
        let reaching = |action: Action| context.policies_of(index).any(|policy| policy.action() == action);
        // One in dry run is told about there.
        if reaching(Action::Allow) {
            continue;
        }
        let guarded = reaching(Action::Deny) || reaching(Action::Custom);
        let severity = if guarded { Severity::Warning } else { Severity::Error };
        let path = if workload.is_gateway { "spec.workload" } else { "" };
        let place = Place::new(workload.kind, workload.meta, path);
        let message = format!("no ALLOW policy selects {}: it allows whatever no DENY policy matches", workload.name);
        let instead = "write an ALLOW policy for it, or one without rules in its namespace as a default that denies";
        findings.add_as(&WORKLOAD_OPEN, severity, place, message, instead);
    }
}

/// Destinations that never let the gateway in.
fn closed_routes(context: &Context<'_>, findings: &mut Findings) {
    use super::fields::{Attribute, Part};
    let trust_domain = &context.resources.mesh.trust_domain;
    for api in &context.apis {
        let gateway = &api.document.workload;
        let principal = gateway.principal(trust_domain);
        let is_gateway = |attribute: Attribute<'_>, value: &str| match attribute {
            // `cluster.local` is a pointer to the mesh's own trust domain.
            Attribute::Principal => match value.strip_prefix("cluster.local/") {
                Some(rest) => words::matches(&format!("{trust_domain}/{rest}"), &principal),
                None => words::matches(value, &principal),
            },
            Attribute::Namespace => super::peers::glob_matches(value, &gateway.namespace),
            Attribute::ServiceAccount => value.rsplit('/').next() == Some(gateway.service_account.as_str()),
            _ => true,
        };
        for index in &api.destinations {
            let mut allows = context
                .policies_of(*index)
                .filter(|policy| policy.action() == Action::Allow && policy.is_enforced())
                .peekable();
            let Some(first) = allows.peek().copied() else { continue };
            let mut rules = 0;
            let mut admits = false;
            for policy in allows {
                for (rule, document) in policy.document.rules.iter().flatten().enumerate() {
                    rules += 1;
                    let passes = |part: Part| {
                        policy
                            .rule(rule)
                            .filter(|field| field.part == part && !field.negative)
                            .all(|field| field.values.iter().any(|value| is_gateway(field.attribute, value)))
                    };
                    let sources = document.from.as_ref().map_or(0, Vec::len);
                    let from = sources == 0 || (0..sources).any(|source| passes(Part::Source(source)));
                    admits |= from && passes(Part::Condition);
                }
            }
            if rules > 0 && !admits {
                let name = context.workloads.get(*index).map_or("", |workload| workload.name.as_str());
                let message =
                    format!("no ALLOW rule of {name} allows the gateway's principal `{principal}`, which routes to it");
                let instead = "name that principal as well, or take the route away";
                findings.add(&ROUTE_CLOSED, first.at("spec.rules"), message, instead);
            }
        }
    }
}
