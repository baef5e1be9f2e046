//! The names by which API Gateway's integrations know what the authorizer says.

/// The context keys of every answer, always all there: a key that is missing would leave a header of the same name that
/// a client sent as it is, where the integration maps the key to that header.
pub const CONTEXT_KEYS: [&str; 9] =
    ["aud", "client_id", "iss", "policy", "principal", "reason", "request_id", "scope", "sub"];

/// The context key of an output header: `x-jwt-iss` is `x_jwt_iss`, since keys are `[a-z0-9_]`. The key `claims` is API
/// Gateway's own in payload format 1.0 and at REST APIs; a header of that name is `claims_header`.
pub fn context_key(header: &str) -> String {
    if header.eq_ignore_ascii_case("claims") {
        return "claims_header".to_owned();
    }
    header.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect()
}
