#![no_main]
//! No text becomes a revocation list without a signature, whatever its payload.

use authz::{Jwks, KeyOrigin, UnverifiedRevocationList};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;

/// The P-256 key of RFC 7515, appendix A.3.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

fuzz_target!(|bytes: &[u8]| {
    let keys = Jwks::parse(KEYS, KeyOrigin::Fetched).unwrap();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let header = part(br#"{"alg":"ES256","typ":"revocations+jwt"}"#);
    let signed = format!("{header}.{}.{}", part(bytes), part(&[1; 64]));
    for text in [signed.as_str(), &String::from_utf8_lossy(bytes)] {
        if let Ok(list) = UnverifiedRevocationList::parse(text) {
            let issuer = list.unverified_issuer().to_owned();
            assert!(list.verify(&issuer, &[&keys], 0).is_err());
        }
    }
});
