//! What a walk over a rule tells of itself.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Display;

use rkyv::string::ArchivedString;

use crate::compiled::{ArchivedPolicySet, needs};
use crate::trace::{BranchTrace, Found, LeafTrace, RuleTrace};

/// Bytes of a value that was found, at most; the rest is not shown.
const MAX_FOUND_BYTES: usize = 256;

/// Headers that hold credentials whatever the policies say.
const CREDENTIAL_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// What stands for a credential.
const VEIL: &str = "***";

/// Is told what a walk over a rule sees.
pub(super) trait Probe {
    /// Whether everything is looked at, also what cannot change the answer any more.
    const WHOLE: bool;

    /// These attributes, bits of [`needs`], are unavailable and the rule dies of it.
    fn unavailable(&mut self, missing: u16);

    /// One field with values.
    fn leaf<V: Display>(
        &mut self,
        name: Name<'_>,
        negated: bool,
        wanted: &[V],
        found: &dyn Fn() -> Found,
        matched: bool,
    );

    /// The leaves since the last branch were one source or one operation.
    fn end_branch(&mut self, side: Side, matched: bool);
}

/// Where a branch stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    From,
    To,
}

/// Istio's name of a field or of the key of a condition.
#[derive(Clone, Copy)]
pub(super) enum Name<'a> {
    /// The names of a field and of its negation.
    Pair(&'static str, &'static str),
    /// A key.
    Key(&'static str),
    Header(&'a str),
    Claim(&'a [ArchivedString]),
    Metadata(&'a str, &'a [ArchivedString]),
}

impl Name<'_> {
    fn shown(self, negated: bool) -> String {
        let brackets = |path: &[ArchivedString]| path.iter().map(|name| format!("[{name}]")).collect::<String>();
        match self {
            Self::Pair(_, name) if negated => name.to_owned(),
            Self::Pair(name, _) | Self::Key(name) => name.to_owned(),
            Self::Header(name) => format!("request.headers[{name}]"),
            Self::Claim([name]) if *name == *"aud" => "request.auth.audiences".to_owned(),
            Self::Claim([name]) if *name == *"azp" => "request.auth.presenter".to_owned(),
            Self::Claim(path) => format!("request.auth.claims{}", brackets(path)),
            Self::Metadata(filter, path) => format!("experimental.{filter}{}", brackets(path)),
        }
    }
}

/// Is told nothing: the walk ends as soon as its answer is known.
pub(super) struct Silent;

impl Probe for Silent {
    const WHOLE: bool = false;

    fn unavailable(&mut self, _missing: u16) {}

    fn leaf<V: Display>(&mut self, _: Name<'_>, _: bool, _: &[V], _: &dyn Fn() -> Found, _: bool) {}

    fn end_branch(&mut self, _side: Side, _matched: bool) {}
}

/// Writes everything down.
pub(super) struct Recording<'a> {
    veiled: &'a BTreeSet<String>,
    unavailable: Vec<String>,
    from: Vec<BranchTrace>,
    to: Vec<BranchTrace>,
    leaves: Vec<LeafTrace>,
}

impl<'a> Recording<'a> {
    pub(super) fn new(veiled: &'a BTreeSet<String>) -> Self {
        Self { veiled, unavailable: Vec::new(), from: Vec::new(), to: Vec::new(), leaves: Vec::new() }
    }

    /// The trace of the rule that was walked over.
    pub(super) fn finish(self, index: usize, matched: bool) -> RuleTrace {
        let Self { veiled: _, unavailable, from, to, leaves } = self;
        RuleTrace { index, matched, unavailable, from, to, when: leaves }
    }
}

impl Probe for Recording<'_> {
    const WHOLE: bool = true;

    fn unavailable(&mut self, missing: u16) {
        let words = [
            (needs::SOURCE_IP, "source.ip"),
            (needs::REMOTE_IP, "remote.ip"),
            (needs::DESTINATION_IP, "destination.ip"),
            (needs::PORT, "destination.port"),
            (needs::SNI, "connection.sni"),
            (needs::DYNAMIC_METADATA, "experimental.envoy.filters"),
            (needs::HOST, "hosts"),
            (needs::HEADERS, "request.headers"),
            (needs::PRINCIPAL, "source.principal"),
        ];
        let missing = words.into_iter().filter(|(bit, _)| missing & bit != 0);
        self.unavailable = missing.map(|(_, word)| word.to_owned()).collect();
    }

    fn leaf<V: Display>(
        &mut self,
        name: Name<'_>,
        negated: bool,
        wanted: &[V],
        found: &dyn Fn() -> Found,
        matched: bool,
    ) {
        let veil = match name {
            Name::Header(name) if self.veiled.contains(name) => Veil::Whole,
            // A token may stand in the query.
            Name::Header(":path") => Veil::Query,
            _ => Veil::None,
        };
        let found = match found() {
            Found::Values(values) => Found::Values(values.iter().map(|value| veil.over(bounded(value))).collect()),
            other => other,
        };
        self.leaves.push(LeafTrace {
            field: name.shown(negated),
            negated,
            wanted: wanted.iter().map(|value| veil.over(Cow::Owned(value.to_string()))).collect(),
            found,
            matched,
        });
    }

    fn end_branch(&mut self, side: Side, matched: bool) {
        let branch = BranchTrace { matched, leaves: std::mem::take(&mut self.leaves) };
        match side {
            Side::From => self.from.push(branch),
            Side::To => self.to.push(branch),
        }
    }
}

/// How much of a value is not shown.
#[derive(Clone, Copy)]
enum Veil {
    None,
    Query,
    Whole,
}

impl Veil {
    fn over(self, value: Cow<'_, str>) -> String {
        match self {
            Self::None => value.into_owned(),
            Self::Query => match value.split_once('?') {
                Some((path, _)) => format!("{path}?{VEIL}"),
                None => value.into_owned(),
            },
            // That anything will do is no secret.
            Self::Whole if value == "*" => value.into_owned(),
            Self::Whole => VEIL.to_owned(),
        }
    }
}

/// The value, cut off where it is longer than is shown.
fn bounded(value: &str) -> Cow<'_, str> {
    if value.len() <= MAX_FOUND_BYTES {
        return Cow::Borrowed(value);
    }
    let end = (0..=MAX_FOUND_BYTES).rev().find(|at| value.is_char_boundary(*at)).unwrap_or_default();
    Cow::Owned(format!("{}…", value.get(..end).unwrap_or_default()))
}

/// The headers whose values are not shown: those of credentials, and all that the policies read one from.
pub(super) fn veiled_headers(set: &ArchivedPolicySet) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = CREDENTIAL_HEADERS.iter().map(|name| (*name).to_owned()).collect();
    for namespace in set.namespaces.iter() {
        let rules = namespace.request_authentications.iter().flat_map(|authentication| authentication.rules.iter());
        let tokens = rules.flat_map(|rule| rule.headers.iter()).map(|header| header.name.as_str());
        let keys = namespace.api_key_authentications.iter().map(|authentication| authentication.header_name.as_str());
        names.extend(tokens.chain(keys).map(str::to_owned));
    }
    names
}
