//! Changes of path and authority, and redirects.

use crate::route::{Head, Picked};
use crate::table::Redirect;

/// The path and query after the rewrite of the picked route; `None` when it stays as it is.
///
/// # Errors
/// When what comes out is no path of HTTP.
pub fn path_and_query(_picked: &Picked<'_>, _head: &Head<'_>) -> Result<Option<String>, String> {
    Ok(None)
}

/// The `Location` of a redirect.
///
/// # Errors
/// When what comes out is no URL.
pub fn location(_redirect: &Redirect, _picked: &Picked<'_>, _head: &Head<'_>) -> Result<String, String> {
    Ok(String::new())
}
