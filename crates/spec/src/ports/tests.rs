//! Tests of port sets.

use proptest::prelude::*;

use super::*;

fn ports(text: &str) -> Ports {
    Ports::parse(text).unwrap()
}

#[test]
fn default_is_web() {
    assert_eq!(Ports::default().to_string(), "80,443");
    assert_eq!(ports("443,80"), Ports::default());
}

#[test]
fn canonical_form() {
    assert_eq!(ports("5,4,3,1-2,10").to_string(), "1-5,10");
    assert_eq!(ports("1-65535"), Ports::all());
    assert_eq!(ports("*").to_string(), "*");
    assert_eq!(ports("7,7,7").to_string(), "7");
}

#[test]
fn refuses_what_is_no_port() {
    for bad in [
        "0", "65536", "", "80,", ",80", "80,,443", "+80", " 80", "80 ", "8O", "-1", "1-", "1-0",
        "9-3", "0-5", "1-2-3", "0x50", "**",
    ] {
        assert!(Ports::parse(bad).is_err(), "{bad:?} was accepted");
    }
    assert_eq!(
        Ports::parse("9-3"),
        Err(PortsError::Backwards {
            range: "9-3".into()
        })
    );
}

#[test]
fn borders_of_ranges() {
    let set = ports("10-20,30");
    let inside: Vec<u16> = (0..=40).filter(|&p| set.contains(p)).collect();
    assert_eq!(inside, (10..=20).chain([30]).collect::<Vec<_>>());
    assert!(Ports::all().contains(65535) && Ports::all().contains(1) && !Ports::all().contains(0));
}

fn any_ports() -> impl Strategy<Value = Ports> {
    // Small numbers and both ends, so that overlaps and borders are frequent.
    let port = prop_oneof![1u16..40, 65500u16..=65535];
    prop::collection::vec((port.clone(), port), 0..5).prop_map(|pairs| {
        Ports::from_ranges(
            pairs
                .into_iter()
                .filter_map(|(a, b)| PortRange::new(a.min(b), a.max(b))),
        )
    })
}

proptest! {
    #[test]
    fn display_parses_back(set in any_ports()) {
        prop_assume!(!set.is_empty());
        prop_assert_eq!(ports(&set.to_string()), set);
    }

    #[test]
    fn set_algebra(a in any_ports(), b in any_ports(), port in prop_oneof![0u16..50, 65490u16..=65535]) {
        prop_assert_eq!(a.union(&b).contains(port), a.contains(port) || b.contains(port));
        prop_assert_eq!(a.without(&b).contains(port), a.contains(port) && !b.contains(port));
    }

    #[test]
    fn never_panics(text in ".{0,30}") {
        let _ = Ports::parse(&text);
    }
}
