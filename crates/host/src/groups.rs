//! What the host offers for limits: a systemd that can be asked, and control groups below which this user can make others.
//!
//! Reads only. Every group of the host stays as it is: rcc makes groups of its own below existing ones and enables nothing in
//! them. Must not decide which one is used: that is planning.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rcc_plan::{
    BUSCTL, Controller, GroupFacts, GroupObstacle, GroupSettings, LeftBehind, Manager, ScopeFacts,
    UnifiedFacts,
};
use rustix::fs::Access;

/// Where systemd says that it is the system's manager (`sd_booted(3)`).
const BOOTED: &str = "/run/systemd/system";
/// The place of version 2 where it is the only one.
const UNIFIED: &str = "/sys/fs/cgroup";
/// The weight of who names none (kernel `Documentation/admin-guide/cgroup-v2.rst`).
const EVERYBODYS_WEIGHT: u64 = 100;
/// Controllers of version 1 that are of use.
const LEGACY: [&str; 5] = ["memory", "cpu", "cpuacct", "pids", "blkio"];
/// Controllers of version 2.
const CONTROLLERS: [Controller; 4] = [
    Controller::Memory,
    Controller::Cpu,
    Controller::Pids,
    Controller::Io,
];

/// A mounted hierarchy.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    /// The group that is mounted.
    root: PathBuf,
    /// Where.
    at: PathBuf,
    /// Controllers of version 1; none is version 2.
    controllers: Option<Vec<String>>,
}

/// Looks at what there is. `project` decides about the disk.
#[must_use]
pub fn group_facts(project: &Path) -> GroupFacts {
    let hierarchies = hierarchies(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let unified = hierarchies.iter().find(|one| one.controllers.is_none());
    let mut obstacles = Vec::new();
    let below = unified.and_then(|one| Some((one, own_directory(one, &own)?)));
    let own_group = below.as_ref().map(|(_, own)| own.as_path());
    let scope = scope(unified, own_group, &mut obstacles);
    let unified_facts = below
        .as_ref()
        .and_then(|(one, own)| divisible(&one.at, own));
    let legacy = legacy(&hierarchies, &own);
    if unified_facts.is_none() && legacy.is_empty() {
        obstacles.push(no_group(unified, own_group));
    }
    GroupFacts {
        swap_uncounted: has_swap() && leaves_swap_uncounted(own_group, &legacy),
        scope,
        unified: unified_facts,
        legacy,
        process_limit_binds: process_limit_binds(),
        disk: disk_of(project),
        obstacles,
    }
}

/// Finds the group of a run from one of its processes: controller (none in version 2) and directory of each hierarchy in which
/// the process is in a group whose name begins with `name`.
#[must_use]
pub fn group_of(pid: u32, name: &str) -> Vec<(String, PathBuf)> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for hierarchy in hierarchies(&fs::read("/proc/self/mountinfo").unwrap_or_default()) {
        let Some(directory) = own_directory(&hierarchy, &groups) else {
            continue;
        };
        let last = directory.file_name().unwrap_or_default().to_string_lossy();
        if last != name && last.strip_suffix(".scope") != Some(name) {
            continue;
        }
        match hierarchy.controllers {
            None => found.push((String::new(), directory)),
            Some(controllers) => {
                let useful = controllers
                    .into_iter()
                    .filter(|one| LEGACY.contains(&one.as_str()));
                found.extend(useful.map(|one| (one, directory.clone())));
            }
        }
    }
    found
}

/// Whether `RLIMIT_NPROC` binds processes of this user: the machine's user 0 is free of it (`copy_process()` in
/// kernel/fork.c). What looks like user 0 of the level above counts as that.
#[must_use]
pub fn process_limit_binds() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut lines = map.lines().map(|line| {
        let numbers: Vec<u64> = line
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        numbers
    });
    // The id above that ours, 0, stands for. Unreadable is the machine's.
    lines
        .find(|numbers| numbers.first() == Some(&0))
        .and_then(|numbers| numbers.get(1).copied())
        .is_some_and(|above| above != 0)
}

/// Whether swap space is in use (`proc_swaps(5)`): below the heading each line is one.
fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// Whether the kernel counts memory by groups and swap space not. The topmost group of version 2 has neither file; its children do.
fn leaves_swap_uncounted(own: Option<&Path>, legacy: &BTreeMap<String, PathBuf>) -> bool {
    let lacks = |group: &Path, memory: &str, swap: &str| {
        exists(group.join(memory)) && !exists(group.join(swap))
    };
    let entries = own.and_then(|own| fs::read_dir(own).ok());
    let children = entries.into_iter().flatten().flatten();
    let mut groups = children
        .map(|entry| entry.path())
        .chain(own.map(Path::to_owned));
    groups.any(|group| lacks(&group, "memory.max", "memory.swap.max"))
        || legacy.get("memory").is_some_and(|group| {
            lacks(
                group,
                "memory.limit_in_bytes",
                "memory.memsw.limit_in_bytes",
            )
        })
}

/// Whether a user's systemd, and what it started, goes on after the last logout (`loginctl(1)`, `enable-linger`).
#[must_use]
pub fn lingers(user: &str) -> bool {
    exists(Path::new("/var/lib/systemd/linger").join(user))
}

/// The systemd that would make a scope for this user.
fn scope(
    unified: Option<&Hierarchy>,
    own: Option<&Path>,
    obstacles: &mut Vec<GroupObstacle>,
) -> Option<ScopeFacts> {
    let mut miss = |reason: String, fix: &str| {
        obstacles.push(GroupObstacle {
            reason,
            fix: fix.to_owned(),
        });
        None
    };
    // Without systemd there is nothing to be missed: another place is looked for.
    if !exists(BOOTED) {
        return None;
    }
    let Some(unified) = unified.filter(|one| one.at == Path::new(UNIFIED)) else {
        return miss(
            "systemd has set up version 1 of control groups here".to_owned(),
            "boot with systemd.unified_cgroup_hierarchy=1",
        );
    };
    let left = |beside: &Path| own.map_or_else(LeftBehind::default, |own| left_behind(own, beside));
    if !BUSCTL.iter().any(exists) {
        return miss(
            format!("{}, with which systemd is asked, is missing", BUSCTL[0]),
            "install the systemd package whole",
        );
    }
    let uid = rustix::process::geteuid().as_raw();
    if uid == 0 {
        if !exists("/run/dbus/system_bus_socket") {
            return miss(
                "the system's bus does not run".to_owned(),
                "sudo apt-get install dbus, or dbus-broker, and start it",
            );
        }
        return Some(ScopeFacts {
            manager: Manager::System,
            controllers: controllers_in(&unified.at.join("cgroup.controllers")),
            left: left(&unified.at),
        });
    }
    let runtime = PathBuf::from(format!("/run/user/{uid}"));
    if !exists(runtime.join("systemd/private")) {
        return miss(
            "no systemd of this user runs".to_owned(),
            "loginctl enable-linger, or log in through a session that systemd knows",
        );
    }
    if !exists(runtime.join("bus")) {
        return miss(
            "this user's bus does not run".to_owned(),
            "sudo apt-get install dbus-user-session, then log in again",
        );
    }
    let service = unified
        .at
        .join(format!("user.slice/user-{uid}.slice/user@{uid}.service"));
    Some(ScopeFacts {
        manager: Manager::User,
        controllers: controllers_in(&service.join("cgroup.controllers")),
        left: left(&service),
    })
}

/// The nearest group above the own one whose children have controllers and in which this user can make some. The own one
/// has processes, which forbids it that (the kernel's rule of no internal processes).
fn divisible(top: &Path, own: &Path) -> Option<UnifiedFacts> {
    own.ancestors()
        .skip(usize::from(own != top))
        .take_while(|group| group.starts_with(top))
        .map(|group| UnifiedFacts {
            parent: group.to_owned(),
            controllers: controllers_in(&group.join("cgroup.subtree_control")),
            left: left_behind(own, group),
        })
        .find(|facts| !facts.controllers.is_empty() && can_divide(&facts.parent))
}

/// What the groups from the own one upwards are held to, as far as they are not `beside` or above it.
fn left_behind(own: &Path, beside: &Path) -> LeftBehind {
    let mut left = LeftBehind::default();
    let lost = own
        .ancestors()
        .take_while(|group| !beside.starts_with(group));
    for group in lost {
        let text = |file| fs::read_to_string(group.join(file)).ok();
        // The word for none is no number.
        let number = |file| text(file)?.trim().parse().ok();
        let here = GroupSettings {
            memory: number("memory.max"),
            memory_high: number("memory.high"),
            swap: number("memory.swap.max"),
            cpus: text("cpu.max").as_deref().and_then(thousandths),
            cpu_weight: number("cpu.weight").filter(|weight| *weight < EVERYBODYS_WEIGHT),
            pids: number("pids.max"),
            ..GroupSettings::default()
        };
        for (key, value) in here.all() {
            left.settings.narrow(key, value);
        }
        let others = ["cpuset.cpus", "io.max"].into_iter();
        left.others
            .extend(others.filter(|file| text(file).is_some_and(|text| !text.trim().is_empty())));
    }
    left
}

/// `cpu.max`, quota and period in microseconds, in thousandths of a processor; at least the hundredth that a limit can be.
fn thousandths(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    let thousandths = quota.saturating_mul(1000).checked_div(period)?;
    Some(thousandths.max(10))
}

/// Directories of version 1 below which this user can make groups.
fn legacy(hierarchies: &[Hierarchy], own: &str) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for hierarchy in hierarchies {
        let named = hierarchy.controllers.iter().flatten();
        for name in named.filter(|name| LEGACY.contains(&name.as_str())) {
            if let Some(directory) = own_directory(hierarchy, own)
                && can_divide(&directory)
            {
                found.insert(name.clone(), directory);
            }
        }
    }
    found
}

fn can_divide(directory: &Path) -> bool {
    let writable = |path: &Path, access| rustix::fs::access(path, access).is_ok();
    writable(directory, Access::WRITE_OK | Access::EXEC_OK)
        && writable(&directory.join("cgroup.procs"), Access::WRITE_OK)
}

fn no_group(unified: Option<&Hierarchy>, own: Option<&Path>) -> GroupObstacle {
    let (reason, fix) = match (unified, own) {
        (None, _) => (
            "no control groups are mounted here".to_owned(),
            "run rcc on a system with systemd, or mount cgroup2 at /sys/fs/cgroup".to_owned(),
        ),
        (Some(one), Some(own)) if own == one.at && rustix::process::geteuid().is_root() => (
            "the processes here are in the topmost group, which cannot limit a part of them".to_owned(),
            "mkdir /sys/fs/cgroup/init, write every process of /sys/fs/cgroup/cgroup.procs into it, then: echo '+memory +cpu +pids +io' > /sys/fs/cgroup/cgroup.subtree_control".to_owned(),
        ),
        (Some(_), _) if rustix::process::geteuid().is_root() => (
            "no control group above this one can be divided".to_owned(),
            "mount /sys/fs/cgroup writable, and enable the controllers in cgroup.subtree_control of the group above".to_owned(),
        ),
        (Some(_), _) => (
            "this user may make no control group".to_owned(),
            "use a session of systemd (loginctl enable-linger), or let the administrator give you a group: Delegate=yes in the unit".to_owned(),
        ),
    };
    GroupObstacle { reason, fix }
}

fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().symlink_metadata().is_ok()
}

fn controllers_in(file: &Path) -> BTreeSet<Controller> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let words: BTreeSet<&str> = text.split_ascii_whitespace().collect();
    CONTROLLERS
        .into_iter()
        .filter(|controller| words.contains(controller.as_str()))
        .collect()
}

/// Reads the hierarchies from mountinfo (`proc_pid_mountinfo(5)`): `32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu`.
fn hierarchies(mountinfo: &[u8]) -> Vec<Hierarchy> {
    let mut found = Vec::new();
    for line in mountinfo.split(|byte| *byte == b'\n') {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let Some(separator) = words.iter().position(|word| *word == b"-") else {
            continue;
        };
        let (Some(root), Some(at)) = (words.get(3), words.get(4)) else {
            continue;
        };
        let controllers = match words.get(separator + 1) {
            Some(&b"cgroup2") => None,
            Some(&b"cgroup") => {
                let options = words.get(separator + 3).copied().unwrap_or_default();
                let options = String::from_utf8_lossy(options);
                Some(options.split(',').map(str::to_owned).collect())
            }
            _ => continue,
        };
        found.push(Hierarchy {
            root: unescape(root),
            at: unescape(at),
            controllers,
        });
    }
    found
}

/// `\040` and the like.
fn unescape(text: &[u8]) -> PathBuf {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let code = (byte == b'\\')
            .then(|| std::str::from_utf8(after.get(..3)?).ok())
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                out.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    OsString::from_vec(out).into()
}

/// The directory of this process's own group in a hierarchy, from the lines of `/proc/self/cgroup` (`cgroups(7)`).
fn own_directory(hierarchy: &Hierarchy, own: &str) -> Option<PathBuf> {
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let matches = match &hierarchy.controllers {
            None => number == "0" && names.is_empty(),
            Some(controllers) => names
                .split(',')
                .any(|name| controllers.iter().any(|one| one == name)),
        };
        matches.then_some(path)
    })?;
    // A group outside of what is mounted, or of the own namespace, is not reachable.
    let below = Path::new(path).strip_prefix(&hierarchy.root).ok()?;
    let plain = below
        .components()
        .all(|part| matches!(part, std::path::Component::Normal(_)));
    plain.then(|| hierarchy.at.join(below))
}

/// Major and minor number of the whole disk that a file is on; none for file systems that are on none.
fn disk_of(path: &Path) -> Option<(u32, u32)> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let (major, minor) = if major == 0 {
        mounted_device(path)?
    } else {
        (major, minor)
    };
    let sysfs = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if !exists(sysfs.join("partition")) {
        return exists(&sysfs).then_some((major, minor));
    }
    let whole = fs::canonicalize(&sysfs).ok()?;
    let text = fs::read_to_string(whole.parent()?.join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The device that a file system with an anonymous number (btrfs) was mounted from; none for one in memory or over a network.
fn mounted_device(path: &Path) -> Option<(u32, u32)> {
    let source = mounted_from(path, &fs::read("/proc/self/mountinfo").ok()?)?;
    let device = fs::metadata(source).ok()?.rdev();
    let number = (rustix::fs::major(device), rustix::fs::minor(device));
    (number.0 != 0).then_some(number)
}

/// What the mount that holds a path was made from, when that is a path.
fn mounted_from(path: &Path, mountinfo: &[u8]) -> Option<PathBuf> {
    mountinfo
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
            let separator = words.iter().position(|word| *word == b"-")?;
            Some((unescape(words.get(4)?), unescape(words.get(separator + 2)?)))
        })
        .filter(|(at, _)| path.starts_with(at))
        // Of several at one place the last one is on top.
        .max_by_key(|(at, _)| at.as_os_str().len())
        .map(|(_, source)| source)
        .filter(|source| source.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &[u8] = b"23 1 254:0 / / rw - ext4 /dev/vda rw\n\
        32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct\n\
        33 31 0:30 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn hierarchies_are_found_with_their_roots() {
        let found = hierarchies(MOUNTS);
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].at, Path::new("/sys/fs/cgroup/uni fied"));
        let own = "2:cpu,cpuacct:/a/b\n3:memory:/docker/x/c\n0::/user.slice/s\n";
        assert_eq!(
            own_directory(&found[0], own).unwrap(),
            Path::new("/sys/fs/cgroup/cpu,cpuacct/a/b")
        );
        assert_eq!(
            own_directory(&found[1], own).unwrap(),
            Path::new("/sys/fs/cgroup/memory/c")
        );
        assert_eq!(
            own_directory(&found[2], own).unwrap(),
            Path::new("/sys/fs/cgroup/uni fied/user.slice/s")
        );
    }

    #[test]
    fn a_file_system_in_memory_is_on_no_disk() {
        let mounts = b"23 1 254:0 / / rw - ext4 /dev/vda rw\n\
            24 23 0:30 / /tmp rw - tmpfs tmpfs rw\n\
            25 23 0:31 /@home /home rw - btrfs /dev/sda2 rw\n";
        let from = |path: &str| mounted_from(Path::new(path), mounts);
        assert_eq!(from("/tmp/project"), None);
        assert_eq!(from("/home/ann/project"), Some("/dev/sda2".into()));
        assert_eq!(from("/srv"), Some("/dev/vda".into()));
    }

    #[test]
    fn a_group_outside_of_the_namespace_is_not_reached() {
        let found = hierarchies(MOUNTS);
        assert_eq!(own_directory(&found[2], "0::/../../other\n"), None);
        assert_eq!(own_directory(&found[1], "3:memory:/elsewhere\n"), None);
        assert_eq!(own_directory(&found[1], "0::/\n"), None);
    }

    #[test]
    fn the_nearest_group_whose_children_have_controllers_is_divided() {
        let top = std::env::temp_dir().join(format!("rcc-groups-{}", std::process::id()));
        let session = top.join("user/session");
        fs::create_dir_all(&session).unwrap();
        for group in [&top, &top.join("user"), &session] {
            fs::write(group.join("cgroup.procs"), "").unwrap();
            fs::write(group.join("cgroup.subtree_control"), "").unwrap();
        }
        assert_eq!(divisible(&top, &session), None);
        fs::write(
            top.join("cgroup.subtree_control"),
            "cpuset cpu io memory pids",
        )
        .unwrap();
        fs::write(session.join("cgroup.subtree_control"), "memory").unwrap();
        let found = divisible(&top, &session).unwrap();
        assert_eq!((found.parent, found.controllers.len()), (top.clone(), 4));
        fs::write(top.join("user/cgroup.subtree_control"), "memory pids").unwrap();
        assert_eq!(divisible(&top, &session).unwrap().parent, top.join("user"));
        fs::remove_dir_all(top).unwrap();
    }

    #[test]
    fn what_the_own_groups_are_held_to_is_known_up_to_what_is_shared() {
        let top = std::env::temp_dir().join(format!("rcc-left-{}", std::process::id()));
        let own = top.join("user/app/scope");
        fs::create_dir_all(&own).unwrap();
        for (file, text) in [
            ("memory.max", "1000\n"),
            ("user/memory.max", "2000\n"),
            ("user/cpu.max", "50000 100000\n"),
            ("user/app/memory.max", "4000\n"),
            ("user/app/cpu.max", "150000 100000\n"),
            ("user/app/cpu.weight", "100\n"),
            ("user/app/io.max", "\n"),
            ("user/app/scope/memory.max", "3000\n"),
            ("user/app/scope/memory.high", "max\n"),
            ("user/app/scope/pids.max", "77\n"),
            ("user/app/scope/cpu.weight", "20\n"),
            ("user/app/scope/cpuset.cpus", "0-1\n"),
        ] {
            fs::write(top.join(file), text).unwrap();
        }
        let shared = GroupSettings {
            memory: Some(3000),
            cpus: Some(1500),
            cpu_weight: Some(20),
            pids: Some(77),
            ..GroupSettings::default()
        };
        let beside = |place: &str| left_behind(&own, &top.join(place));
        let found = beside("user/service");
        assert_eq!(found.settings, shared);
        assert_eq!(found.others, BTreeSet::from(["cpuset.cpus"]));
        assert_eq!(beside("user/app").settings.cpus, None);
        assert_eq!(beside("other").settings.memory, Some(2000));
        assert_eq!(left_behind(&own, &own), LeftBehind::default());
        // Swap space: unknown without the controller, and then counted by the groups below it.
        let none = BTreeMap::new();
        assert!(leaves_swap_uncounted(Some(&own), &none));
        fs::write(own.join("memory.swap.max"), "max\n").unwrap();
        assert!(!leaves_swap_uncounted(Some(&own), &none));
        fs::remove_file(own.join("memory.max")).unwrap();
        fs::remove_file(own.join("memory.swap.max")).unwrap();
        assert!(!leaves_swap_uncounted(Some(&own), &none));
        assert_eq!(thousandths("1000 1000000"), Some(10));
        assert_eq!(thousandths("max 100000"), None);
        fs::remove_dir_all(top).unwrap();
    }
}
