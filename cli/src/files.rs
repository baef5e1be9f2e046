//! Files that are not there, are folders, or are something else than what was asked for: what was found, what was
//! expected, and what to do.

use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

use platform::bundle;
use serde_json::Value;

/// Opens a file to read.
///
/// # Errors
/// One line, see [`unreadable`].
pub(crate) fn open(path: &Path) -> Result<File, String> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    match file.metadata() {
        Ok(found) if found.is_dir() => Err(unreadable(path, &Error::from(ErrorKind::IsADirectory))),
        _ => Ok(file),
    }
}

/// Why `path` cannot be read.
pub(crate) fn unreadable(path: &Path, error: &Error) -> String {
    let name = path.display();
    match error.kind() {
        ErrorKind::NotFound => match beside(path) {
            Some(near) => format!("cannot read {name}: it is not there; did you mean `{near}`?"),
            None => format!("cannot read {name}: it is not there"),
        },
        ErrorKind::IsADirectory => {
            format!("cannot read {name}: it is a folder, expected a file; name one of its files")
        }
        _ => format!("cannot read {name}: {error}"),
    }
}

/// A file or folder beside `path` whose name is nearly that.
fn beside(path: &Path) -> Option<String> {
    const MOST: usize = 1_000;
    let wanted = path.file_name()?.to_str()?.to_lowercase();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names =
        std::fs::read_dir(folder).ok()?.take(MOST).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let far = |name: &String| strsim::damerau_levenshtein(&name.to_lowercase(), &wanted);
    let stem = |name: &str| name.rsplit_once('.').map_or(name, |(stem, _)| stem).to_lowercase();
    // A letter or two, or another ending.
    let near = |name: &String| far(name) <= wanted.len().min(8) / 4 || stem(name) == stem(&wanted);
    let name = names.filter(near).min_by_key(|name| (far(name), name.clone()))?;
    Some(path.with_file_name(name).display().to_string())
}

/// What a file is, by its first bytes or its first fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Content {
    /// What `causeway bundle` wrote.
    Bundle,
    /// Documents of Kubernetes.
    Documents,
    /// The event of an authorizer.
    Event,
    /// A JSON Web Key Set.
    KeySet,
    /// Lines for `evaluate`.
    Requests,
    /// A SAM or CloudFormation template.
    Template,
    /// Text as Windows writes it.
    Utf16,
}

impl Content {
    /// Tells it from `bytes`, the whole file or its beginning.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.starts_with(bundle::MAGIC) {
            return Some(Self::Bundle);
        }
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Some(Self::Utf16);
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        if text.starts_with('{') { Self::of_json(text) } else { Self::of_yaml(text) }
    }

    fn of_json(text: &str) -> Option<Self> {
        // One object over several lines, or one a line.
        let first = text.lines().next().unwrap_or_default();
        let object: Value = serde_json::from_str(text).or_else(|_| serde_json::from_str(first)).ok()?;
        let has = |name: &str| object.get(name).is_some();
        if has("apiVersion") && has("kind") {
            Some(Self::Documents)
        } else if object.get("keys").is_some_and(Value::is_array) {
            Some(Self::KeySet)
        } else if has("requestContext") || has("methodArn") || has("routeArn") {
            Some(Self::Event)
        } else if has("method") && has("host") {
            Some(Self::Requests)
        } else if has("AWSTemplateFormatVersion") || has("Resources") {
            Some(Self::Template)
        } else {
            None
        }
    }

    fn of_yaml(text: &str) -> Option<Self> {
        let has = |names: &[&str]| text.lines().any(|line| names.iter().any(|name| line.starts_with(name)));
        if has(&["apiVersion:", "kind:"]) {
            Some(Self::Documents)
        } else if has(&["AWSTemplateFormatVersion:", "Resources:"]) {
            Some(Self::Template)
        } else {
            None
        }
    }

    /// What it is, and which option takes it.
    pub(crate) fn said(self) -> &'static str {
        match self {
            Self::Bundle => "a bundle, which `evaluate`, `explain` and `explain-egress` take alone, with --config",
            Self::Documents => "documents of Kubernetes, which --config takes",
            Self::Event => "the event of an authorizer, which `explain --event` takes",
            Self::KeySet => "a key set, which --jwks ISSUER=FILE takes",
            Self::Requests => "requests, which --requests takes",
            Self::Template => "a template of CloudFormation, which --template takes",
            Self::Utf16 => "text in UTF-16; save it as UTF-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_beginning() {
        for (text, content) in [
            ("apiVersion: v1\nkind: Service\n", Some(Content::Documents)),
            ("\u{feff}# policies\r\n---\r\nkind: Service\r\n", Some(Content::Documents)),
            ("{\"apiVersion\":\"v1\",\n\"kind\":\"Service\"}", Some(Content::Documents)),
            ("{\"id\":1,\"method\":\"GET\",\"host\":\"a\"}\n{broken", Some(Content::Requests)),
            ("{\"keys\":[]}", Some(Content::KeySet)),
            ("{\"version\":\"2.0\",\"requestContext\":{}}", Some(Content::Event)),
            ("AWSTemplateFormatVersion: 2010-09-09\n", Some(Content::Template)),
            ("Transform: AWS::Serverless-2016-10-31\nResources:\n", Some(Content::Template)),
            ("replicas: 1\n", None),
            ("", None),
            ("{broken", None),
        ] {
            assert_eq!(Content::of(text.as_bytes()), content, "{text}");
        }
        assert_eq!(Content::of(b"\xff\xfea\0"), Some(Content::Utf16));
        assert_eq!(Content::of(&[bundle::MAGIC.as_slice(), b"\0\0"].concat()), Some(Content::Bundle));
    }
}
