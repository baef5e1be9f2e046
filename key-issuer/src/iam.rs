//! The doors: which requests carry a caller that AWS has authenticated, by IAM or by a client certificate, and who that
//! is.
//!
//! `requestContext` is only as good as the event: whoever may call `lambda:InvokeFunction` can write one. So what it
//! says of a caller counts at the configured API and Function URL ids alone, and the function's own policy must admit
//! nobody but those. API Gateway asks for a certificate at a custom domain only, so the default endpoint of the API
//! behind the mTLS door must be disabled.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::certificate::ClientCertificate;
use crate::config::Config;
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
    /// Nothing is known of the caller.
    Public,
    /// API Gateway has asked for a certificate of the client, and this is what it showed.
    Mtls(ClientCertificate),
    /// AWS has authenticated a session of this role.
    Iam(RoleArn),
}

impl Door {
    /// The door's name in the log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Door::Public => "public",
            Door::Mtls(_) => "mtls",
            Door::Iam(_) => "iam",
        }
    }
}

/// What an event says of its caller at a door where it means nothing: the event is forged, or the configuration lacks
/// an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ignored {
    /// An IAM identity.
    pub(crate) iam: bool,
    /// A client certificate.
    pub(crate) certificate: bool,
}

/// What is ignored of this request.
pub(crate) fn ignored(request: &Request, config: &Config) -> Ignored {
    Ignored {
        iam: iam_identity(request).is_some() && !config.iam_door_ids.contains(&request.api_id),
        certificate: request.unverified_client_certificate.is_some() && !config.mtls_door_ids.contains(&request.api_id),
    }
}

/// Finds the door of a request; `now` is in seconds since 1970.
///
/// # Errors
/// When a door that authenticates its callers has not: 403 `access_denied`, or 401 `invalid_client` for a certificate
/// that is missing or not valid now.
pub(crate) fn door(request: &Request, config: &Config, now: u64) -> Result<Door, Refusal> {
    if config.iam_door_ids.contains(&request.api_id) {
        return role(request).map(Door::Iam);
    }
    if config.mtls_door_ids.contains(&request.api_id) {
        return certificate(request, config, now).map(Door::Mtls);
    }
    Ok(Door::Public)
}

fn iam_identity(request: &Request) -> Option<&Value> {
    let authorizer = request.unverified_authorizer.as_ref();
    authorizer.and_then(|a| a.get("iam")).filter(|iam| !iam.is_null())
}

fn role(request: &Request) -> Result<RoleArn, Refusal> {
    let refused = |detail: &str| {
        Refusal::new(403, "access_denied", "this door takes callers that AWS IAM has authenticated").with_detail(detail)
    };
    let iam = iam_identity(request)
        .ok_or_else(|| refused("the event has no requestContext.authorizer.iam: is the authorization type AWS_IAM?"))?;
    let text = |name: &str| iam.get(name).and_then(Value::as_str).unwrap_or_default();
    let role = RoleArn::of_session(text("userArn"))
        .ok_or_else(|| refused("userArn is no assumed-role session; users and root are not supported"))?;
    if role.account() != text("accountId") {
        return Err(refused("accountId and userArn name different accounts"));
    }
    Ok(role)
}

fn certificate(request: &Request, config: &Config, now: u64) -> Result<ClientCertificate, Refusal> {
    let host = config.mtls_host().unwrap_or_default();
    // RFC 4343: names of hosts have no case.
    if host.is_empty() || !request.domain_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(host)) {
        let refusal = Refusal::new(403, "access_denied", "this door has another host");
        return Err(refusal
            .with_detail("the API behind the mTLS domain was called by another name: disable its default endpoint"));
    }
    // RFC 8705 §2: "If no certificate is presented, or that which is presented doesn't match that which is expected for
    // the given client_id, the authorization server returns a normal OAuth 2.0 error response [...] with the
    // invalid_client error code".
    let refused =
        |detail: &str| Refusal::invalid_client("this door takes clients with a valid certificate").with_detail(detail);
    let pem = request
        .unverified_client_certificate
        .as_deref()
        .ok_or_else(|| refused("the event has no client certificate: has the domain a truststore?"))?;
    ClientCertificate::from_pem(pem, now).map_err(refused)
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

    fn config(iam: &str, mtls: Option<&str>) -> Config {
        let mut env = platform::env::MapEnv::from([
            ("CAUSEWAY_ISSUER", "https://issuer.bookinfo.example"),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_REGISTRY", "[]"),
            ("CAUSEWAY_IAM_DOOR_IDS", iam),
        ]);
        if let Some(ids) = mtls {
            env = env.with("CAUSEWAY_MTLS_DOOR_IDS", ids).with("CAUSEWAY_MTLS_ISSUER", "https://mtls.bookinfo.example");
        }
        Config::from_env(&env).unwrap()
    }

    const NOW: u64 = 1_893_456_000;

    #[test]
    fn identity_counts_at_configured_doors_only() {
        let iam = json!({"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/reviews/s", "accountId": "123456789012"}});
        let role: RoleArn = "arn:aws:iam::123456789012:role/reviews".parse().unwrap();
        let (url1, url2) = (config("url1", None), config("url2", Some("mtls1")));
        let none = Ignored { iam: false, certificate: false };
        for (id, authorizer, config, expected, expected_ignored) in [
            ("url1", iam.clone(), &url1, Some(Door::Iam(role)), none),
            ("other", iam.clone(), &url1, Some(Door::Public), Ignored { iam: true, ..none }),
            ("url1", iam.clone(), &url2, Some(Door::Public), Ignored { iam: true, ..none }),
            ("mtls1", iam, &url2, None, Ignored { iam: true, ..none }),
            ("other", json!(null), &url1, Some(Door::Public), none),
        ] {
            let request = request(id, authorizer);
            assert_eq!(door(&request, config, NOW).ok(), expected, "{id}");
            assert_eq!(ignored(&request, config), expected_ignored, "{id}");
        }
    }

    #[test]
    fn a_certificate_counts_at_configured_doors_and_their_host_only() {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = time::OffsetDateTime::from_unix_timestamp(i64::try_from(NOW).unwrap()).unwrap();
        let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let certificate = || Some(pem.clone());
        let config = config("url1", Some("mtls1"));
        let found = |id: &str, host: Option<&str>, pem: Option<String>, now: u64| {
            let mut request = request(id, json!(null));
            request.domain_name = host.map(str::to_owned);
            request.unverified_client_certificate = pem;
            let door = door(&request, &config, now);
            (door.map(|door| door.name()).map_err(|r| (r.status, r.error)), ignored(&request, &config).certificate)
        };
        let (host, denied, invalid) = (Some("mtls.bookinfo.example"), (403, "access_denied"), (401, "invalid_client"));
        let default_endpoint = Some("mtls1.execute-api.eu-central-1.amazonaws.com");
        assert_eq!(found("mtls1", host, certificate(), NOW), (Ok("mtls"), false));
        assert_eq!(found("mtls1", Some("MTLS.bookinfo.example"), certificate(), NOW), (Ok("mtls"), false));
        assert_eq!(found("mtls1", host, certificate(), NOW + 1), (Err(invalid), false));
        assert_eq!(found("mtls1", host, None, NOW), (Err(invalid), false));
        assert_eq!(found("mtls1", host, Some(String::new()), NOW), (Err(invalid), false));
        assert_eq!(found("mtls1", host, Some("nonsense".to_owned()), NOW), (Err(invalid), false));
        assert_eq!(found("mtls1", default_endpoint, certificate(), NOW), (Err(denied), false));
        assert_eq!(found("mtls1", None, certificate(), NOW), (Err(denied), false));
        assert_eq!(found("public1", host, certificate(), NOW), (Ok("public"), true));
        assert_eq!(found("url1", host, certificate(), NOW), (Err(denied), true));
    }

    #[test]
    fn an_iam_door_without_a_role_is_closed() {
        let config = config("url1", None);
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
            let refusal = door(&request("url1", authorizer.clone()), &config, NOW).unwrap_err();
            assert_eq!((refusal.status, refusal.error), (403, "access_denied"), "{authorizer}");
        }
    }
}
