//! What can be written wrongly in the adapter's manifests.

/// What goes wrong with the adapter's manifests (file, text, its replacement), and how it is found.
pub const MISTAKES: [(&str, &str, &str, &str); 46] = [
    ("deployment", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "Kubernetes' token"),
    ("deployment", "enableServiceLinks: false", "enableServiceLinks: true", "service links become variables"),
    ("deployment", "sidecar.istio.io/inject: \"true\"", "other: \"true\"", "no sidecar"),
    ("deployment", "runAsNonRoot: true", "runAsNonRoot: false", "runs as root"),
    ("deployment", "runAsUser: 65532", "runAsUser: 0", "runs as root"),
    ("deployment", "type: RuntimeDefault", "type: Unconfined", "any system call"),
    ("deployment", "      serviceAccountName", "      hostNetwork: true\n      serviceAccountName", "has hostNetwork"),
    ("deployment", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "gain privileges"),
    ("deployment", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "can be written"),
    ("deployment", "drop: [ALL]", "drop: [NET_RAW]", "has capabilities"),
    (
        "deployment",
        "              drop: [ALL]",
        "              drop: [ALL]\n              add: [NET_ADMIN]",
        "capabilities",
    ),
    ("deployment", "causeway-adapter:0.1.0", "causeway-adapter:latest", "is not pinned"),
    ("deployment", "              memory: 64Mi\n", "", "resources are missing"),
    (
        "deployment",
        "port: 9191\n              service",
        "port: 9192\n              service",
        "readinessProbe asks elsewhere",
    ),
    ("deployment", "v3.Authorization", "v2.Authorization", "readinessProbe asks elsewhere"),
    ("deployment", "value: 0.0.0.0:9191", "value: 127.0.0.1:9191", "listens elsewhere"),
    ("deployment", "value: /etc/causeway/mesh", "value: /opt/causeway/mesh", "bundle is looked for elsewhere"),
    ("deployment", "              readOnly: true", "              subPath: mesh.bundle", "subPath"),
    ("deployment", "terminationGracePeriodSeconds: 30", "terminationGracePeriodSeconds: 10", "drain has no time"),
    ("deployment", "topology.kubernetes.io/zone", "topology.kubernetes.io/region", "not spread over"),
    ("deployment", "  revisionHistoryLimit", "  replicas: 1\n  revisionHistoryLimit", "has replicas"),
    ("deployment", "name: metrics", "name: stats", "the ports are not those"),
    ("deployment", "containerPort: 9192", "containerPort: 9193", "metrics are served elsewhere"),
    ("deployment", "value: prometheus", "value: emf", "metrics are served elsewhere"),
    ("deployment", "prometheus.io/port: \"9192\"", "prometheus.io/port: \"9191\"", "annotations are"),
    ("deployment", "prometheus.io/scrape: \"true\"", "prometheus.io/scrape: \"false\"", "annotations are"),
    (
        "deployment",
        "          env:\n",
        "          env:\n            - name: AWS_REGION\n              value: x\n",
        "no role",
    ),
    (
        "deployment",
        "          env:\n",
        "          env:\n            - name: CAUSEWAY_ISSUER_URL\n              value: https://x\n",
        "nothing to exchange",
    ),
    (
        "deployment",
        "          env:\n",
        "          env:\n            - name: AWS_SECRET_ACCESS_KEY\n              value: x\n",
        "is written down",
    ),
    (
        "serviceaccount",
        "  name: causeway-adapter\n",
        "  name: causeway-adapter\n  annotations:\n    eks.amazonaws.com/role-arn: arn:aws:iam::123456789012:role/x\n",
        "the role has no use",
    ),
    ("network", "name: prometheus", "name: grafana", "others than Prometheus"),
    ("network", "- port: 15012", "- port: 15010", "a way out to"),
    ("network", "- port: 9192", "- port: 9193", "others than Prometheus"),
    (
        "deployment",
        "        prometheus.io/path",
        "        traffic.sidecar.istio.io/excludeOutboundIPRanges: 10.0.0.0/8\n        prometheus.io/path",
        "annotations are",
    ),
    ("network", "      ports:\n        - port: 15012\n          protocol: TCP", AGENT_RULE, "the role has no use"),
    ("network", "- port: 15012", "- port: 80", "a way out to"),
    ("service", "instance: causeway-adapter", "instance: other", "the Service selects other pods"),
    ("service", "targetPort: grpc", "targetPort: http", "leads to another port"),
    ("service", "targetPort: metrics", "targetPort: other", "the Service's ports are not"),
    ("service", "ClusterIP", "LoadBalancer", "outside of the cluster"),
    ("disruptions", "maxUnavailable: 1", "maxUnavailable: 100%", "everything go at once"),
    ("autoscaler", "minReplicas: 3", "minReplicas: 1", "one pod that ends"),
    ("network", "istio: ingressgateway", "istio: eastwestgateway", "others than the gateway may ask"),
    (
        "network",
        "    - from:\n        - name",
        "    - from:\n        - podSelector: {}\n        - name",
        "ingress is open",
    ),
    ("network", "policyTypes: [Ingress, Egress]", "policyTypes: [Ingress]", "leaves a direction open"),
    ("kustomization", "  - network.yaml\n", "", "the kinds are"),
];

/// The end of a rule, and one more: a way to the agent of EKS Pod Identity.
const AGENT_RULE: &str = "      ports:
        - port: 15012
          protocol: TCP
    - to:
        - ipBlock:
            cidr: 169.254.170.23/32
        - ipBlock:
            cidr: fd00:ec2::23/128
      ports:
        - port: 80
          protocol: TCP";
