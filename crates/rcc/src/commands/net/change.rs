//! `rcc net allow|deny RULE…`: rules for a run under way, and with `--project` for the project, too.
//!
//! Must not approve anything but its own change: a project file that is not approved as it stands is left alone.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use rcc_gateway::{Request, Response};
use rcc_host::{Approval, discover};
use rcc_spec::{Origin, Rule};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::client::Client;
use crate::cli::{NetChangeArgs, RunChoice};
use crate::context::Context;
use crate::error::{CliError, Kind};
use crate::exit::Exit;
use crate::layers::{PROJECT_FILE, project_policy};
use crate::output;
use crate::runs::{Found, live, one_live};

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Allow,
    Deny,
}

impl Direction {
    fn key(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// A project file that was not changed.
#[derive(Debug, thiserror::Error)]
enum ProjectError {
    #[error("cannot use {} as a rule", rcc_plan::escape(rule))]
    Rule {
        rule: String,
        #[source]
        source: rcc_spec::RuleError,
    },
    #[error(
        "the policy {} is not approved as it stands, so it was not changed",
        rcc_plan::escape(path)
    )]
    Unapproved { path: PathBuf },
    #[error("cannot change the policy {}: {reason}", rcc_plan::escape(path))]
    Form { path: PathBuf, reason: &'static str },
    #[error("cannot write the policy {}", rcc_plan::escape(path))]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

pub(super) fn run(args: &NetChangeArgs, direction: Direction) -> Result<u8, CliError> {
    let mut canonical = Vec::new();
    for text in &args.rules {
        let origin = Origin::flag("rcc net");
        let rule = match direction {
            Direction::Allow => Rule::parse(text, origin),
            Direction::Deny => Rule::parse_deny(text, origin),
        };
        let rule = rule.map_err(|source| {
            let rule = text.clone();
            CliError::new(Kind::User, ProjectError::Rule { rule, source })
                .hint("rules look like example.com, *.example.com:443 or 203.0.113.0/24:8000-8100")
        })?;
        canonical.push(rule.to_string());
    }
    // Without a run the project's file is all there is to change.
    let found = match args.in_project {
        true => live(&args.run)?,
        false => Some(one_live(&args.run)?),
    };
    if args.in_project {
        add_to_project(found.as_ref(), &args.rules, direction)?;
    }
    if let Some(found) = &found {
        let mut client = Client::connect(found)?;
        change(&mut client, &args.rules, direction)?;
    }
    Ok(Exit::Success.into())
}

/// Adds rules to a run and says what that did.
pub(super) fn change(
    client: &mut Client,
    rules: &[String],
    direction: Direction,
) -> Result<(), CliError> {
    let (allow, deny) = match direction {
        Direction::Allow => (rules.to_vec(), Vec::new()),
        Direction::Deny => (Vec::new(), rules.to_vec()),
    };
    let Response::Changed { cut, still_refused } = client.ask(&Request::Change { allow, deny })?
    else {
        return Err(client.confused());
    };
    match cut {
        0 => {}
        1 => output::note("one connection was cut"),
        _ => output::note(&format!("{cut} connections were cut")),
    }
    for refused in still_refused {
        let (rule, reason) = (
            rcc_plan::escape(&refused.rule),
            rcc_plan::escape(&refused.reason),
        );
        output::warn(&format!("{rule} is still refused: {reason}"));
    }
    Ok(())
}

/// Adds rules to the project's policy, comments and all kept, and approves the result.
pub(super) fn add_to_project(
    run: Option<&Found>,
    rules: &[String],
    direction: Direction,
) -> Result<(), CliError> {
    let context = Context::load()?;
    let named = run.map(|run| run.description.project.as_path());
    let project = discover(named, &context.account, &context.directories)?;
    let path = project.root.join(PROJECT_FILE);
    let store = context.trust();
    let text = match project_policy(&context, &project)? {
        None => "version = 1\n".to_owned(),
        Some(policy) => {
            let approval = store.check(&project.root, &policy.text);
            if !matches!(approval, Ok(Approval::Approved)) {
                return Err(
                    CliError::new(Kind::Denied, ProjectError::Unapproved { path })
                        .hint("read it, then approve it with: rcc trust"),
                );
            }
            // Rule files of the project stand behind it.
            policy
                .text
                .split('\0')
                .next()
                .unwrap_or_default()
                .to_owned()
        }
    };
    let form = |reason| {
        let path = path.clone();
        CliError::new(Kind::Config, ProjectError::Form { path, reason })
    };
    let new = with_rules(&text, rules, direction).map_err(form)?;
    write(&project.directory, &new).map_err(|source| {
        let path = path.clone();
        CliError::new(Kind::Host, ProjectError::Write { path, source })
    })?;
    let Some(policy) = project_policy(&context, &project)? else {
        return Err(form("it vanished"));
    };
    let written = policy.text.split('\0').next();
    if written != Some(new.as_str()) {
        return Err(form("somebody else changed it at the same time"));
    }
    store
        .approve(&project.root, &policy.text)
        .map_err(|error| CliError::new(Kind::Host, error))?;
    output::note(&format!(
        "added to {} and approved",
        rcc_plan::escape(&path)
    ));
    Ok(())
}

/// The text of a policy with rules added to its list.
fn with_rules(text: &str, rules: &[String], direction: Direction) -> Result<String, &'static str> {
    let mut document: DocumentMut = text.parse().map_err(|_| "it is not TOML")?;
    let network = document
        .entry("network")
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_like_mut()
        .ok_or("network is not a table")?;
    let list = network
        .entry(direction.key())
        .or_insert_with(|| Item::Value(Value::Array(Array::new())))
        .as_array_mut()
        .ok_or("the list is not a list")?;
    let is_long = list.iter().any(|value| {
        let prefix = value.decor().prefix().and_then(|prefix| prefix.as_str());
        prefix.is_some_and(|prefix| prefix.contains('\n'))
    });
    for rule in rules {
        if list.iter().any(|value| value.as_str() == Some(rule)) {
            continue;
        }
        let mut value = Value::from(rule.as_str());
        if is_long {
            value.decor_mut().set_prefix("\n    ");
            list.push_formatted(value);
        } else {
            list.push(value);
        }
    }
    Ok(document.to_string())
}

/// Writes the file in place: a file moved over it would take its place outside of running sandboxes only, and the mount
/// that protects it in them would be gone.
fn write(project: &impl std::os::fd::AsFd, text: &str) -> std::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH;
    let file = rustix::fs::openat2(project, PROJECT_FILE, flags, mode, resolve)?;
    let mut file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(rustix::io::Errno::INVAL.into());
    }
    file.set_len(0)?;
    file.write_all(text.as_bytes())
}

/// Chooses the run that a client already talks to.
pub(super) fn choice_of(found: &Found) -> RunChoice {
    RunChoice {
        run: Some(found.description.id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_added_and_everything_else_stays() {
        let rules = vec!["new.example.com".to_owned()];
        let add = |text: &str| with_rules(text, &rules, Direction::Allow).unwrap();
        let text = "# Mine.\nversion = 1\n\n[network] # net\nmode = \"allowlist\"\nallow = [\n    \"a.example.com\", # why\n]\n";
        let changed = add(text);
        assert!(
            changed.contains("# Mine.") && changed.contains("# why") && changed.contains("# net")
        );
        assert!(changed.contains("\"new.example.com\""));
        assert_eq!(add(&changed), changed);
        rcc_spec::parse_toml(
            &changed,
            &rcc_spec::SourceName::file("rcc.toml"),
            rcc_spec::LayerKind::Project,
        )
        .unwrap();
        assert_eq!(
            add("version = 1\n"),
            "version = 1\n\n[network]\nallow = [\"new.example.com\"]\n"
        );
        assert!(with_rules("network = 1\n", &rules, Direction::Allow).is_err());
    }
}
