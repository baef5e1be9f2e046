//! One HTTP message, whole: enough for the emulator and for a function.

use std::io::{Read, Write};
use std::net::TcpStream;

pub(crate) fn write(stream: &mut TcpStream, message: &str) -> Result<(), String> {
    stream.write_all(message.as_bytes()).map_err(|error| error.to_string())
}

/// Reads until the body is complete; nothing may follow it.
pub(crate) fn read(stream: &mut TcpStream) -> Result<String, String> {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 16 * 1024];
        let length = stream.read(&mut chunk).map_err(|error| error.to_string())?;
        if length == 0 {
            return Err("the other side has hung up".to_owned());
        }
        bytes.extend_from_slice(&chunk[..length]);
        let text = String::from_utf8_lossy(&bytes);
        if text.split_once("\r\n\r\n").is_some_and(|(head, body)| is_whole(head, body)) {
            return Ok(text.into_owned());
        }
    }
}

fn is_whole(head: &str, body: &str) -> bool {
    let head = head.to_ascii_lowercase();
    match head.split_once("content-length: ") {
        Some((_, rest)) => {
            let length: usize = rest.lines().next().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
            body.len() >= length
        }
        None => !head.contains("transfer-encoding: chunked") || body.ends_with("0\r\n\r\n"),
    }
}
