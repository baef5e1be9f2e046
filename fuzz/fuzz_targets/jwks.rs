#![no_main]
//! A published key set.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = authz::Jwks::parse(text, authz::KeyOrigin::Fetched);
});
