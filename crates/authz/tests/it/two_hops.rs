//! A request to an API passes two hops, with the documents of `examples/bookinfo`.

use authz::{Decision, Hop, KeyRecordLookup, KeyState, PathHandling, Reason, Request, Target, credentials};

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, api_key, bearer, claims_of, open, reader, request, token, with_header,
};

const FILES: [(&str, &str); 6] = [
    ("access.yaml", include_str!("../../../../examples/bookinfo/access.yaml")),
    ("egress.yaml", include_str!("../../../../examples/bookinfo/egress.yaml")),
    ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
    ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
    ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
    ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
];

fn world() -> World {
    World::of_files(&FILES)
}

fn api() -> Target {
    Target::ApiGateway {
        api_id: "bookinfo".to_owned(),
        stage: "$default".to_owned(),
        domain: "api.bookinfo.example".to_owned(),
    }
}

fn get(path: &str) -> Request {
    Request {
        host: "api.bookinfo.example".to_owned(),
        scheme: "https".to_owned(),
        destination_port: None,
        headers_joined: true,
        path_handling: PathHandling::AsSent,
        ..request("GET", path)
    }
}

fn ratings() -> Target {
    Target::Workload {
        namespace: "bookinfo".to_owned(),
        labels: vec![("app".to_owned(), "ratings".to_owned())],
        environment: Some("dev".to_owned()),
    }
}

fn outcome(decision: &Decision) -> (bool, Reason, Hop, u16) {
    (decision.is_allowed(), decision.reason(), decision.hop(), decision.status())
}

#[test]
fn a_reader_sees_the_page() {
    let decision = world().decide(&bearer(get("/productpage"), &reader()), &api());
    assert_eq!(outcome(&decision), (true, Reason::AllowedByPolicy, Hop::Destination, 200), "{decision:?}");
    assert_eq!(decision.policy(), Some("ns[bookinfo]-policy[productpage-viewer]-rule[0]"));
    assert_eq!(decision.principal(), Some("https://issuer.bookinfo.example/client:reader"));
    assert_eq!(decision.client_id(), Some("reader"));
    let Decision::Allow(allow) = decision else { panic!() };
    assert_eq!(allow.claims().unwrap().scope(), Some("reviews.read"));
    assert!(allow.upstream_headers().iter().any(|(name, _)| name == "authorization"));
}

#[test]
fn each_way_to_be_refused() {
    let with = |claims: &str| bearer(get("/productpage"), &token(claims));
    let good = claims_of("reader", "reviews.read");
    let cases = [
        ("no token", get("/productpage"), (Reason::NoCredential, Hop::Gateway, 403)),
        (
            "basic",
            with_header(get("/productpage"), "authorization", "Basic eDp5"),
            (Reason::NoCredential, Hop::Gateway, 403),
        ),
        (
            "lower-case bearer",
            with_header(get("/productpage"), "authorization", &format!("bearer {}", reader())),
            (Reason::NoCredential, Hop::Gateway, 403),
        ),
        (
            "expired",
            with(&good.replace(&(NOW + 600).to_string(), &(NOW - 61).to_string())),
            (Reason::TokenExpired, Hop::Gateway, 401),
        ),
        (
            "wrong audience",
            with(&good.replace("\"bookinfo\"", "\"other\"")),
            (Reason::TokenAudience, Hop::Gateway, 403),
        ),
        (
            "wrong issuer",
            with(&good.replace(ISSUER, "https://evil.example")),
            (Reason::TokenIssuerUnknown, Hop::Gateway, 401),
        ),
        ("wrong claim", with(&claims_of("reader", "other")), (Reason::DeniedNoMatch, Hop::Destination, 403)),
        (
            "scope is no prefix",
            with(&claims_of("reader", "reviews.readx")),
            (Reason::DeniedNoMatch, Hop::Destination, 403),
        ),
        (
            "wrong method",
            bearer(Request { method: "POST".to_owned(), ..get("/productpage") }, &reader()),
            (Reason::DeniedNoMatch, Hop::Destination, 403),
        ),
        ("admin", bearer(get("/admin"), &reader()), (Reason::DeniedByPolicy, Hop::Gateway, 403)),
        (
            "admin behind reviews",
            bearer(get("/reviews/admin/x"), &reader()),
            (Reason::DeniedByPolicy, Hop::Gateway, 403),
        ),
        ("no route", bearer(get("/ratings/0"), &reader()), (Reason::DestinationUnknown, Hop::Gateway, 403)),
        (
            "other host",
            bearer(Request { host: "evil.example".to_owned(), ..get("/productpage") }, &reader()),
            (Reason::DestinationUnknown, Hop::Gateway, 403),
        ),
        ("path trick", bearer(get("/reviews/../admin"), &reader()), (Reason::PathNotCanonical, Hop::Request, 403)),
        (
            "encoded trick",
            bearer(get("/reviews/%2e%2e/admin"), &reader()),
            (Reason::PathNotCanonical, Hop::Request, 403),
        ),
        ("no path", bearer(get(""), &reader()), (Reason::PathInvalid, Hop::Request, 400)),
    ];
    for (name, request, (reason, hop, status)) in cases {
        let decision = world().decide(&request, &api());
        assert_eq!(outcome(&decision), (false, reason, hop, status), "{name}: {decision:?}");
    }
}

#[test]
fn two_tokens_are_none() {
    let twice = bearer(bearer(get("/productpage"), &reader()), &reader());
    assert_eq!(world().decide(&twice, &api()).reason(), Reason::TokenMalformed);
    let joined = with_header(get("/productpage"), "authorization", &format!("Bearer {0},Bearer {0}", reader()));
    assert_eq!(world().decide(&joined, &api()).reason(), Reason::TokenMalformed);
}

#[test]
fn a_denial_says_who_it_was_once_that_is_proven() {
    let denied = world().decide(&bearer(get("/admin"), &reader()), &api());
    assert_eq!(denied.principal(), Some("https://issuer.bookinfo.example/client:reader"));
    assert_eq!(denied.policy(), Some("ns[istio-system]-policy[gateway-admin]-rule[0]"));
    let forged = world().decide(&bearer(get("/admin"), &format!("{}A", &reader()[..reader().len() - 4])), &api());
    assert!(!forged.is_allowed());
    assert_eq!(forged.principal(), None);
}

#[test]
fn the_administration_is_for_its_scope() {
    let admin = token(&claims_of("boss", "bookinfo.admin reviews.read"));
    let decision = world().decide(&bearer(get("/admin/users"), &admin), &api());
    assert_eq!(decision.policy(), Some("ns[bookinfo]-policy[productpage-admin]-rule[0]"), "{decision:?}");
}

#[test]
fn an_api_key_stands_for_its_token() {
    let (text, record) = api_key("reader");
    let mut world = world();
    world.lookup = Some(KeyRecordLookup::Found(record.clone()));
    let with_key = |path| with_header(get(path), "x-api-key", &text);
    let decision = world.decide(&with_key("/productpage"), &api());
    assert_eq!(outcome(&decision), (true, Reason::AllowedByPolicy, Hop::Destination, 200), "{decision:?}");
    assert_eq!(decision.principal(), Some("https://issuer.bookinfo.example/client:reader"));
    assert_eq!(world.decide(&with_key("/admin"), &api()).reason(), Reason::DeniedByPolicy);

    let presented = credentials(&world.policies, &with_key("/productpage"), &api());
    assert_eq!(presented.api_key.unwrap().id, record.id);

    // The other half of the pair: each thing that is wrong with a key.
    let mut found = |change: fn(&mut authz::ApiKeyRecord)| {
        let mut record = record.clone();
        change(&mut record);
        world.lookup = Some(KeyRecordLookup::Found(record));
        outcome(&world.decide(&with_key("/productpage"), &api()))
    };
    let denied = |reason: Reason| (false, reason, Hop::Gateway, reason.status());
    assert_eq!(found(|r| r.state = KeyState::Revoked), denied(Reason::ApiKeyRevoked));
    assert_eq!(found(|r| r.state = KeyState::Disabled), denied(Reason::ApiKeyRevoked));
    assert_eq!(found(|r| r.expires_at = Some(NOW)), denied(Reason::ApiKeyExpired));
    assert_eq!(found(|r| r.environment = "prod".to_owned()), denied(Reason::ApiKeyEnvironment));
    assert_eq!(found(|r| r.audiences = vec!["other".to_owned()]), denied(Reason::TokenAudience));
    assert_eq!(found(|r| r.hashes = vec!["00".repeat(32)]), denied(Reason::ApiKeyUnknown));
    assert_eq!(found(|r| r.scope = "other".to_owned()), (false, Reason::DeniedNoMatch, Hop::Destination, 403));
    for (lookup, reason) in [
        (Some(KeyRecordLookup::NotFound), Reason::ApiKeyUnknown),
        (Some(KeyRecordLookup::Unavailable), Reason::ApiKeyUnavailable),
        (None, Reason::ApiKeyUnavailable),
    ] {
        world.lookup = lookup;
        assert_eq!(outcome(&world.decide(&with_key("/productpage"), &api())), denied(reason));
    }
    world.lookup = Some(KeyRecordLookup::Found(record));
    world.pepper = None;
    assert_eq!(world.decide(&with_key("/productpage"), &api()).reason(), Reason::ApiKeyUnavailable);
    let bad = with_header(get("/productpage"), "x-api-key", "cwk_dev_nonsense");
    assert_eq!(world.decide(&bad, &api()).reason(), Reason::ApiKeyMalformed);
}

#[test]
fn a_key_of_another_environment_never_opens_it() {
    // Key and record agree with each other on `prod`; the gateway serves `dev`.
    let key = authz::ApiKey::generate("prod", &[3; 48]).unwrap();
    let (_, mut record) = api_key("reader");
    record.id = key.id().to_owned();
    record.environment = "prod".to_owned();
    record.hashes = vec![authz::api_key::hex(&key.hash(&crate::support::pepper()))];
    let mut world = world();
    world.lookup = Some(KeyRecordLookup::Found(record));
    let decision = world.decide(&with_header(get("/productpage"), "x-api-key", key.text().expose()), &api());
    assert_eq!(decision.reason(), Reason::ApiKeyEnvironment);
}

#[test]
fn a_workload_of_unknown_environment_takes_no_key() {
    let (text, record) = api_key("partner");
    let mut world = world();
    world.lookup = Some(KeyRecordLookup::Found(record));
    let request = with_header(get("/ratings/0"), "x-api-key", &text);
    for (environment, reason) in [
        (Some("dev"), Reason::AllowedByPolicy),
        (Some("prod"), Reason::ApiKeyEnvironment),
        (None, Reason::ApiKeyEnvironment),
    ] {
        let ratings = Target::Workload {
            namespace: "bookinfo".to_owned(),
            labels: vec![("app".to_owned(), "ratings".to_owned())],
            environment: environment.map(str::to_owned),
        };
        assert_eq!(world.decide(&request, &ratings).reason(), reason, "{environment:?}");
    }
}

#[test]
fn key_and_token_must_name_one_client() {
    let (text, record) = api_key("reader");
    let mut world = world();
    world.lookup = Some(KeyRecordLookup::Found(record));
    let both = |token: &str, key: &str| with_header(bearer(get("/productpage"), token), "x-api-key", key);
    assert!(world.decide(&both(&reader(), &text), &api()).is_allowed());
    let other = token(&claims_of("other", "reviews.read"));
    let decision = world.decide(&both(&other, &text), &api());
    assert_eq!(outcome(&decision), (false, Reason::CredentialMismatch, Hop::Gateway, 401));
    let nobody = token(&claims_of("reader", "reviews.read").replace("\"client_id\":\"reader\",", ""));
    assert_eq!(world.decide(&both(&nobody, &text), &api()).reason(), Reason::CredentialMismatch);
    // Both must be valid, whichever is the bad one.
    let expired = token(&claims_of("reader", "reviews.read").replace(&(NOW + 600).to_string(), "1"));
    assert_eq!(world.decide(&both(&expired, &text), &api()).reason(), Reason::TokenExpired);
    assert_eq!(world.decide(&both(&reader(), "cwk_x"), &api()).reason(), Reason::ApiKeyMalformed);
    world.lookup = Some(KeyRecordLookup::NotFound);
    assert_eq!(world.decide(&both(&reader(), &text), &api()).reason(), Reason::ApiKeyUnknown);
}

#[test]
fn key_and_token_must_name_one_client_also_when_each_hop_reads_one_of_them() {
    let files = FILES.map(|(name, text)| {
        let text = text.replace("name: bookinfo-issuer\n  namespace: istio-system", "name: bookinfo-issuer\n  namespace: bookinfo");
        (
            name,
            text.replace(
                "name: bookinfo-keys\n  namespace: istio-system\nspec:",
                "name: bookinfo-keys\n  namespace: istio-system\nspec:\n  selector: { matchLabels: { istio: ingressgateway } }",
            ),
        )
    });
    let mut world = World::of_files(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
    let (text, record) = api_key("reader");
    world.lookup = Some(KeyRecordLookup::Found(record));
    let both = |token: &str| with_header(bearer(get("/productpage"), token), "x-api-key", &text);
    assert!(world.decide(&both(&reader()), &api()).is_allowed());
    let other = token(&claims_of("other", "reviews.read"));
    let decision = world.decide(&both(&other), &api());
    assert_eq!(outcome(&decision), (false, Reason::CredentialMismatch, Hop::Destination, 401), "{decision:?}");
}

#[test]
fn the_destination_sees_the_gateway_as_its_peer() {
    // The same request straight to productpage, without the gateway's identity, is refused.
    let direct = Target::Workload {
        namespace: "bookinfo".to_owned(),
        labels: vec![("app".to_owned(), "productpage".to_owned())],
        environment: None,
    };
    let mut request = bearer(get("/productpage"), &reader());
    assert_eq!(world().decide(&request, &direct).reason(), Reason::DeniedNoMatch);
    request.source.principal = Some("cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account".to_owned());
    assert!(world().decide(&request, &direct).is_allowed());
    // A client that claims to be the gateway at the first hop gains nothing at the second.
    request.source.principal = Some("cluster.local/ns/bookinfo/sa/bookinfo-reviews".to_owned());
    assert!(world().decide(&request, &api()).is_allowed());
}

#[test]
fn what_is_not_forwarded_is_not_seen_by_the_second_hop() {
    let hidden = |from: &str, to: &str| {
        let files = FILES.map(|(name, text)| (name, text.replace(from, to)));
        World::of_files(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
    };
    let world = hidden("forwardOriginalToken: true", "forwardOriginalToken: false");
    let decision = world.decide(&bearer(get("/productpage"), &reader()), &api());
    assert_eq!(outcome(&decision), (false, Reason::DeniedNoMatch, Hop::Destination, 403));
    assert_eq!(decision.principal(), Some("https://issuer.bookinfo.example/client:reader"));

    let (text, record) = api_key("reader");
    let mut world = hidden("forwardOriginalKey: true", "forwardOriginalKey: false");
    world.lookup = Some(KeyRecordLookup::Found(record));
    let decision = world.decide(&with_header(get("/productpage"), "x-api-key", &text), &api());
    assert_eq!(outcome(&decision), (false, Reason::DeniedNoMatch, Hop::Destination, 403));
}

#[test]
fn apis_that_no_document_covers() {
    let cases = [
        // id, stage, domain, whether there is a document
        ("bookinfo", "$default", "api.bookinfo.example", true),
        ("bookinfo", "$default", "other.example", true),
        ("bookinfo", "prod", "api.bookinfo.example", false),
        ("other", "prod", "api.bookinfo.example", false),
        // A domain leads to many APIs: the document is not this one's.
        ("other", "$default", "api.bookinfo.example", false),
        ("other", "$default", "API.bookinfo.example", false),
        ("", "$default", "api.bookinfo.example", false),
        ("other", "$default", "other.example", false),
    ];
    for (api_id, stage, domain, known) in cases {
        let target =
            Target::ApiGateway { api_id: api_id.to_owned(), stage: stage.to_owned(), domain: domain.to_owned() };
        let decision = world().decide(&bearer(get("/productpage"), &reader()), &target);
        let expected = if known { Reason::AllowedByPolicy } else { Reason::GatewayUnknown };
        assert_eq!(decision.reason(), expected, "{api_id} {stage} {domain}");
        let info = world().policies.api_gateway(api_id, stage, domain).map(|info| info.environment.to_owned());
        assert_eq!(info.as_deref(), known.then_some("dev"));
        let Decision::Deny(deny) = decision else { continue };
        let hint = "bookinfo/bookinfo has this domain, and is for the API bookinfo, stage $default";
        assert_eq!(deny.detail.contains(hint), api_id != "bookinfo" && domain != "other.example", "{}", deny.detail);
    }
}

#[test]
fn an_api_that_no_document_covers_is_told_why() {
    let document = |name: &str, api_id: &str, stage: &str, more: &str| {
        format!(
            "---\napiVersion: causeway.dev/v1alpha1\nkind: ApiGateway\nmetadata: {{name: {name}, namespace: bookinfo}}\n\
             spec: {{apiId: {api_id}, stage: {stage}, {more}, gateway: bookinfo/bookinfo-gateway, environment: dev, \
             workload: {{namespace: istio-system, labels: {{istio: ingressgateway}}, serviceAccount: g}}}}\n"
        )
    };
    let text = [
        document("one", "a", "$default", "domain: one.example"),
        document("two", "b", "$default", "domain: two.example"),
        document("again", "c", "prod", "domain: two.example, basePath: /v2"),
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: bookinfo-gateway, namespace: bookinfo}\n\
         spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
            .to_owned(),
    ];
    let resources = istio::parse(&[istio::SourceFile { name: "f.yaml".to_owned(), text: text.concat() }]).unwrap();
    let compiled = authz::compile(&resources, &authz::CompileOptions::default()).unwrap();
    let policies = authz::Policies::open(&compiled.section).unwrap();
    let cases = [
        ("a", "$default", "one.example", None),
        ("x", "$default", "one.example", Some("bookinfo/one has this domain, and is for the API a, stage $default")),
        ("a", "dev", "one.example", Some("bookinfo/one names this apiId for another stage")),
        ("x", "dev", "one.example", Some("bookinfo/one has this domain, and is for the API a, stage $default")),
        ("x", "$default", "TWO.example", Some("2 documents have this domain and none names this apiId")),
        ("x", "$default", "three.example", Some("none names this apiId or has this domain")),
    ];
    for (api_id, stage, domain, expected) in cases {
        let expected = expected.map(|why| {
            format!("no ApiGateway document covers the API {api_id}, stage {stage}, domain {domain}: {why}")
        });
        assert_eq!(policies.uncovered(api_id, stage, domain), expected, "{api_id} {stage} {domain}");
    }
}

#[test]
fn in_the_mesh_ratings_asks_for_peer_and_token_or_for_the_partner() {
    let mut world = world();
    let reviews = token(&claims_of("bookinfo-reviews", "ratings.read"));
    let mut request = bearer(request("GET", "/ratings/0"), &reviews);
    assert_eq!(world.decide(&request, &ratings()).reason(), Reason::DeniedNoMatch);
    request.source.principal = Some("cluster.local/ns/bookinfo/sa/bookinfo-reviews".to_owned());
    let decision = world.decide(&request, &ratings());
    assert_eq!(decision.policy(), Some("ns[bookinfo]-policy[ratings-viewer]-rule[0]"), "{decision:?}");

    let (text, mut record) = api_key("partner");
    let partner = with_header(crate::support::request("GET", "/ratings/0"), "x-api-key", &text);
    world.lookup = Some(KeyRecordLookup::Found(record.clone()));
    let decision = world.decide(&partner, &ratings());
    assert_eq!(outcome(&decision), (true, Reason::AllowedByPolicy, Hop::Workload, 200), "{decision:?}");
    assert_eq!(decision.policy(), Some("ns[bookinfo]-policy[ratings-partner]-rule[0]"));
    record.state = KeyState::Revoked;
    world.lookup = Some(KeyRecordLookup::Found(record));
    assert_eq!(world.decide(&partner, &ratings()).reason(), Reason::ApiKeyRevoked);
}

#[test]
fn what_has_to_be_fetched_is_said_beforehand() {
    let world = world();
    let needed = credentials(&world.policies, &bearer(get("/productpage"), &reader()), &api());
    assert_eq!(needed.api_key, None);
    let keys: Vec<_> =
        needed.keys_needed.iter().map(|n| (n.issuer.as_str(), n.uri.as_str(), n.kid.as_deref())).collect();
    assert_eq!(keys, [(ISSUER, JWKS_URI, Some("p256"))]);
    let stranger = token(&claims_of("reader", "x").replace(ISSUER, "https://evil.example"));
    for request in [
        get("/"),
        bearer(get("/"), "nonsense"),
        bearer(get("/"), &stranger),
        with_header(get("/"), "x-api-key", "cwk_x"),
    ] {
        assert_eq!(credentials(&world.policies, &request, &api()), authz::Credentials::default());
    }
    let mut without = World::of_files(&FILES);
    without.keys = authz::KeySets::default();
    let decision = without.decide(&bearer(get("/productpage"), &reader()), &api());
    assert_eq!(outcome(&decision), (false, Reason::JwksUnavailable, Hop::Gateway, 401));
}

#[test]
fn no_decision_shows_a_credential() {
    let (text, record) = api_key("reader");
    let mut world = world();
    let secret = text[20..50].to_owned();
    for lookup in [None, Some(KeyRecordLookup::NotFound), Some(KeyRecordLookup::Found(record))] {
        world.lookup = lookup;
        for token in [reader(), format!("{}AAAA", reader()), "a.b.c".to_owned()] {
            let decision = world.decide(&with_header(bearer(get("/admin"), &token), "x-api-key", &text), &api());
            assert!(!decision.is_allowed());
            let shown = format!("{decision:?}");
            assert!(!shown.contains(&secret) && !shown.contains(&token), "{shown}");
        }
    }
    // An allow holds what goes on to the destination, and the request holds everything.
    let request = with_header(bearer(get("/productpage?access_token=x.y.z"), &reader()), "x-api-key", &text);
    let allowed = World { lookup: None, ..world };
    let allowed = allowed.decide(&bearer(get("/productpage"), &reader()), &api());
    assert!(allowed.is_allowed(), "{allowed:?}");
    let token = reader();
    let parsed = authz::jwt::UnverifiedToken::parse(&token, authz::Mode::Strict).unwrap();
    let signature = reader().rsplit('.').next().unwrap().to_owned();
    for shown in [format!("{allowed:?}"), format!("{request:?}"), format!("{parsed:?}")] {
        assert!(!shown.contains(&secret) && !shown.contains("x.y.z") && !shown.contains("eyJ"), "{shown}");
        assert!(!shown.contains(&signature), "{shown}");
    }
}

#[test]
fn routes_are_resolved_when_compiled() {
    let broken = |from: &str, to: &str| {
        let files = FILES.map(|(name, text)| (name, text.replace(from, to)));
        open(&files.each_ref().map(|(name, text)| (*name, text.as_str()))).err().unwrap_or_default().join("\n")
    };
    let cases = [
        ("host: reviews\n", "host: reviewz\n", "reviewz.bookinfo.svc.cluster.local is neither a Service"),
        (
            "number: 9080\n    - name: reviews",
            "number: 9081\n    - name: reviews",
            "routes.yaml:3: bookinfo/bookinfo: spec.http[0]: the destination \
             productpage.bookinfo.svc.cluster.local has no port 9081; it has 9080",
        ),
        ("gateway: bookinfo/bookinfo-gateway", "gateway: bookinfo/other", "there is no Gateway bookinfo/other"),
        (
            "      istio: ingressgateway\n    serviceAccount",
            "      istio: other\n    serviceAccount",
            "does not select",
        ),
        (
            "  servers:\n",
            "  servers:\n    - port: { number: 444, name: partners, protocol: HTTPS }\n      hosts: ['*']\n      \
             tls: { mode: MUTUAL, credentialName: a }\n",
            "has servers with tls.mode MUTUAL and others",
        ),
        (
            "      app: reviews\n  action",
            "      app: reviews\n      version: v2\n  action",
            "may select workloads of the destination reviews.bookinfo.svc.cluster.local",
        ),
        (
            "      istio: ingressgateway\n  action: DENY",
            "      istio: ingressgateway\n      app: istio-ingressgateway\n  action: DENY",
            "may select the workload of the ApiGateway",
        ),
    ];
    for (from, to, expected) in cases {
        let errors = broken(from, to);
        assert!(errors.contains(expected), "{to}: {errors:?}");
        assert!(errors.contains(".yaml:"), "{errors}");
    }
}

#[test]
fn a_selector_that_fits_no_workload_of_the_documents_is_pointed_out() {
    let warnings = |namespace: &str, labels: &str| {
        let policy = format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: extra, namespace: {namespace} }}
spec: {{ selector: {{ matchLabels: {{ {labels} }} }}, action: DENY, rules: [{{}}] }}
"
        );
        let file = |name: &str, text: &str| istio::SourceFile { name: name.to_owned(), text: text.to_owned() };
        let mut files: Vec<_> = FILES.iter().map(|(name, text)| file(name, text)).collect();
        files.push(file("extra.yaml", &policy));
        let compiled = authz::compile(&istio::parse(&files).unwrap(), &authz::CompileOptions::default()).unwrap();
        compiled.warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    // The pods may have the label, and the mesh then enforces it there.
    for (namespace, labels) in
        [("bookinfo", "tier: backend"), ("istio-system", "tier: backend"), ("bookinfo", "istio: ingressgateway")]
    {
        let found = warnings(namespace, labels);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("extra.yaml:2: ") && found[0].contains("passed over"), "{found:?}");
    }
    for (namespace, labels) in
        [("istio-system", "istio: ingressgateway"), ("bookinfo", "app: none"), ("other", "tier: x")]
    {
        assert_eq!(warnings(namespace, labels), [""; 0], "{namespace} {labels}");
    }
}

#[test]
fn a_destination_without_mutual_tls_is_refused() {
    let opened = |extra: &str| {
        let extra = extra.to_owned();
        // The example has a PeerAuthentication of its own.
        let files = FILES.iter().map(|(name, text)| (*name, *text)).filter(|(name, _)| *name != "access.yaml");
        let files = files.chain([("extra.yaml", extra.as_str())]);
        open(&files.collect::<Vec<_>>()).map(|_| ()).map_err(|errors| errors.join("\n"))
    };
    let rule = |host: &str, mode: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: r, namespace: bookinfo }}
spec: {{ host: {host}, trafficPolicy: {{ tls: {{ mode: {mode} }} }} }}
"
        )
    };
    let policy = |namespace: &str, name: &str, spec: &str| {
        format!(
            "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{ name: {name}, namespace: {namespace} }}
spec: {{ {spec} }}
"
        )
    };
    let wide = |namespace: &str, mode: &str| policy(namespace, "wide", &format!("mtls: {{ mode: {mode} }}"));
    let of_page = |spec: &str| {
        policy("bookinfo", "page", &format!("selector: {{ matchLabels: {{ app: productpage }} }}, {spec}"))
    };
    let refused = [
        rule("productpage", "DISABLE"),
        rule("'*.bookinfo.svc.cluster.local'", "DISABLE"),
        wide("bookinfo", "DISABLE"),
        wide("istio-system", "DISABLE"),
        wide("istio-system", "DISABLE") + &wide("bookinfo", "UNSET"),
        wide("bookinfo", "STRICT") + &of_page("mtls: { mode: DISABLE }"),
        wide("bookinfo", "STRICT") + &of_page("portLevelMtls: { 9080: { mode: DISABLE } }"),
    ];
    for extra in refused {
        let errors = opened(&extra).err().unwrap_or_default();
        assert!(errors.contains("turns mutual TLS to productpage.bookinfo.svc.cluster.local off"), "{extra} {errors}");
    }
    let accepted = [
        rule("productpage", "ISTIO_MUTUAL"),
        rule("elsewhere.example", "DISABLE"),
        wide("bookinfo", "PERMISSIVE"),
        wide("other", "DISABLE"),
        wide("istio-system", "DISABLE") + &wide("bookinfo", "STRICT"),
        policy("bookinfo", "page", "selector: { matchLabels: { app: other } }, mtls: { mode: DISABLE }"),
        wide("bookinfo", "STRICT") + &of_page("mtls: { mode: STRICT }, portLevelMtls: { 9081: { mode: DISABLE } }"),
    ];
    for extra in accepted {
        assert_eq!(opened(&extra), Ok(()), "{extra}");
    }
}

#[test]
fn a_destination_that_no_selector_could_reach_is_refused() {
    let entry = |labels: &str, location: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{ name: legacy, namespace: bookinfo }}
spec: {{ host: legacy.example, trafficPolicy: {{ tls: {{ mode: DISABLE }} }} }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: legacy, namespace: bookinfo{labels} }}
spec:
  hosts: [legacy.example]
  resolution: DNS
  location: {location}
  ports: [{{ number: 443, name: http, protocol: HTTP }}]
"
        )
    };
    let opened = |labels: &str, location: &str| {
        let mut files = FILES.map(|(name, text)| (name, text.to_owned())).to_vec();
        for (_, text) in &mut files {
            *text =
                text.replace("host: reviews\n            port:\n              number: 9080", "host: legacy.example");
        }
        files.push(("legacy.yaml", entry(labels, location)));
        let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        open(&files).map(drop).map_err(|errors| errors.join("\n"))
    };
    let errors = opened("", "MESH_EXTERNAL").unwrap_err();
    assert!(errors.contains("legacy.example is a ServiceEntry without labels"), "{errors}");
    assert_eq!(opened(", labels: { app: legacy }", "MESH_EXTERNAL"), Ok(()));
    // Only in the mesh is a peer identity missed.
    let errors = opened(", labels: { app: legacy }", "MESH_INTERNAL").unwrap_err();
    assert!(errors.contains("turns mutual TLS to legacy.example off"), "{errors}");
}

/// At an API the custom domain ends TLS, in whatever mode, and `MUTUAL` means that nobody comes without a certificate.
#[test]
fn modes_of_tls_at_the_gateway() {
    let world = |mode: &str| {
        let files = FILES.map(|(name, text)| (name, text.replace("mode: SIMPLE", &format!("mode: {mode}"))));
        World::of_files(&files.each_ref().map(|(name, text)| (*name, text.as_str())))
    };
    let plain = bearer(get("/productpage"), &reader());
    let mut certified = plain.clone();
    certified.client_certificate = Some([7; 32]);
    certified.unknown.principal = true;
    let mut peer = plain.clone();
    peer.source.principal = Some("cluster.local/ns/partners/sa/one".to_owned());
    let mut unseen = plain.clone();
    unseen.unknown.principal = true;
    for (mode, request, expected) in [
        ("SIMPLE", &plain, Reason::AllowedByPolicy),
        ("OPTIONAL_MUTUAL", &plain, Reason::AllowedByPolicy),
        ("OPTIONAL_MUTUAL", &certified, Reason::AllowedByPolicy),
        ("MUTUAL", &plain, Reason::ConfigurationInvalid),
        // Whether there was one is not known: it counts as none.
        ("MUTUAL", &unseen, Reason::ConfigurationInvalid),
        ("MUTUAL", &certified, Reason::AllowedByPolicy),
        ("MUTUAL", &peer, Reason::AllowedByPolicy),
    ] {
        assert_eq!(world(mode).decide(request, &api()).reason(), expected, "{mode} {request:?}");
    }
    let reads = |mode: &str| {
        let set = authz::read_set(&world(mode).policies, "bookinfo/bookinfo").unwrap();
        !set.readers(&authz::read_set::Read::ClientCertificate).is_empty()
    };
    // In the strict mode a token may be bound to a certificate, whatever the domain asks for.
    assert!(reads("MUTUAL") && reads("SIMPLE"));
}

/// `destination.port` of the first hop is the server's of the Gateway, and not the 443 that API Gateway listens on.
#[test]
fn the_port_of_the_first_hop_is_the_gateway_s() {
    let decide = |servers: &str, action: &str, port: u16| {
        let policy = format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: port, namespace: istio-system }}\nspec:\n  \
             selector: {{ matchLabels: {{ istio: ingressgateway }} }}\n  action: {action}\n  \
             rules: [{{ to: [{{ operation: {{ ports: [\"{port}\"] }} }}] }}]\n"
        );
        let mut files: Vec<(&str, String)> = FILES.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
        for (_, text) in &mut files {
            *text = text.replace("  servers:\n", &format!("  servers:\n{servers}"));
            *text = text.replace("number: 443\n        name: https", "number: 8443\n        name: https");
        }
        files.push(("port.yaml", policy));
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let mut request = bearer(get("/productpage"), &reader());
        request.destination_port = Some(443);
        World::of_files(&files).decide(&request, &api()).is_allowed()
    };
    let plain = "    - port: { number: 80, name: http, protocol: HTTP }\n      hosts: [api.bookinfo.example]\n";
    let second = "    - port: { number: 9443, name: second, protocol: HTTPS }\n      hosts: [api.bookinfo.example]\n      \
                  tls: { mode: SIMPLE, credentialName: a }\n";
    for servers in ["", plain] {
        assert!(!decide(servers, "DENY", 8443) && decide(servers, "DENY", 443) && decide(servers, "DENY", 80));
    }
    // Which of two it would be nobody knows: every DENY on ports counts as met.
    for port in [8443, 9443, 443] {
        assert!(!decide(second, "DENY", port), "{port}");
    }
}
