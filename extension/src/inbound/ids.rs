//! What a call is found by in the logs of all parts.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use platform::trace_id::{self, Traces};

use crate::random::Draws;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The traces of a request, as its decision's line has them.
pub(super) fn traces(headers: &HeaderMap) -> Traces<'static> {
    let named = trace_id::HEADERS.iter().flat_map(|name| headers.get_all(*name).iter().map(move |value| (name, value)));
    let named = named.map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
    Traces::of(&named.collect::<Vec<_>>()).into_owned()
}

/// The caller's id of the request.
pub(super) fn given(headers: &HeaderMap) -> Option<String> {
    headers.get(REQUEST_ID).and_then(|id| id.to_str().ok()).map(str::to_owned)
}

/// The same, or a new one.
pub(super) fn of(headers: &mut HeaderMap) -> String {
    if let Some(id) = given(headers) {
        return id;
    }
    let id = Draws::new().uuid();
    if let Ok(value) = HeaderValue::from_bytes(&id) {
        headers.insert(REQUEST_ID, value);
    }
    String::from_utf8_lossy(&id).into_owned()
}
