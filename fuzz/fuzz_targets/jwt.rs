#![no_main]
//! The text of a token, before anything is verified.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for mode in [authz::Mode::Strict, authz::Mode::Istio] {
        let _ = authz::jwt::UnverifiedToken::parse(text, mode);
    }
});
