//! The keys of an issuer, a thousand policies that take its tokens, and events.

use std::path::PathBuf;
use std::sync::Arc;

use authorizer::{ApiKeyStore, Authorizer, Config, Deps};
use authz::{ApiKey, KeyState, Policies};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use causeway::dev::seeds;
use identity::Secret;
use platform::bundle::{Bundle, Section};
use platform::clock::{Clock, SystemClock};
use platform::env::MapEnv;
use platform::jwks::JwksSource;
use platform::log::Log;
use platform::store::ApiKeys;
use platform::{secrets, store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::{self, Functions, policies};

const PEPPER: &str = "a pepper of the benchmark";

#[derive(Clone, Copy)]
pub(crate) enum Algorithm {
    Es256,
    Rs256,
}

/// A signed token, in the parts that its signature is checked with.
pub(crate) struct Token {
    message: String,
    signature: Vec<u8>,
}

impl Token {
    fn text(&self) -> String {
        format!("{}.{}", self.message, URL_SAFE_NO_PAD.encode(&self.signature))
    }
}

pub(crate) struct World {
    pub(crate) authorizer: PathBuf,
    pub(crate) bare: PathBuf,
    pub(crate) bundle: PathBuf,
    pub(crate) key: ApiKey,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let ec = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("mesh.bundle");
        std::fs::write(&bundle, policies::bundle(&jwks(&ec, &rsa))).unwrap();
        Self {
            authorizer: e2e::program("authorizer"),
            bare: common::bare(),
            bundle,
            key: ApiKey::generate("dev", &[7; 48]).unwrap(),
            ec,
            rsa,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            _folder: folder,
        }
    }

    /// The two programs that are compared.
    pub(crate) fn functions(&self) -> Result<Functions<'_>, String> {
        let bundle = ("CAUSEWAY_BUNDLE".to_owned(), self.bundle.display().to_string());
        common::functions(&self.bare, &self.authorizer, vec![bundle])
    }

    /// A token like no other, if `serial` is like no other.
    pub(crate) fn token(&self, algorithm: Algorithm, serial: usize) -> Token {
        let (name, kid) = match algorithm {
            Algorithm::Es256 => ("ES256", "ec"),
            Algorithm::Rs256 => ("RS256", "rsa"),
        };
        let now = SystemClock.unix();
        let header = json!({"alg": name, "kid": kid, "typ": "at+jwt"});
        let claims = json!({
            "iss": "https://issuer.bookinfo.example", "sub": "client:reader", "client_id": "reader", "aud": ["bookinfo"],
            "scope": "reviews.read", "iat": now, "exp": now + 3_600, "jti": serial.to_string(),
        });
        let b64 = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", b64(header), b64(claims));
        let random = SystemRandom::new();
        let signature = match algorithm {
            Algorithm::Es256 => self.ec.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec(),
            Algorithm::Rs256 => {
                let mut signature = vec![0; self.rsa.public_modulus_len()];
                self.rsa.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                signature
            }
        };
        Token { message, signature }
    }

    /// aws-lc-rs' own verification of the same signature, with a key that was parsed before.
    pub(crate) fn verifier(&self, algorithm: Algorithm) -> impl Fn(&Token) {
        let key = match algorithm {
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.ec.public_key().as_ref()),
            Algorithm::Rs256 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.rsa.public_key().as_ref()),
        };
        let key = key.unwrap();
        move |token| key.verify_sig(token.message.as_bytes(), &token.signature).unwrap()
    }

    /// The event of an HTTP API with payload format 2.0.
    pub(crate) fn event_with_token(&self, token: &Token) -> String {
        event("authorization", &format!("Bearer {}", token.text()))
    }

    pub(crate) fn event_with_key(&self) -> String {
        event("x-api-key", self.key.text().expose())
    }

    /// The authorizer in this process, over the same bundle; its log lines are made and dropped.
    pub(crate) fn in_process(&self) -> Authorizer {
        let bundle = Bundle::open(&self.bundle).unwrap();
        let policies = Policies::open_shared(bundle.shared_section(Section::Access).unwrap()).unwrap();
        let config = Config::from_env(&MapEnv::default()).unwrap();
        let (records, peppers) = (store::Embedded::in_memory(), secrets::Embedded::default());
        let pepper = Secret::new(PEPPER.as_bytes().to_vec());
        let mut record = seeds::key_record(&self.key, "reader", KeyState::Active, &pepper);
        record.scope = "reviews.read".to_owned();
        record.audiences = vec!["bookinfo".to_owned()];
        self.runtime.block_on(ApiKeys::put(&records, &record)).unwrap();
        peppers.put("pepper", PEPPER);
        let api_keys =
            ApiKeyStore { records: Arc::new(records), secrets: Arc::new(peppers), pepper_id: "pepper".to_owned() };
        let clock = Arc::new(SystemClock);
        let deps = Deps {
            api_keys: Some(api_keys),
            jwks: Arc::new(JwksSource::new(clock.clone())),
            revocations: Default::default(),
            rate_limits: None,
            clock,
            log: Log::to(|_| ()).with_metrics(config.metrics.clone()),
        };
        Authorizer::new(config, policies, deps).unwrap()
    }

    /// Asks for every event, one after the other. All of them must be allowed.
    pub(crate) fn authorize(&self, authorizer: &Authorizer, events: &[String]) {
        self.runtime.block_on(async {
            for event in events {
                let answer = serde_json::to_value(authorizer.authorize(event).await.unwrap()).unwrap();
                assert_eq!(answer["isAuthorized"], true, "{answer}");
            }
        });
    }

    /// As [`authorize`](Self::authorize), without a look at the answers.
    pub(crate) fn authorize_unseen(&self, authorizer: &Authorizer, events: &[String]) {
        self.runtime.block_on(async {
            for event in events {
                std::hint::black_box(authorizer.authorize(event).await.is_ok());
            }
        });
    }
}

fn event(header: &str, value: &str) -> String {
    let mut event: Value = serde_json::from_str(include_str!("../../../examples/events/http-2.0.json")).unwrap();
    event["headers"][header] = value.into();
    event.to_string()
}

fn jwks(ec: &EcdsaKeyPair, rsa: &RsaKeyPair) -> String {
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (point, rsa) = (ec.public_key().as_ref(), rsa.public_key());
    json!({"keys": [
        {"kty": "EC", "kid": "ec", "alg": "ES256", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])},
        {
            "kty": "RSA", "kid": "rsa", "alg": "RS256",
            "n": b64(rsa.modulus().big_endian_without_leading_zero()),
            "e": b64(rsa.exponent().big_endian_without_leading_zero()),
        },
    ]})
    .to_string()
}
