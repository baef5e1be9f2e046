//! YAML as a tree, printed in block style.

use std::fmt::Write;

/// A value.
#[derive(Clone, Debug)]
pub(crate) enum Yaml {
    Text(String),
    Plain(String),
    List(Vec<Yaml>),
    /// Names are fields of the format.
    Fields(Vec<(String, Yaml)>),
    /// Names are data, such as labels.
    Data(Vec<(String, Yaml)>),
    /// A text that is YAML itself.
    Embedded(Box<Yaml>),
}

pub(crate) fn text(text: &str) -> Yaml {
    Yaml::Text(text.to_owned())
}

pub(crate) fn plain(value: impl ToString) -> Yaml {
    Yaml::Plain(value.to_string())
}

/// The fields that have a value.
pub(crate) fn fields<const N: usize>(entries: [(&str, Option<Yaml>); N]) -> Yaml {
    Yaml::Fields(entries.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

pub(crate) fn texts<T: ToString>(values: &[T]) -> Option<Yaml> {
    list(values, |value| text(&value.to_string()))
}

/// A list, left out when it is empty.
pub(crate) fn list<T>(values: &[T], print: impl FnMut(&T) -> Yaml) -> Option<Yaml> {
    (!values.is_empty()).then(|| Yaml::List(values.iter().map(print).collect()))
}

impl Yaml {
    pub(crate) fn print(&self) -> String {
        let mut out = String::new();
        self.write(&mut out, 0);
        out
    }

    fn write(&self, out: &mut String, indent: usize) {
        match self {
            // JSON's strings are YAML's.
            Self::Text(text) => writeln!(out, " {}", serde_json::to_string(text).unwrap()).unwrap(),
            Self::Plain(text) => writeln!(out, " {text}").unwrap(),
            Self::List(items) if items.is_empty() => out.push_str(" []\n"),
            Self::Fields(entries) | Self::Data(entries) if entries.is_empty() => out.push_str(" {}\n"),
            Self::List(items) => {
                out.push('\n');
                for item in items {
                    write!(out, "{}-", " ".repeat(indent)).unwrap();
                    item.write(out, indent + 2);
                }
            }
            Self::Fields(entries) | Self::Data(entries) => {
                out.push('\n');
                for (name, value) in entries {
                    write!(out, "{}{}:", " ".repeat(indent), serde_json::to_string(name).unwrap()).unwrap();
                    value.write(out, indent + 2);
                }
            }
            Self::Embedded(inner) => {
                out.push_str(" |\n");
                let mut text = String::new();
                inner.write(&mut text, indent);
                // The first line is the empty rest of a line that is not there.
                let text =
                    text.strip_prefix('\n').map_or_else(|| format!("{}{text}", " ".repeat(indent)), str::to_owned);
                out.push_str(&text);
            }
        }
    }

    /// How many names of fields there are.
    pub(crate) fn names(&self) -> usize {
        match self {
            Self::Text(_) | Self::Plain(_) => 0,
            Self::List(items) => items.iter().map(Self::names).sum(),
            Self::Fields(entries) => entries.iter().map(|(_, value)| 1 + value.names()).sum(),
            Self::Data(entries) => entries.iter().map(|(_, value)| value.names()).sum(),
            Self::Embedded(inner) => inner.names(),
        }
    }

    /// Changes the `n`th name of a field, and says which one that was.
    pub(crate) fn rename(&mut self, n: usize, change: impl Fn(&str) -> String) -> String {
        let mut left = n;
        self.visit(&mut left, &change).unwrap()
    }

    fn visit(&mut self, left: &mut usize, change: &dyn Fn(&str) -> String) -> Option<String> {
        match self {
            Self::Text(_) | Self::Plain(_) => None,
            Self::List(items) => items.iter_mut().find_map(|item| item.visit(left, change)),
            Self::Data(entries) => entries.iter_mut().find_map(|(_, value)| value.visit(left, change)),
            Self::Embedded(inner) => inner.visit(left, change),
            Self::Fields(entries) => entries.iter_mut().find_map(|(name, value)| {
                if *left == 0 {
                    let new = change(name);
                    return Some(std::mem::replace(name, new));
                }
                *left -= 1;
                value.visit(left, change)
            }),
        }
    }
}
