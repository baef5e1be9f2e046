//! Where a request is to go, as the application names it.

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Uri, Version, request};

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
    /// Reads the request line and, where that has no host, the Host header. A host without a port has `default_port`.
    ///
    /// # Errors
    /// When there is no single host and port, or a form that is not supported.
    pub(crate) fn of(head: &request::Parts, default_port: u16) -> Result<Target, Refusal> {
        Target::read(head, &Scheme::HTTP, default_port)
    }

    /// The same where the application speaks TLS.
    ///
    /// # Errors
    /// As [`Target::of`].
    pub(crate) fn of_https(head: &request::Parts, default_port: u16) -> Result<Target, Refusal> {
        Target::read(head, &Scheme::HTTPS, default_port)
    }

    fn read(head: &request::Parts, expected: &Scheme, default_port: u16) -> Result<Target, Refusal> {
        let authority = match head.uri.scheme() {
            Some(scheme) if scheme == expected => head.uri.authority().cloned(),
            Some(scheme) if *scheme == Scheme::HTTPS => {
                return Err(Refusal::new(
                    Reason::HttpsUnsupported,
                    "found an https:// address in a request without TLS, expected a tunnel (CONNECT), or http://: the extension encrypts",
                ));
            }
            Some(scheme) => return Err(invalid(&format!("found the scheme {scheme}, expected {expected}"))),
            None => Some(host_header(head)?),
        };
        let authority = authority.ok_or_else(|| invalid("found no host in the address, expected one"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("found a user name in the address, expected host and port alone"));
        }
        // RFC 9113 8.3.1: "A server SHOULD treat a request as malformed if it contains a Host header field that
        // identifies an entity that differs from the entity in the ":authority" pseudo-header field".
        if head.version == Version::HTTP_2
            && head.headers.contains_key(HOST)
            && !host_header(head)?.as_str().eq_ignore_ascii_case(authority.as_str())
        {
            return Err(invalid("found a Host header that differs from :authority, expected the same"));
        }
        named(&authority)?;
        let path = path(&head.uri)?;
        let port = port(&authority)?.unwrap_or(default_port);
        Ok(Target { host: authority.host().to_owned(), port, path, authority })
    }

    /// Reads the request line of CONNECT. RFC 9110 9.3.6: "the request target is a tunnel destination: host and port";
    /// there is no default for the port.
    ///
    /// # Errors
    /// When it is not host and port.
    pub(crate) fn of_connect(head: &request::Parts) -> Result<Target, Refusal> {
        let wrong = || invalid("found CONNECT without host and port, expected both");
        let authority = head.uri.authority().cloned().ok_or_else(wrong)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        named(&authority)?;
        let port = port(&authority)?.ok_or_else(wrong)?;
        let (host, path) = (authority.host().to_owned(), PathAndQuery::from_static("/"));
        Ok(Target { host, port, path, authority })
    }

    /// A host and port that the configuration names.
    pub(crate) fn named(host: &str, port: u16) -> Option<Target> {
        let authority = format!("{host}:{port}").parse().ok()?;
        Some(Target { authority, host: host.to_owned(), port, path: PathAndQuery::from_static("/") })
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

/// RFC 9110 4.2.3: "an empty path component is equivalent to an absolute path of "/"", also before a query, which the
/// parser of URIs leaves as it is.
fn path(uri: &Uri) -> Result<PathAndQuery, Refusal> {
    match uri.path_and_query() {
        None => Ok(PathAndQuery::from_static("/")),
        Some(path) if path.as_str().starts_with('?') => {
            format!("/{path}", path = path.as_str()).parse().map_err(|_| invalid("found a query that is too long"))
        }
        Some(path) => Ok(path.clone()),
    }
}

/// RFC 1035 2.3.1: a label has at least one character. One dot may end a name; with two of them it would be another
/// name to whoever compares names, and the same one to the DNS.
fn named(authority: &Authority) -> Result<(), Refusal> {
    let host = authority.host();
    let host = host.strip_suffix('.').unwrap_or(host);
    if !host.starts_with('[') && host.split('.').any(str::is_empty) {
        return Err(invalid("found a host with an empty label, expected a name such as host.example"));
    }
    Ok(())
}

fn port(authority: &Authority) -> Result<Option<u16>, Refusal> {
    match authority.as_str().strip_prefix(authority.host()) {
        // RFC 9110 4.2.1: "If the port subcomponent is empty or not given, TCP port 80 ... is the default".
        Some("" | ":") => Ok(None),
        Some(rest) => {
            // Digits alone: a sign would be a second spelling of the port in the Host that goes on.
            let digits = rest.strip_prefix(':').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let number = digits.and_then(|digits| digits.parse().ok());
            let number = number.filter(|port| *port != 0);
            number.map(Some).ok_or_else(|| invalid("found a port that is not 1 to 65535"))
        }
        None => Err(invalid("found an address that is not host and port")),
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
        match Target::of(&head, 80) {
            Ok(target) => Ok((target.host, target.port, target.path.as_str().to_owned())),
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
            ("http://a.example?x=1/2", &[], ("a.example", 80, "/?x=1/2")),
            ("http://a.example:9080?", &[], ("a.example", 9080, "/?")),
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
            ("GET", "https://a.example/", &[][..], Reason::HttpsUnsupported),
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
            ("GET", "http://a.example../", &[], Reason::RequestInvalid),
            ("GET", "http://a..example/", &[], Reason::RequestInvalid),
            ("GET", "http://.a.example/", &[], Reason::RequestInvalid),
            ("GET", "/", &["."], Reason::RequestInvalid),
            ("GET", "/", &["a..:80"], Reason::RequestInvalid),
        ] {
            assert_eq!(target(method, uri, hosts), Err(expected), "{method} {uri} {hosts:?}");
        }
    }

    #[test]
    fn in_tls_the_scheme_is_https() {
        let of = |uri: &str| {
            let (head, ()) = Request::get(uri).header(HOST, "a.example").body(()).unwrap().into_parts();
            Target::of_https(&head, 443).map(|target| target.port).map_err(|refusal| refusal.reason)
        };
        assert_eq!((of("/x"), of("https://a.example/x")), (Ok(443), Ok(443)));
        assert_eq!(of("http://a.example/x"), Err(Reason::RequestInvalid));
    }

    #[test]
    fn connect_names_host_and_port() {
        let of = |uri: &str| {
            let request = Request::builder().method("CONNECT").uri(uri).body(());
            let (head, ()) = request.ok()?.into_parts();
            Target::of_connect(&head).ok().map(|target| (target.host, target.port))
        };
        assert_eq!(of("a.example:443"), Some(("a.example".to_owned(), 443)));
        assert_eq!(of("[::1]:9080"), Some(("[::1]".to_owned(), 9080)));
        assert_eq!(of("a.example.:443"), Some(("a.example.".to_owned(), 443)));
        for wrong in [
            "a.example",
            "a.example..:443",
            ".:443",
            "a.example:",
            "a.example:0",
            "a.example:65536",
            "me@a.example:443",
            "a:+443",
            "/x",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn in_http2_both_names_of_the_host_must_agree() {
        let of = |host: &str| {
            let request = Request::get("http://a.example:80/").header(HOST, host).version(Version::HTTP_2);
            let (head, ()) = request.body(()).unwrap().into_parts();
            Target::of(&head, 80).map(|target| target.host).map_err(|refusal| refusal.reason)
        };
        assert_eq!(of("A.example:80"), Ok("a.example".to_owned()));
        assert_eq!(of("b.example"), Err(Reason::RequestInvalid));
    }

    #[test]
    fn a_door_can_have_a_port_of_its_own() {
        let (head, ()) = Request::get("/").header(HOST, "a.example").body(()).unwrap().into_parts();
        assert_eq!(Target::of(&head, 9_080).unwrap().port, 9_080);
    }
}
