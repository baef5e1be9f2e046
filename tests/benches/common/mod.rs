//! What the benches share: figures as tables, the functions that are compared, and what starts them.

pub(crate) mod cold;
pub(crate) mod emulator;
pub(crate) mod figures;
pub(crate) mod http;
pub(crate) mod policies;
pub(crate) mod runtime_api;

use std::path::{Path, PathBuf};

/// Variables of a process.
pub(crate) type Environment = Vec<(String, String)>;

/// Prints its tables, or says why it cannot.
pub(crate) type Section<'a> = &'a dyn Fn() -> Result<(), String>;

/// The two programs that are compared, with what each needs in its environment; bare comes first.
pub(crate) type Functions<'a> = [(&'a Path, Environment); 2];

/// The least that a Lambda function can be.
pub(crate) fn bare() -> PathBuf {
    e2e::program("bare")
}

/// Bare, and one of ours.
///
/// # Errors
/// When one of them was not built.
pub(crate) fn functions<'a>(bare: &'a Path, ours: &'a Path, environment: Environment) -> Result<Functions<'a>, String> {
    for program in [bare, ours] {
        if !program.exists() {
            return Err(format!("{} is not there; `make bench` builds it", program.display()));
        }
    }
    Ok([(bare, Vec::new()), (ours, environment)])
}

/// Prints every section, or those whose names begin like an argument (`cargo bench -p e2e --bench authorizer --
/// memory`); what cannot be run is skipped, and says so.
pub(crate) fn run(sections: &[(&str, Section<'_>)]) {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, section) in sections {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.starts_with(wanted.as_str())) {
            continue;
        }
        if let Err(why) = section() {
            println!("\nskipped: {name}: {why}");
        }
    }
}

/// `cargo test --benches` asks for a list of tests.
pub(crate) fn is_asked_for_tests() -> bool {
    std::env::args().any(|argument| argument == "--list")
}
