//! Documents as they are written, from the text to what a workload sees.

use istio::{Resources, SourceFile};
use traffic::table::{LocalityPolicy, Outbound, StringMatch, Tls};

use crate::build::*;

fn parsed(text: &str) -> Resources {
    let file = SourceFile { name: "mesh.yaml".to_owned(), text: text.to_owned() };
    istio::parse(&[file]).expect("the YAML itself is good")
}

const MESH: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: reviews, namespace: bookinfo }
spec:
  hosts: [reviews.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports:
  - { number: 9080, name: http, protocol: HTTP }
  endpoints:
  - address: eastwest-1.mesh.example
    locality: eu-central-1/euc1-az1
    ports: { http: 15443 }
    labels: { version: v1 }
  - address: eastwest-2.mesh.example
    locality: eu-central-1/euc1-az2
    ports: { http: 15443 }
    labels: { version: v2 }
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: bookinfo }
spec:
  host: reviews
  trafficPolicy:
    connectionPool:
      tcp: { connectTimeout: 250ms }
    outlierDetection: { consecutive5xxErrors: 3, interval: 5s }
    loadBalancer:
      simple: ROUND_ROBIN
      localityLbSetting:
        failover:
        - { from: eu-central-1, to: eu-west-1 }
  subsets:
  - { name: v1, labels: { version: v1 } }
  - name: v2
    labels: { version: v2 }
    trafficPolicy:
      loadBalancer: { simple: RANDOM }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews, namespace: bookinfo }
spec:
  hosts: [reviews]
  http:
  - name: jason
    match:
    - headers: { end-user: { exact: jason } }
    timeout: 2s
    retries: { attempts: 3, perTryTimeout: 500ms, retryOn: 'gateway-error,409' }
    route:
    - destination: { host: reviews, subset: v2 }
  - name: all
    headers:
      request: { set: { x-share: '100%%', x-copy: '<%REQ(x-share)%>' } }
    route:
    - destination: { host: reviews, subset: v1 }
      weight: 90
    - destination: { host: reviews, subset: v2 }
      weight: 10
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: default, namespace: bookinfo }
spec:
  egress:
  - port: { number: 9080, protocol: HTTP, name: reviews }
    bind: 127.0.0.2
    hosts: [./reviews.bookinfo.svc.cluster.local]
  - hosts: ['./*']
";

#[test]
fn canary_routes_of_a_service_behind_two_gateways() {
    let opened = opened(&parsed(MESH));
    let host = opened.host("reviews", 9080);
    let [jason, all] = host.routes.as_slice() else { panic!("{host:?}") };
    assert_eq!(jason.matches[0].headers, [("end-user".to_owned(), StringMatch::Exact("jason".to_owned()))]);
    assert_eq!((jason.timeout_ms, jason.retry.attempts, jason.retry.per_try_timeout_ms), (2_000, 3, 500));
    assert_eq!(jason.retry.statuses, [409]);
    let weights: Vec<u32> = forward_of(all).destinations.iter().map(|found| found.weight).collect();
    assert_eq!(weights, [90, 10]);
    // The document's `%%` is one percent sign, and stays one on the way. A command is carried out.
    let mut headers = http::HeaderMap::new();
    headers.insert("x-share", "7".parse().unwrap());
    traffic::headers::Changes::new(&all.headers.request).unwrap().apply(&mut headers);
    assert_eq!((headers["x-share"].as_bytes(), headers["x-copy"].as_bytes()), (&b"100%"[..], &b"<7>"[..]));
    let v1 = opened.cluster_of(all);
    assert_eq!(v1.endpoints.len(), 1);
    assert_eq!((v1.endpoints[0].address.as_str(), v1.endpoints[0].port), ("eastwest-1.mesh.example", 15443));
    assert_eq!(v1.outlier.as_ref().map(|outlier| outlier.consecutive_5xx), Some(3));
    assert_eq!(v1.pool.connect_timeout_ms, 250);
    assert!(matches!(&v1.balance.locality, LocalityPolicy::Failover(regions) if regions.len() == 1));
    let Tls::IstioMutual(tls) = &v1.tls else { panic!("{v1:?}") };
    assert_eq!(tls.sni, "outbound_.9080_.v1_.reviews.bookinfo.svc.cluster.local");
    let view = opened.rules.view(Some(NS), &[]).unwrap();
    assert_eq!(view.listeners()[0].address, "127.0.0.2");
    assert!(opened.warnings.is_empty(), "{:?}", opened.warnings);
}

#[test]
fn tls_to_a_host_outside_is_originated_for_plain_requests() {
    let opened = opened(&parsed(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: api, namespace: shop }
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports:
  - { number: 80, name: http, protocol: HTTP, targetPort: 443 }
  - { number: 443, name: https, protocol: HTTPS }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: api, namespace: shop }
spec:
  host: api.example.com
  trafficPolicy:
    portLevelSettings:
    - port: { number: 80 }
      tls: { mode: SIMPLE }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    outboundTrafficPolicy: { mode: ALLOW_ANY }
",
    ));
    let plain = opened.cluster("api.example.com", 80);
    assert_eq!((plain.endpoints[0].port, matches!(plain.tls, Tls::Simple(_))), (443, true));
    let own = opened.cluster("api.example.com", 443);
    assert_eq!((own.protocol, &own.tls), (traffic::table::Protocol::Tcp, &Tls::Plaintext));
    assert_eq!(opened.rules.view(None, &[]).unwrap().outbound(), Outbound::AllowAny);
}

#[test]
fn the_examples_compile() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/bookinfo");
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let read = |path: &std::path::PathBuf| SourceFile {
        name: path.display().to_string(),
        text: std::fs::read_to_string(path).unwrap(),
    };
    let sources: Vec<SourceFile> = names.iter().map(read).collect();
    let opened = opened(&istio::parse(&sources).expect("the examples are good"));
    let cluster = opened.cluster("ratings", 9080);
    assert_eq!(cluster.endpoints[0].address, "eastwest.mesh.example");
}

/// Istio's listener_builder_test: "path normalization" for every class of listener; the paths are of Envoy's tests of
/// `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action`.
#[test]
fn the_meshs_normal_form_of_paths_is_that_of_its_clients_too() {
    for (mode, normal) in [
        ("NONE", ["/a/../b", "/a//b", "/%61", "/a%2Fb", "/a\\b"]),
        ("BASE", ["/b", "/a//b", "/a", "/a%2Fb", "/a/b"]),
        ("DEFAULT", ["/b", "/a//b", "/a", "/a%2Fb", "/a/b"]),
        ("MERGE_SLASHES", ["/b", "/a/b", "/a", "/a%2Fb", "/a/b"]),
        ("DECODE_AND_MERGE_SLASHES", ["/b", "/a/b", "/a", "/a/b", "/a/b"]),
    ] {
        let config = format!(
            "
apiVersion: v1
kind: ConfigMap
metadata: {{ name: istio, namespace: istio-system }}
data: {{ mesh: \"pathNormalization: {{ normalization: {mode} }}\" }}
---{MESH}"
        );
        let rules = opened(&parsed(&config)).rules;
        let paths = ["/a/../b", "/a//b", "/%61", "/a%2Fb", "/a\\b"];
        assert_eq!(paths.map(|path| rules.normalize(path).unwrap().into_owned()), normal, "{mode}");
        assert_eq!(rules.normalize("/a%00").is_err(), mode != "NONE");
        // What has no path has no normal form, and no route either.
        assert_eq!(["*", ""].map(|path| rules.normalize(path).unwrap()), ["*", ""]);
        assert_eq!(rules.normalize("/a?b=/../%61//#c").unwrap(), "/a?b=/../%61//");
    }
    assert_eq!(opened(&parsed(MESH)).rules.path_normalization(), istio::PathNormalization::Base);
}
