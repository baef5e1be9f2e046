//! How strings are compared.

use regex_lite::Regex;

use crate::re2;
use crate::table::StringMatch;

/// A [`StringMatch`] that is ready to use.
#[derive(Clone, Debug)]
pub struct Matcher(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Exact(String),
    ExactIgnoringCase(String),
    Prefix(String),
    PrefixIgnoringCase(String),
    Regex(Regex),
    Present,
}

impl Matcher {
    /// Prepares it; regular expressions are compiled here. Without case concerns `exact` and `prefix`, and ASCII alone;
    /// Envoy: "case_sensitive … ignored for safe_regex matching".
    ///
    /// # Errors
    /// When it is no regular expression of RE2, one that uses what is not supported, or one that would need too much
    /// memory.
    pub fn new(from: &StringMatch, ignore_case: bool) -> Result<Matcher, String> {
        Ok(Matcher(match from {
            StringMatch::Exact(text) if ignore_case => Kind::ExactIgnoringCase(text.clone()),
            StringMatch::Exact(text) => Kind::Exact(text.clone()),
            StringMatch::Prefix(text) if ignore_case => Kind::PrefixIgnoringCase(text.clone()),
            StringMatch::Prefix(text) => Kind::Prefix(text.clone()),
            StringMatch::Regex(pattern) => Kind::Regex(re2::full(pattern)?),
            StringMatch::Present => Kind::Present,
        }))
    }

    /// Whether the whole `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.matches_bytes(text.as_bytes())
    }

    /// Whether the whole of `bytes` matches: the value of a header need not be UTF-8.
    pub fn matches_bytes(&self, bytes: &[u8]) -> bool {
        match &self.0 {
            Kind::Exact(text) => bytes == text.as_bytes(),
            Kind::ExactIgnoringCase(text) => bytes.eq_ignore_ascii_case(text.as_bytes()),
            Kind::Prefix(text) => bytes.starts_with(text.as_bytes()),
            Kind::PrefixIgnoringCase(text) => {
                bytes.get(..text.len()).is_some_and(|start| start.eq_ignore_ascii_case(text.as_bytes()))
            }
            Kind::Regex(regex) => regex.is_match(&re2::as_chars(bytes)),
            Kind::Present => true,
        }
    }

    /// True when the value does not matter.
    pub(crate) fn is_present(&self) -> bool {
        matches!(self.0, Kind::Present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matcher(from: StringMatch, ignore_case: bool) -> Matcher {
        Matcher::new(&from, ignore_case).unwrap()
    }

    #[test]
    fn compares_exactly_by_prefix_and_by_pattern() {
        let exact = |text: &str| StringMatch::Exact(text.to_owned());
        let prefix = |text: &str| StringMatch::Prefix(text.to_owned());
        let regex = |text: &str| StringMatch::Regex(text.to_owned());
        for (from, ignore_case, text, expected) in [
            (exact("/foo"), false, "/foo", true),
            (exact("/foo"), false, "/FOO", false),
            (exact("/foo"), true, "/FOO", true),
            (exact("/foo"), true, "/FOO/", false),
            (exact(""), false, "", true),
            (exact(""), false, "a", false),
            (prefix("/foo"), false, "/foo", true),
            // Istio: `/a` matches `/abc`; it is a prefix of the text, not of its segments.
            (prefix("/foo"), false, "/foobar", true),
            (prefix("/foo"), false, "/fo", false),
            (prefix("/foo"), false, "/FOO/bar", false),
            (prefix("/foo"), true, "/FOO/bar", true),
            (prefix("/foo"), true, "/fo", false),
            // Without case means the letters of ASCII: absl::StartsWithIgnoreCase.
            (prefix("/é"), true, "/É", false),
            // The end of the prefix is in the middle of a character.
            (prefix("/a"), true, "/é", false),
            (prefix(""), false, "", true),
            (regex("/foo"), false, "/foo", true),
            (regex("/foo"), false, "/foo/", false),
            (regex("foo"), false, "/foo", false),
            (regex("/foo|/foobar"), false, "/foobar", true),
            (regex("/foo"), true, "/FOO", false),
            (StringMatch::Present, false, "", true),
        ] {
            assert_eq!(matcher(from.clone(), ignore_case).matches(text), expected, "{from:?} {ignore_case} {text}");
        }
    }

    #[test]
    fn compares_bytes_that_are_not_utf8() {
        let opaque = b"a\xff";
        assert!(matcher(StringMatch::Prefix("a".to_owned()), false).matches_bytes(opaque));
        assert!(matcher(StringMatch::Present, false).matches_bytes(opaque));
        assert!(!matcher(StringMatch::Exact("a".to_owned()), false).matches_bytes(opaque));
        assert!(matcher(StringMatch::Regex("a.".to_owned()), false).matches_bytes(opaque));
        assert!(matcher(StringMatch::Regex("a\\xff".to_owned()), false).matches_bytes(opaque));
        assert!(!matcher(StringMatch::Regex("a\\w".to_owned()), false).matches_bytes(opaque));
    }

    proptest::proptest! {
        #[test]
        fn text_and_bytes_agree(pattern in "[a-c/]{0,3}", text in "[a-cA-C/]{0,6}", ignore_case: bool) {
            for from in [
                StringMatch::Exact(pattern.clone()),
                StringMatch::Prefix(pattern.clone()),
                StringMatch::Regex(format!("{pattern}.*")),
            ] {
                let matcher = matcher(from.clone(), ignore_case);
                proptest::prop_assert_eq!(matcher.matches(&text), matcher.matches_bytes(text.as_bytes()));
                // What begins with it, matches a pattern that says so.
                if let StringMatch::Regex(_) = from {
                    proptest::prop_assert_eq!(matcher.matches(&text), text.starts_with(&pattern));
                }
            }
        }
    }
}
