//! The service behind the proxies: nginx with ratings' SVID, which wants a client certificate of the mesh.

use std::net::SocketAddr;
use std::path::PathBuf;

use e2e::process::Process;
use e2e::world::World;
use e2e::{ports, root};
use tokio::process::Command;

/// The processor of the load and of the service.
pub(crate) const ITS_PROCESSOR: &str = "1";

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    /// The caller's chain and key, in files and in one (HAProxy).
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) both: PathBuf,
    /// The mesh's root.
    pub(crate) root: PathBuf,
    _process: Process,
}

impl Service {
    pub(crate) async fn start(world: &World) -> Result<Self, String> {
        let folder = world.folder.path();
        let write = |name: &str, text: &[u8]| -> Result<PathBuf, String> {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            Ok(path)
        };
        let (server, server_key) = world.svid("bookinfo-ratings").await?;
        let root = write("bench-root.pem", world.roots.as_bytes())?;
        let content = folder.join("content/ratings");
        std::fs::create_dir_all(&content).map_err(|error| error.to_string())?;
        std::fs::write(content.join("1k"), vec![b'x'; 1024]).map_err(|error| error.to_string())?;
        std::fs::write(content.join("64k"), vec![b'x'; 64 * 1024]).map_err(|error| error.to_string())?;
        let port = ports::free().map_err(|error| error.to_string())?;
        let configuration = format!(
            "worker_processes 1;\ndaemon off;\npid {folder}/service.pid;\nerror_log stderr warn;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 100000000;\n  keepalive_timeout 600s;\n\
             {temporary}\
             \n  open_file_cache max=16 inactive=600s;\n  open_file_cache_valid 600s;\n\
             server {{\n    listen 127.0.0.1:{port} ssl http2;\n    ssl_certificate {server};\n\
             ssl_certificate_key {server_key};\n    ssl_client_certificate {root};\n    ssl_verify_client on;\n\
             ssl_verify_depth 3;\n    ssl_protocols TLSv1.3;\n    root {folder}/content;\n  }}\n}}\n",
            folder = folder.display(),
            temporary = temporary(&folder.display().to_string()),
            server = server.display(),
            server_key = server_key.display(),
            root = root.display(),
        );
        let configuration = write("service.conf", configuration.as_bytes())?;
        let mut process = Process::start("service", pinned(ITS_PROCESSOR, "nginx").arg("-c").arg(&configuration))?;
        let address = ports::loopback(port);
        process.listening(address).await?;
        let (certificate, key) = world.svid("bookinfo-reviews").await?;
        let text = |path: &PathBuf| std::fs::read(path).map_err(|error| error.to_string());
        let mut both = text(&certificate)?;
        both.extend(text(&key)?);
        let both = write("bench-client.pem", &both)?;
        Ok(Self { address, certificate, key, both, root, _process: process })
    }
}

/// Where nginx may write without being root.
pub(crate) fn temporary(folder: &str) -> String {
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {folder}/{name};\n"))
        .concat()
}

/// A program of `tests/tools/peer` on one processor.
pub(crate) fn pinned(processor: &str, program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", processor]).arg(root().join("tests/tools/peer")).arg(program);
    command
}
