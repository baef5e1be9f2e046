//! Workload identity: SPIFFE IDs, X.509-SVIDs, trust bundles, the rustls verifiers that check them and the
//! store that publishes a new identity only after our own verifier accepted it.
//!
//! No I/O, no clock, no environment: certificates come in as bytes and the time as an argument. (Within a
//! handshake it is rustls that tells the verifiers the time.)

pub mod bundle;
pub mod client;
pub mod error;
pub mod issued;
pub mod leaf;
pub mod secret;
pub mod spiffe_id;
pub mod store;
pub mod svid;
pub mod tls;
pub mod verify;

mod names;
mod pem;
#[cfg(test)]
mod testing;

pub use bundle::TrustBundle;
pub use client::ClientCertificate;
pub use error::{BundleError, ClientCertificateError, LeafError, PeerError, PublishError, SvidError, TlsError};
pub use leaf::Leaf;
pub use secret::Secret;
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use store::{Credentials, Receiver, Store, Unavailable};
pub use svid::Svid;
