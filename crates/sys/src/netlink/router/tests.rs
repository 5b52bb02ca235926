//! Golden bytes of every message: `tests/golden/*.messages`, one message a line.
//!
//! That the kernel understands them as meant is shown in `tests/kernel_router.rs`; here any unintended change is.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use super::*;
use crate::netlink::batch::HEADER;
use crate::netlink::parse::messages;

const ADDRESSES: LinkAddresses = LinkAddresses {
    agent: Ipv4Addr::new(198, 18, 0, 2),
    router: Ipv4Addr::new(198, 18, 0, 1),
    prefix: 24,
    v6: Some(LinkV6 {
        agent: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 2),
        router: Ipv6Addr::new(0xfd72, 0x6363, 0, 0, 0, 0, 0, 1),
        prefix: 64,
    }),
};

fn router(addresses: LinkAddresses) -> Result<FinishedBatch, NetlinkError> {
    router_batch(&RouterConfig {
        router_interface: "rcc0",
        agent_interface: "eth0",
        // The descriptor's number is part of the message; that of standard input is the same in every run.
        agent_namespace: std::io::stdin().as_fd(),
        mtu: 65_520,
        addresses,
        tproxy_port: 4000,
    })
}

/// Type and flags of each message, what it is for, and what follows the header.
fn describe(batch: &FinishedBatch) -> String {
    let mut text = String::new();
    for (message, step) in messages(&batch.bytes).zip(&batch.steps) {
        let message = message.unwrap();
        let padding = (HEADER + message.payload.len()) % 4;
        assert_eq!(padding, 0, "{} is not padded", step.call);
        write!(
            text,
            "{} {}: {} [{:#06x} {:#06x}]",
            step.call, step.on, step.action, message.kind, message.flags
        )
        .unwrap();
        for word in message.payload.chunks(4) {
            text.push(' ');
            for byte in word {
                write!(text, "{byte:02x}").unwrap();
            }
        }
        text.push('\n');
    }
    text
}

#[track_caller]
fn assert_golden(name: &str, batch: &FinishedBatch) {
    let path = format!(
        "{}/tests/golden/{name}.messages",
        env!("CARGO_MANIFEST_DIR")
    );
    let found = describe(batch);
    if std::env::var_os("RCC_TEST_BLESS").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap(), "{path}");
}

#[test]
#[cfg(target_endian = "little")]
fn messages_are_those_of_the_golden_files() {
    assert_golden("router-link", &router(ADDRESSES).unwrap());
    assert_golden("router-rules", &rules_batch(4000));
    assert_golden(
        "agent-link",
        &agent_batch(&AgentLinkConfig {
            addresses: ADDRESSES,
        }),
    );
}

#[test]
fn without_ipv6_no_message_mentions_it() {
    let addresses = LinkAddresses {
        v6: None,
        ..ADDRESSES
    };
    for batch in [
        router(addresses).unwrap(),
        agent_batch(&AgentLinkConfig { addresses }),
    ] {
        let text = describe(&batch);
        assert!(!text.contains("IPv6"), "{text}");
    }
}

#[test]
fn interface_names_the_kernel_would_refuse_are_refused() {
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "a:b",
        "a\0",
        "sixteen-letters-",
    ] {
        let refused = interface_name(name);
        assert!(
            matches!(refused, Err(NetlinkError::Unusable { .. })),
            "{name:?}"
        );
    }
    interface_name("fifteen-letters").unwrap();
}
