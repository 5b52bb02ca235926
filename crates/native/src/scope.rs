//! Asks systemd for a transient scope, the group of a run where the user has no right to make one.
//!
//! By `busctl(1)`, which comes with systemd itself: the conversation is one call, and a client of the bus would be the largest
//! dependency of rcc (an async runtime, or a C library), for one call in runs that name a limit. It is executed by its absolute
//! path with an environment of two variables. A call answers when the job is queued; that process 1 is in the group, and with it
//! that the limits are set, is seen in `/proc`.
//!
//! Mustn't: be used for rcc's default limits, which are enforced without a conversation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcc_plan::{BUSCTL, GroupSettings, Manager};
use rustix::process::Pid;

use crate::error::NativeError;

/// Where version 2 is mounted; another place is no systemd's.
const TOP: &str = "/sys/fs/cgroup";
/// How long systemd may take for the job.
const JOB_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks whether process 1 has been moved.
const LOOK_PAUSE: Duration = Duration::from_micros(500);

/// Has a scope made with process 1 in it. The result is the unit and its directory.
pub(crate) fn make(
    manager: Manager,
    name: &str,
    settings: &GroupSettings,
    pid: Pid,
) -> Result<(String, PathBuf), NativeError> {
    let unit = format!("{name}.scope");
    let with_policy = properties(settings, pid, OomPolicy::Named);
    let asked = call(
        manager,
        "StartTransientUnit",
        &start_arguments(&unit, &with_policy),
    );
    if let Err(error) = asked {
        // Before systemd 253 a scope has no such property, and does what is wanted.
        let without = properties(settings, pid, OomPolicy::Unsaid);
        call(
            manager,
            "StartTransientUnit",
            &start_arguments(&unit, &without),
        )
        .map_err(|_| error)?;
    }
    let directory = wait_until_moved(&unit, pid)?;
    Ok((unit, directory))
}

/// Moves a process into a scope that exists.
pub(crate) fn join(manager: Manager, unit: &str, process: Pid) -> Result<(), NativeError> {
    let pid = process.as_raw_nonzero().to_string();
    let arguments = ["ssau", unit, "", "1", &pid].map(str::to_owned);
    call(manager, "AttachProcessesToUnit", &arguments)?;
    wait_until_moved(unit, process).map(drop)
}

/// Whether the kernel's killing of one process is to end the whole scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OomPolicy {
    /// It is not, and systemd is told.
    Named,
    /// Not told.
    Unsaid,
}

/// The properties of the scope (`org.freedesktop.systemd1(5)`), each as name, signature and values.
fn properties(settings: &GroupSettings, pid: Pid, oom: OomPolicy) -> Vec<Vec<String>> {
    let mut all: Vec<Vec<String>> = Vec::new();
    let mut add = |words: &[&str]| all.push(words.iter().map(|&word| word.to_owned()).collect());
    let number = |value: u64| value.to_string();
    add(&["PIDs", "au", "1", &pid.as_raw_nonzero().to_string()]);
    add(&["Description", "s", "sandbox of rcc"]);
    add(&["CollectMode", "s", "inactive-or-failed"]);
    // Else systemd attaches no further process, and `rcc exec` has one. The files of the group stay out of the agent's sight.
    add(&["Delegate", "b", "true"]);
    if oom == OomPolicy::Named {
        add(&["OOMPolicy", "s", "continue"]);
    }
    let plain = [
        ("MemoryMax", settings.memory),
        ("MemoryHigh", settings.memory_high),
        ("MemoryLow", settings.memory_low),
        ("MemorySwapMax", settings.swap),
        // Thousandths of a processor are milliseconds in a second.
        (
            "CPUQuotaPerSecUSec",
            settings.cpus.map(|cpus| cpus.saturating_mul(1000)),
        ),
        ("CPUWeight", settings.cpu_weight),
        ("TasksMax", settings.pids),
        ("IOWeight", settings.io_weight),
    ];
    for (name, value) in plain {
        if let Some(value) = value {
            add(&[name, "t", &number(value)]);
        }
    }
    let bandwidths = [
        ("IOReadBandwidthMax", settings.io_read),
        ("IOWriteBandwidthMax", settings.io_write),
    ];
    for (name, value) in bandwidths {
        if let (Some(value), Some((major, minor))) = (value, settings.disk) {
            let device = format!("/dev/block/{major}:{minor}");
            add(&[name, "a(st)", "1", &device, &number(value)]);
        }
    }
    all
}

fn start_arguments(unit: &str, properties: &[Vec<String>]) -> Vec<String> {
    let mut words = vec![
        "ssa(sv)a(sa(sv))".to_owned(),
        unit.to_owned(),
        "fail".to_owned(),
        properties.len().to_string(),
    ];
    words.extend(properties.iter().flatten().cloned());
    words.push("0".to_owned());
    words
}

/// Calls a method of the manager.
fn call(manager: Manager, method: &'static str, arguments: &[String]) -> Result<(), NativeError> {
    let failed = |reason: String| NativeError::Scope { method, reason };
    let uid = rustix::process::geteuid().as_raw();
    let runtime = format!("/run/user/{uid}");
    let program = BUSCTL.iter().find(|path| Path::new(path).exists());
    let output = Command::new(program.unwrap_or(&BUSCTL[0]))
        .arg(match manager {
            Manager::User => "--user",
            Manager::System => "--system",
        })
        .args(["--quiet", "--timeout=10", "call"])
        .args([
            "org.freedesktop.systemd1",
            "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager",
            method,
        ])
        .args(arguments)
        .env_clear()
        .env("XDG_RUNTIME_DIR", &runtime)
        .env(
            "DBUS_SESSION_BUS_ADDRESS",
            format!("unix:path={runtime}/bus"),
        )
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    let said = line.unwrap_or("it says nothing about why").trim();
    Err(failed(
        said.chars().filter(|c| !c.is_control()).take(300).collect(),
    ))
}

/// Waits until the process is in the scope, and says which directory that is.
fn wait_until_moved(unit: &str, pid: Pid) -> Result<PathBuf, NativeError> {
    let file = format!("/proc/{}/cgroup", pid.as_raw_nonzero());
    let end = Instant::now() + JOB_LIMIT;
    loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let group = text.lines().find_map(|line| line.strip_prefix("0::/"));
        if let Some(group) = group
            && group.rsplit('/').next() == Some(unit)
        {
            return Ok(Path::new(TOP).join(group));
        }
        if Instant::now() > end {
            return Err(NativeError::Scope {
                method: "StartTransientUnit",
                reason: format!(
                    "the sandbox was not moved into {unit} within {} s",
                    JOB_LIMIT.as_secs()
                ),
            });
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_has_as_many_properties_as_it_says() {
        let settings = GroupSettings {
            memory: Some(1 << 30),
            cpus: Some(500),
            io_read: Some(1000),
            disk: Some((8, 0)),
            ..GroupSettings::default()
        };
        let pid = Pid::from_raw(42).unwrap();
        let all = properties(&settings, pid, OomPolicy::Named);
        let words = start_arguments("a.scope", &all).join(" ");
        assert_eq!(
            words,
            "ssa(sv)a(sa(sv)) a.scope fail 8 PIDs au 1 42 Description s sandbox of rcc CollectMode s inactive-or-failed \
             Delegate b true OOMPolicy s continue MemoryMax t 1073741824 CPUQuotaPerSecUSec t 500000 IOReadBandwidthMax a(st) 1 /dev/block/8:0 1000 0"
        );
        assert_eq!(
            properties(&settings, pid, OomPolicy::Unsaid).len(),
            all.len() - 1
        );
    }
}
