//! `rcc shell`: the caller's shell in the sandbox.

use std::ffi::OsString;

use crate::cli::RunFlags;
use crate::error::CliError;
use crate::session::{What, prepare};

pub(crate) fn run(mut flags: RunFlags, arguments: Vec<OsString>) -> Result<u8, CliError> {
    // `rcc -s shell x` must not lose its arguments.
    flags.shell = false;
    let early = super::run::early(&flags);
    super::run::start(early, prepare(&flags, None, What::Shell(arguments))?)
}
