//! How long it takes to start and end a sandbox around `true`.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Result, bail};

use super::{
    Setting,
    measure::{Bar, Better, Contestant, interleave, table},
};
use crate::process;

/// rcc with everything on, against bubblewrap with every namespace and nothing else.
pub(super) fn run(setting: &Setting) -> Result<()> {
    let filtered = [
        "--network",
        "allowlist",
        "--allow",
        "example.com",
        "run",
        "--",
        "true",
    ];
    let mut contestants = vec![
        Contestant::new("rcc run, allowlist", || {
            milliseconds(setting.rcc(&filtered))
        }),
        Contestant::new("rcc run, no network", || {
            milliseconds(setting.rcc(&["-n", "run", "--", "true"]))
        }),
    ];
    if process::find_program("bwrap").is_some() {
        let words = [
            "--unshare-all",
            "--ro-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--dev",
            "/dev",
            "true",
        ];
        contestants.push(Contestant::new("bwrap --unshare-all", move || {
            let mut command = Command::new("bwrap");
            command.args(words);
            milliseconds(command)
        }));
    }
    contestants.push(Contestant::new("true", || {
        milliseconds(Command::new("true"))
    }));
    let samples = interleave(&mut contestants, setting.rounds)?;
    let bars = [Bar {
        against: "bwrap --unshare-all",
        ratio: 1.0,
    }];
    table(
        "Start and end of `true`",
        "ms",
        Better::Lower,
        &samples,
        &bars,
    );
    Ok(())
}

fn milliseconds(mut command: Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let passed = process::passes(&mut command)?;
    let elapsed = start.elapsed();
    if !passed {
        bail!("`{}` failed", process::describe(&command));
    }
    Ok(elapsed.as_secs_f64() * 1000.0)
}
