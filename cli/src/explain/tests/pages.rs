//! One page for each kind of denial.

use super::*;

fn snapshot(text: &str, expected: &str) {
    assert!(text == expected, "--- the page is\n{text}--- and should be\n{expected}");
}

fn gateway_passed() -> HopTrace {
    let all =
        branch(vec![leaf("requestPrincipals", values(&[&caller()]), &["https://issuer.bookinfo.example/*"], true)]);
    hop(
        Hop::Gateway,
        Reason::AllowedByPolicy,
        vec![jwt(CredentialOutcome::Valid, 1, None, &caller())],
        vec![
            policy(
                "DENY",
                "istio-system",
                "gateway-admin",
                vec![rule(
                    0,
                    vec![],
                    vec![branch(vec![leaf("paths", values(&["/admin"]), &["/secret"], false)])],
                    vec![],
                )],
            ),
            policy("ALLOW", "istio-system", "gateway-clients", vec![rule(0, vec![all], vec![], vec![])]),
        ],
    )
}

fn viewer(method: bool) -> RuleTrace {
    let principal = leaf("principals", values(&[GATEWAY]), &[GATEWAY], true);
    let to = branch(vec![
        leaf("methods", values(&["GET"]), if method { &["GET"] } else { &["POST"] }, method),
        leaf("paths", values(&["/admin"]), if method { &["/reviews/*", "/health"] } else { &["/reviews/*"] }, false),
    ]);
    let scope = leaf("request.auth.claims[scope]", values(&["reviews.read"]), &["reviews.read"], true);
    rule(0, vec![branch(vec![principal])], vec![to], vec![scope])
}

#[test]
fn no_allow_rule_matched_at_the_destination() {
    let destination = hop(
        Hop::Destination,
        Reason::DeniedNoMatch,
        vec![jwt(CredentialOutcome::Valid, 1, None, &caller())],
        vec![
            policy("ALLOW", "bookinfo", "reviews-writer", vec![viewer(false)]),
            policy("ALLOW", "bookinfo", "reviews-viewer", vec![viewer(true)]),
            foreign("ALLOW", "bookinfo", "ratings-viewer", "selector app=ratings, the workload has app=reviews"),
        ],
    );
    let trace = trace(vec![gateway_passed(), destination]);
    let retry = Fake {
        allows: |request: &Request| request.path == "/health?page=1",
        allows_resources: |resources: &Resources| {
            format!("{:?}", resources.authorization_policies.first()).contains("\"/admin\"")
        },
        allows_at: None,
    };
    let token = token(NOW + 600);
    let deny = deny(Reason::DeniedNoMatch, Hop::Destination, None, Some(caller()));
    let text = page(deny, &trace, &request(Some(&token)), &retry, false);
    snapshot(
        &text,
        r#"denied 403 denied_no_match at the destination reviews.bookinfo.svc.cluster.local: no ALLOW rule matched
  closest: ns[bookinfo]-policy[reviews-viewer]-rule[0] (access.yaml:12), paths: found /admin, wanted one of /reviews/*, /health

request
  GET https://api.bookinfo.example/admin
  query     page (policies see the path without it)
  caller    https://issuer.bookinfo.example/client:reader
  peer      none: plaintext, no client certificate
  client    203.0.113.7
  headers   accept: */*; cookie: ***; authorization: ***
  presents  header authorization: iss https://issuer.bookinfo.example, sub client:reader, scope reviews.read, aud bookinfo, expires in 10 min, signed ES256 with kid k1

✓ hop 1 of 2, gateway istio-system (istio=ingressgateway), for the ApiGateway bookinfo/bookinfo: allowed_by_policy
  credentials
    ✓ RequestAuthentication istio-system/bookinfo-issuer jwtRules[0], issuer https://issuer.bookinfo.example  access.yaml:1
      looked in header authorization (after "Bearer ") and query parameter access_token, found one: https://issuer.bookinfo.example/client:reader
  policies
    – DENY istio-system/gateway-admin: rule 0 did not match (paths)
    ✓ ALLOW istio-system/gateway-clients: rule 0 matched

✗ hop 2 of 2, destination bookinfo (app=reviews), for the host reviews.bookinfo.svc.cluster.local: denied_no_match
  peer      cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account
  credentials
    ✓ RequestAuthentication istio-system/bookinfo-issuer jwtRules[0], issuer https://issuer.bookinfo.example  access.yaml:1
      looked in header authorization (after "Bearer ") and query parameter access_token, found one: https://issuer.bookinfo.example/client:reader
  policies
    ✗ ALLOW ns[bookinfo]-policy[reviews-viewer]-rule[0] did not match  access.yaml:12
      from  ✓ principals: cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account, as wanted
      to    ✓ methods: GET, as wanted
            ✗ paths: found /admin, wanted one of /reviews/*, /health
      when  ✓ request.auth.claims[scope]: reviews.read, as wanted
    ✗ ALLOW ns[bookinfo]-policy[reviews-writer]-rule[0] did not match  access.yaml:21
      from  ✓ principals: cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account, as wanted
      to    ✗ methods: found GET, wanted POST
            ✗ paths: found /admin, wanted /reviews/*
      when  ✓ request.auth.claims[scope]: reviews.read, as wanted
    – ALLOW bookinfo/ratings-viewer does not apply: selector app=ratings, the workload has app=reviews

would be allowed if (one of these is enough)
  • the path were one of /reviews/*, /health, for rule 0 of bookinfo/reviews-viewer (access.yaml:12); tried GET /health
  • the policy were changed: add /admin to paths in rule 0 of bookinfo/reviews-viewer (access.yaml:12)
"#,
    );
}

#[test]
fn a_deny_rule_matched() {
    let to = branch(vec![leaf("paths", values(&["/admin"]), &["/admin", "/admin/*"], true)]);
    let mut scope = leaf("request.auth.claims[scope]", values(&["reviews.read"]), &["bookinfo.admin"], true);
    scope.negated = true;
    let remote = LeafTrace { matched: true, ..leaf("remoteIpBlocks", Found::Unavailable, &["10.0.0.0/8"], true) };
    let denying = rule(0, vec![branch(vec![remote])], vec![to], vec![scope]);
    let gateway = hop(
        Hop::Gateway,
        Reason::DeniedByPolicy,
        vec![jwt(CredentialOutcome::Valid, 1, None, &caller())],
        vec![
            policy("DENY", "istio-system", "gateway-admin", vec![denying]),
            policy("ALLOW", "istio-system", "gateway-clients", vec![rule(0, vec![], vec![], vec![])]),
        ],
    );
    let retry = Fake { allows: |_: &Request| false, allows_resources: |_: &Resources| false, allows_at: None };
    let id = "ns[istio-system]-policy[gateway-admin]-rule[0]";
    let deny = deny(Reason::DeniedByPolicy, Hop::Gateway, Some(id), Some(caller()));
    let token = token(NOW + 600);
    let text = page(deny, &trace(vec![gateway]), &request(Some(&token)), &retry, false);
    snapshot(
        &text,
        r#"denied 403 denied_by_policy at the gateway istio-system (istio=ingressgateway): the DENY rule ns[istio-system]-policy[gateway-admin]-rule[0] matched

request
  GET https://api.bookinfo.example/admin
  query     page (policies see the path without it)
  caller    https://issuer.bookinfo.example/client:reader
  peer      none: plaintext, no client certificate
  client    203.0.113.7
  headers   accept: */*; cookie: ***; authorization: ***
  presents  header authorization: iss https://issuer.bookinfo.example, sub client:reader, scope reviews.read, aud bookinfo, expires in 10 min, signed ES256 with kid k1

✗ hop 1 of 2, gateway istio-system (istio=ingressgateway), for the ApiGateway bookinfo/bookinfo: denied_by_policy
  credentials
    ✓ RequestAuthentication istio-system/bookinfo-issuer jwtRules[0], issuer https://issuer.bookinfo.example  access.yaml:1
      looked in header authorization (after "Bearer ") and query parameter access_token, found one: https://issuer.bookinfo.example/client:reader
  policies
    ✗ DENY ns[istio-system]-policy[gateway-admin]-rule[0] matched
      from  ? remoteIpBlocks: is not given in the request, so Istio drops it (wanted 10.0.0.0/8)
      to    ✓ paths: /admin is one of /admin, /admin/*
      when  ✓ request.auth.claims[scope]: reviews.read is not bookinfo.admin
    ✓ ALLOW istio-system/gateway-clients: rule 0 matched

would get past this if (one of these is enough)
  • the request gave remoteIpBlocks, for rule 0 of istio-system/gateway-admin
  • the path were none of /admin, /admin/*, which rule 0 of istio-system/gateway-admin leaves alone
  • the token's claim scope had bookinfo.admin, which rule 0 of istio-system/gateway-admin leaves alone

hints
  • remoteIpBlocks is not given in the request: Istio drops the condition from a DENY rule, which then matches more
"#,
    );
}

#[test]
fn the_token_had_expired() {
    let refused = jwt(
        CredentialOutcome::Refused,
        1,
        Some(Reason::TokenExpired),
        "token was valid until 1799992600, it is 1800000000",
    );
    let at = hop(
        Hop::Workload,
        Reason::TokenExpired,
        vec![refused],
        vec![policy("ALLOW", "bookinfo", "reviews-viewer", vec![viewer(true)])],
    );
    let retry = Fake { allows: |_: &Request| false, allows_resources: |_: &Resources| false, allows_at: Some(true) };
    let token = token(NOW - 7_400);
    let deny = deny(Reason::TokenExpired, Hop::Workload, None, None);
    let text = page(deny, &trace(vec![at]), &request(Some(&token)), &retry, false);
    snapshot(
        &text,
        r#"denied 401 token_expired at the workload bookinfo (app=reviews): said by the gate

request
  GET https://api.bookinfo.example/admin
  query     page (policies see the path without it)
  caller    nobody: no credential was accepted
  peer      none: plaintext, no client certificate
  client    203.0.113.7
  headers   accept: */*; cookie: ***; authorization: ***
  presents  header authorization: iss https://issuer.bookinfo.example, sub client:reader, scope reviews.read, aud bookinfo, expired 2 h 3 min ago (2027-01-15T05:56:40Z), signed ES256 with kid k1

✗ workload bookinfo (app=reviews): token_expired
  credentials
    ✗ RequestAuthentication istio-system/bookinfo-issuer jwtRules[0], issuer https://issuer.bookinfo.example  access.yaml:1
      looked in header authorization (after "Bearer ") and query parameter access_token, found one: token_expired, token was valid until 2027-01-15T05:56:40Z, it is 2027-01-15T08:00:00Z
  policies
    – AUDIT, DENY and ALLOW were not asked: a credential was refused before

would be allowed if
  • the token in header authorization were a fresh one: this one expired 2 h 3 min ago, at 2027-01-15T05:56:40Z
"#,
    );
}

#[test]
fn nobody_presented_a_credential() {
    let leaves = vec![
        leaf("principals", Found::Missing, &["*"], false),
        leaf("requestPrincipals", Found::Missing, &["https://issuer.bookinfo.example/*"], false),
    ];
    let number = leaf("request.auth.claims[level]", Found::WrongType("a number".to_owned()), &["3", "4"], false);
    let hidden = RuleTrace { unavailable: texts(&["remoteIpBlocks"]), ..rule(1, vec![], vec![], vec![]) };
    let hidden = RuleTrace { matched: false, ..hidden };
    let from = vec![
        branch(vec![leaf("namespaces", Found::Missing, &["a", "b", "c", "d", "e", "f", "g", "h", "i"], false)]),
        branch(leaves),
    ];
    let paths = vec![branch(vec![leaf("paths", values(&["/admin"]), &["/Admin", "/admin/", "/admin/*/x"], false)])];
    let audit = policy("AUDIT", "bookinfo", "watch", vec![rule(0, vec![], vec![], vec![])]);
    let at = hop(
        Hop::Workload,
        Reason::NoCredential,
        vec![jwt(CredentialOutcome::Absent, 0, None, "")],
        vec![
            audit,
            PolicyTrace {
                dry_run: true,
                ..policy("DENY", "bookinfo", "no-admin", vec![rule(0, vec![], vec![], vec![])])
            },
            policy("ALLOW", "bookinfo", "reviews-viewer", vec![rule(0, from, paths, vec![number]), hidden]),
            policy("ALLOW", "bookinfo", "nothing", vec![]),
        ],
    );
    let retry = Fake { allows: |_: &Request| false, allows_resources: |_: &Resources| false, allows_at: None };
    let mut request = request(None);
    request.headers.push(("authorization".to_owned(), format!("bearer {}", token(NOW + 5))));
    let mut deny = deny(Reason::NoCredential, Hop::Workload, None, None);
    deny.shadow.audit = Some("ns[bookinfo]-policy[watch]-rule[0]".to_owned());
    deny.shadow.dry_run_deny = Some("ns[bookinfo]-policy[no-admin]-rule[0]".to_owned());
    let text = page(deny, &trace(vec![at]), &request, &retry, false);
    snapshot(
        &text,
        r#"denied 403 no_credential at the workload bookinfo (app=reviews): no credential was presented, and no ALLOW rule matched
  closest: ns[bookinfo]-policy[reviews-viewer]-rule[0] (access.yaml:12), namespaces: found nothing (plaintext: no peer identity), wanted one of a, b, c, … (9 in all), and 2 more

request
  GET https://api.bookinfo.example/admin
  query     page (policies see the path without it)
  caller    nobody: no credential was accepted
  peer      none: plaintext, no client certificate
  client    203.0.113.7
  headers   accept: */*; cookie: ***; authorization: ***
  presents  header authorization: iss https://issuer.bookinfo.example, sub client:reader, scope reviews.read, aud bookinfo, expires in 5 s, signed ES256 with kid k1

✗ workload bookinfo (app=reviews): no_credential
  credentials
    – RequestAuthentication istio-system/bookinfo-issuer jwtRules[0], issuer https://issuer.bookinfo.example  access.yaml:1
      looked in header authorization (after "Bearer ") and query parameter access_token, found nothing
  policies
    ✗ ALLOW ns[bookinfo]-policy[reviews-viewer]-rule[0] did not match  access.yaml:12
      from  one of 2 sources must match, none of them does
      [0]   – namespaces: found nothing (plaintext: no peer identity), wanted one of a, b, c, d, e, f, … (9 in all)
      [1]   – principals: found nothing (plaintext: no peer identity), wanted *
            – requestPrincipals: found nothing (no token), wanted https://issuer.bookinfo.example/*
      to    ✗ paths: found /admin, wanted one of /Admin, /admin/, /admin/*/x
      when  ✗ request.auth.claims[level]: found a number, and Istio matches strings only; wanted one of 3, 4
    ✗ ALLOW ns[bookinfo]-policy[reviews-viewer]-rule[1] did not match  access.yaml:12
        remoteIpBlocks is not given in the request, so this ALLOW rule never matches here
        it has no conditions: it matches every request
    · AUDIT bookinfo/watch: rule 0 matched
    · DENY bookinfo/no-admin (dry run: does not decide): rule 0 matched  access.yaml:30
    ✗ ALLOW bookinfo/nothing: has no rules: it denies everything

found by policies that do not decide
  AUDIT: ns[bookinfo]-policy[watch]-rule[0] matched
  dry run: ns[bookinfo]-policy[no-admin]-rule[0] would deny if it were enforced

would get past this if (one of these is enough)
  • a credential were presented (a token of https://issuer.bookinfo.example in header authorization (after "Bearer ") or query parameter access_token) and the namespace of the peer were one of a, b, c, d, e, f, … (9 in all) and the path were one of /Admin, /admin/, /admin/*/x and the token's claim level had one of 3, 4, for rule 0 of bookinfo/reviews-viewer (access.yaml:12)
  • the request gave remoteIpBlocks; here ns[bookinfo]-policy[reviews-viewer]-rule[1] never matches

hints
  • header authorization begins with bearer, wanted "Bearer ": the prefix is compared with its case
  • bookinfo/nothing has no rules and so denies everything that no other policy allows; rules: [{}] would allow everything
  • namespaces needs mutual TLS, and this connection is plaintext; is the client outside the mesh, or mTLS not STRICT?
  • paths: /admin and /Admin differ in case only, and case counts here
  • paths: /admin and /admin/ differ in a / at the end only: list both
  • paths: a * in the middle of /admin/*/x is taken literally; only one at an end is a wildcard
  • request.auth.claims[level] is a number: Istio matches strings and lists of strings only; let the issuer write it as one
"#,
    );
}
