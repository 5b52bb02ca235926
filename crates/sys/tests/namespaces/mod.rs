//! Namespaces for tests that need a real kernel.
//!
//! A test binary has several threads and so cannot enter a new user namespace itself. A test therefore runs its own
//! binary again below `unshare(1)`, asking for itself alone; inside, it has every capability over a new user and a
//! new network namespace, which plays the router's. The agent's namespace is made there by a thread.
//!
//! Must not: let a missing feature pass for success.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use rcc_testkit::require;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

const INSIDE: &str = "RCC_TEST_INSIDE_NAMESPACES";

/// Runs `scenario` in a new user and network namespace.
///
/// `name` is the path of the calling test function as libtest knows it.
pub(crate) fn in_new_namespaces(name: &str, scenario: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        scenario();
        return;
    }
    if !require("userns") {
        return;
    }
    let arguments = ["--user", "--map-root-user", "--net", "--"];
    let output = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    print!("{text}");
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success(),
        "{name} failed inside its namespaces"
    );
    assert!(
        text.contains("1 passed"),
        "{name} did not run inside its namespaces"
    );
}

/// A network namespace with a thread that lives in it.
pub(crate) struct Namespace {
    handle: OwnedFd,
    work: Option<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
}

impl Namespace {
    /// Makes a new network namespace, owned by the current user namespace.
    pub(crate) fn new() -> Self {
        Self::start(|| {
            // SAFETY: CLONE_NEWNET changes the calling thread alone, which shares no descriptor state with it.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
        })
    }

    /// Enters an existing network namespace.
    pub(crate) fn enter(namespace: OwnedFd) -> Self {
        Self::start(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        })
    }

    fn start(enter: impl FnOnce() + Send + 'static) -> Self {
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (send_handle, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            enter();
            send_handle.send(current_namespace()).unwrap();
            for job in jobs {
                job();
            }
        });
        Self {
            handle: handle.recv().unwrap(),
            work: Some(work),
            thread: Some(thread),
        }
    }

    /// Runs something inside and waits for its result.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (send_result, result) = mpsc::channel();
        self.work
            .as_ref()
            .unwrap()
            .send(Box::new(move || {
                let _ = send_result.send(job());
            }))
            .unwrap();
        result.recv().expect("the job in the namespace panicked")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The network namespace of the calling thread.
pub(crate) fn current_namespace() -> OwnedFd {
    File::open("/proc/thread-self/ns/net").unwrap().into()
}
