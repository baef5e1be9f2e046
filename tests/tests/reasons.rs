//! The closed set of reason words, and the two tables that explain them.

use std::collections::BTreeMap;
use std::fs::read_to_string;

use authz::Reason;
use e2e::root;

/// The words in backticks in one column of the table with this head.
fn words(file: &str, head: &str, column: usize) -> Result<BTreeMap<String, usize>, String> {
    let text = read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"))?;
    let table = text.split_once(head).ok_or_else(|| format!("{file} has no table {head:?}"))?.1;
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut words = BTreeMap::new();
    for row in rows {
        let cell = row.split('|').nth(column + 1).ok_or_else(|| format!("{file}: {row:?} is no row"))?;
        for word in cell.split('`').skip(1).step_by(2) {
            *words.entry(word.to_owned()).or_default() += 1;
        }
    }
    Ok(words)
}

#[test]
fn each_reason_is_explained_once_and_no_other() -> Result<(), String> {
    let all: BTreeMap<String, usize> = Reason::ALL.iter().map(|reason| (reason.as_str().to_owned(), 1)).collect();
    for (file, head, column) in
        [("README.md", "| answer | reason |", 1), ("docs/runbook.md", "| reason | means | whose fault |", 0)]
    {
        let found = words(file, head, column)?;
        let wrong: Vec<_> = all
            .keys()
            .chain(found.keys())
            .filter(|word| all.get(*word) != found.get(*word))
            .map(|word| format!("{word}: {} times", found.get(word).copied().unwrap_or_default()))
            .collect();
        assert!(wrong.is_empty(), "{file} names each word of `Reason` once: {wrong:?}");
    }
    Ok(())
}
