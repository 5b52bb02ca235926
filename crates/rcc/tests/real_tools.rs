//! Real tools in the sandbox, none of which knows of it: no proxy variables, no wrappers. Each reaches the host that is
//! allowed, and the same command is refused where another host is allowed instead.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rcc_testkit::world::{HostCommand, Output, World};
use rcc_testkit::{patience, require};
use support::Place;

/// Some host, but not the one that the tool wants.
const ELSEWHERE: &[&str] = &["--allow", "v4only.example"];
/// Longest time that a whole tool may take to fail, its own start on a busy machine included: less than any time-out.
const TOOL_LIMIT: Duration = Duration::from_secs(20);

/// A program with its arguments and variables, run the same way with different policies.
struct Tool<'w> {
    place: Place<'w>,
    variables: Vec<(&'static str, String)>,
    flags: Vec<String>,
    command: Vec<String>,
}

impl<'w> Tool<'w> {
    fn new(place: Place<'w>, command: &[&str]) -> Self {
        Self {
            place,
            variables: Vec::new(),
            flags: Vec::new(),
            command: support::words(command),
        }
    }

    fn env(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Adds a flag of rcc that has nothing to do with the network.
    fn flag(mut self, name: &str, value: &Path) -> Self {
        self.flags
            .extend([name.to_owned(), value.to_str().unwrap().to_owned()]);
        self
    }

    fn start(&self, policy: &[&str]) -> HostCommand<'w> {
        let mut flags: Vec<String> = policy.iter().map(|word| (*word).to_owned()).collect();
        flags.extend(self.flags.iter().cloned());
        for (name, value) in &self.variables {
            flags.extend(["--env".to_owned(), format!("{name}={value}")]);
        }
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        self.place
            .run(&flags)
            .args(&self.command)
            .timeout(Duration::from_secs(120))
    }

    /// Runs it with `host` allowed: it works, and the log shows a connection to that host and no refusal.
    #[track_caller]
    fn works(&self, host: &str, policy: &[&str]) -> Output {
        self.place.forget_events();
        let output = self.start(policy).output();
        output.assert_success();
        let briefs = self.place.briefs();
        assert!(
            briefs
                .iter()
                .any(|line| line.starts_with(&format!("connect {host} "))
                    && line.ends_with(" allow")),
            "no connection to {host} in {briefs:#?}\n{output}"
        );
        assert!(
            briefs.iter().all(|line| !line.contains(" deny ")),
            "{briefs:#?}\n{output}"
        );
        output
    }

    /// Runs it with another host allowed: it fails soon, says which host was refused and why, and nothing reached `host`.
    #[track_caller]
    fn is_refused(&self, host: &str) -> Output {
        self.place.forget_events();
        self.place.world.forget();
        let before = self.place.world.dns_queries().len();
        let output = self.start(ELSEWHERE).output();
        assert!(output.code().is_some_and(|code| code != 0), "{output}");
        assert!(output.elapsed < TOOL_LIMIT, "{output}");
        let line = format!("rcc: refused {host} (no rule of this sandbox allows this host)");
        assert!(
            output.stderr_text().contains(&line),
            "no `{line}`\n{output}"
        );
        let briefs = self.place.briefs();
        assert!(
            !briefs.is_empty()
                && briefs
                    .iter()
                    .all(|line| line.starts_with(&format!("dns {host} "))
                        && line.ends_with("REFUSED deny no_rule")),
            "{briefs:#?}\n{output}"
        );
        assert!(
            self.place.world.seen().is_empty(),
            "{:?}",
            self.place.world.seen()
        );
        assert_eq!(
            self.place.world.dns_queries().len(),
            before,
            "a question left the host\n{output}"
        );
        output
    }
}

/// Refusals come within 100 ms. The median counts: a single one measures how busy the machine is.
#[track_caller]
fn assert_soon(milliseconds: impl Iterator<Item = u64>, output: &Output) {
    let mut all: Vec<u64> = milliseconds.collect();
    all.sort_unstable();
    let median = Duration::from_millis(all[(all.len() - 1) / 2]);
    assert!(
        median < patience(Duration::from_millis(100)),
        "{all:?}\n{output}"
    );
}

/// Copies the world's certificate authority into the project, for tools that are told of it by a variable.
fn authority(place: &Place<'_>) -> String {
    let pem = std::fs::read(place.world.ca_pem_path()).unwrap();
    place.file("ca.pem", pem).to_str().unwrap().to_owned()
}

// ---------------------------------------------------------------------------------------------------------------------

#[test]
fn no_proxy_variable_is_set_inside() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "environment");
    let output = place
        .run(&["--allow", "allowed.example"])
        .arg("env")
        .output();
    let text = output.assert_success().stdout_text();
    assert!(text.contains("PATH="), "{output}");
    let proxies: Vec<&str> = text
        .lines()
        .filter(|line| line.to_ascii_lowercase().contains("proxy"))
        .collect();
    assert_eq!(proxies, Vec::<&str>::new());
}

#[test]
fn cargo_builds_a_crate_with_a_dependency() {
    if !require("cargo") || !require("cc") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "cargo");
    let ca = authority(&place);
    place.file("Cargo.toml", "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny-crate = \"1\"\n");
    place.file(
        "src/main.rs",
        "fn main() { println!(\"{}\", tiny_crate::origin()); }\n",
    );
    place.file(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"world\"\n[source.world]\nregistry = \"sparse+https://registry.example/cargo/index/\"\n",
    );
    let (root, cargo) = toolchain();
    let mut tool = Tool::new(place, &[&cargo, "run", "--quiet"])
        .env("CARGO_HTTP_CAINFO", ca)
        .env("CARGO_NET_RETRY", "0");
    if let Some(root) = root {
        tool = tool
            .env("RUSTC", root.join("bin/rustc").to_str().unwrap())
            .flag("--ro", &root);
    }
    // Refused first: afterwards its cache in the agent home would hold the crate.
    let refused = tool.is_refused("registry.example");
    assert!(refused.stderr_text().contains("tiny-crate"), "{refused}");
    let output = tool.works("registry.example", &["--allow", "registry.example"]);
    assert_eq!(output.stdout_text(), "test registry\n");
    assert!(
        tool.place.project.join("target/debug/p").exists(),
        "the build is in the project"
    );
    assert!(
        !world.home().join(".cargo").exists(),
        "the cache is in the agent home, not in the real one"
    );
}

/// The toolchain behind `cargo`: its directory, when the sandbox does not show it anyway, and the program to call.
fn toolchain() -> (Option<PathBuf>, String) {
    let output = Command::new("rustc")
        .args(["--print", "sysroot"])
        .output()
        .unwrap();
    let root = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    if root.starts_with("/usr") || !root.join("bin/cargo").exists() {
        return (None, "cargo".to_owned());
    }
    let cargo = root.join("bin/cargo").to_str().unwrap().to_owned();
    (Some(root), cargo)
}

#[test]
fn npm_installs_and_tests_a_package() {
    if !require("npm") || !require("node") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "npm");
    let ca = authority(&place);
    place.file(
        "package.json",
        r#"{ "name": "p", "version": "1.0.0", "scripts": { "test": "node test.js" }, "dependencies": { "tiny-npm": "1" } }"#,
    );
    place.file("test.js", "require('assert').equal(require('tiny-npm')(), 'test registry'); console.log('test passed');\n");
    let tool = Tool::new(
        place,
        &["sh", "-c", "npm install --no-audit --no-fund && npm test"],
    )
    .env("npm_config_registry", "https://registry.example/npm/")
    .env("npm_config_cafile", ca)
    .env("npm_config_fetch_retries", "0")
    .env("npm_config_update_notifier", "false");
    let _ = tool.is_refused("registry.example");
    let output = tool.works("registry.example", &["--allow", "registry.example:443"]);
    assert!(output.stdout_text().contains("test passed"), "{output}");
}

#[test]
fn python_makes_an_environment_and_pip_fills_it() {
    if !require("/usr/bin/python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "pip");
    let ca = authority(&place);
    place
        .run(&["-n"])
        .args(["/usr/bin/python3", "-m", "venv", "venv"])
        .output()
        .assert_success();
    let script = "venv/bin/pip install --quiet --disable-pip-version-check tiny-py && venv/bin/python -c 'import tiny_py; print(tiny_py.ORIGIN)'";
    let tool = Tool::new(place, &["sh", "-c", script])
        .env("PIP_INDEX_URL", "https://registry.example/pypi/simple/")
        .env("PIP_CERT", ca)
        .env("PIP_RETRIES", "0");
    let refused = tool.is_refused("registry.example");
    assert_eq!(refused.code(), Some(1), "pip failed, not venv\n{refused}");
    let output = tool.works("registry.example", &["--allow", "registry.example"]);
    assert_eq!(output.stdout_text(), "test registry\n");
}

#[test]
fn git_clones_and_pushes_over_https() {
    if !require("git") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    world.make_git_repository("hello", &[("README", "hello\n")]);
    let place = Place::new(&world, "git-https");
    let ca = authority(&place);
    let tool = git_tool(place, "https://git.example/hello.git").env("GIT_SSL_CAINFO", ca);
    let _ = tool.is_refused("git.example");
    check_clone(&tool, &["--allow", "git.example:443"]);
}

#[test]
fn git_clones_and_pushes_over_ssh() {
    if !require("git") || !require("sshd") || !require("ssh") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    world.make_git_repository("hello", &[("README", "hello\n")]);
    let place = Place::new(&world, "git-ssh");
    // Only what the project holds is inside, so the key is in it.
    let key = place.file("key", std::fs::read(world.ssh_key_path()).unwrap());
    let known = place.file(
        "known",
        std::fs::read(world.ssh_known_hosts_path()).unwrap(),
    );
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let ssh = format!(
        "ssh -F none -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={} -i {}",
        known.display(),
        key.display()
    );
    let tool = git_tool(place, "ssh://git@git.example/hello.git").env("GIT_SSH_COMMAND", ssh);
    let _ = tool.is_refused("git.example");
    // The port of https alone is not enough, and the refusal is a reset.
    tool.place.forget_events();
    let output = tool.start(&["--allow", "git.example"]).output();
    assert!(
        output.code().is_some_and(|code| code != 0) && output.elapsed < TOOL_LIMIT,
        "{output}"
    );
    assert!(output.stderr_text().contains("rcc: refused git.example:22 (the rules of this sandbox allow this host, but not on this port"), "{output}");
    assert!(
        tool.place
            .briefs()
            .iter()
            .any(|line| line == "refuse git.example port=22 deny port_not_allowed"),
        "{:#?}",
        tool.place.briefs()
    );
    check_clone(&tool, &["--allow", "git.example:22"]);
}

/// Clones, commits and pushes.
fn git_tool<'w>(place: Place<'w>, url: &str) -> Tool<'w> {
    let script = "set -e; rm -rf copy; git clone --quiet \"$0\" copy; cd copy; cat README\n\
                  git -c user.name=T -c user.email=t@example.com commit --quiet --allow-empty --message 'from inside'\n\
                  git push --quiet origin HEAD:pushed";
    Tool::new(place, &["sh", "-c", script, url])
}

#[track_caller]
fn check_clone(tool: &Tool<'_>, policy: &[&str]) {
    let output = tool.works("git.example", policy);
    assert_eq!(output.stdout_text(), "hello\n", "{output}");
    // What was pushed has arrived.
    let log = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(tool.place.world.git_root().join("hello.git"))
        .args(["log", "--format=%s", "pushed"])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&log.stdout),
        "from inside\nfirst commit\n"
    );
}

#[test]
fn curl_uses_both_families_and_is_told_the_reason() {
    if !require("curl") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    for (family, address) in [("-4", "203.0.113.20"), ("-6", "[2001:db8::20]")] {
        for scheme in ["http", "https"] {
            let place = Place::new(&world, &format!("curl{family}-{scheme}"));
            let ca = authority(&place);
            let url = format!("{scheme}://allowed.example/path");
            let tool = Tool::new(place, &["curl", "-sS", family, &url]).env("CURL_CA_BUNDLE", ca);
            let output = tool.works("allowed.example", &["--allow", "allowed.example"]);
            let answer = output.json();
            assert_eq!(
                (answer["scheme"].as_str(), answer["host"].as_str()),
                (Some(scheme), Some("allowed.example"))
            );
            assert_eq!(answer["port"], if scheme == "http" { 80 } else { 443 });
            // curl(1): 6 is a name that could not be resolved.
            assert_eq!(tool.is_refused("allowed.example").code(), Some(6));

            // A literal: an HTTP answer with the reason, a TLS alert. Of the times the shortest counts, the others measure
            // how busy the machine is; and one certificate is read faster than a system's hundreds.
            let small = format!(
                "CURL_CA_BUNDLE={}",
                tool.place.project.join("ca.pem").display()
            );
            let url = format!("{scheme}://{address}/");
            let output = tool
                .place
                .run(&[ELSEWHERE, &["--env", &small][..]].concat())
                .args([
                    "curl",
                    "-sS",
                    "-i",
                    family,
                    "-w",
                    "\nseconds %{time_total}\n",
                    &url,
                    &url,
                    &url,
                ])
                .output();
            let text = output.stdout_text();
            let times = text
                .lines()
                .filter_map(|line| line.strip_prefix("seconds "));
            let fastest = times
                .map(|time| time.parse::<f64>().unwrap())
                .fold(f64::MAX, f64::min);
            assert!(fastest < 0.1, "{output}");
            if scheme == "http" {
                assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{output}");
                let reason = "no rule of this sandbox allows this host (no_rule); to allow it, start rcc with: --allow ";
                assert!(text.contains(reason), "{output}");
            } else {
                assert_eq!(output.code(), Some(35), "{output}");
                assert!(output.stderr_text().contains("access denied"), "{output}");
            }
            let refused = format!(
                "refuse {} port={} deny no_rule",
                address.trim_matches(['[', ']']),
                if scheme == "http" { 80 } else { 443 }
            );
            assert!(
                tool.place.briefs().contains(&refused),
                "{:#?}",
                tool.place.briefs()
            );
        }
    }
}

#[test]
fn a_static_program_with_its_own_resolver_is_under_the_same_rules() {
    if !require("musl-gcc") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "static");
    let program = place.project.join("client");
    let text = place.file("client.c", include_bytes!("real_tools/client.c"));
    let compiled = Command::new("musl-gcc")
        .args(["-static", "-O1", "-Wall", "-Werror", "-o"])
        .arg(&program)
        .arg(&text)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    world.give_to_user(&place.project);
    // A static program has no interpreter to load libraries (ELF(5), PT_INTERP).
    let bytes = std::fs::read(&program).unwrap();
    assert!(
        !bytes
            .windows(8)
            .any(|part| part == b"ld-linux" || part == b"/ld-musl"),
        "the program is static"
    );

    // The control: it works on the host.
    let both = "ipv4 HTTP/1.1 200 OK\nipv6 HTTP/1.1 200 OK\n";
    let control = world
        .host_command(&program)
        .args(["allowed.example", "80"])
        .output();
    assert_eq!(control.assert_success().stdout_text(), both);

    let tool = Tool::new(place, &["./client", "allowed.example", "80"]);
    let output = tool.works("allowed.example", &["--allow", "allowed.example"]);
    assert_eq!(output.stdout_text(), both);
    assert_eq!(
        tool.is_refused("allowed.example").stdout_text(),
        "ipv4 dns rcode 5\nipv6 dns rcode 5\n"
    );

    // With an address that needs no question.
    let output = tool
        .place
        .run(ELSEWHERE)
        .args(["./client", "203.0.113.20", "80"])
        .output();
    assert!(
        output
            .stdout_text()
            .starts_with("ipv4 HTTP/1.1 403 Forbidden\n"),
        "{output}"
    );
    assert!(
        tool.place
            .briefs()
            .contains(&"refuse 203.0.113.20 port=80 deny no_rule".to_owned())
    );
    assert_eq!(world.seen_by("203.0.113.20:80").connections, 0);
}

#[test]
fn a_java_client_is_under_the_same_rules() {
    // Running a source file needs the compiler, which only a development kit has.
    if !require("javac") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "java");
    place.file("Client.java", include_bytes!("real_tools/Client.java"));
    let output = place
        .run(&["--allow", "allowed.example"])
        .args([
            "java",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "Client.java",
        ])
        .args([
            "http://allowed.example/",
            "http://denied.example/",
            "http://203.0.113.20/",
            "http://[2001:db8::20]/",
            "http://allowed.example:7/",
            "offering http://203.0.113.20/",
            // What is offered is left out, and the client goes on without.
            "offering http://allowed.example/offered",
        ])
        .output();
    let text = output.assert_success().stdout_text();
    let lines: Vec<(u64, &str)> = text
        .lines()
        .map(|line| {
            let (time, rest) = line.split_once(' ').unwrap();
            (time.parse().unwrap(), rest)
        })
        .collect();
    let starts = [
        "200 {",
        "java.net.UnknownHostException: denied.example",
        "403 rcc refused",
        "403 rcc refused",
        "403 rcc refused",
        "403 HTTP_1_1 rcc refused",
        "200 HTTP_1_1 {",
    ];
    assert_eq!(lines.len(), starts.len(), "{output}");
    for ((_, line), start) in lines.iter().zip(starts) {
        assert!(
            line.starts_with(start),
            "`{line}` should begin with `{start}`\n{output}"
        );
    }
    // The first request of each client loads classes.
    assert_soon(lines[1..5].iter().map(|(time, _)| *time), &output);
    let refused: Vec<String> = place
        .briefs()
        .into_iter()
        .filter(|line| line.starts_with("refuse "))
        .collect();
    assert_eq!(
        refused,
        [
            "refuse 203.0.113.20 port=80 deny no_rule",
            "refuse 2001:db8::20 port=80 deny no_rule",
            "refuse allowed.example port=7 deny port_not_allowed",
            "refuse 203.0.113.20 port=80 deny no_rule"
        ]
    );
    assert!(
        world.seen().keys().all(|key| key.ends_with(":80")
            && (key.contains("203.0.113.10") || key.contains("2001:db8::10"))),
        "{:?}",
        world.seen()
    );
}

#[test]
fn nodes_fetch_is_under_the_same_rules() {
    if !require("node") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "node");
    let ca = authority(&place);
    place.file(
        "fetch.mjs",
        "for (const url of process.argv.slice(2)) {\n\
           const start = performance.now();\n\
           let result;\n\
           try { const answer = await fetch(url); result = answer.status + ' ' + (await answer.text()).trim(); }\n\
           catch (error) { result = error.cause?.code ?? String(error); }\n\
           console.log(Math.round(performance.now() - start) + ' ' + result);\n\
         }\n",
    );
    let output = place
        .run(&[
            "--allow",
            "allowed.example",
            "--env",
            &format!("NODE_EXTRA_CA_CERTS={ca}"),
        ])
        .args([
            "node",
            "fetch.mjs",
            "https://allowed.example/",
            "http://denied.example/",
            "http://203.0.113.20/",
            "https://203.0.113.20/",
            "http://[2001:db8::20]/",
        ])
        .output();
    let text = output.assert_success().stdout_text();
    let lines: Vec<(u64, &str)> = text
        .lines()
        .map(|line| {
            line.split_once(' ')
                .map(|(time, rest)| (time.parse().unwrap(), rest))
                .unwrap()
        })
        .collect();
    let starts = [
        "200 {",
        // What the C library makes of a refusal by DNS.
        "EAI_AGAIN",
        "403 rcc refused the connection to 203.0.113.20:80",
        "ERR_SSL_TLSV1_ALERT_ACCESS_DENIED",
        "403 rcc refused",
    ];
    for ((_, line), start) in lines.iter().zip(starts) {
        assert!(
            line.starts_with(start),
            "`{line}` should begin with `{start}`\n{output}"
        );
    }
    assert_soon(lines[1..].iter().map(|(time, _)| *time), &output);
}

// ---------------------------------------------------------------------------------------------------------------------
// streams

#[test]
fn a_quarter_gibibyte_goes_both_ways_unchanged_and_halves_close_alone() {
    if !require("/usr/bin/python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "bulk");
    place.file("duplex.py", include_bytes!("real_tools/duplex.py"));
    let flags = [
        "--allow",
        "allowed.example:7,4000,4001,4002",
        "--allow",
        "[2001:db8::10]:7",
    ];
    // 192 MiB by name and 64 MiB by IPv6 literal, each there and back; the end of the stream comes after the client closed its half.
    for (host, mebibytes) in [("allowed.example", 192_u64), ("2001:db8::10", 64)] {
        let output = place
            .run(&flags)
            .args([
                "/usr/bin/python3",
                "duplex.py",
                host,
                "7",
                &mebibytes.to_string(),
                "1",
            ])
            .timeout(Duration::from_secs(120))
            .output();
        assert_eq!(
            output.assert_success().stdout_text(),
            format!("1 {} True\n", mebibytes << 20),
            "{output}"
        );
    }
    // The log counts the same bytes.
    let closed: Vec<(u64, u64)> = place
        .events()
        .iter()
        .filter(|event| event["event"] == "close")
        .map(|event| {
            (
                event["bytes_sent"].as_u64().unwrap(),
                event["bytes_received"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(closed, [(192 << 20, 192 << 20), (64 << 20, 64 << 20)]);

    world.forget();
    let lines = [
        support::words(&["half-close", "allowed.example", "4000", "3000000"]),
        support::words(&["half-close-peer", "allowed.example", "4001", "3000000"]),
        support::words(&["tcp-talk", "allowed.example", "4002", "hello"]),
    ];
    let (records, _) = place.probes(&flags, &lines);
    assert_eq!(records[0].assert_ok().detail["text"], "got 3000000 bytes\n");
    assert_eq!(records[1].assert_ok().detail["text"], "end of my half\n");
    // A reset of the server is a reset here, not an end; it may come before the client has seen that it is connected, or
    // before it has sent: whoever asks next hears of it, once.
    let ends = [
        records[2].errno.as_deref(),
        records[2].detail["sent"].as_str(),
        records[2].detail["end"].as_str(),
    ];
    assert!(ends.contains(&Some("ECONNRESET")), "{:?}", records[2]);
    let received = || -> u64 {
        let seen = world.seen();
        let of_peer = seen.iter().filter(|(key, _)| key.ends_with(":4001"));
        of_peer.map(|(_, seen)| seen.bytes_received).sum()
    };
    // The run is over; its last bytes may still be on their way to the server.
    let end = Instant::now() + patience(Duration::from_secs(20));
    while received() < 3_000_000 && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(
        received(),
        3_000_000,
        "what is sent after the server's half is closed arrives: {:?}",
        world.seen()
    );
}

#[test]
fn two_hundred_connections_are_open_at_the_same_time() {
    if !require("/usr/bin/python3") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "many");
    place.file("duplex.py", include_bytes!("real_tools/duplex.py"));
    let output = place
        .run(&["--allow", "allowed.example:7"])
        .args([
            "/usr/bin/python3",
            "duplex.py",
            "allowed.example",
            "7",
            "0",
            "200",
        ])
        .output();
    assert_eq!(
        output.assert_success().stdout_text(),
        "200 200000 True\n",
        "{output}"
    );
    let connections: u64 = world
        .seen()
        .iter()
        .filter(|(key, _)| key.ends_with(":7"))
        .map(|(_, seen)| seen.connections)
        .sum();
    assert_eq!(connections, 200);
    let events = place.events();
    for kind in ["connect", "close"] {
        assert_eq!(
            events.iter().filter(|event| event["event"] == kind).count(),
            200,
            "{kind}"
        );
    }
}
