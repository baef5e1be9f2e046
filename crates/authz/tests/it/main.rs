//! Tests of the whole crate through its public interface.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod compiling;
mod context_keys;
mod credentials;
mod custom;
mod destination_peers;
mod environments;
mod environments_properties;
mod gateway_routes;
mod gateway_rules;
mod grants;
mod grants_properties;
mod hops;
mod jwt_attacks;
mod modes;
mod peer_mode;
mod properties;
mod read_set;
mod revocations;
mod rules;
mod shadow_mode;
mod support;
mod token_walk;
mod trace;
mod two_hops;
mod vectors;
mod verified;
mod worst_cases;
