//! Rotation of the signing keys, by the four steps of Secrets Manager's contract.
//!
//! Every step can be repeated, can end anywhere, and can run twice at the same time: what has been done is read back
//! before anything is done. Nothing is signed with a new key, and no old key goes, before `rotation/timing.rs` says so;
//! who has the last word on that is finishSecret, which checks what it is about to put into use.
//!
//! Whoever may invoke the function with such an event can do no more than run a step of a rotation that Secrets Manager
//! has begun: the secret is the configured one, and the version has to be pending in it. On AWS the function's resource
//! policy lets Secrets Manager invoke it, with the secret's account as `aws:SourceAccount`.

#[cfg(test)]
mod gated;
#[cfg(test)]
mod model;
mod secret_id;
mod status;
mod succession;
#[cfg(test)]
mod tests;
mod timing;

use authz::Mode;
use authz::jwt::UnverifiedJws;
use identity::secret::Secret;
use platform::clock::Clock;
use platform::secrets::{CURRENT, PENDING, Put, SecretVersions};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

pub use status::signing_keys_text;
pub(crate) use status::status;
use timing::Timing;

use crate::signing_key::{SecretFile, SigningKeys};
use crate::{Inner, InvocationError, UnsupportedEvent};

/// The event of one step.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RotationEvent {
    pub(crate) step: String,
    pub(crate) secret_id: String,
    pub(crate) client_request_token: String,
    /// Of a rotation in another account. It is a credential.
    #[serde(default, deserialize_with = "secret")]
    pub(crate) rotation_token: Option<Secret<String>>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret<String>>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

/// Whether an event is one of Secrets Manager's. No HTTP event has this member: API Gateway and Lambda write them.
pub(crate) fn is_event(event: &Value) -> bool {
    event.get("Step").is_some()
}

/// Does one step. Whatever goes wrong is an error of the invocation: Secrets Manager takes any answer for "done".
pub(crate) async fn answer(issuer: &Inner, event: Value) -> Result<Value, InvocationError> {
    let event: RotationEvent = serde_json::from_value(event)
        .map_err(|_| UnsupportedEvent("expected the texts Step, SecretId and ClientRequestToken of a rotation"))?;
    let deps = &issuer.deps;
    let secret = issuer.config.signing_secret.as_str();
    if !secret_id::same(secret, &event.secret_id) {
        return Err(UnsupportedEvent("the secret to rotate is not CAUSEWAY_SIGNING_SECRET").into());
    }
    let versions = deps.secret_versions.as_deref();
    let versions = versions.ok_or(UnsupportedEvent("this issuer cannot change its secrets, so it rotates no keys"))?;
    let rotator = Rotator { versions, secret, timing: Timing::new(&issuer.config), clock: deps.clock.as_ref() };
    let outcome = rotator.step(&event).await;

    // A version's id is no secret; the token of a rotation in another account is one.
    let mut line = json!({"ts": deps.clock.unix(), "event": "signing_keys_rotation", "secret": secret,
        "version": event.client_request_token, "step": Step::named(&event.step).map(Step::name)});
    match &outcome {
        Ok(done) => {
            line["outcome"] = json!(done.outcome);
            line["kids"] = json!(done.kids);
            line["activate_at"] = json!(done.activate_at);
        }
        Err(why) => {
            line["outcome"] = json!("failed");
            line["detail"] = json!(why);
        }
    }
    deps.log.write(&line);
    let done = outcome.map_err(InvocationError::Rotation)?;
    if Step::named(&event.step) == Some(Step::Finish) {
        // This environment publishes the new keys at once; the others read the secret again when theirs is too old. A
        // failure is in the log, and no failure of the rotation.
        let _ = issuer.signing_keys.renew(deps.secrets.as_ref(), &deps.log, deps.clock.unix()).await;
    }
    Ok(json!({"outcome": done.outcome}))
}

/// The steps. AWS's documentation writes `create_secret`, its events have `createSecret`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Set,
    Test,
    Finish,
}

impl Step {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "createSecret" | "create_secret" => Self::Create,
            "setSecret" | "set_secret" => Self::Set,
            "testSecret" | "test_secret" => Self::Test,
            "finishSecret" | "finish_secret" => Self::Finish,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Create => "createSecret",
            Self::Set => "setSecret",
            Self::Test => "testSecret",
            Self::Finish => "finishSecret",
        }
    }
}

const FINISHED: &str = "finished";

/// What a step has come to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    outcome: &'static str,
    /// The new keys.
    kids: Vec<String>,
    activate_at: Option<u64>,
}

impl Done {
    fn only(outcome: &'static str) -> Self {
        Self { outcome, ..Self::default() }
    }

    fn with_new_keys(outcome: &'static str, current: &SecretFile, pending: &SecretFile) -> Self {
        let new = pending.keys.iter().filter(|key| !current.keys.iter().any(|old| old.kid == key.kid));
        let activate_at = new.clone().filter_map(|key| key.activate_at).min();
        Self { outcome, kids: new.map(|key| key.kid.clone()).collect(), activate_at }
    }
}

/// One who does the steps for one secret.
struct Rotator<'a> {
    versions: &'a dyn SecretVersions,
    secret: &'a str,
    timing: Timing,
    clock: &'a dyn Clock,
}

/// Where the version of an event stands.
enum Standing {
    /// It is in use already.
    Current { pending_too: bool },
    /// It is pending, and this is the version in use.
    Pending { current: String },
}

impl Rotator<'_> {
    async fn step(&self, event: &RotationEvent) -> Result<Done, String> {
        let step = Step::named(&event.step).ok_or("found a step that is none of the four of a rotation")?;
        let version = event.client_request_token.as_str();
        match self.standing(version).await? {
            // AWSPENDING on the version that is current blocks no later rotation, but finishSecret has not been to its
            // end.
            Standing::Current { pending_too: true } if step == Step::Finish => {
                self.drop_pending(version).await?;
                Ok(Done::only(FINISHED))
            }
            Standing::Current { .. } => Ok(Done::only("done_before")),
            Standing::Pending { current } => match step {
                Step::Create => self.create(version, &current, event.rotation_token.as_ref()).await,
                // There is no other place to put the keys: the secret is where the issuer takes them from. They are
                // published when the version becomes current, and they sign when every verifier has had the time to see
                // them, which the value itself says; a function cannot wait for hours.
                Step::Set => Ok(Done::only("nothing_to_do")),
                Step::Test => self.test(version, &current).await,
                Step::Finish => self.finish(version, &current).await,
            },
        }
    }

    /// What every step looks at first.
    async fn standing(&self, version: &str) -> Result<Standing, String> {
        let described = self.versions.describe(self.secret).await.map_err(|error| error.to_string())?;
        if !described.rotation_enabled {
            return Err("rotation is not enabled for the secret".to_owned());
        }
        let stages = described.versions.get(version).ok_or("the secret has no such version")?;
        let has = |stages: &[String], wanted: &str| stages.iter().any(|stage| stage == wanted);
        if has(stages, CURRENT) {
            return Ok(Standing::Current { pending_too: has(stages, PENDING) });
        }
        if !has(stages, PENDING) {
            return Err("the version is not the pending one (AWSPENDING)".to_owned());
        }
        let mut versions = described.versions.iter();
        let current = versions.find(|(_, stages)| has(stages, CURRENT)).map(|(id, _)| id.clone());
        let current = current.ok_or("the secret has no current version (AWSCURRENT), put a first one in")?;
        Ok(Standing::Pending { current })
    }

    /// Makes the next keys, unless they are there. A second call must not make other ones: the first may have been
    /// read.
    async fn create(&self, version: &str, current: &str, token: Option<&Secret<String>>) -> Result<Done, String> {
        let current = self.keys_of_current(current).await?;
        if let Some(found) = self.value(version, PENDING).await? {
            return self.accept(version, &current, &found, "created_before").await;
        }
        let next = succession::successor(&current, &self.timing, self.clock.unix())?;
        let value = next.to_secret();
        SigningKeys::from_file(&next)?;
        let token = token.map(|token| token.expose().as_str());
        let put = self.versions.put_version(self.secret, version, &value, PENDING, token).await;
        match put.map_err(|error| error.to_string())? {
            Put::Done => Ok(Done::with_new_keys("created", &current, &next)),
            // Another one was faster; its keys count, and ours have never been anywhere.
            Put::OtherValue => {
                let found =
                    self.value(version, PENDING).await?.ok_or("the pending version's value cannot be read back")?;
                self.accept(version, &current, &found, "created_before").await
            }
        }
    }

    /// Signs and verifies with every key of the version, as verifiers will see them. They cannot be fetched from the
    /// public address yet: the issuer publishes the version when it is current.
    ///
    /// With `RotateImmediately=false` Secrets Manager runs this step alone, on a version that nobody has put our keys
    /// into and that it removes again: there, what can be tested is that the current keys are readable and good.
    async fn test(&self, version: &str, current: &str) -> Result<Done, String> {
        let now = self.clock.unix();
        match self.value(version, PENDING).await?.filter(|value| SecretFile::is_one(value.expose())) {
            Some(value) => prove(&SigningKeys::from_secret(value.expose())?, now).map(|()| Done::only("tested")),
            None => {
                let keys = SigningKeys::from_file(&self.keys_of_current(current).await?)?;
                prove(&keys, now).map(|()| Done::only("current_tested"))
            }
        }
    }

    /// Puts the version into use, if that leaves no token unverifiable.
    async fn finish(&self, version: &str, current: &str) -> Result<Done, String> {
        let keys = self.keys_of_current(current).await?;
        let value =
            self.value(version, PENDING).await?.ok_or("the pending version has no value, createSecret comes first")?;
        let done = self.accept(version, &keys, &value, FINISHED).await?;
        // The label moves only away from the version that was compared: whoever else moves it is not overruled.
        let moved = self.versions.move_stage(self.secret, CURRENT, Some(version), Some(current)).await;
        moved.map_err(|error| error.to_string())?;
        // AWSPENDING that stays on a version blocks every later rotation as soon as that version is not current any
        // more.
        self.drop_pending(version).await?;
        Ok(done)
    }

    /// A pending value that may follow the current one. One that may not, never will: the time for it has passed or the
    /// current keys are others now. Its label goes, so that the next rotation can begin.
    async fn accept(
        &self,
        version: &str,
        current: &SecretFile,
        value: &Secret<String>,
        outcome: &'static str,
    ) -> Result<Done, String> {
        let read = SecretFile::parse(value.expose()).and_then(|file| SigningKeys::from_file(&file).map(|_| file));
        let checked = read.and_then(|pending| {
            succession::check(current, &pending, &self.timing, self.clock.unix())?;
            Ok(Done::with_new_keys(outcome, current, &pending))
        });
        match checked {
            Ok(done) => Ok(done),
            Err(why) => {
                self.drop_pending(version).await?;
                Err(format!("the pending version may not be used: {why}; it is given up, start another rotation"))
            }
        }
    }

    async fn keys_of_current(&self, version: &str) -> Result<SecretFile, String> {
        let value = self.value(version, CURRENT).await?.ok_or("the current version has no value")?;
        SecretFile::parse(value.expose()).map_err(|why| format!("the current version: {why}"))
    }

    async fn value(&self, version: &str, stage: &str) -> Result<Option<Secret<String>>, String> {
        self.versions.get_version(self.secret, version, stage).await.map_err(|error| error.to_string())
    }

    async fn drop_pending(&self, version: &str) -> Result<(), String> {
        let dropped = self.versions.move_stage(self.secret, PENDING, None, Some(version)).await;
        dropped.map_err(|error| error.to_string())
    }
}

fn prove(keys: &SigningKeys, now: u64) -> Result<(), String> {
    let published = keys.verifying(now)?;
    for key in keys.all().iter().filter(|key| key.is_published(now)) {
        // It is no access token: it has another type, no claim, and is thrown away.
        let jws = key.sign_jws("causeway-key-test+jwt", &json!({}))?;
        UnverifiedJws::parse(&jws, Mode::Strict)
            .and_then(|jws| jws.verify(&published).map(|_| ()))
            .map_err(|refusal| format!("the key {} does not verify: {}", key.jwk.kid, refusal.detail))?;
    }
    Ok(())
}
