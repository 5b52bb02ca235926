//! Tests with made-up homes: every place of a configuration, and every way in which an agent could have written one.

use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

struct Fake {
    base: PathBuf,
    environment: BTreeMap<OsString, OsString>,
}

impl Fake {
    fn new(name: &str) -> Self {
        let base =
            std::env::temp_dir().join(format!("rcc-registries-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("home/project")).unwrap();
        Self {
            base: std::fs::canonicalize(base).unwrap(),
            environment: BTreeMap::new(),
        }
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.base.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn env(&mut self, name: &str, value: impl Into<OsString>) {
        self.environment.insert(name.into(), value.into());
    }

    fn with<T>(&self, look: impl FnOnce(&Registries<'_>) -> T) -> T {
        let (home, project) = (self.base.join("home"), self.base.join("home/project"));
        look(&Registries {
            home: &home,
            environment: &self.environment,
            uid: rustix::process::geteuid().as_raw(),
            writable: &[&project],
            root: &self.base,
        })
    }

    fn rules(&self, manager: PackageManager) -> Vec<String> {
        let configured = self.with(|registries| registries.configured(manager));
        assert_eq!(configured.notes, Vec::<String>::new());
        let rules = configured
            .found
            .iter()
            .flat_map(|found| found.main.iter().flatten().chain(&found.others));
        rules
            .map(|rule| format!("{rule} {}", rule.origin))
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.base);
    }
}

#[test]
fn every_place_of_a_configuration_is_read() {
    let mut fake = Fake::new("places");
    fake.file("home/.npmrc", "registry=https://npm.example.com\n");
    fake.file("etc/npmrc", "@a:registry=https://global.example.com\n");
    fake.env("NPM_CONFIG_REGISTRY", "https://variable.example.com");
    let etc = fake.base.join("etc/npmrc");
    assert_eq!(
        fake.rules(PackageManager::Npm),
        [
            "variable.example.com:443 preset npm ($NPM_CONFIG_REGISTRY)".to_owned(),
            "npm.example.com:443 preset npm (~/.npmrc:1)".to_owned(),
            format!("global.example.com:443 preset npm ({}:1)", etc.display())
        ]
    );
    fake.file(
        "home/.cargo/config.toml",
        "[registries.a]\nindex = \"sparse+https://cargo.example.com/\"\n",
    );
    fake.env("CARGO_REGISTRIES_B_INDEX", "https://b.example.com");
    assert_eq!(
        fake.rules(PackageManager::Cargo),
        [
            "b.example.com:443 preset cargo ($CARGO_REGISTRIES_B_INDEX)",
            "cargo.example.com:443 preset cargo (~/.cargo/config.toml:2)"
        ]
    );
    fake.file(
        "home/.config/pip/pip.conf",
        "[global]\nindex-url=https://pypi.example.com\n",
    );
    fake.file(
        "home/.config/uv/uv.toml",
        "index-url = \"https://uv.example.com\"\n",
    );
    assert_eq!(
        fake.rules(PackageManager::Pip),
        [
            "pypi.example.com:443 preset pip (~/.config/pip/pip.conf:2)",
            "uv.example.com:443 preset pip (~/.config/uv/uv.toml:1)"
        ]
    );
    fake.file(
        "home/.config/go/env",
        "GOPROXY=https://go.example.com\nGOSUMDB=sum.example.com\n",
    );
    fake.env("GOSUMDB", "off");
    assert_eq!(
        fake.rules(PackageManager::Go),
        ["go.example.com:443 preset go (~/.config/go/env:1)"]
    );
    fake.file(
        "etc/apt/sources.list.d/b.sources",
        "URIs: http://deb.example.com\n",
    );
    fake.file("etc/apt/sources.list", "deb http://old.example.com x\n");
    fake.file(
        "etc/apt/sources.list.d/x.save",
        "deb http://no.example.com x\n",
    );
    assert_eq!(fake.rules(PackageManager::Apt).len(), 2);
    fake.file(
        "home/.m2/settings.xml",
        "<mirror><mirrorOf>*</mirrorOf><url>https://mvn.example.com</url></mirror>",
    );
    assert_eq!(
        fake.rules(PackageManager::Maven),
        ["mvn.example.com:443 preset maven (~/.m2/settings.xml:1)"]
    );
    fake.file("home/.gitconfig", "[url \"https://git.example.com/\"]\n");
    assert_eq!(
        fake.rules(PackageManager::Git),
        ["git.example.com:443 preset git (~/.gitconfig:1)"]
    );
}

#[test]
fn the_archives_of_an_index_count_only_for_an_index_that_is_configured() {
    let fake = Fake::new("archives");
    fake.file(
        "home/.cargo/registry/index/index.example.com-0123456789abcdef/config.json",
        r#"{"dl":"https://static.example.com/x"}"#,
    );
    fake.file(
        "home/.cargo/registry/index/evil.example.net-0123456789abcdef/config.json",
        r#"{"dl":"https://evil.example.net/x"}"#,
    );
    let index = rcc_spec::registries::endpoint("sparse+https://index.example.com/").unwrap();
    let found = fake.with(|registries| registries.cargo_archives(&[index]));
    let rules: Vec<String> = found
        .found
        .iter()
        .flat_map(|found| &found.others)
        .map(ToString::to_string)
        .collect();
    assert_eq!(rules, ["static.example.com:443"]);
}

/// Whatever way leads to it: what an agent can write has no say, and that is told.
#[test]
fn a_configuration_that_an_agent_could_have_written_does_not_count() {
    let evil = "registry=https://evil.example.net\n";
    let refused = |fake: &Fake| {
        let configured = fake.with(|registries| registries.configured(PackageManager::Npm));
        assert_eq!(configured.found, Vec::new(), "{configured:?}");
        assert_eq!(configured.notes.len(), 1, "{configured:?}");
        assert!(
            configured.notes[0].starts_with("preset npm: "),
            "{configured:?}"
        );
    };
    // A link into the project, and one that only passes through it.
    let fake = Fake::new("link");
    symlink(
        fake.file("home/project/npmrc", evil),
        fake.base.join("home/.npmrc"),
    )
    .unwrap();
    refused(&fake);
    let fake = Fake::new("way");
    fake.file("elsewhere/npmrc", evil);
    symlink(
        fake.base.join("elsewhere"),
        fake.base.join("home/project/way"),
    )
    .unwrap();
    symlink(
        fake.base.join("home/project/way/npmrc"),
        fake.base.join("home/.npmrc"),
    )
    .unwrap();
    refused(&fake);
    // A variable that names a file of the project.
    let mut fake = Fake::new("named");
    let path = fake.file("home/project/.npmrc", evil);
    fake.env("NPM_CONFIG_USERCONFIG", path);
    refused(&fake);
    // The variables of a script of npm, which come from the project's file.
    let mut fake = Fake::new("script");
    fake.env("npm_config_registry", "https://evil.example.net");
    assert_eq!(fake.rules(PackageManager::Npm).len(), 1, "the control");
    fake.env("npm_lifecycle_event", "start");
    refused(&fake);
    // Everybody can write to it.
    let fake = Fake::new("mode");
    let path = fake.file("home/.npmrc", evil);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).unwrap();
    refused(&fake);
    // The control: the same file where only the user writes.
    let fake = Fake::new("control");
    fake.file("home/.npmrc", evil);
    assert_eq!(fake.rules(PackageManager::Npm).len(), 1);
    // The project's own file is not read at all.
    let fake = Fake::new("own");
    fake.file("home/project/.npmrc", evil);
    assert_eq!(fake.rules(PackageManager::Npm), Vec::<String>::new());
}

#[test]
fn files_that_are_huge_binary_or_no_files_are_told_and_not_read() {
    for kind in ["huge", "binary", "directory", "fifo", "dangling"] {
        let fake = Fake::new(kind);
        let path = fake.base.join("home/.npmrc");
        match kind {
            "huge" => drop(fake.file("home/.npmrc", "#".repeat(FILE_LIMIT_BYTES + 1))),
            "binary" => drop(fake.file("home/.npmrc", b"registry=\xff\xfe\0".as_slice())),
            "directory" => std::fs::create_dir(&path).unwrap(),
            "fifo" => rustix::fs::mknodat(
                rustix::fs::CWD,
                &path,
                rustix::fs::FileType::Fifo,
                rustix::fs::Mode::RUSR,
                0,
            )
            .unwrap(),
            _ => symlink("/nonexistent/x", &path).unwrap(),
        }
        let configured = fake.with(|registries| registries.configured(PackageManager::Npm));
        assert_eq!(
            (configured.found.len(), configured.notes.len()),
            (0, 1),
            "{kind}: {configured:?}"
        );
    }
}
