//! What `evaluate`, `explain`, `lint` and `bundle` have in common: the configuration that they read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use authz::compile::WAYPOINT_POLICIES;
use authz::{CompileOptions, Compiled, Jwks, KeyOrigin, KeySets, Mode, Policies};
use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};
use istio::{Resources, SourceFile};
use platform::bundle::{self, Bundle, Section};

use crate::files::{Content, open, unreadable};
use crate::terminal::Progress;

mod fetch;
mod idle_file;
mod paths;

pub(crate) use idle_file::{Idle, IdleFile};
use paths::files;

/// `--config`, and how it is read.
#[derive(Args, Debug)]
pub(crate) struct ConfigurationArgs {
    /// YAML files, folders of them, or one bundle; may be given several times
    #[arg(long = "config", required = true, num_args = 1.., value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) reading: ReadingArgs,
}

/// How YAML becomes policies.
#[derive(Args, Debug, Default)]
pub(crate) struct ReadingArgs {
    /// How strictly tokens are read: `strict` (the default) refuses more than Istio does, `istio` is parity with it
    #[arg(long, value_name = "MODE")]
    pub(crate) mode: Option<ModeName>,
    /// Skip documents of this kind, although they could change a verdict or a route; `WaypointPolicy` are policies with a
    /// targetRef to a Service or ServiceEntry, which only a waypoint enforces; may be given several times
    #[arg(long, value_name = "KIND",
        value_parser = PossibleValuesParser::new(istio::ignorable_kinds().chain([WAYPOINT_POLICIES])))]
    pub(crate) allow_ignored: Vec<String>,
    /// The key set of an issuer, or the one that a jwksUri would give; may be given several times
    #[arg(long, value_name = "ISSUER_OR_URI=FILE")]
    pub(crate) jwks: Vec<String>,
    /// Fetch the key sets that are neither inline nor given with --jwks; without it nothing goes over the network
    #[arg(long)]
    pub(crate) fetch: bool,
}

impl ReadingArgs {
    /// The mode, `strict` if none is given.
    pub(crate) fn mode(&self) -> Mode {
        self.mode.map_or(Mode::Strict, Mode::from)
    }
}

/// `--mode`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum ModeName {
    /// Parity with Istio
    Istio,
    /// The default
    Strict,
}

impl From<ModeName> for Mode {
    fn from(name: ModeName) -> Self {
        match name {
            ModeName::Istio => Self::Istio,
            ModeName::Strict => Self::Strict,
        }
    }
}

/// A configuration that is ready to be asked.
pub(crate) struct Loaded {
    /// The documents; absent when a bundle was given, which holds only what they compile to.
    #[allow(dead_code, reason = "explain and lint read it")]
    pub(crate) resources: Option<Resources>,
    /// The compiled policies.
    pub(crate) policies: Policies,
    /// The key sets at hand: inline, given with `--jwks`, or fetched.
    pub(crate) keys: KeySets,
    /// What was accepted and is likely not what was meant; one line each, with file and line where there is one.
    pub(crate) warnings: Vec<String>,
    /// Files that say nothing; [`warnings`](Self::warnings) has them not.
    pub(crate) idle_files: Vec<IdleFile>,
}

/// Reads, compiles and opens the configuration.
///
/// # Errors
/// Every reason why it is refused, a line each.
pub(crate) fn load(arguments: &ConfigurationArgs) -> Result<Loaded, Vec<String>> {
    let (mut warnings, mut idle_files) = (Vec::new(), Vec::new());
    let (resources, policies) = match arguments.paths.as_slice() {
        [path] if is_bundle(path) => (None, open_bundle(path, &arguments.reading)?),
        paths => {
            if let Some(bundle) = paths.iter().find(|path| is_bundle(path)) {
                return Err(vec![format!(
                    "{} is a bundle, which is read alone; leave out the other paths",
                    bundle.display()
                )]);
            }
            let read = read(paths, &arguments.reading, Purpose::Ask)?;
            (warnings, idle_files) = (read.warnings, read.idle_files);
            let policies = Policies::open(&read.compiled.section).map_err(|error| vec![error.to_string()])?;
            (Some(read.resources), policies)
        }
    };
    let mut keys = KeySets::embedded(&policies).map_err(|error| vec![error.to_string()])?;
    if resources.is_none() && arguments.reading.fetch {
        warnings.extend(fetch_missing(&policies, &mut keys));
    }
    Ok(Loaded { resources, policies, keys, warnings, idle_files })
}

/// Reads and compiles the traffic rules alone, or opens those of one bundle; with the warnings.
///
/// # Errors
/// Every reason why they are refused, a line each.
pub(crate) fn egress(
    paths: &[PathBuf],
    allow_ignored: &[String],
) -> Result<(traffic::Rules, Vec<String>), Vec<String>> {
    let refused = |path: &Path, why: String| vec![format!("{}: {why}", path.display())];
    if let [path] = paths
        && is_bundle(path)
    {
        let bundle = Bundle::open(path).map_err(|error| refused(path, error.to_string()))?;
        let section = bundle.section(Section::Egress).map_err(|error| refused(path, error.to_string()))?;
        let rules = traffic::Rules::open(section).map_err(|error| refused(path, error.to_string()))?;
        return Ok((rules, Vec::new()));
    }
    if let Some(bundle) = paths.iter().find(|path| is_bundle(path)) {
        return Err(vec![format!("{} is a bundle, which is read alone; leave out the other paths", bundle.display())]);
    }
    let sources = files(paths).and_then(|files| sources(files.read)).map_err(|error| vec![error])?;
    let compiled = traffic::compile(&parse(&sources, allow_ignored)?)?;
    let rules = traffic::Rules::open(&compiled.section).map_err(|error| vec![error.to_string()])?;
    Ok((rules, compiled.warnings))
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// To be asked here and now: key sets that cannot be fetched are a warning, and tokens that need them are refused.
    Ask,
    /// To be written down: what cannot be fetched would be missing for good, and what denies for lack of a provider
    /// would do so for good. Both are refused.
    Bundle,
}

/// Documents that were read and compiled.
pub(crate) struct Read {
    pub(crate) resources: Resources,
    pub(crate) compiled: Compiled,
    pub(crate) warnings: Vec<String>,
    /// Files that say nothing; [`warnings`](Self::warnings) has them not.
    pub(crate) idle_files: Vec<IdleFile>,
}

/// Reads and compiles the YAML files at `paths`.
///
/// # Errors
/// Every reason why they are refused, a line each.
pub(crate) fn read(paths: &[PathBuf], reading: &ReadingArgs, purpose: Purpose) -> Result<Read, Vec<String>> {
    let progress = Progress::of("reading the policies");
    let files = files(paths).map_err(|error| vec![error])?;
    let sources = sources(files.read).map_err(|error| vec![error])?;
    let resources = parse(&sources, &reading.allow_ignored)?;
    drop(progress);
    let nothing = resources == Resources::default();
    if nothing && purpose == Purpose::Bundle {
        return Err(vec![format!("no document in {}: a bundle of it would open every workload", names(&sources))]);
    }
    let mut jwks = given_jwks(&reading.jwks).map_err(|error| vec![error])?;
    let mut idle_files: Vec<IdleFile> = files.passed_over.iter().map(|path| IdleFile::not_read(path)).collect();
    let mut warnings = Vec::from_iter(if nothing {
        Some(format!("no document in {}: every workload is open", names(&sources)))
    } else {
        idle_files.extend(sources.iter().filter_map(IdleFile::empty));
        nothing_asked(&resources)
    });
    warnings.extend(unused_jwks(&resources, &jwks));
    let ignored = resources.skipped.iter().filter(|skipped| reading.allow_ignored.contains(&skipped.kind));
    warnings.extend(ignored.map(|istio::Skipped { file, line, kind, name }| {
        format!("{file}:{line}: {kind} {name} is ignored, although it could change a verdict or a route")
    }));
    if reading.fetch {
        let fetched = fetch::key_sets(&resources, &jwks);
        if purpose == Purpose::Bundle && !fetched.errors.is_empty() {
            return Err(fetched.errors);
        }
        warnings.extend(fetched.errors);
        jwks.extend(fetched.documents);
    }
    let _progress = Progress::of("compiling the policies");
    let allow_waypoint_policies = reading.allow_ignored.iter().any(|name| name == WAYPOINT_POLICIES);
    let mut options = CompileOptions { jwks, mode: reading.mode(), allow_waypoint_policies };
    let compiled = compile(&resources, &options)?;
    let said: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
    if purpose == Purpose::Bundle && options.mode == Mode::Istio {
        options.mode = Mode::Strict;
        // What Istio takes with a warning and the strict mode refuses, such as a provider that there is not.
        let said: BTreeSet<&String> = said.iter().collect();
        let refused = compile(&resources, &options).err().unwrap_or_default();
        let refused: Vec<String> = refused.into_iter().filter(|error| said.contains(error)).collect();
        if !refused.is_empty() {
            return Err(refused);
        }
    }
    warnings.extend(said);
    Ok(Read { resources, compiled, warnings, idle_files })
}

/// Reads the files.
fn sources(files: Vec<PathBuf>) -> Result<Vec<SourceFile>, String> {
    let source = |path: PathBuf| {
        let text = read_text(&path, istio::MAX_FILE_BYTES)?;
        let (name, limit) = (path.display().to_string(), istio::MAX_FILE_BYTES);
        if text.len() > limit {
            return Err(format!("{name}: more than {limit} bytes, the most of one file; split it"));
        }
        Ok(SourceFile { name, text })
    };
    files.into_iter().map(source).collect()
}

/// Without a policy every workload lets every request pass, which is seldom what was meant by files that are there.
fn nothing_asked(resources: &Resources) -> Option<String> {
    let nothing = "the files hold no AuthorizationPolicy: every workload lets every request pass";
    resources.authorization_policies.is_empty().then(|| nothing.to_owned())
}

/// The text of a file, and one byte more than `limit` at most: whoever parses it refuses that.
pub(crate) fn read_text(path: &Path, limit: usize) -> Result<String, String> {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    open(path)?.take(limit).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    if let Some(content @ (Content::Bundle | Content::Utf16)) = Content::of(bytes.get(..64).unwrap_or(&bytes)) {
        return Err(format!("{}: expected text in UTF-8, found {}", path.display(), content.said()));
    }
    if bytes.len() as u64 == limit {
        // The cut may lie inside a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let behind = before.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = String::from_utf8_lossy(behind).chars().count() + 1;
        let what = if error.as_bytes().contains(&0) { "it is no text file" } else { "save the file as UTF-8" };
        format!("{}:{line}:{column}: a byte that is not UTF-8; {what}", path.display())
    })
}

/// Parses `sources`; every error of every file is in the result. Documents of the kinds `allow_ignored` are skipped.
pub(crate) fn parse(sources: &[SourceFile], allow_ignored: &[String]) -> Result<Resources, Vec<String>> {
    let options = istio::ParseOptions { allow_ignored: allow_ignored.to_vec() };
    istio::parse_with(sources, &options).map_err(|errors| {
        let misplaced: Vec<(&str, String)> = sources.iter().filter_map(misplaced).collect();
        // Of a file that is something else altogether, one line says all.
        let is_said = |error: &&istio::ConfigError| misplaced.iter().all(|(name, _)| *name != error.file);
        let mut said: Vec<String> = errors.iter().filter(is_said).map(ToString::to_string).collect();
        let refused = |source: &&SourceFile| errors.iter().any(|error| error.file == source.name);
        said.extend(sources.iter().filter(refused).filter_map(unrendered));
        said.extend(misplaced.into_iter().map(|(_, why)| why));
        said
    })
}

/// A file that has another place: it would be refused, for it has no document, and for more than that.
fn misplaced(source: &SourceFile) -> Option<(&str, String)> {
    let content = Content::of(source.text.as_bytes()).filter(|content| *content != Content::Documents)?;
    let why = format!("{}: expected documents of Istio or Kubernetes, found {}", source.name, content.said());
    Some((&source.name, why))
}

/// A chart's template is no YAML yet, and what a reader of YAML says of it helps nobody.
fn unrendered(source: &SourceFile) -> Option<String> {
    let is_template = |line: &str| line.split_once("{{").is_some_and(|(_, rest)| rest.contains("}}"));
    let line = source.text.lines().position(is_template)? + 1;
    Some(format!("{}:{line}: `{{{{` looks like a template that was not rendered; render it first", source.name))
}

/// Compiles the access policies.
pub(crate) fn compile(resources: &Resources, options: &CompileOptions) -> Result<Compiled, Vec<String>> {
    authz::compile(resources, options).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// The files by their names, and no more than a line of them.
fn names(sources: &[SourceFile]) -> String {
    const MOST: usize = 4;
    let mut names: Vec<&str> = sources.iter().take(MOST).map(|source| source.name.as_str()).collect();
    if sources.len() > MOST {
        names.push("…");
    }
    names.join(", ")
}

/// The documents of `--jwks`, by issuer or URI.
fn given_jwks(options: &[String]) -> Result<BTreeMap<String, String>, String> {
    let mut documents = BTreeMap::new();
    for option in options {
        // Both an issuer and a URI may hold `=`; a file name seldom does.
        let (name, file) = option
            .rsplit_once('=')
            .filter(|(name, file)| !name.is_empty() && !file.is_empty())
            .ok_or_else(|| format!("--jwks {option:?}: expected ISSUER_OR_URI=FILE"))?;
        let text = read_text(Path::new(file), authz::jwk::MAX_BYTES).map_err(|error| format!("--jwks: {error}"))?;
        if documents.insert(name.to_owned(), text).is_some() {
            return Err(format!("--jwks: {name} is given twice"));
        }
    }
    Ok(documents)
}

/// A key set that no rule asks for is most likely a misspelt one.
fn unused_jwks(resources: &Resources, jwks: &BTreeMap<String, String>) -> Vec<String> {
    let rules = || resources.request_authentications.iter().flat_map(|authentication| &authentication.jwt_rules);
    let wanted = |name: &String| {
        rules()
            .filter(|rule| rule.jwks.is_none())
            .any(|rule| rule.issuer == *name || rule.jwks_uri.as_ref() == Some(name))
    };
    jwks.keys()
        .filter(|name| !wanted(name))
        .map(|name| format!("--jwks: no RequestAuthentication needs the keys of {name}"))
        .collect()
}

fn is_bundle(path: &Path) -> bool {
    let mut magic = [0; bundle::MAGIC.len()];
    path.is_file()
        && std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
        && magic == *bundle::MAGIC
}

/// Opens the policies of a bundle, which brings its mode and its keys along.
fn open_bundle(path: &Path, reading: &ReadingArgs) -> Result<Policies, Vec<String>> {
    let refused = |why: String| vec![format!("{}: {why}", path.display())];
    for (option, given) in
        [("--jwks", !reading.jwks.is_empty()), ("--allow-ignored", !reading.allow_ignored.is_empty())]
    {
        if given {
            return Err(refused(format!("{option} has no effect on a bundle; give it to `causeway bundle`")));
        }
    }
    let bundle = Bundle::open(path).map_err(|error| refused(error.to_string()))?;
    let section = bundle.section(Section::Access).map_err(|error| refused(error.to_string()))?;
    let policies = Policies::open(section).map_err(|error| refused(error.to_string()))?;
    if let Some(wanted) = reading.mode.map(Mode::from).filter(|wanted| *wanted != policies.mode()) {
        let (made, wanted) = (policies.mode().as_str(), wanted.as_str());
        return Err(refused(format!("it was made in the mode {made}, not {wanted}; make it again")));
    }
    Ok(policies)
}

/// Fetches the key sets that the policies of a bundle lack; what cannot be had is in the result.
fn fetch_missing(policies: &Policies, keys: &mut KeySets) -> Vec<String> {
    // The gate looks a set up by the URL that its rule names, or by the issuer's discovery document.
    let mut places: BTreeMap<&str, String> = BTreeMap::new();
    let mut discovered: BTreeMap<&str, &str> = BTreeMap::new();
    for source in policies.key_sources().filter(|source| source.document.is_none()) {
        match (source.jwks_uri, source.discovery) {
            (Some(uri), _) => drop(places.insert(uri, uri.to_owned())),
            (None, Some(document)) => drop(discovered.insert(source.issuer, document)),
            (None, None) => {}
        }
    }
    let (found, mut warnings) = fetch::discover(&discovered.keys().copied().collect());
    for (issuer, uri) in found {
        if let Some(document) = discovered.get(issuer) {
            places.insert(document, uri);
        }
    }
    let fetched = fetch::documents(&places.values().map(String::as_str).collect());
    let mut said = BTreeSet::new();
    for (place, uri) in &places {
        let document = fetched.get(uri.as_str()).cloned().unwrap_or_else(|| Err(format!("{uri}: not fetched")));
        let parsed =
            document.and_then(|text| Jwks::parse(&text, KeyOrigin::Fetched).map_err(|error| format!("{uri}: {error}")));
        match parsed {
            Ok(jwks) => keys.insert(place, Arc::new(jwks)),
            Err(why) => drop(said.insert(why)),
        }
    }
    warnings.extend(said);
    warnings
}
