//! Secrets by id: AWS Secrets Manager, or a table in memory for the local stack and tests.

use std::collections::BTreeMap;

use identity::secret::Secret;

use crate::BoxFuture;

/// The label of the version that is in use.
pub const CURRENT: &str = "AWSCURRENT";
/// The label of the version that a rotation is about to put into use.
pub const PENDING: &str = "AWSPENDING";
/// The label of the version that was in use before.
pub const PREVIOUS: &str = "AWSPREVIOUS";

/// Why a secret cannot be had. No secret is part of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no such secret, or it has no text value.
    #[error("the secret {0} does not exist or has no text value")]
    NotFound(String),
    /// The store does not answer, or refuses.
    #[error("cannot read the secret {id}: {why}")]
    Unavailable {
        /// The secret's id.
        id: String,
        /// What the store said.
        why: String,
    },
    /// The store does not answer to a change, or refuses it. Whether it has happened is unknown.
    #[error("cannot change the secret {id}: {why}")]
    NotChanged {
        /// The secret's id.
        id: String,
        /// What the store said.
        why: String,
    },
}

/// Where secrets are kept.
pub trait Secrets: Send + Sync {
    /// The current value of the secret `id` (a name or an ARN).
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Secret<String>, SecretError>>;
}

/// What is known of a secret without its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretDescription {
    /// Whether the secret is rotated by a function.
    pub rotation_enabled: bool,
    /// Each version's id with its staging labels (`AWSCURRENT`, `AWSPENDING`, `AWSPREVIOUS`, …).
    pub versions: BTreeMap<String, Vec<String>>,
}

/// What came of putting a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is there, with this value.
    Done,
    /// The version is there with another value; nothing has changed (`ResourceExistsException`).
    OtherValue,
}

/// The versions of secrets, for the function that rotates them.
pub trait SecretVersions: Send + Sync {
    /// The versions of the secret `id` and their labels.
    fn describe<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<SecretDescription, SecretError>>;

    /// The value of the version that has the id `version` and the label `stage`; `None` if there is none, or none with
    /// a value yet.
    fn get_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        stage: &'a str,
    ) -> BoxFuture<'a, Result<Option<Secret<String>>, SecretError>>;

    /// Puts the value of `version` and gives it the label `stage`. `rotation_token` is that of the rotation's event, if
    /// it had one.
    fn put_version<'a>(
        &'a self,
        id: &'a str,
        version: &'a str,
        value: &'a Secret<String>,
        stage: &'a str,
        rotation_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Put, SecretError>>;

    /// Moves the label `stage`: to the version `to`, away from `from`. It fails if the label is on another version than
    /// `from`, so of two who move it from one version only one succeeds.
    fn move_stage<'a>(
        &'a self,
        id: &'a str,
        stage: &'a str,
        to: Option<&'a str>,
        from: Option<&'a str>,
    ) -> BoxFuture<'a, Result<(), SecretError>>;
}

pub use embedded::Embedded;
#[cfg(feature = "secrets")]
pub use secretsmanager::SecretsManager;

mod embedded;
#[cfg(feature = "secrets")]
mod secretsmanager;
