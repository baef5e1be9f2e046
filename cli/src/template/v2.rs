//! `AWS::ApiGatewayV2::*`: the plain resources.

use authz::api::{Access, ApiKind, Authorizer, AuthorizerKind, Text};

use super::yaml::{Member, Node, Value};
use super::{Reader, properties};

impl Reader<'_> {
    pub(super) fn v2_api(&mut self, resource: &Member) {
        let at = properties(resource);
        let get = |name: &str| at.and_then(|at| at.get(name));
        let has_body = get("Body").is_some();
        let kind = match get("ProtocolType") {
            Some(node) => match self.literal(node, "ProtocolType").as_deref() {
                Some("HTTP") => ApiKind::Http,
                Some("WEBSOCKET") => ApiKind::WebSocket,
                Some(_) => return self.error(node.line, "ProtocolType: expected HTTP or WEBSOCKET"),
                None => return,
            },
            // An OpenAPI document is for an HTTP API.
            None if has_body => ApiKind::Http,
            None => return self.error(resource.line, format!("{}: ProtocolType is missing", resource.name)),
        };
        if let Some(node) = get("BodyS3Location") {
            self.error(node.line, "BodyS3Location: the routes stand in a file at S3; write them into Body");
        }
        let api = self.api_named(Text::Known(resource.name.clone()), resource.line, Some(kind));
        // "Quick create": one route without an authorizer, and the stage `$default`.
        if let Some(target) = get("Target") {
            let key = match get("RouteKey") {
                Some(node) => self.literal(node, "RouteKey"),
                None => Some("$default".to_owned()),
            };
            if let Some(key) = key {
                self.add_keyed_route(api, &key, Access::Open, target.line);
                self.call(api, &resource.name, target.line, Some(target));
            }
            self.stage(api, Text::Known("$default".to_owned()));
        }
    }

    pub(super) fn v2_stage(&mut self, resource: &Member) {
        let Some((at, api)) = self.of_api(resource) else { return };
        match at.get("StageName") {
            Some(node) => {
                let name = self.text(node);
                self.stage(api, name);
            }
            None => self.error(resource.line, format!("{}: StageName is missing", resource.name)),
        }
    }

    pub(super) fn stage(&mut self, api: usize, name: Text) {
        if let Some(api) = self.apis.get_mut(api)
            && !api.stages.contains(&name)
        {
            api.stages.push(name);
        }
    }

    pub(super) fn v2_authorizer(&mut self, resource: &Member) {
        let Some((at, api)) = self.of_api(resource) else { return };
        let name = &resource.name;
        let Some(kind) = at.get("AuthorizerType") else {
            return self.error(resource.line, format!("{name}: AuthorizerType is missing"));
        };
        let kind = match self.literal(kind, "AuthorizerType").as_deref() {
            Some("REQUEST") => AuthorizerKind::Request,
            Some("JWT") => AuthorizerKind::Jwt,
            Some(_) => return self.error(kind.line, "AuthorizerType: expected REQUEST or JWT"),
            None => return,
        };
        let authorizer = Authorizer {
            name: name.clone(),
            line: resource.line,
            kind,
            function: at.get("AuthorizerUri").map(|node| self.text(node)),
            identity_sources: self.texts(at.get("IdentitySource")),
            ttl_seconds: self.seconds(at.get("AuthorizerResultTtlInSeconds"), "AuthorizerResultTtlInSeconds"),
            payload_format: at.get("AuthorizerPayloadFormatVersion").map(|node| self.text(node)),
            simple_responses: self.flag(at.get("EnableSimpleResponses"), "EnableSimpleResponses").unwrap_or(false),
        };
        self.add_authorizer(api, authorizer);
    }

    pub(super) fn v2_route(&mut self, resource: &Member) {
        let Some((at, api)) = self.of_api(resource) else { return };
        let Some(key) = self.required(resource, Some(at), "RouteKey") else { return };
        let kind = match at.get("AuthorizationType") {
            Some(node) => self.literal(node, "AuthorizationType"),
            None => Some("NONE".to_owned()),
        };
        let access = match kind.as_deref() {
            Some("NONE") => Some(Access::Open),
            Some("AWS_IAM") => Some(Access::Iam),
            Some("CUSTOM" | "JWT") => match at.get("AuthorizerId") {
                Some(node) => self.v2_authorizer_of(api, node),
                None => {
                    self.error(resource.line, format!("{}: AuthorizerId is missing", resource.name));
                    None
                }
            },
            Some(other) => {
                self.error(resource.line, format!("AuthorizationType: {other} is not supported yet"));
                None
            }
            None => None,
        };
        if let Some(access) = access {
            self.add_keyed_route(api, &key, access, resource.line);
        }
    }

    /// `!Ref` of an authorizer.
    pub(super) fn v2_authorizer_of(&mut self, api: usize, node: &Node) -> Option<Access> {
        if let Value::Function(name, argument) = &node.value {
            if name == "If" {
                let shown = node.shown();
                self.error(node.line, format!("AuthorizerId: which one it is depends on a condition, {shown}"));
                return None;
            }
            // `!GetAtt A.AuthorizerId` and `!Ref A` are the same authorizer.
            let shown = match &argument.value {
                Value::List(parts) if name == "GetAtt" => parts.first().and_then(Node::scalar).map(str::to_owned),
                _ => argument.scalar().map(|text| text.split('.').next().unwrap_or_default().to_owned()),
            };
            let here = matches!(name.as_str(), "Ref" | "GetAtt").then_some(shown).flatten();
            if let Some(index) = here.and_then(|name| self.authorizer_index(api, &name)) {
                return Some(Access::Authorizer(index));
            }
        }
        Some(Access::Elsewhere(node.shown()))
    }

    /// A route by its key: `GET /path`, `$default`, or a WebSocket route.
    fn add_keyed_route(&mut self, api: usize, key: &str, access: Access, line: u32) {
        match key.split_once(' ') {
            Some((method, path)) => self.add_route(api, method, path.trim(), access, line),
            None => self.add_route(api, "", key, access, line),
        }
    }

    /// The properties of a resource, and the API that its `ApiId` refers to.
    fn of_api<'n>(&mut self, resource: &'n Member) -> Option<(&'n Node, usize)> {
        let at = properties(resource);
        let Some((at, id)) = at.and_then(|at| Some((at, at.get("ApiId")?))) else {
            self.error(resource.line, format!("{}: ApiId is missing", resource.name));
            return None;
        };
        Some((at, self.api_of(id)))
    }
}
