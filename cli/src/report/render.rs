//! A report as a person or a program reads it.

use std::collections::BTreeMap;

use serde_json::json;

use super::groups::{Group, Report, Tally, Verdict};

/// One JSON object a group, the most frequent first, and the sums.
pub(super) fn json(report: &Report) -> Vec<String> {
    let mut groups: Vec<(&Group, &Tally)> = report.groups.iter().collect();
    groups.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
    let mut lines: Vec<String> = groups
        .into_iter()
        .map(|(group, tally)| {
            json!({
                "verdict": group.verdict.as_str(), "reason": group.reason, "policy": group.policy,
                "principal": group.principal, "client_id": group.client_id, "method": group.method,
                "host": group.host, "path": group.path, "count": tally.count, "first": tally.first, "last": tally.last,
            })
            .to_string()
        })
        .collect();
    let [would_deny, dry_run, denied] = report.counts;
    let summary = json!({"summary": {
        "decisions": report.decisions, "would_deny": would_deny, "dry_run_deny": dry_run, "denied": denied,
        "skipped_lines": report.skipped, "damaged_lines": report.damaged, "overlong_lines": report.overlong, "not_listed": report.ungrouped,
        "first": report.all.first, "last": report.all.last,
    }});
    lines.push(summary.to_string());
    lines.into_iter().map(|line| escaped(&line)).collect()
}

/// Who is denied by what, and which requests those are.
#[derive(Default)]
struct Row<'a> {
    tally: Tally,
    requests: Vec<(String, &'a Tally)>,
}

/// For a person: the verdicts, in each the callers and policies with the most requests, and their requests.
pub(super) fn text(report: &Report, top: usize) -> Vec<String> {
    let [would_deny, dry_run, denied] = report.counts;
    let allowed = report.decisions - would_deny - denied;
    let mut lines = vec![format!(
        "{} decisions from {} to {}: {allowed} allowed, {would_deny} let through by shadow mode, {denied} denied; \
         a dry-run policy would deny {dry_run}",
        report.decisions,
        shown(&report.all.first),
        shown(&report.all.last)
    )];
    for verdict in Verdict::ALL {
        let rows = rows(report, verdict);
        if rows.is_empty() {
            continue;
        }
        lines.push(String::new());
        lines.push(
            match verdict {
                Verdict::WouldDeny => "Would be denied, and shadow mode let it through:",
                Verdict::DryRun => "Would be denied by a dry-run policy:",
                Verdict::Denied => "Was denied:",
            }
            .to_owned(),
        );
        for (head, row) in rows.iter().take(top) {
            lines.push(format!("{:>8}  {head}", row.tally.count));
            for (request, tally) in row.requests.iter().take(top) {
                let (first, last) = (shown(&tally.first), shown(&tally.last));
                lines.push(format!("          {:>8}  {request}  {first} … {last}", tally.count));
            }
            lines.extend(more(row.requests.len(), top, "          ", "requests"));
        }
        lines.extend(more(rows.len(), top, "", "callers and policies"));
    }
    lines
}

fn more(count: usize, top: usize, indent: &str, what: &str) -> Option<String> {
    (count > top).then(|| format!("{indent}{:>8}  and {} more {what}: --top, --json", "", count - top))
}

fn rows(report: &Report, verdict: Verdict) -> Vec<(String, Row<'_>)> {
    let mut rows: BTreeMap<String, Row<'_>> = BTreeMap::new();
    for (group, tally) in report.groups.iter().filter(|(group, _)| group.verdict == verdict) {
        let policy = if group.policy.is_empty() { "no policy" } else { &group.policy };
        let caller = match (group.principal.as_str(), group.client_id.as_str()) {
            ("", "") => "a caller who is not proven".to_owned(),
            ("", client) => format!("client {client}"),
            (principal, _) => principal.to_owned(),
        };
        let row = rows.entry(format!("{}, {}: {}", shown(&group.reason), shown(policy), shown(&caller))).or_default();
        row.tally.merge(tally);
        row.requests.push((shown(&format!("{} {}{}", group.method, group.host, group.path)), tally));
    }
    for row in rows.values_mut() {
        row.requests.sort_by(|(a, one), (b, other)| other.count.cmp(&one.count).then_with(|| a.cmp(b)));
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by(|(a, one), (b, other)| other.tally.count.cmp(&one.tally.count).then_with(|| a.cmp(b)));
    rows
}

/// A text of a client's as a terminal may have it.
fn shown(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect()
}

/// JSON as a terminal may have it: it says the same. What is not plain stands in its strings alone.
fn escaped(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match is_plain(c) {
            true => escaped.push(c),
            false => {
                let units = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
                escaped.push_str(&units);
            }
        }
    }
    escaped
}

/// No control character, and none that turns the direction of what follows or that nobody sees.
fn is_plain(c: char) -> bool {
    let is_hidden = matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !is_hidden
}
