//! Output headers and the context keys that they become at API Gateway.

use authz::{CompileOptions, Mode};

use crate::environments::{SHOP, api, refused};
use crate::support::{JWKS_URI, open_with};

#[test]
fn each_output_header_has_a_context_key_of_its_own() {
    let documents = |first: &str, second: &str| {
        let authentication = |name: &str, outputs: &str| {
            format!(
                "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
                     jwtRules: [{{issuer: i, jwksUri: \"{JWKS_URI}\", {outputs}}}]\n"
            )
        };
        authentication("one", first) + &authentication("two", second)
    };
    let claim =
        |header: &str| format!("outputClaimToHeaders: [{{header: x-a, claim: a}}, {{header: {header}, claim: b}}]");
    let payload = |header: &str| format!("outputPayloadToHeader: {header}");
    let twins = "so does x-role (spec.jwtRules[0].outputClaimToHeaders[1].header at shop.yaml:";
    let rows = [
        (claim("x-role"), claim("x-roles"), None),
        (claim("x-role"), claim("X-Role"), None),
        (claim("x-role"), claim("x_role"), Some(twins)),
        (claim("x-role"), claim("X_ROLE"), Some(twins)),
        (claim("x-role"), payload("x_role"), Some(twins)),
        (claim("x-role"), payload("x.role"), Some(twins)),
        (
            claim("x_a"),
            claim("x-b"),
            Some("outputClaimToHeaders[1].header: the header x_a becomes the context key x_a"),
        ),
        (claim("claims"), claim("claims-header"), Some("so does claims (")),
        (claim("x-role"), claim("Request-Id"), Some("the header request-id becomes the context key request_id")),
        (claim("x-role"), payload("sub"), Some("spec.jwtRules[0].outputPayloadToHeader: the header sub becomes")),
        (claim("x-role"), claim("x-sub"), None),
    ];
    let gateway = api("dev", "dev", "", "");
    for (first, second, word) in rows {
        let documents = documents(&first, &second);
        let errors = refused(&format!("{SHOP}{gateway}{documents}"));
        assert_eq!(errors.is_empty(), word.is_none(), "{second}: {errors:#?}");
        assert!(errors.iter().any(|error| error.contains(word.unwrap_or_default())) || word.is_none(), "{errors:#?}");
        assert!(errors.iter().all(|error| error.starts_with("shop.yaml:")), "{errors:#?}");
        // They are headers like any other where there is no API, and in Envoy.
        assert_eq!(refused(&format!("{SHOP}{documents}")), Vec::<String>::new());
        let istio = CompileOptions { mode: Mode::Istio, ..CompileOptions::default() };
        assert!(open_with(&[("shop.yaml", &format!("{SHOP}{gateway}{documents}"))], &istio).is_ok());
    }
    for key in authz::context_key::CONTEXT_KEYS {
        let errors = refused(&format!("{SHOP}{gateway}{}", documents(&claim(key), &claim("x-b"))));
        assert!(errors.iter().any(|error| error.contains("the authorizer's own")), "{key}: {errors:#?}");
    }
}
