//! `RequestAuthentication` and `ApiKeyAuthentication`: whose tokens, who demands them, and what becomes of them.

use std::collections::BTreeMap;

use istio::{Action, JwtRule, Presence, RequestAuthentication};

use super::codes::policy;
use super::context::{Context, Policy};
use super::fields::{Attribute, Part};
use super::finding::{Code, Findings, Place, Severity};

pub(super) const CODES: &[&Code] = &[
    &TOKEN_OPTIONAL,
    &NO_AUTHENTICATION,
    &JWKS_HTTP,
    &NO_AUDIENCES,
    &NO_ISSUER,
    &DIFFERENT_KEYS,
    &STRIPPED,
    &CREDENTIAL_HEADER,
    &HEADER_AS_IDENTITY,
    &HEADER_COLLISION,
    &PRIVATE_KEY,
    &TOKEN_IN_QUERY,
    &PRESENCE_IGNORED,
];

static TOKEN_OPTIONAL: Code = Code {
    name: "token-optional",
    severity: Severity::Error,
    what: "tokens or API keys are accepted, and no policy asks for one",
    why: "A RequestAuthentication refuses bad tokens; a request without any passes it. Unless an AuthorizationPolicy asks \
          for a request principal or a claim, tokens are optional.",
    instead: "write an ALLOW policy with `requestPrincipals: [\"ISSUER/*\"]`, or a DENY with `notRequestPrincipals: [\"*\"]`",
    wrong: policy!("ALLOW", r#"  - to: [{operation: {methods: [GET]}}]"#),
    right: policy!("DENY", r#"  - from: [{source: {notRequestPrincipals: ["*"]}}]"#),
};

static NO_AUTHENTICATION: Code = Code {
    name: "principal-without-authentication",
    severity: Severity::Error,
    what: "a policy asks for a token where no token is read",
    why: "Without a RequestAuthentication (or ApiKeyAuthentication) for the workload nobody verifies tokens there, and \
          requests have neither a principal nor claims: the rule never matches, and a `not…` always does.",
    instead: "write a RequestAuthentication that selects the same workload",
    wrong: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: elsewhere}\nspec:\n  jwtRules:\n  - {issuer: \
         \"https://idp.example\", audiences: [shop]}\n"
    ),
    right: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  - {issuer: \
         \"https://idp.example\", audiences: [shop]}\n"
    ),
};

/// A `RequestAuthentication` of the namespace `shop` with the rest of a rule of `https://idp.example`.
macro_rules! tokens {
    ($rest:literal) => {
        concat!(
            "kind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  - issuer: \
             https://idp.example\n    ",
            $rest,
            "\n"
        )
    };
}

static JWKS_HTTP: Code = Code {
    name: "jwks-over-http",
    severity: Severity::Error,
    what: "a jwksUri with http",
    why: "Whoever is on the way between can put a key of his own into the answer, and sign every token. (A warning for \
          services of the cluster, whose traffic the mesh encrypts.)",
    instead: "write https, or give the keys inline as `jwks`",
    wrong: tokens!("audiences: [shop]\n    jwksUri: http://idp.example/jwks.json"),
    right: tokens!("audiences: [shop]\n    jwksUri: https://idp.example/jwks.json"),
};

static NO_AUDIENCES: Code = Code {
    name: "jwt-without-audiences",
    severity: Severity::Warning,
    what: "a jwtRule without audiences",
    why: "Every token of the issuer is accepted, also those that it gave for other services: one that leaks there opens \
          this one.",
    instead: "write `audiences` with this service's own",
    wrong: tokens!("jwksUri: https://idp.example/jwks.json"),
    right: tokens!("jwksUri: https://idp.example/jwks.json\n    audiences: [shop]"),
};

static NO_ISSUER: Code = Code {
    name: "jwt-without-issuer",
    severity: Severity::Warning,
    what: "a jwtRule without an issuer",
    why: "A token with any `iss` that these keys verify is accepted. Where one set of keys serves several tenants, each \
          tenant's tokens are.",
    instead: "write `issuer`, one rule each",
    wrong: "kind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  - jwksUri: \
            https://idp.example/jwks.json\n    audiences: [shop]\n",
    right: tokens!("jwksUri: https://idp.example/jwks.json\n    audiences: [shop]"),
};

static DIFFERENT_KEYS: Code = Code {
    name: "issuer-with-different-keys",
    severity: Severity::Warning,
    what: "two rules of one issuer with different keys for the same workload",
    why: "Each rule is tried, and one that verifies the token is enough: the weaker of the two sets of keys decides.",
    instead: "leave one rule an issuer, or select different workloads",
    wrong: tokens!(
        "audiences: [shop]\n    jwksUri: https://idp.example/jwks.json\n  - issuer: https://idp.example\n    audiences: \
         [shop]\n    jwksUri: https://old.example/jwks.json"
    ),
    right: tokens!("audiences: [shop]\n    jwksUri: https://idp.example/jwks.json"),
};

static STRIPPED: Code = Code {
    name: "credential-stripped-before-next-hop",
    severity: Severity::Error,
    what: "the gateway takes the token or key off, and the destination asks for it",
    why: "Without `forwardOriginalToken: true` (`forwardOriginalKey` for API keys) the credential is removed once it is \
          verified. The second hop then sees a request without one: what asks for a request principal there never matches.",
    instead: "write `forwardOriginalToken: true` in the rule that the gateway uses",
    wrong: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: istio-system}\nspec:\n  jwtRules:\n  - {issuer: \
         \"https://idp.example\", audiences: [shop]}\n"
    ),
    right: concat!(
        policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: istio-system}\nspec:\n  jwtRules:\n  - {issuer: \
         \"https://idp.example\", audiences: [shop], forwardOriginalToken: true}\n"
    ),
};

static CREDENTIAL_HEADER: Code = Code {
    name: "credential-header-condition",
    severity: Severity::Error,
    what: "a condition on a header that holds a credential",
    why: "The header of a verified token is removed before policies look (unless it is forwarded), so that the condition \
          sees it only when it held no valid token. And a token compared as text is one that nobody verified. (A warning \
          where the header is forwarded.)",
    instead: "ask for what the token says: `requestPrincipals` or `request.auth.claims[…]`",
    wrong: concat!(
        policy!("ALLOW", r#"  - when: [{key: "request.headers[authorization]", values: ["Bearer *"]}]"#),
        "---\nkind: RequestAuthentication\nmetadata: {name: idp, namespace: shop}\nspec:\n  jwtRules:\n  - {issuer: \
         \"https://idp.example\", audiences: [shop]}\n"
    ),
    right: policy!("ALLOW", r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]"#),
};

static HEADER_AS_IDENTITY: Code = Code {
    name: "header-as-identity",
    severity: Severity::Warning,
    what: "an ALLOW rule for which a header of the client is enough",
    why: "A client writes any header. Unless a proxy in front overwrites it, a rule that asks for nothing but a header lets \
          in whoever knows its value. (Headers that `outputClaimToHeaders` sets are overwritten, and are fine.)",
    instead: "ask for a request principal, a claim or a peer as well",
    wrong: policy!("ALLOW", r#"  - when: [{key: "request.headers[x-user]", values: ["alice"]}]"#),
    right: policy!(
        "ALLOW",
        r#"  - from: [{source: {requestPrincipals: ["https://idp.example/*"]}}]
    when: [{key: "request.headers[x-user]", values: ["alice"]}]"#
    ),
};

static HEADER_COLLISION: Code = Code {
    name: "output-header-collision",
    severity: Severity::Error,
    what: "two outputs of tokens into one header, or into one that a token is read from",
    why: "The last one wins. Names that differ by `-` and `_` or by case are one name to most backends (CGI, WSGI, Rack), so \
          that a client's `x_user` may stand in for `x-user` (a warning then).",
    instead: "give each output a name of its own, with `-` only",
    wrong: tokens!(
        "audiences: [shop]\n    outputClaimToHeaders: [{header: x-user, claim: sub}, {header: x-user, claim: email}]"
    ),
    right: tokens!(
        "audiences: [shop]\n    outputClaimToHeaders: [{header: x-user, claim: sub}, {header: x-email, claim: email}]"
    ),
};

static PRIVATE_KEY: Code = Code {
    name: "jwks-private-key",
    severity: Severity::Error,
    what: "an inline key set with a private key or a shared secret",
    why: "Whoever can read the configuration can sign tokens with it. Verifying needs public keys only; a key of type `oct` \
          signs as well as it verifies (a warning).",
    instead: "leave out the members `d`, `p`, `q`, `dp`, `dq` and `qi`, and replace the key: it is known now",
    wrong: tokens!(
        "audiences: [shop]\n    jwks: '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\"}]}'"
    ),
    right: tokens!(
        "audiences: [shop]\n    jwks: '{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}'"
    ),
};

static TOKEN_IN_QUERY: Code = Code {
    name: "token-in-query",
    severity: Severity::Warning,
    what: "tokens from a query parameter",
    why: "Addresses are logged, kept in histories and sent on as `Referer`: so is the token.",
    instead: "take tokens from a header",
    wrong: tokens!("audiences: [shop]\n    fromParams: [token]"),
    right: tokens!("audiences: [shop]\n    fromHeaders: [{name: authorization, prefix: \"Bearer \"}]"),
};

static PRESENCE_IGNORED: Code = Code {
    name: "presence-ignored",
    severity: Severity::Warning,
    what: "`presence: REQUIRED` where Istio enforces the rule",
    why: "Istio reads the field and does nothing with it. In the mode `strict` a missing token is 401 here; in the mode \
          `istio`, and in the mesh, it passes.",
    instead: "demand the token by an AuthorizationPolicy, which both enforce",
    wrong: tokens!("audiences: [shop]\n    presence: REQUIRED"),
    right: tokens!("audiences: [shop]"),
};

pub(super) fn check(context: &Context<'_>, findings: &mut Findings) {
    let documents = || context.resources.request_authentications.iter().zip(&context.token_scopes);
    for (at, (document, scope)) in documents().enumerate() {
        let mut keys: BTreeMap<&str, (usize, &JwtRule)> = BTreeMap::new();
        for (index, rule) in document.jwt_rules.iter().enumerate() {
            let at = |path: &str| {
                Place::new("RequestAuthentication", &document.meta, format!("spec.jwtRules[{index}]{path}"))
            };
            check_rule(context, rule, &at, findings);
            let other = keys.entry(&rule.issuer).or_insert((index, rule)).1;
            if !rule.issuer.is_empty() && different_keys(rule, other) {
                let message = format!("another rule of the issuer `{}` here has other keys", rule.issuer);
                findings.add(&DIFFERENT_KEYS, at(""), message, "leave one rule an issuer");
            }
        }
        for (other, other_scope) in documents().take(at) {
            if scope.overlaps(other_scope) {
                across(document, other, findings);
            }
        }
    }
    demanded(context, findings);
    for policy in &context.policies {
        check_policy(context, policy, findings);
    }
    stripped(context, findings);
}

fn different_keys(a: &JwtRule, b: &JwtRule) -> bool {
    (&a.jwks, &a.jwks_uri) != (&b.jwks, &b.jwks_uri)
}

fn check_rule<'a>(context: &Context<'_>, rule: &JwtRule, at: &dyn Fn(&str) -> Place<'a>, findings: &mut Findings) {
    if let Some(rest) = rule.jwks_uri.as_deref().and_then(|uri| uri.strip_prefix("http://")) {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        let inside = host.ends_with(".svc") || host.ends_with(".svc.cluster.local");
        let severity = if inside { Severity::Warning } else { Severity::Error };
        let message = format!("the keys of `{}` come over plain http", rule.issuer);
        findings.add_as(&JWKS_HTTP, severity, at(".jwksUri"), message, format!("write `https://{rest}`"));
    }
    if rule.audiences.is_empty() {
        let message = format!("every token of `{}` is accepted, whoever it was given for", rule.issuer);
        findings.add(&NO_AUDIENCES, at(".audiences"), message, "write `audiences` with this service's own");
    }
    if rule.issuer.is_empty() {
        let message = "tokens of any issuer are accepted that these keys verify";
        findings.add(&NO_ISSUER, at(".issuer"), message, "write `issuer`, one rule each");
    }
    if let Some(parameter) = rule.from_params.first() {
        let message = format!("the query parameter `{parameter}` is logged, and the token with it");
        findings.add(&TOKEN_IN_QUERY, at(".fromParams"), message, "take tokens from a header");
    }
    if rule.presence == Presence::Required {
        let message = match context.mode {
            authz::Mode::Istio => "Istio's parity mode does nothing with `presence`: a missing token passes",
            authz::Mode::Strict => "the mesh does nothing with `presence`: a missing token passes there",
        };
        findings.add(&PRESENCE_IGNORED, at(".presence"), message, "demand the token by an AuthorizationPolicy");
    }
    if let Some(jwks) = &rule.jwks {
        let keys: Option<serde_json::Value> = serde_json::from_str(jwks).ok();
        let keys = keys.as_ref().and_then(|set| set.get("keys")).and_then(|keys| keys.as_array());
        for key in keys.into_iter().flatten() {
            let shared = key.get("kty").and_then(|kty| kty.as_str()) == Some("oct");
            if shared {
                let message = "the key of type `oct` signs tokens for whoever can read this document";
                findings.add_as(&PRIVATE_KEY, Severity::Warning, at(".jwks"), message, "use a key pair");
            } else if ["d", "p", "q", "dp", "dq", "qi"].iter().any(|member| key.get(member).is_some()) {
                let message = "the key set holds a private key, known to whoever can read this document";
                findings.add(&PRIVATE_KEY, at(".jwks"), message, "leave the private members out, and replace the key");
            }
        }
    }
    let outputs = outputs(rule);
    for (index, (path, header, source)) in outputs.iter().enumerate() {
        for (_, other, other_source) in outputs.iter().take(index) {
            if header.eq_ignore_ascii_case(other) && source != other_source {
                let message = format!("the header `{header}` is set twice: from `{other_source}` and from `{source}`");
                findings.add(&HEADER_COLLISION, at(path), message, "give each output a name of its own");
            } else if fold(header) == fold(other) && !header.eq_ignore_ascii_case(other) {
                let message = format!("`{header}` and `{other}` are one header to most backends");
                findings.add_as(&HEADER_COLLISION, Severity::Warning, at(path), message, "give each a name of its own");
            }
        }
        if token_headers(rule).iter().any(|token| token.eq_ignore_ascii_case(header)) {
            let message = format!("a token is read from the header `{header}`, which is overwritten here");
            findings.add(&HEADER_COLLISION, at(path), message, "give the output a name of its own");
        } else if header.contains('_') {
            let message = format!("`{header}` and `{}` are one header to most backends", header.replace('_', "-"));
            let instead = format!("write `{}`", header.replace('_', "-"));
            findings.add_as(&HEADER_COLLISION, Severity::Warning, at(path), message, instead);
        }
    }
}

/// Two documents for the same workload.
fn across(document: &RequestAuthentication, other: &RequestAuthentication, findings: &mut Findings) {
    for (index, rule) in document.jwt_rules.iter().enumerate() {
        let at =
            |path: &str| Place::new("RequestAuthentication", &document.meta, format!("spec.jwtRules[{index}]{path}"));
        let origin = &other.meta.origin;
        for twin in &other.jwt_rules {
            if !rule.issuer.is_empty() && rule.issuer == twin.issuer && different_keys(rule, twin) {
                let message = format!("the rule at {origin} has other keys for the issuer `{}`", rule.issuer);
                findings.add(
                    &DIFFERENT_KEYS,
                    at(""),
                    message,
                    "leave one rule an issuer, or select different workloads",
                );
            }
            for (path, header, source) in outputs(rule) {
                let read = token_headers(twin).iter().any(|token| token.eq_ignore_ascii_case(header));
                let set = outputs(twin)
                    .iter()
                    .any(|(_, other, from)| fold(other) == fold(header) && (*from != source || *other != header));
                if read || set {
                    let what = if read { "reads a token from" } else { "also sets" };
                    let message = format!("the document at {origin} {what} the header `{header}`");
                    findings.add(&HEADER_COLLISION, at(&path), message, "give each output a name of its own");
                }
            }
        }
    }
}

/// The headers that a rule sets: path, name, and what from.
fn outputs(rule: &JwtRule) -> Vec<(String, &str, &str)> {
    let payload = rule.output_payload_to_header.iter();
    let payload = payload.map(|header| (".outputPayloadToHeader".to_owned(), header.as_str(), "the payload"));
    let claims = rule.output_claim_to_headers.iter().enumerate().map(|(index, output)| {
        (format!(".outputClaimToHeaders[{index}].header"), output.header.as_str(), output.claim.as_str())
    });
    payload.chain(claims).collect()
}

/// The headers that a rule takes tokens from.
fn token_headers(rule: &JwtRule) -> Vec<&str> {
    if rule.from_headers.is_empty() && rule.from_params.is_empty() && rule.from_cookies.is_empty() {
        return vec!["authorization"];
    }
    rule.from_headers.iter().map(|header| header.name.as_str()).collect()
}

fn fold(header: &str) -> String {
    header.to_ascii_lowercase().replace('_', "-")
}

/// Whether somewhere that a document applies to a policy asks for what it reads.
fn demanded(context: &Context<'_>, findings: &mut Findings) {
    let asks = |policy: &&Policy<'_>| {
        policy.fields.iter().any(|field| field.attribute.is_of_token())
            && matches!(policy.action(), Action::Allow | Action::Deny)
    };
    // What denies everything demands a token as well.
    let closed = |policy: &&Policy<'_>| {
        policy.action() == Action::Allow && policy.document.rules.as_ref().is_none_or(Vec::is_empty)
    };
    let enforced = context.policies.iter().filter(|policy| policy.is_enforced());
    let asking: Vec<&Policy<'_>> = enforced.filter(|policy| asks(policy) || closed(policy)).collect();
    let tokens = context.resources.request_authentications.iter().map(|document| &document.meta);
    let tokens = tokens.zip(&context.token_scopes).map(|(meta, scope)| ("RequestAuthentication", meta, scope));
    let keys = context.resources.api_key_authentications.iter().map(|keys| &keys.meta);
    let keys = keys.zip(&context.key_scopes).map(|(meta, scope)| ("ApiKeyAuthentication", meta, scope));
    for (kind, meta, scope) in tokens.chain(keys) {
        let elsewhere = scope.workloads.is_empty();
        if !elsewhere && !asking.iter().any(|policy| scope.overlaps(&policy.scope)) {
            let message =
                "no AuthorizationPolicy asks for a request principal or a claim here: a request without one passes";
            let instead = "write an ALLOW policy with `requestPrincipals: [\"ISSUER/*\"]`";
            findings.add(&TOKEN_OPTIONAL, Place::new(kind, meta, "spec"), message, instead);
        }
    }
}

fn check_policy(context: &Context<'_>, policy: &Policy<'_>, findings: &mut Findings) {
    let rules: Vec<&JwtRule> = context.token_rules(policy).map(|(_, _, rule)| rule).collect();
    let keys = context.key_rules(policy);
    if rules.is_empty()
        && keys.is_empty()
        && let Some(field) = policy.fields.iter().find(|field| field.attribute.is_of_token())
    {
        let message = format!("`{}` looks at a token, and no RequestAuthentication reads one here", field.name());
        let instead = "write a RequestAuthentication for the same workloads";
        findings.add(&NO_AUTHENTICATION, policy.at(field.path.clone()), message, instead);
    }
    for field in &policy.fields {
        let Attribute::Header(name) = field.attribute else { continue };
        let reading: Vec<bool> = rules
            .iter()
            .filter(|rule| token_headers(rule).iter().any(|header| header.eq_ignore_ascii_case(name)))
            .map(|rule| rule.forward_original_token)
            .chain(
                keys.iter()
                    .filter(|keys| keys.header_name.eq_ignore_ascii_case(name))
                    .map(|keys| keys.forward_original_key),
            )
            .collect();
        let is_credential = !reading.is_empty() || name.eq_ignore_ascii_case("authorization");
        let place = policy.at(field.path.clone());
        // CUSTOM policies are asked before credentials are read: the header is there, and `*` is the way to say that a
        // provider is asked about those who present one.
        let is_before = policy.action() == Action::Custom;
        if is_before && field.values.iter().all(|value| value == "*") {
            continue;
        }
        if is_credential {
            let removed = !is_before && reading.iter().any(|forwarded| !forwarded);
            let severity = if removed { Severity::Error } else { Severity::Warning };
            let message = if removed {
                format!("the header `{name}` is removed once its credential is verified, before policies look")
            } else {
                format!("the header `{name}` holds a credential, and comparing it as text verifies nothing")
            };
            let instead = "ask for `requestPrincipals` or `request.auth.claims[…]`";
            findings.add_as(&CREDENTIAL_HEADER, severity, place, message, instead);
            continue;
        }
        if policy.action() != Action::Allow || field.negative {
            continue;
        }
        let set = rules.iter().flat_map(|rule| outputs(rule)).any(|(_, header, _)| header.eq_ignore_ascii_case(name));
        let asked = policy.rule(field.rule).any(|other| {
            let attribute = other.attribute;
            !other.negative
                && (attribute.is_of_token()
                    || attribute.is_of_peer()
                    || matches!(attribute, Attribute::IpBlock | Attribute::RemoteIpBlock))
        });
        if !set && !asked && field.part == Part::Condition && !name.starts_with(':') {
            let message = format!("any client can write the header `{name}`, and the rule asks for nothing else");
            findings.add(&HEADER_AS_IDENTITY, place, message, "ask for a request principal or a peer as well");
        }
    }
}

/// Credentials that the first hop takes off and the second one needs.
fn stripped(context: &Context<'_>, findings: &mut Findings) {
    for api in &context.apis {
        for destination in &api.destinations {
            let asks = context
                .policies_of(*destination)
                .any(|policy| policy.fields.iter().any(|field| field.attribute.is_of_token()));
            if !asks {
                continue;
            }
            let name = context.workloads.get(*destination).map_or("", |workload| workload.name.as_str());
            let behind: Vec<&str> = context
                .authentications_of(*destination)
                .flat_map(|document| document.jwt_rules.iter().map(|rule| rule.issuer.as_str()))
                .collect();
            for document in context.authentications_of(api.workload) {
                for (index, rule) in document.jwt_rules.iter().enumerate() {
                    let needed = behind.iter().any(|issuer| *issuer == rule.issuer || issuer.is_empty());
                    if needed && !rule.forward_original_token {
                        let path = format!("spec.jwtRules[{index}].forwardOriginalToken");
                        let place = Place::new("RequestAuthentication", &document.meta, path);
                        let message = format!("the gateway takes the token off, and {name} asks for it");
                        findings.add(&STRIPPED, place, message, "write `forwardOriginalToken: true`");
                    }
                }
            }
            let keys_of = |workload: usize| {
                let keys = context.resources.api_key_authentications.iter().zip(&context.key_scopes);
                keys.filter(move |(_, scope)| scope.workloads.contains(&workload)).map(|(keys, _)| keys)
            };
            for keys in keys_of(api.workload) {
                let needed = keys_of(*destination).any(|other| other.header_name == keys.header_name);
                if needed && !keys.forward_original_key {
                    let place = Place::new("ApiKeyAuthentication", &keys.meta, "spec.forwardOriginalKey");
                    let message = format!("the gateway takes the key off, and {name} asks for it");
                    findings.add(&STRIPPED, place, message, "write `forwardOriginalKey: true`");
                }
            }
        }
    }
}
