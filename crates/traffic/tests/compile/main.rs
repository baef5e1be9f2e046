//! From documents to what a workload sees.

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
