//! The text of refresh tokens: `cwr_`, the family's public id, a secret of 256 bits, and a checksum, all in hex. The prefix
//! lets scanners find leaked ones, and the checksum lets everybody refuse a mistyped one without asking the store.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use identity::secret::Secret;

use super::hex;

const PREFIX: &str = "cwr_";
const FAMILY: usize = 16;
const SECRET: usize = 32;
/// The first bytes of the SHA-256 of what comes before them.
const CHECKSUM: usize = 4;

/// A refresh token of the right form. Nothing is known of it yet. No `Debug`: it is a credential.
pub(crate) struct RefreshToken {
    text: Secret<String>,
    family: String,
}

impl RefreshToken {
    /// The first token of a new family.
    pub(super) fn generate(family: &[u8; FAMILY], secret: &[u8; SECRET]) -> Self {
        Self::next(&hex(family), secret)
    }

    /// The next token of a family.
    pub(super) fn next(family: &str, secret: &[u8; SECRET]) -> Self {
        let covered = format!("{PREFIX}{family}{}", hex(secret));
        let text = Secret::new(format!("{covered}{}", checksum(&covered)));
        Self { text, family: family.to_owned() }
    }

    /// Reads a presented token; `None` for what cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_hex = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_hex || digits.len() != 2 * (FAMILY + SECRET + CHECKSUM) {
            return None;
        }
        let (covered, sum) = text.split_at_checked(text.len() - 2 * CHECKSUM)?;
        let family = digits.get(..2 * FAMILY)?.to_owned();
        (checksum(covered) == sum).then(|| Self { text: Secret::new(text.to_owned()), family })
    }

    /// The public id of its family.
    pub(crate) fn family(&self) -> &str {
        &self.family
    }

    /// What the store keeps instead of the token. A secret of 256 random bits needs no slow hash and no pepper.
    pub(super) fn hash(&self) -> String {
        hex(digest(&SHA256, self.text.expose().as_bytes()).as_ref())
    }

    /// Whether its hash is this one, in constant time.
    pub(super) fn has_hash(&self, hash: &str) -> bool {
        verify_slices_are_equal(self.hash().as_bytes(), hash.as_bytes()).is_ok()
    }

    /// To be handed over, and never stored.
    pub(super) fn text(&self) -> Secret<String> {
        Secret::new(self.text.expose().clone())
    }
}

fn checksum(covered: &str) -> String {
    let hash = digest(&SHA256, covered.as_bytes());
    hex(hash.as_ref().get(..CHECKSUM).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_made_token_reads_back() {
        let token = RefreshToken::generate(&[1; 16], &[2; 32]);
        let text = token.text().expose().clone();
        assert_eq!(text.len(), 4 + 2 * (16 + 32 + 4));
        let read = RefreshToken::parse(&text).unwrap();
        assert_eq!((read.family(), read.hash()), (token.family(), token.hash()));
        assert!(read.has_hash(&token.hash()) && !read.has_hash("") && !read.has_hash(&"0".repeat(64)));
        assert!(!token.hash().contains(&text[36..]));
        for bad in [
            String::new(),
            "cwr_".to_owned(),
            text.replace("cwr_", "cwk_"),
            text.to_uppercase(),
            text[..text.len() - 2].to_owned(),
            format!("{text}00"),
            format!(" {text}"),
        ] {
            assert!(RefreshToken::parse(&bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

        #[test]
        fn one_changed_digit_is_noticed(secret in any::<[u8; 32]>(), at in 4..108_usize, to in 0..16_u32) {
            let good = RefreshToken::generate(&[7; 16], &secret).text().expose().clone();
            let mut changed = good.clone();
            changed.replace_range(at..=at, &char::from_digit(to, 16).unwrap().to_string());
            prop_assert_eq!(RefreshToken::parse(&changed).is_some(), changed == good);
        }

        #[test]
        fn reading_never_panics(text in "(cwr_)?\\PC{0,120}") {
            let _ = RefreshToken::parse(&text);
        }
    }
}
