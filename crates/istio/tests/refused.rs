//! What is refused, and in which words: every file of `refused/` ends with the errors that it must
//! give, one comment `#! LINE:COLUMN: PATH: MESSAGE` each.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use istio::{SourceFile, parse};

#[test]
fn every_error_is_reported_in_its_words() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refused");
    let mut files = 0;
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let expected: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix("#! ")).map(|line| format!("{name}:{line}")).collect();
        let errors = parse(&[SourceFile { name, text }]).unwrap_err();
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
        assert!(!errors.is_empty());
        files += 1;
    }
    assert_eq!(files, 22);
}
