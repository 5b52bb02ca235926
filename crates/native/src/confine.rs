//! Confinement of a process that is already in its namespaces and its tree, in the order that DESIGN gives:
//! (1) resource limits, (2) capabilities, (3) no_new_privs, (4) Landlock; seccomp comes last, just before the exec.
//!
//! Should: run in pid 1 before the agent is forked, so that both are confined alike.
//! Mustn't: continue after a failed step. There is no recovery after a partial drop: the caller reports and exits.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use rcc_plan::{Grant, Hardening, LandlockRule, LimitsPlan, Streams};
use rcc_sys::SysError;
use rcc_sys::mount::{Resolve, open_location};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::error::NativeError;

/// Highest capability number that a kernel of the next years can have; unknown ones are refused with `EINVAL`.
const MOST_CAPABILITIES: u64 = 64;

/// How much more readily than other programs the agent's are killed when the machine is out of memory, in thousandths of it
/// (`proc_pid_oom_score_adj(5)`): browsers give 200 to 300 to their tabs, the desktop's programs have 0 to 200.
const OOM_SCORE: i32 = 400;

/// Puts the limits in force that processes carry themselves, and hides the name of the run's control group.
///
/// Must come before the capabilities are dropped.
pub(crate) fn limit(limits: &LimitsPlan) -> Result<(), NativeError> {
    if let Some(processes) = limits.processes {
        let hard = rustix::process::getrlimit(Resource::Nproc).maximum;
        let limit = Some(hard.map_or(processes, |maximum| maximum.min(processes)));
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        rustix::process::setrlimit(Resource::Nproc, limit)
            .map_err(failed("limit the number of processes", "setrlimit(2)"))?;
    }
    if limits.group.is_some() {
        rcc_sys::process::enter_new_cgroup_namespace().map_err(|source| {
            NativeError::Confinement {
                step: "hide the control group of the run",
                source,
            }
        })?;
    }
    Ok(())
}

/// A process whose children the kernel kills first when memory runs out, until it takes its own place back.
///
/// The agent's programs are to die before the desktop's when the machine is out of memory, and before pid 1 at the limit of the
/// run: with pid 1 everything ends. A score is inherited by `fork(2)`, so the parent has the agent's until the agent is there.
/// Nothing depends on it: a `/proc` that cannot be written is no failure.
pub(crate) struct Victim {
    /// The own file, open from before the capabilities went, with what was in it.
    own: Option<(File, i32)>,
}

impl Victim {
    /// Must be made while the own process is seen in `/proc`. A caller that is preferred even more stays so.
    pub(crate) fn become_one() -> Self {
        let file = || {
            let mut file = File::options()
                .read(true)
                .write(true)
                .open("/proc/self/oom_score_adj")
                .ok()?;
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            let before: i32 = text.trim().parse().ok()?;
            (before < OOM_SCORE).then_some((file, before))
        };
        let own = file();
        if let Some((file, _)) = &own {
            let _ = file.write_at(OOM_SCORE.to_string().as_bytes(), 0);
        }
        Self { own }
    }

    /// Takes the own place back, after the agent was forked.
    pub(crate) fn step_back(self) {
        if let Some((file, before)) = self.own {
            let _ = file.write_at(before.to_string().as_bytes(), 0);
        }
    }
}

/// Whose the file tree is in which the rules' paths are looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Nobody but us has been in it yet.
    Own,
    /// An agent works in it, and may have put a link where a path of a rule leads through: it would be a right on whatever the
    /// link names.
    Hostile,
}

/// Applies steps 1 to 4.
pub(crate) fn confine(
    hardening: &Hardening,
    streams: Streams,
    ground: Ground,
) -> Result<(), NativeError> {
    forbid_core_dumps()?;
    drop_capabilities()?;
    rustix::thread::set_no_new_privs(true).map_err(failed("give up new privileges", "prctl(2)"))?;
    if hardening.landlock_abi > 0 {
        enforce_landlock(hardening, streams, ground)?;
    }
    Ok(())
}

fn failed(step: &'static str, call: &'static str) -> impl FnOnce(Errno) -> NativeError {
    move |errno| NativeError::Confinement {
        step,
        source: SysError::new(call, "", errno),
    }
}

/// A core dump would be handed to the host's handler (`core(5)`), outside the sandbox, with content of the agent's
/// choice. A limit of one byte also keeps the kernel from starting a piped handler, which a limit of zero does not.
fn forbid_core_dumps() -> Result<(), NativeError> {
    let hard = rustix::process::getrlimit(Resource::Core).maximum;
    let limit = Some(hard.map_or(1, |maximum| maximum.min(1)));
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: limit,
            maximum: limit,
        },
    )
    .map_err(failed("forbid core dumps", "setrlimit(2)"))
}

/// Empties every capability set. The secure bits make sure that user id 0 (a root caller) means nothing either.
pub(crate) fn drop_capabilities() -> Result<(), NativeError> {
    for number in 0..MOST_CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            Err(Errno::INVAL) if number > 0 => break,
            Err(errno) => {
                return Err(failed("empty the capability bounding set", "prctl(2)")(
                    errno,
                ));
            }
        }
    }
    rustix::thread::clear_ambient_capability_set()
        .map_err(failed("clear the ambient capabilities", "prctl(2)"))?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits)
        .map_err(failed("lock the secure bits", "prctl(2)"))?;
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, none)
        .map_err(failed("drop the capabilities", "capset(2)"))
}

/// The newest ABI that both this program and the kernel know.
fn abi(number: u32) -> ABI {
    match number {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    }
}

/// Landlock as the second layer: look at and execute everything below `/` of the sandbox, change only what the rules
/// name, no abstract sockets and no signals across the border.
fn enforce_landlock(
    hardening: &Hardening,
    streams: Streams,
    ground: Ground,
) -> Result<(), NativeError> {
    let abi = abi(hardening.landlock_abi);
    let refused = |source| NativeError::Landlock { source };
    // The plan names the kernel's own ABI, so everything handled here is known to it: anything less is an error.
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .map_err(refused)?;
    if hardening.landlock_abi >= 6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(refused)?;
    }
    let status = ruleset
        .create()
        .and_then(|created| created.add_rules(path_beneath_rules(["/"], AccessFs::from_read(abi))))
        .map_err(refused)?
        .add_rules(
            hardening
                .landlock
                .iter()
                .filter_map(|rule| grant(rule, abi, ground)),
        )
        .map_err(refused)?
        .add_rules(
            stream_rules(streams, abi)
                .into_iter()
                .map(Ok::<_, landlock::RulesetError>),
        )
        .map_err(refused)?
        .restrict_self()
        .map_err(refused)?;
    if status.ruleset == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err(NativeError::LandlockWeaker {
            planned: hardening.landlock_abi,
        })
    }
}

/// Files and devices that came in as standard streams lie below no granted path, and programs open `/dev/stdin` and
/// `/dev/stderr` by name: as far as the descriptor itself goes, that is allowed.
fn stream_rules(streams: Streams, abi: ABI) -> Vec<PathBeneath<BorrowedFd<'static>>> {
    let all = [
        (rustix::stdio::stdin(), streams.stdin_terminal),
        (rustix::stdio::stdout(), streams.stdout_terminal),
        (rustix::stdio::stderr(), streams.stderr_terminal),
    ];
    // The caller's terminal is not the agent's, who has its own.
    let handed_in = all
        .into_iter()
        .filter(|(_, is_terminal)| !is_terminal)
        .map(|(stream, _)| stream);
    handed_in
        .filter_map(|stream| {
            let status = rustix::fs::fstat(stream).ok()?;
            let flags = rustix::fs::fcntl_getfl(stream).ok()?;
            let mut access = match FileType::from_raw_mode(status.st_mode) {
                FileType::RegularFile => BitFlags::empty(),
                FileType::CharacterDevice | FileType::BlockDevice => {
                    BitFlags::from(AccessFs::IoctlDev)
                }
                _ => return None,
            };
            if !flags.contains(OFlags::WRONLY) {
                access |= AccessFs::ReadFile;
            }
            if flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
                access |= AccessFs::WriteFile | AccessFs::Truncate;
            }
            Some(PathBeneath::new(stream, access & AccessFs::from_file(abi)))
        })
        .collect()
}

fn grant(
    rule: &LandlockRule,
    abi: ABI,
    ground: Ground,
) -> Option<Result<PathBeneath<OwnedFd>, landlock::RulesetError>> {
    let path = rule.path.as_path();
    // Something that does not exist needs no right. Anything else would show as a program's EACCES later.
    let opened = match ground {
        Ground::Own => {
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?
        }
        Ground::Hostile => open_location(CWD, path, Resolve::NoSymlinks).ok()?,
    };
    let mut access = AccessFs::from_all(abi);
    if rule.grant == Grant::Files {
        access.remove(AccessFs::IoctlDev);
    }
    let status = rustix::fs::fstat(&opened).ok()?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::Directory => {}
        // `O_PATH | O_NOFOLLOW` opens a link at the end of the path itself, `openat2(2)`.
        FileType::Symlink => return None,
        _ => access &= AccessFs::from_file(abi),
    }
    Some(Ok(PathBeneath::new(opened, access)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_where_a_rule_s_path_leads_through_is_no_right() {
        let base = std::env::temp_dir().join(format!("rcc-confine-{}", std::process::id()));
        std::fs::create_dir_all(base.join("real/below")).unwrap();
        std::os::unix::fs::symlink("/", base.join("link")).unwrap();
        let rule = |path: &str| LandlockRule {
            path: base.join(path).into(),
            grant: Grant::Files,
        };
        for path in ["link", "link/tmp", "real/../link/tmp"] {
            assert!(
                grant(&rule(path), ABI::V3, Ground::Hostile).is_none(),
                "{path}"
            );
            assert!(
                grant(&rule(path), ABI::V3, Ground::Own).is_some(),
                "the control: {path}"
            );
        }
        assert!(grant(&rule("real/below"), ABI::V3, Ground::Hostile).is_some());
        std::fs::remove_dir_all(base).unwrap();
    }
}
