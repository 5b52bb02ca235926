//! Which hosts a package manager is configured to use, read from the texts of its own configuration files.
//!
//! Pure: texts in, rules out. No host of a registry is known here; that is the point. A URL becomes a rule for exactly its
//! host and port, or a note that says why not. Must not let any other part of a URL out: user names, passwords and
//! tokens stand in them, and rules, notes and plans are shown and logged.

mod apt;
mod cargo;
mod git;
mod go;
mod lockfile;
mod maven;
mod npm;
mod pip;
mod url;

use serde::{Deserialize, Serialize};

use crate::origin::Origin;
use crate::ports::{Ports, Transport};
use crate::rule::{Effect, Rule};
use crate::text::shorten;

pub use apt::{read_deb822, read_sources_list};
pub use cargo::{read_cargo_config, read_index_config};
pub use git::read_git_config;
pub use go::{read_go_env, read_go_setting};
pub use lockfile::{LockFile, lock_file_urls};
pub use maven::read_maven;
pub use npm::read_npmrc;
pub use pip::{read_pip_conf, read_requirements, read_uv_toml};
pub use url::{Endpoint, NoEndpoint, endpoint};

/// Most rules that one file may yield; what is beyond is noted.
const RULES_LIMIT: usize = 200;

/// A package manager whose hosts can be derived from the host's own configuration: a preset of `[network] presets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageManager {
    /// apt(8): `sources.list`.
    Apt,
    /// cargo: `CARGO_HOME/config.toml` and the indexes it has used.
    Cargo,
    /// git: hosts that the user's own git configuration names.
    Git,
    /// go: `GOPROXY` and `GOSUMDB`.
    Go,
    /// Maven: `settings.xml`.
    Maven,
    /// npm, and what reads `.npmrc` as well.
    Npm,
    /// pip and uv.
    Pip,
}

impl PackageManager {
    /// Every one, sorted by its word.
    pub const ALL: [Self; 7] = [
        Self::Apt,
        Self::Cargo,
        Self::Git,
        Self::Go,
        Self::Maven,
        Self::Npm,
        Self::Pip,
    ];
    /// Their words, in the same order.
    pub const WORDS: &'static [&'static str] =
        &["apt", "cargo", "git", "go", "maven", "npm", "pip"];

    /// The word in policy files.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apt => "apt",
            Self::Cargo => "cargo",
            Self::Git => "git",
            Self::Go => "go",
            Self::Maven => "maven",
            Self::Npm => "npm",
            Self::Pip => "pip",
        }
    }

    /// Finds the one of this word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == word)
    }
}

impl std::fmt::Display for PackageManager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Values of variables that a configuration file may refer to.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// What one source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// The main registry, which replaces that of weaker sources and the tool's default; none when it is not named here.
    /// Empty when it is named and no host (a directory).
    pub main: Option<Vec<Rule>>,
    /// Registries beside the main one.
    pub others: Vec<Rule>,
    /// What could not be used, with its place, without any text of a URL.
    pub notes: Vec<String>,
}

/// Collects the rules of one source.
struct Finder<'p> {
    manager: PackageManager,
    place: &'p str,
    found: Found,
}

impl<'p> Finder<'p> {
    fn new(manager: PackageManager, place: &'p str) -> Self {
        Self {
            manager,
            place,
            found: Found::default(),
        }
    }

    fn at(&self, line: usize) -> String {
        match line {
            0 => self.place.to_owned(),
            line => format!("{}:{line}", self.place),
        }
    }

    /// The rule for a URL, or a note. A local path is neither.
    fn rule(&mut self, line: usize, url: &str) -> Option<Rule> {
        match endpoint(url) {
            Ok(endpoint) => Some(Rule::new(
                Effect::Allow,
                endpoint.target,
                Ports::single(endpoint.port),
                Some(Transport::Tcp),
                Origin::preset(&format!("{} ({})", self.manager, self.at(line))),
            )),
            Err(NoEndpoint::Local) => None,
            Err(why) => {
                self.note(line, &why.to_string());
                None
            }
        }
    }

    /// Takes the main registry; a later one of the same source replaces it.
    fn main(&mut self, line: usize, url: &str) {
        self.found.main = Some(self.rule(line, url).into_iter().collect());
    }

    /// Adds to the main registry, for tools that have several.
    fn also_main(&mut self, line: usize, url: &str) {
        let rule = self.rule(line, url);
        let main = self.found.main.get_or_insert_default();
        if main.len() < RULES_LIMIT {
            main.extend(rule);
        }
    }

    /// Takes a registry beside the main one.
    fn other(&mut self, line: usize, url: &str) {
        if self.found.others.len() >= RULES_LIMIT {
            return;
        }
        let rule = self.rule(line, url);
        self.found.others.extend(rule);
        if self.found.others.len() == RULES_LIMIT {
            self.note(line, "names more registries than are taken from one file");
        }
    }

    fn note(&mut self, line: usize, what: &str) {
        if self.found.notes.len() < RULES_LIMIT {
            let at = self.at(line);
            self.found
                .notes
                .push(format!("preset {}: {at}: {what}", self.manager));
        }
    }

    /// A file that is not what its name says.
    fn broken(mut self, line: usize, why: &str) -> Found {
        self.note(line, &format!("is not used, {}", shorten(why, 120)));
        self.found
    }

    fn finish(self) -> Found {
        self.found
    }
}

/// Takes one value of the environment, such as `PIP_INDEX_URL`, as the main registry or as one beside it.
#[must_use]
pub fn read_variable(manager: PackageManager, name: &str, value: &str, is_main: bool) -> Found {
    let place = format!("${name}");
    let mut finder = Finder::new(manager, &place);
    // Some tools take several, separated by spaces, and names in front of them (`name=url`).
    for url in value.split_whitespace() {
        let url = match url.split_once('=') {
            Some((name, rest)) if !name.contains([':', '/']) => rest,
            _ => url,
        };
        if is_main {
            finder.also_main(0, url);
        } else {
            finder.other(0, url);
        }
    }
    finder.finish()
}

/// Takes URLs that a tool gave when it was asked for its own defaults.
#[must_use]
pub fn read_answer(manager: PackageManager, place: &str, urls: &[String]) -> Found {
    let mut finder = Finder::new(manager, place);
    for url in urls {
        finder.also_main(0, url);
    }
    finder.finish()
}

/// Replaces `${NAME}`, `${NAME?}` and `${NAME-default}` by values of variables; what is not set is left as it is.
fn expand(text: &str, variables: Variables<'_>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((inside, behind)) = after.split_once('}') else {
            break;
        };
        out.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let name: String = inside.chars().take_while(|&c| is_name(c)).collect();
        let otherwise = inside.get(name.len()..).unwrap_or_default();
        let default = otherwise
            .strip_prefix(":-")
            .or(otherwise.strip_prefix('-'))
            .map(str::to_owned);
        match variables(&name).or(default) {
            Some(value) => out.push_str(&value),
            None if otherwise == "?" => {}
            None => out.push_str(&format!("${{{inside}}}")),
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
