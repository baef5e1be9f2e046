//! `AWS::Serverless::*`: SAM's APIs, and the events of its functions that become routes.

use authz::api::{Access, ApiKind, Authorizer, AuthorizerKind, Text};

use super::yaml::{Member, Node};
use super::{Reader, properties};

/// The APIs that SAM makes for events that name none.
pub(super) const IMPLICIT: [(ApiKind, &str); 2] =
    [(ApiKind::Http, "ServerlessHttpApi"), (ApiKind::Rest, "ServerlessRestApi")];

impl Reader<'_> {
    pub(super) fn sam_api(&mut self, resource: &Member, kind: ApiKind) {
        let at = properties(resource);
        if let Some(node) = at.and_then(|at| at.get("DefinitionUri")) {
            self.error(node.line, "DefinitionUri: the routes stand in another file; write them into DefinitionBody");
        }
        let api = self.api_named(Text::Known(resource.name.clone()), resource.line, Some(kind));
        match at.and_then(|at| at.get("StageName")) {
            Some(node) => {
                let name = self.text(node);
                self.stage(api, name);
            }
            None if kind == ApiKind::Http => self.stage(api, Text::Known("$default".to_owned())),
            None => self.error(resource.line, format!("{}: StageName is missing", resource.name)),
        }
        if let Some(auth) = self.auth(at, kind) {
            self.sam_authorizers(api, &auth, kind);
        }
    }

    /// `Auth` of an API, over that of `Globals`.
    fn auth(&self, at: Option<&Node>, kind: ApiKind) -> Option<Node> {
        let section = if kind == ApiKind::Http { "HttpApi" } else { "Api" };
        let global = self.globals.and_then(|globals| globals.get(section)?.get("Auth"));
        match (at.and_then(|at| at.get("Auth")), global) {
            (Some(own), Some(global)) => Some(own.over(global)),
            (own, global) => own.or(global).cloned(),
        }
    }

    fn sam_authorizers(&mut self, api: usize, auth: &Node, kind: ApiKind) {
        let Some(authorizers) = auth.get("Authorizers") else { return };
        for Member { name, line, node } in authorizers.members() {
            let get = |field: &str| node.get(field);
            let function = get("FunctionArn").map(|node| self.text(node));
            let payload = get("FunctionPayloadType").map(|node| self.literal(node, "FunctionPayloadType"));
            let own = match (kind, &function, payload) {
                (_, None, _) => AuthorizerKind::Jwt,
                (ApiKind::Rest, Some(_), None) => AuthorizerKind::Token,
                (ApiKind::Rest, Some(_), Some(Some(payload))) if payload == "TOKEN" => AuthorizerKind::Token,
                _ => AuthorizerKind::Request,
            };
            let identity = get("Identity");
            let mut sources = Vec::new();
            let fields = [("Headers", "header"), ("QueryStrings", "querystring")];
            let request = if kind == ApiKind::Http { "$request" } else { "method.request" };
            let other = if kind == ApiKind::Http { "$" } else { "" };
            for (field, word) in fields {
                sources.extend(self.identity(identity, field, &format!("{request}.{word}.")));
            }
            for (field, word) in [("StageVariables", "stageVariables"), ("Context", "context")] {
                sources.extend(self.identity(identity, field, &format!("{other}{word}.")));
            }
            if own == AuthorizerKind::Token {
                let header = identity.and_then(|identity| identity.get("Header")).map(|node| self.text(node));
                let header = header.unwrap_or_else(|| Text::Known("Authorization".to_owned()));
                sources.push(prefixed("method.request.header.", header));
            }
            let reauthorize = identity.and_then(|identity| identity.get("ReauthorizeEvery"));
            let authorizer = Authorizer {
                name: name.clone(),
                line: *line,
                kind: own,
                function,
                identity_sources: sources,
                ttl_seconds: self.seconds(reauthorize, "ReauthorizeEvery"),
                payload_format: get("AuthorizerPayloadFormatVersion").map(|node| self.text(node)),
                simple_responses: self.flag(get("EnableSimpleResponses"), "EnableSimpleResponses").unwrap_or(false),
            };
            self.add_authorizer(api, authorizer);
        }
    }

    fn identity(&mut self, identity: Option<&Node>, field: &str, prefix: &str) -> Vec<Text> {
        let texts = self.texts(identity.and_then(|identity| identity.get(field)));
        texts.into_iter().map(|text| prefixed(prefix, text)).collect()
    }

    /// `DefaultAuthorizer` of an API: what a route gets that says nothing.
    pub(super) fn default_access(&mut self, api: usize, at: Option<&Node>, kind: ApiKind) -> Option<Access> {
        let Some(auth) = self.auth(at, kind) else { return Some(Access::Open) };
        match auth.get("DefaultAuthorizer") {
            Some(node) => {
                let name = self.literal(node, "DefaultAuthorizer")?;
                self.sam_access(api, &name, node.line)
            }
            None => Some(Access::Open),
        }
    }

    /// An authorizer by the name that SAM knows it by.
    fn sam_access(&mut self, api: usize, name: &str, line: u32) -> Option<Access> {
        match name {
            "NONE" => return Some(Access::Open),
            "AWS_IAM" => return Some(Access::Iam),
            _ => {}
        }
        if let Some(index) = self.authorizer_index(api, name) {
            return Some(Access::Authorizer(index));
        }
        if self.apis.get(api).is_some_and(|api| api.kind.is_none()) {
            return Some(Access::Elsewhere(name.to_owned()));
        }
        self.error(line, format!("the API has no authorizer {name:?}"));
        None
    }

    /// The events of a function or a state machine that are routes.
    pub(super) fn events(&mut self, resource: &Member) {
        let Some(events) = properties(resource).and_then(|at| at.get("Events")) else { return };
        for event in events.members() {
            let kind = match event.node.get("Type").and_then(Node::scalar) {
                Some("HttpApi") => ApiKind::Http,
                Some("Api") => ApiKind::Rest,
                _ => continue,
            };
            self.event(event, kind, &resource.name);
        }
    }

    fn event(&mut self, event: &Member, kind: ApiKind, function: &str) {
        let at = event.node.get("Properties");
        let reference = at.and_then(|at| at.get(if kind == ApiKind::Http { "ApiId" } else { "RestApiId" }));
        let api = match reference {
            Some(node) => self.api_of(node),
            None => self.implicit_api(event.line, kind),
        };
        self.call_of_event(api, function, event);
        let own = at.and_then(|at| at.get("Auth")?.get("Authorizer"));
        let access = match own {
            Some(node) => self.literal(node, "Authorizer").and_then(|name| self.sam_access(api, &name, node.line)),
            None => self.default_of(api, kind),
        };
        let field = |name: &str| at.and_then(|at| at.get(name));
        let key = match (field("Method"), field("Path")) {
            // An event of an HTTP API without both takes what no other route takes.
            (None, None) if kind == ApiKind::Http => Some((String::new(), "$default".to_owned())),
            (Some(method), Some(path)) => self.literal(method, "Method").zip(self.literal(path, "Path")),
            _ => {
                self.error(event.line, format!("{}: expected Method and Path", event.name));
                None
            }
        };
        if let Some((access, (method, path))) = access.zip(key) {
            let method = if method.eq_ignore_ascii_case("x-amazon-apigateway-any-method") { "ANY" } else { &method };
            self.add_route(api, method, &path, access, event.line);
        }
    }

    /// The default of the API with this index, wherever it is defined.
    fn default_of(&mut self, api: usize, kind: ApiKind) -> Option<Access> {
        let known = self.apis.get(api)?;
        if known.kind.is_none() {
            return Some(Access::Open);
        }
        let name = known.reference.as_str();
        let resource = self.resources.iter().find(|resource| resource.name == name);
        // A resource of CloudFormation's own has no default.
        if resource.is_some_and(|resource| !super::kind(resource).starts_with("AWS::Serverless::")) {
            return Some(Access::Open);
        }
        let at = resource.and_then(properties);
        self.default_access(api, at, kind)
    }

    fn implicit_api(&mut self, line: u32, kind: ApiKind) -> usize {
        let name = IMPLICIT.iter().find(|(own, _)| *own == kind).map_or("", |(_, name)| name);
        let known = self.apis.iter().position(|api| api.reference.as_str() == name);
        if let Some(index) = known {
            return index;
        }
        let api = self.api_named(Text::Known(name.to_owned()), line, Some(kind));
        self.stage(api, Text::Known(if kind == ApiKind::Http { "$default" } else { "Prod" }.to_owned()));
        if let Some(auth) = self.auth(None, kind) {
            self.sam_authorizers(api, &auth, kind);
        }
        api
    }
}

fn prefixed(prefix: &str, text: Text) -> Text {
    match text {
        Text::Known(text) => Text::Known(format!("{prefix}{text}")),
        Text::Opaque(text) => Text::Opaque(format!("{prefix}{text}")),
    }
}
