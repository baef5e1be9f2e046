use std::fmt;

/// One thing wrong with a configuration file, and where.
///
/// Displayed as `FILE:LINE:COLUMN: PATH: MESSAGE`, for example
/// `access.yaml:12:20: spec.rules[0].from[0].source.principals: expected a list of strings, found
/// a string`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct ConfigError {
    /// Name of the file as it was given to the reader.
    pub file: String,
    /// Line of the offending value, counted from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column of the offending value in characters, counted from 1; 0 when the whole file is meant.
    pub column: u32,
    /// Path of the field inside its document, such as `spec.rules[0].to`; empty for the document.
    pub path: String,
    /// What was found, what was expected and what to do; lower case, without a full stop.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, path, message } = self;
        if *line == 0 {
            write!(f, "{file}: ")?;
        } else {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(message)
    }
}
