//! The administration of the issuer on the tables, secrets and usage plans of moto: what an administrator does, what API
//! Gateway has then, and what the doors of the services say.

use std::collections::BTreeMap;
use std::sync::Arc;

use authz::{
    ApiKey, ApiKeyRecord, CompileOptions, Jwks, KeyOrigin, Policies, Reason, Request, Target, UnverifiedRevocationList,
};
use aws_sdk_apigateway::Client as ApiGateway;
use e2e::moto::Moto;
use e2e::world::{aws, create_secret, create_table};
use e2e::{tier, tool};
use identity::Secret;
use key_issuer::{ClientRecord, KeyIssuer, bootstrap, secret_hash};
use platform::api_keys::{ApiKeyStore, ApiKeysConfig};
use platform::bundle::Section;
use platform::clock::{Clock, SystemClock};
use platform::dynamo_table::DynamoTable;
use platform::env::MapEnv;
use platform::front::{Deps, Front};
use platform::jwks::JwksSource;
use platform::log::Log;
use platform::table::TableOf;
use serde_json::{Value, json};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ISSUER: &str = "https://issuer.bookinfo.example";
const ADMIN_SECRET: &str = "the administrator's secret";
const PEPPER: &str = "a pepper for this test alone";
const POLICIES: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: causeway-system }
spec: { jwtRules: [{ issuer: https://issuer.bookinfo.example, jwksUri: https://issuer.bookinfo.example/jwks.json }] }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: administrators, namespace: causeway-system }
spec:
  selector: { matchLabels: { app: key-issuer } }
  rules: [{ when: [{ key: 'request.auth.claims[scope]', values: [issuer.admin] }] }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: bookinfo }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: partner, namespace: bookinfo }
spec:
  rules: [{ from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/client:partner'] } }] }]
";

fn section() -> Outcome<Vec<u8>> {
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: POLICIES.to_owned() };
    let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
    let compiled = authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    Ok(compiled.section)
}

struct World {
    moto: Moto,
    issuer: KeyIssuer,
    api_gateway: ApiGateway,
    token: String,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Outcome<Self> {
        let moto = Moto::start().await?;
        for table in ["clients", "api-keys", "state", "revocations"] {
            create_table(&moto, table).await?;
        }
        create_secret(&moto, "signing", &bootstrap::new_signing_secret()?).await?;
        create_secret(&moto, "pepper", &Secret::new(PEPPER.to_owned())).await?;
        let folder = tempfile::tempdir()?;
        let bundle = folder.path().join("mesh.bundle");
        std::fs::write(&bundle, platform::bundle::write(&[(Section::Access, &section()?)])?)?;
        let admin = ClientRecord {
            secret_hashes: vec![secret_hash(&Secret::new(ADMIN_SECRET.to_owned()))],
            scopes: vec!["issuer.admin".to_owned()],
            audiences: vec!["causeway-admin".to_owned()],
            grants: vec!["client_credentials".to_owned()],
            ..ClientRecord::new("admin")
        };
        let table = Arc::new(DynamoTable::new("clients", aws(&moto)));
        TableOf::new("clients", table, Arc::new(SystemClock)).create("admin", &admin, None).await?;
        let mut env = MapEnv::from([
            ("CAUSEWAY_ISSUER", ISSUER),
            ("CAUSEWAY_SIGNING_SECRET", "signing"),
            ("CAUSEWAY_CLIENTS_TABLE", "clients"),
            ("CAUSEWAY_API_KEYS_TABLE", "api-keys"),
            ("CAUSEWAY_PEPPER_SECRET", "pepper"),
            ("CAUSEWAY_STATE_TABLE", "state"),
            ("CAUSEWAY_REVOCATIONS_TABLE", "revocations"),
            ("CAUSEWAY_ENVIRONMENT", "dev"),
            ("CAUSEWAY_USAGE_PLANS", "on"),
        ])
        .with("CAUSEWAY_BUNDLE", bundle.display().to_string());
        for (name, value) in moto.environment() {
            env = env.with(&name, value);
        }
        let issuer = KeyIssuer::from_env(&env)?;
        let api_gateway = api_gateway(&moto);
        let mut world = Self { moto, issuer, api_gateway, token: String::new(), _folder: folder };
        world.token = world.sign_in().await?;
        Ok(world)
    }

    async fn sign_in(&self) -> Outcome<String> {
        let mut event = event("POST", "/oauth2/token");
        event["headers"]["authorization"] = json!(causeway::dev::basic_credentials("admin", ADMIN_SECRET));
        event["headers"]["content-type"] = json!("application/x-www-form-urlencoded");
        event["body"] = json!("grant_type=client_credentials");
        let (_, body) = self.send(event).await?;
        let body: Value = serde_json::from_str(&body)?;
        Ok(body["access_token"].as_str().ok_or_else(|| format!("no token: {body}"))?.to_owned())
    }

    async fn send(&self, event: Value) -> Outcome<(u64, String)> {
        let answer = self.issuer.handle(event).await?;
        let body = answer["body"].as_str().unwrap_or_default().to_owned();
        Ok((answer["statusCode"].as_u64().unwrap_or(0), body))
    }

    /// The answer to an administrator's request, which has to have this status.
    async fn call(&self, method: &str, path: &str, body: Option<Value>, status: u64) -> Outcome<Value> {
        let mut event = event(method, path);
        event["headers"]["authorization"] = json!(format!("Bearer {}", self.token));
        event["headers"]["content-type"] = json!("application/json");
        if let Some(body) = body {
            event["body"] = json!(body.to_string());
        }
        let (found, body) = self.send(event).await?;
        assert_eq!(found, status, "{method} {path}: {body}");
        Ok(serde_json::from_str(&body).unwrap_or_default())
    }

    /// API Gateway's keys, by name: value, whether enabled, and plans.
    async fn keys(&self) -> Outcome<BTreeMap<String, (String, bool, Vec<String>)>> {
        let mut keys = BTreeMap::new();
        for key in self.api_gateway.get_api_keys().include_values(true).send().await?.items() {
            let id = key.id().unwrap_or_default();
            let plans = self.api_gateway.get_usage_plans().key_id(id).send().await?;
            let plans = plans.items().iter().filter_map(|plan| plan.id().map(str::to_owned)).collect();
            let entry = (key.value().unwrap_or_default().to_owned(), key.enabled(), plans);
            assert!(keys.insert(key.name().unwrap_or_default().to_owned(), entry).is_none(), "two keys of one name");
        }
        Ok(keys)
    }

    /// What a door of the services with an empty cache says.
    async fn opens(&self, key: &str) -> Outcome<Reason> {
        let config =
            ApiKeysConfig { table: "api-keys".to_owned(), pepper_secret: "pepper".to_owned(), aws: aws(&self.moto) };
        let clock = Arc::new(SystemClock);
        let deps = Deps {
            api_keys: Some(ApiKeyStore::in_aws(&config)),
            jwks: Arc::new(JwksSource::new(clock.clone())),
            revocations: Default::default(),
            rate_limits: None,
            clock,
            log: Log::memory().0,
        };
        let front = Front::new(Policies::open(&section()?)?, deps)?;
        let request = Request {
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            host: "ratings".to_owned(),
            path: "/".to_owned(),
            headers: vec![("x-api-key".to_owned(), key.to_owned())],
            ..Request::default()
        };
        let target = Target::Workload {
            namespace: "bookinfo".to_owned(),
            labels: Vec::new(),
            environment: Some("dev".to_owned()),
        };
        Ok(front.decide(&request, &target).await.reason())
    }

    async fn reconcile(&self) -> Outcome<Value> {
        Ok(self.issuer.handle(json!({"reconcile": "usage-plans"})).await?)
    }
}

fn event(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0", "rawPath": path, "rawQueryString": "", "headers": {}, "isBase64Encoded": false,
        "requestContext": {"apiId": "public", "stage": "$default", "requestId": "r", "http": {"method": method}},
    })
}

fn api_gateway(moto: &Moto) -> ApiGateway {
    use aws_sdk_apigateway::config::{BehaviorVersion, Credentials, Region};
    let config = aws_sdk_apigateway::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
        .endpoint_url(moto.url())
        .build();
    ApiGateway::from_conf(config)
}

fn text(value: &Value, name: &str) -> Outcome<String> {
    Ok(value[name].as_str().ok_or_else(|| format!("no {name}: {value}"))?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_from_its_creation_to_its_end() -> Outcome {
    if !tier::available(&[&tool("moto_server")]) {
        return Ok(());
    }
    let world = World::start().await?;
    let plan = async |name: &str| -> Outcome<String> {
        let made = world.api_gateway.create_usage_plan().name(name).send().await?;
        Ok(made.id().ok_or("a plan without an id")?.to_owned())
    };
    let (first_plan, second_plan) = (plan("first").await?, plan("second").await?);
    let partner = json!({"client_id": "partner", "scopes": ["orders.read"], "audiences": ["orders"]});
    let made = world.call("POST", "/v1/clients", Some(partner.clone()), 201).await?;
    assert_eq!(text(&made, "client_secret")?.len(), 43);
    world.call("POST", "/v1/clients", Some(partner), 409).await?;

    // Made, with a derived value in the usage plan.
    let body = json!({"environment": "dev", "client_id": "partner", "scopes": ["orders.read"],
        "audiences": ["orders"], "usage_plan": first_plan});
    let made = world.call("POST", "/v1/api-keys", Some(body), 201).await?;
    let (id, key) = (text(&made, "id")?, text(&made, "api_key")?);
    let derived = authz::api_key::usage_plan_key("dev", &id, &Secret::new(PEPPER.as_bytes().to_vec()));
    assert_eq!(world.keys().await?, BTreeMap::from([(id.clone(), (derived.clone(), true, vec![first_plan.clone()]))]));
    assert_eq!(made["usage_plan_state"], "synced");
    assert_eq!(world.opens(&key).await?, Reason::AllowedByPolicy);

    // In another plan, disabled, enabled.
    let path = format!("/v1/api-keys/{id}");
    for (change, enabled, plans) in [
        (json!({"usage_plan": second_plan}), true, vec![second_plan.clone()]),
        (json!({"state": "disabled"}), false, vec![second_plan.clone()]),
        (json!({"state": "active"}), true, vec![second_plan.clone()]),
        (json!({"usage_plan": null}), false, vec![]),
        (json!({"usage_plan": second_plan}), true, vec![second_plan.clone()]),
    ] {
        let removed = change["usage_plan"].is_null() && change.get("usage_plan").is_some();
        world.call("PATCH", &path, Some(change.clone()), 200).await?;
        let expected = (!removed).then(|| (derived.clone(), enabled, plans));
        assert_eq!(world.keys().await?.remove(&id), expected, "{change}");
    }

    // A crash before API Gateway heard of it, and one after: told again, and only once there.
    let table = Arc::new(DynamoTable::new("api-keys", aws(&world.moto)));
    let records = TableOf::<ApiKeyRecord>::new("api-keys", table, Arc::new(SystemClock));
    let held = records.get(&id).await?.ok_or("the record is gone")?;
    let pending = ApiKeyRecord { usage_plan_state: Some(authz::api_key::UsagePlanState::Pending), ..held.value };
    assert!(records.replace(&id, &pending, None, held.version).await?);
    assert_eq!(world.reconcile().await?, json!({"synced": 1, "pending": 0}));
    assert_eq!(world.reconcile().await?, json!({"synced": 0, "pending": 0}));
    assert_eq!(world.keys().await?.len(), 1);

    // Rotated, revoked, deleted.
    let rotated = world.call("POST", &format!("{path}/rotate"), Some(json!({"overlap_seconds": 3600})), 200).await?;
    let second = text(&rotated, "api_key")?;
    assert_eq!(ApiKey::parse(&second)?.id(), id);
    assert_eq!(
        (world.opens(&key).await?, world.opens(&second).await?),
        (Reason::AllowedByPolicy, Reason::AllowedByPolicy)
    );
    world.call("POST", &format!("{path}/revoke"), None, 200).await?;
    world.call("POST", &format!("{path}/revoke"), None, 200).await?;
    assert_eq!(world.opens(&second).await?, Reason::ApiKeyRevoked);
    assert!(!world.keys().await?[&id].1);

    // On the signed list, as verifiers read it.
    let (status, jwks) = world.send(event("GET", "/jwks.json")).await?;
    assert_eq!(status, 200);
    let (status, list) = world.send(event("GET", "/revocations")).await?;
    assert_eq!(status, 200);
    let jwks = Jwks::parse(&jwks, KeyOrigin::Fetched)?;
    // It may have been made before the revocation, which counted its ids.
    let list = UnverifiedRevocationList::parse(&list)?.verify(ISSUER, &[&jwks], SystemClock.unix())?;
    assert_eq!(list.issuer(), Some(ISSUER));

    world.call("DELETE", &path, None, 204).await?;
    assert_eq!(world.keys().await?, BTreeMap::new());
    assert_eq!(world.opens(&second).await?, Reason::ApiKeyUnknown);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_the_same_name_is_taken_over_and_one_of_the_same_value_is_not() -> Outcome {
    if !tier::available(&[&tool("moto_server")]) {
        return Ok(());
    }
    use key_issuer::{PlanKey, UsagePlans};
    let moto = Moto::start().await?;
    let client = api_gateway(&moto);
    let plans = platform::usage_plans::ApiGateway::new(aws(&moto), Some(moto.url()));
    let plan = client.create_usage_plan().name("p").send().await?.id().ok_or("no id")?.to_owned();
    let value = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
    // Names that begin alike are not the same name.
    for (name, value) in [("abc", "x".repeat(20)), ("abcdef", "y".repeat(20))] {
        client.create_api_key().name(name).value(value).enabled(false).send().await?;
    }
    let key = |name| PlanKey { name, value: &value, enabled: true, plan: &plan };
    plans.ensure(key("abc")).await?;
    plans.ensure(key("abc")).await?;
    let found = client.get_api_keys().include_values(true).send().await?;
    let enabled: Vec<(&str, bool)> =
        found.items().iter().map(|k| (k.name().unwrap_or_default(), k.enabled())).collect();
    assert_eq!(enabled, [("abc", true), ("abcdef", false)]);
    plans.ensure(key("new")).await?;
    let refused = plans.ensure(key("other")).await.map_err(|error| error.to_string());
    assert!(refused.as_ref().is_err_and(|why| why.contains("same value")), "{refused:?}");
    plans.remove("new").await?;
    plans.remove("new").await?;
    assert_eq!(client.get_api_keys().send().await?.items().len(), 2);
    Ok(())
}
