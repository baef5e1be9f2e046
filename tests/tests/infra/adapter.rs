//! What the adapter's manifests have to say whoever renders them: least privilege, and ports, probes and selectors that
//! fit each other.

use serde_json::{Value, json};

/// Who asks the adapter, by namespace and label.
const GATEWAY: (&str, &str, &str) = ("istio-system", "istio", "ingressgateway");
/// Who reads its metrics.
const PROMETHEUS: (&str, &str, &str) = ("monitoring", "app.kubernetes.io/name", "prometheus");
/// Where Istio's agent gives the metrics of the sidecar and of the adapter.
const MERGED_METRICS: u64 = 15020;
/// The kinds that an adapter consists of. A role or a secret would be a new privilege.
const KINDS: [&str; 6] =
    ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"];

/// Everything that is not as it must be.
pub fn findings(documents: &[Value]) -> Vec<String> {
    let mut found = Found(Vec::new());
    let mut kinds: Vec<&str> = documents.iter().filter_map(|document| document["kind"].as_str()).collect();
    kinds.sort_unstable();
    // A chart makes no namespace.
    kinds.retain(|kind| *kind != "Namespace");
    found.unless(kinds == KINDS, &format!("the kinds are {kinds:?}"));
    let of = |kind: &str| documents.iter().find(|document| document["kind"] == kind).unwrap_or(&Value::Null);
    let deployment = of("Deployment");
    let template = &deployment["spec"]["template"];
    let by_agent = asks_the_agent(documents);
    found.pod(template, by_agent);
    let labels = &template["metadata"]["labels"];
    let (service, port) = (&of("Service")["spec"], &template["spec"]["containers"][0]["ports"][0]);
    found.unless(selects(&service["selector"], labels), "the Service selects other pods");
    found.unless(service["type"] == "ClusterIP", "the Service is reached from outside of the cluster");
    found.unless(service["ports"][0]["targetPort"] == port["name"], "the Service leads to another port");
    found.unless(deployment["spec"]["replicas"].is_null(), "the Deployment has replicas, which the autoscaler has too");
    found.unless(
        selects(&deployment["spec"]["selector"]["matchLabels"], labels),
        "the Deployment's selector is not its pods'",
    );
    let (autoscaler, budget) = (&of("HorizontalPodAutoscaler")["spec"], &of("PodDisruptionBudget")["spec"]);
    found.unless(
        autoscaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
            && autoscaler["metrics"][0]["containerResource"]["container"] == template["spec"]["containers"][0]["name"],
        "the autoscaler looks at something else",
    );
    found.unless(autoscaler["minReplicas"].as_u64() >= Some(2), "one pod that ends takes the gateway with it");
    found.unless(selects(&budget["selector"]["matchLabels"], labels), "the disruption budget is of other pods");
    found.unless(budget["maxUnavailable"] == 1, "the disruption budget lets everything go at once");
    found.unless(of("ServiceAccount")["automountServiceAccountToken"] == false, "the account's token is mounted");
    found.unless(
        service["ports"].as_array().is_some_and(|all| all.len() == 2) && service["ports"][1]["targetPort"] == "metrics",
        "the Service's ports are not those of questions and metrics",
    );
    let metrics = &template["spec"]["containers"][0]["ports"][1]["containerPort"];
    found.network(&of("NetworkPolicy")["spec"], labels, &port["containerPort"], metrics);
    let account = &of("ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"];
    found.unless(!(by_agent && account.is_string()), "the role comes in two ways");
    found.api_keys(&template["spec"]["containers"][0], by_agent || account.is_string());
    found.0
}

/// Where EKS Pod Identity gives credentials. <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html>
const AGENT: [&str; 2] = ["169.254.170.23/32", "fd00:ec2::23/128"];

/// Whether the network policy lets the pods ask the agent of EKS Pod Identity.
pub fn asks_the_agent(documents: &[Value]) -> bool {
    let policy = documents.iter().find(|document| document["kind"] == "NetworkPolicy");
    let rules = policy.and_then(|policy| policy["spec"]["egress"].as_array()).map(Vec::as_slice).unwrap_or_default();
    rules.contains(&agent())
}

fn agent() -> Value {
    let to = AGENT.map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
    json!({"to": to, "ports": [{"port": 80, "protocol": "TCP"}]})
}

struct Found(Vec<String>);

impl Found {
    fn unless(&mut self, good: bool, otherwise: &str) {
        if !good {
            self.0.push(otherwise.to_owned());
        }
    }

    fn pod(&mut self, template: &Value, by_agent: bool) {
        let (spec, labels) = (&template["spec"], &template["metadata"]["labels"]);
        self.unless(labels["sidecar.istio.io/inject"] == "true", "no sidecar: questions would come in plaintext");
        self.unless(spec["automountServiceAccountToken"] == false, "the pod has Kubernetes' token");
        self.unless(spec["enableServiceLinks"] == false, "service links become variables that the adapter refuses");
        for shared in ["hostNetwork", "hostPID", "hostIPC", "initContainers"] {
            self.unless(spec[shared].is_null(), &format!("the pod has {shared}"));
        }
        let security = &spec["securityContext"];
        self.unless(
            security["runAsNonRoot"] == true && security["runAsUser"].as_u64() > Some(0),
            "the pod runs as root",
        );
        self.unless(security["seccompProfile"]["type"] == "RuntimeDefault", "the pod may make any system call");
        for spread in ["topology.kubernetes.io/zone", "kubernetes.io/hostname"] {
            let constraints = spec["topologySpreadConstraints"].as_array().map(Vec::as_slice).unwrap_or_default();
            let spread_so = constraints.iter().any(|constraint| {
                constraint["topologyKey"] == spread && selects(&constraint["labelSelector"]["matchLabels"], labels)
            });
            self.unless(spread_so, &format!("the pods are not spread over {spread}"));
        }
        self.unless(spec["containers"].as_array().is_some_and(|all| all.len() == 1), "the pod has another container");
        self.container(&spec["containers"][0]);
        self.annotations(&spec["containers"][0], &template["metadata"]["annotations"], by_agent);
        let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(0);
        let pause = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        // The adapter's own drain takes 5 seconds.
        self.unless(pause > 0 && pause + 5 < grace, "the drain has no time");
        let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
        self.unless(
            volumes.len() == 1
                && volumes[0]["configMap"]["items"] == json!([{"key": "mesh.bundle", "path": "mesh.bundle"}]),
            "the volumes are not the policies alone",
        );
    }

    fn container(&mut self, container: &Value) {
        let security = &container["securityContext"];
        self.unless(security["allowPrivilegeEscalation"] == false, "the container may gain privileges");
        self.unless(security["readOnlyRootFilesystem"] == true, "the root file system can be written");
        self.unless(security["capabilities"] == json!({"drop": ["ALL"]}), "the container has capabilities");
        let image = container["image"].as_str().unwrap_or_default();
        let pinned = image.contains("@sha256:") || image.rsplit_once(':').is_some_and(|(_, tag)| tag != "latest");
        self.unless(pinned, &format!("the image {image:?} is not pinned"));
        let resources = &container["resources"];
        let asked = ["/requests/cpu", "/requests/memory", "/limits/memory"];
        self.unless(asked.iter().all(|path| resources.pointer(path).is_some()), "resources are missing");
        let port = &container["ports"][0]["containerPort"];
        for (probe, service) in
            [("readinessProbe", json!("envoy.service.auth.v3.Authorization")), ("livenessProbe", Value::Null)]
        {
            let asked = &container[probe]["grpc"];
            self.unless(asked["port"] == *port && asked["service"] == service, &format!("the {probe} asks elsewhere"));
        }
        let address = variable(container, "CAUSEWAY_ADAPTER_ADDRESS");
        let listens = address.rsplit_once(':').filter(|(host, _)| !host.starts_with("127.") && *host != "[::1]");
        self.unless(listens.is_some_and(|(_, at)| at.parse().ok() == port.as_u64()), "the adapter listens elsewhere");
        let mount = &container["volumeMounts"][0];
        let folder = format!("{}/", mount["mountPath"].as_str().unwrap_or_default());
        self.unless(variable(container, "CAUSEWAY_BUNDLE").starts_with(&folder), "the bundle is looked for elsewhere");
        self.unless(mount["readOnly"] == true, "the policies can be written");
        self.unless(mount["subPath"].is_null(), "Kubernetes does not update a file that is mounted by subPath");
    }

    fn annotations(&mut self, container: &Value, annotations: &Value, by_agent: bool) {
        let port = &container["ports"][1];
        let number = port["containerPort"].to_string();
        self.unless(
            port["name"] == "metrics" && container["ports"].as_array().is_some_and(|all| all.len() == 2),
            "the ports are not those of questions and metrics",
        );
        let served = variable(container, "CAUSEWAY_METRICS") == "prometheus"
            && variable(container, "CAUSEWAY_METRICS_PORT") == number;
        self.unless(served, "metrics are served elsewhere");
        let mut expected = json!({
            "prometheus.io/scrape": "true", "prometheus.io/port": number, "prometheus.io/path": "/metrics",
        });
        // Nothing else goes past the sidecar.
        if by_agent {
            expected["traffic.sidecar.istio.io/excludeOutboundIPRanges"] = json!(AGENT.join(","));
        }
        self.unless(*annotations == expected, &format!("the pods' annotations are {annotations}"));
    }

    /// API keys need a role; without them a role is a privilege that nobody uses.
    fn api_keys(&mut self, container: &Value, role: bool) {
        let set = |name: &str| !variable(container, name).is_empty();
        let all = ["CAUSEWAY_API_KEYS_TABLE", "CAUSEWAY_PEPPER_SECRET", "AWS_REGION"];
        let (some, every) = (all.iter().any(|name| set(name)), all.iter().all(|name| set(name)));
        self.unless(some == every && every == role, "API keys have no role, or the role has no use");
        self.unless(every || !set("CAUSEWAY_ISSUER_URL"), "there is nothing to exchange");
        let names = container["env"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str());
        for name in names.filter(|name| name.starts_with("AWS_") && *name != "AWS_REGION") {
            self.0.push(format!("{name} is written down"));
        }
    }

    fn network(&mut self, policy: &Value, labels: &Value, port: &Value, metrics: &Value) {
        self.unless(selects(&policy["podSelector"]["matchLabels"], labels), "the network policy is of other pods");
        self.unless(
            policy["policyTypes"] == json!(["Ingress", "Egress"]),
            "the network policy leaves a direction open",
        );
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            let rules = policy[direction].as_array().map(Vec::as_slice).unwrap_or_default();
            self.unless(!rules.is_empty(), &format!("no {direction} at all"));
            for rule in rules {
                let all = rule[peers].as_array().map(Vec::as_slice).unwrap_or_default();
                let closed = !all.is_empty() && all.iter().all(narrow) && rule["ports"].as_array().is_some();
                self.unless(closed, &format!("{direction} is open: {rule}"));
            }
        }
        let out = policy["egress"].as_array().into_iter().flatten();
        for port in out.filter(|rule| **rule != agent()).flat_map(|rule| rule["ports"].as_array().into_iter().flatten())
        {
            // Names, istiod, the issuer and AWS.
            self.unless([53, 15012, 443].iter().any(|known| port["port"] == *known), &format!("a way out to {port}"));
        }
        let ways = policy["ingress"].as_array().map(Vec::as_slice).unwrap_or_default();
        let from = |(namespace, label, value): (&str, &str, &str)| {
            json!([{
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "podSelector": {"matchLabels": {label: value}},
            }])
        };
        let ports = |numbers: &[&Value]| {
            let all = numbers.iter().map(|number| json!({"port": number, "protocol": "TCP"}));
            Value::Array(all.collect())
        };
        let questions = json!({"from": from(GATEWAY), "ports": ports(&[port])});
        self.unless(ways.first() == Some(&questions), "others than the gateway may ask");
        let read = json!({"from": from(PROMETHEUS), "ports": ports(&[&json!(MERGED_METRICS), metrics])});
        self.unless(ways.get(1) == Some(&read), "others than Prometheus may read metrics");
        self.unless(ways.len() == 2, &format!("{} ways in", ways.len()));
    }
}

/// Whether a peer of a network policy is certain pods of a certain namespace, or certain addresses.
fn narrow(peer: &Value) -> bool {
    let named = |selector: &Value| selector["matchLabels"].as_object().is_some_and(|labels| !labels.is_empty());
    match peer["ipBlock"]["cidr"].as_str() {
        Some(cidr) => !cidr.ends_with("/0") && peer["podSelector"].is_null(),
        None => named(&peer["namespaceSelector"]) && named(&peer["podSelector"]),
    }
}

/// Whether a selector is there and selects pods with these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let pairs = selector.as_object().filter(|pairs| !pairs.is_empty());
    pairs.is_some_and(|pairs| pairs.iter().all(|(name, value)| labels[name] == *value))
}

/// The value of a container's variable.
pub fn variable<'a>(container: &'a Value, name: &str) -> &'a str {
    let all = container["env"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["name"] == name).and_then(|one| one["value"].as_str()).unwrap_or_default()
}
