//! Shadow mode: what would be denied is written down and passes, at named workloads and for a time that ends by itself.
//!
//! It is how a service is migrated: until it is enforced, the callers that a policy would deny are seen and not hurt.
//! [`overlook`](crate::gate::overlook) is the one place that heeds it.

use crate::compiled::{ArchivedLabel, ArchivedNamespace};
use crate::hops;
use crate::policies::{Policies, Workload};

/// The farthest that the end may lie ahead, in seconds: 90 days. A shadow mode that is forgotten is an open door.
pub const MAX_AHEAD: u64 = 90 * 86_400;

/// Workloads that one shadow mode may name.
pub const MAX_WORKLOADS: usize = 64;

/// Where shadow mode is on, and until when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ShadowMode {
    scopes: Vec<Scope>,
    until: u64,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Scope {
    Every,
    Namespace(String),
    Labelled { namespace: String, name: String, value: String },
}

impl ShadowMode {
    /// Shadow mode at `workloads` until the second `until` (since 1970), from which on everything is enforced.
    ///
    /// `workloads` is `*`, or a list with commas between of `NAMESPACE` (all of its workloads) and
    /// `NAMESPACE/LABEL=VALUE` (those with the label).
    ///
    /// # Errors
    /// The rule that `workloads` breaks.
    pub fn new(workloads: &str, until: u64) -> Result<Self, String> {
        if workloads.trim() == "*" {
            return Ok(Self { scopes: vec![Scope::Every], until });
        }
        let scopes = workloads.split(',').map(|text| scope(text.trim())).collect::<Result<Vec<_>, _>>()?;
        if scopes.len() > MAX_WORKLOADS {
            return Err(format!("{} workloads, expected at most {MAX_WORKLOADS}", scopes.len()));
        }
        Ok(Self { scopes, until })
    }

    /// The same with an end that is `seconds` earlier.
    #[must_use]
    pub fn ending_earlier(self, seconds: u64) -> Self {
        Self { until: self.until.saturating_sub(seconds), ..self }
    }

    /// The first second at which everything is enforced.
    pub fn until(&self) -> u64 {
        self.until
    }

    /// Where it is on, as [`new`](Self::new) takes it.
    pub fn workloads(&self) -> String {
        self.scopes.iter().map(Scope::to_string).collect::<Vec<_>>().join(",")
    }

    /// The places, as [`new`](Self::new) takes them, that `policies` do not know: no API is such a gateway, no route leads
    /// there, and no document is for such a workload. A misspelt name, as a rule; but a workload may have labels of which
    /// the documents do not speak.
    pub fn unknown(&self, policies: &Policies) -> Vec<String> {
        self.scopes.iter().filter(|scope| !scope.is_known(policies)).map(Scope::to_string).collect()
    }

    /// Whether it is on at `now`, in seconds since 1970. It is off as well where the end lies farther ahead than
    /// [`MAX_AHEAD`]: a clock that was set back must not make it longer.
    pub fn is_on(&self, now: u64) -> bool {
        self.until.checked_sub(now).is_some_and(|left| (1..=MAX_AHEAD).contains(&left))
    }

    /// Whether it is on at `workload`. A request without a destination is only covered where everything is.
    pub(crate) fn covers(&self, workload: Option<Workload<'_>>) -> bool {
        self.scopes.iter().any(|scope| match workload {
            None => *scope == Scope::Every,
            Some(workload) => scope.covers(workload),
        })
    }
}

impl Scope {
    fn covers(&self, workload: Workload<'_>) -> bool {
        match self {
            Self::Every => true,
            Self::Namespace(namespace) => workload.namespace == namespace,
            Self::Labelled { namespace, name, value } => {
                workload.namespace == namespace && workload.labels.get(name) == Some(value.as_str())
            }
        }
    }

    fn is_known(&self, policies: &Policies) -> bool {
        let mut routed = policies.archived_api_gateways().flat_map(hops::workloads);
        let by_document = match self {
            Self::Every => true,
            Self::Namespace(namespace) => policies.namespace(namespace).is_some(),
            // A selector in the root namespace is for the workloads of every namespace.
            Self::Labelled { namespace, name, value } => {
                let places = [policies.namespace(namespace), policies.namespace(policies.root_namespace())];
                let is_meant = |label: &ArchivedLabel| label.name == name.as_str() && label.value == value.as_str();
                places.into_iter().flatten().flat_map(selected).any(is_meant)
            }
        };
        by_document || routed.any(|workload| self.covers(workload))
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Every => f.write_str("*"),
            Self::Namespace(namespace) => f.write_str(namespace),
            Self::Labelled { namespace, name, value } => write!(f, "{namespace}/{name}={value}"),
        }
    }
}

/// The labels that documents of a namespace select workloads by.
fn selected(namespace: &ArchivedNamespace) -> impl Iterator<Item = &ArchivedLabel> {
    let policies = [&namespace.deny, &namespace.allow, &namespace.audit, &namespace.custom];
    let policies = policies.into_iter().flat_map(|policies| policies.iter()).map(|policy| &policy.selector);
    let tokens = namespace.request_authentications.iter().map(|one| &one.selector);
    let keys = namespace.api_key_authentications.iter().map(|one| &one.selector);
    let peers = namespace.peer_authentications.iter().map(|one| &one.selector);
    policies.chain(tokens).chain(keys).chain(peers).flat_map(|selector| selector.iter())
}

fn scope(text: &str) -> Result<Scope, String> {
    let expected = || format!("expected *, or NAMESPACE or NAMESPACE/LABEL=VALUE with commas between, found {text:?}");
    let is_name = |name: &str, more: &[u8]| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || more.contains(&byte);
        !name.is_empty() && name.len() <= 253 && name.bytes().all(known)
    };
    let namespace_of = |namespace: &str| is_name(namespace, &[]).then(|| namespace.to_owned()).ok_or_else(expected);
    // A label's name may have a prefix with a slash of its own, such as app.kubernetes.io/name.
    let Some((namespace, label)) = text.split_once('/') else { return Ok(Scope::Namespace(namespace_of(text)?)) };
    let (name, value) = label.split_once('=').ok_or_else(expected)?;
    if !is_name(name, b"._/") || !is_name(value, b"._") {
        return Err(expected());
    }
    let (namespace, name, value) = (namespace_of(namespace)?, name.to_owned(), value.to_owned());
    Ok(Scope::Labelled { namespace, name, value })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::policies::Labels;

    #[test]
    fn where_it_is_on() {
        let labels = [("app", "reviews"), ("app.kubernetes.io/name", "r")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        let workload = Some(Workload { namespace: "shop", labels: Labels::Given(&labels) });
        for (text, covered, without) in [
            ("*", true, true),
            ("shop", true, false),
            ("orders, shop", true, false),
            ("orders", false, false),
            ("sho", false, false),
            ("shop/app=reviews", true, false),
            ("shop/app=review", false, false),
            ("shop/version=reviews", false, false),
            ("orders/app=reviews", false, false),
            ("shop/app.kubernetes.io/name=r", true, false),
        ] {
            let mode = ShadowMode::new(text, 1).unwrap();
            assert_eq!((mode.covers(workload), mode.covers(None)), (covered, without), "{text}");
            assert_eq!(mode.workloads(), text.replace(' ', ""));
        }
        let many = vec!["a"; MAX_WORKLOADS + 1].join(",");
        for text in ["", ",", "shop,", "*,shop", "shop/app", "shop/=x", "shop/app=", "/app=x", "sh op", "shop=x", &many]
        {
            assert!(ShadowMode::new(text, 1).is_err(), "{text}");
        }
    }

    #[test]
    fn when_it_is_on() {
        let until = 2_000_000_000;
        let mode = ShadowMode::new("*", until).unwrap();
        for (now, on) in [
            (until - 1, true),
            (until, false),
            (until + 1, false),
            (u64::MAX, false),
            (until - MAX_AHEAD, true),
            (until - MAX_AHEAD - 1, false),
            (0, false),
        ] {
            assert_eq!(mode.is_on(now), on, "{now}");
        }
        assert!(!mode.clone().ending_earlier(1).is_on(until - 1) && mode.ending_earlier(1).is_on(until - 2));
    }
}
