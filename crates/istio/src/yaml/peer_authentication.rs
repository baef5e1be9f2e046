use std::collections::BTreeMap;

use super::meta::selector;
use super::read::At;
use crate::{Meta, MtlsMode, PeerAuthentication};

const SPEC_NOT_YET: &[&str] = &["portLevelMtls"];
const MODES: &[(&str, MtlsMode)] = &[("STRICT", MtlsMode::Strict)];
const MODES_NOT_YET: &[&str] = &["DISABLE", "PERMISSIVE", "UNSET"];

pub(super) fn peer_authentication(meta: Meta, spec: &At<'_>) -> Option<PeerAuthentication> {
    spec.mapping(SPEC_NOT_YET, |fields| {
        let selector = selector(fields);
        // Without a mode the parent's counts, which is not supported yet: it must be said.
        let mode = fields
            .required("mtls")
            .and_then(|mtls| mtls.mapping(&[], |fields| fields.required("mode")?.word(MODES, MODES_NOT_YET)));
        Some(PeerAuthentication { meta, selector, mode: mode?, port_level: BTreeMap::new() })
    })
}
