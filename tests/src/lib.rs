//! What the end-to-end tests share: the real parts as processes, started and ended by the test that needs them.
//! `tests/README.md` says which tiers there are and what each needs.

pub mod application;
pub mod credentials;
pub mod doors;
pub mod envoy;
pub mod function;
pub mod layer;
pub mod local_issuer;
pub mod mesh;
pub mod moto;
pub mod pki;
pub mod ports;
pub mod process;
pub mod public_issuer;
pub mod recorder;
pub mod relay;
pub mod rotating_issuer;
pub mod sandbox;
pub mod sidecar;
pub mod stores;
pub mod tier;
pub mod tls_door;
pub mod world;

use std::path::{Path, PathBuf};

/// The root of the checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("/"))
}

/// A pinned tool that `tests/tools/install` has put into `.tools/bin`.
pub fn tool(name: &str) -> PathBuf {
    root().join(".tools/bin").join(name)
}

/// A program of ours: the release binary, as it is shipped, or where none was made the one that `cargo test` has built.
pub fn program(name: &str) -> PathBuf {
    let [shipped, built] = ["release", "debug"].map(|profile| target().join(profile).join(name));
    if !shipped.exists() && built.exists() { built } else { shipped }
}

/// The search path that real parts start with.
#[allow(clippy::disallowed_methods, reason = "the tests' own environment")]
pub fn path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned())
}

/// The target folder that this very test was built into.
fn target() -> PathBuf {
    // …/target/debug/deps/NAME-HASH
    let test = std::env::current_exe().unwrap_or_default();
    test.ancestors().nth(3).map_or_else(|| root().join("target"), Path::to_owned)
}
