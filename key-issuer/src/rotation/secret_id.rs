//! Whether two ids mean the same secret.

/// Whether the rotation event's `event` is the secret that the configuration calls `configured`.
///
/// Either may be the name or the ARN. Secrets Manager ends the ARN with `-` and six random characters, so that the ARN
/// of a secret that is made again is another one; it puts the full ARN into its events. The characters are counted and
/// not searched for, because a name may end like this too.
pub(crate) fn same(configured: &str, event: &str) -> bool {
    if configured == event {
        return true;
    }
    let (short, long) = if configured.len() < event.len() { (configured, event) } else { (event, configured) };
    let Some(name) = name_in_arn(long) else { return false };
    let rest = if short.starts_with("arn:") { long.strip_prefix(short) } else { name.strip_prefix(short) };
    rest.and_then(|rest| rest.strip_prefix('-'))
        .is_some_and(|random| random.len() == 6 && random.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// `arn:PARTITION:secretsmanager:REGION:ACCOUNT:secret:NAME-RANDOM`, from NAME on.
fn name_in_arn(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.splitn(7, ':').collect();
    match parts.as_slice() {
        ["arn", _, "secretsmanager", _, _, "secret", name] => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arns() {
        let arn = |name: &str| format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:{name}");
        for (configured, event, expected) in [
            ("signing", "signing".to_owned(), true),
            ("signing", arn("signing-a1B2c3"), true),
            ("causeway/signing", arn("causeway/signing-a1B2c3"), true),
            (&arn("signing-a1B2c3"), arn("signing-a1B2c3"), true),
            (&arn("signing-a1B2c3"), "signing".to_owned(), true),
            (&arn("signing"), arn("signing-a1B2c3"), true),
            ("signing", "signing2".to_owned(), false),
            ("signing", arn("signing"), false),
            ("signing", arn("signing-a1B2c"), false),
            ("signing", arn("signing-a1B2c34"), false),
            ("signing", arn("signing-a1B2-3"), false),
            ("signing", arn("signing-abcdef-a1B2c3"), false),
            ("signing-abcdef", arn("signing-a1B2c3"), false),
            ("signing", arn("other/signing-a1B2c3"), false),
            ("signing", "arn:aws:ssm:eu-central-1:123456789012:secret:signing-a1B2c3".to_owned(), false),
            (&arn("signing-a1B2c3"), arn("signing-a1B2c4"), false),
            (&arn("signing-a1B2c3"), arn("signing"), true),
            ("arn:aws:secretsmanager:eu-central-1:999999999999:secret:signing", arn("signing-a1B2c3"), false),
            ("", arn("-a1B2c3"), true),
            ("signing", String::new(), false),
        ] {
            assert_eq!(same(configured, &event), expected, "{configured} {event}");
        }
    }
}
