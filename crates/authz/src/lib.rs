//! Who may do what: credential → principal → policies → [`Decision`].
//!
//! Pure and synchronous. Time, keys and key records are arguments; there is no clock, no environment, no
//! socket and no task in here. Istio's semantics are followed to the letter, with the additions of the
//! strict mode; the sentence of Istio or of the RFC stands at the branch that implements it.
//!
//! The way through:
//! 1. [`compile`] turns [`istio::Resources`] into bytes when a bundle is made, and refuses what it
//!    cannot represent;
//! 2. [`Policies::open`] checks those bytes and evaluates them in place;
//! 3. a front builds a [`Request`] and a [`Target`], asks [`credentials`] what has to be fetched first,
//!    and then [`decide`]. Only the gate can make an [`Allow`].

pub mod api;
pub mod api_key;
mod authenticate;
mod binding;
pub mod claims;
pub mod compile;
pub mod compiled;
pub mod context_key;
mod custom;
pub mod decision;
mod evaluate;
pub mod gate;
pub mod grants;
mod hops;
mod index;
pub mod jwk;
pub mod jwt;
pub mod matchers;
mod peer_mode;
pub mod policies;
pub mod read_set;
pub mod reason;
pub mod request;
pub mod revocation;
pub mod shadow_mode;
pub mod trace;
mod uncovered;
pub mod verified;

pub use api_key::{ApiKey, ApiKeyRecord, KeyRecordLookup, KeyState};
pub use claims::{Claims, Json};
pub use compile::{CompileError, CompileOptions, Compiled, compile};
pub use compiled::{Mode, PeerMode};
pub use decision::{Allow, Decision, Deny, DryRunAllow, HeaderChanges, Hop, Shadow};
pub use gate::{
    Credentials, Given, KeysNeeded, PresentedKey, ProviderAnswer, credentials, credentials_with, decide, explain,
    overlook,
};
pub use grants::{Grants, grants};
pub use istio::path;
pub use jwk::{Jwks, JwksError, KeyOrigin, KeySets};
pub use policies::{ApiGatewayInfo, OpenError, Policies, SharedBytes};
pub use read_set::{ReadSet, read_set};
pub use reason::Reason;
pub use request::{Attribute, PathHandling, Peer, Request, Target, UNAVAILABLE_AT_API_GATEWAY, Unknown};
pub use revocation::{RevocationList, RevocationListError, Revocations, RevokedId, UnverifiedRevocationList};
pub use shadow_mode::ShadowMode;
pub use trace::Trace;
pub use verified::VerifiedTokens;
