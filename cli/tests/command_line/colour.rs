//! Colours: for people at terminals, and for whoever asks for them.

use std::process::Command;

use super::{checkout, finished, has, program};

const EXPLAIN: [&str; 5] =
    ["explain", "--config", "examples/bookinfo", "--curl", "curl https://api.bookinfo.example/admin"];

fn is_coloured(text: &str) -> bool {
    text.contains("\u{1b}[")
}

#[test]
fn a_pipe_has_colours_on_demand_alone() {
    for (options, environment, coloured) in [
        (&[][..], &[][..], false),
        (&["--color", "auto"], &[("TERM", "xterm-256color")], false),
        (&["--color", "always"], &[], true),
        (&["--color=always"], &[("NO_COLOR", "1"), ("TERM", "dumb")], true),
        (&["--color", "never"], &[("CLICOLOR_FORCE", "1")], false),
        (&[], &[("CLICOLOR_FORCE", "1")], true),
        (&[], &[("CLICOLOR_FORCE", "0")], false),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")], true),
    ] {
        let mut command = program();
        command.current_dir(checkout()).args(EXPLAIN).args(options).envs(environment.iter().copied());
        let said = finished(command, "");
        assert_eq!((said.code, is_coloured(&said.out)), (0, coloured), "{options:?} {environment:?}: {}", said.out);
    }
}

#[test]
fn json_never_has_colours() {
    let mut command = program();
    command.current_dir(checkout()).args(EXPLAIN).args(["--json", "--color", "always"]);
    let said = finished(command, "");
    assert!(said.code == 0 && !is_coloured(&said.out), "{}", said.out);
}

#[test]
fn usage_follows_the_same_option() {
    for (color, coloured) in [("always", true), ("never", false), ("auto", false)] {
        let mut command = program();
        command.args(["--color", color, "lnt"]);
        let said = finished(command, "");
        assert_eq!((said.code, is_coloured(&said.err)), (2, coloured), "{color}: {}", said.err);
    }
}

#[test]
fn a_terminal_has_colours_unless_it_is_told_not_to() {
    if !has("script") {
        return;
    }
    let line = shlex::try_join([env!("CARGO_BIN_EXE_causeway")].into_iter().chain(EXPLAIN)).unwrap();
    for (environment, more, coloured) in [
        (&[("TERM", "xterm")][..], "", true),
        (&[("TERM", "xterm"), ("NO_COLOR", "")], "", true),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], "", false),
        (&[("TERM", "xterm"), ("NO_COLOR", "0")], "", false),
        (&[("TERM", "xterm"), ("NO_COLOR", "1")], " --color always", true),
        (&[("TERM", "dumb")], "", false),
        (&[("TERM", "xterm")], " --color never", false),
    ] {
        let mut command = Command::new("script");
        command.current_dir(checkout()).args(["-qec", &format!("{line}{more}"), "/dev/null"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("SHELL", "/bin/sh");
        command.envs(environment.iter().copied());
        let said = finished(command, "");
        assert!(said.code == 0 && said.out.contains("denied"), "{}{}", said.out, said.err);
        assert_eq!(is_coloured(&said.out), coloured, "{environment:?}{more}: {:?}", said.out);
    }
}
