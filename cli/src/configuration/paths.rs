//! Which files `--config` means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::idle_file;
use crate::files::unreadable;

/// The most configuration files of one run.
const MAX_FILES: usize = 10_000;

/// The files of a configuration.
#[derive(Default)]
pub(super) struct Files {
    /// Those that are read, in the order of their names.
    pub(super) read: Vec<PathBuf>,
    /// Those of a folder whose names are not those of YAML, and which `kubectl` or a careless editor could have meant.
    pub(super) passed_over: Vec<PathBuf>,
    /// Files and folders that were seen, by their real paths: links may lead in a circle.
    seen: BTreeSet<PathBuf>,
}

/// The files at `paths`, and the YAML files in the folders among them. A file that is reached by several ways is read
/// once: a mounted ConfigMap has each under two names.
pub(super) fn files(paths: &[PathBuf]) -> Result<Files, String> {
    let mut files = Files::default();
    for path in paths {
        if path.as_os_str() == "-" {
            return Err("--config reads files and folders, not standard input; give it a file".to_owned());
        }
        collect(path, &mut files)?;
    }
    if files.read.is_empty() {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(format!(
            "no .yaml or .yml file in {}; name the folder that has the policies, or begin with `causeway init`",
            paths.join(", ")
        ));
    }
    Ok(files)
}

fn collect(path: &Path, files: &mut Files) -> Result<(), String> {
    let unreadable = |error: std::io::Error| unreadable(path, &error);
    let is_folder = std::fs::metadata(path).map_err(unreadable)?.is_dir();
    // What has no real path, such as a pipe, is what it is called.
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if !files.seen.insert(real) {
        return Ok(());
    }
    if !is_folder {
        files.read.push(path.to_owned());
    } else {
        let entries: Result<Vec<_>, _> =
            std::fs::read_dir(path).map_err(unreadable)?.map(|entry| entry.map(|e| e.path())).collect();
        let mut entries = entries.map_err(unreadable)?;
        entries.sort();
        for entry in entries {
            if idle_file::is_read(&entry) || entry.is_dir() {
                collect(&entry, files)?;
            } else if idle_file::is_meant(&entry) {
                files.passed_over.push(entry);
            }
        }
    }
    if files.read.len().max(files.passed_over.len()) > MAX_FILES {
        return Err(format!("more than {MAX_FILES} files in the paths given"));
    }
    Ok(())
}
