//! Rotation of the signing keys against moto's Secrets Manager. moto keeps the versions; the four events come from
//! here, because its own RotateSecret can call a function only in a container, and puts the version into use whatever
//! it says.

use std::sync::Arc;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_secretsmanager::types::RotationRulesType;
use e2e::moto::Moto;
use e2e::{tool, world};
use identity::Secret;
use key_issuer::{ClientRecord, Config, Deps, KeyIssuer, Tables, bootstrap};
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::log::Log;
use platform::random::SystemRandom;
use platform::secrets::{CURRENT, Embedded, PENDING, Put, SecretVersions, Secrets, SecretsManager};
use platform::table::TableOf;
use serde_json::{Value, json};

const NOW: u64 = 1_893_456_000;
const STEPS: [&str; 4] = ["createSecret", "setSecret", "testSecret", "finishSecret"];

fn available() -> bool {
    e2e::tier::available(&[&tool("moto_server")])
}

fn client(moto: &Moto) -> Client {
    let config = aws_sdk_secretsmanager::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("AKIDLOCAL", "local-secret", None, None, "test"))
        .endpoint_url(moto.url())
        .build();
    Client::from_conf(config)
}

/// A version's id, as long as Secrets Manager wants it.
fn version(number: u32) -> String {
    format!("{number:032}")
}

/// Asks moto to rotate by a function that there is not. It says so after it has switched rotation on and made the
/// pending version without a value, which is the state in which Secrets Manager calls the function.
async fn begin(client: &Client, id: &str, version: &str) -> String {
    let rotated = client
        .rotate_secret()
        .secret_id(id)
        .client_request_token(version)
        .rotation_lambda_arn("arn:aws:lambda:eu-central-1:123456789012:function:none")
        .rotation_rules(RotationRulesType::builder().automatically_after_days(30).build())
        .send()
        .await;
    rotated.err().map(|error| error.into_service_error().to_string()).unwrap_or_default()
}

struct Issuer {
    issuer: KeyIssuer,
    arn: String,
    clock: Arc<FixedClock>,
    client_secret: Secret<String>,
}

impl Issuer {
    async fn new(moto: &Moto) -> Result<Self, String> {
        let signing = bootstrap::new_signing_secret().map_err(|error| error.to_string())?;
        world::create_secret(moto, "causeway/signing", &signing).await?;
        let described = client(moto).describe_secret().secret_id("causeway/signing").send().await;
        let arn = described.map_err(|error| format!("{error:?}"))?.arn.ok_or("no ARN")?;
        let clock = Arc::new(FixedClock::at(NOW));
        let tables = Tables::embedded(&platform::store::Embedded::in_memory());
        let client_secret = Secret::new("a-long-enough-secret".to_owned());
        let record = ClientRecord {
            secret_hashes: vec![key_issuer::secret_hash(&client_secret)],
            audiences: vec!["bookinfo".to_owned()],
            grants: vec!["client_credentials".to_owned()],
            ..ClientRecord::new("reader")
        };
        let clients = TableOf::new("clients", tables.clients.clone(), clock.clone());
        clients.create("reader", &record, None).await.map_err(|error| error.to_string())?;
        let env = MapEnv::from([
            ("CAUSEWAY_ISSUER", "https://issuer.bookinfo.example"),
            ("CAUSEWAY_SIGNING_SECRET", "causeway/signing"),
        ]);
        let secrets = Arc::new(SecretsManager::new(world::aws(moto)));
        let deps = Deps {
            tables,
            secret_versions: Some(secrets.clone()),
            secrets,
            clock: clock.clone(),
            random: Arc::new(SystemRandom),
            log: Log::memory().0,
        };
        let issuer = KeyIssuer::new(Config::from_env(&env).map_err(|error| error.to_string())?, deps);
        Ok(Self { issuer, arn, clock, client_secret })
    }

    async fn step(&self, step: &str, version: &str) -> Result<String, String> {
        let event = json!({"Step": step, "SecretId": self.arn, "ClientRequestToken": version});
        let answer = self.issuer.handle(event).await.map_err(|error| error.to_string())?;
        Ok(answer["outcome"].as_str().unwrap_or_default().to_owned())
    }

    async fn http(&self, method: &str, path: &str, headers: Value, body: &str) -> Result<Value, String> {
        let event = json!({"version": "2.0", "rawPath": path, "headers": headers, "body": body,
            "requestContext": {"apiId": "api", "http": {"method": method}}});
        let answer = self.issuer.handle(event).await.map_err(|error| error.to_string())?;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        serde_json::from_str(answer["body"].as_str().unwrap_or_default()).map_err(|error| error.to_string())
    }

    async fn jwks(&self) -> Result<String, String> {
        Ok(self.http("GET", "/jwks.json", json!({}), "").await?.to_string())
    }

    /// A token, read by our own verifier with the keys of `jwks`.
    async fn verified(&self, jwks: &str) -> Result<String, String> {
        let basic = causeway::dev::basic_credentials("reader", self.client_secret.expose());
        let headers = json!({"authorization": basic, "content-type": "application/x-www-form-urlencoded"});
        let answer = self.http("POST", "/oauth2/token", headers, "grant_type=client_credentials").await?;
        let token = answer["access_token"].as_str().ok_or("no token")?;
        let keys = authz::Jwks::parse(jwks, authz::KeyOrigin::Fetched).map_err(|error| error.to_string())?;
        let jws = authz::jwt::UnverifiedJws::parse(token, authz::Mode::Strict).map_err(|refusal| refusal.detail)?;
        jws.verify(&keys).map_err(|refusal| refusal.detail)?;
        Ok(jws.unverified_kid().unwrap_or_default().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_rotations_in_moto() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let moto = Moto::start().await?;
    let client = client(&moto);
    let issuer = Issuer::new(&moto).await?;
    let (mut time, mut cached) = (NOW, issuer.jwks().await?);
    let mut kids = vec![issuer.verified(&cached).await?];
    for round in 1..=2 {
        let token = version(round);
        let said = begin(&client, &issuer.arn, &token).await;
        assert!(said.contains("ResourceNotFound"), "{said}");
        assert_eq!(issuer.step("testSecret", &token).await?, "current_tested", "it has no value yet");
        for (step, outcome) in STEPS.into_iter().zip(["created", "nothing_to_do", "tested", "finished"]) {
            assert_eq!(issuer.step(step, &token).await?, outcome);
            let again = issuer.step(step, &token).await?;
            let expected = match outcome {
                "created" => "created_before",
                "finished" => "done_before",
                same => same,
            };
            assert_eq!(again, expected, "{step}");
        }
        let described = client.describe_secret().secret_id(&issuer.arn).send().await;
        let stages = described.map_err(|error| format!("{error:?}"))?.version_ids_to_stages.unwrap_or_default();
        assert_eq!(stages.get(&token), Some(&vec![CURRENT.to_owned()]), "{stages:?}");
        assert_eq!(stages.values().filter(|stages| stages.contains(&"AWSPREVIOUS".to_owned())).count(), 1);

        // Two hours of a verifier's cache before the first token of the new key, the verifier fetches for the last
        // time.
        let activate_at = time + 12_900;
        issuer.clock.set(activate_at - 7200);
        cached = issuer.jwks().await?;
        issuer.clock.set(activate_at - 1);
        assert_eq!(Some(&issuer.verified(&cached).await?), kids.last());
        issuer.clock.set(activate_at);
        let new = issuer.verified(&cached).await?;
        assert!(!kids.contains(&new), "the new key signs");
        kids.push(new);
        time = activate_at;
    }
    issuer.clock.set(time + 3600 + 300);
    let jwks = issuer.jwks().await?;
    assert!(jwks.contains(&kids[2]) && !jwks.contains(&kids[1]) && !jwks.contains(&kids[0]), "{jwks}");
    assert!(!jwks.contains("\"d\""));
    Ok(())
}

/// A store with the versions of secrets, and how a rotation begins in it.
enum Store<'a> {
    Moto(&'a Client, SecretsManager),
    Ours(Embedded),
}

impl Store<'_> {
    fn versions(&self) -> &dyn SecretVersions {
        match self {
            Self::Moto(_, manager) => manager,
            Self::Ours(embedded) => embedded,
        }
    }

    fn secrets(&self) -> &dyn Secrets {
        match self {
            Self::Moto(_, manager) => manager,
            Self::Ours(embedded) => embedded,
        }
    }

    async fn create(&self, id: &str) -> Result<String, String> {
        match self {
            Self::Moto(client, _) => {
                let made = client.create_secret().name(id).secret_string("one").send().await;
                made.map_err(|error| format!("{error:?}"))?.version_id.ok_or_else(|| "no version".to_owned())
            }
            Self::Ours(embedded) => {
                embedded.put(id, "one");
                let described = embedded.describe(id).await.map_err(|error| error.to_string())?;
                described.versions.into_keys().next().ok_or_else(|| "no version".to_owned())
            }
        }
    }

    /// The value that is found without a label.
    async fn unlabelled(&self, id: &str) -> Option<String> {
        match self {
            Self::Moto(client, _) => client.get_secret_value().secret_id(id).send().await.ok()?.secret_string,
            Self::Ours(embedded) => embedded.get(id).await.ok().map(|value| value.expose().clone()),
        }
    }

    /// Whether a rotation can begin.
    async fn begin(&self, id: &str, version: &str) -> bool {
        match self {
            Self::Moto(client, _) => begin(client, id, version).await.contains("ResourceNotFound"),
            Self::Ours(embedded) => embedded.start_rotation(id, version).is_ok(),
        }
    }
}

/// What happens in the situations in which moto is known to differ, and in some in which it must not.
async fn behaviour(store: &Store<'_>) -> Result<Vec<(&'static str, bool)>, String> {
    let text = |error: platform::secrets::SecretError| error.to_string();
    let (versions, mut seen) = (store.versions(), Vec::new());
    let (one, two, three) = (version(901), version(902), version(903));
    let value = |text: &str| Secret::new(text.to_owned());

    let first = store.create("a").await?;
    seen.push(("a rotation can begin", store.begin("a", &one).await));
    let described = versions.describe("a").await.map_err(text)?;
    seen.push(("and is then enabled", described.rotation_enabled));
    let empty = versions.get_version("a", &one, PENDING).await.map_err(text)?;
    seen.push(("a pending version has no value", empty.is_none()));
    let put =
        versions.put_version("a", &one, &value("two"), PENDING, Some("of-another-account-0123456789abcdef0")).await;
    seen.push(("its value can be put", put == Ok(Put::Done)));
    let same = versions.put_version("a", &one, &value("two"), PENDING, None).await;
    seen.push(("the same value can be put again", same == Ok(Put::Done)));
    let other = versions.put_version("a", &one, &value("three"), PENDING, None).await;
    seen.push(("another value replaces that of a pending version", other == Ok(Put::Done)));
    seen.push(("a second rotation can begin before the end of the first", store.begin("a", &two).await));

    store.create("b").await?;
    store.begin("b", &one).await;
    versions.put_version("b", &one, &value("two"), PENDING, None).await.map_err(text)?;
    let current = versions.describe("b").await.map_err(text)?.versions;
    let current = current.iter().find(|(_, stages)| stages.contains(&CURRENT.to_owned())).map(|(id, _)| id.clone());
    let current = current.ok_or("nothing is current")?;
    let blind = versions.move_stage("b", CURRENT, Some(&one), None).await;
    seen.push(("AWSCURRENT moves without a word from where", blind.is_ok()));
    versions.move_stage("b", CURRENT, Some(&one), Some(&current)).await.map_err(text)?;
    let twice = versions.move_stage("b", CURRENT, Some(&one), Some(&current)).await;
    seen.push(("AWSCURRENT moves twice", twice.is_ok()));
    let moved = store.secrets().get("b").await.map_err(text)?;
    seen.push(("the new value is the current one", moved.expose() == "two"));
    let unlabelled = store.unlabelled("b").await;
    seen.push(("a read without a label finds it", unlabelled.as_deref() == Some("two")));
    let wrong = versions.get_version("b", &current, CURRENT).await;
    seen.push(("a version is found by a label that it does not have", wrong.is_ok()));
    let unknown = versions.describe("unknown").await;
    let not_found = platform::secrets::SecretError::NotFound("unknown".to_owned());
    seen.push(("an unknown secret is refused as such", unknown == Err(not_found)));
    seen.push(("a rotation can begin with AWSPENDING on AWSCURRENT", store.begin("b", &three).await));

    let made = store.create("d").await?;
    let replaced = versions.put_version("d", &made, &value("two"), PENDING, None).await;
    seen.push(("another value for the current version is refused as such", replaced == Ok(Put::OtherValue)));

    store.create("c").await?;
    store.begin("c", &one).await;
    versions.move_stage("c", PENDING, None, Some(&one)).await.map_err(text)?;
    let again = versions.move_stage("c", PENDING, None, Some(&one)).await;
    seen.push(("a label is removed twice", again.is_ok()));
    let listed = versions.describe("c").await.map_err(text)?.versions;
    seen.push(("a version without a label is listed", listed.contains_key(&one)));
    let large = versions.put_version("c", &two, &value(&"x".repeat(65_537)), PENDING, None).await;
    seen.push(("a value may be longer than 65536 bytes", large.is_ok()));
    seen.push(("the first version is where it was", versions.get_version("a", &first, CURRENT).await.is_ok()));
    Ok(seen)
}

/// moto is what we test against, so where it is not Secrets Manager has to be known. Our own store follows AWS's
/// documentation; each line where moto does not says so. A moto that mends one of them is noticed here.
#[tokio::test(flavor = "multi_thread")]
async fn where_moto_is_not_secrets_manager() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let moto = Moto::start().await?;
    let client = client(&moto);
    let theirs = behaviour(&Store::Moto(&client, SecretsManager::new(world::aws(&moto)))).await?;
    let ours = behaviour(&Store::Ours(Embedded::default())).await?;
    let mut differs = Vec::new();
    for ((situation, in_moto), (_, in_aws)) in theirs.iter().zip(&ours) {
        if in_moto != in_aws {
            differs.push((*situation, *in_moto));
        }
    }
    assert_eq!(
        differs,
        [
            ("another value replaces that of a pending version", true),
            ("a second rotation can begin before the end of the first", true),
            ("a read without a label finds it", false),
            ("a rotation can begin with AWSPENDING on AWSCURRENT", false),
            ("a version without a label is listed", true),
            ("a value may be longer than 65536 bytes", true),
        ]
    );
    let in_aws: Vec<&str> = ours.iter().filter(|(_, happens)| *happens).map(|(situation, _)| *situation).collect();
    assert_eq!(
        in_aws,
        [
            "a rotation can begin",
            "and is then enabled",
            "a pending version has no value",
            "its value can be put",
            "the same value can be put again",
            "the new value is the current one",
            "a read without a label finds it",
            "an unknown secret is refused as such",
            "a rotation can begin with AWSPENDING on AWSCURRENT",
            "another value for the current version is refused as such",
            "the first version is where it was",
        ]
    );
    Ok(())
}
