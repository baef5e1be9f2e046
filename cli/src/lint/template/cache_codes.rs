//! What can be wrong with a cache of answers.

use crate::lint::finding::{Code, Severity};

/// A template with the API `Api`, our function, and an authorizer with these lines.
macro_rules! http {
    ($authorizer:literal, $route:literal) => {
        concat!(
            "Resources:
  Guard:
    Type: AWS::Serverless::Function
    Properties:
      Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: {ProtocolType: HTTP}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      AuthorizerType: REQUEST
      AuthorizerUri: !GetAtt Guard.Arn
      AuthorizerPayloadFormatVersion: \"2.0\"
",
            $authorizer,
            "  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: ",
            $route,
            ", AuthorizationType: CUSTOM, AuthorizerId: !Ref Authorizer}
"
        )
    };
}
pub(super) use http;

pub(super) static KEY: Code = Code {
    name: "cache-key-too-small",
    severity: Severity::Error,
    what: "an authorizer whose answers are cached under less than its verdicts depend on",
    why: "API Gateway gives the answer to one request to every other one with the same identity sources, for as long as the \
          TTL says. What the policies look at and the identity sources leave out is then looked at once, for all.",
    instead: "set the TTL to 0, or see docs/caching.md and add the identity sources that the finding names",
    wrong: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization]
",
        "GET /a"
    ),
    right: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization, $request.querystring.access_token, $context.routeKey, $context.domainName]
",
        "GET /a"
    ),
};

pub(super) static NEVER: Code = Code {
    name: "cache-impossible",
    severity: Severity::Error,
    what: "an authorizer whose answers are cached although something that its verdicts depend on cannot be an identity source",
    why: "The whole query and the answer of an extension provider are no identity sources, so no key can tell two requests \
          apart that differ in them. What an authorizer cannot say at all (an identity source that only the deployment \
          knows) proves nothing either.",
    instead: "set the TTL to 0, or take what the finding names out of the policies",
    wrong: concat!(http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization, $context.path, !Ref Other]
",
        "GET /a"
    ),),
    right: http!("      EnableSimpleResponses: true\n      AuthorizerResultTtlInSeconds: 0\n", "GET /a"),
};

pub(super) static NO_CREDENTIAL: Code = Code {
    name: "cache-without-credential",
    severity: Severity::Error,
    what: "an authorizer whose answers are cached under nothing that says who calls",
    why: "The first caller's answer serves everyone, with the first caller's name in its context.",
    instead: "add the header of the credential to the identity sources, or set the TTL to 0",
    wrong: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$context.routeKey, $context.domainName]
",
        "GET /a"
    ),
    right: KEY.right,
};

pub(super) static CERTIFICATE: Code = Code {
    name: "cache-certificate-unknown",
    severity: Severity::Error,
    what: "an authorizer that caches, and an API whose clients may show certificates",
    why: "A token with `cnf` is good together with one client certificate. With the token alone in the key, the answer to its \
          owner serves a thief who has the token and another certificate. Only a custom domain with mutual TLS asks for \
          certificates, and the template does not say whether the domain of the ApiGateway is one.",
    instead: "give the template that has the domain as well; if no domain of the API has mutual TLS, `--allow` this code; \
              otherwise add the certificate to the identity sources, or set the TTL to 0",
    wrong: KEY.right,
    right: concat!(
        http!(
            "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization, $request.querystring.access_token, $context.routeKey, $context.domainName]
",
            "GET /a"
        ),
        "  Domain:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: shop.example}
"
    ),
};

pub(super) static REPEATED: Code = Code {
    name: "cache-header-repeated",
    severity: Severity::Warning,
    what: "a cache key of a REST API that has to cover a header which a policy looks at",
    why: "A policy looks at every line of a repeated header. AWS does not say whether the identity source \
          `method.request.header.X` takes all of them or one: if it takes one, the answer to a request with that line serves \
          a request with that line and another one, which the policy may deny.",
    instead: "decide by a claim instead of the header, let the API refuse requests that repeat the header, or set the TTL to 0",
    wrong: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - when: [{key: \"request.headers[x-tenant]\", values: [closed]}]
---
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: $default
      Auth:
        Authorizers:
          Own:
            FunctionArn: arn
            FunctionPayloadType: REQUEST
            Identity: {Headers: [Authorization, X-Tenant], ReauthorizeEvery: 60}
",
    right: "kind: AuthorizationPolicy
metadata: {name: example, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - when: [{key: \"request.auth.claims[tenant]\", values: [closed]}]
---
Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: $default
      Auth:
        Authorizers:
          Own:
            FunctionArn: arn
            FunctionPayloadType: REQUEST
            Identity: {Headers: [Authorization, X-Tenant], ReauthorizeEvery: 60}
",
};

pub(super) static DEFAULT_TTL: Code = Code {
    name: "cache-ttl-not-said",
    severity: Severity::Warning,
    what: "an authorizer of a REST API without a TTL",
    why: "API Gateway caches for 300 seconds where a REST API does not say; an HTTP API does not cache then.",
    instead: "write `AuthorizerResultTtlInSeconds: 0` (`ReauthorizeEvery: 0` in SAM), or the TTL that is meant",
    wrong: "Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: $default
      Auth: {Authorizers: {Own: {FunctionArn: arn, FunctionPayloadType: REQUEST, Identity: {Headers: [Authorization]}}}}
",
    right: "Resources:
  Api:
    Type: AWS::Serverless::Api
    Properties:
      StageName: $default
      Auth: {Authorizers: {Own: {FunctionArn: arn, FunctionPayloadType: REQUEST, Identity: {ReauthorizeEvery: 0}}}}
",
};

pub(super) static LONG: Code = Code {
    name: "cache-ttl-long",
    severity: Severity::Warning,
    what: "answers that are cached for more than 300 seconds",
    why: "A token that has expired and a key that was revoked open the API for as long as the answer is cached: API Gateway \
          does not look at the `exp` of a token.",
    instead: "set the TTL to less than the life of a token that is left, and to less than a revocation may take",
    wrong: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 301
      IdentitySource: [$request.header.Authorization]
",
        "GET /a"
    ),
    right: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 300
      IdentitySource: [$request.header.Authorization]
",
        "GET /a"
    ),
};

/// The same template, whose function limits rates.
macro_rules! limited {
    ($authorizer:literal) => {
        concat!(
            "Resources:
  Guard:
    Type: AWS::Serverless::Function
    Properties:
      Environment: {Variables: {CAUSEWAY_RATE_LIMITS_TABLE: limits, CAUSEWAY_RATE_LIMIT: \"50/s,100\"}}
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: {ProtocolType: HTTP}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      AuthorizerType: REQUEST
      AuthorizerUri: !GetAtt Guard.Arn
      AuthorizerPayloadFormatVersion: \"2.0\"
      EnableSimpleResponses: true
",
            $authorizer,
            "  Route:
    Type: AWS::ApiGatewayV2::Route
    Properties: {ApiId: !Ref Api, RouteKey: GET /a, AuthorizationType: CUSTOM, AuthorizerId: !Ref Authorizer}
"
        )
    };
}

pub(super) static LIMITED: Code = Code {
    name: "cache-of-rate-limited",
    severity: Severity::Error,
    what: "an authorizer whose answers are cached although its function limits the rate of each client",
    why: "API Gateway does not ask about a request that it has an answer for: nothing is counted, and the limit does not hold. \
          A denial for a rate that is used up is given again as long as it is cached, when the client may ask again.",
    instead: "set the TTL to 0, or take the function's CAUSEWAY_RATE_LIMITS_TABLE away",
    wrong: limited!(
        "      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization, $request.querystring.access_token, $context.routeKey, $context.domainName]
"
    ),
    right: limited!("      AuthorizerResultTtlInSeconds: 0\n"),
};

pub(super) static PREFLIGHT: Code = Code {
    name: "cache-of-preflights",
    severity: Severity::Error,
    what: "an authorizer that caches and is asked about OPTIONS requests",
    why: "Istio does not look at the tokens of a CORS preflight, which `Origin` and `Access-Control-Request-Method` make of an \
          OPTIONS request. The answer to a preflight would serve an OPTIONS request with a bad token.",
    instead: "let API Gateway answer preflights (`CorsConfiguration`), or name the methods of the routes; or set the TTL to 0",
    wrong: http!(
        "      EnableSimpleResponses: true
      AuthorizerResultTtlInSeconds: 60
      IdentitySource: [$request.header.Authorization, $request.querystring.access_token, $context.path, $context.httpMethod]
",
        "ANY /a"
    ),
    right: KEY.right,
};

pub(super) static RESPONSE: Code = Code {
    name: "authorizer-response-form",
    severity: Severity::Error,
    what: "an authorizer of payload format 2.0 whose form of response is not the one that the function gives",
    why: "The event does not say which form is wanted. An answer in the other one is an error for API Gateway, and clients get 500.",
    instead: "write `EnableSimpleResponses: true`, or set the function's CAUSEWAY_RESPONSE to `iam`",
    wrong: http!("      AuthorizerResultTtlInSeconds: 0\n", "GET /a"),
    right: http!("      AuthorizerResultTtlInSeconds: 0\n      EnableSimpleResponses: true\n", "GET /a"),
};
