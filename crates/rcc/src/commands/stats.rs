//! `rcc stats`: what runs use, now and at most.
//!
//! From the files of the run's control group where it has one, else from `/proc` of its processes; each number says which. Nothing
//! is asked of the run itself: it could be busy, and its supervisor would have to be believed.

use std::io::IsTerminal as _;
use std::time::Duration;

use rcc_native::{Detail, GroupRecord};
use rustix::process::Pid;

use crate::cli::StatsArgs;
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::limits::{group_of, rough};
use crate::output;
use crate::runs::{Found, all, named_live};

/// Between two tables of `--watch`.
const PAUSE: Duration = Duration::from_secs(1);

const HEADINGS: [&str; 8] = [
    "ID",
    "MEMORY",
    "PEAK",
    "LIMIT",
    "CPU",
    "PIDS",
    "DISK R/W",
    "NET IN/OUT",
];

pub(crate) fn run(args: &StatsArgs) -> Result<u8, CliError> {
    let context = Context::load()?;
    let clear = args.watch && !args.json && std::io::stdout().is_terminal();
    loop {
        let runs: Vec<Found> = match &args.run {
            Some(word) => match named_live(&context, word) {
                Ok(run) => vec![run],
                Err(error) if !args.watch => return Err(error),
                Err(_) => Vec::new(),
            },
            None => all(&context.directories.state)
                .into_iter()
                .filter(|run| run.is_live)
                .collect(),
        };
        let stats: Vec<Stats> = runs.iter().filter_map(Stats::of).collect();
        let text = if args.json {
            stats
                .iter()
                .map(|one| format!("{}\n", one.json()))
                .collect()
        } else {
            table(&stats)
        };
        let text = if clear {
            format!("\x1b[H\x1b[2J{text}")
        } else {
            text
        };
        output::result(&text).map_err(|error| CliError::new(Kind::Host, error))?;
        if !args.watch || stats.is_empty() {
            if stats.is_empty() && !args.json {
                output::note("nothing runs");
            }
            return Ok(Exit::Success.into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Where a number comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Group,
    Proc,
}

impl Source {
    const fn word(self) -> &'static str {
        match self {
            Self::Group => "cgroup",
            Self::Proc => "proc",
        }
    }
}

/// A number and where it comes from.
type Told = Option<(u64, Source)>;

fn told(group: Option<u64>, proc: Option<u64>) -> Told {
    group
        .map(|value| (value, Source::Group))
        .or_else(|| Some((proc?, Source::Proc)))
}

/// What one run uses.
#[derive(Debug)]
struct Stats {
    id: String,
    group: Option<GroupRecord>,
    memory: Told,
    memory_peak: Option<u64>,
    swap: Option<u64>,
    cpu_us: Told,
    cpu_throttled_us: Option<u64>,
    pids: Told,
    pids_peak: Option<u64>,
    io_read: Told,
    io_written: Told,
    network: Option<rcc_native::NetworkUsage>,
    memory_kills: u64,
    pids_refused: u64,
    memory_pressure: Option<u64>,
}

impl Stats {
    /// None when the sandbox has just ended, or does not exist yet.
    fn of(run: &Found) -> Option<Self> {
        let supervisor = i32::try_from(run.description.supervisor_pid).ok()?;
        let init = rcc_native::sandbox_of(Pid::from_raw(supervisor)?)?;
        let group = group_of(init, &run.description.id);
        let used = group.as_ref().map(GroupRecord::usage).unwrap_or_default();
        let whole = used.memory.is_some() && used.cpu_us.is_some() && used.io_read.is_some();
        // Reading the memory of every process takes the kernel longer than all the rest.
        let detail = if whole { Detail::Quick } else { Detail::Whole };
        let seen = rcc_native::process_usage(init, detail)?;
        Some(Self {
            id: run.description.id.clone(),
            memory: told(used.memory, seen.memory),
            memory_peak: used.memory_peak,
            swap: used.swap,
            cpu_us: told(used.cpu_us, Some(seen.cpu_us)),
            cpu_throttled_us: used.cpu_throttled_us,
            pids: told(used.pids, Some(seen.pids)),
            pids_peak: used.pids_peak,
            io_read: told(used.io_read, seen.io_read),
            io_written: told(used.io_written, seen.io_written),
            network: rcc_native::network_usage(init),
            memory_kills: used.memory_kills,
            pids_refused: used.pids_refused,
            memory_pressure: used.memory_pressure,
            group,
        })
    }

    fn json(&self) -> serde_json::Value {
        let value = |told: Told| told.map(|(value, _)| value);
        let source = |told: Told| told.map(|(_, source)| source.word());
        let limits = self.group.as_ref().map(|group| &group.settings);
        serde_json::json!({
            "id": self.id,
            "memory_bytes": value(self.memory), "memory_source": source(self.memory),
            "memory_peak_bytes": self.memory_peak, "swap_bytes": self.swap,
            "memory_limit_bytes": limits.and_then(|limits| limits.memory),
            "memory_kills": self.memory_kills,
            "memory_pressure_percent": self.memory_pressure.map(|share| f64::from(u32::try_from(share).unwrap_or(u32::MAX)) / 100.0),
            "cpu_us": value(self.cpu_us), "cpu_source": source(self.cpu_us),
            "cpu_throttled_us": self.cpu_throttled_us,
            "pids": value(self.pids), "pids_source": source(self.pids), "pids_peak": self.pids_peak,
            "pids_limit": limits.and_then(|limits| limits.pids), "pids_refused": self.pids_refused,
            "io_read_bytes": value(self.io_read), "io_written_bytes": value(self.io_written),
            "io_source": source(self.io_read),
            "network_received_bytes": self.network.map(|network| network.received),
            "network_sent_bytes": self.network.map(|network| network.sent),
        })
    }

    fn row(&self) -> [String; 8] {
        let size = |bytes: Option<u64>| bytes.map_or("-".to_owned(), rough);
        let value = |told: Told| told.map(|(value, _)| value);
        let both = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (None, None) => "-".to_owned(),
            _ => format!("{}/{}", size(one), size(other)),
        };
        let limit = self.group.as_ref().and_then(|group| group.settings.memory);
        [
            rcc_plan::escape(&self.id),
            size(value(self.memory)),
            size(self.memory_peak),
            size(limit),
            value(self.cpu_us).map_or("-".to_owned(), seconds),
            value(self.pids).map_or("-".to_owned(), |pids| pids.to_string()),
            both(value(self.io_read), value(self.io_written)),
            both(
                self.network.map(|network| network.received),
                self.network.map(|network| network.sent),
            ),
        ]
    }
}

/// Processor time in seconds with two digits.
pub(crate) fn seconds(us: u64) -> String {
    format!("{}.{:02}s", us / 1_000_000, us % 1_000_000 / 10_000)
}

fn table(stats: &[Stats]) -> String {
    if stats.is_empty() {
        return String::new();
    }
    let rows: Vec<[String; 8]> = [HEADINGS.map(str::to_owned)]
        .into_iter()
        .chain(stats.iter().map(Stats::row))
        .collect();
    let widths: Vec<usize> = (0..HEADINGS.len())
        .map(|column| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 8]| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
