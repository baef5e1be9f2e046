//! How the command line is read, and what is said of one that is not understood.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Error, ValueEnum};

use crate::terminal::{self, Color};

/// The `--color` of a command line that was not read yet: usage and its errors are coloured, too.
pub(crate) fn color(arguments: &[OsString]) -> Color {
    let mut words = arguments.iter().map(|word| word.to_str().unwrap_or_default());
    let mut color = Color::Auto;
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--color") {
            _ if word == "--" => break,
            Some("") => words.next(),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        color = value.and_then(|value| Color::from_str(value, false).ok()).unwrap_or(color);
    }
    color
}

/// Whether the command that was given prints JSON.
pub(crate) fn is_json(matches: &ArgMatches) -> bool {
    let below = matches.subcommand().is_some_and(|(_, matches)| is_json(matches));
    below || matches.try_get_one::<bool>("json").is_ok_and(|json| json.is_some_and(|json| *json))
}

/// Says why a command line is not understood, or prints the help that it asks for.
pub(crate) fn said(error: &Error) -> ExitCode {
    // Where nobody can hear it, there is nobody to tell.
    let _ = error.print();
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => Some(word),
        _ => None,
    };
    if let Some(path) = word.filter(|word| Path::new(word).exists()) {
        terminal::note(&format!(
            "{path} is a file or a folder: say with an option what it is, such as --config {path}"
        ));
    }
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colour_is_known_before_the_options_are() {
        for (words, wanted) in [
            ("causeway lint", Color::Auto),
            ("causeway --color never lint", Color::Never),
            ("causeway lint --color=always --wrong", Color::Always),
            ("causeway lint --color", Color::Auto),
            ("causeway lint --colorful=always", Color::Auto),
            ("causeway lint -- --color=never", Color::Auto),
        ] {
            let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
            assert_eq!(color(&words), wanted, "{words:?}");
        }
    }
}
