//! `rcc init`: writes one commented `rcc.toml` and approves it. Nothing else is added, nothing is overwritten.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rcc_host::{Project, discover};
use rcc_spec::{AgentPreset, NetworkMode, NetworkPolicy, PackageManager, PolicyLayer, RuleSet};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::agents;
use crate::cli::InitArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::layers::{PROJECT_FILE, project_policy};
use crate::output;
use crate::registries::{LockFiles, Named, Presets, is_allowed, named_by_project, present};

/// Files that tell which agent a project is used with, most telling first.
const TRACES: [(&str, &str); 11] = [
    ("CLAUDE.md", "claude"),
    (".claude", "claude"),
    ("GEMINI.md", "gemini"),
    (".gemini", "gemini"),
    (".codex", "codex"),
    ("opencode.json", "opencode"),
    ("opencode.jsonc", "opencode"),
    (".opencode", "opencode"),
    (".aider.conf.yml", "aider"),
    (".aider.chat.history.md", "aider"),
    ("AGENTS.md", "codex"),
];

/// A policy that cannot be written.
#[derive(Debug, thiserror::Error)]
enum InitError {
    /// There is something of that name.
    #[error("{} exists already", rcc_plan::escape(path))]
    Exists { path: PathBuf },
    /// It cannot be written.
    #[error("cannot write {}", rcc_plan::escape(path))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub(crate) fn run(args: InitArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let directory = args.directory.unwrap_or_else(|| PathBuf::from("."));
    let project = discover(Some(&directory), &context.account, &context.directories)?;
    let path = project.root.join(PROJECT_FILE);
    // Looked at first, so that nobody answers questions for nothing.
    if rustix::fs::statat(&project.directory, PROJECT_FILE, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
        return Err(exists(path));
    }
    let agent = match args.agent {
        Some(name) => Some(agents::preset(&context, name.as_ref())?.name),
        None => detected(&project).map(str::to_owned),
    };
    let mode = match args.network {
        Some(word) => NetworkMode::from(word),
        None if !args.yes && output::can_ask() => ask_mode(),
        None => NetworkMode::Internet,
    };
    let (presets, suggested) = detected_registries(&context, &project);
    let text = policy_text(mode, agent.as_deref(), &presets, &suggested);
    write(&project, &path, &text)?;
    let policy = project_policy(&context, &project)?
        .ok_or_else(|| CliError::new(Kind::Internal, "the policy that was just written is gone"))?;
    context
        .trust()
        .approve(&project.root, &policy.text)
        .map_err(|error| {
            CliError::new(Kind::Host, error).hint("approve it later with: rcc trust")
        })?;
    let line = format!("Initialized rcc policy in {}\n", rcc_plan::escape(&path));
    output::result(&line).map_err(|error| CliError::new(Kind::Host, error))?;
    Ok(Exit::Success.into())
}

fn exists(path: PathBuf) -> CliError {
    CliError::new(Kind::User, InitError::Exists { path })
        .hint("edit it, and approve the change with: rcc trust")
}

/// The agent whose files are in the project's top directory.
fn detected(project: &Project) -> Option<&'static str> {
    TRACES
        .iter()
        .find(|(name, _)| {
            rustix::fs::statat(&project.directory, *name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
        .map(|(_, agent)| *agent)
}

/// The presets that the project's files call for, and the hosts that these files name and no preset covers.
fn detected_registries(context: &Context, project: &Project) -> (Vec<PackageManager>, Vec<Named>) {
    let managers = present(project);
    let nothing: [&PolicyLayer; 0] = [];
    let presets = Presets::new(context, project, nothing);
    let mut covered = NetworkPolicy::new(NetworkMode::Allowlist);
    let mut proposed = Vec::new();
    for manager in &managers {
        let rules = &presets.derive(*manager).rules;
        // One that would allow nothing is no help.
        if !rules.is_empty() {
            proposed.push(*manager);
            covered.allow.extend(rules.iter().cloned());
        }
    }
    let rules = RuleSet::compile(&covered);
    let mut named = named_by_project(project, &managers, LockFiles::Read);
    named.retain(|named| !is_allowed(&rules, &named.rule));
    (proposed, named)
}

fn ask_mode() -> NetworkMode {
    output::say(
        "What may the agent reach?\n  1  public hosts, not the local network\n  2  only its own service and the hosts you list\n  3  nothing\n[1] ",
    );
    let mut answer = String::new();
    match std::io::stdin().read_line(&mut answer) {
        Ok(_) => match answer.trim() {
            "" | "1" => NetworkMode::Internet,
            "3" => NetworkMode::None,
            // Anything that is not understood means less, not more.
            _ => NetworkMode::Allowlist,
        },
        Err(_) => NetworkMode::Allowlist,
    }
}

fn write(project: &Project, path: &Path, text: &str) -> Result<(), CliError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let failed = |source| {
        CliError::new(
            Kind::Host,
            InitError::Write {
                path: path.to_owned(),
                source,
            },
        )
    };
    match rustix::fs::openat(&project.directory, PROJECT_FILE, flags, mode) {
        Ok(file) => File::from(file).write_all(text.as_bytes()).map_err(failed),
        Err(Errno::EXIST) => Err(exists(path.to_owned())),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The file, with everything that can be set as a comment.
///
/// Names of hosts come from files of the repository: they are rules that were parsed, and the places are escaped.
fn policy_text(
    mode: NetworkMode,
    agent: Option<&str>,
    presets: &[PackageManager],
    suggested: &[Named],
) -> String {
    let words: Vec<String> = presets
        .iter()
        .map(|preset| format!("\"{preset}\""))
        .collect();
    // In the other modes a preset changes nothing, or nothing yet.
    let comment = if mode == NetworkMode::Allowlist && !words.is_empty() {
        ""
    } else {
        "# "
    };
    let words = if words.is_empty() {
        "\"npm\", \"cargo\"".to_owned()
    } else {
        words.join(", ")
    };
    let presets = format!(
        "{comment}presets = [{words}]     # what your own configuration of these tools names"
    );
    let mut hosts = String::new();
    if !suggested.is_empty() {
        hosts.push_str("# Files of this project name these hosts, and whoever wrote it chose them. To allow one, add it to allow:\n");
        for named in suggested {
            hosts.push_str(&format!(
                "#   \"{}\"     ({})\n",
                named.rule,
                rcc_plan::escape(&named.place)
            ));
        }
    }
    let preset = match agent {
        Some(name) => format!("preset = \"{name}\""),
        None => format!(
            "# preset = \"claude\"          # {}",
            AgentPreset::builtin_names().collect::<Vec<_>>().join(", ")
        ),
    };
    format!(
        r#"# What an agent may do in this project. rcc asks before it uses a changed file: rcc trust
# Show what it means: rcc plan    Ask about a host: rcc plan --why example.com:443
version = 1

[network]
mode = "{mode}"             # "none", "allowlist" (only the rules below), "internet" (public hosts, no local network)
# allow = ["example.com", "*.example.org:443", "203.0.113.0/24:8000-8100"]
# deny = ["tracker.example.net"]     # wins over every allow
# allow_files = ["allowed-hosts.conf"]
{presets}
{hosts}
[files]
# mode = "cow"                       # changes wait for `rcc apply` or `rcc discard`
# snapshot = true                    # or a copy of the project first, so that `rcc undo` can go back
# readonly = ["~/reference"]         # shown at the same place
# rw = ["~/shared-cache"]
# hidden = [".env"]
# share_state = true                 # the agent's real state instead of a copy in its own home

[env]
# pass = ["EDITOR"]                  # variables of yours; nothing else is passed but terminal and language
# set = {{ CI = "1" }}

[limits]
# memory = "8GiB"                    # what does not fit is killed
# cpus = 2
# pids = 4096
# tmp_size = "2GiB"
# timeout = "8h"

[hardening]
# seccomp = "strict"

[agent]
{preset}
# args = ["--verbose"]
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcc_spec::{LayerKind, SourceName, parse_toml};

    fn parse(text: &str) -> PolicyLayer {
        parse_toml(text, &SourceName::file("rcc.toml"), LayerKind::Project).unwrap()
    }

    #[test]
    fn what_is_written_is_a_policy_and_says_what_was_chosen() {
        for mode in NetworkMode::ALL {
            let layer = parse(&policy_text(mode, Some("codex"), &[], &[]));
            assert_eq!(layer.mode.unwrap().value, mode);
            assert_eq!(layer.preset.unwrap().value, "codex");
            assert!(layer.allow.is_empty() && layer.allow_stated.is_none());
        }
        assert_eq!(
            parse(&policy_text(NetworkMode::None, None, &[], &[])).preset,
            None
        );
    }

    #[test]
    fn presets_are_active_where_they_matter_and_hosts_of_the_repository_never_are() {
        let named = Named {
            rule: rcc_spec::Rule::parse("evil.example.net:8443", rcc_spec::Origin::DEFAULT)
                .unwrap(),
            place: "package-lock.json:3\n[network]\nmode = \"internet\"".to_owned(),
        };
        for mode in NetworkMode::ALL {
            let text = policy_text(
                mode,
                None,
                &[PackageManager::Npm],
                std::slice::from_ref(&named),
            );
            let layer = parse(&text);
            assert_eq!(
                layer.presets.len(),
                usize::from(mode == NetworkMode::Allowlist),
                "{text}"
            );
            assert!(
                layer.allow.is_empty() && text.contains("\"evil.example.net:8443\""),
                "{text}"
            );
            assert_eq!(layer.mode.unwrap().value, mode);
        }
    }

    #[test]
    fn every_comment_that_shows_a_key_is_valid_when_it_is_taken_in() {
        let text = policy_text(NetworkMode::Allowlist, None, &[], &[]);
        let open: String = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest)
                    if rest.split_once(" = ").is_some_and(|(key, _)| {
                        key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                    }) =>
                {
                    rest
                }
                _ => line,
            })
            .map(|line| format!("{line}\n"))
            .collect();
        let layer = parse(&open);
        assert_eq!(layer.allow.len(), 3);
        assert_eq!(layer.presets.len(), 2);
        assert_eq!(layer.preset.unwrap().value, "claude");
        assert!(layer.share_state.unwrap().value);
    }
}
