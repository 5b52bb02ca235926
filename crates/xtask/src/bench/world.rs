//! The world of the network benches: a "host" in namespaces of its own, and the ways from a sandbox to its server.
//!
//! The host's loopback carries a public-looking address for servers, and a link leads nowhere, because pasta wants an
//! interface with a default route to copy. All contestants talk to the same server, so only the way to it differs.
//! Nothing is sent outside: the namespaces have no way out, and end with the bench.

use std::{
    fs,
    io::Read,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{Setting, connections, datagrams, stream};
use crate::process;

/// Address of the server (RFC 5737, TEST-NET-3).
pub(super) const SERVER: &str = "203.0.113.10";
/// Its name.
pub(super) const NAME: &str = "server.example.com";
/// The word by which the bench starts itself again inside the namespaces.
pub(crate) const INSIDE: &str = "bench-inside";
/// How long any part may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// A bench that runs in the world.
struct Part {
    name: &'static str,
    tools: &'static [&'static str],
    run: fn(&Setting, &Peers) -> Result<()>,
}

const PARTS: &[Part] = &[
    Part {
        name: "tcp",
        tools: &["iperf3"],
        run: stream::inside,
    },
    Part {
        name: "udp",
        tools: &["iperf3"],
        run: datagrams::inside,
    },
    Part {
        name: "connections",
        tools: &[],
        run: connections::inside,
    },
];

/// Starts this program again in a world of its own, for the part of that name.
pub(super) fn enter(setting: &Setting, part: &str, most_rounds: usize) -> Result<()> {
    let part = find(part)?;
    for tool in ["unshare", "ip", "mount"].iter().chain(part.tools) {
        if process::find_program(tool).is_none() {
            println!("\nnot measured: {} ({tool} is not installed)", part.name);
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
        .args([INSIDE, part.name])
        .arg(&setting.rcc)
        .arg(&setting.scratch)
        .arg(setting.rounds.min(most_rounds).to_string());
    if !process::passes(&mut command)? {
        bail!("the measuring part failed");
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static Part> {
    let part = PARTS.iter().find(|part| part.name == name);
    part.with_context(|| format!("no part is called {name}"))
}

/// The measuring part, inside the namespaces. Arguments: part, rcc, scratch directory, rounds.
pub(crate) fn inside(arguments: &[String]) -> Result<ExitCode> {
    let [part, rcc, scratch, rounds] = arguments else {
        bail!("{INSIDE} is started by the bench itself")
    };
    let setting = Setting {
        rcc: rcc.into(),
        scratch: scratch.into(),
        rounds: rounds.parse()?,
    };
    make_world(&setting)?;
    (find(part)?.run)(&setting, &Peers::find())?;
    Ok(ExitCode::SUCCESS)
}

fn make_world(setting: &Setting) -> Result<()> {
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
    let hosts = setting.scratch.join("hosts");
    fs::write(&hosts, format!("127.0.0.1 localhost\n{SERVER} {NAME}\n"))
        .with_context(|| format!("cannot write {}", hosts.display()))?;
    let mut command = Command::new("mount");
    command.arg("--bind").arg(&hosts).arg("/etc/hosts");
    if !process::passes(&mut command)? {
        bail!("`{}` failed", process::describe(&command));
    }
    Ok(())
}

/// What rcc is compared with, as far as it is there.
pub(super) struct Peers {
    slirp: Option<Slirp>,
    pasta: bool,
}

impl Peers {
    fn find() -> Self {
        Self {
            slirp: Slirp::start()
                .map_err(|error| println!("\nnot measured: slirp4netns ({error:#})"))
                .ok(),
            pasta: usable_pasta()
                .map_err(|error| println!("\nnot measured: pasta ({error:#})"))
                .is_ok(),
        }
    }

    /// Ways to the server by name of contestant, as the beginning of a command line. The first is rcc's, in allowlist mode.
    pub(super) fn ways(&self, setting: &Setting, rules: &[&str]) -> Vec<(&'static str, Command)> {
        let mut ways = vec![
            ("rcc run, allowlist", through_rcc(setting, rules)),
            ("host loopback", Command::new("env")),
        ];
        if self.pasta {
            ways.push(("pasta", through_pasta()));
        }
        if let Some(slirp) = &self.slirp {
            ways.push(("slirp4netns", slirp.command()));
        }
        ways
    }
}

/// The way as a whole command, which ends after 30 seconds.
pub(super) fn along(way: &Command, arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command
        .arg("30")
        .arg(way.get_program())
        .args(way.get_args())
        .args(arguments);
    if let Some(directory) = way.get_current_dir() {
        command.current_dir(directory);
    }
    for (name, value) in way.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// What the command printed; an error with its words when it failed.
pub(super) fn printed(command: &mut Command) -> Result<Vec<u8>> {
    let output = process::capture(command)?;
    if !output.status.success() {
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        bail!(
            "`{}`: {}\n{}{}",
            process::describe(command),
            output.status,
            out.trim(),
            err.trim()
        );
    }
    Ok(output.stdout)
}

fn through_rcc(setting: &Setting, rules: &[&str]) -> Command {
    let own = std::env::current_exe().unwrap_or_default();
    let mut command = setting.rcc(&["--network", "allowlist", "--ro"]);
    command.arg(own);
    for rule in rules {
        command.args(["--allow", rule]);
    }
    command.args(["run", "--"]);
    command
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

pub(super) fn wait_until(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        if start.elapsed() > PATIENCE {
            bail!("{what} was not ready within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
