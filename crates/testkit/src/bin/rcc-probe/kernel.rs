//! Probes of the kernel's surface: any system call by name, and short forms for the dangerous ones.
//!
//! Every short form is harmless where it is allowed, even to root: it asks for something that cannot be had after the
//! permission check, or for something that ends with the prober. What it gives then is in its comment.

use std::time::Duration;

use rcc_sys::probe::{Argument, in_child, raw_syscall};
use serde_json::{Map, Value, json};

use crate::arguments::{Owned, raw_argument};
use crate::files::number;
use crate::namespaces::{attempt, word};
use crate::{Arguments, Attempt, Probe, Refusal, shorten};

pub(crate) const PROBES: &[Probe] = &[
    (
        "syscall",
        "NAME|NUMBER [ARGUMENT…]   (number, null, str:TEXT, zero:N, hex:BYTES; in a child)",
        syscall,
    ),
    (
        "socket",
        "FAMILY TYPE PROTOCOL   (numbers, or a family's name)",
        socket,
    ),
    (
        "socket-sweep",
        "  (every family 0..=50 with every type; ok = any but UNIX, INET, INET6, NETLINK worked)",
        socket_sweep,
    ),
    (
        "netlink-sweep",
        "  (every netlink protocol 0..=31; ok = any but ROUTE worked)",
        netlink_sweep,
    ),
    (
        "bpf-program",
        "  (loads a socket filter that returns 0)",
        bpf_program,
    ),
    (
        "io-uring-socket",
        "  (io_uring_setup; a ring would reach calls that a filter refuses)",
        io_uring,
    ),
    ("int80", "  (getpid by the 32-bit entry)", int80),
    ("x32", "  (getpid by its x32 number)", x32),
    (
        "keyring-read",
        "KEYRING   (-1 thread, -2 process, -3 session, -4 user, -5 user session: serial numbers in it)",
        keyring_read,
    ),
];

const LIMIT: Duration = Duration::from_secs(5);

/// Name of a probe, and the words of `syscall` that it stands for.
pub(crate) type ShortForm = (&'static str, &'static [&'static str]);

/// Short forms of `syscall`. After each: what root sees on a machine that allows it.
pub(crate) const SHORT_FORMS: &[ShortForm] = &[
    // ok: a descriptor. struct io_uring_params is 120 bytes.
    ("io-uring-setup", &["io_uring_setup", "1", "zero:120"]),
    // ok: BPF_MAP_CREATE of an array of one u32. Unprivileged: EPERM where kernel.unprivileged_bpf_disabled is set.
    (
        "bpf-map",
        &[
            "bpf",
            "0",
            "hex:0200000004000000040000000100000000000000",
            "20",
        ],
    ),
    // ok: PERF_TYPE_SOFTWARE, CPU clock, exclude_kernel and exclude_hv, this process; EACCES by perf_event_paranoid.
    (
        "perf-event-open",
        &[
            "perf_event_open",
            "hex:01000000700000000000000000000000000000000000000000000000000000000000000000000000\
             6000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
             00000000000000000000000000000000000000000000",
            "0",
            "-1",
            "-1",
            "0",
        ],
    ),
    // ok: a descriptor, for root or with vm.unprivileged_userfaultfd.
    ("userfaultfd", &["userfaultfd", "0"]),
    // ok: UFFD_USER_MODE_ONLY is allowed for everybody since Linux 5.11.
    ("userfaultfd-user-mode", &["userfaultfd", "1"]),
    // ok: a serial number.
    (
        "add-key",
        &["add_key", "str:user", "str:rcc-probe", "str:x", "1", "-2"],
    ),
    // ENOKEY.
    (
        "request-key",
        &["request_key", "str:user", "str:rcc-probe-none", "null", "0"],
    ),
    // ok: KEYCTL_GET_KEYRING_ID of the session keyring.
    ("keyctl-session", &["keyctl", "0", "-3", "0"]),
    // ok: KEYCTL_JOIN_SESSION_KEYRING, a new anonymous one.
    ("keyctl-join", &["keyctl", "1", "null"]),
    // EFAULT or ENOEXEC; EPERM without CAP_SYS_MODULE.
    ("init-module", &["init_module", "zero:1", "1", "str:"]),
    ("finit-module", &["finit_module", "-1", "str:", "0"]),
    (
        "delete-module",
        &["delete_module", "str:rcc_probe_no_such_module", "2048"],
    ),
    // EINVAL: more segments than there may be; EPERM without CAP_SYS_BOOT.
    ("kexec-load", &["kexec_load", "0", "17", "null", "0"]),
    (
        "kexec-file-load",
        &["kexec_file_load", "-1", "-1", "0", "null", "0xff000000"],
    ),
    // EINVAL: the second magic number is wrong; EPERM without CAP_SYS_BOOT.
    ("reboot", &["reboot", "0xfee1dead", "0", "0", "null"]),
    ("swapon", &["swapon", "str:/rcc-probe-no-such-file", "0"]),
    ("swapoff", &["swapoff", "str:/rcc-probe-no-such-file"]),
    // ok: SYSLOG_ACTION_SIZE_BUFFER, SYSLOG_ACTION_READ_ALL.
    ("syslog-size", &["syslog", "10", "null", "0"]),
    ("syslog-read", &["syslog", "3", "zero:128", "128"]),
    // ok: no time and no zone sets nothing, after the permission check.
    ("settimeofday", &["settimeofday", "null", "null"]),
    // EINVAL: the nanoseconds are out of range.
    (
        "clock-settime",
        &["clock_settime", "0", "hex:0000000000000000ffffffffffffffff"],
    ),
    // EINVAL: ADJ_TICK with a tick of zero; EPERM without CAP_SYS_TIME. struct timex is 208 bytes.
    ("adjtimex", &["adjtimex", "hex:0040000000000000"]),
    (
        "clock-adjtime",
        &["clock_adjtime", "0", "hex:0040000000000000"],
    ),
    // ENOENT or ENOTBLK: Q_GETFMT.
    (
        "quotactl",
        &[
            "quotactl",
            "0x80000400",
            "str:/rcc-probe-no-such-device",
            "0",
            "zero:4",
        ],
    ),
    ("acct", &["acct", "str:/rcc-probe-no-such-file"]),
    // ok: ADDR_NO_RANDOMIZE.
    ("personality", &["personality", "0x0040000"]),
    // ok for root, in the child only.
    ("iopl", &["iopl", "3"]),
    ("ioperm", &["ioperm", "0x80", "1", "1"]),
    // ok: reads the table.
    ("modify-ldt", &["modify_ldt", "0", "zero:64", "64"]),
    ("lookup-dcookie", &["lookup_dcookie", "0", "zero:64", "64"]),
    ("nfsservctl", &["nfsservctl", "0", "null", "null"]),
    ("sysfs", &["sysfs", "3"]),
    ("ustat", &["ustat", "0", "zero:64"]),
    ("uselib", &["uselib", "str:/rcc-probe-no-such-file"]),
    ("create-module", &["create_module", "str:rcc_probe", "0"]),
    // ok for root and, with FAN_REPORT_FID, for everybody.
    ("fanotify-init", &["fanotify_init", "0", "0"]),
    ("fanotify-init-fid", &["fanotify_init", "0x200", "0"]),
    // EBADF: no descriptor.
    (
        "process-madvise",
        &["process_madvise", "-1", "null", "0", "0", "0"],
    ),
    ("process-mrelease", &["process_mrelease", "-1", "0"]),
    // ok: asks.
    (
        "move-pages",
        &["move_pages", "0", "0", "null", "null", "null", "0"],
    ),
    (
        "migrate-pages",
        &["migrate_pages", "0", "0", "null", "null"],
    ),
    ("mbind", &["mbind", "0", "0", "0", "null", "0", "0"]),
    ("set-mempolicy", &["set_mempolicy", "0", "null", "0"]),
    (
        "remap-file-pages",
        &["remap_file_pages", "0", "0", "0", "0", "0"],
    ),
    ("memfd-secret", &["memfd_secret", "0"]),
    (
        "open-by-handle-at",
        &["open_by_handle_at", "-100", "hex:0800000001000000", "0"],
    ),
    ("statmount", &["statmount", "zero:32", "zero:64", "64", "0"]),
    ("listmount", &["listmount", "zero:32", "zero:64", "8", "0"]),
    (
        "lsm-list-modules",
        &["lsm_list_modules", "zero:64", "hex:4000000000000000", "0"],
    ),
    // ok: a new session has no terminal to hang up.
    ("setsid-vhangup", &["vhangup"]),
    ("sethostname", &["sethostname", "str:rcc-probe", "9"]),
    ("setdomainname", &["setdomainname", "str:rcc-probe", "9"]),
    ("cachestat", &["cachestat", "-1", "zero:16", "zero:64", "0"]),
    ("ptrace-traceme", &["ptrace", "0", "0", "null", "null"]),
    ("seccomp-listener", &["seccomp", "1", "8", "null"]),
];

pub(crate) fn syscall(arguments: &Arguments) -> Attempt {
    let name = arguments.text(0)?;
    let call = match name.parse() {
        Ok(number) => number,
        Err(_) => number(name)?,
    };
    let mut owned = arguments
        .rest(1)
        .iter()
        .map(|word| raw_argument(word))
        .collect::<Result<Vec<Owned>, Refusal>>()?;
    let mut words: Vec<Argument<'_>> = owned.iter_mut().map(borrow).collect();
    attempt(in_child(LIMIT, || {
        if name == "vhangup" {
            rustix::process::setsid()?;
        }
        raw_syscall(call, &mut words)
    }))
}

fn borrow(owned: &mut Owned) -> Argument<'_> {
    match owned {
        Owned::Number(number) => Argument::Number(*number),
        Owned::Text(text) => Argument::Text(text),
        Owned::Buffer(bytes) => Argument::Buffer(bytes),
    }
}

/// Families of `socket(2)`, numbers of linux/socket.h.
pub(crate) const FAMILIES: &[(&str, u64)] = &[
    ("UNSPEC", 0),
    ("UNIX", 1),
    ("INET", 2),
    ("AX25", 3),
    ("IPX", 4),
    ("APPLETALK", 5),
    ("NETROM", 6),
    ("BRIDGE", 7),
    ("ATMPVC", 8),
    ("X25", 9),
    ("INET6", 10),
    ("ROSE", 11),
    ("DECNET", 12),
    ("NETBEUI", 13),
    ("SECURITY", 14),
    ("KEY", 15),
    ("NETLINK", 16),
    ("PACKET", 17),
    ("ASH", 18),
    ("ECONET", 19),
    ("ATMSVC", 20),
    ("RDS", 21),
    ("SNA", 22),
    ("IRDA", 23),
    ("PPPOX", 24),
    ("WANPIPE", 25),
    ("LLC", 26),
    ("IB", 27),
    ("MPLS", 28),
    ("CAN", 29),
    ("TIPC", 30),
    ("BLUETOOTH", 31),
    ("IUCV", 32),
    ("RXRPC", 33),
    ("ISDN", 34),
    ("PHONET", 35),
    ("IEEE802154", 36),
    ("CAIF", 37),
    ("ALG", 38),
    ("NFC", 39),
    ("VSOCK", 40),
    ("KCM", 41),
    ("QIPCRTR", 42),
    ("SMC", 43),
    ("XDP", 44),
    ("MCTP", 45),
    ("46", 46),
    ("47", 47),
    ("48", 48),
    ("49", 49),
    ("50", 50),
];

fn try_socket(family: u64, kind: u64, protocol: u64) -> rcc_sys::probe::Outcome {
    in_child(LIMIT, || {
        let call = rcc_testkit::syscalls::number("socket").unwrap_or(-1);
        raw_syscall(
            call,
            &mut [
                Argument::Number(family),
                Argument::Number(kind),
                Argument::Number(protocol),
            ],
        )
    })
}

fn socket(arguments: &Arguments) -> Attempt {
    let name = arguments.text(0)?;
    let family = match FAMILIES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
    {
        Some((_, family)) => *family,
        None => arguments.number(0)?,
    };
    attempt(try_socket(
        family,
        arguments.number(1)?,
        arguments.number_or(2, 0)?,
    ))
}

fn socket_sweep(_: &Arguments) -> Attempt {
    let mut record = Map::new();
    let mut worked = false;
    for (name, family) in FAMILIES {
        // STREAM, DGRAM, RAW, RDM, SEQPACKET, DCCP, PACKET.
        let outcomes: Vec<_> = [1, 2, 3, 4, 5, 6, 10]
            .into_iter()
            .map(|kind| try_socket(*family, kind, 0))
            .collect();
        let is_ordinary = matches!(*name, "UNIX" | "INET" | "INET6" | "NETLINK");
        worked |= !is_ordinary
            && outcomes
                .iter()
                .any(|outcome| matches!(outcome, rcc_sys::probe::Outcome::Returned(_)));
        record.insert(
            (*name).to_owned(),
            json!(outcomes.into_iter().map(word).collect::<Vec<_>>()),
        );
    }
    if worked {
        Ok(Value::Object(record))
    } else {
        Err(Refusal::Other(Value::Object(record)))
    }
}

/// Protocols of netlink(7), numbers of linux/netlink.h.
const NETLINK: &[(&str, u64)] = &[
    ("ROUTE", 0),
    ("USERSOCK", 2),
    ("SOCK_DIAG", 4),
    ("NFLOG", 5),
    ("XFRM", 6),
    ("SELINUX", 7),
    ("ISCSI", 8),
    ("AUDIT", 9),
    ("FIB_LOOKUP", 10),
    ("CONNECTOR", 11),
    ("NETFILTER", 12),
    ("IP6_FW", 13),
    ("KOBJECT_UEVENT", 15),
    ("GENERIC", 16),
    ("SCSITRANSPORT", 18),
    ("ECRYPTFS", 19),
    ("RDMA", 20),
    ("CRYPTO", 21),
    ("SMC", 22),
];

fn netlink_sweep(_: &Arguments) -> Attempt {
    let mut record = Map::new();
    let mut worked = false;
    for protocol in 0..32 {
        let name = NETLINK
            .iter()
            .find(|(_, number)| *number == protocol)
            .map_or_else(|| protocol.to_string(), |(name, _)| (*name).to_owned());
        // SOCK_RAW is 3.
        let outcome = try_socket(16, 3, protocol);
        worked |= protocol != 0 && matches!(outcome, rcc_sys::probe::Outcome::Returned(_));
        record.insert(name, json!(word(outcome)));
    }
    if worked {
        Ok(Value::Object(record))
    } else {
        Err(Refusal::Other(Value::Object(record)))
    }
}

fn bpf_program(_: &Arguments) -> Attempt {
    // r0 = 0; exit. Eight bytes each: opcode, registers, offset, immediate (linux/bpf.h).
    let instructions: [u8; 16] = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let licence = c"GPL";
    // union bpf_attr for BPF_PROG_LOAD: prog_type (1, socket filter), insn_cnt, insns, license.
    let mut attributes = Vec::new();
    attributes.extend_from_slice(&1u32.to_ne_bytes());
    attributes.extend_from_slice(&2u32.to_ne_bytes());
    attributes.extend_from_slice(&(instructions.as_ptr().addr() as u64).to_ne_bytes());
    attributes.extend_from_slice(&(licence.as_ptr().addr() as u64).to_ne_bytes());
    attributes.resize(48, 0);
    let call = number("bpf")?;
    attempt(in_child(LIMIT, || {
        raw_syscall(
            call,
            &mut [
                Argument::Number(5),
                Argument::Bytes(&attributes),
                Argument::Number(48),
            ],
        )
    }))
}

fn io_uring(_: &Arguments) -> Attempt {
    let mut parameters = vec![0u8; 120];
    let call = number("io_uring_setup")?;
    attempt(in_child(LIMIT, || {
        raw_syscall(
            call,
            &mut [Argument::Number(4), Argument::Buffer(&mut parameters)],
        )
    }))
}

fn int80(_: &Arguments) -> Attempt {
    // 20 is getpid on 32-bit x86.
    attempt(in_child(LIMIT, || rcc_sys::probe::int80(20, 0)))
}

fn x32(_: &Arguments) -> Attempt {
    // __X32_SYSCALL_BIT of asm/unistd.h.
    let call = number("getpid")? | 0x4000_0000;
    attempt(in_child(LIMIT, || raw_syscall(call, &mut [])))
}

fn keyring_read(arguments: &Arguments) -> Attempt {
    // KEYCTL_READ is 11; KEYCTL_DESCRIBE is 6 (keyctl(2)).
    let call = number("keyctl")?;
    let mut serials = vec![0u8; 4096];
    let keyring = arguments.number::<i64>(0)?.cast_unsigned();
    let mut words = [
        Argument::Number(11),
        Argument::Number(keyring),
        Argument::Buffer(&mut serials),
        Argument::Number(4096),
    ];
    let length = usize::try_from(raw_syscall(call, &mut words)?)
        .unwrap_or_default()
        .min(4096);
    let mut keys = Vec::new();
    for serial in serials[..length].chunks_exact(4) {
        let serial = u32::from_ne_bytes([serial[0], serial[1], serial[2], serial[3]]);
        let mut text = vec![0u8; 256];
        let mut words = [
            Argument::Number(6),
            Argument::Number(u64::from(serial)),
            Argument::Buffer(&mut text),
            Argument::Number(256),
        ];
        let count = raw_syscall(call, &mut words)
            .map_or(0, |count| usize::try_from(count).unwrap_or_default());
        keys.push(json!([
            serial,
            shorten(text.get(..count.saturating_sub(1)).unwrap_or_default(), 256)
        ]));
    }
    Ok(json!(keys))
}
