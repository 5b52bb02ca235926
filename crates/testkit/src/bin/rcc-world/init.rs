//! Pid 1 of a world: makes its mounts and its network, starts the rest, reaps, and ends everything.
//!
//! Order: 1 mounts, 2 holder, 3 inet namespace, 4 link, 5 services, 6 ready, 7 reap until the pipe closes.
//! Must not touch a mount or a file outside its own mount namespace and the world's directory.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use rcc_testkit::world::wire::{Answer, Question, Ready};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{Signal, WaitOptions, kill_process, wait};

use crate::{Failure, control, inet, log, network, processes, services};

pub(crate) fn run(directory: &Path) -> Result<(), Failure> {
    if std::process::id() != 1 {
        return Err("init must be pid 1 of a pid namespace of its own".into());
    }
    let own = std::env::current_exe()?;
    // The old /proc still shows the outer pid namespace: this is our id as the test knows it.
    let outer_pid: u32 = std::fs::read_link("/proc/self")?
        .to_str()
        .ok_or("odd /proc/self")?
        .parse()?;
    let setup = services::read_setup(directory)?;
    end_with_the_test(directory);

    // 1
    make_mounts(directory, &setup)?;
    rustix::system::sethostname(b"rcc-test-host")?;
    // 2
    let holder = if setup.is_root {
        None
    } else {
        Some(start_holder(&own, &setup)?)
    };
    // 3
    let (inet_child, mut inet_out) = start(
        Command::new("unshare")
            .args(["--net", "--"])
            .arg(&own)
            .arg("inet")
            .arg(directory),
    )?;
    expect_line(&mut inet_out, "namespace")?;
    // 4
    network::make_link(inet_child.id(), &setup)?;
    // 5
    inet_child
        .stdin
        .as_ref()
        .ok_or("no pipe to inet")?
        .write_all(b"go\n")?;
    expect_line(&mut inet_out, "ready")?;
    let (_host, mut host_out) = start(Command::new(&own).arg("host").arg(directory))?;
    expect_line(&mut host_out, "ready")?;
    // 6
    control::serve(&directory.join("init.sock"), |question| match question {
        Question::Processes => Answer::Processes(processes::all()),
        other => Answer::Failed(format!("init cannot answer {other:?}")),
    })?;
    let ready = Ready {
        init: outer_pid,
        inet: inet_child.id(),
        user_holder: holder,
    };
    let mut stdout = std::io::stdout();
    stdout.write_all(format!("{}\n", serde_json::to_string(&ready)?).as_bytes())?;
    stdout.flush()?;
    // 7: never ends by itself; the watcher of the pipe ends the process.
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status)))
                if pid.as_raw_nonzero().get().unsigned_abs() == inet_child.id() =>
            {
                log(&format!("init: inet ended: {status:?}"));
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // All children are gone: the watcher is ending the world, and returning here would cut it short.
            Err(rustix::io::Errno::CHILD) => inet::park(),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Stays in a user namespace so that others can enter it; says once that it is there.
pub(crate) fn hold() -> Result<(), Failure> {
    let mut stdout = std::io::stdout();
    stdout.write_all(b"ready\n")?;
    stdout.flush()?;
    // Ends with init: the pipe has no other writer.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Starts the thread that ends the world when the test is gone.
fn end_with_the_test(directory: &Path) {
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        end(&directory);
    });
}

/// Kills everything, removes the directory, and exits; the kernel then ends the pid namespace.
#[expect(clippy::exit, reason = "the one end of pid 1, from a thread")]
fn end(directory: &Path) {
    loop {
        let others = processes::pids()
            .into_iter()
            .filter(|pid| *pid != 1 && !processes::is_zombie(*pid));
        let mut is_alone = true;
        for pid in others.filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?))
        {
            is_alone = false;
            let _ = kill_process(pid, Signal::KILL);
        }
        if is_alone {
            break;
        }
        std::thread::yield_now();
    }
    let _ = std::fs::remove_dir_all(directory);
    std::process::exit(0);
}

fn start(command: &mut Command) -> Result<(Child, BufReader<ChildStdout>), Failure> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let stdout = child.stdout.take().ok_or("no pipe from the child")?;
    Ok((child, BufReader::new(stdout)))
}

fn expect_line(reader: &mut BufReader<ChildStdout>, expected: &str) -> Result<(), Failure> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.trim_end() == expected {
        Ok(())
    } else {
        Err(format!("expected `{expected}`, got `{line}`").into())
    }
}

fn start_holder(own: &Path, setup: &rcc_testkit::world::Setup) -> Result<u32, Failure> {
    let ids = [
        format!("--map-user={}", setup.user.uid),
        format!("--map-group={}", setup.user.gid),
    ];
    let (child, mut out) = start(
        Command::new("unshare")
            .arg("--user")
            .args(ids)
            .arg("--")
            .arg(own)
            .arg("hold"),
    )?;
    expect_line(&mut out, "ready")?;
    let pid = child.id();
    // The pipe must stay open as long as this process lives.
    std::mem::forget(child);
    Ok(pid)
}

fn make_mounts(directory: &Path, setup: &rcc_testkit::world::Setup) -> Result<(), Failure> {
    // Links such as /etc/resolv.conf -> /run/… are followed before /run is replaced.
    let files = ["resolv.conf", "hosts", "nsswitch.conf", "passwd", "group"];
    let targets: Vec<(PathBuf, PathBuf)> = files
        .iter()
        .map(|name| {
            let target = Path::new("/etc").join(name);
            let target = target
                .canonicalize()
                .or_else(|_| std::fs::read_link(&target).map(|link| Path::new("/etc").join(link)));
            (
                directory.join("etc").join(name),
                target.unwrap_or_else(|_| Path::new("/etc").join(name)),
            )
        })
        .collect();
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", flags | MountFlags::NOEXEC, c"")
        .map_err(|error| format!("cannot mount /proc: {error}"))?;
    if !setup.real_run {
        mount("tmpfs", "/run", "tmpfs", flags, c"mode=755")
            .map_err(|error| format!("cannot mount /run: {error}"))?;
        std::fs::create_dir_all("/run/lock")?;
        let runtime = PathBuf::from(format!("/run/user/{}", setup.user.uid));
        std::fs::create_dir_all(&runtime)?;
        std::fs::set_permissions(&runtime, std::fs::Permissions::from_mode(0o700))?;
        if setup.is_root {
            chown(&runtime, Some(setup.user.uid), Some(setup.user.gid))?;
        }
    }
    for (source, target) in targets.iter().chain(&setup.binds) {
        if target.starts_with("/run") && !target.exists() {
            std::fs::create_dir_all(target.parent().ok_or("no parent")?)?;
            std::fs::write(target, "")?;
        }
        mount_bind(source, target).map_err(|error| {
            format!(
                "cannot bind {} on {}: {error}",
                source.display(),
                target.display()
            )
        })?;
    }
    Ok(())
}
