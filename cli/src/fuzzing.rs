//! The parsers of outside bytes that are private to this program, for `fuzz/`.

/// Reads a line of `evaluate --requests`; whether it is a request.
pub fn request_line(line: &[u8]) -> bool {
    crate::request_line::RequestLine::parse(line).is_ok()
}

/// Reads a command line of `explain --curl`; whether it is one.
pub fn curl(line: &str) -> bool {
    crate::explain::reads_curl(line)
}
