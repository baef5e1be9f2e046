//! The SAM template: it is valid, and what CloudFormation makes of it is what it has to be.
//!
//! Building it is `make sam`, which takes minutes; see docs/deploy.md.

use std::fs::read_to_string;
use std::path::Path;
use std::process::{Command, Output};

use e2e::{root, tier, tool};

/// What goes wrong with the template (text, its replacement), and how `check.py` names it.
const MISTAKES: [(&str, &str, &str); 103] = [
    ("AuthType: AWS_IAM", "AuthType: NONE", "KeyIssuerUrl is not KeyIssuer's with AWS_IAM"),
    ("      PrincipalOrgID: !Ref OrganizationId\n", "", "IamDoorPermission lets somebody else invoke KeyIssuer"),
    ("      InvokedViaFunctionUrl: true\n", "", "IamDoorInvokePermission lets somebody else invoke KeyIssuer"),
    ("Path: /oauth2/token", "Path: /v1/other", "IssuerApi has the routes"),
    ("Action: dynamodb:GetItem", "Action: dynamodb:*", "AuthorizerRole may do dynamodb:*"),
    ("Resource: !Ref PepperSecret", "Resource: \"*\"", "AuthorizerRole may use *"),
    ("      Role: !GetAtt KeyIssuerRole.Arn\n", "", "DuplicateLogicalId"),
    (
        "      Policies:\n        - PolicyName: authorizer\n",
        "      ManagedPolicyArns: [arn:aws:iam::aws:policy/AdministratorAccess]\n      Policies:\n        - PolicyName: authorizer\n",
        "AuthorizerRole has the managed policy",
    ),
    ("TtlInSeconds: 0", "TtlInSeconds: 300", "ApiAuthorizer has AuthorizerResultTtlInSeconds 300"),
    ("EnableSimpleResponses: true", "EnableSimpleResponses: false", "ApiAuthorizer has EnableSimpleResponses False"),
    (
        "      AuthorizerType: REQUEST",
        "      AuthorizerType: REQUEST\n      IdentitySource: [$request.header.Authorization]",
        "ApiAuthorizer has IdentitySource",
    ),
    ("/authorizers/${ApiAuthorizer.AuthorizerId}", "/*", "ApiAuthorizerPermission lets other APIs invoke Authorizer"),
    (
        "      RetentionInDays: !Ref LogRetentionDays\n",
        "      LogGroupName: audit\n",
        "Authorizer has no log group with a retention",
    ),
    (
        "PointInTimeRecoveryEnabled: true",
        "PointInTimeRecoveryEnabled: false",
        "ApiKeysTable has no point-in-time recovery",
    ),
    ("SSEEnabled: true", "SSEEnabled: false", "ApiKeysTable is not encrypted"),
    ("    DeletionPolicy: Retain\n", "", "ApiKeysTable has no DeletionPolicy Retain"),
    (
        "  # --- state and secrets",
        "  Other:\n    Type: AWS::Lambda::Permission\n    Properties: { FunctionName: !GetAtt KeyIssuer.Arn, Action: lambda:*, Principal: \"123456789012\" }\n  # --- state and secrets",
        "Other lets somebody else invoke KeyIssuer",
    ),
    (
        "Alias: !Ref Authorizer.Alias",
        "Alias: !GetAtt Authorizer.Arn",
        "ApiAuthorizer does not ask the alias of Authorizer",
    ),
    ("FunctionName: !Ref Authorizer.Alias", "FunctionName: !Ref Authorizer", "lets other APIs invoke Authorizer"),
    (
        "SourceArn: !Select [1, !Split",
        "SourceArn: !Select [0, !Split",
        "OtherAuthorizer2Permission is not for authorizer 2",
    ),
    (
        "    Condition: OtherAuthorizer3IsThere\n",
        "    Condition: OtherAuthorizer2IsThere\n",
        "OtherAuthorizer3Permission is there without an authorizer",
    ),
    (
        "  OtherAuthorizer4IsThere: !Not [!Equals [!Select [3,",
        "  OtherAuthorizer4IsThere: !Not [!Equals [!Select [2,",
        "OtherAuthorizer4Permission is there without an authorizer",
    ),
    (
        "!Split [\":\", !Ref ConfigurationLayer]",
        "!Split [\":\", \"::::::1:1\"]",
        "is not published anew with the configuration layer",
    ),
    (" ${RevocationsMaxAge}\"", "\"", "is not published anew with the parameter RevocationsMaxAge"),
    ("${RateLimit} ${RateLimitOutage}", "${RateLimit}", "is not published anew with the parameter RateLimitOutage"),
    (
        "${ShadowWorkloads} ${ShadowUntil}\"",
        "${ShadowWorkloads}\"",
        "is not published anew with the parameter ShadowUntil",
    ),
    ("    UpdateReplacePolicy: Retain\n    Metadata:\n", "    Metadata:\n", "nothing can be rolled back to it"),
    (
        "!If [ConcurrencyIsReserved, !Ref ReservedConcurrency, !Ref AWS::NoValue]",
        "!Ref ReservedConcurrency",
        "Authorizer's reserved concurrency has no condition",
    ),
    (
        "        - IssuerConcurrencyIsReserved\n",
        "        - ConcurrencyIsReserved\n",
        "KeyIssuer's reserved concurrency has no condition",
    ),
    (
        "!Equals [!Ref IssuerReservedConcurrency, 0]",
        "!Equals [!Ref IssuerReservedConcurrency, 1]",
        "the condition IssuerConcurrencyIsReserved",
    ),
    (
        "        - ConcurrencyIsProvisioned\n",
        "        - ConcurrencyIsReserved\n",
        "provisioned concurrency has no condition",
    ),
    (
        "!Equals [!Ref ReservedConcurrency, 0]",
        "!Equals [!Ref ReservedConcurrency, 1]",
        "the condition ConcurrencyIsReserved",
    ),
    ("        ThrottlingRateLimit: !Ref ThrottlingRate\n", "", "ApiStage has no throttles"),
    (
        "MetricName: Errors\n      Dimensions:\n        - { Name: FunctionName, Value: !Ref KeyIssuer",
        "MetricName: Errors\n      Dimensions:\n        - { Name: FunctionName, Value: !Ref Authorizer",
        "KeyIssuerErrorsAlarm watches ('AWS/Lambda', 'Errors')",
    ),
    ("MetricName: JwksStale", "MetricName: JwksOld", "JwksStaleAlarm watches ('Causeway', 'JwksOld')"),
    ("DestinationArn: !GetAtt ApiAccessLogGroup.Arn", "DestinationArn: x", "ApiStage has no access log"),
    ("\"authorizerError\":\"$context.authorizer.error\"", "\"authorizerError\":\"\"", "ApiStage logs ["),
    ("\"status\":\"$context.status\",", "\"status\":$context.status,", "ApiStage logs no JSON"),
    ("Value: jwks_unavailable", "Value: jwks_gone", "no alarm for the reason jwks_unavailable"),
    ("Threshold: 4500", "Threshold: 5000", "TimeoutAlarm does not see a timeout"),
    (
        "      AlarmActions: !If [AlarmsAreSent, [!Ref AlarmTopic], !Ref AWS::NoValue]\n",
        "",
        "InternalAlarm tells nobody",
    ),
    (
        "MetricName: Invocations",
        "MetricName: Errors",
        "UndecidedAlarm does not count the invocations without a decision",
    ),
    (
        "CAUSEWAY_REVOCATIONS_MAX_AGE: !If [RevocationsAreFetched, !Ref RevocationsMaxAge, !Ref AWS::NoValue]",
        "CAUSEWAY_REVOCATIONS_MAX_AGE: !Ref RevocationsMaxAge",
        "CAUSEWAY_REVOCATIONS_MAX_AGE does not go with the URL",
    ),
    ("          CAUSEWAY_ENVIRONMENT: !Ref EnvironmentName\n", "", "Authorizer serves every environment"),
    ("    Condition: RatesAreLimited\n", "", "RateLimitsTable is there without rate limits"),
    ("!Equals [!Ref RateLimit, \"\"]", "!Equals [!Ref RateLimit, x]", "the condition RatesAreLimited"),
    ("AttributeName: expires, Enabled: true", "AttributeName: ttl, Enabled: true", "RateLimitsTable keeps records"),
    (
        "!If [RatesAreLimited, !Ref RateLimitOutage, !Ref AWS::NoValue]",
        "!Ref RateLimitOutage",
        "Authorizer's CAUSEWAY_RATE_LIMIT_OUTAGE has no condition",
    ),
    (
        "!If [ShadowModeIsOn, !Ref ShadowUntil, !Ref AWS::NoValue]",
        "!Ref ShadowUntil",
        "Authorizer's CAUSEWAY_SHADOW_UNTIL is {'Ref'",
    ),
    (
        "          CAUSEWAY_SHADOW_WORKLOADS: !If [ShadowModeIsOn, !Ref ShadowWorkloads, !Ref AWS::NoValue]\n",
        "          CAUSEWAY_SHADOW_WORKLOADS: \"*\"\n",
        "Authorizer's CAUSEWAY_SHADOW_WORKLOADS is *",
    ),
    (
        "          CAUSEWAY_USAGE_PLANS: only\n",
        "          CAUSEWAY_USAGE_PLANS: only\n          CAUSEWAY_SHADOW_UNTIL: !Ref ShadowUntil\n",
        "UsagePlansFunction's CAUSEWAY_SHADOW_UNTIL is",
    ),
    ("!Equals [!Ref ShadowWorkloads, \"\"]", "!Equals [!Ref ShadowWorkloads, \"*\"]", "the condition ShadowModeIsOn"),
    (
        "AuthorizerResultTtlInSeconds: 0",
        "AuthorizerResultTtlInSeconds: !If [ShadowModeIsOn, 60, 0]",
        "ApiAuthorizer caches what shadow mode answers",
    ),
    ("MetricName: Shadowed", "MetricName: Shadow", "ShadowedAlarm watches ('Causeway', 'Shadow')"),
    ("MetricName: Shadowed", "MetricName: JwksStale", "no alarm for ('Causeway', 'Shadowed')"),
    ("Action: dynamodb:UpdateItem", "Action: dynamodb:*", "AuthorizerRole may do dynamodb:*"),
    (
        "Action: dynamodb:UpdateItem",
        "Action: [dynamodb:UpdateItem, dynamodb:PutItem]",
        "AuthorizerRole may not take tokens",
    ),
    ("          CAUSEWAY_STATE_TABLE: !Ref StateTable\n", "", "KeyIssuer's CAUSEWAY_STATE_TABLE is None"),
    ("!If [MtlsDoorIsOpen, !Ref MtlsApi, !Ref AWS::NoValue]", "!Ref MtlsApi", "KeyIssuer's CAUSEWAY_MTLS_DOOR_IDS is"),
    (
        "!If [MtlsDoorIsOpen, !Ref MtlsClientAuth, !Ref AWS::NoValue]",
        "!Ref MtlsClientAuth",
        "KeyIssuer's CAUSEWAY_MTLS_CLIENT_AUTH is",
    ),
    ("!If [IamDoorIsOpen, !Ref CaSecret, !Ref AWS::NoValue]", "!Ref CaSecret", "KeyIssuer's CAUSEWAY_CA_SECRET is"),
    (
        "    - !Condition IamDoorIsOpen\n    - !Not [!Equals [!Ref WorkloadRegistry, \"[]\"]]\n",
        "    - !Condition IamDoorIsOpen\n",
        "the condition StsEndpointsAreGiven",
    ),
    (
        "          CAUSEWAY_TOKEN_TTL_SECONDS: !Ref TokenTtlSeconds\n",
        "",
        "KeyIssuer's CAUSEWAY_TOKEN_TTL_SECONDS is None",
    ),
    (
        "CAUSEWAY_SVID_ED25519: !Ref SvidEd25519",
        "CAUSEWAY_SVID_ED25519: \"true\"",
        "KeyIssuer's CAUSEWAY_SVID_ED25519 is",
    ),
    ("Value: !Ref ApiKeysTable", "Value: !Ref ClientsTable", "no output names ApiKeysTable"),
    (
        "  RateLimitsTableName:\n    Condition: RatesAreLimited\n",
        "  RateLimitsTableName:\n",
        "no output names RateLimitsTable",
    ),
    (
        "      # The policies that say who may administrate.\n      Layers: [!Ref ConfigurationLayer]\n",
        "",
        "KeyIssuer has no policies",
    ),
    (
        "dynamodb:DeleteItem, dynamodb:Scan]",
        "dynamodb:DeleteItem, dynamodb:Scan, dynamodb:PutItem]",
        "KeyIssuerRole has the grant (['dynamodb:GetItem'",
    ),
    ("Resource: !GetAtt StateTable.Arn", "Resource: !GetAtt ClientsTable.Arn", "KeyIssuerRole lacks the grant"),
    (
        "- Sid: RevokeAndList\n                Effect: Allow",
        "- Sid: RevokeAndList\n                Effect: Deny",
        "KeyIssuerRole has a statement of the effect Deny",
    ),
    (
        "                Resource: !Ref SigningSecret\n",
        "                Resource: [!Ref SigningSecret, !Ref CaSecret]\n",
        "KeyIssuerRole has the grant (['secretsmanager:DescribeSecret'",
    ),
    (
        "- UsagePlansAreOn\n                - Sid: FindUsagePlanKeys",
        "- IamDoorIsOpen\n                - Sid: FindUsagePlanKeys",
        "KeyIssuerRole has the grant (['apigateway:GET']",
    ),
    ("::/apikeys/*", "::/*", "KeyIssuerRole may use"),
    ("!Equals [!Ref UsagePlans, \"on\"]", "!Equals [!Ref UsagePlans, \"off\"]", "the condition UsagePlansAreOn"),
    (
        "    Type: AWS::Events::Rule\n    Condition: UsagePlansAreOn\n",
        "    Type: AWS::Events::Rule\n",
        "UsagePlansSchedule is there without usage plans",
    ),
    ("Arn: !GetAtt UsagePlansFunction.Arn", "Arn: !GetAtt KeyIssuer.Arn", "UsagePlansSchedule calls ['KeyIssuer']"),
    (
        "      SourceArn: !GetAtt UsagePlansSchedule.Arn\n",
        "",
        "UsagePlansPermission lets somebody else invoke UsagePlansFunction",
    ),
    (
        "FunctionName: !Ref UsagePlansFunction",
        "FunctionName: !Ref KeyIssuer",
        "UsagePlansPermission lets somebody else invoke KeyIssuer",
    ),
    ("CAUSEWAY_USAGE_PLANS: only", "CAUSEWAY_USAGE_PLANS: \"on\"", "UsagePlansFunction's CAUSEWAY_USAGE_PLANS is on"),
    (
        "Role: !GetAtt UsagePlansRole.Arn",
        "Role: !GetAtt KeyIssuerRole.Arn",
        "UsagePlansFunction has the role {'Fn::GetAtt': ['KeyIssuerRole'",
    ),
    (
        "Action: [dynamodb:UpdateItem, dynamodb:Scan]",
        "Action: [dynamodb:UpdateItem, dynamodb:Scan, dynamodb:DeleteItem]",
        "UsagePlansRole has the grant (['dynamodb:UpdateItem'",
    ),
    (
        "{ Name: FunctionName, Value: !Ref UsagePlansFunction }",
        "{ Name: FunctionName, Value: !Ref Authorizer }",
        "no alarm for ('Errors', 'UsagePlansFunction')",
    ),
    ("      SourceAccount: !Ref AWS::AccountId\n", "", "RotationPermission lets somebody else invoke KeyIssuer"),
    ("SecretId: !Ref SigningSecret", "SecretId: !Ref CaSecret", "SigningKeyRotation rotates another secret"),
    (
        "AutomaticallyAfterDays: !Ref SigningKeyRotationDays",
        "AutomaticallyAfterDays: 1000",
        "SigningKeyRotation rotates by the rules",
    ),
    (
        "RotateImmediatelyOnUpdate: false",
        "RotateImmediatelyOnUpdate: true",
        "SigningKeyRotation rotates with each change",
    ),
    (
        "    Condition: SigningKeysAreRotated\n    DependsOn",
        "    DependsOn",
        "SigningKeyRotation is there without a rotation",
    ),
    (
        "!Equals [!Ref SigningKeyRotationDays, 0]",
        "!Equals [!Ref SigningKeyRotationDays, 1]",
        "the condition SigningKeysAreRotated",
    ),
    ("DisableExecuteApiEndpoint: true", "DisableExecuteApiEndpoint: false", "MtlsApi has a name where nobody asks"),
    ("        TruststoreUri: !Ref MtlsTruststoreUri\n", "", "MtlsDomain asks nobody for a certificate"),
    ("SecurityPolicy: TLS_1_2", "SecurityPolicy: TLS_1_0", "MtlsDomain has ['TLS_1_0']"),
    ("RouteKey: ANY /oauth2/introspect", "RouteKey: $default", "MtlsApi has the routes"),
    ("${MtlsApi}/*/*/oauth2/*", "${MtlsApi}/*", "MtlsPermission lets other APIs invoke KeyIssuer"),
    ("      ApiId: !Ref MtlsApi\n      DomainName:", "      ApiId: !Ref Api\n      DomainName:", "the domains lead to"),
    (
        "IntegrationUri: !GetAtt KeyIssuer.Arn",
        "IntegrationUri: !GetAtt Authorizer.Arn",
        "MtlsIntegration is not KeyIssuer's",
    ),
    (
        "    Type: AWS::ApiGatewayV2::Api\n    Condition: MtlsDoorIsOpen\n",
        "    Type: AWS::ApiGatewayV2::Api\n",
        "MtlsApi is there without a domain",
    ),
    ("Path: /v1/leaks", "Path: \"/{proxy+}\"", "IssuerApi has the routes"),
    (
        "      SSESpecification: { SSEEnabled: true }\n      TimeToLiveSpecification: { AttributeName: expires_at",
        "      SSESpecification: { SSEEnabled: true }\n      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true }\n      TimeToLiveSpecification: { AttributeName: expires_at",
        "StateTable could be set back",
    ),
    (
        "AttributeName: expires_at, Enabled: true",
        "AttributeName: expires, Enabled: true",
        "StateTable deletes records by another attribute",
    ),
    ("$.event = \"secret_refresh_failed\"", "$.event = \"secret\"", "no alarm for the issuer's lines"),
    ("$.alarm = \"leak_not_revoked\"", "$.alarm = \"leak\"", "no alarm for the issuer's lines"),
    ("\"widgets\": [", "\"widgets\": [[", "Dashboard is no dashboard"),
    ("\"Throttles\", \"Func", "\"Throttle\", \"Func", "Dashboard does not show ('AWS/Lambda', 'Throttles')"),
];

fn check(templates: &[&Path]) -> Result<Output, String> {
    Command::new(tool("python3"))
        .arg(root().join("tests/fixtures/template/check.py"))
        .args(templates)
        .output()
        .map_err(|error| error.to_string())
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn sam_validates_the_template() -> Result<(), String> {
    if !tier::available(&[&tool("sam")]) {
        return Ok(());
    }
    // SAM and cfn-lint write into the home folder.
    let home = tempfile::tempdir().map_err(|error| error.to_string())?;
    let output = Command::new(tool("sam"))
        .args(["validate", "--lint"])
        .current_dir(root())
        .env("HOME", home.path())
        .env("SAM_CLI_TELEMETRY", "0")
        .env("AWS_DEFAULT_REGION", "eu-central-1")
        .output()
        .map_err(|error| error.to_string())?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

#[test]
fn the_stack_grants_what_it_must_and_nothing_more() -> Result<(), String> {
    if !tier::available(&[&tool("python3")]) {
        return Ok(());
    }
    let output = check(&[&root().join("template.yaml")])?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

/// Whoever is woken up finds the runbook's queries in the console.
#[test]
fn the_queries_of_the_runbook_are_in_the_template() -> Result<(), String> {
    let read = |file: &str| read_to_string(root().join(file)).map_err(|error| format!("{file}: {error}"));
    let (runbook, template) = (read("docs/runbook.md")?, read("template.yaml")?);
    // Blocks without a language are queries.
    let queries: Vec<&str> = runbook.split("\n```").skip(1).step_by(2).filter_map(|b| b.strip_prefix('\n')).collect();
    let saved = template.matches("Type: AWS::Logs::QueryDefinition").count();
    assert_eq!(queries.len(), saved);
    for query in queries {
        let indented: Vec<String> = query.lines().map(|line| format!("        {line}\n")).collect();
        assert!(template.contains(&format!("QueryString: |\n{}", indented.concat())), "not in the template:\n{query}");
    }
    Ok(())
}

#[test]
fn each_mistake_is_found() -> Result<(), String> {
    if !tier::available(&[&tool("python3")]) {
        return Ok(());
    }
    let template = read_to_string(root().join("template.yaml")).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut wrong = Vec::new();
    for (number, (text, replacement, _)) in MISTAKES.iter().enumerate() {
        assert!(template.contains(text), "the template has no {text:?} to replace");
        let path = folder.path().join(format!("{number}.yaml"));
        std::fs::write(&path, template.replacen(text, replacement, 1)).map_err(|error| error.to_string())?;
        wrong.push(path);
    }
    let output = check(&wrong.iter().map(|path| path.as_path()).collect::<Vec<_>>())?;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (path, (text, _, finding)) in wrong.iter().zip(MISTAKES) {
        let start = format!("{}: ", path.display());
        assert!(
            said.lines().any(|line| line.starts_with(&start) && line.contains(finding)),
            "replacing {text:?} should be found as {finding:?}; found was:\n{said}"
        );
    }
    Ok(())
}
