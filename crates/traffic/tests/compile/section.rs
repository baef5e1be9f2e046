//! The bytes of the section.

use std::sync::Arc;

use istio::Resources;
use traffic::{Rules, compile};

use crate::build::*;

#[test]
fn nothing_is_a_table_too() {
    let rules = opened(&Resources::default()).rules;
    assert_eq!((rules.clusters(), rules.virtual_hosts()), (0, 0));
    assert!(rules.view(None, &[]).unwrap().find("anything", 80).is_none());
    assert!(rules.view(Some("a"), &[("app".to_owned(), "b".to_owned())]).is_ok());
    assert!(rules.cluster(0).is_none() && rules.virtual_host(0).is_none());
}

#[test]
fn a_damaged_section_is_an_error_and_never_a_panic() {
    let resources = Resources {
        service_entries: vec![entry("ratings.bookinfo.svc.cluster.local"), external("api.example.com")],
        virtual_services: vec![routes("r", &["ratings"], vec![matching("a", prefix("/a"), to("ratings"))])],
        ..Resources::default()
    };
    let good = compile(&resources).unwrap().section;
    assert!(Rules::open(&[]).is_err());
    assert!(Rules::open(&good[..good.len() - 1]).is_err());
    for place in 0..good.len() {
        for flip in [0xff, 0x01, 0x80] {
            let mut bad = good.clone();
            bad[place] ^= flip;
            let Ok(rules) = Rules::open(&bad) else { continue };
            // Whatever opens can be used as a whole.
            let Ok(view) = rules.view(Some(NS), &[]) else { continue };
            let _ = (view.find("ratings.bookinfo", 9080), view.listeners(), view.outbound(), view.wildcards());
            for (host, port) in view.names() {
                if let Some(index) = view.find(&host, port) {
                    assert!(rules.virtual_host(index).is_some());
                }
            }
            (0..u32::try_from(rules.clusters()).unwrap()).for_each(|index| assert!(rules.cluster(index).is_some()));
        }
    }
}

#[test]
fn an_unaligned_section_opens() {
    let section = compile(&Resources::default()).unwrap().section;
    for shift in 0..16 {
        let shifted: Vec<u8> = std::iter::repeat_n(0, shift).chain(section.iter().copied()).collect();
        assert!(Rules::open(&shifted[shift..]).is_ok());
        // One of these places is where the bytes can be used as they lie; the others are copied.
        assert!(Rules::open_shared(Arc::new(Shifted(shifted, shift))).is_ok());
    }
    let too_long = vec![0; traffic::open::MAX_BYTES + 1];
    assert!(Rules::open_shared(Arc::new(too_long)).is_err());
    assert!(Rules::open_shared(Arc::new(section[..section.len() - 1].to_vec())).is_err());
}

/// A part of a file.
struct Shifted(Vec<u8>, usize);

impl AsRef<[u8]> for Shifted {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

/// `cargo test -p traffic --release --test compile -- --ignored --nocapture ten_thousand`
#[test]
#[ignore = "prints times"]
fn ten_thousand_destinations_open_fast() {
    let entries = (0..10_000).map(|index| entry(&format!("service-{index}.bookinfo.svc.cluster.local")));
    let resources = Resources { service_entries: entries.collect(), ..Resources::default() };
    let started = std::time::SystemTime::now();
    let section = compile(&resources).unwrap().section;
    println!("compiled in {:?}: {} bytes", started.elapsed().unwrap(), section.len());
    let started = std::time::SystemTime::now();
    let rules = Rules::open(&section).unwrap();
    println!("opened in {:?}", started.elapsed().unwrap());
    let started = std::time::SystemTime::now();
    let view = rules.view(Some(NS), &[]).unwrap();
    for index in 0..10_000 {
        assert!(view.find(&format!("service-{index}.bookinfo.svc.cluster.local"), 9080).is_some());
    }
    println!("10,000 look-ups in {:?}", started.elapsed().unwrap());
}
