//! The options of curl that are known.

/// Options that are followed by a value and change nothing that a policy could see.
pub(super) const IGNORED_WITH_VALUE: [&str; 19] = [
    "--cacert",
    "--capath",
    "--cert",
    "--cert-type",
    "--connect-timeout",
    "--connect-to",
    "--cookie-jar",
    "--key",
    "--limit-rate",
    "--max-redirs",
    "--max-time",
    "--output",
    "--resolve",
    "--retry",
    "--retry-delay",
    "--stderr",
    "--tls-max",
    "--trace",
    "--write-out",
];

/// Options without a value that change nothing that a policy could see.
pub(super) const IGNORED: [&str; 22] = [
    "--basic",
    "--fail",
    "--fail-with-body",
    "--globoff",
    "--http1.0",
    "--http1.1",
    "--http2",
    "--http2-prior-knowledge",
    "--http3",
    "--include",
    "--insecure",
    "--ipv4",
    "--ipv6",
    "--location",
    "--no-buffer",
    "--no-progress-meter",
    "--path-as-is",
    "--progress-bar",
    "--remote-name",
    "--show-error",
    "--silent",
    "--verbose",
];

/// Short options and their long names.
pub(super) const SHORT: [(char, &str); 30] = [
    ('0', "--http1.0"),
    ('4', "--ipv4"),
    ('6', "--ipv6"),
    ('A', "--user-agent"),
    ('E', "--cert"),
    ('F', "--form"),
    ('G', "--get"),
    ('H', "--header"),
    ('I', "--head"),
    ('L', "--location"),
    ('N', "--no-buffer"),
    ('O', "--remote-name"),
    ('S', "--show-error"),
    ('T', "--upload-file"),
    ('X', "--request"),
    ('b', "--cookie"),
    ('c', "--cookie-jar"),
    ('d', "--data"),
    ('e', "--referer"),
    ('f', "--fail"),
    ('g', "--globoff"),
    ('i', "--include"),
    ('k', "--insecure"),
    ('m', "--max-time"),
    ('o', "--output"),
    ('s', "--silent"),
    ('u', "--user"),
    ('v', "--verbose"),
    ('w', "--write-out"),
    ('#', "--progress-bar"),
];

/// Options that are followed by a value and that are understood.
const UNDERSTOOD: [&str; 15] = [
    "--cookie",
    "--data",
    "--data-ascii",
    "--data-binary",
    "--data-raw",
    "--data-urlencode",
    "--form",
    "--header",
    "--json",
    "--oauth2-bearer",
    "--referer",
    "--request",
    "--upload-file",
    "--user",
    "--user-agent",
];

/// Whether an option is followed by a value.
pub(super) fn takes_value(name: &str) -> bool {
    name == "--url" || IGNORED_WITH_VALUE.contains(&name) || UNDERSTOOD.contains(&name)
}
