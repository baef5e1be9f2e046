use super::meta::selector;
use super::nearest::{nearest, one_of, quoted};
use super::read::{At, Mapping};
use crate::{Action, AuthorizationPolicy, Condition, ConditionKey, Meta, Operation, Rule, Source};

const SPEC_NOT_YET: &[&str] = &["provider", "targetRef", "targetRefs"];
const SOURCE_NOT_YET: &[&str] = &[
    "ipBlocks",
    "notIpBlocks",
    "notRemoteIpBlocks",
    "notServiceAccounts",
    "notTrustDomains",
    "remoteIpBlocks",
    "serviceAccounts",
    "trustDomains",
];
const ACTIONS: &[(&str, Action)] = &[("ALLOW", Action::Allow), ("DENY", Action::Deny)];
const ACTIONS_NOT_YET: &[&str] = &["AUDIT", "CUSTOM"];
const KEYS: &[(&str, ConditionKey)] = &[
    ("destination.port", ConditionKey::DestinationPort),
    ("request.auth.audiences", ConditionKey::RequestAuthAudiences),
    ("request.auth.presenter", ConditionKey::RequestAuthPresenter),
    ("request.auth.principal", ConditionKey::RequestAuthPrincipal),
    ("source.namespace", ConditionKey::SourceNamespace),
    ("source.principal", ConditionKey::SourcePrincipal),
];
const KEYS_NOT_YET: &[&str] =
    &["connection.sni", "destination.ip", "remote.ip", "source.ip", "source.serviceAccount", "source.trustDomain"];

pub(super) fn authorization_policy(meta: Meta, spec: &At<'_>) -> Option<AuthorizationPolicy> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let selector = selector(fields);
        let action = fields.field("action");
        let action = action.and_then(|action| action.word(ACTIONS, ACTIONS_NOT_YET));
        let action = action.unwrap_or_default();
        let rules = fields.list("rules", rule);
        // Istio: "DENY action without `rules` is meaningless as it will never be triggered, add an
        // empty rule `{}` if you want it be triggered for every request". Its check lets
        // `rules: []` pass; that is the same mistake.
        if action == Action::Deny && rules.as_ref().is_none_or(Vec::is_empty) && fields.clean() {
            fields.at.error(
                "a DENY policy without rules never denies; add the empty rule `{}` to deny every \
                 request",
            );
        }
        Some(AuthorizationPolicy {
            meta,
            selector,
            target_refs: Vec::new(),
            action,
            provider: None,
            dry_run: false,
            rules,
        })
    })
}

fn rule(at: &At<'_>) -> Option<Rule> {
    at.mapping(&[], |fields| {
        // Istio: "`from` must not be empty", "`to` must not be empty".
        let from = fields.field("from");
        let from = from.map(|from| from.elements().iter().filter_map(from_entry).collect());
        let to = fields.field("to");
        let to = to.map(|to| to.elements().iter().filter_map(to_entry).collect());
        let when = fields.list("when", condition).filter(|when| !when.is_empty());
        Some(Rule { from, to, when })
    })
}

fn from_entry(at: &At<'_>) -> Option<Source> {
    let source = at.mapping(&[], |fields| fields.required("source")?.mapping(SOURCE_NOT_YET, source))?;
    // Istio: "`from.source` must not be empty".
    if source == Source::default() {
        at.error("expected a source with at least one field that is not empty");
        return None;
    }
    Some(source)
}

fn source(fields: &mut Mapping<'_>) -> Option<Source> {
    Some(Source {
        principals: fields.strings("principals"),
        not_principals: fields.strings("notPrincipals"),
        request_principals: fields.strings("requestPrincipals"),
        not_request_principals: fields.strings("notRequestPrincipals"),
        namespaces: fields.strings("namespaces"),
        not_namespaces: fields.strings("notNamespaces"),
        ..Source::default()
    })
}

fn to_entry(at: &At<'_>) -> Option<Operation> {
    let operation = at.mapping(&[], |fields| fields.required("operation")?.mapping(&[], operation))?;
    // Istio: "`to.operation` must not be empty".
    if operation == Operation::default() {
        at.error("expected an operation with at least one field that is not empty");
        return None;
    }
    Some(operation)
}

fn operation(fields: &mut Mapping<'_>) -> Option<Operation> {
    Some(Operation {
        hosts: fields.strings("hosts"),
        not_hosts: fields.strings("notHosts"),
        ports: fields.list("ports", port).unwrap_or_default(),
        not_ports: fields.list("notPorts", port).unwrap_or_default(),
        methods: fields.strings("methods"),
        not_methods: fields.strings("notMethods"),
        paths: fields.list("paths", path).unwrap_or_default(),
        not_paths: fields.list("notPaths", path).unwrap_or_default(),
    })
}

/// A port in quotes. Istio: `strconv.ParseUint(port, 10, 32)`, at most 65535.
fn port(at: &At<'_>) -> Option<u16> {
    let text = at.non_empty_string()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    if port.is_none() {
        at.error(format!("expected a port up to 65535, found {}", quoted(&text)));
    }
    port
}

fn path(at: &At<'_>) -> Option<String> {
    let path = at.non_empty_string()?;
    if path.contains("{*}") || path.contains("{**}") {
        at.error(format!("path templates are not supported yet, found {}", quoted(&path)));
        return None;
    }
    Some(path)
}

fn condition(at: &At<'_>) -> Option<Condition> {
    at.mapping(&[], |fields| {
        let key = fields.required("key").and_then(|key| condition_key(&key));
        let ports = key == Some(ConditionKey::DestinationPort);
        let value = |at: &At<'_>| {
            if ports {
                port(at)?;
            }
            at.non_empty_string()
        };
        let values = fields.list("values", value).unwrap_or_default();
        let not_values = fields.list("notValues", value).unwrap_or_default();
        // Istio: "at least one of `values` or `notValues` must be set".
        if values.is_empty() && not_values.is_empty() && fields.clean() {
            fields.at.error("expected `values` or `notValues` with at least one element");
        }
        Some(Condition { key: key?, values, not_values })
    })
}

fn condition_key(at: &At<'_>) -> Option<ConditionKey> {
    let key = at.non_empty_string()?;
    if let Some((_, known)) = KEYS.iter().find(|(name, _)| *name == key) {
        return Some(known.clone());
    }
    if let Some(name) = key.strip_prefix("request.headers")
        && let Some(name) = in_brackets(name)
    {
        return Some(ConditionKey::RequestHeader(name.to_owned()));
    }
    if let Some(name) = key.strip_prefix("request.auth.claims")
        && let Some(whole) = in_brackets(name)
    {
        return Some(ConditionKey::RequestAuthClaims(claim_names(name, whole)));
    }
    at.error(refused_key(&key));
    None
}

fn refused_key(key: &str) -> String {
    let shown = quoted(key);
    let before_bracket = key.split('[').next().unwrap_or_default();
    if matches!(before_bracket, "request.headers" | "request.auth.claims") {
        // Istio: "bad key: should have format a[b]".
        return format!("expected `{before_bracket}[NAME]`, found {shown}");
    }
    if KEYS_NOT_YET.contains(&key) || key.starts_with("experimental.envoy.filters.") {
        return format!("the key {shown} is not supported yet");
    }
    let known = KEYS.iter().map(|(name, _)| *name);
    let known = known.chain(["request.headers[NAME]", "request.auth.claims[NAME]"]);
    match nearest(key, known.clone().chain(KEYS_NOT_YET.iter().copied())) {
        Some(known) => format!("unknown key {shown}; did you mean `{known}`?"),
        None => format!("unknown key {shown}; expected {}", one_of(known)),
    }
}

/// The text between the first `[` and the last `]`, not empty.
fn in_brackets(text: &str) -> Option<&str> {
    let name = text.strip_prefix('[')?.strip_suffix(']')?;
    Some(name).filter(|name| !name.is_empty())
}

/// `[a][b]` → `a`, `b`. Istio (`extractNameInNestedBrackets`): when the brackets do not pair up, the
/// whole text between the first and the last one is one name.
fn claim_names(brackets: &str, whole: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = brackets;
    while !rest.is_empty() {
        let name = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match name {
            Some((name, after)) if !name.contains('[') => {
                names.push(name.to_owned());
                rest = after;
            }
            _ => return vec![whole.to_owned()],
        }
    }
    names
}
