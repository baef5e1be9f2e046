//! The layer's wrapper script, under every shell that is there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/layer/causeway-wrapper");

fn shells() -> Vec<&'static str> {
    let there = |shell: &&str| Command::new(shell).args(["-c", ":"]).status().is_ok();
    let found: Vec<&str> = ["sh", "dash", "bash"].into_iter().filter(there).collect();
    assert!(!found.is_empty(), "found no shell");
    found
}

fn run(shell: &str, variables: &[(&str, &str)], command: &[&str]) -> Output {
    Command::new(shell)
        .arg(WRAPPER)
        .args(command)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn environment(output: &Output) -> BTreeMap<String, String> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn the_function_gets_the_proxy_and_the_exceptions() {
    for shell in shells() {
        let variables =
            [("AWS_LAMBDA_RUNTIME_API", "169.254.7.7:9001"), ("NO_PROXY", "db.internal"), ("no_proxy", "a,b")];
        let output = run(shell, &variables, &["env"]);
        assert!(output.status.success(), "{shell}: {output:?}");
        let set = environment(&output);
        assert_eq!(set["http_proxy"], "http://127.0.0.1:15001", "{shell}");
        assert_eq!(set["http_proxy"], set["HTTP_PROXY"]);
        assert_eq!(set["no_proxy"], set["NO_PROXY"]);
        assert!(!set.contains_key("HTTPS_PROXY") && !set.contains_key("https_proxy"));
        let direct: Vec<&str> = set["no_proxy"].split(',').collect();
        for name in
            ["169.254.7.7", "127.0.0.1", "localhost", "amazonaws.com", ".amazonaws.com", "db.internal", "a", "b"]
        {
            assert!(direct.contains(&name), "{shell}: {name} is missing in {direct:?}");
        }
        assert!(direct.iter().all(|name| !name.is_empty()), "{shell}: {direct:?}");
        assert_eq!(set["NODE_USE_ENV_PROXY"], "1", "{shell}");
        let own = run(shell, &[("NODE_USE_ENV_PROXY", "0")], &["printenv", "NODE_USE_ENV_PROXY"]);
        assert_eq!(own.stdout, b"0\n", "{shell}");
    }
}

#[test]
fn a_function_that_excepts_everything_still_reaches_the_mesh() {
    for shell in shells() {
        let output = run(shell, &[("NO_PROXY", "*"), ("no_proxy", "db.internal")], &["env"]);
        let set = environment(&output);
        let direct: Vec<&str> = set["no_proxy"].split(',').collect();
        assert!(!direct.contains(&"*") && direct.contains(&"db.internal"), "{shell}: {direct:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("no_proxy"), "{shell}: {said}");
    }
}

#[test]
fn port_and_arguments_arrive_unchanged() {
    for shell in shells() {
        let output = run(shell, &[("CAUSEWAY_PROXY_PORT", "15002")], &["printenv", "http_proxy"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:15002\n", "{shell}");
        let output = run(shell, &[], &["printf", "%s|", "a b", "", "*", "$HOME"]);
        assert_eq!(output.stdout, b"a b||*|$HOME|", "{shell}");
        for port in ["80 80", "http", "-1", "0", "65536", "99999999999999999999"] {
            let output = run(shell, &[("CAUSEWAY_PROXY_PORT", port)], &["printenv", "http_proxy"]);
            assert_eq!(output.stdout, b"http://127.0.0.1:15001\n", "{shell}: {port}");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(said.contains("CAUSEWAY_PROXY_PORT") && said.lines().count() == 1, "{shell}: {port}: {said}");
        }
        let output = run(shell, &[("CAUSEWAY_PROXY_PORT", "65535")], &["printenv", "http_proxy"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:65535\n", "{shell}");
        let output = run(shell, &[], &["sh", "-c", "exit 7"]);
        assert_eq!(output.status.code(), Some(7), "{shell}");
    }
}

#[test]
fn another_wrapper_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let next = folder.path().join("next wrapper");
    std::fs::write(&next, "#!/bin/sh\nNEXT=yes\nexport NEXT\nexec \"$@\"\n").unwrap();
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o755)).unwrap();
    for shell in shells() {
        let variables = [("CAUSEWAY_NEXT_WRAPPER", next.to_str().unwrap())];
        let set = environment(&run(shell, &variables, &["env"]));
        assert_eq!((set["NEXT"].as_str(), set["http_proxy"].as_str()), ("yes", "http://127.0.0.1:15001"), "{shell}");
        for wrong in ["/not/there", "/tmp"] {
            let output = run(shell, &[("CAUSEWAY_NEXT_WRAPPER", wrong)], &["env"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success() && said.contains("CAUSEWAY_NEXT_WRAPPER"), "{shell}: {wrong}: {said}");
        }
        // One that names itself does not go round for ever.
        let output = run(shell, &[("CAUSEWAY_NEXT_WRAPPER", WRAPPER)], &["echo", "done"]);
        assert_eq!(output.stdout, b"done\n", "{shell}");
    }
}

#[test]
fn the_functions_own_variables_stay_as_they_are() {
    let own = [("port", "8080"), ("runtime", "a"), ("direct", "b"), ("kept", "c"), ("next", "d")];
    for shell in shells() {
        let set = environment(&run(shell, &own, &["env"]));
        for (name, value) in own {
            assert_eq!(set[name], value, "{shell}: {name}");
        }
    }
}

#[test]
fn a_proxy_that_is_replaced_is_said_without_its_password() {
    for shell in shells() {
        let output = run(shell, &[("HTTP_PROXY", "http://me:hunter2@proxy:3128")], &["printenv", "HTTP_PROXY"]);
        assert_eq!(output.stdout, b"http://127.0.0.1:15001\n", "{shell}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("http_proxy") && !said.contains("hunter2"), "{shell}: {said}");
    }
}
