//! One TCP stream: through the gateway, over host loopback, through pasta, through slirp4netns; both directions.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::{
    Setting,
    measure::{Bar, Better, Contestant, interleave, table},
    world::{self, Peers, SERVER, along, printed, wait_until},
};

/// Port of the server.
pub(super) const PORT: u16 = 5201;
/// Length of one measured stream, in seconds.
const SECONDS: &str = "2";
/// A stream takes seconds: more rounds than this say nothing new.
const MOST_ROUNDS: usize = 5;

pub(super) fn run(setting: &Setting) -> Result<()> {
    world::enter(setting, "tcp", MOST_ROUNDS)
}

/// The measuring part, in the world.
pub(super) fn inside(setting: &Setting, peers: &Peers) -> Result<()> {
    for (direction, flags) in [
        ("out of the sandbox", &[][..]),
        ("into the sandbox", &["--reverse"][..]),
    ] {
        let ways = peers.ways(setting, &[&format!("{SERVER}:{PORT}")]);
        let mut contestants: Vec<_> = ways
            .iter()
            .map(|(name, way)| Contestant::new(*name, || gigabits(way, flags)))
            .collect();
        let samples = interleave(&mut contestants, setting.rounds)?;
        let bars = [
            Bar {
                against: "host loopback",
                ratio: 0.6,
            },
            Bar {
                against: "pasta",
                ratio: 1.5,
            },
            Bar {
                against: "slirp4netns",
                ratio: 2.0,
            },
        ];
        table(
            &format!("One TCP stream {direction}"),
            "Gbit/s",
            Better::Higher,
            &samples,
            &bars,
        );
    }
    Ok(())
}

/// One stream.
fn gigabits(way: &Command, flags: &[&str]) -> Result<f64> {
    let report = iperf3(way, flags)?;
    let bits = report
        .pointer("/end/sum_received/bits_per_second")
        .and_then(serde_json::Value::as_f64);
    Ok(bits.context("iperf3's report has no sum")? / 1e9)
}

/// The report of the client of a fresh server.
pub(super) fn iperf3(way: &Command, flags: &[&str]) -> Result<serde_json::Value> {
    let port = PORT.to_string();
    let mut server = Command::new("iperf3")
        .args(["--server", "--one-off", "--port", &port])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the server")?;
    let client = [
        "iperf3", "--client", SERVER, "--port", &port, "--time", SECONDS, "--json",
    ];
    let mut command = along(way, &[&client, flags].concat());
    let outcome = wait_until("the server", listening).and_then(|()| printed(&mut command));
    let _ = server.kill();
    server.wait().context("cannot wait for the server")?;
    serde_json::from_slice(&outcome?).context("cannot read iperf3's report")
}

/// True when something listens on the port in this namespace (state 0A in `/proc/net/tcp`, see proc_net_tcp(5)).
fn listening() -> bool {
    let suffix = format!(":{PORT:04X}");
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .iter()
        .any(|path| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .lines()
                .any(|line| {
                    let mut words = line.split_whitespace().skip(1);
                    words.next().is_some_and(|local| local.ends_with(&suffix))
                        && words.nth(1) == Some("0A")
                })
        })
}
