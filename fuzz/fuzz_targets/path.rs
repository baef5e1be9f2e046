#![no_main]
//! The path of a request: what is normalised is absolute still, and what is canonical stays what it is.

use authz::compiled::PathNormalization;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    let _ = authz::path::encode(path);
    for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes] {
        let normal = authz::path::normalize(path, mode);
        if authz::path::canonical(path).is_ok() {
            assert_eq!(normal.as_deref().ok(), Some(path), "{mode:?}");
        }
    }
});
