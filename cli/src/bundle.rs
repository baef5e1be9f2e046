//! `causeway bundle`: Istio YAML in, one versioned, checksummed file out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use istio::Resources;
use platform::bundle::Section;

use crate::configuration::{self, FailedFetch, Read, ReadingArgs};
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway bundle examples/bookinfo -o mesh.bundle
  causeway bundle policies/ --jwks https://issuer.bookinfo.example=jwks.json -o mesh.bundle";

/// The options of `causeway bundle`.
#[derive(Args, Debug)]
pub struct BundleCommand {
    /// YAML files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Where to write the bundle
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs `causeway bundle`.
pub(crate) fn run(command: BundleCommand) -> ExitCode {
    // What cannot be fetched now would be missing in the bundle for good.
    let read = configuration::read(&command.paths, &command.reading, FailedFetch::Refuse);
    let made = read.and_then(|Read { resources, compiled, warnings }| {
        Ok((assemble(&resources, Ok(compiled.section))?, resources, warnings))
    });
    let (bundle, resources, warnings) = match made {
        Ok(made) => made,
        Err(errors) => return terminal::refused(&errors),
    };
    for warning in &warnings {
        terminal::warn(warning);
    }
    for skipped in &resources.skipped {
        let istio::Skipped { file, line, kind, name } = skipped;
        terminal::note(&format!("{file}:{line}: skipped {kind} {name}, which changes neither a verdict nor a route"));
    }
    if let Err(error) = write(&command.output, &bundle) {
        return terminal::failed(&format!("cannot write {}: {error}", command.output.display()));
    }
    terminal::line(&format!("wrote {} ({} bytes, {})", command.output.display(), bundle.len(), contents(&resources)));
    ExitCode::SUCCESS
}

/// Compiles `resources` into a bundle, in the strict mode. `jwks` are key sets to embed, by issuer or jwksUri.
pub fn build(resources: &Resources, jwks: BTreeMap<String, String>) -> Result<Vec<u8>, Vec<String>> {
    let access = configuration::compile(resources, jwks, authz::Mode::Strict);
    assemble(resources, access.map(|compiled| compiled.section))
}

/// Puts the sections together; the errors of all of them are in the result.
fn assemble(resources: &Resources, access: Result<Vec<u8>, Vec<String>>) -> Result<Vec<u8>, Vec<String>> {
    let egress = extension::routes::compile(resources);
    match (access, egress) {
        (Ok(access), Ok(egress)) => platform::bundle::write(&[(Section::Access, &access), (Section::Egress, &egress)])
            .map_err(|error| vec![error.to_string()]),
        (access, egress) => {
            let mut errors = access.err().unwrap_or_default();
            errors.extend(egress.err().into_iter().flatten().map(|error| error.to_string()));
            Err(errors)
        }
    }
}

/// Writes beside the target and moves into place: a reader never sees half a bundle.
fn write(path: &Path, bundle: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    std::io::Write::write_all(&mut file, bundle)?;
    // A temporary file is private to its owner; a layer's file is read by another user.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

fn contents(resources: &Resources) -> String {
    format!(
        "{} access policies, {} authentications, {} routes, {} egress hosts",
        resources.authorization_policies.len(),
        resources.request_authentications.len() + resources.api_key_authentications.len(),
        resources.virtual_services.iter().map(|service| service.http.len()).sum::<usize>(),
        resources.service_entries.iter().map(|entry| entry.hosts.len()).sum::<usize>(),
    )
}
