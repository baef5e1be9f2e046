//! What counts as the same, and the one list of what may differ.

use std::collections::BTreeMap;

use crate::client::Answer;
use crate::row::{Row, Unlike};
use crate::upstream::Seen;

/// What came of a row on one side.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Result<Answer, String>>,
    pub(crate) seen: Vec<Seen>,
}

/// Where a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// A header field of every answer.
    Answer,
    /// A header field of an answer that no service gave.
    OwnAnswer,
    /// A header field of a request upstream.
    Request,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It may be there or not.
    Presence,
    /// It is there on both sides or on none, with any value.
    Value,
}

/// All that may differ in any row.
const DIFFERENCES: &[(At, &str, How, &str)] = &[
    (At::Answer, "server", How::Presence, "Envoy overwrites it with its own name; here the service's stays"),
    (At::Answer, "date", How::Presence, "Envoy adds one where the service sent none, RFC 9110 6.6.1 lets it"),
    (At::Answer, "x-causeway-reason", How::Presence, "says why the extension answered itself"),
    (At::Answer, "x-envoy-upstream-service-time", How::Value, "it is a measured time"),
    (At::Answer, "connection", How::Presence, "each side's own connection"),
    (At::Answer, "transfer-encoding", How::Presence, "framing is each connection's own"),
    (At::OwnAnswer, "content-type", How::Presence, "the explanation is another text"),
    (At::OwnAnswer, "content-length", How::Presence, "the explanation is another text"),
    (At::Request, "x-request-id", How::Value, "it is random"),
    (At::Request, "connection", How::Presence, "each side's own connection"),
];

/// Reasons with which the extension answers in the words of a document, and not in its own.
const DOCUMENTED: [&str; 3] = ["redirect", "direct_response", "fault_injected"];

/// The answers of both sides, line by line, and which lines differ.
pub(crate) fn differences(row: &Row, extension: &Outcome, envoy: &Outcome) -> Vec<String> {
    // Both sides leave the explanation away where the extension has one of its own.
    let own: Vec<bool> = extension.answers.iter().map(is_own).collect();
    let (mut ours, mut theirs) = (describe(row, extension, &own), describe(row, envoy, &own));
    for (what, _) in &row.unlike {
        if let Unlike::Status(here, there) = what {
            for (lines, status) in [(&mut ours, here), (&mut theirs, there)] {
                let wanted = format!("status {status}");
                let answered = lines.iter().filter(|line| line.contains(": status "));
                let is_as_said = answered.clone().any(|line| line.ends_with(&wanted));
                let kept = |line: &String| !line.starts_with("answer ");
                if is_as_said {
                    lines.retain(kept);
                }
            }
        }
    }
    let only = |these: &[String], those: &[String], mark: &str| -> Vec<String> {
        let mut counted: BTreeMap<&String, i32> = BTreeMap::new();
        those.iter().for_each(|line| *counted.entry(line).or_default() += 1);
        let mut found = Vec::new();
        for line in these {
            let left = counted.entry(line).or_default();
            *left -= 1;
            if *left < 0 {
                found.push(format!("{mark} {line}"));
            }
        }
        found
    };
    let mut found = only(&ours, &theirs, "extension:");
    found.extend(only(&theirs, &ours, "Envoy:    "));
    found
}

fn is_own(answer: &Result<Answer, String>) -> bool {
    let reason = answer.as_ref().ok().and_then(|answer| answer.message.header("x-causeway-reason"));
    reason.is_some_and(|reason| !DOCUMENTED.contains(&reason))
}

fn describe(row: &Row, outcome: &Outcome, own: &[bool]) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, answer) in outcome.answers.iter().enumerate() {
        let own = own.get(number).copied().unwrap_or_default();
        let at = format!("answer {}", number + 1);
        match answer {
            Err(problem) => lines.push(format!("{at}: {problem}")),
            Ok(answer) => describe_answer(row, &at, answer, own, &mut lines),
        }
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    if row.unlike.iter().any(|(what, _)| *what == Unlike::Tries) {
        return lines;
    }
    let names = names(row, outcome);
    for seen in &outcome.seen {
        let name = names.get(seen.upstream.as_str()).map_or(seen.upstream.as_str(), String::as_str);
        let count = counts.entry(name).or_default();
        *count += 1;
        let at = if row.by_chance { "a request".to_owned() } else { format!("request {count} of {name}") };
        if row.by_chance {
            lines.push(format!("request {count} of {name}"));
        }
        describe_request(row, &at, seen, &mut lines);
    }
    lines
}

/// Where chance chooses, services are told apart by how many requests they got.
fn names(row: &Row, outcome: &Outcome) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    if row.by_chance {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        outcome.seen.iter().for_each(|seen| *counts.entry(&seen.upstream).or_default() += 1);
        let mut counts: Vec<(usize, &str)> = counts.into_iter().map(|(name, count)| (count, name)).collect();
        counts.sort_unstable();
        counts.reverse();
        for (place, (_, name)) in counts.into_iter().enumerate() {
            names.insert(name.to_owned(), format!("service {}", place + 1));
        }
    }
    names
}

fn describe_answer(row: &Row, at: &str, answer: &Answer, own: bool, lines: &mut Vec<String>) {
    let message = &answer.message;
    for interim in &answer.interim {
        lines.push(format!("{at}: interim {interim}"));
    }
    lines.push(format!("{at}: status {}", message.second_word()));
    for (name, value) in &message.headers {
        let is_left_out = row.unlike.iter().any(|(what, _)| matches!(what, Unlike::Answered(field) if field == name));
        match rule(At::Answer, name).or_else(|| rule(At::OwnAnswer, name).filter(|_| own)) {
            _ if is_left_out => {}
            Some(How::Presence) => {}
            Some(How::Value) => lines.push(format!("{at}: header {name}: any")),
            // Which service answered is compared by what the services saw.
            None if row.by_chance && name == "x-upstream" => lines.push(format!("{at}: header {name}: any")),
            None => lines.push(format!("{at}: header {name}: {value}")),
        }
    }
    let is_left_out = row.unlike.iter().any(|(what, _)| *what == Unlike::Body);
    if !own && !is_left_out {
        match row.by_chance {
            true => lines.push(format!("{at}: body of {} bytes", message.body.len())),
            false => lines.push(format!("{at}: body {}", shown(&message.body))),
        }
    }
    lines.push(format!("{at}: {}", if message.complete { "complete" } else { "cut off" }));
    message.trailers.iter().for_each(|(name, value)| lines.push(format!("{at}: trailer {name}: {value}")));
}

fn describe_request(row: &Row, at: &str, seen: &Seen, lines: &mut Vec<String>) {
    let message = &seen.message;
    lines.push(format!("{at}: {}", message.start));
    for (name, value) in &message.headers {
        let is_left_out = row.unlike.iter().any(|(what, _)| matches!(what, Unlike::Asked(field) if field == name));
        match rule(At::Request, name) {
            _ if is_left_out => {}
            Some(How::Presence) => {}
            Some(How::Value) => lines.push(format!("{at}: header {name}: any")),
            None => lines.push(format!("{at}: header {name}: {value}")),
        }
    }
    lines.push(format!("{at}: body {}", shown(&message.body)));
    lines.push(format!("{at}: {}", if message.complete { "complete" } else { "cut off" }));
    message.trailers.iter().for_each(|(name, value)| lines.push(format!("{at}: trailer {name}: {value}")));
}

fn rule(at: At, name: &str) -> Option<How> {
    DIFFERENCES.iter().find(|(where_, field, ..)| *where_ == at && *field == name).map(|(_, _, how, _)| *how)
}

/// A body, or its length where it is long.
fn shown(body: &[u8]) -> String {
    match body.len() {
        0..=200 => format!("{:?}", String::from_utf8_lossy(body)),
        length => format!("of {length} bytes, all the same: {}", body.windows(2).all(|pair| pair[0] == pair[1])),
    }
}
