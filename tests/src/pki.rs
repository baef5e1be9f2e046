//! Certificates and keys of the doors and of clients, made anew for each test.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
};
use serde_json::{Value, json};

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

/// A certificate and its key.
pub struct Identity {
    /// The certificate.
    pub certificate: rcgen::Certificate,
    /// Its key.
    pub key: KeyPair,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Result<Self, String> {
        let make = || {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let key = KeyPair::generate()?;
            let certificate = params.self_signed(&key)?;
            Ok::<_, rcgen::Error>(Self { issuer: Issuer::new(params, key), certificate })
        };
        make().map_err(|error| error.to_string())
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &rcgen::Certificate {
        &self.certificate
    }

    /// A certificate for a server of these names.
    pub fn server(&self, names: &[&str]) -> Result<Identity, String> {
        self.issue(names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client of this name.
    pub fn client(&self, name: &str) -> Result<Identity, String> {
        self.issue(&[name], ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate of whatever is wanted.
    pub fn sign(&self, params: CertificateParams, key: &KeyPair) -> Result<rcgen::Certificate, String> {
        params.signed_by(key, &self.issuer).map_err(|error| error.to_string())
    }

    fn issue(&self, names: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<Identity, String> {
        let make = || {
            let key = KeyPair::generate()?;
            Ok::<_, rcgen::Error>(Identity { certificate: leaf(names, usage)?.signed_by(&key, &self.issuer)?, key })
        };
        make().map_err(|error| error.to_string())
    }
}

impl Identity {
    /// A client's certificate that no authority has signed.
    pub fn self_signed(name: &str) -> Result<Self, String> {
        let make = || {
            let key = KeyPair::generate()?;
            let certificate = leaf(&[name], ExtendedKeyUsagePurpose::ClientAuth)?.self_signed(&key)?;
            Ok::<_, rcgen::Error>(Self { certificate, key })
        };
        make().map_err(|error| error.to_string())
    }

    /// RFC 8705 §3.1 `x5t#S256`.
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, self.certificate.der()))
    }
}

fn leaf(names: &[&str], usage: ExtendedKeyUsagePurpose) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common);
    params.extended_key_usages = vec![usage];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// A key with which a client signs its assertions.
pub struct AssertionKey {
    /// The JWS algorithm.
    pub algorithm: &'static str,
    /// The private key, PKCS#8 in PEM.
    pub pem: String,
    /// The public key.
    pub jwk: Value,
}

impl AssertionKey {
    /// A P-256 key.
    pub fn es256() -> Result<Self, String> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|error| error.to_string())?;
        // SEC 1 §2.3.3: 04, x, y.
        let point = pair.public_key_raw().get(1..).unwrap_or_default();
        let (x, y) = point.split_at_checked(32).ok_or("a P-256 point is too short")?;
        let jwk = json!({"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)});
        Ok(Self { algorithm: "ES256", pem: pair.serialize_pem(), jwk })
    }

    /// An RSA key of 2048 bits.
    pub fn rs256() -> Result<Self, String> {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).map_err(|error| error.to_string())?;
        // RSAPublicKey of RFC 8017: SEQUENCE { INTEGER 00 n, INTEGER 010001 }.
        let modulus = pair.public_key_raw().get(9..265).ok_or("an RSA key is too short")?;
        let jwk = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"});
        Ok(Self { algorithm: "RS256", pem: pair.serialize_pem(), jwk })
    }
}
