//! Key sets from the network, for `--fetch`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use authz::{Jwks, KeyOrigin};
use istio::Resources;
use platform::https::{Client, checked_url};

use crate::terminal::Progress;

/// How long one document may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Documents of one run, at most.
const MAX_DOCUMENTS: usize = 1_000;

/// Where OpenID Connect Discovery 1.0, section 4, puts an issuer's metadata.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// What came of fetching.
#[derive(Default)]
pub(super) struct Fetched {
    /// Key sets by jwksUri, or by issuer where the policy names no jwksUri.
    pub(super) documents: BTreeMap<String, String>,
    /// Why the others could not be had.
    pub(super) errors: Vec<String>,
}

/// Fetches the key sets that the documents need and that neither they nor `given` have.
pub(super) fn key_sets(resources: &Resources, given: &BTreeMap<String, String>) -> Fetched {
    let mut uris = BTreeSet::new();
    let mut issuers = BTreeSet::new();
    for rule in rules(resources) {
        if rule.jwks.is_some() || given.contains_key(&rule.issuer) {
            continue;
        }
        match &rule.jwks_uri {
            Some(uri) if !given.contains_key(uri) => drop(uris.insert(uri.as_str())),
            Some(_) => {}
            None => drop(issuers.insert(rule.issuer.as_str())),
        }
    }
    let (of_issuers, errors) = discover(&issuers);
    let mut fetched = Fetched { errors, ..Fetched::default() };
    uris.extend(of_issuers.values().map(String::as_str));
    let sets = documents(&uris);
    for (uri, document) in &sets {
        let usable = document.clone().and_then(|text| {
            Jwks::parse(&text, KeyOrigin::Fetched).map_err(|error| format!("{uri}: {error}"))?;
            Ok(text)
        });
        match usable {
            Ok(text) => {
                fetched.documents.insert((*uri).to_owned(), text);
            }
            Err(why) => fetched.errors.push(why),
        }
    }
    for (issuer, uri) in of_issuers {
        // A key set that goes by its issuer serves every rule of that issuer that is left without keys. A rule that
        // names a place of its own, which failed, must not get these.
        let other_place = |rule: &istio::JwtRule| {
            rule.issuer == issuer && rule.jwks_uri.as_ref().is_some_and(|own| !fetched.documents.contains_key(own))
        };
        if rules(resources).any(other_place) {
            fetched.errors.push(format!("{uri}: not used, since another jwksUri of {issuer} could not be had"));
        } else if let Some(text) = fetched.documents.get(&uri).cloned() {
            fetched.documents.insert(issuer.to_owned(), text);
        }
    }
    fetched
}

/// Where each of `issuers` says that its keys are, and why others do not say it.
pub(super) fn discover<'a>(issuers: &BTreeSet<&'a str>) -> (BTreeMap<&'a str, String>, Vec<String>) {
    let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
    // "any terminating / MUST be removed" (section 4.1); the authorizer takes off one, too.
    let url = |issuer: &str| format!("{}{DISCOVERY}", issuer.strip_suffix('/').unwrap_or(issuer));
    let urls: Vec<String> = issuers.iter().map(|issuer| url(issuer)).collect();
    let metadata = documents(&urls.iter().map(String::as_str).collect());
    for (issuer, url) in issuers.iter().zip(&urls) {
        let text = metadata.get(url.as_str()).cloned().unwrap_or_else(|| Err(format!("{url}: not fetched")));
        match text.and_then(|text| jwks_uri(issuer, &text).map_err(|why| format!("{url}: {why}"))) {
            Ok(uri) => drop(found.insert(*issuer, uri)),
            Err(why) => errors.push(why),
        }
    }
    (found, errors)
}

fn rules(resources: &Resources) -> impl Iterator<Item = &istio::JwtRule> {
    resources.request_authentications.iter().flat_map(|authentication| &authentication.jwt_rules)
}

/// The `jwks_uri` of an issuer's metadata, which must be the issuer's own (section 4.3).
fn jwks_uri(issuer: &str, metadata: &str) -> Result<String, String> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        issuer: String,
        jwks_uri: String,
    }
    let metadata: Metadata =
        serde_json::from_str(metadata).map_err(|_| "expected JSON with the strings issuer and jwks_uri".to_owned())?;
    if metadata.issuer != issuer {
        return Err(format!("it is the metadata of another issuer, {:?}", metadata.issuer));
    }
    Ok(metadata.jwks_uri)
}

/// Fetches each of `urls`. An error names its URL.
pub(super) fn documents<'a>(urls: &BTreeSet<&'a str>) -> BTreeMap<&'a str, Result<String, String>> {
    if urls.is_empty() {
        return BTreeMap::new();
    }
    let all = |why: String| urls.iter().map(|url| (*url, Err(format!("{url}: {why}")))).collect();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return all(error.to_string()),
    };
    let client = match Client::new(TIMEOUT, authz::jwk::MAX_BYTES) {
        Ok(client) => client,
        Err(error) => return all(error.to_string()),
    };
    if urls.len() > MAX_DOCUMENTS {
        return all(format!("more than {MAX_DOCUMENTS} documents to fetch"));
    }
    let progress = Progress::of(&format!("fetching {} documents of issuers", urls.len()));
    let fetch = async |text: &str| {
        let url = checked_url(text).map_err(|error| error.to_string())?;
        let body = client.get(&url).await.map_err(|error| format!("{text}: {error}"))?;
        String::from_utf8(body).map_err(|_| format!("{text}: the answer is not UTF-8"))
    };
    let counted = |url| {
        let fetched = runtime.block_on(fetch(url));
        progress.one_more();
        fetched
    };
    urls.iter().map(|url| (*url, counted(url))).collect()
}
