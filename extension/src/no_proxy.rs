//! What `no_proxy` leads around the extension, said once.
//!
//! The wrapper script leaves out what stands for everything. The rest it cannot judge: only the extension knows the names
//! of services. A call that goes around has no identity, no rules and no log line, and nothing of it is seen but an
//! address at the end (`bypass`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use platform::log::Log;
use traffic::table::{Action, Tls};

use crate::parts::Parts;

/// The names that the wrapper script excepts by itself, and all that end with them.
const BY_WRAPPER: [&str; 4] = ["amazonaws.com", "amazonaws.com.cn", "api.aws", "on.aws"];

/// The most hosts that are named.
const MAX_NAMED: usize = 32;

/// What the names of a cluster's services end with.
const CLUSTER: &str = ".svc.cluster.local";

/// What the function excepts.
#[derive(Default)]
pub(crate) struct Exceptions {
    said: AtomicBool,
}

/// One of them.
#[derive(Debug)]
struct Item {
    written: String,
    /// In lower case, without what may stand before it.
    name: String,
    /// Every name that ends so, also in the middle of a label.
    is_end: bool,
    port: Option<u16>,
}

impl Exceptions {
    /// Writes one line, the first time, if calls to services of the mesh go around. `list` is the function's own
    /// `no_proxy`.
    pub(crate) fn report(&self, list: &str, parts: &Parts, namespace: Option<&str>, log: &Log) {
        if self.said.swap(true, Ordering::Relaxed) {
            return;
        }
        let found = covered(&items(list), parts, namespace);
        if found.is_empty() {
            return;
        }
        let hosts: BTreeMap<&String, &String> = found.iter().take(MAX_NAMED).collect();
        log.write(&serde_json::json!({
            "event": "no_proxy",
            "detail": "calls to these services go around the extension, without identity, rules and log line: no_proxy has an item for them, or the wrapper script, for AWS's names",
            "hosts": hosts,
            "more": found.len() > MAX_NAMED,
        }));
    }
}

/// The services of the mesh that items stand for, as `host:port`, and by which.
fn covered(items: &[Item], parts: &Parts, namespace: Option<&str>) -> BTreeMap<String, String> {
    let view = &parts.hosts.view;
    let mut found = BTreeMap::new();
    for (host, port) in view.names().into_iter().chain(view.wildcards()) {
        let item = items.iter().find(|item| item.covers(&host, port, namespace));
        if let Some(item) = item
            && is_of_mesh(parts, &host, port)
        {
            found.insert(format!("{host}:{port}"), item.written.clone());
        }
    }
    found
}

/// Whether calls there would go to the mesh. Others are what `no_proxy` is for.
fn is_of_mesh(parts: &Parts, host: &str, port: u16) -> bool {
    // Any name that the wildcard stands for has its routes.
    let host = host.replacen('*', "any", 1);
    let Ok(Some(routes)) = parts.hosts.find(&host, port) else { return false };
    let forwards = routes.iter().filter_map(|route| match &route.route.action {
        Action::Forward(forward) => Some(&forward.destinations),
        Action::Redirect(_) | Action::Direct(_) => None,
    });
    let mut clusters = forwards.flatten().filter_map(|destination| parts.clusters.get(destination.cluster));
    clusters.any(|cluster| matches!(cluster.table.tls, Tls::IstioMutual(_)))
}

/// The items of a list, without those that the wrapper script leaves out.
fn items(list: &str) -> Vec<Item> {
    let own = list.split(|letter: char| letter == ',' || letter.is_whitespace());
    let own = own.filter(|item| !item.is_empty() && !is_left_out(item));
    own.chain(BY_WRAPPER).filter_map(Item::read).collect()
}

/// Whether the wrapper script leaves an item out, and says so itself.
fn is_left_out(item: &str) -> bool {
    let (name, _) = split(item);
    let ends = || name.strip_prefix(['.', '*']).is_some_and(|_| name.ends_with(CLUSTER) || name.ends_with(".svc"));
    name.bytes().all(|byte| b"*.".contains(&byte))
        || ["cluster.local", ".cluster.local", "*.cluster.local", "svc.cluster.local", "svc"].contains(&name)
        || ends()
}

/// Name and port of an item; an IPv6 address has none.
fn split(item: &str) -> (&str, Option<u16>) {
    match item.split_once(':') {
        Some((name, port)) if !port.contains(':') => (name, port.parse().ok()),
        _ => (item, None),
    }
}

impl Item {
    fn read(written: &str) -> Option<Item> {
        let (name, port) = split(written);
        let is_end = name.starts_with('*') && !name.starts_with("*.");
        let name = name.trim_start_matches(['*', '.']).trim_end_matches('.').to_ascii_lowercase();
        // Nobody understands a star anywhere else.
        (!name.is_empty() && !name.contains('*')).then(|| Item { written: written.to_owned(), name, is_end, port })
    }

    /// Whether a call to `host`, in any of its spellings, may go around. Clients differ: with some of them a name stands
    /// for all that end with it.
    fn covers(&self, host: &str, port: u16, namespace: Option<&str>) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        let short = host.strip_suffix(CLUSTER);
        let svc = short.map(|short| format!("{short}.svc"));
        let bare = short.and_then(|short| short.split_once('.')).filter(|(_, own)| Some(*own) == namespace);
        let spellings = [Some(host), short, svc.as_deref(), bare.map(|(name, _)| name)];
        spellings.into_iter().flatten().any(|spelling| self.covers_name(spelling))
    }

    fn covers_name(&self, host: &str) -> bool {
        // Of a wildcard, some of the names that it stands for.
        if host.starts_with('*') && host.len() > 1 && traffic::covers(host, &self.name) {
            return true;
        }
        match host.strip_suffix(self.name.as_str()) {
            Some(rest) => self.is_end || rest.is_empty() || rest.ends_with('.'),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_stand_for_names_in_every_spelling() {
        let host = "ratings.bookinfo.svc.cluster.local";
        for (item, expected) in [
            (host, true),
            ("RATINGS.bookinfo.svc.cluster.local.", true),
            ("ratings.bookinfo.svc.cluster.local:9080", true),
            ("ratings.bookinfo.svc.cluster.local:80", false),
            ("ratings.bookinfo", true),
            ("ratings.bookinfo.svc", true),
            ("ratings", true),
            (".bookinfo", true),
            ("*.bookinfo.svc", true),
            ("bookinfo.svc.cluster.local", true),
            ("local", true),
            (".local", true),
            ("*cal", true),
            ("cal", false),
            ("details.bookinfo", false),
            ("tings.bookinfo", false),
            ("10.0.0.0/8", false),
            ("r*", false),
            ("::1", false),
        ] {
            let found = Item::read(item).is_some_and(|item| item.covers(host, 9_080, Some("bookinfo")));
            assert_eq!(found, expected, "{item}");
        }
        let of = |item: &str, host: &str| Item::read(item).unwrap().covers(host, 80, None);
        assert!(!of("ratings", host), "a short name is that of another namespace");
        assert!(of("amazonaws.com", "a.vpce.amazonaws.com") && !of("amazonaws.com", "notamazonaws.com"));
        assert!(of("a.mesh.example", "*.mesh.example") && of("mesh.example", "*.mesh.example"));
        assert!(!of("a.other.example", "*.mesh.example") && !of("a.example", "*"));
    }

    #[test]
    fn what_the_wrapper_leaves_out_is_not_said_again() {
        let own = |list: &str| -> Vec<String> {
            let all = items(list).into_iter().map(|item| item.written);
            all.filter(|item| !BY_WRAPPER.contains(&item.as_str())).collect()
        };
        let out = "*,*:80,*.*,.,*.,cluster.local,.cluster.local,*.cluster.local,svc.cluster.local,.svc.cluster.local \
                   .svc.cluster.local:9080 *.svc.cluster.local .bookinfo.svc.cluster.local *.bookinfo.svc.cluster.local,\
                   svc,.svc,*.svc,*.bookinfo.svc";
        assert!(own(out).is_empty(), "{:?}", own(out));
        assert_eq!(own("db:5432, ratings.bookinfo.svc\tlocal"), ["db:5432", "ratings.bookinfo.svc", "local"]);
        assert_eq!(own("ratings.bookinfo.svc.cluster.local,::1"), ["ratings.bookinfo.svc.cluster.local", "::1"]);
    }
}
