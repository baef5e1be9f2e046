//! Policies, tokens and a stopwatch for the benchmarks.

use std::hint::black_box;
use std::time::{Duration, Instant};

use authz::{CompileOptions, Decision, Given, KeySets, Policies, Request, Target, VerifiedTokens};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const NOW: u64 = 1_800_000_000;

/// Batches of one measurement.
const BATCHES: usize = 51;

/// Seconds that one call of `work` takes: the median of batches, each of about 5 ms.
pub(crate) fn measure<T>(mut work: impl FnMut() -> T) -> f64 {
    let calls = calls_of_a_batch(&mut work);
    median((0..BATCHES).map(|_| batch(calls, &mut work)).collect())
}

/// As [`measure`], two in turns: what else the machine does meets both alike, and the ratio stands.
pub(crate) fn measure_both<T, U>(mut one: impl FnMut() -> T, mut other: impl FnMut() -> U) -> (f64, f64) {
    let (calls, other_calls) = (calls_of_a_batch(&mut one), calls_of_a_batch(&mut other));
    let times = (0..BATCHES).map(|_| (batch(calls, &mut one), batch(other_calls, &mut other)));
    let (one, other) = times.unzip();
    (median(one), median(other))
}

fn calls_of_a_batch<T>(work: &mut impl FnMut() -> T) -> u32 {
    let started = Instant::now();
    let mut calls = 0u32;
    while started.elapsed() < Duration::from_millis(50) {
        black_box(work());
        calls += 1;
    }
    (calls / 10).max(1)
}

fn batch<T>(calls: u32, work: &mut impl FnMut() -> T) -> f64 {
    let started = Instant::now();
    for _ in 0..calls {
        black_box(work());
    }
    started.elapsed().as_secs_f64() / f64::from(calls)
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// A table of text, its columns aligned.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: Vec<String>) -> Self {
        Self { rows: vec![header] }
    }

    pub(crate) fn row(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        println!();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| match column {
                    0 => format!("{cell:<width$}", width = width(0)),
                    _ => format!("{cell:>width$}", width = width(column)),
                })
                .collect();
            println!("{}", cells.join("  "));
        }
    }
}

pub(crate) fn request() -> Request {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "b.example".to_owned(),
        path: "/items".to_owned(),
        headers: vec![
            header("accept", "*/*"),
            header("user-agent", "bench"),
            header("x-request-id", "1f0c2d6e-0000-4000-8000-000000000000"),
        ],
        destination_port: Some(8080),
        ..Request::default()
    }
}

pub(crate) fn workload(app: &str) -> Target {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Target::Workload {
        namespace: "ns1".to_owned(),
        labels: vec![label("app", app), label("version", "v1")],
        environment: None,
    }
}

pub(crate) fn compiled(yaml: &str) -> Vec<u8> {
    let file = istio::SourceFile { name: "bench.yaml".to_owned(), text: yaml.to_owned() };
    let resources = istio::parse(&[file]).unwrap();
    authz::compile(&resources, &CompileOptions::default()).unwrap().section
}

pub(crate) fn policies(yaml: &str) -> Policies {
    Policies::open(&compiled(yaml)).unwrap()
}

pub(crate) fn given(keys: &KeySets) -> Given<'_> {
    Given {
        keys,
        api_key: None,
        pepper: None,
        revocations: authz::Revocations::NotKept,
        providers: None,
        verified: None,
        now: NOW,
    }
}

/// One issuer, one token, one policy that wants it.
pub(crate) struct TokenWorld {
    policies: Policies,
    keys: KeySets,
    request: Request,
    key: ParsedPublicKey,
    message: String,
    signature: Vec<u8>,
}

impl TokenWorld {
    pub(crate) fn new(algorithm: &str) -> Self {
        let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let header = format!(r#"{{"alg":"{algorithm}","kid":"k","typ":"at+jwt"}}"#);
        let claims = format!(
            r#"{{"iss":"https://issuer.example","sub":"client:reader","aud":"bookinfo","exp":{},"iat":{NOW},"client_id":"reader","scope":"reviews.read"}}"#,
            NOW + 600
        );
        let message = format!("{}.{}", b64(header.as_bytes()), b64(claims.as_bytes()));
        let random = SystemRandom::new();
        let (jwk, key, signature) = match algorithm {
            "RS256" => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let public = pair.public_key();
                let jwk = format!(
                    r#"{{"kty":"RSA","kid":"k","n":"{}","e":"{}"}}"#,
                    b64(public.modulus().big_endian_without_leading_zero()),
                    b64(public.exponent().big_endian_without_leading_zero())
                );
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message.as_bytes(), &mut signature).unwrap();
                (jwk, ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public.as_ref()).unwrap(), signature)
            }
            _ => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                let point = pair.public_key().as_ref().to_vec();
                let jwk = format!(
                    r#"{{"kty":"EC","kid":"k","crv":"P-256","x":"{}","y":"{}"}}"#,
                    b64(&point[1..33]),
                    b64(&point[33..])
                );
                let signature = pair.sign(&random, message.as_bytes()).unwrap().as_ref().to_vec();
                (jwk, ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &point).unwrap(), signature)
            }
        };
        let policies = policies(&format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: jwt, namespace: ns1}}\n\
             spec: {{jwtRules: [{{issuer: 'https://issuer.example', audiences: [bookinfo], jwks: '{{\"keys\":[{jwk}]}}'}}]}}\n\
             ---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: p, namespace: ns1}}\n\
             spec:\n  rules:\n  - from: [{{source: {{requestPrincipals: ['https://issuer.example/*']}}}}]\n    \
             to: [{{operation: {{methods: [GET], paths: [/items]}}}}]\n    \
             when: [{{key: 'request.auth.claims[scope]', values: [reviews.read]}}]\n"
        ));
        let keys = KeySets::embedded(&policies).unwrap();
        let mut request = request();
        request.headers.push(("authorization".to_owned(), format!("Bearer {message}.{}", b64(&signature))));
        Self { policies, keys, request, key, message, signature }
    }

    pub(crate) fn decide(&self) -> Decision {
        authz::decide(&self.policies, &self.request, &workload("b"), &given(&self.keys))
    }

    /// The same decision by a front that has seen the token before.
    pub(crate) fn decide_with(&self, verified: &VerifiedTokens) -> Decision {
        let given = Given { verified: Some(verified), ..given(&self.keys) };
        authz::decide(&self.policies, &self.request, &workload("b"), &given)
    }

    /// The same signature, verified by the library alone.
    pub(crate) fn verify_alone(&self) {
        self.key.verify_sig(self.message.as_bytes(), &self.signature).unwrap();
    }
}
