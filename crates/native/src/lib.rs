//! The native engine: user, network, mount, pid and the other namespaces, a tree in memory, Landlock, seccomp, a
//! pseudo-terminal, teardown. It applies a [`rcc_plan::Plan`] and nothing else.
//!
//! Order of a run: [`Early::start`] (forks, while this process has one thread) -> the caller reads its policy and plans
//! -> [`prepare`] -> the caller starts its gateway on the [`Listeners`] -> [`Prepared::start`] -> [`Running::relay`] until the agent ends.
#![forbid(unsafe_code)]

mod agent_sockets;
mod attach;
mod confine;
mod desk;
mod disk_room;
mod error;
mod exec;
mod exec_stage;
mod group;
mod guard;
mod guard_stage;
mod helper;
mod launch;
mod limit_watch;
mod proc_usage;
mod protocol;
mod pump;
mod relay;
mod scope;
mod screen;
mod seccomp;
mod shortage;
mod site;
mod stage;
mod stage_start;
mod streams;
mod tree;
mod wait;

pub use agent_sockets::{AgentSockets, IpVersion};
pub use attach::{Left, attach, window_size};
pub use desk::{Desk, DeskClient, DeskError, Pieces, RECORDING, Recorder, Status, is_given_up};
pub use disk_room::{DiskRoom, Shortage};
pub use error::NativeError;
pub use exec::exec;
pub use exec_stage::{EXEC_NAME, exec_main};
pub use group::{GROUP_PREFIX, Group, GroupRecord};
pub use guard::{Before, Findings, Guard, Loss};
pub use guard_stage::{GUARD_NAME, guard_main};
pub use launch::{Early, Expected, Listeners, Prepared, prepare};
pub use limit_watch::{Ended, Ender, Excess, GrowingTree, LimitEvent, LimitReport, LimitWatch};
pub use proc_usage::{
    Detail, NetworkUsage, ProcUsage, network as network_usage, sandbox_of, usage as process_usage,
};
pub use relay::{Outcome, Running};
pub use seccomp::allowed_calls;
pub use shortage::shortage;
pub use stage::{STAGE_NAME, stage_main};
pub use wait::connect;
