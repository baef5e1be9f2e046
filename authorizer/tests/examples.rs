//! The events of `examples/events/` with the policies of `examples/bookinfo/`.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test says what it expects by failing")]

mod support;

use authz::{CompileOptions, Policies};
use support::issuer::{ISSUER, Issuer, NOW, reader};
use support::{KINDS, World, fixture, with_token};

const FILES: [&str; 6] = [
    include_str!("../../examples/bookinfo/access.yaml"),
    include_str!("../../examples/bookinfo/gateway.yaml"),
    include_str!("../../examples/bookinfo/mesh.yaml"),
    include_str!("../../examples/bookinfo/routes.yaml"),
    include_str!("../../examples/bookinfo/services.yaml"),
    include_str!("../../examples/events/apis.yaml"),
];

fn bookinfo(issuer: &Issuer) -> Policies {
    let file = |text: &&str| istio::SourceFile { name: "bookinfo.yaml".to_owned(), text: (*text).to_owned() };
    let files: Vec<_> = FILES.iter().map(file).collect();
    let options = CompileOptions { jwks: [(ISSUER.to_owned(), issuer.jwks())].into(), ..CompileOptions::default() };
    let resources = istio::parse(&files).unwrap();
    let section = authz::compile(&resources, &options).unwrap().section;
    Policies::open(&section).unwrap().with_keys_fetched_at(Some(NOW))
}

#[tokio::test]
async fn every_example_is_judged_by_the_policies_of_bookinfo() {
    let issuer = Issuer::new();
    let world = World::over(bookinfo(&issuer), issuer, None, |config| config);
    for name in KINDS {
        let (answer, line) = world.ask(&with_token(fixture(name), &world.issuer.token(&reader()))).await;
        assert_eq!(line["reason"], "allowed_by_policy", "{name}: {line}");
        assert!(answer.is_some());
        // As it is in the file: no credential, or one that is none.
        let (answer, line) = world.ask(&fixture(name)).await;
        assert_eq!(line["allowed"], false, "{name}");
        let expected = match name {
            "http-2.0-stage" | "rest-token" => "token_malformed",
            // The certificate is a credential, but not the one that the gateway's policy asks for.
            name if name.ends_with("mtls") => "denied_no_match",
            _ => "no_credential",
        };
        assert_eq!((line["reason"].as_str(), answer.is_some()), (Some(expected), name.ends_with("mtls")), "{name}");
    }
}

#[test]
fn every_example_is_tested() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/events");
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut events: Vec<_> = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    events.sort_unstable();
    assert_eq!(events, KINDS);
}
