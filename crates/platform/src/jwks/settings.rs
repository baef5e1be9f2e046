//! What an operator can say about fetching key sets.

use std::path::Path;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::WAIT;
use crate::env::{EnvError, Reader};
use crate::https::Reach;

/// The largest file of root certificates, in bytes.
const MAX_ROOTS_BYTES: u64 = 256 * 1024;

/// How key sets are fetched.
#[derive(Clone, Debug)]
pub struct JwksSettings {
    /// What may be dialled.
    pub reach: Reach,
    /// Root certificates to trust beside Mozilla's.
    pub roots: Vec<CertificateDer<'static>>,
    /// How long a request waits for a fetch that it cannot do without.
    pub wait: Duration,
}

impl Default for JwksSettings {
    fn default() -> Self {
        Self { reach: Reach::Public, roots: Vec::new(), wait: WAIT }
    }
}

impl JwksSettings {
    /// The defaults, but issuers on this host and in private networks are fetched from: for development and tests.
    pub fn private() -> Self {
        Self { reach: Reach::Private, ..Self::default() }
    }

    /// Reads `CAUSEWAY_ALLOW_PRIVATE_ISSUERS` and `CAUSEWAY_ISSUER_ROOTS`, and the file that the latter names.
    ///
    /// # Errors
    /// A value is not one that is expected, or the file holds no root certificates.
    pub fn from_env(env: &Reader<'_>) -> Result<Self, EnvError> {
        let reach = env.checked("CAUSEWAY_ALLOW_PRIVATE_ISSUERS", |word| match word {
            "true" => Ok(Reach::Private),
            "false" => Ok(Reach::Public),
            _ => Err("expected true or false".to_owned()),
        })?;
        let roots = env.checked("CAUSEWAY_ISSUER_ROOTS", |path| roots(Path::new(path)))?;
        Ok(Self { reach: reach.unwrap_or_default(), roots: roots.unwrap_or_default(), wait: WAIT })
    }
}

fn roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    use std::io::Read;
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_ROOTS_BYTES + 1).read_to_end(&mut text))
        .map_err(|error| format!("cannot read the file: {error}"))?;
    if text.len() as u64 > MAX_ROOTS_BYTES {
        return Err(format!("expected a file of at most {MAX_ROOTS_BYTES} bytes"));
    }
    let roots: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("expected certificates in PEM form: {error}"))?;
    if roots.is_empty() {
        return Err("expected a file with at least one certificate in PEM form".to_owned());
    }
    let mut store = rustls::RootCertStore::empty();
    for (index, root) in roots.iter().enumerate() {
        store.add(root.clone()).map_err(|error| format!("certificate {}: {error}", index + 1))?;
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::MapEnv;

    fn settings(env: &[(&str, &str)]) -> Result<JwksSettings, String> {
        let env = env.iter().fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
        JwksSettings::from_env(&Reader::new(&env)).map_err(|error| error.to_string())
    }

    #[test]
    fn private_issuers_are_off_by_default() {
        assert_eq!(settings(&[]).unwrap().reach, Reach::Public);
        assert_eq!(settings(&[("CAUSEWAY_ALLOW_PRIVATE_ISSUERS", "false")]).unwrap().reach, Reach::Public);
        assert_eq!(settings(&[("CAUSEWAY_ALLOW_PRIVATE_ISSUERS", "true")]).unwrap().reach, Reach::Private);
        let error = settings(&[("CAUSEWAY_ALLOW_PRIVATE_ISSUERS", "1")]).unwrap_err();
        assert!(error.contains("expected true or false"), "{error}");
    }

    #[test]
    fn roots_are_read_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = |text: &[u8]| {
            let path = folder.path().join("roots.pem");
            std::fs::write(&path, text).unwrap();
            settings(&[("CAUSEWAY_ISSUER_ROOTS", path.to_str().unwrap())]).map(|settings| settings.roots.len())
        };
        let root = rcgen::generate_simple_self_signed(["issuer.example".to_owned()]).unwrap().cert.pem();
        assert_eq!(file(root.as_bytes()), Ok(1));
        assert_eq!(file(format!("{root}{root}").as_bytes()), Ok(2));
        for (text, expected) in [
            (&b""[..], "at least one certificate"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "certificate 1"),
            (&vec![b' '; 256 * 1024 + 1], "at most 262144 bytes"),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = settings(&[("CAUSEWAY_ISSUER_ROOTS", "/nowhere/roots.pem")]).unwrap_err();
        assert!(error.contains("cannot read the file"), "{error}");
    }
}
