//! Strict, typed readers over the node tree.
//!
//! A reader returns `None` for what is absent or wrong; what is wrong is in the report by then, so
//! that one run shows every error. [`super::parse`] returns resources only when no report has an
//! error, so a value that stands in for a wrong one never leaves this crate.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::nearest::{nearest, one_of, quoted, shown};
use super::node::{Entry, Node, Position, Scalar, ScalarKind, Value, decimal, is_bool_of_yaml_1_1};
use super::report::Report;

/// A node, its path, and where errors about it go.
#[derive(Clone)]
pub(super) struct At<'a> {
    pub(super) node: &'a Node,
    pub(super) path: String,
    pub(super) report: &'a Report<'a>,
    position: Position,
}

impl<'a> At<'a> {
    /// The root of a document; `path` is empty unless it stands inside another one.
    pub(super) fn root(node: &'a Node, path: &str, report: &'a Report<'a>) -> Self {
        Self { node, path: path.to_owned(), report, position: node.position }
    }

    pub(super) fn position(&self) -> Position {
        self.position
    }

    pub(super) fn error(&self, message: impl Into<String>) {
        self.report.add(self.position, &self.path, message);
    }

    /// Reads a mapping, and reports every field that `read` did not ask for: those in `not_yet` as
    /// fields of Istio that are not supported yet, the others as unknown. `None` when anything in it
    /// is wrong.
    pub(super) fn mapping<T>(&self, not_yet: &[&str], read: impl FnOnce(&mut Mapping<'a>) -> Option<T>) -> Option<T> {
        let Value::Mapping(entries) = &self.node.value else {
            self.wrong_type("a mapping");
            return None;
        };
        let before = self.report.problems();
        let mut mapping = Mapping { at: self.clone(), entries, asked: Vec::new(), ignored: Vec::new(), before };
        let value = read(&mut mapping);
        mapping.finish(not_yet);
        if value.is_none() && self.report.problems() == 0 {
            // A reader that gives up must say why: nothing is dropped in silence.
            self.error("could not be read; this is a defect of causeway, please report it");
        }
        value.filter(|_| self.report.problems() == before)
    }

    pub(super) fn list(&self) -> Option<Vec<At<'a>>> {
        let Value::List(items) = &self.node.value else {
            self.wrong_type("a list");
            return None;
        };
        let items = items.iter().enumerate().map(|(index, node)| At {
            node,
            path: format!("{}[{index}]", self.path),
            report: self.report,
            position: node.position,
        });
        Some(items.collect())
    }

    pub(super) fn string(&self) -> Option<String> {
        let scalar = self.scalar("a string")?;
        match scalar.kind {
            ScalarKind::String if scalar.plain && is_bool_of_yaml_1_1(&scalar.text) => {
                self.error(format!(
                    "expected a string, found {0}, which kubectl reads as a boolean; quote it: \
                     \"{0}\"",
                    scalar.text
                ));
                None
            }
            ScalarKind::String => Some(scalar.text.clone()),
            ScalarKind::Null => {
                self.wrong_type("a string");
                None
            }
            ScalarKind::Bool | ScalarKind::Float | ScalarKind::Int => {
                let kind = if scalar.kind == ScalarKind::Bool { "boolean" } else { "number" };
                let shown = shown(&scalar.text);
                self.error(format!("expected a string, found the {kind} {shown}; quote it: \"{shown}\""));
                None
            }
        }
    }

    pub(super) fn non_empty_string(&self) -> Option<String> {
        let text = self.string()?;
        if text.is_empty() {
            self.error("expected a string that is not empty");
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        let scalar = self.scalar("true or false")?;
        if scalar.kind != ScalarKind::Bool {
            self.error(format!("expected true or false, found {}", describe(scalar)));
            return None;
        }
        Some(scalar.text.eq_ignore_ascii_case("true"))
    }

    /// A whole number in decimal.
    pub(super) fn number(&self) -> Option<u32> {
        let scalar = self.scalar("a number")?;
        if scalar.kind == ScalarKind::String && !scalar.plain && decimal(&scalar.text).is_some() {
            self.error("expected a number, found a string; remove the quotes");
            return None;
        }
        let number = Some(scalar).filter(|scalar| scalar.kind == ScalarKind::Int);
        let number = number.and_then(|scalar| decimal(&scalar.text));
        if number.is_none() {
            self.error(format!("expected a whole number, found {}", describe(scalar)));
        }
        number
    }

    /// As [`number`](Self::number), and in quotes as well. The mesh configuration is JSON of protocol buffers, where
    /// "either numbers or strings are accepted", and Istio's documentation has `port: "9000"`. Kubernetes refuses that.
    pub(super) fn quoted_number(&self) -> Option<u32> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::String && !scalar.plain => {
                decimal(&scalar.text).or_else(|| self.number())
            }
            _ => self.number(),
        }
    }

    /// A port number, 1 to 65535.
    pub(super) fn port(&self) -> Option<u16> {
        self.as_port(self.number()?)
    }

    /// As [`port`](Self::port), and in quotes as well; see [`quoted_number`](Self::quoted_number).
    pub(super) fn quoted_port(&self) -> Option<u16> {
        self.as_port(self.quoted_number()?)
    }

    fn as_port(&self, number: u32) -> Option<u16> {
        let port = u16::try_from(number).ok().filter(|port| *port > 0);
        if port.is_none() {
            self.error(format!("expected a port from 1 to 65535, found {number}"));
        }
        port
    }

    /// Whether it is a string and no number, without reading it.
    pub(super) fn is_string(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::String)
    }

    /// A field of a mapping, without marking it as read; `None` also when this is no mapping.
    pub(super) fn child(&self, name: &str) -> Option<At<'a>> {
        let Value::Mapping(entries) = &self.node.value else {
            return None;
        };
        entries.iter().find(|entry| entry.name == name).map(|entry| self.entry(entry))
    }

    fn entry(&self, entry: &'a Entry) -> At<'a> {
        // A key that is folded over lines has line ends, and an error is one line.
        let name = if entry.name.contains(char::is_control) {
            Cow::Owned(entry.name.escape_debug().to_string())
        } else {
            Cow::Borrowed(&entry.name)
        };
        let path = if self.path.is_empty() { name.into_owned() } else { format!("{}.{name}", self.path) };
        // An absent value has no position of its own.
        let null = matches!(&entry.node.value, Value::Scalar(scalar) if scalar.text.is_empty()
            && scalar.kind == ScalarKind::Null);
        let position = if null { entry.position } else { entry.node.position };
        At { node: &entry.node, path, report: self.report, position }
    }

    /// Refuses a list or a mapping with more than `most` elements.
    pub(super) fn at_most(&self, most: usize) {
        let length = match &self.node.value {
            Value::List(items) => items.len(),
            Value::Mapping(entries) => entries.len(),
            Value::Scalar(_) | Value::Refused => 0,
        };
        if length > most {
            self.error(format!("expected at most {most} elements, found {length}"));
        }
    }

    /// Whether it is a list or a mapping with an element.
    pub(super) fn has_elements(&self) -> bool {
        match &self.node.value {
            Value::List(items) => !items.is_empty(),
            Value::Mapping(entries) => !entries.is_empty(),
            Value::Scalar(_) | Value::Refused => false,
        }
    }

    /// One of Istio's upper-case words.
    pub(super) fn word<T: Clone>(&self, known: &[(&str, T)], not_yet: &[&str]) -> Option<T> {
        let text = self.string()?;
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        if not_yet.contains(&text.as_str()) {
            self.error(format!("{} is not supported yet", quoted(&text)));
        } else {
            let words = one_of(known.iter().map(|(word, _)| *word));
            self.error(format!("expected {words}, found {}", quoted(&text)));
        }
        None
    }

    fn scalar(&self, expected: &str) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Mapping(_) | Value::Refused => {
                self.wrong_type(expected);
                None
            }
        }
    }

    pub(super) fn wrong_type(&self, expected: &str) {
        let found = match &self.node.value {
            Value::Refused => return self.report.note(),
            Value::List(_) => "a list".to_owned(),
            Value::Mapping(_) => "a mapping".to_owned(),
            Value::Scalar(scalar) => describe(scalar),
        };
        self.error(format!("expected {expected}, found {found}"));
    }
}

/// The fields of a mapping, taken one by one.
pub(super) struct Mapping<'a> {
    pub(super) at: At<'a>,
    entries: &'a [Entry],
    asked: Vec<&'static str>,
    ignored: Vec<&'static str>,
    before: usize,
}

impl<'a> Mapping<'a> {
    /// A field, if it is there.
    pub(super) fn field(&mut self, name: &'static str) -> Option<At<'a>> {
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(self.at.entry(entry))
    }

    /// The name of a field, if it is there, for an error about the field itself.
    pub(super) fn name_of(&mut self, name: &'static str) -> Option<At<'a>> {
        self.ignored.push(name);
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some(At { position: entry.position, ..self.at.entry(entry) })
    }

    /// A field that must be there.
    pub(super) fn required(&mut self, name: &'static str) -> Option<At<'a>> {
        let field = self.field(name);
        if field.is_none() {
            self.at.error(format!("the field `{name}` is missing"));
        }
        field
    }

    /// A string; it may be empty.
    pub(super) fn string(&mut self, name: &'static str) -> Option<String> {
        self.field(name)?.string()
    }

    /// A string that is not empty if it is there.
    pub(super) fn non_empty_string(&mut self, name: &'static str) -> Option<String> {
        self.field(name)?.non_empty_string()
    }

    /// A string that must be there and not be empty.
    pub(super) fn required_string(&mut self, name: &'static str) -> Option<String> {
        self.required(name)?.non_empty_string()
    }

    /// Strings, none of them empty; no strings when the field is absent.
    pub(super) fn strings(&mut self, name: &'static str) -> Vec<String> {
        self.list(name, |item| item.non_empty_string()).unwrap_or_default()
    }

    /// Names with strings, such as labels; nothing when the field is absent.
    pub(super) fn string_map(&mut self, name: &'static str) -> BTreeMap<String, String> {
        self.field(name).map(|field| field.string_map()).unwrap_or_default()
    }

    /// A boolean; false when the field is absent.
    pub(super) fn boolean(&mut self, name: &'static str) -> bool {
        self.field(name).and_then(|field| field.boolean()).unwrap_or_default()
    }

    /// A list; `None` when the field is absent or no list.
    pub(super) fn list<T>(&mut self, name: &'static str, read: impl FnMut(&At<'a>) -> Option<T>) -> Option<Vec<T>> {
        Some(self.field(name)?.list()?.iter().filter_map(read).collect())
    }

    /// A list of at most `most` elements; `None` when the field is absent or no list.
    pub(super) fn bounded_list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl FnMut(&At<'a>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let field = self.field(name)?;
        field.at_most(most);
        Some(field.list()?.iter().filter_map(read).collect())
    }

    /// A list that must be there and have an element; empty when it is wrong.
    pub(super) fn required_list<T>(&mut self, name: &'static str, read: impl FnMut(&At<'a>) -> Option<T>) -> Vec<T> {
        let Some(field) = self.required(name) else {
            return Vec::new();
        };
        field.elements().iter().filter_map(read).collect()
    }

    /// Whether nothing was wrong in the fields read so far; a check over several fields would only
    /// repeat an error otherwise.
    pub(super) fn clean(&self) -> bool {
        self.at.report.problems() == self.before
    }

    /// Whether a field is there, without reading it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name)
    }

    /// Accepts fields that change neither a verdict nor a route.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.ignored.extend(names);
    }

    fn finish(self, not_yet: &[&str]) {
        for entry in self.entries {
            let name = entry.name.as_str();
            if self.asked.contains(&name) || self.ignored.contains(&name) {
                continue;
            }
            let mut at = self.at.entry(entry);
            at.position = entry.position;
            if not_yet.contains(&name) {
                at.error(format!(
                    "the field {} is not supported yet; ignoring it could change a verdict or a route",
                    quoted(name)
                ));
                continue;
            }
            let known = self.asked.iter().chain(&self.ignored).chain(not_yet).copied();
            // The search for a hint is the dear part; nobody reads it once the report is full.
            let near = if at.report.is_full() { None } else { nearest(name, known) };
            let hint = match near {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("expected {}", one_of(self.asked.iter().copied())),
            };
            at.error(format!("unknown field {}; {hint}", quoted(name)));
        }
    }
}

impl<'a> At<'a> {
    /// The elements of a list that must have one.
    pub(super) fn elements(&self) -> Vec<At<'a>> {
        let elements = self.list();
        if elements.as_ref().is_some_and(Vec::is_empty) {
            self.error("expected at least one element, found an empty list");
        }
        elements.unwrap_or_default()
    }

    /// Names with strings, such as labels.
    pub(super) fn string_map(&self) -> BTreeMap<String, String> {
        let entries = self.entries();
        entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.string()?))).collect()
    }

    /// The entries of a mapping whose names are data.
    pub(super) fn entries(&self) -> Vec<(&'a str, At<'a>)> {
        let Value::Mapping(entries) = &self.node.value else {
            self.wrong_type("a mapping");
            return Vec::new();
        };
        entries.iter().map(|entry| (entry.name.as_str(), self.entry(entry))).collect()
    }
}

fn describe(scalar: &Scalar) -> String {
    match scalar.kind {
        ScalarKind::Null => "null; leave it out or give it a value".to_owned(),
        ScalarKind::Bool => format!("the boolean {}", scalar.text),
        ScalarKind::Float | ScalarKind::Int => format!("the number {}", quoted(&scalar.text)),
        ScalarKind::String => "a string".to_owned(),
    }
}
