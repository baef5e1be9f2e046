//! Secrets in memory, with the versions and labels of AWS Secrets Manager and its rules for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use identity::secret::Secret;

use super::{CURRENT, PENDING, PREVIOUS, Put, SecretDescription, SecretError, SecretVersions, Secrets};
use crate::BoxFuture;

/// The largest value, in bytes, as at Secrets Manager.
const MAX_BYTES: usize = 65_536;
/// As many versions are kept as Secrets Manager keeps; of those without a label the oldest go first.
const MAX_VERSIONS: usize = 100;

/// Secrets in memory.
#[derive(Default)]
pub struct Embedded(Mutex<BTreeMap<String, Stored>>);

#[derive(Default)]
struct Stored {
    rotation_enabled: bool,
    /// How often [`Embedded::put`] has made a version.
    puts: u64,
    /// The oldest first.
    versions: Vec<Version>,
}

struct Version {
    id: String,
    value: Option<Secret<String>>,
    stages: BTreeSet<String>,
}

impl Embedded {
    /// Puts a secret in, or makes its value the current one.
    pub fn put(&self, id: &str, value: impl Into<String>) {
        let mut all = self.all();
        let stored = all.entry(id.to_owned()).or_default();
        stored.puts += 1;
        let version = format!("{:032}", stored.puts);
        stored.version(&version).value = Some(Secret::new(value.into()));
        stored.attach(CURRENT, &version);
    }

    /// What `RotateSecret` does before it calls the function: rotation is on, and there is a pending version `version`
    /// that has no value.
    ///
    /// # Errors
    /// There is no such secret, or another rotation is not complete: its version is pending and not current.
    pub fn start_rotation(&self, id: &str, version: &str) -> Result<(), SecretError> {
        self.with(id, |stored| {
            if stored.versions.iter().any(|v| v.has(PENDING) && !v.has(CURRENT) && v.id != version) {
                return Err(refused(id, "InvalidRequestException: a previous rotation is not complete"));
            }
            stored.rotation_enabled = true;
            stored.version(version);
            stored.attach(PENDING, version);
            Ok(())
        })
    }

    /// What `CancelRotateSecret` does: rotation is off. Labels stay where they are.
    pub fn cancel_rotation(&self, id: &str) {
        if let Some(stored) = self.all().get_mut(id) {
            stored.rotation_enabled = false;
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Stored>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, id: &str, act: impl FnOnce(&mut Stored) -> Result<T, SecretError>) -> Result<T, SecretError> {
        act(self.all().get_mut(id).ok_or_else(|| SecretError::NotFound(id.to_owned()))?)
    }
}

fn refused(id: &str, why: &str) -> SecretError {
    SecretError::NotChanged { id: id.to_owned(), why: why.to_owned() }
}

impl Version {
    fn has(&self, stage: &str) -> bool {
        self.stages.contains(stage)
    }
}

impl Stored {
    /// The version `id`, made if there is none.
    fn version(&mut self, id: &str) -> &mut Version {
        let place = match self.versions.iter().position(|version| version.id == id) {
            Some(place) => place,
            None => {
                if self.versions.len() >= MAX_VERSIONS
                    && let Some(oldest) = self.versions.iter().position(|version| version.stages.is_empty())
                {
                    self.versions.remove(oldest);
                }
                self.versions.push(Version { id: id.to_owned(), value: None, stages: BTreeSet::new() });
                self.versions.len() - 1
            }
        };
        &mut self.versions[place]
    }

    fn with(&self, stage: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.has(stage))
    }

    /// Moves a label. "Whenever you move AWSCURRENT, Secrets Manager automatically moves the label AWSPREVIOUS to the
    /// version that AWSCURRENT was removed from" (UpdateSecretVersionStage).
    fn attach(&mut self, stage: &str, to: &str) {
        let from = self.with(stage).map(|version| version.id.clone());
        for version in &mut self.versions {
            version.stages.remove(stage);
            if version.id == to {
                version.stages.insert(stage.to_owned());
            }
        }
        if stage == CURRENT
            && let Some(from) = from.filter(|from| from != to)
        {
            self.attach(PREVIOUS, &from);
        }
    }

    /// PutSecretValue: with the token of a version that has another value it fails, "because you can't modify an
    /// existing version; you can only create new ones", and with the same value it does nothing.
    fn put(&mut self, version: &str, value: &Secret<String>, stage: &str) -> Result<Put, &'static str> {
        if value.expose().len() > MAX_BYTES {
            return Err("ValidationException: the value has more than 65536 bytes");
        }
        let first = self.with(CURRENT).is_none();
        let there = self.version(version);
        match &there.value {
            Some(held) if held.expose() == value.expose() => return Ok(Put::Done),
            Some(_) => return Ok(Put::OtherValue),
            None => there.value = Some(value.clone()),
        }
        self.attach(stage, version);
        if first {
            self.attach(CURRENT, version);
        }
        Ok(Put::Done)
    }

    /// UpdateSecretVersionStage: "If the staging label is already attached to a different version of the secret, then
    /// you must also specify the RemoveFromVersionId parameter", and "If the label is attached and you either do not
    /// specify this parameter, or the version ID does not match, then the operation fails".
    fn move_stage(&mut self, stage: &str, to: Option<&str>, from: Option<&str>) -> Result<(), &'static str> {
        let exists = |id: &&str| self.versions.iter().any(|version| version.id == **id);
        if !to.iter().chain(from.iter()).all(exists) {
            return Err("InvalidParameterException: there is no such version");
        }
        let on = self.with(stage).map(|version| version.id.as_str());
        if on != from && (from.is_some() || on != to) {
            return Err("InvalidParameterException: the label is not on the version that it is to be removed from");
        }
        match to {
            Some(to) => self.attach(stage, to),
            None if stage == CURRENT => return Err("InvalidParameterException: AWSCURRENT can only be moved"),
            None => self.versions.iter_mut().for_each(|version| {
                version.stages.remove(stage);
            }),
        }
        Ok(())
    }
}

impl Secrets for Embedded {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>> {
        let all = self.all();
        let found = all.get(id).and_then(|stored| stored.with(CURRENT)).and_then(|version| version.value.clone());
        Box::pin(async move { found.ok_or_else(|| SecretError::NotFound(id.to_owned())) })
    }
}

impl SecretVersions for Embedded {
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<SecretDescription, SecretError>> {
        let described = self.with(id, |stored| {
            // A version without a label is deprecated, and DescribeSecret does not list it.
            let labelled = stored.versions.iter().filter(|version| !version.stages.is_empty());
            let versions = labelled.map(|v| (v.id.clone(), v.stages.iter().cloned().collect())).collect();
            Ok(SecretDescription { rotation_enabled: stored.rotation_enabled, versions })
        });
        Box::pin(async move { described })
    }

    fn get_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, SecretError>> {
        let found = self.with(id, |stored| match stored.versions.iter().find(|v| v.id == version) {
            Some(found) if !found.has(stage) => Err(SecretError::Unavailable {
                id: id.to_owned(),
                why: "InvalidRequestException: the version does not have this label".to_owned(),
            }),
            found => Ok(found.and_then(|found| found.value.clone())),
        });
        Box::pin(async move { found })
    }

    fn put_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        value: &'a Secret<String>,
        stage: &'a str,
        _rotation_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Put, SecretError>> {
        let put = self.with(id, |stored| stored.put(version, value, stage).map_err(|why| refused(id, why)));
        Box::pin(async move { put })
    }

    fn move_stage<'a>(
        &'a self,
        id: &'a str,
        stage: &'a str,
        to: Option<&'a str>,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SecretError>> {
        let moved = self.with(id, |stored| stored.move_stage(stage, to, from).map_err(|why| refused(id, why)));
        Box::pin(async move { moved })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    /// The labels of each version, as `v:AWSCURRENT+AWSPENDING`.
    async fn labels(store: &Embedded) -> Vec<String> {
        let described = store.describe("s").await.unwrap().versions;
        described
            .into_iter()
            .map(|(id, stages)| format!("{}:{}", id.trim_start_matches('0'), stages.join("+")))
            .collect()
    }

    fn first() -> String {
        format!("{:032}", 1)
    }

    #[tokio::test]
    async fn a_rotation_moves_the_labels_as_secrets_manager_does() {
        let store = Embedded::default();
        store.put("s", "one");
        store.start_rotation("s", "t").unwrap();
        assert!(store.describe("s").await.unwrap().rotation_enabled);
        assert_eq!(store.get_version("s", "t", PENDING).await.unwrap().map(|v| v.expose().clone()), None);
        assert!(store.start_rotation("s", "u").is_err(), "a pending version that is not current is in the way");

        assert_eq!(store.put_version("s", "t", &secret("two"), PENDING, None).await, Ok(Put::Done));
        assert_eq!(store.put_version("s", "t", &secret("two"), PENDING, None).await, Ok(Put::Done));
        assert_eq!(store.put_version("s", "t", &secret("three"), PENDING, None).await, Ok(Put::OtherValue));
        assert_eq!(store.get_version("s", "t", PENDING).await.unwrap().unwrap().expose(), "two");
        assert_eq!(store.get("s").await.unwrap().expose(), "one");
        assert!(store.get_version("s", "t", CURRENT).await.is_err());

        store.move_stage("s", CURRENT, Some("t"), Some(&first())).await.unwrap();
        assert_eq!(labels(&store).await, ["1:AWSPREVIOUS", "t:AWSCURRENT+AWSPENDING"]);
        assert_eq!(store.get("s").await.unwrap().expose(), "two");
        assert!(store.move_stage("s", CURRENT, Some("t"), Some(&first())).await.is_err(), "it has moved already");
        store.start_rotation("s", "t2").unwrap();
        store.move_stage("s", PENDING, None, Some("t2")).await.unwrap();
        assert!(store.move_stage("s", PENDING, None, Some("t2")).await.is_err(), "it is gone already");
        assert_eq!(labels(&store).await, ["1:AWSPREVIOUS", "t:AWSCURRENT"], "a version without a label is not listed");
        store.cancel_rotation("s");
        assert!(!store.describe("s").await.unwrap().rotation_enabled);
    }

    #[tokio::test]
    async fn labels_move_only_from_where_they_are() {
        let store = Embedded::default();
        store.put("s", "one");
        store.start_rotation("s", "t").unwrap();
        store.put_version("s", "t", &secret("two"), PENDING, None).await.unwrap();
        let first = first();
        for (stage, to, from, good) in [
            (CURRENT, Some("t"), None, false),
            (CURRENT, Some("t"), Some("t"), false),
            (CURRENT, None, Some(first.as_str()), false),
            (CURRENT, Some("gone"), Some(first.as_str()), false),
            (CURRENT, Some(first.as_str()), None, true),
            (PENDING, None, Some(first.as_str()), false),
            (PENDING, Some("t"), None, true),
            (PENDING, None, Some("t"), true),
        ] {
            assert_eq!(store.move_stage("s", stage, to, from).await.is_ok(), good, "{stage} {to:?} {from:?}");
        }
    }

    #[tokio::test]
    async fn what_is_too_large_or_unknown_is_refused_and_old_versions_go() {
        let store = Embedded::default();
        assert!(store.describe("s").await.is_err() && store.start_rotation("s", "t").is_err());
        store.put("s", "one");
        let at = secret(&"x".repeat(MAX_BYTES));
        let past = secret(&"x".repeat(MAX_BYTES + 1));
        assert!(store.put_version("s", "t", &past, PENDING, None).await.is_err());
        assert_eq!(store.put_version("s", "t", &at, PENDING, None).await, Ok(Put::Done));
        for round in 0..2 * MAX_VERSIONS {
            store.put("s", round.to_string());
        }
        assert_eq!(store.all()["s"].versions.len(), MAX_VERSIONS);
        assert_eq!(store.get_version("s", "t", PENDING).await.unwrap().unwrap().expose(), at.expose());
    }
}
