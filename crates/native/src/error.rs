//! Why a run could not be started, with the fix where it is known.

use rcc_plan::SafeBytes;
use rcc_sys::SysError;
use rcc_sys::netlink::NetlinkError;

use crate::disk_room::Shortage;
use crate::shortage::shortage_of;

/// A failed step of the native engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NativeError {
    /// The first clone of the run was refused.
    #[error("cannot create a user namespace")]
    UserNamespace {
        /// What the kernel answered.
        #[source]
        source: SysError,
    },
    /// A step in the supervisor failed.
    #[error("cannot {step}")]
    Supervisor {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: SysError,
    },
    /// The kernel refused part of the network.
    #[error("cannot {step}")]
    Network {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: NetlinkError,
    },
    /// systemd did not make the scope.
    #[error("systemd did not put the run into a scope ({method}): {reason}")]
    Scope {
        /// The method that was called.
        method: &'static str,
        /// What `busctl` said.
        reason: String,
    },
    /// systemd made a scope without one of its limits.
    #[error("systemd made a scope in which the kernel has no {setting}")]
    ScopeWithout {
        /// The file that is missing.
        setting: &'static str,
    },
    /// A step in pid 1 or the netns helper failed and was reported.
    #[error("cannot build the sandbox")]
    SetUp {
        /// The chain of errors; it crossed a process border.
        #[source]
        source: Reported,
        /// The fix.
        hint: Option<String>,
    },
    /// A child ended without a word.
    #[error("the {who} ended while the sandbox was being built")]
    Vanished {
        /// Which process.
        who: &'static str,
    },
    /// A child said something that the moment does not allow.
    #[error("the {who} broke the set-up protocol")]
    Protocol {
        /// Which process.
        who: &'static str,
    },
    /// A file system has less room than the run was to leave.
    #[error("the limit disk_free = {} MiB cannot be kept: {} MiB are left on the disk of {}", shortage.floor >> 20, shortage.free >> 20, shortage.path)]
    DiskShort {
        /// Which one.
        shortage: Shortage,
    },
    /// A mount or file of the tree could not be made.
    #[error("cannot {action} {path}")]
    Tree {
        /// What was tried: `mount`, `make the directory` …
        action: &'static str,
        /// On which path inside the sandbox or on the host.
        path: SafeBytes,
        /// What the kernel answered.
        #[source]
        source: SysError,
    },
    /// A protected path could not be protected again after the host had replaced it.
    #[error("{path} was replaced on the host and {problem}")]
    Unprotected {
        /// Path inside the sandbox.
        path: SafeBytes,
        /// Why it cannot be protected.
        problem: &'static str,
    },
    /// The guard of the protected paths failed, and the agent was killed.
    #[error("protected paths could not be kept read-only any more, so the run was ended")]
    Guard {
        /// The guard's chain of errors; it crossed a process border.
        #[source]
        source: Reported,
    },
    /// A directory or file of the policy was replaced while the run was starting.
    #[error("{path} was replaced by something else while the sandbox was being built")]
    Replaced {
        /// Path on the host.
        path: SafeBytes,
    },
    /// A standard stream that must not be handed in.
    #[error("cannot hand the {name} to the sandbox: {problem}")]
    Stream {
        /// Which stream.
        name: &'static str,
        /// Why not.
        problem: &'static str,
    },
    /// A standard stream could not be opened anew.
    #[error("cannot open the {name} anew for the sandbox")]
    StreamAnew {
        /// Which stream.
        name: &'static str,
        /// What the kernel answered.
        #[source]
        source: SysError,
    },
    /// A confinement step failed.
    #[error("cannot {step}")]
    Confinement {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        #[source]
        source: SysError,
    },
    /// The Landlock rules could not be put in force.
    #[error("cannot enforce the Landlock rules")]
    Landlock {
        /// The crate's error.
        #[source]
        source: landlock::RulesetError,
    },
    /// The kernel enforced less of Landlock than the plan says.
    #[error("the kernel enforces less of Landlock than ABI {planned} promises")]
    LandlockWeaker {
        /// ABI in the plan.
        planned: u32,
    },
    /// The system-call filter could not be built or installed.
    #[error("cannot install the system-call filter")]
    Seccomp {
        /// The crate's error.
        #[source]
        source: seccompiler::Error,
    },
}

impl NativeError {
    /// The fix, when this error has a known one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        use rustix::io::Errno;
        match self {
            Self::SetUp { hint, .. } => hint.clone(),
            Self::Scope { .. } => Some("rcc doctor says what limits need here; without a limit of memory, processor or disk no scope is asked for".to_owned()),
            Self::ScopeWithout { .. } => Some("sudo systemctl edit user@.service, write [Service] and Delegate=cpu cpuset io memory pids, then log in again".to_owned()),
            Self::DiskShort { .. } => Some("make room there, or name a smaller limit: --disk-free SIZE".to_owned()),
            Self::UserNamespace { source } => Some(match source.errno {
                Errno::NOSPC | Errno::USERS => "raise user.max_user_namespaces with sysctl(8), or end other sandboxes".to_owned(),
                Errno::AGAIN | Errno::NOMEM => return shortage_of(source),
                Errno::NOSYS => "the native engine needs clone3(2); inside a container, its seccomp profile must allow it".to_owned(),
                _ => "user namespaces are forbidden for this user; `rcc doctor` names the setting and the command that allows them".to_owned(),
            }),
            Self::Tree { action, source, .. } if *action == crate::site::LAY_OVER && source.errno == Errno::INVAL => {
                Some("the kernel takes one of the two file systems into no overlay (NFS, or an overlay itself): let XDG_STATE_HOME name a directory on a local disk, or run without --cow".to_owned())
            }
            Self::Tree { source, .. } if source.errno == Errno::LOOP => {
                Some("remove the symbolic link there; rcc follows none in a tree that the agent can write to".to_owned())
            }
            Self::Tree { source, .. } if source.errno == Errno::NOSPC => Some("free space on the file system named above".to_owned()),
            Self::Stream { .. } | Self::StreamAnew { .. } => Some("pass the content through a pipe: cat FILE | rcc …".to_owned()),
            Self::Supervisor { source, .. } | Self::Tree { source, .. } | Self::Confinement { source, .. } => shortage_of(source),
            Self::Landlock { .. } | Self::LandlockWeaker { .. } => Some("run `rcc doctor`".to_owned()),
            _ => None,
        }
    }

    /// This error and its sources as text, outermost first, to cross a process border.
    pub(crate) fn chain(&self) -> Vec<String> {
        let mut chain = vec![self.to_string()];
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            chain.push(error.to_string());
            source = error.source();
        }
        chain
    }
}

/// Says which step of the set-up a failed call belongs to.
pub(crate) fn on_step(step: &'static str) -> impl FnOnce(SysError) -> NativeError {
    move |source| NativeError::Supervisor { step, source }
}

/// As [`on_step`], for calls that report a bare errno.
pub(crate) fn on_step_call(
    step: &'static str,
    call: &'static str,
) -> impl FnOnce(rustix::io::Errno) -> NativeError {
    move |errno| on_step(step)(SysError::new(call, "", errno))
}

/// An error that another process of rcc reported, with its causes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    text: String,
    cause: Option<Box<Reported>>,
}

impl Reported {
    /// Rebuilds the chain of errors from its texts, outermost first.
    pub(crate) fn from_chain(chain: Vec<String>) -> Self {
        let mut texts = chain.into_iter().rev();
        let innermost = Self {
            text: texts
                .next()
                .unwrap_or_else(|| "no reason was given".to_owned()),
            cause: None,
        };
        texts.fold(innermost, |cause, text| Self {
            text,
            cause: Some(Box::new(cause)),
        })
    }
}

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Reported {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}
