//! What is wrong with one file.

use std::cell::{Cell, RefCell};

use super::MAX_ERRORS;
use super::node::Position;
use crate::ConfigError;

/// Collects the errors of one file; shared by the readers of all its documents.
pub(super) struct Report<'a> {
    file: &'a str,
    errors: RefCell<Vec<ConfigError>>,
    left_out: Cell<usize>,
    problems: Cell<usize>,
}

impl<'a> Report<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, errors: RefCell::default(), left_out: Cell::new(0), problems: Cell::new(0) }
    }

    pub(super) fn file(&self) -> &str {
        self.file
    }

    pub(super) fn add(&self, position: Position, path: &str, message: impl Into<String>) {
        self.note();
        if self.is_full() {
            self.left_out.set(self.left_out.get() + 1);
            return;
        }
        self.errors.borrow_mut().push(ConfigError {
            file: self.file.to_owned(),
            line: position.line,
            column: position.column,
            path: path.to_owned(),
            message: message.into(),
        });
    }

    /// Counts a problem that has its error already.
    pub(super) fn note(&self) {
        self.problems.set(self.problems.get() + 1);
    }

    /// How many problems were met so far; equal before and after reading something means that it
    /// was read without a problem.
    pub(super) fn problems(&self) -> usize {
        self.problems.get()
    }

    /// Whether further errors are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= MAX_ERRORS
    }

    /// The errors in the order of the file, and how many more there were.
    pub(super) fn into_errors(self) -> (Vec<ConfigError>, usize) {
        let mut errors = self.errors.into_inner();
        errors.sort_by_key(|error| (error.line, error.column));
        (errors, self.left_out.get())
    }
}
