//! Asks the kernel, call by call, what the seccomp filters in force decide, without making any of the calls.
//!
//! # Theory of operation
//! `filter-watch` installs an outermost filter that hands every call whose sixth argument is [`MARK`] to this process
//! (`SECCOMP_RET_USER_NOTIF`), and starts a program under it: `rcc run -- rcc-probe filter-ask …`. Of several filters
//! the strictest answer wins (`seccomp(2)`), and an errno is stricter than a notification: so a marked call that the
//! sandbox's own filter refuses fails with that errno, and one that it lets through arrives here and is answered with
//! [`ALLOWED`]. The kernel's code behind the call never runs, so that even `exit`, `reboot` and `fork` can be asked for.
//!
//! Must not be mistaken for behaviour: a call that passes the filter may still be refused by the kernel.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::sync::mpsc;

use rcc_sys::probe::{Argument, duplicate_number, number_of, raw_syscall};
use rcc_testkit::syscalls;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use serde_json::{Map, Value, json};

use crate::files::number;
use crate::{Arguments, Attempt, Probe, Refusal, Step as _};

pub(crate) const PROBES: &[Probe] = &[
    (
        "filter-watch",
        "PROGRAM [ARGUMENTS]   (runs it so that `filter-ask` works below; its own output and exit code)",
        watch,
    ),
    (
        "filter-ask",
        "all | CALL[:ARGUMENT…]…   (what the filters decide: `allowed` or an errno; arguments are zero unless given)",
        ask,
    ),
];

/// Marks a call as a question, in its sixth argument; no real call has an address or number like this.
const MARK: u64 = 0x5ec0_a5ec_5ec0_a5ed;
/// What a call that passes all filters fails with; no filter and no call of Linux uses this errno.
const ALLOWED: Errno = Errno::XFULL;
/// Numbers that `all` asks for: beyond the newest call of any machine.
const ALL: std::ops::RangeInclusive<i64> = 0..=600;

/// Calls that the kernel itself keeps away from every filter (kernel/seccomp.c, `seccomp_uprobe_exception`) and that kill
/// a caller which is no trampoline of its own.
const UNFILTERED: [&str; 2] = ["uretprobe", "uprobe"];

/// Offset of the sixth argument in `struct seccomp_data`, low and high half (seccomp(2)).
#[cfg(target_endian = "little")]
const SIXTH: (u32, u32) = (56, 60);
#[cfg(target_endian = "big")]
const SIXTH: (u32, u32) = (60, 56);

/// `SECCOMP_IOCTL_NOTIF_RECV` and `SECCOMP_IOCTL_NOTIF_SEND` (linux/seccomp.h): `_IOWR('!', 0 or 1, …)`.
const RECEIVE: u64 = 0xc050_2100;
const SEND: u64 = 0xc018_2101;
/// Sizes of `struct seccomp_notif` and `struct seccomp_notif_resp`.
const NOTIFICATION: usize = 80;

/// One instruction of classic BPF: code, jump if true, jump if false, operand.
pub(crate) fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> [u8; 8] {
    let [a, b] = code.to_ne_bytes();
    let [c, d, e, f] = operand.to_ne_bytes();
    [a, b, jump_true, jump_false, c, d, e, f]
}

/// `if the sixth argument is MARK { USER_NOTIF } else { ALLOW }`.
fn program() -> Vec<u8> {
    // BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_RET|BPF_K.
    let (load, equal, answer) = (0x20, 0x15, 0x06);
    let halves =
        [MARK & 0xffff_ffff, MARK >> 32].map(|half| u32::try_from(half).unwrap_or_default());
    [
        instruction(load, 0, 0, SIXTH.0),
        instruction(equal, 0, 3, halves[0]),
        instruction(load, 0, 0, SIXTH.1),
        instruction(equal, 0, 1, halves[1]),
        instruction(answer, 0, 0, 0x7fc0_0000),
        instruction(answer, 0, 0, 0x7fff_0000),
    ]
    .concat()
}

/// Installs the filter for this thread; gives the descriptor on which questions arrive.
fn install() -> Result<OwnedFd, Refusal> {
    rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
    let instructions = program();
    // struct sock_fprog: number of instructions, padding, pointer.
    let mut header = vec![0u8; 8];
    header[..2].copy_from_slice(&6u16.to_ne_bytes());
    header.extend_from_slice(&(instructions.as_ptr().addr() as u64).to_ne_bytes());
    // SECCOMP_SET_MODE_FILTER is 1, SECCOMP_FILTER_FLAG_NEW_LISTENER is 8.
    let mut words = [
        Argument::Number(1),
        Argument::Number(8),
        Argument::Bytes(&header),
    ];
    let listener = raw_syscall(number("seccomp")?, &mut words).step("seccomp")?;
    let listener = i32::try_from(listener).map_err(|_| Refusal::Other(json!("odd descriptor")))?;
    // The original number stays open until the end of this process; the copy is the one that is owned.
    Ok(duplicate_number(listener)?)
}

fn watch(arguments: &Arguments) -> Attempt {
    let program = arguments.path(0)?.to_owned();
    let rest = arguments.rest(1).to_vec();
    let (sender, receiver) = mpsc::channel();
    // The filter is this thread's, and its children's: the main thread must stay outside to answer.
    let asker = std::thread::spawn(move || {
        let installed = install();
        let failed = installed.is_err();
        let _ = sender.send(installed);
        (!failed).then(|| Command::new(program).args(rest).status())
    });
    let listener = receiver
        .recv()
        .map_err(|_| Refusal::Other(json!("the asking thread is gone")))??;
    answer_all(&listener)?;
    let status = asker
        .join()
        .ok()
        .flatten()
        .ok_or_else(|| Refusal::Other(json!("nothing was started")))?
        .step("exec")?;
    if status.success() {
        Ok(json!("ended"))
    } else {
        Err(Refusal::Other(json!(status.to_string())))
    }
}

/// Answers every question until nobody is left under the filter.
fn answer_all(listener: &OwnedFd) -> Result<(), Refusal> {
    loop {
        let mut events = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut events, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno).step("poll"),
        }
        if !events[0].revents().contains(PollFlags::IN) {
            return Ok(());
        }
        let mut question = [0u8; NOTIFICATION];
        let mut words = [
            number_of(listener),
            Argument::Number(RECEIVE),
            Argument::Buffer(&mut question),
        ];
        match raw_syscall(number("ioctl")?, &mut words) {
            Ok(_) => {}
            // The asker died before it could be heard.
            Err(Errno::NOENT | Errno::INTR) => continue,
            Err(errno) => return Err(errno).step("receive"),
        }
        // struct seccomp_notif_resp: id, value, error, flags.
        let mut reply = vec![0u8; 24];
        reply[..8].copy_from_slice(&question[..8]);
        reply[16..20].copy_from_slice(&(-ALLOWED.raw_os_error()).to_ne_bytes());
        let mut words = [
            Argument::Number(u64::from(listener.as_raw_fd().unsigned_abs())),
            Argument::Number(SEND),
            Argument::Buffer(&mut reply),
        ];
        let _ = raw_syscall(number("ioctl")?, &mut words);
    }
}

/// Asks about one call with these first arguments.
fn verdict(call: i64, first: &[u64]) -> String {
    let mut words = [0u64; 6];
    for (word, given) in words.iter_mut().zip(first) {
        *word = *given;
    }
    words[5] = MARK;
    match raw_syscall(call, &mut words.map(Argument::Number)) {
        Err(errno) if errno == ALLOWED => "allowed".to_owned(),
        Err(errno) => rcc_sys::errno_name(errno).into_owned(),
        Ok(value) => format!("was made: {value}"),
    }
}

fn ask(arguments: &Arguments) -> Attempt {
    // A probe must not make a call that it only wants to ask about.
    if verdict(number("getpid")?, &[]) != "allowed" {
        return Err(Refusal::Usage(
            "nobody answers: start it below `filter-watch`".to_owned(),
        ));
    }
    let mut record = Map::new();
    if arguments.count() == 1 && arguments.text(0)? == "all" {
        for call in ALL {
            let name = syscalls::name(call);
            let answer = if UNFILTERED.contains(&name.as_str()) {
                "unfiltered".to_owned()
            } else {
                verdict(call, default_arguments(&name))
            };
            record.insert(name, json!(answer));
        }
        return Ok(Value::Object(record));
    }
    for index in 0..arguments.count() {
        let word = arguments.text(index)?;
        let mut parts = word.split(':');
        let name = parts.next().unwrap_or_default();
        let call = match crate::arguments::parse_number(name)
            .and_then(|number| i64::try_from(number).ok())
        {
            Some(call) => call,
            None => number(name)?,
        };
        let bad = || Refusal::Usage(format!("`{word}` is no call with arguments"));
        let numbers = parts
            .map(|part| {
                let number = crate::arguments::parse_number(part)?;
                u64::try_from(number)
                    .or_else(|_| i64::try_from(number).map(i64::cast_unsigned))
                    .ok()
            })
            .collect::<Option<Vec<u64>>>()
            .ok_or_else(bad)?;
        record.insert(word.to_owned(), json!(verdict(call, &numbers)));
    }
    Ok(Value::Object(record))
}

/// Filters look into the arguments of these; the most ordinary ones are asked about: `AF_UNIX`, `SOCK_STREAM`.
fn default_arguments(name: &str) -> &'static [u64] {
    match name {
        "socket" | "socketpair" => &[1, 1],
        _ => &[],
    }
}
