//! The files by which the application learns to trust our authority. None of them holds a secret.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::truststore;
use crate::random::Draws;

/// Where systems keep the roots that their programs trust, as one file of PEM: Amazon Linux and Fedora, Debian, SUSE,
/// Alpine.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The longest such file that is read, in bytes.
const MAX_ROOTS_BYTES: u64 = 4 * 1024 * 1024;

/// Everybody may read it, and only we may write it.
const MODE: u32 = 0o644;

/// The files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Our authority alone, for clients that add to what they trust.
    pub(super) ca: PathBuf,
    /// The system's roots and ours, for clients that replace what they trust.
    bundle: PathBuf,
    /// The same for Java.
    truststore: PathBuf,
}

impl Files {
    pub(super) fn new(ca: PathBuf) -> Files {
        let beside = |end: &str| {
            let mut name = ca.file_stem().unwrap_or_default().to_owned();
            name.push(end);
            ca.with_file_name(name)
        };
        Files { bundle: beside("-bundle.pem"), truststore: beside(".p12"), ca }
    }

    /// Writes them. Says where the system's roots were found: without any there is no bundle and no store, since a
    /// client that trusted them would trust nobody else.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(super) fn write(&self, certificate: &CertificateDer<'_>, pem: &str) -> Result<Option<&'static str>, String> {
        self.write_with(certificate, pem, system_roots())
    }

    fn write_with(
        &self,
        certificate: &CertificateDer<'_>,
        pem: &str,
        roots: Option<Roots>,
    ) -> Result<Option<&'static str>, String> {
        replace(&self.ca, pem.as_bytes())?;
        let Some(Roots { path, text, certificates }) = roots else {
            // Those of a start before this one hold an authority that is gone.
            remove(&self.bundle)?;
            remove(&self.truststore)?;
            return Ok(None);
        };
        replace(&self.bundle, &[&text, &b"\n"[..], pem.as_bytes()].concat())?;
        let trusted: Vec<_> = certificates.into_iter().chain([certificate.clone()]).collect();
        replace(&self.truststore, &truststore::of(&trusted))?;
        Ok(Some(path))
    }
}

/// What the system trusts.
struct Roots {
    path: &'static str,
    text: Vec<u8>,
    certificates: Vec<CertificateDer<'static>>,
}

fn system_roots() -> Option<Roots> {
    SYSTEM_ROOTS.into_iter().find_map(roots_at)
}

fn roots_at(path: &'static str) -> Option<Roots> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_ROOTS_BYTES + 1).read_to_end(&mut text).ok()?;
    if text.len() as u64 > MAX_ROOTS_BYTES {
        return None;
    }
    // A file that is damaged somewhere is not the system's, or no longer.
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(Roots { path, text, certificates })
}

/// Puts a file in the place of another one, or none, so that nobody ever reads half of it. A link that somebody has put
/// there is replaced and not followed.
fn replace(path: &Path, content: &[u8]) -> Result<(), String> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}", Draws::new().next()));
    let new = path.with_file_name(name);
    let written = write_new(&new, content).and_then(|()| fs::rename(&new, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&new);
        format!(
            "cannot write {}: {error}; set CAUSEWAY_CA_FILE to a path in a folder where this process may write",
            path.display()
        )
    })
}

fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(content)
}

fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}, which is of an earlier start: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn certificate() -> (CertificateDer<'static>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        (made.der().clone(), made.pem())
    }

    fn roots() -> Roots {
        let (der, pem) = certificate();
        Roots { path: "/roots", text: pem.into_bytes(), certificates: vec![der] }
    }

    #[test]
    fn the_files_hold_certificates_alone_and_everybody_may_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().join("ca.pem"));
        let (der, pem) = certificate();
        assert_eq!(files.write_with(&der, &pem, Some(roots())), Ok(Some("/roots")));
        let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["ca-bundle.pem", "ca.p12", "ca.pem"]);
        for name in names {
            let mode = fs::metadata(folder.path().join(&name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, MODE, "{name:?}");
        }
        assert_eq!(fs::read_to_string(&files.ca).unwrap(), pem);
        let bundle = fs::read_to_string(&files.bundle).unwrap();
        assert!(bundle.ends_with(&pem) && !bundle.contains("PRIVATE"), "{bundle}");
        assert_eq!(CertificateDer::pem_slice_iter(bundle.as_bytes()).count(), 2);
    }

    #[test]
    fn without_roots_there_is_no_bundle_not_even_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path().join("ca.pem"));
        let (der, pem) = certificate();
        assert!(files.write_with(&der, &pem, Some(roots())).is_ok());
        let (der, pem) = certificate();
        assert_eq!(files.write_with(&der, &pem, None), Ok(None));
        assert_eq!(fs::read_to_string(&files.ca).unwrap(), pem);
        assert!(!files.bundle.exists() && !files.truststore.exists());
        assert!(roots_at("/not/there").is_none() && roots_at("/proc/version").is_none());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, place) = (folder.path().join("victim"), folder.path().join("ca.pem"));
        fs::write(&victim, "mine").unwrap();
        symlink(&victim, &place).unwrap();
        let (der, pem) = certificate();
        assert!(Files::new(place.clone()).write_with(&der, &pem, None).is_ok());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
        assert!(fs::symlink_metadata(&place).unwrap().is_file());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (der, pem) = certificate();
        let nowhere = Files::new(folder.path().join("no/ca.pem"));
        let said = nowhere.write_with(&der, &pem, None).unwrap_err();
        assert!(said.contains("no/ca.pem") && said.contains("CAUSEWAY_CA_FILE"), "{said}");
        // A folder is in the way.
        let taken = folder.path().join("ca.pem");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("x"), "").unwrap();
        assert!(Files::new(taken).write_with(&der, &pem, None).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
