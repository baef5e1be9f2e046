//! From Istio's documents to the [table](crate::table).
//!
//! As Istio's control plane computes what the proxy beside a client gets, so this computes what the extension gets:
//! which hosts a workload sees, which routes they have, and how each destination is reached.

mod balance;
mod cluster;
mod egress;
mod endpoint;
mod header;
mod hostname;
mod hosts;
mod labels;
mod matches;
mod members;
mod policy;
mod pool;
mod registry;
mod report;
mod retry;
mod route;
mod rules;
mod sni;
mod tls;
mod view;

use istio::Resources;
use rkyv::rancor;

use crate::table::{PathNormalization, Table, VERSION};
use report::Report;

/// The most destinations (host and port) of one table.
pub const MAX_DESTINATIONS: usize = 10_000;

/// The most views of one table.
pub const MAX_VIEWS: usize = 1_000;

/// What [`compile`] made.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compiled {
    /// The egress section of a bundle.
    pub section: Vec<u8>,
    /// What works otherwise than one might think, each with its place.
    pub warnings: Vec<String>,
}

/// Compiles the traffic rules for all workloads of the mesh.
///
/// # Errors
/// One line for each problem, with its place.
pub fn compile(resources: &Resources) -> Result<Compiled, Vec<String>> {
    let (table, warnings) = table(resources)?;
    match rkyv::to_bytes::<rancor::Error>(&table) {
        Ok(bytes) => Ok(Compiled { section: bytes.to_vec(), warnings }),
        Err(error) => Err(vec![format!("the egress table cannot be written: {error}")]),
    }
}

/// As [`compile`], before it is written: the table and the warnings.
///
/// # Errors
/// As [`compile`].
pub fn table(resources: &Resources) -> Result<(Table, Vec<String>), Vec<String>> {
    let mut report = Report::default();
    let registry = registry::Registry::new(resources, &mut report);
    let rules = rules::Rules::new(resources);
    let mut clusters = cluster::Clusters::new(resources, &registry, &rules);
    let mut hosts = hosts::Hosts::new(resources, &registry);
    let views = view::views(resources, &mut clusters, &mut hosts, &mut report);
    let destinations = view::destinations(&views);
    if destinations > MAX_DESTINATIONS {
        report.problem(format!("found {destinations} egress destinations, expected at most {MAX_DESTINATIONS}"));
    }
    if views.len() > MAX_VIEWS {
        let found = views.len();
        report.problem(format!(
            "found {found} different sets of rules for namespaces and labels, expected at most {MAX_VIEWS}"
        ));
    }
    let warnings = report.finish()?;
    let clusters = clusters.into_table();
    let table = Table {
        version: VERSION,
        trust_domain: resources.mesh.trust_domain.clone(),
        path_normalization: match resources.mesh.path_normalization {
            istio::PathNormalization::None => PathNormalization::None,
            istio::PathNormalization::Base => PathNormalization::Base,
            istio::PathNormalization::MergeSlashes => PathNormalization::MergeSlashes,
            istio::PathNormalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
        },
        views,
        virtual_hosts: hosts.into_table(),
        mesh: members::names(&registry, &clusters),
        clusters,
    };
    Ok((table, warnings))
}
