//! Changes of headers.

use std::collections::BTreeMap;

use istio::HeaderOperations;

use crate::headers::Changes;
use crate::table::{HeaderChanges, HeaderOps};

/// `headers`, with a new Host among them if there is one: that becomes a rewrite when they are used.
pub(super) fn operations(from: &HeaderOperations) -> HeaderOps {
    HeaderOps { request: changes(&from.request), response: changes(&from.response) }
}

/// Whether they can be made.
pub(super) fn check(changes: &HeaderOps) -> Result<(), String> {
    Changes::new(&changes.request).map_err(|problem| format!("request: {problem}"))?;
    Changes::for_response(&changes.response).map_err(|problem| format!("response: {problem}"))?;
    Ok(())
}

fn changes(from: &istio::HeaderChanges) -> HeaderChanges {
    let listed = |headers: &BTreeMap<String, String>| {
        // Documents and the table have values in Envoy's form: there `%%` is a percent sign.
        headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())).collect()
    };
    HeaderChanges {
        set: listed(&from.set),
        add: listed(&from.add),
        remove: from.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}
