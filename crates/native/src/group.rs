//! The control group of a run: made before the agent starts, holds process 1 and everything below it, removed at the end.
//!
//! Should: (1) remove groups that killed supervisors left, (2) make the group, (3) set every limit, (4) move process 1 in, all
//! before the word to start. Supervisor, gateway and guard stay outside: the agent's limits are not theirs.
//! Mustn't: change a group that it did not make; go on when a setting was refused.

use std::path::Path;
use std::time::Duration;

use rcc_plan::{GroupPlace, GroupPlan, GroupSettings, SafeBytes};
use rcc_sys::SysError;
use rcc_sys::cgroup::{GroupFiles, GroupUsage};
use rcc_sys::process::pid_of;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{NativeError, on_step};
use crate::launch::Child;
use crate::scope;

/// Begins the names of all groups of runs; the run's id follows.
pub const GROUP_PREFIX: &str = "rcc-run-";
/// An empty group younger than this may belong to a run that begins just now.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// Length of the period in which the processor limit is counted, in microseconds: the kernel's default.
const CPU_PERIOD_US: u64 = 100_000;

/// Where a run's group is, for other processes of the user: `rcc stats` and `rcc exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecord {
    /// Controller and directory; one without a name in version 2.
    pub directories: Vec<(String, SafeBytes)>,
    /// The scope, when systemd made it, and which systemd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<(String, rcc_plan::Manager)>,
    /// What it is limited to.
    pub settings: GroupSettings,
}

impl GroupRecord {
    fn files(&self) -> GroupFiles {
        let path = |path: &SafeBytes| path.as_path().to_owned();
        match self.directories.as_slice() {
            [(name, directory)] if name.is_empty() => GroupFiles::Unified(path(directory)),
            all => GroupFiles::Legacy(
                all.iter()
                    .map(|(name, directory)| (name.clone(), path(directory)))
                    .collect(),
            ),
        }
    }

    /// Reads what the group uses now; everything is none when it is gone.
    #[must_use]
    pub fn usage(&self) -> GroupUsage {
        self.files().usage()
    }

    /// Reads the limits that are in force, which need not be those that it was made with.
    #[must_use]
    pub fn in_force(&self) -> GroupSettings {
        let files = self.files();
        let number = |controller, file| files.number(controller, file);
        let legacy = matches!(files, GroupFiles::Legacy(_));
        let memory = if legacy {
            "memory.limit_in_bytes"
        } else {
            "memory.max"
        };
        GroupSettings {
            // Version 1 has no word for "none" but the largest multiple of a page.
            memory: number("memory", memory).filter(|bytes| *bytes < u64::MAX / 4),
            pids: number("pids", "pids.max"),
            ..GroupSettings::default()
        }
    }

    /// The processes in the group.
    #[must_use]
    pub fn processes(&self) -> Vec<Pid> {
        self.files().processes()
    }

    /// Moves a process of the same user into the group, before it becomes part of the sandbox (`rcc exec`).
    ///
    /// # Errors
    /// The group is gone, or the kernel or systemd refuse.
    pub fn join(&self, process: Pid) -> Result<(), NativeError> {
        match &self.scope {
            Some((unit, manager)) => scope::join(*manager, unit, process),
            None => self
                .files()
                .attach(process)
                .map_err(on_step("put a process into the run's group")),
        }
    }
}

/// The group of this run. Dropping it ends what is left in it and removes it.
#[derive(Debug)]
pub struct Group {
    files: GroupFiles,
    scope: Option<(String, rcc_plan::Manager)>,
    settings: GroupSettings,
}

impl Group {
    /// Makes the group and puts process 1 into it.
    pub(crate) fn make(plan: &GroupPlan, run_id: &str, init: &Child) -> Result<Self, NativeError> {
        let step = "find the number of the sandbox's first process";
        let pid = init
            .pidfd()
            .and_then(|init| pid_of(std::os::fd::AsFd::as_fd(init)));
        let pid = pid.map_err(on_step(step))?;
        let name = format!("{GROUP_PREFIX}{run_id}");
        let files = match &plan.place {
            GroupPlace::Scope { manager } => {
                let (unit, directory) = scope::make(*manager, &name, &plan.settings, pid)?;
                let group = Self {
                    files: GroupFiles::Unified(directory),
                    scope: Some((unit, *manager)),
                    settings: plan.settings.clone(),
                };
                group.confirm()?;
                return Ok(group);
            }
            GroupPlace::Unified { parent } => {
                sweep(parent.as_path());
                GroupFiles::Unified(parent.as_path().join(&name))
            }
            GroupPlace::Legacy { parents } => {
                let directory = |parent: &SafeBytes| {
                    sweep(parent.as_path());
                    parent.as_path().join(&name)
                };
                let all = parents.iter();
                GroupFiles::Legacy(
                    all.map(|(controller, parent)| (controller.clone(), directory(parent)))
                        .collect(),
                )
            }
        };
        files
            .make()
            .map_err(on_step("make the control group of the run"))?;
        // From here on it is removed whatever happens.
        let group = Self {
            files,
            scope: None,
            settings: plan.settings.clone(),
        };
        group.set().map_err(on_step("set the limits of the run"))?;
        group
            .files
            .attach(pid)
            .map_err(on_step("put the sandbox into its control group"))?;
        Ok(group)
    }

    /// Writes every setting.
    fn set(&self) -> Result<(), SysError> {
        let legacy = matches!(self.files, GroupFiles::Legacy(_));
        let memory_and_swap = self
            .settings
            .memory
            .zip(self.settings.swap)
            .map(|(a, b)| a.saturating_add(b));
        for (controller, file, value) in values(&self.settings, legacy, memory_and_swap) {
            let optional = is_optional(file) && !self.files.has(controller, file);
            if !optional {
                self.files.write(controller, file, &value)?;
            }
        }
        Ok(())
    }

    /// systemd leaves settings out without a word when a controller is not its to give: looks whether they are there.
    fn confirm(&self) -> Result<(), NativeError> {
        for (controller, file, _) in values(&self.settings, false, None) {
            let weight = file.ends_with("weight");
            if !self.files.has(controller, file) && !is_optional(file) && !weight {
                return Err(NativeError::ScopeWithout { setting: file });
            }
        }
        Ok(())
    }

    /// Reads what the group uses now.
    #[must_use]
    pub fn usage(&self) -> GroupUsage {
        self.files.usage()
    }

    /// What it is limited to.
    #[must_use]
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Whether systemd made it, and takes it away.
    pub(crate) const fn is_scope(&self) -> bool {
        self.scope.is_some()
    }

    pub(crate) const fn files(&self) -> &GroupFiles {
        &self.files
    }

    /// Where it is.
    #[must_use]
    pub fn record(&self) -> GroupRecord {
        let directories = match &self.files {
            GroupFiles::Unified(path) => vec![(String::new(), path.clone().into())],
            GroupFiles::Legacy(all) => all
                .iter()
                .map(|(name, path)| (name.clone(), path.clone().into()))
                .collect(),
        };
        GroupRecord {
            directories,
            scope: self.scope.clone(),
            settings: self.settings.clone(),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // systemd removes a scope by itself when its last process has ended; other groups are collected by a later run if
        // this fails.
        if self.scope.is_none() {
            let _ = self.files.remove();
        }
    }
}

/// Swap space is counted only where the kernel was built and started so.
fn is_optional(file: &str) -> bool {
    matches!(file, "memory.swap.max" | "memory.memsw.limit_in_bytes")
}

/// Controller, file and value of each setting, in the order in which they can be written.
fn values(
    settings: &GroupSettings,
    legacy: bool,
    memory_and_swap: Option<u64>,
) -> Vec<(&'static str, &'static str, String)> {
    let mut all = Vec::new();
    let mut add = |controller, file, value: Option<String>| {
        all.extend(value.map(|value| (controller, file, value)));
    };
    let plain = |value: Option<u64>| value.map(|value| value.to_string());
    let quota = |cpus: u64| cpus.saturating_mul(CPU_PERIOD_US / 1000);
    let disk = settings
        .disk
        .map(|(major, minor)| format!("{major}:{minor}"));
    let of_disk =
        |value: Option<u64>, key: &str| Some(format!("{} {key}{}", disk.as_ref()?, value?));
    if legacy {
        add("memory", "memory.limit_in_bytes", plain(settings.memory));
        add(
            "memory",
            "memory.memsw.limit_in_bytes",
            plain(memory_and_swap),
        );
        add(
            "cpu",
            "cpu.cfs_period_us",
            settings.cpus.map(|_| CPU_PERIOD_US.to_string()),
        );
        add(
            "cpu",
            "cpu.cfs_quota_us",
            settings.cpus.map(|cpus| quota(cpus).to_string()),
        );
        // 1024 shares are what everybody has, as a weight of 100 is.
        let shares = |weight: u64| (weight.saturating_mul(1024) / 100).max(2);
        add(
            "cpu",
            "cpu.shares",
            settings.cpu_weight.map(|weight| shares(weight).to_string()),
        );
        add("pids", "pids.max", plain(settings.pids));
        add(
            "blkio",
            "blkio.throttle.read_bps_device",
            of_disk(settings.io_read, ""),
        );
        add(
            "blkio",
            "blkio.throttle.write_bps_device",
            of_disk(settings.io_write, ""),
        );
        return all;
    }
    add("memory", "memory.max", plain(settings.memory));
    add("memory", "memory.high", plain(settings.memory_high));
    add("memory", "memory.low", plain(settings.memory_low));
    add("memory", "memory.swap.max", plain(settings.swap));
    add(
        "cpu",
        "cpu.max",
        settings
            .cpus
            .map(|cpus| format!("{} {CPU_PERIOD_US}", quota(cpus))),
    );
    add("cpu", "cpu.weight", plain(settings.cpu_weight));
    add("pids", "pids.max", plain(settings.pids));
    add("io", "io.max", of_disk(settings.io_read, "rbps="));
    add("io", "io.max", of_disk(settings.io_write, "wbps="));
    add(
        "io",
        "io.weight",
        settings.io_weight.map(|weight| format!("default {weight}")),
    );
    all
}

/// Removes empty groups of runs whose supervisor was killed before it could.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry
            .file_name()
            .to_string_lossy()
            .starts_with(GROUP_PREFIX);
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_ours && age().is_some_and(|age| age > STALE_AFTER) {
            // One with processes is busy, and stays.
            let _ = rustix::fs::rmdir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_the_words_of_both_versions() {
        let settings = GroupSettings {
            memory: Some(1 << 30),
            swap: Some(1 << 20),
            cpus: Some(1500),
            cpu_weight: Some(50),
            pids: Some(64),
            io_write: Some(1000),
            disk: Some((8, 16)),
            ..GroupSettings::default()
        };
        let show = |legacy, both| {
            values(&settings, legacy, both)
                .into_iter()
                .map(|(_, file, value)| format!("{file}={value}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            show(false, None),
            [
                "memory.max=1073741824",
                "memory.swap.max=1048576",
                "cpu.max=150000 100000",
                "cpu.weight=50",
                "pids.max=64",
                "io.max=8:16 wbps=1000",
            ]
        );
        assert_eq!(
            show(true, Some(5)),
            [
                "memory.limit_in_bytes=1073741824",
                "memory.memsw.limit_in_bytes=5",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "cpu.shares=512",
                "pids.max=64",
                "blkio.throttle.write_bps_device=8:16 1000",
            ]
        );
    }

    #[test]
    fn a_record_says_where_the_group_is() {
        for files in [
            GroupFiles::Unified("/x/rcc-run-a".into()),
            GroupFiles::Legacy(vec![("memory".to_owned(), "/m/rcc-run-a".into())]),
        ] {
            let record = GroupRecord {
                directories: match &files {
                    GroupFiles::Unified(path) => vec![(String::new(), path.clone().into())],
                    GroupFiles::Legacy(all) => all
                        .iter()
                        .map(|(name, path)| (name.clone(), path.clone().into()))
                        .collect(),
                },
                scope: None,
                settings: GroupSettings::default(),
            };
            let text = serde_json::to_string(&record).unwrap();
            let back: GroupRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(back.files(), files);
        }
    }
}
