//! Attacks through git: what an agent plants in a project, git on the host must not run.
//!
//! Each attack is planted twice. Once by a program of the user's without rcc, the control: then the host's git runs the
//! canary. Once by the agent, through the real binary: then the same commands of the host must not run it. Where rcc put
//! something aside, its report must name it.
//!
//! Must not count an attack whose control does not fire.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test program")]

mod scene;

use std::fmt::Write as _;

use scene::guard::GuardProcess;
use scene::{Scene, exists};

/// One way to make git run something.
struct Attack {
    name: &'static str,
    /// What the user's project is like before: shell lines, run outside.
    setup: &'static str,
    /// What the agent does: shell lines, run inside; in the control outside. `$C` is the canary, `$HOST_HOME` the host's
    /// path of the agent's home, `$P` the project.
    plant: &'static str,
    /// What the user does then besides the usual commands, outside.
    host: &'static str,
    /// What the report of the run must name; empty where the planting itself is refused.
    told: &'static str,
}

const fn attack(
    name: &'static str,
    setup: &'static str,
    plant: &'static str,
    host: &'static str,
    told: &'static str,
) -> Attack {
    Attack {
        name,
        setup,
        plant,
        host,
        told,
    }
}

/// Settings of the project's own repository, which is there: every way to write them is refused.
const SETTINGS: &[Attack] = &[
    attack("fsmonitor", "", "git config core.fsmonitor $C", "", ""),
    attack(
        "fsmonitor_appended",
        "",
        "printf '[core]\\n\\tfsmonitor = %s\\n' $C >> .git/config",
        "",
        "",
    ),
    attack(
        "config_renamed_over",
        "",
        "cp .git/config c; printf '[core]\\n\\tfsmonitor = %s\\n' $C >> c; mv -f c .git/config",
        "",
        "",
    ),
    attack(
        "config_copied_in_place",
        "",
        "cp .git/config c; printf '[core]\\n\\tfsmonitor = %s\\n' $C >> c; rm -f .git/config; cp c .git/config",
        "",
        "",
    ),
    attack(
        "git_directory_copied",
        "",
        "mv .git x && cp -r x .git && git config core.fsmonitor $C",
        "",
        "",
    ),
    attack(
        "git_directory_exchanged",
        "",
        "cp -r .git y; git config -f y/config core.fsmonitor $C; mv .git z && mv y .git",
        "",
        "",
    ),
    attack(
        "hooks_path",
        "",
        "mkdir h; cp $C h/pre-commit; git config core.hooksPath h",
        "",
        "",
    ),
    attack(
        "ssh_command",
        "",
        "git config core.sshCommand $C && git config remote.origin.url ssh://example.com/x",
        "",
        "",
    ),
    attack(
        "git_proxy",
        "",
        "git config core.gitProxy $C && git config remote.origin.url git://example.com/x",
        "",
        "",
    ),
    attack(
        "pager",
        "",
        "git config core.pager $C",
        "script -qec 'git log' /dev/null",
        "",
    ),
    attack(
        "pager_of_one_command",
        "",
        "git config pager.diff $C",
        "script -qec 'git diff HEAD~1' /dev/null",
        "",
    ),
    attack(
        "editor",
        "",
        "git config core.editor $C",
        "git commit --quiet --amend --allow-empty",
        "",
    ),
    attack(
        "sequence_editor",
        "",
        "git config sequence.editor $C",
        "git rebase --quiet -i HEAD~1",
        "",
    ),
    attack(
        "external_diff",
        "",
        "git config diff.external $C; echo more >> file",
        "",
        "",
    ),
    attack(
        "text_conversion",
        "",
        "git config diff.x.textconv $C; echo '* diff=x' > .gitattributes; echo more >> file",
        "",
        "",
    ),
    attack(
        "diff_command",
        "",
        "git config diff.x.command $C; echo '* diff=x' > .gitattributes; echo more >> file",
        "",
        "",
    ),
    attack(
        "clean_filter",
        "",
        "git config filter.x.clean $C; echo '* filter=x' > .gitattributes; echo more >> file",
        "",
        "",
    ),
    attack(
        "smudge_filter",
        "",
        "git config filter.x.smudge $C; echo '* filter=x' > .gitattributes",
        "rm file; git checkout -- file",
        "",
    ),
    attack(
        "filter_process",
        "",
        "git config filter.x.process $C; echo '* filter=x' > .gitattributes; echo more >> file",
        "",
        "",
    ),
    attack("alias", "", "git config alias.st \"!$C\"", "git st", ""),
    attack(
        "alias_with_options",
        "",
        "git config alias.st \"-c core.fsmonitor=$C status\"",
        "git st",
        "",
    ),
    attack(
        "credential_helper",
        "",
        "git config credential.helper $C",
        "printf 'protocol=https\\nhost=example.com\\n\\n' | git credential fill",
        "",
    ),
    attack(
        "include",
        "",
        "git config -f inc core.fsmonitor $C; git config include.path ../inc",
        "",
        "",
    ),
    attack(
        "conditional_include",
        "",
        "git config -f inc core.fsmonitor $C; git config \"includeIf.gitdir:$P/.path\" ../inc",
        "",
        "",
    ),
    attack(
        "signing_program",
        "",
        "git config gpg.program $C; git config commit.gpgSign true",
        "",
        "",
    ),
    attack(
        "upload_pack",
        "",
        "git config remote.origin.uploadpack $C",
        "",
        "",
    ),
    attack(
        "receive_pack",
        "",
        "git config remote.origin.receivepack $C",
        "git push origin HEAD:refs/heads/other",
        "",
    ),
    attack(
        "external_protocol",
        "",
        "git config protocol.ext.allow always; git config remote.origin.url \"ext::$C\"",
        "",
        "",
    ),
    attack(
        "url_rewritten",
        "",
        "git config protocol.ext.allow always; git config \"url.ext::$C.insteadOf\" \"$(git config remote.origin.url)\"",
        "",
        "",
    ),
    attack(
        "diff_tool",
        "git config difftool.x.cmd true; git config diff.tool x",
        "git config difftool.x.cmd $C; git config diff.tool x; echo more >> file",
        "git difftool --no-prompt HEAD~1",
        "",
    ),
    attack(
        "merge_driver",
        "git checkout -q -b side HEAD~1; echo side > file; git commit -qam side; git checkout -q main",
        "git config merge.x.driver $C; echo '* merge=x' > .git/info/attributes",
        "git merge side; git merge --abort",
        "",
    ),
    attack(
        "submodule_update",
        "git -c protocol.file.allow=always submodule --quiet add $REMOTE sub; git commit -qm sub",
        "git config submodule.sub.update \"!$C\"",
        "git -C sub checkout -q HEAD~1; git submodule update",
        "",
    ),
];

/// Hooks.
const HOOKS: &[Attack] = &[
    attack("hook", "", "cp $C .git/hooks/pre-commit", "", ""),
    attack(
        "hook_by_link",
        "",
        "ln -sf $C .git/hooks/pre-commit",
        "",
        "",
    ),
    attack(
        "hook_after_rename",
        "",
        "mv .git/hooks .git/h && cp -r .git/h .git/hooks && cp $C .git/hooks/pre-commit",
        "",
        "",
    ),
    attack(
        "hook_where_none_were",
        "rm -rf .git/hooks",
        "mkdir .git/hooks; cp $C .git/hooks/pre-commit",
        "",
        ".git/hooks",
    ),
    attack(
        "hook_for_the_index",
        "rm -rf .git/hooks",
        "mkdir .git/hooks; cp $C .git/hooks/post-index-change; touch file",
        "",
        ".git/hooks",
    ),
    attack(
        "hooks_behind_a_link",
        "rm -rf .git/hooks",
        "mkdir h; cp $C h/pre-commit; ln -s ../h .git/hooks",
        "",
        ".git/hooks",
    ),
    attack(
        "hooks_that_the_repository_names",
        "git config core.hooksPath .githooks; mkdir .githooks; touch .githooks/x",
        "cp $C .githooks/pre-commit",
        "",
        "",
    ),
    attack(
        "hooks_that_the_repository_names_and_were_absent",
        "git config core.hooksPath .githooks",
        "mkdir .githooks; cp $C .githooks/pre-commit",
        "",
        ".githooks",
    ),
    attack(
        "hooks_that_the_user_names",
        "git config --global core.hooksPath .githooks; mkdir .githooks; touch .githooks/x",
        "cp $C .githooks/pre-commit",
        "",
        "",
    ),
    attack(
        "hooks_that_the_user_names_and_were_absent",
        "git config --global core.hooksPath .githooks",
        "mkdir .githooks; cp $C .githooks/pre-commit",
        "",
        ".githooks",
    ),
    attack(
        "hook_of_husky",
        "git config core.hooksPath .husky/_; mkdir -p .husky/_; touch .husky/x",
        "cp $C .husky/_/pre-commit",
        "",
        "",
    ),
];

/// Files that tell git where something is.
const POINTERS: &[Attack] = &[
    attack(
        "common_directory",
        "",
        "cp -r .git evil; git config -f evil/config core.fsmonitor $C; echo ../evil > .git/commondir",
        "",
        ".git/commondir",
    ),
    attack(
        "configuration_of_the_worktree",
        "git config extensions.worktreeConfig true",
        "git config -f .git/config.worktree core.fsmonitor $C",
        "",
        ".git/config.worktree",
    ),
    attack(
        "included_file_that_was_absent",
        "git config include.path ../extra.conf",
        "git config -f extra.conf core.fsmonitor $C",
        "",
        "extra.conf",
    ),
    attack(
        "included_file",
        "git config include.path ../extra.conf; git config -f extra.conf x.y z",
        "git config -f extra.conf core.fsmonitor $C",
        "",
        "",
    ),
    attack(
        "git_file_rewritten",
        "mv .git ../separate; echo gitdir: $P/../separate > .git",
        "git init -q --bare evil; git config -f evil/config core.fsmonitor $C; git config -f evil/config core.bare false; echo gitdir: $P/evil > .git",
        "",
        "",
    ),
    attack(
        "git_file_below",
        "",
        "git init -q evil; git -C evil config core.fsmonitor $C; mv evil/.git d; mkdir sub; echo gitdir: ../d > sub/.git",
        "cd sub && git status",
        "d/config",
    ),
    attack(
        "git_link_below",
        "",
        "git init -q evil; git -C evil config core.fsmonitor $C; mv evil/.git d; mkdir sub; ln -s ../d sub/.git",
        "cd sub && git status",
        "d/config",
    ),
    attack(
        "git_file_into_the_agents_home",
        "",
        "git init -q ~/evil; git -C ~/evil config core.fsmonitor $C; mkdir sub; echo gitdir: $HOST_HOME/evil/.git > sub/.git",
        "cd sub && git status",
        "sub/.git",
    ),
    attack(
        "git_link_into_the_agents_home",
        "",
        "git init -q ~/evil; git -C ~/evil config core.fsmonitor $C; mkdir sub; ln -s $HOST_HOME/evil/.git sub/.git",
        "cd sub && git status",
        "sub/.git",
    ),
    attack(
        "git_file_into_the_objects",
        "",
        "git init -q evil; git -C evil config core.fsmonitor $C; mv evil/.git .git/objects/e; mkdir sub; echo gitdir: ../.git/objects/e > sub/.git",
        "cd sub && git status",
        "sub/.git",
    ),
    attack(
        "worktree_with_a_configuration",
        "git config extensions.worktreeConfig true; git worktree add -q wt",
        "git config -f .git/worktrees/wt/config.worktree core.fsmonitor $C",
        "cd wt && git status",
        ".git/worktrees/wt/config.worktree",
    ),
    attack(
        "worktree_of_another_repository",
        "git worktree add -q wt",
        "cp -r .git evil; git config -f evil/config core.fsmonitor $C; echo ../../../evil > .git/worktrees/wt/commondir",
        "cd wt && git status",
        "",
    ),
    attack(
        "worktree_made_by_hand",
        "",
        "cp -r .git evil; git config -f evil/config core.fsmonitor $C; git worktree add -q wt; echo ../../../evil > .git/worktrees/wt/commondir",
        "cd wt && git status",
        "evil/config",
    ),
    attack(
        "worktree_moved",
        "git worktree add -q wt",
        "git init -q e; git -C e config core.fsmonitor $C; mv wt w && cp -r w wt && echo gitdir: $P/e/.git > wt/.git",
        "cd wt && git status",
        "",
    ),
];

/// Repositories below the project's own.
const NESTED: &[Attack] = &[
    attack(
        "made_by_the_agent",
        "",
        "git init -q sub; git -C sub config core.fsmonitor $C",
        "cd sub && git status",
        "sub/.git/config",
    ),
    attack(
        "made_twelve_deep",
        "",
        "git init -q a/b/c/d/e/f/g/h/i/j/k/l; git -C a/b/c/d/e/f/g/h/i/j/k/l config core.fsmonitor $C",
        "cd a/b/c/d/e/f/g/h/i/j/k/l && git status",
        "a/b/c/d/e/f/g/h/i/j/k/l/.git/config",
    ),
    attack(
        "made_with_a_hook",
        "",
        "git init -q sub; cp $C sub/.git/hooks/pre-commit",
        "cd sub && git commit -qm x --allow-empty",
        "sub/.git/hooks",
    ),
    attack(
        "made_with_a_linked_configuration",
        "",
        "git init -q sub; git config -f conf core.fsmonitor $C; ln -sf ../../conf sub/.git/config",
        "cd sub && git status",
        "sub/.git/config",
    ),
    attack(
        "in_the_index_of_the_outer_one",
        "",
        "git init -q sub; git -C sub commit -qm x --allow-empty; git add sub; git -C sub config core.fsmonitor $C",
        "",
        "sub/.git/config",
    ),
    attack(
        "with_a_hook_in_the_index_of_the_outer_one",
        "",
        "git init -q sub; touch sub/f; git -C sub add f; git -C sub commit -qm x; git add sub; \
        cp $C sub/.git/hooks/post-index-change; sleep 0.01; touch sub/f",
        "git add sub; git -C sub status",
        "sub/.git/hooks",
    ),
    attack(
        "that_was_there",
        "git init -q sub",
        "git -C sub config core.fsmonitor $C",
        "cd sub && git status",
        "",
    ),
    attack(
        "that_was_there_twelve_deep",
        "git init -q a/b/c/d/e/f/g/h/i/j/k/l",
        "mv a x; cp -r x a; git -C a/b/c/d/e/f/g/h/i/j/k/l config core.fsmonitor $C",
        "cd a/b/c/d/e/f/g/h/i/j/k/l && git status",
        "",
    ),
    attack(
        "that_was_there_with_a_hook",
        "git init -q sub",
        "cp $C sub/.git/hooks/pre-commit",
        "cd sub && git commit -qm x --allow-empty",
        "",
    ),
    attack(
        "that_was_there_and_is_thrown_away",
        "git init -q sub",
        "rm -rf sub; git init -q sub; git -C sub config core.fsmonitor $C",
        "cd sub && git status",
        "",
    ),
    attack(
        "among_dependencies",
        "git init -q node_modules/x",
        "git -C node_modules/x config core.fsmonitor $C",
        "cd node_modules/x && git status",
        "node_modules/x/.git/config",
    ),
    attack(
        "submodule",
        "git -c protocol.file.allow=always submodule --quiet add $REMOTE sub; git commit -qm sub",
        "git -C sub config core.fsmonitor $C; printf '[core]\\n\\tfsmonitor = %s\\n' $C >> .git/modules/sub/config",
        "",
        "",
    ),
    attack(
        "submodule_that_leads_elsewhere",
        "git -c protocol.file.allow=always submodule --quiet add $REMOTE sub; git commit -qm sub",
        "git init -q e; git -C e config core.fsmonitor $C; echo gitdir: ../e/.git > sub/.git",
        "",
        "",
    ),
    attack(
        "submodule_made_by_the_agent",
        "",
        "git clone -q . sub; git add sub; mkdir -p .git/modules; mv sub/.git .git/modules/sub; echo gitdir: ../.git/modules/sub > sub/.git; \
        git config -f .git/modules/sub/config core.fsmonitor $C",
        "",
        ".git/modules/sub/config",
    ),
    attack(
        "repository_where_none_was",
        "rm -rf .git",
        "git init -q .; git config core.fsmonitor $C",
        "",
        ".git/config",
    ),
    attack(
        "worktree_outside_the_project",
        "",
        "git init -q sub; git -C sub config core.worktree /; git -C sub config core.fsmonitor $C",
        "cd sub && git status",
        "core.worktree",
    ),
];

/// Directories that look like a repository without a work tree.
const BARE: &[Attack] = &[
    attack(
        "planted_at_the_top",
        "rm -rf .git",
        "git init -q e; mv e/.git/* .; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = w\\n\\tfsmonitor = %s\\n' $C > config; mkdir w",
        "",
        "config",
    ),
    attack(
        "planted_below",
        "",
        "mkdir sub; git init -q e; mv e/.git/* sub; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = w\\n\\tfsmonitor = %s\\n' $C > sub/config; mkdir sub/w",
        "cd sub && git status",
        "sub/config",
    ),
    attack(
        "planted_below_with_links",
        "",
        "mkdir sub; cp .git/HEAD sub; ln -s ../.git/objects ../.git/refs sub; printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = w\\n\\tfsmonitor = %s\\n' $C > sub/config; mkdir sub/w",
        "cd sub && git status",
        "sub/config",
    ),
    attack(
        "hidden_in_a_common_directory",
        "",
        "mkdir sub c; cp .git/HEAD sub; cp -r .git/objects .git/refs c; echo ../c > sub/commondir; git config -f c/config alias.st \"!$C\"",
        "cd sub && git st",
        "c/config",
    ),
    attack(
        "that_was_there",
        "git init -q --bare sub",
        "printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = w\\n\\tfsmonitor = %s\\n' $C > sub/config; mkdir sub/w",
        "cd sub && git status",
        "",
    ),
];

/// What a user does in a repository, and with a terminal where git asks for one.
const USUAL: &str =
    "git status; git diff; git log -1; git commit -qam x --allow-empty; git fetch; git status";

/// Makes the scene's project a real repository with two commits and a remote on this machine; gives the canary.
fn prepare(scene: &Scene, attack: &Attack) -> String {
    let canary = scene.file(
        "home/work/project/canary",
        format!("#!/bin/sh\necho fired >> {}\n", scene.path("marker")),
    );
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
    std::fs::set_permissions(&canary, mode).unwrap();
    let script = format!(
        "set -e; rm -rf .git; git config --global user.name t; git config --global user.email t@example.com; \
         git config --global init.defaultBranch main; git init -q .; git add file; git commit -qm one; echo two >> file; \
         git commit -qam two; git clone -q --bare . $REMOTE; git remote add origin $REMOTE; git fetch -q; {}",
        attack.setup
    );
    host(scene, &script).assert_success();
    // The control of the control: nothing fires by itself.
    let _ = host(scene, &format!("{USUAL}; (:; {})", attack.host));
    assert!(
        !exists(scene.path("marker").as_ref()),
        "{} fires unplanted",
        attack.name
    );
    let _ = host(scene, "git checkout -q -f .").code();
    canary.to_str().unwrap().to_owned()
}

fn host(scene: &Scene, script: &str) -> rcc_testkit::world::Output {
    let command = scene.command("sh").args(["-c", script]);
    command
        .env("REMOTE", scene.path("remote.git"))
        .env("P", scene.project())
        .env("GIT_TERMINAL_PROMPT", "0")
        // The settings win over these two.
        .env("PAGER", "cat")
        .env("EDITOR", "true")
        .output()
}

fn plant(attack: &Attack, canary: &str, scene: &Scene) -> String {
    format!(
        "C={canary}; P={}; HOST_HOME={}; export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.com GIT_COMMITTER_NAME=t \
         GIT_COMMITTER_EMAIL=t@example.com\n{}\ntrue",
        scene.path("home/work/project"),
        scene.agent_home().display(),
        attack.plant
    )
}

/// What fails of one attack; nothing when it is stopped and its control fires.
fn judge(group: &str, attack: &Attack) -> Option<String> {
    let marker = |scene: &Scene| exists(scene.path("marker").as_ref());
    let usual = format!("{USUAL}; (:; {})", attack.host);

    let control = Scene::new(&format!("{group}_{}_control", attack.name))?;
    let canary = prepare(&control, attack);
    std::fs::create_dir_all(control.agent_home()).unwrap();
    control.world.give_to_user(&control.base);
    let home = control.agent_home();
    let script = plant(attack, &canary, &control).replace("~/", &format!("{}/", home.display()));
    let planted = host(&control, &script);
    let seen = host(&control, &usual);
    if !marker(&control) {
        return Some(format!(
            "{}: the control does not fire\n{planted}\n{seen}",
            attack.name
        ));
    }

    let scene = Scene::new(&format!("{group}_{}", attack.name))?;
    let canary = prepare(&scene, attack);
    let output = scene.sh(&["-n"], &plant(attack, &canary, &scene));
    let seen = host(&scene, &usual);
    let mut failure = String::new();
    if marker(&scene) {
        write!(
            failure,
            "{}: git on the host ran it\n{output}\n{seen}",
            attack.name
        )
        .unwrap();
    }
    if !output.stderr_text().contains(attack.told) {
        write!(
            failure,
            "{}: {} is not told\n{output}",
            attack.name, attack.told
        )
        .unwrap();
    }
    (!failure.is_empty()).then_some(failure)
}

fn judge_all(group: &str, attacks: &[Attack]) {
    if !rcc_testkit::require("git") || scene::world().is_none() {
        return;
    }
    let failures: Vec<String> = attacks
        .iter()
        .filter_map(|attack| judge(group, attack))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} attacks\n{}",
        failures.len(),
        attacks.len(),
        failures.join("\n")
    );
}

#[test]
fn settings_of_the_repository() {
    let (first, second) = SETTINGS.split_at(SETTINGS.len() / 2);
    judge_all("settings", first);
    judge_all("settings", second);
}

#[test]
fn hooks_of_the_repository() {
    judge_all("hooks", HOOKS);
}

#[test]
fn files_that_lead_git_elsewhere() {
    judge_all("pointers", POINTERS);
}

#[test]
fn repositories_below_the_project() {
    judge_all("nested", NESTED);
}

#[test]
fn bare_repositories() {
    judge_all("bare", BARE);
}

/// The number that is spoken of elsewhere.
#[test]
fn there_are_at_least_forty() {
    let count = SETTINGS.len() + HOOKS.len() + POINTERS.len() + NESTED.len() + BARE.len();
    assert!(count >= 40, "{count}");
}

/// What runs nothing by itself stays where it is and is told: objects taken from elsewhere, attributes, and a workflow.
#[test]
fn what_runs_nothing_is_told_and_left() {
    if !rcc_testkit::require("git") {
        return;
    }
    let Some(scene) = Scene::new("told") else {
        return;
    };
    let script = "echo /elsewhere/objects > .git/objects/info/alternates; echo '* filter=x' > .git/info/attributes; \
                  mkdir -p .github/workflows; echo x > .github/workflows/ci.yml";
    let output = scene.sh(&["-n"], script);
    let told = output.assert_success().stderr_text();
    for line in [
        ".git/objects/info/alternates was changed during the run: git takes objects",
        ".git/info/attributes was changed during the run: it attaches filter programs",
        "  .github/workflows (the forge runs it",
    ] {
        assert!(told.contains(line), "{line:?}\n{output}");
    }
    assert!(exists(
        &scene.project().join(".git/objects/info/alternates")
    ));
    // A change of what was there is told as well; reading is not.
    let output = scene.sh(&["-n"], "cat .github/workflows/ci.yml");
    assert!(!output.stderr_text().contains("rcc:"), "{output}");
    let output = scene.sh(&["-n"], "echo y >> .github/workflows/ci.yml");
    assert!(
        output.stderr_text().contains(".github/workflows"),
        "{output}"
    );
}

/// A file that is replaced outside during a run is not covered inside any more (`rename(2)` takes the mounts of other
/// namespaces away). What the agent then writes cannot be told from the user's own words, so it is told and left.
#[test]
fn a_configuration_that_the_user_replaces_during_a_run_is_told() {
    if !rcc_testkit::require("git") {
        return;
    }
    let Some(scene) = Scene::new("replaced") else {
        return;
    };
    let script = "printf x >> .git/config 2>/dev/null && exit 1; echo up; until [ -e go ]; do sleep 0.01; done; \
                  printf '[core]\\n\\tpager = evil\\n' >> .git/config; echo written";
    let running = scene.run(&["-n"]).args(["sh", "-c", script]).spawn();
    running.wait_for_text("up");
    // It closes the hole within milliseconds; here the agent is to be faster.
    let guard = GuardProcess::of(&scene, &running);
    guard.stop();
    let user = scene
        .command("git")
        .args(["config", "user.name", "x"])
        .output();
    user.assert_success();
    scene.file("home/work/project/go", "");
    running.wait_for_text("written");
    guard.go_on();
    let output = running.wait();
    let told = ".git/config was changed during the run: core.pager = evil";
    assert!(
        output.assert_success().stderr_text().contains(told),
        "{output}"
    );
}
