//! Values of headers with Envoy's command operators: `%REQ(name)%`.
//!
//! Istio hands values through to Envoy, which knows some sixty commands, most of them about a server's connections.
//! Here are those that mean something for a client's requests, `%REQ(name)%` and `%RESP(name)%`, each with an
//! alternative (`%REQ(a?b)%`) and a greatest length (`%REQ(a):8%`), and `%%` for a percent sign. Others are refused by
//! name.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::route::Line;

/// What commands stand for.
#[derive(Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) line: Option<&'a Line<'a>>,
    pub(crate) request: Option<&'a HeaderMap>,
    pub(crate) response: Option<&'a HeaderMap>,
}

/// A value that is ready to use.
#[derive(Clone, Debug)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug)]
enum Part {
    Text(String),
    Header { of_response: bool, names: Vec<Name>, length: Option<usize> },
}

#[derive(Clone, Debug)]
enum Name {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

impl Template {
    pub(crate) fn new(text: &str) -> Result<Template, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('%') {
                literal.push('%');
                rest = after;
                continue;
            }
            let (command, after) = after
                .split_once('%')
                .ok_or_else(|| format!("`{text}` has a `%` without its end; `%%` is a percent sign"))?;
            if !literal.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut literal)));
            }
            parts.push(parse_command(command)?);
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        for part in &parts {
            if let Part::Text(text) = part {
                // Visible characters and those beyond ASCII, blanks and tabs (RFC 9110, 5.5).
                HeaderValue::from_bytes(text.as_bytes()).map_err(|_| format!("`{text:?}` is no value of a header"))?;
            }
        }
        Ok(Template(parts))
    }

    pub(crate) fn is_about_response(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Header { of_response: true, .. }))
    }

    /// The value; `None` when it is empty, which changes nothing.
    pub(crate) fn value(&self, values: &Values<'_>) -> Option<HeaderValue> {
        let mut bytes = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Part::Header { of_response, names, length } => {
                    let headers = if *of_response { values.response } else { values.request };
                    // A line is of the request alone.
                    let line = values.line.filter(|_| !of_response);
                    if let Some(found) = names.iter().find_map(|name| find(name, headers, line)) {
                        bytes.extend_from_slice(&found[..found.len().min(length.unwrap_or(usize::MAX))]);
                    }
                }
            }
        }
        if bytes.is_empty() {
            return None;
        }
        // Made of parts of valid values: it is one.
        HeaderValue::from_bytes(&bytes).ok()
    }
}

/// The first value alone, as Envoy: "This is an implicitly untrusted header, so per the API documentation only the
/// first value is used."
fn find<'a>(name: &Name, headers: Option<&'a HeaderMap>, line: Option<&Line<'a>>) -> Option<&'a [u8]> {
    match name {
        Name::Method => line.map(|line| line.method.as_str().as_bytes()),
        Name::Scheme => line.map(|line| line.scheme.as_bytes()),
        Name::Authority => line.map(|line| line.authority.as_bytes()),
        Name::Path => line.map(|line| line.path_and_query.as_bytes()),
        Name::Header(name) => headers?.get(name).map(HeaderValue::as_bytes),
    }
}

/// What stands between two percent signs.
fn parse_command(text: &str) -> Result<Part, String> {
    let name_end = text.find(|char: char| !char.is_ascii_uppercase() && !char.is_ascii_digit() && char != '_');
    let (name, rest) = text.split_at(name_end.unwrap_or(text.len()));
    let of_response = match name {
        "REQ" => false,
        "RESP" => true,
        _ => {
            return Err(format!(
                "`%{text}%` is not supported: only `%REQ(name)%` and `%RESP(name)%` are, and `%%` for a percent sign"
            ));
        }
    };
    let not_understood = || format!("`%{text}%` is not understood: `%{name}(name?other):length%` is");
    let (names, length) = rest.strip_prefix('(').and_then(|rest| rest.rsplit_once(')')).ok_or_else(not_understood)?;
    let length = match length.strip_prefix(':') {
        Some(number) => Some(number.parse().map_err(|_| not_understood())?),
        None if length.is_empty() => None,
        None => return Err(not_understood()),
    };
    let names: Vec<_> = names.split('?').collect();
    if names.len() > 2 {
        // Envoy: "More than 1 alternative header specified in token".
        return Err(not_understood());
    }
    let names = names.into_iter().map(parse_name).collect::<Option<_>>().ok_or_else(not_understood)?;
    Ok(Part::Header { of_response, names, length })
}

fn parse_name(name: &str) -> Option<Name> {
    match name.to_ascii_lowercase().as_str() {
        ":method" => Some(Name::Method),
        ":scheme" => Some(Name::Scheme),
        // Envoy keeps the Host of HTTP/1.1 as `:authority`.
        ":authority" | "host" => Some(Name::Authority),
        ":path" => Some(Name::Path),
        other => HeaderName::from_bytes(other.as_bytes()).ok().map(Name::Header),
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn value(text: &str) -> Option<String> {
        let mut request = HeaderMap::new();
        request.append("x-a", "one".parse().unwrap());
        request.append("x-a", "two".parse().unwrap());
        request.append("x-empty", "".parse().unwrap());
        let mut response = HeaderMap::new();
        response.append("server", "echo".parse().unwrap());
        let line = Line { method: &Method::GET, scheme: "http", authority: "a.b:80", path_and_query: "/p?q" };
        let values = Values { line: Some(&line), request: Some(&request), response: Some(&response) };
        Template::new(text).unwrap().value(&values).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn fills_in_commands() {
        for (text, expected) in [
            ("plain", Some("plain")),
            ("", None),
            ("100%%", Some("100%")),
            ("%%REQ(x-a)%%", Some("%REQ(x-a)%")),
            ("%%%REQ(x-a)%%%", Some("%one%")),
            ("%REQ(x-a)%", Some("one")),
            ("%REQ(X-A)%", Some("one")),
            ("<%REQ(x-a):2%>", Some("<on>")),
            ("%REQ(x-a):0%", None),
            ("%REQ(x-a):99%", Some("one")),
            ("%REQ(x-b)%", None),
            ("a%REQ(x-b)%b", Some("ab")),
            ("%REQ(x-b?x-a)%", Some("one")),
            ("%REQ(x-b?:path)%", Some("/p?q")),
            // There, though empty.
            ("%REQ(x-empty?x-a)%", None),
            ("%REQ(:method)% %REQ(:scheme)%://%REQ(:authority)%%REQ(:path)%", Some("GET http://a.b:80/p?q")),
            ("%REQ(host)%", Some("a.b:80")),
            ("%RESP(server)%", Some("echo")),
            ("%RESP(x-a)%", None),
            ("%RESP(:path)%", None),
        ] {
            assert_eq!(value(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in [
            "%",
            "a%",
            "%%%",
            "%REQ%",
            "%REQ()%",
            "%REQ(a b)%",
            "%REQ(a",
            "%REQ(a):x%",
            "%REQ(a):-1%",
            "%REQ(a)x%",
            "%REQ(a?b?c)%",
            "%req(a)%",
            "%HOSTNAME%",
            "%START_TIME(%s)%",
            "%DOWNSTREAM_REMOTE_ADDRESS%",
            "%UNKNOWN(a)%",
            "line\nline",
            "nul\0",
        ] {
            assert!(Template::new(text).is_err(), "{text:?} must be refused");
        }
        let error = Template::new("%HOSTNAME%").unwrap_err();
        assert!(error.contains("%HOSTNAME%"), "{error}");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[%a-zREQSP():?0-9\\n é]{0,24}") {
            if let Ok(template) = Template::new(&text) {
                template.value(&Values { line: None, request: None, response: None });
            }
        }

        #[test]
        fn text_without_a_percent_sign_stays(text in "[ -$&-~]{1,24}") {
            proptest::prop_assert_eq!(value(&text), Some(text));
        }
    }
}
