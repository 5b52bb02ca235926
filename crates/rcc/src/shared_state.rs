//! What an agent with the user's real state (`share_state`) changed in files that are settings and state in one.
//!
//! Such a file has to be writable, and names servers and hooks that the agent outside starts. They are compared before and
//! after. Must not change the file, and must not follow what it names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rcc_host::read_text;
use rcc_plan::{HostFacts, escape};
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

/// The telling settings of each file: the place in the file and the value.
#[derive(Debug, Default)]
pub(crate) struct SharedState(BTreeMap<PathBuf, BTreeMap<String, Value>>);

impl SharedState {
    /// Reads the shared files.
    pub(crate) fn of(policy: &Policy, preset: Option<&AgentPreset>, facts: &HostFacts) -> Self {
        let shared = preset.filter(|_| policy.files.share_state.value);
        let paths = shared.into_iter().flat_map(|preset| &preset.share);
        let files = paths
            .map(|state| facts.home.join(state.path.relative()))
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"));
        Self(files.map(|path| (path.clone(), settings(&path))).collect())
    }

    /// Tells what is new or different.
    pub(crate) fn tell(&self) {
        for (path, before) in &self.0 {
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
