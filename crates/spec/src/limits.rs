//! Limits of a run: memory, processor, processes, disk traffic, sizes, times. One table of keys, their units and their text.
//!
//! Must not know how a limit is enforced, or whether it can be: that is planning. Every value is one whole number in the base
//! unit of its key, so that merging, comparing and printing have one form for all of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::origin::{Origin, Sourced};
use crate::size::{ByteSize, SizeError};
use crate::text::shorten;

/// What a limit counts, and its base unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Bytes.
    Size,
    /// Bytes in a second.
    Rate,
    /// Thousandths of a processor.
    Processors,
    /// Share among neighbours, 1 to 10000, where 100 is everybody's.
    Weight,
    /// Processes and threads.
    Processes,
    /// Milliseconds.
    Time,
}

macro_rules! limit_keys {
    ($($variant:ident $key:literal $flag:literal $quantity:ident $least:literal, $doc:literal;)+) => {
        /// The limits that a policy can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum LimitKey {
            $(#[doc = $doc] $variant,)+
        }

        impl LimitKey {
            /// Every key.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The key in `[limits]`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $key,)+ }
            }

            /// The flag, with its dashes.
            #[must_use]
            pub const fn flag(self) -> &'static str {
                match self { $(Self::$variant => $flag,)+ }
            }

            /// What it counts.
            #[must_use]
            pub const fn quantity(self) -> Quantity {
                match self { $(Self::$variant => Quantity::$quantity,)+ }
            }

            /// The smallest value, in the base unit: below it not even a shell works.
            const fn least(self) -> u64 {
                match self { $(Self::$variant => $least,)+ }
            }
        }
    };
}

limit_keys! {
    Memory "memory" "--memory" Size 16_777_216, "Memory of all processes together; what does not fit is killed.";
    MemoryHigh "memory_high" "--memory-high" Size 16_777_216, "From here on the run is slowed down and its caches are given back.";
    MemoryLow "memory_low" "--memory-low" Size 0, "So much is left to the run when others need memory, if possible.";
    Swap "swap" "--swap" Size 0, "Swap space beside the memory.";
    Cpus "cpus" "--cpus" Processors 10, "Processors' worth of time.";
    CpuWeight "cpu_weight" "--cpu-weight" Weight 1, "Share of the processors when others want them, too.";
    Pids "pids" "--pids" Processes 8, "Processes and threads at a time.";
    IoRead "io_read" "--io-read" Rate 65_536, "Bytes in a second read from the project's disk.";
    IoWrite "io_write" "--io-write" Rate 65_536, "Bytes in a second written to the project's disk.";
    IoWeight "io_weight" "--io-weight" Weight 1, "Share of the disk when others want it, too.";
    TmpSize "tmp_size" "--tmp-size" Size 1, "Size of the private `/tmp`.";
    DiskFree "disk_free" "--disk-free" Size 1_048_576, "Room that the run leaves on every disk that it can fill.";
    LayerSize "layer_size" "--layer-size" Size 1_048_576, "Size of the layers of a copy-on-write run.";
    HomeSize "home_size" "--home-size" Size 1_048_576, "Size of the agent home.";
    Timeout "timeout" "--timeout" Time 1000, "Time from the start after which the run is ended.";
    IdleTimeout "idle_timeout" "--idle-timeout" Time 1000, "Time without any activity after which the run is ended.";
}

/// Largest weight (kernel `Documentation/admin-guide/cgroup-v2.rst`).
const WEIGHT_MAX: u64 = 10_000;
/// The weight of everybody who names none.
const WEIGHT_DEFAULT: u64 = 100;
/// The word for no limit.
pub(crate) const NONE: &str = "none";

/// A limit, or the wish to have none. Ordered from the narrower to the wider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// Up to this, in the base unit of the key's [`Quantity`].
    At(u64),
    /// None.
    None,
}

impl Limit {
    /// The number, when there is one.
    #[must_use]
    pub const fn value(self) -> Option<u64> {
        match self {
            Self::At(value) => Some(value),
            Self::None => None,
        }
    }
}

/// Why a text is no limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// No number of processors.
    #[error(
        "`{text}` is no number of processors; write 2 or 0.5, with at most three digits after the point"
    )]
    Processors {
        /// The text, escaped.
        text: String,
    },
    /// No weight.
    #[error(
        "`{text}` is no weight; weights are whole numbers from 1 to 10000, and everybody has 100"
    )]
    Weight {
        /// The text, escaped.
        text: String,
    },
    /// No number of processes.
    #[error("`{text}` is no number of processes; write a whole number")]
    Processes {
        /// The text, escaped.
        text: String,
    },
    /// No time.
    #[error("`{text}` is no time; write a whole number and s, min, h or d, such as `90min`")]
    Time {
        /// The text, escaped.
        text: String,
    },
    /// A number with which nothing would work.
    #[error("`{text}` is too little for anything to run; the least is {least}")]
    TooLittle {
        /// The text, escaped.
        text: String,
        /// The least, with its unit.
        least: String,
    },
    /// A number that the kernel does not take.
    #[error("`{text}` is more than any machine has; the most is {most}, and \"none\" is no limit")]
    TooMuch {
        /// The text, escaped.
        text: String,
        /// The most, with its unit.
        most: String,
    },
    /// A limit that has to be there.
    #[error("there is always a limit here; name a number")]
    AlwaysThere,
}

/// Units of time with their milliseconds.
const TIME_UNITS: [(&str, u64); 6] = [
    ("", 1000),
    ("s", 1000),
    ("min", 60_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

impl LimitKey {
    /// Parses a limit as files and flags have it: `8GiB`, `2.5`, `90min`, `none`.
    ///
    /// # Errors
    /// Says what is wrong with number or unit.
    pub fn parse(self, text: &str) -> Result<Limit, LimitError> {
        if text == NONE {
            return self.none();
        }
        let shown = || shorten(text, 40);
        let value = match self.quantity() {
            Quantity::Size => ByteSize::parse(text)?.bytes(),
            Quantity::Rate => ByteSize::parse(text.strip_suffix("/s").unwrap_or(text))?.bytes(),
            Quantity::Processors => {
                thousandths(text).ok_or_else(|| LimitError::Processors { text: shown() })?
            }
            Quantity::Weight => whole(text)
                .filter(|weight| (1..=WEIGHT_MAX).contains(weight))
                .ok_or_else(|| LimitError::Weight { text: shown() })?,
            Quantity::Processes => {
                whole(text).ok_or_else(|| LimitError::Processes { text: shown() })?
            }
            Quantity::Time => {
                milliseconds(text).ok_or_else(|| LimitError::Time { text: shown() })?
            }
        };
        if value < self.least() {
            return Err(LimitError::TooLittle {
                text: shown(),
                least: self.show(self.least()),
            });
        }
        if let Some(most) = self.most().filter(|most| value > *most) {
            return Err(LimitError::TooMuch {
                text: shown(),
                most: self.show(most),
            });
        }
        Ok(Limit::At(value))
    }

    /// The largest value that the kernel takes, in the base unit, where it is below that of the number's type: process ids
    /// (`PID_MAX_LIMIT` in include/linux/threads.h), processors (`CONFIG_NR_CPUS`).
    const fn most(self) -> Option<u64> {
        match self {
            Self::Pids => Some(1 << 22),
            Self::Cpus => Some(8_192_000),
            _ => None,
        }
    }

    fn none(self) -> Result<Limit, LimitError> {
        match (self, self.quantity()) {
            (Self::TmpSize, _) | (_, Quantity::Weight) => Err(LimitError::AlwaysThere),
            _ => Ok(Limit::None),
        }
    }

    /// A value in words: `8GiB`, `50MB/s`, `2.5`, `1h`.
    #[must_use]
    pub fn show(self, value: u64) -> String {
        match self.quantity() {
            Quantity::Size => ByteSize::from_bytes(value).to_string(),
            Quantity::Rate => format!("{}/s", ByteSize::from_bytes(value)),
            Quantity::Processors => {
                let text = format!("{}.{:03}", value / 1000, value % 1000);
                text.trim_end_matches('0').trim_end_matches('.').to_owned()
            }
            Quantity::Weight | Quantity::Processes => value.to_string(),
            Quantity::Time => time(value),
        }
    }

    /// What holds when nobody says anything; `None` is no limit.
    #[must_use]
    pub const fn default_value(self) -> Option<u64> {
        match self {
            Self::Pids => Some(DEFAULT_PIDS),
            Self::TmpSize => Some(crate::policy::DEFAULT_TMP_SIZE.bytes()),
            Self::DiskFree => Some(DEFAULT_DISK_FREE),
            _ => None,
        }
    }

    /// How much a limit, said or not, lets the run have; a larger one is wider.
    const fn width(self, limit: Option<Limit>) -> u64 {
        // What is left to others: less of it is more for the run.
        if let Self::DiskFree = self {
            return match limit {
                Some(Limit::At(value)) => u64::MAX - value,
                Some(Limit::None) => u64::MAX,
                None => u64::MAX - DEFAULT_DISK_FREE,
            };
        }
        match limit {
            Some(Limit::At(value)) => value,
            // Protection and preference are taken from others: none is the narrowest.
            Some(Limit::None) | None if matches!(self, Self::MemoryLow) => 0,
            None if matches!(self.quantity(), Quantity::Weight) => WEIGHT_DEFAULT,
            None => match self.default_value() {
                Some(value) => value,
                None => u64::MAX,
            },
            Some(Limit::None) => u64::MAX,
        }
    }

    /// What a limit lets the agent do, as a sentence for the question of approval.
    fn sentence(self, limit: Option<Limit>) -> String {
        let value = match limit {
            Some(Limit::At(value)) => Some(value),
            Some(Limit::None) => None,
            None => self.default_value(),
        };
        let amount = value.map(|value| self.show(value));
        let upto = amount.as_deref().unwrap_or("any amount");
        match self {
            Self::Memory => format!("use {upto} of memory"),
            Self::MemoryHigh => match amount {
                Some(amount) => format!("use {amount} of memory before it is slowed down"),
                None => "use its memory without being slowed down".to_owned(),
            },
            Self::MemoryLow => format!("keep {upto} of memory when others need it"),
            Self::Swap => format!("use {upto} of swap space"),
            Self::Cpus => match amount {
                Some(amount) => format!("use {amount} processors"),
                None => "use every processor".to_owned(),
            },
            Self::CpuWeight => format!(
                "have the processors with weight {}",
                amount.unwrap_or_else(|| WEIGHT_DEFAULT.to_string())
            ),
            Self::IoWeight => format!(
                "have the disk with weight {}",
                amount.unwrap_or_else(|| WEIGHT_DEFAULT.to_string())
            ),
            Self::Pids => match amount {
                Some(amount) => format!("run {amount} processes at a time"),
                None => "run any number of processes at a time".to_owned(),
            },
            Self::IoRead => format!("read {upto} from the disk"),
            Self::IoWrite => format!("write {upto} to the disk"),
            Self::TmpSize => format!("fill {upto} in its /tmp"),
            Self::DiskFree => match amount {
                Some(amount) => format!("fill disks until {amount} are left"),
                None => "fill disks".to_owned(),
            },
            Self::LayerSize => format!("put {upto} into the layer of a copy-on-write run"),
            Self::HomeSize => format!("have {upto} in its home"),
            Self::Timeout => match amount {
                Some(amount) => format!("run for {amount}"),
                None => "run without end".to_owned(),
            },
            Self::IdleTimeout => match amount {
                Some(amount) => format!("be idle for {amount}"),
                None => "be idle without end".to_owned(),
            },
        }
    }
}

/// Processes and threads of a run when nobody says otherwise: four times what a large build with a browser in its tests was
/// seen to use, and an eighth of the 32768 process ids that a small machine has.
pub const DEFAULT_PIDS: u64 = 4096;

/// Bytes that a run leaves on a disk when nobody says otherwise: with less, desktops and package managers begin to fail.
pub const DEFAULT_DISK_FREE: u64 = 1 << 30;

/// Reads digits only: no sign, no exponent.
fn whole(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// Reads a decimal number with at most three digits after the point, exactly.
fn thousandths(text: &str) -> Option<u64> {
    let (before, after) = text.split_once('.').unwrap_or((text, "0"));
    if after.is_empty() || after.len() > 3 {
        return None;
    }
    let after = whole(&format!("{after:0<3}"))?;
    whole(before)?.checked_mul(1000)?.checked_add(after)
}

fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit = unit
        .strip_prefix(' ')
        .filter(|unit| !unit.is_empty())
        .unwrap_or(unit);
    let (_, factor) = TIME_UNITS.into_iter().find(|(name, _)| *name == unit)?;
    whole(number)?.checked_mul(factor)
}

/// The shortest exact form in one unit.
fn time(value: u64) -> String {
    for (unit, factor) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("min", 60_000),
        ("s", 1000),
    ] {
        if value >= factor && value.is_multiple_of(factor) {
            return format!("{}{unit}", value / factor);
        }
    }
    format!("{value}ms")
}

/// The limits that were said, by key; what is missing has its default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Limits(BTreeMap<LimitKey, Sourced<Limit>>);

impl Limits {
    /// Says one.
    pub fn set(&mut self, key: LimitKey, limit: Sourced<Limit>) {
        self.0.insert(key, limit);
    }

    /// What was said about a key.
    #[must_use]
    pub fn stated(&self, key: LimitKey) -> Option<&Sourced<Limit>> {
        self.0.get(&key)
    }

    /// The limit in force, with its default; `None` is none.
    #[must_use]
    pub fn value(&self, key: LimitKey) -> Option<u64> {
        self.in_force(key)?.value()
    }

    /// The limits that were said and are some, in the order of the keys.
    pub fn named(&self) -> impl Iterator<Item = (LimitKey, u64, &Origin)> {
        self.0
            .iter()
            .filter_map(|(key, limit)| Some((*key, limit.value.value()?, &limit.origin)))
    }

    /// Lays a stronger layer over this one.
    pub(crate) fn overlay(&mut self, stronger: Self) {
        self.0.extend(stronger.0);
    }

    /// Holds every limit to the administrator's ceiling; the notices say what was wished for and is not met.
    pub(crate) fn hold_below(&mut self, ceiling: &Self) -> Vec<String> {
        let mut notices = Vec::new();
        let mut ceiling = ceiling.0.clone();
        // A ceiling of the memory is one of the swap space, too, and as such can be named.
        if let Some(memory) = ceiling.get(&LimitKey::Memory)
            && memory.value != Limit::None
        {
            let swap = Sourced::new(Limit::At(0), memory.origin.clone());
            ceiling.entry(LimitKey::Swap).or_insert(swap);
        }
        for (key, top) in ceiling {
            if key.width(self.in_force(key)) <= key.width(Some(top.value)) {
                continue;
            }
            if let Some(stated) = self.0.get(&key) {
                let show = |limit: Limit| match limit {
                    Limit::At(value) => key.show(value),
                    Limit::None => NONE.to_owned(),
                };
                notices.push(format!(
                    "limit `{}` of {} ({}) is above the ceiling, {} ({}) is used",
                    key.as_str(),
                    show(stated.value),
                    stated.origin,
                    show(top.value),
                    top.origin
                ));
            }
            self.0.insert(key, top);
        }
        notices
    }

    /// What a run gets. A limit of the memory is one of the swap space, too, and of `/tmp`, which is memory: half of it, as the
    /// kernel does it for a `tmpfs(5)` of unsaid size, so that a full `/tmp` is an error of the writer's and no lack of memory.
    fn in_force(&self, key: LimitKey) -> Option<Limit> {
        let stated = |key| self.0.get(&key).map(|limit| limit.value);
        let implied = || {
            let default = key.default_value();
            let value = match (key, stated(LimitKey::Memory)) {
                (LimitKey::Swap, Some(Limit::At(_))) => Some(0),
                (LimitKey::TmpSize, Some(Limit::At(memory))) => {
                    default.map(|all| all.min(memory / 2))
                }
                _ => default,
            };
            value.map(Limit::At)
        };
        stated(key).or_else(implied)
    }

    /// What these limits allow that the approved ones did not.
    pub(crate) fn widenings(&self, approved: &Self) -> Vec<String> {
        let value = |limits: &Self, key| limits.in_force(key);
        LimitKey::ALL
            .iter()
            .filter(|&&key| key.width(value(self, key)) > key.width(value(approved, key)))
            .map(|&key| key.sentence(value(self, key)))
            .collect()
    }

    /// What they allow, for the limits that were said and for the size of `/tmp`.
    pub(crate) fn sentences(&self) -> Vec<String> {
        LimitKey::ALL
            .iter()
            .filter(|&&key| self.0.contains_key(&key) || key == LimitKey::TmpSize)
            .map(|&key| key.sentence(self.in_force(key)))
            .collect()
    }
}

impl fmt::Display for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests;
