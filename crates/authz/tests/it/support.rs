//! Keys, tokens and policies for the tests. Keys are made anew in every run: nothing secret is stored.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use authz::{
    ApiKey, ApiKeyRecord, CompileOptions, Decision, Given, KeyRecordLookup, KeySets, KeyState, Mode, Policies,
    ProviderAnswer, Request, RevocationList, Revocations, Target, Trace, compile, decide,
};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RSA_PSS_SHA512, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use identity::Secret;
use istio::Resources;

pub(crate) const ISSUER: &str = "https://issuer.bookinfo.example";
pub(crate) const JWKS_URI: &str = "https://issuer.bookinfo.example/jwks.json";
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// All keys of the tests.
pub(crate) struct Keys {
    pub(crate) p256: EcdsaKeyPair,
    /// Another key on P-256, which is not the issuer's.
    pub(crate) other: EcdsaKeyPair,
    pub(crate) p384: EcdsaKeyPair,
    pub(crate) p521: EcdsaKeyPair,
    pub(crate) ed25519: Ed25519KeyPair,
    pub(crate) rsa: RsaKeyPair,
    pub(crate) secret: [u8; 32],
}

pub(crate) fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys {
        p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        other: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        p384: EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
        p521: EcdsaKeyPair::generate(&ECDSA_P521_SHA512_FIXED_SIGNING).unwrap(),
        ed25519: Ed25519KeyPair::generate().unwrap(),
        rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        secret: [42; 32],
    })
}

/// Modulus and exponent of the RSA key, from its PKCS #1 form.
pub(crate) fn rsa_components() -> (Vec<u8>, Vec<u8>) {
    let der = keys().rsa.public_key().as_ref().to_vec();
    let (sequence, _) = der_value(&der);
    let (n, rest) = der_value(sequence);
    let (e, _) = der_value(rest);
    let minimal = |integer: &[u8]| integer.strip_prefix(&[0]).unwrap_or(integer).to_vec();
    (minimal(n), minimal(e))
}

/// The RSA public key as PKCS #1 and as SubjectPublicKeyInfo, both DER.
pub(crate) fn rsa_public_der() -> (Vec<u8>, Vec<u8>) {
    let spki = keys().rsa.public_key().as_der().unwrap().as_ref().to_vec();
    (keys().rsa.public_key().as_ref().to_vec(), spki)
}

fn der_value(der: &[u8]) -> (&[u8], &[u8]) {
    let (length, header) = match der[1] {
        0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
        0x81 => (usize::from(der[2]), 3),
        short => (usize::from(short), 2),
    };
    der[header..].split_at(length)
}

pub(crate) fn ec_jwk(kid: &str, curve: &str, pair: &EcdsaKeyPair) -> String {
    let point = pair.public_key().as_ref();
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    format!(r#"{{"kty":"EC","kid":"{kid}","use":"sig","crv":"{curve}","x":"{}","y":"{}"}}"#, b64(x), b64(y))
}

pub(crate) fn rsa_jwk(kid: &str) -> String {
    let (n, e) = rsa_components();
    format!(r#"{{"kty":"RSA","kid":"{kid}","use":"sig","n":"{}","e":"{}"}}"#, b64(n), b64(e))
}

pub(crate) fn ed25519_jwk(kid: &str) -> String {
    let x = b64(keys().ed25519.public_key());
    format!(r#"{{"kty":"OKP","kid":"{kid}","use":"sig","crv":"Ed25519","x":"{x}"}}"#)
}

pub(crate) fn jwks(keys: &[String]) -> String {
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// The issuer's published keys: one of each kind.
pub(crate) fn issuer_jwks() -> String {
    let keys = keys();
    jwks(&[
        ec_jwk("p256", "P-256", &keys.p256),
        ec_jwk("p384", "P-384", &keys.p384),
        ec_jwk("p521", "P-521", &keys.p521),
        ed25519_jwk("ed25519"),
        rsa_jwk("rsa"),
    ])
}

/// Signs `HEADER.PAYLOAD` with the key that belongs to `algorithm`.
pub(crate) fn signature(algorithm: &str, message: &str) -> Vec<u8> {
    let keys = keys();
    let random = SystemRandom::new();
    let message = message.as_bytes();
    let rsa = |encoding| {
        let mut signature = vec![0; 256];
        keys.rsa.sign(encoding, &random, message, &mut signature).unwrap();
        signature
    };
    match algorithm {
        "ES256" => keys.p256.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES384" => keys.p384.sign(&random, message).unwrap().as_ref().to_vec(),
        "ES512" => keys.p521.sign(&random, message).unwrap().as_ref().to_vec(),
        "EdDSA" => keys.ed25519.sign(message).as_ref().to_vec(),
        "RS256" => rsa(&RSA_PKCS1_SHA256),
        "RS384" => rsa(&RSA_PKCS1_SHA384),
        "RS512" => rsa(&RSA_PKCS1_SHA512),
        "PS256" => rsa(&RSA_PSS_SHA256),
        "PS384" => rsa(&RSA_PSS_SHA384),
        "PS512" => rsa(&RSA_PSS_SHA512),
        "HS256" => hs256(&keys.secret, message),
        _ => panic!("no key for {algorithm}"),
    }
}

pub(crate) fn hs256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
}

/// A token of exactly this header and these claims, signed with the key that belongs to `algorithm`.
pub(crate) fn token_of(algorithm: &str, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", b64(header), b64(claims));
    let signature = b64(signature(algorithm, &message));
    format!("{message}.{signature}")
}

/// An ES256 token with these claims.
pub(crate) fn token(claims: &str) -> String {
    token_of("ES256", r#"{"alg":"ES256","kid":"p256","typ":"at+jwt"}"#, claims)
}

/// The claims of a token of our issuer for `client`, as key-issuer makes them.
pub(crate) fn claims_of(client: &str, scope: &str) -> String {
    format!(
        r#"{{"iss":"{ISSUER}","sub":"client:{client}","aud":"bookinfo","exp":{},"iat":{NOW},"nbf":{},"jti":"1","client_id":"{client}","scope":"{scope}"}}"#,
        NOW + 600,
        NOW - 5
    )
}

pub(crate) fn reader() -> String {
    token(&claims_of("reader", "reviews.read"))
}

/// What the tests ask the gate with.
pub(crate) struct World {
    pub(crate) policies: Policies,
    pub(crate) keys: KeySets,
    pub(crate) lookup: Option<KeyRecordLookup>,
    pub(crate) pepper: Option<Secret<Vec<u8>>>,
    pub(crate) revoked: Option<RevocationList>,
    pub(crate) providers: Option<BTreeMap<String, ProviderAnswer>>,
    pub(crate) now: u64,
}

impl World {
    /// A world with these documents, and with the issuer's keys at [`JWKS_URI`].
    pub(crate) fn new(yaml: &str) -> Self {
        Self::of_files(&[("policies.yaml", yaml)])
    }

    pub(crate) fn of_files(files: &[(&str, &str)]) -> Self {
        let policies = open(files).unwrap_or_else(|errors| panic!("{}", errors.join("\n")));
        let mut keys = KeySets::embedded(&policies).unwrap();
        let jwks = authz::Jwks::parse(&issuer_jwks(), authz::KeyOrigin::Fetched).unwrap();
        keys.insert(JWKS_URI, jwks.into());
        Self { policies, keys, lookup: None, pepper: Some(pepper()), revoked: None, providers: None, now: NOW }
    }

    /// A world with these resources, which no reader has looked at.
    pub(crate) fn of_resources(resources: &Resources, mode: Mode) -> Self {
        let options = CompileOptions { mode, ..CompileOptions::default() };
        let compiled = compile(resources, &options);
        let section = compiled.unwrap_or_else(|errors| panic!("{errors:?}")).section;
        Self { policies: Policies::open(&section).unwrap(), ..Self::new("") }
    }

    pub(crate) fn decide(&self, request: &Request, target: &Target) -> Decision {
        decide(&self.policies, request, target, &self.given())
    }

    pub(crate) fn explain(&self, request: &Request, target: &Target) -> (Decision, Trace) {
        authz::explain(&self.policies, request, target, &self.given())
    }

    pub(crate) fn given(&self) -> Given<'_> {
        Given {
            keys: &self.keys,
            api_key: self.lookup.as_ref(),
            pepper: self.pepper.as_ref(),
            revocations: self.revoked.as_ref().map_or(Revocations::NotKept, Revocations::List),
            providers: self.providers.as_ref(),
            verified: None,
            now: self.now,
        }
    }
}

/// Reads and compiles documents; the errors of either, as they are displayed.
pub(crate) fn open(files: &[(&str, &str)]) -> Result<Policies, Vec<String>> {
    open_with(files, &CompileOptions::default())
}

pub(crate) fn open_with(files: &[(&str, &str)], options: &CompileOptions) -> Result<Policies, Vec<String>> {
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| istio::SourceFile { name: (*name).to_owned(), text: (*text).to_owned() })
        .collect();
    let resources =
        istio::parse(&files).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    let bytes =
        compile(&resources, options).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    Ok(Policies::open(&bytes.section).unwrap())
}

pub(crate) fn options(jwks: &[(&str, &str)]) -> CompileOptions {
    let jwks: BTreeMap<_, _> = jwks.iter().map(|(i, d)| ((*i).to_owned(), (*d).to_owned())).collect();
    CompileOptions { jwks, ..CompileOptions::default() }
}

/// The workload `b` in `ns1` that the tables use.
pub(crate) fn workload() -> Target {
    Target::Workload {
        namespace: "ns1".to_owned(),
        labels: vec![("app".to_owned(), "b".to_owned())],
        environment: Some("dev".to_owned()),
    }
}

pub(crate) fn request(method: &str, path: &str) -> Request {
    Request {
        method: method.to_owned(),
        scheme: "http".to_owned(),
        host: "b.ns1.svc.cluster.local".to_owned(),
        path: path.to_owned(),
        destination_port: Some(8080),
        ..Request::default()
    }
}

pub(crate) fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.push((name.to_owned(), value.to_owned()));
    request
}

pub(crate) fn bearer(request: Request, token: &str) -> Request {
    with_header(request, "authorization", &format!("Bearer {token}"))
}

pub(crate) fn pepper() -> Secret<Vec<u8>> {
    Secret::new(b"a pepper of at least thirty-two bytes".to_vec())
}

/// An API key of the environment `dev` and its record.
pub(crate) fn api_key(client: &str) -> (String, ApiKeyRecord) {
    let key = ApiKey::generate("dev", &[client.len() as u8; 48]).unwrap();
    let record = ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: client.to_owned(),
        environment: "dev".to_owned(),
        hashes: vec![authz::api_key::hex(&key.hash(&pepper()))],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state: KeyState::Active,
        not_before: None,
        expires_at: None,
        ..ApiKeyRecord::default()
    };
    (key.text().expose().clone(), record)
}
