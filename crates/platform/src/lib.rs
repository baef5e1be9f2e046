//! The outside world of the Causeway programs: environment, clock, randomness, log, bundle file, stores, HTTPS and AWS.
//!
//! The decision core (`authz`) and the resource types (`istio`) know nothing of these; each program takes them as
//! arguments, so that a test or the local stack can put its own in their place. Every AWS part is behind a feature,
//! since each dependency on a Lambda's start path costs start time.

#[cfg(feature = "jwks")]
pub mod api_keys;
pub mod bundle;
pub mod clock;
#[cfg(feature = "jwks")]
pub mod decision_line;
#[cfg(feature = "dynamodb")]
pub mod dynamo_table;
pub mod env;
pub mod log;
pub mod metrics;
pub mod panics;
#[cfg(feature = "jwks")]
mod pepper;
pub mod random;
pub mod secrets;
#[cfg(feature = "jwks")]
mod single_flight;
pub mod store;
pub mod table;
#[cfg(feature = "jwks")]
pub mod trace_id;
pub mod usage_plans;

#[cfg(feature = "aws")]
pub mod aws;
#[cfg(all(feature = "aws", feature = "jwks"))]
mod aws_json;
#[cfg(feature = "jwks")]
pub mod front;
#[cfg(feature = "https")]
pub mod https;
#[cfg(feature = "jwks")]
pub mod jwks;
#[cfg(feature = "jwks")]
mod key_cache;
#[cfg(feature = "jwks")]
pub mod key_sets;
#[cfg(all(feature = "aws", feature = "jwks"))]
mod key_store;
#[cfg(feature = "jwks")]
mod outage_log;
#[cfg(feature = "jwks")]
pub mod rate_limit;
#[cfg(feature = "jwks")]
pub mod revocations;
#[cfg(feature = "jwks")]
pub mod shadow_mode;
#[cfg(feature = "aws")]
pub mod sigv4;

/// Exit status of a program that refuses its configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;
