//! Homes as version managers and installers leave them.

use super::*;
use std::os::unix::fs::symlink;

/// A home that disappears with the value.
struct Home {
    path: PathBuf,
    environment: BTreeMap<OsString, OsString>,
}

impl Home {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("rcc-toolchains-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self {
            path: std::fs::canonicalize(path).unwrap(),
            environment: BTreeMap::new(),
        }
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        path
    }

    fn link(&self, name: &str, target: &str) {
        let path = self.path.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    fn search(&mut self, path: &[&str]) -> Toolchains {
        let entries = path.iter().map(|entry| self.path.join(entry));
        let value = std::env::join_paths(entries).unwrap();
        self.environment.insert("PATH".into(), value);
        toolchains_on_path(self.surroundings())
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            home: &self.path,
            writable: &[],
            guarded: &[],
            environment: &self.environment,
        }
    }

    /// Names of the mounts relative to the home.
    #[track_caller]
    fn assert_mounts(&mut self, path: &[&str], expected: &[&str]) -> Toolchains {
        let found = self.search(path);
        let names: Vec<&str> = found
            .mounts
            .iter()
            .map(|mount| {
                mount
                    .path
                    .strip_prefix(&self.path)
                    .unwrap()
                    .to_str()
                    .unwrap()
            })
            .collect();
        assert_eq!(names, expected);
        found
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[test]
fn a_node_version_is_mounted_as_a_whole_through_the_managers_links() {
    let mut home = Home::new("nvm");
    home.file(".nvm/versions/node/v22.1.0/bin/node");
    home.directory(".nvm/versions/node/v22.1.0/lib/node_modules");
    home.link(".nvm/current", "versions/node/v22.1.0");
    let found = home.assert_mounts(&[".nvm/current/bin"], &[".nvm/versions/node/v22.1.0"]);
    assert_eq!(
        found.path,
        [home.path.join(".nvm/versions/node/v22.1.0/bin")]
    );
    assert!(found.mounts[0].directory);
}

#[test]
fn a_native_installer_needs_its_file_and_the_directory_of_the_link() {
    let mut home = Home::new("native");
    home.file(".local/share/claude/versions/2.0.1");
    home.file(".local/share/keyrings/login.keyring");
    home.link(".local/bin/claude", "../share/claude/versions/2.0.1");
    home.directory(".local/lib");
    let found = home.assert_mounts(
        &[".local/bin"],
        &[".local/bin", ".local/share/claude/versions/2.0.1"],
    );
    assert!(!found.mounts[1].directory);
    assert_eq!(found.skipped, []);
}

#[test]
fn every_link_of_a_chain_is_there() {
    let mut home = Home::new("chain");
    home.file(".local/share/tool/versions/2/tool");
    home.link(".local/share/tool/current/tool", "../versions/2/tool");
    home.link(".local/bin/tool", "../share/tool/current/tool");
    home.assert_mounts(
        &[".local/bin"],
        &[
            ".local/bin",
            ".local/share/tool/current",
            ".local/share/tool/versions/2/tool",
        ],
    );
}

#[test]
fn cargo_gets_its_programs_and_rustup_but_no_credentials() {
    let mut home = Home::new("cargo");
    home.file(".cargo/bin/rustup");
    home.link(".cargo/bin/cargo", "rustup");
    home.file(".cargo/credentials.toml");
    home.file(".cargo/config.toml");
    home.directory(".rustup/toolchains");
    let found = home.assert_mounts(&[".cargo/bin"], &[".cargo/bin", ".rustup"]);
    let rustup = home.path.join(".rustup").into_os_string();
    assert_eq!(found.mounts[1].env, [("RUSTUP_HOME".to_owned(), rustup)]);
}

#[test]
fn managers_with_shims_are_mounted_as_a_whole() {
    let mut home = Home::new("shims");
    home.file(".pyenv/shims/python");
    home.file(".pyenv/versions/3.13/bin/python");
    home.file(".volta/bin/volta-shim");
    home.directory("managers/ruby/shims");
    let root = home.path.join("managers/ruby");
    home.environment
        .insert("RBENV_ROOT".into(), root.clone().into());
    let found = home.assert_mounts(
        &[
            ".pyenv/shims",
            ".pyenv/bin",
            ".volta/bin",
            "managers/ruby/shims",
        ],
        &[".pyenv", ".volta", "managers/ruby"],
    );
    assert_eq!(
        found.mounts[2].env,
        [("RBENV_ROOT".to_owned(), root.into())]
    );
}

#[test]
fn directories_of_plain_programs_are_mounted_alone() {
    let mut home = Home::new("plain");
    home.file("go/bin/gopls");
    home.directory("go/pkg");
    home.file(".bun/bin/bun");
    home.file(".deno/bin/deno");
    home.file("bin/script");
    home.assert_mounts(
        &["go/bin", ".bun/bin", ".deno/bin", "bin", "missing/bin"],
        &[".bun/bin", ".deno/bin", "bin", "go/bin"],
    );
}

#[test]
fn python_tools_bring_their_environment_and_its_interpreter() {
    let mut home = Home::new("python");
    home.file(".local/share/uv/tools/black/bin/black");
    home.file(".local/share/uv/tools/black/pyvenv.cfg");
    home.file(".local/share/uv/python/cpython-3.13/bin/python3.13");
    home.directory(".local/share/uv/python/cpython-3.13/lib");
    home.link(
        ".local/share/uv/tools/black/bin/python",
        "../../../python/cpython-3.13/bin/python3.13",
    );
    home.link(".local/bin/black", "../share/uv/tools/black/bin/black");
    home.assert_mounts(
        &[".local/bin"],
        &[
            ".local/bin",
            ".local/share/uv/python/cpython-3.13",
            ".local/share/uv/tools/black",
        ],
    );
}

#[test]
fn node_programs_bring_their_package_alone() {
    let mut home = Home::new("npm");
    home.file(".local/lib/node_modules/@scope/agent/dist/cli.js");
    home.file(".local/lib/node_modules/other/cli.js");
    home.link(
        ".local/bin/agent",
        "../lib/node_modules/@scope/agent/dist/cli.js",
    );
    home.assert_mounts(
        &[".local/bin"],
        &[".local/bin", ".local/lib/node_modules/@scope/agent"],
    );
}

#[test]
fn the_home_what_is_above_it_and_shared_directories_are_never_mounted() {
    let mut home = Home::new("toomuch");
    home.directory(".local/share");
    home.directory("lib"); // makes the home look like a prefix
    home.file("bin/script");
    let found = home.assert_mounts(&["", ".local/share", ".config", "bin"], &["bin"]);
    assert_eq!(
        found.skipped,
        [
            (home.path.clone(), Skipped::TooMuch),
            (home.path.join(".local/share"), Skipped::TooMuch)
        ]
    );
    // A PATH entry above the home is not below it: it stays on PATH and is not mounted.
    let above = home.path.parent().unwrap().to_owned();
    home.environment.insert("PATH".into(), above.clone().into());
    let found = toolchains_on_path(home.surroundings());
    assert_eq!((found.mounts, found.path), (vec![], vec![above]));
}

#[test]
fn directories_with_credentials_are_never_mounted() {
    let mut home = Home::new("credentials");
    home.file(".ssh/bin/tool");
    home.file(".config/gcloud/sdk/bin/gcloud");
    home.file("work/bin/tool");
    home.file("work/bin/.env");
    home.file("prefix/bin/tool");
    home.directory("prefix/lib");
    home.file("prefix/.netrc");
    home.file("bin/steal");
    home.link("bin/key", "../.ssh/id_ed25519");
    home.file(".ssh/id_ed25519");
    let found = home.assert_mounts(
        &[
            ".ssh/bin",
            ".config/gcloud/sdk/bin",
            "work/bin",
            "prefix/bin",
            "bin",
        ],
        &["bin", "prefix/bin"],
    );
    let reasons: Vec<Skipped> = found.skipped.iter().map(|(_, reason)| *reason).collect();
    assert_eq!(reasons, [Skipped::Credentials; 3]);
}

#[test]
fn rccs_own_directories_and_the_project_are_left_out() {
    let mut home = Home::new("guarded");
    home.file("project/node_modules/.bin/tsc");
    home.file(".local/share/rcc/agents/bin/claude");
    let project = home.path.join("project");
    let data = home.path.join(".local/share/rcc");
    home.search(&["project/node_modules/.bin", ".local/share/rcc/agents/bin"]);
    let found = toolchains_on_path(Surroundings {
        writable: &[&project],
        guarded: &[&data],
        ..home.surroundings()
    });
    assert_eq!(found.mounts, []);
    assert_eq!(found.skipped, [(data.join("agents/bin"), Skipped::Guarded)]);
    assert_eq!(found.path.len(), 2);
}

/// An agent of an earlier run has put links where it could; followed, they would show it any directory of the home.
#[test]
fn links_where_agents_write_are_not_followed() {
    let mut home = Home::new("planted");
    home.file("private/diary");
    home.file("private/tool");
    home.link("project/bin", "../private");
    home.link("granted/bin/x", "../../private/diary");
    home.link("by-way", "project/bin");
    home.link("tools/x", "../project/y");
    home.link("project/y", "../private/tool");
    home.search(&["project/bin", "granted/bin", "by-way", "tools"]);
    let (project, granted) = (home.path.join("project"), home.path.join("granted"));
    let found = toolchains_on_path(Surroundings {
        writable: &[&project, &granted],
        ..home.surroundings()
    });
    let mounts: Vec<&Path> = found
        .mounts
        .iter()
        .map(|mount| mount.path.as_path())
        .collect();
    assert_eq!(mounts, [home.path.join("tools")]);
    // The control: where nobody else writes, they are.
    let all = toolchains_on_path(home.surroundings());
    assert!(
        all.mounts
            .iter()
            .any(|mount| mount.path == home.path.join("private"))
    );
}

#[test]
fn relative_entries_and_loops_are_ignored() {
    let mut home = Home::new("loops");
    home.link("bin/a", "b");
    home.link("bin/b", "a");
    home.environment.insert("PATH".into(), "bin:.:".into());
    assert_eq!(
        toolchains_on_path(home.surroundings()),
        Toolchains::default()
    );
    home.assert_mounts(&["bin"], &["bin"]);
}

#[test]
fn one_program_can_be_asked_for() {
    let home = Home::new("program");
    let file = home.file(".local/share/claude/versions/2.0.1");
    home.link(".local/bin/claude", "../share/claude/versions/2.0.1");
    let found = toolchain_of(&home.path.join(".local/bin/claude"), home.surroundings());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path, file);
}

#[test]
fn joining_leaves_no_mount_inside_another_and_keeps_variables() {
    let mount = |path: &str, variable: &str| PathToolchain {
        path: path.into(),
        directory: true,
        env: vec![(variable.to_owned(), "x".into())],
    };
    let found = Toolchains {
        mounts: vec![
            mount("/h/a", "A"),
            mount("/h/b/c", "C"),
            mount("/h/bb", "D"),
        ],
        ..Toolchains::default()
    };
    let joined = found.joined_with(vec![mount("/h/b", "B"), mount("/h/a/x", "X")]);
    let paths: Vec<&Path> = joined.iter().map(|mount| mount.path.as_path()).collect();
    assert_eq!(
        paths,
        [Path::new("/h/a"), Path::new("/h/b"), Path::new("/h/bb")]
    );
    let names: Vec<&str> = joined[1]
        .env
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(names, ["B", "C"]);
}
