//! The nf_tables rules of the router namespace.
//!
//! What `nft list ruleset` shows of them is in `crates/sys/tests/golden/router.nft`.
//!
//! Numbers inside nf_tables attributes are in network byte order; values that packets are compared with have the
//! byte order of what they are compared with: interface indexes of the host, ports and flags of the network.
//!
//! Must not: keep state (no connection tracking: it would cost time per packet and memory per connection, and the
//! rules do not need it), or send anything.

use super::batch::{Batch, Nest, Step};
use super::constants::{
    NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_INET_PRE_ROUTING, NF_IP_PRI_FILTER,
    NF_IP_PRI_MANGLE, NFNL_SUBSYS_NFTABLES, NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6,
    NFPROTO_UNSPEC, NFT_CMP_EQ, NFT_CMP_NEQ, NFT_META_IIF, NFT_META_L4PROTO, NFT_META_NFPROTO,
    NFT_META_OIF, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, NFT_MSG_NEWTABLE,
    NFT_PAYLOAD_TRANSPORT_HEADER, NFT_REG_1, NFT_REG_VERDICT, NFT_REJECT_ICMPX_ADMIN_PROHIBITED,
    NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_TCP_RST, NFTA_BITWISE_DREG, NFTA_BITWISE_LEN,
    NFTA_BITWISE_MASK, NFTA_BITWISE_SREG, NFTA_BITWISE_XOR, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME,
    NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_CHAIN_TYPE, NFTA_CMP_DATA, NFTA_CMP_OP,
    NFTA_CMP_SREG, NFTA_DATA_VALUE, NFTA_DATA_VERDICT, NFTA_EXPR_DATA, NFTA_EXPR_NAME,
    NFTA_HOOK_HOOKNUM, NFTA_HOOK_PRIORITY, NFTA_IMMEDIATE_DATA, NFTA_IMMEDIATE_DREG,
    NFTA_LIST_ELEM, NFTA_META_DREG, NFTA_META_KEY, NFTA_PAYLOAD_BASE, NFTA_PAYLOAD_DREG,
    NFTA_PAYLOAD_LEN, NFTA_PAYLOAD_OFFSET, NFTA_REJECT_ICMP_CODE, NFTA_REJECT_TYPE,
    NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS, NFTA_RULE_TABLE, NFTA_TABLE_NAME, NFTA_TPROXY_FAMILY,
    NFTA_TPROXY_REG_PORT, NFTA_VERDICT_CODE, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL,
};

const TABLE: &str = "rcc";
const PREROUTING: &str = "prerouting";
const FORWARD: &str = "forward";
const OUTPUT: &str = "output";

/// Port of DNS over UDP (RFC 1035, 4.2.1).
const DNS_PORT: u16 = 53;
/// `netinet/in.h`: protocol numbers.
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// RFC 792 and RFC 4443: message types.
const ICMP_UNREACHABLE: u8 = 3;
const ICMPV6_UNREACHABLE: u8 = 1;
const ICMPV6_PACKET_TOO_BIG: u8 = 2;
/// RFC 4861, 4.3 and 4.4.
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 9293, 3.1: the byte with the flags, and FIN, SYN, RST, ACK in it.
const TCP_FLAGS_OFFSET: u32 = 13;
const TCP_FIN_SYN_RST_ACK: u8 = 0x17;
const TCP_SYN: u8 = 0x02;
const DESTINATION_PORT_OFFSET: u32 = 2;

/// Writes the whole table of the router namespace as one transaction.
///
/// Should: hand everything the agent sends over TCP and UDP to the sockets on `port`, its DNS datagrams to port 53,
/// whatever their destination; answer everything else with "administratively prohibited" at once.
///
/// Mustn't: forward anything; let the router namespace open a connection, or send anything that is not an answer.
///
/// TCP that nobody listens for any more gets a reset and not an ICMP error: a program inside connect(2) would only
/// notice the error at its first retransmission, a second later (seen).
pub(super) fn router_rules(batch: &mut Batch, veth_index: u32, port: u16) {
    let veth = veth_index.to_ne_bytes();
    batch.transaction_begin(NFNL_SUBSYS_NFTABLES);
    batch.nft(&STEP_TABLE, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL);
    batch.text(NFTA_TABLE_NAME, TABLE);
    batch.chain(PREROUTING, NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE);
    batch.chain(FORWARD, NF_INET_FORWARD, NF_IP_PRI_FILTER);
    batch.chain(OUTPUT, NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER);

    // 1. Nothing comes from anywhere but the agent.
    batch.rule(PREROUTING, |rule| {
        rule.meta(NFT_META_IIF).differs(&veth).verdict(NF_DROP);
    });
    // 2. The bulk of all packets.
    batch.rule(PREROUTING, |rule| {
        rule.transport(TCP).tproxy(port).verdict(NF_ACCEPT);
    });
    // 3. DNS, whatever resolver the program believes in.
    batch.rule(PREROUTING, |rule| {
        rule.transport(UDP)
            .payload(DESTINATION_PORT_OFFSET, 2)
            .equals(&DNS_PORT.to_be_bytes())
            .tproxy(DNS_PORT)
            .verdict(NF_ACCEPT);
    });
    // 4. All other UDP; the rule has no effect while nobody listens there.
    batch.rule(PREROUTING, |rule| {
        rule.transport(UDP).tproxy(port).verdict(NF_ACCEPT);
    });
    // 5. IPv6 is silent without neighbour discovery.
    for message in [NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
        batch.rule(PREROUTING, |rule| {
            rule.icmp(NFPROTO_IPV6, ICMPV6, message).verdict(NF_ACCEPT);
        });
    }
    // 6. TCP without listener.
    batch.rule(PREROUTING, |rule| {
        rule.transport(TCP).reset();
    });
    // 7. The rest is refused, not swallowed (allowed in prerouting since Linux 5.9).
    batch.rule(PREROUTING, |rule| {
        rule.prohibit();
    });

    batch.rule(OUTPUT, |rule| {
        rule.meta(NFT_META_OIF).differs(&veth).verdict(NF_DROP);
    });
    // A first packet of a connection has SYN and none of the others.
    batch.rule(OUTPUT, |rule| {
        rule.transport(TCP)
            .payload(TCP_FLAGS_OFFSET, 1)
            .mask(&[TCP_FIN_SYN_RST_ACK])
            .differs(&[TCP_SYN])
            .verdict(NF_ACCEPT);
    });
    // Datagrams carry the source address and port of whoever the agent talks to, so only the way out is known: the agent.
    batch.rule(OUTPUT, |rule| {
        rule.transport(UDP).verdict(NF_ACCEPT);
    });
    // Refusals and path MTUs (part of "unreachable" in IPv4), and neighbour discovery.
    for (family, protocol, message) in [
        (NFPROTO_IPV4, ICMP, ICMP_UNREACHABLE),
        (NFPROTO_IPV6, ICMPV6, ICMPV6_UNREACHABLE),
        (NFPROTO_IPV6, ICMPV6, ICMPV6_PACKET_TOO_BIG),
        (NFPROTO_IPV6, ICMPV6, NEIGHBOUR_SOLICITATION),
        (NFPROTO_IPV6, ICMPV6, NEIGHBOUR_ADVERTISEMENT),
    ] {
        batch.rule(OUTPUT, |rule| {
            rule.icmp(family, protocol, message).verdict(NF_ACCEPT);
        });
    }
    batch.transaction_end(NFNL_SUBSYS_NFTABLES);
}

const STEP_TABLE: Step = Step {
    call: "NFT_MSG_NEWTABLE",
    on: "table inet rcc",
    action: "create the nf_tables table of the router",
};
const STEP_CHAIN: Step = Step {
    call: "NFT_MSG_NEWCHAIN",
    on: "table inet rcc",
    action: "create an nf_tables chain of the router",
};
const STEP_RULE: Step = Step {
    call: "NFT_MSG_NEWRULE",
    on: "table inet rcc",
    action: "add an nf_tables rule of the router",
};

impl Batch {
    fn nft(&mut self, step: &Step, kind: u16, flags: u16) {
        // struct nfgenmsg: family, version, resource id.
        self.message(
            *step,
            (NFNL_SUBSYS_NFTABLES << 8) | kind,
            flags,
            &[NFPROTO_INET, 0, 0, 0],
        );
    }

    /// Adds a base chain of type filter that drops what no rule accepts.
    fn chain(&mut self, name: &str, hook: u32, priority: i32) {
        self.nft(&STEP_CHAIN, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL);
        self.text(NFTA_CHAIN_TABLE, TABLE);
        self.text(NFTA_CHAIN_NAME, name);
        let nest = self.open(NFTA_CHAIN_HOOK);
        self.number_be(NFTA_HOOK_HOOKNUM, hook);
        self.number_be(NFTA_HOOK_PRIORITY, priority.cast_unsigned());
        self.close(nest);
        self.number_be(NFTA_CHAIN_POLICY, NF_DROP);
        self.text(NFTA_CHAIN_TYPE, "filter");
    }

    fn rule(&mut self, chain: &str, write: impl FnOnce(&mut Rule<'_>)) {
        self.nft(&STEP_RULE, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND);
        self.text(NFTA_RULE_TABLE, TABLE);
        self.text(NFTA_RULE_CHAIN, chain);
        let expressions = self.open(NFTA_RULE_EXPRESSIONS);
        write(&mut Rule { batch: self });
        self.close(expressions);
    }
}

/// The expressions of one rule, each working on register 1.
struct Rule<'a> {
    batch: &'a mut Batch,
}

impl Rule<'_> {
    fn expression(&mut self, name: &str, write: impl FnOnce(&mut Batch)) -> &mut Self {
        let element = self.batch.open(NFTA_LIST_ELEM);
        self.batch.text(NFTA_EXPR_NAME, name);
        let data = self.batch.open(NFTA_EXPR_DATA);
        write(self.batch);
        self.batch.close(data);
        self.batch.close(element);
        self
    }

    /// Loads a property of the packet.
    fn meta(&mut self, key: u32) -> &mut Self {
        self.expression("meta", |batch| {
            batch.number_be(NFTA_META_KEY, key);
            batch.number_be(NFTA_META_DREG, NFT_REG_1);
        })
    }

    /// Loads bytes of the transport header.
    fn payload(&mut self, offset: u32, length: u32) -> &mut Self {
        self.expression("payload", |batch| {
            batch.number_be(NFTA_PAYLOAD_DREG, NFT_REG_1);
            batch.number_be(NFTA_PAYLOAD_BASE, NFT_PAYLOAD_TRANSPORT_HEADER);
            batch.number_be(NFTA_PAYLOAD_OFFSET, offset);
            batch.number_be(NFTA_PAYLOAD_LEN, length);
        })
    }

    /// Keeps only some bits of what was loaded.
    fn mask(&mut self, mask: &[u8; 1]) -> &mut Self {
        self.expression("bitwise", |batch| {
            batch.number_be(NFTA_BITWISE_SREG, NFT_REG_1);
            batch.number_be(NFTA_BITWISE_DREG, NFT_REG_1);
            batch.number_be(NFTA_BITWISE_LEN, 1);
            let nest = batch.open(NFTA_BITWISE_MASK);
            batch.attribute(NFTA_DATA_VALUE, mask);
            batch.close(nest);
            let nest = batch.open(NFTA_BITWISE_XOR);
            batch.attribute(NFTA_DATA_VALUE, &[0]);
            batch.close(nest);
        })
    }

    fn equals(&mut self, value: &[u8]) -> &mut Self {
        self.compare(NFT_CMP_EQ, value)
    }

    fn differs(&mut self, value: &[u8]) -> &mut Self {
        self.compare(NFT_CMP_NEQ, value)
    }

    fn compare(&mut self, operation: u32, value: &[u8]) -> &mut Self {
        self.expression("cmp", |batch| {
            batch.number_be(NFTA_CMP_SREG, NFT_REG_1);
            batch.number_be(NFTA_CMP_OP, operation);
            let nest = batch.open(NFTA_CMP_DATA);
            batch.attribute(NFTA_DATA_VALUE, value);
            batch.close(nest);
        })
    }

    fn transport(&mut self, protocol: u8) -> &mut Self {
        self.meta(NFT_META_L4PROTO).equals(&[protocol])
    }

    /// Matches one ICMP message type. The family counts: protocol 58 inside IPv4 is not neighbour discovery.
    fn icmp(&mut self, family: u8, protocol: u8, message: u8) -> &mut Self {
        self.meta(NFT_META_NFPROTO)
            .equals(&[family])
            .transport(protocol)
            .payload(0, 1)
            .equals(&[message])
    }

    /// Assigns the packet to the socket that listens on `port`; the rule ends here when there is none.
    fn tproxy(&mut self, port: u16) -> &mut Self {
        self.immediate(NFT_REG_1, |batch| {
            batch.attribute(NFTA_DATA_VALUE, &port.to_be_bytes())
        })
        .expression("tproxy", |batch| {
            batch.number_be(NFTA_TPROXY_FAMILY, u32::from(NFPROTO_UNSPEC));
            batch.number_be(NFTA_TPROXY_REG_PORT, NFT_REG_1);
        })
    }

    fn reset(&mut self) {
        self.expression("reject", |batch| {
            batch.number_be(NFTA_REJECT_TYPE, NFT_REJECT_TCP_RST);
        });
    }

    fn prohibit(&mut self) {
        self.expression("reject", |batch| {
            batch.number_be(NFTA_REJECT_TYPE, NFT_REJECT_ICMPX_UNREACH);
            batch.attribute(NFTA_REJECT_ICMP_CODE, &[NFT_REJECT_ICMPX_ADMIN_PROHIBITED]);
        });
    }

    fn verdict(&mut self, code: u32) {
        self.immediate(NFT_REG_VERDICT, |batch| {
            let nest: Nest = batch.open(NFTA_DATA_VERDICT);
            batch.number_be(NFTA_VERDICT_CODE, code);
            batch.close(nest);
        });
    }

    fn immediate(&mut self, register: u32, write: impl FnOnce(&mut Batch)) -> &mut Self {
        self.expression("immediate", |batch| {
            batch.number_be(NFTA_IMMEDIATE_DREG, register);
            let nest = batch.open(NFTA_IMMEDIATE_DATA);
            write(batch);
            batch.close(nest);
        })
    }
}
