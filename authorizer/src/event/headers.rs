//! Header lines and queries of events.

use authz::request::{MAX_HEADER_BYTES, MAX_HEADERS};

use super::refused::Why;

/// The header lines of a request, names in lower case, within the limits.
#[derive(Default)]
pub(super) struct Headers {
    lines: Vec<(String, String)>,
    bytes: usize,
    /// Whether repeated lines arrived as one, joined with commas.
    pub(super) joined: bool,
    /// Whether lines may be missing.
    pub(super) partial: bool,
}

impl Headers {
    /// None yet, of an event that joins repeated lines.
    pub(super) fn of_joined() -> Self {
        Self { joined: true, ..Self::default() }
    }

    pub(super) fn push(&mut self, mut name: String, value: String) -> Result<(), Why> {
        name.make_ascii_lowercase();
        if !is_token(&name) {
            return Err(Why::event("a header name is not an HTTP token"));
        }
        // RFC 9110 section 5.5: CR, LF and NUL are invalid and dangerous in a field value.
        if value.bytes().any(|b| b.is_ascii_control() && b != b'\t') {
            return Err(Why::event("a header value has a control character"));
        }
        self.bytes += name.len() + value.len();
        if self.lines.len() == MAX_HEADERS || self.bytes > MAX_HEADER_BYTES {
            return Err(Why::too_large(format!(
                "more than {MAX_HEADERS} header lines or {MAX_HEADER_BYTES} bytes of them"
            )));
        }
        self.lines.push((name, value));
        Ok(())
    }

    /// The two forms of all events but those of payload format 2.0: the last line of each name, and a list of all.
    ///
    /// AWS documents the first form alone for authorizers of HTTP APIs with payload format 1.0. A client that writes
    /// a header twice then shows what it likes and hides the rest, so nothing that policies ask of headers may count
    /// on it.
    pub(super) fn of_both(single: Vec<(String, String)>, multi: Vec<(String, Vec<String>)>) -> Result<Self, Why> {
        let mut headers = Self::default();
        // The first form counts where the complete list has nothing.
        for (name, value) in single {
            if !multi.iter().any(|(listed, values)| listed.eq_ignore_ascii_case(&name) && !values.is_empty()) {
                (headers.joined, headers.partial) = (true, true);
                headers.push(name, value)?;
            }
        }
        for (name, values) in multi {
            for value in values {
                headers.push(name.clone(), value)?;
            }
        }
        Ok(headers)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.lines.iter().any(|(n, _)| n == name)
    }

    /// The lines, without those that only a proxy may write.
    pub(super) fn into_lines(self) -> Vec<(String, String)> {
        self.lines.into_iter().filter(|(name, _)| !is_of_a_proxy(name)).collect()
    }
}

/// Headers that only a proxy may write, and that a client writes here: Istio's gateways replace
/// `x-forwarded-client-cert` (`SANITIZE_SET`), and Envoy's edge removes its own `x-envoy-` headers from requests of
/// the outside. A policy must not read in them what the client claims.
fn is_of_a_proxy(name: &str) -> bool {
    name == "x-forwarded-client-cert" || name.starts_with("x-envoy-")
}

/// The query string of an event that has it decoded and taken apart.
pub(super) fn query(single: Vec<(String, String)>, multi: Vec<(String, Vec<String>)>) -> String {
    let mut query = String::new();
    let mut push = |name: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        encode(name, &mut query);
        query.push('=');
        encode(value, &mut query);
    };
    for (name, value) in &single {
        if !multi.iter().any(|(listed, values)| listed == name && !values.is_empty()) {
            push(name, value);
        }
    }
    for (name, values) in &multi {
        values.iter().for_each(|value| push(name, value));
    }
    query
}

/// Percent-encodes everything but the unreserved characters of RFC 3986 section 2.3.
fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// `token` of RFC 9110 section 5.6.2: what a method or a header name may consist of.
pub(super) fn is_token(text: &str) -> bool {
    let is_mark = |b| matches!(b, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || is_mark(b))
}
