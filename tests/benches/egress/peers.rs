//! The proxies, each with what a sidecar does for a request: a route by host, a token, retries and an access log.

use std::net::SocketAddr;

use e2e::process::Process;
use e2e::world::World;
use e2e::{ports, program, tool};
use tokio::process::Command;

use crate::service::{Service, pinned, temporary};

pub(crate) const NAMES: [&str; 4] = ["extension", "haproxy", "nginx", "envoy"];

/// The processor of the proxies: they are measured one after the other, so one alone works at a time.
const ITS_PROCESSOR: &str = "0";

const HOST: &str = "ratings.bookinfo.svc.cluster.local";
const SNI: &str = "outbound_.9080_._.ratings.bookinfo.svc.cluster.local";

pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Its process and its children.
    pub(crate) processes: Vec<u32>,
    _process: Process,
}

impl Peer {
    pub(crate) async fn start(name: &'static str, world: &World, service: &Service) -> Result<Self, String> {
        let port = ports::free().map_err(|error| error.to_string())?;
        let folder = world.folder.path();
        // As long as the one that the extension adds; nobody reads it here.
        let token = format!("Bearer {}", "x".repeat(700));
        let file = |text: String| -> Result<String, String> {
            let path = folder.join(format!("{name}.conf"));
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            Ok(path.display().to_string())
        };
        let mut command = match name {
            "extension" => {
                let mut command = Command::new("taskset");
                command.args(["-c", ITS_PROCESSOR]).arg(program("extension"));
                command.env_clear().envs(world.extension_environment("bookinfo-reviews", port, service.address)?);
                command
            }
            "haproxy" => {
                let mut command = pinned(ITS_PROCESSOR, "haproxy");
                command.args(["-f", &file(haproxy(port, service, &token))?]);
                command
            }
            "nginx" => {
                let mut command = pinned(ITS_PROCESSOR, "nginx");
                command.args(["-c", &file(nginx(port, service, &token, &folder.display().to_string()))?]);
                command
            }
            _ => {
                let path = folder.join("envoy.yaml");
                std::fs::write(&path, envoy(port, service, &token)).map_err(|error| error.to_string())?;
                let mut command = Command::new("taskset");
                command.args(["-c", ITS_PROCESSOR]).arg(tool("envoy")).arg("-c").arg(path);
                command.args(["--disable-hot-restart", "--concurrency", "1", "-l", "warning"]);
                command
            }
        };
        // The access log goes where nobody reads: a reader would take the processor's time.
        command.stdout(std::process::Stdio::null());
        let mut process = Process::start_silent(name, &mut command)?;
        let address = ports::loopback(port);
        process.listening(address).await?;
        let processes = family(process.id().unwrap_or_default());
        Ok(Self { name, address, processes, _process: process })
    }
}

/// A process and all that it has started, `taskset` and shells included: they have become the program.
fn family(process: u32) -> Vec<u32> {
    let mut found = vec![process];
    let path = format!("/proc/{process}/task/{process}/children");
    let children = std::fs::read_to_string(path).unwrap_or_default();
    found.extend(children.split_whitespace().filter_map(|id| id.parse().ok()).flat_map(family));
    found
}

fn haproxy(port: u16, service: &Service, token: &str) -> String {
    // With `verify required` HAProxy wants the SNI among the DNS names, as nginx does: it cannot check a SPIFFE ID either.
    format!(
        "global\n  nbthread 1\n  maxconn 4096\n  log stdout format raw local0\n  tune.ssl.default-dh-param 2048\n\
         defaults\n  mode http\n  log global\n  option httplog\n  option http-keep-alive\n  retries 2\n\
         \x20 retry-on conn-failure\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         frontend egress\n  bind 127.0.0.1:{port}\n  acl ratings hdr(host),field(1,:) -m str {HOST}\n\
         \x20 http-request deny deny_status 503 if !ratings\n  use_backend ratings\n\
         backend ratings\n  http-reuse always\n  http-request set-header Authorization \"{token}\"\n\
         \x20 server s {address} ssl crt {both} verify none sni str({SNI}) alpn http/1.1\n",
        address = service.address,
        both = service.both.display(),
    )
}

fn nginx(port: u16, service: &Service, token: &str, folder: &str) -> String {
    // nginx cannot check a SPIFFE ID; with `proxy_ssl_verify` it wants a DNS name, which an SVID has not.
    format!(
        "worker_processes 1;\ndaemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log /dev/null combined;\n  keepalive_requests 100000000;\n{temporary}\
         upstream ratings {{ server {address}; keepalive 64; keepalive_requests 100000000; }}\n\
         server {{\n    listen 127.0.0.1:{port} default_server;\n    return 503;\n  }}\n\
         server {{\n    listen 127.0.0.1:{port};\n    server_name {HOST};\n    location / {{\n\
         proxy_pass https://ratings;\n      proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n\
         proxy_set_header Host $http_host;\n      proxy_set_header Authorization \"{token}\";\n\
         proxy_next_upstream error timeout;\n      proxy_next_upstream_tries 3;\n\
         proxy_ssl_certificate {certificate};\n      proxy_ssl_certificate_key {key};\n\
         proxy_ssl_server_name on;\n      proxy_ssl_name {SNI};\n      proxy_ssl_protocols TLSv1.3;\n\
         proxy_ssl_session_reuse on;\n    }}\n  }}\n}}\n",
        temporary = temporary(folder),
        address = service.address,
        certificate = service.certificate.display(),
        key = service.key.display(),
    )
}

fn envoy(port: u16, service: &Service, token: &str) -> String {
    format!(
        r#"
static_resources:
  listeners:
    - name: egress
      address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: egress
                access_log:
                  - name: envoy.access_loggers.file
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
                      path: /dev/null
                route_config:
                  virtual_hosts:
                    - name: ratings
                      domains: ["{HOST}", "{HOST}:9080"]
                      request_headers_to_add:
                        - {{ header: {{ key: authorization, value: "{token}" }}, append_action: OVERWRITE_IF_EXISTS_OR_ADD }}
                      routes:
                        - match: {{ prefix: / }}
                          route:
                            cluster: ratings
                            timeout: 0s
                            retry_policy: {{ retry_on: "connect-failure,refused-stream", num_retries: 2 }}
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
    - name: ratings
      type: STATIC
      connect_timeout: 10s
      load_assignment:
        cluster_name: ratings
        endpoints:
          - lb_endpoints:
              - endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port_of_service} }} }} }}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
          sni: "{SNI}"
          common_tls_context:
            alpn_protocols: [http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates:
              - certificate_chain: {{ filename: "{certificate}" }}
                private_key: {{ filename: "{key}" }}
            validation_context:
              trusted_ca: {{ filename: "{root}" }}
              match_typed_subject_alt_names:
                - {{ san_type: URI, matcher: {{ exact: "spiffe://cluster.local/ns/bookinfo/sa/bookinfo-ratings" }} }}
"#,
        port_of_service = service.address.port(),
        certificate = service.certificate.display(),
        key = service.key.display(),
        root = service.root.display(),
    )
}
