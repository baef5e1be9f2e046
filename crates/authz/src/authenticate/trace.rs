//! The same authentication, shown to a person: what each rule found, and what came of it.

use super::keys::{KeyContext, authenticate_key, presented_key};
use super::tokens::{Step, authenticate_tokens, check_required, tokens_of};
use super::{TokenSources, Visible, is_preflight, jwt_rules, output};
use crate::claims::Claims;
use crate::compiled::ArchivedJwtRule;
use crate::jwk::KeySets;
use crate::jwt::TokenRefusal;
use crate::policies::{Applicable, Policies};
use crate::request::lines;
use crate::trace::{CredentialOutcome, CredentialTrace};

/// What each rule of the workload found and made of it: `ApiKeyAuthentication`s first, then the JWT rules in the order
/// in which they are asked. No credential is in it.
pub(crate) fn trace(
    policies: &Policies,
    applicable: Applicable<'_>,
    visible: &Visible,
    method: &str,
    keys: &KeySets,
    key: &KeyContext<'_>,
    now: u64,
) -> Vec<CredentialTrace> {
    let mode = policies.mode();
    // What is shown is verified again: it counts nothing, and it would show a cache that is wrong.
    let key = &KeyContext { verified: None, ..*key };
    let mut visible = visible.clone();
    let named = named_rules(applicable);
    let rules = jwt_rules(applicable);
    output::remove_outputs(&rules, &mut visible);

    let mut traces: Vec<CredentialTrace> = applicable
        .named_api_key_authentications()
        .map(|(namespace, authentication)| CredentialTrace {
            kind: "ApiKeyAuthentication".to_owned(),
            namespace: namespace.to_owned(),
            name: authentication.name.as_str().to_owned(),
            rule: 0,
            issuer: authentication.issuer.as_str().to_owned(),
            places: vec![format!("header {}", authentication.header_name)],
            found: lines(&visible.headers, authentication.header_name.as_str()).count(),
            outcome: CredentialOutcome::Absent,
            reason: None,
            detail: String::new(),
        })
        .collect();
    let presented = matches!(presented_key(applicable, &visible.headers), Err(_) | Ok(Some(_)));
    let by_key = authenticate_key(applicable, &mut visible, key, now);
    for trace in traces.iter_mut().filter(|trace| presented && trace.found > 0) {
        match &by_key {
            Ok(Some(by_key)) => valid(trace, &by_key.claims),
            Ok(None) => {}
            Err(refusal) => refuse(trace, refusal),
        }
    }
    let key_traces = traces.len();
    traces.extend(named.iter().map(|(namespace, name, index, rule)| CredentialTrace {
        kind: "RequestAuthentication".to_owned(),
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        rule: *index,
        issuer: rule.issuer.as_str().to_owned(),
        places: places(rule),
        found: tokens_of(rule, &visible.headers, &visible.path, mode).len(),
        outcome: CredentialOutcome::NotAsked,
        reason: None,
        detail: String::new(),
    }));
    let Some(tokens) = traces.get_mut(key_traces..) else { return traces };
    let by_key = match by_key {
        Ok(by_key) => by_key,
        // The request is refused already.
        Err(_) => return traces,
    };
    if is_preflight(method, &visible.headers) {
        for trace in tokens {
            trace.detail = "a CORS preflight is not asked for a token".to_owned();
        }
        return traces;
    }
    let sources = TokenSources { policies, keys, now };
    let required =
        check_required(&rules, &visible.headers, &visible.path, by_key.as_ref().map(|by_key| by_key.issuer), mode);
    if let Err(refusal) = &required {
        // The rule that misses its token; its own detail names the issuer.
        for (trace, rule) in tokens.iter_mut().zip(&rules) {
            if rule.required && trace.found == 0 {
                refuse(trace, refusal);
                break;
            }
        }
        return traces;
    }
    // The answer itself is the decision's; what is shown here are the steps to it.
    let _ = authenticate_tokens(&rules, &mut visible, &sources, key, |index, found, step| {
        let Some(trace) = tokens.get_mut(index) else { return };
        trace.found = found;
        match step {
            Step::Absent => trace.outcome = CredentialOutcome::Absent,
            Step::Valid(claims) => valid(trace, claims),
            Step::Refused(refusal) => refuse(trace, refusal),
        }
    });
    traces
}

fn valid(trace: &mut CredentialTrace, claims: &Claims) {
    trace.outcome = CredentialOutcome::Valid;
    trace.detail = claims.principal().unwrap_or_default();
}

fn refuse(trace: &mut CredentialTrace, refusal: &TokenRefusal) {
    trace.outcome = CredentialOutcome::Refused;
    trace.reason = Some(refusal.reason);
    trace.detail.clone_from(&refusal.detail);
}

/// The rules of [`jwt_rules`], in the same order, with namespace and name of their document and their place in it.
fn named_rules(applicable: Applicable<'_>) -> Vec<(&str, &str, usize, &ArchivedJwtRule)> {
    let mut named: Vec<_> = applicable
        .named_request_authentications()
        .flat_map(|(namespace, authentication)| {
            let rules = authentication.rules.iter().enumerate();
            rules.map(move |(index, rule)| (namespace, authentication.name.as_str(), index, rule))
        })
        .collect();
    named.sort_by(|(.., a), (.., b)| a.issuer.as_str().cmp(b.issuer.as_str()));
    named
}

fn places(rule: &ArchivedJwtRule) -> Vec<String> {
    let headers = rule.headers.iter().map(|header| match header.prefix.as_str() {
        "" => format!("header {}", header.name),
        prefix => format!("header {} (after {prefix:?})", header.name),
    });
    let parameters = rule.parameters.iter().map(|name| format!("query parameter {name}"));
    let cookies = rule.cookies.iter().map(|name| format!("cookie {name}"));
    headers.chain(parameters).chain(cookies).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::authenticate::authenticate;
    use crate::policies::{Labels, Workload};
    use crate::reason::Reason;
    use crate::request::Request;
    use crate::{CompileOptions, Mode, compile};

    const NOW: u64 = 1_800_000_000;

    struct Issuer(EcdsaKeyPair);

    impl Issuer {
        fn jwks(&self) -> String {
            let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
            let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
            format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}]}}"#)
        }

        fn token(&self, issuer: &str, exp: u64) -> String {
            let claims = format!(r#"{{"iss":"{issuer}","sub":"s","exp":{exp}}}"#);
            let [header, claims] = [r#"{"alg":"ES256"}"#, claims.as_str()].map(|part| URL_SAFE_NO_PAD.encode(part));
            let message = format!("{header}.{claims}");
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn policies(issuer: &Issuer, mode: Mode) -> Policies {
        let jwks = issuer.jwks();
        let yaml = format!(
            "
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: ours, namespace: ns1}}
spec: {{jwtRules: [{{issuer: b, jwks: '{jwks}', fromHeaders: [{{name: x-b}}]}}, {{issuer: a, jwks: '{jwks}'}}]}}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: root, namespace: istio-system}}
spec: {{jwtRules: [{{issuer: b, jwks: '{jwks}', fromHeaders: [{{name: x-root, prefix: \"T \"}}]}}]}}
---
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata: {{name: keys, namespace: ns1}}
spec: {{issuer: a}}
"
        );
        let file = istio::SourceFile { name: "p.yaml".to_owned(), text: yaml };
        let resources = istio::parse(&[file]).unwrap();
        let options = CompileOptions { mode, ..CompileOptions::default() };
        Policies::open(&compile(&resources, &options).unwrap().section).unwrap()
    }

    #[test]
    fn it_agrees_with_the_decision() {
        use CredentialOutcome::{Absent, NotAsked, Refused, Valid};
        let issuer = Issuer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        let good = |name: &str| issuer.token(name, NOW + 60);
        let bearer = |token: String| ("authorization".to_owned(), format!("Bearer {token}"));
        let header = |name: &str, value: String| (name.to_owned(), value);
        // Outcomes of: the key, rule a of `ours`, rule b of `root`, rule b of `ours`.
        let cases = [
            (vec![], [Absent, Absent, Absent, Absent]),
            (vec![bearer(good("a"))], [Absent, Valid, NotAsked, NotAsked]),
            (vec![bearer(good("b"))], [Absent, Refused, Absent, Absent]),
            (vec![bearer(issuer.token("a", 1)), header("x-b", good("b"))], [Absent, Refused, Absent, Valid]),
            (vec![header("x-root", format!("T {}", good("b")))], [Absent, Absent, Valid, NotAsked]),
            (vec![header("x-b", "bad".to_owned())], [Absent, Absent, Absent, Refused]),
            (vec![header("x-api-key", "bad".to_owned())], [Refused, NotAsked, NotAsked, NotAsked]),
            ((0..9).map(|_| header("x-b", good("b"))).collect(), [Absent, Absent, Absent, Refused]),
        ];
        for mode in [Mode::Strict, Mode::Istio] {
            let policies = policies(&issuer, mode);
            let keys = KeySets::embedded(&policies).unwrap();
            let labels = [];
            let applicable = policies.of_workload(Workload { namespace: "ns1", labels: Labels::Given(&labels) });
            let context = KeyContext {
                lookup: None,
                pepper: None,
                environment: None,
                revocations: crate::revocation::Revocations::NotKept,
                certificate: None,
                verified: None,
            };
            for (headers, expected) in &cases {
                let request = Request { headers: headers.clone(), path: "/a".to_owned(), ..Request::default() };
                let visible = Visible::of(&request);
                let traces = trace(&policies, applicable, &visible, "GET", &keys, &context, NOW);
                let outcomes: Vec<_> = traces.iter().map(|trace| trace.outcome).collect();
                assert_eq!(outcomes, expected, "{traces:?}");
                let order: Vec<_> = traces.iter().map(|t| (t.namespace.as_str(), t.name.as_str(), t.rule)).collect();
                assert_eq!(
                    order,
                    [("ns1", "keys", 0), ("ns1", "ours", 1), ("istio-system", "root", 0), ("ns1", "ours", 0)]
                );
                // No credential, and the answer that the decision gives.
                let shown = format!("{traces:?}");
                assert!(!shown.contains("eyJ") && !shown.contains("bad"), "{shown}");
                let reasons: Vec<Reason> = traces.iter().filter_map(|trace| trace.reason).collect();
                match authenticate(&policies, applicable, visible, "GET", &keys, &context, NOW) {
                    Ok(authenticated) => {
                        let principal = authenticated.claims.and_then(|claims| claims.principal());
                        let valid = traces.iter().find(|trace| trace.outcome == Valid);
                        assert_eq!(valid.map(|trace| trace.detail.clone()), principal, "{traces:?}");
                    }
                    Err(refusal) => assert!(reasons.contains(&refusal.reason), "{refusal:?} {traces:?}"),
                }
            }
            let trace = trace(&policies, applicable, &Visible::of(&Request::default()), "GET", &keys, &context, NOW);
            assert_eq!(trace[1].places, ["header authorization (after \"Bearer \")", "query parameter access_token"]);
        }
    }
}
