//! The ways that lead to a function or a backend: permissions, Function URLs, calls of APIs, names of APIs, load balancers.

use authz::api::Text;

use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

/// Where something stands in a template.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// Its logical id, or the route or event that it stands at.
    pub(crate) name: String,
    pub(crate) file: String,
    /// Counted from 1.
    pub(crate) line: u32,
}

/// `AWS::Lambda::Permission`.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) place: Place,
    pub(crate) principal: Text,
    /// `SourceArn`.
    pub(crate) source: Option<Text>,
    /// Whether callers must sign, and come by the Function URL: its AWS_IAM, or `InvokedViaFunctionUrl`.
    pub(crate) by_signed_url: bool,
    /// Whether it is for one organisation or account alone.
    pub(crate) is_bound: bool,
}

/// The URL of a function.
#[derive(Clone, Debug)]
pub(crate) struct FunctionUrl {
    pub(crate) place: Place,
    /// The logical id of the function, where it is in the template.
    pub(crate) function: Option<String>,
    /// `AuthType`.
    pub(crate) auth: Text,
}

/// An API that calls a function.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) place: Place,
    /// The API, as [`Api::reference`](authz::api::Api::reference) has it.
    pub(crate) api: Text,
    /// The logical id of the function.
    pub(crate) function: String,
}

/// A name of an API beside its custom domain with mutual TLS, where no certificate is asked for.
#[derive(Clone, Debug)]
pub(crate) struct SecondName {
    pub(crate) place: Place,
    pub(crate) api: Text,
}

/// What else can be reached from the internet, and why.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(crate) place: Place,
    pub(crate) why: &'static str,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    pub(crate) permissions: Vec<Permission>,
    pub(crate) urls: Vec<FunctionUrl>,
    pub(crate) calls: Vec<Call>,
    pub(crate) second_names: Vec<SecondName>,
    pub(crate) exposed: Vec<Exposed>,
}

impl Ways {
    pub(super) fn append(&mut self, other: &mut Self) {
        self.permissions.append(&mut other.permissions);
        self.urls.append(&mut other.urls);
        self.calls.append(&mut other.calls);
        self.second_names.append(&mut other.second_names);
        self.exposed.append(&mut other.exposed);
    }
}

impl Reader<'_> {
    /// Everything but the calls, which are noted where routes and integrations are read.
    pub(super) fn ways(&mut self) {
        for resource in self.resources {
            match kind(resource) {
                "AWS::Lambda::Permission" => self.permission(resource),
                "AWS::Lambda::Url" => self.url(resource),
                "AWS::Serverless::Function" => self.sam_url(resource),
                "AWS::ApiGatewayV2::ApiMapping" => self.mapping(resource, "ApiId"),
                "AWS::ApiGateway::BasePathMapping" | "AWS::ApiGateway::BasePathMappingV2" => {
                    self.mapping(resource, "RestApiId");
                }
                "AWS::Serverless::HttpApi" => self.sam_names(resource, "HttpApi"),
                "AWS::Serverless::Api" => self.sam_names(resource, "Api"),
                "AWS::ElasticLoadBalancingV2::LoadBalancer" => self.load_balancer(resource),
                "AWS::ECS::Service" => self.service(resource),
                _ => {}
            }
        }
    }

    fn place(&self, name: &str, line: u32) -> Place {
        Place { name: name.to_owned(), file: self.file.to_owned(), line }
    }

    fn permission(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let Some(principal) = at.get("Principal").map(|node| self.text(node)) else { return };
        let signed = at.get("FunctionUrlAuthType").and_then(Node::scalar) == Some("AWS_IAM")
            || at
                .get("InvokedViaFunctionUrl")
                .and_then(Node::scalar)
                .is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let permission = Permission {
            place: self.place(&resource.name, resource.line),
            principal,
            source: at.get("SourceArn").map(|node| self.text(node)),
            by_signed_url: signed,
            is_bound: at.get("PrincipalOrgID").is_some() || at.get("SourceAccount").is_some(),
        };
        self.ways.permissions.push(permission);
    }

    fn url(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let function = at.get("TargetFunctionArn").and_then(|node| self.function_in(node));
        self.add_url(resource, function, at.get("AuthType"));
    }

    /// `FunctionUrlConfig` of a function, over that of `Globals`.
    fn sam_url(&mut self, resource: &Member) {
        let config = |node: &Node| node.get("FunctionUrlConfig").cloned();
        let own = properties(resource).and_then(config);
        let global = self.globals.and_then(|globals| globals.get("Function")).and_then(config);
        let config = match (own, global) {
            (Some(own), Some(global)) => own.over(&global),
            (Some(config), None) | (None, Some(config)) => config,
            (None, None) => return,
        };
        self.add_url(resource, Some(resource.name.clone()), config.get("AuthType"));
    }

    fn add_url(&mut self, resource: &Member, function: Option<String>, auth: Option<&Node>) {
        let Some(auth) = auth.map(|node| self.text(node)) else { return };
        self.ways.urls.push(FunctionUrl { place: self.place(&resource.name, resource.line), function, auth });
    }

    /// Notes that an API calls the function that `uri` names, if it is one of the template.
    pub(super) fn call(&mut self, api: usize, name: &str, line: u32, uri: Option<&Node>) {
        let Some(function) = uri.and_then(|node| self.function_in(node)) else { return };
        let Some(api) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        self.ways.calls.push(Call { place: self.place(name, line), api, function });
    }

    /// Notes that an API calls the function that has this event.
    pub(super) fn call_of_event(&mut self, api: usize, function: &str, event: &Member) {
        let Some(api) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let place = self.place(&format!("{function}/{}", event.name), event.line);
        self.ways.calls.push(Call { place, api, function: function.to_owned() });
    }

    /// The function of the template whose name is a word of this text.
    fn function_in(&self, node: &Node) -> Option<String> {
        let text = node.shown();
        let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).collect();
        let functions = self
            .resources
            .iter()
            .filter(|resource| matches!(kind(resource), "AWS::Serverless::Function" | "AWS::Lambda::Function"));
        functions.map(|resource| &resource.name).find(|name| words.contains(&name.as_str())).cloned()
    }

    /// A custom domain that leads to an API.
    fn mapping(&mut self, resource: &Member, id: &str) {
        let Some(at) = properties(resource) else { return };
        let (Some(domain), Some(id)) = (at.get("DomainName"), at.get(id)) else { return };
        if self.is_mutual(domain) {
            let api = self.api_of(id);
            self.second_name(api, resource);
        }
    }

    /// Whether the domain that `node` names is one of the template with mutual TLS.
    fn is_mutual(&self, node: &Node) -> bool {
        let shown = node.shown();
        self.resources.iter().any(|resource| {
            let is_domain = matches!(
                kind(resource),
                "AWS::ApiGateway::DomainName" | "AWS::ApiGateway::DomainNameV2" | "AWS::ApiGatewayV2::DomainName"
            );
            let Some(at) = properties(resource).filter(|_| is_domain) else { return false };
            let words = || shown.split(|c: char| !c.is_ascii_alphanumeric());
            let refers = matches!(node.value, Value::Function(..)) && words().any(|word| word == resource.name);
            let is_named = at.get("DomainName").is_some_and(|name| name.shown() == shown);
            (refers || is_named) && has_truststore(at)
        })
    }

    /// `Domain` of an API of SAM.
    fn sam_names(&mut self, resource: &Member, section: &str) {
        let own = properties(resource).and_then(|at| at.get("Domain"));
        let global = self.globals.and_then(|globals| globals.get(section)?.get("Domain"));
        let domain = match (own, global) {
            (Some(own), Some(global)) => Some(own.over(global)),
            (own, global) => own.or(global).cloned(),
        };
        if domain.as_ref().is_some_and(has_truststore) {
            let api = self.api_named(Text::Known(resource.name.clone()), resource.line, None);
            self.second_name(api, resource);
        }
    }

    /// Notes that the API has its `execute-api` name beside the domain, if nothing switches that off.
    fn second_name(&mut self, api: usize, resource: &Member) {
        let Some(reference) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let Some(own) = self.resources.iter().find(|resource| resource.name == reference.as_str()) else {
            return; // of another template
        };
        let section = if kind(own) == "AWS::Serverless::Api" { "Api" } else { "HttpApi" };
        let is_sam = kind(own).starts_with("AWS::Serverless::");
        let globals = self.globals.filter(|_| is_sam).and_then(|globals| globals.get(section));
        let switch = |at: &Node| at.get("DisableExecuteApiEndpoint").cloned();
        let of_body = |at: &Node| {
            let body = at.get("Body").or_else(|| at.get("DefinitionBody"))?;
            body.get("x-amazon-apigateway-endpoint-configuration")?.get("disableExecuteApiEndpoint").cloned()
        };
        let at = properties(own);
        let switch = at.and_then(switch).or_else(|| at.and_then(of_body)).or_else(|| globals.and_then(switch));
        let is_off = switch.is_some_and(|node| !node.scalar().is_some_and(|text| text.eq_ignore_ascii_case("false")));
        if !is_off {
            let place = self.place(&resource.name, resource.line);
            self.ways.second_names.push(SecondName { place, api: reference });
        }
    }

    /// "The nodes of an Internet-facing load balancer have public IP addresses", and that is the default.
    fn load_balancer(&mut self, resource: &Member) {
        let scheme = properties(resource).and_then(|at| at.get("Scheme"));
        if scheme.is_none_or(|node| node.scalar() == Some("internet-facing")) {
            self.expose(resource, "its Scheme is internet-facing, which is the default");
        }
    }

    fn service(&mut self, resource: &Member) {
        let network = properties(resource).and_then(|at| at.get("NetworkConfiguration"));
        let public = network.and_then(|node| node.get("AwsvpcConfiguration")?.get("AssignPublicIp")?.scalar());
        if public == Some("ENABLED") {
            self.expose(resource, "its tasks have public addresses (AssignPublicIp: ENABLED)");
        }
    }

    fn expose(&mut self, resource: &Member, why: &'static str) {
        let place = self.place(&resource.name, resource.line);
        self.ways.exposed.push(Exposed { place, why });
    }
}

fn has_truststore(at: &Node) -> bool {
    at.get("MutualTlsAuthentication").is_some_and(|node| !matches!(node.value, Value::Null))
}
