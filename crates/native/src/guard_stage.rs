//! The guard: a process of rcc in the sandbox's mount namespace that puts back mounts which the host made vanish.
//!
//! Theory of operation. A mount is lost when a process of the host, in another mount namespace, renames over, moves or
//! removes what lies below it; then the agent could write to what is there now. The guard looks at every guarded path
//! when inotify tells of a change beside it, and four times a second: what counts is whether the path, as the agent
//! would walk it, ends on a mount of the right kind. Where it does not:
//!
//! 1. It is mounted again (parents first).
//! 2. What the agent may have opened in between is taken back: the pinned directory around it (`.git`) gets a fresh mount
//!    on top, and the old one becomes read-only, and with it every descriptor and working directory that came through it.
//!    The kernel refuses that while a file is open for writing there, so it is tried until it works. Of the project's top
//!    there is no second mount: every process works in it.
//! 3. Files that somebody still has open for writing, or that have a second name, end the run.
//!
//! Should: hold nothing but the control connection and the right to mount in this one namespace.
//! Mustn't: follow a link, read what is in a file, outlive the supervisor, fail in silence.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rcc_plan::{Access, BindKind, Guarded, Protection, SafeBytes};
use rcc_sys::SysError;
use rcc_sys::lease::{Writers, writers};
use rcc_sys::mount::{Depth, MountAttributes, Resolve, open_location, set_mount_attributes};
use rcc_sys::process::SignalSet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags, StatxAttributes,
    StatxFlags, inotify,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, ThreadNameSpaceType, move_into_thread_name_spaces,
};
use serde::{Deserialize, Serialize};

use crate::error::{NativeError, on_step, on_step_call};
use crate::protocol::{Control, Loss, Message};
use crate::tree::{Tree, at, call, memory_file_system, relative};

/// Name under which the program is executed as guard.
pub const GUARD_NAME: &str = "rcc-guard";

/// Exit code of a guard that came after the end of the sandbox.
pub(crate) const NOTHING_TO_ENTER: i32 = 3;

/// Time between two looks when nothing is heard.
const EVERY: Duration = Duration::from_millis(250);
/// The same where the kernel gives no events (`fs.inotify.max_user_instances` is used up).
const EVERY_WITHOUT_EVENTS: Duration = Duration::from_millis(10);
/// Between two tries at something that somebody else has to end.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a file that was just replaced may be open for writing: what an editor takes to save.
const LONGEST_WRITE: Duration = Duration::from_secs(5);
/// How long after that it is looked at again and again: an `open(2)` that had walked the path before it was protected is
/// counted only when it is through.
const FRESH: Duration = Duration::from_secs(2);
/// Time between those looks.
const EVERY_WHILE_FRESH: Duration = Duration::from_millis(20);
/// How often the paths are looked at until all of them are protected: the host may replace them all the time.
const MOST_ROUNDS: usize = 1000;
/// Most files of a directory that are looked at, as before the start.
const MOST_FILES: usize = 256;

/// Most events that are read between two looks: the agent can make them faster than they are read.
const MOST_EVENTS: usize = 2048;

/// What the supervisor hands over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Watchlist {
    pub(crate) guarded: Vec<Guarded>,
    /// Paths that are covered anyway; the first such file lends its cover.
    pub(crate) covers: Vec<SafeBytes>,
}

/// The guard's whole life; returns its exit code. The binary's `main` calls this when it was started as [`GUARD_NAME`].
#[must_use]
pub fn guard_main() -> i32 {
    // Keys of the terminal and a broken lease (`SIGIO`) are none of its business.
    if SignalSet::all().block_only_these().is_err() {
        return 125;
    }
    let _ = rustix::thread::set_name(c"rcc-guard");
    let Ok(control) = rustix::stdio::stdin().try_clone_to_owned() else {
        return 125;
    };
    let control = Control::from_descriptor(control);
    match run(&control) {
        Ok(code) => code,
        Err(error) => {
            let (chain, hint) = (error.chain(), error.hint());
            let _ = control.send(&Message::Failed { chain, hint }, &[]);
            125
        }
    }
}

fn run(control: &Control) -> Result<i32, NativeError> {
    let Some((list, sandbox)) = receive(control)? else {
        return Ok(0);
    };
    let step = "enter the sandbox to guard it";
    let namespaces = ThreadNameSpaceType::USER | ThreadNameSpaceType::MOUNT;
    match move_into_thread_name_spaces(sandbox.as_fd(), namespaces) {
        Err(Errno::SRCH) => return Ok(NOTHING_TO_ENTER),
        // A process that is ending has no memory any more by which the kernel could tell whose it is.
        Err(Errno::PERM) if ends(&sandbox)? => return Ok(NOTHING_TO_ENTER),
        entered => entered.map_err(on_step_call(step, "setns(2)"))?,
    }
    drop(sandbox);
    // After the change of credentials, which clears it. Should the supervisor have died before, its end of the
    // connection is closed, and that ends the guard too.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(on_step_call(step, "prctl(2)"))?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(on_step_call(step, "prctl(2)"))?;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets {
        effective: needed,
        permitted: needed,
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).map_err(on_step_call(step, "capset(2)"))?;
    rustix::thread::set_no_new_privs(true).map_err(on_step_call(step, "prctl(2)"))?;
    let root = open_location(CWD, Path::new("/"), Resolve::NoSymlinks).map_err(on_step(step))?;
    let entries = list.guarded.into_iter().map(Entry::new).collect();
    let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
    let mut guard = Guard {
        control,
        tree: Tree { root },
        entries,
        covers: list.covers,
        events: inotify::init(flags).ok(),
        watched: Vec::new(),
        retiring: Vec::new(),
        last_clean: Instant::now(),
        blind: true,
        finishing: false,
    };
    guard.run().map(|()| 0)
}

/// Whether pid 1 ends within a second: by the time it is refused for ending, little of it is left.
fn ends(sandbox: &OwnedFd) -> Result<bool, NativeError> {
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    let mut ended = [PollFd::new(sandbox, PollFlags::IN)];
    poll(&mut ended, Some(&second))
        .map(|ready| ready > 0)
        .map_err(on_step_call("see whether the sandbox ends", "poll(2)"))
}

/// Hears what there is to guard; `None` when the run ended before it was said.
fn receive(control: &Control) -> Result<Option<(Watchlist, OwnedFd)>, NativeError> {
    let step = "hear what to guard";
    let broken = |errno| on_step_call(step, "recvmsg(2)")(errno);
    let Some((message, descriptors)) = control.receive().map_err(on_step(step))? else {
        return Ok(None);
    };
    let [sandbox, file]: [OwnedFd; 2] = descriptors.try_into().map_err(|_| broken(Errno::PROTO))?;
    if message != Message::Guard {
        return Err(broken(Errno::PROTO));
    }
    let mut text = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut text)
        .map_err(|_| broken(Errno::IO))?;
    let list = serde_json::from_slice(&text).map_err(|_| broken(Errno::BADMSG))?;
    Ok(Some((list, sandbox)))
}

/// Inode, size, and times of last change; none can be set by a program without leaving a newer `ctime`.
type State = [i128; 5];

struct Entry {
    guarded: Guarded,
    is_there: bool,
    /// The new file was written to under the protected name.
    written: bool,
    /// What it was when it had been protected again.
    again: Option<State>,
    told_changed: bool,
    /// Until when late writers are looked for.
    fresh_until: Option<Instant>,
}

impl Entry {
    fn new(guarded: Guarded) -> Self {
        Self {
            // A name that is hidden need not exist.
            is_there: guarded.protection != Protection::Hidden,
            guarded,
            written: false,
            again: None,
            told_changed: false,
            fresh_until: None,
        }
    }

    fn path(&self) -> &Path {
        self.guarded.at.as_path()
    }

    fn fail(&self, problem: &'static str) -> NativeError {
        NativeError::Unprotected {
            path: self.guarded.at.clone(),
            problem,
        }
    }
}

struct Guard<'a> {
    control: &'a Control,
    tree: Tree,
    entries: Vec<Entry>,
    covers: Vec<SafeBytes>,
    events: Option<OwnedFd>,
    watched: Vec<(i32, PathBuf)>,
    /// Mounts that lie below a fresh one and are to become read-only.
    retiring: Vec<OwnedFd>,
    last_clean: Instant,
    /// Events were lost, or not asked for yet: whether something was written is not known.
    blind: bool,
    finishing: bool,
}

impl Guard<'_> {
    fn run(&mut self) -> Result<(), NativeError> {
        loop {
            self.restore()?;
            self.retire()?;
            if self.finishing {
                return self.tell_changes();
            }
            self.wait()?;
        }
    }

    /// Looks until every path is protected; those that were not are mounted again, taken back and told.
    fn restore(&mut self) -> Result<(), NativeError> {
        let mut lost = BTreeSet::new();
        let since = self.last_clean;
        for _ in 0..MOST_ROUNDS {
            self.watch();
            let begun = Instant::now();
            let found = self.look()?;
            if found.is_empty() {
                self.last_clean = begun;
                return self.tell(&lost, since);
            }
            self.renew(&found)?;
            lost.extend(found);
        }
        Err(self.entries.first().map_or(
            NativeError::Protocol {
                who: "guard of protected paths",
            },
            |entry| entry.fail("again each time that it was protected"),
        ))
    }

    /// Looks at every path once and mounts what lost its mount; gives the places of those.
    fn look(&mut self) -> Result<Vec<usize>, NativeError> {
        let mut found = Vec::new();
        for (place, entry) in self.entries.iter_mut().enumerate() {
            let path = relative(&entry.guarded.at);
            let location = match open_location(self.tree.root.as_fd(), path, Resolve::Beneath) {
                Ok(location) => location,
                Err(error) if matches!(error.errno, Errno::NOENT | Errno::NOTDIR) => {
                    if entry.is_there {
                        entry.is_there = false;
                        entry.again = None;
                        found.push(place);
                    }
                    continue;
                }
                Err(error) if error.errno == Errno::LOOP => {
                    return Err(entry.fail("lies behind a symbolic link now"));
                }
                Err(source) => return Err(at("look at", entry.guarded.at.clone())(source)),
            };
            entry.is_there = true;
            let (kind, is_protected) = inspect(&location, &entry.guarded)?;
            if is_protected {
                continue;
            }
            let Some(kind) = kind else {
                return Err(
                    entry.fail("is a link or a special file now, which cannot be protected")
                );
            };
            match mount_again(&self.tree, &self.covers, &entry.guarded, &location, kind) {
                // Replaced once more since it was opened: the next round sees what is there.
                Err(NativeError::Tree { source, .. }) if source.errno == Errno::NOENT => {}
                done => done?,
            }
            found.push(place);
        }
        Ok(found)
    }

    /// Takes back what was opened through the pinned directories around these paths while they were unprotected.
    fn renew(&mut self, lost: &[usize]) -> Result<(), NativeError> {
        let mut around: BTreeSet<PathBuf> = BTreeSet::new();
        for place in lost {
            let Some(entry) = self.entries.get(*place) else {
                continue;
            };
            let outermost = self.entries.iter().enumerate().find(|(other, pinned)| {
                pinned.guarded.protection == Protection::Pinned
                    && !lost.contains(other)
                    && entry.path() != pinned.path()
                    && entry.path().starts_with(pinned.path())
            });
            around.extend(outermost.map(|(_, pinned)| pinned.path().to_owned()));
        }
        for directory in around {
            let path = SafeBytes::from(directory.as_path());
            let mut old = Vec::new();
            for entry in &self.entries {
                if entry.guarded.protection == Protection::Pinned
                    && entry.path().starts_with(&directory)
                {
                    let below = relative(&entry.guarded.at);
                    // What is gone by now is found gone in the next round.
                    old.extend(open_location(self.tree.root.as_fd(), below, Resolve::Beneath).ok());
                }
            }
            let Some(outermost) = old.first() else {
                continue;
            };
            let flags = OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let fresh = open_tree(outermost, "", flags).map_err(call(
                "mount",
                "open_tree(2)",
                &directory,
            ))?;
            match self.tree.attach(&fresh, outermost, &path) {
                Err(NativeError::Tree { source, .. }) if source.errno == Errno::NOENT => continue,
                done => done?,
            }
            self.retiring.extend(old);
        }
        self.retire()
    }

    /// Makes the mounts below fresh ones read-only, as far as nothing is open for writing in them.
    fn retire(&mut self) -> Result<(), NativeError> {
        let mut busy = Vec::new();
        for mount in std::mem::take(&mut self.retiring) {
            match set_mount_attributes(mount.as_fd(), MountAttributes::READ_ONLY, Depth::One) {
                Ok(()) => {}
                Err(error) if error.errno == Errno::BUSY => busy.push(mount),
                Err(source) => {
                    return Err(on_step("close what the agent may have opened")(source));
                }
            }
        }
        self.retiring = busy;
        if self.retiring.is_empty() {
            return Ok(());
        }
        // Until then a descriptor of the agent's may lead to the new file: a change of it is the agent's.
        match self.changed(self.entries.iter()).first() {
            Some(place) => Err(self.entries.get(*place).map_or(
                NativeError::Protocol {
                    who: "guard of protected paths",
                },
                |entry| entry.fail("was changed although it had been protected again"),
            )),
            None => Ok(()),
        }
    }

    /// Makes sure that nobody can write to the new files any more, and tells the supervisor.
    fn tell(&mut self, lost: &BTreeSet<usize>, since: Instant) -> Result<(), NativeError> {
        if lost.is_empty() {
            self.blind = self.events.is_none();
            for entry in &mut self.entries {
                entry.written = false;
                if entry.fresh_until.is_some_and(|end| end < Instant::now()) {
                    entry.fresh_until = None;
                }
            }
            let fresh = |entry: &&Entry| entry.fresh_until.is_some();
            for entry in self.entries.iter().filter(fresh) {
                self.settle(&self.files_of(entry)?, entry)?;
            }
            return Ok(());
        }
        for place in lost {
            let Some(entry) = self.entries.get(*place).filter(|entry| entry.is_there) else {
                continue;
            };
            if entry.guarded.protection == Protection::Closed {
                self.settle(&self.files_of(entry)?, entry)?;
            }
        }
        let _ = self.hear_events();
        let blind = std::mem::replace(&mut self.blind, self.events.is_none());
        let at_most_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        for place in lost {
            let Some(entry) = self.entries.get_mut(*place) else {
                continue;
            };
            let written = std::mem::take(&mut entry.written) || blind;
            let loss = match (entry.is_there, written) {
                (false, _) => Loss::Gone,
                (true, false) => Loss::Replaced,
                (true, true) => Loss::Written,
            };
            if entry.is_there && entry.guarded.protection == Protection::Closed {
                entry.again = state(&self.tree, &entry.guarded);
                entry.fresh_until = Some(Instant::now() + FRESH);
            }
            let message = Message::Lost {
                entry: *place,
                loss,
                at_most_ms,
            };
            self.control
                .send(&message, &[])
                .map_err(on_step("report to the supervisor"))?;
        }
        Ok(())
    }

    /// The files that a closed path stands for: itself, or what lies in the directory.
    fn files_of(&self, entry: &Entry) -> Result<Vec<OwnedFd>, NativeError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let path = relative(&entry.guarded.at);
        let found = rustix::fs::openat2(&self.tree.root, path, flags, Mode::empty(), resolve);
        let found = match found {
            Ok(found) => found,
            // Gone again, or not readable: then it is not readable for the agent, which is the same user.
            Err(Errno::NOENT | Errno::ACCESS | Errno::NOTDIR) => return Ok(Vec::new()),
            Err(errno) => return Err(call("open", "openat2(2)", entry.path())(errno)),
        };
        let look = call("look at", "fstat(2)", entry.path());
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&found).map_err(look)?.st_mode);
        if kind != FileType::Directory {
            return Ok(vec![found]);
        }
        let listing =
            Dir::read_from(&found).map_err(call("list", "getdents64(2)", entry.path()))?;
        let names = listing.flatten().take(MOST_FILES);
        let files = names.filter_map(|name| {
            let name =
                Path::new(std::ffi::OsStr::from_bytes(name.file_name().to_bytes())).to_owned();
            let file = rustix::fs::openat2(&found, &name, flags, Mode::empty(), resolve).ok()?;
            let stat = rustix::fs::fstat(&file).ok()?;
            (FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some(file)
        });
        Ok(files.collect())
    }

    /// Waits until nobody has one of these files open for writing, and refuses second names.
    fn settle(&self, files: &[OwnedFd], entry: &Entry) -> Result<(), NativeError> {
        let end = Instant::now() + LONGEST_WRITE;
        let is_programs = entry.path().ends_with("hooks");
        for file in files {
            let stat =
                rustix::fs::fstat(file).map_err(call("look at", "fstat(2)", entry.path()))?;
            // In other directories package managers make such links by the thousand, as before the start.
            if stat.st_nlink > 1 && (files.len() == 1 || is_programs) {
                return Err(entry
                    .fail("has a second name now (a hard link), under which it could be changed"));
            }
            while writers(file.as_fd()).map_err(at("look at", entry.guarded.at.clone()))?
                == Writers::Some
            {
                if Instant::now() > end {
                    return Err(entry.fail("has been open for writing ever since"));
                }
                if self.is_over() {
                    return Ok(());
                }
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Places of entries that changed since they had been protected again.
    fn changed<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> Vec<usize> {
        let changed = |entry: &Entry| {
            let now = entry.again.and_then(|_| state(&self.tree, &entry.guarded));
            // What is gone or replaced again is told as that.
            matches!((entry.again, now), (Some(then), Some(now)) if then != now && then[0] == now[0])
        };
        entries
            .enumerate()
            .filter(|(_, entry)| !entry.told_changed && changed(entry))
            .map(|(place, _)| place)
            .collect()
    }

    fn tell_changes(&mut self) -> Result<(), NativeError> {
        for entry in self.changed(self.entries.iter()) {
            if let Some(changed) = self.entries.get_mut(entry) {
                changed.told_changed = true;
            }
            let message = Message::Lost {
                entry,
                loss: Loss::Changed,
                at_most_ms: 0,
            };
            self.control
                .send(&message, &[])
                .map_err(on_step("report to the supervisor"))?;
        }
        Ok(())
    }

    /// Asks for events of every directory that holds a guarded path. They are hints: what cannot be watched is looked at
    /// in time.
    fn watch(&mut self) {
        let Some(events) = &self.events else { return };
        let flags = inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::MOVED_FROM
            | inotify::WatchFlags::DELETE
            | inotify::WatchFlags::CLOSE_WRITE
            | inotify::WatchFlags::MOVE_SELF
            | inotify::WatchFlags::DELETE_SELF
            | inotify::WatchFlags::DONT_FOLLOW
            | inotify::WatchFlags::ONLYDIR;
        let directories: BTreeSet<&Path> = self
            .entries
            .iter()
            .filter_map(|entry| entry.path().parent())
            .collect();
        let watched = directories.into_iter().filter_map(|directory| {
            let watch = inotify::add_watch(events, directory, flags).ok()?;
            Some((watch, directory.to_owned()))
        });
        self.watched = watched.collect();
    }

    /// Sleeps until something happened to a guarded name, the supervisor speaks, or it is time for a look.
    fn wait(&mut self) -> Result<(), NativeError> {
        let is_fresh = self.entries.iter().any(|entry| entry.fresh_until.is_some());
        let every = match &self.events {
            _ if !self.retiring.is_empty() => PAUSE,
            None => EVERY_WITHOUT_EVENTS,
            Some(_) if is_fresh => EVERY_WHILE_FRESH,
            Some(_) => EVERY,
        };
        let end = Instant::now() + every;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let mut descriptors = vec![PollFd::new(self.control, PollFlags::IN)];
            descriptors.extend(
                self.events
                    .iter()
                    .map(|events| PollFd::new(events, PollFlags::IN)),
            );
            match poll(&mut descriptors, Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(on_step_call("wait for events", "poll(2)")(errno)),
            }
            let has_spoken = descriptors
                .first()
                .is_some_and(|control| !control.revents().is_empty());
            drop(descriptors);
            if has_spoken {
                // Whatever is said, or that nothing will be any more: it ends with a last look. It is taken out of the
                // connection, which would be reset with it in it.
                let _ = self.control.receive_now();
                self.finishing = true;
                return Ok(());
            }
            if self.hear_events() {
                return Ok(());
            }
        }
    }

    /// Whether the supervisor has spoken.
    fn is_over(&self) -> bool {
        let mut control = [PollFd::new(self.control, PollFlags::IN)];
        matches!(poll(&mut control, Some(&Timespec::default())), Ok(1))
    }

    /// Reads the events that are there; says whether one of them is, or may be, about a guarded path.
    fn hear_events(&mut self) -> bool {
        let Some(events) = &self.events else {
            return false;
        };
        let mut buffer = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(events, &mut buffer);
        let mut concerns = false;
        let mut count = 0;
        loop {
            // Only between two buffers: what is in one that is given up was never heard.
            if count >= MOST_EVENTS && reader.is_buffer_empty() {
                self.blind = true;
                return true;
            }
            let Ok(event) = reader.next() else {
                return concerns;
            };
            count += 1;
            let Some(name) = event.file_name() else {
                // A watched directory itself, or events were lost.
                let lost = inotify::ReadFlags::QUEUE_OVERFLOW | inotify::ReadFlags::IGNORED;
                self.blind |= event.events().intersects(lost);
                concerns = true;
                continue;
            };
            let name = std::ffi::OsStr::from_bytes(name.to_bytes());
            let is_write = event.events().contains(inotify::ReadFlags::CLOSE_WRITE);
            let directories = self
                .watched
                .iter()
                .filter(|(watch, _)| *watch == event.wd());
            for (_, directory) in directories {
                let path = directory.join(name);
                for entry in self.entries.iter_mut().filter(|entry| entry.path() == path) {
                    concerns = true;
                    entry.written |= is_write;
                }
            }
        }
    }
}

/// What lies at a location, if it is something that can be covered, and whether it is protected.
fn inspect(location: &OwnedFd, guarded: &Guarded) -> Result<(Option<BindKind>, bool), NativeError> {
    let path = guarded.at.as_path();
    let stat = rustix::fs::statx(
        location,
        "",
        AtFlags::EMPTY_PATH,
        StatxFlags::TYPE | StatxFlags::MODE,
    )
    .map_err(call("look at", "statx(2)", path))?;
    let is_root = stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    let is_read_only = || {
        rustix::fs::fstatvfs(location)
            .map(|system| system.f_flag.contains(StatVfsMountFlags::RDONLY))
            .map_err(call("look at", "fstatfs(2)", path))
    };
    let is_protected = is_root
        && match guarded.protection {
            Protection::Pinned => true,
            Protection::Closed => is_read_only()?,
            Protection::Hidden => stat.stx_mode & 0o777 == 0 && is_read_only()?,
        };
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Directory => Some(BindKind::Directory),
        FileType::RegularFile => Some(BindKind::File),
        _ => None,
    };
    Ok((kind, is_protected))
}

/// Mounts over a location what the plan had there.
fn mount_again(
    tree: &Tree,
    covers: &[SafeBytes],
    guarded: &Guarded,
    location: &OwnedFd,
    kind: BindKind,
) -> Result<(), NativeError> {
    let access = match guarded.protection {
        Protection::Pinned => Access::ReadWrite,
        Protection::Closed | Protection::Hidden => Access::ReadOnly,
    };
    if guarded.protection != Protection::Hidden {
        return tree.bind(location, location, &guarded.at, kind, access);
    }
    if kind == BindKind::Directory {
        let empty = memory_file_system("an empty directory", "4k", 0)?;
        set_mount_attributes(empty.as_fd(), MountAttributes::READ_ONLY, Depth::One)
            .map_err(at("cover", guarded.at.clone()))?;
        return tree.attach(&empty, location, &guarded.at);
    }
    for cover in covers {
        let lent = Guarded {
            at: cover.clone(),
            host: cover.clone(),
            protection: Protection::Hidden,
        };
        let source = open_location(tree.root.as_fd(), relative(cover), Resolve::Beneath);
        let Ok(source) = source else { continue };
        if inspect(&source, &lent)? == (Some(BindKind::File), true) {
            return tree.bind(&source, location, &guarded.at, kind, access);
        }
    }
    Err(at("cover", guarded.at.clone())(SysError::new(
        "open_tree(2)",
        "an empty file",
        Errno::NOENT,
    )))
}

/// What a guarded file is now.
fn state(tree: &Tree, guarded: &Guarded) -> Option<State> {
    let path = relative(&guarded.at);
    let location = open_location(tree.root.as_fd(), path, Resolve::Beneath).ok()?;
    let stat = rustix::fs::fstat(&location).ok()?;
    Some([
        i128::from(stat.st_ino),
        i128::from(stat.st_size),
        i128::from(stat.st_mtime) * 1_000_000_000 + i128::from(stat.st_mtime_nsec),
        i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
        i128::from(stat.st_dev),
    ])
}
