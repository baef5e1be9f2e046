//! Which addresses are the mesh's: no name outside of it may lead there.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::OnceLock;

use platform::https::canonical_address;
use traffic::Rules;

/// The addresses and names of the mesh's endpoints.
pub(crate) struct Belongs {
    gather: Box<dyn Fn() -> Known + Send + Sync>,
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
        Belongs { gather: Box::new(move || Known::of(rules.mesh())), known: OnceLock::new() }
    }

    /// The same from its parts.
    #[cfg(test)]
    pub(crate) fn listed(mesh: &[&str]) -> Belongs {
        let mesh: Vec<String> = mesh.iter().map(|name| (*name).to_owned()).collect();
        Belongs { gather: Box::new(move || Known::of(mesh.iter().map(String::as_str))), known: OnceLock::new() }
    }

    /// Whether an address is an endpoint's. Whatever the port, as of addresses that a client writes itself.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.known().addresses.contains(&canonical_address(address))
    }

    /// Whether a name is an endpoint's, or one of a wildcard of the mesh.
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.known().has(&name.to_ascii_lowercase())
    }

    /// The same without gathering anything: `None` as long as nobody has asked.
    pub(super) fn has_name_if_known(&self, name: &str) -> Option<bool> {
        self.known.get().map(|known| known.has(&name.to_ascii_lowercase()))
    }

    fn known(&self) -> &Known {
        self.known.get_or_init(&self.gather)
    }
}

impl Known {
    fn of<'a>(mesh: impl Iterator<Item = &'a str>) -> Known {
        let mut known = Known::default();
        for name in mesh {
            match name.parse::<IpAddr>() {
                Ok(address) => _ = known.addresses.insert(canonical_address(address)),
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
