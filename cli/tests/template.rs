//! `causeway bundle --template`: what becomes of SAM and CloudFormation templates.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::process::{Command, Output};

use authz::api::{Apis, ArchivedAccess, ArchivedApi, ArchivedApiKind, ArchivedAuthorizerKind};
use platform::bundle::{Bundle, BundleError, Section};

fn root(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path).display().to_string()
}

fn bundle(templates: &[&str], output: &Path) -> Output {
    bundle_with(&[], templates, output)
}

fn bundle_with(options: &[&str], templates: &[&str], output: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
    command.args(["bundle", &root("examples/bookinfo"), "-o"]).arg(output).args(options);
    for template in templates {
        command.args(["--template", template]);
    }
    command.output().unwrap()
}

/// What was said, and what the bundle holds; nothing when it was refused.
fn read_all(templates: &[&str]) -> (String, Option<Apis>) {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (n, text) in templates.iter().enumerate() {
        let file = folder.path().join(format!("t{n}.yaml"));
        std::fs::write(&file, text).unwrap();
        files.push(file.display().to_string());
    }
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let made = folder.path().join("mesh.bundle");
    // What is made of a template is asked here, and not whether its authorizers fit the policies.
    let output = bundle_with(&["--allow-lint-errors"], &files, &made);
    let said = String::from_utf8(output.stderr).unwrap().replace(&format!("{}/", folder.path().display()), "");
    if !output.status.success() {
        assert_eq!((output.status.code(), made.exists()), (Some(2), false), "{said}");
        return (said, None);
    }
    let opened = Bundle::open(&made).unwrap();
    (said, Some(Apis::open(opened.section(Section::Api).unwrap()).unwrap()))
}

fn read(template: &str) -> (String, Apis) {
    let (said, apis) = read_all(&[template]);
    (said.clone(), apis.unwrap_or_else(|| panic!("{said}")))
}

/// `METHOD PATH ACCESS` of each route.
fn routes(api: &ArchivedApi) -> Vec<String> {
    let access = |access: &ArchivedAccess| match access {
        ArchivedAccess::Open => "open".to_owned(),
        ArchivedAccess::Iam => "iam".to_owned(),
        ArchivedAccess::Elsewhere(text) => format!("<{text}>"),
        ArchivedAccess::Authorizer(index) => api.authorizers[index.to_native() as usize].name.to_string(),
    };
    api.routes.iter().map(|route| format!("{} {} {}", route.method, route.path, access(&route.access))).collect()
}

fn api<'a>(apis: &'a Apis, name: &str) -> &'a ArchivedApi {
    apis.iter().find(|api| api.reference.known() == Some(name)).unwrap()
}

#[test]
fn the_repositorys_own_template() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("mesh.bundle");
    let output = bundle(&[&root("template.yaml")], &made);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no route of an API with the authorizer is open");
    let opened = Bundle::open(&made).unwrap();
    let apis = Apis::open(opened.section(Section::Api).unwrap()).unwrap();
    assert_eq!(apis.iter().count(), 3);

    let central = api(&apis, "Api");
    assert_eq!((central.kind.as_ref(), central.routes.len()), (Some(&ArchivedApiKind::Http), 0));
    assert_eq!(central.stages[0].known(), Some("$default"));
    let authorizer = &central.authorizers[0];
    assert_eq!((authorizer.kind, authorizer.simple_responses), (ArchivedAuthorizerKind::Request, true));
    assert_eq!(authorizer.ttl_seconds.as_ref().map(|ttl| ttl.to_native()), Some(0));
    assert_eq!(
        (authorizer.identity_sources.len(), authorizer.payload_format.as_ref().unwrap().known()),
        (0, Some("2.0"))
    );
    assert_eq!(authorizer.function.as_ref().unwrap().known(), None, "it is made when the stack is");

    // The issuer proves its clients itself; which paths there are, tests/fixtures/template/ says.
    for (name, paths) in [("IssuerApi", 21), ("MtlsApi", 3)] {
        let routes = routes(api(&apis, name));
        assert_eq!(routes.len(), paths, "{name}");
        assert!(routes.iter().all(|route| route.starts_with("ANY /") && route.ends_with(" open")), "{routes:?}");
        assert!(routes.contains(&"ANY /oauth2/token open".to_owned()), "{routes:?}");
    }
}

#[test]
fn without_a_template_there_is_no_section() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("mesh.bundle");
    assert!(bundle(&[], &made).status.success());
    let opened = Bundle::open(&made).unwrap();
    assert!(matches!(opened.section(Section::Api), Err(BundleError::NoSection(_))));
}

#[test]
fn plain_cloudformation() {
    let (said, apis) = read(
        "Resources:
  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: GET /a, AuthorizationType: CUSTOM, AuthorizerId: !Ref Own }
  Att:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      { ApiId: { Ref: Api }, RouteKey: 'ANY /b/{proxy+}', AuthorizationType: CUSTOM, AuthorizerId: { 'Fn::GetAtt': [Own, AuthorizerId] } }
  Forgotten:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: $default, AuthorizerId: !Ref AWS::NoValue }
  Iam:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: GET /iam, AuthorizationType: AWS_IAM }
  Far:
    Type: AWS::ApiGatewayV2::Route
    Properties:
      { ApiId: !ImportValue central-ApiId, RouteKey: GET /far, AuthorizationType: CUSTOM, AuthorizerId: !ImportValue central-Id }
  FarForgotten:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !ImportValue central-ApiId, RouteKey: GET /open }
  Own:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      { ApiId: !Ref Api, AuthorizerType: REQUEST, IdentitySource: [$request.header.Authorization], AuthorizerResultTtlInSeconds: 60 }
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: { ProtocolType: HTTP }
  Stage:
    Type: AWS::ApiGatewayV2::Stage
    Properties: { ApiId: !Ref Api, StageName: !Ref StageName }
",
    );
    let own = api(&apis, "Api");
    assert_eq!(routes(own), ["GET /a Own", "ANY /b/{proxy+} Own", " $default open", "GET /iam iam"]);
    assert_eq!((own.stages.len(), own.stages[0].known()), (1, None));
    assert_eq!(own.authorizers[0].identity_sources[0].known(), Some("$request.header.Authorization"));
    let far = apis.iter().find(|api| api.kind.is_none()).unwrap();
    assert_eq!(routes(far), ["GET /far <ImportValue central-Id>", "GET /open open"]);
    assert!(said.contains("t0.yaml:9: the route $default of the API Api has no authorizer: it is open"), "{said}");
    assert!(said.contains("t0.yaml:19: the route GET /open of the API ImportValue central-ApiId"), "{said}");
    assert_eq!(said.lines().filter(|line| !line.contains("see `causeway lint")).count(), 2, "{said}");
}

#[test]
fn sam_http_apis() {
    let (said, apis) = read(
        "Transform: AWS::Serverless-2016-10-31
Globals:
  HttpApi:
    Auth:
      Authorizers:
        Causeway: { FunctionArn: !GetAtt F.Arn, AuthorizerPayloadFormatVersion: 2.0, EnableSimpleResponses: true,
                    Identity: { Headers: [Authorization, X-Api-Key], ReauthorizeEvery: 30 } }
Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      StageName: prod
      Auth:
        DefaultAuthorizer: Causeway
        Authorizers: { Other: { JwtConfiguration: { issuer: i }, IdentitySource: $request.header.Authorization } }
  F:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: get, Path: /a } }
        B: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: any, Path: /b, Auth: { Authorizer: Other } } }
        C: { Type: HttpApi, Properties: { ApiId: !Ref Api, Method: post, Path: /c, Auth: { Authorizer: NONE } } }
        D: { Type: HttpApi, Properties: { ApiId: !Ref Api } }
        E: { Type: Schedule, Properties: { Schedule: rate(1 hour) } }
        F: { Type: HttpApi, Properties: { Method: get, Path: /implicit } }
        G: { Type: HttpApi, Properties: { Method: get, Path: /guarded, Auth: { Authorizer: Causeway } } }
",
    );
    let own = api(&apis, "Api");
    assert_eq!(routes(own), ["GET /a Causeway", "ANY /b Other", "POST /c open", " $default Causeway"]);
    assert_eq!(own.stages[0].known(), Some("prod"));
    let causeway = own.authorizers.iter().find(|one| one.name == "Causeway").unwrap();
    let sources: Vec<_> = causeway.identity_sources.iter().map(|source| source.known().unwrap()).collect();
    assert_eq!(sources, ["$request.header.Authorization", "$request.header.X-Api-Key"]);
    assert_eq!(causeway.ttl_seconds.as_ref().unwrap().to_native(), 30);
    assert_eq!(own.authorizers.iter().find(|one| one.name == "Other").unwrap().kind, ArchivedAuthorizerKind::Jwt);
    assert_eq!(routes(api(&apis, "ServerlessHttpApi")), ["GET /implicit open", "GET /guarded Causeway"]);
    assert!(said.contains("t0.yaml:22: the route POST /c of the API Api"), "{said}");
    assert!(said.contains("t0.yaml:25: the route GET /implicit of the API ServerlessHttpApi"), "{said}");
    assert_eq!(said.lines().count(), 2, "{said}");
}

#[test]
fn sam_rest_apis() {
    let (said, apis) = read(
        "Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: !Sub prod
      Auth:
        DefaultAuthorizer: Token
        Authorizers:
          Token: { FunctionArn: !GetAtt F.Arn }
          Request: { FunctionArn: !GetAtt F.Arn, FunctionPayloadType: REQUEST,
                     Identity: { Headers: [A], QueryStrings: [q], Context: [path], ReauthorizeEvery: 0 } }
          Pool: { UserPoolArn: arn }
  F:
    Type: AWS::Serverless::Function
    Properties:
      Events:
        A: { Type: Api, Properties: { RestApiId: !Ref Api, Method: get, Path: /a } }
        B: { Type: Api, Properties: { RestApiId: !Ref Api, Method: GET, Path: /b, Auth: { Authorizer: Request } } }
        C: { Type: Api, Properties: { RestApiId: !Ref Api, Method: GET, Path: /c, Auth: { Authorizer: AWS_IAM } } }
        D: { Type: Api, Properties: { Method: GET, Path: /d } }
",
    );
    let own = api(&apis, "Api");
    assert_eq!(routes(own), ["GET /a Token", "GET /b Request", "GET /c iam"]);
    assert_eq!((own.stages[0].known(), own.kind.as_ref()), (Some("prod"), Some(&ArchivedApiKind::Rest)));
    let sources = |name: &str| -> Vec<String> {
        let one = own.authorizers.iter().find(|one| one.name == name).unwrap();
        one.identity_sources.iter().map(|source| source.known().unwrap().to_owned()).collect()
    };
    assert_eq!(sources("Token"), ["method.request.header.Authorization"]);
    assert_eq!(sources("Request"), ["method.request.header.A", "method.request.querystring.q", "context.path"]);
    assert_eq!(routes(api(&apis, "ServerlessRestApi")), ["GET /d open"]);
    assert_eq!(said, "", "the implicit API has no authorizer at all");
}

#[test]
fn plain_rest_apis() {
    let (said, apis) = read(
        "Resources:
  Api: { Type: AWS::ApiGateway::RestApi }
  Stage: { Type: AWS::ApiGateway::Stage, Properties: { RestApiId: !Ref Api, StageName: prod } }
  Reviews: { Type: AWS::ApiGateway::Resource, Properties: { RestApiId: !Ref Api, ParentId: !GetAtt Api.RootResourceId, PathPart: reviews } }
  Review: { Type: AWS::ApiGateway::Resource, Properties: { RestApiId: !Ref Api, ParentId: !Ref Reviews, PathPart: '{id}' } }
  Own:
    Type: AWS::ApiGateway::Authorizer
    Properties:
      { RestApiId: !Ref Api, Type: REQUEST, AuthorizerUri: !GetAtt F.Arn,
        IdentitySource: 'method.request.header.Authorization, context.path', AuthorizerResultTtlInSeconds: 9 }
  Root:
    Type: AWS::ApiGateway::Method
    Properties: { RestApiId: !Ref Api, HttpMethod: GET, ResourceId: { Fn::GetAtt: [Api, RootResourceId] }, AuthorizationType: AWS_IAM }
  Get:
    Type: AWS::ApiGateway::Method
    Properties: { RestApiId: !Ref Api, HttpMethod: ANY, ResourceId: !Ref Review, AuthorizationType: CUSTOM, AuthorizerId: !Ref Own }
  Forgotten:
    Type: AWS::ApiGateway::Method
    Properties: { RestApiId: !Ref Api, HttpMethod: POST, ResourceId: !Ref Reviews }
  Body:
    Type: AWS::ApiGateway::RestApi
    Properties:
      Body:
        swagger: '2.0'
        securityDefinitions: { own: { type: apiKey, name: X-Token, x-amazon-apigateway-authorizer: { type: token } } }
        paths: { /a: { get: { security: [{ own: [] }] } } }
",
    );
    let own = api(&apis, "Api");
    assert_eq!(routes(own), ["GET / iam", "ANY /reviews/{id} Own", "POST /reviews open"]);
    assert_eq!((own.stages[0].known(), own.kind.as_ref()), (Some("prod"), Some(&ArchivedApiKind::Rest)));
    let sources: Vec<_> = own.authorizers[0].identity_sources.iter().map(|source| source.known().unwrap()).collect();
    assert_eq!(sources, ["method.request.header.Authorization", "context.path"]);
    assert_eq!(routes(api(&apis, "Body")), ["GET /a own"]);
    assert!(said.contains("t0.yaml:17: the route POST /reviews of the API Api"), "{said}");
}

#[test]
fn openapi_documents() {
    let (said, apis) = read(
        "Resources:
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      DefinitionBody:
        openapi: 3.0.1
        components:
          securitySchemes:
            own:
              type: apiKey
              x-amazon-apigateway-authorizer: { type: request, identitySource: '$request.header.A, $context.path', authorizerResultTtlInSeconds: 5 }
            iam: { type: apiKey, x-amazon-apigateway-authtype: awsSigv4 }
            key: { type: apiKey }
        security: [{ own: [] }]
        paths:
          /a:
            parameters: []
            get: {}
            post: { security: [] }
          /b: { x-amazon-apigateway-any-method: { security: [{ iam: [] }] } }
          /c: { put: { security: [{ key: [], own: [] }] } }
          $default: { x-amazon-apigateway-any-method: {} }
",
    );
    let own = api(&apis, "Api");
    assert_eq!(routes(own), ["GET /a own", "POST /a open", "ANY /b iam", "PUT /c own", " $default own"]);
    assert_eq!(own.authorizers[0].identity_sources.len(), 2);
    assert!(said.contains("t0.yaml:19: the route POST /a"), "{said}");
}

#[test]
fn a_websocket_api_asks_at_connect_alone() {
    let (said, apis) = read(
        "Resources:
  Api: { Type: AWS::ApiGatewayV2::Api, Properties: { ProtocolType: WEBSOCKET } }
  Own: { Type: AWS::ApiGatewayV2::Authorizer, Properties: { ApiId: !Ref Api, AuthorizerType: REQUEST } }
  Connect:
    Type: AWS::ApiGatewayV2::Route
    Properties: { ApiId: !Ref Api, RouteKey: $connect, AuthorizationType: CUSTOM, AuthorizerId: !Ref Own }
  Send: { Type: AWS::ApiGatewayV2::Route, Properties: { ApiId: !Ref Api, RouteKey: send } }
",
    );
    assert_eq!((routes(api(&apis, "Api")), said.as_str()), (vec![" $connect Own".into(), " send open".into()], ""));
}

#[test]
fn several_templates_are_one_set() {
    let api = |name: &str| format!("Resources: {{ {name}: {{ Type: AWS::Serverless::HttpApi }} }}");
    let (said, apis) = read_all(&[&api("B"), &api("A")]);
    let apis = apis.unwrap_or_else(|| panic!("{said}"));
    let names: Vec<_> = apis.iter().map(|api| api.reference.known().unwrap()).collect();
    assert_eq!(names, ["A", "B"]);
}

#[test]
fn a_nested_stack_is_named() {
    let (said, _) = read("Resources: { Inner: { Type: AWS::CloudFormation::Stack, Properties: {} } }");
    assert!(said.contains("warning: t0.yaml:1: Inner: the template of this nested stack is not read"), "{said}");
}

#[test]
fn what_cannot_be_read_is_an_error_with_its_line() {
    let resource = |body: &str| format!("Resources:\n  Api:\n    Type: AWS::Serverless::HttpApi\n{body}");
    let rows = [
        ("".to_owned(), "the template is empty"),
        ("a: [".to_owned(), "not valid YAML"),
        ("a: 1".to_owned(), "t0.yaml:1: expected a template with Resources"),
        ("Resources: {}\n---\nResources: {}\n".to_owned(), "one document"),
        ("a: &x 1\nResources: {}\n".to_owned(), "t0.yaml:1: anchors"),
        ("a: *x\nResources: {}\n".to_owned(), "unknown anchor"),
        ("a: 1\na: 2\n".to_owned(), "t0.yaml:2: the member \"a\" is already on line 1"),
        (format!("Transform: [AWS::Include]\n{}", resource("")), "t0.yaml:1: the macro AWS::Include may write routes"),
        (format!("Transform: {{ Name: AWS::Include }}\n{}", resource("")), "may write routes"),
        (resource("    Fn::Transform: { Name: AWS::Include }\n"), "t0.yaml:4: Fn::Transform may write routes"),
        (resource("    Properties: { DefinitionBody: { Fn::Transform: { Name: AWS::Include } } }\n"), "t0.yaml:4: Fn::Tr"),
        (resource("    Properties: { DefinitionBody: !Transform { Name: AWS::Include } }\n"), "t0.yaml:4: Fn::Transform"),
        (format!("{}  Fn::ForEach::Loop: [X, [a], {{}}]\n", resource("")), "t0.yaml:4: Fn::ForEach may write routes"),
        (resource("    Properties: { DefinitionUri: api.yaml }\n"), "t0.yaml:4: DefinitionUri"),
        (resource("    Properties: { Auth: { DefaultAuthorizer: X }, DefinitionBody: { paths: {} } }\n"), "authorizer \"X\""),
        (resource("    Properties: { DefinitionBody: { paths: { /a: { $ref: x } } } }\n"), "$ref is not supported"),
        (resource("    Properties: { DefinitionBody: { paths: { /a: { get: { security: [{ x: [] }] } } } } }\n"), "no scheme"),
        (
            "Resources: { A: { Type: AWS::ApiGateway::RestApi, Properties: { BodyS3Location: x } } }".to_owned(),
            "t0.yaml:1: A: the routes stand elsewhere",
        ),
        (
            "Resources: { M: { Type: AWS::ApiGateway::Method, Properties: { RestApiId: a, HttpMethod: GET, ResourceId: !ImportValue r } } }"
                .to_owned(),
            "t0.yaml:1: M: the path of its ResourceId is not in this template",
        ),
        (
            "Resources:\n  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      Events:\n        E: { Type: HttpApi, Properties: { Method: get, Path: !Ref P } }\n"
                .to_owned(),
            "t0.yaml:6: Path: expected a text that is known before deployment, found Ref P",
        ),
        (
            "Resources:\n  R: { Type: AWS::ApiGatewayV2::Route, Properties: { ApiId: x, RouteKey: GET /, AuthorizationType: CUSTOM, AuthorizerId: !If [C, !Ref A, !Ref AWS::NoValue] } }\n"
                .to_owned(),
            "t0.yaml:2: AuthorizerId: which one it is depends on a condition",
        ),
        ("Resources: { R: { Type: AWS::ApiGatewayV2::Route } }".to_owned(), "R: ApiId is missing"),
    ];
    for (template, words) in rows {
        let (said, apis) = read_all(&[&template]);
        assert!(apis.is_none(), "{template}");
        assert!(said.contains(words), "{template}\n{said}");
    }
}

#[test]
fn errors_of_templates_and_policies_come_together() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(&policy, "kind: AuthorizationPolicy\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_causeway"))
        .args(["bundle", policy.to_str().unwrap(), "--template", "/nonexistent", "-o", "/nonexistent/out"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("policy.yaml:1") && said.contains("cannot read /nonexistent"), "{said}");
}

#[test]
fn too_many_routes_are_refused() {
    let mut template =
        "Resources:\n  Api: { Type: AWS::Serverless::HttpApi, Properties: { DefinitionBody: { paths: {\n".to_owned();
    for n in 0..=10_000 {
        template.push_str(&format!("    /{n}: {{ get: {{}} }},\n"));
    }
    template.push_str("  } } } }\n");
    let (said, apis) = read_all(&[&template]);
    assert!(apis.is_none() && said.contains("found 10001 routes, expected at most 10000"), "{said}");
}

#[test]
fn the_size_and_the_nesting_of_a_template_are_bounded() {
    let template = "Resources: { Api: { Type: AWS::Serverless::HttpApi } }\n#";
    let sized = |bytes: usize| format!("{template}{}", "x".repeat(bytes - template.len()));
    assert!(read_all(&[&sized(4 * 1024 * 1024)]).1.is_some());
    let (said, apis) = read_all(&[&sized(4 * 1024 * 1024 + 1)]);
    assert!(apis.is_none() && said.contains("expected at most 4194304 bytes"), "{said}");

    // The template is one level, each list another.
    let nested = |levels: usize| format!("{template}\nMetadata: {}{}\n", "[".repeat(levels), "]".repeat(levels));
    assert!(read_all(&[&nested(63)]).1.is_some());
    let (said, apis) = read_all(&[&nested(64)]);
    assert!(apis.is_none() && said.contains("nested more than 64 levels deep"), "{said}");
}

/// The service in ECS has no public address: what calls it comes by the VPC link, or with mutual TLS to its sidecar.
#[test]
fn nothing_leads_around_the_gateway_to_the_service_in_ecs() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let route = write(
        "route.yaml",
        "Resources:
  Backend:
    Type: AWS::ApiGatewayV2::Integration
    Properties: {ApiId: !ImportValue central-ApiId, IntegrationType: HTTP_PROXY, ConnectionType: VPC_LINK}
",
    );
    let service = std::fs::read_to_string(root("infra/ecs/service.yaml")).unwrap();
    let public = service.replacen("AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED", 1);
    assert_ne!(service, public);
    for (text, is_public) in [(service, false), (public, true)] {
        let service = write("service.yaml", &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway"));
        command.args(["lint", "--config", &root("examples/bookinfo"), "--template"]).arg(&service);
        let output = command.arg("--template").arg(&route).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains("error[backend-with-public-address]"), is_public, "{said}");
    }
}
