//! A configuration that is asked about requests: what `evaluate` and `explain` share.

use std::collections::BTreeMap;
use std::path::PathBuf;

use authz::api_key::{self, ApiKey};
use authz::{
    ApiKeyRecord, Given, KeyRecordLookup, KeyState, ProviderAnswer, Request, RevocationList, Revocations, Target,
    credentials,
};
use clap::Args;
use identity::Secret;
use platform::clock::{Clock, SystemClock};
use platform::random::{Random, SystemRandom};

use crate::configuration::{self, ConfigurationArgs, Loaded};
use crate::request_line::{Id, NamedWorkload, RequestLine, StoredKey, StoredKeyState};
use crate::revocations;

/// The options of a session.
#[derive(Args, Debug)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    pub(crate) configuration: ConfigurationArgs,
    /// The time of every request, in seconds since 1970; otherwise it is now
    #[arg(long, value_name = "UNIX")]
    now: Option<u64>,
    /// A revocation list as its issuer signed it; or ids of revoked tokens (jti) and API keys, one a line, with
    /// client:ID for a client and # in front of a comment
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// The environment that the workloads of the requests belong to; otherwise the one that a presented API key is for
    #[arg(long, value_name = "NAME")]
    environment: Option<String>,
    /// The ApiGateway document that requests without a workload go to; otherwise it is found by host and base path
    #[arg(long, value_name = "NAMESPACE/NAME")]
    api_gateway: Option<String>,
}

/// A loaded configuration, and what plays the outside world.
pub(crate) struct Session {
    pub(crate) loaded: Loaded,
    now: Option<u64>,
    revoked: Option<RevocationList>,
    environment: Option<String>,
    api_gateway: Option<String>,
    pepper: Secret<Vec<u8>>,
}

/// Who plays the key store.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// What it knows, by the presented key.
    Keys(BTreeMap<String, StoredKey>),
    /// One answer for every key; without it there is none.
    One(Option<StoredKey>),
}

/// One request, ready to be decided about.
#[derive(Debug)]
pub(crate) struct Case {
    /// What the answer is known by.
    pub(crate) id: Id,
    /// The request.
    pub(crate) request: Request,
    /// Whose policies are asked.
    pub(crate) target: Target,
    /// What the extension providers say.
    pub(crate) providers: BTreeMap<String, ProviderAnswer>,
    /// What the key store says about the presented key, if there is one.
    pub(crate) api_key: Option<KeyRecordLookup>,
    /// The key store itself.
    store: Store,
}

impl Session {
    /// Loads everything that the options name.
    ///
    /// # Errors
    /// Every reason why it is refused, a line each.
    pub(crate) fn open(arguments: &SessionArgs) -> Result<Self, Vec<String>> {
        let mut loaded = configuration::load(&arguments.configuration)?;
        let idle = std::mem::take(&mut loaded.idle_files);
        loaded.warnings.extend(idle.iter().map(ToString::to_string));
        let one = |why: String| vec![why];
        if let Some(name) = &arguments.api_gateway
            && !name.split_once('/').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty())
        {
            return Err(one(format!("--api-gateway {name}: expected NAMESPACE/NAME")));
        }
        let now = arguments.now.unwrap_or_else(|| SystemClock.unix());
        let read = |path| revocations::read(path, &loaded.policies, &loaded.keys, now);
        let revoked = arguments.revocations.as_deref().map(read).transpose().map_err(one)?;
        let mut pepper = vec![0; 32];
        SystemRandom.fill(&mut pepper).map_err(|error| one(error.to_string()))?;
        Ok(Self {
            loaded,
            now: arguments.now,
            revoked,
            environment: arguments.environment.clone(),
            api_gateway: arguments.api_gateway.clone(),
            pepper: Secret::new(pepper),
        })
    }

    /// A session for `resources` at the time `now`.
    #[cfg(test)]
    pub(crate) fn of(resources: istio::Resources, now: u64) -> Result<Self, Vec<String>> {
        let compiled = configuration::compile(&resources, &authz::CompileOptions::default())?;
        let policies = authz::Policies::open(&compiled.section).map_err(|error| vec![error.to_string()])?;
        let keys = authz::KeySets::embedded(&policies).map_err(|error| vec![error.to_string()])?;
        let loaded =
            Loaded { resources: Some(resources), policies, keys, warnings: Vec::new(), idle_files: Vec::new() };
        let pepper = Secret::new(vec![0; 32]);
        Ok(Self { loaded, now: Some(now), revoked: None, environment: None, api_gateway: None, pepper })
    }

    /// The request of a line, and everything that its decision needs.
    ///
    /// # Errors
    /// One sentence, when it cannot be told which ApiGateway document the request goes to.
    pub(crate) fn case(&self, line: RequestLine) -> Result<Case, String> {
        let (line, target) = self.targeted(line)?;
        let store = Store::Keys(line.api_keys);
        Ok(self.prepared(line.id, line.request, target, line.providers, store))
    }

    /// As [`case`](Self::case), with a key store that answers `key` for whatever key is presented; without one it does
    /// not answer.
    ///
    /// # Errors
    /// As for [`case`](Self::case).
    pub(crate) fn case_with(&self, line: RequestLine, key: Option<&StoredKey>) -> Result<Case, String> {
        let (line, target) = self.targeted(line)?;
        Ok(self.prepared(line.id, line.request, target, line.providers, Store::One(key.cloned())))
    }

    /// A request that a front has read.
    pub(crate) fn case_of(&self, id: Id, request: Request, target: Target, key: Option<&StoredKey>) -> Case {
        self.prepared(id, request, target, BTreeMap::new(), Store::One(key.cloned()))
    }

    /// The same case with another request: the same target, providers and key store.
    pub(crate) fn with_request(&self, case: &Case, request: Request) -> Case {
        self.prepared(case.id.clone(), request, case.target.clone(), case.providers.clone(), case.store.clone())
    }

    fn targeted(&self, mut line: RequestLine) -> Result<(RequestLine, Target), String> {
        let target = match line.workload.take() {
            Some(NamedWorkload { namespace, labels }) => Target::Workload {
                namespace,
                labels: labels.into_iter().collect(),
                environment: self.environment.clone(),
            },
            None => self.at_api_gateway(&mut line.request)?,
        };
        Ok((line, target))
    }

    fn prepared(
        &self,
        id: Id,
        request: Request,
        mut target: Target,
        providers: BTreeMap<String, ProviderAnswer>,
        store: Store,
    ) -> Case {
        let presented = credentials(&self.loaded.policies, &request, &target).api_key;
        if let (Target::Workload { environment: environment @ None, .. }, Some(presented)) = (&mut target, &presented) {
            *environment = Some(presented.environment.clone());
        }
        let api_key = presented.map(|presented| match &store {
            Store::Keys(keys) => self.look_up(&presented.fingerprint, keys),
            Store::One(None) => KeyRecordLookup::Unavailable,
            Store::One(Some(key)) => {
                let headers = request.headers.iter().map(|(_, value)| value);
                let text = headers.into_iter().find(|value| api_key::fingerprint(value) == presented.fingerprint);
                let keys = text.map(|text| BTreeMap::from([(text.clone(), key.clone())])).unwrap_or_default();
                self.look_up(&presented.fingerprint, &keys)
            }
        });
        Case { id, request, target, providers, api_key, store }
    }

    /// Everything beside the request and the policies.
    pub(crate) fn given<'a>(&'a self, case: &'a Case) -> Given<'a> {
        Given {
            keys: &self.loaded.keys,
            api_key: case.api_key.as_ref(),
            pepper: Some(&self.pepper),
            revocations: self.revoked.as_ref().map_or(Revocations::NotKept, Revocations::List),
            providers: Some(&case.providers),
            verified: None,
            now: self.now(),
        }
    }

    /// The time of every request, in seconds since 1970.
    pub(crate) fn now(&self) -> u64 {
        self.now.unwrap_or_else(|| SystemClock.unix())
    }

    /// The ApiGateway that answers to the request's host, whose base path is taken off. API Gateway picks the longest
    /// base path of a domain as well.
    fn at_api_gateway(&self, request: &mut Request) -> Result<Target, String> {
        let domain = without_port(&request.host).to_ascii_lowercase();
        let mut found: Vec<(authz::ApiGatewayInfo<'_>, &str)> = Vec::new();
        let mut others = Vec::new();
        for gateway in self.loaded.policies.api_gateways_at(&domain) {
            if self.api_gateway.as_ref().is_some_and(|wanted| wanted != gateway.name) {
                others.push(gateway.name);
                continue;
            }
            let base = gateway.base_path.unwrap_or_default();
            if below(&request.path, base).is_some() {
                found.push((gateway, base));
            }
        }
        let longest = found.iter().map(|(_, base)| base.len()).max().unwrap_or(0);
        found.retain(|(_, base)| base.len() == longest);
        if let (Some(wanted), [], [_, ..]) = (&self.api_gateway, found.as_slice(), others.as_slice()) {
            let others = others.join(" and ");
            return Err(format!("--api-gateway {wanted} does not take this host and path; {others} has the host"));
        }
        match found.as_slice() {
            // The gate says that there is none.
            [] => Ok(Target::ApiGateway { api_id: String::new(), stage: String::new(), domain }),
            [(gateway, base)] => {
                if let Some(rest) = below(&request.path, base) {
                    request.path = rest;
                }
                Ok(Target::ApiGateway { api_id: gateway.api_id.to_owned(), stage: gateway.stage.to_owned(), domain })
            }
            several => {
                let names: Vec<String> = several
                    .iter()
                    .map(|(gateway, _)| format!("{} (apiId {}, stage {})", gateway.name, gateway.api_id, gateway.stage))
                    .collect();
                let names = names.join(" and ");
                Err(format!(
                    "the host is a domain of the ApiGateways {names}, which differ neither in domain nor in basePath; \
                     choose one with --api-gateway, or name a workload"
                ))
            }
        }
    }

    /// Plays the key store for the key with this fingerprint.
    fn look_up(&self, fingerprint: &str, api_keys: &BTreeMap<String, StoredKey>) -> KeyRecordLookup {
        let Some((text, stored)) = api_keys.iter().find(|(text, _)| api_key::fingerprint(text) == fingerprint) else {
            return KeyRecordLookup::NotFound;
        };
        // The gate asks for the record of a well-formed key only.
        let Ok(key) = ApiKey::parse(text) else { return KeyRecordLookup::NotFound };
        let (state, expires_at) = match stored.state {
            StoredKeyState::Active => (KeyState::Active, None),
            StoredKeyState::Revoked => (KeyState::Revoked, None),
            StoredKeyState::Expired => (KeyState::Active, Some(0)),
            StoredKeyState::Unavailable => return KeyRecordLookup::Unavailable,
        };
        KeyRecordLookup::Found(ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: stored.client_id.clone(),
            environment: key.environment().to_owned(),
            hashes: vec![api_key::hex(&key.hash(&self.pepper))],
            scope: stored.scope.clone(),
            audiences: stored.aud.clone(),
            state,
            not_before: None,
            expires_at,
            ..ApiKeyRecord::default()
        })
    }
}

/// `path` without `base` in front of it, when it is below it: `/v1` covers `/v1`, `/v1/a` and `/v1?x`, not `/v10`.
fn below(path: &str, base: &str) -> Option<String> {
    let rest = path.strip_prefix(base)?;
    match rest.as_bytes().first() {
        Some(b'/') => Some(rest.to_owned()),
        None | Some(b'?' | b'#') if !base.is_empty() => Some(format!("/{rest}")),
        _ if base.is_empty() => Some(rest.to_owned()),
        _ => None,
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}
