//! Reads `rcc.toml` and its brothers into a [`PolicyLayer`].
//!
//! Must not merge, and must not fill in defaults: what the file does not say stays unsaid. An empty list is said.

use crate::document::{Document, KeyHomes, Table, Value};
use crate::environment::{EnvName, EnvPattern, check_env_value};
use crate::error::{MODE_WORDS, PolicyError, Problem};
use crate::limits::{Limit, LimitKey, Limits, Quantity};
use crate::network::NetworkMode;
use crate::origin::{SourceName, Sourced};
use crate::path::{PathError, PathSpec};
use crate::policy::{EnvSetting, FilesMode, PolicyLayer, SeccompChoice};
use crate::registries::PackageManager;
use crate::rule::{Effect, Rule};
use crate::size::ByteSize;
use crate::upstream_proxy::CredentialsFrom;

/// Whose file it is; decides which tables are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerKind {
    /// `/etc/rcc/config.toml`; may have `[ceiling]`.
    Admin,
    /// The user's configuration file.
    User,
    /// `rcc.toml` of a project, written by whoever wrote the repository.
    Project,
}

const TOP: &[&str] = &[
    "version",
    "network",
    "files",
    "env",
    "limits",
    "hardening",
    "agent",
    "ceiling",
];
const NETWORK: &[&str] = &[
    "mode",
    "allow",
    "deny",
    "allow_files",
    "presets",
    "ask",
    "ask_timeout",
    "host_ports",
    "publish",
    "upstream_proxy",
    "upstream_proxy_credentials_file",
    "upstream_proxy_credentials_env",
    "upstream_proxy_except",
];
/// Keys of `[network]` that a project's file must not have: its author would choose who reads the traffic.
const NOT_FOR_PROJECTS: &[&str] = &[
    "upstream_proxy",
    "upstream_proxy_credentials_file",
    "upstream_proxy_credentials_env",
    "upstream_proxy_except",
];
/// Longest and shortest time that a connection waits for an answer, in seconds.
const ASK_TIMEOUT_SECONDS: std::ops::RangeInclusive<u64> = 1..=3600;
const FILES: &[&str] = &[
    "mode",
    "readonly",
    "rw",
    "hidden",
    "share_state",
    "snapshot",
    "snapshot_limit",
];
const ENV: &[&str] = &["pass", "set"];
const LIMITS: &[&str] = &[
    "memory",
    "memory_high",
    "memory_low",
    "swap",
    "cpus",
    "cpu_weight",
    "pids",
    "io_read",
    "io_write",
    "io_weight",
    "tmp_size",
    "disk_free",
    "layer_size",
    "home_size",
    "timeout",
    "idle_timeout",
];
const HARDENING: &[&str] = &[
    "seccomp",
    "dangerously_without_landlock",
    "dangerously_without_protected_paths",
];
const SECCOMP_TABLE: &[&str] = &["profile"];
const SECCOMP_WORDS: &[&str] = &["default", "strict"];
const AGENT: &[&str] = &["preset", "args", "preset_hosts"];
const CEILING: &[&str] = &["mode", "limits"];

/// Every key by table, for the hint that a key belongs elsewhere.
const HOMES: KeyHomes = &[
    ("network", NETWORK),
    ("files", FILES),
    ("env", ENV),
    ("limits", LIMITS),
    ("hardening", HARDENING),
    ("agent", AGENT),
];

/// Parses a policy file.
///
/// # Errors
/// The first fault, with file, line, column, key, and what was probably meant.
pub fn parse_toml(
    text: &str,
    source: &SourceName,
    kind: LayerKind,
) -> Result<PolicyLayer, PolicyError> {
    let document = Document::new(text, source);
    let parsed = document.parse()?;
    let top = Table::top(&document, &parsed, TOP, HOMES)?;
    top.check_version()?;
    let mut layer = PolicyLayer::default();
    if let Some(table) = top.table("network", NETWORK, HOMES)? {
        read_network(&mut layer, &table)?;
        read_upstream_proxy(&mut layer, &table, kind)?;
    }
    if let Some(table) = top.table("files", FILES, HOMES)? {
        layer.files_mode = table
            .get("mode")
            .map(|value| read_files_mode(&value))
            .transpose()?;
        layer.readonly = list(&table, "readonly", granted_path)?;
        layer.rw = list(&table, "rw", granted_path)?;
        layer.hidden = list(&table, "hidden", hidden_path)?;
        layer.share_state = switch(&table, "share_state")?;
        layer.snapshot = switch(&table, "snapshot")?;
        layer.snapshot_limit = table
            .get("snapshot_limit")
            .map(|value| read_size(&value))
            .transpose()?;
    }
    if let Some(table) = top.table("env", ENV, HOMES)? {
        layer.env_pass = list(&table, "pass", env_pattern)?;
        layer.env_set = table
            .get("set")
            .map(|value| read_env_set(&value))
            .transpose()?
            .unwrap_or_default();
    }
    if let Some(table) = top.table("limits", LIMITS, HOMES)? {
        layer.limits = read_limits(&table)?;
    }
    if let Some(table) = top.table("hardening", HARDENING, HOMES)? {
        layer.seccomp = table
            .get("seccomp")
            .map(|value| read_seccomp(&value))
            .transpose()?;
        layer.dangerously_without_landlock = switch(&table, "dangerously_without_landlock")?;
        layer.dangerously_without_protected_paths =
            switch(&table, "dangerously_without_protected_paths")?;
    }
    if let Some(table) = top.table("agent", AGENT, HOMES)? {
        read_agent(&mut layer, &table)?;
    }
    if let Some(table) = top.table("ceiling", CEILING, &[])? {
        if kind != LayerKind::Admin {
            return Err(table.error(Problem::AdminOnly { key: "ceiling" }));
        }
        layer.ceiling_mode = table
            .get("mode")
            .map(|value| read_mode(&value))
            .transpose()?;
        if let Some(limits) = table.table("limits", LIMITS, &[])? {
            layer.ceiling_limits = read_limits(&limits)?;
        }
    }
    Ok(layer)
}

fn read_network(layer: &mut PolicyLayer, table: &Table<'_, '_>) -> Result<(), PolicyError> {
    layer.mode = table
        .get("mode")
        .map(|value| read_mode(&value))
        .transpose()?;
    layer.allow = rules(table, "allow", Effect::Allow)?;
    layer.deny = rules(table, "deny", Effect::Deny)?;
    layer.allow_files = list(table, "allow_files", plain_path)?;
    layer.presets = presets(table)?;
    layer.ask = switch(table, "ask")?;
    layer.ask_timeout = table
        .get("ask_timeout")
        .map(|value| read_seconds(&value))
        .transpose()?;
    layer.allow_stated = ["allow", "allow_files", "presets"]
        .into_iter()
        .find_map(|key| table.get(key))
        .map(|value| value.origin())
        // Who wants to be asked does not expect that everything is open.
        .or_else(|| {
            layer
                .ask
                .as_ref()
                .filter(|ask| ask.value)
                .map(|ask| ask.origin.clone())
        });
    layer.host_ports = list(table, "host_ports", read_port)?;
    layer.publish = list(table, "publish", |value| {
        value.text()?.parse().map_err(|source| {
            value.error(Problem::Publish {
                key: value.path.clone(),
                source,
            })
        })
    })?;
    Ok(())
}

fn read_port(value: &Value<'_, '_>) -> Result<u16, PolicyError> {
    if !value.is_whole_number() {
        return Err(value.wrong_type("a port number"));
    }
    let port = value
        .whole_number()
        .and_then(|port| u16::try_from(port).ok());
    port.filter(|&port| port != 0).ok_or_else(|| {
        value.error(Problem::Form {
            key: value.path.clone(),
            expected: "a port from 1 to 65535",
        })
    })
}

fn read_upstream_proxy(
    layer: &mut PolicyLayer,
    table: &Table<'_, '_>,
    kind: LayerKind,
) -> Result<(), PolicyError> {
    if kind == LayerKind::Project {
        for &key in NOT_FOR_PROJECTS {
            if let Some(value) = table.get(key) {
                return Err(value.error(Problem::NotForProjects { key }));
            }
        }
    }
    let proxy = table.get("upstream_proxy");
    layer.upstream_proxy = proxy
        .map(|value| {
            let address = value.text()?.parse().map_err(|source| {
                value.error(Problem::Proxy {
                    key: value.path.clone(),
                    source,
                })
            });
            address.map(|address| value.sourced(address))
        })
        .transpose()?;
    let file = table.get("upstream_proxy_credentials_file");
    let variable = table.get("upstream_proxy_credentials_env");
    layer.upstream_proxy_credentials = match (file, variable) {
        (Some(_), Some(variable)) => {
            return Err(variable.error(Problem::Exclusive {
                one: "upstream_proxy_credentials_file",
                other: "upstream_proxy_credentials_env",
            }));
        }
        (Some(file), None) => {
            let path = path_with(&file, PathSpec::parse)?;
            if path.base() == crate::path::PathBase::Project {
                return Err(file.error(Problem::Form {
                    key: file.path.clone(),
                    expected: "a path that starts with `/` or `~/`",
                }));
            }
            Some(file.sourced(CredentialsFrom::File(path)))
        }
        (None, Some(variable)) => {
            let name = EnvName::parse(variable.text()?).map_err(|source| {
                variable.error(Problem::Env {
                    key: variable.path.clone(),
                    source,
                })
            })?;
            Some(variable.sourced(CredentialsFrom::Environment(name)))
        }
        (None, None) => None,
    };
    layer.upstream_proxy_except = rules(table, "upstream_proxy_except", Effect::Allow)?;
    Ok(())
}

fn presets(table: &Table<'_, '_>) -> Result<Vec<Sourced<PackageManager>>, PolicyError> {
    let mut presets = Vec::new();
    for item in table
        .get("presets")
        .map(|value| value.list())
        .transpose()?
        .unwrap_or_default()
    {
        let word = item.word(PackageManager::WORDS)?;
        // Every word has its manager.
        presets.extend(PackageManager::from_word(word).map(|manager| item.sourced(manager)));
    }
    Ok(presets)
}

fn read_seconds(value: &Value<'_, '_>) -> Result<Sourced<u32>, PolicyError> {
    let seconds = value
        .whole_number()
        .filter(|seconds| ASK_TIMEOUT_SECONDS.contains(seconds))
        .and_then(|seconds| u32::try_from(seconds).ok());
    match seconds {
        Some(seconds) => Ok(value.sourced(seconds)),
        None if value.is_whole_number() => Err(value.error(Problem::Form {
            key: value.path.clone(),
            expected: "1 to 3600 seconds",
        })),
        None => Err(value.wrong_type("a whole number of seconds")),
    }
}

fn read_mode(value: &Value<'_, '_>) -> Result<Sourced<NetworkMode>, PolicyError> {
    let word = value.word(MODE_WORDS)?;
    // Every word of MODE_WORDS has its mode; should one be missing, the strictest is right.
    Ok(value.sourced(NetworkMode::from_word(word).unwrap_or(NetworkMode::None)))
}

fn rules(
    table: &Table<'_, '_>,
    key: &'static str,
    effect: Effect,
) -> Result<Vec<Rule>, PolicyError> {
    let Some(value) = table.get(key) else {
        return Ok(Vec::new());
    };
    value
        .list()?
        .iter()
        .map(|item| {
            Rule::parse_as(effect, item.text()?, item.origin()).map_err(|source| {
                item.error(Problem::Rule {
                    key: item.path.clone(),
                    source,
                })
            })
        })
        .collect()
}

/// Reads each value of a list with `read`, keeping its place.
fn list<T>(
    table: &Table<'_, '_>,
    key: &'static str,
    read: fn(&Value<'_, '_>) -> Result<T, PolicyError>,
) -> Result<Vec<Sourced<T>>, PolicyError> {
    let Some(value) = table.get(key) else {
        return Ok(Vec::new());
    };
    value
        .list()?
        .iter()
        .map(|item| read(item).map(|read| item.sourced(read)))
        .collect()
}

fn switch(table: &Table<'_, '_>, key: &'static str) -> Result<Option<Sourced<bool>>, PolicyError> {
    table
        .get(key)
        .map(|value| value.boolean().map(|on| value.sourced(on)))
        .transpose()
}

fn path_with(
    value: &Value<'_, '_>,
    parse: fn(&str) -> Result<PathSpec, PathError>,
) -> Result<PathSpec, PolicyError> {
    parse(value.text()?).map_err(|source| {
        value.error(Problem::Path {
            key: value.path.clone(),
            source,
        })
    })
}

fn granted_path(value: &Value<'_, '_>) -> Result<PathSpec, PolicyError> {
    path_with(value, PathSpec::parse_grant)
}

fn hidden_path(value: &Value<'_, '_>) -> Result<PathSpec, PolicyError> {
    path_with(value, PathSpec::parse)
}

fn plain_path(value: &Value<'_, '_>) -> Result<PathSpec, PolicyError> {
    path_with(value, PathSpec::parse_plain)
}

pub(crate) fn env_pattern(value: &Value<'_, '_>) -> Result<EnvPattern, PolicyError> {
    EnvPattern::parse(value.text()?).map_err(|source| {
        value.error(Problem::Env {
            key: value.path.clone(),
            source,
        })
    })
}

pub(crate) fn read_env_set(value: &Value<'_, '_>) -> Result<Vec<Sourced<EnvSetting>>, PolicyError> {
    let mut settings = Vec::new();
    for (key, value) in value.pairs()? {
        let bad = |source| {
            value.error(Problem::Env {
                key: "env.set".to_owned(),
                source,
            })
        };
        let name = EnvName::parse(key).map_err(bad)?;
        let text = value.multiline_text()?;
        check_env_value(&name, text).map_err(bad)?;
        settings.push(value.sourced(EnvSetting {
            name,
            value: text.to_owned(),
        }));
    }
    Ok(settings)
}

fn read_limits(table: &Table<'_, '_>) -> Result<Limits, PolicyError> {
    let mut limits = Limits::default();
    for &key in LimitKey::ALL {
        if let Some(value) = table.get(key.as_str()) {
            limits.set(key, value.sourced(read_limit(key, &value)?));
        }
    }
    Ok(limits)
}

/// A limit is a text with a unit, or a number where the base unit is plain.
fn read_limit(key: LimitKey, value: &Value<'_, '_>) -> Result<Limit, PolicyError> {
    let expected = match key.quantity() {
        Quantity::Size => "a size such as \"512MiB\"",
        Quantity::Rate => "bytes in a second such as \"50MB/s\"",
        Quantity::Processors => "a number of processors such as 2 or 0.5",
        Quantity::Weight => "a weight from 1 to 10000",
        Quantity::Processes => "a number of processes such as 512",
        Quantity::Time => "a time such as \"90min\"",
    };
    let number = value
        .number_text()
        .filter(|_| value.is_whole_number() || key.quantity() == Quantity::Processors);
    let text = match &number {
        Some(number) => number,
        None if value.is_text() => value.text()?,
        None => return Err(value.wrong_type(expected)),
    };
    key.parse(text).map_err(|source| {
        value.error(Problem::Limit {
            key: value.path.clone(),
            source,
        })
    })
}

/// A size with its unit, or a number of bytes.
fn read_size(value: &Value<'_, '_>) -> Result<Sourced<ByteSize>, PolicyError> {
    let expected = "a size such as \"4GiB\", more than 0";
    let size = match value.whole_number() {
        Some(bytes) => Some(ByteSize::from_bytes(bytes)),
        None if value.is_text() => ByteSize::parse(value.text()?).ok(),
        None => return Err(value.wrong_type(expected)),
    };
    let size = size.filter(|size| size.bytes() > 0).ok_or_else(|| {
        value.error(Problem::Form {
            key: value.path.clone(),
            expected,
        })
    })?;
    Ok(value.sourced(size))
}

fn read_files_mode(value: &Value<'_, '_>) -> Result<Sourced<FilesMode>, PolicyError> {
    let mode = match value.word(FilesMode::WORDS)? {
        "cow" => FilesMode::Cow,
        _ => FilesMode::Direct,
    };
    Ok(value.sourced(mode))
}

fn read_seccomp(value: &Value<'_, '_>) -> Result<Sourced<SeccompChoice>, PolicyError> {
    let choice = if value.is_text() {
        match value.word(SECCOMP_WORDS)? {
            "strict" => SeccompChoice::Strict,
            _ => SeccompChoice::Default,
        }
    } else {
        let table = value
            .table(SECCOMP_TABLE, &[])
            .map_err(|error| match *error.problem {
                Problem::WrongType { .. } => {
                    value.wrong_type("\"default\", \"strict\" or { profile = \"…\" }")
                }
                _ => error,
            })?;
        SeccompChoice::Profile(plain_path(&table.require("profile")?)?)
    };
    Ok(value.sourced(choice))
}

fn read_agent(layer: &mut PolicyLayer, table: &Table<'_, '_>) -> Result<(), PolicyError> {
    if let Some(value) = table.get("preset") {
        let name = value.text()?;
        if !crate::preset::is_preset_name(name) {
            let expected = "1 to 32 lower-case letters, digits and hyphens";
            return Err(value.error(Problem::Form {
                key: value.path.clone(),
                expected,
            }));
        }
        layer.preset = Some(value.sourced(name.to_owned()));
    }
    if let Some(value) = table.get("args") {
        let items = value.list()?;
        let args = items.iter().map(|item| {
            item.multiline_text()
                .map(|text| item.sourced(text.to_owned()))
        });
        layer.args = Some(args.collect::<Result<_, _>>()?);
    }
    layer.preset_hosts = switch(table, "preset_hosts")?;
    Ok(())
}

#[cfg(test)]
mod tests;
