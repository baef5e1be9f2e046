//! REST APIs, TOKEN authorizers: one header's value and the ARN of the method, and nothing else of the request.

use super::arn::{self, Arn};
use super::headers::Headers;
use super::parts::Parts;
use super::refused::Why;
use super::wire::Wire;
use super::{Api, Reading, Seen, path};

pub(super) fn parts(wire: Wire, seen: &mut Seen, reading: &Reading<'_>) -> Result<Parts, Why> {
    let arn = arn::of_event(wire.method_arn, "methodArn")?;
    let parsed = Arn::parse(&arn)?;
    seen.api_id = super::bounded(Some(parsed.api_id));
    seen.stage = super::bounded(Some(parsed.stage));
    let (method, routed) = parsed.method_and_path()?;
    let mut headers = Headers::of_joined();
    let token = wire.authorization_token.filter(|token| !token.is_empty());
    headers.push(reading.token_header.to_owned(), token.ok_or_else(|| Why::missing("authorizationToken"))?)?;
    Ok(Parts {
        method: Some(method.to_owned()),
        path: path::of_arn(routed)?,
        query: String::new(),
        headers,
        source_ip: None,
        domain: None,
        certificate: None,
        policy: Some((arn, Api::Rest)),
    })
}
