//! `AWS::ApiGateway::*`: REST APIs as plain resources.

use authz::api::{Access, ApiKind, Authorizer, AuthorizerKind, Text};

use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

/// Paths that are put together out of `AWS::ApiGateway::Resource`s are at most so deep.
const MAX_DEPTH: usize = 64;

impl Reader<'_> {
    pub(super) fn rest_api(&mut self, resource: &Member) {
        let at = properties(resource);
        if let Some(node) = at.and_then(|at| at.get("BodyS3Location").or_else(|| at.get("CloneFrom"))) {
            self.error(node.line, format!("{}: the routes stand elsewhere; write them into Body", resource.name));
        }
        self.api_named(Text::Known(resource.name.clone()), resource.line, Some(ApiKind::Rest));
    }

    pub(super) fn rest_stage(&mut self, resource: &Member) {
        let at = properties(resource);
        let Some((id, name)) = at.and_then(|at| Some((at.get("RestApiId")?, at.get("StageName")?))) else { return };
        let api = self.api_of(id);
        let name = self.text(name);
        self.stage(api, name);
    }

    pub(super) fn rest_authorizer(&mut self, resource: &Member) {
        let name = &resource.name;
        let Some(at) = properties(resource) else { return };
        let Some(api) = at.get("RestApiId").map(|node| self.api_of(node)) else {
            return self.error(resource.line, format!("{name}: RestApiId is missing"));
        };
        let Some(kind) = self.required(resource, Some(at), "Type") else { return };
        let kind = match kind.as_str() {
            "REQUEST" => AuthorizerKind::Request,
            "TOKEN" => AuthorizerKind::Token,
            "COGNITO_USER_POOLS" => AuthorizerKind::Jwt,
            other => return self.error(resource.line, format!("{name}: Type {other:?} is not a kind of authorizer")),
        };
        let authorizer = Authorizer {
            name: name.clone(),
            line: resource.line,
            kind,
            function: at.get("AuthorizerUri").map(|node| self.text(node)),
            identity_sources: self.source_list(at.get("IdentitySource")),
            ttl_seconds: self.seconds(at.get("AuthorizerResultTtlInSeconds"), "AuthorizerResultTtlInSeconds"),
            payload_format: None,
            simple_responses: false,
        };
        self.add_authorizer(api, authorizer);
    }

    /// "A comma-separated list of mapping expressions".
    pub(super) fn source_list(&mut self, node: Option<&Node>) -> Vec<Text> {
        let mut sources = Vec::new();
        for source in self.texts(node) {
            match source {
                Text::Known(list) => {
                    let list = list.split(',').map(str::trim).filter(|source| !source.is_empty());
                    sources.extend(list.map(|source| Text::Known(source.to_owned())));
                }
                opaque @ Text::Opaque(_) => sources.push(opaque),
            }
        }
        sources
    }

    pub(super) fn rest_method(&mut self, resource: &Member) {
        let name = &resource.name;
        let Some(at) = properties(resource) else { return };
        let Some(api) = at.get("RestApiId").map(|node| self.api_of(node)) else {
            return self.error(resource.line, format!("{name}: RestApiId is missing"));
        };
        let Some(method) = self.required(resource, Some(at), "HttpMethod") else { return };
        let Some(path) = at.get("ResourceId").and_then(|node| self.rest_path(node, 0)) else {
            let message = format!("{name}: the path of its ResourceId is not in this template");
            return self.error(resource.line, message);
        };
        let access = match at.get("AuthorizationType") {
            Some(node) => self.literal(node, "AuthorizationType"),
            None => Some("NONE".to_owned()),
        };
        let access = match access.as_deref() {
            Some("NONE") => Some(Access::Open),
            Some("AWS_IAM") => Some(Access::Iam),
            Some("CUSTOM" | "COGNITO_USER_POOLS") => match at.get("AuthorizerId") {
                Some(node) => self.v2_authorizer_of(api, node),
                None => {
                    self.error(resource.line, format!("{name}: AuthorizerId is missing"));
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
            self.add_route(api, &method, &path, access, resource.line);
        }
        self.rest_integration(api, name, at.get("Integration"));
    }

    /// The path of a `ResourceId`: `!GetAtt Api.RootResourceId`, or `!Ref` of a resource below another one.
    fn rest_path(&self, node: &Node, depth: usize) -> Option<String> {
        let Value::Function(function, argument) = &node.value else { return None };
        let shown = match &argument.value {
            Value::List(parts) => parts.iter().map(Node::shown).collect::<Vec<_>>().join("."),
            _ => argument.scalar()?.to_owned(),
        };
        if function == "GetAtt" && shown.ends_with(".RootResourceId") {
            return Some("/".to_owned());
        }
        let wanted = if function == "Ref" { shown.as_str() } else { shown.strip_suffix(".ResourceId")? };
        let resource = self.resources.iter().find(|one| one.name == wanted)?;
        if kind(resource) != "AWS::ApiGateway::Resource" || depth == MAX_DEPTH {
            return None;
        }
        let at = properties(resource)?;
        let parent = self.rest_path(at.get("ParentId")?, depth + 1)?;
        let part = at.get("PathPart")?.scalar()?;
        Some(format!("{}/{part}", parent.trim_end_matches('/')))
    }
}
