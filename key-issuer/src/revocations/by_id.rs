//! `POST /v1/revocations`: exactly one of
//! `{"token": JTI}`, `{"key": ID}`, `{"client": ID}` and `{"client_before": ID, "moment": UNIX}`.

use serde_json::json;

use super::{Revoked, revoke, revoke_token};
use crate::admin::Call;
use crate::admin::body::wrong;
use crate::api_keys;
use crate::event::Response;
use crate::refusal::Refusal;
use crate::registry::is_client_id;
use crate::signing_key::MAX_TOKEN_LIFE_SECONDS;

const MAX_JTI_BYTES: usize = 256;
/// A client's API keys may have no end, so that it stays on the list for as long as anybody cares, in seconds.
const CLIENT_SECONDS: u64 = 10 * 366 * 86_400;

/// Revokes what is named.
pub(crate) async fn create(call: Call<'_>) -> Result<Response, Refusal> {
    let body = call.body(&["token", "key", "client", "client_before", "moment"])?;
    let kinds = ["token", "key", "client", "client_before"];
    let mut named = kinds.into_iter().filter(|kind| body.get(kind).is_some());
    let (Some(kind), None) = (named.next(), named.next()) else {
        return Err(Refusal::invalid_request("expected exactly one of token, key, client and client_before"));
    };
    let id = body.required(kind)?.to_owned();
    let moment = body.number("moment")?;
    if moment.is_some() && kind != "client_before" {
        return Err(wrong("moment", "expected with client_before alone"));
    }
    let now = call.now();
    let longest = MAX_TOKEN_LIFE_SECONDS.max(call.issuer.config.refresh_ttl_seconds);
    let (what, until) = match kind {
        "token" if (1..=MAX_JTI_BYTES).contains(&id.len()) => (Revoked::Token(&id), now + MAX_TOKEN_LIFE_SECONDS),
        "token" => return Err(wrong("token", format!("expected the jti of a token, 1 to {MAX_JTI_BYTES} bytes"))),
        "key" => {
            let held = api_keys::get(call.issuer, &id).await?;
            api_keys::revoke_key(call.issuer, held).await?;
            call.changed("api_key_revoked", &id, None, None);
            return Ok(Response::private_json(200, json!({"key": id}).to_string()));
        }
        _ if !is_client_id(&id) => return Err(wrong(kind, "expected a client id of 1 to 128 bytes")),
        "client" => (Revoked::Client(&id), now + CLIENT_SECONDS),
        _ => {
            // Tokens of this very second are meant too.
            let moment = moment.unwrap_or(now + 1);
            if moment > now + longest {
                return Err(wrong("moment", "expected a time that is not far in the future, in seconds since 1970"));
            }
            (Revoked::ClientBefore(&id, moment), moment.max(now) + longest)
        }
    };
    match what {
        Revoked::Token(jti) => revoke_token(call.issuer, jti, until).await?,
        _ => revoke(call.issuer, what, until).await?,
    }
    if kind == "client" {
        call.issuer.revoked_clients.forget(&id);
    }
    let action = match kind {
        "token" => "token_revoked",
        "client" => "client_revoked",
        _ => "client_tokens_revoked",
    };
    let answer = json!({kind: id, "until": until});
    call.changed(action, &id, None, Some(answer.clone()));
    Ok(Response::private_json(200, answer.to_string()))
}
