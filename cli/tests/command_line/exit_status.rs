//! The exit status of every command that a script asks.

use super::{causeway, causeway_in, checkout};

#[test]
fn every_code_means_what_it_says() {
    let request = r#"{"id":"1","method":"GET","host":"api.bookinfo.example","path":"/admin"}"#;
    let evaluate = ["evaluate", "--config", "examples/bookinfo", "--requests", "-"];
    let key = "cwk_dev_exampleREADM000000000000000000000000000000004PYycp";
    let rows: &[(&[&str], &str, i32)] = &[
        (&evaluate, request, 0),
        (&evaluate, "{}", 1),
        (&["evaluate", "--config", "nowhere", "--requests", "-"], request, 2),
        (&["evaluate", "--config", "examples/bookinfo"], request, 2),
        (&["explain", "--config", "examples/bookinfo", "--request", request], "", 0),
        (&["explain", "--config", "examples/bookinfo", "--request", "{}"], "", 1),
        (&["explain", "--config", "examples/bookinfo", "--curl", "wget a"], "", 2),
        (&["explain-egress", "--config", "examples/bookinfo", "http://unknown/"], "", 0),
        (&["explain-egress", "--config", "examples/bookinfo", "unknown"], "", 2),
        (&["lint", "examples/bookinfo"], "", 0),
        (&["lint", "examples/bookinfo", "--deny", "no-such-code"], "", 2),
        (&["normalize", "--mode", "BASE"], "/%00\n", 0),
        (&["normalize", "--mode", "base2"], "", 2),
        (&["token", "inspect"], "a.b.c", 0),
        (&["token", "inspect"], "", 1),
        (&["token", "look"], "", 2),
        (&["bundle", "examples/bookinfo", "-o", "/dev/null/mesh.bundle"], "", 1),
        (&["bundle", "examples/events/http-2.0.json", "-o", "/dev/null/mesh.bundle"], "", 2),
        (&["keys", "check"], key, 0),
        (&["keys", "check"], "cwk_dev_no", 1),
        (&["keys", "list"], "", 1),
        (&["keys", "make"], "", 2),
        (&["clients", "list"], "", 1),
        (&["clients", "show"], "", 2),
        (&["init", "--service", "a", "--namespace", "A"], "", 2),
        (&["completions", "bash"], "", 0),
        (&["completions"], "", 2),
        (&["man", "lint"], "", 0),
        (&["man", "-o", "/dev/null/man"], "", 1),
        (&["man", "nothing"], "", 2),
        (&["--version"], "", 0),
        (&["--help"], "", 0),
        (&["--color", "sometimes", "lint"], "", 2),
        (&[], "", 2),
    ];
    for (arguments, input, code) in rows {
        let said = causeway_in(&checkout(), arguments, input);
        assert_eq!(said.code, *code, "{arguments:?}: {}{}", said.out, said.err);
        assert!(*code > 0 || said.err.is_empty() || arguments.contains(&"lint"), "{arguments:?}: {}", said.err);
    }
    // A finding that is an error.
    let folder = tempfile::tempdir().unwrap();
    let open =
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: a, namespace: b}\nspec: {}\n";
    std::fs::write(folder.path().join("p.yaml"), open).unwrap();
    assert_eq!(causeway_in(folder.path(), &["lint", "p.yaml", "--deny", "all"], "").code, 1);
}

#[test]
fn the_table_of_the_documentation_is_that_of_the_manual() {
    let page = causeway(&["man"]).out;
    let section = page.split_once(".SH \"EXIT STATUS\"\n").unwrap().1.split_once(".SH").unwrap().0;
    let lines: Vec<&str> = section.lines().filter(|line| !line.starts_with(".TP")).collect();
    let documentation = std::fs::read_to_string(checkout().join("docs/commands.md")).unwrap();
    assert_eq!(lines.len(), 6, "{section}");
    for row in lines.chunks(2) {
        let code = row[0].trim_start_matches("\\fB").trim_end_matches("\\fR");
        let row = format!("| {code} | {} |", row[1]);
        assert!(documentation.contains(&row), "docs/commands.md lacks {row}");
    }
}
