//! Probes of Unix sockets and of the message buses behind them, and of vsock.
//!
//! Must send nothing that a real service would act on: a bus is asked to authenticate, nothing more.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};
use std::path::Path;
use std::time::Duration;

use rcc_sys::probe::{Argument, number_of, raw_syscall};
use rustix::net::{AddressFamily, SocketType, socket};
use serde_json::{Value, json};

use crate::files::{name_of, number, walk};
use crate::{Arguments, Attempt, Probe, Refusal, Step as _, shorten};

pub(crate) const PROBES: &[Probe] = &[
    (
        "unix-connect",
        "PATH   (stream; sends nothing, reads what comes within 200 ms)",
        unix_connect,
    ),
    (
        "unix-send",
        "PATH TEXT   (datagram, sendto without connect)",
        unix_send,
    ),
    (
        "unix-sendmsg",
        "PATH TEXT   (datagram, sendmsg)",
        unix_sendmsg,
    ),
    (
        "unix-by-proc-fd",
        "PATH   (O_PATH descriptor, connect to /proc/self/fd/N)",
        unix_by_proc_fd,
    ),
    ("abstract-connect", "NAME   (stream)", abstract_connect),
    ("abstract-send", "NAME TEXT   (datagram)", abstract_send),
    (
        "abstract-list",
        "  (names in /proc/net/unix)",
        abstract_list,
    ),
    (
        "unix-walk",
        "ROOT…   (every socket below, and whether connect works; ok = any did)",
        unix_walk,
    ),
    ("dbus", "PATH   (connects and authenticates)", dbus),
    ("vsock", "CID PORT", vsock),
    (
        "socketpair-pass-fd",
        "PATH   (opens PATH, passes it over a socket pair, reads it)",
        pass_fd,
    ),
];

fn answer(mut stream: UnixStream) -> Attempt {
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut bytes = [0; 400];
    let count = stream.read(&mut bytes).unwrap_or_default();
    Ok(json!(shorten(&bytes[..count], 400)))
}

fn unix_connect(arguments: &Arguments) -> Attempt {
    answer(UnixStream::connect(arguments.path(0)?).step("connect")?)
}

fn unix_send(arguments: &Arguments) -> Attempt {
    let socket = UnixDatagram::unbound()?;
    socket
        .send_to(arguments.text(1)?.as_bytes(), arguments.path(0)?)
        .step("sendto")?;
    Ok(Value::Null)
}

fn unix_sendmsg(arguments: &Arguments) -> Attempt {
    use rustix::net::{SendAncillaryBuffer, SendFlags, SocketAddrUnix, sendmsg_addr};
    let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    let address = SocketAddrUnix::new(arguments.path(0)?)?;
    let text = [std::io::IoSlice::new(arguments.text(1)?.as_bytes())];
    sendmsg_addr(
        &socket,
        &address,
        &text,
        &mut SendAncillaryBuffer::default(),
        SendFlags::empty(),
    )
    .step("sendmsg")?;
    Ok(Value::Null)
}

fn unix_by_proc_fd(arguments: &Arguments) -> Attempt {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    use std::os::fd::AsRawFd as _;
    let file = openat(
        CWD,
        arguments.path(0)?,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open")?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    answer(UnixStream::connect(path).step("connect")?)
}

fn abstract_connect(arguments: &Arguments) -> Attempt {
    let address = SocketAddr::from_abstract_name(arguments.text(0)?)?;
    answer(UnixStream::connect_addr(&address).step("connect")?)
}

fn abstract_send(arguments: &Arguments) -> Attempt {
    let address = SocketAddr::from_abstract_name(arguments.text(0)?)?;
    UnixDatagram::unbound()?
        .send_to_addr(arguments.text(1)?.as_bytes(), &address)
        .step("sendto")?;
    Ok(Value::Null)
}

/// Abstract names, which `/proc/net/unix` shows with `@` for the zero byte (unix(7)).
pub(crate) fn abstract_names() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let mut names: Vec<String> = text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(7))
        .filter(|name| name.starts_with('@'))
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

fn abstract_list(_: &Arguments) -> Attempt {
    Ok(json!(abstract_names()))
}

/// All pathname sockets below a directory, with what connect gives.
pub(crate) fn sockets_below(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(root, &mut |path, kind| {
        if kind.is_socket() {
            let result = UnixStream::connect(path).map(drop).or_else(|error| {
                // EPROTOTYPE: it is there, but is a datagram socket.
                if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) {
                    UnixDatagram::unbound().and_then(|socket| socket.connect(path))
                } else {
                    Err(error)
                }
            });
            found.push((
                path.display().to_string(),
                result.map_or_else(|error| name_of(&error), |()| "ok".to_owned()),
            ));
        }
    });
    found.sort();
    found
}

fn unix_walk(arguments: &Arguments) -> Attempt {
    if arguments.count() == 0 {
        return Err(Refusal::Usage("which directory?".to_owned()));
    }
    let found: Vec<_> = arguments
        .rest(0)
        .iter()
        .flat_map(|root| sockets_below(Path::new(root)))
        .collect();
    let any = found.iter().any(|(_, result)| result == "ok");
    if any {
        Ok(json!(found))
    } else {
        Err(Refusal::Other(json!(found)))
    }
}

fn dbus(arguments: &Arguments) -> Attempt {
    let mut stream = UnixStream::connect(arguments.path(0)?).step("connect")?;
    // D-Bus specification, authentication: a zero byte, then EXTERNAL with the uid as hexadecimal ASCII.
    let uid: String = rustix::process::getuid()
        .as_raw()
        .to_string()
        .bytes()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    stream
        .write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes())
        .step("write")?;
    answer(stream)
}

fn vsock(arguments: &Arguments) -> Attempt {
    let socket = socket(AddressFamily::VSOCK, SocketType::STREAM, None).step("socket")?;
    // struct sockaddr_vm of linux/vm_sockets.h: family, reserved, port, cid, flags and padding.
    let mut address = Vec::new();
    address.extend_from_slice(&40u16.to_ne_bytes());
    address.extend_from_slice(&0u16.to_ne_bytes());
    address.extend_from_slice(&arguments.number::<u32>(1)?.to_ne_bytes());
    address.extend_from_slice(&arguments.number::<u32>(0)?.to_ne_bytes());
    address.resize(16, 0);
    let mut words = [
        number_of(&socket),
        Argument::Bytes(&address),
        Argument::Number(16),
    ];
    raw_syscall(number("connect")?, &mut words).step("connect")?;
    Ok(Value::Null)
}

fn pass_fd(arguments: &Arguments) -> Attempt {
    use rustix::net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, recvmsg, sendmsg, socketpair,
    };
    use std::mem::MaybeUninit;
    use std::os::fd::AsFd as _;
    let file = std::fs::File::open(arguments.path(0)?).step("open")?;
    let (left, right) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .step("socketpair")?;
    let fds = [file.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    ancillary.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(
        &left,
        &[std::io::IoSlice::new(b"x")],
        &mut ancillary,
        SendFlags::empty(),
    )
    .step("sendmsg")?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(
        &right,
        &mut [std::io::IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )
    .step("recvmsg")?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut received) = message
            && let Some(fd) = received.next()
        {
            let mut bytes = [0; 200];
            let count = std::fs::File::from(fd).read(&mut bytes).step("read")?;
            return Ok(json!(shorten(&bytes[..count], 200)));
        }
    }
    Err(Refusal::Other(json!("no descriptor came")))
}
