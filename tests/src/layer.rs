//! Layers, as `sam build` makes them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{program, root, tool};

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
    ] {
        std::fs::copy(&from, layer.join(to)).map_err(|error| format!("cannot copy {}: {error}", from.display()))?;
    }
    Ok(layer)
}

/// The same with another extension beside it, `tests/fixtures/observer`, and a wrapper of its own.
///
/// # Errors
/// When a file cannot be written.
pub fn with_observer(folder: &Path) -> Result<PathBuf, String> {
    let layer = extension(folder)?;
    let source = root().join("tests/fixtures/observer/observer.py");
    let program = format!("#!/bin/sh\nexec '{}' '{}' \"$0\"\n", tool("python3").display(), source.display());
    let wrapper = "#!/bin/sh\nTEST_OBSERVED=yes\nexport TEST_OBSERVED\nexec \"$@\"\n".to_owned();
    for (name, text) in [("extensions/observer", program), ("observer-wrapper", wrapper)] {
        let path = layer.join(name);
        std::fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, executable).map_err(|error| error.to_string())?;
    }
    Ok(layer)
}
