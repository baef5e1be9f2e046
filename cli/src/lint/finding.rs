//! What lint found, and where.

use std::fmt;

use istio::Meta;
use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know.
    Info,
    /// Likely not what was meant.
    Warning,
    /// Can never work, or opens what was meant to be closed.
    Error,
}

impl Severity {
    /// The word of the output.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that lint can find, and all that its documentation says. The name never changes its meaning.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Code {
    /// Kebab case, stable.
    pub(crate) name: &'static str,
    /// The severity of its findings unless one says otherwise.
    pub(crate) severity: Severity,
    /// One line: what is found.
    pub(crate) what: &'static str,
    /// Why that is likely not what was meant.
    pub(crate) why: &'static str,
    /// What to write.
    pub(crate) instead: &'static str,
    /// YAML in which it is found; `apiVersion` is left out.
    pub(crate) wrong: &'static str,
    /// The same, written as `instead` says, in which it is not found.
    pub(crate) right: &'static str,
}

/// One finding.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// Stable name of what was found.
    pub(crate) code: &'static str,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// File of the document; empty when no document is to blame.
    pub(crate) file: String,
    /// Line of the document's first field, counted from 1; 0 when no document is to blame.
    pub(crate) line: u32,
    /// `KIND NAMESPACE/NAME`.
    pub(crate) resource: String,
    /// Path of the field inside the document; empty for the document.
    pub(crate) path: String,
    /// What was found and what it does.
    pub(crate) message: String,
    /// What to write.
    pub(crate) instead: String,
}

impl fmt::Display for Finding {
    /// `FILE:LINE: SEVERITY[CODE] RESOURCE: PATH: MESSAGE; INSTEAD`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, severity, file, line, resource, path, message, instead } = self;
        if *line > 0 {
            write!(f, "{file}:{line}: ")?;
        }
        write!(f, "{}[{code}] {resource}: ", severity.as_str())?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "{message}; {instead}")
    }
}

/// A field of a document.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) kind: &'static str,
    pub(super) meta: &'a Meta,
    pub(super) path: String,
}

impl<'a> Place<'a> {
    pub(super) fn new(kind: &'static str, meta: &'a Meta, path: impl Into<String>) -> Self {
        Self { kind, meta, path: path.into() }
    }
}

/// The findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    /// With the code's own severity.
    pub(super) fn add(
        &mut self,
        code: &'static Code,
        place: Place<'_>,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        self.add_as(code, code.severity, place, message, instead);
    }

    /// With another severity than the code's own, because of what surrounds the place.
    pub(super) fn add_as(
        &mut self,
        code: &'static Code,
        severity: Severity,
        place: Place<'_>,
        message: impl Into<String>,
        instead: impl Into<String>,
    ) {
        let Place { kind, meta, path } = place;
        self.list.push(Finding {
            code: code.name,
            severity,
            file: meta.origin.file.clone(),
            line: meta.origin.line,
            resource: format!("{kind} {}/{}", meta.namespace, meta.name),
            path,
            message: message.into(),
            instead: instead.into(),
        });
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    /// By file and line; what concerns one document stays in the order of the checks.
    pub(super) fn sorted(self) -> Vec<Finding> {
        let mut list = self.list;
        list.sort_by(|a, b| (&a.file, a.line, &a.resource).cmp(&(&b.file, b.line, &b.resource)));
        let mut sorted: Vec<Finding> = Vec::with_capacity(list.len());
        for finding in list {
            if !sorted
                .iter()
                .rev()
                .take_while(|other| other.resource == finding.resource)
                .any(|other| *other == finding)
            {
                sorted.push(finding);
            }
        }
        sorted
    }
}
