//! Words for people who mistyped one.

use std::collections::BTreeSet;

/// Whether `a` was probably meant to be `b`: a letter or two away, case not counted.
pub(super) fn is_near(a: &str, b: &str) -> bool {
    const LONGEST: usize = 64;
    if a.len() > LONGEST || b.len() > LONGEST || a == b {
        return false;
    }
    let most = if a.len().min(b.len()) > 5 { 2 } else { 1 };
    distance(&a.to_lowercase(), &b.to_lowercase()) <= most
}

/// The nearest of `known`.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|candidate| is_near(candidate, word))
        .min_by_key(|candidate| distance(&candidate.to_lowercase(), &word.to_lowercase()))
}

/// Words with commas, each between backquotes, and no more than a line of them.
pub(super) fn list(words: &BTreeSet<&str>) -> String {
    const MOST: usize = 8;
    let mut shown: Vec<String> = words.iter().take(MOST).map(|word| format!("`{word}`")).collect();
    if words.len() > MOST {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// Whether a value with a `*` at one end, or without, takes `text`; with case.
pub(super) fn matches(value: &str, text: &str) -> bool {
    match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("*", ..) => !text.is_empty(),
        (_, Some(suffix), _) => text.ends_with(suffix),
        (_, None, Some(prefix)) => text.starts_with(prefix),
        (_, None, None) => value == text,
    }
}

/// Whether Istio reads the path as a template.
pub(super) fn is_template(path: &str) -> bool {
    path.contains("{*}") || path.contains("{**}")
}

/// Levenshtein's distance, in which two neighbours that changed places count once as well.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at = |rows: &[Vec<usize>], i: usize, j: usize| rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = at(&rows, i - 1, j - 1) + usize::from(a.get(i - 1) != b.get(j - 1));
            let left = row.last().copied().unwrap_or(i) + 1;
            let mut best = replaced.min(at(&rows, i - 1, j) + 1).min(left);
            if i > 1 && j > 1 && a.get(i - 1) == b.get(j - 2) && a.get(i - 2) == b.get(j - 1) {
                best = best.min(at(&rows, i - 2, j - 2) + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        for (a, b, near) in [
            ("web", "wbe", true),
            ("web", "wed", true),
            ("web", "api", false),
            ("bookinfo", "bookinf", true),
            ("bookinfo", "Bookinfo", true),
            ("reviews", "ratings", false),
            ("same", "same", false),
            ("", "a", true),
        ] {
            assert_eq!(is_near(a, b), near, "{a} {b}");
        }
        assert_eq!(nearest("reveiws", ["ratings", "reviews"]), Some("reviews"));
    }
}
