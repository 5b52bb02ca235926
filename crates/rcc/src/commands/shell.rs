//! `rcc shell`: the caller's shell in the sandbox.

use std::ffi::OsString;

use crate::cli::RunFlags;
use crate::detach::{Side, begin};
use crate::error::CliError;
use crate::session::{What, prepare};

pub(crate) fn run(mut flags: RunFlags, arguments: Vec<OsString>) -> Result<u8, CliError> {
    // `rcc -s shell x` must not lose its arguments.
    flags.shell = false;
    match begin(&flags, None)? {
        Side::Front(code) => Ok(code),
        Side::Supervisor(begun) => {
            super::run::start(begun, prepare(&flags, None, What::Shell(arguments))?)
        }
    }
}
