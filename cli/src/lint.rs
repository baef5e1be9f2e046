//! `causeway lint`: what is accepted and is likely not what was meant.
//!
//! [`lint`] is a pure function of the documents. Each topic has a file with its codes, each documented by an example
//! that it finds and one that it does not, which are its tests as well, and one function `check`.

mod addresses;
mod api_gateway;
mod authentication;
mod claims;
mod client_certificates;
mod codes;
mod context;
mod custom;
mod denials;
mod domains;
mod effects;
mod ejections;
mod environments;
mod fields;
mod files;
mod finding;
mod namespaces;
mod negations;
mod operations;
mod patterns;
mod peers;
mod reach;
mod request_principals;
mod root_namespace;
mod route_settings;
#[cfg(test)]
mod routed_tests;
mod shadowed;
mod split_rules;
mod template;
#[cfg(test)]
mod tests;
mod words;
mod workloads;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use authz::Policies;
use clap::Args;
use istio::Resources;

use crate::configuration::{ConfigurationArgs, IdleFile, ReadingArgs, load};
use crate::template::Templates;
use crate::terminal;
pub(crate) use finding::{Finding, Severity};

use codes::{all, explanation, find};
use context::Context;
use finding::{Code, Findings};
use template::Deployment;

pub(crate) const EXAMPLES: &str = "Examples:
  causeway lint examples/bookinfo
  causeway lint --config examples/bookinfo --template template.yaml
  causeway lint --config examples/bookinfo --json --deny all --allow allow-anyone
  causeway lint --explain literal-star
  causeway lint --list --json

Exit status: 0 no finding is an error; 1 one is; 2 the configuration is refused, or a code is unknown.";

type Check = fn(&Context<'_>, &mut Findings);

/// Each topic: what it can find, and how.
const TOPICS: &[(&[&Code], Check)] = &[
    (addresses::CODES, addresses::check),
    (api_gateway::CODES, api_gateway::check),
    (authentication::CODES, authentication::check),
    (claims::CODES, claims::check),
    (client_certificates::CODES, client_certificates::check),
    (custom::CODES, custom::check),
    (denials::CODES, denials::check),
    (domains::CODES, domains::check),
    (effects::CODES, effects::check),
    (ejections::CODES, ejections::check),
    (environments::CODES, environments::check),
    (namespaces::CODES, namespaces::check),
    (negations::CODES, negations::check),
    (operations::CODES, operations::check),
    (patterns::CODES, patterns::check),
    (peers::CODES, peers::check),
    (request_principals::CODES, request_principals::check),
    (root_namespace::CODES, root_namespace::check),
    (route_settings::CODES, route_settings::check),
    (shadowed::CODES, shadowed::check),
    (split_rules::CODES, split_rules::check),
    (workloads::CODES, workloads::check),
];

/// The options of `causeway lint`.
#[derive(Args, Debug)]
pub(crate) struct Lint {
    /// YAML files, or folders of them
    #[arg(required_unless_present_any = ["config", "explain", "list"], value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The same, as the other commands take them; may be given several times
    #[arg(long, num_args = 1.., value_name = "PATH")]
    config: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// A SAM or CloudFormation template whose authorizers, routes and mappings are to fit the policies; may be given
    /// several times
    #[arg(long, value_name = "FILE")]
    template: Vec<PathBuf>,
    /// Print one JSON object a finding and nothing else
    #[arg(long)]
    json: bool,
    /// Make findings of this code errors, or those of `all`; may be given several times
    #[arg(long, value_name = "CODE|all")]
    deny: Vec<String>,
    /// Leave out findings of this code, whatever --deny says; may be given several times
    #[arg(long, value_name = "CODE")]
    allow: Vec<String>,
    /// Say what a code finds, why, and what to write instead
    #[arg(long, value_name = "CODE", conflicts_with_all = ["list", "paths", "config"])]
    explain: Option<String>,
    /// List every code
    #[arg(long, conflicts_with_all = ["paths", "config"])]
    list: bool,
}

/// What is looked for, and how seriously.
#[derive(Clone, Debug, Default)]
pub(crate) struct LintOptions {
    /// How strictly tokens are read.
    pub(crate) mode: authz::Mode,
    /// Codes whose findings become errors; `all` means every one.
    pub(crate) deny: BTreeSet<String>,
    /// Codes whose findings are left out.
    pub(crate) allow: BTreeSet<String>,
    /// Files that say nothing.
    pub(crate) idle_files: Vec<IdleFile>,
}

/// Everything in `resources` that is likely not what was meant, by file and line.
pub(crate) fn lint(
    resources: &Resources,
    deployed: Option<(&Policies, &Templates)>,
    options: &LintOptions,
) -> Vec<Finding> {
    let context = Context::new(resources, options.mode);
    let mut findings = Findings::default();
    for (_, check) in TOPICS {
        check(&context, &mut findings);
    }
    files::check(&options.idle_files, &mut findings);
    if let Some((policies, templates)) = deployed {
        let deployment = Deployment { policies, resources, templates };
        for (_, check) in template::TOPICS {
            check(&deployment, &mut findings);
        }
    }
    let mut findings = findings.sorted();
    findings.retain(|finding| !options.allow.contains(finding.code));
    for finding in &mut findings {
        if options.deny.contains("all") || options.deny.contains(finding.code) {
            finding.severity = Severity::Error;
        }
    }
    findings
}

/// Runs `causeway lint`.
pub(crate) fn run(command: Lint) -> ExitCode {
    let Lint { mut paths, config, reading, template, json, deny, allow, explain, list } = command;
    if list {
        for code in all() {
            if json {
                terminal::line(&codes::json(code));
                continue;
            }
            terminal::line(&format!("{:40} {:8} {}", code.name, code.severity.as_str(), code.what));
        }
        return ExitCode::SUCCESS;
    }
    if let Some(name) = explain {
        return match find(&name) {
            Some(code) => {
                terminal::line(&if json { codes::json(code) } else { explanation(code) });
                ExitCode::SUCCESS
            }
            None => terminal::refused(&[unknown_code(&name)]),
        };
    }
    let unknown: Vec<String> = allow
        .iter()
        .chain(deny.iter().filter(|name| *name != "all"))
        .filter(|name| find(name).is_none())
        .map(|name| unknown_code(name))
        .collect();
    if !unknown.is_empty() {
        return terminal::refused(&unknown);
    }
    paths.extend(config);
    let configuration = ConfigurationArgs { paths, reading };
    let loaded = match load(&configuration) {
        Ok(loaded) => loaded,
        Err(errors) => return terminal::refused(&errors),
    };
    let Some(resources) = loaded.resources else {
        return terminal::refused(&["lint reads YAML: a bundle holds only what it was compiled to".to_owned()]);
    };
    let options = LintOptions {
        mode: configuration.reading.mode(),
        deny: deny.into_iter().collect(),
        allow: allow.into_iter().collect(),
        idle_files: loaded.idle_files,
    };
    for warning in &loaded.warnings {
        terminal::note(warning);
    }
    let mut templates = Templates::default();
    let errors: Vec<String> = template.iter().filter_map(|path| templates.add(path).err()).flatten().collect();
    if !errors.is_empty() {
        return terminal::refused(&errors);
    }
    let deployed = (!template.is_empty()).then_some((&loaded.policies, &templates));
    let mut findings = lint(&resources, deployed, &options);
    // What is worst comes first, file by file.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    report(&findings, json)
}

fn report(findings: &[Finding], json: bool) -> ExitCode {
    for finding in findings {
        if json {
            match serde_json::to_string(finding) {
                Ok(line) => terminal::line(&line),
                Err(error) => return terminal::failed(&format!("cannot write a finding: {error}")),
            }
        } else {
            terminal::line(&finding.to_string());
        }
    }
    let count = |severity: Severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let errors = count(Severity::Error);
    if !json {
        let (warnings, infos) = (count(Severity::Warning), count(Severity::Info));
        let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (errors, warnings, infos) =
            (counted(errors, "error"), counted(warnings, "warning"), counted(infos, "info"));
        terminal::note(&format!("{errors}, {warnings}, {infos}; `--explain CODE` says more"));
    }
    if errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn unknown_code(name: &str) -> String {
    match words::nearest(name, all().iter().map(|code| code.name)) {
        Some(near) => format!("lint knows no code `{name}`; did you mean `{near}`?"),
        None => format!("lint knows no code `{name}`; `causeway lint --list` has them all"),
    }
}
