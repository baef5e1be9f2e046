//! The workload's own SVID: a key made in memory, a CSR to the issuer, and the chain that comes back.
//!
//! The key never leaves the process and is never written anywhere; each renewal makes a new one.

use std::sync::Arc;

use identity::{Credentials, Store, Svid, TrustBundle, TrustDomain};
use platform::BoxFuture;
use platform::clock::Clock;
use platform::log::Log;
use platform::random::{Random, SystemRandom};
use rcgen::{CertificateParams, KeyPair};
use serde::Deserialize;
use zeroize::Zeroize;

use crate::issuer::Issuer;
use crate::refresh::{Held, Source};

/// Fetches SVIDs.
pub(crate) struct SvidSource {
    issuer: Arc<Issuer>,
    trust_domain: TrustDomain,
    store: Store,
    clock: Arc<dyn Clock>,
    log: Log,
}

#[derive(Deserialize)]
struct Issued {
    /// PEM: leaf, intermediates, root.
    chain: Vec<String>,
    /// PEM: the roots.
    bundle: String,
    spiffe_id: String,
}

impl SvidSource {
    pub(crate) fn new(issuer: Arc<Issuer>, trust_domain: TrustDomain, clock: Arc<dyn Clock>, log: Log) -> SvidSource {
        SvidSource { issuer, trust_domain, store: Store::new(), clock, log }
    }

    async fn renew(&self) -> Result<Arc<Credentials>, String> {
        let mut key = KeyPair::generate().map_err(|error| format!("cannot make a key: {error}"))?;
        // The issuer takes the key alone and ignores every name: the identity comes from who signed the request.
        let request = CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
        let private = key.serialize_der();
        key.zeroize();
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(private).into();
        let request = request.map_err(|error| format!("cannot make a certificate request: {error}"))?;
        let body = serde_json::json!({ "csr": request }).to_string().into_bytes();
        let answer = self.issuer.post("/v1/svid", "application/json", body).await?;
        self.publish(&answer, private)
    }

    fn publish(
        &self,
        answer: &[u8],
        key: rustls_pki_types::PrivateKeyDer<'static>,
    ) -> Result<Arc<Credentials>, String> {
        let issued: Issued =
            serde_json::from_slice(answer).map_err(|error| format!("the issuer's answer is not an SVID: {error}"))?;
        let svid = Svid::from_chain_and_key(issued.chain.join("\n").as_bytes(), key).map_err(|e| e.to_string())?;
        if svid.id().as_str() != issued.spiffe_id {
            return Err(format!("the issuer's answer says {:?}, and its certificate {}", issued.spiffe_id, svid.id()));
        }
        let bundle = TrustBundle::from_pem(self.trust_domain.clone(), issued.bundle.as_bytes())
            .map_err(|error| error.to_string())?;
        self.store.publish(svid, bundle, self.clock.unix()).map_err(|error| error.to_string())
    }

    fn say(&self, outcome: &Result<Arc<Credentials>, String>) {
        self.log.write(&match outcome {
            Ok(credentials) => serde_json::json!({
                "event": "identity",
                "state": "renewed",
                "spiffe_id": credentials.svid().id().as_str(),
                "serial": credentials.svid().serial_hex(),
                "not_after": credentials.svid().not_after(),
            }),
            Err(error) => serde_json::json!({ "event": "identity", "state": "failed", "error": error }),
        });
    }
}

impl Source for SvidSource {
    type Value = Arc<Credentials>;

    fn fetch(&self) -> BoxFuture<'_, Result<Held<Arc<Credentials>>, String>> {
        Box::pin(async move {
            let outcome = self.renew().await;
            self.say(&outcome);
            let credentials = outcome?;
            let (not_before, not_after) = (credentials.svid().not_before(), credentials.svid().not_after());
            let renew_at = half_life(not_before, not_after, jitter());
            Ok(Held { value: credentials, renew_at, dead_at: not_after.saturating_add(1) })
        })
    }
}

/// Half of the life, moved by up to one hundredth of it either way, as Istio's agent does: environments that started
/// together must not all renew at the same moment. `jitter` is from 0 to 255.
fn half_life(not_before: u64, not_after: u64, jitter: u8) -> u64 {
    let life = not_after.saturating_sub(not_before);
    let shift = life / 50 * u64::from(jitter) / 255;
    not_before + life / 2 - life / 100 + shift
}

fn jitter() -> u8 {
    let mut byte = [0];
    // Without randomness there is no jitter, and nothing else is lost.
    match SystemRandom.fill(&mut byte) {
        Ok(()) => byte[0],
        Err(_) => 128,
    }
}

#[cfg(test)]
mod tests {
    use platform::clock::SystemClock;
    use platform::env::MapEnv;
    use rcgen::{
        BasicConstraints, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType,
    };
    use rustls_pki_types::PrivatePkcs8KeyDer;
    use time::{Duration, OffsetDateTime};

    use super::*;

    const ID: &str = "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews";

    /// A root of the mesh: its PEM, and what signs with it.
    fn root() -> (String, rcgen::Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        (pem, rcgen::Issuer::new(params, key))
    }

    /// What an issuer with this root answers, and the key that it is for.
    fn issued(
        root: &(String, rcgen::Issuer<'static, KeyPair>),
        bundle: &str,
    ) -> (Vec<u8>, rustls_pki_types::PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
        let mut request = CertificateSigningRequestParams::from_pem(&csr).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(ID.try_into().unwrap())];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = OffsetDateTime::now_utc() - Duration::minutes(1);
        params.not_after = OffsetDateTime::now_utc() + Duration::hours(1);
        request.params = params;
        let leaf = request.signed_by(&root.1).unwrap().pem();
        let answer = serde_json::json!({ "chain": [leaf, root.0], "bundle": bundle, "spiffe_id": ID });
        (answer.to_string().into_bytes(), PrivatePkcs8KeyDer::from(key.serialize_der()).into())
    }

    #[test]
    fn a_rotated_root_is_taken_with_its_bundle_and_not_without() {
        let env = MapEnv::from([
            ("CAUSEWAY_SVID_URL", "http://127.0.0.1:1"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ]);
        let egress = crate::Config::from_env(&env).egress.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let issuer = Arc::new(Issuer::new(&egress, Arc::clone(&clock)));
        let source = SvidSource::new(issuer, "cluster.local".parse().unwrap(), clock, Log::memory().0);
        let (old, new) = (root(), root());
        let publish = |root, bundle: &str| {
            let (answer, key) = issued(root, bundle);
            source.publish(&answer, key).map(|credentials| credentials.svid().serial_hex().to_owned())
        };
        let first = publish(&old, &old.0).unwrap();
        // An issuer that signs with the next root before it says so would cut the workload off.
        assert!(publish(&new, &old.0).is_err());
        // Both roots while the mesh moves, then the new one alone.
        let second = publish(&new, &format!("{}{}", old.0, new.0)).unwrap();
        let third = publish(&new, &new.0).unwrap();
        assert!(first != second && second != third);
        assert!(publish(&old, &new.0).is_err());
    }

    #[test]
    fn renewal_is_due_around_half_life() {
        for (jitter, expected) in [(0, 1_000 + 1_764), (255, 1_000 + 1_836)] {
            assert_eq!(half_life(1_000, 4_600, jitter), expected);
        }
        assert_eq!(half_life(5, 5, 255), 5);
        assert_eq!(half_life(5, 4, 0), 5);
    }
}
