#![no_main]
//! A value of `paths` and of the other lists, as a policy gives it.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|value: &str| {
    if let Ok(template) = authz::matchers::PathTemplate::parse(value) {
        // What every path that matches begins with begins with a slash.
        assert!(template.literal_start().starts_with('/'), "{value}");
    }
    let _ = authz::matchers::PathPattern::parse(value);
    let _ = authz::matchers::RequestPrincipal::parse(value);
    let _ = value.parse::<istio::IpBlock>();
});
