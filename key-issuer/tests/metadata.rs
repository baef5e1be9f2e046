//! The metadata: what is announced, and that nothing else is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::grants::{TOKEN_EXCHANGE, exchange_key};
use common::*;
use key_issuer::{Config, Deps, KeyIssuer, Tables};
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::log::Log;
use platform::random::SystemRandom;
use platform::table::{Table, Unconfigured};
use serde_json::{Value, json};

const ALGORITHMS: [&str; 10] =
    ["ES256", "ES384", "ES512", "EdDSA", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];

#[tokio::test]
async fn both_discovery_documents_are_the_same_bytes() {
    let world = World::new().await;
    let openid = world.send(event(PUBLIC_API, "GET", "/.well-known/openid-configuration")).await;
    let oauth = world.send(event(PUBLIC_API, "GET", "/.well-known/oauth-authorization-server")).await;
    assert_eq!(openid.0, oauth.0);
    assert_eq!(openid.status(), 200);
    assert_eq!(openid.header("Content-Type"), Some("application/json"));
    assert_eq!(openid.header("Cache-Control"), Some("public, max-age=3600"));
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth"];
    let at = |host: &str, path: &str| format!("{host}/oauth2/{path}");
    assert_eq!(
        openid.json(),
        json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/jwks.json"),
            "token_endpoint": at(ISSUER, "token"),
            "introspection_endpoint": at(ISSUER, "introspect"),
            "revocation_endpoint": at(ISSUER, "revoke"),
            "response_types_supported": ["none"],
            "grant_types_supported": ["client_credentials", TOKEN_EXCHANGE, "refresh_token"],
            "token_endpoint_auth_methods_supported": methods,
            "token_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "introspection_endpoint_auth_methods_supported": methods,
            "introspection_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "revocation_endpoint_auth_methods_supported": methods,
            "revocation_endpoint_auth_signing_alg_values_supported": ALGORITHMS,
            "dpop_signing_alg_values_supported": ALGORITHMS,
            "tls_client_certificate_bound_access_tokens": true,
            "mtls_endpoint_aliases": {"token_endpoint": at(MTLS_ISSUER, "token"),
                "introspection_endpoint": at(MTLS_ISSUER, "introspect"),
                "revocation_endpoint": at(MTLS_ISSUER, "revoke")},
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"]})
    );
    assert!(world.lines.all().is_empty(), "public documents are not audited");
}

/// An issuer with no more than a table of clients, if anything is not added.
async fn issuer(full: &World, with: impl FnOnce(&mut Tables)) -> KeyIssuer {
    let env = MapEnv::from([("CAUSEWAY_ISSUER", ISSUER), ("CAUSEWAY_SIGNING_SECRET", "signing")]);
    let none = || -> Arc<dyn Table> { Arc::new(Unconfigured("CAUSEWAY_STATE_TABLE")) };
    let mut tables = full.directory.tables();
    (tables.api_keys, tables.state, tables.revocations) = (none(), none(), none());
    with(&mut tables);
    let (log, _) = Log::memory();
    let deps = Deps {
        tables,
        secret_versions: None,
        secrets: full.vault.clone(),
        caller_identity: None,
        clock: Arc::new(FixedClock::at(NOW)),
        random: Arc::new(SystemRandom),
        log,
    };
    KeyIssuer::new(Config::from_env(&env).unwrap(), deps)
}

async fn document(issuer: &KeyIssuer) -> Value {
    let answer = issuer.handle(event(PUBLIC_API, "GET", "/.well-known/openid-configuration")).await.unwrap();
    Answer(answer).json()
}

#[tokio::test]
async fn what_has_no_table_is_neither_announced_nor_there() {
    let world = World::new().await;
    let issuer = issuer(&world, |_| {}).await;
    assert_eq!(
        document(&issuer).await,
        json!({"issuer": ISSUER, "token_endpoint": format!("{ISSUER}/oauth2/token"),
            "jwks_uri": format!("{ISSUER}/jwks.json"), "response_types_supported": ["none"],
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256", "ES256"]})
    );
    for (path, body, status, error) in [
        ("/oauth2/token", "grant_type=client_credentials".to_owned(), 200, ""),
        ("/oauth2/token", "grant_type=refresh_token&refresh_token=x".to_owned(), 400, "unsupported_grant_type"),
        ("/oauth2/token", format!("grant_type={}", form_encode(TOKEN_EXCHANGE)), 400, "unsupported_grant_type"),
        ("/oauth2/introspect", "token=x".to_owned(), 404, "not_found"),
        ("/oauth2/revoke", "token=x".to_owned(), 404, "not_found"),
    ] {
        let mut event = token_event(&body);
        event["rawPath"] = json!(path);
        let answer = Answer(issuer.handle(event).await.unwrap());
        assert_eq!((answer.status(), answer.error().as_str()), (status, error), "{path} {body}");
    }
    // An API key is no credential where keys are not exchanged.
    let key = world.key(CLIENT, 1, |_| {}).await;
    let answer = Answer(issuer.handle(exchange_key(&key, &[])).await.unwrap());
    assert_eq!((answer.status(), answer.error().as_str()), (401, "invalid_client"));
}

#[tokio::test]
async fn each_table_brings_its_own() {
    let world = World::new().await;
    let full = world.directory.tables();
    let revocations = document(&issuer(&world, |tables| tables.revocations = full.revocations.clone()).await).await;
    assert_eq!(revocations["grant_types_supported"], json!(["client_credentials", TOKEN_EXCHANGE]));
    assert!(revocations.get("revocation_endpoint").is_some() && revocations.get("introspection_endpoint").is_some());
    assert!(revocations.get("dpop_signing_alg_values_supported").is_none());
    let state = document(&issuer(&world, |tables| tables.state = full.state.clone()).await).await;
    assert_eq!(state["grant_types_supported"], json!(["client_credentials"]));
    assert_eq!(state["dpop_signing_alg_values_supported"], json!(ALGORITHMS));
    assert_eq!(state["token_endpoint_auth_methods_supported"][2], "private_key_jwt");
    assert!(state.get("introspection_endpoint").is_none() && state.get("mtls_endpoint_aliases").is_none());
}
