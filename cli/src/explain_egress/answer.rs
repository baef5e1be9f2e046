//! What becomes of a request.

use std::borrow::Cow;

use serde::Serialize;
use traffic::route::{Picked, Routes};
use traffic::table::{AbortStatus, Action, Forward, HeaderChanges, Outbound, Route};
use traffic::{Rules, View};

use super::leaves::{self, MatchSaid};
use super::question::Question;
use super::settings::{self, DestinationSaid, RetrySaid};

/// Names beside the one that is not known.
const MOST_NAMES: usize = 3;

/// How far a name may be from another one to be what was meant: 1 is equal.
const ALIKE: f64 = 0.7;

/// All that there is to say.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// The request.
    pub(crate) method: String,
    pub(crate) url: String,
    /// Whose rules they are.
    pub(crate) view: ViewSaid,
    /// What becomes of it.
    pub(crate) outcome: Outcome,
    /// The path after `pathNormalization`, where that is not the one of the URL: routes and services see it.
    pub(crate) normal_path: Option<String>,
    /// The host and port that have the routes.
    pub(crate) virtual_host: Option<String>,
    /// Listeners of their own where the host is called as well.
    pub(crate) listeners: Vec<String>,
    /// Those that were looked at.
    pub(crate) routes: Vec<RouteSaid>,
    /// What is done with it by the route.
    #[serde(flatten)]
    pub(crate) done: Done,
    /// Hosts that may have been meant, where this one is not known.
    pub(crate) nearest: Vec<String>,
    /// Sentences.
    pub(crate) notes: Vec<String>,
}

/// Whose rules they are.
#[derive(Debug, Serialize)]
pub(crate) struct ViewSaid {
    /// Absent: those of every namespace that has none of its own.
    pub(crate) namespace: Option<String>,
    /// Labels that they are for.
    pub(crate) labels: Vec<(String, String)>,
    /// What becomes of other hosts: `REGISTRY_ONLY` or `ALLOW_ANY`.
    pub(crate) outbound: &'static str,
}

/// What becomes of the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// It is sent on.
    Forward,
    /// It is answered with a redirect.
    Redirect,
    /// It is answered.
    DirectResponse,
    /// No route takes it: 404.
    NoRoute,
    /// Its path has no normal form: 400 `request_invalid`.
    PathInvalid,
    /// The host is not known: 502 `unknown_host`.
    UnknownHost,
    /// The host is not known, and the request is sent on as it is.
    PassedOn,
}

/// A route that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct RouteSaid {
    pub(crate) name: String,
    pub(crate) matched: bool,
    /// None: every request.
    pub(crate) matches: Vec<MatchSaid>,
}

/// What the route does.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Done {
    /// Of the answer, where no service gives it.
    pub(crate) status: Option<u16>,
    pub(crate) location: Option<String>,
    /// What the service sees, where it is not what the client sent.
    pub(crate) path: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) request_headers: Vec<String>,
    pub(crate) response_headers: Vec<String>,
    pub(crate) faults: Vec<String>,
    /// 0 is none.
    pub(crate) timeout_ms: u64,
    pub(crate) retries: Option<RetrySaid>,
    pub(crate) destinations: Vec<DestinationSaid>,
    pub(crate) mirrors: Vec<DestinationSaid>,
}

/// Follows a request through the rules.
///
/// # Errors
/// When the namespace is needed and not given.
pub(crate) fn answer(rules: &Rules, question: &Question) -> Result<Answer, String> {
    let view = rules.view(question.namespace.as_deref(), &question.labels);
    let view = view.map_err(|error| error.replace("set CAUSEWAY_NAMESPACE", "give it with --namespace"))?;
    let (namespace, labels) = view.is_for();
    let outbound = view.outbound();
    let mut answer = Answer {
        method: question.method.to_string(),
        url: question.url.clone(),
        view: ViewSaid {
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()),
            labels,
            outbound: match outbound {
                Outbound::RegistryOnly => "REGISTRY_ONLY",
                Outbound::AllowAny => "ALLOW_ANY",
            },
        },
        outcome: match outbound {
            Outbound::RegistryOnly => Outcome::UnknownHost,
            Outbound::AllowAny => Outcome::PassedOn,
        },
        normal_path: None,
        virtual_host: None,
        listeners: Vec::new(),
        routes: Vec::new(),
        done: Done::default(),
        nearest: Vec::new(),
        notes: Vec::new(),
    };
    if question.scheme == "https" {
        answer.notes.push(
            "the application's own TLS passes through as bytes; routes and headers count where it is ended here alone"
                .to_owned(),
        );
    }
    let Some(index) = view.find(&question.host, question.port) else {
        answer.nearest = nearest(&view, question);
        return Ok(answer);
    };
    let question = match rules.normalize(&question.path_and_query) {
        Ok(path) if path == question.path_and_query => Cow::Borrowed(question),
        Ok(path) => {
            answer.normal_path = Some(path.clone().into_owned());
            Cow::Owned(Question { path_and_query: path.into_owned(), ..question.clone() })
        }
        Err(error) => {
            answer.outcome = Outcome::PathInvalid;
            answer.notes.push(error.to_string());
            return Ok(answer);
        }
    };
    let question = question.as_ref();
    let host = rules.virtual_host(index).ok_or("the virtual host is not there")?;
    answer.virtual_host = Some(format!("{}:{}", host.host, host.port));
    let has_host = |listener: &&traffic::table::Listener| listener.names.iter().any(|name| name.virtual_host == index);
    let listeners = view.listeners();
    let said =
        listeners.iter().filter(has_host).map(|listener| format!("http://{}:{}", listener.address, listener.port));
    answer.listeners = said.collect();
    let all = host.routes.clone();
    let routes = Routes::new(host, &question.labels)?;
    let picked = routes.pick(&question.head());
    let chosen = picked.as_ref().map(|picked| &picked.route.route);
    for route in &all {
        let matched = chosen == Some(route);
        let matches = route.matches.iter().map(|found| leaves::said(found, question)).collect();
        answer.routes.push(RouteSaid { name: route.name.clone(), matched, matches });
        if matched {
            break;
        }
    }
    answer.outcome = Outcome::NoRoute;
    if let Some(picked) = picked {
        (answer.outcome, answer.done) = done(rules, &picked, question)?;
    }
    Ok(answer)
}

fn done(rules: &Rules, picked: &Picked<'_>, question: &Question) -> Result<(Outcome, Done), String> {
    let route = &picked.route.route;
    let mut done = Done {
        request_headers: changes(&route.headers.request),
        response_headers: changes(&route.headers.response),
        faults: faults(route),
        ..Done::default()
    };
    let outcome = match &route.action {
        Action::Redirect(redirect) => {
            done.status = Some(redirect.code);
            done.location = Some(traffic::rewrite::location(redirect, picked, &question.head())?);
            Outcome::Redirect
        }
        Action::Direct(direct) => {
            done.status = Some(direct.status);
            Outcome::DirectResponse
        }
        Action::Forward(forward) => {
            done.path = traffic::rewrite::path_and_query(picked, &question.head())?;
            done.host = picked.route.changes(0).authority().map(str::to_owned);
            done.timeout_ms = route.timeout_ms;
            done.retries = (route.retry.attempts > 0).then(|| settings::retries(&route.retry));
            done.destinations = destinations(rules, forward, question);
            let mirror = |mirror: &traffic::table::Mirror| {
                settings::destination(rules, mirror.cluster, f64::from(mirror.share) / 10_000.0, question)
            };
            done.mirrors = route.mirrors.iter().filter_map(mirror).collect();
            Outcome::Forward
        }
    };
    Ok((outcome, done))
}

fn destinations(rules: &Rules, forward: &Forward, question: &Question) -> Vec<DestinationSaid> {
    let sum: f64 = forward.destinations.iter().map(|destination| f64::from(destination.weight)).sum();
    let mut said = Vec::new();
    for destination in &forward.destinations {
        let share = f64::from(destination.weight) * 100.0 / sum.max(1.0);
        if let Some(mut of) = settings::destination(rules, destination.cluster, share, question) {
            of.request_headers = changes(&destination.headers.request);
            of.response_headers = changes(&destination.headers.response);
            said.push(of);
        }
    }
    said
}

fn changes(of: &HeaderChanges) -> Vec<String> {
    let removed = of.remove.iter().map(|name| format!("remove {name}"));
    let set = of.set.iter().map(|(name, value)| format!("set {name}: {value}"));
    let added = of.add.iter().map(|(name, value)| format!("add {name}: {value}"));
    removed.chain(set).chain(added).collect()
}

fn faults(route: &Route) -> Vec<String> {
    let Some(fault) = &route.fault else { return Vec::new() };
    let percent = |share: u32| f64::from(share) / 10_000.0;
    let delay = fault.delay.map(|(share, ms)| format!("{} % wait {}", percent(share), settings::time(ms)));
    let abort = fault.abort.map(|(share, status)| match status {
        AbortStatus::Http(status) => format!("{} % are answered {status}", percent(share)),
        AbortStatus::Grpc(status) => format!("{} % are answered grpc-status {status}", percent(share)),
    });
    delay.into_iter().chain(abort).collect()
}

/// The host at other ports, and names that look like it.
fn nearest(view: &View, question: &Question) -> Vec<String> {
    let asked = question.host.to_ascii_lowercase();
    let mut known = view.names();
    known.extend(view.wildcards());
    let is_asked = |host: &str, port: u16| {
        let found = view.find(&asked, port);
        found.is_some() && found == view.find(host, port)
    };
    let of_host =
        known.iter().filter(|(host, port)| is_asked(host, *port)).map(|(host, port)| format!("{host}:{port}"));
    let of_host: Vec<String> = of_host.collect();
    if !of_host.is_empty() {
        return of_host.into_iter().take(MOST_NAMES).collect();
    }
    // A short name is compared with as much of the full one.
    let labels = asked.split('.').count();
    let likeness = |host: &str| {
        let short: Vec<&str> = host.split('.').take(labels).collect();
        let whole = strsim::normalized_levenshtein(&asked, host);
        whole.max(strsim::normalized_levenshtein(&asked, &short.join(".")))
    };
    let scored = known.iter().map(|(host, port)| (likeness(host), *port == question.port, format!("{host}:{port}")));
    let mut alike: Vec<(f64, bool, String)> = scored.filter(|(likeness, ..)| *likeness >= ALIKE).collect();
    alike.sort_by(|one, other| other.0.total_cmp(&one.0).then(other.1.cmp(&one.1)));
    alike.into_iter().map(|(.., name)| name).take(MOST_NAMES).collect()
}
