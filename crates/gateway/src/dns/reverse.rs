//! Reverse names: `1.1.18.198.in-addr.arpa` and its IPv6 form to addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::name::WireName;

/// The address that a complete reverse name stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
pub(crate) fn address_of(name: &WireName) -> Option<IpAddr> {
    let labels: Vec<&[u8]> = name.labels().collect();
    let (zone, digits) = match labels.as_slice() {
        [digits @ .., zone, arpa] if arpa.eq_ignore_ascii_case(b"arpa") => (*zone, digits),
        _ => return None,
    };
    if zone.eq_ignore_ascii_case(b"in-addr") {
        let octets: Vec<u8> = digits
            .iter()
            .rev()
            .map(|label| decimal(label))
            .collect::<Option<_>>()?;
        let octets: [u8; 4] = octets.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    } else if zone.eq_ignore_ascii_case(b"ip6") {
        if digits.len() != 32 {
            return None;
        }
        let mut bits = 0_u128;
        for label in digits.iter().rev() {
            let [digit] = label else {
                return None;
            };
            bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
        }
        Some(Ipv6Addr::from_bits(bits).into())
    } else {
        None
    }
}

/// A number from 0 to 255 without leading zeros.
fn decimal(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let number: u8 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reverse_names_are_addresses() {
        let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        let cases = [
            ("7.113.0.203.in-addr.arpa", Some("203.0.113.7")),
            ("7.113.0.203.IN-ADDR.ARPA", Some("203.0.113.7")),
            (six, Some("2001:db8::1")),
            ("113.0.203.in-addr.arpa", None),
            ("9.7.113.0.203.in-addr.arpa", None),
            ("07.113.0.203.in-addr.arpa", None),
            ("+7.113.0.203.in-addr.arpa", None),
            ("256.113.0.203.in-addr.arpa", None),
            ("in-addr.arpa", None),
            ("7.113.0.203.example.com", None),
        ];
        for (name, address) in cases {
            let name = WireName::from_text(name).unwrap();
            assert_eq!(
                address_of(&name),
                address.map(|address| address.parse().unwrap()),
                "{name:?}"
            );
        }
    }
}
