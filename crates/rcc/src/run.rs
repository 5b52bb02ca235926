//! Starts the native engine and the gateway for a prepared session and waits for the end.

use crate::error::{CliError, Kind};
use crate::record::Record;
use crate::session::Session;

/// Runs the session; the result is the exit code of rcc.
pub(crate) fn execute(_session: &Session, _record: Option<&Record>) -> Result<u8, CliError> {
    Err(CliError::new(Kind::Internal, "this build has no engine"))
}
