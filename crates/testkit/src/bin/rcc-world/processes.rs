//! Reads `/proc` of the world's pid namespace.
//!
//! Must not fail because a process ended meanwhile: what cannot be read any more is left out.

use std::collections::BTreeMap;

use rcc_testkit::world::wire::Process;

/// Gives the ids of all processes.
pub(crate) fn pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// Says whether a process is dead and only waits to be reaped, or gone.
pub(crate) fn is_zombie(pid: u32) -> bool {
    stat(pid).is_none_or(|(_, state, _)| matches!(state, 'Z' | 'X'))
}

/// Gives all processes.
pub(crate) fn all() -> Vec<Process> {
    pids().into_iter().filter_map(read).collect()
}

/// Gives everything below `root`, without it.
pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = pids()
        .into_iter()
        .filter_map(|pid| stat(pid).map(|(_, _, parent)| (pid, parent)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    found.split_off(1)
}

/// Reads one process.
pub(crate) fn read(pid: u32) -> Option<Process> {
    let (name, state, parent) = stat(pid)?;
    let command_line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command_line = String::from_utf8_lossy(&command_line)
        .trim_end_matches('\0')
        .replace('\0', " ");
    let mut namespaces = BTreeMap::new();
    if let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/ns")) {
        for entry in entries.filter_map(Result::ok) {
            if let Ok(link) = std::fs::read_link(entry.path()) {
                let name = entry.file_name().to_string_lossy().into_owned();
                namespaces.insert(name, link.to_string_lossy().into_owned());
            }
        }
    }
    Some(Process {
        pid,
        parent,
        name,
        state,
        command_line,
        namespaces,
    })
}

/// Reads comm, state and parent from `/proc/PID/stat` (proc(5)); comm may hold spaces and parentheses.
fn stat(pid: u32) -> Option<(String, char, u32)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let (head, tail) = text.rsplit_once(") ")?;
    let (_, name) = head.split_once(" (")?;
    let mut fields = tail.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    Some((name.to_owned(), state, parent))
}
