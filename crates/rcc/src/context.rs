//! What every command needs to know first: who calls, with which environment, and where rcc keeps things.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rcc_host::{Account, Directories, TrustStore, account};

use crate::error::CliError;

/// The caller's side of one invocation.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) account: Account,
    pub(crate) directories: Directories,
    pub(crate) environment: BTreeMap<OsString, OsString>,
}

impl Context {
    /// Reads it from the process and the password database.
    pub(crate) fn load() -> Result<Self, CliError> {
        let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let account = account(environment.get(OsStr::new("HOME")).map(OsString::as_os_str))?;
        let directories = Directories::from_environment(&environment, &account.home);
        Ok(Self {
            account,
            directories,
            environment,
        })
    }

    /// The store of approved project policies.
    pub(crate) fn trust(&self) -> TrustStore {
        TrustStore::new(&self.directories.state)
    }
}
