//! Decoys of the sockets that a real host has: each answers with its own name and counts who came.
//!
//! Must do nothing else: an agent that reaches one has already won.

use std::io::{Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::path::Path;
use std::sync::Arc;

use rcc_testkit::world::Setup;
use rcc_testkit::world::addresses::{HOST_ABSTRACT_SOCKETS, HOST_DATAGRAM_SOCKETS, HOST_SOCKETS};

use crate::Failure;
use crate::counters::Counters;

/// Makes all sockets; anybody on the host may connect to them.
pub(crate) fn serve(setup: &Setup, counters: &Arc<Counters>) -> Result<(), Failure> {
    let for_user = |path: &str| path.replace("UID", &setup.user.uid.to_string());
    for path in HOST_SOCKETS.iter().map(|path| for_user(path)) {
        make_parent(setup, &path)?;
        let listener = UnixListener::bind(&path)
            .map_err(|error| format!("cannot listen on {path}: {error}"))?;
        open_to_all(&path)?;
        answer(listener, path, counters);
    }
    for name in HOST_ABSTRACT_SOCKETS {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        answer(listener, format!("@{name}"), counters);
    }
    for path in HOST_DATAGRAM_SOCKETS.iter().map(|path| for_user(path)) {
        make_parent(setup, &path)?;
        let socket = UnixDatagram::bind(&path)?;
        open_to_all(&path)?;
        let counters = Arc::clone(counters);
        std::thread::spawn(move || {
            let mut datagram = vec![0; 65536];
            while let Ok(length) = socket.recv(&mut datagram) {
                let entry = counters.named(&format!("unix {path}"));
                entry.connection();
                entry.received(length);
            }
        });
    }
    Ok(())
}

fn answer(listener: UnixListener, name: String, counters: &Arc<Counters>) {
    let counters = Arc::clone(counters);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let entry = counters.named(&format!("unix {name}"));
            entry.connection();
            let hello = format!("hello from {name}\n");
            // Each visitor has a thread: one that stays must not keep the next one out.
            std::thread::spawn(move || {
                let _ = stream.write_all(hello.as_bytes());
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    entry.received(count);
                }
            });
        }
    });
}

fn make_parent(setup: &Setup, path: &str) -> Result<(), Failure> {
    let parent = Path::new(path).parent().ok_or("a socket has a directory")?;
    std::fs::create_dir_all(parent)?;
    let runtime = format!("/run/user/{}/", setup.user.uid);
    if setup.is_root && path.starts_with(&runtime) {
        std::os::unix::fs::chown(parent, Some(setup.user.uid), Some(setup.user.gid))?;
    }
    Ok(())
}

fn open_to_all(path: &str) -> Result<(), Failure> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(())
}
