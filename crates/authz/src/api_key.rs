//! API keys: their text, their hash, and what the store keeps about them.
//!
//! A key reads `cwk_<environment>_<id><secret><checksum>`: the prefix lets scanners find leaked keys, the
//! checksum lets everybody refuse a mistyped or made-up one without asking the store, the id is the handle
//! to look it up by, and the secret is known to its holder alone.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use identity::Secret;
use serde::{Deserialize, Serialize};

/// The longest text that is looked at, in bytes.
pub const MAX_BYTES: usize = 128;

/// The longest environment name, in bytes.
pub const MAX_ENVIRONMENT_BYTES: usize = 32;

const PREFIX: &str = "cwk_";
const ID: usize = 12;
const SECRET: usize = 32;
const CHECKSUM: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A well-formed API key: right shape, right checksum. Whether it exists is the store's to say.
#[derive(Clone)]
pub struct ApiKey {
    environment: String,
    id: String,
    text: Secret<String>,
}

/// The text is not an API key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    /// More than [`MAX_BYTES`].
    #[error("api key is longer than 128 bytes")]
    TooLong,
    /// Not `cwk_<environment>_` and 50 letters and digits.
    #[error("api key does not read cwk_<environment>_ and 50 letters and digits")]
    Shape,
    /// The environment is not 1 to 32 lower-case letters and digits.
    #[error("environment of an api key is not 1 to 32 lower-case letters and digits")]
    Environment,
    /// The last six characters do not belong to the rest: mistyped or made up.
    #[error("checksum of the api key is wrong")]
    Checksum,
}

impl ApiKey {
    /// Reads a presented key. Needs no store and no secret.
    ///
    /// # Errors
    /// [`Malformed`] says what is wrong; none of its texts quotes the key.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.len() > MAX_BYTES {
            return Err(Malformed::TooLong);
        }
        let rest = text.strip_prefix(PREFIX).ok_or(Malformed::Shape)?;
        let (environment, body) = rest.split_once('_').ok_or(Malformed::Shape)?;
        check_environment(environment)?;
        let alphanumeric = body.bytes().all(|b| b.is_ascii_alphanumeric());
        if !alphanumeric || body.len() != ID + SECRET + CHECKSUM {
            return Err(Malformed::Shape);
        }
        let (covered, checksum) = text.split_at_checked(text.len() - CHECKSUM).ok_or(Malformed::Shape)?;
        if checksum_of(covered) != checksum {
            return Err(Malformed::Checksum);
        }
        Ok(Self {
            environment: environment.to_owned(),
            id: body.chars().take(ID).collect(),
            text: Secret::new(text.to_owned()),
        })
    }

    /// Makes a new key for `environment` from 48 random bytes.
    ///
    /// # Errors
    /// [`Malformed::Environment`].
    pub fn generate(environment: &str, random: &[u8; 48]) -> Result<Self, Malformed> {
        let body = base62::<{ ID + SECRET }>(random);
        Self::assemble(environment, &body)
    }

    /// Makes another value of the key `id`, for its rotation, from 48 random bytes.
    ///
    /// # Errors
    /// [`Malformed::Environment`], and [`Malformed::Shape`] when `id` is no key's id.
    pub fn generate_for(environment: &str, id: &str, random: &[u8; 48]) -> Result<Self, Malformed> {
        if id.len() != ID {
            return Err(Malformed::Shape);
        }
        let secret = base62::<SECRET>(random);
        Self::assemble(environment, &format!("{id}{secret}"))
    }

    fn assemble(environment: &str, body: &str) -> Result<Self, Malformed> {
        check_environment(environment)?;
        let covered = format!("{PREFIX}{environment}_{body}");
        let text = format!("{covered}{}", checksum_of(&covered));
        Self::parse(&text)
    }

    /// The public handle that the store knows the key by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The environment that the key says it is for.
    pub fn environment(&self) -> &str {
        &self.environment
    }

    /// The whole key, to be shown to its holder once and never stored.
    pub fn text(&self) -> &Secret<String> {
        &self.text
    }

    /// What the store keeps instead of the key: HMAC-SHA-256 of its whole text under the pepper, so that
    /// the environment and the id are bound to the secret.
    pub fn hash(&self, pepper: &Secret<Vec<u8>>) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, pepper.expose());
        let tag = hmac::sign(&key, self.text.expose().as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(tag.as_ref());
        hash
    }
}

/// The value of the key that stands for the API key `id` in API Gateway's usage plans: made out of the key's handle, not of
/// its secret, so that nobody who may read the values there can use one here, and the quota stays the key's own while its
/// secret is rotated. 64 characters of hex; API Gateway takes 20 to 128 letters and digits.
pub fn usage_plan_key(environment: &str, id: &str, pepper: &Secret<Vec<u8>>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, pepper.expose());
    // No key's text begins like this, so that the value is never a hash that the store keeps.
    let tag = hmac::sign(&key, format!("usage plan key\n{environment}\n{id}").as_bytes());
    let mut value = [0; 32];
    value.copy_from_slice(tag.as_ref());
    hex(&value)
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKey")
            .field("environment", &self.environment)
            .field("id", &self.id)
            .field("text", &"***")
            .finish()
    }
}

/// What the store knows about one API key. The default one is disabled and opens nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeyRecord {
    /// The key's public handle.
    pub id: String,
    /// The OAuth client that the key belongs to.
    pub client_id: String,
    /// The environment that it opens.
    pub environment: String,
    /// Hex of [`ApiKey::hash`]; one live value, or two while the key is rotated.
    pub hashes: Vec<String>,
    /// Scopes, separated by spaces; may be empty.
    #[serde(default)]
    pub scope: String,
    /// Audiences; may be empty.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Whether it may be used.
    pub state: KeyState,
    /// Not valid before this moment, in seconds since 1970.
    #[serde(default)]
    pub not_before: Option<u64>,
    /// Not valid from this moment on, in seconds since 1970.
    #[serde(default)]
    pub expires_at: Option<u64>,
    /// The value before the last rotation, as long as it is accepted beside the one of `hashes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousValue>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was made, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<u64>,
    /// The principal that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The usage plan of API Gateway that counts its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_plan: Option<String>,
    /// Whether API Gateway has heard of the last change; absent when it need not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage_plan_state: Option<UsagePlanState>,
}

/// A value that a newer one has replaced.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousValue {
    /// Hex of [`ApiKey::hash`].
    pub hash: String,
    /// Not valid from this moment on, in seconds since 1970.
    pub ends_at: u64,
}

/// Whether API Gateway's usage plans know what the record says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UsagePlanState {
    /// Not yet.
    Pending,
    /// They do.
    Synced,
}

/// Whether an API key may be used.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyState {
    /// It may.
    Active,
    /// Not at present.
    #[default]
    Disabled,
    /// Never again.
    Revoked,
}

/// What the store answered for a key's id.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "there is one of them a decision, and most are found")]
pub enum KeyRecordLookup {
    /// The record.
    Found(ApiKeyRecord),
    /// There is no such key.
    NotFound,
    /// The store did not answer.
    Unavailable,
}

/// Why a well-formed key is not accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is no such key, or its secret is another.
    Unknown,
    /// Its record breaks its own form: a fault of whoever wrote it.
    Damaged,
    /// It is for another environment.
    Environment,
    /// It may not be used at present.
    Disabled,
    /// It may never be used again.
    Revoked,
    /// It is not valid yet.
    NotYetValid,
    /// It is not valid any more.
    Expired,
}

/// A key that is accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Accepted<'a> {
    /// Its record.
    pub record: &'a ApiKeyRecord,
    /// When the value that was presented ends, in seconds since 1970: with the key, or sooner if a rotation has
    /// replaced it.
    pub ends_at: Option<u64>,
}

/// Checks `key` against the store's answer. The secret is proven first: what a record says is told to
/// nobody who does not hold its key. An unknown id costs the same comparison as a known one. `serving` is
/// the environment that the key has to open; `now` is in seconds since 1970.
///
/// # Errors
/// The first thing that is wrong.
pub fn check<'a>(
    key: &ApiKey,
    record: Option<&'a ApiKeyRecord>,
    pepper: &Secret<Vec<u8>>,
    serving: Option<&str>,
    now: u64,
) -> Result<Accepted<'a>, Refusal> {
    let hash = key.hash(pepper);
    let Some(record) = record else {
        let _same_work = constant_time::verify_slices_are_equal(&hash, &[0; 32]);
        return Err(Refusal::Unknown);
    };
    if record.id != key.id {
        return Err(Refusal::Damaged);
    }
    let matched = record.value_of(&hash).ok_or(Refusal::Damaged)?;
    if matched == Value::None {
        return Err(Refusal::Unknown);
    }
    if record.client_id.is_empty() {
        return Err(Refusal::Damaged);
    }
    // Who does not know which environment it serves cannot tell that a key is for it.
    if record.environment != key.environment || serving != Some(record.environment.as_str()) {
        return Err(Refusal::Environment);
    }
    match record.state {
        KeyState::Active => {}
        KeyState::Disabled => return Err(Refusal::Disabled),
        KeyState::Revoked => return Err(Refusal::Revoked),
    }
    if record.not_before.is_some_and(|not_before| now < not_before) {
        return Err(Refusal::NotYetValid);
    }
    if record.expires_at.is_some_and(|expires_at| now >= expires_at) {
        return Err(Refusal::Expired);
    }
    let value_ends_at = match matched {
        Value::Until(ends_at) if now >= ends_at => return Err(Refusal::Expired),
        Value::Until(ends_at) => Some(ends_at),
        Value::Current | Value::None => None,
    };
    Ok(Accepted { record, ends_at: record.expires_at.into_iter().chain(value_ends_at).min() })
}

/// Which of a key's values a presented one is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Value {
    None,
    Current,
    Until(u64),
}

/// A value of a key that has not ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LiveValue {
    /// It stays until the key is rotated.
    Current,
    /// A rotation has replaced it, and it is accepted for a while.
    Previous,
}

impl ApiKeyRecord {
    /// Which of the record's values `key` is, whatever the record's own state, environment and end are: who shows it knows
    /// the secret, and no more is said. A value that a rotation has ended by `now` (seconds since 1970) is none any more.
    pub fn live_value(&self, key: &ApiKey, pepper: &Secret<Vec<u8>>, now: u64) -> Option<LiveValue> {
        match self.value_of(&key.hash(pepper)).filter(|_| self.id == key.id)? {
            Value::Current => Some(LiveValue::Current),
            Value::Until(ends_at) if now < ends_at => Some(LiveValue::Previous),
            Value::Until(_) | Value::None => None,
        }
    }

    /// `None` when the record is damaged.
    fn value_of(&self, hash: &[u8; 32]) -> Option<Value> {
        let values: Option<Vec<([u8; 32], Value)>> = self
            .hashes
            .iter()
            .map(|hex| (hex.as_str(), Value::Current))
            .chain(self.previous.iter().map(|previous| (previous.hash.as_str(), Value::Until(previous.ends_at))))
            .map(|(hex, value)| unhex(hex).map(|hash| (hash, value)))
            .collect();
        let values = values.filter(|values| !self.hashes.is_empty() && values.len() <= 2)?;
        // Every hash is compared, so that the time does not say which of the two it was.
        let compared = values.into_iter().map(|(stored, value)| {
            let equal = constant_time::verify_slices_are_equal(hash, &stored).is_ok();
            if equal { value } else { Value::None }
        });
        // One that stands in both places is current.
        Some(compared.fold(Value::None, |found, value| match (found, value) {
            (Value::Current, _) | (_, Value::Current) => Value::Current,
            (Value::None, other) => other,
            (found, _) => found,
        }))
    }
}

/// Lower-case hex of a hash, as [`ApiKeyRecord::hashes`] has it.
pub fn hex(hash: &[u8; 32]) -> String {
    use fmt::Write;
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// SHA-256 of a presented value in hex: a name for it in caches, never a proof.
pub fn fingerprint(text: &str) -> String {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    hex(&hash)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| (byte << 4) | digit);
    }
    Some(bytes)
}

fn check_environment(environment: &str) -> Result<(), Malformed> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if (1..=MAX_ENVIRONMENT_BYTES).contains(&environment.len()) && environment.bytes().all(allowed) {
        Ok(())
    } else {
        Err(Malformed::Environment)
    }
}

/// CRC-32 of `covered` in six base62 digits, most significant first (as GitHub's tokens end).
fn checksum_of(covered: &str) -> String {
    base62::<CHECKSUM>(&crc32fast::hash(covered.as_bytes()).to_be_bytes())
}

/// The last `N` base62 digits of a big-endian number, most significant first.
///
/// 48 random bytes hold 384 bits and 44 digits 262: taking the remainder favours no key by more than
/// 2^-122.
fn base62<const N: usize>(number: &[u8]) -> String {
    let mut number = number.to_vec();
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        let mut remainder: u32 = 0;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            // value < 62 * 256, so the quotient fits a byte.
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        let index = usize::try_from(remainder).unwrap_or(0);
        *digit = ALPHABET.get(index).copied().unwrap_or(b'0');
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn pepper() -> Secret<Vec<u8>> {
        Secret::new(b"a pepper of at least thirty-two bytes".to_vec())
    }

    #[test]
    fn a_usage_plan_key_is_the_handles_own_and_says_nothing_of_the_secret() {
        let (one, rotated) = (key(), ApiKey::generate("dev", &[8; 48]).unwrap());
        let value = usage_plan_key("dev", one.id(), &pepper());
        assert!((20..=128).contains(&value.len()) && value.bytes().all(|b| b.is_ascii_alphanumeric()), "{value}");
        assert_eq!(value, usage_plan_key("dev", one.id(), &pepper()));
        for other in [
            usage_plan_key("prod", one.id(), &pepper()),
            usage_plan_key("dev", rotated.id(), &pepper()),
            usage_plan_key("dev", one.id(), &Secret::new(b"another pepper".to_vec())),
            hex(&one.hash(&pepper())),
        ] {
            assert_ne!(value, other);
        }
    }

    fn key() -> ApiKey {
        ApiKey::generate("dev", &[7; 48]).unwrap()
    }

    fn record(key: &ApiKey) -> ApiKeyRecord {
        ApiKeyRecord {
            id: key.id().to_owned(),
            client_id: "reader".to_owned(),
            environment: "dev".to_owned(),
            hashes: vec![hex(&key.hash(&pepper()))],
            scope: "reviews.read".to_owned(),
            audiences: vec!["bookinfo".to_owned()],
            state: KeyState::Active,
            not_before: None,
            expires_at: None,
            ..ApiKeyRecord::default()
        }
    }

    #[test]
    fn a_made_key_reads_back() {
        let key = key();
        let text = key.text().expose().clone();
        assert_eq!(text.len(), "cwk_dev_".len() + 50);
        let read = ApiKey::parse(&text).unwrap();
        assert_eq!((read.id(), read.environment()), (key.id(), "dev"));
        assert!(!format!("{key:?}").contains(&text[20..52]), "Debug shows the secret");
    }

    #[test]
    fn another_value_of_a_key_keeps_its_id() {
        let first = key();
        let second = ApiKey::generate_for("dev", first.id(), &[9; 48]).unwrap();
        assert_eq!((second.id(), second.environment()), (first.id(), "dev"));
        assert_ne!(second.text().expose(), first.text().expose());
        for id in ["", "short", "thirteen-char", "with spaces!", "éééééé"] {
            assert_eq!(ApiKey::generate_for("dev", id, &[9; 48]).err(), Some(Malformed::Shape), "{id}");
        }
    }

    #[test]
    fn the_value_before_a_rotation_ends_at_its_moment() {
        let (old, pepper) = (key(), pepper());
        let new = ApiKey::generate_for("dev", old.id(), &[9; 48]).unwrap();
        let hash = |key: &ApiKey| hex(&key.hash(&pepper));
        let previous = |hash: String| Some(PreviousValue { hash, ends_at: 100 });
        let rotated = ApiKeyRecord { hashes: vec![hash(&new)], previous: previous(hash(&old)), ..record(&old) };
        let verdict =
            |key: &ApiKey, record: &ApiKeyRecord, now| check(key, Some(record), &pepper, Some("dev"), now).err();
        assert_eq!(verdict(&old, &rotated, 99), None);
        assert_eq!(verdict(&old, &rotated, 100), Some(Refusal::Expired));
        assert_eq!(verdict(&new, &rotated, 100), None);
        for (key, expires_at, expected) in [
            (&new, None, None),
            (&new, Some(200), Some(200)),
            (&old, None, Some(100)),
            (&old, Some(200), Some(100)),
            (&old, Some(50), Some(50)),
        ] {
            let record = ApiKeyRecord { expires_at, ..rotated.clone() };
            let accepted = check(key, Some(&record), &pepper, Some("dev"), 0).unwrap();
            assert_eq!((accepted.record, accepted.ends_at), (&record, expected));
        }
        for (key, now, expected) in [
            (&new, 99, Some(LiveValue::Current)),
            (&new, 100, Some(LiveValue::Current)),
            (&old, 99, Some(LiveValue::Previous)),
            (&old, 100, None),
        ] {
            assert_eq!(rotated.live_value(key, &pepper, now), expected, "{now}");
        }
        let other = ApiKey::generate_for("dev", old.id(), &[10; 48]).unwrap();
        assert_eq!(verdict(&other, &rotated, 99), Some(Refusal::Unknown));
        assert_eq!(rotated.live_value(&other, &pepper, 99), None);
        // Three values, none that is current, and one that is no hash: nobody can say what was meant.
        for damaged in [
            ApiKeyRecord { hashes: vec![hash(&new), hash(&other)], ..rotated.clone() },
            ApiKeyRecord { hashes: Vec::new(), ..rotated.clone() },
            ApiKeyRecord { previous: previous("xyz".to_owned()), ..rotated.clone() },
        ] {
            assert_eq!(verdict(&new, &damaged, 99), Some(Refusal::Damaged));
            assert_eq!(damaged.live_value(&new, &pepper, 99), None);
        }
        // What is the current value too does not end.
        let same = ApiKeyRecord { previous: previous(hash(&new)), ..rotated };
        assert_eq!(verdict(&new, &same, 100), None);
    }

    #[test]
    fn checksum_is_crc32_in_base62() {
        // 62^2 + 1 and the largest CRC, worked out by hand.
        assert_eq!(base62::<6>(&3845_u32.to_be_bytes()), "000101");
        assert_eq!(base62::<6>(&u32::MAX.to_be_bytes()), "4gfFC3");
        assert_eq!(base62::<6>(&[0; 4]), "000000");
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let good = key().text().expose().clone();
        let cases = [
            (String::new(), Malformed::Shape),
            ("cwk_".to_owned(), Malformed::Shape),
            (good.replace("cwk_", "cwx_"), Malformed::Shape),
            (format!("{good}a"), Malformed::Shape),
            (good[..good.len() - 1].to_owned(), Malformed::Shape),
            (format!(" {good}"), Malformed::Shape),
            (format!("{good},{good}"), Malformed::Shape),
            (good.replace("cwk_dev_", "cwk_DEV_"), Malformed::Environment),
            (good.replace("cwk_dev_", "cwk__"), Malformed::Environment),
            (good.replace("cwk_dev_", "cwk_prod_"), Malformed::Checksum),
            ("x".repeat(MAX_BYTES), Malformed::Shape),
            ("x".repeat(MAX_BYTES + 1), Malformed::TooLong),
            (format!("cwk_dev_{}", "é".repeat(25)), Malformed::Shape),
        ];
        for (text, expected) in cases {
            assert_eq!(ApiKey::parse(&text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn environments_have_a_grammar() {
        for bad in ["", "Dev", "a-b", "a_b", &"x".repeat(33)] {
            assert_eq!(ApiKey::generate(bad, &[0; 48]).err(), Some(Malformed::Environment), "{bad}");
        }
        assert!(ApiKey::generate(&"x".repeat(32), &[0; 48]).is_ok());
    }

    #[test]
    fn every_refusal_has_its_reason() {
        let key = key();
        let other = ApiKey::generate("dev", &[9; 48]).unwrap();
        let good = record(&key);
        let with = |change: fn(&mut ApiKeyRecord)| {
            let mut record = record(&key);
            change(&mut record);
            record
        };
        let check = |record: &ApiKeyRecord| check(&key, Some(record), &pepper(), Some("dev"), 1000).map(|_| ());
        assert_eq!(check(&good), Ok(()));
        let cases: [(&str, ApiKeyRecord, Refusal); 11] = [
            (
                "other secret",
                ApiKeyRecord { hashes: vec![hex(&other.hash(&pepper()))], ..good.clone() },
                Refusal::Unknown,
            ),
            ("other id", with(|r| r.id = "AAAAAAAAAAAA".to_owned()), Refusal::Damaged),
            ("no hash", with(|r| r.hashes.clear()), Refusal::Damaged),
            ("bad hash", with(|r| r.hashes.push("zz".to_owned())), Refusal::Damaged),
            ("three hashes", with(|r| r.hashes = vec![r.hashes[0].clone(); 3]), Refusal::Damaged),
            ("no client", with(|r| r.client_id.clear()), Refusal::Damaged),
            ("other environment", with(|r| r.environment = "prod".to_owned()), Refusal::Environment),
            ("disabled", with(|r| r.state = KeyState::Disabled), Refusal::Disabled),
            ("revoked", with(|r| r.state = KeyState::Revoked), Refusal::Revoked),
            ("early", with(|r| r.not_before = Some(1001)), Refusal::NotYetValid),
            ("late", with(|r| r.expires_at = Some(1000)), Refusal::Expired),
        ];
        for (name, record, expected) in cases {
            assert_eq!(check(&record), Err(expected), "{name}");
        }
        assert_eq!(check(&with(|r| r.expires_at = Some(1001))), Ok(()));
        assert_eq!(check(&with(|r| r.not_before = Some(1000))), Ok(()));
    }

    #[test]
    fn both_live_values_work_and_the_gateways_environment_counts() {
        let key = key();
        let mut record = record(&key);
        record.hashes.insert(0, hex(&[1; 32]));
        assert!(check(&key, Some(&record), &pepper(), Some("dev"), 0).is_ok());
        let elsewhere = check(&key, Some(&record), &pepper(), Some("prod"), 0);
        assert_eq!(elsewhere.err(), Some(Refusal::Environment));
        assert_eq!(check(&key, None, &pepper(), None, 0).err(), Some(Refusal::Unknown));
        let other_pepper = Secret::new(b"another".to_vec());
        let peppered = check(&key, Some(&record), &other_pepper, Some("dev"), 0);
        assert_eq!(peppered.err(), Some(Refusal::Unknown));
    }

    #[test]
    fn a_record_reads_as_json() {
        let record = record(&key());
        let text = serde_json::to_string(&record).unwrap();
        assert!(text.contains(r#""state":"active""#), "{text}");
        assert_eq!(serde_json::from_str::<ApiKeyRecord>(&text).unwrap(), record);
        let surplus = text.replacen('{', r#"{"stat":"revoked","#, 1);
        assert!(serde_json::from_str::<ApiKeyRecord>(&surplus).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn reading_never_panics(text in "\\PC{0,140}") {
            let _ = ApiKey::parse(&text);
        }

        #[test]
        fn one_changed_byte_is_noticed(random in any::<[u8; 24]>(), at in 8..58_usize, to in 0..62_usize) {
            let mut bytes = [0; 48];
            bytes[..24].copy_from_slice(&random);
            let good = ApiKey::generate("dev", &bytes).unwrap().text().expose().clone();
            let mut changed = good.clone().into_bytes();
            changed[at] = ALPHABET[to];
            let changed = String::from_utf8(changed).unwrap();
            prop_assert_eq!(ApiKey::parse(&changed).is_ok(), changed == good);
        }
    }
}
