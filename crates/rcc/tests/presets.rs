//! Presets of package managers with made-up homes and tools: what becomes a rule, what does not, and what approval sees.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what is not as expected must fail the test"
)]

mod support;
mod world;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Output;

use world::World;

/// Standard output of a call that must work, and standard error.
#[track_caller]
fn output(world: &World, arguments: &[&str]) -> (String, String) {
    let output = world.rcc(arguments).output().unwrap();
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{arguments:?}\n{stdout}{stderr}");
    (stdout, stderr)
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// Whether a connection would be allowed.
fn allowed(world: &World, flags: &[&str], what: &str) -> bool {
    let arguments = [flags, &["plan", "--why", what]].concat();
    let output = world.rcc(&arguments).output().unwrap();
    match output.status.code() {
        Some(0) => true,
        Some(1) => false,
        _ => panic!("{:?}", texts(&output)),
    }
}

/// A tool of the host that answers with this text and notes each call, with its directory and its variables.
fn tool(world: &World, name: &str, answer: &str) -> PathBuf {
    let calls = world.home().join(format!("tools/{name}.calls"));
    let path = world.file(
        format!("tools/{name}"),
        format!(
            "#!/bin/sh\n{{ echo \"$0 $*\"; pwd; env; }} >> '{}'\nprintf '%s\\n' '{answer}'\n",
            calls.display()
        ),
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    calls
}

fn with_tools(world: &World, arguments: &[&str]) -> Output {
    let path = format!("{}/tools:/usr/bin:/bin", world.home().display());
    world
        .rcc(arguments)
        .env("PATH", path)
        .env("SECRET_TOKEN", "hunter2")
        .output()
        .unwrap()
}

#[test]
fn a_preset_is_what_the_users_own_file_names_and_nothing_of_a_secret_is_shown() {
    let world = World::new();
    world.file(
        ".npmrc",
        "registry=https://me:hunter2@npm.example.com:8443/x\n//npm.example.com/:_authToken=hunter2\n",
    );
    let (plan, said) = output(&world, &["--preset", "npm", "plan"]);
    assert!(
        plan.contains("npm.example.com:8443 (preset npm (~/.npmrc:1))"),
        "{plan}"
    );
    let (json, more) = output(&world, &["--preset", "npm", "plan", "--json"]);
    for text in [&plan, &said, &json, &more] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    // A preset alone means an allowlist, and the port is exact.
    assert!(allowed(
        &world,
        &["--preset", "npm"],
        "npm.example.com:8443"
    ));
    assert!(!allowed(
        &world,
        &["--preset", "npm"],
        "npm.example.com:443"
    ));
    assert!(!allowed(&world, &["--preset", "npm"], "example.com:443"));
    // A mode that is stated stays.
    assert!(allowed(
        &world,
        &["--preset", "npm", "--network", "internet"],
        "example.com:443"
    ));
    assert!(!allowed(
        &world,
        &["--preset", "npm", "-n"],
        "npm.example.com:8443"
    ));
}

#[test]
fn a_file_of_the_project_widens_nothing_and_is_hinted_at() {
    let world = World::new();
    world.file(".npmrc", "registry=https://npm.example.com\n");
    world.file("project/.npmrc", "registry=https://u:hunter2@evil.example.net/${HOME}\n@a:registry=https://npm.example.com/a\n");
    let (plan, said) = output(&world, &["--preset", "npm", "plan"]);
    assert!(
        !plan.contains("evil") && !allowed(&world, &["--preset", "npm"], "evil.example.net:443"),
        "{plan}"
    );
    assert!(
        said.contains("allow = [\"evil.example.net:443\"]"),
        "{said}"
    );
    assert!(
        !said.contains("hunter2") && !said.contains("npm.example.com"),
        "{said}"
    );
    // The control: in the user's file the same line counts.
    world.file(".npmrc", "registry=https://evil.example.net/\n");
    assert!(allowed(
        &world,
        &["--preset", "npm"],
        "evil.example.net:443"
    ));
}

#[test]
fn a_configuration_below_a_granted_path_does_not_count() {
    let world = World::new();
    world.file("dotfiles/npmrc", "registry=https://npm.example.com\n");
    std::os::unix::fs::symlink(
        world.home().join("dotfiles/npmrc"),
        world.home().join(".npmrc"),
    )
    .unwrap();
    assert!(allowed(&world, &["--preset", "npm"], "npm.example.com:443"));
    let dotfiles = world.home().join("dotfiles");
    let flags = ["--preset", "npm", "--rw", dotfiles.to_str().unwrap()];
    assert!(!allowed(&world, &flags, "npm.example.com:443"));
    let (_, said) = output(&world, &[&flags[..], &["plan"]].concat());
    assert!(said.contains("preset npm: ~/.npmrc is not used"), "{said}");
    // Nor does one in an agent home, which the agents of other runs have written to.
    let planted = world.file(
        ".local/share/rcc/homes/default/.npmrc",
        "registry=https://evil.example.net\n",
    );
    let output = world
        .rcc(["--preset", "npm", "plan", "--why", "evil.example.net:443"])
        .env("NPM_CONFIG_USERCONFIG", planted)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{:?}", texts(&output));
}

#[test]
fn a_tool_is_asked_away_from_the_project_and_its_answer_is_kept() {
    let world = World::new();
    let calls = tool(&world, "npm", "https://npm.example.com/");
    // What is on PATH in the project is never run.
    let planted = world.file(
        "project/bin/npm",
        "#!/bin/sh\necho https://evil.example.net/\n",
    );
    std::fs::set_permissions(&planted, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}/tools:/usr/bin:/bin",
        planted.parent().unwrap().display(),
        world.home().display()
    );
    let run = || {
        let output = world
            .rcc(["--preset", "npm", "plan"])
            .env("PATH", &path)
            .env("SECRET_TOKEN", "hunter2")
            .output()
            .unwrap();
        let (plan, said) = texts(&output);
        assert!(
            plan.contains("npm.example.com:443 (preset npm (default of "),
            "{plan}{said}"
        );
    };
    run();
    let first = std::fs::read_to_string(&calls).unwrap();
    assert!(
        first.lines().any(|line| line == "/")
            && !first.contains("hunter2")
            && !first.contains("project"),
        "{first}"
    );
    run();
    assert_eq!(
        std::fs::read_to_string(&calls).unwrap(),
        first,
        "the answer is kept"
    );
    // Another program under that name is asked again.
    std::fs::remove_file(&calls).unwrap();
    tool(&world, "npm", "https://npm.example.com/another/place");
    run();
    assert!(calls.exists());
    // A configuration needs no answer.
    std::fs::remove_file(&calls).unwrap();
    tool(&world, "npm", "https://other.example.com/");
    world.file(".npmrc", "registry=https://npm.example.org\n");
    assert!(
        with_tools(&world, &["--preset", "npm", "plan"])
            .status
            .success()
    );
    assert!(!calls.exists());
}

#[test]
fn what_a_tool_answers_is_parsed_and_not_believed() {
    for answer in [
        "https://evil.example.net\\\\@npm.example.com/",
        "file:///srv",
        "http://169.254.169.254/",
        "no url",
        "",
    ] {
        let world = World::new();
        tool(&world, "npm", answer);
        let (plan, said) = texts(&with_tools(&world, &["--preset", "npm", "plan"]));
        assert!(
            plan.contains("  allow      nothing") || !plan.contains("preset npm (default"),
            "{answer}\n{plan}"
        );
        assert!(
            said.contains("preset npm: no configuration of npm on this host names a host"),
            "{answer}\n{said}"
        );
    }
}

#[test]
fn the_defaults_of_go_fill_what_is_not_configured() {
    let world = World::new();
    tool(
        &world,
        "go",
        "https://proxy.example.com,direct\nsum.example.com",
    );
    world.file(".config/go/env", "GOPROXY=https://go.example.com\n");
    let (plan, _) = texts(&with_tools(&world, &["--preset", "go", "plan"]));
    assert!(
        plan.contains("go.example.com:443 (preset go (~/.config/go/env:1))"),
        "{plan}"
    );
    assert!(
        plan.contains("sum.example.com:443 (preset go (default of "),
        "{plan}"
    );
    assert!(!plan.contains("proxy.example.com"), "{plan}");
}

#[test]
fn cargo_is_its_index_and_the_archives_of_that_index() {
    let world = World::new();
    world.file(".cargo/config.toml", "[source.crates-io]\nreplace-with = \"m\"\n[source.m]\nregistry = \"sparse+https://index.example.com/\"\n");
    world.file(
        ".cargo/registry/index/index.example.com-0123456789abcdef/config.json",
        "{\"dl\": \"https://static.example.com/c\"}",
    );
    world.file(
        ".cargo/registry/index/evil.example.net-0123456789abcdef/config.json",
        "{\"dl\": \"https://evil.example.net/c\"}",
    );
    let flags = ["--preset", "cargo"];
    assert!(
        allowed(&world, &flags, "index.example.com:443")
            && allowed(&world, &flags, "static.example.com:443")
    );
    assert!(!allowed(&world, &flags, "evil.example.net:443"));
}

#[test]
fn approval_is_by_what_a_preset_derives_to() {
    let world = World::new();
    world.file(".npmrc", "registry=https://npm.example.com\n");
    let check = |ok: bool| {
        let output = world.rcc(["run", "--", "true"]).output().unwrap();
        let (_, said) = texts(&output);
        let refused =
            said.contains("allows more than what was approved") || said.contains("is not approved");
        assert_eq!(refused, !ok, "{said}");
        said
    };
    world.policy("version = 1\n[network]\nallow = [\"a.example.com\"]\n");
    output(&world, &["trust", "--yes"]);
    check(true);
    // A preset is a widening like the rules it stands for, and the refusal names them.
    world.policy("version = 1\n[network]\nallow = [\"a.example.com\"]\npresets = [\"npm\"]\n");
    let said = check(false);
    assert!(said.contains("reach npm.example.com on port 443"), "{said}");
    let (_, said) = output(&world, &["trust", "--yes"]);
    assert!(
        said.contains("+ reach npm.example.com on port 443") && said.contains("preset `npm`"),
        "{said}"
    );
    check(true);
    // The user's own change of the user's own file is no change of the project's policy.
    world.file(".npmrc", "registry=https://npm.example.org\n");
    check(true);
    assert!(
        allowed(&world, &[], "npm.example.org:443") && !allowed(&world, &[], "npm.example.com:443")
    );
    // Another preset is one again; one less is none.
    world.file(
        ".config/pip/pip.conf",
        "[global]\nindex-url = https://pypi.example.com\n",
    );
    world.policy("version = 1\n[network]\npresets = [\"npm\", \"pip\"]\n");
    assert!(check(false).contains("reach pypi.example.com"));
    world.policy("version = 1\n[network]\npresets = []\n");
    check(true);
}

#[test]
fn a_preset_that_is_covered_now_and_not_later_is_asked_for_later() {
    let world = World::new();
    world.file(".npmrc", "registry=https://npm.example.com\n");
    world.policy("version = 1\n[network]\nallow = [\"npm.example.com\"]\n");
    output(&world, &["trust", "--yes"]);
    let text = "version = 1\n[network]\nallow = [\"npm.example.com\"]\npresets = [\"npm\"]\n";
    world.policy(text);
    let said = texts(&world.rcc(["run", "--", "true"]).output().unwrap()).1;
    assert!(!said.contains("approved"), "{said}");
    world.file(".npmrc", "registry=https://npm.example.org\n");
    let said = texts(&world.rcc(["run", "--", "true"]).output().unwrap()).1;
    assert!(
        said.contains("allows more than what was approved"),
        "{said}"
    );
}

#[test]
fn unknown_presets_are_errors_with_the_nearest_word() {
    let world = World::new();
    world.policy("version = 1\n[network]\npresets = [\"nmp\"]\n");
    let output = world.rcc(["plan"]).output().unwrap();
    let (_, said) = texts(&output);
    assert!(
        output.status.code() == Some(125) && said.contains("did you mean `npm`?"),
        "{said}"
    );
}

#[test]
fn init_proposes_presets_and_shows_hosts_that_none_covers() {
    let world = World::new();
    world.file(".npmrc", "registry=https://npm.example.com\n");
    world.file("project/package-lock.json", "{\"a\": {\"resolved\": \"https://npm.example.com/a.tgz\", \"x\": {\"resolved\": \"https://u:hunter2@evil.example.net:8443/b\"}, \"y\": {\"resolved\": \"https://x\\\"]\\nmode=1.example/\"}}}\n");
    world.file("project/.git/config", "[remote \"origin\"]\n\turl = git@git.example.com:a/b\n[remote \"x\\\"]\"]\n\turl = https://\u{1b}[2Jevil/\n");
    world.file("project/Cargo.toml", "");
    std::os::unix::fs::symlink("/etc/passwd", world.project().join("yarn.lock")).unwrap();
    output(
        &world,
        &[
            "init",
            "--yes",
            "--network",
            "allowlist",
            "--agent",
            "claude",
        ],
    );
    let text = std::fs::read_to_string(world.project().join("rcc.toml")).unwrap();
    assert!(
        text.lines()
            .any(|line| line.starts_with("presets = [") && line.contains("\"npm\"")),
        "{text}"
    );
    assert!(
        text.contains("#   \"evil.example.net:8443\"     (package-lock.json:1)"),
        "{text}"
    );
    assert!(
        text.contains("#   \"git.example.com:22\"     (.git/config:2)"),
        "{text}"
    );
    assert!(
        !text.contains("hunter2") && !text.contains('\u{1b}'),
        "{text}"
    );
    let suggestions = text
        .lines()
        .filter(|line| line.starts_with("#   \""))
        .count();
    assert_eq!(suggestions, 2, "{text}");
    // What was written is approved and allows what the user's own file names, nothing that the repository does.
    assert!(allowed(&world, &[], "npm.example.com:443"));
    assert!(
        !allowed(&world, &[], "evil.example.net:8443")
            && !allowed(&world, &[], "git.example.com:22")
    );
}

#[test]
fn npm_installs_with_the_preset_of_the_users_own_npmrc_and_not_with_the_projects() {
    use rcc_testkit::require;
    if !require("npm") || !require("node") {
        return;
    }
    let Some(network) = rcc_testkit::world::World::start_or_skip() else {
        return;
    };
    let place = support::Place::new(&network, "preset");
    let pem = std::fs::read(network.ca_pem_path()).unwrap();
    let ca = place.file("ca.pem", pem);
    place.file(
        "package.json",
        r#"{ "name": "p", "version": "1.0.0", "dependencies": { "tiny-npm": "1" } }"#,
    );
    // Read by npm inside, and by nobody outside.
    place.file(".npmrc", "registry=https://registry.example/npm/\n");
    let cafile = format!("npm_config_cafile={}", ca.display());
    let install = || {
        place
            .run(&[
                "--preset",
                "npm",
                "--env",
                &cafile,
                "--env",
                "npm_config_fetch_retries=0",
                "--env",
                "npm_config_update_notifier=false",
            ])
            .args(["npm", "install", "--no-audit", "--no-fund"])
            .timeout(std::time::Duration::from_secs(120))
            .output()
    };
    let npmrc = network.home().join(".npmrc");
    std::fs::write(&npmrc, "registry=https://v4only.example/\n").unwrap();
    network.give_to_user(&network.home());
    let refused = install();
    assert!(
        refused.code().is_some_and(|code| code != 0 && code != 125),
        "{refused}"
    );
    assert!(
        refused
            .stderr_text()
            .contains("rcc: refused registry.example"),
        "{refused}"
    );
    std::fs::write(&npmrc, "registry=https://registry.example/npm/\n").unwrap();
    network.give_to_user(&network.home());
    install().assert_success();
    assert!(place.project.join("node_modules/tiny-npm").exists());
    assert!(place.events().iter().any(|event| {
        event["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("(preset npm (~/.npmrc:1))"))
    }));
}
