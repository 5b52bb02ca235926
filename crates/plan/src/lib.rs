//! Pure planning: `(policy, host facts, request)` becomes a [`Plan`], the value that `rcc plan` prints and `rcc run` applies.
//!
//! This crate performs no I/O: everything it needs to know about the machine is in [`HostFacts`].
#![forbid(unsafe_code)]

mod bytes;
mod environment;
mod etc;
mod facts;
mod files;
mod guarded;
pub mod learn;
mod limits;
pub mod network;
mod oci;
mod plan;
mod planner;
mod request;

pub use bytes::{SafeBytes, escape};
pub use facts::{
    EntryKind, EtcFacts, FileIdentity, HostFacts, PathToolchain, ProjectFacts, ProtectedEntry,
    RootEntry, RwLayer, User,
};
pub use files::layered;
pub use guarded::{Guarded, Protection};
pub use limits::{
    BUSCTL, Controller, DiskFree, GroupFacts, GroupObstacle, GroupPlace, GroupPlan, GroupSettings,
    LeftBehind, LimitsPlan, Manager, ScopeFacts, UnifiedFacts,
};
pub use oci::{PROFILE_LIMIT_BYTES, ProfileError};
pub use plan::{
    Access, BindKind, Grant, Hardening, LandlockRule, MINIMUM_KERNEL, MountStep, Network, Plan,
    PlanError, SeccompProfile,
};
pub use planner::plan;
pub use request::{Request, Streams};
