//! From documents to what a workload sees.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod build;
mod destinations;
mod hosts;
mod policies;
mod properties;
mod routes;
mod rules;
mod section;
mod sidecars;
mod yaml;
