//! What stands around the routes of a template: functions, and what integrations send to their backends.

use authz::api::Text;

use super::variables::Shadow;
use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

/// A Lambda function of a template.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    /// Its logical id.
    pub(crate) name: String,
    /// The logical ids of its aliases and versions.
    pub(crate) aliases: Vec<String>,
    /// Whether SAM makes an alias of it.
    pub(crate) is_published: bool,
    /// Whether it has a variable whose name begins with `CAUSEWAY_`.
    pub(crate) is_causeway: bool,
    /// Whether it may have variables that the template does not show.
    pub(crate) hides_variables: bool,
    /// `CAUSEWAY_RESPONSE`.
    pub(crate) response: Option<Text>,
    /// Whether it has `CAUSEWAY_RATE_LIMITS_TABLE`, be it under a condition.
    pub(crate) limits_rates: bool,
    /// Whether it has `CAUSEWAY_SHADOW_WORKLOADS`, be it under a condition, or may have it.
    pub(crate) shadow: Option<Shadow>,
    /// The template.
    pub(crate) file: String,
    /// Line of its definition, counted from 1.
    pub(crate) line: u32,
}

/// An integration that sends requests on over HTTP.
#[derive(Clone, Debug)]
pub(crate) struct Integration {
    /// The API, as [`Api::reference`](authz::api::Api::reference) has it.
    pub(crate) api: Text,
    /// Its logical id, or the route that it stands at.
    pub(crate) name: String,
    /// The template.
    pub(crate) file: String,
    /// Line of its definition, counted from 1.
    pub(crate) line: u32,
    /// `RequestParameters`.
    pub(crate) mappings: Vec<Mapping>,
    /// Whether it goes by a VPC link, or only the deployment knows.
    pub(crate) is_private: bool,
}

/// One of `RequestParameters`.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    /// Such as `overwrite:header.x-principal` or, at a REST API, `integration.request.header.x-principal`.
    pub(crate) target: String,
    /// Such as `$context.authorizer.principal`.
    pub(crate) value: Text,
    pub(crate) line: u32,
}

impl Integration {
    /// The mappings of headers: operation, header in lower case, and the rest. A REST API's mapping sets the header.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&str, String, &Mapping)> {
        self.mappings.iter().filter_map(|mapping| {
            let (operation, place) = match mapping.target.strip_prefix("integration.request.") {
                Some(place) => ("overwrite", place),
                None => mapping.target.split_once(':')?,
            };
            Some((operation, place.strip_prefix("header.")?.to_ascii_lowercase(), mapping))
        })
    }
}

/// A custom domain.
#[derive(Clone, Debug)]
pub(crate) struct Domain {
    pub(crate) name: Text,
    /// Whether its clients can show certificates: it has a truststore, or only the deployment knows.
    pub(crate) mutual_tls: bool,
}

impl Reader<'_> {
    fn domain(&mut self, at: Option<&Node>) {
        let Some(name) = at.and_then(|at| at.get("DomainName")).map(|node| self.text(node)) else { return };
        let mutual_tls = at.and_then(|at| at.get("MutualTlsAuthentication"));
        let mutual_tls = mutual_tls.is_some_and(|node| !matches!(node.value, Value::Null));
        self.domains.push(Domain { name, mutual_tls });
    }

    pub(super) fn v2_integration(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let Some(api) = at.get("ApiId").map(|node| self.api_of(node)) else { return };
        if at.get("IntegrationType").and_then(Node::scalar) != Some("HTTP_PROXY") {
            return self.call(api, &resource.name, resource.line, at.get("IntegrationUri"));
        }
        let connection = at.get("ConnectionType");
        self.add_integration(api, &resource.name, resource.line, (at.get("RequestParameters"), connection));
    }

    pub(super) fn rest_integration(&mut self, api: usize, name: &str, integration: Option<&Node>) {
        let Some(at) = integration else { return };
        let kind = at.get("Type").or_else(|| at.get("type")).and_then(Node::scalar).unwrap_or_default();
        if matches!(kind.to_ascii_uppercase().as_str(), "HTTP" | "HTTP_PROXY") {
            let parameters = at.get("RequestParameters").or_else(|| at.get("requestParameters"));
            let connection = at.get("ConnectionType").or_else(|| at.get("connectionType"));
            self.add_integration(api, name, at.line, (parameters, connection));
        } else {
            self.call(api, name, at.line, at.get("Uri").or_else(|| at.get("uri")));
        }
    }

    /// With its `RequestParameters` and its `ConnectionType`.
    fn add_integration(
        &mut self,
        api: usize,
        name: &str,
        line: u32,
        (parameters, connection): (Option<&Node>, Option<&Node>),
    ) {
        let Some(reference) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let members = match parameters.map(|node| &node.value) {
            Some(Value::Mapping(members)) => members.as_slice(),
            _ => &[],
        };
        let mappings = members
            .iter()
            .map(|member| Mapping { target: member.name.clone(), value: self.text(&member.node), line: member.line })
            .collect();
        let (name, file) = (name.to_owned(), self.file.to_owned());
        // "The default value is INTERNET."
        let is_private = connection.is_some_and(|node| node.scalar() != Some("INTERNET"));
        self.integrations.push(Integration { api: reference, name, file, line, mappings, is_private });
    }

    /// Functions, domains, and the integrations of plain resources.
    pub(super) fn parts(&mut self) {
        for resource in self.resources {
            match kind(resource) {
                "AWS::Serverless::Function" | "AWS::Lambda::Function" => self.function(resource),
                "AWS::ApiGatewayV2::Integration" => self.v2_integration(resource),
                "AWS::ApiGateway::DomainName" | "AWS::ApiGateway::DomainNameV2" | "AWS::ApiGatewayV2::DomainName" => {
                    self.domain(properties(resource));
                }
                "AWS::Serverless::HttpApi" => self.sam_domain(resource, "HttpApi"),
                "AWS::Serverless::Api" => self.sam_domain(resource, "Api"),
                _ => {}
            }
        }
    }

    /// `Domain` of an API, over that of `Globals`.
    fn sam_domain(&mut self, resource: &Member, section: &str) {
        let own = properties(resource).and_then(|at| at.get("Domain"));
        let global = self.globals.and_then(|globals| globals.get(section)?.get("Domain"));
        let domain = match (own, global) {
            (Some(own), Some(global)) => Some(own.over(global)),
            (own, global) => own.or(global).cloned(),
        };
        self.domain(domain.as_ref());
    }
}
