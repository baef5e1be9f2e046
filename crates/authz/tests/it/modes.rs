//! The two modes side by side, and the fields of a JWT rule that say where tokens are and what becomes of them.

use std::time::Duration;

use authz::jwt::{Expectation, ISTIO_MAX_BYTES, MAX_BYTES, UnverifiedToken};
use authz::{
    CompileOptions, Decision, Given, Jwks, KeyOrigin, KeyRecordLookup, KeySets, Mode, Policies, Reason, Request,
    RevocationList, Revocations, compile, decide,
};
use istio::{JwtHeader, JwtRule, Meta, Origin, Presence, RequestAuthentication, Resources};
use proptest::prelude::*;

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, api_key, b64, bearer, claims_of, ec_jwk, ed25519_jwk, hs256, issuer_jwks, jwks, keys,
    reader, request, rsa_components, rsa_jwk, rsa_public_der, signature, token, token_of, with_header, workload,
};

const MODES: [Mode; 2] = [Mode::Strict, Mode::Istio];

fn jwt_rule() -> JwtRule {
    JwtRule { issuer: ISSUER.to_owned(), jwks_uri: Some(JWKS_URI.to_owned()), ..JwtRule::default() }
}

fn resources(rules: Vec<JwtRule>) -> Resources {
    let meta = Meta {
        name: "r".to_owned(),
        namespace: "ns1".to_owned(),
        namespace_given: true,
        labels: Default::default(),
        annotations: Default::default(),
        origin: Origin::default(),
    };
    let authentication = RequestAuthentication { meta, selector: None, target_refs: Vec::new(), jwt_rules: rules };
    Resources { request_authentications: vec![authentication], ..Resources::default() }
}

/// A world with these rules for `b` in `ns1`, the issuer's keys at hand, and the warnings.
fn world_and_warnings(rules: Vec<JwtRule>, mode: Mode) -> (World, Vec<String>) {
    let options = CompileOptions { mode, ..CompileOptions::default() };
    let compiled = compile(&resources(rules), &options).unwrap();
    let policies = Policies::open(&compiled.section).unwrap();
    let mut keys = KeySets::embedded(&policies).unwrap();
    keys.insert(JWKS_URI, Jwks::parse_as(&issuer_jwks(), KeyOrigin::Fetched, mode).unwrap().into());
    let warnings = compiled.warnings.iter().map(ToString::to_string).collect();
    (World { policies, keys, ..World::new("") }, warnings)
}

fn world(rule: JwtRule, mode: Mode) -> World {
    world_and_warnings(vec![rule], mode).0
}

fn reason(world: &World, request: &Request) -> Reason {
    world.decide(request, &workload()).reason()
}

fn header(world: &World, request: &Request, name: &str) -> Vec<String> {
    let Decision::Allow(allow) = world.decide(request, &workload()) else { panic!("denied") };
    allow.upstream_headers().iter().filter(|(n, _)| n == name).map(|(_, value)| value.clone()).collect()
}

fn principal(world: &World, request: &Request) -> Result<Option<String>, Reason> {
    match world.decide(request, &workload()) {
        Decision::Allow(allow) => Ok(allow.principal().map(str::to_owned)),
        Decision::Deny(deny) => Err(deny.reason),
    }
}

fn verified() -> Result<Option<String>, Reason> {
    Ok(Some(format!("{ISSUER}/client:reader")))
}

#[test]
fn parameters_and_cookies_hold_tokens() {
    for mode in MODES {
        let good = reader();
        let at_parameter = world(JwtRule { from_params: vec!["tok".to_owned()], ..jwt_rule() }, mode);
        // Recorded against Envoy 1.40.
        let parameters = [
            (format!("/a?tok={good}"), verified()),
            (format!("/a?x=1&tok={good}&tok=bad"), verified()),
            (format!("/a?tok=bad&tok={good}"), Err(Reason::TokenMalformed)),
            (format!("/a?t%6fk={good}"), verified()),
            ("/a?tok=".to_owned(), Err(Reason::TokenMalformed)),
            ("/a?tok".to_owned(), Err(Reason::TokenMalformed)),
            (format!("/a?a?tok={good}"), Ok(None)),
            (format!("/a?access_token={good}"), Ok(None)),
        ];
        for (path, expected) in parameters {
            assert_eq!(principal(&at_parameter, &request("GET", &path)), expected, "{path}");
        }
        assert_eq!(principal(&at_parameter, &bearer(request("GET", "/a"), &good)), Ok(None));

        let at_cookie = world(JwtRule { from_cookies: vec!["tok".to_owned(), "x".to_owned()], ..jwt_rule() }, mode);
        let cookies = [
            (format!("tok={good}"), verified()),
            (format!("a=b; tok={good}"), verified()),
            (format!("a;tok={good}"), verified()),
            (format!("tok=\"{good}\""), verified()),
            (format!("tok ={good}"), Ok(None)),
            (format!("Tok={good}"), Ok(None)),
            ("tok".to_owned(), Ok(None)),
            ("tok=".to_owned(), Err(Reason::TokenMalformed)),
            (format!("tok={good}; tok=bad"), verified()),
            (format!("tok=bad; tok={good}"), Err(Reason::TokenMalformed)),
            (format!("tok={good}; x=bad"), Err(Reason::TokenMalformed)),
            (format!("x={good}; tok={good}"), verified()),
        ];
        for (cookie, expected) in cookies {
            let request = with_header(request("GET", "/a"), "cookie", &cookie);
            assert_eq!(principal(&at_cookie, &request), expected, "{cookie}");
            if expected == verified() {
                assert_eq!(header(&at_cookie, &request, "cookie"), [cookie], "cookies are kept");
            }
        }
        let lines = with_header(request("GET", "/a"), "cookie", "a=b");
        assert_eq!(principal(&at_cookie, &with_header(lines, "cookie", &format!("tok={good}"))), verified());
    }
}

#[test]
fn what_the_destination_sees() {
    let good = token(&claims_of("reader", "a b").replacen('{', r#"{"roles":"x y","o":{"roles":"x y"},"#, 1));
    for mode in MODES {
        let rule = JwtRule {
            output_payload_to_header: Some("X-Payload".to_owned()),
            output_claim_to_headers: vec![
                istio::ClaimToHeader { header: "X-Roles".to_owned(), claim: "roles".to_owned() },
                istio::ClaimToHeader { header: "x-n".to_owned(), claim: "iat".to_owned() },
                istio::ClaimToHeader { header: "x-aud".to_owned(), claim: "o".to_owned() },
            ],
            space_delimited_claims: vec!["roles".to_owned()],
            ..jwt_rule()
        };
        let world = world(rule, mode);
        let spoofed = with_header(request("GET", "/a"), "x-payload", "spoofed");
        assert_eq!(header(&world, &spoofed, "x-payload"), Vec::<String>::new());
        let request = bearer(spoofed, &good);
        assert_eq!(header(&world, &request, "x-payload"), [good.split('.').nth(1).unwrap()]);
        // Outputs see the claim as it is, not the list that policies see.
        assert_eq!(header(&world, &request, "x-roles"), ["x y"]);
        assert_eq!(header(&world, &request, "x-n"), [NOW.to_string()]);
        assert_eq!(header(&world, &request, "x-aud"), ["eyJyb2xlcyI6InggeSJ9"]);
        assert_eq!(world.policies.output_headers(), ["x-aud", "x-n", "x-payload", "x-roles"]);
        assert_eq!(header(&world, &request, "authorization"), Vec::<String>::new());
    }
}

#[test]
fn two_tokens_at_one_place_are_for_the_istio_mode_only() {
    let of = |roles: &str| token(&claims_of("reader", "a").replacen('{', &format!(r#"{{"roles":"{roles}","#), 1));
    let rule = JwtRule {
        from_headers: vec![JwtHeader { name: "x-t".to_owned(), prefix: String::new() }],
        output_claim_to_headers: vec![istio::ClaimToHeader { header: "x-r".to_owned(), claim: "roles".to_owned() }],
        ..jwt_rule()
    };
    let request = with_header(with_header(request("GET", "/a"), "x-t", &of("one")), "x-t", &of("two"));
    assert_eq!(principal(&world(rule.clone(), Mode::Strict), &request), Err(Reason::TokenMalformed));
    assert_eq!(header(&world(rule, Mode::Istio), &request, "x-r"), ["two", "one"]);
}

#[test]
fn a_required_token() {
    let rule = JwtRule { presence: Presence::Required, ..jwt_rule() };
    let (strict, warnings) = world_and_warnings(vec![rule.clone()], Mode::Strict);
    assert_eq!(warnings, Vec::<String>::new());
    let nothing = request("GET", "/a");
    let denied = strict.decide(&nothing, &workload());
    assert_eq!((denied.reason(), denied.status()), (Reason::TokenRequired, 401));
    assert_eq!(principal(&strict, &bearer(nothing.clone(), &reader())), verified());
    assert_eq!(principal(&strict, &bearer(nothing.clone(), "x")), Err(Reason::TokenMalformed));
    let preflight =
        with_header(with_header(request("OPTIONS", "/a"), "origin", "o"), "access-control-request-method", "GET");
    assert_eq!(principal(&strict, &preflight), Ok(None));
    let (istio, warnings) = world_and_warnings(vec![rule], Mode::Istio);
    assert!(warnings.len() == 1 && warnings[0].contains("presence REQUIRED"), "{warnings:?}");
    assert_eq!(principal(&istio, &nothing), Ok(None));
    assert_eq!(
        principal(&world(JwtRule { presence: Presence::Optional, ..jwt_rule() }, Mode::Strict), &nothing),
        Ok(None)
    );
}

#[test]
fn where_keys_come_from() {
    let other = JwtRule { jwks_uri: None, ..jwt_rule() };
    let (world, warnings) = world_and_warnings(vec![other.clone()], Mode::Istio);
    assert_eq!(warnings, [""; 0]);
    let source = world.policies.key_sources().next().unwrap();
    let discovery = format!("{ISSUER}/.well-known/openid-configuration");
    assert_eq!((source.jwks_uri, source.discovery), (None, Some(discovery.as_str())));
    assert_eq!(source.timeout, Duration::from_secs(5));
    let good = bearer(request("GET", "/a"), &reader());
    assert_eq!(reason(&world, &good), Reason::JwksUnavailable);
    assert_eq!(principal(&world, &request("GET", "/a")), Ok(None));
    let mut found = world;
    found.keys.insert(&discovery, Jwks::parse(&issuer_jwks(), KeyOrigin::Fetched).unwrap().into());
    assert_eq!(principal(&found, &good), verified());
    // Keys given when compiled: by issuer or by URL.
    for (rule, name) in [(other.clone(), ISSUER), (jwt_rule(), ISSUER), (jwt_rule(), JWKS_URI), (other, &discovery)] {
        for mode in MODES {
            let jwks = [(name.to_owned(), issuer_jwks())].into();
            let compiled =
                compile(&resources(vec![rule.clone()]), &CompileOptions { jwks, mode, ..CompileOptions::default() })
                    .unwrap();
            let policies = Policies::open(&compiled.section).unwrap();
            let keys = KeySets::embedded(&policies).unwrap();
            let world = World { policies, keys, ..World::new("") };
            assert_eq!(principal(&world, &good), verified(), "{name}");
        }
    }
    // Any issuer, at a URL.
    let any = JwtRule { issuer: String::new(), timeout: Some(Duration::from_millis(1)), ..jwt_rule() };
    for mode in MODES {
        let (world, _) = world_and_warnings(vec![any.clone()], mode);
        assert_eq!(world.policies.key_sources().next().unwrap().timeout, Duration::from_millis(1));
        let stranger = token(&claims_of("reader", "a").replace(ISSUER, "stranger"));
        assert_eq!(
            principal(&world, &bearer(request("GET", "/a"), &stranger)),
            Ok(Some("stranger/client:reader".to_owned()))
        );
    }
    // A set that cannot be used.
    let inline = |text: &str| JwtRule { jwks: Some(text.to_owned()), jwks_uri: None, ..jwt_rule() };
    let empty = inline(r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#);
    let compiled =
        |rule: &JwtRule, mode| compile(&resources(vec![rule.clone()]), &CompileOptions { mode, ..Default::default() });
    assert!(compiled(&empty, Mode::Strict).is_err());
    let (world, warnings) = world_and_warnings(vec![empty], Mode::Istio);
    assert_eq!(warnings.len(), 1);
    assert_eq!(reason(&world, &good), Reason::JwksUnavailable);
    assert_eq!(principal(&world, &request("GET", "/a")), Ok(None));
    for mode in MODES {
        assert!(compiled(&inline("<html>"), mode).is_err());
    }
}

#[test]
fn revoked_ids() {
    for mode in MODES {
        let world = world(jwt_rule(), mode);
        let ask = |revoked: &str| {
            let revoked = RevocationList::of_ids([revoked.to_owned()]);
            let given = Given {
                keys: &world.keys,
                api_key: None,
                pepper: None,
                revocations: Revocations::List(&revoked),
                providers: None,
                verified: None,
                now: NOW,
            };
            decide(&world.policies, &bearer(request("GET", "/a"), &reader()), &workload(), &given)
        };
        assert!(ask("2").is_allowed());
        let denied = ask("1");
        assert_eq!((denied.reason(), denied.status()), (Reason::TokenRevoked, 401));
    }
    let yaml = "
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {name: k, namespace: ns1}
spec: {issuer: \"https://issuer.bookinfo.example\"}
";
    let world = World::new(yaml);
    let (text, record) = api_key("reader");
    let lookup = KeyRecordLookup::Found(record.clone());
    let ask = |id: &str| {
        let revoked = RevocationList::of_ids([id.to_owned()]);
        let given = Given {
            keys: &world.keys,
            api_key: Some(&lookup),
            pepper: world.pepper.as_ref(),
            revocations: Revocations::List(&revoked),
            providers: None,
            verified: None,
            now: NOW,
        };
        decide(&world.policies, &with_header(request("GET", "/a"), "x-api-key", &text), &workload(), &given).reason()
    };
    assert_eq!(ask("x"), Reason::AllowedNoPolicy);
    assert_eq!(ask(&record.id), Reason::ApiKeyRevoked);
}

// ---- token text

fn check_as(token: &str, keys: &Jwks, mode: Mode) -> Result<(), Reason> {
    let expected = Expectation { issuer: ISSUER, audiences: &["bookinfo"], keys: Some(keys) };
    let verified = UnverifiedToken::parse(token, mode).and_then(|token| token.verify(&expected, NOW));
    verified.map(|_| ()).map_err(|refusal| refusal.reason)
}

fn check(token: &str, mode: Mode) -> Result<(), Reason> {
    check_as(token, &Jwks::parse_as(&issuer_jwks(), KeyOrigin::Fetched, mode).unwrap(), mode)
}

fn with_claim(name: &str, value: &str) -> String {
    let mut claims: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&claims_of("reader", "a")).unwrap();
    claims.remove(name);
    let mut text = serde_json::to_string(&claims).unwrap();
    text.insert_str(1, &format!("\"{name}\":{value},"));
    text
}

fn without(name: &str) -> String {
    let mut claims: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&claims_of("reader", "a")).unwrap();
    claims.remove(name);
    serde_json::to_string(&claims).unwrap()
}

/// What Envoy 1.40 was seen to accept and the strict mode refuses, and what neither accepts.
#[test]
fn where_the_modes_differ() {
    let good = reader();
    let (message, signature) = good.rsplit_once('.').unwrap();
    let header = |header: &str| token_of("ES256", header, &claims_of("reader", "a"));
    let loose = [
        ("no exp", token(&without("exp"))),
        ("exp 0", token(&with_claim("exp", "0"))),
        ("crit", header(r#"{"alg":"ES256","kid":"p256","crit":["exp"]}"#)),
        ("b64", header(r#"{"alg":"ES256","kid":"p256","b64":false}"#)),
        ("typ", header(r#"{"alg":"ES256","kid":"p256","typ":7}"#)),
        ("empty kid", header(r#"{"alg":"ES256","kid":""}"#)),
        ("leading dot", format!(".{good}")),
        ("trailing dot", format!("{good}.")),
        ("doubled dots", good.replace('.', "..")),
        ("padding", format!("{good}==")),
        ("white space in the signature", format!("{message}.{} {}", &signature[..5], &signature[5..])),
        ("nesting", token(&with_claim("x", &format!("{}{}", "[".repeat(16), "]".repeat(16))))),
        ("members", token(&with_claim("x", &format!("[{}]", vec!["1"; 257].join(","))))),
    ];
    for (name, token) in loose {
        assert!(check(&token, Mode::Strict).is_err(), "{name}");
        assert_eq!(check(&token, Mode::Istio), Ok(()), "{name}");
    }
    let bad = [
        ("one pad too few", format!("{good}=")),
        ("padding in the header", good.replacen('.', "=.", 1)),
        ("a member twice", token(&claims_of("reader", "a").replacen('{', r#"{"exp":1,"#, 1))),
        ("alg twice", header(r#"{"alg":"ES256","alg":"ES256","kid":"p256"}"#)),
        ("exp is text", token(&with_claim("exp", "\"9999999999\""))),
        ("exp is null", token(&with_claim("exp", "null"))),
        ("exp is negative", token(&with_claim("exp", "-1"))),
        ("exp is 2^64 to a double", token(&with_claim("exp", "18446744073709551615"))),
        ("exp is infinite", token(&with_claim("exp", "1e400"))),
        ("aud is a number", token(&with_claim("aud", "7"))),
        ("aud has a number", token(&with_claim("aud", "[\"bookinfo\",1]"))),
        ("iss is null", token(&with_claim("iss", "null"))),
        ("jti is a number", token(&with_claim("jti", "7"))),
        ("kid is a number", header(r#"{"alg":"ES256","kid":7}"#)),
        ("none", header(r#"{"alg":"none"}"#)),
        ("nOnE", header(r#"{"alg":"nOnE"}"#)),
        ("no signature", format!("{message}.")),
        ("two parts", message.to_owned()),
        ("five parts", format!("{good}.a.b")),
        ("nesting of 400", token(&with_claim("x", &format!("{}{}", "[".repeat(400), "]".repeat(400))))),
        ("zeros", format!("{message}.{}", b64([0; 64]))),
        ("a million dots", ".".repeat(1_000_000)),
        ("trailing bytes", header(r#"{"alg":"ES256","kid":"p256"} x"#)),
        ("unknown kid", header(r#"{"alg":"ES256","kid":"../p256"}"#)),
    ];
    for (name, token) in bad {
        for mode in MODES {
            assert!(check(&token, mode).is_err(), "{name} {mode:?}");
        }
    }
    for mode in MODES {
        assert_eq!(check(&token(&with_claim("exp", "1800000600.9")), mode), Ok(()));
        assert_eq!(check(&token(&with_claim("exp", "1799999940.9")), mode), Ok(()), "truncated");
        assert_eq!(check(&token(&with_claim("exp", "1799999939.9")), mode), Err(Reason::TokenExpired));
        assert_eq!(check(&token(&with_claim("nbf", "1800000061")), mode), Err(Reason::TokenNotYetValid));
    }
}

#[test]
fn both_size_limits_are_exact() {
    for (mode, most) in [(Mode::Strict, MAX_BYTES), (Mode::Istio, ISTIO_MAX_BYTES)] {
        let text = format!("{}.", "a".repeat(most - 1));
        assert_ne!(UnverifiedToken::parse(&text, mode).unwrap_err().reason, Reason::TokenTooLarge);
        let text = format!("{text}a");
        assert_eq!(UnverifiedToken::parse(&text, mode).unwrap_err().reason, Reason::TokenTooLarge);
        // A good token close below it.
        let padded = |bytes: usize| token(&with_claim("pad", &format!("\"{}\"", "x".repeat(bytes))));
        let fits = padded((most - padded(0).len()) / 4 * 3 - 3);
        assert!(fits.len() > most - 10 && fits.len() <= most, "{}", fits.len());
        assert_eq!(check(&fits, mode), Ok(()));
    }
    // 16 levels, of which the claims are the first; 256 members.
    let base: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&claims_of("reader", "a")).unwrap();
    let nested = |levels: usize| token(&with_claim("x", &format!("{}{}", "[".repeat(levels), "]".repeat(levels))));
    assert_eq!(check(&nested(15), Mode::Strict), Ok(()));
    assert_eq!(check(&nested(16), Mode::Strict), Err(Reason::TokenMalformed));
    // Envoy 1.40: the claims and 99 lists in them.
    assert_eq!(check(&nested(99), Mode::Istio), Ok(()));
    assert_eq!(check(&nested(100), Mode::Istio), Err(Reason::TokenMalformed));
    let members = |count: usize| token(&with_claim("x", &format!("[{}]", vec!["1"; count].join(","))));
    let left = 256 - base.len() - 1;
    assert_eq!(check(&members(left), Mode::Strict), Ok(()));
    assert_eq!(check(&members(left + 1), Mode::Strict), Err(Reason::TokenMalformed));
    for mode in MODES {
        let mut set = jwks(&[ed25519_jwk("e")]);
        set.push_str(&" ".repeat(150_000 - set.len()));
        assert!(Jwks::parse_as(&set, KeyOrigin::Fetched, mode).is_ok());
        set.push(' ');
        assert!(Jwks::parse_as(&set, KeyOrigin::Fetched, mode).is_err());
        let many = |count: usize| jwks(&(0..count).map(|kid| ed25519_jwk(&kid.to_string())).collect::<Vec<_>>());
        assert_eq!(Jwks::parse_as(&many(100), KeyOrigin::Fetched, mode).unwrap().len(), 100);
        assert!(Jwks::parse_as(&many(101), KeyOrigin::Fetched, mode).is_err());
    }
}

// ---- keys

#[test]
fn keys_as_envoy_reads_them() {
    let p256 = ec_jwk("a", "P-256", &keys().p256);
    let other = ec_jwk("a", "P-256", &keys().other);
    let oct = format!(r#"{{"kty":"oct","kid":"o","k":"{}"}}"#, b64(keys().secret));
    let parse = |set: &str, origin| Jwks::parse_as(set, origin, Mode::Istio).unwrap();
    let tolerated = [
        ("one kid twice", jwks(&[other.clone(), p256.clone()])),
        ("a private member", jwks(&[p256.replace("\"use\"", "\"d\":\"AAAA\",\"use\"")])),
        ("another use", jwks(&[p256.replace("\"sig\"", "\"enc\"")])),
        ("no key at all", jwks(&["7".to_owned(), p256.clone()])),
        ("beside a secret", jwks(&[oct.clone(), p256.clone()])),
        ("padding", jwks(&[p256.replace("\",\"y\"", "=\",\"y\"")])),
        ("a kid that is a number", jwks(&[p256.replace("\"a\"", "7")])),
    ];
    let named = token_of("ES256", r#"{"alg":"ES256","kid":"a"}"#, &claims_of("reader", "a"));
    for (name, set) in tolerated {
        for origin in [KeyOrigin::Inline, KeyOrigin::Fetched] {
            assert_eq!(check_as(&named, &parse(&set, origin), Mode::Istio), Ok(()), "{name}");
        }
    }
    // Without a kid every key is tried.
    let nameless = token_of("ES256", r#"{"alg":"ES256"}"#, &claims_of("reader", "a"));
    let two = jwks(&[other.replace("\"a\"", "\"b\""), p256.clone()]);
    assert_eq!(check_as(&nameless, &parse(&two, KeyOrigin::Fetched), Mode::Istio), Ok(()));
    // "EC branch does not check alg starts with ES": a right signature under a wrong name.
    let renamed = token_of("ES256", r#"{"alg":"RS256","kid":"a"}"#, &claims_of("reader", "a"));
    assert_eq!(check_as(&renamed, &parse(&jwks(std::slice::from_ref(&p256)), KeyOrigin::Fetched), Mode::Istio), Ok(()));
    let pinned = jwks(&[p256.replace("\"use\"", "\"alg\":\"ES256\",\"use\"")]);
    assert_eq!(check_as(&renamed, &parse(&pinned, KeyOrigin::Fetched), Mode::Istio), Err(Reason::TokenAlgorithm));
    // A secret is one in an inline set alone.
    let symmetric = token_of("HS256", r#"{"alg":"HS256","kid":"o"}"#, &claims_of("reader", "a"));
    let both = jwks(&[oct, p256]);
    assert_eq!(check_as(&symmetric, &parse(&both, KeyOrigin::Inline), Mode::Istio), Ok(()));
    assert_eq!(check_as(&symmetric, &parse(&both, KeyOrigin::Fetched), Mode::Istio), Err(Reason::TokenKeyUnknown));
}

#[test]
fn a_public_key_is_no_hmac_secret_in_any_mode() {
    let (n, _) = rsa_components();
    let (pkcs1, spki) = rsa_public_der();
    let sets = [jwks(&[rsa_jwk("k")]), jwks(&[ec_jwk("k", "P-256", &keys().p256)]), jwks(&[ed25519_jwk("k")])];
    for mode in MODES {
        for (set, origin) in sets.iter().flat_map(|set| [(set, KeyOrigin::Inline), (set, KeyOrigin::Fetched)]) {
            let set = Jwks::parse_as(set, origin, mode).unwrap();
            for header in [r#"{"alg":"HS256","kid":"k"}"#, r#"{"alg":"HS256"}"#] {
                let message = format!("{}.{}", b64(header), b64(claims_of("reader", "a")));
                for secret in [&n, &pkcs1, &spki, &Vec::new(), &b64(&n).into_bytes()] {
                    let forged = format!("{message}.{}", b64(hs256(secret, message.as_bytes())));
                    assert!(check_as(&forged, &set, mode).is_err(), "{header} {mode:?}");
                }
            }
        }
    }
}

// ---- properties

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,60}", bytes in "[a-zA-Z0-9_.=-]{0,80}") {
        for mode in MODES {
            let _ = UnverifiedToken::parse(&text, mode);
            let _ = UnverifiedToken::parse(&bytes, mode);
            let _ = UnverifiedToken::parse(&format!("{}.{}.{bytes}", b64(&text), b64(&bytes)), mode);
        }
    }

    #[test]
    fn what_strict_accepts_istio_accepts(
        header in proptest::sample::select(vec![
            r#"{"alg":"ES256"}"#, r#"{"alg":"ES256","kid":"p256"}"#, r#"{"alg":"ES256","kid":"x"}"#,
            r#"{"alg":"ES256","kid":"","typ":"JWT"}"#, r#"{"alg":"ES256","crit":[]}"#, r#"{"alg":"RS256"}"#, r#"{"alg":"ES256","kid":7}"#,
        ]),
        name in proptest::sample::select(vec!["exp", "nbf", "iat", "aud", "sub", "iss", "jti", "x"]),
        value in proptest::sample::select(vec![
            "0", "1", "1800000600", "1800000000.5", "18446744073709549568", "18446744073709551615", "-1", "null", "\"bookinfo\"",
            "[\"bookinfo\"]", "[]", "{}", "\"https://issuer.bookinfo.example\"", "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "true",
        ]),
        drop in any::<bool>(),
        dots in proptest::sample::select(vec!["", ".", "=", "==", " "]),
    ) {
        let claims = if drop { without(name) } else { with_claim(name, value) };
        let text = format!("{}{dots}", token_of("ES256", header, &claims));
        if check(&text, Mode::Strict).is_ok() {
            prop_assert_eq!(check(&text, Mode::Istio), Ok(()), "{} {}", header, claims);
        }
    }

    #[test]
    fn no_changed_byte_verifies_in_the_istio_mode(at in any::<prop::sample::Index>(), to in any::<char>()) {
        let good = reader();
        let mut changed: Vec<char> = good.chars().collect();
        let at = at.index(changed.len());
        changed[at] = to;
        let changed: String = changed.into_iter().collect();
        let signed = |text: &str| text.trim_matches('.').rsplit_once('.').map(|(message, _)| message.to_owned());
        // The signature's own text may be written in another way; what it signs may not.
        if check(&changed, Mode::Istio).is_ok() {
            prop_assert_eq!(signed(&changed), signed(&good));
        }
    }
}

#[test]
fn signatures_that_must_not_verify() {
    let message = format!("{}.{}", b64(r#"{"alg":"ES256","kid":"p256"}"#), b64(claims_of("reader", "a")));
    let good = signature("ES256", &message);
    let (r, s) = good.split_at(32);
    for mode in MODES {
        assert_eq!(check(&format!("{message}.{}", b64(&good)), mode), Ok(()));
        for bad in [vec![0; 64], [&[0; 32], s].concat(), [r, &[0; 32]].concat(), [s, r].concat(), vec![0xff; 64]] {
            assert_eq!(check(&format!("{message}.{}", b64(bad)), mode), Err(Reason::TokenSignature));
        }
        assert_eq!(check(&format!("{message}.{}", b64(&good[..63])), mode), Err(Reason::TokenSignature));
    }
}
