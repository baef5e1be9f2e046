//! The commands of docs/mesh.md that make the intermediates, run as they stand there. What they ask of Vault, of the
//! cluster and of AWS is answered by stand-ins; openssl and jq are real.

use std::path::Path;
use std::process::Command;

use e2e::{root, tier};
use serde_json::Value;

use crate::Outcome;
use crate::tools::{self, run};

/// `vault write …/sign-intermediate`: signs the request with the root, and says what it has done.
const VAULT: &str = r#"#!/bin/bash
set -eu
[ "$1 $2 $3 $4" = "write -format=json pki_mesh/root/sign-intermediate csr=@ca.csr" ]
case " $* " in *" max_path_length=0 "*) ;; *) exit 1 ;; esac
printf 'basicConstraints = critical, CA:true, pathlen:0\nkeyUsage = critical, keyCertSign, cRLSign\n' |
    openssl x509 -req -in ca.csr -CA mesh/root-cert.pem -CAkey mesh/root-key.pem -CAcreateserial -days 1 \
        -extfile /dev/stdin |
    jq --null-input --rawfile c /dev/stdin --rawfile r mesh/root-cert.pem \
        '{data: {certificate: ($c | rtrimstr("\n")), issuing_ca: ($r | rtrimstr("\n"))}}'
"#;

/// `kubectl get secret` of one that cert-manager has filled, and `kubectl apply` of another one.
const KUBECTL: &str = r#"#!/bin/bash
set -eu
if [ "$1" = apply ]; then
    cat > applied.json
else
    jq --null-input --rawfile c ca-cert.pem --rawfile k ca-key.pem --rawfile r root-cert.pem '{apiVersion: "v1",
        kind: "Secret", type: "kubernetes.io/tls", metadata: {name: "x", namespace: "causeway-trust", uid: "1"},
        data: {"tls.crt": ($c | @base64), "tls.key": ($k | @base64), "ca.crt": ($r | @base64)}}'
fi
"#;

/// `aws secretsmanager put-secret-value`.
const AWS: &str = "#!/bin/bash\nset -eu\n[ \"${@: -1}\" = file://ca.json ]\ncp ca.json put.json\n";

/// The root, and the two programs that trust it.
const ROOT: &str = "mkdir mesh && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 \
    -keyout mesh/root-key.pem -out mesh/root-cert.pem -subj /O=cluster.local/CN=root \
    -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null";

/// A workload's certificate, as the issuer signs it with what is in the secret; openssl finds its way to the root.
const LEAF: &str = r#"
jq -r '."ca-cert.pem"' put.json > signer.pem
jq -r '."ca-key.pem"' put.json > signer-key.pem
jq -r '."cert-chain.pem"' put.json > chain.pem
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout leaf-key.pem -subj / -out leaf.csr
printf 'subjectAltName = critical, URI:spiffe://cluster.local/ns/bookinfo/sa/bookinfo-reviews\n' |
    openssl x509 -req -in leaf.csr -CA signer.pem -CAkey signer-key.pem -CAcreateserial -days 1 \
        -extfile /dev/stdin > leaf.pem
openssl verify -x509_strict -CAfile mesh/root-cert.pem -untrusted chain.pem signer.pem
openssl verify -CAfile mesh/root-cert.pem -untrusted chain.pem leaf.pem
! openssl verify -CAfile mesh/root-cert.pem leaf.pem
"#;

/// The shell block of docs/mesh.md with `text` in it.
fn block(text: &str) -> Result<String, String> {
    let page = std::fs::read_to_string(root().join("docs/mesh.md")).map_err(|error| error.to_string())?;
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    match blocks.iter().filter(|block| block.contains(text)).collect::<Vec<_>>().as_slice() {
        [one] => Ok((**one).to_owned()),
        found => Err(format!("{} blocks have {text:?}", found.len())),
    }
}

fn bash(folder: &Path, script: &str) -> Result<String, String> {
    let mut command = Command::new("bash");
    let path = format!("{}:{}", folder.join("bin").display(), e2e::path());
    command.current_dir(folder).env("PATH", path).args(["-euc", &format!("set -o pipefail\n{script}")]);
    run(&mut command, "").map_err(|said| format!("{script}\n{said}"))
}

#[test]
fn both_intermediates_lead_to_the_root() -> Outcome {
    if !tools::available() || !tier::available(&[Path::new("/usr/bin/jq"), Path::new("/usr/bin/openssl")]) {
        return Ok(());
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let folder = folder.path();
    bash(folder, &format!("mkdir bin\n{ROOT}"))?;
    for (name, script) in [("vault", VAULT), ("kubectl", KUBECTL), ("aws", AWS)] {
        std::fs::write(folder.join("bin").join(name), script).map_err(|error| error.to_string())?;
        bash(folder, &format!("chmod +x bin/{name}"))?;
    }
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).map_err(|error| format!("{name}: {error}"));

    bash(folder, &block("vault write")?)?;
    assert_eq!(read("root-cert.pem")?.trim(), read("mesh/root-cert.pem")?.trim());
    // What cert-manager has is what Vault has signed.
    bash(folder, &block("get secret causeway-issuer")?)?;
    assert!(!folder.join("ca.json").exists(), "the key lies about");
    bash(folder, LEAF)?;
    let secret: Value = serde_json::from_str(&read("put.json")?).map_err(|error| error.to_string())?;
    let members: Vec<&String> = secret.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(members, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"]);

    bash(folder, &block("get secret istiod")?)?;
    let applied: Value = serde_json::from_str(&read("applied.json")?).map_err(|error| error.to_string())?;
    assert_eq!(applied["metadata"], serde_json::json!({"name": "cacerts", "namespace": "istio-system"}));
    assert_eq!(applied["type"], "kubernetes.io/tls");
    assert!(["tls.crt", "tls.key", "ca.crt"].iter().all(|name| applied["data"][name].is_string()), "{applied}");
    Ok(())
}
