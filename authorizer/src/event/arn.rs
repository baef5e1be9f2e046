//! ARNs of methods and routes: `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`.

use super::refused::Why;
use super::{Seen, required};

/// The longest ARN of a request, in bytes: "method ARN with authorization" (API Gateway quotas).
const MAX_REQUEST_ARN: usize = 1_600;
/// The longest ARN that a policy document may name, in characters.
const MAX_POLICY_ARN: usize = 512;

/// The parts of an ARN that say something of the request.
pub(super) struct Arn<'a> {
    pub(super) api_id: &'a str,
    pub(super) stage: &'a str,
    /// Behind the stage and its slash.
    pub(super) rest: &'a str,
}

impl<'a> Arn<'a> {
    pub(super) fn parse(arn: &'a str) -> Result<Self, Why> {
        let malformed = || Why::event("methodArn or routeArn is not the ARN of an API Gateway method");
        let mut fields = arn.splitn(6, ':');
        let (Some("arn"), Some(_), Some("execute-api"), Some(_), Some(_), Some(resource)) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(malformed());
        };
        let mut parts = resource.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(api_id), Some(stage), Some(rest)) if !api_id.is_empty() && !stage.is_empty() => {
                Ok(Self { api_id, stage, rest })
            }
            _ => Err(malformed()),
        }
    }

    /// Method and path, which begins with a slash.
    pub(super) fn method_and_path(&self) -> Result<(&'a str, &'a str), Why> {
        let no_path = || Why::event("methodArn or routeArn has no path, so that no policy could be about this request");
        let at = self.rest.find('/').ok_or_else(no_path)?;
        Ok(self.rest.split_at(at))
    }

    /// Checks that it is the ARN of this request to an HTTP API: an answer is about the ARN, so it has to be the request that
    /// is judged. Whether the path in it has stage and base path in front, no document says.
    pub(super) fn check_http(
        &self,
        seen: &Seen,
        (method, path): (Option<&str>, &str),
        base_path: &str,
    ) -> Result<(), Why> {
        self.check(seen)?;
        let (own, routed) = self.method_and_path()?;
        if method != Some(own) {
            return Err(Why::disagree("methodArn or routeArn names another method than the request"));
        }
        super::path::check_http(path, routed, &seen.stage, base_path)
    }

    /// Checks that it belongs to the API and stage of the context.
    pub(super) fn check(&self, seen: &Seen) -> Result<(), Why> {
        if self.api_id == seen.api_id && self.stage == seen.stage {
            return Ok(());
        }
        Err(Why::disagree("methodArn or routeArn names another API or stage than requestContext"))
    }
}

/// The ARN of an event, within the limits.
pub(super) fn of_event(arn: Option<String>, field: &str) -> Result<String, Why> {
    required(arn, field, MAX_REQUEST_ARN)
}

/// `arn` if a policy can name exactly it: `*` and `?` in a resource match other requests too, and `${` is a variable.
pub(super) fn nameable(arn: String) -> Result<String, Why> {
    if !arn.starts_with("arn:") || !arn.contains(":execute-api:") {
        return Err(Why::event("methodArn or routeArn is not the ARN of an API Gateway method"));
    }
    let length = arn.chars().count();
    if length > MAX_POLICY_ARN {
        return Err(Why::too_large(format!(
            "an ARN of {length} characters, expected at most {MAX_POLICY_ARN} in a policy"
        )));
    }
    if arn.contains(['*', '?']) || arn.contains("${") {
        return Err(Why::not_canonical("the path contains *, ? or ${, which an IAM policy would take for a pattern"));
    }
    Ok(arn)
}
