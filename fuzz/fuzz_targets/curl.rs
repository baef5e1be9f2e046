#![no_main]
//! A command line of curl, pasted by a person.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &str| {
    let _ = causeway::fuzzing::curl(line);
});
