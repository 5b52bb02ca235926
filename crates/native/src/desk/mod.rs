//! The supervisor's desk: a socket beside the record of a run, at which the user's other commands ask for things.
//!
//! Served from the relay's own loop, for every run, with a network or without. Whoever comes is asked for by the kernel
//! ([`is_callers_own`]); the socket lies in a directory of mode 0700 that no sandbox is ever given.
//!
//! Must not block, and must not ask pid 1 anything: what is inside counts as the agent's.

mod client;
mod protocol;
mod recorder;
mod recording;

use std::os::fd::{AsFd as _, OwnedFd};

use rcc_plan::Plan;
use rcc_sys::peer::is_callers_own;
use rcc_sys::process::pid_of;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};
use rustix::process::Signal;
use serde_json::Value;

use crate::group::GroupRecord;
use crate::launch::plan_file;
use crate::protocol::{receive, send};

pub use client::{DeskClient, DeskError, Status};
use protocol::{Answer, Answering, Ask, Asking, Heard, VERSION, read};
pub(crate) use recorder::FRAME;
pub use recorder::Recorder;
pub use recording::{Pieces, RECORDING, is_given_up};

/// Clients at a time; others wait in the socket's queue.
const CLIENTS: usize = 64;

/// The desk of one run.
#[derive(Debug)]
pub struct Desk<'run> {
    listener: OwnedFd,
    plan: &'run Plan,
    group: Option<GroupRecord>,
    clients: Vec<OwnedFd>,
    pub(crate) recorder: Option<Recorder>,
}

/// What becomes of a client that was heard.
enum Next {
    Stays,
    Attached { rows: u16, columns: u16 },
}

/// What the relay has to do for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Send this signal to the agent; `SIGKILL` ends the run.
    Signal(Signal),
}

impl<'run> Desk<'run> {
    /// Opens the desk on a listening socket (`SOCK_SEQPACKET`).
    #[must_use]
    pub fn new(listener: OwnedFd, plan: &'run Plan, group: Option<GroupRecord>) -> Self {
        Self {
            listener,
            plan,
            group,
            clients: Vec::new(),
            recorder: None,
        }
    }

    /// Has a detached run recorded and shown.
    pub fn record(&mut self, recorder: Recorder) {
        self.recorder = Some(recorder);
    }

    /// When the desk has to be served even if nothing happens.
    pub(crate) fn patience(&self) -> Option<std::time::Duration> {
        self.recorder.as_ref().and_then(Recorder::patience)
    }

    /// What to wait for: the listener, then every client.
    pub(crate) fn interests<'fd>(&'fd self, events: &mut Vec<PollFd<'fd>>) {
        let mut listens = PollFlags::empty();
        listens.set(PollFlags::IN, self.clients.len() < CLIENTS);
        events.push(PollFd::new(&self.listener, listens));
        let clients = self.clients.iter();
        events.extend(clients.map(|client| PollFd::new(client, PollFlags::IN)));
        if let Some(recorder) = &self.recorder {
            recorder.interests(events);
        }
    }

    /// Hears everybody who said something. `sandbox` is pid 1.
    pub(crate) fn serve(&mut self, ready: &[PollFlags], sandbox: &OwnedFd) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let (own, recorders) = ready
            .split_at_checked(1 + self.clients.len())
            .unwrap_or((ready, &[]));
        if let Some(recorder) = &mut self.recorder {
            recorder.serve(recorders);
        }
        let mut ready = own.iter().map(|flags| !flags.is_empty());
        let is_called = ready.next().unwrap_or(false);
        let clients = std::mem::take(&mut self.clients);
        for client in clients {
            if !ready.next().unwrap_or(false) {
                self.clients.push(client);
                continue;
            }
            match self.attend(&client, sandbox, &mut wishes) {
                Some(Next::Stays) => self.clients.push(client),
                Some(Next::Attached { rows, columns }) => {
                    if let Some(recorder) = &mut self.recorder {
                        recorder.attach(client, rows, columns);
                    }
                }
                None => {}
            }
        }
        if is_called {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            // Not a word to others: whoever they are, they have no business here.
            if let Ok(client) = rustix::net::accept_with(&self.listener, flags)
                && is_callers_own(&client)
            {
                self.clients.push(client);
            }
        }
        wishes
    }

    /// Hears one client; none when it is through.
    fn attend(&self, client: &OwnedFd, sandbox: &OwnedFd, wishes: &mut Vec<Wish>) -> Option<Next> {
        let mut next = Next::Stays;
        let heard = match receive::<Value>(client.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Some((said, _))) => read::<Asking>(said),
            Err(error) if error.errno == Errno::AGAIN => return Some(Next::Stays),
            Err(error) if error.errno == Errno::BADMSG => Heard::Unknown,
            Ok(None) | Err(_) => return None,
        };
        let answer = match heard {
            Heard::Known(asking) => {
                if let (Ask::Attach { rows, columns }, true) =
                    (&asking.ask, self.recorder.is_some())
                {
                    next = Next::Attached {
                        rows: *rows,
                        columns: *columns,
                    };
                }
                self.answer(&asking.ask, sandbox, wishes)
            }
            Heard::OtherVersion(version) => Err(format!(
                "it was asked in version {version} of what is said at the desk, and speaks {VERSION}"
            )),
            Heard::Unknown => Err("it is not understood".to_owned()),
        };
        let (answer, descriptors) = answer.unwrap_or_else(|reason| {
            let reason = format!(
                "rcc {}, which this run was started with, cannot do what was asked: {reason}",
                env!("CARGO_PKG_VERSION")
            );
            (Answer::Refused { reason }, Vec::new())
        });
        let answering = Answering {
            version: VERSION,
            answer,
        };
        let descriptors: Vec<_> = descriptors.iter().map(OwnedFd::as_fd).collect();
        // One who does not read its answers is no client.
        let sent = send(
            client.as_fd(),
            &answering,
            &descriptors,
            SendFlags::DONTWAIT,
        );
        sent.ok().map(|()| next)
    }

    fn answer(
        &self,
        ask: &Ask,
        sandbox: &OwnedFd,
        wishes: &mut Vec<Wish>,
    ) -> Result<(Answer, Vec<OwnedFd>), String> {
        let handed = |descriptor: &OwnedFd| {
            let cloned = descriptor.try_clone();
            cloned.map_err(|_| "it is out of descriptors".to_owned())
        };
        match ask {
            Ask::Signal { number } => match Signal::from_named_raw(*number) {
                // It would stop pid 1 and not the agent.
                None | Some(Signal::STOP) => Err(format!("signal {number} cannot be passed on")),
                Some(signal) => {
                    wishes.push(Wish::Signal(signal));
                    Ok((Answer::Done, Vec::new()))
                }
            },
            Ask::Status => {
                let plan = plan_file(self.plan).map_err(|error| error.to_string())?;
                let init = pid_of(sandbox.as_fd())
                    .map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs());
                Ok((Answer::Status { init }, vec![plan]))
            }
            Ask::Attach { .. } => match &self.recorder {
                Some(recorder) => {
                    let terminal = recorder.has_terminal();
                    Ok((Answer::Attached { terminal }, Vec::new()))
                }
                None => Err("it was not started with --detach".to_owned()),
            },
            Ask::Join => {
                let plan = plan_file(self.plan).map_err(|error| error.to_string())?;
                let group = self.group.clone().map(Box::new);
                Ok((Answer::Join { group }, vec![handed(sandbox)?, plan]))
            }
        }
    }
}
