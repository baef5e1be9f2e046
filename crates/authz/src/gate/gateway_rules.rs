//! What a gateway denies by rules and providers of its own, whoever asks.

use std::collections::BTreeMap;

use super::{Arrival, ProviderAnswer};
use crate::authenticate::{self, Visible};
use crate::compiled::ArchivedApiGateway;
use crate::custom;
use crate::evaluate::{self, Attributes, Verdict};
use crate::policies::Policies;
use crate::request::Request;

/// The rule of a DENY or CUSTOM policy by which `gateway` denies `request`, if nobody is known to send it. `onward` is what
/// would go on of it.
///
/// The request is looked at as it was sent (so CUSTOM sees it), as it is when authentication finds nobody, and as it would
/// go on: what one of them is denied is denied. Otherwise a header that is taken out would open or close a rule as the
/// client likes.
///
/// Where a credential was refused, what a rule asks about the caller counts as met: he may be the one whom it denies, with a
/// bad credential beside his good one.
pub(super) fn denying(
    policies: &Policies,
    gateway: &ArchivedApiGateway,
    request: &Request,
    onward: &Visible,
    providers: Option<&BTreeMap<String, ProviderAnswer>>,
    is_refused: bool,
) -> Option<String> {
    let arrival = Arrival::at_gateway(gateway, request);
    let applicable = policies.of_workload(arrival.workload);
    let sent = Visible::of(request);
    let bare = authenticate::without_outputs(applicable, sent.clone());
    [&sent, &bare, onward].into_iter().find_map(|visible| {
        let attributes = Attributes { caller_unknown: is_refused, ..arrival.attributes(request, visible, None) };
        let refused = custom::ask(policies, applicable, &attributes, providers).refused.map(|refused| refused.rule);
        refused.or_else(|| match evaluate::evaluate(applicable, &attributes).verdict {
            Verdict::DeniedBy(rule) => Some(rule),
            Verdict::AllowedBy(_) | Verdict::AllowedNoPolicy | Verdict::DeniedNoMatch => None,
        })
    })
}
