//! The IAM door: which requests carry a caller that AWS has authenticated, and who that is.
//!
//! `requestContext.authorizer.iam` is only as good as the event: whoever may call `lambda:InvokeFunction` can write
//! one. So it counts at the configured API and Function URL ids alone, and the function's own policy must admit
//! nobody but those.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::event::Request;
use crate::refusal::Refusal;

/// An IAM role, without the path that it may have: the ARN of a role's session does not carry it, and role names
/// are unique in an account whatever their path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleArn(String);

/// Why a text is not a role's ARN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected arn:PARTITION:iam::ACCOUNT:role/NAME, without the role's path")]
pub struct InvalidRoleArn;

impl RoleArn {
    /// The role of an assumed-role session: `arn:aws:sts::ACCOUNT:assumed-role/NAME/SESSION`. `None` for every other
    /// kind of caller (users, federated users, the root user), which have no place in the registry.
    fn of_session(caller: &str) -> Option<Self> {
        let (partition, account, resource) = split_arn(caller, "sts")?;
        let mut parts = resource.strip_prefix("assumed-role/")?.split('/');
        let (name, session) = (parts.next()?, parts.next()?);
        let whole = parts.next().is_none() && is_iam_name(session, 64);
        (whole && is_iam_name(name, 64)).then(|| Self(format!("arn:{partition}:iam::{account}:role/{name}")))
    }

    /// The account's twelve digits.
    fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

impl FromStr for RoleArn {
    type Err = InvalidRoleArn;

    fn from_str(text: &str) -> Result<Self, InvalidRoleArn> {
        let (_, _, resource) = split_arn(text, "iam").ok_or(InvalidRoleArn)?;
        let name = resource.strip_prefix("role/").ok_or(InvalidRoleArn)?;
        if is_iam_name(name, 64) { Ok(Self(text.to_owned())) } else { Err(InvalidRoleArn) }
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which door a request came through, and with whom.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// Nothing is known of the caller. `iam_ignored` says that the event claimed an IAM identity which does not count.
    Public { iam_ignored: bool },
    /// API Gateway has asked for a certificate of the client, and this is what it showed.
    Mtls(ClientCertificate),
    /// AWS has authenticated a session of this role.
    Iam(RoleArn),
}

/// The certificate that a client showed at the mTLS door, in DER. API Gateway checked it against the domain's truststore.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificate(pub(crate) Vec<u8>);

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({} bytes)", self.0.len())
    }
}

impl Door {
    /// The door's name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Door::Public { .. } => "public",
            Door::Mtls(_) => "mtls",
            Door::Iam(_) => "iam",
        }
    }
}

/// Finds the door of a request; `ids` are the APIs and Function URLs that authenticate by IAM.
pub(crate) fn door(request: &Request, ids: &[String]) -> Result<Door, Refusal> {
    let authorizer = request.unverified_authorizer.as_ref();
    let iam = authorizer.and_then(|a| a.get("iam")).filter(|iam| !iam.is_null());
    if !ids.contains(&request.api_id) {
        return Ok(Door::Public { iam_ignored: iam.is_some() });
    }
    let refused = |detail: &str| {
        Refusal::new(403, "access_denied", "this door takes callers that AWS IAM has authenticated").with_detail(detail)
    };
    let iam = iam
        .ok_or_else(|| refused("the event has no requestContext.authorizer.iam: is the authorization type AWS_IAM?"))?;
    let text = |name: &str| iam.get(name).and_then(Value::as_str).unwrap_or_default();
    let role = RoleArn::of_session(text("userArn"))
        .ok_or_else(|| refused("userArn is no assumed-role session; users and root are not supported"))?;
    if role.account() != text("accountId") {
        return Err(refused("accountId and userArn name different accounts"));
    }
    Ok(Door::Iam(role))
}

/// Partition, account and resource of an ARN of `service` without a Region.
fn split_arn<'a>(arn: &'a str, service: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let mut parts = arn.splitn(6, ':');
    let (prefix, partition, found) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = prefix == "arn"
        && (partition == "aws" || partition.starts_with("aws-"))
        && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        && found == service
        && region.is_empty()
        && account.len() == 12
        && account.bytes().all(|b| b.is_ascii_digit());
    whole.then_some((partition, account, resource))
}

/// IAM's names of roles and sessions: `[\w+=,.@-]`.
fn is_iam_name(name: &str, max: usize) -> bool {
    (1..=max).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn sessions_become_roles() {
        for (caller, role) in [
            ("arn:aws:sts::123456789012:assumed-role/reviews/fn-1", Some("arn:aws:iam::123456789012:role/reviews")),
            (
                "arn:aws-us-gov:sts::123456789012:assumed-role/a+b=c,d.e@f-g_h/s",
                Some("arn:aws-us-gov:iam::123456789012:role/a+b=c,d.e@f-g_h"),
            ),
            ("", None),
            ("arn:aws:sts::123456789012:assumed-role/reviews", None),
            ("arn:aws:sts::123456789012:assumed-role//s", None),
            ("arn:aws:sts::123456789012:assumed-role/reviews/", None),
            ("arn:aws:sts::123456789012:assumed-role/path/reviews/s", None),
            ("arn:aws:sts::123456789012:assumed-role/rev iews/s", None),
            ("arn:aws:sts::12345678901:assumed-role/reviews/s", None),
            ("arn:aws:sts::12345678901x:assumed-role/reviews/s", None),
            ("arn:aws:sts:eu-west-1:123456789012:assumed-role/reviews/s", None),
            ("arn:aws:iam::123456789012:assumed-role/reviews/s", None),
            ("arn:aws:iam::123456789012:role/reviews", None),
            ("arn:aws:iam::123456789012:user/alice", None),
            ("arn:aws:iam::123456789012:root", None),
            ("arn:aws:sts::123456789012:federated-user/alice", None),
            ("arn:evil:sts::123456789012:assumed-role/reviews/s", None),
            ("xarn:aws:sts::123456789012:assumed-role/reviews/s", None),
        ] {
            let found = RoleArn::of_session(caller).map(|role| role.to_string());
            assert_eq!(found.as_deref(), role, "{caller}");
        }
    }

    #[test]
    fn role_arns_of_the_registry() {
        assert!("arn:aws:iam::123456789012:role/reviews".parse::<RoleArn>().is_ok());
        for bad in [
            "arn:aws:iam::123456789012:role/path/reviews",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:user/reviews",
            "arn:aws:sts::123456789012:assumed-role/reviews/s",
            "arn:aws:iam::*:role/reviews",
            "arn:aws:iam::123456789012:role/*",
        ] {
            assert_eq!(bad.parse::<RoleArn>(), Err(InvalidRoleArn), "{bad}");
        }
    }

    fn request(api_id: &str, authorizer: Value) -> Request {
        Request::try_from(json!({
            "version": "2.0", "rawPath": "/v1/svid", "headers": {},
            "requestContext": {"apiId": api_id, "http": {"method": "POST"}, "authorizer": authorizer},
        }))
        .unwrap()
    }

    #[test]
    fn identity_counts_at_configured_doors_only() {
        let ids = ["url1".to_owned()];
        let iam = json!({"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/reviews/s", "accountId": "123456789012"}});
        let role: RoleArn = "arn:aws:iam::123456789012:role/reviews".parse().unwrap();
        assert_eq!(door(&request("url1", iam.clone()), &ids).unwrap(), Door::Iam(role));
        assert_eq!(door(&request("other", iam.clone()), &ids).unwrap(), Door::Public { iam_ignored: true });
        assert_eq!(door(&request("url1", iam), &[]).unwrap(), Door::Public { iam_ignored: true });
        assert_eq!(door(&request("other", json!(null)), &ids).unwrap(), Door::Public { iam_ignored: false });
    }

    #[test]
    fn an_iam_door_without_a_role_is_closed() {
        let ids = ["url1".to_owned()];
        for authorizer in [
            json!(null),
            json!({}),
            json!({"iam": null}),
            json!({"iam": {}}),
            json!({"iam": "arn:aws:sts::123456789012:assumed-role/reviews/s"}),
            json!({"iam": {"userArn": "arn:aws:iam::123456789012:user/alice", "accountId": "123456789012"}}),
            json!({"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/reviews/s"}}),
            json!({"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/reviews/s", "accountId": "999999999999"}}),
            json!({"jwt": {"claims": {"iam": {}}}}),
        ] {
            let refusal = door(&request("url1", authorizer.clone()), &ids).unwrap_err();
            assert_eq!((refusal.status, refusal.error), (403, "access_denied"), "{authorizer}");
        }
    }
}
