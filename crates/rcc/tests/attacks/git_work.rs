//! The other side of protected git: ordinary work inside goes on, and what is refused says so.
//!
//! Real git, in a project with a remote and a submodule. Each command is run in a fresh sandbox.

use crate::scene::Scene;

/// A project with two commits, a remote beside it that is granted, and a file that was changed.
fn project(name: &str) -> Option<Scene> {
    if !rcc_testkit::require("git") {
        return None;
    }
    let scene = Scene::new(name)?;
    scene.file("remotes/x", "");
    let script = "set -e; rm -rf .git; git config --global user.name t; git config --global user.email t@example.com; \
                  git config --global init.defaultBranch main; git config --global protocol.file.allow always; git init -q .; git add file; \
                  git commit -qm one; echo two >> file; git commit -qam two; git clone -q --bare . $R/origin.git; git remote add origin $R/origin.git; \
                  git clone -q --bare . $R/library.git; git submodule --quiet add $R/library.git library; git commit -qm library; \
                  git branch -q side; echo three >> file; git commit -qam three; git push -q origin main; git fetch -q";
    let output = scene
        .command("sh")
        .args(["-c", script])
        .env("R", scene.path("remotes"))
        .output();
    output.assert_success();
    Some(scene)
}

/// What git says when it cannot write its configuration.
const REFUSED: &str = "could not write config file .git/config: Device or resource busy";

fn work(scene: &Scene, script: &str) -> rcc_testkit::world::Output {
    let script = format!(
        "export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.com GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.com \
         GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always\nset -e\n{script}"
    );
    let remotes = scene.path("remotes");
    scene.sh(&["-n", "--rw", &remotes], &script)
}

#[test]
fn ordinary_work_with_git_goes_on() {
    let Some(scene) = project("git_work") else {
        return;
    };
    for (name, script) in [
        ("commit", "echo a >> file; git commit -qam a"),
        (
            "branch",
            "git branch new; git checkout -q new; git checkout -q main; git branch -q -D new",
        ),
        ("switch", "git switch -q -c other; git switch -q main"),
        ("fetch", "git fetch -q; git fetch -q --all --prune"),
        ("pull", "git pull -q --ff-only origin main"),
        ("push", "git push -q origin main"),
        ("merge", "git merge -q --no-edit side"),
        (
            "rebase",
            "git checkout -q -b r side; echo r > r; git add r; git commit -qm r; git rebase -q main; git checkout -q main",
        ),
        (
            "stash",
            "echo s >> file; git stash -q; git stash pop -q; git checkout -q file",
        ),
        (
            "cherry_pick",
            "git checkout -q -b c; echo c > c; git add c; git commit -qm c; git checkout -q main; git cherry-pick c >/dev/null",
        ),
        ("tag", "git tag v1; git tag -d v1 >/dev/null"),
        (
            "worktree",
            "git worktree add -q wt -b wt; git -C wt status >/dev/null; git worktree remove wt",
        ),
        (
            "submodule",
            "git -C library fetch -q; git -C library checkout -q HEAD~1; git -C library checkout -q main; git submodule status >/dev/null",
        ),
        ("gc", "git gc -q"),
        (
            "bisect",
            "git bisect start HEAD HEAD~1 >/dev/null; git bisect reset >/dev/null 2>&1",
        ),
        (
            "clone",
            "git clone -q . copy; git -C copy log -1 >/dev/null; rm -rf copy",
        ),
        ("apply", "git diff HEAD~1 > p; git apply -R --check p; rm p"),
        ("clean", "touch junk; git clean -qf junk"),
    ] {
        let output = work(&scene, script);
        assert!(
            output.code() == Some(0) && !output.stderr_text().contains("rcc:"),
            "{name}\n{output}"
        );
    }
}

/// The configuration is the one thing that git cannot write. What it does besides is done, and what it says is exact.
#[test]
fn what_is_refused_says_so_and_the_rest_is_done() {
    let Some(scene) = project("git_refused") else {
        return;
    };
    let upstream = |scene: &Scene| {
        let output = scene
            .command("git")
            .args(["rev-parse", "--abbrev-ref", "@{upstream}"])
            .output();
        output.code() == Some(0)
    };
    let output = work(&scene, "git push -q -u origin main:pushed");
    assert!(output.stderr_text().contains(REFUSED), "{output}");
    let pushed = scene
        .command("git")
        .args(["ls-remote", "--exit-code", "origin", "pushed"])
        .output();
    pushed.assert_success();
    assert!(!upstream(&scene));

    let before = scene.text("home/work/project/.git/config");
    for script in [
        "git config user.name x",
        "git remote add other ../x",
        "git branch --set-upstream-to=origin/main",
        "git checkout -q -b tracking --track origin/main",
        "git config --local core.pager less",
    ] {
        let output = work(&scene, script);
        // Git itself counts some of these as a success.
        assert!(
            output.stderr_text().contains("Device or resource busy"),
            "{script}\n{output}"
        );
        assert_eq!(
            scene.text("home/work/project/.git/config"),
            before,
            "{script}"
        );
    }
    // Git writes where a submodule's files are each time; fetching and checking out in it works, see above.
    let output = work(&scene, "git submodule --quiet update");
    let refused = ".git/modules/library/config: Device or resource busy";
    assert!(output.stderr_text().contains(refused), "{output}");
    // Without tracking the same branch is made.
    work(
        &scene,
        "git checkout -q -b untracked --no-track origin/main; git checkout -q main",
    )
    .assert_success();

    // How it is allowed: by the user, outside, afterwards; or for good, with the word that gives the protection up.
    scene
        .command("git")
        .args(["branch", "--quiet", "--set-upstream-to=origin/main"])
        .output()
        .assert_success();
    assert!(upstream(&scene));
    scene.file(
        "home/.config/rcc/config.toml",
        "version = 1\n[hardening]\ndangerously_without_protected_paths = true\n",
    );
    work(&scene, "git push -q -u origin main:pushed").assert_success();
}

/// A worktree that was there is protected like the repository: it is not removed from inside. Git goes on removing what
/// describes it until a protected file stops it, in the order of the directory: what is not protected may be gone.
#[test]
fn a_worktree_that_was_there_stays() {
    let Some(scene) = project("git_worktree") else {
        return;
    };
    for name in ["wt", "other"] {
        let add = ["worktree", "add", "-q", name, "-b", name];
        scene.command("git").args(add).output().assert_success();
    }
    let output = work(
        &scene,
        "cd wt; echo w > w; git add w; git commit -qm w; git status >/dev/null",
    );
    output.assert_success();
    let output = work(&scene, "git worktree remove --force wt");
    assert_ne!(output.code(), Some(0), "{output}");
    for kept in [
        "wt/.git",
        ".git/worktrees/wt/commondir",
        ".git/worktrees/wt/gitdir",
    ] {
        assert!(scene.project().join(kept).exists(), "{kept}");
    }
    // Positive control: the user removes one.
    let remove = ["worktree", "remove", "--force", "other"];
    scene.command("git").args(remove).output().assert_success();
    assert!(!scene.project().join("other").exists());
}
