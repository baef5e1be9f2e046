//! Requests with what must become of them: the file `requests.jsonl`.

use serde_json::{Value, json};

use super::service::Service;

/// The name of the file.
pub(super) const NAME: &str = "requests.jsonl";

/// Well-formed, of the environment dev, and in no key store: each line says what it stands for.
const EXAMPLE_KEY: &str = "cwk_dev_exampleREADM000000000000000000000000000000004PYycp";

/// A path that no configuration of ours opens, unless it opens all of them.
const ELSEWHERE: &str = "/this-path-is-not-open";

/// The text of the file, one object a line.
pub(super) fn text(service: &Service) -> String {
    let path = service.paths.first().map(|path| path.replace("/*", "/1")).unwrap_or_default();
    let scope = service.scope();
    let with = |scope: &str| Some(scope.to_owned());
    let mut lines = vec![
        ("no-credential", "GET", path.clone(), None, 403, "no credential; API Gateway answers its client 401"),
        ("bad-token", "GET", path.clone(), None, 401, "a credential that is not good is worse than none"),
        ("wrong-scope", "GET", path.clone(), with("something.else"), 403, "a credential alone opens nothing"),
        ("reader", "GET", path.clone(), with(&scope), 200, "the scope opens reading"),
        ("writer", "POST", path, with(&scope), 403, "and nothing but reading"),
    ];
    if !service.paths.iter().any(|path| path == "/*") {
        lines.push(("elsewhere", "GET", ELSEWHERE.to_owned(), with(&scope), 403, "of the paths that are named"));
    }
    let line = |(id, method, path, scope, status, note): (&str, &str, String, Option<String>, u16, &str)| {
        format!("{}\n", request(service, id, method, &path, scope.as_deref(), status, note))
    };
    lines.into_iter().map(line).collect()
}

fn request(
    service: &Service,
    id: &str,
    method: &str,
    path: &str,
    scope: Option<&str>,
    status: u16,
    note: &str,
) -> Value {
    let inside = format!("{}.{}", service.name, service.namespace);
    let host = service.host.as_deref().unwrap_or(&inside);
    let mut request = json!({"id": id, "method": method, "host": host, "path": path, "expect": status, "note": note});
    if service.host.is_none() {
        request["workload"] = json!({"namespace": service.namespace, "labels": {"app": service.name}});
    }
    if status == 401 {
        request["headers"] = json!([["authorization", "Bearer not.a.token"]]);
    }
    if let Some(scope) = scope {
        request["headers"] = json!([["x-api-key", EXAMPLE_KEY]]);
        request["api_keys"] = json!({EXAMPLE_KEY: {"client_id": "example", "scope": scope, "aud": [service.audience]}});
    }
    request
}
