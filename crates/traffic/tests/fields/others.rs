//! The fields of `ServiceEntry`, `WorkloadEntry`, `Sidecar` and the mesh configuration.

use super::Section;

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        heading: "ServiceEntry spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: tested, namespace: bookinfo }
spec: @"#,
        base: &[
            ("hosts", "[x.example]"),
            ("ports", "[{ number: 80, name: http, protocol: HTTP }]"),
            ("location", "MESH_INTERNAL"),
            ("resolution", "DNS"),
            ("endpoints", "[{ address: e.mesh.example }]"),
            ("subjectAltNames", "[spiffe://cluster.local/ns/bookinfo/sa/x]"),
        ],
        is_word: false,
        fields: &[
            ("hosts", "[y.example]"),
            ("addresses", "[10.0.0.1]"),
            ("ports", "[{ number: 81, name: http, protocol: HTTP }]"),
            ("location", "MESH_EXTERNAL"),
            ("resolution", "DNS_ROUND_ROBIN"),
            ("endpoints", "[{ address: f.mesh.example }]"),
            ("workloadSelector-endpoints", "{ labels: { app: selected } }"),
            ("exportTo", "['.']"),
            ("subjectAltNames", "[spiffe://cluster.local/ns/bookinfo/sa/y]"),
        ],
    },
    Section {
        heading: "ServiceEntry spec.resolution",
        document: r#"apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [x.example], ports: [{ number: 80, name: http, protocol: HTTP }], resolution: @ }"#,
        base: &[("", "DNS")],
        is_word: true,
        fields: &[
            ("NONE", "NONE"),
            ("STATIC", "STATIC, endpoints: [{ address: 10.0.0.1 }]"),
            ("DNS", "DNS"),
            ("DNS_ROUND_ROBIN", "DNS_ROUND_ROBIN"),
            ("DYNAMIC_DNS", "DYNAMIC_DNS"),
        ],
    },
    Section {
        heading: "ServiceEntry spec.ports[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [x.example], ports: [@], location: MESH_INTERNAL, resolution: DNS, workloadSelector: { labels: { app: selected } }, subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/x] }"#,
        base: &[("number", "80"), ("name", "http"), ("protocol", "HTTP")],
        is_word: false,
        fields: &[("number", "81"), ("protocol", "HTTP2"), ("name", "other"), ("targetPort", "8080, name: other")],
    },
    Section {
        heading: "ServiceEntry spec.endpoints[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [x.example], ports: [{ number: 80, name: http, protocol: HTTP }], location: MESH_INTERNAL, resolution: DNS, endpoints: [@], subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/x] }"#,
        base: &[("address", "e.mesh.example")],
        is_word: false,
        fields: &[
            ("address", "f.mesh.example"),
            ("ports", "{ http: 7 }"),
            ("labels", "{ app: selected, version: v7 }"),
            ("network", "other"),
            ("locality", "eu/eu-1"),
            ("weight", "7"),
            ("serviceAccount", "other"),
        ],
    },
    Section {
        heading: "WorkloadEntry spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: { name: tested, namespace: bookinfo }
spec: @
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [x.example], ports: [{ number: 80, name: http, protocol: HTTP }], location: MESH_INTERNAL, resolution: DNS, workloadSelector: { labels: { app: selected } }, subjectAltNames: [spiffe://cluster.local/ns/bookinfo/sa/x] }"#,
        base: &[("address", "e.mesh.example"), ("labels", "{ app: selected }")],
        is_word: false,
        fields: &[
            ("address", "f.mesh.example"),
            ("ports", "{ http: 7 }"),
            ("labels", "{ app: selected, version: v7 }"),
            ("network", "other"),
            ("locality", "eu/eu-1"),
            ("weight", "7"),
            ("serviceAccount", "other"),
        ],
    },
    Section {
        heading: "Sidecar spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: tested, namespace: bookinfo }
spec: @"#,
        base: &[("egress", "[{ hosts: ['./*'] }]")],
        is_word: false,
        fields: &[
            ("workloadSelector", "{ labels: { app: page } }"),
            ("egress", "[{ hosts: ['./ratings.bookinfo.svc.cluster.local'] }]"),
            ("outboundTrafficPolicy", "{ mode: ALLOW_ANY }"),
            ("ingress", "[{ port: { number: 80, name: http, protocol: HTTP }, defaultEndpoint: 127.0.0.1:80 }]"),
            ("inboundConnectionPool", "{ tcp: { maxConnections: 7 } }"),
        ],
    },
    Section {
        heading: "Sidecar spec.egress[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: tested, namespace: bookinfo }
spec: { egress: [@] }"#,
        base: &[("hosts", "['./*']")],
        is_word: false,
        fields: &[
            ("port", "{ number: 7000, protocol: HTTP }"),
            ("bind", "127.0.0.2, port: { number: 7000, protocol: HTTP }"),
            ("captureMode", "NONE"),
            ("hosts", "['./ratings.bookinfo.svc.cluster.local']"),
        ],
    },
    Section {
        heading: "Sidecar spec.egress[].port",
        document: r#"apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: tested, namespace: bookinfo }
spec: { egress: [{ hosts: ['./*'], port: @ }] }"#,
        base: &[("number", "7000"), ("protocol", "HTTP")],
        is_word: false,
        fields: &[("number", "7001"), ("protocol", "TCP"), ("name", "http"), ("targetPort", "80")],
    },
    Section {
        heading: "Sidecar spec.outboundTrafficPolicy",
        document: r#"apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: { name: tested, namespace: bookinfo }
spec: { outboundTrafficPolicy: @ }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("mode", "ALLOW_ANY"),
            ("egressProxy", "{ host: ratings.bookinfo.svc.cluster.local, port: { number: 9080 } }"),
        ],
    },
    Section {
        heading: "MeshConfig data.mesh",
        document: r#"apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data: { mesh: "@" }"#,
        base: &[("rootNamespace", "istio-system")],
        is_word: false,
        fields: &[
            ("rootNamespace", "other"),
            ("trustDomain", "other.example, trustDomainAliases: [cluster.local]"),
            ("trustDomainAliases", "[old.example]"),
            ("pathNormalization", "{ normalization: NONE }"),
            ("outboundTrafficPolicy", "{ mode: ALLOW_ANY }"),
            ("localityLbSetting", "{ distribute: [{ from: '*', to: { eu: 100 } }] }"),
            ("defaultHttpRetryPolicy", "{ attempts: 7 }"),
            ("connectTimeout", "7s"),
        ],
    },
];
