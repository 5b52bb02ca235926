//! Programs that people use, each with something that must work and something that must not.
//!
//! `$PROBE` stands in where no program of the machine speaks a protocol.

use crate::case::{Case, Expect, Group, curl, probe};

/// Where the servers of the corpus listen.
const PLAIN: [&str; 2] = ["203.0.113.10:80", "[2001:db8::10]:80"];
const SECURE: [&str; 2] = ["203.0.113.10:443", "[2001:db8::10]:443"];
const RULE: &str = "allowed.example:7,80,443,3128,5201,9080-9082,9443";
const NO_RULE: (&str, &str) = ("no_rule", "");
const SSH: &str = "ssh -F none -o IdentitiesOnly=yes -o BatchMode=yes -o ConnectTimeout=5 -o UserKnownHostsFile=known_hosts -i ssh_key";

fn allowed(name: &str, script: impl Into<String>, sees: &[&str], needs: &[&'static str]) -> Case {
    needs
        .iter()
        .fold(Case::allowed("client", name, script, sees), |case, need| {
            case.needs(need)
        })
}

fn refused(
    name: &str,
    script: impl Into<String>,
    shows: &[&str],
    log: (&'static str, &'static str),
    needs: &[&'static str],
) -> Case {
    needs.iter().fold(
        Case::refused("client", name, script, shows, log),
        |case, need| case.needs(need),
    )
}

fn curls() -> Vec<Case> {
    let node = &["curl", "node", "openssl"];
    let address = "address=$(getent ahostsv4 allowed.example | sed -n '1s/ .*//p'); ";
    vec![
        allowed("curl, HTTP/1.1", curl("http://allowed.example/"), &["\"host\":\"allowed.example\"", "status 200 version 1.1"], &["curl"]),
        allowed("curl, HTTPS", curl("https://allowed.example/"), &["\"server_name\":\"allowed.example\"", "status 200"], &["curl"]),
        allowed("curl, HTTP/2 over TLS", curl("--http2 https://allowed.example:9443/"), &["spoke 2.0 with allowed.example:9443", "version 2"], node),
        allowed("curl, three requests on one connection", curl("http://allowed.example/1 http://allowed.example/2 http://allowed.example/3"), &["\"target\":\"/3\""], &["curl"]),
        allowed("curl, upload", "head -c 200000 /dev/zero | curl -sS --data-binary @- http://allowed.example/", &["\"body_bytes\":200000"], &["curl"]),
        allowed("curl, a proxy by absolute form", curl("-x http://allowed.example:3128 http://allowed.example:3128/"), &["spoke 1.1 with allowed.example:3128"], node),
        refused("curl, a name without a rule", curl("http://denied.example/"), &["Could not resolve host"], NO_RULE, &["curl"]).unseen("denied"),
        refused("curl, an address without a rule", curl("http://203.0.113.20/"), &["403 Forbidden", "no_rule"], NO_RULE, &["curl"]),
        refused("curl, an address without a rule, TLS", curl("https://203.0.113.20/"), &["alert access denied"], NO_RULE, &["curl"]),
        refused("curl, userinfo", curl("http://allowed.example@denied.example/"), &["Could not resolve host: denied.example"], NO_RULE, &["curl"]).unseen("denied"),
        refused("curl, a fragment", curl("'http://denied.example#allowed.example/'"), &["Could not resolve host: denied.example"], NO_RULE, &["curl"]).unseen("denied"),
        allowed("curl, a backslash belongs to the userinfo", curl("'http://denied.example\\@allowed.example/'"), &["\"host\":\"allowed.example\""], &["curl"]),
        refused("35: domain fronting by --connect-to", curl("--connect-to neighbour.example:443:allowed.example:443 https://neighbour.example/"), &["alert access denied"], ("tls_name_mismatch", RULE), &["curl"]).touches(&SECURE),
        refused("35: domain fronting by --resolve, HTTP/2", format!("{address}{}", curl("--http2 --resolve neighbour.example:9443:$address https://neighbour.example:9443/")), &["alert access denied"], ("tls_name_mismatch", RULE), node).touches(&["203.0.113.10:9443", "[2001:db8::10]:9443"]),
        refused("35: the address of an allowed name", curl("-H 'Host: allowed.example' http://203.0.113.10/"), &["403 Forbidden", "no_rule"], NO_RULE, &["curl"]),
        refused("curl, HTTP/2 without TLS", curl("--http2-prior-knowledge http://allowed.example:9081/"), &["status 000"], ("http_upgrade", RULE), node).touches(&["203.0.113.10:9081"]),
        allowed("curl, an offer of HTTP/2", curl("--http2 http://allowed.example/"), &["200 OK", "version 1.1"], &["curl"]),
        refused("30: CONNECT through an allowed proxy", curl("-x http://allowed.example:3128 https://203.0.113.20/"), &["403 Forbidden", "http_connect"], ("http_connect", RULE), node).touches(&["203.0.113.10:3128"]),
        refused("30: CONNECT through an allowed proxy to the LAN", curl("-p -x http://allowed.example:3128 http://192.168.77.10/"), &["403 Forbidden", "http_connect"], ("http_connect", RULE), node).touches(&["203.0.113.10:3128"]),
        refused("30: another host through an allowed proxy", curl("-x http://allowed.example:3128 http://203.0.113.20/"), &["403 Forbidden", "http_host_mismatch"], ("http_host_mismatch", RULE), node).touches(&["203.0.113.10:3128"]),
        refused("curl, a redirect to a name without a rule", curl("-L http://allowed.example:9082/http%3A%2F%2Fdenied.example%2F"), &["302 Found", "Could not resolve host: denied.example"], NO_RULE, node).talks(&["203.0.113.10:9082"]),
        refused("curl, a redirect to the LAN", curl("-L http://allowed.example:9082/http%3A%2F%2F192.168.77.10%2F"), &["302 Found", "403 Forbidden", "private_address"], ("private_address", ""), node).talks(&["203.0.113.10:9082"]),
        refused("curl, a redirect to metadata", curl("-L http://allowed.example:9082/http%3A%2F%2F169.254.169.254%2F"), &["302 Found", "403 Forbidden", "metadata_address"], ("metadata_address", ""), node).talks(&["203.0.113.10:9082"]),
        refused("curl, a redirect to another port", curl("-L http://allowed.example:9082/http%3A%2F%2Fallowed.example%3A8080%2F"), &["302 Found", "403 Forbidden", "port_not_allowed"], ("port_not_allowed", RULE), node).talks(&["203.0.113.10:9082"]),
        refused(
            "curl, refused while another transfer runs",
            format!("curl -sS --limit-rate 4M http://allowed.example/bytes/2000000 | wc -c >size & {}; wait; cat size", curl("http://203.0.113.20/")),
            &["403 Forbidden", "no_rule", "2000000"], NO_RULE, &["curl"],
        ).talks(&PLAIN),
        allowed("wget", "wget -q -O - http://allowed.example/", &["\"host\":\"allowed.example\""], &["wget"]),
        refused("wget, an address without a rule", "wget -t 1 -O - http://203.0.113.20/", &["403 Forbidden"], NO_RULE, &["wget"]),
    ]
}

fn tls() -> Vec<Case> {
    let client = |words: &str| {
        format!("openssl s_client -connect allowed.example:443 {words} </dev/null 2>&1")
    };
    vec![
        allowed(
            "openssl, TLS 1.3",
            client("-servername allowed.example -tls1_3"),
            &["New, TLSv1.3"],
            &["openssl"],
        ),
        allowed(
            "openssl, TLS 1.2",
            client("-servername allowed.example -tls1_2"),
            &["New, TLSv1.2"],
            &["openssl"],
        ),
        refused(
            "35: openssl, another name",
            client("-servername neighbour.example"),
            &["alert number 49"],
            ("tls_name_mismatch", RULE),
            &["openssl"],
        )
        .touches(&SECURE)
        // It starts slowly.
        .own_time(500.0),
        refused(
            "35: openssl, no name",
            client("-noservername"),
            &["alert number 49"],
            ("tls_no_name", RULE),
            &["openssl"],
        )
        .touches(&SECURE)
        // It starts slowly.
        .own_time(500.0),
        allowed(
            "openssl, DTLS",
            "openssl s_client -dtls1_2 -4 -connect allowed.example:4433 </dev/null 2>&1",
            &["DTLSv1.2", "allowed.example"],
            &["openssl"],
        ),
        // It looks at its socket's error only when its own timer says so.
        refused(
            "openssl, DTLS to an address without a rule",
            "openssl s_client -dtls1_2 -connect 203.0.113.10:4433 </dev/null 2>&1",
            &["errno"],
            NO_RULE,
            &["openssl"],
        )
        .own_time(2000.0),
        allowed(
            "QUIC",
            probe(&[
                "quic",
                "allowed.example",
                "443",
                "allowed.example",
                "100000",
                "1",
            ]),
            &["\"same\":true", "\"server_name\":\"allowed.example\""],
            &[],
        ),
        // The client hears ICMP and goes on; it gives up after three seconds.
        refused(
            "35: QUIC, another name",
            probe(&[
                "quic",
                "allowed.example",
                "443",
                "neighbour.example",
                "10",
                "1",
            ]),
            &["\"ok\":false"],
            ("quic_name_mismatch", "allowed.example:443,4433,5201/udp"),
            &[],
        )
        .own_time(4000.0),
        refused(
            "QUIC, an address without a rule",
            probe(&["quic", "203.0.113.20", "443", "allowed.example", "10", "1"]),
            &["\"ok\":false"],
            NO_RULE,
            &[],
        )
        .own_time(4000.0),
    ]
}

fn ssh_and_git() -> Vec<Case> {
    let clone = |url: &str| {
        format!(
            "rm -rf copy; git -c http.sslVerify=false clone --quiet {url} copy && cat copy/README"
        )
    };
    let over_ssh = |url: &str| {
        format!(
            "rm -rf copy; GIT_SSH_COMMAND='{SSH}' git clone --quiet {url} copy && cat copy/README"
        )
    };
    let hello = &["hello from the corpus"];
    let (git, ssh) = (&["git"], &["ssh", "sshd"]);
    vec![
        allowed("ssh", format!("{SSH} git@git.example echo hello from afar"), &["hello from afar"], ssh),
        refused("44: ssh, an address without a rule", format!("{SSH} -o StrictHostKeyChecking=no git@203.0.113.41 echo hello"), &["onnection reset by"], NO_RULE, ssh),
        refused("ssh, a name without a rule", format!("{SSH} git@denied.example echo hello"), &["Could not resolve hostname"], NO_RULE, ssh).unseen("denied"),
        refused("44: ssh, port 22 of an allowed name", format!("{SSH} git@allowed.example echo hello"), &["onnection reset by"], ("port_not_allowed", RULE), ssh).without_control(),
        allowed("git, https", clone("https://git.example/corpus.git"), hello, git),
        allowed("git, http", clone("http://git.example/corpus.git"), hello, git),
        allowed("git, ssh", over_ssh("ssh://git@git.example/corpus.git"), hello, &["git", "ssh", "sshd"]),
        allowed("git, its own protocol", clone("git://git.example/corpus.git"), hello, git),
        refused("git, https, a name without a rule", clone("https://denied.example/corpus.git"), &["Could not resolve host"], NO_RULE, git).unseen("denied"),
        refused("git, https, an address without a rule", clone("https://203.0.113.41/corpus.git"), &["203.0.113.41"], NO_RULE, git)
            // It reads all certificates before it speaks, and hears then.
            .own_time(1000.0),
        refused("git, http, an address without a rule", clone("http://203.0.113.41/corpus.git"), &["403"], NO_RULE, git),
        refused("git, its own protocol, an address without a rule", clone("git://203.0.113.41/corpus.git"), &["fatal"], NO_RULE, git),
        refused("git, another Host", "rm -rf copy; git -c http.extraHeader='Host: neighbour.example' clone --quiet http://git.example/corpus.git copy", &["403"], ("http_host_mismatch", "git.example:22,80,443,9418"), git)
            .touches(&["203.0.113.41:80", "[2001:db8::41]:80"]),
    ]
}

fn languages() -> Vec<Case> {
    let python = |text: &str| {
        format!(
            "/usr/bin/python3 -c \"\nimport socket, time, urllib.request, ssl\nstart = time.monotonic()\ntry:\n{text}\nexcept Exception as e: print(type(e).__name__, e)\nprint('milliseconds', (time.monotonic() - start) * 1000)\""
        )
    };
    let get = |url: &str| {
        python(&format!(
            "    print(urllib.request.urlopen('{url}', timeout=5, context=ssl._create_unverified_context()).read())"
        ))
    };
    let node = |url: &str| {
        format!(
            "NODE_TLS_REJECT_UNAUTHORIZED=0 NODE_NO_WARNINGS=1 node -e \"fetch('data:,').then(async () => {{ const start = performance.now(); \
             try {{ console.log(await (await fetch('{url}')).text()); }} catch (e) {{ console.log(String(e.cause.code)); }} \
             console.log('milliseconds ' + (performance.now() - start)); process.exit(0); }})\""
        )
    };
    let java = |url: &str| {
        format!(
            "[ -f Client.class ] || {{ cat >Client.java <<'X'\n\
             public class Client {{\n\
             public static void main(String[] a) throws Exception {{\n\
             for (int turn = 0; turn < 2; turn++) {{\n\
             long start = System.nanoTime();\n\
             try {{\n\
             var c = (java.net.HttpURLConnection) new java.net.URL(a[0]).openConnection();\n\
             System.out.println(c.getResponseCode() + \" \" + c.getHeaderField(\"X-Rcc-Reason\"));\n\
             }} catch (Exception e) {{ System.out.println(e); }}\n\
             if (turn == 1) System.out.println(\"milliseconds \" + (System.nanoTime() - start) / 1e6);\n\
             }} }} }}\nX\n\
             javac -proc:none Client.java; }}\n\
             java -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData -cp . Client {url}"
        )
    };
    let py = &["/usr/bin/python3"];
    let web_socket = |host: &str| {
        format!(
            "    s = socket.create_connection(('allowed.example', 9080), 5)\n    s.sendall(b'GET / HTTP/1.1\\r\\nHost: {host}:9080\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n'\n        \
             b'Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n')\n    print(s.recv(4096))\n    s.settimeout(1)\n    \
             s.sendall(b'\\x81\\x85mask' + bytes(a ^ b for a, b in zip(b'hello', b'maskm')))\n    print(s.recv(4096)[2:])"
        )
    };
    let ntp = |host: &str| {
        format!(
            "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(2); s.connect((socket.getaddrinfo('{host}', 123, socket.AF_INET)[0][4]))\n    \
             s.send(b'\\x23' + bytes(39) + b'timestmp')\n    r = s.recv(99)\n    print('mode', r[0] & 7, 'stratum', r[1], 'origin', r[24:32])"
        )
    };
    let mut cases = vec![
        allowed(
            "python, urllib",
            get("http://allowed.example/"),
            &["allowed.example"],
            py,
        ),
        allowed(
            "python, urllib over TLS",
            get("https://allowed.example/"),
            &["server_name"],
            py,
        ),
        refused(
            "python, a name without a rule",
            get("http://denied.example/"),
            &["URLError"],
            NO_RULE,
            py,
        )
        .unseen("denied"),
        refused(
            "python, an address without a rule",
            get("http://203.0.113.20/"),
            &["HTTP Error 403"],
            NO_RULE,
            py,
        ),
        refused(
            "python, an address without a rule, TLS",
            get("https://203.0.113.20/"),
            &["ACCESS_DENIED"],
            NO_RULE,
            py,
        ),
        allowed(
            "WebSocket",
            python(&web_socket("allowed.example")),
            &[
                "101 Switching Protocols",
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                "b'hello'",
            ],
            &["/usr/bin/python3", "node", "openssl"],
        ),
        refused(
            "WebSocket to another host",
            python(&web_socket("neighbour.example")),
            &["403 Forbidden", "http_host_mismatch"],
            ("http_host_mismatch", RULE),
            &["/usr/bin/python3", "node", "openssl"],
        )
        .touches(&["203.0.113.10:9080"]),
        allowed(
            "NTP",
            python(&ntp("time.example")),
            &["mode 4 stratum 1 origin b'timestmp'"],
            py,
        ),
        refused(
            "NTP to an address without a rule",
            python(&ntp("203.0.113.44")),
            &["No route to host"],
            NO_RULE,
            py,
        ),
        allowed(
            "node, fetch",
            node("http://allowed.example/"),
            &["allowed.example"],
            &["node"],
        ),
        allowed(
            "node, fetch over TLS",
            node("https://allowed.example/"),
            &["server_name"],
            &["node"],
        ),
        refused(
            "38: node, a name without a rule",
            node("http://denied.example/"),
            &["E"],
            NO_RULE,
            &["node"],
        )
        .unseen("denied"),
        refused(
            "38: node, an address without a rule",
            node("http://203.0.113.20/"),
            &["no_rule"],
            NO_RULE,
            &["node"],
        ),
        refused(
            "38: node, an address without a rule, TLS",
            node("https://203.0.113.20/"),
            &["ERR_SSL"],
            NO_RULE,
            &["node"],
        ),
        allowed(
            "java",
            java("http://allowed.example/"),
            &["200 null"],
            &["javac"],
        ),
        refused(
            "38: java, a name without a rule",
            java("http://denied.example/"),
            &["UnknownHostException"],
            NO_RULE,
            &["javac"],
        )
        .unseen("denied"),
        refused(
            "38: java, an address without a rule",
            java("http://203.0.113.20/"),
            &["403 no_rule"],
            NO_RULE,
            &["javac"],
        ),
    ];
    // These load their TLS, resolver and HTTP while their clock runs.
    for case in &mut cases {
        if let Expect::Refused(refusal) = &mut case.expect {
            refusal.own = 300.0;
        }
    }
    cases
}

fn tools() -> Vec<Case> {
    let dig = |words: &str| format!("dig +tries=1 +time=2 {words}");
    vec![
        allowed(
            "dig",
            dig("allowed.example"),
            &["status: NOERROR", "198.18."],
            &["dig"],
        ),
        allowed(
            "dig, TCP",
            dig("+tcp AAAA allowed.example"),
            &["status: NOERROR", "fd72:6363:"],
            &["dig"],
        ),
        refused(
            "32: dig, a name without a rule",
            dig("secret.attacker.example TXT"),
            &["status: REFUSED", "EDE: 15 (Blocked)", "no_rule"],
            NO_RULE,
            &["dig"],
        )
        .unseen("secret"),
        refused(
            "32: dig, another resolver",
            dig("@198.51.100.53 secret.attacker.example"),
            &["status: REFUSED", "EDE: 15 (Blocked)"],
            NO_RULE,
            &["dig"],
        )
        .unseen("secret"),
        refused(
            "32: dig, another resolver over TCP",
            dig("+tcp @203.0.113.55 secret.attacker.example"),
            &["status: REFUSED"],
            NO_RULE,
            &["dig"],
        )
        .unseen("secret"),
        refused(
            "32: getent",
            "getent hosts secret.attacker.example; echo code $?",
            &["code 2"],
            NO_RULE,
            &["getent"],
        )
        .unseen("secret"),
        allowed(
            "iperf3, TCP",
            "iperf3 -c allowed.example -n 200K",
            &["iperf Done."],
            &["iperf3"],
        ),
        allowed(
            "iperf3, UDP",
            "iperf3 -4 -c allowed.example -u -b 10M -n 40K -l 1200",
            &["iperf Done."],
            &["iperf3"],
        ),
        refused(
            "iperf3, an address without a rule",
            "iperf3 -c 203.0.113.10 -n 20K",
            &["error"],
            NO_RULE,
            &["iperf3"],
        ),
        allowed(
            "socat, TCP",
            "echo hello there | socat - TCP:allowed.example:7",
            &["hello there"],
            &["socat"],
        ),
        refused(
            "socat, an address without a rule",
            "echo hello there | socat - TCP:203.0.113.20:7 2>/dev/null | grep -c hello",
            &["0"],
            NO_RULE,
            &["socat"],
        ),
        refused(
            "32: socat, UDP port 53",
            "printf 'no DNS at all' | socat -t 0.05 - UDP:203.0.113.55:53; echo done",
            &["done"],
            ("dns_opcode", ""),
            &["socat"],
        )
        .unseen("no DNS"),
        // What never becomes a message is no question: there is nothing to refuse, and nothing leaves.
        Case::refused_by_kernel(
            "client",
            "44: socat, TCP port 53 as a tunnel",
            "printf 'SSH-2.0-tunnel\\r\\n' | socat -t 0.05 - TCP:203.0.113.55:53; echo done",
            &["done"],
        )
        .needs("socat")
        .unseen("SSH-2.0"),
    ]
}

pub(crate) fn groups() -> Vec<Group> {
    let flags = vec![
        "--network",
        "allowlist",
        "--allow",
        RULE,
        "--allow",
        "allowed.example:443,4433,5201/udp",
        "--allow",
        "git.example:22,80,443,9418",
        "--allow",
        "time.example:123/udp",
    ];
    let group = |name, cases| Group {
        name,
        flags: flags.clone(),
        cases,
    };
    vec![
        group("curl", curls()),
        group("secure", tls()),
        group("git", ssh_and_git()),
        group("languages", languages()),
        group("tools", tools()),
    ]
}
