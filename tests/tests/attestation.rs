//! Proofs by a signed GetCallerIdentity against moto's STS, which verifies signatures: signed by botocore and by our
//! own signer, and everything that must not pass.

use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use e2e::local_issuer::{Answer, ISSUER, LocalIssuer, new_authority};
use e2e::moto::Moto;
use e2e::{root, tool};
use identity::Secret;
use key_issuer::Sts;
use platform::aws::Credentials;
use platform::sigv4;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";
/// The requests of `aws_role.py assume`; moto verifies all later ones.
const UNCHECKED: u32 = 3;

fn available() -> bool {
    e2e::tier::available(&[&tool("moto_server"), &tool("python3")])
}

/// An assumed role at moto.
struct Caller {
    moto: Moto,
    role_unique_id: String,
    /// Access key id, secret, session token.
    credentials: Vec<String>,
}

async fn python(arguments: &[&str], input: &str) -> Result<Value, String> {
    let mut command = Command::new(tool("python3"));
    command.arg(root().join("tests/fixtures/clients/aws_role.py")).args(arguments);
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(|error| error.to_string())?;
    }
    let output = child.wait_with_output().await.map_err(|error| error.to_string())?;
    serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

impl Caller {
    async fn new() -> Result<Self, String> {
        let moto = Moto::start_verifying(UNCHECKED).await?;
        let made = python(&["assume", &moto.url(), "reviews"], "").await?;
        let credentials = made["credentials"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let credentials = credentials.map(str::to_owned).collect();
        Ok(Self { role_unique_id: made["role_unique_id"].as_str().unwrap_or_default().to_owned(), moto, credentials })
    }

    fn issuer(&self, members: &Value) -> Result<LocalIssuer, String> {
        let sts = Sts::new().map_err(|error| error.to_string())?;
        let variables = [("AWS_REGION", "eu-central-1"), ("AWS_ENDPOINT_URL_STS", &self.moto.url())];
        LocalIssuer::new(&new_authority()?, members, &variables, Some(Arc::new(sts)))
    }

    fn url(&self) -> String {
        format!("{}/", self.moto.url())
    }

    async fn by_botocore(&self, headers: &Value) -> Result<Value, String> {
        let asked = json!({"url": self.url(), "credentials": self.credentials, "headers": headers});
        python(&["sign"], &asked.to_string()).await
    }

    fn by_ourselves(&self, headers: &Value) -> Result<Value, String> {
        let [access_key_id, secret, token] = self.credentials.as_slice() else { return Err("no credentials".into()) };
        let credentials = Credentials {
            access_key_id: access_key_id.clone(),
            secret_access_key: Secret::new(secret.clone()),
            session_token: Some(Secret::new(token.clone())),
        };
        let mut sent = vec![("host".to_owned(), self.moto.address.to_string())];
        for (name, value) in headers.as_object().into_iter().flatten() {
            sent.push((name.clone(), value.as_str().unwrap_or_default().to_owned()));
        }
        let url = self.url();
        let request = sigv4::Request { method: "POST", url: &url, headers: &sent, body: BODY.as_bytes() };
        let added = sigv4::sign(request, &credentials, "eu-central-1", "sts", SystemTime::now())
            .map_err(|error| error.to_string())?;
        sent.extend(added);
        let headers: serde_json::Map<String, Value> = sent.into_iter().map(|(n, v)| (n, json!(v))).collect();
        Ok(json!({"method": "POST", "url": url, "body": BODY, "headers": headers}))
    }
}

fn sha256(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn csr() -> Result<String, String> {
    let key = rcgen::KeyPair::generate().map_err(|error| error.to_string())?;
    let csr = rcgen::CertificateParams::default().serialize_request(&key).and_then(|request| request.pem());
    csr.map_err(|error| error.to_string())
}

async fn nonce(issuer: &LocalIssuer) -> Result<String, String> {
    let answer = issuer.public("POST", "/v1/nonce", &Value::Null).await?;
    answer.body["nonce"].as_str().map(str::to_owned).ok_or_else(|| format!("no nonce: {}", answer.body))
}

/// The headers of a proof for a certificate.
async fn headers(issuer: &LocalIssuer, csr: &str) -> Result<Value, String> {
    Ok(json!({
        "x-causeway-server-id": ISSUER,
        "x-causeway-nonce": nonce(issuer).await?,
        "x-causeway-csr-sha256": sha256(csr),
    }))
}

async fn svid(issuer: &LocalIssuer, csr: &str, proof: &Value) -> Result<Answer, String> {
    issuer.public("POST", "/v1/svid", &json!({"csr": csr, "proof": proof})).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signers_and_a_verifier_that_are_not_ours() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let caller = Caller::new().await?;
    let issuer = caller.issuer(&json!({"role_unique_id": caller.role_unique_id}))?;
    let csr = csr()?;
    let botocore = caller.by_botocore(&headers(&issuer, &csr).await?).await?;
    let ours = caller.by_ourselves(&headers(&issuer, &csr).await?)?;
    for (name, proof) in [("botocore", &botocore), ("ours", &ours)] {
        let answer = svid(&issuer, &csr, proof).await?;
        assert_eq!(answer.status, 200, "{name}: {} {:?}", answer.body, issuer.lines.all());
        assert_eq!(answer.body["spiffe_id"], "spiffe://cluster.local/ns/bookinfo/sa/reviews", "{name}");
        let again = svid(&issuer, &csr, proof).await?;
        assert_eq!((again.status, again.body["error"].as_str()), (403, Some("invalid_proof")), "{name} again");
    }
    let binding = json!({
        "x-causeway-server-id": ISSUER,
        "x-causeway-nonce": nonce(&issuer).await?,
        "x-causeway-audience-sha256": sha256("bookinfo"),
    });
    let proof = caller.by_botocore(&binding).await?;
    let asked = json!({"audience": ["bookinfo"], "proof": proof});
    let answer = issuer.public("POST", "/v1/jwt-svid", &asked).await?;
    assert_eq!(answer.status, 200, "{}", answer.body);
    for line in issuer.lines.all() {
        assert!(!caller.credentials.iter().any(|credential| line.contains(credential.as_str())), "{line}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_made_again_is_refused() -> Result<(), String> {
    if !available() {
        return Ok(());
    }
    let caller = Caller::new().await?;
    let issuer = caller.issuer(&json!({"role_unique_id": "AROAOFTHEOLDROLE"}))?;
    let csr = csr()?;
    let proof = caller.by_botocore(&headers(&issuer, &csr).await?).await?;
    let answer = svid(&issuer, &csr, &proof).await?;
    assert_eq!((answer.status, answer.body["error"].as_str()), (403, Some("access_denied")), "{}", answer.body);
    let lines = issuer.lines.all();
    let created = |line: &String| line.contains("re-created") && line.contains(&caller.role_unique_id);
    assert!(lines.iter().any(created), "{lines:?}");
    Ok(())
}

/// A good proof, changed in one thing: refused by the issuer before it is sent, or by moto.
#[tokio::test(flavor = "multi_thread")]
async fn changed_proofs() -> Result<(), String> {
    type Change = fn(&mut Value);
    if !available() {
        return Ok(());
    }
    let caller = Caller::new().await?;
    let issuer = caller.issuer(&json!({}))?;
    let csr = csr()?;
    let flipped: Change = |proof| {
        let text = proof["headers"]["Authorization"].as_str().unwrap_or_default().to_owned();
        let last = if text.ends_with('0') { "1" } else { "0" };
        proof["headers"]["Authorization"] = json!(format!("{}{last}", &text[..text.len() - 1]));
    };
    let cases: &[(&str, &str, Change)] = &[
        ("tampered signature", "STS", flipped),
        ("another token", "STS", |p| p["headers"]["X-Amz-Security-Token"] = json!("another")),
        ("another content type", "STS", |p| {
            p["headers"]["Content-Type"] = json!("application/x-www-form-urlencoded");
        }),
        ("another access key", "STS", |p| {
            let text = p["headers"]["Authorization"].as_str().unwrap_or_default().to_owned();
            p["headers"]["Authorization"] = json!(text.replacen("Credential=A", "Credential=B", 1));
        }),
        ("another Region", "STS", |p| {
            let text = p["headers"]["Authorization"].as_str().unwrap_or_default().to_owned();
            p["headers"]["Authorization"] = json!(text.replacen("eu-central-1", "eu-west-1", 1));
        }),
        ("GET", "method", |p| p["method"] = json!("GET")),
        ("no action", "body", |p| p["body"] = json!("Version=2011-06-15")),
        ("another action", "body", |p| p["body"] = json!("Action=AssumeRole&Version=2011-06-15")),
        ("two actions", "body", |p| p["body"] = json!(format!("{BODY}&Action=GetCallerIdentity"))),
        ("another host", "URL", |p| p["url"] = json!("http://127.0.0.1:1/")),
        ("a path", "URL", |p| p["url"] = json!(format!("{}x", p["url"].as_str().unwrap_or_default()))),
        ("a query", "URL", |p| p["url"] = json!(format!("{}?Action=x", p["url"].as_str().unwrap_or_default()))),
        ("dots", "URL", |p| p["url"] = json!(format!("{}a/../", p["url"].as_str().unwrap_or_default()))),
        ("a header more", "not allowed", |p| p["headers"]["x-more"] = json!("y")),
        ("Accept", "not allowed", |p| p["headers"]["Accept"] = json!("application/json")),
        ("two dates", "twice", |p| p["headers"]["x-amz-date"] = p["headers"]["X-Amz-Date"].clone()),
        ("two signatures", "twice", |p| p["headers"]["authorization"] = p["headers"]["Authorization"].clone()),
        ("no nonce", "missing", |p| {
            p["headers"].as_object_mut().map(|headers| headers.remove("x-causeway-nonce"));
        }),
        ("nonce not signed", "not", |p| {
            let text = p["headers"]["Authorization"].as_str().unwrap_or_default().to_owned();
            p["headers"]["Authorization"] = json!(text.replace(";x-causeway-nonce", ""));
        }),
        ("an old date", "60 seconds", |p| {
            let day = p["headers"]["X-Amz-Date"].as_str().unwrap_or_default()[..8].to_owned();
            let text = p["headers"]["Authorization"].as_str().unwrap_or_default().replace(&day, "20200101");
            p["headers"]["X-Amz-Date"] = json!("20200101T000000Z");
            p["headers"]["Authorization"] = json!(text);
        }),
        ("another server", "another server", |p| p["headers"]["x-causeway-server-id"] = json!("https://other.example")),
        ("another CSR", "another request", |p| p["headers"]["x-causeway-csr-sha256"] = json!(sha256("other"))),
    ];
    for (name, named, change) in cases {
        let mut proof = caller.by_botocore(&headers(&issuer, &csr).await?).await?;
        change(&mut proof);
        let answer = svid(&issuer, &csr, &proof).await?;
        assert_eq!(
            (answer.status, answer.body["error"].as_str()),
            (403, Some("invalid_proof")),
            "{name}: {}",
            answer.body
        );
        let why = answer.body["error_description"].as_str().unwrap_or_default();
        assert!(why.contains(named), "{name}: {why}");
    }
    // A nonce and a binding that are good, and not those that were signed: only the verifier can tell.
    for (name, header) in [("nonce", "x-causeway-nonce"), ("CSR", "x-causeway-csr-sha256")] {
        let mut proof = caller.by_botocore(&headers(&issuer, &csr).await?).await?;
        let other = self::csr()?;
        let (value, csr) = match name {
            "nonce" => (nonce(&issuer).await?, &csr),
            _ => (sha256(&other), &other),
        };
        proof["headers"][header] = json!(value);
        let answer = svid(&issuer, csr, &proof).await?;
        let why = answer.body["error_description"].as_str().unwrap_or_default();
        assert!(answer.status == 403 && why.contains("STS does not accept"), "{name}: {}", answer.body);
    }
    Ok(())
}
