//! Whether a file has changed.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use platform::bundle::MAX_BYTES;

/// Within this time a second change may have left the same time on the file.
const YOUNG: Duration = Duration::from_secs(60);

/// What the file system says of the file behind the path: device, inode, size and the time of the last change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

/// A file that is looked at from time to time.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    print: Option<Print>,
    /// SHA-256 of what was read last, whether it was good or not.
    digest: String,
    /// The last error that was said.
    said: Option<String>,
}

/// What one look has shown.
#[derive(Debug)]
pub(super) enum Look {
    /// Nothing new.
    Same,
    /// Other bytes, and their SHA-256 in hex.
    Changed(Vec<u8>, String),
    /// The file cannot be read. Said once, until something changes.
    Unreadable(String),
}

impl Watched {
    pub(super) fn new(path: PathBuf, in_use: &[u8]) -> Self {
        Self { path, print: None, digest: hex(in_use), said: None }
    }

    pub(super) fn look(&mut self) -> Look {
        let read = self.print().and_then(|print| {
            let is_young = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH + Duration::from_secs(print.changed.0.unsigned_abs()))
                .is_ok_and(|age| age < YOUNG);
            if self.print == Some(print) && !is_young { Ok((print, None)) } else { Ok((print, Some(self.read()?))) }
        });
        match read {
            Err(error) => {
                let why = format!("cannot read {}: {error}", self.path.display());
                // Seen again, it counts as changed.
                self.print = None;
                if self.said.as_ref() == Some(&why) {
                    return Look::Same;
                }
                self.said = Some(why.clone());
                Look::Unreadable(why)
            }
            Ok((print, bytes)) => {
                (self.print, self.said) = (Some(print), None);
                let Some(bytes) = bytes else { return Look::Same };
                let digest = hex(&bytes);
                if digest == self.digest {
                    return Look::Same;
                }
                self.digest.clone_from(&digest);
                Look::Changed(bytes, digest)
            }
        }
    }

    fn print(&self) -> std::io::Result<Print> {
        // Of the file that all links lead to.
        let metadata = std::fs::metadata(&self.path)?;
        Ok(Print {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // One more than a bundle may have: `Bundle` says that it is too large.
        std::fs::File::open(&self.path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

fn hex(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(look: Look) -> Option<Vec<u8>> {
        match look {
            Look::Changed(bytes, digest) => {
                assert_eq!(digest, hex(&bytes));
                Some(bytes)
            }
            Look::Same => None,
            Look::Unreadable(why) => panic!("{why}"),
        }
    }

    #[test]
    fn a_config_map_changes_by_its_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (version, text) in [("..1", "one"), ("..2", "two"), ("..3", "two")] {
            std::fs::create_dir(at(version)).unwrap();
            std::fs::write(at(version).join("mesh.bundle"), text).unwrap();
        }
        // As the kubelet does: `..data` leads to the version, and the path through `..data`.
        let link = |version: &str| {
            std::os::unix::fs::symlink(version, at("..tmp")).unwrap();
            std::fs::rename(at("..tmp"), at("..data")).unwrap();
        };
        link("..1");
        std::os::unix::fs::symlink("..data/mesh.bundle", at("mesh.bundle")).unwrap();
        let mut watched = Watched::new(at("mesh.bundle"), b"one");
        assert_eq!(changed(watched.look()), None, "what is in use already");
        link("..2");
        assert_eq!(changed(watched.look()).as_deref(), Some(&b"two"[..]));
        assert_eq!(changed(watched.look()), None);
        link("..3");
        assert_eq!(changed(watched.look()), None, "the same bytes in another file");
    }

    #[test]
    fn the_same_size_and_time_hide_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        std::fs::write(&path, "one").unwrap();
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut watched = Watched::new(path.clone(), b"one");
        assert_eq!(changed(watched.look()), None);
        std::fs::write(&path, "two").unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(changed(watched.look()).as_deref(), Some(&b"two"[..]));
    }

    #[test]
    fn a_file_that_is_gone_is_said_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        let mut watched = Watched::new(path.clone(), b"one");
        assert!(matches!(watched.look(), Look::Unreadable(why) if why.contains("cannot read")));
        assert!(matches!(watched.look(), Look::Same));
        std::fs::write(&path, "one").unwrap();
        assert_eq!(changed(watched.look()), None, "back, and what is in use");
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(watched.look(), Look::Unreadable(_)), "gone again");
    }
}
