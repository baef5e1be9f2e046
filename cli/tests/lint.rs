//! `causeway lint`, from the shell's side.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

fn lint(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_causeway")).arg("lint").args(arguments).output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const POLICIES: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - to: [{operation: {paths: [\"/admin\"]}}]
";

#[test]
fn the_examples_have_no_findings() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/bookinfo");
    let output = lint(&["--config", examples.to_str().unwrap(), "--json"]);
    assert_eq!(printed(&output), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_exit_status_follows_the_severity_and_the_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let file = file.to_str().unwrap();
    let rows: [(&[&str], i32, bool); 5] = [
        (&[], 0, true),
        (&["--deny", "path-without-twins"], 1, true),
        (&["--deny", "all"], 1, true),
        (&["--deny", "all", "--allow", "path-without-twins"], 0, false),
        (&["--deny", "path-without-twin"], 2, false),
    ];
    for (options, status, found) in rows {
        let output = lint(&[&["--config", file][..], options].concat());
        assert_eq!(output.status.code(), Some(status), "{options:?}: {output:?}");
        assert_eq!(printed(&output).contains("[path-without-twins]"), found, "{options:?}");
    }
}

#[test]
fn json_has_one_object_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES).unwrap();
    let output = lint(&["--config", file.to_str().unwrap(), "--json"]);
    let printed = printed(&output);
    let findings: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [finding] = findings.as_slice() else { panic!("{findings:?}") };
    let expected = serde_json::json!({
        "code": "path-without-twins",
        "severity": "warning",
        "file": file.to_str().unwrap(),
        "line": 6,
        "resource": "AuthorizationPolicy shop/closed",
        "path": "spec.rules[0].to[0].operation.paths[0]",
        "message": "`/admin` is denied, and `/admin/` is not",
        "instead": "write `/admin/*` beside it",
    });
    assert_eq!(*finding, expected);
}

#[test]
fn a_refused_configuration_is_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    std::fs::write(&file, POLICIES.replace("operation", "operatoin")).unwrap();
    for arguments in [&["--config", file.to_str().unwrap()][..], &[], &["--explain", "no-such-code"]] {
        let output = lint(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_eq!(printed(&output), "", "{arguments:?}");
    }
}

#[test]
fn every_listed_code_is_explained() {
    let list = printed(&lint(&["--list"]));
    assert!(list.lines().count() > 60, "{list}");
    let code = list.lines().next().unwrap().split(' ').next().unwrap();
    let explained = lint(&["--explain", code]);
    assert_eq!(explained.status.code(), Some(0));
    for word in [code, "What:", "Why:", "Instead:", "kind: "] {
        assert!(printed(&explained).contains(word), "{word}");
    }
}

#[test]
fn the_repositorys_own_template_has_no_findings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (examples, template) = (root.join("examples/bookinfo"), root.join("template.yaml"));
    let output = lint(&["--config", examples.to_str().unwrap(), "--template", template.to_str().unwrap(), "--json"]);
    assert_eq!(printed(&output), "");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// Its parameters can switch shadow mode on: then it must not cache, and its defaults must not switch it on.
#[test]
fn the_repositorys_own_template_may_not_cache_what_shadow_mode_answers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let template = std::fs::read_to_string(root.join("template.yaml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("template.yaml");
    for (text, replacement, finding) in [
        ("AuthorizerResultTtlInSeconds: 0", "AuthorizerResultTtlInSeconds: 60", "error[shadow-mode-cached]"),
        ("Default: \"\"\n    MaxLength: 80", "Default: shop\n    MaxLength: 80", "warning[shadow-mode]"),
    ] {
        assert!(template.contains(text), "no {text:?} to replace");
        let text = template.replacen(text, replacement, 1);
        std::fs::write(&changed, text).unwrap();
        let examples = root.join("examples/bookinfo");
        let output = lint(&["--config", examples.to_str().unwrap(), "--template", changed.to_str().unwrap()]);
        assert!(printed(&output).contains(finding), "{finding}: {}", printed(&output));
    }
}

const SHOP: &str = "apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}], selector: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [shop.example], tls: {mode: SIMPLE, credentialName: c}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: shop}
spec:
  hosts: [shop.example]
  gateways: [front]
  http: [{route: [{destination: {host: web, port: {number: 80}}}]}]
---
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata: {name: front, namespace: shop}
spec:
  apiId: a
  stage: $default
  domain: shop.example
  gateway: shop/front
  workload: {namespace: istio-system, labels: {istio: ingressgateway}, serviceAccount: gateway}
  environment: dev
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: idp, namespace: istio-system}
spec:
  jwtRules:
  - {issuer: \"https://idp.example\", jwksUri: \"https://idp.example/jwks.json\", audiences: [shop], forwardOriginalToken: true,
     fromHeaders: [{name: Authorization, prefix: \"Bearer \"}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: ALLOW
  rules:
";

/// The codes that are found with this rule, kind of API, authorizer and route key; and what is said of the cache.
fn cache(rule: &str, authorizer: &str, route: &str) -> (Vec<String>, String) {
    cache_at(
        "  Domain: {Type: AWS::ApiGatewayV2::DomainName, Properties: {DomainName: Shop.example}}\n",
        rule,
        authorizer,
        route,
    )
}

/// As [`cache`], with these domains.
fn cache_at(domain: &str, rule: &str, authorizer: &str, route: &str) -> (Vec<String>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (config, template) = (folder.path().join("p.yaml"), folder.path().join("t.yaml"));
    std::fs::write(&config, format!("{SHOP}  - {rule}\n")).unwrap();
    let text = format!(
        "Resources:
  Api: {{Type: AWS::ApiGatewayV2::Api, Properties: {{ProtocolType: HTTP}}}}
  Own:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties: {{ApiId: !Ref Api, AuthorizerType: REQUEST, AuthorizerPayloadFormatVersion: \"2.0\", {authorizer}}}
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {{ApiId: !Ref Api, RouteKey: '{route}', AuthorizationType: CUSTOM, AuthorizerId: !Ref Own}}
{domain}"
    );
    std::fs::write(&template, text).unwrap();
    let output = lint(&["--config", config.to_str().unwrap(), "--template", template.to_str().unwrap(), "--json"]);
    let printed = printed(&output);
    let findings: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let mut found: Vec<_> = findings.iter().filter(|finding| text(finding, "file").ends_with("t.yaml")).collect();
    found.sort_by_key(|finding| text(finding, "code"));
    let said = found.iter().map(|finding| format!("{}; {}", text(finding, "message"), text(finding, "instead")));
    (found.iter().map(|finding| text(finding, "code")).collect(), said.collect::<Vec<_>>().join("\n"))
}

/// The codes that are found for an authorizer with this TTL, whose function has these properties.
fn rate_limits(globals: &str, properties: &str, ttl: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let (config, template) = (folder.path().join("p.yaml"), folder.path().join("t.yaml"));
    std::fs::write(&config, format!("{SHOP}  - {ANYONE}\n")).unwrap();
    let text = format!(
        "Globals: {{Function: {{{globals}}}}}
Resources:
  Guard: {{Type: AWS::Serverless::Function, Properties: {{{properties}}}}}
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: $default
      Auth: {{DefaultAuthorizer: Own, Authorizers: {{Own: {{
        FunctionArn: !GetAtt Guard.Arn, FunctionPayloadType: REQUEST,
        Identity: {{Headers: [Authorization], Context: [domainName] {ttl}}}}}}}}}
      DefinitionBody: {{paths: {{/a: {{get: {{}}}}}}}}
"
    );
    std::fs::write(&template, text).unwrap();
    let output = lint(&["--config", config.to_str().unwrap(), "--template", template.to_str().unwrap(), "--json"]);
    let printed = printed(&output);
    let found = printed.lines().filter(|line| line.contains("cache-of-rate-limited"));
    found.map(str::to_owned).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_cache_in_front_of_rate_limits() {
    let on = "Environment: {Variables: {CAUSEWAY_RATE_LIMITS_TABLE: !If [Limited, !Ref Table, !Ref AWS::NoValue]}}";
    let off = "Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}";
    let found = rate_limits("", on, ", ReauthorizeEvery: 60");
    assert!(found.contains("cached for 60 seconds, and Guard limits rates") && found.contains("\"error\""), "{found}");
    assert!(rate_limits(on, off, ", ReauthorizeEvery: 60").contains("60 seconds"), "of all functions");
    assert!(rate_limits("", on, "").contains("300 seconds"), "a REST API caches where nothing is said");
    for (globals, own, ttl) in [("", on, ", ReauthorizeEvery: 0"), ("", off, ", ReauthorizeEvery: 60"), ("", off, "")] {
        assert_eq!(rate_limits(globals, own, ttl), "", "{globals} {own} {ttl}");
    }
}

const ANYONE: &str = "from: [{source: {requestPrincipals: [\"*\"]}}]";

fn key(form: &str, sources: &[&str]) -> String {
    format!("EnableSimpleResponses: {form}, AuthorizerResultTtlInSeconds: 60, IdentitySource: [{}]", sources.join(", "))
}

#[test]
fn what_a_key_must_have() {
    let (token, host) = ("$request.header.authorization", "$context.domainName");
    let by = |part: &str| format!("{ANYONE}\n    {part}");
    let methods = by("to: [{operation: {methods: [GET]}}]");
    let address = by("when: [{key: remote.ip, values: [\"203.0.113.0/24\"]}]");
    let tenant = by("when: [{key: \"request.headers[x-tenant]\", values: [a]}]");
    let path = by("when: [{key: \"request.headers[:path]\", values: [\"/a*\"]}]");
    let too_small = "cache-key-too-small";
    // rule, form, identity sources, route, codes, and words of the message
    type Row<'a> = (&'a str, &'a str, &'a [&'a str], &'a str, &'a [&'a str], &'a str);
    let rows: [Row<'_>; 17] = [
        (ANYONE, "false", &[token, host], "GET /a/{id}", &[], ""),
        (ANYONE, "false", &[token], "GET /a", &[too_small], "add the identity sources $context.domainName, each"),
        (ANYONE, "true", &[token, host], "GET /a", &[too_small], "add the identity sources $context.path, each"),
        (ANYONE, "true", &[token, host, "$context.path"], "GET /a/{id}", &[], ""),
        (ANYONE, "true", &[token, host, "$context.routeKey"], "GET /a", &[], ""),
        (ANYONE, "true", &[token, host, "$context.routeKey"], "GET /a/{id}", &[too_small], "$context.path"),
        (&methods, "false", &[token, host], "GET /a", &[], ""),
        (
            &methods,
            "true",
            &[token, host, "$context.path"],
            "GET /a",
            &[too_small],
            "add the identity sources $context.httpMethod, each",
        ),
        (&methods, "true", &[token, host, "$context.routeKey"], "GET /a", &[], ""),
        (&methods, "false", &[token, host], "ANY /a", &["cache-of-preflights"], "OPTIONS"),
        (&address, "false", &[token, host], "GET /a", &[too_small], "$context.identity.sourceIp"),
        (&address, "false", &[token, host, "$context.identity.sourceIp"], "GET /a", &[], ""),
        (&tenant, "false", &[token, host], "GET /a", &[too_small], "$request.header.X-Tenant"),
        (&tenant, "false", &[token, host, "$request.header.X-TENANT"], "GET /a", &[], ""),
        (
            &path,
            "false",
            &[token, host],
            "GET /a",
            &["cache-impossible"],
            "the whole query is read (AuthorizationPolicy shop/web at",
        ),
        (
            ANYONE,
            "false",
            &[host],
            "GET /a",
            &[too_small, "cache-without-credential"],
            "add $request.header.Authorization, or",
        ),
        (
            ANYONE,
            "false",
            &[token, host, "!Ref Other"],
            "GET /a",
            &["cache-impossible"],
            "Ref Other is not known before",
        ),
    ];
    for (rule, form, sources, route, codes, words) in rows {
        let (found, said) = cache(rule, &key(form, sources), route);
        assert_eq!(found, codes, "{rule} {form} {sources:?} {route}: {said}");
        assert!(said.contains(words), "{rule} {form} {sources:?} {route}: {said}");
    }
    // Without a cache nothing is wrong.
    for ttl in ["EnableSimpleResponses: true", "EnableSimpleResponses: true, AuthorizerResultTtlInSeconds: 0"] {
        assert_eq!(cache(&path, ttl, "ANY /a/{proxy+}").0, Vec::<String>::new(), "{ttl}");
    }
}

/// A token may be bound to the client's certificate, so whoever can show one must be in the key by it.
#[test]
fn certificates_must_be_in_the_key_where_there_may_be_any() {
    let (token, host, certificate) =
        ("$request.header.authorization", "$context.domainName", "$context.identity.clientCert.clientCertPem");
    let domain = |kind: &str, properties: &str| format!("  Domain: {{Type: {kind}, Properties: {{{properties}}}}}\n");
    let (v1, v2) = ("AWS::ApiGateway::DomainName", "AWS::ApiGatewayV2::DomainName");
    let mutual = "MutualTlsAuthentication: {TruststoreUri: s3://a/b}";
    let sam = |properties: &str| {
        format!("  Sam: {{Type: AWS::Serverless::HttpApi, Properties: {{Domain: {{{properties}}}}}}}\n")
    };
    let (unknown, too_small) = ("cache-certificate-unknown", "cache-key-too-small");
    let rows: [(String, &[&str], &[&str]); 12] = [
        (String::new(), &[token, host], &[unknown]),
        (String::new(), &[token, host, certificate], &[]),
        (domain(v2, "DomainName: shop.example"), &[token, host], &[]),
        (domain(v1, "DomainName: shop.example"), &[token, host], &[]),
        (domain(v2, "DomainName: other.example"), &[token, host], &[unknown]),
        (domain(v2, "DomainName: !Ref Name"), &[token, host], &[unknown]),
        (domain(v2, &format!("DomainName: other.example, {mutual}")), &[token, host], &[unknown]),
        (domain(v2, &format!("DomainName: shop.example, {mutual}")), &[token, host], &[too_small]),
        (domain(v1, &format!("DomainName: !Ref Name, {mutual}")), &[token, host], &[too_small]),
        (domain(v2, &format!("DomainName: shop.example, {mutual}")), &[token, host, certificate], &[]),
        (sam("DomainName: shop.example"), &[token, host], &[]),
        (
            sam(&format!("DomainName: shop.example, {mutual}")),
            &[token, host],
            &[too_small, "execute-api-beside-mutual-tls"],
        ),
    ];
    for (domain, sources, codes) in rows {
        let (found, said) = cache_at(&domain, ANYONE, &key("false", sources), "GET /a");
        assert_eq!(found, codes, "{domain} {sources:?}: {said}");
        assert!(!codes.contains(&too_small) || said.contains(certificate), "{said}");
    }
}

#[test]
fn paths_are_taken_as_bundle_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("p.yaml"), folder.path().join("q.yaml"));
    std::fs::write(&one, POLICIES).unwrap();
    std::fs::write(&other, POLICIES.replace("web", "shop").replace("closed", "other")).unwrap();
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let expected = printed(&lint(&["--config", one, other]));
    assert!(expected.contains("p.yaml") && expected.contains("q.yaml"), "{expected}");
    for arguments in [&[one, other][..], &[folder.path().to_str().unwrap()], &[other, "--config", one]] {
        assert_eq!(printed(&lint(arguments)), expected, "{arguments:?}");
    }
    for arguments in [&["--list", one][..], &["--explain", "literal-star", one]] {
        assert_eq!(lint(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn errors_come_first() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.yaml"), POLICIES).unwrap();
    let wrong = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: ns1}\n\
                 spec: {action: DENY, rules: [{from: [{source: {principals: ['spiffe://td/ns/a/sa/b']}}]}]}\n";
    std::fs::write(folder.path().join("b.yaml"), wrong).unwrap();
    let printed = printed(&lint(&[folder.path().to_str().unwrap()]));
    let severities: Vec<&str> =
        printed.lines().filter_map(|line| line.split_once(": ")?.1.split_once('[')).map(|(word, _)| word).collect();
    let rank = |word: &&str| ["error", "warning", "info"].iter().position(|known| known == word).unwrap();
    assert!(severities.contains(&"error") && severities.contains(&"warning"), "{printed}");
    assert!(severities.is_sorted_by_key(rank), "{printed}");
}

#[test]
fn a_template_that_was_not_rendered_is_named_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.yaml");
    for (text, found) in [
        ("{{- if .Values.on }}\napiVersion: security.istio.io/v1\n{{- end }}\n", true),
        ("apiVersion: security.istio.io/v1\n- a\n", false),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = lint(&[file.to_str().unwrap()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert_eq!(said.contains("p.yaml:1: `{{` looks like a template that was not rendered"), found, "{said}");
    }
}

#[test]
fn files_that_say_nothing_are_findings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.yaml"), POLICIES).unwrap();
    std::fs::write(folder.path().join("deny.json"), "{}").unwrap();
    std::fs::write(folder.path().join("deny.YAML"), POLICIES).unwrap();
    std::fs::write(folder.path().join("empty.yaml"), "# later\n").unwrap();
    let folder = folder.path().to_str().unwrap();
    let output = lint(&["--config", folder, "--json", "--allow", "path-without-twins"]);
    let printed = printed(&output);
    let findings: Vec<serde_json::Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<(&str, &str)> =
        findings.iter().map(|one| (one["code"].as_str().unwrap(), one["file"].as_str().unwrap())).collect();
    let name = |name: &str| format!("{folder}/{name}");
    let (upper, json, empty) = (name("deny.YAML"), name("deny.json"), name("empty.yaml"));
    let expected =
        [("file-not-read", upper.as_str()), ("file-not-read", json.as_str()), ("file-empty", empty.as_str())];
    assert_eq!(found, expected, "{printed}");
    // As a finding, and not as a note as well.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let denied = lint(&["--config", folder, "--deny", "file-not-read"]);
    assert_eq!(denied.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&denied.stderr).contains("2 errors, 2 warnings, 0 infos"), "{denied:?}");
}
