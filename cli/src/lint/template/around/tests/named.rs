//! Functions that are named by their `FunctionName` or an alias, and what their permissions open.

use super::{GUARDED, codes};

/// A function with a name behind the guarded API, which calls it in this way, as `Sold`.
fn named(call: &str) -> String {
    format!(
        "  Sold: {{Type: AWS::Serverless::Function, Properties: {{FunctionName: orders-live, AutoPublishAlias: live}}}}
  Call: {{Type: AWS::ApiGatewayV2::Integration, Properties: {{ApiId: !Ref Api, IntegrationType: AWS_PROXY, IntegrationUri: {call}}}}}
"
    )
}

const LIVE: &str = "arn:aws:lambda:eu-central-1:123456789012:function:orders-live";

/// Every way to write which function it is, whatever else the name is part of.
#[test]
fn a_function_is_found_under_each_of_its_names() {
    let arn = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:orders-live";
    let path = "arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions";
    let is_meant = [
        "!Ref Sold".to_owned(),
        "!GetAtt Sold.Arn".to_owned(),
        "!Ref Sold.Alias".to_owned(),
        "!Ref SoldAliaslive".to_owned(),
        "orders-live".to_owned(),
        "orders-live:live".to_owned(),
        "\"123456789012:function:orders-live\"".to_owned(),
        format!("\"{LIVE}\""),
        format!("\"{LIVE}:live\""),
        format!("!Sub \"{arn}\""),
        "!Sub [\"arn:aws:lambda:eu:1:function:${Name}\", {Name: orders-live}]".to_owned(),
        format!("!Sub \"{path}/{arn}/invocations\""),
        format!("!Sub \"{path}/{arn}:live/invocations\""),
        "!Join [\":\", [arn, aws, lambda, !Ref \"AWS::Region\", !Ref \"AWS::AccountId\", function, orders-live]]"
            .to_owned(),
        format!("!If [C, !Ref Elsewhere, \"{LIVE}\"]"),
        "!Ref OfName".to_owned(),
        "!Ref OfVersion".to_owned(),
        "!Ref OfAlias".to_owned(),
    ];
    let is_another = [
        "orders-live2",
        "\"arn:aws:lambda:eu-central-1:123456789012:function:orders-live-old\"",
        "\"arn:aws:lambda:eu-central-1:123456789012:function:my-orders-live\"",
        "!Sub \"arn:aws:lambda:eu-central-1:123456789012:function:${Elsewhere}\"",
        "!Ref Round",
    ];
    let aliases = "  OfName: {Type: AWS::Lambda::Alias, Properties: {FunctionName: orders-live, FunctionVersion: 1, Name: a}}
  One: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref Sold}}
  OfVersion: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !GetAtt One.FunctionArn, FunctionVersion: 1, Name: b}}
  OfAlias: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref OfVersion, FunctionVersion: 1, Name: c}}
  Round: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref Round, FunctionVersion: 1, Name: d}}
";
    let said = |call: &str, target: &str| {
        let url =
            format!("  Url: {{Type: AWS::Lambda::Url, Properties: {{TargetFunctionArn: {target}, AuthType: NONE}}}}\n");
        codes(&format!("{GUARDED}{}{aliases}{url}", named(call)))
    };
    let mut wrong = Vec::new();
    for name in &is_meant {
        for (call, target) in [("!Ref Sold", name.as_str()), (name.as_str(), "!Ref Sold")] {
            if said(call, target) != ["function-url-around-gateway"] {
                wrong.push(format!("called as {call}, with a URL of {target}: {:?}", said(call, target)));
            }
        }
    }
    for name in is_another {
        for (call, target) in [("!Ref Sold", name), (name, "!Ref Sold")] {
            if !said(call, target).is_empty() {
                wrong.push(format!("called as {call}, with a URL of {target}: {:?}", said(call, target)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Permissions of a guarded function that is named by its ARN, where the API calls it, and what each opens.
#[test]
fn what_a_permission_opens_is_found_and_nothing_else() {
    const BALANCED: &[&str] = &["function-behind-load-balancer"];
    const ANY_API: &[&str] = &["permission-for-any-api"];
    const EVERYBODY: &[&str] = &["permission-for-everybody"];
    const PERHAPS: &[&str] = &["perhaps-around-gateway"];
    let rows: &[(&str, &[&str])] = &[
        ("Principal: \"*\"", EVERYBODY),
        ("Principal: apigateway.amazonaws.com", ANY_API),
        ("Principal: elasticloadbalancing.amazonaws.com", BALANCED),
        // CloudFront in front of a Function URL, whose AWS_IAM it signs for.
        ("Principal: cloudfront.amazonaws.com, FunctionUrlAuthType: AWS_IAM", BALANCED),
        (
            "Principal: cloudfront.amazonaws.com, SourceArn: \"arn:aws:cloudfront::123456789012:distribution/E1\"",
            BALANCED,
        ),
        ("Principal: !Sub \"cloudfront.${AWS::URLSuffix}\"", BALANCED),
        ("Principal: !Join [\".\", [elasticloadbalancing, !Ref \"AWS::URLSuffix\"]], SourceArn: !Ref Group", BALANCED),
        ("Principal: !If [C, elasticloadbalancing.amazonaws.com, events.amazonaws.com]", PERHAPS),
        (
            "Principal: !If [C, apigateway.amazonaws.com, apigateway.amazonaws.com.cn], SourceArn: !Sub \"arn:aws:execute-api:eu:1:${Api}/*\"",
            &[],
        ),
        ("Principal: \"*\", SourceArn: !Ref Group", BALANCED),
        (
            "Principal: \"*\", SourceArn: \"arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/x/1\"",
            BALANCED,
        ),
        ("Principal: \"*\", SourceArn: \"arn:aws:s3:::a-bucket\"", &[]),
        ("Principal: !Ref Who, SourceArn: !Ref Group", PERHAPS),
        ("Principal: !Ref Who, SourceArn: !Sub \"arn:aws:execute-api:eu:1:${Api}/*\"", &[]),
        ("Principal: !GetAtt Role.Arn", &[]),
        ("Principal: !Sub \"arn:aws:iam::${AWS::AccountId}:root\"", &[]),
        ("Principal: !Join [\"\", [\"arn:aws:iam::\", !Ref \"AWS::AccountId\", \":root\"]]", &[]),
        ("Principal: sns.amazonaws.com", &[]),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !If [C, !Ref \"AWS::NoValue\", \"arn:aws:execute-api:eu:1:abc/*\"]",
            PERHAPS,
        ),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !If [C, !Ref \"AWS::NoValue\", \"arn:aws:execute-api:eu:1:*\"]",
            ANY_API,
        ),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !If [C, \"arn:aws:execute-api:eu:1:a/*\", \"arn:aws:execute-api:eu:1:b/*\"]",
            &[],
        ),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !Sub [\"arn:aws:execute-api:eu:1:${X}/*\", {X: \"*\"}]",
            ANY_API,
        ),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !Sub [\"arn:aws:execute-api:eu:1:${X}/*\", {X: !Ref Api}]",
            &[],
        ),
        (
            "Principal: apigateway.amazonaws.com, SourceArn: !Join [\"\", [\"arn:aws:execute-api:eu:1:\", !Ref Api, \"/*\"]]",
            &[],
        ),
    ];
    let group = "  Group: {Type: AWS::ElasticLoadBalancingV2::TargetGroup, Properties: {Name: a}}\n";
    let mut wrong = Vec::new();
    for (members, expected) in rows {
        let permission =
            format!("  Allow: {{Type: AWS::Lambda::Permission, Properties: {{FunctionName: !Ref Sold, {members}}}}}\n");
        let said = codes(&format!("{GUARDED}{}{group}{permission}", named(&format!("\"{LIVE}\""))));
        if said != *expected {
            wrong.push(format!("{members}: expected {expected:?}, found {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
