//! Changes of headers.

use http::HeaderMap;

use crate::table::HeaderChanges;

/// A [`HeaderChanges`] that is ready to use.
#[derive(Clone, Debug, Default)]
pub struct Changes;

impl Changes {
    /// Prepares it.
    ///
    /// # Errors
    /// When a name or a value is not one of HTTP.
    pub fn new(_from: &HeaderChanges) -> Result<Changes, String> {
        Ok(Changes)
    }

    /// Applies it. `Host`, pseudo headers and what frames the message are left alone.
    pub fn apply(&self, _headers: &mut HeaderMap) {}

    /// True when it does nothing.
    pub fn is_empty(&self) -> bool {
        true
    }
}
