//! REST APIs, REQUEST authorizers.

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
    let arn = arn::of_event(wire.method_arn, "methodArn")?;
    let parsed = Arn::parse(&arn)?;
    parsed.check(seen)?;
    // The answer is about the ARN, so it has to be the request that is judged.
    let (method, routed) = parsed.method_and_path()?;
    let same = |other: &Option<String>| other.as_deref() == Some(method);
    if !same(&wire.http_method) || !(context.http_method.is_none() || same(&context.http_method)) {
        return Err(Why::disagree("methodArn names another method than httpMethod"));
    }
    let route = Route {
        pattern: wire.resource.filter(|resource| resource.starts_with('/')),
        parameters: members(wire.path_parameters),
    };
    let shown = required(wire.path, "path", MAX_PATH)?;
    let before = (seen.stage.as_str(), reading.base_path(seen, &domain));
    Ok(Parts {
        method: wire.http_method,
        path: path::of_rest(&shown, context.path.as_deref(), before, routed, &route)
            .map_err(|why| reading.blame(why, seen, &domain))?,
        query: query(members(wire.query_string_parameters), members(wire.multi_value_query_string_parameters)),
        headers: Headers::of_both(members(wire.headers), members(wire.multi_value_headers))?,
        source_ip: identity.source_ip,
        domain: Some(domain),
        certificate,
        policy: Some((arn, Api::Rest)),
    })
}
