//! How long what was proven counts at the inbound side of a sidecar, what HTTP/2 may say there, and what is counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod inbound_stage;

use std::time::Duration;

use common::*;
use http::Request;
use inbound_stage::*;

#[tokio::test]
async fn a_connection_proves_nobody_beyond_the_caller_s_certificate() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let (mut used, mut idle) = (side.kept(OTHER).await, side.kept(OTHER).await);
    assert_eq!((used.get("/known").await, idle.get("/known").await), (200, 200));
    // A second longer than the certificate of either.
    side.clock.advance(Duration::from_secs(LIFE + 10));
    let late = used.try_get("/known").await;
    assert!(matches!(late, None | Some(401)), "{late:?}");
    assert_eq!(app.count(), 2);
    if late.is_some() {
        assert_eq!(side.events("decision").pop().unwrap()["reason"], "no_credential");
        until("the connection is closed with the answer", || used.is_closed()).await;
    }
    until("the unused connection is closed", || idle.is_closed()).await;
}

#[tokio::test]
async fn a_connection_ends_before_the_certificate_does() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let mut early = side.kept(OTHER).await;
    assert_eq!(early.get("/known").await, 200);
    side.clock.advance(Duration::from_secs(LIFE - 30));
    until("the connection is closed", || early.is_closed()).await;
    // Plaintext proves nobody, and has no end.
    assert_eq!(
        side.plain(Request::get("/public").header("host", "a").body(text("")).unwrap()).await.unwrap().status,
        200
    );
}

/// What HTTP/1.1 refuses cannot be said in HTTP/2 either: the application speaks HTTP/1.1, and would read a length that is
/// not true as the begin of another request.
#[tokio::test]
async fn what_two_readers_may_read_differently_is_refused_in_http2_too() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let call = |fields: &[(&'static str, &'static str)], path: &str| {
        let mut request = Request::get(format!("http://reviews.bookinfo:9080{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        side.shown_http2(side.mesh.certificate(params(OTHER)), &["h2"], request.body(text("")).unwrap())
    };
    for fields in [
        &[("content-length", "5")][..],
        &[("content-length", "0"), ("content-length", "44")],
        &[("content-length", "+0")],
        &[("host", "admin")],
        &[("host", "reviews.bookinfo:9080"), ("host", "admin")],
    ] {
        let answer = call(fields, "/public").await.map(|answer| answer.status.as_u16());
        assert!(matches!(answer, Err(_) | Ok(400)), "{fields:?} {answer:?}");
    }
    for (path, expected) in [("/public/../admin", 403), ("/%61dmin", 403), ("/public%00", 400)] {
        let answer = call(&[], path).await.map(|answer| answer.status.as_u16());
        assert_eq!(answer, Ok(expected), "{path}");
    }
    assert_eq!(app.count(), 0);
    let good = [("host", "reviews.bookinfo:9080"), ("cookie", "a=1"), ("cookie", "b=2")];
    assert_eq!(call(&good, "/public").await.unwrap().status, 200);
    assert!(app.last().contains(&("cookie".to_owned(), "a=1; b=2".to_owned())), "{:?}", app.last());
}

#[tokio::test]
async fn calls_are_counted_by_port_class_and_reason() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    for path in ["/public", "/public", "/nothing"] {
        let request = Request::get(path).header("host", "reviews").body(text("")).unwrap();
        side.plain(request).await.unwrap();
    }
    until("all calls are over", || side.events("inbound").len() == 3).await;
    let metrics = side.metrics().await;
    let port = app.address.port();
    for (class, reason, count) in [("2xx", "-", 2), ("4xx", "denied_no_match", 1)] {
        let labels = format!("port=\"{port}\",class=\"{class}\",reason=\"{reason}\"");
        for line in [
            format!("causeway_inbound_requests_total{{{labels}}} {count}"),
            format!("causeway_inbound_request_duration_milliseconds_count{{{labels}}} {count}"),
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
        }
    }
    // The application's own requests are others.
    assert!(!metrics.contains("destination="), "{metrics}");
}
