//! A certificate authority for this crate's tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

use crate::{Svid, TrustBundle};

/// The present of these tests, Unix seconds (2030-01-01).
pub(crate) const NOW: u64 = 1_893_456_000;
/// How long a test SVID lives, in seconds.
pub(crate) const LIFE: u64 = 3600;
pub(crate) const REVIEWS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";
pub(crate) const RATINGS: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings";

thread_local! {
    /// One authority for property tests: making keys is slow.
    pub(crate) static SHARED: Authority = Authority::new();
}

pub(crate) struct Authority {
    pub(crate) certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
    now: u64,
}

impl Authority {
    pub(crate) fn new() -> Authority {
        Authority::with(|_| ())
    }

    /// One whose certificates are valid today: in a handshake rustls asks the system's clock.
    pub(crate) fn of_today() -> Authority {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Authority::make(since.unwrap().as_secs(), |_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Authority {
        Authority::make(NOW, change)
    }

    fn make(now: u64, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = ca_params(now);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Authority { certificate, issuer, now }
    }

    /// An authority of the same name, signed by this one.
    pub(crate) fn intermediate(&self) -> Authority {
        self.intermediate_with(|_| ())
    }

    pub(crate) fn intermediate_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Authority {
        let mut params = ca_params(self.now);
        change(&mut params);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Authority { certificate, issuer: Issuer::new(params, key), now: self.now }
    }

    pub(crate) fn bundle(&self) -> TrustBundle {
        TrustBundle::from_pem("cluster.local".parse().unwrap(), self.certificate.pem().as_bytes()).unwrap()
    }

    pub(crate) fn leaf(&self, id: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        self.leaf_with(id, |_| ())
    }

    pub(crate) fn leaf_with(
        &self,
        id: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = at(self.now - 60);
        params.not_after = at(self.now + LIFE);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (certificate.der().clone(), key)
    }

    pub(crate) fn svid(&self, id: &str) -> Svid {
        let (certificate, key) = self.leaf(id);
        Svid::from_der(vec![certificate], key).unwrap()
    }
}

pub(crate) fn at(unix: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(unix).unwrap()).unwrap()
}

fn ca_params(now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "mesh root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(now - 86_400);
    params.not_after = at(now + 86_400 * 365);
    params
}
