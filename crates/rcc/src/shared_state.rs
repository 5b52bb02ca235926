//! What an agent with the user's real state (`share_state`) changed in files that are settings and state in one, and which of
//! its protected parts, absent at the start, it made.
//!
//! Such a file has to be writable, and names servers and hooks that the agent outside starts. What is absent cannot be
//! covered without leaving a ghost file. Both are compared before and after. Must not change a file, and must not follow
//! what it names.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rcc_host::{Mark, mark, read_text};
use rcc_plan::{EntryKind, HostFacts, escape};
use rcc_spec::{AgentPreset, Policy};
use serde_json::Value;

use crate::output;

/// Largest state file that is read, in bytes.
const LIMIT_BYTES: usize = 32 << 20;
/// How deep settings are looked for: `projects.PATH.mcpServers` is three.
const DEPTH: usize = 4;
/// Settings that name programs, or decide which may run.
const TELLING: [&str; 8] = [
    "mcpServers",
    "hooks",
    "apiKeyHelper",
    "statusLine",
    "env",
    "permissions",
    "allowedTools",
    "enabledMcpjsonServers",
];

/// How the shared state was before the run.
#[derive(Debug, Default)]
pub(crate) struct SharedState {
    /// The telling settings of each file: the place in the file and the value.
    settings: BTreeMap<PathBuf, BTreeMap<String, Value>>,
    parts: Vec<Part>,
}

/// A part of the state that the agent outside runs or obeys.
#[derive(Debug)]
struct Part {
    /// As the preset writes it.
    shown: String,
    /// The directory that is shared, without links.
    root: PathBuf,
    below: PathBuf,
    before: Option<Mark>,
}

impl Part {
    /// How it is now: the part itself, or a link on the way to it.
    fn now(&self) -> Option<Mark> {
        let root = File::open(&self.root).ok()?;
        let mut at = PathBuf::new();
        for component in self.below.components() {
            at.push(component);
            let is_link = |path: &Path| path.symlink_metadata().is_ok_and(|data| data.is_symlink());
            if is_link(&self.root.join(&at)) {
                break;
            }
        }
        mark(root.as_fd(), &at)
    }
}

impl SharedState {
    /// Reads the shared files.
    pub(crate) fn of(policy: &Policy, preset: Option<&AgentPreset>, facts: &HostFacts) -> Self {
        let shared = preset.filter(|_| policy.files.share_state.value);
        let paths = shared.into_iter().flat_map(|preset| &preset.share);
        let files = paths
            .map(|state| facts.home.join(state.path.relative()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        Self {
            settings: files.map(|path| (path.clone(), settings(&path))).collect(),
            parts: shared
                .map(|preset| parts(preset, facts))
                .unwrap_or_default(),
        }
    }

    /// Tells what is new or different.
    pub(crate) fn tell(&self) {
        let changed = self.parts.iter().filter(|part| part.now() != part.before);
        for part in changed {
            output::warn(&format!(
                "{} was made or changed during the run; your agent outside runs or obeys it",
                escape(&part.shown)
            ));
        }
        for (path, before) in &self.settings {
            let now = settings(path);
            let changed = now
                .iter()
                .filter(|(place, value)| before.get(*place) != Some(value));
            let changed: Vec<String> = changed.map(|(place, _)| escape(place)).collect();
            if !changed.is_empty() {
                output::warn(&format!(
                    "the agent changed {} in {}; your agent outside starts or obeys what it names",
                    changed.join(", "),
                    escape(path)
                ));
            }
        }
    }
}

/// The protected parts of the directories that are shared.
fn parts(preset: &AgentPreset, facts: &HostFacts) -> Vec<Part> {
    let mut found = Vec::new();
    for shared in &preset.share {
        let Some((root, EntryKind::Directory)) =
            facts.resolved.get(Path::new(shared.path.as_str()))
        else {
            continue;
        };
        for part in &preset.state_protected {
            let below = Path::new(part.path.relative()).strip_prefix(shared.path.relative());
            let Some(below) = below.ok().filter(|below| !below.as_os_str().is_empty()) else {
                continue;
            };
            let mut part = Part {
                shown: part.path.as_str().to_owned(),
                root: root.clone(),
                below: below.to_owned(),
                before: None,
            };
            part.before = part.now();
            found.push(part);
        }
    }
    found
}

fn settings(path: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let text = match read_text(path, LIMIT_BYTES) {
        Ok(None) => return found,
        Ok(Some(content)) => content.text,
        // Told as a change when it could be read before.
        Err(_) => String::new(),
    };
    match serde_json::from_str(&text) {
        Ok(value) => collect(&value, String::new(), DEPTH, &mut found),
        Err(_) => {
            found.insert("everything".to_owned(), Value::Null);
        }
    }
    found
}

fn collect(value: &Value, place: String, depth: usize, found: &mut BTreeMap<String, Value>) {
    let Value::Object(entries) = value else {
        return;
    };
    for (key, value) in entries {
        let place = if place.is_empty() {
            key.clone()
        } else {
            format!("{place}.{key}")
        };
        let empty = match value {
            Value::Object(entries) => entries.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        };
        if TELLING.contains(&key.as_str()) {
            if !empty {
                found.insert(place, value.clone());
            }
        } else if depth > 0 {
            collect(value, place, depth - 1, found);
        }
    }
}
