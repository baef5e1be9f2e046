//! What all kinds of events come to.

use std::net::IpAddr;

use authz::{PathHandling, Peer, Request, Target, Unknown};
use identity::ClientCertificate;

use super::headers::{Headers, is_token};
use super::refused::Why;
use super::{Api, Form, MAX_PATH, MAX_TEXT, Seen, arn};

/// The parts of a request, as one kind of event has them.
pub(super) struct Parts {
    pub(super) method: Option<String>,
    /// Without stage and base path, as the policies judge it.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: Headers,
    pub(super) source_ip: Option<String>,
    /// The domain that the request came in by; `None` when the event does not say, and then nothing is known of the
    /// client's certificate, nor of headers and query but what `headers` holds.
    pub(super) domain: Option<String>,
    pub(super) certificate: Option<ClientCertificate>,
    /// The ARN to answer about, and to whom; `None` for simple responses.
    pub(super) policy: Option<(String, Api)>,
}

impl Parts {
    pub(super) fn into_event(self, seen: &Seen) -> Result<(Request, Target, Form), Why> {
        let method = super::required(self.method, "the request method", MAX_TEXT)?;
        if !is_token(&method) {
            return Err(Why::event("the request method is not an HTTP token"));
        }
        if seen.api_id.is_empty() || seen.stage.is_empty() {
            return Err(Why::missing("the id of the API or the stage"));
        }
        let remote_ip = match self.source_ip.as_deref() {
            None => None,
            Some(text) => {
                let address = text.parse::<IpAddr>().map_err(|_| Why::event("sourceIp is not an IP address"))?;
                // `::ffff:203.0.113.7` is 203.0.113.7 (RFC 4291 section 2.5.5.2), and a block of IPv4 must find it.
                Some(address.to_canonical())
            }
        };
        let path = if self.query.is_empty() { self.path } else { format!("{}?{}", self.path, self.query) };
        if path.len() > MAX_PATH {
            return Err(Why::too_large(format!(
                "a path of {} bytes with its query, expected at most {MAX_PATH}",
                path.len()
            )));
        }
        let id = self.certificate.as_ref().and_then(|certificate| certificate.id.as_ref());
        let unknown = Unknown {
            host: self.domain.is_none(),
            headers: self.domain.is_none() || self.headers.partial,
            // Envoy would ask DNS names and the subject too, with patterns that are made for SPIFFE IDs. An event that does
            // not say the domain shows no certificate either, whatever the client has proven.
            principal: id.is_none() && (self.certificate.is_some() || self.domain.is_none()),
        };
        let principal = id.map(|id| id.principal().to_owned());
        let domain = self.domain.unwrap_or_default();
        let form = match self.policy {
            None => Form::Simple,
            Some((arn, api)) => Form::Policy { arn: arn::nameable(arn)?, api },
        };
        let request = Request {
            method,
            // API Gateway offers its APIs over TLS only.
            scheme: "https".to_owned(),
            // The client chooses its Host header; API Gateway says which of the API's domains it came in by.
            host: domain.clone(),
            path,
            path_handling: PathHandling::AsSent,
            headers_joined: self.headers.joined,
            headers: self.headers.into_lines(),
            source: Peer { ip: remote_ip, remote_ip, principal },
            destination_ip: None,
            destination_port: Some(443),
            sni: None,
            client_certificate: self.certificate.map(|certificate| certificate.sha256),
            dynamic_metadata: None,
            unknown,
        };
        let target = Target::ApiGateway { api_id: seen.api_id.clone(), stage: seen.stage.clone(), domain };
        Ok((request, target, form))
    }
}
