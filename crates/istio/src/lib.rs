//! crates/istio
