//! OAuth clients in JavaScript, against the real issuer over https.

use e2e::public_issuer::{self, PublicIssuer};

async fn passes(script: &str) -> Result<(), String> {
    if !public_issuer::available(&["node"]) {
        return Ok(());
    }
    let issuer = PublicIssuer::start().await?;
    issuer.run(script).await?;
    assert_eq!(issuer.credential_in_logs(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth4webapi() -> Result<(), String> {
    passes("oauth4webapi.mjs").await
}

#[tokio::test(flavor = "multi_thread")]
async fn openid_client() -> Result<(), String> {
    passes("openid_client.mjs").await
}
