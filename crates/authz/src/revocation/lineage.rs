//! What a token depends on beside its own `jti`: what it was made out of, and who has had a hand in it. Whoever takes
//! one of those back means what came out of it, too. Our issuer writes down the whole way, so that a verifier need not
//! ask.

use crate::claims::{Claims, Json};

/// The claim with the `jti`s of the tokens that a token comes from, through however many exchanges.
pub const ANCESTORS: &str = "ancestors";
/// The claim with the public id of the API key that a token comes from, be it at once or through other tokens.
pub const API_KEY: &str = "api_key";
/// The claim with the public id of the family of refresh tokens that a token comes from, be it at once or through other
/// tokens. A list has it among the ids of tokens.
pub const REFRESH_FAMILY: &str = "refresh_family";

/// How the subject of a client begins.
const CLIENT_PREFIX: &str = "client:";

/// The ids of tokens that the token with these claims ends with: its own `jti`, those of its [`ANCESTORS`], and its
/// [`REFRESH_FAMILY`].
pub fn tokens(claims: &Claims) -> impl Iterator<Item = &str> {
    let ancestors = match claims.get(ANCESTORS) {
        Some(Json::List(list)) => list.as_slice(),
        _ => &[],
    };
    let own = claims.text("jti").into_iter().chain(claims.text(REFRESH_FAMILY));
    own.chain(ancestors.iter().filter_map(Json::as_str))
}

/// The clients that it ends with: the one that has it (`client_id`, or else `azp`), the one that it is about, and the
/// actors through whose hands it came (RFC 8693 §4.1 `act`). Our issuer's subjects of clients are `client:ID`.
pub fn clients(claims: &Claims) -> impl Iterator<Item = &str> {
    let actors = std::iter::successors(claims.get("act"), |act| act.get("act"));
    let subjects = claims.subject().into_iter().chain(actors.filter_map(|act| act.get("sub")?.as_str()));
    claims.client_id().into_iter().chain(subjects.filter_map(|subject| subject.strip_prefix(CLIENT_PREFIX)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::claims::TOKEN_LIMITS;
    use crate::revocation::RevocationList;

    fn read(json: &str) -> Claims {
        Claims::from_verified(Json::parse(json.as_bytes(), TOKEN_LIMITS).unwrap()).unwrap()
    }

    const TOKEN: &str = r#"{"jti":"t","client_id":"c","sub":"client:a","api_key":"k","refresh_family":"f",
        "ancestors":["t1","t2"],"act":{"sub":"client:c","act":{"sub":"client:b","act":{"sub":"someone"}}}}"#;

    #[test]
    fn all_that_a_token_comes_from() {
        let claims = read(TOKEN);
        assert_eq!(tokens(&claims).collect::<Vec<_>>(), ["t", "f", "t1", "t2"]);
        assert_eq!(clients(&claims).collect::<Vec<_>>(), ["c", "a", "c", "b"]);
        // Claims of another form, as other issuers may have them, name nobody.
        let other = read(r#"{"jti":"t","ancestors":"t1","act":["client:b"],"refresh_family":["f"],"sub":"client"}"#);
        assert_eq!(tokens(&other).collect::<Vec<_>>(), ["t"]);
        assert_eq!(clients(&other).count(), 0);
    }

    #[test]
    fn what_is_revoked_ends_what_came_out_of_it() {
        for (id, revoked) in [
            ("t", true),
            ("t1", true),
            ("t2", true),
            ("f", true),
            ("k", true),
            ("client:a", true),
            ("client:b", true),
            ("client:c", true),
            ("t3", false),
            ("someone", false),
            ("client:someone", false),
            ("client:k", false),
        ] {
            let list = RevocationList::of_ids([id.to_owned()]);
            assert_eq!(list.has_token(&read(TOKEN)), revoked, "{id}");
        }
    }
}
