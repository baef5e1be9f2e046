//! The inbound side of a sidecar, on real sockets: who may come in and how, what the application gets to see of it, and
//! the end of it all under load.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod inbound_stage;

use std::sync::atomic::Ordering;
use std::time::Duration;

use common::*;
use http::{Method, Request};
use inbound_stage::*;
use rcgen::{CertificateParams, SanType};

/// A caller that the policies know, and one that they do not.
const KNOWN: &str = OTHER;
const UNKNOWN: &str = RATINGS;

fn get(path: &str) -> Request<Body> {
    Request::get(path).header("host", "reviews.bookinfo:9080").body(text("")).unwrap()
}

/// `portLevelMtls` and so on of the workload.
fn peers(spec: &str) -> String {
    format!(
        "
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: own, namespace: bookinfo}}
spec: {{{spec}}}
"
    )
}

#[tokio::test]
async fn peer_authentication_says_who_comes_how() {
    let app = App::start().await;
    let port = app.address.port();
    let own = |mode: &str, of_port: &str| {
        peers(&format!(
            "selector: {{matchLabels: {{app: reviews}}}}, mtls: {{mode: {mode}}}, portLevelMtls: {{{of_port}}}"
        ))
    };
    // What is asked for, and whether plaintext and mutual TLS are answered.
    for (documents, plain, mutual) in [
        (String::new(), true, true),
        (peers("mtls: {mode: PERMISSIVE}"), true, true),
        (peers("mtls: {mode: STRICT}"), false, true),
        (peers("mtls: {mode: DISABLE}"), true, false),
        (own("STRICT", &format!("{port}: {{mode: DISABLE}}")), true, false),
        (own("DISABLE", &format!("{port}: {{mode: STRICT}}")), false, true),
        (own("STRICT", "1: {mode: DISABLE}"), false, true),
        (own("UNSET", &format!("{port}: {{mode: UNSET}}")), true, true),
    ] {
        let side = Side::start(&app, &format!("{POLICIES}{documents}"), |_| ()).await;
        let before = app.count();
        let said = side.plain(get("/public")).await.map(|answer| answer.status.as_u16()).ok();
        let expected = if plain { Some(200) } else { None };
        // Without TLS the bytes of a handshake are no request.
        assert_eq!(said.filter(|status| *status == 200), expected, "{documents} plain");
        let said = side.secure(KNOWN, get("/public")).await.map(|answer| answer.status.as_u16()).ok();
        let expected = if mutual { Some(200) } else { None };
        assert_eq!(said, expected, "{documents} mutual");
        assert_eq!(app.count() - before, usize::from(plain) + usize::from(mutual), "{documents}");
    }
}

#[tokio::test]
async fn nobody_comes_in_with_a_certificate_that_proves_nothing() {
    let app = App::start().await;
    let side = Side::start(&app, &format!("{POLICIES}{}", peers("mtls: {mode: STRICT}")), |_| ()).await;
    let stranger = Mesh::new();
    let foreign = "spiffe://other.example/ns/bookinfo/sa/bookinfo-productpage";
    let with = |change: fn(&mut CertificateParams)| {
        let mut params = params(KNOWN);
        change(&mut params);
        params
    };
    let over = with(|params| {
        params.not_before = at(real_now() - 7_200);
        params.not_after = at(real_now() - 3_600);
    });
    let early = with(|params| params.not_before = at(real_now() + 1_800));
    let twice = with(|params| params.subject_alt_names.push(SanType::URI(RATINGS.try_into().unwrap())));
    let none = with(|params| params.subject_alt_names.clear());
    for (what, client) in [
        ("no certificate", None),
        ("another root", Some(stranger.certificate(params(KNOWN)))),
        ("another trust domain", Some(side.mesh.certificate(params(foreign)))),
        ("expired", Some(side.mesh.certificate(over))),
        ("not valid yet", Some(side.mesh.certificate(early))),
        ("two names", Some(side.mesh.certificate(twice))),
        ("no name", Some(side.mesh.certificate(none))),
    ] {
        let answer = side.shown(client, &["istio-http/1.1"], get("/public")).await;
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(side.events("inbound_refused").len(), 7, "each is in the log");
    assert_eq!(side.secure(KNOWN, get("/public")).await.unwrap().status, 200);
}

#[tokio::test]
async fn an_alias_of_the_trust_domain_is_the_mesh_too() {
    let app = App::start().await;
    let own = "trustDomain: cluster.local\n";
    let policies = POLICIES.replace(own, &format!("{own}    trustDomainAliases: [old.example]\n"));
    let side = Side::start(&app, &format!("{policies}{}", peers("mtls: {mode: STRICT}")), |_| ()).await;
    let old = "spiffe://old.example/ns/bookinfo/sa/bookinfo-productpage";
    assert_eq!(side.secure(old, get("/known")).await.unwrap().status, 200);
    let older = "spiffe://older.example/ns/bookinfo/sa/bookinfo-productpage";
    assert!(side.secure(older, get("/known")).await.is_err());
}

#[tokio::test]
async fn every_name_that_a_mesh_s_client_offers_is_taken() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    for offered in [
        &["istio-http/1.1", "istio", "http/1.1"][..],
        &["istio-http/1.0", "istio", "http/1.0"],
        &["istio-http/1.1"],
        &["istio"],
        &["istio-peer-exchange", "istio"],
        &["http/1.1"],
        &[],
    ] {
        let answer = side.shown(Some(side.mesh.certificate(params(KNOWN))), offered, get("/known")).await;
        assert_eq!(answer.unwrap().status, 200, "{offered:?}");
    }
    for offered in [&["istio-h2", "istio", "h2"][..], &["h2"], &["istio-h2"], &[]] {
        let client = side.mesh.certificate(params(KNOWN));
        let request = Request::get("http://reviews.bookinfo:9080/known").body(text("")).unwrap();
        assert_eq!(side.shown_http2(client, offered, request).await.unwrap().status, 200, "{offered:?}");
    }
}

#[tokio::test]
async fn policies_decide_and_callers_learn_no_more_than_that() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let elsewhere = "spiffe://cluster.local/ns/other/sa/x";
    let friend = "spiffe://cluster.local/ns/friends/sa/x";
    // Path, caller (plaintext without), and status.
    for (path, caller, expected) in [
        ("/public", None, 200),
        ("/public", Some(UNKNOWN), 200),
        ("/known", Some(KNOWN), 200),
        ("/known", Some(UNKNOWN), 403),
        ("/known", None, 403),
        ("/friends", Some(friend), 200),
        ("/friends", Some(elsewhere), 403),
        ("/friends", None, 403),
        ("/admin", Some(KNOWN), 403),
        ("/admin/x", Some(KNOWN), 403),
        ("/nothing", Some(KNOWN), 403),
        // The port is the application's.
        ("/port", Some(KNOWN), 200),
        ("/other-port", Some(KNOWN), 403),
        // A provider that nobody here can ask.
        ("/custom", Some(KNOWN), 403),
    ] {
        let before = app.count();
        let answer = match caller {
            Some(caller) => side.secure(caller, get(path)).await.unwrap(),
            None => side.plain(get(path)).await.unwrap(),
        };
        assert_eq!(answer.status, expected, "{path} {caller:?} {answer:?}");
        assert_eq!(app.count() - before, usize::from(expected == 200), "{path} {caller:?}");
        if expected == 403 {
            assert_eq!(answer.body, "{\"error\":\"denied\"}\n");
            assert!(!answer.headers.contains_key("x-causeway-reason"), "{answer:?}");
        }
    }
    let decision = side.events("decision").pop().unwrap();
    assert_eq!((&decision["reason"], &decision["path"]), (&"custom_provider_unavailable".into(), &"/custom".into()));
    let line = side.events("inbound").pop().unwrap();
    assert_eq!((&line["direction"], &line["peer"]), (&"inbound".into(), &KNOWN.into()));
    assert_eq!((&line["response_code"], &line["path"]), (&403.into(), &"/custom".into()));
}

#[tokio::test]
async fn a_caller_says_nothing_about_itself_that_it_has_not_proven() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let forged = || {
        Request::get("/public")
            .header("host", "reviews")
            .header("x-forwarded-client-cert", "By=x;URI=spiffe://cluster.local/ns/bookinfo/sa/admin")
            .header("x_forwarded_client_cert", "forged")
            .header("x-causeway-principal", "forged")
            .header("x_causeway_principal", "forged")
            .header("X-Causeway-Client-Id", "forged")
            .header("x-causeway-reason", "forged")
            // What is named here must not take ours away.
            .header("connection", "x-forwarded-client-cert, x-private, close")
            .header("x-private", "1")
            .body(text(""))
            .unwrap()
    };
    assert_eq!(side.plain(forged()).await.unwrap().status, 200);
    assert_eq!(side.secure(KNOWN, forged()).await.unwrap().status, 200);
    let [plain, secure] = app.last_two();
    for seen in [&plain, &secure] {
        assert!(!seen.iter().any(|(_, value)| value.contains("forged") || value.contains("admin")), "{seen:?}");
        assert!(!seen.iter().any(|(name, _)| name == "x-private"), "{seen:?}");
    }
    assert!(!plain.iter().any(|(name, _)| name == "x-forwarded-client-cert"));
    let said: Vec<&str> =
        secure.iter().filter(|(n, _)| n == "x-forwarded-client-cert").map(|(_, v)| v.as_str()).collect();
    let [said] = said[..] else { panic!("{said:?}") };
    assert!(said.starts_with(&format!("By={REVIEWS};Hash=")), "{said}");
    assert!(said.ends_with(&format!(";Subject=\"\";URI={KNOWN}")), "{said}");
    // A policy cannot be told a lie about it either.
    let lie = Request::get("/by-header").header("host", "a").header("x-causeway-principal", "admin");
    assert_eq!(side.secure(KNOWN, lie.body(text("")).unwrap()).await.unwrap().status, 403);
}

#[tokio::test]
async fn the_path_that_is_judged_is_the_one_that_is_forwarded() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    // What is sent, the status, and what the application sees.
    for (sent, expected, seen) in [
        ("/public?a=%2e", 200, "/public?a=%2e"),
        ("/x/../public", 200, "/public"),
        ("/%70ublic", 200, "/public"),
        ("/public/../admin", 403, ""),
        ("/public/%2e%2e/admin", 403, ""),
        ("/%61dmin", 403, ""),
        ("\\admin", 400, ""),
        ("/public%00", 400, ""),
        ("/x/../..", 400, ""),
        ("*", 400, ""),
        ("/public#/admin", 200, "/public"),
    ] {
        let answer = side.raw(&format!("GET {sent} HTTP/1.1\r\nhost: reviews\r\nconnection: close\r\n\r\n")).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        let expected = expected.to_string();
        // A path that leads above the root is denied in one way or another.
        let good = status == expected || (sent == "/x/../.." && status == "403");
        assert!(good, "{sent}: {answer}");
        if !seen.is_empty() {
            assert_eq!(app.last_path(), seen, "{sent}");
        }
    }
}

#[tokio::test]
async fn what_two_readers_may_read_differently_is_refused() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let many: String = (0..101).map(|n| format!("x-{n}: y\r\n")).collect();
    for (head, expected) in [
        ("GET /public HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.1\r\nhost: a@b\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.0\r\nhost: a\r\n\r\n".to_owned(), "400"),
        ("POST /public HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(), "400"),
        ("POST /public HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n".to_owned(), "400"),
        ("GET /public HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n".to_owned(), "400"),
        ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(), "400"),
        (format!("GET /public HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
    ] {
        let answer = side.raw(&head).await;
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{head}: {answer}");
    }
    assert_eq!(app.count(), 0);
    // RFC 9112 6.3: with both, "the Transfer-Encoding overrides the Content-Length", and "the server MUST close the
    // connection after responding". The application sees the chunks alone.
    for both in ["content-length: 3\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 3"] {
        let smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nhost: a\r\n\r\n";
        let answer = side.raw(&format!("POST /public HTTP/1.1\r\nhost: a\r\n{both}\r\n\r\n{smuggled}")).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert!(!app.last().iter().any(|(name, _)| name == "content-length"), "{:?}", app.last());
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert_eq!(app.count(), 2);
    // The request line names the host, and not the field.
    let answer = side.raw("GET http://b/public HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(app.last().contains(&("host".to_owned(), "b".to_owned())), "{:?}", app.last());
}

#[tokio::test]
async fn tokens_are_proven_and_stay_here_unless_the_policies_say_otherwise() {
    let app = App::start().await;
    let issuer = Signer::new();
    let side = Side::start(&app, &format!("{POLICIES}{}", issuer.request_authentication()), |_| ()).await;
    let call = |path: &str, token: Option<String>| {
        let mut request = Request::get(path).header("host", "reviews").header("x-sub", "forged");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        side.secure(UNKNOWN, request.body(text("")).unwrap())
    };
    let answer = call("/token", None).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (403, "{\"error\":\"denied\"}\n"));
    let stranger = Signer::new();
    for bad in [stranger.token("alice", 600), issuer.token("alice", -600), "a.b.c".to_owned()] {
        for path in ["/token", "/public"] {
            let answer = call(path, Some(bad.clone())).await.unwrap();
            let found = (answer.status.as_u16(), answer.body.as_str());
            assert_eq!(found, (401, "{\"error\":\"unauthenticated\"}\n"), "{path}");
        }
    }
    assert_eq!(app.count(), 0);
    let answer = call("/token", Some(issuer.token("alice", 600))).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = app.last();
    assert!(!seen.iter().any(|(name, _)| name == "authorization"), "{seen:?}");
    let of = |name: &str| seen.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect::<Vec<_>>();
    assert_eq!(of("x-sub"), ["alice"]);
    assert_eq!(of("x-causeway-principal"), [format!("{ISSUER}/alice")]);
    assert!(side.lines.all().iter().all(|line| !line.contains(&issuer.token("alice", 600)[..40])));
}

#[tokio::test]
async fn grpc_goes_through_with_its_trailers_and_is_refused_in_its_own_words() {
    let app = App::http2().await;
    let side = Side::start(&app, POLICIES, |inbound| inbound.ports[0].h2c = true).await;
    let call = |path: &str| {
        let request = Request::post(format!("http://reviews.bookinfo:9080{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        let client = side.mesh.certificate(params(KNOWN));
        side.shown_http2(client, &["istio-h2", "istio", "h2"], request.body(text("ping")).unwrap())
    };
    let answer = call("/known").await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ping"));
    assert_eq!(answer.headers["trailer-grpc-status"], "0", "{:?}", answer.headers);
    assert!(app.last().contains(&("te".to_owned(), "trailers".to_owned())));
    let refused = call("/admin").await.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.headers["grpc-status"]), (200, &"7".parse().unwrap()));
}

#[tokio::test]
async fn bodies_stream_both_ways_and_connections_switch() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let large = "x".repeat(3 * 1_024 * 1_024);
    let request = Request::post("/echo").header("host", "reviews").body(text(large.clone())).unwrap();
    let answer = side.secure(KNOWN, request).await.unwrap();
    assert!(answer.body == large, "{} bytes", answer.body.len());
    let said = side.switched(KNOWN, "/ws", "hello").await;
    assert_eq!(said, "hello");
    // Another protocol than WebSocket could hold requests that nobody has judged.
    let client = Some(side.mesh.certificate(params(KNOWN)));
    let other = Request::get("/echo").header("host", "reviews");
    let other = other.header("connection", "upgrade").header("upgrade", "other/1").body(text("")).unwrap();
    assert_eq!(side.shown(client, &[], other).await.unwrap().status, 200);
    assert!(!app.last().iter().any(|(name, _)| name == "upgrade"), "{:?}", app.last());
    // Nor does anything go on behind the body, where no policy looks; the body does, also of a GET.
    for method in ["POST", "GET"] {
        let body = "1\r\nx\r\n0\r\nx-causeway-principal: forged\r\nx-other: x\r\n\r\n";
        let head = format!("{method} /public HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n");
        let head = format!("{head}trailer: x-causeway-principal, x-other\r\nconnection: close\r\n\r\n");
        let answer = side.raw(&format!("{head}{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(app.last().contains(&("transfer-encoding".to_owned(), "chunked".to_owned())), "{:?}", app.last());
        assert_eq!(app.trailers(), Some(Vec::new()), "{method}");
    }
    // Nobody switches who may not come in.
    assert_eq!(side.switched(UNKNOWN, "/ws", "hello").await, "403");
}

#[tokio::test]
async fn connections_to_the_application_are_kept_and_a_lost_one_costs_no_request() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    for _ in 0..50 {
        assert_eq!(side.plain(get("/public")).await.unwrap().status, 200);
    }
    assert!(app.connections() < 50, "{} connections", app.connections());
    // The application closes the connection on which the second request comes.
    assert_eq!(side.plain(get("/once")).await.unwrap().status, 200);
    until("the connection is free", || app.busy() == 0).await;
    assert_eq!(side.plain(get("/once")).await.unwrap().status, 200);
    // A request that may not be sent twice is not.
    until("the connection is free", || app.busy() == 0).await;
    let before = app.count();
    let post = Request::builder().method(Method::POST).uri("/once").header("host", "a").body(text("x")).unwrap();
    let answer = side.plain(post).await.unwrap();
    assert!(app.count() - before == 1, "{answer:?}");
}

#[tokio::test]
async fn an_application_that_is_not_there_is_503() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |inbound| {
        inbound.ports[0].application = "127.0.0.1:1".parse().unwrap();
    })
    .await;
    let answer = side.plain(get("/public")).await.unwrap();
    assert!(answer.is(503, "upstream_connect_failed"), "{answer:?}");
}

#[tokio::test]
async fn without_an_identity_nobody_is_let_in_by_tls_and_nothing_is_ready() {
    let app = App::start().await;
    let side = Side::in_mood(&app, POLICIES, Mood::Down, |_| ()).await;
    assert_eq!(side.health().await, (503, "identity_unavailable\n".to_owned()));
    assert!(side.secure(KNOWN, get("/public")).await.is_err());
    assert_eq!(app.count(), 0);
    side.issuer.set(Mood::Good);
    side.clock.advance(Duration::from_secs(10));
    side.ready().await;
    assert_eq!(side.secure(KNOWN, get("/public")).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_new_identity_is_shown_to_new_connections_and_drops_no_old_one() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let mut old = side.kept(KNOWN).await;
    assert_eq!(old.get("/known").await, 200);
    let first = old.serial.clone();
    side.clock.advance(Duration::from_secs(LIFE * 55 / 100));
    side.health().await;
    until("the SVID is renewed", || side.issuer.svids.load(Ordering::SeqCst) == 2).await;
    side.ready().await;
    until("the SVID is taken", || side.events("identity").len() == 2).await;
    let new = side.kept(KNOWN).await;
    assert_ne!(new.serial, first);
    assert_eq!(old.get("/known").await, 200, "the old connection lives on");
}

#[tokio::test]
async fn what_would_leave_everything_open_does_not_start() {
    let app = App::start().await;
    // It applies to every workload, and is no sign that the others do.
    let everywhere = "
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {methods: [TRACE]}}]}]}
";
    let more = format!("{POLICIES}{everywhere}");
    for (documents, change, expected) in [
        ("", None, "no AuthorizationPolicy"),
        (POLICIES, Some(("app", "revievs")), "no AuthorizationPolicy"),
        (&more, Some(("app", "revievs")), "no AuthorizationPolicy of the bundle with the action ALLOW"),
    ] {
        let error = Side::refused(&app, documents, change).await;
        assert!(error.contains(expected) && error.contains("CAUSEWAY_LABELS"), "{error}");
    }
    let error = Side::without_policies(&app).await;
    assert!(error.contains("no access section"), "{error}");
}

#[tokio::test]
async fn one_sidecar_s_way_out_leads_into_another_s_way_in() {
    let app = App::start().await;
    let side = Side::start(&app, &format!("{POLICIES}{}", peers("mtls: {mode: STRICT}")), |_| ()).await;
    for (protocol, expected) in [("HTTP", "HTTP/1.1"), ("HTTP2", "HTTP/2")] {
        let yaml = format!(
            "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{ name: other, namespace: bookinfo }}
spec:
  hosts: [other.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{{ number: 9080, name: web, protocol: {protocol} }}]
  endpoints: [{{ address: other.example, ports: {{ web: 15006 }} }}]
  subjectAltNames: [{REVIEWS}]
"
        );
        let out = Stage::ruled(&side.mesh, &yaml, &[("other.example:15006", side.address)]).await;
        let call = |path: &str| {
            let url = format!("http://other.bookinfo.svc.cluster.local:9080{path}");
            out.call(Request::get(url).body(text("")).unwrap())
        };
        let answer = call("/public").await;
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "ok"), "{protocol} {answer:?}");
        let said = app.last().into_iter().find(|(name, _)| name == "x-forwarded-client-cert").unwrap().1;
        assert!(said.ends_with(&format!("URI={REVIEWS}")), "{said}");
        assert_eq!(call("/known").await.status, 403, "{protocol}");
        let line = side.events("inbound").pop().unwrap();
        assert_eq!((&line["protocol"], &line["peer"]), (&expected.into(), &REVIEWS.into()));
    }
}

#[tokio::test]
async fn the_end_loses_no_request_under_load() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |inbound| {
        (inbound.drain_accept, inbound.drain) = (Duration::from_secs(3), Duration::from_secs(30));
    })
    .await;
    // One that is in hand when the end comes, and for some time after.
    let slow = tokio::spawn(side.calls(KNOWN).once("/slow"));
    until("it is with the application", || app.busy() == 1).await;
    let load: Vec<_> = (0..8).map(|number| tokio::spawn(side.calls(KNOWN).again_and_again(number % 2 == 0))).collect();
    until("there is load", || app.count() > 100).await;
    side.stop();
    side.draining().await;
    let before = app.count();
    until("calls are still taken", || app.count() > before + 50).await;
    // The load balancer has seen it.
    side.no_more_load();
    for one in load {
        let (done, failed) = one.await.unwrap();
        assert!(done > 0 && failed.is_empty(), "{done} answered, {failed:?}");
    }
    assert!(!side.has_ended(), "a request is in hand");
    app.release();
    assert_eq!(slow.await.unwrap(), Ok(200));
    side.ended().await;
    assert_eq!(side.events("end").pop().unwrap()["finished"], true);
}

#[tokio::test]
async fn an_end_that_cuts_a_request_off_says_so() {
    for http2 in [false, true] {
        let app = App::start().await;
        let side = Side::start(&app, POLICIES, |inbound| inbound.drain = Duration::from_millis(50)).await;
        let slow = async {
            if !http2 {
                return side.calls(KNOWN).once("/slow").await.map(|_| ());
            }
            let request = Request::get("http://reviews.bookinfo:9080/slow").body(text("")).unwrap();
            side.shown_http2(side.mesh.certificate(params(KNOWN)), &["h2"], request).await.map(|_| ())
        };
        let end = async {
            until("it is with the application", || app.busy() == 1).await;
            side.stop();
            // Nothing is in hand on the way out, whose end is asked for once.
            side.ended().await;
        };
        let (slow, ()) = tokio::join!(slow, end);
        assert!(slow.is_err(), "HTTP/2 {http2}");
        assert_eq!(side.events("end").pop().unwrap()["finished"], false, "HTTP/2 {http2}");
        // Its line is there before that.
        let lines = side.lines.all();
        let place = |event: &str| lines.iter().position(|line| line.contains(&format!(r#""event":"{event}""#)));
        let cut = place("inbound").unwrap_or_else(|| panic!("{lines:?}"));
        assert!(lines[cut].contains(r#""path":"/slow""#) && Some(cut) < place("end"), "{lines:?}");
        assert_eq!(place("end"), Some(lines.len() - 1), "{lines:?}");
    }
}

#[tokio::test]
async fn an_end_with_nothing_in_hand_has_finished_however_long_calls_are_taken() {
    let app = App::start().await;
    for accept in [1, 60] {
        let side = Side::start(&app, POLICIES, |inbound| {
            (inbound.drain_accept, inbound.drain) = (Duration::from_secs(accept), Duration::from_secs(1));
        })
        .await;
        side.stop();
        side.ended().await;
        assert_eq!(side.events("end").pop().unwrap()["finished"], true, "{accept} s");
    }
}

#[tokio::test]
async fn what_is_refused_at_once_has_its_trace_as_well() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let head = format!("traceparent: 00-{trace}-00f067aa0ba902b7-01\r\nx-request-id: mine\r\n");
    for (request, decided) in [
        (format!("GET /public HTTP/1.0\r\nhost: a\r\n{head}\r\n"), false),
        (format!("GET /public HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n{head}\r\n0\r\n\r\n"), true),
        (format!("GET /public HTTP/1.1\r\nhost: a\r\nhost: b\r\n{head}\r\n"), true),
    ] {
        let before = side.events("inbound").len();
        let answer = side.raw(&request).await;
        assert_eq!(answer.split(' ').nth(1), Some("400"), "{request}: {answer}");
        until("its line is written", || side.events("inbound").len() > before).await;
        let line = side.events("inbound").pop().unwrap();
        assert_eq!((&line["trace_id"], &line["request_id"]), (&trace.into(), &"mine".into()), "{request}: {line}");
        let decision = side.events("decision").pop();
        assert_eq!(decision.is_some(), decided, "{request}");
        assert!(decision.is_none_or(|decision| decision["request_id"] == "mine"), "{request}");
    }
}

#[tokio::test]
async fn a_call_and_its_decision_say_the_same_traces() {
    let app = App::start().await;
    let side = Side::start(&app, POLICIES, |_| ()).await;
    let (trace, x_ray) = ("4bf92f3577b34da6a3ce929d0e0e4736", "5759e988bd862e3fe1be46a994272793");
    let traceparent = format!("00-{trace}-00f067aa0ba902b7-01");
    let amazon = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let (w3c, amazon) = (("traceparent", traceparent.as_str()), ("x-amzn-trace-id", amazon));
    for (path, fields, expected) in [
        ("/known", vec![w3c], (Some(trace), None)),
        ("/nothing", vec![w3c, amazon], (Some(trace), Some(x_ray))),
        ("/known", vec![amazon], (Some(x_ray), None)),
        ("/known", vec![("b3", trace)], (Some(trace), None)),
        ("/known", vec![w3c, w3c], (None, None)),
        ("/known", vec![w3c, ("connection", "traceparent")], (None, None)),
        ("/known", vec![], (None, None)),
    ] {
        let mut request = get(path);
        for (name, value) in &fields {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        side.secure(KNOWN, request).await.unwrap();
        for event in ["decision", "inbound"] {
            let line = side.events(event).pop().unwrap();
            let found = (line["trace_id"].as_str(), line["xray_trace_id"].as_str());
            assert_eq!(found, expected, "{event} {path} {fields:?}");
        }
    }
}
