//! One TCP stream: through the gateway, over host loopback, through pasta, through slirp4netns; both directions.
//!
//! The world is made here, in namespaces that end with the bench: a "host" whose loopback carries a public-looking
//! address with an iperf3 server on it, and a link that leads nowhere, because pasta wants an interface with a default
//! route to copy. All contestants talk to the same server at the same address, so only the way to it differs.
//!
//! Nothing is sent outside: the namespace has no way out.

use std::{
    fs,
    io::Read,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    Setting,
    measure::{Bar, Better, Contestant, interleave, table},
};
use crate::process;

/// Address of the server (RFC 5737, TEST-NET-3).
const SERVER: &str = "203.0.113.10";
/// The word by which the bench starts itself again inside the namespaces.
pub(crate) const INSIDE: &str = "bench-tcp-inside";
/// Port of the server.
const PORT: u16 = 5201;
/// Length of one measured stream, in seconds.
const SECONDS: &str = "2";
/// A stream takes seconds: more rounds than this say nothing new.
const MOST_ROUNDS: usize = 5;
/// How long any part may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Starts this program again in a world of its own.
pub(super) fn run(setting: &Setting) -> Result<()> {
    for tool in ["unshare", "ip", "iperf3"] {
        if process::find_program(tool).is_none() {
            println!("\nnot measured: one TCP stream ({tool} is not installed)");
            return Ok(());
        }
    }
    let own = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ])
        .arg(own)
        .arg(INSIDE)
        .arg(&setting.rcc)
        .arg(&setting.scratch)
        .arg(setting.rounds.min(MOST_ROUNDS).to_string());
    if !process::passes(&mut command)? {
        bail!("the measuring part failed");
    }
    Ok(())
}

/// The measuring part, inside the namespaces. Arguments: rcc, scratch directory, rounds.
pub(crate) fn inside(arguments: &[String]) -> Result<ExitCode> {
    let [rcc, scratch, rounds] = arguments else {
        bail!("{INSIDE} is started by the bench itself")
    };
    let setting = Setting {
        rcc: rcc.into(),
        scratch: scratch.into(),
        rounds: rounds.parse()?,
    };
    make_world()?;
    let slirp = Slirp::start()
        .map_err(|error| println!("\nnot measured: slirp4netns ({error:#})"))
        .ok();
    let pasta = usable_pasta()
        .map_err(|error| println!("\nnot measured: pasta ({error:#})"))
        .is_ok();
    for (direction, flags) in [
        ("out of the sandbox", &[][..]),
        ("into the sandbox", &["--reverse"][..]),
    ] {
        let mut contestants = vec![
            Contestant::new("rcc run, allowlist", || {
                gigabits(through_rcc(&setting), flags)
            }),
            Contestant::new("host loopback", || gigabits(Command::new("env"), flags)),
        ];
        if pasta {
            contestants.push(Contestant::new("pasta", || {
                gigabits(through_pasta(), flags)
            }));
        }
        if let Some(slirp) = &slirp {
            contestants.push(Contestant::new("slirp4netns", || {
                gigabits(slirp.command(), flags)
            }));
        }
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
    Ok(ExitCode::SUCCESS)
}

fn make_world() -> Result<()> {
    let server = format!("{SERVER}/32");
    for line in [
        "link set lo up",
        &format!("address add {server} dev lo"),
        "link add out0 type veth peer name out1",
        "link set out0 up",
        "link set out1 up",
        "address add 198.51.100.2/24 dev out0",
        "route add default via 198.51.100.1",
    ] {
        let mut command = Command::new("ip");
        command.args(line.split(' '));
        if !process::passes(&mut command)? {
            bail!("`{}` failed", process::describe(&command));
        }
    }
    Ok(())
}

fn through_rcc(setting: &Setting) -> Command {
    setting.rcc(&[
        "--network",
        "allowlist",
        "--allow",
        &format!("{SERVER}:{PORT}"),
        "run",
        "--",
    ])
}

/// An own address for the inside: by default pasta gives it the host's, and the server's would be local.
fn through_pasta() -> Command {
    let mut command = Command::new("pasta");
    command.args(["--config-net", "--interface", "out0", "--ipv4-only"]);
    command.args([
        "--address",
        "10.0.2.15",
        "--netmask",
        "24",
        "--gateway",
        "10.0.2.2",
        "--",
    ]);
    command
}

/// Tries pasta once: old builds hang where something is missing.
fn usable_pasta() -> Result<()> {
    tun_device()?;
    let mut trial = Command::new("timeout");
    trial
        .arg("5")
        .arg(through_pasta().get_program())
        .args(through_pasta().get_args())
        .arg("true");
    let output = process::capture(&mut trial)?;
    if !output.status.success() {
        bail!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}

fn tun_device() -> Result<()> {
    let path = "/dev/net/tun";
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map(drop)
        .with_context(|| format!("cannot open {path}"))
}

/// A namespace with slirp4netns as its network.
struct Slirp {
    holder: Child,
    network: Child,
}

impl Slirp {
    fn start() -> Result<Self> {
        tun_device()?;
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "sleep", "infinity"])
            .spawn()
            .context("cannot start unshare")?;
        let own = fs::read_link("/proc/self/ns/net").context("cannot read the own namespace")?;
        let theirs = format!("/proc/{}/ns/net", holder.id());
        wait_until("the namespace", || {
            fs::read_link(&theirs).is_ok_and(|name| name != own)
        })?;
        let network = Command::new("slirp4netns")
            .args([
                "--configure",
                "--mtu=65520",
                "--ready-fd=1",
                &holder.id().to_string(),
                "tap0",
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start slirp4netns");
        let mut network = match network {
            Ok(network) => network,
            Err(error) => {
                let _ = holder.kill();
                return Err(error);
            }
        };
        let mut ready = [0];
        let told = network
            .stdout
            .take()
            .is_some_and(|mut output| output.read_exact(&mut ready).is_ok());
        let slirp = Self { holder, network };
        if !told {
            bail!("it did not become ready");
        }
        Ok(slirp)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--user",
            "--net",
            "--preserve-credentials",
            "--target",
            &self.holder.id().to_string(),
        ]);
        command
    }
}

impl Drop for Slirp {
    fn drop(&mut self) {
        for child in [&mut self.network, &mut self.holder] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One stream: a fresh server, then the client as the rest of the prefix's command line.
fn gigabits(prefix: Command, flags: &[&str]) -> Result<f64> {
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
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(prefix.get_program())
        .args(prefix.get_args())
        .args(client)
        .args(flags);
    if let Some(directory) = prefix.get_current_dir() {
        command.current_dir(directory);
    }
    for (name, value) in prefix.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let outcome = wait_until("the server", listening).and_then(|()| process::capture(&mut command));
    let _ = server.kill();
    server.wait().context("cannot wait for the server")?;
    let output = outcome?;
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!(
            "`{}`: {}\n{}{}",
            process::describe(&command),
            output.status,
            out.trim(),
            err.trim()
        );
    }
    let report: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("cannot read iperf3's report")?;
    let bits = report
        .pointer("/end/sum_received/bits_per_second")
        .and_then(serde_json::Value::as_f64);
    Ok(bits.context("iperf3's report has no sum")? / 1e9)
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

fn wait_until(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > PATIENCE {
            bail!("{what} was not ready within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
