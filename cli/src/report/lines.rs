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

const SAYS_DECISION: &str = "\"event\":\"decision\"";

/// Bytes of it with which a text must end, at least, to have been cut off in it: `"ev`.
const LEAST_SAID: usize = 3;

/// Bytes of a line that are parsed for each byte that it has. A line is parsed once for each text in another one, and once
/// more for each bracket that begins no value: no client's text shall make more of it.
const WORK: usize = 32;

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

/// What a line of a log holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Content {
    /// Decisions that could be read.
    pub(super) decisions: u64,
    /// Whether there is something beside them that says it is a decision, and cannot be read: cut off, as a rule.
    pub(super) is_damaged: bool,
}

/// Calls `found` with every decision in a line of a log.
pub(super) fn decisions(line: &[u8], found: &mut dyn FnMut(&Value)) -> Content {
    let text = String::from_utf8_lossy(line);
    let content = Content { decisions: 0, is_damaged: false };
    let mut reading = Reading { found, content, work: WORK.saturating_mul(text.len()) };
    reading.text(&text, MAX_DEPTH);
    reading.content
}

/// A line that is being read.
struct Reading<'f> {
    found: &'f mut dyn FnMut(&Value),
    content: Content,
    /// Bytes that may still be parsed.
    work: usize,
}

impl Reading<'_> {
    fn text(&mut self, text: &str, depth: usize) {
        // A line of pretty JSON, as the AWS command line prints it: `"message": "{…}",`.
        let pretty = HOLDERS.iter().find_map(|name| {
            let rest = text.trim_start().strip_prefix('"')?.strip_prefix(name)?.strip_prefix('"')?;
            rest.trim_start().strip_prefix(':').map(|value| value.trim().trim_end_matches(','))
        });
        if let Some(value) = pretty
            && let Ok(value) = serde_json::from_str(value)
        {
            return self.value(&value, depth);
        }
        // What stands around the values (a time, the name of a stream or of a pod) begins here.
        let mut between = 0;
        let mut at = 0;
        while let Some(start) = text.get(at..).and_then(|rest| rest.find(['{', '['])).map(|next| at + next) {
            let rest = text.get(start..).unwrap_or_default();
            // The name of a log stream has a bracket of its own: `2026/11/20/[$LATEST]0123`. The next one may be the one.
            at = start + 1;
            let Some(left) = self.work.checked_sub(1) else { break };
            self.work = left;
            let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
            match values.next() {
                Some(Ok(value)) => {
                    self.rest(text.get(between..start).unwrap_or_default());
                    // Several may stand in one line, with nothing between: so Firehose writes what a subscription sends.
                    at = start + values.byte_offset();
                    between = at;
                    self.work = self.work.saturating_sub(values.byte_offset());
                    self.value(&value, depth);
                }
                // At worst all of it was read for nothing.
                _ => self.work = self.work.saturating_sub(rest.len()),
            }
        }
        self.end(text.get(between..).unwrap_or_default());
    }

    fn value(&mut self, value: &Value, depth: usize) {
        let Some(depth) = depth.checked_sub(1) else { return self.rest(&value.to_string()) };
        match value {
            // What its texts say is the client's.
            Value::Object(members) if members.get("event").and_then(Value::as_str) == Some("decision") => {
                self.content.decisions += 1;
                (self.found)(value);
            }
            // All of them: there may be many decisions in one line.
            Value::Object(members) => members.iter().for_each(|(name, value)| match HOLDERS.contains(&name.as_str()) {
                true => self.value(value, depth),
                false => self.rest(&value.to_string()),
            }),
            Value::Array(values) => values.iter().for_each(|value| self.value(value, depth)),
            Value::String(text) => self.text(text, depth),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// What is not looked into.
    fn rest(&mut self, text: &str) {
        self.content.is_damaged |= plain(text).contains(SAYS_DECISION);
    }

    /// What is behind the last value of a text, or all of it where there is none.
    fn end(&mut self, text: &str) {
        self.content.is_damaged |= is_cut_off(&plain(text));
        self.rest(text);
    }
}

/// A text as it is when it is in no other one: without what JSON puts in front of quotes, or writes for them, and without
/// blanks.
fn plain(text: &str) -> String {
    let plain: String = text.chars().filter(|c| *c != '\\' && !c.is_ascii_whitespace()).collect();
    plain.replace("u0022", "\"")
}

/// Whether a text ends where it begins to say that it is a decision.
fn is_cut_off(plain: &str) -> bool {
    let mut begun = (LEAST_SAID..SAYS_DECISION.len()).filter_map(|length| SAYS_DECISION.get(..length));
    plain.contains('{') && begun.any(|begun| plain.ends_with(begun))
}
