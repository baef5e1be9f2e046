//! A set of requests that differ in their paths alone, and how one test of a policy comes out on it.
//!
//! A rule is a formula of tests without a `not` above them, so it is enough that each test is made in the way that allows
//! less: an ALLOW rule must match every request of the set, and a DENY or CUSTOM rule may match none.

use crate::compiled::ArchivedUriMatch;
use crate::matchers::{ArchivedPathPattern, ArchivedPattern};

/// Requests like another one, with every path that begins with `start`, except those that begin with one of `except`.
///
/// Each path in it can be read in one way only: see [`is_plain`]. What a cached answer lets through beside them is denied
/// by [`UNREADABLE`](super::UNREADABLE), or reads as one of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area<'a> {
    /// Ends with a slash.
    pub(crate) start: &'a str,
    /// Each begins with `start` and is longer.
    pub(crate) except: &'a [String],
}

/// What a test has to come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach {
    /// It must come out for every request.
    Every,
    /// It is enough that it may come out for one.
    Some,
}

impl Area<'_> {
    /// `paths` and `notPaths`.
    pub(crate) fn path(&self, pattern: &ArchivedPathPattern, reach: Reach) -> bool {
        match (pattern, reach) {
            // Everything but a line feed, which no path has.
            (ArchivedPathPattern::Text(ArchivedPattern::Any), _) => true,
            (ArchivedPathPattern::Text(ArchivedPattern::Prefix(prefix)), _) => self.begins_with(prefix, reach),
            (ArchivedPathPattern::Text(ArchivedPattern::Exact(exact)), Reach::Some) => self.has(exact),
            (ArchivedPathPattern::Text(ArchivedPattern::Suffix(_)), Reach::Some) => true,
            (ArchivedPathPattern::Text(_), Reach::Every) => false,
            (ArchivedPathPattern::Template(template), Reach::Every) => template.matches_all_below(self.start),
            (ArchivedPathPattern::Template(template), Reach::Some) => {
                let template = template.to_string();
                self.begins_with(template.split('{').next().unwrap_or_default(), Reach::Some)
            }
        }
    }

    /// A match of a `VirtualService`.
    pub(crate) fn uri(&self, uri: &ArchivedUriMatch, reach: Reach) -> bool {
        match uri {
            ArchivedUriMatch::Any => true,
            ArchivedUriMatch::Exact(exact) => reach == Reach::Some && self.has(exact),
            ArchivedUriMatch::Prefix(prefix) => self.begins_with(prefix, reach),
        }
    }

    /// Whether a path of it may be this text or begin with it: what the index knows of a rule.
    pub(crate) fn may_meet(&self, text: &[u8]) -> bool {
        text.starts_with(self.start.as_bytes()) || self.start.as_bytes().starts_with(text)
    }

    /// Whether every path, or some path, begins with `prefix`.
    fn begins_with(&self, prefix: &str, reach: Reach) -> bool {
        self.start.starts_with(prefix) || (reach == Reach::Some && self.has(prefix))
    }

    /// Whether `path` is in it, or as a prefix, whether anything that begins with it is.
    fn has(&self, path: &str) -> bool {
        path.starts_with(self.start) && !self.except.iter().any(|except| path.starts_with(except.as_str()))
    }
}

/// Whether everybody reads `path` alike, an IAM policy names it and nothing else by it, and a path template takes every
/// character of it.
pub(crate) fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("//")
        && !path.contains("/.")
        && path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~!&'()+,:@=".contains(&byte))
}
