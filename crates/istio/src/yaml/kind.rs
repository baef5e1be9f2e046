//! Which kind a document is of, and what becomes of it.

use super::nearest::{nearest, one_of, quoted};
use super::node::{Node, Scalar, ScalarKind, Value};
use super::read::At;

/// A kind that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    ApiGateway,
    ApiKeyAuthentication,
    AuthorizationPolicy,
    DestinationRule,
    Gateway,
    /// The ConfigMap `istio`.
    MeshConfig,
    PeerAuthentication,
    RequestAuthentication,
    Service,
    ServiceEntry,
    Sidecar,
    VirtualService,
    WorkloadEntry,
}

impl Kind {
    /// The word in the document.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ApiGateway => "ApiGateway",
            Self::ApiKeyAuthentication => "ApiKeyAuthentication",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
            Self::MeshConfig => "ConfigMap",
            Self::PeerAuthentication => "PeerAuthentication",
            Self::RequestAuthentication => "RequestAuthentication",
            Self::Service => "Service",
            Self::ServiceEntry => "ServiceEntry",
            Self::Sidecar => "Sidecar",
            Self::VirtualService => "VirtualService",
            Self::WorkloadEntry => "WorkloadEntry",
        }
    }
}

pub(super) enum Identified {
    Known(Kind),
    /// A `List` of Kubernetes, as `kubectl get -o yaml` writes it.
    List,
    /// Passed over, and listed.
    Foreign {
        kind: String,
        name: String,
    },
}

/// An API group of Istio or ours: every kind in it is read, listed or refused.
struct Group {
    name: &'static str,
    versions: &'static [&'static str],
    read: &'static [Kind],
    /// Kinds that change neither a verdict nor a route.
    listed: &'static [&'static str],
    /// Kinds that could. They are refused unless the caller allows to ignore them.
    not_yet: &'static [&'static str],
}

const GROUPS: &[Group] = &[
    Group {
        name: "security.istio.io",
        versions: &["v1", "v1beta1"],
        read: &[Kind::AuthorizationPolicy, Kind::PeerAuthentication, Kind::RequestAuthentication],
        listed: &[],
        not_yet: &[],
    },
    Group {
        name: "networking.istio.io",
        versions: &["v1", "v1beta1", "v1alpha3"],
        read: &[
            Kind::DestinationRule,
            Kind::Gateway,
            Kind::ServiceEntry,
            Kind::Sidecar,
            Kind::VirtualService,
            Kind::WorkloadEntry,
        ],
        // Settings of the proxy process itself.
        listed: &["ProxyConfig"],
        not_yet: &["EnvoyFilter", "WorkloadGroup"],
    },
    Group {
        name: "telemetry.istio.io",
        versions: &["v1", "v1alpha1"],
        read: &[],
        listed: &["Telemetry"],
        not_yet: &[],
    },
    Group {
        name: "extensions.istio.io",
        versions: &["v1alpha1"],
        read: &[],
        listed: &[],
        not_yet: &["TrafficExtension", "WasmPlugin"],
    },
    Group { name: "install.istio.io", versions: &["v1alpha1"], read: &[], listed: &[], not_yet: &["IstioOperator"] },
    Group {
        name: "causeway.dev",
        versions: &["v1alpha1"],
        read: &[Kind::ApiGateway, Kind::ApiKeyAuthentication],
        listed: &[],
        not_yet: &[],
    },
];

/// Kinds of Istio that are refused unless [`ParseOptions`] allows to ignore them.
///
/// [`ParseOptions`]: crate::ParseOptions
pub fn ignorable_kinds() -> impl Iterator<Item = &'static str> {
    GROUPS.iter().flat_map(|group| group.not_yet).copied()
}

/// `None` when the document is refused; the error is reported then. `allow_ignored`: kinds to pass over among those that
/// are refused.
pub(super) fn identify(document: &At<'_>, allow_ignored: &[String]) -> Option<Identified> {
    let Value::Mapping(_) = &document.node.value else {
        document.wrong_type("a mapping with `apiVersion` and `kind`");
        return None;
    };
    // Values of a chart, a workflow, any other file of YAML: what is missing is not a field of it.
    if document.child("apiVersion").is_none() && document.child("kind").is_none() {
        document.error("no Kubernetes document: `apiVersion` and `kind` are missing; keep the file out of the folder");
        return None;
    }
    let field = |name: &str| {
        let at = document.child(name);
        if at.is_none() {
            let expected = document.child("kind").filter(|_| name == "apiVersion").and_then(|kind| versions_of(&kind));
            let expected = expected.map(|versions| format!("; expected {versions}")).unwrap_or_default();
            document.error(format!("the field `{name}` is missing{expected}"));
        }
        let at = at?;
        Some((at.non_empty_string()?, at))
    };
    let (api_version, kind) = (field("apiVersion"), field("kind"));
    let ((api_version, api_version_at), (kind, kind_at)) = (api_version?, kind?);
    let name = name_of(document.node);
    let foreign = || Some(Identified::Foreign { kind: kind.clone(), name: name.to_owned() });

    // Kubernetes' core group has no name.
    let Some((group, version)) = api_version.split_once('/') else {
        return match (api_version.as_str(), kind.as_str()) {
            ("v1", "Service") => Some(Identified::Known(Kind::Service)),
            ("v1", "ConfigMap") if name == "istio" => Some(Identified::Known(Kind::MeshConfig)),
            // With a slip in its name the mesh configuration would be passed over as somebody else's.
            ("v1", "ConfigMap") if name.is_empty() => {
                document.error("a ConfigMap needs `metadata.name`; the mesh configuration is the one named `istio`");
                None
            }
            // A revision of Istio has its own, `istio-REVISION`. Passed over, its trust domain, root namespace and path
            // normalisation would be Istio's defaults.
            ("v1", "ConfigMap") if has_mesh(document) => {
                document.error(format!(
                    "the ConfigMap {} has `data.mesh`, but only the one named `istio` is read; name the mesh \
                     configuration that counts `istio`, and leave out the others",
                    quoted(&name)
                ));
                None
            }
            ("v1", "List") => Some(Identified::List),
            ("v1", kind) if group_of(kind).is_some() => wrong_group(kind, &api_version_at),
            ("v1", _) => match core_slip(&kind) {
                None => foreign(),
                Some(near) => {
                    let kind = quoted(&kind);
                    kind_at.error(format!("Kubernetes' core group has no kind {kind}; did you mean `{near}`?"));
                    None
                }
            },
            _ => {
                api_version_at.error(format!("expected `v1` or `GROUP/VERSION`, found {}", quoted(&api_version)));
                None
            }
        };
    };
    if let Some(known) = GROUPS.iter().find(|known| known.name == group) {
        return known.identify(version, &kind, &name, allow_ignored, &api_version_at, &kind_at);
    }
    // A group that looks like one of these is a slip or an old one: passing its policy over would
    // switch it off.
    let near = nearest(group, GROUPS.iter().map(|group| group.name));
    if group_of(&kind).is_some() {
        // A group of custom resources has a dot: Kubernetes' own that have none know nothing of these kinds. Others have
        // groups that are named after Istio, with kinds of their own.
        let named =
            group.split('.').any(|label| ["istio", "causeway"].iter().any(|own| label.eq_ignore_ascii_case(own)));
        if near.is_none() && (named || !group.contains('.')) {
            return wrong_group(&kind, &api_version_at);
        }
    }
    if near.is_some() || group.ends_with(".istio.io") || group.ends_with(".causeway.dev") {
        let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        api_version_at.error(format!("unknown API group {}{hint}", quoted(group)));
        return None;
    }
    foreign()
}

/// The group of Istio or of ours that has a kind of this name, in whatever case.
fn group_of(kind: &str) -> Option<&'static Group> {
    let has = |group: &&Group| {
        let read = group.read.iter().map(|kind| kind.as_str());
        read.chain(group.listed.iter().chain(group.not_yet).copied()).any(|own| own.eq_ignore_ascii_case(kind))
    };
    GROUPS.iter().find(has)
}

/// A kind of Istio's or ours, under the name of no group that could have it: passing it over would switch it off.
fn wrong_group(kind: &str, api_version_at: &At<'_>) -> Option<Identified> {
    if let Some(known) = group_of(kind).map(Group::api_versions) {
        api_version_at.error(format!("the kind `{kind}` belongs to another group; expected {known}"));
    }
    None
}

/// What `apiVersion` of a document with that kind has to be, if the kind is known.
fn versions_of(kind: &At<'_>) -> Option<String> {
    let Value::Scalar(Scalar { text, kind: ScalarKind::String, .. }) = &kind.node.value else { return None };
    group_of(text).map(Group::api_versions)
}

/// The kind of the core group that was meant and misspelt. `ConfigMap` itself is somebody else's when it is not named
/// `istio`.
fn core_slip(kind: &str) -> Option<&'static str> {
    nearest(kind, ["ConfigMap", "List", "Service"]).filter(|near| *near != kind)
}

/// Whether a ConfigMap has the key of a mesh configuration; Istio's others, such as `istio-ca-root-cert`, have not.
fn has_mesh(document: &At<'_>) -> bool {
    document.child("data").is_some_and(|data| data.child("mesh").is_some())
}

impl Group {
    /// Each `apiVersion` of the group, for a sentence.
    fn api_versions(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(|version| format!("{}/{version}", self.name)).collect();
        one_of(versions.iter().map(String::as_str))
    }

    fn identify(
        &self,
        version: &str,
        kind: &str,
        name: &str,
        allow_ignored: &[String],
        api_version_at: &At<'_>,
        kind_at: &At<'_>,
    ) -> Option<Identified> {
        if !self.versions.contains(&version) {
            let versions = one_of(self.versions.iter().copied());
            api_version_at.error(format!("expected version {versions} of `{}`, found {}", self.name, quoted(version)));
            return None;
        }
        if let Some(known) = self.read.iter().find(|known| known.as_str() == kind) {
            return Some(Identified::Known(*known));
        }
        let refused = self.not_yet.contains(&kind);
        if self.listed.contains(&kind) || (refused && allow_ignored.iter().any(|allowed| allowed == kind)) {
            return Some(Identified::Foreign { kind: kind.to_owned(), name: name.to_owned() });
        }
        if refused {
            kind_at.error(format!(
                "the kind `{kind}` of Istio is not supported yet and could change a verdict or a route; \
                 remove the document, or say that it may be ignored (`--allow-ignored {kind}`)"
            ));
            return None;
        }
        let known = self.read.iter().map(|kind| kind.as_str());
        let known = known.chain(self.listed.iter().chain(self.not_yet).copied());
        kind_at.error(match nearest(kind, known.clone()) {
            Some(near) => format!("unknown kind {}; did you mean `{near}`?", quoted(kind)),
            None => format!("unknown kind {}; expected {}", quoted(kind), one_of(known)),
        });
        None
    }
}

/// `metadata.name`, or nothing: this is only for the list of what was passed over, and to tell the
/// ConfigMap `istio` from others.
fn name_of(document: &Node) -> String {
    let field = |node: &Node, name: &str| match &node.value {
        Value::Mapping(entries) => entries.iter().find(|entry| entry.name == name).map(|entry| entry.node.clone()),
        Value::List(_) | Value::Refused | Value::Scalar(_) => None,
    };
    let name = field(document, "metadata").and_then(|metadata| field(&metadata, "name"));
    match name.map(|name| name.value) {
        Some(Value::Scalar(Scalar { text, kind: ScalarKind::String, .. })) => text,
        _ => String::new(),
    }
}
