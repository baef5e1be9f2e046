//! The events that functions receive.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::authorizer::Granted;
use super::context::{Call, joined};
use super::request::Request;

/// A path or a part of one, decoded; none if that is no text.
pub(super) fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// Query parameters, decoded, in the order sent.
pub(super) struct Parameters(pub(super) Vec<(String, String)>);

impl Parameters {
    pub(super) fn parse(query: &str) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        Self(
            query
                .split('&')
                .filter(|part| !part.is_empty())
                .map(|part| part.split_once('=').unwrap_or((part, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }

    pub(super) fn joined(&self, name: &str) -> Option<String> {
        joined(self.0.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str()))
    }
}

/// "Duplicate headers are combined with commas and included in the headers field."
/// (Create AWS Lambda proxy integrations for HTTP APIs); query parameters likewise.
fn combined(pairs: &[(String, String)]) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        match map.get_mut(name) {
            Some(Value::String(values)) => {
                values.push(',');
                values.push_str(value);
            }
            _ => {
                map.insert(name.clone(), Value::String(value.clone()));
            }
        }
    }
    map
}

/// Format 1.0: the last value of each name, and all of them.
pub(super) fn last_and_all(pairs: &[(String, String)]) -> (Value, Value) {
    if pairs.is_empty() {
        return (Value::Null, Value::Null);
    }
    let (mut last, mut all) = (Map::new(), Map::new());
    for (name, value) in pairs {
        last.insert(name.clone(), json!(value));
        if let Value::Array(values) = all.entry(name.clone()).or_insert_with(|| json!([])) {
            values.push(json!(value));
        }
    }
    (Value::Object(last), Value::Object(all))
}

/// The body as an event carries it, and whether it is base64.
///
/// "The HTTP API Lambda integration automatically infers the need for encoding based on the content-type header passed
/// with the request" (AWS Compute Blog, Working with binary data using API Gateway HTTP APIs): text, JSON, XML and JavaScript are
/// text. Everything else is base64, forms too.
pub(super) fn body(request: &Request) -> (Option<String>, bool) {
    if request.body.is_empty() {
        return (None, false);
    }
    let kind = request
        .headers
        .iter()
        .find(|(name, _)| name == "content-type")
        .map_or("text/plain", |(_, value)| value.as_str());
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_text = kind.starts_with("text/")
        || matches!(kind.as_str(), "application/json" | "application/xml" | "application/javascript");
    match std::str::from_utf8(&request.body) {
        Ok(text) if is_text => (Some(text.to_owned()), false),
        _ => (Some(STANDARD.encode(&request.body)), true),
    }
}

/// The members that every event of format 2.0 has.
fn base_v2(
    request: &Request,
    headers: &[(String, String)],
    query: &Parameters,
    route_key: &str,
    raw_path: &str,
) -> Map<String, Value> {
    let mut event = Map::new();
    event.insert("version".to_owned(), json!("2.0"));
    event.insert("routeKey".to_owned(), json!(route_key));
    event.insert("rawPath".to_owned(), json!(raw_path));
    event.insert("rawQueryString".to_owned(), json!(request.query));
    // "Format 2.0 includes a new cookies field." They are no header any more then.
    let cookies: Vec<&str> = headers
        .iter()
        .filter(|(name, _)| name == "cookie")
        .flat_map(|(_, value)| value.split(';'))
        .map(str::trim)
        .filter(|c| !c.is_empty())
        .collect();
    if !cookies.is_empty() {
        event.insert("cookies".to_owned(), json!(cookies));
    }
    let plain: Vec<(String, String)> = headers.iter().filter(|(name, _)| name != "cookie").cloned().collect();
    event.insert("headers".to_owned(), Value::Object(combined(&plain)));
    if !query.0.is_empty() {
        event.insert("queryStringParameters".to_owned(), Value::Object(combined(&query.0)));
    }
    event
}

/// `requestContext` of format 2.0.
pub(super) struct ContextV2<'a> {
    pub(super) account_id: &'a str,
    pub(super) api_id: &'a str,
    pub(super) domain: &'a str,
    pub(super) route_key: &'a str,
    pub(super) stage: &'a str,
    pub(super) path: &'a str,
}

impl ContextV2<'_> {
    fn json(&self, request: &Request) -> Value {
        let (time, epoch) = super::event_time(request.received);
        json!({
            "accountId": self.account_id,
            "apiId": self.api_id,
            "domainName": self.domain,
            "domainPrefix": self.domain.split('.').next().unwrap_or_default(),
            "http": {
                "method": request.method,
                "path": self.path,
                "protocol": request.protocol,
                "sourceIp": request.source_ip.to_string(),
                "userAgent": request.user_agent(),
            },
            "requestId": request.id,
            "routeKey": self.route_key,
            "stage": self.stage,
            "time": time,
            "timeEpoch": epoch,
        })
    }
}

fn context_v2(call: &Call<'_>) -> Value {
    ContextV2 {
        account_id: &call.api.account_id,
        api_id: &call.api.api_id,
        domain: &call.domain,
        route_key: call.route.key,
        stage: &call.api.stage,
        path: &call.raw_path,
    }
    .json(call.request)
}

fn event_v2(call: &Call<'_>) -> Map<String, Value> {
    let mut event = base_v2(call.request, &call.headers, &call.query, call.route.key, &call.raw_path);
    if !call.route.path_parameters.is_empty() {
        event.insert("pathParameters".to_owned(), json!(call.route.path_parameters));
    }
    if !call.api.stage_variables.is_empty() {
        event.insert("stageVariables".to_owned(), json!(call.api.stage_variables));
    }
    event
}

/// The event of a Lambda authorizer, format 2.0.
pub(super) fn authorizer_v2(call: &Call<'_>, identity: &[String]) -> Value {
    let mut event = event_v2(call);
    event.insert("type".to_owned(), json!("REQUEST"));
    event.insert("routeArn".to_owned(), json!(call.arn()));
    event.insert("identitySource".to_owned(), if identity.is_empty() { Value::Null } else { json!(identity) });
    event.insert("requestContext".to_owned(), context_v2(call));
    Value::Object(event)
}

/// The event of a Lambda authorizer, format 1.0.
pub(super) fn authorizer_v1(call: &Call<'_>, identity: &[String]) -> Value {
    let identity = if identity.is_empty() { Value::Null } else { json!(identity.join(",")) };
    let (headers, _) = last_and_all(&call.headers);
    let (query, _) = last_and_all(&call.query.0);
    json!({
        "version": "1.0",
        "type": "REQUEST",
        "methodArn": call.arn(),
        "identitySource": identity,
        "authorizationToken": identity,
        "resource": call.route.resource,
        "path": call.raw_path,
        "httpMethod": call.request.method,
        "headers": headers,
        "queryStringParameters": if query.is_null() { json!({}) } else { query },
        "pathParameters": call.route.path_parameters,
        "stageVariables": call.api.stage_variables,
        "requestContext": context_v1(call, None),
    })
}

/// The event of an integration, format 2.0.
pub(super) fn integration_v2(call: &Call<'_>, granted: Option<&Granted>) -> Value {
    let mut event = event_v2(call);
    let mut context = context_v2(call);
    if let (Some(granted), Value::Object(context)) = (granted, &mut context) {
        let lambda = granted.context.as_ref().map_or(Value::Null, |context| Value::Object(context.clone()));
        context.insert("authorizer".to_owned(), json!({ "lambda": lambda }));
    }
    event.insert("requestContext".to_owned(), context);
    add_body(&mut event, call.request);
    Value::Object(event)
}

/// The event of an integration, format 1.0.
pub(super) fn integration_v1(call: &Call<'_>, granted: Option<&Granted>) -> Value {
    let (headers, all_headers) = last_and_all(&call.headers);
    let (query, all_query) = last_and_all(&call.query.0);
    let (body, is_base64) = body(call.request);
    let or_null = |empty: bool, value: Value| if empty { Value::Null } else { value };
    json!({
        "version": "1.0",
        "resource": call.route.resource,
        "path": call.raw_path,
        "httpMethod": call.request.method,
        "headers": headers,
        "multiValueHeaders": all_headers,
        "queryStringParameters": query,
        "multiValueQueryStringParameters": all_query,
        "requestContext": context_v1(call, granted),
        "pathParameters": or_null(call.route.path_parameters.is_empty(), json!(call.route.path_parameters)),
        "stageVariables": or_null(call.api.stage_variables.is_empty(), json!(call.api.stage_variables)),
        "body": body,
        "isBase64Encoded": is_base64,
    })
}

/// `requestContext` of format 1.0; the authorizer's context lies in it directly, beside its `principalId`.
fn context_v1(call: &Call<'_>, granted: Option<&Granted>) -> Value {
    let (time, epoch) = super::event_time(call.request.received);
    let mut context = json!({
        "accountId": call.api.account_id,
        "apiId": call.api.api_id,
        "domainName": call.domain,
        "domainPrefix": call.domain_prefix(),
        "extendedRequestId": call.request.id,
        "httpMethod": call.request.method,
        "identity": {
            "accessKey": null, "accountId": null, "caller": null, "cognitoAuthenticationProvider": null, "cognitoAuthenticationType": null,
            "cognitoIdentityId": null, "cognitoIdentityPoolId": null, "principalOrgId": null, "user": null, "userArn": null,
            "sourceIp": call.request.source_ip.to_string(),
            "userAgent": call.request.user_agent(),
        },
        "path": call.raw_path,
        "protocol": call.request.protocol,
        "requestId": call.request.id,
        "requestTime": time,
        "requestTimeEpoch": epoch,
        "resourceId": null,
        "resourcePath": call.route.resource,
        "stage": call.api.stage,
    });
    if let (Some(granted), Value::Object(context)) = (granted, &mut context) {
        let mut authorizer = granted.context.clone().unwrap_or_default();
        if let Some(principal) = &granted.principal_id {
            authorizer.insert("principalId".to_owned(), json!(principal));
        }
        context.insert("authorizer".to_owned(), Value::Object(authorizer));
    }
    context
}

/// The event of a function URL: format 2.0 with the path as sent, and `iam`, the caller that IAM has proven.
pub(super) fn function_url(
    request: &Request,
    headers: &[(String, String)],
    context: &ContextV2<'_>,
    iam: Option<Value>,
) -> Value {
    let mut event = base_v2(request, headers, &Parameters::parse(&request.query), context.route_key, &request.path);
    let mut context = context.json(request);
    if let Value::Object(context) = &mut context {
        // "Function URLs don't use this parameter. Lambda sets this to null." (Invoking Lambda function URLs)
        context.insert("authentication".to_owned(), Value::Null);
        // "An object that contains information about the caller identity, if the function URL uses the AWS_IAM auth type.
        // Otherwise, Lambda sets this to null." (same page)
        context.insert("authorizer".to_owned(), iam.map_or(Value::Null, |iam| json!({ "iam": iam })));
    }
    event.insert("requestContext".to_owned(), context);
    event.insert("pathParameters".to_owned(), Value::Null);
    event.insert("stageVariables".to_owned(), Value::Null);
    add_body(&mut event, request);
    Value::Object(event)
}

fn add_body(event: &mut Map<String, Value>, request: &Request) {
    let (body, is_base64) = body(request);
    if let Some(body) = body {
        event.insert("body".to_owned(), json!(body));
    }
    event.insert("isBase64Encoded".to_owned(), json!(is_base64));
}
