//! The issuer's HTTP, as curl sees it: every error that `docs/issuer.md` and the standards name, with its headers.

use std::path::Path;

use e2e::public_issuer::{self, PublicIssuer};
use serde_json::Value;
use tokio::process::Command;

const FORM: &str = "content-type: application/x-www-form-urlencoded";
const GRANT: &str = "grant_type=client_credentials";
const TOKEN: &str = "/oauth2/token";
const INTROSPECT: &str = "/oauth2/introspect";
const REVOKE: &str = "/oauth2/revoke";
const EXCHANGE: &str = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";

/// An answer, by curl.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// Asks curl; `None` if it got no answer.
async fn curl(authority: &Path, url: &str, arguments: &[&str]) -> Result<Option<Answer>, String> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--include", "--http1.1", "--max-time", "60", "--noproxy", "*"]);
    command.arg("--cacert").arg(authority).args(arguments).arg(url);
    let output = command.output().await.map_err(|error| format!("cannot start curl: {error}"))?;
    if !output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    // curl shows the interim answer to `Expect: 100-continue` too.
    let mut text = text.as_ref();
    while let Some(rest) = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n") {
        text = rest;
    }
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no head: {text}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let headers = lines.filter_map(|line| line.split_once(": "));
    Ok(Some(Answer {
        status: status.ok_or_else(|| format!("no status: {head}"))?,
        headers: headers.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect(),
        body: body.to_owned(),
    }))
}

/// What every answer with an error code has to look like.
fn check_error(name: &str, answer: &Answer) {
    // RFC 6749 §5.1 and §5.2.
    assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{name}");
    assert_eq!(answer.header("pragma"), Some("no-cache"), "{name}");
    let body = answer.json();
    let members: Vec<&str> = body.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    assert_eq!(members, ["error", "error_description"], "{name}: {}", answer.body);
    let description = body["error_description"].as_str().unwrap_or_default();
    let allowed = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    assert!(!description.is_empty() && description.chars().all(allowed), "{name}: {description}");
    let needed = match answer.status {
        401 => Some("www-authenticate"),
        405 => Some("allow"),
        429 | 503 => Some("retry-after"),
        _ => None,
    };
    for header in ["www-authenticate", "allow", "retry-after"] {
        assert_eq!(answer.header(header).is_some(), needed == Some(header), "{name}: {header}");
    }
}

/// Name, path, arguments, status, code, and a header that the answer has to have.
type Row<'a> = (&'a str, &'a str, &'a [&'a str], u16, &'a str, Option<(&'a str, &'a str)>);

#[tokio::test(flavor = "multi_thread")]
async fn errors() -> Result<(), String> {
    if !public_issuer::available(&[]) {
        return Ok(());
    }
    let issuer = PublicIssuer::start().await?;
    let user = |client: &str| issuer.secret(client).map(|secret| format!("{client}:{secret}"));
    let (plain, gateway, dpop, broken, nobody) =
        (user("plain")?, user("gateway")?, user("dpop")?, user("broken")?, user("nobody")?);
    let (plain, gateway, dpop) = (plain.as_str(), gateway.as_str(), dpop.as_str());
    let api_key = format!("token={}", issuer.settings["api_key"].as_str().unwrap_or_default());
    let large = format!("{GRANT}&padding={}", "x".repeat(65_536));
    let file = issuer.folder.path().join("large");
    std::fs::write(&file, &large).map_err(|error| error.to_string())?;
    let large = format!("@{}", file.display());
    let secret = format!("{GRANT}&client_secret=x");
    let assertion = format!("{GRANT}&client_assertion=a.b.c&client_assertion_type=x");
    let other = format!("{GRANT}&client_id=front");
    let challenge = |realm: &str| format!("Basic realm=\"{realm} endpoint\", charset=\"UTF-8\"");
    let (at_token, at_introspection, at_revocation) =
        (challenge("token"), challenge("introspection"), challenge("revocation"));
    let token_401 = Some(("www-authenticate", at_token.as_str()));
    let with = |more: &str| format!("{GRANT}&{more}");
    let (bad_scope, odd_scope, twice) = (with("scope=admin"), with("scope=a++b"), with("scope=a&scope=b"));
    let (elsewhere, relative) = (with("resource=https://elsewhere.example"), with("resource=orders"));
    let no_type = format!("{EXCHANGE}&subject_token=x");

    let rows: &[Row<'_>] = &[
        // Routing.
        ("no such path", "/", &[], 404, "not_found", None),
        ("no second spelling", "/oauth2/token/", &["--data", GRANT], 404, "not_found", None),
        ("GET of the token endpoint", TOKEN, &[], 405, "method_not_allowed", Some(("allow", "POST"))),
        ("POST of the keys", "/jwks.json", &["--data", ""], 405, "method_not_allowed", Some(("allow", "GET, HEAD"))),
        ("GET of introspection", INTROSPECT, &[], 405, "method_not_allowed", Some(("allow", "POST"))),
        ("GET of revocation", REVOKE, &[], 405, "method_not_allowed", Some(("allow", "POST"))),
        // The form.
        ("no form", TOKEN, &["--user", plain, "--json", "{}"], 400, "invalid_request", None),
        ("a query", "/oauth2/token?a=b", &["--user", plain, "--data", GRANT], 400, "invalid_request", None),
        ("no grant_type", TOKEN, &["--user", plain, "--data", "scope=a"], 400, "invalid_request", None),
        ("twice", TOKEN, &["--user", plain, "--data", &twice], 400, "invalid_request", None),
        ("not a form", TOKEN, &["--user", plain, "--data", "grant_type=%zz"], 400, "invalid_request", None),
        ("a large body", TOKEN, &["--user", plain, "--data", &large], 413, "invalid_request", None),
        // Who the client is.
        ("no credential", TOKEN, &["--data", GRANT], 401, "invalid_client", token_401),
        ("no such client", TOKEN, &["--user", "x:y", "--data", GRANT], 401, "invalid_client", token_401),
        ("wrong secret", TOKEN, &["--user", "plain:y", "--data", GRANT], 401, "invalid_client", token_401),
        ("Bearer", TOKEN, &["-H", "authorization: Bearer x", "--data", GRANT], 401, "invalid_client", token_401),
        ("bad Basic", TOKEN, &["-H", "authorization: Basic !", "--data", GRANT], 401, "invalid_client", token_401),
        ("an assertion too", TOKEN, &["--user", plain, "--data", &assertion], 401, "invalid_client", token_401),
        ("a secret too", TOKEN, &["--user", plain, "--data", &secret], 400, "invalid_request", None),
        ("another client_id", TOKEN, &["--user", plain, "--data", &other], 400, "invalid_request", None),
        (
            "two Authorization headers",
            TOKEN,
            &["-H", "authorization: Basic eDp5", "-H", "authorization: Basic eDp6", "--data", GRANT],
            400,
            "invalid_request",
            None,
        ),
        ("a broken record", TOKEN, &["--user", &broken, "--data", GRANT], 500, "server_error", None),
        // What it asks for.
        ("unknown grant", TOKEN, &["--user", plain, "--data", "grant_type=x"], 400, "unsupported_grant_type", None),
        ("not its grant", TOKEN, &["--user", plain, "--data", EXCHANGE], 400, "unauthorized_client", None),
        ("not its scope", TOKEN, &["--user", plain, "--data", &bad_scope], 400, "invalid_scope", None),
        ("two spaces", TOKEN, &["--user", plain, "--data", &odd_scope], 400, "invalid_scope", None),
        ("not its target", TOKEN, &["--user", plain, "--data", &elsewhere], 400, "invalid_target", None),
        ("no URI", TOKEN, &["--user", plain, "--data", &relative], 400, "invalid_target", None),
        ("no target at all", TOKEN, &["--user", &nobody, "--data", GRANT], 400, "invalid_target", None),
        ("no subject token", TOKEN, &["--user", gateway, "--data", EXCHANGE], 400, "invalid_request", None),
        ("no subject token type", TOKEN, &["--user", gateway, "--data", &no_type], 400, "invalid_request", None),
        (
            "no refresh token of ours",
            TOKEN,
            &["--user", gateway, "--data", "grant_type=refresh_token&refresh_token=x"],
            400,
            "invalid_grant",
            None,
        ),
        ("no proof", TOKEN, &["--user", dpop, "--data", GRANT], 400, "invalid_dpop_proof", None),
        ("bad proof", TOKEN, &["--user", plain, "-H", "dpop: x", "--data", GRANT], 400, "invalid_dpop_proof", None),
        (
            "two proofs",
            TOKEN,
            &["--user", dpop, "-H", "dpop: a.b.c", "-H", "dpop: a.b.c", "--data", GRANT],
            400,
            "invalid_dpop_proof",
            None,
        ),
        // RFC 7662 and RFC 7009.
        (
            "introspection by nobody",
            INTROSPECT,
            &["--data", "token=x"],
            401,
            "invalid_client",
            Some(("www-authenticate", &at_introspection)),
        ),
        ("introspection of nothing", INTROSPECT, &["--user", plain, "--data", "a=b"], 400, "invalid_request", None),
        (
            "revocation by nobody",
            REVOKE,
            &["--data", "token=x"],
            401,
            "invalid_client",
            Some(("www-authenticate", &at_revocation)),
        ),
        ("revocation of nothing", REVOKE, &["--user", plain, "--data", "a=b"], 400, "invalid_request", None),
        ("of an API key", REVOKE, &["--user", plain, "--data", &api_key], 400, "unsupported_token_type", None),
        // Administration: RFC 6750.
        (
            "no token of ours",
            "/v1/clients",
            &["-H", "authorization: Bearer x"],
            401,
            "invalid_token",
            Some(("www-authenticate", "Bearer realm=\"causeway administration\", error=\"invalid_token\"")),
        ),
        ("a path beyond", "/v1/clients/a/b/c", &[], 404, "not_found", None),
        ("PUT", "/v1/clients", &["--request", "PUT"], 405, "method_not_allowed", Some(("allow", "GET, POST"))),
    ];
    let authority = issuer.folder.path().join("authority.pem");
    let ask = async |path: &str, arguments: &[&str]| {
        let answer = curl(&authority, &format!("{}{path}", issuer.url), arguments).await?;
        answer.ok_or_else(|| format!("no answer: {path}"))
    };
    for (name, path, arguments, status, code, header) in rows {
        let answer = ask(path, arguments).await?;
        let body = answer.json();
        assert_eq!((answer.status, body["error"].as_str()), (*status, Some(*code)), "{name}: {}", answer.body);
        check_error(name, &answer);
        if let Some((header, value)) = header {
            assert_eq!(answer.header(header), Some(*value), "{name}");
        }
    }
    let (unknown, wrong) = (
        ask(TOKEN, &["--user", "x:y", "--data", GRANT]).await?,
        ask(TOKEN, &["--user", "plain:y", "--data", GRANT]).await?,
    );
    assert_eq!(unknown.body, wrong.body, "it can be told which clients there are");

    // RFC 6750 §3.1: no code where there was no credential.
    let answer = ask("/v1/clients", &[]).await?;
    assert_eq!((answer.status, answer.body.as_str()), (401, ""));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"causeway administration\""));

    // Too many wrong secrets of one client; others go on.
    let mut last = None;
    for _ in 0..200 {
        let answer = ask(TOKEN, &["--user", "front:wrong", "--data", GRANT]).await?;
        let status = answer.status;
        last = Some(answer);
        if status != 401 {
            break;
        }
    }
    let last = last.ok_or("no answer")?;
    assert_eq!((last.status, last.json()["error"].as_str()), (429, Some("temporarily_unavailable")), "{}", last.body);
    assert_eq!(last.header("retry-after"), Some("3"));
    check_error("too many", &last);
    assert_eq!(ask(TOKEN, &["--user", plain, "--data", GRANT]).await?.status, 200);
    assert_eq!(issuer.credential_in_logs(), None);

    // Nothing answers behind the issuer any more.
    let PublicIssuer { moto, url, .. } = issuer;
    drop(moto);
    for (name, path) in [("token", TOKEN), ("introspection", INTROSPECT), ("revocation", REVOKE)] {
        let arguments = ["--user", "not-seen-before:x", "--data", GRANT];
        let answer = curl(&authority, &format!("{url}{path}"), &arguments).await?.ok_or("no answer")?;
        assert_eq!((answer.status, answer.json()["error"].as_str()), (503, Some("temporarily_unavailable")), "{name}");
        assert_eq!(answer.header("retry-after"), Some("5"), "{name}");
        check_error(name, &answer);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers() -> Result<(), String> {
    if !public_issuer::available(&[]) {
        return Ok(());
    }
    let issuer = PublicIssuer::start().await?;
    let authority = issuer.folder.path().join("authority.pem");
    let ask = async |path: &str, arguments: &[&str]| {
        let answer = curl(&authority, &format!("{}{path}", issuer.url), arguments).await?;
        answer.ok_or_else(|| format!("no answer: {path}"))
    };
    let plain = format!("plain:{}", issuer.secret("plain")?);

    for (path, age) in [
        ("/.well-known/openid-configuration", 3600),
        ("/.well-known/oauth-authorization-server", 3600),
        ("/jwks.json", 300),
    ] {
        let answer = ask(path, &[]).await?;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{path}");
        assert_eq!(answer.header("cache-control"), Some(format!("public, max-age={age}").as_str()), "{path}");
        assert_eq!(answer.header("pragma"), None, "{path}");
        let head = ask(path, &["--head"]).await?;
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
    }
    let keys = ask("/jwks.json", &[]).await?;
    let tag = format!("if-none-match: {}", keys.header("etag").unwrap_or_default());
    let same = ask("/jwks.json", &["-H", &tag]).await?;
    assert_eq!((same.status, same.body.as_str(), same.header("etag")), (304, "", keys.header("etag")));
    for private in ["\"d\"", "\"p\"", "\"q\"", "\"k\""] {
        assert!(!keys.body.contains(private), "{private}");
    }

    let token = ask(TOKEN, &["--user", &plain, "-H", FORM, "--data", GRANT]).await?;
    let text = token.json()["access_token"].as_str().unwrap_or_default().to_owned();
    let text = format!("token={text}");
    let live = ask(INTROSPECT, &["--user", &plain, "--data", &text]).await?;
    assert_eq!(live.json()["active"], true);
    let dead = ask(INTROSPECT, &["--user", &plain, "--data", "token=nonsense"]).await?;
    // RFC 7662 §2.2: nothing else is told about it.
    assert_eq!(dead.body, r#"{"active":false}"#);
    let revoked = ask(REVOKE, &["--user", &plain, "--data", "token=nonsense"]).await?;
    for answer in [&token, &live, &dead, &revoked] {
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!((answer.header("cache-control"), answer.header("pragma")), (Some("no-store"), Some("no-cache")));
    }

    // The door with mutual TLS: nobody gets in without a certificate, and it has no other routes.
    let shown = issuer.settings["clients"]["certificate"].clone();
    let text = |name: &str| shown[name].as_str().unwrap_or_default();
    let certificate = ["--cert", text("certificate"), "--key", text("key")];
    let form = format!("{GRANT}&client_id=certificate");
    let url = format!("{}{TOKEN}", issuer.mtls_url);
    assert!(curl(&authority, &url, &["--data", &form]).await?.is_none(), "an answer without a certificate");
    let arguments = [certificate.as_slice(), &["--data", &form]].concat();
    let bound = curl(&authority, &url, &arguments).await?.ok_or("no answer")?;
    assert_eq!((bound.status, &bound.json()["token_type"]), (200, &Value::from("Bearer")), "{}", bound.body);
    let keys = curl(&authority, &format!("{}/jwks.json", issuer.mtls_url), &certificate).await?.ok_or("no answer")?;
    assert_eq!(keys.status, 404);
    Ok(())
}
