//! What the demo prints: for each request what was sent, the answer, who decided and why.

use serde::Serialize;

use crate::terminal::{Style, line};

/// One request of the demo and what came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// Its name.
    pub(super) step: &'static str,
    /// What it shows, in one sentence.
    pub(super) shows: &'static str,
    /// What was sent, credentials shortened.
    pub(super) sent: String,
    /// What came back.
    pub(super) answer: String,
    /// The program that decided.
    pub(super) decided_by: String,
    /// Its reason word, and the words around it.
    pub(super) why: String,
    /// What had to come back.
    pub(super) expected: String,
    /// Whether it did.
    pub(super) ok: bool,
}

/// Prints outcomes as they come, for a person or as one JSON object a line.
#[derive(Debug)]
pub(super) struct Report {
    json: bool,
    style: Style,
    total: usize,
    shown: usize,
    wrong: usize,
}

impl Report {
    /// A report of `total` outcomes.
    pub(super) fn new(json: bool, total: usize) -> Self {
        Self { json, style: Style::detect(), total, shown: 0, wrong: 0 }
    }

    /// Words between the steps; left out for machines.
    pub(super) fn say(&self, text: &str) {
        if !self.json {
            line(text);
        }
    }

    /// A heading between the steps.
    pub(super) fn heading(&self, text: &str) {
        self.say(&format!("\n{}", self.style.bold(text)));
    }

    /// Shows one outcome.
    pub(super) fn show(&mut self, outcome: &Outcome) {
        self.shown += 1;
        self.wrong += usize::from(!outcome.ok);
        if self.json {
            match serde_json::to_string(outcome) {
                Ok(text) => line(&text),
                Err(error) => line(&format!("{{\"error\":\"{error}\"}}")),
            }
            return;
        }
        let style = self.style;
        let mark = if outcome.ok { style.green("ok") } else { style.red("WRONG") };
        line(&format!(
            "\n{:>2}/{} {}  {}  {}",
            self.shown,
            self.total,
            mark,
            style.bold(outcome.step),
            style.dim(outcome.shows)
        ));
        for (label, text) in [
            ("sent", &outcome.sent),
            ("answer", &outcome.answer),
            ("decided by", &outcome.decided_by),
            ("why", &outcome.why),
        ] {
            line(&format!("      {}  {text}", style.dim(&format!("{label:>10}"))));
        }
        if !outcome.ok {
            line(&format!("      {}  {}", style.red("  expected"), outcome.expected));
        }
    }

    /// The last line. True if every outcome was as it must be, and none is missing.
    pub(super) fn close(&self) -> bool {
        let right = self.wrong == 0 && self.shown == self.total;
        let summary = format!("{} of {} came out as they must", self.shown - self.wrong, self.total);
        if self.json {
            line(&serde_json::json!({"summary": summary, "ok": right}).to_string());
        } else {
            let summary = if right { self.style.green(&summary) } else { self.style.red(&summary) };
            line(&format!("\n{summary}"));
        }
        right
    }
}
