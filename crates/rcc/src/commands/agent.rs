//! `rcc agent NAME ARGS…` and `rcc NAME ARGS…`: an agent by its preset's name, with its arguments untouched.

use std::ffi::OsString;

use crate::cli::RunFlags;
use crate::detach::{Side, begin};
use crate::error::CliError;
use crate::session::{What, prepare};

pub(crate) fn run(
    flags: RunFlags,
    name: OsString,
    arguments: Vec<OsString>,
) -> Result<u8, CliError> {
    match begin(&flags, None)? {
        Side::Front(code) => Ok(code),
        Side::Supervisor(begun) => {
            super::run::start(begun, prepare(&flags, Some(&name), What::Agent(arguments))?)
        }
    }
}
