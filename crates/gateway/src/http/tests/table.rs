//! The table.

use super::*;

/// A request with these lines behind its request line.
fn with(line: &str, fields: &str) -> Vec<u8> {
    format!("{line}\r\n{fields}\r\n").into_bytes()
}

fn get(fields: &str) -> Vec<u8> {
    with("GET / HTTP/1.1", fields)
}

fn line(line: &str) -> Vec<u8> {
    with(line, "Host: a.example.com\r\n")
}

fn post(fields: &str, body: &str) -> Vec<u8> {
    let fields = format!("Host: a.example.com\r\n{fields}");
    [with("POST / HTTP/1.1", &fields), body.as_bytes().to_vec()].concat()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn what_passes() {
    let own = "Host: a.example.com\r\n";
    let long = format!("Host: a.example.com\r\nX: {}\r\n", "y".repeat(60_000));
    let cases: Vec<(Vec<u8>, &[&str])> = vec![
        (get(own), &["a.example.com"]),
        (get("host: A.Example.COM.\r\n"), &["a.example.com"]),
        (get("HOST:a.example.com:80\r\n"), &["a.example.com:80"]),
        (get("Host: \t a.example.com \t\r\n"), &["a.example.com"]),
        (get("Host: 203.0.113.7:8080\r\n"), &["203.0.113.7:8080"]),
        (get("Host: [2001:db8::7]:81\r\n"), &["2001:db8::7:81"]),
        (get("Host: [::ffff:203.0.113.7]\r\n"), &["203.0.113.7"]),
        (
            get("A: b\r\nHost: a.example.com\r\nC:\r\nD: \u{e9}\r\n"),
            &["a.example.com"],
        ),
        (get(&long), &["a.example.com"]),
        ([b"\r\n".to_vec(), get(own)].concat(), &["a.example.com"]),
        (
            [b"\r\n\r\n".to_vec(), get(own)].concat(),
            &["a.example.com"],
        ),
        (
            [get(own), get(own), b"\r\n".to_vec(), get(own)].concat(),
            &["a.example.com"; 3],
        ),
        (line("GET /\u{e9}?q=%00&x HTTP/1.1"), &["a.example.com"]),
        (line("GET //evil.example.org/ HTTP/1.1"), &["a.example.com"]),
        (line("GET / HTTP/1.0"), &["a.example.com"]),
        (line("M-SEARCH / HTTP/1.1"), &["a.example.com"]),
        (line("OPTIONS * HTTP/1.1"), &["a.example.com"]),
        (
            line("GET http://a.example.com HTTP/1.1"),
            &["a.example.com for a.example.com"],
        ),
        (
            line("GET HTTP://b.example.com:80/x HTTP/1.1"),
            &["b.example.com:80 for a.example.com"],
        ),
        (
            line("GET http://a.example.com?x HTTP/1.1"),
            &["a.example.com for a.example.com"],
        ),
        (
            post("Content-Length: 5\r\n", "hello"),
            &["a.example.com +5"],
        ),
        (post("Content-Length: 0\r\n", ""), &["a.example.com"]),
        (
            post("Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"),
            &["a.example.com +5"],
        ),
        (
            [post("content-length: 5\r\n", "GET /"), get(own)].concat(),
            &["a.example.com +5", "a.example.com"],
        ),
        (chunked("0\r\n\r\n"), &["a.example.com +chunks"]),
        (
            chunked("5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"),
            &["a.example.com +chunks"],
        ),
        (
            chunked("00005;name=value\r\nhello\r\n000\r\nX-Sum: 1\r\n\r\n"),
            &["a.example.com +chunks"],
        ),
        (
            [chunked("1\r\n\r\r\n0\r\n\r\n"), get(own)].concat(),
            &["a.example.com +chunks", "a.example.com"],
        ),
        (
            get("Host: a.example.com\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"),
            &["a.example.com upgrade"],
        ),
        (
            get("Host: a.example.com\r\nConnection: close\r\nHTTP2-Settings: AAMAAABk\r\n"),
            &["a.example.com"],
        ),
    ];
    assert_eq!(cases.len(), 30);
    for (stream, hosts) in cases {
        let outcome = every_way(&stream);
        let shown = stream.escape_ascii();
        assert_eq!(outcome.ending, Ending::Whole, "{shown}");
        assert_eq!(outcome.hosts, hosts, "{shown}");
        // Byte for byte, except for empty lines in front.
        let passed = String::from_utf8_lossy(&outcome.passed).into_owned();
        let said = String::from_utf8_lossy(&stream).into_owned();
        let said = said
            .trim_start_matches("\r\n")
            .replace("\r\n\r\n\r\n", "\r\n\r\n");
        assert_eq!(passed, said);
    }
}

#[test]
fn what_is_awaited() {
    let own = get("Host: a.example.com\r\n");
    for stream in [
        &own[..own.len() - 1],
        &own[..own.len() - 2],
        &own[..10],
        post("Content-Length: 5\r\n", "hell").as_slice(),
        &chunked("5\r\nhello\r\n0\r\n"),
        &chunked("5\r\nhello"),
        &chunked("5"),
        &chunked(""),
    ] {
        assert_eq!(
            every_way(stream).ending,
            Ending::Open,
            "{}",
            stream.escape_ascii()
        );
    }
}

#[test]
fn what_is_refused() {
    let own = "Host: a.example.com\r\n";
    let with_own = |fields: &str| get(&format!("{own}{fields}"));
    let malformed = "http_malformed";
    let (smuggling, upgrade) = ("http_smuggling", "http_upgrade");
    let (missing, mismatch) = ("http_host_missing", "http_host_mismatch");
    let cases: Vec<(Vec<u8>, &str)> = vec![
        // Who it is for.
        (get(""), missing),
        (get("Host:\r\n"), missing),
        (get("Host: \t \r\n"), missing),
        (get("Hosts: a.example.com\r\n"), missing),
        (with("GET / HTTP/1.0", ""), missing),
        (with("GET http://a.example.com/ HTTP/1.1", ""), missing),
        (with_own(own), malformed),
        (with_own("host: evil.example.org\r\n"), malformed),
        (get("Host : a.example.com\r\n"), malformed),
        (get("Host\t: a.example.com\r\n"), malformed),
        (get(" Host: a.example.com\r\n"), malformed),
        (
            get("Host: a.example.com\r\n .evil.example.org\r\n"),
            malformed,
        ),
        (get("Host: a.example.com\r\n\t\r\n"), malformed),
        (get("Host: a.example.com,evil.example.org\r\n"), mismatch),
        (get("Host: a.example.com evil.example.org\r\n"), mismatch),
        (get("Host: evil@a.example.com\r\n"), mismatch),
        (get("Host: a.example.com@evil.example.org\r\n"), mismatch),
        (get("Host: a.example.com:\r\n"), mismatch),
        (get("Host: a.example.com:080\r\n"), mismatch),
        (get("Host: a.example.com:+80\r\n"), mismatch),
        (get("Host: a.example.com:80:80\r\n"), mismatch),
        (get("Host: a.example.com:65536\r\n"), mismatch),
        (get("Host: a.example.com/x\r\n"), mismatch),
        (get("Host: a..example.com\r\n"), mismatch),
        (get("Host: a.example.com..\r\n"), mismatch),
        (get("Host: \u{e9}.example.com\r\n"), mismatch),
        (get("Host: a.example.com%00.evil.example.org\r\n"), mismatch),
        (get("Host: 127.1\r\n"), mismatch),
        (get("Host: 0x7f000001\r\n"), mismatch),
        (get("Host: [2001:db8::7\r\n"), mismatch),
        (get("Host: [fe80::1%eth0]\r\n"), mismatch),
        (get("Host: [a.example.com]\r\n"), mismatch),
        (get(&format!("Host: {}\r\n", "a.".repeat(128))), mismatch),
        // Lines and bytes.
        (
            b"GET / HTTP/1.1\nHost: a.example.com\n\n".to_vec(),
            malformed,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a.example.com\n\r\n".to_vec(),
            malformed,
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a.example.com\r\n\n".to_vec(),
            malformed,
        ),
        (with_own("X: a\rHost: evil.example.org\r\n"), malformed),
        (with_own("X: a\0b\r\n"), malformed),
        (with_own("X: a\x0bb\r\n"), malformed),
        (with_own("X: a\x7fb\r\n"), malformed),
        (with_own("X\r\n"), malformed),
        (with_own(": x\r\n"), malformed),
        (with_own("X(: x\r\n"), malformed),
        (with_own("X\u{e9}: x\r\n"), malformed),
        (
            b"\nGET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n".to_vec(),
            malformed,
        ),
        ([b"\r\n\r\n\r\n".to_vec(), get(own)].concat(), malformed),
        ([b"\r".to_vec(), get(own)].concat(), malformed),
        ([b" ".to_vec(), get(own)].concat(), malformed),
        (
            get(&format!("{own}X: {}\r\n", "y".repeat(66_000))),
            malformed,
        ),
        (with_own(&"X: y\r\n".repeat(11_000)), malformed),
        (
            format!("GET /{} HTTP/1.1\r\n", "y".repeat(66_000)).into_bytes(),
            malformed,
        ),
        // The request line.
        (line("GET /"), malformed),
        (line("GET"), malformed),
        (line("GET  / HTTP/1.1"), malformed),
        (line("GET / HTTP/1.1 "), malformed),
        (line("GET / x HTTP/1.1"), malformed),
        (line("GET\t/\tHTTP/1.1"), malformed),
        (line("GET /\0 HTTP/1.1"), malformed),
        (line("GET /a\tb HTTP/1.1"), malformed),
        (line("GET / HTTP/1.2"), malformed),
        (line("GET / HTTP/01.1"), malformed),
        (line("GET / http/1.1"), malformed),
        (line("GET / HTTP/0.9"), malformed),
        (line("G(T / HTTP/1.1"), malformed),
        (line("GET a.example.com HTTP/1.1"), malformed),
        (line("GET * HTTP/1.1"), malformed),
        (line("GET https://a.example.com/ HTTP/1.1"), malformed),
        (line("GET ftp://a.example.com/ HTTP/1.1"), malformed),
        (line("GET http:a.example.com/ HTTP/1.1"), malformed),
        (line("GET http:/a.example.com/ HTTP/1.1"), malformed),
        (
            line("GET http://a.example.com#@evil.example.org/ HTTP/1.1"),
            malformed,
        ),
        (line("GET http:/// HTTP/1.1"), missing),
        (
            line("GET http://a.example.com\\@evil.example.org/ HTTP/1.1"),
            mismatch,
        ),
        (
            line("GET http://evil.example.org@a.example.com/ HTTP/1.1"),
            mismatch,
        ),
        (
            line("GET http://a.example.com:80@evil.example.org/ HTTP/1.1"),
            mismatch,
        ),
        (line("CONNECT a.example.com:443 HTTP/1.1"), "http_connect"),
        (line("connect a.example.com:443 HTTP/1.0"), "http_connect"),
        (line("CONNECT /x HTTP/1.1"), "http_connect"),
        // Another protocol.
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), upgrade),
        (with_own("Upgrade: h2c, TLS/1.2\r\n"), upgrade),
        (with_own("Upgrade: h2c\r\nUpgrade: websocket\r\n"), upgrade),
        (with_own("Upgrade: h2c\r\nUpgrade: h2c\r\n"), upgrade),
        (with_own("Upgrade: TLS/1.2\r\n"), upgrade),
        (with_own("Upgrade: websocket, h2c\r\n"), upgrade),
        (with_own("Upgrade: websocket\r\nUpgrade: h2c\r\n"), upgrade),
        (
            with_own("Upgrade: websocket\r\nUpgrade: websocket\r\n"),
            upgrade,
        ),
        (post("Upgrade: websocket\r\n", ""), upgrade),
        (
            with("GET / HTTP/1.0", &format!("{own}Upgrade: websocket\r\n")),
            upgrade,
        ),
        (
            [get(own), with_own("Upgrade: websocket\r\n")].concat(),
            upgrade,
        ),
        // Where the body ends.
        (
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", ""),
            smuggling,
        ),
        (
            post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", ""),
            smuggling,
        ),
        (
            post("Content-Length: 5\r\nContent-Length: 6\r\n", ""),
            smuggling,
        ),
        (
            post("Content-Length: 5\r\nContent-Length: 5\r\n", ""),
            smuggling,
        ),
        (post("Content-Length: 5, 5\r\n", ""), smuggling),
        (post("Content-Length: +5\r\n", ""), smuggling),
        (post("Content-Length: -1\r\n", ""), smuggling),
        (post("Content-Length: 0x5\r\n", ""), smuggling),
        (post("Content-Length: 5 \u{b}\r\n", ""), malformed),
        (post("Content-Length:\r\n", ""), smuggling),
        (
            post("Content-Length: 18446744073709551617\r\n", ""),
            smuggling,
        ),
        (post("Content_Length: 5\r\n", ""), smuggling),
        (post("Transfer-Encoding: gzip, chunked\r\n", ""), smuggling),
        (post("Transfer-Encoding: Chunked\r\n", ""), smuggling),
        (post("Transfer-Encoding: xchunked\r\n", ""), smuggling),
        (post("Transfer-Encoding: identity\r\n", ""), smuggling),
        (post("Transfer-Encoding:\r\n", ""), smuggling),
        (
            post(
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                "",
            ),
            smuggling,
        ),
        (
            post("Transfer-Encoding: chunked\r\ntransfer_encoding: x\r\n", ""),
            smuggling,
        ),
        (post("Transfer-Encoding\r\n: chunked\r\n", ""), malformed),
        (
            with(
                "POST / HTTP/1.0",
                "Host: a.example.com\r\nTransfer-Encoding: chunked\r\n",
            ),
            smuggling,
        ),
        (with_own("Content-Length: 5\r\n"), smuggling),
        (
            with(
                "HEAD / HTTP/1.1",
                "Host: a.example.com\r\nTransfer-Encoding: chunked\r\n",
            ),
            smuggling,
        ),
        (
            post("Content-Length: 5\r\nExpect: y 100-continue\r\n", ""),
            smuggling,
        ),
        (post("Connection: close, Host\r\n", ""), smuggling),
        (
            post("Connection: content-length\r\nContent-Length: 5\r\n", ""),
            smuggling,
        ),
        (chunked("x\r\n"), smuggling),
        (chunked("\r\n"), smuggling),
        (chunked("0x5\r\nhello\r\n"), smuggling),
        (chunked("-1\r\n"), smuggling),
        (chunked("5 \r\nhello\r\n"), smuggling),
        (chunked("5\nhello\r\n"), malformed),
        (chunked("5;a\nb\r\nhello\r\n"), malformed),
        (chunked("5;a\rb\r\nhello\r\n"), malformed),
        (chunked("10000000000000000\r\n"), smuggling),
        (chunked("fffffffffffffffffffff\r\n"), smuggling),
        (chunked("5\r\nhelloo\r\n"), smuggling),
        (chunked("5\r\nhello\n0\r\n\r\n"), smuggling),
        (
            chunked(&format!("5;{}\r\nhello\r\n", "x".repeat(300))),
            smuggling,
        ),
        (chunked("0\r\nHost: evil.example.org\r\n\r\n"), smuggling),
        (chunked("0\r\nContent-Length: 5\r\n\r\n"), smuggling),
        (chunked("0\r\n x\r\n\r\n"), malformed),
        (
            chunked(&format!("0\r\n{}", "X: y\r\n".repeat(2000))),
            smuggling,
        ),
    ];
    assert!(cases.len() >= 130, "{}", cases.len());
    for (stream, code) in cases {
        let outcome = every_way(&stream);
        let shown = stream.escape_ascii().to_string();
        let shown = shown.get(..300).unwrap_or(&shown);
        assert_eq!(outcome.ending, Ending::Fault(code), "{shown}");
        // Of a refused head nothing went on.
        let heads = outcome.hosts.len();
        assert!(heads > 0 || outcome.passed.is_empty(), "{shown}");
    }
}

#[test]
fn an_offer_of_http2_is_left_out() {
    let own = "Host: a.example.com\r\n";
    let offer = "HTTP2-Settings: AAMAAABk\r\n";
    let cases = [
        (
            format!("Connection: Upgrade, HTTP2-Settings\r\n{own}{offer}Upgrade: h2c\r\n"),
            own.to_owned(),
        ),
        (
            format!("upgrade:H2C\r\nconnection:UPGRADE\r\n{own}"),
            own.to_owned(),
        ),
        // Other options of the connection stay, and so does a field that belongs to no offer.
        (
            format!("{own}Connection: close, Upgrade\r\nUpgrade: h2c\r\nX: y\r\n"),
            format!("{own}Connection: close, Upgrade\r\nX: y\r\n"),
        ),
        (format!("{own}{offer}"), format!("{own}{offer}")),
        (
            format!("{own}Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            format!("{own}Connection: Upgrade\r\nUpgrade: websocket\r\n"),
        ),
    ];
    for (fields, left) in cases {
        let outcome = every_way(&get(&fields));
        assert_eq!(outcome.ending, Ending::Whole, "{fields}");
        let passed = String::from_utf8(outcome.passed).unwrap();
        assert_eq!(passed.as_bytes(), get(&left), "{fields}");
    }
    // With a body, in an old version, and as a later request: the rest is as it was.
    let stream = [
        post(
            "Content-Length: 2\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n",
            "ab",
        ),
        with("GET / HTTP/1.0", &format!("{own}Upgrade: h2c\r\n")),
    ]
    .concat();
    let outcome = every_way(&stream);
    assert_eq!(outcome.ending, Ending::Whole);
    let left = [
        post("Content-Length: 2\r\n", "ab"),
        with("GET / HTTP/1.0", own),
    ]
    .concat();
    assert_eq!(String::from_utf8(outcome.passed).unwrap().as_bytes(), left);
}
