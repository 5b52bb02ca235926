//! Every known obstacle, and that its fix names the right setting.

use std::collections::BTreeMap;

use super::*;
use crate::doctor::Distribution;

const PLAIN: System = System {
    distribution: Distribution::Debian,
    container: None,
    wsl: None,
    chroot: false,
};

fn failure(errno: Errno) -> Failure {
    Failure {
        errno: Some(errno),
        text: "x".to_owned(),
    }
}

/// A trial in which every step works but the given ones.
fn trial(failed: &[(Step, Errno)]) -> Trial {
    let all = [
        Step::Ids,
        Step::Memory,
        Step::Overlay,
        Step::Processes,
        Step::Rules,
        Step::Link,
        Step::Agent,
        Step::ConnectV4,
        Step::ConnectV6,
    ];
    let mut steps: BTreeMap<_, _> = all.into_iter().map(|step| (step, Ok(()))).collect();
    for (step, errno) in failed {
        steps.insert(*step, Err(failure(*errno)));
    }
    Trial::Steps(steps)
}

#[track_caller]
fn only_missing(findings: &[Finding]) -> &Finding {
    let missing: Vec<_> = findings
        .iter()
        .filter(|finding| finding.status == Status::Missing)
        .collect();
    assert_eq!(missing.len(), 1, "{findings:#?}");
    missing[0]
}

#[test]
fn a_host_that_allows_everything_has_nothing_to_fix() {
    let findings = judge(&trial(&[]), &PLAIN, Settings::default());
    assert_eq!(findings.len(), 6);
    for finding in findings {
        assert_eq!(
            (finding.status, finding.fix),
            (Status::Ok, None),
            "{}",
            finding.name
        );
    }
}

#[test]
fn each_way_to_forbid_user_namespaces_has_its_own_fix() {
    let wsl = System {
        wsl: Some(1),
        ..PLAIN
    };
    let chroot = System {
        chroot: true,
        ..PLAIN
    };
    let docker = System {
        container: Some(Container::Docker),
        ..PLAIN
    };
    let off = Settings {
        max_user_namespaces: Some(0),
        ..Settings::default()
    };
    let reserved = Settings {
        unprivileged_userns_clone: Some(0),
        ..Settings::default()
    };
    let apparmor = Settings {
        apparmor_restricts: Some(1),
        ..Settings::default()
    };
    let none = Settings::default();
    for (errno, system, settings, expected) in [
        (Errno::NOSPC, PLAIN, off, "user.max_user_namespaces = 15000"),
        (
            Errno::PERM,
            PLAIN,
            reserved,
            "kernel.unprivileged_userns_clone = 1",
        ),
        (Errno::PERM, PLAIN, apparmor, "/etc/apparmor.d/rcc"),
        (Errno::PERM, docker, none, "systempaths=unconfined"),
        (Errno::PERM, chroot, none, "bwrap"),
        (Errno::PERM, PLAIN, none, "journalctl"),
        (Errno::INVAL, wsl, none, "wsl --set-version"),
    ] {
        let findings = judge(&Trial::NoChild(failure(errno)), &system, settings);
        let fix = only_missing(&findings).fix.clone().unwrap();
        assert!(
            fix.commands.join("\n").contains(expected),
            "{expected}: {fix:?}"
        );
    }
    let findings = judge(&Trial::NoChild(failure(Errno::INVAL)), &PLAIN, none);
    assert!(
        only_missing(&findings)
            .fix
            .as_ref()
            .unwrap()
            .text
            .contains("CONFIG_USER_NS")
    );
}

#[test]
fn ubuntus_restriction_shows_at_the_first_mount() {
    let apparmor = Settings {
        apparmor_restricts: Some(1),
        ..Settings::default()
    };
    let findings = judge(&trial(&[(Step::Memory, Errno::ACCESS)]), &PLAIN, apparmor);
    let missing = only_missing(&findings);
    assert_eq!(missing.name, "mounts in a user namespace");
    let fix = missing.fix.as_ref().unwrap();
    assert!(fix.commands[0].contains("userns,"), "{fix:?}");
    assert!(fix.commands[1].starts_with("sudo apparmor_parser"));
}

#[test]
fn a_covered_proc_is_the_containers_doing() {
    let podman = System {
        container: Some(Container::Podman),
        ..PLAIN
    };
    let failed = trial(&[(Step::Processes, Errno::PERM)]);
    let findings = judge(&failed, &podman, Settings::default());
    assert!(only_missing(&findings).fix.as_ref().unwrap().commands[0].contains("unmask=ALL"));
    let findings = judge(&failed, &PLAIN, Settings::default());
    assert!(only_missing(&findings).fix.as_ref().unwrap().commands[0].contains("findmnt"));
}

#[test]
fn missing_kernel_parts_are_named() {
    for (step, errno, module) in [
        (Step::Link, Errno::OPNOTSUPP, "modprobe --all veth"),
        (Step::Rules, Errno::NOENT, "nft_tproxy"),
        (Step::Overlay, Errno::NODEV, "modprobe --all overlay"),
    ] {
        let findings = judge(&trial(&[(step, errno)]), &PLAIN, Settings::default());
        let fix = only_missing(&findings).fix.clone().unwrap();
        assert!(fix.commands[0].contains(module), "{module}: {fix:?}");
    }
    let wsl = System {
        wsl: Some(2),
        ..PLAIN
    };
    let findings = judge(
        &trial(&[(Step::Rules, Errno::NOENT)]),
        &wsl,
        Settings::default(),
    );
    assert_eq!(
        only_missing(&findings).fix.as_ref().unwrap().commands[0],
        "wsl --update"
    );
}

#[test]
fn a_killed_child_makes_everything_it_did_not_report_missing() {
    let findings = judge(&Trial::Steps(BTreeMap::new()), &PLAIN, Settings::default());
    let missing = findings
        .iter()
        .filter(|finding| finding.status == Status::Missing);
    assert_eq!(missing.count(), 5);
    assert_eq!(findings.last().unwrap().status, Status::Degraded);
}

#[test]
fn without_ipv6_the_sandbox_still_works() {
    let Trial::Steps(mut steps) = trial(&[]) else {
        unreachable!()
    };
    steps.remove(&Step::ConnectV6);
    let findings = judge(&Trial::Steps(steps), &PLAIN, Settings::default());
    let last = findings.last().unwrap();
    assert_eq!((last.status, last.need), (Status::Degraded, Need::Optional));
    assert!(last.detail.contains("switched off"));
}
