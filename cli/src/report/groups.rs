//! Decisions, counted by what they have in common.

use std::collections::HashMap;

use serde_json::Value;

use super::lines::{self, Content};

/// Groups that are held; requests of more are counted and not listed. Tests need not fill that many.
pub(super) const MAX_GROUPS: usize = if cfg!(test) { 1_000 } else { 100_000 };

/// Bytes of the texts of all groups together.
pub(super) const MAX_BYTES: usize = if cfg!(test) { 1 << 18 } else { 128 << 20 };

/// Bytes of one text; decision lines have as many.
const MAX_TEXT: usize = 512;

/// Bytes of a time, such as `2026-11-20T12:00:00.000Z`, with room for other ways to write it.
const TS: usize = 40;

/// What became of a request.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) enum Verdict {
    /// Shadow mode let it through.
    WouldDeny,
    /// It was let through, and a dry-run policy would deny it.
    DryRun,
    /// It was denied.
    Denied,
}

impl Verdict {
    pub(super) const ALL: [Self; 3] = [Self::WouldDeny, Self::DryRun, Self::Denied];

    /// The word of `--json`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::WouldDeny => "would_deny",
            Self::DryRun => "dry_run_deny",
            Self::Denied => "denied",
        }
    }
}

/// By what decision lines are counted.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(super) struct Group {
    pub(super) verdict: Verdict,
    pub(super) reason: String,
    /// Istio's id of the rule; empty for none.
    pub(super) policy: String,
    pub(super) principal: String,
    pub(super) client_id: String,
    pub(super) method: String,
    pub(super) host: String,
    pub(super) path: String,
}

impl Group {
    /// Bytes of its texts, and of the two times of its tally.
    fn bytes(&self) -> usize {
        let Self { verdict: _, reason, policy, principal, client_id, method, host, path } = self;
        let texts = [reason, policy, principal, client_id, method, host, path];
        texts.map(String::len).iter().sum::<usize>() + 2 * TS
    }
}

/// A text of a decision line, as far as it is looked at; empty for none.
fn text<'v>(line: &'v Value, name: &str) -> &'v str {
    let text = line.get(name).and_then(Value::as_str).unwrap_or_default();
    let most = if name == "ts" { TS } else { MAX_TEXT };
    text.get(..text.floor_char_boundary(most)).unwrap_or_default()
}

/// How many, and when.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Tally {
    pub(super) count: u64,
    /// The times of the first and the last one, as the lines have them.
    pub(super) first: String,
    pub(super) last: String,
}

impl Tally {
    fn add(&mut self, ts: &str) {
        self.count += 1;
        self.include(ts, ts);
    }

    /// Takes in what another one has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.include(&other.first, &other.last);
    }

    fn include(&mut self, first: &str, last: &str) {
        // RFC 3339 in UTC sorts as text.
        if self.first.is_empty() || (!first.is_empty() && first < self.first.as_str()) {
            first.clone_into(&mut self.first);
        }
        if last > self.last.as_str() {
            last.clone_into(&mut self.last);
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) groups: HashMap<Group, Tally>,
    /// All decisions.
    pub(super) decisions: u64,
    /// Those of each of [`Verdict::ALL`]. A request that was denied or would be may be a dry run's as well.
    pub(super) counts: [u64; 3],
    /// From the first to the last decision.
    pub(super) all: Tally,
    /// Lines without a decision.
    pub(super) skipped: u64,
    /// Lines that say they hold a decision beside those that can be read: cut off, as a rule.
    pub(super) damaged: u64,
    /// Lines that were too long to be read.
    pub(super) overlong: u64,
    /// Requests of groups that are too many, or too long.
    pub(super) ungrouped: u64,
    /// Bytes of the texts of `groups`.
    bytes: usize,
}

impl Report {
    /// Takes a line of a log.
    pub(super) fn add(&mut self, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let content = lines::decisions(line, &mut |decision| self.decision(decision));
        match content {
            Content { is_damaged: true, .. } => self.damaged += 1,
            Content { decisions: 0, .. } => self.skipped += 1,
            Content { .. } => {}
        }
    }

    /// Whether something was left out that may have been a decision.
    pub(super) fn is_partial(&self) -> bool {
        self.damaged > 0 || self.overlong > 0
    }

    /// Requests that are let through and would be denied.
    pub(super) fn would_deny(&self) -> u64 {
        let [would_deny, dry_run, _] = self.counts;
        would_deny + dry_run
    }

    fn decision(&mut self, line: &Value) {
        let text = |name: &str| text(line, name);
        // Some collectors make text of everything.
        let is_true = |value: &Value| value.as_bool() == Some(true) || value.as_str() == Some("true");
        let (allowed, shadow) = (line.get("allowed").is_some_and(is_true), line.get("shadow").is_some());
        self.decisions += 1;
        self.all.add(text("ts"));
        // What is not said to be allowed was not.
        match (allowed, shadow) {
            (_, true) => self.count(Verdict::WouldDeny, text("reason"), text("policy"), line),
            (false, false) => self.count(Verdict::Denied, text("reason"), text("policy"), line),
            (true, false) => {}
        }
        // A dry run says something new only about what the enforced policies let through.
        if allowed && !shadow {
            match (text("dry_run_deny"), text("dry_run_allow")) {
                ("", "denied") => self.count(Verdict::DryRun, "dry_run_allow", "", line),
                ("", _) => {}
                (rule, _) => self.count(Verdict::DryRun, "dry_run_deny", rule, line),
            }
        }
    }

    fn count(&mut self, verdict: Verdict, reason: &str, policy: &str, line: &Value) {
        let text = |name: &str| text(line, name).to_owned();
        let index = Verdict::ALL.iter().position(|known| *known == verdict);
        if let Some(count) = index.and_then(|index| self.counts.get_mut(index)) {
            *count += 1;
        }
        let group = Group {
            verdict,
            reason: reason.to_owned(),
            policy: policy.to_owned(),
            principal: text("principal"),
            client_id: text("client_id"),
            method: text("method"),
            host: text("host"),
            path: text("path"),
        };
        let ts = text("ts");
        if let Some(tally) = self.groups.get_mut(&group) {
            tally.add(&ts);
        } else if self.groups.len() < MAX_GROUPS && self.bytes + group.bytes() <= MAX_BYTES {
            self.bytes += group.bytes();
            self.groups.entry(group).or_default().add(&ts);
        } else {
            self.ungrouped += 1;
        }
    }
}
