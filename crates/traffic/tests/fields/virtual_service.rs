//! The fields of `VirtualService`.

use super::Section;

pub(crate) const SECTIONS: &[Section] = &[
    Section {
        heading: "VirtualService spec",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: @"#,
        base: &[("hosts", "[reviews]"), ("http", "[{ route: [{ destination: { host: ratings } }] }]")],
        is_word: false,
        fields: &[
            ("hosts", "[ratings]"),
            ("gateways", "[bookinfo/other]"),
            ("http", "[{ timeout: 1s, route: [{ destination: { host: ratings } }] }]"),
            ("exportTo", "['.']"),
            ("tls", "[{ match: [{ sniHosts: [reviews] }], route: [{ destination: { host: ratings } }] }]"),
            ("tcp", "[{ route: [{ destination: { host: ratings } }] }]"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [@] }"#,
        base: &[("route", "[{ destination: { host: ratings } }]")],
        is_word: false,
        fields: &[
            ("name", "first"),
            ("match", "[{ uri: { prefix: /a } }]"),
            ("route", "[{ destination: { host: details } }]"),
            ("redirect-route", "{ uri: /x }"),
            ("directResponse-route", "{ status: 418 }"),
            ("delegate-route", "{ name: other }"),
            ("rewrite", "{ uri: /x }"),
            ("timeout", "1s"),
            ("retries", "{ attempts: 5 }"),
            ("fault", "{ abort: { httpStatus: 500, percentage: { value: 1 } } }"),
            ("mirror", "{ host: details }"),
            ("mirrors", "[{ destination: { host: details } }]"),
            ("mirrorPercentage", "{ value: 50 }, mirror: { host: details }"),
            ("mirrorPercent", "50, mirror: { host: details }"),
            ("corsPolicy", "{ allowOrigins: [{ exact: 'https://a.example' }] }"),
            ("headers", "{ request: { set: { x-a: b } } }"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].match[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ match: [@], route: [{ destination: { host: ratings } }] }, { route: [{ destination: { host: details } }] }] }"#,
        base: &[("method", "{ exact: PUT }")],
        is_word: false,
        fields: &[
            ("name", "first"),
            ("uri", "{ exact: /a }"),
            ("ignoreUriCase", "true, uri: { prefix: /A }"),
            ("scheme", "{ exact: https }"),
            ("method", "{ exact: GET }"),
            ("authority", "{ exact: reviews }"),
            ("headers", "{ x-a: { exact: b } }"),
            ("withoutHeaders", "{ x-a: { exact: b } }"),
            ("queryParams", "{ a: { exact: b } }"),
            ("port", "80"),
            ("sourceLabels", "{ app: page }"),
            ("sourceNamespace", "other"),
            ("gateways", "[bookinfo/other]"),
            ("statPrefix", "counted"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].match[].uri",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ match: [{ uri: @ }], route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("prefix", "/z")],
        is_word: false,
        fields: &[("exact-prefix", "/a"), ("prefix", "/a"), ("regex-prefix", "/a+")],
    },
    Section {
        heading: "VirtualService spec.http[].route[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ route: [@, { destination: { host: details }, weight: 1 }] }] }"#,
        base: &[("destination", "{ host: ratings }"), ("weight", "1")],
        is_word: false,
        fields: &[
            ("destination", "{ host: reviews }"),
            ("weight", "2"),
            ("headers", "{ response: { remove: [x-a] } }"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].route[].destination",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ route: [{ destination: @ }] }] }"#,
        base: &[("host", "reviews")],
        is_word: false,
        fields: &[("host", "details"), ("subset", "v1"), ("port", "{ number: 9081 }")],
    },
    Section {
        heading: "VirtualService spec.http[].headers",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ headers: @, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[],
        is_word: false,
        fields: &[("request", "{ remove: [x-a] }"), ("response", "{ remove: [x-a] }")],
    },
    Section {
        heading: "VirtualService spec.http[].headers.request",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ headers: { request: @ }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[],
        is_word: false,
        fields: &[("set", "{ x-a: b }"), ("add", "{ x-a: b }"), ("remove", "[x-a]")],
    },
    Section {
        heading: "VirtualService spec.http[].redirect",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ redirect: @ }] }"#,
        base: &[("authority", "a.example")],
        is_word: false,
        fields: &[
            ("uri", "/x"),
            ("prefixRewrite", "/x"),
            ("authority", "b.example"),
            ("port", "8080"),
            ("derivePort", "FROM_REQUEST_PORT"),
            ("scheme", "https"),
            ("redirectCode", "308"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].directResponse",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ directResponse: @ }] }"#,
        base: &[("status", "418")],
        is_word: false,
        fields: &[("status", "200"), ("body", "{ string: a }")],
    },
    Section {
        heading: "VirtualService spec.http[].directResponse.body",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ directResponse: { status: 200, body: @ } }] }"#,
        base: &[],
        is_word: false,
        fields: &[("string", "a"), ("bytes", "YQ==")],
    },
    Section {
        heading: "VirtualService spec.http[].rewrite",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ rewrite: @, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("authority", "a.example")],
        is_word: false,
        fields: &[("uri", "/x"), ("uriRegexRewrite", "{ match: /a, rewrite: /b }"), ("authority", "b.example")],
    },
    Section {
        heading: "VirtualService spec.http[].rewrite.uriRegexRewrite",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ rewrite: { uriRegexRewrite: @ }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("match", "/a"), ("rewrite", "/b")],
        is_word: false,
        fields: &[("match", "/c"), ("rewrite", "/c")],
    },
    Section {
        heading: "VirtualService spec.http[].retries",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ retries: @, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("attempts", "3")],
        is_word: false,
        fields: &[
            ("attempts", "4"),
            ("perTryTimeout", "1s"),
            ("retryOn", "reset"),
            ("retryRemoteLocalities", "true"),
            ("retryIgnorePreviousHosts", "false"),
            ("backoff", "1s"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].retries.retryOn",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ retries: { attempts: 3, retryOn: @ }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("", "'418'")],
        is_word: true,
        fields: &[
            ("5xx", "5xx"),
            ("gateway-error", "gateway-error"),
            ("reset", "reset"),
            ("reset-before-request", "reset-before-request"),
            ("connect-failure", "connect-failure"),
            ("refused-stream", "refused-stream"),
            ("retriable-4xx", "retriable-4xx"),
            ("retriable-status-codes", "retriable-status-codes"),
            ("envoy-ratelimited", "envoy-ratelimited"),
            ("cancelled", "cancelled"),
            ("deadline-exceeded", "deadline-exceeded"),
            ("internal", "internal"),
            ("resource-exhausted", "resource-exhausted"),
            ("unavailable", "unavailable"),
            ("retriable-headers", "'418,retriable-headers'"),
            ("http3-post-connect-failure", "'418,http3-post-connect-failure'"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].fault",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ fault: @, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[],
        is_word: false,
        fields: &[
            ("delay", "{ fixedDelay: 1s, percentage: { value: 1 } }"),
            ("abort", "{ httpStatus: 500, percentage: { value: 1 } }"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].fault.delay",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ fault: { delay: @ }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("fixedDelay", "1s")],
        is_word: false,
        fields: &[
            ("fixedDelay", "2s"),
            ("exponentialDelay-fixedDelay", "1s"),
            ("percentage", "{ value: 1 }"),
            ("percent", "1"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].fault.abort",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ fault: { abort: @ }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("httpStatus", "500")],
        is_word: false,
        fields: &[
            ("httpStatus", "501"),
            ("grpcStatus-httpStatus", "NOT_FOUND"),
            ("http2Error-httpStatus", "NO_ERROR"),
            ("percentage", "{ value: 1 }"),
        ],
    },
    Section {
        heading: "VirtualService spec.http[].fault.abort.percentage",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ fault: { abort: { httpStatus: 500, percentage: @ } }, route: [{ destination: { host: ratings } }] }] }"#,
        base: &[],
        is_word: false,
        fields: &[("value", "0.5")],
    },
    Section {
        heading: "VirtualService spec.http[].mirrors[]",
        document: r#"apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: tested, namespace: bookinfo }
spec: { hosts: [reviews], http: [{ mirrors: [@], route: [{ destination: { host: ratings } }] }] }"#,
        base: &[("destination", "{ host: reviews }")],
        is_word: false,
        fields: &[("destination", "{ host: details }"), ("percentage", "{ value: 50 }")],
    },
];
