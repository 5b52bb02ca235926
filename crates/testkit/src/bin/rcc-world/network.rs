//! Makes the link between the two network namespaces, their addresses and their routes, with ip(8).
//!
//! Must be called inside the world only: every command here changes the namespace that it runs in.

use std::io::Write as _;
use std::process::{Command, Stdio};

use rcc_testkit::world::{Setup, addresses};

use crate::Failure;

/// The host's uplink.
const HOST_LINK: &str = "uplink0";
/// The other end.
pub(crate) const INET_LINK: &str = "wan0";
/// Hardware address of the host's uplink: fixed, so that the tap knows who sent a frame.
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 1];

/// Joins the host namespace (ours) to the one of process `inet`, and gives the host its addresses.
pub(crate) fn make_link(inet: u32, setup: &Setup) -> Result<(), Failure> {
    use addresses::{HOST_LAN_V4, HOST_LAN_V6, HOST_V4, HOST_V6, ROUTER_V4};
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!(
            "link add {HOST_LINK} address 02:00:00:00:77:01 type veth peer name {INET_LINK} netns {inet}"
        ),
        // No address by autoconfiguration: all are given below, and none needs duplicate detection.
        format!("link set {HOST_LINK} addrgenmode none"),
        format!("link set {HOST_LINK} up"),
    ];
    if !setup.without_ipv4 {
        lines.extend([
            format!("address add {HOST_V4}/24 dev {HOST_LINK}"),
            format!("address add {HOST_LAN_V4}/24 dev {HOST_LINK}"),
            format!("route add default via {ROUTER_V4} dev {HOST_LINK} src {HOST_V4}"),
        ]);
    }
    if setup.without_ipv6 {
        std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?;
    } else {
        lines.extend([
            format!("address add fe80::1/64 dev {HOST_LINK} nodad"),
            format!("address add {HOST_V6}/128 dev {HOST_LINK} nodad"),
            format!("address add {HOST_LAN_V6}/128 dev {HOST_LINK} nodad"),
            format!("route add default via fe80::2 dev {HOST_LINK} src {HOST_V6}"),
        ]);
    }
    batch(&lines)
}

/// Makes the inet side answer on every address of the world.
pub(crate) fn configure_inet() -> Result<(), Failure> {
    use addresses::{
        ANSWERING_V4, ANSWERING_V6, BLACKHOLE_V4, HOST_LAN_V4, HOST_LAN_V6, HOST_V4, HOST_V6,
        ROUTER_V4,
    };
    let mut lines = vec![
        "link set lo up".to_owned(),
        format!("link set {INET_LINK} addrgenmode none"),
        format!("link set {INET_LINK} up"),
        format!("address add {ROUTER_V4}/32 dev {INET_LINK}"),
        format!("address add fe80::2/64 dev {INET_LINK} nodad"),
    ];
    lines.extend(
        ANSWERING_V4
            .iter()
            .chain(ANSWERING_V6)
            .map(|network| format!("route add local {network} dev lo")),
    );
    // In the local table, where they are more specific than the networks above.
    lines.extend([
        format!("route add {HOST_V4}/32 dev {INET_LINK} table local src {ROUTER_V4}"),
        format!("route add {HOST_LAN_V4}/32 dev {INET_LINK} table local src {ROUTER_V4}"),
        format!("route add {HOST_V6}/128 via fe80::1 dev {INET_LINK} table local"),
        format!("route add {HOST_LAN_V6}/128 via fe80::1 dev {INET_LINK} table local"),
        format!("route add blackhole {BLACKHOLE_V4}/32 table local"),
        "route add blackhole 2001:db8:dead::/48 table local".to_owned(),
    ]);
    batch(&lines)?;
    // The servers run as an ordinary user and listen below 1024.
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")?;
    // An IPv6 address is bindable only when an interface has it; here whole networks are local.
    std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1")?;
    // Answers leave by the one link whatever address they come from.
    for name in ["all", INET_LINK] {
        std::fs::write(format!("/proc/sys/net/ipv4/conf/{name}/rp_filter"), "0")?;
    }
    Ok(())
}

/// Runs ip(8) once per address family, which its batch mode cannot mix.
fn batch(lines: &[String]) -> Result<(), Failure> {
    for is_v6 in [false, true] {
        let part: Vec<&str> = lines
            .iter()
            .map(String::as_str)
            .filter(|line| is_ipv6(line) == is_v6)
            .collect();
        let mut child = Command::new("ip")
            .args([if is_v6 { "-6" } else { "-4" }, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        child
            .stdin
            .take()
            .ok_or("no pipe to ip")?
            .write_all(part.join("\n").as_bytes())?;
        let status = child.wait()?;
        if !status.success() {
            return Err(format!("ip failed ({status}) on {part:?}").into());
        }
    }
    Ok(())
}

/// Lines about links are family-neutral and come first, with IPv4.
fn is_ipv6(line: &str) -> bool {
    !line.starts_with("link ") && line.contains("::")
}
