//! Rate limits in a table of moto, through the AWS client: several sandboxes, a clock that the test moves, and every way
//! in which the table can be gone. The authorizer is configured by its variables and a bundle, as in Lambda.

#[path = "../fixtures/issuer.rs"]
#[allow(clippy::unwrap_used, reason = "the issuer of the authorizer's tests")]
mod issuer;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use authorizer::{Authorizer, Config};
use authz::{CompileOptions, Policies, Reason, Request, Target};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use e2e::moto::Moto;
use e2e::world::{aws, create_table};
use e2e::{tier, tool};
use issuer::{ISSUER, Issuer};
use platform::aws::AwsConfig;
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::front::{Deps, Front};
use platform::jwks::JwksSource;
use platform::log::{Lines, Log};
use platform::rate_limit::{Outage, RETRY_AFTER, RateLimitConfig, RateLimits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: bookinfo }
spec:
  jwtRules: [{ issuer: ISSUER, jwks: 'JWKS' }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: bookinfo }
spec:
  rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }]
";

/// Two sandboxes with one table.
struct World {
    moto: Option<Moto>,
    client: Client,
    issuer: Issuer,
    sandboxes: [Front; 2],
    clock: Arc<FixedClock>,
    lines: Lines,
}

impl World {
    async fn start(limit: &str, outage: Outage) -> Result<Self, String> {
        let moto = Moto::start().await?;
        create_table(&moto, "limits").await?;
        let aws = aws(&moto);
        Self::with(Some(moto), aws, limit, outage)
    }

    fn with(moto: Option<Moto>, aws: AwsConfig, limit: &str, outage: Outage) -> Result<Self, String> {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
            .endpoint_url(aws.dynamodb_endpoint.clone().unwrap_or_default());
        let client = Client::from_conf(config.build());
        let issuer = Issuer::new();
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
        let (clock, (log, lines)) = (Arc::new(FixedClock::at(start)), Log::memory());
        let limit = limit.parse()?;
        let front = || {
            let config = RateLimitConfig { table: "limits".to_owned(), limit, outage, aws: aws.clone() };
            let deps = Deps {
                api_keys: None,
                jwks: Arc::new(JwksSource::new(clock.clone())),
                revocations: Default::default(),
                // Each sandbox has a client of its own.
                rate_limits: Some(RateLimits::in_aws(&config)),
                clock: clock.clone(),
                log: log.clone(),
            };
            Front::new(policies(&issuer)?, deps).map_err(|error| error.to_string())
        };
        let sandboxes = [front()?, front()?];
        Ok(Self { moto, client, sandboxes, issuer, clock, lines })
    }

    /// How many of so many requests of a client are allowed, one after the other in one sandbox.
    async fn ask(&self, sandbox: usize, client: &str, requests: usize) -> Result<usize, String> {
        self.ask_in(sandbox, client, requests, "dev").await
    }

    async fn ask_in(&self, sandbox: usize, client: &str, requests: usize, environment: &str) -> Result<usize, String> {
        let claims = json!({"iss": ISSUER, "sub": client, "client_id": client, "exp": 4_102_444_800_u64});
        let request = request(&self.issuer.token(&claims));
        let target = Target::Workload {
            namespace: "bookinfo".to_owned(),
            labels: Vec::new(),
            environment: Some(environment.to_owned()),
        };
        let mut allowed = 0;
        for _ in 0..requests {
            match self.sandboxes[sandbox].decide(&request, &target).await.reason() {
                Reason::AllowedByPolicy => allowed += 1,
                Reason::RateLimited => {}
                reason => return Err(format!("{reason} is no answer to be had here")),
            }
        }
        Ok(allowed)
    }

    async fn item(&self, id: &str) -> Result<HashMap<String, AttributeValue>, String> {
        let got = self.client.get_item().table_name("limits").key("id", AttributeValue::S(id.to_owned())).send().await;
        got.map(|got| got.item.unwrap_or_default()).map_err(|error| format!("{error:?}"))
    }

    async fn put(&self, id: &str, attribute: &str, value: AttributeValue) -> Result<(), String> {
        let item = self.client.put_item().table_name("limits").item("id", AttributeValue::S(id.to_owned()));
        item.item(attribute, value).send().await.map(|_| ()).map_err(|error| format!("{error:?}"))
    }

    /// The events of the log so far, without repetitions.
    fn events(&self) -> Vec<String> {
        let lines = self.lines.drain();
        let events = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut events: Vec<String> = events.filter_map(|line| line["event"].as_str().map(str::to_owned)).collect();
        events.dedup();
        events
    }
}

fn policies(issuer: &Issuer) -> Result<Policies, String> {
    Policies::open(&section(issuer)?).map_err(|error| error.to_string())
}

fn section(issuer: &Issuer) -> Result<Vec<u8>, String> {
    let text = POLICIES.replace("ISSUER", ISSUER).replace("JWKS", &issuer.jwks());
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text };
    let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
    let compiled = authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    Ok(compiled.section)
}

fn request(token: &str) -> Request {
    Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "ratings:9080".to_owned(),
        path: "/ratings/0".to_owned(),
        path_handling: authz::PathHandling::AsSent,
        headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
        headers_joined: false,
        source: authz::Peer { ip: None, remote_ip: None, principal: None },
        destination_ip: None,
        destination_port: None,
        sni: None,
        client_certificate: None,
        dynamic_metadata: None,
        unknown: authz::Unknown::default(),
    }
}

fn id(client: &str) -> String {
    format!("dev client {ISSUER} {client}")
}

fn available() -> bool {
    tier::available(&[&tool("moto_server")])
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_share_one_bucket() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let world = World::start("10/s,20", Outage::Deny).await?;
    assert_eq!(world.ask(0, "a", 15).await?, 15);
    assert_eq!(world.ask(1, "a", 15).await?, 5);
    assert_eq!(world.ask(0, "b", 3).await?, 3, "another client");
    assert_eq!(world.ask_in(0, "a", 3, "prod").await?, 3, "another environment");
    world.clock.advance(Duration::from_millis(500));
    assert_eq!(world.ask(0, "a", 2).await? + world.ask(1, "a", 10).await?, 5);
    world.clock.advance(Duration::from_secs(600));
    assert_eq!(world.ask(1, "a", 30).await?, 20, "full, and not more");
    let item = world.item(&id("a")).await?;
    let number = |name: &str| match item.get(name) {
        Some(AttributeValue::N(number)) => number.parse::<u64>().map_err(|error| error.to_string()),
        other => Err(format!("{name} is {other:?}")),
    };
    let (full_at, expires) = (number("full_at")? / 1_000_000_000, number("expires")?);
    assert!((full_at..full_at + 7_200).contains(&expires), "full at {full_at}, deleted after {expires}");
    assert_eq!(world.events(), [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_that_ask_by_turns_get_no_more_in_all() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    // By turns and not at once: moto's conditional writes are not atomic, and two of them that meet can both count once.
    // Writes that meet are the property tests' matter, over a table that keeps its promise.
    let world = World::start("1/m,30", Outage::Deny).await?;
    let (mut one, mut two) = (0, 0);
    for _ in 0..20 {
        one += world.ask(0, "a", 2).await?;
        two += world.ask(1, "a", 2).await?;
    }
    assert_eq!(one + two, 30, "{one} and {two}: no more, and what one does not take the other gets");
    assert!(one > 0 && two > 0, "{one} and {two}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_have_a_limit_of_its_own() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let world = World::start("1/m,3", Outage::Deny).await?;
    world.put(&id("partner"), "rate_limit", AttributeValue::S("1/m,9".to_owned())).await?;
    assert_eq!(world.ask(0, "partner", 5).await?, 5);
    assert_eq!(world.ask(1, "partner", 20).await?, 4);
    let item = world.item(&id("partner")).await?;
    assert_eq!(item.get("rate_limit"), Some(&AttributeValue::S("1/m,9".to_owned())));
    assert!(item.contains_key("full_at") && !item.contains_key("expires"), "it is never deleted: {item:?}");
    // Taken away again.
    world.put(&id("partner"), "note", AttributeValue::S("ended".to_owned())).await?;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.ask(0, "partner", 20).await?, 3);
    assert_eq!(world.events(), [""; 0]);

    // What nobody can read: this client alone is limited by each sandbox.
    for (client, attribute, value, expected) in [
        ("x", "rate_limit", AttributeValue::S("a lot".to_owned()), 0),
        ("y", "rate_limit", AttributeValue::N("5".to_owned()), 0),
        ("z", "full_at", AttributeValue::S("soon".to_owned()), 0),
        // A moment long ago, after all.
        ("w", "full_at", AttributeValue::N("-1.5".to_owned()), 3),
    ] {
        world.put(&id(client), attribute, value).await?;
        assert_eq!(world.ask(0, client, 5).await?, expected, "{client}");
        world.clock.advance(Duration::from_secs(60));
    }
    let lines = world.lines.drain().join("\n");
    assert!(lines.contains("rate_limit_unavailable") && lines.contains(&id("x")), "{lines}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_goes_and_comes_back() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    for outage in [Outage::Allow, Outage::Deny] {
        let alone = |requests: usize| if outage == Outage::Allow { requests } else { 0 };
        let mut world = World::start("1/m,5", outage).await?;
        assert_eq!(world.ask(0, "a", 5).await?, 5);
        let delete = world.client.delete_table().table_name("limits").send().await;
        delete.map_err(|error| format!("{error:?}"))?;
        assert_eq!(world.ask(0, "b", 9).await?, alone(5), "the table is gone");
        assert_eq!(world.ask(1, "b", 9).await?, alone(5), "and the other sandbox is by itself, too");
        assert_eq!(world.events(), ["rate_limits_unavailable"]);
        let Some(moto) = &world.moto else { return Err("moto is gone".to_owned()) };
        create_table(moto, "limits").await?;
        world.clock.advance(RETRY_AFTER);
        assert_eq!(world.ask(0, "c", 9).await?, 5);
        assert_eq!(world.ask(1, "c", 9).await?, 0);
        assert_eq!(world.events(), ["rate_limits_available"]);
        // Nobody listens any more.
        let address = world.moto.take().map(|moto| moto.address);
        while tokio::net::TcpStream::connect(address.as_slice()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_secs(60));
        assert_eq!(world.ask(0, "d", 9).await?, alone(5));
        let lines = world.lines.drain().join("\n");
        assert!(lines.contains("rate_limits_unavailable") && lines.contains("cannot reach 127.0.0.1"), "{lines}");
    }
    Ok(())
}

/// A stand-in for DynamoDB that gives every request the same answer, or none.
async fn stand_in(answer: Option<&'static str>) -> Result<AwsConfig, String> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tokio::spawn(serve(connection, answer));
        }
    });
    Ok(AwsConfig {
        region: "eu-central-1".to_owned(),
        credentials: platform::aws::Credentials {
            access_key_id: "AKIDLOCAL".to_owned(),
            secret_access_key: identity::Secret::new("local-secret".to_owned()),
            session_token: None,
        }
        .into(),
        dynamodb_endpoint: Some(format!("http://{address}")),
        secretsmanager_endpoint: None,
    })
}

async fn serve(mut connection: tokio::net::TcpStream, answer: Option<&'static str>) -> Result<(), std::io::Error> {
    let (mut text, mut buffer) = (String::new(), [0; 8_192]);
    loop {
        let read = connection.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.to_ascii_lowercase();
        let length = length.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if let (Some(answer), true) = (answer, length.is_none_or(|length: usize| body.len() >= length)) {
            let head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/x-amz-json-1.0\r\nconnection: close";
            let answer = format!("{head}\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            return connection.write_all(answer.as_bytes()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_never_answers_is_waited_for_once() -> Result<(), String> {
    let world = World::with(None, stand_in(None).await?, "1/m,5", Outage::Allow)?;
    assert_eq!(world.ask(0, "a", 9).await?, 5);
    assert_eq!(world.ask(0, "b", 9).await?, 5);
    let lines = world.lines.drain();
    assert!(lines.len() == 1 && lines[0].contains("no answer in time"), "{lines:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_throttled_is_no_outage_for_others() -> Result<(), String> {
    for (code, event) in [
        ("ProvisionedThroughputExceededException", "rate_limit_unavailable"),
        ("ThrottlingException", "rate_limit_unavailable"),
        ("ResourceNotFoundException", "rate_limits_unavailable"),
        ("AccessDeniedException", "rate_limits_unavailable"),
    ] {
        let answer = format!("{{\"__type\":\"com.amazonaws.dynamodb.v20120810#{code}\",\"message\":\"no\"}}");
        let world = World::with(None, stand_in(Some(answer.leak())).await?, "1/m,5", Outage::Allow)?;
        assert_eq!(world.ask(0, "a", 9).await?, 5, "{code}");
        let lines = world.lines.drain();
        assert!(lines.len() == 1 && lines[0].contains(event) && lines[0].contains(code), "{lines:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorizer_is_configured_by_its_variables() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let moto = Moto::start().await?;
    create_table(&moto, "limits").await?;
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let issuer = Issuer::new();
    let yaml = include_str!("../fixtures/events/policies.yaml").replace("JWKS", &issuer.jwks());
    let resources = istio::parse(&[istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml }]);
    let resources = resources.map_err(|errors| format!("{errors:?}"))?;
    let access = authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    let bundle = platform::bundle::write(&[(platform::bundle::Section::Access, &access.section)]);
    let folder = tempfile::tempdir().map_err(|error| text(&error))?;
    let path = folder.path().join("mesh.bundle");
    std::fs::write(&path, bundle.map_err(|error| text(&error))?).map_err(|error| text(&error))?;

    let mut env = MapEnv::from([("CAUSEWAY_RATE_LIMITS_TABLE", "limits"), ("CAUSEWAY_RATE_LIMIT", "1/m,3")])
        .with("CAUSEWAY_BUNDLE", path.display().to_string());
    for (name, value) in moto.environment() {
        env = env.with(&name, value);
    }
    let claims = json!({"iss": ISSUER, "sub": "client:reader", "client_id": "reader", "aud": "bookinfo",
        "scope": "reviews.read", "exp": 4_102_444_800_u64});
    let mut event: Value =
        serde_json::from_str(include_str!("../../examples/events/http-2.0.json")).map_err(|error| text(&error))?;
    event["headers"]["authorization"] = format!("Bearer {}", issuer.token(&claims)).into();
    let mut answers = Vec::new();
    // Two environments of the function.
    for _ in 0..2 {
        let (log, lines) = Log::memory();
        let config = Config::from_env(&env).map_err(|error| text(&error))?;
        let authorizer = Authorizer::from_config(config, log).map_err(|error| text(&error))?;
        for _ in 0..2 {
            let answer = authorizer.handle(&event).await.map_err(|error| format!("{error}: {:?}", lines.all()))?;
            answers.push((answer["isAuthorized"] == true, answer["context"]["reason"].clone()));
        }
    }
    let allowed = (true, json!("allowed_by_policy"));
    assert_eq!(answers, [allowed.clone(), allowed.clone(), allowed, (false, json!("rate_limited"))]);
    Ok(())
}
