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
fn a_denial_does_not_hide_behind_a_decision_that_can_be_read() {
    let (good, bad) = (line(&json!({})), shadow("/a", ""));
    let cut = bad.split_once("shadow").unwrap().0;
    let text = |text: &str| serde_json::to_string(text).unwrap();
    let escaped = |text: &str| text.replace('"', "\\u0022");
    // The line, what it would deny, and whether some of it cannot be read.
    let rows = [
        (format!("{good}{cut}"), 0, true),
        (format!("{good} 2026-11-20T12:00:00 {bad}"), 1, false),
        (format!("{good}x{bad}"), 1, false),
        (format!("{{\"logEvents\":[{{\"message\":\"x\"}}]}} , {{\"message\":{}}}", text(&bad)), 1, false),
        (format!("{{\"message\":{}}}", text(&format!("{good}\n2026 {bad}"))), 1, false),
        (json!({"logEvents": [{"message": good}, {"message": cut}]}).to_string(), 0, true),
        (json!({"logEvents": [{"message": good}, {"body": bad}]}).to_string(), 0, true),
        (json!({"message": serde_json::from_str::<Value>(&good).unwrap(), "log": cut}).to_string(), 0, true),
        // The outer value is cut off, and those in it are not.
        (format!("{{\"logEvents\":[{{\"message\":{}}},{{\"message\":{}}},{{", text(&good), text(&bad)), 1, false),
        (format!("[a] [b] {good} [c] {bad}"), 1, false),
    ];
    for (text, would_deny, is_partial) in rows {
        let report = report(&text);
        assert_eq!((report.would_deny(), report.is_partial()), (would_deny, is_partial), "{text}");
        assert_eq!(sums(&report)["damaged_lines"], u64::from(is_partial), "{text}");
        assert!(report.decisions > 0 && report.skipped == 0, "{text}");
    }
    // Cut off in the middle of the word, or written with tabs.
    for cut in [
        "{\"ts\":\"2026\",\"event\":\"decisi",
        "{\"ts\":\"2026\",\"ev",
        "{\"event\"\t:\t\"decision\",\"shadow\":true,",
        &format!("{{\"log\": \"{}", escaped("{\"event\": \"decis")),
    ] {
        let report = report(&format!("{good}\n{cut}\n"));
        assert_eq!((report.decisions, report.damaged, report.skipped), (1, 1, 0), "{cut}");
    }
    // What says it of itself, in the texts of a decision and elsewhere, is none.
    let path = line(&json!({"path": "/\"event\":\"decision\"", "detail": "{\"event\":\"decision\",\"shadow\":true}"}));
    let insights = json!({"results": [[{"field": "event", "value": "decision"}]]}).to_string();
    for harmless in [path.as_str(), &insights, "an unknown \"event\"", "{\"ev\":1}", "{\"a\":\"event\"}"] {
        let report = report(harmless);
        assert_eq!((report.would_deny(), report.is_partial()), (0, false), "{harmless}");
    }
}

#[test]
fn a_client_s_text_does_not_make_work_without_end() {
    // Each text is looked at once, however many values stand in front of the next one: seven times for each of them, and
    // there would be no end of it.
    let nested = |levels: usize, inmost: &str| {
        (0..levels).fold(inmost.to_owned(), |text, _| {
            format!("{}{{\"message\":{}}}", "[0]".repeat(7), serde_json::to_string(&text).unwrap())
        })
    };
    let bad = shadow("/a", "");
    let found = report(&nested(4, &bad));
    assert_eq!((found.would_deny(), found.is_partial()), (1, false));
    // Deeper than that is not looked into, and is not taken for nothing.
    for (levels, inmost, is_partial) in [(9, bad.as_str(), true), (9, "decision", false)] {
        let found = report(&nested(levels, inmost));
        assert_eq!((found.decisions, found.is_partial()), (0, is_partial), "{levels} {inmost}");
    }
    // Brackets that begin nothing, each of which may be followed by a value that is read to its end.
    let flood = format!("{}{}", "[\"".repeat(1_000), "x".repeat(1_000));
    for (text, decisions, is_partial) in [
        (flood.clone(), 0, false),
        (format!("{flood} {bad}"), 0, true),
        (format!("{bad}{flood}"), 1, false),
        ("[".repeat(10_000), 0, false),
        ("{\"a\":".repeat(10_000), 0, false),
    ] {
        let found = report(&text);
        assert_eq!((found.decisions, found.is_partial()), (decisions, is_partial), "{text}");
    }
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
    let path = "/\u{1b}[2J\n\u{7f}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}\u{e0041}\u{e4}";
    let found = report(&shadow(path, ""));
    let is_plain =
        |text: &str| !text.chars().any(|c| c.is_control() || ('\u{2000}'..='\u{2fff}').contains(&c) && c != '…');
    let printed = render::text(&found, 20).join("|");
    assert!(is_plain(&printed), "{printed:?}");
    let lines = render::json(&found);
    assert!(lines.iter().all(|line| is_plain(line) && !line.contains(['\u{feff}', '\u{e0041}'])), "{lines:?}");
    // And a program reads what it was.
    assert_eq!(serde_json::from_str::<Value>(&lines[0]).unwrap()["path"], path);
    assert!(lines[0].contains("\\u009b31m\\u202e") && lines[0].contains("\\udb40\\udc41\u{e4}"), "{}", lines[0]);
}
