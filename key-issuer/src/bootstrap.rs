//! First secrets for a new issuer: for the demo, the local stack and tests, and for operators.

use identity::TrustDomain;
use identity::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::Algorithm;
use crate::signing_key::{SecretFile, SecretKey};

/// How long the root lives.
const ROOT_LIFE: Duration = Duration::days(3650);
/// How long the intermediate lives, which signs SVIDs.
const INTERMEDIATE_LIFE: Duration = Duration::days(365);
/// Certificates are valid from this long before now: clocks differ.
const BACKDATE: Duration = Duration::hours(1);

/// A key or certificate cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a new secret cannot be made: {0}")]
pub struct BootstrapError(String);

impl From<rcgen::Error> for BootstrapError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

/// The JSON for `CAUSEWAY_SIGNING_SECRET` with a new ES256 and a new RS256 key, both active at once: ES256 is the
/// default and the faster one by far, RS256 is what API Gateway's HTTP APIs take.
///
/// # Errors
/// When the random number generator fails.
pub fn new_signing_secret() -> Result<Secret<String>, BootstrapError> {
    new_signing_secret_of(&[Algorithm::Es256, Algorithm::Rs256])
}

/// As [`new_signing_secret`], with one key of each of `algorithms`.
///
/// # Errors
/// When the random number generator fails.
pub fn new_signing_secret_of(algorithms: &[Algorithm]) -> Result<Secret<String>, BootstrapError> {
    let keys = algorithms.iter().map(|algorithm| SecretKey::generate(*algorithm, None));
    let keys = keys.collect::<Result<_, _>>().map_err(BootstrapError)?;
    Ok(SecretFile { keys }.to_secret())
}

/// The JSON for `CAUSEWAY_CA_SECRET`: a new root and an intermediate below it, in the shape of Istio's secret
/// `cacerts`, valid from an hour before `now` (Unix seconds). The root's private key is not in it: it is gone, and a
/// new intermediate needs a new root. A mesh that lives on has a root of its own and signs an intermediate with it.
///
/// # Errors
/// When `now` is not a time that a certificate can hold or the random number generator fails.
pub fn new_ca_secret(trust_domain: &TrustDomain, now: u64) -> Result<Secret<String>, BootstrapError> {
    let now = i64::try_from(now)
        .ok()
        .and_then(|now| OffsetDateTime::from_unix_timestamp(now).ok())
        .ok_or_else(|| BootstrapError("the time is out of range".to_owned()))?;
    let root_key = KeyPair::generate()?;
    // One intermediate may follow the root, and none the intermediate.
    let root_params = authority(trust_domain, "Causeway root", 1, now, ROOT_LIFE)?;
    let root = root_params.self_signed(&root_key)?;
    let root_issuer = Issuer::new(root_params, root_key);

    let key = KeyPair::generate()?;
    let params = authority(trust_domain, "Causeway intermediate", 0, now, INTERMEDIATE_LIFE)?;
    let certificate = params.signed_by(&key, &root_issuer)?;
    let secret = json!({
        "ca-cert.pem": certificate.pem(),
        "ca-key.pem": key.serialize_pem(),
        "root-cert.pem": root.pem(),
        "cert-chain.pem": format!("{}{}", certificate.pem(), root.pem()),
    });
    Ok(Secret::new(secret.to_string()))
}

fn authority(
    trust_domain: &TrustDomain,
    name: &str,
    path_length: u8,
    now: OffsetDateTime,
    life: Duration,
) -> Result<CertificateParams, BootstrapError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, trust_domain.as_str());
    params.distinguished_name.push(DnType::CommonName, name);
    // X509-SVID §2 and §4.1: a signing certificate's SPIFFE ID, if it has one, is the trust domain's, without a path.
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - BACKDATE;
    params.not_after = now + life;
    Ok(params)
}
