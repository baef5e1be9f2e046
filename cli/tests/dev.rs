//! `causeway dev`, as a new user works with it: the lines that it prints are copied into a shell.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Ends with the test, however that ends.
struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn json_is_an_object_a_line() {
    let mut dev = Command::new(env!("CARGO_BIN_EXE_causeway"));
    let mut dev = Dev(dev.args(["dev", "--any-port", "--json"]).stdout(Stdio::piped()).spawn().unwrap());
    let said = BufReader::new(dev.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut commands = 0;
    for line in said {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        match (line["shows"].as_str(), line["command"].as_str(), line["part"].as_str()) {
            (Some(_), Some(_), None) => commands += 1,
            (None, None, Some(_)) => assert!(line.get("entry").is_some(), "{line}"),
            _ => panic!("{line}"),
        }
        if commands == 10 {
            break;
        }
    }
}

#[test]
fn every_printed_line_does_what_it_says() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(!std::env::var("CAUSEWAY_REQUIRE_TIERS").is_ok_and(|value| value == "1"), "curl is not installed");
        eprintln!("skipped: curl is not installed");
        return;
    }
    let mut dev = Command::new(env!("CARGO_BIN_EXE_causeway"));
    let mut dev = Dev(dev.args(["dev", "--any-port"]).stdout(Stdio::piped()).spawn().unwrap());
    let mut said = BufReader::new(dev.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    // Headings and commands alternate, until the log begins.
    let mut lines = Vec::new();
    let mut heading = String::new();
    for line in said.by_ref() {
        if let Some(text) = line.strip_prefix("# ") {
            if text.starts_with("decisions") {
                break;
            }
            heading = text.to_owned();
        } else if line.starts_with("  curl ") || line.starts_with("  TOKEN=") {
            lines.push((heading.clone(), line.trim().to_owned()));
        }
        // Anything else is an empty line, or what the parts log while they start.
    }
    // The log goes on, and somebody has to read it.
    std::thread::spawn(move || said.for_each(drop));

    let (_, token) = lines.remove(0);
    assert!(token.starts_with("TOKEN="), "{token}");
    assert!(lines.len() >= 8, "{lines:?}");
    for (heading, line) in lines {
        let output = Command::new("sh").args(["-c", &format!("{token}\n{line}")]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{heading}: {line}\n{}", String::from_utf8_lossy(&output.stderr));
        match heading.rsplit_once(": ").map(|(_, status)| status).filter(|status| status.parse::<u16>().is_ok()) {
            Some(status) => assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{heading}: {line}\n{text}"),
            None => assert!(!text.is_empty(), "{heading}: {line}"),
        }
    }
}
