//! The netns helper: builds both network namespaces from user namespace U and hands the listeners out.
//!
//! Should: (1) tie its life to the supervisor's, (2) map its ids, (3) start pid 1 and wait for its network namespace,
//! (4) make the router namespace, hear whether there is to be a network, open the listeners, (5) configure the agent's
//! end and wait for the link, (6) report and end, or, for published ports, (7) stay and make sockets.
//! Mustn't: keep a descriptor; serve anything but `agent_sockets`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rcc_plan::network;
use rcc_sys::netlink::router::{
    AgentLinkConfig, LinkAddresses, LinkV6, RouterConfig, configure_agent, configure_link,
    configure_rules, lift_icmp_limits, wait_until_up,
};
use rcc_sys::netlink::{NetfilterSocket, NetlinkError, RouteSocket};
use rcc_sys::process::{CloneFlags, Forked, clone_process, enter_new_network_namespace, exit_now};
use rcc_sys::socket::{
    IpFamilies, raw_sender_v4, raw_sender_v6, transparent_tcp_listener, transparent_udp_socket,
};
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::agent_sockets;
use crate::error::NativeError;
use crate::error::{on_step, on_step_call};
use crate::launch::{Expected, INIT};
use crate::protocol::{Control, Message};
use crate::stage_start::{AGENT_NAMESPACES, Stage};

/// Port of the resolver.
const DNS_PORT: u16 = 53;

/// The helper's whole life; returns its exit code.
pub(crate) fn main(control: &Control, stage: Stage, expected: Expected) -> i32 {
    match run(control, stage, expected) {
        Ok(()) => 0,
        Err(error) => {
            let _ = control.send(
                &Message::Failed {
                    chain: error.chain(),
                    hint: error.hint(),
                },
                &[],
            );
            125
        }
    }
}

fn refused(step: &'static str) -> impl FnOnce(NetlinkError) -> NativeError {
    move |source| NativeError::Network { step, source }
}

/// What the supervisor wants; `None` when that is no network, or when there is no run at all.
fn wanted(control: &Control) -> Result<Option<Wanted>, NativeError> {
    let told = control
        .receive()
        .map_err(on_step("hear from the supervisor"))?;
    Ok(match told {
        Some((Message::BuildNetwork { ipv6, link, stay }, _)) => Some(Wanted { ipv6, link, stay }),
        _ => None,
    })
}

/// As in [`Message::BuildNetwork`].
struct Wanted {
    ipv6: bool,
    link: bool,
    stay: bool,
}

fn run(control: &Control, mut stage: Stage, expected: Expected) -> Result<(), NativeError> {
    // 1. Should the supervisor have died before this line, step 6 fails and the helper ends too.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(on_step_call(
        "tie the netns helper's life to the supervisor",
        "prctl(2)",
    ))?;
    // 2.
    stage.map_own_identity()?;
    // 3. pid 1 has the longer way to go, so it comes first where processors are few: this process waits until its network
    // namespace is made, and builds the network while pid 1 builds its tree.
    let (from_init, to_helper) =
        Control::pair().map_err(on_step("make the connection to pid 1"))?;
    stage.helper = Some(to_helper);
    match clone_process(CloneFlags::PARENT.and(AGENT_NAMESPACES)).map_err(on_step("start pid 1"))? {
        Forked::Child => exit_now(stage.execute()),
        Forked::Parent(_, pidfd) => {
            control
                .send(&Message::InitStarted, &[pidfd.as_fd()])
                .map_err(on_step("report to the supervisor"))?;
        }
    }
    drop(stage);
    let agent_namespace = agent_namespace(&from_init)?;
    // 4. As far as possible while the supervisor still plans.
    let mut told = None;
    if expected == Expected::NoNetwork {
        told = wanted(control)?;
        if told.is_none() {
            return Ok(());
        }
    }
    enter_new_network_namespace().map_err(on_step("make the router namespace"))?;
    let step = "build the router namespace";
    let route = RouteSocket::open().map_err(refused(step))?;
    let netfilter = NetfilterSocket::open().map_err(refused(step))?;
    configure_rules(&netfilter, network::TPROXY_PORT).map_err(refused(step))?;
    if told.is_none() {
        told = wanted(control)?;
    }
    // No network: the namespaces made here vanish with this process.
    let Some(Wanted { ipv6, link, stay }) = told else {
        return Ok(());
    };
    let families = if ipv6 {
        IpFamilies::Both
    } else {
        IpFamilies::V4Only
    };
    let tcp = transparent_tcp_listener(network::TPROXY_PORT, families)
        .map_err(on_step("open the gateway's TCP listener"))?;
    let dns = transparent_udp_socket(DNS_PORT, families)
        .map_err(on_step("open the gateway's DNS socket"))?;
    let udp = transparent_udp_socket(network::TPROXY_PORT, families)
        .map_err(on_step("open the gateway's UDP socket"))?;
    // Right to send in any name is checked when they are made; whoever holds them later needs none.
    let raw_v4 = raw_sender_v4().map_err(on_step("open the gateway's sender for IPv4"))?;
    let raw_v6 = match families {
        IpFamilies::Both => {
            Some(raw_sender_v6().map_err(on_step("open the gateway's sender for IPv6"))?)
        }
        IpFamilies::V4Only => None,
    };
    // Where /proc/sys is read-only the kernel keeps its limits: refusals are then less prompt, not less strict.
    let _ = lift_icmp_limits(families);
    if link {
        connect_namespaces(&route, agent_namespace.as_fd(), ipv6)?;
    } else {
        enter(agent_namespace.as_fd())?;
    }
    // 6.
    let mut descriptors = vec![tcp.as_fd(), dns.as_fd(), udp.as_fd(), raw_v4.as_fd()];
    descriptors.extend(raw_v6.as_ref().map(AsFd::as_fd));
    control
        .send(&Message::NetworkReady, &descriptors)
        .map_err(on_step("report to the supervisor"))?;
    // 7.
    if stay {
        agent_sockets::serve(control)
    } else {
        Ok(())
    }
}

/// Goes into the agent's network namespace.
fn enter(agent_namespace: BorrowedFd<'_>) -> Result<(), NativeError> {
    move_into_link_name_space(agent_namespace, Some(LinkNameSpaceType::Network)).map_err(
        on_step_call("configure the agent's end of the link", "setns(2)"),
    )
}

/// Makes the link and configures both ends; afterwards this process is in the agent's network namespace.
fn connect_namespaces(
    route: &RouteSocket,
    agent_namespace: BorrowedFd<'_>,
    ipv6: bool,
) -> Result<(), NativeError> {
    let step = "build the router namespace";
    let addresses = LinkAddresses {
        agent: network::AGENT_V4,
        router: network::ROUTER_V4,
        prefix: network::LINK_V4_PREFIX,
        v6: ipv6.then_some(LinkV6 {
            agent: network::AGENT_V6,
            router: network::ROUTER_V6,
            prefix: network::LINK_V6_PREFIX,
        }),
    };
    configure_link(
        route,
        &RouterConfig {
            router_interface: network::ROUTER_INTERFACE,
            agent_interface: network::AGENT_INTERFACE,
            agent_namespace,
            mtu: network::LINK_MTU,
            addresses,
            tproxy_port: network::TPROXY_PORT,
        },
    )
    .map_err(refused(step))?;
    // 5.
    let step = "configure the agent's end of the link";
    enter(agent_namespace)?;
    let agent_route = RouteSocket::open().map_err(refused(step))?;
    configure_agent(&agent_route, &AgentLinkConfig { addresses }).map_err(refused(step))?;
    // The router's end drops what it should send until it knows of its carrier: a DNS answer lost here costs the agent
    // the five seconds after which the C library asks again (seen on a busy machine).
    wait_until_up(route).map_err(refused("wait for the link"))
}

/// Receives the agent's network namespace from the process that will be pid 1.
fn agent_namespace(from_init: &Control) -> Result<OwnedFd, NativeError> {
    match from_init.receive().map_err(on_step("hear from pid 1"))? {
        Some((Message::AgentNamespace, mut descriptors)) => {
            descriptors.pop().ok_or(NativeError::Protocol { who: INIT })
        }
        Some(_) => Err(NativeError::Protocol { who: INIT }),
        None => Err(NativeError::Vanished { who: INIT }),
    }
}
