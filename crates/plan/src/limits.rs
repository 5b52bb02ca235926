//! Which limits are put in force by what: a group of the user's systemd, a group of the kernel, or a limit of the processes.
//!
//! Pure, as all of planning. A limit that somebody named and that cannot be enforced is an error; rcc's own default becomes a
//! warning. Must not pretend: what only part of the limit's words would mean is not used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rcc_spec::{LimitKey, Limits, Origin};
use serde::{Deserialize, Serialize};

use crate::SafeBytes;
use crate::plan::PlanError;

/// A part of the kernel that limits groups of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    /// Memory and swap.
    Memory,
    /// Processor time.
    Cpu,
    /// Number of processes.
    Pids,
    /// Disk traffic.
    Io,
}

impl Controller {
    /// The name in version 2 of control groups.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "io",
        }
    }

    /// What enforces a limit; none for limits that need no group.
    #[must_use]
    pub const fn of(key: LimitKey) -> Option<Self> {
        match key {
            LimitKey::Memory | LimitKey::MemoryHigh | LimitKey::MemoryLow | LimitKey::Swap => {
                Some(Self::Memory)
            }
            LimitKey::Cpus | LimitKey::CpuWeight => Some(Self::Cpu),
            LimitKey::Pids => Some(Self::Pids),
            LimitKey::IoRead | LimitKey::IoWrite | LimitKey::IoWeight => Some(Self::Io),
            LimitKey::TmpSize
            | LimitKey::DiskFree
            | LimitKey::LayerSize
            | LimitKey::HomeSize
            | LimitKey::Timeout
            | LimitKey::IdleTimeout => None,
        }
    }
}

/// Which systemd makes a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The caller's own.
    User,
    /// The machine's, for root.
    System,
}

/// Where the program is that speaks with systemd, and comes with it: everywhere, and on NixOS.
pub const BUSCTL: [&str; 2] = ["/usr/bin/busctl", "/run/current-system/sw/bin/busctl"];

/// A systemd that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeFacts {
    /// Which one.
    pub manager: Manager,
    /// What it may hand out.
    pub controllers: BTreeSet<Controller>,
    /// What a scope of it would not be held to any more.
    pub left: LeftBehind,
}

/// Limits of rcc's own group and of those above it, below which the new group would not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftBehind {
    /// Those that the new group can have, too; of several the narrowest.
    pub settings: GroupSettings,
    /// The kernel's names of the others, such as `cpuset.cpus`.
    pub others: BTreeSet<&'static str>,
}

/// A group of version 2 below which this user can make others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnifiedFacts {
    /// Its directory.
    pub parent: PathBuf,
    /// What its children have.
    pub controllers: BTreeSet<Controller>,
    /// What a child of it would not be held to any more.
    pub left: LeftBehind,
}

/// What the host offers for limits. Looked at only when some limit needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// systemd.
    pub scope: Option<ScopeFacts>,
    /// Version 2 directly.
    pub unified: Option<UnifiedFacts>,
    /// Version 1: for each controller (`memory`, `cpu`, `cpuacct`, `pids`, `blkio`) the directory in which this user can make groups.
    pub legacy: BTreeMap<String, PathBuf>,
    /// Whether the limit on a user's processes (`RLIMIT_NPROC`) binds the agent. It does not bind the machine's root.
    pub process_limit_binds: bool,
    /// Major and minor number of the disk that the project is on.
    pub disk: Option<(u32, u32)>,
    /// Whether the machine has swap space in use that the kernel does not count by groups.
    pub swap_uncounted: bool,
    /// Why there is no group, and what to do; at least one when there is none.
    pub obstacles: Vec<GroupObstacle>,
}

/// Something that keeps a group from being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupObstacle {
    /// What it is.
    pub reason: String,
    /// The fix.
    pub fix: String,
}

/// Where the group of a run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPlace {
    /// A transient scope of systemd.
    Scope {
        /// Which systemd.
        manager: Manager,
    },
    /// A directory of version 2.
    Unified {
        /// The directory above it.
        parent: SafeBytes,
    },
    /// Directories of version 1.
    Legacy {
        /// For each controller the directory above it.
        parents: BTreeMap<String, SafeBytes>,
    },
}

/// The settings of a group; what is none is not set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupSettings {
    /// Memory in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Memory in bytes from which on the group is slowed down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<u64>,
    /// Memory in bytes that is protected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_low: Option<u64>,
    /// Swap in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<u64>,
    /// Thousandths of a processor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u64>,
    /// 1 to 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_weight: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Bytes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read: Option<u64>,
    /// Bytes in a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_write: Option<u64>,
    /// 1 to 10000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_weight: Option<u64>,
    /// The disk of `io_read` and `io_write`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<(u32, u32)>,
}

impl GroupSettings {
    /// The settings that there are.
    pub fn all(&self) -> impl Iterator<Item = (LimitKey, u64)> {
        [
            (LimitKey::Memory, self.memory),
            (LimitKey::MemoryHigh, self.memory_high),
            (LimitKey::MemoryLow, self.memory_low),
            (LimitKey::Swap, self.swap),
            (LimitKey::Cpus, self.cpus),
            (LimitKey::CpuWeight, self.cpu_weight),
            (LimitKey::Pids, self.pids),
            (LimitKey::IoRead, self.io_read),
            (LimitKey::IoWrite, self.io_write),
            (LimitKey::IoWeight, self.io_weight),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, key: LimitKey) -> Option<u64> {
        self.all()
            .find_map(|(one, value)| (one == key).then_some(value))
    }

    /// Makes one no larger than this; tells whether it was.
    pub fn narrow(&mut self, key: LimitKey, most: u64) -> bool {
        let is_larger = self.get(key).is_none_or(|value| value > most);
        if is_larger {
            self.set(key, Some(most));
        }
        is_larger
    }

    fn set(&mut self, key: LimitKey, value: Option<u64>) {
        match key {
            LimitKey::Memory => self.memory = value,
            LimitKey::MemoryHigh => self.memory_high = value,
            LimitKey::MemoryLow => self.memory_low = value,
            LimitKey::Swap => self.swap = value,
            LimitKey::Cpus => self.cpus = value,
            LimitKey::CpuWeight => self.cpu_weight = value,
            LimitKey::Pids => self.pids = value,
            LimitKey::IoRead => self.io_read = value,
            LimitKey::IoWrite => self.io_write = value,
            LimitKey::IoWeight => self.io_weight = value,
            LimitKey::TmpSize
            | LimitKey::DiskFree
            | LimitKey::LayerSize
            | LimitKey::HomeSize
            | LimitKey::Timeout
            | LimitKey::IdleTimeout => {}
        }
    }
}

/// The group of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlan {
    /// Where it is.
    pub place: GroupPlace,
    /// What it is limited to.
    pub settings: GroupSettings,
}

/// Room on file systems that a run leaves to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFree {
    /// Bytes.
    pub bytes: u64,
    /// Whether nobody named it: then less of small file systems does, and one that has less already is no reason to refuse.
    pub is_default: bool,
}

/// Everything that limits a run, besides the size of its `/tmp`, which is a mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsPlan {
    /// The group, when one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupPlan>,
    /// Processes and threads of the sandbox's user namespace (`RLIMIT_NPROC`), where no group counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Room that is left on the file systems that the agent can fill.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_free: Option<DiskFree>,
    /// Bytes that the layers of a copy-on-write run may take together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_size: Option<u64>,
    /// Bytes that the agent home may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home_size: Option<u64>,
    /// Milliseconds after which the run is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Milliseconds without activity after which the run is ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

impl LimitsPlan {
    /// Whether nothing has to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Plans the limits. The second value are warnings.
pub(crate) fn limits(
    wanted: &Limits,
    facts: &GroupFacts,
) -> Result<(LimitsPlan, Vec<String>), PlanError> {
    let mut plan = LimitsPlan {
        disk_free: wanted.value(LimitKey::DiskFree).map(|bytes| DiskFree {
            bytes,
            is_default: wanted.stated(LimitKey::DiskFree).is_none(),
        }),
        layer_size: wanted.value(LimitKey::LayerSize),
        home_size: wanted.value(LimitKey::HomeSize),
        timeout_ms: wanted.value(LimitKey::Timeout),
        idle_timeout_ms: wanted.value(LimitKey::IdleTimeout),
        ..LimitsPlan::default()
    };
    let mut warnings = Vec::new();
    let named: Vec<(LimitKey, u64, &Origin)> = wanted
        .named()
        .filter(|(key, value, _)| {
            let needless = *key == LimitKey::MemoryLow && *value == 0;
            Controller::of(*key).is_some() && !needless
        })
        .collect();
    let pids = wanted.value(LimitKey::Pids);
    // What processes are held to without a group needs none.
    let grouped: Vec<_> = named
        .iter()
        .filter(|(key, _, _)| *key != LimitKey::Pids || !facts.process_limit_binds)
        .collect();
    let needed: BTreeSet<Controller> = grouped
        .iter()
        .filter_map(|(key, _, _)| Controller::of(*key))
        .collect();
    let place = if needed.is_empty() {
        // Processes are held to it without a group, too. Only a group counts what was refused, and the user reads it.
        let names_pids = named.iter().any(|(key, _, _)| *key == LimitKey::Pids);
        let place = || choose(facts, &BTreeSet::from([Controller::Pids]));
        names_pids.then(place).flatten()
    } else {
        let place = choose(facts, &needed);
        // The one that is named is the first that systemd, which comes first, could not keep.
        let kept = facts.scope.as_ref().map(|scope| &scope.controllers);
        let lost = grouped.iter().find(|(key, _, _)| {
            let controller = Controller::of(*key);
            !kept.is_some_and(|kept| controller.is_some_and(|one| kept.contains(&one)))
        });
        if let Some(&&(key, _, origin)) = lost.or(grouped.first())
            && place.is_none()
        {
            return Err(refusal(key, origin, facts, &needed));
        }
        place
    };
    if let Some(place) = place {
        let mut settings = GroupSettings::default();
        for &&(key, value, origin) in &grouped {
            check(key, value, origin, &place, wanted, facts)?;
            settings.set(key, Some(value));
        }
        if settings.io_read.is_some() || settings.io_write.is_some() {
            settings.disk = facts.disk;
        }
        // Without it a run that has used its memory up fills the swap space before anything is killed.
        let no_swap_said = wanted.stated(LimitKey::Swap).is_none();
        if settings.memory.is_some() && no_swap_said && !facts.swap_uncounted {
            settings.swap = wanted.value(LimitKey::Swap);
        }
        if pids.is_some() && has(facts, &place, Controller::Pids) {
            settings.pids = pids;
        }
        plan.group = Some(GroupPlan { place, settings });
    }
    let counted = plan
        .group
        .as_ref()
        .is_some_and(|group| group.settings.pids.is_some());
    if let Some(pids) = pids
        && !counted
    {
        if facts.process_limit_binds {
            plan.processes = Some(pids);
        } else if let (None, Some(place)) = (
            &plan.group,
            directly(facts, &BTreeSet::from([Controller::Pids])),
        ) {
            let settings = GroupSettings {
                pids: Some(pids),
                ..GroupSettings::default()
            };
            plan.group = Some(GroupPlan { place, settings });
        } else {
            warnings.push(format!(
                "the number of processes is not limited, because no group can be made and root is free of the other limit; {}, or say pids = \"none\" in [limits]",
                facts.obstacles.first().map_or("run rcc as an ordinary user", |obstacle| &obstacle.fix)
            ));
        }
    }
    if let Some(group) = &mut plan.group {
        warnings.extend(hold_to_own(group, wanted, facts));
    }
    Ok((plan, warnings))
}

/// Holds the group to what rcc itself is held to: whoever starts rcc in a group with a limit means the agent. The result are
/// warnings.
fn hold_to_own(group: &mut GroupPlan, wanted: &Limits, facts: &GroupFacts) -> Vec<String> {
    let left = match &group.place {
        GroupPlace::Scope { .. } => facts.scope.as_ref().map(|scope| &scope.left),
        GroupPlace::Unified { .. } => facts.unified.as_ref().map(|unified| &unified.left),
        // Its groups are made below the own ones.
        GroupPlace::Legacy { .. } => None,
    };
    let Some(left) = left else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    let mut lost: Vec<&str> = Vec::new();
    for (key, most) in left.settings.all() {
        if !Controller::of(key).is_some_and(|one| has(facts, &group.place, one)) {
            lost.push(key.as_str());
        } else if group.settings.narrow(key, most)
            && let Some(stated) = wanted.stated(key)
            && let Some(value) = stated.value.value()
        {
            warnings.push(format!(
                "{} = {} ({}) is more than the control group has that rcc was started in; {} is used",
                key.as_str(),
                key.show(value),
                stated.origin,
                key.show(most)
            ));
        }
    }
    lost.extend(&left.others);
    if !lost.is_empty() {
        warnings.push(format!(
            "the control group that rcc was started in is limited in {}, and the run, which gets a group beside it, is not; limit the slice above instead",
            lost.join(", ")
        ));
    }
    warnings
}

/// The first place that has every controller: systemd, version 2, version 1.
fn choose(facts: &GroupFacts, needed: &BTreeSet<Controller>) -> Option<GroupPlace> {
    let scope = facts
        .scope
        .as_ref()
        .filter(|scope| needed.is_subset(&scope.controllers))
        .map(|scope| GroupPlace::Scope {
            manager: scope.manager,
        });
    scope.or_else(|| directly(facts, needed))
}

/// The first place that costs no conversation with another program.
fn directly(facts: &GroupFacts, needed: &BTreeSet<Controller>) -> Option<GroupPlace> {
    let unified = facts
        .unified
        .as_ref()
        .filter(|unified| needed.is_subset(&unified.controllers))
        .map(|unified| GroupPlace::Unified {
            parent: unified.parent.clone().into(),
        });
    unified.or_else(|| {
        let names = needed.iter().map(|controller| legacy_name(*controller));
        let all = names.clone().all(|name| facts.legacy.contains_key(name));
        // A group for more than the default is looked at, too: what costs nothing more comes along.
        let only_pids = needed.len() == 1 && needed.contains(&Controller::Pids);
        let parents = facts
            .legacy
            .iter()
            .filter(|(name, _)| !only_pids || names.clone().any(|wanted| wanted == name.as_str()))
            .map(|(name, path)| (name.clone(), path.clone().into()))
            .collect();
        all.then_some(GroupPlace::Legacy { parents })
    })
}

/// The name in version 1.
const fn legacy_name(controller: Controller) -> &'static str {
    match controller {
        Controller::Io => "blkio",
        Controller::Memory => "memory",
        Controller::Cpu => "cpu",
        Controller::Pids => "pids",
    }
}

fn has(facts: &GroupFacts, place: &GroupPlace, controller: Controller) -> bool {
    match place {
        GroupPlace::Scope { .. } => facts
            .scope
            .as_ref()
            .is_some_and(|scope| scope.controllers.contains(&controller)),
        GroupPlace::Unified { .. } => facts
            .unified
            .as_ref()
            .is_some_and(|unified| unified.controllers.contains(&controller)),
        GroupPlace::Legacy { parents } => parents.contains_key(legacy_name(controller)),
    }
}

/// Refuses what the chosen place has no means for.
fn check(
    key: LimitKey,
    value: u64,
    origin: &Origin,
    place: &GroupPlace,
    wanted: &Limits,
    facts: &GroupFacts,
) -> Result<(), PlanError> {
    let refuse = |reason: &str, fix: &str| {
        Err(PlanError::LimitNotEnforceable {
            limit: format!("{} = {}", key.as_str(), key.show(value)),
            origin: origin.to_string(),
            reason: reason.to_owned(),
            fix: fix.to_owned(),
        })
    };
    let is_legacy = matches!(place, GroupPlace::Legacy { .. });
    match key {
        LimitKey::MemoryHigh | LimitKey::MemoryLow | LimitKey::IoWeight if is_legacy => refuse(
            "version 1 of control groups has nothing like it",
            "boot with systemd.unified_cgroup_hierarchy=1, or leave it out",
        ),
        LimitKey::Swap if is_legacy && wanted.value(LimitKey::Memory).is_none() => refuse(
            "version 1 of control groups limits memory and swap together only",
            "name a limit of memory, too",
        ),
        LimitKey::Swap if facts.swap_uncounted => refuse(
            "this kernel does not count swap space by groups",
            "boot with swapaccount=1, turn swap space off (swapoff -a), or leave it out",
        ),
        LimitKey::IoRead | LimitKey::IoWrite if facts.disk.is_none() => refuse(
            "the project is on no disk that the kernel knows by number",
            "leave it out: file systems over a network or in memory have no such limit",
        ),
        _ => Ok(()),
    }
}

fn refusal(
    key: LimitKey,
    origin: &Origin,
    facts: &GroupFacts,
    needed: &BTreeSet<Controller>,
) -> PlanError {
    let list = |controllers: &mut dyn Iterator<Item = &Controller>| {
        controllers
            .map(|controller| controller.as_str())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (reason, fix) = match (&facts.scope, facts.obstacles.first()) {
        (Some(scope), _) => {
            let missing = list(&mut needed.difference(&scope.controllers));
            let fix = match scope.manager {
                Manager::User => {
                    "sudo systemctl edit user@.service, write [Service] and Delegate=cpu cpuset io memory pids, then log in again".to_owned()
                }
                Manager::System => "the kernel's command line must not switch it off (cgroup_disable=)".to_owned(),
            };
            (
                format!("systemd may not hand out the controller {missing}"),
                fix,
            )
        }
        (None, Some(obstacle)) => (obstacle.reason.clone(), obstacle.fix.clone()),
        (None, None) => (
            format!("no group has the controllers {}", list(&mut needed.iter())),
            "rcc doctor says what is missing".to_owned(),
        ),
    };
    PlanError::LimitNotEnforceable {
        limit: key.as_str().to_owned(),
        origin: origin.to_string(),
        reason,
        fix,
    }
}

#[cfg(test)]
mod tests;
