//! The ways that lead to a function or a backend: permissions, Function URLs, calls of APIs, names of APIs, load balancers.

use authz::api::Text;

use super::alternatives::can_become;
use super::functions::words;
use super::permissions::Permission;
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

/// The URL of a function.
#[derive(Clone, Debug)]
pub(crate) struct FunctionUrl {
    pub(crate) place: Place,
    /// The logical id of the function, where it is in the template.
    pub(crate) function: Option<String>,
    /// Whether a parameter or another stack says which function it is.
    pub(crate) is_of_parameter: bool,
    /// Whether it asks nobody: its `AuthType` is NONE.
    pub(crate) open: Could,
}

/// An API that calls a function.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) place: Place,
    /// The API, as [`Api::reference`](authz::api::Api::reference) has it.
    pub(crate) api: Text,
    /// The logical id of the function.
    pub(crate) function: String,
    /// The lines of the routes that lead to it; none if they are not known.
    pub(crate) routes: Vec<u32>,
}

/// Whether a value is the one that is asked about.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Could {
    No,
    /// Only the deployment knows.
    Perhaps,
    Yes,
}

/// A name of an API beside its custom domain with mutual TLS, where no certificate is asked for.
#[derive(Clone, Debug)]
pub(crate) struct SecondName {
    pub(crate) place: Place,
    pub(crate) api: Text,
    /// Whether it is known that nobody is asked there.
    pub(crate) is_certain: bool,
}

/// What else can be reached from the internet, and why.
#[derive(Clone, Debug)]
pub(crate) struct Exposed {
    pub(crate) place: Place,
    pub(crate) why: &'static str,
    /// Whether it is known to be public, and not known to be another's backend.
    pub(crate) is_certain: bool,
}

/// A function among the targets of a load balancer.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) place: Place,
    /// The logical id of the function.
    pub(crate) function: String,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ways {
    pub(crate) permissions: Vec<Permission>,
    pub(crate) targets: Vec<Target>,
    pub(crate) urls: Vec<FunctionUrl>,
    pub(crate) calls: Vec<Call>,
    pub(crate) second_names: Vec<SecondName>,
    pub(crate) exposed: Vec<Exposed>,
}

impl Ways {
    pub(super) fn append(&mut self, other: &mut Self) {
        self.permissions.append(&mut other.permissions);
        self.targets.append(&mut other.targets);
        self.urls.append(&mut other.urls);
        self.calls.append(&mut other.calls);
        self.second_names.append(&mut other.second_names);
        self.exposed.append(&mut other.exposed);
    }
}

impl Reader<'_> {
    /// Everything but the calls, which are noted where routes and integrations are read.
    pub(super) fn ways(&mut self) {
        let mut names = Vec::new();
        for resource in self.resources {
            match kind(resource) {
                "AWS::Lambda::Permission" => self.permission(resource),
                "AWS::ElasticLoadBalancingV2::TargetGroup" | "AWS::VpcLattice::TargetGroup" => {
                    self.target_group(resource);
                }
                "AWS::Lambda::Url" => self.url(resource),
                "AWS::Serverless::Function" => self.sam_url(resource),
                "AWS::ApiGatewayV2::ApiMapping" => names.extend(self.mapping(resource, "ApiId")),
                "AWS::ApiGateway::BasePathMapping" | "AWS::ApiGateway::BasePathMappingV2" => {
                    names.extend(self.mapping(resource, "RestApiId"));
                }
                "AWS::Serverless::HttpApi" => names.extend(self.sam_name(resource, "HttpApi")),
                "AWS::Serverless::Api" => names.extend(self.sam_name(resource, "Api")),
                "AWS::ElasticLoadBalancingV2::LoadBalancer" | "AWS::ElasticLoadBalancing::LoadBalancer" => {
                    self.load_balancer(resource);
                }
                "AWS::ECS::Service" | "AWS::ECS::TaskSet" => self.service(resource),
                _ => {}
            }
        }
        self.second_names(&names);
    }

    pub(super) fn place(&self, name: &str, line: u32) -> Place {
        Place { name: name.to_owned(), file: self.file.to_owned(), line }
    }

    fn url(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let target = at.get("TargetFunctionArn");
        let function = target.and_then(|node| self.function_in(node));
        let is_of_parameter = target.is_some_and(|node| self.is_of_parameter(node));
        self.add_url(resource, (function, is_of_parameter), at.get("AuthType"));
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
        self.add_url(resource, (Some(resource.name.clone()), false), config.get("AuthType"));
    }

    /// The function, and whether a parameter or another stack says which it is.
    fn add_url(&mut self, resource: &Member, (function, is_of_parameter): (Option<String>, bool), auth: Option<&Node>) {
        let Some(auth) = auth else { return };
        let open = self.could_be(auth, "NONE");
        let place = self.place(&resource.name, resource.line);
        self.ways.urls.push(FunctionUrl { place, function, is_of_parameter, open });
    }

    /// Notes that an API calls the function that `uri` names, if it is one of the template.
    pub(super) fn call(&mut self, api: usize, name: &str, line: u32, uri: Option<&Node>) {
        let Some(function) = uri.and_then(|node| self.function_in(node)) else { return };
        let Some(api) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let routes = self.routes_to(name, line);
        self.ways.calls.push(Call { place: self.place(name, line), api, function, routes });
    }

    /// Notes that an API calls the function that has this event.
    pub(super) fn call_of_event(&mut self, api: usize, function: &str, event: &Member) {
        let Some(api) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let place = self.place(&format!("{function}/{}", event.name), event.line);
        self.ways.calls.push(Call { place, api, function: function.to_owned(), routes: vec![event.line] });
    }

    /// The lines of the routes that lead to what the resource `name` calls; none if it is no resource.
    fn routes_to(&self, name: &str, line: u32) -> Vec<u32> {
        let Some(resource) = self.resources.iter().find(|resource| resource.name == name) else { return Vec::new() };
        match kind(resource) {
            // "Quick create": the route stands at its target.
            "AWS::ApiGatewayV2::Api" => vec![line],
            "AWS::ApiGateway::Method" => vec![resource.line],
            _ => {
                let routes = self.resources.iter().filter(|route| kind(route) == "AWS::ApiGatewayV2::Route");
                let leads = |route: &&Member| {
                    properties(route).and_then(|at| at.get("Target")).is_some_and(|target| names(target, name))
                };
                routes.filter(leads).map(|route| route.line).collect()
            }
        }
    }

    /// Whether a value is `wanted`, as far as the template says.
    pub(super) fn could_be(&self, node: &Node, wanted: &str) -> Could {
        if let Some(text) = node.scalar() {
            return if text.eq_ignore_ascii_case(wanted) { Could::Yes } else { Could::No };
        }
        let Value::Function(name, argument) = &node.value else { return Could::No };
        match (name.as_str(), &argument.value) {
            ("If", Value::List(parts)) => match parts.as_slice() {
                [_, one, other] => {
                    let (one, other) = (self.could_be(one, wanted), self.could_be(other, wanted));
                    if one == other { one } else { Could::Perhaps }
                }
                _ => Could::Perhaps,
            },
            // What is taken out has the default.
            ("Ref", Value::Scalar(name)) if name == "AWS::NoValue" => Could::Perhaps,
            // A resource's name or ARN, an account.
            ("Ref", Value::Scalar(name))
                if name.starts_with("AWS::") || self.resources.iter().any(|resource| resource.name == *name) =>
            {
                Could::No
            }
            ("GetAtt", _) if !self.is_of_custom(node) => Could::No,
            ("Sub" | "Join", _) => {
                let text = node.template();
                match can_become(&text, wanted) {
                    true if text.eq_ignore_ascii_case(wanted) => Could::Yes,
                    true => Could::Perhaps,
                    false => Could::No,
                }
            }
            _ => Could::Perhaps,
        }
    }

    /// Whether it is an attribute of what may have any: a custom resource, a nested stack, a parameter of SSM.
    fn is_of_custom(&self, node: &Node) -> bool {
        let any = ["Custom::", "AWS::CloudFormation::", "AWS::SSM::Parameter"];
        let mut custom = self.resources.iter().filter(|one| any.iter().any(|start| kind(one).starts_with(start)));
        custom.any(|resource| names(node, &resource.name))
    }

    /// "The nodes of an Internet-facing load balancer have public IP addresses", and that is the default.
    fn load_balancer(&mut self, resource: &Member) {
        let scheme = properties(resource).and_then(|at| at.get("Scheme"));
        let public = scheme.map_or(Could::Yes, |node| self.could_be(node, "internet-facing"));
        let public = if public == Could::Yes && self.is_of_others(resource) { Could::Perhaps } else { public };
        self.expose(resource, public, "its Scheme is internet-facing, which is the default");
    }

    /// Whether each integration of the template goes to another load balancer of the template.
    fn is_of_others(&self, resource: &Member) -> bool {
        let mut found = false;
        for one in self.resources {
            let at = properties(one);
            let uri = match kind(one) {
                "AWS::ApiGatewayV2::Integration" => at.and_then(|at| at.get("IntegrationUri")),
                // Their integrations are not followed.
                "AWS::ApiGateway::Method" => return false,
                _ if at.is_some_and(|at| at.get("Body").or_else(|| at.get("DefinitionBody")).is_some()) => {
                    return false;
                }
                _ => continue,
            };
            let Some(uri) = uri else { return false };
            if self.function_in(uri).is_some() {
                continue;
            }
            let listener = self.resources.iter().find(|listener| {
                kind(listener) == "AWS::ElasticLoadBalancingV2::Listener" && names(uri, &listener.name)
            });
            match listener.and_then(|listener| properties(listener)?.get("LoadBalancerArn")) {
                Some(balancer) if !names(balancer, &resource.name) && balancer.find("Ref").is_some() => found = true,
                _ => return false,
            }
        }
        found
    }

    fn service(&mut self, resource: &Member) {
        let network = properties(resource).and_then(|at| at.get("NetworkConfiguration"));
        let public = network.and_then(|node| {
            let at = node.get("AwsvpcConfiguration").or_else(|| node.get("AwsVpcConfiguration"))?;
            Some(self.could_be(at.get("AssignPublicIp")?, "ENABLED"))
        });
        self.expose(resource, public.unwrap_or(Could::No), "its tasks have public addresses (AssignPublicIp: ENABLED)");
    }

    fn expose(&mut self, resource: &Member, public: Could, why: &'static str) {
        if public != Could::No {
            let place = self.place(&resource.name, resource.line);
            self.ways.exposed.push(Exposed { place, why, is_certain: public == Could::Yes });
        }
    }
}

/// Whether `name` is a word of this text.
pub(super) fn names(node: &Node, name: &str) -> bool {
    words(&node.shown()).any(|word| word == name)
}
