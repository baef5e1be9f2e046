//! `causeway demo`: every part in one process, and the requests that explain the product.

mod report;
mod watch;

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::dev;
use crate::dev::http::{Answer, send};
use crate::dev::stack::{API_DOMAIN, DETAILS_URL, OTHER_DOMAIN, Ports, RATINGS_URL, Stack};
use crate::terminal::{self, Progress};
use report::{Outcome, Report};
use watch::Watch;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway demo
  causeway demo --json     # the same, one JSON object a line

Exit status: 0 only if every request came out as it must, otherwise 1; 2 wrong usage.";

/// The options of `causeway demo`.
#[derive(Args, Debug)]
pub struct Demo {
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

/// Runs `causeway demo`.
pub(crate) async fn run(command: Demo) -> ExitCode {
    let watch = Watch::default();
    let progress = Progress::of("starting every part");
    let stack = Stack::start(Ports::default(), watch.lines()).await;
    drop(progress);
    let stack = match stack {
        Ok(stack) => stack,
        Err(error) => return terminal::failed(&error.to_string()),
    };
    let mut walk = Walk { report: Report::new(command.json, STEPS), stack, watch };
    match walk.all().await {
        Ok(()) if walk.report.close() => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(why) => terminal::failed(&why),
    }
}

/// How many requests the demo has.
const STEPS: usize = 15;

struct Walk {
    report: Report,
    stack: Stack,
    watch: Watch,
}

/// What must come of a request.
struct Expected {
    status: u16,
    by: &'static str,
    reason: &'static str,
}

fn expect(status: u16, by: &'static str, reason: &'static str) -> Expected {
    Expected { status, by, reason }
}

/// A header, and how it is shown.
type Credential<'a> = Option<(&'static str, &'a str)>;

impl Walk {
    async fn all(&mut self) -> Result<(), String> {
        self.report.say(
            "BookInfo: productpage and reviews are legacy functions behind API Gateway, ratings lives in the mesh.",
        );
        self.report.say("The policies are examples/bookinfo/*.yaml, the same files that Istio would take.");

        self.report.heading("At API Gateway: the authorizer decides");
        let token = self.token_issued().await?;
        let bearer = |token: &str| format!("Bearer {token}");
        let page = "/productpage";
        self.api(
            "page allowed",
            "a token with the right scope",
            API_DOMAIN,
            page,
            Some(("authorization", &bearer(&token))),
            expect(200, "authorizer", "allowed_by_policy"),
        )
        .await?;
        self.api(
            "no token",
            "who is nobody gets 401",
            API_DOMAIN,
            page,
            None,
            expect(401, "authorizer", "no_credential"),
        )
        .await?;
        let expired = self.stack.expired_token().await?;
        self.api(
            "expired token",
            "issued two hours ago, for ten minutes",
            API_DOMAIN,
            page,
            Some(("authorization", &bearer(&expired))),
            expect(401, "authorizer", "token_expired"),
        )
        .await?;
        let (_, other) = self.token("reader", "audience=orders").await?;
        self.api(
            "wrong audience",
            "a token of our issuer, for another API",
            API_DOMAIN,
            page,
            Some(("authorization", &bearer(&other))),
            expect(401, "authorizer", "token_audience"),
        )
        .await?;
        let (_, auditor) = self.token("auditor", "").await?;
        self.api(
            "wrong claim",
            "a good token whose scope opens something else gets 403",
            API_DOMAIN,
            page,
            Some(("authorization", &bearer(&auditor))),
            expect(403, "authorizer", "denied_no_match"),
        )
        .await?;
        let (key, revoked) = (self.stack.partner_key.text().clone(), self.stack.revoked_key.text().clone());
        self.api(
            "API key good",
            "a key passes the same policy as a token",
            API_DOMAIN,
            page,
            Some(("x-api-key", key.expose())),
            expect(200, "authorizer", "allowed_by_policy"),
        )
        .await?;
        self.api(
            "API key revoked",
            "until it is revoked",
            API_DOMAIN,
            page,
            Some(("x-api-key", revoked.expose())),
            expect(401, "authorizer", "api_key_revoked"),
        )
        .await?;
        self.api(
            "unknown host",
            "a domain of the API that no policy document describes",
            OTHER_DOMAIN,
            page,
            Some(("authorization", &bearer(&token))),
            expect(403, "authorizer", "destination_unknown"),
        )
        .await?;
        self.api(
            "path trick",
            "a path that a backend might read differently is denied, not guessed",
            API_DOMAIN,
            "/reviews/../admin",
            Some(("authorization", &bearer(&token))),
            expect(403, "authorizer", "path_not_canonical"),
        )
        .await?;

        self.report.heading("Out of a legacy function: the extension speaks for it");
        self.egress_good(&bearer(&token)).await?;
        self.egress(
            "egress to an impostor",
            "a server that has a certificate of the mesh, but not the expected identity",
            DETAILS_URL,
            expect(503, "extension", "peer_identity_mismatch"),
        )
        .await?;
        self.plaintext().await?;

        self.report.heading("In the mesh: Envoy asks the adapter");
        self.mesh(
            "mesh call with an API key",
            "the key that API Gateway accepts is accepted in the mesh",
            key.expose(),
            expect(200, "adapter", "allowed_by_policy"),
        )
        .await?;
        self.mesh(
            "mesh call with a revoked key",
            "and refused there as well",
            revoked.expose(),
            expect(401, "adapter", "api_key_revoked"),
        )
        .await
    }

    /// A token for `client`, by client_credentials with client_secret_basic.
    async fn token(&self, client: &str, more: &str) -> Result<(Answer, String), String> {
        let secret = if client == "reader" { &self.stack.reader_secret } else { &self.stack.auditor_secret };
        let basic = dev::basic_credentials(client, secret.expose());
        let headers = [
            ("host", "issuer.bookinfo.example"),
            ("authorization", basic.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let body = if more.is_empty() {
            "grant_type=client_credentials".to_owned()
        } else {
            format!("grant_type=client_credentials&{more}")
        };
        let answer = send(self.stack.issuer, "POST", "/oauth2/token", &headers, body).await?;
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let token = body["access_token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            return Err(format!("the issuer gave no token to {client}: status {} {}", answer.status, answer.body));
        }
        Ok((answer, token))
    }

    async fn token_issued(&mut self) -> Result<String, String> {
        self.watch.clear();
        let (answer, token) = self.token("reader", "").await?;
        let sent = "POST https://issuer.bookinfo.example/oauth2/token  grant_type=client_credentials  Basic reader:***"
            .to_owned();
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
        let shown = format!(
            "{} {} for {} s, scope {}",
            answer.status,
            body["token_type"].as_str().unwrap_or("?"),
            body["expires_in"],
            body["scope"].as_str().unwrap_or("?")
        );
        self.close(
            "token issued",
            "OAuth client_credentials, an RFC 9068 access token",
            sent,
            (answer.status, shown),
            expect(200, "key-issuer", "token_issued"),
        )
        .await;
        Ok(token)
    }

    async fn api(
        &mut self,
        step: &'static str,
        shows: &'static str,
        domain: &str,
        path: &str,
        credential: Credential<'_>,
        expected: Expected,
    ) -> Result<(), String> {
        self.watch.clear();
        let mut headers = vec![("host", domain)];
        headers.extend(credential);
        let answer = send(self.stack.api, "GET", path, &headers, "").await?;
        let sent = format!("GET https://{domain}{path}{}", shown(credential));
        self.close(step, shows, sent, told(&answer), expected).await;
        Ok(())
    }

    async fn egress_good(&mut self, bearer: &str) -> Result<(), String> {
        self.watch.clear();
        let answer =
            send(self.stack.api, "GET", "/reviews/0", &[("host", API_DOMAIN), ("authorization", bearer)], "").await?;
        let sent = format!("GET https://{API_DOMAIN}/reviews/0; the function then calls {RATINGS_URL} in plain HTTP");
        let mut expected = expect(200, "ratings sidecar", "allowed_by_policy");
        // The function answers 200 either way, as the sample does; stars are there only if ratings answered.
        if !answer.body.contains("Reviewer1") {
            expected.reason = "stars in the answer";
        }
        self.close(
            "egress good",
            "mutual TLS with the function's own identity, and a token of its own",
            sent,
            told(&answer),
            expected,
        )
        .await;
        Ok(())
    }

    async fn egress(
        &mut self,
        step: &'static str,
        shows: &'static str,
        url: &str,
        expected: Expected,
    ) -> Result<(), String> {
        self.watch.clear();
        let answer =
            send(self.stack.proxy, "GET", url, &[("host", "details.bookinfo.svc.cluster.local:9080")], "").await?;
        self.close(step, shows, format!("GET {url} through the extension"), told(&answer), expected).await;
        Ok(())
    }

    async fn plaintext(&mut self) -> Result<(), String> {
        self.watch.clear();
        let host = "ratings.bookinfo.svc.cluster.local:9080";
        let answer = send(self.stack.ratings, "GET", "/ratings/0", &[("host", host)], "").await;
        let told = match answer {
            Ok(answer) => told(&answer),
            Err(_) => (0, "the connection is closed without an answer".to_owned()),
        };
        let sent = "GET /ratings/0 in plain HTTP, straight to the sidecar of ratings".to_owned();
        self.close(
            "plaintext to the mesh",
            "the mesh takes mutual TLS only",
            sent,
            told,
            expect(0, "ratings sidecar", "mtls_required"),
        )
        .await;
        Ok(())
    }

    async fn mesh(
        &mut self,
        step: &'static str,
        shows: &'static str,
        key: &str,
        expected: Expected,
    ) -> Result<(), String> {
        self.watch.clear();
        let headers = [("host", "ratings.bookinfo.svc.cluster.local:9080"), ("x-api-key", key)];
        let answer = send(self.stack.ingress, "GET", "/ratings/0", &headers, "").await?;
        let sent =
            format!("GET http://ratings.bookinfo.svc.cluster.local:9080/ratings/0{}", shown(Some(("x-api-key", key))));
        self.close(step, shows, sent, told(&answer), expected).await;
        Ok(())
    }

    /// Finds what the deciding part has logged, compares, and prints.
    async fn close(
        &mut self,
        step: &'static str,
        shows: &'static str,
        sent: String,
        (status, answer): (u16, String),
        expected: Expected,
    ) {
        let entry = self.watch.entry(expected.by, is_of_a_request).await;
        let reason = entry.as_ref().map_or("nothing logged", watch::word).to_owned();
        let outcome = Outcome {
            step,
            shows,
            sent,
            answer,
            decided_by: expected.by.to_owned(),
            why: entry.as_ref().map_or_else(|| reason.clone(), watch::why),
            expected: format!(
                "{} by {}: {}",
                if expected.status == 0 { "no answer".to_owned() } else { expected.status.to_string() },
                expected.by,
                expected.reason
            ),
            ok: status == expected.status && reason == expected.reason,
        };
        self.report.show(&outcome);
    }
}

/// Whether a log line is about a request of the demo: the extension gets identity and token of its own meanwhile.
fn is_of_a_request(entry: &Value) -> bool {
    match entry["event"].as_str() {
        Some("decision" | "egress" | "connection_refused") => true,
        Some("token_issued") => entry["client_id"] == "reader",
        _ => false,
    }
}

fn told(answer: &Answer) -> (u16, String) {
    let mut text = answer.body.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() > 100 {
        text = text.chars().take(100).chain(['…']).collect();
    }
    let error =
        answer.header("x-causeway-reason").map(|reason| format!(" (x-causeway-reason: {reason})")).unwrap_or_default();
    (answer.status, format!("{} {text}{error}", answer.status))
}

/// A credential as it may be printed.
fn shown(credential: Credential<'_>) -> String {
    match credential {
        None => "  without a credential".to_owned(),
        Some((name, value)) => format!("  {name}: {}…", value.chars().take(14).collect::<String>()),
    }
}
