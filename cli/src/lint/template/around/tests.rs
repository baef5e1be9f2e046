#![allow(clippy::unwrap_used, clippy::panic)]

mod named;

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
        &["perhaps-around-gateway"],
    ),
    // A second domain: without mutual TLS, with it, and one that is not in the template.
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Domain, Stage: $default}}
  Open: {Type: AWS::ApiGatewayV2::DomainName, Properties: {DomainName: o.example}}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Open, Stage: $default}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Domain, Stage: $default}}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: m.example, Stage: $default}}\n",
        &[],
    ),
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Domain, Stage: $default}}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Name, Stage: $default}}\n",
        &["perhaps-around-gateway"],
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
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: \"*\", SourceArn: \"arn:aws:execute-api:eu-central-1:123456789012:*\"}}\n",
        &["permission-for-any-api"],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: \"*\", SourceArn: \"*\"}}\n",
        &["permission-for-everybody"],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: apigateway.amazonaws.com, SourceArn: \"arn:aws:execute-api:eu-central-1:123456789012:?bcdefghij/*\"}}\n",
        &["permission-for-any-api"],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: !Ref Who}}\n",
        &["perhaps-around-gateway"],
    ),
    (
        "  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Orders, Principal: !Ref AWS::AccountId}}\n",
        &[],
    ),
    // A webhook of its own, with the permission that its open URL needs.
    (
        "  Hook: {Type: AWS::Lambda::Function, Properties: {}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Hook, AuthType: NONE}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Hook, Principal: \"*\", FunctionUrlAuthType: NONE}}\n",
        &[],
    ),
    // A load balancer with the function, and one with another.
    (
        "  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: internet-facing}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !GetAtt Orders.Arn, Principal: elasticloadbalancing.amazonaws.com}}
  Targets: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {TargetType: lambda, Targets: [{Id: !GetAtt Orders.Arn}]}}\n",
        &["function-behind-load-balancer"],
    ),
    (
        "  Hook: {Type: AWS::Lambda::Function, Properties: {}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Hook, Principal: elasticloadbalancing.amazonaws.com}}\n",
        &[],
    ),
    // A function that an API of another template calls, which may be guarded: its permission is for that API, for any one,
    // or for everybody beside it.
    (
        "  Far: {Type: AWS::Lambda::Function, Properties: {}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: apigateway.amazonaws.com, SourceArn: !Sub \"arn:aws:execute-api:eu-central-1:123456789012:${Central}/*\"}}\n",
        &[],
    ),
    (
        "  Far: {Type: AWS::Lambda::Function, Properties: {}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: apigateway.amazonaws.com}}\n",
        &["perhaps-around-gateway"],
    ),
    (
        "  Far: {Type: AWS::Lambda::Function, Properties: {}}
  Api1: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: apigateway.amazonaws.com, SourceArn: !ImportValue orders-api}}
  All: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: \"*\"}}
  Balancer: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: elasticloadbalancing.amazonaws.com}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Far, AuthType: NONE}}
  Signed: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Far, AuthType: AWS_IAM}}\n",
        &["perhaps-around-gateway", "perhaps-around-gateway", "perhaps-around-gateway"],
    ),
    // One that an API of this template calls, without our authorizer, is nobody's but its own.
    (
        "  Other: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, Target: !GetAtt Hook.Arn}}
  Hook: {Type: AWS::Lambda::Function, Properties: {}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Hook, Principal: apigateway.amazonaws.com}}\n",
        &[],
    ),
    // Aliases that SAM makes.
    (
        "  Sold: {Type: AWS::Serverless::Function, Properties: {AutoPublishAlias: live, Events: {Call: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /b}}}}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref SoldAliaslive, AuthType: NONE}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref SoldAliaslive, Principal: apigateway.amazonaws.com}}\n",
        &["function-url-around-gateway", "permission-for-any-api"],
    ),
    (
        "  Sold: {Type: AWS::Serverless::Function, Properties: {Events: {Call: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /b}}}}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref SoldAliaslive, AuthType: NONE}}\n",
        &[],
    ),
    (
        "  Sold: {Type: AWS::Serverless::Function, Properties: {AutoPublishAlias: live, Events: {Call: {Type: HttpApi, Properties: {ApiId: !Ref Api, Method: GET, Path: /b}}}}}
  SoldAliases: {Type: AWS::Lambda::Function, Properties: {}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref SoldAliases, AuthType: NONE}}\n",
        &[],
    ),
    // Function URLs.
    (
        "  Live: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref Orders, FunctionVersion: 1, Name: live}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Live, AuthType: NONE}}\n",
        &["function-url-around-gateway"],
    ),
    (
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Orders, AuthType: !Ref UrlAuth}}\n",
        &["perhaps-around-gateway"],
    ),
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
    (
        "  Second: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, Target: !GetAtt Orders.Arn}}\n",
        &["function-behind-second-api"],
    ),
    // The route to the function asks IAM, and another one nobody.
    (
        "  Second: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  Other: {Type: AWS::Lambda::Function, Properties: {}}
  ToOrders: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Second, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Orders.Arn}}
  ToOther: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Second, IntegrationType: AWS_PROXY, IntegrationUri: !GetAtt Other.Arn}}
  Orderly: {Type: AWS::ApiGatewayV2::Route, Properties: {ApiId: !Ref Second, RouteKey: GET /a, AuthorizationType: AWS_IAM, Target: !Sub \"integrations/${ToOrders}\"}}
  Health: {Type: AWS::ApiGatewayV2::Route, Properties: {ApiId: !Ref Second, RouteKey: GET /health, Target: !Sub \"integrations/${ToOther}\"}}\n",
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
    (
        "  Backend: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY, ConnectionType: VPC_LINK}}
  Balancer: {Type: AWS::ElasticLoadBalancing::LoadBalancer, Properties: {}}
  Other: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: !Ref Scheme}}\n",
        &["backend-with-public-address", "perhaps-around-gateway"],
    ),
    // A public website beside the private backend.
    (
        "  Backend: {Type: AWS::ApiGatewayV2::Integration, Properties: {ApiId: !Ref Api, IntegrationType: HTTP_PROXY, ConnectionType: VPC_LINK, IntegrationUri: !Ref Listener}}
  Listener: {Type: AWS::ElasticLoadBalancingV2::Listener, Properties: {LoadBalancerArn: !Ref Balancer}}
  Balancer: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: internal}}
  Website: {Type: AWS::ElasticLoadBalancingV2::LoadBalancer, Properties: {Scheme: internet-facing}}\n",
        &["perhaps-around-gateway"],
    ),
    // What only the deployment knows: a custom resource, a parameter for the function.
    (
        "  Settings: {Type: Custom::Settings, Properties: {ServiceToken: x}}
  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Orders, AuthType: !GetAtt Settings.AuthType}}
  Signed: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !Ref Orders, AuthType: !GetAtt Orders.Arn}}\n",
        &["perhaps-around-gateway"],
    ),
    (
        "  Url: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !ImportValue orders-function, AuthType: NONE}}
  Signed: {Type: AWS::Lambda::Url, Properties: {TargetFunctionArn: !ImportValue orders-function, AuthType: AWS_IAM}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !ImportValue orders-function, Principal: elasticloadbalancing.amazonaws.com}}
  Topic: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !ImportValue orders-function, Principal: sns.amazonaws.com}}
  Known: {Type: AWS::Lambda::Permission, Properties: {FunctionName: other-function, Principal: elasticloadbalancing.amazonaws.com}}\n",
        &["perhaps-around-gateway", "perhaps-around-gateway"],
    ),
    // A target group alone, and one of machines. Another one stands above, with the permission.
    (
        "  Targets: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {TargetType: lambda, Targets: [{Id: !GetAtt Orders.Arn}]}}
  Lattice: {Type: AWS::VpcLattice::TargetGroup, Properties: {Type: LAMBDA, Targets: [{Id: !GetAtt Orders.Arn}]}}
  Machines: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {TargetType: instance, Targets: [{Id: !Ref Orders}]}}
  Hook: {Type: AWS::Lambda::Function, Properties: {}}
  Hooks: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {TargetType: lambda, Targets: [{Id: !GetAtt Hook.Arn}]}}\n",
        &["function-behind-load-balancer", "function-behind-load-balancer"],
    ),
    // Everybody may call it, and so may each API: nobody knows which do.
    (
        "  Far: {Type: AWS::Lambda::Function, Properties: {}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Far, Principal: \"*\"}}\n",
        &["perhaps-around-gateway"],
    ),
    // The function of an authorizer that may be ours.
    (
        "  Hidden: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: !FindInMap [A, B, C]}}}
  Own:
    Type: AWS::Serverless::HttpApi
    Properties:
      Auth: {Authorizers: {Own: {FunctionArn: !GetAtt Hidden.Arn, EnableSimpleResponses: true, AuthorizerPayloadFormatVersion: 2.0}}}
  Allow: {Type: AWS::Lambda::Permission, Properties: {FunctionName: !Ref Hidden, Principal: \"*\"}}\n",
        &["permission-for-everybody"],
    ),
    // A second domain with mutual TLS by a condition, and with none in the end; and an only one by a condition.
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Domain, Stage: $default}}
  Other:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: o.example, MutualTlsAuthentication: !If [C, {TruststoreUri: \"s3://a/b\"}, !Ref AWS::NoValue]}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Other, Stage: $default}}\n",
        &["perhaps-around-gateway"],
    ),
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Mapping: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Domain, Stage: $default}}
  Other: {Type: AWS::ApiGatewayV2::DomainName, Properties: {DomainName: o.example, MutualTlsAuthentication: {}}}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Other, Stage: $default}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP, DisableExecuteApiEndpoint: true}}
  Other:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: o.example, MutualTlsAuthentication: !If [C, {TruststoreUri: \"s3://a/b\"}, !Ref AWS::NoValue]}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Other, Stage: $default}}\n",
        &[],
    ),
    (
        "  Own: {Type: AWS::ApiGatewayV2::Api, Properties: {ProtocolType: HTTP}}
  Other:
    Type: AWS::ApiGatewayV2::DomainName
    Properties: {DomainName: o.example, MutualTlsAuthentication: !If [C, {TruststoreUri: \"s3://a/b\"}, !Ref AWS::NoValue]}
  Second: {Type: AWS::ApiGatewayV2::ApiMapping, Properties: {ApiId: !Ref Own, DomainName: !Ref Other, Stage: $default}}\n",
        &["execute-api-beside-mutual-tls"],
    ),
];

#[test]
fn what_leads_around_the_gateway_is_found_and_nothing_else() {
    let mut wrong = Vec::new();
    for (beside, expected) in ROWS {
        let said = codes(&format!("{GUARDED}{DOMAIN}{beside}"));
        if said != *expected {
            wrong.push(format!("{beside}: expected {expected:?}, found {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What of this topic is found in a template, with these documents behind it.
fn codes(text: &str) -> Vec<&'static str> {
    let own: Vec<&str> = super::CODES.iter().map(|code| code.name).collect();
    found(text).into_iter().map(|finding| finding.code).filter(|code| own.contains(code)).collect()
}
