//! A share of one processor for a process, as Lambda gives it by memory size.

use std::path::{Path, PathBuf};

/// "At 1,769 MB, a function has the equivalent of one vCPU"
/// <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>
pub(crate) const WHOLE_PROCESSOR_MB: u32 = 1_769;

/// The kernel shares out processor time in pieces of this length. Lambda does not document its own.
const PERIOD_US: u32 = 20_000;

/// A control group with a quota. It is removed with this.
pub(crate) struct Quota {
    group: PathBuf,
    home: PathBuf,
}

impl Quota {
    /// The share of a function with this memory.
    ///
    /// # Errors
    /// Why there can be none on this machine.
    pub(crate) fn of(memory_mb: u32) -> Result<Self, String> {
        let membership = std::fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
        let quota = (u64::from(PERIOD_US) * u64::from(memory_mb) / u64::from(WHOLE_PROCESSOR_MB)).to_string();
        let (root, own, settings) = match controller(&membership) {
            Some((mount, own)) => {
                let settings = vec![("cpu.cfs_period_us", PERIOD_US.to_string()), ("cpu.cfs_quota_us", quota)];
                (PathBuf::from("/sys/fs/cgroup").join(mount), own, settings)
            }
            None => {
                let own = membership.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
                (PathBuf::from("/sys/fs/cgroup"), own, vec![("cpu.max", format!("{quota} {PERIOD_US}"))])
            }
        };
        let group = root.join(format!("causeway-bench-{}", std::process::id()));
        let wrong =
            |what: &Path, error: std::io::Error| format!("no processor quota here: {}: {error}", what.display());
        std::fs::create_dir_all(&group).map_err(|error| wrong(&group, error))?;
        let made = Self { home: root.join(own.trim_start_matches('/')), group };
        for (file, value) in settings {
            let file = made.group.join(file);
            std::fs::write(&file, value).map_err(|error| wrong(&file, error))?;
        }
        Ok(made)
    }

    /// Runs `start` inside: a process that it starts stays there, this one does not.
    pub(crate) fn start<T>(&self, start: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        enter(&self.group)?;
        let started = start();
        enter(&self.home)?;
        started
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.group);
    }
}

/// Mount and own group of the controller `cpu` of version 1.
fn controller(membership: &str) -> Option<(&str, &str)> {
    membership.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, own) = (parts.next()?, parts.next()?);
        controllers.split(',').any(|controller| controller == "cpu").then_some((controllers, own))
    })
}

/// 0 is whoever writes it.
fn enter(group: &Path) -> Result<(), String> {
    let file = group.join("cgroup.procs");
    std::fs::write(&file, "0").map_err(|error| format!("no processor quota here: {}: {error}", file.display()))
}
