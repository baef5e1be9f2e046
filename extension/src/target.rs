//! Where a request is to go, as the application names it.

use http::header::{HOST, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, request};

use crate::reason::{Reason, Refusal};

/// Where a request is to go.
#[derive(Debug)]
pub(crate) struct Target {
    /// Host and port as they were written.
    pub(crate) authority: Authority,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) path: PathAndQuery,
}

impl Target {
    /// Reads the request line and, where that has no host, the Host header.
    ///
    /// # Errors
    /// When there is no single host and port, or a form that is not supported.
    pub(crate) fn of(head: &request::Parts) -> Result<Target, Refusal> {
        if head.method == Method::CONNECT {
            return Err(Refusal::new(
                Reason::ConnectUnsupported,
                "found CONNECT, which is not supported yet: call mesh services by http:// and leave HTTPS_PROXY unset",
            ));
        }
        let authority = match head.uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => head.uri.authority().cloned(),
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(Refusal::new(
                    Reason::HttpsUnsupported,
                    "found an https:// address, which is not supported yet: call mesh services by http://, the extension encrypts",
                ));
            }
            Some(scheme) => return Err(invalid(&format!("found the scheme {scheme}, expected http"))),
            None => Some(host_header(head)?),
        };
        let authority = authority.ok_or_else(|| invalid("found no host in the address, expected one"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("found a user name in the address, expected host and port alone"));
        }
        let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let port = port(&authority)?;
        Ok(Target { host: authority.host().to_owned(), port, path, authority })
    }
}

/// RFC 9112 3.2: a server "MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks
/// a Host header field and to any request message that contains more than one Host header field line or a Host header
/// field with an invalid field value".
fn host_header(head: &request::Parts) -> Result<Authority, Refusal> {
    let mut values = head.headers.get_all(HOST).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(invalid("found no Host header or several, expected one"));
    };
    let value = value.to_str().map_err(|_| invalid("found a Host header that is not ASCII"))?;
    value.parse().map_err(|_| invalid("found a Host header that is not host and port"))
}

fn port(authority: &Authority) -> Result<u16, Refusal> {
    match authority.as_str().strip_prefix(authority.host()) {
        // RFC 9110 4.2.1: "If the port subcomponent is empty or not given, TCP port 80 ... is the default".
        Some("" | ":") => Ok(80),
        Some(rest) => {
            // Digits alone: a sign would be a second spelling of the port in the Host that goes on.
            let digits = rest.strip_prefix(':').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok());
            number.filter(|port| *port != 0).ok_or_else(|| invalid("found a port that is not 1 to 65535"))
        }
        None => Err(invalid("found an address that is not host and port")),
    }
}

pub(crate) fn refuse_websocket(head: &request::Parts) -> Result<(), Refusal> {
    // RFC 9110 7.8: "A server MAY ignore a received Upgrade header field", and so other upgrades (h2c, which some
    // clients offer with every request) are left out. A WebSocket client means nothing else.
    let values = head.headers.get_all(UPGRADE).iter().filter_map(|value| value.to_str().ok());
    let mut protocols = values.flat_map(|value| value.split(','));
    match protocols.any(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")) {
        true => {
            Err(Refusal::new(Reason::WebsocketUnsupported, "found a WebSocket upgrade, which is not supported yet"))
        }
        false => Ok(()),
    }
}

fn invalid(detail: &str) -> Refusal {
    Refusal::new(Reason::RequestInvalid, detail)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn target(method: &str, uri: &str, hosts: &[&str]) -> Result<(String, u16, String), Reason> {
        let mut request = Request::builder().method(method).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        match Target::of(&head) {
            Ok(target) => Ok((target.host, target.port, target.path.to_string())),
            Err(refusal) => Err(refusal.reason),
        }
    }

    #[test]
    fn both_forms_of_a_target_are_understood() {
        for (uri, hosts, expected) in [
            ("http://a.example:9080/x/y?z=1", &["ignored"][..], ("a.example", 9080, "/x/y?z=1")),
            ("http://a.example/x", &[], ("a.example", 80, "/x")),
            ("http://a.example:/x", &[], ("a.example", 80, "/x")),
            ("http://a.example", &["b"], ("a.example", 80, "/")),
            ("/x?y", &["a.example:9080"], ("a.example", 9080, "/x?y")),
            ("/x", &["A.Example"], ("A.Example", 80, "/x")),
            ("/", &["[::1]:9080"], ("[::1]", 9080, "/")),
        ] {
            let (host, port, path) = expected;
            assert_eq!(target("GET", uri, hosts), Ok((host.to_owned(), port, path.to_owned())), "{uri}");
        }
        assert_eq!(target("OPTIONS", "*", &["a:1"]), Ok(("a".to_owned(), 1, "*".to_owned())));
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (method, uri, hosts, expected) in [
            ("CONNECT", "a.example:443", &["a.example:443"][..], Reason::ConnectUnsupported),
            ("GET", "https://a.example/", &[], Reason::HttpsUnsupported),
            ("GET", "ftp://a.example/", &[], Reason::RequestInvalid),
            ("GET", "http://me:secret@a.example/", &[], Reason::RequestInvalid),
            ("GET", "/", &[], Reason::RequestInvalid),
            ("GET", "/", &["a", "a"], Reason::RequestInvalid),
            ("GET", "/", &["a b"], Reason::RequestInvalid),
            ("GET", "/", &["a:0"], Reason::RequestInvalid),
            ("GET", "/", &["a:65536"], Reason::RequestInvalid),
            ("GET", "/", &["a:+80"], Reason::RequestInvalid),
            ("GET", "/", &["me@a"], Reason::RequestInvalid),
            ("GET", "/", &[""], Reason::RequestInvalid),
        ] {
            assert_eq!(target(method, uri, hosts), Err(expected), "{method} {uri} {hosts:?}");
        }
    }
}
