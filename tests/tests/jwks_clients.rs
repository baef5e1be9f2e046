//! Verifiers that nobody here wrote, and the issuer's keys: through a rotation, under the caches that they have.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use causeway::dev::http::send;
use e2e::envoy::Envoy;
use e2e::public_issuer::script_command;
use e2e::rotating_issuer::{CLIENTS, RotatingIssuer};
use e2e::{tier, tool};
use platform::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

const NOW: u64 = 1_893_456_000;
/// From a rotation to the first token of its keys, beside the time for verifiers: half an hour for the steps, an hour
/// for other environments of the function, five minutes for clocks.
const STEPS_AND_CLOCKS: u64 = 1800 + 3600 + 300;
/// The same with the two hours that the issuer gives verifiers by default.
const ACTIVATION: u64 = STEPS_AND_CLOCKS + 7200;
const VERSION: &str = "0123456789abcdef0123456789abcdef";
/// From then until the old keys go: the life of a token, and five minutes for clocks.
const RETIREMENT: u64 = 3600 + 300;

/// A script that verifies tokens.
struct Verifier {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Verifier {
    fn start(script: &str, issuer: &RotatingIssuer, folder: &Path) -> Result<Self, String> {
        let mut command = script_command(script, folder)?;
        command.args([&issuer.url, &format!("{}/jwks.json", issuer.url)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(|error| error.to_string())?;
        let input = child.stdin.take().ok_or("no input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        Ok(Self { _child: child, input, output })
    }

    async fn ask(&mut self, set: &str, token: &str, now: u64) -> Result<Value, String> {
        let line = format!("{}\n", json!({"set": set, "token": token, "now": now}));
        self.input.write_all(line.as_bytes()).await.map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(Duration::from_secs(60), self.output.next_line()).await;
        let answer = answer.map_err(|_| "the verifier does not answer")?.map_err(|error| error.to_string())?;
        serde_json::from_str(&answer.ok_or("the verifier has ended")?).map_err(|error| error.to_string())
    }
}

fn kid(token: &str) -> Result<String, String> {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|error| error.to_string())?;
    let header: Value = serde_json::from_slice(&header).map_err(|error| error.to_string())?;
    header["kid"].as_str().map(str::to_owned).ok_or_else(|| "no kid".to_owned())
}

/// A verifier that asks every few minutes, and one that keeps its keys for two hours and never asks for a single one,
/// verify every token at every age, from before a rotation until the old keys are gone. None of them has to look at the
/// keys before its time.
async fn rides_through_a_rotation(name: &str, script: &str, unknown_key: &str) -> Result<(), String> {
    let program = if script.ends_with(".mjs") { "node" } else { "python3" };
    if !tier::available(&[&tool(program)]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let issuer = RotatingIssuer::start(NOW).await?;
    let mut verifier = Verifier::start(script, &issuer, folder.path())?;
    let caches = [("default", if name == "jose" { 600 } else { 300 }), ("slowest", 7200)];

    let rotated_at = NOW + 600;
    let mut tokens: Vec<(u64, String)> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for now in (NOW..rotated_at + ACTIVATION + RETIREMENT + 1200).step_by(240) {
        issuer.clock.set(now);
        if now >= rotated_at && now < rotated_at + 240 {
            issuer.rotate(VERSION).await?;
        }
        for (client, _) in CLIENTS {
            let token = issuer.token(client).await?;
            let kid = kid(&token)?;
            if !seen.contains(&kid) {
                seen.push(kid);
            }
            tokens.push((now, token));
        }
        tokens.retain(|(made_at, _)| now < made_at + 3600);
        // The newest, those that are about to end, and some between.
        let (oldest, newest) = (tokens.iter().take(3), tokens.iter().rev().take(3));
        let chosen: Vec<&str> = oldest.chain(newest).chain(tokens.iter().step_by(7)).map(|(_, t)| t.as_str()).collect();
        for token in chosen {
            for (set, _) in caches {
                let told = verifier.ask(set, token, now).await?;
                assert_eq!(told, json!({"kid": kid(token)?}), "{name} {set} at {}", now - NOW);
            }
        }
    }
    assert_eq!(seen.len(), 6, "an old and a new key of each algorithm have signed");
    for (set, kept) in caches {
        let fetches = issuer.fetches(&format!("{name} {set}"));
        assert!(fetches.len() > 2, "{fetches:?}");
        assert!(fetches.is_sorted_by(|a, b| b - a >= kept), "{name} {set} had to ask early: {fetches:?}");
    }

    // A key that is gone is gone.
    let now = issuer.clock.unix();
    issuer.clock.set(rotated_at);
    let late = issuer.token("ES256").await?;
    issuer.clock.set(now);
    assert!(seen.iter().take(3).any(|old| kid(&late).is_ok_and(|kid| kid == *old)), "it is of an old key");
    assert_eq!(verifier.ask("default", &late, now + 600).await?, json!({"error": unknown_key}));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn jose_rides_through_a_rotation() -> Result<(), String> {
    rides_through_a_rotation("jose", "jose_verifier.mjs", "ERR_JWKS_NO_MATCHING_KEY").await
}

#[tokio::test(flavor = "multi_thread")]
async fn pyjwt_rides_through_a_rotation() -> Result<(), String> {
    rides_through_a_rotation("pyjwt", "pyjwt_verifier.py", "PyJWKClientError").await
}

/// What the issuer is told about its verifiers matters: this one keeps the keys for longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_that_is_slower_than_declared_is_left_behind() -> Result<(), String> {
    if !tier::available(&[&tool("node")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let issuer = RotatingIssuer::start_for(NOW, 300).await?;
    let mut verifier = Verifier::start("jose_verifier.mjs", &issuer, folder.path())?;
    let before = issuer.token("ES256").await?;
    assert_eq!(verifier.ask("slowest", &before, NOW).await?, json!({"kid": kid(&before)?}));
    issuer.rotate(VERSION).await?;
    let now = NOW + STEPS_AND_CLOCKS + 300;
    issuer.clock.set(now);
    let after = issuer.token("ES256").await?;
    assert_eq!(verifier.ask("slowest", &after, now).await?, json!({"error": "ERR_JWKS_NO_MATCHING_KEY"}));
    assert_eq!(verifier.ask("default", &after, now).await?, json!({"kid": kid(&after)?}));
    Ok(())
}

/// Envoy's clock is the machine's, so the rotation has taken place when the test begins: a second ago the old keys
/// signed for the last time.
#[tokio::test(flavor = "multi_thread")]
async fn envoy_follows_the_keys() -> Result<(), String> {
    if !tier::available(&[&tool("envoy")]) {
        return Ok(());
    }
    let now = SystemClock.unix();
    let activation = now - 1;
    let issuer = RotatingIssuer::start(activation - ACTIVATION).await?;
    issuer.rotate(VERSION).await?;
    let mut old = Vec::new();
    issuer.clock.set(activation - 1);
    for (client, _) in CLIENTS {
        old.push((client, issuer.token(client).await?));
    }
    issuer.clock.set(now);
    let mut new = Vec::new();
    for (client, _) in CLIENTS {
        new.push((client, issuer.token(client).await?));
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let port = issuer.address.port().to_string();
    let values = [("ISSUER", issuer.url.as_str()), ("AUDIENCE", "bookinfo"), ("ISSUER_PORT", &port)];
    let envoy = Envoy::start("jwt_authn", &values, folder.path()).await?;
    let ask = async |token: &str| {
        let authorization = format!("Bearer {token}");
        send(envoy.address, "GET", "/", &[("host", "api"), ("authorization", &authorization)], "").await
    };
    for ((client, before), (_, after)) in old.iter().zip(&new) {
        assert_ne!(kid(before)?, kid(after)?, "{client}");
        for token in [before, after] {
            let answer = ask(token).await?;
            assert_eq!((answer.status, answer.body.as_str()), (200, "passed"), "{client}");
        }
    }
    let (head, signature) = new.first().and_then(|(_, token)| token.rsplit_once('.')).ok_or("no token")?;
    let broken: String = signature.chars().rev().collect();
    assert_eq!(ask(&format!("{head}.{broken}")).await?.status, 401);

    issuer.clock.set(activation + RETIREMENT);
    let gone = async {
        while ask(old.first().map(|(_, token)| token.as_str()).unwrap_or_default()).await?.status == 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), String>(())
    };
    tokio::time::timeout(e2e::process::PATIENCE, gone).await.map_err(|_| "Envoy keeps a key that is gone")??;
    for ((client, before), (_, after)) in old.iter().zip(&new) {
        let refused = ask(before).await?;
        assert_eq!(refused.status, 401, "{client}");
        assert!(refused.body.contains("Jwks doesn't have key to match kid or alg"), "{client}: {}", refused.body);
        assert_eq!(ask(after).await?.status, 200, "{client}");
    }
    Ok(())
}

/// The path of a program of the machine; without it the test is skipped.
fn installed(name: &str) -> Option<std::path::PathBuf> {
    let found = std::env::split_paths(&e2e::path()).map(|folder| folder.join(name)).find(|path| path.exists());
    if found.is_none() {
        tier::skip(&format!("there is no program {name} on this machine; Debian's package of this name has it"));
    }
    found
}

async fn run(program: &Path, arguments: &[&str], folder: &Path) -> Result<(bool, String), String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output().await;
    let output = output.map_err(|error| error.to_string())?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&text).trim().to_owned()))
}

/// `jose` of Debian is a program in C on OpenSSL. It knows no EdDSA.
#[tokio::test(flavor = "multi_thread")]
async fn debians_jose_verifies_tokens_and_names_keys() -> Result<(), String> {
    let Some(jose) = installed("jose") else { return Ok(()) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).map_err(|e| e.to_string());
    let issuer = RotatingIssuer::start(NOW).await?;
    let jwks = send(issuer.address, "GET", "/jwks.json", &[("host", "issuer.bookinfo.example")], "").await?.body;
    write("jwks.json", &jwks)?;
    let keys: Value = serde_json::from_str(&jwks).map_err(|error| error.to_string())?;
    for key in keys["keys"].as_array().into_iter().flatten().filter(|key| key["kty"] != "OKP") {
        write("key.json", &key.to_string())?;
        let (_, thumbprint) = run(&jose, &["jwk", "thp", "-a", "S256", "-i", "key.json"], folder.path()).await?;
        assert_eq!(Some(thumbprint.as_str()), key["kid"].as_str());
    }
    for client in ["ES256", "RS256"] {
        let token = issuer.token(client).await?;
        write("token", &token)?;
        let arguments = ["jws", "ver", "-i", "token", "-k", "jwks.json", "-O", "claims"];
        let (verified, said) = run(&jose, &arguments, folder.path()).await?;
        assert!(verified, "{client}: {said}");
        let claims = std::fs::read_to_string(folder.path().join("claims")).map_err(|error| error.to_string())?;
        let claims: Value = serde_json::from_str(&claims).map_err(|error| error.to_string())?;
        assert_eq!((claims["client_id"].as_str(), claims["iat"].as_u64()), (Some(client), Some(NOW)));
        let (head, signature) = token.rsplit_once('.').ok_or("no token")?;
        write("token", &format!("{head}.{}", signature.chars().rev().collect::<String>()))?;
        let (verified, _) = run(&jose, &["jws", "ver", "-i", "token", "-k", "jwks.json"], folder.path()).await?;
        assert!(!verified, "{client}: a broken signature");
    }
    Ok(())
}

/// OpenSSL knows nothing of JOSE: the key is put together from the members of the JWK, as ASN.1.
#[tokio::test(flavor = "multi_thread")]
async fn openssl_verifies_an_rs256_signature() -> Result<(), String> {
    let Some(openssl) = installed("openssl") else { return Ok(()) };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).map_err(|e| e.to_string());
    let issuer = RotatingIssuer::start(NOW).await?;
    let jwks = send(issuer.address, "GET", "/jwks.json", &[("host", "issuer.bookinfo.example")], "").await?.body;
    let jwks: Value = serde_json::from_str(&jwks).map_err(|error| error.to_string())?;
    let key = jwks["keys"].as_array().into_iter().flatten().find(|key| key["kty"] == "RSA").ok_or("no RSA key")?;
    let number = |name: &str| -> Result<String, String> {
        let bytes =
            URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap_or_default()).map_err(|error| error.to_string())?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    let asn1 = format!(
        "asn1=SEQUENCE:spki\n[spki]\nalgorithm=SEQUENCE:algorithm\nkey=BITWRAP,SEQUENCE:rsa\n[algorithm]\n\
         oid=OID:rsaEncryption\nparameter=NULL\n[rsa]\nn=INTEGER:0x{}\ne=INTEGER:0x{}\n",
        number("n")?,
        number("e")?
    );
    write("key.cnf", asn1.as_bytes())?;
    let (made, said) =
        run(&openssl, &["asn1parse", "-genconf", "key.cnf", "-noout", "-out", "key.der"], folder.path()).await?;
    assert!(made, "{said}");

    let token = issuer.token("RS256").await?;
    let (message, signature) = token.rsplit_once('.').ok_or("no token")?;
    write("signature", &URL_SAFE_NO_PAD.decode(signature).map_err(|error| error.to_string())?)?;
    for (message, expected) in [(message.to_owned(), "Verified OK"), (format!("{message}A"), "Verification failure")] {
        write("message", message.as_bytes())?;
        let arguments =
            ["dgst", "-sha256", "-keyform", "DER", "-verify", "key.der", "-signature", "signature", "message"];
        let (verified, said) = run(&openssl, &arguments, folder.path()).await?;
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(verified, expected == "Verified OK");
    }
    Ok(())
}
