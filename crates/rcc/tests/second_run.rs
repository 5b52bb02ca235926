//! The second run is as strict as the first, whatever the first left behind.
//!
//! Each test lets an agent of a first run plant something where rcc itself will look, mount or write in the next one.
//! The next run then either has exactly the posture of a run in an untouched place, or is refused with a message that
//! says what is wrong. Never is something outside read or written; the decoys of the scene are compared each time.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod record;
mod scene;

use std::os::unix::fs::PermissionsExt as _;

use rcc_testkit::world::Output;
use scene::{SECRET, Scene, exists};
use serde_json::Value;

/// The posture that every run must have.
fn strict(scene: &Scene) -> Value {
    record::posture(scene, &["-n"])
}

/// Lets the first run plant something.
#[track_caller]
fn plant(scene: &Scene, script: &str) {
    scene
        .sh(&["-n"], &format!("set -e\n{script}"))
        .assert_success();
}

/// Gives what rcc put aside after a run its old name, as a user who wants it does.
#[track_caller]
fn put_back(scene: &Scene) {
    let script =
        "find . -name '*.rcc-aside' | while read -r f; do mv \"$f\" \"${f%.rcc-aside}\"; done";
    let output = scene.command("sh").args(["-c", script]).output();
    output.assert_success();
}

/// Everything beside the project and rcc's own directories must be what it was.
#[track_caller]
fn assert_decoys(scene: &Scene) {
    for name in [
        "home/.ssh/id",
        "home/.aws/credentials",
        "home/git/library/secret-of-library",
        "home/work/other/file",
        "outside/secret",
    ] {
        assert_eq!(scene.text(name), SECRET, "{name}");
    }
    let names = |directory: &str| {
        let entries = std::fs::read_dir(scene.base.join(directory)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names("outside"), ["secret"]);
    assert_eq!(names("home/.ssh"), ["id"]);
    let home: Vec<String> = names("home")
        .into_iter()
        .filter(|name| name != ".local" && name != ".config")
        .collect();
    assert_eq!(home, [".aws", ".ssh", "git", "work"]);
}

/// The run after the first one must be refused; gives what it said.
#[track_caller]
fn refused(scene: &Scene) -> Output {
    let output = scene
        .run(&["-n"])
        .args(["sh", "-c", "echo started; touch /proc/self/cwd/started"])
        .output();
    output.assert_code(125);
    assert!(
        !output.stdout_text().contains("started") && !exists(&scene.project().join("started")),
        "{output}"
    );
    assert!(
        output.stderr_text().contains("error: ") && !output.stderr_text().contains("panicked"),
        "{output}"
    );
    assert_decoys(scene);
    output
}

/// The run after the first one must be as the first.
#[track_caller]
fn same(scene: &Scene, first: &Value) {
    assert_eq!(&strict(scene), first);
    assert_decoys(scene);
}

#[test]
fn nothing_left_behind_is_the_control() {
    let Some(scene) = Scene::new("nothing") else {
        return;
    };
    let first = strict(&scene);
    plant(
        &scene,
        "echo hello > file; echo hello > ~/.bashrc; mkdir -p ~/.cache/x src",
    );
    same(&scene, &first);
}

/// rcc makes the mount points of grants inside the agent home, which the agent can write to.
#[test]
fn links_where_grants_are_mounted_in_the_home() {
    for (number, script) in [
        // The project's parent directory, and a directory that holds another grant.
        "rmdir ~/work/project 2>/dev/null; mv ~/work ~/w 2>/dev/null; rm -rf ~/work; ln -s OUTSIDE ~/work",
        "mv ~/git ~/g 2>/dev/null; rm -rf ~/git; ln -s OUTSIDE ~/git",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("home_links_{number}")) else { return };
        strict(&scene);
        let script = script.replace("OUTSIDE", &scene.path("outside"));
        // In a run the places are mount points; between two runs they are directories of the agent's, reached from a
        // project elsewhere that shares the agent home.
        from_another_project(&scene, &script);
        let output = refused(&scene);
        assert!(output.stderr_text().contains("symbolic link"), "{output}");
    }
}

/// Runs a script in a project outside the home, with the same agent home, in which nothing is mounted then.
#[track_caller]
fn from_another_project(scene: &Scene, script: &str) {
    let project = scene.base.join("elsewhere");
    std::fs::create_dir_all(&project).unwrap();
    scene.world.give_to_user(&scene.base);
    let git = scene.base.join("home/git");
    let away = scene.base.join("git-away");
    std::fs::rename(&git, &away).unwrap();
    let command = scene
        .rcc(["run", "-n", "--project"])
        .arg(&project)
        .arg("--")
        .args(["sh", "-c", script]);
    let output = command.current_dir(&project).output();
    std::fs::rename(&away, &git).unwrap();
    output.assert_success();
    std::fs::remove_dir_all(project).unwrap();
}

#[test]
fn files_and_fifos_where_grants_are_mounted_in_the_home() {
    for (number, script) in [
        "rm -rf ~/work; echo x > ~/work",
        "rm -rf ~/work; mkfifo ~/work",
        "rm -rf ~/work; mkdir ~/work; echo x > ~/work/project",
        "rm -rf ~/work; mkdir ~/work; mkfifo ~/work/project",
        "rm -rf ~/git; echo x > ~/git",
        "rm -rf ~/work; mkdir ~/work; chmod 000 ~/work",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("home_files_{number}")) else {
            return;
        };
        strict(&scene);
        from_another_project(&scene, script);
        let output = scene.run(&["-n"]).arg("true").output();
        output.assert_code(125);
        let output = refused(&scene);
        assert!(
            output
                .stderr_text()
                .contains(scene.home().to_str().unwrap()),
            "the message names the place\n{output}"
        );
    }
}

#[test]
fn a_link_in_place_of_the_projects_mount_point() {
    let Some(scene) = Scene::new("home_project_link") else {
        return;
    };
    strict(&scene);
    let script = format!(
        "rm -rf ~/work; mkdir ~/work; ln -s {} ~/work/project",
        scene.path("outside")
    );
    from_another_project(&scene, &script);
    let output = refused(&scene);
    assert!(output.stderr_text().contains("symbolic link"), "{output}");
}

/// The home as the agent left it is its own business; where it lies is not.
#[test]
fn the_agent_home_made_hostile() {
    let Some(scene) = Scene::new("home_hostile") else {
        return;
    };
    let first = strict(&scene);
    plant(
        &scene,
        "chmod 777 ~; for n in .config .local .ssh .npmrc .gitconfig; do ln -s / ~/$n; done; mkdir -p ~/a/b; chmod 000 ~/a",
    );
    let output = scene.run(&["-n"]).arg("true").output();
    if output.code() == Some(125) {
        // A home that others may write to is refused.
        assert!(
            output
                .stderr_text()
                .contains("can be written by other users"),
            "{output}"
        );
        std::fs::set_permissions(scene.agent_home(), std::fs::Permissions::from_mode(0o700))
            .unwrap();
    }
    same(&scene, &first);
}

#[test]
fn the_agent_home_replaced_on_the_host_by_a_link() {
    let Some(scene) = Scene::new("home_replaced") else {
        return;
    };
    strict(&scene);
    let home = scene.agent_home();
    std::fs::rename(&home, home.with_file_name("moved")).unwrap();
    std::os::unix::fs::symlink(scene.base.join("outside"), &home).unwrap();
    let output = refused(&scene);
    assert!(output.stderr_text().contains("agent home"), "{output}");
}

/// The policy file did not exist in the first run, so the agent could make one: it is not obeyed.
#[test]
fn a_policy_made_by_the_agent() {
    let Some(scene) = Scene::new("policy_made") else {
        return;
    };
    let first = strict(&scene);
    let secret = scene.path("outside");
    plant(
        &scene,
        &format!(
            "printf 'version = 1\\n[files]\\nrw = [\"{secret}\"]\\n[network]\\nmode = \"internet\"\\n' > rcc.toml"
        ),
    );
    let output = refused(&scene);
    assert!(
        output.stderr_text().contains("rcc trust"),
        "the message names the way\n{output}"
    );
    std::fs::remove_file(scene.project().join("rcc.toml")).unwrap();
    same(&scene, &first);
}

#[test]
fn a_policy_that_is_a_link_a_fifo_or_a_directory() {
    for (number, script) in [
        "ln -s /etc/passwd rcc.toml",
        "mkfifo rcc.toml",
        "mkdir rcc.toml",
        "ln -s ../other/file rcc.toml",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("policy_odd_{number}")) else {
            return;
        };
        strict(&scene);
        plant(&scene, script);
        let output = refused(&scene);
        assert!(output.stderr_text().contains("rcc.toml"), "{output}");
        assert!(
            !output.stderr_text().contains(SECRET) && !output.stderr_text().contains("root:x"),
            "{output}"
        );
    }
}

/// Where the project begins is found by its marks: one that the agent made below it makes the project smaller, and one
/// above it cannot be made.
#[test]
fn marks_of_a_project_made_by_the_agent() {
    let Some(scene) = Scene::new("marks") else {
        return;
    };
    strict(&scene);
    plant(
        &scene,
        "mkdir -p sub/.git/hooks && echo evil > sub/.git/config",
    );
    scene.inside(&["mkdir", "../.git"]).assert_ok();
    assert!(
        !exists(&scene.base.join("home/work/.git")),
        "it was made in the agent home, not beside the project"
    );
    let command = scene
        .run(&["-n"])
        .args(["sh", "-c", "touch ../above && echo made"])
        .current_dir(scene.project().join("sub"));
    let output = command.output();
    assert!(!exists(&scene.project().join("above")), "{output}");
    assert_decoys(&scene);
}

/// What the first run could create because it was not there is protected in the second.
#[test]
fn protected_names_made_in_the_first_run() {
    let Some(scene) = Scene::new("names_made") else {
        return;
    };
    std::fs::remove_dir_all(scene.project().join(".git/hooks")).unwrap();
    plant(
        &scene,
        "mkdir -p .git/hooks .vscode .claude .idea; echo evil > .git/hooks/pre-commit; echo evil > .vscode/tasks.json; \
         echo evil > .claude/settings.json; echo evil > .envrc; echo evil > .mcp.json; echo evil > .git/commondir",
    );
    // Where git would run it, it was put aside first.
    assert!(!exists(&scene.project().join(".git/hooks")));
    put_back(&scene);
    for path in [
        ".git/hooks/pre-commit",
        ".vscode/tasks.json",
        ".claude/settings.json",
        ".envrc",
        ".mcp.json",
        ".git/commondir",
    ] {
        scene
            .inside(&["write", path, "worse"])
            .assert_denied("EROFS");
    }
    for path in [".git/hooks", ".vscode", ".git", ".envrc"] {
        scene
            .inside(&["rename", path, "x"])
            .assert_denied_with_any(&["EBUSY", "EXDEV"]);
    }
}

/// Names that the host executes, made by the agent where there were none: the user is told at the end of the run.
#[test]
fn protected_names_made_by_the_agent_are_reported() {
    let Some(scene) = Scene::new("names_reported") else {
        return;
    };
    std::fs::remove_dir_all(scene.project().join(".git/hooks")).unwrap();
    let output = scene.sh(
        &["-n"],
        "mkdir -p .git/hooks .vscode; echo evil > .git/hooks/pre-commit; echo evil > .vscode/tasks.json; echo evil > .envrc",
    );
    for name in [".git/hooks", ".vscode", ".envrc"] {
        assert!(
            output.stderr_text().contains(name),
            "{name} is not reported\n{output}"
        );
    }
    let output = scene.sh(&["-n"], "echo ordinary > notes.txt");
    assert!(
        !output.stderr_text().contains("notes.txt"),
        "the control\n{output}"
    );
}

/// Programs of the host follow a link in place of a protected name, or above one: what it leads to in the project is
/// protected in its stead, and the link itself is told at the end of the run that made it.
#[test]
fn links_in_place_of_protected_names() {
    for (number, (gone, script, protected)) in [
        (
            ".git",
            "mkdir -p g/hooks g/refs; echo x > g/config; ln -s g .git",
            &["g/config", "g/hooks/new"][..],
        ),
        (
            ".git/hooks",
            "mkdir my-hooks; echo x > my-hooks/pre-commit; ln -s ../my-hooks .git/hooks",
            &["my-hooks/pre-commit", "my-hooks/new"],
        ),
        (
            ".git/config",
            "echo x > my-config; ln -s ../my-config .git/config",
            &["my-config"],
        ),
        (
            "",
            "mkdir agent; echo x > agent/settings.json; ln -s agent .claude",
            &["agent/settings.json"],
        ),
        (
            "",
            "mkdir -p a/b; echo x > a/b/tasks.json; ln -s a/b c; ln -s c .vscode",
            &["a/b/tasks.json", "a/b/new"],
        ),
        (
            "",
            "echo x > real; ln -s ./a/../real .envrc; mkdir a",
            &["real"],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("protected_links_{number}")) else {
            return;
        };
        // It was not there in the first run, so nothing stood in the agent's way.
        let path = scene.project().join(gone);
        if gone.is_empty() {
        } else if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap();
        } else {
            std::fs::remove_file(&path).unwrap();
        }
        let first = scene.sh(&["-n"], &format!("set -e; {script}"));
        first.assert_success();
        let link = script
            .rsplit("ln -s ")
            .next()
            .unwrap()
            .split([' ', ';'])
            .nth(1)
            .unwrap();
        assert!(
            first.stderr_text().contains(link),
            "the link {link} is not told\n{first}"
        );
        put_back(&scene);
        for path in protected {
            let words = if path.ends_with("new") {
                vec!["create", path]
            } else {
                vec!["write", path, "evil"]
            };
            scene.inside(&words).assert_denied("EROFS");
        }
        scene.inside(&["create", "ordinary"]).assert_ok();
        assert_decoys(&scene);
    }
}

/// Links that lead out are not followed: not by a look, not by a mount.
#[test]
fn links_out_of_the_project_in_place_of_protected_names() {
    for (number, name) in [".git", ".claude", ".vscode", ".envrc", ".git/hooks"]
        .into_iter()
        .enumerate()
    {
        let Some(scene) = Scene::new(&format!("links_out_{number}")) else {
            return;
        };
        for (variant, target) in [
            scene.path("outside"),
            "../../../outside".to_owned(),
            "/etc".to_owned(),
            name.rsplit('/').next().unwrap().to_owned(),
        ]
        .iter()
        .enumerate()
        {
            let path = scene.project().join(name);
            if variant == 0 && path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            }
            plant(&scene, &format!("rm -f {name}; ln -s {target} {name}"));
            let second = strict(&scene);
            let mounts = second["mounts"].to_string();
            assert!(
                !mounts.contains("outside") && mounts.contains("[SCENE]/home/work/project "),
                "{mounts}"
            );
            scene
                .inside(&["read", &format!("{name}/secret")])
                .assert_denied_with_any(&["ENOENT", "ELOOP", "ENOTDIR"]);
            assert_decoys(&scene);
        }
    }
}

/// A second name for the same file, made while it was not protected, would undo the protection of the first name.
#[test]
fn hard_links_to_what_is_protected_in_the_next_run() {
    for (number, (name, alias, script)) in [
        (".envrc", "alias", "echo '# harmless' > .envrc"),
        (
            ".git/hooks/pre-commit",
            ".git/alias",
            "mkdir .git/hooks; echo exit > .git/hooks/pre-commit",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("hard_links_{number}")) else {
            return;
        };
        std::fs::remove_dir_all(scene.project().join(".git/hooks")).unwrap();
        plant(&scene, &format!("{script}; ln {name} {alias}"));
        put_back(&scene);
        let output = refused(&scene);
        assert!(
            output.stderr_text().contains(name) && output.stderr_text().contains("hard link"),
            "{output}"
        );
        // The way that the message names.
        let fix = format!("cp -p {name} {name}.new && mv {name}.new {name}");
        assert!(output.stderr_text().contains(&fix), "{output}");
        scene
            .command("sh")
            .args(["-c", &fix])
            .output()
            .assert_success();
        let before = scene.text(&format!("home/work/project/{name}"));
        scene
            .sh(&["-n"], &format!("echo evil > {alias}"))
            .assert_success();
        assert_eq!(scene.text(&format!("home/work/project/{name}")), before);
    }
}

/// A path that is hidden, or read-only inside the writable project, is looked for where it was: a first run must not be
/// able to take it elsewhere, nor put something else in its place.
#[test]
fn hidden_and_read_only_paths_moved_in_the_first_run() {
    let Some(scene) = Scene::new("moved") else {
        return;
    };
    scene.file("home/work/project/config/keys/production.key", SECRET);
    scene.file("home/work/project/third/party/vendor/code", "reviewed\n");
    let flags = [
        "-n",
        "--hide",
        "config/keys/production.key",
        "--ro",
        "third/party/vendor",
    ];
    let script = "for d in config config/keys third third/party third/party/vendor; do mv $d $d.moved && echo moved $d; done; \
                  mv config/keys/production.key x && echo moved key; mkdir config/ok && mv config/ok config/fine; true";
    let output = scene.sh(&flags, script);
    assert_eq!(output.assert_success().stdout_text(), "", "{output}");
    let secret = "grep -r 'secret of the host' . ; echo evil > third/party/vendor/code; echo evil > third.moved/party/vendor/code; true";
    let output = scene.sh(&flags, secret);
    assert!(!output.stdout_text().contains(SECRET), "{output}");
    assert_eq!(
        scene.text("home/work/project/third/party/vendor/code"),
        "reviewed\n"
    );
    // The control: what is neither can be moved, and was.
    assert!(exists(&scene.project().join("config/fine")));
    let output = scene.sh(
        &["-n"],
        "mv config c && mv third t && cat c/keys/production.key",
    );
    assert!(
        output.assert_success().stdout_text().contains(SECRET),
        "{output}"
    );
}

/// What lies on the caller's `PATH` below the home is mounted, through its links. Where the agent can write, a link is the
/// agent's: followed, it would show the next agent whatever it names.
#[test]
fn links_on_the_search_path() {
    let Some(scene) = Scene::new("search_path") else {
        return;
    };
    scene.file("home/documents/diary", SECRET);
    scene.file("home/tools/bin/own", "#!/bin/sh\n");
    let diary = scene.path("home/documents/diary");
    let path = format!(
        "{}/bin:{}:{}:/usr/bin:/bin",
        scene.project().display(),
        scene.path("home/tools/bin"),
        scene.path("home/own"),
    );
    let tools = scene.path("home/tools");
    let flags = ["-n", "--rw", &tools];
    let documents = scene.path("home/documents");
    for script in [
        format!("ln -s {documents} bin"),
        "ln -s ../../documents bin".to_owned(),
        format!("mkdir bin; ln -s {diary} bin/diary"),
        format!("ln -s {diary} {tools}/bin/diary"),
        format!("rm -rf {tools}/bin; ln -s {documents} {tools}/bin"),
    ] {
        scene.sh(&flags, &script).assert_success();
        let command = scene.run(&flags).env("PATH", &path);
        let output = command.args(["cat", &diary]).output();
        assert_ne!(output.code(), Some(0), "{script}\n{output}");
        assert!(!output.stdout_text().contains(SECRET), "{script}\n{output}");
        let _ = std::fs::remove_file(scene.project().join("bin"));
        let _ = std::fs::remove_dir_all(scene.project().join("bin"));
    }
    // The control: the user's own link, where no agent writes, is followed.
    std::os::unix::fs::symlink(&documents, scene.base.join("home/own")).unwrap();
    let output = scene
        .run(&flags)
        .env("PATH", &path)
        .args(["cat", &diary])
        .output();
    assert_eq!(output.stdout_text(), SECRET, "{output}");
}

/// A path that the policy names below a read-write grant is where the agent could have put a link.
#[test]
fn links_in_a_read_write_grant() {
    let Some(scene) = Scene::new("grant_links") else {
        return;
    };
    scene.file("home/documents/diary", SECRET);
    scene.file("home/tools/inner/file", "the owner's\n");
    let (tools, inner) = (scene.path("home/tools"), scene.path("home/tools/inner"));
    let both = ["-n", "--rw", &tools, "--ro", &inner];
    let file = format!("cat {inner}/file");
    assert_eq!(
        scene.sh(&both, &file).stdout_text(),
        "the owner's\n",
        "the control"
    );
    let replace = format!("rm -rf {inner}; ln -s ../documents {inner}");
    scene.sh(&["-n", "--rw", &tools], &replace).assert_success();
    let output = scene.sh(&both, &format!("cat {inner}/diary"));
    output.assert_code(125);
    assert!(!output.stdout_text().contains(SECRET), "{output}");
    assert!(output.stderr_text().contains("leads out of"), "{output}");
}

/// What rcc itself writes into the project, on the host, does not go through links that the agent made there.
#[test]
fn links_where_rcc_itself_writes() {
    let Some(scene) = Scene::new("own_writes") else {
        return;
    };
    let outside = scene.path("outside");
    plant(
        &scene,
        &format!(
            "ln -s {outside}/planted rcc.toml; ln -s {outside}/secret audit.jsonl; ln -s {outside} logs; ln -s {outside}/new new.jsonl"
        ),
    );
    let init = scene.rcc(["init", "--yes"]).output();
    assert_ne!(init.code(), Some(0), "{init}");
    assert_decoys(&scene);
    std::fs::remove_file(scene.project().join("rcc.toml")).unwrap();
    for audit in [
        "audit.jsonl",
        "logs/audit.jsonl",
        "./logs/secret",
        "new.jsonl",
    ] {
        let flags = ["--network", "allowlist", "--audit", audit];
        let output = scene.sh(&flags, "getent hosts evil.example; echo started");
        output.assert_code(125);
        assert!(!output.stdout_text().contains("started"), "{output}");
        assert!(output.stderr_text().contains(audit), "{output}");
        assert_decoys(&scene);
    }
    // The control: a file of its own, in the project and beside it, by a link of the user's.
    std::fs::create_dir(scene.base.join("logs")).unwrap();
    std::os::unix::fs::symlink(scene.base.join("logs"), scene.base.join("current")).unwrap();
    scene.world.give_to_user(&scene.base);
    for audit in ["own.jsonl", &scene.path("current/audit.jsonl")] {
        let flags = ["--network", "allowlist", "--audit", audit];
        scene
            .sh(&flags, "getent hosts evil.example; true")
            .assert_success();
        let written = std::fs::read_to_string(scene.project().join(audit)).unwrap();
        assert!(written.contains("evil.example"), "{written}");
    }
    std::fs::remove_dir_all(scene.base.join("logs")).unwrap();
}

/// The git directory of a linked worktree is found through a file: what the agent wrote there is not followed.
#[test]
fn a_gitdir_file_that_leads_elsewhere() {
    for (number, target) in [
        "OUTSIDE",
        "../../../outside",
        "/",
        "HOME/.ssh",
        "HOME/git/library/.git/../../..",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("gitdir_{number}")) else {
            return;
        };
        std::fs::remove_dir_all(scene.project().join(".git")).unwrap();
        let target = target
            .replace("OUTSIDE", &scene.path("outside"))
            .replace("HOME", scene.home().to_str().unwrap());
        plant(&scene, &format!("echo 'gitdir: {target}' > .git"));
        let output = scene
            .run(&["-n"])
            .args([
                "sh",
                "-c",
                "ls -a / ~ ../.. ../../.. 2>/dev/null; cat ../../../outside/secret ~/.ssh/id",
            ])
            .output();
        assert!(!output.stdout_text().contains(SECRET), "{output}");
        for path in ["outside/secret", "home/.ssh/id", "home/work/other/file"] {
            scene
                .inside(&["read", &scene.path(path)])
                .assert_denied("ENOENT");
            scene
                .inside(&["append", &scene.path(path), "x"])
                .assert_denied("ENOENT");
        }
        assert_decoys(&scene);
    }
}

/// Every file of a repository that rcc may look into, filled with what nobody expects.
#[test]
fn a_repository_that_is_no_repository() {
    for (number, script) in [
        "rm -rf .git/refs; mkfifo .git/refs .git/HEAD2 .git/index; ln -s /proc/self/fd .git/objects2",
        "mkdir -p .git/modules/a/b/c .git/worktrees/w; echo 'gitdir: /etc' > .git/worktrees/w/gitdir; ln -s / .git/modules/root; mkfifo .git/worktrees/w/commondir",
        "mkdir -p .git/worktrees; for i in $(seq 2000); do mkdir .git/worktrees/w$i; done",
        "d=.; for i in $(seq 100); do d=$d/x; mkdir $d; done; mkdir $d/.git",
        "mkdir \"$(printf 'a\\nb')\" && printf 'x' > \"$(printf '\\033]0;evil\\007')\"",
        "truncate -s 1T big; mkfifo .envrc2; ln -s .envrc2 .envrc3",
    ]
    .into_iter()
    .enumerate()
    {
        let Some(scene) = Scene::new(&format!("odd_repository_{number}")) else { return };
        let first = strict(&scene);
        plant(&scene, script);
        let output = scene.run(&["-n"]).arg("true").timeout(std::time::Duration::from_secs(60)).output();
        assert!(!output.stderr_text().contains('\u{1b}'), "an escape sequence reached the terminal\n{output}");
        if output.code() == Some(125) {
            let _ = refused(&scene);
        } else {
            let second = strict(&scene);
            // More is protected than before, if anything: what was read-only or missing is so still.
            let lines = |record: &Value| -> Vec<String> {
                record["mounts"].as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
            };
            let (first, second) = (lines(&first), lines(&second));
            assert!(first.iter().all(|line| second.contains(line)), "{script}\n{first:#?}\n{second:#?}");
            assert_decoys(&scene);
        }
    }
}

/// A FIFO or a socket with a protected name can be no file that is obeyed; it must not hang or pass either.
#[test]
fn special_files_with_protected_names() {
    for (number, name) in [".envrc", ".mcp.json", ".git/config.worktree"]
        .into_iter()
        .enumerate()
    {
        let Some(scene) = Scene::new(&format!("special_{number}")) else {
            return;
        };
        let first = strict(&scene);
        plant(&scene, &format!("mkfifo {name}"));
        let output = scene
            .run(&["-n"])
            .arg("true")
            .timeout(std::time::Duration::from_secs(60))
            .output();
        if output.code() == Some(125) {
            assert!(output.stderr_text().contains(name), "{output}");
        } else {
            same(&scene, &first);
        }
    }
}

/// The agent's own settings, imported from the real home on first use, are the copy's: the real ones stay as they are.
#[test]
fn settings_of_the_agent_in_its_home() {
    let Some(scene) = Scene::new("agent_settings") else {
        return;
    };
    scene.file("home/.claude/settings.json", "{\"hooks\":\"the owner's\"}");
    scene.file("home/.claude.json", "{}");
    let program = scene.file("home/.local/bin/claude", "#!/bin/sh\nmkdir -p ~/.claude\necho evil > ~/.claude/settings.json\necho evil > ~/.claude.json\ncat ~/.ssh/id\n");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    for _ in 0..2 {
        let output = scene.rcc(["-n", "claude"]).env("PATH", &path).output();
        assert!(!output.stdout_text().contains(SECRET), "{output}");
        assert_eq!(
            scene.text("home/.claude/settings.json"),
            "{\"hooks\":\"the owner's\"}",
            "{output}"
        );
        assert_eq!(scene.text("home/.claude.json"), "{}");
    }
    let kept = scene
        .home()
        .join(".local/share/rcc/homes/claude/.claude/settings.json");
    assert_eq!(
        std::fs::read_to_string(kept).unwrap(),
        "evil\n",
        "the control: the agent wrote its own copy"
    );
}

/// Starts of a run while another one exchanges a name in the project as fast as it can.
const STARTS: usize = 60;

/// Lets a first run exchange `a` and `b` while others with `flags` start and try `script`; gives what those said.
#[track_caller]
fn while_exchanging(scene: &Scene, a: &str, b: &str, flags: &[&str], script: &str) -> Vec<Output> {
    let flip = format!("exec \"$0\" flip {a} {b} stop");
    let first = scene
        .run(&["-n"])
        .args(["sh", "-c", &flip])
        .arg(rcc_testkit::probe::path())
        // It lasts as long as all the starts below, and each of those has a limit of its own.
        .timeout(std::time::Duration::from_secs(300))
        .spawn();
    first.wait_for_text("ready");
    let outputs: Vec<Output> = (0..STARTS).map(|_| scene.sh(flags, script)).collect();
    std::fs::write(scene.project().join("stop"), "").unwrap();
    let count = rcc_testkit::probe::Record::of(&first.wait());
    let exchanges = count.assert_ok().detail.as_u64().unwrap();
    assert!(exchanges > 10_000, "the control: {exchanges} exchanges");
    for output in &outputs {
        assert!([Some(0), Some(125)].contains(&output.code()), "{output}");
        assert!(!output.stdout_text().contains(SECRET), "{output}");
        assert!(!output.stderr_text().contains("panicked"), "{output}");
    }
    outputs
}

/// A protected directory and a link out of the project change places between every look and every mount.
#[test]
fn a_protected_name_exchanged_with_a_link_while_runs_start() {
    let Some(scene) = Scene::new("race_protected") else {
        return;
    };
    scene.file("home/work/project/v/tasks.json", "the owner's\n");
    std::os::unix::fs::symlink(scene.base.join("outside"), scene.project().join(".vscode"))
        .unwrap();
    let script =
        "cat .vscode/secret v/secret; echo evil > .vscode/planted; echo evil > v/planted; true";
    while_exchanging(&scene, "v", ".vscode", &["-n"], script);
    assert_decoys(&scene);
}

/// The same with the directory above a path that the caller grants.
#[test]
fn a_granted_path_exchanged_with_a_link_while_runs_start() {
    let Some(scene) = Scene::new("race_granted") else {
        return;
    };
    scene.file("home/work/project/third/data/file", "the project's\n");
    // Outside there is a directory of the same name: a link followed at the wrong moment would grant it.
    scene.file("outside-data/data/file", SECRET);
    std::os::unix::fs::symlink(
        scene.base.join("outside-data"),
        scene.project().join("trap"),
    )
    .unwrap();
    for access in ["--ro", "--rw"] {
        let _ = std::fs::remove_file(scene.project().join("stop"));
        let flags = ["-n", access, "third/data"];
        let script = "cat third/data/file trap/data/file; echo evil > third/data/planted; echo evil > trap/data/planted; true";
        let outputs = while_exchanging(&scene, "third", "trap", &flags, script);
        let refused = outputs
            .iter()
            .filter(|output| output.code() == Some(125))
            .count();
        assert!(
            refused > 0,
            "the control: in {STARTS} starts the exchange was never seen"
        );
        assert!(!exists(&scene.base.join("outside-data/data/planted")));
        assert_eq!(scene.text("outside-data/data/file"), SECRET);
    }
    std::fs::remove_dir_all(scene.base.join("outside-data")).unwrap();
    assert_decoys(&scene);
}

/// A hidden name in a directory that changes places with a link, before and behind the look: it is hidden under both
/// names, or nothing starts.
#[test]
fn a_hidden_name_exchanged_with_a_link_while_runs_start() {
    let Some(scene) = Scene::new("race_hidden") else {
        return;
    };
    scene.file("home/work/project/conf/token.key", SECRET);
    std::os::unix::fs::symlink(scene.base.join("outside"), scene.project().join("trap")).unwrap();
    let script = "cat conf/token.key trap/token.key conf/secret trap/secret; true";
    let control = scene.sh(&["-n"], script);
    assert!(control.stdout_text().contains(SECRET), "{control}");
    let flags = ["-n", "--hide", "**/*.key"];
    let outputs = while_exchanging(&scene, "conf", "trap", &flags, script);
    let started = outputs.iter().any(|output| output.code() == Some(0));
    assert!(started, "the control: some runs start");
    assert_decoys(&scene);
}
