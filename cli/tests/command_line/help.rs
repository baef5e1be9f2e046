//! Every help text: what it says, and that its examples work.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{causeway, finished, like_checkout};

/// Every command with the words that lead to it, the program itself first.
fn commands() -> Vec<(Vec<String>, clap::Command)> {
    fn below(words: &[String], command: &clap::Command, all: &mut Vec<(Vec<String>, clap::Command)>) {
        all.push((words.to_vec(), command.clone()));
        for next in command.get_subcommands() {
            below(&[words, &[next.get_name().to_owned()]].concat(), next, all);
        }
    }
    let mut all = Vec::new();
    below(&[], &causeway::command(), &mut all);
    all
}

/// The examples of a help text: its lines that run as they are, and those that need an issuer, a network or files.
fn examples(help: &str) -> (Vec<String>, Vec<String>) {
    let (mut run, mut other) = (Vec::new(), Vec::new());
    let mut to: Option<&mut Vec<String>> = None;
    let joined = help.replace("\\\n", " ");
    for line in joined.lines() {
        if line == "Examples:" {
            to = Some(&mut run);
        } else if line.starts_with("Examples ") && line.ends_with(':') {
            to = Some(&mut other);
        } else if !line.starts_with("  ") {
            to = None;
        } else if let Some(to) = to.as_deref_mut() {
            to.push(line.trim().to_owned());
        }
    }
    (run, other)
}

fn after_help(command: &clap::Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn every_command_has_a_sentence_arguments_and_examples() {
    for (words, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.split(' ').count() >= 3, "{words:?}: {about:?}");
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!help.is_empty(), "{words:?}: {} has no help", argument.get_id());
        }
        let (run, other) = examples(&after_help(&command));
        assert!(!run.is_empty() || !other.is_empty(), "{words:?} has no examples");
        let own = format!("causeway {}", words.join(" "));
        let shows = |line: &String| line.contains(own.trim_end());
        assert!(run.iter().chain(&other).any(shows), "{words:?}: no example has {own}");

        let said = causeway(&words.iter().map(String::as_str).chain(["--help"]).collect::<Vec<_>>());
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}");
        assert!(said.out.contains("Examples") && said.out.contains("Usage: causeway"), "{}", said.out);
        assert!(!said.out.contains('\u{1b}'), "{words:?}");
    }
}

/// Runs a line as a person does who has the program on the path.
fn shell(folder: &Path, line: &str) -> super::Said {
    let bin = Path::new(env!("CARGO_BIN_EXE_causeway")).parent().unwrap().display().to_string();
    let mut command = Command::new("sh");
    let path = std::env::var("PATH").unwrap_or_default();
    command.current_dir(folder).args(["-c", line]).env_clear().env("PATH", format!("{bin}:{path}"));
    finished(command, "")
}

#[test]
fn every_example_that_needs_nothing_else_works() {
    let mut seen = BTreeSet::new();
    for (words, command) in commands() {
        let folder = like_checkout();
        for line in examples(&after_help(&command)).0 {
            // It starts everything and has a test of its own: once is enough.
            if line.starts_with("causeway demo") && !seen.insert(line.clone()) {
                continue;
            }
            let wanted = line.rsplit_once("# exit ").map_or(0, |(_, code)| code.get(..1).unwrap().parse().unwrap());
            let said = shell(folder.path(), &line);
            assert_eq!(said.code, wanted, "{words:?}: {line}\n{}{}", said.out, said.err);
            assert!(!said.err.contains("warning: "), "{words:?}: {line}\n{}", said.err);
        }
    }
}

#[test]
fn every_other_example_is_understood() {
    for (words, command) in commands() {
        for line in examples(&after_help(&command)).1 {
            let line = line.split_once("  #").map_or(line.as_str(), |(line, _)| line);
            if line.starts_with("export ") {
                continue;
            }
            let line = line.strip_prefix("KEY=$(").and_then(|line| line.strip_suffix(')')).unwrap_or(line);
            let parsed = causeway::command().try_get_matches_from(shlex::split(line).unwrap());
            assert!(parsed.is_ok(), "{words:?}: {line}\n{}", parsed.unwrap_err());
        }
    }
}
