//! Skipping a test: only here, always printed, always counted, and a failure where the feature was promised.
//!
//! Must not decide by itself that a test passes: callers return early after a `false`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};

use crate::binaries::system_tool;

/// Names a file to which every skip appends one line, so that a gate can count over all test processes.
pub const SKIP_LOG_VARIABLE: &str = "RCC_TEST_SKIP_LOG";

/// Lists the features (separated by commas, or `all`) whose absence is a failure instead of a skip.
const REQUIRE_VARIABLE: &str = "RCC_TEST_REQUIRE";

static SKIPPED: AtomicU32 = AtomicU32::new(0);

/// Says how many times [`require`] has answered `false` in this process.
#[must_use]
pub fn skipped() -> u32 {
    SKIPPED.load(Ordering::Relaxed)
}

/// Says whether this machine has `feature`: a program on the search path, or one of the words below.
///
/// Words: `root` (effective uid 0), `not-root`, `userns` (an unprivileged user namespace with its own network,
/// mount and process namespaces can be made), `unprivileged-user` (root can become uid 65534 and may do the above).
///
/// A missing feature prints one line and is counted; the test then returns.
///
/// # Panics
/// When `RCC_TEST_REQUIRE` names the feature, or says `all`, and it is missing.
#[must_use]
pub fn require(feature: &str) -> bool {
    require_that(feature, present(feature))
}

/// Like [`require`], for a feature that only the test itself knows how to look for.
///
/// # Panics
/// When `RCC_TEST_REQUIRE` names the feature, or says `all`, and it is missing.
#[must_use]
pub fn require_that(feature: &str, is_present: bool) -> bool {
    if is_present {
        return true;
    }
    let demanded = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
    assert!(
        !is_demanded(feature, &demanded),
        "{REQUIRE_VARIABLE} demands `{feature}`, which this machine does not have"
    );
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    let test = std::thread::current()
        .name()
        .unwrap_or("unnamed test")
        .to_owned();
    record(&format!(
        "SKIPPED {test}: `{feature}` is missing ({number} skips in this process)\n"
    ));
    false
}

/// Counts and prints the skips of another process that this one has started.
pub(crate) fn repeat_skips(lines: &str) {
    for line in lines.lines() {
        SKIPPED.fetch_add(1, Ordering::Relaxed);
        record(&format!("{line} (as an ordinary user)\n"));
    }
}

fn record(line: &str) {
    // The handle, not the macro: the test harness swallows what the macros print.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIP_LOG_VARIABLE) {
        let mut log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .expect("the skip log named by the environment can be opened");
        log.write_all(line.as_bytes())
            .expect("the skip log named by the environment can be written");
    }
}

/// Says whether a list such as `userns,landlock:6` names the feature; the part after a colon is a version.
fn is_demanded(feature: &str, list: &str) -> bool {
    list.split(',')
        .map(|word| word.split(':').next().unwrap_or(word).trim())
        .any(|word| word == feature || word == "all")
}

/// Looks a feature up once per process.
fn present(feature: &str) -> bool {
    static KNOWN: OnceLock<Mutex<BTreeMap<String, bool>>> = OnceLock::new();
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .expect("no holder of this lock panics");
    if let Some(answer) = known.get(feature) {
        return *answer;
    }
    let is_root = rustix::process::geteuid().is_root();
    let answer = match feature {
        "root" => is_root,
        "not-root" => !is_root,
        "userns" => can_make_world(&[]),
        "unprivileged-user" => {
            is_root
                && can_make_world(&[
                    "setpriv",
                    "--reuid=65534",
                    "--regid=65534",
                    "--clear-groups",
                    "--inh-caps=-all",
                    "--",
                ])
        }
        program => system_tool(program).is_some(),
    };
    known.insert(feature.to_owned(), answer);
    answer
}

/// Tries the very thing that a world needs, in a child that does nothing else.
fn can_make_world(prefix: &[&str]) -> bool {
    let trial = [
        "unshare",
        "--user",
        "--map-root-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "true",
    ];
    let words: Vec<&str> = prefix.iter().chain(trial.iter()).copied().collect();
    std::process::Command::new(words[0])
        .args(&words[1..])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_there_is_not_skipped() {
        assert!(require("sh"));
    }

    #[test]
    fn a_missing_program_is_missing() {
        assert!(!present("no-such-program-anywhere"));
    }

    #[test]
    fn features_are_demanded_by_name_by_version_and_by_all() {
        assert!(is_demanded("dnsmasq", "userns,dnsmasq"));
        assert!(is_demanded("landlock", "landlock:6"));
        assert!(is_demanded("anything", "all"));
        assert!(!is_demanded("dnsmasq", "userns,dnsmasq-base"));
        assert!(!is_demanded("dnsmasq", ""));
    }
}
