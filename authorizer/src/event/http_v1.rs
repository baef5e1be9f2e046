//! HTTP APIs, payload format 1.0.

use super::headers::{Headers, query};
use super::parts::Parts;
use super::path::Route;
use super::refused::Why;
use super::wire::{Context, Wire, members};
use super::{Api, MAX_PATH, MAX_TEXT, Reading, Seen, arn, certificate, path, required};

pub(super) fn parts(wire: Wire, context: Context, seen: &Seen, reading: &Reading<'_>) -> Result<Parts, Why> {
    let identity = context.identity.unwrap_or_default();
    let certificate = certificate::read(identity.client_cert, reading.now)?;
    let domain = required(context.domain_name, "requestContext.domainName", MAX_TEXT)?;
    let shown = required(wire.path, "path", MAX_PATH)?;
    let route = Route {
        pattern: wire.resource.filter(|resource| resource.starts_with('/')),
        parameters: members(wire.path_parameters),
    };
    Ok(Parts {
        method: wire.http_method,
        path: path::of_http(&shown, &seen.stage, reading.base_path(seen, &domain), &route)
            .map_err(|why| reading.blame(why, seen, &domain))?,
        query: query(members(wire.query_string_parameters), members(wire.multi_value_query_string_parameters)),
        headers: Headers::of_both(members(wire.headers), members(wire.multi_value_headers))?,
        source_ip: identity.source_ip,
        domain: Some(domain),
        certificate,
        policy: Some((arn::of_event(wire.method_arn, "methodArn")?, Api::Http)),
    })
}
