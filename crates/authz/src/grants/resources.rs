//! The ARNs of an answer, within the limits of API Gateway.

use super::{Grants, UNREADABLE};

/// The longest resource that a policy of an authorizer may name, in characters.
pub const MAX_ARN: usize = 512;

/// Bytes of one resource in JSON beside its text.
const AROUND: usize = 4;

/// The resources of the two statements of an answer, beside the request itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Resources {
    /// What is allowed.
    pub allow: Vec<String>,
    /// What is denied.
    pub deny: Vec<String>,
}

impl Grants {
    /// The ARNs that begin with `base`, `arn:…:API/STAGE/`, in at most `max_bytes` bytes of JSON. What does not fit is not
    /// allowed; a denial is left out only with everything that it is for.
    pub fn resources(&self, base: &str, max_bytes: usize) -> Resources {
        let arn = |resource: &str| format!("{base}{resource}");
        let mut all = Resources::default();
        let mut left = max_bytes;
        let mut take = |arn: &String| {
            // Of a plain path and an ARN only `\` and `"` are escaped.
            let size = arn.len() + AROUND;
            let fits = arn.len() <= MAX_ARN && size <= left;
            if fits {
                left -= size;
            }
            fits
        };
        all.allow.extend(self.exact.iter().map(|resource| arn(resource)).filter(|arn| take(arn)));
        if self.patterns.is_empty() {
            return all;
        }
        let denied = self.deny.iter().map(String::as_str).chain(UNREADABLE);
        let deny: Vec<String> = denied.map(arn).collect();
        // All of them, or no pattern at all.
        if deny.iter().all(&mut take) {
            let patterns: Vec<String> =
                self.patterns.iter().map(|resource| arn(resource)).filter(|arn| take(arn)).collect();
            if !patterns.is_empty() {
                all.allow.extend(patterns);
                all.deny = deny;
            }
        }
        all
    }
}
