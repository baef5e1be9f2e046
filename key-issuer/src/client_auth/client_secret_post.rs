//! `client_secret_post`: name and secret are parameters of the form (RFC 6749 §2.3.1). The RFC calls it "NOT
//! RECOMMENDED", but a client that cannot do otherwise does not get safer by being turned away.

use identity::secret::Secret;

use super::client_secret::Presented;
use crate::form::Form;
use crate::refusal::Refusal;

/// Reads the form.
pub(super) fn read(secret: &str, form: &Form) -> Result<Presented, Refusal> {
    let client_id =
        form.get("client_id").ok_or_else(|| Refusal::invalid_request("client_secret needs client_id beside it"))?;
    Ok(Presented { client_id: client_id.to_owned(), secret: Secret::new(secret.to_owned()) })
}
