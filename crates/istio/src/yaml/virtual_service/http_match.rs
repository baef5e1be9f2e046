use std::collections::BTreeMap;

use super::super::check::{dns_label, is_token};
use super::super::labels::labels;
use super::super::nearest::quoted;
use super::super::node::Value;
use super::super::read::{At, Mapping};
use super::super::regex::regex;
use super::gateway_name;
use crate::{HttpMatch, StringMatch};

/// What of a request's line Istio takes among the headers (`pseudoHeaders`).
const PSEUDO: &[&str] = &[":authority", ":method", ":path", ":scheme", ":status"];

/// Where a string stands that is matched: what Istio takes differs.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Of {
    Uri,
    /// `scheme`, `method` and `authority`: every request has one.
    Part,
    Header,
    WithoutHeader,
    Query,
}

pub(super) fn http_match(at: &At<'_>, namespace: &str) -> Option<HttpMatch> {
    at.mapping(&[], |fields| {
        let name = fields.string("name").unwrap_or_default();
        // A name for counters.
        if let Some(at) = fields.field("statPrefix") {
            at.string();
        }
        let uri = string(fields, "uri", Of::Uri);
        let ignore_uri_case = fields.boolean("ignoreUriCase");
        let scheme = string(fields, "scheme", Of::Part);
        let method = string(fields, "method", Of::Part);
        let authority = string(fields, "authority", Of::Part);
        let headers = fields.field("headers").map(|at| headers(&at, Of::Header)).unwrap_or_default();
        let without_headers = fields.field("withoutHeaders");
        let without_headers = without_headers.map(|at| self::headers(&at, Of::WithoutHeader)).unwrap_or_default();
        let query_params = fields.field("queryParams").map(|at| query_params(&at)).unwrap_or_default();
        let port = fields.field("port").and_then(|at| at.port());
        let source_labels = fields.field("sourceLabels").map(|at| labels(&at)).unwrap_or_default();
        let source_namespace = fields.field("sourceNamespace").and_then(|at| dns_label(&at, "a namespace"));
        let gateways = fields.list("gateways", |at| gateway_name(at, namespace)).unwrap_or_default();
        Some(HttpMatch {
            name,
            uri,
            ignore_uri_case,
            scheme,
            method,
            authority,
            headers,
            without_headers,
            query_params,
            port,
            source_labels,
            source_namespace,
            gateways,
        })
    })
}

fn string(fields: &mut Mapping<'_>, name: &'static str, of: Of) -> Option<StringMatch> {
    // Every request has these: the match that is there with whatever value says nothing.
    fields.field(name).and_then(|at| string_match(&at, of)).filter(|found| *found != StringMatch::Present)
}

fn headers(at: &At<'_>, of: Of) -> BTreeMap<String, StringMatch> {
    let mut read = BTreeMap::new();
    for (name, value) in at.entries() {
        if name.starts_with('@') {
            value.error("matching by claims of a token is not supported yet");
            continue;
        }
        if !PSEUDO.contains(&name) && !is_token(name) {
            value.error(format!("expected the name of a header, found {}", quoted(name)));
            continue;
        }
        let Some(found) = string_match(&value, of) else {
            continue;
        };
        if read.insert(name.to_ascii_lowercase(), found).is_some() {
            value.error(format!("the header {} is given twice", quoted(name)));
        }
    }
    read
}

fn query_params(at: &At<'_>) -> BTreeMap<String, StringMatch> {
    let mut read = BTreeMap::new();
    for (name, value) in at.entries() {
        // Envoy's rule for `QueryParameterMatcher.name`.
        if name.is_empty() || name.len() > 1024 {
            value.error("expected the name of a query parameter of 1 to 1024 bytes");
            continue;
        }
        read.extend(string_match(&value, Of::Query).map(|found| (name.to_owned(), found)));
    }
    read
}

/// Istio (`validateStringMatch`, `canBeConvertedToPresentMatch`): `{}` is there with whatever value, and so is the
/// expression `*` of `withoutHeaders`.
fn string_match(at: &At<'_>, of: Of) -> Option<StringMatch> {
    at.mapping(&[], |fields| {
        let given: Vec<_> = ["exact", "prefix", "regex"].into_iter().filter(|name| fields.has(name)).collect();
        let exact = fields.field("exact");
        let prefix = fields.field("prefix");
        let expression = fields.field("regex");
        if let [first, second, ..] = given.as_slice() {
            fields.at.error(format!("`{first}` and `{second}` exclude each other; keep one"));
            return None;
        }
        let empty_is_fine = matches!(of, Of::Header | Of::WithoutHeader | Of::Query);
        if let Some(at) = exact {
            let text = if empty_is_fine { at.string() } else { at.non_empty_string() };
            return text.map(StringMatch::Exact);
        }
        if let Some(at) = prefix {
            // Istio: "uri allows empty prefix match".
            let text = if of == Of::Uri { at.string() } else { at.non_empty_string() };
            return text.map(StringMatch::Prefix);
        }
        match expression {
            None => Some(StringMatch::Present),
            Some(at) if of == Of::WithoutHeader && at.is_star() => Some(StringMatch::Present),
            Some(at) => regex(&at).map(StringMatch::Regex),
        }
    })
}

impl At<'_> {
    /// Whether it is the string `*`, without reading it.
    fn is_star(&self) -> bool {
        matches!(&self.node.value, Value::Scalar(scalar) if scalar.text == "*") && self.is_string()
    }
}
