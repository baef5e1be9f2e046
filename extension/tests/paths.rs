//! Paths: the mesh's normal form is what routes and services see, and nothing of a query is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::*;

const SERVICE: &str = "service.mesh.example:15443";

/// A service whose `/admin` is answered by its route, in a mesh with this normalisation.
fn mesh(normalization: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{ name: istio, namespace: istio-system }}
data: {{ mesh: \"pathNormalization: {{ normalization: {normalization} }}\" }}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{ number: 9080, name: http, protocol: HTTP }}]
  endpoints: [{{ address: service.mesh.example, ports: {{ http: 15443 }} }}]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: ratings, namespace: bookinfo }}
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  http:
  - match: [{{ uri: {{ prefix: /admin }} }}]
    directResponse: {{ status: 403 }}
  - match: [{{ uri: {{ prefix: /old }} }}]
    rewrite: {{ uri: /new }}
    route: [{{ destination: {{ host: ratings }} }}]
  - match: [{{ uri: {{ prefix: /moved/ }} }}]
    redirect: {{ prefixRewrite: /here/, authority: other.example }}
  - match: [{{ uri: {{ prefix: /broken }} }}]
    rewrite: {{ uri: here }}
    route: [{{ destination: {{ host: ratings }} }}]
  - route: [{{ destination: {{ host: ratings }} }}]
"
    )
}

async fn scene(normalization: &str) -> (MeshServer, Stage) {
    let certificates = Arc::new(Mesh::new());
    let server = MeshServer::start(&certificates, RATINGS).await;
    let stage = Stage::ruled(&certificates, &mesh(normalization), &[(SERVICE, server.address)]).await;
    (server, stage)
}

#[tokio::test]
async fn a_path_is_normalised_before_a_route_is_chosen_and_for_good() {
    let (server, stage) = scene("BASE").await;
    for hidden in ["/x/../admin", "/%61dmin", "/x/%2e%2e/admin?a=b", "/./admin", "/x/..;a/admin"] {
        let answer = stage.get(hidden).await;
        assert!(answer.is(403, "direct_response"), "{hidden}: {answer:?}");
    }
    assert_eq!(server.count(), 0);
    for (sent, seen) in [
        ("/a/../%62?c=/../d", "/b?c=/../d"),
        ("/a//b%2Fc", "/a//b%2Fc"),
        // Envoy takes it off.
        ("/a#b", "/a"),
        ("?a=b", "/?a=b"),
    ] {
        assert_eq!(stage.get(sent).await.status, 200);
        assert_eq!(server.seen().last().unwrap().uri, seen);
    }
    assert_eq!(stage.get("/x/../old/a?b=c").await.status, 200);
    let seen = server.seen().pop().unwrap();
    assert_eq!(seen.uri, "/new/a?b=c");
    assert_eq!(seen.headers["x-envoy-original-path"], "/old/a?b=c");
    let before = server.count();
    let answer = stage.get("/a%00").await;
    assert!(answer.is(400, "request_invalid"), "{answer:?}");
    assert_eq!(server.count(), before);
}

#[tokio::test]
async fn the_mesh_says_how_much_of_a_path_is_normalised() {
    let (server, stage) = scene("NONE").await;
    assert_eq!(stage.get("/x/../admin").await.status, 200);
    assert_eq!(server.seen().last().unwrap().uri, "/x/../admin");
    let (server, stage) = scene("DECODE_AND_MERGE_SLASHES").await;
    for hidden in ["//admin", "/%2Fadmin", "/x%2F..%5Cadmin"] {
        assert_eq!(stage.get(hidden).await.status, 403, "{hidden}");
    }
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn a_redirect_replaces_the_prefix_and_keeps_the_query() {
    let (_server, stage) = scene("BASE").await;
    let answer = stage.get("/moved/a?b=c").await;
    assert!(answer.is(301, "redirect"), "{answer:?}");
    assert_eq!(answer.headers["location"], "http://other.example/here/a?b=c");
}

#[tokio::test]
async fn no_query_is_said_where_a_request_cannot_be_sent() {
    let (_server, stage) = scene("BASE").await;
    for path in ["/broken/a?token=s3cret", "/a%00?token=s3cret"] {
        let answer = stage.get(path).await;
        assert!(answer.status.is_server_error() || answer.status == 400, "{answer:?}");
        assert!(!answer.body.contains("s3cret"), "{answer:?}");
        assert!(!stage.logged().to_string().contains("s3cret"));
    }
}
