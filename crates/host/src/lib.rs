//! Reads the host: facts for planning, state directories, the trust store.
//!
//! Reads only, except in the modules that own a state directory, in `cow`, which changes a project when its owner says
//! so, and in `git_left`, which renames what git would run. Nothing here starts a program or follows a symbolic link that
//! the agent could have made; only `cow` and `survey` walk a tree, every other function looks at a fixed, short list of
//! paths.
#![forbid(unsafe_code)]

mod addresses;
pub mod cow;
mod directories;
pub mod doctor;
mod etc;
mod facts;
mod files;
mod git;
mod git_left;
mod groups;
mod homes;
mod import;
mod listeners;
mod project;
mod registries;
mod root;
mod survey;
mod toolchains;
mod trust;
mod user;

pub use addresses::host_addresses;
pub use directories::{Directories, DirectoryError, open_private};
pub use facts::{HostError, Question, expand_home, gather, protected_entries};
pub use files::{Content, FileError, Links, read_below, read_text, refuse_foreign, replace};
pub use git::{GitLayout, git_layout, git_named, git_named_by_user};
pub use git_left::{GitBefore, GitFinding, Outcome as GitOutcome, git_before, git_left};
pub use groups::{group_facts, group_of, lingers, process_limit_binds};
pub use homes::{
    Home, HomeError, HomeLock, ImportRecord, Size, home, homes, imported, reset, size, tree_size,
};
pub use import::{AgentHome, ImportError, Imported, agent_home};
pub use listeners::{Listener, listener_on};
pub use project::{Discovery, Project, ProjectError, discover};
pub use registries::{Configured, Registries};
pub use survey::{Mark, Survey, Wanted, is_dependency, mark, survey};
pub use toolchains::{
    Skipped, Surroundings, Toolchains, resolve_without, toolchain_of, toolchains_on_path,
};
pub use trust::{Approval, Approved, TrustError, TrustStore, sha256};
pub use user::{Account, UserError, account};
