//! How strings are compared.

/// A [`crate::table::StringMatch`] that is ready to use.
#[derive(Clone, Debug)]
pub struct Matcher;

impl Matcher {
    /// Prepares it; regular expressions are compiled here.
    ///
    /// # Errors
    /// When it is no regular expression, or one that would need too much memory.
    pub fn new(_from: &crate::table::StringMatch, _ignore_case: bool) -> Result<Matcher, String> {
        Ok(Matcher)
    }

    /// Whether the whole `text` matches.
    pub fn matches(&self, _text: &str) -> bool {
        false
    }
}
