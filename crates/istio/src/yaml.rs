//! The strict reader of configuration files.

mod authorization_policy;
mod causeway;
mod check;
mod conflict;
mod destination_rule;
mod endpoint;
mod export_to;
mod gateway;
mod go;
mod headers;
mod jwks;
mod kind;
mod labels;
mod locality;
mod mesh;
mod meta;
mod nearest;
mod node;
mod peer_authentication;
mod port;
mod provider;
mod read;
mod regex;
mod report;
mod request_authentication;
mod retry;
mod service;
mod service_entry;
mod sidecar;
mod target;
mod uri;
mod value;
mod virtual_service;

use self::conflict::Seen;
pub use self::kind::ignorable_kinds;
use self::kind::{Identified, Kind};
use self::node::{Place, Position, documents};
use self::read::At;
use self::report::Report;
use crate::{ConfigError, Origin, Resources, Skipped};

/// A configuration file, already read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceFile {
    /// Name for messages, usually the path.
    pub name: String,
    /// YAML, any number of documents.
    pub text: String,
}

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;
/// Deepest nesting of lists and mappings that is read.
pub const MAX_DEPTH: usize = 32;
/// Most errors that one call of [`parse`] reports; one more says how many were left out.
pub const MAX_ERRORS: usize = 1_000;

/// What a caller may allow.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ParseOptions {
    /// Kinds of Istio whose documents are passed over and listed in [`Resources::skipped`] although they could change a
    /// verdict or a route. Only those of [`ignorable_kinds`] can be ignored; other names have no effect.
    pub allow_ignored: Vec<String>,
}

/// Reads configuration files: strictly, without I/O, all files as one configuration.
///
/// # Errors
///
/// Everything that is wrong in any of the files, in the order of the files and of their lines, at
/// most [`MAX_ERRORS`]: text that is not YAML or beyond the limits, unknown fields, fields and kinds
/// of Istio that are not supported yet, values that Istio's own validation refuses, and documents
/// that are given twice or contradict each other.
pub fn parse(files: &[SourceFile]) -> Result<Resources, Vec<ConfigError>> {
    parse_with(files, &ParseOptions::default())
}

/// Reads configuration files as [`parse`], with options.
///
/// # Errors
///
/// As [`parse`], without those that `options` allows.
pub fn parse_with(files: &[SourceFile], options: &ParseOptions) -> Result<Resources, Vec<ConfigError>> {
    let mut reader = Reader { options, resources: Resources::default(), seen: Seen::default() };
    let mut errors = Vec::new();
    let mut left_out = 0;
    for file in files {
        let report = Report::new(&file.name);
        reader.file(file, &report);
        let (found, more) = report.into_errors();
        errors.extend(found);
        left_out += more;
        left_out += errors.len().saturating_sub(MAX_ERRORS);
        errors.truncate(MAX_ERRORS);
    }
    let Some(last) = errors.last() else {
        return Ok(reader.resources);
    };
    if left_out > 0 {
        errors.push(ConfigError {
            file: last.file.clone(),
            line: 0,
            column: 0,
            path: String::new(),
            message: format!("{left_out} more errors are not shown"),
        });
    }
    Err(errors)
}

/// The whole file, for errors about none of its lines.
const WHOLE_FILE: Position = Position { line: 0, column: 0 };

struct Reader<'a> {
    options: &'a ParseOptions,
    resources: Resources,
    seen: Seen,
}

impl Reader<'_> {
    fn file(&mut self, file: &SourceFile, report: &Report<'_>) {
        if file.text.len() > MAX_FILE_BYTES {
            let length = file.text.len();
            let message = format!("expected a file of at most {MAX_FILE_BYTES} bytes, found {length}");
            report.add(WHOLE_FILE, "", message);
            return;
        }
        for node in documents(&file.text, Place::File, report) {
            self.document(&At::root(&node, "", report));
        }
    }

    fn document(&mut self, at: &At<'_>) {
        match kind::identify(at, &self.options.allow_ignored) {
            None => {}
            Some(Identified::Foreign { kind, name }) => {
                let Origin { file, line } = meta::origin(at);
                self.resources.skipped.push(Skipped { file, line, kind, name });
            }
            Some(Identified::Known(kind)) => self.known(kind, at),
            Some(Identified::List) => self.list(at),
        }
    }

    /// The items of a `List` are documents; what it says of itself is Kubernetes' bookkeeping.
    fn list(&mut self, at: &At<'_>) {
        at.mapping(&[], |fields| {
            fields.ignore(&["apiVersion", "kind"]);
            if let Some(metadata) = fields.field("metadata") {
                metadata.mapping(&[], |fields| {
                    fields.ignore(&["continue", "remainingItemCount", "resourceVersion", "selfLink"]);
                    Some(())
                });
            }
            for item in fields.required("items")?.list()? {
                self.document(&item);
            }
            Some(())
        });
    }

    fn known(&mut self, kind: Kind, at: &At<'_>) {
        // The closure always has a value: what is wrong inside is reported inside.
        at.mapping(&[], |document| {
            document.ignore(&["apiVersion", "kind", "status"]);
            let meta = meta::meta(document, kind);
            if let Some(meta) = &meta {
                self.seen.document(kind, &meta.namespace, &meta.name, at);
            }
            if kind == Kind::MeshConfig {
                document.ignore(&["binaryData", "immutable"]);
                if let Some(mesh) = document.required("data").and_then(|data| mesh::mesh(at, meta.as_ref(), &data)) {
                    self.resources.mesh = mesh;
                }
                return Some(());
            }
            let spec = document.required("spec")?;
            // With a wrong `metadata` the errors of `spec` are still worth showing.
            let meta = meta.unwrap_or_else(|| meta::stand_in(at));
            self.spec(kind, at, meta, &spec);
            Some(())
        });
    }

    fn spec(&mut self, kind: Kind, document: &At<'_>, meta: crate::Meta, spec: &At<'_>) {
        let to = &mut self.resources;
        match kind {
            Kind::ApiGateway => to.api_gateways.extend(causeway::api_gateway(meta, spec)),
            Kind::ApiKeyAuthentication => {
                let policy = causeway::api_key_authentication(meta, spec);
                policy.iter().for_each(|policy| self.seen.api_key_authentication(policy, document));
                to.api_key_authentications.extend(policy);
            }
            Kind::AuthorizationPolicy => {
                let policy = authorization_policy::authorization_policy(document, meta, spec);
                to.authorization_policies.extend(policy);
            }
            Kind::DestinationRule => {
                to.destination_rules.extend(destination_rule::destination_rule(meta, spec));
            }
            Kind::Gateway => to.gateways.extend(gateway::gateway(meta, spec)),
            // Has no `spec`; read by the caller.
            Kind::MeshConfig => {}
            Kind::PeerAuthentication => {
                let policy = peer_authentication::peer_authentication(meta, spec);
                policy.iter().for_each(|policy| self.seen.peer_authentication(policy, document));
                to.peer_authentications.extend(policy);
            }
            Kind::RequestAuthentication => {
                let policy = request_authentication::request_authentication(meta, spec);
                to.request_authentications.extend(policy);
            }
            Kind::Service => to.services.extend(service::service(document, meta, spec)),
            Kind::ServiceEntry => {
                to.service_entries.extend(service_entry::service_entry(meta, spec));
            }
            Kind::Sidecar => {
                let sidecar = sidecar::sidecar(meta, spec);
                sidecar.iter().for_each(|sidecar| self.seen.sidecar(sidecar, document));
                to.sidecars.extend(sidecar);
            }
            Kind::WorkloadEntry => to.workload_entries.extend(endpoint::workload_entry(meta, spec)),
            Kind::VirtualService => {
                to.virtual_services.extend(virtual_service::virtual_service(meta, spec));
            }
        }
    }
}
