//! The answer for a person.

use super::answer::{Answer, Outcome, RouteSaid};
use super::leaves::{Condition, MatchSaid};
use super::settings::{DestinationSaid, RetrySaid, TlsSaid, time};

/// Lines, each behind the name of what it says.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, depth: usize, name: &str, text: &str) {
        let indent = " ".repeat(depth * 2);
        let width = 14_usize.saturating_sub(depth * 2);
        self.0.push_str(format!("{indent}{name:<width$}{text}").trim_end());
        self.0.push('\n');
    }

    fn list(&mut self, depth: usize, name: &str, list: &[String]) {
        for (index, text) in list.iter().enumerate() {
            self.line(depth, if index == 0 { name } else { "" }, text);
        }
    }
}

/// All of it.
pub(crate) fn page(answer: &Answer) -> String {
    let mut page = Page::default();
    page.line(0, &format!("{} {}", answer.method, answer.url), "");
    page.line(0, "", "");
    page.line(0, "outcome", &outcome(answer));
    page.line(0, "view", &view(answer));
    if let Some(path) = &answer.normal_path {
        page.line(0, "normal path", path);
    }
    if let Some(host) = &answer.virtual_host {
        page.line(0, "virtual host", host);
    }
    page.list(0, "also at", &answer.listeners);
    for (index, route) in answer.routes.iter().enumerate() {
        routed(&mut page, index, route);
    }
    if answer.outcome == Outcome::Forward {
        forwarded(&mut page, answer);
    }
    if !answer.nearest.is_empty() {
        page.line(0, "nearest", &answer.nearest.join(", "));
    }
    page.list(0, "note", &answer.notes);
    page.0
}

fn outcome(answer: &Answer) -> String {
    let status = answer.done.status.unwrap_or_default();
    let location = answer.done.location.as_deref().unwrap_or_default();
    match answer.outcome {
        Outcome::Forward => "sent on".to_owned(),
        Outcome::Redirect => format!("answered {status}, location {location}"),
        Outcome::DirectResponse => format!("answered {status}"),
        Outcome::PathInvalid => "answered 400 request_invalid: its path has no normal form".to_owned(),
        Outcome::NoRoute => "answered 404: no route of the host takes it".to_owned(),
        Outcome::UnknownHost => {
            "answered 502 unknown_host: no document has this host and port (REGISTRY_ONLY)".to_owned()
        }
        Outcome::PassedOn => {
            "sent on as it is, without identity and token: no document has this host and port (ALLOW_ANY)".to_owned()
        }
    }
}

fn view(answer: &Answer) -> String {
    let namespace = match &answer.view.namespace {
        Some(namespace) => format!("of the namespace {namespace}"),
        None => "of all namespaces without rules of their own".to_owned(),
    };
    let labels: Vec<String> = answer.view.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let labels = if labels.is_empty() { String::new() } else { format!(" for {}", labels.join(",")) };
    format!("{namespace}{labels}, other hosts: {}", answer.view.outbound)
}

fn routed(page: &mut Page, index: usize, route: &RouteSaid) {
    let verdict = if route.matched { "taken" } else { "not taken" };
    page.line(0, &format!("route {}", index + 1), &format!("{}: {verdict}", route.name));
    if route.matches.is_empty() {
        page.line(1, "", "every request");
    }
    for (index, found) in route.matches.iter().enumerate() {
        page.line(1, &format!("match {}", index + 1), &matched(found));
    }
}

/// What holds, where all does, and otherwise what does not.
fn matched(found: &MatchSaid) -> String {
    if found.conditions.is_empty() {
        return "every request".to_owned();
    }
    let said = |condition: &Condition| {
        let found = condition.found.as_ref().map_or("nothing".to_owned(), |found| format!("{found:?}"));
        format!("{} {}, found {found}", condition.field, condition.wanted)
    };
    let (verdict, conditions): (&str, Vec<&Condition>) = if found.matched {
        ("yes", found.conditions.iter().collect())
    } else {
        ("no", found.conditions.iter().filter(|condition| !condition.matched).collect())
    };
    format!("{verdict}: {}", conditions.into_iter().map(said).collect::<Vec<_>>().join("; "))
}

fn forwarded(page: &mut Page, answer: &Answer) {
    let done = &answer.done;
    if let Some(path) = &done.path {
        page.line(0, "path", path);
    }
    if let Some(host) = &done.host {
        page.line(0, "host", host);
    }
    page.list(0, "request", &done.request_headers);
    page.list(0, "answer", &done.response_headers);
    page.list(0, "fault", &done.faults);
    page.line(0, "timeout", &time(done.timeout_ms));
    page.line(0, "retries", &done.retries.as_ref().map_or("off".to_owned(), retries));
    for destination in &done.destinations {
        destined(page, "to", destination);
    }
    for mirror in &done.mirrors {
        destined(page, "copy to", mirror);
    }
}

fn retries(retries: &RetrySaid) -> String {
    let mut said = format!("{}, on {}", retries.attempts, retries.on.join(", "));
    if !retries.statuses.is_empty() {
        let statuses: Vec<String> = retries.statuses.iter().map(u16::to_string).collect();
        said.push_str(&format!(" ({})", statuses.join(", ")));
    }
    if retries.per_try_timeout_ms > 0 {
        said.push_str(&format!("; {} a try", time(retries.per_try_timeout_ms)));
    }
    said.push_str(&format!("; back-off from {}", time(retries.backoff_ms)));
    said.push_str(if retries.avoids_previous_hosts { "; at another endpoint" } else { "; at the same endpoint" });
    if retries.remote_localities {
        said.push_str(", of any priority");
    }
    said
}

fn destined(page: &mut Page, name: &str, destination: &DestinationSaid) {
    page.line(0, name, &format!("{} ({} %)", destination.cluster, (destination.percent * 100.0).round() / 100.0));
    page.list(1, "request", &destination.request_headers);
    page.list(1, "answer", &destination.response_headers);
    page.line(1, "protocol", destination.protocol);
    secured(page, &destination.tls);
    let endpoints: Vec<String> = destination
        .endpoints
        .iter()
        .map(|endpoint| {
            let place = if endpoint.locality.is_empty() { String::new() } else { format!(", {}", endpoint.locality) };
            let weight = endpoint.weight;
            format!("{}:{} (priority {}, weight {weight}{place})", endpoint.address, endpoint.port, endpoint.priority)
        })
        .collect();
    match (destination.resolution, endpoints.is_empty()) {
        ("NONE", _) => page.line(1, "endpoints", "the host that the client named"),
        (_, true) => page.line(1, "endpoints", "none: answered 503"),
        (_, false) => page.list(1, "endpoints", &endpoints),
    }
    page.line(1, "resolution", destination.resolution);
    page.line(1, "balance", &destination.balance);
    page.line(1, "locality", &destination.locality);
    let outlier = if destination.outlier.is_empty() { "off".to_owned() } else { destination.outlier.join(", ") };
    page.line(1, "outlier", &outlier);
    page.line(1, "pool", &destination.pool.join(", "));
}

fn secured(page: &mut Page, tls: &TlsSaid) {
    page.line(1, "tls", if tls.mode == "DISABLE" { "none: plaintext" } else { tls.mode });
    if tls.mode == "DISABLE" {
        return;
    }
    page.line(2, "sni", tls.sni.as_deref().unwrap_or("the request's host"));
    if tls.expected.is_empty() {
        page.line(2, "expected", "the server name");
    }
    page.list(2, "expected", &tls.expected);
    let alpn = if tls.alpn.is_empty() { "the client's".to_owned() } else { tls.alpn.join(", ") };
    page.line(2, "alpn", &alpn);
    if let Some(roots) = &tls.roots {
        page.line(2, "roots", roots);
    }
}
