//! Reads the caller's own configuration of package managers, for the presets of `[network] presets`.
//!
//! # Theory of operation
//! What such a file names becomes reachable, so a file counts only when no agent could have written it: it, and every link
//! on the way to it, lies outside of the project and of every path that is granted read-write, and it belongs to the
//! caller or root and is not writable by everybody. A file that does not count is told, never silently left out.
//! Nothing here starts a program or opens a connection.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rcc_plan::escape;
use rcc_spec::PackageManager;
use rcc_spec::registries::{
    Endpoint, Found, read_cargo_config, read_deb822, read_git_config, read_go_env, read_go_setting,
    read_index_config, read_maven, read_npmrc, read_pip_conf, read_sources_list, read_uv_toml,
    read_variable,
};

use crate::files::{read_text, refuse_foreign};
use crate::toolchains::resolve_without;

/// Largest configuration file, in bytes.
const FILE_LIMIT_BYTES: usize = 1 << 20;
/// Most files that are read of one directory.
const FILES_LIMIT: usize = 100;

/// Whose configuration is read, and where agents write.
#[derive(Debug, Clone, Copy)]
pub struct Registries<'a> {
    /// The real home.
    pub home: &'a Path,
    /// The caller's environment.
    pub environment: &'a BTreeMap<OsString, OsString>,
    /// The caller's id.
    pub uid: u32,
    /// Directories in which an agent can write, canonical.
    pub writable: &'a [&'a Path],
    /// `/`, or another directory in tests.
    pub root: &'a Path,
}

/// What the caller's configuration says, strongest source first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configured {
    /// One for each source that exists.
    pub found: Vec<Found>,
    /// Files that were not used, and why.
    pub notes: Vec<String>,
    /// Settings that are left to the tool's own default, where it has several.
    pub missing: Vec<&'static str>,
}

impl Registries<'_> {
    /// Reads every place of a package manager's own configuration.
    #[must_use]
    pub fn configured(&self, manager: PackageManager) -> Configured {
        let mut out = Configured::default();
        match manager {
            PackageManager::Npm => self.npm(&mut out),
            PackageManager::Cargo => self.cargo(&mut out),
            PackageManager::Pip => self.pip(&mut out),
            PackageManager::Go => self.go(&mut out),
            PackageManager::Apt => self.apt(&mut out),
            PackageManager::Maven => self.maven(&mut out),
            PackageManager::Git => self.git(&mut out),
        }
        out
    }

    fn npm(&self, out: &mut Configured) {
        let manager = PackageManager::Npm;
        // npm takes its variables in any case (npm-config(7)).
        // A script of npm has the settings of its project in its environment, whoever wrote them.
        let in_script = self.variable("npm_lifecycle_event").is_some();
        let variables = self.environment.iter().filter(|_| !in_script);
        if in_script {
            out.notes.push("preset npm: started by a script of npm, so variables of npm do not count: they hold the project's settings".to_owned());
        }
        for (name, value) in variables {
            let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else {
                continue;
            };
            let lower = name.to_ascii_lowercase();
            let Some(key) = lower.strip_prefix("npm_config_") else {
                continue;
            };
            if key == "registry" {
                out.found.push(read_variable(manager, name, value, true));
            } else if key.starts_with('@') && key.ends_with(":registry") {
                out.found.push(read_variable(manager, name, value, false));
            }
        }
        let named = |names: &[&str]| self.named(names).filter(|_| !in_script);
        let user = named(&["NPM_CONFIG_USERCONFIG", "npm_config_userconfig"]);
        let global = named(&["NPM_CONFIG_GLOBALCONFIG", "npm_config_globalconfig"]);
        for path in [
            user.unwrap_or_else(|| self.home.join(".npmrc")),
            global.unwrap_or_else(|| self.root.join("etc/npmrc")),
        ] {
            self.file(out, manager, &path, |text, place| {
                read_npmrc(text, place, &|name| self.variable(name))
            });
        }
    }

    /// `CARGO_HOME`.
    fn cargo_home(&self) -> PathBuf {
        self.named(&["CARGO_HOME"])
            .unwrap_or_else(|| self.home.join(".cargo"))
    }

    fn cargo(&self, out: &mut Configured) {
        let manager = PackageManager::Cargo;
        for (name, value) in self.environment {
            if let (Some(name), Some(value)) = (name.to_str(), value.to_str())
                && name.starts_with("CARGO_REGISTRIES_")
                && name.ends_with("_INDEX")
            {
                out.found.push(read_variable(manager, name, value, false));
            }
        }
        // With both, cargo takes the one without the ending.
        for name in ["config", "config.toml"] {
            let before = out.found.len();
            let path = self.cargo_home().join(name);
            self.file(out, manager, &path, read_cargo_config);
            if out.found.len() > before {
                break;
            }
        }
    }

    /// The places of archives that the indexes of these hosts name, from what cargo has stored of them. Indexes of other
    /// hosts do not count: any project that was ever built on the host could have named them.
    #[must_use]
    pub fn cargo_archives(&self, indexes: &[Endpoint]) -> Configured {
        let mut out = Configured::default();
        let directory = self.cargo_home().join("registry/index");
        for path in self.listed(&directory) {
            let name = path
                .file_name()
                .and_then(OsStr::to_str)
                .and_then(|name| name.rsplit_once('-'))
                .map(|(host, _)| host);
            let is_used = name
                .is_some_and(|host| indexes.iter().any(|index| index.target.to_string() == host));
            if is_used {
                let path = path.join("config.json");
                self.file(&mut out, PackageManager::Cargo, &path, read_index_config);
            }
        }
        out
    }

    fn pip(&self, out: &mut Configured) {
        let manager = PackageManager::Pip;
        for (name, is_main) in [
            ("PIP_INDEX_URL", true),
            ("PIP_EXTRA_INDEX_URL", false),
            ("PIP_FIND_LINKS", false),
            ("UV_DEFAULT_INDEX", true),
            ("UV_INDEX_URL", true),
            ("UV_INDEX", false),
            ("UV_EXTRA_INDEX_URL", false),
            ("UV_FIND_LINKS", false),
        ] {
            if let Some(value) = self.variable(name) {
                out.found
                    .push(read_variable(manager, name, &value, is_main));
            }
        }
        let config = self.config_home();
        let mut files = Vec::new();
        files.extend(self.named(&["PIP_CONFIG_FILE"]));
        files.push(config.join("pip/pip.conf"));
        files.push(self.home.join(".pip/pip.conf"));
        files.push(self.root.join("etc/xdg/pip/pip.conf"));
        files.push(self.root.join("etc/pip.conf"));
        for path in files {
            self.file(out, manager, &path, read_pip_conf);
        }
        let mut files = Vec::new();
        files.extend(self.named(&["UV_CONFIG_FILE"]));
        files.push(config.join("uv/uv.toml"));
        files.push(self.root.join("etc/uv/uv.toml"));
        for path in files {
            self.file(out, manager, &path, read_uv_toml);
        }
    }

    fn go(&self, out: &mut Configured) {
        let path = self
            .named(&["GOENV"])
            .unwrap_or_else(|| self.config_home().join("go/env"));
        let mut file: Vec<(String, Found)> = Vec::new();
        self.file(out, PackageManager::Go, &path, |text, place| {
            file = read_go_env(text, place);
            Found::default()
        });
        for name in ["GOPROXY", "GOSUMDB"] {
            let found = match self.variable(name).filter(|value| !value.is_empty()) {
                Some(value) => Some(read_go_setting(&format!("${name}"), name, &value)),
                None => file
                    .iter()
                    .rev()
                    .find(|(found, _)| found == name)
                    .map(|(_, found)| found.clone()),
            };
            if found.is_none() {
                out.missing.push(name);
            }
            out.found.extend(found);
        }
    }

    fn apt(&self, out: &mut Configured) {
        let directory = self.root.join("etc/apt");
        self.file(
            out,
            PackageManager::Apt,
            &directory.join("sources.list"),
            read_sources_list,
        );
        for path in self.listed(&directory.join("sources.list.d")) {
            match path.extension().and_then(OsStr::to_str) {
                Some("list") => self.file(out, PackageManager::Apt, &path, read_sources_list),
                Some("sources") => self.file(out, PackageManager::Apt, &path, read_deb822),
                _ => {}
            }
        }
    }

    fn maven(&self, out: &mut Configured) {
        let mut files = vec![
            self.home.join(".m2/settings.xml"),
            self.root.join("etc/maven/settings.xml"),
        ];
        files.extend(
            self.named(&["MAVEN_HOME", "M2_HOME"])
                .map(|home| home.join("conf/settings.xml")),
        );
        for path in files {
            self.file(out, PackageManager::Maven, &path, |text, place| {
                read_maven(text, place, &|name| self.variable(name))
            });
        }
    }

    fn git(&self, out: &mut Configured) {
        let files = match self.named(&["GIT_CONFIG_GLOBAL"]) {
            Some(path) => vec![path],
            None => vec![
                self.home.join(".gitconfig"),
                self.config_home().join("git/config"),
            ],
        };
        for path in files.into_iter().chain([self.root.join("etc/gitconfig")]) {
            self.file(out, PackageManager::Git, &path, read_git_config);
        }
    }

    /// Reads one file if it exists and counts.
    fn file(
        &self,
        out: &mut Configured,
        manager: PackageManager,
        path: &Path,
        read: impl FnOnce(&str, &str) -> Found,
    ) {
        if std::fs::symlink_metadata(path).is_err() || path == Path::new("/dev/null") {
            return;
        }
        let place = self.shown(path);
        let note = |why: &str| format!("preset {manager}: {place} is not used, {why}");
        let real = match resolve_without(path, self.writable) {
            Some(real) if !self.writable.iter().any(|root| real.starts_with(root)) => real,
            _ => {
                out.notes.push(note(
                    "it lies where an agent can write, or cannot be found; name its hosts in allow instead",
                ));
                return;
            }
        };
        match read_text(&real, FILE_LIMIT_BYTES) {
            Ok(Some(content)) => match refuse_foreign(&real, &content, &[0, self.uid]) {
                Ok(()) => out.found.push(read(&content.text, &place)),
                Err(error) => out.notes.push(note(&error.to_string())),
            },
            Ok(None) => {}
            Err(error) => out.notes.push(note(&error.to_string())),
        }
    }

    /// The entries of a directory, sorted.
    fn listed(&self, directory: &Path) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return Vec::new();
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .take(FILES_LIMIT)
            .collect();
        paths.sort();
        paths
    }

    fn config_home(&self) -> PathBuf {
        self.named(&["XDG_CONFIG_HOME"])
            .unwrap_or_else(|| self.home.join(".config"))
    }

    /// The absolute path that the first of these variables holds.
    fn named(&self, names: &[&str]) -> Option<PathBuf> {
        names
            .iter()
            .find_map(|name| self.environment.get(OsStr::new(name)))
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.environment
            .get(OsStr::new(name))?
            .to_str()
            .map(str::to_owned)
    }

    /// A path as people write it.
    fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(self.home) {
            Ok(rest) => format!("~/{}", escape(rest)),
            Err(_) => escape(path),
        }
    }
}

#[cfg(test)]
mod tests;
