#![no_main]
//! The path of a request: what is normalised is absolute still, and what is canonical stays what it is.

use istio::{PathNormalization, path as paths};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    use PathNormalization::{Base, DecodeAndMergeSlashes, MergeSlashes, None};
    let _ = paths::encode(path);
    for mode in [None, Base, MergeSlashes, DecodeAndMergeSlashes] {
        let normal = paths::normalize(path, mode);
        if paths::canonical(path).is_ok() {
            assert_eq!(normal.as_deref().ok(), Some(path), "{mode:?}");
        }
    }
});
