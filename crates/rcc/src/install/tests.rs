//! Installs from a stand-in of the npm client, a script that hands out archives made by the test.

use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::os::unix::fs::PermissionsExt as _;

/// A directory with a stand-in client; packages are `name -> (file in it, archive)`.
struct World {
    base: PathBuf,
}

impl World {
    fn new(name: &str) -> Self {
        let base = std::env::temp_dir().join(format!("rcc-install-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("registry")).unwrap();
        // `npm view … -- SPEC FIELDS` prints registry/SPEC.json; `npm pack … -- SPEC` copies registry/SPEC.tgz.
        let script = format!(
            "#!/bin/sh\naction=$1; while [ \"$1\" != -- ]; do [ \"$1\" = --pack-destination ] && dest=$2; shift; done\n\
             spec=$(printf %s \"$2\" | tr / +)\ncase $action in\n\
             view) cat '{0}/registry/'\"$spec\".json;;\n pack) cp '{0}/registry/'\"$spec\".tgz \"$dest/\";;\nesac\n",
            base.display()
        );
        std::fs::write(base.join("npm"), script).unwrap();
        std::fs::set_permissions(base.join("npm"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { base }
    }

    fn data(&self) -> PathBuf {
        self.base.join("data")
    }

    fn publish(&self, spec: &str, extra: &str, files: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder
                .append_data(&mut header, format!("package/{name}"), *content)
                .unwrap();
        }
        let archive = builder.into_inner().unwrap().finish().unwrap();
        let integrity = integrity::tests_support::sri(&archive);
        let version = spec.rsplit('@').next().unwrap();
        let json = format!(r#"{{"version":"{version}","dist.integrity":"{integrity}"{extra}}}"#);
        let file = spec.replace('/', "+");
        let registry = self.base.join("registry");
        std::fs::write(registry.join(format!("{file}.tgz")), archive).unwrap();
        std::fs::write(registry.join(format!("{file}.json")), &json).unwrap();
        let latest = format!("{}@latest", spec.rsplit_once('@').unwrap().0).replace('/', "+");
        std::fs::write(registry.join(format!("{latest}.json")), &json).unwrap();
    }

    fn install(&self) -> Result<Installed, InstallError> {
        let wanted = Wanted {
            name: "tool",
            package: "@x/tool",
            command: "tool",
        };
        install(&self.data(), wanted, self.base.join("npm"))
    }

    fn publish_native(&self, version: &str) {
        let manifest =
            br#"{"bin":{"tool":"bin/tool.exe"},"scripts":{"postinstall":"touch /tmp/never"}}"#;
        let native = format!("@x/tool{}", platform());
        self.publish(
            &format!("@x/tool@{version}"),
            &format!(r#","optionalDependencies":{{"{native}":"{version}","@x/tool-other-cpu":"{version}"}}"#),
            &[("package.json", manifest), ("bin/tool.exe", b"#!/bin/sh\nexit 1\n")],
        );
        self.publish(
            &format!("{native}@{version}"),
            "",
            &[("tool", b"\x7fELF native")],
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

#[test]
fn the_native_program_takes_the_place_of_the_stub_and_nothing_is_left_over() {
    let world = World::new("native");
    world.publish_native("1.9.0");
    std::fs::create_dir_all(world.data().join("agents/.install-999/tree")).unwrap();
    std::fs::set_permissions(
        world.data().join("agents"),
        std::fs::Permissions::from_mode(0o700),
    )
    .unwrap();

    let found = world.install().unwrap();

    assert_eq!(found.version, "1.9.0");
    assert_eq!(
        std::fs::read(found.bin.join("tool")).unwrap(),
        b"\x7fELF native"
    );
    let mode = std::fs::metadata(found.bin.join("tool"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o111, 0o111);
    let left: Vec<String> = std::fs::read_dir(world.data().join("agents"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != ".lock")
        .collect();
    assert_eq!(left, ["tool"]);
}

#[test]
fn a_newer_version_is_chosen_by_number_not_by_letters() {
    let world = World::new("newer");
    world.publish_native("1.9.0");
    world.install().unwrap();
    world.publish_native("1.10.0");
    world.install().unwrap();
    assert_eq!(
        installed(&world.data(), "tool", "tool").unwrap().version,
        "1.10.0"
    );
    assert!(order("2.0.0-beta.1") < order("2.0.0"));
}

#[test]
fn a_changed_archive_is_refused_and_nothing_is_installed() {
    let world = World::new("changed");
    world.publish_native("1.0.0");
    let archive = world
        .base
        .join(format!("registry/@x+tool{}@1.0.0.tgz", platform()));
    let mut bytes = std::fs::read(&archive).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&archive, bytes).unwrap();
    let error = world.install().unwrap_err();
    assert!(
        matches!(
            error,
            InstallError::Integrity {
                source: IntegrityError::Mismatch { .. },
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(installed(&world.data(), "tool", "tool"), None);
}

#[test]
fn a_script_package_keeps_its_script_and_one_with_dependencies_is_refused() {
    let world = World::new("script");
    let files: &[(&str, &[u8])] = &[
        ("package.json", br#"{"bin":"./cli.js"}"#),
        ("cli.js", b"#!/usr/bin/env node\n"),
    ];
    world.publish("@x/tool@1.0.0", "", files);
    let found = world.install().unwrap();
    assert_eq!(
        std::fs::read(found.bin.join("tool")).unwrap(),
        b"#!/usr/bin/env node\n"
    );
    world.publish("@x/tool@1.1.0", r#","dependencies":{"left":"^1"}"#, files);
    assert!(matches!(
        world.install(),
        Err(InstallError::Dependencies { .. })
    ));
}

#[test]
fn a_program_outside_of_its_package_is_refused() {
    let world = World::new("outside");
    world.publish(
        "@x/tool@1.0.0",
        "",
        &[(
            "package.json",
            br#"{"bin":{"tool":"../../../../etc/passwd"}}"#,
        )],
    );
    assert!(matches!(world.install(), Err(InstallError::Program { .. })));
}

#[test]
fn names_and_versions_that_could_be_options_or_paths_are_refused() {
    for good in ["tool", "@x/tool", "@a-b/c.d_e"] {
        assert!(is_package(good), "{good}");
    }
    for bad in [
        "", "-g", "@x", "@x/", "../x", "a b", "@x/y/z", "X", "git+ssh", "https:x",
    ] {
        assert!(!is_package(bad), "{bad}");
    }
    for bad in ["", "latest", "^1.0.0", "../1", "1/2", "1 || 2"] {
        assert!(!is_version(bad), "{bad}");
    }
    assert!(is_exact("@openai/codex@0.1.0-linux-x64"));
    assert!(!is_exact("@openai/codex@^0.1.0"));
}
