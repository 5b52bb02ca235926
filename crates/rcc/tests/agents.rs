//! Real agents from their npm packages at work inside the sandbox.
//!
//! Claude Code talks to the test world's stand-in of the Messages API, which asks it to write, to run and to fetch; no
//! packet leaves the world. Only the install, on the machine itself, asks the registry.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rcc_testkit::world::{HostCommand, User, World, WorldConfig};
use rcc_testkit::{messages_api, require};
use support::{Place, agents};

const CLAUDE: (&str, &str) = ("claude", "@anthropic-ai/claude-code");

/// A world with an ordinary user: Claude Code refuses `--dangerously-skip-permissions` to root.
fn world() -> Option<World> {
    if !rustix::process::geteuid().is_root() {
        return World::start_or_skip();
    }
    if !require("unprivileged-user") {
        return None;
    }
    World::with_or_skip(WorldConfig::default().user(User::ordinary()))
}

/// Begins `rcc` with the agent's program first on the caller's `PATH`.
fn rcc_with<'w>(place: &Place<'w>, program: &Path, arguments: &[&str]) -> HostCommand<'w> {
    let path = format!(
        "{}:/usr/local/bin:/usr/bin:/bin",
        program.parent().unwrap().display()
    );
    place
        .rcc(arguments)
        .env("PATH", path)
        .timeout(Duration::from_secs(120))
}

/// A git repository of the world's user with one commit.
fn repository<'w>(world: &'w World, policy: &str) -> Place<'w> {
    let place = Place::new(world, "project");
    place.file("rcc.toml", policy);
    place.file("README", "a project\n");
    for words in [
        &["init", "--quiet", "--initial-branch=main"][..],
        &["config", "user.name", "Owner"],
        &["config", "user.email", "owner@example.com"],
        &["add", "."],
        &["commit", "--quiet", "--message", "first"],
    ] {
        world
            .host_command("git")
            .args(words)
            .current_dir(&place.project)
            .output()
            .assert_success();
    }
    place.rcc(["trust", "--yes"]).output().assert_success();
    place
}

#[test]
fn rcc_installs_claude_code_and_runs_it() {
    if !require("npm") {
        return;
    }
    let scratch = agents::Scratch::make();
    let output = agents::install(CLAUDE.0, &scratch);
    if !agents::worked(&output, &scratch, CLAUDE.1) {
        return;
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = stdout
        .trim()
        .strip_suffix(" (Claude Code)")
        .unwrap_or_else(|| panic!("{stdout}{stderr}"));
    // Progress in order, and the hash was checked.
    let native = format!("{}-{}-", CLAUDE.1, std::env::consts::OS);
    let steps = [
        format!("rcc: asking for the newest version of {}", CLAUDE.1),
        format!("rcc: downloading {}@{version}", CLAUDE.1),
        format!("rcc: verifying {}@{version}", CLAUDE.1),
        format!("rcc: unpacking {}@{version}", CLAUDE.1),
        format!("rcc: downloading {native}"),
        format!("rcc: installed {} {version} (sha512 verified)", CLAUDE.1),
    ];
    let mut rest = stderr.as_str();
    for step in steps {
        rest = rest
            .split_once(&step)
            .unwrap_or_else(|| panic!("no `{step}` in its place in\n{stderr}"))
            .1;
    }
    // The second time nothing is asked, downloaded or said; npm and consent are not needed.
    let again = std::process::Command::new(support::program())
        .args(["-n", "claude", "--version"])
        .current_dir(scratch.project())
        .env_clear()
        .env("HOME", scratch.home())
        .env("PATH", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&again.stdout),
        stdout,
        "{}",
        String::from_utf8_lossy(&again.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&again.stderr), "");
    // Nothing of it is in the home but rcc's own directories and the cache of the npm client.
    let names = std::fs::read_dir(scratch.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, [".local", ".npm", "project"]);
    scratch.keep(CLAUDE.0);
}

#[test]
fn claude_code_writes_commits_runs_and_is_refused_other_hosts() {
    let Some(program) = agents::program(CLAUDE.0, CLAUDE.1) else {
        return;
    };
    if !require("git") || !require("curl") {
        return;
    }
    let Some(world) = world() else { return };
    // Nothing but the stand-in: the hosts of the preset are switched off, too.
    let place = repository(
        &world,
        "version = 1\n[network]\nmode = \"allowlist\"\nallow = [\"api.agent.example:443\"]\n[agent]\npreset = \"claude\"\npreset_hosts = false\n",
    );
    // The control: from the host all of these answer.
    let fetches = [
        "http://203.0.113.20/",
        "http://api.agent.example:8080/",
        "http://denied.example/",
    ];
    for url in fetches {
        let control = world
            .host_command("curl")
            .args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", url])
            .output();
        assert_eq!(control.stdout_text(), "200", "{control}");
    }
    world.forget();
    let queries = world.dns_queries().len();

    let project = place.project.display();
    let prompt = format!(
        "WRITE: {project}/made.txt written by the agent\n\
         RUN: git add made.txt && git commit --quiet --message 'made by the agent' && git log --format=%s -1\n\
         RUN: id -u > ran.txt; echo done-$((3 + 4))\n\
         FETCH: {}\nFETCH: {}\nFETCH: {}",
        fetches[0], fetches[1], fetches[2]
    );
    let audit = place.audit.to_str().unwrap();
    let authority = world.ca_pem_path();
    let mut flags = vec![
        "--audit".to_owned(),
        audit.to_owned(),
        "--ro".to_owned(),
        authority.to_str().unwrap().to_owned(),
    ];
    for (name, value) in messages_api::claude_variables(&world) {
        flags.extend([
            "--env".to_owned(),
            format!("{name}={}", value.to_str().unwrap()),
        ]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let output = rcc_with(&place, &program, &flags)
        .args(["claude", "-p", &prompt, "--dangerously-skip-permissions"])
        .output();
    output.assert_success();

    // The file, its owner, the commit, the command.
    let made = place.project.join("made.txt");
    assert_eq!(
        std::fs::read_to_string(&made).unwrap(),
        "written by the agent\n"
    );
    let ids = |path: &Path| {
        std::fs::metadata(path)
            .map(|data| (data.uid(), data.gid()))
            .unwrap()
    };
    assert_eq!(ids(&made), (world.user().uid, world.user().gid));
    let git = |words: &[&str]| {
        let output = world
            .host_command("git")
            .args(words)
            .current_dir(&place.project)
            .output();
        output.assert_success().stdout_text()
    };
    assert_eq!(
        git(&["log", "--format=%an %s", "--name-only", "-1"]),
        "Owner made by the agent\n\nmade.txt\n"
    );
    assert_eq!(git(&["status", "--short"]), "?? ran.txt\n");
    git(&["fsck", "--strict"]);
    assert_eq!(
        std::fs::read_to_string(place.project.join("ran.txt")).unwrap(),
        format!("{}\n", world.user().uid)
    );

    // What the agent was told about each fetch, and how soon.
    let text = output.stdout_text();
    assert!(text.contains("[made by the agent][done-7]["), "{output}");
    let reasons = [
        "rcc refused the connection to 203.0.113.20:80: no rule of this sandbox allows this host (no_rule); to allow it, start rcc with: --allow 203.0.113.20:80\nstatus=403 ",
        "rcc refused the connection to api.agent.example:8080: the rules of this sandbox allow this host, but not on this port or protocol (port_not_allowed); rule: api.agent.example:443 (rcc.toml:4); to allow it, start rcc with: --allow api.agent.example:8080\nstatus=403 ",
        "curl: (6) Could not resolve host: denied.example\nstatus=000 ",
    ];
    let mut times: Vec<f64> = Vec::new();
    for reason in reasons {
        let after = text
            .split_once(reason)
            .unwrap_or_else(|| panic!("no `{reason}` in\n{output}"))
            .1;
        let seconds = after
            .strip_prefix("seconds=")
            .and_then(|rest| rest.split('\n').next());
        times.push(seconds.unwrap().parse().unwrap());
    }
    // The median, since a single one measures how busy the machine is; no one comes near a time-out.
    times.sort_by(f64::total_cmp);
    assert!(times[1] < 0.1 && times[2] < 1.0, "{times:?}\n{output}");
    // What rcc itself says at the end, and nothing else.
    assert_eq!(
        output.stderr_text().lines().collect::<Vec<_>>(),
        [
            "rcc: refused 203.0.113.20:80 (no rule of this sandbox allows this host); to allow it, start rcc with: --allow 203.0.113.20:80",
            "rcc: refused api.agent.example:8080 (the rules of this sandbox allow this host, but not on this port or protocol, by api.agent.example:443 (rcc.toml:4)); to allow it, start rcc with: --allow api.agent.example:8080",
            "rcc: refused denied.example (no rule of this sandbox allows this host), 4 times; to allow it, start rcc with: --allow denied.example",
        ]
    );

    // The log, whole. How many connections the agent uses is its own business; that each one ends in the log is not.
    let briefs = place.briefs();
    let count = |event: &str| briefs.iter().filter(|line| line.starts_with(event)).count();
    assert!(
        count("connect ") > 0 && count("connect ") == count("close "),
        "{briefs:#?}"
    );
    let mut rest: Vec<&str> = briefs
        .iter()
        .map(String::as_str)
        .filter(|line| !line.starts_with("connect ") && !line.starts_with("close "))
        .collect();
    rest.sort_unstable();
    assert_eq!(
        rest,
        [
            // Claude Code and then curl on its way to port 8080.
            "dns api.agent.example A NOERROR allow",
            "dns api.agent.example A NOERROR allow",
            "dns api.agent.example AAAA NOERROR allow",
            "dns api.agent.example AAAA NOERROR allow",
            // The C library asks twice.
            "dns denied.example A REFUSED deny no_rule",
            "dns denied.example A REFUSED deny no_rule",
            "dns denied.example AAAA REFUSED deny no_rule",
            "dns denied.example AAAA REFUSED deny no_rule",
            "refuse 203.0.113.20 port=80 deny no_rule",
            "refuse api.agent.example port=8080 deny port_not_allowed",
        ]
    );
    let is_api =
        |line: &&String| line.contains(" api.agent.example ") && line.ends_with(" port=443 allow");
    assert_eq!(
        briefs.iter().filter(is_api).count(),
        count("connect ") + count("close "),
        "{briefs:#?}"
    );

    // The other side agrees: the stand-in alone was reached, and one name was looked up.
    let packets = world
        .packets()
        .into_iter()
        .filter(|packet| packet.protocol == "tcp");
    let reached: BTreeSet<(String, u16)> = packets
        .map(|packet| (packet.destination, packet.destination_port))
        .collect();
    let stand_in = ["203.0.113.40", "2001:db8::40"].map(|address| (address.to_owned(), 443));
    assert!(
        !reached.is_empty() && reached.iter().all(|it| stand_in.contains(it)),
        "{reached:?}"
    );
    let names: Vec<String> = world
        .dns_queries()
        .split_off(queries)
        .into_iter()
        .map(|query| query.name)
        .collect();
    assert!(
        !names.is_empty() && names.iter().all(|name| name == "api.agent.example"),
        "{names:?}"
    );
    let requests = world.messages_requests();
    assert!(
        requests
            .iter()
            .any(|request| request["body"]["stream"] == true),
        "the answers were streamed"
    );
    assert!(
        requests.last().unwrap().to_string().contains("done-7"),
        "the result of the command went back"
    );

    // Its state is in the agent home; the real home has none of it.
    let entries = std::fs::read_dir(world.home())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut entries: Vec<String> = entries.collect();
    entries.sort();
    assert_eq!(entries, [".local", "project"]);
    assert!(
        world
            .home()
            .join(".local/share/rcc/homes/claude/.claude.json")
            .exists()
    );
}

/// Two runs of one agent share its home: both write its state, and both find what they wrote.
#[test]
fn two_claudes_at_once_share_one_home_and_corrupt_nothing() {
    let Some(program) = agents::program(CLAUDE.0, CLAUDE.1) else {
        return;
    };
    let Some(world) = world() else { return };
    let policy = "version = 1\n[network]\nmode = \"allowlist\"\nallow = [\"api.agent.example:443\"]\n[agent]\npreset = \"claude\"\npreset_hosts = false\n";
    let login = world.home().join(".claude.json");
    std::fs::write(
        &login,
        "{\"hasCompletedOnboarding\": true, \"marker\": \"imported\"}",
    )
    .unwrap();
    let places: Vec<Place<'_>> = ["one", "two"]
        .iter()
        .map(|name| {
            let place = Place::new(&world, name);
            place.file("rcc.toml", policy);
            place.rcc(["trust", "--yes"]).output().assert_success();
            place
        })
        .collect();
    let authority = world.ca_pem_path();
    let mut flags = vec!["--ro".to_owned(), authority.to_str().unwrap().to_owned()];
    for (name, value) in messages_api::claude_variables(&world) {
        let value = value.to_str().unwrap();
        flags.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    // Each waits in its only command until the other is there too, so that both have the home at the same time.
    let runs: Vec<_> = places
        .iter()
        .map(|place| {
            let prompt =
                "RUN: touch here; while ! test -e go; do sleep 0.05; done; echo done-$((3 + 4))";
            rcc_with(place, &program, &flags)
                .args(["claude", "-p", prompt, "--dangerously-skip-permissions"])
                .spawn()
        })
        .collect();
    let deadline = std::time::Instant::now() + Duration::from_secs(100);
    while !places
        .iter()
        .all(|place| place.project.join("here").exists())
    {
        assert!(std::time::Instant::now() < deadline, "both agents work");
        std::thread::sleep(Duration::from_millis(20));
    }
    for place in &places {
        place.file("go", "");
    }
    for run in runs {
        let output = run.wait();
        let text = output.assert_success().stdout_text();
        assert!(text.contains("done-7"), "{output}");
    }
    let home = world.home().join(".local/share/rcc/homes/claude");
    let text = std::fs::read_to_string(home.join(".claude.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        state["marker"], "imported",
        "the import came once and stayed"
    );
    let mut transcripts = 0;
    for place in &places {
        let path = place.project.to_str().unwrap();
        let name: String = path
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        for entry in std::fs::read_dir(home.join(".claude/projects").join(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                transcripts += 1;
                for line in std::fs::read_to_string(&path).unwrap().lines() {
                    serde_json::from_str::<serde_json::Value>(line).unwrap();
                }
            }
        }
    }
    assert_eq!(transcripts, 2, "each run has its transcript");
}

/// Another agent, without network: its version, and a subcommand that needs none.
fn runs(name: &str, package: &str, version: &[&str], subcommand: &[&str], expected: &str) {
    let Some(program) = agents::program(name, package) else {
        return;
    };
    if !require("node") {
        return;
    }
    // Gemini CLI needs Node.js 20; Debian 12 has 18.
    let node = std::process::Command::new("node").arg("--version").output();
    let version_text = String::from_utf8(node.unwrap().stdout).unwrap();
    let major = version_text.trim_start_matches('v').split('.').next();
    let is_new = major.and_then(|major| major.parse::<u32>().ok()) >= Some(20);
    if name == "gemini" && !rcc_testkit::require_that("node-20", is_new) {
        return;
    }
    let Some(world) = world() else { return };
    let place = repository(
        &world,
        "version = 1\n[network]\nmode = \"allowlist\"\n[agent]\npreset_hosts = false\n",
    );
    let queries = world.dns_queries().len();
    world.forget();
    let output = rcc_with(&place, &program, &[name]).args(version).output();
    let text = output.assert_success().stdout_text();
    let number = text.split_whitespace().last().unwrap_or_default();
    assert!(
        number.split('.').count() == 3 && number.starts_with(|first: char| first.is_ascii_digit()),
        "{output}"
    );
    let output = rcc_with(&place, &program, &[name])
        .args(subcommand)
        .output();
    let text = output.assert_success().stdout_text() + &output.stderr_text();
    let expected = expected.replace("$HOME", world.home().to_str().unwrap());
    assert!(text.contains(&expected), "no `{expected}` in\n{output}");
    // Whatever it tried: nothing is allowed, so nothing arrived.
    assert!(world.seen().is_empty(), "{:?}", world.seen());
    assert_eq!(world.dns_queries().len(), queries);
    assert!(
        world
            .home()
            .join(".local/share/rcc/homes")
            .join(name)
            .is_dir()
    );
}

#[test]
fn codex_runs() {
    runs(
        "codex",
        "@openai/codex",
        &["--version"],
        &["completion", "bash"],
        "_codex()",
    );
}

#[test]
fn gemini_cli_runs() {
    runs(
        "gemini",
        "@google/gemini-cli",
        &["--version"],
        &["mcp", "list"],
        "No MCP servers configured.",
    );
}

#[test]
fn opencode_runs() {
    runs(
        "opencode",
        "opencode-ai",
        &["--version"],
        &["debug", "paths"],
        "$HOME/.local/share/opencode",
    );
}
