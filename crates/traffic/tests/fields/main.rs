//! `docs/traffic-fields.md` says what becomes of each field of Istio's traffic rules; this asks for each whether that is so.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod destination_rule;
mod others;
mod virtual_service;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use istio::SourceFile;
use traffic::compile;
use traffic::table::Table;

/// Fields at one place of a document.
pub(crate) struct Section {
    /// As in the text: the kind and the path.
    pub(crate) heading: &'static str,
    /// A document, where `@` stands for the fields.
    pub(crate) document: &'static str,
    /// Fields that are there; with `is_word` a single value.
    pub(crate) base: &'static [(&'static str, &'static str)],
    /// Whether the names are words that one field may have.
    pub(crate) is_word: bool,
    /// Each with a value. `a-b`: the field `a`, without `b`.
    pub(crate) fields: &'static [(&'static str, &'static str)],
}

/// What stands beside the document.
const MESH: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: reviews, namespace: bookinfo }
spec:
  hosts: [reviews.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports:
  - { number: 9080, name: http, protocol: HTTP }
  - { number: 9081, name: http-two, protocol: HTTP }
  endpoints:
  - { address: one.mesh.example, labels: { version: v1 } }
  - { address: two.mesh.example, labels: { version: v2 } }
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/reviews]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: ratings, namespace: bookinfo }
spec:
  hosts: [ratings.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports:
  - { number: 9080, name: http, protocol: HTTP }
  - { number: 9000, name: tcp, protocol: TCP }
  endpoints:
  - { address: one.mesh.example, locality: eu/eu-1, labels: { version: v1 }, serviceAccount: ratings }
  - { address: two.mesh.example, locality: us/us-1, labels: { version: v2 } }
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/ratings]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: details, namespace: bookinfo }
spec:
  hosts: [details.bookinfo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: DNS
  ports: [{ number: 9080, name: http, protocol: HTTP }]
  endpoints: [{ address: one.mesh.example }]
  subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/details]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: api, namespace: bookinfo }
spec:
  hosts: [api.example.com]
  resolution: DNS
  ports: [{ number: 80, name: http, protocol: HTTP }]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: selected, namespace: bookinfo }
spec: { address: selected.mesh.example, labels: { app: selected }, ports: { http: 15443 } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: bookinfo }
spec:
  host: reviews
  subsets: [{ name: v1, labels: { version: v1 } }]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: of-the-root, namespace: istio-system }
spec:
  host: details.bookinfo.svc.cluster.local
  trafficPolicy: { outlierDetection: {} }
---
";

/// One row of the text.
struct Said {
    outcome: String,
    tests: Vec<String>,
}

/// `HEADING FIELD`, and what the text says.
fn text() -> BTreeMap<String, Said> {
    let text = include_str!("../../../../docs/traffic-fields.md");
    let mut said = BTreeMap::new();
    let mut heading = "";
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("### ") {
            heading = found.trim_matches('`');
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [fields, outcome, tests] = cells[..] else { continue };
        for field in words(fields) {
            let row = Said { outcome: outcome.to_owned(), tests: words(tests) };
            assert!(said.insert(format!("{heading} {field}"), row).is_none(), "{heading} {field} is there twice");
        }
    }
    said
}

fn sections() -> impl Iterator<Item = &'static Section> {
    [virtual_service::SECTIONS, destination_rule::SECTIONS, others::SECTIONS].into_iter().flatten()
}

impl Section {
    /// The document with these fields in their place.
    fn filled(&self, fields: &[(&str, &str)]) -> String {
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let value = fields.first().map_or("", |field| field.1).to_owned();
        let inserted = if self.is_word { value } else { format!("{{ {} }}", pairs.join(", ")) };
        self.document.replacen('@', &inserted, 1)
    }

    fn without_field(&self) -> String {
        self.filled(self.base)
    }

    /// The document with a field, in place of one of that name and of one that excludes it.
    fn with_field(&self, field: (&str, &str)) -> String {
        let (name, without) = if self.is_word { (field.0, "") } else { split(field.0) };
        let stays = |of: &&(&str, &str)| {
            of.0 != name && of.0 != without && !field.1.contains(&format!(", {}:", of.0)) && !self.is_word
        };
        let mut fields = vec![(name, field.1)];
        fields.extend(self.base.iter().filter(stays));
        self.filled(&fields)
    }
}

fn split(name: &str) -> (&str, &str) {
    name.split_once('-').unwrap_or((name, ""))
}

fn compiled(document: &str) -> Result<Table, Vec<String>> {
    let file = |name: &str, text: &str| SourceFile { name: name.to_owned(), text: text.to_owned() };
    let files = [file("mesh.yaml", MESH), file("tested.yaml", document)];
    let resources =
        istio::parse(&files).map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    compile::table(&resources).map(|(table, _)| table)
}

#[test]
fn every_field_does_what_the_text_says() {
    let mut said = text();
    let mut wrong = Vec::new();
    for section in sections() {
        let base = compiled(&section.without_field());
        for field in section.fields {
            let name = if section.is_word { field.0 } else { split(field.0).0 };
            let what = format!("{} {name}", section.heading);
            let Some(row) = said.remove(&what) else {
                wrong.push(format!("{what}: the text has it not"));
                continue;
            };
            let document = section.with_field(*field);
            match (row.outcome.as_str(), compiled(&document)) {
                ("yes", Ok(table)) if section.is_word && section.base.first().is_some_and(|base| base.1 == field.1) => {
                    if base.as_ref() != Ok(&table) {
                        wrong.push(format!("{what}: two tables of one document"));
                    }
                }
                ("yes", Ok(table)) if base.as_ref() == Ok(&table) => {
                    wrong.push(format!("{what}: the table is the same with it"));
                }
                ("no effect", Ok(table)) if base.as_ref() != Ok(&table) => {
                    wrong.push(format!("{what}: the table is another one with it, or: {:?}", base.as_ref().err()));
                }
                ("yes" | "no effect", Ok(_)) => {}
                ("refused", Err(errors)) if errors.iter().any(|error| is_placed(error, section, name)) => {}
                (outcome, Ok(_)) => wrong.push(format!("{what}: is accepted, and the text says {outcome}")),
                (outcome, Err(errors)) => wrong.push(format!("{what}: {outcome} and {errors:?}\n{document}")),
            }
        }
    }
    let untested: Vec<&String> = said.keys().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(untested.is_empty(), "the text alone has {untested:?}");
}

/// Whether an error names the file, the line and the path of the field.
fn is_placed(error: &str, section: &Section, field: &str) -> bool {
    let Some(rest) = error.strip_prefix("tested.yaml:") else { return false };
    let line = rest.split(':').next().and_then(|line| line.parse::<u32>().ok());
    let path = section.heading.split_once(' ').map_or("", |(_, path)| path);
    let wanted = if section.is_word { path.to_owned() } else { format!("{path}.{field}") };
    // The text has `[]` for any element.
    let found: String = rest.chars().filter(|c| !c.is_ascii_digit()).collect();
    let wanted: String = wanted.chars().filter(|c| !c.is_ascii_digit()).collect();
    line.is_some() && found.contains(&wanted)
}

/// A name of a test in the text is that of a test.
#[test]
fn the_tests_that_the_text_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut tests = BTreeSet::new();
    for folder in
        ["crates/traffic/src", "crates/traffic/tests", "crates/istio/tests", "extension/src", "extension/tests"]
    {
        collect(&root.join(folder), &mut tests);
    }
    let said = text();
    let mut rows = 0;
    for (what, row) in &said {
        for test in &row.tests {
            assert!(tests.contains(test), "{what}: no test is called {test}");
        }
        assert_eq!(row.outcome == "yes", !row.tests.is_empty(), "{what}");
        rows += 1;
    }
    assert!(rows > 200, "{rows}");
}

/// The names of the tests in the Rust files of a folder and those in it.
fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut is_test = false;
            for line in text.lines().map(str::trim) {
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
                if let Some((name, _)) = name.and_then(|rest| rest.split_once('('))
                    && is_test
                {
                    tests.insert(name.to_owned());
                    is_test = false;
                }
            }
        }
    }
}
