//! The way of a request, as `explain` shows it.

use authz::trace::ProviderOutcome;
use authz::{Decision, DryRunAllow, Hop, KeyRecordLookup, Reason, Request, Target};

use crate::support::{World, api_key, bearer, claims_of, reader, request, token, with_header};

const FILES: [(&str, &str); 6] = [
    ("access.yaml", include_str!("../../../../examples/bookinfo/access.yaml")),
    ("egress.yaml", include_str!("../../../../examples/bookinfo/egress.yaml")),
    ("gateway.yaml", include_str!("../../../../examples/bookinfo/gateway.yaml")),
    ("mesh.yaml", include_str!("../../../../examples/bookinfo/mesh.yaml")),
    ("routes.yaml", include_str!("../../../../examples/bookinfo/routes.yaml")),
    ("services.yaml", include_str!("../../../../examples/bookinfo/services.yaml")),
];

fn api() -> Target {
    Target::ApiGateway {
        api_id: "bookinfo".to_owned(),
        stage: "$default".to_owned(),
        domain: "api.bookinfo.example".to_owned(),
    }
}

fn get(path: &str) -> Request {
    Request { host: "api.bookinfo.example".to_owned(), scheme: "https".to_owned(), ..request("GET", path) }
}

#[test]
fn every_hop_that_was_reached_is_there() {
    let world = World::of_files(&FILES);
    let (decision, trace) = world.explain(&bearer(get("/productpage?u=1"), &reader()), &api());
    assert!(decision.is_allowed());
    let [gateway, destination] = trace.hops.as_slice() else { panic!("{trace:?}") };
    assert_eq!((gateway.hop, gateway.namespace.as_str()), (Hop::Gateway, "istio-system"));
    assert!(gateway.labels.contains(&("istio".to_owned(), "ingressgateway".to_owned())));
    assert!(gateway.via.as_deref().is_some_and(|name| name.contains('/')), "{:?}", gateway.via);
    assert_eq!((gateway.peer.as_deref(), gateway.path.as_str()), (None, "/productpage"));
    assert_eq!(gateway.principal.as_deref(), Some("https://issuer.bookinfo.example/client:reader"));
    assert_eq!((gateway.allowed, gateway.reason), (true, Reason::AllowedByPolicy));
    assert!(gateway.policies.iter().any(|policy| policy.name == "gateway-clients" && policy.applies));
    assert_eq!((destination.hop, destination.namespace.as_str()), (Hop::Destination, "bookinfo"));
    assert_eq!(destination.via.as_deref(), Some("productpage.bookinfo.svc.cluster.local"));
    let peer = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";
    assert_eq!(destination.peer.as_deref(), Some(peer));
    assert_eq!(trace.unrouted, None);

    // Where the first hop denies, the second is not asked.
    for (request, reason) in [
        (get("/productpage"), Reason::NoCredential),
        (bearer(get("/productpage"), "a.b.c"), Reason::TokenMalformed),
        (bearer(get("/admin"), &reader()), Reason::DeniedByPolicy),
    ] {
        let (decision, trace) = world.explain(&request, &api());
        assert_eq!((decision.reason(), decision.hop()), (reason, Hop::Gateway));
        let [gateway] = trace.hops.as_slice() else { panic!("{trace:?}") };
        assert_eq!((gateway.allowed, gateway.reason), (false, reason));
        // The policies behind a refused credential were not asked.
        assert_eq!(gateway.policies.is_empty(), reason == Reason::TokenMalformed);
    }
    let (_, trace) = world.explain(&Request { method: String::new(), ..get("/") }, &api());
    assert!(trace.hops.is_empty());
}

#[test]
fn what_is_not_routed_shows_what_is() {
    let world = World::of_files(&FILES);
    let unrouted = |request: Request| {
        let (decision, trace) = world.explain(&bearer(request, &reader()), &api());
        assert_eq!(decision.reason(), Reason::DestinationUnknown);
        assert_eq!(trace.hops.len(), 1);
        trace.unrouted.unwrap()
    };
    let by_host = unrouted(Request { host: "other.example".to_owned(), ..get("/productpage") });
    assert_eq!(by_host.host, None);
    assert!(by_host.routed.contains(&"host api.bookinfo.example".to_owned()), "{by_host:?}");
    let by_path = unrouted(get("/ratings/0"));
    assert_eq!(by_path.host.as_deref(), Some("api.bookinfo.example"));
    assert!(by_path.routed.iter().any(|path| path.ends_with(" /productpage")), "{by_path:?}");
}

#[test]
fn it_holds_no_credential_and_decides_the_same() {
    let mut world = World::of_files(&FILES);
    let (key, record) = api_key("reader");
    let secret = key[20..50].to_owned();
    for lookup in [None, Some(KeyRecordLookup::Found(record))] {
        world.lookup = lookup;
        for token in [reader(), token(&claims_of("boss", "bookinfo.admin")), "a.b.c".to_owned()] {
            for path in ["/productpage", "/admin", "/nowhere", "/x/../productpage?access_token=q.r.s"] {
                for request in [
                    bearer(get(path), &token),
                    with_header(get(path), "x-api-key", &key),
                    with_header(bearer(get(path), &token), "x-api-key", &key),
                ] {
                    let (explained, trace) = world.explain(&request, &api());
                    let decided = world.decide(&request, &api());
                    assert_eq!(format!("{explained:?}"), format!("{decided:?}"));
                    let shown = serde_json::to_string(&trace).unwrap();
                    for hidden in [secret.as_str(), token.as_str(), "q.r.s"] {
                        assert!(!shown.contains(hidden), "{shown}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_not_enforced_is_found_at_both_hops() {
    let policy = |namespace: &str, name: &str, spec: &str| {
        format!(
            "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{spec}}}
---"
        )
    };
    let world = |access: &str| {
        let file = |&(name, text): &(&str, &str)| istio::SourceFile { name: name.to_owned(), text: text.to_owned() };
        let files: Vec<_> = FILES[1..].iter().chain([&("access.yaml", access)]).map(file).collect();
        let mut resources = istio::parse(&files).unwrap();
        for policy in &mut resources.authorization_policies {
            policy.dry_run = policy.meta.name.starts_with("dry");
        }
        World::of_resources(&resources, authz::Mode::Strict)
    };
    let gateway = "selector: {matchLabels: {istio: ingressgateway}}, ";
    let access = policy("istio-system", "dry", &format!("{gateway}action: DENY, rules: [{{}}]"))
        + &policy("bookinfo", "dry", "action: DENY, rules: [{}]")
        + &policy("bookinfo", "dry-allow", "rules: [{to: [{operation: {methods: [POST]}}]}]");
    let enforced = access.clone() + &policy("bookinfo", "closed", "action: DENY, rules: [{}]");
    let (world, with_a_denial) = (world(&access), world(&enforced));
    let decision = world.decide(&get("/productpage"), &api());
    assert!(decision.is_allowed(), "{decision:?}");
    let shadow = decision.shadow();
    // The first hop that found something, for each field.
    assert_eq!(shadow.dry_run_deny.as_deref(), Some("ns[istio-system]-policy[dry]-rule[0]"));
    assert_eq!(shadow.dry_run_allow, Some(DryRunAllow::Denied));
    assert_eq!(shadow.audit, None);
    // Also on a denial of the second hop.
    let Decision::Deny(deny) = with_a_denial.decide(&get("/productpage"), &api()) else { panic!() };
    assert_eq!((deny.hop, &*deny.shadow), (Hop::Destination, shadow));
}

#[test]
fn outcomes_that_pass() {
    use ProviderOutcome::{Adapter, Allowed, Denied, Failed, FailedOpen, NotAsked, Several, Unusable};
    for passes in [Allowed, Adapter, FailedOpen] {
        assert!(passes.passes());
    }
    for denies in [Denied, Failed, NotAsked, Several, Unusable] {
        assert!(!denies.passes());
    }
}
