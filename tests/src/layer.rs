//! Layers, as `sam build` makes them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{program, root};

/// A layer in `folder`: the wrapper, and the extension under its name.
///
/// # Errors
/// When a file cannot be written.
pub fn extension(folder: &Path) -> Result<PathBuf, String> {
    let layer = folder.join("layer");
    std::fs::create_dir_all(layer.join("extensions")).map_err(|error| error.to_string())?;
    for (from, to) in [
        (program("extension"), "extensions/causeway"),
        (root().join("extension/layer/causeway-wrapper"), "causeway-wrapper"),
        (root().join("extension/layer/causeway-preload.cjs"), "causeway-preload.cjs"),
    ] {
        std::fs::copy(&from, layer.join(to)).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(layer)
}

/// Puts another extension into a layer, `tests/fixtures/observer`, with a wrapper of its own. `python` runs it.
///
/// # Errors
/// When a file cannot be written.
pub fn add_observer(layer: &Path, python: &str) -> Result<(), String> {
    copy("tests/fixtures/observer/observer.py", &layer.join("observer.py"))?;
    script(&layer.join("extensions/observer"), &format!("exec {python} /opt/observer.py \"$0\""))?;
    script(&layer.join("observer-wrapper"), "TEST_OBSERVED=yes\nexport TEST_OBSERVED\nexec \"$@\"")
}

/// Puts the bundle into a layer, where the extension looks for it.
///
/// # Errors
/// When it cannot be copied.
pub fn add_bundle(layer: &Path, bundle: &Path) -> Result<(), String> {
    std::fs::create_dir_all(layer.join("causeway")).map_err(|error| error.to_string())?;
    std::fs::copy(bundle, layer.join("causeway/mesh.bundle")).map_err(|error| error.to_string())?;
    Ok(())
}

/// The function `tests/fixtures/calls` in `folder`, with a runtime of its own: what becomes `/var/task`.
///
/// # Errors
/// When a file cannot be written.
pub fn function(folder: &Path) -> Result<PathBuf, String> {
    let task = folder.join("task");
    std::fs::create_dir_all(&task).map_err(|error| error.to_string())?;
    for name in ["app.py", "runtime.py", "bootstrap"] {
        copy(&format!("tests/fixtures/calls/{name}"), &task.join(name))?;
    }
    executable(&task.join("bootstrap"))?;
    Ok(task)
}

fn copy(from: &str, to: &Path) -> Result<(), String> {
    std::fs::copy(root().join(from), to).map_err(|error| format!("cannot copy {from}: {error}"))?;
    Ok(())
}

fn script(path: &Path, text: &str) -> Result<(), String> {
    let written = std::fs::write(path, format!("#!/bin/sh\n{text}\n"));
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    executable(path)
}

fn executable(path: &Path) -> Result<(), String> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())
}
