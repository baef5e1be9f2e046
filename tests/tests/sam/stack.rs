//! The transformed template as a stack in moto, and what its services then say.

use e2e::moto::Moto;
use e2e::{root, tier, tool};

use crate::{Mistake, Outcome, each_is_found, said, script};

const MISTAKES: &[Mistake] = &[
    ("KeyType: HASH }]", "KeyType: RANGE }]", "ApiKeysTable has the key"),
    (
        "AttributeName: expires_at, Enabled: true",
        "AttributeName: expires, Enabled: true",
        "StateTable deletes records by",
    ),
    ("PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false", "ApiKeysTable's recovery is DISABLED"),
    ("PasswordLength: 64", "PasswordLength: 8", "PepperSecret has no pepper"),
    ("AutomaticallyAfterDays: !Ref SigningKeyRotationDays", "AutomaticallyAfterDays: 7", "SigningSecret is rotated by"),
    ("CAUSEWAY_CLIENTS_TABLE: !Ref ClientsTable", "CAUSEWAY_CLIENTS_TABLE: clients", "CLIENTS_TABLE is 'clients'"),
    (
        "          CAUSEWAY_SHADOW_UNTIL: !If [ShadowModeIsOn, !Ref ShadowUntil, !Ref AWS::NoValue]\n",
        "",
        "Authorizer has ['CAUSEWAY_RATE_LIMIT",
    ),
    ("      Layers: [!Ref ConfigurationLayer]\n", "", "Authorizer has the layers []"),
    (
        "Resource: !Ref PepperSecret",
        "Resource: arn:aws:secretsmanager:eu-central-1:123456789012:secret:other",
        "AuthorizerRole may use arn:aws:secretsmanager:eu-central-1:123456789012:secret:other",
    ),
    ("EnableSimpleResponses: true", "EnableSimpleResponses: false", "ApiAuthorizer has EnableSimpleResponses False"),
    ("DisableExecuteApiEndpoint: true", "DisableExecuteApiEndpoint: false", "MtlsApi has a name where nobody"),
    ("RouteKey: ANY /oauth2/introspect", "RouteKey: ANY /oauth2/other", "MtlsApi has the routes"),
    ("Path: /v1/leaks", "Path: /v1/other", "IssuerApi has the routes"),
    ("AuthType: AWS_IAM", "AuthType: NONE", "the Function URL asks for NONE"),
    ("!GetAtt KeyIssuerUrl.FunctionUrl]]]]", "!GetAtt Api.ApiEndpoint]]]]", "the output IamDoorId is"),
    (
        "      RetentionInDays: !Ref LogRetentionDays\n",
        "      RetentionInDays: 30\n",
        "Authorizer's log is kept for 30",
    ),
    ("      AlarmActions: !If [AlarmsAreSent, [!Ref AlarmTopic], !Ref AWS::NoValue]\n", "", "22 alarms tell"),
    ("FunctionName: !Ref Authorizer.Alias", "FunctionNames: !Ref Authorizer.Alias", "ApiAuthorizerPermission"),
];

// Two threads: moto's output is read while a script runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stack_comes_out_as_it_is_meant() -> Outcome {
    if !tier::available(&[&tool("moto_server"), &tool("python3")]) {
        return Ok(());
    }
    let moto = Moto::start().await?;
    for which in ["default", "everything"] {
        let output = script("created.py", &[&moto.url(), which], &[root().join("template.yaml")])?;
        assert!(output.status.success(), "{which}: {}", said(&output));
    }
    Ok(())
}

// Two threads: moto's output is read while a script runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_mistake_of_the_stack_is_found() -> Outcome {
    if !tier::available(&[&tool("moto_server"), &tool("python3")]) {
        return Ok(());
    }
    let moto = Moto::start().await?;
    each_is_found("created.py", &[&moto.url(), "everything"], MISTAKES)
}
