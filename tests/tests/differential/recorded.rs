//! What Envoy 1.40 was seen to do where its documentation and Istio's do not say so, one row each, asked of
//! both: an Envoy that changes it is noticed here, with its name.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use istio::{
    Action, AuthorizationPolicy, ClaimToHeader, Condition, ConditionKey, JwtHeader, JwtRule, Meta, Operation, Origin,
    RequestAuthentication, Rule, Source,
};
use serde_json::{Value, json};

use crate::call::{Call, PROBE, Place};
use crate::token::{ISSUERS, Keys, Oddity, Token};
use crate::translate::Setup;
use crate::world::Names;

/// One observation.
pub struct Row {
    /// Its number in the facts.
    pub item: &'static str,
    pub setup: Setup,
    pub call: Call,
    /// Envoy's status.
    pub status: u16,
    /// The path that the upstream sees.
    pub path: Option<&'static str>,
    /// Envoy's body.
    pub body: Option<&'static str>,
    /// `authz`' status, where it is meant to differ.
    pub ours: u16,
    /// The name of the peer that a front takes from the certificate, where the call's is only the client's.
    pub peer: Option<&'static str>,
}

/// Clients whose certificates have other names than one SPIFFE ID.
pub fn clients() -> Vec<(String, Names)> {
    let text = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    vec![
        (
            "two URIs".to_owned(),
            Names::Alternative(text(&["spiffe://x/ns/y/sa/z", "spiffe://cluster.local/ns/ns1/sa/a"]), Vec::new()),
        ),
        ("DNS".to_owned(), Names::Alternative(Vec::new(), text(&["client.example.com"]))),
        ("URI and DNS".to_owned(), Names::Alternative(text(&["spiffe://x/ns/y/sa/z"]), text(&["client.example.com"]))),
        ("subject".to_owned(), Names::Subject("client".to_owned())),
    ]
}

fn meta(name: &str) -> Meta {
    Meta {
        name: name.to_owned(),
        namespace: "ns1".to_owned(),
        namespace_given: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        origin: Origin::default(),
    }
}

fn policy(action: Action, rule: Rule) -> Setup {
    let policy = AuthorizationPolicy {
        meta: meta("p"),
        selector: None,
        target_refs: Vec::new(),
        action,
        provider: None,
        dry_run: false,
        rules: Some(vec![rule]),
    };
    Setup { policies: vec![policy], ..Setup::default() }
}

fn allow(rule: Rule) -> Setup {
    policy(Action::Allow, rule)
}

fn paths(path: &str) -> Rule {
    Rule { to: Some(vec![Operation { paths: vec![path.to_owned()], ..Operation::default() }]), ..Rule::default() }
}

fn when(key: ConditionKey, value: &str) -> Rule {
    let condition = Condition { key, values: vec![value.to_owned()], not_values: Vec::new() };
    Rule { when: Some(vec![condition]), ..Rule::default() }
}

fn header(name: &str, value: &str) -> Rule {
    when(ConditionKey::RequestHeader(name.to_owned()), value)
}

fn claim(name: &str, value: &str) -> Rule {
    when(ConditionKey::RequestAuthClaims(vec![name.to_owned()]), value)
}

fn from(source: Source) -> Rule {
    Rule { from: Some(vec![source]), ..Rule::default() }
}

fn principals(value: &str) -> Rule {
    from(Source { principals: vec![value.to_owned()], ..Source::default() })
}

/// `setup` with these JWT rules.
fn with(mut setup: Setup, jwt_rules: Vec<JwtRule>) -> Setup {
    setup.authentications =
        vec![RequestAuthentication { meta: meta("r"), selector: None, target_refs: Vec::new(), jwt_rules }];
    setup
}

fn jwt_rule(keys: &Keys, issuer: usize) -> JwtRule {
    JwtRule { issuer: ISSUERS[issuer].to_owned(), jwks: Some(keys.jwks(issuer)), ..JwtRule::default() }
}

fn at_header(mut rule: JwtRule, name: &str) -> JwtRule {
    rule.from_headers.push(JwtHeader { name: name.to_owned(), prefix: String::new() });
    rule
}

fn call(path: &str) -> Call {
    Call {
        method: "GET".to_owned(),
        host: "b.example.com".to_owned(),
        path: path.to_owned(),
        headers: Vec::new(),
        tokens: Vec::new(),
        metadata: Vec::new(),
        principal: None,
        sni: None,
        source_ip: Ipv4Addr::LOCALHOST,
        remote_ip: IpAddr::from([203, 0, 113, 7]),
        destination_ip: IpAddr::from([10, 9, 8, 7]),
        destination_port: 8080,
    }
}

fn lines(headers: &[(&str, &str)]) -> Call {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Call { headers, ..call("/") }
}

fn peer(name: &str) -> Call {
    Call { principal: Some(name.to_owned()), ..call("/") }
}

fn token(issuer: usize, oddity: Oddity, changes: Value, now: u64) -> Token {
    let mut claims = json!({"iss": ISSUERS[issuer], "sub": "s", "exp": now + 36_000});
    for (name, value) in changes.as_object().unwrap() {
        claims[name.as_str()] = value.clone();
    }
    let mut claims = claims.as_object().unwrap().clone();
    claims.retain(|_, value| !value.is_null());
    Token { issuer, claims, oddity }
}

/// All observations.
pub fn rows(keys: &Keys, now: u64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |item: &'static str, setup: Setup, call: Call, status: u16| {
        rows.push(Row { item, setup, call, status, path: None, body: None, ours: status, peer: None });
        rows.len() - 1
    };
    let bearer = || Place::Header("Authorization".to_owned(), "Bearer ".to_owned());
    let carrying = |place: Place, tokens: Vec<Token>| Call {
        tokens: tokens.into_iter().map(|token| (place.clone(), token)).collect(),
        ..call("/")
    };
    let good = |issuer: usize| token(issuer, Oddity::None, json!({}), now);
    let bad = |issuer: usize| token(issuer, Oddity::BadSignature, json!({}), now);
    let odd = |oddity: Oddity| carrying(bearer(), vec![token(0, oddity, json!({}), now)]);
    let claiming = |changes: Value| carrying(bearer(), vec![token(0, Oddity::None, changes, now)]);
    let first = || vec![jwt_rule(keys, 0)];

    // 1: dot segments with parameters
    let mut seen = Vec::new();
    for (sent, upstream) in
        [("/a/..;/b", "/b"), ("/a/..;x=1/b", "/b"), ("/a/.;x/b", "/a/b"), ("/a/%2e%2e;/b", "/a/..;/b")]
    {
        seen.push((row("1", Setup::default(), call(sent), 200), upstream));
    }

    // 2: `*` and `=` in templates
    for (template, path) in [("/t/{*}", "/t/*"), ("/t/{*}", "/t/a=b"), ("/t/{**}", "/t/a/*"), ("/t/{**}", "/t/a=b/c")] {
        row("2", allow(paths(template)), call(path), 200);
    }

    // 3: repeated header lines
    let two = [("x-a", "a"), ("x-a", "b")];
    row("3", allow(header("x-a", "b")), lines(&two), 200);
    row("3", allow(header("x-a", "a,b")), lines(&two), 403);
    row("3", allow(header("x-a", "a")), lines(&[("x-a", "a,b")]), 403);
    row("3", policy(Action::Deny, header("x-a", "b")), lines(&two), 403);
    row("3", policy(Action::Deny, header("x-a", "a,b")), lines(&two), 200);

    // 4: the token is gone before the policies look
    let any = || allow(header("authorization", "*"));
    row("4", with(any(), first()), carrying(bearer(), vec![good(0)]), 403);
    let forwarding = vec![JwtRule { forward_original_token: true, ..jwt_rule(keys, 0) }];
    row("4", with(any(), forwarding), carrying(bearer(), vec![good(0)]), 200);
    row("4", with(any(), first()), lines(&[("authorization", "Basic x")]), 200);
    let mut both = carrying(bearer(), vec![good(0)]);
    both.headers.push(("authorization".to_owned(), "Basic x".to_owned()));
    row("4", with(any(), first()), both.clone(), 403);
    let query =
        Call { path: "/q?a=1".to_owned(), ..carrying(Place::Parameter("access_token".to_owned()), vec![good(0)]) };
    seen.push((row("4", with(Setup::default(), first()), query, 200), "/q?a=1"));

    // 5: repeated lines of tokens
    row("5", with(Setup::default(), first()), carrying(bearer(), vec![good(0), good(0)]), 401);
    row("5", with(Setup::default(), first()), both, 200);
    let mut other_order = lines(&[("authorization", "Bearer TOKEN"), ("authorization", "Basic x")]);
    other_order.headers[0].1 = format!("Bearer {}", keys.text(&good(0)));
    row("5", with(Setup::default(), first()), other_order, 401);
    let own = || Place::Header("x-jwt".to_owned(), String::new());
    let one_rule = || vec![at_header(jwt_rule(keys, 0), "x-jwt")];
    let two_rules = vec![at_header(jwt_rule(keys, 0), "x-jwt"), at_header(jwt_rule(keys, 1), "x-jwt")];
    row("5", with(Setup::default(), one_rule()), carrying(own(), vec![good(0), good(0)]), 200);
    row("5", with(Setup::default(), one_rule()), carrying(own(), vec![good(0), bad(0)]), 401);
    row("5", with(Setup::default(), one_rule()), carrying(own(), vec![bad(0), good(0)]), 401);
    let passing = row("5", with(Setup::default(), two_rules), carrying(own(), vec![bad(0), good(0)]), 200);

    // 6: empty tokens
    row("6", with(Setup::default(), first()), call("/?access_token="), 401);
    row("6", with(Setup::default(), first()), lines(&[("authorization", "Bearer")]), 200);

    // 7: the text of a token
    for (oddity, status) in [
        (Oddity::LeadingDot, 200),
        (Oddity::TrailingDot, 200),
        (Oddity::DoubledDot, 200),
        (Oddity::Padding, 200),
        (Oddity::DuplicateClaim, 401),
        (Oddity::TrailingBytes, 401),
        (Oddity::Crit, 200),
        (Oddity::B64, 200),
        (Oddity::TypNumber, 200),
    ] {
        row("7", with(Setup::default(), first()), odd(oddity), status);
    }
    let deep: Value = (0..400).fold(json!(1), |inner, _| json!([inner]));
    row("7", with(Setup::default(), first()), claiming(json!({"deep": deep})), 401);
    row("7", with(Setup::default(), first()), claiming(json!({"exp": 0})), 200);
    row("7", with(Setup::default(), first()), claiming(json!({"exp": null})), 200);

    // 8: white space in claims
    row("8", with(allow(claim("scope", "b")), first()), claiming(json!({"scope": "a b"})), 200);
    row("8", with(allow(claim("scope", "b")), first()), claiming(json!({"scope": "a\tb"})), 403);
    row("8", with(allow(claim("role", "*")), first()), claiming(json!({"role": "a b"})), 200);
    row("8", with(allow(claim("role", "*")), first()), claiming(json!({"role": "a\nb"})), 403);
    let anybody = || allow(from(Source { request_principals: vec!["*".to_owned()], ..Source::default() }));
    row("8", with(anybody(), first()), claiming(json!({})), 200);
    row("8", with(anybody(), first()), claiming(json!({"sub": "s\nt"})), 403);
    let any_issuer = vec![JwtRule { issuer: String::new(), ..jwt_rule(keys, 0) }];
    row("8", with(anybody(), any_issuer), claiming(json!({"iss": "i\nj"})), 403);

    // 9: namespaces look at the whole URI
    let namespace = |name: &str| allow(from(Source { namespaces: vec![name.to_owned()], ..Source::default() }));
    row("9", namespace("ns1"), peer("ns/ns1/sa/a"), 200);
    row("9", namespace("ns2"), peer("ns/ns1/sa/a"), 403);

    // 10: names of a certificate
    let mut names = Vec::new();
    for (client, pattern, taken, status) in [
        ("two URIs", "cluster.local/ns/ns1/sa/a", "cluster.local/ns/ns1/sa/a", 200),
        ("two URIs", "x/ns/y/sa/z", "x/ns/y/sa/z", 200),
        ("DNS", "*", "client.example.com", 200),
        ("DNS", "client.example.com", "client.example.com.", 403),
        ("URI and DNS", "*", "x/ns/y/sa/z", 200),
        ("subject", "*", "CN=client", 200),
        ("subject", "*client", "CN=x", 403),
    ] {
        names.push((row("10", allow(principals(pattern)), peer(client), status), taken));
    }

    // 11: the body of a denial
    let body = row("11", allow(paths("/nowhere")), call("/"), 403);

    // 12: `authorization` is one line, to which empty lines add nothing
    let authorization = |value: &str| header("authorization", value);
    for (sent, value, status) in [
        (["a", "b"], "a,b", 200),
        (["a", "b"], "a", 403),
        (["a", "b"], "b", 403),
        (["", "b"], "b", 200),
        (["a", ""], "a", 200),
    ] {
        let sent = lines(&[("authorization", sent[0]), ("x-a", "v"), ("Authorization", sent[1])]);
        row("12", allow(authorization(value)), sent.clone(), status);
        row("12", policy(Action::Deny, authorization(value)), sent, if status == 200 { 403 } else { 200 });
    }
    row("12", allow(header("origin", "a,b")), lines(&[("origin", "a"), ("Origin", "b")]), 200);
    row("12", allow(header("cookie", "b=2")), lines(&[("cookie", "a=1"), ("Cookie", "b=2")]), 200);

    // 13: without the token the rest of the query is sorted and decoded
    for (rest, upstream) in [
        ("b=1&a=2", "/q?a=2&b=1"),
        ("/../c", "/q?/../c="),
        ("a&a=1&a", "/q?a=&a=1&a="),
        ("x=%2541%26y%3d1", "/q?x=%41&y=1"),
        ("a=%4&%74=b=c", "/q?a=%4&t=b=c"),
        ("&&=x", "/q?=&=&=x"),
    ] {
        let asked =
            Call { path: format!("/q?{rest}"), ..carrying(Place::Parameter("access_token".to_owned()), vec![good(0)]) };
        seen.push((row("13", with(Setup::default(), first()), asked, 200), upstream));
    }
    let asked =
        Call { path: "/q?x=%0a".to_owned(), ..carrying(Place::Parameter("access_token".to_owned()), vec![good(0)]) };
    let unsendable = row("13", with(Setup::default(), first()), asked, 503);

    // 14: the last error that is not about the issuer, that of the second round included, which ends at its first; a wrong
    // audience is 403
    let at = |issuer: usize, name: &str| {
        at_header(JwtRule { audiences: vec!["aud1".to_owned()], ..jwt_rule(keys, issuer) }, name)
    };
    let three = || vec![at(0, "x-1"), at(0, "x-2"), at(1, "x-3")];
    let for_aud1 = |issuer: usize, oddity: Oddity| token(issuer, oddity, json!({"aud": "aud1"}), now);
    let elsewhere = || token(0, Oddity::None, json!({"aud": "x"}), now);
    for (tokens, status) in [
        (vec![("x-1", elsewhere())], 403),
        (vec![("x-1", for_aud1(0, Oddity::BadSignature)), ("x-2", elsewhere())], 401),
        (vec![("x-1", elsewhere()), ("x-2", for_aud1(0, Oddity::BadSignature))], 403),
        (vec![("x-2", elsewhere()), ("x-3", for_aud1(0, Oddity::None))], 403),
        (vec![("x-2", elsewhere()), ("x-3", for_aud1(1, Oddity::BadSignature))], 403),
    ] {
        let tokens =
            tokens.into_iter().map(|(name, token)| (Place::Header(name.to_owned(), String::new()), token)).collect();
        row("14", with(Setup::default(), three()), Call { tokens, ..call("/") }, status);
    }

    // 15: a verified token takes effect at once, even where its rule fails for another one
    let claim_to = |mut rule: JwtRule, header: &str| {
        rule.output_claim_to_headers = vec![ClaimToHeader { header: header.to_owned(), claim: "sub".to_owned() }];
        rule
    };
    let two = || vec![claim_to(jwt_rule(keys, 0), "x-0"), claim_to(jwt_rule(keys, 1), "x-1")];
    let parameter = || Place::Parameter("access_token".to_owned());
    for (in_header, in_query, status) in [(good(0), good(1), 200), (good(1), good(0), 200), (good(0), bad(1), 401)] {
        let asked = Call { tokens: vec![(bearer(), in_header), (parameter(), in_query)], ..call("/q") };
        row("15", with(Setup::default(), two()), asked, status);
    }
    let mut both = at_header(jwt_rule(keys, 0), "x-jwt");
    both.from_headers.push(JwtHeader { name: "Authorization".to_owned(), prefix: "Bearer ".to_owned() });
    let rules = || vec![claim_to(both.clone(), "x-0"), claim_to(jwt_rule(keys, 1), "x-1")];
    let asked = Call { tokens: vec![(own(), good(0)), (bearer(), good(1))], ..call("/") };
    row("15", with(Setup::default(), rules()), asked, 200);
    // The header goes with the good token, and what was made of it when its rule is asked again.
    let prefixed = |prefix: &str| JwtHeader { name: "authorization".to_owned(), prefix: prefix.to_owned() };
    let twice =
        JwtRule { from_headers: vec![prefixed("Bearer "), prefixed("JWT ")], ..claim_to(jwt_rule(keys, 0), "x-0") };
    let mut hidden = lines(&[("authorization", "Bearer x")]);
    hidden.tokens.push((Place::Header("authorization".to_owned(), "JWT ".to_owned()), good(0)));
    let hiding = row("15", with(Setup::default(), vec![twice, jwt_rule(keys, 1)]), hidden, 200);

    // 16: output headers are never the client's own, whichever rule is asked
    let spoofed = |tokens: Vec<Token>| {
        let headers = ["x-0", "x-1"].map(|name| (name.to_owned(), "spoofed".to_owned())).to_vec();
        Call { headers, ..carrying(bearer(), tokens) }
    };
    for tokens in [vec![], vec![good(0)], vec![good(1)]] {
        row("16", with(Setup::default(), two()), spoofed(tokens.clone()), 200);
        row("16", with(policy(Action::Deny, header("x-1", "spoofed")), two()), spoofed(tokens), 200);
    }

    // 17: dynamic metadata
    let probe =
        |value: &str| when(ConditionKey::EnvoyFilter { filter: PROBE.to_owned(), path: vec!["k".to_owned()] }, value);
    for (value, said, status) in [
        ("v", json!("v"), 200),
        ("v", json!(["v"]), 403),
        ("[v]", json!(["x", "v"]), 200),
        ("[v]", json!("v"), 403),
        ("*", json!(""), 403),
    ] {
        row("17", allow(probe(value)), Call { metadata: vec![("k".to_owned(), said)], ..call("/") }, status);
    }
    row("17", allow(probe("*")), call("/"), 403);

    for (index, path) in seen {
        rows[index].path = Some(path);
    }
    for (index, taken) in names {
        rows[index].peer = Some(taken);
    }
    for hidden in [passing, hiding] {
        rows[hidden].ours = 401;
    }
    rows[unsendable].ours = 400;
    rows[body].body = Some("RBAC: access denied");
    rows
}
