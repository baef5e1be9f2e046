//! The events of a REST API.

use serde_json::{Map, Value, json};

use super::RestCall;
use super::authorizer::Granted;
use crate::dev::gateway::event::{body, last_and_all};
use crate::dev::gateway::event_time;

/// The event of a TOKEN authorizer.
pub(super) fn token(call: &RestCall<'_>, token: &str) -> Value {
    json!({ "type": "TOKEN", "methodArn": call.arn(), "authorizationToken": token })
}

/// The event of a REQUEST authorizer.
pub(super) fn request(call: &RestCall<'_>) -> Value {
    let mut event = base(call);
    event.insert("type".to_owned(), json!("REQUEST"));
    event.insert("methodArn".to_owned(), json!(call.arn()));
    let context = match call.connection {
        None => context(call, None),
        Some(connection) => connecting(call, connection),
    };
    event.insert("requestContext".to_owned(), Value::Object(context));
    // An authorizer's maps are empty where an integration's are null.
    for name in ["queryStringParameters", "multiValueQueryStringParameters", "pathParameters", "stageVariables"] {
        event.entry(name).and_modify(|value| {
            if value.is_null() {
                *value = json!({});
            }
        });
    }
    if call.connection.is_some() {
        // A connection has neither method nor path.
        event.retain(|name, _| !matches!(name.as_str(), "resource" | "path" | "httpMethod" | "pathParameters"));
    }
    Value::Object(event)
}

/// The event of the integration of `$connect`.
pub(super) fn connect(call: &RestCall<'_>, granted: Option<&Granted>) -> Value {
    let mut context = connecting(call, call.connection.unwrap_or_default());
    if let Some(granted) = granted {
        context.insert("authorizer".to_owned(), authorizer(granted));
    }
    let mut event = base(call);
    event.retain(|name, _| matches!(name.as_str(), "headers" | "multiValueHeaders" | "queryStringParameters"));
    event.insert("requestContext".to_owned(), Value::Object(context));
    event.insert("isBase64Encoded".to_owned(), json!(false));
    Value::Object(event)
}

/// What an answer tells the integration: all of it as text.
fn authorizer(granted: &Granted) -> Value {
    let mut told = Map::new();
    told.insert("principalId".to_owned(), json!(granted.principal_id));
    told.insert("integrationLatency".to_owned(), json!(0));
    for (key, value) in &granted.context {
        told.insert(key.clone(), json!(value));
    }
    Value::Object(told)
}

/// `requestContext` of `$connect`.
fn connecting(call: &RestCall<'_>, connection: &str) -> Map<String, Value> {
    let inner = &call.inner;
    let (time, epoch) = event_time(inner.request.received);
    let context = json!({
        "routeKey": inner.route.key,
        "eventType": "CONNECT",
        "extendedRequestId": inner.request.id,
        "requestTime": time,
        "messageDirection": "IN",
        "stage": inner.api.stage,
        "connectedAt": epoch,
        "requestTimeEpoch": epoch,
        "identity": {
            "sourceIp": inner.request.source_ip.to_string(),
            "userAgent": inner.request.user_agent(),
        },
        "requestId": inner.request.id,
        "domainName": inner.domain,
        "connectionId": connection,
        "apiId": inner.api.api_id,
    });
    match context {
        Value::Object(context) => context,
        _ => Map::new(),
    }
}

/// The event of a Lambda proxy integration; `api_key` is the one of the usage plan.
pub(super) fn integration(call: &RestCall<'_>, granted: Option<&Granted>, api_key: Option<&str>) -> Value {
    let mut event = base(call);
    let mut context = context(call, api_key);
    if let Some(granted) = granted {
        context.insert("authorizer".to_owned(), authorizer(granted));
    }
    event.insert("requestContext".to_owned(), Value::Object(context));
    let (body, is_base64) = body(call.inner.request);
    event.insert("body".to_owned(), json!(body));
    event.insert("isBase64Encoded".to_owned(), json!(is_base64));
    Value::Object(event)
}

fn base(call: &RestCall<'_>) -> Map<String, Value> {
    let inner = &call.inner;
    let (headers, all_headers) = last_and_all(&inner.headers);
    let (query, all_query) = last_and_all(&inner.query.0);
    let or_null = |empty: bool, value: Value| if empty { Value::Null } else { value };
    let event = json!({
        "resource": inner.route.resource,
        "path": call.shown,
        "httpMethod": inner.request.method,
        "headers": headers,
        "multiValueHeaders": all_headers,
        "queryStringParameters": query,
        "multiValueQueryStringParameters": all_query,
        "pathParameters": or_null(inner.route.path_parameters.is_empty(), json!(inner.route.path_parameters)),
        "stageVariables": or_null(inner.api.stage_variables.is_empty(), json!(inner.api.stage_variables)),
    });
    match event {
        Value::Object(event) => event,
        _ => Map::new(),
    }
}

fn context(call: &RestCall<'_>, api_key: Option<&str>) -> Map<String, Value> {
    let inner = &call.inner;
    let (time, epoch) = event_time(inner.request.received);
    let context = json!({
        "resourceId": "a1b2c3",
        "resourcePath": inner.route.resource,
        "httpMethod": inner.request.method,
        "extendedRequestId": inner.request.id,
        "requestTime": time,
        "path": inner.raw_path,
        "accountId": inner.api.account_id,
        "protocol": inner.request.protocol,
        "stage": inner.api.stage,
        "domainPrefix": inner.domain_prefix(),
        "requestTimeEpoch": epoch,
        "requestId": inner.request.id,
        "identity": {
            "cognitoIdentityPoolId": null, "accountId": null, "apiKey": api_key, "apiKeyId": null,
            "cognitoIdentityId": null, "caller": null, "principalOrgId": null, "accessKey": null,
            "cognitoAuthenticationType": null, "cognitoAuthenticationProvider": null, "userArn": null, "user": null,
            "sourceIp": inner.request.source_ip.to_string(),
            "userAgent": inner.request.user_agent(),
        },
        "domainName": inner.domain,
        "deploymentId": "d4e5f6",
        "apiId": inner.api.api_id,
    });
    match context {
        Value::Object(context) => context,
        _ => Map::new(),
    }
}
