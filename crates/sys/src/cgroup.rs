//! Control groups as files: make one, put a process in, write settings, read what it uses, end it (`cgroups(7)`).
//!
//! A group is one directory of the unified hierarchy (version 2), or one in each of several hierarchies of version 1. Must not
//! choose a place, and must not touch a group that the caller did not name: every path comes from above.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::Pid;

use crate::SysError;

/// How often and how long an emptied group may still be busy: the kernel lets go of ended processes a moment later.
const REMOVE_ATTEMPTS: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(2);

/// The directories of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupFiles {
    /// Version 2.
    Unified(PathBuf),
    /// Version 1: controller (`memory`, `cpu`, `cpuacct`, `pids`, `blkio`) and directory. Controllers mounted together have the
    /// same directory.
    Legacy(Vec<(String, PathBuf)>),
}

/// What a group uses. What the kernel does not tell is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupUsage {
    /// Memory with caches, in bytes.
    pub memory: Option<u64>,
    /// The most there ever was, in bytes.
    pub memory_peak: Option<u64>,
    /// Swap space, in bytes.
    pub swap: Option<u64>,
    /// Processor time, in microseconds.
    pub cpu_us: Option<u64>,
    /// Time in which the group had to wait for its processor limit, in microseconds.
    pub cpu_throttled_us: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The most there ever were.
    pub pids_peak: Option<u64>,
    /// Bytes read from disks.
    pub io_read: Option<u64>,
    /// Bytes written to disks.
    pub io_written: Option<u64>,
    /// Processes killed because memory ran out, here or in a group above or on the whole machine.
    pub memory_kills: u64,
    /// How often it ran out at the limit of this group. Version 1 does not tell: each kill counts as one.
    pub memory_ran_out: u64,
    /// Processes that could not be started because of the limit.
    pub pids_refused: u64,
    /// Share of the last ten seconds in which something waited for memory, in hundredths of a per cent (PSI, version 2 only).
    pub memory_pressure: Option<u64>,
}

impl GroupUsage {
    /// Fills in from an earlier reading what this one has not: a group that is gone tells nothing.
    #[must_use]
    pub fn or_earlier(self, earlier: &Self) -> Self {
        Self {
            memory: self.memory.or(earlier.memory),
            memory_peak: self.memory_peak.or(earlier.memory_peak),
            swap: self.swap.or(earlier.swap),
            cpu_us: self.cpu_us.or(earlier.cpu_us),
            cpu_throttled_us: self.cpu_throttled_us.or(earlier.cpu_throttled_us),
            pids: self.pids.or(earlier.pids),
            pids_peak: self.pids_peak.or(earlier.pids_peak),
            io_read: self.io_read.or(earlier.io_read),
            io_written: self.io_written.or(earlier.io_written),
            memory_kills: self.memory_kills.max(earlier.memory_kills),
            memory_ran_out: self.memory_ran_out.max(earlier.memory_ran_out),
            pids_refused: self.pids_refused.max(earlier.pids_refused),
            memory_pressure: self.memory_pressure.or(earlier.memory_pressure),
        }
    }
}

fn failed(call: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> SysError {
    let path = path.display().to_string();
    move |error| {
        SysError::new(
            call,
            path,
            Errno::from_io_error(&error).unwrap_or(Errno::IO),
        )
    }
}

impl GroupFiles {
    /// Every directory, each once.
    fn directories(&self) -> Vec<&Path> {
        let mut all: Vec<&Path> = match self {
            Self::Unified(path) => vec![path],
            Self::Legacy(paths) => paths.iter().map(|(_, path)| path.as_path()).collect(),
        };
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The directory in which a controller's files are.
    #[must_use]
    pub fn directory(&self, controller: &str) -> Option<&Path> {
        match self {
            Self::Unified(path) => Some(path),
            Self::Legacy(paths) => paths
                .iter()
                .find(|(name, _)| name == controller)
                .map(|(_, path)| path.as_path()),
        }
    }

    /// Makes the directories (`mkdir(2)`), in place of empty ones of that name; what was made before a failure is removed again.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, `EEXIST`, or `EAGAIN` when there are too many groups.
    pub fn make(&self) -> Result<(), SysError> {
        let directories = self.directories();
        for (made, path) in directories.iter().enumerate() {
            let made_it = fs::create_dir(path).or_else(|error| match error.kind() {
                // What a killed run of the same name left. One with processes in it cannot be removed.
                ErrorKind::AlreadyExists if fs::remove_dir(path).is_ok() => fs::create_dir(path),
                _ => Err(error),
            });
            if let Err(error) = made_it {
                for path in directories.iter().take(made) {
                    // The first error is what is told.
                    let _ = fs::remove_dir(path);
                }
                return Err(failed("mkdir(2)", path)(error));
            }
        }
        Ok(())
    }

    /// Writes a setting.
    ///
    /// # Errors
    /// `ENOENT` when the kernel or the parent group has no such setting; `EINVAL`, `EACCES`.
    pub fn write(&self, controller: &str, file: &str, value: &str) -> Result<(), SysError> {
        let directory = self
            .directory(controller)
            .ok_or_else(|| SysError::new("openat(2)", file, Errno::NOENT))?;
        let path = directory.join(file);
        // Opened without O_CREAT: the kernel makes the files of a group, nobody else.
        fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(failed("openat(2)", &path))?
            .write_all(value.as_bytes())
            .map_err(failed("write(2)", &path))
    }

    /// Reads a file that holds one number; none for another word, such as `max`.
    #[must_use]
    pub fn number(&self, controller: &str, file: &str) -> Option<u64> {
        read(self.directory(controller)?, file)?.trim().parse().ok()
    }

    /// Tells whether the kernel has this setting for the group.
    #[must_use]
    pub fn has(&self, controller: &str, file: &str) -> bool {
        self.directory(controller)
            .is_some_and(|directory| directory.join(file).symlink_metadata().is_ok())
    }

    /// Moves a process with all its threads into the group; its later children are born there.
    ///
    /// # Errors
    /// `ESRCH` when it has ended; `EACCES` or `EPERM` without the right to take it from where it is.
    pub fn attach(&self, process: Pid) -> Result<(), SysError> {
        for directory in self.directories() {
            let path = directory.join("cgroup.procs");
            fs::OpenOptions::new()
                .write(true)
                .open(&path)
                .and_then(|mut file| {
                    file.write_all(process.as_raw_nonzero().to_string().as_bytes())
                })
                .map_err(failed("write(2)", &path))?;
        }
        Ok(())
    }

    /// The processes of the group, as far as the caller's pid namespace has them.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        let directories = self.directories();
        let Some(directory) = directories.first() else {
            return Vec::new();
        };
        fs::read_to_string(directory.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
            .filter_map(|line| Pid::from_raw(line.parse().ok()?))
            .collect()
    }

    /// Kills what is left in the group and removes it. A group that is gone already is fine.
    ///
    /// # Errors
    /// `EBUSY` when a process does not end.
    pub fn remove(&self) -> Result<(), SysError> {
        let mut last = Ok(());
        for directory in self.directories() {
            let removed = remove_directory(directory);
            if last.is_ok() {
                last = removed;
            }
        }
        last
    }

    /// Reads what the group uses now.
    #[must_use]
    pub fn usage(&self) -> GroupUsage {
        match self {
            Self::Unified(path) => unified_usage(path),
            Self::Legacy(_) => self.legacy_usage(),
        }
    }

    fn legacy_usage(&self) -> GroupUsage {
        let text = |controller, file: &str| read(self.directory(controller)?, file);
        let number = |controller, file| text(controller, file)?.trim().parse().ok();
        let keyed = |controller, file, key| field(&text(controller, file)?, key);
        let memory = number("memory", "memory.usage_in_bytes");
        let memory_kills = keyed("memory", "memory.oom_control", "oom_kill").unwrap_or(0);
        let disk = text("blkio", "blkio.throttle.io_service_bytes_recursive")
            .or_else(|| text("blkio", "blkio.throttle.io_service_bytes"));
        GroupUsage {
            memory,
            memory_peak: number("memory", "memory.max_usage_in_bytes"),
            swap: number("memory", "memory.memsw.usage_in_bytes")
                .zip(memory)
                .map(|(both, memory): (u64, u64)| both.saturating_sub(memory)),
            cpu_us: number("cpuacct", "cpuacct.usage").map(|ns: u64| ns / 1000),
            cpu_throttled_us: keyed("cpu", "cpu.stat", "throttled_time").map(|ns| ns / 1000),
            pids: number("pids", "pids.current"),
            pids_peak: number("pids", "pids.peak"),
            io_read: disk.as_deref().map(|disk| legacy_sum(disk, "Read")),
            io_written: disk.as_deref().map(|disk| legacy_sum(disk, "Write")),
            memory_kills,
            memory_ran_out: memory_kills,
            pids_refused: keyed("pids", "pids.events", "max").unwrap_or(0),
            memory_pressure: None,
        }
    }
}

fn unified_usage(path: &Path) -> GroupUsage {
    let number = |file| read(path, file)?.trim().parse().ok();
    let keyed = |file, key| field(&read(path, file)?, key);
    let disk = read(path, "io.stat");
    GroupUsage {
        memory: number("memory.current"),
        memory_peak: number("memory.peak"),
        swap: number("memory.swap.current"),
        cpu_us: keyed("cpu.stat", "usage_usec"),
        cpu_throttled_us: keyed("cpu.stat", "throttled_usec"),
        pids: number("pids.current"),
        pids_peak: number("pids.peak"),
        io_read: disk.as_deref().map(|disk| unified_sum(disk, "rbytes=")),
        io_written: disk.as_deref().map(|disk| unified_sum(disk, "wbytes=")),
        memory_kills: keyed("memory.events", "oom_kill").unwrap_or(0),
        memory_ran_out: keyed("memory.events", "oom").unwrap_or(0),
        pids_refused: keyed("pids.events", "max").unwrap_or(0),
        memory_pressure: read(path, "memory.pressure").and_then(|text| pressure(&text)),
    }
}

fn read(directory: &Path, file: &str) -> Option<String> {
    fs::read_to_string(directory.join(file)).ok()
}

/// The number after a key at the beginning of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}

/// Sums a field of `io.stat` over all devices: `8:0 rbytes=1 wbytes=2 …`.
fn unified_sum(text: &str, key: &str) -> u64 {
    text.split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// Sums one kind of `blkio.throttle.io_service_bytes` over all devices: `8:0 Read 1`.
fn legacy_sum(text: &str, kind: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            let (_device, word, number) = (words.next()?, words.next()?, words.next()?);
            (word == kind).then(|| number.parse::<u64>().ok())?
        })
        .fold(0, u64::saturating_add)
}

/// `some avg10=1.25 …` as 125 (kernel `Documentation/accounting/psi.rst`).
fn pressure(text: &str) -> Option<u64> {
    let average = text
        .lines()
        .find_map(|line| line.strip_prefix("some "))?
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    let (whole, fraction) = average.split_once('.')?;
    Some(
        whole.parse::<u64>().ok()? * 100
            + format!("{fraction:0<2}").get(..2)?.parse::<u64>().ok()?,
    )
}

/// Ends and removes one directory of a group.
fn remove_directory(path: &Path) -> Result<(), SysError> {
    for attempt in 0..REMOVE_ATTEMPTS {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(failed("rmdir(2)", path)(errno.into())),
        }
        if attempt == 0 {
            end_processes(path);
        }
        std::thread::sleep(REMOVE_PAUSE);
    }
    Err(SysError::new(
        "rmdir(2)",
        path.display().to_string(),
        Errno::BUSY,
    ))
}

/// Kills every process of a group: at once since Linux 5.14 (`cgroup.kill`), else one after the other.
fn end_processes(path: &Path) {
    let file = path.join("cgroup.kill");
    if fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| file.write_all(b"1"))
        .is_ok()
    {
        return;
    }
    let Ok(text) = fs::read_to_string(path.join("cgroup.procs")) else {
        return;
    };
    for pid in text
        .lines()
        .filter_map(|line| Pid::from_raw(line.parse().ok()?))
    {
        // It may have ended meanwhile; its number cannot have a new owner in this group so soon.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("rcc-cgroup-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        path
    }

    #[test]
    fn an_empty_group_of_the_same_name_is_replaced_and_one_in_use_is_not() {
        let path = scratch("left", &[]);
        let group = GroupFiles::Unified(path.clone());
        group.make().unwrap();
        fs::write(path.join("in use"), "").unwrap();
        assert_eq!(group.make().unwrap_err().errno, Errno::EXIST);
        assert!(path.join("in use").exists());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_files_of_version_2_are_understood() {
        let path = scratch(
            "unified",
            &[
                ("memory.current", "4096\n"),
                ("memory.peak", "8192\n"),
                (
                    "memory.events",
                    "low 0\nhigh 0\nmax 7\noom 2\noom_kill 1\noom_group_kill 0\n",
                ),
                (
                    "memory.pressure",
                    "some avg10=12.05 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
                ),
                (
                    "cpu.stat",
                    "usage_usec 123\nuser_usec 100\nsystem_usec 23\nthrottled_usec 5\n",
                ),
                ("pids.current", "3\n"),
                ("pids.events", "max 4\n"),
                (
                    "io.stat",
                    "8:0 rbytes=10 wbytes=20 rios=1 wios=1 dbytes=0 dios=0\n253:1 rbytes=5 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n",
                ),
            ],
        );
        let usage = GroupFiles::Unified(path.clone()).usage();
        assert_eq!(
            usage,
            GroupUsage {
                memory: Some(4096),
                memory_peak: Some(8192),
                swap: None,
                cpu_us: Some(123),
                cpu_throttled_us: Some(5),
                pids: Some(3),
                pids_peak: None,
                io_read: Some(15),
                io_written: Some(20),
                memory_kills: 1,
                memory_ran_out: 2,
                pids_refused: 4,
                memory_pressure: Some(1205),
            }
        );
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn the_files_of_version_1_are_understood() {
        let path = scratch(
            "legacy",
            &[
                ("memory.usage_in_bytes", "4096\n"),
                ("memory.memsw.usage_in_bytes", "5096\n"),
                ("memory.max_usage_in_bytes", "8192\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
                ("cpuacct.usage", "123000\n"),
                (
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 10\n8:0 Write 20\n8:0 Sync 30\nTotal 30\n",
                ),
            ],
        );
        let all = ["memory", "cpuacct", "blkio"].map(|name| (name.to_owned(), path.clone()));
        let usage = GroupFiles::Legacy(all.to_vec()).usage();
        assert_eq!(
            (usage.memory, usage.memory_peak, usage.swap),
            (Some(4096), Some(8192), Some(1000))
        );
        assert_eq!(
            (usage.cpu_us, usage.memory_kills, usage.memory_ran_out),
            (Some(123), 2, 2)
        );
        assert_eq!(usage.pids, None);
        assert_eq!((usage.io_read, usage.io_written), (Some(10), Some(20)));
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_setting_that_the_kernel_does_not_have_is_not_made_up() {
        let path = scratch("settings", &[]);
        let group = GroupFiles::Unified(path.clone());
        assert_eq!(
            group.write("memory", "memory.max", "1").unwrap_err().errno,
            Errno::NOENT
        );
        assert!(!path.join("memory.max").exists());
        fs::remove_dir_all(path).unwrap();
    }
}
