//! The demo, as a new user runs it.
#![allow(clippy::unwrap_used)]

use std::process::Command;

use serde_json::Value;

#[test]
fn every_request_of_the_demo_comes_out_as_it_must() {
    let output = Command::new(env!("CARGO_BIN_EXE_causeway")).args(["demo", "--json"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (summary, outcomes) = lines.split_last().unwrap();
    for outcome in outcomes {
        assert_eq!(outcome["ok"], true, "{outcome}");
    }
    assert_eq!(outcomes.len(), 15, "{text}");
    assert_eq!(summary["ok"], true, "{summary}");
    assert!(output.status.success());
    // What a person copies from the screen must open nothing.
    assert!(!text.contains("eyJhbGciOi"), "a token is printed");
}
