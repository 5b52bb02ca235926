//! Files that the host replaces while the sandbox runs: the mounts that protected them are lost then (`detach_mounts()` in
//! the kernel's fs/namespace.c), and what is there now must be out of the agent's reach again, and told.

use rcc_testkit::probe::{self, Record};
use rcc_testkit::world::{Output, Running};

use crate::scene::guard::GuardProcess;
use crate::scene::{Scene, exists};

/// A shell in a sandbox that is told line by line what to do.
struct Agent {
    running: Running,
    asked: usize,
}

impl Agent {
    fn start(scene: &Scene) -> Self {
        let shell = scene.run(&["-n"]).args(["bash", "-s"]).arg(probe::path());
        let mut agent = Self {
            running: shell.stdin_open().spawn(),
            asked: 0,
        };
        agent.ask("true");
        agent
    }

    /// Has the shell do something, and gives what it printed.
    #[track_caller]
    fn ask(&mut self, script: &str) -> String {
        self.asked += 1;
        let before = self.running.stdout_so_far().len();
        let end = format!("end-{}-of-it", self.asked);
        self.running
            .write_stdin(format!("{script}\necho {end}\n").as_bytes());
        self.running.wait_for_text(&end);
        let text = self.running.stdout_so_far();
        text[before..].split(&end).next().unwrap().to_owned()
    }

    /// Runs a probe inside.
    #[track_caller]
    fn probe(&mut self, words: &str) -> Record {
        let text = self.ask(&format!("\"$1\" {words}"));
        Record::from_text(text.trim())
    }

    /// Waits until this path cannot be written to, without writing (`access(2)` tells of a read-only mount).
    #[track_caller]
    fn await_closed(&mut self, path: &str) {
        self.ask(&format!(
            "while [ -w {path} ] || ! [ -e {path} ]; do :; done"
        ));
    }

    #[track_caller]
    fn end(mut self) -> Output {
        self.running.write_stdin(b"exit 0\n");
        self.running.wait()
    }
}

/// Renames a new file over an old one, as editors and git do.
fn replace(scene: &Scene, name: &str, content: &str) {
    let path = format!("home/work/project/{name}");
    let new = scene.file(&format!("{path}.new"), content);
    std::fs::rename(new, scene.base.join(path)).unwrap();
}

fn scene(name: &str) -> Option<Scene> {
    let scene = Scene::new(name)?;
    for file in [".envrc", ".vscode/tasks.json", ".claude/settings.json"] {
        scene.file(&format!("home/work/project/{file}"), "the owner's\n");
    }
    Some(scene)
}

/// The control is part of it: while the guard is stopped, the hole is there.
#[test]
fn a_file_is_read_only_again_and_what_was_opened_in_between_is_too() {
    for name in [".git/config", ".claude/settings.json", ".envrc"] {
        let slug = name.replace(['.', '/'], "_");
        let Some(scene) = scene(&format!("replaced_file{slug}")) else {
            return;
        };
        let mut agent = Agent::start(&scene);
        agent
            .probe(&format!("write {name} x"))
            .assert_denied("EROFS");
        let guard = GuardProcess::of(&scene, &agent.running);
        guard.stop();
        replace(&scene, name, "the owner's next\n");
        agent.probe(&format!("append {name} evil")).assert_ok();
        // A descriptor that counts as no writer and could be opened anew for writing.
        agent.ask(&format!("exec 7< {name}"));
        guard.go_on();
        agent.await_closed(name);
        agent
            .probe(&format!("append {name} more"))
            .assert_denied("EROFS");
        agent
            .probe(&format!("unlink {name}"))
            .assert_denied("EBUSY");
        let anew = agent.ask("bash -c 'echo more >> /proc/self/fd/7' 2>&1");
        let is_top = !name.contains('/');
        assert_eq!(anew.contains("Read-only"), !is_top, "{name}: {anew}");
        if !is_top {
            // What was not replaced goes on as before, at its own path.
            let directory = name.split('/').next().unwrap();
            agent
                .probe(&format!("create {directory}/other"))
                .assert_ok();
        }
        let output = agent.end();
        output.assert_success();
        let told = output.stderr_text();
        assert!(
            told.contains(name) && told.contains("look at it before you use it"),
            "{output}"
        );
        // THREAT-MODEL says so of names at the project's top: told is the most that can be done.
        let expected = if is_top {
            "was changed after"
        } else {
            "may have been written to"
        };
        assert!(told.contains(expected), "{output}");
    }
}

#[test]
fn real_git_on_the_host_opens_nothing() {
    if !rcc_testkit::require("git") {
        return;
    }
    let Some(scene) = scene("replaced_git") else {
        return;
    };
    let mut agent = Agent::start(&scene);
    for number in 0..20 {
        let git = scene.command("git");
        git.args(["config", "x.y", &number.to_string()])
            .output()
            .assert_success();
        agent.await_closed(".git/config");
        agent
            .probe("append .git/config evil")
            .assert_denied("EROFS");
    }
    let output = agent.end();
    output.assert_success();
    assert!(
        output
            .stderr_text()
            .contains(".git/config was replaced on the host"),
        "{output}"
    );
    assert!(!scene.text("home/work/project/.git/config").contains("evil"));
}

#[test]
fn directories_that_are_moved_or_made_anew() {
    let Some(scene) = scene("replaced_directories") else {
        return;
    };
    let mut agent = Agent::start(&scene);
    let host = |script: &str| {
        let shell = scene.command("sh").args(["-ec", script]);
        shell.output().assert_success();
    };
    host(
        "mv .vscode aside; cp -r aside .vscode; rm -rf .git/hooks; mkdir .git/hooks; echo x > .git/hooks/pre-push",
    );
    agent.await_closed(".vscode");
    agent.await_closed(".git/hooks");
    agent
        .probe("write .vscode/tasks.json evil")
        .assert_denied("EROFS");
    agent
        .probe("create .git/hooks/pre-commit")
        .assert_denied("EROFS");
    agent
        .probe("write .git/hooks/pre-push evil")
        .assert_denied("EROFS");
    agent.probe("rename .vscode x").assert_denied("EBUSY");
    // The mount went with the directory.
    agent
        .probe("write aside/tasks.json evil")
        .assert_denied("EROFS");
    // The repository as a whole: its ancestors are pinned again, and what is in it is closed.
    host("mv .git old; cp -r old .git");
    agent.await_closed(".git/config");
    agent.await_closed(".git/hooks");
    agent.probe("write .git/config evil").assert_denied("EROFS");
    agent.probe("rename .git x").assert_denied("EBUSY");
    agent.probe("append .git/HEAD x").assert_ok();
    let output = agent.end();
    output.assert_success();
    for name in [".vscode", ".git/hooks", ".git/config", ".git"] {
        // `cp` writes under the protected name, which is told as what it is.
        let told = format!("{} was ", scene.path(&format!("home/work/project/{name}")));
        assert!(output.stderr_text().contains(&told), "{told}\n{output}");
    }
}

/// A name that the host removes is not the agent's to make.
#[test]
fn a_name_that_was_removed_is_closed_when_it_comes_again() {
    let Some(scene) = scene("replaced_removed") else {
        return;
    };
    let mut agent = Agent::start(&scene);
    std::fs::remove_file(scene.project().join(".envrc")).unwrap();
    agent.ask("while [ -e .envrc ]; do :; done; echo evil > .envrc");
    agent.await_closed(".envrc");
    agent.probe("unlink .envrc").assert_denied("EBUSY");
    let output = agent.end();
    output.assert_success();
    // Whether it was written before or after it was closed, the words say so.
    let told = output.stderr_text();
    assert!(
        told.contains(".envrc was ") && told.contains("look at it before you use it"),
        "{output}"
    );
}

#[test]
fn a_hidden_file_stays_hidden() {
    let Some(scene) = scene("replaced_hidden") else {
        return;
    };
    let secret = "the owner's secret";
    scene.file("home/work/project/.env", secret);
    scene.file("home/work/project/keys/id", secret);
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[files]\nhidden = [\"~/work/project/.env\", \"~/work/project/keys\"]\n",
    );
    let mut agent = Agent::start(&scene);
    agent.probe("read .env").assert_denied("EACCES");
    agent.probe("read keys/id").assert_denied("EACCES");
    let guard = GuardProcess::of(&scene, &agent.running);
    guard.stop();
    replace(&scene, ".env", secret);
    std::fs::rename(scene.project().join("keys"), scene.project().join("old")).unwrap();
    scene.file("home/work/project/keys/id", secret);
    // The control: with the guard stopped both can be read.
    for path in [".env", "keys/id"] {
        assert!(agent.ask(&format!("cat {path}")).contains(secret), "{path}");
    }
    guard.go_on();
    agent.ask("while [ -r .env ] || [ -r keys/id ]; do :; done");
    agent.probe("read .env").assert_denied("EACCES");
    agent.probe("read keys/id").assert_denied("EACCES");
    agent.end().assert_success();
    assert_eq!(scene.text("home/work/project/.env"), secret);
}

#[test]
fn what_cannot_be_protected_again_ends_the_run() {
    let writer = |agent: &mut Agent, guard: &GuardProcess, scene: &Scene| {
        guard.stop();
        replace(scene, ".envrc", "next\n");
        agent.ask("exec 8>>.envrc");
        guard.go_on();
    };
    let second_name = |agent: &mut Agent, guard: &GuardProcess, scene: &Scene| {
        guard.stop();
        replace(scene, ".git/config", "next\n");
        agent.probe("hardlink .git/config .git/alias").assert_ok();
        guard.go_on();
    };
    let link = |_: &mut Agent, _: &GuardProcess, scene: &Scene| {
        std::os::unix::fs::symlink("file", scene.project().join("link")).unwrap();
        std::fs::rename(scene.project().join("link"), scene.project().join(".envrc")).unwrap();
    };
    let no_guard = |_: &mut Agent, guard: &GuardProcess, scene: &Scene| {
        let kill = scene.command("kill").args(["-KILL", &guard.pid]);
        kill.output().assert_success();
    };
    type Attack<'a> = &'a dyn Fn(&mut Agent, &GuardProcess, &Scene);
    let attacks: [(&str, Attack, &str); 4] = [
        ("writer", &writer, "open for writing ever since"),
        ("second_name", &second_name, "second name"),
        ("link", &link, "link or a special file"),
        ("no_guard", &no_guard, "ended before its time"),
    ];
    for (name, attack, told) in attacks {
        let Some(scene) = scene(&format!("replaced_fail_{name}")) else {
            return;
        };
        let mut agent = Agent::start(&scene);
        let guard = GuardProcess::of(&scene, &agent.running);
        attack(&mut agent, &guard, &scene);
        // Nobody tells the shell to end.
        let output = wait_open(agent);
        output.assert_code(125);
        let stderr = output.stderr_text();
        assert!(
            stderr.contains("could not be kept read-only") && stderr.contains(told),
            "{output}"
        );
    }
}

/// Waits for the end with the shell's input still open.
fn wait_open(agent: Agent) -> Output {
    agent.running.wait_for_text("error: ");
    agent.running.wait()
}

/// A project that is moved away takes its mounts along; what comes to its place is not seen inside.
#[test]
fn a_project_that_is_moved_while_it_is_used() {
    let Some(scene) = scene("replaced_project") else {
        return;
    };
    let mut agent = Agent::start(&scene);
    let moved = scene.base.join("home/work/moved");
    std::fs::rename(scene.project(), &moved).unwrap();
    scene.file("home/work/project/.envrc", "of the new one\n");
    let root = scene.path("home/work/project");
    agent
        .probe(&format!("write {root}/.envrc evil"))
        .assert_denied("EROFS");
    agent
        .probe(&format!("write {root}/.git/config evil"))
        .assert_denied("EROFS");
    agent.probe(&format!("write {root}/file mine")).assert_ok();
    assert_eq!(std::fs::read_to_string(moved.join("file")).unwrap(), "mine");
    assert!(!exists(&scene.project().join("file")));
    assert_eq!(scene.text("home/work/project/.envrc"), "of the new one\n");
    agent.end().assert_success();
}

/// A read-only grant inside the writable project is a mount of the same kind.
#[test]
fn a_read_only_grant_in_the_project() {
    let Some(scene) = scene("replaced_grant") else {
        return;
    };
    scene.file("home/work/project/vendor/lib", "the owner's\n");
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[files]\nreadonly = [\"~/work/project/vendor\"]\n",
    );
    let mut agent = Agent::start(&scene);
    agent.probe("write vendor/lib evil").assert_denied("EROFS");
    std::fs::rename(scene.project().join("vendor"), scene.project().join("old")).unwrap();
    scene.file("home/work/project/vendor/lib", "next\n");
    agent.await_closed("vendor/lib");
    agent.probe("write vendor/lib evil").assert_denied("EROFS");
    agent.probe("write old/lib evil").assert_denied("EROFS");
    agent.end().assert_success();
}

/// Runs shorter than it takes to start a guard are compared with what was there.
#[test]
fn in_a_run_that_is_over_at_once() {
    let Some(scene) = scene("replaced_short") else {
        return;
    };
    let untouched = scene.sh(&["-n"], "true");
    assert!(
        !untouched
            .assert_success()
            .stderr_text()
            .contains("replaced"),
        "{untouched}"
    );
    let mut agent = Agent::start(&scene);
    replace(&scene, ".envrc", "next\n");
    agent.running.write_stdin(b"exit 0\n");
    let output = agent.running.wait();
    assert!(output.stderr_text().contains(".envrc was "), "{output}");
}

/// The agent makes events of the watched directory faster than the guard reads them.
#[test]
fn a_flood_of_events_keeps_the_guard_from_nothing() {
    let Some(scene) = scene("replaced_flood") else {
        return;
    };
    let mut agent = Agent::start(&scene);
    agent.ask("for n in 1 2 3; do : > a$n; : > b$n; \"$1\" flip a$n b$n never > /dev/null & done");
    replace(&scene, ".envrc", "the owner's next\n");
    agent.await_closed(".envrc");
    agent.probe("append .envrc evil").assert_denied("EROFS");
    let output = agent.end();
    assert_eq!(output.code(), Some(0), "{output}");
    assert!(output.stderr_text().contains(".envrc"), "{output}");
}
