//! `causeway keys` and `causeway clients`, against the local stack.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::process::Stdio;
use std::sync::Arc;

use causeway::dev::stack::{Ports, Stack};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the program with nothing of this machine's environment.
async fn causeway(env: &[(&str, &str)], args: &[&str], input: &str) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(args).env_clear().envs(env.iter().copied());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that wants no input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
    let output = child.wait_with_output().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_clients_from_the_command_line() {
    let stack = Stack::start(Ports::default(), Arc::new(|_, _| {})).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret_file = folder.path().join("secret");
    std::fs::write(&secret_file, format!("{}\n", stack.admin_secret.expose())).unwrap();
    let (url, secret_file) = (format!("http://{}", stack.issuer), secret_file.display().to_string());
    let env = [("CAUSEWAY_ISSUER_URL", url.as_str())];
    let admin = async |args: &[&str]| {
        let mut all = args.to_vec();
        all.extend(["--client-id", "admin", "--client-secret-file", &secret_file]);
        causeway(&env, &all, "").await
    };

    let made = admin(&["clients", "create", "partner", "--scope", "reviews.read", "--audience", "bookinfo"]).await;
    assert_eq!((made.code, made.out.trim().len()), (0, 43), "{}{}", made.out, made.err);
    assert!(made.err.contains("made the client partner") && !made.err.contains(made.out.trim()), "{}", made.err);
    let again = admin(&["clients", "create", "partner"]).await;
    assert_eq!(again.code, 1);
    assert!(again.err.contains("409 already_exists"), "{}", again.err);
    for (arguments, members) in [
        (&["clients", "list", "--json"][..], &["client_id", "state", "scopes"][..]),
        (&["clients", "show", "partner", "--json"], &["client_id", "state", "scopes"]),
        (&["clients", "create", "other", "--scope", "a.b", "--json"], &["client_id", "client_secret"]),
        (&["clients", "add-secret", "other", "--json"], &["client_secret", "secrets"]),
        (&["keys", "create", "--environment", "dev", "--client", "other", "--json"], &["id", "api_key"]),
        (&["keys", "list", "--client", "other", "--json"], &["id", "state"]),
        (&["keys", "status", "--json"], &[]),
        (&["clients", "delete", "other", "--json"], &["client_id", "deleted"]),
    ] {
        let said = admin(arguments).await;
        assert_eq!(said.code, 0, "{arguments:?}: {}", said.err);
        let first: serde_json::Value = serde_json::from_str(said.out.lines().next().unwrap()).unwrap();
        for member in members {
            assert!(first.get(member).is_some_and(|value| !value.is_null()), "{arguments:?}: {member}: {first}");
        }
    }
    let list = admin(&["clients", "list"]).await;
    assert!(list.out.lines().any(|line| line.starts_with("partner  active")), "{}", list.out);

    let create = ["keys", "create", "--environment", "dev", "--client", "partner", "--scope", "reviews.read"];
    let made = admin(&create).await;
    assert_eq!(made.code, 0, "{}", made.err);
    let key = made.out.trim();
    let checked = causeway(&[], &["keys", "check"], key).await;
    assert_eq!(checked.code, 0, "{}", checked.err);
    let id = authz::ApiKey::parse(key).unwrap().id().to_owned();
    assert_eq!(checked.out, format!("well-formed: id {id}, environment dev\n"));
    let (rest, last) = key.split_at(key.len() - 1);
    let other = if last == "x" { "y" } else { "x" };
    let mistyped = causeway(&[], &["keys", "check", &format!("{rest}{other}")], "").await;
    assert_eq!((mistyped.code, mistyped.out.as_str()), (1, ""));
    assert!(mistyped.err.contains("checksum") && !mistyped.err.contains(&key[20..40]), "{}", mistyped.err);

    let list = admin(&["keys", "list", "--client", "partner", "--json"]).await;
    assert!(list.out.contains(&id) && !list.out.contains(&key[20..]), "{}", list.out);
    let rotated = admin(&["keys", "rotate", &id, "--overlap-seconds", "60"]).await;
    assert!(rotated.code == 0 && rotated.out.starts_with("cwk_dev_") && rotated.out.trim() != key, "{}", rotated.err);
    assert!(rotated.err.contains("the old value ends at"), "{}", rotated.err);
    let revoked = admin(&["keys", "revoke", &id]).await;
    assert_eq!((revoked.code, revoked.out.as_str()), (0, ""), "{}", revoked.err);
    let refused = admin(&["keys", "rotate", &id]).await;
    assert!(refused.code == 1 && refused.err.contains("key_revoked"), "{}", refused.err);
    let status = admin(&["keys", "status"]).await;
    assert!(status.code == 0 && status.out.contains("(default)"), "{}{}", status.out, status.err);
    assert_eq!(admin(&["clients", "delete", "partner"]).await.code, 0);

    // Whoever has no credential, another one, or asks somebody who is not the issuer.
    let none = causeway(&env, &["keys", "list"], "").await;
    assert!(none.code == 1 && none.err.contains("no credentials"), "{}", none.err);
    let wrong = causeway(&[env[0], ("CAUSEWAY_TOKEN", "hunter2-hunter2")], &["keys", "list"], "").await;
    assert!(wrong.code == 1 && wrong.err.contains("401 invalid_token"), "{}", wrong.err);
    assert!(!wrong.err.contains("hunter2"), "{}", wrong.err);
    let plain = causeway(&[("CAUSEWAY_TOKEN", "x")], &["keys", "list", "--issuer", "http://issuer.example"], "").await;
    assert!(plain.code == 1 && plain.err.contains("https"), "{}", plain.err);
}
