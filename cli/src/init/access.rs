//! Who may do what: the file `access.yaml`.

use super::service::{GATEWAY_LABEL, Service};

/// A string of YAML: a JSON string is one, whatever is in it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text of the file.
pub(super) fn text(service: &Service) -> String {
    let mut text = head(service);
    if let Some(host) = &service.host {
        text.push_str(&gateway(service, host));
    }
    text.push_str(&at_service(service));
    text
}

fn head(service: &Service) -> String {
    let (name, scope) = (&service.name, service.scope());
    let hops = match &service.host {
        Some(host) => format!(
            "# A request for https://{host} passes two hops, and both must allow it: the gateway, which sees the\n\
             # client, and the service, which sees the gateway as its peer. gateway.yaml says which API plays the\n\
             # gateway.\n"
        ),
        None => {
            "# The service is called inside the mesh alone: there is one hop, the service's own sidecar.\n".to_owned()
        }
    };
    let without = if service.host.is_some() { "403 of Envoy, for which API Gateway answers 401" } else { "403" };
    format!(
        "# Who may call {name}. Everything that no ALLOW policy here allows is denied.\n\
         #\n\
         {hops}\
         #\n\
         # no credential: {without}\n\
         # a token or an API key that is not good: 401\n\
         # a good one without the scope {scope}, another method, another path: 403\n\
         # a good one with that scope, GET of a path below: 200\n\
         #\n\
         # requests.jsonl has a request of each kind, and `causeway evaluate` answers them.\n\n"
    )
}

/// The first hop.
fn gateway(service: &Service, host: &str) -> String {
    let gateway = service.gateway();
    let label = (GATEWAY_LABEL, service.name.as_str());
    let authentication = authentication(service, &gateway, label, true);
    let (namespace, name, value) = (quoted(&service.namespace), quoted(&gateway), quoted(&service.name));
    let principals = quoted(&format!("{}/*", service.issuer));
    // A pattern of hosts is compared with the port, where a client writes one.
    let hosts = [host.to_owned(), format!("{host}:*")].map(|host| quoted(&host)).join(", ");
    let paths = paths(service);
    format!(
        "\
# First hop: the tokens that the gateway accepts. Only the gateway has the label {GATEWAY_LABEL}. Give it to no pod but
# one that is a gateway of this service: what is allowed here is then allowed there.
{authentication}---
# First hop: nobody passes the gateway without a credential of the issuer, or to another host or path. Methods and
# scopes are the second hop's. A host or path that is added to gateway.yaml is added here, too. `requestPrincipals` is
# ISSUER/SUBJECT.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: {name}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      {GATEWAY_LABEL}: {value}
  action: ALLOW
  rules:
    - from:
        - source:
            requestPrincipals: [{principals}]
      to:
        - operation:
            hosts: [{hosts}]
            paths:
{paths}---
"
    )
}

/// The second hop, or the only one.
fn at_service(service: &Service) -> String {
    let Service { name, .. } = service;
    let authentication = authentication(service, name, ("app", name.as_str()), false);
    let (quoted_name, namespace) = (quoted(name), quoted(&service.namespace));
    let (closed, readers) = (quoted(&format!("{name}-closed")), quoted(&format!("{name}-readers")));
    let principals = quoted(&format!("{}/*", service.issuer));
    let scope = quoted(&service.scope());
    let paths = paths(service);
    let (peer_says, peer) = if service.host.is_some() {
        let peer = format!("cluster.local/ns/{}/sa/{}", service.namespace, service.gateway());
        let says = "# The peer is the gateway: its SPIFFE ID without spiffe://. REPLACE cluster.local if it is not\n\
                    # the mesh's trust domain. Whatever runs as this service account counts as the gateway.\n";
        (says.to_owned(), format!("            principals: [{}]\n", quoted(&peer)))
    } else {
        let says = format!(
            "# To let one workload alone call it, add beside requestPrincipals the SPIFFE ID of that workload without\n\
             # spiffe://:\n\
             #   principals: [\"cluster.local/ns/{}/sa/CALLER\"]\n",
            service.namespace
        );
        (says, String::new())
    };
    format!(
        "\
# The service: the tokens that it accepts. The same again, so that no hop relies on another one.
{authentication}---
# Whatever is allowed below or later: nobody calls the service without a credential of the issuer. A slip in an ALLOW
# policy does not open it to everyone.
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: {closed}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app: {quoted_name}
  action: DENY
  rules:
    - from:
        - source:
            notRequestPrincipals: [{principals}]
---
# What is open: reading, for callers with the scope. Another method or another scope is another policy like this one;
# do not add methods here that the scope is not meant for.
{peer_says}apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: {readers}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app: {quoted_name}
  action: ALLOW
  rules:
    - from:
        - source:
{peer}            requestPrincipals: [{principals}]
      to:
        - operation:
            methods: [\"GET\"]
            paths:
{paths}      when:
        - key: request.auth.claims[scope]
          values: [{scope}]
---
# In the mesh: no plaintext. The mesh and the sidecar enforce it.
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata:
  name: {quoted_name}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      app: {quoted_name}
  mtls:
    mode: STRICT
"
    )
}

/// The paths of an operation.
fn paths(service: &Service) -> String {
    service.paths.iter().map(|path| format!("              - {}\n", quoted(path))).collect()
}

/// Tokens and API keys at the workloads with a label: its key and its value.
fn authentication(service: &Service, name: &str, (label, value): (&str, &str), forwards: bool) -> String {
    let (namespace, name, value) = (quoted(&service.namespace), quoted(name), quoted(value));
    let (issuer, audience) = (quoted(&service.issuer), quoted(&service.audience));
    let forward = |field: &str| {
        if forwards { format!("{field}: true") } else { format!("# {field}: true   # if the service itself reads it") }
    };
    let (token, key) = (forward("forwardOriginalToken"), forward("forwardOriginalKey"));
    let hop = if forwards { "They are forwarded, so that the next hop checks them too.\n" } else { "" };
    let hop = if hop.is_empty() { String::new() } else { format!("# {hop}") };
    format!(
        "\
# The keys are those that the issuer's discovery document names: ISSUER/.well-known/openid-configuration. `jwksUri`
# names another place. An audience is what keeps tokens out that were made for somebody else.
{hop}apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata:
  name: {name}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      {label}: {value}
  jwtRules:
    - issuer: {issuer}   # REPLACE if tokens are issued by somebody else
      audiences: [{audience}]
      {token}
---
# API keys stand for the token that the issuer would give for them. Without keys remove this document.
apiVersion: causeway.dev/v1alpha1
kind: ApiKeyAuthentication
metadata:
  name: {name}
  namespace: {namespace}
spec:
  selector:
    matchLabels:
      {label}: {value}
  issuer: {issuer}
  headerName: x-api-key
  {key}
"
    )
}
