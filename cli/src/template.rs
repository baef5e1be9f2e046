//! What a SAM or CloudFormation template says about the APIs of API Gateway: routes, stages and authorizers.
//!
//! Nothing is dropped in silence: what could add or change a route and cannot be read is an error.

mod alternatives;
mod functions;
mod names;
mod openapi;
mod parts;
mod permissions;
mod rest;
mod sam;
mod v2;
mod variables;
mod ways;
mod yaml;

use std::cell::Cell;
use std::path::Path;

use authz::api::{Access, Api, ApiKind, ApiSet, Authorizer, AuthorizerKind, Route, Text, VERSION};

pub(crate) use self::functions::{is_published_alias, words};
pub(crate) use self::parts::{Domain, Function, Integration};
pub(crate) use self::permissions::{Grant, Permission};
pub(crate) use self::ways::{Call, Could, Place, Ways};
use self::yaml::{Member, Node, Value};
use crate::configuration::read_text;

/// The largest template, in bytes. CloudFormation takes 1 MB; SAM makes one larger as it expands it.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Macros of AWS's own that add no routes.
const HARMLESS_TRANSFORMS: [&str; 4] = [
    "AWS::Serverless-2016-10-31",
    "AWS::LanguageExtensions",
    "AWS::CodeDeployBlueGreen",
    "AWS::SecretsManager-2024-09-16",
];

/// What the templates say, and what is likely not what was meant.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    apis: Vec<Api>,
    functions: Vec<Function>,
    integrations: Vec<Integration>,
    domains: Vec<Domain>,
    ways: Ways,
    /// What is likely not what was meant; a line each.
    pub(crate) warnings: Vec<String>,
}

impl Templates {
    /// Reads the template at `path`.
    ///
    /// # Errors
    /// Every reason why it cannot be read, a line each.
    pub(crate) fn add(&mut self, path: &Path) -> Result<(), Vec<String>> {
        let text = read_text(path, MAX_BYTES).map_err(|error| vec![error])?;
        self.add_text(&path.display().to_string(), &text)
    }

    /// As [`add`](Self::add), for a template in memory.
    pub(crate) fn add_text(&mut self, file: &str, text: &str) -> Result<(), Vec<String>> {
        if text.len() > MAX_BYTES {
            return Err(vec![format!("{file}: expected at most {MAX_BYTES} bytes")]);
        }
        let root = yaml::read(text).map_err(|(line, message)| vec![format!("{file}:{line}: {message}")])?;
        let mut reader = Reader {
            file,
            root: &root,
            resources: root.get("Resources").map(Node::members).unwrap_or_default(),
            globals: root.get("Globals"),
            steps: Cell::new(0),
            apis: Vec::new(),
            functions: Vec::new(),
            integrations: Vec::new(),
            domains: Vec::new(),
            ways: Ways::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
        };
        reader.template(&root);
        if !reader.errors.is_empty() {
            return Err(reader.errors);
        }
        reader.warn_of_open_routes();
        self.warnings.append(&mut reader.warnings);
        self.apis.append(&mut reader.apis);
        self.functions.append(&mut reader.functions);
        self.integrations.append(&mut reader.integrations);
        self.domains.append(&mut reader.domains);
        self.ways.append(&mut reader.ways);
        Ok(())
    }

    pub(crate) fn apis(&self) -> &[Api] {
        &self.apis
    }

    pub(crate) fn functions(&self) -> &[Function] {
        &self.functions
    }

    pub(crate) fn integrations(&self) -> &[Integration] {
        &self.integrations
    }

    pub(crate) fn domains(&self) -> &[Domain] {
        &self.domains
    }

    pub(crate) fn ways(&self) -> &Ways {
        &self.ways
    }

    /// The APIs of all templates.
    pub(crate) fn finish(mut self) -> ApiSet {
        self.apis.sort_by(|a, b| (&a.reference, &a.file).cmp(&(&b.reference, &b.file)));
        ApiSet { version: VERSION, apis: self.apis }
    }
}

struct Reader<'a> {
    file: &'a str,
    /// The whole template.
    root: &'a Node,
    resources: &'a [Member],
    globals: Option<&'a Node>,
    /// How many parts of conditions were looked at.
    steps: Cell<usize>,
    apis: Vec<Api>,
    functions: Vec<Function>,
    integrations: Vec<Integration>,
    domains: Vec<Domain>,
    ways: Ways,
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// `Type` of a resource.
fn kind(resource: &Member) -> &str {
    resource.node.get("Type").and_then(Node::scalar).unwrap_or_default()
}

/// `Properties` of a resource.
fn properties(resource: &Member) -> Option<&Node> {
    resource.node.get("Properties")
}

impl<'a> Reader<'a> {
    fn error(&mut self, line: u32, message: impl std::fmt::Display) {
        self.errors.push(format!("{}:{line}: {message}", self.file));
    }

    fn template(&mut self, root: &'a Node) {
        if self.resources.is_empty() {
            self.error(1, "expected a template with Resources");
        }
        self.macros(root);
        self.resources_that_are_not_read();
        // Definitions first: a route may stand in front of what it refers to.
        for resource in self.resources {
            match kind(resource) {
                "AWS::ApiGatewayV2::Api" => self.v2_api(resource),
                "AWS::ApiGateway::RestApi" => self.rest_api(resource),
                "AWS::Serverless::HttpApi" => self.sam_api(resource, ApiKind::Http),
                "AWS::Serverless::Api" => self.sam_api(resource, ApiKind::Rest),
                _ => {}
            }
        }
        for resource in self.resources {
            match kind(resource) {
                "AWS::ApiGatewayV2::Stage" => self.v2_stage(resource),
                "AWS::ApiGatewayV2::Authorizer" => self.v2_authorizer(resource),
                "AWS::ApiGateway::Stage" | "AWS::ApiGateway::Deployment" => self.rest_stage(resource),
                "AWS::ApiGateway::Authorizer" => self.rest_authorizer(resource),
                _ => {}
            }
        }
        for resource in self.resources {
            match kind(resource) {
                "AWS::ApiGatewayV2::Api"
                | "AWS::ApiGateway::RestApi"
                | "AWS::Serverless::HttpApi"
                | "AWS::Serverless::Api" => self.body(resource),
                "AWS::ApiGateway::Method" => self.rest_method(resource),
                "AWS::ApiGatewayV2::Route" => self.v2_route(resource),
                "AWS::Serverless::Function" | "AWS::Serverless::StateMachine" => self.events(resource),
                _ => {}
            }
        }
        self.parts();
        self.ways();
    }

    /// Macros write templates: what they write is not there to be read.
    fn macros(&mut self, root: &'a Node) {
        if let Some(transform) = root.get("Transform") {
            let list = match &transform.value {
                Value::List(nodes) => nodes.as_slice(),
                _ => std::slice::from_ref(transform),
            };
            for one in list {
                if !one.scalar().is_some_and(|name| HARMLESS_TRANSFORMS.contains(&name)) {
                    let shown = one.shown();
                    self.error(
                        one.line,
                        format!("the macro {shown} may write routes; give the template that it makes"),
                    );
                }
            }
        }
        let read = |resource: &&Member| {
            let kind = kind(resource);
            kind.starts_with("AWS::ApiGateway") || kind.starts_with("AWS::Serverless::")
        };
        let mut places: Vec<&Node> = self.resources.iter().filter(read).map(|resource| &resource.node).collect();
        places.extend(self.globals);
        for function in ["Transform", "ForEach"] {
            let found: Vec<u32> = places.iter().filter_map(|node| node.find(function)).map(|node| node.line).collect();
            // Beside the resources, not inside one.
            let own = self.resources.iter().filter(|member| {
                member.name.strip_prefix("Fn::").and_then(|rest| rest.split("::").next()) == Some(function)
            });
            for line in found.into_iter().chain(own.map(|member| member.line)) {
                self.error(line, format!("Fn::{function} may write routes; give the template that it makes"));
            }
        }
    }

    fn resources_that_are_not_read(&mut self) {
        for resource in self.resources {
            let (kind, name, line) = (kind(resource), &resource.name, resource.line);
            match kind {
                "AWS::ApiGatewayV2::ApiGatewayManagedOverrides" | "AWS::Serverless::WebSocketApi" => {
                    self.error(line, format!("{name}: {kind} is not supported yet, and has or changes routes"));
                }
                "AWS::CloudFormation::Stack" | "AWS::Serverless::Application" => {
                    let message = format!("{name}: the template of this nested stack is not read; give it as well");
                    self.warnings.push(format!("{}:{line}: {message}", self.file));
                }
                _ => {}
            }
        }
    }

    /// A text, known or not.
    fn text(&self, node: &Node) -> Text {
        node.scalar().map_or_else(|| Text::Opaque(node.shown()), |text| Text::Known(text.to_owned()))
    }

    fn texts(&mut self, node: Option<&Node>) -> Vec<Text> {
        match node.map(|node| (&node.value, node)) {
            None => Vec::new(),
            Some((Value::List(nodes), _)) => nodes.iter().map(|node| self.text(node)).collect(),
            Some((_, node)) => vec![self.text(node)],
        }
    }

    /// A text that must be known now, since routes depend on it.
    fn literal(&mut self, node: &Node, what: &str) -> Option<String> {
        let text = node.scalar().map(str::to_owned);
        if text.is_none() {
            let shown = node.shown();
            self.error(node.line, format!("{what}: expected a text that is known before deployment, found {shown}"));
        }
        text
    }

    /// A property that must be there, and known now.
    fn required(&mut self, resource: &Member, at: Option<&Node>, name: &str) -> Option<String> {
        match at.and_then(|node| node.get(name)) {
            Some(node) => self.literal(node, &format!("{}: {name}", resource.name)),
            None => {
                self.error(resource.line, format!("{}: {name} is missing", resource.name));
                None
            }
        }
    }

    fn flag(&mut self, node: Option<&Node>, what: &str) -> Option<bool> {
        let node = node?;
        match self.literal(node, what)?.as_str() {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => {
                self.error(node.line, format!("{what}: expected true or false"));
                None
            }
        }
    }

    fn seconds(&mut self, node: Option<&Node>, what: &str) -> Option<u32> {
        let node = node?;
        let seconds = self.literal(node, what)?.parse().ok();
        if seconds.is_none() {
            self.error(node.line, format!("{what}: expected a number of seconds"));
        }
        seconds
    }

    /// The API that `ApiId` and its like refer to; one that is not here is added without a kind.
    fn api_of(&mut self, node: &Node) -> usize {
        let reference = match &node.value {
            Value::Function(name, argument) if name == "Ref" => {
                let logical = argument.scalar().unwrap_or_default();
                let here = self.resources.iter().any(|resource| resource.name == logical);
                let implicit = sam::IMPLICIT.iter().any(|(_, name)| *name == logical);
                if here || implicit { Text::Known(logical.to_owned()) } else { Text::Opaque(node.shown()) }
            }
            _ => Text::Opaque(node.shown()),
        };
        self.api_named(reference, node.line, None)
    }

    fn api_named(&mut self, reference: Text, line: u32, kind: Option<ApiKind>) -> usize {
        if let Some(index) = self.apis.iter().position(|api| api.reference == reference) {
            return index;
        }
        let file = self.file.to_owned();
        let api = Api { reference, file, line, kind, stages: Vec::new(), authorizers: Vec::new(), routes: Vec::new() };
        self.apis.push(api);
        self.apis.len() - 1
    }

    fn add_route(&mut self, api: usize, method: &str, path: &str, access: Access, line: u32) {
        let method = method.to_ascii_uppercase();
        let file = self.file.to_owned();
        if let Some(api) = self.apis.get_mut(api) {
            api.routes.push(Route { method, path: path.to_owned(), access, file, line });
        }
    }

    fn add_authorizer(&mut self, api: usize, authorizer: Authorizer) {
        if let Some(api) = self.apis.get_mut(api) {
            api.authorizers.push(authorizer);
        }
    }

    fn authorizer_index(&self, api: usize, name: &str) -> Option<u32> {
        let authorizers = &self.apis.get(api)?.authorizers;
        authorizers.iter().position(|own| own.name == name).and_then(|index| u32::try_from(index).ok())
    }

    /// "A route without it is open to everybody": at an API that has a Lambda authorizer, and at one of another stack,
    /// that is most likely forgotten.
    fn warn_of_open_routes(&mut self) {
        for api in &self.apis {
            let guarded = api.kind.is_none()
                || api
                    .authorizers
                    .iter()
                    .any(|one| matches!(one.kind, AuthorizerKind::Request | AuthorizerKind::Token));
            if !guarded {
                continue;
            }
            // API Gateway asks the authorizer of a WebSocket API when a client connects, and never again.
            let asked = |route: &&Route| api.kind != Some(ApiKind::WebSocket) || route.path == "$connect";
            for route in api.routes.iter().filter(|route| route.access == Access::Open).filter(asked) {
                let separator = if route.method.is_empty() { "" } else { " " };
                self.warnings.push(format!(
                    "{}:{}: the route {}{separator}{} of the API {} has no authorizer: it is open to everyone",
                    route.file,
                    route.line,
                    route.method,
                    route.path,
                    api.reference.as_str()
                ));
            }
        }
    }
}
