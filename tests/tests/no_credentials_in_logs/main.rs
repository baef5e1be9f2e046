//! No credential is ever in a log: every kind of credential, good and bad, through both fronts, with everything behind
//! them failing in turn.
//!
//! Needs none of the real parts. The tests with those search the parts' output, see [`e2e::world::World`].

#[path = "../../fixtures/issuer.rs"]
#[allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]
mod issuer;
mod parts;
mod run;

use std::collections::BTreeSet;
use std::sync::Arc;

use authorizer::{ApiKeyStore, Authorizer};
use identity::Secret;
use issuer::{reader, with};
use parts::{
    AWS_SECRET, Broken, PEPPER, event, exchange_server, key, records, shown, with_header, with_pepper, with_query,
};
use platform::aws::AwsConfig;
use platform::secrets::{self, Secrets};
use platform::store::DynamoDb;
use run::Run;
use serde_json::{Value, json};

type Result<T = ()> = std::result::Result<T, String>;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn send_everything(run: &mut Run) -> Result {
    let (authorizer, adapter) = {
        let keys = with_pepper(records().await?, PEPPER);
        (run.authorizer(Some(keys.clone()))?, run.adapter(Some(keys))?)
    };
    for (reason, token) in run.tokens() {
        let bearer = format!("Bearer {token}");
        run.send(&authorizer, &with_header(event()?, "authorization", &bearer), &token, reason).await?;
        run.send(&authorizer, &with_query(event()?, format!("access_token={token}")), &token, "").await?;
        // Twice as good is no better.
        let twice = with_query(with_header(event()?, "authorization", &bearer), format!("access_token={token}"));
        run.send(&authorizer, &twice, &token, "").await?;
        // In places where tokens of another issuer are looked for, and where none is.
        run.send(&authorizer, &with_header(event()?, "x-token", &format!("Token {token}")), &token, "").await?;
        run.send(&authorizer, &with_query(event()?, format!("t={token}&t={token}")), &token, "").await?;
        let mut cookie = event()?;
        cookie["cookies"] = json!([format!("session={token}"), format!("other={token}")]);
        run.send(&authorizer, &cookie, &token, "").await?;
        run.send(&authorizer, &with_header(event()?, "authorization", &format!("Basic {token}")), &token, "").await?;
        run.send(&authorizer, &with_header(event()?, "x-api-key", &token), &token, "api_key_malformed").await?;
        run.ask(&adapter, ("authorization", &bearer), &token, "").await?;
        run.ask(&adapter, (":path", &format!("/ratings?access_token={token}#{token}")), &token, "").await?;
        run.ask(&adapter, ("x-api-key", &token), &token, "api_key_malformed").await?;
        for name in ["http-1.0", "rest-request", "rest-token", "websocket-connect"] {
            let path = e2e::root().join(format!("examples/events/{name}.json"));
            let mut event: Value = serde_json::from_str(&std::fs::read_to_string(path).map_err(text)?).map_err(text)?;
            if name == "rest-token" {
                event["authorizationToken"] = bearer.as_str().into();
            } else {
                event["headers"]["authorization"] = bearer.as_str().into();
            }
            run.send(&authorizer, &event, &token, "").await?;
        }
    }
    for (location, issuer) in [("x-token", "https://elsewhere.example"), ("t", "https://elsewhere.example")] {
        let token = run.issuer.token(&with(reader(), "iss", json!(issuer)));
        let event = match location {
            "t" => with_query(event()?, format!("t={token}")),
            name => with_header(event()?, name, &format!("Token {token}")),
        };
        run.send(&authorizer, &event, &token, "denied_no_match").await?;
    }
    let (mut cookie, token) = (event()?, run.issuer.token(&with(reader(), "iss", json!("https://elsewhere.example"))));
    cookie["cookies"] = json!([format!("session={token}")]);
    run.send(&authorizer, &cookie, &token, "denied_no_match").await?;

    for (reason, key) in run.keys()? {
        run.send(&authorizer, &with_header(event()?, "x-api-key", &key), &key, reason).await?;
        run.send(&authorizer, &with_header(event()?, "authorization", &format!("Bearer {key}")), &key, "").await?;
        run.send(&authorizer, &with_query(event()?, format!("access_token={key}&api_key={key}")), &key, "").await?;
        run.ask(&adapter, ("x-api-key", &key), &key, reason).await?;
    }
    certificates_and_wrecks(run, &authorizer).await
}

async fn certificates_and_wrecks(run: &mut Run, authorizer: &Authorizer) -> Result {
    for certificate in ["-----BEGIN CERTIFICATE-----\nMIIBcertificate-of-nobody\n-----END CERTIFICATE-----\n", ""] {
        let file = include_str!("../../../examples/events/http-2.0-mtls.json");
        let mut event: Value = serde_json::from_str(file).map_err(text)?;
        let pem = &mut event["requestContext"]["authentication"]["clientCert"]["clientCertPem"];
        if !certificate.is_empty() {
            *pem = certificate.into();
        }
        let lines = pem.as_str().unwrap_or_default().lines().filter(|line| !line.starts_with('-'));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        for line in lines {
            run.credentials.note(&line);
        }
        run.send(authorizer, &event, "", "").await?;
        let bound = run.issuer.token(&with(
            reader(),
            "cnf",
            json!({"x5t#S256": "dGh1bWJwcmludC1vZi1hbm90aGVyLW9uZS1lbnRpcmVs"}),
        ));
        run.send(authorizer, &with_header(event, "authorization", &format!("Bearer {bound}")), &bound, "").await?;
    }
    // What is no event at all, with a token where it should not be.
    let token = run.issuer.token(&reader());
    for wreck in [
        json!(token),
        json!([token]),
        json!({"type": token, "headers": {"authorization": token}}),
        json!({"type": "TOKEN", "authorizationToken": token, "methodArn": token}),
        json!({"version": "2.0", "type": "REQUEST", "headers": token, "requestContext": {"requestId": 1}}),
    ] {
        run.send(authorizer, &wreck, &token, "").await?;
    }
    Ok(())
}

/// Everything that a request may need fails.
async fn with_failures(run: &mut Run) -> Result {
    let good = shown(&key("dev", 1)?);
    let credentials = sigv4_credentials();
    let endpoint = Some(format!("http://{}", run.address));
    let aws = AwsConfig {
        region: "eu-central-1".to_owned(),
        credentials: credentials.into(),
        dynamodb_endpoint: endpoint.clone(),
        secretsmanager_endpoint: endpoint,
    };
    let broken = || Broken(good.clone());
    let vault: Arc<dyn Secrets> = Arc::new(secrets::SecretsManager::new(aws.clone()));
    let pepper_id = "pepper".to_owned();
    for (keys, reason) in [
        (None, "api_key_unavailable"),
        (Some(with_pepper(records().await?, "short")), "api_key_unavailable"),
        (Some(with_pepper(Arc::new(DynamoDb::new("keys", aws)), PEPPER)), "api_key_unavailable"),
        (
            Some(ApiKeyStore { records: records().await?, secrets: vault, pepper_id: pepper_id.clone() }),
            "api_key_unavailable",
        ),
        (Some(with_pepper(Arc::new(broken()), PEPPER)), "internal"),
        (Some(ApiKeyStore { records: records().await?, secrets: Arc::new(broken()), pepper_id }), "internal"),
    ] {
        let (authorizer, adapter) = (run.authorizer(keys.clone())?, run.adapter(keys)?);
        run.send(&authorizer, &with_header(event()?, "x-api-key", &good), &good, reason).await?;
        run.ask(&adapter, ("x-api-key", &good), &good, reason).await?;
    }
    Ok(())
}

/// Keys that the adapter exchanges: for a token, for one that it must not take, and at an issuer that fails.
async fn exchanged(run: &mut Run) -> Result {
    let bound = with(reader(), "cnf", json!({"jkt": "dGh1bWJwcmludC1vZi1hbm90aGVyLW9uZS1lbnRpcmVs"}));
    let tokens = vec![
        ("good", run.issuer.token(&reader())),
        ("of-another", run.issuer.token(&with(reader(), "sub", json!("client:another")))),
        ("bound", run.issuer.token(&bound)),
        ("no-token", "not-a-token-but-a-password-of-the-issuer".to_owned()),
        ("of-no-time", run.issuer.token(&with(reader(), "exp", json!("password-in-a-claim")))),
    ];
    tokens.iter().for_each(|(_, token)| run.credentials.note(token));
    let server = exchange_server(tokens).await?;
    let unreachable = tokio::net::TcpListener::bind("127.0.0.1:0").await.and_then(|gone| gone.local_addr());
    let (good, unreachable) = (shown(&key("dev", 1)?), unreachable.map_err(text)?);
    let at = |kind: &str| format!("http://{server}/{kind}");
    let token = run.issuer.token(&reader());
    for (url, reason) in [
        (at("good"), "allowed_by_policy"),
        (at("of-another"), "exchange_refused"),
        (at("bound"), "exchange_refused"),
        (at("no-token"), "exchange_refused"),
        (at("of-no-time"), ""),
        (at("refused"), "exchange_refused"),
        (at("wreck"), "exchange_refused"),
        (at("no-bearer"), "exchange_refused"),
        (at("elsewhere"), "exchange_refused"),
        (at("down"), "exchange_unavailable"),
        (format!("http://{unreachable}"), "exchange_unavailable"),
    ] {
        let adapter = run.exchanging_adapter(with_pepper(records().await?, PEPPER), url)?;
        for _ in 0..2 {
            run.ask(&adapter, ("x-api-key", &good), &good, reason).await?;
        }
        // Keys that are not exchanged at all, and a token of the caller's own.
        for (reason, key) in run.keys()?.into_iter().skip(1) {
            run.ask(&adapter, ("x-api-key", &key), &key, reason).await?;
        }
        run.ask(&adapter, ("authorization", &format!("Bearer {token}")), &token, "allowed_by_policy").await?;
    }
    Ok(())
}

fn sigv4_credentials() -> platform::aws::Credentials {
    platform::aws::Credentials {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_access_key: Secret::new(AWS_SECRET.to_owned()),
        session_token: Some(Secret::new(AWS_SECRET.to_owned())),
    }
}

#[tokio::test]
async fn no_log_line_holds_a_credential() -> Result {
    let mut run = Run::new().await?;
    platform::panics::quiet_panics(&run.log);
    let sent = match send_everything(&mut run).await {
        Ok(()) => with_failures(&mut run).await,
        error => error,
    };
    let sent = match sent {
        Ok(()) => exchanged(&mut run).await,
        error => error,
    };
    // The tests' own failures are to be read.
    drop(std::panic::take_hook());
    sent?;
    let lines = run.lines.all();
    let events: BTreeSet<String> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|line| line["event"].as_str().map(str::to_owned))
        .collect();
    let expected = ["api_keys_unavailable", "decision", "jwks", "metrics", "panic"].map(str::to_owned);
    assert!(expected.iter().all(|event| events.contains(event)), "not everything has spoken: {events:?}");
    assert_eq!(run.credentials.line_with_one(&lines), None);
    // And it would have been found.
    run.log.write(&json!({"detail": format!("the key {}", shown(&key("dev", 4)?))}));
    assert!(run.credentials.line_with_one(&run.lines.all()).is_some());
    Ok(())
}
