//! One record of everything that a process inside can observe, for comparison as a whole.
//!
//! Must not hold what differs from run to run by nature (inode numbers, times); what is a link to a namespace is shown
//! as whether it equals the one given, see `posture`'s arguments.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use rustix::thread::{capabilities_secure_bits, no_new_privs};
use serde_json::{Map, Value, json};

use crate::files::open_numbers;
use crate::privileges::capability_names;
use crate::sockets::{abstract_names, sockets_below};
use crate::{Arguments, Attempt, Probe};

pub(crate) const PROBES: &[Probe] = &[
    (
        "posture",
        "[NAMESPACE=LINK…]   (everything; a namespace given and the same is `same`, else `different`)",
        posture,
    ),
    ("fds", "  (open descriptors >= 3; ok = there is one)", fds),
    (
        "environ",
        "  (own environment and /proc/1/environ)",
        environ,
    ),
    ("status", "  (own /proc/self/status as a map)", status),
    ("mounts", "  (own mountinfo, sorted)", mounts),
    ("devices", "  (everything below /dev)", devices),
];

fn posture(arguments: &Arguments) -> Attempt {
    let mut given = BTreeMap::new();
    for index in 0..arguments.count() {
        let (name, link) = arguments.text(index)?.split_once('=').unwrap_or_default();
        given.insert(name.to_owned(), link.to_owned());
    }
    Ok(json!({
        "namespaces": namespaces(&given),
        "credentials": credentials(),
        "status": status_lines(),
        "mounts": mount_lines(),
        "descriptors": descriptors(0),
        "limits": limits(),
        "environment": environment(),
        "environment_of_pid_1": lines_of_zeros("/proc/1/environ"),
        "pids": process_names(),
        "devices": device_list(),
        "sockets": sockets_below(Path::new("/")),
        "abstract_sockets": abstract_names(),
        "listening": listening(),
        "interfaces": interfaces(),
        "routes": routes(),
        "hostname": text_of("/proc/sys/kernel/hostname"),
        "root": names_in("/"),
        "root_sizes": root_sizes(),
        "umask": umask(),
        "cwd": std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        "terminal": terminal(),
        "uid_map": text_of("/proc/self/uid_map").split_whitespace().collect::<Vec<_>>().join(" "),
        "gid_map": text_of("/proc/self/gid_map").split_whitespace().collect::<Vec<_>>().join(" "),
        "setgroups": text_of("/proc/self/setgroups"),
        "cgroup": text_of("/proc/self/cgroup"),
        "oom_score_adj": text_of("/proc/self/oom_score_adj"),
        "session_keyring": session_keyring(),
        "landlock": landlock(),
    }))
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(
        |error| format!("({})", crate::files::name_of(&error)),
        |text| text.trim_end().to_owned(),
    )
}

/// `same` or `different` for those given; `own` for the rest.
fn namespaces(given: &BTreeMap<String, String>) -> Value {
    let mut record = Map::new();
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
        let shown = match given.get(name) {
            Some(other) if Path::new(other) == link => "same",
            Some(_) => "different",
            None => "own",
        };
        record.insert(name.to_owned(), json!(shown));
    }
    Value::Object(record)
}

/// Ids, capabilities and what limits them.
pub(crate) fn credentials() -> Value {
    let ids = |line: &str| {
        status_value(line)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let set = |line: &str| {
        capability_names(u64::from_str_radix(&status_value(line), 16).unwrap_or_default())
    };
    json!({
        "uid": ids("Uid"), "gid": ids("Gid"), "groups": ids("Groups"),
        "effective": set("CapEff"), "permitted": set("CapPrm"), "inheritable": set("CapInh"),
        "bounding": set("CapBnd"), "ambient": set("CapAmb"),
        "securebits": capabilities_secure_bits().map_or(-1, |bits| i64::from(bits.bits())),
        "no_new_privs": no_new_privs().ok(),
    })
}

fn status_value(name: &str) -> String {
    let text = text_of("/proc/self/status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

/// Lines of `/proc/self/status` that describe confinement.
fn status_lines() -> Value {
    let names = [
        "Seccomp",
        "Seccomp_filters",
        "NoNewPrivs",
        "TracerPid",
        "NSpid",
        "Speculation_Store_Bypass",
        "CoreDumping",
    ];
    let known = names
        .iter()
        .map(|name| ((*name).to_owned(), json!(status_value(name))));
    let mut record: Map<String, Value> = known.collect();
    // Ids differ from run to run; how deep the pid namespaces are does not.
    let depth = status_value("NSpid").split_whitespace().count();
    record.insert("NSpid".to_owned(), json!(depth));
    Value::Object(record)
}

fn status(_: &Arguments) -> Attempt {
    let text = text_of("/proc/self/status");
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(Value::Object(
        pairs
            .map(|(key, value)| (key.to_owned(), json!(value.trim())))
            .collect(),
    ))
}

/// Mounts as `target type options super-options source root`, without ids, sorted.
fn mount_lines() -> Vec<String> {
    let text = text_of("/proc/self/mountinfo");
    let mut lines: Vec<String> = text
        .lines()
        .filter_map(|line| {
            // proc(5): 36 35 98:0 /root /target options [propagation…] - type source super-options
            let (head, tail) = line.split_once(" - ")?;
            let head: Vec<&str> = head.split(' ').collect();
            let tail: Vec<&str> = tail.split(' ').collect();
            let propagation: Vec<&str> = head
                .get(6..)?
                .iter()
                .map(|word| word.split(':').next().unwrap_or(word))
                .collect();
            let propagation = if propagation.is_empty() {
                "private".to_owned()
            } else {
                propagation.join(",")
            };
            Some(format!(
                "{} {} {} {} source={} root={} super={}",
                head.get(4)?,
                tail.first()?,
                head.get(5)?,
                propagation,
                tail.get(1)?,
                head.get(3)?,
                tail.get(2)?
            ))
        })
        .collect();
    lines.sort();
    lines
}

fn mounts(_: &Arguments) -> Attempt {
    Ok(json!(mount_lines()))
}

/// Descriptors from `first` up, with their targets; inode numbers are cut.
fn descriptors(first: i32) -> Vec<Value> {
    let numbers = open_numbers().unwrap_or_default();
    let shown = numbers
        .into_iter()
        .filter(|number| *number >= first)
        .map(|number| {
            let target = std::fs::read_link(format!("/proc/self/fd/{number}"))
                .unwrap_or_default()
                .display()
                .to_string();
            let target = target.split(":[").next().unwrap_or_default().to_owned();
            let info = text_of(&format!("/proc/self/fdinfo/{number}"));
            let flags = info
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .unwrap_or_default()
                .trim()
                .to_owned();
            json!({ "number": number, "target": target, "flags": flags })
        });
    shown.collect()
}

fn fds(_: &Arguments) -> Attempt {
    let found = descriptors(3);
    if found.is_empty() {
        Err(crate::Refusal::Other(json!([])))
    } else {
        Ok(json!(found))
    }
}

fn limits() -> Value {
    let text = text_of("/proc/self/limits");
    let lines = text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    json!(lines.collect::<Vec<_>>())
}

fn environment() -> Value {
    let pairs = std::env::vars_os();
    Value::Object(
        pairs
            .map(|(key, value)| {
                (
                    key.to_string_lossy().into_owned(),
                    json!(value.to_string_lossy()),
                )
            })
            .collect(),
    )
}

fn lines_of_zeros(path: &str) -> Value {
    match std::fs::read(path) {
        Ok(bytes) => {
            let words = bytes
                .split(|byte| *byte == 0)
                .filter(|word| !word.is_empty());
            let mut words: Vec<String> = words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            words.sort();
            json!(words)
        }
        Err(error) => json!(crate::files::name_of(&error)),
    }
}

fn environ(_: &Arguments) -> Attempt {
    Ok(json!({ "own": environment(), "pid_1": lines_of_zeros("/proc/1/environ") }))
}

/// Names of all processes, sorted; their ids differ from run to run.
fn process_names() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.parse::<u32>().ok()?;
            Some(text_of(&format!("/proc/{name}/comm")))
        })
        .collect();
    names.sort();
    names
}

fn device_list() -> Vec<Value> {
    let mut found = Vec::new();
    crate::files::walk(Path::new("/dev"), &mut |path, _| {
        // Terminals come and go with other processes.
        if path.starts_with("/dev/pts") && path.file_name().is_some_and(|name| name != "ptmx") {
            return;
        }
        let shown = path.display().to_string();
        let Ok(data) = path.symlink_metadata() else {
            return;
        };
        // Not the directory's word for it: below a bind mount lies a file of another kind.
        let kind = data.file_type();
        let mode = format!("{:o}", data.mode() & 0o7777);
        found.push(if kind.is_symlink() {
            let target = std::fs::read_link(path).unwrap_or_default();
            json!({ "path": shown, "link": target })
        } else if kind.is_char_device() || kind.is_block_device() {
            let (major, minor) = (
                rustix::fs::major(data.rdev()),
                rustix::fs::minor(data.rdev()),
            );
            let letter = if kind.is_char_device() { "c" } else { "b" };
            json!({ "path": shown, "device": format!("{letter} {major}:{minor}"), "mode": mode })
        } else {
            json!({ "path": shown, "mode": mode })
        });
    });
    found.sort_by_key(|value| value["path"].as_str().unwrap_or_default().to_owned());
    found
}

fn devices(_: &Arguments) -> Attempt {
    Ok(json!(device_list()))
}

/// Listening TCP and bound UDP sockets in this network namespace, from `/proc/net` (proc(5)).
fn listening() -> Value {
    let mut found = Vec::new();
    for (table, state) in [
        ("tcp", "0A"),
        ("tcp6", "0A"),
        ("udp", "07"),
        ("udp6", "07"),
        ("raw", "07"),
        ("raw6", "07"),
    ] {
        for line in text_of(&format!("/proc/self/net/{table}")).lines().skip(1) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.get(3) == Some(&state) {
                found.push(format!(
                    "{table} {}",
                    words.get(1).copied().unwrap_or_default()
                ));
            }
        }
    }
    found.sort();
    json!(found)
}

/// Interfaces with their addresses: names from `/proc/self/net/dev`, addresses from the kernel's tables.
fn interfaces() -> Value {
    let text = text_of("/proc/self/net/dev");
    let mut names: Vec<String> = text
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim().to_owned())
        .collect();
    names.sort();
    let mut v6: Vec<String> = text_of("/proc/self/net/if_inet6")
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = u128::from_str_radix(words.first()?, 16).ok()?;
            let length = u8::from_str_radix(words.get(2)?, 16).ok()?;
            Some(format!(
                "{} {}/{length}",
                words.get(5)?,
                std::net::Ipv6Addr::from(address)
            ))
        })
        .collect();
    v6.sort();
    json!({ "names": names, "ipv6": v6, "ipv4_local": local_ipv4() })
}

/// Local IPv4 addresses from the routing trie, where each `/32 host LOCAL` follows its address.
fn local_ipv4() -> Vec<String> {
    let text = text_of("/proc/self/net/fib_trie");
    let lines: Vec<&str> = text.lines().collect();
    let mut found: Vec<String> = lines
        .windows(2)
        .filter(|pair| pair[1].contains("/32 host LOCAL"))
        .filter_map(|pair| pair[0].trim().strip_prefix("|-- ").map(str::to_owned))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Routes as `interface destination mask gateway`, as `/proc/net/route` and `ipv6_route` show them.
fn routes() -> Value {
    let mut v4: Vec<String> = text_of("/proc/self/net/route")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = |index: usize| {
                let number = u32::from_str_radix(words.get(index)?, 16).ok()?;
                Some(std::net::Ipv4Addr::from(number.swap_bytes()).to_string())
            };
            Some(format!(
                "{} {} mask {} via {}",
                words.first()?,
                address(1)?,
                address(7)?,
                address(2)?
            ))
        })
        .collect();
    v4.sort();
    let mut v6: Vec<String> = text_of("/proc/self/net/ipv6_route")
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let address = |index: usize| {
                Some(std::net::Ipv6Addr::from(
                    u128::from_str_radix(words.get(index)?, 16).ok()?,
                ))
            };
            let length = u8::from_str_radix(words.get(1)?, 16).ok()?;
            Some(format!(
                "{} {}/{length} via {}",
                words.get(9)?,
                address(0)?,
                address(4)?
            ))
        })
        .collect();
    v6.sort();
    json!({ "ipv4": v4, "ipv6": v6 })
}

fn names_in(path: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect();
    names.sort();
    names
}

/// Names in directories that should be nearly empty.
fn root_sizes() -> Value {
    let paths = [
        "/home",
        "/root",
        "/run",
        "/tmp",
        "/var",
        "/var/tmp",
        "/mnt",
        "/media",
        "/srv",
        "/boot",
        "/sys/fs/cgroup",
    ];
    Value::Object(
        paths
            .iter()
            .map(|path| ((*path).to_owned(), json!(names_in(path))))
            .collect(),
    )
}

fn umask() -> String {
    let mask = rustix::process::umask(rustix::fs::Mode::empty());
    rustix::process::umask(mask);
    format!("{:03o}", mask.bits())
}

fn terminal() -> Value {
    let has = |number: i32| {
        rcc_sys::probe::duplicate_number(number).is_ok_and(|fd| rustix::termios::isatty(&fd))
    };
    json!({
        "stdin": has(0), "stdout": has(1), "stderr": has(2),
        "controlling": std::fs::File::open("/dev/tty").is_ok(),
        "is_session_leader": is_session_leader(),
    })
}

/// Reads the session from `/proc/self/stat` (proc(5)); it is 0 when its leader is outside this pid namespace.
fn is_session_leader() -> bool {
    let text = text_of("/proc/self/stat");
    let fields = text
        .rsplit_once(") ")
        .map(|(_, tail)| tail.split(' ').collect::<Vec<_>>())
        .unwrap_or_default();
    fields
        .get(3)
        .is_some_and(|session| *session == std::process::id().to_string())
}

/// Says what the session keyring holds, by descriptions only.
fn session_keyring() -> Value {
    let words = ["keyctl", "0", "-3", "0"]
        .iter()
        .map(std::ffi::OsString::from)
        .collect();
    match crate::kernel::syscall(&Arguments::new(words)) {
        Ok(_) => json!("present"),
        Err(crate::Refusal::Errno(errno, _)) => json!(rcc_sys::errno_name(errno)),
        Err(other) => json!(format!("{other:?}")),
    }
}

/// Landlock shows itself nowhere but by its effects; whether one more layer can be stacked is one.
fn landlock() -> Value {
    // landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION).
    let words = ["landlock_create_ruleset", "null", "0", "1"]
        .iter()
        .map(std::ffi::OsString::from)
        .collect();
    match crate::kernel::syscall(&Arguments::new(words)) {
        Ok(version) => json!({ "abi": version }),
        Err(crate::Refusal::Errno(errno, _)) => json!(rcc_sys::errno_name(errno)),
        Err(other) => json!(format!("{other:?}")),
    }
}
