//! What runs in a function's sandbox, seen from outside: its processes can be stopped and continued, as Lambda freezes
//! and thaws an environment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::process::Command;

use crate::process::PATIENCE;

/// The processes of one sandbox: extensions, runtime, and what they have started.
#[derive(Clone, Debug)]
pub struct Sandbox(Vec<u32>);

/// A process in the kernel's table.
struct Entry {
    name: String,
    state: char,
    parent: u32,
}

impl Sandbox {
    /// Everything below the emulator that runs somewhere below the process `root`.
    ///
    /// # Errors
    /// When there is no emulator, or nothing below it.
    pub fn below(root: u32) -> Result<Self, String> {
        let table = table();
        let emulator = descendants(&table, root).into_iter().find(|id| {
            let name = table.get(id).map(|entry| entry.name.as_str());
            // The kernel keeps 15 characters.
            name.is_some_and(|name| name.starts_with("aws-lambda-rie"))
        });
        let emulator = emulator.ok_or("found no emulator below the process")?;
        match descendants(&table, emulator) {
            processes if processes.is_empty() => Err("found an empty sandbox".to_owned()),
            processes => Ok(Self(processes.into_iter().collect())),
        }
    }

    /// Stops all of it; returns when everything stands still.
    ///
    /// # Errors
    /// When a process cannot be stopped.
    pub async fn freeze(&self) -> Result<(), String> {
        self.signal("STOP").await?;
        let still = async {
            loop {
                let table = table();
                // One that has ended meanwhile stands still as well.
                if self.0.iter().all(|id| table.get(id).is_none_or(|entry| matches!(entry.state, 'T' | 'Z'))) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, still).await.map_err(|_| "the sandbox does not stand still".to_owned())
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When a process cannot be continued.
    pub async fn thaw(&self) -> Result<(), String> {
        self.signal("CONT").await
    }

    async fn signal(&self, signal: &str) -> Result<(), String> {
        let ids = self.0.iter().map(ToString::to_string);
        let sent = Command::new("kill").arg(format!("-{signal}")).args(ids).status().await;
        sent.map(|_| ()).map_err(|error| format!("cannot signal the sandbox: {error}"))
    }
}

fn descendants(table: &BTreeMap<u32, Entry>, root: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = table
            .iter()
            .filter(|(id, entry)| found.contains(&entry.parent) && !found.contains(id))
            .map(|(id, _)| *id)
            .collect();
        if more.is_empty() {
            found.remove(&root);
            return found;
        }
        found.extend(more);
    }
}

fn table() -> BTreeMap<u32, Entry> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    ids.filter_map(|id| Some((id, entry(&std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?))).collect()
}

/// proc(5), /proc/PID/stat: `PID (NAME) STATE PARENT …`; the name may hold anything.
fn entry(stat: &str) -> Option<Entry> {
    let (before, after) = stat.rsplit_once(") ")?;
    let mut fields = after.split_ascii_whitespace();
    Some(Entry {
        name: before.split_once('(')?.1.to_owned(),
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}
