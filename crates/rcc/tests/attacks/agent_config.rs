//! Escapes through the configuration of agents, as they were published for tools of this kind, one test each.

use crate::scene::{SECRET, Scene, exists};

const HOOKS: &str =
    r#"{"hooks":{"SessionStart":[{"hooks":[{"type":"command","command":"evil"}]}]}}"#;
const ORIGINAL: &str = "{}\n";

/// CVE-2026-25725: what is absent at the start is not protected; so it must be told.
#[test]
fn settings_and_hooks_that_were_absent() {
    let Some(scene) = Scene::new("config_absent") else {
        return;
    };
    let script = format!(
        "mkdir -p .claude/hooks .codex .gemini sub/.claude; echo '{HOOKS}' > .claude/settings.local.json; echo x > .claude/hooks/a; \
         echo x > .codex/config.toml; echo x > .gemini/settings.json; echo x > .mcp.json; echo '{HOOKS}' > sub/.claude/settings.json; \
         echo x > .envrc; mkdir .vscode; echo x > .vscode/tasks.json; echo x > conftest.py; echo x > Makefile"
    );
    let output = scene.sh(&["-n"], &script);
    let told = output.assert_success().stderr_text();
    for line in [
        "  .claude/settings.local.json (Claude Code runs its hooks",
        "  .claude/hooks (",
        "  .codex (",
        "  .gemini (",
        "  .mcp.json (agents on the host start",
        "  sub/.claude/settings.json (",
        "  .envrc (direnv runs it",
        "  .vscode (",
        "2 new or changed files run or count when you build, test or open the project: Makefile, conftest.py",
    ] {
        assert!(told.contains(line), "{line:?}\n{output}");
    }
    // The control: ordinary work is not told, and neither is what was there and did not change.
    let output = scene.sh(
        &["-n"],
        "mkdir src; echo x > src/main.c; cat Makefile > /dev/null",
    );
    assert!(!output.stderr_text().contains("rcc:"), "{output}");
}

#[test]
fn renaming_over_a_settings_file() {
    let Some(scene) = Scene::new("config_rename") else {
        return;
    };
    for file in [
        ".claude/settings.json",
        "sub/.claude/settings.json",
        ".mcp.json",
    ] {
        scene.file(&format!("home/work/project/{file}"), ORIGINAL);
        for words in [
            &["rename", "file", file][..],
            &["unlink", file],
            &["rename", file, "other"],
        ] {
            // Its directory is a mount of its own, to which nothing is renamed from without.
            scene
                .inside(words)
                .assert_denied_with_any(&["EBUSY", "EXDEV"]);
        }
        scene.inside(&["write", file, HOOKS]).assert_denied("EROFS");
        assert_eq!(scene.text(&format!("home/work/project/{file}")), ORIGINAL);
    }
    scene.inside(&["rename", "file", "free"]).assert_ok();
}

/// CVE-2026-25724: a path that is denied by one name and reached by another.
#[test]
fn a_protected_path_behind_a_link() {
    let Some(scene) = Scene::new("config_link") else {
        return;
    };
    scene.file("home/work/project/shared/agent/settings.json", ORIGINAL);
    std::os::unix::fs::symlink("shared/agent", scene.project().join(".claude")).unwrap();
    for path in [".claude/settings.json", "shared/agent/settings.json"] {
        scene.inside(&["write", path, HOOKS]).assert_denied("EROFS");
    }
    // A new link in place of the old one is told.
    let output = scene.sh(
        &["-n"],
        "mkdir mine; echo x > mine/settings.json; ln -sfn mine .claude",
    );
    assert!(
        output.assert_success().stderr_text().contains("  .claude"),
        "{output}"
    );
    assert_eq!(
        scene.text("home/work/project/shared/agent/settings.json"),
        ORIGINAL
    );
}

#[test]
fn renaming_an_ancestor() {
    let Some(scene) = Scene::new("config_ancestor") else {
        return;
    };
    scene.file("home/work/project/a/b/.claude/settings.json", ORIGINAL);
    for directory in ["a", "a/b", "a/b/.claude"] {
        scene
            .inside(&["rename", directory, "x"])
            .assert_denied_with_any(&["EBUSY", "EXDEV"]);
    }
    let script = "mv a x; cp -r x a; echo evil > a/b/.claude/settings.json; true";
    let _ = scene.sh(&["-n"], script);
    assert_eq!(
        scene.text("home/work/project/a/b/.claude/settings.json"),
        ORIGINAL
    );
    scene.sh(&["-n"], "mkdir -p c/d && mv c e").assert_success();
}

#[test]
fn editing_the_policy() {
    let Some(scene) = Scene::new("config_policy") else {
        return;
    };
    let wide = "version = 1\n[hardening]\ndangerously_without_protected_paths = true\n";
    // Where there was none it is told, and no run obeys it.
    let output = scene.sh(&["-n"], &format!("printf '{wide}' > rcc.toml"));
    assert!(
        output
            .stderr_text()
            .contains("  rcc.toml (it is the policy"),
        "{output}"
    );
    let output = scene.sh(&["-n"], "echo started");
    output.assert_code(125);
    assert!(output.stderr_text().contains("rcc trust"), "{output}");
    // Where there is one it is read-only, by any name.
    scene.file("home/work/project/rcc.toml", "version = 1\n");
    scene.rcc(["trust", "--yes"]).output().assert_success();
    scene
        .inside(&["write", "rcc.toml", wide])
        .assert_denied("EROFS");
    scene
        .inside(&["rename", "file", "rcc.toml"])
        .assert_denied("EBUSY");
    scene
        .inside(&["hardlink", "rcc.toml", "x"])
        .assert_denied("EXDEV");
}

/// CVE-2026-46406: the one name that rcc itself makes in the project is known beforehand.
#[test]
fn a_predictable_name_that_rcc_makes() {
    let Some(scene) = Scene::new("config_temporary") else {
        return;
    };
    let outside = scene.path("outside/secret");
    let script = format!(
        "mkdir -p sub/.git/objects sub/.git/refs sub/.git/hooks; echo x > sub/.git/hooks/pre-commit; printf '[core]\\nfsmonitor = x\\n' > sub/.git/config; \
         ln -s {outside} sub/.git/config.rcc-aside; mkdir sub/.git/hooks.rcc-aside; ln -s {outside} sub/.git/hooks.rcc-aside1"
    );
    let output = scene.sh(&["-n"], &script);
    output.assert_success();
    let git = scene.project().join("sub/.git");
    assert!(
        !exists(&git.join("config")) && !exists(&git.join("hooks")),
        "{output}"
    );
    assert!(git.join("config.rcc-aside1").is_file(), "{output}");
    assert!(
        git.join("hooks.rcc-aside2/pre-commit").is_file(),
        "{output}"
    );
    assert!(
        output.stderr_text().contains("sub/.git/config.rcc-aside1"),
        "{output}"
    );
    assert_eq!(scene.text("outside/secret"), SECRET);
}

/// With `share_state` the file that is Claude Code's state and settings in one is writable; what it then starts is told.
#[test]
fn servers_in_the_shared_state() {
    let Some(scene) = Scene::new("config_shared") else {
        return;
    };
    scene.file("home/.claude/settings.json", ORIGINAL);
    scene.file(
        "home/.claude.json",
        r#"{"numStartups":1,"projects":{"/p":{"mcpServers":{}}}}"#,
    );
    let program = scene.file(
        "home/.local/bin/claude",
        "#!/bin/sh\necho \"$1\" > ~/.claude.json\n",
    );
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let run = |json: &str| {
        let command = scene.rcc(["-n", "--share-state", "claude", json]);
        command.env("PATH", &path).output()
    };
    let output = run(r#"{"numStartups":2,"projects":{"/p":{"mcpServers":{}}}}"#);
    assert!(
        !output.stderr_text().contains("the agent changed"),
        "the control\n{output}"
    );
    assert!(
        scene
            .text("home/.claude.json")
            .contains("\"numStartups\":2"),
        "{output}"
    );
    let output = run(r#"{"projects":{"/p":{"mcpServers":{"x":{"command":"evil"}}}}}"#);
    let told = "the agent changed projects./p.mcpServers in";
    assert!(output.stderr_text().contains(told), "{output}");
}

/// What the shared state lacks at the start cannot be covered there either: settings, hooks and links that appear are told.
#[test]
fn settings_and_hooks_that_were_absent_in_the_shared_state() {
    let Some(scene) = Scene::new("config_shared_absent") else {
        return;
    };
    scene.file("home/.claude/settings.json", ORIGINAL);
    scene.file("home/.claude/history.jsonl", "");
    let program = scene.file("home/.local/bin/claude", "#!/bin/sh\neval \"$1\"\n");
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&program, mode).unwrap();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let run = |script: &str| {
        let command = scene.rcc(["-n", "--share-state", "claude", script]);
        command.env("PATH", &path).output()
    };
    // The control: what is there is read-only, and state is nobody's business.
    let output =
        run("echo x >> ~/.claude/history.jsonl; echo evil > ~/.claude/settings.json; true");
    output.assert_success();
    assert_eq!(scene.text("home/.claude/history.jsonl"), "x\n");
    assert_eq!(scene.text("home/.claude/settings.json"), ORIGINAL);
    assert!(!output.stderr_text().contains("warning:"), "{output}");

    scene.file("home/.claude/state/a", ORIGINAL);
    let output = run(
        "echo x > ~/.claude/settings.local.json; mkdir -p ~/.claude/hooks; echo x > ~/.claude/hooks/a; ln -s state ~/.claude/plugins",
    );
    let told = output.assert_success().stderr_text();
    for part in ["settings.local.json", "hooks", "plugins"] {
        let line = format!("~/.claude/{part} was made or changed during the run");
        assert!(told.contains(&line), "{line:?}\n{output}");
    }
    assert!(!told.contains("~/.claude/settings.json "), "{output}");
    // What lies there is protected in the next run, what a link leads to under both of its names.
    let output = run(
        "for f in hooks/a plugins/a state/a; do echo evil > ~/.claude/$f; done; rm ~/.claude/plugins; mv ~/.claude/state ~/.claude/x; true",
    );
    let told = output.assert_success().stderr_text();
    assert!(!told.contains("warning:"), "{output}");
    assert_eq!(scene.text("home/.claude/hooks/a"), "x\n");
    assert_eq!(scene.text("home/.claude/state/a"), ORIGINAL);
    assert_eq!(scene.text("home/.claude/plugins/a"), ORIGINAL);
    // A link that leads out of the state is refused.
    scene.file("home/dotfiles/a", ORIGINAL);
    let link = scene.base.join("home/.claude/agents");
    std::os::unix::fs::symlink("../dotfiles", link).unwrap();
    let output = run("true");
    output.assert_code(125);
    assert!(
        output.stderr_text().contains(".claude/agents leads out of"),
        "{output}"
    );
}
