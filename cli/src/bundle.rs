//! `causeway bundle`: Istio YAML in, one versioned, checksummed file out.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use istio::Resources;
use platform::bundle::Section;
use platform::clock::{Clock, SystemClock};

use crate::configuration::{self, Purpose, Read, ReadingArgs};
use crate::lint::{self, LintOptions, Severity};
use crate::revocations;
use crate::template::Templates;
use crate::terminal;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway bundle examples/bookinfo -o mesh.bundle
  causeway bundle examples/bookinfo --template template.yaml -o mesh.bundle --json

Examples with files of yours, and a network:
  causeway bundle policies/ --jwks https://issuer.bookinfo.example=jwks.json -o mesh.bundle
  causeway bundle policies/ --fetch --revocations revocations.jwt -o mesh.bundle
  causeway bundle policies/ --fetch --template template.yaml -o mesh.bundle

The mode is strict unless --mode says otherwise, and it is the bundle's from then on. --fetch embeds the key sets that
the policies name by jwksUri, or by an issuer alone; one that is unavailable refuses the bundle.

What `causeway lint` calls an error, with --template what `causeway lint --template` does, is refused unless
--allow-lint-errors is given.

--template reads AWS::Serverless::HttpApi and Api with the events of functions, AWS::ApiGatewayV2::*, AWS::ApiGateway::* and
OpenAPI documents in Body or DefinitionBody. A route without an authorizer is a warning where its API has a Lambda authorizer, or stands in
another stack. What may write routes and cannot be read (Fn::Transform, Fn::ForEach, DefinitionUri) is an error.

Exit status: 0 written; 1 the file cannot be written; 2 something is refused, and nothing is written.";

/// Lint errors that are shown, at most.
const MOST_LINT_ERRORS: usize = 20;

/// The options of `causeway bundle`.
#[derive(Args, Debug)]
pub struct BundleCommand {
    /// YAML files, or folders of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// A SAM or CloudFormation template with routes, stages and authorizers to embed; may be given several times
    #[arg(long, value_name = "FILE")]
    template: Vec<PathBuf>,
    /// Write the bundle although lint has findings of the level error
    #[arg(long)]
    allow_lint_errors: bool,
    /// A revocation list as its issuer signed it, to embed
    #[arg(long, value_name = "FILE")]
    revocations: Option<PathBuf>,
    /// Where to write the bundle
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs `causeway bundle`.
pub(crate) fn run(command: BundleCommand) -> ExitCode {
    if command.output.is_dir() {
        let folder = command.output.display();
        return terminal::refused(&[format!(
            "--output {folder} is a folder, expected a file such as mesh.bundle in it"
        )]);
    }
    let (bundle, resources, warnings) = match make(&command) {
        Ok(made) => made,
        Err(errors) => return terminal::refused(&errors),
    };
    for warning in &warnings {
        terminal::warn(warning);
    }
    // Those that were ignored by request have a warning.
    let ignored = |kind: &String| command.reading.allow_ignored.contains(kind);
    for skipped in resources.skipped.iter().filter(|skipped| !ignored(&skipped.kind)) {
        terminal::note(&said_of(skipped));
    }
    if let Err(error) = write(&command.output, &bundle) {
        return terminal::failed(&format!("cannot write {}: {error}", command.output.display()));
    }
    let (file, bytes, contents) = (command.output.display(), bundle.len(), Contents::of(&resources));
    if command.json {
        let skipped: Vec<serde_json::Value> = resources.skipped.iter().map(json_of).collect();
        let written = serde_json::json!({
            "file": file.to_string(), "bytes": bytes, "mode": command.reading.mode().as_str(),
            "access_policies": contents.access_policies, "authentications": contents.authentications,
            "routes": contents.routes, "egress_hosts": contents.egress_hosts,
            "warnings": warnings, "skipped": skipped,
        });
        terminal::line(&written.to_string());
    } else {
        terminal::line(&format!("wrote {file} ({bytes} bytes, {contents})"));
    }
    ExitCode::SUCCESS
}

/// A kind that is neither Istio's nor ours may well be one that matters to whoever wrote it, such as one of the Gateway API.
fn said_of(skipped: &istio::Skipped) -> String {
    let istio::Skipped { file, line, kind, name } = skipped;
    let name = if name.is_empty() { String::new() } else { format!(" {name}") };
    format!("{file}:{line}: skipped {kind}{name}: a document of this kind is not read")
}

fn json_of(skipped: &istio::Skipped) -> serde_json::Value {
    let istio::Skipped { file, line, kind, name } = skipped;
    serde_json::json!({"file": file, "line": line, "kind": kind, "name": name})
}

/// The bundle, what it was made of, and what is likely not what was meant.
fn make(command: &BundleCommand) -> Result<(Vec<u8>, Resources, Vec<String>), Vec<String>> {
    let mut templates = Templates::default();
    let read_templates: Vec<String> =
        command.template.iter().filter_map(|path| templates.add(path).err()).flatten().collect();
    let read = configuration::read(&command.paths, &command.reading, Purpose::Bundle);
    let Read { resources, compiled, mut warnings, idle_files } = match read {
        Ok(read) if read_templates.is_empty() => read,
        read => {
            let mut errors = read.err().unwrap_or_default();
            errors.extend(read_templates);
            return Err(errors);
        }
    };
    warnings.extend(idle_files.iter().map(ToString::to_string));
    warnings.append(&mut templates.warnings);
    let policies = authz::Policies::open(&compiled.section).map_err(|error| vec![error.to_string()])?;
    warnings.extend(lint_findings(command, &resources, &policies, &templates)?);
    let api = (!command.template.is_empty()).then(|| templates.finish().write());
    let api = api.transpose().map_err(|error| vec![format!("--template: {error}")])?;
    let revocations = match &command.revocations {
        None => None,
        Some(path) => {
            let read = revocations::read_signed(path, &policies, SystemClock.unix()).map_err(|error| vec![error])?;
            warnings.extend(read.1);
            Some(read.0)
        }
    };
    let more = [(Section::Api, api.as_deref()), (Section::Revocations, revocations.as_deref().map(str::as_bytes))];
    let (bundle, egress_warnings) = assemble(&resources, Ok(compiled.section), &more, now())?;
    warnings.extend(egress_warnings);
    Ok((bundle, resources, warnings))
}

/// What `causeway lint` finds: errors refuse the bundle, or are counted where that is asked for, as warnings are.
fn lint_findings(
    command: &BundleCommand,
    resources: &Resources,
    policies: &authz::Policies,
    templates: &Templates,
) -> Result<Vec<String>, Vec<String>> {
    let options = LintOptions { mode: command.reading.mode(), ..LintOptions::default() };
    let deployed = (!command.template.is_empty()).then_some((policies, templates));
    let findings = lint::lint(resources, deployed, &options);
    let of = |severity: Severity| findings.iter().filter(move |finding| finding.severity == severity);
    let see = if deployed.is_some() { "see `causeway lint --template`" } else { "see `causeway lint`" };
    let counted = |count: usize, what: &str| match count {
        0 => None,
        1 => Some(format!("1 lint {what}, {see}")),
        more => Some(format!("{more} lint {what}s, {see}")),
    };
    let errors = counted(of(Severity::Error).count(), "error");
    if let Some(count) = errors.as_ref().filter(|_| !command.allow_lint_errors) {
        let mut said: Vec<String> = of(Severity::Error).take(MOST_LINT_ERRORS).map(ToString::to_string).collect();
        said.push(format!("{count}; --allow-lint-errors writes the bundle all the same"));
        return Err(said);
    }
    Ok(errors.into_iter().chain(counted(of(Severity::Warning).count(), "warning")).collect())
}

/// Compiles `resources` into a bundle, in the strict mode. `jwks` are key sets to embed, by issuer or jwksUri.
pub fn build(resources: &Resources, jwks: BTreeMap<String, String>) -> Result<Vec<u8>, Vec<String>> {
    let options = authz::CompileOptions { jwks, ..authz::CompileOptions::default() };
    let access = configuration::compile(resources, &options);
    assemble(resources, access.map(|compiled| compiled.section), &[], now()).map(|(bundle, _)| bundle)
}

/// Puts the sections together, and says what of the traffic rules works otherwise than one might think; the errors of all
/// sections are in the result.
fn assemble(
    resources: &Resources,
    access: Result<Vec<u8>, Vec<String>>,
    more: &[(Section, Option<&[u8]>)],
    now: u64,
) -> Result<(Vec<u8>, Vec<String>), Vec<String>> {
    let egress = traffic::compile(resources);
    match (access, egress) {
        (Ok(access), Ok(egress)) => {
            let mut sections = vec![(Section::Access, access.as_slice()), (Section::Egress, egress.section.as_slice())];
            sections.extend(more.iter().filter_map(|(section, bytes)| bytes.map(|bytes| (*section, bytes))));
            let made = now.to_le_bytes();
            // A bundle without published keys is the same whenever it is made.
            if embeds_published_keys(&access)? {
                sections.push((Section::Made, &made));
            }
            let bundle = platform::bundle::write(&sections).map_err(|error| vec![error.to_string()])?;
            Ok((bundle, egress.warnings))
        }
        (access, egress) => {
            let mut errors = access.err().unwrap_or_default();
            errors.extend(egress.err().into_iter().flatten());
            Err(errors)
        }
    }
}

fn now() -> u64 {
    platform::clock::Clock::unix(&platform::clock::SystemClock)
}

fn embeds_published_keys(access: &[u8]) -> Result<bool, Vec<String>> {
    let policies = authz::Policies::open(access).map_err(|error| vec![error.to_string()])?;
    let mut sources = policies.key_sources();
    Ok(sources.any(|source| source.document.is_some() && source.jwks_uri.or(source.discovery).is_some()))
}

/// Writes beside the target and moves into place: a reader never sees half a bundle.
fn write(path: &Path, bundle: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Its sentence names a temporary file, which means nothing to whoever named another one.
    let nameless = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            std::io::Error::other(format!("there is no folder {}", folder.display()))
        }
        kind => std::io::Error::from(kind),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(nameless)?;
    std::io::Write::write_all(&mut file, bundle)?;
    // A temporary file is private to its owner; a layer's file is read by another user.
    file.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path)?;
    Ok(())
}

/// How much is in a bundle.
struct Contents {
    access_policies: usize,
    authentications: usize,
    routes: usize,
    egress_hosts: usize,
}

impl Contents {
    fn of(resources: &Resources) -> Self {
        Self {
            access_policies: resources.authorization_policies.len(),
            authentications: resources.request_authentications.len() + resources.api_key_authentications.len(),
            routes: resources.virtual_services.iter().map(|service| service.http.len()).sum(),
            egress_hosts: resources.service_entries.iter().map(|entry| entry.hosts.len()).sum(),
        }
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { access_policies, authentications, routes, egress_hosts } = self;
        write!(
            f,
            "{access_policies} access policies, {authentications} authentications, {routes} routes, {egress_hosts} \
             egress hosts"
        )
    }
}
