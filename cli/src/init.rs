//! `causeway init`: a commented starter configuration for one service, closed to everyone but whom it names.

mod access;
mod requests;
mod routes;
mod service;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::terminal;
use service::Service;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway init orders --service orders --namespace shop --host api.shop.example --issuer https://issuer.example
  causeway init ratings --service ratings --namespace shop --path '/ratings/*'
  causeway init orders --service orders --namespace shop --host api.shop.example   # exit 1, the files are there
  causeway init orders --service orders --namespace shop --host api.shop.example --force --json

With --host the service stands behind an API of API Gateway, and a request passes two hops: the gateway that the API
plays, and the service. Without it the service is called inside the mesh alone. Everything that is written selects the
workloads of this one service, by their label app, and the gateway, by the label causeway.dev/api, which no workload
should have; it changes nothing for others. What the policies do not allow is denied.

A second service behind an API that has its ApiGateway document already is made without --host, in a folder below the
first one's. The first one's gateway gets its route, its paths and its audience: docs/guides/protect-a-service.md.

A gateway.yaml that is there is not left behind: without --host it is an error, with --force too.

requests.jsonl holds requests with what must become of them, in `expect`. Its API key is an example that no key store
has.

Exit status: 0 written; 1 a file is there already, or cannot be written: nothing of it is changed; 2 a name is refused.";

/// The options of `causeway init`.
#[derive(Args, Debug)]
pub(crate) struct Init {
    /// The folder to write into, made if it is not there
    #[arg(value_name = "DIR", default_value = "policies")]
    folder: PathBuf,
    /// The service: the name of its Kubernetes Service, and the label `app` of its workloads
    #[arg(long, value_name = "NAME")]
    service: String,
    /// The namespace of the service; not the mesh's root namespace (istio-system, unless `rootNamespace` of the mesh
    /// configuration names another one), whose policies are for every namespace
    #[arg(long, value_name = "NS")]
    namespace: String,
    /// The host that clients call at API Gateway, such as api.shop.example; without it the service is called inside the
    /// mesh alone
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Who issues the tokens, exactly as their claim `iss` says it
    #[arg(long, value_name = "URL", default_value = "https://issuer.example")]
    issuer: String,
    /// The audience that tokens are made out for; the name of the service if it is not given
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,
    /// A path that may be called, with `/*` at its end for everything below; may be given several times; /NAME and /NAME/*
    /// if it is not given
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
    /// Overwrite the files that are there
    #[arg(long)]
    force: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// The file of the way in, which is written with a host alone.
const GATEWAY: &str = "gateway.yaml";

/// A file to write: its name in the folder, and its text.
type File = (&'static str, String);

/// Runs `causeway init`.
pub(crate) fn run(command: Init) -> ExitCode {
    let Init { folder, service, namespace, host, issuer, audience, paths, force, json } = command;
    let service = match Service::checked(service, namespace, host, issuer, audience, paths) {
        Ok(service) => service,
        Err(errors) => return terminal::refused(&errors),
    };
    let files = files(&service);
    if let Err(why) = write(&folder, &files, force) {
        return terminal::failed(&why);
    }
    let written: Vec<String> = files.iter().map(|(name, _)| folder.join(name).display().to_string()).collect();
    let next = next(&folder, &service);
    if json {
        terminal::line(&json!({"folder": folder.display().to_string(), "written": written, "next": next}).to_string());
        return ExitCode::SUCCESS;
    }
    for file in &written {
        terminal::line(&format!("wrote {file}"));
    }
    terminal::line("\nNext:");
    for command in &next {
        terminal::line(&format!("  {command}"));
    }
    terminal::line(&format!(
        "\n`evaluate` answers what {} expects. Then read the comments: what is yours to replace says REPLACE.",
        requests::NAME
    ));
    ExitCode::SUCCESS
}

fn files(service: &Service) -> Vec<File> {
    let mut files = vec![("access.yaml", access::text(service)), ("service.yaml", routes::service(service))];
    files.extend(service.host.as_deref().map(|host| (GATEWAY, routes::gateway(service, host))));
    files.push((requests::NAME, requests::text(service)));
    files
}

/// The commands that a person goes on with, for a shell.
fn next(folder: &Path, service: &Service) -> [String; 3] {
    let quoted = |path: &Path| {
        let text = path.display().to_string();
        // In front of a name like an option it says that there is none.
        let text = if text.starts_with('-') { format!("./{text}") } else { text };
        shlex::try_quote(&text).map_or_else(|_| text.clone(), |quoted| quoted.into_owned())
    };
    let (requests, folder) = (quoted(&folder.join(requests::NAME)), quoted(folder));
    [
        format!("causeway lint {folder} --deny all"),
        format!("causeway evaluate --config {folder} --requests {requests}"),
        format!("causeway bundle {folder} -o {}.bundle", service.name),
    ]
}

/// Writes all files or none that is there already.
fn write(folder: &Path, files: &[File], force: bool) -> Result<(), String> {
    let wrong = |path: &Path, error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if folder.exists() && !folder.is_dir() {
        return Err(format!("{} is a file, and init writes into a folder; name another one", folder.display()));
    }
    // A link counts, wherever it leads.
    let is_there = |name: &str| std::fs::symlink_metadata(folder.join(name)).is_ok();
    let found: Vec<&str> = files.iter().map(|(name, _)| *name).filter(|name| is_there(name)).collect();
    if !force && !found.is_empty() {
        let (found, folder) = (found.join(", "), folder.display());
        return Err(format!(
            "{folder} has {found} already, and nothing was written; name another folder, or use --force"
        ));
    }
    // It would stay in force beside an access.yaml without the first hop, and the way in would be open at that hop.
    if is_there(GATEWAY) && !files.iter().any(|(name, _)| *name == GATEWAY) {
        return Err(format!(
            "{} is there, no --host is given, and nothing was written; remove it, give --host or name another folder",
            folder.join(GATEWAY).display()
        ));
    }
    std::fs::create_dir_all(folder).map_err(|error| wrong(folder, error))?;
    for (name, text) in files {
        let path = folder.join(name);
        let new = || tempfile::Builder::new().permissions(readable()).tempfile_in(folder);
        let mut file = new().map_err(|error| wrong(&path, error))?;
        file.write_all(text.as_bytes()).map_err(|error| wrong(&path, error))?;
        // Whoever was faster keeps their file.
        let kept = if force { file.persist(&path) } else { file.persist_noclobber(&path) };
        kept.map_err(|error| wrong(&path, error.error))?;
    }
    Ok(())
}

/// What other people's editors and CI may read; the umask takes from it.
fn readable() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}
