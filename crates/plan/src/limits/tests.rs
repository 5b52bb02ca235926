//! Which place and which means for which limits, on which hosts.

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
            left: LeftBehind::default(),
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
            left: LeftBehind::default(),
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
fn the_group_is_held_to_what_rcc_was_held_to() {
    let mut facts = systemd(&[Controller::Memory, Controller::Cpu, Controller::Pids]);
    let left = LeftBehind {
        settings: GroupSettings {
            memory: Some(2 << 30),
            cpus: Some(4000),
            pids: Some(100),
            ..GroupSettings::default()
        },
        others: BTreeSet::new(),
    };
    facts.scope.as_mut().unwrap().left = left.clone();
    // Nothing is lost where no group is made.
    let (plan, warnings) = limits(&Limits::default(), &facts).unwrap();
    assert_eq!((plan.group, warnings), (None, Vec::new()));
    let named = said(&[(LimitKey::Memory, "8GiB"), (LimitKey::Cpus, "2")]);
    let (plan, warnings) = limits(&named, &facts).unwrap();
    let settings = plan.group.unwrap().settings;
    assert_eq!(
        (settings.memory, settings.cpus, settings.pids),
        (Some(2 << 30), Some(2000), Some(100))
    );
    assert_eq!(
        warnings,
        [
            "memory = 8GiB (flag --memory) is more than the control group has that rcc was started in; 2GiB is used"
        ]
    );
    // The default of root's: a group is made for it, and the limits of the own one are not lost.
    let root = |controllers: &[Controller]| GroupFacts {
        unified: Some(UnifiedFacts {
            parent: PathBuf::from("/sys/fs/cgroup"),
            controllers: controllers.iter().copied().collect(),
            left: left.clone(),
        }),
        ..GroupFacts::default()
    };
    let all = root(&[Controller::Memory, Controller::Cpu, Controller::Pids]);
    let (plan, warnings) = limits(&Limits::default(), &all).unwrap();
    assert_eq!(
        (plan.group.unwrap().settings, warnings),
        (left.settings.clone(), Vec::new())
    );
    // What cannot be kept is told.
    let mut few = root(&[Controller::Memory, Controller::Pids]);
    few.unified
        .as_mut()
        .unwrap()
        .left
        .others
        .insert("cpuset.cpus");
    let (plan, warnings) = limits(&Limits::default(), &few).unwrap();
    assert_eq!(plan.group.unwrap().settings.cpus, None);
    assert!(
        warnings.len() == 1 && warnings[0].contains("limited in cpus, cpuset.cpus, and the run"),
        "{warnings:?}"
    );
}

#[test]
fn swap_space_that_nobody_counts_cannot_be_limited() {
    let mut facts = systemd(&[Controller::Memory, Controller::Pids]);
    facts.swap_uncounted = true;
    let named = said(&[(LimitKey::Memory, "1GiB"), (LimitKey::Swap, "1GiB")]);
    let error = limits(&named, &facts).unwrap_err().to_string();
    assert!(error.contains("swap = 1GiB"), "{error}");
    // What a limit of the memory implies is left out there.
    let (plan, _) = limits(&said(&[(LimitKey::Memory, "1GiB")]), &facts).unwrap();
    assert_eq!(plan.group.unwrap().settings.swap, None);
    facts.swap_uncounted = false;
    assert!(limits(&named, &facts).is_ok());
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
