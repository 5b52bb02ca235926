//! What parsers read in two ways: HTTP heads and bodies, TLS hellos, and what comes after something that was allowed.
//!
//! `neighbour.example` lives at the address of `allowed.example`: without the checks every one of these would reach it.

use crate::case::{Case, Group, escaped, talk};
use crate::hello;

const PLAIN: [&str; 2] = ["203.0.113.10:80", "[2001:db8::10]:80"];
const SECURE: [&str; 2] = ["203.0.113.10:443", "[2001:db8::10]:443"];
const RULE: &str = "allowed.example:7,80,443";

/// A first request that is refused before the server hears anything.
fn request(name: &str, text: &str, reason: &'static str) -> Case {
    let script = talk("allowed.example", 80, text);
    Case::refused(
        "http",
        name,
        script,
        &["403 Forbidden", &format!("X-Rcc-Reason: {reason}")],
        (reason, RULE),
    )
    .touches(&PLAIN)
}

/// Neither HTTP nor TLS: nobody could read a 403, so it is a reset.
fn reset(name: &str, text: &str, reason: &'static str) -> Case {
    let script = talk("allowed.example", 80, text);
    Case::refused(
        "http",
        name,
        script,
        &["\"end\":\"ECONNRESET\""],
        (reason, RULE),
    )
    .touches(&PLAIN)
}

/// A request behind one that was allowed.
fn later(name: &str, text: &str, shows: &[&str], reason: &'static str) -> Case {
    let script = talk("allowed.example", 80, text);
    Case::refused("http", name, script, shows, (reason, RULE))
        .talks(&PLAIN)
        .unseen("neighbour")
}

fn heads() -> Vec<Case> {
    let get = "GET / HTTP/1.1\\r\\n";
    vec![
        request(
            "36: Host twice",
            &format!("{get}Host: allowed.example\\r\\nHost: neighbour.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "36: the same Host twice",
            &format!("{get}Host: allowed.example\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "36: folded Host",
            &format!("{get}Host: allowed.example\\r\\n neighbour.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "36: Host behind a fold",
            &format!("{get}Host:\\r\\n neighbour.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "36: space before the colon",
            &format!("{get}Host : neighbour.example\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "30: absolute form",
            "GET http://neighbour.example/ HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "http_host_mismatch",
        ),
        request(
            "absolute form against the Host",
            "GET http://allowed.example/ HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n",
            "http_host_mismatch",
        ),
        request(
            "absolute form with userinfo",
            "GET http://allowed.example@neighbour.example/ HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "http_host_mismatch",
        ),
        request(
            "absolute form, another port",
            "GET http://allowed.example:8080/ HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "http_host_mismatch",
        ),
        request(
            "36: empty lines first",
            &format!("\\r\\n\\r\\n{get}Host: neighbour.example\\r\\n\\r\\n"),
            "http_host_mismatch",
        ),
        request("no Host", &format!("{get}\\r\\n"), "http_host_missing"),
        request(
            "no Host in HTTP/1.0",
            "GET / HTTP/1.0\\r\\n\\r\\n",
            "http_host_missing",
        ),
        request(
            "empty Host",
            &format!("{get}Host:\\r\\n\\r\\n"),
            "http_host_missing",
        ),
        request(
            "another port in the Host",
            &format!("{get}Host: allowed.example:443\\r\\n\\r\\n"),
            "http_host_mismatch",
        ),
        request(
            "a port that is none",
            &format!("{get}Host: allowed.example:neighbour.example\\r\\n\\r\\n"),
            "http_host_mismatch",
        ),
        request(
            "a bare line feed",
            "GET / HTTP/1.1\\nHost: neighbour.example\\n\\n",
            "http_malformed",
        ),
        request(
            "a bare line feed inside of a field",
            &format!("{get}X: y\\nHost: neighbour.example\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "a bare carriage return",
            &format!("{get}X: y\\rHost: neighbour.example\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "29: a zero byte in a field",
            &format!("{get}X: y\\x00z\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "a space in front of the first field",
            &format!("{get} Host: neighbour.example\\r\\nHost: allowed.example\\r\\n\\r\\n"),
            "http_malformed",
        ),
        request(
            "three spaces in the request line",
            "GET  /  HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "http_malformed",
        ),
        request(
            "HTTP/1.2",
            "GET / HTTP/1.2\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "http_malformed",
        ),
        request(
            "length and chunks",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 4\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
            "http_smuggling",
        ),
        request(
            "two lengths",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 4\\r\\nContent-Length: 40\\r\\n\\r\\nbody",
            "http_smuggling",
        ),
        request(
            "a list of lengths",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 4, 4\\r\\n\\r\\nbody",
            "http_smuggling",
        ),
        request(
            "a signed length",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: +4\\r\\n\\r\\nbody",
            "http_smuggling",
        ),
        request(
            "chunks under another name",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nTransfer-Encoding: xchunked\\r\\n\\r\\n0\\r\\n\\r\\n",
            "http_smuggling",
        ),
        request(
            "chunks twice",
            "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nTransfer-Encoding: chunked, chunked\\r\\n\\r\\n0\\r\\n\\r\\n",
            "http_smuggling",
        ),
        request(
            "the body of a GET",
            "GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 4\\r\\n\\r\\nbody",
            "http_smuggling",
        ),
        request(
            "30: CONNECT",
            "CONNECT neighbour.example:443 HTTP/1.1\\r\\nHost: neighbour.example:443\\r\\n\\r\\n",
            "http_connect",
        ),
        request(
            "30: CONNECT to itself",
            "CONNECT allowed.example:443 HTTP/1.1\\r\\nHost: allowed.example:443\\r\\n\\r\\n",
            "http_connect",
        ),
        request(
            "HTTP/2 without TLS",
            "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n",
            "http_upgrade",
        ),
        request(
            "upgrade to HTTP/2 or another",
            &format!(
                "{get}Host: allowed.example\\r\\nConnection: Upgrade, HTTP2-Settings\\r\\nUpgrade: h2c, websocket\\r\\nHTTP2-Settings: AAMAAABkAAQAAP__\\r\\n\\r\\n"
            ),
            "http_upgrade",
        ),
        request(
            "upgrade to TLS",
            &format!(
                "{get}Host: allowed.example\\r\\nConnection: Upgrade\\r\\nUpgrade: TLS/1.2\\r\\n\\r\\n"
            ),
            "http_upgrade",
        ),
        reset(
            "44: ssh on port 80",
            "SSH-2.0-OpenSSH_9\\r\\n",
            "http_not_http",
        ),
        reset(
            "a zero byte first",
            "\\x00GET / HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n",
            "http_not_http",
        ),
        request(
            "PROXY protocol",
            "PROXY TCP4 1.2.3.4 5.6.7.8 1 80\\r\\nGET / HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            "proxy_protocol",
        ),
        Case::allowed(
            "http",
            "empty lines in front of an allowed request",
            talk(
                "allowed.example",
                80,
                &format!("\\r\\n{get}Host: allowed.example\\r\\n\\r\\n"),
            ),
            &["200 OK"],
        ),
        Case::allowed(
            "http",
            "absolute form of the same host",
            talk(
                "allowed.example",
                80,
                "GET http://allowed.example/x HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n",
            ),
            &["200 OK"],
        ),
        Case::allowed(
            "http",
            "Host with its own port",
            talk(
                "allowed.example",
                80,
                &format!("{get}Host: allowed.example:80\\r\\n\\r\\n"),
            ),
            &["200 OK"],
        ),
        Case::allowed(
            "http",
            "HTTP/1.0 with a Host",
            talk(
                "allowed.example",
                80,
                "GET / HTTP/1.0\\r\\nHost: allowed.example\\r\\n\\r\\n",
            ),
            &["200 OK"],
        ),
    ]
}

fn bodies() -> Vec<Case> {
    let good = "GET /first HTTP/1.1\\r\\nHost: allowed.example\\r\\n\\r\\n";
    let bad = "GET /second HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n";
    let chunked = "POST /first HTTP/1.1\\r\\nHost: allowed.example\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n4\\r\\nbody\\r\\n0\\r\\n\\r\\n";
    let length =
        "POST /first HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 4\\r\\n\\r\\nbody";
    let kept = |bad: &str| {
        // The second request comes when the first one's answer is there.
        format!(
            "/usr/bin/python3 -c \"
import socket, time
s = socket.create_connection(('allowed.example', 80), 5)
s.sendall(b'{good}'); first = s.recv(65536); print(first)
start = time.monotonic()
s.sendall(b'{bad}')
try: print(s.recv(65536))
except OSError as e: print(e)
print('milliseconds', (time.monotonic() - start) * 1000)\""
        )
    };
    vec![
        Case::refused("http", "30: another host on a kept connection", kept(bad), &["200 OK", "403 Forbidden", "http_host_mismatch"], ("http_host_mismatch", RULE))
            .needs("/usr/bin/python3").talks(&PLAIN).unseen("neighbour"),
        Case::refused("http", "a tunnel on a kept connection", kept("CONNECT neighbour.example:443 HTTP/1.1\\r\\nHost: neighbour.example:443\\r\\n\\r\\n"), &["200 OK", "403 Forbidden", "http_connect"], ("http_connect", RULE))
            .needs("/usr/bin/python3").talks(&PLAIN).unseen("neighbour"),
        Case::refused("http", "an upgrade on a kept connection", kept("GET / HTTP/1.1\\r\\nHost: allowed.example\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\n"), &["200 OK", "403 Forbidden", "http_upgrade"], ("http_upgrade", RULE))
            .needs("/usr/bin/python3").talks(&PLAIN),
        later("another host, pipelined", &format!("{good}{bad}"), &[], "http_host_mismatch"),
        later("another host behind chunks", &format!("{chunked}{bad}"), &[], "http_host_mismatch"),
        later("another host behind a body", &format!("{length}{bad}"), &[], "http_host_mismatch"),
        later("a chunk size that is none", "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n4 neighbour\\r\\nbody\\r\\n0\\r\\n\\r\\n", &[], "http_smuggling"),
        Case::allowed("http", "pipelined requests", talk("allowed.example", 80, &format!("{good}{good}")), &["first"]),
        Case::allowed("http", "requests behind chunks and a body", talk("allowed.example", 80, &format!("{chunked}{length}{good}")), &["body_bytes"]),
        Case::allowed("http", "a request in a body is a body", talk("allowed.example", 80, "POST / HTTP/1.1\\r\\nHost: allowed.example\\r\\nContent-Length: 43\\r\\n\\r\\nGET / HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n"), &["body_bytes\\\":43"]),
        Case::refused("http", "a new connection after a refusal works", format!("{}; {}", talk("allowed.example", 8080, good), talk("allowed.example", 80, good)), &["403 Forbidden", "port_not_allowed", "200 OK"], ("port_not_allowed", RULE))
            .talks(&PLAIN).own_time(500.0),
    ]
}

fn hellos() -> Vec<Case> {
    let alert = ["\"hex\":\"15030300020231\"", "end of stream"];
    let raw = |name: &str, bytes: &[u8], reason: &'static str| {
        let script = talk("allowed.example", 443, &escaped(bytes));
        Case::refused("tls", name, script, &alert, (reason, RULE)).touches(&SECURE)
    };
    let names =
        |names: &[&[u8]]| hello::message(&[(hello::SERVER_NAME, hello::server_names(names))]);
    let (allowed, other): (&[u8], &[u8]) = (b"allowed.example", b"neighbour.example");
    let one = |extensions: &[(u16, Vec<u8>)]| hello::records(&hello::message(extensions), 16384);
    let sni = |name: &[u8]| (hello::SERVER_NAME, hello::server_names(&[name]));
    let mut kind = hello::server_names(&[allowed]);
    // name_type 1, which nobody has defined.
    kind[2] = 1;
    vec![
        raw("35: no name", &one(&[]), "tls_no_name"),
        raw(
            "35: another name",
            &hello::for_name(other),
            "tls_name_mismatch",
        ),
        raw(
            "35: another name in records of 16 bytes",
            &hello::records(&names(&[other]), 16),
            "tls_name_mismatch",
        ),
        raw(
            "35: another name in records of one byte",
            &hello::records(&names(&[other]), 1),
            "tls_name_mismatch",
        ),
        raw(
            "two names",
            &hello::records(&names(&[allowed, other]), 16384),
            "tls_malformed",
        ),
        raw(
            "two names the other way",
            &hello::records(&names(&[other, allowed]), 16384),
            "tls_malformed",
        ),
        raw(
            "the extension twice",
            &one(&[sni(allowed), sni(other)]),
            "tls_malformed",
        ),
        raw(
            "an empty list of names",
            &one(&[(hello::SERVER_NAME, vec![0, 0])]),
            "tls_malformed",
        ),
        raw("an empty name", &hello::for_name(b""), "tls_malformed"),
        raw(
            "a name of an unknown type",
            &one(&[(hello::SERVER_NAME, kind)]),
            "tls_malformed",
        ),
        raw(
            "a list that is longer than it says",
            &one(&[(
                hello::SERVER_NAME,
                [hello::server_names(&[allowed]), vec![0]].concat(),
            )]),
            "tls_malformed",
        ),
        raw(
            "35: encrypted hello",
            &one(&[sni(allowed), (hello::ENCRYPTED_CLIENT_HELLO, vec![0; 40])]),
            "tls_encrypted_hello",
        ),
        raw(
            "35: encrypted hello inside",
            &one(&[sni(allowed), (hello::ENCRYPTED_CLIENT_HELLO, vec![1])]),
            "tls_encrypted_hello",
        ),
        // No alert would be understood: a reset.
        Case::refused(
            "tls",
            "a hello of SSL 2.0",
            talk(
                "allowed.example",
                443,
                "\\x80\\x2e\\x01\\x03\\x01\\x00\\x15\\x00\\x00\\x00\\x10\\x01\\x00\\x80",
            ),
            &["ECONNRESET"],
            ("tls_no_name", RULE),
        )
        .touches(&SECURE),
        Case::allowed(
            "tls",
            "an allowed name in records of 16 bytes",
            talk(
                "allowed.example",
                443,
                &escaped(&hello::records(&names(&[allowed]), 16)),
            ),
            &["\"hex\":\"160303"],
        ),
        Case::allowed(
            "tls",
            "an allowed name in records of one byte",
            talk(
                "allowed.example",
                443,
                &escaped(&hello::records(&names(&[allowed]), 1)),
            ),
            &["\"hex\":\"160303"],
        ),
        Case::allowed(
            "tls",
            "grease beside an allowed name",
            talk(
                "allowed.example",
                443,
                &escaped(&one(&[(0x0a0a, vec![]), sni(allowed), (0x1a1a, vec![0])])),
            ),
            &["\"hex\":\"160303"],
        ),
        Case::refused(
            "tls",
            "plain HTTP on port 443 for another host",
            talk(
                "allowed.example",
                443,
                "GET / HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n",
            ),
            &["403 Forbidden", "http_host_mismatch"],
            ("http_host_mismatch", RULE),
        )
        .touches(&SECURE),
        Case::refused(
            "tls",
            "TLS for another name on port 80",
            talk("allowed.example", 80, &escaped(&hello::for_name(other))),
            &alert,
            ("tls_name_mismatch", RULE),
        )
        .touches(&PLAIN),
        Case::refused(
            "tls",
            "TLS for another name on an odd port",
            talk("allowed.example", 7, &escaped(&hello::for_name(other))),
            &alert,
            ("tls_name_mismatch", RULE),
        )
        .touches(&["203.0.113.10:7", "[2001:db8::10]:7"]),
        Case::refused(
            "tls",
            "HTTP for another host on an odd port",
            talk(
                "allowed.example",
                7,
                "GET / HTTP/1.1\\r\\nHost: neighbour.example\\r\\n\\r\\n",
            ),
            &["403 Forbidden", "http_host_mismatch"],
            ("http_host_mismatch", RULE),
        )
        .touches(&["203.0.113.10:7", "[2001:db8::10]:7"]),
        Case::allowed(
            "tls",
            "neither HTTP nor TLS on an odd port",
            talk("allowed.example", 7, "hello\\r\\n"),
            &["hello\\r\\n"],
        ),
        Case::refused(
            "tls",
            "38: a port that no rule names",
            talk("allowed.example", 9, "hello"),
            &["ECONNRESET"],
            ("port_not_allowed", RULE),
        ),
    ]
}

pub(crate) fn groups() -> Vec<Group> {
    let flags = vec![
        "--network",
        "allowlist",
        "--allow",
        "allowed.example:80,443,7",
    ];
    vec![
        Group {
            name: "heads",
            flags: flags.clone(),
            cases: heads(),
        },
        Group {
            name: "bodies",
            flags: flags.clone(),
            cases: bodies(),
        },
        Group {
            name: "hellos",
            flags,
            cases: hellos(),
        },
    ]
}
