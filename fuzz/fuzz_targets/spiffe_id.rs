#![no_main]
//! An id that parses is written as it was read.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<identity::SpiffeId>() {
        assert_eq!(id.to_string(), text);
    }
});
