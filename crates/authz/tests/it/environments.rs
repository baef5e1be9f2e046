//! A credential of one environment never opens another.

use authz::{CompileOptions, Decision, KeyRecordLookup, Mode, Reason, Request, Target, VerifiedTokens};

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, api_key, bearer, open, open_with, pepper, request, token, with_header,
};

/// One shop, which the APIs of both environments lead to.
pub(crate) const SHOP: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [\"*.shop.example\"], tls: {mode: SIMPLE, credentialName: c}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [\"*.shop.example\"]
  gateways: [front]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web}}
";

/// The shop of each environment, told apart by the host.
const TWO_SHOPS: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [\"*.shop.example\"], tls: {mode: SIMPLE, credentialName: c}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: dev, namespace: shop}
spec:
  hosts: [dev.shop.example]
  gateways: [front]
  http: [{route: [{destination: {host: web-dev, port: {number: 80}}}]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: prod, namespace: shop}
spec:
  hosts: [prod.shop.example]
  gateways: [front]
  http: [{route: [{destination: {host: web-prod, port: {number: 80}}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: web-dev, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web-dev}}
---
apiVersion: v1
kind: Service
metadata: {name: web-prod, namespace: shop}
spec: {ports: [{name: http, port: 80}], selector: {app: web-prod}}
";

/// An `ApiGateway` of the API `a` at the stage `name`, with the domain `name.shop.example`.
pub(crate) fn api(name: &str, environment: &str, labels: &str, more: &str) -> String {
    document(name, ("a", name), &format!("{name}.shop.example"), environment, labels, more)
}

fn document(
    name: &str,
    (id, stage): (&str, &str),
    domain: &str,
    environment: &str,
    labels: &str,
    more: &str,
) -> String {
    format!(
        "---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: {{name: {name}, namespace: shop}}
spec:
  apiId: {id}
  stage: {stage}
  domain: {domain}
  gateway: shop/front
  workload: {{namespace: istio-system, labels: {{istio: ingressgateway{labels}}}, serviceAccount: gateway}}
  environment: {environment}
{more}"
    )
}

/// Both environments with a gateway workload of their own.
pub(crate) fn apart() -> String {
    api("dev", "dev", ", env: dev", "") + &api("prod", "prod", ", env: prod", "")
}

/// Both with the same one; `more` is in both documents.
pub(crate) fn together(dev: &str, prod: &str) -> String {
    api("dev", "dev", "", dev) + &api("prod", "prod", "", prod)
}

/// A `RequestAuthentication` with rules; a rule is an issuer's audiences and more.
pub(crate) fn tokens(name: &str, namespace: &str, labels: &str, rules: &[&str]) -> String {
    let rules: Vec<String> = rules
        .iter()
        .map(|rule| format!("  - {{jwksUri: \"{JWKS_URI}\", forwardOriginalToken: true, {rule}}}\n"))
        .collect();
    let selector =
        if labels.is_empty() { String::new() } else { format!("  selector: {{matchLabels: {{{labels}}}}}\n") };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec:\n{selector}  jwtRules:\n{}",
        rules.concat()
    )
}

fn rule(audiences: &str) -> String {
    format!("issuer: \"{ISSUER}\", audiences: [{audiences}]")
}

/// At the gateway workloads, each with audiences of its own.
fn own_audiences() -> String {
    tokens("dev", "istio-system", "env: dev", &[&rule("dev")])
        + &tokens("prod", "istio-system", "env: prod", &[&rule("prod")])
}

pub(crate) fn refused(documents: &str) -> Vec<String> {
    open(&[("shop.yaml", documents)]).err().unwrap_or_default()
}

#[test]
fn tokens_are_told_apart_or_refused() {
    let any = format!("issuer: \"{ISSUER}\"");
    let gateways = |dev: &[&str], prod: &[&str]| {
        tokens("dev", "istio-system", "env: dev", dev) + &tokens("prod", "istio-system", "env: prod", prod)
    };
    let at_shop = |rule: &str| tokens("web", "shop", "app: web", &[rule]);
    let other_place = format!("{}, fromHeaders: [{{name: x-token}}]", rule("dev, prod"));
    let shared = ("  sharesTokensWith: [prod]\n", "  sharesTokensWith: [dev]\n");
    let everywhere = || tokens("all", "istio-system", "", &[&rule("shop")]);
    // A word of the error, where there is one.
    let rows: Vec<(&str, String, Option<&str>)> = vec![
        ("audiences of their own", apart() + &own_audiences(), None),
        ("one rule for the mesh", apart() + &everywhere(), Some("a RequestAuthentication with audiences of its own")),
        ("one gateway workload", together("", "") + &everywhere(), Some("both play one gateway workload")),
        ("no audiences", apart() + &gateways(&[&any], &[&any]), Some("for any audience")),
        ("no audiences at one", apart() + &gateways(&[&any], &[&rule("prod")]), Some("for the audience prod")),
        (
            "a common audience",
            apart() + &gateways(&[&rule("dev, b")], &[&rule("b, prod")]),
            Some("for the audience b open the environment prod"),
        ),
        (
            "a common audience as Envoy compares them",
            apart() + &gateways(&[&rule("\"https://b.example/\"")], &[&rule("b.example")]),
            Some("for the audience b.example"),
        ),
        ("two issuers", apart() + &gateways(&["issuer: a"], &["issuer: b"]), None),
        (
            "any issuer",
            apart() + &gateways(&["audiences: [b]"], &["issuer: b"]),
            Some("tokens of the issuer b for the audience b"),
        ),
        ("any issuer, and audiences", apart() + &gateways(&["audiences: [dev]"], &["audiences: [prod]"]), None),
        (
            "any issuer twice",
            apart() + &gateways(&["audiences: [a]"], &["audiences: [a]"]),
            Some("tokens of any issuer"),
        ),
        (
            "the second rule",
            apart() + &gateways(&[&rule("dev")], &["issuer: b", &rule("dev")]),
            Some("spec.jwtRules[1]: "),
        ),
        // The second hop.
        ("judged at the gateway", apart() + &own_audiences() + &at_shop(&any), None),
        (
            "another place at the shop",
            apart() + &own_audiences() + &at_shop(&other_place),
            Some("at web.shop.svc.cluster.local behind ApiGateway shop/prod"),
        ),
        ("the shop alone", apart() + &at_shop(&rule("shop")), Some("at web.shop.svc.cluster.local behind")),
        (
            "one gateway does not look",
            apart() + &tokens("dev", "istio-system", "env: dev", &[&rule("dev")]) + &at_shop(&any),
            Some("for the audience dev open the environment prod at web.shop.svc.cluster.local behind"),
        ),
        (
            "one rule of a gateway looks elsewhere",
            apart()
                + &gateways(&[&rule("dev"), "issuer: c, fromHeaders: [{name: x-c}]"], &[&rule("prod")])
                + &at_shop(&any),
            Some("web.shop.svc.cluster.local"),
        ),
        // What is meant.
        ("shared", together(shared.0, shared.1) + &everywhere(), None),
        ("one side only", together(shared.0, "") + &everywhere(), Some("sharesTokensWith in every ApiGateway of both")),
        (
            "another document of one side",
            together(shared.0, shared.1) + &api("more", "dev", "", "") + &everywhere(),
            Some("sharesTokensWith"),
        ),
        (
            "shared with others",
            together("  sharesTokensWith: [test]\n", shared.1) + &everywhere(),
            Some("sharesTokensWith"),
        ),
        ("one environment", api("dev", "dev", "", "") + &api("other", "dev", "", "") + &everywhere(), None),
    ];
    for (name, documents, word) in rows {
        let errors = refused(&format!("{SHOP}{documents}"));
        match word {
            None => assert_eq!(errors, Vec::<String>::new(), "{name}"),
            Some(word) => {
                assert!(!errors.is_empty() && errors.iter().any(|error| error.contains(word)), "{name}: {errors:#?}");
                assert!(errors.iter().all(|error| error.starts_with("shop.yaml:")), "{name}: {errors:#?}");
            }
        }
    }
}

#[test]
fn the_error_names_everything() {
    let documents = format!("{SHOP}{}{}", together("", ""), tokens("all", "istio-system", "", &[&rule("shop")]));
    let line = documents.lines().position(|line| line == "kind: RequestAuthentication").unwrap();
    assert_eq!(
        refused(&documents),
        [format!(
            "shop.yaml:{line}: istio-system/all: spec.jwtRules[0]: tokens of the issuer {ISSUER} for the audience shop open \
             the environment prod at the gateway workload of ApiGateway shop/prod and dev at the gateway workload of \
             ApiGateway shop/dev; both play one gateway workload, and one RequestAuthentication cannot tell them apart: \
             give each environment a gateway workload with labels of its own, and a RequestAuthentication for these with \
             audiences of its own; where prod and dev are to share tokens, write sharesTokensWith in every ApiGateway of both"
        )]
    );
    // What Istio loads is a warning where parity is asked for.
    let file = istio::SourceFile { name: "shop.yaml".to_owned(), text: documents.clone() };
    let istio = CompileOptions { mode: Mode::Istio, ..CompileOptions::default() };
    let compiled = authz::compile(&istio::parse(&[file]).unwrap(), &istio).unwrap();
    let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, refused(&documents));
}

#[test]
fn hosts_of_the_environments_have_workloads_of_their_own() {
    let dev = tokens("dev", "shop", "app: web-dev", &[&rule("dev")]);
    let prod = tokens("prod", "shop", "app: web-prod", &[&rule("prod")]);
    assert_eq!(refused(&format!("{TWO_SHOPS}{}{dev}{prod}", apart())), Vec::<String>::new());
    // A gateway workload that both play is no matter where it reads no tokens.
    assert_eq!(refused(&format!("{TWO_SHOPS}{}{dev}{prod}", together("", ""))), Vec::<String>::new());
    let same = tokens("prod", "shop", "app: web-prod", &[&rule("dev")]);
    let errors = refused(&format!("{TWO_SHOPS}{}{dev}{same}", apart()));
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(errors[0].contains("give each of the two rules audiences that the other does not have"), "{errors:#?}");
    assert!(errors[0].contains(" by spec.jwtRules[0] at shop.yaml:"), "{errors:#?}");
}

/// One domain with a base path for each stage, and one stage with a domain for each environment.
fn many() -> String {
    let base = |path: &str| format!("  basePath: {path}\n");
    let labels = |environment: &str| format!(", env: {environment}");
    let of = |name, api, domain, environment, more: &str| {
        document(name, api, domain, environment, &labels(environment), more)
    };
    SHOP.to_owned()
        + &of("a-dev", ("a", "dev"), "a.shop.example", "dev", &base("/dev"))
        + &of("a-prod", ("a", "prod"), "a.shop.example", "prod", &base("/prod"))
        + &of("h-dev", ("h", "$default"), "dev.shop.example", "dev", "")
        + &of("h-prod", ("h", "$default"), "prod.shop.example", "prod", "")
        + &own_audiences()
}

#[test]
fn host_and_stage_say_which_environment() {
    let world = World::new(&many());
    let rows = [
        // id, stage, domain; environment and base path
        ("a", "dev", "a.shop.example", Some(("dev", Some("/dev")))),
        ("a", "prod", "a.shop.example", Some(("prod", Some("/prod")))),
        ("a", "prod", "A.Shop.Example", Some(("prod", Some("/prod")))),
        ("a", "test", "a.shop.example", None),
        // The domain that API Gateway generates, and an event that names none.
        ("a", "dev", "a.execute-api.eu-central-1.amazonaws.com", Some(("dev", Some("/dev")))),
        ("a", "dev", "", Some(("dev", Some("/dev")))),
        // The host of the other environment, and of the same.
        ("a", "dev", "prod.shop.example", None),
        ("a", "prod", "dev.shop.example", None),
        ("a", "prod", "prod.shop.example", Some(("prod", Some("/prod")))),
        // Only the host tells these apart.
        ("h", "$default", "dev.shop.example", Some(("dev", None))),
        ("h", "$default", "PROD.shop.example", Some(("prod", None))),
        ("h", "$default", "a.shop.example", None),
        ("h", "$default", "h.execute-api.eu-central-1.amazonaws.com", None),
        ("h", "$default", "", None),
        ("h", "dev", "dev.shop.example", None),
        // An API that no document names, at hosts that documents have.
        ("x", "$default", "prod.shop.example", None),
        ("x", "dev", "prod.shop.example", None),
        ("x", "dev", "a.shop.example", None),
        ("x", "prod", "a.shop.example", None),
    ];
    for (id, stage, domain, expected) in rows {
        let found = world.policies.api_gateway(id, stage, domain);
        assert_eq!(found.map(|found| (found.environment, found.base_path)), expected, "{id} {stage} {domain}");
        let decision = world.decide(&at(domain), &target(id, stage, domain));
        assert_eq!(decision.reason() == Reason::GatewayUnknown, expected.is_none(), "{id} {stage} {domain}");
        assert!(expected.is_some() || !decision.is_allowed());
    }
}

#[test]
fn what_could_be_two_environments_is_refused() {
    let one = |environment: &str, stage: &str, domain: &str, more: &str| {
        document(&format!("d{}", domain.len() + stage.len() + more.len()), ("a", stage), domain, environment, "", more)
    };
    let (dev, domain) = (document("one", ("a", "s"), "x.shop.example", "dev", "", ""), "x.shop.example");
    let rows = [
        ("the same", one("prod", "s", domain, ""), Some("the same apiId and stage as the ApiGateway at shop.yaml:")),
        ("the same in one environment", one("dev", "s", domain, ""), Some("both have the domain x.shop.example")),
        ("another domain", one("prod", "s", "other.shop.example", ""), None),
        (
            "another stage",
            one("prod", "t", domain, ""),
            Some("is of the environment prod here and of dev at shop.yaml:"),
        ),
        ("another stage of one environment", one("dev", "t", domain, ""), None),
        ("another base path", one("prod", "t", domain, "  basePath: /p\n"), None),
    ];
    for mode in [Mode::Strict, Mode::Istio] {
        for (name, other, word) in &rows {
            let options = CompileOptions { mode, ..CompileOptions::default() };
            let opened = open_with(&[("shop.yaml", &format!("{SHOP}{dev}{other}"))], &options);
            let errors = opened.err().unwrap_or_default();
            assert_eq!(errors.len(), usize::from(word.is_some()), "{name}: {errors:#?}");
            assert!(errors.iter().all(|error| error.contains(word.unwrap_or_default())), "{name}: {errors:#?}");
        }
    }
}

#[test]
fn the_host_is_read_where_it_says_the_environment() {
    let world = World::new(&many());
    let set = authz::read_set(&world.policies, "shop/h-dev").unwrap();
    let readers = set.readers(&authz::read_set::Read::Host);
    assert!(readers.iter().any(|reader| reader.field == "spec.domains"), "{readers:?}");
    let alone = World::new(&format!("{SHOP}{}", api("dev", "dev", "", "")));
    let set = authz::read_set(&alone.policies, "shop/dev").unwrap();
    assert!(set.readers(&authz::read_set::Read::Host).iter().all(|reader| reader.field != "spec.domains"));
}

pub(crate) fn target(id: &str, stage: &str, domain: &str) -> Target {
    Target::ApiGateway { api_id: id.to_owned(), stage: stage.to_owned(), domain: domain.to_owned() }
}

pub(crate) fn at(host: &str) -> Request {
    Request { host: host.to_owned(), scheme: "https".to_owned(), headers_joined: true, ..request("GET", "/a") }
}

pub(crate) fn token_for(issuer: &str, audience: &str) -> String {
    let exp = NOW + 600;
    token(&format!(r#"{{"iss":"{issuer}","sub":"{audience}","aud":"{audience}","exp":{exp}}}"#))
}

/// The places of both environments: by stage, and by host.
const PLACES: [(&str, &str, &str, &str); 4] = [
    ("dev", "a", "dev", "a.shop.example"),
    ("prod", "a", "prod", "a.shop.example"),
    ("dev", "h", "$default", "dev.shop.example"),
    ("prod", "h", "$default", "prod.shop.example"),
];

/// Every place after every other: what is remembered of one is of no use to another.
fn in_all_orders(mut each: impl FnMut(&str, &Target, &Request)) {
    for first in PLACES {
        for second in PLACES {
            for (environment, id, stage, domain) in [first, second, first] {
                each(environment, &target(id, stage, domain), &at(domain));
            }
        }
    }
}

#[test]
fn a_token_opens_its_own_environment_whatever_is_remembered() {
    let world = World::new(&many());
    for own in ["dev", "prod"] {
        let token = token_for(ISSUER, own);
        let verified = VerifiedTokens::default();
        in_all_orders(|environment, target, request| {
            let given = authz::Given { verified: Some(&verified), ..world.given() };
            let decision = authz::decide(&world.policies, &bearer(request.clone(), &token), target, &given);
            let expected = if own == environment { Reason::AllowedNoPolicy } else { Reason::TokenAudience };
            assert_eq!(decision.reason(), expected, "{own} at {target:?}");
        });
        assert!(verified.hits() > 0, "the cache had a part in it");
    }
}

#[test]
fn a_key_opens_its_own_environment_and_cannot_be_edited() {
    let keys = "---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: keys, namespace: istio-system}
spec: {issuer: \"https://keys.example\"}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: istio-system}
spec: {selector: {matchLabels: {istio: ingressgateway}}, rules: [{from: [{source: {requestPrincipals: [\"https://keys.example/*\"]}}]}]}
";
    let mut world = World::new(&format!("{}{keys}", many()));
    for own in ["dev", "prod"] {
        let key = authz::ApiKey::generate(own, &[7; 48]).unwrap();
        let record = authz::ApiKeyRecord {
            id: key.id().to_owned(),
            environment: own.to_owned(),
            hashes: vec![authz::api_key::hex(&key.hash(&pepper()))],
            ..api_key("partner").1
        };
        let text = key.text().expose().clone();
        let other = if own == "dev" { "prod" } else { "dev" };
        let edited = text.replace(&format!("cwk_{own}_"), &format!("cwk_{other}_"));
        // As if the key had been made for the other environment, with the same id and secret.
        let twin = authz::ApiKey::generate(other, &[7; 48]).unwrap().text().expose().clone();
        let moved = authz::ApiKeyRecord { environment: other.to_owned(), ..record.clone() };
        let mut rows: Vec<(&str, &str, &authz::ApiKeyRecord, [Reason; 2])> = Vec::new();
        let denied = [Reason::ApiKeyEnvironment; 2];
        rows.push(("good", &text, &record, [Reason::AllowedByPolicy, Reason::ApiKeyEnvironment]));
        rows.push(("record moved", &text, &moved, denied));
        rows.push(("prefix edited", &edited, &record, [Reason::ApiKeyMalformed; 2]));
        rows.push(("prefix edited, record moved", &edited, &moved, [Reason::ApiKeyMalformed; 2]));
        // The hash covers the prefix, and the id is made of the random part alone.
        rows.push(("made anew", &twin, &record, [Reason::ApiKeyUnknown; 2]));
        rows.push(("made anew, record moved", &twin, &moved, [Reason::ApiKeyUnknown; 2]));
        for (name, text, record, [here, elsewhere]) in rows {
            world.lookup = Some(KeyRecordLookup::Found(record.clone()));
            in_all_orders(|environment, target, request| {
                let decision: Decision = world.decide(&with_header(request.clone(), "x-api-key", text), target);
                let expected = if own == environment { here } else { elsewhere };
                assert_eq!(decision.reason(), expected, "{name}: {own} at {target:?}");
            });
        }
    }
}
