//! Checks that need a look and no trial: kernel version, seccomp, Landlock, cgroups.

use std::path::Path;

use rustix::fs::Access;

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

/// Could limits of memory and processor time be enforced? Reported only: no limit is set yet.
pub(super) fn cgroup() -> Finding {
    let check = Check {
        name: "cgroup delegation",
        need: Need::Optional,
        protects: "limits of memory, processor time and number of processes",
    };
    let root = Path::new("/sys/fs/cgroup");
    let Some(controllers) = read("/sys/fs/cgroup/cgroup.controllers") else {
        return check.found(
            Status::Degraded,
            "no unified hierarchy (cgroup v2) at /sys/fs/cgroup",
            Some(Fix::new(
                "add systemd.unified_cgroup_hierarchy=1 to the kernel's command line, or mount cgroup2 there",
                [],
            )),
        );
    };
    let controllers = controllers.trim();
    let own = read("/proc/self/cgroup").and_then(|text| own_group(&text).map(str::to_owned));
    let writable = own.is_some_and(|own| {
        let directory = root.join(own.trim_start_matches('/'));
        ["cgroup.procs", "cgroup.subtree_control"]
            .iter()
            .all(|file| rustix::fs::access(directory.join(file), Access::WRITE_OK).is_ok())
    });
    if writable {
        return check.ok(format!(
            "the own group can be divided; controllers: {controllers}"
        ));
    }
    let uid = rustix::process::getuid().as_raw();
    let manager = format!("/run/user/{uid}/systemd/private");
    if std::fs::symlink_metadata(manager).is_ok() {
        return check.ok(format!(
            "through the user's systemd; controllers: {controllers}"
        ));
    }
    check.found(
        Status::Degraded,
        "neither a group that may be divided nor a systemd of this user",
        Some(Fix::new(
            "log in through systemd-logind, or keep the user's systemd running",
            ["loginctl enable-linger".to_owned()],
        )),
    )
}

/// The group of this process in the unified hierarchy (`cgroups(7)`).
fn own_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
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
    fn the_own_group_is_the_unified_one() {
        assert_eq!(
            own_group("12:memory:/x\n0::/user.slice/a\n"),
            Some("/user.slice/a")
        );
        assert_eq!(own_group("1:name=systemd:/\n"), None);
    }
}
