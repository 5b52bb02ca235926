//! The supervisor while the agent runs: has bytes moved between the caller's terminal and the sandbox's, passes signals, and
//! follows stops (Ctrl-Z) and ends.
//!
//! One thread, one `poll(2)` loop; the gateway has its own thread. Nothing here may wait for one of them alone: a slow reader on
//! one side never stops the other direction or the signals.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rcc_plan::Streams;
use rcc_sys::SysError;
use rcc_sys::process::{SignalDescriptor, SignalSet};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::Signal;

use crate::desk::{Desk, Wish};
use crate::error::{NativeError, Reported};
use crate::error::{on_step, on_step_call};
use crate::launch::{Child, Prepared, await_tree};
use crate::protocol::{Control, Message};
use crate::pump::Pump;
use crate::screen::{Screen, copy_window_size};
use crate::wait::{ready_now, timespec};

/// After this time a run lasts: what only longer runs need is begun then.
const LASTING: Duration = Duration::from_millis(50);
/// How long the agent may take to end after the terminal has hung up.
const HANGUP_GRACE: Duration = Duration::from_secs(5);
/// How often a supervisor in the background looks whether the terminal is its own again: a shell that brings a job to the
/// foreground which was not stopped tells it nothing.
const FOREGROUND_LOOK: Duration = Duration::from_millis(250);

/// How a run ended.
#[derive(Debug)]
pub enum Outcome {
    /// The agent ended with this exit code, 128+n after a signal.
    Exited(i32),
    /// The same, after the caller's terminal or connection had gone away.
    HungUp(i32),
    /// The agent's program could not be executed; the exit code is 126 or 127.
    NotExecuted {
        /// `ENOENT`, `EACCES`, `ENOEXEC` …
        errno: Errno,
        /// Exit code.
        code: i32,
    },
    /// The gateway ended before the agent, which was killed then.
    GatewayLost,
}

/// A run whose agent has been started.
#[derive(Debug)]
pub struct Running {
    init: Child,
    /// Ended and collected when the run is over.
    helper: Option<Child>,
    control: Control,
    signals: SignalDescriptor,
    terminal: Option<OwnedFd>,
    streams: Streams,
    /// Streams that are neither the sandbox's terminal nor handed in.
    pumps: Vec<Pump>,
    /// Who looks a last time when the agent has ended, and then lets pid 1 end.
    last_look: Option<OwnedFd>,
}

impl Prepared {
    /// Waits until the file tree stands and starts the agent.
    ///
    /// # Errors
    /// The tree could not be built, or the sandbox died.
    pub fn start(self, streams: Streams) -> Result<Running, NativeError> {
        let mut running = Running::start(self.init, self.control, streams, Vec::new())?;
        running.helper = self.helper;
        Ok(running)
    }
}

/// The signals that the supervisor takes itself while a run lasts.
fn signals_taken() -> SignalSet {
    SignalSet::of(&[
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGWINCH,
        libc::SIGTSTP,
        libc::SIGCONT,
        libc::SIGTTIN,
        libc::SIGTTOU,
    ])
}

/// Blocks the signals that [`Prepared::start`] waits for. Threads inherit it, so it must happen before the gateway has any:
/// the kernel gives a signal to whichever thread does not block it (`complete_signal` in kernel/signal.c), where a change
/// of the window's size would be lost and a request to end would kill the supervisor before it tidied up.
pub(crate) fn block_signals() -> Result<(), NativeError> {
    signals_taken()
        .block_only_these()
        .map_err(on_step("block signals"))?;
    Ok(())
}

impl Running {
    /// Waits until a process says that it is ready to become the agent (or to start one), and lets it.
    pub(crate) fn start(
        init: Child,
        control: Control,
        streams: Streams,
        pumps: Vec<Pump>,
    ) -> Result<Self, NativeError> {
        let all = signals_taken();
        let signals = all.descriptor().map_err(on_step("wait for signals"))?;
        // Everything stands on this side. Without a terminal, whose size has to be set first, the word is there when the tree
        // is ready, and nobody waits for anybody.
        let word = || control.send(&Message::Go, &[]);
        let sent = (!streams.wants_terminal()).then(word);
        // Whoever could not be told has failed, and says so itself.
        let terminal = await_tree(&control)?;
        if let Some(master) = &terminal {
            copy_window_size(master);
        }
        sent.unwrap_or_else(word)
            .map_err(on_step("start the agent"))?;
        Ok(Self {
            init,
            helper: None,
            control,
            signals,
            terminal,
            streams,
            pumps,
            last_look: None,
        })
    }

    /// Has an eventfd written to when pid 1 says that the agent has ended. Who waits for it has to answer [`Message::Finish`]
    /// over the connection that is the result.
    pub(crate) fn look_at_the_end(&mut self, look: OwnedFd) -> Result<Control, SysError> {
        self.last_look = Some(look);
        self.control.duplicate()
    }

    /// pid 1, for whoever has to enter its namespaces or to end it.
    pub(crate) fn sandbox(&self) -> Result<&OwnedFd, SysError> {
        self.init.pidfd()
    }

    /// Runs until the agent has ended. `gateway` becomes readable when the gateway has ended, which ends the run; `desk` is
    /// where other commands of the user ask for things meanwhile. `lasting` is called once, 50 ms after the agent's start
    /// if that has not ended by then: a short command pays for nothing that is begun there.
    ///
    /// # Errors
    /// A system call of the loop or `lasting` failed; the sandbox is killed then. The terminal is restored in every case.
    pub fn relay(
        self,
        gateway: Option<BorrowedFd<'_>>,
        mut desk: Option<Desk<'_>>,
        lasting: impl FnOnce() -> Result<(), NativeError>,
    ) -> Result<Outcome, NativeError> {
        let Self {
            init,
            helper,
            control,
            signals,
            terminal,
            streams,
            pumps,
            last_look,
        } = self;
        let recorder = desk.as_mut().and_then(|desk| desk.recorder.as_mut());
        let terminal = match (recorder, terminal) {
            (Some(recorder), Some(master)) => {
                recorder.take_terminal(master);
                None
            }
            (_, terminal) => terminal,
        };
        let screen = terminal
            .map(|master| Screen::new(master, streams))
            .transpose()?;
        let mut relay = Relay {
            init,
            control,
            signals,
            screen,
            pumps,
            desk,
            not_executed: None,
            failure: None,
            hangup: None,
            listens: true,
            last_look,
        };
        let lost = relay.until_the_end(gateway, lasting)?;
        let outcome = relay.finish(lost);
        drop(helper);
        outcome
    }
}

struct Relay<'run> {
    init: Child,
    control: Control,
    signals: SignalDescriptor,
    screen: Option<Screen>,
    pumps: Vec<Pump>,
    desk: Option<Desk<'run>>,
    not_executed: Option<Errno>,
    failure: Option<NativeError>,
    hangup: Option<Instant>,
    listens: bool,
    last_look: Option<OwnedFd>,
}

impl Relay<'_> {
    /// Returns whether the gateway was lost.
    fn until_the_end(
        &mut self,
        gateway: Option<BorrowedFd<'_>>,
        lasting: impl FnOnce() -> Result<(), NativeError>,
    ) -> Result<bool, NativeError> {
        let begun = Instant::now();
        let mut lasting = Some(lasting);
        loop {
            let init = self.init.pidfd().map_err(on_step("watch the sandbox"))?;
            let mut events = vec![
                PollFd::new(init, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            let gateway_at = gateway.map(|gateway| push(&mut events, gateway, PollFlags::IN));
            let control_at = self
                .listens
                .then(|| push(&mut events, self.control.as_fd(), PollFlags::IN));
            let first_of_screen = events.len();
            if let Some(screen) = &self.screen {
                screen.interests(&mut events, self.signals.as_fd());
            }
            let mut after_pumps = Vec::with_capacity(self.pumps.len());
            let first_of_pumps = events.len();
            for pump in &self.pumps {
                pump.interests(&mut events);
                after_pumps.push(events.len());
            }
            let first_of_desk = events.len();
            if let Some(desk) = &self.desk {
                desk.interests(&mut events);
            }
            let hangup = self
                .hangup
                .map(|since| HANGUP_GRACE.saturating_sub(since.elapsed()));
            let to_last = lasting
                .is_some()
                .then(|| LASTING.saturating_sub(begun.elapsed()));
            let patience = self.desk.as_ref().and_then(Desk::patience);
            let looks = self
                .screen
                .as_ref()
                .filter(|screen| screen.waits_for_foreground())
                .map(|_| FOREGROUND_LOOK);
            let timeout = hangup
                .into_iter()
                .chain(to_last)
                .chain(patience)
                .chain(looks);
            let timeout = timeout.min().map(timespec);
            match poll(&mut events, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(on_step_call("watch the sandbox", "poll(2)")(errno)),
            }
            let ready: Vec<PollFlags> = events.iter().map(PollFd::revents).collect();
            drop(events);
            let is_ready = |index: usize| ready.get(index).is_some_and(|flags| !flags.is_empty());
            if let Some(screen) = &mut self.screen {
                if screen.waits_for_foreground() {
                    screen.take();
                }
                screen.serve(
                    ready
                        .get(first_of_screen..first_of_pumps)
                        .unwrap_or_default(),
                )?;
            }
            let mut first = first_of_pumps;
            for (pump, end) in self.pumps.iter_mut().zip(after_pumps) {
                pump.serve(ready.get(first..end).unwrap_or_default());
                first = end;
            }
            self.attend_desk(ready.get(first_of_desk..).unwrap_or_default())?;
            if is_ready(1) {
                self.take_signals()?;
            }
            if control_at.is_some_and(is_ready) {
                self.listen();
            }
            if is_ready(0) {
                return Ok(false);
            }
            if gateway_at.is_some_and(is_ready) {
                self.init.signal(Signal::KILL);
                return Ok(true);
            }
            if begun.elapsed() >= LASTING
                && let Some(lasting) = lasting.take()
            {
                lasting()?;
            }
            if self
                .hangup
                .is_some_and(|since| since.elapsed() >= HANGUP_GRACE)
            {
                self.init.signal(Signal::KILL);
            }
        }
    }

    fn attend_desk(&mut self, ready: &[PollFlags]) -> Result<(), NativeError> {
        let Some(desk) = &mut self.desk else {
            return Ok(());
        };
        let init = self.init.pidfd().map_err(on_step("watch the sandbox"))?;
        for wish in desk.serve(ready, init) {
            match wish {
                Wish::Signal(signal) => self.init.signal(signal),
            }
        }
        Ok(())
    }

    fn take_signals(&mut self) -> Result<(), NativeError> {
        while let Some(number) = self.signals.next().map_err(on_step("take a signal"))? {
            match Signal::from_named_raw(number) {
                Some(Signal::WINCH) => {
                    if let Some(screen) = &self.screen {
                        screen.copy_size();
                    }
                }
                Some(Signal::CONT) => self.resume(),
                // Without a terminal of its own the agent is a job of the caller's shell: it stops with us.
                Some(Signal::TSTP) if self.screen.is_none() => {
                    self.init.signal(Signal::TSTP);
                    if !self.is_detached() {
                        self.suspend();
                    }
                }
                Some(Signal::TSTP | Signal::TTIN | Signal::TTOU) => {}
                Some(Signal::HUP) => {
                    self.hangup.get_or_insert_with(Instant::now);
                    self.init.signal(Signal::HUP);
                }
                Some(signal) => self.init.signal(signal),
                None => {}
            }
        }
        Ok(())
    }

    /// Hears pid 1, whose words are the agent's from now on: they can stop the display or explain an exit code, no more.
    fn listen(&mut self) {
        match self.control.receive_now() {
            Ok(Some((Message::Stopped { .. }, _))) if self.is_wanted_to_stop() => self.suspend(),
            // Nobody may be there to continue it, and while we stand still nobody watches times, disks and sizes.
            Ok(Some((Message::Stopped { .. }, _))) => self.resume(),
            Ok(Some((Message::Ended, _))) => match &self.last_look {
                Some(look) => drop(rustix::io::write(look, &1_u64.to_ne_bytes())),
                // It is gone already when this fails.
                None => drop(self.control.send(&Message::Finish, &[])),
            },
            Ok(Some((Message::ExecFailed { errno }, _))) => {
                self.not_executed = Some(Errno::from_raw_os_error(errno.clamp(1, 4095)))
            }
            Ok(Some((Message::Failed { chain, hint }, _))) => {
                self.failure = Some(NativeError::SetUp {
                    source: Reported::from_chain(chain),
                    hint,
                })
            }
            Err(error) if error.errno == Errno::AGAIN => {}
            _ => self.listens = false,
        }
    }

    fn is_detached(&self) -> bool {
        self.desk
            .as_ref()
            .is_some_and(|desk| desk.recorder.is_some())
    }

    /// Says whether a stop of the agent is the user's wish, who types at a shell that can continue us.
    fn is_wanted_to_stop(&self) -> bool {
        let asked = self
            .screen
            .as_ref()
            .is_some_and(Screen::may_be_asked_to_stop);
        asked && !self.is_detached()
    }

    /// Gives the terminal back and stops, as the agent did; the caller's shell takes over.
    fn suspend(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.restore();
        }
        if self.screen.as_ref().is_some_and(Screen::has_keyboard) {
            // To the whole process group, as the terminal would have done: a pipeline stops together.
            let _ = rustix::process::kill_process_group(rustix::process::getpgrp(), Signal::STOP);
        } else {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::STOP);
        }
        self.resume();
    }

    /// Takes the terminal again and continues the agent.
    fn resume(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.take();
            screen.copy_size();
        }
        let _ = self.control.send(&Message::Continue, &[]);
    }

    fn finish(mut self, gateway_lost: bool) -> Result<Outcome, NativeError> {
        // The last words of pid 1 may have arrived together with its end.
        while self.listens && ready_now(&self.control, PollFlags::IN) {
            self.listen();
        }
        let code = self.init.wait().map_err(on_step("collect the sandbox"))?;
        if let Some(screen) = &mut self.screen {
            screen.drain();
            screen.restore();
        }
        for pump in &mut self.pumps {
            pump.finish(&self.signals);
        }
        if let Some(recorder) = self.desk.as_mut().and_then(|desk| desk.recorder.as_mut()) {
            recorder.finish(code);
        }
        if gateway_lost {
            return Ok(Outcome::GatewayLost);
        }
        match (self.failure, self.not_executed) {
            (Some(error), _) if code == 125 => Err(error),
            (_, Some(errno)) if code == 126 || code == 127 => {
                Ok(Outcome::NotExecuted { errno, code })
            }
            _ if self.hangup.is_some() => Ok(Outcome::HungUp(code)),
            _ => Ok(Outcome::Exited(code)),
        }
    }
}

fn push<'fd>(
    events: &mut Vec<PollFd<'fd>>,
    descriptor: BorrowedFd<'fd>,
    flags: PollFlags,
) -> usize {
    events.push(PollFd::from_borrowed_fd(descriptor, flags));
    events.len() - 1
}
