//! API keys in the mesh: real Envoy with Istio's filters in Istio's order, the adapter in front of them, and the issuer
//! behind the adapter. And one gate with two fronts: authorizer, adapter and Envoy's own filters agree.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test says what it expects by failing")]

#[path = "../differential/translate.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "another suite uses the rest")]
mod translate;
mod world;

use std::sync::Arc;
use std::time::Duration;

use authorizer::Authorizer;
use authz::{ApiKey, KeyState};
use causeway::dev::seeds;
use e2e::moto::Moto;
use e2e::world::{create_secret, create_table};
use e2e::{tier, tool};
use identity::Secret;
use platform::api_keys::{ApiKeyStore, ApiKeysConfig};
use platform::aws::{AwsConfig, CredentialSource};
use platform::clock::SystemClock;
use platform::env::{MapEnv, Reader};
use platform::store::{ApiKeys, DynamoDb};
use serde_json::Value;
use world::{Result, World, ask, reason, seen, text};

const PRINCIPAL: &str = "https://issuer.bookinfo.example/client:partner";

/// Who calls, in both halves of the mesh. `JWKS` are the issuer's keys.
const AUTHENTICATION: &str = "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: { name: issuer, namespace: istio-system }
spec:
  jwtRules:
    - issuer: https://issuer.bookinfo.example
      audiences: [bookinfo]
      jwks: 'JWKS'
      outputClaimToHeaders: [{ header: x-jwt-client, claim: client_id }]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: { name: keys, namespace: istio-system }
spec: { issuer: https://issuer.bookinfo.example }
---
";

/// What the adapter enforces by itself: somebody has to call.
const LAX: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: anybody, namespace: bookinfo }
spec:
  rules: [{ from: [{ source: { requestPrincipals: ['*'] } }] }]
";

/// What the mesh enforces behind it.
const STRICT: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: partner, namespace: bookinfo }
spec:
  rules:
    - from: [{ source: { requestPrincipals: ['https://issuer.bookinfo.example/client:partner'] } }]
      to: [{ operation: { paths: ['/reviews/*'] } }]
      when: [{ key: 'request.auth.claims[scope]', values: [reviews.read] }]
";

fn has_envoy() -> bool {
    tier::available(&[&tool("envoy")])
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mesh_s_own_policies_judge_a_caller_with_an_api_key() -> Result {
    if !has_envoy() {
        return Ok(());
    }
    let mut world = World::start().await?;
    let (lax, strict) = (format!("{AUTHENTICATION}{LAX}"), format!("{AUTHENTICATION}{STRICT}"));
    let adapter = world.adapter(&lax, true).await?;
    let envoy = world.sidecar("exchanging", Some(adapter.address), Some(&strict)).await?;
    let key = async |client: &str, state| world.key(client, "dev", state, "reviews.read").await;
    let partner = key("partner", KeyState::Active).await?;
    let (other, later) = (key("other", KeyState::Active).await?, key("partner", KeyState::Active).await?);
    let (revoked, unseen) = (key("partner", KeyState::Revoked).await?, key("partner", KeyState::Active).await?);
    let own = format!("Bearer {}", world.token(&partner).await?);
    let others = format!("Bearer {}", world.token(&other).await?);
    let shown = |key: &authz::ApiKey| key.text().expose().clone();
    let [partner_key, other_key, revoked_key] = [&partner, &other, &revoked].map(shown);

    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);
    let rows: &[Row<'_>] = &[
        ("a key", "/reviews/0", &[("x-api-key", &partner_key)], 200, "allowed_by_policy"),
        ("the same again", "/reviews/0", &[("x-api-key", &partner_key)], 200, "allowed_by_policy"),
        ("a revoked key", "/reviews/0", &[("x-api-key", &revoked_key)], 401, "api_key_revoked"),
        // The adapter lets these pass, the mesh does not.
        ("a key of another client", "/reviews/0", &[("x-api-key", &other_key)], 403, "allowed_by_policy"),
        ("another path", "/else", &[("x-api-key", &partner_key)], 403, "allowed_by_policy"),
        ("nothing", "/reviews/0", &[], 403, "no_credential"),
        ("an own token", "/reviews/0", &[("authorization", &own)], 200, "allowed_by_policy"),
        ("an own token of another", "/reviews/0", &[("authorization", &others)], 403, "allowed_by_policy"),
        (
            "a key beside a token of the same",
            "/reviews/0",
            &[("x-api-key", &partner_key), ("authorization", &own)],
            200,
            "allowed_by_policy",
        ),
        (
            "a key beside a token of another",
            "/reviews/0",
            &[("x-api-key", &other_key), ("authorization", &own)],
            401,
            "credential_mismatch",
        ),
        (
            "a key beside what is no token",
            "/reviews/0",
            &[("x-api-key", &partner_key), ("authorization", "Basic YTpi")],
            200,
            "allowed_by_policy",
        ),
        (
            "a key beside names that only we give",
            "/reviews/0",
            &[
                ("x-api-key", &partner_key),
                ("x-causeway-principal", "admin"),
                ("x-causeway-client-id", "admin"),
                ("x-jwt-client", "admin"),
            ],
            200,
            "allowed_by_policy",
        ),
    ];
    for (name, path, headers, status, reason) in rows {
        let answer = ask(&envoy, "GET", path, headers).await?;
        assert_eq!((answer.status, adapter.reason().as_str()), (*status, *reason), "{name}: {}", answer.body);
        if *status != 200 {
            continue;
        }
        let all = |name: &str| seen(&answer, name);
        assert!(all("x-api-key").is_empty() && all("authorization").is_empty(), "{name}: {}", answer.body);
        // Made by Envoy's own filter, of the claims that it has verified.
        assert_eq!(all("x-jwt-client"), ["partner"], "{name}: {}", answer.body);
        assert_eq!(all("x-causeway-client-id"), ["partner"], "{name}");
        assert_eq!(all("x-causeway-principal"), [PRINCIPAL], "{name}");
    }

    // Without the exchange the mesh does not know who calls.
    let bare = world.adapter(&lax, false).await?;
    let without = world.sidecar("not-exchanging", Some(bare.address), Some(&strict)).await?;
    let answer = ask(&without, "GET", "/reviews/0", &[("x-api-key", &partner_key)]).await?;
    assert_eq!((answer.status, bare.reason().as_str()), (403, "allowed_by_policy"));

    // A key that is revoked while its token is cached.
    let later_key = [("x-api-key", later.text().expose().as_str())];
    assert_eq!(ask(&envoy, "GET", "/reviews/0", &later_key).await?.status, 200);
    world.put(&later, "partner", KeyState::Revoked, "reviews.read").await?;
    world.clock.advance(platform::api_keys::FRESH_FOR);
    let answer = ask(&envoy, "GET", "/reviews/0", &later_key).await?;
    assert_eq!((answer.status, adapter.reason().as_str()), (401, "api_key_revoked"));

    // The issuer is down: what is held serves until its end, and nothing else does.
    world.issuer_down().await;
    let known = [("x-api-key", partner_key.as_str())];
    let unknown = [("x-api-key", unseen.text().expose().as_str())];
    assert_eq!(ask(&envoy, "GET", "/reviews/0", &known).await?.status, 200);
    let answer = ask(&envoy, "GET", "/reviews/0", &unknown).await?;
    assert_eq!((answer.status, adapter.reason().as_str()), (401, "exchange_unavailable"));
    world.clock.advance(Duration::from_secs(3_600));
    let answer = ask(&envoy, "GET", "/reviews/0", &known).await?;
    assert_eq!((answer.status, adapter.reason().as_str()), (401, "exchange_unavailable"));

    // The adapter is down: no. Until its last connection has ended it still answers: the token is over by now.
    adapter.stop().await;
    let down = async {
        loop {
            let answer = ask(&envoy, "GET", "/reviews/0", &[("authorization", &own)]).await?;
            match answer.status {
                503 => return Ok(()),
                status => assert_eq!(status, 401, "{}", answer.body),
            }
        }
    };
    tokio::time::timeout(e2e::process::PATIENCE, down).await.map_err(|_| "it never ends".to_owned())?
}

/// An API in front of the same workload, and what both may do there.
const ONE_GATE: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: reviews, namespace: bookinfo }
spec:
  ports: [{ name: http, port: 9080 }]
  selector: { app: reviews }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: bookinfo-gateway, namespace: bookinfo }
spec:
  selector: { istio: ingressgateway }
  servers:
    - port: { number: 443, name: https, protocol: HTTPS }
      hosts: ["*"]
      tls: { mode: SIMPLE, credentialName: bookinfo }
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: { name: bookinfo, namespace: bookinfo }
spec:
  apiId: bookinfo1
  stage: $default
  domain: api.bookinfo.example
  gateway: bookinfo/bookinfo-gateway
  workload:
    namespace: istio-system
    labels: { istio: ingressgateway }
    serviceAccount: istio-ingressgateway-service-account
  environment: dev
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: bookinfo, namespace: bookinfo }
spec:
  hosts: ["*"]
  gateways: [bookinfo-gateway]
  http:
    - match: [{ uri: { prefix: / } }]
      route: [{ destination: { host: reviews, port: { number: 9080 } } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: admin, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: reviews } }
  action: DENY
  rules:
    - to: [{ operation: { paths: ["/reviews/admin*"] } }]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: readers, namespace: bookinfo }
spec:
  selector: { matchLabels: { app: reviews } }
  rules:
    - from:
        - source: { requestPrincipals: ["https://issuer.bookinfo.example/*"] }
      to:
        - operation: { methods: [GET], paths: ["/reviews/*", /] }
      when:
        - key: request.auth.claims[scope]
          values: [reviews.read]
    - to:
        - operation: { methods: [GET], paths: ["/public*"] }
    - to:
        - operation: { methods: [GET], paths: ["/beta"] }
      when:
        - key: request.headers[x-beta]
          values: ["on*"]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn one_gate_has_two_fronts_and_the_mesh_agrees() -> Result {
    if !has_envoy() {
        return Ok(());
    }
    let world = World::start().await?;
    // At API Gateway there are two hops, and the second one sees what the first one forwards.
    let authentication =
        AUTHENTICATION.replace("jwks: 'JWKS'", "jwks: 'JWKS'\n      forwardOriginalToken: true").replace(
            "spec: { issuer: https://issuer.bookinfo.example }",
            "spec: { issuer: https://issuer.bookinfo.example, forwardOriginalKey: true }",
        );
    let yaml = format!("{authentication}{ONE_GATE}");
    let adapter = world.adapter(&yaml, true).await?;
    // The adapter alone, the adapter with the mesh's own policies behind it, and these alone.
    let alone = world.sidecar("alone", Some(adapter.address), None).await?;
    let both = world.sidecar("both", Some(adapter.address), Some(&yaml)).await?;
    let native = world.sidecar("native", None, Some(&yaml)).await?;
    let env = MapEnv::from([("CAUSEWAY_BUNDLE", "/unused")]);
    let config = authorizer::Config::from_env(&env).map_err(text)?;
    let (deps, lines) = world.deps();
    let authorizer = Authorizer::new(config, world.policies(&yaml)?, deps).map_err(text)?;

    let (reads, active) = ("reviews.read", KeyState::Active);
    let partner = world.key("partner", "dev", active, reads).await?;
    let other = world.key("other", "dev", active, reads).await?;
    let weak = world.key("weak", "dev", active, "").await?;
    let revoked = world.key("partner", "dev", KeyState::Revoked, reads).await?;
    let disabled = world.key("partner", "dev", KeyState::Disabled, reads).await?;
    let elsewhere = world.key("partner", "prod", active, reads).await?;
    let token = world.token(&partner).await?;
    let weak_token = format!("Bearer {}", world.token(&weak).await?);
    // The first character of the signature: the last one has bits that no decoder reads.
    let at = token.rfind('.').ok_or("no signature")? + 1;
    let flipped = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
    let forged = format!("Bearer {}{flipped}{}", &token[..at], &token[at + 1..]);
    let token = format!("Bearer {token}");
    let key = |key: &authz::ApiKey| ("x-api-key", key.text().expose().clone());
    let bearer = |token: &str| ("authorization", token.to_owned());
    let plain = |name: &'static str, value: &str| (name, value.to_owned());

    type Headers = Vec<(&'static str, String)>;
    let rows: Vec<(&str, &str, &str, Headers, bool)> = vec![
        ("nobody", "GET", "/reviews/0", vec![], false),
        ("nobody, a public path", "GET", "/public/x", vec![], true),
        ("nobody, the end of a prefix", "GET", "/publicity", vec![], true),
        ("nobody, writing", "POST", "/public/x", vec![], false),
        ("nobody, with a header", "GET", "/beta", vec![plain("x-beta", "on-1")], true),
        ("nobody, with another header", "GET", "/beta", vec![plain("x-beta", "off")], false),
        ("nobody, without the header", "GET", "/beta", vec![], false),
        ("a key", "GET", "/reviews/0", vec![key(&partner)], true),
        ("a key at the root", "GET", "/", vec![key(&partner)], true),
        ("a key of another client", "GET", "/reviews/0", vec![key(&other)], true),
        ("a key, writing", "POST", "/reviews/0", vec![key(&partner)], false),
        ("a key where all are denied", "GET", "/reviews/admin", vec![key(&partner)], false),
        ("a key at another path", "GET", "/else", vec![key(&partner)], false),
        ("a key without the scope", "GET", "/reviews/0", vec![key(&weak)], false),
        ("a revoked key", "GET", "/reviews/0", vec![key(&revoked)], false),
        ("a revoked key at a public path", "GET", "/public/x", vec![key(&revoked)], false),
        ("a disabled key", "GET", "/reviews/0", vec![key(&disabled)], false),
        ("a key of another environment", "GET", "/reviews/0", vec![key(&elsewhere)], false),
        ("no key at all", "GET", "/reviews/0", vec![plain("x-api-key", "cwk_dev_x")], false),
        ("a token", "GET", "/reviews/0", vec![bearer(&token)], true),
        ("a token, writing", "DELETE", "/reviews/0", vec![bearer(&token)], false),
        ("a token where all are denied", "GET", "/reviews/admin/x", vec![bearer(&token)], false),
        ("a token without the scope", "GET", "/reviews/0", vec![bearer(&weak_token)], false),
        ("a forged token", "GET", "/reviews/0", vec![bearer(&forged)], false),
        ("a forged token at a public path", "GET", "/public/x", vec![bearer(&forged)], false),
        ("no token at all", "GET", "/reviews/0", vec![bearer("Bearer x")], false),
        ("a key and a token of one client", "GET", "/reviews/0", vec![key(&partner), bearer(&token)], true),
        ("a key and a token of two", "GET", "/reviews/0", vec![key(&other), bearer(&token)], false),
    ];
    let mut wrong = Vec::new();
    for (name, method, path, headers, expected) in &rows {
        let mut event: Value =
            serde_json::from_str(include_str!("../../../examples/events/http-2.0.json")).map_err(text)?;
        event["rawPath"] = (*path).into();
        event["requestContext"]["http"]["path"] = (*path).into();
        event["requestContext"]["http"]["method"] = (*method).into();
        for (name, value) in headers {
            event["headers"][*name] = value.as_str().into();
        }
        let answer = authorizer.handle(&event).await;
        let at_aws = (answer.is_ok_and(|answer| answer["isAuthorized"] == true), reason(&lines));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let in_mesh = (ask(&alone, method, path, &headers).await?.status == 200, adapter.reason());
        let behind = ask(&both, method, path, &headers).await?.status == 200;
        let mut found = vec![("authorizer", at_aws.0), ("adapter", in_mesh.0), ("adapter and mesh", behind)];
        // Istio knows no API keys.
        if !headers.iter().any(|(name, _)| *name == "x-api-key") {
            found.push(("mesh", ask(&native, method, path, &headers).await?.status == 200));
        }
        if at_aws.1 != in_mesh.1 || found.iter().any(|(_, allowed)| allowed != expected) {
            wrong.push(format!("{name}: expected {expected}, found {found:?}; {} and {}", at_aws.1, in_mesh.1));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// STS by an implementation that nobody here wrote.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_of_eks_gets_its_role_at_sts() -> Result {
    if !tier::available(&[&tool("moto_server")]) {
        return Ok(());
    }
    let moto = Moto::start().await?;
    let folder = tempfile::tempdir().map_err(text)?;
    let token = folder.path().join("token");
    std::fs::write(&token, "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzeXN0ZW0ifQ.c2ln\n").map_err(text)?;
    let env =
        MapEnv::from([("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/adapter"), ("AWS_ENDPOINT_URL", &moto.url())])
            .with("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string());
    let source = CredentialSource::from_env_with(&Reader::new(&env), "eu-central-1", Arc::new(SystemClock));
    let source = source.map_err(text)?;
    let credentials = source.get().await.map_err(text)?;
    assert!(credentials.access_key_id.starts_with("ASIA"), "{}", credentials.access_key_id);
    assert!(credentials.session_token.is_some());

    // Both ways to AWS sign with it: the SDK's clients, which write, and the fronts' own, which read.
    create_table(&moto, "api-keys").await?;
    create_secret(&moto, "pepper", &Secret::new("a pepper of the tests".to_owned())).await?;
    let aws = AwsConfig { credentials: source, ..e2e::world::aws(&moto) };
    let key = ApiKey::generate("dev", &[1; 48]).map_err(text)?;
    let record = seeds::key_record(&key, "partner", KeyState::Active, &Secret::new(b"a pepper of the tests".to_vec()));
    ApiKeys::put(&DynamoDb::new("api-keys", aws.clone()), &record).await.map_err(text)?;
    let config = ApiKeysConfig { table: "api-keys".to_owned(), pepper_secret: "pepper".to_owned(), aws };
    let store = ApiKeyStore::in_aws(&config);
    assert_eq!(store.records.get(key.id()).await.map_err(text)?.as_ref(), Some(&record));
    assert!(store.secrets.get("pepper").await.is_ok());
    Ok(())
}
