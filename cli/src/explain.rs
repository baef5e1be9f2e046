//! `causeway explain`: which policies were looked at, what matched, what did not, and what would have to change.

mod alter;
mod curl;
mod event;
mod hints;
mod input;
mod json;
mod nearest;
mod placement;
mod places;
mod ranking;
mod refusals;
mod reissue;
mod render;
mod rerun;
mod rules;
#[cfg(test)]
mod tests;
mod text;
mod tokens;
mod unknown;
mod wishes;
mod workloads;

use std::process::ExitCode;

use authz::{Decision, DryRunAllow, Hop, Reason, Request, Trace};
use clap::Args;

use crate::session::{Session, SessionArgs};
use crate::terminal::{self, Progress, Style};
use input::{Asked, InputArgs};
use nearest::Change;
use places::Places;
use tokens::Presented;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway explain --config examples/bookinfo --event examples/events/http-2.0.json
  causeway explain --config examples/bookinfo --curl 'curl https://api.bookinfo.example/admin' --json
  causeway explain --config examples/bookinfo --workload bookinfo/app=reviews \\
      --curl \"curl -X POST https://reviews.example/reviews/1 -H 'x-request-id: 1'\"

Examples with files of yours:
  causeway explain --config policies/ --requests denied.json --all
  causeway explain --config mesh.bundle --event event.json

Exit status: 0 explained, whatever the verdict; 1 a request could not be read; 2 a refused configuration or wrong usage.";

/// The options of `causeway explain`.
#[derive(Args, Debug)]
pub(crate) struct Explain {
    #[command(flatten)]
    session: SessionArgs,
    #[command(flatten)]
    input: InputArgs,
    /// Print one JSON object a request: what `evaluate` says, the trace and the nearest changes
    #[arg(long)]
    json: bool,
    /// Show every policy leaf by leaf, and whole lists of values
    #[arg(long)]
    all: bool,
}

/// Whether `line` is a curl command line that is understood.
#[cfg(feature = "fuzzing")]
pub(crate) fn reads_curl(line: &str) -> bool {
    curl::parse(line).is_ok()
}

/// Runs `causeway explain`.
pub(crate) fn run(command: Explain) -> ExitCode {
    let Explain { session, input, json, all } = command;
    let session = match Session::open(&session) {
        Ok(session) => session,
        Err(errors) => return terminal::refused(&errors),
    };
    for warning in &session.loaded.warnings {
        terminal::warn(warning);
    }
    let asked = match input::read(&input, &session) {
        Ok(asked) => asked,
        Err(input::Refused::Usage(why)) => return terminal::refused(&[why]),
        Err(input::Refused::Unreadable(why)) => return terminal::failed(&why),
    };
    let places = session.loaded.resources.as_ref().map(Places::of).unwrap_or_default();
    let style = Style::detect();
    let mut exit = ExitCode::SUCCESS;
    let progress = Progress::beside_results("explaining requests");
    for (index, asked) in asked.into_iter().enumerate() {
        progress.one_more();
        let explained = match asked {
            Ok(asked) => explain(&session, &asked, &places, |explained| {
                if json { json::line(explained) } else { render::page(explained, all, style) }
            }),
            Err(error) => {
                exit = terminal::failed(&error);
                continue;
            }
        };
        if index > 0 && !json {
            terminal::line("");
        }
        terminal::line(explained.trim_end());
    }
    exit
}

/// One request, judged and explained, as it is shown.
fn explain<T>(session: &Session, asked: &Asked, places: &Places, show: impl FnOnce(&Explained<'_>) -> T) -> T {
    let key_headers = session.loaded.resources.as_ref().map(input::key_headers).unwrap_or_default();
    match asked {
        Asked::Request { case, front } => {
            let given = session.given(case);
            let (decision, trace) = authz::explain(&session.loaded.policies, &case.request, &case.target, &given);
            let verdict = Verdict::of(&decision);
            let tokens = tokens::presented(&case.request, &key_headers);
            let retry = rerun::Rerun { session, case, given };
            let case_of = nearest::Case {
                verdict: &verdict,
                trace: &trace,
                request: &case.request,
                tokens: &tokens,
                places,
                resources: session.loaded.resources.as_ref(),
                now: given.now,
                retry: &retry,
            };
            let nearest = nearest::changes(&case_of);
            let hints = hints::hints(&case_of);
            show(&Explained {
                id: serde_json::to_value(&case.id).unwrap_or_default(),
                verdict: &verdict,
                decision: &decision,
                trace: &trace,
                request: Some(&case.request),
                answered: front.then(|| authorizer::response::status(&decision)),
                tokens: &tokens,
                key_headers: &key_headers,
                nearest: &nearest,
                hints: &hints,
                places,
                now: given.now,
            })
        }
        Asked::RefusedByFront { id, decision } => {
            let verdict = Verdict::of(decision);
            let trace = Trace::default();
            let hints = hints::of_front(&verdict);
            show(&Explained {
                id: id.clone().into(),
                verdict: &verdict,
                decision,
                trace: &trace,
                request: None,
                answered: Some(authorizer::response::status(decision)),
                tokens: &[],
                key_headers: &key_headers,
                nearest: &[],
                hints: &hints,
                places,
                now: 0,
            })
        }
    }
}

/// Everything that is shown of one request.
pub(crate) struct Explained<'a> {
    pub(crate) id: serde_json::Value,
    pub(crate) verdict: &'a Verdict,
    pub(crate) decision: &'a Decision,
    pub(crate) trace: &'a Trace,
    /// Absent when the front could not read it.
    pub(crate) request: Option<&'a Request>,
    /// What API Gateway answers its client with, when the request came by an event of it.
    pub(crate) answered: Option<u16>,
    pub(crate) tokens: &'a [Presented],
    /// Headers that hold credentials, by the configuration.
    pub(crate) key_headers: &'a [String],
    pub(crate) nearest: &'a [Change],
    pub(crate) hints: &'a [String],
    pub(crate) places: &'a Places,
    pub(crate) now: u64,
}

/// A decision, without what only the gate can make.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) allowed: bool,
    pub(crate) status: u16,
    pub(crate) reason: Reason,
    pub(crate) hop: Hop,
    pub(crate) policy: Option<String>,
    pub(crate) principal: Option<String>,
    pub(crate) detail: String,
    /// What AUDIT and dry-run policies found, a line each.
    pub(crate) shadow: Vec<String>,
}

impl Verdict {
    fn of(decision: &Decision) -> Self {
        let shadow = decision.shadow();
        let mut lines = Vec::new();
        lines.extend(shadow.audit.as_ref().map(|rule| format!("AUDIT: {rule} matched")));
        lines
            .extend(shadow.dry_run_deny.as_ref().map(|rule| format!("dry run: {rule} would deny if it were enforced")));
        lines.extend(shadow.dry_run_allow.as_ref().map(|said| match said {
            DryRunAllow::AllowedBy(rule) => format!("dry run: {rule} would allow if it were enforced"),
            DryRunAllow::Denied => {
                "dry run: no ALLOW rule of the dry-run policies matched; enforced, they would deny".to_owned()
            }
        }));
        Self {
            allowed: decision.is_allowed(),
            status: decision.status(),
            reason: decision.reason(),
            hop: decision.hop(),
            policy: decision.policy().map(str::to_owned),
            principal: decision.principal().map(str::to_owned),
            detail: match decision {
                Decision::Allow(_) => String::new(),
                Decision::Deny(deny) => deny.detail.clone(),
            },
            shadow: lines,
        }
    }
}
