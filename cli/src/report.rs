//! `causeway report`: what the decision lines of a log say would be denied, or was, by policy and caller.

mod groups;
mod lines;
mod render;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::terminal;
use groups::{MAX_BYTES, MAX_GROUPS, Report};
use lines::Lines;

pub(crate) const EXAMPLES: &str = "Examples with logs of yours, of which `aws logs tail GROUP --since 7d` and `kubectl logs deploy/adapter` may be two:
  causeway report decisions.log
  causeway report --json authorizer.log adapter.log
  causeway report -   # from standard input

It reads the lines of authorizer and adapter, as they are or inside of what CloudWatch, Insights and container
runtimes put around them. Lines that are no decision are skipped and counted.

Exit status: 0 nothing would be denied that is let through, by shadow mode or for a dry-run policy; 1 something would be;
2 a file cannot be read, as a whole or some of its decisions, or there is no decision in it.";

/// Exit status of something that would be denied.
const WOULD_DENY: u8 = 1;

/// The options of `causeway report`.
#[derive(Args, Debug)]
pub(crate) struct ReportCommand {
    /// Logs; `-` is standard input
    #[arg(required = true, value_name = "FILE|-")]
    files: Vec<PathBuf>,
    /// Print one JSON object a group of requests, and one with the sums at the end
    #[arg(long)]
    json: bool,
    /// Print at most this many callers of each kind, and requests of each caller; --json prints all
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    top: usize,
}

/// Runs `causeway report`.
pub(crate) fn run(command: ReportCommand) -> ExitCode {
    let mut report = Report::default();
    for file in &command.files {
        if let Err(error) = read(file, &mut report) {
            return terminal::refused(&[format!("cannot read {}: {error}", file.display())]);
        }
    }
    for note in notes(&report) {
        terminal::note(&note);
    }
    if report.decisions == 0 {
        // A wrong file must not look like a service that may be enforced.
        let what = "no decision line of the authorizer or the adapter, which have \"event\":\"decision\"";
        return terminal::refused(&[format!("found {what}")]);
    }
    let printed = if command.json { render::json(&report) } else { render::text(&report, command.top) };
    for line in printed {
        terminal::line(&line);
    }
    match report.would_deny() {
        // What could not be read may have been a denial: nobody may enforce by this report.
        0 if report.is_partial() => terminal::refused(&["found lines that cannot be read, see above".to_owned()]),
        0 => ExitCode::SUCCESS,
        _ => ExitCode::from(WOULD_DENY),
    }
}

fn notes(report: &Report) -> Vec<String> {
    let said = [
        (report.skipped, "lines are no decision, and were skipped".to_owned()),
        (report.damaged, "lines say that they are a decision, and cannot be read".to_owned()),
        (report.overlong, format!("lines are longer than {} MiB, and were skipped", lines::MAX_LINE >> 20)),
        (
            report.ungrouped,
            format!(
                "requests are counted, but not listed: there are more than {MAX_GROUPS} groups, or {} MiB of them",
                MAX_BYTES >> 20
            ),
        ),
    ];
    said.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}

fn read(path: &Path, report: &mut Report) -> io::Result<()> {
    let source: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut lines = Lines::new(BufReader::with_capacity(1 << 16, source));
    while let Some(line) = lines.next_line()? {
        match line {
            Some(line) => report.add(line),
            None => report.overlong += 1,
        }
    }
    Ok(())
}
