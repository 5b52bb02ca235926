//! Can the gateway resolve names on this host (`resolv.conf(5)`)? Asks nobody.

use std::net::IpAddr;

use super::{Check, Finding, Fix, Need, Status, read};

const CHECK: Check = Check {
    name: "name resolution",
    need: Need::Optional,
    protects: "rules by host name; without it only addresses can be reached",
};

pub(super) fn finding() -> Finding {
    judge(read("/etc/resolv.conf").as_deref())
}

fn judge(text: Option<&str>) -> Finding {
    let fix = || {
        Some(Fix::new(
            "name at least one resolver in /etc/resolv.conf",
            [],
        ))
    };
    let Some(text) = text else {
        return CHECK.found(Status::Missing, "/etc/resolv.conf cannot be read", fix());
    };
    let servers = name_servers(text);
    if servers.is_empty() {
        return CHECK.found(
            Status::Degraded,
            "/etc/resolv.conf names no usable resolver",
            fix(),
        );
    }
    let list: Vec<String> = servers.iter().map(ToString::to_string).collect();
    CHECK.ok(format!("resolvers: {}", list.join(", ")))
}

/// The addresses of `nameserver` lines; a zone after `%` belongs to the address.
fn name_servers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next()? == "nameserver").then_some(())?;
            words.next()?.split('%').next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_listed_and_other_lines_ignored() {
        let text = "# nameserver 192.0.2.1\nsearch example.com\nnameserver 203.0.113.53\nnameserver fe80::1%eth0\nnameserver x\n";
        let finding = judge(Some(text));
        assert_eq!(finding.status, Status::Ok);
        assert_eq!(finding.detail, "resolvers: 203.0.113.53, fe80::1");
    }

    #[test]
    fn no_resolver_is_told_from_no_file() {
        assert_eq!(judge(Some("search example.com\n")).status, Status::Degraded);
        assert_eq!(judge(None).status, Status::Missing);
    }
}
