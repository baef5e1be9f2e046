//! `sam local invoke` of each function, in Docker, with what `sam build` has made.
//!
//! Where no Docker engine answers, or nothing was built, this is skipped, also where every other tier must run.

#![allow(clippy::print_stderr)]

use std::process::Command;

use e2e::{root, tier, tool};
use serde_json::Value;

use crate::{Outcome, said, sam, text};

const IMAGE: &str = "public.ecr.aws/lambda/provided:al2023-x86_64";
const PARAMETERS: [&str; 3] = ["--parameter-overrides", "Issuer=https://issuer.example", "OrganizationId=o-abcdefghij"];

fn docker(arguments: &[&str]) -> bool {
    Command::new("docker").args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Whether there is an engine, an image and something to run. The image is a stand-in if there is none.
fn available() -> Result<bool, String> {
    let built = root().join(".aws-sam/build");
    // `sam build KeyIssuer` makes that one alone, and takes away what was there.
    let parts = ["Authorizer", "KeyIssuer", "ExtensionLayer", "ConfigurationLayer", "template.yaml"];
    let reason = if !docker(&["info"]) {
        "no Docker engine answers"
    } else if !parts.iter().all(|part| built.join(part).exists()) {
        "not everything is built; `make sam` does it"
    } else {
        let parts = [tool("sam")];
        if !tier::available(&[&parts[0]]) {
            return Ok(false);
        }
        if !docker(&["image", "inspect", IMAGE]) {
            let output = Command::new(root().join("tests/tools/lambda-image")).arg(IMAGE).output().map_err(text)?;
            assert!(output.status.success(), "{}", said(&output));
        }
        return Ok(true);
    };
    eprintln!("skipped: {reason}");
    Ok(false)
}

/// What the function answers to an event: the last line on standard output; and all that it and SAM have said.
fn invoke(function: &str, template: Option<&str>, event: &str) -> Result<(Value, String), String> {
    let home = tempfile::tempdir().map_err(text)?;
    let mut arguments = vec!["local", "invoke", function, "-e", event, "--skip-pull-image"];
    match template {
        Some(template) => arguments.extend(["-t", template]),
        None => arguments.extend(PARAMETERS),
    }
    let output = sam(home.path(), &arguments).env("DOCKER_HOST", docker_host()).output().map_err(text)?;
    let out = String::from_utf8_lossy(&output.stdout);
    let answer = out.lines().rev().find(|line| line.trim_start().starts_with('{')).unwrap_or_default();
    let answer = serde_json::from_str(answer).map_err(|error| format!("{error}: {}", said(&output)))?;
    Ok((answer, said(&output)))
}

/// The engine that `docker` uses; the SAM CLI has another home folder.
#[allow(clippy::disallowed_methods, reason = "the tests' own environment")]
fn docker_host() -> String {
    std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned())
}

#[test]
fn each_function_answers_its_event() -> Outcome {
    if !available()? {
        return Ok(());
    }
    let (answer, log) = invoke("Authorizer", None, "examples/events/http-2.0.json")?;
    // By the answer alone: SAM does not show every line that a function has logged.
    let denied =
        answer["isAuthorized"] == false && answer["context"]["reason"].as_str().is_some_and(|it| !it.is_empty());
    assert!(denied || answer["errorMessage"] == "Unauthorized", "{log}");

    let (answer, log) = invoke("KeyIssuer", None, "tests/fixtures/events/issuer-discovery.json")?;
    assert_eq!(answer["statusCode"], 200, "{log}");
    assert!(
        answer["body"].as_str().is_some_and(|body| body.contains("\"issuer\":\"https://issuer.example\"")),
        "{log}"
    );

    // The certificate comes from the issuer's IAM door, and there is none: the call is refused, and never sent in plain.
    let (answer, log) =
        invoke("Legacy", Some("tests/fixtures/local/template.yaml"), "tests/fixtures/events/legacy.json")?;
    assert!(answer["said"].as_str().is_some_and(|said| said.starts_with("503 ")), "{log}");
    assert!(answer["body"].as_str().is_some_and(|body| body.starts_with("identity_unavailable: ")), "{log}");
    Ok(())
}
