//! REST APIs: "Input to an API Gateway Lambda authorizer", "Output from an API Gateway Lambda authorizer" and
//! "Gateway response types for API Gateway".

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies};
use platform::clock::FixedClock;
use platform::jwks::{JwksSettings, JwksSource};
use platform::log::Log;
use platform::secrets;
use platform::store::{self, ApiKeys};
use serde_json::{Value, json};

use super::harness::{Function, NOW, Served, get, loopback, send, start};
use super::issuer::{self, Issuer};
use crate::dev::gateway::{
    ApiKeySource, IdentitySource, InProcess, Invoker, RestApi, RestAuthorizer, RestConfig, RestMethod,
};

const ARN: &str = "arn:aws:execute-api:eu-central-1:123456789012:bookinfor1/prod";
const HOST: (&str, &str) = ("Host", "rest.bookinfo.example");

fn token() -> IdentitySource {
    IdentitySource::Token("Authorization".to_owned())
}

pub(super) fn request(sources: &[&str]) -> IdentitySource {
    IdentitySource::Request(sources.iter().map(|&source| source.to_owned()).collect())
}

pub(super) fn policy(effect: &str, resource: &str) -> Value {
    json!({
        "principalId": "user",
        "policyDocument": {"Version": "2012-10-17", "Statement": [{"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}]},
        "context": {"text": "a", "number": 1, "yes": true},
    })
}

fn method(key: &str) -> RestMethod {
    RestMethod {
        key: key.to_owned(),
        authorizer: Some("guard".to_owned()),
        integration: "backend".to_owned(),
        api_key_required: false,
    }
}

/// `GET /reviews/{id}` and `ANY /public/{proxy+}`, guarded, at `rest.bookinfo.example/shop`.
fn api(authorizer: Arc<dyn Invoker>, identity: IdentitySource) -> RestConfig {
    RestConfig {
        domains: vec!["rest.bookinfo.example".to_owned()],
        base_path: "shop".to_owned(),
        methods: vec![method("GET /reviews/{id}"), method("ANY /public/{proxy+}")],
        authorizers: vec![RestAuthorizer::new("guard", authorizer, identity)],
        integrations: BTreeMap::from([("backend".to_owned(), Function::echo().invoker)]),
        clock: Arc::new(FixedClock::at(NOW)),
        ..RestConfig::new("bookinfor1", "prod")
    }
}

async fn serve(config: RestConfig) -> Served {
    start(RestApi::bind(config, loopback()).await.unwrap())
}

pub(super) fn members(value: &Value) -> Vec<&String> {
    value.as_object().unwrap().keys().collect()
}

/// A complete event of the service is among the examples.
#[tokio::test]
async fn a_request_authorizer_is_told_what_the_service_tells() {
    let guard = Function::returning(policy("Allow", "*"));
    let mut config = api(guard.invoker.clone(), request(&[]));
    config.stage_variables.insert("release".to_owned(), "blue".to_owned());
    let server = serve(config).await;
    let headers = [HOST, ("X-Team", "a"), ("X-Team", "b"), ("User-Agent", "curl/8.5.0")];
    let reply = get(&server, "/shop/reviews/0?lang=de&lang=en", &headers).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let asked = guard.last_event();
    let example: Value =
        serde_json::from_str(include_str!("../../../../../examples/events/rest-request.json")).unwrap();
    assert_eq!(members(&asked), members(&example));
    assert_eq!(members(&asked["requestContext"]), members(&example["requestContext"]));
    assert_eq!(members(&asked["requestContext"]["identity"]), members(&example["requestContext"]["identity"]));
    for member in [
        "type",
        "methodArn",
        "resource",
        "path",
        "httpMethod",
        "queryStringParameters",
        "multiValueQueryStringParameters",
        "pathParameters",
        "stageVariables",
    ] {
        assert_eq!(asked[member], example[member], "{member}");
    }
    for member in ["resourcePath", "path", "stage", "domainName", "domainPrefix", "apiId", "accountId", "protocol"] {
        assert_eq!(asked["requestContext"][member], example["requestContext"][member], "{member}");
    }
    assert_eq!((&asked["headers"]["x-team"], &asked["multiValueHeaders"]["x-team"]), (&json!("b"), &json!(["a", "b"])));
    // What it answered is told to the integration, all of it as text.
    let told = &reply.json()["requestContext"]["authorizer"];
    assert_eq!(
        *told,
        json!({"principalId": "user", "integrationLatency": 0, "text": "a", "number": "1", "yes": "true"})
    );
}

/// `path` has no stage, `requestContext.path` has; at a custom domain both have the base path. Nothing is decoded.
#[tokio::test]
async fn paths_are_shown_as_they_were_sent() {
    const OWN: (&str, &str) = ("Host", "bookinfor1.execute-api.eu-central-1.amazonaws.com");
    let guard = Function::returning(policy("Allow", "*"));
    let server = serve(api(guard.invoker.clone(), request(&[]))).await;
    for (host, target, path, context, arn) in [
        (HOST, "/shop/reviews/a%20b", "/shop/reviews/a%20b", "/shop/reviews/a%20b", "/GET/reviews/a%20b"),
        (OWN, "/prod/reviews/a%2Fb", "/reviews/a%2Fb", "/prod/reviews/a%2Fb", "/GET/reviews/a%2Fb"),
        (OWN, "/prod/public/x/y", "/public/x/y", "/prod/public/x/y", "/GET/public/x/y"),
    ] {
        assert_eq!(get(&server, target, &[host]).await.status, 200, "{target}");
        let asked = guard.last_event();
        assert_eq!((&asked["path"], &asked["requestContext"]["path"]), (&json!(path), &json!(context)));
        assert_eq!(asked["methodArn"], format!("{ARN}{arn}"));
    }
    let calls = guard.calls();
    for (host, target, message) in [
        (OWN, "/reviews/0", "Forbidden"),
        (OWN, "/produce/reviews/0", "Forbidden"),
        (HOST, "/reviews/0", "Forbidden"),
        (("Host", "else.example"), "/shop/reviews/0", "Forbidden"),
        (HOST, "/shop/else", "Missing Authentication Token"),
        (HOST, "/shop", "Missing Authentication Token"),
    ] {
        assert_eq!(get(&server, target, &[host]).await.refusal(), (403, json!({"message": message})), "{target}");
    }
    assert_eq!(guard.calls(), calls);
}

/// One header's value, and the ARN of the method.
#[tokio::test]
async fn a_token_authorizer_is_told_the_token_and_the_arn() {
    let guard = Function::returning(policy("Allow", &format!("{ARN}/GET/reviews/0")));
    let server = serve(api(guard.invoker.clone(), token())).await;
    // "… otherwise, it returns a 401 Unauthorized response without calling the Lambda function."
    for headers in [&[HOST][..], &[HOST, ("authorization", "")]] {
        let reply = get(&server, "/shop/reviews/0", headers).await;
        assert_eq!(reply.refusal(), (401, json!({"message": "Unauthorized"})));
        assert_eq!(reply.header("x-amzn-errortype"), ["UnauthorizedException"]);
    }
    assert_eq!(guard.calls(), 0);
    let reply = get(&server, "/shop/reviews/0?a=b", &[HOST, ("authorization", "Bearer t")]).await;
    assert_eq!((reply.status, reply.header("x-amzn-requestid").len()), (200, 1));
    let expected =
        json!({"type": "TOKEN", "methodArn": format!("{ARN}/GET/reviews/0"), "authorizationToken": "Bearer t"});
    assert_eq!(guard.last_event(), expected);
}

#[tokio::test]
async fn what_is_no_allow_is_refused_as_the_service_does() {
    let denied = "User is not authorized to access this resource";
    let mut odd = policy("Allow", "*");
    odd["context"] = json!({"list": []});
    let mut nobody = policy("Allow", "*");
    nobody["principalId"] = Value::Null;
    let mut key = policy("Allow", "*");
    key["usageIdentifierKey"] = json!(1);
    for (guard, status, body) in [
        (Function::returning(policy("Deny", "*")), 403, json!({"Message": format!("{denied} with an explicit deny")})),
        (Function::returning(policy("Allow", &format!("{ARN}/GET/else"))), 403, json!({"Message": denied})),
        (Function::failing("Unauthorized"), 401, json!({"message": "Unauthorized"})),
        (Function::failing("unauthorized"), 500, json!({"message": null})),
        (Function::returning(json!({"isAuthorized": true})), 500, json!({"message": null})),
        (Function::returning(odd), 500, json!({"message": null})),
        (Function::returning(nobody), 500, json!({"message": null})),
        (Function::returning(key), 500, json!({"message": null})),
    ] {
        let server = serve(api(guard.invoker.clone(), request(&[]))).await;
        assert_eq!(get(&server, "/shop/reviews/0", &[HOST]).await.refusal(), (status, body));
    }
}

/// The policy is kept, and evaluated for each request.
#[tokio::test]
async fn a_cached_policy_is_asked_about_each_request() {
    let guard = Function::returning(policy("Allow", &format!("{ARN}/GET/reviews/0")));
    let mut config = api(guard.invoker.clone(), request(&["method.request.header.Authorization", "context.stage"]));
    let clock = Arc::new(FixedClock::at(NOW));
    config.clock = clock.clone();
    config.authorizers[0].ttl_seconds = 300;
    let server = serve(config).await;
    let status = async |target: &str| get(&server, target, &[HOST, ("authorization", "t")]).await.status;
    assert_eq!((status("/shop/reviews/0").await, status("/shop/reviews/1").await, guard.calls()), (200, 403, 1));
    clock.advance(Duration::from_secs(300));
    assert_eq!((status("/shop/reviews/0").await, guard.calls()), (200, 2));
    // Without an identity source nothing would tell callers apart.
    let mut config = api(guard.invoker.clone(), request(&[]));
    config.authorizers[0].ttl_seconds = 1;
    assert!(RestApi::bind(config, loopback()).await.unwrap_err().to_string().contains("without an identity source"));
}

#[tokio::test]
async fn a_method_may_need_a_key_of_a_usage_plan() {
    let mut answer = policy("Allow", "*");
    answer["usageIdentifierKey"] = json!("plan-key");
    let guard = Function::returning(answer);
    for (source, known, headers, expected) in [
        (ApiKeySource::Header, "sent-key", &[HOST, ("x-api-key", "sent-key")][..], Some("sent-key")),
        (ApiKeySource::Header, "plan-key", &[HOST], None),
        (ApiKeySource::Header, "plan-key", &[HOST, ("x-api-key", "sent-key")], None),
        (ApiKeySource::Authorizer, "plan-key", &[HOST], Some("plan-key")),
        (ApiKeySource::Authorizer, "sent-key", &[HOST, ("x-api-key", "sent-key")], None),
    ] {
        let mut config = api(guard.invoker.clone(), request(&[]));
        config.api_key_source = source;
        config.api_keys = vec![known.to_owned()];
        config.methods[0].api_key_required = true;
        let server = serve(config).await;
        let reply = get(&server, "/shop/reviews/0", headers).await;
        match expected {
            Some(key) => assert_eq!(reply.json()["requestContext"]["identity"]["apiKey"], key, "{source:?}"),
            None => assert_eq!(reply.refusal(), (403, json!({"message": "Forbidden"})), "{source:?} {known}"),
        }
        assert_eq!(get(&server, "/shop/public/a", &[HOST]).await.status, 200, "no key is required there");
    }
}

#[tokio::test]
async fn a_failing_integration_is_a_bad_gateway() {
    for backend in [Function::failing("a bug"), Function::returning(json!("text"))] {
        let mut config = api(Function::returning(policy("Allow", "*")).invoker, request(&[]));
        config.integrations.insert("backend".to_owned(), backend.invoker);
        let server = serve(config).await;
        let reply = send(&server, "POST", "/shop/public/a", &[HOST], b"body").await;
        assert_eq!(reply.refusal(), (502, json!({"message": "Internal server error"})));
    }
}

#[tokio::test]
async fn wrong_configurations_are_refused() {
    let good = || api(Function::echo().invoker, request(&[]));
    type Change = fn(&mut RestConfig);
    let cases: [(Change, &str); 7] = [
        (|c| c.stage = "$default".to_owned(), "stage"),
        (|c| c.base_path = "/shop".to_owned(), "base path"),
        (|c| c.methods[0].key = "$default".to_owned(), "no $default"),
        (|c| c.methods[0].authorizer = Some("else".to_owned()), "authorizer of the route"),
        (|c| c.methods[0].integration = "else".to_owned(), "integration of the route"),
        (|c| c.authorizers[0].identity = request(&["$request.header.a"]), "identity source"),
        (|c| c.authorizers[0].timeout = Duration::from_secs(30), "timeout"),
    ];
    for (change, words) in cases {
        let mut config = good();
        change(&mut config);
        let error = RestApi::bind(config, loopback()).await.unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}

const PEPPER: &str = "a pepper of the tests";

/// The program itself, over the policies that the example events are judged by, with one API key.
pub(super) async fn authorizer(issuer: &Issuer, key: &ApiKey) -> Arc<dyn Invoker> {
    let text = include_str!("../../../../../tests/fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text };
    let compiled = authz::compile(&istio::parse(&[file]).unwrap(), &CompileOptions::default()).unwrap();
    let records = store::Embedded::in_memory();
    let record = ApiKeyRecord {
        id: key.id().to_owned(),
        client_id: "reader".to_owned(),
        environment: "dev".to_owned(),
        hashes: vec![authz::api_key::hex(&key.hash(&pepper()))],
        scope: "reviews.read".to_owned(),
        audiences: vec!["bookinfo".to_owned()],
        state: KeyState::Active,
        ..Default::default()
    };
    ApiKeys::put(&records, &record).await.unwrap();
    let secrets = secrets::Embedded::default();
    secrets.put("pepper", PEPPER);
    let api_keys = authorizer::ApiKeyStore {
        records: Arc::new(records),
        secrets: Arc::new(secrets),
        pepper_id: "pepper".to_owned(),
    };
    let clock = Arc::new(FixedClock::at(issuer::NOW));
    let jwks = Arc::new(JwksSource::with_settings(JwksSettings::private(), clock.clone()));
    let deps = authorizer::Deps {
        api_keys: Some(api_keys),
        jwks,
        rate_limits: None,
        revocations: Default::default(),
        clock,
        log: Log::memory().0,
    };
    let config = authorizer::Config::from_env(&platform::env::MapEnv::default()).unwrap();
    let program = authorizer::Authorizer::new(config, Policies::open(&compiled.section).unwrap(), deps).unwrap();
    InProcess::service(program)
}

fn pepper() -> identity::Secret<Vec<u8>> {
    identity::Secret::new(PEPPER.as_bytes().to_vec())
}

/// HTTP in, the authorizer's own IAM answer, and a usage plan that goes by what it says of the API key.
#[tokio::test]
async fn our_authorizer_guards_a_rest_api() {
    let (issuer, key) = (Issuer::new(), ApiKey::generate("dev", &[1; 48]).unwrap());
    let guard = authorizer(&issuer, &key).await;
    let bearer = format!("Bearer {}", issuer.token(&issuer::reader()));
    let unread = format!("Bearer {}", issuer.token(&issuer::with(issuer::reader(), "scope", json!(""))));
    let text = key.text().expose().clone();
    for identity in [request(&[]), token()] {
        let is_token = identity == token();
        let server = serve(api(guard.clone(), identity)).await;
        let reply = get(&server, "/shop/reviews/0", &[HOST, ("authorization", &bearer)]).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let told = &reply.json()["requestContext"]["authorizer"];
        assert_eq!((&told["client_id"], &told["reason"]), (&json!("reader"), &json!("allowed_by_policy")));
        let reply = get(&server, "/shop/reviews/0", &[HOST, ("authorization", &unread)]).await;
        let denied = "User is not authorized to access this resource with an explicit deny";
        assert_eq!(reply.refusal(), (403, json!({"Message": denied})));
        for wrong in [&[HOST][..], &[HOST, ("authorization", "Bearer x.y.z")]] {
            assert_eq!(get(&server, "/shop/reviews/0", wrong).await.refusal().0, 401, "{is_token}");
        }
        // A route that the policies leave open: a TOKEN authorizer needs its header all the same.
        let public = get(&server, "/shop/public/a", &[HOST]).await.status;
        assert_eq!(public, if is_token { 401 } else { 200 });
    }
    let mut config = api(guard, request(&[]));
    config.methods[0].api_key_required = true;
    config.api_key_source = ApiKeySource::Authorizer;
    config.api_keys = vec![authz::api_key::usage_plan_key("dev", key.id(), &pepper())];
    let server = serve(config).await;
    let reply = get(&server, "/shop/reviews/0", &[HOST, ("x-api-key", &text)]).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // A token has no key of a usage plan, and another API key is none.
    let reply = get(&server, "/shop/reviews/0", &[HOST, ("authorization", &bearer)]).await;
    assert_eq!(reply.refusal(), (403, json!({"message": "Forbidden"})));
    let other = ApiKey::generate("dev", &[2; 48]).unwrap().text().expose().clone();
    assert_eq!(get(&server, "/shop/reviews/0", &[HOST, ("x-api-key", &other)]).await.status, 401);
}
