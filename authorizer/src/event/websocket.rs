//! WebSocket APIs: `$connect`, the only route that can have an authorizer.

use super::arn::{self, Arn};
use super::headers::{Headers, query};
use super::parts::Parts;
use super::refused::Why;
use super::wire::{Context, Wire, members};
use super::{Api, MAX_TEXT, Reading, Seen, certificate, required};

/// The route of a new connection.
const CONNECT: &str = "$connect";

pub(super) fn parts(wire: Wire, context: Context, seen: &Seen, reading: &Reading<'_>) -> Result<Parts, Why> {
    let identity = context.identity.unwrap_or_default();
    let certificate = certificate::read(identity.client_cert, reading.now)?;
    let arn = arn::of_event(wire.method_arn, "methodArn")?;
    let parsed = Arn::parse(&arn)?;
    parsed.check(seen)?;
    // Messages on the open connection are not authorized again; whoever asks about one is not API Gateway.
    let connects = context.event_type.as_deref() == Some("CONNECT")
        && context.route_key.as_deref() == Some(CONNECT)
        && parsed.rest == CONNECT;
    if !connects {
        return Err(Why::event("not the event of the route $connect; a WebSocket API asks about no other"));
    }
    if wire.path.is_some() || wire.http_method.is_some() || !members(wire.path_parameters).is_empty() {
        return Err(Why::event("a path or a method in the event of a WebSocket API, which has neither"));
    }
    Ok(Parts {
        // "The method of the request MUST be GET" (RFC 6455 section 4.1).
        method: Some("GET".to_owned()),
        // Clients open `wss://DOMAIN/STAGE` or `wss://DOMAIN/BASE-PATH`: the API's own path is the root.
        path: "/".to_owned(),
        query: query(members(wire.query_string_parameters), members(wire.multi_value_query_string_parameters)),
        headers: Headers::of_both(members(wire.headers), members(wire.multi_value_headers))?,
        source_ip: identity.source_ip,
        domain: Some(required(context.domain_name, "requestContext.domainName", MAX_TEXT)?),
        certificate,
        policy: Some((arn, Api::WebSocket)),
    })
}
