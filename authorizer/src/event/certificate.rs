//! The client certificate of a custom domain with mutual TLS. API Gateway has verified its chain against the domain's
//! truststore; a certificate that could not be read would otherwise count as "plaintext", and a DENY rule on principals
//! would then miss the caller that it names.

use identity::ClientCertificate;

use super::refused::Why;
use super::wire::ClientCert;

/// Reads the certificate of an event, if there is one.
pub(super) fn read(certificate: Option<ClientCert>, now: u64) -> Result<Option<ClientCertificate>, Why> {
    let Some(certificate) = certificate else { return Ok(None) };
    let pem = certificate.client_cert_pem.ok_or_else(|| Why::missing("clientCert.clientCertPem"))?;
    let read = ClientCertificate::from_pem(&pem, now);
    read.map(Some).map_err(|error| Why::event(format!("the client certificate cannot be used: {error}")))
}
