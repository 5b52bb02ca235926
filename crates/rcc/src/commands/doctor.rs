//! `rcc doctor`: what works on this host, what is missing, and the fix.

use crate::cli::DoctorArgs;
use crate::error::CliError;
use crate::exit::Exit;

pub(crate) fn run(_args: &DoctorArgs) -> Result<u8, CliError> {
    Ok(Exit::Failed.into())
}
