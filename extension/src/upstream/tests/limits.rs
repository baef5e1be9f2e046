//! Istio's connection pool limits, at the bound and one past it.

use super::super::*;
use super::world::*;

async fn start(world: &World, protocol: Protocol) -> Server {
    Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await
}

fn call(world: &Arc<World>, hop: &Hop, path: &'static str) -> tokio::task::JoinHandle<Result<Answer, Failed>> {
    let (world, hop) = (Arc::clone(world), hop.clone());
    tokio::spawn(async move { world.get(&hop, path).await })
}

#[tokio::test]
async fn requests_at_a_time() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let world = Arc::new(World::new());
        let server = start(&world, protocol).await;
        let hop = world.limited(server.address, protocol, Pool { max_requests: 2, ..Pool::default() });
        let held = [call(&world, &hop, "/wait"), call(&world, &hop, "/wait")];
        server.has_seen(2).await;
        let failed = world.get(&hop, "/").await.unwrap_err();
        assert_eq!((failed.kind, failed.unsent.is_some()), (FailedKind::Overflow, true));
        assert!(failed.refusal.detail.contains("http2MaxRequests"), "{}", failed.refusal.detail);
        server.release.add_permits(2);
        for call in held {
            call.await.unwrap().unwrap();
        }
        world.get(&hop, "/").await.unwrap();
        // An answer that is not read to its end gives its place back too, and so does one that is not waited for.
        drop(world.send_once(&hop, get("/part")).await.unwrap());
        let waiting = call(&world, &hop, "/never");
        server.has_seen(5).await;
        waiting.abort();
        assert!(waiting.await.is_err());
        let held = [call(&world, &hop, "/wait"), call(&world, &hop, "/wait")];
        server.has_seen(7).await;
        server.release.add_permits(2);
        for call in held {
            call.await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn connections_and_those_who_wait_for_one() {
    let world = Arc::new(World::new());
    let server = start(&world, Protocol::Http1).await;
    let pool = Pool { max_connections: 1, max_pending: 1, ..Pool::default() };
    let hop = world.limited(server.address, Protocol::Http1, pool);
    let first = call(&world, &hop, "/wait");
    server.has_seen(1).await;
    let second = call(&world, &hop, "/2");
    // One waits; the next one may not.
    let service = world.upstream.pools.service(0);
    until(|| service.queue(1).is_none()).await;
    let failed = world.get(&hop, "/3").await.unwrap_err();
    assert_eq!((failed.kind, failed.unsent.is_some()), (FailedKind::Overflow, true));
    assert!(failed.refusal.detail.contains("http1MaxPendingRequests"), "{}", failed.refusal.detail);
    server.release.add_permits(1);
    first.await.unwrap().unwrap();
    let second = second.await.unwrap().unwrap();
    assert!(second.reused);
    assert_eq!((server.used(), server.count()), (vec![1, 1], 1));

    // Another endpoint of the cluster gets its one connection, or its requests would wait forever.
    let other = start(&world, Protocol::Http1).await;
    let mut hop = hop;
    hop.address = other.address;
    world.get(&hop, "/").await.unwrap();
}

#[tokio::test]
async fn whoever_waits_gets_the_place_of_a_connection_that_ends() {
    let world = Arc::new(World::new());
    let server = start(&world, Protocol::Http1).await;
    let pool = Pool { max_connections: 1, ..Pool::default() };
    let hop = world.limited(server.address, Protocol::Http1, pool);
    let first = call(&world, &hop, "/never");
    server.has_seen(1).await;
    let second = call(&world, &hop, "/2");
    let service = world.upstream.pools.service(0);
    until(|| service.queue(1).is_none()).await;
    first.abort();
    assert!(!second.await.unwrap().unwrap().reused);
    assert_eq!(server.used(), [1, 2]);
}

#[tokio::test]
async fn an_idle_connection_that_a_request_may_not_take_makes_room_for_another() {
    let world = World::new();
    let server = start(&world, Protocol::Http1).await;
    let pool = Pool { max_connections: 1, ..Pool::default() };
    let hop = world.limited(server.address, Protocol::Http1, pool);
    world.get(&hop, "/").await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    world.call(&hop, post("/", Upload::Empty)).await.unwrap();
    assert_eq!(server.used(), [1, 2]);
}

#[tokio::test]
async fn waiting_for_a_connection_ends() {
    let world = Arc::new(World::with(Duration::from_millis(200)));
    let server = start(&world, Protocol::Http1).await;
    let pool = Pool { max_connections: 1, ..Pool::default() };
    let hop = world.limited(server.address, Protocol::Http1, pool);
    // An answer that nobody reads holds its connection.
    let held = world.send_once(&hop, get("/part")).await.unwrap();
    let failed = world.get(&hop, "/").await.unwrap_err();
    assert_eq!((failed.kind, failed.unsent.is_some()), (FailedKind::Local, true));
    assert!(failed.refusal.detail.contains("became free"), "{}", failed.refusal.detail);
    drop(held);
}

#[tokio::test]
async fn requests_of_one_connection() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        for (most, expected) in [(1, [1, 2, 3, 4]), (2, [1, 1, 2, 2]), (0, [1, 1, 1, 1])] {
            let world = World::new();
            let server = start(&world, protocol).await;
            let pool = Pool { max_requests_per_connection: most, ..Pool::default() };
            let hop = world.limited(server.address, protocol, pool);
            for _ in 0..4 {
                world.get(&hop, "/").await.unwrap();
            }
            assert_eq!(server.used(), expected, "{protocol:?} {most}");
        }
    }
}

#[tokio::test]
async fn streams_of_one_connection_as_configured() {
    let world = Arc::new(World::new());
    let server = start(&world, Protocol::Http2).await;
    let pool = Pool { max_concurrent_streams: 2, ..Pool::default() };
    let hop = world.limited(server.address, Protocol::Http2, pool);
    let calls: Vec<_> = (0..3).map(|_| call(&world, &hop, "/wait")).collect();
    server.has_seen(3).await;
    let mut used = server.used();
    used.sort_unstable();
    assert_eq!(used, [1, 1, 2]);
    server.release.add_permits(3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    world.get(&hop, "/").await.unwrap();
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn streams_of_one_connection_as_the_servers_settings_say() {
    let world = Arc::new(World::new());
    let config = Some(world.mesh.server(RATINGS));
    let server = Server::with_streams(config, true, Some(1)).await;
    let hop = world.hop(server.address, Protocol::Http2);
    // The first answer brings the SETTINGS with it.
    world.get(&hop, "/").await.unwrap();
    let calls: Vec<_> = (0..2).map(|_| call(&world, &hop, "/wait")).collect();
    server.has_seen(3).await;
    assert_eq!(server.count(), 2);
    server.release.add_permits(2);
    for call in calls {
        call.await.unwrap().unwrap();
    }
}
