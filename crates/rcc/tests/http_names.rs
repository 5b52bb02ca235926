//! Plain HTTP by name, with real clients: neighbour.example lives at the address of allowed.example, and only the Host of a
//! request tells them apart.
//!
//! Each trick runs three ways: where only allowed.example is allowed it is refused at once with its code, and the neighbour's server
//! sees no request; the same client without the trick works; and with a raw rule the trick does reach the neighbour.
#![forbid(unsafe_code)]

mod support;

use rcc_testkit::require;
use rcc_testkit::world::World;
use support::Place;

const ALLOWED: &[&str] = &["--allow", "allowed.example"];
const RAW: &[&str] = &["--allow", "allowed.example/raw"];

/// One way to ask the server of an allowed name for its neighbour.
struct Trick {
    name: &'static str,
    /// What runs in the sandbox; it prints `milliseconds N` for the refused part.
    script: &'static str,
    code: &'static str,
    /// The same client without the trick; ends in success.
    control: &'static str,
    /// Without checks the neighbour is asked: the server reads such requests.
    arrives: bool,
}

/// Requests that named the neighbour, in their Host, target or handshake.
fn for_the_neighbour(world: &World) -> usize {
    let requests = world.http_requests();
    let names_it = |text: Option<&str>| text.is_some_and(|text| text.contains("neighbour"));
    requests
        .iter()
        .filter(|request| {
            names_it(request.header("host"))
                || names_it(Some(&request.target))
                || names_it(request.server_name.as_deref())
        })
        .count()
}

#[track_caller]
fn check(world: &World, tricks: &[Trick]) {
    for trick in tricks {
        let place = Place::new(world, trick.name);
        world.forget();
        let control = place.sh(ALLOWED, trick.control);
        assert_eq!(control.code(), Some(0), "{}: {control}", trick.name);
        let refusals = |place: &Place<'_>| -> Vec<serde_json::Value> {
            let events = place.events();
            let refused = |event: &serde_json::Value| event["event"] == "refuse";
            events.into_iter().filter(refused).collect()
        };
        assert!(
            refusals(&place).is_empty(),
            "{}: {:?}",
            trick.name,
            place.briefs()
        );
        assert!(
            !world.http_requests().is_empty(),
            "{}: {control}",
            trick.name
        );
        assert_eq!(for_the_neighbour(world), 0);

        place.forget_events();
        let output = place.sh(ALLOWED, trick.script);
        let refused = refusals(&place);
        assert!(!refused.is_empty(), "{}: {output}", trick.name);
        for line in &refused {
            assert_eq!(line["reason"], trick.code, "{}: {output}", trick.name);
            assert_eq!(line["name"], "allowed.example", "{}", trick.name);
            let rule = line["rule"].as_str().unwrap_or_default();
            assert!(
                rule.starts_with("allowed.example "),
                "{}: {line}",
                trick.name
            );
        }
        assert_eq!(for_the_neighbour(world), 0, "{}: {output}", trick.name);
        let text = output.stdout_text();
        let times: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix("milliseconds ")?.trim().parse().ok())
            .collect();
        assert!(!times.is_empty(), "{}: {output}", trick.name);
        for time in times {
            support::assert_soon(time, trick.name);
        }

        place.forget_events();
        let output = place.sh(RAW, trick.script);
        assert!(
            refusals(&place).is_empty(),
            "{}: {:?}\n{output}",
            trick.name,
            place.briefs()
        );
        if trick.arrives {
            assert!(for_the_neighbour(world) > 0, "{}: {output}", trick.name);
        }
    }
}

/// curl(1) prints what became of each transfer; `%{time_total}` is in seconds.
macro_rules! curl {
    ($arguments:literal) => {
        concat!(
            "curl -sS --max-time 5 -o body -w '%{http_code} %{num_connects}\\nmilliseconds %{time_total}\\n' ",
            $arguments,
            " | sed 's/^\\(milliseconds .*\\)$/\\1 1000/' | awk '/^milliseconds/ { print $1, $2 * $3; next } { print }'; cat body; true"
        )
    };
}

#[test]
fn curl_reaches_no_other_host_of_an_allowed_address() {
    if !require("curl") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let plain = "curl -fsS http://allowed.example/";
    check(
        &world,
        &[
            Trick {
                name: "host-field",
                script: curl!("-H 'Host: neighbour.example' http://allowed.example/"),
                code: "http_host_mismatch",
                control: "curl -fsS -H 'Host: ALLOWED.example.' http://allowed.example/",
                arrives: true,
            },
            Trick {
                name: "later-request",
                script: "curl -sS http://allowed.example/one -o one --next -sS --max-time 5 -H 'Host: neighbour.example' \
                         -w '%{num_connects} %{http_code}\\n%{time_total}\\n' -o two http://allowed.example/two > out; \
                         awk 'NR == 1 { print } NR == 2 { print \"milliseconds\", $1 * 1000 }' out; cat one two; true",
                code: "http_host_mismatch",
                control: "curl -fsS http://allowed.example/one --next -fsS -w '%{num_connects}' http://allowed.example/two | grep -q '0$'",
                arrives: true,
            },
            Trick {
                name: "resolve",
                script: "address=$(getent ahostsv4 allowed.example | head -n1 | cut -d' ' -f1)\n\
                         curl -sS --max-time 5 --resolve neighbour.example:80:$address -w '%{time_total}\\n' -o body http://neighbour.example/ > out; \
                         awk '{ print \"milliseconds\", $1 * 1000 }' out; cat body; true",
                code: "http_host_mismatch",
                control: "address=$(getent ahostsv4 allowed.example | head -n1 | cut -d' ' -f1)\n\
                          curl -fsS --resolve allowed.example:80:$address http://allowed.example/",
                arrives: true,
            },
            Trick {
                name: "resolve-tls",
                script: "address=$(getent ahostsv4 allowed.example | head -n1 | cut -d' ' -f1)\n\
                         curl -ksS --max-time 5 --resolve neighbour.example:443:$address -w '%{time_total}\\n' -o body https://neighbour.example/ > out; \
                         awk '{ print \"milliseconds\", $1 * 1000 }' out; true",
                code: "tls_name_mismatch",
                control: "curl -kfsS https://allowed.example/",
                arrives: true,
            },
            Trick {
                name: "space-before-colon",
                script: curl!("-H 'Host : neighbour.example' http://allowed.example/"),
                code: "http_malformed",
                control: plain,
                arrives: false,
            },
            Trick {
                name: "absolute-form",
                script: curl!("-x http://allowed.example:80 http://neighbour.example/"),
                code: "http_host_mismatch",
                control: "curl -fsS -x http://allowed.example:80 http://allowed.example/",
                arrives: true,
            },
            Trick {
                name: "request-target",
                script: curl!("--request-target http://neighbour.example/ http://allowed.example/"),
                code: "http_host_mismatch",
                control: "curl -fsS --request-target http://allowed.example/ http://allowed.example/",
                arrives: true,
            },
            Trick {
                name: "tunnel",
                script: curl!("-p -x http://allowed.example:80 http://neighbour.example/"),
                code: "http_connect",
                control: plain,
                arrives: true,
            },
            Trick {
                name: "no-host",
                script: curl!("-H 'Host:' http://allowed.example/"),
                code: "http_host_missing",
                control: plain,
                arrives: false,
            },
            Trick {
                name: "http2",
                script: curl!("--http2-prior-knowledge http://allowed.example/"),
                code: "http_upgrade",
                // Offered only, it goes on without.
                control: "curl -fsS --http2 http://allowed.example/",
                arrives: false,
            },
            Trick {
                name: "upgrade",
                script: curl!(
                    "-H 'Connection: Upgrade' -H 'Upgrade: h2c, TLS/1.2' http://allowed.example/"
                ),
                code: "http_upgrade",
                control: plain,
                arrives: false,
            },
            Trick {
                name: "proxy-protocol",
                script: curl!("--haproxy-protocol http://allowed.example/"),
                code: "proxy_protocol",
                control: plain,
                arrives: false,
            },
            Trick {
                name: "body-of-a-get",
                script: curl!("-X GET -d x http://allowed.example/"),
                code: "http_smuggling",
                control: "curl -fsS -d x http://allowed.example/",
                arrives: false,
            },
        ],
    );
}

#[test]
fn node_reaches_no_other_host_on_a_connection_it_keeps() {
    if !require("node") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    check(
        &world,
        &[Trick {
            name: "node",
            script: "cat > ask.js <<'X'\n\
const http = require('http');\n\
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });\n\
const ask = (host) => new Promise((done) => {\n\
  const start = performance.now();\n\
  const request = http.get({ agent, host: 'allowed.example', headers: { host } }, (answer) => {\n\
    answer.resume();\n\
    answer.on('end', () => done([answer.statusCode, request.reusedSocket, performance.now() - start]));\n\
  });\n\
  request.on('error', (error) => done([error.code, request.reusedSocket, performance.now() - start]));\n\
});\n\
(async () => {\n\
  console.log((await ask('allowed.example')).join(' '));\n\
  const second = await ask('neighbour.example');\n\
  console.log(second.join(' '));\n\
  console.log('milliseconds ' + second[2]);\n\
  process.exit(0);\n\
})();\n\
X\n\
node ask.js",
            code: "http_host_mismatch",
            control: "node -e \"(async () => { for (const path of ['a', 'b']) { \
                      const answer = await fetch('http://allowed.example/' + path); \
                      if (answer.status != 200) process.exit(1); await answer.text(); } process.exit(0); })()\"",
            arrives: true,
        }],
    );
}

#[test]
fn python_reaches_no_other_host_nor_speaks_past_a_web_socket() {
    if !require("/usr/bin/python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    check(
        &world,
        &[
            Trick {
                name: "http-client",
                script: r#"/usr/bin/python3 -c "
import http.client, time
c = http.client.HTTPConnection('allowed.example', 80)
c.request('GET', '/'); print(c.getresponse().read())
start = time.monotonic()
try:
    c.request('GET', '/', headers={'Host': 'neighbour.example'}); r = c.getresponse(); print(r.status, r.read())
except Exception as e: print(e)
print('milliseconds', (time.monotonic() - start) * 1000)""#,
                code: "http_host_mismatch",
                control: r#"/usr/bin/python3 -c "
import http.client
c = http.client.HTTPConnection('allowed.example', 80)
for n in range(3):
    c.request('POST', '/', body=b'x' * 100000); r = c.getresponse(); r.read(); assert r.status == 200""#,
                arrives: true,
            },
            Trick {
                name: "web-socket",
                // The server of this world agrees to no upgrade.
                script: r#"/usr/bin/python3 -c "
import socket, time
s = socket.create_connection(('allowed.example', 80)); s.settimeout(5)
start = time.monotonic()
s.sendall(b'GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
          b'GET / HTTP/1.1\r\nHost: neighbour.example\r\n\r\n')
data = b''
try:
    while b'neighbour' not in data:
        more = s.recv(65536)
        if not more: break
        data += more
except OSError as e: print(e)
print(data)
print('milliseconds', (time.monotonic() - start) * 1000)""#,
                code: "http_host_mismatch",
                control: r#"/usr/bin/python3 -c "
import socket
s = socket.create_connection(('allowed.example', 80)); s.settimeout(5)
s.sendall(b'GET / HTTP/1.1\r\nHost: allowed.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n'
          b'GET /2 HTTP/1.1\r\nHost: allowed.example\r\n\r\n')
data = b''
while data.count(b'200 OK') < 2: data += s.recv(65536)""#,
                arrives: true,
            },
        ],
    );
}

#[test]
fn git_over_http_works_and_names_no_other_host() {
    if !require("git") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    world.make_git_repository("hello.git", &[("README", "hello\n")]);
    let place = Place::new(&world, "git");
    let allowed = ["--allow", "git.example"];
    let clone = "git clone --quiet http://git.example/hello.git copy && cat copy/README";
    let output = place.sh(&allowed, clone);
    assert_eq!(output.assert_success().stdout_text(), "hello\n", "{output}");
    assert!(!place.briefs().iter().any(|line| line.starts_with("refuse")));
    world.forget();
    let trick = "git -c http.extraHeader='Host: neighbour.example' clone --quiet http://git.example/hello.git other";
    let output = place.sh(&allowed, trick);
    assert_ne!(output.code(), Some(0), "{output}");
    assert!(output.stderr_text().contains("403"), "{output}");
    assert_eq!(for_the_neighbour(&world), 0);
    let events = place.events();
    let refused: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "refuse")
        .collect();
    assert!(!refused.is_empty());
    for line in refused {
        assert_eq!(line["reason"], "http_host_mismatch", "{line}");
    }
}
