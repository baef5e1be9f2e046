//! The text that a person reads.

use authz::trace::{CredentialOutcome, CredentialTrace, HopTrace};
use authz::{Hop, Reason};

use super::nearest::{Change, Outcome};
use super::rules;
use super::{Explained, text};
use crate::terminal::Style;

/// Policies that do not apply to a workload, in all, before they are counted only.
const MAX_FOREIGN: usize = 8;
/// ALLOW rules that are shown leaf by leaf when none matched.
const MAX_NEAREST: usize = 3;

/// The whole text. `all` shows every rule of every policy leaf by leaf.
pub(crate) fn page(explained: &Explained<'_>, all: bool, style: Style) -> String {
    let mut page = Page { out: String::new(), all, style };
    page.verdict(explained);
    page.request(explained);
    let hops = explained.trace.hops.as_slice();
    for (index, hop) in hops.iter().enumerate() {
        page.hop(explained, hop, index, hops.len());
    }
    if explained.verdict.reason == Reason::DestinationUnknown {
        let mark = page.mark(false);
        let title = page.style.bold("hop 2 of 2, no destination");
        page.out.push('\n');
        page.line(0, &format!("{mark} {title}: no route of the gateway takes the host and the path"));
    }
    page.shadow(explained);
    page.nearest(explained.nearest);
    page.hints(explained.hints);
    page.out
}

/// What is written so far.
pub(super) struct Page {
    out: String,
    pub(super) all: bool,
    pub(super) style: Style,
}

impl Page {
    pub(super) fn line(&mut self, indent: usize, text: &str) {
        self.out.push_str(&" ".repeat(indent));
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn heading(&mut self, text: &str) {
        self.out.push('\n');
        let text = self.style.bold(text);
        self.line(0, &text);
    }

    fn field(&mut self, name: &str, value: &str) {
        let name = self.style.dim(&format!("{name:<9}"));
        self.line(2, &format!("{name} {value}"));
    }

    /// ✓ or ✗, in its colour.
    pub(super) fn mark(&self, good: bool) -> String {
        if good { self.style.green("✓") } else { self.style.red("✗") }
    }

    fn verdict(&mut self, explained: &Explained<'_>) {
        let verdict = explained.verdict;
        let word = if verdict.allowed { self.style.green("allowed") } else { self.style.red("denied") };
        let place = match (verdict.hop, explained.trace.hops.last()) {
            (Hop::Request, _) => " before any policy was asked".to_owned(),
            (hop, None) => format!(" at the {hop}"),
            (Hop::Gateway, Some(hop)) => format!(" at the gateway {}", workload(hop)),
            (Hop::Destination, Some(hop)) => {
                let host = hop.via.as_deref().map_or_else(|| workload(hop), text::plain);
                format!(" at the destination {host}")
            }
            (Hop::Workload, Some(hop)) => format!(" at the workload {}", workload(hop)),
        };
        let why = why(explained);
        self.line(0, &format!("{word} {} {}{place}: {why}", verdict.status, verdict.reason));
        if let Some(closest) = rules::closest(explained) {
            self.line(2, &closest);
        }
        if let Some(status) = explained.answered.filter(|status| *status != verdict.status) {
            self.line(2, &format!("API Gateway answers {status}; {} is what Envoy would say", verdict.status));
        }
    }

    fn request(&mut self, explained: &Explained<'_>) {
        let Some(request) = explained.request else { return };
        self.heading("request");
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let url = format!("{}://{}{}", request.scheme, request.host, path);
        self.line(2, &format!("{} {}", text::plain(&request.method), text::plain(&url)));
        if !query.is_empty() {
            let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
            let names: Vec<String> = names.map(str::to_owned).collect();
            self.field("query", &format!("{} (policies see the path without it)", text::values(&names, 6)));
        }
        let caller = match &explained.verdict.principal {
            Some(principal) => text::value(principal),
            None if explained.tokens.is_empty() => "nobody: no credential".to_owned(),
            None => "nobody: no credential was accepted".to_owned(),
        };
        self.field("caller", &caller);
        self.field("peer", &peer(request.source.principal.as_deref()));
        if let Some(ip) = request.source.remote_ip.or(request.source.ip) {
            self.field("client", &ip.to_string());
        }
        if !request.headers.is_empty() {
            let veiled = |name: &str| {
                text::is_credential_header(name) || explained.key_headers.iter().any(|h| h.eq_ignore_ascii_case(name))
            };
            let shown = request.headers.iter().map(|(name, value)| {
                let value = if veiled(name) { text::VEIL.to_owned() } else { text::value(value) };
                format!("{}: {value}", text::plain(name))
            });
            let shown: Vec<String> = shown.collect();
            let most = if self.all { usize::MAX } else { 8 };
            let mut line = shown.iter().take(most).cloned().collect::<Vec<_>>().join("; ");
            if shown.len() > most {
                line.push_str(&format!("; … ({} in all)", shown.len()));
            }
            self.field("headers", &line);
        }
        for token in explained.tokens {
            self.field("presents", &token.describe(explained.now));
        }
    }

    fn hop(&mut self, explained: &Explained<'_>, hop: &HopTrace, index: usize, of: usize) {
        let role = match hop.hop {
            Hop::Gateway => "gateway ",
            Hop::Destination => "destination ",
            Hop::Workload | Hop::Request => "workload ",
        };
        let count = if of > 1 || hop.hop == Hop::Gateway { format!("hop {} of 2, ", index + 1) } else { String::new() };
        let via = hop.via.as_ref().map_or_else(String::new, |via| match hop.hop {
            Hop::Gateway => format!(", for the ApiGateway {}", text::plain(via)),
            _ => format!(", for the host {}", text::plain(via)),
        });
        self.out.push('\n');
        let title = self.style.bold(&format!("{count}{role}{}", workload(hop)));
        let line = format!("{} {title}{via}: {}", self.mark(hop.allowed), hop.reason);
        self.line(0, &line);
        let different = explained.request.is_none_or(|request| request.path.split('?').next() != Some(&hop.path));
        if different {
            self.field("path", &format!("{} (as it is judged here)", text::value(&hop.path)));
        }
        if of > 1 && index > 0 {
            self.field("peer", &peer(hop.peer.as_deref()));
        }
        if of > 1 && hop.principal != explained.verdict.principal {
            let caller = hop.principal.as_deref().map_or_else(|| "nobody".to_owned(), text::value);
            self.field("caller", &caller);
        }
        if !hop.providers.is_empty() {
            let providers = self.style.dim("providers");
            self.line(2, &providers);
        }
        for provider in &hop.providers {
            let mark = if provider.dry_run { "·".to_owned() } else { self.mark(provider.outcome.passes()) };
            let (name, said) = (text::value(&provider.name), rules::provider_said(provider.outcome));
            let dry = if provider.dry_run { ", and only dry-run policies ask it" } else { "" };
            self.line(4, &format!("{mark} {name} {said}{dry}; {} asks it", provider.rule));
        }
        let credentials = self.style.dim("credentials");
        self.line(2, &credentials);
        if rules::is_of_provider(hop.reason) {
            self.line(4, "– not asked: a CUSTOM policy's provider is asked before, and did not let it pass");
        } else if hop.authentication.is_empty() && rules::reads_credentials(hop) {
            self.line(4, "– read here, and the trace does not say by which rule");
        } else if hop.authentication.is_empty() {
            self.line(4, "– no RequestAuthentication and no ApiKeyAuthentication applies to this workload");
        }
        for credential in &hop.authentication {
            self.credential(explained, credential);
        }
        let policies = self.style.dim("policies");
        self.line(2, &policies);
        rules::policies(self, explained, hop, MAX_NEAREST, MAX_FOREIGN);
    }

    fn credential(&mut self, explained: &Explained<'_>, seen: &CredentialTrace) {
        let CredentialTrace { kind, namespace, name, rule, issuer, places, found, outcome, reason, detail } = seen;
        let at = explained.places.find(kind, namespace, name).map_or_else(String::new, |at| format!("  {at}"));
        let index = if kind == "RequestAuthentication" { format!(" jwtRules[{rule}]") } else { String::new() };
        let issuer = match (issuer.is_empty(), kind.as_str()) {
            (true, _) => "any issuer".to_owned(),
            (false, "ApiKeyAuthentication") => format!("keys stand for tokens of {}", text::value(issuer)),
            (false, _) => format!("issuer {}", text::value(issuer)),
        };
        let mark = match outcome {
            CredentialOutcome::Valid => self.mark(true),
            CredentialOutcome::Refused => self.mark(false),
            CredentialOutcome::Absent | CredentialOutcome::NotAsked => "–".to_owned(),
        };
        let at = self.style.dim(&at);
        self.line(4, &format!("{mark} {kind} {namespace}/{name}{index}, {issuer}{at}"));
        let places = places.iter().map(|place| text::plain(place)).collect::<Vec<_>>().join(" and ");
        let count = if *found == 1 { "one".to_owned() } else { found.to_string() };
        let what = match outcome {
            CredentialOutcome::Absent => format!("looked in {places}, found nothing"),
            CredentialOutcome::Valid => format!("looked in {places}, found {count}: {}", text::plain(detail)),
            CredentialOutcome::Refused => {
                let reason = reason.map_or("refused", Reason::as_str);
                format!("looked in {places}, found {count}: {reason}, {}", text::with_times(detail))
            }
            CredentialOutcome::NotAsked => "not asked: a rule before it had settled the matter".to_owned(),
        };
        self.line(6, &what);
    }

    fn shadow(&mut self, explained: &Explained<'_>) {
        if explained.verdict.shadow.is_empty() {
            return;
        }
        self.heading("found by policies that do not decide");
        for line in &explained.verdict.shadow {
            self.line(2, &text::plain(line));
        }
    }

    fn nearest(&mut self, changes: &[Change]) {
        for (outcome, heading) in [
            (Outcome::Allowed, "would be allowed if"),
            (Outcome::PassesRule, "would get past this if"),
            (Outcome::DeniedAfter, "would get past this, and be denied all the same, if"),
        ] {
            let of_kind: Vec<&Change> = changes.iter().filter(|change| change.outcome == outcome).collect();
            if of_kind.is_empty() {
                continue;
            }
            match of_kind.len() {
                1 => self.heading(heading),
                _ => self.heading(&format!("{heading} (one of these is enough)")),
            }
            for change in of_kind {
                let example = change.example.as_ref().map_or_else(String::new, |one| format!("; tried {one}"));
                let then = change.then.as_ref().map_or_else(String::new, |then| format!("; {then}"));
                self.line(2, &format!("• {}{example}{then}", change.text));
            }
        }
    }

    fn hints(&mut self, hints: &[String]) {
        if hints.is_empty() {
            return;
        }
        self.heading("hints");
        for hint in hints {
            self.line(2, &format!("• {hint}"));
        }
    }
}

/// The peer that a workload sees.
fn peer(principal: Option<&str>) -> String {
    principal.map_or_else(|| "none: plaintext, no client certificate".to_owned(), text::value)
}

/// `NAMESPACE (LABEL=VALUE, …)`.
pub(super) fn workload(hop: &HopTrace) -> String {
    let labels: Vec<String> = hop.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if labels.is_empty() {
        format!("{} (no labels)", text::plain(&hop.namespace))
    } else {
        format!("{} ({})", text::plain(&hop.namespace), text::plain(&labels.join(", ")))
    }
}

/// One sentence.
fn why(explained: &Explained<'_>) -> String {
    let verdict = explained.verdict;
    let no_rules = || {
        let hop = explained.trace.hops.last();
        let has_rules = hop.is_none_or(|hop| !super::ranking::allow_rules(hop).is_empty());
        if has_rules {
            "no ALLOW rule matched"
        } else {
            "an ALLOW policy without rules applies, which denies everything"
        }
    };
    match (verdict.reason, &verdict.policy) {
        (Reason::AllowedByPolicy, Some(policy)) => format!("{policy} matched"),
        (Reason::AllowedNoPolicy, _) => "no ALLOW policy applies and no DENY rule matched, so everybody may".to_owned(),
        (Reason::DeniedNoMatch, _) => no_rules().to_owned(),
        (Reason::DeniedByPolicy, Some(policy)) => format!("the DENY rule {policy} matched"),
        (Reason::NoCredential, Some(policy)) => {
            format!("no credential was presented, and the DENY rule {policy} matched")
        }
        (Reason::NoCredential, None) => format!("no credential was presented, and {}", no_rules()),
        // Its sentence names the API and the stage as well, which only an event has.
        (Reason::GatewayUnknown, _) if verdict.detail.contains("the API , stage ,") => {
            let host = explained.request.map_or_else(String::new, |request| text::value(&request.host));
            format!("no ApiGateway document has the host {host} as a domain")
        }
        _ if verdict.detail.is_empty() => "that is all that is known".to_owned(),
        _ => text::with_times(&verdict.detail),
    }
}
