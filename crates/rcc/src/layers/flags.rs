//! The flags as the uppermost layer of policy.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use rcc_host::read_text;
use rcc_spec::{
    EnvError, EnvName, EnvPattern, EnvSetting, FilesMode, LimitError, NetworkMode, Origin,
    PathError, PathSpec, PolicyLayer, PublishError, Rule, RuleError, SourceName, Sourced,
    check_env_value,
};

use super::{LayerError, RULES_LIMIT_BYTES, file_error, parse_rules};
use crate::cli::{NetworkArg, RunFlags};
use crate::context::Context;
use crate::error::{CliError, Kind};

/// A flag whose value is not what it should be.
#[derive(Debug, thiserror::Error)]
enum FlagError {
    /// Not text.
    #[error("the value {} of {flag} is not UTF-8 text", rcc_plan::escape(value))]
    NotText { flag: &'static str, value: OsString },
    /// Not a rule.
    #[error("cannot use {} as a rule of {flag}", rcc_plan::escape(value))]
    Rule {
        flag: &'static str,
        value: String,
        #[source]
        source: RuleError,
    },
    /// Not a port.
    #[error(
        "cannot use {} as a port of --host-port: ports are numbers from 1 to 65535",
        rcc_plan::escape(value)
    )]
    Port { value: String },
    /// Not a port to publish.
    #[error("cannot use {} as a port of --publish", rcc_plan::escape(value))]
    Publish {
        value: String,
        #[source]
        source: PublishError,
    },
    /// Not a path to grant.
    #[error("cannot use {} as a path of {flag}", rcc_plan::escape(value))]
    Path {
        flag: &'static str,
        value: PathBuf,
        #[source]
        source: PathError,
    },
    /// A path that does not exist.
    #[error("cannot find {} of {flag}", rcc_plan::escape(value))]
    Missing {
        flag: &'static str,
        value: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// Not a limit.
    #[error("cannot use {} as {flag}", rcc_plan::escape(value))]
    Limit {
        flag: &'static str,
        value: String,
        #[source]
        source: LimitError,
    },
    /// Not a variable.
    #[error("cannot use {} as a variable of --env", rcc_plan::escape(value))]
    Env {
        value: String,
        #[source]
        source: EnvError,
    },
}

impl From<NetworkArg> for NetworkMode {
    fn from(word: NetworkArg) -> Self {
        match word {
            NetworkArg::None => Self::None,
            NetworkArg::Internet => Self::Internet,
            NetworkArg::Allowlist => Self::Allowlist,
        }
    }
}

/// Turns the flags into a layer.
pub(super) fn layer(context: &Context, flags: &RunFlags) -> Result<PolicyLayer, CliError> {
    let mut layer = PolicyLayer::default();
    for text in &flags.allow {
        let text = utf8("--allow", text)?;
        layer.push_rule(
            Rule::parse(text, Origin::flag("--allow"))
                .map_err(|source| rule("--allow", text, source))?,
        );
    }
    for text in &flags.deny {
        let text = utf8("--deny", text)?;
        layer.push_rule(
            Rule::parse_deny(text, Origin::flag("--deny"))
                .map_err(|source| rule("--deny", text, source))?,
        );
    }
    for path in &flags.allow_hosts {
        let content = read_text(path, RULES_LIMIT_BYTES)
            .map_err(file_error)?
            .ok_or_else(|| {
                let origin = "flag --allow-hosts".to_owned();
                CliError::new(
                    Kind::User,
                    LayerError::NoRules {
                        path: path.clone(),
                        origin,
                    },
                )
            })?;
        let name = rcc_plan::escape(path);
        layer.add_rules(parse_rules(&content.text, &name)?, &SourceName::file(&name));
        // "These hosts and no others", whatever a file says.
        layer.mode.get_or_insert_with(|| {
            Sourced::new(NetworkMode::Allowlist, Origin::flag("--allow-hosts"))
        });
    }
    for preset in &flags.preset {
        let origin = Origin::flag("--preset");
        layer.allow_stated.get_or_insert_with(|| origin.clone());
        layer.presets.push(Sourced::new(*preset, origin));
    }
    if let Some(mode) = flags.network {
        layer.mode = Some(Sourced::new(mode.into(), Origin::flag("--network")));
    }
    if flags.ask {
        let origin = Origin::flag("--ask");
        layer.allow_stated.get_or_insert_with(|| origin.clone());
        layer.ask = Some(Sourced::new(true, origin));
    }
    if flags.no_internet {
        layer.mode = Some(Sourced::new(
            NetworkMode::None,
            Origin::flag("--no-internet"),
        ));
    }
    for text in &flags.host_port {
        let port = utf8("--host-port", text)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let number = port.parse().ok().filter(|&number| digits && number != 0);
        let number = number.ok_or_else(|| {
            user(FlagError::Port {
                value: port.to_owned(),
            })
        })?;
        layer
            .host_ports
            .push(Sourced::new(number, Origin::flag("--host-port")));
    }
    for text in &flags.publish {
        let text = utf8("--publish", text)?;
        let publish = text.parse().map_err(|source| {
            user(FlagError::Publish {
                value: text.to_owned(),
                source,
            })
        })?;
        layer
            .publish
            .push(Sourced::new(publish, Origin::flag("--publish")));
    }
    layer.readonly = paths("--ro", &flags.ro, Purpose::Grant, &context.account.home)?;
    layer.rw = paths("--rw", &flags.rw, Purpose::Grant, &context.account.home)?;
    layer.hidden = paths("--hide", &flags.hide, Purpose::Hide, &context.account.home)?;
    for text in &flags.env {
        let text = utf8("--env", text)?;
        let fail = |source| {
            user(FlagError::Env {
                value: text.to_owned(),
                source,
            })
        };
        match text.split_once('=') {
            Some((name, value)) => {
                let name = EnvName::parse(name).map_err(fail)?;
                check_env_value(&name, value).map_err(fail)?;
                let setting = EnvSetting {
                    name,
                    value: value.to_owned(),
                };
                layer
                    .env_set
                    .push(Sourced::new(setting, Origin::flag("--env")));
            }
            None => {
                let pattern = EnvPattern::parse(text).map_err(fail)?;
                layer
                    .env_pass
                    .push(Sourced::new(pattern, Origin::flag("--env")));
            }
        }
    }
    if flags.cow || flags.resume.is_some() {
        let flag = if flags.cow { "--cow" } else { "--continue" };
        layer.files_mode = Some(Sourced::new(FilesMode::Cow, Origin::flag(flag)));
    }
    for (key, text) in flags.limits.given() {
        let text = utf8(key.flag(), text)?;
        let limit = key.parse(text).map_err(|source| {
            user(FlagError::Limit {
                flag: key.flag(),
                value: text.to_owned(),
                source,
            })
        })?;
        let origin = Origin::flag(key.flag());
        layer.limits.set(key, Sourced::new(limit, origin));
    }
    if flags.snapshot {
        layer.snapshot = Some(Sourced::new(true, Origin::flag("--snapshot")));
    }
    if flags.share_state {
        layer.share_state = Some(Sourced::new(true, Origin::flag("--share-state")));
    }
    Ok(layer)
}

/// What a path is named for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Grant,
    Hide,
}

/// Paths of flags are relative to the current directory, unlike those of files.
fn paths(
    flag: &'static str,
    paths: &[PathBuf],
    purpose: Purpose,
    home: &Path,
) -> Result<Vec<Sourced<PathSpec>>, CliError> {
    let mut out = Vec::with_capacity(paths.len());
    for path in paths {
        let expanded = rcc_host::expand_home(path, home);
        let missing = |source| {
            user(FlagError::Missing {
                flag,
                value: path.clone(),
                source,
            })
        };
        // `..` behind a link is not where the text says: only the kernel can resolve it.
        let absolute = if expanded
            .components()
            .any(|part| part == std::path::Component::ParentDir)
        {
            std::fs::canonicalize(&expanded).map_err(missing)?
        } else {
            std::path::absolute(&expanded).map_err(missing)?
        };
        if purpose == Purpose::Grant {
            std::fs::symlink_metadata(&absolute).map_err(missing)?;
        }
        let text = utf8(flag, absolute.as_os_str())?;
        let spec = match purpose {
            Purpose::Grant => PathSpec::parse_grant(text),
            Purpose::Hide => PathSpec::parse(text),
        };
        let spec = spec.map_err(|source| {
            user(FlagError::Path {
                flag,
                value: path.clone(),
                source,
            })
        })?;
        out.push(Sourced::new(spec, Origin::flag(flag)));
    }
    Ok(out)
}

fn utf8<'a>(flag: &'static str, value: &'a OsStr) -> Result<&'a str, CliError> {
    value.to_str().ok_or_else(|| {
        user(FlagError::NotText {
            flag,
            value: value.to_owned(),
        })
    })
}

fn rule(flag: &'static str, value: &str, source: RuleError) -> CliError {
    user(FlagError::Rule {
        flag,
        value: value.to_owned(),
        source,
    })
    .hint("rules look like example.com, *.example.com:443 or 203.0.113.0/24:8000-8100")
}

fn user(error: FlagError) -> CliError {
    CliError::new(Kind::User, error)
}
