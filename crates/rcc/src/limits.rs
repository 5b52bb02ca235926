//! What the user reads about limits: while the run lasts, and at its end.
//!
//! Must not print a name of the agent's unescaped. While the agent has the terminal in raw mode, a line break needs its carriage return.

use std::io::IsTerminal as _;
use std::time::Instant;

use rcc_native::{
    Ended, Excess, GROUP_PREFIX, Group, GroupRecord, GrowingTree, LimitEvent, LimitReport, Shortage,
};
use rcc_plan::{GroupSettings, Manager};
use rcc_spec::LimitKey;
use rcc_sys::process::ChildrenUsage;
use rustix::process::Pid;

use crate::output;

/// The group of a run that is under way, found from its first process; none when the run has none.
pub(crate) fn group_of(init: Pid, id: &str) -> Option<GroupRecord> {
    let pid = u32::try_from(init.as_raw_nonzero().get()).ok()?;
    let found = rcc_host::group_of(pid, &format!("{GROUP_PREFIX}{id}"));
    let (_, first) = found.first()?;
    let unit = first.file_name()?.to_string_lossy().into_owned();
    let manager = match rustix::process::geteuid().is_root() {
        true => Manager::System,
        false => Manager::User,
    };
    let mut record = GroupRecord {
        scope: unit.ends_with(".scope").then_some((unit, manager)),
        directories: found
            .into_iter()
            .map(|(name, path)| (name, path.into()))
            .collect(),
        settings: GroupSettings::default(),
    };
    record.settings = record.in_force();
    Some(record)
}

/// The line for an event; printed at once.
pub(crate) fn tell(event: &LimitEvent) {
    let text = rcc_plan::escape(line(event));
    if std::io::stderr().is_terminal() {
        output::say(&format!("\r\nrcc: {text}\r\n"));
    } else {
        output::note(&text);
    }
}

fn line(event: &LimitEvent) -> String {
    let size = |bytes: u64| rough(bytes);
    match event {
        LimitEvent::MemoryShort {
            used,
            limit,
            pressure,
        } => {
            let waits = match pressure {
                Some(pressure) if *pressure > 0 => format!(
                    "; its processes waited for memory {}.{:02} % of the last ten seconds",
                    pressure / 100,
                    pressure % 100
                ),
                _ => String::new(),
            };
            format!(
                "the run uses {} of its memory limit of {}{waits}",
                size(*used),
                LimitKey::Memory.show(*limit)
            )
        }
        LimitEvent::MemoryKill {
            names,
            count,
            limit,
        } => {
            let what = match (names.as_slice(), count) {
                ([], 1) => "a process was killed".to_owned(),
                ([name], 1) => format!("{name} was killed"),
                ([], count) => format!("{count} processes were killed"),
                (names, count) => format!(
                    "{count} processes were killed, {} among them",
                    names.join(", ")
                ),
            };
            match limit {
                Some(limit) => format!(
                    "the run reached its memory limit of {}: {what}",
                    LimitKey::Memory.show(*limit)
                ),
                None => format!("the machine, or a group above, ran out of memory: {what}"),
            }
        }
        LimitEvent::Ending(Ended::Timeout { limit_ms }) => format!(
            "the run's time of {} is over; it is ended",
            LimitKey::Timeout.show(*limit_ms)
        ),
        LimitEvent::Ending(Ended::Idle { limit_ms }) => format!(
            "nothing happened in the run for {}; it is ended",
            LimitKey::IdleTimeout.show(*limit_ms)
        ),
        LimitEvent::Ending(Ended::DiskShort { shortage }) => format!(
            "only {} are left on the disk of {}, less than the limit disk_free of {}; the run is ended",
            rough(shortage.free),
            shortage.path,
            rough(shortage.floor)
        ),
        LimitEvent::Ending(Ended::TooLarge { excess }) => {
            format!("{}; the run is ended", self::excess(excess))
        }
    }
}

/// What the user reads when a tree is too large, or of unknown size.
pub(crate) fn excess(excess: &Excess) -> String {
    let (what, key) = match excess.tree {
        GrowingTree::Layer => ("the layer of the run", LimitKey::LayerSize),
        GrowingTree::Home => ("the agent home", LimitKey::HomeSize),
    };
    let limit = format!("the limit {} of {}", key.as_str(), key.show(excess.limit));
    match excess.bytes {
        Some(bytes) => format!("{what} holds {}, more than {limit}", rough(bytes)),
        None => format!(
            "{what} has directories that are closed to you, or too many files, so that {limit} cannot be kept"
        ),
    }
}

/// What the user reads when there is less room than usual before the run.
pub(crate) fn short_at_start(shortage: &Shortage) -> String {
    format!(
        "only {} are left on the disk of {}; the run is ended when {} are left (disk_free)",
        rough(shortage.free),
        shortage.path,
        rough(shortage.floor)
    )
}

/// Sums up what limits did; a run that reached none ends silently.
pub(crate) fn sum_up(group: &Group, report: &LimitReport) {
    for text in sums(group, report) {
        output::note(&rcc_plan::escape(text));
    }
}

fn sums(group: &Group, report: &LimitReport) -> Vec<String> {
    let (usage, settings) = (group.usage().or_earlier(&report.usage), group.settings());
    let mut texts = Vec::new();
    if let (1.., Some(limit)) = (usage.memory_kills, settings.memory) {
        let many = if usage.memory_kills == 1 {
            "process"
        } else {
            "processes"
        };
        let names = match report.victims.as_slice() {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        let peak = usage.memory_peak.map_or_else(String::new, |peak| {
            format!("; the most memory used was {}", rough(peak))
        });
        let by = match usage.memory_ran_out {
            0 => "because others had used up the memory".to_owned(),
            _ => format!("at the memory limit of {}", LimitKey::Memory.show(limit)),
        };
        texts.push(format!(
            "killed {by}: {} {many}{names}{peak}",
            usage.memory_kills
        ));
    }
    if let (1.., Some(limit)) = (usage.pids_refused, settings.pids) {
        let times = if usage.pids_refused == 1 {
            "time"
        } else {
            "times"
        };
        texts.push(format!(
            "the limit of {limit} processes was reached {} {times}; --pids sets another",
            usage.pids_refused
        ));
    }
    texts
}

/// What there was before the agent started.
pub(crate) struct Start {
    time: Instant,
    children: ChildrenUsage,
}

impl Start {
    pub(crate) fn now() -> Self {
        Self {
            time: Instant::now(),
            children: ChildrenUsage::now(),
        }
    }
}

/// What the run used, in one line (`--stats`). Without a group the kernel remembers processor time and the largest process.
pub(crate) fn tell_usage(group: Option<&Group>, report: &LimitReport, start: &Start) {
    let used = group.map(Group::usage).unwrap_or_default();
    let used = used.or_earlier(&report.usage);
    let seen = ChildrenUsage::now().since(start.children);
    let time = start.time.elapsed();
    let mut words = vec![
        format!("{}.{:02}s", time.as_secs(), time.subsec_millis() / 10),
        format!(
            "processor {}",
            crate::commands::stats::seconds(used.cpu_us.unwrap_or(0).max(seen.cpu_us))
        ),
    ];
    words.extend(match (used.memory_peak, seen.largest_bytes) {
        (Some(peak), _) => Some(format!("memory at most {}", rough(peak))),
        (None, 0) => None,
        (None, bytes) => Some(format!("largest process {}", rough(bytes))),
    });
    words.extend(
        used.pids_peak
            .map(|pids| format!("at most {pids} processes")),
    );
    if let Some((read, written)) = used.io_read.zip(used.io_written) {
        words.push(format!(
            "disk {} read, {} written",
            rough(read),
            rough(written)
        ));
    }
    output::note(&format!("the run used: {}", words.join("; ")));
}

/// A size with one digit after the point, for reading.
pub(crate) fn rough(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    for (unit, shift) in units {
        let tenths = bytes.saturating_mul(10) >> shift;
        if tenths >= 10 {
            return match (tenths / 10, tenths % 10) {
                (whole, 0) => format!("{whole}{unit}"),
                (whole, tenth) => format!("{whole}.{tenth}{unit}"),
            };
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1536, "1.5KiB"),
            (64 << 20, "64MiB"),
            (u64::MAX, "1677721.5TiB"),
        ] {
            assert_eq!(rough(bytes), text);
        }
    }

    #[test]
    fn every_event_has_its_line() {
        let limit = 1 << 30;
        for (event, text) in [
            (
                LimitEvent::MemoryShort {
                    used: 1 << 29,
                    limit,
                    pressure: Some(1205),
                },
                "the run uses 512MiB of its memory limit of 1GiB; its processes waited for memory 12.05 % of the last ten seconds",
            ),
            (
                LimitEvent::MemoryKill {
                    names: vec!["node".to_owned()],
                    count: 1,
                    limit: Some(limit),
                },
                "the run reached its memory limit of 1GiB: node was killed",
            ),
            (
                LimitEvent::MemoryKill {
                    names: Vec::new(),
                    count: 2,
                    limit: Some(limit),
                },
                "the run reached its memory limit of 1GiB: 2 processes were killed",
            ),
            (
                LimitEvent::MemoryKill {
                    names: vec!["node".to_owned()],
                    count: 1,
                    limit: None,
                },
                "the machine, or a group above, ran out of memory: node was killed",
            ),
            (
                LimitEvent::Ending(Ended::DiskShort {
                    shortage: Shortage {
                        path: "/home/u/project".into(),
                        free: 1023 << 20,
                        floor: limit,
                    },
                }),
                "only 1023MiB are left on the disk of /home/u/project, less than the limit disk_free of 1GiB; the run is ended",
            ),
            (
                LimitEvent::Ending(Ended::TooLarge {
                    excess: Excess {
                        tree: GrowingTree::Home,
                        bytes: Some(3 << 29),
                        limit,
                    },
                }),
                "the agent home holds 1.5GiB, more than the limit home_size of 1GiB; the run is ended",
            ),
            (
                LimitEvent::Ending(Ended::TooLarge {
                    excess: Excess {
                        tree: GrowingTree::Layer,
                        bytes: None,
                        limit,
                    },
                }),
                "the layer of the run has directories that are closed to you, or too many files, so that the limit layer_size of 1GiB cannot be kept; the run is ended",
            ),
            (
                LimitEvent::Ending(Ended::Timeout {
                    limit_ms: 5_400_000,
                }),
                "the run's time of 90min is over; it is ended",
            ),
            (
                LimitEvent::Ending(Ended::Idle { limit_ms: 1000 }),
                "nothing happened in the run for 1s; it is ended",
            ),
        ] {
            assert_eq!(line(&event), text);
        }
    }
}
