//! Tokens by destination, from the real issuer: the workload's own, the caller's, and the caller's exchanged for one in
//! which the workload acts. What arrives is what the application behind the sidecar sees, and what policies say of it.

use std::collections::BTreeMap;

use authz::{CompileOptions, Given, KeySets, Peer, Policies, Request, Target};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use causeway::dev::http::{Answer, send};
use e2e::mesh::Mesh;
use e2e::process::Process;
use e2e::recorder::Recorder;
use e2e::world::{self, World};
use e2e::{ports, program};
use key_issuer::{Authentication, ClientRecord};
use platform::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::process::Command;

type Outcome = Result<(), String>;

const ROLE: &str = "bookinfo-reviews";
const HOST: &str = "ratings.bookinfo.svc.cluster.local:9080";
const URL: &str = "http://ratings.bookinfo.svc.cluster.local:9080/ratings/0";

struct Scene {
    world: World,
    mesh: Mesh,
    app: Recorder,
}

impl Scene {
    /// `traveller` says in its record that reviews may act for it; `reader` says it of nobody.
    async fn start() -> Result<Option<Scene>, String> {
        if !world::available() {
            return Ok(None);
        }
        let mut world = World::start().await?;
        let traveller = ClientRecord {
            scopes: vec!["ratings.read".to_owned()],
            audiences: vec!["bookinfo".to_owned()],
            grants: vec!["client_credentials".to_owned()],
            may_act: vec![ROLE.to_owned()],
            ..ClientRecord::new("traveller")
        };
        let reviews = ClientRecord {
            authentication: Authentication::Iam,
            grants: ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"].map(str::to_owned).into(),
            ..ClientRecord::new(ROLE)
        };
        world.register("traveller", traveller).await?;
        world.register(ROLE, reviews).await?;
        let app = Recorder::start().await?;
        let mesh = Mesh::before(&world, "bookinfo-ratings", app.address).await?;
        Ok(Some(Scene { world, mesh, app }))
    }

    /// The extension with this rule for ratings.
    async fn proxy(&self, rule: &Value) -> Result<Proxy, String> {
        let port = ports::free().map_err(|error| error.to_string())?;
        let mut rule = rule.clone();
        rule["host"] = "ratings.bookinfo.svc.cluster.local".into();
        let mut command = Command::new(program("extension"));
        command.env_clear().envs(self.world.extension_environment(ROLE, port, self.mesh.eastwest.address)?);
        command.env("CAUSEWAY_TOKENS", json!([rule]).to_string());
        let mut process = Process::start("extension", &mut command)?;
        process.listening(ports::loopback(port)).await?;
        Ok(Proxy { process, port })
    }

    /// The token that the application saw last.
    fn arrived(&self) -> Result<String, String> {
        let seen = self.app.seen().pop().ok_or("nothing arrived")?;
        let token = seen.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        Ok(token.ok_or("found no bearer token")?.to_owned())
    }
}

struct Proxy {
    process: Process,
    port: u16,
}

impl Proxy {
    async fn call(&self, token: Option<&str>) -> Result<Answer, String> {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("host", HOST)];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        send(ports::loopback(self.port), "GET", URL, &headers, "").await
    }
}

fn claims(token: &str) -> Result<Value, String> {
    let payload = token.split('.').nth(1).ok_or("found no token")?;
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// What the policies of ratings say to a request with this token: travellers are let in who come by way of reviews.
fn verdict(jwks: &str, token: &str) -> Result<(u16, String), String> {
    let policies = format!(
        "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{ name: issuer, namespace: bookinfo }}
spec:
  jwtRules: [{{ issuer: https://issuer.bookinfo.example, audiences: [bookinfo], jwks: '{jwks}' }}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: travellers, namespace: bookinfo }}
spec:
  selector: {{ matchLabels: {{ app: ratings }} }}
  action: ALLOW
  rules:
    - from: [{{ source: {{ principals: [cluster.local/ns/bookinfo/sa/{ROLE}],
                          requestPrincipals: ['https://issuer.bookinfo.example/client:traveller'] }} }}]
      when: [{{ key: 'request.auth.claims[act][sub]', values: ['client:{ROLE}'] }}]
"
    );
    let file = istio::SourceFile { name: "policies.yaml".to_owned(), text: policies };
    let resources = istio::parse(&[file]).map_err(|errors| format!("{errors:?}"))?;
    let compiled = authz::compile(&resources, &CompileOptions::default()).map_err(|errors| format!("{errors:?}"))?;
    let policies = Policies::open(&compiled.section).map_err(|error| error.to_string())?;
    let keys = KeySets::embedded(&policies).map_err(|error| error.to_string())?;
    let labels = vec![("app".to_owned(), "ratings".to_owned())];
    let target = Target::Workload { namespace: "bookinfo".to_owned(), labels, environment: None };
    let request = Request {
        method: "GET".to_owned(),
        scheme: "https".to_owned(),
        host: HOST.to_owned(),
        path: "/ratings/0".to_owned(),
        headers: vec![("authorization".to_owned(), format!("Bearer {token}"))],
        source: Peer { principal: Some(format!("cluster.local/ns/bookinfo/sa/{ROLE}")), ..Peer::default() },
        ..Request::default()
    };
    let providers = BTreeMap::new();
    let given = Given {
        keys: &keys,
        api_key: None,
        pepper: None,
        revocations: authz::Revocations::NotKept,
        providers: Some(&providers),
        verified: None,
        now: SystemClock.unix(),
    };
    let decision = authz::decide(&policies, &request, &target, &given);
    Ok((decision.status(), decision.reason().to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_sees_the_caller_and_who_acts_for_it() -> Outcome {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let exchange = json!({"mode": "exchange", "audience": "bookinfo", "scope": "ratings.read"});
    let proxy = scene.proxy(&exchange).await?;
    let caller = scene.world.token("traveller", "").await?;
    let answer = proxy.call(Some(&caller)).await?;
    assert_eq!(answer.status, 200, "{}\n{}", answer.body, proxy.process.lines().join("\n"));
    let arrived = scene.arrived()?;
    let seen = claims(&arrived)?;
    assert_eq!((&seen["sub"], &seen["act"]), (&json!("client:traveller"), &json!({"sub": "client:bookinfo-reviews"})));
    assert_eq!((&seen["aud"], &seen["scope"]), (&json!("bookinfo"), &json!("ratings.read")), "{seen}");
    assert_ne!(arrived, caller);

    // The policies tell this token from the caller's own, and from the workload's own.
    let jwks = send(scene.world.issuer, "GET", "/jwks.json", &[("host", "issuer.bookinfo.example")], "").await?.body;
    assert_eq!(verdict(&jwks, &arrived)?, (200, "allowed_by_policy".to_owned()));
    assert_eq!(verdict(&jwks, &caller)?.0, 403);
    let own = scene.proxy(&json!({"mode": "own", "audience": "bookinfo"})).await?;
    assert_eq!(own.call(None).await?.status, 200);
    let own_token = scene.arrived()?;
    assert_eq!(claims(&own_token)?["sub"], "client:bookinfo-reviews");
    assert_eq!(claims(&own_token)?["act"], Value::Null);
    assert_eq!(verdict(&jwks, &own_token)?.0, 403);

    scene.world.note(&arrived);
    scene.world.note(&own_token);
    assert_eq!(scene.world.credential_in_logs(&[&proxy.process, &own.process]), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_lets_nobody_act_is_refused_and_nothing_is_sent() -> Outcome {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let proxy = scene.proxy(&json!({"mode": "exchange", "audience": "bookinfo"})).await?;
    let reader = scene.world.token("reader", "").await?;
    let mut forged = reader.clone();
    forged.truncate(forged.len() - 8);
    forged.push_str("AAAAAAAA");
    scene.world.note(&forged);
    for token in [Some(reader.as_str()), Some(&forged), Some("nonsense"), None] {
        let answer = proxy.call(token).await?;
        assert_eq!(
            (answer.status, answer.header("x-causeway-reason")),
            (401, Some("token_refused")),
            "{}",
            answer.body
        );
        assert_eq!(answer.header("www-authenticate"), Some(r#"Bearer error="invalid_token""#));
    }
    assert!(scene.app.seen().is_empty());
    assert_eq!(scene.world.credential_in_logs(&[&proxy.process]), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_token_is_forwarded_or_kept_back() -> Outcome {
    let Some(scene) = Scene::start().await? else { return Ok(()) };
    let caller = scene.world.token("traveller", "").await?;
    let forward = scene.proxy(&json!({"mode": "forward"})).await?;
    assert_eq!(forward.call(Some(&caller)).await?.status, 200);
    assert_eq!(scene.arrived()?, caller);
    // Without one nobody calls: never the workload itself. The mesh's policy wants a token.
    let answer = forward.call(None).await?;
    assert_eq!((answer.status, answer.header("x-causeway-reason")), (403, None), "{}", answer.body);
    let none = scene.proxy(&json!({"mode": "none"})).await?;
    assert_eq!(none.call(Some(&caller)).await?.status, 403);
    assert_eq!(scene.app.seen().len(), 1);
    Ok(())
}
