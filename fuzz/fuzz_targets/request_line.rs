#![no_main]
//! A line of requests, as `evaluate` reads it.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    let _ = causeway::fuzzing::request_line(line);
});
