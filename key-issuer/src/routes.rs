//! Which door answers which path and method. Whatever is not in a table does not exist.

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// The discovery document, at both of its places.
    Metadata,
    /// The public keys that verify access tokens.
    Jwks,
    /// The SPIFFE bundle: roots and keys that verify SVIDs.
    SpiffeBundle,
    /// The signed list of revoked credentials.
    Revocations,
    /// The token endpoint.
    Token,
    /// RFC 7662.
    Introspect,
    /// RFC 7009.
    Revoke,
    /// The X.509-SVID endpoint.
    Svid,
    /// The JWT-SVID endpoint.
    JwtSvid,
    /// A nonce for the next proof of an IAM identity.
    Nonce,
    /// What administrators do.
    Admin(Admin),
}

/// What administrators do; the policies say who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admin {
    /// List or make OAuth clients.
    Clients,
    /// Read, change or delete one.
    Client,
    /// Add a secret to one, which keeps the newer of those that it has.
    ClientSecrets,
    /// List or make API keys.
    ApiKeys,
    /// Read or change one.
    ApiKey,
    /// Give one a second value.
    ApiKeyRotate,
    /// Revoke one.
    ApiKeyRevoke,
    /// Report a credential that leaked.
    Leaks,
    /// Where the rotation of the signing keys stands.
    SigningKeys,
    /// Revoke tokens by id, clients, or all tokens of a client before a moment.
    Revocations,
}

impl Route {
    /// The route's name in the log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Route::Metadata => "metadata",
            Route::Jwks => "jwks",
            Route::SpiffeBundle => "spiffe_bundle",
            Route::Revocations => "revocations",
            Route::Token => "token",
            Route::Introspect => "introspect",
            Route::Revoke => "revoke",
            Route::Svid => "svid",
            Route::JwtSvid => "jwt_svid",
            Route::Nonce => "nonce",
            Route::Admin(admin) => admin.name(),
        }
    }
}

impl Admin {
    fn name(self) -> &'static str {
        match self {
            Admin::Clients => "clients",
            Admin::Client => "client",
            Admin::ClientSecrets => "client_secrets",
            Admin::ApiKeys => "api_keys",
            Admin::ApiKey => "api_key",
            Admin::ApiKeyRotate => "api_key_rotate",
            Admin::ApiKeyRevoke => "api_key_revoke",
            Admin::Leaks => "leaks",
            Admin::SigningKeys => "signing_keys",
            Admin::Revocations => "revoke_by_id",
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

/// One path of a door. A segment `{id}` stands for any one segment that is not empty.
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

const fn collection(path: &'static str, route: Admin) -> Entry {
    Entry { path, methods: &["GET", "POST"], allow: "GET, POST", route: Route::Admin(route) }
}

const fn item(path: &'static str, route: Admin) -> Entry {
    let (methods, allow) = (&["GET", "PATCH", "DELETE"], "GET, PATCH, DELETE");
    Entry { path, methods, allow, route: Route::Admin(route) }
}

/// The path of the JWKS document, below the issuer.
pub(crate) const JWKS_PATH: &str = "/jwks.json";
/// The path of the token endpoint, below the issuer.
pub(crate) const TOKEN_PATH: &str = "/oauth2/token";
/// The path of RFC 7662, below the issuer.
pub(crate) const INTROSPECTION_PATH: &str = "/oauth2/introspect";
/// The path of RFC 7009, below the issuer.
pub(crate) const REVOCATION_PATH: &str = "/oauth2/revoke";

/// The public HTTP API. Discovery documents for an issuer without a path: OpenID Connect Discovery §4, RFC 8414 §3.
pub(crate) const PUBLIC: Door = Door(&[
    get("/.well-known/openid-configuration", Route::Metadata),
    get("/.well-known/oauth-authorization-server", Route::Metadata),
    get(JWKS_PATH, Route::Jwks),
    get("/spiffe-bundle.json", Route::SpiffeBundle),
    get("/revocations", Route::Revocations),
    post(TOKEN_PATH, Route::Token),
    post(INTROSPECTION_PATH, Route::Introspect),
    post(REVOCATION_PATH, Route::Revoke),
    post("/v1/nonce", Route::Nonce),
    post("/v1/svid", Route::Svid),
    post("/v1/jwt-svid", Route::JwtSvid),
    collection("/v1/clients", Admin::Clients),
    item("/v1/clients/{id}", Admin::Client),
    post("/v1/clients/{id}/secrets", Route::Admin(Admin::ClientSecrets)),
    collection("/v1/api-keys", Admin::ApiKeys),
    item("/v1/api-keys/{id}", Admin::ApiKey),
    post("/v1/api-keys/{id}/rotate", Route::Admin(Admin::ApiKeyRotate)),
    post("/v1/api-keys/{id}/revoke", Route::Admin(Admin::ApiKeyRevoke)),
    post("/v1/leaks", Route::Admin(Admin::Leaks)),
    post("/v1/revocations", Route::Admin(Admin::Revocations)),
    get("/v1/signing-keys", Route::Admin(Admin::SigningKeys)),
]);

/// The custom domain with mutual TLS.
pub(crate) const MTLS: Door = Door(&[
    post(TOKEN_PATH, Route::Token),
    post(INTROSPECTION_PATH, Route::Introspect),
    post(REVOCATION_PATH, Route::Revoke),
]);

/// The Function URL with AWS_IAM.
pub(crate) const IAM: Door = Door(&[
    post(TOKEN_PATH, Route::Token),
    post(INTROSPECTION_PATH, Route::Introspect),
    post(REVOCATION_PATH, Route::Revoke),
    post("/v1/svid", Route::Svid),
    post("/v1/jwt-svid", Route::JwtSvid),
    collection("/v1/clients", Admin::Clients),
    item("/v1/clients/{id}", Admin::Client),
    post("/v1/clients/{id}/secrets", Route::Admin(Admin::ClientSecrets)),
    collection("/v1/api-keys", Admin::ApiKeys),
    item("/v1/api-keys/{id}", Admin::ApiKey),
    post("/v1/api-keys/{id}/rotate", Route::Admin(Admin::ApiKeyRotate)),
    post("/v1/api-keys/{id}/revoke", Route::Admin(Admin::ApiKeyRevoke)),
    post("/v1/leaks", Route::Admin(Admin::Leaks)),
    post("/v1/revocations", Route::Admin(Admin::Revocations)),
    get("/v1/signing-keys", Route::Admin(Admin::SigningKeys)),
]);

/// A door's closed route table.
#[derive(Clone, Copy)]
pub(crate) struct Door(&'static [Entry]);

impl Door {
    /// The route of a request, and the id in its path. Paths are compared byte for byte: there is no second spelling of
    /// any of them. A path with the beginning of a query or a fragment in it is none: policies are asked about the path
    /// and what follows it, and would take it for another one.
    pub(crate) fn find<'p>(self, method: &str, path: &'p str) -> Result<(Route, Option<&'p str>), NoRoute> {
        if path.contains(['?', '#']) {
            return Err(NoRoute::Path);
        }
        let found = self.0.iter().find_map(|entry| matched(entry.path, path).map(|id| (entry, id)));
        let (entry, id) = found.ok_or(NoRoute::Path)?;
        if entry.methods.contains(&method) { Ok((entry.route, id)) } else { Err(NoRoute::Method(entry.allow)) }
    }
}

/// Whether the path is the pattern's, with the segment that stands where `{id}` is.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<Option<&'p str>> {
    let Some((before, after)) = pattern.split_once("{id}") else {
        return (pattern == path).then_some(None);
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(Some(id))
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
            ("POST", "/v1/svid", Ok(Route::Svid), Ok(Route::Svid)),
            ("PUT", "/v1/svid", Err(Method("POST")), Err(Method("POST"))),
            ("POST", "/oauth2/token/", Err(Path), Err(Path)),
            ("POST", "/oauth2/%74oken", Err(Path), Err(Path)),
            ("POST", "//oauth2/token", Err(Path), Err(Path)),
            ("GET", "/", Err(Path), Err(Path)),
        ] {
            assert_eq!(PUBLIC.find(method, path).map(|(route, _)| route), public, "public {method} {path}");
            assert_eq!(IAM.find(method, path).map(|(route, _)| route), iam, "iam {method} {path}");
        }
        assert_eq!(MTLS.find("POST", "/oauth2/token"), Ok((Route::Token, None)));
        assert_eq!(MTLS.find("GET", "/jwks.json"), Err(Path));
    }

    #[test]
    fn an_id_is_one_segment() {
        let found = |path| PUBLIC.find("GET", path);
        assert_eq!(found("/v1/clients/a"), Ok((Route::Admin(Admin::Client), Some("a"))));
        assert_eq!(found("/v1/clients"), Ok((Route::Admin(Admin::Clients), None)));
        assert_eq!(found("/v1/clients/"), Err(NoRoute::Path));
        assert_eq!(found("/v1/clients/a/b"), Err(NoRoute::Path));
        for path in ["/v1/clients/a?b", "/v1/clients/a#b", "/v1/clients?", "/jwks.json?", "/v1/clients/?/secrets"] {
            assert_eq!(found(path), Err(NoRoute::Path), "{path}");
        }
        assert_eq!(PUBLIC.find("POST", "/v1/clients/a/secrets"), Ok((Route::Admin(Admin::ClientSecrets), Some("a"))));
    }
}
