//! What a person sees. Results go to standard output; everything else goes to standard error with a `causeway:` prefix,
//! without capital initials and without full stops.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

/// Exit status for a configuration or usage that is refused.
const REFUSED: u8 = 2;

/// Why a line of the result could not be written; the first reason counts.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Says why a command failed.
pub(crate) fn failed(why: &str) -> ExitCode {
    note(why);
    ExitCode::FAILURE
}

/// Says, line by line, why a configuration is refused.
pub(crate) fn refused(errors: &[String]) -> ExitCode {
    for error in errors {
        note(error);
    }
    ExitCode::from(REFUSED)
}

/// Says something on the side. Where nobody can hear it, there is nobody to tell.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "causeway: {text}");
}

/// Says what was accepted and is likely not what was meant.
pub(crate) fn warn(text: &str) {
    note(&format!("warning: {text}"));
}

/// Prints a line of the result. A reader who has seen enough, such as `head`, changes nothing: the command goes on, and
/// its exit status means what it always means. Any other failure is for [`finished`] to tell.
pub(crate) fn line(text: &str) {
    if let Err(error) = writeln!(io::stdout(), "{text}")
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        let _ = UNWRITTEN.set(error.to_string());
    }
}

/// The exit status of a command that wanted to end with `exit`: a failure if its result could not be written.
pub(crate) fn finished(exit: ExitCode) -> ExitCode {
    match UNWRITTEN.get() {
        Some(why) => failed(&format!("cannot write the output: {why}")),
        None => exit,
    }
}

/// Colours, if standard output is a terminal that has them and NO_COLOR does not forbid it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// What the terminal takes.
    pub(crate) fn detect() -> Self {
        let variable = |name: &str| platform::env::Env::get(&platform::env::ProcessEnv, name).ok().flatten();
        Self::of(std::io::stdout().is_terminal(), variable("NO_COLOR").as_deref(), variable("TERM").as_deref())
    }

    /// no-color.org: "when present and not an empty string (regardless of its value)". A dumb terminal knows no escapes.
    fn of(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let forbidden = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        Self { colour: is_terminal && !forbidden }
    }

    /// None at all.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colour: false }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_have_them() {
        for (is_terminal, no_color, term, colour) in [
            (true, None, None, true),
            (true, None, Some("xterm-256color"), true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), Some("xterm"), false),
            (true, Some("0"), None, false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            let style = Style::of(is_terminal, no_color, term);
            assert_eq!(style.colour, colour, "{is_terminal} {no_color:?} {term:?}");
        }
    }
}
