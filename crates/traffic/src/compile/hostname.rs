//! Hosts, which `*.` may lead: Istio's `host.Name`.

/// The full, lower-case form of a host that a resource in `namespace` names.
pub(super) fn full(host: &str, namespace: &str) -> String {
    istio::full_host(host, namespace).to_ascii_lowercase()
}

/// The text after `*`, of a wildcard.
pub(super) fn wildcard(host: &str) -> Option<&str> {
    host.strip_prefix('*')
}

/// Whether `host` is covered by `other`: Istio's `SubsetOf`.
pub(super) fn is_covered(host: &str, other: &str) -> bool {
    match (wildcard(host), wildcard(other)) {
        (Some(suffix), Some(of)) => suffix.ends_with(of),
        (Some(_), None) => false,
        (None, Some(of)) => host.ends_with(of),
        (None, None) => host == other,
    }
}

/// Whether one of two hosts covers the other: Istio's `Matches`.
pub(super) fn overlap(one: &str, other: &str) -> bool {
    is_covered(one, other) || is_covered(other, one)
}

/// The suffixes that a wildcard may have to cover `host`, the longest first: `a.b` has `a.b`, `.b` and the empty one.
/// For a wildcard its own suffix is the first.
pub(super) fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let text = wildcard(host).unwrap_or(host);
    let dots = text.char_indices().filter(|(at, c)| *c == '.' && *at > 0).map(|(at, _)| &text[at..]);
    std::iter::once(text).chain(dots).chain((!text.is_empty()).then_some(""))
}

/// Whether it is a host that a client can name: labels of letters, digits, `-` and `_`, of which `*` may be the first,
/// or an address.
pub(super) fn check(host: &str) -> Result<(), String> {
    let rest = match wildcard(host) {
        Some("") => return Ok(()),
        Some(rest) => rest.strip_prefix('.').unwrap_or("*"),
        None => host,
    };
    if is_dns_name(rest) || host.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    Err(format!("found the host {host:?}, expected a name such as reviews.example.com or *.example.com"))
}

/// Whether `name` is a name of DNS, in which `_` may stand.
pub(super) fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label) && name.parse::<std::net::IpAddr>().is_err()
}
