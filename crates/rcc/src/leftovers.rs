//! What the agent left that the host would execute or trust: protected names that did not exist when the run began.
//!
//! A name that exists is read-only inside; one that does not cannot be covered without leaving a ghost file in the
//! project, so it is looked for afterwards. Must not open, follow or execute anything that it finds.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use rcc_host::{HostError, protected_entries};
use rcc_plan::ProtectedEntry;

use crate::output;
use crate::session::{Session, protected_names};

/// Most names that are told.
const LISTED: usize = 20;

/// Tells about new or changed names; a run that left none ends silently.
pub(crate) fn tell(session: &Session) {
    let names = protected_names(&session.project, session.preset.as_ref());
    match appeared(session, &names) {
        Ok(new) if new.is_empty() => {}
        Ok(new) => {
            let mut list: Vec<String> = new
                .iter()
                .take(LISTED)
                .map(|entry| rcc_plan::escape(&entry.path))
                .collect();
            if new.len() > LISTED {
                list.push(format!("and {} more", new.len() - LISTED));
            }
            output::note(&format!(
                "new in the project, and run or trusted by programs of your own outside the sandbox: {}; look before you use them",
                list.join(", ")
            ));
        }
        Err(error) => output::warn(&format!(
            "cannot tell what the agent left: {}",
            rcc_plan::escape(error.to_string())
        )),
    }
}

/// Entries that were not there before, or were links that lead elsewhere now; of a new directory only its own name.
fn appeared(session: &Session, names: &[PathBuf]) -> Result<Vec<ProtectedEntry>, HostError> {
    let before = &session.facts.project.protected;
    let now = protected_entries(session.project.directory.as_fd(), names)?;
    Ok(now
        .into_iter()
        .filter(|entry| !before.contains(entry))
        .collect())
}
