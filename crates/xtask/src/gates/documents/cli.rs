//! Commands named in the documentation, held against the help of the built binary and the table of tasks.
//!
//! The help is made by clap from the same definition that parses, so it cannot promise what the parser refuses.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use anyhow::{Result, bail};

use crate::{commands, process, workspace::Workspace};

/// Commands whose arguments, from the first that is no flag of ours, belong to the program that they start.
const PASS_THROUGH: [&str; 4] = ["agent", "plan", "run", "shell"];

/// Where the presets are, one file each, named after the agent.
const PRESETS: &str = "crates/spec/presets";

/// Subcommands of cargo itself that the pages may use.
const CARGO: [&str; 9] = [
    "build", "check", "clippy", "fmt", "install", "metadata", "run", "test", "xtask",
];

/// The built binary and what its help said.
pub(super) struct Rcc {
    program: PathBuf,
    /// Names of the agent presets that are built in.
    agents: BTreeSet<String>,
    helps: RefCell<BTreeMap<String, Help>>,
}

/// One page of help.
#[derive(Clone, Default)]
struct Help {
    commands: BTreeSet<String>,
    /// Flag -> whether a value follows.
    flags: BTreeMap<String, bool>,
}

impl Rcc {
    /// Builds the binary.
    pub(super) fn build(workspace: &Workspace) -> Result<Self> {
        if !process::passes(&mut workspace.cargo(&[
            "build",
            "--quiet",
            "--locked",
            "--package",
            "rcc",
        ]))? {
            bail!("rcc does not build");
        }
        let program = workspace.programs("debug").join("rcc");
        let presets = workspace
            .files()?
            .into_iter()
            .filter(|path| path.starts_with(PRESETS));
        let agents = presets
            .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
            .collect();
        Ok(Self {
            program,
            agents,
            helps: RefCell::default(),
        })
    }

    /// The help of a subcommand (`run`, `net learn`), or of rcc itself for the empty word.
    fn help(&self, subcommand: &str) -> Result<Help, String> {
        if let Some(help) = self.helps.borrow().get(subcommand) {
            return Ok(help.clone());
        }
        let mut command = Command::new(&self.program);
        command
            .args(subcommand.split_whitespace())
            .arg("--help")
            .env("NO_COLOR", "1");
        let output = process::capture(&mut command).map_err(|error| format!("{error:#}"))?;
        if !output.status.success() {
            return Err(format!("`{}` fails", process::describe(&command)));
        }
        let help = Help::parse(&String::from_utf8_lossy(&output.stdout));
        self.helps
            .borrow_mut()
            .insert(subcommand.to_owned(), help.clone());
        Ok(help)
    }
}

impl Help {
    /// Reads clap's help: names under `Commands:`, and every option at the start of a line.
    fn parse(text: &str) -> Self {
        let mut help = Self::default();
        let mut in_commands = false;
        for line in text.lines() {
            if !line.starts_with(' ') {
                in_commands = line.trim_end() == "Commands:";
                continue;
            }
            let words = line
                .split_whitespace()
                .map(|word| word.trim_end_matches([',', '.', '…']));
            let indent = line.len() - line.trim_start().len();
            if in_commands {
                // A longer indent is the continuation of a summary.
                if indent == 2 {
                    help.commands.extend(words.take(1).map(str::to_owned));
                }
            } else if matches!(indent, 2 | 6) && line.trim_start().starts_with('-') {
                let value = line
                    .trim_start()
                    .split("  ")
                    .next()
                    .is_some_and(|flags| flags.contains(" <"));
                let flags = words.take_while(|word| word.starts_with('-'));
                help.flags
                    .extend(flags.map(|word| (flag_name(word).to_owned(), value)));
            }
        }
        help
    }
}

/// The flags in a word: one, or the letters of `-it`.
fn apart(flag: &str) -> Vec<String> {
    match flag.strip_prefix('-') {
        Some(letters) if !letters.starts_with('-') => {
            letters.chars().map(|letter| format!("-{letter}")).collect()
        }
        _ => vec![flag.to_owned()],
    }
}

/// The flag without its value: `--allow=RULE` and `--env[=VALUE]` are `--allow` and `--env`.
fn flag_name(word: &str) -> &str {
    word.split(['=', '[', '<']).next().unwrap_or(word)
}

/// Judges a code span or a command line. `None` when it is no command of rcc or cargo.
pub(super) fn check(rcc: &Rcc, text: &str) -> Option<Result<(), String>> {
    let line = text.split(" # ").next().unwrap_or(text);
    // What a pipe or a list of commands starts is looked at piece by piece.
    let pieces: Vec<&str> = line
        .split(" | ")
        .flat_map(|part| part.split(" && "))
        .collect();
    let mut judged = pieces
        .into_iter()
        .filter_map(|piece| check_one(rcc, piece))
        .peekable();
    judged.peek()?;
    Some(judged.collect())
}

fn check_one(rcc: &Rcc, text: &str) -> Option<Result<(), String>> {
    let mut words = text
        .split_whitespace()
        .map(|word| word.trim_matches(['[', ']', '"']))
        .skip_while(|word| {
            // Assignments and prefixes in front of a command.
            *word == "sudo"
                || word.split_once('=').is_some_and(|(name, _)| {
                    name.chars().all(|c| c.is_ascii_uppercase() || c == '_')
                })
        });
    match words.next()? {
        "rcc" => Some(check_rcc(rcc, words)),
        // The word alone is a name, of the tool or of its preset.
        "cargo" if text.trim().trim_matches('"') == "cargo" => None,
        "cargo" => Some(check_cargo(rcc, words)),
        _ => None,
    }
}

fn check_rcc<'a>(rcc: &Rcc, words: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut subcommand = String::new();
    let mut words = words.take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        let help = rcc.help(&subcommand)?;
        if word.starts_with('-') {
            // `-n/--no-internet` is how the pages write both forms.
            for flag in word.split('/').map(flag_name).flat_map(apart) {
                let Some(takes_value) = help.flags.get(&flag) else {
                    return Err(format!("`rcc {subcommand}` has no flag {flag}"));
                };
                if *takes_value && !word.contains('=') {
                    words.next();
                }
            }
        } else if subcommand.is_empty() {
            // An agent's own arguments follow its name, and a word in capitals stands for any command.
            let placeholder = word
                .chars()
                .all(|character| character.is_ascii_uppercase() || character == '|');
            if rcc.agents.contains(word) || placeholder {
                return Ok(());
            }
            // `init|run|shell` names several.
            for name in word.split('|') {
                if !help.commands.contains(name) {
                    return Err(format!("rcc has no command {name}"));
                }
                name.clone_into(&mut subcommand);
            }
        } else if !subcommand.contains(' ')
            && word.split('|').all(|name| help.commands.contains(name))
        {
            // `net allow|deny` names several, which are alike.
            subcommand = format!("{subcommand} {}", word.split('|').next().unwrap_or(word));
        } else if PASS_THROUGH.contains(&subcommand.as_str()) {
            return Ok(());
        }
    }
    Ok(())
}

fn check_cargo<'a>(rcc: &Rcc, mut words: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let subcommand = words.next().unwrap_or_default();
    if !CARGO.contains(&subcommand) {
        return Err(format!("the pages do not use cargo {subcommand}"));
    }
    match subcommand {
        "xtask" => {
            let name = words.next().unwrap_or_default();
            let known = commands::TASKS.iter().any(|task| task.name == name);
            if known {
                Ok(())
            } else {
                Err(format!("there is no task `cargo xtask {name}`"))
            }
        }
        // What follows `--` are rcc's own words.
        "run" => check_rcc(rcc, words.skip_while(|word| *word != "--").skip(1)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELP: &str = "Runs things\n\nUsage: rcc [OPTIONS] <COMMAND>\n\nCommands:\n  init   Makes it\n  run    Runs\n         --no-flag of a wrapped line\n\nOptions:\n  -n, --no-internet  No\n      --env <NAME[=VALUE]>\n          Sets -x and --y\n";

    fn rcc() -> Rcc {
        let helps = ["", "init", "run"].map(|name| (name.to_owned(), Help::parse(HELP)));
        Rcc {
            program: "/nonexistent".into(),
            agents: ["claude".to_owned()].into(),
            helps: RefCell::new(helps.into()),
        }
    }

    #[test]
    fn the_help_is_read() {
        let help = Help::parse(HELP);
        assert_eq!(
            help.commands.into_iter().collect::<Vec<_>>(),
            ["init", "run"]
        );
        let flags = [("--env", true), ("--no-internet", false), ("-n", false)];
        assert_eq!(
            help.flags,
            flags.map(|(name, value)| (name.to_owned(), value)).into()
        );
    }

    #[test]
    fn true_commands_pass() {
        for text in [
            "rcc run -n --env A=b -- ls --weird",
            "rcc run -n/--no-internet -- ls",
            "rcc run -nn -- ls",
            "cargo run --release -- run -- id",
            "cargo xtask check edges",
            "NO_COLOR=1 rcc init",
            "rcc -n claude -p --whatever",
            "rcc run --env fly ls --weird",
        ] {
            assert_eq!(check(&rcc(), text), Some(Ok(())), "{text}");
        }
        assert_eq!(check(&rcc(), "rccd run"), None);
        assert_eq!(check(&rcc(), "rcc.toml"), None);
    }

    #[test]
    fn wrong_commands_are_told() {
        for text in [
            "rcc run -nq -- ls",
            "rcc fly",
            "rcc run --fly -- ls",
            "cargo run -- fly",
            "cargo xtask fly",
            "cargo fly",
            "true && rcc fly",
        ] {
            assert!(matches!(check(&rcc(), text), Some(Err(_))), "{text}");
        }
    }
}
