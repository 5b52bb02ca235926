//! Measures each step of configuring the two network namespaces of a run.
//!
//! Run it in a new user and network namespace:
//! `unshare --user --map-root-user --net target/release/examples/router_timing 50`

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a measuring tool, not part of the product"
)]

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rcc_sys::netlink::router::{self, AgentLinkConfig, LinkAddresses, LinkV6, RouterConfig};
use rcc_sys::netlink::{NetfilterSocket, RouteSocket};
use rcc_sys::socket::{IpFamilies, transparent_tcp_listener, transparent_udp_socket};
use rustix::thread::{UnshareFlags, unshare_unsafe};

const STEPS: [&str; 10] = [
    "new network namespace (router)",
    "new network namespace (agent)",
    "open sockets",
    "nf_tables rules",
    "veth, addresses, routes (router)",
    "addresses, routes (agent)",
    "wait until up",
    "listeners",
    "lift ICMP limits",
    "sum without new namespaces",
];

fn main() {
    let runs: usize = std::env::args()
        .nth(1)
        .map_or(20, |count| count.parse().unwrap());
    let samples: Vec<[Duration; 10]> = (0..runs)
        .map(|_| std::thread::spawn(one_run).join().unwrap())
        .collect();
    println!(
        "{:<34} {:>9} {:>9} {:>9}  (µs, {runs} runs)",
        "step", "min", "median", "max"
    );
    for (index, name) in STEPS.iter().enumerate() {
        let mut times: Vec<u128> = samples
            .iter()
            .map(|sample| sample[index].as_micros())
            .collect();
        times.sort_unstable();
        println!(
            "{name:<34} {:>9} {:>9} {:>9}",
            times[0],
            times[runs / 2],
            times[runs - 1]
        );
    }
}

fn new_network_namespace() -> OwnedFd {
    // SAFETY: CLONE_NEWNET changes the calling thread alone.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

fn one_run() -> [Duration; 10] {
    let mut times = [Duration::ZERO; 10];
    let mut watch = Instant::now();
    let mut lap = |step: usize| {
        let now = Instant::now();
        times[step] = now - watch;
        watch = now;
    };
    let _router = new_network_namespace();
    lap(0);
    let (send, receive) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let namespace = new_network_namespace();
        send.send((namespace, RouteSocket::open().unwrap()))
            .unwrap();
        let _ = stopped.recv();
    });
    let (agent, agent_route) = receive.recv().unwrap();
    lap(1);
    let addresses = LinkAddresses {
        agent: Ipv4Addr::new(198, 18, 0, 2),
        router: Ipv4Addr::new(198, 18, 0, 1),
        prefix: 24,
        v6: Some(LinkV6 {
            agent: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 2),
            router: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 1),
            prefix: 64,
        }),
    };
    let route = RouteSocket::open().unwrap();
    let netfilter = NetfilterSocket::open().unwrap();
    lap(2);
    let config = RouterConfig {
        router_interface: "rcc0",
        agent_interface: "eth0",
        agent_namespace: agent.as_fd(),
        mtu: 65_520,
        addresses,
        tproxy_port: 4000,
    };
    router::configure_rules(&netfilter, config.tproxy_port).unwrap();
    lap(3);
    router::configure_link(&route, &config).unwrap();
    lap(4);
    router::configure_agent(&agent_route, &AgentLinkConfig { addresses }).unwrap();
    lap(5);
    router::wait_until_up(&route).unwrap();
    lap(6);
    let _tcp = transparent_tcp_listener(4000, IpFamilies::Both).unwrap();
    let _udp = transparent_udp_socket(53, IpFamilies::Both).unwrap();
    lap(7);
    router::lift_icmp_limits(IpFamilies::Both).unwrap();
    lap(8);
    drop(stop);
    thread.join().unwrap();
    times[9] = times[2..9].iter().sum();
    times
}
