//! The one line that is written for every decision.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use authz::{Decision, DryRunAllow, Mode, Request, Shadow};
use serde::Serialize;

use crate::clock::rfc3339;
use crate::metrics::{DecisionMetrics, Emf, micros};
use crate::trace_id::Traces;

/// The most bytes of one value in a decision line.
const MAX_LOGGED: usize = 512;

/// What a decision line says besides the decision.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// The request, if it could be read.
    pub request: Option<&'a Request>,
    /// The status that the client gets.
    pub status: u16,
    /// Id of the API, empty in the mesh.
    pub api_id: &'a str,
    /// Stage of the API, empty in the mesh.
    pub stage: &'a str,
    /// The front's id of the request.
    pub request_id: &'a str,
    /// From the arrival of the request to its decision.
    pub latency: Duration,
}

#[derive(Serialize)]
pub(crate) struct Line<'a> {
    ts: String,
    event: &'static str,
    allowed: bool,
    /// Allowed by shadow mode alone: `reason`, `policy` and `detail` say why it would have been denied.
    #[serde(skip_serializing_if = "is_false")]
    shadow: bool,
    status: u16,
    reason: &'static str,
    policy: Option<&'a str>,
    principal: Option<&'a str>,
    client_id: Option<&'a str>,
    method: &'a str,
    path: &'a str,
    host: &'a str,
    api_id: &'a str,
    stage: &'a str,
    hop: &'static str,
    mode: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    xray_trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_deny: Option<&'a str>,
    /// The rule that would allow, or `denied`.
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run_allow: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    latency_us: u64,
    #[serde(flatten)]
    metrics: Option<DecisionMetrics<'a>>,
}

impl<'a> Line<'a> {
    /// The line of a decision, which makes metrics where `emf` says whose they are.
    pub(crate) fn of(
        decision: &'a Decision,
        seen: &Seen<'a>,
        mode: Mode,
        now: SystemTime,
        emf: Option<&'a Emf>,
    ) -> Self {
        let denial = match decision {
            Decision::Allow(allow) => allow.would_deny(),
            Decision::Deny(deny) => Some(deny),
        };
        // Who would have been denied may have been proven, and yet not vouched for.
        let (principal, client_id) = match denial {
            Some(deny) => (deny.principal.as_deref(), deny.client_id.as_deref()),
            None => (decision.principal(), decision.client_id()),
        };
        let traces = seen.request.map(|request| Traces::of(&request.headers)).unwrap_or_default();
        let Shadow { audit, dry_run_deny, dry_run_allow } = decision.shadow();
        Self {
            ts: rfc3339(now),
            event: "decision",
            allowed: decision.is_allowed(),
            shadow: decision.would_deny().is_some(),
            status: seen.status,
            reason: decision.reason().as_str(),
            policy: decision.policy().map(shortened),
            principal: principal.map(shortened),
            client_id: client_id.map(shortened),
            method: shortened(seen.request.map_or("", |request| &request.method)),
            // The query may hold a token.
            path: shortened(seen.request.map_or("", |request| before(&request.path, &['?', '#']))),
            host: shortened(seen.request.map_or("", |request| &request.host)),
            api_id: shortened(seen.api_id),
            stage: shortened(seen.stage),
            hop: decision.hop().as_str(),
            mode: mode.as_str(),
            request_id: shortened(seen.request_id),
            trace_id: traces.id,
            xray_trace_id: traces.x_ray,
            audit: audit.as_deref().map(shortened),
            dry_run_deny: dry_run_deny.as_deref().map(shortened),
            dry_run_allow: dry_run_allow.as_ref().map(|allow| match allow {
                DryRunAllow::AllowedBy(rule) => shortened(rule),
                DryRunAllow::Denied => "denied",
            }),
            detail: shortened(denial.map_or("", |deny| &deny.detail)),
            latency_us: micros(seen.latency),
            metrics: emf.map(|emf| emf.decision(decision, seen.latency, now)),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_false(value: &bool) -> bool {
    !value
}

fn before<'a>(text: &'a str, ends: &[char]) -> &'a str {
    text.split(ends).next().unwrap_or_default()
}

/// A line is for people, who need no more, and its length must not be a client's choice.
fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_LOGGED)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::UNIX_EPOCH;

    use authz::{Deny, Hop, PathHandling, Peer, Reason, Unknown};
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::tests::check_emf;

    fn request() -> Request {
        Request {
            method: String::new(),
            scheme: String::new(),
            host: String::new(),
            path: String::new(),
            path_handling: PathHandling::AsSent,
            headers_joined: false,
            headers: Vec::new(),
            source: Peer::default(),
            destination_ip: None,
            destination_port: None,
            sni: None,
            client_certificate: None,
            dynamic_metadata: None,
            unknown: Unknown::default(),
        }
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        let long = "é".repeat(MAX_LOGGED);
        assert_eq!(shortened(&long).len(), MAX_LOGGED);
        assert_eq!(shortened(&format!("x{long}")).len(), MAX_LOGGED - 1);
        assert_eq!(shortened("short"), "short");
    }

    #[test]
    fn what_is_not_enforced_stands_in_the_line_when_there_is_something() {
        let seen = Seen {
            request: None,
            status: 403,
            api_id: "",
            stage: "",
            request_id: "",
            latency: Duration::from_micros(1),
        };
        let line = |deny: Deny, mode| {
            serde_json::to_value(Line::of(&Decision::Deny(deny), &seen, mode, UNIX_EPOCH, None)).unwrap()
        };
        let plain = Deny::new(Reason::DeniedNoMatch, Hop::Gateway, "");
        let found = line(plain.clone(), Mode::Strict);
        assert_eq!(found["mode"], "strict");
        for field in ["audit", "dry_run_deny", "dry_run_allow"] {
            assert!(found.get(field).is_none(), "{field}");
        }
        let shadow = |dry_run_allow| Shadow {
            audit: Some("a".to_owned()),
            dry_run_deny: Some("d".to_owned()),
            dry_run_allow: Some(dry_run_allow),
        };
        let found = line(Deny { shadow: Box::new(shadow(DryRunAllow::Denied)), ..plain.clone() }, Mode::Istio);
        assert_eq!(found["mode"], "istio");
        assert_eq!([&found["audit"], &found["dry_run_deny"], &found["dry_run_allow"]], ["a", "d", "denied"]);
        let long = DryRunAllow::AllowedBy("x".repeat(MAX_LOGGED + 1));
        let found = line(Deny { shadow: Box::new(shadow(long)), ..plain }, Mode::Istio);
        assert_eq!(found["dry_run_allow"].as_str().unwrap().len(), MAX_LOGGED);
    }

    #[test]
    fn the_trace_of_a_request_stands_in_its_line() {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let x_ray = "Root=1-5759e988-bd862e3fe1be46a994272793";
        let with = Request {
            headers: vec![header("traceparent", traceparent), header("x-amzn-trace-id", x_ray)],
            ..request()
        };
        let line = |request: &Request| {
            let seen = Seen {
                request: Some(request),
                status: 403,
                api_id: "",
                stage: "",
                request_id: "",
                latency: Duration::ZERO,
            };
            let decision = Decision::Deny(Deny::new(Reason::DeniedNoMatch, Hop::Gateway, ""));
            serde_json::to_value(Line::of(&decision, &seen, Mode::Strict, UNIX_EPOCH, None)).unwrap()
        };
        let found = line(&with);
        assert_eq!(found["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(found["xray_trace_id"], "5759e988bd862e3fe1be46a994272793");
        let found = line(&request());
        assert!(found.get("trace_id").is_none() && found.get("xray_trace_id").is_none(), "{found}");
    }

    #[test]
    fn metrics_are_part_of_the_line() {
        let emf = Emf::new("authorizer", Some("dev"));
        let now = UNIX_EPOCH + Duration::from_millis(1_795_176_000_123);
        let seen = Seen {
            request: None,
            status: 403,
            api_id: "api",
            stage: "$default",
            request_id: "1",
            latency: Duration::from_micros(412),
        };
        for reason in Reason::ALL {
            let decision = Decision::Deny(Deny::new(*reason, Hop::Gateway, ""));
            let text = |emf| serde_json::to_string(&Line::of(&decision, &seen, Mode::Strict, now, emf)).unwrap();
            let (with, without) = (text(Some(&emf)), text(None));
            assert_eq!(check_emf(&with).unwrap(), ["Decisions", "Denied", "Latency"]);
            // What docs/runbook.md says about the cost of a line: nothing in it is a client's choice.
            assert_eq!(with.len() - without.len(), 362);
            let line: Value = serde_json::from_str(&with).unwrap();
            assert_eq!([&line["Decisions"], &line["Denied"], &line["Latency"]], [1, 1, 412]);
            assert_eq!(line["_aws"]["Timestamp"], 1_795_176_000_123_u64);
            assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Namespace"], "Causeway");
            let dimensions = json!([["service", "environment"], ["service", "environment", "reason"]]);
            assert_eq!(line["_aws"]["CloudWatchMetrics"][0]["Dimensions"], dimensions);
            assert_eq!(
                [&line["service"], &line["environment"], &line["reason"]],
                ["authorizer", "dev", reason.as_str()]
            );
            // The line is the same but for them.
            let mut rest = line;
            for name in ["_aws", "service", "environment", "Decisions", "Denied", "Latency"] {
                assert!(rest.as_object_mut().unwrap().remove(name).is_some());
            }
            assert_eq!(rest, serde_json::from_str::<Value>(&without).unwrap());
        }
    }

    #[test]
    fn the_longest_line_is_bounded() {
        let long = "\u{1}".repeat(70_000);
        let request = Request { method: long.clone(), path: long.clone(), host: long.clone(), ..request() };
        let shadow = Shadow {
            audit: Some(long.clone()),
            dry_run_deny: Some(long.clone()),
            dry_run_allow: Some(DryRunAllow::AllowedBy(long.clone())),
        };
        let deny = Deny { shadow: Box::new(shadow), ..Deny::new(Reason::Internal, Hop::Request, long.clone()) };
        let decision = Decision::Deny(deny);
        let seen = Seen {
            request: Some(&request),
            status: 403,
            api_id: &long,
            stage: &long,
            request_id: &long,
            latency: Duration::MAX,
        };
        let emf = Emf::new("authorizer", Some("dev"));
        let line = Line::of(&decision, &seen, Mode::Istio, UNIX_EPOCH, Some(&emf));
        let text = serde_json::to_string(&line).unwrap();
        check_emf(&text).unwrap();
        // Ten texts, each byte of which takes six at most as JSON.
        assert!((10 * 6 * MAX_LOGGED..10 * 6 * MAX_LOGGED + 2_000).contains(&text.len()), "{}", text.len());
    }
}
