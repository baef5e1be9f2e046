//! What this workload may call, and by which routes: the bundle's rules as its namespace and labels see them.

use std::sync::{Arc, OnceLock};

use http::HeaderMap;
use traffic::route::{Head, Line, Routes};
use traffic::table::Outbound;
use traffic::{Rules, open::View};

use crate::reason::{Reason, Refusal};

/// The hosts of a view, each prepared when it is first used.
pub(crate) struct Hosts {
    rules: Rules,
    pub(crate) view: View,
    labels: Vec<(String, String)>,
    opened: Vec<OnceLock<Result<Arc<Routes>, String>>>,
}

impl Hosts {
    /// Those that a workload of `namespace` with `labels` sees.
    ///
    /// # Errors
    /// When that depends on the namespace, and there is none.
    pub(crate) fn new(rules: Rules, namespace: Option<&str>, labels: Vec<(String, String)>) -> Result<Hosts, String> {
        let view = rules.view(namespace, &labels)?;
        let opened = std::iter::repeat_with(OnceLock::new).take(rules.virtual_hosts()).collect();
        Ok(Hosts { rules, view, labels, opened })
    }

    /// The routes of a host and port; `None` when nobody has named it.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn find(&self, host: &str, port: u16) -> Result<Option<Arc<Routes>>, Refusal> {
        match self.view.find(host, port) {
            Some(index) => self.at(index).map(Some),
            None => Ok(None),
        }
    }

    /// The routes with this index in the bundle.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) fn at(&self, index: u32) -> Result<Arc<Routes>, Refusal> {
        let slot = usize::try_from(index).ok().and_then(|index| self.opened.get(index));
        let prepared = slot.map(|slot| slot.get_or_init(|| self.prepare(index)));
        match prepared {
            Some(Ok(routes)) => Ok(Arc::clone(routes)),
            Some(Err(problem)) => Err(Refusal::new(Reason::ConfigurationInvalid, problem.clone())),
            None => Err(Refusal::new(Reason::ConfigurationInvalid, format!("the bundle has no host number {index}"))),
        }
    }

    /// Whether hosts that nobody has named are forwarded as they are.
    pub(crate) fn allows_any(&self) -> bool {
        self.view.outbound() == Outbound::AllowAny
    }

    /// How many hosts and ports can be called.
    pub(crate) fn len(&self) -> usize {
        self.view.names().len()
    }

    fn prepare(&self, index: u32) -> Result<Arc<Routes>, String> {
        let host = self.rules.virtual_host(index).ok_or("the bundle has fewer hosts than it names")?;
        Routes::new(host, &self.labels).map(Arc::new)
    }
}

/// What a route looks at.
pub(crate) fn head<'a>(line: &Line<'a>, headers: &'a HeaderMap) -> Head<'a> {
    let Line { method, scheme, authority, path_and_query } = *line;
    Head { method, scheme, authority, path_and_query, headers }
}
