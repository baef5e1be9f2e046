//! Whether the real parts that a test needs are there.

#![allow(clippy::panic, clippy::print_stderr, clippy::disallowed_methods)]

use std::path::Path;

/// True if all of `parts` exist. Otherwise the test must return at once: it is skipped with a message, or, where
/// `CAUSEWAY_REQUIRE_TIERS=1` says that every tier must run, it fails here.
pub fn available(parts: &[&Path]) -> bool {
    match parts.iter().find(|part| !part.exists()) {
        None => true,
        Some(missing) => skip(&format!("{} is not there; `make tools programs` makes it", missing.display())),
    }
}

/// Skips a test for `reason`, or fails it where skipping is not allowed. Always false.
pub fn skip(reason: &str) -> bool {
    if std::env::var("CAUSEWAY_REQUIRE_TIERS").is_ok_and(|value| value == "1") {
        panic!("this tier must run here, but {reason}");
    }
    eprintln!("skipped: {reason}");
    false
}
