//! Every program says in one line what is wrong with its configuration, and ends with 64.

use e2e::{program, tier};
use tokio::process::Command;

/// Runs a program with `environment` alone; its exit status and what it said.
async fn run(name: &str, environment: &[(&str, &str)]) -> Result<(Option<i32>, String), String> {
    let mut command = Command::new(program(name));
    command.env_clear().envs(environment.iter().copied()).kill_on_drop(true);
    let output = tokio::time::timeout(e2e::process::PATIENCE, command.output()).await;
    let output = output.map_err(|_| format!("{name} does not end"))?.map_err(|error| error.to_string())?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

#[tokio::test]
async fn a_bad_configuration_stops_the_start_with_one_line() -> Result<(), String> {
    let programs = ["authorizer", "key-issuer", "adapter", "extension"].map(program);
    if !tier::available(&programs.iter().map(std::path::PathBuf::as_path).collect::<Vec<_>>()) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).map(|()| path.display().to_string()).map_err(|error| error.to_string())
    };
    let good =
        platform::bundle::write(&[(platform::bundle::Section::Access, b"x")]).map_err(|error| error.to_string())?;
    let mut other_version = good.clone();
    other_version[8] = 99;
    let mut damaged = good.clone();
    damaged[60] ^= 1;
    let (no_bundle, other_version, damaged) = (
        write("no.bundle", b"kind: Bundle")?,
        write("other.bundle", &other_version)?,
        write("damaged.bundle", &damaged)?,
    );

    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let busy = listener.local_addr().map_err(|error| error.to_string())?;
    let bundle = {
        let resources = causeway::dev::stack::resources().map_err(|errors| errors.join("; "))?;
        let bytes = causeway::bundle::build(&resources, Default::default()).map_err(|errors| errors.join("; "))?;
        write("mesh.bundle", &bytes)?
    };
    let aws =
        [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "AKID"), ("AWS_SECRET_ACCESS_KEY", "hunter2hunter2")];
    let lambda = [
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:1"),
        ("AWS_LAMBDA_FUNCTION_NAME", "f"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
    ];
    let busy_address = busy.to_string();
    let busy_port = busy.port().to_string();
    /// Program, environment, and what the line must say.
    type Row<'a> = (&'a str, Vec<(&'a str, &'a str)>, Vec<&'a str>);
    let rows: Vec<Row<'_>> = vec![
        (
            "authorizer",
            vec![("CAUSEWAY_BUNDLE", "/nonexistent/mesh.bundle")],
            vec!["/nonexistent/mesh.bundle", "CAUSEWAY_BUNDLE"],
        ),
        ("authorizer", vec![("CAUSEWAY_BUNDLE", &no_bundle)], vec!["not one that"]),
        ("authorizer", vec![("CAUSEWAY_BUNDLE", &other_version)], vec!["format version 99"]),
        ("authorizer", vec![("CAUSEWAY_BUNDLE", &damaged)], vec!["checksum"]),
        ("authorizer", vec![("CAUSEWAY_RESPONSE", "maybe")], vec!["CAUSEWAY_RESPONSE", "maybe", "simple"]),
        (
            "authorizer",
            vec![("CAUSEWAY_API_KEYS_TABLE", "keys")],
            vec!["CAUSEWAY_PEPPER_SECRET", "CAUSEWAY_API_KEYS_TABLE"],
        ),
        ("authorizer", vec![("CAUSEWAY_BUNDEL", "x")], vec!["CAUSEWAY_BUNDEL", "did you mean CAUSEWAY_BUNDLE"]),
        ("key-issuer", vec![], vec!["CAUSEWAY_ISSUER"]),
        (
            "key-issuer",
            vec![("CAUSEWAY_ISSUER", "http://issuer.example"), ("CAUSEWAY_SIGNING_SECRET", "s")],
            vec!["CAUSEWAY_ISSUER", "https"],
        ),
        (
            "key-issuer",
            vec![
                ("CAUSEWAY_ISSUER", "https://issuer.example"),
                ("CAUSEWAY_SIGNING_SECRET", "s"),
                ("CAUSEWAY_TRUST_DOMAIN", "Not A Domain"),
            ],
            vec!["CAUSEWAY_TRUST_DOMAIN", "Not A Domain"],
        ),
        (
            "key-issuer",
            vec![
                ("CAUSEWAY_ISSUER", "https://issuer.example"),
                ("CAUSEWAY_SIGNING_SECRET", "s"),
                ("CAUSEWAY_IAM_DOOR_IDS", "abc"),
            ],
            vec!["CAUSEWAY_REGISTRY", "CAUSEWAY_IAM_DOOR_IDS"],
        ),
        (
            "adapter",
            vec![("CAUSEWAY_ADAPTER_ADDRESS", "localhost")],
            vec!["CAUSEWAY_ADAPTER_ADDRESS", "localhost", "port"],
        ),
        (
            "adapter",
            vec![("CAUSEWAY_BUNDLE", &bundle), ("CAUSEWAY_ADAPTER_ADDRESS", &busy_address)],
            vec![&busy_address, "CAUSEWAY_ADAPTER_ADDRESS"],
        ),
        (
            "extension",
            vec![("CAUSEWAY_BUNDLE", &bundle), ("CAUSEWAY_SVID_URL", "http://issuer.example")],
            vec!["CAUSEWAY_SVID_URL", "https"],
        ),
        (
            "extension",
            vec![
                ("CAUSEWAY_BUNDLE", &bundle),
                ("CAUSEWAY_SVID_URL", "https://issuer.example"),
                ("CAUSEWAY_PROXY_PORT", "0"),
            ],
            vec!["CAUSEWAY_PROXY_PORT", "65535"],
        ),
        (
            "extension",
            vec![
                ("CAUSEWAY_BUNDLE", &bundle),
                ("CAUSEWAY_SVID_URL", "https://issuer.example"),
                ("CAUSEWAY_PROXY_PORT", &busy_port),
            ],
            vec![&busy_port, "CAUSEWAY_PROXY_PORT"],
        ),
        (
            "extension",
            vec![
                ("CAUSEWAY_BUNDLE", &bundle),
                ("CAUSEWAY_SVID_URL", "https://issuer.example"),
                ("CAUSEWAY_TRUST_DOMAIN", "other.example"),
            ],
            vec!["CAUSEWAY_TRUST_DOMAIN", "other.example", "cluster.local"],
        ),
    ];
    for (name, mut environment, words) in rows {
        environment.extend(aws);
        // Outside Lambda the extension is a plain process, which may end.
        if name == "authorizer" || name == "key-issuer" {
            environment.extend(lambda);
        }
        let (status, said) = run(name, &environment).await?;
        let row = format!("{name} {environment:?} said: {said}");
        assert_eq!(status, Some(64), "{row}");
        assert_eq!(said.lines().count(), 1, "{row}");
        assert!(words.iter().all(|word| said.contains(word)), "{row}");
        assert!(!said.contains("hunter2"), "{row}");
    }
    Ok(())
}
