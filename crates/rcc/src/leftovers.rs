//! What the agent left that the host would execute or trust: new and changed names of the table, and what git would run.
//!
//! A name that exists is read-only inside; one that does not cannot be covered without leaving a ghost file in the
//! project, so it is looked for afterwards. What git would run by itself is put aside under another name. Must not open,
//! follow or execute anything that it finds.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use rcc_host::{
    GitBefore, GitFinding, GitOutcome, HostError, Mark, Project, Survey, Wanted, git_before,
    git_left, mark, protected_entries, survey,
};
use rcc_plan::{EntryKind, HostFacts, ProtectedEntry, escape};
use rcc_spec::{PROTECTED_NAMES, ProtectedClass, ProtectedName, ProtectedPlace};

use crate::output;
use crate::session::{Session, UserGit, configured_names, host_names};
use crate::shared_state::SharedState;

/// Most names that are told, of each kind.
const LISTED: usize = 20;
/// Names that are given as examples of those that are only counted.
const EXAMPLES: usize = 5;
/// Most reasons that are told of one file.
const REASONS: usize = 3;

/// How the project was before the run.
#[derive(Debug)]
pub(crate) struct Before {
    git: GitBefore,
    /// Hooks and configuration that the configurations of git named then. What a new one names does not count: it is put
    /// aside itself.
    configured: Vec<PathBuf>,
    marks: BTreeMap<PathBuf, Mark>,
    /// What was hidden: nobody could change it.
    hidden: Vec<PathBuf>,
    stopped: bool,
    /// The user's real state, where the agent has it.
    pub(crate) state: SharedState,
    /// How the project is now, when somebody had time to look.
    after: Option<Survey>,
}

impl Before {
    /// Notes how the project is.
    pub(crate) fn of(
        project: &Project,
        survey: Survey,
        facts: &HostFacts,
        state: SharedState,
    ) -> Self {
        let directory = project.directory.as_fd();
        if survey.stopped {
            output::warn(&format!(
                "the project has more than the {} entries that were looked at; names that your programs would execute are protected only where they were seen",
                survey.entries
            ));
        }
        if survey.moving {
            output::warn(
                "directories of the project moved while it was looked at; names that your programs would execute are protected only where they were seen",
            );
        }
        let guarded = guarded(facts);
        let configured = configured_names(project, &survey, &user_git(facts));
        let names = survey.names.iter().map(|(path, _)| path);
        Self {
            git: git_before(directory, &survey, &configured),
            marks: names
                .filter(|path| !guarded.contains(path.as_path()))
                .filter_map(|path| Some((path.clone(), mark(directory, path)?)))
                .collect(),
            configured,
            hidden: survey.hidden,
            stopped: survey.stopped,
            state,
            after: None,
        }
    }

    /// Looks at the project after the agent has ended, for [`tell`].
    pub(crate) fn look_again(&mut self, project: &Project) {
        self.after = Some(self.look(project));
    }

    fn look(&self, project: &Project) -> Survey {
        let wanted = Wanted {
            hidden: &[],
            skipped: &self.hidden,
        };
        survey(project.directory.as_fd(), &wanted)
    }
}

fn user_git(facts: &HostFacts) -> UserGit<'_> {
    UserGit {
        home: &facts.home,
        environment: &facts.environment,
    }
}

/// What is read-only during the run.
fn guarded(facts: &HostFacts) -> BTreeSet<&Path> {
    let entries = facts.project.protected.iter();
    entries
        .filter(|entry| matches!(entry.kind, EntryKind::File | EntryKind::Directory))
        .map(|entry| entry.path.as_path())
        .collect()
}

/// Tells about new or changed names; a run that left none ends silently.
pub(crate) fn tell(session: &mut Session) {
    let seen = session.before.after.take();
    let session = &*session;
    let project = &session.project;
    let directory = project.directory.as_fd();
    let now = seen.unwrap_or_else(|| session.before.look(project));
    let guarded = guarded(&session.facts);
    let is_guarded = |path: &Path| path.ancestors().any(|path| guarded.contains(path));
    if !session
        .policy
        .hardening
        .dangerously_without_protected_paths
        .value
    {
        let left = git_left(
            directory,
            &project.root,
            &session.before.git,
            &now,
            &session.before.configured,
            &is_guarded,
        );
        tell_git(&left);
    }
    if now.stopped && !session.before.stopped {
        output::warn(&format!(
            "the agent left more than the {} entries that were looked at; what your programs would execute may be among the rest",
            now.entries
        ));
    }
    let mut listed = match appeared(session, &now) {
        Ok(new) => new,
        Err(error) => {
            output::warn(&format!(
                "cannot tell what the agent left: {}",
                escape(error.to_string())
            ));
            Vec::new()
        }
    };
    let mut counted = Vec::new();
    for (path, name) in &now.names {
        let before = session.before.marks.get(path);
        if is_guarded(path) || mark(directory, path).as_ref() == before {
            continue;
        }
        match name.class {
            ProtectedClass::Build => counted.push(path),
            ProtectedClass::Report => listed.push(line(path, Some(*name))),
            // New ones are among those that appeared.
            ProtectedClass::ReadOnly if before.is_some() => listed.push(line(path, Some(*name))),
            ProtectedClass::ReadOnly => {}
        }
    }
    tell_list(
        "new or changed in the project, and run or trusted by programs of your own outside the sandbox; look before you use them:",
        listed,
    );
    tell_counted(&counted);
}

/// Tells about names that only count when someone builds, tests or opens the project.
pub(crate) fn tell_counted(counted: &[&PathBuf]) {
    if !counted.is_empty() {
        let examples: Vec<String> = counted.iter().take(EXAMPLES).map(escape).collect();
        let more = if counted.len() > EXAMPLES { " …" } else { "" };
        let files = if counted.len() == 1 { "file" } else { "files" };
        output::note(&format!(
            "{} new or changed {files} run or count when you build, test or open the project: {}{more}",
            counted.len(),
            examples.join(", ")
        ));
    }
}

fn line(path: &Path, name: Option<&ProtectedName>) -> String {
    match name {
        Some(name) => format!("{} ({})", escape(path), name.reason),
        None => escape(path),
    }
}

/// Lists names under a heading; none needs no heading.
pub(crate) fn tell_list(heading: &str, mut listed: Vec<String>) {
    if listed.is_empty() {
        return;
    }
    listed.sort();
    listed.dedup();
    output::note(heading);
    for line in listed.iter().take(LISTED) {
        output::say(&format!("  {line}\n"));
    }
    if listed.len() > LISTED {
        output::say(&format!("  and {} more\n", listed.len() - LISTED));
    }
}

/// Says what git would have run and under which name it is now.
fn tell_git(found: &[GitFinding]) {
    for finding in found.iter().take(LISTED) {
        let path = escape(&finding.path);
        let reasons = finding.reasons.iter().take(REASONS).map(escape);
        let mut reasons: Vec<String> = reasons.collect();
        if finding.reasons.len() > REASONS {
            reasons.push(format!("and {} more", finding.reasons.len() - REASONS));
        }
        let reasons = reasons.join("; ");
        match &finding.outcome {
            GitOutcome::Aside(to) => output::note(&format!(
                "git on your host would obey {path} ({reasons}), so it is now {}; rename it back if you want it",
                escape(to)
            )),
            GitOutcome::Left => output::warn(&format!(
                "{path} was changed during the run: {reasons}; look before you use git there"
            )),
            GitOutcome::Failed(errno) => output::warn(&format!(
                "git on your host would obey {path} ({reasons}), and it could not be renamed: {}; remove it before you use git there",
                rcc_sys::describe_errno(*errno)
            )),
        }
    }
    if found.len() > LISTED {
        output::warn(&format!(
            "{} more files of git were treated in the same way; find them with: find . -name '*.rcc-aside*'",
            found.len() - LISTED
        ));
    }
}

/// Names that are read-only when they exist and were not there before, or were links that lead elsewhere now; of a new
/// directory only its own name.
fn appeared(session: &Session, now: &Survey) -> Result<Vec<String>, HostError> {
    let user = user_git(&session.facts);
    let names = host_names(&session.project, session.preset.as_ref(), now, &user);
    let before = &session.facts.project.protected;
    let entries: Vec<ProtectedEntry> =
        protected_entries(session.project.directory.as_fd(), &names)?;
    let new = entries.into_iter().filter(|entry| !before.contains(entry));
    Ok(new
        .map(|entry| line(&entry.path, reason_of(&entry.path)))
        .collect())
}

fn reason_of(path: &Path) -> Option<&'static ProtectedName> {
    PROTECTED_NAMES.iter().find(|name| {
        name.place != ProtectedPlace::GitDirectory
            && path.ends_with(name.path.trim_end_matches('/'))
    })
}
