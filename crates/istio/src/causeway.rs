//! The two kinds of `causeway.dev/v1alpha1`, for what Istio cannot say.

use std::collections::BTreeMap;

use crate::meta::{Meta, WorkloadSelector};

/// `ApiKeyAuthentication`: a workload accepts API keys, and whose.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiKeyAuthentication {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// Workloads that it applies to; absent means all of its namespace (in the root namespace: of
    /// the mesh).
    pub selector: Option<WorkloadSelector>,
    /// `issuer`: a valid key yields claims with this `iss`, the ones that exchanging it for a token
    /// would yield. Not empty.
    pub issuer: String,
    /// `headerName`: the header that holds the key, in lower case; `x-api-key` when absent.
    pub header_name: String,
    /// `forwardOriginalKey`: whether the destination sees the key; not by default.
    pub forward_original_key: bool,
}

/// `ApiGateway`: which Istio gateway an API of API Gateway plays.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiGateway {
    /// Name, namespace and origin.
    pub meta: Meta,
    /// `apiId` of the API at API Gateway.
    pub api_id: String,
    /// `stage` of the API, such as `$default`.
    pub stage: String,
    /// `domain`, or `domains`: the hosts that the API answers to, in lower case, without a port; at
    /// least one, no two equal.
    pub domains: Vec<String>,
    /// `basePath`: path in front of the API's own paths at the custom domain; begins with `/` and
    /// does not end with it.
    pub base_path: Option<String>,
    /// `gateway`: the [`Gateway`](crate::Gateway) that it plays, `NAMESPACE/NAME`. The document may
    /// leave out the namespace when it is its own.
    pub gateway: String,
    /// `workload`: the gateway workload as the mesh knows it.
    pub workload: ApiGatewayWorkload,
    /// `environment` that it serves: an API key of another one never opens it. Lower-case letters
    /// and digits.
    pub environment: String,
    /// `sharesTokensWith`: other environments whose tokens may open this one, and this one's those. It takes effect where
    /// every document of both environments says so. API keys are never shared.
    pub shares_tokens_with: Vec<String>,
}

/// `workload` of an [`ApiGateway`]: which policies the first hop sees, and the identity that the
/// second hop sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiGatewayWorkload {
    /// `namespace`.
    pub namespace: String,
    /// `labels` that selectors are matched against.
    pub labels: BTreeMap<String, String>,
    /// `serviceAccount`.
    pub service_account: String,
}

impl ApiGatewayWorkload {
    /// The principal that the destination sees: `TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
    pub fn principal(&self, trust_domain: &str) -> String {
        format!("{trust_domain}/ns/{}/sa/{}", self.namespace, self.service_account)
    }
}
