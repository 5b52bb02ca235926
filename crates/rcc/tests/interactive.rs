//! Interactive use under tmux, as a person would: typing, resize, Ctrl-C, Ctrl-Z and `fg`, and a terminal that is left as it was.
//!
//! The screen is polled until it shows what is waited for, with a deadline; nothing is timed.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rcc_testkit::world::wire::Process;
use rcc_testkit::world::{Running, User, World, WorldConfig};
use rcc_testkit::{messages_api, patience, require};
use support::{Place, agents};

/// Longest wait for a screen.
const LIMIT: Duration = Duration::from_secs(30);
const ROWS: u16 = 30;
const COLUMNS: u16 = 100;

/// A terminal with an interactive shell of the host in it, whose prompt is `host>`.
struct Screen<'w> {
    place: Place<'w>,
    socket: PathBuf,
    _server: Running,
}

impl<'w> Screen<'w> {
    /// Starts tmux; `rcc` in its shell is the program under test with these flags.
    fn start(place: Place<'w>, flags: &[String], path: &str) -> Self {
        let world = place.world;
        let quoted: Vec<String> = flags.iter().map(|flag| format!("'{flag}'")).collect();
        let rc = world.scratch_file(
            "host.sh",
            format!(
                "PS1='host> '\nPATH={path}:$PATH\nHISTFILE=\nrcc() {{ {} {} \"$@\"; }}\n",
                support::program().display(),
                quoted.join(" ")
            ),
        );
        let socket = world.scratch().join("tmux.sock");
        // In the foreground, or it would be taken for something left behind.
        let server = world
            .host_command("tmux")
            .args(["-D", "-f", "/dev/null", "-S"])
            .arg(&socket)
            .env("TERM", "xterm-256color")
            .timeout(Duration::from_secs(240))
            .spawn();
        let screen = Self {
            place,
            socket,
            _server: server,
        };
        screen.until("tmux listens", || screen.socket.exists());
        let (columns, rows) = (COLUMNS.to_string(), ROWS.to_string());
        let project = screen.place.project.to_str().unwrap().to_owned();
        screen.tmux(&[
            "new-session",
            "-d",
            "-x",
            &columns,
            "-y",
            &rows,
            "-c",
            &project,
            "bash",
            "--noprofile",
            "--rcfile",
            rc.to_str().unwrap(),
        ]);
        screen.tmux(&["set", "-g", "status", "off"]);
        screen.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
        screen.prompt();
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self
            .place
            .world
            .host_command("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .output();
        output.assert_success().stdout_text()
    }

    /// What is on the screen, without empty lines.
    fn shown(&self) -> String {
        let text = self.tmux(&["capture-pane", "-p"]);
        text.lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| format!("{}\n", line.trim_end()))
            .collect()
    }

    /// Polls until it is so.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let limit = patience(LIMIT);
        let end = Instant::now() + limit;
        while !is_so() {
            assert!(
                Instant::now() < end,
                "{what}: not after {limit:?}; the screen:\n{}",
                self.shown()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        self.until(&format!("`{text}` is shown"), || {
            self.shown().contains(text)
        });
    }

    /// Waits until the host's shell is at its prompt: the last line is empty but for it.
    #[track_caller]
    fn prompt(&self) {
        self.until("the host's prompt", || self.shown().ends_with("host>\n"));
    }

    fn key(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    fn text(&self, text: &str) {
        self.tmux(&["send-keys", "-l", text]);
    }

    fn line(&self, text: &str) {
        self.text(text);
        self.key("Enter");
    }

    /// Has the host's shell run a command and gives what that wrote to a file: the screen may hold anything else.
    #[track_caller]
    fn on_host(&self, command: &str) -> String {
        let file = self.place.world.scratch().join("answer");
        let done = self.place.world.scratch().join("done");
        let _ = std::fs::remove_file(&done);
        self.prompt();
        self.line(&format!(
            "{command} >{}; : >{}",
            file.display(),
            done.display()
        ));
        self.until("the command has ended", || done.exists());
        self.line("clear");
        self.prompt();
        std::fs::read_to_string(&file).unwrap()
    }

    /// All settings of the terminal (stty(1)).
    #[track_caller]
    fn settings(&self) -> String {
        self.on_host("stty -g")
    }

    /// The exit code of the last command.
    #[track_caller]
    fn exit_code(&self) -> String {
        self.on_host("echo $?").trim().to_owned()
    }

    /// Resizes the window and waits until its terminal has that size.
    #[track_caller]
    fn resize(&self, columns: u16, rows: u16) {
        self.tmux(&[
            "resize-window",
            "-x",
            &columns.to_string(),
            "-y",
            &rows.to_string(),
        ]);
        let terminal = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        self.until("the terminal's new size", || {
            let size = self
                .place
                .world
                .host_command("sh")
                .args(["-c", &format!("stty -F {} size", terminal.trim())])
                .output();
            size.assert_success().stdout_text() == format!("{rows} {columns}\n")
        });
    }

    /// State and id of the one process of that name; `rcc-init` is the first process of the sandbox, `claude` the agent.
    fn process(&self, name: &str) -> Option<(u32, char)> {
        let all = self.place.world.processes();
        let is_init = |process: &Process| process.command_line == "rcc-init";
        let inits: Vec<u32> = all
            .iter()
            .filter(|one| is_init(one))
            .map(|one| one.pid)
            .collect();
        let found: Vec<_> = all
            .iter()
            // Those that are about to end have no command line any more.
            .filter(|process| process.state != 'Z' && !process.command_line.is_empty())
            .filter(|process| match name {
                "rcc-init" => is_init(process),
                // A child that the agent forks has its command line until it executes another program.
                "claude" => {
                    process
                        .command_line
                        .ends_with("--dangerously-skip-permissions")
                        && inits.contains(&process.parent)
                }
                _ => process.name == name && !is_init(process),
            })
            .collect();
        match found[..] {
            [] => None,
            [one] => Some((one.pid, one.state)),
            _ => panic!("several processes are called {name}: {found:?}"),
        }
    }

    fn kill(&self, name: &str) {
        let (pid, _) = self.process(name).unwrap();
        self.place
            .world
            .host_command("sh")
            .args(["-c", &format!("kill -9 {pid}")])
            .output()
            .assert_success();
    }
}

/// A world with an ordinary user, and tmux.
fn world() -> Option<World> {
    if !require("tmux") || !require("bash") {
        return None;
    }
    if !rustix::process::geteuid().is_root() {
        return World::start_or_skip();
    }
    if !require("unprivileged-user") {
        return None;
    }
    World::with_or_skip(WorldConfig::default().user(User::ordinary()))
}

#[test]
fn a_shell_takes_typing_resizes_interrupts_and_its_own_jobs() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "shell"), &[], "/nonexistent");
    let before = screen.settings();
    screen.line("rcc shell");
    screen.until("the inner prompt", || {
        !screen.shown().ends_with("rcc shell\n")
    });
    screen.line("PS1='inside> '");
    screen.until("the new prompt", || screen.shown().ends_with("inside>\n"));

    // Typing, with a correction: the terminal inside edits lines.
    screen.text("echo a$((40+3))x");
    screen.key("BSpace");
    screen.line("b");
    screen.wait_for("\na43b\n");
    screen.line("test -t 0 && test -t 1 && test -t 2 && tty");
    screen.wait_for("\n/dev/pts/");
    // It is a terminal of its own: the host's is not there.
    screen.line("stty size; echo size");
    screen.wait_for(&format!("\n{ROWS} {COLUMNS}\nsize\n"));
    // Every single change arrives.
    for (columns, rows) in [(77, 20), (90, 25), (60, 18), (71, 22), (99, 29), (80, 24)] {
        screen.resize(columns, rows);
        screen.until("the new size inside", || {
            screen.line("clear; stty size");
            screen.shown().contains(&format!("{rows} {columns}\n"))
        });
    }

    // Ctrl-C ends the inner program, not the shell and not rcc.
    screen.line("clear; echo sleeping-$((1+1)); sleep 1000; echo code-$?");
    screen.wait_for("sleeping-2\n");
    screen.until("sleep runs", || screen.process("sleep").is_some());
    screen.key("C-c");
    screen.until("sleep has ended", || screen.process("sleep").is_none());
    screen.line("echo still-$((2+3))");
    screen.wait_for("still-5");

    // Ctrl-Z inside is the inner shell's business: it has job control of its own.
    screen.line("clear; sleep 2000");
    screen.until("sleep runs", || screen.process("sleep").is_some());
    screen.key("C-z");
    screen.until("sleep is stopped", || {
        screen
            .process("sleep")
            .is_some_and(|(_, state)| state == 'T')
    });
    screen.until("the inner prompt", || screen.shown().ends_with("inside>\n"));
    assert_ne!(screen.process("rcc").unwrap().1, 'T', "rcc itself goes on");
    screen.line("fg");
    screen.until("sleep goes on", || {
        screen
            .process("sleep")
            .is_some_and(|(_, state)| state == 'S')
    });
    screen.key("C-c");
    screen.until("sleep has ended", || screen.process("sleep").is_none());

    screen.line("exit 7");
    screen.prompt();
    assert_eq!(screen.exit_code(), "7");
    assert_eq!(screen.settings(), before);
    assert!(screen.process("rcc").is_none() && screen.process("rcc-init").is_none());
}

#[test]
fn ctrl_z_stops_the_whole_run_and_fg_continues_it() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "stop"), &[], "/nonexistent");
    let before = screen.settings();
    screen.line("rcc run -- cat");
    screen.until("cat runs", || screen.process("cat").is_some());
    screen.line("one");
    screen.wait_for("\none\none\n");
    for round in ["two", "three"] {
        screen.key("C-z");
        screen.until("the host's shell tells of the stop", || {
            screen.shown().contains("Stopped") && screen.shown().ends_with("host>\n")
        });
        for name in ["cat", "rcc"] {
            assert_eq!(screen.process(name).unwrap().1, 'T', "{name}");
        }
        // The host's shell has a sane terminal meanwhile.
        assert_eq!(screen.settings(), before);
        screen.line("clear; fg");
        screen.until("both go on", || {
            ["cat", "rcc"]
                .iter()
                .all(|name| screen.process(name).is_some_and(|(_, state)| state != 'T'))
        });
        screen.line(round);
        screen.wait_for(&format!("\n{round}\n{round}\n"));
    }
    screen.key("C-d");
    screen.prompt();
    assert_eq!(screen.exit_code(), "0");
    assert_eq!(screen.settings(), before);
}

/// Nobody typed a key, so nobody wants it to stop: rcc goes on watching. The cursor's place, which the terminal tells when
/// asked, comes as keys do and is none.
#[test]
fn an_agent_that_stops_itself_does_not_stop_its_timeout() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "own-stop"), &[], "/nonexistent");
    let before = screen.settings();
    let stops = r#"stty -echo -icanon min 1; printf "\033[13;1H\033[6n"; dd bs=1 count=7 status=none | od -An -c
        while :; do kill -STOP $$; done"#;
    let script = screen.place.world.scratch_file("stops.sh", stops);
    screen.line(&format!(
        "rcc run -n --timeout 2s -- sh -c \"$(cat {})\"",
        script.display()
    ));
    screen.wait_for("033   [   1   3   ;   1   R");
    screen.wait_for("the run's time of 2s is over");
    assert_eq!(screen.exit_code(), "124");
    assert_eq!(screen.settings(), before);
}

#[test]
fn ctrl_c_and_kill_9_of_the_agent_leave_the_terminal_as_it_was() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "kill"), &[], "/nonexistent");
    let before = screen.settings();

    screen.line("rcc run -- sleep 3000");
    screen.until("sleep runs", || screen.process("sleep").is_some());
    screen.key("C-c");
    screen.prompt();
    assert_eq!(screen.exit_code(), "130");
    assert_eq!(screen.settings(), before);

    // Killed while its terminal is as strange as an editor makes it.
    screen.line("rcc run -- sh -c 'stty raw -echo; echo raw-$((1+1)); exec sleep 3000'");
    screen.wait_for("raw-2");
    screen.until("sleep runs", || screen.process("sleep").is_some());
    screen.kill("sleep");
    screen.prompt();
    assert_eq!(screen.exit_code(), "137");
    assert_eq!(screen.settings(), before);

    // The first process of the sandbox is killed: everything in it dies, and rcc says so.
    screen.line("rcc run -- sh -c 'stty raw -echo; echo raw-$((2+2)); exec sleep 3000'");
    screen.wait_for("raw-4");
    screen.until("sleep runs", || screen.process("sleep").is_some());
    screen.kill("rcc-init");
    screen.prompt();
    assert_ne!(screen.exit_code(), "0");
    assert_eq!(screen.settings(), before);
    assert!(screen.process("sleep").is_none() && screen.process("rcc").is_none());
}

#[test]
fn claude_code_can_be_used_stopped_continued_and_left() {
    let Some(program) = agents::program("claude", "@anthropic-ai/claude-code") else {
        return;
    };
    let Some(world) = world() else { return };
    let place = Place::new(&world, "claude");
    place.file("rcc.toml", "version = 1\n[network]\nmode = \"allowlist\"\nallow = [\"api.agent.example:443\"]\n[agent]\npreset_hosts = false\n");
    place.rcc(["trust", "--yes"]).output().assert_success();
    // What a person has answered before: rcc copies it into the agent home.
    let answered = serde_json::json!({
        "hasCompletedOnboarding": true,
        "theme": "dark",
        "bypassPermissionsModeAccepted": true,
        "customApiKeyResponses": { "approved": ["dummy"], "rejected": [] },
        "projects": { place.project.to_str().unwrap(): { "hasTrustDialogAccepted": true } },
    });
    std::fs::write(world.home().join(".claude.json"), answered.to_string()).unwrap();
    world.give_to_user(&world.home());
    let mut flags = vec![
        "--ro".to_owned(),
        world.ca_pem_path().to_str().unwrap().to_owned(),
    ];
    for (name, value) in messages_api::claude_variables(&world) {
        flags.extend([
            "--env".to_owned(),
            format!("{name}={}", value.to_str().unwrap()),
        ]);
    }
    let screen = Screen::start(place, &flags, program.parent().unwrap().to_str().unwrap());
    let before = screen.settings();

    // Typing and an answer.
    let start = || {
        screen.line("rcc claude --dangerously-skip-permissions");
        screen.wait_for("bypass permissions on");
    };
    start();
    screen.text("RUN: echo from-inside-$((1+2))");
    screen.wait_for("RUN: echo from-inside");
    screen.key("Enter");
    screen.wait_for("FINAL[from-inside-3]");

    // It draws a line across the whole screen, as wide as it believes the screen to be.
    let width = || {
        screen
            .shown()
            .lines()
            .filter(|line| line.starts_with('─'))
            .map(|line| line.chars().count())
            .max()
    };
    screen.until("the width", || width() == Some(usize::from(COLUMNS)));
    screen.resize(72, 24);
    screen.until("the new width", || width() == Some(72));

    // Ctrl-Z stops it and everything around it; the host's shell is usable; fg brings it back.
    screen.key("C-z");
    screen.until("the host's shell tells of the stop", || {
        screen.shown().contains("Stopped") && screen.shown().ends_with("host>\n")
    });
    for name in ["claude", "rcc"] {
        screen.until("it is stopped", || {
            screen.process(name).is_some_and(|(_, state)| state == 'T')
        });
    }
    assert_eq!(screen.settings(), before);
    screen.line("fg");
    screen.wait_for("bypass permissions on");
    screen.text("typed after the pause");
    screen.wait_for("typed after the pause");
    screen.key("Enter");
    // The stand-in reads the whole conversation, which still holds the same script.
    screen.until("a second answer", || {
        screen.shown().matches("FINAL[from-inside-3]").count() == 2
    });

    // The first Ctrl-C asks, the second one leaves.
    screen.key("C-c");
    screen.wait_for("Press Ctrl-C again to exit");
    screen.key("C-c");
    screen.prompt();
    assert_eq!(screen.exit_code(), "0");
    assert_eq!(screen.settings(), before);

    // Killed in the middle of its work.
    start();
    screen.kill("claude");
    screen.until("rcc has ended", || screen.process("rcc").is_none());
    // It could not tidy up its drawing any more; the settings are what rcc gives back.
    screen.line("clear");
    screen.prompt();
    assert_eq!(screen.settings(), before);
    assert!(screen.process("claude").is_none() && screen.process("rcc-init").is_none());
}

/// The screens are compared as a whole: what is shown, and nothing else.
#[test]
fn a_detached_run_is_attached_left_entered_and_read() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "detached"), &[], "/nonexistent");
    let before = screen.settings();
    let shows = |what: &str, expected: &str| {
        screen.until(what, || screen.shown() == expected);
    };
    let agent =
        r#"stty -echo; echo up; while read -r line; do echo "got $line"; done; echo bye; exit 4"#;
    screen.line(&format!("rcc run -n -d --name shown -- bash -c '{agent}'"));
    screen.prompt();
    let id = screen.on_host("rcc ps -q").trim().to_owned();

    screen.line("clear; rcc attach shown");
    shows("the agent's screen", "up\n");
    screen.line("one");
    shows("its answer", "up\ngot one\n");
    screen.key("C-p");
    screen.key("C-q");
    shows(
        "the host's shell again",
        &format!("up\ngot one\nrcc: detached; rcc attach {id} shows the run again\nhost>\n"),
    );
    assert_eq!(screen.settings(), before);

    // One more process beside it, on a terminal of its own.
    screen.line("clear; rcc exec shown -- sh -c 'test -t 0 && test -t 1 && stty size; exit 3'; echo code $?");
    shows(
        "what exec shows",
        &format!("{ROWS} {COLUMNS}\ncode 3\nhost>\n"),
    );
    screen.line("clear; rcc logs shown; rcc ps -q");
    shows("what was recorded", &format!("up\ngot one\n{id}\nhost>\n"));

    // The same screen again, on a smaller terminal; the end of the agent is the end of attach.
    screen.resize(80, 24);
    screen.line("clear; rcc attach shown; echo code $?");
    shows("the agent's screen again", "up\ngot one\n");
    screen.line("two");
    shows("its answer again", "up\ngot one\ngot two\n");
    screen.key("C-d");
    shows("its end", "up\ngot one\ngot two\nbye\ncode 4\nhost>\n");
    assert_eq!(screen.settings(), before);
    screen.line("clear; rcc logs shown; rcc wait shown; rcc ps");
    shows(
        "what is left",
        "up\ngot one\ngot two\nbye\n4\nrcc: nothing runs\nhost>\n",
    );
}

/// A job in the background of its terminal leaves that alone, also when it is told to go on; in the foreground it has the keys.
#[test]
fn a_run_in_the_background_leaves_the_terminal_to_the_shell() {
    let Some(world) = world() else { return };
    let screen = Screen::start(Place::new(&world, "background"), &[], "/nonexistent");
    let before = screen.settings();
    screen.line("rcc run -n -- cat & sleep 0");
    screen.until("cat runs", || screen.process("cat").is_some());
    assert_eq!(screen.settings(), before);
    screen.line("clear; kill -CONT $!");
    screen.prompt();
    assert_eq!(screen.settings(), before);
    screen.line("clear; echo the shell has the keys");
    screen.until("the shell's answer", || {
        screen.shown() == "the shell has the keys\nhost>\n"
    });
    screen.line("clear; fg");
    let terminal = screen.tmux(&["display-message", "-p", "#{pane_tty}"]);
    screen.until("rcc has the terminal", || {
        let settings = screen
            .place
            .world
            .host_command("stty")
            .args(["-F", terminal.trim(), "-a"])
            .output();
        settings.assert_success().stdout_text().contains("-isig")
    });
    screen.line("one");
    screen.wait_for("\none\none\n");
    screen.key("C-d");
    screen.prompt();
    assert_eq!(screen.settings(), before);
}

#[test]
fn signals_to_rcc_reach_the_agent_every_time() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "signals");
    // With a gateway: its threads must not take a signal from the one that passes it on.
    for (name, number) in [("TERM", 15), ("INT", 2), ("USR1", 10), ("HUP", 1)].repeat(4) {
        let script = format!(
            "trap 'echo got {name}; exit 5' {name}; echo ready; while :; do sleep 0.05; done"
        );
        let mut running = place
            .run(&["--allow", "allowed.example"])
            .args(["sh", "-c", &script])
            .spawn();
        running.wait_for_text("ready");
        running.signal(number);
        let output = running.wait();
        assert_eq!(output.code(), Some(5), "{name}: {output}");
        assert_eq!(output.stdout_text(), format!("ready\ngot {name}\n"));
        assert!(output.survivors.is_empty(), "{output}");
    }
}
