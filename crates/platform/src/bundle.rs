//! The bundle: one versioned, checksummed file with everything that the Lambda programs need to know.
//!
//! `causeway bundle` writes it, and validates all of it first; the programs only open it. What is in a section is its
//! owner's business (`authz` the access policies, `extension` the egress routes); this module is the envelope:
//!
//! ```text
//! offset  bytes  what
//!      0      8  magic "CAUSEWAY"
//!      8      4  format version, little endian, as all numbers
//!     12      4  number of sections
//!     16      4  CRC-32 of everything else
//!     20     12  zero
//!     32     16  a table entry per section: id (4), reserved 0 (4), offset (4), length (4)
//!      …         the sections, each at a multiple of 16, so that they can be used in place
//! ```

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub use authz::SharedBytes;

/// The format that this build writes, and the only one that it reads.
pub const FORMAT_VERSION: u32 = 2;

/// The largest bundle, in bytes.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Where a configuration layer puts the bundle.
pub const DEFAULT_PATH: &str = "/opt/causeway/mesh.bundle";

/// What every bundle starts with.
pub const MAGIC: &[u8; 8] = b"CAUSEWAY";
const CHECKSUM_AT: usize = 16;
/// The checksum finds damage, not intent: who can write the file can write the checksum. CRC-32 finds every changed byte,
/// and takes 0.03 ms for half a megabyte at each start of a function where SHA-256 took 0.3 ms, and more without the
/// processor's help.
const CHECKSUM: usize = 4;
const TABLE_AT: usize = CHECKSUM_AT + ALIGN;
const ENTRY: usize = 16;
const ALIGN: usize = 16;
const MAX_SECTIONS: usize = 16;
/// What follows the checksum.
const BEHIND: usize = CHECKSUM_AT + CHECKSUM;
const OUTSIDE: BundleError = BundleError::Malformed("a section lies outside the file");

/// The parts of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Compiled access policies, owned by `authz`.
    Access,
    /// Compiled egress routes, owned by `extension`.
    Egress,
    /// The APIs of the deployment templates, owned by `authz::api`; only there when the bundle was made with templates.
    Api,
    /// When the bundle was made: 8 bytes, seconds since 1970. Only there when the bundle embeds published key sets.
    Made,
    /// A signed revocation list as its issuer published it, read by `revocations`; only there when one was given.
    Revocations,
}

impl Section {
    fn id(self) -> u32 {
        match self {
            Self::Access => 1,
            Self::Egress => 2,
            Self::Api => 3,
            Self::Made => 4,
            Self::Revocations => 5,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Egress => "egress",
            Self::Api => "api",
            Self::Made => "made",
            Self::Revocations => "revocations",
        }
    }
}

/// Why a bundle cannot be used. Each one stops the start.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error(
        "cannot read the bundle {path}: {source}; make it with `causeway bundle`, or set CAUSEWAY_BUNDLE to where it is"
    )]
    Read {
        /// The file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is no bundle.
    #[error("the bundle is not one that `causeway bundle` wrote: {0}")]
    Malformed(&'static str),
    /// The file is too large.
    #[error("the bundle has {found} bytes, more than the limit of {MAX_BYTES}")]
    TooLarge {
        /// Its size in bytes.
        found: usize,
    },
    /// The bundle was written by another release.
    #[error(
        "the bundle has format version {found}, this program reads {FORMAT_VERSION}; write it again with the `causeway` of the same release"
    )]
    Version {
        /// The version found.
        found: u32,
    },
    /// The contents are not what was written.
    #[error("the checksum of the bundle is wrong: the file was changed or cut off after it was written")]
    Checksum,
    /// The section that this program needs is not there.
    #[error("the bundle has no {0} section; write it again with `causeway bundle`")]
    NoSection(&'static str),
}

/// Writes a bundle of `sections`.
pub fn write(sections: &[(Section, &[u8])]) -> Result<Vec<u8>, BundleError> {
    let too_large = |found| BundleError::TooLarge { found };
    let mut offset = (TABLE_AT + ENTRY * sections.len()).next_multiple_of(ALIGN);
    let mut table = vec![0; TABLE_AT - CHECKSUM_AT - CHECKSUM];
    let mut body = vec![0; offset - TABLE_AT - ENTRY * sections.len()];
    for (section, bytes) in sections {
        for number in [
            section.id(),
            0,
            u32::try_from(offset).map_err(|_| too_large(offset))?,
            u32::try_from(bytes.len()).map_err(|_| too_large(bytes.len()))?,
        ] {
            table.extend_from_slice(&number.to_le_bytes());
        }
        let padded = bytes.len().next_multiple_of(ALIGN);
        body.extend_from_slice(bytes);
        body.resize(body.len() + padded - bytes.len(), 0);
        offset += padded;
    }
    if offset > MAX_BYTES {
        return Err(too_large(offset));
    }
    table.extend_from_slice(&body);
    let mut file = Vec::with_capacity(offset);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    file.extend_from_slice(&u32::try_from(sections.len()).unwrap_or(u32::MAX).to_le_bytes());
    let checksum = checksum(&file, &table);
    file.extend_from_slice(&checksum);
    file.extend_from_slice(&table);
    Ok(file)
}

fn checksum(before: &[u8], behind: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = crc32fast::Hasher::new();
    hash.update(before);
    hash.update(behind);
    hash.finalize().to_le_bytes()
}

/// An opened bundle: its envelope has been checked, its sections not yet.
#[derive(Debug)]
pub struct Bundle {
    file: Arc<Vec<u8>>,
}

/// A section where it lies in its file.
struct InFile {
    file: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl AsRef<[u8]> for InFile {
    fn as_ref(&self) -> &[u8] {
        self.file.get(self.range.clone()).unwrap_or_default()
    }
}

impl Bundle {
    /// Reads and checks the file at `path`.
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        use std::io::Read;
        let read = |source| BundleError::Read { path: path.display().to_string(), source };
        let file = std::fs::File::open(path).map_err(read)?;
        let size = usize::try_from(file.metadata().map_err(read)?.len()).unwrap_or(usize::MAX);
        if size > MAX_BYTES {
            return Err(BundleError::TooLarge { found: size });
        }
        let mut bytes = Vec::with_capacity(size + 1);
        // The file may have grown since its size was read.
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(read)?;
        Self::from_bytes(bytes)
    }

    /// Checks a bundle that is already in memory.
    pub fn from_bytes(file: Vec<u8>) -> Result<Self, BundleError> {
        if file.len() > MAX_BYTES {
            return Err(BundleError::TooLarge { found: file.len() });
        }
        if !file.starts_with(MAGIC) {
            return Err(BundleError::Malformed("it does not start with CAUSEWAY"));
        }
        let cut = BundleError::Malformed("it ends inside its head");
        let version = u32_at(&file, 8).ok_or(cut)?;
        if version != FORMAT_VERSION {
            return Err(BundleError::Version { found: version });
        }
        let (Some(before), Some(written), Some(behind)) =
            (file.get(..CHECKSUM_AT), file.get(CHECKSUM_AT..BEHIND), file.get(BEHIND..))
        else {
            return Err(BundleError::Malformed("it ends inside its head"));
        };
        if checksum(before, behind) != written {
            return Err(BundleError::Checksum);
        }
        let sections = u32_at(&file, 12).map_or(usize::MAX, |count| count as usize);
        if sections > MAX_SECTIONS || file.len() < TABLE_AT + ENTRY * sections {
            return Err(BundleError::Malformed("its table of sections is cut off"));
        }
        Ok(Self { file: Arc::new(file) })
    }

    /// The whole file.
    pub fn bytes(&self) -> &[u8] {
        &self.file
    }

    /// When the bundle was made, in seconds since 1970, if it says so: how old the key sets in it are.
    pub fn made_at(&self) -> Option<u64> {
        let section = self.section(Section::Made).ok()?;
        section.try_into().map(u64::from_le_bytes).ok()
    }

    /// The bytes of a section, starting at a multiple of 16 within the file.
    pub fn section(&self, section: Section) -> Result<&[u8], BundleError> {
        let range = self.range(section)?;
        self.file.get(range).ok_or(OUTSIDE)
    }

    /// As [`section`](Self::section), for an owner that outlives the bundle. Nothing is copied.
    pub fn shared_section(&self, section: Section) -> Result<SharedBytes, BundleError> {
        self.section(section)?;
        Ok(Arc::new(InFile { file: self.file.clone(), range: self.range(section)? }))
    }

    fn range(&self, section: Section) -> Result<Range<usize>, BundleError> {
        let count = u32_at(&self.file, 12).unwrap_or(0) as usize;
        for entry in 0..count.min(MAX_SECTIONS) {
            let at = TABLE_AT + ENTRY * entry;
            let (Some(id), Some(offset), Some(length)) =
                (u32_at(&self.file, at), u32_at(&self.file, at + 8), u32_at(&self.file, at + 12))
            else {
                break;
            };
            if id == section.id() {
                let start = offset as usize;
                return Ok(start..start.saturating_add(length as usize));
            }
        }
        Err(BundleError::NoSection(section.name()))
    }

    /// As [`section`](Self::section), for one that need not be there.
    pub fn optional_section(&self, section: Section) -> Result<Option<&[u8]>, BundleError> {
        optional(self.section(section))
    }

    /// As [`shared_section`](Self::shared_section), for one that need not be there.
    pub fn optional_shared_section(&self, section: Section) -> Result<Option<SharedBytes>, BundleError> {
        optional(self.shared_section(section))
    }
}

fn optional<T>(section: Result<T, BundleError>) -> Result<Option<T>, BundleError> {
    match section {
        Ok(bytes) => Ok(Some(bytes)),
        Err(BundleError::NoSection(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(word.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sample() -> Vec<u8> {
        write(&[(Section::Access, b"access policies"), (Section::Egress, b"")]).unwrap()
    }

    #[test]
    fn sections_come_back_as_written() {
        let bundle = Bundle::from_bytes(sample()).unwrap();
        assert_eq!(bundle.section(Section::Access).unwrap(), b"access policies");
        assert_eq!(bundle.section(Section::Egress).unwrap(), b"");
        assert_eq!(bundle.optional_section(Section::Egress).unwrap(), Some(b"".as_slice()));
        assert_eq!(bundle.optional_section(Section::Revocations).unwrap(), None);
        let shared = bundle.shared_section(Section::Access).unwrap();
        assert!(bundle.optional_shared_section(Section::Revocations).unwrap().is_none());
        drop(bundle);
        assert_eq!(shared.as_ref().as_ref(), b"access policies");
        let only_access = Bundle::from_bytes(write(&[(Section::Access, b"x")]).unwrap()).unwrap();
        let error = only_access.section(Section::Egress).unwrap_err().to_string();
        assert_eq!(error, "the bundle has no egress section; write it again with `causeway bundle`");
    }

    #[test]
    fn a_bundle_has_a_largest_size() {
        let overhead = write(&[(Section::Access, b"")]).unwrap().len();
        let whole = write(&[(Section::Access, &vec![0; MAX_BYTES - overhead])]).unwrap();
        assert_eq!(whole.len(), MAX_BYTES);
        let mut longer = whole.clone();
        assert!(Bundle::from_bytes(whole).is_ok());
        longer.push(0);
        assert!(matches!(Bundle::from_bytes(longer), Err(BundleError::TooLarge { found }) if found == MAX_BYTES + 1));
        // Sections end on a border of 16 bytes.
        let one_more = vec![0; MAX_BYTES - overhead + 1];
        let refused = write(&[(Section::Access, &one_more)]);
        assert!(matches!(refused, Err(BundleError::TooLarge { found }) if found == MAX_BYTES + 16));
    }

    #[test]
    fn sections_lie_on_16_byte_borders() {
        let file = sample();
        for entry in 0..2 {
            assert_eq!(u32_at(&file, TABLE_AT + ENTRY * entry + 8).unwrap() % 16, 0);
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let good = sample();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let opened = Bundle::from_bytes(bad).and_then(|b| {
                b.section(Section::Access)?;
                b.section(Section::Egress).map(<[u8]>::to_vec)
            });
            assert!(opened.is_err(), "a bundle with byte {at} changed was accepted");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = sample();
        for length in 0..good.len() {
            assert!(Bundle::from_bytes(good[..length].to_vec()).is_err(), "a bundle of {length} bytes was accepted");
        }
    }

    #[test]
    fn another_version_and_a_missing_file_say_what_to_do() {
        let mut other = sample();
        other[8] = 9;
        let error = Bundle::from_bytes(other).unwrap_err().to_string();
        assert!(error.contains("format version 9") && error.contains("write it again"), "{error}");
        let error = Bundle::open(Path::new("/nonexistent/mesh.bundle")).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/mesh.bundle") && error.contains("CAUSEWAY_BUNDLE"), "{error}");
    }
}
