//! The system-call filter: an allow-list with `ENOSYS` for everything unknown, and refusals by argument.
//!
//! Two filters are installed; the kernel takes the stricter answer of the two (`seccomp(2)`):
//! 1. the allow-list of the profile: any other number fails with `ENOSYS`. It also ends a process that uses another
//!    architecture's calls (`int 0x80` on x86-64); x32 numbers are simply not on the list;
//! 2. the refusals: `EPERM` for known calls that an agent must not use, and for arguments of allowed calls: new
//!    namespaces, terminal injection, socket families and protocols.
//!
//! Arguments that the kernel takes as `int` are compared on their low 32 bits only, as the kernel does: comparing all
//! 64 let a caller slip a forbidden value through with high bits set (CVE-2019-10063).

mod tables;

use std::collections::BTreeMap;

use rcc_plan::SeccompProfile;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::error::NativeError;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: TargetArch = TargetArch::aarch64;

/// `CLONE_NEW*` flags that `clone(2)` takes; the bit of `CLONE_NEWTIME` belongs to the exit signal there.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

/// Values of `personality(2)` that programs use: the default, asking, and switching off address randomisation for
/// debuggers; the ones that weaken memory protection are refused.
const PERSONALITIES: [u64; 4] = [0x0, 0x0004_0000, 0x0002_0000, 0xffff_ffff];

/// Compiled filters, ready to be installed.
pub(crate) struct Filters(Vec<BpfProgram>);

/// Compiles the filters of a profile.
pub(crate) fn compile(profile: &SeccompProfile) -> Result<Filters, NativeError> {
    let refused = program(refusals(), SeccompAction::Allow, SeccompAction::Errno(errno(libc::EPERM)))?;
    let programs = match profile {
        SeccompProfile::Default => vec![allow_list(&default_calls())?, refused],
        SeccompProfile::Strict => vec![allow_list(&strict_calls())?, refused],
        SeccompProfile::DangerouslyNone => vec![refused],
    };
    Ok(Filters(programs))
}

impl Filters {
    /// Puts the filters in force for this thread and everything it will execute. Sets no_new_privs as a side effect.
    pub(crate) fn install(&self) -> Result<(), NativeError> {
        for program in &self.0 {
            seccompiler::apply_filter(program).map_err(|source| NativeError::Seccomp { source })?;
        }
        Ok(())
    }
}

/// Names and numbers of the calls that the profile lets through to the kernel, refusals by argument aside.
#[must_use]
pub fn allowed_calls(profile: &SeccompProfile) -> BTreeMap<i64, &'static str> {
    let calls = match profile {
        SeccompProfile::Default | SeccompProfile::DangerouslyNone => default_calls(),
        SeccompProfile::Strict => strict_calls(),
    };
    calls.into_iter().filter(|(number, _)| !tables::REFUSED.iter().any(|(_, refused)| refused == number)).collect()
}

fn default_calls() -> BTreeMap<i64, &'static str> {
    use tables::*;
    index(&[CORE, STRICT_FILES, LEGACY, FILES, EVENTS, PROCESSES, MEMORY, SOCKETS, REFUSED])
}

fn strict_calls() -> BTreeMap<i64, &'static str> {
    index(&[tables::CORE, tables::STRICT_FILES, tables::STRICT_LEGACY, tables::REFUSED])
}

fn index(groups: &[&[tables::Call]]) -> BTreeMap<i64, &'static str> {
    groups.iter().flat_map(|group| group.iter()).map(|&(name, number)| (number, name)).collect()
}

fn allow_list(calls: &BTreeMap<i64, &'static str>) -> Result<BpfProgram, NativeError> {
    let rules = calls.keys().map(|&number| (number, Vec::new())).collect();
    program(rules, SeccompAction::Errno(errno(libc::ENOSYS)), SeccompAction::Allow)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn program(rules: Rules, otherwise: SeccompAction, on_match: SeccompAction) -> Result<BpfProgram, NativeError> {
    SeccompFilter::new(rules, otherwise, on_match, ARCHITECTURE)
        .and_then(BpfProgram::try_from)
        .map_err(|error| NativeError::Seccomp { source: seccompiler::Error::Backend(error) })
}

/// The second filter: what matches is refused.
fn refusals() -> Rules {
    let mut rules: Rules = tables::REFUSED.iter().map(|&(_, number)| (number, Vec::new())).collect();
    rules.insert(libc::SYS_clone, each_flag(0, NEW_NAMESPACES));
    rules.insert(libc::SYS_unshare, each_flag(0, NEW_NAMESPACES | libc::CLONE_NEWTIME as u64));
    rules.insert(libc::SYS_ioctl, vec![all(&[equal(1, libc::TIOCSTI)]), all(&[equal(1, libc::TIOCLINUX)])]);
    rules.insert(libc::SYS_personality, vec![all(&PERSONALITIES.map(|value| differs(0, value)))]);
    rules.insert(libc::SYS_socket, socket_refusals());
    rules.insert(libc::SYS_socketpair, vec![all(&[differs(0, libc::AF_UNIX as u64)])]);
    rules
}

/// Families UNIX, INET, INET6 and route NETLINK; of INET and INET6 only TCP, UDP and echo datagrams.
fn socket_refusals() -> Vec<SeccompRule> {
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    let mut rules = vec![
        all(&families.map(|family| differs(0, family as u64))),
        all(&[equal(0, libc::AF_NETLINK as u64), differs(2, libc::NETLINK_ROUTE as u64)]),
    ];
    let protocols = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6];
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut odd_protocol = vec![equal(0, family as u64)];
        odd_protocol.extend(protocols.map(|protocol| differs(2, protocol as u64)));
        rules.push(all(&odd_protocol));
        // The low four bits are the type, the rest are SOCK_CLOEXEC and SOCK_NONBLOCK (`socket(2)`).
        rules.push(all(&[equal(0, family as u64), masked(1, 0xf, libc::SOCK_RAW as u64)]));
    }
    rules
}

/// One rule for each bit of `flags` in argument `index`.
fn each_flag(index: u8, flags: u64) -> Vec<SeccompRule> {
    (0..32).map(|bit| 1_u64 << bit).filter(|bit| flags & bit != 0).map(|bit| all(&[masked(index, bit, bit)])).collect()
}

#[expect(clippy::expect_used, reason = "only constants of this file come here, and the unit tests compile them all")]
fn all(conditions: &[SeccompCondition]) -> SeccompRule {
    SeccompRule::new(conditions.to_vec()).expect("a rule has at least one condition")
}

fn equal(index: u8, value: u64) -> SeccompCondition {
    condition(index, SeccompCmpOp::Eq, value)
}

fn differs(index: u8, value: u64) -> SeccompCondition {
    condition(index, SeccompCmpOp::Ne, value)
}

fn masked(index: u8, mask: u64, value: u64) -> SeccompCondition {
    condition(index, SeccompCmpOp::MaskedEq(mask), value)
}

#[expect(clippy::expect_used, reason = "only constants of this file come here, and the unit tests compile them all")]
fn condition(index: u8, operator: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).expect("an argument index below six")
}

#[expect(clippy::cast_sign_loss, reason = "errno numbers are small and positive")]
fn errno(number: i32) -> u32 {
    number as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_compiles_and_fits_the_kernel_limit() {
        for profile in [SeccompProfile::Default, SeccompProfile::Strict, SeccompProfile::DangerouslyNone] {
            for program in compile(&profile).unwrap().0 {
                // BPF_MAXINSNS, include/uapi/linux/bpf_common.h.
                assert!(program.len() <= 4096, "{profile:?}: {} instructions", program.len());
            }
        }
    }

    #[test]
    fn a_call_is_in_one_group_only() {
        use tables::*;
        let mut seen = BTreeMap::new();
        for group in [CORE, STRICT_FILES, LEGACY, FILES, EVENTS, PROCESSES, MEMORY, SOCKETS, REFUSED] {
            for (name, number) in group {
                assert_eq!(seen.insert(*number, *name), None, "{name} is listed twice");
            }
        }
    }

    #[test]
    fn strict_is_short_and_within_default() {
        let default = allowed_calls(&SeccompProfile::Default);
        let strict = allowed_calls(&SeccompProfile::Strict);
        assert!(strict.keys().all(|number| default.contains_key(number)));
        assert!((65..=95).contains(&strict.len()), "{} calls", strict.len());
    }

    #[test]
    fn the_calls_of_known_escapes_are_not_allowed() {
        let default = allowed_calls(&SeccompProfile::Default);
        for number in [
            libc::SYS_clone3, libc::SYS_bpf, libc::SYS_io_uring_setup, libc::SYS_userfaultfd, libc::SYS_keyctl,
            libc::SYS_mount, libc::SYS_setns, libc::SYS_open_by_handle_at, libc::SYS_perf_event_open, libc::SYS_kexec_file_load,
        ] {
            assert!(!default.contains_key(&number), "{number}");
        }
    }
}
