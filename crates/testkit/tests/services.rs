//! The services of the world, used by real clients from the host namespace.
#![forbid(unsafe_code)]

use std::sync::OnceLock;

use rcc_testkit::require;
use rcc_testkit::world::World;

fn shared() -> Option<&'static World> {
    static WORLD: OnceLock<Option<World>> = OnceLock::new();
    WORLD.get_or_init(World::start_or_skip).as_ref()
}

#[test]
fn git_clones_and_pushes_over_https_and_ssh() {
    if !require("git") || !require("sshd") || !require("ssh-keygen") {
        return;
    }
    let Some(world) = shared() else { return };
    world.make_git_repository("hello", &[("README", "hello\n"), ("src/a.txt", "a\n")]);
    for (number, url) in [
        "https://git.example/hello.git",
        "ssh://git@git.example/hello.git",
    ]
    .into_iter()
    .enumerate()
    {
        let clone = world.scratch().join(format!("clone-{number}"));
        let git = |arguments: &[&str]| {
            world
                .host_command("git")
                .args(["-c", "user.name=T", "-c", "user.email=t@example.com"])
                .args(arguments)
                .current_dir(if clone.exists() {
                    clone.clone()
                } else {
                    world.scratch()
                })
                .env("GIT_SSL_CAINFO", world.ca_pem_path())
                .env("GIT_SSH_COMMAND", world.ssh_command())
                .output()
        };
        git(&["clone", "--quiet", url, clone.to_str().unwrap()]).assert_success();
        assert_eq!(
            std::fs::read_to_string(clone.join("README")).unwrap(),
            "hello\n"
        );
        git(&[
            "commit",
            "--quiet",
            "--allow-empty",
            "--message",
            "from the host",
        ])
        .assert_success();
        git(&["push", "--quiet", "origin", "HEAD:main"]).assert_success();
        // The next round clones what this one has pushed.
        git(&["fetch", "--quiet"]).assert_success();
    }
    assert!(
        world.seen_by("203.0.113.41:443").connections
            + world.seen_by("[2001:db8::41]:443").connections
            > 0
    );
}

#[test]
fn an_ssh_session_runs_a_command() {
    if !require("sshd") || !require("ssh") {
        return;
    }
    let Some(world) = shared() else { return };
    let command = format!("{} git@git.example 'echo $USER; cat'", world.ssh_command());
    let output = world
        .host_command("sh")
        .args(["-c", &command])
        .stdin_bytes("through ssh\n")
        .output();
    assert_eq!(output.assert_success().stdout_text(), "git\nthrough ssh\n");
}

#[test]
fn cargo_builds_with_a_crate_of_the_registry() {
    // The toolchain may lie in root's home; the first run has tested the registry.
    if rcc_testkit::is_second_run() || !require("cargo") {
        return;
    }
    let Some(world) = shared() else { return };
    let project = world.scratch_directory("cargo-project");
    let config = format!(
        "[source.crates-io]\nreplace-with = \"test\"\n[source.test]\nregistry = \"sparse+https://registry.example/cargo/index/\"\n\
         [http]\ncainfo = \"{}\"\n",
        world.ca_pem_path().display()
    );
    let _ = world.scratch_file("cargo-project/.cargo/config.toml", config);
    let manifest = "[package]\nname = \"p\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ntiny-crate = \"1\"\n[workspace]\n";
    let _ = world.scratch_file("cargo-project/Cargo.toml", manifest);
    let _ = world.scratch_file(
        "cargo-project/src/main.rs",
        "fn main() { println!(\"{}\", tiny_crate::origin()); }\n",
    );
    let real = |tool: &str| {
        let output = std::process::Command::new("rustup")
            .args(["which", tool])
            .output();
        let path = output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| output.stdout);
        path.map_or_else(
            || tool.to_owned(),
            |path| String::from_utf8(path).unwrap().trim().to_owned(),
        )
    };
    let output = world
        .host_command(real("cargo"))
        .args(["run", "--quiet"])
        .current_dir(&project)
        .env("CARGO_HOME", world.home().join("cargo"))
        .env("RUSTC", real("rustc"))
        .timeout(std::time::Duration::from_secs(120))
        .output();
    assert_eq!(output.assert_success().stdout_text(), "test registry\n");
}

#[test]
fn npm_installs_a_package_of_the_registry() {
    if !require("npm") || !require("node") {
        return;
    }
    let Some(world) = shared() else { return };
    let project = world.scratch_directory("npm-project");
    let _ = world.scratch_file(
        "npm-project/package.json",
        "{\"name\":\"p\",\"version\":\"1.0.0\"}",
    );
    let npm = world
        .host_command("npm")
        .args([
            "install",
            "--registry=https://registry.example/npm/",
            "--no-audit",
            "--no-fund",
            "tiny-npm",
        ])
        .arg(format!("--cafile={}", world.ca_pem_path().display()))
        .current_dir(&project)
        .output();
    npm.assert_success();
    let node = world
        .host_command("node")
        .args(["-e", "console.log(require('tiny-npm')())"])
        .current_dir(&project)
        .output();
    assert_eq!(node.assert_success().stdout_text(), "test registry\n");
}

#[test]
fn pip_installs_a_wheel_of_the_registry() {
    let python = "/usr/bin/python3";
    if !require(python) {
        return;
    }
    let Some(world) = shared() else { return };
    let environment = world.scratch().join("venv");
    world
        .host_command(python)
        .args(["-m", "venv"])
        .arg(&environment)
        .output()
        .assert_success();
    let pip = world
        .host_command(environment.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--index-url=https://registry.example/pypi/simple/",
            "tiny-py",
        ])
        .arg(format!("--cert={}", world.ca_pem_path().display()))
        .output();
    pip.assert_success();
    let output = world
        .host_command(environment.join("bin/python"))
        .args(["-c", "import tiny_py; print(tiny_py.ORIGIN)"])
        .output();
    assert_eq!(output.assert_success().stdout_text(), "test registry\n");
}

#[test]
fn the_messages_api_streams_what_the_prompt_asks_for() {
    let Some(world) = World::start_or_skip() else {
        return;
    };
    let request = serde_json::json!({
        "model": "m", "stream": true, "max_tokens": 10,
        "tools": [{ "name": "Bash" }],
        "messages": [{ "role": "user", "content": "RUN: echo hi" }],
    });
    let call = |body: &serde_json::Value, with_key: bool| {
        let mut command = world
            .host_command("curl")
            .args(["-sS", "--cacert"])
            .arg(world.ca_pem_path());
        if with_key {
            command = command.args(["-H", "x-api-key: dummy"]);
        }
        command
            .args([
                "-d",
                &body.to_string(),
                "https://api.agent.example/v1/messages",
            ])
            .output()
    };
    let first = call(&request, true);
    let text = first.assert_success().stdout_text();
    for part in [
        "event: message_start",
        "\"tool_use\"",
        "input_json_delta",
        "\"stop_reason\":\"tool_use\"",
        "event: message_stop",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let mut second = request.clone();
    second["stream"] = false.into();
    let conversation = second["messages"].as_array_mut().unwrap();
    conversation.push(serde_json::json!({ "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "Bash", "input": {} }] }));
    conversation.push(serde_json::json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t", "content": "hi\n" }] }));
    assert_eq!(
        call(&second, true).json()["content"][0]["text"],
        "FINAL[hi]"
    );
    assert_eq!(
        call(&second, false).json()["error"]["type"],
        "authentication_error"
    );
    let recorded = world.messages_requests();
    assert_eq!(recorded.len(), 3);
    assert_eq!(
        recorded[1]["body"]["messages"][2]["content"][0]["content"],
        "hi\n"
    );
}

#[test]
fn all_of_this_works_for_an_ordinary_user_too() {
    rcc_testkit::run_again_as_ordinary_user(&[]);
}
