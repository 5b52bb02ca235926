//! Checks that need a look and no trial: kernel version, seccomp, Landlock, limits.

use std::path::Path;

use rcc_plan::{GroupFacts, Manager};

use super::{Check, Finding, Fix, Need, Status, read};
use crate::root;

/// The oldest kernel that rcc supports, `(major, minor)`.
const OLDEST: (u32, u32) = (5, 14);

/// Is the kernel new enough?
pub(super) fn version() -> Finding {
    let check = Check {
        name: "kernel",
        need: Need::Required,
        protects: "everything below: the sandbox is made of the kernel's own means",
    };
    let (major, minor) = root::kernel();
    if (major, minor) >= OLDEST {
        return check.ok(format!("Linux {major}.{minor}"));
    }
    let (oldest_major, oldest_minor) = OLDEST;
    check.found(
        Status::Missing,
        format!("Linux {major}.{minor}, older than {oldest_major}.{oldest_minor}"),
        Some(Fix::new(
            "upgrade the distribution or install one of its newer kernels",
            [],
        )),
    )
}

/// Can system calls be filtered?
pub(super) fn seccomp() -> Finding {
    let check = Check {
        name: "seccomp",
        need: Need::Required,
        protects: "keeps the agent from the parts of the kernel that no program of a project needs",
    };
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    let has = |action: &str| actions.split_ascii_whitespace().any(|word| word == action);
    if has("errno") && has("kill_process") {
        return check.ok("filters are available");
    }
    check.found(
        Status::Missing,
        "the kernel has no system-call filters (CONFIG_SECCOMP_FILTER)",
        Some(Fix::new("start one of the distribution's own kernels", [])),
    )
}

/// What each version of Landlock added that rcc uses (kernel `Documentation/userspace-api/landlock.rst`).
const LANDLOCK_PARTS: [(u32, &str); 5] = [
    (1, "files"),
    (2, "moving files between directories"),
    (3, "truncating files"),
    (5, "device commands"),
    (6, "abstract sockets and signals"),
];

/// Which Landlock does the kernel have?
pub(super) fn landlock() -> Finding {
    let modules = read("/sys/kernel/security/lsm").unwrap_or_default();
    landlock_finding(rcc_sys::landlock::abi(), modules.trim())
}

fn landlock_finding(abi: u32, modules: &str) -> Finding {
    let check = Check {
        name: "Landlock",
        need: Need::Optional,
        protects: "a second wall around the files, should the mounts fail",
    };
    if abi == 0 {
        let list = if modules.is_empty() {
            "landlock,lockdown,yama,integrity,apparmor,bpf".to_owned()
        } else {
            format!("landlock,{modules}")
        };
        let fix = Fix::new(
            format!(
                "add lsm={list} to the kernel's command line and start again (the module is built into the kernels of all large distributions)"
            ),
            [],
        );
        return check.found(Status::Degraded, "not active in this kernel", Some(fix));
    }
    let absent: Vec<&str> = LANDLOCK_PARTS
        .iter()
        .filter(|(since, _)| *since > abi)
        .map(|(_, part)| *part)
        .collect();
    if absent.is_empty() {
        check.ok(format!("version {abi}"))
    } else {
        check.found(
            Status::Degraded,
            format!(
                "version {abi}, which does not restrict {}",
                absent.join(", ")
            ),
            Some(Fix::new("a newer kernel restricts them, too", [])),
        )
    }
}

/// What can enforce limits, and which it cannot?
pub(super) fn cgroup() -> Finding {
    limits_finding(&crate::groups::group_facts(Path::new("/")))
}

fn limits_finding(facts: &GroupFacts) -> Finding {
    let check = Check {
        name: "limits",
        need: Need::Optional,
        protects: "keeps the agent from taking all memory, processors and disk of the machine",
    };
    let (by, has): (&str, Vec<&str>) = if let Some(scope) = &facts.scope {
        let by = match scope.manager {
            Manager::User => "a scope of your systemd",
            Manager::System => "a scope of systemd",
        };
        (
            by,
            scope.controllers.iter().map(|one| one.as_str()).collect(),
        )
    } else if let Some(unified) = &facts.unified {
        let has = unified.controllers.iter();
        ("a control group", has.map(|one| one.as_str()).collect())
    } else if !facts.legacy.is_empty() {
        let has = facts.legacy.keys().map(|name| match name.as_str() {
            "blkio" => "io",
            name => name,
        });
        ("control groups of version 1", has.collect())
    } else {
        let obstacle = facts.obstacles.first();
        let reason = obstacle.map_or("no control group can be made", |one| one.reason.as_str());
        let pids = match facts.process_limit_binds {
            true => "; the number of processes is limited all the same",
            false => "",
        };
        let fix = obstacle.map(|one| Fix::new(one.fix.clone(), []));
        return check.found(Status::Degraded, format!("{reason}{pids}"), fix);
    };
    let missing: Vec<&str> = ["memory", "cpu", "pids", "io"]
        .into_iter()
        .filter(|name| !has.contains(name))
        .collect();
    if missing.is_empty() {
        return check.ok(format!("by {by}: {}", has.join(", ")));
    }
    let detail = format!("by {by}: {}; not {}", has.join(", "), missing.join(", "));
    let fix = match facts.scope.as_ref().map(|scope| scope.manager) {
        Some(Manager::User) => Fix::new(
            "let the user's systemd hand them out, then log in again",
            [
                "sudo mkdir -p /etc/systemd/system/user@.service.d".to_owned(),
                "printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | sudo tee /etc/systemd/system/user@.service.d/delegate.conf".to_owned(),
                "sudo systemctl daemon-reload".to_owned(),
            ],
        ),
        _ => Fix::new("enable them in cgroup.subtree_control of the groups above", []),
    };
    check.found(Status::Degraded, detail, Some(fix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_landlock_says_what_it_does_not_restrict() {
        let finding = landlock_finding(3, "");
        assert_eq!(finding.status, Status::Degraded);
        assert_eq!(
            finding.detail,
            "version 3, which does not restrict device commands, abstract sockets and signals"
        );
        assert_eq!(landlock_finding(6, "").status, Status::Ok);
    }

    #[test]
    fn inactive_landlock_is_added_to_the_modules_in_use() {
        let fix = landlock_finding(0, "capability,yama").fix.unwrap();
        assert!(
            fix.text.contains("lsm=landlock,capability,yama "),
            "{fix:?}"
        );
    }

    #[test]
    fn what_cannot_be_limited_is_named_with_the_fix() {
        let scope = |controllers: &[Controller]| GroupFacts {
            scope: Some(ScopeFacts {
                manager: Manager::User,
                controllers: controllers.iter().copied().collect(),
                left: LeftBehind::default(),
            }),
            ..GroupFacts::default()
        };
        use rcc_plan::{Controller, GroupObstacle, LeftBehind, ScopeFacts};
        let [memory, cpu, pids, io] = [
            Controller::Memory,
            Controller::Cpu,
            Controller::Pids,
            Controller::Io,
        ];
        let whole = limits_finding(&scope(&[memory, cpu, pids, io]));
        assert_eq!((whole.status, whole.fix), (Status::Ok, None));
        let part = limits_finding(&scope(&[memory, cpu, pids]));
        assert_eq!(
            part.detail,
            "by a scope of your systemd: memory, cpu, pids; not io"
        );
        assert!(part.fix.unwrap().commands[1].contains("Delegate="));
        let none = limits_finding(&GroupFacts {
            process_limit_binds: true,
            obstacles: vec![GroupObstacle {
                reason: "no systemd of this user runs".to_owned(),
                fix: "loginctl enable-linger".to_owned(),
            }],
            ..GroupFacts::default()
        });
        assert_eq!(none.status, Status::Degraded);
        assert_eq!(none.fix.unwrap().text, "loginctl enable-linger");
    }
}
