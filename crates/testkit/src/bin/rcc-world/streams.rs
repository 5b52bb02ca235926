//! The plain TCP services: echo, discard, source, count, half close, reset; and the counting stream.
//!
//! Must not buffer: what a service has not written to the socket it has not sent.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::Failure;
use crate::counters::Entry;

/// A connection whose bytes are counted.
#[derive(Debug)]
pub(crate) struct Counted {
    stream: TcpStream,
    entry: Arc<Entry>,
}

impl Counted {
    pub(crate) fn new(stream: TcpStream, entry: Arc<Entry>) -> Self {
        Self { stream, entry }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.entry.received(count);
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let count = self.stream.write(buffer)?;
        self.entry.sent(count);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Size of one read or write of the bulk services.
const CHUNK: usize = 256 * 1024;

pub(crate) fn echo(stream: TcpStream, _: SocketAddr, entry: Arc<Entry>) -> Result<(), Failure> {
    let mut stream = Counted::new(stream, entry);
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk)? {
            0 => break,
            count => stream.write_all(&chunk[..count])?,
        }
    }
    stream.stream.shutdown(Shutdown::Write)?;
    Ok(())
}

pub(crate) fn discard(stream: TcpStream, _: SocketAddr, entry: Arc<Entry>) -> Result<(), Failure> {
    read_all(&mut Counted::new(stream, entry))?;
    Ok(())
}

pub(crate) fn source(stream: TcpStream, _: SocketAddr, entry: Arc<Entry>) -> Result<(), Failure> {
    let mut stream = Counted::new(stream, entry);
    let zeros = vec![0; CHUNK];
    loop {
        stream.write_all(&zeros)?;
    }
}

pub(crate) fn count(stream: TcpStream, _: SocketAddr, entry: Arc<Entry>) -> Result<(), Failure> {
    let mut stream = Counted::new(stream, entry);
    let total = read_all(&mut stream)?;
    stream.write_all(format!("got {total} bytes\n").as_bytes())?;
    Ok(())
}

pub(crate) fn half(stream: TcpStream, _: SocketAddr, entry: Arc<Entry>) -> Result<(), Failure> {
    let mut stream = Counted::new(stream, entry);
    stream.write_all(b"end of my half\n")?;
    stream.stream.shutdown(Shutdown::Write)?;
    read_all(&mut stream)?;
    Ok(())
}

pub(crate) fn reset(stream: TcpStream, _: SocketAddr, _: Arc<Entry>) -> Result<(), Failure> {
    // Closing with linger 0 sends RST instead of FIN (tcp(7)).
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

fn read_all(stream: &mut Counted) -> Result<u64, Failure> {
    let mut chunk = vec![0; CHUNK];
    let mut total = 0;
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}
