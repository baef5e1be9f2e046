//! Nothing is dropped: what is read and printed reads the same, and a field under another name is an error.

#![allow(clippy::unwrap_used)]

mod policy_printer;
mod policy_strategies;
mod printer;
mod strategies;
mod traffic_printer;
mod traffic_strategies;
mod yaml;

use istio::{Meta, Origin, Resources, SourceFile, parse};
use proptest::prelude::*;

use self::printer::{documents, print};
use self::strategies::resources;
use self::traffic_strategies::traffic;

fn file(text: String) -> [SourceFile; 1] {
    [SourceFile { name: "f".to_owned(), text }]
}

/// Resources without their places.
fn placeless(mut resources: Resources) -> Resources {
    let forget = |meta: &mut Meta| meta.origin = Origin::default();
    resources.authorization_policies.iter_mut().for_each(|policy| forget(&mut policy.meta));
    resources.request_authentications.iter_mut().for_each(|policy| forget(&mut policy.meta));
    resources.peer_authentications.iter_mut().for_each(|policy| forget(&mut policy.meta));
    resources.api_key_authentications.iter_mut().for_each(|policy| forget(&mut policy.meta));
    resources.virtual_services.iter_mut().for_each(|rule| forget(&mut rule.meta));
    resources.destination_rules.iter_mut().for_each(|rule| forget(&mut rule.meta));
    resources.service_entries.iter_mut().for_each(|entry| forget(&mut entry.meta));
    resources.workload_entries.iter_mut().for_each(|entry| forget(&mut entry.meta));
    resources.sidecars.iter_mut().for_each(|sidecar| forget(&mut sidecar.meta));
    resources.mesh.origin = None;
    resources
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_reads_the_same(resources in resources()) {
        let text = print(&documents(&resources));
        let read = parse(&file(text.clone()));
        prop_assert!(read.is_ok(), "{:?}\n{}", read, text);
        prop_assert_eq!(placeless(read.unwrap()), resources);
    }

    #[test]
    fn rules_of_traffic_that_are_printed_read_the_same(resources in traffic()) {
        let text = print(&documents(&resources));
        let read = parse(&file(text.clone()));
        prop_assert!(read.is_ok(), "{:?}\n{}", read, text);
        prop_assert_eq!(placeless(read.unwrap()), resources);
    }

    /// In a `List` every document says the same, in its place.
    #[test]
    fn a_list_reads_as_its_items(resources in resources()) {
        let items = yaml::Yaml::List(documents(&resources));
        let list = yaml::fields([
            ("apiVersion", Some(yaml::text("v1"))),
            ("kind", Some(yaml::text("List"))),
            ("items", Some(items)),
        ]);
        prop_assert_eq!(placeless(parse(&file(list.print())).unwrap()), resources);
    }
}

proptest! {
    // Each case reads every document once for each of its fields.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_field_under_another_name_is_an_error(
        resources in prop_oneof![resources().boxed(), traffic().boxed()],
        drop in any::<bool>(),
    ) {
        let documents = documents(&resources);
        let change = |name: &str| {
            let shorter = name.get(..name.len() - 1).unwrap();
            if drop { shorter.to_owned() } else { format!("{name}x") }
        };
        for (index, document) in documents.iter().enumerate() {
            for name in 0..document.names() {
                let mut changed = document.clone();
                let old = changed.rename(name, change);
                let text = print(&[changed]);
                prop_assert!(parse(&file(text.clone())).is_err(), "document {}, {} in\n{}", index, old, text);
            }
        }
    }
}
