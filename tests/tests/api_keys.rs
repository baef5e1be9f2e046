//! API keys in the tables and secrets of moto, through the AWS clients and the gate, over time: what lies between the
//! event and the answer of authorizer and adapter, with a clock that the test moves.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use authz::{ApiKey, ApiKeyRecord, CompileOptions, KeyState, Policies, Reason, Request, Target};
use causeway::dev::seeds;
use e2e::moto::Moto;
use e2e::world::{aws, create_secret, create_table};
use e2e::{tier, tool};
use identity::Secret;
use platform::api_keys::{
    ApiKeyStore, ApiKeysConfig, FRESH_FOR, MAX_STALE, NEGATIVE_FOR, PEPPER_TRUSTED_FOR, RETRY_AFTER,
};
use platform::clock::FixedClock;
use platform::front::{Deps, Front};
use platform::jwks::JwksSource;
use platform::log::{Lines, Log};
use platform::store::{ApiKeys, DynamoDb};

const SECOND: Duration = Duration::from_secs(1);

const POLICIES: &str = "
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example }
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: ratings, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: ratings } }
  rules:
    - from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/client:partner'] } }]
";

struct World {
    moto: Moto,
    table: DynamoDb,
    front: Front,
    clock: Arc<FixedClock>,
    start: u64,
    lines: Lines,
}

impl World {
    async fn start() -> Result<Self, String> {
        let moto = Moto::start().await?;
        create_table(&moto, "api-keys").await?;
        create_secret(&moto, "pepper", &pepper("one")).await?;
        let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: POLICIES.to_owned() };
        let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
        let compiled =
            authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
        let policies = Policies::open(&compiled.section).map_err(|error| error.to_string())?;
        let start = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?.as_secs();
        let (clock, (log, lines)) = (Arc::new(FixedClock::at(start)), Log::memory());
        let config =
            ApiKeysConfig { table: "api-keys".to_owned(), pepper_secret: "pepper".to_owned(), aws: aws(&moto) };
        let deps = Deps {
            api_keys: Some(ApiKeyStore::in_aws(&config)),
            jwks: Arc::new(JwksSource::new(clock.clone())),
            revocations: Default::default(),
            rate_limits: None,
            clock: clock.clone(),
            log,
        };
        let front = Front::new(policies, deps).map_err(|error| error.to_string())?;
        let table = DynamoDb::new("api-keys", aws(&moto));
        Ok(Self { moto, table, front, clock, start, lines })
    }

    async fn put(&self, record: &ApiKeyRecord) -> Result<(), String> {
        ApiKeys::put(&self.table, record).await.map_err(|error| error.to_string())
    }

    /// Why the request that shows `key` is allowed or denied.
    async fn ask(&self, key: &ApiKey) -> Reason {
        ask(&self.front, key).await
    }

    async fn change_pepper(&self, value: &Secret<String>) -> Result<(), String> {
        use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
        let config = aws_sdk_secretsmanager::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
            .endpoint_url(self.moto.url())
            .build();
        let client = aws_sdk_secretsmanager::Client::from_conf(config);
        let put = client.put_secret_value().secret_id("pepper").secret_string(value.expose()).send().await;
        put.map(|_| ()).map_err(|error| format!("cannot change the pepper: {error:?}"))
    }
}

async fn ask(front: &Front, key: &ApiKey) -> Reason {
    let target = Target::Workload {
        namespace: "bookinfo".to_owned(),
        labels: vec![("app".to_owned(), "ratings".to_owned())],
        environment: Some(key.environment().to_owned()),
    };
    front.decide(&request(key), &target).await.reason()
}

fn request(key: &ApiKey) -> Request {
    Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: "ratings:9080".to_owned(),
        path: "/ratings/0".to_owned(),
        path_handling: authz::PathHandling::AsSent,
        headers: vec![("x-api-key".to_owned(), key.text().expose().clone())],
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

fn pepper(which: &str) -> Secret<String> {
    Secret::new(format!("pepper {which} of the tests"))
}

fn new_key() -> Result<ApiKey, String> {
    seeds::new_key().map_err(|error| error.to_string())
}

fn record(key: &ApiKey, with: &str) -> ApiKeyRecord {
    let pepper = Secret::new(pepper(with).expose().clone().into_bytes());
    seeds::key_record(key, "partner", KeyState::Active, &pepper)
}

fn available() -> bool {
    tier::available(&[&tool("moto_server")])
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_changed_and_revoked() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let world = World::start().await?;
    let (key, other, expiring) = (new_key()?, new_key()?, new_key()?);
    assert_eq!(world.ask(&key).await, Reason::ApiKeyUnknown);
    world.put(&record(&key, "one")).await?;
    world.clock.advance(NEGATIVE_FOR);
    assert_eq!(world.ask(&key).await, Reason::AllowedByPolicy);

    // A record whose key has another secret, and then gets this one beside it.
    let theirs = ApiKeyRecord { id: other.id().to_owned(), ..record(&key, "one") };
    world.put(&theirs).await?;
    assert_eq!(world.ask(&other).await, Reason::ApiKeyUnknown);
    let both = ApiKeyRecord { hashes: [theirs.hashes.clone(), record(&other, "one").hashes].concat(), ..theirs };
    world.put(&both).await?;
    world.clock.advance(NEGATIVE_FOR);
    assert_eq!(world.ask(&other).await, Reason::AllowedByPolicy);

    // It expires while its record is still fresh.
    let end = Some(world.start + 2 * NEGATIVE_FOR.as_secs() + 1);
    world.put(&ApiKeyRecord { expires_at: end, ..record(&expiring, "one") }).await?;
    assert_eq!(world.ask(&expiring).await, Reason::AllowedByPolicy);
    world.clock.advance(SECOND);
    assert_eq!(world.ask(&expiring).await, Reason::ApiKeyExpired);

    // A fresh look at the record, and from then on a minute.
    world.clock.advance(FRESH_FOR);
    assert_eq!(world.ask(&key).await, Reason::AllowedByPolicy);
    world.put(&ApiKeyRecord { state: KeyState::Revoked, ..record(&key, "one") }).await?;
    world.clock.advance(FRESH_FOR - SECOND);
    assert_eq!(world.ask(&key).await, Reason::AllowedByPolicy);
    world.clock.advance(SECOND);
    assert_eq!(world.ask(&key).await, Reason::ApiKeyRevoked);
    assert_eq!(world.lines.all(), [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_pepper_is_noticed_by_the_first_key_that_needs_it() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let world = World::start().await?;
    let (old, new) = (new_key()?, new_key()?);
    world.put(&record(&old, "one")).await?;
    assert_eq!(world.ask(&old).await, Reason::AllowedByPolicy);
    world.change_pepper(&pepper("two")).await?;
    world.put(&record(&new, "two")).await?;
    assert_eq!(world.ask(&new).await, Reason::ApiKeyUnknown, "the pepper at hand is young");
    world.clock.advance(PEPPER_TRUSTED_FOR);
    assert_eq!(world.ask(&old).await, Reason::AllowedByPolicy, "a key that fits is no reason to look");
    assert_eq!(world.ask(&new).await, Reason::AllowedByPolicy);
    assert_eq!(world.ask(&old).await, Reason::ApiKeyUnknown, "there is one pepper");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn known_keys_outlive_the_store_for_five_minutes() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let World { moto, table, front, clock, start, lines } = World::start().await?;
    let (key, unknown) = (new_key()?, new_key()?);
    ApiKeys::put(&table, &record(&key, "one")).await.map_err(|error| error.to_string())?;
    let address = moto.address;
    assert_eq!(ask(&front, &key).await, Reason::AllowedByPolicy);
    drop(moto);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&front, &unknown).await, Reason::ApiKeyUnavailable);
    clock.set(start + MAX_STALE.as_secs() - 1);
    assert_eq!(ask(&front, &key).await, Reason::AllowedByPolicy);
    clock.advance(RETRY_AFTER);
    assert_eq!(ask(&front, &key).await, Reason::ApiKeyUnavailable);
    let lines = lines.all();
    assert!(!lines.is_empty() && lines.len() <= 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("api_keys_unavailable")), "{lines:?}");
    for key in [key, unknown] {
        let secret = key.text().expose().split_once(key.id()).map_or("", |(_, secret)| secret);
        assert!(secret.len() > 30 && !lines.iter().any(|line| line.contains(secret)), "{lines:?}");
    }
    assert!(!lines.iter().any(|line| line.contains(pepper("one").expose())), "{lines:?}");
    Ok(())
}
