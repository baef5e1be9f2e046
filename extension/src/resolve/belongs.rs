//! Which addresses are the mesh's: no name outside of it may lead there.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::OnceLock;

use traffic::Rules;

use super::cache::Cache;

/// The addresses and names of the mesh's endpoints.
pub(crate) struct Belongs {
    rules: Option<Rules>,
    /// Gathered when it is first asked for: most workloads call nobody outside.
    known: OnceLock<Known>,
}

#[derive(Default)]
struct Known {
    addresses: HashSet<IpAddr>,
    /// In lower case.
    names: HashSet<String>,
    /// Names that begin with `*`.
    wildcards: Vec<String>,
}

impl Belongs {
    /// What `rules` say is of the mesh.
    pub(crate) fn of(rules: Rules) -> Belongs {
        Belongs { rules: Some(rules), known: OnceLock::new() }
    }

    /// The same from its parts.
    #[cfg(test)]
    pub(crate) fn listed(mesh: &[&str]) -> Belongs {
        let known = OnceLock::from(Known::of(mesh.iter().copied()));
        Belongs { rules: None, known }
    }

    /// Whether an address is an endpoint's, or was the last one that the name of an endpoint was found to have: those
    /// names that this process has called. Whatever the port, as of addresses that a client writes itself.
    pub(super) fn has(&self, address: IpAddr, cache: &Cache) -> bool {
        let known = self.known.get_or_init(|| self.rules.as_ref().map_or_else(Known::default, |r| Known::of(r.mesh())));
        known.addresses.contains(&address.to_canonical())
            || cache.finds(address, |name| known.has(&name.to_ascii_lowercase()))
    }
}

impl Known {
    fn of<'a>(mesh: impl Iterator<Item = &'a str>) -> Known {
        let mut known = Known::default();
        for name in mesh {
            match name.parse::<IpAddr>() {
                Ok(address) => _ = known.addresses.insert(address.to_canonical()),
                Err(_) if name.starts_with('*') => known.wildcards.push(name.to_ascii_lowercase()),
                Err(_) => _ = known.names.insert(name.to_ascii_lowercase()),
            }
        }
        known
    }

    fn has(&self, name: &str) -> bool {
        self.names.contains(name) || self.wildcards.iter().any(|wildcard| traffic::covers(wildcard, name))
    }
}
