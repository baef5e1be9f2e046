//! Reading the [table](crate::table): checked once as a whole, and each part turned into Rust when it is first used.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use istio::PathNormalization;
use istio::path::{self, NotCanonical};
use rkyv::rancor;
use rkyv::util::AlignedVec;
use yoke::Yoke;

use crate::table::{
    ArchivedAction, ArchivedName, ArchivedOutbound, ArchivedPathNormalization, ArchivedTable, ArchivedView, Cluster,
    Listener, Name, Outbound, VERSION, VirtualHost,
};

/// The longest section that is opened, in bytes: that of a whole bundle.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// Where a table may begin: it is used where it lies.
const ALIGN: usize = AlignedVec::<16>::ALIGNMENT;

/// The end of the full name of a service in Kubernetes.
const SERVICE_SUFFIX: &str = ".svc.cluster.local";

/// Bytes that several own, such as a part of a file that was read.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The opened egress section of a bundle. A clone is cheap.
#[derive(Clone)]
pub struct Rules {
    table: Yoke<&'static ArchivedTable, SharedBytes>,
}

/// Why an egress section cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "the egress section of the bundle cannot be used: {0}; write the bundle again with the `causeway` of the same release"
)]
pub struct OpenError(pub(crate) String);

/// What one workload sees. A clone is cheap.
#[derive(Clone)]
pub struct View {
    rules: Rules,
    place: usize,
    namespace: String,
}

impl Rules {
    /// Opens what [`crate::compile()`] wrote, and checks all of it: every pointer, length, tag, text and index. One
    /// copy of the bytes is made, and nothing is allocated for each part.
    ///
    /// # Errors
    /// When the bytes are not a whole egress section of this version.
    pub fn open(section: &[u8]) -> Result<Rules, OpenError> {
        if section.len() > MAX_BYTES {
            return Err(OpenError(format!("it has {} bytes, expected at most {MAX_BYTES}", section.len())));
        }
        // The section lies anywhere in its file, and the archive needs its alignment.
        let mut aligned = AlignedVec::<ALIGN>::with_capacity(section.len());
        aligned.extend_from_slice(section);
        Self::attach(Arc::new(aligned))
    }

    /// As [`open`](Self::open), without a copy, unless the bytes begin where they cannot be used. A Lambda function
    /// starts with this: of ten thousand destinations the copy takes longer than the check.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_shared(section: SharedBytes) -> Result<Rules, OpenError> {
        let bytes = section.as_ref().as_ref();
        if bytes.len() > MAX_BYTES || bytes.as_ptr().align_offset(ALIGN) != 0 {
            return Self::open(bytes);
        }
        Self::attach(section)
    }

    fn attach(section: SharedBytes) -> Result<Rules, OpenError> {
        let table = Yoke::try_attach_to_cart(section, |bytes| {
            rkyv::access::<ArchivedTable, rancor::Error>(bytes.as_ref())
                .map_err(|error| OpenError(format!("it is damaged: {error}")))
        })?;
        let rules = Rules { table };
        let version = rules.table().version.to_native();
        if version != VERSION {
            return Err(OpenError(format!("it has the format version {version}, expected {VERSION}")));
        }
        check(rules.table()).map_err(|what| OpenError(format!("it is damaged: {what}")))?;
        Ok(rules)
    }

    /// The mesh's trust domain.
    pub fn trust_domain(&self) -> &str {
        self.table().trust_domain.as_str()
    }

    /// What becomes of a path before routes and services see it.
    pub fn path_normalization(&self) -> PathNormalization {
        match self.table().path_normalization {
            ArchivedPathNormalization::None => PathNormalization::None,
            ArchivedPathNormalization::Base => PathNormalization::Base,
            ArchivedPathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
            ArchivedPathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        }
    }

    /// The path, with its query, that routes and services see in place of the one that a client wrote. Istio gives the
    /// proxy beside a client the mesh's `pathNormalization` as it gives it to the one beside a server
    /// (`buildHTTPConnectionManager`), and Envoy applies it before it chooses a route.
    ///
    /// # Errors
    /// What Envoy answers with 400: see [`path::normalize`].
    pub fn normalize<'p>(&self, path_and_query: &'p str) -> Result<Cow<'p, str>, NotCanonical> {
        // Envoy refuses what does not begin with a slash before it normalises it, as it refuses what has no route
        // (`absolute_path_rejected`): `OPTIONS *`.
        if !path_and_query.starts_with('/') {
            return Ok(Cow::Borrowed(path_and_query));
        }
        path::normalize(path_and_query, self.path_normalization())
    }

    /// What a workload of `namespace` with `labels` sees. Without a namespace: what all see alike; an error names the
    /// variable to set when they do not.
    ///
    /// # Errors
    /// When it depends on the namespace, and there is none.
    pub fn view(&self, namespace: Option<&str>, labels: &[(String, String)]) -> Result<View, String> {
        let views = &self.table().views;
        let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
            let depends = views.iter().find(|view| !view.namespace.is_empty());
            return match depends {
                Some(view) => Err(format!(
                    "what may be called depends on the namespace (there are rules for {:?} alone), and this workload's is unknown: set CAUSEWAY_NAMESPACE",
                    view.namespace.as_str()
                )),
                None => self.find_view("", "", labels),
            };
        };
        let has_own = views.iter().any(|view| view.namespace == *namespace);
        self.find_view(if has_own { namespace } else { "" }, namespace, labels)
    }

    fn find_view(&self, of: &str, namespace: &str, labels: &[(String, String)]) -> Result<View, String> {
        let is_for = |view: &ArchivedView| {
            let has = |name: &str, value: &str| labels.iter().any(|label| label.0 == name && label.1 == value);
            view.namespace == *of && view.labels.iter().all(|label| has(label.0.as_str(), label.1.as_str()))
        };
        let place = self.table().views.iter().position(is_for);
        let place = place.ok_or_else(|| format!("the egress section has no rules for the namespace {namespace:?}"))?;
        Ok(View { rules: self.clone(), place, namespace: namespace.to_owned() })
    }

    /// A virtual host, by its index.
    pub fn virtual_host(&self, index: u32) -> Option<VirtualHost> {
        let host = self.table().virtual_hosts.get(usize::try_from(index).ok()?)?;
        rkyv::deserialize::<VirtualHost, rancor::Error>(host).ok()
    }

    /// A cluster, by its index.
    pub fn cluster(&self, index: u32) -> Option<Cluster> {
        let cluster = self.table().clusters.get(usize::try_from(index).ok()?)?;
        rkyv::deserialize::<Cluster, rancor::Error>(cluster).ok()
    }

    /// How many virtual hosts there are.
    pub fn virtual_hosts(&self) -> usize {
        self.table().virtual_hosts.len()
    }

    /// How many clusters there are.
    pub fn clusters(&self) -> usize {
        self.table().clusters.len()
    }

    /// What belongs to the mesh, whoever may see it: hosts (`*.` may lead one), addresses and names of endpoints.
    pub fn mesh(&self) -> impl Iterator<Item = &str> {
        self.table().mesh.iter().map(|name| name.as_str())
    }

    fn table(&self) -> &ArchivedTable {
        self.table.get()
    }
}

impl View {
    /// The index of the virtual host of a host (in any case, a dot at the end allowed) and port: an exact name before
    /// a wildcard, the longest wildcard first. As in the mesh, a service of Kubernetes is found by `NAME.NAMESPACE` and
    /// `NAME.NAMESPACE.svc` as well, and by `NAME` from its own namespace.
    pub fn find(&self, host: &str, port: u16) -> Option<u32> {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let view = self.archived()?;
        self.exact(view, &host, port).or_else(|| wildcard(view, &host, port))
    }

    fn exact(&self, view: &ArchivedView, host: &str, port: u16) -> Option<u32> {
        exact(&view.names, host, port).or_else(|| exact(&view.names, &full_name(host, &self.namespace)?, port))
    }

    /// Whether a host, in any of the spellings that [`find`](Self::find) takes, is this name of a [`Listener`]: an exact
    /// one, or the suffix of a wildcard.
    pub fn means(&self, host: &str, name: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is = |host: &str| match name {
            "" => true,
            name if name.starts_with('.') => host.len() > name.len() && host.ends_with(name),
            name => host == name,
        };
        is(&host) || full_name(&host, &self.namespace).is_some_and(|full| is(&full))
    }

    /// What becomes of other hosts.
    pub fn outbound(&self) -> Outbound {
        match self.archived().map(|view| &view.outbound) {
            Some(ArchivedOutbound::AllowAny) => Outbound::AllowAny,
            Some(ArchivedOutbound::RegistryOnly) | None => Outbound::RegistryOnly,
        }
    }

    /// Listeners of their own.
    pub fn listeners(&self) -> Vec<Listener> {
        let listeners = self.archived().map(|view| rkyv::deserialize::<Vec<Listener>, rancor::Error>(&view.listeners));
        listeners.and_then(Result::ok).unwrap_or_default()
    }

    /// How many exact hosts and ports can be called.
    pub fn len(&self) -> usize {
        self.archived().map_or(0, |view| view.names.len())
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every exact host and port that can be called, for people.
    pub fn names(&self) -> Vec<(String, u16)> {
        let names = self.archived().map(|view| view.names.iter()).into_iter().flatten();
        names.map(|name| (name.host.as_str().to_owned(), name.port.to_native())).collect()
    }

    /// Every wildcard, such as `*.example.com`, and its port, for people.
    pub fn wildcards(&self) -> Vec<(String, u16)> {
        let names = self.archived().map(|view| view.wildcards.iter()).into_iter().flatten();
        names.map(|name| (format!("*{}", name.host.as_str()), name.port.to_native())).collect()
    }

    /// The namespace and labels that the rules are for, for people; an empty namespace is every other one.
    pub fn is_for(&self) -> (String, Vec<(String, String)>) {
        let Some(view) = self.archived() else { return Default::default() };
        let labels = view.labels.iter().map(|label| (label.0.as_str().to_owned(), label.1.as_str().to_owned()));
        (view.namespace.as_str().to_owned(), labels.collect())
    }

    fn archived(&self) -> Option<&ArchivedView> {
        self.rules.table().views.get(self.place)
    }
}

impl Listener {
    /// The index of the virtual host of a host and port, as [`View::find`]; with a single name every host is that one.
    pub fn find(&self, host: &str, port: u16) -> Option<u32> {
        if let [only] = self.names.as_slice() {
            return Some(only.virtual_host);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let of = |wanted: &str| self.names.iter().find(|name: &&Name| name.port == port && name.host == wanted);
        let found = of(&host).or_else(|| suffixes(&host).find_map(of));
        found.map(|name| name.virtual_host)
    }
}

/// The suffixes that wildcards for a host may have, the longest first.
fn suffixes(host: &str) -> impl Iterator<Item = &str> {
    let dots = host.char_indices().filter(|(at, c)| *c == '.' && *at > 0);
    dots.map(|(at, _)| &host[at..]).chain(std::iter::once(""))
}

/// `generateAltVirtualHosts` of Istio: what a shorter name stands for.
fn full_name(host: &str, namespace: &str) -> Option<String> {
    let mut labels = host.split('.');
    match (labels.next(), labels.next(), labels.next(), labels.next()) {
        (Some(name), None, None, None) if !namespace.is_empty() => Some(format!("{name}.{namespace}{SERVICE_SUFFIX}")),
        (Some(name), Some(of), None, None) | (Some(name), Some(of), Some("svc"), None) => {
            Some(format!("{name}.{of}{SERVICE_SUFFIX}"))
        }
        _ => None,
    }
}

fn exact(names: &[ArchivedName], host: &str, port: u16) -> Option<u32> {
    let compared = |name: &ArchivedName| compare((name.host.as_str(), name.port.to_native()), (host, port));
    let place = names.binary_search_by(compared).ok()?;
    names.get(place).map(|name| name.virtual_host.to_native())
}

fn wildcard(view: &ArchivedView, host: &str, port: u16) -> Option<u32> {
    let names = &view.wildcards;
    suffixes(host).find_map(|suffix| {
        let wanted = (suffix, port);
        let place =
            names.binary_search_by(|name| compare_wildcards((&name.host, name.port.to_native()), wanted)).ok()?;
        names.get(place).map(|name| name.virtual_host.to_native())
    })
}

fn compare(one: (&str, u16), other: (&str, u16)) -> Ordering {
    one.cmp(&other)
}

/// The longest first.
fn compare_wildcards(one: (&str, u16), other: (&str, u16)) -> Ordering {
    (other.0.len(), one.0, one.1).cmp(&(one.0.len(), other.0, other.1))
}

/// What the types alone do not say: indexes lead somewhere, names are in order, and there is a view for everybody.
fn check(table: &ArchivedTable) -> Result<(), &'static str> {
    let last = table.views.last().ok_or("it has no view")?;
    if !last.namespace.is_empty() || !last.labels.is_empty() {
        return Err("its last view is not for everybody");
    }
    let is_known = |index: u32, of: usize| usize::try_from(index).is_ok_and(|index| index < of);
    for view in table.views.iter() {
        let listed = view.listeners.iter().flat_map(|listener| listener.names.iter());
        let names = view.names.iter().chain(view.wildcards.iter()).chain(listed);
        if !names.into_iter().all(|name| is_known(name.virtual_host.to_native(), table.virtual_hosts.len())) {
            return Err("a name has no virtual host");
        }
        let key = |name: &'_ ArchivedName| name.port.to_native();
        let is_sorted = view
            .names
            .windows(2)
            .all(|two| compare((&two[0].host, key(&two[0])), (&two[1].host, key(&two[1]))) == Ordering::Less);
        let is_wild_sorted = view
            .wildcards
            .windows(2)
            .all(|two| compare_wildcards((&two[0].host, key(&two[0])), (&two[1].host, key(&two[1]))) == Ordering::Less);
        if !is_sorted || !is_wild_sorted {
            return Err("its names are not in order");
        }
    }
    for route in table.virtual_hosts.iter().flat_map(|host| host.routes.iter()) {
        let is_cluster = |index: u32| is_known(index, table.clusters.len());
        let mut mirrors = route.mirrors.iter().map(|mirror| mirror.cluster.to_native());
        let is_whole = match &route.action {
            ArchivedAction::Forward(forward) => {
                let mut weighted = forward.destinations.iter().map(|weighted| weighted.cluster.to_native());
                !forward.destinations.is_empty() && weighted.all(is_cluster)
            }
            ArchivedAction::Redirect(_) | ArchivedAction::Direct(_) => true,
        };
        if !is_whole || !mirrors.all(is_cluster) {
            return Err("a route has no destination");
        }
    }
    Ok(())
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rules").field("clusters", &self.clusters()).finish_non_exhaustive()
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("namespace", &self.namespace).field("place", &self.place).finish_non_exhaustive()
    }
}
