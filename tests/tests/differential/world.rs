//! One Envoy with a listener for each set of policies, the upstream behind all of them, and a client that can come from
//! any address and be any workload.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use causeway::dev::http::send;
use e2e::process::{PATIENCE, Process};
use e2e::tool;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::process::Command;
use tokio_rustls::TlsConnector;

use crate::call::{Answer, Call, PROBE, PROBE_KEYS, Seen, Wire, probe_header};
use crate::translate::{Setup, Workload, http_filters, normalization};

/// Server names that a client may ask for.
pub const SERVER_NAMES: [&str; 4] = ["b.example.com", "a.example.com", "b.example.org", "example.com"];

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The Envoy and what is around it.
pub struct World {
    listeners: BTreeMap<String, SocketAddr>,
    clients: BTreeMap<String, Arc<ClientConfig>>,
    process: Process,
    _folder: TempDir,
}

/// A certificate's names beside the identity: for the directed cases.
#[derive(Clone, Debug)]
pub enum Names {
    /// These URI SANs, then these DNS SANs.
    Alternative(Vec<String>, Vec<String>),
    /// A subject alone.
    Subject(String),
}

impl World {
    /// Starts Envoy with the listeners `setups`. `identities` are the peers that clients can be: name → certificate.
    pub async fn start(
        setups: &[(String, Setup)],
        workload: &Workload,
        identities: &[(String, Names)],
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(text)?;
        let authority = Authority::new()?;
        let mut names: Vec<SanType> = vec![SanType::IpAddress(Ipv4Addr::LOCALHOST.into())];
        for name in SERVER_NAMES {
            names.push(SanType::DnsName(name.try_into().map_err(text)?));
        }
        let (certificate, key) = authority.leaf(names, None)?;
        for (file, pem) in
            [("root.pem", authority.root.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
        {
            std::fs::write(folder.path().join(file), pem).map_err(text)?;
        }
        let mut clients = BTreeMap::new();
        for (name, identity) in identities {
            clients.insert(name.clone(), Arc::new(authority.client(identity)?));
        }

        let upstream = upstream().await?;
        let config = configuration(setups, workload, upstream, folder.path());
        let path = folder.path().join("envoy.json");
        std::fs::write(&path, config.to_string()).map_err(text)?;
        let admin = folder.path().join("admin");
        let mut command = Command::new(tool("envoy"));
        command.arg("-c").arg(&path).args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
        command.args(["--file-flush-interval-msec", "20"]).arg("--admin-address-path").arg(&admin);
        let mut process = Process::start("envoy", command.env_clear())?;
        let ready = async {
            loop {
                if let Some(listeners) = listeners(&admin).await
                    && listeners.len() == setups.len()
                {
                    return listeners;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let listeners = tokio::select! {
            ready = tokio::time::timeout(PATIENCE, ready) => ready.map_err(|_| "Envoy does not become ready".to_owned()),
            _ = process.ended() => Err("Envoy ended at the start".to_owned()),
        };
        let listeners = listeners.map_err(|error| format!("{error}; its output:\n{}", process.lines().join("\n")))?;
        Ok(Self { listeners, clients, process, _folder: folder })
    }

    /// What Envoy has printed.
    pub fn output(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Sends one request to a listener.
    pub async fn ask(&self, listener: &str, call: &Call, wire: &Wire) -> Result<Answer, String> {
        let address = *self.listeners.get(listener).ok_or("no such listener")?;
        let exchange = async {
            let socket = TcpSocket::new_v4().map_err(text)?;
            socket.bind(SocketAddr::from((call.source_ip, 0))).map_err(text)?;
            let mut stream = socket.connect(address).await.map_err(text)?;
            stream.set_nodelay(true).map_err(text)?;
            let family = if call.remote_ip.is_ipv4() { "TCP4" } else { "TCP6" };
            let line = format!(
                "PROXY {family} {} {} 40000 {}\r\n",
                call.remote_ip, call.destination_ip, call.destination_port
            );
            stream.write_all(line.as_bytes()).await.map_err(text)?;
            let (request, is_head) = (request(call, wire), call.method == "HEAD");
            let Some(principal) = &call.principal else { return exchange(stream, &request, is_head).await };
            let config = self.clients.get(principal).ok_or_else(|| format!("no client {principal}"))?;
            let name = match &call.sni {
                Some(name) => ServerName::try_from(name.clone()).map_err(text)?,
                None => ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()),
            };
            let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.map_err(text)?;
            exchange(stream, &request, is_head).await
        };
        tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| "Envoy does not answer".to_owned())?
    }
}

/// What Envoy says about a configuration that `change` has changed; the outer error is that it could not be asked.
pub async fn validate(
    setups: &[(String, Setup)],
    workload: &Workload,
    change: impl FnOnce(String) -> String,
) -> Result<Result<(), String>, String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let authority = Authority::new()?;
    let (certificate, key) = authority.leaf(Vec::new(), Some("server"))?;
    for (file, pem) in
        [("root.pem", authority.root.pem()), ("server.pem", certificate.pem()), ("server.key", key.serialize_pem())]
    {
        std::fs::write(folder.path().join(file), pem).map_err(text)?;
    }
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let path = folder.path().join("envoy.json");
    let config = change(configuration(setups, workload, nowhere, folder.path()).to_string());
    std::fs::write(&path, config).map_err(text)?;
    let mut command = Command::new(tool("envoy"));
    command.args(["--mode", "validate", "-l", "error", "-c"]).arg(&path).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.map_err(text)?.map_err(text)?;
    if output.status.success() { Ok(Ok(())) } else { Ok(Err(String::from_utf8_lossy(&output.stderr).into_owned())) }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn request(call: &Call, wire: &Wire) -> Vec<u8> {
    let mut request = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", call.method, wire.path, call.host);
    for (name, value) in &wire.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("Content-Length: 0\r\nConnection: close\r\n\r\n");
    request.into_bytes()
}

/// One exchange; the connection is closed behind it.
async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
    is_head: bool,
) -> Result<Answer, String> {
    stream.write_all(request).await.map_err(text)?;
    stream.flush().await.map_err(text)?;
    // Envoy waits a second before it closes: the answer ends where it says.
    let (mut answer, mut end) = (Vec::new(), None);
    while end.is_none_or(|end| answer.len() < end) {
        let mut chunk = [0; 16 * 1024];
        let read = stream.read(&mut chunk).await.map_err(text)?;
        if read == 0 {
            break;
        }
        answer.extend_from_slice(&chunk[..read]);
        if end.is_none()
            && let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n")
        {
            let length = field(&String::from_utf8_lossy(&answer[..head]), "content-length");
            let body = if is_head { 0 } else { length.and_then(|length| length.parse().ok()).unwrap_or(0) };
            end = Some(head + 4 + body);
        }
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no answer but {answer:?}"))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
    let authenticate = field(head, "www-authenticate").unwrap_or_default();
    Ok(Answer {
        status: status.ok_or_else(|| format!("no status in {head:?}"))?,
        seen: field(head, "x-seen").as_deref().and_then(Seen::read),
        why: format!("{body} {authenticate}").trim().to_owned(),
    })
}

fn field(head: &str, wanted: &str) -> Option<String> {
    let mut found = head.lines().filter_map(|line| line.split_once(':'));
    found.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim().to_owned())
}

// ---- upstream

/// The application: it tells in the header `x-seen` what it was asked. It also plays the extension providers, which
/// answer on `/provider/NAME` what the request's header `x-custom-NAME` says.
async fn upstream() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(text)?;
    let address = listener.local_addr().map_err(text)?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = Vec::new();
                loop {
                    let mut chunk = [0; 16 * 1024];
                    match stream.read(&mut chunk).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => buffer.extend_from_slice(&chunk[..read]),
                    }
                    while let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
                        buffer.drain(..end + 4);
                        if stream.write_all(answer(&head).as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    Ok(address)
}

fn answer(head: &str) -> String {
    let mut lines = head.split("\r\n");
    let path = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let headers: Vec<(&str, &str)> =
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim())).collect();
    let (mut status, mut seen) = ("200 OK", true);
    if let Some(rest) = path.strip_prefix("/provider/") {
        let provider = rest.split(['/', '?']).next().unwrap_or_default();
        let wanted = format!("x-custom-{provider}");
        let said = headers.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
        status = match said {
            Some("deny") => "403 Forbidden",
            Some("error") => "500 Internal Server Error",
            _ => "200 OK",
        };
        seen = false;
    }
    let line = match seen {
        true => format!("x-seen: {}\r\n", STANDARD.encode(json!({"path": path, "headers": headers}).to_string())),
        false => String::new(),
    };
    format!("HTTP/1.1 {status}\r\n{line}content-length: 0\r\n\r\n")
}

// ---- certificates

struct Authority {
    root: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Result<Self, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "mesh root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(text)?;
        let root = params.self_signed(&key).map_err(text)?;
        Ok(Self { root, issuer: Issuer::new(params, key) })
    }

    fn leaf(&self, names: Vec<SanType>, subject: Option<&str>) -> Result<(rcgen::Certificate, KeyPair), String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(subject) = subject {
            params.distinguished_name.push(rcgen::DnType::CommonName, subject);
        }
        params.subject_alt_names = names;
        let key = KeyPair::generate().map_err(text)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(text)?;
        Ok((certificate, key))
    }

    fn client(&self, names: &Names) -> Result<ClientConfig, String> {
        let (certificate, key) = match names {
            Names::Alternative(uris, hosts) => {
                let mut alternative = Vec::new();
                for uri in uris {
                    alternative.push(SanType::URI(uri.as_str().try_into().map_err(text)?));
                }
                for host in hosts {
                    alternative.push(SanType::DnsName(host.as_str().try_into().map_err(text)?));
                }
                self.leaf(alternative, None)?
            }
            Names::Subject(subject) => self.leaf(Vec::new(), Some(subject))?,
        };
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).map_err(text)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            builder.map_err(text)?.with_root_certificates(roots).with_client_auth_cert(chain, key).map_err(text)?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

// ---- Envoy's configuration

fn configuration(setups: &[(String, Setup)], workload: &Workload, upstream: SocketAddr, folder: &Path) -> Value {
    let file = |name: &str| json!({"filename": folder.join(name).display().to_string()});
    let tls = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "disable_stateless_session_resumption": true,
            "disable_stateful_session_resumption": true,
            "common_tls_context": {
                "tls_certificates": [{"certificate_chain": file("server.pem"), "private_key": file("server.key")}],
                "validation_context": {"trusted_ca": file("root.pem")},
            },
        },
    });
    let listeners: Vec<Value> = setups.iter().map(|(name, setup)| listener(name, setup, workload, &tls)).collect();
    json!({
        "node": {"id": "differential", "cluster": "differential"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
        "static_resources": {
            "listeners": listeners,
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "connect_timeout": "5s",
                "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [{"endpoint": {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream.port()}},
                }}]}]},
            }],
        },
    })
}

/// Makes dynamic metadata of headers, for the conditions on it.
fn probe() -> Value {
    let rule = |key: &&str| {
        json!({
            "header": probe_header(key),
            "on_header_present": {
                "metadata_namespace": PROBE, "key": key, "type": "PROTOBUF_VALUE", "encode": "BASE64",
            },
        })
    };
    json!({
        "name": "envoy.filters.http.header_to_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": PROBE_KEYS.iter().map(rule).collect::<Vec<_>>(),
        },
    })
}

fn listener(name: &str, setup: &Setup, workload: &Workload, tls: &Value) -> Value {
    let mut filters = vec![probe()];
    filters.extend(http_filters(setup, workload));
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inbound",
        "codec_type": "AUTO",
        "use_remote_address": false,
        "forward_client_cert_details": "APPEND_FORWARD",
        "set_current_client_cert_details": {"subject": true, "dns": true, "uri": true},
        "http_filters": filters,
        "route_config": {"name": "inbound", "virtual_hosts": [{
            "name": "inbound",
            "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}],
        }]},
    });
    for (field, value) in normalization(setup.mesh.path_normalization) {
        manager[field] = value;
    }
    let network = json!([{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]);
    let listener_filter = |name: &str, kind: &str| {
        json!({
            "name": format!("envoy.filters.listener.{name}"),
            "typed_config": {"@type": format!("type.googleapis.com/envoy.extensions.filters.listener.{name}.v3.{kind}")},
        })
    };
    json!({
        "name": name,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "listener_filters": [
            listener_filter("proxy_protocol", "ProxyProtocol"), listener_filter("tls_inspector", "TlsInspector"),
        ],
        "filter_chains": [
            {"filter_chain_match": {"transport_protocol": "tls"}, "transport_socket": tls, "filters": network.clone()},
            {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": network},
        ],
    })
}

/// The listeners by their names, once Envoy is ready.
async fn listeners(admin: &Path) -> Option<BTreeMap<String, SocketAddr>> {
    let admin: SocketAddr = std::fs::read_to_string(admin).ok()?.trim().parse().ok()?;
    let ask = |target: &'static str| async move { send(admin, "GET", target, &[("host", "admin")], "").await.ok() };
    if ask("/ready").await?.status != 200 {
        return None;
    }
    let statuses: Value = serde_json::from_str(&ask("/listeners?format=json").await?.body).ok()?;
    let mut listeners = BTreeMap::new();
    for status in statuses["listener_statuses"].as_array()? {
        let socket = &status["local_address"]["socket_address"];
        let port = u16::try_from(socket["port_value"].as_u64()?).ok()?;
        let address = SocketAddr::new(socket["address"].as_str()?.parse().ok()?, port);
        listeners.insert(status["name"].as_str()?.to_owned(), address);
    }
    Some(listeners)
}
