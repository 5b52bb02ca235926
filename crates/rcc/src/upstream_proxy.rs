//! The credentials of the upstream proxy: read on the host, handed to the gateway, seen by nobody else.
//!
//! Must not put them into an error, the plan, the record or the environment of anything.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rcc_gateway::{Credentials, CredentialsError, UpstreamProxy};
use rcc_plan::{MountStep, Plan};
use rcc_spec::{CredentialsFrom, PathBase, Policy};

use crate::error::{CliError, Kind};

/// Longest file of credentials, in bytes.
const LIMIT_BYTES: u64 = 4096;

/// Credentials that cannot be used.
#[derive(Debug, thiserror::Error)]
enum ProxyFailure {
    /// The file cannot be read.
    #[error("cannot read the proxy's credentials {}", rcc_plan::escape(path))]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Others can read the file.
    #[error(
        "the proxy's credentials {} are not private: owner {owner}, mode {mode:o}",
        rcc_plan::escape(path)
    )]
    NotPrivate {
        path: PathBuf,
        owner: u32,
        mode: u32,
    },
    /// The agent could read the file.
    #[error(
        "the proxy's credentials {} lie where the agent can see them",
        rcc_plan::escape(path)
    )]
    Visible { path: PathBuf },
    /// The variable is not set.
    #[error("the variable {name} for the proxy's credentials is not set")]
    NoVariable { name: String },
    /// Not of the right form.
    #[error("cannot use the proxy's credentials of {place}")]
    Form {
        place: String,
        #[source]
        source: CredentialsError,
    },
}

/// The proxy of a run with its credentials; none when the policy names none or the run has no network.
pub(crate) fn of_run(
    policy: &Policy,
    plan: &Plan,
    home: &Path,
) -> Result<Option<UpstreamProxy>, CliError> {
    let Some(address) = &policy.upstream_proxy.address else {
        return Ok(None);
    };
    let credentials = match policy.upstream_proxy.credentials.as_ref().map(|c| &c.value) {
        None => None,
        Some(CredentialsFrom::File(path)) => {
            let path = match path.base() {
                PathBase::Home => home.join(path.relative()),
                PathBase::Root | PathBase::Project => PathBuf::from(path.as_str()),
            };
            Some(from_file(&path, plan)?)
        }
        Some(CredentialsFrom::Environment(name)) => {
            let value = std::env::var_os(name.as_str()).unwrap_or_default();
            if value.is_empty() {
                let name = name.to_string();
                return Err(CliError::new(Kind::User, ProxyFailure::NoVariable { name })
                    .hint("set it to USER:PASSWORD, or use upstream_proxy_credentials_file"));
            }
            // What is not text has no colon that counts either: the error is the same.
            let text = value.to_string_lossy();
            Some(parse(&text, format!("the variable {name}"))?)
        }
    };
    Ok(Some(UpstreamProxy {
        address: address.value.clone(),
        credentials,
        except: policy.upstream_proxy.except.clone(),
    }))
}

fn parse(text: &str, place: String) -> Result<Credentials, CliError> {
    Credentials::parse(text).map_err(|source| {
        CliError::new(Kind::Config, ProxyFailure::Form { place, source })
            .hint("write one line, USER:PASSWORD")
    })
}

fn from_file(path: &Path, plan: &Plan) -> Result<Credentials, CliError> {
    let unreadable = |source| {
        let path = path.to_owned();
        CliError::new(Kind::Config, ProxyFailure::Read { path, source })
    };
    let real = std::fs::canonicalize(path).map_err(unreadable)?;
    if is_visible(&real, plan) {
        let error = ProxyFailure::Visible {
            path: path.to_owned(),
        };
        return Err(CliError::new(Kind::Denied, error)
            .hint("keep them beside your own policy, in $XDG_CONFIG_HOME/rcc"));
    }
    let file = File::open(&real).map_err(unreadable)?;
    let data = file.metadata().map_err(unreadable)?;
    let own = [0, rustix::process::geteuid().as_raw()];
    let mode = data.mode() & 0o7777;
    if !data.is_file() || !own.contains(&data.uid()) || mode & 0o077 != 0 {
        let error = ProxyFailure::NotPrivate {
            path: path.to_owned(),
            owner: data.uid(),
            mode,
        };
        return Err(CliError::new(Kind::Config, error)
            .hint(format!("chmod 600 {}", rcc_plan::escape(path))));
    }
    let mut text = String::new();
    file.take(LIMIT_BYTES)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    parse(&text, rcc_plan::escape(path))
}

/// Tells whether the plan shows this path inside. What hides a part of what is shown is not looked for: the strict answer
/// costs no more than moving a file.
fn is_visible(real: &Path, plan: &Plan) -> bool {
    plan.mounts.iter().any(|step| match step {
        MountStep::Bind { from, .. } | MountStep::Overlay { lower: from, .. } => {
            real.starts_with(from.as_path())
        }
        MountStep::Etc { absent, .. } => real.strip_prefix("/etc").is_ok_and(|below| {
            !absent
                .iter()
                .any(|absent| below.starts_with(absent.as_path()))
        }),
        _ => false,
    })
}
