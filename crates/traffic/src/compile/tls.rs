//! How a connection is protected, and who must answer. Nothing goes to the mesh in the clear or without an identity.

use std::collections::BTreeSet;

use identity::SpiffeId;
use istio::{ClientTls, ClientTlsMode, MeshConfig, Meta, ServiceEntry, WorkloadEntry};

use super::{endpoint, sni};
use crate::table::{IstioMutual, Simple, Tls};

/// The destination that a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer<'a> {
    pub(super) mesh: &'a MeshConfig,
    pub(super) entry: &'a ServiceEntry,
    pub(super) workloads: &'a [&'a WorkloadEntry],
    pub(super) is_internal: bool,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) subset: &'a str,
}

/// A problem, and whether it is the rule's or the entry's.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) is_of_rule: bool,
    pub(super) text: String,
}

/// `tls` of the rule for the port and subset; without one it is mutual TLS inside the mesh and plaintext outside of it
/// (Istio's `buildUpstreamTLSSettings` with auto mTLS).
pub(super) fn tls(peer: &Peer<'_>, settings: Option<&ClientTls>) -> Result<Tls, Problem> {
    let host = peer.host;
    match (settings, settings.map(|settings| settings.mode)) {
        (None, _) | (_, None) if !peer.is_internal => Ok(Tls::Plaintext),
        (None, _) | (_, None) => mutual(peer, None),
        (Some(settings), Some(ClientTlsMode::IstioMutual)) => mutual(peer, Some(settings)),
        (Some(_), Some(ClientTlsMode::Disable)) if peer.is_internal => Err(of_rule(format!(
            "the DestinationRule of {host} says tls.mode DISABLE: plaintext to the mesh is refused, expected ISTIO_MUTUAL"
        ))),
        (Some(_), Some(ClientTlsMode::Disable)) => Ok(Tls::Plaintext),
        (Some(_), Some(ClientTlsMode::Simple)) if peer.is_internal => Err(of_rule(format!(
            "the DestinationRule of {host} says tls.mode SIMPLE, which shows no identity to the mesh: expected ISTIO_MUTUAL, or a ServiceEntry with location MESH_EXTERNAL"
        ))),
        (Some(settings), Some(ClientTlsMode::Simple)) => simple(peer, settings),
    }
}

fn mutual(peer: &Peer<'_>, settings: Option<&ClientTls>) -> Result<Tls, Problem> {
    let given = settings.and_then(|settings| settings.sni.clone());
    let is_of_rule = given.is_some();
    if !is_of_rule && super::hostname::wildcard(peer.host).is_some() {
        let host = peer.host;
        return Err(of_entry(format!(
            "spec.hosts: found {host}, which no server name stands for: expected exact hosts, or a DestinationRule with tls.sni"
        )));
    }
    let name = given.unwrap_or_else(|| sni::of(peer.host, peer.port, peer.subset));
    sni::check(&name).map_err(|text| Problem { is_of_rule, text })?;
    Ok(Tls::IstioMutual(IstioMutual { sni: name, expected: expected(peer, settings)? }))
}

fn simple(peer: &Peer<'_>, settings: &ClientTls) -> Result<Tls, Problem> {
    let name = settings.sni.clone().unwrap_or_default();
    if !name.is_empty() {
        sni::check(&name).map_err(of_rule)?;
    }
    // "Use subject alt names specified in service entry if TLS settings does not have subject alt names".
    let own = &settings.subject_alt_names;
    let names = if own.is_empty() { &peer.entry.subject_alt_names } else { own };
    let roots = settings.ca_certificates.clone().filter(|roots| roots != "system").unwrap_or_default();
    Ok(Tls::Simple(Simple { sni: name, names: names.clone(), roots }))
}

/// The identities that may answer. `subjectAltNames` of the rule "override the value of subject_alt_names from the
/// ServiceEntry"; those, and the service accounts of the endpoints, count under the mesh's other trust domains too
/// (`ExpandWithTrustDomains`).
fn expected(peer: &Peer<'_>, settings: Option<&ClientTls>) -> Result<Vec<String>, Problem> {
    if let Some(settings) = settings.filter(|settings| !settings.subject_alt_names.is_empty()) {
        for name in &settings.subject_alt_names {
            identity_of(name, peer.mesh).map_err(|text| of_rule(format!("subjectAltNames: {text}")))?;
        }
        return Ok(settings.subject_alt_names.clone());
    }
    let mut accounts = BTreeSet::new();
    let mut is_whole = true;
    let mut has_any = false;
    for (found, _) in endpoint::all(peer.entry, peer.workloads) {
        has_any = true;
        match found.service_account.as_deref().filter(|account| !account.is_empty()) {
            Some(account) => {
                let namespace = &peer.entry.meta.namespace;
                accounts.insert(format!("spiffe://{}/ns/{namespace}/sa/{account}", peer.mesh.trust_domain));
            }
            None => is_whole = false,
        }
    }
    if peer.entry.subject_alt_names.is_empty() && !(has_any && is_whole) {
        return Err(of_entry(format!(
            "found no subjectAltNames for {} and no serviceAccount at every endpoint, expected the SPIFFE IDs that may answer (an expected identity is required; without one any workload of the mesh could)",
            peer.host
        )));
    }
    accounts.extend(peer.entry.subject_alt_names.iter().cloned());
    let mut expected = BTreeSet::new();
    for name in accounts {
        let id = identity_of(&name, peer.mesh).map_err(|text| of_entry(format!("subjectAltNames: {text}")))?;
        let aliases = peer.mesh.trust_domain_aliases.iter();
        expected.extend(aliases.map(|alias| format!("spiffe://{alias}{}", id.path())));
        expected.insert(name);
    }
    // An alias that is no trust domain has an error of its own where the mesh configuration is read.
    Ok(expected.into_iter().filter(|name| name.parse::<SpiffeId>().is_ok()).collect())
}

fn identity_of(name: &str, mesh: &MeshConfig) -> Result<SpiffeId, String> {
    let id: SpiffeId = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
    let is_known = id.trust_domain() == mesh.trust_domain
        || mesh.trust_domain_aliases.iter().any(|alias| alias == id.trust_domain());
    if is_known {
        return Ok(id);
    }
    let own = &mesh.trust_domain;
    Err(format!(
        "found {name:?}, expected the mesh's trust domain {own} or one of its aliases (others are not supported)"
    ))
}

/// The place of a problem.
pub(super) fn place<'a>(problem: &Problem, rule: Option<&'a Meta>, entry: &'a Meta) -> (&'a Meta, &'static str) {
    match rule {
        Some(rule) if problem.is_of_rule => (rule, "DestinationRule"),
        _ => (entry, "ServiceEntry"),
    }
}

fn of_rule(text: String) -> Problem {
    Problem { is_of_rule: true, text }
}

fn of_entry(text: String) -> Problem {
    Problem { is_of_rule: false, text }
}
