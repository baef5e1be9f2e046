//! Invariants of the architecture that the compiler does not hold.

use std::process::Command;

/// The packages that `package` links when it is built as it ships.
fn links(package: &str) -> Result<Vec<String>, String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "-p",
            package,
            "-e",
            "normal,no-proc-macro",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(e2e::root())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut names: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}

#[test]
fn lambda_programs_link_no_yaml_parser_and_no_second_crypto_stack() -> Result<(), String> {
    for program in ["authorizer", "key-issuer", "extension", "adapter"] {
        let links = links(program)?;
        for banned in ["saphyr-parser", "ring", "openssl", "openssl-sys", "native-tls"] {
            assert!(!links.iter().any(|name| name == banned), "{program} links {banned}");
        }
        assert!(links.iter().any(|name| name == "aws-lc-rs"), "{program} does not link aws-lc-rs: the list is wrong");
    }
    Ok(())
}

#[test]
fn the_decision_core_has_no_way_to_the_outside() -> Result<(), String> {
    for core in ["authz", "istio", "identity"] {
        let links = links(core)?;
        for banned in ["tokio", "hyper", "reqwest", "mio", "socket2"] {
            assert!(!links.iter().any(|name| name == banned), "{core} links {banned}");
        }
    }
    Ok(())
}

#[test]
fn dependencies_go_one_way() -> Result<(), String> {
    // istio, identity <- authz <- platform <- programs <- cli, tests
    let above: [(&str, &[&str]); 8] = [
        ("istio", &["identity", "authz", "platform", "authorizer", "extension", "key-issuer", "adapter", "causeway"]),
        ("identity", &["istio", "authz", "platform", "authorizer", "extension", "key-issuer", "adapter", "causeway"]),
        ("authz", &["platform", "authorizer", "extension", "key-issuer", "adapter", "causeway"]),
        ("platform", &["authorizer", "extension", "key-issuer", "adapter", "causeway"]),
        ("authorizer", &["extension", "key-issuer", "adapter", "causeway"]),
        ("extension", &["authorizer", "key-issuer", "adapter", "causeway"]),
        ("key-issuer", &["authorizer", "extension", "adapter", "causeway"]),
        ("adapter", &["authorizer", "extension", "key-issuer", "causeway"]),
    ];
    for (package, banned) in above {
        let links = links(package)?;
        for other in banned {
            assert!(!links.iter().any(|name| name == other), "{package} depends on {other}");
        }
    }
    Ok(())
}
