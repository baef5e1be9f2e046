#![no_main]
//! Configuration files.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let file = istio::SourceFile { name: "fuzz.yaml".to_owned(), text: text.to_owned() };
    let _ = istio::parse(&[file]);
});
