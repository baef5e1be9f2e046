//! WebSocket and other protocols that a connection is switched to (RFC 9110 7.8).

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::upgrade::OnUpgrade;
use traffic::table::Protocol;

use crate::answer::Answer;
use crate::headers::remove_hop_by_hop;
use crate::reason::{self, Reason, Refusal};
use crate::tunnel::{Opened, Switched, Then};

const WEBSOCKET: &str = "websocket";

/// A request for another protocol.
pub(crate) struct Upgrading {
    protocol: HeaderValue,
    on: OnUpgrade,
}

impl Upgrading {
    /// What a request asks for, if it is to be passed on.
    ///
    /// # Errors
    /// When it wants a WebSocket, but not as RFC 6455 4.1 has it: its client would take no other answer. When it wants
    /// something else in a request with a body, or one of several.
    pub(crate) fn asked<B: Body>(request: &mut Request<B>) -> Result<Option<Upgrading>, Refusal> {
        // RFC 9110 7.8: "A server MUST ignore an Upgrade header field that is received in an HTTP/1.0 request". HTTP/2
        // has none.
        if request.version() != Version::HTTP_11 {
            return Ok(None);
        }
        let Some(protocol) = protocol(request.headers()) else { return Ok(None) };
        let named = tokens(request.headers(), CONNECTION).any(|option| option.eq_ignore_ascii_case("upgrade"));
        let good = named && request.body().is_end_stream();
        if protocol.eq_ignore_ascii_case(WEBSOCKET) {
            if !good || request.method() != Method::GET {
                let detail = "found Upgrade: websocket, expected it in a GET without a body, and Connection: upgrade";
                return Err(Refusal::new(Reason::RequestInvalid, detail));
            }
        } else if !named {
            // RFC 9110 7.8: "A server MAY ignore a received Upgrade header field".
            return Ok(None);
        } else if !good || protocol.contains(',') {
            return Err(unsupported(&protocol));
        }
        let Ok(protocol) = HeaderValue::from_str(&protocol) else { return Ok(None) };
        Ok(Some(Upgrading { protocol, on: hyper::upgrade::on(request) }))
    }

    /// Whether it may go on to a port that speaks `protocol`; `None` is that of a host that nobody has named. Istio's
    /// proxies pass WebSocket alone on (`upgrade_configs`), and Envoy answers 403 to everything else: what is switched
    /// to another protocol is past the routes. Where the port is TCP there are none.
    ///
    /// # Errors
    /// When it may not.
    pub(crate) fn check(&self, protocol: Option<Protocol>) -> Result<(), Refusal> {
        let asked = self.protocol.to_str().unwrap_or_default();
        if asked.eq_ignore_ascii_case(WEBSOCKET) || protocol == Some(Protocol::Tcp) {
            return Ok(());
        }
        Err(unsupported(asked))
    }

    /// Puts the wish into the request that goes on: a connection's fields are each hop's own.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    /// Whether it is a WebSocket that is asked for.
    #[cfg(feature = "inbound")]
    pub(crate) fn is_websocket(&self) -> bool {
        self.protocol.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes())
    }

    /// The protocol, and the connection once it has been switched.
    #[cfg(feature = "inbound")]
    pub(crate) fn into_parts(self) -> (HeaderValue, OnUpgrade) {
        (self.protocol, self.on)
    }

    /// The service has switched, and so does the application's connection.
    ///
    /// # Errors
    /// When the service has switched to something else.
    pub(crate) fn switch(self, response: Response<()>, opened: Opened) -> Result<Response<Answer>, Refusal> {
        let (mut head, ()) = response.into_parts();
        let mut chosen = tokens(&head.headers, UPGRADE);
        let wanted = self.protocol.to_str().unwrap_or_default();
        if !chosen.next().is_some_and(|chosen| chosen.eq_ignore_ascii_case(wanted)) || chosen.next().is_some() {
            let detail = format!("the service switched to another protocol than {wanted}");
            return Err(Refusal::new(Reason::UpstreamProtocolError, detail));
        }
        drop(chosen);
        remove_hop_by_hop(&mut head.headers);
        // RFC 9110 8.6: "A server MUST NOT send a Content-Length header field in any response with a status code of 1xx
        // (Informational) or 204 (No Content)".
        head.headers.remove(CONTENT_LENGTH);
        // This header says that the extension answered; nobody else may.
        head.headers.remove(reason::HEADER);
        self.ask(&mut head.headers);
        head.version = Version::HTTP_11;
        let switched = Switched::new(self.on, Then::Relay(opened));
        Ok(Response::from_parts(head, Answer::switched(switched)))
    }
}

fn unsupported(asked: &str) -> Refusal {
    let detail = format!("found Upgrade: {asked}, expected websocket: nothing else is passed on, but to a port of TCP");
    Refusal::new(Reason::UpgradeUnsupported, detail)
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

/// The protocol that is asked for: WebSocket, or all others. Some clients offer HTTP/2 with
/// every request, which is between them and this proxy, and TLS as well.
fn protocol(headers: &HeaderMap) -> Option<String> {
    let of_this_hop = |token: &&str| {
        let token = token.to_ascii_lowercase();
        token == "h2c" || token == "h2" || token.starts_with("http/") || token.starts_with("tls/")
    };
    let offered: Vec<&str> = tokens(headers, UPGRADE).filter(|token| !of_this_hop(token)).collect();
    let websocket = offered.iter().find(|token| token.eq_ignore_ascii_case(WEBSOCKET));
    match websocket {
        Some(websocket) => Some((*websocket).to_owned()),
        None => (!offered.is_empty()).then(|| offered.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full};

    use super::*;

    fn asked(fields: &[(&str, &str)]) -> Result<Option<String>, Reason> {
        let mut request = Request::get("http://a.example/chat");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Empty::<Bytes>::new()).unwrap();
        match Upgrading::asked(&mut request) {
            Ok(found) => Ok(found.map(|found| found.protocol.to_str().unwrap().to_owned())),
            Err(refusal) => Err(refusal.reason),
        }
    }

    #[test]
    fn what_is_passed_on_is_one_protocol() {
        for (upgrade, expected) in [
            ("websocket", Some("websocket")),
            ("WebSocket", Some("WebSocket")),
            ("h2c, websocket", Some("websocket")),
            ("h2c", None),
            ("HTTP/2.0", None),
            ("TLS/1.0", None),
            ("spdy/3.1", Some("spdy/3.1")),
            ("", None),
        ] {
            let found = asked(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", upgrade)]);
            assert_eq!(found, Ok(expected.map(str::to_owned)), "{upgrade}");
        }
        assert_eq!(asked(&[("connection", "upgrade"), ("upgrade", "a, b")]), Err(Reason::UpgradeUnsupported));
        assert_eq!(asked(&[("upgrade", "spdy/3.1")]), Ok(None));
        assert_eq!(asked(&[]), Ok(None));
    }

    #[test]
    fn only_a_websocket_and_what_a_port_of_tcp_speaks_go_on() {
        for (upgrade, protocol, expected) in [
            ("websocket", None, true),
            ("WebSocket", Some(Protocol::Http1), true),
            ("spdy/3.1", None, false),
            ("spdy/3.1", Some(Protocol::Http1), false),
            ("spdy/3.1", Some(Protocol::Http2), false),
            ("spdy/3.1", Some(Protocol::Client), false),
            ("spdy/3.1", Some(Protocol::Tcp), true),
        ] {
            let request = Request::get("http://a.example/").header("connection", "upgrade").header("upgrade", upgrade);
            let mut request = request.body(Empty::<Bytes>::new()).unwrap();
            let asked = Upgrading::asked(&mut request).unwrap().unwrap();
            assert_eq!(asked.check(protocol).is_ok(), expected, "{upgrade} {protocol:?}");
        }
    }

    #[test]
    fn a_websocket_request_must_be_one() {
        assert_eq!(asked(&[("upgrade", "websocket")]), Err(Reason::RequestInvalid));
        for (method, body) in [("POST", ""), ("GET", "x")] {
            let request = Request::builder().method(method).header("connection", "upgrade");
            let mut request = request.header("upgrade", "websocket").body(Full::new(Bytes::from(body))).unwrap();
            let refused = Upgrading::asked(&mut request).err().map(|refusal| refusal.reason);
            assert_eq!(refused, Some(Reason::RequestInvalid), "{method} {body:?}");
        }
    }
}
