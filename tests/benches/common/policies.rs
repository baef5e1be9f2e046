//! A bundle of a thousand policies.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The policies of the bundle.
pub(crate) const POLICIES: usize = 1_000;

/// The bundle, with the key set of its issuer.
pub(crate) fn bundle(jwks: &str) -> Vec<u8> {
    let file = istio::SourceFile { name: "bench.yaml".to_owned(), text: policies(jwks) };
    let resources = istio::parse(&[file]).unwrap();
    causeway::bundle::build(&resources, BTreeMap::new()).unwrap()
}

/// The policies of the examples' events, and as many more as make a thousand.
fn policies(jwks: &str) -> String {
    let mut yaml = include_str!("../../fixtures/events/policies.yaml").replace("JWKS", jwks);
    for i in yaml.matches("kind: AuthorizationPolicy").count()..POLICIES {
        let _ = write!(
            yaml,
            "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{ name: p{i}, namespace: bookinfo }}\n\
             spec:\n  selector: {{ matchLabels: {{ app: reviews }} }}\n  rules:\n    \
             - from: [{{ source: {{ requestPrincipals: ['https://issuer.bookinfo.example/client:c{i}'] }} }}]\n      \
             to: [{{ operation: {{ methods: [GET, POST], paths: ['/reviews/s{i}/*'] }} }}]\n      \
             when: [{{ key: 'request.auth.claims[scope]', values: [reviews.read] }}]\n"
        );
    }
    yaml
}
