//! Policy files and flags become one policy: admin < user < project < flags.
//!
//! The project's file is written by strangers: it counts only with the text that the caller approved, and so do the
//! rule files it names in the project. Must not widen anything itself: it reads, asks and hands over to `rcc_spec`.

mod approval;
mod flags;

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rcc_host::{
    Content, FileError, Links, Project, TrustError, read_below, read_text, refuse_foreign,
};
use rcc_spec::{
    LayerKind, Layers, NetworkMode, PathBase, PathSpec, Policy, PolicyError, PolicyLayer, RuleFile,
    SourceName, Sourced, merge, parse_rule_file, parse_toml,
};

use crate::cli::RunFlags;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::registries::{self, Presets};

use approval::approve;
pub(crate) use approval::{Unapproved, approved_layer};

/// Name of the project's policy file.
pub(crate) const PROJECT_FILE: &str = "rcc.toml";
/// Largest policy file, in bytes.
const POLICY_LIMIT_BYTES: usize = 256 << 10;
/// Most text of a project that is approved as a whole, in bytes.
const APPROVED_LIMIT_BYTES: usize = 1 << 20;
/// Stands between the files in an approved text.
const SEPARATOR: char = '\0';
/// Largest rule file, in bytes; a million rules fit.
const RULES_LIMIT_BYTES: usize = 64 << 20;

/// A policy file that is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// A rule file that a policy or flag names does not exist.
    #[error(
        "the rule file {} named by {origin} does not exist",
        rcc_plan::escape(path)
    )]
    NoRules { path: PathBuf, origin: String },
    /// A rule file outside of the project's policy lies where an agent can change it.
    #[error(
        "the rule file {} named by {origin} lies in the project, where an agent can change it",
        rcc_plan::escape(path)
    )]
    RulesInProject { path: PathBuf, origin: String },
    /// The project's policy was not approved.
    #[error("the policy {} is not approved", rcc_plan::escape(path))]
    Unapproved { path: PathBuf },
    /// The project's policy allows more than the approved one.
    #[error(
        "the policy {} allows more than what was approved",
        rcc_plan::escape(path)
    )]
    Changed { path: PathBuf },
    /// A port of the host without a network to reach it.
    #[error("--host-port needs a network, and the mode is `none` ({mode_origin})")]
    NoNetwork { mode_origin: String },
    /// The project's policy and its rule files are larger than people can approve.
    #[error(
        "the policy {} and its rule files hold more than {limit_bytes} bytes",
        rcc_plan::escape(path)
    )]
    TooMuch { path: PathBuf, limit_bytes: usize },
    /// The trust store is unusable.
    #[error(
        "cannot tell whether the policy {} is approved",
        rcc_plan::escape(path)
    )]
    Trust {
        path: PathBuf,
        #[source]
        source: TrustError,
    },
}

/// The project's policy as it stands on disk.
#[derive(Debug)]
pub(crate) struct ProjectPolicy {
    /// Path of `rcc.toml`.
    pub(crate) path: PathBuf,
    /// What approval is given for: `rcc.toml`, then every rule file of the project that it names.
    pub(crate) text: String,
    /// What it says.
    pub(crate) layer: PolicyLayer,
}

/// Reads every layer and merges them.
pub(crate) fn load(
    context: &Context,
    project: &Project,
    flags: &RunFlags,
    unapproved: Unapproved,
) -> Result<Policy, CliError> {
    let uid = context.account.user.uid;
    let admin = context.directories.admin.join("config.toml");
    let admin = file_layer(context, project, &admin, LayerKind::Admin, &[0])?;
    let user = context.directories.config.join("config.toml");
    let user = file_layer(context, project, &user, LayerKind::User, &[0, uid])?;
    let flags = flags::layer(context, flags)?;
    let mut policy = project_policy(context, project)?;
    let mut layers = Layers {
        admin,
        user,
        project: PolicyLayer::default(),
        flags,
    };
    let stated = policy.as_ref().map(|policy| &policy.layer);
    let granting = [&layers.admin, &layers.user, &layers.flags];
    let presets = Presets::new(context, project, granting.into_iter().chain(stated));
    for layer in [&mut layers.admin, &mut layers.user, &mut layers.flags] {
        presets.expand(layer);
    }
    if let Some(policy) = &mut policy {
        presets.expand(&mut policy.layer);
        approve(context, project, policy, &layers, &presets, unapproved)?;
        layers.project = std::mem::take(&mut policy.layer);
    }
    let wants_host_port = !layers.flags.host_ports.is_empty();
    let mut merged = merge(layers);
    if merged.network.mode != NetworkMode::None {
        merged.notices.extend(presets.notes());
        merged.notices.extend(registries::hints(project, &merged));
    }
    if wants_host_port && merged.network.mode == NetworkMode::None {
        let mode_origin = merged.mode_origin.to_string();
        return Err(
            CliError::new(Kind::User, LayerError::NoNetwork { mode_origin }).hint(
                "leave --host-port out, or choose a mode with a network: --network allowlist",
            ),
        );
    }
    Ok(merged)
}

/// The files that a policy comes from. What cannot be read names no other files; loading tells what is wrong with it.
pub(crate) fn files(context: &Context, project: &Project, flags: &RunFlags) -> Vec<PathBuf> {
    let policies = [
        (
            context.directories.admin.join("config.toml"),
            LayerKind::Admin,
        ),
        (
            context.directories.config.join("config.toml"),
            LayerKind::User,
        ),
        (project.root.join(PROJECT_FILE), LayerKind::Project),
    ];
    let mut files = flags.allow_hosts.clone();
    for (path, kind) in policies {
        let content = match kind {
            LayerKind::Project => read_below(
                project.directory.as_fd(),
                &project.root,
                Path::new(PROJECT_FILE),
                POLICY_LIMIT_BYTES,
                Links::Refuse,
            ),
            LayerKind::Admin | LayerKind::User => read_text(&path, POLICY_LIMIT_BYTES),
        };
        let layer = content.ok().flatten().and_then(|content| {
            parse_toml(&content.text, &SourceName::file(PROJECT_FILE), kind).ok()
        });
        let base = path.parent().unwrap_or(&path).to_owned();
        let named = layer.into_iter().flat_map(|layer| layer.allow_files);
        files.extend(named.map(|file| absolute(context, &base, &file.value)));
        files.push(path);
    }
    // A new approval is a new file in it.
    files.push(context.directories.state.join("trust"));
    files
}

/// Reads `rcc.toml` of the project, if there is one.
pub(crate) fn project_policy(
    context: &Context,
    project: &Project,
) -> Result<Option<ProjectPolicy>, CliError> {
    let path = project.root.join(PROJECT_FILE);
    let content = read_below(
        project.directory.as_fd(),
        &project.root,
        Path::new(PROJECT_FILE),
        POLICY_LIMIT_BYTES,
        Links::Refuse,
    )
    .map_err(file_error)?;
    let Some(Content { mut text, .. }) = content else {
        return Ok(None);
    };
    let source = SourceName::file(PROJECT_FILE);
    let mut layer = parse(&text, &source, LayerKind::Project)?;
    let files = std::mem::take(&mut layer.allow_files);
    for file in files {
        let (rules, content) = project_rules(context, project, &file)?;
        if let Some(content) = content {
            // Neither format can hold the separator, so no two policies give one text.
            text.push_str(&format!("{SEPARATOR}{}{SEPARATOR}{content}", file.value));
        }
        layer.add_rules(rules, &SourceName::file(file.value.as_str()));
    }
    if text.len() > APPROVED_LIMIT_BYTES {
        let error = LayerError::TooMuch {
            path,
            limit_bytes: APPROVED_LIMIT_BYTES,
        };
        return Err(
            CliError::new(Kind::Config, error).hint("keep large rule files outside of the project")
        );
    }
    Ok(Some(ProjectPolicy { path, text, layer }))
}

/// Reads a policy file of the administrator or user, with the rule files it names.
fn file_layer(
    context: &Context,
    project: &Project,
    path: &Path,
    kind: LayerKind,
    owners: &[u32],
) -> Result<PolicyLayer, CliError> {
    let Some(content) = read_text(path, POLICY_LIMIT_BYTES).map_err(file_error)? else {
        return Ok(PolicyLayer::default());
    };
    refuse_foreign(path, &content, owners).map_err(file_error)?;
    let source = SourceName::file(&rcc_plan::escape(path));
    let mut layer = parse(&content.text, &source, kind)?;
    for file in std::mem::take(&mut layer.allow_files) {
        let rules = own_rules(context, project, path, owners, &file)?;
        layer.add_rules(rules, &SourceName::file(file.value.as_str()));
    }
    Ok(layer)
}

fn parse(text: &str, source: &SourceName, kind: LayerKind) -> Result<PolicyLayer, CliError> {
    parse_toml(text, source, kind).map_err(wrong_policy)
}

/// A policy error names its place itself, so it stands first.
fn wrong_policy(error: PolicyError) -> CliError {
    let hint = error.hint();
    let error = CliError::new(Kind::Config, error);
    hint.into_iter().fold(error, CliError::hint)
}

/// Reads a rule file that the project's policy names. The text comes back too when it lies in the project.
fn project_rules(
    context: &Context,
    project: &Project,
    file: &Sourced<PathSpec>,
) -> Result<(RuleFile, Option<String>), CliError> {
    let absolute = absolute(context, &project.root, &file.value);
    let below = absolute.strip_prefix(&project.root).ok();
    let content = match below {
        Some(relative) => read_below(
            project.directory.as_fd(),
            &project.root,
            relative,
            RULES_LIMIT_BYTES,
            Links::Refuse,
        ),
        None => read_text(&absolute, RULES_LIMIT_BYTES),
    };
    let content = content
        .map_err(file_error)?
        .ok_or_else(|| no_rules(absolute.clone(), file))?;
    let rules = parse_rules(&content.text, file.value.as_str())?;
    Ok((rules, below.map(|_| content.text)))
}

/// Reads a rule file that the administrator's or user's policy names. What an agent can change has no say there.
fn own_rules(
    context: &Context,
    project: &Project,
    policy: &Path,
    owners: &[u32],
    file: &Sourced<PathSpec>,
) -> Result<RuleFile, CliError> {
    let path = absolute(context, policy.parent().unwrap_or(policy), &file.value);
    let real = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    if real.starts_with(&project.root) {
        let error = LayerError::RulesInProject {
            path,
            origin: file.origin.to_string(),
        };
        return Err(CliError::new(Kind::Denied, error)
            .hint("move it out, or name it in the project's rcc.toml"));
    }
    let content = read_text(&path, RULES_LIMIT_BYTES)
        .map_err(file_error)?
        .ok_or_else(|| no_rules(path.clone(), file))?;
    refuse_foreign(&path, &content, owners).map_err(file_error)?;
    parse_rules(&content.text, file.value.as_str())
}

fn no_rules(path: PathBuf, file: &Sourced<PathSpec>) -> CliError {
    let error = LayerError::NoRules {
        path,
        origin: file.origin.to_string(),
    };
    CliError::new(Kind::Config, error).hint("create it, or take it out of allow_files")
}

/// A path of a policy as an absolute one; what is neither absolute nor below the home is below `base`.
fn absolute(context: &Context, base: &Path, path: &PathSpec) -> PathBuf {
    match path.base() {
        PathBase::Root => PathBuf::from(path.as_str()),
        PathBase::Home => context.account.home.join(path.relative()),
        PathBase::Project => base.join(path.relative()),
    }
}

/// Parses a rule file: lines of a conf file or the YAML whitelist.
fn parse_rules(text: &str, name: &str) -> Result<RuleFile, CliError> {
    parse_rule_file(name, text, &SourceName::file(name)).map_err(wrong_policy)
}

fn file_error(error: FileError) -> CliError {
    let hint = match &error {
        FileError::Foreign { .. } => Some(
            "a policy counts only if you or root wrote it: chown it or move it away".to_owned(),
        ),
        FileError::Writable { path, .. } => Some(format!("chmod o-w {}", rcc_plan::escape(path))),
        FileError::Link { .. } => {
            Some("replace the link by a file: a link in a project could lead anywhere".to_owned())
        }
        _ => None,
    };
    let error = CliError::new(Kind::Config, error);
    match hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}
