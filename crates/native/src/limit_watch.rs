//! One thread of the supervisor that watches a run's limits: ends it when its time is over, a disk is nearly full or somebody
//! else wants it, tells when memory becomes short and what the kernel killed. It exists only for runs that have such a limit.
//!
//! Should: look seldom, and at once when the kernel says that something happened.
//! Mustn't: print (the caller does); believe names of processes, which the agent chose.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rcc_plan::LimitsPlan;
use rcc_sys::SysError;
use rcc_sys::cgroup::GroupUsage;
use rcc_sys::process::pid_of;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Pid, Signal};

use crate::disk_room::{DiskRoom, Shortage};
use crate::error::{NativeError, on_step, on_step_call};
use crate::group::{Group, GroupRecord};
use crate::proc_usage::{self, Detail};
use crate::protocol::{Control, Message};
use crate::relay::Running;
use crate::wait::timespec;

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_secs(1);
/// Between two looks just after something happened, and how many.
const LOOK_SOON: Duration = Duration::from_millis(10);
const LOOKS_SOON: u32 = 50;
/// Longest and shortest time between two looks for idleness.
const IDLE_LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Events that may wait to be told; more are not told.
const UNTOLD: usize = 64;
/// How long the telling may take once the run has ended.
const TELLING: Duration = Duration::from_secs(1);
/// Names of killed processes that are kept.
const VICTIMS_KEPT: usize = 5;

/// Something that the user should know while the run lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitEvent {
    /// Nine tenths of the memory are used; told once, and again after it was below one half.
    MemoryShort {
        /// Bytes in use.
        used: u64,
        /// Bytes allowed.
        limit: u64,
        /// Share of the last ten seconds spent waiting for memory, in hundredths of a per cent.
        pressure: Option<u64>,
    },
    /// The kernel killed processes.
    MemoryKill {
        /// What they called themselves; may be fewer than were killed.
        names: Vec<String>,
        /// How many.
        count: u64,
        /// Bytes allowed; none when it was not this run's limit but that the machine, or a group above, had no memory left.
        limit: Option<u64>,
    },
    /// The run is being ended.
    Ending(Ended),
}

/// Why rcc ended a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Its time was over.
    Timeout {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// Nothing happened in it.
    Idle {
        /// The limit in milliseconds.
        limit_ms: u64,
    },
    /// A disk that it can fill is nearly full.
    DiskShort {
        /// Which one.
        shortage: Shortage,
    },
    /// What it keeps has grown beyond its limit.
    TooLarge {
        /// Which tree, and how far.
        excess: Excess,
    },
}

/// A tree beyond its limit, or of unknown size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excess {
    /// Which tree.
    pub tree: GrowingTree,
    /// Bytes that it takes; none when it cannot be measured.
    pub bytes: Option<u64>,
    /// Bytes that it may take.
    pub limit: u64,
}

/// A tree of the agent's that stays after the run and has a limit of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrowingTree {
    /// The layers of a copy-on-write run.
    Layer,
    /// The agent home.
    Home,
}

/// Ends a run for a reason that somebody else has found.
#[derive(Debug, Clone)]
pub struct Ender(Arc<Asked>);

#[derive(Debug)]
struct Asked {
    ready: OwnedFd,
    why: OnceLock<Ended>,
}

impl Ender {
    /// Ends it; only the first reason counts.
    pub fn end(&self, why: Ended) {
        if self.0.why.set(why).is_ok() {
            // A counter takes every number but the largest.
            let _ = rustix::io::write(&self.0.ready, &1_u64.to_ne_bytes());
        }
    }
}

/// What is known at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitReport {
    /// Why rcc ended the run, if it did.
    pub ended: Option<Ended>,
    /// Names of processes that the kernel killed for their memory.
    pub victims: Vec<String>,
    /// What the group used when it was last looked at, for a scope: when the agent had ended, unless pid 1 was killed.
    pub usage: GroupUsage,
}

impl LimitReport {
    /// Takes a new reading. A group may go between two of its files: what it no longer tells stays as it was.
    fn take(&mut self, usage: GroupUsage) {
        self.usage = usage.or_earlier(&self.usage);
    }
}

/// The thread.
#[derive(Debug)]
pub struct LimitWatch {
    stop: OwnedFd,
    ender: Ender,
    thread: JoinHandle<LimitReport>,
    /// Ends when everything was told.
    told: Receiver<()>,
}

impl LimitWatch {
    /// Starts it, when the plan has a limit that needs one. `tell` is called on another thread, and may wait as long as it likes.
    ///
    /// # Errors
    /// Descriptors or threads are used up: the limit could not be kept, so the run must not go on.
    pub fn start(
        running: &mut Running,
        limits: &LimitsPlan,
        group: Option<&Group>,
        room: DiskRoom,
        tell: impl FnMut(LimitEvent) + Send + 'static,
    ) -> Result<Option<Self>, NativeError> {
        let memory = group.filter(|group| group.settings().memory.is_some());
        let scope = group.is_some_and(Group::is_scope);
        let times = limits.timeout_ms.is_some() || limits.idle_timeout_ms.is_some();
        let sizes = limits.layer_size.is_some() || limits.home_size.is_some();
        if !times && memory.is_none() && !scope && !sizes && room.is_empty() {
            return Ok(None);
        }
        let step = "watch the limits of the run";
        let stop = eventfd(0, EventfdFlags::CLOEXEC).map_err(on_step_call(step, "eventfd(2)"))?;
        let dup = |fd: &OwnedFd| {
            fd.try_clone()
                .map_err(|_| SysError::new("dup(2)", "", rustix::io::Errno::MFILE))
        };
        let ready = eventfd(0, EventfdFlags::CLOEXEC).map_err(on_step_call(step, "eventfd(2)"))?;
        let why = OnceLock::new();
        let ender = Ender(Arc::new(Asked { ready, why }));
        let ending = eventfd(0, EventfdFlags::CLOEXEC).map_err(on_step_call(step, "eventfd(2)"))?;
        let told = dup(&ending).map_err(on_step(step))?;
        let control = running.look_at_the_end(told).map_err(on_step(step))?;
        let init = running.sandbox().and_then(dup).map_err(on_step(step))?;
        let pid = pid_of(init.as_fd()).map_err(on_step(step))?;
        let failed = |error: std::io::Error| {
            let errno = rustix::io::Errno::from_io_error(&error);
            on_step_call(step, "clone(2)")(errno.unwrap_or(rustix::io::Errno::AGAIN))
        };
        // Telling has a thread of its own: standard error may be a pipe that nobody reads, and limits are kept all the same.
        let (events, heard) = sync_channel(UNTOLD);
        let (all, told) = sync_channel::<()>(0);
        let mut tell = tell;
        std::thread::Builder::new()
            .name("tell".to_owned())
            .spawn(move || {
                for event in heard {
                    tell(event);
                }
                drop(all);
            })
            .map_err(failed)?;
        let tell = move |event| {
            let _ = events.try_send(event);
        };
        let watcher = Watcher {
            stop: dup(&stop).map_err(on_step(step))?,
            ending,
            ender: ender.clone(),
            control,
            init,
            pid,
            started: Instant::now(),
            limits: limits.clone(),
            group: group.map(Group::record),
            events: memory.and_then(Events::open),
            tell,
            report: LimitReport::default(),
            kill_at: None,
            seen: HashMap::new(),
            kills: 0,
            told_short: false,
            soon: 0,
            activity: Activity::default(),
            room,
            look_at_room: Instant::now(),
        };
        let thread = std::thread::Builder::new()
            .name("limits".to_owned())
            .spawn(move || watcher.run())
            .map_err(failed)?;
        Ok(Some(Self {
            stop,
            ender,
            thread,
            told,
        }))
    }

    /// What ends the run, for one who looks at something else.
    #[must_use]
    pub fn ender(&self) -> Ender {
        self.ender.clone()
    }

    /// Stops it after the run has ended.
    #[must_use]
    pub fn finish(self) -> LimitReport {
        // It waits for nothing but this descriptor, times and the kernel.
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        let report = self.thread.join().unwrap_or_default();
        // It ends when everything is told, unless nobody reads that.
        let _ = self.told.recv_timeout(TELLING);
        report
    }
}

/// Where the kernel says that memory ran out.
struct Events {
    /// Becomes ready: `memory.events` itself in version 2, an eventfd in version 1.
    ready: OwnedFd,
    flags: PollFlags,
    /// Must stay open in version 1.
    _control: Option<File>,
}

impl Events {
    /// None where the kernel has no such thing: then the looks find it.
    fn open(group: &Group) -> Option<Self> {
        let files = group.files();
        let directory = files.directory("memory")?;
        if let Ok(file) = File::open(directory.join("memory.events")) {
            return Some(Self {
                ready: file.into(),
                flags: PollFlags::PRI,
                _control: None,
            });
        }
        let control = File::open(directory.join("memory.oom_control")).ok()?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let ready = eventfd(0, flags).ok()?;
        let line = format!("{} {}", ready.as_raw_fd(), control.as_raw_fd());
        files.write("memory", "cgroup.event_control", &line).ok()?;
        Some(Self {
            ready,
            flags: PollFlags::IN,
            _control: Some(control),
        })
    }

    /// Takes the news, so that the next ones are news again.
    fn take(&self) {
        let mut bytes = [0; 256];
        if self.flags == PollFlags::IN {
            let _ = rustix::io::read(&self.ready, &mut bytes);
        } else if let Ok(file) = self.ready.try_clone().map(File::from) {
            let _ = file.read_at(&mut bytes, 0);
        }
    }
}

/// When something last happened in the run.
#[derive(Default)]
struct Activity {
    last: Option<Instant>,
    looked: Option<Instant>,
    cpu_us: u64,
    bytes: u64,
}

struct Watcher<Tell> {
    stop: OwnedFd,
    /// Ready when the agent has ended and pid 1 waits for the last look.
    ending: OwnedFd,
    /// Ready when somebody else wants the run ended.
    ender: Ender,
    control: Control,
    init: OwnedFd,
    pid: Pid,
    started: Instant,
    limits: LimitsPlan,
    group: Option<GroupRecord>,
    events: Option<Events>,
    tell: Tell,
    report: LimitReport,
    kill_at: Option<Instant>,
    /// Processes of the group with name and most memory seen.
    seen: HashMap<Pid, (String, u64)>,
    kills: u64,
    told_short: bool,
    soon: u32,
    activity: Activity,
    room: DiskRoom,
    /// When the disks are to be looked at.
    look_at_room: Instant,
}

impl<Tell: FnMut(LimitEvent)> Watcher<Tell> {
    fn run(mut self) -> LimitReport {
        loop {
            let timeout = self.next_look();
            let mut waited = vec![
                PollFd::new(&self.stop, PollFlags::IN),
                PollFd::new(&self.ending, PollFlags::IN),
                PollFd::new(&self.ender.0.ready, PollFlags::IN),
            ];
            if let Some(events) = &self.events {
                waited.push(PollFd::new(&events.ready, events.flags));
            }
            let polled = poll(&mut waited, Some(&timespec(timeout)));
            let is_ready = |index: usize| {
                let descriptor = waited.get(index);
                descriptor.is_some_and(|fd| !fd.revents().is_empty())
            };
            let (stopped, ending, asked, news) =
                (is_ready(0), is_ready(1), is_ready(2), is_ready(3));
            drop(waited);
            if polled.is_err_and(|errno| errno != rustix::io::Errno::INTR) {
                // A limit that is no longer watched is none: the run ends.
                let _ = rustix::process::pidfd_send_signal(&self.init, Signal::KILL);
                return self.report;
            }
            if news {
                if let Some(events) = &self.events {
                    events.take();
                }
                self.soon = LOOKS_SOON;
            }
            self.look_at_memory();
            if ending {
                let _ = rustix::io::read(&self.ending, &mut [0; 8]);
                // It may have been killed meanwhile.
                let _ = self.control.send(&Message::Finish, &[]);
            }
            if stopped {
                return self.report;
            }
            self.soon = self.soon.saturating_sub(1);
            if asked {
                self.end_as_asked();
            }
            self.look_at_room();
            self.look_at_times();
        }
    }

    /// The time until something is to be looked at.
    fn next_look(&self) -> Duration {
        let mut next = Duration::from_secs(3600);
        if self.group.is_some() {
            next = if self.soon > 0 { LOOK_SOON } else { LOOK };
        }
        if let Some(limit) = self.limits.idle_timeout_ms {
            let (least, most) = IDLE_LOOK;
            next = next.min((Duration::from_millis(limit) / 10).clamp(least, most));
        }
        let elapsed = self.started.elapsed();
        if let (Some(limit), None) = (self.limits.timeout_ms, self.kill_at) {
            next = next.min(Duration::from_millis(limit).saturating_sub(elapsed));
        }
        if !self.room.is_empty() {
            next = next.min(self.look_at_room.saturating_duration_since(Instant::now()));
        }
        if let Some(at) = self.kill_at {
            next = next.min(at.saturating_duration_since(Instant::now()));
        }
        next
    }

    fn look_at_memory(&mut self) {
        let Some(group) = self.group.clone() else {
            return;
        };
        let usage = group.usage();
        if usage == GroupUsage::default() {
            return;
        }
        self.report.take(usage.clone());
        let Some(limit) = group.settings.memory else {
            return;
        };
        let used = usage.memory.unwrap_or(0);
        if used > limit / 2 || self.soon > 0 {
            // Pid 1 ends with every run, and so would look like one that was killed.
            let others = group.processes().into_iter().filter(|pid| *pid != self.pid);
            for pid in others {
                if let Some((name, memory)) = proc_usage::name_and_memory(pid) {
                    let entry = self.seen.entry(pid).or_insert((name, 0));
                    entry.1 = entry.1.max(memory);
                }
            }
        }
        self.tell_kills(&usage, limit);
        if used < limit / 2 {
            self.told_short = false;
            self.seen.clear();
        } else if used > limit / 10 * 9 && !self.told_short {
            self.told_short = true;
            (self.tell)(LimitEvent::MemoryShort {
                used,
                limit,
                pressure: usage.memory_pressure,
            });
        }
    }

    fn tell_kills(&mut self, usage: &GroupUsage, limit: u64) {
        let count = usage.memory_kills.saturating_sub(self.kills);
        if count == 0 {
            return;
        }
        self.kills = usage.memory_kills;
        let mut dying: Vec<(Pid, (String, u64))> = self
            .seen
            .iter()
            .filter(|(pid, _)| proc_usage::is_dying(**pid))
            .map(|(pid, entry)| (*pid, entry.clone()))
            .collect();
        // The kernel takes the one that uses most.
        dying.sort_by_key(|(_, (_, memory))| std::cmp::Reverse(*memory));
        dying.truncate(usize::try_from(count).unwrap_or(VICTIMS_KEPT));
        for (pid, _) in &dying {
            self.seen.remove(pid);
        }
        let names: Vec<String> = dying.into_iter().map(|(_, (name, _))| name).collect();
        let room = VICTIMS_KEPT.saturating_sub(self.report.victims.len());
        self.report.victims.extend(names.iter().take(room).cloned());
        (self.tell)(LimitEvent::MemoryKill {
            names,
            count,
            limit: (usage.memory_ran_out > 0).then_some(limit),
        });
    }

    fn end_as_asked(&mut self) {
        let _ = rustix::io::read(&self.ender.0.ready, &mut [0; 8]);
        let why = self.ender.0.why.get().cloned();
        if let (Some(why), None) = (why, self.kill_at) {
            self.end(why);
        }
    }

    fn look_at_room(&mut self) {
        if self.room.is_empty() || Instant::now() < self.look_at_room {
            return;
        }
        let (shortage, next) = self.room.look();
        self.look_at_room = Instant::now() + next;
        let Some(shortage) = shortage else {
            return;
        };
        let is_grave = shortage.is_grave();
        if self.kill_at.is_none() {
            self.end(Ended::DiskShort { shortage });
        }
        // What is left would be gone before it has ended by itself.
        if is_grave {
            self.kill_at = self.kill_at.map(|at| at.min(Instant::now()));
        }
    }

    fn look_at_times(&mut self) {
        if let Some(at) = self.kill_at {
            if Instant::now() >= at {
                // It may have ended meanwhile.
                let _ = rustix::process::pidfd_send_signal(&self.init, Signal::KILL);
                self.kill_at = Some(Instant::now() + Duration::from_secs(3600));
            }
            return;
        }
        if let Some(limit_ms) = self.limits.timeout_ms
            && self.started.elapsed() >= Duration::from_millis(limit_ms)
        {
            return self.end(Ended::Timeout { limit_ms });
        }
        if let Some(limit_ms) = self.limits.idle_timeout_ms {
            self.look_for_activity();
            let last = self.activity.last.unwrap_or(self.started);
            if last.elapsed() >= Duration::from_millis(limit_ms) {
                self.end(Ended::Idle { limit_ms });
            }
        }
    }

    /// Compares processor time and network bytes with those of the last look.
    fn look_for_activity(&mut self) {
        let group = self.group.as_ref().and_then(|group| group.usage().cpu_us);
        let all = || proc_usage::usage(self.pid, Detail::Quick).map(|usage| usage.cpu_us);
        // What cannot be read counts as no change.
        let cpu_us = group.or_else(all).unwrap_or(self.activity.cpu_us);
        let bytes = proc_usage::network(self.pid).map_or(self.activity.bytes, |network| {
            network.received.saturating_add(network.sent)
        });
        let now = Instant::now();
        let since = now.duration_since(self.activity.looked.unwrap_or(self.started));
        let busy = Duration::from_micros(cpu_us.saturating_sub(self.activity.cpu_us));
        if busy >= since / 100 || bytes != self.activity.bytes {
            self.activity.last = Some(now);
        }
        self.activity = Activity {
            looked: Some(now),
            cpu_us,
            bytes,
            ..self.activity
        };
    }

    fn end(&mut self, why: Ended) {
        self.report.ended = Some(why.clone());
        (self.tell)(LimitEvent::Ending(why));
        let _ = rustix::process::pidfd_send_signal(&self.init, Signal::TERM);
        self.kill_at = Some(Instant::now() + GRACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_goes_while_it_is_read_takes_nothing_back() {
        let mut report = LimitReport::default();
        let whole = GroupUsage {
            memory_peak: Some(1 << 28),
            cpu_us: Some(10),
            memory_kills: 1,
            pids_refused: 2,
            ..GroupUsage::default()
        };
        report.take(whole.clone());
        let half = GroupUsage {
            cpu_us: Some(11),
            ..GroupUsage::default()
        };
        report.take(half);
        let expected = GroupUsage {
            cpu_us: Some(11),
            ..whole
        };
        assert_eq!(report.usage, expected);
    }
}
