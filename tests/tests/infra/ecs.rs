//! The ECS template: valid to CloudFormation, least privilege, one way in, and a sidecar that starts as it says.

use std::process::Command;

use e2e::process::Process;
use e2e::{ports, program, root, tier};
use serde_json::{Value, json};

use crate::tools::{self, documents, run};
use crate::{Outcome, bundle};

/// The one action that IAM does not know with less than all resources.
const WITHOUT_RESOURCES: &str = "ecr:GetAuthorizationToken";

/// What goes wrong with the template (text, its replacement), and how it is found.
const MISTAKES: [(&str, &str, &str); 27] = [
    ("          User: \"65532:65532\"\n", "", "causeway runs as root"),
    ("ReadonlyRootFilesystem: true", "ReadonlyRootFilesystem: false", "causeway can write its root file system"),
    ("Capabilities: { Drop: [ALL] }", "Capabilities: { Drop: [NET_RAW] }", "causeway has capabilities"),
    ("          Image: !Ref AppImage\n", "          Image: app:latest\n", "the image of app is not pinned"),
    (
        "          DependsOn:\n            - { ContainerName: app, Condition: START }\n",
        "",
        "while the application leaves",
    ),
    ("ContainerName: app, Condition: START", "ContainerName: app, Condition: COMPLETE", "while the application leaves"),
    ("[CMD, /causeway, --health]", "[CMD-SHELL, /causeway --health]", "needs a shell"),
    ("\"app=reviews,compute=ecs\"", "app=reviews", "nobody may call"),
    (
        "StopTimeout: 30\n",
        "StopTimeout: 30\n          PortMappings: [{ ContainerPort: 9080 }]\n",
        "app is reached past the",
    ),
    ("Value: 127.0.0.1:9080", "Value: 0.0.0.0:9080", "app listens for others"),
    ("http_proxy, Value: http://127.0.0.1:15001", "http_proxy, Value: http://127.0.0.1:15002", "http_proxy"),
    ("127.0.0.1,169.254.170.2\" }\n            - { Name: NO", "127.0.0.1\" }\n            - { Name: NO", "no_proxy"),
    ("          StopTimeout: 40\n", "          StopTimeout: 35\n", "cut off"),
    ("AssignPublicIp: DISABLED", "AssignPublicIp: ENABLED", "public address"),
    ("EnableExecuteCommand: false", "EnableExecuteCommand: true", "shell"),
    ("SourceSecurityGroupId: !GetAtt LinkSecurityGroup.GroupId", "CidrIp: 10.0.0.0/8", "ways in"),
    ("ToPort: 15443, CidrIp: !Ref MeshCidr", "ToPort: 15443, CidrIp: 0.0.0.0/0", "everybody"),
    ("Action: lambda:InvokeFunctionUrl", "Action: lambda:*", "the action lambda:*"),
    ("Resource: !Ref KeyIssuerArn", "Resource: \"*\"", "lambda:InvokeFunctionUrl on everything"),
    ("Condition: { Bool: { \"lambda:InvokedViaFunctionUrl\": \"true\" } }", "Condition: {}", "TaskRole has other"),
    (
        "Sid: IamDoorOnly\n",
        "Sid: Other\n                Effect: Allow\n                Action: sts:AssumeRole\n                \
         Resource: !Ref ClusterArn\n              - Sid: IamDoorOnly\n",
        "TaskRole has other",
    ),
    ("StringEquals: { \"aws:SourceAccount\": !Ref AWS::AccountId }", "Bool: {}", "may be assumed for another account"),
    ("ContainerPort: 15006 }\n\n  # --- who", "ContainerPort: 9080 }\n\n  # --- who", "finds another port"),
    ("AuthorizationType: CUSTOM", "AuthorizationType: NONE", "the route is open"),
    (
        "TaskRoleArn: !GetAtt TaskRole.Arn\n      Cont",
        "TaskRoleArn: !GetAtt ExecutionRole.Arn\n      Cont",
        "wrong role",
    ),
    ("          HealthCheck:\n", "          Other:\n", "no health check"),
    (
        "            - { Name: CAUSEWAY_REVOCATIONS_URL, Value: !Ref RevocationsUrl }\n",
        "",
        "what is revoked passes by another API",
    ),
];

fn template() -> Result<String, String> {
    std::fs::read_to_string(root().join("infra/ecs/service.yaml")).map_err(|error| error.to_string())
}

/// Everything that is not as it must be.
fn findings(template: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut unless = |good: bool, otherwise: String| {
        if !good {
            found.push(otherwise);
        }
    };
    let properties = |name: &str| &template["Resources"][name]["Properties"];
    let task = properties("TaskDefinition");
    let (sidecar, app) = (&task["ContainerDefinitions"][0], &task["ContainerDefinitions"][1]);
    for container in [sidecar, app] {
        let name = container["Name"].as_str().unwrap_or_default();
        unless(container["User"].as_str().is_some_and(|user| !user.starts_with('0')), format!("{name} runs as root"));
        let read_only = container["ReadonlyRootFilesystem"] == true;
        unless(read_only, format!("{name} can write its root file system"));
        let dropped = container["LinuxParameters"]["Capabilities"] == json!({"Drop": ["ALL"]});
        unless(dropped, format!("{name} has capabilities"));
        let parameter = &template["Parameters"][container["Image"]["Ref"].as_str().unwrap_or_default()];
        let pinned = parameter["AllowedPattern"] == ".+@sha256:[0-9a-f]{64}";
        unless(pinned, format!("the image of {name} is not pinned"));
        unless(container["LogConfiguration"]["LogDriver"] == "awslogs", format!("{name} has no log"));
    }
    // Reversed at the end: the sidecar is told first.
    let after = json!([{"ContainerName": app["Name"], "Condition": "START"}]);
    let told_first = sidecar["DependsOn"] == after && app["DependsOn"].is_null();
    unless(told_first, "calls come while the application leaves".to_owned());
    let check = &sidecar["HealthCheck"]["Command"];
    unless(check.is_array(), "no health check".to_owned());
    unless(*check == json!(["CMD", "/causeway", "--health"]), "the health check needs a shell".to_owned());
    unless(variable(sidecar, "CAUSEWAY_LABELS").ends_with(",compute=ecs"), "nobody may call".to_owned());
    let list = sidecar["Environment"].to_string();
    let list = ["CAUSEWAY_REVOCATIONS_URL", "CAUSEWAY_REVOCATIONS_ISSUER"].iter().all(|name| list.contains(name));
    unless(list, "what is revoked passes by another API".to_owned());
    // The sidecar gives requests in hand 30 seconds, and the calls that they make 5.
    unless(sidecar["StopTimeout"].as_u64() > Some(35), "requests in hand are cut off".to_owned());
    unless(app["PortMappings"].is_null(), "app is reached past the sidecar".to_owned());
    let inbound = &sidecar["PortMappings"][0]["ContainerPort"];
    let value = |name: &str| variable(app, name);
    unless(value("LISTEN").starts_with("127.0.0.1:"), "app listens for others".to_owned());
    for name in ["http_proxy", "HTTP_PROXY"] {
        unless(value(name) == "http://127.0.0.1:15001", format!("{name} leads elsewhere"));
    }
    for name in ["no_proxy", "NO_PROXY"] {
        let past = ["127.0.0.1", "169.254.170.2"].iter().all(|host| value(name).split(',').any(|one| one == *host));
        unless(past, format!("{name} sends the task's own through the proxy"));
    }
    let service = properties("Service");
    let network = &service["NetworkConfiguration"]["AwsvpcConfiguration"];
    unless(network["AssignPublicIp"] == "DISABLED", "the task has a public address".to_owned());
    unless(service["EnableExecuteCommand"] == false, "there may be a shell in the task".to_owned());
    let registry = &service["ServiceRegistries"][0];
    unless(registry["ContainerPort"] == *inbound, "the API finds another port".to_owned());
    let group = properties("TaskSecurityGroup");
    let link = json!({"Fn::GetAtt": ["LinkSecurityGroup", "GroupId"]});
    let ways = group["SecurityGroupIngress"].as_array().map(Vec::as_slice).unwrap_or_default();
    let one = matches!(ways, [way] if way["SourceSecurityGroupId"] == link && way["FromPort"] == *inbound
        && way["ToPort"] == *inbound && way["CidrIp"].is_null());
    unless(one, format!("the ways in are {ways:?}"));
    unless(!template.to_string().contains("0.0.0.0/0"), "something is open to everybody".to_owned());
    unless(properties("Route")["AuthorizationType"] == "CUSTOM", "the route is open".to_owned());
    let arn = |role: &str| json!({"Fn::GetAtt": [role, "Arn"]});
    let roles = task["TaskRoleArn"] == arn("TaskRole") && task["ExecutionRoleArn"] == arn("ExecutionRole");
    unless(roles, "the task has the wrong role".to_owned());
    for role in ["ExecutionRole", "TaskRole"] {
        let role_properties = properties(role);
        unless(role_properties["ManagedPolicyArns"].is_null(), format!("{role} has a managed policy"));
        let trust = &role_properties["AssumeRolePolicyDocument"]["Statement"][0]["Condition"];
        let ours = trust["StringEquals"]["aws:SourceAccount"] == json!({"Ref": "AWS::AccountId"});
        unless(ours, format!("{role} may be assumed for another account's tasks"));
        for statement in statements(role_properties) {
            let actions =
                [statement["Action"].as_array().cloned().unwrap_or_default(), vec![statement["Action"].clone()]];
            for action in actions.concat().iter().filter_map(Value::as_str) {
                unless(!action.contains('*'), format!("{role} has the action {action}"));
                let narrow = statement["Resource"] != "*" || action == WITHOUT_RESOURCES;
                unless(narrow, format!("{role} may use {action} on everything"));
            }
        }
    }
    let door = |sid: &str, action: &str, condition: Value| {
        let resource = json!({"Ref": "KeyIssuerArn"});
        json!({"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource, "Condition": condition})
    };
    let expected = [
        door("IamDoor", "lambda:InvokeFunctionUrl", json!({"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}})),
        door("IamDoorOnly", "lambda:InvokeFunction", json!({"Bool": {"lambda:InvokedViaFunctionUrl": "true"}})),
    ];
    unless(statements(properties("TaskRole")) == expected, "TaskRole has other grants".to_owned());
    found
}

fn statements(role: &Value) -> Vec<Value> {
    let policies = role["Policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = policies.iter().flat_map(|policy| policy["PolicyDocument"]["Statement"].as_array());
    all.flatten().cloned().collect()
}

fn variable<'a>(container: &'a Value, name: &str) -> &'a str {
    let all = container["Environment"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["Name"] == name).and_then(|one| one["Value"].as_str()).unwrap_or_default()
}

#[test]
fn cloudformation_takes_the_template() -> Outcome {
    let lint = root().join(".tools/venv/bin/cfn-lint");
    if !tier::available(&[&lint]) {
        return Ok(());
    }
    let check = |text: &str| {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("service.yaml");
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        let mut command = Command::new(&lint);
        run(command.args(["--include-checks", "I", "--regions", "eu-central-1", "--"]).arg(&path), "")
    };
    let template = template()?;
    check(&template)?;
    for (text, replacement) in [("NetworkMode: awsvpc", "NetworkMode: awsvpn"), ("Essential: true", "Essentail: true")]
    {
        assert!(template.contains(text), "no {text:?} to replace");
        assert!(check(&template.replacen(text, replacement, 1)).is_err(), "{replacement} is accepted");
    }
    Ok(())
}

#[test]
fn the_task_has_one_way_in_and_what_it_needs() -> Outcome {
    if !tools::available() {
        return Ok(());
    }
    let template = template()?;
    assert_eq!(findings(&documents(&template)?[0]), Vec::<String>::new());
    for (text, replacement, finding) in MISTAKES {
        assert!(template.contains(text), "no {text:?} to replace");
        let found = findings(&documents(&template.replacen(text, replacement, 1))?[0]);
        assert!(found.iter().any(|line| line.contains(finding)), "{replacement:?}: {found:#?}");
    }
    Ok(())
}

/// The extension starts with the template's own variables, and is healthy to the template's own check. A misspelt
/// variable would stop it.
#[tokio::test(flavor = "multi_thread")]
async fn the_sidecar_starts_as_the_template_says() -> Outcome {
    if !tools::available() || !tier::available(&[&program("extension")]) {
        return Ok(());
    }
    let template = documents(&template()?)?.remove(0);
    let sidecar = &template["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"][0];
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let port = ports::free().map_err(|error| error.to_string())?;
    let mut command = tokio::process::Command::new(program("extension"));
    command.env_clear();
    for variable in sidecar["Environment"].as_array().into_iter().flatten() {
        let (name, value) = (variable["Name"].as_str().unwrap_or_default(), &variable["Value"]);
        let parameter = value["Ref"].as_str().unwrap_or_default();
        let value = match (value.as_str(), template["Parameters"][parameter]["Default"].as_str(), parameter) {
            (Some(value), _, _) | (None, Some(value), _) => value,
            // Nobody is there, which is no reason not to start.
            (None, None, "IamDoor") => "https://127.0.0.1",
            (None, None, "RevocationsUrl") => "https://127.0.0.1/revocations",
            // The one of infra/istio: another one stops the start.
            (None, None, "RevocationsIssuer") => "https://issuer.bookinfo.example",
            _ => return Err(format!("{name} has no value: {value}")),
        };
        command.env(name, value);
    }
    // What ECS sets, and what cannot be the same here.
    command.env("AWS_REGION", "eu-central-1").env("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/credentials/1");
    command.env("CAUSEWAY_BUNDLE", bundle(folder.path())?).env("CAUSEWAY_PROXY_PORT", port.to_string());
    let [inbound, health] = [ports::free(), ports::free()].map(|port| port.unwrap_or_default());
    command
        .env("CAUSEWAY_INBOUND", format!("{inbound}=127.0.0.1:9080"))
        .env("CAUSEWAY_HEALTH_PORT", health.to_string());
    // Nobody calls.
    command.env("CAUSEWAY_DRAIN_ACCEPT_SECONDS", "0");
    let mut extension = Process::start("extension", &mut command)?;
    extension.listening(ports::loopback(port)).await?;
    let check = sidecar["HealthCheck"]["Command"].as_array().cloned().unwrap_or_default();
    // The image has the program at this path.
    assert_eq!(check.get(1).and_then(Value::as_str), Some("/causeway"));
    let ask = || {
        let words = check.iter().skip(2).filter_map(Value::as_str);
        let mut command = Command::new(program("extension"));
        let output = command.args(words).env_clear().env("CAUSEWAY_HEALTH_PORT", health.to_string()).output();
        output.map(|output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    // Nobody has given it an identity.
    let (code, said) = ask().map_err(|error| error.to_string())?;
    assert!(code == Some(1) && said.contains("identity_unavailable"), "{code:?} {said}");
    assert!(extension.stop().await?.success());
    let (code, said) = ask().map_err(|error| error.to_string())?;
    assert!(code == Some(1) && said.contains("no answer"), "{code:?} {said}");
    Ok(())
}
