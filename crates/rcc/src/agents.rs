//! Which agent is meant, where its program is on this host, and what it needs mounted to run inside.
//!
//! Nothing here executes an agent or any other program. A program that lies in the project is never taken: the agent of
//! an earlier run could have put it there.

mod locate;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rcc_host::{Project, read_text, refuse_foreign};
use rcc_spec::{AgentPreset, SourceName};

use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::install::{self, Wanted};
use crate::output;

pub(crate) use locate::{Located, VISIBLE, find_on_path, located};

/// Largest preset file, in bytes.
const PRESET_LIMIT_BYTES: usize = 64 << 10;

/// An agent that cannot be run.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    /// No preset has that name.
    #[error("no command and no agent is called {}", rcc_plan::escape(name))]
    Unknown { name: OsString },
    /// The user's preset cannot be read.
    #[error("cannot use the preset {}", rcc_plan::escape(path))]
    File {
        path: PathBuf,
        #[source]
        source: rcc_host::FileError,
    },
    /// The preset's name is not its file's.
    #[error("the preset {} calls itself {inner}", rcc_plan::escape(path))]
    Renamed { path: PathBuf, inner: String },
    /// The program is nowhere.
    #[error("{title} is not installed: no program {command} on PATH")]
    Missing { title: String, command: String },
}

/// Finds a preset by name: the user's own first, then those that come with rcc.
pub(crate) fn preset(context: &Context, name: &OsStr) -> Result<AgentPreset, CliError> {
    let unknown = || {
        let error = CliError::new(
            Kind::User,
            AgentError::Unknown {
                name: name.to_owned(),
            },
        );
        match name.to_str().and_then(nearest) {
            Some(near) => error.hint(format!("did you mean {near}?")),
            None => error.hint(format!(
                "agents are {}; a command is run with: rcc run -- CMD",
                AgentPreset::builtin_names().collect::<Vec<_>>().join(", ")
            )),
        }
    };
    let text = name
        .to_str()
        .filter(|text| is_name(text))
        .ok_or_else(unknown)?;
    let path = context
        .directories
        .config
        .join("agents")
        .join(format!("{text}.toml"));
    let file = |source| {
        CliError::new(
            Kind::Config,
            AgentError::File {
                path: path.clone(),
                source,
            },
        )
    };
    match read_text(&path, PRESET_LIMIT_BYTES).map_err(file)? {
        Some(content) => {
            refuse_foreign(&path, &content, &[0, context.account.user.uid]).map_err(file)?;
            let source = SourceName::file(&rcc_plan::escape(&path));
            let preset = AgentPreset::parse(&content.text, &source).map_err(|source| {
                let hint = source.hint();
                let error = CliError::new(Kind::Config, source);
                hint.into_iter().fold(error, CliError::hint)
            })?;
            if preset.name == text {
                Ok(preset)
            } else {
                let error = AgentError::Renamed {
                    path,
                    inner: preset.name,
                };
                Err(CliError::new(Kind::Config, error).hint("the file is named after the preset"))
            }
        }
        None => AgentPreset::builtin(text).ok_or_else(unknown),
    }
}

/// Finds the program of an agent, installing it if it is nowhere and the user agrees.
pub(crate) fn program(
    context: &Context,
    project: &Project,
    preset: &AgentPreset,
    consent: Consent,
) -> Result<Located, CliError> {
    if let Some(found) = located(context, &project.root, &preset.command) {
        return Ok(found);
    }
    let data = &context.directories.data;
    if let Some(found) = install::installed(data, &preset.name, &preset.command) {
        return Ok(locate::in_data(
            context,
            &project.root,
            &found,
            &preset.command,
        ));
    }
    let missing = || {
        let error = AgentError::Missing {
            title: preset.title.clone(),
            command: preset.command.clone(),
        };
        CliError::new(Kind::User, error)
    };
    let Some(package) = preset.npm_package.as_deref() else {
        let error = missing();
        return Err(preset
            .install_hint
            .iter()
            .fold(error, |error, hint| error.hint(hint.clone())));
    };
    let agreed = match consent {
        Consent::Given => true,
        Consent::Ask if output::can_ask() => output::confirm(&format!(
            "{} is not installed. Install its npm package {package} into {}?",
            preset.title,
            rcc_plan::escape(data.join("agents"))
        )),
        Consent::Ask | Consent::Never => false,
    };
    if !agreed {
        return Err(missing().hint(format!(
            "install it yourself, or let rcc install its npm package: rcc --yes agent {}",
            preset.name
        )));
    }
    let Some(npm) = find_on_path(context, &project.root, "npm") else {
        return Err(
            missing().hint("rcc installs it with npm, which is not on PATH: install Node.js first")
        );
    };
    let wanted = Wanted {
        name: &preset.name,
        package,
        command: &preset.command,
    };
    let found = install::install(data, wanted, npm)
        .map_err(|error| CliError::new(Kind::Host, error).hint("nothing was installed"))?;
    Ok(locate::in_data(
        context,
        &project.root,
        &found,
        &preset.command,
    ))
}

/// Whether an agent that is missing may be installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// `--yes`.
    Given,
    /// On a terminal.
    Ask,
    /// Not at all: nothing is to be changed.
    Never,
}

/// Names of presets, which are also file names.
fn is_name(text: &str) -> bool {
    (1..=32).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
}

/// The command or agent that was probably meant.
fn nearest(name: &str) -> Option<&'static str> {
    const COMMANDS: [&str; 10] = [
        "init",
        "run",
        "shell",
        "agent",
        "plan",
        "doctor",
        "trust",
        "net",
        "completions",
        "man",
    ];
    let name: String = name.chars().take(32).collect();
    COMMANDS
        .into_iter()
        .chain(AgentPreset::builtin_names())
        .map(|known| (strsim::damerau_levenshtein(&name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3).min(2))
        .map(|(_, known)| known)
}

/// Tells whether a path is below one of the directories.
fn is_below(path: &Path, roots: &[&Path]) -> bool {
    roots.iter().any(|root| path.starts_with(root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_its_neighbour() {
        assert_eq!(nearest("claud"), Some("claude"));
        assert_eq!(nearest("rum"), Some("run"));
        assert_eq!(nearest("docter"), Some("doctor"));
        assert_eq!(nearest("xyzzy"), None);
    }

    #[test]
    fn names_cannot_be_paths() {
        for bad in ["", "../x", "a/b", "A", "-x", "a.b"] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
