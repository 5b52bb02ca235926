//! Builds a sandbox's parts in a child process and reports which of them this kernel allows.
//!
//! The child gets new user, mount, pid and network namespaces, tries one step after the other as the native engine
//! would, and ends; everything it made ends with it. Must not touch the host's namespaces, leave a process, or need a
//! program.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use rcc_sys::netlink::router::{
    AgentLinkConfig, LinkAddresses, LinkV6, RouterConfig, configure_agent, configure_link,
    configure_rules, wait_until_up,
};
use rcc_sys::netlink::{NetfilterSocket, NetlinkError, RouteSocket};
use rcc_sys::process::{CloneFlags, Forked, clone_process, enter_new_network_namespace, exit_now};
use rcc_sys::socket::{IpFamilies, transparent_tcp_listener};
use rcc_sys::{SysError, describe_errno};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, WaitOptions, pidfd_send_signal, waitpid};

/// Longest time for the whole trial; it takes a few milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// A directory that exists wherever rcc can run, to mount something over.
const SITE: &str = "/proc";

/// One thing the child tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Map the caller's ids.
    Ids,
    /// Mount a file system in memory.
    Memory,
    /// Mount an overlay of two directories.
    Overlay,
    /// Mount the process file system of an own pid namespace.
    Processes,
    /// Create the rules of the router.
    Rules,
    /// Create the link between the two network namespaces.
    Link,
    /// Give the agent's end addresses and routes.
    Agent,
    /// Accept a connection to a foreign IPv4 address.
    ConnectV4,
    /// Accept a connection to a foreign IPv6 address.
    ConnectV6,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Ids,
        Self::Memory,
        Self::Overlay,
        Self::Processes,
        Self::Rules,
        Self::Link,
        Self::Agent,
        Self::ConnectV4,
        Self::ConnectV6,
    ];

    const fn code(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Memory => "memory",
            Self::Overlay => "overlay",
            Self::Processes => "processes",
            Self::Rules => "rules",
            Self::Link => "link",
            Self::Agent => "agent",
            Self::ConnectV4 => "connect4",
            Self::ConnectV6 => "connect6",
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// What the kernel answered, when it was the kernel.
    pub(super) errno: Option<Errno>,
    /// The same for people.
    pub(super) text: String,
}

impl From<SysError> for Failure {
    fn from(error: SysError) -> Self {
        Self {
            errno: Some(error.errno),
            text: error.to_string(),
        }
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        let errno = match &error {
            NetlinkError::Socket { source } | NetlinkError::Refused { source, .. } => {
                Some(source.errno)
            }
            NetlinkError::Unacknowledged { .. }
            | NetlinkError::Malformed { .. }
            | NetlinkError::Unusable { .. }
            | NetlinkError::LinkStaysDown { .. } => None,
        };
        let source = std::error::Error::source(&error);
        let cause = source
            .map(|source| format!(": {source}"))
            .unwrap_or_default();
        Self {
            errno,
            text: format!("{error}{cause}"),
        }
    }
}

/// How the trial went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trial {
    /// The child could not be made.
    NoChild(Failure),
    /// The outcome of the steps that were reported; a child that was killed reports fewer than there are.
    Steps(BTreeMap<Step, Result<(), Failure>>),
}

/// Runs the trial.
pub(super) fn run() -> Trial {
    let no_child =
        |call: &'static str| move |errno| Trial::NoChild(SysError::new(call, "", errno).into());
    let (reader, writer) = match pipe_with(PipeFlags::CLOEXEC).map_err(no_child("pipe2(2)")) {
        Ok(ends) => ends,
        Err(trial) => return trial,
    };
    let flags = CloneFlags::USER
        .and(CloneFlags::MOUNT)
        .and(CloneFlags::PID)
        .and(CloneFlags::NETWORK)
        .and(CloneFlags::IPC)
        .and(CloneFlags::UTS);
    // Read before the fork: inside, the effective ids are those of nobody.
    let ids = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    match clone_process(flags) {
        Err(error) => Trial::NoChild(error.into()),
        Ok(Forked::Child) => {
            drop(reader);
            let mut report = Report(File::from(writer));
            try_everything(&mut report, ids);
            exit_now(0)
        }
        Ok(Forked::Parent(pid, pidfd)) => {
            drop(writer);
            let text = read_until_end(reader);
            // The child has ended or takes too long; either way its work is of no more use.
            let _ = pidfd_send_signal(&pidfd, Signal::KILL);
            while matches!(waitpid(Some(pid), WaitOptions::empty()), Err(Errno::INTR)) {}
            Trial::Steps(parse(&text))
        }
    }
}

fn read_until_end(reader: OwnedFd) -> String {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut file = File::from(reader);
    let mut text = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(std::time::Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(&file, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => break,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => break,
        }
        let mut chunk = [0; 1024];
        match file.read(&mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.extend_from_slice(&chunk[..length]),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Lines of `code TAB errno TAB text`; errno 0 is success, -1 a failure that is not the kernel's.
fn parse(text: &str) -> BTreeMap<Step, Result<(), Failure>> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, '\t');
            let code = fields.next()?;
            let step = Step::ALL.into_iter().find(|step| step.code() == code)?;
            let errno: i32 = fields.next()?.parse().ok()?;
            let text = fields.next().unwrap_or_default().to_owned();
            let outcome = match errno {
                0 => Ok(()),
                1..4096 => Err(Failure {
                    errno: Some(Errno::from_raw_os_error(errno)),
                    text,
                }),
                _ => Err(Failure { errno: None, text }),
            };
            Some((step, outcome))
        })
        .collect()
}

/// The child's end of the pipe.
struct Report(File);

impl Report {
    /// Reports a step and passes its success on.
    fn step<T>(&mut self, step: Step, outcome: Result<T, Failure>) -> Option<T> {
        let (errno, text) = match &outcome {
            Ok(_) => (0, String::new()),
            Err(failure) => (
                failure.errno.map_or(-1, Errno::raw_os_error),
                failure.text.replace(['\n', '\t'], " "),
            ),
        };
        let _ = writeln!(self.0, "{}\t{errno}\t{text}", step.code());
        outcome.ok()
    }
}

fn failed(call: &'static str, on: &str) -> impl FnOnce(Errno) -> Failure {
    let on = on.to_owned();
    move |errno| SysError::new(call, on, errno).into()
}

fn try_everything(report: &mut Report, ids: (u32, u32)) {
    report.step(Step::Ids, map_ids(ids));
    try_network(report);
    // Last: from here on /proc is covered.
    if report.step(Step::Memory, mount_memory()).is_some() {
        report.step(Step::Overlay, mount_overlay());
        report.step(Step::Processes, mount_processes());
    }
}

fn map_ids((uid, gid): (u32, u32)) -> Result<(), Failure> {
    for (path, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("{uid} {uid} 1")),
        ("/proc/self/gid_map", format!("{gid} {gid} 1")),
    ] {
        let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(failed("open(2)", path))?;
        rustix::io::write(&file, text.as_bytes()).map_err(failed("write(2)", path))?;
    }
    Ok(())
}

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

fn mount_memory() -> Result<(), Failure> {
    mount("tmpfs", SITE, "tmpfs", PLAIN, None).map_err(failed("mount(2)", "tmpfs"))?;
    for name in ["lower", "upper", "work", "merged", "proc"] {
        let path = format!("{SITE}/{name}");
        rustix::fs::mkdir(&path, Mode::RWXU).map_err(failed("mkdir(2)", &path))?;
    }
    Ok(())
}

fn mount_overlay() -> Result<(), Failure> {
    // Extended attributes of the user namespace: the others belong to the host's root (since Linux 5.11).
    let options =
        format!("lowerdir={SITE}/lower,upperdir={SITE}/upper,workdir={SITE}/work,userxattr");
    let options = std::ffi::CString::new(options).map_err(|_| Failure {
        errno: Some(Errno::INVAL),
        text: "a path with a zero byte".to_owned(),
    })?;
    mount(
        "overlay",
        format!("{SITE}/merged"),
        "overlay",
        PLAIN,
        options.as_c_str(),
    )
    .map_err(failed("mount(2)", "overlay"))
}

fn mount_processes() -> Result<(), Failure> {
    mount(
        "proc",
        format!("{SITE}/proc"),
        "proc",
        PLAIN | MountFlags::NOEXEC,
        None,
    )
    .map_err(failed("mount(2)", "proc"))
}

/// The addresses of the trial's link; it exists for milliseconds and is seen by nobody.
fn addresses(families: IpFamilies) -> LinkAddresses {
    use rcc_plan::network as link;
    LinkAddresses {
        agent: link::AGENT_V4,
        router: link::ROUTER_V4,
        prefix: link::LINK_V4_PREFIX,
        v6: (families == IpFamilies::Both).then_some(LinkV6 {
            agent: link::AGENT_V6,
            router: link::ROUTER_V6,
            prefix: link::LINK_V6_PREFIX,
        }),
    }
}

/// Destinations of the trial connections (RFC 5737, RFC 3849); nothing leaves the two namespaces.
const WANTED_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const WANTED_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));
const WANTED_PORT: u16 = 443;

/// The child starts in what becomes the agent's namespace, keeps what it needs from there, and moves to the router's.
fn try_network(report: &mut Report) {
    let families = if std::fs::symlink_metadata("/proc/self/net/if_inet6").is_ok() {
        IpFamilies::Both
    } else {
        IpFamilies::V4Only
    };
    let sides = open_agent_side(families).and_then(|agent| Ok((agent, open_router_side()?)));
    let (agent, router) = match sides {
        Ok(sides) => sides,
        Err(failure) => {
            report.step::<()>(Step::Link, Err(failure));
            return;
        }
    };
    let config = RouterConfig {
        router_interface: rcc_plan::network::ROUTER_INTERFACE,
        agent_interface: rcc_plan::network::AGENT_INTERFACE,
        agent_namespace: agent.namespace.as_fd(),
        mtu: rcc_plan::network::LINK_MTU,
        addresses: addresses(families),
        tproxy_port: rcc_plan::network::TPROXY_PORT,
    };
    // Reported apart, because what is missing differs: nf_tables here, veth there.
    let rules = configure_rules(&router.netfilter, config.tproxy_port);
    let rules = report.step(Step::Rules, rules.map_err(Failure::from));
    let link = configure_link(&router.route, &config);
    if report
        .step(Step::Link, link.map_err(Failure::from))
        .is_none()
    {
        return;
    }
    let addresses = config.addresses;
    let end = configure_agent(&agent.route, &AgentLinkConfig { addresses })
        .and_then(|()| wait_until_up(&router.route));
    let end = report.step(Step::Agent, end.map_err(Failure::from));
    if end.is_none() || rules.is_none() {
        return;
    }
    let listener = transparent_tcp_listener(config.tproxy_port, families).map_err(Failure::from);
    for (step, wanted, client) in agent.clients {
        let outcome = match &listener {
            Ok(listener) => connect(&client, listener, wanted),
            Err(failure) => Err(failure.clone()),
        };
        report.step(step, outcome);
    }
}

struct AgentSide {
    namespace: OwnedFd,
    route: RouteSocket,
    clients: Vec<(Step, SocketAddr, OwnedFd)>,
}

struct RouterSide {
    route: RouteSocket,
    netfilter: NetfilterSocket,
}

fn open_router_side() -> Result<RouterSide, Failure> {
    enter_new_network_namespace()?;
    Ok(RouterSide {
        route: RouteSocket::open()?,
        netfilter: NetfilterSocket::open()?,
    })
}

fn open_agent_side(families: IpFamilies) -> Result<AgentSide, Failure> {
    let path = "/proc/self/ns/net";
    let namespace = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(failed("open(2)", path))?;
    let route = RouteSocket::open()?;
    let mut clients = Vec::new();
    for (step, family, wanted) in [
        (Step::ConnectV4, AddressFamily::INET, WANTED_V4),
        (Step::ConnectV6, AddressFamily::INET6, WANTED_V6),
    ] {
        if family == AddressFamily::INET6 && families == IpFamilies::V4Only {
            continue;
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)
            .map_err(failed("socket(2)", "TCP"))?;
        clients.push((step, SocketAddr::new(wanted, WANTED_PORT), socket));
    }
    Ok(AgentSide {
        namespace,
        route,
        clients,
    })
}

fn connect(client: &OwnedFd, listener: &OwnedFd, wanted: SocketAddr) -> Result<(), Failure> {
    const WAIT: Timespec = Timespec {
        tv_sec: 2,
        tv_nsec: 0,
    };
    match rustix::net::connect(client, &wanted) {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(failed("connect(2)", &wanted.to_string())(errno)),
    }
    let ready = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&WAIT))
        .map_err(failed("poll(2)", "the listener"))?;
    if ready == 0 {
        return Err(Failure {
            errno: None,
            text: format!("a connection to {wanted} did not reach the listener"),
        });
    }
    let accepted = rustix::net::accept(listener).map_err(failed("accept(2)", "the listener"))?;
    let local = rustix::net::getsockname(&accepted).map_err(failed("getsockname(2)", ""))?;
    let local = SocketAddr::try_from(local).map_err(failed("getsockname(2)", ""))?;
    let local = SocketAddr::new(local.ip().to_canonical(), local.port());
    if local == wanted {
        Ok(())
    } else {
        Err(Failure {
            errno: None,
            text: format!("a connection to {wanted} arrived as one to {local}"),
        })
    }
}

/// Describes an errno without a call, for messages of other modules.
pub(super) fn describe(failure: &Failure) -> String {
    match failure.errno {
        Some(errno) if failure.text.is_empty() => describe_errno(errno),
        _ => failure.text.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_back_and_noise_is_skipped() {
        let text = "ids\t0\t\noverlay\t1\tmount(2) on overlay: x\nconnect4\t-1\tdid not arrive\nnoise\nlink\tx\ty\n";
        let steps = parse(text);
        assert_eq!(steps.len(), 3);
        assert_eq!(steps[&Step::Ids], Ok(()));
        let failure = steps[&Step::Overlay].clone().unwrap_err();
        assert_eq!(failure.errno, Some(Errno::PERM));
        assert_eq!(failure.text, "mount(2) on overlay: x");
        assert_eq!(steps[&Step::ConnectV4].clone().unwrap_err().errno, None);
    }

    #[test]
    fn every_step_has_its_own_code() {
        let codes: std::collections::BTreeSet<_> =
            Step::ALL.iter().map(|step| step.code()).collect();
        assert_eq!(codes.len(), Step::ALL.len());
    }
}
