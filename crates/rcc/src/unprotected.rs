//! Tells what the host did to protected paths while a run lasted, and what to look at before using them.
//!
//! Must not read the files: what is in them may be the agent's.

use std::collections::BTreeMap;
use std::time::Duration;

use rcc_native::{Findings, Loss, NativeError};
use rcc_plan::SafeBytes;

use crate::output;

/// Most paths that are told.
const LISTED: usize = 20;

/// Says what happened, once for each path: the worst of it, and all of the time that it was unprotected.
///
/// # Errors
/// The guard's failure, for which the agent was killed.
pub(crate) fn tell(findings: Findings) -> Result<(), NativeError> {
    let mut paths: BTreeMap<SafeBytes, (Loss, Duration)> = BTreeMap::new();
    for (path, loss, time) in findings.losses {
        let told = paths.entry(path).or_insert((loss, Duration::ZERO));
        told.0 = told.0.max(loss);
        told.1 = told.1.saturating_add(time);
    }
    for (path, (loss, time)) in paths.iter().take(LISTED) {
        let time = time.as_millis().max(1);
        match loss {
            // The agent cannot make a protected name again: it would be protected, and told as replaced.
            Loss::Gone => output::note(&format!(
                "{path} was removed on the host while the sandbox ran"
            )),
            Loss::Replaced => output::note(&format!(
                "{path} was replaced on the host while the sandbox ran, and was unprotected for at most {time} ms; look at it if that was not you"
            )),
            Loss::Written => output::warn(&format!(
                "{path} was replaced on the host while the sandbox ran, and may have been written to inside before it was protected again, at most {time} ms later; look at it before you use it"
            )),
            Loss::Changed => output::warn(&format!(
                "{path} was changed after it had been replaced on the host and was unprotected for at most {time} ms; look at it before you use it"
            )),
        }
    }
    if paths.len() > LISTED {
        let more = paths.len() - LISTED;
        output::warn(&format!(
            "and {more} other protected paths were replaced on the host"
        ));
    }
    findings.failure.map_or(Ok(()), Err)
}
