//! The tokens of a request, and what is known of them.

use std::sync::Arc;

use super::MAX_TOKENS;
use crate::claims::Claims;
use crate::compiled::Mode;
use crate::jwt::{Contents, Expectation, TokenRefusal, UnverifiedToken};
use crate::reason::Reason;
use crate::verified::{TokenId, VerifiedToken, VerifiedTokens};

/// A token of the right form. Its text is a credential: this type is never printed.
pub(super) struct Token<'t> {
    text: &'t str,
    mode: Mode,
    form: Form<'t>,
    /// Where to look for what is known of its signature, and by which name.
    cache: Option<(&'t VerifiedTokens, TokenId)>,
}

enum Form<'t> {
    /// Read just now: nothing is known of it.
    New(UnverifiedToken<'t>),
    /// Verified before, by some key set.
    Known(Arc<VerifiedToken>),
}

impl<'t> Token<'t> {
    /// Reads a token, unless `verified` knows it.
    pub(super) fn read(text: &'t str, mode: Mode, verified: Option<&'t VerifiedTokens>) -> Result<Self, TokenRefusal> {
        let cache = verified.and_then(|verified| Some((verified, verified.name(text, mode)?)));
        if let Some(known) = cache.as_ref().and_then(|(verified, id)| verified.find(id)) {
            return Ok(Self { text, mode, form: Form::Known(known), cache });
        }
        let token = UnverifiedToken::parse(text, mode)?;
        Ok(Self { text, mode, form: Form::New(token), cache })
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// What the token says. Nothing of it is proven.
    pub(super) fn contents(&self) -> &Contents {
        match &self.form {
            Form::New(token) => token.contents(),
            Form::Known(known) => known.contents(),
        }
    }

    /// Verifies the token as [`UnverifiedToken::verify`] does. All that is taken from the cache is that this key set has
    /// found the signature good: every other check is made again, before it as ever.
    pub(super) fn verify(self, expected: &Expectation<'_>, now: u64) -> Result<Claims, TokenRefusal> {
        let keys = match self.contents().check(expected, now) {
            Ok(keys) => keys,
            Err(refused) => {
                if let (Some((verified, id)), Reason::TokenExpired) = (&self.cache, refused.reason) {
                    verified.forget(id);
                }
                return Err(refused);
            }
        };
        let token = match self.form {
            Form::Known(known) if known.is_signed_for(keys.fingerprint()) => {
                if let Some((verified, _)) = &self.cache {
                    verified.count_hit();
                }
                return known.contents().to_claims();
            }
            // Verified by other keys than these: that says nothing.
            Form::Known(_) => UnverifiedToken::parse(self.text, self.mode)?,
            Form::New(token) => token,
        };
        let Some((verified, id)) = self.cache else { return token.verify_signature(keys)?.to_claims() };
        verified.count_miss();
        let contents = token.verify_signature(keys)?;
        let claims = contents.to_claims()?;
        verified.remember(id, contents, keys.fingerprint());
        Ok(claims)
    }
}

/// The tokens of a request, each read once, however many rules find it: what a stranger's token costs must not grow with
/// the number of rules.
pub(super) struct Read<'f> {
    mode: Mode,
    verified: Option<&'f VerifiedTokens>,
    /// Text and, unless a rule took it, what was read.
    tokens: Vec<(&'f str, Option<Result<Token<'f>, TokenRefusal>>)>,
}

impl<'f> Read<'f> {
    pub(super) fn new(mode: Mode, verified: Option<&'f VerifiedTokens>) -> Self {
        Self { mode, verified, tokens: Vec::new() }
    }

    fn place(&self, text: &str) -> Option<usize> {
        // Rules that find it at one place see the very same bytes.
        self.tokens.iter().position(|(known, _)| std::ptr::eq(*known, text) || *known == text)
    }

    /// Takes note of a token; `false` when there are more than [`MAX_TOKENS`] different ones.
    pub(super) fn admits(&mut self, text: &'f str) -> bool {
        if self.place(text).is_none() {
            self.tokens.push((text, None));
        }
        self.tokens.len() <= MAX_TOKENS
    }

    /// What the token says, if it can be read.
    pub(super) fn peek(&mut self, text: &'f str) -> Option<&Contents> {
        let (mode, verified) = (self.mode, self.verified);
        let at = self.place(text)?;
        let (_, slot) = self.tokens.get_mut(at)?;
        slot.get_or_insert_with(|| Token::read(text, mode, verified)).as_ref().ok().map(Token::contents)
    }

    /// The token, if it can be read and says that it is from `issuer` (empty is any). Whoever gets it keeps it: if
    /// another rule wants it all the same, it is read anew.
    pub(super) fn take_if_from<'t>(&mut self, text: &'t str, issuer: &str) -> Result<Token<'t>, TokenRefusal>
    where
        'f: 't,
    {
        let (mode, verified) = (self.mode, self.verified);
        let Some((known, slot)) = self.place(text).and_then(|at| self.tokens.get_mut(at)) else {
            return Token::read(text, mode, verified);
        };
        let known: &'f str = known;
        match slot.get_or_insert_with(|| Token::read(known, mode, verified)) {
            Ok(token) => token.contents().check_issuer(issuer)?,
            Err(refusal) => return Err(refusal.clone()),
        }
        slot.take().unwrap_or_else(|| Token::read(text, mode, verified))
    }
}
