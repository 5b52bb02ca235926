//! Changing what the host executes or obeys later: git's hooks and configuration, editor tasks, agent settings, rcc's
//! own policy.

use crate::scene::{RCC, Scene, exists};

/// Protected files that the scene's project gets, beside its `.git`.
const FILES: [&str; 8] = [
    ".envrc",
    ".vscode/tasks.json",
    ".idea/workspace.xml",
    ".mcp.json",
    ".claude/settings.json",
    ".claude/hooks/check.sh",
    ".devcontainer/devcontainer.json",
    ".husky/pre-commit",
];

const ORIGINAL: &str = "the owner's\n";

const WITHOUT: &str = "version = 1\n[hardening]\ndangerously_without_protected_paths = true\n";

fn scene(name: &str) -> Option<Scene> {
    let scene = Scene::new(name)?;
    for file in FILES {
        scene.file(&format!("home/work/project/{file}"), ORIGINAL);
    }
    Some(scene)
}

/// Every path that must be what it was, with its text.
fn snapshot(scene: &Scene) -> Vec<(String, String)> {
    let git = [".git/config", ".git/hooks/pre-commit.sample"];
    FILES
        .iter()
        .chain(&git)
        .map(|file| {
            (
                (*file).to_owned(),
                scene.text(&format!("home/work/project/{file}")),
            )
        })
        .collect()
}

#[test]
fn contents_by_every_call() {
    let Some(scene) = scene("protected_contents") else {
        return;
    };
    let before = snapshot(&scene);
    for file in FILES
        .into_iter()
        .chain([".git/config", ".git/hooks/pre-commit.sample"])
    {
        let at = format!("str:{file}");
        let lines = [
            vec!["write", file, "evil"],
            vec!["append", file, "evil"],
            vec!["chmod", file, "777"],
            vec!["setxattr", file, "user.x", "y"],
            vec!["syscall", "truncate", &at, "0"],
            vec!["syscall", "utimensat", "-100", &at, "null", "0"],
        ];
        for record in scene.inside_all(&["-n"], &lines) {
            record.assert_denied("EROFS");
        }
        let whole = scene.path(&format!("home/work/project/{file}"));
        scene
            .inside(&["write-by-symlink", &whole, "evil"])
            .assert_denied("EROFS");
    }
    assert_eq!(snapshot(&scene), before);
    // The control: the same calls on a file that is not protected.
    for words in [
        &["write", "file", "x"][..],
        &["append", "file", "x"],
        &["chmod", "file", "777"],
        &["setxattr", "file", "user.x", "y"],
        &["syscall", "truncate", "str:file", "0"],
        &["syscall", "utimensat", "-100", "str:file", "null", "0"],
    ] {
        scene.inside(words).assert_ok();
    }
}

#[test]
fn names_by_rename_unlink_exchange_and_hard_link() {
    let Some(scene) = scene("protected_names") else {
        return;
    };
    let before = snapshot(&scene);
    scene.file("home/work/project/evil", "evil");
    // The whole file or directory that is protected is a mount point: it cannot be moved, removed or replaced.
    for name in [
        ".envrc",
        ".vscode",
        ".idea",
        ".mcp.json",
        ".devcontainer",
        ".husky",
        ".git/config",
        ".git/hooks",
    ] {
        let at = format!("str:{name}");
        let lines = [
            vec!["rename", name, "moved"],
            vec!["rename", "evil", name],
            vec!["syscall", "renameat2", "-100", "str:evil", "-100", &at, "2"],
            vec!["syscall", "unlinkat", "-100", &at, "0"],
            vec!["syscall", "unlinkat", "-100", &at, "0x200"],
        ];
        for (words, record) in lines.iter().zip(scene.inside_all(&["-n"], &lines)) {
            // A file cannot take a directory's place, nor be removed as one, whatever is mounted there.
            let errnos = ["EBUSY", "EXDEV", "EISDIR", "ENOTDIR"];
            assert!(
                !record.ok && errnos.contains(&record.errno.as_deref().unwrap_or("")),
                "{words:?}: {record:?}"
            );
        }
        if scene.project().join(name).is_file() {
            scene
                .inside(&["hardlink", name, "alias"])
                .assert_denied("EXDEV");
        }
    }
    assert_eq!(snapshot(&scene), before);
    for words in [
        &["hardlink", "file", "alias"][..],
        &[
            "syscall",
            "renameat2",
            "-100",
            "str:alias",
            "-100",
            "str:evil",
            "2",
        ],
        &["rename", "evil", "moved"],
        &["unlink", "moved"],
    ] {
        scene.inside(words).assert_ok();
    }
}

/// Read-only leaves alone were undone by `mv .git x; cp -r x .git`.
#[test]
fn the_directories_above_them() {
    let Some(scene) = scene("protected_ancestors") else {
        return;
    };
    let before = snapshot(&scene);
    for directory in [".git", ".claude"] {
        let script =
            format!("mv {directory} x && cp -r x {directory} && echo evil > {directory}/config");
        assert_ne!(scene.sh(&["-n"], &script).code(), Some(0));
        scene
            .inside(&["rename", directory, "x"])
            .assert_denied("EBUSY");
        let at = format!("str:{directory}");
        scene.inside(&["mkdir", "other"]).assert_ok();
        scene
            .inside(&[
                "syscall",
                "renameat2",
                "-100",
                "str:other",
                "-100",
                &at,
                "2",
            ])
            .assert_denied("EBUSY");
        scene.inside(&["rmdir", "other"]).assert_ok();
    }
    assert_eq!(snapshot(&scene), before);
    // The control: git's own work in it is possible, and so is moving a directory that holds nothing protected.
    scene
        .sh(
            &["-n"],
            "echo 0123 > .git/refs/heads/work && mkdir src && mv src source",
        )
        .assert_success();
}

#[test]
fn the_policy_of_the_sandbox_itself() {
    let Some(scene) = scene("protected_policy") else {
        return;
    };
    let policy = "version = 1\n[network]\nmode = \"none\"\n";
    scene.file("home/work/project/rcc.toml", policy);
    scene.rcc(["trust", "--yes"]).output().assert_success();
    let lines = [
        (vec!["write", "rcc.toml", "version = 1"], "EROFS"),
        (vec!["append", "rcc.toml", "\n"], "EROFS"),
        (vec!["unlink", "rcc.toml"], "EBUSY"),
        (vec!["rename", "rcc.toml", "x"], "EBUSY"),
        (vec!["rename", "file", "rcc.toml"], "EBUSY"),
        (vec!["hardlink", "rcc.toml", "x"], "EXDEV"),
        (vec!["chmod", "rcc.toml", "666"], "EROFS"),
    ];
    for (words, errno) in lines {
        scene.inside(&words).assert_denied(errno);
    }
    assert_eq!(scene.text("home/work/project/rcc.toml"), policy);
    // The stores that decide are not there at all.
    for path in [
        "home/.config/rcc",
        "home/.local/state/rcc/trust",
        "home/.local/share/rcc",
    ] {
        assert!(
            path.contains("config") || exists(&scene.base.join(path)),
            "the control: {path} is on the host"
        );
        scene
            .inside(&["stat", &scene.path(path)])
            .assert_denied("ENOENT");
    }
    scene.inside(&["stat", "/etc/rcc"]).assert_denied("ENOENT");
}

/// From inside nothing can be asked to be weaker; rcc started inside has no more than any other program.
#[test]
fn by_starting_rcc_again_inside() {
    let Some(scene) = scene("protected_nested") else {
        return;
    };
    let inside = |words: &[&str]| {
        scene
            .rcc(["run", "-n", "--ro", RCC, "--"])
            .args(words)
            .output()
    };
    inside(&[RCC, "run", "-n", "--rw", "/", "--", "true"]).assert_code(125);
    // A sandbox in the sandbox needs namespaces, which are refused.
    inside(&[RCC, "run", "-n", "--", "true"]).assert_code(125);
    // As pid 1's program it has nobody who would send it a plan.
    inside(&["bash", "-c", "exec -a rcc-init \"$0\"", RCC]).assert_code(125);
    inside(&[RCC, "--version"]).assert_success();
}

/// What the agent plants, real git on the host must not run.
#[test]
fn git_on_the_host_runs_nothing_that_was_planted() {
    if !rcc_testkit::require("git") {
        return;
    }
    let Some(scene) = scene("protected_git") else {
        return;
    };
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.com"];
        scene.command("git").args(identity).args(arguments).output()
    };
    std::fs::remove_dir_all(scene.project().join(".git")).unwrap();
    git(&["init", "--quiet", "."]).assert_success();
    git(&["add", "file"]).assert_success();
    git(&["commit", "--quiet", "--message", "first"]).assert_success();
    let marker = scene.path("marker");
    let evil = scene.file(
        "home/work/project/evil.sh",
        format!("#!/bin/sh\necho ran >> {marker}\n"),
    );
    std::fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let evil = evil.to_str().unwrap();

    let plant = format!(
        r#"
        exec 2>/dev/null
        for key in core.fsmonitor core.hooksPath core.sshCommand core.pager diff.external filter.x.clean filter.x.smudge \
            alias.st credential.helper core.editor gpg.program; do
            git config "$key" {evil} && echo "set $key"
            git config --worktree "$key" {evil} && echo "set $key in the worktree"
        done
        git config include.path {evil}.conf && echo "set include.path"
        for hook in pre-commit post-checkout post-index-change reference-transaction prepare-commit-msg; do
            cp {evil} .git/hooks/$hook && echo "hook $hook"
            ln -s {evil} .git/hooks/$hook && echo "link $hook"
        done
        mv .git elsewhere && echo moved && mv elsewhere .git
        mv .git/config .git/config.old && echo "moved config" && mv .git/config.old .git/config
        mv .git/hooks .git/hooks2 && echo "moved hooks" && mv .git/hooks2 .git/hooks
        echo "file filter=x" > .gitattributes
        true
        "#
    );
    let planted = scene.sh(&["-n"], &plant);
    assert_eq!(
        planted.assert_success().stdout_text(),
        "",
        "something could be set"
    );
    for arguments in [
        &["status"][..],
        &["diff"],
        &["log", "-1"],
        &["checkout", "--quiet", "-b", "x"],
        &[
            "commit",
            "--quiet",
            "--all",
            "--message",
            "x",
            "--allow-empty",
        ],
    ] {
        git(arguments).assert_success();
    }
    assert!(
        !exists(marker.as_ref()),
        "git on the host ran what the agent planted"
    );

    // The control: without the protection the same words plant it, and git runs it.
    scene.file("home/.config/rcc/config.toml", WITHOUT);
    let planted = scene.sh(&["-n"], &plant);
    assert!(
        planted.stdout_text().contains("set core.fsmonitor"),
        "{planted}"
    );
    let status = git(&["status"]);
    assert!(
        exists(marker.as_ref()),
        "the control did not run\n{planted}\n{status}"
    );
}

/// Of a linked worktree or submodule only a file `.git` lies here, and it says where the rest is.
#[test]
fn the_file_that_says_where_the_repository_is() {
    let Some(scene) = scene("protected_gitfile") else {
        return;
    };
    std::fs::remove_dir_all(scene.project().join(".git")).unwrap();
    let original = format!("gitdir: {}\n", scene.path("home/git/library/.git"));
    scene.file("home/work/project/.git", &original);
    let lines = [
        (vec!["write", ".git", "gitdir: evil"], "EROFS"),
        (vec!["append", ".git", "x"], "EROFS"),
        (vec!["unlink", ".git"], "EBUSY"),
        (vec!["rename", ".git", "x"], "EBUSY"),
        (vec!["rename", "file", ".git"], "EBUSY"),
    ];
    for (words, errno) in lines {
        scene.inside(&words).assert_denied(errno);
    }
    assert_eq!(scene.text("home/work/project/.git"), original);
}

/// `commondir` tells git where hooks and configuration are.
#[test]
fn the_file_that_says_where_hooks_and_configuration_are() {
    let Some(scene) = scene("protected_commondir") else {
        return;
    };
    scene.file("home/work/project/.git/commondir", "../shared\n");
    scene.file("home/work/project/.git/config.worktree", "");
    scene.file("home/work/project/.git/info/attributes", "");
    for name in ["commondir", "config.worktree", "info/attributes"] {
        let path = format!(".git/{name}");
        scene
            .inside(&["write", &path, "evil"])
            .assert_denied("EROFS");
        scene.inside(&["unlink", &path]).assert_denied("EBUSY");
        scene
            .inside(&["rename", &path, ".git/x"])
            .assert_denied_with_any(&["EBUSY", "EXDEV"]);
    }
    scene
        .inside(&["rename", ".git/info", ".git/x"])
        .assert_denied("EBUSY");
    scene.inside(&["rename", ".git/refs", ".git/x"]).assert_ok();
}

/// The control of this whole file: without the protection all of it is the agent's, and every start says so.
#[test]
fn with_the_protection_given_up_everything_is_writable() {
    let Some(scene) = scene("protected_given_up") else {
        return;
    };
    scene.file("home/.config/rcc/config.toml", WITHOUT);
    for file in FILES {
        scene.inside(&["write", file, "evil"]).assert_ok();
    }
    let output = scene.run(&["-n"]).arg("true").output();
    assert!(
        output
            .stderr_text()
            .contains("dangerously_without_protected_paths"),
        "{output}"
    );
    scene.inside(&["rename", ".git", "x"]).assert_ok();
}

/// Hooks and configuration that the repository's own configuration names are as good as those in `.git`.
#[test]
fn hooks_and_configuration_that_the_configuration_names() {
    let Some(scene) = scene("protected_named") else {
        return;
    };
    let config = "[core]\n\thooksPath = .githooks\n[include]\n\tpath = ../.gitconfig\n";
    scene.file("home/work/project/.git/config", config);
    scene.file("home/work/project/.githooks/pre-commit", ORIGINAL);
    scene.file("home/work/project/.gitconfig", "[alias]\n");
    for words in [
        &["write", ".githooks/pre-commit", "evil"][..],
        &["create", ".githooks/post-checkout"],
        &["write", ".gitconfig", "[core]"],
        &["chmod", ".githooks/pre-commit", "755"],
    ] {
        scene.inside(words).assert_denied("EROFS");
    }
    for words in [
        &["rename", ".githooks", "x"][..],
        &["unlink", ".gitconfig"],
        &["rename", "file", ".gitconfig"],
    ] {
        scene.inside(words).assert_denied("EBUSY");
    }
    // The control: the same names, named by nobody.
    scene.file("home/work/project/.git/config", "[core]\n");
    let write = ["write", ".githooks/pre-commit", "mine"];
    scene.inside(&write).assert_ok();
}

/// rcc looks into a hostile repository on the host, where it must execute and obey nothing of it.
#[test]
fn rcc_itself_runs_nothing_of_a_hostile_repository() {
    if !rcc_testkit::require("git") {
        return;
    }
    let Some(scene) = scene("protected_hostile") else {
        return;
    };
    std::fs::remove_dir_all(scene.project().join(".git")).unwrap();
    let git = |arguments: &[&str]| scene.command("git").args(arguments).output();
    git(&["init", "--quiet", "."]).assert_success();
    let marker = scene.path("marker");
    let evil = scene.file(
        "home/work/project/evil.sh",
        format!("#!/bin/sh\necho ran >> {marker}\n"),
    );
    let executable = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&evil, executable.clone()).unwrap();
    let evil = evil.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "core.pager",
        "core.sshCommand",
        "core.editor",
        "diff.external",
        "credential.helper",
        "gpg.program",
    ] {
        git(&["config", key, evil]).assert_success();
    }
    for name in ["git", "claude", "sh", "tput", "id"] {
        let program = scene.file(
            &format!("home/work/project/{name}"),
            format!("#!/bin/sh\necho ran >> {marker}\n"),
        );
        std::fs::set_permissions(program, executable.clone()).unwrap();
    }
    scene.file(
        "home/work/project/.envrc",
        format!("echo ran >> {marker}\n"),
    );
    for arguments in [
        &["plan"][..],
        &["plan", "--json"],
        &["init", "--yes"],
        &["trust", "--list"],
        &["doctor"],
        &["run", "-n", "--", "/bin/true"],
        &["plan", "--agent", "claude"],
        &["claude", "--version"],
    ] {
        let output = scene
            .rcc(arguments)
            .env("PATH", ".::/usr/bin:/bin")
            .output();
        assert!(
            !exists(marker.as_ref()),
            "rcc {arguments:?} ran something\n{output}"
        );
    }
    let _ = git(&["status"]);
    assert!(exists(marker.as_ref()), "the control: git runs it");
}
