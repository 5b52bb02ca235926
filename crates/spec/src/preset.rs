//! Presets: what rcc knows about an agent, as data. The format is described in `docs/presets.md`.
//!
//! Must not contain hosts of package registries: those come from the host's own tool configuration.

use serde::{Deserialize, Serialize};

use crate::document::{Document, Table, Value};
use crate::environment::EnvPattern;
use crate::error::{PolicyError, Problem};
use crate::origin::SourceName;
use crate::path::{PathBase, PathSpec};
use crate::policy::EnvSetting;
use crate::rule::Rule;
use crate::toml_policy::{env_pattern, read_env_set};

/// What rcc knows about one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentPreset {
    /// The name on the command line: `claude`.
    pub name: String,
    /// The name for people: `Claude Code`.
    pub title: String,
    /// The program, looked up in `PATH`.
    pub command: String,
    /// The npm package that contains it.
    pub npm_package: Option<String>,
    /// What to tell a user who does not have it and has no npm package to install.
    pub install_hint: Option<String>,
    /// The agent's own services.
    pub hosts: Vec<Rule>,
    /// Variables of the caller that it reads.
    pub env_pass: Vec<EnvPattern>,
    /// Variables that make it behave inside.
    pub env_set: Vec<EnvSetting>,
    /// What is copied from the real home into the agent home on first use (a login).
    pub import: Vec<StatePath>,
    /// What is bound from the real home with `share_state = true`.
    pub share: Vec<StatePath>,
    /// Parts of its state that the agent on the host executes or obeys; read-only with `share_state = true`.
    pub state_protected: Vec<StatePath>,
    /// Files of a project that the agent on the host executes or obeys; read-only inside.
    pub project_protected: Vec<StatePath>,
    /// Sentences worth showing, for instance by `rcc init`.
    pub hints: Vec<String>,
}

/// Whether a path is a file or a directory, which must be known before it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// A regular file.
    File,
    /// A directory with all below it; written with a slash at the end.
    Directory,
}

/// A path of an agent's state, below the home or below the project.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StatePath {
    /// The path.
    pub path: PathSpec,
    /// File or directory.
    pub kind: PathKind,
}

/// The presets that come with rcc, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("claude", include_str!("../presets/claude.toml")),
    ("codex", include_str!("../presets/codex.toml")),
    ("gemini", include_str!("../presets/gemini.toml")),
    ("opencode", include_str!("../presets/opencode.toml")),
    ("aider", include_str!("../presets/aider.toml")),
];

const TOP: &[&str] = &[
    "version", "name", "title", "command", "hints", "install", "network", "env", "state", "project",
];
const INSTALL: &[&str] = &["npm", "hint"];
const NETWORK: &[&str] = &["hosts"];
const ENV: &[&str] = &["pass", "set"];
const STATE: &[&str] = &["import", "share", "protected"];
const PROJECT: &[&str] = &["protected"];

impl AgentPreset {
    /// Names of the presets that come with rcc.
    pub fn builtin_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|&(name, _)| name)
    }

    /// Gives a preset that comes with rcc; none when there is no such.
    #[must_use]
    pub fn builtin(name: &str) -> Option<Self> {
        let &(name, text) = BUILT_IN.iter().find(|&&(known, _)| known == name)?;
        #[expect(
            clippy::expect_used,
            reason = "the text is part of the program, and a test parses every one"
        )]
        Some(
            Self::parse(text, &SourceName::preset(name))
                .expect("a preset that comes with rcc is valid"),
        )
    }

    /// Parses a preset, for instance from the user's configuration directory.
    ///
    /// # Errors
    /// The first fault, with file, line, column and key.
    pub fn parse(text: &str, source: &SourceName) -> Result<Self, PolicyError> {
        let document = Document::new(text, source);
        let parsed = document.parse()?;
        let top = Table::top(&document, &parsed, TOP, &[])?;
        top.check_version()?;
        let name = checked(
            &top.require("name")?,
            is_preset_name,
            "1 to 32 lower-case letters, digits and hyphens",
        )?;
        let command = checked(
            &top.require("command")?,
            is_command,
            "the name of a program, without a slash",
        )?;
        let mut preset = Self {
            title: text_of(&top, "title")?.unwrap_or_else(|| name.clone()),
            name,
            command,
            npm_package: None,
            install_hint: None,
            hosts: Vec::new(),
            env_pass: Vec::new(),
            env_set: Vec::new(),
            import: Vec::new(),
            share: Vec::new(),
            state_protected: Vec::new(),
            project_protected: Vec::new(),
            hints: list(&top, "hints", |value| value.text().map(str::to_owned))?,
        };
        preset.read_tables(&top)?;
        Ok(preset)
    }

    fn read_tables(&mut self, top: &Table<'_, '_>) -> Result<(), PolicyError> {
        if let Some(table) = top.table("install", INSTALL, &[])? {
            if let Some(value) = table.get("npm") {
                let expected = "the name of an npm package, such as `@scope/name`";
                self.npm_package = Some(checked(&value, is_npm_package, expected)?);
            }
            self.install_hint = text_of(&table, "hint")?;
        }
        if let Some(table) = top.table("network", NETWORK, &[])? {
            self.hosts = list(&table, "hosts", |value| {
                Rule::parse(value.text()?, value.preset_origin(&self.name)).map_err(|source| {
                    value.error(Problem::Rule {
                        key: value.path.clone(),
                        source,
                    })
                })
            })?;
        }
        if let Some(table) = top.table("env", ENV, &[])? {
            self.env_pass = list(&table, "pass", env_pattern)?;
            let set = table
                .get("set")
                .map(|value| read_env_set(&value))
                .transpose()?
                .unwrap_or_default();
            self.env_set = set.into_iter().map(|setting| setting.value).collect();
        }
        if let Some(table) = top.table("state", STATE, &[])? {
            self.import = list(&table, "import", home_path)?;
            self.share = list(&table, "share", home_path)?;
            self.state_protected = list(&table, "protected", home_path)?;
        }
        if let Some(table) = top.table("project", PROJECT, &[])? {
            self.project_protected = list(&table, "protected", project_path)?;
        }
        Ok(())
    }
}

/// Tells whether a text can be the name of a preset: `[a-z0-9-]{1,32}`, no hyphen first.
pub(crate) fn is_preset_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_command(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
}

/// The names that npm accepts for new packages, with an optional scope; no dot first, so no way out of a directory.
fn is_npm_package(text: &str) -> bool {
    let part = |text: &str| {
        !text.is_empty()
            && !text.starts_with(['.', '_', '-'])
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
    };
    match text.strip_prefix('@') {
        Some(scoped) => scoped
            .split_once('/')
            .is_some_and(|(scope, name)| part(scope) && part(name)),
        None => part(text),
    }
}

fn checked(
    value: &Value<'_, '_>,
    is_good: fn(&str) -> bool,
    expected: &'static str,
) -> Result<String, PolicyError> {
    let text = value.text()?;
    if is_good(text) {
        Ok(text.to_owned())
    } else {
        Err(value.error(Problem::Form {
            key: value.path.clone(),
            expected,
        }))
    }
}

fn text_of(table: &Table<'_, '_>, key: &'static str) -> Result<Option<String>, PolicyError> {
    table
        .get(key)
        .map(|value| value.text().map(str::to_owned))
        .transpose()
}

fn list<T>(
    table: &Table<'_, '_>,
    key: &'static str,
    read: impl Fn(&Value<'_, '_>) -> Result<T, PolicyError>,
) -> Result<Vec<T>, PolicyError> {
    let Some(value) = table.get(key) else {
        return Ok(Vec::new());
    };
    value.list()?.iter().map(read).collect()
}

fn home_path(value: &Value<'_, '_>) -> Result<StatePath, PolicyError> {
    state_path(value, PathBase::Home, "a path below `~/`")
}

fn project_path(value: &Value<'_, '_>) -> Result<StatePath, PolicyError> {
    state_path(
        value,
        PathBase::Project,
        "a path below the project, without a leading slash",
    )
}

fn state_path(
    value: &Value<'_, '_>,
    base: PathBase,
    expected: &'static str,
) -> Result<StatePath, PolicyError> {
    let text = value.text()?;
    let path = PathSpec::parse_plain(text).map_err(|source| {
        value.error(Problem::Path {
            key: value.path.clone(),
            source,
        })
    })?;
    if path.base() != base || path.relative().is_empty() {
        return Err(value.error(Problem::Form {
            key: value.path.clone(),
            expected,
        }));
    }
    let kind = if text.ends_with('/') {
        PathKind::Directory
    } else {
        PathKind::File
    };
    Ok(StatePath { path, kind })
}

#[cfg(test)]
mod tests;
