//! Times the gathering of facts for one run in the current directory: `cargo run --release -p rcc-host --example facts_timing`.
//!
//! The budget is 300 microseconds for an ordinary caller; a root caller pays for looking at every file of `/etc`.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::Write as _;
use std::time::{Duration, Instant};

use rcc_host::{Directories, Question, account, discover, gather};

const ROUNDS: usize = 200;

fn main() -> Result<(), Box<dyn Error>> {
    let environment: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let account = account(std::env::var_os("HOME").as_deref())?;
        let directories = Directories::from_environment(&environment, &account.home);
        let at_account = Instant::now();
        let project = discover(None, &account, &directories)?;
        let at_project = Instant::now();
        let facts = gather(Question {
            agent_home: directories.agent_home("timing"),
            account,
            project: &project,
            environment: environment.clone(),
            protected: &[],
            named: &[],
            writable: &[],
            toolchains: Vec::new(),
        })?;
        let end = Instant::now();
        drop(facts);
        for (times, time) in times.iter_mut().zip([
            at_account - start,
            at_project - at_account,
            end - at_project,
        ]) {
            times.push(time);
        }
    }
    let mut out = std::io::stdout().lock();
    for (name, times) in ["account", "project", "facts"].iter().zip(&mut times) {
        times.sort_unstable();
        let median = times.get(ROUNDS / 2).copied().unwrap_or(Duration::ZERO);
        let best = times.first().copied().unwrap_or(Duration::ZERO);
        writeln!(
            out,
            "{name:8} median {:4} us, best {:4} us",
            median.as_micros(),
            best.as_micros()
        )?;
    }
    Ok(())
}
