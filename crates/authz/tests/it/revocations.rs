//! Signed revocation lists: what they revoke, and which of them are believed.

use std::collections::{BTreeMap, BTreeSet};

use authz::revocation::{LIST_TYPE, MAX_CLIENTS_BEFORE, MAX_IDS, MAX_LIST_BYTES, encode_payload};
use authz::{Jwks, KeyOrigin, Mode, Reason, RevocationList, RevocationListError, RevokedId, UnverifiedRevocationList};
use proptest::prelude::*;

use crate::support::{
    ISSUER, JWKS_URI, NOW, World, b64, bearer, claims_of, issuer_jwks, reader, request, signature, token, token_of,
    with_header, workload,
};

const HEADER: &str = r#"{"alg":"ES256","kid":"p256","typ":"revocations+jwt"}"#;

fn keys() -> Jwks {
    Jwks::parse(&issuer_jwks(), KeyOrigin::Fetched).unwrap()
}

fn payload(ids: &[RevokedId], clients_before: &[(&str, u64)]) -> String {
    let clients = clients_before.iter().map(|(client, before)| ((*client).to_owned(), *before)).collect();
    encode_payload(ISSUER, NOW - 10, NOW + 3_600, ids.iter().copied(), &clients).unwrap()
}

fn read_as(text: &str, issuer: &str, now: u64) -> Result<RevocationList, RevocationListError> {
    UnverifiedRevocationList::parse(text)?.verify(issuer, &[&keys()], now)
}

fn read(text: &str) -> Result<RevocationList, RevocationListError> {
    read_as(text, ISSUER, NOW)
}

fn list(ids: &[RevokedId], clients_before: &[(&str, u64)]) -> RevocationList {
    read(&token_of("ES256", HEADER, &payload(ids, clients_before))).unwrap()
}

fn world() -> World {
    World::new(&format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: a, namespace: ns1}}
spec: {{jwtRules: [{{issuer: '{ISSUER}', jwksUri: '{JWKS_URI}'}}]}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: k, namespace: ns1}}
spec: {{issuer: '{ISSUER}'}}
"
    ))
}

/// Ids, `clients_before`, whether each of five tokens passes, and whether the key does.
type Row<'a> = (&'a [RevokedId], &'a [(&'a str, u64)], [bool; 5], bool);

/// The token of [`claims_of`] has the id 1, the client `reader` and is of [`NOW`].
#[test]
fn what_a_list_revokes() {
    let mut world = world();
    let (text, record) = crate::support::api_key("reader");
    let key = RevokedId::key(&record.id);
    world.lookup = Some(authz::KeyRecordLookup::Found(record));
    let good = reader();
    let no_iat = token(&claims_of("reader", "a").replace(&format!("\"iat\":{NOW},"), ""));
    let no_id = token(&claims_of("reader", "a").replace("\"jti\":\"1\",", ""));
    let azp = token(&claims_of("reader", "a").replace("client_id", "azp"));
    let half = token(&claims_of("reader", "a").replace(&format!("\"iat\":{NOW},"), &format!("\"iat\":{NOW}.5,")));
    let all = [&good, &no_iat, &no_id, &azp, &half];
    let client = RevokedId::client;
    let rows: [Row<'_>; 12] = [
        (&[], &[], [true; 5], true),
        (&[RevokedId::token("1")], &[], [false, false, true, false, false], true),
        (&[RevokedId::token("2"), RevokedId::token("")], &[], [true; 5], true),
        (&[key], &[], [true; 5], false),
        (&[client("reader")], &[], [false; 5], false),
        (&[client("writer"), RevokedId::token("reader")], &[], [true; 5], true),
        // The kinds do not mix.
        (&[RevokedId::key("1"), client("1")], &[], [true; 5], true),
        (&[], &[("reader", NOW)], [true, false, true, true, true], true),
        (&[], &[("reader", NOW + 1)], [false; 5], true),
        (&[], &[("reader", 0)], [true, false, true, true, true], true),
        (&[], &[("writer", u64::MAX)], [true; 5], true),
        (&[key, RevokedId::token("1")], &[("reader", NOW + 1)], [false; 5], false),
    ];
    for (ids, clients, tokens, passes) in rows {
        world.revoked = Some(list(ids, clients));
        for (text, passes) in all.iter().zip(tokens) {
            let decision = world.decide(&bearer(request("GET", "/"), text), &workload());
            assert_eq!(decision.is_allowed(), passes, "{ids:?} {clients:?}: {decision:?}");
            assert!(passes || (decision.reason(), decision.status()) == (Reason::TokenRevoked, 401));
        }
        let decision = world.decide(&with_header(request("GET", "/"), "x-api-key", &text), &workload());
        assert_eq!(decision.is_allowed(), passes, "{ids:?} {clients:?}: {decision:?}");
        assert!(passes || (decision.reason(), decision.status()) == (Reason::ApiKeyRevoked, 401));
    }
}

#[test]
fn a_list_speaks_of_its_own_issuer() {
    let other = "https://other.example";
    let mut world = World::new(&format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: a, namespace: ns1}}
spec: {{jwtRules: [{{issuer: '{ISSUER}', jwksUri: '{JWKS_URI}'}}, {{issuer: '{other}', jwksUri: '{JWKS_URI}'}}]}}
"
    ));
    world.revoked = Some(list(&[RevokedId::token("1"), RevokedId::client("reader")], &[("reader", NOW + 1)]));
    let theirs = token(&claims_of("reader", "a").replace(ISSUER, other));
    assert!(world.decide(&bearer(request("GET", "/"), &theirs), &workload()).is_allowed());
    assert!(!world.decide(&bearer(request("GET", "/"), &reader()), &workload()).is_allowed());
    // A plain list is everybody's.
    world.revoked = Some(RevocationList::of_ids(["client:reader".to_owned()]));
    for token in [theirs, reader()] {
        assert!(!world.decide(&bearer(request("GET", "/"), &token), &workload()).is_allowed());
    }
}

#[test]
fn every_algorithm_of_the_issuer_signs_lists() {
    let payload = payload(&[RevokedId::token("1")], &[]);
    for (algorithm, kid) in
        [("RS256", "rsa"), ("PS256", "rsa"), ("ES256", "p256"), ("ES384", "p384"), ("EdDSA", "ed25519")]
    {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}","typ":"{LIST_TYPE}"}}"#);
        assert_eq!(read(&token_of(algorithm, &header, &payload)).unwrap().len(), 1, "{algorithm}");
    }
}

#[test]
fn a_token_is_no_list_and_a_list_no_token() {
    assert_eq!(read(&reader()).unwrap_err(), RevocationListError::Type);
    let good = payload(&[], &[]);
    for header in [
        r#"{"alg":"ES256","kid":"p256"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"JWT"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"Revocations+jwt"}"#,
        r#"{"alg":"ES256","kid":"p256","typ":"application/revocations+jwt"}"#,
    ] {
        assert_eq!(read(&token_of("ES256", header, &good)).unwrap_err(), RevocationListError::Type, "{header}");
    }
    // The claims are a good token's, so that nothing but the type can be what is wrong.
    let world = world();
    for (typ, passes) in [
        ("at+jwt", true),
        ("JWT", true),
        ("revocations+jwt", false),
        ("Revocations+JWT", false),
        ("application/revocations+jwt", false),
        ("APPLICATION/revocations+jwt", false),
    ] {
        let header = format!(r#"{{"alg":"ES256","kid":"p256","typ":"{typ}"}}"#);
        let token = token_of("ES256", &header, &claims_of("reader", "a"));
        let decision = world.decide(&bearer(request("GET", "/"), &token), &workload());
        assert_eq!(decision.is_allowed(), passes, "{typ}");
        assert!(passes || (decision.reason(), decision.status()) == (Reason::TokenMalformed, 401));
    }
    let decision = world.decide(&bearer(request("GET", "/"), &token_of("ES256", HEADER, &good)), &workload());
    assert_eq!(decision.reason(), Reason::TokenMalformed);
}

#[test]
fn who_signed_it_and_when() {
    let good = token_of("ES256", HEADER, &payload(&[RevokedId::token("1")], &[]));
    assert_eq!(read(&good).unwrap().issued_at(), NOW - 10);
    let (message, _) = good.rsplit_once('.').unwrap();
    let forged = format!("{message}.{}", b64(crate::support::hs256(b"guess", message.as_bytes())));
    assert_eq!(read(&forged).unwrap_err(), RevocationListError::Signature);
    // One bit of the ids, with the signature of the whole.
    let other = payload(&[RevokedId::token("2")], &[]);
    let signed = b64(signature("ES256", message));
    let tampered = format!("{}.{}.{signed}", b64(HEADER), b64(other));
    assert_eq!(read(&tampered).unwrap_err(), RevocationListError::Signature);
    let unknown = HEADER.replace("p256", "p257");
    let unknown = token_of("ES256", &unknown, &payload(&[], &[]));
    assert_eq!(read(&unknown).unwrap_err(), RevocationListError::KeyUnknown);
    let wrong = token_of("ES384", r#"{"alg":"ES384","kid":"p256","typ":"revocations+jwt"}"#, &payload(&[], &[]));
    assert_eq!(read(&wrong).unwrap_err(), RevocationListError::Algorithm);
    for issuer in ["", "https://other.example", &format!("{ISSUER}/")] {
        assert_eq!(read_as(&good, issuer, NOW).unwrap_err(), RevocationListError::Issuer(issuer.to_owned()));
    }
    // It ends with the second that `exp` names, and it may be a minute ahead of our clock.
    assert!(read_as(&good, ISSUER, NOW + 3_599).is_ok());
    let expired = RevocationListError::Expired { expires_at: NOW + 3_600, now: NOW + 3_600 };
    assert_eq!(read_as(&good, ISSUER, NOW + 3_600).unwrap_err(), expired);
    assert!(read_as(&good, ISSUER, NOW - 70).is_ok());
    let early = RevocationListError::NotYetIssued { issued_at: NOW - 10, now: NOW - 71 };
    assert_eq!(read_as(&good, ISSUER, NOW - 71).unwrap_err(), early);
}

#[test]
fn an_older_list_does_not_follow_a_newer_one() {
    let at = |iat: u64| {
        let payload = encode_payload(ISSUER, iat, NOW + 3_600, [], &BTreeMap::new()).unwrap();
        read(&token_of("ES256", HEADER, &payload)).unwrap()
    };
    let held = at(NOW - 5);
    assert_eq!(at(NOW - 5).check_follows(&held), Ok(()));
    assert_eq!(at(NOW).check_follows(&held), Ok(()));
    let rollback = RevocationListError::Rollback { held: NOW - 5, found: NOW - 6 };
    assert_eq!(at(NOW - 6).check_follows(&held), Err(rollback));
}

#[test]
fn what_is_no_list() {
    let with =
        |ids: &str, rest: &str| format!(r#"{{"iss":"{ISSUER}","iat":{NOW},"exp":{},"ids":"{ids}"{rest}}}"#, NOW + 60);
    let one = b64([1; 8]);
    assert_eq!(read(&token_of("ES256", HEADER, &with(&one, ""))).unwrap().len(), 1);
    assert!(read(&token_of("ES256", HEADER, &with("", ""))).unwrap().is_empty());
    let two = |a: u8, b: u8| b64([[a; 8], [b; 8]].concat());
    assert_eq!(read(&token_of("ES256", HEADER, &with(&two(1, 2), ""))).unwrap().len(), 2);
    let rows = [
        (with(&two(2, 1), ""), "ascending"),
        (with(&two(1, 1), ""), "each once"),
        (with(&b64([1; 9]), ""), "whole ids"),
        (with(&b64([1; 7]), ""), "whole ids"),
        (with(&format!("{one}="), ""), "not base64url"),
        (with("*", ""), "not base64url"),
        (with(&one, r#","more":1"#), "not known here"),
        (with(&one, r#","ids":"""#), "duplicate"),
        (with(&one, r#","clients_before":[]"#), "\"clients_before\" is not of its type"),
        (with(&one, r#","clients_before":{"a":"1"}"#), "not a whole number"),
        (with(&one, r#","clients_before":{"a":-1}"#), "not a whole number"),
        (with(&one, r#","clients_before":{"a":1,"a":2}"#), "twice"),
        (with(&one, "").replace(&NOW.to_string(), "1.5"), "\"iat\" is not of its type"),
        (with(&one, "").replace(ISSUER, ""), "\"iss\" is empty"),
        (with(&one, "").replace(&(NOW + 60).to_string(), &NOW.to_string()), "\"exp\" is not after \"iat\""),
        (with(&one, "").replace("\"iss\"", "\"sub\""), "not known here"),
        (format!(r#"{{"iss":"{ISSUER}","iat":{NOW},"ids":""}}"#), "\"exp\" is missing"),
        ("[]".to_owned(), "not a JSON object"),
        ("{".to_owned(), "malformed"),
    ];
    for (payload, expected) in rows {
        let error = read(&token_of("ES256", HEADER, &payload)).unwrap_err();
        assert!(matches!(error, RevocationListError::Malformed(_)), "{payload}: {error}");
        let error = error.to_string();
        // The words of the JSON reader for a member twice are its own.
        let expected = if ["duplicate", "twice"].contains(&expected) { "member" } else { expected };
        assert!(error.contains(expected), "{payload}: {error}");
    }
    let critical = HEADER.replace("\"typ\"", "\"crit\":[\"x\"],\"typ\"");
    assert!(read(&token_of("ES256", &critical, &with(&one, ""))).is_err());
    for text in ["", "a.b.c", "a.b", "jti-1\njti-2", "...."] {
        assert!(matches!(read(text), Err(RevocationListError::Malformed(_))), "{text:?}");
    }
}

fn many(count: u64) -> impl Iterator<Item = RevokedId> {
    (0..count).map(|n| RevokedId::token(&n.to_string()))
}

#[test]
fn bounds() {
    let no_clients = BTreeMap::new();
    let full = encode_payload(ISSUER, NOW, NOW + 60, many(MAX_IDS as u64), &no_clients).unwrap();
    let text = token_of("ES256", HEADER, &full);
    assert!(text.len() < 14_300_000, "{}", text.len());
    let list = read(&text).unwrap();
    assert_eq!(list.len(), MAX_IDS);
    let error = encode_payload(ISSUER, NOW, NOW + 60, many(MAX_IDS as u64 + 1), &no_clients).unwrap_err();
    assert_eq!(error, RevocationListError::TooManyIds(MAX_IDS + 1));
    // A writer that does not care.
    let bytes: Vec<u8> = (0..=MAX_IDS as u64).flat_map(u64::to_be_bytes).collect();
    let one_more = format!(r#"{{"iss":"{ISSUER}","iat":{NOW},"exp":{},"ids":"{}"}}"#, NOW + 60, b64(&bytes));
    let error = read(&token_of("ES256", HEADER, &one_more)).unwrap_err();
    assert_eq!(error, RevocationListError::TooManyIds(MAX_IDS + 1));

    let clients = |count: usize| (0..count).map(|n| (format!("c{n}"), NOW)).collect::<BTreeMap<_, _>>();
    let payload = encode_payload(ISSUER, NOW, NOW + 60, [], &clients(MAX_CLIENTS_BEFORE)).unwrap();
    assert!(read(&token_of("ES256", HEADER, &payload)).is_ok());
    let error = encode_payload(ISSUER, NOW, NOW + 60, [], &clients(MAX_CLIENTS_BEFORE + 1)).unwrap_err();
    assert_eq!(error, RevocationListError::TooManyClients(MAX_CLIENTS_BEFORE + 1));

    assert_eq!(read(&"x".repeat(MAX_LIST_BYTES + 1)).unwrap_err(), RevocationListError::TooLarge);
    let long = BTreeMap::from([("x".repeat(MAX_LIST_BYTES / 4 * 3), NOW)]);
    let error = encode_payload(ISSUER, NOW, NOW + 60, [], &long).unwrap_err();
    assert_eq!(error, RevocationListError::TooLarge);
    assert!(matches!(encode_payload("", NOW, NOW + 1, [], &no_clients), Err(RevocationListError::Malformed(_))));
    assert!(matches!(encode_payload(ISSUER, NOW, NOW, [], &no_clients), Err(RevocationListError::Malformed(_))));
}

#[test]
fn whether_a_list_is_needed_is_known_before() {
    let world = world();
    let presents = |request| authz::credentials(&world.policies, &request, &workload()).is_presented();
    assert!(!presents(request("GET", "/")));
    assert!(!presents(with_header(request("GET", "/"), "authorization", "Basic eDp5")));
    assert!(presents(bearer(request("GET", "/"), &reader())));
    // What is refused whatever is revoked needs no list.
    assert!(!presents(bearer(request("GET", "/"), "x")));
    assert!(!presents(bearer(request("GET", "/"), &reader().replace('.', ""))));
    let stranger = token(&claims_of("reader", "a").replace(ISSUER, "https://other.example"));
    assert!(!presents(bearer(request("GET", "/"), &stranger)));
    assert!(presents(with_header(request("GET", "/"), "x-api-key", &crate::support::api_key("reader").0)));
    assert_eq!(world.policies.mode(), Mode::Strict);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// A list has exactly the ids that were put into it.
    #[test]
    fn a_list_has_exactly_its_ids(
        on in prop::collection::btree_set("[a-z0-9-]{1,12}", 0..60),
        others in prop::collection::btree_set("[a-z0-9-]{1,12}", 0..60),
    ) {
        let ids: Vec<RevokedId> = on.iter().map(|jti| RevokedId::token(jti)).collect();
        let list = list(&ids, &[]);
        prop_assert_eq!(list.len(), on.len());
        let mut world = world();
        world.revoked = Some(list);
        let all: BTreeSet<&String> = on.iter().chain(&others).collect();
        for jti in all.into_iter().take(24) {
            let token = token(&claims_of("reader", "a").replace("\"jti\":\"1\"", &format!("\"jti\":\"{jti}\"")));
            let decision = world.decide(&bearer(request("GET", "/"), &token), &workload());
            prop_assert_eq!(decision.is_allowed(), !on.contains(jti), "{}", jti);
        }
    }

    /// Whatever text it is: no panic, and no list without a signature.
    #[test]
    fn no_text_becomes_a_list_by_chance(payload in "\\PC{0,80}") {
        let (message, garbage) = (format!("{}.{}", b64(HEADER), b64(&payload)), b64([7; 64]));
        let text = format!("{message}.{garbage}");
        prop_assert!(read(&text).is_err());
        prop_assert!(read(&payload).is_err());
    }
}
