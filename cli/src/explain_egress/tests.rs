//! Questions about a small mesh.

use super::question::QuestionArgs;
use super::{answer::Outcome, explained, page};

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
  - { address: near.mesh.example, locality: eu/eu-1, labels: { version: v1 } }
  - { address: far.mesh.example, locality: us/us-1, labels: { version: v1 } }
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: bookinfo }
spec:
  host: reviews
  trafficPolicy:
    outlierDetection: {}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: reviews, namespace: bookinfo }
spec:
  hosts: [reviews]
  http:
  - name: old
    match:
    - uri: { prefix: /old }
    - headers: { end-user: { exact: jason } }
      sourceLabels: { app: page }
    redirect: { uri: /new }
  - name: tea
    match: [{ method: { exact: PUT } }]
    directResponse: { status: 418 }
  - name: all
    match: [{ uri: { prefix: /v1 } }]
    rewrite: { uri: / }
    timeout: 2s
    route: [{ destination: { host: reviews } }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: api, namespace: shop }
spec:
  hosts: [api.example.com]
  resolution: DNS
  exportTo: ['.']
  ports:
  - { number: 80, name: http, protocol: HTTP }
";

fn asked(url: &str) -> QuestionArgs {
    QuestionArgs {
        namespace: Some("bookinfo".to_owned()),
        method: "GET".to_owned(),
        url: Some(url.to_owned()),
        ..QuestionArgs::default()
    }
}

fn answered(question: &QuestionArgs) -> super::answer::Answer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.yaml");
    std::fs::write(&path, MESH).unwrap();
    explained(&[path], &[], question).expect("it is explained").0
}

fn error(question: &QuestionArgs) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.yaml");
    std::fs::write(&path, MESH).unwrap();
    explained(&[path], &[], question).map(|_| ()).unwrap_err().join("\n")
}

#[test]
fn a_request_that_is_sent_on() {
    let question = QuestionArgs { locality: Some("us/us-1".to_owned()), ..asked("http://reviews:9080/v1/x?q=1") };
    let answer = answered(&question);
    assert_eq!(answer.outcome, Outcome::Forward);
    assert_eq!(answer.done.path.as_deref(), Some("//x?q=1"));
    let page = page::page(&answer);
    for said in [
        "outcome       sent on",
        "virtual host  reviews.bookinfo.svc.cluster.local:9080",
        "route 1       old: not taken",
        "match 1     no: uri prefix \"/old\", found \"/v1/x\"",
        "match 2     no: headers.end-user exact \"jason\", found nothing; sourceLabels.app exact \"page\", found nothing",
        "route 3       all: taken",
        "timeout       2 s",
        "retries       2, on connect-failure, refused-stream, unavailable, cancelled; back-off from 25 ms; at another endpoint",
        "to            outbound|9080||reviews.bookinfo.svc.cluster.local (100 %)",
        "tls         ISTIO_MUTUAL",
        "sni       outbound_.9080_._.reviews.bookinfo.svc.cluster.local",
        "expected  spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews",
        "alpn      istio-http/1.1, istio, http/1.1",
        "endpoints   far.mesh.example:9080 (priority 0, weight 1, us/us-1)",
        "near.mesh.example:9080 (priority 1, weight 1, eu/eu-1)",
        "outlier     5 5xx in a row",
    ] {
        assert!(page.contains(said), "{said}\n{page}");
    }
}

#[test]
fn answers_that_no_service_gives() {
    let redirect = answered(&asked("http://reviews:9080/old/x"));
    assert_eq!((redirect.outcome, redirect.done.status), (Outcome::Redirect, Some(301)));
    assert!(redirect.done.location.as_deref().is_some_and(|location| location.ends_with("/new")));
    let by_header = QuestionArgs {
        header: vec!["end-user: jason".to_owned()],
        labels: vec!["app=page".to_owned()],
        ..asked("http://reviews:9080/")
    };
    assert_eq!(answered(&by_header).outcome, Outcome::Redirect);
    let direct = answered(&QuestionArgs { method: "PUT".to_owned(), ..asked("http://reviews:9080/") });
    assert_eq!((direct.outcome, direct.done.status), (Outcome::DirectResponse, Some(418)));
    let none = answered(&asked("http://reviews:9080/"));
    assert_eq!((none.outcome, none.routes.len()), (Outcome::NoRoute, 3));
    assert!(page::page(&none).contains("answered 404"));
}

#[test]
fn an_unknown_host_and_what_may_have_been_meant() {
    for (url, nearest) in [
        ("http://review:9080/", Some("reviews.bookinfo.svc.cluster.local:9080")),
        ("http://reviews.bokinfo:9080/", Some("reviews.bookinfo.svc.cluster.local:9080")),
        ("http://reviews.bookinfo:81/", Some("reviews.bookinfo.svc.cluster.local:80")),
        ("http://something.else/", None),
    ] {
        let answer = answered(&asked(url));
        assert_eq!(answer.outcome, Outcome::UnknownHost, "{url}");
        assert_eq!(answer.nearest.first().map(String::as_str), nearest, "{url}");
        assert!(page::page(&answer).contains("REGISTRY_ONLY"));
    }
}

#[test]
fn the_namespace_decides_and_is_asked_for() {
    let of = |namespace: Option<&str>| QuestionArgs {
        namespace: namespace.map(str::to_owned),
        ..asked("http://api.example.com/")
    };
    let answer = answered(&of(Some("shop")));
    assert_eq!(answer.outcome, Outcome::Forward);
    assert!(page::page(&answer).contains("tls         none: plaintext"));
    assert_eq!(answered(&of(Some("bookinfo"))).outcome, Outcome::UnknownHost);
    assert!(error(&of(None)).contains("give it with --namespace"));
}

#[test]
fn no_credential_is_shown() {
    let question = QuestionArgs {
        header: vec!["authorization: Bearer secret".to_owned(), "end-user: x".to_owned()],
        ..asked("http://reviews:9080/v1")
    };
    let answer = answered(&question);
    let json = serde_json::to_string(&answer).unwrap();
    assert!(!json.contains("secret") && json.contains("\"outcome\":\"forward\""), "{json}");
}

#[test]
fn questions_that_cannot_be_asked() {
    for (question, said) in [
        (QuestionArgs { url: None, ..asked("") }, "found no URL"),
        (asked("reviews:9080"), "expected one such as"),
        (asked("ftp://reviews/"), "expected one such as"),
        (asked("http://user@reviews/"), "expected one such as"),
        (QuestionArgs { labels: vec!["app".to_owned()], ..asked("http://a/") }, "--labels"),
        (QuestionArgs { header: vec!["x".to_owned()], ..asked("http://a/") }, "--header"),
        (QuestionArgs { locality: Some("a/b/c/d".to_owned()), ..asked("http://a/") }, "--locality"),
        (QuestionArgs { method: "G T".to_owned(), ..asked("http://a/") }, "--method"),
    ] {
        let text = error(&question);
        assert!(text.contains(said), "{text}");
    }
}

/// What routes look at, and services see: the mesh's default is BASE.
#[test]
fn a_path_is_normalised_first() {
    let answer = answered(&asked("http://reviews:9080/v1/../old/%61?q=/../x"));
    assert_eq!((answer.outcome, answer.normal_path.as_deref()), (Outcome::Redirect, Some("/old/a?q=/../x")));
    assert!(page::page(&answer).contains("normal path   /old/a?q=/../x"));
    let plain = answered(&asked("http://reviews:9080/v1/x"));
    assert_eq!((plain.outcome, plain.normal_path), (Outcome::Forward, None));
    // RFC 9110 4.2.3: "an empty path component is equivalent to an absolute path of "/"".
    let empty = answered(&asked("http://reviews:9080?q=1"));
    assert_eq!((empty.outcome, empty.routes.len()), (Outcome::NoRoute, 3));
    let wrong = answered(&asked("http://reviews:9080/v1%00"));
    assert_eq!((wrong.outcome, wrong.routes.len()), (Outcome::PathInvalid, 0));
    assert!(page::page(&wrong).contains("answered 400 request_invalid"));
}
