use std::collections::BTreeSet;

use super::check::is_dns_label;
use super::nearest::quoted;
use super::read::Mapping;
use crate::ExportTo;

/// What a kind may say in `exportTo`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Exported {
    /// A `VirtualService`, or a `DestinationRule` for all clients.
    Rule,
    /// A `DestinationRule` with a selector of clients.
    SelectingRule,
    /// A `ServiceEntry`, which `~` is for too.
    Service,
}

/// `exportTo` of a document in the namespace `own`.
pub(super) fn export_to(fields: &mut Mapping<'_>, own: &str, kind: Exported) -> Vec<ExportTo> {
    let Some(at) = fields.field("exportTo") else {
        return Vec::new();
    };
    let mut words = Vec::new();
    let mut seen = BTreeSet::new();
    for item in at.list().unwrap_or_default() {
        let Some(text) = item.non_empty_string() else {
            continue;
        };
        let word = match text.as_str() {
            "*" => ExportTo::All,
            "." => ExportTo::Own,
            // Istio: "exportTo ~ (none) is not allowed for Istio configuration objects".
            "~" if kind == Exported::Service => ExportTo::Nobody,
            name if is_dns_label(name) => ExportTo::Namespace(name.to_owned()),
            _ => {
                let nobody = if kind == Exported::Service { ", `~`" } else { "" };
                item.error(format!("expected `*`, `.`{nobody} or the name of a namespace, found {}", quoted(&text)));
                continue;
            }
        };
        // Istio: "duplicate entries in exportTo: . and current namespace".
        if !seen.insert(if text == "." { own.to_owned() } else { text.clone() }) {
            item.error(format!("the namespace {} is given twice", quoted(&text)));
        }
        words.push(word);
    }
    // Istio: "cannot have both public (*) and non-public exportTo values for a resource", "cannot export service entry
    // to no one (~) and someone".
    if let Some(alone) = words.iter().find(|word| matches!(word, ExportTo::All | ExportTo::Nobody))
        && words.len() > 1
    {
        let alone = if *alone == ExportTo::All { "*" } else { "~" };
        at.error(format!("expected `{alone}` alone, found it beside others"));
    }
    // Istio: "destination rule with workload selector cannot have exportTo beyond current namespace".
    if kind == Exported::SelectingRule && seen.iter().any(|name| name != own) {
        at.error("a DestinationRule with a `workloadSelector` is for its own namespace; expected `.` alone");
    }
    words
}
