//! Resources of access, any that Istio accepts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use istio::*;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::policy_strategies::locality_lb;
use crate::traffic_strategies::{http_retry, outbound};

pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{1,8}",
        "[a-z*/]{1,6}",
        select(vec!["no", "1", "~", "null", "true", "*", " ", "# a", "a: b"]).prop_map(str::to_owned)
    ]
}

fn some(of: impl Strategy<Value = String>) -> impl Strategy<Value = Vec<String>> {
    vec(of, 0..3)
}

pub(crate) fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map("[a-z]{1,4}", "[a-zA-Z0-9._-]{0,63}", 0..3)
}

/// `number` makes the name unique.
pub(crate) fn meta(number: usize) -> impl Strategy<Value = Meta> {
    (labels(), btree_map("[a-z.]{1,4}/[a-z]{1,4}", text(), 0..2)).prop_map(move |(labels, annotations)| Meta {
        name: format!("a.{number}"),
        namespace: format!("ns{number}"),
        namespace_given: true,
        labels,
        annotations,
        origin: Origin::default(),
    })
}

fn selector() -> impl Strategy<Value = Option<WorkloadSelector>> {
    option::of(labels().prop_map(|match_labels| WorkloadSelector { match_labels }))
}

fn attachment() -> impl Strategy<Value = (Option<WorkloadSelector>, Vec<TargetRef>)> {
    let target = (
        select(vec![
            ("", "Service"),
            ("networking.istio.io", "ServiceEntry"),
            ("gateway.networking.k8s.io", "Gateway"),
            ("gateway.networking.k8s.io", "GatewayClass"),
        ]),
        text(),
    )
        .prop_map(|((group, kind), name)| TargetRef {
            group: group.to_owned(),
            kind: kind.to_owned(),
            name,
            namespace: None,
        });
    prop_oneof![
        selector().prop_map(|selector| (selector, Vec::new())),
        vec(target, 0..=16).prop_map(|refs| (None, refs))
    ]
}

fn ip_block() -> impl Strategy<Value = IpBlock> {
    prop_oneof![
        (any::<[u8; 4]>(), 0..=32_u8).prop_map(|(address, prefix)| (IpAddr::from(address), prefix)),
        (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(address, prefix)| (IpAddr::from(address), prefix)),
    ]
    .prop_map(|(address, prefix)| IpBlock { address, prefix })
}

fn service_account() -> impl Strategy<Value = String> {
    "[a-z]{1,4}(/[a-z.]{1,4})?"
}

fn with_wildcard() -> impl Strategy<Value = String> {
    prop_oneof!["\\*?[a-z.]{1,4}", "[a-z.]{1,4}\\*", Just("*".to_owned())]
}

/// CUSTOM policies look at addresses only.
fn source(action: Action) -> impl Strategy<Value = Source> {
    let addresses = (vec(ip_block(), 0..2), vec(ip_block(), 0..2), vec(ip_block(), 0..2), vec(ip_block(), 0..2));
    let accounts = (vec(service_account(), 0..=16), vec(service_account(), 0..=16));
    let peers = (some(text()), some(text()), some(text()), some(text()));
    let others = (some(text()), some(text()), some(with_wildcard()), some(with_wildcard()));
    (addresses, accounts, peers, others, any::<bool>())
        .prop_map(
            move |((ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks), accounts, peers, others, by)| {
                let addresses =
                    Source { ip_blocks, not_ip_blocks, remote_ip_blocks, not_remote_ip_blocks, ..Source::default() };
                if action == Action::Custom {
                    return addresses;
                }
                let (request_principals, not_request_principals, trust_domains, not_trust_domains) = others;
                let source = Source {
                    request_principals,
                    not_request_principals,
                    trust_domains,
                    not_trust_domains,
                    ..addresses
                };
                if by {
                    let (service_accounts, not_service_accounts) = accounts;
                    Source { service_accounts, not_service_accounts, ..source }
                } else {
                    let (principals, not_principals, namespaces, not_namespaces) = peers;
                    Source { principals, not_principals, namespaces, not_namespaces, ..source }
                }
            },
        )
        .prop_filter("a source is not empty", |source| *source != Source::default())
}

fn path() -> impl Strategy<Value = String> {
    let template = "(/[a-z=@]{1,3}|/\\{\\*\\}){0,3}/\\{\\*\\}(/\\{\\*\\*\\})?(/[a-z]{1,3})?/?";
    prop_oneof!["/[a-z/*]{0,5}", "[^{}\\pC]{1,5}", template]
}

fn operation() -> impl Strategy<Value = Operation> {
    let hosts = (some(text()), some(text()));
    let ports = (vec(any::<u16>(), 0..2), vec(any::<u16>(), 0..2));
    let methods = (some(text()), some(text()));
    let paths = (some(path()), some(path()));
    (hosts, ports, methods, paths)
        .prop_map(|(hosts, ports, methods, paths)| Operation {
            hosts: hosts.0,
            not_hosts: hosts.1,
            ports: ports.0,
            not_ports: ports.1,
            methods: methods.0,
            not_methods: methods.1,
            paths: paths.0,
            not_paths: paths.1,
        })
        .prop_filter("an operation is not empty", |operation| *operation != Operation::default())
}

fn condition(action: Action) -> impl Strategy<Value = Condition> {
    let addresses = select(vec![ConditionKey::DestinationIp, ConditionKey::RemoteIp, ConditionKey::SourceIp]);
    let names =
        prop_oneof![vec("[^\\[\\]\\pC]{1,5}", 1..4), Just(vec!["a[b]".to_owned()]), Just(vec!["a]".to_owned()])];
    let texts = prop_oneof![
        Just(ConditionKey::ConnectionSni),
        Just(ConditionKey::RequestAuthAudiences),
        Just(ConditionKey::RequestAuthPresenter),
        Just(ConditionKey::RequestAuthPrincipal),
        Just(ConditionKey::SourceNamespace),
        Just(ConditionKey::SourcePrincipal),
        text().prop_map(ConditionKey::RequestHeader),
        names.prop_map(ConditionKey::RequestAuthClaims),
        ("[a-z.]{0,4}", text()).prop_map(|(name, key)| ConditionKey::EnvoyFilter {
            filter: format!("envoy.filters.{name}"),
            path: vec![key]
        }),
    ];
    let for_custom = prop_oneof![Just(ConditionKey::ConnectionSni), text().prop_map(ConditionKey::RequestHeader)];
    let texts = if action == Action::Custom { for_custom.boxed() } else { texts.boxed() };
    let of = |key: BoxedStrategy<ConditionKey>, value: BoxedStrategy<String>| {
        (key, vec(value.clone(), 0..3), vec(value, 0..3)).boxed()
    };
    let mut all = vec![
        of(addresses.boxed(), ip_block().prop_map(|block| block.to_string()).boxed()),
        of(Just(ConditionKey::DestinationPort).boxed(), any::<u16>().prop_map(|port| port.to_string()).boxed()),
        of(texts, text().boxed()),
    ];
    if action != Action::Custom {
        all.push(of(Just(ConditionKey::SourceServiceAccount).boxed(), service_account().boxed()));
        all.push(of(Just(ConditionKey::SourceTrustDomain).boxed(), with_wildcard().boxed()));
    }
    proptest::strategy::Union::new(all)
        .prop_map(|(key, values, not_values)| Condition { key, values, not_values })
        .prop_filter("a condition has a value", |c| !(c.values.is_empty() && c.not_values.is_empty()))
}

fn rule(action: Action) -> impl Strategy<Value = Rule> {
    let part = 1..3_usize;
    (
        option::of(vec(source(action), part.clone())),
        option::of(vec(operation(), part.clone())),
        option::of(vec(condition(action), part)),
    )
        .prop_map(|(from, to, when)| Rule { from, to, when })
}

fn authorization_policy(number: usize) -> impl Strategy<Value = AuthorizationPolicy> {
    select(vec![Action::Allow, Action::Deny, Action::Audit, Action::Custom]).prop_flat_map(move |action| {
        let fewest = usize::from(matches!(action, Action::Deny | Action::Custom));
        let rules = vec(rule(action), fewest..3);
        let rules = if fewest == 0 { option::of(rules).boxed() } else { rules.prop_map(Some).boxed() };
        let dry_run = select(vec![None, Some(("true", true)), Some(("T", true)), Some(("0", false))]);
        let dry_run = dry_run.prop_map(move |d| d.filter(|_| matches!(action, Action::Allow | Action::Deny)));
        (meta(number), attachment(), rules, dry_run, text()).prop_map(
            move |(mut meta, (selector, target_refs), rules, dry_run, provider)| {
                if let Some((value, _)) = dry_run {
                    meta.annotations.insert("istio.io/dry-run".to_owned(), value.to_owned());
                }
                AuthorizationPolicy {
                    meta,
                    selector,
                    target_refs,
                    action,
                    provider: (action == Action::Custom).then_some(provider),
                    dry_run: dry_run.is_some_and(|(_, dry_run)| dry_run),
                    rules,
                }
            },
        )
    })
}

fn jwt_rule() -> impl Strategy<Value = JwtRule> {
    let uri = "(https|HTTP)://([a-z]{1,4}\\.example|\\[::1\\])(:[1-9][0-9]{0,3})?(/[a-z%]{0}[a-z]{0,4})?(\\?a=%)?";
    let sets = [
        "{\"keys\":[]}",
        "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AQ\",\"y\":\"AQ\"}]}",
        "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AQ\"}",
        "{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQ\",\"e\":\"AQAB\"}]}",
    ];
    let keys = prop_oneof![
        (text(), Just(None), Just(None)),
        (prop_oneof![Just(String::new()), text()], Just(None), uri.prop_map(Some)),
        (text(), select(sets.to_vec()).prop_map(|set| Some(set.to_owned())), Just(None)),
    ];
    let name = || "[A-Za-z0-9-]{1,6}";
    let header =
        (name(), prop_oneof![Just(String::new()), text()]).prop_map(|(name, prefix)| JwtHeader { name, prefix });
    let output = ("[-_A-Za-z0-9]{1,6}", text()).prop_map(|(header, claim)| ClaimToHeader { header, claim });
    let places = (vec(header, 0..2), some(text()), some(text()));
    let outputs = (option::of(name()), vec(output, 0..2), any::<bool>());
    let rest = (
        some(text()),
        option::of((1..100_000_u64).prop_map(Duration::from_millis)),
        vec(text(), 0..=64),
        select(vec![Presence::Unspecified, Presence::Optional, Presence::Required]),
    );
    (keys, places, outputs, rest).prop_map(|((issuer, jwks, jwks_uri), places, outputs, rest)| JwtRule {
        issuer,
        jwks,
        jwks_uri,
        from_headers: places.0,
        from_params: places.1,
        from_cookies: places.2,
        output_payload_to_header: outputs.0,
        output_claim_to_headers: outputs.1,
        forward_original_token: outputs.2,
        audiences: rest.0,
        timeout: rest.1,
        space_delimited_claims: rest.2,
        presence: rest.3,
    })
}

fn request_authentication(number: usize) -> impl Strategy<Value = RequestAuthentication> {
    (meta(number), attachment(), vec(jwt_rule(), 0..3)).prop_map(|(meta, (selector, target_refs), jwt_rules)| {
        RequestAuthentication { meta, selector, target_refs, jwt_rules }
    })
}

fn peer_authentication(number: usize) -> impl Strategy<Value = PeerAuthentication> {
    let mode = || select(vec![MtlsMode::Unset, MtlsMode::Disable, MtlsMode::Permissive, MtlsMode::Strict]);
    (meta(number), selector(), mode(), btree_map(1..=u16::MAX, mode(), 0..3)).prop_map(
        |(meta, selector, mode, mut port_level)| {
            if selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty()) {
                port_level.clear();
            }
            PeerAuthentication { meta, selector, mode, port_level }
        },
    )
}

fn api_key_authentication(number: usize) -> impl Strategy<Value = ApiKeyAuthentication> {
    (meta(number), selector(), text(), "[a-z0-9-]{1,6}", any::<bool>()).prop_map(
        |(meta, selector, issuer, header_name, forward_original_key)| ApiKeyAuthentication {
            meta,
            selector,
            issuer,
            header_name,
            forward_original_key,
        },
    )
}

fn mesh() -> impl Strategy<Value = MeshConfig> {
    let authorizer = (any::<bool>(), select(vec![100_u16, 200, 403, 429, 503, 511]), any::<bool>());
    let normalization = select(vec![
        PathNormalization::None,
        PathNormalization::Base,
        PathNormalization::MergeSlashes,
        PathNormalization::DecodeAndMergeSlashes,
    ]);
    let domain = || "[a-z0-9]{1,4}(\\.[a-z]{1,3})?\\.?";
    let traffic =
        (option::of(outbound()), option::of(locality_lb()), option::of(http_retry()), option::of(1..=3_600_000_u64));
    ("[a-z]{1,6}", domain(), some(domain()), normalization, vec(option::of(authorizer), 0..4), traffic).prop_map(
        |(root_namespace, trust_domain, trust_domain_aliases, path_normalization, providers, traffic)| MeshConfig {
            root_namespace,
            trust_domain,
            trust_domain_aliases,
            path_normalization,
            extension_providers: providers
                .into_iter()
                .enumerate()
                .map(|(number, authorizer)| ExtensionProvider {
                    name: format!("provider-{number}"),
                    authorizer: authorizer
                        .map(|(fail_open, status_on_error, _)| ExternalAuthorizer { fail_open, status_on_error }),
                    is_adapter: authorizer.is_some_and(|(_, _, is_adapter)| is_adapter),
                })
                .collect(),
            outbound_traffic_policy: traffic.0,
            locality_lb: traffic.1,
            default_http_retry_policy: traffic.2,
            connect_timeout: traffic.3.map(Duration::from_millis),
            origin: None,
        },
    )
}

/// Two of each kind.
pub(crate) fn resources() -> impl Strategy<Value = Resources> {
    let policies = (authorization_policy(0), authorization_policy(1));
    let tokens = (request_authentication(0), request_authentication(1));
    let peers = (peer_authentication(0), peer_authentication(1));
    let keys = (api_key_authentication(0), api_key_authentication(1));
    (policies, tokens, peers, keys, mesh()).prop_map(|(policies, tokens, peers, keys, mesh)| Resources {
        authorization_policies: vec![policies.0, policies.1],
        request_authentications: vec![tokens.0, tokens.1],
        peer_authentications: vec![peers.0, peers.1],
        api_key_authentications: vec![keys.0, keys.1],
        mesh,
        ..Resources::default()
    })
}
