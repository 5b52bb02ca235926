//! The supervisor's side of starting a run: forks the helper and pid 1, collects what they built, says go.
//!
//! ```text
//! supervisor ── clone(user) ──> helper             in user namespace U; makes the router namespace
//!                                  └─ clone(parent, user, pid, mount …) ──> pid 1   in U2; makes the agent namespace
//! ```
//! pid 1 is the supervisor's child (`CLONE_PARENT`) but was made inside U, so U2 is a child of U: capabilities in the
//! agent's world reach no rule of the router namespace. The helper ends when the listeners have been handed over; they
//! keep the router namespace alive, and it dies with the last process that holds them, the supervisor.
//!
//! Should: be called before the process has started any thread. Mustn't: know what the gateway does.

use std::io::{Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use rcc_plan::{Network, Plan};
use rcc_sys::SysError;
use rcc_sys::process::{CloneFlags, Forked, clone_process, drop_supplementary_groups, exit_now};
use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::process::{Signal, WaitId, WaitIdOptions};

use crate::agent_sockets::AgentSockets;
use crate::error::on_step;
use crate::error::{NativeError, Reported};
use crate::group::Group;
use crate::helper;
use crate::protocol::{Control, Message};
use crate::stage_start::Stage;

/// The sockets of the router namespace that the gateway serves.
#[derive(Debug)]
pub struct Listeners {
    /// Transparent TCP listener: an accepted socket's local address is the original destination.
    pub tcp: OwnedFd,
    /// Transparent UDP socket on port 53.
    pub dns: OwnedFd,
    /// Transparent UDP socket that receives all other datagrams of the agent.
    pub udp: OwnedFd,
    /// Raw socket that sends IPv4 packets to the agent, whole with their headers.
    pub raw_v4: OwnedFd,
    /// The same for IPv6; none on a kernel without it.
    pub raw_v6: Option<OwnedFd>,
}

/// A sandbox whose network stands; its first process is still building the file tree, and the agent has not been started.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) init: Child,
    pub(crate) control: Control,
    listeners: Option<Listeners>,
    /// Only when ports are published; it ends with the run.
    pub(crate) helper: Option<Child>,
    sockets: Option<AgentSockets>,
    group: Option<Group>,
}

impl Prepared {
    /// Takes the control group, which has to outlive the agent; `None` when the plan has none.
    pub fn take_group(&mut self) -> Option<Group> {
        self.group.take()
    }

    /// Takes the sockets for the gateway; `None` when the plan has no network.
    pub fn take_listeners(&mut self) -> Option<Listeners> {
        self.listeners.take()
    }

    /// Takes what makes sockets of the agent's network namespace; `None` when the plan publishes no port.
    pub fn take_sockets(&mut self) -> Option<AgentSockets> {
        self.sockets.take()
    }
}

/// The first processes of a run, started before anybody knows its plan: making namespaces and executing pid 1's program
/// take the kernel longer than reading the policy, and neither depends on the other. Forgetting it ends them.
#[derive(Debug)]
pub struct Early(Result<Started, NativeError>);

#[derive(Debug)]
struct Started {
    helper: Child,
    helper_control: Control,
    control: Control,
}

/// What the caller knows of the network before it has a plan. The plan decides; this only says what is made in advance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There may be one.
    Network,
    /// There will be none.
    NoNetwork,
}

impl Early {
    /// Starts the helper and pid 1, with the caller's ids. A failure is told by [`prepare`]: what is wrong with the
    /// command line or the policy comes first.
    #[must_use]
    pub fn start(expected: Expected) -> Self {
        Self(start(expected))
    }
}

fn start(expected: Expected) -> Result<Started, NativeError> {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if uid.is_root() {
        shed_groups()?;
    }
    let (control, stage_end) = Control::pair().map_err(on_step("make the control connection"))?;
    let (helper_control, helper_end) =
        Control::pair().map_err(on_step("make the control connection"))?;
    let stage = Stage::new(stage_end, uid.as_raw(), gid.as_raw())?;
    match clone_process(CloneFlags::USER).map_err(|source| NativeError::UserNamespace { source })? {
        Forked::Child => {
            drop((control, helper_control));
            exit_now(helper::main(&helper_end, stage, expected))
        }
        Forked::Parent(_, helper) => Ok(Started {
            helper: Child(Some(helper)),
            helper_control,
            control,
        }),
    }
}

/// Has the sandbox of `plan` built by the processes that were started early. When this returns its network stands, while
/// its first process goes on building the file tree; [`Prepared::start`] waits for that and starts the agent.
///
/// # Errors
/// Nothing is left behind: whatever was started is killed and collected first.
pub fn prepare(early: Early, plan: &Plan) -> Result<Prepared, NativeError> {
    let Started {
        helper,
        helper_control,
        control,
    } = early.0?;
    let init = Child(Some(await_init(&helper_control)?));
    let plan_file = plan_file(plan)?;
    let cause = |seen| cause(&control, &helper_control, seen);
    control
        .send(&Message::Plan, &[plan_file.as_fd()])
        .map_err(|error| cause(on_step("hand the plan to the sandbox")(error)))?;
    let stay = !plan.publish.is_empty();
    let (ipv6, link) = match plan.network {
        Network::None => (false, false),
        Network::Gateway { ipv6 } => (ipv6, true),
    };
    let wanted = if link || stay {
        Message::BuildNetwork { ipv6, link, stay }
    } else {
        Message::NoNetwork
    };
    helper_control
        .send(&wanted, &[])
        .map_err(|error| cause(on_step("instruct the netns helper")(error)))?;
    // While the helper and process 1 are busy.
    let group = plan.limits.group.as_ref();
    let group = group
        .map(|group| Group::make(group, &plan.run_id, &init))
        .transpose()?;
    let listeners = match wanted {
        Message::NoNetwork => None,
        _ => Some(await_network(&helper_control).map_err(cause)?),
    };
    let (helper, sockets) = if stay {
        await_sockets(&helper_control)?;
        (Some(helper), Some(AgentSockets::new(helper_control)))
    } else {
        helper.wait().map_err(on_step("collect the netns helper"))?;
        (None, None)
    };
    crate::relay::block_signals()?;
    Ok(Prepared {
        init,
        control,
        listeners,
        helper,
        sockets,
        group,
    })
}

/// Writes the plan into a file in memory, positioned at its start.
pub(crate) fn plan_file(plan: &Plan) -> Result<OwnedFd, NativeError> {
    let failed = |call, errno| on_step("write the plan for pid 1")(SysError::new(call, "", errno));
    let file = rustix::fs::memfd_create("rcc-plan", MemfdFlags::CLOEXEC)
        .map_err(|errno| failed("memfd_create(2)", errno))?;
    let mut file = std::fs::File::from(file);
    let text = serde_json::to_vec(plan).map_err(|_| failed("write(2)", Errno::INVAL))?;
    file.write_all(&text)
        .and_then(|()| file.rewind())
        .map_err(|error| {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            failed("write(2)", errno)
        })?;
    Ok(file.into())
}

/// Drops root's supplementary groups, which no user namespace could drop later. A root without `CAP_SETGID` keeps them, as
/// every ordinary user does: they show inside as `nogroup` and open only what is mounted.
pub(crate) fn shed_groups() -> Result<(), NativeError> {
    match drop_supplementary_groups() {
        Err(error) if error.errno != Errno::PERM => {
            Err(on_step("drop the supplementary groups")(error))
        }
        _ => Ok(()),
    }
}

/// A child process that is killed and collected when it is forgotten.
#[derive(Debug)]
pub(crate) struct Child(Option<OwnedFd>);

impl Child {
    /// Takes a child over by its pidfd.
    pub(crate) fn of(pidfd: OwnedFd) -> Self {
        Self(Some(pidfd))
    }
}

impl Child {
    /// The pidfd, for polling and signals.
    pub(crate) fn pidfd(&self) -> Result<&OwnedFd, SysError> {
        self.0
            .as_ref()
            .ok_or_else(|| SysError::new("waitid(2)", "a collected child", Errno::CHILD))
    }

    /// Waits for the end; the exit code, 128+n after a signal.
    pub(crate) fn wait(mut self) -> Result<i32, SysError> {
        let pidfd = self
            .0
            .take()
            .ok_or_else(|| SysError::new("waitid(2)", "a collected child", Errno::CHILD))?;
        let status = rustix::io::retry_on_intr(|| {
            rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
        })
        .map_err(SysError::at("waitid(2)", "a child"))?;
        let code = status.and_then(|status| {
            status
                .exit_status()
                .or_else(|| status.terminating_signal().map(|signal| 128 + signal))
        });
        code.ok_or_else(|| SysError::new("waitid(2)", "a child", Errno::CHILD))
    }

    /// Sends a signal; a child that has ended already is fine.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pidfd) = &self.0 {
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        if let Some(pidfd) = self.0.take() {
            let _ = rustix::io::retry_on_intr(|| {
                rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED)
            });
        }
    }
}

pub(crate) const HELPER: &str = "netns helper";
pub(crate) const INIT: &str = "sandbox's first process";

/// Receives the next message, turning a reported failure or a silent end into an error.
fn hear(control: &Control, who: &'static str) -> Result<(Message, Vec<OwnedFd>), NativeError> {
    match control.receive().map_err(on_step("hear from a child"))? {
        Some((Message::Failed { chain, hint }, _)) => Err(NativeError::SetUp {
            source: Reported::from_chain(chain),
            hint,
        }),
        Some(heard) => Ok(heard),
        None => Err(NativeError::Vanished { who }),
    }
}

fn await_init(helper: &Control) -> Result<OwnedFd, NativeError> {
    match hear(helper, HELPER)? {
        (Message::InitStarted, descriptors) => {
            let [pidfd]: [OwnedFd; 1] = descriptors
                .try_into()
                .map_err(|_| NativeError::Protocol { who: HELPER })?;
            Ok(pidfd)
        }
        _ => Err(NativeError::Protocol { who: HELPER }),
    }
}

fn await_network(helper: &Control) -> Result<Listeners, NativeError> {
    let (Message::NetworkReady, descriptors) = hear(helper, HELPER)? else {
        return Err(NativeError::Protocol { who: HELPER });
    };
    let mut descriptors = descriptors.into_iter();
    let mut next = || {
        descriptors
            .next()
            .ok_or(NativeError::Protocol { who: HELPER })
    };
    Ok(Listeners {
        tcp: next()?,
        dns: next()?,
        udp: next()?,
        raw_v4: next()?,
        raw_v6: descriptors.next(),
    })
}

/// Why the sandbox cannot be built: what pid 1 or else the helper says, who may have ended before they could be told
/// anything, else what was seen here. When pid 1 failed first, the helper only saw its namespace vanish.
fn cause(init: &Control, helper: &Control, seen: NativeError) -> NativeError {
    let said = [init, helper]
        .into_iter()
        .find_map(|child| match child.receive_now() {
            Ok(Some((Message::Failed { chain, hint }, _))) => Some(NativeError::SetUp {
                source: Reported::from_chain(chain),
                hint,
            }),
            _ => None,
        });
    said.unwrap_or(seen)
}

/// Waits until the helper has nothing left but to make sockets.
fn await_sockets(helper: &Control) -> Result<(), NativeError> {
    match hear(helper, HELPER)? {
        (Message::ReadyForSockets, _) => Ok(()),
        _ => Err(NativeError::Protocol { who: HELPER }),
    }
}

/// Waits until pid 1 has built the tree; the descriptor is the master of the sandbox's terminal, if it has one.
pub(crate) fn await_tree(init: &Control) -> Result<Option<OwnedFd>, NativeError> {
    match hear(init, INIT)? {
        (Message::TreeReady, mut descriptors) => Ok(descriptors.pop()),
        _ => Err(NativeError::Protocol { who: INIT }),
    }
}
