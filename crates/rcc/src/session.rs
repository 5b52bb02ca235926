//! One run from flags to plan: project, policy, agent, agent home, facts, plan.
//!
//! Shared by every command that runs or plans something, so that `rcc plan` shows what a run does. Must not start
//! anything: that is the engine's part (`run.rs`).

mod program;
mod protected;

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rcc_gateway::UpstreamProxy;
use rcc_host::{
    AgentHome, HomeLock, ImportError, Project, Question, Wanted, agent_home, discover, expand_home,
    gather, read_text, survey,
};
use rcc_plan::{
    Controller, GroupFacts, HostFacts, PROFILE_LIMIT_BYTES, Plan, PlanError, Request, Streams,
    layered, plan,
};
use rcc_spec::{AgentPreset, FilesMode, LimitKey, NetworkMode, Policy, SeccompChoice};

use crate::agents;
use crate::cli::RunFlags;
use crate::context::Context;
use crate::control;
use crate::cow::{self, Earlier};
use crate::detach::wants_terminal;
use crate::error::{CliError, Kind};
use crate::layers::{self, Unapproved};
use crate::leftovers::Before;
use crate::output;
use crate::record::{Beginning, Places, Record};
use crate::shared_state::SharedState;
use crate::upstream_proxy;
use crate::watch::{Look, look_at};

use program::{Needs, argv, consent};
pub(crate) use protected::{UserGit, configured_names, host_names};
use protected::{
    check_hidden, patterns, protected_names, refuse_own, refuse_second_names, rule_files,
};

/// What is to be started.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A command with its arguments.
    Command(Vec<OsString>),
    /// The caller's shell with arguments.
    Shell(Vec<OsString>),
    /// The agent with the caller's arguments.
    Agent(Vec<OsString>),
}

/// How far it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Something will be started.
    Run,
    /// The plan is shown; nothing on the host is changed.
    Show,
}

/// Everything that an engine and a gateway need for one run.
#[derive(Debug)]
pub(crate) struct Session {
    /// What is done.
    pub(crate) plan: Plan,
    /// What is allowed; the gateway compiles its network part.
    pub(crate) policy: Policy,
    /// What was found on the host.
    pub(crate) facts: HostFacts,
    /// The project.
    pub(crate) project: Project,
    /// The agent's preset.
    pub(crate) preset: Option<AgentPreset>,
    /// `--audit FILE`.
    pub(crate) audit: Option<PathBuf>,
    /// What connections leave through, with its credentials; none when the plan is only shown.
    pub(crate) upstream_proxy: Option<UpstreamProxy>,
    /// The record; none when the plan is only shown.
    pub(crate) record: Option<Record>,
    /// What the policy was made from, to make it again when files change.
    pub(crate) sources: Sources,
    /// The files of the policy as they were then.
    pub(crate) policy_files: Look,
    /// Where the control socket gets a directory, unless in the record.
    pub(crate) runtime: Option<PathBuf>,
    /// How the project was, to tell what the agent left.
    pub(crate) before: Before,
    /// Keeps the agent home from being removed; none when the plan is only shown.
    _home: Option<HomeLock>,
}

/// What a policy is made from besides the files.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    /// The project's root.
    pub(crate) project: PathBuf,
    /// The command line.
    pub(crate) flags: RunFlags,
    /// The agent that it names.
    pub(crate) agent: Option<OsString>,
}

impl Sources {
    /// Makes the policy again, asking nobody.
    ///
    /// # Errors
    /// A file cannot be used, or what the project's file says is not approved ([`Kind::Denied`]).
    pub(crate) fn policy(&self) -> Result<Policy, CliError> {
        let context = Context::load()?;
        let project = discover(Some(&self.project), &context.account, &context.directories)?;
        let agent = self.agent.as_deref();
        Ok(with_preset(&context, &project, &self.flags, agent, Unapproved::Refuse)?.0)
    }

    /// The files that the policy comes from, the store of approvals included. A file that cannot be read names no others.
    ///
    /// # Errors
    /// The caller or the project is gone.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>, CliError> {
        let context = Context::load()?;
        let project = discover(Some(&self.project), &context.account, &context.directories)?;
        Ok(layers::files(&context, &project, &self.flags))
    }
}

/// Plans a run and makes its record.
pub(crate) fn prepare(
    flags: &RunFlags,
    agent: Option<&OsStr>,
    what: What,
) -> Result<Session, CliError> {
    make(flags, agent, what, Purpose::Run)
}

/// Plans a run that will not happen.
pub(crate) fn show(
    flags: &RunFlags,
    agent: Option<&OsStr>,
    what: What,
) -> Result<Session, CliError> {
    make(flags, agent, what, Purpose::Show)
}

/// The effective policy alone, for `rcc plan --why`.
pub(crate) fn policy(flags: &RunFlags, agent: Option<&OsStr>) -> Result<Policy, CliError> {
    let context = Context::load()?;
    let project = discover(
        flags.project.as_deref(),
        &context.account,
        &context.directories,
    )?;
    Ok(with_preset(&context, &project, flags, agent, Unapproved::Warn)?.0)
}

fn with_preset(
    context: &Context,
    project: &Project,
    flags: &RunFlags,
    agent: Option<&OsStr>,
    unapproved: Unapproved,
) -> Result<(Policy, Option<AgentPreset>), CliError> {
    let mut policy = layers::load(context, project, flags, unapproved)?;
    let named = agent.map(OsStr::to_owned).or_else(|| {
        policy
            .agent
            .preset
            .as_ref()
            .map(|name| name.value.clone().into())
    });
    let preset = named
        .map(|name| agents::preset(context, &name))
        .transpose()?;
    if let Some(preset) = &preset {
        policy.apply_preset(preset);
    }
    Ok((policy, preset))
}

fn make(
    flags: &RunFlags,
    agent: Option<&OsStr>,
    what: What,
    purpose: Purpose,
) -> Result<Session, CliError> {
    let context = Context::load()?;
    let project = discover(
        flags.project.as_deref(),
        &context.account,
        &context.directories,
    )?;
    let unapproved = match purpose {
        Purpose::Run => Unapproved::Ask,
        Purpose::Show => Unapproved::Warn,
    };
    let (policy, preset) = with_preset(&context, &project, flags, agent, unapproved)?;
    let policy_files = match purpose {
        Purpose::Run => look_at(layers::files(&context, &project, flags)),
        Purpose::Show => Look::new(),
    };
    for notice in &policy.notices {
        output::warn(&rcc_plan::escape(notice));
    }

    let mut needs = Needs::default();
    let what = if flags.shell {
        What::Shell(Vec::new())
    } else {
        what
    };
    let argv = argv(
        &context,
        &project,
        &policy,
        preset.as_ref(),
        what,
        consent(flags, purpose),
        &mut needs,
    )?;
    let home = flags
        .home
        .as_deref()
        .or(preset.as_ref().map(|preset| preset.name.as_str()))
        .unwrap_or("default");
    let (agent_home, home_lock) = open_home(&context, home, preset.as_ref(), &policy, purpose)?;

    let runtime = match purpose {
        Purpose::Run => control::runtime(&context.directories),
        Purpose::Show => None,
    };
    let earlier = match (purpose, &flags.resume) {
        (Purpose::Run, Some(id)) => Some(cow::earlier(&context, &project, id)?),
        _ => None,
    };
    let record = match purpose {
        Purpose::Run => {
            let name = preset.as_ref().map(|preset| preset.name.as_str());
            let network = policy.network.mode;
            let has_network = network != NetworkMode::None || !policy.publish.is_empty();
            let places = has_network.then(|| Places {
                audit: flags
                    .audit
                    .as_deref()
                    .and_then(|path| std::path::absolute(path).ok()),
                runtime: runtime.clone(),
            });
            let beginning = Beginning {
                project: &project.root,
                name: flags.name.as_deref(),
                agent: name,
                home,
                argv: &argv,
                network: network.as_str(),
                places,
            };
            Some(Record::create(&context.directories.state, &beginning)?)
        }
        Purpose::Show => None,
    };
    let sources = Sources {
        project: project.root.clone(),
        flags: flags.clone(),
        agent: agent.map(OsStr::to_owned),
    };
    let planned = plan_for(
        context,
        &project,
        flags,
        &policy,
        preset.as_ref(),
        needs,
        agent_home,
        argv,
        record.as_ref(),
        earlier,
    );
    let planned = planned.and_then(|(plan, facts, before)| {
        let proxy = match purpose {
            Purpose::Run => upstream_proxy::of_run(&policy, &plan, &facts.home)?,
            Purpose::Show => None,
        };
        Ok((plan, facts, before, proxy))
    });
    match planned {
        Ok((plan, facts, before, upstream_proxy)) => Ok(Session {
            plan,
            policy,
            facts,
            project,
            preset,
            audit: flags.audit.clone(),
            upstream_proxy,
            record,
            sources,
            policy_files,
            runtime,
            before,
            _home: home_lock,
        }),
        Err(error) => {
            if let Some(record) = record {
                record.discard();
            }
            Err(error)
        }
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call, every argument of another type"
)]
fn plan_for(
    context: Context,
    project: &Project,
    flags: &RunFlags,
    policy: &Policy,
    preset: Option<&AgentPreset>,
    needs: Needs,
    agent_home: PathBuf,
    argv: Vec<OsString>,
    record: Option<&Record>,
    earlier: Option<Earlier>,
) -> Result<(Plan, HostFacts, Before), CliError> {
    let granted = [
        &policy.files.readonly,
        &policy.files.rw,
        &policy.files.hidden,
    ]
    .into_iter()
    .flatten();
    let shared = preset
        .filter(|_| policy.files.share_state.value)
        .into_iter()
        .flat_map(|preset| preset.share.iter().chain(&preset.state_protected));
    let named: Vec<PathBuf> = granted
        .map(|path| &path.value)
        .chain(shared.map(|state| &state.path))
        .map(|path| PathBuf::from(path.as_str()))
        .collect();
    let shared = preset
        .filter(|_| policy.files.share_state.value)
        .into_iter()
        .flat_map(|preset| &preset.share);
    let writable: Vec<PathBuf> = policy
        .files
        .rw
        .iter()
        .map(|path| &path.value)
        .chain(shared.map(|state| &state.path))
        .map(|path| PathBuf::from(path.as_str()))
        .collect();
    let patterns = patterns(policy, project);
    let wanted = Wanted {
        hidden: &patterns,
        skipped: &[],
    };
    let survey = survey(project.directory.as_fd(), &wanted);
    if !patterns.is_empty() {
        check_hidden(project, &survey)?;
    }
    let user = UserGit {
        home: &context.account.home,
        environment: &context.environment,
    };
    let mut protected = protected_names(project, preset, &survey, &user);
    protected.extend(rule_files(project, flags));
    protected.sort();
    protected.dedup();
    let state = context.directories.state.clone();
    let own: Vec<PathBuf> = context
        .directories
        .guarded()
        .into_iter()
        .map(Path::to_owned)
        .collect();
    let mut facts = gather(Question {
        account: context.account,
        project,
        agent_home,
        environment: context.environment,
        protected: &protected,
        named: &named,
        writable: &writable,
        toolchains: needs.toolchains,
    })?;
    if !policy.hardening.dangerously_without_protected_paths.value {
        refuse_second_names(project, &facts)?;
    }
    if policy.files.mode.value == FilesMode::Cow {
        let roots = layered(policy, preset, &facts)?;
        refuse_own(&own, policy, &facts)?;
        let laid = match record {
            Some(record) => cow::begin(project, record, earlier, &roots)?,
            None => cow::shown(&state, &roots)?,
        };
        facts.cow_layer = Some(laid.project);
        facts.rw_layers = laid.further;
    }
    facts.hidden = survey
        .hidden
        .iter()
        .map(|path| project.root.join(path))
        .collect();
    let before = Before::of(
        project,
        survey,
        &facts,
        SharedState::of(policy, preset, &facts),
    );
    facts.seccomp_profile = seccomp_profile(policy, &facts.home)?;
    for directory in needs.path.into_iter().rev() {
        if !facts.path.contains(&directory) {
            facts.path.insert(0, directory);
        }
    }
    facts.groups = group_facts(policy, &project.root);
    let request = Request {
        run_id: record.map_or_else(|| "plan".to_owned(), |record| record.id().to_owned()),
        argv,
        streams: streams(flags),
    };
    let plan = plan(policy, preset, &facts, &request)?;
    refuse_own(&own, policy, &facts)?;
    Ok((plan, facts, before))
}

/// What limits can be enforced with; looked at only when some limit asks for a group, which the default of most users does not.
fn group_facts(policy: &Policy, project: &Path) -> GroupFacts {
    let process_limit_binds = rcc_host::process_limit_binds();
    let named = policy
        .limits
        .named()
        .any(|(key, _, _)| Controller::of(key).is_some());
    let default = !process_limit_binds && policy.limits.value(LimitKey::Pids).is_some();
    if named || default {
        return rcc_host::group_facts(project);
    }
    GroupFacts {
        process_limit_binds,
        ..GroupFacts::default()
    }
}

/// Which streams of the agent are terminals: those of the caller that are, and of a detached run all or none.
fn streams(flags: &RunFlags) -> Streams {
    if flags.detach {
        let terminal = wants_terminal();
        return Streams {
            stdin_terminal: terminal,
            stdout_terminal: terminal,
            stderr_terminal: terminal,
        };
    }
    Streams {
        stdin_terminal: std::io::stdin().is_terminal(),
        stdout_terminal: std::io::stdout().is_terminal(),
        stderr_terminal: std::io::stderr().is_terminal(),
    }
}

/// Reads the user's own seccomp profile; planning tells when it is missing or unusable.
fn seccomp_profile(policy: &Policy, home: &Path) -> Result<Option<String>, CliError> {
    let SeccompChoice::Profile(path) = &policy.hardening.seccomp.value else {
        return Ok(None);
    };
    let content = read_text(
        &expand_home(Path::new(path.as_str()), home),
        PROFILE_LIMIT_BYTES,
    )
    .map_err(|error| CliError::new(Kind::Config, error))?;
    Ok(content.map(|content| content.text))
}

/// Opens the agent home for as long as the run lasts; showing a plan only names it.
fn open_home(
    context: &Context,
    name: &str,
    preset: Option<&AgentPreset>,
    policy: &Policy,
    purpose: Purpose,
) -> Result<(PathBuf, Option<HomeLock>), CliError> {
    if purpose == Purpose::Show {
        return Ok((context.directories.agent_home(name), None));
    }
    // With shared state the real files are there; a copy would only be a second place for the login.
    let paths: Vec<PathBuf> = match preset {
        Some(preset) if !policy.files.share_state.value => preset
            .import
            .iter()
            .map(|path| PathBuf::from(path.path.relative()))
            .collect(),
        _ => Vec::new(),
    };
    let AgentHome {
        path,
        imported,
        lock,
    } = agent_home(&context.directories, name, &context.account.home, &paths)?;
    if !imported.copied.is_empty() {
        output::note(&format!(
            "copied {} of your files into the agent home {}",
            imported.copied.len(),
            rcc_plan::escape(&path)
        ));
    }
    Ok((path, Some(lock)))
}

impl From<ImportError> for CliError {
    fn from(error: ImportError) -> Self {
        let hint = match &error {
            ImportError::Name { .. } => "names are letters, digits, dots, underscores and hyphens",
            ImportError::TooMuch { .. } => "use --share-state, or copy what is needed yourself",
            ImportError::Lock(_) => {
                "runs and agent homes are recorded below $XDG_STATE_HOME/rcc, a directory of yours alone"
            }
            _ => {
                "the agent home is below $XDG_DATA_HOME/rcc/homes; --home NAME starts with a fresh one"
            }
        };
        let kind = if matches!(error, ImportError::Name { .. }) {
            Kind::User
        } else {
            Kind::Host
        };
        Self::new(kind, error).shortage_or(hint)
    }
}

impl From<PlanError> for CliError {
    fn from(error: PlanError) -> Self {
        if let PlanError::LimitNotEnforceable { fix, .. } = &error {
            let fix = fix.clone();
            return Self::new(Kind::Host, error).hint(fix);
        }
        let (kind, hint) = match &error {
            PlanError::KernelTooOld { .. } => (
                Kind::Host,
                "boot a newer kernel; rcc doctor lists what is missing",
            ),
            PlanError::LandlockMissing => (
                Kind::Host,
                "add landlock to the kernel's lsm= list, or give the layer up with dangerously_without_landlock in [hardening]",
            ),
            PlanError::PathMissing { .. } => {
                (Kind::Config, "create it, or take it out of the policy")
            }
            PlanError::PathKind { .. } | PlanError::PathForbidden { .. } => (
                Kind::Denied,
                "name a directory or file of yours that the agent needs",
            ),
            PlanError::NoCommand => (Kind::User, "rcc run -- CMD"),
            _ => (Kind::User, "rcc plan shows what would be done"),
        };
        Self::new(kind, error).hint(hint)
    }
}
