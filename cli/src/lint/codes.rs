//! The table of everything that lint can find.

use super::finding::Code;

/// An `AuthorizationPolicy` for the workload `app: web` of the namespace `shop`, with an action and rules.
macro_rules! policy {
    ($action:literal, $rules:expr) => {
        concat!(
            "kind: AuthorizationPolicy\nmetadata: {name: example, namespace: shop}\nspec:\n  selector: {matchLabels: {app: \
             web}}\n  action: ",
            $action,
            "\n  rules:\n",
            $rules,
            "\n"
        )
    };
}
pub(super) use policy;

/// The same, with one line of `spec` instead.
macro_rules! spec {
    ($line:literal) => {
        concat!(
            "kind: AuthorizationPolicy\nmetadata: {name: example, namespace: shop}\nspec:\n  selector: {matchLabels: {app: \
             web}}\n  ",
            $line,
            "\n"
        )
    };
}
pub(super) use spec;

/// Every code, by name.
pub(super) fn all() -> Vec<&'static Code> {
    let mut codes: Vec<&'static Code> = super::TOPICS.iter().flat_map(|(codes, _)| codes.iter().copied()).collect();
    codes.extend(super::template::TOPICS.iter().flat_map(|(codes, _)| codes.iter().copied()));
    codes.extend(super::files::CODES);
    codes.sort_by_key(|code| code.name);
    codes
}

/// The code of that name.
pub(super) fn find(name: &str) -> Option<&'static Code> {
    all().into_iter().find(|code| code.name == name)
}

/// The object of `--list --json` and `--explain --json`.
pub(super) fn json(code: &Code) -> String {
    let Code { name, severity, what, why, instead, wrong, right } = code;
    let (severity, wrong, right) = (severity.as_str(), wrong.trim_end(), right.trim_end());
    serde_json::json!({
        "code": name, "severity": severity, "what": what, "why": why, "instead": instead, "wrong": wrong, "right": right,
    })
    .to_string()
}

/// The paragraph of `--explain`.
pub(super) fn explanation(code: &Code) -> String {
    let Code { name, severity, what, why, instead, wrong, right } = code;
    let indent = |text: &str| text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!(
        "{name} ({})\n\nWhat: {what}.\n\nWhy: {why}\n\nInstead: {instead}.\n\nFor example, instead of\n\n{}\nwrite\n\n{}\n(`apiVersion` \
         and the documents around it are left out.)",
        severity.as_str(),
        indent(wrong),
        indent(right)
    )
}
