//! HTTP APIs, payload format 2.0.

use super::arn::{self, Arn};
use super::headers::Headers;
use super::parts::Parts;
use super::path::Route;
use super::refused::Why;
use super::wire::{Context, Wire, members};
use super::{Api, MAX_PATH, MAX_TEXT, Reading, ResponseKind, Seen, certificate, path, required};

pub(super) fn parts(wire: Wire, context: Context, seen: &Seen, reading: &Reading<'_>) -> Result<Parts, Why> {
    let certificate = certificate::read(context.authentication.and_then(|a| a.client_cert), reading.now)?;
    let http = context.http.unwrap_or_default();
    let domain = required(context.domain_name, "requestContext.domainName", MAX_TEXT)?;
    let raw_path = required(wire.raw_path, "rawPath", MAX_PATH)?;
    // Both are the same text; a policy must not be asked about one while the backend routes by the other.
    if http.path.is_some_and(|path| path != raw_path) {
        return Err(Why::not_canonical("rawPath and requestContext.http.path differ"));
    }
    // "Duplicate headers are combined with commas" (AWS, payload format 2.0).
    let mut headers = Headers::of_joined();
    for (name, value) in members(wire.headers) {
        headers.push(name, value)?;
    }
    // Payload format 2.0 moves the cookie header into a list of its own.
    let cookies = wire.cookies.unwrap_or_default();
    if !cookies.is_empty() && !headers.has("cookie") {
        headers.push("cookie".to_owned(), cookies.join("; "))?;
    }
    let route = Route {
        // "GET /reviews/{id}"; `$default` has no pattern.
        pattern: wire.route_key.as_deref().and_then(|key| key.split_once(' ')).map(|(_, pattern)| pattern.to_owned()),
        parameters: members(wire.path_parameters),
    };
    let arn = arn::of_event(wire.route_arn, "routeArn")?;
    let base_path = reading.base_path(seen, &domain);
    let path =
        path::of_http(&raw_path, &seen.stage, base_path, &route).map_err(|why| reading.blame(why, seen, &domain))?;
    let is_iam = reading.response == ResponseKind::Iam;
    if is_iam {
        Arn::parse(&arn)?.check_http(seen, (http.method.as_deref(), &path), base_path)?;
    }
    Ok(Parts {
        method: http.method,
        path,
        query: wire.raw_query_string.unwrap_or_default(),
        headers,
        source_ip: http.source_ip,
        domain: Some(domain),
        certificate,
        policy: is_iam.then_some((arn, Api::Http)),
    })
}
