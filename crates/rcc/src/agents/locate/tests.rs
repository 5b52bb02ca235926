//! Layouts of the usual installers below a made-up home.

use super::*;
use rcc_host::{Account, Directories};
use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Home {
    path: PathBuf,
}

impl Home {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("rcc-locate-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("project")).unwrap();
        Self {
            path: std::fs::canonicalize(path).unwrap(),
        }
    }

    fn program(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    fn link(&self, target: &str, name: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn find(&self, name: &str, path: &[&str]) -> Option<Located> {
        let path = std::env::join_paths(path.iter().map(|entry| self.path.join(entry))).unwrap();
        let environment = BTreeMap::from([("PATH".into(), path)]);
        let context = Context {
            account: Account {
                user: rcc_plan::User {
                    uid: 1,
                    gid: 1,
                    name: "ann".into(),
                    shell: "/bin/sh".into(),
                },
                home: self.path.clone(),
                other_homes: Vec::new(),
            },
            directories: Directories::from_environment(&environment, &self.path),
            environment,
        };
        located(&context, &self.path.join("project"), name)
    }

    fn mounted(&self, found: &Located) -> Vec<String> {
        let relative = |path: &Path| {
            path.strip_prefix(&self.path)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        };
        found
            .toolchains
            .iter()
            .map(|toolchain| relative(&toolchain.path))
            .collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[test]
fn a_version_manager_with_its_own_node_is_mounted_as_a_whole() {
    let home = Home::new("nvm");
    home.program(".nvm/versions/node/v20/bin/node", "\x7fELF");
    home.program(
        ".nvm/versions/node/v20/lib/node_modules/@x/tool/cli.js",
        "#!/usr/bin/env node\n",
    );
    home.link(
        "../lib/node_modules/@x/tool/cli.js",
        ".nvm/versions/node/v20/bin/tool",
    );
    let found = home.find("tool", &[".nvm/versions/node/v20/bin"]).unwrap();
    assert_eq!(home.mounted(&found), [".nvm/versions/node/v20"]);
    assert_eq!(found.path, [home.path.join(".nvm/versions/node/v20/bin")]);
    assert!(found.program.ends_with("cli.js"));
}

#[test]
fn a_native_program_behind_a_link_is_mounted_alone() {
    let home = Home::new("native");
    home.program(".local/share/tool/versions/2.1", "\x7fELF");
    home.link("../share/tool/versions/2.1", ".local/bin/tool");
    let found = home.find("tool", &[".local/bin"]).unwrap();
    assert_eq!(home.mounted(&found), [".local/share/tool/versions/2.1"]);
    assert!(!found.toolchains[0].directory);
}

#[test]
fn modules_in_the_home_do_not_grant_the_home() {
    let home = Home::new("modules");
    home.program("node_modules/tool/cli.js", "#!/bin/sh\n");
    home.link("../tool/cli.js", "node_modules/.bin/tool");
    let found = home.find("tool", &["node_modules/.bin"]).unwrap();
    assert_eq!(home.mounted(&found), ["node_modules"]);
    // A library directory beside a bin directory in the home itself.
    home.program("bin/other", "\x7fELF");
    std::fs::create_dir(home.path.join("lib")).unwrap();
    let found = home.find("other", &["bin"]).unwrap();
    assert_eq!(home.mounted(&found), ["bin/other"]);
}

#[test]
fn a_python_environment_brings_its_interpreter() {
    let home = Home::new("venv");
    home.program(".local/share/uv/python/3.12/bin/python3.12", "\x7fELF");
    std::fs::create_dir(home.path.join(".local/share/uv/python/3.12/lib")).unwrap();
    let python = home.path.join(".venvs/aider/bin/python");
    home.program(
        ".venvs/aider/bin/aider",
        &format!("#!{}\n", python.display()),
    );
    std::fs::write(home.path.join(".venvs/aider/pyvenv.cfg"), "").unwrap();
    symlink(
        home.path.join(".local/share/uv/python/3.12/bin/python3.12"),
        &python,
    )
    .unwrap();
    home.link("../../.venvs/aider/bin/aider", ".local/bin/aider");
    let found = home.find("aider", &[".local/bin"]).unwrap();
    assert_eq!(
        home.mounted(&found),
        [".local/share/uv/python/3.12", ".venvs/aider"]
    );
}

#[test]
fn a_program_in_the_project_is_never_taken() {
    let home = Home::new("project");
    home.program("project/node_modules/.bin/tool", "\x7fELF");
    home.link("../../project/node_modules/.bin/tool", ".local/bin/tool");
    assert_eq!(
        home.find("tool", &["project/node_modules/.bin", ".local/bin"]),
        None
    );
    home.program("tools/tool", "\x7fELF");
    let found = home
        .find(
            "tool",
            &["project/node_modules/.bin", ".local/bin", "tools"],
        )
        .unwrap();
    assert_eq!(home.mounted(&found), ["tools/tool"]);
}
