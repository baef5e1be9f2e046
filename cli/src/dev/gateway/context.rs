//! What is known of a request once its route is: the source of events, identity sources and parameter mappings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Place;
use super::event::{Parameters, decode};
use super::request::Request;
use super::response::Refusal;
use super::route::Matched;

/// What is the same for every request.
pub(super) struct Api {
    pub(super) account_id: String,
    pub(super) api_id: String,
    pub(super) region: String,
    pub(super) stage: String,
    pub(super) stage_variables: BTreeMap<String, String>,
}

/// One request on its route.
pub(super) struct Call<'a> {
    pub(super) api: &'a Api,
    pub(super) request: &'a Request,
    pub(super) domain: String,
    /// The decoded path below the stage.
    pub(super) path: String,
    /// The decoded path with the stage in front, unless that is `$default`.
    pub(super) raw_path: String,
    pub(super) query: Parameters,
    pub(super) headers: Vec<(String, String)>,
    pub(super) route: Matched<'a>,
}

impl<'a> Call<'a> {
    pub(super) fn new(api: &'a Api, request: &'a Request, place: Place, route: Matched<'a>) -> Result<Self, Refusal> {
        // HTTP APIs show functions the decoded path. What does not decode to text is refused; AWS does not say what it does.
        let path = decode(&place.path).ok_or(Refusal::BAD_REQUEST)?;
        let raw_path = if api.stage == super::DEFAULT_STAGE { path.clone() } else { format!("/{}{path}", api.stage) };
        Ok(Self {
            api,
            request,
            headers: request.event_headers(&place.domain),
            domain: place.domain,
            path,
            raw_path,
            query: Parameters::parse(&request.query),
            route,
        })
    }

    /// `arn:aws:execute-api:{regionId}:{accountId}:{apiId}/{stage}/{httpVerb}/[{resource}/[{child-resources}]]`
    pub(super) fn arn(&self) -> String {
        let Api { region, account_id, api_id, stage, .. } = self.api;
        format!("arn:aws:execute-api:{region}:{account_id}:{api_id}/{stage}/{}{}", self.request.method, self.path)
    }

    pub(super) fn domain_prefix(&self) -> &str {
        self.domain.split('.').next().unwrap_or_default()
    }

    /// The values of a header, joined with commas; none if it is absent.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        joined(self.headers.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()))
    }
}

/// Values "combined with commas"; none if there are none.
pub(super) fn joined<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    let values: Vec<&str> = values.collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// A part of a request that configuration can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Selection {
    /// `$request.header.NAME`: "Header names are case-insensitive."
    Header(String),
    /// `$request.querystring.NAME`: "Query string names are case-sensitive."
    Query(String),
    /// `$context.VARIABLE`
    Context(Variable),
    /// `$stageVariables.NAME`
    StageVariable(String),
}

/// The context variables that are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    AccountId,
    ApiId,
    DomainName,
    DomainPrefix,
    HttpMethod,
    Path,
    Protocol,
    RequestId,
    RouteKey,
    SourceIp,
    Stage,
    UserAgent,
}

impl Selection {
    /// Reads `$request.header.NAME` and the like; the error says what is known.
    pub(super) fn parse(text: &str) -> Result<Self, &'static str> {
        const KNOWN: &str = "$request.header.NAME, $request.querystring.NAME, $stageVariables.NAME or $context. and one of accountId, apiId, \
                             domainName, domainPrefix, httpMethod, identity.sourceIp, identity.userAgent, path, protocol, requestId, routeKey, stage";
        let name = |name: &str| if name.is_empty() { Err(KNOWN) } else { Ok(name.to_owned()) };
        if let Some(header) = text.strip_prefix("$request.header.") {
            let header = header.to_ascii_lowercase();
            return header.parse::<http::HeaderName>().map(|_| Self::Header(header)).map_err(|_| KNOWN);
        }
        if let Some(query) = text.strip_prefix("$request.querystring.") {
            return name(query).map(Self::Query);
        }
        if let Some(variable) = text.strip_prefix("$stageVariables.") {
            return name(variable).map(Self::StageVariable);
        }
        Ok(Self::Context(match text.strip_prefix("$context.").ok_or(KNOWN)? {
            "accountId" => Variable::AccountId,
            "apiId" => Variable::ApiId,
            "domainName" => Variable::DomainName,
            "domainPrefix" => Variable::DomainPrefix,
            "httpMethod" => Variable::HttpMethod,
            "path" => Variable::Path,
            "protocol" => Variable::Protocol,
            "requestId" => Variable::RequestId,
            "routeKey" => Variable::RouteKey,
            "identity.sourceIp" => Variable::SourceIp,
            "stage" => Variable::Stage,
            "identity.userAgent" => Variable::UserAgent,
            _ => return Err(KNOWN),
        }))
    }

    /// The value in `call`; none if it is absent.
    pub(super) fn value(&self, call: &Call<'_>) -> Option<String> {
        match self {
            Self::Header(name) => call.header(name),
            Self::Query(name) => call.query.joined(name),
            Self::StageVariable(name) => call.api.stage_variables.get(name).cloned(),
            Self::Context(variable) => Some(match variable {
                Variable::AccountId => call.api.account_id.clone(),
                Variable::ApiId => call.api.api_id.clone(),
                Variable::DomainName => call.domain.clone(),
                Variable::DomainPrefix => call.domain_prefix().to_owned(),
                Variable::HttpMethod => call.request.method.clone(),
                Variable::Path => call.raw_path.clone(),
                Variable::Protocol => call.request.protocol.to_owned(),
                Variable::RequestId => call.request.id.clone(),
                Variable::RouteKey => call.route.key.to_owned(),
                Variable::SourceIp => call.request.source_ip.to_string(),
                Variable::Stage => call.api.stage.clone(),
                Variable::UserAgent => call.request.user_agent().to_owned(),
            }),
        }
    }
}

/// A value of an authorizer's context as text: strings as they are, the rest as JSON.
pub(super) fn context_text(context: &Map<String, Value>, key: &str) -> Option<String> {
    match context.get(key)? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
