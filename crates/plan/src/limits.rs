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

/// A systemd that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeFacts {
    /// Which one.
    pub manager: Manager,
    /// What it may hand out.
    pub controllers: BTreeSet<Controller>,
}

/// A group of version 2 below which this user can make others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnifiedFacts {
    /// Its directory.
    pub parent: PathBuf,
    /// What its children have.
    pub controllers: BTreeSet<Controller>,
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
        if settings.memory.is_some() && no_swap_said {
            settings.swap = Some(0);
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
    Ok((plan, warnings))
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
mod tests {
    use super::*;
    use rcc_spec::Sourced;

    fn said(entries: &[(LimitKey, &str)]) -> Limits {
        let mut limits = Limits::default();
        for (key, text) in entries {
            let limit = key.parse(text).unwrap();
            limits.set(*key, Sourced::new(limit, Origin::flag(key.flag())));
        }
        limits
    }

    fn nobody() -> GroupFacts {
        GroupFacts {
            process_limit_binds: true,
            obstacles: vec![GroupObstacle {
                reason: "there is no systemd of this user".to_owned(),
                fix: "loginctl enable-linger".to_owned(),
            }],
            ..GroupFacts::default()
        }
    }

    fn root_of_version_1() -> GroupFacts {
        GroupFacts {
            legacy: ["memory", "cpu", "cpuacct", "pids", "blkio"]
                .map(|name| {
                    (
                        name.to_owned(),
                        PathBuf::from(format!("/sys/fs/cgroup/{name}")),
                    )
                })
                .into(),
            disk: Some((8, 0)),
            ..GroupFacts::default()
        }
    }

    fn systemd(controllers: &[Controller]) -> GroupFacts {
        GroupFacts {
            scope: Some(ScopeFacts {
                manager: Manager::User,
                controllers: controllers.iter().copied().collect(),
            }),
            process_limit_binds: true,
            ..GroupFacts::default()
        }
    }

    #[test]
    fn the_default_needs_no_group_where_the_process_limit_binds() {
        for facts in [nobody(), systemd(&[Controller::Memory, Controller::Pids])] {
            let (plan, warnings) = limits(&Limits::default(), &facts).unwrap();
            assert_eq!(plan.processes, Some(rcc_spec::DEFAULT_PIDS));
            assert_eq!((plan.group, warnings), (None, Vec::new()));
        }
    }

    #[test]
    fn a_named_number_of_processes_is_counted_where_a_group_can_be_made() {
        let named = said(&[(LimitKey::Pids, "100")]);
        let (plan, _) = limits(&named, &systemd(&[Controller::Memory, Controller::Pids])).unwrap();
        assert_eq!(plan.group.unwrap().settings.pids, Some(100));
        assert_eq!(plan.processes, None);
        for facts in [nobody(), systemd(&[Controller::Memory])] {
            let (plan, _) = limits(&named, &facts).unwrap();
            assert_eq!((plan.group, plan.processes), (None, Some(100)));
        }
        let none = said(&[(LimitKey::Pids, "none")]);
        let (plan, _) = limits(&none, &systemd(&[Controller::Pids])).unwrap();
        assert_eq!((plan.group, plan.processes), (None, None));
    }

    #[test]
    fn root_counts_processes_in_a_group_or_is_warned() {
        let (plan, warnings) = limits(&Limits::default(), &root_of_version_1()).unwrap();
        let group = plan.group.unwrap();
        assert_eq!(group.settings.pids, Some(rcc_spec::DEFAULT_PIDS));
        assert_eq!(
            group.place,
            GroupPlace::Legacy {
                parents: BTreeMap::from([("pids".to_owned(), "/sys/fs/cgroup/pids".into())])
            }
        );
        assert_eq!((plan.processes, warnings.len()), (None, 0));
        let without = GroupFacts {
            process_limit_binds: false,
            ..nobody()
        };
        let (plan, warnings) = limits(&Limits::default(), &without).unwrap();
        assert_eq!((plan.group, plan.processes), (None, None));
        assert!(
            warnings.len() == 1 && warnings[0].contains("loginctl enable-linger"),
            "{warnings:?}"
        );
        // Who wants none is not warned.
        let none = said(&[(LimitKey::Pids, "none")]);
        let (plan, warnings) = limits(&none, &without).unwrap();
        assert_eq!((plan.group, plan.processes), (None, None));
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn disks_keep_some_room_whoever_named_it() {
        let of = |wanted: &Limits| limits(wanted, &nobody()).unwrap().0.disk_free;
        let bytes = rcc_spec::DEFAULT_DISK_FREE;
        let is_default = true;
        assert_eq!(of(&Limits::default()), Some(DiskFree { bytes, is_default }));
        let (bytes, is_default) = (5 << 30, false);
        assert_eq!(
            of(&said(&[(LimitKey::DiskFree, "5GiB")])),
            Some(DiskFree { bytes, is_default })
        );
        assert_eq!(of(&said(&[(LimitKey::DiskFree, "none")])), None);
    }

    #[test]
    fn a_named_limit_that_cannot_be_enforced_is_refused_with_the_fix() {
        for key in LimitKey::ALL {
            let Some(_) = Controller::of(*key) else {
                continue;
            };
            let text = match key.quantity() {
                rcc_spec::Quantity::Size | rcc_spec::Quantity::Rate => "1GiB",
                _ => "64",
            };
            let planned = limits(&said(&[(*key, text)]), &nobody());
            if *key == LimitKey::Pids {
                assert_eq!(planned.unwrap().0.processes, Some(64));
                continue;
            }
            let Err(PlanError::LimitNotEnforceable {
                limit, origin, fix, ..
            }) = planned
            else {
                panic!("{key} was planned")
            };
            assert_eq!(
                (limit.as_str(), fix.as_str()),
                (key.as_str(), "loginctl enable-linger")
            );
            assert_eq!(origin, format!("flag {}", key.flag()));
        }
        // "none" needs nothing.
        assert!(limits(&said(&[(LimitKey::Memory, "none")]), &nobody()).is_ok());
    }

    #[test]
    fn systemd_comes_first_and_what_it_may_not_hand_out_is_named() {
        let memory = said(&[(LimitKey::Memory, "1GiB")]);
        let all = systemd(&[Controller::Memory, Controller::Pids]);
        let group = limits(&memory, &all).unwrap().0.group.unwrap();
        assert_eq!(
            group.place,
            GroupPlace::Scope {
                manager: Manager::User
            }
        );
        // A group that is there anyway counts processes, too, and memory means all of it.
        assert_eq!(
            (group.settings.pids, group.settings.swap),
            (Some(4096), Some(0))
        );
        let io = said(&[(LimitKey::IoWeight, "50")]);
        let Err(PlanError::LimitNotEnforceable { reason, fix, .. }) = limits(&io, &all) else {
            panic!("planned")
        };
        assert!(
            reason.contains(" io") && fix.contains("Delegate="),
            "{reason} {fix}"
        );
        let both = GroupFacts {
            unified: Some(UnifiedFacts {
                parent: "/sys/fs/cgroup/x".into(),
                controllers: BTreeSet::from([Controller::Io]),
            }),
            ..all
        };
        let group = limits(&io, &both).unwrap().0.group.unwrap();
        assert!(matches!(group.place, GroupPlace::Unified { .. }));
    }

    #[test]
    fn version_1_refuses_what_it_does_not_have() {
        let facts = root_of_version_1();
        for key in [
            LimitKey::MemoryHigh,
            LimitKey::MemoryLow,
            LimitKey::IoWeight,
        ] {
            let text = if key == LimitKey::IoWeight {
                "50"
            } else {
                "64MiB"
            };
            assert!(limits(&said(&[(key, text)]), &facts).is_err(), "{key}");
        }
        assert!(limits(&said(&[(LimitKey::Swap, "1GiB")]), &facts).is_err());
        let both = said(&[(LimitKey::Swap, "1GiB"), (LimitKey::Memory, "1GiB")]);
        let group = limits(&both, &facts).unwrap().0.group.unwrap();
        assert_eq!(group.settings.swap, Some(1 << 30));
        let GroupPlace::Legacy { parents } = group.place else {
            panic!("{:?}", group.place)
        };
        assert_eq!(parents.len(), 5);
    }

    #[test]
    fn times_need_no_group() {
        let times = said(&[(LimitKey::Timeout, "1h"), (LimitKey::IdleTimeout, "60")]);
        let (plan, _) = limits(&times, &nobody()).unwrap();
        assert_eq!(
            (plan.timeout_ms, plan.idle_timeout_ms),
            (Some(3_600_000), Some(60_000))
        );
        assert_eq!(plan.group, None);
    }
}
