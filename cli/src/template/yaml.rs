//! CloudFormation's YAML as a tree: intrinsic functions are values of their own, whichever way they are written.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 64;

/// A value and the line where it starts, counted from 1.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Scalar(String),
    List(Vec<Node>),
    Mapping(Vec<Member>),
    /// An intrinsic function by its name without `Fn::`, and its argument.
    Function(String, Box<Node>),
}

/// A member of a mapping.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) line: u32,
    pub(super) node: Node,
}

impl Node {
    /// The members of a mapping; none of anything else.
    pub(super) fn members(&self) -> &[Member] {
        match &self.value {
            Value::Mapping(members) => members,
            _ => &[],
        }
    }

    /// The nodes of a list; none of anything else.
    pub(super) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(nodes) => nodes,
            _ => &[],
        }
    }

    /// The member `name`. `!Ref AWS::NoValue` takes a member out.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        let member = self.members().iter().find(|member| member.name == name)?;
        if let Value::Function(function, argument) = &member.node.value
            && function == "Ref"
            && argument.scalar() == Some("AWS::NoValue")
        {
            return None;
        }
        Some(&member.node)
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            // Nothing is put into it.
            Value::Function(name, argument) if name == "Sub" => argument.scalar().filter(|text| !text.contains("${")),
            _ => None,
        }
    }

    /// The value in one line, for messages and for what stays opaque.
    pub(super) fn shown(&self) -> String {
        match &self.value {
            Value::Null => "null".to_owned(),
            Value::Scalar(text) => text.clone(),
            Value::List(nodes) => format!("[{}]", nodes.iter().map(Self::shown).collect::<Vec<_>>().join(", ")),
            Value::Mapping(members) => {
                let members: Vec<String> = members.iter().map(|m| format!("{}: {}", m.name, m.node.shown())).collect();
                format!("{{{}}}", members.join(", "))
            }
            Value::Function(name, argument) => match &argument.value {
                // `!GetAtt A.B` and `Fn::GetAtt: [A, B]` are one.
                Value::List(parts) if name == "GetAtt" => {
                    format!("{name} {}", parts.iter().map(Self::shown).collect::<Vec<_>>().join("."))
                }
                _ => format!("{name} {}", argument.shown()),
            },
        }
    }

    /// The first function `name` anywhere in it.
    pub(super) fn find(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Null | Value::Scalar(_) => None,
            Value::List(nodes) => nodes.iter().find_map(|node| node.find(name)),
            Value::Mapping(members) => members.iter().find_map(|member| {
                // `Fn::Transform` may stand beside other members, `Fn::ForEach::NAME` always does.
                let own = member.name.strip_prefix("Fn::").and_then(|rest| rest.split("::").next()) == Some(name);
                if own { Some(&member.node) } else { member.node.find(name) }
            }),
            Value::Function(own, _) if own == name => Some(self),
            Value::Function(_, argument) => argument.find(name),
        }
    }

    /// `self` over `below`: mappings member by member, anything else as a whole.
    pub(super) fn over(&self, below: &Self) -> Self {
        let (Value::Mapping(own), Value::Mapping(others)) = (&self.value, &below.value) else { return self.clone() };
        let mut members: Vec<Member> = own.clone();
        for other in others {
            match members.iter_mut().find(|member| member.name == other.name) {
                Some(member) => member.node = member.node.over(&other.node),
                None => members.push(other.clone()),
            }
        }
        Self { line: self.line, value: Value::Mapping(members) }
    }
}

/// Reads the one document of a template.
///
/// # Errors
/// Line and message of what cannot be read.
pub(super) fn read(text: &str) -> Result<Node, (u32, String)> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = None;
    while let Some((event, span)) = reader.next()? {
        if matches!(event, Event::DocumentStart(_)) {
            if root.is_some() {
                return Err((line(span), "a template is one document".to_owned()));
            }
            let Some((event, span)) = reader.next()? else { break };
            root = Some(reader.node(event, span, 1)?);
        }
    }
    root.ok_or((1, "the template is empty".to_owned()))
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

fn line(span: Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX).max(1)
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Span)>, (u32, String)> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok(event)) => Ok(Some(event)),
            Some(Err(error)) => {
                let line = u32::try_from(error.marker().line()).unwrap_or(u32::MAX);
                Err((line, format!("not valid YAML: {}", error.info())))
            }
        }
    }

    fn expect(&mut self, from: u32) -> Result<(Event<'a>, Span), (u32, String)> {
        self.next()?.ok_or((from, "the text ends too early".to_owned()))
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, (u32, String)> {
        let line = line(span);
        if depth > MAX_DEPTH {
            return Err((line, format!("nested more than {MAX_DEPTH} levels deep")));
        }
        let (value, tag) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_anchor(line, anchor)?;
                let plain = style == ScalarStyle::Plain && tag.is_none();
                let null = plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
                (if null { Value::Null } else { Value::Scalar(text.into_owned()) }, tag)
            }
            Event::SequenceStart(anchor, tag) => {
                no_anchor(line, anchor)?;
                let mut nodes = Vec::new();
                loop {
                    let (event, span) = self.expect(line)?;
                    if matches!(event, Event::SequenceEnd) {
                        break;
                    }
                    nodes.push(self.node(event, span, depth + 1)?);
                }
                (Value::List(nodes), tag)
            }
            Event::MappingStart(anchor, tag) => {
                no_anchor(line, anchor)?;
                (self.mapping(line, depth)?, tag)
            }
            // "CloudFormation supports … YAML 1.1 with a few exceptions: … aliases, hash merges".
            Event::Alias(_) => return Err((line, "aliases (*name) are no part of a template".to_owned())),
            _ => return Err((line, "not a value".to_owned())),
        };
        let node = Node { line, value };
        match tag.as_deref().and_then(function) {
            Some(name) => Ok(Node { line, value: Value::Function(name, Box::new(node)) }),
            None => Ok(node),
        }
    }

    fn mapping(&mut self, from: u32, depth: usize) -> Result<Value, (u32, String)> {
        let mut members = Vec::new();
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        loop {
            let (event, span) = self.expect(from)?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let key = self.node(event, span, depth + 1)?;
            let (Value::Scalar(name), line) = (key.value, key.line) else {
                return Err((key.line, "expected the name of a member".to_owned()));
            };
            if name == "<<" {
                return Err((line, "merge keys (<<) are no part of a template".to_owned()));
            }
            if let Some(first) = seen.insert(name.clone(), line) {
                return Err((line, format!("the member {name:?} is already on line {first}")));
            }
            let (event, span) = self.expect(from)?;
            let node = self.node(event, span, depth + 1)?;
            members.push(Member { name, line, node });
        }
        if let [only] = members.as_slice() {
            let name = if only.name == "Ref" { Some("Ref") } else { only.name.strip_prefix("Fn::") };
            // `Fn::ForEach::NAME` is a loop, not a value.
            if let Some(name) = name.filter(|name| !name.contains(':')).map(str::to_owned)
                && let Some(only) = members.pop()
            {
                return Ok(Value::Function(name, Box::new(only.node)));
            }
        }
        Ok(Value::Mapping(members))
    }
}

fn no_anchor(line: u32, anchor: usize) -> Result<(), (u32, String)> {
    if anchor > 0 { Err((line, "anchors (&name) are no part of a template".to_owned())) } else { Ok(()) }
}

/// The function of a short form such as `!Ref`; `!!str` and its like are none.
fn function(tag: &Tag) -> Option<String> {
    (!tag.is_yaml_core_schema()).then(|| tag.suffix.clone())
}
