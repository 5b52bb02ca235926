//! Rules that change while the agent works: `rcc net`, the control socket, questions and edits of policy files, with the
//! real program in a world of its own, as the caller and as an ordinary user.
//!
//! Each refusal has its control: the same connection made before or after the change that forbids or allows it.
#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcc_testkit::patience;
use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::{Output, Running, User, World, WorldConfig};
use support::Place;

const LIMIT: Duration = Duration::from_secs(20);

/// A shell in a sandbox that is told what to do, line by line.
struct Inside {
    running: Running,
    steps: usize,
}

impl Inside {
    fn start(place: &Place<'_>, flags: &[&str]) -> Self {
        Self::start_with(place, flags, None)
    }

    fn start_with(place: &Place<'_>, flags: &[&str], runtime: Option<&PathBuf>) -> Self {
        let program = probe::path();
        let mut command = place.rcc(["run"]).args(flags).arg("--ro").arg(&program);
        if let Some(runtime) = runtime {
            command = command.env("XDG_RUNTIME_DIR", runtime);
        }
        let running = command.args(["--", "bash"]).stdin_open().spawn();
        let mut inside = Self { running, steps: 0 };
        assert_eq!(inside.step("true"), 0);
        inside
    }

    /// Runs a line and returns its exit code.
    fn step(&mut self, line: &str) -> i32 {
        let number = self.begin(line);
        self.end(number)
    }

    /// Begins a line without waiting for its end.
    fn begin(&mut self, line: &str) -> usize {
        self.steps += 1;
        let number = self.steps;
        let text = format!("{line}\necho END-{number}=$?.\n");
        self.running.write_stdin(text.as_bytes());
        number
    }

    fn end(&self, number: usize) -> i32 {
        let mark = format!("END-{number}=");
        self.running.wait_for_text(&mark);
        let text = self.running.stdout_so_far();
        let rest = text.split(&mark).nth(1).unwrap();
        rest.split('.').next().unwrap().parse().unwrap()
    }

    /// Whether a word comes back from the echo service of this host.
    fn reaches(&mut self, host: &str) -> bool {
        self.step(&format!("timeout 5 bash -c 'exec 4<>/dev/tcp/{host}/7 && echo hi >&4 && read -t 4 -u 4 word && [ \"$word\" = hi ]' 2>/dev/null")) == 0
    }

    fn finish(mut self) -> Output {
        self.running.close_stdin();
        self.running.wait()
    }
}

/// The caller's world, and where that is root, one of an ordinary user, too.
fn worlds() -> Vec<World> {
    let mut worlds: Vec<World> = World::start_or_skip().into_iter().collect();
    if rustix::process::geteuid().is_root() && !worlds.is_empty() {
        worlds.extend(World::with_or_skip(
            WorldConfig::default().user(User::ordinary()),
        ));
    }
    worlds
}

fn net(place: &Place<'_>, words: &[&str]) -> Output {
    place.rcc(["net"]).args(words).output()
}

/// Waits until a condition about the outside holds.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience(LIMIT);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn rules_of_a_run_are_changed_listed_tested_and_logged() {
    for world in worlds() {
        let place = Place::new(&world, "live");
        let mut inside = Inside::start(
            &place,
            &[
                "--allow",
                "allowed.example:7",
                "--allow",
                "denied.example:9",
            ],
        );
        assert!(inside.reaches("allowed.example"));
        assert!(!inside.reaches("denied.example"));
        let runs = net(&place, &["runs"]);
        assert!(
            runs.assert_success().stdout_text().contains("allowlist"),
            "{runs}"
        );
        net(&place, &["test", "denied.example:7"]).assert_code(1);
        net(&place, &["allow", "denied.example:7"]).assert_success();
        assert!(inside.reaches("denied.example"));
        let test = net(&place, &["test", "denied.example:7"]);
        assert!(
            test.assert_success()
                .stdout_text()
                .contains("accepts connections"),
            "{test}"
        );
        assert!(test.stdout_text().contains("(rcc net allow)"), "{test}");
        let rules = net(&place, &["rules"]);
        let text = rules.assert_success().stdout_text();
        assert!(text.starts_with("mode allowlist\n"), "{text}");
        assert!(
            text.contains("allow allowed.example:7  (flag --allow)"),
            "{text}"
        );
        assert!(
            text.contains("allow denied.example:7  (rcc net allow)"),
            "{text}"
        );
        // An open connection is cut, another goes on.
        assert_eq!(inside.step("exec 5<>/dev/tcp/allowed.example/7"), 0);
        assert_eq!(inside.step("exec 6<>/dev/tcp/denied.example/7"), 0);
        let deny = net(&place, &["deny", "denied.example"]);
        assert!(
            deny.assert_success()
                .stderr_text()
                .contains("one connection was cut"),
            "{deny}"
        );
        assert_ne!(inside.step("echo x >&6 && read -t 4 -u 6 word"), 0);
        assert_eq!(
            inside.step("echo x >&5 && read -t 4 -u 5 word && [ $word = x ]"),
            0
        );
        assert!(!inside.reaches("denied.example"));
        // The policy has the last word over what is added.
        let bad = net(&place, &["allow", "127.0.0.1:7"]);
        assert!(
            bad.assert_success()
                .stderr_text()
                .contains("is still refused"),
            "{bad}"
        );
        // The log is written some milliseconds later.
        let logged = |words: &[&str], text: &str| {
            let log = net(&place, words);
            log.assert_success().stdout_text().contains(text)
        };
        wait_until("the cut in the log", || {
            logged(&["log", "--json"], "\"rules_changed\"")
        });
        assert!(logged(&["log"], "denied.example:7 rules_changed"));
        inside.finish().assert_success();
        // After the end: no rules, but the log, and the policy files decide.
        net(&place, &["rules"]).assert_code(125);
        net(&place, &["log"]).assert_success();
    }
}

#[test]
fn udp_flows_are_cut_by_new_rules_and_others_go_on() {
    for world in worlds() {
        let place = Place::new(&world, "flows");
        let mut inside = Inside::start(
            &place,
            &[
                "--allow",
                "allowed.example:7/udp",
                "--allow",
                "denied.example:7/udp",
            ],
        );
        // In one read: what a datagram has beyond it is lost.
        let answers = |flow: u8| {
            format!(
                "echo x >&{flow} && timeout 4 dd bs=64 count=1 status=none <&{flow} | grep -qx x"
            )
        };
        assert_eq!(inside.step("exec 5<>/dev/udp/allowed.example/7"), 0);
        assert_eq!(inside.step("exec 6<>/dev/udp/denied.example/7"), 0);
        for flow in [5, 6] {
            assert_eq!(inside.step(&answers(flow)), 0, "the control of {flow}");
        }
        let deny = net(&place, &["deny", "denied.example"]);
        assert!(
            deny.assert_success()
                .stderr_text()
                .contains("one connection was cut"),
            "{deny}"
        );
        assert_ne!(inside.step(&answers(6)), 0);
        assert_eq!(inside.step(&answers(5)), 0);
        net(&place, &["allow", "denied.example:7/udp"]).assert_success();
        assert_eq!(inside.step(&answers(6)), 0, "allowed again");
        wait_until("the cut in the log", || {
            let log = net(&place, &["log", "--json"]);
            log.assert_success()
                .stdout_text()
                .lines()
                .any(|line| line.contains("\"udp\"") && line.contains("\"deny_rule\""))
        });
        inside.finish().assert_success();
    }
}

#[test]
fn the_control_socket_cannot_be_reached_from_inside() {
    for world in worlds() {
        let place = Place::new(&world, "socket");
        let uid = world.user().uid;
        let runtime = world.scratch_directory(format!("runtime-{uid}"));
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700)).unwrap();
        world.give_to_user(&runtime);
        // Grants of the socket's directories and of what is above them are refused.
        let own = runtime.join("rcc");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o700)).unwrap();
        world.give_to_user(&runtime);
        for grant in [&own, &runtime] {
            for flag in ["--rw", "--ro"] {
                let output = place
                    .rcc(["run", flag])
                    .arg(grant)
                    .args(["--", "true"])
                    .env("XDG_RUNTIME_DIR", &runtime)
                    .output();
                output.assert_code(125);
            }
        }
        // A link to it in the project leads nowhere.
        std::os::unix::fs::symlink(&own, place.project.join("link")).unwrap();
        let mut inside =
            Inside::start_with(&place, &["--allow", "allowed.example:7"], Some(&runtime));
        let entry = std::fs::read_dir(&own)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let socket = entry.join("control");
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&entry), mode(&socket)), (0o700, 0o600));
        // Outside the socket answers: the control.
        let control = place.rcc(["net", "rules"]).output();
        control.assert_success();
        let supervisor = inside.running.pid();
        let id = entry.file_name().unwrap().to_str().unwrap().to_owned();
        let linked = format!("{}/link/{id}/control", place.project.display());
        let rooted = format!("/proc/{supervisor}/root{}", socket.display());
        for (number, path) in [socket.to_str().unwrap(), &linked, &rooted]
            .into_iter()
            .enumerate()
        {
            for attack in ["unix-connect", "unix-by-proc-fd"] {
                let file = format!("attack-{number}-{attack}");
                inside.step(&format!(
                    "{} {attack} '{path}' > {file}",
                    probe::path().display()
                ));
                let text = std::fs::read_to_string(place.project.join(&file)).unwrap();
                Record::from_text(text.trim()).assert_denied("ENOENT");
            }
        }
        // No abstract name, and nothing that listens, is seen in there.
        assert_eq!(inside.step("! grep -q control /proc/net/unix"), 0);
        inside.finish().assert_success();
        assert!(!entry.exists(), "the socket is removed at the end");
    }
}

#[test]
fn a_process_in_another_user_namespace_is_not_heard_although_it_reaches_the_socket() {
    for world in worlds() {
        let place = Place::new(&world, "namespace");
        let inside = Inside::start(&place, &["--allow", "allowed.example:7"]);
        let rules = |prefix: &[&str]| {
            let mut command = match prefix {
                [] => place.rcc(["net", "rules"]),
                [program, rest @ ..] => world
                    .host_command(program)
                    .args(rest)
                    .arg(support::program())
                    .args(["net", "rules"])
                    .current_dir(&place.project),
            };
            command = command.timeout(Duration::from_secs(30));
            command.output()
        };
        rules(&[]).assert_success();
        // The same user and file, from a child of our user namespace, as the agent's is.
        let foreign = rules(&["unshare", "--user", "--map-current-user"]);
        foreign.assert_code(125);
        assert!(foreign.stderr_text().contains("run"), "{foreign}");
        assert!(
            !foreign.stdout_text().contains("allowed.example"),
            "{foreign}"
        );
        rules(&[]).assert_success();
        inside.finish().assert_success();
    }
}

#[test]
fn a_question_waits_for_its_answer() {
    for world in worlds() {
        let place = Place::new(&world, "ask");
        place.file(
            "rcc.toml",
            "version = 1\n[network]\nask = true\nask_timeout = 6\n",
        );
        place.rcc(["trust", "--yes"]).output().assert_success();
        let mut inside = Inside::start(&place, &[]);
        assert!(
            inside
                .running
                .stderr_so_far()
                .contains("rcc net ask --watch")
        );
        world.forget();
        let number = inside.begin("timeout 20 bash -c 'exec 4<>/dev/tcp/allowed.example/7 && echo hi >&4 && read -t 15 -u 4 word'");
        wait_until("a question", || {
            net(&place, &["ask"])
                .stdout_text()
                .contains("allowed.example:7")
        });
        // Nothing has left the host: neither the name nor a packet to the address.
        assert!(world.dns_queries().is_empty(), "{:?}", world.dns_queries());
        net(&place, &["allow", "allowed.example:7"]).assert_success();
        assert_eq!(inside.end(number), 0);
        // Datagrams wait, too.
        let number = inside.begin(
            "timeout 20 bash -c 'exec 4<>/dev/udp/allowed.example/7 && echo hi >&4 && dd bs=64 count=1 status=none <&4 | grep -q hi'",
        );
        wait_until("a question about UDP", || {
            net(&place, &["ask"])
                .stdout_text()
                .contains("allowed.example:7/udp")
        });
        net(&place, &["allow", "allowed.example:7/udp"]).assert_success();
        assert_eq!(inside.end(number), 0);
        // On a terminal, one after the other.
        let mut terminal = place.rcc(["net", "ask", "--watch"]).spawn_terminal(24, 100);
        terminal.wait_for_text("waiting for questions");
        let number = inside.begin("timeout 20 bash -c 'exec 4<>/dev/tcp/www.allowed.example/7 && echo hi >&4 && read -t 15 -u 4 word'");
        terminal.wait_for_text("www.allowed.example:7");
        terminal.type_bytes(b"perhaps\n");
        terminal.wait_for_text("y, r, p, n or never");
        terminal.type_bytes(b"y\n");
        assert_eq!(inside.end(number), 0);
        terminal.type_bytes(b"\x03");
        let _ = terminal.wait();
        // Silence is a refusal, and what can never be allowed is not asked.
        assert!(!inside.reaches("denied.example"));
        wait_until("the time-out in the log", || {
            net(&place, &["log"]).stdout_text().contains("ask_timeout")
        });
        assert!(
            world
                .dns_queries()
                .iter()
                .all(|query| !query.name.contains("denied"))
        );
        inside.finish().assert_success();
    }
}

#[test]
fn edits_of_the_policy_take_effect_once_they_are_approved_or_narrow() {
    for world in worlds() {
        let place = Place::new(&world, "edits");
        let policy = |allow: &str| {
            format!("version = 1\n[network]\nmode = \"allowlist\"\nallow = [{allow}]\n")
        };
        place.file("rcc.toml", policy("\"allowed.example:7\""));
        place.rcc(["trust", "--yes"]).output().assert_success();
        let mut inside = Inside::start(&place, &[]);
        assert!(inside.reaches("allowed.example"));
        // The agent cannot write it.
        assert_ne!(inside.step("echo >> rcc.toml"), 0);
        assert_ne!(inside.step("rm -f rcc.toml"), 0);
        // Wider: not before it is approved.
        let logged = |word: &str| net(&place, &["log"]).stdout_text().contains(word);
        place.file(
            "rcc.toml",
            policy("\"allowed.example:7\", \"denied.example:7\""),
        );
        wait_until("the refusal in the log", || logged("policy_not_approved"));
        assert!(logged("rcc trust"));
        assert!(!inside.reaches("denied.example"));
        place.rcc(["trust", "--yes"]).output().assert_success();
        wait_until("the change in the log", || logged("policy_changed"));
        assert!(inside.reaches("denied.example"));
        // Broken: the old rules stay.
        place.file("rcc.toml", "version = 1\n[network\n");
        wait_until("the fault in the log", || logged("policy_broken"));
        assert!(inside.reaches("denied.example"));
        // Narrower: at once, without an approval.
        place.file("rcc.toml", policy("\"denied.example:7\""));
        wait_until("the narrowing", || !inside.reaches("allowed.example"));
        assert!(inside.reaches("denied.example"));
        // From the command line into the file, comments kept.
        place.file(
            "rcc.toml",
            format!("# mine\n{}", policy("\"denied.example:7\"")),
        );
        place.rcc(["trust", "--yes"]).output().assert_success();
        net(&place, &["allow", "--project", "allowed.example:7"]).assert_success();
        assert!(inside.reaches("allowed.example"));
        let text = std::fs::read_to_string(place.project.join("rcc.toml")).unwrap();
        assert!(
            text.starts_with("# mine\n") && text.contains("\"allowed.example:7\""),
            "{text}"
        );
        assert_ne!(inside.step("echo >> rcc.toml"), 0);
        inside.finish().assert_success();
        // It counts for the next run.
        let mut next = Inside::start(&place, &[]);
        assert!(next.reaches("allowed.example"));
        next.finish().assert_success();
    }
}

#[test]
fn several_runs_and_dead_ones_are_told_apart() {
    for world in worlds() {
        let place = Place::new(&world, "several");
        let mut first = Inside::start(&place, &["--allow", "allowed.example:7"]);
        let second = Inside::start(&place, &["--allow", "allowed.example:7"]);
        let unclear = net(&place, &["rules"]);
        unclear.assert_code(125);
        assert!(unclear.stderr_text().contains("several runs"), "{unclear}");
        let runs = net(&place, &["runs"]).stdout_text();
        let ids: Vec<&str> = runs
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(ids.len(), 2, "{runs}");
        for id in &ids {
            net(&place, &["rules", "--run", id]).assert_success();
        }
        first.running.signal(9);
        let _ = first.running.wait();
        wait_until("one run", || {
            net(&place, &["runs"]).stdout_text().lines().count() == 1
        });
        net(&place, &["rules"]).assert_success();
        let left = net(&place, &["runs"]).stdout_text();
        let dead = ids.iter().find(|id| !left.contains(**id)).unwrap();
        let gone = net(&place, &["allow", "--run", dead, "denied.example"]);
        gone.assert_code(125);
        assert!(gone.stderr_text().contains("has ended"), "{gone}");
        net(&place, &["log", "--run", dead]).assert_success();
        second.finish().assert_success();
    }
}
