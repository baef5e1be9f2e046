//! The program itself: a bad configuration stops it with one line and exit 64.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn a_bad_configuration_is_one_line_and_exit_64() {
    let good = [
        ("CAUSEWAY_ISSUER", "https://issuer.bookinfo.example"),
        ("CAUSEWAY_SIGNING_SECRET", "signing"),
        ("CAUSEWAY_CLIENTS_TABLE", "clients"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ];
    for (name, value, expected) in [
        ("CAUSEWAY_ISSUER", "issuer.example", "CAUSEWAY_ISSUER"),
        ("CAUSEWAY_CLIENTS_TABLE", "", "CAUSEWAY_CLIENTS_TABLE is not set"),
        ("CAUSEWAY_TOKEN_TTL_SECONDS", "forever", "CAUSEWAY_TOKEN_TTL_SECONDS"),
        ("CAUSEWAY_ISSUR", "x", "did you mean CAUSEWAY_ISSUER?"),
        ("AWS_REGION", "", "AWS_REGION is not set"),
    ] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_key-issuer")).env_clear().envs(good).env(name, value).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{name}: {said}");
        assert!(said.starts_with("key-issuer: ") && said.contains(expected), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("hunter2") && output.stdout.is_empty());
    }
}
