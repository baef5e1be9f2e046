#![allow(clippy::unwrap_used, clippy::panic)]

use crate::lint::tests::found;

/// A guarded API of SAM with a function behind it, as `Api`, `Guard` and `Orders`.
const GUARDED: &str = "Resources:
  Guard: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {CAUSEWAY_ENVIRONMENT: dev}}}}
  Api:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth:
        DefaultAuthorizer: Own
        Authorizers: {Own: {FunctionArn: !GetAtt Guard.Arn, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: 2.0}}
  Orders:
    Type: AWS::Serverless::Function
    Properties: {Events: {Call: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /a}}}}
";
const DOMAIN: &str = "  Domain:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: m.example, MutualTlsAuthentication: {TruststoreUri: \"s3://a/b\"}}
";

/// What stands beside the guarded API, and what of this topic is found then.
const ROWS: &[(&str, &[&str])] = &[
    ("", &[]),
    // Names of APIs.
    (
        "  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Api, DomainName: !Ref Domain, Stage: $default}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Api, DomainName: m.example, Stage: $default}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Api, DomainName: o.example, Stage: $default}}\n",
        &[],
    ),
    (
        "  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {DisableExecuteApiEndpoint: false}}
  Mapping: {Type: AWS::ApiGateway::BasePathMapping, Properties: {RestApiId: !Ref Rest, DomainName: !Ref Domain}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Rest: {Type: AWS::ApiGateway::RestApi, Properties: {DisableExecuteApiEndpoint: !If [A, true, false]}}
  Mapping: {Type: AWS::ApiGateway::BasePathMapping, Properties: {RestApiId: !Ref Rest, DomainName: !Ref Domain}}\n",
        &[],
    ),
    (
        "  Own:
    Type: AWS::Serverless::HttpApi
    Properties: {Domain: {DomainName: n.example, MutualTlsAuthentication: {TruststoreUri: \"s3://a/b\"}}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Own:
    Type: AWS::Serverless::HttpApi
    Properties:
      DisableExecuteApiEndpoint: true
      Domain: {DomainName: n.example, MutualTlsAuthentication: {TruststoreUri: \"s3://a/b\"}}\n",
        &[],
    ),
    // Permissions.
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: apigateway.amazonaws.com, SourceAccount: \"123456789012\"}}\n",
        &["permission-for-any-api"],
    ),
    (
        "  Allow:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: !Ref Orders, Principal: apigateway.amazonaws.com, SourceArn: \"arn:aws:execute-api:*:*:*\"}\n",
        &["permission-for-any-api"],
    ),
    (
        "  Allow:
    Type: AWS::Lambda::Permission
    Properties: {FunctionName: !Ref Orders, Principal: apigateway.amazonaws.com, SourceArn: !Sub \"arn:aws:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*/GET/a\"}\n",
        &[],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: \"*\", FunctionUrlAuthType: AWS_IAM}}\n",
        &["permission-for-everybody"],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: \"123456789012\"}}\n",
        &[],
    ),
    // Function URLs.
    (
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Guard, AuthType: NONE}}\n",
        &["function-url-around-gateway"],
    ),
    (
        "  Other: {Type: AWS::Serverless::Function, Properties: {FunctionUrlConfig: {AuthType: NONE}}}\n",
        &[],
    ),
    (
        "  Issuer:
    Type: AWS::Serverless::Function
    Properties: {FunctionUrlConfig: {AuthType: NONE}, Environment: {Variables: {CAUSEWAY_ISSUER: \"https://i.example\"}}}\n",
        &["function-url-around-gateway"],
    ),
    // A second API: as an OpenAPI document, and as events of the same function.
    (
        "  Second:
    Type: AWS::ApiGatewayV2::Api
    Properties:
      Body:
        paths:
          /a: {get: {x-amazon-apigateway-integration: {type: aws_proxy, uri: !Sub \"arn:${Orders.Arn}/invocations\"}}}\n",
        &["function-behind-second-api"],
    ),
    (
        "  Second: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, Target: !GetAtt Other.Arn}}
  Other: {Type: AWS::Lambda::Function, Properties: {}}\n",
        &[],
    ),
    // Backends: a public one beside a private integration, and one that nothing of ours leads to.
    (
        "  Backend: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY, ConnectionType: VPC_LINK}}
  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Name: a}}
  Service: {Type: AWS::ECS::Service, Properties: {NetworkConfiguration: {AwsvpcConfiguration: {AssignPublicIp: ENABLED}}}}\n",
        &["backend-with-public-address", "backend-with-public-address"],
    ),
    (
        "  Backend: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY}}\n",
        &["backend-on-the-internet"],
    ),
    ("  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Name: a}}\n", &[]),
];

#[test]
fn what_leads_around_the_gateway_is_found_and_nothing_else() {
    let own: Vec<&str> = super::CODES.iter().map(|code| code.name).collect();
    let mut wrong = Vec::new();
    for (beside, expected) in ROWS {
        let text = format!("{GUARDED}{DOMAIN}{beside}");
        let said: Vec<&str> =
            found(&text).into_iter().map(|finding| finding.code).filter(|code| own.contains(code)).collect();
        if said != *expected {
            wrong.push(format!("{beside}: expected {expected:?}, found {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
