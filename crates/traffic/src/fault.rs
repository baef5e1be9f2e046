//! Injected failures, and shares of requests.

use std::time::Duration;

use http::HeaderMap;

use crate::table::{AbortStatus, Fault};

/// Whether a request belongs to a share in millionths; `random` is any number.
pub fn is_in(_share: u32, _random: u64) -> bool {
    false
}

/// What is done to one request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Injected {
    /// Wait first.
    pub delay: Option<Duration>,
    /// Then answer this.
    pub abort: Option<AbortStatus>,
}

/// Draws for one request.
pub fn inject(_fault: &Fault, _headers: &HeaderMap, _random: [u64; 2]) -> Injected {
    Injected::default()
}
