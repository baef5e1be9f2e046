//! API Gateway: a token of the real issuer, the real authorizer under the Lambda emulator, keys and tables by moto.

use std::sync::Arc;

use causeway::dev::gateway::{Gateway, InProcess, Rie};
use causeway::dev::http::{Answer, send};
use causeway::dev::stack::{API_DOMAIN, OTHER_DOMAIN, central_api_with};
use e2e::function::Function;
use e2e::world::{self, World};
use e2e::{ports, program};
use serde_json::{Value, json};

type Outcome = Result<(), String>;

struct Api {
    world: World,
    authorizer: Function,
    address: std::net::SocketAddr,
}

impl Api {
    async fn start() -> Result<Self, String> {
        let world = World::start().await?;
        let command = program("authorizer").display().to_string();
        let mut environment = world.front_environment();
        environment.push(("CAUSEWAY_ENVIRONMENT".to_owned(), "dev".to_owned()));
        let authorizer = Function::start("authorizer", &[&command], world.folder.path(), None, &environment).await?;
        let rie = Arc::new(Rie::new(&authorizer.url()).map_err(|error| error.to_string())?);
        // What the integration gets of the authorizer's context is part of what is tested.
        let echo = InProcess::function(|event| async move {
            Ok(json!({"statusCode": 200, "body": event["requestContext"]["authorizer"]["lambda"].to_string()}))
        });
        let config = central_api_with(rie, echo.clone(), echo);
        let bound = Gateway::bind(config, ports::loopback(0)).await.map_err(|error| error.to_string())?;
        let address = bound.address();
        tokio::spawn(bound.run(std::future::pending()));
        Ok(Self { world, authorizer, address })
    }

    async fn get(&self, domain: &str, path: &str, credential: Option<(&str, &str)>) -> Result<Answer, String> {
        let mut headers = vec![("host", domain)];
        headers.extend(credential);
        send(self.address, "GET", path, &headers, "").await
    }

    /// The last decision that the authorizer has logged.
    fn decision(&self) -> Value {
        let lines = self.authorizer.process().lines();
        let decisions = lines.iter().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        decisions.into_iter().find(|line| line["event"] == "decision").unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_decided_by_its_credential_and_its_path() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let api = Api::start().await?;
    let world = &api.world;
    let bearer = |token: String| format!("Bearer {token}");
    let reader = bearer(world.token("reader", "").await?);
    let auditor = bearer(world.token("auditor", "").await?);
    let other_audience = bearer(world.token("reader", "&audience=orders").await?);
    let mut forged = reader.clone();
    let last = forged.pop().filter(|last| *last != 'A');
    forged.push(if last.is_some() { 'A' } else { 'Q' });
    let (key, revoked) = (world.partner_key.text().expose().clone(), world.revoked_key.text().expose().clone());
    let mistyped = key.replace("cwk_dev_", "cwk_dev_0");
    let other_environment = key.replace("cwk_dev_", "cwk_prod_");

    let page = "/productpage";
    type Row<'a> = (&'a str, &'a str, &'a str, Option<(&'a str, &'a str)>, u16, &'a str);
    let rows: &[Row<'_>] = &[
        ("good token", API_DOMAIN, page, Some(("authorization", &reader)), 200, "allowed_by_policy"),
        ("no credential", API_DOMAIN, page, None, 401, "no_credential"),
        ("wrong claim", API_DOMAIN, page, Some(("authorization", &auditor)), 403, "denied_no_match"),
        ("wrong audience", API_DOMAIN, page, Some(("authorization", &other_audience)), 401, "token_audience"),
        ("forged signature", API_DOMAIN, page, Some(("authorization", &forged)), 401, "token_signature"),
        ("not a token", API_DOMAIN, page, Some(("authorization", "Bearer x.y.z")), 401, "token_malformed"),
        ("good key", API_DOMAIN, page, Some(("x-api-key", &key)), 200, "allowed_by_policy"),
        ("revoked key", API_DOMAIN, page, Some(("x-api-key", &revoked)), 401, "api_key_revoked"),
        ("mistyped key", API_DOMAIN, page, Some(("x-api-key", &mistyped)), 401, "api_key_malformed"),
        (
            "key of another environment",
            API_DOMAIN,
            page,
            Some(("x-api-key", &other_environment)),
            401,
            "api_key_malformed",
        ),
        (
            "another method's path",
            API_DOMAIN,
            "/productpage/x",
            Some(("authorization", &reader)),
            403,
            "destination_unknown",
        ),
        ("unknown host", OTHER_DOMAIN, page, Some(("authorization", &reader)), 403, "destination_unknown"),
        ("closed path", API_DOMAIN, "/admin", Some(("authorization", &reader)), 403, "denied_by_policy"),
        ("dot segment", API_DOMAIN, "/reviews/../admin", Some(("authorization", &reader)), 403, "path_not_canonical"),
        ("double slash", API_DOMAIN, "/reviews//admin", Some(("authorization", &reader)), 403, "path_not_canonical"),
        (
            "encoded percent",
            API_DOMAIN,
            "/reviews/%2561dmin",
            Some(("authorization", &reader)),
            403,
            "path_not_canonical",
        ),
        ("path parameter", API_DOMAIN, "/reviews/;/admin", Some(("authorization", &reader)), 403, "path_not_canonical"),
    ];
    for (name, domain, path, credential, status, reason) in rows {
        let answer = api.get(domain, path, *credential).await?;
        let decision = api.decision();
        assert_eq!(
            (answer.status, decision["reason"].as_str()),
            (*status, Some(*reason)),
            "{name}: {} {decision}",
            answer.body
        );
        if *status == 200 {
            let context: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
            assert_eq!(context["policy"], "ns[bookinfo]-policy[productpage-viewer]-rule[0]", "{name}");
            assert_eq!(context["iss"], "https://issuer.bookinfo.example", "{name}");
        }
    }
    assert_eq!(world.credential_in_logs(&[api.authorizer.process(), world.moto.process()]), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_authorizer_needs_and_cannot_have_denies() -> Outcome {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let key = world.partner_key.text().expose().clone();
    let token = world.token("reader", "").await?;
    // Nobody listens where tables and secrets should be, and the issuer of this bundle is gone.
    let mut resources = causeway::dev::stack::resources().map_err(|errors| errors.join("; "))?;
    let gone = ports::free().map_err(|error| error.to_string())?;
    for rule in resources.request_authentications.iter_mut().flat_map(|authentication| &mut authentication.jwt_rules) {
        rule.jwks_uri = Some(format!("http://127.0.0.1:{gone}/jwks.json"));
    }
    let bytes = causeway::bundle::build(&resources, Default::default()).map_err(|errors| errors.join("; "))?;
    let bundle = world.folder.path().join("gone.bundle");
    std::fs::write(&bundle, bytes).map_err(|error| error.to_string())?;
    let environment: Vec<(String, String)> = world
        .front_environment()
        .into_iter()
        .map(|(name, value)| match name.as_str() {
            "AWS_ENDPOINT_URL" => (name, format!("http://127.0.0.1:{gone}")),
            "CAUSEWAY_BUNDLE" => (name, bundle.display().to_string()),
            _ => (name, value),
        })
        .collect();
    let command = program("authorizer").display().to_string();
    let authorizer = Function::start("authorizer", &[&command], world.folder.path(), None, &environment).await?;
    let rie = Arc::new(Rie::new(&authorizer.url()).map_err(|error| error.to_string())?);
    let page = InProcess::function(|_| async { Ok(json!({"statusCode": 200, "body": "in"})) });
    let bound = Gateway::bind(central_api_with(rie, page.clone(), page), ports::loopback(0))
        .await
        .map_err(|error| error.to_string())?;
    let api = Api { address: bound.address(), world, authorizer };
    tokio::spawn(bound.run(std::future::pending()));

    let answer = api.get(API_DOMAIN, "/productpage", Some(("authorization", &format!("Bearer {token}")))).await?;
    assert_eq!((answer.status, api.decision()["reason"].as_str()), (401, Some("jwks_unavailable")), "{}", answer.body);
    let answer = api.get(API_DOMAIN, "/productpage", Some(("x-api-key", &key))).await?;
    assert_eq!(
        (answer.status, api.decision()["reason"].as_str()),
        (401, Some("api_key_unavailable")),
        "{}",
        answer.body
    );
    Ok(())
}
