//! Whatever the names are: what is written says these and nothing else.

use istio::{Action, Resources, SourceFile};
use proptest::prelude::*;

use super::service::{GATEWAY_LABEL, Service};
use super::{files, requests};

/// What the files say to the reader of configurations.
fn read(service: &Service) -> Resources {
    let sources: Vec<SourceFile> = files(service)
        .into_iter()
        .filter(|(name, _)| *name != requests::NAME)
        .map(|(name, text)| SourceFile { name: name.to_owned(), text })
        .collect();
    istio::parse(&sources).unwrap_or_else(|errors| panic!("{service:?}: {errors:?}"))
}

/// A word that is often refused, and sometimes is not.
fn word() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[a-z][a-z0-9-]{0,8}[a-z0-9]", 1 => "[ -~\n\u{e9}]{0,6}"]
}

fn service() -> impl Strategy<Value = Result<Service, Vec<String>>> {
    let host = proptest::option::of(prop_oneof!["[a-z0-9-]{1,5}\\.[a-z]{2,5}", "[ -~\n]{0,8}"]);
    let issuer =
        prop_oneof![Just("https://issuer.example".to_owned()), "https://[!-~]{1,12}", "https://[a-z]{1,5}[ -~\n]{0,4}"];
    let paths = proptest::collection::vec(
        prop_oneof!["(/[!-~&&[^%?#]]{1,4}){1,3}", "/[a-z'&:,]{0,6}(/\\*)?", "[ -~\n]{0,6}"],
        0..3,
    );
    let audience = proptest::option::of("[ -~\n]{1,8}");
    (word(), word(), host, issuer, audience, paths).prop_map(|(name, namespace, host, issuer, audience, paths)| {
        Service::checked(name, namespace, host, issuer, audience, paths)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_name_says_more_than_itself(service in service()) {
        let Ok(service) = service else { return Ok(()) };
        let read = read(&service);
        let hops = 1 + usize::from(service.host.is_some());
        prop_assert_eq!(read.request_authentications.len(), hops);
        prop_assert_eq!(read.api_key_authentications.len(), hops);
        prop_assert_eq!(read.authorization_policies.len(), hops + 1);
        prop_assert_eq!(read.api_gateways.len(), hops - 1);
        prop_assert_eq!(read.virtual_services.len(), hops - 1);
        prop_assert!(read.skipped.is_empty());
        for authentication in &read.request_authentications {
            let [rule] = authentication.jwt_rules.as_slice() else { panic!("one rule") };
            prop_assert_eq!((&rule.issuer, &rule.audiences), (&service.issuer, &vec![service.audience.clone()]));
        }
        for policy in &read.authorization_policies {
            prop_assert_eq!(&policy.meta.namespace, &service.namespace);
            let selected: Vec<(&str, &str)> = policy
                .selector
                .iter()
                .flat_map(|selector| &selector.match_labels)
                .map(|(label, value)| (label.as_str(), value.as_str()))
                .collect();
            let own = ["app", GATEWAY_LABEL].map(|label| vec![(label, service.name.as_str())]);
            prop_assert!(own.contains(&selected), "{:?}", selected);
        }
        let readers = read.authorization_policies.iter().find(|policy| policy.meta.name.ends_with("-readers")).unwrap();
        prop_assert_eq!(&readers.action, &Action::Allow);
        let paths: Vec<&String> = readers.rules.iter().flatten().flat_map(|rule| &rule.to).flatten().flat_map(|to| &to.paths).collect();
        prop_assert_eq!(paths, service.paths.iter().collect::<Vec<_>>());
    }
}

#[test]
fn the_property_is_about_names_that_pass() {
    let service = Service::checked(
        "on".to_owned(),
        "0x1".to_owned(),
        Some("no.yes".to_owned()),
        "https://issuer.example/".to_owned(),
        Some("a\"]}#:".to_owned()),
        vec!["/&a,'b':/*".to_owned()],
    );
    assert_eq!(read(&service.unwrap()).authorization_policies.len(), 3);
}
