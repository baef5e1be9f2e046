//! The exit status, which other people's scripts depend on.

/// Every code, and what it means.
pub(crate) const CODES: &[(u8, &str)] = &[
    (0, "it is done; what was found may be a denial, but no finding of lint is an error"),
    (1, "it failed: a finding is an error, an input or an answer is bad, a file or an issuer does not do what it must"),
    (2, "the command line or the configuration is refused, and nothing was done"),
];
