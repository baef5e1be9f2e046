//! YAML text as a tree of nodes that know their position.
//!
//! Types are those of YAML 1.2's core schema. Anchors, aliases, merge keys and tags are refused: a
//! policy must read the same for a person, for us and for `kubectl`.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

use super::report::Report;
use super::{MAX_DEPTH, nearest};

/// A value and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

/// Line and column, both counted from 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Position {
    pub(super) line: u32,
    pub(super) column: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// Already reported; readers pass over it without a second error.
    Refused,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) position: Position,
    pub(super) node: Node,
}

#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    pub(super) kind: ScalarKind,
    /// Whether it is a block scalar (`|`); its node's position is that of its first line with text.
    pub(super) literal: bool,
    /// Whether it is written without quotes.
    pub(super) plain: bool,
}

impl Scalar {
    /// Whether it is the same name to `kubectl`, which turns other types into names by their value:
    /// `on` would become `true`, `0x10` would become `16`.
    fn is_name(&self) -> bool {
        match self.kind {
            ScalarKind::String => !self.plain || !is_bool_of_yaml_1_1(&self.text),
            ScalarKind::Int => decimal(&self.text).is_some(),
            ScalarKind::Bool | ScalarKind::Float | ScalarKind::Null => false,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ScalarKind {
    Bool,
    Float,
    Int,
    Null,
    String,
}

/// Where a text stands: at the start of its file, or inside a scalar of one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// The text is the file.
    File,
    /// The text is a block scalar: add these to its own lines and columns.
    Block { lines: u32, columns: u32 },
    /// The text is another scalar: every position in it is the scalar's.
    Scalar(Position),
}

/// The documents of `text`, without the empty ones. What is wrong with the YAML itself goes to
/// `report`; documents before a syntax error are still returned.
pub(super) fn documents(text: &str, place: Place, report: &Report<'_>) -> Vec<Node> {
    let mut builder = Builder { parser: Parser::new_from_str(text), text, place, report };
    let mut documents = Vec::new();
    // `Err` means that the error is in the report and that the rest of the text is not readable.
    while let Ok(Some(node)) = builder.document() {
        // A document of comments only is null.
        if !matches!(&node.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null) {
            documents.push(node);
        }
    }
    documents
}

/// Lines in which the tab is looked for that the scanner complains of.
const MOST_LINES_TO_A_TAB: usize = 100;

/// The error is in the report; nothing more can be read from this text.
struct Unreadable;

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    text: &'a str,
    place: Place,
    report: &'a Report<'a>,
}

impl<'a> Builder<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, Unreadable> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let mark = error.marker();
                // The scanner says where the token before it began or ended, which may be a line above.
                match self.tab_from(mark.line()).filter(|_| error.info().contains("tab")) {
                    Some((line, column)) => {
                        let message =
                            "not valid YAML: a tab; indent with spaces, and write none but spaces behind `:` and `-`";
                        self.report.add(self.position(line, column), "", message.to_owned());
                    }
                    None => {
                        let position = self.position(mark.line(), mark.col());
                        self.report.add(position, "", format!("not valid YAML: {}", error.info()));
                    }
                }
                Err(Unreadable)
            }
        }
    }

    /// The first tab from `line` on, counted from 1, and its column, counted from 0.
    fn tab_from(&self, line: usize) -> Option<(usize, usize)> {
        let lines = (1..).zip(self.text.lines()).skip(line.saturating_sub(1));
        lines.take(MOST_LINES_TO_A_TAB).find_map(|(line, text)| {
            let before = text.split('\t').next()?;
            (before.len() < text.len()).then(|| (line, before.chars().count()))
        })
    }

    /// The next document's root.
    fn document(&mut self) -> Result<Option<Node>, Unreadable> {
        while let Some((event, _)) = self.next()? {
            if matches!(event, Event::DocumentStart(_)) {
                let Some((event, span)) = self.next()? else {
                    break;
                };
                return self.node(event, span, 1).map(Some);
            }
        }
        Ok(None)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Unreadable> {
        let position = self.position(span.start.line(), span.start.col());
        if depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} levels deep");
            self.report.add(position, "", message);
            return Err(Unreadable);
        }
        let value = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_extras(position, anchor, tag.as_deref());
                Value::Scalar(Scalar {
                    kind: if style == ScalarStyle::Plain { kind_of(&text) } else { ScalarKind::String },
                    text: text.into_owned(),
                    literal: style == ScalarStyle::Literal,
                    plain: style == ScalarStyle::Plain,
                })
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_extras(position, anchor, tag.as_deref());
                self.list(depth)?
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_extras(position, anchor, tag.as_deref());
                self.mapping(depth)?
            }
            Event::Alias(_) => {
                let message = "aliases (*name) are not supported; write the value out";
                self.report.add(position, "", message);
                Value::Refused
            }
            // Other events do not start a node; the parser never sends them here.
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd => {
                self.report.add(position, "", "not valid YAML: a value is missing");
                return Err(Unreadable);
            }
        };
        Ok(Node { position, value })
    }

    fn list(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next()? {
            if event == Event::SequenceEnd {
                return Ok(Value::List(items));
            }
            items.push(self.node(event, span, depth + 1)?);
        }
        Err(Unreadable)
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, Unreadable> {
        let mut entries = Vec::new();
        let mut seen = BTreeMap::new();
        let mut refused = false;
        while let Some((event, span)) = self.next()? {
            if event == Event::MappingEnd {
                // With a key the entry is lost, and with it perhaps a field that is required.
                return Ok(if refused { Value::Refused } else { Value::Mapping(entries) });
            }
            let key = self.node(event, span, depth + 1)?;
            let Some((event, span)) = self.next()? else {
                break;
            };
            let node = self.node(event, span, depth + 1)?;
            let position = key.position;
            let Some(name) = self.key(key) else {
                refused = true;
                continue;
            };
            if let Some(first) = seen.insert(name.clone(), position.line) {
                let message = format!("the key {} is already on line {first}", nearest::quoted(&name));
                self.report.add(position, "", message);
                continue;
            }
            entries.push(Entry { name, position, node });
        }
        Err(Unreadable)
    }

    /// The name of a field.
    fn key(&self, key: Node) -> Option<String> {
        let message = match key.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::Null => "expected the name of a field, found null",
            Value::Scalar(scalar) if scalar.plain && scalar.text == "<<" => {
                "merge keys (<<) are not supported; write the fields out"
            }
            Value::Scalar(scalar) if !scalar.is_name() => {
                "expected the name of a field, found what kubectl reads as a boolean or a number; quote it"
            }
            Value::Scalar(scalar) => return Some(scalar.text),
            Value::List(_) | Value::Mapping(_) => "expected the name of a field, found a list or a mapping",
            // Reported where it stands.
            Value::Refused => return None,
        };
        self.report.add(key.position, "", message);
        None
    }

    fn refuse_extras(&self, position: Position, anchor: usize, tag: Option<&Tag>) {
        if anchor > 0 {
            let message = "anchors (&name) are not supported; write the value out where it is used";
            self.report.add(position, "", message);
        }
        if let Some(tag) = tag {
            // `!!` stands for the handle of YAML's own tags.
            let handle = if tag.is_yaml_core_schema() { "!!" } else { tag.handle.as_str() };
            let tag = nearest::quoted(&format!("{handle}{}", tag.suffix));
            let message = format!("tags are not supported, found {tag}; quote the value if it is meant as a string");
            self.report.add(position, "", message);
        }
    }

    fn position(&self, line: usize, column: usize) -> Position {
        let line = u32::try_from(line).unwrap_or(u32::MAX).max(1);
        // The parser counts columns from 0.
        let column = u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1);
        match self.place {
            Place::File => Position { line, column },
            Place::Block { lines, columns } => {
                Position { line: line.saturating_add(lines), column: column.saturating_add(columns) }
            }
            Place::Scalar(position) => position,
        }
    }
}

/// The type of a plain scalar, YAML 1.2.2 section 10.3.2 (core schema, tag resolution).
fn kind_of(text: &str) -> ScalarKind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => ScalarKind::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => ScalarKind::Bool,
        _ if is_int(text) => ScalarKind::Int,
        _ if is_float(text) => ScalarKind::Float,
        _ => ScalarKind::String,
    }
}

/// `[-+]? [0-9]+`, `0o [0-7]+` or `0x [0-9a-fA-F]+`
fn is_int(text: &str) -> bool {
    let all = |digits: &str, digit: fn(&u8) -> bool| !digits.is_empty() && digits.as_bytes().iter().all(digit);
    if let Some(octal) = text.strip_prefix("0o") {
        all(octal, |byte| (b'0'..=b'7').contains(byte))
    } else if let Some(hexadecimal) = text.strip_prefix("0x") {
        all(hexadecimal, u8::is_ascii_hexdigit)
    } else {
        all(text.strip_prefix(['-', '+']).unwrap_or(text), u8::is_ascii_digit)
    }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`, infinity or not a number
fn is_float(text: &str) -> bool {
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(text, ".inf" | ".Inf" | ".INF") {
        return true;
    }
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let exponent_fits = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    exponent_fits && digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty())
}

/// Words that are strings in YAML 1.2 and booleans in YAML 1.1, which `kubectl` reads.
pub(super) fn is_bool_of_yaml_1_1(text: &str) -> bool {
    let word = |known: &str| {
        // Only these three spellings count: `yes`, `Yes`, `YES`.
        let mut title = known.to_owned();
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        text == known || text == title || text == known.to_ascii_uppercase()
    };
    ["y", "yes", "n", "no", "on", "off"].into_iter().any(word)
}

/// A number in plain decimal: no sign, no leading zero (octal to `kubectl`), no underscore.
pub(super) fn decimal(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok()
}
