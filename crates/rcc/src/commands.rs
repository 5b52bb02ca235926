//! One file for each command: it turns arguments into calls and results into text, nothing more.

pub(crate) mod agent;
pub(crate) mod apply;
pub(crate) mod attach;
pub(crate) mod completions;
pub(crate) mod diff;
pub(crate) mod discard;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod home;
pub(crate) mod init;
pub(crate) mod inspect;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod net;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod redo;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod stats;
pub(crate) mod stop;
pub(crate) mod trust;
pub(crate) mod undo;
