//! `rcc agent NAME ARGS…` and `rcc NAME ARGS…`: an agent by its preset's name, with its arguments untouched.

use std::ffi::OsString;

use crate::cli::RunFlags;
use crate::error::CliError;
use crate::session::{What, prepare};

pub(crate) fn run(
    flags: RunFlags,
    name: OsString,
    arguments: Vec<OsString>,
) -> Result<u8, CliError> {
    let early = super::run::early(&flags);
    super::run::start(early, prepare(&flags, Some(&name), What::Agent(arguments))?)
}
