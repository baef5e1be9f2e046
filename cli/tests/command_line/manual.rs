//! The pages of `causeway man`.

use std::process::Command;

use super::{causeway, causeway_in, finished, has};

#[test]
fn every_page_is_written_and_formats_without_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let said = causeway_in(folder.path(), &["man", "--output", "man1"], "");
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    let mut pages: Vec<_> = std::fs::read_dir(folder.path().join("man1")).unwrap().map(|e| e.unwrap().path()).collect();
    pages.sort();
    let names: Vec<_> = pages.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    for name in
        ["causeway.1", "causeway-init.1", "causeway-keys.1", "causeway-keys-create.1", "causeway-token-inspect.1"]
    {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("help")), "{names:?}");
    let groff = has("groff");
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap();
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "\"EXIT STATUS\"", "ENVIRONMENT"] {
            let found = text.lines().filter(|line| *line == format!(".SH {section}")).count();
            assert_eq!(found, 1, "{}: {section}", page.display());
        }
        if groff {
            let mut command = Command::new("groff");
            command.args(["-man", "-Kutf8", "-Tutf8", "-ww", "-rLL=100n"]).arg(page);
            let said = finished(command, "");
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", page.display());
        }
    }
}

#[test]
fn one_page_is_printed() {
    let page = causeway(&["man", "lint"]);
    assert_eq!((page.code, page.err.as_str()), (0, ""));
    assert!(page.out.contains("causeway\\-lint") && page.out.contains("causeway lint \\-\\-explain"), "{}", page.out);
    assert!(causeway(&["man", "keys", "create"]).out.contains("causeway\\-keys\\-create"));
    assert!(causeway(&["man"]).out.contains("causeway\\-explain\\-egress(1)"));
    for (words, expected) in [
        (&["man", "lnt"][..], "causeway has no command `lnt`; expected one of demo, dev,"),
        (&["man", "keys", "make"], "causeway keys has no command `make`; expected one of create, list,"),
        (&["man", "lint", "now"], "causeway lint has no command `now`; expected no command"),
    ] {
        let said = causeway(words);
        assert!(said.code == 2 && said.err.contains(expected), "{}", said.err);
    }
}

#[test]
fn a_file_where_the_folder_of_the_pages_goes_is_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("man1"), "mine").unwrap();
    let said = causeway_in(folder.path(), &["man", "-o", "man1"], "");
    assert!(said.code == 1 && said.err.starts_with("causeway: cannot write man1: "), "{}", said.err);
    assert_eq!(std::fs::read_to_string(folder.path().join("man1")).unwrap(), "mine");
}
