//! The environment, read once and checked whole.
//!
//! Every program reads its variables through a [`Reader`], which remembers the names that the program knows: a
//! `CAUSEWAY_` variable that nobody asked for is a misspelt one, and a misspelt security setting must stop the start.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use identity::secret::Secret;

/// The prefix of Causeway's own variables.
pub const PREFIX: &str = "CAUSEWAY_";

/// A variable that stops the start. The text names the variable, what was found (unless it is a secret) and the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A required variable is absent or empty.
    #[error("{name} is not set: {hint}")]
    Missing {
        /// The variable.
        name: String,
        /// What it is for.
        hint: String,
    },
    /// The value is not what the variable takes.
    #[error("{name}={value:?} is not valid: {why}")]
    Invalid {
        /// The variable.
        name: String,
        /// What was found; `***` for a secret.
        value: String,
        /// The rule that it breaks.
        why: String,
    },
    /// The value is not UTF-8.
    #[error("{name} is not valid UTF-8")]
    NotUnicode {
        /// The variable.
        name: String,
    },
    /// Variables that only make sense together.
    #[error("{missing} is not set, but {present} is: set both or neither")]
    HalfGroup {
        /// The variable that is there.
        present: String,
        /// The one that is not.
        missing: String,
    },
    /// A `CAUSEWAY_` variable that this program does not have.
    #[error("{name} is not a variable of this program{}", nearest.as_deref().map(|n| format!("; did you mean {n}?")).unwrap_or_default())]
    Unknown {
        /// The variable.
        name: String,
        /// The known name that is most like it.
        nearest: Option<String>,
    },
}

/// Where variables come from.
pub trait Env {
    /// The value, `None` when it is not set. An empty value counts as not set, as in most deployment templates.
    fn get(&self, name: &str) -> Result<Option<String>, EnvError>;

    /// The names of all variables that are set.
    fn names(&self) -> Vec<String>;
}

/// The variables of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnv;

#[allow(clippy::disallowed_methods, reason = "this is the one place that reads the process environment")]
impl Env for ProcessEnv {
    fn get(&self, name: &str) -> Result<Option<String>, EnvError> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value).filter(|v| !v.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(EnvError::NotUnicode { name: name.to_owned() }),
        }
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect()
    }
}

/// Variables from a table: for tests and for the local stack, which starts every program in one process.
#[derive(Clone, Default)]
pub struct MapEnv(BTreeMap<String, String>);

impl<const N: usize> From<[(&str, &str); N]> for MapEnv {
    fn from(variables: [(&str, &str); N]) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl MapEnv {
    /// Sets a variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }
}

impl Env for MapEnv {
    fn get(&self, name: &str) -> Result<Option<String>, EnvError> {
        Ok(self.0.get(name).filter(|v| !v.is_empty()).cloned())
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}

/// Reads typed values and remembers which names were asked for.
pub struct Reader<'a> {
    env: &'a dyn Env,
    known: RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    /// A reader over `env`.
    pub fn new(env: &'a dyn Env) -> Self {
        Self { env, known: RefCell::default() }
    }

    /// The value, if set.
    pub fn optional(&self, name: &str) -> Result<Option<String>, EnvError> {
        self.known.borrow_mut().insert(name.to_owned());
        self.env.get(name)
    }

    /// The value; `hint` says what it is for when it is not set.
    pub fn required(&self, name: &str, hint: &str) -> Result<String, EnvError> {
        self.optional(name)?.ok_or_else(|| EnvError::Missing { name: name.to_owned(), hint: hint.to_owned() })
    }

    /// The value parsed by its type's `FromStr`.
    pub fn parsed<T>(&self, name: &str) -> Result<Option<T>, EnvError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.checked(name, |value| value.parse::<T>().map_err(|error| error.to_string()))
    }

    /// The value parsed by `parse`, whose error text is the rule that was broken.
    pub fn checked<T>(&self, name: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, EnvError> {
        let Some(value) = self.optional(name)? else { return Ok(None) };
        match parse(&value) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(why) => Err(EnvError::Invalid { name: name.to_owned(), value, why }),
        }
    }

    /// A whole number between `min` and `max`, or `default`.
    pub fn number(&self, name: &str, default: u64, min: u64, max: u64) -> Result<u64, EnvError> {
        let parsed = self.checked(name, |value| {
            let wrong = || format!("expected a whole number from {min} to {max}");
            // `parse` takes a sign too, which a shell script beside us may not.
            if !value.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(wrong());
            }
            let number: u64 = value.parse().map_err(|_| wrong())?;
            if (min..=max).contains(&number) { Ok(number) } else { Err(wrong()) }
        })?;
        Ok(parsed.unwrap_or(default))
    }

    /// A value that must never be printed.
    pub fn secret(&self, name: &str) -> Result<Option<Secret<String>>, EnvError> {
        Ok(self.optional(name)?.map(Secret::new))
    }

    /// Two variables that only make sense together.
    pub fn pair(&self, first: &str, second: &str) -> Result<Option<(String, String)>, EnvError> {
        let half = |present: &str, missing: &str| EnvError::HalfGroup {
            present: present.to_owned(),
            missing: missing.to_owned(),
        };
        match (self.optional(first)?, self.optional(second)?) {
            (Some(a), Some(b)) => Ok(Some((a, b))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(half(first, second)),
            (None, Some(_)) => Err(half(second, first)),
        }
    }

    /// Names a variable that this program knows but does not read itself (its wrapper script does, say).
    pub fn known(&self, name: &str) {
        self.known.borrow_mut().insert(name.to_owned());
    }

    /// Refuses every `CAUSEWAY_` variable that was not asked for. Call it last.
    pub fn finish(self) -> Result<(), EnvError> {
        let known = self.known.into_inner();
        let unknown = self.env.names().into_iter().find(|name| name.starts_with(PREFIX) && !known.contains(name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let nearest = known
                    .iter()
                    .map(|k| (distance(k, &name), k))
                    .min()
                    .filter(|(d, _)| *d <= 4)
                    .map(|(_, k)| k.clone());
                Err(EnvError::Unknown { name, nearest })
            }
        }
    }
}

/// How many single-letter edits lie between two names (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let replace = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

/// `CAUSEWAY_ENVIRONMENT`: the environment that a program serves, if it is told.
///
/// # Errors
/// The name is not one that API keys can carry.
pub fn environment_from_env(env: &Reader<'_>) -> Result<Option<String>, EnvError> {
    env.checked("CAUSEWAY_ENVIRONMENT", |word| {
        let plain = word.len() <= 32 && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        plain.then(|| word.to_owned()).ok_or_else(|| "expected 1 to 32 lower-case letters and digits".to_owned())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn each_wrong_value_is_named() {
        let env = MapEnv::from([
            ("CAUSEWAY_PROXY_PORT", "abc"),
            ("CAUSEWAY_TTL", "0"),
            ("CAUSEWAY_API_KEYS_TABLE", "keys"),
            ("CAUSEWAY_BUNDEL", "x"),
            ("CAUSEWAY_EMPTY", ""),
            ("PATH", "/bin"),
        ]);
        let reader = Reader::new(&env);
        let text = |error: EnvError| error.to_string();
        assert_eq!(
            text(reader.number("CAUSEWAY_PROXY_PORT", 1, 1, 65_535).unwrap_err()),
            r#"CAUSEWAY_PROXY_PORT="abc" is not valid: expected a whole number from 1 to 65535"#
        );
        assert!(Reader::new(&MapEnv::from([("N", "+5")])).number("N", 1, 1, 9).is_err());
        assert_eq!(
            text(reader.number("CAUSEWAY_TTL", 5, 1, 60).unwrap_err()),
            r#"CAUSEWAY_TTL="0" is not valid: expected a whole number from 1 to 60"#
        );
        assert_eq!(
            text(reader.required("CAUSEWAY_ISSUER", "the issuer's URL").unwrap_err()),
            "CAUSEWAY_ISSUER is not set: the issuer's URL"
        );
        assert_eq!(
            text(reader.required("CAUSEWAY_EMPTY", "an empty value counts as not set").unwrap_err()),
            "CAUSEWAY_EMPTY is not set: an empty value counts as not set"
        );
        assert_eq!(
            text(reader.pair("CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET").unwrap_err()),
            "CAUSEWAY_PEPPER_SECRET is not set, but CAUSEWAY_API_KEYS_TABLE is: set both or neither"
        );
        assert_eq!(reader.optional("CAUSEWAY_BUNDLE").unwrap(), None);
        assert_eq!(
            text(reader.finish().unwrap_err()),
            "CAUSEWAY_BUNDEL is not a variable of this program; did you mean CAUSEWAY_BUNDLE?"
        );
    }

    #[test]
    fn secrets_do_not_print() {
        let env = MapEnv::from([("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        let secret = Reader::new(&env).secret("AWS_SECRET_ACCESS_KEY").unwrap().unwrap();
        assert_eq!(format!("{secret:?}"), "***");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn variables_of_others_are_not_ours_to_judge() {
        let env = MapEnv::from([("PATH", "/bin"), ("AWS_REGION", "eu-central-1")]);
        assert_eq!(Reader::new(&env).finish(), Ok(()));
    }
}
