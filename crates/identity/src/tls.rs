//! TLS configurations for one SVID.
//!
//! Make a new configuration for every new SVID and never change one: a configuration holds the key, the roots
//! and the expected peers together, so a connection can be told by the SVID it was made with.

use std::error::Error as _;
use std::io;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::bundle::TrustBundle;
use crate::error::{PeerError, TlsError};
use crate::names::NamesVerifier;
use crate::spiffe_id::{SpiffeId, TrustDomain};
use crate::svid::Svid;
use crate::verify::{SpiffeClientVerifier, SpiffeServerVerifier};

/// A client that shows `svid` and talks only to a server with one of the `expected` identities, which are of the
/// bundle's trust domain or of an alias of it.
///
/// TLS 1.3 is preferred and 1.2 accepted (a mesh sidecar's minimum), then with the extended master secret.
/// `alpn` is offered in this order; an empty list offers nothing. Sessions are never resumed: a resumed
/// session skips the certificate check, so it would outlive the peer's SVID.
///
/// # Errors
/// When no identity is expected, or rustls refuses the parts.
pub fn client_config(
    svid: &Svid,
    bundle: &TrustBundle,
    expected: &[SpiffeId],
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, TlsError> {
    if expected.is_empty() {
        return Err(TlsError::NothingExpected);
    }
    let verifier = SpiffeServerVerifier::with_aliases(bundle.clone(), expected.to_vec());
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::Rustls(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified())));
    config.alpn_protocols = protocols(alpn);
    config.resumption = Resumption::disabled();
    config.require_ems = true;
    Ok(Arc::new(config))
}

/// Where the certificates of servers outside of the mesh lead to.
#[derive(Clone, Copy, Debug)]
pub enum Roots<'a> {
    /// A list that was compiled in.
    Anchors(&'a [TrustAnchor<'static>]),
    /// PEM text with at least one certificate.
    Pem(&'a [u8]),
}

/// A client without a certificate, for a server outside of the mesh whose certificate leads to `roots` and has one of
/// `names` (DNS names, addresses or URIs), or the name that is asked for where `names` is empty. TLS 1.3 or 1.2;
/// sessions are not resumed.
///
/// # Errors
/// When a root cannot be read, or rustls refuses the parts.
pub fn simple_config(roots: Roots<'_>, names: &[String], alpn: &[&str]) -> Result<Arc<ClientConfig>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::Rustls(error.to_string()))?;
    let roots = root_store(roots)?;
    let mut config = match names.is_empty() {
        true => builder.with_root_certificates(roots).with_no_client_auth(),
        false => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(NamesVerifier::new(roots, names.to_vec())))
            .with_no_client_auth(),
    };
    config.alpn_protocols = protocols(alpn);
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn root_store(roots: Roots<'_>) -> Result<RootCertStore, TlsError> {
    let text = match roots {
        Roots::Anchors(anchors) => return Ok(RootCertStore { roots: anchors.to_vec() }),
        Roots::Pem(text) => text,
    };
    let mut store = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|error| TlsError::Roots(error.to_string()))?;
        store.add(certificate).map_err(|error| TlsError::Roots(error.to_string()))?;
    }
    match store.is_empty() {
        true => Err(TlsError::Roots("found no CERTIFICATE section, expected at least one".to_owned())),
        false => Ok(store),
    }
}

/// A server that shows `svid` and requires a client certificate of the bundle's trust domain. Read who the
/// client is with [`crate::verify::peer_id`]. No tickets are given out, for the reason at [`client_config`].
///
/// # Errors
/// When rustls refuses the parts.
pub fn server_config(svid: &Svid, bundle: &TrustBundle, alpn: &[&str]) -> Result<Arc<ServerConfig>, TlsError> {
    server_config_with_aliases(svid, bundle, &[], alpn)
}

/// As [`server_config`]; clients may also be of the trust domains in `aliases`, which are other names of the mesh.
///
/// # Errors
/// When rustls refuses the parts.
pub fn server_config_with_aliases(
    svid: &Svid,
    bundle: &TrustBundle,
    aliases: &[TrustDomain],
    alpn: &[&str],
) -> Result<Arc<ServerConfig>, TlsError> {
    let verifier = SpiffeClientVerifier::with_aliases(bundle.clone(), aliases.to_vec());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::Rustls(error.to_string()))?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(svid.certified())));
    config.alpn_protocols = protocols(alpn);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.require_ems = true;
    Ok(Arc::new(config))
}

/// Why our verifier refused the peer, when that is what a failed handshake's error says.
pub fn peer_error(error: &io::Error) -> Option<&PeerError> {
    let tls = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    match tls {
        rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)) => {
            other.0.downcast_ref::<PeerError>()
        }
        other => other.source()?.downcast_ref::<PeerError>(),
    }
}

/// The one crypto provider of the workspace, passed explicitly: a process-wide default could be another
/// library's choice.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider())))
}

fn protocols(alpn: &[&str]) -> Vec<Vec<u8>> {
    alpn.iter().map(|name| name.as_bytes().to_vec()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use rustls::{ClientConnection, ProtocolVersion, ServerConnection};

    use super::*;
    use crate::testing::{Authority, RATINGS, REVIEWS};
    use crate::verify::peer_id;

    /// Lets two ends talk until both are done or one refuses.
    fn handshake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
    ) -> Result<(ClientConnection, ServerConnection), io::Error> {
        // A name with '_' labels, as a mesh gateway's SNI has.
        let name = "outbound_.9080_._.ratings.bookinfo.svc.cluster.local";
        let mut client = ClientConnection::new(Arc::clone(client), name.try_into().unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire)?;
            server.read_tls(&mut wire.as_slice())?;
            server.process_new_packets().map_err(io::Error::other)?;
            wire.clear();
            server.write_tls(&mut wire)?;
            client.read_tls(&mut wire.as_slice())?;
            client.process_new_packets().map_err(io::Error::other)?;
        }
        Ok((client, server))
    }

    #[test]
    fn both_sides_know_each_other_over_tls_1_3() {
        let authority = Authority::of_today();
        let expected = [RATINGS.parse().unwrap()];
        let alpn = ["istio-http/1.1", "istio", "http/1.1"];
        let client = client_config(&authority.svid(REVIEWS), &authority.bundle(), &expected, &alpn).unwrap();
        let server = server_config(&authority.svid(RATINGS), &authority.bundle(), &["istio-http/1.1"]).unwrap();
        let (client, server) = handshake(&client, &server).unwrap();
        assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert_eq!(client.alpn_protocol(), Some(&b"istio-http/1.1"[..]));
        assert_eq!(peer_id(client.peer_certificates()).unwrap().as_str(), RATINGS);
        assert_eq!(peer_id(server.peer_certificates()).unwrap().as_str(), REVIEWS);
    }

    #[test]
    fn the_wrong_server_is_refused_and_the_error_says_who_it_was() {
        let authority = Authority::of_today();
        let expected = [RATINGS.parse().unwrap()];
        let client = client_config(&authority.svid(REVIEWS), &authority.bundle(), &expected, &[]).unwrap();
        let server = server_config(&authority.svid(REVIEWS), &authority.bundle(), &[]).unwrap();
        let error = handshake(&client, &server).unwrap_err();
        let reason = peer_error(&error).expect("our verifier's reason");
        assert!(reason.is_identity());
        assert!(reason.to_string().contains(REVIEWS), "{reason}");
    }

    #[test]
    fn a_client_of_another_root_is_refused() {
        let authority = Authority::of_today();
        let stranger = Authority::of_today();
        let expected = [RATINGS.parse().unwrap()];
        let client = client_config(&stranger.svid(REVIEWS), &authority.bundle(), &expected, &[]).unwrap();
        let server = server_config(&authority.svid(RATINGS), &authority.bundle(), &[]).unwrap();
        let error = handshake(&client, &server).unwrap_err();
        assert!(matches!(peer_error(&error), Some(PeerError::Chain(_))), "{error}");
    }

    #[test]
    fn roots_outside_of_the_mesh_must_be_there() {
        for text in [&b""[..], b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(simple_config(Roots::Pem(text), &[], &[]), Err(TlsError::Roots(_))));
        }
        let authority = Authority::of_today();
        let pem = authority.certificate.pem();
        for names in [&[][..], &["a.example".to_owned()]] {
            let config = simple_config(Roots::Pem(pem.as_bytes()), names, &["h2"]).unwrap();
            assert_eq!(config.alpn_protocols, [b"h2".to_vec()]);
        }
    }

    #[test]
    fn nobody_expected_is_no_configuration() {
        let authority = Authority::of_today();
        let made = client_config(&authority.svid(REVIEWS), &authority.bundle(), &[], &[]);
        assert_eq!(made.err(), Some(TlsError::NothingExpected));
    }

    #[test]
    fn another_error_is_not_the_verifiers() {
        assert!(peer_error(&io::Error::other("reset")).is_none());
    }
}
