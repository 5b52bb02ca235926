//! The system-call filter: an allow-list with `ENOSYS` for everything unknown, and refusals by argument.
//!
//! One filter is installed. A number on the profile's list reaches the kernel; known calls that an agent must not use,
//! and forbidden arguments (new namespaces, terminal injection, socket families and protocols), fail with `EPERM` or
//! what a kernel without the feature would say; every other number fails with `ENOSYS`. A process that uses another
//! architecture's calls (`int 0x80` on x86-64) is ended; x32 numbers are simply not on the list.
//!
//! Arguments that the kernel takes as `int` are compared on their low 32 bits only, as the kernel does: comparing all
//! 64 let a caller slip a forbidden value through with high bits set (CVE-2019-10063).

mod program;
mod tables;

use std::collections::BTreeMap;

use rcc_plan::SeccompProfile;
use seccompiler::BpfProgram;

use crate::error::NativeError;
use program::{Action, Condition, Refusal, Treatment, build};

/// `AUDIT_ARCH_*` of `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// `CLONE_NEW*` flags that `clone(2)` takes; the bit of `CLONE_NEWTIME` belongs to the exit signal there.
const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Values of `personality(2)` that programs use: the default, no address randomisation (debuggers), an old version
/// number, asking. The ones that weaken memory protection are refused.
const PERSONALITIES: [u32; 4] = [0x0, 0x0004_0000, 0x0002_0000, 0xffff_ffff];

const NOT_PERMITTED: u16 = 1;
const NO_SUCH_CALL: u16 = 38;
const FAMILY_NOT_SUPPORTED: u16 = 97;
const PROTOCOL_NOT_SUPPORTED: u16 = 93;

/// A compiled filter, ready to be installed.
pub(crate) struct Filter(BpfProgram);

/// Compiles the filter of a profile.
pub(crate) fn compile(profile: &SeccompProfile) -> Filter {
    let mut table: BTreeMap<u32, Treatment> = allowed_calls(profile)
        .into_keys()
        .map(|number| (number, Treatment::Always(Action::Allow)))
        .collect();
    for &(_, number) in tables::REFUSED {
        table.insert(number, Treatment::Always(Action::Fail(NOT_PERMITTED)));
    }
    for (number, refusals) in refusals() {
        if matches!(table.get(&number), Some(Treatment::Always(Action::Allow))) {
            table.insert(number, Treatment::Unless(refusals));
        }
    }
    Filter(build(ARCHITECTURE, &table, Action::Fail(NO_SUCH_CALL)))
}

/// The filter of the process that makes sockets for published ports: a control connection, TCP sockets, memory, its end.
pub(crate) fn socket_maker() -> Filter {
    use Condition::Differs;
    let mut table: BTreeMap<u32, Treatment> = tables::SOCKET_MAKER
        .iter()
        .map(|&(_, number)| (number, Treatment::Always(Action::Allow)))
        .collect();
    let kind = bits(libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC);
    let families = [libc::AF_INET, libc::AF_INET6].map(|family| Differs(0, bits(family)));
    let refusals = vec![
        refuse(families.to_vec(), NOT_PERMITTED),
        refuse(vec![Differs(1, kind)], NOT_PERMITTED),
        refuse(vec![Differs(2, 0)], NOT_PERMITTED),
    ];
    table.insert(number(libc::SYS_socket), Treatment::Unless(refusals));
    Filter(build(ARCHITECTURE, &table, Action::Fail(NOT_PERMITTED)))
}

impl Filter {
    /// Puts the filter in force for this thread and everything it will fork or execute. Sets no_new_privs as a side
    /// effect.
    pub(crate) fn install(&self) -> Result<(), NativeError> {
        seccompiler::apply_filter(&self.0).map_err(|source| NativeError::Seccomp { source })
    }
}

/// Numbers and names of the calls that the profile lets through to the kernel, refusals by argument aside.
#[must_use]
pub fn allowed_calls(profile: &SeccompProfile) -> BTreeMap<u32, &'static str> {
    match profile {
        SeccompProfile::Default => default_calls(),
        SeccompProfile::Strict => strict_calls(),
        SeccompProfile::Own { allowed } => {
            let mut calls = default_calls();
            calls.retain(|_, name| allowed.contains(*name));
            calls
        }
    }
}

fn default_calls() -> BTreeMap<u32, &'static str> {
    use tables::*;
    index(&[
        CORE,
        STRICT_FILES,
        LEGACY,
        FILES,
        EVENTS,
        PROCESSES,
        MEMORY,
        SOCKETS,
    ])
}

fn strict_calls() -> BTreeMap<u32, &'static str> {
    index(&[tables::CORE, tables::STRICT_FILES, tables::STRICT_LEGACY])
}

fn index(groups: &[&[tables::Call]]) -> BTreeMap<u32, &'static str> {
    groups
        .iter()
        .flat_map(|group| group.iter())
        .map(|&(name, number)| (number, name))
        .collect()
}

/// Refusals by argument of calls that are otherwise allowed.
fn refusals() -> Vec<(u32, Vec<Refusal>)> {
    use Condition::{Differs, Equal, HasAnyOf};
    vec![
        (
            number(libc::SYS_clone),
            vec![refuse(
                vec![HasAnyOf(0, bits(NEW_NAMESPACES))],
                NOT_PERMITTED,
            )],
        ),
        (
            number(libc::SYS_unshare),
            vec![refuse(
                vec![HasAnyOf(0, bits(NEW_NAMESPACES | libc::CLONE_NEWTIME))],
                NOT_PERMITTED,
            )],
        ),
        (
            number(libc::SYS_ioctl),
            vec![
                refuse(vec![Equal(1, TIOCSTI)], NOT_PERMITTED),
                refuse(vec![Equal(1, TIOCLINUX)], NOT_PERMITTED),
            ],
        ),
        (
            number(libc::SYS_personality),
            vec![refuse(
                PERSONALITIES.map(|value| Differs(0, value)).to_vec(),
                NOT_PERMITTED,
            )],
        ),
        (number(libc::SYS_socket), socket_refusals()),
        (
            number(libc::SYS_socketpair),
            vec![refuse(
                vec![Differs(0, bits(libc::AF_UNIX))],
                FAMILY_NOT_SUPPORTED,
            )],
        ),
    ]
}

/// `ioctl_tty(2)`: puts a byte into a terminal's input; `ioctl_console(2)`: the console's clipboard.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

/// Families UNIX, INET, INET6 and route NETLINK; of INET and INET6 only TCP, UDP and echo datagrams.
fn socket_refusals() -> Vec<Refusal> {
    use Condition::{Differs, Equal, Masked};
    let families = [
        libc::AF_UNIX,
        libc::AF_INET,
        libc::AF_INET6,
        libc::AF_NETLINK,
    ];
    let protocols = [
        0,
        libc::IPPROTO_TCP,
        libc::IPPROTO_UDP,
        libc::IPPROTO_ICMP,
        libc::IPPROTO_ICMPV6,
    ];
    let mut refusals = vec![
        refuse(
            families.map(|family| Differs(0, bits(family))).to_vec(),
            FAMILY_NOT_SUPPORTED,
        ),
        refuse(
            vec![
                Equal(0, bits(libc::AF_NETLINK)),
                Differs(2, bits(libc::NETLINK_ROUTE)),
            ],
            PROTOCOL_NOT_SUPPORTED,
        ),
    ];
    for family in [libc::AF_INET, libc::AF_INET6] {
        // The low four bits are the type, the rest are SOCK_CLOEXEC and SOCK_NONBLOCK (`socket(2)`).
        refusals.push(refuse(
            vec![Equal(0, bits(family)), Masked(1, 0xf, bits(libc::SOCK_RAW))],
            NOT_PERMITTED,
        ));
        let mut odd_protocol = vec![Equal(0, bits(family))];
        odd_protocol.extend(protocols.map(|protocol| Differs(2, bits(protocol))));
        refusals.push(refuse(odd_protocol, PROTOCOL_NOT_SUPPORTED));
    }
    refusals
}

fn refuse(conditions: Vec<Condition>, errno: u16) -> Refusal {
    Refusal { conditions, errno }
}

fn bits(value: i32) -> u32 {
    u32::from_ne_bytes(value.to_ne_bytes())
}

/// System-call numbers are small; one that were not would be listed as a number that does not exist.
fn number(number: libc::c_long) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::program::tests::interpret;
    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x0005_0001;

    fn ask(profile: &SeccompProfile, call: libc::c_long, arguments: [u64; 6]) -> u32 {
        interpret(&compile(profile).0, ARCHITECTURE, number(call), arguments)
    }

    #[test]
    fn every_profile_fits_the_kernel_limit_and_is_shallow() {
        for profile in [
            SeccompProfile::Default,
            SeccompProfile::Strict,
            SeccompProfile::Own {
                allowed: ["execve".to_owned(), "bpf".to_owned()].into(),
            },
        ] {
            let length = compile(&profile).0.len();
            assert!(length < 700, "{profile:?}: {length} instructions");
        }
    }

    #[test]
    fn a_call_is_in_one_group_only() {
        use tables::*;
        let mut seen = BTreeMap::new();
        for group in [
            CORE,
            STRICT_FILES,
            LEGACY,
            FILES,
            EVENTS,
            PROCESSES,
            MEMORY,
            SOCKETS,
            REFUSED,
        ] {
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
    fn an_own_profile_can_only_narrow() {
        let own = SeccompProfile::Own {
            allowed: ["execve", "bpf", "socket"].map(str::to_owned).into(),
        };
        let names: Vec<_> = allowed_calls(&own).into_values().collect();
        assert_eq!(names, ["socket", "execve"]);
        assert_eq!(ask(&own, libc::SYS_bpf, [0; 6]), EPERM);
        assert_ne!(
            ask(&own, libc::SYS_socket, [38, 0, 0, 0, 0, 0]),
            ALLOW,
            "AF_ALG"
        );
    }

    #[test]
    fn the_filter_says_what_the_lists_say() {
        for profile in [SeccompProfile::Default, SeccompProfile::Strict] {
            let allowed = allowed_calls(&profile);
            for call in 0..600 {
                let expected = if allowed.contains_key(&call) {
                    ALLOW
                } else if tables::REFUSED.iter().any(|(_, number)| *number == call) {
                    EPERM
                } else {
                    0x0005_0000 | u32::from(NO_SUCH_CALL)
                };
                // AF_UNIX, no flags: no refusal by argument applies.
                let arguments =
                    if call == number(libc::SYS_socket) || call == number(libc::SYS_socketpair) {
                        [1, 1, 0, 0, 0, 0]
                    } else {
                        [0; 6]
                    };
                assert_eq!(
                    ask(&profile, call.into(), arguments),
                    expected,
                    "{profile:?}, call {call}"
                );
            }
        }
    }

    #[test]
    fn refusals_look_at_the_low_half_of_an_argument_only() {
        let default = SeccompProfile::Default;
        for value in [0x5412, 0xdead_beef_0000_5412_u64, 0x541c, 0x1_0000_541c] {
            assert_eq!(
                ask(&default, libc::SYS_ioctl, [0, value, 0, 0, 0, 0]),
                EPERM,
                "{value:#x}"
            );
        }
        assert_eq!(
            ask(&default, libc::SYS_ioctl, [0, 0x5413, 0, 0, 0, 0]),
            ALLOW
        );
        for flag in [
            0x1000_0000_u64,
            0x4000_0000,
            0x2_0000,
            0xffff_ffff_1000_0011,
        ] {
            assert_eq!(
                ask(&default, libc::SYS_clone, [flag, 0, 0, 0, 0, 0]),
                EPERM,
                "{flag:#x}"
            );
        }
        assert_eq!(
            ask(&default, libc::SYS_clone, [0x0120_0011, 0, 0, 0, 0, 0]),
            ALLOW
        );
    }
}
