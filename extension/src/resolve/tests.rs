use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use platform::clock::FixedClock;
use tokio::sync::Semaphore;
use traffic::table::Endpoint;

use super::*;

/// Answers what it is told to, as often as it has permits; for names with `slow` in them never.
struct Names {
    calls: AtomicUsize,
    permits: Semaphore,
    answer: Mutex<Result<Vec<IpAddr>, String>>,
}

struct Stub(Arc<Names>);

impl Lookup for Stub {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let names = Arc::clone(&self.0);
        Box::pin(async move {
            names.calls.fetch_add(1, Ordering::SeqCst);
            if name.contains("slow") {
                std::future::pending::<()>().await;
            }
            names.permits.acquire().await.unwrap().forget();
            names.answer.lock().unwrap().clone().map_err(std::io::Error::other)
        })
    }
}

struct Stage {
    resolver: Arc<Resolver>,
    names: Arc<Names>,
    clock: Arc<FixedClock>,
    clusters: Mutex<Vec<String>>,
}

impl Stage {
    fn new(permits: usize, addresses: &[&str]) -> Stage {
        Stage::beside(&[], permits, addresses)
    }

    /// With these addresses and names in the mesh.
    fn beside(mesh: &[&str], permits: usize, addresses: &[&str]) -> Stage {
        let names = Arc::new(Names {
            calls: AtomicUsize::new(0),
            permits: Semaphore::new(permits),
            answer: Mutex::new(Ok(parsed(addresses))),
        });
        let clock = Arc::new(FixedClock::at(1_000));
        let led = ConnectTo { host: "led.example".into(), port: 80, address: "127.0.0.1:4000".parse().unwrap() };
        let api = Some("192.0.100.1:9001".to_owned());
        let lookup = Arc::new(Stub(Arc::clone(&names)));
        let resolver = Resolver::with(vec![led], api, Belongs::listed(mesh), clock.clone() as Arc<dyn Clock>, lookup);
        Stage { resolver, names, clock, clusters: Mutex::default() }
    }

    fn calls(&self) -> usize {
        self.names.calls.load(Ordering::SeqCst)
    }

    fn answers(&self, answer: Result<&[&str], &str>) {
        *self.names.answer.lock().unwrap() = answer.map(parsed).map_err(str::to_owned);
    }

    async fn endpoints(&self, cluster: &Cluster) -> Result<Arc<Addresses>, Refusal> {
        self.resolver.endpoints(self.index(&cluster.name), cluster).await
    }

    /// Each name has a place of its own.
    fn index(&self, name: &str) -> u32 {
        let mut names = self.clusters.lock().unwrap();
        let index = names.iter().position(|known| known == name).unwrap_or(names.len());
        if index == names.len() {
            names.push(name.to_owned());
        }
        u32::try_from(index).unwrap()
    }

    async fn get(&self, cluster: &Cluster) -> Result<Vec<String>, String> {
        let found = self.endpoints(cluster).await.map_err(|refusal| refusal.detail)?;
        Ok(found.0.iter().map(|found| format!("{} {}", found.endpoint, found.address)).collect())
    }

    /// Returns when so many look-ups have ended.
    async fn settle(&self, calls: u64) {
        while self.resolver.cache.version() < calls {
            tokio::task::yield_now().await;
        }
    }
}

fn parsed(addresses: &[&str]) -> Vec<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn cluster(resolution: Resolution, endpoints: &[(&str, u16)]) -> Cluster {
    let endpoint = |(address, port): &(&str, u16)| Endpoint {
        address: (*address).to_owned(),
        port: *port,
        weight: 1,
        ..Endpoint::default()
    };
    Cluster {
        name: format!("{resolution:?} {endpoints:?}"),
        resolution,
        endpoints: endpoints.iter().map(endpoint).collect(),
        ..Cluster::default()
    }
}

#[tokio::test]
async fn addresses_are_not_looked_up() {
    let stage = Stage::new(0, &[]);
    let static_one = cluster(Resolution::Static, &[("10.0.0.1", 80), ("fd00::1", 81), ("led.example", 80)]);
    let expected = ["0 10.0.0.1:80", "1 [fd00::1]:81", "2 127.0.0.1:4000"];
    assert_eq!(stage.get(&static_one).await.unwrap(), expected);
    let again = stage.endpoints(&static_one).await.unwrap();
    assert!(Arc::ptr_eq(&again, &stage.endpoints(&static_one).await.unwrap()));
    assert_eq!(stage.calls(), 0);
}

#[tokio::test]
async fn every_address_of_a_name_is_an_endpoint_and_the_first_one_of_a_logical_one() {
    let stage = Stage::new(9, &["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80", "0 10.0.0.2:80"]);
    let first = stage.endpoints(&strict).await.unwrap();
    // Another order is no change.
    stage.answers(Ok(&["10.0.0.1", "10.0.0.2"]));
    stage.clock.advance(Duration::from_secs(6));
    stage.get(&strict).await.unwrap();
    stage.settle(2).await;
    assert!(Arc::ptr_eq(&first, &stage.endpoints(&strict).await.unwrap()));

    let logical = cluster(Resolution::LogicalDns, &[("a.example", 80)]);
    assert_eq!(stage.get(&logical).await.unwrap(), ["0 10.0.0.1:80"]);
}

#[tokio::test(start_paused = true)]
async fn one_look_up_serves_all_who_wait() {
    let stage = Stage::new(0, &["10.0.0.1"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    let release = async { stage.names.permits.add_permits(1) };
    let (a, b, ()) = tokio::join!(stage.get(&strict), stage.get(&strict), release);
    assert_eq!((a.unwrap().len(), b.unwrap().len(), stage.calls()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn old_addresses_serve_while_the_look_up_runs_and_for_a_while_when_it_fails() {
    let stage = Stage::new(1, &["10.0.0.1"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80"]);
    stage.clock.advance(Duration::from_secs(5));
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80"]);
    assert_eq!(stage.calls(), 1, "not due yet");

    stage.answers(Ok(&["10.0.0.2"]));
    stage.clock.advance(Duration::from_secs(1));
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80"], "due, and not waited for");
    stage.names.permits.add_permits(1);
    stage.settle(2).await;
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.2:80"]);

    // A freeze of ten minutes, and the name service is down.
    stage.answers(Err("name service down"));
    stage.names.permits.add_permits(100);
    stage.clock.advance(Duration::from_secs(600));
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.2:80"]);
    stage.clock.advance(Duration::from_secs(2));
    let error = stage.get(&strict).await.unwrap_err();
    assert!(error.contains("name service down") && error.contains("a.example:80"), "{error}");
    let calls = stage.calls();
    stage.get(&strict).await.unwrap_err();
    assert_eq!(stage.calls(), calls, "not asked again at once");
}

#[tokio::test(start_paused = true)]
async fn a_name_service_that_is_silent_is_not_waited_for_long() {
    let stage = Stage::new(0, &["10.0.0.1"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    let begin = tokio::time::Instant::now();
    let error = stage.get(&strict).await.unwrap_err();
    assert!(error.contains("no answer from the name service"), "{error}");
    assert_eq!(begin.elapsed(), Duration::from_secs(2));
}

#[tokio::test]
async fn one_name_without_an_address_does_not_take_the_others_away() {
    let stage = Stage::new(9, &[]);
    let mixed = cluster(Resolution::StrictDns, &[("gone.example", 80), ("10.0.0.7", 80)]);
    assert_eq!(stage.get(&mixed).await.unwrap(), ["1 10.0.0.7:80"]);
    let gone = cluster(Resolution::StrictDns, &[("gone.example", 80)]);
    assert!(stage.get(&gone).await.unwrap_err().contains("no address"));
}

#[tokio::test]
async fn the_number_of_names_has_a_bound() {
    let stage = Stage::new(10_000, &["10.0.0.1"]);
    for number in 0..1_100 {
        let strict = cluster(Resolution::StrictDns, &[(&format!("n{number}.example"), 80)]);
        stage.get(&strict).await.unwrap();
        stage.clock.advance(Duration::from_millis(1));
    }
    // The first one is gone, and the last one there.
    let calls = stage.calls();
    stage.get(&cluster(Resolution::StrictDns, &[("n1099.example", 80)])).await.unwrap();
    assert_eq!(stage.calls(), calls);
    stage.get(&cluster(Resolution::StrictDns, &[("n0.example", 80)])).await.unwrap();
    assert_eq!(stage.calls(), calls + 1);
}

#[tokio::test]
async fn a_host_of_the_client_leads_to_no_local_service() {
    for host in [
        "127.0.0.1",
        "127.8.8.8",
        "169.254.169.254",
        "169.254.100.1",
        "0.0.0.0",
        "[::1]",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fe80::1",
        "fd00:ec2::254",
        "224.0.0.1",
        "192.0.100.1",
    ] {
        let stage = Stage::new(0, &[]);
        let refusal = stage.resolver.original(host, 80, false).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::DestinationForbidden, "{host}");
        assert!(refusal.detail.contains("not for proxied calls"), "{host}: {}", refusal.detail);
    }
    // A name that leads there (DNS rebinding): only the other addresses are left.
    let stage = Stage::new(9, &["169.254.169.254", "93.184.215.14", "10.1.2.3"]);
    let found = stage.resolver.original("Rebound.example.", 443, false).await.unwrap();
    let found: Vec<String> = found.0.iter().map(|found| found.address.to_string()).collect();
    assert_eq!(found, ["10.1.2.3:443", "93.184.215.14:443"]);
    let stage = Stage::new(9, &["127.0.0.1"]);
    assert!(stage.resolver.original("rebound.example", 443, false).await.is_err());
    // The operator's own exception, for local stacks.
    assert!(stage.resolver.original("led.example", 80, false).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_name_service_costs_nothing_while_there_are_old_addresses() {
    let stage = Stage::new(1, &["10.0.0.1"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    stage.get(&strict).await.unwrap();
    // A freeze, and no answer any more.
    stage.clock.advance(Duration::from_secs(300));
    let begin = tokio::time::Instant::now();
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80"]);
    assert_eq!(begin.elapsed(), Duration::from_millis(250), "the first one waits a moment");
    for _ in 0..100 {
        stage.clock.advance(Duration::from_secs(2));
        stage.get(&strict).await.unwrap();
    }
    assert_eq!(begin.elapsed(), Duration::from_millis(250), "the others do not");
    stage.clock.advance(Duration::from_secs(600));
    assert!(stage.get(&strict).await.is_err(), "too old");
}

#[tokio::test(start_paused = true)]
async fn a_look_up_that_never_ends_is_given_up_and_begun_again() {
    let stage = Stage::new(0, &["10.0.0.1"]);
    let strict = cluster(Resolution::StrictDns, &[("a.example", 80)]);
    stage.get(&strict).await.unwrap_err();
    let begin = tokio::time::Instant::now();
    stage.clock.advance(Duration::from_secs(3));
    let error = stage.get(&strict).await.unwrap_err();
    assert!(error.contains("no answer") && begin.elapsed().is_zero(), "nobody waits for it again: {error}");
    tokio::time::advance(Duration::from_secs(10)).await;
    stage.clock.advance(Duration::from_secs(10));
    stage.settle(1).await;
    stage.clock.advance(Duration::from_secs(2));
    stage.names.permits.add_permits(1);
    assert_eq!(stage.get(&strict).await.unwrap(), ["0 10.0.0.1:80"]);
    assert_eq!(stage.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_name_without_an_answer_does_not_hold_up_the_others() {
    let stage = Stage::new(9, &["10.0.0.1"]);
    let mixed = cluster(Resolution::StrictDns, &[("slow.example", 80), ("a.example", 80), ("10.0.0.7", 80)]);
    let begin = tokio::time::Instant::now();
    assert_eq!(stage.get(&mixed).await.unwrap(), ["1 10.0.0.1:80", "2 10.0.0.7:80"]);
    assert_eq!(begin.elapsed(), Duration::from_millis(250));
    for _ in 0..5 {
        stage.clock.advance(Duration::from_millis(1_500));
        stage.get(&mixed).await.unwrap();
    }
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_name_outside_of_the_mesh_leads_to_no_local_service() {
    let addresses = [
        "169.254.169.254",
        "127.0.0.1",
        "192.0.100.1",
        "64:ff9b::7f00:1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::192.0.100.1",
        "10.1.2.3",
    ];
    let outside = cluster(Resolution::StrictDns, &[("api.example", 443)]);
    assert_eq!(Stage::new(9, &addresses).get(&outside).await.unwrap(), ["0 10.1.2.3:443"]);
    for address in &addresses[..addresses.len() - 1] {
        let refusal = Stage::new(9, &[address]).endpoints(&outside).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::DestinationForbidden, "{address}");
        assert!(refusal.detail.contains("api.example"), "{}", refusal.detail);
    }
    // What the operator has written himself, and what proves who it is.
    for name in ["localhost", "127.0.0.1", "db.localhost"] {
        let given = cluster(Resolution::StrictDns, &[(name, 443)]);
        assert_eq!(Stage::new(9, &["127.0.0.1"]).get(&given).await.unwrap(), ["0 127.0.0.1:443"]);
    }
    let mesh = Cluster { tls: Tls::IstioMutual(traffic::table::IstioMutual::default()), ..outside };
    assert_eq!(Stage::new(9, &["127.0.0.1"]).get(&mesh).await.unwrap(), ["0 127.0.0.1:443"]);
}

#[tokio::test]
async fn names_have_a_longest() {
    let stage = Stage::new(9, &["10.0.0.1"]);
    let named = |length: usize| cluster(Resolution::StrictDns, &[("a".repeat(length).as_str(), 80)]);
    assert!(stage.get(&named(253)).await.is_ok());
    let error = stage.get(&named(254)).await.unwrap_err();
    assert!(error.contains("254 bytes"), "{error}");
    assert_eq!(stage.calls(), 1, "nothing is asked or kept");
}

#[tokio::test]
async fn no_name_outside_leads_to_the_mesh_in_the_clear() {
    let mesh = ["10.1.2.3", "fd00::7", "ratings.mesh.example", "VM.mesh.example", "*.wild.mesh.example"];
    let stage = |addresses: &[&str]| Stage::beside(&mesh, 9, addresses);
    for address in [
        "10.1.2.3",
        "fd00::7",
        "::ffff:10.1.2.3",
        "::10.1.2.3",
        "::ffff:0:10.1.2.3",
        "64:ff9b::10.1.2.3",
        "2002:a01:203::1",
    ] {
        let refusal = stage(&[address]).resolver.original("other.example", 80, false).await.unwrap_err();
        assert_eq!(refusal.reason, Reason::DestinationForbidden, "{address}");
        assert!(refusal.detail.contains("an address of the mesh"), "{}", refusal.detail);
    }
    // Where in a network's own NAT64 the address is, nobody here can know: nothing goes there.
    for address in ["64:ff9b:1::10.1.2.3", "64:ff9b:1:a01:2:300::", "64:ff9b:1:a01:2:300:909:909"] {
        for named in [false, true] {
            let refusal = stage(&[address]).resolver.original("other.example", 80, named).await.unwrap_err();
            assert_eq!(refusal.reason, Reason::DestinationForbidden, "{address}");
        }
    }
    // The same as the client's own words, and an endpoint that the configuration spells so.
    assert!(stage(&[]).resolver.original("[64:ff9b::a01:203]", 80, false).await.is_err());
    let spelt = Stage::beside(&["64:ff9b::a01:203"], 9, &["10.1.2.3"]);
    assert!(spelt.resolver.original("other.example", 80, false).await.is_err());
    // The other addresses are left; and a host that the operator has named is his.
    let found = stage(&["10.1.2.3", "10.1.2.4"]).resolver.original("other.example", 80, false).await.unwrap();
    assert_eq!(found.0.len(), 1);
    assert_eq!(found.0[0].address.to_string(), "10.1.2.4:80");
    assert!(stage(&["10.1.2.3"]).resolver.original("other.example", 443, true).await.is_ok());

    // An endpoint that the mesh knows by its name, once that was looked up.
    let stage = stage(&["10.9.9.9"]);
    assert!(stage.resolver.original("other.example", 80, false).await.is_ok());
    stage.endpoints(&cluster(Resolution::StrictDns, &[("vm.mesh.example", 80)])).await.unwrap();
    let refusal = stage.resolver.original("other.example", 80, false).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::DestinationForbidden);
    // One of a wildcard of the mesh.
    let stage = Stage::beside(&mesh, 9, &["10.9.9.9"]);
    stage.endpoints(&cluster(Resolution::StrictDns, &[("a.wild.mesh.example", 80)])).await.unwrap();
    assert!(stage.resolver.original("other.example", 80, false).await.is_err());
    // One that is no endpoint changes nothing.
    let stage = Stage::beside(&mesh, 9, &["10.9.9.9"]);
    stage.endpoints(&cluster(Resolution::StrictDns, &[("partner.example", 80)])).await.unwrap();
    assert!(stage.resolver.original("other.example", 80, false).await.is_ok());
}

#[tokio::test]
async fn an_address_that_a_name_of_the_mesh_had_is_the_mesh_s_for_a_time() {
    let mesh = ["vm.mesh.example", "*.wild.mesh.example"];
    for name in ["vm.mesh.example", "a.wild.mesh.example"] {
        let stage = Stage::beside(&mesh, 99, &["10.9.9.1", "10.9.9.2"]);
        let vm = cluster(Resolution::StrictDns, &[(name, 80)]);
        stage.endpoints(&vm).await.unwrap();
        // It turns round, and moves at last.
        for (calls, answer) in [(2, ["10.9.9.3"]), (3, ["10.9.9.1"]), (4, ["10.9.9.4"])] {
            stage.answers(Ok(&answer));
            stage.clock.advance(Duration::from_secs(6));
            stage.get(&vm).await.unwrap();
            stage.settle(calls).await;
        }
        let passes = |host: &'static str, address: &'static str| {
            stage.answers(Ok(&[address]));
            stage.resolver.original(host, 80, false)
        };
        for (host, address) in [("a.example", "10.9.9.1"), ("b.example", "10.9.9.2"), ("c.example", "10.9.9.4")] {
            assert!(passes(host, address).await.is_err(), "{name} {address}");
        }
        assert!(passes("d.example", "64:ff9b::10.9.9.3").await.is_err());
        assert!(passes("e.example", "10.9.9.5").await.is_ok());
        stage.clock.advance(earlier::KEPT + Duration::from_secs(60));
        assert!(passes("f.example", "10.9.9.1").await.is_ok(), "of an earlier answer for long");
        assert!(passes("g.example", "10.9.9.4").await.is_err(), "nothing newer is known");
    }
}

#[tokio::test]
async fn addresses_are_kept_of_names_of_the_mesh_alone_once_these_are_known() {
    let stage = Stage::beside(&["vm.mesh.example"], usize::MAX >> 4, &["10.9.9.1"]);
    let mut looked_up = 0;
    // As a named host, which does not ask what is of the mesh.
    let mut turn = async |host: &'static str, addresses: [&str; 2]| {
        for address in addresses {
            stage.answers(Ok(&[address]));
            stage.clock.advance(Duration::from_secs(6));
            stage.resolver.original(host, 80, true).await.unwrap();
            looked_up += 1;
            stage.settle(looked_up).await;
        }
        looked_up
    };
    turn("vm.mesh.example", ["10.9.9.1", "10.9.9.2"]).await;
    turn("a.example", ["10.8.8.1", "10.8.8.2"]).await;
    let kept = |host: &str| stage.resolver.cache.kept(host);
    assert_eq!((kept("vm.mesh.example"), kept("a.example")), (2, 2), "before anybody knows");
    assert!(!stage.resolver.cache.is_of_mesh("10.8.8.1".parse().unwrap()));
    turn("vm.mesh.example", ["10.9.9.3", "10.9.9.4"]).await;
    turn("a.example", ["10.8.8.3", "10.8.8.4"]).await;
    assert_eq!((kept("vm.mesh.example"), kept("a.example")), (4, 0));
}

#[tokio::test]
async fn names_without_an_answer_or_outside_displace_none_of_the_mesh() {
    let stage = Stage::beside(&["vm.mesh.example", "*.wild.mesh.example"], usize::MAX >> 4, &["10.9.9.1"]);
    stage.endpoints(&cluster(Resolution::StrictDns, &[("vm.mesh.example", 80)])).await.unwrap();
    // More of them than names are kept.
    stage.answers(Err("no such host"));
    for number in 0..1_100 {
        stage.clock.advance(Duration::from_millis(1));
        stage.resolver.original(&format!("host{number}.wild.mesh.example"), 80, true).await.unwrap_err();
    }
    stage.answers(Ok(&["10.8.8.1"]));
    for number in 0..1_100 {
        stage.resolver.original(&format!("host{number}.example"), 80, false).await.unwrap();
    }
    stage.answers(Ok(&["10.9.9.1"]));
    assert!(stage.resolver.original("c.example", 80, false).await.is_err());
}
