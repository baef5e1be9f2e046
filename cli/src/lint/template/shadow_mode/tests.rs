#![allow(clippy::unwrap_used, clippy::panic)]

use crate::lint::tests::found;

/// An HTTP API with an authorizer whose function has this environment, with these parameters and conditions beside it.
fn template(beside: &str, environment: &str, ttl: &str) -> String {
    format!(
        "Resources:
  Guard:
    Type: AWS::Serverless::Function
    Properties:
      Environment: {environment}
  Api:
    Type: AWS::ApiGatewayV2::Api
    Properties: {{ProtocolType: HTTP}}
  Authorizer:
    Type: AWS::ApiGatewayV2::Authorizer
    Properties:
      ApiId: !Ref Api
      AuthorizerType: REQUEST
      AuthorizerUri: !GetAtt Guard.Arn
      AuthorizerPayloadFormatVersion: \"2.0\"
      EnableSimpleResponses: true
      IdentitySource: [$request.header.Authorization]
      AuthorizerResultTtlInSeconds: {ttl}
{beside}"
    )
}

const SWITCH: &str = "Parameters: {Shadow: {Type: String, Default: \"\"}, Other: {Type: String}}
Conditions:
  IsOff: !Equals [!Ref Shadow, \"\"]
  IsOn: !Not [!Condition IsOff]
  Both: !And [!Condition IsOn, !Equals [!Ref Other, x]]
  Either: !Or [{Condition: IsOff}, !Equals [!Ref Other, x]]
  Known: !Equals [!Ref Other, x]
  Round: !Condition Round
";

/// What stands beside the resources, an environment, and whether it is found: with a TTL of 0, and the word for it with one of 60.
const ROWS: &[(&str, &str, bool, &str)] = &[
    ("", "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}", true, "is"),
    ("", "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: \" \", CAUSEWAY_ENVIRONMENT: dev}}", false, ""),
    ("", "{Variables: {CAUSEWAY_ENVIRONMENT: dev}}", false, ""),
    (
        "",
        "!If [A, {Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}, {Variables: {CAUSEWAY_ENVIRONMENT: dev}}]",
        true,
        "may be",
    ),
    ("", "{Variables: !If [A, {CAUSEWAY_SHADOW_WORKLOADS: shop}, {CAUSEWAY_ENVIRONMENT: dev}]}", true, "may be"),
    ("", "{Variables: {\"Fn::If\": [A, !Ref AWS::NoValue, {CAUSEWAY_SHADOW_WORKLOADS: shop}]}}", true, "may be"),
    ("", "{Variables: !If [A, {CAUSEWAY_ENVIRONMENT: dev}, {CAUSEWAY_ENVIRONMENT: prod}]}", false, ""),
    ("", "{Variables: !If [A, !If [B, {}, {CAUSEWAY_SHADOW_WORKLOADS: shop}], {}]}", true, "may be"),
    ("", "{Variables: !FindInMap [A, B, C]}", true, "may be"),
    ("", "!FindInMap [A, B, C]", true, "may be"),
    ("", "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !Ref Unknown}}", true, "may be"),
    ("", "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [A, shop, !Ref AWS::NoValue]}}", true, "may be"),
    // With the defaults of the parameters it is off, and no answer may be cached all the same.
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [IsOn, !Ref Shadow, !Ref AWS::NoValue]}}", false, "may be"),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !Ref Shadow}}", false, "may be"),
    (
        SWITCH,
        "{Variables: !If [IsOn, {CAUSEWAY_SHADOW_WORKLOADS: shop}, {CAUSEWAY_ENVIRONMENT: dev}]}",
        false,
        "may be",
    ),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [Both, shop, \"\"]}}", false, "may be"),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [IsOff, shop, \"\"]}}", true, "is"),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [Either, shop, \"\"]}}", true, "is"),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [Known, shop, \"\"]}}", true, "may be"),
    (SWITCH, "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [Round, shop, \"\"]}}", true, "may be"),
    // Globals, and the function's own over them.
    (
        "Globals: {Function: {Environment: {Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}}}\n",
        "{Variables: {CAUSEWAY_ENVIRONMENT: dev}}",
        true,
        "is",
    ),
    (
        "Globals: {Function: {Environment: {Variables: !If [A, {CAUSEWAY_SHADOW_WORKLOADS: shop}, {}]}}}\n",
        "{Variables: {CAUSEWAY_ENVIRONMENT: dev}}",
        true,
        "may be",
    ),
    (
        "Globals: {Function: {Environment: {Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}}}\n",
        "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: \"\"}}",
        false,
        "",
    ),
];

#[test]
fn shadow_mode_is_seen_behind_conditions_and_functions() {
    let mut wrong = Vec::new();
    for (beside, environment, on, cached) in ROWS {
        let said = |code: &str, ttl: &str| -> Vec<String> {
            let all = found(&template(beside, environment, ttl)).into_iter();
            all.filter(|finding| finding.code == code).map(|finding| finding.message).collect()
        };
        let mut right =
            said("shadow-mode", "0").len() == usize::from(*on) && said("shadow-mode-cached", "0").is_empty();
        let found = said("shadow-mode-cached", "60");
        right &= match found.as_slice() {
            [] => cached.is_empty(),
            [message] => !cached.is_empty() && message.contains(&format!("the function Guard {cached} in shadow mode")),
            _ => false,
        };
        if !right {
            wrong.push(format!("{beside}{environment}: {:?}, {found:?}", said("shadow-mode", "0")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// An authorizer that asks an alias asks the function behind it.
#[test]
fn an_alias_has_the_variables_of_its_function() {
    let shadowed = "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}";
    for (alias, named) in [
        ("", "!Ref Guard.Alias"),
        ("", "!Ref GuardAliaslive"),
        ("", "!Sub \"arn:${GuardAliaslive}/invocations\""),
        (
            "  Now: {Type: AWS::Lambda::Alias, Properties: {FunctionName: !Ref Guard, FunctionVersion: 1, Name: now}}\n",
            "!Ref Now",
        ),
    ] {
        let text = template(alias, shadowed, "60").replace("!GetAtt Guard.Arn", named);
        let text = text.replace(
            "    Properties:\n      Environment",
            "    Properties:\n      AutoPublishAlias: live\n      Environment",
        );
        let cached = found(&text).into_iter().filter(|finding| finding.code == "shadow-mode-cached").count();
        assert_eq!(cached, 1, "{named}");
    }
}

/// A function of somebody else, whose variables are not shown, is nobody's authorizer.
#[test]
fn other_functions_may_hide_their_variables() {
    let other =
        "  Other: {Type: AWS::Lambda::Function, Properties: {Environment: {Variables: !FindInMap [A, B, C]}}}\n";
    let text = template(other, "{Variables: {CAUSEWAY_ENVIRONMENT: dev}}", "0");
    assert!(found(&text).iter().all(|finding| finding.code != "shadow-mode"));
}

/// Ten names of the next one in each of sixteen conditions: without a bound they would be followed to the end of time.
#[test]
fn conditions_that_multiply_come_to_an_end() {
    let name = |n: usize| (0..10).map(|_| format!("!Condition C{n}")).collect::<Vec<_>>().join(", ");
    let mut beside = String::from("Conditions:\n");
    for n in 0..16 {
        beside += &format!("  C{n}: !And [{}]\n", name(n + 1));
    }
    beside += "  C16: !Equals [a, a]\n";
    let environment = "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: !If [C0, shop, \"\"]}}";
    let found = found(&template(&beside, environment, "60"));
    assert!(found.iter().any(|finding| finding.code == "shadow-mode-cached"), "{found:?}");
}

/// An alias may be called like any word of an ARN.
#[test]
fn an_alias_does_not_take_the_name_of_another_function() {
    let template = template("", "{Variables: {CAUSEWAY_SHADOW_WORKLOADS: shop}}", "60");
    let orders = "Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties: {}
  live:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref Orders, FunctionVersion: \"1\", Name: live}
";
    let template = template.replace("Resources:\n", orders).replace(
        "!GetAtt Guard.Arn",
        "!Sub arn:aws:apigateway:eu-central-1:lambda:path/2015-03-31/functions/${Guard.Arn}:live/invocations",
    );
    let found = found(&template);
    assert!(found.iter().any(|finding| finding.code == "shadow-mode-cached"), "{found:?}");
}
