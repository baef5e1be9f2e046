//! Who may call a function past the API: its permissions, and target groups of load balancers.

use authz::api::Text;

use super::alternatives::MAX_ALTERNATIVES;
use super::ways::{Could, Place, Target, names};
use super::yaml::{Member, Node};
use super::{Reader, kind, properties};

/// `AWS::Lambda::Permission`.
#[derive(Clone, Debug)]
pub(crate) struct Permission {
    pub(crate) place: Place,
    /// The logical id of the function, where it is in the template.
    pub(crate) function: Option<String>,
    /// Whether a parameter or another stack says which function it is.
    pub(crate) is_of_parameter: bool,
    /// Whom it lets in: one for each of what its conditions can make of it.
    pub(crate) grants: Vec<Grant>,
    /// Whether it counts for the Function URL alone: `FunctionUrlAuthType`, or `InvokedViaFunctionUrl`.
    pub(crate) is_for_url: bool,
    /// Whether callers must sign, and come by the Function URL: its AWS_IAM, or `InvokedViaFunctionUrl`.
    pub(crate) by_signed_url: bool,
    /// Whether it is for one organisation or account alone.
    pub(crate) is_bound: bool,
}

/// Whom a permission lets in.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) principal: Text,
    /// Whether only the deployment knows if the principal is `*`.
    pub(crate) may_be_everybody: bool,
    /// `SourceArn`.
    pub(crate) source: Option<Text>,
    /// Whether the source is one of what serves others: a load balancer, VPC Lattice or CloudFront.
    pub(crate) is_from_balancer: bool,
}

impl Reader<'_> {
    pub(super) fn permission(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let Some(principal) = at.get("Principal") else { return };
        let is_true = |node: &Node| node.scalar().is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let by_url = at.get("InvokedViaFunctionUrl").is_some_and(is_true);
        let auth = at.get("FunctionUrlAuthType");
        let sources = at.get("SourceArn").map_or_else(|| vec![None], Node::alternatives);
        let mut grants = Vec::new();
        for principal in principal.alternatives().into_iter().flatten() {
            grants.extend(sources.iter().map(|source| self.grant(principal, *source)));
        }
        grants.truncate(MAX_ALTERNATIVES * MAX_ALTERNATIVES);
        let function = at.get("FunctionName");
        let permission = Permission {
            place: self.place(&resource.name, resource.line),
            function: function.and_then(|node| self.function_in(node)),
            is_of_parameter: function.is_some_and(|node| self.is_of_parameter(node)),
            grants,
            is_for_url: by_url || auth.is_some(),
            by_signed_url: by_url || auth.and_then(Node::scalar) == Some("AWS_IAM"),
            is_bound: at.get("PrincipalOrgID").is_some() || at.get("SourceAccount").is_some(),
        };
        self.ways.permissions.push(permission);
    }

    fn grant(&self, principal: &Node, source: Option<&Node>) -> Grant {
        Grant {
            principal: joined(principal),
            may_be_everybody: self.could_be(principal, "*") == Could::Perhaps,
            source: source.map(joined),
            is_from_balancer: source.is_some_and(|node| self.is_balancer(node)),
        }
    }

    fn is_balancer(&self, source: &Node) -> bool {
        let text = source.template();
        let services = [":elasticloadbalancing:", ":vpc-lattice:", ":cloudfront:"];
        let kinds = ["AWS::ElasticLoadBalancingV2::", "AWS::VpcLattice::", "AWS::CloudFront::"];
        let is_kind = |resource: &&Member| kinds.iter().any(|start| kind(resource).starts_with(start));
        services.iter().any(|service| text.contains(service))
            || self.resources.iter().filter(is_kind).any(|resource| names(source, &resource.name))
    }

    /// A target group of a load balancer, or of VPC Lattice, whose targets are functions.
    pub(super) fn target_group(&mut self, resource: &Member) {
        let Some(at) = properties(resource) else { return };
        let of = at.get("TargetType").or_else(|| at.get("Type"));
        if of.is_none_or(|node| self.could_be(node, "lambda") == Could::No) {
            return;
        }
        let targets = at.get("Targets").map(Node::items).unwrap_or_default();
        let functions: Vec<String> = targets.iter().filter_map(|one| self.function_in(one.get("Id")?)).collect();
        let place = self.place(&resource.name, resource.line);
        self.ways.targets.extend(functions.into_iter().map(|function| Target { place: place.clone(), function }));
    }
}

/// As [`Reader::text`], with the parts of a text put together.
fn joined(node: &Node) -> Text {
    node.scalar().map_or_else(|| Text::Opaque(node.template()), |text| Text::Known(text.to_owned()))
}
