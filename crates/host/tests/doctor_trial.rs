//! The doctor against a real kernel: what works here is found to work, and a forbidden user namespace is found out.
//!
//! No libtest harness: the trial forks, and a process that forks must have one thread.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a test, outside the functions that Clippy knows as tests"
)]

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use rcc_host::doctor::{Finding, Need, Status, examine, usable};

const INSIDE: &str = "RCC_TEST_DOCTOR_INSIDE";

fn main() {
    if std::env::var_os(INSIDE).is_some() {
        forbidden();
        return;
    }
    println!("running 2 tests");
    if rcc_testkit::require("userns") {
        works();
        forbidden_by_the_limit();
    }
    println!("test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

fn find<'a>(findings: &'a [Finding], name: &str) -> &'a Finding {
    findings
        .iter()
        .find(|finding| finding.name == name)
        .expect("the check was made")
}

/// Positive control of everything else: this host runs sandboxes.
fn works() {
    let findings = examine(&BTreeMap::new());
    for finding in &findings {
        println!("{:?} {}: {}", finding.status, finding.name, finding.detail);
        if finding.need == Need::Required {
            assert_eq!(finding.status, Status::Ok, "{finding:#?}");
        }
    }
    assert!(usable(&findings));
    println!("test works ... ok");
}

fn forbidden_by_the_limit() {
    let script = "echo 0 >/proc/sys/user/max_user_namespaces && exec \"$0\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(std::env::current_exe().expect("the path of this test"))
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("unshare(1) can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("inside"),
        "{text}{errors}"
    );
    println!("test forbidden_by_the_limit ... ok");
}

/// Runs where no further user namespace may be made.
fn forbidden() {
    println!("inside");
    let findings = examine(&BTreeMap::new());
    let finding = find(&findings, "user namespaces");
    assert_eq!(finding.status, Status::Missing);
    assert_eq!(
        finding.detail,
        "clone3(2): No space left on device (ENOSPC)"
    );
    let fix = finding.fix.as_ref().expect("a known fix");
    assert_eq!(
        fix.text.split(';').next(),
        Some("user namespaces are switched off")
    );
    assert!(!usable(&findings));
}
