//! What `no_proxy` leads around the extension, said once.
//!
//! The wrapper script leaves out what stands for everything, and says so. The rest it cannot judge: only the extension
//! knows the names of services. Where the function's start does not go through the script, nothing is left out. A call
//! that goes around has no identity, no rules and no log line, and nothing of it is seen but an address at the end
//! (`bypass`).

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

/// What stands for all of them.
const ALL: [&str; 3] = ["cluster.local", "svc.cluster.local", "svc"];

/// What the line says where services are named.
const FOR_SOME: &str = "calls to these services go around the extension, without identity, rules and log line: no_proxy has an item for them, or the wrapper script, for AWS's names";

/// The same where there are items for all of them alone.
const FOR_ALL: &str = "calls to all services would go around the extension, without identity, rules and log line, if the function were started without the wrapper script: no_proxy has items that stand for all of them";

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
    /// `no_proxy`; `wrapped` says whether the wrapper script has its hand in it.
    pub(crate) fn report(&self, (list, wrapped): (&str, bool), parts: &Parts, namespace: Option<&str>, log: &Log) {
        if self.said.swap(true, Ordering::Relaxed) {
            return;
        }
        let for_all: Vec<&str> =
            if wrapped { Vec::new() } else { words(list).filter(|item| is_for_all(item)).collect() };
        // Not by those for all: where the function is started by the script after all, which nobody here can see, each
        // service of the mesh would be named without a cause.
        let found = covered(&items(list, wrapped), parts, namespace);
        if found.is_empty() && for_all.is_empty() {
            return;
        }
        let hosts: BTreeMap<&String, &String> = found.iter().take(MAX_NAMED).collect();
        let mut line = serde_json::json!({
            "event": "no_proxy",
            "detail": if found.is_empty() { FOR_ALL } else { FOR_SOME },
            "hosts": hosts,
            "more": found.len() > MAX_NAMED,
        });
        if !for_all.is_empty() {
            let named: Vec<&str> = for_all.into_iter().take(MAX_NAMED).collect();
            line["for_all"] = named.into();
            line["hint"] = "AWS_LAMBDA_EXEC_WRAPPER does not name the wrapper script, which would leave the items in for_all out; where the function starts it itself they are".into();
        }
        log.write(&line);
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

/// The items of a list that stand for single names, without those that the wrapper script leaves out.
fn items(list: &str, wrapped: bool) -> Vec<Item> {
    let own = words(list).filter(|item| !is_for_all(item) && (!wrapped || is_written(item)));
    own.chain(BY_WRAPPER).filter_map(Item::read).collect()
}

/// Some clients take blanks for commas. What else is a blank is the wrapper script's word: what that does not part must
/// not be taken for left out.
fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}']).filter(|item| !item.is_empty())
}

/// Whether an item has nothing but what hosts and networks are written with. The wrapper script leaves out the others,
/// and says so itself.
fn is_written(item: &str) -> bool {
    item.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:/*_%[]-".contains(&byte))
}

/// Without what clients take off the ends of an item: blanks of Unicode and controls.
fn trimmed(item: &str) -> &str {
    item.trim_matches(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '\u{feff}')
}

/// Whether an item stands for everything, for every address, or for all services of a cluster or of a namespace. The
/// wrapper script leaves it out, and says so itself.
fn is_for_all(item: &str) -> bool {
    let (name, _) = split(trimmed(item));
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    let rest = name.strip_prefix("*.").or_else(|| name.strip_prefix(['.', '*']));
    // Most clients take a name for what ends with it, too.
    let namespace = name.strip_suffix(CLUSTER).or_else(|| name.strip_suffix(".svc"));
    name.bytes().all(|byte| b"*.".contains(&byte))
        || name.ends_with("/0")
        || name.ends_with("/00")
        || ALL.contains(&rest.unwrap_or(&name))
        || rest.is_some_and(|rest| rest.ends_with(CLUSTER) || rest.ends_with(".svc"))
        || namespace.is_some_and(|namespace| !namespace.contains('.'))
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
        let (name, port) = split(trimmed(written));
        let is_end = name.starts_with('*') && !name.starts_with("*.");
        let name = name.trim_start_matches(['*', '.']).trim_end_matches('.').to_ascii_lowercase();
        // Nobody understands a star anywhere else. What is nothing but stars and dots is everything.
        let is_end = is_end || name.is_empty();
        (!name.contains('*')).then(|| Item { written: written.to_owned(), name, is_end, port })
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
        let own = |list: &str, wrapped: bool| -> Vec<String> {
            let all = items(list, wrapped).into_iter().map(|item| item.written);
            all.filter(|item| !BY_WRAPPER.contains(&item.as_str())).collect()
        };
        let out = "*,*:80,*.*,.,*.,..,cluster.local,.cluster.local,*.cluster.local,*cluster.local,svc.cluster.local,\
                   .svc.cluster.local .svc.cluster.local. .svc.cluster.local:9080 *.svc.cluster.local *svc.cluster.local \
                   .SVC.CLUSTER.LOCAL *.Svc.Cluster.Local.:80 .bookinfo.svc.cluster.local *.bookinfo.svc.cluster.local,\
                   svc,.svc,.SVC.,*.svc,*svc,*.bookinfo.svc 0.0.0.0/0,::/0 [::]/0 0/0 10.0.0.0/00 0.0.0.0/0:80,\
                   bookinfo.svc.cluster.local Bookinfo.SVC. bookinfo.svc:80,*\r*\u{b}.svc\u{c}";
        for wrapped in [true, false] {
            assert!(own(out, wrapped).is_empty(), "{:?}", own(out, wrapped));
        }
        assert!(words(out).all(is_for_all), "{out}");
        let kept = "db:5432, ratings.bookinfo.svc\tlocal .local *local\r\n10.0.0.0/8\u{b}fd00::/10";
        for wrapped in [true, false] {
            let expected = ["db:5432", "ratings.bookinfo.svc", "local", ".local", "*local", "10.0.0.0/8", "fd00::/10"];
            assert_eq!(own(kept, wrapped), expected);
            let kept = ["ratings.bookinfo.svc.cluster.local", "::1"];
            assert_eq!(own(&kept.join(","), wrapped), kept);
        }
        // What the script does not part it leaves out as a whole; elsewhere clients take the end off.
        let host = "ratings.bookinfo.svc.cluster.local";
        for end in ["\u{a0}", "\u{85}", "\u{2028}", "\u{feff}", "\u{1f}"] {
            let (one, all) = (format!("{host}{end}"), format!(".svc.cluster.local{end}"));
            assert!(own(&one, true).is_empty() && own(&all, true).is_empty(), "{end:?}");
            assert_eq!(own(&one, false), [one.as_str()]);
            assert!(Item::read(&one).unwrap().covers(host, 80, None) && is_for_all(&all), "{end:?}");
        }
    }

    #[test]
    fn items_for_all_stand_for_every_service() {
        for item in ["*", ".", "*:9080", ".SVC.CLUSTER.LOCAL.", "*cluster.local", "*.bookinfo.svc", "svc"] {
            let read = Item::read(item).unwrap();
            assert!(read.covers("ratings.bookinfo.svc.cluster.local", 9_080, None), "{item}");
        }
        // Clients take it for addresses alone.
        let network = Item::read("0.0.0.0/0").unwrap();
        assert!(!network.covers("ratings.bookinfo.svc.cluster.local", 9_080, None));
    }
}
