//! A new bundle takes the place of the old one without a restart, and a bad one does not.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod common;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adapter::{Adapter, Config};
use authz::{ApiKeyRecord, KeyState};
use common::issuer::{Issuer, NOW};
use common::{Answer, READER, check, deps, key, place, policies, record, section};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use platform::BoxFuture;
use platform::bundle::{Section, write};
use platform::clock::FixedClock;
use platform::env::MapEnv;
use platform::log::{Lines, Log};
use platform::metrics::Output;
use platform::store::{self, ApiKeys, StoreError};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

fn opens(path: &str) -> String {
    format!("[{{ to: [{{ operation: {{ paths: ['{path}'] }} }}] }}]")
}

fn put(path: &Path, bytes: &[u8]) {
    // As whole as the exchange of a link.
    let other = path.with_extension("new");
    std::fs::write(&other, bytes).unwrap();
    std::fs::rename(other, path).unwrap();
}

async fn event(lines: &Lines, name: &str, count: usize) -> Value {
    let search = async {
        loop {
            let all: Vec<Value> = lines.all().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
            if let Some(line) = all.into_iter().filter(|line| line["event"] == name).nth(count - 1) {
                return line;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), search).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_bundle_serves() {
    let (issuer, folder) = (Issuer::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("mesh.bundle");
    let bundle = |rules: &str| write(&[(Section::Access, &section(&issuer, rules))]).unwrap();
    put(&path, &bundle(&opens("/a")));
    let env = MapEnv::from([
        ("CAUSEWAY_ADAPTER_ADDRESS", "127.0.0.1:0"),
        ("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfo"),
        ("CAUSEWAY_WORKLOAD_LABELS", "app=ratings"),
        ("CAUSEWAY_METRICS", "prometheus"),
    ])
    .with("CAUSEWAY_BUNDLE", path.to_str().unwrap());
    let mut config = Config::from_env(&env).unwrap();
    (config.reload, config.metrics) = (Some(Duration::from_millis(10)), Output::Prometheus(0));
    let (log, lines) = Log::memory();
    let deps = deps(Arc::new(store::Embedded::in_memory()), Arc::new(FixedClock::at(NOW)), log);
    let bound = Adapter::bind(config, deps).unwrap();
    let (address, metrics) = (bound.address(), bound.metrics_address().unwrap());
    assert_eq!(metrics.ip(), address.ip());
    tokio::spawn(bound.run(std::future::pending()));
    let mut client = AuthorizationClient::connect(format!("http://{address}")).await.unwrap();
    let mut opened = async || {
        let mut found = Vec::new();
        for path in ["/a", "/b", "/c"] {
            if Answer::from(client.check(check(path, &[])).await.unwrap().into_inner()).status == 200 {
                found.push(path);
            }
        }
        found
    };
    assert_eq!(opened().await, ["/a"]);

    put(&path, &bundle(&opens("/b")));
    let line = event(&lines, "bundle_taken", 1).await;
    assert_eq!((&line["generation"], line["sha256"].as_str().unwrap().len()), (&2.into(), 64));
    assert_eq!(opened().await, ["/b"]);

    // Each kind of bad bundle: refused whole, once, with its reason; what was in use goes on.
    let mut damaged = bundle(&opens("/c"));
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let other = section(&issuer, &opens("/c"));
    let elsewhere = String::from_utf8_lossy(&other).replace("ratings", "retings");
    let unguarded = {
        let text = common::POLICIES.replace("JWKS", &issuer.jwks()).replace("RULES", &opens("/c"));
        let text = text.replace("app: ratings", "app: else");
        let resources = istio::parse(&[istio::SourceFile { name: "p".to_owned(), text }]).unwrap();
        authz::compile(&resources, &authz::CompileOptions::default()).unwrap().section
    };
    let bad: [(&str, Vec<u8>, &str); 5] = [
        ("empty", Vec::new(), "CAUSEWAY"),
        ("damaged", damaged, "written"),
        ("without policies", write(&[(Section::Egress, b"x")]).unwrap(), "no access section"),
        ("of nonsense", write(&[(Section::Access, elsewhere.as_bytes())]).unwrap(), "the bundle"),
        ("of another workload", write(&[(Section::Access, &unguarded)]).unwrap(), "everything would be allowed"),
    ];
    for (index, (name, bytes, why)) in bad.iter().enumerate() {
        put(&path, bytes);
        let line = event(&lines, "bundle_refused", index + 1).await;
        assert!(line["error"].as_str().unwrap().contains(why), "{name}: {line}");
        assert_eq!(line["generation_in_use"], 2, "{name}");
        assert_eq!(opened().await, ["/b"], "{name}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(event(&lines, "bundle_refused", 6).await["error"].as_str().unwrap().contains("cannot read"));
    assert_eq!(opened().await, ["/b"], "without a file");

    put(&path, &bundle(&opens("/c")));
    assert_eq!(event(&lines, "bundle_taken", 2).await["generation"], 3);
    assert_eq!(opened().await, ["/c"]);
    let refused = lines.all().iter().filter(|line| line.contains("bundle_refused")).count();
    assert_eq!(refused, 6, "each is said once");

    let mut stream = tokio::net::TcpStream::connect(metrics).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    for expected in [
        "causeway_bundle_generation 3",
        r#"causeway_bundle_reloads_total{outcome="ok"} 2"#,
        r#"causeway_bundle_reloads_total{outcome="failed"} 6"#,
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
}

/// A store whose answers wait for a permit.
struct Held(store::Embedded, Arc<Semaphore>);

impl ApiKeys for Held {
    fn get<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<ApiKeyRecord>, StoreError>> {
        Box::pin(async move {
            self.1.acquire().await.unwrap().forget();
            ApiKeys::get(&self.0, id).await
        })
    }

    fn put<'a>(&'a self, record: &'a ApiKeyRecord) -> BoxFuture<'a, Result<(), StoreError>> {
        ApiKeys::put(&self.0, record)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_is_under_way_ends_with_the_policies_that_it_began_with() {
    let (issuer, gate) = (Issuer::new(), Arc::new(Semaphore::new(0)));
    let store = Held(store::Embedded::in_memory(), gate.clone());
    ApiKeys::put(&store, &record(1, KeyState::Active)).await.unwrap();
    let deps = deps(Arc::new(store), Arc::new(FixedClock::at(NOW)), Log::memory().0);
    let adapter = Adapter::new(place(), policies(&issuer, READER), deps).unwrap();
    let key = key(1);
    let ask = || {
        let (adapter, key) = (adapter.clone(), key.clone());
        async move { Answer::from(adapter.check(check("/a", &[("x-api-key", &key)])).await).status }
    };
    let mut under_way = Box::pin(ask());
    // It has begun: it waits for the store.
    assert!(std::future::poll_fn(|cx| std::task::Poll::Ready(under_way.as_mut().poll(cx).is_pending())).await);
    adapter.replace(policies(&issuer, &opens("/else")), Default::default()).unwrap();
    gate.add_permits(1);
    assert_eq!(under_way.await, 200);
    // The record that was read for the old policies is known to the new ones.
    assert_eq!(ask().await, 403);
}
