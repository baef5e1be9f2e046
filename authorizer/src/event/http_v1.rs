//! HTTP APIs, payload format 1.0.

use super::arn::{self, Arn};
use super::headers::{Headers, query};
use super::parts::Parts;
use super::path::Route;
use super::refused::Why;
use super::wire::{Context, Wire, members};
use super::{Api, MAX_PATH, MAX_TEXT, Reading, Seen, certificate, path, required};

pub(super) fn parts(wire: Wire, context: Context, seen: &Seen, reading: &Reading<'_>) -> Result<Parts, Why> {
    let identity = context.identity.unwrap_or_default();
    let certificate = certificate::read(identity.client_cert, reading.now)?;
    let domain = required(context.domain_name, "requestContext.domainName", MAX_TEXT)?;
    let shown = required(wire.path, "path", MAX_PATH)?;
    let base_path = reading.base_path(seen, &domain);
    let route = Route {
        pattern: wire.resource.filter(|resource| resource.starts_with('/')),
        parameters: members(wire.path_parameters),
    };
    let path =
        path::of_http(&shown, &seen.stage, base_path, &route).map_err(|why| reading.blame(why, seen, &domain))?;
    if context.http_method.is_some_and(|method| wire.http_method.as_ref() != Some(&method)) {
        return Err(Why::disagree("httpMethod and requestContext.httpMethod differ"));
    }
    if let Some(other) = &context.path {
        path::check_http(&path, other, &seen.stage, base_path)?;
    }
    let arn = arn::of_event(wire.method_arn, "methodArn")?;
    Arn::parse(&arn)?.check_http(seen, (wire.http_method.as_deref(), &path), base_path)?;
    Ok(Parts {
        method: wire.http_method,
        path,
        query: query(members(wire.query_string_parameters), members(wire.multi_value_query_string_parameters)),
        headers: Headers::of_both(members(wire.headers), members(wire.multi_value_headers))?,
        source_ip: identity.source_ip,
        domain: Some(domain),
        certificate,
        policy: Some((arn, Api::Http)),
    })
}
