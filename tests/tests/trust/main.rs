//! Trust between legacy and mesh: intermediates of one root, trust domains that are each other's aliases, and
//! federation by the issuer's bundle endpoint. The mesh is real Envoy as istiod configures it.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod authority;
mod federation;
#[path = "../sidecars/mod.rs"]
mod sidecars;
mod world;

use authority::{Intermediate, Root};
use e2e::doors::Doors;
use e2e::{program, tier, tool};
use sidecars::{text, trusting};
use world::{Legacy, Mesh, billing_at, documents};

type Outcome = Result<(), String>;

const MESH: &str = "cluster.local";
const LEGACY: &str = "legacy.example";
const REFUSED: (u16, Option<&str>) = (503, Some("tls_failed"));

fn available() -> bool {
    tier::available(&[&tool("envoy"), &program("extension")])
}

fn id(domain: &str, name: &str) -> String {
    format!("spiffe://{domain}/ns/shop/sa/{name}")
}

/// A status, and the reason where it is a sidecar's own answer.
fn is(outcome: &(u16, Option<String>), expected: (u16, Option<&str>)) -> bool {
    (outcome.0, outcome.1.as_deref()) == expected
}

/// One root, which both sides have, and an intermediate for each: nothing else is configured.
#[tokio::test(flavor = "multi_thread")]
async fn intermediates_of_one_root_believe_each_other() -> Outcome {
    if !available() {
        return Ok(());
    }
    let (root, rsa) = (Root::new("mesh root")?, Root::of("mesh root", &rcgen::PKCS_RSA_SHA256)?);
    let (ours, istiods) = (root.intermediate("Causeway issuer")?, root.intermediate("istiod")?);
    under_one_root(&root, &ours, &istiods, 1).await?;
    let (ours, istiods) =
        (rsa.intermediate("PKI engine")?.intermediate("Causeway issuer")?, rsa.intermediate("istiod")?);
    under_one_root(&rsa, &ours, &istiods, 2).await
}

async fn under_one_root(root: &Root, ours: &Intermediate, istiods: &Intermediate, depth: usize) -> Outcome {
    let doors = Doors::open(MESH, &ours.cacerts(), "shop", &["orders"]).await?;
    // The chain that goes over the wire leads to the root, without it; the root is all that is trusted.
    let workload = doors.workload("orders").await?;
    assert_eq!(workload.chain.matches("BEGIN CERTIFICATE").count(), 1 + depth);
    let tight = |pem: &str| pem.split_whitespace().collect::<String>();
    assert!(tight(&workload.chain).ends_with(&tight(ours.chain())));
    assert_eq!(tight(&workload.roots), tight(&root.pem));

    let yaml = documents(MESH, &[], MESH);
    let folder = tempfile::tempdir().map_err(text)?;
    let billing = istiods.workload(&id(MESH, "billing"))?;
    let mesh = Mesh::start(folder.path(), &billing, &yaml, |roots| trusting(roots, &[MESH])).await?;
    let expected = id(MESH, "billing");
    let legacy = format!("{yaml}{}", billing_at(mesh.billing.address.port(), &expected));
    let legacy = Legacy::start(folder.path(), &doors, &legacy).await?;
    let answer = legacy.calls().await?;
    assert_eq!(answer.status, 200, "{} {:?}", answer.body, legacy.sidecar.process.lines());
    assert_eq!(Mesh::caller(&answer), id(MESH, "orders"));
    let answer = mesh.calls(folder.path(), &legacy, &id(MESH, "orders")).await?;
    assert_eq!((answer.status, Mesh::caller(&answer)), (200, expected.clone()), "{}", answer.body);

    // The same names by another root are nobody's, on either side.
    let stranger = Root::new("mesh root")?.intermediate("istiod")?;
    let mut impostor = stranger.workload(&expected)?;
    impostor.roots.clone_from(&root.pem);
    let other = tempfile::tempdir().map_err(text)?;
    let impostor = Mesh::start(other.path(), &impostor, &yaml, |roots| trusting(roots, &[MESH])).await?;
    let answer = impostor.calls(other.path(), &legacy, &id(MESH, "orders")).await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    legacy.sidecar.process.line(|line| line.contains("inbound_refused")).await?;
    let led_astray = format!("{yaml}{}", billing_at(impostor.billing.address.port(), &expected));
    let led_astray = Legacy::start(other.path(), &doors, &led_astray).await?;
    let outcome = led_astray.outcome().await?;
    assert!(is(&outcome, REFUSED), "{outcome:?} {:?}", led_astray.sidecar.process.lines());
    let served = [&mesh.application, &legacy.application, &impostor.application, &led_astray.application];
    assert_eq!(served.map(|application| application.requests()), [1, 1, 0, 0]);
    Ok(())
}

/// Each side has a trust domain of its own, which is an alias at the other one, and the root is one. The policies are
/// the same text on both sides.
#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_counts_where_it_is_an_alias() -> Outcome {
    if !available() {
        return Ok(());
    }
    let root = Root::new("one root")?;
    let (ours, istiods) = (root.intermediate("Causeway issuer")?, root.intermediate("istiod")?);
    let doors = Doors::open(LEGACY, &ours.cacerts(), "shop", &["orders"]).await?;
    let billing = istiods.workload(&id(MESH, "billing"))?;
    // What the legacy side knows: that it is `legacy.example` itself, and whether the mesh is the same.
    let both = [MESH, LEGACY];
    // The mesh's alias in Envoy's trust, in its policies; the legacy side's alias; the name that policies have for
    // callers; and what comes of it each way.
    type Row<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str], &'a str, (u16, Option<&'a str>), u16);
    let rows: [Row<'_>; 5] = [
        (&both, &[LEGACY], &[MESH], MESH, (200, None), 200),
        (&both, &[LEGACY], &[MESH], LEGACY, (200, None), 200),
        // istiod without the alias: Envoy ends the handshake.
        (&[MESH], &[], &[MESH], MESH, REFUSED, 200),
        // Believed and not named by any policy.
        (&both, &[], &[MESH], MESH, (403, None), 200),
        // The legacy side without the alias takes nobody of the mesh for its own, neither as server nor as client.
        (&both, &[LEGACY], &[], MESH, (503, Some("peer_identity_mismatch")), 503),
    ];
    for (believed, aliases, ours, callers, out, back) in rows {
        let folder = tempfile::tempdir().map_err(text)?;
        let yaml = documents(MESH, aliases, callers);
        let mesh = Mesh::start(folder.path(), &billing, &yaml, |roots| trusting(roots, believed)).await?;
        // Named as the legacy side's own domain has it; the alias makes the mesh's name of it.
        let expected = id(LEGACY, "billing");
        let yaml =
            format!("{}{}", documents(LEGACY, ours, callers), billing_at(mesh.billing.address.port(), &expected));
        let legacy = Legacy::start(folder.path(), &doors, &yaml).await?;
        let name = format!("Envoy believes {believed:?}, aliases {aliases:?} and {ours:?}, callers of {callers}");
        let answer = legacy.calls().await?;
        let outcome = (answer.status, answer.header("x-causeway-reason").map(str::to_owned));
        assert!(is(&outcome, out), "{name}: {outcome:?} {} {:?}", answer.body, legacy.sidecar.process.lines());
        if out.0 == 200 {
            assert_eq!(Mesh::caller(&answer), id(LEGACY, "orders"), "{name}");
        }
        let answer = mesh.calls(folder.path(), &legacy, &id(LEGACY, "orders")).await?;
        assert_eq!(answer.status, back, "{name}: {} {:?}", answer.body, legacy.sidecar.process.lines());
        if back == 200 {
            assert_eq!(Mesh::caller(&answer), id(MESH, "billing"), "{name}");
        }
        let served = [mesh.application.requests(), legacy.application.requests()];
        assert_eq!(served, [usize::from(out.0 == 200), usize::from(back == 200)], "{name}");
    }
    Ok(())
}

/// An alias is another's name: nobody's own SVID is of one.
#[tokio::test(flavor = "multi_thread")]
async fn an_identity_of_an_alias_is_not_taken() -> Outcome {
    if !available() {
        return Ok(());
    }
    let doors = Doors::open(LEGACY, &Root::new("root")?.intermediate("issuer")?.cacerts(), "shop", &["orders"]).await?;
    let folder = tempfile::tempdir().map_err(text)?;
    let yaml = documents(MESH, &[LEGACY], MESH);
    let legacy = Legacy::begin(folder.path(), &doors, &yaml).await?;
    let line = legacy.sidecar.process.line(|line| line.contains(r#""state":"failed""#)).await?;
    assert!(line.contains(LEGACY) && line.contains(MESH), "{line}");
    legacy.sidecar.until_health(503).await
}
