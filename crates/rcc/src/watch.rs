//! Watches the files that a run's policy comes from, and puts changes in force.
//!
//! A look each half second at size, times and inode is enough for people, and unlike inotify it works on every file system
//! and follows editors that rename. What is wrong or not approved changes nothing: the old rules stay, and the audit log
//! gets one line. The agent cannot write these files; where a policy gives that protection up, nothing is watched.
//!
//! The first look is the session's, taken when it had read the files; the watch itself begins when a run lasts.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use std::sync::Arc;

use rcc_gateway::GatewayControl;

use crate::error::Kind;
use crate::session::{Session, Sources};

/// Time between two looks.
const EVERY: Duration = Duration::from_millis(500);
/// Address space of the thread's stack, in bytes; parsers of policies recurse a little.
const STACK_BYTES: usize = 2 << 20;

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What one look tells of each file.
pub(crate) type Look = Vec<(PathBuf, Option<[i64; 5]>)>;

impl Watch {
    /// Starts a watch; none where the files could be the agent's or cannot be read twice. What was changed since the
    /// session read them is seen.
    pub(crate) fn start(session: &Session, control: GatewayControl) -> Option<Self> {
        let sources = session.sources.clone();
        let protected = !session
            .policy
            .hardening
            .dangerously_without_protected_paths
            .value;
        let is_file = |path: &PathBuf| path.metadata().is_ok_and(|data| data.is_file());
        if !protected || !sources.flags.allow_hosts.iter().all(is_file) {
            return None;
        }
        let mut seen = session.policy_files.clone();
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("rcc-policy".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                    let now = look_at(sources.files().unwrap_or_default());
                    if now != seen {
                        seen = now;
                        reload(&sources, &control);
                    }
                }
            })
            .ok()?;
        Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// Looks at these files.
pub(crate) fn look_at(files: Vec<PathBuf>) -> Look {
    files
        .into_iter()
        .map(|path| {
            let data = path.symlink_metadata().ok();
            let state = data.map(|data| {
                let inode = i64::from_ne_bytes(data.ino().to_ne_bytes());
                let size = i64::from_ne_bytes(data.size().to_ne_bytes());
                [
                    inode,
                    size,
                    data.mtime(),
                    data.mtime_nsec(),
                    data.ctime_nsec(),
                ]
            });
            (path, state)
        })
        .collect()
}

fn reload(sources: &Sources, control: &GatewayControl) {
    match sources.policy() {
        // A gateway that is gone ends the run anyway.
        Ok(policy) => drop(control.set_policy(Arc::new(policy.network))),
        Err(error) => {
            let (reason, hint) = match error.kind() {
                Kind::Denied => ("policy_not_approved", "; approve it with: rcc trust"),
                _ => ("policy_broken", "; the old rules stay in force"),
            };
            let text = rcc_plan::escape(error.headline());
            control.note_refused_policy(reason, &format!("{text}{hint}"));
        }
    }
}
