//! The texts that a person sees, whole: they are the product. The traces are made by hand; `tests/explain.rs` has real
//! ones.

mod pages;
mod pairs;
mod promises;

use authz::trace::{
    BranchTrace, CredentialOutcome, CredentialTrace, Found, HopTrace, LeafTrace, PolicyTrace, RuleTrace,
};
use authz::{Decision, Deny, Hop, Reason, Request, Trace};
use istio::Resources;

use super::nearest::{self, Again, Retry};
use super::places::Places;
use super::reissue::ClaimEdit;
use super::tokens::{self, tests::unsigned};
use super::{Explained, Verdict, hints, json, render};
use crate::terminal::Style;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.bookinfo.example";
const GATEWAY: &str = "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account";

// ---- what traces are made of

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

fn leaf(field: &str, found: Found, wanted: &[&str], matched: bool) -> LeafTrace {
    let negated = field.starts_with("not");
    LeafTrace { field: field.to_owned(), negated, wanted: texts(wanted), found, matched }
}

fn values(all: &[&str]) -> Found {
    Found::Values(texts(all))
}

fn branch(leaves: Vec<LeafTrace>) -> BranchTrace {
    BranchTrace { matched: leaves.iter().all(|leaf| leaf.matched), leaves }
}

fn rule(index: usize, from: Vec<BranchTrace>, to: Vec<BranchTrace>, when: Vec<LeafTrace>) -> RuleTrace {
    let any = |branches: &[BranchTrace]| branches.is_empty() || branches.iter().any(|branch| branch.matched);
    let matched = any(&from) && any(&to) && when.iter().all(|leaf| leaf.matched);
    RuleTrace { index, matched, unavailable: Vec::new(), from, to, when }
}

fn policy(action: &str, namespace: &str, name: &str, rules: Vec<RuleTrace>) -> PolicyTrace {
    PolicyTrace {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        action: action.to_owned(),
        provider: None,
        dry_run: false,
        applies: true,
        why_not: String::new(),
        rules,
    }
}

fn foreign(action: &str, namespace: &str, name: &str, why_not: &str) -> PolicyTrace {
    PolicyTrace { applies: false, why_not: why_not.to_owned(), ..policy(action, namespace, name, Vec::new()) }
}

fn jwt(outcome: CredentialOutcome, found: usize, reason: Option<Reason>, detail: &str) -> CredentialTrace {
    CredentialTrace {
        kind: "RequestAuthentication".to_owned(),
        namespace: "istio-system".to_owned(),
        name: "bookinfo-issuer".to_owned(),
        rule: 0,
        issuer: ISSUER.to_owned(),
        places: texts(&["header authorization (after \"Bearer \")", "query parameter access_token"]),
        found,
        outcome,
        reason,
        detail: detail.to_owned(),
    }
}

fn hop(hop: Hop, reason: Reason, authentication: Vec<CredentialTrace>, policies: Vec<PolicyTrace>) -> HopTrace {
    let gateway = hop == Hop::Gateway;
    let label = if gateway { ("istio", "ingressgateway") } else { ("app", "reviews") };
    let via = match hop {
        Hop::Gateway => Some("bookinfo/bookinfo"),
        Hop::Destination => Some("reviews.bookinfo.svc.cluster.local"),
        _ => None,
    };
    HopTrace {
        hop,
        namespace: if gateway { "istio-system" } else { "bookinfo" }.to_owned(),
        labels: vec![(label.0.to_owned(), label.1.to_owned())],
        via: via.map(str::to_owned),
        peer: (hop == Hop::Destination).then(|| GATEWAY.to_owned()),
        path: "/admin".to_owned(),
        providers: Vec::new(),
        principal: authentication.iter().any(|rule| rule.outcome == CredentialOutcome::Valid).then(caller),
        authentication,
        policies,
        allowed: matches!(reason, Reason::AllowedByPolicy | Reason::AllowedNoPolicy),
        reason,
    }
}

fn trace(hops: Vec<HopTrace>) -> Trace {
    let mut trace = Trace::default();
    trace.hops.extend(hops);
    trace
}

fn caller() -> String {
    format!("{ISSUER}/client:reader")
}

fn token(exp: u64) -> String {
    unsigned(&format!(
        r#"{{"iss":"{ISSUER}","sub":"client:reader","aud":"bookinfo","scope":"reviews.read","exp":{exp}}}"#
    ))
}

fn request(token: Option<&str>) -> Request {
    let mut headers = vec![("accept".to_owned(), "*/*".to_owned()), ("cookie".to_owned(), "session=s3cret".to_owned())];
    headers.extend(token.map(|token| ("authorization".to_owned(), format!("Bearer {token}"))));
    Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "api.bookinfo.example".to_owned(),
        path: "/admin?page=1".to_owned(),
        headers,
        source: authz::Peer { ip: None, remote_ip: "203.0.113.7".parse().ok(), principal: None },
        ..Request::default()
    }
}

fn resources() -> Resources {
    let policy = |name: &str, rule: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}\n  namespace: bookinfo\nspec:\n  rules:\n  - {rule}\n"
        )
    };
    let text = [
        format!(
            "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata:\n  name: bookinfo-issuer\n  namespace: istio-system\nspec:\n  jwtRules:\n  - issuer: {ISSUER}\n    jwksUri: {ISSUER}/jwks.json\n    audiences: [bookinfo]\n"
        ),
        policy("reviews-viewer", "{to: [{operation: {methods: [GET], paths: [/reviews/*, /health]}}]}"),
        policy("reviews-writer", "{to: [{operation: {methods: [POST], paths: [/reviews/*]}}]}"),
        policy("no-admin", "{to: [{operation: {paths: [/admin]}}]}"),
    ]
    .join("---\n");
    istio::parse(&[istio::SourceFile { name: "access.yaml".to_owned(), text }]).unwrap()
}

/// A gate that allows what `allows` says, and denies the rest.
struct Fake<A, R> {
    allows: A,
    allows_resources: R,
    allows_at: Option<bool>,
}

impl<A: Fn(&Request) -> bool, R: Fn(&Resources) -> bool> Retry for Fake<A, R> {
    fn request(&self, request: &Request) -> Option<Again> {
        Some(again((self.allows)(request)))
    }

    fn resources(&self, edit: &dyn Fn(&mut Resources) -> bool) -> Option<Again> {
        let mut changed = resources();
        edit(&mut changed).then(|| again((self.allows_resources)(&changed)))
    }

    fn at(&self, _: u64) -> Option<Again> {
        self.allows_at.map(again)
    }

    fn token(&self, _: &Request, _: &[ClaimEdit], _: Option<&CredentialTrace>) -> Option<Again> {
        None
    }

    fn keys(&self, _: &str) -> Vec<String> {
        Vec::new()
    }
}

fn again(allowed: bool) -> Again {
    let reason = if allowed { Reason::AllowedByPolicy } else { Reason::DestinationUnknown };
    Again { allowed, words: "then 403 destination_unknown at the gateway".to_owned(), reason, policy: None }
}

/// The whole page for a denial.
fn page(deny: Deny, trace: &Trace, request: &Request, retry: &dyn Retry, all: bool) -> String {
    let decision: Decision = deny.into();
    let verdict = Verdict::of(&decision);
    let resources = resources();
    let places = Places::of(&resources);
    let tokens = tokens::presented(request, &[]);
    let case = nearest::Case {
        verdict: &verdict,
        trace,
        request,
        tokens: &tokens,
        places: &places,
        resources: Some(&resources),
        now: NOW,
        retry,
    };
    let explained = Explained {
        id: "1".into(),
        verdict: &verdict,
        decision: &decision,
        trace,
        request: Some(request),
        answered: None,
        tokens: &tokens,
        key_headers: &[],
        nearest: &nearest::changes(&case),
        hints: &hints::hints(&case),
        places: &places,
        now: NOW,
    };
    let printed = json::line(&explained);
    let text = render::page(&explained, all, Style::plain());
    for shown in [&printed, &text] {
        assert!(!shown.contains("eyJ") && !shown.contains("s3cret"), "{shown}");
    }
    text
}

fn deny(reason: Reason, hop: Hop, policy: Option<&str>, principal: Option<String>) -> Deny {
    Deny { policy: policy.map(str::to_owned), principal, ..Deny::new(reason, hop, "said by the gate") }
}
