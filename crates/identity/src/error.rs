//! What can be wrong with an identity, and which rule says so.

use crate::spiffe_id::{SpiffeId, SpiffeIdError};

/// A certificate that does not have the profile of an X.509-SVID leaf (X509-SVID §2, §4, §5).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not one DER-encoded X.509 certificate.
    #[error("found bytes that are not one DER certificate ({0})")]
    Encoding(String),
    /// No URI SAN, or more than one (X509-SVID §2: "An X.509 SVID MUST contain exactly one URI SAN").
    #[error("found {0} URI names, expected exactly one (the SPIFFE ID)")]
    UriNames(usize),
    /// The URI SAN is not a workload's SPIFFE ID.
    #[error("the URI name is not a workload's SPIFFE ID: {0}")]
    Id(#[from] SpiffeIdError),
    /// A CA certificate (X509-SVID §4.1: "MUST set the cA field to false").
    #[error("found a CA certificate, expected a leaf (a signing certificate proves no workload)")]
    CertificateAuthority,
    /// Key usage absent or not critical (X509-SVID §4.3: "MUST be set, MUST be marked critical").
    #[error("found no critical key usage extension, expected one with digitalSignature")]
    KeyUsageMissing,
    /// Key usage without digitalSignature.
    #[error("found a key usage without digitalSignature, expected it")]
    NoDigitalSignature,
    /// keyCertSign or cRLSign on a leaf.
    #[error("found keyCertSign or cRLSign in the key usage of a leaf, expected neither")]
    SigningKeyUsage,
    /// Extended key usage without both serverAuth and clientAuth (X509-SVID §4.4).
    #[error("found an extended key usage without both serverAuth and clientAuth, expected both or none")]
    ExtendedKeyUsage,
}

/// A client certificate that somebody else has verified, and that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientCertificateError {
    /// The PEM text is too long.
    #[error("found {0} bytes of PEM, expected at most {max}", max = crate::client::MAX_PEM_BYTES)]
    TooLarge(usize),
    /// Not PEM, or not one DER certificate in it.
    #[error("found text that is not a PEM certificate ({0})")]
    Encoding(String),
    /// More than one certificate: which one the client has proven cannot be told.
    #[error("found {0} certificates, expected one")]
    Several(usize),
    /// Its validity has not begun.
    #[error("the certificate is not valid yet")]
    NotYetValid,
    /// Its validity is over.
    #[error("the certificate has expired")]
    Expired,
}

/// Why a peer's certificate was refused in a handshake. The peer's fault, or that of whoever configured
/// what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The chain does not lead to a root of the bundle at this time.
    #[error("the peer's certificate chain was refused: {0}")]
    Chain(String),
    /// The chain is good and the leaf is not an X.509-SVID.
    #[error("the peer's certificate is not an X.509-SVID: {0}")]
    Leaf(#[from] LeafError),
    /// The leaf belongs to a trust domain that this bundle does not speak for.
    #[error("found the peer identity {found}, expected the trust domain {expected}")]
    TrustDomain {
        /// The peer's identity.
        found: SpiffeId,
        /// The bundle's trust domain.
        expected: String,
    },
    /// A good certificate of a server outside of the mesh, without any of the names expected of it.
    #[error("found none of the names {} in the server's certificate, expected one", .expected.join(", "))]
    Names {
        /// The names that this destination may have.
        expected: Vec<String>,
    },
    /// A good identity, and not one of those expected here.
    #[error("found the peer identity {found}, expected {}", list(.expected))]
    Unexpected {
        /// The peer's identity.
        found: SpiffeId,
        /// The identities that this destination may have.
        expected: Vec<SpiffeId>,
    },
}

impl PeerError {
    /// True when the peer proved who it is and is the wrong one (or claims several identities at once);
    /// false when it proved nothing.
    pub fn is_identity(&self) -> bool {
        match self {
            PeerError::Chain(_) => false,
            PeerError::Leaf(_)
            | PeerError::TrustDomain { .. }
            | PeerError::Names { .. }
            | PeerError::Unexpected { .. } => true,
        }
    }
}

/// Why a chain and a key are not an SVID of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidError {
    /// The PEM text cannot be read.
    #[error("the SVID's PEM text cannot be read: {0}")]
    Pem(String),
    /// The leaf has the wrong profile.
    #[error("the SVID's leaf was refused: {0}")]
    Leaf(#[from] LeafError),
    /// The private key cannot be used (the message never shows it).
    #[error("the SVID's private key cannot be used, expected PKCS#8, SEC1 or PKCS#1 of a supported type")]
    Key,
    /// The private key is not the leaf's.
    #[error("the SVID's private key does not belong to its certificate")]
    KeyMismatch,
}

/// Why a set of roots is not a trust bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The PEM text cannot be read.
    #[error("the trust bundle's PEM text cannot be read: {0}")]
    Pem(String),
    /// One of the certificates cannot be a root.
    #[error("certificate {index} of the trust bundle cannot be a root: {reason}")]
    Root {
        /// Its place in the text, from 1.
        index: usize,
        /// Which rule it breaks.
        reason: String,
    },
}

/// Why a TLS configuration could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// No expected identity: "any workload of the mesh" is not an identity check.
    #[error("found no expected server identity, expected at least one SPIFFE ID")]
    NothingExpected,
    /// The roots of servers outside of the mesh cannot be used.
    #[error("the roots cannot be used: {0}")]
    Roots(String),
    /// rustls refused the configuration.
    #[error("the TLS configuration was refused: {0}")]
    Rustls(String),
}

/// Why a new identity was not published. What was published before stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Our own verifier, in the place of a peer, refuses it.
    #[error("our own verifier refused the new SVID: {0}")]
    Refused(#[from] PeerError),
}

fn list(ids: &[SpiffeId]) -> String {
    let ids: Vec<&str> = ids.iter().map(SpiffeId::as_str).collect();
    ids.join(" or ")
}
