//! What the environment says about `https://` calls of the application.

use std::path::PathBuf;

use platform::env::{EnvError, Reader};

/// Where the wrapper script looks for the certificate of our authority when nothing else is configured.
pub const DEFAULT_CA_FILE: &str = "/tmp/causeway-ca.pem";

/// The longest path of it, in bytes.
const MAX_PATH: usize = 256;

/// What becomes of TLS in a tunnel to a service of HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Https {
    /// It is refused (`https_unsupported`).
    #[default]
    Refuse,
    /// It ends here, under a certificate authority of this process alone; the requests in it go on as others do.
    Intercept {
        /// Where the authority's certificate is written, for the application to trust. Beside it, with `-bundle.pem`
        /// and `.p12` in place of `.pem`: the system's roots and it, as PEM and as a trust store of Java.
        ca_file: PathBuf,
    },
}

impl Https {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Https, EnvError> {
        let intercept = reader.checked("CAUSEWAY_HTTPS", |word| match word {
            "refuse" => Ok(false),
            "intercept" => Ok(true),
            _ => Err("expected refuse or intercept".to_owned()),
        });
        let ca_file = reader.checked("CAUSEWAY_CA_FILE", path);
        let (intercept, ca_file) = (intercept?.unwrap_or_default(), ca_file?);
        Ok(match intercept {
            true => Https::Intercept { ca_file: ca_file.unwrap_or_else(|| DEFAULT_CA_FILE.into()) },
            false => Https::Refuse,
        })
    }
}

/// The wrapper script makes other names and a list of Java's options of it, where a blank would end it.
fn path(text: &str) -> Result<PathBuf, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    let name = text.rsplit('/').next().unwrap_or_default();
    match text.starts_with('/') && text.len() <= MAX_PATH && text.bytes().all(plain) && name.len() > ".pem".len() {
        true if name.ends_with(".pem") => Ok(text.into()),
        _ => Err("expected an absolute path that ends in .pem, of letters, digits, /, ., _ and -".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use platform::env::MapEnv;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Https, String> {
        let env = variables.iter().fold(MapEnv::default(), |env, (name, value)| env.with(name, *value));
        Https::read(&Reader::new(&env)).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_refused_unless_it_is_asked_for() {
        assert_eq!(read(&[]), Ok(Https::Refuse));
        assert_eq!(read(&[("CAUSEWAY_HTTPS", "refuse"), ("CAUSEWAY_CA_FILE", "/a.pem")]), Ok(Https::Refuse));
        let intercept = |path: &str| Ok(Https::Intercept { ca_file: path.into() });
        assert_eq!(read(&[("CAUSEWAY_HTTPS", "intercept")]), intercept(DEFAULT_CA_FILE));
        let elsewhere = [("CAUSEWAY_HTTPS", "intercept"), ("CAUSEWAY_CA_FILE", "/run/causeway/ca.pem")];
        assert_eq!(read(&elsewhere), intercept("/run/causeway/ca.pem"));
    }

    #[test]
    fn wrong_values_are_named() {
        for word in ["on", "true", "Intercept", "intercept "] {
            assert!(read(&[("CAUSEWAY_HTTPS", word)]).unwrap_err().contains("CAUSEWAY_HTTPS"), "{word}");
        }
        let long = format!("/{}.pem", "a".repeat(MAX_PATH));
        for path in
            ["ca.pem", "./ca.pem", "/tmp/ca", "/tmp/.pem", "/tmp/a b.pem", "/tmp/\"a.pem", "/tmp/a:b.pem", &long]
        {
            let said = read(&[("CAUSEWAY_HTTPS", "intercept"), ("CAUSEWAY_CA_FILE", path)]).unwrap_err();
            assert!(said.contains("CAUSEWAY_CA_FILE") && said.contains("absolute"), "{path}: {said}");
        }
    }
}
