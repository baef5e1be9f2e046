//! Files of a configuration that say nothing, and were most likely meant to.

use std::fmt;
use std::path::Path;

use istio::SourceFile;

/// A file that says nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct IdleFile {
    pub(crate) name: String,
    pub(crate) why: Idle,
}

/// Why a file says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Idle {
    /// Of a folder's files only those with a name of YAML are read.
    NotRead,
    /// There is no document in it.
    Empty,
}

impl IdleFile {
    /// As a folder with this file in it would be judged.
    #[cfg(test)]
    pub(crate) fn of_folder(source: &SourceFile) -> Option<Self> {
        let path = Path::new(&source.name);
        if is_read(path) { Self::empty(source) } else { is_meant(path).then(|| Self::not_read(path)) }
    }

    /// A file of a folder that [`is_meant`] and not [`is_read`].
    pub(super) fn not_read(path: &Path) -> Self {
        Self { name: path.display().to_string(), why: Idle::NotRead }
    }

    /// A file that was read, if it holds nothing but blank lines, comments and separators of documents.
    pub(crate) fn empty(source: &SourceFile) -> Option<Self> {
        let says_nothing = |line: &str| {
            let line = line.trim_start_matches('\u{feff}').trim();
            line.is_empty() || line.starts_with('#') || matches!(line, "---" | "...")
        };
        let is_empty = source.text.lines().all(says_nothing);
        is_empty.then(|| Self { name: source.name.clone(), why: Idle::Empty })
    }
}

impl fmt::Display for IdleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.why.as_str())
    }
}

impl Idle {
    /// What is the matter with the file.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::NotRead => "is not read: the name of a file in a folder must end with .yaml or .yml",
            Self::Empty => "is empty: there is no document in it",
        }
    }
}

/// Whether a file of a folder is read.
pub(super) fn is_read(path: &Path) -> bool {
    matches!(extension(path), "yaml" | "yml")
}

/// Whether `kubectl` would read a file of a folder, or a careless editor could have meant it to.
pub(super) fn is_meant(path: &Path) -> bool {
    ["yaml", "yml", "json"].iter().any(|known| extension(path).eq_ignore_ascii_case(known))
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|extension| extension.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_document_is_empty() {
        let rows = [
            ("", true),
            ("\n  \n", true),
            ("\u{feff}# nothing yet\r\n---\r\n", true),
            ("---\n...\n", true),
            ("kind: Service\n", false),
            ("# a\n--- # b\nkind: Service\n", false),
            ("null\n", false),
        ];
        for (text, empty) in rows {
            let source = SourceFile { name: "a.yaml".to_owned(), text: text.to_owned() };
            assert_eq!(IdleFile::empty(&source).is_some(), empty, "{text:?}");
        }
    }
}
