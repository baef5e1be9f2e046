//! Why a route did or did not match: each condition judged alone, by the same code that routes requests.

use serde::Serialize;
use traffic::route::Routes;
use traffic::table::{Match, Route, StringMatch, VirtualHost};

use super::question::Question;

/// One of the `match` entries of a route.
#[derive(Debug, Serialize)]
pub(crate) struct MatchSaid {
    /// Whether all of its conditions hold.
    pub(crate) matched: bool,
    /// None matches every request.
    pub(crate) conditions: Vec<Condition>,
}

/// One condition.
#[derive(Debug, Serialize)]
pub(crate) struct Condition {
    /// Such as `uri` or `headers.end-user`.
    pub(crate) field: String,
    /// Such as `prefix "/a"`.
    pub(crate) wanted: String,
    /// What the request has; absent when it has nothing.
    pub(crate) found: Option<String>,
    /// Whether it holds.
    pub(crate) matched: bool,
}

/// The conditions of a match.
pub(crate) fn said(of: &Match, question: &Question) -> MatchSaid {
    let mut conditions = Vec::new();
    let mut add = |field: String, wanted: String, found: Option<String>, alone: Match| {
        conditions.push(Condition { field, wanted, found, matched: holds(alone, question) });
    };
    let path = question.path_and_query.split(['?', '#']).next().unwrap_or_default().to_owned();
    if let Some(uri) = &of.uri {
        let alone = Match { uri: Some(uri.clone()), ignore_uri_case: of.ignore_uri_case, ..Match::default() };
        let case = if of.ignore_uri_case { " without case" } else { "" };
        add("uri".to_owned(), format!("{}{case}", text(uri)), Some(path), alone);
    }
    if let Some(scheme) = &of.scheme {
        let alone = Match { scheme: Some(scheme.clone()), ..Match::default() };
        add("scheme".to_owned(), text(scheme), Some(question.scheme.clone()), alone);
    }
    if let Some(method) = &of.method {
        let alone = Match { method: Some(method.clone()), ..Match::default() };
        add("method".to_owned(), text(method), Some(question.method.to_string()), alone);
    }
    if let Some(authority) = &of.authority {
        let alone = Match { authority: Some(authority.clone()), ..Match::default() };
        add("authority".to_owned(), text(authority), Some(question.authority.clone()), alone);
    }
    for header in &of.headers {
        let alone = Match { headers: vec![header.clone()], ..Match::default() };
        add(format!("headers.{}", header.0), text(&header.1), of_header(question, &header.0), alone);
    }
    for header in &of.without_headers {
        let alone = Match { without_headers: vec![header.clone()], ..Match::default() };
        add(format!("withoutHeaders.{}", header.0), text(&header.1), of_header(question, &header.0), alone);
    }
    for parameter in &of.query {
        let alone = Match { query: vec![parameter.clone()], ..Match::default() };
        let query = question.path_and_query.split_once('?').map(|(_, query)| query.to_owned());
        add(format!("queryParams.{}", parameter.0), text(&parameter.1), query, alone);
    }
    for label in &of.source_labels {
        let own = question.labels.iter().find(|own| own.0 == label.0).map(|own| own.1.clone());
        let alone = Match { source_labels: vec![label.clone()], ..Match::default() };
        add(format!("sourceLabels.{}", label.0), format!("exact {:?}", label.1), own, alone);
    }
    MatchSaid { matched: holds(of.clone(), question), conditions }
}

/// Whether a route with this match alone would take the request.
fn holds(of: Match, question: &Question) -> bool {
    let route = Route { matches: vec![of], action: traffic::table::Action::Direct(answered()), ..Route::default() };
    let host = VirtualHost { routes: vec![route], port: question.port, ..VirtualHost::default() };
    Routes::new(host, &question.labels).is_ok_and(|routes| routes.pick(&question.head()).is_some())
}

fn answered() -> traffic::table::Direct {
    traffic::table::Direct { status: 200, body: Vec::new() }
}

/// The values of a header as they are compared. What proves who somebody is stays out of sight.
fn of_header(question: &Question, name: &str) -> Option<String> {
    const HIDDEN: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];
    let values: Vec<String> = question
        .headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    if values.is_empty() {
        return None;
    }
    Some(if HIDDEN.contains(&name) { "***".to_owned() } else { values.join(",") })
}

fn text(of: &StringMatch) -> String {
    match of {
        StringMatch::Exact(text) => format!("exact {text:?}"),
        StringMatch::Prefix(text) => format!("prefix {text:?}"),
        StringMatch::Regex(text) => format!("regex {text:?}"),
        StringMatch::Present => "present".to_owned(),
    }
}
