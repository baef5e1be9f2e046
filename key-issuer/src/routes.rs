//! Which door answers which path and method. Whatever is not in a table does not exist.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The discovery document, at both of its places.
    Metadata,
    /// The public keys.
    Jwks,
    /// The token endpoint.
    Token,
    /// The SVID endpoint.
    Svid,
}

impl Route {
    /// The route's name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Route::Metadata => "metadata",
            Route::Jwks => "jwks",
            Route::Token => "token",
            Route::Svid => "svid",
        }
    }
}

/// No route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoute {
    /// 404.
    Path,
    /// 405 with this `Allow`. RFC 9110 §15.5.6: "The origin server MUST generate an Allow header field".
    Method(&'static str),
}

/// One path of a door.
struct Entry {
    path: &'static str,
    methods: &'static [&'static str],
    allow: &'static str,
    route: Route,
}

const fn get(path: &'static str, route: Route) -> Entry {
    Entry { path, methods: &["GET", "HEAD"], allow: "GET, HEAD", route }
}

const fn post(path: &'static str, route: Route) -> Entry {
    Entry { path, methods: &["POST"], allow: "POST", route }
}

/// The path of the JWKS document, below the issuer.
pub(crate) const JWKS_PATH: &str = "/jwks.json";
/// The path of the token endpoint, below the issuer.
pub(crate) const TOKEN_PATH: &str = "/oauth2/token";

/// The public HTTP API. Discovery documents for an issuer without a path: OpenID Connect Discovery §4, RFC 8414 §3.
pub(crate) const PUBLIC: Door = Door(&[
    get("/.well-known/openid-configuration", Route::Metadata),
    get("/.well-known/oauth-authorization-server", Route::Metadata),
    get(JWKS_PATH, Route::Jwks),
    post(TOKEN_PATH, Route::Token),
]);

/// The Function URL with AWS_IAM.
pub(crate) const IAM: Door = Door(&[post(TOKEN_PATH, Route::Token), post("/v1/svid", Route::Svid)]);

/// The same without a certificate authority.
pub(crate) const IAM_WITHOUT_CA: Door = Door(&[post(TOKEN_PATH, Route::Token)]);

/// A door's closed route table.
#[derive(Clone, Copy)]
pub(crate) struct Door(&'static [Entry]);

impl Door {
    /// The route of a request. Paths are compared byte for byte: there is no second spelling of any of them.
    pub(crate) fn find(self, method: &str, path: &str) -> Result<Route, NoRoute> {
        let entry = self.0.iter().find(|entry| entry.path == path).ok_or(NoRoute::Path)?;
        if entry.methods.contains(&method) { Ok(entry.route) } else { Err(NoRoute::Method(entry.allow)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_door_has_its_own_table() {
        use NoRoute::{Method, Path};
        for (method, path, public, iam) in [
            ("GET", "/.well-known/openid-configuration", Ok(Route::Metadata), Err(Path)),
            ("HEAD", "/.well-known/oauth-authorization-server", Ok(Route::Metadata), Err(Path)),
            ("GET", "/jwks.json", Ok(Route::Jwks), Err(Path)),
            ("POST", "/jwks.json", Err(Method("GET, HEAD")), Err(Path)),
            ("POST", "/oauth2/token", Ok(Route::Token), Ok(Route::Token)),
            ("GET", "/oauth2/token", Err(Method("POST")), Err(Method("POST"))),
            ("post", "/oauth2/token", Err(Method("POST")), Err(Method("POST"))),
            ("POST", "/v1/svid", Err(Path), Ok(Route::Svid)),
            ("PUT", "/v1/svid", Err(Path), Err(Method("POST"))),
            ("POST", "/oauth2/token/", Err(Path), Err(Path)),
            ("POST", "/oauth2/%74oken", Err(Path), Err(Path)),
            ("POST", "//oauth2/token", Err(Path), Err(Path)),
            ("GET", "/", Err(Path), Err(Path)),
        ] {
            assert_eq!(PUBLIC.find(method, path), public, "public {method} {path}");
            assert_eq!(IAM.find(method, path), iam, "iam {method} {path}");
        }
        assert_eq!(IAM_WITHOUT_CA.find("POST", "/v1/svid"), Err(Path));
    }
}
