//! Which connection a request takes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use traffic::table::Simple;

use super::super::*;
use super::world::*;
use crate::body::Upload;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

async fn server(world: &World, protocol: Protocol) -> Server {
    Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await
}

#[tokio::test]
async fn a_connection_is_used_again_and_says_so() {
    for protocol in BOTH {
        let world = World::new();
        let server = server(&world, protocol).await;
        let hop = world.hop(server.address, protocol);
        let first = world.get(&hop, "/a?b").await.unwrap();
        assert_eq!((first.status, first.body.as_str(), first.reused), (200, "ratings", false));
        assert_eq!(first.peer.as_deref(), Some(RATINGS));
        assert!(world.get(&hop, "/").await.unwrap().reused);
        // With a body, and without one that has been read.
        let upload = Upload::replayable(text("hello")).0;
        assert_eq!(world.call(&hop, post("/echo", upload)).await.unwrap().body, "hello");
        assert!(world.call(&hop, post("/", Upload::Empty)).await.unwrap().reused);
        assert_eq!(server.used(), [1, 1, 1, 1], "{protocol:?}");
        let seen = &server.seen()[0];
        assert_eq!(seen.client.as_deref(), Some(REVIEWS));
        match protocol {
            Protocol::Http2 => assert_eq!(seen.uri, "http://ratings:9080/a?b"),
            _ => assert_eq!((seen.uri.as_str(), seen.headers["host"].to_str().unwrap()), ("/a?b", "ratings:9080")),
        }
    }
}

#[tokio::test]
async fn the_offer_is_the_protocols_and_a_server_may_pick_none() {
    let world = World::new();
    for (protocol, alpn) in [(Protocol::Http1, "istio-http/1.1"), (Protocol::Http2, "istio-h2")] {
        let server = server(&world, protocol).await;
        let mut hop = world.hop(server.address, protocol);
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.hellos(), [(Some(SNI.to_owned()), Some(alpn.to_owned()))]);

        let silent = identity::tls::server_config(&world.mesh.svid(RATINGS), &world.mesh.bundle(), &[]).unwrap();
        let server = Server::start(Some(silent), protocol == Protocol::Http2).await;
        hop.address = server.address;
        assert_eq!(world.get(&hop, "/").await.unwrap().status, 200);
        assert_eq!(server.hellos()[0].1, None);
    }
}

#[tokio::test]
async fn a_cluster_that_follows_the_client_has_connections_of_both_kinds() {
    let world = World::new();
    let server = server(&world, Protocol::Http2).await;
    let mut hop = world.hop(server.address, Protocol::Client);
    hop.http2 = true;
    assert_eq!(world.get(&hop, "/").await.unwrap().status, 200);
    hop.http2 = false;
    // The server takes HTTP/1.1 for garbage, and must have been asked on a connection of its own.
    assert!(world.get(&hop, "/").await.is_err());
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_new_svid_means_a_new_connection_and_the_old_one_ends() {
    for protocol in BOTH {
        let world = World::new();
        let server = server(&world, protocol).await;
        let old = world.hop(server.address, protocol);
        world.get(&old, "/").await.unwrap();
        world.renew();
        let new = world.hop(server.address, protocol);
        world.get(&new, "/").await.unwrap();
        assert_eq!(server.used(), [1, 2], "{protocol:?}");
        // A request that began before the renewal must not bring the older connection back.
        world.get(&old, "/").await.unwrap();
        world.get(&new, "/").await.unwrap();
        assert_eq!(server.used()[3], 2, "{protocol:?}");
        assert_ne!(server.used()[2], 1, "{protocol:?}");
    }
}

#[tokio::test]
async fn nothing_is_sent_with_an_svid_that_is_over() {
    for protocol in BOTH {
        let world = World::new();
        let server = server(&world, protocol).await;
        let hop = world.hop(server.address, protocol);
        world.get(&hop, "/").await.unwrap();
        world.clock.advance(Duration::from_secs(LIFE + 2));
        let failed = world.get(&hop, "/").await.unwrap_err();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Local, Reason::IdentityUnavailable));
        assert!(failed.unsent.is_some());
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn an_old_connection_is_not_used() {
    for protocol in BOTH {
        for (pool, wait, expected) in [
            (Pool::default(), 59, [1, 1]),
            (Pool::default(), 61, [1, 2]),
            (Pool { idle_timeout_ms: 5_000, ..Pool::default() }, 4, [1, 1]),
            (Pool { idle_timeout_ms: 5_000, ..Pool::default() }, 6, [1, 2]),
            (Pool { max_connection_ms: 5_000, ..Pool::default() }, 4, [1, 1]),
            (Pool { max_connection_ms: 5_000, ..Pool::default() }, 5, [1, 2]),
        ] {
            let world = World::new();
            let server = server(&world, protocol).await;
            let hop = world.limited(server.address, protocol, pool.clone());
            world.get(&hop, "/").await.unwrap();
            world.clock.advance(Duration::from_secs(wait));
            world.get(&hop, "/").await.unwrap();
            assert_eq!(server.used(), expected, "{protocol:?} {pool:?} {wait}");
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_repeated_takes_only_a_very_young_connection() {
    for protocol in BOTH {
        for (wait, expected) in [(2, [1, 1]), (3, [1, 2])] {
            let world = World::new();
            let server = server(&world, protocol).await;
            let hop = world.hop(server.address, protocol);
            world.get(&hop, "/").await.unwrap();
            world.clock.advance(Duration::from_secs(wait));
            world.call(&hop, post("/", Upload::Empty)).await.unwrap();
            assert_eq!(server.used(), expected, "{protocol:?} {wait}");
        }
    }
}

#[tokio::test]
async fn a_clock_that_is_set_back_makes_no_connection_young() {
    for protocol in BOTH {
        let world = World::new();
        let server = server(&world, protocol).await;
        let hop = world.hop(server.address, protocol);
        world.get(&hop, "/").await.unwrap();
        world.clock.set(world.clock.unix() - 100);
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.used(), [1, 2], "{protocol:?}");
    }
}

#[tokio::test]
async fn an_answer_that_was_not_read_to_its_end_takes_its_connection_with_it() {
    let world = World::new();
    let server = server(&world, Protocol::Http1).await;
    let hop = world.hop(server.address, Protocol::Http1);
    let exchange = world.send_once(&hop, get("/part")).await.unwrap();
    drop(exchange);
    world.get(&hop, "/").await.unwrap();
    assert_eq!(server.used(), [1, 2]);
}

#[tokio::test]
async fn in_http2_a_dropped_answer_leaves_the_connection_to_the_others() {
    let world = World::new();
    let server = server(&world, Protocol::Http2).await;
    let hop = world.hop(server.address, Protocol::Http2);
    drop(world.send_once(&hop, get("/part")).await.unwrap());
    world.get(&hop, "/").await.unwrap();
    assert_eq!(server.used(), [1, 1]);
}

#[tokio::test]
async fn many_requests_share_one_connection_and_one_handshake() {
    let world = Arc::new(World::new());
    let server = server(&world, Protocol::Http2).await;
    let hop = world.hop(server.address, Protocol::Http2);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let (world, hop) = (Arc::clone(&world), hop.clone());
            tokio::spawn(async move { world.get(&hop, "/wait").await.unwrap().status })
        })
        .collect();
    server.has_seen(50).await;
    server.release.add_permits(50);
    for call in calls {
        assert_eq!(call.await.unwrap(), 200);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn names_that_the_request_brings_do_not_share_connections() {
    let world = World::new();
    let server = Server::start(Some(world.mesh.outside("*.b.example", &[])), false).await;
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &world.mesh.root).unwrap();
    let simple = Simple { roots: roots.path().to_str().unwrap().to_owned(), ..Simple::default() };
    let mut hop = world.hop(server.address, Protocol::Http1);
    hop.credentials = None;
    hop.cluster = Arc::new(Cluster { tls: Tls::Simple(simple), ..Cluster::default() });
    for name in ["a.b.example", "b.b.example", "a.b.example"] {
        hop.server_name = name.to_owned();
        world.get(&hop, "/").await.unwrap();
    }
    assert_eq!(server.used(), [1, 2, 1]);
    let names: Vec<_> = server.hellos().into_iter().map(|(name, _)| name.unwrap()).collect();
    assert_eq!(names, ["a.b.example", "b.b.example"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_on_several_threads_do_not_disturb_each_other() {
    for (protocol, most) in [(Protocol::Http1, 8), (Protocol::Http2, 1)] {
        let world = Arc::new(World::new());
        let server = server(&world, protocol).await;
        let pool = Pool { max_connections: 8, ..Pool::default() };
        let hop = world.limited(server.address, protocol, pool);
        let callers: Vec<_> = (0..16)
            .map(|caller| {
                let (world, hop) = (Arc::clone(&world), hop.clone());
                tokio::spawn(async move {
                    for call in 0..20 {
                        let text_sent = format!("{caller} {call}");
                        let upload = Upload::replayable(text(text_sent.clone())).0;
                        let answer = world.call(&hop, post("/echo", upload)).await.unwrap();
                        assert_eq!(answer.body, text_sent);
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
        assert_eq!(server.seen().len(), 320);
        assert!(server.count() <= most, "{protocol:?}: {}", server.count());
    }
}

#[tokio::test]
async fn after_a_sleep_a_shared_connection_with_requests_in_hand_takes_no_more() {
    for set_back in [false, true] {
        let world = Arc::new(World::new());
        let server = server(&world, Protocol::Http2).await;
        let hop = world.hop(server.address, Protocol::Http2);
        let held = {
            let (world, hop) = (Arc::clone(&world), hop.clone());
            tokio::spawn(async move { world.get(&hop, "/wait").await.unwrap() })
        };
        server.has_seen(1).await;
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.used(), [1, 1], "until then it is shared");
        world.upstream.thawed(set_back);
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.used(), [1, 1, 2], "{set_back}");
        // What is in hand is not lost.
        server.release.add_permits(1);
        assert_eq!(held.await.unwrap().status, 200);
        world.get(&hop, "/").await.unwrap();
        assert_eq!(server.used(), [1, 1, 2, 2], "{set_back}");
    }
}
