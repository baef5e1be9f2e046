//! Comparison of URIs as RFC 3986 §6.2 has it. The `url` crate follows the WHATWG, whose parser also repairs: it takes
//! back slashes and leaves tabs out, and would find more URIs equal than there are.

/// The normal form of an absolute http or https URI without its query and fragment; `None` when it is none.
///
/// RFC 9449 §4.3, check 9: "ignoring any query and fragment parts [...] To reduce the likelihood of false negatives,
/// servers SHOULD employ syntax-based normalization (Section 6.2.2 of RFC 3986) and scheme-based normalization (Section
/// 6.2.3 of RFC 3986)".
pub(super) fn normal(uri: &str) -> Option<String> {
    if !uri.bytes().all(is_allowed) {
        return None;
    }
    let uri = uri.split(['?', '#']).next()?;
    let (scheme, rest) = uri.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let default_port = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // RFC 9110 §4.2.4: user information is deprecated, and hides which host is meant.
    if authority.is_empty() || authority.contains(['@', '%']) {
        return None;
    }
    let authority = authority.to_ascii_lowercase();
    let authority = authority.strip_suffix(default_port).or(authority.strip_suffix(':')).unwrap_or(&authority);
    Some(format!("{scheme}://{authority}{}", without_dots(&percent_normal(path)?)))
}

/// RFC 3986 appendix A: reserved and unreserved characters and `%`.
fn is_allowed(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&byte)
}

/// §6.2.2.1 and §6.2.2.2: upper-case digits, and no encoding of what needs none.
fn percent_normal(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            normal.push(character);
            continue;
        }
        let digits = (characters.next()?.to_digit(16)?, characters.next()?.to_digit(16)?);
        let byte = u8::try_from(digits.0 * 16 + digits.1).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(normal)
}

/// §6.2.2.3, with the result of §5.2.4 for absolute paths; §6.2.3: an empty path is `/`.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut is_folder = true;
    for segment in path.strip_prefix('/').unwrap_or(path).split('/') {
        is_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let end = if is_folder && !kept.is_empty() { "/" } else { "" };
    format!("/{}{end}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_uris() {
        for (uri, expected) in [
            ("https://a.example/b", "https://a.example/b"),
            ("HTTPS://A.Example/b", "https://a.example/b"),
            ("https://a.example:443/b", "https://a.example/b"),
            ("https://a.example:/b", "https://a.example/b"),
            ("https://a.example:8443/b", "https://a.example:8443/b"),
            ("https://a.example:80/b", "https://a.example:80/b"),
            ("http://a.example:80/b", "http://a.example/b"),
            ("https://a.example", "https://a.example/"),
            ("https://a.example/b?c=d#e", "https://a.example/b"),
            ("https://a.example?c", "https://a.example/"),
            ("https://a.example/%62%2f%7e", "https://a.example/b%2F~"),
            ("https://a.example/x/../b", "https://a.example/b"),
            ("https://a.example/./b/.", "https://a.example/b/"),
            ("https://a.example/x/%2e%2e/b", "https://a.example/b"),
            ("https://a.example/../../b", "https://a.example/b"),
            ("https://a.example/b/", "https://a.example/b/"),
            ("https://a.example//b", "https://a.example//b"),
            ("https://a.example/B", "https://a.example/B"),
            ("https://[2001:DB8::1]:443/b", "https://[2001:db8::1]/b"),
        ] {
            assert_eq!(normal(uri).as_deref(), Some(expected), "{uri}");
        }
    }

    #[test]
    fn what_is_no_uri_of_a_resource() {
        for uri in [
            "",
            "/b",
            "a.example/b",
            "https:/a.example/b",
            "https:a.example",
            "https://",
            "https:///b",
            "ftp://a.example/b",
            "https://a.example\\b",
            "https://a.example/\tb",
            "https://a.example/ b",
            "https://a.example/é",
            "https://u@a.example/b",
            "https://a%2eexample/b",
            "https://a.example/%",
            "https://a.example/%zz",
            "https://a.example/%+f",
        ] {
            assert_eq!(normal(uri), None, "{uri}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

        #[test]
        fn a_normal_form_is_its_own(path in "(/|[a-c.]|%2e|%2F|%41|[.]{2}/){0,12}", noise in "\\PC{0,30}") {
            let _ = normal(&noise);
            if let Some(once) = normal(&format!("https://A.example:443/{path}")) {
                prop_assert_eq!(normal(&once), Some(once.clone()), "{}", path);
            }
        }
    }
}
