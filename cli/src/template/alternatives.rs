//! What a value can be: `!If` has two answers, and the functions that make texts make one text, however they are written.

use super::yaml::{Node, Value};

/// Most bytes of a text that is put together: an ARN has 2,048 at most.
const MAX_BYTES: usize = 2048;

/// Most alternatives of one value that are looked at.
pub(super) const MAX_ALTERNATIVES: usize = 32;

impl Node {
    /// What it can be: the branches of `!If`, and nothing for `!Ref AWS::NoValue`.
    pub(super) fn alternatives(&self) -> Vec<Option<&Self>> {
        if self.is_no_value() {
            return vec![None];
        }
        match self.condition() {
            Some((_, yes, no)) => [yes, no].into_iter().flat_map(Self::alternatives).take(MAX_ALTERNATIVES).collect(),
            None => vec![Some(self)],
        }
    }

    /// The text that `Sub`, `Join`, `Ref` and `GetAtt` make, all as `Sub` has it: `${NAME}` is what only the deployment
    /// knows. Anything else is as in [`shown`](Self::shown).
    pub(super) fn template(&self) -> String {
        let Value::Function(name, argument) = &self.value else { return self.shown() };
        let text = match (name.as_str(), &argument.value) {
            ("Ref" | "GetAtt", Value::Scalar(name)) => format!("${{{name}}}"),
            ("GetAtt", Value::List(parts)) => {
                format!("${{{}}}", parts.iter().map(Self::shown).collect::<Vec<_>>().join("."))
            }
            ("Sub", Value::Scalar(text)) => text.clone(),
            ("Sub", Value::List(parts)) => match parts.as_slice() {
                [text, variables] => substituted(text, variables).unwrap_or_else(|| self.shown()),
                _ => self.shown(),
            },
            ("Join", Value::List(parts)) => match parts.as_slice() {
                [separator, Self { value: Value::List(parts), .. }] => {
                    parts.iter().map(Self::template).collect::<Vec<_>>().join(separator.scalar().unwrap_or_default())
                }
                _ => self.shown(),
            },
            _ => self.shown(),
        };
        if text.len() > MAX_BYTES { self.shown() } else { text }
    }
}

/// `!Sub [text, variables]`, if that is no longer than an ARN on the way.
fn substituted(text: &Node, variables: &Node) -> Option<String> {
    let mut text = text.scalar().filter(|text| text.len() <= MAX_BYTES)?.to_owned();
    for variable in variables.members() {
        let value = variable.node.template();
        let name = format!("${{{}}}", variable.name);
        if value.len().saturating_mul(text.matches(&name).count()) > MAX_BYTES {
            return None;
        }
        text = text.replace(&name, &value);
    }
    Some(text)
}

/// Whether a text as [`Node::template`] makes it can be `wanted`, whatever the deployment puts into it: what is written
/// in it stands there, too.
pub(super) fn can_become(template: &str, wanted: &str) -> bool {
    let wanted = wanted.to_ascii_lowercase();
    let written = template.split("${").enumerate().map(|(index, piece)| match index {
        0 => piece,
        _ => piece.split_once('}').map_or("", |(_, rest)| rest),
    });
    let mut rest = wanted.as_str();
    for piece in written {
        match rest.split_once(&piece.to_ascii_lowercase()) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    true
}
