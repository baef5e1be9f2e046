//! Real events with one thing wrong: each field removed, each field of another type, anything else anywhere. The answer is
//! that of the whole event, where the field has no part in the decision, or a denial; never a crash, never an allow by
//! chance.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use support::issuer::reader;
use support::{Down, KINDS, World, fixture, with_header, with_token};

fn world() -> World {
    World::with(Arc::new(Down), |config| config)
}

fn good(world: &World, name: &str) -> Value {
    with_token(fixture(name), &world.issuer.token(&reader()))
}

/// Whether an answer lets anybody in; the error `Unauthorized` does not.
fn allows(answer: Option<&Value>) -> bool {
    answer.is_some_and(|answer| {
        answer["isAuthorized"] == true || answer["policyDocument"]["Statement"].to_string().contains("Allow")
    })
}

/// Every place in an event: members of objects and elements of lists.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, member)| (name.clone(), member)).collect(),
        Value::Array(list) => list.iter().enumerate().map(|(at, element)| (at.to_string(), element)).collect(),
        _ => return,
    };
    for (name, member) in members {
        let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places(member, &pointer, found);
        found.push(pointer);
    }
}

fn removed(mut event: Value, pointer: &str) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match event.pointer_mut(parent).unwrap() {
        Value::Object(members) => members.remove(&name.replace("~1", "/").replace("~0", "~")),
        Value::Array(list) => Some(list.remove(name.parse().unwrap())),
        _ => None,
    }
    .unwrap();
    event
}

/// What a decision came to: everything but the time it took and what was asked.
fn decided(line: &Value) -> [&Value; 6] {
    ["allowed", "reason", "policy", "principal", "path", "hop"].map(|field| &line[field])
}

#[tokio::test]
async fn each_field_in_turn() {
    let world = world();
    let mut tried = 0;
    for name in KINDS {
        let event = good(&world, name);
        let (answer, baseline) = world.ask(&event).await;
        assert!(allows(answer.as_ref()), "{name}: {baseline}");
        let mut all = Vec::new();
        places(&event, "", &mut all);
        for pointer in &all {
            let others = [json!(null), json!(1), json!(""), json!([]), json!({})];
            let set = others.into_iter().map(|other| {
                let mut event = event.clone();
                *event.pointer_mut(pointer).unwrap() = other;
                event
            });
            for changed in set.chain([removed(event.clone(), pointer)]) {
                tried += 1;
                let (answer, line) = world.ask(&changed).await;
                assert_ne!(line["reason"], "internal", "{name} {pointer}");
                assert_eq!(line["allowed"].as_bool(), Some(allows(answer.as_ref())), "{name} {pointer}");
                if allows(answer.as_ref()) {
                    // The one thing that may differ is a query, which is not in the line.
                    assert_eq!(
                        decided(&line),
                        decided(&baseline),
                        "{name} {pointer} {}",
                        changed.pointer(pointer).is_some()
                    );
                    let arn =
                        |event: &Value| event["methodArn"].as_str().or(event["routeArn"].as_str()).map(str::to_owned);
                    assert_eq!(arn(&changed), arn(&event), "{name} {pointer}");
                }
            }
        }
    }
    assert!(tried > 1_500, "{tried}");
}

#[tokio::test]
async fn headers_that_are_odd() {
    let world = world();
    for name in KINDS.into_iter().filter(|name| *name != "rest-token") {
        let event = good(&world, name);
        for (what, value, allowed) in [
            ("without a value", Value::Null, false),
            ("with bytes outside ASCII", json!("caf\u{e9} \u{fffd}"), true),
            ("with a line break", json!("a\r\nx-admin: true"), false),
            ("empty", json!(""), true),
            ("of 10 KB", json!("x".repeat(10_240)), true),
            ("of 64 KB", json!("x".repeat(65_536)), false),
        ] {
            let mut event = event.clone();
            event["headers"]["x-odd"] = value;
            let (answer, line) = world.ask(&event).await;
            assert_eq!(allows(answer.as_ref()), allowed, "{name}: a header {what}: {line}");
        }
        // Two tokens, joined or in two lines, are one malformed token.
        let token = world.issuer.token(&reader());
        let twice = with_header(event.clone(), "authorization", &format!("Bearer {token},Bearer {token}"));
        assert_eq!(world.ask(&twice).await.1["reason"], "token_malformed", "{name}");
        if event.get("multiValueHeaders").is_some() {
            let mut lines = event.clone();
            lines["multiValueHeaders"]["Authorization"] = json!([format!("Bearer {token}"), format!("Bearer {token}")]);
            assert_eq!(world.ask(&lines).await.1["reason"], "token_malformed", "{name}");
        }
    }
}

#[tokio::test]
async fn text_at_and_beyond_the_limits() {
    let world = world();
    for name in KINDS {
        let mut event = good(&world, name);
        event["padding"] = "".into();
        let room = authorizer::event::MAX_EVENT - event.to_string().len();
        for (more, allowed) in [(0, true), (1, false)] {
            event["padding"] = "x".repeat(room + more).into();
            let (answer, line) = world.ask(&event).await;
            assert_eq!(allows(answer.as_ref()), allowed, "{name}: {line}");
        }
        // Nesting that would overflow the stack of a parser that follows it.
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let text = good(&world, name).to_string();
        for text in [
            text.replacen('{', &format!("{{\"deep\":{deep},"), 1),
            text.replacen('{', "{\"half\":\"\\ud800\",", 1),
            deep.clone(),
        ] {
            let answer = world.authorizer.authorize(&text).await.map(|a| serde_json::to_value(a).unwrap()).ok();
            let line = world.decision();
            assert_eq!(line["allowed"].as_bool(), Some(allows(answer.as_ref())), "{name}: {line}");
            assert_ne!(line["reason"], "internal", "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Some places hold what other places of any example hold.
    #[test]
    fn examples_mixed_up(
        name in prop::sample::select(KINDS.to_vec()),
        moves in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(KINDS.to_vec()), any::<prop::sample::Index>()), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let world = world();
        // Without a credential, so that nothing can open it but a place that is open to all.
        let mut event = fixture(name);
        for (to, other, from) in moves {
            let source = fixture(other);
            let (mut here, mut there) = (Vec::new(), Vec::new());
            places(&event, "", &mut here);
            places(&source, "", &mut there);
            if let (false, Some(value)) = (here.is_empty(), source.pointer(from.get(&there).as_str()).cloned()) {
                *event.pointer_mut(to.get(&here).as_str()).unwrap() = value;
            }
        }
        let (answer, line) = runtime.block_on(world.ask(&event));
        prop_assert!(!allows(answer.as_ref()), "{}", event);
        prop_assert_ne!(&line["reason"], "internal");
    }
}
