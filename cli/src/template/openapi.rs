//! `Body` and `DefinitionBody`: an OpenAPI document inside a template.

use authz::api::{Access, ApiKind, Authorizer, AuthorizerKind, Text};

use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const ANY: &str = "x-amazon-apigateway-any-method";

impl Reader<'_> {
    /// The routes of an API's OpenAPI document, if it has one.
    pub(super) fn body(&mut self, resource: &Member) {
        let at = properties(resource);
        let Some(body) = at.and_then(|at| at.get("Body").or_else(|| at.get("DefinitionBody"))) else { return };
        let api = self.api_named(Text::Known(resource.name.clone()), resource.line, None);
        if !matches!(body.value, Value::Mapping(_)) {
            let shown = body.shown();
            return self.error(body.line, format!("expected an OpenAPI document written out, found {shown}"));
        }
        self.schemes(api, body);
        let default = if matches!(kind(resource), "AWS::ApiGatewayV2::Api" | "AWS::ApiGateway::RestApi") {
            Some(Access::Open)
        } else {
            let rest = kind(resource) == "AWS::Serverless::Api";
            self.default_access(api, at, if rest { ApiKind::Rest } else { ApiKind::Http })
        };
        let Some(default) = default else { return };
        let Some(paths) = body.get("paths") else { return };
        if !matches!(paths.value, Value::Mapping(_)) {
            return self.error(paths.line, "paths: expected a mapping");
        }
        for path in paths.members() {
            if !matches!(path.node.value, Value::Mapping(_) | Value::Null) {
                self.error(path.line, format!("{}: expected a mapping", path.name));
            }
            for operation in path.node.members() {
                let method = match operation.name.as_str() {
                    ANY => "ANY",
                    name if METHODS.contains(&name) => name,
                    "$ref" => {
                        self.error(operation.line, format!("{}: $ref is not supported yet", path.name));
                        continue;
                    }
                    _ => continue,
                };
                let integration = operation.node.get("x-amazon-apigateway-integration");
                self.rest_integration(api, &format!("{} {}", method.to_ascii_uppercase(), path.name), integration);
                let security = operation.node.get("security").or_else(|| body.get("security"));
                let access = match security {
                    None => Some(default.clone()),
                    Some(security) => self.secured(api, body, security),
                };
                if let Some(access) = access {
                    // `$default` stands among the paths of an HTTP API.
                    let method = if path.name.starts_with('$') { "" } else { method };
                    self.add_route(api, method, &path.name, access, operation.line);
                }
            }
        }
    }

    /// Where the document defines its authorizers: OpenAPI 3.0, or Swagger 2.0.
    fn scheme_list(body: &Node) -> &[Member] {
        let schemes = body.get("components").and_then(|components| components.get("securitySchemes"));
        schemes.or_else(|| body.get("securityDefinitions")).map(Node::members).unwrap_or_default()
    }

    fn schemes(&mut self, api: usize, body: &Node) {
        for scheme in Self::scheme_list(body) {
            let Some(at) = scheme.node.get("x-amazon-apigateway-authorizer") else { continue };
            let Some(kind) = at.get("type") else {
                self.error(at.line, format!("{}: type is missing", scheme.name));
                continue;
            };
            let kind = match self.literal(kind, "type").map(|kind| kind.to_ascii_lowercase()).as_deref() {
                Some("request") => AuthorizerKind::Request,
                Some("token") => AuthorizerKind::Token,
                Some("jwt" | "cognito_user_pools") => AuthorizerKind::Jwt,
                Some(other) => {
                    self.error(kind.line, format!("type: {other:?} is not a kind of authorizer"));
                    continue;
                }
                None => continue,
            };
            let mut sources = self.source_list(at.get("identitySource"));
            if kind == AuthorizerKind::Token && sources.is_empty() {
                let name = scheme.node.get("name").map(|node| self.text(node));
                sources.extend(name.map(|name| match name {
                    Text::Known(name) => Text::Known(format!("method.request.header.{name}")),
                    opaque @ Text::Opaque(_) => opaque,
                }));
            }
            let (ttl, simple) = (at.get("authorizerResultTtlInSeconds"), at.get("enableSimpleResponses"));
            let authorizer = Authorizer {
                name: scheme.name.clone(),
                line: scheme.line,
                kind,
                function: at.get("authorizerUri").map(|node| self.text(node)),
                identity_sources: sources,
                ttl_seconds: self.seconds(ttl, "authorizerResultTtlInSeconds"),
                payload_format: at.get("authorizerPayloadFormatVersion").map(|node| self.text(node)),
                simple_responses: self.flag(simple, "enableSimpleResponses").unwrap_or(false),
            };
            self.add_authorizer(api, authorizer);
        }
    }

    /// `security` of an operation, or of the whole document.
    fn secured(&mut self, api: usize, body: &Node, security: &Node) -> Option<Access> {
        let Value::List(list) = &security.value else {
            self.error(security.line, "security: expected a list written out");
            return None;
        };
        for entry in list {
            if !matches!(entry.value, Value::Mapping(_)) {
                self.error(entry.line, "security: expected the name of a scheme");
                return None;
            }
            // An empty entry says that nothing is needed.
            for wanted in entry.members() {
                let name = wanted.name.as_str();
                if name == "NONE" {
                    return Some(Access::Open);
                }
                if let Some(index) = self.authorizer_index(api, name) {
                    return Some(Access::Authorizer(index));
                }
                let Some(scheme) = Self::scheme_list(body).iter().find(|scheme| scheme.name == name) else {
                    self.error(wanted.line, format!("security: there is no scheme {name:?}"));
                    return None;
                };
                if scheme.node.get("x-amazon-apigateway-authtype").is_some() {
                    return Some(Access::Iam);
                }
                // A scheme without an authorizer is documentation, or an API key, which proves nobody.
            }
        }
        Some(Access::Open)
    }
}
