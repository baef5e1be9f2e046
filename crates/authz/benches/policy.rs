//! How fast policies load and are evaluated, and what a decision costs beside the signature that it verifies.
//!
//! `make bench` runs it and prints tables. Every figure is the median of many batches in one run on one thread; compare
//! ratios, not times of different machines.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]
// A stopwatch inside one process is what the type is for.
#![allow(clippy::disallowed_types)]

mod support;

use std::fmt::Write;

use authz::{Decision, KeySets, Policies, Target, VerifiedTokens};
use support::{Table, measure, measure_both, request};

/// Sizes of policy sets; the last is the most that a bundle may hold.
const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];

fn main() {
    // `cargo test --benches` asks for a list of tests.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    evaluation();
    loading();
    decisions();
}

/// What tells the rules of a set from each other.
#[derive(Clone, Copy)]
enum Shape {
    Host,
    PathPrefix,
    PathTemplate,
    Selector,
    /// Nothing that can be looked up: each rule has to be tried.
    Principal,
}

impl Shape {
    const ALL: [Shape; 5] = [Self::Host, Self::PathPrefix, Self::PathTemplate, Self::Selector, Self::Principal];

    fn name(self) -> &'static str {
        match self {
            Self::Host => "hosts",
            Self::PathPrefix => "path prefixes",
            Self::PathTemplate => "path templates",
            Self::Selector => "selectors",
            Self::Principal => "principals only",
        }
    }

    /// `size` policies of one rule each: one DENY for all, the others ALLOW.
    fn yaml(self, size: usize) -> String {
        let mut yaml = String::from(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: no-trace, namespace: ns1}\n\
             spec: {action: DENY, rules: [{to: [{operation: {methods: [TRACE]}}]}]}\n",
        );
        for i in 1..size {
            let (selector, rule) = match self {
                Self::Host => {
                    (String::new(), format!("to: [{{operation: {{hosts: [h{i}.example], methods: [GET]}}}}]"))
                }
                Self::PathPrefix => {
                    (String::new(), format!("to: [{{operation: {{paths: [/s{i}/*], methods: [GET]}}}}]"))
                }
                Self::PathTemplate => {
                    (String::new(), format!("to: [{{operation: {{paths: ['/s{i}/{{*}}/x'], methods: [GET]}}}}]"))
                }
                Self::Selector => (
                    format!("selector: {{matchLabels: {{app: a{i}}}}}, "),
                    "from: [{source: {principals: [cluster.local/ns/ns1/sa/a]}}]".to_owned(),
                ),
                Self::Principal => {
                    (String::new(), format!("from: [{{source: {{principals: [cluster.local/ns/ns1/sa/s{i}]}}}}]"))
                }
            };
            let _ = write!(
                yaml,
                "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: p{i}, namespace: ns1}}\nspec: {{{selector}rules: [{{{rule}}}]}}\n"
            );
        }
        yaml
    }

    /// A request that the rule in the middle of the set allows, and the workload that it is for.
    fn hit(self, size: usize) -> (authz::Request, Target) {
        let i = size / 2;
        let mut request = request();
        let mut app = "b".to_owned();
        match self {
            Self::Host => request.host = format!("h{i}.example"),
            Self::PathPrefix | Self::PathTemplate => request.path = format!("/s{i}/items/x"),
            Self::Selector => {
                app = format!("a{i}");
                request.source.principal = Some("cluster.local/ns/ns1/sa/a".to_owned());
            }
            Self::Principal => request.source.principal = Some(format!("cluster.local/ns/ns1/sa/s{i}")),
        }
        if matches!(self, Self::PathPrefix) {
            request.path = format!("/s{i}/items");
        }
        (request, support::workload(&app))
    }
}

fn evaluation() {
    let mut header = vec!["a decision without a token, µs".to_owned()];
    header.extend(SIZES.iter().map(|size| format!("{size} rules")));
    header.push("10 → 10,000".to_owned());
    let mut table = Table::new(header);
    for shape in Shape::ALL {
        let mut row = vec![format!("told apart by {}", shape.name())];
        let mut times = Vec::new();
        for size in SIZES {
            let policies = support::policies(&shape.yaml(size));
            let keys = KeySets::default();
            let (request, target) = shape.hit(size);
            let given = support::given(&keys);
            let decide = || authz::decide(&policies, &request, &target, &given);
            assert!(decide().is_allowed(), "{} {size}", shape.name());
            let mut miss = request.clone();
            miss.method = "TRACE".to_owned();
            assert!(!authz::decide(&policies, &miss, &target, &given).is_allowed());
            let time = measure(decide);
            row.push(format!("{:.2}", time * 1e6));
            times.push(time);
        }
        row.push(format!("{:.1} ×", times.last().unwrap() / times.first().unwrap()));
        table.row(row);
    }
    table.print();
}

fn loading() {
    let mut table = Table::new(
        ["opening compiled policies", "bytes", "µs", "µs a policy"].iter().map(|&cell| cell.to_owned()).collect(),
    );
    for size in SIZES {
        let section = support::compiled(&Shape::PathPrefix.yaml(size));
        let time = measure(|| Policies::open(&section).unwrap());
        table.row(vec![
            format!("{size} policies"),
            section.len().to_string(),
            format!("{:.1}", time * 1e6),
            format!("{:.3}", time * 1e6 / size as f64),
        ]);
    }
    table.print();
}

fn decisions() {
    let mut table = Table::new(
        ["one token verified", "decision, µs", "aws-lc-rs' own verification, µs", "ratio"]
            .iter()
            .map(|&cell| cell.to_owned())
            .collect(),
    );
    for algorithm in ["RS256", "ES256"] {
        let world = support::TokenWorld::new(algorithm);
        assert!(matches!(world.decide(), Decision::Allow(_)), "{algorithm}");
        let (decision, alone) = measure_both(|| world.decide(), || world.verify_alone());
        table.row(vec![
            algorithm.to_owned(),
            format!("{:.1}", decision * 1e6),
            format!("{:.1}", alone * 1e6),
            format!("{:.2} ×", decision / alone),
        ]);
        // The goal is 5 µs.
        let verified = VerifiedTokens::default();
        assert!(world.decide_with(&verified).is_allowed(), "{algorithm}");
        let (cached, alone) = measure_both(|| world.decide_with(&verified), || world.verify_alone());
        assert_eq!(verified.misses(), 1);
        table.row(vec![
            format!("{algorithm}, cached token"),
            format!("{:.2}", cached * 1e6),
            format!("{:.1}", alone * 1e6),
            format!("{:.3} ×", cached / alone),
        ]);
    }
    table.print();
}
