//! Where requests go: the files `service.yaml` and `gateway.yaml`.

use super::access::quoted;
use super::service::{GATEWAY_LABEL, Service};

/// The Kubernetes Service.
pub(super) fn service(service: &Service) -> String {
    let (name, namespace) = (quoted(&service.name), quoted(&service.namespace));
    format!(
        "\
# The service, as Kubernetes has it. Its selector says which labels its workloads have: policies select by them.
# Is it not in Kubernetes, but a Lambda function or a container? Keep the document: it gives the service its name.
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: {namespace}
spec:
  ports:
    - name: http
      port: 8080   # REPLACE with the service's port; gateway.yaml names it too, where there is one
  selector:
    app: {name}
"
    )
}

/// The gateway in front of it, the API that plays it, and the routes.
pub(super) fn gateway(service: &Service, host: &str) -> String {
    let (name, namespace, host) = (quoted(&service.name), quoted(&service.namespace), quoted(host));
    let gateway = service.gateway();
    let (certificate, of_namespace) =
        (quoted(&format!("{}-certificate", service.name)), quoted(&format!("{}/{gateway}", service.namespace)));
    let gateway = quoted(&gateway);
    let matches: String = service.paths.iter().map(|path| route_match(path)).collect();
    format!(
        "\
# The way in. In the mesh it is a gateway of this service; at AWS an API of API Gateway plays its part.
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: {gateway}
  namespace: {namespace}
spec:
  selector:
    {GATEWAY_LABEL}: {name}
  servers:
    - port:
        number: 443
        name: https
        protocol: HTTPS
      hosts:
        - {host}
      tls:
        mode: SIMPLE
        credentialName: {certificate}   # the mesh's; an API has its certificate from AWS
---
# Which API plays it, and as which workload: the policies for that workload are the first hop, and its service account
# is what the second hop sees. Behind a gateway that other services share, these are its labels and its service account,
# and the policies of the first hop hold for all of them.
#
# Until apiId and stage are right, API Gateway denies every request with the reason gateway_unknown. `causeway evaluate`
# does not ask for them: it goes by the domain.
apiVersion: causeway.dev/v1alpha1
kind: ApiGateway
metadata:
  name: {name}
  namespace: {namespace}
spec:
  apiId: replaceme   # REPLACE with the API's id, such as a1b2c3d4e5
  stage: $default    # REPLACE for a REST API, such as prod
  domain: {host}
  gateway: {of_namespace}
  workload:
    namespace: {namespace}
    labels:
      {GATEWAY_LABEL}: {name}
    serviceAccount: {gateway}
  # REPLACE: an API key of another environment never opens this API. The example key of requests.jsonl is one of dev:
  # with another word here `evaluate` answers 401 to the requests that show it.
  environment: dev
---
# Where the gateway sends requests. What no route takes is denied, whatever the policies say: a path that is to be
# opened stands here and in access.yaml, there at both hops.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {name}
  namespace: {namespace}
spec:
  hosts:
    - {host}
  gateways:
    - {gateway}
  http:
    - name: {name}
      match:
{matches}      route:
        - destination:
            host: {name}
            port:
              number: 8080
"
    )
}

/// The condition of a route for a path of a policy.
fn route_match(path: &str) -> String {
    let (kind, path) = match path.strip_suffix('*') {
        Some(below) => ("prefix", below),
        None => ("exact", path),
    };
    format!("        - uri:\n            {kind}: {}\n", quoted(path))
}
