//! Istio's traffic rules for the client side, as pure functions: which route a request takes, what is changed on the
//! way, which endpoint it goes to, when it is sent again and when an endpoint is left out.
//!
//! Nothing here waits, listens or reads a clock: time and randomness are arguments, so every algorithm is tested
//! without either.
//!
//! Rules come as Istio's documents. [`compile()`] resolves their names, fills in their defaults and merges them into a
//! [`table`], which a bundle carries; what cannot be done is refused there, by its place in the document. [`Rules`]
//! opens the table, checked as a whole, and says what a workload sees. From there a request goes through:
//!
//! 1. [`route`]: the first route whose match is met ([`string_match`], regular expressions as in RE2).
//! 2. [`fault`]: whether it is delayed or answered on purpose.
//! 3. [`weighted`]: which of the route's destinations gets it, and so which cluster.
//! 4. [`headers`] and [`mod@rewrite`]: what it looks like there, in Envoy's order: headers of the destination and of the
//!    route, then Host, then path. A redirect or a direct response ends here.
//! 5. [`balance`] and [`locality`]: which endpoint of the cluster; [`outlier`]: which of them are left out.
//! 6. [`retry`]: whether and when it is sent again.
//!
//! A request for a host without rules has a route too: Istio's default one, which the compiler writes.

pub mod balance;
pub mod compile;
pub mod fault;
mod header_value;
pub mod headers;
pub mod locality;
pub mod open;
pub mod outlier;
mod re2;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod string_match;
pub mod table;
pub mod weighted;

pub use compile::{Compiled, compile};
/// Whether a host of the table, exact or as `*.example.com`, covers a name, in any case.
pub fn covers(pattern: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) => name.len() > suffix.len() && name.ends_with(suffix),
        None => pattern == name,
    }
}

pub use open::{OpenError, Rules, View};
