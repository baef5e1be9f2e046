//! `causeway explain-egress`: where a workload's request would go and why, without sending anything.

mod answer;
mod leaves;
mod page;
mod question;
mod settings;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::configuration;
use crate::terminal;
use question::{Question, QuestionArgs};

pub(crate) const EXAMPLES: &str = "Examples:
  causeway explain-egress --config examples/bookinfo http://ratings.bookinfo.svc.cluster.local:9080/ratings/1
  causeway explain-egress --config examples/bookinfo --namespace bookinfo --labels app=reviews,version=v2 \\
      --header 'end-user: jason' http://reviews:9080/
  causeway explain-egress --config examples/bookinfo --locality eu-central-1/euc1-az1 --namespace bookinfo \\
      --json http://ratings:9080/

Nothing is sent and no name is looked up.

Exit status: 0 explained, whatever becomes of the request; 2 a refused configuration or wrong usage.";

/// The options of `causeway explain-egress`.
#[derive(Args, Debug)]
pub(crate) struct ExplainEgress {
    /// YAML files, folders of them, or one bundle; may be given several times
    #[arg(long = "config", required = true, num_args = 1.., value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Skip documents of this kind, although they could change a route; may be given several times
    #[arg(long, value_name = "KIND")]
    allow_ignored: Vec<String>,
    #[command(flatten)]
    question: QuestionArgs,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `causeway explain-egress`.
pub(crate) fn run(command: ExplainEgress) -> ExitCode {
    let ExplainEgress { mut paths, allow_ignored, mut question, json } = command;
    // `--config a b URL` takes the URL for a path.
    let is_url = |path: &mut PathBuf| path.to_str().is_some_and(|text| text.contains("://"));
    if question.url.is_none() && paths.len() > 1 {
        question.url = paths.pop_if(is_url).and_then(|path| path.to_str().map(str::to_owned));
    }
    match explained(&paths, &allow_ignored, &question) {
        Ok((answer, warnings)) => {
            for warning in &warnings {
                terminal::warn(warning);
            }
            let text = if json { serde_json::to_string(&answer).unwrap_or_default() } else { page::page(&answer) };
            terminal::line(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(errors) => terminal::refused(&errors),
    }
}

fn explained(
    paths: &[PathBuf],
    allow_ignored: &[String],
    arguments: &QuestionArgs,
) -> Result<(answer::Answer, Vec<String>), Vec<String>> {
    let question = Question::of(arguments).map_err(|error| vec![error])?;
    let (rules, warnings) = configuration::egress(paths, allow_ignored)?;
    let answer = answer::answer(&rules, &question).map_err(|error| vec![error])?;
    Ok((answer, warnings))
}
