//! The limits of a file, at the bound and one past it.

#![allow(clippy::unwrap_used)]

use istio::*;

fn file(name: &str, text: &str) -> SourceFile {
    SourceFile { name: name.to_owned(), text: text.to_owned() }
}

fn read(text: &str) -> Resources {
    parse(&[file("f.yaml", text)]).unwrap()
}

/// The lines of the errors of `files`.
fn refused(files: &[SourceFile]) -> Vec<String> {
    parse(files).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_file_has_a_largest_size() {
    let at_the_limit = format!("#{}", " ".repeat(MAX_FILE_BYTES - 1));
    assert_eq!(read(&at_the_limit), Resources::default());
    assert_eq!(
        refused(&[file("f.yaml", &format!("{at_the_limit} "))]),
        ["f.yaml: expected a file of at most 4194304 bytes, found 4194305"]
    );
}

#[test]
fn nesting_has_a_limit() {
    // The document and `spec` are one level, each list another.
    let nested = |levels: usize| {
        format!("apiVersion: example.com/v1\nkind: Deep\nspec: {}{}\n", "[".repeat(levels), "]".repeat(levels))
    };
    assert_eq!(read(&nested(MAX_DEPTH - 1)).skipped.len(), 1);
    assert_eq!(refused(&[file("f.yaml", &nested(MAX_DEPTH))]), ["f.yaml:3:38: nested more than 32 levels deep"]);
    assert_eq!(refused(&[file("f.yaml", &"[".repeat(1_000_000))]).len(), 1);
    assert_eq!(refused(&[file("f.yaml", &"- ".repeat(1_000_000))]).len(), 1);
}

#[test]
fn the_number_of_errors_is_bounded() {
    let documents = |count| file("f.yaml", &"kind: a\n---\n".repeat(count));
    assert_eq!(refused(&[documents(MAX_ERRORS)]).len(), MAX_ERRORS);
    let errors = refused(&[documents(MAX_ERRORS + 1)]);
    assert_eq!(
        (errors.len(), errors.last().unwrap().as_str()),
        (MAX_ERRORS + 1, "f.yaml: 1 more errors are not shown")
    );
    let errors = refused(&[documents(MAX_ERRORS - 1), documents(3), documents(MAX_ERRORS + 1)]);
    assert_eq!(errors.len(), MAX_ERRORS + 1);
    assert_eq!(errors.last().unwrap(), "f.yaml: 1003 more errors are not shown");
}
