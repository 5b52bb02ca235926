//! Plain HTTP must be for the name that the connection is for, in every request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rcc_spec::NetworkMode;

use crate::world::{PATIENCE, Setup, World, assert_reset, read_all};

const AT_ONCE: Duration = Duration::from_millis(100);
const OWN: &str = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n";

/// Everything that a server heard, over all its connections.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    fn add(&self, bytes: &[u8]) {
        self.0.lock().unwrap().extend_from_slice(bytes);
    }
}

/// Answers each request with its path.
fn web(heard: Heard) -> impl Fn(TcpStream) + Send + Sync {
    move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                // A reset is an end, too.
                match reader.read_until(b'\n', &mut head) {
                    Ok(0) | Err(_) => return heard.add(&head),
                    Ok(_) => {}
                }
            }
            heard.add(&head);
            let path = String::from_utf8_lossy(&head).into_owned();
            let path = path.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            );
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn world(setup: Setup) -> (World, Heard) {
    let world = setup.start();
    world.names.host("api.example.com", &["203.0.113.7"]);
    let heard = Heard::default();
    for port in [80, 443, 8080] {
        world.serve(&format!("203.0.113.7:{port}"), web(heard.clone()));
    }
    (world, heard)
}

fn allowed() -> Setup {
    Setup::allow(&["api.example.com:80,443,8080"])
}

fn answer_of(path: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
        path.len()
    )
}

fn hears(client: &mut TcpStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(String::from_utf8_lossy(&bytes), expected);
}

/// The code in a refusal.
fn code_of(answer: &str) -> &str {
    let (_, rest) = answer.split_once("X-Rcc-Reason: ").expect(answer);
    rest.split("\r\n").next().unwrap()
}

#[test]
fn every_refusal_comes_at_once_and_reaches_no_server() {
    let (mut world, heard) = world(allowed());
    let cases = [
        (
            "http_host_mismatch",
            "GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
        ),
        (
            "http_host_mismatch",
            "GET / HTTP/1.1\r\nHost: 203.0.113.7\r\n\r\n",
        ),
        (
            "http_host_mismatch",
            "GET / HTTP/1.1\r\nHost: api.example.com:81\r\n\r\n",
        ),
        (
            "http_host_mismatch",
            "GET / HTTP/1.1\r\nHost: api.example.com.evil.example.org\r\n\r\n",
        ),
        (
            "http_host_mismatch",
            "GET http://evil.example.org/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        ),
        (
            "http_host_mismatch",
            "GET http://api.example.com/ HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
        ),
        ("http_host_missing", "GET / HTTP/1.1\r\n\r\n"),
        ("http_host_missing", "GET / HTTP/1.0\r\n\r\n"),
        (
            "http_malformed",
            "\nGET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        ),
        (
            "http_malformed",
            "GET / HTTP/1.1\r\nHost : evil.example.org\r\nHost: api.example.com\r\n\r\n",
        ),
        (
            "http_malformed",
            "GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.example.org\r\n\r\n",
        ),
        (
            "http_malformed",
            "GET / HTTP/1.1\r\nX: y\r\n Host: evil.example.org\r\nHost: api.example.com\r\n\r\n",
        ),
        ("http_malformed", "GET /\r\n"),
        (
            "http_smuggling",
            "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        ("http_upgrade", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        (
            "http_upgrade",
            "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\n\r\n",
        ),
        (
            "http_connect",
            "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
        ),
    ];
    for (code, request) in cases {
        for port in [80, 8080, 443] {
            // The same client may do it right.
            let mut client = world.connect_name("api.example.com", port);
            client.write_all(OWN.as_bytes()).unwrap();
            hears(&mut client, &answer_of("/"));
            let mut client = world.connect_name("api.example.com", port);
            let started = Instant::now();
            client.write_all(request.as_bytes()).unwrap();
            let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
            assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
            assert!(answer.starts_with("HTTP/1.1 403 "), "{request}: {answer}");
            assert_eq!(code_of(&answer), code, "{request}");
            let names_host = answer.contains("is for another host, evil.example.org");
            assert!(
                !request.contains("Host: evil") || code != "http_host_mismatch" || names_host,
                "{answer}"
            );
        }
    }
    let log = world.wait_for_log(|log| {
        log.iter().filter(|line| line["event"] == "refuse").count() == 3 * cases.len()
    });
    let refusals: Vec<_> = log
        .iter()
        .filter(|line| line["event"] == "refuse")
        .collect();
    for (lines, (code, _)) in refusals.chunks(3).zip(cases) {
        for line in lines {
            assert_eq!(line["reason"], code);
            assert_eq!(line["rule"], "api.example.com:80,443,8080 (flag --allow)");
            assert_eq!(line["name"], "api.example.com");
        }
    }
    // The server heard the allowed requests and nothing else.
    assert_eq!(heard.text(), OWN.repeat(3 * cases.len()));
}

#[test]
fn what_is_neither_http_nor_tls_is_refused_on_port_80_only() {
    let (mut world, heard) = world(allowed());
    for words in ["SSH-2.0-client\r\n", "hello\r\n", "\0\x01\x02\x03"] {
        let mut client = world.connect_name("api.example.com", 80);
        let started = Instant::now();
        client.write_all(words.as_bytes()).unwrap();
        assert_reset(&mut client);
        assert!(started.elapsed() < AT_ONCE);
        let mut client = world.connect_name("api.example.com", 8080);
        client.write_all(words.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut client).unwrap(), b"");
    }
    assert_eq!(heard.text(), "SSH-2.0-client\r\nhello\r\n\0\x01\x02\x03");
    let log =
        world.wait_for_log(|log| log.iter().filter(|line| line["event"] == "refuse").count() == 3);
    assert!(
        log.iter()
            .filter(|line| line["event"] == "refuse")
            .all(|line| line["reason"] == "http_not_http")
    );
    let (summary, _) = world.finish();
    assert_eq!(
        summary.refusals[0].fix.as_deref(),
        Some("--allow api.example.com:80/raw")
    );
}

#[test]
fn a_header_that_hides_the_client_is_refused_on_every_port() {
    let (world, heard) = world(allowed());
    for port in [80, 8080, 443] {
        for words in [
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n".as_slice(),
            b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n",
        ] {
            let mut client = world.connect_name("api.example.com", port);
            client.write_all(words).unwrap();
            let answer = read_all(&mut client);
            assert!(answer.is_err() || answer.unwrap().starts_with(b"HTTP/1.1 403 "));
        }
    }
    let (_, log) = world.finish();
    let refusals: Vec<_> = log
        .iter()
        .filter(|line| line["event"] == "refuse")
        .collect();
    assert_eq!(refusals.len(), 6);
    assert!(
        refusals
            .iter()
            .all(|line| line["reason"] == "proxy_protocol")
    );
    assert_eq!(heard.text(), "");
}

#[test]
fn a_raw_rule_lifts_all_of_it() {
    let (world, heard) = world(Setup::allow(&[
        "api.example.com:80/raw",
        "api.example.com:8080",
    ]));
    let evil = "GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n";
    let mut client = world.connect_name("api.example.com", 80);
    client.write_all(evil.as_bytes()).unwrap();
    hears(&mut client, &answer_of("/"));
    assert_eq!(heard.text(), evil);
    // TLS, too.
    let hello = crate::names::hello(Some(b"evil.example.org"), &[], 16_384);
    let mut client = world.connect_name("api.example.com", 80);
    client.write_all(&hello).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), b"");
    assert!(heard.0.lock().unwrap().ends_with(&hello));
    let mut client = world.connect_name("api.example.com", 8080);
    client.write_all(evil.as_bytes()).unwrap();
    assert!(read_all(&mut client).unwrap().starts_with(b"HTTP/1.1 403 "));
}

#[test]
fn a_later_request_is_refused_behind_the_answers_to_earlier_ones() {
    let (world, heard) = world(allowed());
    let evil = "GET /evil HTTP/1.1\r\nHost: evil.example.org\r\n\r\n";
    // One after the other, and all at once.
    let mut client = world.connect_name("api.example.com", 80);
    for _ in 0..3 {
        client.write_all(OWN.as_bytes()).unwrap();
        hears(&mut client, &answer_of("/"));
    }
    let started = Instant::now();
    client.write_all(evil.as_bytes()).unwrap();
    let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    assert!(started.elapsed() < AT_ONCE);
    assert_eq!(code_of(&answer), "http_host_mismatch");
    assert!(answer.starts_with("HTTP/1.1 403 "));
    let mut client = world.connect_name("api.example.com", 8080);
    client
        .write_all([OWN, OWN, evil, OWN].concat().as_bytes())
        .unwrap();
    let answers = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    let two = answer_of("/").repeat(2);
    let refusal = answers.strip_prefix(&two).expect(&answers);
    assert!(refusal.starts_with("HTTP/1.1 403 "), "{answers}");
    assert_eq!(heard.text(), OWN.repeat(5));
}

#[test]
fn a_refusal_never_lands_in_another_answer() {
    let (mut world, _) = world(allowed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:80", listener.local_addr().unwrap());
    for begun in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
        "HTTP/1.1 200 OK\r\n\r\nuntil the end",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
    ] {
        let mut client = world.connect_name("api.example.com", 80);
        client.write_all(OWN.as_bytes()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.read_exact(&mut vec![0; OWN.len()]).unwrap();
        server.write_all(begun.as_bytes()).unwrap();
        hears(&mut client, begun);
        let started = Instant::now();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n")
            .unwrap();
        assert_reset(&mut client);
        assert!(started.elapsed() < 2 * AT_ONCE);
        assert_reset(&mut server);
    }
    // An answer that ends in time is waited for.
    let mut client = world.connect_name("api.example.com", 80);
    client.write_all(OWN.as_bytes()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut vec![0; OWN.len()]).unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n")
        .unwrap();
    server.write_all(answer_of("/").as_bytes()).unwrap();
    let answers = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    assert!(
        answers.starts_with(&(answer_of("/") + "HTTP/1.1 403 ")),
        "{answers}"
    );
    world.wait_for_log(|log| {
        log.iter()
            .filter(|line| line["reason"] == "http_host_mismatch")
            .count()
            == 6
    });
}

#[test]
fn a_request_passes_however_it_is_cut() {
    let (world, heard) = world(allowed());
    for port in [80, 8080] {
        let mut client = world.connect_name("api.example.com", port);
        client.set_nodelay(true).unwrap();
        for byte in OWN.bytes() {
            client.write_all(&[byte]).unwrap();
        }
        hears(&mut client, &answer_of("/"));
        // So slowly that the beginning of its line goes on: its end does not before the host is known.
        for (host, is_own) in [("api.example.com", true), ("evil.example.org", false)] {
            let mut client = world.connect_name("api.example.com", port);
            let before = heard.text();
            client.write_all(b"GET /slow").unwrap();
            std::thread::sleep(Duration::from_millis(300));
            client
                .write_all(format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
                .unwrap();
            if is_own {
                hears(&mut client, &answer_of("/slow"));
                let after = heard.text();
                assert_eq!(
                    after,
                    before + "GET /slow HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
                );
            } else {
                assert!(read_all(&mut client).unwrap().starts_with(b"HTTP/1.1 403 "));
                assert!(!heard.text().contains("evil"));
            }
        }
    }
}

#[test]
fn protocols_without_lines_are_not_held_for_long() {
    let (world, _) = world(allowed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:8080", listener.local_addr().unwrap());
    for (words, patience) in [
        (
            "003egit-upload-pack /project.git\0host=api.example.com\0",
            AT_ONCE,
        ),
        ("login agent", 4 * AT_ONCE),
    ] {
        let mut client = world.connect_name("api.example.com", 8080);
        let (mut server, _) = listener.accept().unwrap();
        let started = Instant::now();
        client.write_all(words.as_bytes()).unwrap();
        let mut heard = vec![0; words.len()];
        server.read_exact(&mut heard).unwrap();
        assert!(started.elapsed() < patience, "{:?}", started.elapsed());
        assert_eq!(heard, words.as_bytes());
        server.write_all(b"answer").unwrap();
        hears(&mut client, "answer");
        client.write_all(b"more\n and more\n").unwrap();
        let mut heard = [0; 15];
        server.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"more\n and more\n");
    }
}

#[test]
fn bodies_of_every_size_arrive_whole_and_the_next_request_is_judged() {
    let (world, _) = world(allowed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:80", listener.local_addr().unwrap());
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let mut chunks = Vec::new();
    for (number, chunk) in content.chunks(77_777).enumerate() {
        let extension = if number % 2 == 0 { "" } else { ";x=y" };
        chunks.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\nX-Sum: 1\r\n\r\n");
    let length = format!("Content-Length: {}", content.len());
    for (field, body) in [
        (length.as_str(), &content),
        ("Transfer-Encoding: chunked", &chunks),
    ] {
        let head = format!("PUT /x HTTP/1.1\r\nHost: api.example.com\r\n{field}\r\n\r\n");
        let request = [head.as_bytes(), body, OWN.as_bytes()].concat();
        let mut client = world.connect_name("api.example.com", 80);
        let (mut server, _) = listener.accept().unwrap();
        let evil = b"GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n";
        let said = [request.as_slice(), evil].concat();
        std::thread::scope(|scope| {
            scope.spawn(|| client.write_all(&said).unwrap());
            let mut heard = vec![0; request.len()];
            server.read_exact(&mut heard).unwrap();
            assert!(heard == request, "the server hears what was said");
        });
        // Not a byte of the last request follows.
        assert_reset(&mut server);
        assert_reset(&mut client);
    }
}

#[test]
fn a_web_socket_is_one_only_when_the_server_says_so() {
    let (world, _) = world(allowed());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    world.map("203.0.113.7:80", listener.local_addr().unwrap());
    let request = "GET /chat HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let agreed =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let begin = |words: &str| {
        let mut client = world.connect_name("api.example.com", 80);
        client.write_all(words.as_bytes()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        server.read_exact(&mut vec![0; request.len()]).unwrap();
        (client, server)
    };
    let (mut client, mut server) = begin(request);
    server.write_all(agreed.as_bytes()).unwrap();
    hears(&mut client, agreed);
    let frames = b"\x81\x85mask.....GET / HTTP/1.1\r\nHost: evil.example.org\r\n\r\n";
    client.write_all(frames).unwrap();
    let mut heard = vec![0; frames.len()];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(heard, frames);
    server.write_all(b"\x81\x05hello").unwrap();
    let mut frame = [0; 7];
    client.read_exact(&mut frame).unwrap();
    assert_eq!(&frame, b"\x81\x05hello");
    // What was said before the server agreed waits, and is judged as HTTP when it did not.
    let evil = "GET /evil HTTP/1.1\r\nHost: evil.example.org\r\n\r\n";
    let (mut client, mut server) = begin(&[request, evil].concat());
    server.set_read_timeout(Some(AT_ONCE)).unwrap();
    let error = server.read(&mut [0; 1]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let refused = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
    server.write_all(refused.as_bytes()).unwrap();
    hears(&mut client, refused);
    let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    assert_eq!(code_of(&answer), "http_host_mismatch");
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_reset(&mut server);
    // A server that ends instead.
    let (mut client, server) = begin(&[request, evil].concat());
    drop(server);
    let _ = read_all(&mut client);
    // An answer to an earlier request is none to this one.
    let mut client = world.connect_name("api.example.com", 80);
    client
        .write_all([OWN, request].concat().as_bytes())
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.read_exact(&mut vec![0; OWN.len()]).unwrap();
    server.write_all(answer_of("/").as_bytes()).unwrap();
    hears(&mut client, &answer_of("/"));
    let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    assert_eq!(code_of(&answer), "http_upgrade");
    assert_reset(&mut server);
}

/// A server that agrees to HTTP/2 although nobody offered it gets no HTTP/2.
#[test]
fn an_offer_of_http2_does_not_reach_the_server() {
    let (world, heard) = world(allowed());
    let offer =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    for port in [80, 8080] {
        let mut client = world.connect_name("api.example.com", port);
        for path in ["/one", "/two"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: api.example.com\r\n{offer}\r\n");
            client.write_all(request.as_bytes()).unwrap();
            hears(&mut client, &answer_of(path));
        }
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
        assert_eq!(code_of(&answer), "http_upgrade");
    }
    let heard = heard.text();
    assert_eq!(
        heard
            .matches("GET /one HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
            .count(),
        2,
        "{heard}"
    );
    for word in ["h2c", "HTTP2", "Upgrade", "PRI"] {
        assert!(!heard.contains(word), "{heard}");
    }
}

#[test]
fn internet_mode_holds_requests_to_deny_rules_only() {
    let other = "GET / HTTP/1.1\r\nHost: front.example.net\r\n\r\n";
    let evil = "GET / HTTP/1.1\r\nHost: a.evil.example.org\r\n\r\n";
    let garbled = "GET / HTTP/1.1\r\nHost : x\r\n\r\n";
    let (world, heard) = world(Setup::mode(NetworkMode::Internet).deny(&["*.evil.example.org"]));
    for passes in [OWN, other, garbled] {
        let mut client = world.connect_name("api.example.com", 80);
        client.write_all(passes.as_bytes()).unwrap();
        hears(&mut client, &answer_of("/"));
    }
    let mut client = world.connect_name("api.example.com", 80);
    client.write_all(OWN.as_bytes()).unwrap();
    hears(&mut client, &answer_of("/"));
    client.write_all(evil.as_bytes()).unwrap();
    let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
    assert_eq!(code_of(&answer), "deny_rule");
    assert!(!heard.text().contains("evil"));
    let (_, log) = world.finish();
    let line = log.iter().find(|line| line["event"] == "refuse").unwrap();
    assert_eq!(line["rule"], "*.evil.example.org (flag --deny)");
}

#[test]
fn internet_mode_without_deny_rules_looks_at_nothing() {
    let (world, heard) = world(Setup::mode(NetworkMode::Internet));
    let mut client = world.connect_name("api.example.com", 80);
    for request in [OWN, "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "BLAH\r\n\r\n"] {
        client.write_all(request.as_bytes()).unwrap();
        let path = request.split(' ').nth(1).unwrap_or_default();
        hears(&mut client, &answer_of(path));
    }
    assert!(heard.text().ends_with("BLAH\r\n\r\n"));
    // A rule that comes later holds connections to the name, so what was not looked at is cut.
    assert_eq!(world.allow(&["api.example.com:80"], &[]), 1);
    assert_reset(&mut client);
}

#[test]
fn literal_addresses_have_no_name_to_be_held_to() {
    let (world, _) = world(Setup::allow(&["203.0.113.7:80"]));
    let mut client = world.connect("203.0.113.7:80");
    client
        .write_all(b"GET /x HTTP/1.1\r\nHost: any.example.org\r\n\r\n")
        .unwrap();
    hears(&mut client, &answer_of("/x"));
}

#[test]
fn a_client_that_ends_in_the_middle_of_a_head_is_told() {
    let (world, heard) = world(allowed());
    for (port, words) in [
        (80, &OWN[..30]),
        (8080, &OWN[..30]),
        (8080, "GET / HTTP/1.0"),
    ] {
        let mut client = world.connect_name("api.example.com", port);
        client.write_all(words.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = String::from_utf8(read_all(&mut client).unwrap()).unwrap();
        assert_eq!(code_of(&answer), "http_malformed");
    }
    // After a whole request it is an end as any other.
    let mut client = world.connect_name("api.example.com", 80);
    client.write_all(OWN.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&mut client).unwrap(), answer_of("/").as_bytes());
    assert_eq!(heard.text(), OWN);
}
