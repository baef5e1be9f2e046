//! What counts as the same, and the list of what may differ in any row.

use std::collections::BTreeMap;

use crate::client::Answer;
use crate::row::Row;
use crate::upstream::Seen;

/// What came of a row on one side.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) answers: Vec<Result<Answer, String>>,
    pub(crate) seen: Vec<Seen>,
}

/// Lines that may be on one side alone, and why; a star stands for any text. What a single row may do otherwise stands
/// with the row.
const DIFFERENCES: &[(&str, &str)] = &[
    ("*: answer *: header server: *", "Envoy overwrites it with its own name; here the service's stays"),
    ("*: answer *: header date: *", "both write the time where the service does not, each its own"),
    ("extension: answer *: header x-causeway-reason: *", "says why the extension answered itself"),
    ("*: header connection: *", "each side's own connection"),
    ("*: answer *: header transfer-encoding: *", "framing is each connection's own"),
    (
        "Envoy: request * HTTP/1.1 *: header te: trailers",
        "RFC 9110 10.1.4: TE is for one connection; an HTTP/2 service of gRPC gets it here too",
    ),
    (
        "Envoy: request *: header proxy-auth*",
        "RFC 9110 11.7: credentials for a proxy are for this one, and nobody else's business",
    ),
    (
        "Envoy: request *: header content-length: 0",
        "Envoy writes the length of no body; a request without one has none (RFC 9112 6.3)",
    ),
];

/// Header fields that are on both sides or on none, with any value.
const ANY_VALUE: [(&str, &str); 2] = [("answer", "x-envoy-upstream-service-time"), ("request", "x-request-id")];

/// Reasons with which the extension answers in the words of a document, and not in its own.
const DOCUMENTED: [&str; 3] = ["redirect", "direct_response", "fault_injected"];

/// The lines that are on one side alone and that no list explains, with those of the lists that explain nothing.
pub(crate) fn differences(row: &Row, host: &str, extension: &Outcome, envoy: &Outcome) -> Vec<String> {
    // Both sides leave the explanation away where the extension has one of its own.
    let own: Vec<bool> = extension.answers.iter().map(is_own).collect();
    let (ours, theirs) = (describe(row, host, extension, &own), describe(row, host, envoy, &own));
    let mut found = only(&ours, &theirs, "extension");
    found.extend(only(&theirs, &ours, "Envoy"));
    found.retain(|line| !DIFFERENCES.iter().any(|(pattern, _)| is_like(pattern, line)));
    let mut unexplained = found.clone();
    for (patterns, reason, always) in &row.unlike {
        for pattern in *patterns {
            if *always && !found.iter().any(|line| is_like(pattern, line)) {
                unexplained.push(format!("is no more: {pattern} ({reason})"));
            }
            unexplained.retain(|line| !is_like(pattern, line));
        }
    }
    unexplained
}

/// The lines of `these` that `those` have not, or not so often.
fn only(these: &[String], those: &[String], side: &str) -> Vec<String> {
    let mut left: BTreeMap<&String, usize> = BTreeMap::new();
    those.iter().for_each(|line| *left.entry(line).or_default() += 1);
    let mut found = Vec::new();
    for line in these {
        match left.get_mut(line).filter(|count| **count > 0) {
            Some(count) => *count -= 1,
            None => found.push(format!("{side}: {line}")),
        }
    }
    found
}

/// Whether a text is like a pattern with stars.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some(at) = text.find(piece) else { return false };
        text = &text[at + piece.len()..];
    }
    text.ends_with(last)
}

fn is_own(answer: &Result<Answer, String>) -> bool {
    let reason = answer.as_ref().ok().and_then(|answer| answer.message.header("x-causeway-reason"));
    reason.is_some_and(|reason| !DOCUMENTED.contains(&reason))
}

fn describe(row: &Row, host: &str, outcome: &Outcome, own: &[bool]) -> Vec<String> {
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
    let names = names(row, outcome);
    for seen in &outcome.seen {
        let name = names.get(seen.upstream.as_str()).map_or(seen.upstream.as_str(), String::as_str);
        let count = counts.entry(name).or_default();
        *count += 1;
        let version = seen.message.start.rsplit(' ').next().unwrap_or_default();
        let at = match row.by_chance {
            true => format!("request {version} of any"),
            false => format!("request {count} of {name} {version} "),
        };
        if row.by_chance {
            lines.push(format!("request {count} of {name}"));
        }
        describe_request(&at, seen, &mut lines);
    }
    lines.iter().map(|line| line.replace(host, "HOST")).collect()
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
        // The explanation is another text, and so are its type and length.
        if own && ["content-type", "content-length", "grpc-message"].contains(&name.as_str()) {
            continue;
        }
        // Which service answered is told by what the services saw.
        let value = match name.as_str() {
            name if is_any("answer", name) => "any".to_owned(),
            "x-upstream" if row.by_chance => "any".to_owned(),
            "set-cookie" if row.by_chance => without_value(value),
            _ => value.clone(),
        };
        lines.push(format!("{at}: header {name}: {value}"));
    }
    match row.by_chance {
        _ if own => {}
        true => lines.push(format!("{at}: body of {} bytes", message.body.len())),
        false => lines.push(format!("{at}: body {}", shown(&message.body))),
    }
    lines.push(format!("{at}: {}", if message.complete { "complete" } else { "cut off" }));
    message.trailers.iter().for_each(|(name, value)| lines.push(format!("{at}: trailer {name}: {value}")));
}

fn describe_request(at: &str, seen: &Seen, lines: &mut Vec<String>) {
    let message = &seen.message;
    lines.push(format!("{at}: {}", message.start));
    for (name, value) in &message.headers {
        lines.push(format!("{at}: header {name}: {}", if is_any("request", name) { "any" } else { value }));
    }
    lines.push(format!("{at}: body {}", shown(&message.body)));
    lines.push(format!("{at}: {}", if message.complete { "complete" } else { "cut off" }));
    message.trailers.iter().for_each(|(name, value)| lines.push(format!("{at}: trailer {name}: {value}")));
}

/// A cookie without its value, which is random; its length and quotes stay.
fn without_value(cookie: &str) -> String {
    let (pair, attributes) = cookie.split_once(';').unwrap_or((cookie, ""));
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let shape: String = value.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    format!("{name}={shape};{attributes}")
}

fn is_any(of: &str, name: &str) -> bool {
    ANY_VALUE.contains(&(of, name))
}

/// A body, or its length where it is long.
fn shown(body: &[u8]) -> String {
    match body.len() {
        0..=200 => format!("{:?}", String::from_utf8_lossy(body)),
        length => format!("of {length} bytes, all the same: {}", body.windows(2).all(|pair| pair[0] == pair[1])),
    }
}
