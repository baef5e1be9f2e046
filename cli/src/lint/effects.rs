//! What a policy does as a whole: everything, nothing, or nothing yet.

use istio::{Action, Rule};

use super::codes::{policy, spec};
use super::context::{Context, Policy};
use super::finding::{Code, Findings, Severity};
use super::split_rules;

pub(super) const CODES: &[&Code] = &[
    &ALLOW_EVERYTHING,
    &ALLOW_NOTHING,
    &DENY_EVERYTHING,
    &DRY_RUN_LEFT,
    &DRY_RUN_OPEN,
    &ROOT_ALLOW,
    &RULE_WITHOUT_CALLER,
    &CUSTOM_NOTHING,
];

static ALLOW_EVERYTHING: Code = Code {
    name: "allow-everything",
    severity: Severity::Warning,
    what: "an ALLOW policy with an empty rule",
    why: "A rule without fields matches every request. The policy allows everything, and every other ALLOW policy of the \
          same workloads is without effect.",
    instead: "give the rule a `from`, `to` or `when`; without any rule the policy would deny everything",
    wrong: policy!("ALLOW", "  - {}"),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static ALLOW_NOTHING: Code = Code {
    name: "allow-nothing",
    severity: Severity::Info,
    what: "an ALLOW policy without rules",
    why: "It never matches, and since there is an ALLOW policy now, whatever no other ALLOW policy allows is denied. As a \
          default that denies it is right; as a policy whose rules were forgotten it is not.",
    instead: "leave it as a default that denies; to allow everything write `rules: [{}]`",
    wrong: spec!("action: ALLOW"),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static DENY_EVERYTHING: Code = Code {
    name: "deny-everything",
    severity: Severity::Warning,
    what: "a DENY policy with an empty rule",
    why: "A rule without fields matches every request, and DENY has the last word: no ALLOW policy opens what it closes.",
    instead: "give the rule a `from`, `to` or `when`; for a default that denies write an ALLOW policy without rules",
    wrong: policy!("DENY", "  - {}"),
    right: spec!("action: ALLOW"),
};

static DRY_RUN_LEFT: Code = Code {
    name: "dry-run",
    severity: Severity::Warning,
    what: "a policy that is only tried",
    why: "With the annotation `istio.io/dry-run: \"true\"` a policy is evaluated and reported, and never enforced.",
    instead: "take the annotation off when the trial is over",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop, annotations: {istio.io/dry-run: \"true\"}}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - to: [{operation: {paths: [\"/admin\", \"/admin/*\"]}}]
",
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

static DRY_RUN_OPEN: Code = Code {
    name: "dry-run-open",
    severity: Severity::Error,
    what: "a workload whose ALLOW policies are all in dry run",
    why: "A workload that no ALLOW policy is enforced for allows everything. A dry run does not count: until it ends the \
          workload is open, not closed.",
    instead: "enforce one ALLOW policy, for example one without rules, while the others are tried",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop, annotations: {istio.io/dry-run: \"true\"}}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from: [{source: {requestPrincipals: [\"https://idp.example/*\"]}}]
",
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static ROOT_ALLOW: Code = Code {
    name: "root-allow-opens",
    severity: Severity::Warning,
    what: "an ALLOW policy for every workload of the mesh",
    why: "ALLOW policies add up. What a policy of the root namespace without a selector allows is allowed at every \
          workload, whatever the workload's own policies say.",
    instead: "give it a selector or move it into a namespace; in the root namespace an ALLOW policy without rules makes \
              a default that denies",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec:
  rules:
  - to: [{operation: {methods: [GET]}}]
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: istio-system}
spec: {}
",
};

static RULE_WITHOUT_CALLER: Code = Code {
    name: "allow-anyone",
    severity: Severity::Info,
    what: "an ALLOW rule that asks nothing about the caller",
    why: "Neither a token, nor a peer identity, nor an address is asked for: what the rule matches is public.",
    instead: "leave it for public paths; otherwise add a `from`",
    wrong: policy!("ALLOW", r#"  - to: [{operation: {paths: ["/prices"]}}]"#),
    right: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
    to: [{operation: {paths: ["/prices"]}}]"#
    ),
};

static CUSTOM_NOTHING: Code = Code {
    name: "audit-or-custom-everything",
    severity: Severity::Info,
    what: "an AUDIT or CUSTOM policy with an empty rule",
    why: "A rule without fields matches every request: each is written down, or put to the provider, health checks \
          included.",
    instead: "name the paths or hosts that are meant",
    wrong: policy!("AUDIT", "  - {}"),
    right: policy!("AUDIT", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    for policy in &context.policies {
        let rules = policy.document.rules.as_deref().unwrap_or_default();
        let is_mesh_wide = context.is_root(policy.meta())
            && policy.document.target_refs.is_empty()
            && policy.document.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty());
        if policy.document.dry_run {
            let action = policy.action().as_str();
            let open = if opens(context, policy) {
                "; no other ALLOW policy applies where it does, so that everybody passes until the trial is over"
            } else {
                ""
            };
            let message = format!("the {action} policy is evaluated and reported, and never enforced{open}");
            let place = policy.at("metadata.annotations[istio.io/dry-run]");
            findings.add(&DRY_RUN_LEFT, place, message, "take the annotation off when the trial is over");
        }
        if rules.is_empty() && policy.action() == Action::Allow {
            let message = "no rule: it allows nothing, and denies what no other ALLOW policy allows";
            findings.add(
                &ALLOW_NOTHING,
                policy.at("spec"),
                message,
                "leave it if that is meant; `rules: [{}]` allows all",
            );
        }
        for (index, rule) in rules.iter().enumerate() {
            let place = policy.at(format!("spec.rules[{index}]"));
            let is_empty = *rule == Rule::default();
            match policy.action() {
                Action::Allow if is_mesh_wide => {
                    let (severity, message) = if is_empty {
                        (Severity::Error, "the empty rule allows everything at every workload of the mesh")
                    } else {
                        (Severity::Warning, "the rule also opens every workload of the mesh to what it matches")
                    };
                    findings.add_as(
                        &ROOT_ALLOW,
                        severity,
                        place,
                        message,
                        "add a selector, or move it into a namespace",
                    );
                }
                Action::Allow if is_empty => {
                    let message = "the empty rule allows every request";
                    findings.add(&ALLOW_EVERYTHING, place, message, "add a `from`, `to` or `when`");
                }
                Action::Allow => {
                    let is_split = split_rules::is_split(policy, index);
                    if !is_split && !policy.rule(index).any(|field| field.attribute.is_of_caller()) {
                        let message = "the rule asks nothing about the caller: what it matches is public";
                        findings.add(&RULE_WITHOUT_CALLER, place, message, "add a `from` unless that is meant");
                    }
                }
                Action::Deny if is_empty => {
                    let message = "the empty rule denies every request, whatever ALLOW policies say";
                    let instead = "add a `from`, `to` or `when`, or write an ALLOW policy without rules";
                    findings.add(&DENY_EVERYTHING, place, message, instead);
                }
                Action::Audit | Action::Custom if is_empty => {
                    let message =
                        format!("the empty rule of this {} policy matches every request", policy.action().as_str());
                    findings.add(&CUSTOM_NOTHING, place, message, "name the paths or hosts that are meant");
                }
                Action::Deny | Action::Audit | Action::Custom => {}
            }
        }
    }
    dry_run_open(context, findings);
}

/// Whether a dry run leaves its workloads without any ALLOW policy that is enforced.
fn opens(context: &Context<'_>, policy: &Policy<'_>) -> bool {
    let closes = |other: &Policy<'_>| {
        other.action() == Action::Allow && other.is_enforced() && other.scope.overlaps(&policy.scope)
    };
    policy.action() == Action::Allow && !context.policies.iter().any(closes)
}

fn dry_run_open(context: &Context<'_>, findings: &mut Findings) {
    for (index, workload) in context.workloads.iter().enumerate() {
        let mut allows = context.policies_of(index).filter(|policy| policy.action() == Action::Allow).peekable();
        let Some(first) = allows.peek().copied() else { continue };
        if allows.all(|policy| policy.document.dry_run) {
            let message = format!("{} has no ALLOW policy but in dry run, and so is open", workload.name);
            let place = first.at("metadata.annotations[istio.io/dry-run]");
            findings.add(&DRY_RUN_OPEN, place, message, "enforce one ALLOW policy, for example one without rules");
        }
    }
}
