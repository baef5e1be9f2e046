//! Repeated header lines, as Envoy holds them.

use std::borrow::Cow;

/// The request headers that Envoy 1.40 keeps in one line: a repeated line is appended to it (`header_map_impl.cc`,
/// `appendToHeader`), long before any filter looks. Lines of all other names stay apart, those of `cookie` too. Seen by
/// sending two lines of each; those that Envoy removes on the way, which cannot be seen, are those of `header_map.h`.
/// Sorted.
const ONE_LINE: [&str; 59] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "access-control-request-private-network",
    "authorization",
    "cache-control",
    "cdn-loop",
    "connection",
    "content-encoding",
    "content-type",
    "expect",
    "grpc-accept-encoding",
    "grpc-timeout",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "origin",
    "pragma",
    "proxy-connection",
    "proxy-status",
    "referer",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-client-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-external-address",
    "x-envoy-force-trace",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-is-timeout-retry",
    "x-envoy-max-retries",
    "x-envoy-original-host",
    "x-envoy-original-path",
    "x-envoy-retriable-header-names",
    "x-envoy-retriable-status-codes",
    "x-envoy-retry-grpc-on",
    "x-envoy-retry-on",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-rq-timeout-ms",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-request-id",
];

/// `lines` with the repeated lines of [`ONE_LINE`] joined with `,` at the place of the first one. Empty lines add
/// nothing, not even a comma.
pub(crate) fn joined(lines: &[(String, String)]) -> Cow<'_, [(String, String)]> {
    let is_repeated = |(at, (name, _)): (usize, &(String, String))| {
        ONE_LINE.binary_search(&name.as_str()).is_ok()
            && lines.get(..at).is_some_and(|before| before.iter().any(|(other, _)| other == name))
    };
    if !lines.iter().enumerate().any(is_repeated) {
        return Cow::Borrowed(lines);
    }
    let mut held: Vec<(String, String)> = Vec::with_capacity(lines.len());
    for (name, value) in lines {
        let one_line = ONE_LINE.binary_search(&name.as_str()).is_ok();
        match held.iter_mut().find(|(known, _)| one_line && known == name) {
            Some((_, line)) => {
                if !line.is_empty() && !value.is_empty() {
                    line.push(',');
                }
                line.push_str(value);
            }
            None => held.push((name.clone(), value.clone())),
        }
    }
    Cow::Owned(held)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn as_envoy_was_seen_to_join() {
        assert!(ONE_LINE.is_sorted());
        let cases: [(&str, &[&str], &[&str]); 9] = [
            ("authorization", &["a", "b"], &["a,b"]),
            ("authorization", &["", "x"], &["x"]),
            ("authorization", &["x", ""], &["x"]),
            ("user-agent", &["", "", "x"], &["x"]),
            ("origin", &["", ""], &[""]),
            ("x-forwarded-for", &["a,b", "c"], &["a,b,c"]),
            ("x-q", &["", "x"], &["", "x"]),
            ("cookie", &["a=1", "b=2"], &["a=1", "b=2"]),
            ("accept-language", &["a", "b"], &["a", "b"]),
        ];
        for (name, sent, held) in cases {
            let mut lines: Vec<_> = sent.iter().map(|value| (name.to_owned(), (*value).to_owned())).collect();
            lines.insert(1, ("x-between".to_owned(), "m".to_owned()));
            let found: Vec<_> = joined(&lines).iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect();
            assert_eq!(found, held, "{name} {sent:?}");
        }
    }
}
