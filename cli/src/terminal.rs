//! What a person sees. Results go to standard output; everything else goes to standard error with a `causeway:` prefix,
//! without capital initials and without full stops.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::io::IsTerminal;
use std::process::ExitCode;

/// Exit status for a configuration or usage that is refused.
const REFUSED: u8 = 2;

/// Says why a command failed.
pub(crate) fn failed(why: &str) -> ExitCode {
    eprintln!("causeway: {why}");
    ExitCode::FAILURE
}

/// Says, line by line, why a configuration is refused.
pub(crate) fn refused(errors: &[String]) -> ExitCode {
    for error in errors {
        eprintln!("causeway: {error}");
    }
    ExitCode::from(REFUSED)
}

/// Says something on the side.
pub(crate) fn note(text: &str) {
    eprintln!("causeway: {text}");
}

/// Says what was accepted and is likely not what was meant.
pub(crate) fn warn(text: &str) {
    eprintln!("causeway: warning: {text}");
}

/// Prints a line of the result.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Colours, if standard output is a terminal and NO_COLOR does not forbid it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colour: bool,
}

impl Style {
    /// What the terminal takes.
    pub(crate) fn detect() -> Self {
        let forbidden = platform::env::Env::get(&platform::env::ProcessEnv, "NO_COLOR").ok().flatten().is_some();
        Self { colour: std::io::stdout().is_terminal() && !forbidden }
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
