//! Clients that nobody here wrote, against the real issuer.

use e2e::world::{self, World};
use e2e::{root, tool};
use tokio::process::Command;

#[tokio::test(flavor = "multi_thread")]
async fn python_clients_get_and_verify_tokens() -> Result<(), String> {
    if !world::available() {
        return Ok(());
    }
    let world = World::start().await?;
    let secret = world.client_secrets.get("reader").ok_or("no reader")?;
    let output = Command::new(tool("python3"))
        .arg(root().join("tests/fixtures/clients/oauth.py"))
        .arg(format!("http://{}", world.issuer))
        .env("CLIENT_SECRET", secret.expose())
        .output()
        .await
        .map_err(|error| error.to_string())?;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(world.credential_in_logs(&[world.moto.process()]), None);
    Ok(())
}
