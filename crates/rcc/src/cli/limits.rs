//! The flags of `[limits]`: one for each key, with the same word.
//!
//! Must not parse a value: the policy's own parser does.

use std::ffi::{OsStr, OsString};

use clap::Args;
use rcc_spec::LimitKey;

/// What a run may use.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Limits (none lifts one of a policy file)")]
pub(crate) struct LimitFlags {
    /// Memory of all processes together, such as 8GiB; what goes beyond it is killed
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<OsString>,
    /// Memory from which on the run is slowed down
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_high: Option<OsString>,
    /// Memory that the run keeps when others need some
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory_low: Option<OsString>,
    /// Swap space (default with --memory: 0)
    #[arg(long, value_name = "SIZE")]
    pub(crate) swap: Option<OsString>,
    /// Processors' worth of time, such as 2 or 0.5
    #[arg(long, value_name = "NUMBER")]
    pub(crate) cpus: Option<OsString>,
    /// Share of the processors among others, 1 to 10000 (everybody has 100)
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) cpu_weight: Option<OsString>,
    /// Processes and threads at a time (default: 4096)
    #[arg(long, value_name = "NUMBER")]
    pub(crate) pids: Option<OsString>,
    /// Bytes in a second read from the project's disk, such as 50MB
    #[arg(long, value_name = "RATE")]
    pub(crate) io_read: Option<OsString>,
    /// Bytes in a second written to the project's disk
    #[arg(long, value_name = "RATE")]
    pub(crate) io_write: Option<OsString>,
    /// Share of the disk among others, 1 to 10000 (everybody has 100)
    #[arg(long, value_name = "WEIGHT")]
    pub(crate) io_weight: Option<OsString>,
    /// Size of the private /tmp (default: 2GiB)
    #[arg(long, value_name = "SIZE")]
    pub(crate) tmp_size: Option<OsString>,
    /// Room that the run leaves on every disk that it can fill (default: 1GiB, of small disks 2 %); below it the run is ended
    #[arg(long, value_name = "SIZE")]
    pub(crate) disk_free: Option<OsString>,
    /// Size of the layers of a copy-on-write run; beyond it the run is ended
    #[arg(long, value_name = "SIZE")]
    pub(crate) layer_size: Option<OsString>,
    /// Size of the agent home; beyond it the run is ended
    #[arg(long, value_name = "SIZE")]
    pub(crate) home_size: Option<OsString>,
    /// End the run after this time, such as 90min; the exit code is 124
    #[arg(long, value_name = "TIME")]
    pub(crate) timeout: Option<OsString>,
    /// End the run when nothing happens in it for this time; the exit code is 124
    #[arg(long, value_name = "TIME")]
    pub(crate) idle_timeout: Option<OsString>,
}

impl LimitFlags {
    /// The flags that were given.
    pub(crate) fn given(&self) -> impl Iterator<Item = (LimitKey, &OsStr)> {
        LimitKey::ALL
            .iter()
            .filter_map(|&key| Some((key, self.of(key).as_deref()?)))
    }

    const fn of(&self, key: LimitKey) -> &Option<OsString> {
        match key {
            LimitKey::Memory => &self.memory,
            LimitKey::MemoryHigh => &self.memory_high,
            LimitKey::MemoryLow => &self.memory_low,
            LimitKey::Swap => &self.swap,
            LimitKey::Cpus => &self.cpus,
            LimitKey::CpuWeight => &self.cpu_weight,
            LimitKey::Pids => &self.pids,
            LimitKey::IoRead => &self.io_read,
            LimitKey::IoWrite => &self.io_write,
            LimitKey::IoWeight => &self.io_weight,
            LimitKey::TmpSize => &self.tmp_size,
            LimitKey::DiskFree => &self.disk_free,
            LimitKey::LayerSize => &self.layer_size,
            LimitKey::HomeSize => &self.home_size,
            LimitKey::Timeout => &self.timeout,
            LimitKey::IdleTimeout => &self.idle_timeout,
        }
    }

    /// Joins the flags before the command with those after it; the later value wins.
    #[must_use]
    pub(crate) fn join(self, later: Self) -> Self {
        Self {
            memory: later.memory.or(self.memory),
            memory_high: later.memory_high.or(self.memory_high),
            memory_low: later.memory_low.or(self.memory_low),
            swap: later.swap.or(self.swap),
            cpus: later.cpus.or(self.cpus),
            cpu_weight: later.cpu_weight.or(self.cpu_weight),
            pids: later.pids.or(self.pids),
            io_read: later.io_read.or(self.io_read),
            io_write: later.io_write.or(self.io_write),
            io_weight: later.io_weight.or(self.io_weight),
            tmp_size: later.tmp_size.or(self.tmp_size),
            disk_free: later.disk_free.or(self.disk_free),
            layer_size: later.layer_size.or(self.layer_size),
            home_size: later.home_size.or(self.home_size),
            timeout: later.timeout.or(self.timeout),
            idle_timeout: later.idle_timeout.or(self.idle_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn every_limit_has_its_flag() {
        let command = crate::cli::Cli::command();
        for key in LimitKey::ALL {
            let word = key.flag().trim_start_matches("--");
            let flag = command
                .get_arguments()
                .find(|argument| argument.get_long() == Some(word));
            assert!(flag.is_some(), "{key}");
        }
    }

    #[test]
    fn the_later_flag_wins_for_every_limit() {
        for key in LimitKey::ALL {
            let parse = |value: &str| {
                let line = ["rcc", key.flag(), value, "shell"];
                <crate::cli::Cli as clap::Parser>::try_parse_from(line)
                    .unwrap()
                    .flags
                    .limits
            };
            let joined = parse("1").join(parse("2"));
            assert_eq!(
                joined.given().collect::<Vec<_>>(),
                [(*key, OsStr::new("2"))]
            );
            let kept = parse("1").join(LimitFlags::default());
            assert_eq!(kept.given().collect::<Vec<_>>(), [(*key, OsStr::new("1"))]);
        }
    }
}
