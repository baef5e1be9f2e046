//! Paging and preconditions.

use crate::event::Request;
use crate::form::Form;
use crate::refusal::Refusal;

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 100;
const MAX_CURSOR_BYTES: usize = 256;

/// The part of a list that is asked for: `?limit=…&after=…`, and at API keys `&client_id=…`.
#[derive(Debug)]
pub(crate) struct Paging {
    pub(crate) limit: usize,
    pub(crate) after: Option<String>,
    pub(crate) client_id: Option<String>,
}

impl Paging {
    /// Reads the query string.
    ///
    /// # Errors
    /// 400.
    pub(crate) fn read(request: &Request) -> Result<Self, Refusal> {
        let form = Form::parse(request.query.as_bytes())
            .map_err(|error| Refusal::invalid_request(format!("the query string: {error}")))?;
        let limit =
            match form.get("limit") {
                None => DEFAULT_LIMIT,
                Some(text) => text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit)).ok_or_else(|| {
                    Refusal::invalid_request(format!("limit: expected a number from 1 to {MAX_LIMIT}"))
                })?,
            };
        let after = form.get("after").map(str::to_owned);
        if after.as_ref().is_some_and(|after| after.len() > MAX_CURSOR_BYTES) {
            return Err(Refusal::invalid_request("after: expected what the last page called next"));
        }
        Ok(Self { limit, after, client_id: form.get("client_id").map(str::to_owned) })
    }
}

/// Compares `If-Match` (RFC 9110 §13.1.1) with the ETag of the record.
///
/// # Errors
/// 412 when it is another one.
pub(crate) fn precondition(request: &Request, current: &str) -> Result<(), Refusal> {
    let failed = || Refusal::new(412, "precondition_failed", "the record is of another version than If-Match says");
    let wanted = match request.headers.only("if-match") {
        Ok(None) => return Ok(()),
        Ok(Some(wanted)) => wanted.trim(),
        Err(_) => return Err(Refusal::invalid_request("more than one If-Match header")),
    };
    // "A recipient MUST use the strong comparison function": W/"1" is no strong tag.
    if wanted == "*" || wanted.split(',').any(|tag| tag.trim() == current) { Ok(()) } else { Err(failed()) }
}
