//! Whatever the text, the reader answers: resources or errors with a place, never a panic.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use istio::{SourceFile, parse};
use proptest::prelude::*;

fn answers(text: String) -> Result<(), TestCaseError> {
    let lines = text.lines().count().max(1) + 1;
    if let Err(errors) = parse(&[SourceFile { name: "f".to_owned(), text }]) {
        prop_assert!(!errors.is_empty());
        for error in errors {
            prop_assert_eq!(&error.file, "f");
            prop_assert!(error.line as usize <= lines, "{} of {} lines", error, lines);
            prop_assert!(!error.message.is_empty() && !error.to_string().contains('\n'), "{:?}", error);
        }
    }
    Ok(())
}

/// The examples and the refused documents: texts from which mutations reach every reader.
fn seeds() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = [root.join("tests/refused"), root.join("../../examples/bookinfo")];
    let files = folders.iter().flat_map(|folder| folder.read_dir().unwrap());
    files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect()
}

/// Replaces `length` characters from `at` on.
fn splice(text: &str, at: usize, length: usize, with: &str) -> String {
    let kept = text.chars().take(at);
    kept.chain(with.chars()).chain(text.chars().skip(at + length)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text(text in any::<String>()) {
        answers(text)?;
    }

    #[test]
    fn any_yaml_like_text(
        text in proptest::collection::vec(
            prop::sample::select(vec![
                "- ", ": ", "a", "spec", "\n", "\n  ", "\n    ", "{", "}", "[", "]", ",", "|", ">-", "\"", "'", "#",
                "&a ", "*a", "!!str ", "!", "?", "---\n", "...\n", "%YAML 1.2\n", "<<", "~", "\t", "\r\n", "\u{feff}",
                "1", "true", "apiVersion: v1\n", "kind: Service\n", "metadata: {name: a}\n", "\u{0}", "\u{85}", "é",
            ]),
            0..60,
        )
    ) {
        answers(text.concat())?;
    }

    #[test]
    fn any_mutation_of_a_file(
        seed in prop::sample::select(seeds()),
        edits in proptest::collection::vec(
            (any::<prop::sample::Index>(), 0..12usize, "[\\PC\n\t ]{0,4}|[-:{}\\[\\],|>\"'#&*!?~]{0,3}"),
            1..6,
        ),
    ) {
        let mut text = seed;
        for (at, length, with) in edits {
            text = splice(&text, at.index(text.chars().count() + 1), length, &with);
        }
        answers(text)?;
    }

    #[test]
    fn any_part_of_a_file(seed in prop::sample::select(seeds()), end in any::<prop::sample::Index>()) {
        answers(splice(&seed, end.index(seed.chars().count() + 1), seed.len(), ""))?;
    }
}

#[test]
fn a_key_over_several_lines_does_not_break_an_error() {
    for key in ["\"a\\nb\"", "\"a\\e[2Jb\"", "\"a\\u0085b\""] {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{{key}: {{{key}: 1}}, selector: {{{key}: []}}}}\n"
        );
        let errors = parse(&[SourceFile { name: "f".to_owned(), text }]).unwrap_err();
        assert!(errors.iter().any(|error| error.path.starts_with("spec.a\\")), "{errors:?}");
        assert!(errors.iter().all(|error| !error.to_string().contains(char::is_control)), "{errors:?}");
    }
}
