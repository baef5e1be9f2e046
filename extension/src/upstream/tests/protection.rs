//! Who is talked to, and how that is proven.

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use traffic::table::Simple;

use super::super::*;
use super::world::*;

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::Http2];

fn with_tls(hop: &Hop, tls: Tls) -> Hop {
    let cluster = Cluster { tls, ..Cluster::clone(&hop.cluster) };
    Hop { cluster: Arc::new(cluster), credentials: None, ..hop.clone() }
}

#[tokio::test]
async fn without_an_identity_nothing_is_sent_to_the_mesh() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.server(RATINGS)), protocol == Protocol::Http2).await;
        let mut hop = world.hop(server.address, protocol);
        hop.credentials = None;
        let failed = world.get(&hop, "/").await.unwrap_err();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Local, Reason::IdentityUnavailable));
        assert!(failed.unsent.is_some());
        assert!(world.upstream.tunnel(&hop).await.is_err());
        assert!(world.upstream.upgrade(&hop, get("/")).await.is_err());
        assert_eq!(server.count(), 0);
    }
}

#[tokio::test]
async fn another_server_than_the_expected_one_gets_nothing() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.server(REVIEWS)), protocol == Protocol::Http2).await;
        let failed = world.get(&world.hop(server.address, protocol), "/").await.unwrap_err();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Tls, Reason::PeerIdentityMismatch));
        assert!(failed.unsent.is_some());
        let stranger = Server::start(Some(Mesh::new().server(RATINGS)), protocol == Protocol::Http2).await;
        let failed = world.get(&world.hop(stranger.address, protocol), "/").await.unwrap_err();
        assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Tls, Reason::TlsFailed));
        assert!(server.seen().is_empty() && stranger.seen().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_a_tls_failure() {
    for protocol in BOTH {
        let world = World::new();
        let other = Mesh::new().bundle();
        let config = identity::tls::server_config(&world.mesh.svid(RATINGS), &other, &[]).unwrap();
        let server = Server::start(Some(config), protocol == Protocol::Http2).await;
        let failed = world.get(&world.hop(server.address, protocol), "/").await.unwrap_err();
        assert_eq!(failed.kind, FailedKind::Tls, "{protocol:?} {}", failed.refusal.detail);
        assert_eq!(failed.refusal.reason, Reason::TlsFailed);
        assert!(failed.refusal.detail.contains("refused our certificate"), "{}", failed.refusal.detail);
    }
}

#[tokio::test]
async fn plaintext_is_spoken_only_where_the_cluster_says_so() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(None, protocol == Protocol::Http2).await;
        let mesh = world.hop(server.address, protocol);
        assert_eq!(world.get(&mesh, "/").await.unwrap_err().kind, FailedKind::Tls);
        assert!(server.seen().is_empty());
        let plain = with_tls(&mesh, Tls::Plaintext);
        let answer = world.get(&plain, "/").await.unwrap();
        assert_eq!((answer.status, answer.peer), (200, None));
    }
}

#[tokio::test]
async fn a_plaintext_server_never_sees_a_request_for_the_mesh() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut received = Vec::new();
        let mut part = [0; 4_096];
        let read = stream.read(&mut part).await.unwrap();
        received.extend_from_slice(&part[..read]);
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut received).await;
        received
    });
    assert_eq!(world.get(&world.hop(address, Protocol::Http1), "/secret").await.unwrap_err().kind, FailedKind::Tls);
    let received = server.await.unwrap();
    assert_eq!(received[0], 0x16, "a TLS handshake record");
    assert!(!received.windows(7).any(|bytes| bytes == b"/secret"));
}

#[tokio::test]
async fn outside_of_the_mesh_the_servers_name_counts() {
    let world = World::new();
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), &world.mesh.root).unwrap();
    let roots = roots.path().to_str().unwrap();
    for protocol in BOTH {
        let alpn = if protocol == Protocol::Http2 { "h2" } else { "http/1.1" };
        let config = world.mesh.outside("a.example", &[alpn]);
        let server = Server::start(Some(config), protocol == Protocol::Http2).await;
        let simple = |sni: &str, names: &[&str], roots: &str| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let tls = Tls::Simple(Simple { sni: sni.to_owned(), names, roots: roots.to_owned() });
            let mut hop = with_tls(&world.hop(server.address, protocol), tls);
            hop.server_name = "a.example".to_owned();
            hop
        };
        // A cluster of its own each: the configurations are kept.
        for (index, (hop, good)) in [
            (simple("", &[], roots), true),
            (simple("a.example", &[], roots), true),
            (simple("b.example", &[], roots), false),
            (simple("b.example", &["c.example", "a.example"], roots), true),
            (simple("a.example", &["c.example"], roots), false),
            (simple("", &[], ""), false),
        ]
        .into_iter()
        .enumerate()
        {
            let mut hop = hop;
            hop.index = u32::try_from(index).unwrap();
            match world.get(&hop, "/").await {
                Ok(answer) => assert!(good && answer.peer.is_none(), "{index}"),
                Err(failed) => {
                    assert!(!good, "{index}: {}", failed.refusal.detail);
                    assert_eq!(failed.kind, FailedKind::Tls, "{index}");
                }
            }
        }
        for seen in server.seen() {
            assert_eq!(seen.client, None, "our certificate is for the mesh alone");
            let scheme_seen = protocol == Protocol::Http1 || seen.uri.starts_with("https://");
            assert!(scheme_seen, "{}", seen.uri);
        }
        assert_eq!(server.hellos()[0].1.as_deref(), Some(alpn));
    }
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_not_the_endpoints_fault() {
    for protocol in BOTH {
        let world = World::new();
        let server = Server::start(Some(world.mesh.outside("a.example", &[])), protocol == Protocol::Http2).await;
        let simple = |sni: &str, roots: &str| {
            let tls = Tls::Simple(Simple { sni: sni.to_owned(), names: vec![], roots: roots.to_owned() });
            with_tls(&world.hop(server.address, protocol), tls)
        };
        let not_pem = tempfile::NamedTempFile::new().unwrap();
        for hop in [
            simple("a.example", "/nowhere/roots.pem"),
            simple("a.example", not_pem.path().to_str().unwrap()),
            simple("a b", ""),
        ] {
            let failed = world.get(&hop, "/").await.unwrap_err();
            assert_eq!((failed.kind, failed.refusal.reason), (FailedKind::Local, Reason::ConfigurationInvalid));
            assert!(failed.unsent.is_some());
        }
        assert_eq!(server.count(), 0);
    }
}

#[tokio::test]
async fn roots_that_are_renewed_count_for_the_next_connection() {
    let world = World::new();
    let server = Server::start(Some(world.mesh.outside("a.example", &["http/1.1"])), false).await;
    let roots = tempfile::NamedTempFile::new().unwrap();
    let path = roots.path().to_str().unwrap().to_owned();
    let pool = Pool { max_requests_per_connection: 1, ..Pool::default() };
    let tls = Tls::Simple(Simple { sni: "a.example".to_owned(), names: vec![], roots: path.clone() });
    let hop = with_tls(&world.limited(server.address, Protocol::Http1, pool), tls);
    let renewed = |root: &str| {
        // As a renewal does it: another file takes the name.
        let next = tempfile::NamedTempFile::new_in(roots.path().parent().unwrap()).unwrap();
        std::fs::write(next.path(), root).unwrap();
        next.persist(&path).unwrap();
    };
    renewed(&Mesh::new().root);
    assert_eq!(world.get(&hop, "/").await.unwrap_err().kind, FailedKind::Tls);
    renewed(&world.mesh.root);
    assert_eq!(world.get(&hop, "/").await.unwrap().status, 200);
    renewed(&Mesh::new().root);
    assert_eq!(world.get(&hop, "/").await.unwrap_err().kind, FailedKind::Tls);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(world.get(&hop, "/").await.unwrap_err().kind, FailedKind::Local, "what is gone is not trusted");
}
