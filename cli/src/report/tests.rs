#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::io::Cursor;

use serde_json::{Value, json};

use super::*;

fn line(changes: &Value) -> String {
    let mut line = json!({
        "ts": "2026-11-20T12:00:00.000Z", "event": "decision", "allowed": true, "status": 200,
        "reason": "allowed_by_policy", "policy": "ns[shop]-policy[web]-rule[0]", "principal": "https://i.example/a",
        "client_id": "a", "method": "GET", "path": "/x", "host": "shop.example", "hop": "destination",
    });
    for (name, value) in changes.as_object().unwrap() {
        line[name] = value.clone();
    }
    line.to_string()
}

fn shadow(path: &str, ts: &str) -> String {
    line(&json!({"shadow": true, "reason": "denied_no_match", "policy": null, "path": path, "ts": ts}))
}

fn report(text: &str) -> Report {
    let mut report = Report::default();
    let mut lines = Lines::new(Cursor::new(text.as_bytes()));
    while let Some(line) = lines.next_line().unwrap() {
        match line {
            Some(line) => report.add(line),
            None => report.overlong += 1,
        }
    }
    report
}

fn sums(report: &Report) -> Value {
    serde_json::from_str::<Value>(render::json(report).last().unwrap()).unwrap()["summary"].clone()
}

#[test]
fn what_is_counted_as_what() {
    let rows = [
        (json!({}), [0, 0, 0]),
        (json!({"shadow": true, "reason": "denied_no_match"}), [1, 0, 0]),
        (json!({"allowed": false, "reason": "denied_no_match"}), [0, 0, 1]),
        (json!({"dry_run_deny": "ns[a]-policy[b]-rule[0]"}), [0, 1, 0]),
        (json!({"dry_run_allow": "denied"}), [0, 1, 0]),
        (json!({"dry_run_allow": "ns[a]-policy[b]-rule[0]"}), [0, 0, 0]),
        (json!({"dry_run_deny": "r", "dry_run_allow": "denied"}), [0, 1, 0]),
        // What is denied anyway is not denied by a dry run as well.
        (json!({"allowed": false, "dry_run_deny": "r"}), [0, 0, 1]),
        (json!({"shadow": true, "dry_run_deny": "r"}), [1, 0, 0]),
        // What does not say that it was allowed was not.
        (json!({"allowed": "true"}), [0, 0, 0]),
        (json!({"allowed": "yes"}), [0, 0, 1]),
    ];
    for (changes, expected) in rows {
        let report = report(&line(&changes));
        assert_eq!((report.counts, report.decisions), (expected, 1), "{changes}");
        assert_eq!(report.would_deny(), expected[0] + expected[1], "{changes}");
    }
}

#[test]
fn groups_with_their_times_the_most_frequent_first() {
    let text = [
        shadow("/b", "2026-11-20T12:00:03.000Z"),
        shadow("/a", "2026-11-20T12:00:02.000Z"),
        shadow("/a", "2026-11-20T12:00:01.000Z"),
        line(
            &json!({"allowed": false, "reason": "token_expired", "policy": null, "principal": null, "client_id": null}),
        ),
    ];
    let report = report(&text.join("\n"));
    let first: Value = serde_json::from_str(&render::json(&report)[0]).unwrap();
    assert_eq!(
        first,
        json!({
            "verdict": "would_deny", "reason": "denied_no_match", "policy": "", "principal": "https://i.example/a",
            "client_id": "a", "method": "GET", "host": "shop.example", "path": "/a", "count": 2,
            "first": "2026-11-20T12:00:01.000Z", "last": "2026-11-20T12:00:02.000Z",
        })
    );
    let printed = render::text(&report, 20).join("\n");
    let expected =
        "4 decisions from 2026-11-20T12:00:00.000Z to 2026-11-20T12:00:03.000Z: 0 allowed, 3 let through by shadow \
                    mode, 1 denied; a dry-run policy would deny 0

Would be denied, and shadow mode let it through:
       3  denied_no_match, no policy: https://i.example/a
                 2  GET shop.example/a  2026-11-20T12:00:01.000Z … 2026-11-20T12:00:02.000Z
                 1  GET shop.example/b  2026-11-20T12:00:03.000Z … 2026-11-20T12:00:03.000Z

Was denied:
       1  token_expired, no policy: a caller who is not proven
                 1  GET shop.example/x  2026-11-20T12:00:00.000Z … 2026-11-20T12:00:00.000Z";
    assert_eq!(printed, expected);
    let short = render::text(&report, 1).join("\n");
    assert!(short.contains("and 1 more requests") && !short.contains("/b"), "{short}");
}

#[test]
fn lines_are_found_in_what_collectors_put_around_them() {
    let bare = shadow("/a", "2026-11-20T12:00:00.000Z");
    let message = |name: &str| json!({"timestamp": 1, name: bare}).to_string();
    let pretty = serde_json::to_string_pretty(&json!({"events": [{"message": bare}, {"message": "START"}]})).unwrap();
    let insights = json!({"results": [[{"field": "@timestamp", "value": "t"}, {"field": "@message", "value": bare}]]});
    for (name, text) in [
        ("bare", bare.clone()),
        ("aws logs tail", format!("2026-11-20T12:00:00.000000+00:00 2026/11/20/[$LATEST]0123456789abcdef {bare}")),
        ("aws logs tail --format short", format!("2026-11-20T12:00:00 {bare}")),
        ("kubectl --prefix", format!("[pod/adapter-0/adapter] {bare}")),
        ("the local stack", format!("     authorizer {bare}")),
        ("with a colour", format!("\u{1b}[2m     authorizer\u{1b}[0m {bare}")),
        ("an event", message("message")),
        ("a row of Insights", message("@message")),
        ("Docker", json!({"log": format!("{bare}\n"), "stream": "stdout"}).to_string()),
        (
            "Lambda's JSON",
            json!({"level": "INFO", "message": serde_json::from_str::<Value>(&bare).unwrap()}).to_string(),
        ),
        ("a list", json!({"events": [{"message": bare}]}).to_string()),
        ("a subscription", json!({"logGroup": "g", "logEvents": [{"id": "1", "message": bare}]}).to_string()),
        ("an array", json!([{"message": bare}]).to_string()),
        ("Insights", insights.to_string()),
        ("pretty", pretty),
        ("Windows", format!("{bare}\r")),
    ] {
        let report = report(&text);
        assert_eq!((report.decisions, report.counts), (1, [1, 0, 0]), "{name}: {text}");
    }
}

#[test]
fn what_is_no_decision_is_skipped_and_counted() {
    let deep = format!("{}{}{}", "{\"message\":".repeat(30), shadow("/a", ""), "}".repeat(30));
    let rows =
        ["START RequestId: 1", "{\"event\":\"metrics\"}", "{\"event\":\"decision\"", "{", "[[[[", "\u{0}", &deep];
    let report = report(&format!("{}\n\n  \n", rows.join("\n")));
    assert_eq!((report.decisions, report.skipped, report.damaged), (0, 5, 2));
    assert!(report.is_partial());
}

#[test]
fn decisions_are_found_wherever_collectors_put_them() {
    let line = shadow("/a", "");
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let fluent_bit = format!("{{\"log\":{}}}", text(&line));
    let in_cloudwatch = format!("{{\"logEvents\":[{{\"message\":{}}}]}}", text(&fluent_bit));
    let rows = [
        (format!("{line}{line}"), 2),
        (format!("{{\"logEvents\":[{{\"message\":\"x\"}}]}}{in_cloudwatch}{in_cloudwatch}"), 2),
        (in_cloudwatch.clone(), 1),
        (format!("2026-11-20T00:00:00Z stream/[$LATEST]1 {fluent_bit}"), 1),
    ];
    for (text, decisions) in rows {
        let report = report(&text);
        assert_eq!(
            (report.decisions, report.would_deny(), report.is_partial()),
            (decisions, decisions, false),
            "{text}"
        );
    }
}

#[test]
fn what_a_collector_has_made_text_of_counts() {
    let line = r#"{"event":"decision","allowed":"true","dry_run_deny":"ns[a]-policy[b]-rule[0]"}"#;
    let report = report(line);
    assert_eq!((report.counts, report.would_deny()), ([0, 1, 0], 1));
}

#[test]
fn everything_is_bounded() {
    let long = format!("{}\n{}\n", "x".repeat(lines::MAX_LINE + 1), shadow("/a", ""));
    let found = report(&long);
    assert_eq!((found.overlong, found.decisions), (1, 1));
    let mut found = Report::default();
    for path in 0..MAX_GROUPS + 3 {
        found.add(shadow(&path.to_string(), "").as_bytes());
    }
    found.add(shadow("0", "").as_bytes());
    assert_eq!((found.groups.len(), found.ungrouped, found.counts[0]), (MAX_GROUPS, 3, MAX_GROUPS as u64 + 4));
    assert_eq!(sums(&found)["not_listed"], 3);
    assert!(notes(&found)[0].contains("3 requests are counted, but not listed"));
}

#[test]
fn a_log_does_not_fill_the_memory() {
    let mut found = Report::default();
    // Texts that are longer than any of ours: two that begin alike are one.
    let long = format!("/{}", "\u{e4}".repeat(10_000));
    for path in [format!("{long}a"), format!("{long}b")] {
        found.add(shadow(&path, &long).as_bytes());
    }
    let [(group, tally)] = found.groups.iter().collect::<Vec<_>>()[..] else { panic!("{:?}", found.groups) };
    assert_eq!((group.path.len(), tally.count), (511, 2), "cut between two letters");
    assert!(tally.first.len() <= 40 && tally.last.len() <= 40 && found.all.last.len() <= 40, "{tally:?}");
    // And many of the longest.
    for path in 0..500 {
        found.add(shadow(&format!("/{path:0>511}"), "").as_bytes());
    }
    let held: usize = found.groups.keys().map(|group| group.path.len()).sum();
    assert!((MAX_BYTES / 2..MAX_BYTES).contains(&held), "{held}");
    assert_eq!(found.ungrouped + found.groups.len() as u64, 501);
    assert_eq!(found.counts[0], 502);
}

#[test]
fn a_client_cannot_write_to_the_terminal() {
    let printed = render::text(&report(&shadow("/\u{1b}[2J\n\u{9b}", "")), 20).join("|");
    assert!(!printed.contains(char::is_control), "{printed:?}");
}
