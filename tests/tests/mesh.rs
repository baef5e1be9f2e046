//! In the mesh: real Envoy asks the adapter about API keys.

use causeway::dev::http::send;
use e2e::envoy::Envoy;
use e2e::process::Process;
use e2e::world::{self, World};
use e2e::{ports, program};
use serde_json::Value;
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn envoy_asks_the_adapter_about_api_keys() -> Result<(), String> {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let port = ports::free().map_err(|error| error.to_string())?;
    let mut command = Command::new(program("adapter"));
    command.env_clear().envs(world.front_environment()).envs([
        ("CAUSEWAY_ADAPTER_ADDRESS", format!("127.0.0.1:{port}").as_str()),
        ("CAUSEWAY_ENVIRONMENT", "dev"),
        ("CAUSEWAY_WORKLOAD_NAMESPACE", "bookinfo"),
        ("CAUSEWAY_WORKLOAD_LABELS", "app=ratings"),
    ]);
    let mut adapter = Process::start("adapter", &mut command)?;
    adapter.listening(ports::loopback(port)).await?;
    let app = e2e::mesh::ratings().await?;
    let values = [("ADAPTER_PORT", port.to_string()), ("APP_PORT", app.port().to_string())];
    let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let envoy = Envoy::start("ingress_ext_authz", &values, world.folder.path()).await?;

    let host = ("host", "ratings.bookinfo.svc.cluster.local:9080");
    let (key, revoked) = (world.partner_key.text().expose().clone(), world.revoked_key.text().expose().clone());
    let token = format!("Bearer {}", world.token("reader", "").await?);
    /// Name, path, credential header, and the status and reason that come of them.
    type Row<'a> = (&'a str, &'a str, Option<(&'a str, &'a str)>, u16, &'a str);
    let rows: &[Row<'_>] = &[
        ("good key", "/ratings/0", Some(("x-api-key", &key)), 200, "allowed_by_policy"),
        ("revoked key", "/ratings/0", Some(("x-api-key", &revoked)), 401, "api_key_revoked"),
        ("no key", "/ratings/0", None, 403, "no_credential"),
        ("a path that the policy does not name", "/", Some(("x-api-key", &key)), 403, "denied_no_match"),
        ("a token of somebody else", "/ratings/0", Some(("authorization", &token)), 403, "denied_no_match"),
    ];
    for (name, path, credential, status, reason) in rows {
        let mut headers = vec![host];
        headers.extend(*credential);
        let answer = send(envoy.address, "GET", path, &headers, "").await?;
        let lines = adapter.lines();
        let decision = lines
            .iter()
            .rev()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|line| line["event"] == "decision");
        let decision = decision.unwrap_or_default();
        assert_eq!(
            (answer.status, decision["reason"].as_str()),
            (*status, Some(*reason)),
            "{name}: {} {decision}",
            answer.body
        );
    }

    assert_eq!(world.credential_in_logs(&[&adapter, envoy.process()]), None);
    // An adapter that is down denies.
    adapter.stop().await?;
    let answer = send(envoy.address, "GET", "/ratings/0", &[host, ("x-api-key", &key)], "").await?;
    assert_eq!(answer.status, 503, "{}", answer.body);
    Ok(())
}
