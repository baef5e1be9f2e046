//! From the current keys to the next: what createSecret makes and what finishSecret lets pass.

use crate::Algorithm;
use crate::rotation::timing::Timing;
use crate::signing_key::{MAX_KEYS, SecretFile, SecretKey};

/// The keys that follow `current`: one new key for each algorithm in use, and all old ones that verifiers may still
/// need. An algorithm is in use if it has a key that is not to retire; an operator phases one out by giving all its
/// keys a
/// `retire_at`, no earlier than the secret's age in other environments, the life of a token and the margin from then
/// on. One begins another algorithm by a key that signs from [`Timing::activate_at`] on, or later.
///
/// # Errors
/// When it is too early, when no algorithm is in use, when there would be too many keys, or when no key can be made.
pub(crate) fn successor(current: &SecretFile, timing: &Timing, now: u64) -> Result<SecretFile, String> {
    if let Some(key) = current.keys.iter().find(|key| key.activate_at.is_some_and(|at| at > now)) {
        return Err(format!(
            "the last rotation is not over: its key {} signs from {} on (Unix seconds), and no key may be made before",
            key.kid,
            key.activate_at.unwrap_or_default()
        ));
    }
    let mut keys: Vec<SecretKey> = current.keys.iter().filter(|key| !key.is_retired(now)).cloned().collect();
    let activate_at = timing.activate_at(now);
    let mut made = Vec::new();
    for algorithm in Algorithm::ALL {
        let mut in_use = false;
        for key in &mut keys {
            if key.algorithm()? == algorithm && key.retire_at.is_none() {
                key.retire_at = Some(timing.retire_at(activate_at));
                in_use = true;
            }
        }
        if in_use {
            made.push(SecretKey::generate(algorithm, Some(activate_at))?);
        }
    }
    if made.is_empty() {
        return Err("every key is to retire, so no algorithm is in use; put a key without retire_at in".to_owned());
    }
    keys.append(&mut made);
    if keys.len() > MAX_KEYS {
        return Err(format!(
            "there would be {} keys, expected at most {MAX_KEYS}; wait until old ones retire",
            keys.len()
        ));
    }
    Ok(SecretFile { keys })
}

/// Whether `pending` may take the place of `current` at `now`: no key is lost or changed that verifiers or other
/// environments count on, and each new key is published long enough before it signs. It holds for what [`successor`]
/// makes, unless too much time has passed or the current keys have been replaced meanwhile.
///
/// # Errors
/// Says which rule is broken.
pub(crate) fn check(current: &SecretFile, pending: &SecretFile, timing: &Timing, now: u64) -> Result<(), String> {
    let known = |kid: &str| current.keys.iter().any(|key| key.kid == kid);
    let new: Vec<&SecretKey> = pending.keys.iter().filter(|key| !known(&key.kid)).collect();
    for old in current.keys.iter().filter(|key| !key.is_retired(now)) {
        let kept = pending.keys.iter().find(|key| key.kid == old.kid);
        let kept = kept.ok_or_else(|| format!("it lacks the key {}, which is in use", old.kid))?;
        if kept.activate_at.unwrap_or(0) != old.activate_at.unwrap_or(0) {
            return Err(format!("it changes when the key {} begins to sign", old.kid));
        }
        if kept.retire_at == old.retire_at {
            continue;
        }
        let algorithm = old.algorithm()?;
        let heirs = new.iter().filter(|key| key.algorithm() == Ok(algorithm));
        let heir = heirs.map(|key| key.activate_at.unwrap_or(0)).min();
        let least = heir.map(|activate_at| timing.retire_at(activate_at));
        match (old.retire_at, kept.retire_at, least) {
            (None, Some(retire_at), Some(least)) if retire_at >= least => {}
            _ => return Err(format!("it retires the key {} too early, or changes when it retires", old.kid)),
        }
    }
    for key in new {
        let activate_at = key.activate_at.unwrap_or(0);
        if !timing.in_time(now, activate_at) {
            return Err(format!(
                "the new key {} would sign from {activate_at} on (Unix seconds), before every verifier knows it",
                key.kid
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_893_456_000;
    const TIMING: Timing =
        Timing { verifier_cache: 7200, secret_age: 3600, token_life: 3600, margin: 300, finish_within: 1800 };

    fn key(algorithm: Algorithm) -> SecretKey {
        SecretKey::generate(algorithm, None).unwrap()
    }

    fn first() -> SecretFile {
        SecretFile { keys: vec![key(Algorithm::Es256), key(Algorithm::EdDsa)] }
    }

    #[test]
    fn each_algorithm_in_use_gets_a_key_and_the_old_ones_an_end() {
        let mut current = first();
        let phased_out = SecretKey { retire_at: Some(NOW + 50), ..key(Algorithm::Rs256) };
        let gone = SecretKey { retire_at: Some(NOW), ..key(Algorithm::Es256) };
        current.keys.extend([phased_out.clone(), gone.clone()]);
        let next = successor(&current, &TIMING, NOW).unwrap();
        let (activate_at, retire_at) = (NOW + 12_900, NOW + 12_900 + 3_900);
        let shown: Vec<_> =
            next.keys.iter().map(|key| (key.algorithm().unwrap(), key.activate_at, key.retire_at)).collect();
        assert_eq!(
            shown,
            [
                (Algorithm::Es256, None, Some(retire_at)),
                (Algorithm::EdDsa, None, Some(retire_at)),
                (Algorithm::Rs256, None, Some(NOW + 50)),
                (Algorithm::Es256, Some(activate_at), None),
                (Algorithm::EdDsa, Some(activate_at), None),
            ]
        );
        assert!(!next.keys.iter().any(|key| key.kid == gone.kid));
        assert_eq!(check(&current, &next, &TIMING, NOW), Ok(()));
    }

    #[test]
    fn rotations_may_follow_each_other_at_once_and_no_earlier() {
        let mut current = first();
        let mut now = NOW;
        for _ in 0..20 {
            let next = successor(&current, &TIMING, now).unwrap();
            assert!(next.keys.len() <= MAX_KEYS);
            let activate_at = next.keys.last().unwrap().activate_at.unwrap();
            let error = successor(&next, &TIMING, activate_at - 1).err().unwrap();
            assert!(error.contains("not over") && error.contains(&activate_at.to_string()), "{error}");
            (current, now) = (next, activate_at);
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let ends = SecretKey { retire_at: Some(NOW + 9999), ..key(Algorithm::Es256) };
        let error = successor(&SecretFile { keys: vec![ends.clone()] }, &TIMING, NOW).err().unwrap();
        assert!(error.contains("no algorithm is in use"), "{error}");
        let mut full: Vec<SecretKey> =
            (1..MAX_KEYS).map(|_| SecretKey { retire_at: ends.retire_at, ..key(Algorithm::Es256) }).collect();
        full.push(key(Algorithm::Es256));
        let error = successor(&SecretFile { keys: full }, &TIMING, NOW).err().unwrap();
        assert!(error.contains("found 11") || error.contains("would be 11 keys"), "{error}");
    }

    #[test]
    fn only_a_true_successor_passes() {
        let current = first();
        let next = successor(&current, &TIMING, NOW).unwrap();
        let change = |change: &dyn Fn(&mut SecretFile)| {
            let mut changed = next.clone();
            change(&mut changed);
            changed
        };
        let at = |now| check(&current, &next, &TIMING, now);
        assert_eq!(at(NOW + 1800), Ok(()));
        assert!(at(NOW + 1801).unwrap_err().contains("before every verifier knows it"));
        for (pending, named) in [
            (change(&|file| drop(file.keys.remove(0))), "lacks the key"),
            (change(&|file| file.keys[0].activate_at = Some(NOW)), "begins to sign"),
            (change(&|file| file.keys[0].retire_at = Some(NOW + 12_900 + 3_899)), "too early"),
            (change(&|file| drop(file.keys.remove(2))), "too early"),
            (change(&|file| file.keys[2].activate_at = None), "before every verifier"),
            (change(&|file| file.keys.push(key(Algorithm::Rs256))), "before every verifier"),
            (successor(&first(), &TIMING, NOW).unwrap(), "lacks the key"),
        ] {
            let error = check(&current, &pending, &TIMING, NOW).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
        // The same keys, or a later end of the old ones, harm nobody.
        assert_eq!(check(&current, &current, &TIMING, NOW), Ok(()));
        assert_eq!(check(&current, &change(&|file| file.keys[0].retire_at = Some(u64::MAX)), &TIMING, NOW), Ok(()));
        // An end that is set already is not moved, not even forth: it is what other environments go by.
        assert!(check(&next, &change(&|file| file.keys[0].retire_at = None), &TIMING, NOW).is_err());
    }
}
