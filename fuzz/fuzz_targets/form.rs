#![no_main]
//! The body of a token request.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = key_issuer::Form::parse(bytes);
});
