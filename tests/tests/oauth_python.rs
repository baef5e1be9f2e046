//! OAuth clients in Python, against the real issuer over https.

use e2e::public_issuer::{self, PublicIssuer};

async fn passes(script: &str) -> Result<(), String> {
    if !public_issuer::available(&["python3"]) {
        return Ok(());
    }
    let issuer = PublicIssuer::start().await?;
    issuer.run(script).await?;
    assert_eq!(issuer.credential_in_logs(), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn authlib() -> Result<(), String> {
    passes("authlib_client.py").await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_oauthlib() -> Result<(), String> {
    passes("oauthlib_client.py").await
}
