//! The scripts of `causeway completions`.

use std::process::Command;

use super::{causeway, finished, has};

/// What bash offers for the last of `words`.
fn bash(words: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("causeway.bash");
    std::fs::write(&script, causeway(&["completions", "bash"]).out).unwrap();
    // As bash itself calls it.
    let ask = format!(
        "source {} || exit 9; f=$(complete -p causeway | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
         COMP_WORDS=({}); COMP_CWORD={}; $f causeway \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        words.iter().map(|word| format!("'{word}' ")).collect::<String>(),
        words.len() - 1,
    );
    let mut command = Command::new("bash");
    command.args(["--norc", "--noprofile", "-c", &ask]);
    let said = finished(command, "");
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{words:?}");
    said.out.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    if !has("bash") {
        return;
    }
    for (words, offered) in [
        (&["causeway", "li"][..], &["lint"][..]),
        (&["causeway", "explain-"], &["explain-egress"]),
        (&["causeway", "keys", "ro"], &["rotate"]),
        (&["causeway", "lint", "--den"], &["--deny"]),
        (&["causeway", "lint", "--mode", ""], &["istio", "strict"]),
        (&["causeway", "completions", "f"], &["fish"]),
        (&["causeway", "--color", "a"], &["auto", "always"]),
        (&["causeway", "nothing-of-this-name"], &[]),
    ] {
        assert_eq!(bash(words), offered, "{words:?}");
    }
    let all = bash(&["causeway", ""]);
    for name in ["demo", "dev", "evaluate", "explain", "init", "lint", "man", "token"] {
        assert!(all.iter().any(|word| word == name), "{name}: {all:?}");
    }
}

#[test]
fn each_shell_has_a_script_of_its_own() {
    for (shell, words) in [("bash", "complete -F"), ("zsh", "#compdef causeway"), ("fish", "complete -c causeway")] {
        let said = causeway(&["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains(words) && said.out.contains("explain-egress"), "{shell}: {}", said.out);
        // Whether the shell itself understands it, where it is at hand.
        if Command::new(shell).arg("--version").output().is_ok() {
            let folder = tempfile::tempdir().unwrap();
            let script = folder.path().join("script");
            std::fs::write(&script, said.out).unwrap();
            let checked = Command::new(shell).arg("-n").arg(&script).output().unwrap();
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
    let said = causeway(&["completions", "tcsh"]);
    assert!(said.code == 2 && said.err.contains("bash, zsh, fish"), "{}", said.err);
}
