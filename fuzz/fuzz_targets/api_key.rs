#![no_main]
//! A key that parses is written as it was read.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(key) = authz::ApiKey::parse(text) {
        assert_eq!(key.text().expose(), text);
    }
});
