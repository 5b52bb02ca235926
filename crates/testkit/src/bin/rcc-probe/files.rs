//! Probes of the file system: reading, writing and making things where the sandbox should have nothing.
//!
//! Must undo what a success leaves where that is possible, so that a positive control can be repeated.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rcc_sys::probe::{Argument, raw_syscall};
use rcc_testkit::syscalls;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mknodat, openat};
use serde_json::{Value, json};

use crate::{Arguments, Attempt, Probe, Refusal, Step as _, shorten};

pub(crate) const PROBES: &[Probe] = &[
    ("read", "PATH", read),
    ("write", "PATH [TEXT]   (truncates an existing file)", write),
    ("append", "PATH TEXT", append),
    ("create", "PATH   (must not exist; stays)", create),
    ("mkdir", "PATH", mkdir),
    ("unlink", "PATH", unlink),
    ("rmdir", "PATH", rmdir),
    ("rename", "FROM TO", rename),
    ("symlink", "TARGET LINK", symlink),
    ("hardlink", "FROM TO", hardlink),
    (
        "hardlink-by-fd",
        "FROM TO   (open FROM, link /proc/self/fd/N)",
        hardlink_by_fd,
    ),
    ("chmod", "PATH MODE", chmod),
    ("chown", "PATH UID GID", chown),
    ("setxattr", "PATH NAME VALUE", setxattr),
    ("stat", "PATH", stat),
    ("list", "PATH", list),
    (
        "read-by-symlink",
        "PATH   (through a new link in the working directory)",
        read_by_symlink,
    ),
    ("write-by-symlink", "PATH TEXT", write_by_symlink),
    (
        "read-by-dotdot",
        "PATH   (cwd/../../…/PATH)",
        read_by_dotdot,
    ),
    (
        "read-by-proc",
        "PID root|cwd PATH   (/proc/PID/root/PATH)",
        read_by_proc,
    ),
    (
        "open-proc-fds",
        "[PID]   (opens every /proc/PID/fd/N; of all processes without PID)",
        open_proc_fds,
    ),
    (
        "read-by-open-directories",
        "PATH   (../../… from every inherited directory descriptor)",
        read_by_open_directories,
    ),
    ("handle-of", "PATH   (name_to_handle_at)", handle_of),
    (
        "read-by-handle",
        "PATH   (name_to_handle_at, open_by_handle_at)",
        read_by_handle,
    ),
    (
        "read-by-handle-bytes",
        "MOUNT TYPE HEX   (open_by_handle_at)",
        read_by_handle_bytes,
    ),
    ("mknod", "PATH char|block|fifo MAJOR MINOR", mknod),
    ("open-device", "PATH [r|w]", open_device),
    (
        "open-write",
        "PATH   (opens for writing, writes nothing, cuts nothing)",
        open_write,
    ),
    ("run", "PROGRAM [ARGUMENTS]   (output and exit code)", run),
    (
        "memfd-run",
        "PROGRAM [ARGUMENTS]   (a copy in a memfd)",
        memfd_run,
    ),
    (
        "write-proc-exe",
        "PID   (opens /proc/PID/exe for writing)",
        write_proc_exe,
    ),
    (
        "fill",
        "DIRECTORY BYTES   (writes one file until it fails, then removes it)",
        fill,
    ),
    (
        "find",
        "ROOT NAME   (paths below ROOT with this file name, at most 50)",
        find,
    ),
];

fn read(arguments: &Arguments) -> Attempt {
    read_path(arguments.path(0)?)
}

fn read_path(path: &Path) -> Attempt {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblock())
        .open(path)
        .step("open")?;
    read_file(&mut file)
}

/// Opening a FIFO must not hang.
fn nonblock() -> i32 {
    OFlags::NONBLOCK.bits().cast_signed()
}

fn read_file(file: &mut File) -> Attempt {
    let mut bytes = vec![0; 4096];
    let count = file.read(&mut bytes).step("read")?;
    Ok(json!(shorten(&bytes[..count], 400)))
}

fn write(arguments: &Arguments) -> Attempt {
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(nonblock())
        .open(arguments.path(0)?)
        .step("open")?;
    file.write_all(arguments.text_or(1, "written by rcc-probe\n")?.as_bytes())
        .step("write")?;
    Ok(Value::Null)
}

fn append(arguments: &Arguments) -> Attempt {
    let mut file = OpenOptions::new()
        .append(true)
        .open(arguments.path(0)?)
        .step("open")?;
    file.write_all(arguments.text(1)?.as_bytes())
        .step("write")?;
    Ok(Value::Null)
}

fn create(arguments: &Arguments) -> Attempt {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(arguments.path(0)?)?;
    Ok(Value::Null)
}

fn mkdir(arguments: &Arguments) -> Attempt {
    std::fs::create_dir(arguments.path(0)?)?;
    Ok(Value::Null)
}

fn unlink(arguments: &Arguments) -> Attempt {
    std::fs::remove_file(arguments.path(0)?)?;
    Ok(Value::Null)
}

fn rmdir(arguments: &Arguments) -> Attempt {
    std::fs::remove_dir(arguments.path(0)?)?;
    Ok(Value::Null)
}

fn rename(arguments: &Arguments) -> Attempt {
    std::fs::rename(arguments.path(0)?, arguments.path(1)?)?;
    Ok(Value::Null)
}

fn symlink(arguments: &Arguments) -> Attempt {
    std::os::unix::fs::symlink(arguments.path(0)?, arguments.path(1)?)?;
    Ok(Value::Null)
}

fn hardlink(arguments: &Arguments) -> Attempt {
    std::fs::hard_link(arguments.path(0)?, arguments.path(1)?)?;
    Ok(Value::Null)
}

fn hardlink_by_fd(arguments: &Arguments) -> Attempt {
    let file = openat(
        CWD,
        arguments.path(0)?,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step("open")?;
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(
        CWD,
        source,
        CWD,
        arguments.path(1)?,
        AtFlags::SYMLINK_FOLLOW,
    )
    .step("linkat")?;
    Ok(Value::Null)
}

fn chmod(arguments: &Arguments) -> Attempt {
    let mode = arguments.text(1)?;
    let mode = u32::from_str_radix(mode, 8)
        .map_err(|_| Refusal::Usage(format!("`{mode}` is not octal")))?;
    std::fs::set_permissions(arguments.path(0)?, std::fs::Permissions::from_mode(mode))?;
    Ok(Value::Null)
}

fn chown(arguments: &Arguments) -> Attempt {
    std::os::unix::fs::lchown(
        arguments.path(0)?,
        Some(arguments.number(1)?),
        Some(arguments.number(2)?),
    )?;
    Ok(Value::Null)
}

fn setxattr(arguments: &Arguments) -> Attempt {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(
        arguments.path(0)?,
        arguments.text(1)?,
        arguments.text(2)?.as_bytes(),
        flags,
    )?;
    Ok(Value::Null)
}

fn stat(arguments: &Arguments) -> Attempt {
    let data = std::fs::symlink_metadata(arguments.path(0)?)?;
    let kind = data.file_type();
    let name = match () {
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symlink",
        () if kind.is_socket() => "socket",
        () if kind.is_fifo() => "fifo",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () => "file",
    };
    let mode = format!("{:o}", data.mode() & 0o7777);
    Ok(json!({
        "kind": name, "mode": mode, "uid": data.uid(), "gid": data.gid(), "size": data.size(), "device": data.dev(),
        "inode": data.ino(), "rdev": data.rdev(),
    }))
}

fn list(arguments: &Arguments) -> Attempt {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(arguments.path(0)?)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(json!(names))
}

/// Makes a link in the working directory, uses it, and removes it.
fn by_symlink(target: &Path, use_it: impl FnOnce(&Path) -> Attempt) -> Attempt {
    let link = PathBuf::from(format!(".rcc-probe-link-{}", std::process::id()));
    std::os::unix::fs::symlink(target, &link).step("symlink")?;
    let result = use_it(&link);
    std::fs::remove_file(&link).step("unlink")?;
    result
}

fn read_by_symlink(arguments: &Arguments) -> Attempt {
    by_symlink(arguments.path(0)?, read_path)
}

fn write_by_symlink(arguments: &Arguments) -> Attempt {
    let text = arguments.text(1)?;
    by_symlink(arguments.path(0)?, |link| {
        let mut file = OpenOptions::new().write(true).open(link).step("open")?;
        file.write_all(text.as_bytes()).step("write")?;
        Ok(Value::Null)
    })
}

/// Enough steps up for any tree.
fn up(path: &Path) -> PathBuf {
    let mut up: PathBuf = std::iter::repeat_n("..", 40).collect();
    up.extend(
        path.components()
            .filter(|part| matches!(part, std::path::Component::Normal(_))),
    );
    up
}

fn read_by_dotdot(arguments: &Arguments) -> Attempt {
    read_path(&std::env::current_dir()?.join(up(arguments.path(0)?)))
}

fn read_by_proc(arguments: &Arguments) -> Attempt {
    let base = Path::new("/proc")
        .join(arguments.path(0)?)
        .join(arguments.path(1)?);
    match arguments.text(1)? {
        "root" => read_path(
            &base.join(
                arguments
                    .path(2)?
                    .strip_prefix("/")
                    .unwrap_or(arguments.path(2)?),
            ),
        ),
        "cwd" => read_path(&base.join(up(arguments.path(2)?))),
        other => Err(Refusal::Usage(format!("`{other}` is neither root nor cwd"))),
    }
}

fn open_proc_fds(arguments: &Arguments) -> Attempt {
    let pids: Vec<String> = match arguments.count() {
        0 => std::fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| {
                name.bytes().all(|byte| byte.is_ascii_digit())
                    && *name != std::process::id().to_string()
            })
            .collect(),
        _ => vec![arguments.text(0)?.to_owned()],
    };
    let mut opened = Vec::new();
    let mut refused = Vec::new();
    for pid in pids {
        let directory = format!("/proc/{pid}/fd");
        match std::fs::read_dir(&directory) {
            Err(error) => refused.push(json!([directory, name_of(&error)])),
            Ok(entries) => {
                for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
                    let target = std::fs::read_link(&path)
                        .unwrap_or_default()
                        .display()
                        .to_string();
                    match OpenOptions::new()
                        .read(true)
                        .custom_flags(nonblock())
                        .open(&path)
                    {
                        Ok(_) => opened.push(json!([path, target])),
                        Err(error) => refused.push(json!([path, name_of(&error)])),
                    }
                }
            }
        }
    }
    let detail = json!({ "opened": opened, "refused": refused });
    if opened.is_empty() {
        Err(Refusal::Other(detail))
    } else {
        Ok(detail)
    }
}

/// The symbol of an I/O error.
pub(crate) fn name_of(error: &std::io::Error) -> String {
    let number = error.raw_os_error().unwrap_or_default();
    rcc_sys::errno_name(rustix::io::Errno::from_raw_os_error(number)).into_owned()
}

fn read_by_open_directories(arguments: &Arguments) -> Attempt {
    let target = up(arguments.path(0)?);
    let mut tried = Vec::new();
    for number in open_numbers()? {
        let Ok(fd) = rcc_sys::probe::duplicate_number(number) else {
            continue;
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match openat(&fd, &target, flags, Mode::empty()) {
            Ok(file) => return read_file(&mut File::from(file)),
            Err(errno) => tried.push(json!([number, rcc_sys::errno_name(errno)])),
        }
    }
    Err(Refusal::Other(json!({ "tried": tried })))
}

/// Numbers of all open descriptors but the one that lists them.
pub(crate) fn open_numbers() -> Result<Vec<i32>, Refusal> {
    let directory = openat(
        CWD,
        "/proc/self/fd",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let own = directory.as_raw_fd();
    let mut numbers = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        if let Ok(number) = entry.file_name().to_string_lossy().parse() {
            numbers.push(number);
        }
    }
    // `Dir` opens the directory once more; both are gone by now or ours.
    numbers.retain(|number| *number != own && rcc_sys::probe::duplicate_number(*number).is_ok());
    numbers.sort_unstable();
    Ok(numbers)
}

/// Bytes of `struct file_handle` (`open_by_handle_at(2)`): length, type, then at most 128 bytes.
fn make_handle(path: &Path) -> Result<Vec<u8>, Refusal> {
    let mut handle = vec![0u8; 136];
    handle[..4].copy_from_slice(&128u32.to_ne_bytes());
    let mut mount_id = [0u8; 8];
    let text = c_string(path)?;
    let mut words = [
        Argument::Number(at_fdcwd()),
        Argument::Text(&text),
        Argument::Buffer(&mut handle),
        Argument::Buffer(&mut mount_id),
        Argument::Number(0),
    ];
    raw_syscall(number("name_to_handle_at")?, &mut words).step("name_to_handle_at")?;
    let length = usize::try_from(u32::from_ne_bytes([
        handle[0], handle[1], handle[2], handle[3],
    ]))
    .unwrap_or_default();
    handle.truncate(8 + length);
    Ok(handle)
}

pub(crate) fn at_fdcwd() -> u64 {
    i64::from(CWD.as_raw_fd()).cast_unsigned()
}

pub(crate) fn c_string(path: &Path) -> Result<std::ffi::CString, Refusal> {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Refusal::Usage("a path holds a zero byte".to_owned()))
}

pub(crate) fn number(name: &str) -> Result<i64, Refusal> {
    syscalls::number(name)
        .ok_or_else(|| Refusal::Usage(format!("no system call is called `{name}` here")))
}

fn handle_of(arguments: &Arguments) -> Attempt {
    let handle = make_handle(arguments.path(0)?)?;
    let hex: String = handle[8..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(
        json!({ "type": i32::from_ne_bytes([handle[4], handle[5], handle[6], handle[7]]), "hex": hex }),
    )
}

fn open_handle(mount: &Path, mut handle: Vec<u8>) -> Attempt {
    let mount = openat(
        CWD,
        mount,
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    )
    .step("open mount")?;
    let flags = u64::from((OFlags::RDONLY | OFlags::NONBLOCK).bits());
    let mut words = [
        rcc_sys::probe::number_of(&mount),
        Argument::Buffer(&mut handle),
        Argument::Number(flags),
    ];
    let fd = raw_syscall(number("open_by_handle_at")?, &mut words).step("open_by_handle_at")?;
    let fd = rcc_sys::probe::duplicate_number(i32::try_from(fd).unwrap_or(-1))?;
    if FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) == FileType::Directory {
        let names = rustix::fs::Dir::read_from(&fd)?.filter_map(Result::ok);
        return Ok(json!(
            names
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        ));
    }
    read_file(&mut File::from(fd))
}

fn read_by_handle(arguments: &Arguments) -> Attempt {
    let path = arguments.path(0)?;
    open_handle(path, make_handle(path)?)
}

fn read_by_handle_bytes(arguments: &Arguments) -> Attempt {
    let bytes = crate::arguments::unhex(arguments.text(2)?)
        .ok_or_else(|| Refusal::Usage("not hexadecimal".to_owned()))?;
    let length = u32::try_from(bytes.len()).unwrap_or_default().to_ne_bytes();
    let kind = arguments.number::<i32>(1)?.to_ne_bytes();
    open_handle(arguments.path(0)?, [&length[..], &kind, &bytes].concat())
}

fn mknod(arguments: &Arguments) -> Attempt {
    let kind = match arguments.text(1)? {
        "char" => FileType::CharacterDevice,
        "block" => FileType::BlockDevice,
        "fifo" => FileType::Fifo,
        other => return Err(Refusal::Usage(format!("`{other}` is no kind of node"))),
    };
    let device = rustix::fs::makedev(arguments.number_or(2, 0)?, arguments.number_or(3, 0)?);
    mknodat(
        CWD,
        arguments.path(0)?,
        kind,
        Mode::from_raw_mode(0o600),
        device,
    )?;
    Ok(Value::Null)
}

fn open_device(arguments: &Arguments) -> Attempt {
    let writes = arguments.text_or(1, "r")? == "w";
    OpenOptions::new()
        .read(!writes)
        .write(writes)
        .custom_flags(nonblock())
        .open(arguments.path(0)?)?;
    Ok(Value::Null)
}

fn open_write(arguments: &Arguments) -> Attempt {
    OpenOptions::new()
        .write(true)
        .custom_flags(nonblock())
        .open(arguments.path(0)?)?;
    Ok(Value::Null)
}

/// Runs a program and shows its output.
fn run_program(program: &Path, arguments: &[std::ffi::OsString]) -> Attempt {
    use std::os::unix::process::ExitStatusExt as _;
    let output = std::process::Command::new(program)
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .step("exec")?;
    let detail = json!({
        "code": output.status.code(), "signal": output.status.signal(),
        "stdout": shorten(&output.stdout, 4000), "stderr": shorten(&output.stderr, 4000),
    });
    if output.status.success() {
        Ok(detail)
    } else {
        Err(Refusal::Other(detail))
    }
}

fn run(arguments: &Arguments) -> Attempt {
    run_program(arguments.path(0)?, arguments.rest(1))
}

fn memfd_run(arguments: &Arguments) -> Attempt {
    let memory = rustix::fs::memfd_create("rcc-probe", rustix::fs::MemfdFlags::CLOEXEC)
        .step("memfd_create")?;
    let mut memory = File::from(memory);
    memory
        .write_all(&std::fs::read(arguments.path(0)?).step("read program")?)
        .step("write")?;
    // Write access to what is executed is ETXTBSY: execute a read-only descriptor of the same file.
    let readable = File::open(format!("/proc/self/fd/{}", memory.as_raw_fd())).step("reopen")?;
    drop(memory);
    let program = PathBuf::from(format!("/proc/self/fd/{}", readable.as_raw_fd()));
    run_program(&program, arguments.rest(1))
}

fn write_proc_exe(arguments: &Arguments) -> Attempt {
    let path = Path::new("/proc").join(arguments.path(0)?).join("exe");
    OpenOptions::new().write(true).open(path)?;
    Ok(Value::Null)
}

fn fill(arguments: &Arguments) -> Attempt {
    let limit: u64 = arguments.number(1)?;
    let path = arguments
        .path(0)?
        .join(format!(".rcc-probe-fill-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)
        .step("create")?;
    let chunk = vec![0x55; 1 << 20];
    let mut written = 0u64;
    let result = loop {
        if written >= limit {
            break Ok(());
        }
        match file.write(&chunk) {
            Ok(count) => written += count as u64,
            Err(error) => break Err(error),
        }
    };
    drop(file);
    std::fs::remove_file(&path).step("unlink")?;
    match result {
        Ok(()) => Ok(json!({ "written": written })),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or_default();
            Err(Refusal::Errno(
                rustix::io::Errno::from_raw_os_error(number),
                json!({ "written": written }),
            ))
        }
    }
}

fn find(arguments: &Arguments) -> Attempt {
    let name = arguments.path(1)?.as_os_str();
    let mut found = Vec::new();
    walk(arguments.path(0)?, &mut |path, _| {
        if path.file_name() == Some(name) && found.len() < 50 {
            found.push(path.display().to_string());
        }
    });
    if found.is_empty() {
        Err(Refusal::Other(json!([])))
    } else {
        Ok(json!(found))
    }
}

/// Visits everything below a directory without following links; what is in `/proc` and `/sys` is left out.
pub(crate) fn walk(root: &Path, visit: &mut impl FnMut(&Path, &std::fs::FileType)) {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = entry.path();
            visit(&path, &kind);
            if kind.is_dir() && path != Path::new("/proc") && path != Path::new("/sys") {
                pending.push(path);
            }
        }
    }
}
