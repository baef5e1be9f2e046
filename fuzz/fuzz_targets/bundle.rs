#![no_main]
//! Bytes that are no bundle are refused, and what opens is safe to look into.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(bundle) = platform::bundle::Bundle::from_bytes(bytes.to_vec()) {
        let _ = bundle.section(platform::bundle::Section::Access).map(authz::Policies::open);
        let _ = bundle.section(platform::bundle::Section::Egress).map(traffic::Rules::open);
    }
    // The checksum keeps a fuzzer out of the sections, so they are tried by themselves too.
    let _ = authz::Policies::open(bytes);
    let _ = traffic::Rules::open(bytes);
});
