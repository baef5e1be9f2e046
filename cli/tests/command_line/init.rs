//! `causeway init`: what it writes is sound at once, and it never takes anything away.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::causeway_in;

fn init(folder: &Path, options: &[&str]) -> super::Said {
    let base = ["init", "out", "--service", "orders", "--namespace", "shop"];
    causeway_in(folder, &[&base[..], options].concat(), "")
}

/// Lines as objects.
fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_combination_lints_bundles_and_answers_as_it_says() {
    let long = "a".repeat(51);
    let rows: &[(&[&str], &[u64])] = &[
        (&[], &[403, 401, 403, 200, 403, 403]),
        (&["--host", "api.shop.example"], &[403, 401, 403, 200, 403, 403]),
        (&["--host", "api.shop.example", "--path", "/"], &[403, 401, 403, 200, 403, 403]),
        (&["--host", "api.shop.example", "--path", "/*"], &[403, 401, 403, 200, 403]),
        (&["--host", "a.b", "--path", "/v1/orders/*", "--path", "/v1/orders"], &[403, 401, 403, 200, 403, 403]),
        (&["--path", "/*", "--issuer", "https://tenant.issuer.example/"], &[403, 401, 403, 200, 403]),
        (
            &[
                "--host",
                "api.shop.example",
                "--issuer",
                "https://issuer.example:8443/a",
                "--audience",
                "https://shop.example/",
            ],
            &[403, 401, 403, 200, 403, 403],
        ),
        // Words that are something else in YAML, where they are not quoted.
        (&["--service", "on", "--namespace", "1"], &[403, 401, 403, 200, 403, 403]),
        (&["--service", "null", "--namespace", "0x1", "--host", "no.yes"], &[403, 401, 403, 200, 403, 403]),
        (&["--service", &long, "--host", "api.shop.example"], &[403, 401, 403, 200, 403, 403]),
        (
            &["--path", "/a'b", "--path", "/a:b", "--path", "/&a,(b)", "--audience", "a\"]\u{7d}#"],
            &[403, 401, 403, 200, 403, 403],
        ),
    ];
    for (options, statuses) in rows {
        let folder = tempfile::tempdir().unwrap();
        let own = ["--service", "--namespace"].iter().any(|name| options.contains(name));
        let named = ["init", "out"].into_iter().chain(options.iter().copied());
        let named: Vec<&str> = if options.contains(&"--namespace") {
            named.collect()
        } else {
            named.chain(["--namespace", "shop"]).collect()
        };
        let made = if own { causeway_in(folder.path(), &named, "") } else { init(folder.path(), options) };
        assert_eq!((made.code, made.err.as_str()), (0, ""), "{options:?}");
        assert_eq!(options.contains(&"--host"), folder.path().join("out/gateway.yaml").exists(), "{options:?}");

        // The commands that it prints, word by word.
        let next: Vec<Vec<String>> =
            made.out.lines().filter(|line| line.starts_with("  causeway ")).map(|l| shlex::split(l).unwrap()).collect();
        assert_eq!(next.len(), 3, "{}", made.out);
        for command in &next {
            let words: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
            let said = causeway_in(folder.path(), &words, "");
            assert_eq!(said.code, 0, "{options:?}: {command:?}: {}{}", said.out, said.err);
            assert!(!said.err.contains("warning:"), "{options:?}: {command:?}: {}", said.err);
            match words[0] {
                "lint" => assert!(said.out.is_empty() && words.ends_with(&["--deny", "all"]), "{}", said.out),
                "evaluate" => {
                    let requests = std::fs::read_to_string(folder.path().join("out/requests.jsonl")).unwrap();
                    let expected: Vec<u64> = objects(&requests).iter().map(|r| r["expect"].as_u64().unwrap()).collect();
                    let answered: Vec<u64> = objects(&said.out).iter().map(|a| a["status"].as_u64().unwrap()).collect();
                    assert_eq!(
                        (&expected, answered.as_slice()),
                        (&answered.clone(), *statuses),
                        "{options:?}: {}",
                        said.out
                    );
                }
                _ => assert!(said.out.starts_with("wrote "), "{}", said.out),
            }
        }
        // The bundle decides as the files do.
        let bundle = next[2].last().unwrap();
        let requests = ["evaluate", "--config", bundle, "--requests", "out/requests.jsonl"];
        let said = causeway_in(folder.path(), &requests, "");
        let answered: Vec<u64> = objects(&said.out).iter().map(|a| a["status"].as_u64().unwrap()).collect();
        assert_eq!(answered, *statuses, "{options:?}: {}", said.err);
    }
}

#[test]
fn the_reasons_are_those_of_the_comments() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
    let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "out/requests.jsonl"], "");
    let reasons: BTreeMap<String, String> = objects(&said.out)
        .iter()
        .map(|answer| (answer["id"].as_str().unwrap().to_owned(), answer["reason"].as_str().unwrap().to_owned()))
        .collect();
    for (id, reason) in [
        ("no-credential", "no_credential"),
        ("bad-token", "token_malformed"),
        ("wrong-scope", "denied_no_match"),
        ("reader", "allowed_by_policy"),
        ("writer", "denied_no_match"),
        ("elsewhere", "denied_no_match"),
    ] {
        assert_eq!(reasons[id], reason, "{id}");
    }
}

/// Without its ALLOW policy, and with one that allows everybody, the service stays closed to who has no credential.
#[test]
fn a_slip_in_an_allow_policy_does_not_open_it() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(folder.path(), &[]).code, 0);
    let open = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: slip, namespace: shop}\n\
                spec: {selector: {matchLabels: {app: orders}}, rules: [{}]}\n";
    std::fs::write(folder.path().join("out/slip.yaml"), open).unwrap();
    let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "out/requests.jsonl"], "");
    let answers = objects(&said.out);
    assert_eq!((&answers[0]["id"], &answers[0]["allowed"]), (&"no-credential".into(), &false.into()), "{}", said.out);
    assert_eq!((&answers[2]["id"], &answers[2]["allowed"]), (&"wrong-scope".into(), &true.into()), "the slip counts");
}

#[test]
fn what_is_written_touches_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
    for app in ["payments", "orders-2", "orders-gateway", "orders-api-gateway"] {
        let request = format!(
            r#"{{"id":"1","method":"GET","host":"a","path":"/","workload":{{"namespace":"shop","labels":{{"app":"{app}"}}}}}}"#
        );
        let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "-"], &request);
        assert!(said.out.contains("allowed_no_policy"), "{}", said.out);
    }
}

/// ALLOW policies add up: what opens the gateway must open no workload that is only named like one.
#[test]
fn a_workload_that_is_named_like_the_gateway_stays_closed() {
    const KEY: &str = "cwk_dev_exampleREADM000000000000000000000000000000004PYycp";
    for app in ["orders-gateway", "orders-api-gateway"] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
        // It takes the same tokens and keys, and opens one path of its own.
        let own = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: other, namespace: shop}}\n\
             spec: {{ports: [{{name: http, port: 8080}}], selector: {{app: {app}}}}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
             metadata: {{name: other, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  \
             jwtRules: [{{issuer: \"https://issuer.example\", audiences: [orders]}}]\n---\n\
             apiVersion: causeway.dev/v1alpha1\nkind: ApiKeyAuthentication\n\
             metadata: {{name: other, namespace: shop}}\nspec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  \
             issuer: \"https://issuer.example\"\n  headerName: x-api-key\n---\n\
             apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: other, namespace: shop}}\n\
             spec:\n  selector: {{matchLabels: {{app: {app}}}}}\n  action: ALLOW\n  \
             rules: [{{to: [{{operation: {{paths: [/own]}}}}]}}]\n"
        );
        std::fs::write(folder.path().join("out/other.yaml"), own).unwrap();
        let request = |method: &str, path: &str| {
            let key = json!({"client_id": "example", "scope": "orders.read", "aud": ["orders"]});
            let request = json!({
                "id": path, "method": method, "host": "api.shop.example", "path": path,
                "workload": {"namespace": "shop", "labels": {"app": app}},
                "headers": [["x-api-key", KEY]], "api_keys": {KEY: key},
            });
            format!("{request}\n")
        };
        let requests = [request("DELETE", "/admin"), request("GET", "/orders"), request("GET", "/own")].concat();
        let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "-"], &requests);
        let answers = objects(&said.out);
        let answers: Vec<(&Value, &Value)> = answers.iter().map(|a| (&a["status"], &a["reason"])).collect();
        let (denied, allowed) = ((json!(403), json!("denied_no_match")), (json!(200), json!("allowed_by_policy")));
        let expected = [&denied, &denied, &allowed].map(|(status, reason)| (status, reason));
        assert_eq!(answers, expected, "{app}: {}{}", said.out, said.err);
    }
}

/// The gateway lets pass what its host and the paths are, and nothing else.
#[test]
fn the_gateway_opens_its_host_and_its_paths_alone() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
    let requests = std::fs::read_to_string(folder.path().join("out/requests.jsonl")).unwrap();
    let reader = objects(&requests).into_iter().find(|request| request["id"] == "reader").unwrap();
    let rows = [
        ("api.shop.example", "/orders", 200),
        ("api.shop.example:443", "/orders/1", 200),
        ("other.shop.example", "/orders", 403),
        ("api.shop.example", "/orders-2", 403),
        ("api.shop.example", "/admin", 403),
    ];
    for (host, path, status) in rows {
        let mut request = reader.clone();
        request["host"] = host.into();
        request["path"] = path.into();
        // Of the gateway's workload alone: the first hop without the second one.
        request["workload"] = json!({"namespace": "shop", "labels": {"causeway.dev/api": "orders"}});
        let asked = ["evaluate", "--config", "out", "--requests", "-"];
        let said = causeway_in(folder.path(), &asked, &request.to_string());
        assert_eq!(objects(&said.out)[0]["status"], status, "{host}{path}: {}{}", said.out, said.err);
    }
}

/// What the guide protect-a-service.md says of a second service behind the same API, step by step.
#[test]
fn a_second_service_comes_behind_the_same_api() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("out").join(name);
    let edit = |name: &str, from: &str, to: &str| {
        let text = std::fs::read_to_string(at(name)).unwrap();
        assert!(text.contains(from), "{name}: {from}");
        std::fs::write(at(name), text.replacen(from, to, 1)).unwrap();
    };
    assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
    let second = ["init", "out/ratings", "--service", "ratings", "--namespace", "shop"];
    assert_eq!(causeway_in(folder.path(), &second, "").code, 0);
    // Its route, at the end of the VirtualService.
    let route = "    - name: ratings\n      \
                 match: [{uri: {exact: /ratings}}, {uri: {prefix: /ratings/}}]\n      \
                 route: [{destination: {host: ratings, port: {number: 8080}}}]\n";
    let routes = std::fs::read_to_string(at("gateway.yaml")).unwrap();
    std::fs::write(at("gateway.yaml"), routes + route).unwrap();
    // Its audience and its paths, at the first hop.
    edit("access.yaml", "audiences: [\"orders\"]", "audiences: [\"orders\", \"ratings\"]");
    let (last, more) = ("              - \"/orders/*\"\n", "              - /ratings\n              - /ratings/*\n");
    edit("access.yaml", last, &format!("{last}{more}"));
    // Its peer is the gateway.
    let (peer, from) =
        ("principals: [\"cluster.local/ns/shop/sa/orders-api-gateway\"]", "            requestPrincipals: [");
    edit(
        "ratings/access.yaml",
        &format!("        - source:\n{from}"),
        &format!("        - source:\n            {peer}\n{from}"),
    );

    let linted = causeway_in(folder.path(), &["lint", "out", "--deny", "all"], "");
    assert_eq!((linted.code, linted.out.as_str()), (0, ""), "{}", linted.err);
    for name in ["requests.jsonl", "ratings/requests.jsonl"] {
        // Through the API: as a request to its host, and not to a workload.
        let mut requests = objects(&std::fs::read_to_string(at(name)).unwrap());
        for request in &mut requests {
            request["host"] = "api.shop.example".into();
            request.as_object_mut().unwrap().remove("workload");
        }
        let lines: String = requests.iter().map(|request| format!("{request}\n")).collect();
        let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "-"], &lines);
        let expected: Vec<&Value> = requests.iter().map(|request| &request["expect"]).collect();
        let answers = objects(&said.out);
        let answered: Vec<&Value> = answers.iter().map(|answer| &answer["status"]).collect();
        assert_eq!(answered, expected, "{name}: {}{}", said.out, said.err);
    }
    // A token for one service does not open the other one, whatever its scope, though the gateway lets it pass.
    let requests = std::fs::read_to_string(at("requests.jsonl")).unwrap();
    let crossed = requests.lines().find(|line| line.contains("\"reader\"")).unwrap();
    let crossed = crossed.replace("orders.read", "ratings.read").replace("\"/orders\"", "\"/ratings\"");
    let said = causeway_in(folder.path(), &["evaluate", "--config", "out", "--requests", "-"], &crossed);
    assert_eq!(objects(&said.out)[0]["allowed"], false, "{}", said.out);
    // A gateway of its own for the same host is refused.
    let own =
        ["init", "out/ratings", "--service", "ratings", "--namespace", "shop", "--host", "api.shop.example", "--force"];
    assert_eq!(causeway_in(folder.path(), &own, "").code, 0);
    let bundled = causeway_in(folder.path(), &["bundle", "out", "-o", "both.bundle"], "");
    assert!(bundled.code != 0 && bundled.err.contains("the domain api.shop.example"), "{}", bundled.err);
}

#[test]
fn the_root_namespace_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["init", "out", "--service", "orders", "--namespace", "istio-system", "--force"];
    let said = causeway_in(folder.path(), &words, "");
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert!(said.err.contains("root namespace, whose policies are for workloads of every namespace"), "{}", said.err);
    assert!(!folder.path().join("out").exists());
}

/// A way in that stays behind would lead past the first hop.
#[test]
fn a_gateway_that_is_there_is_not_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap();
    assert_eq!(init(folder.path(), &["--host", "api.shop.example"]).code, 0);
    let before = [read("access.yaml"), read("gateway.yaml"), read("requests.jsonl")];
    let said = init(folder.path(), &["--force", "--path", "/other"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("out/gateway.yaml is there, no --host is given"), "{}", said.err);
    assert_eq!([read("access.yaml"), read("gateway.yaml"), read("requests.jsonl")], before);
    // With a host it is written anew, and without the file there is nothing to leave behind.
    assert_eq!(init(folder.path(), &["--force", "--host", "new.shop.example"]).code, 0);
    assert!(read("gateway.yaml").contains("new.shop.example"));
    std::fs::remove_file(folder.path().join("out/gateway.yaml")).unwrap();
    assert_eq!(init(folder.path(), &["--force"]).code, 0);
    assert!(!read("access.yaml").contains("causeway.dev/api"));
}

#[test]
fn nothing_is_overwritten_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join("out").join(name);
    std::fs::create_dir(folder.path().join("out")).unwrap();
    std::fs::write(at("service.yaml"), "mine").unwrap();
    std::fs::write(at("other.txt"), "mine").unwrap();
    let said = init(folder.path(), &[]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("out has service.yaml already, and nothing was written"), "{}", said.err);
    assert!(said.err.contains("--force"), "{}", said.err);
    assert!(!at("access.yaml").exists() && !at("requests.jsonl").exists());
    assert_eq!(std::fs::read_to_string(at("service.yaml")).unwrap(), "mine");
    // A link that leads nowhere is there as well.
    std::fs::remove_file(at("service.yaml")).unwrap();
    std::os::unix::fs::symlink("../elsewhere", at("service.yaml")).unwrap();
    assert_eq!(init(folder.path(), &[]).code, 1);
    // It is replaced, not followed.
    assert_eq!(init(folder.path(), &["--force"]).code, 0);
    assert!(!folder.path().join("elsewhere").exists());
    assert!(std::fs::read_to_string(at("service.yaml")).unwrap().contains("kind: Service"));
    assert_eq!(std::fs::read_to_string(at("other.txt")).unwrap(), "mine");
    // No temporary file is left.
    assert_eq!(std::fs::read_dir(folder.path().join("out")).unwrap().count(), 4);
    // A file where the folder goes.
    std::fs::write(folder.path().join("file"), "mine").unwrap();
    let said = causeway_in(folder.path(), &["init", "file", "--service", "a", "--namespace", "b", "--force"], "");
    assert!(said.code == 1 && said.err.contains("file is a file, and init writes into a folder"), "{}", said.err);
}

#[test]
fn a_name_that_could_be_yaml_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let rows: &[(&str, &[&str])] = &[
        (
            "--service",
            &["", "Orders", "a b", "a: b", "a\nkind: x", "-a", "a-", "1a", "a.b", "a_b", "a#b", "é", "*", "&a"],
        ),
        ("--namespace", &["", "Shop", "a/b", "a\n---\n", "\"a\"", "{a}", "-", "istio-system"]),
        (
            "--host",
            &["", "shop", "a b.c", "*.shop.example", "https://a.b", "a.b:443", "192.0.2.1", "a.b\nx: y", "a.b\"]"],
        ),
        (
            "--issuer",
            &["", "http://issuer.example", "issuer", "https://a\n- issuer: b", "https://a/*", "https://a/\"]"],
        ),
        ("--audience", &["", "a b", "a\nb", "é"]),
        (
            "--path",
            &[
                "", "orders", "/a b", "/a\n- b", "/a/../b", "/a*", "/*/a", "/{*}", "/a?b", "/a%2e", "/a\"b", "//",
                "/a#b",
            ],
        ),
    ];
    for (option, values) in rows {
        for value in *values {
            // The last one counts where an option may be given once.
            let mut words = vec!["init", "out"];
            for (name, fine) in [("--service", "orders"), ("--namespace", "shop")] {
                words.extend(if name == *option { [name, value] } else { [name, fine] });
            }
            let last = format!("{option}={value}");
            let words: Vec<&str> = match *option {
                "--service" | "--namespace" => {
                    let at = words.iter().position(|word| word == option).unwrap();
                    words.drain(at..at + 2);
                    words.into_iter().chain([last.as_str()]).collect()
                }
                _ => words.into_iter().chain([last.as_str()]).collect(),
            };
            let said = causeway_in(folder.path(), &words, "");
            assert_eq!((said.code, said.out.as_str()), (2, ""), "{words:?}");
            assert!(said.err.contains(option) && said.err.contains("expected"), "{words:?}: {}", said.err);
            assert_eq!(said.err.trim_end().lines().count(), 1, "{words:?}: {}", said.err);
        }
    }
    assert!(!folder.path().join("out").exists(), "nothing is written for a name that is refused");
}

#[test]
fn the_folder_may_have_any_name() {
    let folder = tempfile::tempdir().unwrap();
    let said = causeway_in(folder.path(), &["init", "a b/it's", "--service", "a", "--namespace", "b", "--json"], "");
    assert_eq!(said.code, 0, "{}", said.err);
    let said: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(said["folder"], "a b/it's");
    for command in said["next"].as_array().unwrap() {
        let words = shlex::split(command.as_str().unwrap()).unwrap();
        let words: Vec<&str> = words.iter().skip(1).map(String::as_str).collect();
        let said = causeway_in(folder.path(), &words, "");
        assert_eq!(said.code, 0, "{command}: {}", said.err);
    }
}
