//! Methods, paths, hosts and ports.

use std::collections::{BTreeMap, BTreeSet};

use istio::{Action, PathNormalization, StringMatch};

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Field};
use super::finding::{Code, Findings, Severity};
use super::words;

pub(super) const CODES: &[&Code] = &[
    &METHOD_CASE,
    &METHOD_UNKNOWN,
    &METHOD_HEAD,
    &PATH_NO_SLASH,
    &PATH_QUERY,
    &PATH_NOT_NORMAL,
    &PATH_TWINS,
    &PATH_CASE,
    &NO_NORMALIZATION,
    &HOST_PORT,
    &HOST_URL,
    &HOST_PREFIX,
    &PORT_NOT_SERVED,
];

static METHOD_CASE: Code = Code {
    name: "method-lower-case",
    severity: Severity::Error,
    what: "a method in lower case",
    why: "Methods are compared with case, and requests carry them in capitals: the value never matches.",
    instead: "write it in capitals",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [delete]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static METHOD_UNKNOWN: Code = Code {
    name: "method-unknown",
    severity: Severity::Warning,
    what: "a method that HTTP does not know",
    why: "No client sends it: the value never matches.",
    instead: "write one of HTTP's methods",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [DELTE]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [DELETE]}}]"),
};

static METHOD_HEAD: Code = Code {
    name: "deny-get-without-head",
    severity: Severity::Warning,
    what: "a DENY of GET that leaves HEAD open",
    why: "Most frameworks answer HEAD by the same handler as GET, side effects and headers included: who may not GET can \
          still ask whether something is there, and how long it is.",
    instead: "deny both: `methods: [GET, HEAD]`",
    wrong: policy!("DENY", "  - to: [{operation: {methods: [GET]}}]"),
    right: policy!("DENY", "  - to: [{operation: {methods: [GET, HEAD]}}]"),
};

static PATH_NO_SLASH: Code = Code {
    name: "path-without-slash",
    severity: Severity::Error,
    what: "a path that does not begin with a slash",
    why: "The path of a request begins with `/`: a value that begins with anything but `/` or `*` never matches.",
    instead: "put the slash in front",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["admin", "admin/*"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

static PATH_QUERY: Code = Code {
    name: "path-with-query",
    severity: Severity::Error,
    what: "a path with a query or a fragment",
    why: "Paths are compared without what follows `?` or `#`: the value never matches.",
    instead: "leave it out; nothing in a policy looks at the query",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/search?all=1"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/search", "/search/*"]}}]"#),
};

static PATH_NOT_NORMAL: Code = Code {
    name: "path-not-normal",
    severity: Severity::Error,
    what: "a path that no normalised request has, or that backends read differently",
    why: "Envoy decodes `%41` and the like, resolves `.` and `..` and turns `\\` before it compares, so that a value with \
          them never matches. A value with `;` or another escape names one spelling of a path that servlets and proxies \
          read as another one: `/a/%2e%2e;/b` is `/a/..;/b` for the policy and `/b` for Tomcat. An HTTP API denies such \
          paths anyway (`path_not_canonical`).",
    instead: "write the path as the backend reads it, without escapes, dot segments and parameters",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/%61dmin", "/a/..;/admin"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

static PATH_TWINS: Code = Code {
    name: "path-without-twins",
    severity: Severity::Warning,
    what: "a path that is denied, or excepted from an ALLOW, without its twins `PATH/` and `PATH/*`",
    why: "An exact path is not the one with a slash behind it, and most backends answer both: `/admin` is denied and \
          `/admin/` is not. `/admin/*` and `/admin/{**}` in turn do not take `/admin` itself.",
    instead: "write both: `/admin` and `/admin/*`",
    wrong: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
};

static PATH_CASE: Code = Code {
    name: "path-case-differs",
    severity: Severity::Warning,
    what: "a path that another document writes with other capitals",
    why: "Paths are compared with case. Where a route or another policy writes `/Admin`, a policy about `/admin` does not \
          reach it.",
    instead: "write the path with the same capitals everywhere; where the backend ignores case, list both spellings",
    wrong: concat!(
        policy!("DENY", r#"  - to: [{operation: {paths: ["/Admin/*", "/Admin"]}}]"#),
        "---\n",
        "kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http:
  - match: [{uri: {prefix: /admin/}}]
    route: [{destination: {host: web, port: {number: 80}}}]
"
    ),
    right: policy!("DENY", r#"  - to: [{operation: {paths: ["/admin/*", "/admin"]}}]"#),
};

static NO_NORMALIZATION: Code = Code {
    name: "paths-not-normalised",
    severity: Severity::Error,
    what: "policies look at paths, and the mesh does not normalise them",
    why: "With `pathNormalization.normalization: NONE` a policy sees `/x/../admin` where the backend sees `/admin`: each \
          path has spellings that no policy takes.",
    instead: "write `MERGE_SLASHES` (or leave it out, which is `BASE`)",
    wrong: concat!(
        policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
        "---\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    pathNormalization: \
         {normalization: NONE}\n"
    ),
    right: concat!(
        policy!("DENY", r#"  - to: [{operation: {paths: ["/admin", "/admin/*"]}}]"#),
        "---\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |-\n    pathNormalization: \
         {normalization: MERGE_SLASHES}\n"
    ),
};

static HOST_PORT: Code = Code {
    name: "host-without-port-twin",
    severity: Severity::Warning,
    what: "a host without its twin with a port",
    why: "Hosts are compared with the whole `Host` header. A client may write `shop.example:443` for `shop.example`: a DENY \
          does not take it (an error then), and an ALLOW refuses it.",
    instead: "write both: `shop.example` and `shop.example:*`",
    wrong: policy!("DENY", r#"  - to: [{operation: {hosts: ["shop.example"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {hosts: ["shop.example", "shop.example:*"]}}]"#),
};

static HOST_URL: Code = Code {
    name: "host-is-url",
    severity: Severity::Error,
    what: "a host with a scheme or a path",
    why: "The `Host` header has a name and perhaps a port: the value never matches.",
    instead: "write the name alone; a path belongs under `paths`",
    wrong: policy!("ALLOW", r#"  - to: [{operation: {hosts: ["https://shop.example/"]}}]"#),
    right: policy!("ALLOW", r#"  - to: [{operation: {hosts: ["shop.example", "shop.example:*"]}}]"#),
};

static HOST_PREFIX: Code = Code {
    name: "host-prefix-open",
    severity: Severity::Warning,
    what: "a prefix of a host that takes other domains as well",
    why: "`shop.example*` also takes `shop.example.attacker.test`.",
    instead: "for ports write `shop.example` and `shop.example:*`",
    wrong: policy!("ALLOW", r#"  - to: [{operation: {hosts: ["shop.example*"]}}]"#),
    right: policy!("ALLOW", r#"  - to: [{operation: {hosts: ["shop.example", "shop.example:*"]}}]"#),
};

static PORT_NOT_SERVED: Code = Code {
    name: "port-not-served",
    severity: Severity::Error,
    what: "a port that none of the selected workloads listens on",
    why: "A policy sees the port of the workload, which is the Service's `targetPort` and not the `port` that clients call: \
          the value never matches.",
    instead: "write the targetPort",
    wrong: policy!("DENY", r#"  - to: [{operation: {ports: ["80"]}}]"#),
    right: policy!("DENY", r#"  - to: [{operation: {ports: ["8080"]}}]"#),
};

const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "COPY",
    "LOCK",
    "MKCOL",
    "MOVE",
    "PROPFIND",
    "PROPPATCH",
    "REPORT",
    "SEARCH",
    "UNLOCK",
    "PURGE",
];

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let spellings = spellings(context);
    for policy in &context.policies {
        for field in &policy.fields {
            match field.attribute {
                Attribute::Method => methods(policy, field, findings),
                Attribute::Path => paths(policy, field, &spellings, findings),
                Attribute::Host => hosts(policy, field, findings),
                Attribute::Port => ports(context, policy, field, findings),
                _ => {}
            }
        }
    }
    let looking = context.policies.iter().find_map(|policy| {
        policy.fields.iter().find(|field| field.attribute == Attribute::Path).map(|field| (policy, field))
    });
    if context.resources.mesh.path_normalization == PathNormalization::None
        && let Some((policy, field)) = looking
    {
        let message =
            "the mesh configuration says `pathNormalization: NONE`: each path has spellings that this does not take";
        let instead = "write `MERGE_SLASHES` in the mesh configuration";
        findings.add(&NO_NORMALIZATION, policy.at(field.path.clone()), message, instead);
    }
}

fn methods(policy: &Policy<'_>, field: &Field<'_>, findings: &mut Findings) {
    for (path, value) in field.each().filter(|(_, value)| !value.contains('*')) {
        let capitals = value.to_ascii_uppercase();
        if value != capitals {
            let message = format!("methods are compared with case: `{value}` never matches");
            findings.add(&METHOD_CASE, policy.at(path), message, format!("write `{capitals}`"));
        } else if !METHODS.contains(&value) {
            let instead = match words::nearest(value, METHODS.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "write one of HTTP's methods".to_owned(),
            };
            findings.add(&METHOD_UNKNOWN, policy.at(path), format!("HTTP knows no method `{value}`"), instead);
        }
    }
    let takes = |method: &str| field.values.iter().any(|value| words::matches(value, method));
    if field.opens_when_missed(policy.action()) && takes("GET") && !takes("HEAD") {
        let verb = verb(policy, field);
        let message = format!("GET is {verb} and HEAD is not, which most backends answer alike");
        findings.add(&METHOD_HEAD, policy.at(field.path.clone()), message, "add `HEAD`");
    }
}

fn paths(policy: &Policy<'_>, field: &Field<'_>, spellings: &Spellings, findings: &mut Findings) {
    for (place, value) in field.each() {
        let place = policy.at(place);
        if !value.starts_with(['/', '*', '{']) {
            let message = format!("a path begins with a slash: `{value}` never matches");
            findings.add(&PATH_NO_SLASH, place, message, format!("write `/{value}`"));
            continue;
        }
        if let Some((before, _)) = value.split_once(['?', '#']) {
            let message = format!("paths are compared without query and fragment: `{value}` never matches");
            findings.add(&PATH_QUERY, place, message, format!("write `{before}`"));
            continue;
        }
        if !words::is_template(value) && is_odd(value) {
            let message = format!("`{value}` is no normal path: requests have it in another spelling, or are denied");
            let instead = "write the path as the backend reads it, without escapes, dot segments and parameters";
            findings.add(&PATH_NOT_NORMAL, place, message, instead);
            continue;
        }
        if field.opens_when_missed(policy.action()) {
            twins(policy, field, place.path.clone(), value, findings);
        }
        let bare = bare(value).to_owned();
        let alike = spellings.get(&bare.to_ascii_lowercase());
        let other = alike.into_iter().flatten().find(|other| **other != bare);
        if let Some(other) = other.filter(|_| bare.len() > 1) {
            let message = format!("another document writes `{other}`, and paths are compared with case");
            findings.add(&PATH_CASE, place, message, "write it alike, or list both spellings");
        }
    }
}

/// A path without its wildcard and trailing slash.
fn bare(value: &str) -> &str {
    value.trim_end_matches('*').trim_end_matches('/')
}

/// Every path that the documents write, by [`bare`], under what it is in lower case.
type Spellings = BTreeMap<String, BTreeSet<String>>;

fn spellings(context: &Context<'_>) -> Spellings {
    let policies = context.policies.iter().flat_map(|policy| &policy.fields);
    let values = policies.filter(|field| field.attribute == Attribute::Path).flat_map(|field| &field.values);
    let mut spellings = Spellings::new();
    let mut add = |path: &str| {
        spellings.entry(path.to_ascii_lowercase()).or_default().insert(path.to_owned());
    };
    values.for_each(|value| add(bare(value)));
    let services = context.resources.virtual_services.iter();
    for one in services.flat_map(|service| &service.http).flat_map(|route| &route.matches) {
        if let Some(StringMatch::Exact(path) | StringMatch::Prefix(path)) = &one.uri {
            add(bare(path));
        }
    }
    spellings
}

/// Whether Envoy would rewrite a request's path that is spelled so, or a backend reads it as another one.
fn is_odd(value: &str) -> bool {
    let dots = |segment: &str| {
        let segment = segment.split(';').next().unwrap_or_default().to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    value.contains(['%', ';', '\\']) || value.contains("//") || value.split('/').any(dots)
}

fn twins(policy: &Policy<'_>, field: &Field<'_>, path: String, value: &str, findings: &mut Findings) {
    // A segment of a template stands for each one that it takes: what holds for one path of it holds for all.
    let sample = |value: &str| value.replace("{*}", "-");
    let takes = |path: &str| {
        field.values.iter().map(|value| sample(value)).any(|value| match value.strip_suffix("/{**}") {
            Some(front) if !front.contains('{') => path.strip_prefix(front).is_some_and(|rest| rest.starts_with('/')),
            _ => words::matches(&value, path),
        })
    };
    let (front, is_exact) = match value.strip_suffix("/*").or_else(|| value.strip_suffix("/{**}")) {
        Some(front) => (front, false),
        None => (value, true),
    };
    if front.is_empty() || front == "/" || sample(front).contains(['*', '{']) {
        return;
    }
    let front = front.trim_end_matches('/');
    let below = if front.contains('{') { "{**}" } else { "*" };
    let looks_like_a_file = front.rsplit('/').next().is_some_and(|last| last.contains('.'));
    let bare = !takes(&sample(front));
    let with_slash = !takes(&format!("{}/", sample(front)));
    let deeper = is_exact && !bare && !with_slash && !takes(&format!("{}/x", sample(front))) && !looks_like_a_file;
    let (missing, twin) = match (bare, with_slash, deeper) {
        (true, ..) => (front.to_owned(), front.to_owned()),
        (_, true, _) => (format!("{front}/"), format!("{front}/{below}")),
        (.., true) => (format!("{front}/x"), format!("{front}/{below}")),
        _ => return,
    };
    let verb = verb(policy, field);
    let message = format!("`{value}` is {verb}, and `{missing}` is not");
    findings.add(&PATH_TWINS, policy.at(path), message, format!("write `{twin}` beside it"));
}

/// What becomes of a request that a field of [`Field::opens_when_missed`] takes.
fn verb(policy: &Policy<'_>, field: &Field<'_>) -> &'static str {
    match policy.action() {
        Action::Custom => "put to the provider",
        _ if field.negative => "excepted",
        _ => "denied",
    }
}

fn hosts(policy: &Policy<'_>, field: &Field<'_>, findings: &mut Findings) {
    let opens = field.opens_when_missed(policy.action());
    for (path, value) in field.each() {
        let place = policy.at(path);
        if value.contains('/') {
            let bare = value.split("://").last().unwrap_or(value).split('/').next().unwrap_or(value);
            let message = format!("a host has neither scheme nor path: `{value}` never matches");
            findings.add(&HOST_URL, place, message, format!("write `{bare}`"));
            continue;
        }
        if let Some(bare) = value.strip_suffix('*').filter(|bare| !bare.is_empty() && !bare.contains('*')) {
            if policy.action() == Action::Allow && !field.negative && !bare.ends_with(':') && !bare.ends_with('.') {
                let message = format!("`{value}` also takes `{bare}.attacker.test`");
                findings.add(&HOST_PREFIX, place, message, format!("write `{bare}` and `{bare}:*`"));
            }
            continue;
        }
        if value == "*" || value.contains(':') {
            continue;
        }
        let with_port = |other: &str| {
            let other = other.to_ascii_lowercase();
            let own = value.to_ascii_lowercase();
            other.strip_prefix(&own).is_some_and(|rest| rest.starts_with([':', '*'])) || other == "*"
        };
        if !field.values.iter().any(|other| with_port(other)) {
            let severity = if opens { Severity::Error } else { Severity::Warning };
            let twin = if value.starts_with('*') { format!("{value}:443") } else { format!("{value}:*") };
            // A host that the value takes, and its twin that it does not.
            let sample = if value.starts_with('*') { value.replacen('*', "a", 1) } else { value.to_owned() };
            let message = format!("`{value}` does not take `{sample}:443`, which means the same as `{sample}`");
            findings.add_as(&HOST_PORT, severity, place, message, format!("write `{twin}` beside it"));
        }
    }
}

fn ports(context: &Context<'_>, policy: &Policy<'_>, field: &Field<'_>, findings: &mut Findings) {
    let reached = || policy.workloads.iter().filter_map(|index| context.workloads.get(*index));
    let known: Option<Vec<&BTreeSet<u16>>> = reached().map(|workload| workload.ports.as_ref()).collect();
    // A policy for everything names ports of some of it.
    let Some(known) = known.filter(|known| !known.is_empty()) else { return };
    let known: BTreeSet<u16> = known.into_iter().flatten().copied().collect();
    for (path, value) in field.each() {
        if value.parse::<u16>().is_ok_and(|port| !known.contains(&port)) {
            let listens: Vec<String> = known.iter().map(u16::to_string).collect();
            let message = format!("none of the selected workloads listens on port {value}");
            let instead = format!("write the targetPort; they listen on {}", listens.join(", "));
            findings.add(&PORT_NOT_SERVED, policy.at(path), message, instead);
        }
    }
}
