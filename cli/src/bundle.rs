//! `causeway bundle`: Istio YAML in, one versioned, checksummed file out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use istio::{Resources, SourceFile};
use platform::bundle::Section;

use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway bundle examples/bookinfo -o mesh.bundle
  causeway bundle policies/ --jwks https://issuer.bookinfo.example=jwks.json -o mesh.bundle";

/// The most configuration files of one run.
const MAX_FILES: usize = 10_000;

/// The options of `causeway bundle`.
#[derive(Args, Debug)]
pub struct BundleCommand {
    /// YAML files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Embed an issuer's key set, so that nothing is fetched for its tokens; may be given several times
    #[arg(long = "jwks", value_name = "ISSUER=FILE")]
    jwks: Vec<String>,
    /// Where to write the bundle
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs `causeway bundle`.
pub(crate) fn run(command: BundleCommand) -> ExitCode {
    let made = sources(&command.paths)
        .map_err(|error| vec![error])
        .and_then(|sources| parse(&sources))
        .and_then(|resources| Ok((read_jwks(&command.jwks)?, resources)))
        .and_then(|(jwks, resources)| Ok((build(&resources, jwks)?, resources)));
    let (bundle, resources) = match made {
        Ok(made) => made,
        Err(errors) => return terminal::refused(&errors),
    };
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

/// Reads the YAML files at `paths`, and in the folders among them, in the order of their names.
pub fn sources(paths: &[PathBuf]) -> Result<Vec<SourceFile>, String> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    if files.is_empty() {
        return Err("no .yaml or .yml file in the paths given".to_owned());
    }
    files
        .into_iter()
        .map(|path| {
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            Ok(SourceFile { name: path.display().to_string(), text })
        })
        .collect()
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let unreadable = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        files.push(path.to_owned());
    } else {
        let entries: Result<Vec<_>, _> =
            std::fs::read_dir(path).map_err(unreadable)?.map(|entry| entry.map(|e| e.path())).collect();
        let mut entries = entries.map_err(unreadable)?;
        entries.sort();
        for entry in entries {
            let is_yaml = entry.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
            if is_yaml || entry.is_dir() {
                collect(&entry, files)?;
            }
        }
    }
    if files.len() > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files"));
    }
    Ok(())
}

/// Parses `sources`; every error of every file is in the result.
pub fn parse(sources: &[SourceFile]) -> Result<Resources, Vec<String>> {
    istio::parse(sources).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Compiles `resources` into a bundle. `jwks` are key sets to embed, by issuer.
pub fn build(resources: &Resources, jwks: BTreeMap<String, String>) -> Result<Vec<u8>, Vec<String>> {
    let access = authz::compile(resources, &authz::CompileOptions { jwks, ..Default::default() });
    let egress = extension::routes::compile(resources);
    let (access, egress) = match (access, egress) {
        (Ok(access), Ok(egress)) => (access, egress),
        (access, egress) => {
            let mut errors: Vec<String> = Vec::new();
            errors.extend(access.err().into_iter().flatten().map(|error| error.to_string()));
            errors.extend(egress.err().into_iter().flatten().map(|error| error.to_string()));
            return Err(errors);
        }
    };
    platform::bundle::write(&[(Section::Access, &access.section), (Section::Egress, &egress)])
        .map_err(|error| vec![error.to_string()])
}

fn read_jwks(options: &[String]) -> Result<BTreeMap<String, String>, Vec<String>> {
    let read = |option: &String| {
        // An issuer is a URL and may hold `=`; a file name seldom does.
        let (issuer, file) =
            option.rsplit_once('=').ok_or_else(|| format!("--jwks {option:?}: expected ISSUER=FILE"))?;
        let text = std::fs::read_to_string(file).map_err(|error| format!("--jwks: cannot read {file}: {error}"))?;
        Ok((issuer.to_owned(), text))
    };
    options.iter().map(read).collect::<Result<_, String>>().map_err(|error| vec![error])
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
