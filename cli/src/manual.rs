//! `causeway completions` and `causeway man`: what a shell and `man` want to know of the command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::{exit, terminal};

pub(crate) const COMPLETIONS_EXAMPLES: &str = "Examples:
  causeway completions bash > causeway.bash
  causeway completions zsh > _causeway
  causeway completions fish > causeway.fish

Where a shell looks for it: bash in ~/.local/share/bash-completion/completions/causeway, fish in
~/.config/fish/completions/causeway.fish, zsh in _causeway in a folder of $fpath.";

pub(crate) const MAN_EXAMPLES: &str = "Examples:
  causeway man > causeway.1
  causeway man keys create > causeway-keys-create.1
  causeway man --output man1

`causeway man lint | man -l -` shows a page. With `man1` in a folder of $MANPATH, `man causeway-lint` does.";

/// The options of `causeway completions`.
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: ShellName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

/// The options of `causeway man`.
#[derive(Args, Debug)]
pub(crate) struct Pages {
    /// The command whose page is printed, such as `keys create`; the page of the program if none is given
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    command: Vec<String>,
    /// Write every page into this folder instead, made if it is not there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Runs `causeway completions`.
pub(crate) fn completions(command: &Completions) -> ExitCode {
    let shell = match command.shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::command(), "causeway", &mut script);
    terminal::line(String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

/// Runs `causeway man`.
pub(crate) fn pages(command: &Pages) -> ExitCode {
    let mut program = crate::command().disable_help_subcommand(true);
    program.build();
    if let Some(folder) = &command.output {
        return match write(&program, folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => terminal::failed(&why),
        };
    }
    let mut found = &program;
    for name in &command.command {
        let Some(next) = found.find_subcommand(name) else {
            let known: Vec<&str> = found.get_subcommands().map(Command::get_name).collect();
            let expected =
                if known.is_empty() { "no command".to_owned() } else { format!("one of {}", known.join(", ")) };
            let below = found.get_bin_name().unwrap_or("causeway");
            return terminal::refused(&[format!("{below} has no command `{name}`; expected {expected}")]);
        };
        found = next;
    }
    match page(found) {
        Ok(text) => {
            terminal::line(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => terminal::failed(&format!("cannot write the page: {error}")),
    }
}

/// Writes the page of `command` and those below it.
fn write(command: &Command, folder: &Path) -> Result<(), String> {
    let wrong = |path: &Path, error: std::io::Error| format!("cannot write {}: {error}", path.display());
    std::fs::create_dir_all(folder).map_err(|error| wrong(folder, error))?;
    let path = folder.join(Man::new(command.clone()).get_filename());
    let text = page(command).map_err(|error| wrong(&path, error))?;
    std::fs::write(&path, text).map_err(|error| wrong(&path, error))?;
    command.get_subcommands().try_for_each(|below| write(below, folder))
}

/// One page, with the examples as they stand in the help.
fn page(command: &Command) -> std::io::Result<String> {
    let man = Man::new(command.clone()).manual("Causeway");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    let mut more = Roff::default();
    if command.has_subcommands() {
        commands(command, &mut more);
    }
    if let Some(help) = command.get_after_help() {
        examples(&help.to_string(), &mut more);
    }
    exit_status(&mut more);
    environment(&mut more);
    more.to_writer(&mut out)?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn commands(command: &Command, page: &mut Roff) {
    page.control("SH", ["COMMANDS"]);
    for below in command.get_subcommands() {
        let name = below.get_display_name().unwrap_or_else(|| below.get_name());
        page.control("TP", []);
        page.text([bold(format!("{name}(1)"))]);
        page.text([roman(below.get_about().map(ToString::to_string).unwrap_or_default())]);
    }
}

/// The text below the options, line by line as it stands in the help.
fn examples(help: &str, page: &mut Roff) {
    page.control("SH", ["EXAMPLES"]);
    page.control("nf", []);
    for line in help.lines().filter(|line| !line.starts_with("Examples:")) {
        page.text([roman(line)]);
    }
    page.control("fi", []);
}

fn exit_status(page: &mut Roff) {
    page.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in exit::CODES {
        page.control("TP", []);
        page.text([bold(code.to_string())]);
        page.text([roman(*meaning)]);
    }
}

fn environment(page: &mut Roff) {
    page.control("SH", ["ENVIRONMENT"]);
    for (name, meaning) in VARIABLES {
        page.control("TP", []);
        page.text([bold(*name)]);
        page.text([roman(*meaning)]);
    }
}

/// What every command reads of its environment, and what `keys` and `clients` do.
const VARIABLES: &[(&str, &str)] = &[
    ("NO_COLOR", "no colours, whatever its value; not if it is empty"),
    ("CLICOLOR_FORCE", "colours in files and pipes as well, unless it is 0 or NO_COLOR is set"),
    ("TERM", "dumb: no colours and no progress"),
    ("CAUSEWAY_ISSUER_URL, CAUSEWAY_TOKEN", "the issuer that keys and clients ask, and the access token for it"),
];
