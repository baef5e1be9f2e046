//! The example configuration is accepted, whole and file by file, and says what it is meant to say.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use istio::{HttpAction, SourceFile, full_host, parse};

fn bookinfo() -> Vec<SourceFile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/bookinfo");
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let read = |path: &std::path::PathBuf| SourceFile {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        text: std::fs::read_to_string(path).unwrap(),
    };
    paths.iter().map(read).collect()
}

#[test]
fn every_file_is_accepted() {
    let files = bookinfo();
    let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["access.yaml", "egress.yaml", "gateway.yaml", "mesh.yaml", "routes.yaml", "services.yaml"]);
    for file in &files {
        assert_eq!(parse(std::slice::from_ref(file)).err(), None, "{}", file.name);
    }
}

/// Names in one file that another one must know.
#[test]
fn the_files_fit_together() {
    let resources = parse(&bookinfo()).unwrap();
    assert_eq!(resources.skipped, []);

    let api = resources.api_gateways.first().unwrap();
    let gateway = resources.gateways.first().unwrap();
    assert_eq!(api.gateway, format!("{}/{}", gateway.meta.namespace, gateway.meta.name));
    assert!(gateway.selector.selects(&api.workload.labels));
    assert_eq!(
        api.workload.principal(&resources.mesh.trust_domain),
        "cluster.local/ns/istio-system/sa/istio-ingressgateway-service-account"
    );

    let routes = resources.virtual_services.first().unwrap();
    assert_eq!(routes.gateways, [api.gateway.as_str()]);
    assert_eq!(routes.hosts, api.domains);
    for route in &routes.http {
        let HttpAction::Route(destinations) = &route.action else { panic!("expected a destination") };
        let destination = &destinations.first().unwrap().destination;
        let host = full_host(&destination.host, &routes.meta.namespace);
        let port = destination.port.unwrap();
        assert!(
            resources.services.iter().any(|service| {
                full_host(&service.meta.name, &service.meta.namespace) == host
                    && service.ports.iter().any(|known| known.port == port)
            }),
            "{host}:{port}"
        );
    }

    // Every policy selects a workload that there is.
    for policy in &resources.authorization_policies {
        let selector = policy.selector.as_ref().unwrap();
        let mut workloads = resources.services.iter().map(|service| (&service.meta.namespace, &service.selector));
        let gateway = (&api.workload.namespace, &api.workload.labels);
        assert!(
            workloads.any(|(namespace, labels)| *namespace == policy.meta.namespace && selector.selects(labels))
                || (*gateway.0 == policy.meta.namespace && selector.selects(gateway.1)),
            "{}",
            policy.meta.name
        );
    }

    // Both hops check credentials, so they are read in the whole mesh and forwarded.
    let tokens = resources.request_authentications.first().unwrap();
    let keys = resources.api_key_authentications.first().unwrap();
    assert_eq!((&tokens.meta.namespace, &tokens.selector), (&resources.mesh.root_namespace, &None));
    assert_eq!((&keys.meta.namespace, &keys.selector), (&resources.mesh.root_namespace, &None));
    let rule = tokens.jwt_rules.first().unwrap();
    assert_eq!(rule.issuer, keys.issuer);
    assert!(rule.forward_original_token && keys.forward_original_key);

    let entry = resources.service_entries.first().unwrap();
    let destination_rule = resources.destination_rules.first().unwrap();
    assert_eq!(entry.hosts, [destination_rule.host.as_str()]);
}
