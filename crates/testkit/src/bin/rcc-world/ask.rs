//! Asks the resolver one question that is nobody else's, and waits for the answer: what came before it is logged.
//!
//! Arguments: `udp` or `tcp`, name. Must run in the inet namespace.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::time::Duration;

use rcc_testkit::dns::{DnsHeader, DnsQuestion, build};
use rcc_testkit::world::addresses::RESOLVER_V4;

use crate::Failure;

pub(crate) fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let [transport, name] = arguments else {
        return Err("usage: ask udp|tcp NAME".into());
    };
    let question = DnsQuestion::new(name.to_str().ok_or("odd name")?, 1);
    let query = build(DnsHeader::default(), &[question]);
    let limit = Some(Duration::from_secs(10));
    if transport == "udp" {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_read_timeout(limit)?;
        socket.send_to(&query, (RESOLVER_V4, 53))?;
        socket.recv(&mut [0; 512])?;
    } else {
        let mut stream = TcpStream::connect((RESOLVER_V4, 53))?;
        stream.set_read_timeout(limit)?;
        let length = u16::try_from(query.len())?;
        stream.write_all(&[&length.to_be_bytes()[..], &query].concat())?;
        stream.read_exact(&mut [0; 2])?;
    }
    Ok(())
}
