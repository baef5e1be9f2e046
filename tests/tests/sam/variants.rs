//! Each condition of the template both ways: what refers to what, what is granted, and what its parameters take.

use std::process::Command;

use e2e::{root, tier, tool};

use crate::{Mistake, Outcome, each_is_found, said, script, text};

const MISTAKES: &[Mistake] = &[
    (
        "CAUSEWAY_RATE_LIMITS_TABLE: !If [RatesAreLimited, !Ref RateLimitsTable, !Ref AWS::NoValue]",
        "CAUSEWAY_RATE_LIMITS_TABLE: !Ref RateLimitsTable",
        "by default: Authorizer refers to RateLimitsTable, which is not there",
    ),
    (
        "  MtlsDomainTarget:\n    Condition: MtlsDoorIsOpen\n",
        "  MtlsDomainTarget:\n",
        "output MtlsDomainTarget refers to MtlsDomain, which is not there",
    ),
    (
        "    Condition: SigningKeysAreRotated\n    Properties:\n",
        "    Condition: UsagePlansAreOn\n    Properties:\n",
        "SigningKeyRotation refers to RotationPermission, which is not there",
    ),
    (
        "  UsagePlansAreOn: !Equals [!Ref UsagePlans, \"on\"]",
        "  Other: !Equals [!Ref Issuer, \"x\"]\n  UsagePlansAreOn: !Equals [!Ref UsagePlans, \"on\"]",
        "the condition Other is {False} in every variant",
    ),
    ("Action: dynamodb:GetItem", "Action: \"*\"", "AuthorizerRole may do *"),
    ("Resource: !Ref PepperSecret", "Resource: \"*\"", "AuthorizerRole may use *"),
    (
        "Resource: !Ref PepperSecret",
        "Resource: !Sub arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:*",
        "AuthorizerRole may use arn:aws:secretsmanager:eu-central-1:123456789012:secret:*",
    ),
    ("Role: !GetAtt UsagePlansRole.Arn", "Role: !GetAtt KeyIssuerRole.Arn", "the functions' roles are"),
    ("              - Sid: ReadPepper\n                Effect", "              - Effect", "a statement without a name"),
    ("      InvokedViaFunctionUrl: true\n", "", "IamDoorInvokePermission lets everybody in"),
    ("      PrincipalOrgID: !Ref OrganizationId\n", "", "IamDoorPermission lets everybody in"),
    (
        "      SourceArn: !Select [0, !Split [\",\", !Sub \"${OtherAuthorizers},,,\"]]\n",
        "",
        "OtherAuthorizer1Permission lets any API in: ''",
    ),
    ("${Api}/authorizers/${ApiAuthorizer.AuthorizerId}", "${Api}/*", "ApiAuthorizerPermission lets more than one"),
    ("${MtlsApi}/*/*/oauth2/*", "*/*/oauth2/*", "MtlsPermission lets any API in"),
    ("      SourceArn: !GetAtt UsagePlansSchedule.Arn\n", "", "UsagePlansPermission lets events.amazonaws.com in"),
    ("      SourceAccount: !Ref AWS::AccountId\n", "", "lets secretsmanager.amazonaws.com in for any account"),
    ("AuthType: AWS_IAM", "AuthType: NONE", "KeyIssuerUrl asks nobody who calls"),
    ("DisableExecuteApiEndpoint: true", "DisableExecuteApiEndpoint: false", "MtlsMapping leads to MtlsApi"),
    ("      RetentionInDays: !Ref LogRetentionDays\n", "      LogGroupName: a\n", "is kept for ever"),
    ("SecretId: !Ref SigningSecret", "SecretId: !Ref PepperSecret", "PepperSecret is rotated"),
    ("    AllowedPattern: ^o-[a-z0-9]{10,32}$\n", "", "the parameter OrganizationId takes anything"),
    ("    AllowedPattern: ^o-[a-z0-9]{10,32}$\n", "    AllowedPattern: ^o-.*$\n", "OrganizationId takes 'o-*'"),
    (":[a-z0-9]+/authorizers/", ":[a-z0-9*]+/authorizers/", "the parameter OtherAuthorizers takes 'arn:aws"),
    ("    MinValue: 300\n    MaxValue: 86400\n", "", "the parameter VerifierCacheSeconds takes anything"),
    ("    Default: dev\n", "    Default: Dev\n", "the parameter EnvironmentName does not take its own default"),
    ("    MaxLength: 80\n", "", "the parameter ShadowWorkloads takes 'aaaa"),
    ("    MaxLength: 80\n", "    MaxLength: 90\n", "the longest value of ShadowWorkloads is not"),
    ("${ShadowUntil}\"", "${ShadowUntil} ${ShadowUntil}\"", "may have a description of 272 characters"),
    (
        "Rates: !If [RatesAreLimited, !Sub \"${RateLimit} ${RateLimitOutage}\", \"\"]",
        "Rates: !Sub \"${RateLimit} ${RateLimitOutage}\"",
        "the function is the same with",
    ),
    ("${RateLimit} ${RateLimitOutage}", "${RateLimit}", "the function is another one with"),
    ("([01][0-9]|2[0-3]):[0-5]", "[0-9]{2}:[0-5]", "the parameter ShadowUntil takes '2026-12-31T24:00:00Z'"),
    (
        "  ShadowModeEnds:\n    RuleCondition: !Not [!Equals [!Ref ShadowWorkloads, \"\"]]\n",
        "  ShadowModeEnds:\n    RuleCondition: !Not [!Equals [!Ref ShadowUntil, \"\"]]\n",
        "no rule refuses {'ShadowWorkloads': 'shop'}",
    ),
    (
        "      - Assert: !Not [!Equals [!Ref ShadowWorkloads, \"\"]]\n",
        "      - Assert: !Not [!Equals [!Ref ShadowUntil, \"\"]]\n",
        "no rule refuses {'ShadowUntil': '2026-12-31T00:00:00Z'}",
    ),
    (
        "      - Assert: !Not [!Equals [!Ref ShadowUntil, \"\"]]\n",
        "      - Assert: !Equals [!Ref ShadowUntil, \"\"]\n",
        "with ShadowModeIsOn alone: a rule refuses this",
    ),
    ("    Value: !Ref Authorizer.Alias\n", "    Value: x\n", "no output says <AuthorizerAliaslive>"),
    ("    Description: Where clients call the services\n", "", "the output ApiEndpoint has no description"),
];

#[test]
fn every_choice_of_parameters_makes_a_stack_that_grants_no_more() -> Outcome {
    if !tier::available(&[&tool("python3")]) {
        return Ok(());
    }
    let output = script("variants.py", &[], &[root().join("template.yaml")])?;
    assert!(output.status.success(), "{}", said(&output));
    Ok(())
}

#[test]
fn each_mistake_of_a_choice_is_found() -> Outcome {
    if !tier::available(&[&tool("python3")]) {
        return Ok(());
    }
    each_is_found("variants.py", &[], MISTAKES)
}

/// cfn-lint on what AWS' own transform makes, beside `sam validate --lint`, which reads the source.
#[test]
fn cfn_lint_takes_the_transformed_template() -> Outcome {
    let cfn_lint = root().join(".tools/venv/bin/cfn-lint");
    if !tier::available(&[&tool("python3"), &cfn_lint]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(text)?;
    let path = folder.path().join("transformed.json");
    let print = script("cloudformation.py", &[], &[root().join("template.yaml")])?;
    assert!(print.status.success(), "{}", said(&print));
    std::fs::write(&path, &print.stdout).map_err(text)?;
    let lint = || {
        // The transform drops the template's own exceptions (W3011), and writes an Fn::Sub without a variable (W1020).
        let mut command = Command::new(&cfn_lint);
        command.args(["--regions", "eu-central-1", "--ignore-checks", "W3011", "W1020", "--"]).arg(&path);
        command.env("HOME", folder.path()).output().map_err(text)
    };
    let output = lint()?;
    assert!(output.status.success(), "{}", said(&output));

    let broken = String::from_utf8_lossy(&print.stdout).replacen("\"PAY_PER_REQUEST\"", "\"FREE\"", 1);
    std::fs::write(&path, broken).map_err(text)?;
    let output = lint()?;
    assert!(!output.status.success() && said(&output).contains("ProvisionedThroughput"), "{}", said(&output));
    Ok(())
}
