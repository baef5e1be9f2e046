//! The names of an API: custom domains, with mutual TLS or without it, and `execute-api`.

use authz::api::Text;

use super::ways::{Could, SecondName, names};
use super::yaml::{Member, Node, Value};
use super::{Reader, kind, properties};

/// A custom domain that leads to an API.
pub(super) struct Name<'n> {
    api: usize,
    mutual: Mutual,
    /// What says so.
    resource: &'n Member,
}

/// Whether a domain has mutual TLS.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Mutual {
    No,
    /// It is in another template.
    Unknown,
    /// A condition decides.
    Perhaps,
    Yes,
}

impl Reader<'_> {
    /// `ApiMapping` and its like, whose member `id` is the API.
    pub(super) fn mapping<'n>(&mut self, resource: &'n Member, id: &str) -> Option<Name<'n>> {
        let at = properties(resource)?;
        let domain = at.get("DomainName").or_else(|| at.get("DomainNameArn"))?;
        let mutual = self.mutual(domain);
        Some(Name { api: self.api_of(at.get(id)?), mutual, resource })
    }

    /// Whether the domain that `node` names has mutual TLS.
    fn mutual(&self, node: &Node) -> Mutual {
        let shown = node.shown();
        let domain = self.resources.iter().find_map(|resource| {
            let is_domain = matches!(
                kind(resource),
                "AWS::ApiGateway::DomainName" | "AWS::ApiGateway::DomainNameV2" | "AWS::ApiGatewayV2::DomainName"
            );
            let at = properties(resource).filter(|_| is_domain)?;
            let refers = matches!(node.value, Value::Function(..)) && names(node, &resource.name);
            let is_named = at.get("DomainName").is_some_and(|name| name.shown() == shown);
            (refers || is_named).then_some(at)
        });
        domain.map_or(Mutual::Unknown, truststore)
    }

    /// `Domain` of an API of SAM, as [`mapping`](Self::mapping).
    pub(super) fn sam_name<'n>(&mut self, resource: &'n Member, section: &str) -> Option<Name<'n>> {
        let own = properties(resource).and_then(|at| at.get("Domain"));
        let global = self.globals.and_then(|globals| globals.get(section)?.get("Domain"));
        let domain = match (own, global) {
            (Some(own), Some(global)) => own.over(global),
            (own, global) => own.or(global).cloned()?,
        };
        let api = self.api_named(Text::Known(resource.name.clone()), resource.line, None);
        Some(Name { api, mutual: truststore(&domain), resource })
    }

    /// The other names of each API that has a domain with mutual TLS.
    pub(super) fn second_names(&mut self, all: &[Name<'_>]) {
        let has = |api: usize, wanted: Mutual| all.iter().any(|name| name.api == api && name.mutual == wanted);
        for name in all {
            let is_certain = has(name.api, Mutual::Yes);
            match name.mutual {
                Mutual::Yes => self.second_name(name.api, name.resource),
                // Where no other domain has it for good, there may be none to get around.
                Mutual::Perhaps if !is_certain => self.second_name(name.api, name.resource),
                _ if !is_certain && !has(name.api, Mutual::Perhaps) => {}
                mutual => self.add_second_name(name.api, name.resource, mutual == Mutual::No),
            }
        }
    }

    fn add_second_name(&mut self, api: usize, resource: &Member, is_certain: bool) {
        let Some(api) = self.apis.get(api).map(|api| api.reference.clone()) else { return };
        let place = self.place(&resource.name, resource.line);
        self.ways.second_names.push(SecondName { place, api, is_certain });
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
        let is_off = switch.map_or(Could::No, |node| self.could_be(&node, "true"));
        if is_off != Could::Yes {
            self.add_second_name(api, resource, is_off == Could::No);
        }
    }
}

/// Whether the properties of a domain give it a truststore.
fn truststore(at: &Node) -> Mutual {
    let alternatives = at.get("MutualTlsAuthentication").map_or_else(Vec::new, Node::alternatives);
    let uris = alternatives.into_iter().flat_map(|one| match one.map(|node| (node, &node.value)) {
        None | Some((_, Value::Null)) => vec![None],
        Some((node, Value::Mapping(_))) => node.get("TruststoreUri").map_or_else(|| vec![None], Node::alternatives),
        Some((node, _)) => vec![Some(node)],
    });
    let is_there = |uri: Option<&Node>| uri.is_some_and(|uri| uri.scalar() != Some("") && !uri.shown().eq("null"));
    let there: Vec<bool> = uris.map(is_there).collect();
    match (there.contains(&true), there.contains(&false)) {
        (true, false) => Mutual::Yes,
        (true, true) => Mutual::Perhaps,
        (false, _) => Mutual::No,
    }
}
