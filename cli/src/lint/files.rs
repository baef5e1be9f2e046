//! Files that were given and say nothing.

use super::finding::{Code, Finding, Findings, Severity};
use crate::configuration::{Idle, IdleFile};

pub(super) const CODES: &[&Code] = &[&NOT_READ, &EMPTY];

static NOT_READ: Code = Code {
    name: "file-not-read",
    severity: Severity::Warning,
    what: "a file of a folder whose name is not one of YAML",
    why: "Of a folder only the files `*.yaml` and `*.yml` are read. A policy in another one, such as `deny.json`, does \
          nothing here, and `kubectl apply -f` may enforce it in the mesh.",
    instead: "name the file `*.yaml` (JSON is YAML), or keep it out of the folder",
    wrong: "# policies/deny.json
kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
",
    right: "# policies/deny.yaml
kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
",
};

static EMPTY: Code = Code {
    name: "file-empty",
    severity: Severity::Warning,
    what: "a file without a document",
    why: "A policy that was lost on its way leaves no other trace: a workload without an ALLOW policy is open.",
    instead: "write the document again, or remove the file",
    wrong: "# policies/deny.yaml
# to be written
",
    right: "# policies/deny.yaml
kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec: {action: DENY, rules: [{to: [{operation: {methods: [DELETE]}}]}]}
",
};

pub(super) fn check(files: &[IdleFile], findings: &mut Findings) {
    for IdleFile { name, why } in files {
        let code = match why {
            Idle::NotRead => &NOT_READ,
            Idle::Empty => &EMPTY,
        };
        findings.push(Finding {
            code: code.name,
            severity: code.severity,
            file: name.clone(),
            line: 1,
            resource: "the file".to_owned(),
            path: String::new(),
            message: why.as_str().to_owned(),
            instead: code.instead.to_owned(),
        });
    }
}
