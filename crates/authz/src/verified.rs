//! Tokens that have been verified before.

/// A bounded cache of verified tokens.
#[derive(Debug, Default)]
pub struct VerifiedTokens {}
