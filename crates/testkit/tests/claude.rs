//! Real Claude Code works through one prompt against the stand-in, without a sandbox: the reference for the same inside.
//!
//! `RCC_TEST_CLAUDE` is the path of its executable, which is installed from its npm package outside the repository.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use rcc_testkit::world::{User, World, WorldConfig};
use rcc_testkit::{messages_api, require_that};

#[test]
fn claude_code_writes_runs_and_fetches() {
    let claude = std::env::var_os("RCC_TEST_CLAUDE")
        .map(PathBuf::from)
        .filter(|path| path.is_file());
    if !require_that("claude-code", claude.is_some()) {
        return;
    }
    let config = if rustix::process::geteuid().is_root() {
        WorldConfig::default().user(User::ordinary())
    } else {
        WorldConfig::default()
    };
    let Some(world) = World::with_or_skip(config) else {
        return;
    };
    let project = world.scratch_directory("project");
    let prompt = format!(
        "WRITE: {}/made.txt written by the agent\nRUN: id -u > ran.txt; echo done-7\nFETCH: http://allowed.example/from-claude\n\
         FETCH: http://missing.example/",
        project.display()
    );
    let output = world
        .host_command(claude.unwrap())
        .args(["-p", &prompt, "--dangerously-skip-permissions"])
        .envs(messages_api::claude_variables(&world))
        .current_dir(&project)
        .timeout(std::time::Duration::from_secs(180))
        .output();
    output.assert_success();
    let text = output.stdout_text();
    assert!(text.contains("FINAL["), "{output}");
    assert!(text.contains("[done-7]"), "{output}");
    assert!(text.contains("status=200"), "{output}");
    // curl(1): 6 is a name that does not resolve.
    assert!(text.contains("exit=6"), "{output}");
    assert_eq!(
        std::fs::read_to_string(project.join("made.txt")).unwrap(),
        "written by the agent\n"
    );
    assert_eq!(
        std::fs::read_to_string(project.join("ran.txt"))
            .unwrap()
            .trim(),
        world.user().uid.to_string()
    );
    assert!(
        world
            .http_requests()
            .iter()
            .any(|request| request.target == "/from-claude")
    );
    assert!(
        world
            .messages_requests()
            .iter()
            .any(|request| request["body"]["stream"] == true)
    );
}
