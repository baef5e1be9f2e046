//! Lines of a log, and the decisions inside of what collectors put around them.

use std::io::{self, BufRead};

use serde_json::Value;

/// The longest line that is read, in bytes: a CloudWatch answer may be one line with many events.
pub(super) const MAX_LINE: usize = 16 << 20;

/// How deep a decision may lie in what is around it.
const MAX_DEPTH: usize = 10;

/// What holds a log line, or a list of things that do: CloudWatch Logs (`events`, `message`), Insights (`results` with
/// `field` and `value`, `@message`), subscriptions (`logEvents`), Docker and Fluent Bit (`log`).
const HOLDERS: [&str; 7] = ["message", "@message", "value", "log", "events", "results", "logEvents"];

const SAYS_DECISION: &[u8] = b"\"event\":\"decision\"";

/// Reads lines without ever holding more than [`MAX_LINE`].
pub(super) struct Lines<R> {
    source: R,
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, line: Vec::new() }
    }

    /// The next line; `Some(None)` is one that is too long.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Option<&[u8]>>> {
        self.line.clear();
        let (mut any, mut fits) = (false, true);
        loop {
            let (taken, ended) = {
                let buffer = match self.source.fill_buf() {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    other => other?,
                };
                if buffer.is_empty() {
                    (0, true)
                } else {
                    any = true;
                    let end = buffer.iter().position(|byte| *byte == b'\n');
                    let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
                    fits = fits && self.line.len() + piece.len() <= MAX_LINE;
                    if fits {
                        self.line.extend_from_slice(piece);
                    }
                    (end.map_or(buffer.len(), |end| end + 1), end.is_some())
                }
            };
            self.source.consume(taken);
            if ended {
                return Ok(any.then(|| fits.then_some(self.line.as_slice())));
            }
        }
    }
}

/// Calls `found` with every decision in a line of a log. Whether there was one.
pub(super) fn decisions(line: &[u8], found: &mut dyn FnMut(&Value)) -> bool {
    let text = String::from_utf8_lossy(line);
    of_text(&text, MAX_DEPTH, found)
}

/// Whether a line says that it is a decision, be it in a text in another one.
pub(super) fn says_decision(line: &[u8]) -> bool {
    let plain: Vec<u8> = line.iter().copied().filter(|byte| !matches!(byte, b'\\' | b' ')).collect();
    plain.windows(SAYS_DECISION.len()).any(|window| window == SAYS_DECISION)
}

fn of_text(text: &str, depth: usize, found: &mut dyn FnMut(&Value)) -> bool {
    // A line of pretty JSON, as the AWS command line prints it: `"message": "{…}",`.
    let pretty = HOLDERS.iter().find_map(|name| {
        let rest = text.trim_start().strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"')?;
        rest.trim_start().strip_prefix(':').map(|value| value.trim().trim_end_matches(','))
    });
    if let Some(value) = pretty
        && let Ok(value) = serde_json::from_str(value)
    {
        return of_value(&value, depth, found);
    }
    // Whatever stands in front (a time, the name of a stream or a pod) and behind is not looked at.
    let starts = text.char_indices().filter(|(_, c)| matches!(c, '{' | '[')).map(|(at, _)| at);
    // The name of a log stream has a bracket of its own: `2026/11/20/[$LATEST]0123`.
    for start in starts.take(8) {
        let rest = text.get(start..).unwrap_or_default();
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let mut any = false;
        // Several may stand in one line, with nothing between: so Firehose writes what a subscription sends.
        while let Some(Ok(value)) = values.next() {
            any |= of_value(&value, depth, found);
        }
        if any {
            return true;
        }
    }
    false
}

fn of_value(value: &Value, depth: usize, found: &mut dyn FnMut(&Value)) -> bool {
    let Some(depth) = depth.checked_sub(1) else { return false };
    match value {
        Value::Object(members) if members.get("event").and_then(Value::as_str) == Some("decision") => {
            found(value);
            true
        }
        Value::Object(members) => {
            let held = HOLDERS.iter().filter_map(|name| members.get(*name));
            // All of them: there may be many decisions in one line.
            held.filter(|value| of_value(value, depth, found)).count() > 0
        }
        Value::Array(values) => values.iter().filter(|value| of_value(value, depth, found)).count() > 0,
        Value::String(text) => text.contains("decision") && of_text(text, depth, found),
        _ => false,
    }
}
