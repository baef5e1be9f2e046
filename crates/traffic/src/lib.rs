//! Istio's traffic rules for the client side, as pure functions: which route a request takes, what is changed on the
//! way, which endpoint it goes to, when it is sent again and when an endpoint is left out.
//!
//! Nothing here waits, listens or reads a clock: time and randomness are arguments, so every algorithm is tested without
//! either. [`table`] is the compiled form that a bundle carries.

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
pub use open::{OpenError, Rules, View};
