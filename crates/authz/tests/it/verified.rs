//! The cache of verified tokens: a decision is the same with it as without it.

mod random;

use authz::{
    CompileOptions, Decision, Given, Jwks, KeyOrigin, KeySets, Mode, Policies, Reason, Request, RevocationList,
    Revocations, VerifiedTokens, credentials, credentials_with, decide, explain,
};

use crate::support::{
    ISSUER, JWKS_URI, NOW, b64, bearer, claims_of, ec_jwk, issuer_jwks, jwks, keys, open_with, reader, request, token,
    with_header, workload,
};

const OTHER_ISSUER: &str = "https://other.example";
const OTHER_URI: &str = "https://other.example/jwks.json";
const CERTIFICATE: [u8; 32] = [7; 32];

fn policies(rules: &[String], mode: Mode) -> Policies {
    let yaml = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: r, namespace: ns1}}
spec: {{jwtRules: [{}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p, namespace: ns1}}
spec: {{action: DENY, rules: [{{when: [{{key: 'request.auth.claims[groups]', values: [evil]}}]}}]}}
",
        rules.join(", ")
    );
    let options = CompileOptions { mode, ..CompileOptions::default() };
    open_with(&[("policies.yaml", &yaml)], &options).unwrap_or_else(|errors| panic!("{}", errors.join("\n")))
}

fn rule(more: &str) -> String {
    format!("{{issuer: '{ISSUER}', jwksUri: '{JWKS_URI}'{more}}}")
}

/// The issuer's keys with the key of `p256` being another one.
fn rotated_jwks() -> String {
    jwks(&[ec_jwk("p256", "P-256", &keys().other)])
}

/// One front: its policies, its keys, its cache.
struct World<'c> {
    policies: Policies,
    keys: KeySets,
    cache: &'c VerifiedTokens,
    mode: Mode,
    revocations: Revocations<'c>,
    now: u64,
}

impl<'c> World<'c> {
    fn new(rules: &[String], mode: Mode, cache: &'c VerifiedTokens) -> Self {
        let policies = policies(rules, mode);
        let keys = KeySets::embedded(&policies).unwrap();
        let mut world = Self { policies, keys, cache, mode, revocations: Revocations::NotKept, now: NOW };
        world.publish(JWKS_URI, &issuer_jwks());
        world
    }

    fn publish(&mut self, uri: &str, document: &str) {
        self.keys.insert(uri, Jwks::parse_as(document, KeyOrigin::Fetched, self.mode).unwrap().into());
    }

    fn given(&self, verified: Option<&'c VerifiedTokens>) -> Given<'_> {
        Given {
            keys: &self.keys,
            api_key: None,
            pepper: None,
            revocations: self.revocations,
            providers: None,
            verified,
            now: self.now,
        }
    }

    /// The decision with the cache, which is the one without it.
    fn ask(&self, request: &Request) -> Decision {
        let asked = |cache| decide(&self.policies, request, &workload(), &self.given(cache));
        let needed = |cache| credentials_with(&self.policies, request, &workload(), cache);
        assert_eq!(needed(Some(self.cache)), credentials(&self.policies, request, &workload()));
        let (with, without) = (asked(Some(self.cache)), asked(None));
        assert_eq!(seen(&with), seen(&without));
        with
    }

    fn reason(&self, token: &str) -> Reason {
        self.ask(&bearer(request("GET", "/a"), token)).reason()
    }

    /// The reason, and how many hits and misses the cache counted on the way to it.
    fn counted(&self, token: &str) -> (Reason, u64, u64) {
        let (hits, misses) = (self.cache.hits(), self.cache.misses());
        let reason = self.reason(token);
        (reason, self.cache.hits() - hits, self.cache.misses() - misses)
    }
}

/// All that a front can see of a decision.
fn seen(decision: &Decision) -> String {
    match decision {
        Decision::Deny(deny) => format!("{deny:?}"),
        Decision::Allow(allow) => format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?}",
            allow.reason(),
            allow.hop(),
            allow.policy(),
            allow.principal(),
            allow.client_id(),
            allow.claims(),
            allow.upstream_path(),
            allow.upstream_headers(),
            allow.claim_headers().collect::<Vec<_>>(),
        ),
    }
}

/// A token that is bound to [`CERTIFICATE`].
fn bound_token() -> String {
    let bound = format!(r#""cnf":{{"x5t#S256":"{}"}},"scope""#, b64(CERTIFICATE));
    token(&claims_of("reader", "a b").replace("\"scope\"", &bound))
}

const FINE: Reason = Reason::AllowedNoPolicy;

#[test]
fn a_signature_is_verified_once() {
    for mode in [Mode::Strict, Mode::Istio] {
        let cache = VerifiedTokens::default();
        let more = ", outputPayloadToHeader: x-payload, spaceDelimitedClaims: [groups], \
                    outputClaimToHeaders: [{header: x-sub, claim: sub}]";
        let world = World::new(&[rule(more)], mode, &cache);
        let (one, other) = (reader(), token(&claims_of("writer", "x")));
        assert_eq!(world.counted(&one), (FINE, 0, 1));
        assert_eq!(world.counted(&one), (FINE, 1, 0));
        assert_eq!(world.counted(&other), (FINE, 0, 1));
        assert_eq!(world.counted(&one), (FINE, 1, 0));
        assert_eq!(cache.len(), 2);
        let Decision::Allow(allow) = world.ask(&bearer(request("GET", "/a"), &one)) else { panic!("denied") };
        let payload = ("x-payload".to_owned(), one.split('.').nth(1).unwrap().to_owned());
        assert!(allow.upstream_headers().contains(&payload));
        // What is shown is verified anew.
        let (decision, trace) =
            explain(&world.policies, &bearer(request("GET", "/a"), &one), &workload(), &world.given(Some(&cache)));
        assert!(decision.is_allowed(), "{trace:?}");
        assert_eq!(cache.misses(), 2);
    }
}

#[test]
fn what_is_refused_is_not_kept() {
    let cache = VerifiedTokens::default();
    let world = World::new(&[rule(", audiences: [bookinfo]")], Mode::Strict, &cache);
    let good = reader();
    let forged = format!("{}.{}", good.rsplit_once('.').unwrap().0, b64([1; 64]));
    let other_audience = token(&claims_of("reader", "x").replace("\"bookinfo\"", "\"x\""));
    for _ in 0..2 {
        assert_eq!(world.counted(&forged), (Reason::TokenSignature, 0, 1));
        // Refused before its signature is looked at.
        assert_eq!(world.counted(&other_audience), (Reason::TokenAudience, 0, 0));
        assert_eq!(world.counted("nonsense"), (Reason::TokenMalformed, 0, 0));
    }
    assert!(cache.is_empty());
    assert_eq!(world.counted(&good), (FINE, 0, 1));
    assert_eq!(world.counted(&forged), (Reason::TokenSignature, 0, 1));
}

#[test]
fn keys_that_are_gone_accept_nothing() {
    for mode in [Mode::Strict, Mode::Istio] {
        let cache = VerifiedTokens::default();
        let mut world = World::new(&[rule("")], mode, &cache);
        let token = reader();
        assert_eq!(world.counted(&token), (FINE, 0, 1));
        // Fetched again, unchanged.
        world.publish(JWKS_URI, &issuer_jwks());
        assert_eq!(world.counted(&token), (FINE, 1, 0));
        // Another key of the same name.
        world.publish(JWKS_URI, &rotated_jwks());
        assert_eq!(world.counted(&token), (Reason::TokenSignature, 0, 1));
        // The key taken out.
        world.publish(JWKS_URI, &jwks(&[ec_jwk("new", "P-256", &keys().other)]));
        assert_eq!(world.counted(&token), (Reason::TokenKeyUnknown, 0, 1));
        world.publish(JWKS_URI, &jwks(&[]));
        assert_eq!(world.counted(&token), (Reason::TokenKeyUnknown, 0, 1));
        // The whole set not to be had.
        world.keys.remove(JWKS_URI);
        assert_eq!(world.counted(&token), (Reason::JwksUnavailable, 0, 0));
        // The other issuer's set of the same content is the same set; here it changes nothing.
        world.publish(OTHER_URI, &issuer_jwks());
        assert_eq!(world.counted(&token), (Reason::JwksUnavailable, 0, 0));
        world.publish(JWKS_URI, &issuer_jwks());
        assert_eq!(world.counted(&token), (FINE, 1, 0));
        // One more key: the set is another one, and the token is verified once more.
        world.publish(JWKS_URI, &jwks(&[ec_jwk("p256", "P-256", &keys().p256), ec_jwk("n", "P-256", &keys().other)]));
        assert_eq!(world.counted(&token), (FINE, 0, 1));
        assert_eq!(world.counted(&token), (FINE, 1, 0));
    }
}

#[test]
fn one_issuer_rotates_without_the_others() {
    let cache = VerifiedTokens::default();
    let other = format!("{{issuer: '{OTHER_ISSUER}', jwksUri: '{OTHER_URI}'}}");
    let mut world = World::new(&[rule(""), other], Mode::Strict, &cache);
    world.publish(OTHER_URI, &issuer_jwks());
    let ours = reader();
    let theirs = token(&claims_of("reader", "x").replace(ISSUER, OTHER_ISSUER));
    assert_eq!((world.counted(&ours), world.counted(&theirs)), ((FINE, 0, 1), (FINE, 0, 1)));
    world.publish(OTHER_URI, &rotated_jwks());
    assert_eq!((world.counted(&ours), world.counted(&theirs)), ((FINE, 1, 0), (Reason::TokenSignature, 0, 1)));
}

#[test]
fn time_is_looked_at_again() {
    for mode in [Mode::Strict, Mode::Istio] {
        let cache = VerifiedTokens::default();
        let mut world = World::new(&[rule("")], mode, &cache);
        let token = reader();
        assert_eq!(world.counted(&token), (FINE, 0, 1));
        world.now = NOW + 660;
        assert_eq!(world.counted(&token), (FINE, 1, 0));
        world.now = NOW - 65;
        assert_eq!(world.counted(&token), (FINE, 1, 0));
        world.now = NOW - 66;
        assert_eq!(world.counted(&token), (Reason::TokenNotYetValid, 0, 0));
        assert_eq!(cache.len(), 1);
        world.now = NOW + 661;
        assert_eq!(world.counted(&token), (Reason::TokenExpired, 0, 0));
        // It is of no use any more.
        assert!(cache.is_empty());
        world.now = NOW;
        assert_eq!(world.counted(&token), (FINE, 0, 1));
    }
}

#[test]
fn each_rule_makes_its_own_checks() {
    let cache = VerifiedTokens::default();
    let world = |more: &str| World::new(&[rule(more)], Mode::Strict, &cache);
    let token = token(&claims_of("reader", "x").replace("\"scope\"", "\"groups\":\"good evil\",\"scope\""));
    assert_eq!(world("").counted(&token), (FINE, 0, 1));
    assert_eq!(world(", audiences: [bookinfo]").counted(&token), (FINE, 1, 0));
    assert_eq!(world(", audiences: [other]").counted(&token), (Reason::TokenAudience, 0, 0));
    assert_eq!(world(", spaceDelimitedClaims: [groups]").counted(&token), (Reason::DeniedByPolicy, 1, 0));
    assert_eq!(world("").counted(&token), (FINE, 1, 0));
    let other = format!("{{issuer: '{OTHER_ISSUER}', jwksUri: '{JWKS_URI}'}}");
    assert_eq!(World::new(&[other], Mode::Strict, &cache).counted(&token), (Reason::TokenIssuerUnknown, 0, 0));
}

#[test]
fn the_modes_share_nothing() {
    let cache = VerifiedTokens::default();
    let world = |mode| World::new(&[rule("")], mode, &cache);
    let (strict, istio) = (world(Mode::Strict), world(Mode::Istio));
    let forever = token(&format!(r#"{{"iss":"{ISSUER}","sub":"s"}}"#));
    let dotted = format!(".{}", reader());
    for token in [&forever, &dotted] {
        assert_eq!(istio.counted(token), (FINE, 0, 1));
        assert_eq!(istio.counted(token), (FINE, 1, 0));
        assert_eq!(strict.counted(token), (Reason::TokenMalformed, 0, 0));
    }
    assert_eq!(istio.counted(&reader()).0, FINE);
    let token = reader();
    assert_eq!(istio.counted(&token), (FINE, 0, 1));
    assert_eq!(strict.counted(&token), (FINE, 0, 1));
    assert_eq!((istio.counted(&token), strict.counted(&token)), ((FINE, 1, 0), (FINE, 1, 0)));
}

#[test]
fn one_token_and_two_key_sets() {
    for mode in [Mode::Strict, Mode::Istio] {
        let cache = VerifiedTokens::default();
        let at = |uri: &str, name: &str| {
            format!("{{issuer: '{ISSUER}', jwksUri: '{uri}', fromHeaders: [{{name: {name}}}]}}")
        };
        let mut world = World::new(&[at(JWKS_URI, "x-a"), at(OTHER_URI, "x-b")], mode, &cache);
        world.publish(OTHER_URI, &rotated_jwks());
        let token = reader();
        let [a, b] = ["x-a", "x-b"].map(|name| with_header(request("GET", "/a"), name, &token));
        for _ in 0..2 {
            assert_eq!(world.ask(&a).reason(), FINE);
            assert_eq!(world.ask(&b).reason(), Reason::TokenSignature);
        }
        // Both sets have the key now, and are two sets still.
        world.publish(OTHER_URI, &jwks(&[ec_jwk("p256", "P-256", &keys().p256)]));
        assert_eq!((world.ask(&a).reason(), world.ask(&b).reason()), (FINE, FINE));
        let (hits, misses) = (cache.hits(), cache.misses());
        assert_eq!((world.ask(&a).reason(), world.ask(&b).reason()), (FINE, FINE));
        assert_eq!((cache.hits(), cache.misses(), cache.len()), (hits + 2, misses, 1));
    }
}

#[test]
fn revocation_and_binding_are_looked_at_again() {
    let list = RevocationList::of_ids(["1".to_owned()]);
    for mode in [Mode::Strict, Mode::Istio] {
        let cache = VerifiedTokens::default();
        let mut world = World::new(&[rule("")], mode, &cache);
        let token = reader();
        assert_eq!(world.counted(&token), (FINE, 0, 1));
        world.revocations = Revocations::List(&list);
        assert_eq!(world.counted(&token), (Reason::TokenRevoked, 1, 0));
        world.revocations = Revocations::Unavailable;
        assert_eq!(world.counted(&token), (Reason::RevocationsUnavailable, 1, 0));
        world.revocations = Revocations::NotKept;
        assert_eq!(world.counted(&token), (FINE, 1, 0));
    }
    let cache = VerifiedTokens::default();
    let world = World::new(&[rule("")], Mode::Strict, &cache);
    let mut bound = bearer(request("GET", "/a"), &bound_token());
    bound.client_certificate = Some(CERTIFICATE);
    assert_eq!(world.ask(&bound).reason(), FINE);
    bound.client_certificate = Some([8; 32]);
    assert_eq!(world.ask(&bound).reason(), Reason::TokenBinding);
    bound.client_certificate = None;
    assert_eq!(world.ask(&bound).reason(), Reason::TokenBinding);
    assert_eq!((cache.hits(), cache.misses()), (2, 1));
}
