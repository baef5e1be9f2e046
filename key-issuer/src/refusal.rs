//! Every way to say no: what the caller is told and, apart from it, what the operator's log is told.

use serde_json::json;

use crate::event::Response;

/// How long a caller is asked to wait when something that we depend on is out, in seconds.
const RETRY_AFTER_SECONDS: u32 = 5;

/// A refused request. The caller learns `error` and `description`; the log learns `detail` too. None of them ever
/// holds a credential or text of the caller's choice.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) error: &'static str,
    pub(crate) description: String,
    pub(crate) detail: Option<String>,
    header: Option<(&'static str, String)>,
}

impl Refusal {
    /// A refusal with its JSON error code.
    pub(crate) fn new(status: u16, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), detail: None, header: None }
    }

    /// RFC 6749 §5.2: "The request is missing a required parameter, includes an unsupported parameter value (other
    /// than grant type), repeats a parameter, includes multiple credentials, utilizes more than one mechanism for
    /// authenticating the client, or is otherwise malformed."
    pub(crate) fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(400, "invalid_request", description)
    }

    /// RFC 6749 §5.2: "If the client attempted to authenticate via the 'Authorization' request header field, the
    /// authorization server MUST respond with an HTTP 401 (Unauthorized) status code and include the
    /// 'WWW-Authenticate' response header field matching the authentication scheme used by the client." Without
    /// the header field 401 is allowed, and RFC 9110 §15.5.2 wants the challenge with it, so it is always both.
    pub(crate) fn invalid_client(description: impl Into<String>) -> Self {
        Self::new(401, "invalid_client", description)
            .with_header("WWW-Authenticate", "Basic realm=\"token endpoint\", charset=\"UTF-8\"")
    }

    /// Something that we depend on does not answer.
    ///
    /// RFC 6749 §5.2 has no code for it; `temporarily_unavailable` and `server_error` are registered for the
    /// authorization endpoint (§4.1.2.1) only because "a 503 Service Unavailable HTTP status code cannot be
    /// returned to the client via an HTTP redirect". Here the status can be sent, so it carries the meaning, and
    /// the body names it with the registered word that means the same.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let refusal = Self::new(503, "temporarily_unavailable", "the issuer cannot do this now; try again later");
        refusal.with_header("Retry-After", RETRY_AFTER_SECONDS.to_string()).with_detail(detail)
    }

    /// A fault of ours, see [`Refusal::unavailable`] for the word.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Self::new(500, "server_error", "the issuer failed; its log says why").with_detail(detail)
    }

    /// Adds what only the log may say.
    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the refusal's own header.
    pub(crate) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.header = Some((name, value.into()));
        self
    }

    /// The answer. RFC 6749 §5.2: "Values for the 'error_description' parameter MUST NOT include characters outside
    /// the set %x20-21 / %x23-5B / %x5D-7E."
    pub(crate) fn response(&self) -> Response {
        if self.error.is_empty() {
            // RFC 6750 §3.1, see `admin::access`.
            let mut response = Response::private_json(self.status, String::new());
            response.headers.extend(self.header.clone());
            return response;
        }
        let description: String = self
            .description
            .chars()
            .map(|c| match c {
                '"' | '\\' => '\'',
                ' '..='~' => c,
                _ => '?',
            })
            .collect();
        let body = json!({"error": self.error, "error_description": description}).to_string();
        let mut response = Response::private_json(self.status, body);
        response.headers.extend(self.header.clone());
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_keep_to_the_character_set() {
        let refusal = Refusal::invalid_request("say \"a\\b\" in\nütf-8");
        assert_eq!(refusal.response().body, r#"{"error":"invalid_request","error_description":"say 'a'b' in??tf-8"}"#);
    }

    #[test]
    fn details_stay_in_the_log() {
        let refusal = Refusal::unavailable("cannot read the secret signing: AccessDenied");
        let response = refusal.response();
        assert!(!response.body.contains("signing"), "{}", response.body);
        assert!(response.headers.contains(&("Retry-After", "5".to_owned())));
    }
}
