//! `--revocations`: a list as its issuer signed it, or ids one a line.

use std::collections::BTreeSet;
use std::path::Path;

use authz::revocation::{MAX_IDS, MAX_LIST_BYTES, key_source};
use authz::{KeySets, Policies, RevocationList, UnverifiedRevocationList};

use crate::configuration;

/// The longest plain file, in bytes.
const MAX_PLAIN_BYTES: usize = 256 * 1024 * 1024;

/// Reads a list of either form, to ask about requests with.
///
/// # Errors
/// One line: the file cannot be read, has too much in it, or is a signed list that cannot be verified.
pub(crate) fn read(path: &Path, policies: &Policies, keys: &KeySets, now: u64) -> Result<RevocationList, String> {
    let text = configuration::read_text(path, MAX_PLAIN_BYTES).map_err(|error| format!("--revocations: {error}"))?;
    let refused = |why: String| format!("--revocations: {}: {why}", path.display());
    if text.len() > MAX_PLAIN_BYTES {
        return Err(refused(format!("more than {MAX_PLAIN_BYTES} bytes")));
    }
    if is_signed(&text) {
        return match check(&text, policies, keys, now).map_err(refused)? {
            Checked::Verified(list) => Ok(list),
            Checked::Unverified { issuer } => Err(refused(format!(
                "it is signed, and there are no keys of its issuer {issuer} to verify it with; give them with --jwks, \
                 or fetch them with --fetch"
            ))),
        };
    }
    let mut ids = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if !line.is_empty() && !line.starts_with('#') {
            ids.insert(line.to_owned());
        }
        if ids.len() > MAX_IDS {
            return Err(refused(format!("more than {MAX_IDS} ids")));
        }
    }
    Ok(RevocationList::of_ids(ids))
}

/// Reads a signed list, to put it into a bundle as it is; the second part is a warning.
///
/// # Errors
/// One line: the file cannot be read, is no signed list, or one that the programs would refuse.
pub(crate) fn read_signed(path: &Path, policies: &Policies, now: u64) -> Result<(String, Option<String>), String> {
    let text = configuration::read_text(path, MAX_LIST_BYTES + 1).map_err(|error| format!("--revocations: {error}"))?;
    let refused = |why: String| format!("--revocations: {}: {why}", path.display());
    let keys = KeySets::embedded(policies).map_err(|error| refused(error.to_string()))?;
    let warning = match check(&text, policies, &keys, now).map_err(refused)? {
        Checked::Verified(_) => None,
        Checked::Unverified { issuer } => Some(format!(
            "--revocations: {}: not verified, since the bundle has no keys of its issuer {issuer}; the programs fetch \
             them and verify it then",
            path.display()
        )),
    };
    Ok((text.trim_ascii().to_owned(), warning))
}

/// A compact JWS is one line of three parts, the first of which begins with `{"`.
fn is_signed(text: &str) -> bool {
    let text = text.trim_ascii();
    text.starts_with("eyJ") && text.bytes().filter(|byte| *byte == b'.').count() == 2 && !text.contains(['\n', ' '])
}

enum Checked {
    Verified(RevocationList),
    /// There are no keys of this issuer at hand.
    Unverified {
        issuer: String,
    },
}

fn check(text: &str, policies: &Policies, keys: &KeySets, now: u64) -> Result<Checked, String> {
    let list = UnverifiedRevocationList::parse(text.trim_ascii()).map_err(|error| error.to_string())?;
    let issuer = list.unverified_issuer().to_owned();
    let source = key_source(policies, &issuer).map_err(|error| error.to_string())?;
    let Some(keys) = keys.of_source(&source) else { return Ok(Checked::Unverified { issuer }) };
    list.verify(&issuer, &[keys], now).map(Checked::Verified).map_err(|error| error.to_string())
}
