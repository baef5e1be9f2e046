//! What is wrong, and what is likely not what was meant: each said once, although many views meet it.

use std::collections::HashSet;

use istio::Meta;

/// Problems and warnings, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: Vec<String>,
    warnings: Vec<String>,
    said: HashSet<String>,
}

impl Report {
    /// A document that cannot be used.
    pub(super) fn error(&mut self, meta: &Meta, kind: &str, problem: &str) {
        self.problem(said(meta, kind, problem));
    }

    /// Something that refuses all of it.
    pub(super) fn problem(&mut self, line: String) {
        if self.said.insert(line.clone()) {
            self.problems.push(line);
        }
    }

    /// A document that works otherwise than one might think.
    pub(super) fn warn(&mut self, meta: &Meta, kind: &str, text: &str) {
        let line = said(meta, kind, text);
        if self.said.insert(line.clone()) {
            self.warnings.push(line);
        }
    }

    /// The warnings, unless there are problems.
    pub(super) fn finish(self) -> Result<Vec<String>, Vec<String>> {
        if self.problems.is_empty() { Ok(self.warnings) } else { Err(self.problems) }
    }
}

fn said(meta: &Meta, kind: &str, text: &str) -> String {
    format!("{}: {kind} {}: {text}", meta.origin, meta.name)
}
