//! The file tree: which paths of the host are shown, how, and in which order they are mounted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rcc_spec::{
    AgentPreset, DEFAULT_TMP_SIZE, FilesMode, LimitKey, PathSpec, Pattern, Policy, Sourced,
};

use crate::SafeBytes;
use crate::etc::etc;
use crate::facts::{EntryKind, FileIdentity, HostFacts};
use crate::plan::{Access, BindKind, Grant, LandlockRule, MountStep, PlanError};

/// Character devices of the minimal `/dev`. They are mounted read-only, which stops changes of their mode and owner but
/// not reading and writing the device itself.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links of `/dev` that programs expect.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Parts of `/proc` through which user id 0 could change the host; read-only.
const PROC_FROZEN: [&str; 10] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/mtrr",
    "/proc/dynamic_debug",
    "/proc/driver",
    "/proc/asound",
    "/proc/pressure",
];

/// Parts of `/proc` that tell about the host's kernel and other users; covered.
const PROC_HIDDEN: [&str; 18] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/kmsg",
    "/proc/kallsyms",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/slabinfo",
    "/proc/vmallocinfo",
    "/proc/pagetypeinfo",
    "/proc/vmcore",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/config.gz",
];

/// Size of `/dev/shm`: what browsers and databases need. It counts as the agent's memory, of which it takes no more than half.
const SHARED_MEMORY_BYTES: u64 = 1 << 30;

/// Host directories that no policy can grant: they are the kernel's, or hold sockets of host services, and a read-only
/// mount does not stop `connect(2)`.
const NEVER_GRANTED: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/var/run"];

/// The tree and what follows from it.
pub(crate) struct Files {
    pub(crate) mounts: Vec<MountStep>,
    pub(crate) landlock: Vec<LandlockRule>,
    /// Directories and files of the host that are visible inside at the same path.
    pub(crate) visible: Vec<PathBuf>,
}

/// One path of the host to be shown.
struct Grants {
    from: PathBuf,
    at: PathBuf,
    kind: BindKind,
    access: Access,
    /// The project's; no other grant has one.
    identity: Option<FileIdentity>,
    /// Whether `files.rw` names it.
    by_user: bool,
    /// Whether changes of it go to a layer.
    layered: bool,
}

/// The directories outside of the project that get a layer of their own in a copy-on-write run: those that `files.rw` names,
/// without what is part of another one or of the project. `shared` is the preset whose state the run shares.
///
/// # Errors
/// A path cannot be granted.
pub fn layered(
    policy: &Policy,
    preset: Option<&AgentPreset>,
    facts: &HostFacts,
) -> Result<Vec<PathBuf>, PlanError> {
    let shared = preset.filter(|_| policy.files.share_state.value);
    let grants = grants(policy, shared, facts)?.into_iter();
    let layered = grants.filter(|grant| grant.layered && grant.by_user);
    Ok(layered.map(|grant| grant.from).collect())
}

/// Plans the tree.
pub(crate) fn files(
    policy: &Policy,
    preset: Option<&AgentPreset>,
    facts: &HostFacts,
) -> Result<Files, PlanError> {
    let shared = preset.filter(|_| policy.files.share_state.value);
    let grants = grants(policy, shared, facts)?;
    let mut mounts = Vec::new();
    system(facts, &mut mounts);
    mounts.push(etc(facts));
    let tmp_size = policy
        .limits
        .value(LimitKey::TmpSize)
        .unwrap_or(DEFAULT_TMP_SIZE.bytes());
    mounts.push(tmpfs("/tmp", tmp_size, 0o1777));
    mounts.push(directory("/var", 0o755));
    mounts.push(if has_var_tmp(&grants) {
        tmpfs("/var/tmp", tmp_size, 0o1777)
    } else {
        symlink("/var/tmp", "/tmp")
    });
    mounts.push(directory("/run", 0o755));
    mounts.push(symlink("/var/run", "/run"));
    let memory = policy.limits.value(LimitKey::Memory);
    devices(memory, &mut mounts);
    kernel(facts, &mut mounts);
    for grant in &grants {
        mounts.push(show(grant, facts)?);
    }
    let read_only = grants
        .iter()
        .filter(|grant| grant.access == Access::ReadOnly);
    for grant in read_only {
        pin_parents(&grant.at, &grants, facts, &mut mounts);
    }
    if !policy.hardening.dangerously_without_protected_paths.value {
        let protected = facts
            .project
            .protected
            .iter()
            .map(|entry| (entry.path.as_path(), &entry.kind));
        protect(&facts.project.root, protected, &mut mounts);
        if let Some(preset) = shared {
            protect_state(preset, facts, &mut mounts);
        }
    }
    hide(policy, &grants, facts, &mut mounts)?;
    let mut visible: Vec<PathBuf> = facts
        .root_entries
        .iter()
        .map(|entry| entry.path.clone())
        .collect();
    visible.extend(
        grants
            .iter()
            .filter(|grant| grant.at != facts.home)
            .map(|grant| grant.at.clone()),
    );
    Ok(Files {
        mounts,
        landlock: landlock(&grants),
        visible,
    })
}

/// Mounts a path of the host, with a layer over it where changes go to one.
fn show(grant: &Grants, facts: &HostFacts) -> Result<MountStep, PlanError> {
    if !grant.layered {
        return Ok(MountStep::Bind {
            from: grant.from.clone().into(),
            at: grant.at.clone().into(),
            kind: grant.kind,
            access: grant.access,
            identity: grant.identity,
        });
    }
    let further = facts.rw_layers.get(&grant.from);
    let (layer, identity) = match grant.identity {
        Some(identity) => (facts.cow_layer.as_deref(), identity),
        None => (
            further.map(|further| further.layer.as_path()),
            further.ok_or(PlanError::NoLayer)?.identity,
        ),
    };
    Ok(MountStep::Overlay {
        lower: grant.from.clone().into(),
        layer: layer.ok_or(PlanError::NoLayer)?.into(),
        at: grant.at.clone().into(),
        identity,
    })
}

/// Marks what gets a layer in a copy-on-write run: the project, and each directory that the user made writable. What lies
/// in one of these is part of it, because a mount of its own would lead past the layer. A file can have none: an overlay
/// is made of directories.
fn lay(grants: Vec<Grants>) -> Vec<Grants> {
    let mut kept: Vec<Grants> = Vec::with_capacity(grants.len());
    // An outer one comes before those in it.
    for mut grant in grants {
        let around = kept.iter().rfind(|other| grant.at.starts_with(&other.at));
        let is_part = around.is_some_and(|around| around.layered);
        if grant.by_user && is_part {
            continue;
        }
        let is_project = grant.identity.is_some();
        grant.layered = is_project || (grant.by_user && grant.kind == BindKind::Directory);
        kept.push(grant);
    }
    kept
}

fn directory(at: &str, mode: u32) -> MountStep {
    MountStep::Directory {
        at: at.into(),
        mode,
    }
}

fn symlink(at: &str, target: &str) -> MountStep {
    MountStep::Symlink {
        at: at.into(),
        target: target.into(),
    }
}

fn tmpfs(at: &str, size_bytes: u64, mode: u32) -> MountStep {
    MountStep::Tmpfs {
        at: at.into(),
        size_bytes,
        mode,
    }
}

/// The operating system, read-only; links such as `/bin -> usr/bin` are made again.
fn system(facts: &HostFacts, mounts: &mut Vec<MountStep>) {
    for entry in &facts.root_entries {
        let at = SafeBytes::from(entry.path.as_path());
        match &entry.kind {
            EntryKind::Directory => {
                mounts.push(MountStep::Bind {
                    from: at.clone(),
                    at,
                    kind: BindKind::Directory,
                    access: Access::ReadOnly,
                    identity: None,
                });
            }
            EntryKind::Symlink(target) => mounts.push(MountStep::Symlink {
                at,
                target: target.as_path().into(),
            }),
            EntryKind::File | EntryKind::Other => {}
        }
    }
}

fn devices(memory: Option<u64>, mounts: &mut Vec<MountStep>) {
    mounts.push(directory("/dev", 0o755));
    for name in DEVICES {
        let path = SafeBytes::from(format!("/dev/{name}"));
        mounts.push(MountStep::Bind {
            from: path.clone(),
            at: path,
            kind: BindKind::Device,
            access: Access::ReadOnly,
            identity: None,
        });
    }
    for (name, target) in DEVICE_LINKS {
        mounts.push(symlink(&format!("/dev/{name}"), target));
    }
    let shared = memory.map_or(SHARED_MEMORY_BYTES, |all| SHARED_MEMORY_BYTES.min(all / 2));
    mounts.push(tmpfs("/dev/shm", shared, 0o1777));
    mounts.push(MountStep::Devpts);
}

/// `/proc` of the own pid namespace, masked, and the few parts of `/sys` that programs read. The rest of `/sys` stays
/// outside: a bind of it would show the host's interfaces and devices.
fn kernel(facts: &HostFacts, mounts: &mut Vec<MountStep>) {
    mounts.push(MountStep::Proc);
    mounts.extend(PROC_FROZEN.map(|at| MountStep::Freeze { at: at.into() }));
    mounts.extend(PROC_HIDDEN.map(|at| MountStep::Hide { at: at.into() }));
    mounts.push(directory("/sys", 0o755));
    for path in &facts.sys_entries {
        let at = SafeBytes::from(path.as_path());
        mounts.push(MountStep::Bind {
            from: at.clone(),
            at,
            kind: BindKind::Directory,
            access: Access::ReadOnly,
            identity: None,
        });
    }
}

/// Whether something is granted below `/var/tmp`. It is a link to `/tmp` otherwise; but to a mount point no link is
/// followed, so then it is a directory of its own.
fn has_var_tmp(grants: &[Grants]) -> bool {
    grants.iter().any(|grant| grant.at.starts_with("/var/tmp"))
}

/// Everything below the caller's part of the tree, parents before children; of two grants of one path the later one in
/// this function wins, so that the project stays writable inside a read-only `~/git`.
fn grants(
    policy: &Policy,
    shared: Option<&AgentPreset>,
    facts: &HostFacts,
) -> Result<Vec<Grants>, PlanError> {
    let mut grants = Vec::new();
    let mut push = |from: &Path, at: &Path, kind, access, identity, by_user| {
        grants.retain(|grant: &Grants| grant.at != at);
        grants.push(Grants {
            from: from.to_owned(),
            at: at.to_owned(),
            kind,
            access,
            identity,
            by_user,
            layered: false,
        });
    };
    push(
        &facts.agent_home,
        &facts.home,
        BindKind::Directory,
        Access::ReadWrite,
        None,
        false,
    );
    for state in shared.iter().flat_map(|preset| &preset.share) {
        // State that does not exist yet is made in the agent home instead, and imported by nobody.
        if let Some((canonical, kind)) = existing_state(&state.path, facts) {
            push(
                canonical,
                &facts.home.join(state.path.relative()),
                kind,
                Access::ReadWrite,
                None,
                false,
            );
        }
    }
    if let Some(git) = &facts.git_directory {
        push(git, git, BindKind::Directory, Access::ReadOnly, None, false);
    }
    for toolchain in &facts.toolchains {
        let kind = if toolchain.directory {
            BindKind::Directory
        } else {
            BindKind::File
        };
        push(
            &toolchain.path,
            &toolchain.path,
            kind,
            Access::ReadOnly,
            None,
            false,
        );
    }
    for (setting, access, paths) in [
        ("files.readonly", Access::ReadOnly, &policy.files.readonly),
        ("files.rw", Access::ReadWrite, &policy.files.rw),
    ] {
        for path in paths {
            let (canonical, kind) = resolve(path, setting, facts)?;
            let by_user = access == Access::ReadWrite;
            push(&canonical, &canonical, kind, access, None, by_user);
        }
    }
    let project = &facts.project;
    push(
        &project.root,
        &project.root,
        BindKind::Directory,
        Access::ReadWrite,
        Some(project.identity),
        false,
    );
    // Component-wise order: a parent before everything below it.
    grants.sort_by(|a, b| a.at.cmp(&b.at));
    match policy.files.mode.value {
        FilesMode::Direct => Ok(grants),
        FilesMode::Cow => Ok(lay(grants)),
    }
}

/// Finds a path of the policy and refuses what would undo the sandbox.
fn resolve(
    path: &Sourced<PathSpec>,
    setting: &'static str,
    facts: &HostFacts,
) -> Result<(PathBuf, BindKind), PlanError> {
    let shown = || SafeBytes::from(path.value.as_str());
    let (canonical, kind) = facts
        .resolved
        .get(Path::new(path.value.as_str()))
        .ok_or_else(|| PlanError::PathMissing {
            path: shown(),
            setting,
        })?;
    let forbidden = |reason| {
        Err(PlanError::PathForbidden {
            path: shown(),
            setting,
            reason,
        })
    };
    if facts.home.starts_with(canonical) {
        return forbidden("it contains the home directory, whose secrets must stay outside");
    }
    if facts.agent_home.starts_with(canonical) {
        return forbidden("it contains rcc's own state, which must stay out of the agent's reach");
    }
    if NEVER_GRANTED.iter().any(|root| canonical.starts_with(root)) {
        return forbidden(
            "it belongs to the kernel or holds sockets of host services, which a read-only mount does not close",
        );
    }
    if canonical.starts_with("/etc") {
        return forbidden("rcc builds /etc itself");
    }
    match kind {
        EntryKind::Directory => Ok((canonical.clone(), BindKind::Directory)),
        EntryKind::File => Ok((canonical.clone(), BindKind::File)),
        EntryKind::Symlink(_) | EntryKind::Other => Err(PlanError::PathKind {
            path: shown(),
            setting,
        }),
    }
}

/// Looks up a path of the agent's real state.
fn existing_state<'a>(path: &PathSpec, facts: &'a HostFacts) -> Option<(&'a Path, BindKind)> {
    match facts.resolved.get(Path::new(path.as_str())) {
        Some((canonical, EntryKind::Directory)) => Some((canonical, BindKind::Directory)),
        Some((canonical, EntryKind::File)) => Some((canonical, BindKind::File)),
        _ => None,
    }
}

/// Protects the host-executed parts of the agent's real state: its settings, hooks, plugins.
fn protect_state(preset: &AgentPreset, facts: &HostFacts, mounts: &mut Vec<MountStep>) {
    for shared in &preset.share {
        let root = shared.path.relative();
        let real_root = facts.resolved.get(Path::new(shared.path.as_str()));
        let parts = preset.state_protected.iter().filter_map(|part| {
            let below = Path::new(part.path.relative())
                .strip_prefix(root)
                .ok()
                .filter(|below| !below.as_os_str().is_empty())?;
            let (real, kind) = facts.resolved.get(Path::new(part.path.as_str()))?;
            // A link stays where it is, and what it leads to is as much the part as the link.
            let behind = real_root.and_then(|(root, _)| real.strip_prefix(root).ok());
            let behind = behind.filter(|behind| *behind != below && !behind.as_os_str().is_empty());
            Some(
                [Some(below), behind]
                    .into_iter()
                    .flatten()
                    .map(move |path| (path, kind)),
            )
        });
        let parts = parts.flatten();
        protect(&facts.home.join(root), parts, mounts);
    }
}

/// Makes what the host would execute later read-only, and pins every directory on the way: a directory that is not a
/// mount point could be renamed together with the read-only file in it, and a writable copy put in its place.
///
/// A link or a special file cannot be covered; such entries are reported when they change.
fn protect<'a>(
    root: &Path,
    entries: impl Iterator<Item = (&'a Path, &'a EntryKind)>,
    mounts: &mut Vec<MountStep>,
) {
    let mut pinned = BTreeSet::new();
    let mut closed: BTreeSet<&Path> = BTreeSet::new();
    for (path, kind) in entries {
        let coverable = matches!(kind, EntryKind::Directory | EntryKind::File);
        if !coverable || path.ancestors().any(|ancestor| closed.contains(ancestor)) {
            continue;
        }
        let mut parents: Vec<&Path> = path
            .ancestors()
            .skip(1)
            .filter(|parent| !parent.as_os_str().is_empty())
            .collect();
        parents.reverse();
        for parent in parents {
            if pinned.insert(parent) {
                mounts.push(MountStep::Pin {
                    at: root.join(parent).into(),
                    access: Access::ReadWrite,
                });
            }
        }
        closed.insert(path);
        mounts.push(MountStep::Pin {
            at: root.join(path).into(),
            access: Access::ReadOnly,
        });
    }
}

/// Pins the directories between a path and the writable grant that holds it: renamed, they would take the path along,
/// and the next run would look for it where it is no more. Says whether there is such a grant.
fn pin_parents(
    path: &Path,
    grants: &[Grants],
    facts: &HostFacts,
    mounts: &mut Vec<MountStep>,
) -> bool {
    // Grants are sorted: of those around the path the last is the nearest.
    let around = grants
        .iter()
        .rfind(|grant| grant.at != path && path.starts_with(&grant.at));
    let Some(holder) = around.filter(|holder| {
        // The agent home is the agent's own, mount points included.
        holder.access == Access::ReadWrite && holder.at != facts.home
    }) else {
        return false;
    };
    let parents: Vec<&Path> = path
        .ancestors()
        .skip(1)
        .take_while(|parent| *parent != holder.at)
        .collect();
    for parent in parents.into_iter().rev() {
        let at = SafeBytes::from(parent);
        let is_there =
            |step: &MountStep| matches!(step, MountStep::Pin { at: other, .. } if *other == at);
        if !mounts.iter().any(is_there) {
            let access = Access::ReadWrite;
            mounts.push(MountStep::Pin { at, access });
        }
    }
    true
}

fn hide(
    policy: &Policy,
    grants: &[Grants],
    facts: &HostFacts,
    mounts: &mut Vec<MountStep>,
) -> Result<(), PlanError> {
    let root = &facts.project.root;
    let mut covered: BTreeSet<&Path> = facts.hidden.iter().map(PathBuf::as_path).collect();
    for path in &policy.files.hidden {
        let forbidden = |reason| PlanError::PathForbidden {
            path: path.value.as_str().into(),
            setting: "files.hidden",
            reason,
        };
        let pattern = Pattern::of(&path.value, &root.to_string_lossy());
        if pattern.as_ref().is_some_and(Pattern::is_everything) {
            return Err(forbidden("it matches everything in the project"));
        }
        if path.value.has_wildcard() && pattern.is_none() {
            return Err(forbidden("patterns are for paths in the project"));
        }
        if path.value.has_wildcard() {
            continue;
        }
        // What does not exist needs no cover; the agent may create it, and then it is the agent's own.
        if let Some((canonical, _)) = facts.resolved.get(Path::new(path.value.as_str())) {
            if root.starts_with(canonical) {
                return Err(forbidden("the project would be hidden with it"));
            }
            covered.insert(canonical);
        }
    }
    // Sorted: of two that lie in one another only the outer is left, the inner is behind its cover.
    let mut outer: Option<&Path> = None;
    for path in covered {
        if outer.is_some_and(|outer| path.starts_with(outer)) {
            continue;
        }
        outer = Some(path);
        let at = SafeBytes::from(path);
        if pin_parents(path, grants, facts, mounts) {
            // Pinning is strict where hiding is not: a path that is gone by now was moved away by another run.
            let access = Access::ReadOnly;
            mounts.push(MountStep::Pin {
                at: at.clone(),
                access,
            });
        }
        mounts.push(MountStep::Hide { at });
    }
    Ok(())
}

fn landlock(grants: &[Grants]) -> Vec<LandlockRule> {
    let fixed = [
        ("/tmp", Grant::Files),
        ("/dev", Grant::Devices),
        ("/proc", Grant::Files),
    ];
    let granted = grants
        .iter()
        .filter(|grant| grant.access == Access::ReadWrite)
        .map(|grant| LandlockRule {
            path: grant.at.clone().into(),
            grant: Grant::Files,
        });
    let var_tmp = has_var_tmp(grants).then_some(("/var/tmp", Grant::Files));
    fixed
        .into_iter()
        .chain(var_tmp)
        .map(|(path, grant)| LandlockRule {
            path: path.into(),
            grant,
        })
        .chain(granted)
        .collect()
}
