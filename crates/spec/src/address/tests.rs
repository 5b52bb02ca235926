//! Tests of address classes: both borders of every range, and every way to carry IPv4 in IPv6.

use proptest::prelude::*;

use super::*;

fn class(text: &str) -> AddressClass {
    AddressClass::of(text.parse().unwrap())
}

#[test]
fn borders_of_ranges() {
    use AddressClass as C;
    for (first, last, expected) in [
        ("0.0.0.0", "0.255.255.255", C::Unspecified),
        ("1.0.0.0", "9.255.255.255", C::Public),
        ("10.0.0.0", "10.255.255.255", C::Private),
        ("11.0.0.0", "100.63.255.255", C::Public),
        ("100.64.0.0", "100.127.255.255", C::SharedCgnat),
        ("100.128.0.0", "126.255.255.255", C::Public),
        ("127.0.0.0", "127.255.255.255", C::Loopback),
        ("128.0.0.0", "169.253.255.255", C::Public),
        ("169.254.0.0", "169.254.255.255", C::LinkLocal),
        ("169.255.0.0", "172.15.255.255", C::Public),
        ("172.16.0.0", "172.31.255.255", C::Private),
        ("172.32.0.0", "191.255.255.255", C::Public),
        ("192.0.0.0", "192.0.0.255", C::Reserved),
        ("192.0.1.0", "192.88.98.255", C::Public),
        ("192.88.99.0", "192.88.99.255", C::Reserved),
        ("192.88.100.0", "192.167.255.255", C::Public),
        ("192.168.0.0", "192.168.255.255", C::Private),
        ("192.169.0.0", "198.17.255.255", C::Public),
        ("198.18.0.0", "198.19.255.255", C::Benchmark),
        ("198.20.0.0", "223.255.255.255", C::Public),
        ("224.0.0.0", "239.255.255.255", C::Multicast),
        ("240.0.0.0", "255.255.255.254", C::Reserved),
        ("255.255.255.255", "255.255.255.255", C::Broadcast),
        ("::", "::", C::Unspecified),
        ("::1", "::1", C::Loopback),
        (
            "::2:0:0:0:0",
            "63:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Reserved,
        ),
        (
            "64:ff9b:1::102:304",
            "64:ff9b:1:ffff:ffff:ffff:102:304",
            C::LocalTranslation,
        ),
        (
            "100::",
            "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Reserved,
        ),
        (
            "2001:2::",
            "2001:2:0:ffff:ffff:ffff:ffff:ffff",
            C::Benchmark,
        ),
        (
            "2001:10::",
            "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Reserved,
        ),
        (
            "2001:200::",
            "2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Public,
        ),
        (
            "2003::",
            "3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Public,
        ),
        (
            "4000::",
            "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Reserved,
        ),
        (
            "fc00::",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::UniqueLocal,
        ),
        (
            "fe00::",
            "fe7f:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Reserved,
        ),
        (
            "fe80::",
            "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::LinkLocal,
        ),
        (
            "fec0::",
            "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::UniqueLocal,
        ),
        (
            "ff00::",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            C::Multicast,
        ),
    ] {
        assert_eq!(class(first), expected, "{first}");
        assert_eq!(class(last), expected, "{last}");
    }
}

#[test]
fn documentation_ranges_count_as_public() {
    for address in [
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "2001:db8::1",
        "3fff::1",
    ] {
        assert_eq!(class(address), AddressClass::Public, "{address}");
    }
}

#[test]
fn metadata_services_are_known_by_name() {
    for address in [
        "169.254.169.254",
        "169.254.170.2",
        "169.254.170.23",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",
        "fe80::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "::169.254.169.254",
        "::ffff:0:169.254.169.254",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::169.254.169.254",
        "2002:a9fe:a9fe::1",
        "2001:0:1:2:3:4:5601:5601",
    ] {
        assert_eq!(class(address), AddressClass::Metadata, "{address}");
    }
    for address in V4_RANGES
        .iter()
        .filter(|(_, class)| *class == AddressClass::Metadata)
        .map(|(net, _)| net)
    {
        assert_eq!(address.prefix_len(), 32);
    }
}

#[test]
fn what_carries_a_public_address() {
    for address in [
        "::ffff:203.0.113.1",
        "64:ff9b::203.0.113.1",
        "2002:cb00:7101::1",
        "2001:0:1::34ff:8efe",
    ] {
        assert_eq!(class(address), AddressClass::Public, "{address}");
    }
    // Deprecated or local forms are routed nowhere, whatever they carry.
    assert_eq!(class("::203.0.113.1"), AddressClass::Reserved);
    assert_eq!(class("::ffff:0:203.0.113.1"), AddressClass::Reserved);
    assert_eq!(
        class("64:ff9b:1::203.0.113.1"),
        AddressClass::LocalTranslation
    );
}

#[test]
fn reasons() {
    assert_eq!(AddressClass::Public.reason(), None);
    assert!(!AddressClass::Loopback.can_be_named() && AddressClass::Metadata.can_be_named());
}

proptest! {
    #[test]
    fn carrying_never_makes_an_address_more_public(bits in any::<u32>(), rest in any::<u64>()) {
        let v4 = Ipv4Addr::from_bits(bits);
        let inner = AddressClass::of(v4.into());
        let (low, rest) = (u128::from(bits), u128::from(rest));
        for outer in [
            0xffff << 32 | low,
            0xffff << 48 | low,
            0x64_ff9b << 96 | low,
            0x64_ff9b_0001 << 80 | (rest & 0xffff_ffff) << 32 | low,
            0x2002 << 112 | low << 80 | rest,
            0x2001_0000 << 96 | rest << 32 | (!low & 0xffff_ffff),
        ] {
            let address = Ipv6Addr::from_bits(outer);
            prop_assert_eq!(embedded_v4(address), Some(v4));
            let class = AddressClass::of(address.into());
            if inner.is_public() {
                prop_assert!(matches!(class, AddressClass::Public | AddressClass::Reserved | AddressClass::LocalTranslation));
            } else {
                prop_assert_eq!(class, inner);
            }
        }
    }

    #[test]
    fn the_range_contains_the_address(bits in any::<u128>(), v4 in any::<u32>()) {
        for address in [IpAddr::V6(Ipv6Addr::from_bits(bits)), IpAddr::V4(Ipv4Addr::from_bits(v4))] {
            let address = canonical_address(address);
            prop_assert!(classify(address).range.contains(&address));
        }
    }
}
