//! Path templates: values of `paths` with `{*}` or `{**}`.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// A path template: segments, of which `{*}` takes one that is not empty and `{**}` any number.
///
/// Envoy makes a regular expression of it, in which `{*}` is `[L]+` and `{**}` is `[L/]*`. `L` are the characters of
/// RFC 3986's `pchar`, with `%` for itself, and `*`.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PathTemplate {
    /// The segments in front of `{**}`, or all of them.
    head: Vec<Segment>,
    /// What stands behind `{**}`, literal and with its slash; absent without a `{**}`.
    tail: Option<String>,
}

/// One segment of a template.
#[derive(Archive, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Segment {
    /// `{*}`.
    One,
    /// Text that must be equal; empty behind the last slash.
    Literal(String),
}

/// The value is no path template that Istio and Envoy accept.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidTemplate {
    /// Istio accepts it and Envoy refuses the configuration that Istio makes of it.
    #[error("it must begin with one slash")]
    Start,
    /// As [`Start`](Self::Start).
    #[error("it must not end with several slashes")]
    End,
    /// More than one `{**}`, or a `{*}` behind it.
    #[error("`{{**}}` must be the last operator")]
    AfterGlob,
    /// A brace, or an operator that is not a whole segment.
    #[error("`{{*}}` and `{{**}}` must be whole segments, and there are no other braces")]
    Brace,
    /// Istio's `IsValidLiteral`.
    #[error("a segment is empty, or has a character that may not stand in a path")]
    Literal,
}

impl PathTemplate {
    /// Reads a template, with the checks of Istio's `CheckValidPathTemplate`.
    ///
    /// # Errors
    /// [`InvalidTemplate`] when Istio or Envoy would refuse it.
    pub fn parse(value: &str) -> Result<Self, InvalidTemplate> {
        let inner = value.trim_matches('/');
        let mut head = Vec::new();
        let mut tail: Option<String> = None;
        for segment in inner.split('/') {
            match (segment, &mut tail) {
                ("{*}" | "{**}", Some(_)) => return Err(InvalidTemplate::AfterGlob),
                ("{*}", None) => head.push(Segment::One),
                ("{**}", None) => tail = Some(String::new()),
                (literal, _) if literal.contains(['{', '}']) => return Err(InvalidTemplate::Brace),
                (literal, _) if literal.is_empty() || !literal.bytes().all(is_literal) => {
                    return Err(InvalidTemplate::Literal);
                }
                (literal, Some(tail)) => {
                    tail.push('/');
                    tail.push_str(literal);
                }
                (literal, None) => head.push(Segment::Literal(literal.to_owned())),
            }
        }
        match value.strip_prefix('/') {
            Some(rest) if !rest.starts_with('/') => {}
            _ => return Err(InvalidTemplate::Start),
        }
        if value.ends_with("//") {
            return Err(InvalidTemplate::End);
        }
        if value.ends_with('/') {
            match &mut tail {
                Some(tail) => tail.push('/'),
                None => head.push(Segment::Literal(String::new())),
            }
        }
        Ok(Self { head, tail })
    }

    /// What every path that matches begins with.
    pub fn literal_start(&self) -> String {
        let mut start = "/".to_owned();
        let mut segments = self.head.iter().peekable();
        while let Some(Segment::Literal(literal)) = segments.next() {
            start.push_str(literal);
            if segments.peek().is_some() || self.tail.is_some() {
                start.push('/');
            }
        }
        start
    }
}

impl ArchivedPathTemplate {
    /// Whether `path`, without query and fragment, matches as a whole.
    pub fn matches(&self, path: &str) -> bool {
        let mut rest = path;
        for segment in self.head.iter() {
            let Some(after) = rest.strip_prefix('/') else { return false };
            let end = after.find('/').unwrap_or(after.len());
            let (own, behind) = after.split_at(end);
            let matched = match segment {
                ArchivedSegment::One => !own.is_empty() && own.bytes().all(is_path),
                ArchivedSegment::Literal(literal) => own == literal.as_str(),
            };
            if !matched {
                return false;
            }
            rest = behind;
        }
        match self.tail.as_ref() {
            None => rest.is_empty(),
            Some(tail) => {
                let middle = rest.strip_prefix('/').and_then(|rest| rest.strip_suffix(tail.as_str()));
                middle.is_some_and(|middle| middle.bytes().all(|byte| byte == b'/' || is_path(byte)))
            }
        }
    }
}

impl ArchivedPathTemplate {
    /// Whether every path matches that begins with `start`, which ends with a slash, and goes on in characters that may
    /// stand in a path.
    pub(crate) fn matches_all_below(&self, start: &str) -> bool {
        // Behind the slash at the end no segment in front of `{**}` is left: it is `{**}` that takes the rest.
        start.ends_with('/') && self.tail.as_ref().is_some_and(|tail| tail.is_empty()) && self.matches(start)
    }
}

impl fmt::Display for ArchivedPathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in self.head.iter() {
            match segment {
                ArchivedSegment::One => f.write_str("/{*}")?,
                ArchivedSegment::Literal(literal) => write!(f, "/{literal}")?,
            }
        }
        match self.tail.as_ref() {
            Some(tail) => write!(f, "/{{**}}{tail}"),
            None => Ok(()),
        }
    }
}

/// Istio's `^[a-zA-Z0-9-._~%!$&'()+,;:@=]+$`.
fn is_literal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

/// "`*` and `=` in a request path match `{*}` and `{**}`."
fn is_path(byte: u8) -> bool {
    byte == b'*' || is_literal(byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::matchers::tests::archived;

    #[test]
    fn b6_templates() {
        let cases = [
            ("/foo/{*}", "/foo/bar", true),
            ("/foo/{*}", "/foo/", false),
            ("/foo/{*}", "/foo", false),
            ("/foo/{*}", "/foo/bar/", false),
            ("/foo/{*}", "/foo/a/b", false),
            ("/foo/{*}", "/foox/bar", false),
            ("/{*}", "/", false),
            ("/{*}", "/a", true),
            ("/{*}", "//", false),
            ("/{*}", "", false),
            ("/{*}/foo/", "/a/foo/", true),
            ("/{*}/foo/", "/a/foo", false),
            ("/{**}", "/", true),
            ("/{**}", "/a/b//c", true),
            ("/{**}", "", false),
            ("/{**}/", "/", false),
            ("/{**}/", "//", true),
            ("/foo/{**}/", "/foo//", true),
            ("/foo/{**}/", "/foo/bar/", true),
            ("/foo/{**}/", "/foo/bar", false),
            ("/allow/admin/{**}", "/allow/admin/", true),
            ("/allow/admin/{**}", "/allow/admin", false),
            ("/store/{**}/cart", "/store//cart", true),
            ("/store/{**}/cart", "/store/cart", false),
            ("/store/{**}/cart", "/store/a/b/cart", true),
            ("/store/{**}/cart", "/store/a/cart/", false),
            ("/store/{**}/cart", "/store/a/cart/cart", true),
            ("/{*}/{*}/x/{**}/y/z/", "/a/b/x/c/d/y/z/", true),
            ("/{*}/{*}/x/{**}/y/z/", "/a/b/x/y/z/", false),
            ("/{*}/{*}/x/{**}/y/z/", "/a/b/x//y/z/", true),
            // b11.2
            ("/a/{*}", "/a/*", true),
            ("/a/{*}", "/a/x=1", true),
            ("/a/{**}", "/a/*/=", true),
            ("/a/{*}", "/a/;,:@!$&'()+%20~._-", true),
            // Not in L.
            ("/a/{*}", "/a/b c", false),
            ("/a/{**}", "/a/b\"", false),
            ("/a/{**}", "/a/é", false),
            ("/a/{**}", "/a/b\n", false),
            ("/a/{**}", "/a/<b>", false),
            ("/a/{**}", "/a/[b]", false),
            ("/a/{**}", "/a/b\\c", false),
            ("/a.b/{*}", "/axb/c", false),
            ("/A/{*}", "/a/c", false),
        ];
        for (template, path, expected) in cases {
            archived(&PathTemplate::parse(template).unwrap(), |parsed| {
                assert_eq!(parsed.matches(path), expected, "{template} {path:?}");
                assert_eq!(parsed.to_string(), template);
            });
        }
    }

    #[test]
    fn b6_templates_that_are_refused() {
        use InvalidTemplate::{AfterGlob, Brace, End, Literal, Start};
        let cases = [
            ("/foo/{buzz}/bar", Brace),
            ("/foo/{buzz}/bar/{**}", Brace),
            ("/foo/{buzz=*}/bar/{**}", Brace),
            ("/{*}/foo/{buzz=**}/bar", Brace),
            ("/{*}/foo/{**}bar", Brace),
            ("/{*}/foo/{*}.txt", Brace),
            ("/{*}/foo/temp}/*", Brace),
            ("/{**}/foo/temp/{*}/bar", AfterGlob),
            ("/{**}/foo/temp/{**}/bar", AfterGlob),
            ("/{*}/*", Literal),
            ("/{*}/a*", Literal),
            ("/{*}//a", Literal),
            ("/{*}/a b", Literal),
            ("/{*}/é", Literal),
            ("{*}", Start),
            ("a/{*}", Start),
            ("//a/{*}", Start),
            ("/a/{*}//", End),
        ];
        for (template, expected) in cases {
            assert_eq!(PathTemplate::parse(template), Err(expected), "{template}");
        }
    }

    #[test]
    fn a_template_begins_with_its_literal_segments() {
        let cases = [("/{*}", "/"), ("/{**}", "/"), ("/a/b/{*}", "/a/b/"), ("/a/{**}/b", "/a/"), ("/a/{*}/b/", "/a/")];
        for (template, start) in cases {
            assert_eq!(PathTemplate::parse(template).unwrap().literal_start(), start, "{template}");
        }
    }
}
