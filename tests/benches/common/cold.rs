//! From the start of a process to its first answer.

use std::process::Command;

use super::Functions;
use super::emulator::Emulated;
use super::figures::{Figures, milliseconds, ratio, spread, table};
use super::runtime_api::{self, Sandbox};

/// Starts of each function.
const STARTS: usize = 30;

/// What is measured: the bare function and one of ours, with the same event.
pub(crate) struct Starts<'a> {
    /// Ours, for the tables.
    pub(crate) name: &'a str,
    pub(crate) functions: Functions<'a>,
    /// What ours reads at its start, for the title.
    pub(crate) reads: &'a str,
    pub(crate) event: &'a str,
    /// What ours does for its answer, for the tables.
    pub(crate) work: &'a str,
    /// A piece of each answer that is as it must be, in turn.
    pub(crate) expected: [&'a str; 2],
    /// What the design asks for, of the start under the emulator.
    pub(crate) goal: Option<f64>,
}

impl Starts<'_> {
    pub(crate) async fn under_emulator(&self) -> Result<(), String> {
        let (mut inits, mut answers) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
        for _ in 0..STARTS {
            for (i, (program, environment)) in self.functions.iter().enumerate() {
                let mut function = Emulated::start(program, environment).await?;
                let (answer, took) = function.invoke(self.event)?;
                self.check(i, &answer).map_err(|why| format!("{why}\n{}", function.log()))?;
                inits[i].push(function.init_report().await?);
                answers[i].push(milliseconds(took));
                function.stop().await?;
            }
        }
        println!("\nCold start under the emulator, {}, {STARTS} starts each in turns", self.reads);
        self.report("`INIT REPORT`, ms", inits, self.goal);
        self.report(&format!("invocation → first answer ({}), ms", self.work), answers, None);
        Ok(())
    }

    /// The same with a runtime API that does nothing: the emulator's own time is not in it.
    pub(crate) fn without_emulator(&self) -> Result<(), String> {
        let [mut starts, mut processor, mut answers] = [const { [const { Vec::new() }; 2] }; 3];
        for _ in 0..STARTS {
            for (i, (program, environment)) in self.functions.iter().enumerate() {
                let mut sandbox = Sandbox::start(&mut Command::new(program), environment)?;
                starts[i].push(milliseconds(sandbox.start));
                processor[i].push(milliseconds(runtime_api::cpu(sandbox.process())));
                let (answer, took) = sandbox.invoke(self.event)?;
                self.check(i, &answer)?;
                answers[i].push(milliseconds(took));
            }
        }
        println!("\nCold start without the emulator, {}, {STARTS} starts each in turns", self.reads);
        self.report("start of the process → first poll, ms", starts, None);
        self.report("processor time until then, ms", processor, None);
        self.report(&format!("first event → answer ({}), ms", self.work), answers, None);
        Ok(())
    }

    fn check(&self, i: usize, answer: &str) -> Result<(), String> {
        if answer.contains(self.expected[i]) {
            return Ok(());
        }
        Err(format!("{}: expected {}, found {answer}", self.functions[i].0.display(), self.expected[i]))
    }

    fn report(&self, what: &str, values: [Vec<f64>; 2], goal: Option<f64>) {
        let figures = values.map(Figures::new);
        let names = ["bare `lambda_runtime`", self.name];
        let mut rows: Vec<Vec<String>> =
            names.iter().zip(&figures).map(|(name, figures)| spread(name, figures)).collect();
        let value = figures[1].median() / figures[0].median();
        let value = goal.map_or_else(|| format!("{value:.2} ×"), |goal| ratio(value, goal));
        rows.push(vec!["ratio of the medians".to_owned(), String::new(), value, String::new()]);
        table(&[what, "min", "median", "max"], &rows);
    }
}
