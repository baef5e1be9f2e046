//! The fields of `DestinationRule`.

use super::Section;

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        heading: "DestinationRule spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: @"#,
        base: &[("host", "ratings")],
        is_word: false,
        fields: &[
            ("host", "details, trafficPolicy: { connectionPool: { tcp: { maxConnections: 7 } } }"),
            ("trafficPolicy", "{ connectionPool: { tcp: { maxConnections: 7 } } }"),
            ("exportTo", "['.'], trafficPolicy: { connectionPool: { tcp: { maxConnections: 7 } } }"),
            (
                "workloadSelector",
                "{ matchLabels: { app: page } }, trafficPolicy: { connectionPool: { tcp: { maxConnections: 7 } } }",
            ),
        ],
    },
    Section {
        heading: "DestinationRule spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: @
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: route, namespace: bookinfo }
spec: { hosts: [details], http: [{ route: [{ destination: { host: ratings, subset: v9 } }] }] }"#,
        base: &[("host", "ratings")],
        is_word: false,
        fields: &[(
            "subsets",
            "[{ name: v9, labels: { version: v1 }, trafficPolicy: { loadBalancer: { simple: RANDOM } } }]",
        )],
    },
    Section {
        heading: "DestinationRule spec.subsets[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, subsets: [@] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: route, namespace: bookinfo }
spec: { hosts: [ratings], http: [{ route: [{ destination: { host: ratings, subset: v1 }, weight: 1 }, { destination: { host: ratings, subset: v2 }, weight: 1 }] }] }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: second, namespace: bookinfo }
spec: { host: ratings, subsets: [{ name: v2, labels: { version: v2 } }] }"#,
        base: &[("name", "v1"), ("labels", "{ version: v1 }")],
        is_word: false,
        fields: &[("labels", "{ version: v2 }"), ("trafficPolicy", "{ loadBalancer: { simple: RANDOM } }")],
    },
    Section {
        heading: "DestinationRule spec.subsets[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, subsets: [@] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: route, namespace: bookinfo }
spec: { hosts: [details], http: [{ route: [{ destination: { host: ratings, subset: v9 } }] }] }"#,
        base: &[("name", "v8")],
        is_word: false,
        fields: &[("name", "v9")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: @ }"#,
        base: &[("connectionPool", "{ tcp: { maxConnections: 7 } }")],
        is_word: false,
        fields: &[
            ("loadBalancer", "{ simple: RANDOM }"),
            ("connectionPool", "{ tcp: { maxConnections: 8 } }"),
            ("outlierDetection", "{}"),
            ("tls", "{ mode: ISTIO_MUTUAL, sni: a.example }"),
            ("portLevelSettings", "[{ port: { number: 9080 }, loadBalancer: { simple: RANDOM } }]"),
            ("retryBudget", "{ percent: 30 }"),
            ("tunnel", "{ targetHost: a.example, targetPort: 80 }"),
            ("proxyProtocol", "{ version: V1 }"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.portLevelSettings[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { portLevelSettings: [@] } }"#,
        base: &[("port", "{ number: 9080 }"), ("connectionPool", "{ tcp: { maxConnections: 7 } }")],
        is_word: false,
        fields: &[
            ("port", "{ number: 9000 }"),
            ("loadBalancer", "{ simple: RANDOM }"),
            ("connectionPool", "{ tcp: { maxConnections: 8 } }"),
            ("outlierDetection", "{}"),
            ("tls", "{ mode: ISTIO_MUTUAL, sni: a.example }"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: @ } }"#,
        base: &[("simple", "ROUND_ROBIN")],
        is_word: false,
        fields: &[
            ("simple", "RANDOM"),
            ("consistentHash-simple", "{ useSourceIp: true }"),
            ("localityLbSetting", "{ distribute: [{ from: '*', to: { eu: 100 } }] }"),
            ("zoneAwareLbSetting", "{ enabled: true }"),
            ("warmup", "{ duration: 10s }"),
            ("warmupDurationSecs", "10s"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.simple",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { simple: @ } } }"#,
        base: &[("", "RANDOM")],
        is_word: true,
        fields: &[
            ("UNSPECIFIED", "UNSPECIFIED"),
            ("LEAST_REQUEST", "LEAST_REQUEST"),
            ("LEAST_CONN", "LEAST_CONN"),
            ("RANDOM", "RANDOM"),
            ("ROUND_ROBIN", "ROUND_ROBIN"),
            ("PASSTHROUGH", "PASSTHROUGH"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.consistentHash",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { consistentHash: @ } } }"#,
        base: &[("httpHeaderName", "x-a")],
        is_word: false,
        fields: &[
            ("httpHeaderName", "x-b"),
            ("httpCookie-httpHeaderName", "{ name: a, ttl: 0s }"),
            ("useSourceIp-httpHeaderName", "true"),
            ("httpQueryParameterName-httpHeaderName", "a"),
            ("ringHash", "{ minimumRingSize: 7 }"),
            ("maglev", "{ tableSize: 7 }"),
            ("minimumRingSize", "7"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.consistentHash.ringHash",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { consistentHash: { useSourceIp: true, ringHash: @ } } } }"#,
        base: &[],
        is_word: false,
        fields: &[("minimumRingSize", "7")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.consistentHash.maglev",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { consistentHash: { useSourceIp: true, maglev: @ } } } }"#,
        base: &[("tableSize", "7")],
        is_word: false,
        fields: &[("tableSize", "11")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.consistentHash.httpCookie",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { consistentHash: { httpCookie: @ } } } }"#,
        base: &[("name", "a")],
        is_word: false,
        fields: &[("name", "b"), ("path", "/x"), ("ttl", "1s"), ("attributes", "[{ name: SameSite, value: Lax }]")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.warmup",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { simple: ROUND_ROBIN, warmup: @ } } }"#,
        base: &[("duration", "10s")],
        is_word: false,
        fields: &[("duration", "20s"), ("minimumPercent", "20"), ("aggression", "2.0")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.localityLbSetting",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: @ } } }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("distribute", "[{ from: '*', to: { eu: 100 } }]"),
            ("failover", "[{ from: eu, to: us }]"),
            ("failoverPriority", "[app]"),
            ("enabled", "false"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: { distribute: [@] } } } }"#,
        base: &[("from", "'*'"), ("to", "{ eu: 100 }")],
        is_word: false,
        fields: &[("from", "eu"), ("to", "{ us: 100 }")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.loadBalancer.localityLbSetting.failover[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: {}, loadBalancer: { localityLbSetting: { failover: [@] } } } }"#,
        base: &[("from", "eu"), ("to", "us")],
        is_word: false,
        fields: &[("from", "ap"), ("to", "ap")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.connectionPool.tcp",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { connectionPool: { tcp: @ } } }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("maxConnections", "7"),
            ("connectTimeout", "1s"),
            ("tcpKeepalive", "{ probes: 7 }"),
            ("maxConnectionDuration", "1s"),
            ("idleTimeout", "1s"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.connectionPool.tcp.tcpKeepalive",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { connectionPool: { tcp: { tcpKeepalive: @ } } } }"#,
        base: &[("probes", "6")],
        is_word: false,
        fields: &[("probes", "7"), ("time", "7s"), ("interval", "7s")],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.connectionPool.http",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { connectionPool: { http: @ } } }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("http1MaxPendingRequests", "7"),
            ("http2MaxRequests", "7"),
            ("maxRequestsPerConnection", "7"),
            ("maxRetries", "7"),
            ("idleTimeout", "7s"),
            ("h2UpgradePolicy", "UPGRADE"),
            ("useClientProtocol", "true"),
            ("maxConcurrentStreams", "7"),
            ("http2KeepAlive", "{ interval: 7s, timeout: 1s }"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.outlierDetection",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { outlierDetection: @ } }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("consecutive5xxErrors", "7"),
            ("consecutiveGatewayErrors", "7"),
            ("splitExternalLocalOriginErrors", "true"),
            ("consecutiveLocalOriginFailures", "7, splitExternalLocalOriginErrors: true"),
            ("interval", "7s"),
            ("baseEjectionTime", "7s"),
            ("maxEjectionPercent", "7"),
            ("minHealthPercent", "7"),
            ("consecutiveErrors", "7"),
            ("outlierDetectionHttpErrorCodes", "[500]"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.tls",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: api.example.com, trafficPolicy: { tls: @ } }"#,
        base: &[("mode", "SIMPLE")],
        is_word: false,
        fields: &[
            ("mode", "DISABLE"),
            ("sni", "a.example"),
            ("subjectAltNames", "[a.example]"),
            ("caCertificates", "/etc/roots.pem"),
            ("clientCertificate", "/etc/own.pem"),
            ("privateKey", "/etc/own.key"),
            ("credentialName", "own"),
            ("insecureSkipVerify", "true"),
            ("caCrl", "/etc/crl.pem"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.tls.mode",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: api.example.com, trafficPolicy: { tls: { mode: @ } } }"#,
        base: &[("", "SIMPLE")],
        is_word: true,
        fields: &[
            ("DISABLE", "DISABLE"),
            ("SIMPLE", "SIMPLE"),
            ("MUTUAL", "MUTUAL"),
            ("ISTIO_MUTUAL", "ISTIO_MUTUAL, subjectAltNames: [spiffe://cluster.local/ns/a/sa/b]"),
        ],
    },
    Section {
        heading: "DestinationRule spec.trafficPolicy.retryBudget",
        document: r#"apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: tested, namespace: bookinfo }
spec: { host: ratings, trafficPolicy: { retryBudget: @ } }"#,
        base: &[],
        is_word: false,
        fields: &[("percent", "30"), ("minRetryConcurrency", "7"), ("budgetInterval", "1s")],
    },
];
