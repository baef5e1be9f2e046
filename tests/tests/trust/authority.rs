//! A root that is kept offline, and the intermediates that it signs: the issuer's, and istiod's.

use std::time::{Duration, SystemTime};

use e2e::local_issuer::Workload;
use identity::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SignatureAlgorithm,
};
use serde_json::{Value, json};

use crate::sidecars::text;

const DAY: Duration = Duration::from_secs(86_400);

/// A root.
pub(crate) struct Root {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// An intermediate below it.
pub(crate) struct Intermediate {
    certificate: String,
    /// It, and what stands between it and the root.
    chain: String,
    key: String,
    roots: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Root {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        Self::of(name, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// One with a key of this type: Istio's own scripts make RSA keys.
    pub(crate) fn of(name: &str, algorithm: &'static SignatureAlgorithm) -> Result<Self, String> {
        let key = KeyPair::generate_for(algorithm).map_err(text)?;
        let params = authority(name, 2);
        let pem = params.self_signed(&key).map_err(text)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    pub(crate) fn intermediate(&self, name: &str) -> Result<Intermediate, String> {
        intermediate(name, 1, &self.issuer, String::new(), &self.pem)
    }
}

/// `above` is what stands between it and the root.
fn intermediate(
    name: &str,
    path_length: u8,
    by: &Issuer<'static, KeyPair>,
    above: String,
    root: &str,
) -> Result<Intermediate, String> {
    let key = KeyPair::generate().map_err(text)?;
    let params = authority(name, path_length);
    let certificate = params.signed_by(&key, by).map_err(text)?.pem();
    let (roots, private) = (root.to_owned(), key.serialize_pem());
    Ok(Intermediate {
        chain: format!("{certificate}{above}"),
        certificate,
        key: private,
        roots,
        issuer: Issuer::new(params, key),
    })
}

impl Intermediate {
    /// One more below this one.
    pub(crate) fn intermediate(&self, name: &str) -> Result<Intermediate, String> {
        intermediate(name, 0, &self.issuer, self.chain.clone(), &self.roots)
    }

    pub(crate) fn chain(&self) -> &str {
        &self.chain
    }

    /// The shape of Istio's secret `cacerts`, which the issuer's has too.
    pub(crate) fn cacerts(&self) -> Value {
        json!({
            "ca-cert.pem": self.certificate,
            "ca-key.pem": self.key,
            "root-cert.pem": self.roots,
            "cert-chain.pem": self.chain,
        })
    }

    /// The same, where those who get certificates are told of another root, too.
    pub(crate) fn cacerts_with(&self, root: &Root) -> Value {
        let mut secret = self.cacerts();
        secret["root-cert.pem"] = json!(format!("{}{}", self.roots, root.pem));
        secret
    }

    /// What istiod gives a workload: an SVID of an hour, and the root.
    pub(crate) fn workload(&self, id: &str) -> Result<Workload, String> {
        let key = KeyPair::generate().map_err(text)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().map_err(text)?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = (SystemTime::now() - Duration::from_secs(60)).into();
        params.not_after = (SystemTime::now() + Duration::from_secs(3_600)).into();
        let leaf = params.signed_by(&key, &self.issuer).map_err(text)?.pem();
        Ok(Workload {
            chain: format!("{leaf}{}", self.chain),
            key: Secret::new(key.serialize_pem()),
            roots: self.roots.clone(),
        })
    }
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (SystemTime::now() - DAY).into();
    params.not_after = (SystemTime::now() + 365 * DAY).into();
    params
}
