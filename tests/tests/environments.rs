//! One authorizer under the Lambda emulator, one bundle, two environments by stage, host and base path: what opens one
//! never opens the other. Keys are in moto's tables.

#[path = "../fixtures/environments/events.rs"]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
mod events;
#[path = "../fixtures/issuer.rs"]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
mod issuer;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use authz::{ApiKey, ApiKeyRecord, KeyState};
use causeway::dev::gateway::{InvokeOutcome, Invoker, Rie};
use causeway::dev::seeds;
use e2e::function::Function;
use e2e::moto::Moto;
use e2e::world::{aws, create_secret, create_table};
use e2e::{program, tier, tool};
use events::{ENVIRONMENTS, POLICIES, allows, takes_keys, ways_into, with_header};
use identity::Secret;
use issuer::{Issuer, reader, with};
use platform::store::{ApiKeys, DynamoDb};
use serde_json::{Value, json};

type Result<T = ()> = std::result::Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn resources(yaml: &str) -> Result<istio::Resources> {
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: yaml.to_owned() };
    istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))
}

struct Running {
    authorizer: Function,
    rie: Rie,
    issuer: Issuer,
    pepper: Secret<String>,
    moto: Moto,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start() -> Result<Self> {
        let (moto, issuer) = (Moto::start().await?, Issuer::new());
        create_table(&moto, "api-keys").await?;
        let pepper = seeds::random_text().map_err(text)?;
        create_secret(&moto, "pepper", &pepper).await?;
        let folder = tempfile::tempdir().map_err(text)?;
        let bundle = folder.path().join("mesh.bundle");
        let policies = resources(&POLICIES.replace("JWKS", &issuer.jwks()))?;
        let bytes = causeway::bundle::build(&policies, BTreeMap::new()).map_err(|errors| errors.join("; "))?;
        std::fs::write(&bundle, bytes).map_err(text)?;
        let mut environment = moto.environment();
        environment.extend(
            [
                ("CAUSEWAY_BUNDLE", bundle.display().to_string()),
                ("CAUSEWAY_API_KEYS_TABLE", "api-keys".to_owned()),
                ("CAUSEWAY_PEPPER_SECRET", "pepper".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let command = program("authorizer").display().to_string();
        let authorizer = Function::start("authorizer", &[&command], folder.path(), None, &environment).await?;
        let rie = Rie::new(&authorizer.url()).map_err(text)?;
        Ok(Self { authorizer, rie, issuer, pepper, moto, _folder: folder })
    }

    fn token(&self, environment: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(text)?.as_secs();
        let mut claims = with(reader(), "aud", json!([format!("bookinfo-{environment}")]));
        for (name, time) in [("iat", now - 5), ("nbf", now - 5), ("exp", now + 600)] {
            claims[name] = time.into();
        }
        Ok(format!("Bearer {}", self.issuer.token(&claims)))
    }

    /// A key of `environment` whose record is for the audiences of both.
    async fn key(&self, environment: &str, seed: u8) -> Result<String> {
        let key = ApiKey::generate(environment, &[seed; 48]).map_err(text)?;
        let pepper = Secret::new(self.pepper.expose().clone().into_bytes());
        let audiences = ENVIRONMENTS.map(|environment| format!("bookinfo-{environment}")).to_vec();
        let record = ApiKeyRecord { audiences, ..seeds::key_record(&key, "reader", KeyState::Active, &pepper) };
        ApiKeys::put(&DynamoDb::new("api-keys", aws(&self.moto)), &record).await.map_err(text)?;
        Ok(key.text().expose().clone())
    }

    /// What the function did with an event: whether it allowed, and why, by its log.
    async fn ask(&self, event: Value) -> Result<(bool, String)> {
        let before = self.decisions().len();
        let outcome = self.rie.invoke(event).await.map_err(text)?;
        let allowed = match &outcome {
            InvokeOutcome::Payload(answer) => allows(answer),
            InvokeOutcome::FunctionError(error) if error.error_message == "Unauthorized" => false,
            InvokeOutcome::FunctionError(error) => return Err(format!("{error}")),
        };
        // The line is written before the answer, and read by another task.
        let line = tokio::time::timeout(std::time::Duration::from_secs(30), async {
            loop {
                if let Some(line) = self.decisions().get(before) {
                    return line.clone();
                }
                tokio::task::yield_now().await;
            }
        });
        let line = line.await.map_err(|_| "no line of the decision".to_owned())?;
        Ok((allowed, line["reason"].as_str().unwrap_or_default().to_owned()))
    }

    fn decisions(&self) -> Vec<Value> {
        let lines = self.authorizer.process().lines();
        let all = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|line| line["event"] == "decision").collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_one_environment_never_opens_the_other() -> Result {
    let (authorizer, rie, moto) = (program("authorizer"), tool("aws-lambda-rie"), tool("moto_server"));
    if !tier::available(&[&authorizer, &rie, &moto]) {
        return Ok(());
    }
    let running = Running::start().await?;
    let mut wrong = Vec::new();
    for (own, other, seed) in [("dev", "prod", 1), ("prod", "dev", 2)] {
        let credentials = [
            ("authorization", running.token(own)?, "token_audience"),
            ("x-api-key", running.key(own, seed).await?, "api_key_environment"),
        ];
        for (header, credential, reason) in credentials {
            // The other one first and last: neither verdict is remembered for the other.
            for (environment, expected) in
                [(other, (false, reason)), (own, (true, "allowed_by_policy")), (other, (false, reason))]
            {
                for (name, event) in ways_into(environment) {
                    if header == "x-api-key" && !takes_keys(&event) {
                        continue;
                    }
                    // The function is configured for simple responses, and all other events take a policy.
                    let (allowed, reason) = running.ask(with_header(event, header, &credential)).await?;
                    if (allowed, reason.as_str()) != expected {
                        wrong.push(format!("{header} of {own}, {name} of {environment}: {allowed} {reason}"));
                    }
                }
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    running.authorizer.stop().await
}

/// Needs none of the real parts.
#[test]
fn a_bundle_in_which_tokens_are_shared_is_refused() -> Result {
    let policies = POLICIES.replace("JWKS", &Issuer::new().jwks());
    let build = |yaml: &str| Ok::<_, String>(causeway::bundle::build(&resources(yaml)?, BTreeMap::new()));
    assert!(build(&policies)?.is_ok());
    let shared = policies.replace("audiences: [bookinfo-dev]", "audiences: [bookinfo-prod]");
    let errors = build(&shared)?.err().unwrap_or_default().join("\n");
    for word in
        ["policies.yaml:", "the audience bookinfo-prod", "the environment prod at", "and dev at", "sharesTokensWith"]
    {
        assert!(errors.contains(word), "{word}: {errors}");
    }
    let mut meant = shared;
    for (own, other) in [("dev", "prod"), ("prod", "dev")] {
        let says = format!("  environment: {own}\n");
        assert!(meant.contains(&says), "{own}");
        meant = meant.replace(&says, &format!("{says}  sharesTokensWith: [{other}]\n"));
    }
    assert!(build(&meant)?.is_ok());
    Ok(())
}
