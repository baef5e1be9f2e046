//! Parameter mapping: what a backend's headers are made of.

use std::collections::BTreeMap;

use super::authorizer::Granted;
use super::config::ConfigError;
use super::context::{Call, Selection, context_text};

/// The mapping of one integration.
pub(super) struct Mapping(Vec<Step>);

struct Step {
    header: String,
    action: Action,
}

enum Action {
    Append(Source),
    Overwrite(Source),
    Remove,
}

enum Source {
    Constant(String),
    Selection(Selection),
    /// `$context.authorizer.KEY`
    Authorizer(String),
}

/// "The following headers are reserved. You can't configure request or response mappings for these headers."
/// (Transform API requests and responses for HTTP APIs)
const RESERVED: [&str; 18] = [
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "forwarded",
    "keep-alive",
    "origin",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
];
/// The families of that list.
const RESERVED_PREFIXES: [&str; 4] = ["access-control-", "apigw-", "x-amz-", "x-amzn-"];

impl Mapping {
    pub(super) fn new(integration: &str, parameters: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut steps = Vec::with_capacity(parameters.len());
        for (key, value) in parameters {
            let wrong = |expected: &str| {
                ConfigError::new(
                    &format!("request parameter of the integration {integration:?}"),
                    &format!("{key}: {value}"),
                    expected,
                )
            };
            let (action, header) = key
                .split_once(":header.")
                .ok_or_else(|| wrong("append:header.NAME, overwrite:header.NAME or remove:header.NAME (query strings and paths are not supported)"))?;
            let header = header.to_ascii_lowercase();
            if header.parse::<http::HeaderName>().is_err() {
                return Err(wrong("a header's name"));
            }
            if RESERVED.contains(&header.as_str()) || RESERVED_PREFIXES.iter().any(|prefix| header.starts_with(prefix))
            {
                return Err(wrong("a header that API Gateway does not reserve"));
            }
            let action = match action {
                "append" => Action::Append(Source::parse(value).map_err(wrong)?),
                "overwrite" => Action::Overwrite(Source::parse(value).map_err(wrong)?),
                // The value of a removal says nothing: AWS' own example writes '' there.
                "remove" => Action::Remove,
                _ => return Err(wrong("append, overwrite or remove")),
            };
            steps.push(Step { header, action });
        }
        Ok(Self(steps))
    }

    /// The headers of `call` as the integration is to see them. Every value is taken from the request before the mapping.
    pub(super) fn apply(&self, call: &Call<'_>, granted: Option<&Granted>) -> Vec<(String, String)> {
        let mut headers = call.headers.clone();
        for Step { header, action } in &self.0 {
            let source = match action {
                Action::Append(source) => Some(source),
                Action::Overwrite(source) => {
                    headers.retain(|(name, _)| name != header);
                    Some(source)
                }
                Action::Remove => {
                    headers.retain(|(name, _)| name != header);
                    None
                }
            };
            // AWS does not say what an overwrite with nothing does. Here the header is gone: what the client sent in its
            // place must not pass for the authorizer's word.
            if let Some(value) = source.and_then(|source| source.value(call, granted)) {
                headers.push((header.clone(), value));
            }
        }
        headers
    }
}

impl Source {
    fn parse(value: &str) -> Result<Self, &'static str> {
        if let Some(key) = value.strip_prefix("$context.authorizer.") {
            return if key.is_empty() { Err("$context.authorizer.KEY") } else { Ok(Self::Authorizer(key.to_owned())) };
        }
        if value.contains("${") {
            return Err("one value: several in one (${…}) are not supported");
        }
        if value.starts_with('$') {
            return Selection::parse(value).map(Self::Selection);
        }
        if value.is_empty() || value.parse::<http::HeaderValue>().is_err() {
            return Err("a value that a header can have");
        }
        Ok(Self::Constant(value.to_owned()))
    }

    fn value(&self, call: &Call<'_>, granted: Option<&Granted>) -> Option<String> {
        match self {
            Self::Constant(text) => Some(text.clone()),
            Self::Selection(selection) => selection.value(call),
            Self::Authorizer(key) => {
                let granted = granted?;
                if key == "principalId" && granted.principal_id.is_some() {
                    return granted.principal_id.clone();
                }
                context_text(granted.context.as_ref()?, key)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_api_gateway_reserves_or_we_do_not_know_is_refused() {
        let cases = [
            ("overwrite:header.x-user", "$context.authorizer.sub", true),
            ("append:header.x-user", "$request.header.other", true),
            ("remove:header.x-api-key", "''", true),
            ("remove:header.x-api-key", "", true),
            ("overwrite:header.x", "constant", true),
            ("overwrite:header.Authorization", "$context.authorizer.sub", false),
            ("remove:header.x-amzn-trace-id", "", false),
            ("overwrite:header.access-control-allow-origin", "a", false),
            ("overwrite:querystring.a", "b", false),
            ("overwrite:path", "/x", false),
            ("set:header.x", "b", false),
            ("overwrite:header.", "b", false),
            ("overwrite:header.x", "", false),
            ("overwrite:header.x", "$context.authorizer.", false),
            ("overwrite:header.x", "$context.unknown", false),
            ("overwrite:header.x", "${context.path} ${context.stage}", false),
            ("overwrite:header.x", "$request.body.a", false),
        ];
        for (key, value, good) in cases {
            let read = Mapping::new("i", &BTreeMap::from([(key.to_owned(), value.to_owned())]));
            assert_eq!(read.is_ok(), good, "{key}: {value}");
        }
    }
}
