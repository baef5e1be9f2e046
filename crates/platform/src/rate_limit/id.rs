//! Who a client is to its bucket.

use authz::Allow;
use aws_lc_rs::digest;

/// The most bytes of an id as it is written; DynamoDB takes 2,048.
const MAX_ID: usize = 1_024;

/// The bucket of an allowed caller; none for a caller whom no credential names, whom this cannot limit.
///
/// The OAuth client (`client_id` or `azp`) of an issuer if there is one, else the request principal. An API key has the
/// claims of the token that it stands for, and so the same bucket. Clients of two issuers are two, even where they have
/// one name: nobody uses up what is somebody else's. The same holds for two environments.
pub(crate) fn client_id(environment: Option<&str>, allow: &Allow) -> Option<String> {
    let claims = allow.claims()?;
    id(environment, claims.issuer().unwrap_or_default(), claims.client_id(), claims.subject())
}

fn id(environment: Option<&str>, issuer: &str, client: Option<&str>, subject: Option<&str>) -> Option<String> {
    let there = |text: Option<&'_ str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
    let (kind, name) = match (there(client), there(subject)) {
        (Some(client), _) => ("client", client),
        // A request principal is an issuer and a subject.
        (None, Some(subject)) if !issuer.is_empty() => ("principal", subject),
        (None, _) => return None,
    };
    // What stands in front of the name has no space in it: no two clients share an id.
    let word = |text: &str| text.replace('%', "%25").replace(' ', "%20");
    // No environment has this name.
    let environment = environment.unwrap_or("-");
    let id = format!("{} {kind} {} {name}", word(environment), word(issuer));
    Some(if id.len() <= MAX_ID { id } else { hashed(&id) })
}

/// It has a name as long as a token can have, and is still itself alone: no id in words has two of them only.
fn hashed(id: &str) -> String {
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256 {hex}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_issuers_and_its_environments() {
        let iss = "https://issuer.example";
        for (environment, issuer, client, subject, expected) in [
            (Some("dev"), iss, Some("reader"), Some("client:reader"), Some("dev client https://issuer.example reader")),
            (Some("dev"), iss, None, Some("ann"), Some("dev principal https://issuer.example ann")),
            (Some("dev"), iss, Some(""), Some("ann"), Some("dev principal https://issuer.example ann")),
            (None, iss, Some("reader"), None, Some("- client https://issuer.example reader")),
            (None, "", Some("reader"), None, Some("- client  reader")),
            (Some("dev"), "a b%20", Some("c d"), None, Some("dev client a%20b%2520 c d")),
            (Some("dev"), iss, None, None, None),
            (Some("dev"), iss, None, Some(""), None),
            (Some("dev"), "", None, Some("ann"), None),
        ] {
            assert_eq!(
                id(environment, issuer, client, subject).as_deref(),
                expected,
                "{issuer} {client:?} {subject:?}"
            );
        }
    }

    #[test]
    fn a_long_name_is_hashed_and_still_its_own() {
        let of = |name: &str| id(Some("dev"), "i", Some(name), None).unwrap();
        let room = MAX_ID - "dev client i ".len();
        assert_eq!(of(&"a".repeat(room)).len(), MAX_ID, "the bound itself is written");
        let (long, other) = (of(&"a".repeat(room + 1)), of(&"a".repeat(room + 2)));
        assert!(long.starts_with("sha256 ") && long.len() == 71 && long != other, "{long} {other}");
    }
}
