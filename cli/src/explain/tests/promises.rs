//! What explain promises is kept. For generated policies and requests each nearest change is read from its words, made to
//! the policy, the request or the token by this test, and the gate is asked again.

use std::cell::Cell;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::nearest::{Change, Outcome, Subject};
use super::{NOW, Style, Verdict, render};
use crate::explain::input::Asked;
use crate::explain::places::Places;
use crate::request_line::RequestLine;
use crate::session::Session;

const OWN: &str = "https://idp.example";

/// A configuration, a request line, and the claims of its token.
#[derive(Clone, Debug)]
struct Drawn {
    policies: Vec<Value>,
    request: Value,
    claims: Option<Map<String, Value>>,
}

// ---- what is drawn

/// Some of these fields, each with some of these values.
fn fields(of: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = Value> {
    let one = |(name, values): (&'static str, &'static [&'static str])| {
        subsequence(values, 1..=values.len().min(2)).prop_map(move |values| (name.to_owned(), json!(values)))
    };
    subsequence(of, 1..=2)
        .prop_flat_map(move |some| some.into_iter().map(one).collect::<Vec<_>>())
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

const SOURCES: &[(&str, &[&str])] = &[
    ("principals", &["cluster.local/ns/a/sa/one", "cluster.local/ns/b/*"]),
    ("notPrincipals", &["cluster.local/ns/a/sa/one", "*/sa/two"]),
    ("requestPrincipals", &["https://idp.example/*", "https://idp.example/client:a", "*", "*/client:b"]),
    ("notRequestPrincipals", &["https://idp.example/client:a", "*"]),
    ("namespaces", &["a", "b"]),
    ("remoteIpBlocks", &["203.0.113.0/24", "10.0.0.0/8"]),
    ("notRemoteIpBlocks", &["10.0.0.0/8", "203.0.113.7"]),
];

const OPERATIONS: &[(&str, &[&str])] = &[
    ("methods", &["GET", "POST", "P*"]),
    ("notMethods", &["GET", "DELETE"]),
    ("paths", &["/a", "/a/*", "*.css", "/x/{*}/y", "/z/{**}"]),
    ("notPaths", &["/a", "/b/*"]),
    ("hosts", &["a.example", "*.example", "b.*"]),
    ("notHosts", &["b.example"]),
    ("ports", &["80", "8080"]),
];

const KEYS: &[(&str, &[&str])] = &[
    ("request.auth.claims[scope]", &["read", "write"]),
    ("request.auth.claims[groups]", &["admins", "dev*"]),
    ("request.auth.claims[level]", &["3", "high"]),
    ("request.auth.claims[a][b]", &["c", "*"]),
    ("request.auth.audiences", &["shop", "other"]),
    ("request.auth.presenter", &["app", "web*"]),
    ("request.auth.principal", &["https://idp.example/client:b"]),
    ("request.headers[x-user]", &["alice", "b*"]),
    ("remote.ip", &["203.0.113.0/24"]),
    ("source.principal", &["cluster.local/ns/a/sa/one"]),
];

fn condition() -> impl Strategy<Value = Value> {
    (select(KEYS), any::<bool>()).prop_flat_map(|((key, values), negated)| {
        let list = if negated { "notValues" } else { "values" };
        subsequence(values, 1..=values.len()).prop_map(move |values| json!({"key": key, list: values}))
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let from = proptest::option::weighted(0.6, proptest::collection::vec(fields(SOURCES), 1..=2));
    let to = proptest::option::weighted(0.6, proptest::collection::vec(fields(OPERATIONS), 1..=2));
    let when = proptest::collection::vec(condition(), 0..=2);
    (from, to, when).prop_map(|(from, to, when)| {
        let mut rule = Map::new();
        let wrapped =
            |name: &str, all: Vec<Value>| json!(all.into_iter().map(|one| json!({name: one})).collect::<Vec<_>>());
        rule.extend(from.map(|from| ("from".to_owned(), wrapped("source", from))));
        rule.extend(to.map(|to| ("to".to_owned(), wrapped("operation", to))));
        if !when.is_empty() {
            rule.insert("when".to_owned(), json!(when));
        }
        Value::Object(rule)
    })
}

fn policies() -> impl Strategy<Value = Vec<Value>> {
    let policy = (any::<bool>(), proptest::collection::vec(rule(), 1..=2));
    proptest::collection::vec(policy, 1..=3).prop_map(|drawn| {
        let document = |(index, (deny, rules)): (usize, (bool, Vec<Value>))| {
            // The first one allows: without any, a workload is open and there is little to explain.
            let action = if deny && index > 0 { "DENY" } else { "ALLOW" };
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": format!("p{index}"), "namespace": "shop"}, "spec": {"action": action, "rules": rules}})
        };
        drawn.into_iter().enumerate().map(document).collect()
    })
}

fn claims() -> impl Strategy<Value = Map<String, Value>> {
    let member = |name: &'static str, values: Vec<Value>| {
        proptest::option::of(select(values)).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let fixed = json!({"iss": OWN, "exp": NOW + 600});
    (
        select(vec!["client:a", "client:b", "client:c"]),
        member("scope", vec![json!("read"), json!("read write"), json!("else")]),
        member("groups", vec![json!(["admins"]), json!(["dev-1", "ops"]), json!([])]),
        member("level", vec![json!(3), json!("3"), json!(true)]),
        member("a", vec![json!({"b": "c"}), json!({"b": 1}), json!("b")]),
        member("azp", vec![json!("app"), json!("web-1"), json!("cli")]),
        select(vec![json!("shop"), json!(["shop", "more"])]),
    )
        .prop_map(move |(sub, scope, groups, level, a, azp, aud)| {
            let mut claims = fixed.as_object().cloned().unwrap_or_default();
            claims.insert("sub".to_owned(), json!(sub));
            claims.insert("aud".to_owned(), aud);
            claims.extend([scope, groups, level, a, azp].into_iter().flatten());
            claims
        })
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let request = (
        select(vec!["GET", "POST", "DELETE"]),
        select(vec!["/a", "/a/1", "/b/1", "/x/1/y", "/s.css", "/z/"]),
        select(vec!["a.example", "b.example", "c.test"]),
        proptest::option::of(select(vec!["cluster.local/ns/a/sa/one", "cluster.local/ns/b/sa/two"])),
        select(vec!["203.0.113.7", "10.1.2.3", "192.0.2.1"]),
        proptest::option::of(select(vec!["alice", "bob", "carol"])),
    );
    let request = request.prop_map(|(method, path, host, peer, ip, user)| {
        let headers: Vec<[&str; 2]> = user.into_iter().map(|user| ["x-user", user]).collect();
        json!({"id": "1", "method": method, "path": path, "host": host, "headers": headers,
            "source": {"ip": ip, "principal": peer}, "destination": {"port": 8080},
            "workload": {"namespace": "shop", "labels": {"app": "web"}}})
    });
    (policies(), request, proptest::option::weighted(0.6, claims())).prop_map(|(policies, request, claims)| Drawn {
        policies,
        request,
        claims,
    })
}

// ---- what is asked

struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn jwks(&self) -> String {
        let point = self.0.public_key().as_ref();
        let (x, y) = (BASE64URL.encode(&point[1..33]), BASE64URL.encode(&point[33..]));
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k", "x": x, "y": y}]}).to_string()
    }

    fn token(&self, claims: &Map<String, Value>) -> String {
        let part = |json: String| BASE64URL.encode(json);
        let header = part(json!({"alg": "ES256", "kid": "k"}).to_string());
        let text = format!("{header}.{}", part(serde_json::to_string(claims).unwrap()));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64URL.encode(signature))
    }

    /// What explain says about a drawn request.
    fn ask(&self, drawn: &Drawn) -> (Verdict, Vec<Change>) {
        let mut documents = drawn.policies.clone();
        documents.push(json!({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
            "metadata": {"name": "idp", "namespace": "shop"},
            "spec": {"jwtRules": [{"issuer": OWN, "jwks": self.jwks(), "audiences": ["shop"]}]}}));
        let text = documents.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
        let resources = istio::parse(&[istio::SourceFile { name: "p.yaml".to_owned(), text }]).unwrap();
        let places = Places::of(&resources);
        let session = Session::of(resources, NOW).unwrap();
        let mut request = drawn.request.clone();
        if let Some(claims) = &drawn.claims {
            let line = json!(["authorization", format!("Bearer {}", self.token(claims))]);
            request["headers"].as_array_mut().unwrap().push(line);
        }
        let case = session.case(RequestLine::parse(request.to_string().as_bytes()).unwrap()).unwrap();
        let asked = Asked::Request { case: Box::new(case), front: false };
        crate::explain::explain(&session, &asked, &places, |explained| {
            let text = render::page(explained, true, Style::plain());
            assert!(!text.contains("eyJ"), "{text}");
            (explained.verdict.clone(), explained.nearest.to_vec())
        })
    }
}

// ---- how a change is made, from its words alone

/// `the policy were changed: add A to paths, and take B, C out of values of KEY in rule 0 of shop/p0 (p.yaml:1)`.
fn change_policy(drawn: &Drawn, text: &str) -> Drawn {
    let mut changed = drawn.clone();
    let (edits, place) = text.strip_prefix("the policy were changed: ").unwrap().rsplit_once(" in rule ").unwrap();
    let (index, name) = place.split_once(" of shop/").unwrap();
    let name = name.split(' ').next().unwrap();
    let policy = changed.policies.iter_mut().find(|policy| policy["metadata"]["name"] == name).unwrap();
    let rule = &mut policy["spec"]["rules"][index.parse::<usize>().unwrap()];
    for edit in edits.split(", and ") {
        let (add, rest) = match edit.strip_prefix("add ") {
            Some(rest) => (true, rest),
            None => (false, edit.strip_prefix("take ").unwrap()),
        };
        let (values, list) = rest.rsplit_once(if add { " to " } else { " out of " }).unwrap();
        let condition =
            list.split_once("alues of ").map(|(front, key)| (if front == "v" { "values" } else { "notValues" }, key));
        if let Some((list, key)) = condition {
            let conditions = rule["when"].as_array_mut().unwrap();
            let at = conditions.iter().position(|one| one["key"] == key && one.get(list).is_some()).unwrap();
            alter_list(&mut conditions[at], list, add, values);
            if conditions[at].as_object().unwrap().len() == 1 {
                conditions.remove(at);
            }
            if conditions.is_empty() {
                rule.as_object_mut().unwrap().remove("when");
            }
            continue;
        }
        let field = list.rsplit('.').next().unwrap();
        let (part, name) =
            if SOURCES.iter().any(|(name, _)| *name == field) { ("from", "source") } else { ("to", "operation") };
        let at = list.split_once('[').map_or(0, |(_, rest)| rest.split(']').next().unwrap().parse().unwrap());
        let object = &mut rule[part][at][name];
        alter_list(object, field, add, values);
        // Without conditions it takes everything.
        if object.as_object().unwrap().is_empty() {
            rule.as_object_mut().unwrap().remove(part);
        }
    }
    changed
}

fn alter_list(object: &mut Value, name: &str, add: bool, values: &str) {
    let list = object[name].as_array_mut().unwrap();
    if add {
        list.push(json!(values));
    } else {
        let taken: Vec<&str> = values.split(", ").collect();
        list.retain(|value| !taken.contains(&value.as_str().unwrap()));
    }
    if list.is_empty() {
        object.as_object_mut().unwrap().remove(name);
    }
}

/// `GET /a, host H, header N: V, no header N, peer P, client IP, a token with CLAIM VALUE and no CLAIM`.
fn change_request(drawn: &Drawn, example: &str) -> Drawn {
    let mut changed = drawn.clone();
    let request = &mut changed.request;
    let (front, token) = match example.split_once(", a token with ") {
        Some((front, token)) => (front, token),
        None => (example, ""),
    };
    let (line, rest) = front.split_once(", ").unwrap_or((front, ""));
    let (method, path) = line.split_once(' ').unwrap();
    request["method"] = json!(method);
    request["path"] = json!(path);
    for part in rest.split(", ").filter(|part| !part.is_empty()) {
        let (what, value) = part.split_once(' ').unwrap();
        match what {
            "host" => request["host"] = json!(value),
            "peer" => request["source"]["principal"] = json!(value),
            "client" => request["source"]["remote_ip"] = json!(value),
            "direct" => request["source"]["ip"] = json!(value.strip_prefix("peer ").unwrap()),
            "no" => request["headers"] = json!([]),
            "header" => request["headers"] = json!([value.split(": ").collect::<Vec<_>>()]),
            other => panic!("{other} in {example}"),
        }
    }
    if token.is_empty() {
        return changed;
    }
    let fresh = || json!({"iss": OWN, "sub": "x", "aud": ["shop"], "exp": NOW + 600}).as_object().cloned().unwrap();
    let mut claims = changed.claims.take().unwrap_or_else(fresh);
    for part in token.split(" and ") {
        let (name, value) = part.split_once(' ').unwrap();
        let path: Vec<&str> = if name == "no" { value.split('.').collect() } else { name.split('.').collect() };
        let (last, parents) = path.split_last().unwrap();
        let mut object = &mut claims;
        for parent in parents {
            object = object.entry(*parent).or_insert_with(|| json!({})).as_object_mut().unwrap();
        }
        let new = match (object.get(*last), name) {
            (_, "no") => {
                object.remove(*last);
                continue;
            }
            (Some(Value::Array(list)), _) => json!([&list[..], &[json!(value)]].concat()),
            (Some(Value::String(one)), "aud") => json!([one, value]),
            (Some(Value::String(words)), "scope") => json!(format!("{words} {value}")),
            _ => json!(value),
        };
        object.insert((*last).to_owned(), new);
    }
    changed.claims = Some(claims);
    changed
}

#[test]
fn what_would_be_allowed_is_allowed() {
    let issuer = Issuer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
    let counts: [Cell<u32>; 4] = Default::default();
    let config = Config { cases: 200, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&drawn(), |drawn| {
        let (verdict, changes) = issuer.ask(&drawn);
        prop_assert!(verdict.allowed == changes.is_empty() || !verdict.allowed, "{verdict:?}");
        for change in changes.iter().filter(|change| change.outcome != Outcome::PassesRule) {
            let changed = match (&change.example, change.of) {
                (Some(example), _) => change_request(&drawn, example),
                (None, Subject::Policy) => change_policy(&drawn, &change.text),
                (None, _) => continue,
            };
            let (again, _) = issuer.ask(&changed);
            prop_assert_eq!(again.allowed, change.outcome == Outcome::Allowed, "{:?}\n{:?}", change, again);
            let kind = match change.of {
                Subject::Policy => 0,
                Subject::Credential if drawn.claims.is_none() => 1,
                Subject::Credential => 2,
                _ => 3,
            };
            if again.allowed {
                counts[kind].set(counts[kind].get() + 1);
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    // Policies, fresh tokens, tokens with other claims, and requests were all tried.
    for (kind, count) in counts.iter().enumerate() {
        // About twenty each: none at all is no accident.
        assert!(count.get() > 0, "kind {kind} was never promised");
    }
}
