#![no_main]
//! A published key set.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for mode in [authz::Mode::Strict, authz::Mode::Istio] {
        let _ = authz::Jwks::parse_as(text, authz::KeyOrigin::Fetched, mode);
    }
});
