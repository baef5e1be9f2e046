//! What a person sees. Results go to standard output; everything else goes to standard error with a `causeway:` prefix,
//! without capital initials and without full stops.

mod progress;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::OnceLock;

use clap::{ColorChoice, ValueEnum};

pub(crate) use progress::Progress;

/// Exit status for a configuration or usage that is refused.
const REFUSED: u8 = 2;

/// Why a line of the result could not be written; the first reason counts.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// What was said about the whole run; the first word counts.
static MANNERS: OnceLock<(Color, bool)> = OnceLock::new();

/// `--color`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Color {
    // Sentences here would stretch every help text.
    #[default]
    Auto,
    Always,
    Never,
}

impl Color {
    /// The same for usage and its errors, which are written before the options are read.
    pub(crate) fn choice(self) -> ColorChoice {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        }
    }
}

/// Says once how the run's output is to be: in which colours, and whether it is for machines.
pub(crate) fn begin(color: Color, for_machines: bool) {
    let _ = MANNERS.set((color, for_machines));
}

/// Whether the output was asked for as JSON.
fn is_for_machines() -> bool {
    MANNERS.get().is_some_and(|(_, for_machines)| *for_machines)
}

fn variable(name: &str) -> Option<String> {
    platform::env::Env::get(&platform::env::ProcessEnv, name).ok().flatten()
}

/// A dumb terminal knows no escapes.
fn is_dumb() -> bool {
    variable("TERM").as_deref() == Some("dumb")
}

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

/// Colours, where they are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

/// What the environment says about colours.
#[derive(Clone, Copy, Debug, Default)]
struct Surroundings<'a> {
    is_terminal: bool,
    no_color: Option<&'a str>,
    force: Option<&'a str>,
    term: Option<&'a str>,
}

impl Style {
    /// What the options, the environment and standard output say.
    pub(crate) fn detect() -> Self {
        let (no_color, force, term) = (variable("NO_COLOR"), variable("CLICOLOR_FORCE"), variable("TERM"));
        let around = Surroundings {
            is_terminal: io::stdout().is_terminal(),
            no_color: no_color.as_deref(),
            force: force.as_deref(),
            term: term.as_deref(),
        };
        Self::of(MANNERS.get().map(|(color, _)| *color).unwrap_or_default(), around)
    }

    /// An option beats the environment, as no-color.org has it. NO_COLOR counts "when present and not an empty string
    /// (regardless of its value)", CLICOLOR_FORCE when it is set and not `0` (bixense.com/clicolors), and not beside it.
    fn of(color: Color, around: Surroundings<'_>) -> Self {
        let Surroundings { is_terminal, no_color, force, term } = around;
        let forced = force.is_some_and(|value| !value.is_empty() && value != "0");
        let colour = match color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if no_color.is_some_and(|value| !value.is_empty()) => false,
            Color::Auto => forced || (is_terminal && term != Some("dumb")),
        };
        Self { colour }
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
        use Color::{Always, Auto, Never};
        for (color, is_terminal, no_color, force, term, colour) in [
            (Auto, true, None, None, None, true),
            (Auto, true, None, None, Some("xterm-256color"), true),
            (Auto, true, Some(""), None, Some("xterm"), true),
            (Auto, true, Some("1"), None, Some("xterm"), false),
            (Auto, true, Some("0"), None, None, false),
            (Auto, true, None, None, Some("dumb"), false),
            (Auto, false, None, None, Some("xterm"), false),
            (Auto, false, None, Some("1"), None, true),
            (Auto, false, None, Some("0"), None, false),
            (Auto, false, None, Some(""), None, false),
            (Auto, true, Some("1"), Some("1"), None, false),
            (Always, false, Some("1"), None, Some("dumb"), true),
            (Never, true, None, Some("1"), Some("xterm"), false),
        ] {
            let style = Style::of(color, Surroundings { is_terminal, no_color, force, term });
            assert_eq!(style.colour, colour, "{color:?} {is_terminal} {no_color:?} {force:?} {term:?}");
        }
    }
}
