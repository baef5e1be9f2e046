//! A line for a person who waits, and for nobody else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::{finished, has, program};

const NO_KEYS: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 15\r\n\r\n{\"api_keys\":[]}";

/// An issuer that has no keys, and that answers one request when `wait` is over; its address.
fn issuer(wait: impl FnOnce() + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = peer.read(&mut request);
        wait();
        let _ = peer.write_all(NO_KEYS.as_bytes());
    });
    format!("http://{address}")
}

#[test]
fn a_terminal_shows_that_something_goes_on() {
    if !has("script") {
        return;
    }
    let (seen, wait) = channel();
    let issuer = issuer(move || wait.recv().unwrap());
    let line = format!("{} keys list --issuer {issuer}", env!("CARGO_BIN_EXE_causeway"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("CAUSEWAY_TOKEN", "x").env("TERM", "xterm").env("SHELL", "/bin/sh");
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut out, mut all, mut bytes) = (child.stdout.take().unwrap(), String::new(), [0; 256]);
    // The issuer does not answer before the line is there: without it this never ends well.
    while !all.contains("asking the issuer (") {
        let read = out.read(&mut bytes).unwrap();
        assert!(read > 0, "the program has ended: {all:?}");
        all.push_str(&String::from_utf8_lossy(&bytes[..read]));
    }
    seen.send(()).unwrap();
    out.read_to_string(&mut all).unwrap();
    assert!(child.wait().unwrap().success(), "{all:?}");
    assert!(all.ends_with("\r\u{1b}[K"), "the line is not taken away: {all:?}");
}

#[test]
fn pipes_and_json_show_nothing() {
    let slow = || std::thread::sleep(Duration::from_millis(1500));
    let mut command = program();
    command.args(["keys", "list", "--issuer", &issuer(slow)]).env("CAUSEWAY_TOKEN", "x").env("TERM", "xterm");
    let said = finished(command, "");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    if !has("script") {
        return;
    }
    let line = format!("{} keys list --json --issuer {}", env!("CARGO_BIN_EXE_causeway"), issuer(slow));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("CAUSEWAY_TOKEN", "x").env("TERM", "xterm").env("SHELL", "/bin/sh");
    let said = finished(command, "");
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
}
