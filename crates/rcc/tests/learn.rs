//! `rcc net learn`: the list that a recorded command yields is enough for it, and every host of the list is needed.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rcc_testkit::require;
use rcc_testkit::world::{Output, World};
use support::Place;

/// A command with what it needs, the same for learning and for the runs with a list.
struct Recorded<'w> {
    place: Place<'w>,
    flags: Vec<String>,
    script: String,
}

impl<'w> Recorded<'w> {
    /// `script` leaves nothing behind that would make the next run need less.
    fn new(place: Place<'w>, script: &str) -> Self {
        let pem = std::fs::read(place.world.ca_pem_path()).unwrap();
        let ca = place.file("ca.pem", pem).to_str().unwrap().to_owned();
        let mut recorded = Self {
            place,
            flags: Vec::new(),
            script: format!("set -e\n{script}\necho done\n"),
        };
        for name in [
            "CARGO_HTTP_CAINFO",
            "npm_config_cafile",
            "GIT_SSL_CAINFO",
            "CURL_CA_BUNDLE",
        ] {
            recorded.env(name, &ca);
        }
        recorded
    }

    fn env(&mut self, name: &str, value: &str) {
        self.flags
            .extend(["--env".to_owned(), format!("{name}={value}")]);
    }

    fn call(&self, words: &[&str]) -> Output {
        self.place
            .rcc(words)
            .args(&self.flags)
            .args(["--", "sh", "-c", &self.script])
            .timeout(Duration::from_secs(120))
            .output()
    }

    /// Learns the list as lines of a rule file, comments taken away.
    #[track_caller]
    fn learn(&self, more: &[&str]) -> Vec<String> {
        let words = [&["net", "learn", "--format", "conf"], more].concat();
        let output = self.call(&words);
        let text = output.assert_success().stdout_text();
        assert!(
            !text.lines().any(|line| line == "done"),
            "what the command says is no part of the list\n{output}"
        );
        assert!(
            output.stderr_text().lines().any(|line| line == "done"),
            "{output}"
        );
        text.lines()
            .filter(|line| !line.starts_with('#') && !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    fn run_with(&self, name: &str, list: &[String]) -> Output {
        let path = self.place.file(name, list.join("\n") + "\n");
        self.call(&["run", "-a", path.to_str().unwrap()])
    }

    /// With the list it passes, with one line less it fails, whichever line that is.
    #[track_caller]
    fn check(&self, list: &[String]) {
        self.run_with("whole.conf", list).assert_success();
        for missing in list {
            let rest: Vec<String> = list
                .iter()
                .filter(|line| *line != missing)
                .cloned()
                .collect();
            let output = self.run_with("less.conf", &rest);
            assert!(
                output.code().is_some_and(|code| code != 0 && code != 125),
                "without {missing}\n{output}"
            );
            let host = missing.split(':').next().unwrap();
            assert!(
                output
                    .stderr_text()
                    .contains(&format!("rcc: refused {host}")),
                "{output}"
            );
        }
    }
}

const NPM: &str = "rm -rf node_modules package-lock.json ~/.npm; npm install --no-audit --no-fund; node -e \"require('tiny-npm')\"";
/// Into the private `/tmp`: a repository of an earlier run in the project is protected, so it could not be removed.
const GIT: &str = "git clone --quiet https://git.example/hello.git /tmp/copy";

fn npm_project(recorded: &mut Recorded<'_>) {
    recorded.place.file(
        "package.json",
        r#"{ "name": "p", "version": "1.0.0", "dependencies": { "tiny-npm": "1" } }"#,
    );
    for (name, value) in [
        ("npm_config_registry", "https://registry.example/npm/"),
        ("npm_config_fetch_retries", "0"),
        ("npm_config_update_notifier", "false"),
    ] {
        recorded.env(name, value);
    }
}

fn cargo_project(recorded: &mut Recorded<'_>) -> String {
    recorded.place.file("Cargo.toml", "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny-crate = \"1\"\n");
    recorded.place.file("src/lib.rs", "");
    recorded.place.file(
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"world\"\n[source.world]\nregistry = \"sparse+https://registry.example/cargo/index/\"\n",
    );
    recorded.env("CARGO_NET_RETRY", "0");
    let (root, cargo) = toolchain();
    if let Some(root) = root {
        let root = root.to_str().unwrap();
        recorded.env("RUSTC", &format!("{root}/bin/rustc"));
        recorded.flags.extend(["--ro".to_owned(), root.to_owned()]);
    }
    format!("rm -rf ~/.cargo Cargo.lock; {cargo} fetch --quiet")
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
fn npm_install_passes_with_the_list_it_taught_and_fails_with_less() {
    if !require("npm") || !require("node") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let mut recorded = Recorded::new(Place::new(&world, "npm"), NPM);
    npm_project(&mut recorded);
    let list = recorded.learn(&[]);
    assert_eq!(list, ["registry.example:443"]);
    recorded.check(&list);
}

#[test]
fn cargo_fetch_passes_with_the_list_it_taught_and_fails_with_less() {
    if !require("cargo") || !require("cc") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let mut recorded = Recorded::new(Place::new(&world, "cargo"), "");
    let script = cargo_project(&mut recorded);
    recorded.script = format!("set -e\n{script}\necho done\n");
    let list = recorded.learn(&[]);
    assert_eq!(list, ["registry.example:443"]);
    recorded.check(&list);
}

#[test]
fn git_clone_passes_with_the_list_it_taught_and_fails_with_less() {
    if !require("git") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    world.make_git_repository("hello", &[("README", "hello\n")]);
    let recorded = Recorded::new(Place::new(&world, "git"), GIT);
    let list = recorded.learn(&[]);
    assert_eq!(list, ["git.example:443"]);
    recorded.check(&list);
}

#[test]
fn every_host_of_a_list_with_several_is_needed() {
    if !require("npm") || !require("node") || !require("git") || !require("curl") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    world.make_git_repository("hello", &[("README", "hello\n")]);
    let script = format!(
        "{NPM}\n{GIT}\ncurl -sSf http://allowed.example/ >/dev/null\ncurl -sSf https://allowed.example/ >/dev/null"
    );
    let mut recorded = Recorded::new(Place::new(&world, "all"), &script);
    npm_project(&mut recorded);
    let list = recorded.learn(&[]);
    // Both ports of a name are the default of a rule.
    assert_eq!(
        list,
        ["allowed.example", "git.example:443", "registry.example:443"]
    );
    recorded.check(&list);
}

#[test]
fn refusals_are_evidence_and_addresses_get_a_warning() {
    if !require("curl") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "evidence");
    let learn = |flags: &[&str], script: &str| {
        let output = place
            .rcc(["net", "learn"])
            .args(flags)
            .args(["--", "sh", "-c", script])
            .output();
        output.assert_success();
        output.stdout_text()
    };
    let script = "curl -s http://203.0.113.20/ >/dev/null; curl -s -m 5 http://192.168.77.10/ >/dev/null; curl -s http://allowed.example/; curl -s http://lan.example/; getent hosts v4only.example; true";
    let text = learn(&[], script);
    for wanted in [
        "\n  \"203.0.113.20:80\",\n",
        "WARNING: an address without a name",
        "\n  \"allowed.example:80\",\n",
        "#   192.168.77.10:80  (the address is in a private network",
        "#   v4only.example  (",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    let active = |text: &str| {
        text.lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .join("\n")
    };
    assert!(
        !active(&text).contains("192.168") && !active(&text).contains("lan.example"),
        "{text}"
    );

    // In mode allowlist the refused address is marked, and the refused name is listed: it never got as far as a port.
    let text = learn(&["--network", "allowlist"], script);
    assert!(
        text.contains("REFUSED 1 times") && active(&text).contains("203.0.113.20:80"),
        "{text}"
    );
    assert!(
        text.contains("#   allowed.example  (")
            && text.contains("refused, so its ports are not known"),
        "{text}"
    );
}

#[test]
fn a_list_is_made_of_an_earlier_run_and_written_to_a_new_file_only() {
    if !require("curl") {
        return;
    }
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let place = Place::new(&world, "earlier");
    // A log of --audit, in which somebody has written who is not the gateway.
    place
        .sh(
            &["--allow", "allowed.example"],
            "curl -s http://allowed.example/",
        )
        .assert_success();
    let log = std::fs::read_to_string(&place.audit).unwrap();
    let forged = log.replace("allowed.example", "x\\\"\\n*.example.com");
    std::fs::write(&place.audit, format!("{log}{forged}no json\n")).unwrap();
    let from = place.audit.to_str().unwrap();
    let output = place
        .rcc(["net", "learn", "--format", "conf", "--from", from])
        .output();
    let text = output.assert_success().stdout_text();
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules, ["allowed.example:80"], "{output}");
    assert!(
        text.contains("lines could not be understood")
            && output.stderr_text().contains("incomplete"),
        "{output}"
    );

    // The record of a run by its id.
    place
        .rcc([
            "run",
            "--allow",
            "allowed.example",
            "--",
            "curl",
            "-s",
            "http://allowed.example/",
        ])
        .output()
        .assert_success();
    let runs = world.home().join(".local/state/rcc/runs");
    let id = std::fs::read_dir(runs)
        .unwrap()
        .map(|entry| entry.unwrap())
        .find(|entry| {
            std::fs::read(entry.path().join("audit.jsonl")).is_ok_and(|log| !log.is_empty())
        })
        .unwrap()
        .file_name()
        .into_string()
        .unwrap();
    place
        .rcc(["net", "learn", "--from", &id, "-o", "new.toml"])
        .output()
        .assert_success();
    let written = std::fs::read_to_string(place.project.join("new.toml")).unwrap();
    assert!(written.contains("\"allowed.example:80\","), "{written}");

    // Never over something, never through a link, and no run is made up.
    let again = place
        .rcc(["net", "learn", "--from", &id, "-o", "new.toml"])
        .output();
    assert_eq!(again.code(), Some(125), "{again}");
    std::os::unix::fs::symlink(world.home().join("victim"), place.project.join("link.toml"))
        .unwrap();
    let link = place
        .rcc(["net", "learn", "-o", "link.toml", "--", "true"])
        .output();
    assert_eq!(link.code(), Some(125), "{link}");
    std::os::unix::fs::symlink(world.home(), place.project.join("out")).unwrap();
    let through = place
        .rcc(["net", "learn", "-o", "out/victim", "--", "true"])
        .output();
    assert_eq!(through.code(), Some(125), "{through}");
    let late = place
        .rcc([
            "net",
            "learn",
            "-o",
            "late.toml",
            "--",
            "ln",
            "-s",
            world.home().join("victim").to_str().unwrap(),
            "late.toml",
        ])
        .output();
    assert_eq!(late.code(), Some(125), "{late}");
    assert!(!world.home().join("victim").exists());
    let unknown = place
        .rcc(["net", "learn", "--from", "no-such-run"])
        .output();
    assert_eq!(unknown.code(), Some(125), "{unknown}");
}
