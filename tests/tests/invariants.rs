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
    for core in ["authz", "istio", "identity", "traffic"] {
        let links = links(core)?;
        for banned in ["tokio", "hyper", "reqwest", "mio", "socket2"] {
            assert!(!links.iter().any(|name| name == banned), "{core} links {banned}");
        }
    }
    Ok(())
}

/// Lambda fetches and unpacks what ships at each cold start. A profile for one package can turn stripping off unsaid.
#[test]
fn programs_that_ship_carry_no_symbols() -> Result<(), String> {
    let programs = ["authorizer", "key-issuer", "extension", "adapter"].map(e2e::program);
    let paths: Vec<&std::path::Path> = programs.iter().map(std::path::PathBuf::as_path).collect();
    if !e2e::tier::available(&paths) {
        return Ok(());
    }
    for program in &programs {
        let bytes = std::fs::read(program).map_err(|error| format!("{}: {error}", program.display()))?;
        let has = |section: &[u8]| bytes.windows(section.len()).any(|window| window == section);
        assert!(has(b"\0.shstrtab\0"), "{}: no names of sections, so nothing could be found", program.display());
        assert!(!has(b"\0.symtab\0"), "{} carries symbols; see its profile in Cargo.toml", program.display());
    }
    Ok(())
}

#[test]
fn dependencies_go_one_way() -> Result<(), String> {
    // istio, identity <- traffic <- extension; istio, identity <- authz <- platform <- programs <- cli, tests
    let above: [(&str, &[&str]); 9] = [
        (
            "istio",
            &[
                "identity",
                "traffic",
                "authz",
                "platform",
                "authorizer",
                "extension",
                "key-issuer",
                "adapter",
                "causeway",
            ],
        ),
        (
            "identity",
            &["istio", "traffic", "authz", "platform", "authorizer", "extension", "key-issuer", "adapter", "causeway"],
        ),
        ("traffic", &["authz", "platform", "authorizer", "extension", "key-issuer", "adapter", "causeway"]),
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
