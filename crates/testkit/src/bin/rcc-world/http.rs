//! A small HTTP/1.1 server: says who it is, serves bytes, and hands some hosts to other services.
//!
//! Must record a request before it answers. It is no general server: one request at a time, no compression.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcc_testkit::world::wire::HttpRequest;

use crate::Failure;
use crate::counters::{Counters, Entry};
use crate::services::Site;
use crate::streams::Counted;
use crate::tls::Authority;

/// Longest head that is read, in bytes.
const HEAD_LIMIT: u64 = 256 * 1024;

/// A request with its body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) head: HttpRequest,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The target without its query.
    pub(crate) fn path(&self) -> &str {
        self.head.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self) -> &str {
        self.head
            .target
            .split_once('?')
            .map_or("", |(_, query)| query)
    }

    /// The Host header without its port.
    pub(crate) fn host(&self) -> &str {
        let host = self.head.header("host").unwrap_or_default();
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        }
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// When not empty, sent instead of the body: one chunk after the other, each flushed.
    pub(crate) chunks: Vec<Vec<u8>>,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self {
            status,
            headers,
            body: body.into(),
            chunks: Vec::new(),
        }
    }

    /// An answer that comes piece by piece.
    pub(crate) fn stream(content_type: &str, chunks: Vec<Vec<u8>>) -> Self {
        Self {
            chunks,
            ..Self::new(200, content_type, "")
        }
    }

    pub(crate) fn json(value: &serde_json::Value) -> Self {
        Self::new(200, "application/json", format!("{value}\n"))
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "text/plain", "not found\n")
    }
}

/// What all connections of one process share.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) counters: Arc<Counters>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) site: Arc<dyn Site>,
}

impl Server {
    /// Serves plain HTTP.
    pub(crate) fn plain(
        &self,
        stream: TcpStream,
        local: SocketAddr,
        entry: Arc<Entry>,
    ) -> Result<(), Failure> {
        let peer = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        self.converse(Counted::new(stream, entry), "http", local, peer, None)
    }

    /// Serves HTTPS.
    pub(crate) fn secure(
        &self,
        stream: TcpStream,
        local: SocketAddr,
        entry: Arc<Entry>,
    ) -> Result<(), Failure> {
        let peer = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let stream = self
            .authority
            .accept(Counted::new(stream, entry), local.ip())?;
        let name = stream.conn.server_name().map(str::to_owned);
        self.converse(stream, "https", local, peer, name)
    }

    fn converse(
        &self,
        stream: impl Read + Write,
        scheme: &str,
        local: SocketAddr,
        peer: SocketAddr,
        server_name: Option<String>,
    ) -> Result<(), Failure> {
        let mut stream = BufReader::new(stream);
        let canonical = |address: SocketAddr| {
            SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
        };
        while let Some(mut head) = read_head(&mut stream)? {
            head.scheme = scheme.to_owned();
            head.local = canonical(local);
            head.peer = canonical(peer);
            head.server_name.clone_from(&server_name);
            if head
                .header("expect")
                .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
            {
                stream
                    .get_mut()
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
                stream.get_mut().flush()?;
            }
            let body = read_body(&mut stream, &head)?;
            head.body_bytes = body.len() as u64;
            self.counters.add_request(head.clone());
            let closes = head
                .header("connection")
                .is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let is_head = head.method == "HEAD";
            let request = Request { head, body };
            if let Some(count) = bulk_length(&request) {
                write_zeros(stream.get_mut(), count)?;
            } else {
                write_response(stream.get_mut(), &self.site.answer(&request), is_head)?;
            }
            if closes {
                break;
            }
        }
        stream.get_mut().flush()?;
        Ok(())
    }
}

/// Gives the answer that says who was reached.
pub(crate) fn who_am_i(request: &Request) -> Response {
    let head = &request.head;
    let (address, port) = head.local.rsplit_once(':').unwrap_or_default();
    Response::json(&serde_json::json!({
        "served_by": address.trim_matches(['[', ']']),
        "port": port.parse::<u16>().unwrap_or_default(),
        "scheme": head.scheme,
        "peer": head.peer,
        "server_name": head.server_name,
        "host": head.header("host"),
        "method": head.method,
        "target": head.target,
        "body_bytes": head.body_bytes,
    }))
}

/// `/bytes/N` gives N zero bytes.
fn bulk_length(request: &Request) -> Option<u64> {
    request.path().strip_prefix("/bytes/")?.parse().ok()
}

fn write_zeros(stream: &mut impl Write, count: u64) -> Result<(), Failure> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: {count}\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    std::io::copy(&mut std::io::repeat(0).take(count), stream)?;
    stream.flush()?;
    Ok(())
}

/// Reads a request line and headers; `None` at the end of the stream.
fn read_head(stream: &mut impl BufRead) -> Result<Option<HttpRequest>, Failure> {
    let mut limited = stream.take(HEAD_LIMIT);
    let mut line = String::new();
    // RFC 9112 2.2: an empty line before the request line is skipped.
    while line.trim().is_empty() {
        line.clear();
        if limited.read_line(&mut line)? == 0 {
            return Ok(None);
        }
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if limited.read_line(&mut line)? == 0 {
            return Err("the head is not complete".into());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(HttpRequest {
        scheme: String::new(),
        local: String::new(),
        peer: String::new(),
        server_name: None,
        method,
        target,
        headers,
        body_bytes: 0,
    }))
}

fn read_body(stream: &mut impl BufRead, head: &HttpRequest) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    if head
        .header("transfer-encoding")
        .is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line)?;
            let size = line.trim().split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size, 16)?;
            if size == 0 {
                while stream.read_line(&mut line)? > 2 {}
                return Ok(body);
            }
            stream.take(size).read_to_end(&mut body)?;
            stream.read_line(&mut String::new())?;
        }
    }
    if let Some(length) = head.header("content-length") {
        let length = length.parse()?;
        if stream.take(length).read_to_end(&mut body)? as u64 != length {
            return Err("the body is not complete".into());
        }
    }
    Ok(body)
}

fn write_response(
    stream: &mut impl Write,
    response: &Response,
    is_head: bool,
) -> Result<(), Failure> {
    let reason = match response.status {
        200 => "OK",
        401 => "Unauthorized",
        404 => "Not Found",
        _ => "Answer",
    };
    let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    if !response.chunks.is_empty() {
        bytes.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
        return write_chunks(stream, &bytes, &response.chunks);
    }
    bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", response.body.len()).as_bytes());
    if !is_head {
        bytes.extend_from_slice(&response.body);
    }
    stream.write_all(&bytes)?;
    stream.flush()?;
    Ok(())
}

/// Sends a head and a chunked body (RFC 9112 7.1).
fn write_chunks(stream: &mut impl Write, head: &[u8], chunks: &[Vec<u8>]) -> Result<(), Failure> {
    stream.write_all(head)?;
    for chunk in chunks {
        let mut bytes = format!("{:x}\r\n", chunk.len()).into_bytes();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
        stream.write_all(&bytes)?;
        stream.flush()?;
    }
    stream.write_all(b"0\r\n\r\n")?;
    stream.flush()?;
    Ok(())
}
