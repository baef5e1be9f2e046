//! "Create routes for HTTP APIs in API Gateway" unless a test names another page.

use std::time::Duration;

use serde_json::json;

use super::harness::{Function, api, get, loopback, raw, send, serve};
use crate::dev::gateway::{Gateway, GatewayConfig, Route};

fn not_found() -> (u16, serde_json::Value) {
    (404, json!({"message": "Not Found"}))
}

/// The page's table, with its explanations: "The request fully matches this static route." "The request fully matches
/// this route." "The request doesn't fully match a route. The route with a GET method and a greedy path variable catches
/// this request." "The ANY method matches all methods that you haven't defined for a route. Routes with greedy path variables have
/// higher priority than the $default route."
#[tokio::test]
async fn the_most_specific_route_is_selected() {
    // In the reverse of their priority, so that the order given decides nothing.
    let routes = [
        "$default",
        "ANY /{proxy+}",
        "GET /pets/{proxy+}",
        "GET /pets/dog/{id}",
        "GET /pets/dog/1",
        "ANY /pets/dog/{id}",
        "ANY /owners/{id}/pets",
    ];
    let server = serve(api(&routes, &Function::echo())).await;
    let cases = [
        ("GET", "/pets/dog/1", "GET /pets/dog/1", json!(null)),
        ("GET", "/pets/dog/2", "GET /pets/dog/{id}", json!({"id": "2"})),
        ("PUT", "/pets/dog/2", "ANY /pets/dog/{id}", json!({"id": "2"})),
        ("GET", "/pets/cat/1", "GET /pets/{proxy+}", json!({"proxy": "cat/1"})),
        ("POST", "/test/5", "ANY /{proxy+}", json!({"proxy": "test/5"})),
        ("GET", "/owners/a%20b/pets", "ANY /owners/{id}/pets", json!({"id": "a b"})),
        ("GET", "/owners//pets", "ANY /{proxy+}", json!({"proxy": "owners//pets"})),
        ("GET", "/pets/dog/a%2Fb", "GET /pets/dog/{id}", json!({"id": "a/b"})),
        ("GET", "/pets/", "ANY /{proxy+}", json!({"proxy": "pets/"})),
        ("GET", "/", "$default", json!(null)),
    ];
    for (method, target, key, parameters) in cases {
        let event = send(&server, method, target, &[], b"").await.json();
        assert_eq!(event["routeKey"], key, "{method} {target}");
        assert_eq!(event["pathParameters"], parameters, "{method} {target}");
    }
}

/// "If no routes match a request, API Gateway returns {"message":"Not Found"} to the client."
#[tokio::test]
async fn no_route_is_404() {
    let backend = Function::echo();
    let server = serve(api(&["GET /a", "GET /b/{proxy+}"], &backend)).await;
    for (method, target) in
        [("POST", "/a"), ("GET", "/A"), ("GET", "/a/"), ("GET", "/a/b"), ("GET", "/"), ("GET", "/b"), ("GET", "/b/")]
    {
        assert_eq!(send(&server, method, target, &[], b"").await.refusal(), not_found(), "{method} {target}");
    }
    assert_eq!(backend.calls(), 0);
}

/// "If the request explicitly matches a stage, API Gateway sends the request to that stage. […] If there's no $default
/// stage, then the API returns {"message":"Not Found"}". A custom domain name has no stage in its URLs; events show it in front
/// of the path in either case.
#[tokio::test]
async fn the_stage_is_in_the_path_of_the_apis_own_domain_only() {
    let mut config = api(&["GET /a", "GET /"], &Function::echo());
    config.stage = "dev".to_owned();
    config.domains = vec!["api.bookinfo.example".to_owned(), "*.wild.example".to_owned()];
    let server = serve(config).await;
    let ask = |host: &'static str, target: &'static str| {
        let address = server.address;
        async move {
            raw(address, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes()).await
        }
    };
    let own = "api1.execute-api.eu-central-1.amazonaws.com";
    let cases = [
        (own, "/dev/a", "/dev/a", own, "api1"),
        (own, "/dev", "/dev/", own, "api1"),
        ("api.bookinfo.example", "/a", "/dev/a", "api.bookinfo.example", "api"),
        ("API.bookinfo.example:8443", "/a", "/dev/a", "api.bookinfo.example", "api"),
        ("x.wild.example", "/a", "/dev/a", "x.wild.example", "x"),
        // Addressed as a machine, the listener is the first custom domain.
        ("127.0.0.1:8080", "/a", "/dev/a", "api.bookinfo.example", "api"),
        ("localhost", "/a", "/dev/a", "api.bookinfo.example", "api"),
    ];
    for (host, target, raw_path, domain, prefix) in cases {
        let event = ask(host, target).await.json();
        assert_eq!(event["rawPath"], raw_path, "{host}");
        let context = &event["requestContext"];
        assert_eq!(context["http"]["path"], raw_path, "{host}");
        assert_eq!(
            (&context["domainName"], &context["domainPrefix"], &context["stage"]),
            (&json!(domain), &json!(prefix), &json!("dev"))
        );
        assert_eq!(event["headers"]["host"], domain, "a function sees no other host");
    }
    for target in ["/a", "/develop/a", "/", "/de"] {
        assert_eq!(ask(own, target).await.refusal(), not_found(), "{target}");
    }
    assert_eq!(ask("api.bookinfo.example", "/dev/a").await.refusal(), not_found());
    for host in ["other.example", "wild.example", "a.b.wild.example", "api1.execute-api.us-east-1.amazonaws.com"] {
        assert_eq!(ask(host, "/a").await.refusal(), (403, json!({"message": "Forbidden"})), "{host}");
    }
}

#[tokio::test]
async fn routes_that_contradict_each_other_are_refused() {
    let cases: [(&[&str], &str); 4] = [
        (&["GET /a", "GET /a"], "route key"),
        (&["GET /a/{b}", "GET /a/{c}"], "route key"),
        (&["$default", "$default"], "route key"),
        (&["GET a"], "expected a path that begins with /"),
    ];
    for (routes, expected) in cases {
        let error = Gateway::bind(api(routes, &Function::echo()), loopback()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut config = api(&[], &Function::echo());
    config.routes = vec![Route::new("GET /a", "nobody")];
    let error = Gateway::bind(config, loopback()).await.unwrap_err().to_string();
    assert_eq!(
        error,
        r#"the gateway's integration of the route "GET /a" is "nobody", expected the name of one of its integrations"#
    );
}

#[tokio::test]
async fn an_api_that_cannot_be_is_refused_by_name() {
    type Adjust = fn(&mut GatewayConfig);
    let cases: [(&str, Adjust); 10] = [
        (r#"the gateway's api id is "a/b", expected letters, digits, - and _"#, |c| c.api_id = "a/b".to_owned()),
        ("stage is \"\"", |c| c.stage = String::new()),
        ("stage is \"a/b\"", |c| c.stage = "a/b".to_owned()),
        ("region is \"\"", |c| c.region = String::new()),
        ("account id is \"1\"", |c| c.account_id = "1".to_owned()),
        ("domain is \"API.example\"", |c| c.domains = vec!["API.example".to_owned()]),
        ("domain is \"a.example:1\"", |c| c.domains = vec!["a.example:1".to_owned()]),
        ("integration name is \"backend\"", |c| c.integrations.extend(c.integrations.clone())),
        ("timeout of the integration \"backend\" is \"30.001s\"", |c| {
            c.integrations[0].timeout = Duration::from_millis(30_001)
        }),
        ("number of routes is \"301\"", |c| {
            c.routes = (0..301).map(|n| Route::new(format!("GET /{n}"), "backend")).collect()
        }),
    ];
    for (expected, adjust) in cases {
        let mut config = api(&["GET /a"], &Function::echo());
        adjust(&mut config);
        let error = Gateway::bind(config, loopback()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_busy_port_is_named() {
    let server = serve(api(&[], &Function::echo())).await;
    let error = Gateway::bind(api(&[], &Function::echo()), server.address).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {}: ", server.address)), "{error}");
    assert_eq!(get(&server, "/", &[]).await.status, 404);
}
