//! Datagrams per second: through the gateway, over host loopback, through pasta, through slirp4netns; both directions, two sizes.
//!
//! iperf3 sends without a limit, so what counts is what arrives.

use std::process::Command;

use anyhow::{Context, Result};

use super::{
    Setting,
    measure::{Bar, Better, Contestant, interleave, table},
    stream::{PORT, iperf3},
    world::{self, Peers, SERVER},
};

/// Payloads in bytes: like those of a game or a call, and those of QUIC.
const SIZES: [&str; 2] = ["200", "1200"];
/// A run takes seconds: more rounds than this say nothing new.
const MOST_ROUNDS: usize = 5;

pub(super) fn run(setting: &Setting) -> Result<()> {
    world::enter(setting, "udp", MOST_ROUNDS)
}

/// The measuring part, in the world.
pub(super) fn inside(setting: &Setting, peers: &Peers) -> Result<()> {
    // iperf3 talks about its measurement over TCP.
    let tcp = format!("{SERVER}:{PORT}");
    let udp = format!("{SERVER}:{PORT}/udp");
    let ways = peers.ways(setting, &[&tcp, &udp]);
    for size in SIZES {
        for (direction, reverse) in [
            ("out of the sandbox", None),
            ("into the sandbox", Some("--reverse")),
        ] {
            let mut flags = vec!["--udp", "--bitrate", "0", "--length", size];
            flags.extend(reverse);
            let mut contestants: Vec<_> = ways
                .iter()
                .map(|(name, way)| Contestant::new(*name, || thousands(way, &flags)))
                .collect();
            let samples = interleave(&mut contestants, setting.rounds)?;
            let bars = ["pasta", "slirp4netns"].map(|against| Bar {
                against,
                ratio: 1.0,
            });
            table(
                &format!("Datagrams of {size} bytes {direction}"),
                "1000/s",
                Better::Higher,
                &samples,
                &bars,
            );
        }
    }
    Ok(())
}

/// Thousands of datagrams that arrived, each second.
fn thousands(way: &Command, flags: &[&str]) -> Result<f64> {
    let report = iperf3(way, flags)?;
    let number = |name: &str| {
        let value = report.pointer(&format!("/end/sum/{name}"));
        value
            .and_then(serde_json::Value::as_f64)
            .with_context(|| format!("iperf3's report has no {name}"))
    };
    Ok((number("packets")? - number("lost_packets")?) / number("seconds")? / 1000.0)
}
