//! crates/identity
