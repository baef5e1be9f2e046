//! crates/authz
